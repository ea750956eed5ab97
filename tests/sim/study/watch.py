"""Watches the wires: which whole messages came to gateways, and which left them."""

from __future__ import annotations

import re
from collections.abc import Callable

import trio

from sim.records import End, Session
from sim.study.measure import Transfer
from sim.tcp import Tap, Way

_MAIL = re.compile(rb"MAIL FROM:<(m\d+)@", re.IGNORECASE)
_GO_AHEAD = re.compile(rb"(?:^|\n)354 ")
_END = b"\r\n.\r\n"


class TransferTap(Tap):
    """Tells of each message whose dot has arrived. It reads no more of a session than it needs for that.

    Of the session's record it keeps `established`.
    """

    def __init__(self, session: Session, transferred: Callable[[Transfer], None]) -> None:
        self._session = session
        self._transferred = transferred
        self._message = ""
        self._inside = False
        """a message is being written"""
        self._tail = b""
        """the last octets of it, or of the commands, until now"""
        self._begin = 0
        self._written = 0
        self._dots: list[tuple[int, str, int]] = []
        """(offset behind a dot that has not arrived, message, octets)"""

    def opened(self) -> None:
        self._session.established = trio.current_time()

    def written(self, way: Way, octets: bytes) -> None:
        if way is Way.TO_CLIENT:
            if not self._inside and _GO_AHEAD.search(octets):
                self._inside, self._begin, self._tail = True, self._written, b"\r\n"
            return
        if self._inside:
            octets = self._content(octets)
        if not self._inside:
            known = self._tail + octets
            for found in _MAIL.finditer(known):
                self._message = found[1].decode()
            self._tail = known[known.rfind(b"\n") + 1 :]
            self._written += len(octets)

    def _content(self, octets: bytes) -> bytes:
        """The message goes on; what was written behind its end."""
        known = self._tail + octets
        end = known.find(_END)
        if end < 0:
            self._written += len(octets)
            self._tail = known[-len(_END) + 1 :]
            return b""
        behind = known[end + len(_END) :]
        self._written += len(octets) - len(behind)
        self._dots.append((self._written, self._message, self._written - self._begin))
        self._inside, self._tail = False, b""
        return behind

    def arrived(self, way: Way, total: int) -> None:
        while way is Way.TO_SERVER and self._dots and self._dots[0][0] <= total:
            _, message, octets = self._dots.pop(0)
            session = self._session
            self._transferred(Transfer(message, session.client, session.server, trio.current_time(), octets))

    def ended(self, way: Way, how: End) -> None:
        pass

    def broke(self) -> None:
        pass
