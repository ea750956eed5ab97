"""What a delivery tells whoever started it."""

from __future__ import annotations

from typing import Protocol

from mailgate.protocol.reply import Reply
from mailgate.relay.envelope import Recipient


class Reports(Protocol):
    """Nothing here waits."""

    def answered(self, recipient: Recipient, answer: Reply) -> None:
        """The next hop's answer to RCPT, or ours in its place."""

    def data_taken(self) -> None:
        """The next hop has said 354."""

    def ready(self) -> None:
        """All but the dot is written; `Delivery.commit` lets it out."""

    def committing(self) -> None:
        """The dot is about to be written."""

    def decided(self) -> None:
        """All answers to the dot are here, and told as outcomes."""

    def begun(self) -> bool:
        """Somebody has the message, or may have: then it is worth trying again for the others."""

    def settled(self, recipient: Recipient) -> None:
        """An accepted recipient has its outcome."""
