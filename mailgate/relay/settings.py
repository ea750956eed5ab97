"""What the relay needs to know, as plain values: the one bundle that the configuration turns into.

Times are in seconds, sizes in bytes. The numbers are those of the budgets in docs/ARCHITECTURE.md: each of
ours ends before the client's own wait does (RFC 5321 section 4.5.3.2).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from mailgate.network import HostName, TcpAddress, UnixAddress
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
    reply: float = 10
    """of silence at the greeting and at EHLO, before the path counts as dead"""
    probe: float = 30
    """for one host to be connected, its greeting and EHLO reply included"""
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
    delivery: float = 540
    """after the client's dot until every outcome is told; Postfix and Exim wait 600"""
    command: float = 300
    """for a client's next command"""
    client_stall: float = 120
    """that a client may take no reply before it counts as gone"""
    quit: float = 5
    """for a next hop to answer our QUIT"""
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
    sessions: int = 1000
    """client sessions at a time, all listeners together"""
    bad_commands: int = 20
    """answered in one session; the next one ends it with 421"""
    hops: int = 50
    """`Received:` lines before we call it a loop (RFC 5321 section 6.3 asks for a large threshold)"""
    body_memory: int = 262_144
    """bytes of a body kept in memory before the rest goes to an unlinked temporary file"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Recipient domains → next hop."""

    name: str
    domains: tuple[str, ...]
    """lower case: `example.org` exactly, `.example.org` its subdomains, `*` everything"""
    hosts: tuple[Host, ...]
    """in order of preference"""
    protocol: Role = Role.SMTP


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a Gateway is told."""

    hostname: str
    """our name in greetings, EHLO and `Received:`"""
    listeners: tuple[Listener, ...]
    postmaster: str | None = None
    """where `<Postmaster>` without a domain goes; None: `postmaster@` our hostname"""
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
