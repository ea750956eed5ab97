"""Whether a run kept all promises: every checker over one history, and the run in figures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from sim.duplicates import duplicates, duplicates_are_explained
from sim.evidence import Evidence
from sim.exactness import exact
from sim.expectations import Site, of_both_topologies
from sim.liveness import mail_arrives_in_time
from sim.promises_dots import (
    half,
    one_next_hop_takes_it,
    only_complete_messages_are_committed,
    unknown_is_told_and_logged,
)
from sim.promises_gateway import (
    no_open_relay,
    no_session_kills_another,
    nothing_is_left,
    strangers_do_not_poison_health,
)
from sim.promises_outcomes import delivered_only_when_a_next_hop_took_it, lost, refused_only_by_its_own_next_hop
from sim.promises_replies import every_reply_is_in_time, one_reply_per_recipient_in_order
from sim.promises_together import (
    nothing_else_is_remembered,
    one_dot_goes_first,
    what_was_not_told_is_remembered,
)
from sim.records import History, Kind
from sim.summary import Finding, Summary
from sim.temper import poisoned

Check = Callable[[Evidence], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    delivered_only_when_a_next_hop_took_it,
    refused_only_by_its_own_next_hop,
    one_reply_per_recipient_in_order,
    only_complete_messages_are_committed,
    one_next_hop_takes_it,
    unknown_is_told_and_logged,
    one_dot_goes_first,
    what_was_not_told_is_remembered,
    nothing_else_is_remembered,
    every_reply_is_in_time,
    nothing_is_left,
    no_open_relay,
    no_session_kills_another,
    strangers_do_not_poison_health,
    duplicates_are_explained,
    mail_arrives_in_time,
)
"""by the promises of docs/ARCHITECTURE.md, in their order, and what follows from them for senders and receivers"""

_WRONG = (
    "delivered_only_when_a_next_hop_took_it",
    "refused_only_by_its_own_next_hop",
    "one_reply_per_recipient_in_order",
    "one_next_hop_takes_it",
    "unknown_is_told_and_logged",
    "every_reply_is_in_time",
)

_SITE = of_both_topologies()


def check(history: History, site: Site = _SITE) -> list[Finding]:
    """What is wrong in a run, by checker."""
    evidence = Evidence(history, site)
    return [finding for one in CHECKS for finding in one(evidence)]


def summarize(history: History, findings: Sequence[Finding], site: Site = _SITE) -> Summary:
    """A run in figures. Messages of strangers are not counted: nobody waits for them."""
    counted = Counter(finding.promise for finding in findings)
    honest = {message.id for message in history.messages.values() if not message.foreign}
    states = Counter(one.state for one in history.settled if one.message in honest)
    evidence = Evidence(history, site)
    missing = sum(1 for _ in lost(evidence))
    faults = Counter(fault.kind for fault in history.faults)
    faults[Kind.STRANGER] = sum(bool(poisoned(message.reverse_path)) for message in history.messages.values())
    return Summary(
        seeds=[history.seed],
        messages=len(honest),
        recipients=states.total(),
        delivered=states["delivered"],
        refused=states["refused"],
        expired=states["expired"],
        attempts=sum(attempt.message in honest for attempt in history.attempts),
        sessions=len(history.sessions),
        faults=dict(+faults),
        hits=dict(Counter((hit.side, hit.kind, hit.phase) for hit in history.hits)),
        lost=missing,
        half=sum(1 for _ in half(history)),
        wrong=sum(counted[promise] for promise in _WRONG) - missing,
        duplicates=dict(duplicates(evidence)),
        services={history.service: 1},
        exact=dict(exact(evidence)),
        left=counted["nothing_is_left"],
        late=counted["mail_arrives_in_time"],
        findings=[(history.seed, finding) for finding in findings],
        simulated=history.ended,
    )


def merge(summaries: Iterable[Summary]) -> Summary:
    """Several runs as one."""
    total = Summary()
    for one in summaries:
        for name in _SUMS:
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.seeds += one.seeds
        total.findings += one.findings
        total.digests |= one.digests
        total.faults = dict(Counter(total.faults) + Counter(one.faults))
        total.hits = dict(Counter(total.hits) + Counter(one.hits))
        total.duplicates = dict(Counter(total.duplicates) + Counter(one.duplicates))
        total.services = dict(Counter(total.services) + Counter(one.services))
        total.exact = dict(Counter(total.exact) + Counter(one.exact))
    return total


_SUMS = (
    "messages",
    "recipients",
    "delivered",
    "refused",
    "expired",
    "attempts",
    "sessions",
    "lost",
    "half",
    "wrong",
    "left",
    "late",
    "simulated",
    "cpu",
)
