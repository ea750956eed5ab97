"""What happened in the demo, as plain values: what was sent and how it was answered, and what arrived where."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mailgate.testing import Delivered, Stage, State, Transcript


class Duplicate(enum.Enum):
    """Why a recipient has a message once more than it was sent."""

    UNKNOWN = "unknown"
    """the next hop took the dot and was lost before it answered: SMTP cannot avoid this one"""
    UNTOLD = "untold"
    """the next hop took the message, and its sender did not hear the gateway say so"""
    UNEXPLAINED = "unexplained"
    """a bug"""


@dataclass(frozen=True, slots=True)
class Try:
    """What came of one recipient at one gateway."""

    gateway: str
    stage: Stage
    text: str
    """the gateway's reply, or what happened instead"""
    state: State
    seconds: float
    """from the connect until this was known"""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a message, by its position there, and all that was tried for it, in order."""

    address: str
    tries: tuple[Try, ...]

    @property
    def state(self) -> State:
        """How it ended; deferred means that it is still in the sender's queue."""
        return self.tries[-1].state if self.tries else State.DEFERRED


@dataclass(frozen=True, slots=True)
class Caller:
    """How a server saw who called it."""

    ip: str
    helo: str

    def __str__(self) -> str:
        return f"{self.helo} from {self.ip}"


@dataclass(frozen=True, slots=True)
class Uplink:
    """A way by which a gateway may come to a server, and what it then looks like there."""

    gateway: str
    backbone: str
    """its name; "" where the route has none"""
    caller: Caller


@dataclass(frozen=True, slots=True)
class Sent:
    """A message and what its sender knows of it."""

    id: str
    """as in its Message-ID line, without brackets"""
    reverse_path: str
    content: bytes
    recipients: tuple[Recipient, ...]
    announced: tuple[Duplicate, ...] = ()
    """the kinds of duplicates that must be expected here"""
    within: float | None = None
    """seconds that each answer may take; None: as long as any other"""
    mended: tuple[float, ...] = ()
    """each time that all was mended: seconds until the gateways had found out; infinite: they had not"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message whose dot arrived at a server."""

    server: str
    message: Delivered
    caller: Caller


@dataclass(frozen=True, slots=True)
class Copy:
    """One recipient of an arrival."""

    id: str
    """the message's; "" if it has none"""
    gateway: str
    """that brought it; "" if none says so"""
    server: str
    caller: Caller
    address: str
    reply: str
    """the server's, after the dot; "" if it gave none"""

    @property
    def taken(self) -> bool:
        """The server said that it has the message for this recipient."""
        return self.reply.startswith("2")

    @property
    def unanswered(self) -> bool:
        """The server said nothing: it may have the message, and here it has."""
        return not self.reply


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that a verdict is based on."""

    sent: tuple[Sent, ...]
    arrivals: tuple[Arrival, ...]
    homes: Mapping[str, str]
    """recipient domain → the one server that mail for it may go to"""
    uplinks: Mapping[str, tuple[Uplink, ...]]
    """server → the only ways by which gateways may come to it"""
    patience: float
    """seconds that a gateway may take for any answer"""
    recovery: float
    """seconds that a gateway may take to find out that a path is back"""
    faults: tuple[str, ...] = ()
    """breaches of the protocol that servers saw, and errors that gateways logged"""
    left: tuple[str, ...] = ()
    """what was left of ended sessions"""

    @property
    def copies(self) -> tuple[Copy, ...]:
        """One per recipient of each arrival, in their order."""
        return tuple(
            Copy(message_id(message.content), bringer(message.content), arrival.server, arrival.caller, address, reply)
            for arrival in self.arrivals
            for message in [arrival.message]
            for address, reply in zip(message.recipients, message.replies, strict=True)
        )

    def backbone(self, copy: Copy) -> str | None:
        """What brought it; None: nothing that its gateway may use."""
        for uplink in self.uplinks.get(copy.server, ()):
            if (uplink.gateway, uplink.caller) == (copy.gateway, copy.caller):
                return uplink.backbone
        return None


_DOT = re.compile(r"\[[0-9]+ bytes with the dot\]")
_RECEIVED = re.compile(rb"Received: from [^\r\n]*\r\n((?:[ \t][^\r\n]*\r\n)*)")
_BY = re.compile(rb"\tby ([^. ]+)[. ]")
_MESSAGE_ID = re.compile(rb"^Message-ID: <([^>\r\n]*)>\r$", re.MULTILINE)


def callers(ips: Sequence[str], sessions: Sequence[Transcript]) -> Callable[[float], Caller]:
    """From a server's sessions, and where each came from: a function that says whose dot was the newest at a time."""
    dots: list[tuple[float, Caller]] = []
    for ip, session in zip(ips, sessions, strict=True):
        helo = ""
        for line in session.lines:
            if line.side == "C" and line.text[:5].upper() in ("EHLO ", "HELO "):
                helo = line.text[5:]
            elif line.side == "C" and _DOT.fullmatch(line.text):
                dots.append((line.time, Caller(ip, helo)))

    def at(time: float) -> Caller:
        return max((dot for dot in dots if dot[0] <= time), key=lambda dot: dot[0])[1]

    return at


def bringer(content: bytes) -> str:
    """The gateway that the topmost `Received:` line names, by the first label of its host name."""
    line = _RECEIVED.match(content)
    name = _BY.search(line[1]) if line else None
    return name[1].decode("ascii", "replace") if name else ""


def message_id(content: bytes) -> str:
    """What the Message-ID line says."""
    found = _MESSAGE_ID.search(content.partition(b"\r\n\r\n")[0] + b"\r\n")
    return found[1].decode("ascii", "replace") if found else ""


def below_received(content: bytes) -> bytes:
    """The content without its topmost `Received:` line."""
    line = _RECEIVED.match(content)
    return content[line.end() :] if line else content
