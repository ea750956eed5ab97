"""Faults: what each kind does, where it is possible, and who breaks what when.

Whether a session gets a fault is drawn as it is opened, together with the phase that it strikes in. Others strike all
sessions of a host, an address or a network at once, and some of those last for hours. All of it is a function of the
seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from mailgate.network import Answer, NoAnswer, TcpAddress
from sim.internet import Host, Internet
from sim.records import Fault, History, Hit, Kind, Phase, Session, Side
from sim.tcp import Connection, Way
from sim.temper import poisoned

_IN_SESSION = tuple(phase for phase in Phase if phase not in (Phase.CONNECT, Phase.OVER))
_ALWAYS = (Phase.CONNECT, *_IN_SESSION)

POSSIBLE: Mapping[tuple[Side, Kind], tuple[Phase, ...]] = {
    **{(side, Kind.REFUSED): (Phase.CONNECT,) for side in Side},
    **{(side, Kind.BLACK_HOLE): _ALWAYS for side in Side},
    # While a connection is being opened, a reset is what "refused" is, and there is nothing to be half-open or slow.
    **{
        (side, kind): _IN_SESSION
        for side in Side
        for kind in (Kind.RESET, Kind.HALF_OPEN, Kind.SLOW_READER, Kind.SLOW_WRITER)
    },
    **{(side, Kind.ONE_WAY): _ALWAYS for side in Side},
    # A gateway looks up its next hops, and nobody else's names matter here.
    (Side.UPSTREAM, Kind.DNS_FAILURE): (Phase.CONNECT,),
    (Side.UPSTREAM, Kind.DNS_LIE): (Phase.CONNECT,),
    **{(side, Kind.CRASH): _ALWAYS for side in Side},
    **{(side, Kind.NO_SOURCE): _ALWAYS for side in Side},
    **{(side, Kind.GATEWAY_CRASH): _ALWAYS for side in Side},
    # A server needs a connection to say 4xx in. Our clients' servers are not asked anything.
    (Side.UPSTREAM, Kind.OVERLOAD): _IN_SESSION,
    **{(side, Kind.LOST_REPLY): (Phase.AFTER_DOT,) for side in Side},
    # A stranger has a say only where his envelope and his message are handed on.
    (Side.UPSTREAM, Kind.STRANGER): (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.AFTER_DOT),
}
"""where a fault can strike; the cells of the matrix"""

FORGOTTEN = 900.0
"""seconds after which nobody waits for a connection any more"""

_DELAYS: Mapping[Phase, float] = {
    Phase.CONNECT: 0.0,
    Phase.BODY: 0.1,
    Phase.DOT: 0.01,
    Phase.KEPT: 3.0,
}
"""seconds that a fault waits at most once its phase has begun; `_DELAY` in the others"""
_DELAY = 0.05

_PHASE_WEIGHTS: Mapping[Phase, float] = {Phase.BODY: 3.0, Phase.DOT: 1.5}
"""how often a fault is drawn for a phase; others: 1. Most bodies are through in no time, and faults come too late"""

_KIND_WEIGHTS: Mapping[Kind, float] = {
    Kind.REFUSED: 5.0,  # these two have a single cell
    Kind.LOST_REPLY: 5.0,
    Kind.CRASH: 0.5,  # these three strike everything at once
    Kind.NO_SOURCE: 0.5,
    Kind.GATEWAY_CRASH: 0.3,
}
"""the same by kind"""

_POISONED = {
    "mail": Phase.MAIL,
    "rcpt": Phase.RCPT,
    "data": Phase.DATA,
    "body": Phase.BODY,
    "dot": Phase.AFTER_DOT,
}
"""the stages at which strangers make servers fail (`sim.temper`), and where a session is then"""


class Overloadable(Protocol):
    """A server that can be overloaded."""

    def overload(self, until: float) -> None:
        """Answer everything 4xx until then."""


@dataclass(frozen=True, slots=True)
class _Due:
    """What is going to happen to a session."""

    kind: Kind
    phase: Phase
    delay: float


@dataclass(frozen=True, slots=True)
class _Area:
    """A fault that strikes everything somewhere."""

    kind: Kind
    until: float
    strikes: Callable[[Session], bool]


class Injector:
    """Breaks things, and writes down what it broke. Told of everything that could be broken; never waits."""

    def __init__(
        self,
        internet: Internet,
        history: History,
        chance: random.Random,
        servers: Mapping[str, Overloadable],
        *,
        rate: float,
        until: float,
    ) -> None:
        """`rate`: the share of sessions that get a fault of their own; `until`: when nothing is broken any more."""
        self._internet = internet
        self._history = history
        self._random = chance
        self._servers = servers
        self._rate = rate
        self._until = until
        self._due: dict[int, _Due] = {}
        self._areas: list[_Area] = []
        self._dns: tuple[Kind, float] = (Kind.DNS_FAILURE, -math.inf)  # what goes on with all look-ups, until when
        self._cells = {
            side: [
                (kind, phase)
                for (where, kind), phases in POSSIBLE.items()
                for phase in phases
                if where is side and kind not in (Kind.STRANGER, Kind.DNS_FAILURE, Kind.DNS_LIE)
            ]
            for side in Side
        }
        self._weights = {
            side: [_PHASE_WEIGHTS.get(phase, 1.0) * _KIND_WEIGHTS.get(kind, 1.0) for kind, phase in cells]
            for side, cells in self._cells.items()
        }
        internet.on_connect = self.connecting
        internet.on_query = self.asked

    # What it is told

    def connecting(self, connection: Connection) -> None:
        """Somebody calls connect."""
        session = connection.session
        side = self._history.side(session)
        if side is None:
            return
        now = trio.current_time()
        self._areas = [area for area in self._areas if area.until > now]
        for area in self._areas:
            if area.strikes(session):
                self._hit(area.kind, session)
        if now < self._until and self._random.random() < self._rate:
            (kind, phase), *_ = self._random.choices(self._cells[side], self._weights[side])
            at_once = self._random.random() < 0.5
            delay = 0.0 if at_once else self._random.uniform(0, _DELAYS.get(phase, _DELAY))
            self._due[session.number] = _Due(kind, phase, delay)
            self.moved(session)

    def moved(self, session: Session) -> None:
        """A session has come to another phase."""
        if session.phase is Phase.OVER:
            self._due.pop(session.number, None)
            return
        if session.transactions and self._history.side(session) is Side.UPSTREAM:
            self._look_for_strangers(session)
        due = self._due.get(session.number)
        if due is None or due.phase is not session.phase:
            return
        del self._due[session.number]
        if due.delay == 0:
            self._strike(session, due)
        else:
            self._internet.timeline.at(trio.current_time() + due.delay, self._strike, session, due)

    def asked(self, host: Host, name: str, record_type: str) -> Answer | NoAnswer | None:
        """A host asks DNS."""
        now = trio.current_time()
        if host.name not in self._history.gateways:
            return None
        kind, until = self._dns
        if now >= until:
            if now >= self._until or self._random.random() >= self._rate / 5:
                return None
            kind = self._random.choice((Kind.DNS_FAILURE, Kind.DNS_FAILURE, Kind.DNS_LIE))
            until = now + self._random.choice((0.0, 0.0, 60.0))
            self._dns = kind, until
            self._record(kind, f"{name} {record_type}", until)
        self._history.hits.append(Hit(kind, Phase.CONNECT, Side.UPSTREAM, 0, now))
        if kind is Kind.DNS_FAILURE:
            return NoAnswer.TEMPORARY
        return self._random.choice(_LIES.get(record_type, (NoAnswer.NO_DATA,)))

    # What it does

    def outage(self, kind: Kind, target: str, until: float) -> None:
        """Break a network, a host, or an address, from now on until then. Raises KeyError for other kinds."""
        {
            Kind.BLACK_HOLE: self._cut,
            Kind.REFUSED: self._refuse,
            Kind.CRASH: self._crash,
            Kind.GATEWAY_CRASH: self._crash,
            Kind.NO_SOURCE: self._lose,
        }[kind](kind, target, until)

    def _strike(self, session: Session, due: _Due) -> None:
        connection = self._internet.connections.get(session.number)
        if connection is None or session.phase is not due.phase or trio.current_time() >= self._until:
            return
        side = self._history.side(session)
        assert side is not None
        match due.kind:
            case Kind.CRASH:
                peer = session.server if side is Side.UPSTREAM else session.client
                if peer:
                    self._crash(due.kind, peer, self._later(5, 300))
            case Kind.GATEWAY_CRASH:
                gateway = session.client if side is Side.UPSTREAM else session.server
                self._crash(due.kind, gateway, self._later(2, 120))
            case Kind.NO_SOURCE:
                address = session.client_address if side is Side.UPSTREAM else session.server_address
                if isinstance(address, TcpAddress):
                    self._lose(due.kind, address.ip, self._later(10, 600))
            case Kind.OVERLOAD:
                if session.server in self._servers:
                    self._overload(due.kind, session.server, self._later(5, 300))
            case Kind.BLACK_HOLE if self._random.random() < 0.2:
                self._cut(due.kind, self._network(session), self._later(20, 900))
            case Kind.REFUSED if self._random.random() < 0.3:
                self._refuse(due.kind, session.server, self._later(5, 120))
                connection.refuse()
            case _:
                self._spoil(connection, side, due.kind)

    def _spoil(self, connection: Connection, side: Side, kind: Kind) -> None:
        """Do something to one connection."""
        session, now = connection.session, trio.current_time()
        # Towards the gateway's peer, and back from it.
        there, back = (Way.TO_SERVER, Way.TO_CLIENT) if side is Side.UPSTREAM else (Way.TO_CLIENT, Way.TO_SERVER)
        until = now
        self._hit(kind, session)
        match kind:
            case Kind.REFUSED:
                connection.refuse()
            case Kind.RESET:
                connection.reset()
            case Kind.HALF_OPEN:
                connection.forget()
                until = now + FORGOTTEN
            case Kind.BLACK_HOLE:
                until = self._later(10, FORGOTTEN)
                connection.drop(until)
            case Kind.ONE_WAY:
                until = self._later(10, FORGOTTEN)
                connection.drop(until, self._random.choice((there, back)))
            case Kind.SLOW_READER:
                connection.limit(there, reads=self._random.choice((3.0, 30.0, 300.0)))
                until = now + FORGOTTEN
            case Kind.SLOW_WRITER:
                connection.limit(back, writes=self._random.choice((1.0, 10.0, 100.0)))
                until = now + FORGOTTEN
            case Kind.LOST_REPLY:
                connection.drop(math.inf, Way.TO_CLIENT)
                until = now + FORGOTTEN
                if self._random.random() < 0.5:  # the connection breaks off a moment later
                    self._internet.timeline.at(now + self._random.uniform(0.5, 5), connection.reset)
        self._record(kind, f"session {session.number}", until)

    def _cut(self, kind: Kind, network: str, until: float) -> None:
        self._internet.links[network].drop(until)
        hosts = self._internet.hosts

        def in_it(name: str, address: object) -> bool:
            return (
                isinstance(address, TcpAddress) and name in hosts and hosts[name].addresses.get(address.ip) == network
            )

        self._strike_area(
            kind,
            network,
            until,
            lambda one: in_it(one.client, one.client_address) or in_it(one.server, one.server_address),
        )

    def _refuse(self, kind: Kind, host: str, until: float) -> None:
        if host in self._internet.hosts:
            self._internet.hosts[host].refuse(until)
            self._strike_area(kind, host, until, lambda one: one.server == host and one.phase is Phase.CONNECT)

    def _crash(self, kind: Kind, host: str, until: float) -> None:
        if not self._internet.hosts[host].up:
            return
        self._strike_area(kind, host, until, lambda one: host in (one.client, one.server))
        self._internet.hosts[host].crash(until)

    def _overload(self, kind: Kind, server: str, until: float) -> None:
        self._servers[server].overload(until)
        self._strike_area(kind, server, until, lambda one: one.server == server and one.phase is not Phase.CONNECT)

    def _lose(self, kind: Kind, ip: str, until: float) -> None:
        for host in self._internet.hosts.values():
            if ip in host.addresses:
                host.lose_address(ip, until)
                self._strike_area(kind, ip, until, lambda one: ip in _ips(one))

    def _strike_area(self, kind: Kind, target: str, until: float, strikes: Callable[[Session], bool]) -> None:
        self._record(kind, target, until)
        self._areas.append(_Area(kind, until, strikes))
        for connection in list(self._internet.connections.values()):
            session = connection.session
            if session.phase is not Phase.OVER and strikes(session):
                self._hit(kind, session)

    def _look_for_strangers(self, session: Session) -> None:
        stage = poisoned(session.transactions[-1].reverse_path)
        if stage and _POISONED[stage] is session.phase:
            now = trio.current_time()
            self._history.hits.append(Hit(Kind.STRANGER, session.phase, Side.UPSTREAM, session.number, now))

    # What it writes down

    def _hit(self, kind: Kind, session: Session) -> None:
        side = self._history.side(session)
        if side is not None:
            session.faults.append(kind)
            self._history.hits.append(Hit(kind, session.phase, side, session.number, trio.current_time()))

    def _record(self, kind: Kind, target: str, until: float) -> None:
        self._history.faults.append(Fault(kind, target, trio.current_time(), until))
        self._history.calm = max(self._history.calm, until)

    def _later(self, shortest: float, longest: float) -> float:
        """A time to come, short ones being as likely as long ones are."""
        span = math.exp(self._random.uniform(math.log(shortest), math.log(longest)))
        return trio.current_time() + span

    def _network(self, session: Session) -> str:
        """One of the networks that a session crosses."""
        hosts = self._internet.hosts
        crossed = [
            hosts[name].addresses[address.ip]
            for name, address in ((session.client, session.client_address), (session.server, session.server_address))
            if name in hosts and isinstance(address, TcpAddress) and address.ip in hosts[name].addresses
        ]
        return self._random.choice(crossed)


def _ips(session: Session) -> Sequence[str]:
    return [one.ip for one in (session.client_address, session.server_address) if isinstance(one, TcpAddress)]


NOBODY = "203.0.113.250"
"""an address that no host has"""

_LIES: Mapping[str, Sequence[Answer | NoAnswer]] = {
    "A": (
        Answer((NOBODY,), 30),
        Answer(("127.0.0.1",), 30),
        Answer((), 30),
        NoAnswer.NO_DATA,
        NoAnswer.NO_SUCH_DOMAIN,
    ),
    "MX": (
        Answer(("0 .",), 30),
        Answer(("10 gw1.site.example.",), 30),
        Answer(("10 nowhere.example.",), 30),
        Answer(("10 o6.mx.example.",), 30),
        NoAnswer.NO_DATA,
        NoAnswer.NO_SUCH_DOMAIN,
    ),
}
"""what a DNS server that is wrong may say, by record type; the last but one MX is a server of other domains"""
