"""Why a recipient has a message more often than it was sent to it. Pure.

A copy is accounted for if its sender knows of it: then nobody sends it again. Every other one may be followed by
another copy, and for each copy too many there has to be one that the sender did not know of, and a reason for that.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sim.evidence import INSTANT, Evidence, FromClient, Heard, ToNextHop, or_never
from sim.records import Attempt, Copy, Duplicate, End, Finding, Said

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
    as delivered by it. Everything else is no explanation: that the client was told something else, or nothing although
    it was there. A reply that arrived upstream in the moment of a reset may be unknown.

    Where a message names an address n times, n copies are none too many, and copies that the sender knows of explain
    nothing.
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
    duplicated: list[list[Copy]] = []
    for (name, recipient), found in copies.items():
        message = history.messages.get(name)
        wanted = message.recipients.count(recipient) if message is not None else 0
        if len(found) > max(wanted, 1):
            duplicated.append(sorted(found, key=lambda one: one.time))
    if not duplicated:
        return
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        if attempt.state == "delivered":
            attempts[attempt.message].append(attempt)
    for found in duplicated:
        yield from _reasons(evidence, found, attempts[found[0].message])


def _reasons(
    evidence: Evidence, copies: Sequence[Copy], delivered: Sequence[Attempt]
) -> Iterator[tuple[Duplicate, Copy]]:
    """One reason for each copy too many."""
    message = evidence.history.messages.get(copies[0].message)
    wanted = max(1, message.recipients.count(copies[0].recipient) if message is not None else 0)
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
    crash = given.served.life_ended
    if heard is Heard.NO:
        end = handed.session.client_end
        crashed = end is not None and end[1] is End.DETACHED
        return Duplicate.CRASHED if crashed else Duplicate.UNKNOWN
    place = _nth(given.accepted, copy.recipient, same.index(index))
    own = given.told(place)
    said = given.transaction.outcome(place) if given.transaction.prdr else own
    if own is None or (said is None and own.kind == 2):  # PRDR: without the final reply nothing counts
        if crash < math.inf and crash <= min(given.served.closed, given.served.client_gone) + MOMENTS:
            return Duplicate.CRASHED
        return Duplicate.UNTOLD if given.served.client_gone < math.inf else Duplicate.OTHER
    if said is None or said.kind != 2:
        return Duplicate.UNKNOWN if heard is Heard.MAYBE else Duplicate.OTHER
    if _knew(given, copy.recipient, said, number, delivered):
        return None
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
