"""What the relay needs to know, as plain values: the one bundle that the configuration turns into.

Times are in seconds, sizes in bytes. The numbers are those of the budgets in docs/ARCHITECTURE.md: each of
ours ends before the client's own wait does (RFC 5321 section 4.5.3.2).
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field

from mailgate.network import Address, HostName, TcpAddress, UnixAddress
from mailgate.protocol.framing import BareNewline
from mailgate.protocol.reply import Role

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Host = HostName | TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long we wait, in seconds."""

    connect: float = 5
    """for one TCP connection to be opened"""
    head_start: float = 0.25
    """that a path has for its TCP connect, before the next one of the same preference starts beside it"""
    reply: float = 10
    """of silence at the greeting and at EHLO, before the path counts as dead"""
    probe: float = 30
    """for the hosts of one preference to be connected, greeting and EHLO reply included"""
    envelope: float = 60
    """of silence at MAIL and RCPT: next hops that call out to verify take their time"""
    recipient: float = 180
    """for one RCPT answer, all paths together; Postfix and Exim wait 300"""
    data: float = 60
    """for a 354, replays included; clients wait 120 (RFC 5321 section 4.5.3.2.4)"""
    stall: float = 60
    """that a next hop may take no byte of what we send, and that it may hold the body's writer"""
    body: float = 120
    """of a client's silence inside the body"""
    attempts: float = 240
    """after the client's dot in which a new attempt may still start"""
    patience: float = 240
    """after the client's dot, *together*: in which a next hop that did not take the message when another one had is
    tried again"""
    delivery: float = 540
    """after the client's dot until every outcome is told; Postfix and Exim wait 600"""
    command: float = 300
    """for a client's next command"""
    client_stall: float = 120
    """that a client may take no reply before it counts as gone"""
    quit: float = 5
    """for a next hop to answer our QUIT"""
    check: float = 5
    """from the start of one check of a static host that is down to that of the next"""
    idle: float = 3
    """that an upstream session is kept for the next transaction"""
    reuse: float = 30
    """since its start in which an upstream session may begin another transaction"""
    drain: float = 30
    """that transactions before their first commit may still take once we are told to stop"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much we take."""

    message_size: int = 52_428_800
    """bytes of one message, as announced with SIZE (RFC 1870)"""
    recipients: int = 1000
    """offered in one transaction, refused or not; RFC 5321 section 4.5.3.1.8 wants 100 at least"""
    recipients_per_delivery: int = 100
    """in one upstream transaction: what every server must take (RFC 5321 section 4.5.3.1.8)"""
    deliveries: int = 500
    """next hops in one transaction, each with a connection of its own"""
    sessions: int = 1000
    """client sessions at a time, all listeners together"""
    sessions_per_host: int = 15
    """upstream sessions at a time with one host that a route names"""
    sessions_per_mx_host: int = 10
    """upstream sessions at a time with one host that was found by MX; strangers count, and ten is what they bear"""
    upstream_sessions: int = 5000
    """upstream sessions at a time in all, those kept for the next transaction included"""
    reused: int = 100
    """transactions in one upstream session"""
    bad_commands: int = 20
    """answered in one session; the next one ends it with 421"""
    hops: int = 50
    """`Received:` lines before we call it a loop (RFC 5321 section 6.3 asks for a large threshold)"""
    body_memory: int = 262_144
    """bytes of a body kept in memory before the rest goes to an unlinked temporary file"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """An uplink, chosen by the source address of our connections."""

    name: str
    sources: tuple[str, ...]
    """IP addresses of this machine, at most one per family"""
    helo: str
    """our name there, which the sources' reverse DNS should give"""

    def source(self, address: TcpAddress) -> str | None:
        """Where connections to an address come from; None: there is no source of its family."""
        six = ":" in address.ip
        for source in self.sources:
            if (":" in source) == six:
                return source
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Recipient domains → next hop: either `hosts` or, with `mx`, those that DNS names for the domain."""

    name: str
    domains: tuple[str, ...]
    """lower case: `example.org` exactly, `.example.org` its subdomains, `*` everything"""
    hosts: tuple[Host, ...] = ()
    """in order of preference"""
    protocol: Role = Role.SMTP
    backbones: tuple[Backbone, ...] = ()
    """in order of preference; none: the system chooses the source address"""
    mx: bool = False
    """look the next hop up in DNS (RFC 5321 section 5.1)"""
    port: int = 25
    """of hosts found by MX"""
    allow_private: bool = False
    """hosts found by MX may have loopback, private and other addresses that are not on the Internet"""
    address_literals: bool = False
    """`*` takes recipients at `[192.0.2.1]`, too; only with `mx`, other routes take them anyway"""
    group_domains: bool = False
    """domains with the same hosts at the same preferences share a delivery; only with `mx`"""


class SeveralNextHops(enum.Enum):
    """What becomes of a plain SMTP transaction whose recipients have different next hops."""

    APART = "apart"
    """each next hop has a transaction of its own: recipients of another one than the first's hear 452"""
    TOGETHER = "together"
    """all in one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What a client of one listening address is offered."""

    name: str
    protocol: Role
    routes: tuple[Route, ...]
    """the routes that recipients may use: this is the whole relay policy"""
    clients: tuple[IPNetwork, ...] | None = None
    """who may connect; None: everyone. Clients on a unix socket are let in by its file mode"""
    bare_newline: BareNewline = BareNewline.REPAIR
    several_next_hops: SeveralNextHops = SeveralNextHops.APART
    """of plain SMTP clients: who hears one reply per recipient (LMTP, PRDR) is served together anyway"""
    handover: Host | None = None
    """*together*: an inside MTA with a queue that takes, over SMTP, what a next hop did not when another one had"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a Gateway is told."""

    hostname: str
    """our name in greetings, EHLO and `Received:`"""
    listeners: tuple[Listener, ...]
    postmaster: str | None = None
    """where `<Postmaster>` without a domain goes; None: `postmaster@` our hostname"""
    addresses: tuple[Address, ...] = ()
    """where our listeners are, so that an MX that points there is known to be ourselves"""
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    ledger: bool = True
    """remember deliveries whose success the client was not told, so that its retry makes no second copy"""
