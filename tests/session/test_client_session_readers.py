"""A session with a next hop whose reader stops, and starts again elsewhere: nothing is lost in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from steps import PATIENCE, SILENCE, STAGES, WHOLE, talk
from trio.testing import MockClock

from mailgate.protocol.reply import Reply, reply
from mailgate.session.client import Lost
from mailgate.session.wire import End
from mailgate.testing import Side, play, seeded


class Steps(trio.abc.Instrument):
    """Strikes behind a number of steps of any task."""

    def __init__(self, limit: int) -> None:
        self.strike: Callable[[], object] = lambda: None
        self.struck = False
        self._left = limit

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self.struck = True
            self.strike()


async def reader_stops_behind(limit: int, gap: float, capacity: int) -> bool:
    """Whether the dialog had not ended before that step; it goes well in any case."""
    steps = Steps(limit)
    it = talk(capacity)

    async def listen_twice() -> None:
        with trio.CancelScope() as scope:
            steps.strike = scope.cancel
            await it.session.listen()
        await trio.sleep(gap)
        await it.session.listen()

    async def converse() -> None:
        replies = [await stage.step(it.session) for stage in STAGES.values()]
        assert [answer.code for answer in replies if isinstance(answer, Reply)] == [220, 250, 250, 250, 354, 250]
        assert it.session.reusable

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen_twice)
        nursery.start_soon(lambda: play(it.peer, WHOLE, side=Side.SERVER))
        trio.lowlevel.add_instrument(steps)
        await converse()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(steps)
    return steps.struck


@pytest.mark.parametrize("capacity", [8, 64])
@pytest.mark.parametrize("gap", [0, 1], ids=["at once", "after a second"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_reader_stops_and_starts_behind_every_step(seed: int, gap: float, capacity: int) -> None:
    struck = True
    limit = 0
    while struck:
        limit += 1
        seeded(seed)
        struck = trio.run(reader_stops_behind, limit, gap, capacity, clock=MockClock(autojump_threshold=0))
    assert limit > 40


# The first reader stops after 4 seconds: when the next one starts, and when the wait ends
READERS = {"starts in time": (6, SILENCE), "starts too late": (20, 20)}


@pytest.mark.parametrize(("starts", "ends"), READERS.values(), ids=READERS.keys())
async def test_a_deadline_outlives_a_reader(starts: float, ends: float, autojump_clock: MockClock) -> None:
    it = talk()

    async def listen_twice() -> None:
        with trio.move_on_after(4):
            await it.session.listen()
        await trio.sleep_until(starts)
        await it.session.listen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen_twice)
        with trio.fail_after(100):
            assert await it.session.greeting(PATIENCE) == Lost(End.SILENCE.value)
        assert trio.current_time() == ends


async def test_a_reader_leaves_no_deadline_to_the_next_one(autojump_clock: MockClock) -> None:
    it = talk()
    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.session.listen)
            await it.session.greeting(PATIENCE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        await trio.sleep(50)
        await it.peer.send_all(b"220 hi\r\n")
        assert await it.session.greeting(PATIENCE) == reply(220, "", "hi")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("script", "why"),
    [("S.", End.EOF), ("S~", End.LOST), ("S+ 15\nS: 220 hi", End.SILENCE)],
    ids=["closed", "reset", "answers too late"],
)
async def test_behind_the_end_nothing_is_read(script: str, why: End, autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        nursery.start_soon(it.session.listen)
        assert await it.session.greeting(PATIENCE) == Lost(why.value)
    with trio.fail_after(0):
        await it.session.listen()
    assert await it.session.greeting(PATIENCE) == Lost(why.value)
