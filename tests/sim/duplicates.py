"""Why a recipient has a message more often than it was sent to it. Pure.

A copy is accounted for if its sender knows of it: then nobody sends it again. Every other one may be followed by
another copy, and for each copy too many there has to be one that the sender did not know of, and a reason for that.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sim.dialogs import INSTANT, FromClient, Heard, ToNextHop, or_never
from sim.evidence import Evidence
from sim.records import Attempt, Copy, End, Said
from sim.summary import Duplicate, Finding

PROMISE = "duplicates_are_explained"

MOMENTS = 5.0
"""seconds behind our 2xx in which a crash of the gateway may be why its sender did not get it"""


def duplicates(evidence: Evidence) -> Counter[Duplicate]:
    """Copies too many, by why the sender did not know of an earlier one."""
    return Counter(why for why, _ in _extra(evidence))


def duplicates_are_explained(evidence: Evidence) -> Iterator[Finding]:
    """A recipient has a message again only if the sender could not know that it had it.

    Evidence is, for each copy, the upstream transaction that brought it, and the client's transaction that this was
    for. UNKNOWN: its 2xx never came to the gateway while that lived. CRASHED: the gateway's host crashed behind its
    dot, before it could tell the client or within moments of it, and its log says that it was committing. UNTOLD: the
    gateway had the 2xx, or wrote its own, but the client had left, or did not read it: no attempt of the sender's ended
    as delivered by it. MIXED: it wrote a 4xx, since other next hops had not taken the message, and the shared ledger
    did not help: it did not answer that gateway, or another one that was given the message later, or it has lost what
    it knew, or one entry was made twice, for equal messages. If it did help, the sender was told so later; if that was
    again in vain, the same reasons hold for it.
    Everything else is no explanation: that the client was told something else, or nothing although it was there. A
    reply that arrived upstream in the moment of a reset may be unknown.

    Where a message names an address n times, or is sent n times on purpose, n copies are none too many, and copies that
    the sender knows of explain nothing.
    """
    for why, copy in _extra(evidence):
        if why is Duplicate.OTHER:
            what = f"{copy.message}: <{copy.recipient}> has it once more, and there was no need to send it again"
            yield Finding(PROMISE, what, copy.time)


def _extra(evidence: Evidence) -> Iterator[tuple[Duplicate, Copy]]:
    history = evidence.history
    copies: dict[tuple[str, str], list[Copy]] = defaultdict(list)
    for copy in history.copies:
        copies[copy.message, copy.recipient].append(copy)
    wanted: Counter[tuple[str, str]] = Counter(
        (message.name, recipient) for message in history.messages.values() for recipient in message.recipients
    )
    duplicated: list[list[Copy]] = []
    for key, found in copies.items():
        if len(found) > max(wanted[key], 1):
            duplicated.append(sorted(found, key=lambda one: one.time))
    if not duplicated:
        return
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        if attempt.state == "delivered":
            attempts[history.messages[attempt.message].name].append(attempt)
    for found in duplicated:
        times = max(1, wanted[found[0].message, found[0].recipient])
        yield from _reasons(evidence, found, times, attempts[found[0].message])


def _reasons(
    evidence: Evidence, copies: Sequence[Copy], wanted: int, delivered: Sequence[Attempt]
) -> Iterator[tuple[Duplicate, Copy]]:
    """One reason for each copy too many."""
    brought: Counter[tuple[int, float]] = Counter()
    reasons: list[Duplicate] = []
    committing = evidence.committing
    for copy in copies:
        handed = _brought_by(evidence, copy)
        if handed is None or len(handed.givers) != 1:
            reasons.append(Duplicate.OTHER)
            continue
        key = handed.session.number, handed.began
        why = _reason(handed, handed.givers[0], copy, brought[key], delivered)
        brought[key] += 1
        if why is Duplicate.CRASHED and (handed.gateway, handed.givers[0].served.life, copy.via[0]) not in committing:
            why = Duplicate.OTHER  # the log tells the kinds apart
        if why is Duplicate.MIXED:
            why = _without_help(evidence, handed.givers[0], copy, delivered)
        if why is not None:
            reasons.append(why)
    extra = len(copies) - wanted
    reasons += [Duplicate.OTHER] * (extra - len(reasons))
    # The last copies need no reason. One that is no explanation is not hidden behind others.
    reasons.sort(key=lambda why: why is not Duplicate.OTHER)
    for why, copy in zip(reasons[:extra], copies[-extra:], strict=True):
        yield why, copy


def _brought_by(evidence: Evidence, copy: Copy) -> ToNextHop | None:
    """The upstream transaction whose dot came in last before the copy was made."""
    found: list[ToNextHop] = []
    for gateway in evidence.history.gateways if copy.via else ():
        life = evidence.life(gateway, copy.time)
        for one in range(life, -1, -1):
            served = evidence.of_id(gateway, one, copy.via[0])
            if served is not None:
                found += [handed for given in served.given for handed in given.dotted if _may_have(handed, copy)]
    return max(found, key=lambda one: or_never(one.transaction.dot_arrived), default=None)


def _may_have(handed: ToNextHop, copy: Copy) -> bool:
    arrived = or_never(handed.transaction.dot_arrived) <= copy.time + INSTANT
    return arrived and handed.session.server == copy.receiver and copy.recipient in handed.accepted


def _reason(
    handed: ToNextHop, given: FromClient, copy: Copy, number: int, delivered: Sequence[Attempt]
) -> Duplicate | None:
    """Why the sender did not know of a copy; None: it knew. `number`: copies of that address in that transaction."""
    same = [place for place, mailbox in enumerate(handed.accepted) if mailbox == copy.recipient]
    if number >= len(same):
        return Duplicate.OTHER  # it was not sent so often
    taken = [place for place in same if not _refused(handed.outcome(place))]
    index = (taken or same)[min(number, len(taken or same) - 1)]
    heard = handed.heard(index)
    if heard is Heard.NO:
        end = handed.session.client_end
        crashed = end is not None and end[1] is End.DETACHED
        return Duplicate.CRASHED if crashed else Duplicate.UNKNOWN
    place = _nth(given.accepted, copy.recipient, same.index(index))
    own = given.told(place)
    said = given.transaction.outcome(place) if given.transaction.prdr else own
    if own is None or (said is None and own.kind == 2):  # PRDR: without the final reply nothing counts
        why = _untold(given, None)
        return why if why is Duplicate.CRASHED or given.served.client_gone < math.inf else Duplicate.OTHER
    if said is None or said.kind != 2:
        if heard is Heard.MAYBE:
            return Duplicate.UNKNOWN
        if not given.together or own.kind != 4:
            return Duplicate.OTHER
        return Duplicate.UNTOLD if given.served.client_gone <= own.written else Duplicate.MIXED
    if _knew(given, copy.recipient, said, number, delivered):
        return None
    return _untold(given, said)


def _without_help(evidence: Evidence, given: FromClient, copy: Copy, delivered: Sequence[Attempt]) -> Duplicate | None:
    """Why the entry that a mixed outcome leaves is no help; None: it is, and the sender was told with its help."""
    entries, told = evidence.entries, or_never(given.over)
    mark = entries.mark(copy.message, copy.recipient)
    later = [
        other
        for other in evidence.of_message(copy.message)
        if copy.recipient in other.accepted and told <= or_never(other.transaction.dot_arrived) < math.inf
    ]
    last = max((or_never(other.transaction.dot_arrived) for other in later), default=told)
    if not entries.could_ask(given.served.gateway, given.served.life, told) or entries.lost(told, last):
        return Duplicate.MIXED
    if copy.message in evidence.twinned and entries.stood_for_two(mark):
        return Duplicate.MIXED
    for other in later:
        served, came = other.served, or_never(other.transaction.dot_arrived)
        if not entries.could_ask(served.gateway, served.life, came):
            return Duplicate.MIXED
        if entries.took(served.gateway, served.life, mark, came, other.over):
            said = other.told(other.accepted.index(copy.recipient))
            if said is None or (said.kind == 2 and not _knew(other, copy.recipient, said, 0, delivered)):
                return _untold(other, said)
    return None


def _untold(given: FromClient, said: Said | None) -> Duplicate:
    """Why a 2xx did not come to a client, if it was written."""
    crash = given.served.life_ended
    if said is None:
        behind = min(given.served.closed, given.served.client_gone)
        return Duplicate.CRASHED if crash < math.inf and crash <= behind + MOMENTS else Duplicate.UNTOLD
    crashed_then = said.arrived is None and said.written - INSTANT <= crash <= said.written + MOMENTS
    return Duplicate.CRASHED if crashed_then else Duplicate.UNTOLD


def _refused(said: Said | None) -> bool:
    return said is not None and said.kind in (4, 5)


def _nth(mailboxes: Sequence[str], mailbox: str, number: int) -> int:
    """The place of an address, when it has been there so often; the last one, if there are not so many."""
    places = [place for place, one in enumerate(mailboxes) if one == mailbox]
    return places[min(number, len(places) - 1)] if places else 0


def _knew(given: FromClient, recipient: str, said: Said, number: int, delivered: Sequence[Attempt]) -> bool:
    """Whether an attempt at that gateway ended as delivered behind that reply, for so many positions of the address."""
    message = given.message
    if message is None or said.arrived is None:
        return False
    address, session = given.session.server_address, given.session
    known = sum(
        message.recipients[one.position] == recipient
        and one.gateway == address
        and one.began <= said.written + INSTANT
        and session.connecting - INSTANT <= one.began
        and said.arrived <= one.ended + INSTANT
        for one in delivered
    )
    return known > number
