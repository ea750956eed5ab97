"""What a seed stands for: the messages of a run, and what is out of order for long. Pure."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass

from sim.content import content, digest
from sim.records import Kind, Message, Service
from sim.site import INSIDE_DOMAINS, OUTSIDE_DOMAINS, STRANGER, Topology
from sim.store import EVERYBODY
from sim.temper import STAGES, poison

SERVICES = (Service.APART, Service.APART, Service.LEDGER, Service.LEDGER, Service.HANDOVER)
"""what a seed draws from"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much happens in a run."""

    messages: int
    """while things break"""
    calm: int
    """messages when nothing is broken any more"""
    gap: float
    """seconds between messages, on average"""
    rate: float
    """the share of sessions that get a fault of their own"""
    outages: int
    """that last for long, at most"""
    tail: float
    """seconds after the last message in which things still break"""
    strangers: float
    """the share of messages that come from somebody who means harm"""
    big: float
    """the share of messages that are over 256 KiB"""
    odd: float = 1.0
    """the share, of those that there would be, of mailboxes and servers that do not take everything at once"""
    services: tuple[Service, ...] = SERVICES


STANDARD = Size(messages=530, calm=40, gap=15.0, rate=0.12, outages=3, tail=3600.0, strangers=0.05, big=0.01)
"""what `make sim` runs for each seed"""

SMALL = Size(messages=60, calm=15, gap=8.0, rate=0.2, outages=1, tail=600.0, strangers=0.08, big=0.01)
"""enough to find a bug in within a few seeds"""

CALM = Size(
    messages=400,
    calm=0,
    gap=2.0,
    rate=0.0,
    outages=0,
    tail=0.0,
    strangers=0.0,
    big=0.01,
    odd=0.0,
    services=(Service.APART,),
)
"""nothing breaks, and everybody takes everything: what a delivery costs"""


@dataclass(frozen=True, slots=True)
class Outage:
    """Something that is broken for long."""

    kind: Kind
    target: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, before it begins."""

    seed: int
    size: Size
    service: Service
    topology: Topology
    messages: tuple[Message, ...]
    """in the order of their times"""
    outages: tuple[Outage, ...]
    store_outages: tuple[Outage, ...]
    """of the shared ledger"""
    faults_until: float


def draw(seed: int, size: Size) -> Plan:
    """The plan of a seed."""
    chance = random.Random(f"plan {seed}")
    service = random.Random(f"service {seed}").choice(size.services)
    topology = chance.choice(tuple(Topology))
    made = _Messages(chance, size, service)
    made.while_things_break()
    until = made.messages[-1].submitted + size.tail
    made.when_all_is_calm(until + _REST)
    outages = tuple(_outage(chance, topology, until) for _ in range(chance.randint(0, size.outages)))
    broken = size.rate > 0 and service is not Service.APART
    store_outages = tuple(_store_outages(chance, topology, until)) if broken else ()
    return Plan(seed, size, service, topology, tuple(made.messages), outages, store_outages, until)


# Messages

_INSIDE_SENDERS = ("isend1", "isend1", "isend2", "isend3")
_OUTSIDE_SENDERS = ("osend1", "osend1", "osend2", "osend3", "osend4")

_USERS = (
    (0.86, "u"),
    (0.89, "no-u"),
    (0.93, "busy-u"),
    (0.97, "full-u"),
    (1.00, "u"),
)
"""the mailboxes, by the sum of their shares; what they mean is in `sim.temper`"""


_REST = 1100.0
"""seconds until the last fault is over, and what gateways made of it"""

_TWINS = 0.08
"""the share of messages that are an earlier one, sent once more on purpose; *together* only"""

_OUTBOUND_TOGETHER = 0.3
"""the share of mail that goes out, where what comes in is what matters; elsewhere it is half of it"""

_LATELY = 8
"""messages, of which one may be sent once more"""


class _Messages:
    """The messages of a plan, drawn one after the other."""

    def __init__(self, chance: random.Random, size: Size, service: Service) -> None:
        self.messages: list[Message] = []
        self._random = chance
        self._size = size
        self._together = service is not Service.APART

    def while_things_break(self) -> None:
        """Mail comes in bursts, so that there is something to be sent over sessions that were kept."""
        chance, time, burst = self._random, 1.0, 0
        for _ in range(self._size.messages):
            time += chance.uniform(0.0, 2.0) if burst else chance.expovariate(1 / (3 * self._size.gap))
            burst = burst - 1 if burst else chance.choice((0, 1, 2, 5))
            self._draw(time)

    def when_all_is_calm(self, time: float) -> None:
        """Whoever sends now has nothing to blame."""
        for _ in range(self._size.calm):
            time += self._random.uniform(0.0, 8.0)
            self._draw(time)

    def _draw(self, time: float) -> None:
        name = f"m{len(self.messages) + 1}"
        lately = [one for one in self.messages[-_LATELY:] if not one.foreign] if self._together else []
        if lately and self._random.random() < _TWINS:
            first = self._random.choice(lately)
            self.messages.append(dataclasses.replace(first, id=name, submitted=time, twin=first.name))
        else:
            self.messages.append(_message(self._random, self._size, name, time, together=self._together))


def _message(chance: random.Random, size: Size, name: str, time: float, *, together: bool) -> Message:
    octets = chance.randint(262_145, 500_000) if chance.random() < size.big else int(chance.lognormvariate(7.5, 0.8))
    if chance.random() < size.strangers:
        return _strangers(chance, size, name, octets, time)
    outbound = chance.random() < (_OUTBOUND_TOGETHER if together else 0.5)
    sender = chance.choice(_INSIDE_SENDERS if outbound else _OUTSIDE_SENDERS)
    domains = OUTSIDE_DOMAINS if outbound else INSIDE_DOMAINS
    recipients = [_recipient(chance, size, chance.choice(domains)) for _ in range(_count(chance))]
    if len(recipients) > 1 and chance.random() < 0.08:  # somebody is named twice
        recipients[-1] = recipients[0]
    return _made(name, sender, f"{name}@{sender}.example", recipients, octets, time, outbound=outbound)


def _strangers(chance: random.Random, size: Size, name: str, octets: int, time: float) -> Message:
    """Mail that is to do harm: relayed where it must not go, or making servers fail in the gateway's hands."""
    if chance.random() < 0.3:
        recipients = [_recipient(chance, size, chance.choice(OUTSIDE_DOMAINS)) for _ in range(chance.randint(1, 3))]
        return _made(name, STRANGER, f"{name}@{STRANGER}.example", recipients, octets, time, foreign=True)
    recipients = [_recipient(chance, size, chance.choice(INSIDE_DOMAINS)) for _ in range(chance.randint(1, 3))]
    reverse_path = f"{poison(chance.choice(STAGES))}-{name}@{STRANGER}.example"
    return _made(name, STRANGER, reverse_path, recipients, octets, time, foreign=True)


