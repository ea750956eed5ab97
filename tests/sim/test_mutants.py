"""Mutants do what they say, and when they are gone everything is as it was."""

from __future__ import annotations

import dataclasses
import inspect
import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock
from world import (
    ANOTHER_HOP,
    DONE,
    FULL,
    NO_PATH,
    NO_ROUTE,
    NOT_FOUND,
    TAKEN,
    UNKNOWN,
    Client,
    Hop,
    Speaks,
    World,
    wire,
)

from mailgate.network import NoAnswer
from mailgate.relay.settings import Limits
from mailgate.testing import Close, Delay, During, Reset, Script, Silence
from mailgate.testing.streams import reset
from sim.mutants import MUTANTS, Mutant

NEVER = 1000
"""seconds after which something is not going to happen"""

Act = Callable[[World], Awaitable[object]]
"""does something with a gateway, and gives what is seen of it"""

AGREED = "250 2.0.0 Taken"
REFUSED = "550 5.4.0 Refused"
NOT_ALL = "451 4.3.0 Not all recipients have the message"
NO = "550 5.7.1 no"
BUSY = "451 4.3.0 busy"


# What is seen of a gateway


def outcomes(*recipients: str, speaks: Speaks = "smtp") -> Act:
    """What is told behind the dot."""

    async def act(world: World) -> object:
        client = await world.client(speaks)
        return (await client.transact(*recipients)).outcomes

    return act


def answers(*recipients: str) -> Act:
    """What is told at RCPT."""

    async def act(world: World) -> object:
        return (await (await world.client()).envelope(*recipients)).rcpts

    return act


async def no_path(world: World) -> object:
    world.network.refuse(world.address("a1"))
    return await answers("u@a.example")(world)


async def other_listener(world: World) -> object:
    world.listeners["smtp"] = dataclasses.replace(world.listeners["smtp"], routes=())
    return await answers("u@a.example")(world)


async def after_a_repair(world: World) -> object:
    await no_path(world)
    world.network.restore(world.address("a1"))
    await trio.sleep(60)
    return await answers("u@a.example")(world)


async def duplicate(world: World) -> object:
    """Everything that is said behind the dot within a minute, and to the command behind it."""
    client = await begun(world, "lmtp", "u@a.example", "u@a.example")
    await client.send(wire(b"hello\r\n") + b"NOOP\r\n")
    replies = []
    with trio.move_on_after(60):
        while True:
            replies.append(await client.reply())
    return tuple(replies)


async def paths_tried(world: World) -> object:
    """How many hosts got the message."""
    await (await world.client()).transact("u@a.example")
    return tuple(world.messages.values())


async def unknown(world: World) -> object:
    """How the outcome is counted."""
    await (await world.client()).transact("u@a.example")
    await trio.sleep(1)
    return dict(world.gateway.counts)


async def half(world: World) -> object:
    """How many messages the next hop has got while the client is in the middle of its one."""
    client = await begun(world, "smtp", "u@a.example")
    await client.send(b"half a line \r\n" * 100)
    await trio.sleep(1)
    return world.messages["a1"]


async def half_and_gone(world: World) -> object:
    client = await begun(world, "smtp", "u@a.example")
    await client.send(b"half a line \r\n" * 100)
    await client.stream.aclose()
    await trio.sleep(1)
    return world.messages["a1"]


async def begun(world: World, speaks: Speaks, *recipients: str) -> Client:
    """A client with its 354."""
    client = await world.client(speaks)
    await client.envelope(*recipients)
    await client.play("C: DATA\nS: 354 ...")
    return client


async def patience(world: World) -> object:
    """When a transaction is through, in seconds; None: it is not."""
    began = trio.current_time()
    with trio.move_on_after(NEVER):
        await (await world.client()).transact("u@a.example")
        return trio.current_time() - began
    return None


