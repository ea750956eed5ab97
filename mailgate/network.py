"""The one seam to the world: connections, listening, DNS, the wall clock and randomness.

Nothing above this module opens a socket, asks DNS, reads a clock other than Trio's or makes randomness.
`RealNetwork` is the real one; tests, the demo and simulations supply others that fit the `Network` protocol.
"""

from __future__ import annotations

import abc
import contextlib
import datetime
import enum
import errno
import fcntl
import ipaddress
import os
import random
import socket
import stat
import sys
import termios
from dataclasses import dataclass
from typing import Protocol

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import trio

from mailgate.network_files import Watched, read_hosts, read_resolv_conf


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address (v4 or v6, as text) and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket by its path. A peer of such a socket usually has the empty path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class HostName:
    """A host by name and port, still to be looked up: /etc/hosts first, then DNS."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS says of a name: its records in presentation format, and for how many seconds that holds."""

    records: tuple[str, ...]
    ttl: float


class NoAnswer(enum.Enum):
    """Why a DNS query has no records."""

    NO_SUCH_DOMAIN = "no such domain"
    NO_DATA = "no records of that type"
    TEMPORARY = "temporary failure"


class NoSuchSource(OSError):
    """The source address of a connection is not, or no longer, one of this machine: bind() said EADDRNOTAVAIL."""


class Incoming(trio.abc.AsyncResource):
    """A listening address; leaving its `async with` stops listening."""

    @property
    @abc.abstractmethod
    def address(self) -> Address:
        """Where it listens; a port that was 0 is the real one here."""

    @abc.abstractmethod
    async def accept(self) -> tuple[trio.abc.Stream, Address, Address]:
        """Wait for one connection: (stream, peer, local).

        Raises OSError when the system has no resources for it (EMFILE, ENOBUFS …); the listener stays usable, and
        the connection waits: pause before the next call. Raises ClosedResourceError once it is closed.
        """


class Network(Protocol):
    """What a gateway needs of the world."""

    @property
    def random(self) -> random.Random:
        """The one source of randomness."""
        ...

    async def connect(self, address: Address, source: str | None = None) -> trio.abc.Stream:
        """Open a connection, from the source IP address if one is given. Raises OSError; NoSuchSource if we lack that.

        It has no time limit of its own: the caller's cancel scope is the limit.
        """
        ...

    async def listen(self, address: Address) -> Incoming:
        """Listen on an address. Raises OSError."""
        ...

    def has_address(self, ip: str) -> bool:
        """Whether connections to that IP address reach this machine, as far as its own addresses tell."""
        ...

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        """Ask DNS for records (`A`, `AAAA`, `MX` …) of a name. Never raises for what DNS may say."""
        ...

    async def local_names(self, name: str) -> tuple[str, ...]:
        """The IP addresses that /etc/hosts gives a name; none: ask DNS."""
        ...

    def now(self) -> datetime.datetime:
        """The wall clock, with a time zone: for `Received:` lines and logs only."""
        ...


BACKLOG = 65_535
"""connections that may wait to be accepted; more than any kernel grants, which cuts it to its own limit"""

QUERY_LIFETIME = 10.0
"""seconds that one DNS query may take, all servers and repetitions together"""

_DISCARD = 9  # the port that nothing is expected of (RFC 863)
_IP_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)  # Python has the name from 3.12 on


