"""The simulated internet: hosts on networks, connections between them, and DNS. It is a function of its seed."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Mapping

import trio

from mailgate.network import Answer, NoAnswer, NoSuchSource, TcpAddress
from sim.hosts import ANY, QUERY_TIME, Host, HostNetwork, os_error
from sim.links import Link, Path, Place, Toward
from sim.records import History, Looked, Session
from sim.tcp import CAPACITY, Connection, SimStream, Tap
from sim.timeline import Timeline

__all__ = ["Host", "HostNetwork", "Internet", "Link", "Toward"]


class Internet:
    """Hosts, the networks that they are plugged into, and all connections. Each connection has its `tap`."""

    def __init__(
        self,
        history: History,
        random: random.Random,
        tap: Callable[[Session], Tap],
        *,
        capacity: int = CAPACITY,
    ) -> None:
        """`capacity`: octets of one way of a connection that the buffers of both its hosts hold."""
        self.history = history
        self.timeline = Timeline()
        self.hosts: dict[str, Host] = {}
        self.links: dict[str, Link] = {}
        self.connections: dict[int, Connection] = {}
        """by the numbers of their sessions: those that are being opened, and those that are not over on both sides"""
        self.records: dict[tuple[str, str], Answer | NoAnswer] = {}
        """DNS: (name in lower case without the last dot, type) → what a query is answered"""
        self.on_connect: Callable[[Connection], None] = _nothing
        """called before the first packet of a connection: faults may be planted in it"""
        self.on_query: Callable[[Host, str, str], Answer | NoAnswer | None] = _as_the_table_says
        """called for each query: an answer in place of that of `records`, or None"""
        self._random = random
        self._tap = tap
        self._capacity = capacity
        self._places: dict[str, Place] = {}
        self._nursery: trio.Nursery | None = None

    def link(self, name: str, *, latency: float = 0.02, bandwidth: float = 12_500_000.0) -> Link:
        """A new network: seconds across it, octets per second for each connection."""
        self.links[name] = link = Link(name, latency, bandwidth)
        return link

    def host(self, name: str, addresses: Mapping[str, str]) -> Host:
        """A new host; `addresses`: IP address → network."""
        links = {ip: self.links[link] for ip, link in addresses.items()}
        self.hosts[name] = host = Host(name, links, self, self._random.getrandbits(64))
        self._places.update(host.places)
        if self._nursery is not None:
            host.boot(self._nursery)
        return host

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Everything that happens; ends by being cancelled. Raises what a program raises."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.timeline.run)
            for host in self.hosts.values():
                host.boot(nursery)
            task_status.started()

    def boot(self, host: Host) -> None:
        """That host is back."""
        if self._nursery is not None:
            host.boot(self._nursery)

    async def connect(self, host: Host, address: TcpAddress, source: str | None) -> SimStream:
        """For the programs of a host; see `HostNetwork.connect`."""
        now = trio.current_time()
        target = host.place(address.ip) or self._places.get(address.ip)
        if target is not None and target.host is host:
            target = host.loopback
        place = _source(host, target, source, now)
        session = Session(
            number=len(self.history.sessions),
            client=host.name,
            client_life=host.life,
            client_address=_client_address(host, place, source),
            server="" if target is None else target.host.name,
            server_life=0 if target is None else target.host.life,
            server_address=address,
            connecting=now,
        )
        self.history.sessions.append(session)
        if place is None:
            await trio.lowlevel.checkpoint()
            session.error = os.strerror(errno.ENETUNREACH if source is None else errno.EADDRNOTAVAIL)
            if source is None:
                raise os_error(errno.ENETUNREACH, address)
            raise NoSuchSource(errno.EADDRNOTAVAIL, f"{session.error}: {source}")
        connection = Connection(
            session,
            self._tap(session),
            self.timeline,
            there=Path(place, target),
            back=Path(place, None) if target is None else Path(target, place),
            capacity=self._capacity,
            over=self._over,
        )
        self.connections[session.number] = connection
        self.on_connect(connection)
        await connection.open()
        return connection.client

    async def query(self, host: Host, name: str, record_type: str) -> Answer | NoAnswer:
        """For the programs of a host; see `HostNetwork.query`. A name without any record is no such domain."""
        key = name.lower().removesuffix("."), record_type
        answer = self.on_query(host, *key)
        await self.timeline.until(trio.current_time() + QUERY_TIME)
        if answer is None:
            answer = self.records.get(key)
        if answer is None:
            known = any(known_name == key[0] for known_name, _ in self.records)
            answer = NoAnswer.NO_DATA if known else NoAnswer.NO_SUCH_DOMAIN
        self.history.lookups.append(Looked(host.name, trio.current_time(), *key, answer))
        return answer

    def _over(self, connection: Connection) -> None:
        self.connections.pop(connection.session.number, None)


def _source(host: Host, target: Place | None, source: str | None, now: float) -> Place | None:
    """Where packets of a connect set out; None: the host has no such address."""
    if target is host.loopback:
        return host.loopback
    if source is None:
        return host.source(None if target is None else target.link, now)
    place = host.place(source)
    return None if place is None or now < place.lost else place


def _client_address(host: Host, place: Place | None, source: str | None) -> TcpAddress:
    if place is None:
        return TcpAddress(source or ANY, 0)
    return TcpAddress(source or place.ip, host.port())


def _nothing(connection: Connection) -> None:
    """No fault."""


def _as_the_table_says(host: Host, name: str, record_type: str) -> None:
    """No other answer."""
