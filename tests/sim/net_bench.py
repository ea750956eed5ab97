"""Two hosts and a network between them: what the tests of the simulated network share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from mailgate.network import TcpAddress
from sim.hosts import Host, HostNetwork
from sim.internet import Internet
from sim.links import Link
from sim.net_stream import SimStream
from sim.records import End, History, Session
from sim.tcp import CAPACITY, Connection, Tap, Way

CLIENT, SERVER, NOBODY = "192.0.2.1", "192.0.2.2", "192.0.2.3"
"""addresses on the bench's network: two hosts, and one that no host has"""

LATENCY = 0.01
"""seconds across it"""


@dataclass
class Notes(Tap):
    """A tap that writes down what it is told, and when."""

    session: Session
    told: list[tuple[float, object]] = field(default_factory=list)
    on_written: Callable[[], None] | None = None
    """done when something was written"""

    def opened(self) -> None:
        """See `Tap`, as for the others."""
        self._note("opened")

    def written(self, way: Way, octets: bytes) -> None:
        """See `Tap`."""
        self._note((way, octets))
        if self.on_written is not None:
            self.on_written()

    def arrived(self, way: Way, total: int) -> None:
        """See `Tap`."""
        self._note((way, total))

    def ended(self, way: Way, how: End) -> None:
        """See `Tap`."""
        self._note((way, how))

    def broke(self) -> None:
        """See `Tap`."""
        self._note("broke")

    def _note(self, what: object) -> None:
        self.told.append((round(trio.current_time(), 4), what))


class Bench:
    """A host that connects, one that listens, and both on one network. Times begin with the first connect, at 0."""

    def __init__(self, *, latency: float = LATENCY, capacity: int = CAPACITY, seed: int = 1) -> None:
        self.taps: list[Notes] = []
        self.history = History(seed, ())
        self.internet = Internet(self.history, random.Random(seed), self._tap, capacity=capacity)
        self.link: Link = self.internet.link("net", latency=latency)
        self.client: Host = self.internet.host("client", {CLIENT: "net"})
        self.server: Host = self.internet.host("server", {SERVER: "net"})

    def _tap(self, session: Session) -> Notes:
        self.taps.append(Notes(session))
        return self.taps[-1]

    async def network(self, host: Host) -> HostNetwork:
        """The network of that host in its present life."""
        networks: list[HostNetwork] = []

        async def hand_over(network: HostNetwork) -> None:  # noqa: ASYNC124
            networks.append(network)

        host.start(hand_over)
        await trio.testing.wait_all_tasks_blocked()
        return networks[0]

    async def pair(self) -> tuple[SimStream, SimStream]:
        """Both ends of a new connection, the client's first."""
        client, server = await self.network(self.client), await self.network(self.server)
        async with await server.listen(TcpAddress(SERVER, 0)) as incoming:
            near = await client.connect(incoming.address)
            far, _, _ = await incoming.accept()
        return near, far

    @property
    def connection(self) -> Connection:
        """The latest of those that are not over."""
        return next(reversed(self.internet.connections.values()))


@asynccontextmanager
async def bench(*, latency: float = LATENCY, capacity: int = CAPACITY, seed: int = 1) -> AsyncIterator[Bench]:
    """A bench that runs until the end of the block."""
    one = Bench(latency=latency, capacity=capacity, seed=seed)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.internet.run)
        yield one
        nursery.cancel_scope.cancel()
