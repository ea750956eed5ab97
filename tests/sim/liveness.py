"""Mail arrives: once nothing is broken any more, and before, as soon as its senders try where nothing is. Pure."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sim.dialogs import INSTANT, FromClient, ToNextHop, or_never
from sim.evidence import Evidence, domain_of
from sim.expectations import Site
from sim.failover import untried
from sim.records import STORE_KINDS, Attempt, History, Message, Phase, Said, Session, Settled, Side
from sim.schedules import bound
from sim.summary import Finding

PROMISE = "mail_arrives_in_time"

TOGETHER = 3
"""transactions that one next hop may fail for the others, where there is one reply for all: at both gateways within a
run, and once more when it has let the others go first"""

AFTERMATH = 120.0
"""seconds behind a fault in which a gateway may still act on it: paths rest for 60 s after their last failure, and
hosts that had enough sessions get no more for 60"""

OWN_AFTERMATH = 40.0
"""seconds in which a gateway notices what was done to one session of its own that was being opened"""

PAUSE = 3.0
"""seconds without an attempt that part two runs of a sender's queue: within a run the next gateway's turn is at once,
or after two"""

RUN = 900.0
"""seconds that a run takes at most where nothing is broken, the wait for the dot's reply included"""

SPARE = 2
"""runs that a recipient may need on top of those that are explained: what a run finds when it begins may be old"""

_OPENING = (Phase.CONNECT, Phase.GREETING, Phase.EHLO)
_ANOTHER_HOP = re.compile(r"452[ -]4\.5\.3")


@dataclass(slots=True)
class _Run:
    """One turn of a message in its sender's queue."""

    began: float
    ended: float
    attempts: list[Attempt]


def mail_arrives_in_time(evidence: Evidence) -> Iterator[Finding]:
    """Every recipient of an honest message is settled, none expires, and none is later than its sender's schedule asks.

    In a run of a sender's queue with nothing broken from 120 s before it until its end, and nothing done to a session
    that had to do with it, every recipient is settled that is tried. Put off it may be only by a 4xx that its own next
    hop has said in that run, or by 452 4.5.3 for another next hop's sake: as often as the message has next hops
    (of which LMTP makes one of each recipient), and once more. Where there is one reply for several next hops it may
    also be put off by that, when a recipient's next hop has failed the transaction: three times as often as that.
    Faults of single sessions disturb others only where they may make a path look down, that is before MAIL. What
    happens to the shared ledger is no excuse at all.

    Once all faults are over, a recipient has as many runs of its sender's schedule as it was put off in that way, one
    for each next hop, and two to spare. Recipients with nothing but their own next hop's 4xx may expire.

    And at any time, nobody hears that there is no path before every server was tried (`sim.failover`).
    """
    history = evidence.history
    settled = {(one.message, one.position): one for one in history.settled}
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        attempts[attempt.message].append(attempt)
    given: dict[str, list[FromClient]] = defaultdict(list)
    for one in evidence.given:
        if one.message is not None:
            given[one.message.id].append(one)
    in_vain: dict[str, list[Session]] = defaultdict(list)
    for session in history.sessions:
        if session.faults and not session.transactions:
            in_vain[session.client].append(session)
    yield from untried(evidence, PROMISE)
    calendar = _Calendar(history)
    for message in history.messages.values():
        if not message.foreign:
            runs = _runs(attempts[message.id])
            story = _Story(evidence, message, runs, given[message.name], in_vain[message.sender], calendar)
            for position in range(len(message.recipients)):
                what = story.late(position, settled.get((message.id, position)))
                if what is not None:
                    recipient = message.recipients[position]
                    yield Finding(PROMISE, f"{message.id} <{recipient}>: {what}", history.ended)


def _runs(attempts: Sequence[Attempt]) -> list[_Run]:
    runs: list[_Run] = []
    for attempt in sorted(attempts, key=lambda one: (one.began, one.ended)):
        if runs and attempt.began <= runs[-1].ended + PAUSE:
            runs[-1].attempts.append(attempt)
            runs[-1].ended = max(runs[-1].ended, attempt.ended)
        else:
            runs.append(_Run(attempt.began, attempt.ended, [attempt]))
    return runs


class _Calendar:
    """When anything was broken that is not one session's own affair."""

    def __init__(self, history: History) -> None:
        opening = {
            (hit.session, hit.time) for hit in history.hits if hit.side is Side.UPSTREAM and hit.phase in _OPENING
        }
        spans: list[tuple[float, float]] = []
        for fault in history.faults:
            _, is_session, number = fault.target.partition("session ")
            if fault.kind in STORE_KINDS:
                continue
            if not is_session:
                spans.append((fault.time, max(fault.time, fault.until)))
            elif (int(number), fault.time) in opening:
                spans.append((fault.time, fault.time + OWN_AFTERMATH))
        self._begins: list[float] = []
        self._latest: list[float] = []  # the latest end of all that begin until then
        for begins, ends in sorted(spans):
            self._begins.append(begins)
            self._latest.append(max(ends, self._latest[-1] if self._latest else -math.inf))

    def quiet(self, since: float, until: float) -> bool:
        """Whether nothing was broken in that time."""
        place = bisect_right(self._begins, until)
        return place == 0 or self._latest[place - 1] < since


