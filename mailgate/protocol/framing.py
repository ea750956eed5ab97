"""Lines and message data: a bounded line buffer, and DATA framing with dot-stuffing (RFC 5321 section 4.5.2).

Only CRLF.CRLF ends a message. A bare LF is repaired or refused, a bare CR refused, and neither is ever passed
on, so that no server behind us can see an end where we saw none (SMTP smuggling).
"""

from __future__ import annotations

import enum
import re

CRLF = b"\r\n"
END = b"\r\n.\r\n"


class BareNewline(enum.Enum):
    """What to do with a line of the message that ends in LF without CR."""

    REPAIR = "repair"
    REFUSE = "refuse"


class Flaw(enum.Enum):
    """Why a message's data cannot be taken, whatever the next hops say."""

    BARE_LF = "bare LF"
    BARE_CR = "bare CR"
    HIDDEN_DOT = "dot behind NUL"
    TOO_BIG = "too big"


class LineTooLong(Exception):
    """A line exceeds the limit. Its rest is skipped; the buffer goes on with the line after it."""


class LineBuffer:
    """Bytes in, lines out, without their line ends; a line ends in CRLF or, for people with netcat, in LF."""

    __slots__ = ("_buffer", "_limit", "_scanned", "_skipping")

    def __init__(self, limit: int) -> None:
        """`limit`: octets of a line, its end included."""
        self._buffer = bytearray()
        self._limit = limit
        self._scanned = 0  # no LF before this offset: a slow sender does not make us search anew
        self._skipping = False  # the rest of a line too long is under way

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            self._skipping = not newline
        self._buffer += data

    def peek(self) -> bytes | None:
        """The next line, if it is complete, without taking it."""
        end = self._find()
        return None if end < 0 else bytes(self._buffer[:end]).removesuffix(b"\r")

    def take(self) -> bytes | None:
        """The next line, or None until it is complete. Raises LineTooLong, once for each such line."""
        end = self._find()
        if end < 0:
            if len(self._buffer) <= self._limit:
                return None
            self.take_all()
            self._skipping = True
            raise LineTooLong
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        if end + 1 > self._limit:
            raise LineTooLong
        return line.removesuffix(b"\r")

    def tail(self, length: int) -> bytes:
        """The last octets buffered, without taking them."""
        return bytes(self._buffer[-length:])

    def take_all(self) -> bytes:
        """Everything buffered, complete lines or not: what follows is not lines."""
        data = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return data

    def _find(self) -> int:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
        return end


_BARE = re.compile(rb"(?P<cr>\r(?!\n))|(?<!\r)\n")
_BARE_CR = re.compile(rb"(?P<cr>\r(?!\n))")
_HIDDEN_DOT = re.compile(rb"\n\x00+\.")


class DataDecoder:
    """A message as it comes after the 354: finds its end, takes the dot-stuffing off, minds bare CR and LF.

    The message is treated as if a CRLF stood before it, so that a dot in its first line needs no special case.
    """

    __slots__ = ("_bare_newline", "_held", "_line", "_skip", "finished", "flaw")

    def __init__(self, bare_newline: BareNewline) -> None:
        self._bare_newline = bare_newline
        self._held = CRLF
        self._skip = len(CRLF)  # octets at the head of what comes out that are that imagined CRLF
        self._line = b""  # the line under way, with the LF before it, as long as it has nothing but NULs
        self.flaw: Flaw | None = None
        self.finished = False

    def decode(self, data: bytes) -> tuple[bytes, bytes]:
        """Take some octets: (content, octets behind the end). The latter are empty until `finished`.

        What comes out ends at the first flaw; once `flaw` is set no more does, but the end is still found.
        """
        data = self._held + data
        end = data.find(END)
        if end >= 0:
            self.finished = True
            self._held = b""
            content, rest = data[: end + len(CRLF)], data[end + len(END) :]
        else:
            held = _partial_end(data)
            cut = len(data) - held
            content, rest, self._held = data[:cut], b"", data[cut:]
        return self._clean(content) if self.flaw is None else b"", rest

    def _clean(self, content: bytes) -> bytes:
        # What `content` is cut from never ends within CRLF or within CRLF-dot: those octets are held back. So
        # every CR, LF and leading dot in it has its neighbours here.
        pairs = content.count(CRLF)
        bare = content.count(b"\r") != pairs or content.count(b"\n") != pairs
        if bare:
            repair = self._bare_newline is BareNewline.REPAIR
            found = (_BARE_CR if repair else _BARE).search(content)
            if found is not None:
                self.flaw = Flaw.BARE_CR if found["cr"] else Flaw.BARE_LF
                content = content[: found.start()]
        content = content.replace(b"\r\n.", CRLF)
        if bare:
            # Only now: a dot behind a bare LF began no line for the sender, so it was not stuffed. It is
            # content, and will be stuffed when it leaves us at the start of the repaired line.
            content = content.replace(CRLF, b"\n").replace(b"\n", CRLF)
        content = self._mind_nuls(content)
        if self._skip and content:
            content, self._skip = content[self._skip :], 0
        return content

    def _mind_nuls(self, content: bytes) -> bytes:
        """Some servers drop NULs. Where NULs and a dot begin a line, such a one could see an end behind us."""
        text = self._line + content
        if b"\x00" in text:
            found = _HIDDEN_DOT.search(text)
            if found is not None:
                self.flaw = Flaw.HIDDEN_DOT
                return content[: found.end() - 1 - len(self._line)]
        head = text.rstrip(b"\x00") if text.endswith((b"\n", b"\x00")) else b""
        self._line = b"\n\x00"[: 1 + len(text) - len(head)] if head.endswith(b"\n") else b""
        return content


def _partial_end(data: bytes) -> int:
    """How many octets at the end of `data` may be the beginning of the end of data."""
    for length in range(min(len(END) - 1, len(data)), 0, -1):
        if END.startswith(data[-length:]):
            return length
    return 0


class DataEncoder:
    """A message as it goes upstream: dot-stuffed, whatever the chunks it comes in."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = CRLF  # the message begins at the start of a line

    def encode(self, content: bytes) -> bytes:
        """Stuff some octets of a message whose lines all end in CRLF."""
        joined = self._tail + content
        stuffed = joined.replace(b"\r\n.", b"\r\n..")
        encoded = stuffed[len(self._tail) :]
        self._tail = joined[-2:]
        return encoded

    def end(self) -> bytes:
        """What ends the message: a dot on its own line."""
        return b".\r\n" if self._tail == CRLF else END