class RealNetwork:
    """The `Network` of this machine."""

    def __init__(
        self,
        dns_servers: tuple[TcpAddress, ...] = (),
        *,
        hosts: str = "/etc/hosts",
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        """`dns_servers`: where to ask, in this order; none: those of `resolv_conf`, followed as it changes."""
        self._random = random.Random()
        self._hosts: Watched[dict[str, tuple[str, ...]]] = Watched(hosts, read_hosts, {})
        self._system: Watched[dns.asyncresolver.Resolver | None] = Watched(resolv_conf, read_resolv_conf, None)
        self._configured = _resolver(dns_servers) if dns_servers else None

    @property
    def random(self) -> random.Random:
        """Randomness, seeded by the system."""
        return self._random

    async def connect(self, address: Address, source: str | None = None) -> trio.SocketStream:
        """Open a connection, from the source IP address if one is given. Raises OSError; NoSuchSource if we lack that.

        The source must be of the address's family. A connect that fails or is cancelled leaves no socket.
        """
        connection = trio.socket.socket(_family(address), socket.SOCK_STREAM)
        connected = False
        try:
            if source is not None and isinstance(address, TcpAddress):
                # Without this, bind() takes a port for itself alone, and 28,000 connections from a source
                # address would be the limit, instead of as many to each destination. Old kernels lack it.
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                try:
                    await connection.bind((source, 0))
                except OSError as error:
                    if error.errno == errno.EADDRNOTAVAIL:  # connect() says so, too, when it finds no free port
                        raise NoSuchSource(error.errno, error.strerror) from error
                    raise
            await connection.connect(_socket_address(address))
            # A unix socket whose backlog is full says EAGAIN, which Trio takes for "on its way". This then says
            # that it is not connected.
            connection.getpeername()
            connected = True
        finally:
            if not connected:
                connection.close()
        return trio.SocketStream(connection)

    async def listen(self, address: Address) -> RealIncoming:
        """Listen on an address. Raises OSError.

        `::` takes IPv6 only. A unix socket's file that is there already is replaced if nobody listens on it.
        """
        listening = trio.socket.socket(_family(address), socket.SOCK_STREAM)
        bound = False
        try:
            if isinstance(address, UnixAddress):
                _remove_stale(address.path)
            else:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if listening.family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await listening.bind(_socket_address(address))
            listening.listen(BACKLOG)
            bound = True
        finally:
            if not bound:
                listening.close()
        return RealIncoming(trio.SocketListener(listening))

    def has_address(self, ip: str) -> bool:
        """Whether connections to that IP address reach this machine: its own, loopback and unspecified ones.

        Blocks for a few system calls (20 µs), sends nothing. What is no IP address, or has a scope id, is not ours.
        """
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        if address.is_unspecified or address.is_multicast or "%" in ip:
            return address.is_unspecified
        with socket.socket(_family(TcpAddress(ip, 0)), socket.SOCK_DGRAM) as probe:
            try:
                # With ip_nonlocal_bind, as for VRRP, bind() takes any address. What then sends from it must be ours:
                # in IPv4 connect() sees to that, in IPv6 the way to one's own address begins there (RFC 6724, rule 1).
                if address.version == 4:
                    probe.bind((ip, 0))
                probe.connect((ip, _DISCARD))
            except OSError:
                return False
            return ipaddress.ip_address(probe.getsockname()[0]) == address

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        """Ask DNS for records of a name, an absolute one; U-labels are encoded (IDNA 2008).

        Never raises for what DNS may say, and takes at most `QUERY_LIFETIME`.
        """
        wanted = dns.rdatatype.from_text(record_type)
        resolver = self._configured or self._system.get()
        if resolver is None:
            return NoAnswer.TEMPORARY
        try:
            absolute = dns.name.from_text(name, idna_codec=dns.name.IDNA_2008_Practical)
        except (dns.exception.DNSException, UnicodeError):
            return NoAnswer.NO_SUCH_DOMAIN  # what is no name cannot be in DNS
        try:
            answer = await resolver.resolve(
                absolute, wanted, search=False, lifetime=QUERY_LIFETIME, backend=dns.asyncbackend.get_backend("trio")
            )
        except dns.resolver.NXDOMAIN:
            return NoAnswer.NO_SUCH_DOMAIN
        except dns.resolver.NoAnswer:
            return NoAnswer.NO_DATA
        except (dns.exception.DNSException, OSError):
            return NoAnswer.TEMPORARY
        return Answer(tuple(record.to_text() for record in answer), answer.chaining_result.minimum_ttl)

    async def local_names(self, name: str) -> tuple[str, ...]:
        """The IP addresses that /etc/hosts gives a name, in its order; the file is read anew when it changes."""
        await trio.lowlevel.checkpoint()
        return self._hosts.get().get(name.lower().removesuffix("."), ())

    def now(self) -> datetime.datetime:
        """The wall clock, in UTC."""
        return datetime.datetime.now(datetime.UTC)


class RealIncoming(Incoming):
    """A listening address of this machine."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._address = _address(listener.socket.family, listener.socket.getsockname())
        self._file = _file_identity(self._address)

    @property
    def address(self) -> Address:
        """Where it listens; a port that was 0 is the real one here."""
        return self._address

    async def accept(self) -> tuple[trio.SocketStream, Address, Address]:
        """Wait for one connection: (stream, peer, local).

        Raises OSError when the system has no resources for it (EMFILE, ENOBUFS …); the listener stays usable,
        and the connection waits: pause before the next call. Raises ClosedResourceError once it is closed.
        """
        while True:
            stream = await self._listener.accept()
            family = stream.socket.family
            try:
                peer = _address(family, stream.socket.getpeername())
                local = _address(family, stream.socket.getsockname())
            except OSError:
                await trio.aclose_forcefully(stream)  # the client has gone again already
                continue
            return stream, peer, local

    async def aclose(self) -> None:
        """Stop listening; a unix socket's file is removed, unless another one has taken its place."""
        if self._file is not None and isinstance(self._address, UnixAddress):
            if _file_identity(self._address) == self._file:
                with contextlib.suppress(OSError):
                    os.unlink(self._address.path)
            self._file = None
        await self._listener.aclose()


def acknowledged(stream: trio.abc.Stream) -> bool:
    """Whether the peer's system has everything that was written, and has not reset the connection.

    True also where the system cannot tell: anything but TCP on Linux.
    """
    if sys.platform != "linux" or not isinstance(stream, trio.SocketStream):
        return True
    connection = stream.socket
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    waiting = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return waiting == bytes(4) and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def _resolver(servers: tuple[TcpAddress, ...]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(server.ip, server.port) for server in servers]
    return resolver


def _family(address: Address) -> socket.AddressFamily:
    if isinstance(address, UnixAddress):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.ip else socket.AF_INET


def _socket_address(address: Address) -> str | tuple[str, int]:
    return address.path if isinstance(address, UnixAddress) else (address.ip, address.port)


def _address(family: int, name: tuple[str, int] | str | bytes) -> Address:
    """What getsockname() and getpeername() return, as an address."""
    if family == socket.AF_UNIX:
        return UnixAddress(os.fsdecode(name) if isinstance(name, str | bytes) else "")
    return TcpAddress(str(name[0]), int(name[1]))


def _file_identity(address: Address) -> tuple[int, int] | None:
    """Which file a unix socket's path is now."""
    if not isinstance(address, UnixAddress):
        return None
    try:
        status = os.stat(address.path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    """Remove a socket's file that a process left behind; bind() then says whether the path is free.

    Raises OSError (EADDRINUSE) if somebody listens on it.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its backlog is full, so somebody listens
    raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: another process listens on it", path)
