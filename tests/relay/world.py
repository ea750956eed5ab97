"""A gateway between scripted mail servers and clients, all in memory and on virtual time.

    async def test_something(autojump_clock: MockClock) -> None:
        async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(rcpt="550 no"), Script())) as world:
            client = await world.client("smtp")
            await client.play('''
                C: MAIL FROM:<s@in.example>
                S: 250 2.1.0 ...
            ''')
            told = await client.transact("u@a.example", "v@a.example")
            assert world.mta("a1").messages == []

A hop NAME is a route for `NAME.example`, and its scripts are its hosts NAME1, NAME2 … in order of preference. On
leaving, the gateway is drained, and nothing may be left of it: no connection, no task, no file.

`World(…, gateways=2)` has two of them before the same next hops; `world.client(gateway=1)` goes to the second.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, cast

import structlog
import trio
from structlog.testing import LogCapture
from structlog.typing import EventDict, FilteringBoundLogger

from mailgate.gateway import Gateway
from mailgate.network import Address, Answer, HostName, TcpAddress
from mailgate.protocol.framing import BareNewline
from mailgate.protocol.reply import Role
from mailgate.relay.settings import (
    Backbone,
    Host,
    IPNetwork,
    Limits,
    Listener,
    Route,
    Settings,
    SeveralNextHops,
    Timeouts,
)
from mailgate.store import Store
from mailgate.testing import BoundedStream, Dialog, MemoryNetwork, Script, ScriptedMTA, bounded_stream_pair

Speaks = Literal["smtp", "lmtp"]
BOTH: tuple[Speaks, Speaks] = ("smtp", "lmtp")

CLIENT = TcpAddress("192.0.2.1", 4025)
"""where clients come from unless a test says otherwise"""

HANDOVER = TcpAddress("10.1.0.1", 25)
"""where the inside MTA is that takes what is handed over, if a test has one"""

CONTENT = b"Subject: test\r\n\r\nhello\r\n.dot\r\n"
"""what `transact` sends unless a test says otherwise, without dot-stuffing"""

FOREVER = 100_000.0
"""virtual seconds after which a test has hung"""

# What is said in these tests again and again: by the scripted servers, and by mailgate.

TAKEN = "250 2.1.5 recipient ok"
DONE = "250 2.0.0 taken"

SENDER = "250 2.1.0 Sender ok"
GO_AHEAD = "354 End data with <CR><LF>.<CR><LF>"
NO_PATH = "451 4.4.1 No path to the next hop, try later or elsewhere"
LOST = "451 4.4.2 The next hop was lost, try later or elsewhere"
UNKNOWN = "451 4.4.2 The next hop did not confirm the message, try again"
NOT_FOUND = "451 4.4.3 The next hop could not be looked up, try later or elsewhere"
TOO_LATE = "451 4.4.7 The next hop took too long, try later or elsewhere"
NOT_ALL = "451 4.3.0 Not all recipients have the message, try again"
NOT_ALL_WILLING = "451 4.5.3 Not all recipients take the message, try again: then each hears its own answer"
DELIVERED_ALREADY = "250 2.0.0 Delivered already"
NOBODY_NOW = "451 4.3.0 No next hop takes the message now, try later or elsewhere"
ANOTHER_HOP = "452 4.5.3 Goes to another next hop, send it in another transaction"
PUT_OFF = "452 4.5.3 Has kept others waiting, send it in another transaction"
FULL = "452 4.5.3 Too many recipients for this next hop, send the rest in another transaction"
NO_ROUTE = "550 5.7.1 This domain is not served here, relaying denied"
TOO_BIG = "552 5.3.4 Message exceeds the size limit"


class Hop:
    """A next hop: one script per host, in order of preference."""

    def __init__(
        self,
        name: str,
        *scripts: Script,
        speaks: Speaks = "smtp",
        domains: Sequence[str] = (),
        names: Sequence[str] = (),
        mx: Sequence[int] = (),
        backbones: Sequence[Backbone] = (),
        group_domains: bool = False,
    ) -> None:
        """`names`: host names instead of addresses, one per script; the world's DNS knows their A records.

        `mx`: preferences, one per script. Then the hosts are found by the MX of the hop's domains; unless `names` are
        given, host number 2 of hop `a` is `a2.mx.example`.
        """
        self.name = name
        self.scripts = scripts or (Script(),)
        self.speaks: Speaks = speaks
        self.domains = tuple(domains) or (f"{name}.example",)
        self.mx = tuple(mx)
        self.names = tuple(names) or tuple(f"{name}{number}.mx.example" for number, _ in enumerate(mx, 1))
        self.backbones = tuple(backbones)
        self.group_domains = group_domains


@dataclass(frozen=True, slots=True)
class Told:
    """What the client of one transaction was told; a reply's lines are joined by newlines."""

    mail: str
    rcpts: tuple[str, ...] = ()
    data: str = ""
    outcomes: tuple[str, ...] = ()
    """behind the dot: one, or with LMTP one per accepted recipient, or with PRDR 353, these, and the final one"""