async def tasks(world: World) -> object:
    """Of the gateway, once it was told to stop and has had time."""
    client = await world.client()
    await client.transact("u@a.example")
    await client.quit()
    await world.gateway.drain()
    await trio.sleep(NEVER)
    return sum("Gateway" in task.name for task in world.nursery.child_tasks)


async def streams(world: World) -> object:
    """With next hops, a minute after a transaction."""
    await (await world.client()).transact("u@a.example")
    await trio.sleep(60)
    return world.network.open_streams


async def files(world: World) -> object:
    """More than there were, after a transaction with a big message."""
    before = len(os.listdir("/proc/self/fd"))
    client = await world.client()
    await client.transact("u@a.example", content=b"a line of it\r\n" * 100)
    await trio.sleep(1)
    return len(os.listdir("/proc/self/fd")) - before


async def others(world: World) -> object:
    """Whether a client has been sent away by the break of another one's connection."""
    client, other = await world.client(), await world.client()
    await reset(other.stream)
    await trio.sleep(1)
    return client.ended.is_set()


async def killed(world: World) -> object:
    """Sessions that ended in an exception."""
    client = await world.client("lmtp")
    with trio.move_on_after(60):
        await client.play("C: MAIL FROM:<s@in.example>\nC: RCPT TO:<u@a.example>\nC: NOOP")
        await client.ended.wait()
    return len(world.events("session_failed"))


async def beginning(world: World) -> object:
    """Whether the last host has got the message from its beginning on."""
    await (await world.client()).transact("u@a.example", content=b"it begins" + b"." * 140_000 + b"\r\n")
    got = [message.content for mta in world.mtas.values() for message in mta.messages]
    return b"it begins" in got[-1]


async def second_lookup(world: World) -> object:
    """What is told at RCPT before and after DNS has been mended."""
    mail = world.network.records.pop(("a.example", "MX"))
    world.network.records["a.example", "MX"] = NoAnswer.TEMPORARY
    first = await answers("u@a.example")(world)
    world.network.records["a.example", "MX"] = mail
    await trio.sleep(60)
    return first, await answers("u@a.example")(world)


async def down(world: World) -> object:
    """Paths that a transaction has marked."""
    with trio.move_on_after(NEVER):
        await (await world.client()).transact("u@a.example")
    return len(world.events("path_down"))


async def stranger(world: World) -> object:
    """What a client is told that its listener does not admit."""
    nobody = (ipaddress.ip_network("198.51.100.0/24"),)
    world.listeners["smtp"] = dataclasses.replace(world.listeners["smtp"], clients=nobody)
    return (await (await world.client(greeted=False)).reply())[:3]


async def one_by_one(world: World) -> object:
    """Messages that each host got, of one for each of two next hops."""
    client = await world.client()
    for recipient in ("u@a.example", "v@b.example"):
        await client.transact(recipient)
    return tuple(world.messages.values())


async def goodbye(world: World) -> object:
    """Seconds from a client's QUIT until nothing is left of it."""
    client = await world.client()
    began = trio.current_time()
    await client.quit()
    await client.ended.wait()
    return trio.current_time() - began


async def welcome(world: World) -> object:
    """The kinds of reply to a hundred clients' MAIL."""
    return sorted({(await (await world.client()).envelope()).mail[:3] for _ in range(100)})


async def quietly_down(world: World) -> object:
    """Paths that a transaction has marked, by the log and in truth."""
    said = await down(world)
    return said, sum(path.down_since is not None for path in world.gateway._shared.health.records().paths)


async def commits(world: World) -> object:
    await (await world.client()).transact("u@a.example")
    return len(world.events("committing"))


# The table


@dataclass(frozen=True, slots=True)
class Case:
    """What a mutant changes."""

    hops: tuple[Hop, ...]
    act: Act
    sound: object
    mutated: object
    limits: Limits = field(default_factory=Limits)


def one(script: Script, *more: Script) -> tuple[Hop, ...]:
    return (Hop("a", script, *more),)


