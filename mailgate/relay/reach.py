"""Which paths next: one delivery's way through the hosts of its next hop.

    for each preference: look up → leave out what is down → race
    at the end: what was passed over, if there is time

Paths that are down are passed over while others are up, so that a message waits for none of them. Only when all are
down does it wait: the first message is the probe, and as long as that is fresh the others hear 451 at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Sequence

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.command import Extension, MailParameters
from mailgate.protocol.reply import Reply
from mailgate.relay import nexthop, outcome
from mailgate.relay.envelope import Envelope
from mailgate.relay.nexthop import Located
from mailgate.relay.outcome import Failure, Scope, Stage
from mailgate.relay.paths import Place, Runner, race, refused
from mailgate.relay.routing import NextHop, Path, Preferences, paths_to
from mailgate.relay.settings import Backbone, Host
from mailgate.relay.shared import Shared
from mailgate.relay.upstreams import Lease, observer
from mailgate.session.client import ClientSession, Lost, Patience, Stale

SLOW = "had no connection yet when a path that started later was ready"
NO_ROOM = "no room for one more session with this host"
NO_TIME = "not begun in time"
NO_ANSWER = "no answer in time"
NO_SOURCE = "no backbone of the route has a source address of its family"


class Reach:
    """`open` again and again, until there is nothing left to try."""

    def __init__(
        self,
        hop: NextHop,
        domain: str,
        envelope: Envelope,
        shared: Shared,
        log: FilteringBoundLogger,
        note: Callable[[Path | Host | str, Failure], None],
        crowded: Callable[[], None],
        may_start: Callable[[], bool] = lambda: True,
    ) -> None:
        """`domain`: of a recipient. `note` hears of each failure, `crowded` when all that is left waits for room.

        `may_start` tells whether one more path may be tried.
        """
        self._hop = hop
        self._route = hop.route
        self._domain = domain
        self._envelope = envelope
        self._shared = shared
        self._times = shared.settings.timeouts
        self._log = log
        self._note = note
        self._crowded = crowded
        self._may_start = may_start
        self._preferences: deque[Sequence[Host]] | None = None
        self._paths: list[Path] = []  # of the stage under way, in the order to be tried
        self._until = math.inf  # when they must be connected
        self._passed: list[Path] = []  # they were down, or their host full
        self._late: list[Host] = []
        self._found: list[Path] = []  # all there are, as far as is known
        self._refusals: dict[Backbone | None, Failure] = {}  # the next hop takes no mail from us there
        self._tried = False
        self._opening = 0  # paths that do not wait for room
        self._probe: trio.Event | None = None

    async def open(self) -> Lease | None:
        """A session on which MAIL was taken; None: there is no path left."""
        try:
            while self._may_start() and (self._paths or await self._next_stage()):
                self._tried = True
                finish = await race(self._paths, self._open_path, self._times.head_start)
                for path in finish.slow:
                    slow = outcome.ours(Stage.CONNECT, Scope.PATH, SLOW)
                    self._shared.upstreams.blame(path, self._route, slow)
                    self._failed(path, slow)
                if finish.won is not None:
                    finish.won.opened = True
                    return finish.won
                if finish.over:
                    return None
        finally:
            self._end_probe()
        self._conclude()
        return None

    # Stages

    async def _next_stage(self) -> bool:
        """The paths of the next preference that has any up; behind the last one, what was passed over."""
        if self._preferences is None:
            self._preferences = deque()
            found: Preferences | Failure = outcome.lookup_failure(f"{self._hop.domain} (MX): {NO_ANSWER}")
            with trio.move_on_after(self._times.probe):
                found = await nexthop.preferences(self._shared.lookups, self._hop, self._shared.names)
            if isinstance(found, Failure):
                self._note(self._hop.domain, found)
            else:
                self._preferences.extend(found)
        while self._preferences:
            until = trio.current_time() + self._times.probe
            paths = self._in_order(await self._locate(self._preferences.popleft(), self._times.head_start, until))
            down = [path for path in paths if self._shared.health.down(path)]
            up = paths[: len(paths) - len(down)]  # they come first
            self._pass_over(down)
            if up:
                for path in self._passed:
                    self._shared.checks.try_out(path, self._route)
                self._until = until
                self._paths = up
                return True
        return await self._last_stage()

    async def _last_stage(self) -> bool:
        """What was passed over. Where nothing was up, one message tries all for everybody."""
        late, self._late = self._late, []
        until = trio.current_time() + self._times.probe
        located = await self._locate(late, math.inf, until) if late else []
        health = self._shared.health
        # They were passed over in the order of their preferences.
        paths, self._passed = sorted([*self._in_order(located), *self._passed], key=health.down), []
        self._until = math.inf
        if self._tried:
            now = trio.current_time()
            left_out = [path for path in paths if health.down(path) and not health.due(path, now)]
            self._left_out(left_out)  # they may pass, so that the others' 5xx is not the answer
            self._paths = [path for path in paths if path not in left_out]
            return bool(self._paths)
        while paths and all(health.down(path) for path in paths):
            if health.fresh(paths, trio.current_time()):
                self._left_out(paths)
                return False
            probe = self._shared.probes.get(self._hop)
            if probe is None:
                self._probe = self._shared.probes[self._hop] = trio.Event()
                break
            await probe.wait()
        self._paths = sorted(paths, key=health.down)
        return bool(paths)

    def _left_out(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._note(path, outcome.ours(Stage.CONNECT, Scope.PATH, f"is down: {self._shared.health.why(path)}"))

    def _end_probe(self) -> None:
        if self._probe is not None:
            del self._shared.probes[self._hop]
            self._probe.set()
            self._probe = None

    def _in_order(self, paths: Sequence[Path]) -> list[Path]:
        """The paths of one preference, in the order to be tried."""
        sender = self._envelope.reverse_path
        first = self._shared.greylist.kept(sender, self._domain, trio.current_time())
        chance = self._shared.network.random
        return self._shared.health.order(paths, self._route.backbones, chance, first)

    def _pass_over(self, paths: Sequence[Path]) -> None:
        self._passed += paths
        for path in paths:
            self._shared.checks.want(path, self._route)

    async def _locate(self, hosts: Sequence[Host], grace: float, until: float) -> list[Path]:
        """The paths to some hosts, looked up until some time on Trio's clock."""
        shared = self._shared
        own = shared.settings.addresses
        located = Located(failures=tuple((host, outcome.lookup_failure(f"{host}: {NO_ANSWER}")) for host in hosts))
        with trio.move_on_at(until):
            located = await nexthop.locate(shared.lookups, shared.network, self._route, hosts, own, grace)
        if located.ourselves:
            assert self._preferences is not None
            self._preferences.clear()
            self._note(self._hop.domain, outcome.lookup_failure("this is our own address (MX)", outcome.OURSELVES))
        for host, failure in located.failures:
            self._note(host, failure)
        self._late += located.late
        paths: list[Path] = []
        for host, addresses in located.addresses:
            ways = paths_to(self._route, host, addresses)
            shared.checks.found(self._route, host, ways)
            paths += [path for path in ways if path not in paths]
            if not ways:
                self._note(host, outcome.ours(Stage.CONNECT, Scope.PATH, NO_SOURCE))
        self._found += paths
        return [path for path in paths if path.backbone not in self._refusals]

    def _conclude(self) -> None:
        """Where we are unwelcome on every backbone, what was said on the preferred one is the answer."""
        if self._refusals and all(path.backbone in self._refusals for path in self._found):
            order: tuple[Backbone | None, ...] = (*self._route.backbones, None)
            preferred = next(one for one in order if one in self._refusals)
            where = next(path for path in self._found if path.backbone == preferred)
            self._note(where, dataclasses.replace(self._refusals[preferred], elsewhere=False))

    # One path

    async def _open_path(self, runner: Runner) -> Lease | Failure:
        """Up to MAIL: on a kept session if there is one that is still good, else on a new one."""
        while True:
            lease = await self._lease(runner)
            if lease is not None and not self._may_start():
                await trio.aclose_forcefully(lease)
                lease = None
            if lease is None:
                self._passed.append(runner.path)
                why = NO_ROOM if runner.place is Place.WAITING else NO_TIME
                return self._failed(runner.path, outcome.ours(Stage.CONNECT, Scope.FULL, why))
            result = await self._begin(lease, runner)
            if result is None:
                return lease
            if isinstance(result, Failure) and result.scope is not Scope.FULL:
                if result.scope is Scope.PATH and not self._shared.health.down(runner.path):
                    self._passed.append(runner.path)  # it was cut short
                return self._failed(runner.path, result)
            self._log.debug("opened_anew", path=runner.path, why=result.why)

    async def _lease(self, runner: Runner) -> Lease | None:
        """Room for a session, or a kept one; None: there was none in time."""
        if trio.current_time() >= self._until:
            return None

        def wait() -> None:
            runner.move(Place.WAITING)

        path = runner.path
        with trio.move_on_at(min(self._until, trio.current_time() + self._times.head_start)):
            return await self._shared.upstreams.lease(path, self._route, wait)
        if not self._opening and not self._paths:
            self._crowded()
        with trio.move_on_at(self._until):
            return await self._shared.upstreams.lease(path, self._route, wait)
        return None

    async def _begin(self, lease: Lease, runner: Runner) -> Failure | Stale | None:
        self._opening += 1
        result: Failure | Stale | None = None
        begun = False
        try:
            if lease.session is None:
                runner.move(Place.CONNECTING)
                result = await self._begin_anew(lease, runner)
            else:
                runner.move(Place.CONNECTED)
                result = await self._begin_again(lease, lease.session)
            begun = result is None
        finally:
            self._opening -= 1
            if not begun:
                await trio.aclose_forcefully(lease)
        return result

    async def _begin_anew(self, lease: Lease, runner: Runner) -> Failure | None:
        upstreams = self._shared.upstreams
        by = min(self._until, trio.current_time() + self._times.probe)
        failure = await upstreams.open(
            lease, by, self._mail, log=self._log, connected=lambda: runner.move(Place.CONNECTED)
        )
        if failure is not None and failure.scope is Scope.FULL:
            upstreams.lower(lease)
        return failure

    async def _begin_again(self, lease: Lease, session: ClientSession) -> Failure | Stale | None:
        session.observe = observer(self._log, lease.path)
        result: Reply | Lost | Failure | Stale = outcome.lacks_smtputf8()
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            if self._fits(session):
                # As at the greeting: whether its host still lives is not worth more, a new session will tell.
                patience = Patience(self._times.reply, self._until)
                result = await session.again(self._envelope.reverse_path, self._wanted, patience)
            listening.cancel_scope.cancel()
        return result if isinstance(result, Failure | Stale) else _refusal(result)

    async def _mail(self, session: ClientSession) -> Failure | None:
        if not self._fits(session):
            return outcome.lacks_smtputf8()
        return _refusal(await session.mail(self._envelope.reverse_path, self._wanted, self._patience))

    def _fits(self, session: ClientSession) -> bool:
        """Without SMTPUTF8 an address that needs it may not be sent at all (RFC 6531 section 3.6)."""
        return not self._envelope.parameters.smtputf8 or Extension.SMTPUTF8 in session.capabilities.extensions

    @property
    def _wanted(self) -> MailParameters:
        return dataclasses.replace(self._envelope.parameters, prdr=self._envelope.per_recipient)

    @property
    def _patience(self) -> Patience:
        return Patience(self._times.envelope)

    def _failed(self, path: Path, failure: Failure) -> Failure:
        if failure.scope is Scope.US:
            self._refusals.setdefault(path.backbone, failure)
            for waiting in (self._paths, self._passed):
                waiting[:] = [one for one in waiting if one.backbone != path.backbone]
        if self._shared.health.down(path):
            self._shared.checks.want(path, self._route)
        self._note(path, failure)
        return failure


def _refusal(result: Reply | Lost) -> Failure | None:
    return outcome.failure(Stage.MAIL, result) if refused(result) else None
