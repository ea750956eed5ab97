"""Upstream sessions beyond one delivery: how many at a time, which are kept for the next transaction, the goodbyes.

A `Lease` is the right to one session with a host, and the session once it is open. However its holder ends, closing
the lease gives it back: the session is kept if it ended a transaction well, is told QUIT if it would understand it,
and closed otherwise.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import Address, Network
from mailgate.protocol.client import Capabilities
from mailgate.protocol.command import Verb
from mailgate.protocol.reply import Reply, Role
from mailgate.relay.health import Health
from mailgate.relay.outcome import Failure, Scope
from mailgate.relay.paths import connect, introduce
from mailgate.relay.routing import Path
from mailgate.relay.settings import Host, Route, Settings
from mailgate.session.client import ClientSession, Patience

Start = Callable[..., None]
"""start_soon of a nursery of the Gateway's, whose tasks end in an error boundary"""

LOWERED_FOR = 60.0
"""seconds that a host which was full gets no more sessions than it had then"""

LOWERED = 1000
"""hosts for which that is remembered at most"""

_Key = tuple[Path, Role]


class Lease(trio.abc.AsyncResource):
    """The right to one session over a path. `session` is there once it is open, or at once if it was kept."""

    def __init__(self, upstreams: Upstreams, path: Path, route: Route) -> None:
        self.path = path
        self.route = route
        self.session: ClientSession | None = None
        self.began = trio.current_time()
        self.counted = 0
        """transactions in it before this use"""
        self.opened = False
        """a transaction has begun: whoever gives it up then waits for no reply that is due"""
        self._upstreams = upstreams

    async def aclose(self) -> None:
        """Give it back. Waits for nobody."""
        if not self._upstreams.take_back(self):
            try:
                if self.session is not None:
                    await trio.aclose_forcefully(self.session.stream)
            finally:
                self._upstreams.free(self)


@dataclass(frozen=True, slots=True)
class _Kept:
    lease: Lease
    until: float


