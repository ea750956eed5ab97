"""The demo's little internet: two gateways and three scripted servers, each on an address of its own.

Every host is a task: `await nursery.start(host.run)` switches it on, `await host.stop()` off, any number of times.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.demo.history import Arrival, Caller, Uplink, callers
from mailgate.demo.links import Links
from mailgate.gateway import Gateway
from mailgate.network import Address, Incoming, RealNetwork, TcpAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Backbone, Listener, Route, Settings, Timeouts
from mailgate.testing import ScriptedMTA, Violation


class Gw(StrEnum):
    """The gateways."""

    GW1 = "gw1"
    GW2 = "gw2"


class Server(StrEnum):
    """The scripted servers."""

    INSIDE = "inside"
    MX_A = "mx-a"
    MX_B = "mx-b"


HOMES = {"home.example": Server.INSIDE, "a.example": Server.MX_A, "b.example": Server.MX_B}
"""recipient domain → its server"""

SITE = "home.example"

TIMEOUTS = Timeouts(
    connect=1,
    head_start=0.5,
    reply=3,
    probe=4,
    envelope=4,
    recipient=6,
    data=4,
    stall=4,
    attempts=4,
    delivery=8,
    quit=2,
    check=0.5,
    drain=2,
)
"""The gateways': short, so that nobody waits long for what is broken; a client still has time to type by hand.

The head start is longer than the default: so even on a busy machine it is plain who waited for it and who did not.
"""

PATIENCE = 10.0
"""seconds in which a gateway with those timeouts has to give any answer"""

RECOVERY = 10.0
"""seconds in which a gateway has to find out that a path is back: the default's, though it looks more often here"""

ISP_A, ISP_B = "isp-a", "isp-b"

LOOPBACK = "127.0.0.1"

_IPS: dict[Gw | Server, str] = {
    Gw.GW1: "127.0.0.11",
    Gw.GW2: "127.0.0.12",
    Server.INSIDE: "127.0.0.21",
    Server.MX_A: "127.0.0.31",
    Server.MX_B: "127.0.0.32",
}


_SOURCES: dict[Gw, dict[str, str]] = {
    Gw.GW1: {ISP_A: "127.0.1.11", ISP_B: "127.0.2.11"},
    Gw.GW2: {ISP_A: "127.0.1.12", ISP_B: "127.0.2.12"},
}
"""Of each gateway's backbones, in order of preference"""


class CannotStart(Exception):
    """A host has no address to listen on."""

    def __init__(self, host: str, address: Address, error: OSError) -> None:
        why = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"{host} cannot listen on {address}: {why}; the demo needs the loopback interface, try again")


@dataclass(frozen=True, slots=True)
class Site:
    """Where the hosts are."""

    ips: dict[Gw | Server, str]
    sources: dict[Gw, dict[str, str]]

    @property
    def one_address(self) -> bool:
        """All hosts have the same address, and only their ports differ."""
        return len(dict.fromkeys(self.ips.values())) == 1