class World:
    """A gateway, or several, its next hops and its clients. The nursery is the test's, and ends with the world."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *hops: Hop,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        postmaster: str | None = None,
        bare_newline: BareNewline = BareNewline.REPAIR,
        clients: tuple[IPNetwork, ...] | None = None,
        capacity: int = 65_536,
        several_next_hops: SeveralNextHops = SeveralNextHops.APART,
        handover: Script | None = None,
        ledger: bool = True,
        store: Store | None = None,
        gateways: int = 1,
    ) -> None:
        """`capacity`: bytes buffered per direction of a connection to a next hop.

        `several_next_hops` and `handover` are the listeners'; the inside MTA that follows that script is
        `mta("handover")`. `store`: what the gateways share besides their next hops.
        """
        self.nursery = nursery
        self.network = MemoryNetwork(nursery, capacity=capacity)
        self.mtas: dict[str, ScriptedMTA] = {}
        self.captured = LogCapture()
        routes = tuple(self._route(number, hop) for number, hop in enumerate(hops))
        handed_to = None if handover is None else self._serve_mta("handover", "smtp", handover, HANDOVER)
        self.listeners: dict[Speaks, Listener] = {
            role.value: Listener(
                name=role.value,
                protocol=role,
                routes=routes,
                clients=clients,
                bare_newline=bare_newline,
                several_next_hops=several_next_hops,
                handover=handed_to,
            )
            for role in Role
        }
        self.settings = Settings(
            hostname="gw.example",
            listeners=tuple(self.listeners.values()),
            postmaster=postmaster,
            timeouts=timeouts or Timeouts(),
            limits=limits or Limits(),
            ledger=ledger,
        )
        logger = structlog.wrap_logger(
            None,
            processors=[self.captured],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )
        self.gateways = tuple(
            Gateway(
                dataclasses.replace(self.settings, hostname=name),
                self.network,
                cast(FilteringBoundLogger, logger.bind()),
                store,
            )
            for name in ("gw.example", *(f"gw{number}.example" for number in range(2, gateways + 1)))
        )
        self.gateway = self.gateways[0]
        self.clients: list[Client] = []
        self.bugs_expected = False
        """the test makes mailgate's own code fail: `session_failed` and `delivery_failed` are no failure of the test"""
        self._descriptors = 0

    def _route(self, number: int, hop: Hop) -> Route:
        hosts: list[Host] = []
        for place, script in enumerate(hop.scripts, 1):
            name, address = f"{hop.name}{place}", TcpAddress(f"10.0.{number}.{place}", 25)
            self._serve_mta(name, hop.speaks, script, address)
            if hop.names:
                hosts.append(HostName(hop.names[place - 1], 25))
                self.network.records[hop.names[place - 1], "A"] = Answer((address.ip,), 60)
            else:
                hosts.append(address)
        if hop.mx:
            mail = tuple(f"{preference} {name}." for preference, name in zip(hop.mx, hop.names, strict=True))
            for domain in hop.domains:
                self.network.records[domain, "MX"] = Answer(mail, 60)
        return Route(
            name=hop.name,
            domains=hop.domains,
            hosts=() if hop.mx else tuple(hosts),
            protocol=Role(hop.speaks),
            backbones=hop.backbones,
            mx=bool(hop.mx),
            allow_private=bool(hop.mx),
            group_domains=hop.group_domains,
        )

    def _serve_mta(self, name: str, speaks: Speaks, script: Script, address: TcpAddress) -> TcpAddress:
        self.mtas[name] = ScriptedMTA(name, speaks, script)
        self.network.serve(address, self.mtas[name].handle)
        return address

    # What a test uses

    async def client(
        self,
        speaks: Speaks = "smtp",
        *,
        capacity: int = 65_536,
        pair: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
        peer: Address = CLIENT,
        greeted: bool = True,
        gateway: int = 0,
    ) -> Client:
        """A connected client that has said EHLO or LHLO, or, if not `greeted`, has not even read the greeting.

        `pair` (the client's end, ours) in place of a bounded pair of that capacity. `gateway`: which one, from 0.
        """
        client = self._connect(speaks, pair or bounded_stream_pair(capacity), peer, self.gateways[gateway])
        if greeted:
            await client.hello()
        return client

    def _connect(
        self, speaks: Speaks, pair: tuple[trio.abc.Stream, trio.abc.Stream], peer: Address, gateway: Gateway
    ) -> Client:
        near, far = pair
        client = Client(self, near, far, speaks, gateway.settings.hostname)
        self.clients.append(client)
        self.nursery.start_soon(self._serve, gateway, self.listeners[speaks], far, peer, client)
        return client

    def mta(self, name: str) -> ScriptedMTA:
        """A host of a hop: `mta("a1")` is the first one of hop `a`."""
        return self.mtas[name]

    def address(self, name: str) -> Address:
        """Where a host is: for `network.refuse`, `network.black_hole` and the like."""
        return next(address for address, handler in self.network._handlers.items() if handler == self.mtas[name].handle)

    @property
    def log(self) -> list[EventDict]:
        """All events, `event` and `log_level` among their keys."""
        return list(self.captured.entries)

    def events(self, *names: str) -> list[EventDict]:
        """The events of some names; without names, those that an operator sees: info and above."""
        if names:
            return [event for event in self.log if event["event"] in names]
        return [event for event in self.log if event["log_level"] != "debug"]

    @property
    def messages(self) -> dict[str, int]:
        """How many messages each host got up to their dots."""
        return {name: len(mta.messages) for name, mta in self.mtas.items()}

    # Its life

    async def __aenter__(self) -> World:
        self._descriptors = _descriptors()
        self.nursery.cancel_scope.deadline = trio.current_time() + FOREVER
        for gateway in self.gateways:
            await self.nursery.start(gateway.run)
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        return self._succeeded() if error is None else self._failed(error)

    async def _succeeded(self) -> None:
        self.nursery.cancel_scope.deadline = math.inf
        with trio.fail_after(FOREVER):
            for gateway in self.gateways:
                await gateway.drain()
        await trio.sleep(self.settings.timeouts.quit + 1)  # longer than any goodbye
        self._check_nothing_left()
        self.nursery.cancel_scope.cancel()

    async def _failed(self, error: BaseException) -> None:
        if trio.current_time() >= self.nursery.cancel_scope.deadline:
            raise AssertionError("the test hung; the last events: " + "; ".join(map(str, self.log[-5:]))) from error
        self.nursery.cancel_scope.cancel()

    async def _serve(
        self, gateway: Gateway, listener: Listener, stream: trio.abc.Stream, peer: Address, client: Client
    ) -> None:
        await gateway.serve(listener, stream, peer)
        client.ended.set()

    def _check_nothing_left(self) -> None:
        assert self.network.open_streams == 0, "connections to next hops are left"
        open_clients = [one for one in self.clients if isinstance(one.far, BoundedStream) and not one.far.closed]
        assert not open_clients, "connections to clients are left"
        tasks = [task.name for task in self.nursery.child_tasks if not task.name.startswith("connection to ")]
        assert not tasks, f"tasks are left: {tasks}"
        assert _descriptors() == self._descriptors, "a file is left"
        if not self.bugs_expected:
            assert self.events("session_failed", "delivery_failed") == []


