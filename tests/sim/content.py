"""The content of simulated messages: a function of id and size, so that half a copy can be told from a whole one."""

from __future__ import annotations

import hashlib
import re

_LINE = 76
_RECEIVED = re.compile(rb"(?:Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*", re.IGNORECASE)
_ID = re.compile(rb"\bid ([0-9a-z]+)")


def content(message: str, size: int) -> bytes:
    """A message of about `size` octets, CRLF at the end of every line, some of which begin with a dot."""
    head = f"Subject: {message}\r\nMessage-ID: <{message}@sim.example>\r\n\r\n".encode()
    lines = [f"{'.' if number % 7 == 3 else ''}{message} line {number} ".encode() for number in range(28)]
    block = b"".join(line.ljust(_LINE, b"x") + b"\r\n" for line in lines)
    whole, rest = divmod(max(0, size - len(head)), len(block))
    end = block[: rest - rest % (_LINE + 2)] + f"{message} ends\r\n".encode()
    return head + block * whole + end


def stripped(octets: bytes) -> bytes:
    """A message without the `Received:` lines on top: what its sender was given."""
    found = _RECEIVED.match(octets)
    return octets[found.end() :] if found else octets


def digest(octets: bytes) -> str:
    """Of a message as it was sent, whatever gateways have put on top."""
    return hashlib.blake2b(stripped(octets), digest_size=8).hexdigest()


def via(octets: bytes) -> tuple[str, ...]:
    """The session ids in the `Received:` lines on top, last hop first."""
    found = _RECEIVED.match(octets)
    return tuple(one.decode() for one in _ID.findall(found[0])) if found else ()
