"""The ledger that the gateways share, simulated: a table on a host behind a link, and what breaks there."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import trio

from mailgate.store import StoreLost, StoreUnreachable
from sim.hosts import Host
from sim.links import Path
from sim.records import Asking, Fault, History, Kind
from sim.timeline import Timeline, Waiter

EVERYBODY = "everybody"
"""the target of what is done to all gateways' questions"""

_SLOW = 4.0
"""seconds that a question takes at most on its way where the server is slow: gateways wait for one"""


_BREAKS = 0.5
"""the share of lost answers in whose place a reset comes"""


class Table:
    """The server: marks, and until when each is there. All that it is asked is in the history."""

    def __init__(self, host: Host, history: History, timeline: Timeline, chance: random.Random, *, mute: float) -> None:
        """`mute`: the share of answers that get lost."""
        self.host = host
        self.history = history
        self.timeline = timeline
        self._random = chance
        self._mute = mute
        self._until: dict[str, float] = {}
        self._cut: dict[str, float] = {}
        self._down = -math.inf
        self._slow = -math.inf

    def break_it(self, kind: Kind, target: str, until: float) -> None:
        """One of `STORE_KINDS` but the last happens now. `target`: the gateway that is cut off, or everybody."""
        match kind:
            case Kind.STORE_CUT:
                self._cut[target] = max(self._cut.get(target, -math.inf), until)
            case Kind.STORE_SLOW:
                self._slow = max(self._slow, until)
            case Kind.STORE_DOWN:
                self._down = max(self._down, until)
            case Kind.STORE_LOST:
                self._down = max(self._down, until)
                self._until.clear()
                self.history.forgotten.append(trio.current_time())
        self._record(kind, target, until)

    def stop_losing_answers(self) -> None:
        """From now on none gets lost."""
        self._mute = 0.0

    def cut_off(self, gateway: str) -> bool:
        """Whether nothing passes between that gateway and the server."""
        now = trio.current_time()
        return any(now < self._cut.get(target, -math.inf) for target in (gateway, EVERYBODY))

    def delay(self) -> float:
        """Seconds that a question takes longer than usual."""
        return self._random.uniform(0, _SLOW) if trio.current_time() < self._slow else 0.0

    def arrive(self, asking: Asking, back: Path, waiter: Waiter) -> None:
        """A question is here: do what it says, and send the answer."""
        now = trio.current_time()
        if now < self._down:
            asking.refused = True
        elif asking.takes:
            asking.done = now
            asking.found = tuple(now < self._until.pop(mark, -math.inf) for mark in asking.marks)
        else:
            asking.done = now
            self._until.update((mark, now + asking.seconds) for mark in asking.marks)
        if self.cut_off(asking.gateway) or back.lost(now):
            return
        if self._mute and self._random.random() < self._mute:
            self._record(Kind.STORE_MUTE, asking.gateway, now)
            if self._random.random() < _BREAKS:
                asking.broken = True
                self.timeline.at(now + back.latency, waiter.wake)
            return
        asking.answered = now + back.latency
        self.timeline.at(asking.answered, waiter.wake)

    def _record(self, kind: Kind, target: str, until: float) -> None:
        self.history.faults.append(Fault(kind, target, trio.current_time(), until))
        self.history.calm = max(self.history.calm, until)


class SimStore:
    """The `Store` of the programs on a gateway's host, in one of its lives."""

    def __init__(self, table: Table, host: Host, ip: str) -> None:
        """`ip`: the address that its questions come from."""
        (place,) = table.host.places.values()
        self._table = table
        self._host = host
        self._life = host.life
        self._there = Path(host.places[ip], place)
        self._back = Path(place, host.places[ip])

    async def add(self, marks: Sequence[str], seconds: float) -> None:
        """Make marks. Raises StoreUnreachable, StoreLost."""
        await self._ask(takes=False, marks=marks, seconds=seconds)

    async def take(self, marks: Sequence[str]) -> tuple[bool, ...]:
        """Take marks away: whether each was there. Raises StoreUnreachable, StoreLost."""
        return (await self._ask(takes=True, marks=marks)).found

    async def _ask(self, *, takes: bool, marks: Sequence[str], seconds: float = math.inf) -> Asking:
        table, now = self._table, trio.current_time()
        if not self._host.up or self._life != self._host.life:
            await trio.sleep_forever()  # its power is gone; it only has not heard of it
        asking = Asking(self._host.name, self._life, now, takes, tuple(marks), seconds)
        table.history.askings.append(asking)
        waiter = Waiter()
        if not table.cut_off(self._host.name) and not self._there.lost(now):
            table.timeline.at(now + self._there.latency + table.delay(), table.arrive, asking, self._back, waiter)
        await waiter.wait()
        if asking.refused:
            raise StoreUnreachable("Connection refused")
        if asking.broken:
            raise StoreLost("Connection reset by peer")
        return asking
