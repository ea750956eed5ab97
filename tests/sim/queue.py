"""A sending server's queue: plain state, which outlives its host's crashes. No I/O."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from mailgate.testing import Attempt, State
from sim import records
from sim.records import History, Message, Settled
from sim.schedules import Schedule


@dataclass(slots=True)
class Entry:
    """A message for recipients that are delivered to together, as long as one of them is not settled."""

    number: int
    """in the order of their coming"""
    message: Message
    waiting: list[int]
    """positions of recipients that are not settled, in order"""
    rests: float
    """until then"""
    tried: bool = False
    """then it waits for a run over the queue; what is new does not"""


class Queue:
    """What is to be sent, and when; who was told what.

    Each method is one synchronous step: what was read from the wire is in the record, and settled, or none of it is.
    """

    def __init__(self, schedule: Schedule, history: History) -> None:
        self._schedule = schedule
        self._history = history
        self._entries: dict[int, Entry] = {}
        self._came = 0
        self._begun = 0.0
        self._due: list[tuple[float, int]] = []  # of those that no delivery has; a heap

    @property
    def recipients(self) -> int:
        """How many of them are not settled."""
        return sum(len(entry.waiting) for entry in self._entries.values())

    def add(self, message: Message, now: float) -> None:
        """A message that is due at once."""
        for positions in self._schedule.deliveries(message.recipients):
            self._came += 1
            self._entries[self._came] = Entry(self._came, message, positions, now)
            heapq.heappush(self._due, (now, self._came))

    def start(self, now: float) -> None:
        """The program starts: nothing is under way any more, and the queue is run."""
        self._begun = now
        self._due = [(max(self._run(entry), now), entry.number) for entry in self._entries.values()]
        heapq.heapify(self._due)

    @property
    def next_due(self) -> float:
        """When something is; infinite: never."""
        return self._due[0][0] if self._due else math.inf

    def take(self, now: float) -> Entry | None:
        """The message that has been due for longest, for a delivery; None: none is due."""
        if self.next_due > now:
            return None
        return self._entries[heapq.heappop(self._due)[1]]

    def told(self, entry: Entry, position: int, attempt: Attempt, now: float) -> None:
        """What came of a recipient in a session. It is settled if that is an end."""
        state, text = attempt.state.value, attempt.text
        began = now - attempt.seconds
        self._history.attempts.append(
            records.Attempt(entry.message.id, position, attempt.gateway, began, now, attempt.stage.value, text, state)
        )
        if attempt.state is not State.DEFERRED:
            self._settle(entry, position, now, state, text)

    def put_back(self, entry: Entry, now: float) -> None:
        """A run has ended: what is left of the message rests, or expires."""
        age = now - entry.message.submitted
        if age >= self._schedule.lifetime:
            for position in list(entry.waiting):
                self._settle(entry, position, now, "expired", f"not delivered within {age / 86_400:.1f} days")
        if entry.number not in self._entries:
            return
        entry.rests, entry.tried = now + self._schedule.wait(age), True
        heapq.heappush(self._due, (self._run(entry), entry.number))

    def _settle(self, entry: Entry, position: int, now: float, state: str, text: str) -> None:
        entry.waiting.remove(position)
        self._history.settled.append(Settled(entry.message.id, position, now, state, text))
        if not entry.waiting:
            del self._entries[entry.number]

    def _run(self, entry: Entry) -> float:
        """When it is due, as far as the time since the program's start is concerned."""
        every, rests = self._schedule.runner, entry.rests
        if not (every and entry.tried) or rests <= self._begun:
            return rests
        return self._begun + math.ceil((rests - self._begun) / every) * every
