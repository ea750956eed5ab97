"""A raw connection to the gateway, for what no client library would say."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType

from live import PATIENCE


class Caller:
    """A raw connection, which says what it likes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self._received = b""

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        """Send everything. A server that has gone is no error here."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def replies(self, count: int) -> list[str]:
        """So many replies, or fewer if the connection ends before; the lines of one joined by newlines."""
        replies: list[str] = []
        while len(replies) < count and (reply := self.reply()):
            replies.append(reply)
        return replies

    def replies_to(self, code: str) -> list[str]:
        """The replies up to one with that code, or to the end."""
        replies: list[str] = [""]
        while not replies[-1].startswith(code) and (reply := self.reply()):
            replies.append(reply)
        return replies[1:]

    def reply(self) -> str:
        """The next reply; "" at the end."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line = self._line()
            if not line:
                return ""
            lines.append(line)
        return "\n".join(lines)

    def rest(self) -> str:
        """Everything until the server closes."""
        while self._receive():
            pass
        return self._received.decode()

    def _line(self) -> str:
        while b"\n" not in self._received:
            if not self._receive():
                assert not self._received, f"ends in the middle of a line: {self._received!r}"
                return ""
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode()

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)
