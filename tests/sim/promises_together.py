"""Several next hops in one transaction, one reply for all: whose dot goes first, and what the ledger knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sim.dialogs import INSTANT, FromClient, Heard, ToNextHop, or_never
from sim.entries import ENTRY
from sim.evidence import Evidence
from sim.records import Asking, Service
from sim.summary import Finding

FIRST = "one_dot_goes_first"
REMEMBERED = "what_was_not_told_is_remembered"
NOTHING_ELSE = "nothing_else_is_remembered"

# Whose dot goes first


def one_dot_goes_first(evidence: Evidence) -> Iterator[Finding]:
    """Of several next hops one gets its dot first, when all have all but that, and the others once it has taken it.

    Evidence is, in each transaction that has one reply for several next hops, the time of each dot upstream. Before
    the first, every recipient who was accepted has an upstream transaction with its whole message. Every other dot is
    behind a 2xx for one of the recipients. Where somebody has the message from an earlier transaction, as the wire
    shows, it is too late for all that.
    """
    for given in evidence.given:
        if given.together and given.dotted:
            yield from _too_early(evidence, given)


def _too_early(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    first, *others = sorted(given.dotted, key=lambda one: or_never(one.transaction.dot_written))
    begins = or_never(first.transaction.dot_written)
    if any(evidence.delivered_before(given, mailbox, begins) for mailbox in given.accepted):
        return
    for mailbox in dict.fromkeys(given.accepted):
        if not any(_is_out(given, handed, mailbox, begins) for handed in given.handed):
            what = f"the first dot was written before the message was out for <{mailbox}>"
            yield Finding(FIRST, what, begins, given.session.number)
    success = min((time for handed in given.dotted for time in _taken(handed)), default=or_never(None))
    for handed in others:
        time = or_never(handed.transaction.dot_written)
        if time < success - INSTANT:
            yield Finding(FIRST, "another dot was written before somebody had the message", time, given.session.number)


def _is_out(given: FromClient, handed: ToNextHop, mailbox: str, time: float) -> bool:
    """The whole message was written there, but for its dot, when the session was still there."""
    own, end = handed.transaction, handed.session.client_end
    if mailbox not in handed.accepted or own.data is None or own.data.reply is None:
        return False
    there = or_never(own.data.reply.arrived) <= time and (end is None or end[0] >= time - INSTANT)
    return there and own.octets >= given.transaction.octets


def _taken(handed: ToNextHop) -> Iterator[float]:
    for index in range(len(handed.accepted)):
        outcome = handed.outcome(index)
        if outcome is not None and outcome.kind == 2:
            yield handed.arrived(index)


# What the ledger knows

MOMENTS = 3.0
"""seconds from a session's end until its gateway has made the entries: a second for the shared ledger, two to spare"""


def what_was_not_told_is_remembered(evidence: Evidence) -> Iterator[Finding]:
    """With a shared ledger within reach, no recipient gets a second copy of what was delivered and not told.

    Evidence is what the ledger's server was asked, and when. A 4xx for a transaction that has a reply for all is
    written only when there is an entry for each of its recipients for whom a 2xx had arrived; and where a client had
    gone before any reply for them was written, the entries are made within 3 s of its session's end. No dot is
    written for a recipient who had an entry from the client's dot on until then. A gateway is excused, where an answer
    of the server was missing, or not there within a second, for the 5 s that follow; and where it crashed.
    """
    if evidence.history.service is Service.APART:
        return
    for given in evidence.given:
        if given.message is not None and given.transaction.dot_arrived is not None:
            yield from _not_made(evidence, given)
            yield from _not_minded(evidence, given)


