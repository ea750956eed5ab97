"""What a scripted mail server does: a table of replies and faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mailgate.network import Address

Speaks = Literal["smtp", "lmtp"]
"""a protocol"""

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in an orderly way (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection off (RST)."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Say nothing more in this session, but go on reading."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Send these bytes as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait for that many seconds. Steps that only wait are followed by the usual reply."""

    seconds: float


Step = str | Close | Reset | Silence | Raw | Delay
"""One thing done in place of a reply; text such as "250 2.1.5 ok" is a reply, "\\n" between its lines:
"250 ok" alone is one line, and "250-one\\n250 two" is sent as it stands"""


@dataclass(frozen=True, slots=True, init=False)
class Turns:
    """Something else the 1st, 2nd … time (of all sessions of the server); the last is for all later times."""

    plans: tuple[Step | tuple[Step, ...], ...]

    def __init__(self, *plans: Step | tuple[Step, ...]) -> None:
        if not plans:
            raise ValueError("Turns needs at least one plan")
        object.__setattr__(self, "plans", plans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a plan that is a function is asked: something is due, and this is what the server knows."""

    stage: str
    """the field of `Script` whose plan is asked: `greeting`, `rcpt`, `outcomes` …"""
    time: float
    """Trio's"""
    session: int
    """the number of the connection at this server, from 1"""
    peer: Address | None
    """None: `handle` was not told"""
    reverse_path: str = ""
    """of MAIL; empty before it, too"""
    parameters: tuple[str, ...] = ()
    """of MAIL"""
    recipient: str = ""
    """at RCPT, and after the message where each recipient has a reply of its own"""
    recipients: tuple[str, ...] = ()
    """those accepted until now, in order, duplicates included"""
    position: int = 0
    """of `recipient` among `recipients`; at RCPT the one that it would get"""
    size: int = 0
    """octets of the message, without dot-stuffing; inside it, those received until now. 0 before it"""
    sha256: str = ""
    """hex digest of the message, after its dot"""
    content: bytes = b""
    """the message, cut to the server's `keep`, after its dot"""


Decision = Callable[[Question], Step | tuple[Step, ...] | Turns | None]
"""Decides by what the server is told; None is the usual reply. It must not raise"""

Plan = Step | tuple[Step, ...] | Turns | Decision
"""What is done where a reply is due: a step, several in turn, other ones each time, or what a function says"""


@dataclass(frozen=True, slots=True)
class StopReading:
    """Take no byte of the message from its `at`-th on, nor anything later in the session."""

    at: int


@dataclass(frozen=True, slots=True)
class SlowReading:
    """Take the message at that rate, from its `at`-th byte on."""

    bytes_per_second: float
    at: int = 0


@dataclass(frozen=True, slots=True)
class During:
    """At the message's `at`-th byte, before its end, do what the plan says, then read on.

    `During(100, "250 2.0.0 ok")` speaks early; `During(100, Close())` and `During(100, Reset())` break off. The usual
    thing to do there is nothing.
    """

    at: int
    plan: Plan


BodyAction = StopReading | SlowReading | During


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The behaviour of a `ScriptedMTA`. None stands for the usual reply of a server that takes everything.

    `Script(rcpt=lambda asked: "452 4.5.3 no" if asked.recipients else None)` takes one recipient at a time.
    Positions in the message count octets as they come over the wire, from 0.
    """

    greeting: Plan | None = None
    extensions: tuple[str, ...] = EXTENSIONS
    """keywords of the EHLO or LHLO reply, with their parameters; "PRDR" makes it a PRDR receiver"""
    ehlo: Plan | None = None
    helo: Plan | None = None
    lhlo: Plan | None = None
    mail: Plan | None = None
    rcpt: Plan | None = None
    """for recipients that are not in `recipients`"""
    data: Plan | None = None
    dot: Plan | None = None
    """after the message; with LMTP and PRDR for each recipient that is not in `outcomes`"""
    rset: Plan | None = None
    noop: Plan | None = None
    vrfy: Plan | None = None
    quit: Plan | None = None
    recipients: Mapping[str, Plan] = field(default_factory=dict)
    """at RCPT, by address"""
    outcomes: Mapping[str, Plan] = field(default_factory=dict)
    """after the message, by address (LMTP and PRDR only)"""
    prdr_start: Plan | None = None
    """before the recipients' replies (PRDR); usually "353 …" """
    prdr_end: Plan | None = None
    """after the recipients' replies (PRDR); usually 250 if any was taken, else the class of the first"""
    body: tuple[BodyAction, ...] = ()
    pace: float = 0
    """seconds before each reply"""


def reply_of(steps: Sequence[Step]) -> str:
    """The reply that those steps amount to; "" if none."""
    text = ""
    for step in steps:
        match step:
            case str():
                text += step + "\n"
            case Raw(data):
                text += data.decode("latin-1").replace("\r\n", "\n")
            case Close() | Reset() | Silence():
                break
    return text.strip() if text[:3].isdigit() else ""


def ends(steps: Sequence[Step]) -> bool:
    """Whether nothing can be said in the session after those steps."""
    return any(isinstance(step, Close | Reset | Silence) for step in steps)
