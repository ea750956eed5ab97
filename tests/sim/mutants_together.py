"""Mutants of several next hops with one reply for all, of the ledger, and of who has to let others go first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from mailgate.protocol.command import Mailbox
from mailgate.protocol.events import Slot
from mailgate.protocol.reply import Reply, reply
from mailgate.relay import together
from mailgate.relay.conversation import Conversation
from mailgate.relay.envelope import Recipient
from mailgate.relay.intake import Intake
from mailgate.relay.outcome import DELIVERED_BEFORE, Kind, Outcome
from mailgate.relay.recall import Delivered, Recall
from mailgate.relay.retry import Retry
from mailgate.relay.together import Part
from mailgate.relay.transaction import Transaction
from sim.mutant import Change, Mutant, budget, changes

TAKEN = reply(250, "2.0.0", "Taken")
LEDGER_GONE = reply(451, "4.3.0", "The ledger cannot be reached")

_one_reply = together.one_reply
_passes = together.passes
_take = Intake.take
_delivered_before = Recall.delivered_before
_leave_entries = Retry.leave_entries


# Whose dot goes first


def _whoever_is_ready(parts: Sequence[Part], outcomes: Sequence[Outcome]) -> Sequence[Part]:
    return [part for part in parts if part.ready]


def _the_first_is_ready(parts: Sequence[Part], outcomes: Sequence[Outcome]) -> Sequence[Part]:
    if any(one.kind is Kind.DELIVERED for one in outcomes):
        return [part for part in parts if part.ready]
    if any(part.undecided for part in parts):
        return []
    return [part for part in parts if part.ready][:1]


def _never_doomed(parts: Sequence[Part], outcomes: Sequence[Outcome]) -> bool:
    return False


def _everything_passes(result: Outcome) -> bool:
    return result.kind in (Kind.DEFERRED, Kind.REJECTED)


# What one reply says


def _one_is_enough(outcomes: Sequence[Outcome]) -> Reply:
    return TAKEN if any(one.kind is Kind.DELIVERED for one in outcomes) else _one_reply(outcomes)


def _a_refusal_is_everybodys(outcomes: Sequence[Outcome]) -> Reply:
    return next((one.reply for one in outcomes if one.kind is Kind.REJECTED), _one_reply(outcomes))


def _hand_over_what_is_left(outcomes: Sequence[Outcome]) -> bool:
    kinds = [one.kind for one in outcomes]
    return Kind.DELIVERED in kinds and not all(one is Kind.DELIVERED for one in kinds)


# The ledger


async def _ask_nobody(self: Recall, deliveries: Sequence[Delivered]) -> tuple[bool, ...]:  # noqa: ASYNC124 - it stands for one that waits
    return (False,) * len(deliveries)


async def _look_and_leave(self: Recall, deliveries: Sequence[Delivered]) -> tuple[bool, ...]:
    found = await _delivered_before(self, deliveries)
    await self.remember([one for one, there in zip(deliveries, found, strict=True) if there])
    return found


async def _leave_entries_of_all(self: Retry, recipients: Iterable[Recipient]) -> None:
    known = [one for one in recipients if one.outcome is not None]
    self._left += known
    await self._recall.remember(
        [self._delivered(one) for one in known if one.outcome is not None and one.outcome.kind is not Kind.REJECTED]
    )


async def _leave_entries_later(self: Retry, recipients: Iterable[Recipient]) -> None:
    """Those that are left over are made when the transaction is."""


async def _leave_no_entry_again(self: Retry, recipients: Iterable[Recipient]) -> None:
    self._left += [one for one in recipients if one.outcome is DELIVERED_BEFORE]
    await _leave_entries(self, [one for one in recipients if one.outcome is not DELIVERED_BEFORE])


async def _remember_it_here(self: Recall, deliveries: Sequence[Delivered]) -> None:  # noqa: ASYNC124
    self.remember_here(deliveries)


async def _remember_no_untold(self: Conversation) -> None:  # noqa: ASYNC124
    self._untold = []


async def _wait_for_all(self: Transaction) -> None:
    while not self._intake.settled:
        self._progress = trio.Event()
        await self._progress.wait()


def _know_no_content(self: Retry, content: bytes) -> None:
    """All messages look the same."""


# Who lets others go first


async def _put_nobody_off(
    self: Retry, accepted: Sequence[Recipient], before: Sequence[Mailbox], *, others_wait: bool
) -> None:
    """Whoever has failed comes again with the others."""


async def _take_with_a_ledger(self: Intake, slot: Slot, mailbox: Mailbox) -> None:
    recall = self._shared.recall
    if recall._store is None or recall._reachable:
        await _take(self, slot, mailbox)
    else:
        self._session.answer(slot, LEDGER_GONE)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "dots at once",
        "one_dot_goes_first",
        "whoever has written the message writes the dot, too",
        changes(Change(together, "to_commit", _whoever_is_ready)),
    ),
    Mutant(
        "the first one does not wait",
        "one_dot_goes_first",
        "the first dot is written as soon as one next hop has the message but for it",
        changes(Change(together, "to_commit", _the_first_is_ready)),
    ),
    Mutant(
        "a refusal stops nobody",
        "one_dot_goes_first",
        "when the first dot is refused, the next one is written",
        changes(Change(together, "doomed", _never_doomed)),
    ),
    Mutant(
        "refused for good is tried again",
        "one_next_hop_takes_it",
        "patience has no regard to what a refusal says",
        changes(Change(together, "passes", _everything_passes)),
    ),
    Mutant(
        "patience has no end",
        "one_next_hop_takes_it",
        "next hops are tried again for 500 s",
        changes(budget("patience", 500), budget("attempts", 500)),
    ),
    Mutant(
        "one is enough",
        "delivered_only_when_a_next_hop_took_it",
        "250 is told when one of several next hops has the message",
        changes(Change(together, "one_reply", _one_is_enough)),
    ),
    Mutant(
        "a refusal is everybody's",
        "refused_only_by_its_own_next_hop",
        "5xx is told when one of several next hops has refused the message",
        changes(Change(together, "one_reply", _a_refusal_is_everybodys)),
    ),
    Mutant(
        "unknown is handed over",
        "one_next_hop_takes_it",
        "the handover gets those as well who may have the message",
        changes(Change(together, "to_hand_over", _hand_over_what_is_left)),
    ),
    Mutant(
        "the ledger is not asked",
        "what_was_not_told_is_remembered",
        "whoever has the message already gets it again",
        changes(Change(Recall, "delivered_before", _ask_nobody)),
    ),
    Mutant(
        "entries stay",
        "nothing_else_is_remembered",
        "an entry is found again and again, and swallows equal messages that are sent on purpose",
        changes(Change(Recall, "delivered_before", _look_and_leave)),
    ),
    Mutant(
        "entries for what is unknown",
        "nothing_else_is_remembered",
        "there are entries also for outcomes that are unknown, or 4xx",
        changes(Change(Retry, "leave_entries", _leave_entries_of_all)),
    ),
    Mutant(
        "entries after the reply",
        "what_was_not_told_is_remembered",
        "a client hears that not all have the message before the ledger knows who has",
        changes(Change(Retry, "leave_entries", _leave_entries_later)),
    ),
    Mutant(
        "entries only once",
        "what_was_not_told_is_remembered",
        "an entry that was taken away is not made anew when the transaction has a mixed outcome again",
        changes(Change(Retry, "leave_entries", _leave_no_entry_again)),
    ),
    Mutant(
        "entries stay at home",
        "what_was_not_told_is_remembered",
        "entries are made in the gateway's own memory, although there is a shared ledger",
        changes(Change(Recall, "remember", _remember_it_here)),
    ),
    Mutant(
        "untold is forgotten",
        "what_was_not_told_is_remembered",
        "no entry is made for deliveries whose client has left",
        changes(
            Change(Conversation, "_remember_untold", _remember_no_untold),
            Change(Transaction, "_all_settled", _wait_for_all),
        ),
    ),
    Mutant(
        "content does not count",
        "nothing_else_is_remembered",
        "an entry is for whatever message of that sender to that recipient",
        changes(Change(Retry, "feed", _know_no_content)),
    ),
    Mutant(
        "nobody is put off",
        "mail_arrives_in_time",
        "a recipient that has failed comes again with the others, and fails them again",
        changes(Change(Retry, "put_off", _put_nobody_off)),
    ),
    Mutant(
        "no mail without the ledger",
        "mail_arrives_in_time",
        "recipients are put off as long as the shared ledger cannot be reached",
        changes(Change(Intake, "take", _take_with_a_ledger)),
    ),
)
