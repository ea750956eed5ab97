"""Plain SMTP, *together*: several next hops in one transaction, and one reply for all. Pure.

The client gets a single reply behind its dot. As long as no dot of ours is out, every ending is harmless: nobody has
the message, and 451 says so (promise 4: and none is out before the client's own is in). Behind the first dot there
may be a recipient who has it beside one who has not, and whatever the client is told is false for one of them. So

- no dot is written before every delivery has written all but its dot: what can fail before it has failed by then;
- then one next hop gets its dot, alone: its refusal still leaves nobody with the message;
- as soon as it has accepted, all others get theirs, at the same time: from here on refusals are mended by patience,
  by the handover, or by the ledger, and waiting for one another would only make the client wait.

Which reply follows is decided here too. A 5xx is passed on only where every recipient has it from one and the same
next hop (promise 2): otherwise it would be another recipient's refusal. So the refused ones are put off, come again
alone, and alone each hears its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from mailgate.protocol.reply import Reply, reply
from mailgate.relay.outcome import DELIVERED_BEFORE, Kind, Outcome, undelivered

KEPT_BACK = undelivered(reply(451, "4.3.0", "The message was held back, try again"))
"""the outcome of whom a failure elsewhere has kept from the message"""

NOT_ALL = reply(451, "4.3.0", "Not all recipients have the message, try again")
NOT_ALL_WILLING = reply(451, "4.5.3", "Not all recipients take the message, try again: then each hears its own answer")

_TOLD = 20
"""refusals that one reply tells"""

_LASTING = ("2", "7")
"""subjects of enhanced status codes (RFC 3463): mailbox and policy, which do not change while a client waits"""


class Part(Protocol):
    """A delivery, as the others see it."""

    @property
    def open(self) -> bool:
        """It has accepted recipients without an outcome."""

    @property
    def ready(self) -> bool:
        """All but its dot is written."""

    @property
    def undecided(self) -> bool:
        """Its dot may be out, and not all of the answers to it are here."""


P = TypeVar("P", bound=Part)


def begun(parts: Sequence[Part], outcomes: Sequence[Outcome]) -> bool:
    """Whether somebody has the message, or may have it any moment: then it is worth trying for the others."""
    return _delivered(outcomes) or any(part.undecided for part in parts)


def to_commit(parts: Sequence[P], outcomes: Sequence[Outcome]) -> Sequence[P]:
    """Who may write its dot now."""
    if _delivered(outcomes):
        return [part for part in parts if part.ready]
    if any(part.undecided for part in parts):
        return []
    left = [part for part in parts if part.open]
    return left[:1] if all(part.ready for part in left) else []


def doomed(parts: Sequence[Part], outcomes: Sequence[Outcome]) -> bool:
    """Somebody will not have the message, and nobody has it yet: then nobody is to have it."""
    return bool(outcomes) and not begun(parts, outcomes)


def passes(result: Outcome) -> bool:
    """Whether a next hop that gave this outcome may think better of it while the client waits."""
    return result.kind is Kind.DEFERRED and result.reply.enhanced.split(".")[1:2] not in ([one] for one in _LASTING)


def to_hand_over(outcomes: Sequence[Outcome]) -> bool:
    """Whether the handover makes one 250 true of all: some have the message, some have not, and no one is in doubt."""
    kinds = [one.kind for one in outcomes]
    return Kind.DELIVERED in kinds and Kind.UNKNOWN not in kinds and not all(one is Kind.DELIVERED for one in kinds)


def one_reply(outcomes: Sequence[Outcome]) -> Reply:
    """The one reply of plain SMTP for all recipients of a transaction."""
    replies = list(dict.fromkeys(one.reply for one in outcomes if one is not DELIVERED_BEFORE))
    kinds = {one.kind for one in outcomes}
    if (len(replies) == 1 and len(kinds) == 1) or kinds == {Kind.DELIVERED}:
        return [*replies, DELIVERED_BEFORE.reply][0]
    if kinds == {Kind.REJECTED}:
        return reply(554, "5.0.0", "Refused:", *(str(one) for one in replies[:_TOLD]))
    return NOT_ALL_WILLING if any(one.kind is Kind.REJECTED for one in outcomes) else NOT_ALL


def _delivered(outcomes: Sequence[Outcome]) -> bool:
    return any(one.kind is Kind.DELIVERED for one in outcomes)