async def find_site() -> Site:
    """An address for each host; on systems where only 127.0.0.1 is there (macOS), that one for all."""
    network = RealNetwork()
    for ip in (*_IPS.values(), *(ip for sources in _SOURCES.values() for ip in sources.values())):
        try:
            incoming = await network.listen(TcpAddress(ip, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise CannotStart("the demo", TcpAddress(ip, 0), error) from None
            same = {gateway: dict.fromkeys(sources, LOOPBACK) for gateway, sources in _SOURCES.items()}
            return Site(dict.fromkeys(_IPS, LOOPBACK), same)
        await incoming.aclose()
    return Site(_IPS, _SOURCES)


class Journal(io.BytesIO):
    """What the gateways log: kept, searched for errors, and copied to where somebody wants to read it."""

    _ERROR = re.compile(rb"timestamp=\S+ level=(?:error|critical) ")

    def __init__(self, copies: Sequence[BinaryIO] = ()) -> None:
        super().__init__()
        self.errors: list[str] = []
        self._copies = copies

    def write(self, line: bytes) -> int:  # type: ignore[override]  # lines are all that comes
        if self._ERROR.match(line):
            self.errors.append(line.decode().rstrip())
        for copy in self._copies:
            copy.write(line)
            copy.flush()
        return super().write(line)

    @property
    def text(self) -> str:
        """All lines since `clear`."""
        return self.getvalue().decode()

    def clear(self) -> None:
        """Forget the lines, not the errors."""
        self.seek(0)
        self.truncate()


class ServerHost:
    """A scripted mail server on a real address."""

    def __init__(self, name: Server, ip: str) -> None:
        self.name = name
        self.mta = ScriptedMTA(name)
        self.address: TcpAddress = TcpAddress(ip, 0)
        """the port is the system's choice, made when it is first switched on"""
        self.violations: list[str] = []
        self.links = Links(ip)
        self._peers: list[Address] = []  # of each session
        self._power = _Power()
        self._ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`. Raises CannotStart."""
        with self._power.on():
            async with contextlib.AsyncExitStack() as closing, trio.open_nursery() as sessions:
                incoming, self.address = await _listen(self.name, self.links, self.address, closing)
                task_status.started()
                await _accept(incoming, self._handle, sessions)

    async def stop(self) -> None:
        """Off: nobody listens on its address, its connections are closed."""
        await self._power.off()

    @property
    def running(self) -> bool:
        """It is switched on."""
        return self._power.running

    @property
    def arrivals(self) -> Iterator[Arrival]:
        """Its messages, and who brought them."""
        brought = callers([str(getattr(peer, "ip", peer)) for peer in self._peers], self.mta.sessions)
        for message in self.mta.messages:
            yield Arrival(self.name.value, message, brought(message.time))

    async def quiet(self) -> None:
        """Wait until it has no session."""
        while self.mta.open_sessions:
            self._ended = trio.Event()
            await self._ended.wait()

    async def _handle(self, stream: trio.abc.Stream, peer: Address) -> None:
        self._peers.append(peer)
        try:
            await self.mta.handle(stream, peer)
        except Violation as violation:
            self.violations.append(str(violation))
        finally:
            self._ended.set()


class GatewayHost:
    """A gateway on real addresses: SMTP for the outside, LMTP for the inside."""

    def __init__(self, name: Gw, site: Site, servers: dict[Server, ServerHost], log: FilteringBoundLogger) -> None:
        ip = site.ips[name]
        self.name = name
        self.links = Links(ip)
        self.sources = site.sources[name]
        """backbone → its source address"""
        self.backbones = tuple(
            Backbone(name=backbone, sources=(source,), helo=f"{name}-{backbone}.{SITE}")
            for backbone, source in self.sources.items()
        )
        self.smtp: TcpAddress = TcpAddress(ip, 0)
        self.lmtp: TcpAddress = TcpAddress(ip, 0)
        self._servers = servers
        self._log = log.bind(gateway=name)
        self._gateway: Gateway | None = None
        self._power = _Power()
        self._drain = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` or `drain`. Raises CannotStart."""
        settings = self._settings()
        outside, inside = settings.listeners
        gateway = self._gateway = Gateway(settings, self.links, self._log)
        self._drain = trio.Event()

        with self._power.on():
            async with contextlib.AsyncExitStack() as closing, trio.open_nursery() as sessions:
                smtp, self.smtp = await _listen(self.name, self.links, self.smtp, closing)
                lmtp, self.lmtp = await _listen(self.name, self.links, self.lmtp, closing)
                await sessions.start(gateway.run)
                task_status.started()
                async with trio.open_nursery() as accepting:  # ends by being cancelled
                    accepting.start_soon(_accept, smtp, functools.partial(gateway.serve, outside), sessions)
                    accepting.start_soon(_accept, lmtp, functools.partial(gateway.serve, inside), sessions)
                    await self._drain.wait()
                    accepting.cancel_scope.cancel()
                await gateway.drain()

    async def stop(self) -> None:
        """Off, at once, whatever it is doing: what a crash leaves."""
        await self._power.off()

    @property
    def knows_all_up(self) -> bool:
        """It knows of no path that is down."""
        return self._gateway is None or all(path.up for path in self._gateway.status().paths)

    def uplinks(self, server: Server) -> Iterator[Uplink]:
        """How it may come to a server."""
        if server is HOMES[SITE]:
            yield Uplink(self.name, "", Caller(self.links.ip, self.hostname))
            return
        for backbone in self.backbones:
            yield Uplink(self.name, backbone.name, Caller(self.sources[backbone.name], backbone.helo))

    @property
    def hostname(self) -> str:
        """What it calls itself where no backbone has a name for it."""
        return f"{self.name}.{SITE}"

    async def drain(self) -> None:
        """Off, in the way of SIGTERM."""
        self._drain.set()
        await self._power.stopped.wait()

    @property
    def running(self) -> bool:
        """It is switched on."""
        return self._power.running

    def _settings(self) -> Settings:
        routes = {
            domain: Route(
                name=server.value,
                domains=(domain,),
                hosts=(self._servers[server].address,),
                backbones=() if domain == SITE else self.backbones,
            )
            for domain, server in HOMES.items()
        }
        outside = Listener(name="from-outside", protocol=Role.SMTP, routes=(routes[SITE],))
        inside = Listener(
            name="from-inside",
            protocol=Role.LMTP,
            routes=tuple(route for domain, route in routes.items() if domain != SITE),
            clients=(ipaddress.ip_network("127.0.0.0/8"),),
        )
        return Settings(hostname=self.hostname, listeners=(outside, inside), timeouts=TIMEOUTS)


_TORN = re.compile(r"\[[1-9][0-9]* bytes without a dot\]")


class World:
    """All hosts. Who starts them owns the nursery that they run in."""

    def __init__(self, site: Site, journal: Journal, log: FilteringBoundLogger) -> None:
        self.journal = journal
        self.servers = {name: ServerHost(name, site.ips[name]) for name in Server}
        self.gateways = {name: GatewayHost(name, site, self.servers, log) for name in Gw}

    @property
    def hosts(self) -> list[ServerHost | GatewayHost]:
        """In the order in which they are started: the gateways need to know where the servers are."""
        return [*self.servers.values(), *self.gateways.values()]

    @property
    def torn(self) -> int:
        """Messages that came to a server in part, and whose dot did not come."""
        transcripts = [session for server in self.servers.values() for session in server.mta.sessions]
        return sum(bool(_TORN.fullmatch(line.text)) for transcript in transcripts for line in transcript.lines)

    def name_of(self, address: Address) -> str:
        """The gateway that listens there."""
        return next(name.value for name, host in self.gateways.items() if address in (host.smtp, host.lmtp))


class _Power:
    """Whether a host is switched on."""

    def __init__(self) -> None:
        self.running = False
        self.stopped = trio.Event()
        self._scope = trio.CancelScope()

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """The host's task runs within; what it opens it closes within, too."""
        self._scope, self.stopped, self.running = trio.CancelScope(), trio.Event(), True
        try:
            with self._scope:
                yield
        finally:
            self.running = False
            self.stopped.set()

    async def off(self) -> None:
        """Cancel the host's task, and wait until everything of it is closed."""
        if self.running:
            self._scope.cancel()
            await self.stopped.wait()


async def _listen(
    name: str, network: Links, address: TcpAddress, closing: contextlib.AsyncExitStack
) -> tuple[Incoming, TcpAddress]:
    try:
        incoming = await network.listen(address)
    except OSError as error:
        raise CannotStart(name, address, error) from None
    await closing.enter_async_context(contextlib.aclosing(incoming))
    assert isinstance(incoming.address, TcpAddress)
    return incoming, incoming.address


async def _accept(
    incoming: Incoming,
    handle: Callable[[trio.abc.Stream, Address], Awaitable[None]],
    sessions: trio.Nursery,
) -> None:
    while True:
        stream, peer, _ = await incoming.accept()
        sessions.start_soon(handle, stream, peer)
