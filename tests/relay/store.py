"""A memory that gateways share, in memory: it answers, or fails in one of the ways in which real ones do."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from mailgate.store import StoreLost, StoreUnreachable


class Mood(enum.Enum):
    """What it does when it is asked."""

    ANSWERS = "answers"
    FAILS = "says at once that it cannot"
    LOST = "is lost while it is asked, and has not done it"
    LOST_DONE = "is lost while it is asked, and has done it"
    HANGS = "never answers, and has not done it"
    HANGS_DONE = "never answers, and has done it"


@dataclass(frozen=True, slots=True)
class Call:
    """What a gateway asked for; `time` is Trio's when it did."""

    verb: str
    """`add` or `take`"""
    kinds: tuple[str, ...]
    """of its marks: `ledger`, `put-off`"""
    time: float


class MemoryStore:
    """A `Store`. Its owner may change `mood` and `delay` at any time."""

    def __init__(self, mood: Mood = Mood.ANSWERS, delay: float = 0) -> None:
        """`delay`: seconds that an answer takes; what was asked is done at their end."""
        self.mood = mood
        self.delay = delay
        self.calls: list[Call] = []
        """all that it was asked, in order"""
        self._until: dict[str, float] = {}

    def marks(self, kind: str) -> list[str]:
        """Those of a kind (`ledger`, `put-off`) that are there, the oldest first."""
        now = trio.current_time()
        return [mark for mark, until in self._until.items() if now < until and mark.startswith(f"{kind}:")]

    def seconds_left(self, mark: str) -> float:
        """Until a mark is gone by itself."""
        return self._until[mark] - trio.current_time()

    def asked(self, verb: str, kind: str) -> list[float]:
        """When it was asked to do that with marks of that kind."""
        return [call.time for call in self.calls if call.verb == verb and kind in call.kinds]

    # The Store protocol

    async def add(self, marks: Sequence[str], seconds: float) -> None:
        """Raises StoreUnreachable, StoreLost if it is in such a mood."""
        if await self._asked("add", marks):
            self._until.update({mark: trio.current_time() + seconds for mark in marks})
        await self._answer()

    async def take(self, marks: Sequence[str]) -> tuple[bool, ...]:
        """Raises StoreUnreachable, StoreLost if it is in such a mood."""
        found: tuple[bool, ...] = ()
        if await self._asked("take", marks):
            now = trio.current_time()
            found = tuple(self._until.pop(mark, now) > now for mark in marks)
        await self._answer()
        return found

    async def _asked(self, verb: str, marks: Sequence[str]) -> bool:
        """Whether to do it."""
        kinds = tuple(dict.fromkeys(mark.partition(":")[0] for mark in marks))
        self.calls.append(Call(verb, kinds, trio.current_time()))
        await trio.sleep(self.delay)
        if self.mood is Mood.FAILS:
            raise StoreUnreachable("connection refused")
        return self.mood not in (Mood.HANGS, Mood.LOST)

    async def _answer(self) -> None:
        if self.mood in (Mood.LOST, Mood.LOST_DONE):
            raise StoreLost("connection reset")
        if self.mood is not Mood.ANSWERS:
            await trio.sleep_forever()
