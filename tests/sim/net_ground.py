"""Where the conformance table is played, on loopback or simulated, and what its rows see there."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio

from mailgate.network import Incoming, Network, RealNetwork, TcpAddress
from mailgate.testing import reset
from sim.net_bench import SERVER, Bench
from sim.net_stream import SimStream

Stream = trio.abc.HalfCloseableStream
Seen = list[bytes | str]
"""what a row sees of a connection, in order"""

SOON = 0.1
"""seconds; what does not happen within them does not happen"""

TCP_REPAIR = 19
"""the socket option with which close() says nothing, and the host forgets the connection; Python lacks the name"""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a row is played."""

    client: Network
    server: Network
    ip: str
    """the server's address"""
    reset: Callable[[Stream], Awaitable[None]]
    forget: Callable[[Stream], Awaitable[None]]
    """that side's host forgets the connection, and the other side is not told"""

    async def listen(self) -> Incoming:
        """Listen at the server."""
        return await self.server.listen(TcpAddress(self.ip, 0))

    async def accepted(self, incoming: Incoming) -> Stream:
        """The server's end of the next connection."""
        stream, _, _ = await incoming.accept()
        assert isinstance(stream, Stream)
        return stream

    async def connect(self, incoming: Incoming) -> Stream:
        """The client's end of a new connection."""
        stream = await self.client.connect(incoming.address)
        assert isinstance(stream, Stream)
        return stream

    async def pair(self) -> tuple[Stream, Stream]:
        """The client's and the server's end of a new connection."""
        async with await self.listen() as incoming:
            client = await self.connect(incoming)
            return client, await self.accepted(incoming)


# What a program sees of its calls.


async def tried(call: Callable[[], Awaitable[None]], done: str) -> str:
    """What came of it: `done`, or why not."""
    try:
        with trio.move_on_after(SOON):
            await call()
            return done
    except trio.BrokenResourceError:
        return "broken"
    except trio.ClosedResourceError:
        return "closed"
    return "waits"


async def receives(stream: Stream) -> bytes | str:
    octets = b""

    async def receive() -> None:
        nonlocal octets
        octets = bytes(await stream.receive_some())

    seen = await tried(receive, "received")
    return octets if seen == "received" else seen


async def sends(stream: Stream, octets: bytes = b"x") -> str:
    return await tried(lambda: stream.send_all(octets), "sent")


async def half_closes(stream: Stream) -> str:
    return await tried(stream.send_eof, "sent the end")


async def until_the_end(stream: Stream) -> Seen:
    """All octets in one, and what came then."""
    octets = b""
    while isinstance(seen := await receives(stream), bytes) and seen:
        octets += seen
    return [octets, seen]


async def on_its_way() -> None:
    """Let everything arrive."""
    await trio.sleep(SOON)


# The grounds.


def loopback() -> Ground:
    """This machine's."""
    network = RealNetwork()
    return Ground(network, network, "127.0.0.1", reset, _forget_for_real)


async def simulated(bench: Bench) -> Ground:
    """A bench."""
    client, server = await bench.network(bench.client), await bench.network(bench.server)
    return Ground(client, server, SERVER, _reset_simulated, _forget_simulated)


async def _forget_for_real(stream: Stream) -> None:
    assert isinstance(stream, trio.SocketStream)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except PermissionError:
        pytest.skip("only root can make a host forget a connection (TCP_REPAIR)")
    await stream.aclose()


async def _reset_simulated(stream: Stream) -> None:  # noqa: ASYNC124 - on loopback it waits
    assert isinstance(stream, SimStream)
    stream.reset()


async def _forget_simulated(stream: Stream) -> None:  # noqa: ASYNC124
    assert isinstance(stream, SimStream)
    stream.connection.forget()
