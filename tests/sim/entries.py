"""What the shared ledger's server knew, and when a gateway could have asked it: evidence from the server itself. Pure.

An entry's name tells nobody whose it is. But all messages of a run are known, and so are the names of all entries that
there can be.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mailgate.protocol.command import Mailbox
from mailgate.relay import ledger
from sim.content import content
from sim.records import Asking, History, Message

ENTRY = "ledger:"
"""how the names of entries begin; those of put-off marks do not"""

PATIENCE = 1.0
"""seconds in which an answer must be there to be of any use"""

LEFT_ALONE = 5.0
"""seconds for which a gateway asks nothing after an answer that did not come"""

_SPARE = 0.1
_INSTANT = 1e-6


@dataclass(frozen=True, slots=True)
class _Change:
    """Of a mark."""

    time: float
    until: float
    """the mark is there until then; in the past: it is taken away"""


class Entries:
    """All marks of a run. Without a shared ledger there are none."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._names: dict[str, tuple[str, str]] = {}
        self._marks: dict[tuple[str, str], str] = {}
        if history.askings:
            self._name_all()
        self._in_vain: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._changes: dict[str, list[_Change]] = defaultdict(list)
        self._made: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)  # asked, done
        self._took: dict[tuple[str, int, str], list[float]] = defaultdict(list)
        for one in history.askings:
            if not in_time(one):
                self._in_vain[one.gateway, one.life].append(one.time)
            if one.done is not None:
                self._add(one, one.done)
        for times in self._in_vain.values():
            times.sort()
        for changes in self._changes.values():
            changes.sort(key=lambda change: change.time)

    def _add(self, asking: Asking, done: float) -> None:
        """Of one that reached the server. They come in the order in which they were asked."""
        for place, mark in enumerate(asking.marks):
            key = asking.gateway, asking.life, mark
            if not asking.takes:
                self._made[key].append((asking.time, done))
            elif asking.found[place] and in_time(asking):
                self._took[key].append(asking.time)
            self._changes[mark].append(_Change(done, -math.inf if asking.takes else done + asking.seconds))

    def _name_all(self) -> None:
        for message in self._history.messages.values():
            if message.twin:
                continue
            for recipient, mark in _entries(message):
                self._names[mark] = message.id, recipient
                self._marks[message.id, recipient] = mark

    def whose(self, mark: str) -> tuple[str, str] | None:
        """(message, recipient) of an entry; None: it is none of this run's messages."""
        return self._names.get(mark)

    def mark(self, message: str, recipient: str) -> str:
        """The entry's name; empty: there is no shared ledger."""
        return self._marks.get((message, recipient), "")

    def could_ask(self, gateway: str, life: int, time: float, until: float = -math.inf) -> bool:
        """Whether nothing was in a gateway's way to the server then, or from then on until another time: no answer was
        missing, or had been lately.
        """
        times = self._in_vain.get((gateway, life), [])
        place = bisect_left(times, time - PATIENCE - LEFT_ALONE - _SPARE)
        return place == len(times) or times[place] > max(time, until) + PATIENCE + _SPARE

    def made(self, gateway: str, life: int, mark: str, since: float, until: float) -> bool:
        """Whether a gateway has made a mark, or made it anew, in some time."""
        asked = self._made.get((gateway, life, mark), [])
        place = bisect_left(asked, (since - _INSTANT,))
        return any(done <= until + _INSTANT for _, done in asked[place:])

    def took(self, gateway: str, life: int, mark: str, since: float, until: float) -> bool:
        """Whether a gateway has taken a mark away in some time that was there, and has heard so."""
        times = self._took.get((gateway, life, mark), [])
        place = bisect_left(times, since - _INSTANT)
        return place < len(times) and times[place] <= until + _INSTANT

    def was_there(self, mark: str, since: float, until: float) -> bool:
        """Whether a mark was there in all of that time."""
        there = made = -math.inf
        for change in self._changes.get(mark, []):
            if change.time > since:
                if change.time <= until and change.until < until:
                    return False
                continue
            there = change.until
            made = change.time
        if there < until:
            return False
        return not any(made <= time <= until for time in self._history.forgotten)

    def lost(self, since: float, until: float) -> bool:
        """Whether the server has lost what it knew in some time."""
        return any(since <= time <= until for time in self._history.forgotten)

    def stood_for_two(self, mark: str) -> bool:
        """Whether a mark was made when it was there: by two deliveries of equal messages, and it is taken once."""
        changes = self._changes.get(mark, [])
        return any(before.until >= change.time < change.until for before, change in pairwise(changes))


def in_time(asking: Asking) -> bool:
    """Whether a question was answered, and within the time that a gateway has."""
    return asking.answered is not None and not asking.refused and asking.answered <= asking.time + PATIENCE + _INSTANT


def entry_of(message: Message, recipient: str) -> str:
    """The name of the entry that says that a recipient has a message."""
    return dict(_entries(message))[recipient]


def _entries(message: Message) -> Iterator[tuple[str, str]]:
    """(recipient, entry), for each recipient."""
    digest = ledger.Digest()
    digest.feed(content(message.name, message.size))
    sender = _mailbox(message.reverse_path)
    for recipient in message.recipients:
        yield recipient, ledger.entry(sender, _mailbox(recipient), digest.value)


def _mailbox(address: str) -> Mailbox:
    local, _, domain = address.rpartition("@")
    return Mailbox(local, domain)
