"""What a run is measured by. Pure: from the record of a run to sums, which add up over runs."""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from mailgate.network import Address
from sim.records import Copy, History, Message, Settled
from sim.site import Topology
from sim.study.failures import HOUR, Calendar
from sim.study.layout import GATEWAYS, site_of, ways
from sim.study.messages import Planned
from sim.study.relay import Bounce, Stay

LATE = HOUR
"""seconds from submission after which a recipient counts as stuck"""

SOON = 60.0
"""seconds in which a gateway hands on what it was given, or the transfer was useless"""


class Direction(enum.Enum):
    """Of mail."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Place(enum.Enum):
    """Where a recipient's message is."""

    SENDER = "at its sender"
    GATEWAY = "in a gateway's queue"
    RETURNED = "sent back already"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A whole message came over a wire: its dot has arrived."""

    message: str
    client: str
    server: str
    """names of hosts"""
    time: float
    octets: int


@dataclass(slots=True)
class Evidence:
    """What is known of a run."""

    topology: Topology
    messages: Sequence[Planned]
    calendar: Calendar
    copies: list[Copy] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    """at senders"""
    stays: list[Stay] = field(default_factory=list)
    bounces: list[Bounce] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    sessions: Mapping[str, int] = field(default_factory=dict)
    """message → sessions that its sender opened for it"""


def opened(history: History) -> Counter[str]:
    """Message → sessions that its sender opened for it: connections that came about.

    A message for several domains has one for each, at the same time: only Postfix has such messages here, and it
    delivers by domain. A session that is used again was opened for its first message.
    """
    established = {
        (one.client, one.server_address, _moment(one.connecting))
        for one in history.sessions
        if one.established is not None
    }
    deliveries: dict[tuple[str, str, Address, float], None] = {}
    for attempt in history.attempts:
        message, moment = history.messages[attempt.message], _moment(attempt.began)
        if (message.sender, attempt.gateway, moment) in established:
            domain = message.recipients[attempt.position].partition("@")[2]
            deliveries[message.id, domain, attempt.gateway, moment] = None
    return Counter(message for message, *_ in deliveries)


def _moment(time: float) -> float:
    """What two records of the same time have in common, to the millisecond: one of them may be a sum."""
    return round(time, 3)


@dataclass(slots=True)
class Tally:
    """The sums of a direction. Counts are by weight: a message in calm counts for several."""

    recipients: int = 0
    messages: int = 0
    delays: list[tuple[float, int]] = field(default_factory=list)
    """(seconds from submission to the first copy in the mailbox, how many), for those delivered"""
    late: Counter[Place] = field(default_factory=Counter)
    """recipients that had nothing after `LATE`, and where their message was then"""
    needless: int = 0
    """of those, the ones that had a way open when they were submitted"""
    returned: Counter[str] = field(default_factory=Counter)
    """recipients never delivered, by what became of them"""
    second: int = 0
    """copies beyond each recipient's first"""
    transfers: int = 0
    """whole messages to gateways"""
    useless: int = 0
    useless_octets: int = 0
    circling: int = 0
    """whole messages from gateway to gateway"""
    circling_octets: int = 0
    sender_seconds: float = 0.0
    """seconds of all recipients together in the queues of senders"""
    sessions: int = 0
    """that senders opened"""

    def add(self, other: Tally) -> None:
        """That of another run."""
        for one in fields(self):
            value = getattr(self, one.name)
            value += getattr(other, one.name)
            setattr(self, one.name, value)

    def quantile(self, share: float) -> float:
        """Seconds in which that share of all recipients has its copy; infinity if it never has."""
        wanted, reached = share * self.recipients, 0
        for seconds, count in sorted(self.delays):
            reached += count
            if reached >= wanted:
                return seconds
        return float("inf")

    def slowest(self) -> float:
        """The longest time of those delivered, in seconds."""
        return max((seconds for seconds, _ in self.delays), default=0.0)


