"""What became of a message that a `ScriptedSender` sent, and how long it waits."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mailgate.network import Address
from mailgate.testing.transcript import Transcript


class Stage(enum.Enum):
    """How far a session had come when a recipient's fate in it was known."""

    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "EHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "message"
    DOT = "dot"


class State(enum.Enum):
    """What became of a recipient."""

    DELIVERED = "delivered"
    """a gateway said 2xx after the message: it is no longer ours"""
    REFUSED = "refused"
    """5xx: the sender would be told so"""
    DEFERRED = "deferred"
    """no gateway took it now: a real server would try again later"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one recipient at one gateway."""

    gateway: Address
    stage: Stage
    text: str
    """the reply, or what happened instead, such as "connection lost" """
    state: State
    seconds: float
    """until this was known, from the connect, or from the begin of a later transaction in the session"""

    def __str__(self) -> str:
        return f"{self.gateway} {self.stage.value}: {self.text} ({self.seconds:.3f} s)"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one recipient, and by which attempts."""

    recipient: str
    state: State
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Sending:
    """What became of a message: one fate per recipient, in their order, duplicates included."""

    fates: tuple[Fate, ...]
    transcripts: tuple[Transcript, ...]
    """one per connection that was opened"""
    seconds: float

    def _in(self, state: State) -> tuple[str, ...]:
        return tuple(fate.recipient for fate in self.fates if fate.state is state)

    @property
    def delivered(self) -> tuple[str, ...]:
        """The recipients that a gateway took the message for."""
        return self._in(State.DELIVERED)

    @property
    def refused(self) -> tuple[str, ...]:
        """The recipients that were refused for good."""
        return self._in(State.REFUSED)

    @property
    def deferred(self) -> tuple[str, ...]:
        """The recipients that nobody took, and nobody refused for good."""
        return self._in(State.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long it waits, in seconds: Postfix's defaults, which are those of RFC 5321 section 4.5.3.2 or more."""

    connect: float = 30
    greeting: float = 300
    hello: float = 300
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    body: float = 180
    """for each piece of the message to be taken"""
    dot: float = 600
