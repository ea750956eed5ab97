"""How a mail server that receives behaves, apart from faults. Pure.

A recipient's local part says what it is: `no-…` does not exist, `busy-…` is put off at first, `full-…` has no room for
everything. A reverse-path with `poison-mail`, `poison-rcpt`, `poison-data`, `poison-body` or `poison-dot` in it makes
the server fail at that stage: strangers know how to do that.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass

from mailgate.network import Address
from mailgate.testing import EXTENSIONS, Question, Speaks

UNKNOWN, BUSY, FULL = "no-", "busy-", "full-"
"""how local parts begin"""

STAGES = ("mail", "rcpt", "data", "body", "dot")
"""at which a stranger makes servers fail: fields of `mailgate.testing.Script`"""

_POISON = re.compile(rf"poison-({'|'.join(STAGES)})\b")
_MESSAGE = re.compile(r"m\d+(?=@|$)")


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds, at least and at most."""

    least: float = 0.0
    most: float = 0.0


AT_ONCE = Span()


@dataclass(frozen=True, slots=True, kw_only=True)
class Temper:
    """A server's ways. Shares are between 0 and 1; who is concerned depends on its name and the message's id only."""

    addresses: tuple[Address, ...]
    """where it listens"""
    protocol: Speaks = "smtp"
    extensions: tuple[str, ...] = EXTENSIONS
    """keywords of the EHLO or LHLO reply; with `PRDR` among them clients may ask for a reply per recipient"""
    pace: Span = AT_ONCE
    """before each reply"""
    storing: Span = AT_ONCE
    """before the replies to the dot, beside that"""
    greylist: float = 0.0
    """seconds in which somebody new hears 451: new is a network, a reverse-path and a recipient together; 0: nobody"""
    busy: float = 300.0
    """seconds, from its first try on, in which a message is put off that is not to be put off for ever"""
    poison: float = 1200.0
    """seconds, from its first try on, in which a message that poisons does so"""
    senders: float = 0.0
    """the share of messages that are refused at MAIL: half of them for good, the others as long as it is busy"""
    contents: float = 0.0
    """the same at the dot"""
    passing: float = 0.0
    """the share of messages that hear 4xx at the dot for some minutes only; in LMTP the share of recipients"""


class Room(enum.Enum):
    """What is wrong with a full mailbox."""

    NONE = "it takes nothing"
    SOON = "it takes nothing as long as the server is busy"
    ONE = "it takes one copy in a transaction"


def room(recipient: str) -> Room:
    """Of a `full-…` recipient."""
    return tuple(Room)[_number(recipient) % len(Room)]


def picked(share: float, *about: str) -> bool:
    """Whether these are among that share of all."""
    return _number(*about) / 2**64 < share


def spell(*about: str) -> float:
    """Seconds that what is passing lasts."""
    return _SPELL * (_number("spell", *about) / 2**64)


_SPELL = 400.0


def poison(stage: str) -> str:
    """How a reverse-path begins that makes a server fail at that stage."""
    return f"poison-{stage}"


def poisoned(reverse_path: str) -> str:
    """The stage at which it makes a server fail; empty: none."""
    found = _POISON.search(reverse_path)
    return found[1] if found else ""


def message_id(reverse_path: str) -> str:
    """The message that has this unique reverse-path."""
    found = _MESSAGE.search(reverse_path)
    return found[0] if found else reverse_path


def one_reply_each(asked: Question, protocol: Speaks) -> bool:
    """Whether each recipient of the transaction has a reply of its own after the dot."""
    return protocol == "lmtp" or "PRDR" in asked.parameters


def _number(*about: str) -> int:
    return int.from_bytes(hashlib.blake2b("\n".join(about).encode(), digest_size=8).digest(), "big")
