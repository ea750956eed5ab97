"""The envelope of a transaction, and what has become of each of its recipients."""

from __future__ import annotations

from dataclasses import dataclass

from mailgate.protocol.command import Mailbox, MailParameters, ReversePath
from mailgate.protocol.events import Slot
from mailgate.relay.outcome import Kind, Outcome
from mailgate.relay.routing import Path


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path and MAIL's parameters, as the next hops are to get them."""

    reverse_path: ReversePath
    parameters: MailParameters
    per_recipient: bool
    """the client hears one reply per recipient behind the data: LMTP, or SMTP with PRDR"""


class Recipient:
    """One RCPT, known by its position: the same address twice is two recipients."""

    __slots__ = ("accepted", "arrived", "mailbox", "outcome", "position", "slot", "via")

    def __init__(self, position: int, mailbox: Mailbox, slot: Slot, arrived: float) -> None:
        self.position = position
        self.mailbox = mailbox
        self.slot = slot
        self.arrived = arrived
        """on Trio's clock"""
        self.accepted = False
        """its next hop has accepted it, on this path or on an earlier one"""
        self.outcome: Outcome | None = None
        """what became of it behind the RCPT; only that it has the message may still come to be known"""
        self.via: Path | None = None
        """the path that gave the last word on it"""

    @property
    def delivered(self) -> bool:
        """It has the message."""
        return self.outcome is not None and self.outcome.kind is Kind.DELIVERED

    def __repr__(self) -> str:
        return f"Recipient({self.position}, {self.mailbox!s}, {self.outcome})"
