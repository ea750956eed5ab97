"""A scripted mail server's end of a connection: lines come in, the steps of a plan go out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import trio

from mailgate.testing.script import Close, Delay, Raw, Reset, Silence, Step
from mailgate.testing.streams import reset
from mailgate.testing.transcript import Transcript, shown

READ = 65_536
"""bytes asked for at a time"""

_COMMAND_LIMIT = 512 + 26 + 17 + 10
"""octets of a command line: RFC 5321 section 4.5.3.1.4, and what SIZE, 8BITMIME and SMTPUTF8 add to MAIL"""


class Violation(AssertionError):
    """The client broke the protocol. The message has what it did and the dialog until then."""


class SessionOver(Exception):
    """The script or the client ended the session."""


class MTAWire:
    """The stream, what has been received from it and not been looked at, and the transcript of both directions."""

    def __init__(self, name: str, stream: trio.abc.Stream, transcript: Transcript) -> None:
        self.buffer = bytearray()
        self.transcript = transcript
        self._name = name
        self._stream = stream
        self._idle: trio.CancelScope | None = None
        self._dismissal: Sequence[Step] = ()

    async def receive(self, limit: int = READ) -> bytes:
        """At most that many octets, at least one. Raises SessionOver at the end."""
        if self.buffer:
            data = bytes(self.buffer[:limit])
            del self.buffer[:limit]
            return data
        return await self._more(limit)

    async def _more(self, limit: int) -> bytes:
        data = bytes(await self._stream.receive_some(limit))
        if not data:
            self.transcript.add("--", "closed by the client")
            raise SessionOver
        return data

    async def idle(self) -> None:
        """Wait for the buffer to be filled, or to be dismissed. Raises SessionOver at the end."""
        try:
            with trio.CancelScope() as self._idle:
                self.buffer += await self._more(READ)
                return
        finally:
            self._idle = None
        await self.perform(self._dismissal)

    def dismiss(self, steps: Sequence[Step]) -> None:
        """Do this now if it is idle."""
        if self._idle is not None:
            self._dismissal = steps
            self._idle.cancel()

    async def line(self) -> str:
        """One command line, without its end."""
        received = bytearray()
        while b"\n" not in received:
            received += await self.receive()
            if len(received) > _COMMAND_LIMIT and b"\n" not in received[:_COMMAND_LIMIT]:
                self.violation(f"a command line of more than {_COMMAND_LIMIT} octets")
        end = received.index(b"\n") + 1
        line, self.buffer[:0] = bytes(received[:end]), received[end:]
        self.transcript.add("C", shown(line.removesuffix(b"\n").removesuffix(b"\r")))
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            self.violation("a command line that does not end in CRLF, or has a CR within")
        try:
            return line[:-2].decode()
        except UnicodeDecodeError:
            self.violation("a command that is not UTF-8")

    async def perform(self, steps: Sequence[Step]) -> None:
        """Do what is due. Raises SessionOver where that is the end."""
        await trio.lowlevel.checkpoint()  # so that a reset takes back what is said here, and not what was said before
        for step in steps:
            match step:
                case str():
                    self.transcript.add("S", step)
                    await self._stream.send_all(step.replace("\n", "\r\n").encode() + b"\r\n")
                case Raw(data):
                    self.transcript.add("S", f"[raw] {shown(data)}")
                    await self._stream.send_all(data)
                case Delay(seconds):
                    await trio.sleep(seconds)
                case Close():
                    self.transcript.add("--", "closed by the server")
                    await self._stream.aclose()
                    raise SessionOver
                case Reset():
                    self.transcript.add("--", "reset by the server")
                    await reset(self._stream)
                    raise SessionOver
                case Silence():
                    self.transcript.add("--", "the server falls silent")
                    self.buffer.clear()
                    while True:
                        await self.receive()
                        self.buffer.clear()

    def violation(self, what: str) -> NoReturn:
        """The client broke the protocol."""
        self.transcript.add("--", f"violation: {what}")
        raise Violation(f"{self._name}: {what}\n{self.transcript}")
