"""The simulated shared ledger: marks are made and taken, and what breaks is seen by who asks and by who checks."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from mailgate.store import StoreLost, StoreUnreachable
from sim.entries import Entries, in_time
from sim.internet import Internet
from sim.records import History, Kind, Session
from sim.store import EVERYBODY, SimStore, Table
from sim.tap import DialogTap

LATENCY = 0.001


class Bench:
    """Two gateways and a server."""

    def __init__(self, mute: float = 0.0) -> None:
        self.history = History(1, ("gw1", "gw2"))
        self.internet = Internet(self.history, random.Random(1), lambda session: DialogTap(session, _nothing))
        self.internet.link("core", latency=LATENCY)
        hosts = [self.internet.host(name, {f"10.0.0.{at}": "core"}) for at, name in enumerate(("gw1", "gw2", "ledger"))]
        self.table = Table(hosts[2], self.history, self.internet.timeline, random.Random(2), mute=mute)
        self.gw1, self.gw2 = (SimStore(self.table, hosts[at], f"10.0.0.{at}") for at in (0, 1))

    async def run(self, tell: Callable[[Bench], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.internet.run)
            await tell(self)
            nursery.cancel_scope.cancel()


def _nothing(_: Session) -> None:
    """No fault."""


async def marks_are_taken_by_one(bench: Bench) -> None:
    await bench.gw1.add(["a", "b"], 100)
    began = trio.current_time()
    assert await bench.gw2.take(["b", "c", "b"]) == (True, False, False)
    assert trio.current_time() == pytest.approx(began + 2 * LATENCY)
    assert await bench.gw1.take(["a", "b"]) == (True, False)
    assert all(map(in_time, bench.history.askings))


async def marks_end_by_themselves(bench: Bench) -> None:
    await bench.gw1.add(["a", "b"], 10)
    await trio.sleep(5)
    await bench.gw1.add(["b"], 10)
    await trio.sleep(7)
    assert await bench.gw2.take(["a", "b"]) == (False, True)


async def one_gateway_is_cut_off(bench: Bench) -> None:
    bench.table.break_it(Kind.STORE_CUT, "gw1", trio.current_time() + 10)
    with trio.move_on_after(1) as given_up:
        await bench.gw1.add(["a"], 100)
    assert given_up.cancelled_caught
    assert await bench.gw2.take(["a"]) == (False,)
    await trio.sleep(10)
    await bench.gw1.add(["a"], 100)


async def the_answer_is_lost(bench: Bench) -> None:
    """What was asked for is done."""
    silent = 0
    for mark in ("a", "b", "c", "d", "a"):
        with trio.move_on_after(1) as given_up, suppress(StoreLost):
            await bench.gw1.add([mark], 100)
        silent += given_up.cancelled_caught
    assert 0 < silent < 5
    bench.table.stop_losing_answers()
    assert await bench.gw2.take(["a"]) == (True,)
    assert [in_time(one) for one in bench.history.askings] == [*[False] * 5, True]
    assert [fault.kind for fault in bench.history.faults] == [Kind.STORE_MUTE] * 5


async def it_is_down(bench: Bench) -> None:
    await bench.gw1.add(["a"], 100)
    bench.table.break_it(Kind.STORE_DOWN, EVERYBODY, trio.current_time() + 10)
    with pytest.raises(StoreUnreachable):
        await bench.gw2.take(["a"])
    await trio.sleep(10)
    assert await bench.gw2.take(["a"]) == (True,)


async def it_loses_what_it_knew(bench: Bench) -> None:
    await bench.gw1.add(["a"], 100)
    bench.table.break_it(Kind.STORE_LOST, EVERYBODY, trio.current_time())
    assert await bench.gw2.take(["a"]) == (False,)
    assert bench.history.forgotten != []


async def it_is_slow(bench: Bench) -> None:
    bench.table.break_it(Kind.STORE_SLOW, EVERYBODY, trio.current_time() + 10)
    began = trio.current_time()
    await bench.gw1.add(["a"], 100)
    assert trio.current_time() > began + 0.1


async def a_gateway_that_has_crashed_asks_nothing(bench: Bench) -> None:
    bench.internet.hosts["gw1"].crash(trio.current_time() + 10)
    with trio.move_on_after(1):
        await bench.gw1.add(["a"], 100)
    assert bench.history.askings == []


@pytest.mark.parametrize(
    ("tell", "mute"),
    [
        (marks_are_taken_by_one, 0.0),
        (marks_end_by_themselves, 0.0),
        (one_gateway_is_cut_off, 0.0),
        (the_answer_is_lost, 1.0),
        (it_is_down, 0.0),
        (it_loses_what_it_knew, 0.0),
        (it_is_slow, 0.0),
        (a_gateway_that_has_crashed_asks_nothing, 0.0),
    ],
    ids=lambda about: getattr(about, "__name__", ""),
)
async def test_store(tell: Callable[[Bench], Awaitable[None]], mute: float, autojump_clock: MockClock) -> None:
    await Bench(mute).run(tell)


async def test_what_is_known_of_it_afterwards(autojump_clock: MockClock) -> None:
    """An entry is made at 1, lost at 5, made anew at 6, and taken at 9; at 20 nobody answers."""
    bench = Bench()

    async def tell(_: Bench) -> None:
        for time, act in (
            (1, lambda: bench.gw1.add(["a"], 100)),
            (6, lambda: bench.gw2.add(["a"], 100)),
            (9, lambda: bench.gw1.take(["a"])),
        ):
            await trio.sleep_until(time)
            await act()
            if time == 1:
                await trio.sleep_until(5)
                bench.table.break_it(Kind.STORE_LOST, EVERYBODY, 5)
        await trio.sleep_until(20)
        bench.table.break_it(Kind.STORE_CUT, EVERYBODY, 30)
        with trio.move_on_after(1):
            await bench.gw1.take(["a"])

    await bench.run(tell)
    entries = Entries(bench.history)
    spans = [(2, 4), (2, 5.5), (4, 7), (7, 8), (7, 10), (10, 11)]
    assert [entries.was_there("a", *span) for span in spans] == [True, False, False, True, False, False]
    assert entries.made("gw2", 0, "a", 5, 7)
    assert not entries.made("gw1", 0, "a", 5, 7)
    assert entries.took("gw1", 0, "a", 8, 10)
    assert not entries.took("gw1", 0, "a", 19, 22)
    assert [entries.could_ask("gw1", 0, time) for time in (18, 20, 25.9, 27)] == [True, False, False, True]
    assert entries.could_ask("gw2", 0, 20)
    assert entries.lost(4, 6)
    assert not entries.lost(6, 7)