class Upstreams:
    """The upstream sessions of one gateway."""

    def __init__(self, settings: Settings, network: Network, health: Health, log: FilteringBoundLogger) -> None:
        self.health = health
        self.start: Start | None = None
        """for goodbyes; None: there is no Gateway running, and sessions are just closed"""
        self.offered: dict[Host, Capabilities] = {}
        """what each static host offered when we last heard its EHLO or LHLO; no larger than the configuration"""
        self.keeps = True
        """sessions are kept: until the drain"""
        self._settings = settings
        self._times = settings.timeouts
        self._limits = settings.limits
        self._network = network
        self._log = log
        self._held: Counter[Address] = Counter()
        self._lowered: OrderedDict[Address, tuple[int, float]] = OrderedDict()  # limit, until when
        self._kept: dict[_Key, list[_Kept]] = {}
        self._something_kept = trio.Event()
        self._lots: dict[Address, trio.lowlevel.ParkingLot] = {}
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def held(self) -> int:
        """Sessions in all, with those being opened, kept or told QUIT."""
        return self._held.total()

    @property
    def kept(self) -> int:
        """Sessions that wait for their next transaction."""
        return sum(map(len, self._kept.values()))

    # Slots

    async def lease(self, path: Path, route: Route, waiting: Callable[[], None]) -> Lease:
        """A kept session, or the right to open one; `waiting` is called when there is no room for one now."""
        while True:
            kept = self._take(path, route)
            if kept is not None:
                return kept
            if self._room(path.address, route):
                lease = self._new(path, route)
                self._pass_on(path.address, route)
                return lease
            waiting()
            self._pass_on(path.address, route)
            await self._wait_for_room(path.address, route)

    def lease_now(self, path: Path, route: Route) -> Lease | None:
        """The right to open a new session, if there is room for it."""
        return self._new(path, route) if self._room(path.address, route) else None

    def _new(self, path: Path, route: Route) -> Lease:
        self._held[path.address] += 1
        return Lease(self, path, route)

    def _room(self, address: Address, route: Route) -> bool:
        return self._room_there(address, route) and self._room_at_all()

    def _room_there(self, address: Address, route: Route) -> bool:
        return self._held[address] < self._limit(address, route)

    def _room_at_all(self) -> bool:
        return self.held < self._limits.upstream_sessions

    def _pass_on(self, address: Address, route: Route) -> None:
        """Whoever was woken may have taken the room or not: what is left is for the next one who waits for it."""
        lot = self._lots.get(address)
        if lot is not None and self._room_there(address, route):
            lot.unpark()
        if self._room_at_all():
            self._lot.unpark()

    async def _wait_for_room(self, address: Address, route: Route) -> None:
        """What is only kept is given up for whoever waits."""
        if not self._room_there(address, route):
            self._give_up([key for key in self._kept if key[0].address == address])
            lot = self._lots.setdefault(address, trio.lowlevel.ParkingLot())
            with trio.move_on_at(self._lowered_until(address)):  # then there is more room, and nobody to say so
                await lot.park()
        else:
            self._give_up(list(self._kept))
            await self._lot.park()

    def _limit(self, address: Address, route: Route) -> int:
        limit = self._limits.sessions_per_mx_host if route.mx else self._limits.sessions_per_host
        lowered, until = self._lowered.get(address, (limit, -math.inf))
        return min(limit, lowered) if trio.current_time() < until else limit

    def _lowered_until(self, address: Address) -> float:
        """When its lowered limit runs out; inf: it has none."""
        _, until = self._lowered.get(address, (0, -math.inf))
        return until if trio.current_time() < until else math.inf

    def others(self, lease: Lease) -> int:
        """Sessions that we hold with its host besides this one."""
        return self._held[lease.path.address] - 1

    def lower(self, lease: Lease) -> None:
        """Its host wants no more sessions than the others that it has."""
        address = lease.path.address
        # Of several refused at the same moment each counts, though none of them has been given back yet.
        limit = min(self.others(lease), self._limit(address, lease.route) - 1)
        self._lowered[address] = max(1, limit), trio.current_time() + LOWERED_FOR
        self._lowered.move_to_end(address)
        if len(self._lowered) > LOWERED:
            self._lowered.popitem(last=False)

    def free(self, lease: Lease) -> None:
        """A lease is over, and its session closed."""
        address = lease.path.address
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]
        self._wake(address)

    def _wake(self, address: Address) -> None:
        lot = self._lots.get(address)
        if lot is not None:
            lot.unpark()
            if not lot:
                del self._lots[address]
        self._lot.unpark()

    # Kept sessions

    def take_back(self, lease: Lease) -> bool:
        """Keep a session or say goodbye to it. False: it cannot be talked to any more, and the caller closes it."""
        session = lease.session
        if session is None or self.start is None:
            return False
        if self.keeps and session.reusable and session.transactions > lease.counted:
            until = min(trio.current_time() + self._times.idle, lease.began + self._times.reuse)
            if until > trio.current_time() and session.transactions < self._limits.reused:
                self._keep(lease, until)
                return True
        if session.partable and not (lease.opened and session.awaiting):
            self.start(self._say_goodbye, lease)
            return True
        return False

    def _keep(self, lease: Lease, until: float) -> None:
        assert lease.session is not None
        lease.counted, lease.opened = lease.session.transactions, False
        self._kept.setdefault((lease.path, lease.route.protocol), []).append(_Kept(lease, until))
        self._something_kept.set()
        self._wake(lease.path.address)

    def _take(self, path: Path, route: Route) -> Lease | None:
        key = path, route.protocol
        kept = self._kept.get(key)
        if kept is None:
            return None
        last = kept.pop()  # the one used last, so that those not needed any more come of age
        if not kept:
            del self._kept[key]
        if last.until > trio.current_time():
            return last.lease
        self._part(last.lease)
        return self._take(path, route)

    def _give_up(self, keys: list[_Key]) -> None:
        """Part with the oldest one under these keys."""
        if keys:
            oldest = min(keys, key=lambda key: self._kept[key][0].until)
            lease = self._kept[oldest].pop(0).lease
            if not self._kept[oldest]:
                del self._kept[oldest]
            self._part(lease)

    def _part(self, lease: Lease) -> None:
        assert self.start is not None  # nothing is kept otherwise
        self.start(self._say_goodbye, lease)

    async def _say_goodbye(self, lease: Lease) -> None:
        assert lease.session is not None
        try:
            await lease.session.farewell(self._times.quit)
        finally:
            self.free(lease)

    async def expire(self) -> None:
        """Part with kept sessions whose time is over; a task of the Gateway's."""
        while True:
            while not self._kept:
                self._something_kept = trio.Event()
                await self._something_kept.wait()
            await trio.sleep_until(min(one.until for kept in self._kept.values() for one in kept))
            self._part_with(lambda one: one.until <= trio.current_time())

    def part_with_all(self) -> None:
        """Keep nothing any more."""
        self.keeps = False
        self._part_with(lambda one: True)

    def _part_with(self, over: Callable[[_Kept], bool]) -> None:
        for key, kept in list(self._kept.items()):
            left = [one for one in kept if not over(one)]
            for one in kept:
                if one not in left:
                    self._part(one.lease)
            if left:
                self._kept[key] = left
            else:
                del self._kept[key]

    # Opening

    async def open(
        self,
        lease: Lease,
        by: float,
        then: Callable[[ClientSession], Awaitable[Failure | None]],
        *,
        log: FilteringBoundLogger,
        connected: Callable[[], None] = lambda: None,
        checked: bool = False,
    ) -> Failure | None:
        """Connect, introduce ourselves, both until `by` (Trio's clock), then go on. What it tells of the path is kept.

        `connected` is called as soon as there is a connection. `checked`: it is a check of our own. Otherwise a path
        that `by` cut short of a connect's and a reply's time is not blamed: others, before it, have taken its time.
        """
        path, route = lease.path, lease.route
        began = trio.current_time()
        excused_from = math.inf if checked or by - began >= self._times.connect + self._times.reply else by
        stream = await connect(self._network, path, Patience(self._times.connect, by))
        if isinstance(stream, Failure):
            if trio.current_time() < excused_from:
                self.blame(path, route, stream, checked=checked)
            return stream
        connected()
        session = lease.session = ClientSession(stream, route.protocol, self._times.stall, observer(log, path))
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            name = self._settings.hostname if path.backbone is None else path.backbone.helo
            failure = await introduce(session, name, Patience(self._times.reply, by), self.others(lease))
            if failure is not None:
                if trio.current_time() < excused_from:
                    self.blame(path, route, failure, checked=checked)
            else:
                self._praise(path, route, trio.current_time() - began)
                if not route.mx and path.host is not None:
                    self.offered[path.host] = session.capabilities
                failure = await then(session)
            listening.cancel_scope.cancel()
        return failure

    def blame(self, path: Path, route: Route, failure: Failure, *, checked: bool = False) -> None:
        """Remember a failure, as far as it is about the path."""
        now = trio.current_time()
        was_down = self.health.down(path)
        if failure.scope is Scope.BACKBONE:
            self.health.source_missing(path, now)
        elif failure.scope is Scope.PATH:
            self.health.source_found(path)
            self.health.failed(path, failure.why, now, static=not route.mx, checked=checked)
        if self.health.down(path) and not was_down:
            self._log.warning("path_down", path=path, stage=failure.stage.value, why=failure.why)

    def _praise(self, path: Path, route: Route, latency: float) -> None:
        was_down = self.health.down(path)
        self.health.source_found(path)
        self.health.succeeded(path, trio.current_time(), static=not route.mx, latency=latency)
        if was_down:
            self._log.info("path_up", path=path)


def observer(log: FilteringBoundLogger, path: Path) -> Callable[[Verb, Reply], None]:
    """Writes each reply of a next hop to a log."""
    return lambda verb, answer: log.debug("upstream_reply", path=path, to=verb.value, reply=answer)
