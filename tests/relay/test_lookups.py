"""DNS answers: how long they are kept, and who asks."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mailgate.network import Answer, NoAnswer
from mailgate.relay import lookups
from mailgate.relay.lookups import Lookups
from mailgate.testing import MemoryNetwork

KEY = ("mx.example", "A")
ONE = Answer(("192.0.2.1",), 60)

# What DNS says, how many seconds later it is asked again, and how many queries that makes.
KEPT: dict[str, tuple[Answer | NoAnswer, float, int]] = {
    "at once": (ONE, 0, 1),
    "just before its time to live is over": (ONE, 59.9, 1),
    "when it is over": (ONE, 60, 2),
    "no time to live": (Answer(("192.0.2.1",), 0), 0, 2),
    "not for longer than an hour": (Answer(("192.0.2.1",), 86_400), 3600, 2),
    "for an hour": (Answer(("192.0.2.1",), 86_400), 3599.9, 1),
    "no such domain": (NoAnswer.NO_SUCH_DOMAIN, 0, 2),
    "no data": (NoAnswer.NO_DATA, 0, 2),
    "temporary": (NoAnswer.TEMPORARY, 0, 2),
}


@pytest.mark.parametrize(("answer", "later", "queries"), KEPT.values(), ids=KEPT)
async def test_kept(answer: Answer | NoAnswer, later: float, queries: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.records[KEY] = answer
        asked = Lookups(network)
        assert await asked.query(*KEY) == answer
        await trio.sleep(later)
        assert await asked.query("MX.Example.", "A") == answer
        assert len(network.queries) == queries


async def test_types_and_names_are_told_apart(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.records[KEY] = ONE
        network.records["mx.example", "AAAA"] = six = Answer(("2001:db8::1",), 60)
        asked = Lookups(network)
        assert [await asked.query("mx.example", "A"), await asked.query("mx.example", "AAAA")] == [ONE, six]
        assert await asked.query("mx2.example", "A") is NoAnswer.NO_SUCH_DOMAIN


@pytest.mark.parametrize("answer", [ONE, NoAnswer.TEMPORARY], ids=str)
async def test_one_query_at_a_time(answer: Answer | NoAnswer, autojump_clock: MockClock) -> None:
    """Also a result that is not kept is shared by all who waited for it."""
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.records[KEY] = answer
        network.query_delays[KEY] = 5
        asked = Lookups(network)

        async def ask() -> None:
            results.append(await asked.query(*KEY))

        async with trio.open_nursery() as asking:
            for _ in range(20):
                asking.start_soon(ask)
        assert (results, len(network.queries), trio.current_time()) == ([answer] * 20, 1, 5)


async def test_an_asker_that_is_cancelled_is_replaced(autojump_clock: MockClock) -> None:
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.records[KEY] = ONE
        network.query_delays[KEY] = 5
        asked = Lookups(network)

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                results.append(await asked.query(*KEY))

        async with trio.open_nursery() as asking:
            first = trio.CancelScope()
            asking.start_soon(ask, first)
            await wait_all_tasks_blocked()
            for _ in range(3):
                asking.start_soon(ask, trio.CancelScope())
            await trio.sleep(2)
            first.cancel()
        assert (results, len(network.queries), trio.current_time()) == ([ONE] * 3, 2, 7)


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    """The answer unused for longest goes."""
    monkeypatch.setattr(lookups, "ENTRIES", 2)
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        asked = Lookups(network)
        for name in ("a.example", "b.example", "a.example", "c.example", "a.example", "b.example"):
            network.records[name, "A"] = ONE
            await asked.query(name, "A")
        assert [query.name for query in network.queries] == ["a.example", "b.example", "c.example", "b.example"]


async def test_queries_at_a_time_are_bounded(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    monkeypatch.setattr(lookups, "QUERIES", 2)
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        asked = Lookups(network)
        async with trio.open_nursery() as asking:
            for number in range(5):
                network.query_delays[f"{number}.example", "A"] = 0.2
                asking.start_soon(asked.query, f"{number}.example", "A")
        assert [query.time for query in network.queries] == pytest.approx([0, 0, 0.2, 0.2, 0.4])


async def test_a_burst_is_spread(autojump_clock: MockClock) -> None:
    """Servers that do not answer keep others waiting for a moment only."""
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        asked = Lookups(network)
        for number in range(1000):
            network.query_delays[f"dead{number}.example", "A"] = 10
            nursery.start_soon(asked.query, f"dead{number}.example", "A")
        await wait_all_tasks_blocked()
        assert len(network.queries) == lookups.QUERIES
        network.records[KEY] = ONE
        assert await asked.query(*KEY) == ONE
        assert trio.current_time() == pytest.approx(1000 / lookups.QUERIES * lookups.BURST)
        assert asked._limit.borrowed_tokens == 0


@pytest.mark.parametrize("after", [0, 0.1, 0.3])
async def test_who_is_cancelled_gives_its_place_back(after: float, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        asked = Lookups(network)
        with trio.move_on_after(after):
            async with trio.open_nursery() as asking:
                for number in range(150):
                    network.query_delays[f"dead{number}.example", "A"] = 10
                    asking.start_soon(asked.query, f"dead{number}.example", "A")
        assert asked._limit.borrowed_tokens == 0