def two(first: Script, second: Script) -> tuple[Hop, ...]:
    return (Hop("a", first), Hop("b", second))


OF_ONE = outcomes("u@a.example")
OF_BOTH = outcomes("u@a.example", "v@b.example", speaks="lmtp")

CASES: dict[str, Case] = {
    "told at commit": Case(one(Script(dot=NO)), OF_ONE, (NO,), (AGREED,)),
    "deferred is delivered": Case(one(Script(dot=BUSY)), OF_ONE, (BUSY,), (AGREED,)),
    "unknown is delivered": Case(one(Script(dot=Close())), OF_ONE, (UNKNOWN,), (AGREED,)),
    "first outcome for all": Case(two(Script(), Script(dot=(Delay(1), NO))), OF_BOTH, (DONE, NO), (DONE, DONE)),
    "LMTP has one reply": Case(
        (Hop("a", Script(outcomes={"v@a.example": NO}), speaks="lmtp"),),
        outcomes("u@a.example", "v@a.example", speaks="lmtp"),
        (DONE, NO),
        (DONE, DONE),
    ),
    "PRDR without its end": Case(
        one(Script(extensions=("PRDR", "PIPELINING"), prdr_end=BUSY)),
        outcomes("u@a.example", speaks="lmtp"),
        (BUSY,),
        (DONE,),
    ),
    "unknown is refused": Case(one(Script(dot=Close())), OF_ONE, (UNKNOWN,), (REFUSED,)),
    "no path is final": Case(one(Script()), no_path, (NO_PATH,), (REFUSED,)),
    "4xx at RCPT becomes 5xx": Case(
        one(Script(rcpt="450 4.2.0 later")), answers("u@a.example"), ("450 4.2.0 later",), ("550 5.2.0 later",)
    ),
    "4xx at the dot becomes 5xx": Case(one(Script(dot=BUSY)), OF_ONE, (BUSY,), ("551 5.3.0 busy",)),
    "refusals change places": Case(
        one(Script(recipients={"v@a.example": NO})), answers("u@a.example", "v@a.example"), (TAKEN, NO), (NO, TAKEN)
    ),
    "outcomes overtake": Case(two(Script(dot=Delay(1)), Script(dot=NO)), OF_BOTH, (DONE, NO), (NO, DONE)),
    "outcomes by next hop": Case(
        two(Script(dot=NO), Script()),
        outcomes("u@a.example", "v@b.example", "w@a.example", speaks="lmtp"),
        (NO, DONE, NO),
        (NO, NO, DONE),
    ),
    "duplicates are merged": Case(one(Script()), duplicate, (DONE, DONE, "250 2.0.0 Fine"), (DONE, "250 2.0.0 Fine")),
    "outcomes by address": Case(one(Script()), duplicate, (DONE, DONE, "250 2.0.0 Fine"), ()),
    "what is there is all": Case(one(Script()), half, 0, 1),
    "the client's end is a dot": Case(one(Script()), half_and_gone, 0, 1),
    "the rest is replayed": Case(one(Script(body=(During(100_000, Close()),)), Script()), beginning, True, False),
    "unknown is tried elsewhere": Case(one(Script(dot=Close()), Script()), paths_tried, (1, 0), (1, 1)),
    "deferred is tried elsewhere": Case(one(Script(dot=BUSY), Script()), paths_tried, (1, 0), (1, 1)),
    "unknown is logged as deferred": Case(one(Script(dot=Close())), unknown, {"unknown": 1}, {"deferred": 1}),
    "all or nothing": Case(two(Script(), Script(dot=NO)), OF_BOTH, (DONE, NO), (NOT_ALL, NOT_ALL)),
    "several next hops at once": Case(
        two(Script(), Script()), answers("u@a.example", "v@b.example"), (TAKEN, ANOTHER_HOP), (TAKEN, TAKEN)
    ),
    "several mailboxes at once": Case(
        (Hop("a", speaks="lmtp"),), answers("u@a.example", "v@a.example"), (TAKEN, FULL), (TAKEN, TAKEN)
    ),
    "RCPT waits for ever": Case(one(Script(rcpt=Silence())), patience, 60, None),
    "DATA waits for ever": Case(one(Script(data=Silence())), patience, 60, None),
    "the dot waits for ever": Case(one(Script(dot=Silence())), patience, 540, None),
    "a task is left": Case(one(Script()), tasks, 0, 1),
    "a stream is left": Case(one(Script(rcpt=Reset())), streams, 0, 1),
    "kept for ever": Case(one(Script()), streams, 0, 1),
    "a file is left": Case(one(Script()), files, 0, 1, Limits(body_memory=100)),
    "any route for anybody": Case(one(Script()), other_listener, (NO_ROUTE,), (TAKEN,)),
    "one for all": Case(one(Script()), others, False, True),
    "a bug is everybody's": Case(one(Script(rcpt=Close())), killed, 0, 1),
    "refusals count as outages": Case(one(Script(mail="550 5.1.0 no")), down, 0, 1),
    "lost sessions count as outages": Case(one(Script(rcpt=Close())), down, 0, 1),
    "down for long": Case(one(Script()), after_a_repair, (TAKEN,), (NO_PATH,)),
    "a failure is an answer": Case(
        (Hop("a", Script(), mx=(10,)),),
        second_lookup,
        ((NOT_FOUND,), (TAKEN,)),
        ((NOT_FOUND,), (NOT_FOUND,)),
    ),
    "everybody is admitted": Case(one(Script()), stranger, "554", "220"),
    "a kept session is anybody's": Case(two(Script(), Script()), one_by_one, (1, 1), (2, 0)),
    "only the first path": Case(one(Script(), Script()), no_path, (TAKEN,), (NO_PATH,)),
    "the dot's reply is not waited for": Case(one(Script(dot=Delay(300))), OF_ONE, (DONE,), (UNKNOWN,)),
    "clients' sessions linger": Case(one(Script()), goodbye, 0, 50),
    "sent away for nothing": Case(one(Script()), welcome, ["250"], ["250", "421"]),
    "outages are kept quiet": Case(one(Script(mail="550 5.1.0 no")), quietly_down, (0, 0), (0, 1)),
    "crashes leave no trace": Case(one(Script()), commits, 1, 0),
}


