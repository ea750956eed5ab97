"""The Gateway: what outlives a session, and the boundary where a session's errors end."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import Address, Network
from mailgate.protocol.reply import Reply, reply
from mailgate.relay import status
from mailgate.relay.conversation import Conversation, admitted
from mailgate.relay.ledger import Remembered
from mailgate.relay.settings import Listener, Settings
from mailgate.relay.shared import Shared
from mailgate.relay.status import ListenerStatus, RecipientCounts, Status, UpstreamStatus
from mailgate.store import Store


class Gateway:
    """A mail gateway over any streams. The nursery is yours:

    await nursery.start(gateway.run)
    await gateway.serve(listener, stream, peer)     # once per connection, each in its own task
    """

    def __init__(
        self,
        settings: Settings,
        network: Network,
        log: FilteringBoundLogger | None = None,
        store: Store | None = None,
    ) -> None:
        """`store`: memory that the gateways of a site share (docs/configuration.md, `[ledger]`)."""
        self.settings = settings
        self._log: FilteringBoundLogger = log or structlog.get_logger("mailgate")
        self._shared = Shared(settings, network, self._log, store)
        self._conversations: dict[Conversation, Listener | None] = {}  # None: it is being sent away
        self._running = False
        self._began: float | None = None
        self._started: datetime.datetime | None = None
        self._stop = trio.Event()
        self._draining = False
        self._left = trio.Event()

    @property
    def counts(self) -> Mapping[str, int]:
        """Recipients since the start, but those whose transaction the client took back or left: `delivered`,
        `rejected`, `deferred`, `unknown`; of those delivered, `untold` had a client that was gone before it could
        hear so.
        """
        return self._shared.counts

    def status(self) -> Status:
        """What it is doing now. With thousands of paths this takes some 50 ms, and nothing else runs meanwhile."""
        now, settings, shared = trio.current_time(), self.settings, self._shared
        records = shared.health.records()
        sessions = Counter(served.name for served in self._conversations.values() if served is not None)
        deliveries = [one for one in (each.deliveries for each in self._conversations) if one is not None]
        paths, hosts = status.paths(records, now), status.hosts(records)
        counts = {key: shared.counts[key] for key in RecipientCounts.__dataclass_fields__}
        return Status(
            format=status.FORMAT,
            version=_version(),
            hostname=settings.hostname,
            time=_rfc_3339(shared.network.now()),
            started=None if self._started is None else _rfc_3339(self._started),
            running_for=0.0 if self._began is None else round(now - self._began, 3),
            draining=self._draining,
            sessions=sessions.total(),
            sessions_limit=settings.limits.sessions,
            listeners=tuple(
                ListenerStatus(name=one.name, protocol=one.protocol.value, sessions=sessions[one.name])
                for one in settings.listeners
            ),
            transactions=len(deliveries),
            deliveries=sum(deliveries),
            upstream=UpstreamStatus(
                held=shared.upstreams.held, kept=shared.upstreams.kept, limit=settings.limits.upstream_sessions
            ),
            recipients=RecipientCounts(**counts),
            ledger=shared.recall.status(),
            backbones=status.backbones((route for one in settings.listeners for route in one.routes), records, now),
            paths=paths,
            paths_left_out=len(records.paths) - len(paths),
            hosts=hosts,
            hosts_left_out=len(records.hosts) - len(hosts),
        )

    def remembered(self) -> Remembered:
        """What the gateway that is started in its place should know, of deliveries whose clients were not told.

        Ask when `drain` is through; `remember` is for the next one.
        """
        return self._shared.recall.remembered()

    def remember(self, remembered: Remembered) -> None:
        """Take over what a gateway that has ended had `remembered`."""
        self._shared.recall.restore(remembered)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own what sessions leave behind: upstream sessions, kept or told QUIT, and the checks of paths that are down.

        Ends when `drain` is through.
        """
        upstreams, checks = self._shared.upstreams, self._shared.checks
        async with trio.open_nursery() as goodbyes:  # end by themselves
            try:
                async with trio.open_nursery() as watches:  # end by being cancelled
                    upstreams.start = functools.partial(self._start, goodbyes)
                    checks.start = functools.partial(self._start, watches)
                    checks.start(upstreams.expire)
                    self._running = True
                    self._began, self._started = trio.current_time(), self._shared.network.now()
                    task_status.started()
                    await self._stop.wait()
                    watches.cancel_scope.cancel()
            finally:
                self._running = False
                upstreams.part_with_all()
                upstreams.start = checks.start = None

    def _start(self, nursery: trio.Nursery, function: Callable[..., Awaitable[None]], *about: object) -> None:
        nursery.start_soon(functools.partial(self._in_background, function, *about))

    async def _in_background(self, function: Callable[..., Awaitable[None]], *about: object) -> None:
        """What is done for no client in particular: if it fails, everything else goes on."""
        try:
            await function(*about)
        except* Exception:
            self._log.exception("background_failed", task=function.__name__)

    async def serve(self, listener: Listener, stream: trio.abc.Stream, peer: Address) -> None:
        """Serve one client connection to its end, and close it. `run` must be running.

        What goes wrong in a session is a log line; nothing but cancellation comes out of here. Raises RuntimeError if
        `run` was not started; the stream is then still yours.
        """
        if not self._running and not self._draining:
            raise RuntimeError("start Gateway.run in your nursery first")
        session_id = f"{self._shared.network.random.getrandbits(48):012x}"
        log = self._log.bind(id=session_id)
        refusal = self._refusal(listener, peer)
        conversation = Conversation(listener, stream, peer, session_id, self._shared, log)
        self._conversations[conversation] = listener if refusal is None else None
        try:
            log.debug("connected", client=peer, listener=listener.name)
            await conversation.run(refusal)
            await stream.aclose()
        except* Exception:
            log.exception("session_failed", client=peer, listener=listener.name)
        finally:
            del self._conversations[conversation]
            self._left.set()
            self._left = trio.Event()
            await trio.aclose_forcefully(stream)
        log.debug("closed")

    def _refusal(self, listener: Listener, peer: Address) -> Reply | None:
        hostname = self.settings.hostname
        if not admitted(listener, peer):
            return reply(554, "5.7.1", f"{hostname} You may not connect here")
        if self._draining:
            return reply(421, "4.3.2", f"{hostname} Shutting down, try later or elsewhere")
        if sum(served is not None for served in self._conversations.values()) >= self.settings.limits.sessions:
            return reply(421, "4.3.2", f"{hostname} Too many sessions, try later or elsewhere")
        if self._shared.checks.nobody_home(listener):
            return reply(421, "4.3.2", f"{hostname} No next hop can be reached, try later or elsewhere")
        return None

    async def drain(self) -> None:
        """Stop, with nothing lost: new clients and those between transactions hear 421, transactions have
        `timeouts.drain` seconds to reach their first commit, committed ones run to their outcome. Then `run` ends.
        """
        self._draining = True
        until = trio.current_time() + self.settings.timeouts.drain
        for conversation in list(self._conversations):
            conversation.drain(until)
        with trio.move_on_at(until):
            await self._empty()
        for conversation in list(self._conversations):
            conversation.stop()
        await self._empty()
        self._stop.set()

    async def _empty(self) -> None:
        while self._conversations:
            await self._left.wait()


def _rfc_3339(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("mailgate")
    except importlib.metadata.PackageNotFoundError:  # it is part of something else
        return "unknown"
