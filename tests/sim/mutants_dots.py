"""Mutants that write a dot too many, or forget what became of one: promises 4 and 5 of docs/ARCHITECTURE.md."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from mailgate.protocol.events import ContentEnd, Event, Gone
from mailgate.protocol.reply import reply
from mailgate.protocol.server import ServerProtocol, State
from mailgate.relay import outcome
from mailgate.relay.apart import Apart
from mailgate.relay.body import Body, Reader
from mailgate.relay.delivery import Delivery
from mailgate.relay.envelope import Recipient
from mailgate.relay.intake import Intake
from mailgate.relay.outcome import Failure, Kind, Outcome, Stage
from mailgate.relay.routing import NextHop
from mailgate.relay.transaction import Transaction
from mailgate.session.client import ClientSession, Lost
from mailgate.session.server import ServerSession
from sim.mutant import Change, Mutant, changes

_next = Body._next
_reader = Body.reader
_leave = Body._leave
_next_event = ServerProtocol.next_event
_commit = Delivery._commit
_settle = Delivery._settle
_tell_outcome = Transaction._tell_outcome

BEGINNING = 512
"""octets: our own `Received:` line is less"""

NOT_ALL = reply(451, "4.3.0", "Not all recipients have the message")


# 4. Only complete messages are committed


async def _next_there_is(self: Body, position: int) -> bytes:
    """Only a message's beginning is waited for; whoever has read all that there is then has read all."""
    if position >= self.size > BEGINNING:
        return b""
    return await _next(self, position)


def _event_at_end(self: ServerProtocol) -> Event | None:
    """The end of the client's stream, however it came, is the end of the message."""
    event = _next_event(self)
    if not isinstance(event, Gone) or self.state is not State.CONTENT:
        return event
    self._decoder = None
    self.state = State.OUTCOME
    return ContentEnd(self._outcome_slots())


def _gone_outside_the_message(self: ServerSession) -> bool:
    return self._wire.end is not None and self._protocol.state is not State.CONTENT


@contextlib.contextmanager
def _the_rest_is_replayed() -> Iterator[None]:
    """A reader that replays begins where the one before it has stopped."""
    read: dict[Body, int] = {}

    def leave(self: Body, reader: Reader) -> None:
        read[self] = reader.position
        _leave(self, reader)

    def begin(self: Body, *, holds: bool) -> Reader:
        reader = _reader(self, holds=holds)
        reader.position = read.get(self, 0)
        return reader

    with changes(Change(Body, "_leave", leave), Change(Body, "reader", begin))():
        yield


# 5. One next hop takes it; unknown is unknown


def _settle_but_unknown(self: Delivery, recipient: Recipient, result: Outcome) -> None:
    if result is not outcome.UNKNOWN or self.over:
        _settle(self, recipient, result)


async def _commit_until_known(self: Delivery, session: ClientSession) -> Failure | None:
    """With `_settle_but_unknown`: whoever has no outcome then is unknown."""
    failure = await _commit(self, session)
    if failure is None and any(one.outcome is None for one in self._here):
        return outcome.failure(Stage.CONTENT, Lost("it was lost behind the dot"))
    return failure


async def _commit_until_taken(self: Delivery, session: ClientSession) -> Failure | None:
    """As if somebody else had the message, and there was time."""
    self.patience_until = math.inf
    return await _commit(self, session)


def _begun(_: Transaction) -> bool:
    return True


# Duplicates


def _tell_all_or_nothing(self: Transaction, recipient: Recipient) -> None:
    """As in plain SMTP: one answer for all, and it is 451 where their outcomes differ."""
    if not self._envelope.per_recipient or self._refusal is not None:
        _tell_outcome(self, recipient)
        return
    known = [one.outcome for one in self._intake.accepted if one.outcome is not None]
    if len(known) < len(self._intake.accepted):
        return
    same = all(one.kind is known[0].kind for one in known)
    for one, result in zip(self._intake.accepted, known, strict=True):
        slot = self._slots.get(one.position)
        if slot is not None and slot.reply is None:
            self._session.answer(slot, result.reply if same else NOT_ALL)


def _exclude_nobody(self: Apart, hop: NextHop) -> bool:
    return False


def _room(_: Intake, __: NextHop) -> int:
    """As if each recipient had a reply of its own at the client's, as it has at an LMTP next hop's."""
    return 100


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "what is there is all",
        "only_complete_messages_are_committed",
        "whoever reads the body takes it for complete when the client pauses",
        changes(Change(Body, "_next", _next_there_is)),
    ),
    Mutant(
        "the client's end is a dot",
        "only_complete_messages_are_committed",
        "a client's connection that ends inside the message ends the message",
        changes(
            Change(ServerProtocol, "next_event", _event_at_end),
            Change(ServerSession, "gone", property(_gone_outside_the_message)),
        ),
    ),
    Mutant(
        "the rest is replayed",
        "only_complete_messages_are_committed",
        "a session lost inside the message is followed by one that gets the rest of it",
        _the_rest_is_replayed,
    ),
    Mutant(
        "unknown is tried elsewhere",
        "one_next_hop_takes_it",
        "a session lost behind our dot is followed by another path",
        changes(Change(Delivery, "_commit", _commit_until_known), Change(Delivery, "_settle", _settle_but_unknown)),
    ),
    Mutant(
        "deferred is tried elsewhere",
        "one_next_hop_takes_it",
        "a 4xx to the dot is followed by another path",
        changes(Change(Delivery, "_commit", _commit_until_taken), Change(Transaction, "begun", _begun)),
    ),
    Mutant(
        "unknown is logged as deferred",
        "unknown_is_told_and_logged",
        "behind a dot without its reply nobody knows that the next hop may have the message",
        changes(Change(outcome, "UNKNOWN", Outcome(Kind.DEFERRED, outcome.OUTCOME_UNKNOWN))),
    ),
    Mutant(
        "all or nothing",
        "duplicates_are_explained",
        "where outcomes of one transaction differ, each recipient is told 451",
        changes(Change(Transaction, "_tell_outcome", _tell_all_or_nothing)),
    ),
    Mutant(
        "several next hops at once",
        "duplicates_are_explained",
        "a plain SMTP transaction may have recipients of several next hops, and one reply for all",
        changes(Change(Apart, "excludes", _exclude_nobody)),
    ),
    Mutant(
        "several mailboxes at once",
        "duplicates_are_explained",
        "a plain SMTP transaction may have several recipients at an LMTP next hop, and one reply for all",
        changes(Change(Intake, "_capacity", _room)),
    ),
)