class _Story:
    """What became of a message."""

    def __init__(
        self,
        evidence: Evidence,
        message: Message,
        runs: Sequence[_Run],
        given: Sequence[FromClient],
        in_vain: Sequence[Session],
        calendar: _Calendar,
    ) -> None:
        """`in_vain`: sessions of its sender to which something was done before MAIL, for whichever message."""
        self._evidence = evidence
        self._message = message
        self._runs = runs
        self._given = given
        self._in_vain = in_vain
        self._calendar = calendar
        self._inside: dict[float, Sequence[FromClient]] = {}  # by the begin of a run
        self._turns = _turns(message, evidence.site)
        self._together = any(one.together for one in given)

    def late(self, position: int, settled: Settled | None) -> str | None:
        """Why a recipient is late; None: it is not."""
        history = self._evidence.history
        works = max(history.calm, self._message.submitted)
        sent_away = 0
        owed = self._turns + SPARE
        last_was_own = False
        for run in self._runs:
            last = _last(run, position)
            if last is None or last.state != "deferred":
                continue
            after_all = run.began >= works
            if not after_all and not self._quiet(run):
                continue
            last_was_own = self._put_off(run, position)
            if last_was_own:
                owed += 1
                continue
            if not self._quiet(run):
                continue
            if _ANOTHER_HOP.match(last.text) or self._failed_together(run, position):
                sent_away += 1
                owed += self._together
                if sent_away <= (self._turns + 1) * (TOGETHER if self._together else 1):
                    continue
            return f"put off at {run.ended:.0f} by {last.stage}: {last.text!r}, although nothing was broken"
        if settled is None:
            return "still queued at the end"
        if settled.state == "expired" and not last_was_own:
            return "expired"
        by = self._by(works, owed)
        if settled.state != "expired" and settled.time > by:
            return f"settled at {settled.time:.0f}, {settled.time - by:.0f} s late"
        return None

    def _by(self, works: float, runs: int) -> float:
        schedule = self._evidence.site.schedules.get(self._message.sender)
        if schedule is None:
            return math.inf
        time = works + RUN
        for _ in range(runs):
            time = bound(schedule, self._message.submitted, time, RUN)
        return time

    def _quiet(self, run: _Run) -> bool:
        if not self._calendar.quiet(run.began - AFTERMATH, run.ended):
            return False
        if any(run.began - INSTANT <= one.connecting <= run.ended for one in self._in_vain):
            return False
        return not any(
            one.session.faults or any(handed.session.faults for handed in one.handed) for one in self._in(run)
        )

    def _in(self, run: _Run) -> Sequence[FromClient]:
        found = self._inside.get(run.began)
        if found is None:
            found = self._inside[run.began] = [
                one
                for one in self._given
                if one.session.connecting <= run.ended + INSTANT and or_never(one.transaction.mail.arrived) >= run.began
            ]
        return found

    def _put_off(self, run: _Run, position: int) -> bool:
        """Its own next hop has said 4xx in that run."""
        mailbox = self._message.recipients[position]
        return any(
            said.kind == 4 and run.began <= or_never(said.arrived) <= run.ended + INSTANT
            for one in self._in(run)
            for handed in one.handed
            for said in self._about(handed, mailbox)
        )

    def _failed_together(self, run: _Run, position: int) -> bool:
        """It was in a transaction with one reply for all, and somebody's next hop has said 4xx or 5xx."""
        mailbox = self._message.recipients[position]
        return any(
            said.kind in (4, 5)
            for one in self._in(run)
            if one.together and mailbox in one.accepted
            for other in one.accepted
            for handed in one.handed
            for said in self._about(handed, other)
        )

    def _about(self, handed: ToNextHop, mailbox: str) -> Iterator[Said]:
        """What a next hop has said about a recipient, or about a message that was for it."""
        yield from self._evidence.about_message(handed, mailbox)
        for other, asked in handed.transaction.rcpts:
            if other == mailbox and asked.reply is not None:
                yield asked.reply
        for index, other in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if other == mailbox and outcome is not None:
                yield outcome


def _turns(message: Message, site: Site) -> int:
    """Transactions that it takes to reach all next hops of a message, where each takes one of them."""
    domains = Counter(domain_of(recipient) for recipient in message.recipients)
    return sum(times if domain in site.one_by_one else 1 for domain, times in domains.items())


def _last(run: _Run, position: int) -> Attempt | None:
    return max((one for one in run.attempts if one.position == position), key=lambda one: one.ended, default=None)
