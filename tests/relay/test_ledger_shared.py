"""The ledger that gateways share: where an entry is, and what becomes of the mail when the store is slow or gone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import trio
from store import MemoryStore, Mood
from structlog.typing import EventDict
from trio.testing import MockClock
from world import DELIVERED_ALREADY, DONE, NOT_ALL, Hop, World

from mailgate.relay.ledger import LEDGER_LIFE
from mailgate.relay.settings import SeveralNextHops
from mailgate.testing import Delay, Script, Turns, reset

FULL = "452 4.2.2 mailbox full"
SENDER = "s@in.example"
BOTH = "u@a.example", "u@b.example"


def world_of(nursery: trio.Nursery, store: MemoryStore, b: Script | None = None) -> World:
    """Two gateways that share a store, and next hops of which `b` has a full mailbox the first time."""
    hops = Hop("a"), Hop("b", b or Script(dot=Turns(FULL, DONE)))
    return World(nursery, *hops, several_next_hops=SeveralNextHops.TOGETHER, store=store, gateways=2)


async def send(world: World, *recipients: str, gateway: int = 0) -> str:
    """One transaction on a connection of its own: what is said behind the dot."""
    client = await world.client(gateway=gateway)
    told = await client.transact(*recipients, sender=SENDER)
    await client.quit()
    return told.outcomes[0]


def shown(event: EventDict) -> str:
    to = " ".join(str(one) for one in event.get("to", ()))
    return f"{event['log_level']} {event['event']}{f' {to}' if to else ''}"


def about_the_store(world: World) -> list[str]:
    return [shown(event) for event in world.events("possible_duplicate", "store_unreachable", "store_back")]


# A store that answers


async def test_it_knows_before_the_client_does(autojump_clock: MockClock) -> None:
    """The answer to RCPT, the dot and the 451 each wait for it, here half a second."""
    store = MemoryStore(delay=0.5)
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        assert await send(world, *BOTH) == NOT_ALL
        assert store.asked("add", "ledger") == [1.5]  # behind two RCPTs and the dot
        assert [store.seconds_left(mark) for mark in store.marks("ledger")] == [LEDGER_LIFE - 0.5]
        assert trio.current_time() == 2.5
        assert about_the_store(world) == []


async def test_each_gateway_finds_it_once(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        assert await send(world, *BOTH) == NOT_ALL
        assert await send(world, "u@a.example", gateway=1) == DELIVERED_ALREADY
        assert store.marks("ledger") == []
        assert await send(world, "u@a.example") == DONE
        status = [gateway.status().ledger for gateway in world.gateways]
        assert [(one.shared, one.entries, one.recorded, one.met) for one in status] == [
            ("reachable", 0, 1, 0),
            ("reachable", 0, 0, 1),
        ]


async def test_it_is_put_back_where_it_was(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        await send(world, *BOTH)
        client = await world.client(gateway=1)
        assert (await client.transact("u@a.example", sender=SENDER)).outcomes == (DELIVERED_ALREADY,)
        assert store.marks("ledger") == []
        await reset(client.stream)
        await client.ended.wait()
        assert len(store.marks("ledger")) == 1
        assert await send(world, "u@a.example") == DELIVERED_ALREADY


async def test_who_is_asked_about_what(autojump_clock: MockClock) -> None:
    """At RCPT about one recipient, at the dot about all in one call. Where each has its own reply RCPT is not."""
    store = MemoryStore()
    async with trio.open_nursery() as nursery, world_of(nursery, store, Script()) as world:
        await send(world, *BOTH)
        assert [(call.verb, call.kinds) for call in store.calls] == [
            ("take", ("put-off",)),
            ("take", ("put-off",)),
            ("take", ("ledger",)),
        ]
        store.calls.clear()
        client = await world.client("lmtp")
        await client.transact(*BOTH)
        assert [(call.verb, call.kinds) for call in store.calls] == [("take", ("ledger",))]


async def test_slow_is_not_gone(autojump_clock: MockClock) -> None:
    store = MemoryStore(delay=0.99)
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        assert await send(world, *BOTH) == NOT_ALL
        assert await send(world, "u@a.example", gateway=1) == DELIVERED_ALREADY
        assert about_the_store(world) == []


# A store that fails

# What it does from some time on, behind which the outcomes come: is there an entry in it, and in the gateway?
FAILURES: dict[str, tuple[Mood, int, int]] = {
    "certainly not told": (Mood.FAILS, 0, 1),
    "perhaps told, it was not": (Mood.LOST, 0, 0),
    "perhaps told, it was": (Mood.LOST_DONE, 1, 0),
    "silent, it was not told": (Mood.HANGS, 0, 0),
    "silent, it was told": (Mood.HANGS_DONE, 1, 0),
}


@pytest.mark.parametrize(("mood", "there", "here"), FAILURES.values(), ids=FAILURES.keys())
async def test_an_entry_has_one_home_at_most(mood: Mood, there: int, here: int, autojump_clock: MockClock) -> None:
    """In two it could be taken twice, and swallow a message. Where it may have none, an operator is told."""
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        world = world_of(nursery, store, Script(dot=Turns((Delay(2), FULL), DONE)))
        async with world:

            async def goes_bad() -> None:
                await trio.sleep(1)
                store.mood = mood

            nursery.start_soon(goes_bad)
            assert await send(world, *BOTH) == NOT_ALL
            assert trio.current_time() == (3 if mood in (Mood.HANGS, Mood.HANGS_DONE) else 2)
            assert (len(store.marks("ledger")), world.gateway.status().ledger.entries) == (there, here)
            assert about_the_store(world) == [
                "warning store_unreachable",
                "warning possible_duplicate u@a.example",
            ]
            assert world.gateway.status().ledger.possible_duplicate == 1
            store.mood = Mood.ANSWERS
            await trio.sleep(5)
            assert await send(world, *BOTH) == (DELIVERED_ALREADY if there or here else DONE)
            assert world.messages["a1"] == (1 if there or here else 2)


@dataclass(frozen=True, slots=True)
class Away:
    """A store that is gone from the start."""

    mood: Mood
    seconds: float
    """that the first transaction takes"""


AWAY = {"refuses": Away(Mood.FAILS, 0), "is lost": Away(Mood.LOST, 0), "hangs": Away(Mood.HANGS, 1)}


@pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
async def test_mail_goes_on_by_our_own_memory(away: Away, autojump_clock: MockClock) -> None:
    """After the first failure it is not asked: one message in five seconds waits for it, and a second at most."""
    store = MemoryStore(away.mood)
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        assert await send(world, *BOTH) == NOT_ALL
        assert trio.current_time() == away.seconds
        assert len(store.calls) == 1
        assert await send(world, "u@a.example") == DELIVERED_ALREADY
        assert world.messages == {"a1": 1, "b1": 1}
        status = world.gateway.status().ledger
        assert (status.shared, status.possible_duplicate, status.met) == ("unreachable", 1, 1)
        assert about_the_store(world) == ["warning store_unreachable", "warning possible_duplicate u@a.example"]


@pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
async def test_it_is_left_alone_for_five_seconds(away: Away, autojump_clock: MockClock) -> None:
    """Said once, and once when it is back."""
    store = MemoryStore(away.mood)
    async with trio.open_nursery() as nursery, world_of(nursery, store, Script()) as world:
        for _ in range(24):
            assert await send(world, *BOTH) == DONE
            await trio.sleep(0.5)
        times = [call.time for call in store.calls]
        assert len(times) in (2, 3)
        for earlier, later in itertools.pairwise(times):
            assert 5 + away.seconds <= later - earlier <= 5 + away.seconds + 0.5
        store.mood = Mood.ANSWERS
        await trio.sleep(5)
        await send(world, *BOTH)
        await send(world, *BOTH)
        assert about_the_store(world) == ["warning store_unreachable", "info store_back"]
        assert world.gateway.status().ledger.shared == "reachable"


async def test_recipients_of_whom_it_could_not_be_asked_are_counted(autojump_clock: MockClock) -> None:
    store = MemoryStore(Mood.FAILS)
    async with trio.open_nursery() as nursery, world_of(nursery, store, Script()) as world:
        await send(world, *BOTH)
        await send(world, "u@a.example")
        status = world.gateway.status().ledger
        assert (status.unasked, status.possible_duplicate) == (3, 0)


async def test_the_other_gateway_makes_a_second_copy(autojump_clock: MockClock) -> None:
    """That is what `possible_duplicate` says: not that there is one, but that there may be."""
    store = MemoryStore(Mood.FAILS)
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        await send(world, *BOTH)
        assert await send(world, *BOTH, gateway=1) == DONE
        assert world.messages == {"a1": 2, "b1": 2}


async def test_what_was_taken_and_not_answered_is_lost(autojump_clock: MockClock) -> None:
    """A second copy, and no message swallowed."""
    store = MemoryStore()
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        await send(world, *BOTH)
        store.mood = Mood.LOST_DONE
        client = await world.client("lmtp")  # nothing is asked at RCPT
        assert (await client.transact("u@a.example", sender=SENDER)).outcomes == (DONE,)
        assert (store.marks("ledger"), world.messages["a1"]) == ([], 2)


async def test_a_store_without_a_ledger_has_put_off_marks_only(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    hops = Hop("a"), Hop("b", Script(dot=FULL))
    async with (
        trio.open_nursery() as nursery,
        World(nursery, *hops, several_next_hops=SeveralNextHops.TOGETHER, store=store, ledger=False) as world,
    ):
        assert await send(world, *BOTH) == NOT_ALL
        assert {kind for call in store.calls for kind in call.kinds} == {"put-off"}
        assert await send(world, "u@a.example") == DONE


async def test_put_off_marks_are_asked_for_only_where_they_matter(autojump_clock: MockClock) -> None:
    """A recipient that we do not relay for is refused without asking anybody."""
    store = MemoryStore(Mood.HANGS)
    async with trio.open_nursery() as nursery, world_of(nursery, store) as world:
        client = await world.client()
        await client.envelope("u@elsewhere.example")
        assert (store.calls, trio.current_time()) == ([], 0)
