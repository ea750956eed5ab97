"""The receiving side of a gateway that is not mailgate: a small SMTP and LMTP server that asks its gateway what to say.

The scripted servers of mailgate.testing answer by a table; here each answer may wait for another server's. Clients are
ours and keep to the protocol, so what they may not do is not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from mailgate.testing.script import Speaks

PATIENCE = 300.0
"""seconds of a client's silence, or that it takes no reply, after which it is gone (RFC 5321 section 4.5.3.2.7)"""

_END = b"\r\n.\r\n"


class Desk(Protocol):
    """Decides, in one session."""

    async def offered(self, reverse_path: str, recipient: str) -> str:
        """The reply to a RCPT."""
        ...

    async def taken(self, reverse_path: str, recipients: Sequence[str], content: bytes) -> Sequence[str]:
        """The replies behind the dot: one, with LMTP one for each recipient. `content` is without dot-stuffing."""
        ...


class _Gone(Exception):
    """The client has left, or is silent for too long."""


class Visit:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream, name: str, speaks: Speaks, desk: Desk) -> None:
        self._stream = stream
        self._name = name
        self._hello = "LHLO" if speaks == "lmtp" else "EHLO"
        self._desk = desk
        self._received = bytearray()
        self._replies: list[str] = []
        self._reverse_path = ""
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Serve it to its end, and close it."""
        async with self._stream:
            try:
                self._say(f"220 {self._name} ready")
                while await self._command(await self._line()):
                    pass
                await self._flush()
            except (_Gone, trio.BrokenResourceError):
                pass

    async def _command(self, line: str) -> bool:
        """Do as a command says; False: it was the last."""
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case self._hello:
                self._say(f"250-{self._name}\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME")
            case "MAIL":
                self._reverse_path, self._recipients = _path(rest), []
                self._say("250 2.1.0 sender ok")
            case "RCPT":
                recipient = _path(rest)
                reply = await self._desk.offered(self._reverse_path, recipient)
                if reply.startswith("2"):
                    self._recipients.append(recipient)
                self._say(reply)
            case "DATA" if self._recipients:
                self._say("354 go ahead")
                content = await self._content()
                for reply in await self._desk.taken(self._reverse_path, self._recipients, content):
                    self._say(reply)
                self._recipients = []
            case "DATA":
                self._say("503 5.5.1 no recipient was accepted")
            case "RSET" | "NOOP":
                self._say("250 2.0.0 ok")
            case "QUIT":
                self._say("221 2.0.0 bye")
                return False
            case _:
                self._say("502 5.5.1 what?")
        return True

    async def _line(self) -> str:
        while (end := self._received.find(b"\n")) < 0:
            await self._receive()
        line = self._received[:end].decode().rstrip("\r")
        del self._received[: end + 1]
        return line

    async def _content(self) -> bytes:
        data = self._received
        data[:0] = b"\r\n"  # what ends the line with DATA, so that a message of one dot ends, too
        begin = 0
        while (end := data.find(_END, begin)) < 0:
            begin = max(0, len(data) - len(_END) + 1)
            await self._receive()
        content = bytes(data[: end + 2])
        del data[: end + len(_END)]
        return content.replace(b"\r\n.", b"\r\n")[2:]

    async def _receive(self) -> None:
        """More octets; first the client hears what there is to say."""
        await self._flush()
        with trio.move_on_after(PATIENCE):
            data = await self._stream.receive_some(65_536)
            if data:
                self._received += data
                return
        raise _Gone

    def _say(self, reply: str) -> None:
        self._replies.append(reply + "\r\n")

    async def _flush(self) -> None:
        if self._replies:
            said = "".join(self._replies).encode()
            self._replies.clear()
            with trio.move_on_after(PATIENCE) as scope:
                await self._stream.send_all(said)
            if scope.cancelled_caught:
                raise _Gone


def _path(rest: str) -> str:
    """The mailbox in `FROM:<…> …` or `TO:<…>`."""
    return rest[rest.index("<") + 1 : rest.index(">")]
