"""What is done with a gateway to see what a mutant of `mutants_together` changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import trio
from world import Client, Hop, World, wire

from mailgate.network import TcpAddress
from mailgate.relay.settings import SeveralNextHops
from mailgate.store import StoreUnreachable
from mailgate.testing import Close, Delay, Script
from mailgate.testing.streams import reset
from sim.acts import Act, Case, two

NO = "550 5.7.1 no"
NEVER_MIND = "451 4.7.1 not by our policy"
BUSY = "451 4.3.0 busy"
U, V, W = "u@a.example", "v@b.example", "w@c.example"


class Store:
    """That is there, but slow; or is not there."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.there = True
        self.seconds = seconds
        self.marks: list[str] = []

    async def add(self, marks: Sequence[str], seconds: float) -> None:
        await self._wait()
        self.marks += marks

    async def take(self, marks: Sequence[str]) -> tuple[bool, ...]:
        await self._wait()
        found = [mark in self.marks for mark in marks]
        self.marks = [mark for mark in self.marks if mark not in marks]
        return tuple(found)

    async def _wait(self) -> None:
        await trio.sleep(self.seconds)
        if not self.there:
            raise StoreUnreachable("nobody is there")

    @property
    def entries(self) -> int:
        """Marks that are none of whom has to let others go first."""
        return sum(mark.startswith("ledger:") for mark in self.marks)


async def together(world: World, handover: TcpAddress | None = None) -> Client:
    """A client that may have several next hops in a transaction."""
    listener = dataclasses.replace(
        world.listeners["smtp"], several_next_hops=SeveralNextHops.TOGETHER, handover=handover
    )
    world.listeners["smtp"] = listener
    return await world.client()


def with_store(world: World, seconds: float = 0.0) -> Store:
    """A shared one, for a gateway that has none."""
    store = world.gateway._shared.recall._store = Store(seconds)
    return store


def got(*transactions: Sequence[str]) -> Act:
    """How many messages each host gets in transactions for these recipients, one after the other."""

    async def act(world: World) -> object:
        for recipients in transactions:
            await (await together(world)).transact(*recipients)
        return tuple(world.messages.values())

    return act


async def told(world: World) -> object:
    """The code behind the dot."""
    outcomes = (await (await together(world)).transact(U, V)).outcomes
    return outcomes[0][:3]


async def again_and_again(world: World) -> object:
    """Whether the second host gets the message more than once."""
    await (await together(world)).transact(U, V)
    return world.messages["b1"] > 1


async def too_long(world: World) -> object:
    """Whether the answer takes longer than there is patience for."""
    began = trio.current_time()
    await (await together(world)).transact(U, V)
    return trio.current_time() > began + 250


async def handed_over(world: World) -> object:
    """How many messages the third host gets, which is there for what the others do not take."""
    address = world.address("c1")
    assert isinstance(address, TcpAddress)
    await (await together(world, address)).transact(U, V)
    return world.messages["c1"]


async def entries_here(world: World) -> object:
    await (await together(world)).transact(U, V)
    return len(world.gateway._shared.recall._ledger)


async def entries_there(world: World) -> object:
    store = with_store(world)
    await (await together(world)).transact(U, V)
    return store.entries


async def entries_as_it_is_told(world: World) -> object:
    store = with_store(world, 0.5)
    await (await together(world)).transact(U, V)
    return store.entries


async def entries_of_who_has_left(world: World) -> object:
    client = await together(world)
    await client.envelope(U)
    await client.play("C: DATA\nS: 354 ...")
    await client.send(wire(b"hello\r\n"))
    await trio.sleep(0.5)
    await reset(client.stream)
    await trio.sleep(10)
    return len(world.gateway._shared.recall._ledger)


async def other_content(world: World) -> object:
    """How many messages the first host gets, when the second message has other content."""
    await (await together(world)).transact(U, V)
    await (await together(world)).transact(U, content=b"something else\r\n")
    return world.messages["a1"]


async def second_offer(world: World) -> object:
    """The codes of the answers to RCPT, after a failure."""
    await (await together(world)).transact(U, V)
    return tuple(one[:3] for one in (await (await together(world)).envelope(U, V)).rcpts)


async def without_the_store(world: World) -> object:
    """The code of the answer to the second RCPT since it was found out that the store is gone."""
    with_store(world).there = False
    codes = [(await (await together(world)).envelope(U)).rcpts[0][:3] for _ in range(2)]
    return codes[1]


def three(first: Script, second: Script, third: Script) -> tuple[Hop, ...]:
    return (*two(first, second), Hop("c", third))


REFUSED_FIRST = two(Script(dot=(Delay(1), NO)), Script())
REFUSED_THEN = two(Script(), Script(dot=NO))

CASES: Mapping[str, Case] = {
    "dots at once": Case(REFUSED_FIRST, got((U, V)), (1, 0), (1, 1)),
    "the first one does not wait": Case(two(Script(), Script(data=(Delay(5), NO))), got((U, V)), (0, 0), (1, 0)),
    "a refusal stops nobody": Case(REFUSED_FIRST, got((U, V)), (1, 0), (1, 1)),
    "refused for good is tried again": Case(two(Script(), Script(dot=NEVER_MIND)), again_and_again, False, True),
    "patience has no end": Case(two(Script(), Script(dot=BUSY)), too_long, False, True),
    "one is enough": Case(REFUSED_THEN, told, "451", "250"),
    "a refusal is everybody's": Case(REFUSED_THEN, told, "451", "550"),
    "unknown is handed over": Case(three(Script(), Script(dot=Close()), Script()), handed_over, 0, 1),
    "the ledger is not asked": Case(REFUSED_THEN, got((U, V), (U,)), (1, 1), (2, 1)),
    "entries stay": Case(REFUSED_THEN, got((U, V), (U,), (U,)), (2, 1), (1, 1)),
    "entries for what is unknown": Case(two(Script(), Script(dot=Close())), entries_here, 1, 2),
    "entries after the reply": Case(REFUSED_THEN, entries_as_it_is_told, 1, 0),
    "entries only once": Case(
        three(Script(), Script(dot=NO), Script(dot=NO)), got((U, V), (U, W), (U,)), (1, 1, 1), (2, 1, 1)
    ),
    "entries stay at home": Case(REFUSED_THEN, entries_there, 1, 0),
    "untold is forgotten": Case(two(Script(dot=Delay(1)), Script()), entries_of_who_has_left, 1, 0),
    "content does not count": Case(REFUSED_THEN, other_content, 2, 1),
    "nobody is put off": Case(REFUSED_FIRST, second_offer, ("452", "250"), ("250", "250")),
    "no mail without the ledger": Case(REFUSED_FIRST, without_the_store, "250", "451"),
}
