"""Hosts of the simulated internet: programs, crashes, and the `Network` that programs see."""

from __future__ import annotations

import datetime
import errno
import math
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import trio

from mailgate.network import Address, Answer, Incoming, NoAnswer, TcpAddress
from mailgate.testing.network import EPOCH
from sim.links import Link, Place
from sim.net_stream import SimStream
from sim.records import Crash

if TYPE_CHECKING:
    from sim.internet import Internet

LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"

QUERY_TIME = 0.02
"""seconds that a DNS query takes"""

_FIRST_PORT, _PORTS = 32_768, 28_232  # as Linux takes them, one after another

Program = Callable[["HostNetwork"], Awaitable[None]]


class Host:
    """A machine with IPv4 addresses. It crashes, comes back, and starts its programs anew."""

    def __init__(self, name: str, addresses: Mapping[str, Link], internet: Internet, seed: int) -> None:
        self.name = name
        self.life = 0
        """how often it has crashed"""
        self.up = True
        self.addresses = {ip: link.name for ip, link in addresses.items()}
        """IP address → network"""
        self.ends: dict[SimStream, None] = {}
        """what its TCP knows, in the order in which it came to know it"""
        loopback = Link("loopback", latency=0.0, bandwidth=math.inf)
        self.places = {ip: Place(ip, self, link) for ip, link in addresses.items()}
        self.loopback = Place(LOOPBACK, self, loopback)
        self.internet = internet
        self._random = random.Random(seed)
        self._programs: list[Program] = []
        self._listeners: dict[TcpAddress, SimIncoming] = {}
        self._refuses = -math.inf
        self._lent: dict[SimStream, None] = {}
        self._port = 0
        self._nursery: trio.Nursery | None = None
        self._scope: trio.CancelScope
        self._network: HostNetwork

    # What is left

    @property
    def streams(self) -> int:
        """Connections that its programs have open in this life."""
        return len(self._lent)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks of its programs in this life, sorted."""
        return () if self._nursery is None else tuple(sorted(_names(self._nursery)))

    # What happens to it

    def start(self, program: Program) -> None:
        """Run a program now, and again after every crash when the host is back. What it raises ends `Internet.run`."""
        self._programs.append(program)
        if self._nursery is not None:
            self._nursery.start_soon(program, self._network)

    def crash(self, until: float) -> None:
        """Its power goes: nothing leaves it any more, then its programs are cancelled; at `until` it is there again.

        Nothing happens if it is down already.
        """
        if not self.up:
            return
        now = trio.current_time()
        self.up = False
        self.internet.history.crashes.append(Crash(self.name, self.life, now, until))
        for end in {**self.ends, **self._lent}:
            end.detach()
        self._lent.clear()
        self._listeners.clear()
        self._nursery = None
        self._scope.cancel()
        self.internet.timeline.at(until, self._return)

    def refuse(self, until: float) -> None:
        """Connects to it are refused until then."""
        self._refuses = max(self._refuses, until)

    def lose_address(self, ip: str, until: float) -> None:
        """It lacks that address until then: packets from it and to it are lost, and connects from it fail."""
        place = self.places[ip]
        place.lost = max(place.lost, until)

    def boot(self, nursery: trio.Nursery) -> None:
        """Begin a life in that nursery."""
        self._scope = trio.CancelScope()
        self._network = HostNetwork(self, random.Random(self._random.getrandbits(64)))
        nursery.start_soon(self._live, self._scope, self._network, name=f"{self.name}, life {self.life}")

    def _return(self) -> None:
        self.up = True
        self.life += 1
        self.internet.boot(self)

    async def _live(self, scope: trio.CancelScope, network: HostNetwork) -> None:
        if scope.cancel_called:
            return  # it crashed before it was up
        with scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for program in self._programs:
                    nursery.start_soon(program, network)
                await trio.sleep_forever()

    # TCP

    def place(self, ip: str) -> Place | None:
        """Where that address of its own is; None: it has none such."""
        return self.loopback if ip == LOOPBACK else self.places.get(ip)

    def source(self, link: Link | None, now: float) -> Place | None:
        """The address that connects to that network come from, unless they say another one."""
        there = [place for place in self.places.values() if now >= place.lost]
        return next((place for place in there if place.link is link), there[0] if there else None)

    def port(self) -> int:
        """A port for a connect."""
        self._port += 1
        return _FIRST_PORT + self._port % _PORTS

    def listener(self, address: Address) -> SimIncoming | None:
        """Who takes connections to that address now."""
        if not isinstance(address, TcpAddress) or trio.current_time() < self._refuses:
            return None
        return self._listeners.get(address) or self._listeners.get(TcpAddress(ANY, address.port))

    def listen(self, address: TcpAddress) -> SimIncoming:
        """Take connections to an address. Raises OSError."""
        if address.ip != ANY and self.place(address.ip) is None:
            raise os_error(errno.EADDRNOTAVAIL, address)
        taken = [other for other in self._listeners if other.ip == address.ip or ANY in (other.ip, address.ip)]
        if address.port == 0:
            address = TcpAddress(address.ip, self.port())
        if any(other.port == address.port for other in taken):
            raise os_error(errno.EADDRINUSE, address)
        incoming = self._listeners[address] = SimIncoming(self, address)
        return incoming

    def unlisten(self, incoming: SimIncoming) -> None:
        """Take no more."""
        if self._listeners.get(incoming.address) is incoming:
            del self._listeners[incoming.address]

    def lend(self, stream: SimStream) -> None:
        """A program gets that end of a connection."""
        self._lent[stream] = None

    def release(self, stream: SimStream) -> None:
        """A program has closed it."""
        self._lent.pop(stream, None)


class SimIncoming(Incoming):
    """A listening address of a host."""

    def __init__(self, host: Host, address: TcpAddress) -> None:
        self._host = host
        self._address = address
        self._closed = False
        self._queue: deque[SimStream] = deque()
        self._acceptors = trio.lowlevel.ParkingLot()

    @property
    def address(self) -> TcpAddress:
        """Where it listens; a port that was 0 is the real one here."""
        return self._address

    async def accept(self) -> tuple[SimStream, Address, Address]:
        """Wait for one connection: (stream, peer, local). Raises ClosedResourceError once it is closed."""
        if self._queue or self._closed:
            await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError("nobody listens here any more")
            if not self._queue:
                await self._acceptors.park()
                continue
            stream = self._queue.popleft()
            if not stream.gone:  # else it was reset meanwhile
                self._host.lend(stream)
                session = stream.connection.session
                return stream, session.client_address, session.server_address

    async def aclose(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        self._closed = True
        self._host.unlisten(self)
        while self._queue:
            self._queue.popleft().reset()
        self._acceptors.unpark_all()
        await trio.lowlevel.checkpoint()

    def arrive(self, stream: SimStream) -> None:
        """There is another connection."""
        if self._closed:
            stream.reset()
        else:
            self._queue.append(stream)
            self._acceptors.unpark()


class HostNetwork:
    """The `Network` of the programs on one host, in one of its lives. When that is over, it reaches nobody."""

    def __init__(self, host: Host, random: random.Random) -> None:
        self._host = host
        self._life = host.life
        self._random = random

    @property
    def random(self) -> random.Random:
        """Randomness, of this life."""
        return self._random

    async def connect(self, address: Address, source: str | None = None) -> SimStream:
        """Open a connection. Raises OSError; NoSuchSource if the host lacks the source address."""
        if not isinstance(address, TcpAddress):
            raise os_error(errno.EAFNOSUPPORT, address)
        self._check_alive()
        return await self._host.internet.connect(self._host, address, source)

    async def listen(self, address: Address) -> SimIncoming:
        """Listen; port 0 takes a free one, 0.0.0.0 every address. Raises OSError."""
        await trio.lowlevel.checkpoint()
        if not isinstance(address, TcpAddress):
            raise os_error(errno.EAFNOSUPPORT, address)
        self._check_alive()
        return self._host.listen(address)

    def has_address(self, ip: str) -> bool:
        """Whether it is one of this host, now."""
        place = self._host.place(ip)
        return ip == ANY or (place is not None and trio.current_time() >= place.lost)

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        """What DNS says."""
        if not self._alive:
            await trio.lowlevel.checkpoint()
            return NoAnswer.TEMPORARY
        return await self._host.internet.query(self._host, name, record_type)

    async def local_names(self, name: str) -> tuple[str, ...]:
        """Nothing: all names are in DNS."""
        await trio.lowlevel.checkpoint()
        return ()

    def now(self) -> datetime.datetime:
        """The wall clock: all hosts agree."""
        return EPOCH + datetime.timedelta(seconds=trio.current_time())

    @property
    def _alive(self) -> bool:
        return self._host.up and self._life == self._host.life

    def _check_alive(self) -> None:
        if not self._alive:
            raise os_error(errno.ENETDOWN, self._host.name)


def _names(nursery: trio.Nursery) -> list[str]:
    names = []
    for task in nursery.child_tasks:
        names.append(task.name)
        for child in task.child_nurseries:
            names += _names(child)
    return names


def os_error(number: int, where: object) -> OSError:
    """The system's error of that number."""
    return OSError(number, f"{os.strerror(number)}: {where}")