def _not_made(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    served, own = given.served, given.transaction
    for mailbox, since in _delivered(evidence, given):
        said = None if given.per_recipient else given.told(0)
        if said is not None and said.kind == 4 and since <= said.written + INSTANT:
            # A client that has gone before is not told, and what it was not told is written down from then on.
            begins, by = min(said.written, max(since, served.client_gone)), said.written
            why = f"it was told {said.text!r}"
        elif own.outcomes or served.client_gone > served.closed or served.closed == or_never(None):
            continue
        else:
            begins, by, why = max(since, served.client_gone), served.closed + MOMENTS, "the client had gone"
        if served.life_ended <= by or evidence.history.stopping <= by:
            continue
        if not evidence.entries.could_ask(served.gateway, served.life, begins, by):
            continue
        mark = evidence.entries.mark(given.name, mailbox)
        if not evidence.entries.made(served.gateway, served.life, mark, or_never(own.dot_arrived), by):
            what = f"<{mailbox}> has {given.name}, {why}, and the ledger does not know"
            yield Finding(REMEMBERED, what, by, given.session.number)


def _delivered(evidence: Evidence, given: FromClient) -> Iterator[tuple[str, float]]:
    """(recipient, when the gateway knew that it has the message): from its next hop, or from the ledger."""
    served, came, until = given.served, or_never(given.transaction.dot_arrived), given.over
    beside = [
        other
        for other in evidence.of_message(given.name)
        if other is not given and (other.served.gateway, other.served.life) == (served.gateway, served.life)
        if or_never(other.transaction.dot_arrived) <= until and came <= other.over
    ]
    # Whose question it was cannot be told where equal messages come at the same time.
    for mailbox in () if beside else dict.fromkeys(given.accepted):
        if evidence.entries.took(served.gateway, served.life, evidence.entries.mark(given.name, mailbox), came, until):
            yield mailbox, came
    for handed in given.dotted:
        for index, mailbox in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if outcome is not None and outcome.kind == 2 and handed.heard(index) is Heard.YES:
                yield mailbox, handed.arrived(index)


def _not_minded(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    served, came = given.served, or_never(given.transaction.dot_arrived)
    if not evidence.entries.could_ask(served.gateway, served.life, came):
        return
    for handed in given.dotted:
        time = or_never(handed.transaction.dot_written)
        for mailbox in handed.accepted:
            mark = evidence.entries.mark(given.name, mailbox)
            if evidence.entries.was_there(mark, came, time):
                what = f"<{mailbox}> was sent {given.name} again, and the ledger knew that it had it"
                yield Finding(REMEMBERED, what, time, handed.session.number)


def nothing_else_is_remembered(evidence: Evidence) -> Iterator[Finding]:
    """Every entry in the shared ledger is that of a delivery that has succeeded, and of which its client knows nothing.

    Evidence is a 2xx of a next hop that had arrived in that gateway, or an entry that it had taken before, in a
    client's transaction for that recipient; and that the client has said nothing, nor ended its side in an orderly
    way, after it had got a 2xx for it. Nor is one left that was made before that, in the same transaction. So an equal
    message that is sent on purpose finds no entry.
    """
    for asking in evidence.history.askings:
        for mark in () if asking.takes else asking.marks:
            if mark.startswith(ENTRY):
                what = _unfounded(evidence, asking, mark)
                if what is not None:
                    yield Finding(NOTHING_ELSE, f"{asking.gateway} made an entry for {what}", asking.time)


def _unfounded(evidence: Evidence, asking: Asking, mark: str) -> str | None:
    whose = evidence.entries.whose(mark)
    if whose is None:
        return "no message that there is"
    message, recipient = whose
    why = f"{message}, and nobody had told it that <{recipient}> has it"
    for given in reversed(evidence.of_message(message)):  # the last one is the most likely
        served = given.served
        if (served.gateway, served.life) != (asking.gateway, asking.life) or recipient not in given.accepted:
            continue
        if not _had_it(evidence, given, recipient, mark, asking.time):
            continue
        if _knew(given, recipient, asking.time):
            why = f"{message} for <{recipient}>, of which its client knew"
        elif _left_over(evidence, given, recipient, mark, asking):
            why = f"{message} for <{recipient}>, and left it there when its client knew"
        else:
            return None
    return why


def _left_over(evidence: Evidence, given: FromClient, recipient: str, mark: str, asking: Asking) -> bool:
    signs = [sign for sign in given.signs(recipient) if sign < evidence.history.ended - MOMENTS]
    within = asking.time <= given.over + INSTANT and asking.done is not None
    return within and bool(signs) and evidence.entries.was_there(mark, or_never(asking.done), min(signs) + MOMENTS)


def _had_it(evidence: Evidence, given: FromClient, recipient: str, mark: str, until: float) -> bool:
    for handed in given.dotted:
        for index, mailbox in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if mailbox == recipient and outcome is not None and outcome.kind == 2 and handed.arrived(index) <= until:
                return True
    came = or_never(given.transaction.dot_arrived)
    return came <= until and evidence.entries.took(given.served.gateway, given.served.life, mark, came, until)


def _knew(given: FromClient, recipient: str, until: float) -> bool:
    """Its client has given a sign of life behind a 2xx for that recipient: then it has read it."""
    return any(
        mailbox == recipient and said is not None and said.kind == 2 and given.sign(said) <= until
        for index, mailbox in enumerate(given.accepted)
        for said in (given.told(index),)
    )
