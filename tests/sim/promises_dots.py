"""Promises 4 and 5: what is committed, how often, and what becomes of unknown outcomes. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sim.dialogs import INSTANT, FromClient, Heard, ToNextHop, or_never, replies_due
from sim.evidence import Evidence
from sim.records import Copy, End, History, Said
from sim.summary import Finding

COMPLETE = "only_complete_messages_are_committed"
ONE = "one_next_hop_takes_it"
UNKNOWN = "unknown_is_told_and_logged"

# 4. Only complete messages


def only_complete_messages_are_committed(evidence: Evidence) -> Iterator[Finding]:
    """A dot is written upstream only once the client's own has come in, behind what that client sent.

    Evidence is the time at which the client's dot was in the gateway's host, not later than that of ours, and the
    digests of what was in front of either; and whatever a receiver has put into a mailbox is the whole message. What
    receivers saw gateways do against the protocol counts here: line ends and dots are how a message's end is told.
    """
    for handed in evidence.handed:
        own = handed.transaction
        if own.dot_written is None:
            continue
        arrived = min((or_never(given.transaction.dot_arrived) for given in handed.givers), default=None)
        what = None
        if arrived is None:
            what = "a dot was written for no client's transaction"
        elif arrived > own.dot_written + INSTANT:
            what = "a dot was written before the client's own had come in"
        elif own.digest not in {given.transaction.digest for given in handed.givers}:
            what = "another message was sent than the client's"
        if what is not None:
            yield Finding(COMPLETE, f"<{own.reverse_path}>: {what}", own.dot_written, handed.session.number)
    for copy in half(evidence.history):
        yield Finding(COMPLETE, f"{copy.message}: <{copy.recipient}> has something else", copy.time)
    for violation in evidence.history.violations:
        yield Finding(COMPLETE, f"a receiver saw: {violation}", evidence.history.ended)


def half(history: History) -> Iterator[Copy]:
    """Copies whose content is not that of their message."""
    for copy in history.copies:
        message = history.messages.get(copy.message)
        if message is None or message.digest != copy.digest:
            yield copy


# 5. Once


def one_next_hop_takes_it(evidence: Evidence) -> Iterator[Finding]:
    """Within a client's transaction the dot is written at most once for each recipient, whatever came of it.

    Evidence is the upstream transactions in which the gateway wrote a dot: together they have no address more often
    than the client has been told 250 for it at RCPT. So a recipient that was put off there has no dot either.

    Where there is one reply for several next hops, the dot may be written again for a recipient of whom it is known
    that it has nothing: the next hop had answered the dot before with 4xx, and neither for its mailbox nor by policy
    (4.2.x, 4.7.x), and a new session begins within 240 s of the client's dot; or with 4xx or 5xx, and the handover gets
    the next one, when nothing is unknown.
    """
    for given in evidence.given:
        if given.dotted:
            yield from (_again if given.together else _twice)(evidence, given)


def _twice(_: Evidence, given: FromClient) -> Iterator[Finding]:
    allowed = Counter(given.accepted)
    written = Counter(mailbox for handed in given.dotted for mailbox in handed.accepted)
    for mailbox, times in written.items():
        if times > allowed[mailbox]:
            last = given.dotted[-1].transaction.dot_written
            what = f"<{mailbox}>: accepted {allowed[mailbox]} times, and the dot was written {times} times"
            yield Finding(ONE, what, or_never(last), given.session.number)


PATIENCE = 240.0
"""seconds after the client's dot in which a next hop may be tried again"""

_LASTING = re.compile(r"\d{3}[ -]4\.[27]\.")


