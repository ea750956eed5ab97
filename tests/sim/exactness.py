"""How often there was something to be exact about: several next hops in one transaction, and what came of it. Pure."""

from __future__ import annotations

from collections import Counter

from sim.dialogs import FromClient, or_never
from sim.entries import ENTRY, in_time
from sim.evidence import Evidence, domain_of
from sim.summary import Exact


def exact(evidence: Evidence) -> Counter[Exact]:
    """By what happened; nothing where each next hop has a transaction of its own, and no ledger is shared."""
    history = evidence.history
    counts: Counter[Exact] = Counter()
    for given in evidence.given:
        if given.together:
            _count(counts, given)
    for asking in history.askings:
        counts[Exact.ASKED] += 1
        counts[Exact.UNANSWERED] += not in_time(asking)
        if asking.takes:
            entries = sum(mark.startswith(ENTRY) for mark, found in _found(asking.marks, asking.found) if found)
            counts[Exact.SPARED] += entries
            counts[Exact.MARKED] += sum(asking.found) - entries
    for handed in evidence.handed:
        if history.handover and handed.session.server == history.handover and handed.transaction.outcomes:
            counts[Exact.HANDED] += len(handed.accepted) * (handed.transaction.outcomes[0].kind == 2)
    counts[Exact.FOR_TWO] = _one_for_two(evidence)
    counts[Exact.TWINS] = sum(bool(message.twin) for message in history.messages.values())
    return +counts


def _one_for_two(evidence: Evidence) -> int:
    """Recipients that were told to have it more often than they have; promise 1 is that there is a reason for that."""
    history = evidence.history
    copies = Counter((copy.message, copy.recipient) for copy in history.copies)
    told = Counter(
        (message.name, message.recipients[settled.position])
        for settled in history.settled
        for message in (history.messages[settled.message],)
        if settled.state == "delivered"
    )
    return sum((told - copies).values())


def _found(marks: tuple[str, ...], found: tuple[bool, ...]) -> list[tuple[str, bool]]:
    return list(zip(marks, found, strict=False))


def _count(counts: Counter[Exact], given: FromClient) -> None:
    """One transaction."""
    if given.transaction.dot_arrived is None or len({domain_of(mailbox) for mailbox in given.accepted}) < 2:
        return
    counts[Exact.SEVERAL] += 1
    taken: Counter[str] = Counter()
    dots: Counter[str] = Counter()
    for handed in sorted(given.dotted, key=lambda one: or_never(one.transaction.dot_written)):
        for index, mailbox in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            dots[mailbox] += 1
            taken[mailbox] += outcome is not None and outcome.kind == 2
    wanted = Counter(given.accepted)
    counts[Exact.AGAIN] += sum((dots - wanted).values())
    counts[Exact.MIXED] += bool(+taken) and given.told(0) is not None and given.transaction.outcomes[0].kind == 4
