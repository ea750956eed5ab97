"""In-memory streams with bounded buffers, which block as sockets do."""

from __future__ import annotations

import operator
import socket
import struct
from types import TracebackType
from typing import Protocol, runtime_checkable

import trio


class _Busy:
    """Lets one task in at a time; the second one is told so, since two would mix their bytes up."""

    __slots__ = ("_busy", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is already {self._what} this stream")
        self._busy = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._busy = False


class _Pipe:
    """One direction: at most `capacity` bytes on their way."""

    __slots__ = ("broken", "buffer", "capacity", "changed", "finished")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer = bytearray()
        self.finished = False  # the writer closed: what is buffered is still read, then comes the end
        self.broken = False  # the reader closed, or either side reset
        self.changed = trio.lowlevel.ParkingLot()

    def finish(self) -> None:
        self.finished = True
        self.changed.unpark_all()

    def break_(self) -> None:
        self.broken = True
        self.buffer.clear()
        self.changed.unpark_all()


class BoundedStream(trio.abc.HalfCloseableStream):
    """One end of `bounded_stream_pair`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._sending = _Busy("sending on")
        self._receiving = _Busy("receiving from")

    @property
    def closed(self) -> bool:
        """Whether this side was closed or reset by its own user."""
        return self._closed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, in pieces where the buffer is full.

        Raises BrokenResourceError once the peer has closed or reset, ClosedResourceError after `aclose`,
        `reset` or `send_eof` on this side.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            rest = memoryview(data)
            while rest:
                await self._wait_for_room()
                room = self._outgoing.capacity - len(self._outgoing.buffer)
                self._outgoing.buffer += rest[:room]
                rest = rest[room:]
                self._outgoing.changed.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until at least one byte can be sent. Raises as `send_all` does."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            await self._wait_for_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, at least one byte; b"" at the end.

        Raises BrokenResourceError once the peer has reset, ClosedResourceError after `aclose` or `reset` on
        this side.
        """
        limit = self._incoming.capacity if max_bytes is None else operator.index(max_bytes)
        if limit < 1:
            raise ValueError(f"max_bytes must be at least 1, not {limit}")
        with self._receiving:
            pipe = self._incoming
            if self._receivable():
                await trio.lowlevel.checkpoint()
            while not self._receivable():
                await pipe.changed.park()
            if self._closed:
                raise trio.ClosedResourceError("this side of the stream is closed")
            if pipe.broken:
                raise trio.BrokenResourceError("the peer reset the stream")
            data = bytes(pipe.buffer[:limit])
            del pipe.buffer[:limit]
            pipe.changed.unpark_all()
            return data

    async def send_eof(self) -> None:
        """Close the sending direction: the peer reads what is buffered, then b""."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this side of the stream is closed")
            self._outgoing.finish()

    async def aclose(self) -> None:
        """Close cleanly: the peer reads what is buffered, then b""; its `send_all` raises BrokenResourceError."""
        if not self._closed:
            self._closed = True
            self._outgoing.finish()
            self._incoming.break_()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Close abruptly: unread data is lost, and all that the peer does raises BrokenResourceError."""
        if not self._closed:
            self._closed = True
            self._outgoing.break_()
            self._incoming.break_()

    def _receivable(self) -> bool:
        pipe = self._incoming
        return bool(pipe.buffer) or pipe.finished or pipe.broken or self._closed

    async def _wait_for_room(self) -> None:
        pipe = self._outgoing
        while not self._closed and not pipe.broken and len(pipe.buffer) >= pipe.capacity:
            await pipe.changed.park()
        self._check_sendable()

    def _check_sendable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this side of the stream is closed")
        if self._outgoing.finished:
            raise trio.ClosedResourceError("this side of the stream has sent its end")
        if self._outgoing.broken:
            raise trio.BrokenResourceError("the peer closed the stream")


def bounded_stream_pair(capacity: int = 65_536) -> tuple[BoundedStream, BoundedStream]:
    """Two connected streams; at most `capacity` bytes (1 or more) are buffered in each direction.

    `trio.testing.memory_stream_pair` has no bound and hides deadlocks; `lockstep_stream_pair` has no buffer
    and makes some, when a pipelined group is answered before it was read. These block as sockets do.
    """
    if capacity < 1:
        raise ValueError(f"a stream needs a buffer of at least 1 byte, not {capacity}")
    there, back = _Pipe(capacity), _Pipe(capacity)
    return BoundedStream(back, there), BoundedStream(there, back)


@runtime_checkable
class Resettable(Protocol):
    """A stream that can be closed abruptly; `reset` makes use of it."""

    def reset(self) -> None:
        """Close, and let the peer notice a reset. Does not wait."""


async def reset(stream: trio.abc.Stream) -> None:
    """Close abruptly, so that the peer notices a reset (RST on TCP) instead of an orderly end.

    Any stream with a synchronous `reset()` (`Resettable`) is told so. Others that are no TCP socket (unix sockets,
    TLS) know no reset: they are closed forcefully.
    """
    if isinstance(stream, Resettable):
        stream.reset()
    elif isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)
