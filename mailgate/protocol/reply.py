"""SMTP and LMTP replies: parse, format, and mend those that are passed on."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

MAX_LINE = 512
"""octets of a reply line with its CRLF (RFC 5321 section 4.5.3.1.5): what we write never exceeds it"""

MAX_LINE_READ = 2048
"""octets of a reply line that we read: real servers exceed 512 with long URLs, none needs four times that"""

MAX_LINES_READ = 128
"""lines of one reply that we read; the longest EHLO replies in the wild have about 30"""

MAX_LINES_RELAYED = 8
"""lines of a next hop's reply that we pass on"""


class Role(enum.Enum):
    """The two protocols, alike but for LHLO and one reply per recipient (RFC 5321, RFC 2033)."""

    SMTP = "smtp"
    LMTP = "lmtp"


_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: +|$)")  # RFC 2034 section 4, RFC 3463 section 2
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code, its enhanced status code ("5.1.1", or "" for none) and its text, a string per line."""

    code: int
    enhanced: str
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"a reply code is 200 to 599, not {self.code}")

    @property
    def kind(self) -> int:
        """The first digit, which is all that one may act on (RFC 5321 section 4.3.2): 2, 3, 4 or 5."""
        return self.code // 100

    @property
    def text(self) -> str:
        """The text on one line."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)

    def __bytes__(self) -> bytes:
        """The reply as it goes over the wire; the enhanced code on every line (RFC 2034 section 4)."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        room = MAX_LINE - len("250-") - len(prefix) - len("\r\n")
        texts = [_UNPRINTABLE.sub("?", line)[:room] for line in self.lines] or [""]
        last = len(texts) - 1
        return "".join(
            f"{self.code}{' ' if number == last else '-'}{prefix}{text}\r\n" for number, text in enumerate(texts)
        ).encode("ascii")


def reply(code: int, enhanced: str, *lines: str) -> Reply:
    """A reply of our own."""
    return Reply(code, enhanced, lines)


class BadReply(Exception):
    """The peer's bytes are no reply."""


class ReplyParser:
    """Lines in, replies out. Of no more use once it has raised BadReply."""

    __slots__ = ("_code", "_lines")

    def __init__(self) -> None:
        self._code = 0
        self._lines: list[str] = []

    @property
    def begun(self) -> bool:
        """Lines of a reply have come, but not its last one."""
        return bool(self._lines)

    def line(self, line: bytes) -> Reply | None:
        """Take one line without its line end; the reply, if it was the last line of one. Raises BadReply.

        `250` alone is a line without text: RFC 5321 section 4.2 asks clients to take it.
        """
        digits, separator, text = line[:3], line[3:4], line[4:]
        # Not int() alone: it would take "+25" and " 25".
        if not (len(digits) == 3 and digits.isdigit() and separator in (b" ", b"-", b"")):
            raise BadReply(f"not a reply line: {line[:60]!r}")
        code = int(digits)
        if not 200 <= code <= 599:
            raise BadReply(f"no such reply code: {line[:60]!r}")
        if self._lines and code != self._code:
            raise BadReply(f"a reply of {self._code} goes on with {code}")
        self._code = code
        self._lines.append(text.decode("utf-8", "replace"))
        if separator == b"-":
            if len(self._lines) >= MAX_LINES_READ:
                raise BadReply(f"a reply of more than {MAX_LINES_READ} lines")
            return None
        lines, self._lines = self._lines, []
        return _with_enhanced(code, lines)


def _with_enhanced(code: int, lines: list[str]) -> Reply:
    """Take the enhanced code off the lines; where lines differ in it (they must not), the first one's counts."""
    found = _ENHANCED.match(lines[0])
    if found is None:
        return Reply(code, "", tuple(lines))
    enhanced = ".".join(found.groups())
    texts = []
    for line in lines:
        own = _ENHANCED.match(line)
        texts.append(line[own.end() :] if own else line)
    return Reply(code, enhanced, tuple(texts))


_OTHERS = {421: 451, 221: 250}
"""Codes that speak of the session with the next hop, and what they become in ours."""


def passed_on(theirs: Reply, detail: str = "0.0") -> Reply:
    """A next hop's reply, fit to be given to our client (RFC 2034 section 4; Exim bug 2409 teaches the rest).

    Control characters and non-ASCII are replaced, length is bounded, a missing enhanced code is added with
    `detail` ("1.5" makes 2.1.5), and a class that contradicts the code is mended: the code decides.
    """
    detail = theirs.enhanced.partition(".")[2] or detail
    enhanced = f"{theirs.kind}.{detail}" if theirs.kind != 3 else ""
    lines = tuple(_UNPRINTABLE.sub("?", line)[:MAX_LINE] for line in theirs.lines[:MAX_LINES_RELAYED])
    return Reply(_OTHERS.get(theirs.code, theirs.code), enhanced, lines)


def final_prdr_reply(replies: list[Reply]) -> Reply:
    """What closes a PRDR: positive if any recipient has the message, for the client acts on this one last.

    Refused by all: 4xx if any may yet take it (Exim applies a final 5xx to every recipient).
    """
    if any(one.kind == 2 for one in replies):
        return reply(250, "2.0.0", "Done, see the replies per recipient")
    if any(one.kind == 4 for one in replies):
        return reply(451, "4.3.0", "No recipient has the message, see the replies per recipient")
    return reply(replies[0].code, replies[0].enhanced, "No recipient takes the message")
