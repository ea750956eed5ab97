"""What a seed stands for: the messages of a run, and what is out of order for long. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sim.content import content, digest
from sim.records import Kind, Message
from sim.site import INSIDE_DOMAINS, OUTSIDE_DOMAINS, STRANGER, Topology
from sim.temper import STAGES, poison


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


STANDARD = Size(messages=530, calm=40, gap=15.0, rate=0.12, outages=3, tail=3600.0, strangers=0.05, big=0.01)
"""what `make sim` runs for each seed"""

SMALL = Size(messages=60, calm=15, gap=8.0, rate=0.2, outages=1, tail=600.0, strangers=0.08, big=0.01)
"""enough to find a bug in within a few seeds"""

CALM = Size(messages=400, calm=0, gap=2.0, rate=0.0, outages=0, tail=0.0, strangers=0.0, big=0.01, odd=0.0)
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
    topology: Topology
    messages: tuple[Message, ...]
    """in the order of their times"""
    outages: tuple[Outage, ...]
    faults_until: float


def draw(seed: int, size: Size) -> Plan:
    """The plan of a seed."""
    chance = random.Random(f"plan {seed}")
    topology = chance.choice(tuple(Topology))
    messages = _messages(chance, size)
    until = messages[-1].submitted + size.tail
    messages += _calm(chance, size, until + _REST)
    count = chance.randint(0, size.outages)
    outages = tuple(_outage(chance, topology, until) for _ in range(count))
    return Plan(seed, size, topology, messages, outages, until)


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


def _messages(chance: random.Random, size: Size) -> tuple[Message, ...]:
    made: list[Message] = []
    time = 1.0
    burst = 0
    for number in range(size.messages):
        # Mail comes in bursts, so that there is something to be sent over sessions that were kept.
        time += chance.uniform(0.0, 2.0) if burst else chance.expovariate(1 / (3 * size.gap))
        burst = burst - 1 if burst else chance.choice((0, 1, 2, 5))
        made.append(_message(chance, size, f"m{number + 1}", time))
    return tuple(made)


_REST = 1100.0
"""seconds until the last fault is over, and what gateways made of it"""


def _calm(chance: random.Random, size: Size, time: float) -> tuple[Message, ...]:
    """Whoever sends now has nothing to blame."""
    made: list[Message] = []
    for number in range(size.messages, size.messages + size.calm):
        time += chance.uniform(0.0, 8.0)
        made.append(_message(chance, size, f"m{number + 1}", time))
    return tuple(made)


def _message(chance: random.Random, size: Size, name: str, time: float) -> Message:
    octets = chance.randint(262_145, 500_000) if chance.random() < size.big else int(chance.lognormvariate(7.5, 0.8))
    if chance.random() < size.strangers:
        return _strangers(chance, size, name, octets, time)
    outbound = chance.random() < 0.5
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