def _again(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    """More dots than one, each of which has to be explained by the answers before it."""
    dots = sorted(given.dotted, key=lambda one: or_never(one.transaction.dot_written))
    allowed = Counter(given.accepted)
    for place, handed in enumerate(dots):
        time = or_never(handed.transaction.dot_written)
        to_handover = evidence.is_handover(handed.session)
        for mailbox in dict.fromkeys(handed.accepted):
            before = [
                (other.outcome(index), other.heard(index))
                for other in dots[:place]
                for index, one in enumerate(other.accepted)
                if one == mailbox and or_never(other.transaction.dot_written) <= time
            ]
            had = sum(not _nothing_came_of(said, heard, time) for said, heard in before)
            refusals = [said for said, _ in before if said is not None and said.kind != 2]
            what = None
            if had + handed.accepted.count(mailbox) > allowed[mailbox]:
                what = "it had the message, or might have it"
            elif refusals and len(before) >= allowed[mailbox] and not to_handover:
                if any(said.kind == 5 or _LASTING.match(said.text) for said in refusals):
                    what = f"it had been refused by {refusals[-1].text!r}"
                elif handed.began > or_never(given.transaction.dot_arrived) + PATIENCE + INSTANT:
                    what = "the time for that was over"
            if what is not None:
                yield Finding(ONE, f"<{mailbox}>: the dot was written again, and {what}", time, given.session.number)


def _nothing_came_of(said: Said | None, heard: Heard, time: float) -> bool:
    # Where nobody can tell whether it was heard: without having heard it nobody would write the dot again.
    refused = said is not None and said.kind in (4, 5) and or_never(said.arrived) <= time + INSTANT
    return refused and heard is not Heard.NO


def unknown_is_told_and_logged(evidence: Evidence) -> Iterator[Finding]:
    """An outcome that the gateway cannot have heard is told as 4xx, and the line that ends its transaction says so.

    Evidence is a dot that was written upstream, and a reply to it that never arrived, or not before the gateway had
    closed. (A reply that arrived in the moment of a reset may have been heard or not.) It is told if the client is
    there to be told: whether a reply is missing is another promise's. It is logged in any case, once all replies are
    written or the session is over, or 600 s after the dot, if the gateway lived until a second later.

    And the gateway waits for the reply to its dot for as long as there is time, and the next hop and its path are
    there: that it closed its session earlier is what nobody need take for an unknown outcome.
    """
    for handed in evidence.handed:
        if _stopped_waiting(handed):
            time, what = (
                or_never(handed.transaction.dot_arrived),
                "the gateway stopped waiting for the reply to its dot",
            )
            yield Finding(UNKNOWN, what, time, handed.session.number)
    logged = _logged(evidence)
    for given in evidence.given:
        unknown = Counter(
            mailbox
            for handed in given.dotted
            for index, mailbox in enumerate(handed.accepted)
            if len(handed.givers) == 1 and handed.heard(index) is Heard.NO
        )
        if unknown:
            yield from _untold(given, unknown)
            yield from _unlogged(evidence, given, unknown, logged)


def _untold(given: FromClient, unknown: Mapping[str, int]) -> Iterator[Finding]:
    told: dict[str, list[int | None]] = defaultdict(list)
    for index, mailbox in enumerate(given.accepted):
        said = given.told(index)
        told[mailbox].append(said.kind if said is not None else None)
    for mailbox, times in unknown.items():
        if None not in told[mailbox] and told[mailbox].count(4) < times:
            what = f"<{mailbox}>: the outcome was unknown {times} times, and told as {told[mailbox]}"
            yield _finding(given, what)


def _stopped_waiting(handed: ToNextHop) -> bool:
    own, session, end = handed.transaction, handed.session, handed.session.client_end
    if own.dot_arrived is None or end is None or end[1] is End.DETACHED or len(handed.givers) != 1:
        return False
    closed = end[0]
    complete = len(own.outcomes) >= replies_due(own, len(handed.accepted))
    if complete and all(or_never(said.arrived) <= closed for said in own.outcomes[-1:]):
        return False
    # A goodbye of the next hop is all that will come from it; and so is the end of its side, or of the connection.
    lost = min(or_never(session.broken), session.server_end[0] if session.server_end is not None else or_never(None))
    if lost <= closed or any(said.code == 421 for said in own.outcomes):
        return False
    return closed < or_never(handed.givers[0].transaction.dot_arrived) + _WAITED - _GRACE


_WAITED = 540.0
"""seconds after the client's dot in which we wait for outcomes (docs/ARCHITECTURE.md, Budgets); not what is configured,
or a wrong budget would excuse itself"""

_GRACE = 1.0
"""seconds from the last reply, or the end of the session, until the line is written"""

_AT_LAST = 600.0
"""seconds from the dot until every outcome is settled, whoever is there"""


def _logged(evidence: Evidence) -> Mapping[tuple[str, int, str], Sequence[str]]:
    """(gateway, life, id) → the outcomes in the lines that end its transactions."""
    outcomes: dict[tuple[str, int, str], list[str]] = defaultdict(list)
    for line in evidence.history.log:
        listed = line.fields.get("outcomes")
        if isinstance(listed, list | tuple):
            outcomes[line.gateway, line.life, str(line.fields.get("id"))] += map(str, listed)
    return outcomes


def _unlogged(
    evidence: Evidence,
    given: FromClient,
    unknown: Mapping[str, int],
    logged: Mapping[tuple[str, int, str], Sequence[str]],
) -> Iterator[Finding]:
    served = given.served
    name = evidence.ids.get(served.session.number)
    dot = or_never(given.transaction.dot_arrived)
    until = min(given.over, dot + _AT_LAST) + _GRACE
    if name is None or min(served.life_ended, evidence.history.ended) < until:
        return
    lines = logged.get((served.gateway, served.life, name), [])
    for mailbox, times in unknown.items():
        found = sum(line.startswith(f"{mailbox} unknown:") for line in lines)
        if found < times:
            yield _finding(given, f"<{mailbox}>: the outcome was unknown, and the log does not say so")


def _finding(given: FromClient, what: str) -> Finding:
    own = given.transaction
    time = own.outcomes[-1].written if own.outcomes else or_never(own.dot_arrived)
    return Finding(UNKNOWN, what, time, given.session.number)