def tallied(evidence: Evidence, name_of: Mapping[str, str]) -> dict[tuple[Direction, str], Tally]:
    """The tallies of a run, by direction and sender; `name_of`: which name the sender on a host goes by."""
    index = _Index(evidence)
    tallies: dict[tuple[Direction, str], Tally] = defaultdict(Tally)
    for planned in evidence.messages:
        message = planned.message
        direction = Direction.OUTBOUND if message.outbound else Direction.INBOUND
        tally = tallies[direction, name_of[message.sender]]
        _count_message(tally, planned, index)
        for position in range(len(message.recipients)):
            _count_recipient(tally, planned, position, index)
    return dict(tallies)


class _Index:
    """The evidence, by message and recipient."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.copies: dict[tuple[str, str], list[float]] = defaultdict(list)
        for copy in evidence.copies:
            self.copies[copy.message, copy.recipient].append(copy.time)
        self.settled = {(one.message, one.position): one for one in evidence.settled}
        self.stays: dict[tuple[str, str], list[Stay]] = defaultdict(list)
        for stay in evidence.stays:
            self.stays[stay.message, stay.recipient].append(stay)
        self.bounces = {(one.message, one.recipient): one for one in evidence.bounces}
        self.into: dict[str, list[Transfer]] = defaultdict(list)
        self.onward: dict[tuple[str, str], list[float]] = defaultdict(list)
        """(message, gateway) → when it handed the message to somebody who is no gateway"""
        for transfer in evidence.transfers:
            if transfer.server in GATEWAYS:
                self.into[transfer.message].append(transfer)
            else:
                self.onward[transfer.message, transfer.client].append(transfer.time)
        for times in self.onward.values():
            times.sort()

    def handed_on(self, transfer: Transfer) -> bool:
        """Whether a gateway gave to a server what it was given, soon. With cut-through the two go together."""
        times = self.onward.get((transfer.message, transfer.server), [])
        return bisect_right(times, transfer.time + SOON) > bisect_left(times, transfer.time - 1)


def _count_message(tally: Tally, planned: Planned, index: _Index) -> None:
    weight, name = planned.weight, planned.message.id
    tally.messages += weight
    tally.sessions += weight * index.evidence.sessions.get(name, 0)
    for transfer in index.into[name]:
        tally.transfers += weight
        if not index.handed_on(transfer):
            tally.useless += weight
            tally.useless_octets += weight * transfer.octets
        if transfer.client in GATEWAYS:
            tally.circling += weight
            tally.circling_octets += weight * transfer.octets


def _count_recipient(tally: Tally, planned: Planned, position: int, index: _Index) -> None:
    message, weight = planned.message, planned.weight
    recipient = message.recipients[position]
    times = index.copies.get((message.id, recipient), [])
    settled = index.settled.get((message.id, position))
    tally.recipients += weight
    if settled is not None:
        tally.sender_seconds += weight * (settled.time - message.submitted)
    if times:
        tally.delays.append((min(times) - message.submitted, weight))
        tally.second += weight * (len(times) - 1)
    else:
        bounce = index.bounces.get((message.id, recipient))
        what = bounce.why.value if bounce is not None else settled.state if settled is not None else "still under way"
        tally.returned[what] += weight
    arrived = min(times, default=float("inf"))
    if arrived > message.submitted + LATE:
        tally.late[_place(message, position, index)] += weight
        if way_open(message, recipient, index.evidence.topology, index.evidence.calendar):
            tally.needless += weight


def _place(message: Message, position: int, index: _Index) -> Place:
    """Where a recipient's message is when it is late."""
    late, key = message.submitted + LATE, (message.id, message.recipients[position])
    if any(stay.since <= late < stay.until for stay in index.stays.get(key, [])):
        return Place.GATEWAY
    bounce, settled = index.bounces.get(key), index.settled.get((message.id, position))
    bounced = bounce is not None and bounce.time <= late
    refused = settled is not None and settled.state == "refused" and settled.time <= late
    return Place.RETURNED if bounced or refused else Place.SENDER


def way_open(message: Message, recipient: str, topology: Topology, calendar: Calendar) -> bool:
    """Whether all of some way to a recipient worked when a message was submitted."""
    there = site_of(recipient.partition("@")[2].removesuffix(".example"))
    site, inside = (there, "") if message.outbound else (site_of(message.sender), there)
    return any(
        all(calendar.works(component, message.submitted) for component in way)
        for way in ways(topology, site, inside, outbound=message.outbound)
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """All together."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