class Client:
    """A client of the gateway."""

    def __init__(
        self,
        world: World,
        near: trio.abc.Stream,
        far: trio.abc.Stream,
        speaks: Speaks,
        gateway: str = "gw.example",
    ) -> None:
        """`gateway`: its hostname."""
        self.stream = near
        self.far = far
        """the gateway's end"""
        self.speaks = speaks
        self.ended = trio.Event()
        """the gateway has served it to its end"""
        self.dialog = Dialog(near, patience=1000)
        self._world = world
        self._gateway = gateway

    async def play(self, script: str) -> list[str]:
        """Play a piece of a dialog (see mailgate.testing.Dialog.play); returns the gateway's lines."""
        return await self.dialog.play(script)

    async def hello(self, name: str = "client.example") -> list[str]:
        """Read the greeting, say EHLO or LHLO, and return what is offered."""
        verb = "LHLO" if self.speaks == "lmtp" else "EHLO"
        await self.play(f"S: 220 ...\nC: {verb} {name}")
        first, *keywords = (await self.reply()).split("\n")
        assert first == f"250-{self._gateway}"
        return [keyword[4:] for keyword in keywords]

    async def reply(self) -> str:
        """The next reply, whatever it is, its lines joined by newlines."""
        lines = await self.play("S: ...")
        while lines[-1][3:4] == "-":
            lines += await self.play("S: ...")
        return "\n".join(lines)

    async def envelope(self, *recipients: str, sender: str = "s@in.example", parameters: str = "") -> Told:
        """MAIL, then all RCPTs at once."""
        await self.play(f"C: MAIL FROM:<{sender}>{parameters}")
        mail = await self.reply()
        await self.play("\n".join(f"C: RCPT TO:<{recipient}>" for recipient in recipients))
        return Told(mail, tuple([await self.reply() for _ in recipients]))

    async def transact(
        self, *recipients: str, sender: str = "s@in.example", parameters: str = "", content: bytes = CONTENT
    ) -> Told:
        """One transaction, RCPTs pipelined, as far as it goes; `parameters` of MAIL begin with a space."""
        told = await self.envelope(*recipients, sender=sender, parameters=parameters)
        accepted = [one for one in told.rcpts if one.startswith("2")]
        if not accepted:
            return told
        await self.play("C: DATA")
        data = await self.reply()
        if not data.startswith("3"):
            return Told(told.mail, told.rcpts, data)
        await self.send(wire(content))
        due = len(accepted) if self.speaks == "lmtp" else len(accepted) + 2 if "PRDR" in parameters.split() else 1
        return Told(told.mail, told.rcpts, data, tuple([await self.reply() for _ in range(due)]))

    async def send(self, data: bytes) -> None:
        """Send octets as they are."""
        await self.stream.send_all(data)

    async def quit(self) -> None:
        """QUIT, and see the end."""
        await self.play("C: QUIT\nS: 221 2.0.0 Bye\nS.")
        await self.ended.wait()


def wire(content: bytes) -> bytes:
    """A message as it goes over the wire behind the 354: dot-stuffed, with its end."""
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    return stuffed + b".\r\n"


def _descriptors() -> int:
    """Files and sockets that this process has open."""
    return len(os.listdir("/proc/self/fd"))
