"""What we find out about paths by ourselves: static hosts that are down are looked at until they are up again.

Hosts found by MX are strangers: they are never polled. When a message wants one whose back-off has run out it gets
one trial, while the message goes another way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import HostName
from mailgate.relay.outcome import Failure
from mailgate.relay.routing import Path
from mailgate.relay.settings import Host, Listener, Route
from mailgate.relay.upstreams import Start, Upstreams
from mailgate.session.client import ClientSession

LENGTH = 10.0
"""seconds that a check may take, so that with `timeouts.check` what we know is never older than 15"""

KNOWN = 60.0
"""seconds for which the addresses of a host's name hold, as far as sending clients away goes: then one is let in, and
its message looks the name up again"""


@dataclass(frozen=True, slots=True)
class _Known:
    """The ways to a host, and until when that holds on Trio's clock."""

    paths: tuple[Path, ...]
    until: float


class Checks:
    """The checks of one gateway. What they find out is in the health of `upstreams`."""

    def __init__(self, upstreams: Upstreams, interval: float, log: FilteringBoundLogger) -> None:
        self.start: Start | None = None
        """for checks; None: there is no Gateway running"""
        self._upstreams = upstreams
        self._health = upstreams.health
        self._interval = interval
        self._log = log
        self._known: dict[tuple[str, Host], _Known] = {}  # static only: no larger than the configuration
        self._running: dict[Path, None] = {}
        self._watched: dict[Path, None] = {}

    def found(self, route: Route, host: Host, paths: Sequence[Path]) -> None:
        """These are the ways to a host."""
        if not route.mx:
            until = trio.current_time() + KNOWN if isinstance(host, HostName) else math.inf
            self._known[route.name, host] = _Known(tuple(paths), until)

    def want(self, path: Path, route: Route) -> None:
        """Somebody would have used a path that is down: a static one is watched from now on."""
        if route.mx:
            return
        self._health.want(path, trio.current_time())
        if self.start is not None and path not in self._watched:
            self._watched[path] = None
            self.start(self._watch, path, route)

    def try_out(self, path: Path, route: Route) -> None:
        """One trial, if the time for it has come and none is under way."""
        if self.start is not None and path not in self._running and self._health.due(path, trio.current_time()):
            self.start(self._check, path, route)

    def nobody_home(self, listener: Listener) -> bool:
        """Every next hop of a listener has been down for so long, by our own checks, that its clients need not try."""
        if any(route.mx for route in listener.routes):
            return False
        now = trio.current_time()
        paths: list[tuple[Path, Route]] = []
        for route in listener.routes:
            for host in route.hosts:
                known = self._known.get((route.name, host))
                if known is None or known.until <= now:
                    return False
                paths += [(path, route) for path in known.paths]
        out = bool(paths) and all(self._health.out_by_checks(path, now) for path, _ in paths)
        if out:
            for path, route in paths:
                self.want(path, route)
        return out

    async def _watch(self, path: Path, route: Route) -> None:
        """Look at a path until it is up, or nobody has wanted it for long."""
        try:
            starts = trio.current_time()
            while self._health.down(path) and self._health.wanted(path, trio.current_time()):
                starts = max(starts + self._interval, trio.current_time())
                await trio.sleep_until(starts)
                await self._check(path, route)
        finally:
            del self._watched[path]

    async def _check(self, path: Path, route: Route) -> None:
        """Connect, hello, and QUIT when the lease is given back. One at a time."""
        if path in self._running:
            return
        self._running[path] = None
        try:
            lease = self._upstreams.lease_now(path, route)
            if lease is None:  # so many sessions that there is nothing to find out
                return
            try:
                by = trio.current_time() + LENGTH
                await self._upstreams.open(lease, by, _nothing_more, log=self._log, checked=True)
            finally:
                await trio.aclose_forcefully(lease)
        finally:
            del self._running[path]


async def _nothing_more(session: ClientSession) -> Failure | None:  # noqa: ASYNC124
    return None
