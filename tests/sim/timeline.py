"""What happens later: callbacks in order of time, on Trio's clock, in one task."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import trio


class Waiter:
    """Lets one task wait until it is woken. It costs a fraction of a `trio.Event`."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    @property
    def waits(self) -> bool:
        """Whether a task does."""
        return self._task is not None

    def wake(self) -> None:
        """Let the task go on, if one waits."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait for the next `wake`; a checkpoint in any case. Only one task at a time."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Timeline:
    """Callbacks in order of time; those of the same time in the order in which they were asked for.

    A callback that raises ends `run`.
    """

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._asked = 0
        self._sleep: trio.CancelScope | None = None

    def at(self, time: float, call: Callable[..., None], *about: object) -> None:
        """Call at that time of Trio's clock; one that is over: as soon as `run` has its turn."""
        self._asked += 1
        heapq.heappush(self._events, (time, self._asked, call, about))
        if self._sleep is not None and time < self._sleep.deadline:
            self._sleep.deadline = time

    async def until(self, time: float) -> None:
        """Sleep until then: as `trio.sleep_until`, without the price of a cancel scope."""
        waiter = Waiter()
        self.at(time, waiter.wake)
        await waiter.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do it all; ends by being cancelled."""
        task_status.started()
        try:
            while True:
                with trio.CancelScope(deadline=self._events[0][0] if self._events else math.inf) as self._sleep:
                    await trio.sleep_forever()
                self._sleep = None  # the deadline that new events had is found again at the next turn
                self._catch_up(trio.current_time())
        finally:
            self._sleep = None

    def _catch_up(self, now: float) -> None:
        events = self._events
        while events and events[0][0] <= now:
            _, _, call, about = heapq.heappop(events)
            call(*about)
