"""The receiving end of a message after the 354, line by line (RFC 5321 section 4.5.2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message whose terminating dot arrived."""

    reverse_path: str
    parameters: tuple[str, ...]
    """of MAIL"""
    recipients: tuple[str, ...]
    """that were accepted at RCPT, in order, duplicates included"""
    replies: tuple[str, ...]
    """after the dot, one per recipient: with SMTP the same one for all, "" where none was given"""
    content: bytes
    """without dot-stuffing and the terminating dot, cut to the server's `keep`"""
    size: int
    """bytes of the whole content"""
    sha256: str
    """hex digest of the whole content"""
    time: float
    """Trio's, when the dot arrived"""
    final: str = ""
    """with PRDR the reply that follows those of the recipients; "" where none was given"""

    @property
    def taken(self) -> tuple[str, ...]:
        """The recipients whose reply was 2xx: the server has the message for them. A final 4xx or 5xx is for all."""
        if self.final.startswith(("4", "5")):
            return ()
        return tuple(
            recipient for recipient, text in zip(self.recipients, self.replies, strict=True) if text.startswith("2")
        )


class MessageError(Exception):
    """The client sent what no message may contain."""


class Message:
    """Octets in, content out. Raises MessageError at a bare CR or LF, and at a line that was not dot-stuffed."""

    def __init__(self, keep: int | None) -> None:
        """`keep` bounds the bytes of content that are kept; None: all."""
        self.finished = False
        self.received = 0
        """octets as they came over the wire, with the terminating dot"""
        self.content = bytearray()
        self.size = 0
        """bytes of content, kept or not"""
        self.digest = hashlib.sha256()
        """SHA-256 of all content"""
        self._keep = keep
        self._line = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take some octets; returns those behind the terminating dot."""
        before = len(self._line)
        self._line += data
        self.received += len(data)
        # Where octets come one by one, the beginning of a long line is not searched again each time.
        if self._line.find(b"\n", max(0, before - 1)) < 0:
            return b""
        *lines, rest = bytes(self._line).split(b"\r\n")
        self._line = bytearray(rest)
        taken: list[bytes] = []
        for number, line in enumerate(lines):
            if line == b".":
                self.finished = True
                behind = b"\r\n".join([*lines[number + 1 :], rest])
                self.received -= len(behind)
                self._take(taken)
                return behind
            if b"\r" in line or b"\n" in line:
                raise MessageError(f"a bare CR or LF in the message: {line[:80]!r}")
            if line.startswith(b".") and not line.startswith(b".."):
                raise MessageError(f"a line of the message that was not dot-stuffed: {line[:80]!r}")
            taken.append(line[1:] if line.startswith(b".") else line)
        if b"\n" in rest:
            raise MessageError(f"a bare LF in the message: {rest[:80]!r}")
        self._take(taken)
        return b""

    def _take(self, lines: list[bytes]) -> None:
        content = b"".join(line + b"\r\n" for line in lines)
        self.size += len(content)
        self.digest.update(content)
        self.content += content if self._keep is None else content[: max(0, self._keep - len(self.content))]
