"""A network in memory, on Trio's clock: for tests, simulations, and programs that embed mailgate."""

from __future__ import annotations

import datetime
import enum
import errno
import math
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from mailgate.network import Address, Answer, Incoming, NoAnswer, NoSuchSource, TcpAddress, UnixAddress
from mailgate.testing.streams import BoundedStream, bounded_stream_pair

EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""the wall clock of a `MemoryNetwork` when Trio's clock is at 0, where `autojump_clock` starts"""

_FIRST_PORT = 49_152  # the first dynamic port (RFC 6335 section 6)

Handler = Callable[[trio.abc.Stream, Address], Awaitable[None]]
"""serves one connection: (stream, the client's address)"""


@dataclass(frozen=True, slots=True)
class Connection:
    """A call of `connect`, whatever came of it; `time` is Trio's when it was made."""

    address: Address
    source: str | None
    time: float


@dataclass(frozen=True, slots=True)
class Query:
    """A call of `query`; `time` is Trio's when it was made."""

    name: str
    record_type: str
    time: float


class _BlackHole(enum.Enum):
    """A fault that is no error: nothing ever comes back."""

    BLACK_HOLE = enum.auto()


_Fault = int | _BlackHole  # an errno, or silence
_Route = tuple[Address, str | None]
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Arrival:
    stream: BoundedStream
    peer: Address
    local: Address