async def seen(case: Case) -> object:
    """What is seen of a gateway of its own, which is then ended as it stands."""
    async with trio.open_nursery() as nursery, World(nursery, *case.hops, limits=case.limits) as world:
        what = await case.act(world)
        nursery.cancel_scope.cancel()
    return what


ALL = pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])


def test_every_mutant_is_a_case_and_has_a_name_of_its_own() -> None:
    assert list(CASES) == [mutant.name for mutant in MUTANTS]


@ALL
async def test_a_mutant_does_what_it_says(mutant: Mutant, autojump_clock: MockClock) -> None:
    case = CASES[mutant.name]
    assert await seen(case) == case.sound
    with mutant.plant():
        assert await seen(case) == case.mutated
    assert await seen(case) == case.sound


@ALL
def test_a_mutant_leaves_nothing_behind(mutant: Mutant) -> None:
    before = attributes()
    with mutant.plant():
        assert differences(before, attributes()) != []
    assert differences(before, attributes()) == []


def attributes() -> dict[str, object]:
    """Of all modules of mailgate, and of the classes in them."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] == "mailgate"]
    found: dict[str, object] = {}
    for module in modules:
        for name, value in vars(module).items():
            found[f"{module.__name__}.{name}"] = value
            if inspect.isclass(value):
                found |= {f"{module.__name__}.{name}.{key}": inner for key, inner in vars(value).items()}
    return found


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) is not after.get(name)]
