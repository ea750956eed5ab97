"""What the server's side of a session tells the one who decides: slots to be answered, and events."""

from __future__ import annotations

from dataclasses import dataclass

from mailgate.protocol import command
from mailgate.protocol.command import MailParameters, Verb
from mailgate.protocol.framing import Flaw
from mailgate.protocol.reply import Reply


class Slot:
    """The place of one reply in the order of replies."""

    __slots__ = ("about", "reply", "verb")

    def __init__(self, verb: Verb, about: str) -> None:
        self.verb = verb
        self.about = about
        self.reply: Reply | None = None

    def __repr__(self) -> str:
        return f"Slot({self.about!r}, {self.reply!s})"


@dataclass(frozen=True, slots=True)
class MailAsked:
    """MAIL came: answer its slot."""

    slot: Slot
    reverse_path: command.ReversePath
    parameters: MailParameters


@dataclass(frozen=True, slots=True)
class RcptAsked:
    """RCPT came: answer its slot."""

    slot: Slot
    mailbox: command.Mailbox


@dataclass(frozen=True, slots=True)
class DataAsked:
    """DATA came, with at least one accepted recipient: answer its slot with 354 or a refusal."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Content:
    """Some octets of the message, clean: lines end in CRLF, no dot-stuffing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ContentSpoilt:
    """The message turned out to be one that nobody may have; no more of it comes, but its end will.

    Its reply is then the flaw's.
    """

    flaw: Flaw


@dataclass(frozen=True, slots=True)
class ContentEnd:
    """The client's dot is in: answer the slots, one per accepted recipient in LMTP and PRDR, else just one."""

    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction, if there was one, is off: RSET, or a new HELO, EHLO or LHLO."""


@dataclass(frozen=True, slots=True)
class Quit:
    """The client said QUIT, and has its 221."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The client's side of the connection has ended without QUIT."""


Event = MailAsked | RcptAsked | DataAsked | Content | ContentSpoilt | ContentEnd | Reset | Quit | Gone