class MemoryIncoming(Incoming):
    """A listening address of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: Address) -> None:
        self._network = network
        self._address = address
        self._send, self._receive = trio.open_memory_channel[_Arrival | OSError](math.inf)

    @property
    def address(self) -> Address:
        """Where it listens; a port that was 0 is the real one here."""
        return self._address

    async def accept(self) -> tuple[BoundedStream, Address, Address]:
        """Wait for one connection: (stream, peer, local). Raises what `fail_accept` was told to."""
        arrival = await self._receive.receive()
        if isinstance(arrival, OSError):
            raise arrival
        self._network._lend(arrival.stream)
        return arrival.stream, arrival.peer, arrival.local

    async def aclose(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        self._network._unlisten(self)
        while True:
            try:
                arrival = self._receive.receive_nowait()
            except (trio.WouldBlock, trio.ClosedResourceError):
                break
            if isinstance(arrival, _Arrival):
                arrival.stream.reset()
        self._send.close()
        self._receive.close()
        await trio.lowlevel.checkpoint()

    def _arrive(self, arrival: _Arrival | OSError) -> None:
        self._send.send_nowait(arrival)


class MemoryNetwork:
    """A `Network` without sockets: what listens where, what is broken, and what DNS says are tables.

    Handlers given to `serve` run in `nursery`, one task per connection; its owner ends them by cancelling it.
    `capacity` is the bytes buffered per direction of a connection. `now()` is `EPOCH` plus Trio's clock.
    """

    def __init__(self, nursery: trio.Nursery, seed: int = 0, capacity: int = 65_536) -> None:
        self.records: dict[tuple[str, str], Answer | NoAnswer] = {}
        """DNS: (name in lower case without the last dot, type) → what `query` returns"""
        self.query_delays: dict[tuple[str, str], float] = {}
        """seconds that a query takes; not listed: none"""
        self.hosts: dict[str, tuple[str, ...]] = {}
        """/etc/hosts: name in lower case → IP addresses"""
        self.addresses: list[str] = []
        """this machine's own IP addresses, as `has_address` knows them"""
        self.connections: list[Connection] = []
        """every call of `connect`, in order"""
        self.queries: list[Query] = []
        """every call of `query`, in order"""
        self._nursery = nursery
        self._capacity = capacity
        self._random = random.Random(seed)
        self._handlers: dict[Address, Handler] = {}
        self._listeners: dict[Address, MemoryIncoming] = {}
        self._faults: dict[_Route, _Fault] = {}
        self._delays: dict[_Route, float] = {}
        self._missing_sources: set[str] = set()
        self._lent: list[BoundedStream] = []
        self._lent_limit = 64
        self._next_port = _FIRST_PORT

    # What is where, and what is broken. A `source` narrows a fault to connections from that IP address.

    def serve(self, address: Address, handler: Handler) -> None:
        """Answer connections to `address` with `handler`, which replaces one that was there."""
        self._handlers[address] = handler

    def refuse(self, address: Address, *, source: str | None = None, error: int = errno.ECONNREFUSED) -> None:
        """From now on connects to `address` raise the OSError of that errno."""
        self._faults[address, source] = error

    def black_hole(self, address: Address, *, source: str | None = None) -> None:
        """From now on connects to `address` never return (until cancelled), not even after `restore`."""
        self._faults[address, source] = _BlackHole.BLACK_HOLE

    def delay(self, address: Address, seconds: float, *, source: str | None = None) -> None:
        """From now on connects to `address` take this long, whether they then succeed or not."""
        self._delays[address, source] = seconds

    def restore(self, address: Address, *, source: str | None = None) -> None:
        """Undo `refuse`, `black_hole` and `delay`, as they were given (with or without `source`)."""
        self._faults.pop((address, source), None)
        self._delays.pop((address, source), None)

    def remove_source(self, source: str) -> None:
        """From now on this machine lacks that IP address: connects from it raise NoSuchSource."""
        self._missing_sources.add(source)

    def restore_source(self, source: str) -> None:
        """Undo `remove_source`."""
        self._missing_sources.discard(source)

    def fail_accept(self, address: Address, error: int = errno.EMFILE) -> None:
        """Make one `accept` at `address`, which is listened on, raise the OSError of that errno."""
        self._listeners[address]._arrive(_os_error(error, address))

    @property
    def open_streams(self) -> int:
        """Streams handed out by `connect` and `accept` that their users have not closed."""
        self._lent = [stream for stream in self._lent if not stream.closed]
        return len(self._lent)

    # The Network protocol.

    @property
    def random(self) -> random.Random:
        """The one source of randomness, from `seed`."""
        return self._random

    async def connect(self, address: Address, source: str | None = None) -> BoundedStream:
        """Open a connection. Raises OSError: ConnectionRefusedError where nothing listens, or the fault set."""
        self.connections.append(Connection(address, source, trio.current_time()))
        await trio.lowlevel.checkpoint()
        if source in self._missing_sources:
            raise NoSuchSource(errno.EADDRNOTAVAIL, f"{os.strerror(errno.EADDRNOTAVAIL)}: {source}")
        delay = _of_route(self._delays, address, source)
        if delay is not None:
            await trio.sleep(delay)
        fault = _of_route(self._faults, address, source)
        if fault is _BlackHole.BLACK_HOLE:
            await trio.sleep_forever()
        if isinstance(fault, int):
            raise _os_error(fault, address)
        return self._open(address, source)

    async def listen(self, address: Address) -> MemoryIncoming:
        """Listen on an address; port 0 takes a free one, 0.0.0.0 and :: take every address of their family.

        Raises OSError (EADDRINUSE) if it is listened on already.
        """
        await trio.lowlevel.checkpoint()
        if isinstance(address, TcpAddress) and address.port == 0:
            address = TcpAddress(address.ip, self._free_port())
        if address in self._listeners or address in self._handlers:
            raise _os_error(errno.EADDRINUSE, address)
        self._listeners[address] = incoming = MemoryIncoming(self, address)
        return incoming

    def has_address(self, ip: str) -> bool:
        """What `addresses` says."""
        return ip in self.addresses

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        """What `records` says; a name without any record is no such domain, one with others has no data."""
        self.queries.append(Query(name, record_type, trio.current_time()))
        key = name.lower().removesuffix("."), record_type
        await trio.sleep(self.query_delays.get(key, 0))
        if key in self.records:
            return self.records[key]
        known = any(known_name == key[0] for known_name, _ in self.records)
        return NoAnswer.NO_DATA if known else NoAnswer.NO_SUCH_DOMAIN

    async def local_names(self, name: str) -> tuple[str, ...]:
        """What `hosts` says."""
        await trio.lowlevel.checkpoint()
        return self.hosts.get(name.lower(), ())

    def now(self) -> datetime.datetime:
        """`EPOCH` plus Trio's clock."""
        return EPOCH + datetime.timedelta(seconds=trio.current_time())

    def _open(self, address: Address, source: str | None) -> BoundedStream:
        listener = self._listeners.get(address) or self._listeners.get(_any_address(address))
        handler = self._handlers.get(address)
        if listener is None and handler is None:
            raise _os_error(errno.ECONNREFUSED, address)
        near, far = bounded_stream_pair(self._capacity)
        peer = self._peer(address, source)
        if handler is not None:
            self._nursery.start_soon(_handle, handler, far, peer, name=f"connection to {address}")
        elif listener is not None:
            listener._arrive(_Arrival(far, peer, address))
        self._lend(near)
        return near

    def _peer(self, address: Address, source: str | None) -> Address:
        if isinstance(address, UnixAddress):
            return UnixAddress("")
        loopback = "::1" if ":" in address.ip else "127.0.0.1"
        return TcpAddress(source or loopback, self._free_port())

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    def _lend(self, stream: BoundedStream) -> None:
        self._lent.append(stream)
        if len(self._lent) > self._lent_limit:  # seldom enough to cost nothing per connection
            self._lent_limit = 2 * self.open_streams + 64

    def _unlisten(self, incoming: MemoryIncoming) -> None:
        if self._listeners.get(incoming.address) is incoming:
            del self._listeners[incoming.address]


async def _handle(handler: Handler, stream: BoundedStream, peer: Address) -> None:
    async with stream:
        await handler(stream, peer)


def _of_route(table: dict[_Route, _Value], address: Address, source: str | None) -> _Value | None:
    return table.get((address, source), table.get((address, None)))


def _any_address(address: Address) -> Address:
    if isinstance(address, UnixAddress):
        return address
    return TcpAddress("::" if ":" in address.ip else "0.0.0.0", address.port)


def _os_error(number: int, where: object) -> OSError:
    return OSError(number, f"{os.strerror(number)}: {where}")
