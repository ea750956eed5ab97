"""Callbacks come in order, at their times."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sim.timeline import Timeline, Waiter


async def test_in_order_of_time_then_of_the_calls(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    timeline = Timeline()
    seen: list[tuple[float, str]] = []

    def note(what: str) -> None:
        seen.append((trio.current_time(), what))

    timeline.at(2, note, "last")
    await nursery.start(timeline.run)
    timeline.at(1, note, "first")
    timeline.at(1, note, "second")
    timeline.at(1, timeline.at, 1, note, "third, asked for meanwhile")
    await trio.sleep(3)
    timeline.at(0, note, "at once: its time is over")
    await wait_all_tasks_blocked()
    assert seen == [
        (1, "first"),
        (1, "second"),
        (1, "third, asked for meanwhile"),
        (2, "last"),
        (3, "at once: its time is over"),
    ]


async def test_an_earlier_event_is_not_held_up_by_a_later_one(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    timeline = Timeline()
    await nursery.start(timeline.run)
    timeline.at(1000, trio.Event().set)
    await trio.sleep(1)
    early = trio.Event()
    timeline.at(5, early.set)
    await early.wait()
    assert trio.current_time() == 5


async def test_until(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    timeline = Timeline()
    await nursery.start(timeline.run)
    with trio.move_on_after(1) as scope:
        await timeline.until(5)
    assert scope.cancelled_caught
    await timeline.until(7)
    assert trio.current_time() == 7


async def test_an_error_ends_it(autojump_clock: MockClock) -> None:
    timeline = Timeline()
    timeline.at(1, {}.pop, "nothing")
    with pytest.raises(KeyError):
        await timeline.run()


async def test_waiter(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    waiter = Waiter()
    states = []
    waiter.wake()  # nobody waits, and it is not kept for later
    with trio.move_on_after(1):
        await waiter.wait()
    states.append(waiter.waits)
    nursery.start_soon(waiter.wait)
    await wait_all_tasks_blocked()
    states.append(waiter.waits)
    waiter.wake()
    waiter.wake()  # once is enough
    states.append(waiter.waits)
    assert states == [False, True, False]
