"""The demo's `Network`: the real one, of which single links can be cut, and a connection paused."""

from __future__ import annotations

import contextlib
import datetime
import enum
import errno
import os
import random
import socket

import trio

from mailgate.network import Address, Answer, Incoming, NoAnswer, RealNetwork


class Fault(enum.Enum):
    """How a link is cut. Connections that are open on it are broken off in either case."""

    UNREACHABLE = "no route to host"
    BLACK_HOLE = "whatever is sent vanishes"


class Pause:
    """Lets so many bytes through on a connection, then none until `resume`."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.reached = trio.Event()
        self.resume = trio.Event()


class Links:
    """What one host of the demo has of the network: real sockets, from its own address."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.pause: Pause | None = None
        """for the next connection that is opened"""
        self._real = RealNetwork()
        self._cuts: dict[tuple[str | None, Address | None], Fault] = {}  # from where, to where; None: all
        self._open: list[tuple[Address, str, trio.SocketStream]] = []

    def cut(self, address: Address | None, fault: Fault, *, source: str | None = None) -> None:
        """From now on there is no way to that address from that source IP address; None: to or from all of them.

        What is open there is broken off.
        """
        self._cuts[source, address] = fault
        for connected, local, stream in self._living():
            if address in (None, connected) and source in (None, local):
                # Who holds the stream must not find that it has shut it down itself.
                with stream.socket.dup() as same, contextlib.suppress(OSError):  # it may be at its end already
                    same.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Undo all cuts."""
        self._cuts.clear()

    @property
    def open_streams(self) -> int:
        """Connections that were opened here and not closed yet."""
        return len(self._living())

    def _living(self) -> list[tuple[Address, str, trio.SocketStream]]:
        self._open = [one for one in self._open if one[2].socket.fileno() >= 0]
        return self._open

    # Network

    @property
    def random(self) -> random.Random:
        """The real network's."""
        return self._real.random

    async def connect(self, address: Address, source: str | None = None) -> trio.abc.Stream:
        """Open a connection, from this host's address unless told otherwise. Raises OSError."""
        source = source or self.ip
        ends = ((source, address), (source, None), (None, address))
        match next((self._cuts[one] for one in ends if one in self._cuts), None):
            case Fault.UNREACHABLE:
                raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
            case Fault.BLACK_HOLE:
                await trio.sleep_forever()
        stream = await self._real.connect(address, source)
        self._open = [*self._living(), (address, source, stream)]
        pause, self.pause = self.pause, None
        return stream if pause is None else _PausedStream(stream, pause)

    async def listen(self, address: Address) -> Incoming:
        """Listen on an address. Raises OSError."""
        return await self._real.listen(address)

    def has_address(self, ip: str) -> bool:
        """Whether this machine has that IP address: all hosts of the demo are one machine."""
        return self._real.has_address(ip)

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        """There is no DNS in the demo."""
        return NoAnswer.NO_SUCH_DOMAIN

    async def local_names(self, name: str) -> tuple[str, ...]:
        """There is no /etc/hosts in the demo."""
        return ()

    def now(self) -> datetime.datetime:
        """The wall clock."""
        return self._real.now()


class _PausedStream(trio.abc.Stream):
    """A stream that stands still where its pause says."""

    def __init__(self, stream: trio.abc.Stream, pause: Pause) -> None:
        self._stream = stream
        self._pause = pause

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        before, behind = data[: self._pause.left], data[self._pause.left :]
        await self._stream.send_all(before)
        self._pause.left -= len(before)
        if behind:
            self._pause.reached.set()
            await self._pause.resume.wait()
            self._pause.left = len(behind)
            await self.send_all(behind)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
