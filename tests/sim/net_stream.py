"""One end of a simulated connection, as its program has it: it behaves as one of Linux's sockets does."""

from __future__ import annotations

import errno
import operator
import os
from typing import TYPE_CHECKING

import trio

from sim.net_flow import Cause, Flow
from sim.records import End
from sim.timeline import Waiter

if TYPE_CHECKING:
    from sim.hosts import Host
    from sim.tcp import Connection

_RECEIVE = 65_536  # octets, where the caller does not say


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, connection: Connection, host: Host, incoming: Flow, outgoing: Flow) -> None:
        self.connection = connection
        self.host = host
        self.closed = False
        """by its program"""
        self.gone = False
        """its host does not know it any more, and answers what comes for it with a reset"""
        self.answer = Cause.PROGRAM
        """what such a reset is for"""
        self.reader = Waiter()
        self.writer = Waiter()
        self._incoming = incoming
        self._outgoing = outgoing
        self._receiving = False
        self._sending = False
        self._broken = False
        self._failure = ""  # why, until the program was told: the next call is told that, later ones read the end
        incoming.receiver = outgoing.sender = self

    # What programs do

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; waits while the buffers are full.

        Raises BrokenResourceError once a reset has come, ClosedResourceError after `aclose`, `reset` or `send_eof`.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            flow = self._outgoing
            rest = bytes(data)
            while rest:
                room = flow.room()
                if room > 0:
                    piece, rest = rest[:room], rest[room:]
                    flow.write(piece)
                else:
                    flow.wait_for_room()
                    await self.writer.wait()
                    self._check_sendable()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until `send_all` does not wait: there is room, or it raises. Itself it raises ClosedResourceError."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            while not self.closed and not self._broken and self._outgoing.room() <= 0:
                self._outgoing.wait_for_room()
                await self.writer.wait()
            if self.closed:
                raise trio.ClosedResourceError("this side of the stream is closed")
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, at least one octet; b"" at the end.

        Raises BrokenResourceError after a reset, ClosedResourceError after `aclose` or `reset`.
        """
        limit = _RECEIVE if max_bytes is None else operator.index(max_bytes)
        if limit < 1:
            raise ValueError(f"max_bytes must be at least 1, not {limit}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        try:
            if self._receivable():
                await trio.lowlevel.checkpoint()
            while not self._receivable():
                self._incoming.wait_for_octets()
                await self.reader.wait()
        finally:
            self._receiving = False
        if self.closed:
            raise trio.ClosedResourceError("this side of the stream is closed")
        if self._incoming.buffer:
            return self._incoming.read(limit)
        if not self._incoming.fin_arrived:
            self._tell_failure()
        return b""

    async def send_eof(self) -> None:
        """Close the sending side: the peer reads what was written, then b""."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            if self.closed:
                raise trio.ClosedResourceError("this side of the stream is closed")
            if not self._outgoing.finished:
                if self._broken:
                    raise trio.BrokenResourceError("there is no connection any more")
                self._outgoing.finish()
        finally:
            self._sending = False

    async def aclose(self) -> None:
        """Close: what was written is still sent, then the end; with octets unread it is a reset, as Linux has it."""
        if not self.closed:
            self._close()
            if self.gone:
                self._outgoing.tell_end(End.FIN)
            elif self._incoming.buffer:
                self._outgoing.tell_end(End.RESET)
                self.abort()
            else:
                if not self._outgoing.finished:
                    self._outgoing.finish()
                self.settle()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Close with a reset (as with SO_LINGER of no time): what was not sent is lost."""
        if not self.closed:
            self._close()
            self._outgoing.tell_end(End.RESET)
            if not self.gone:
                self.abort()

    def _begin_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True

    def _receivable(self) -> bool:
        if self.closed or self._broken or self._incoming.readable():
            return True
        return self._incoming.fin_arrived and not self._incoming.buffer

    def _check_sendable(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError("this side of the stream is closed")
        if self._outgoing.finished:
            raise trio.ClosedResourceError("this side of the stream has sent its end")
        if self._broken:
            self._tell_failure()
            raise trio.BrokenResourceError("there is no connection any more")

    def _tell_failure(self) -> None:
        failure, self._failure = self._failure, ""
        if failure:
            raise trio.BrokenResourceError(failure)

    def _close(self) -> None:
        self.closed = True
        self.host.release(self)
        self.reader.wake()
        self.writer.wake()

    # What its host does

    def attach(self, host: Host) -> None:
        """A host takes it for the end of a connection."""
        self.host = host
        self.gone = False
        host.ends[self] = None

    def abort(self) -> None:
        """Send a reset, and forget the connection."""
        self._outgoing.reset(Cause.PROGRAM)
        self.leave()

    def settle(self) -> None:
        """Forget the connection if it was closed and has come to its end."""
        if self.closed and not self.gone:
            if self._incoming.fin_arrived and self._outgoing.acknowledged:
                self.leave()
            else:
                self.connection.check_over()

    @property
    def over(self) -> bool:
        """It has nothing to send any more, and nobody to give anything to."""
        return self.gone or (self.closed and self._outgoing.acknowledged)

    def break_(self, cause: Cause) -> None:
        """A reset has arrived."""
        self._break("the connection was reset", cause)

    def time_out(self) -> None:
        """Nothing is acknowledged any more."""
        self._break(os.strerror(errno.ETIMEDOUT), Cause.UNKNOWN)

    def detach(self) -> None:
        """Its host has crashed: nothing leaves it any more. Its program is not told, it is going to be cancelled."""
        self._broken = True
        self._failure = "its host has crashed"
        self.answer = Cause.UNKNOWN
        self.leave()
        self._outgoing.tell_end(End.DETACHED)

    def _break(self, failure: str, cause: Cause) -> None:
        self._broken = True
        self._failure = failure
        self.answer = cause
        self.leave()
        self.reader.wake()
        self.writer.wake()
        if cause is Cause.UNKNOWN and not self.closed:
            self.connection.tap.broke()

    def leave(self) -> None:
        """Its host knows it no more."""
        self.gone = True
        self._outgoing.abandon()
        self.host.ends.pop(self, None)
        self.connection.check_over()
