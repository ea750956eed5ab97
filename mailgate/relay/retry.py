"""What a transaction finds that an earlier try of its message has left, and what it leaves for the next one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailgate.protocol.command import Mailbox, ReversePath
from mailgate.relay.envelope import Recipient
from mailgate.relay.ledger import Digest
from mailgate.relay.outcome import DELIVERED_BEFORE
from mailgate.relay.recall import Delivered, Recall
from mailgate.relay.together import KEPT_BACK


class Retry:
    """Of one transaction."""

    def __init__(self, recall: Recall, sender: ReversePath) -> None:
        self._recall = recall
        self._sender = sender
        self._digest = Digest()
        self._left: list[Recipient] = []  # their entries are made

    def feed(self, content: bytes) -> None:
        """The next octets of the content, as they were received."""
        if self._recall.enabled:
            self._digest.feed(content)

    async def recognise(self, recipients: Iterable[Recipient]) -> list[Recipient]:
        """The content is complete: those who have it already, with that for an outcome. Takes a second at most."""
        asked = [one for one in recipients if one.outcome is None]
        before = await self._recall.delivered_before([self._delivered(one) for one in asked])
        known = [one for one, found in zip(asked, before, strict=True) if found]
        for recipient in known:  # even if it was given up meanwhile: this is what is true
            recipient.outcome = DELIVERED_BEFORE
        self._recall.met(len(known))
        return known

    async def leave_entries(self, recipients: Iterable[Recipient]) -> None:
        """The client does not hear of their success: remember who has the message. Takes a second at most."""
        delivered = [one for one in recipients if one.delivered and one not in self._left]
        self._left += delivered
        await self._recall.remember([self._delivered(one) for one in delivered])

    def to_leave(self, recipients: Iterable[Recipient]) -> list[Delivered]:
        """The entries of those who have the message, but for those made already."""
        return [self._delivered(one) for one in recipients if one.delivered and one not in self._left]

    async def put_off(self, accepted: Sequence[Recipient], before: Sequence[Mailbox], *, others_wait: bool) -> None:
        """After a failure: who has failed lets the others go first, once, if there are any. Takes a second at most.

        `before`: who was put off in this transaction. It was in vain, so they are again: otherwise two that fail would
        take turns, and a third one would never have its own. `others_wait`: some have to come in another transaction.
        """
        failed = [one.mailbox for one in accepted if not one.delivered and one.outcome != KEPT_BACK]
        if failed and (others_wait or len(failed) < len(accepted)):
            await self._recall.put_off(self._sender, list(dict.fromkeys([*failed, *before])))

    async def put_off_again(self, recipients: Sequence[Mailbox]) -> None:
        """There was nobody that these could let go first. Takes a second at most."""
        await self._recall.put_off_again(self._sender, recipients)

    def _delivered(self, recipient: Recipient) -> Delivered:
        before = recipient.outcome is DELIVERED_BEFORE
        return Delivered(self._sender, recipient.mailbox, self._digest.value, before=before)
