"""Mutants that tell a client what is not so: promises 1, 2 and 3 of docs/ARCHITECTURE.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mailgate.protocol.command import Mailbox, Verb
from mailgate.protocol.events import Gone, Quit, Slot
from mailgate.protocol.reply import Reply, Role, passed_on, reply
from mailgate.protocol.server import ServerProtocol
from mailgate.relay import delivery as delivery_module
from mailgate.relay import dot, outcome
from mailgate.relay.delivery import Delivery
from mailgate.relay.envelope import Recipient
from mailgate.relay.outcome import Failure, Kind, Outcome, Scope
from mailgate.relay.transaction import Transaction
from mailgate.session.client import ClientSession, Lost, Patience
from sim.mutant import Change, Mutant, changes

TAKEN = reply(250, "2.0.0", "Taken")
REFUSED = reply(550, "5.4.0", "Refused")

_commit = Delivery._commit
_hear = dot.hear
_finish = Transaction._finish
_tell_outcome = Transaction._tell_outcome
_outcome = outcome.outcome
_offer = ClientSession.offer
_answer = ServerProtocol.answer


# 1. Delivered only when a next hop took it


async def _tell_at_commit(self: Delivery, session: ClientSession) -> Failure | None:
    for recipient in self._here:
        self._settle(recipient, Outcome(Kind.DELIVERED, TAKEN))
    return await _commit(self, session)


def _all_but_refusals_are_good(theirs: Reply) -> Outcome:
    return Outcome(Kind.DELIVERED, TAKEN) if theirs.kind == 4 else _outcome(theirs)


def _tell_the_first_outcome(self: Transaction, recipient: Recipient) -> None:
    known = [one.outcome for one in self._intake.accepted if one.outcome is not None]
    if self._envelope.per_recipient and recipient.outcome is not None:
        recipient.outcome = known[0]
    _tell_outcome(self, recipient)


async def _hear_one_reply(
    session: ClientSession, role: Role, recipients: Sequence[Recipient], heard: dot.Heard
) -> bool:
    return await _hear(session, Role.SMTP, recipients, heard)


def _without_the_final_reply(replies: Sequence[Reply], final: Reply) -> list[Outcome]:
    return [outcome.outcome(one) for one in replies]


# 2. Refused only by its own next hop


def _final(theirs: Reply, detail: str = "0.0") -> Reply:
    """As `passed_on`; a 4xx of one of our next hops becomes a 5xx."""
    answer = passed_on(theirs, detail)
    if answer.kind != 4:
        return answer
    return dataclasses.replace(answer, code=answer.code + 100, enhanced=f"5{answer.enhanced[1:]}")


async def _offer_backwards(self: ClientSession, mailboxes: Sequence[Mailbox], patience: Patience) -> Lost | None:
    return await _offer(self, mailboxes[::-1], patience)


# 3. One reply per recipient, in order


def _answer_at_once(self: ServerProtocol, slot: Slot, answer: Reply) -> None:
    """Replies to the dot leave in the order in which they become known."""
    places = [number for number, one in enumerate(self._slots) if one.verb is Verb.DOT]
    if slot.verb is Verb.DOT and slot in self._slots:
        self._slots.remove(slot)
        self._slots.insert(places[0], slot)
    _answer(self, slot, answer)


async def _finish_by_address(self: Transaction, slots: tuple[Slot, ...]) -> Quit | Gone | None:
    """Of recipients with the same address only the first one is known behind the dot."""
    if self._envelope.per_recipient:
        firsts = {one.mailbox: one for one in reversed(self._intake.accepted)}
        for recipient, slot in zip(self._intake.accepted, slots, strict=True):
            if firsts[recipient.mailbox] is not recipient:
                self._session._protocol._slots.remove(slot)
    return await _finish(self, slots)


async def _finish_by_next_hop(self: Transaction, slots: tuple[Slot, ...]) -> Quit | Gone | None:
    """The outcomes are told one delivery after the other."""
    self._intake.accepted.sort(key=lambda one: one.mailbox.domain)
    return await _finish(self, slots)


def _tell_by_address(self: Transaction, recipient: Recipient) -> None:
    """The outcomes are kept by address, so whoever comes last under one is who is told."""
    if self._envelope.per_recipient:
        recipient = [one for one in self._intake.accepted if one.mailbox == recipient.mailbox][-1]
    if recipient.outcome is not None or not self._envelope.per_recipient:
        _tell_outcome(self, recipient)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "told at commit",
        "delivered_only_when_a_next_hop_took_it",
        "250 is told as soon as our dot is being written",
        changes(Change(Delivery, "_commit", _tell_at_commit)),
    ),
    Mutant(
        "deferred is delivered",
        "delivered_only_when_a_next_hop_took_it",
        "250 is told, as at RCPT, although the next hop said 4xx to the dot",
        changes(Change(outcome, "outcome", _all_but_refusals_are_good)),
    ),
    Mutant(
        "unknown is delivered",
        "delivered_only_when_a_next_hop_took_it",
        "a session lost behind our dot counts as a delivery",
        changes(Change(outcome, "UNKNOWN", Outcome(Kind.DELIVERED, TAKEN))),
    ),
    Mutant(
        "first outcome for all",
        "delivered_only_when_a_next_hop_took_it",
        "where each recipient has a reply of its own, each gets the first outcome there is",
        changes(Change(Transaction, "_tell_outcome", _tell_the_first_outcome)),
    ),
    Mutant(
        "LMTP has one reply",
        "delivered_only_when_a_next_hop_took_it",
        "the first reply of an LMTP next hop to the dot counts for all recipients",
        changes(Change(dot, "hear", _hear_one_reply)),
    ),
    Mutant(
        "PRDR without its end",
        "delivered_only_when_a_next_hop_took_it",
        "a next hop's final reply in PRDR is not minded, only those for each recipient",
        changes(Change(outcome, "prdr_outcomes", _without_the_final_reply)),
    ),
    Mutant(
        "unknown is refused",
        "refused_only_by_its_own_next_hop",
        "a session lost behind our dot is told as 550",
        changes(Change(outcome, "UNKNOWN", Outcome(Kind.REJECTED, REFUSED))),
    ),
    Mutant(
        "no path is final",
        "refused_only_by_its_own_next_hop",
        "that no path to the next hop could be opened is told as 550",
        changes(Change(outcome, "_TOLD", {**outcome._TOLD, Scope.PATH: REFUSED})),
    ),
    Mutant(
        "4xx at RCPT becomes 5xx",
        "refused_only_by_its_own_next_hop",
        "a next hop's temporary refusal of a recipient is passed on as a final one",
        changes(Change(delivery_module, "passed_on", _final)),
    ),
    Mutant(
        "4xx at the dot becomes 5xx",
        "refused_only_by_its_own_next_hop",
        "a next hop's temporary refusal of a message is passed on as a final one",
        changes(Change(outcome, "passed_on", _final)),
    ),
    Mutant(
        "refusals change places",
        "refused_only_by_its_own_next_hop",
        "recipients go out in another order than that in which the replies are taken",
        changes(Change(ClientSession, "offer", _offer_backwards)),
    ),
    Mutant(
        "outcomes overtake",
        "one_reply_per_recipient_in_order",
        "behind the dot each reply leaves as soon as it is known",
        changes(Change(ServerProtocol, "answer", _answer_at_once)),
    ),
    Mutant(
        "outcomes by next hop",
        "one_reply_per_recipient_in_order",
        "behind the dot the replies come in the order of next hops, not of recipients",
        changes(Change(Transaction, "_finish", _finish_by_next_hop)),
    ),
    Mutant(
        "duplicates are merged",
        "one_reply_per_recipient_in_order",
        "recipients with the same address have one reply behind the dot",
        changes(Change(Transaction, "_finish", _finish_by_address)),
    ),
    Mutant(
        "outcomes by address",
        "one_reply_per_recipient_in_order",
        "outcomes are kept by address, so that of two recipients with the same one the first is never told",
        changes(Change(Transaction, "_tell_outcome", _tell_by_address)),
    ),
)