def _made(
    name: str,
    sender: str,
    reverse_path: str,
    recipients: list[str],
    octets: int,
    time: float,
    *,
    outbound: bool = False,
    foreign: bool = False,
) -> Message:
    body = digest(content(name, octets))
    return Message(name, sender, reverse_path, tuple(recipients), body, octets, time, outbound, foreign)


def _recipient(chance: random.Random, size: Size, domain: str) -> str:
    share = chance.random() if chance.random() < size.odd else 0.0
    prefix = next(prefix for most, prefix in _USERS if share <= most)
    return f"{prefix}{chance.randint(1, 200)}@{domain}"


def _count(chance: random.Random) -> int:
    """1 to 50, 3 on average."""
    share = chance.random()
    if share < 0.5:
        return 1
    if share < 0.8:
        return chance.randint(2, 4)
    if share < 0.96:
        return chance.randint(3, 7)
    if share < 0.992:
        return chance.randint(8, 20)
    return chance.randint(21, 50)


# Outages


def _outage(chance: random.Random, topology: Topology, until: float) -> Outage:
    kind, targets = chance.choice(
        (
            (Kind.BLACK_HOLE, topology.networks),
            (Kind.BLACK_HOLE, topology.networks),
            (Kind.REFUSED, ("in1", "in3", "o2", "o3", "o4")),
            (Kind.CRASH, ("in1", "in2", "in3", "box", "o2", "o3")),
            (Kind.GATEWAY_CRASH, ("gw1", "gw2")),
            (Kind.NO_SOURCE, topology.sources),
        )
    )
    begins = chance.uniform(0, until * 0.8)
    return Outage(kind, chance.choice(targets), begins, min(until, begins + chance.uniform(600, 10_800)))


_STORE_EVERY = 900.0
"""seconds from one fault of the shared ledger to the next, on average"""


def _store_outages(chance: random.Random, topology: Topology, until: float) -> Iterator[Outage]:
    time = chance.expovariate(1 / _STORE_EVERY)
    while time < until:
        kind = chance.choice((Kind.STORE_CUT, Kind.STORE_CUT, Kind.STORE_DOWN, Kind.STORE_LOST, Kind.STORE_SLOW))
        targets = (*topology.gateways, EVERYBODY) if kind is Kind.STORE_CUT else (EVERYBODY,)
        lasts = chance.uniform(0, 20) if kind is Kind.STORE_LOST else chance.expovariate(1 / 200)
        yield Outage(kind, chance.choice(targets), time, min(until, time + lasts))
        time += chance.expovariate(1 / _STORE_EVERY)
