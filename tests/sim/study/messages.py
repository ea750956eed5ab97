"""The messages of a run: a function of its seed and its failures, the same for every design. Pure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sim.content import content, digest
from sim.records import Message
from sim.site import Topology
from sim.study.failures import SITES, Failure, merged
from sim.study.layout import SUBMIT

GAP = 1800.0
"""mean seconds between two messages of a direction"""

THINNED = 10
"""Of the messages in calm, when nothing is broken nor was or will be soon, one in so many is sent, and counts for as
many: nothing happens to it that does not happen to the others."""

BEFORE, AFTER = 600.0, 3 * 3600.0
"""seconds before a failure and after a repair that do not count as calm"""

MOST = 50
_SLOPE = 1.93
_COUNTS = range(1, MOST + 1)
_COUNT_WEIGHTS = tuple(itertools.accumulate(count**-_SLOPE for count in _COUNTS))
AVERAGE = sum(count ** (1 - _SLOPE) for count in _COUNTS) / _COUNT_WEIGHTS[-1]
"""recipients of a message; most have one"""

_SITE_WEIGHTS = tuple(itertools.accumulate(1 / site for site in range(1, SITES + 1)))
"""a few networks on the Internet have most of the mail"""

_MEDIAN, _SPREAD, LARGEST = 6_000, 1.0, 60_000
"""octets of a message: lognormal, cut off"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A message, and how many it stands for."""

    message: Message
    weight: int


def planned(seed: int, topology: Topology, failures: Sequence[Failure], seconds: float) -> tuple[Planned, ...]:
    """All messages that are submitted in that time, in order."""
    busy = merged(failures, BEFORE, AFTER)
    drawn = sorted(
        ((time, outbound) for outbound in (False, True) for time in _times(seed, topology, seconds, outbound)),
    )
    chance = random.Random(f"messages {seed} {topology.value}")
    spans = iter(busy)
    span = next(spans, None)
    made: list[Planned] = []
    for time, outbound in drawn:
        while span is not None and span[1] < time:
            span = next(spans, None)
        calm = span is None or time < span[0]
        if calm and chance.random() >= 1 / THINNED:
            continue
        message = _message(chance, f"m{len(made) + 1}", time, outbound=outbound)
        made.append(Planned(message, THINNED if calm else 1))
    return tuple(made)


def _times(seed: int, topology: Topology, seconds: float, outbound: bool) -> Iterator[float]:
    chance = random.Random(f"times {seed} {topology.value} {outbound}")
    time = chance.expovariate(1 / GAP)
    while time < seconds:
        yield time
        time += chance.expovariate(1 / GAP)


def _message(chance: random.Random, name: str, time: float, *, outbound: bool) -> Message:
    size = min(LARGEST, int(chance.lognormvariate(0, _SPREAD) * _MEDIAN))
    count = chance.choices(_COUNTS, cum_weights=_COUNT_WEIGHTS)[0]
    if outbound:
        sender = SUBMIT
        domains = [f"d{_site(chance)}.example" for _ in range(count)]
    else:
        sender = f"s{_site(chance)}"
        domains = [f"in{chance.randint(1, 2)}.example"] * count  # who sends splits messages by domain anyway
    recipients = tuple(f"u{number}@{domain}" for number, domain in enumerate(domains))
    body = digest(content(name, size))
    return Message(name, sender, f"{name}@{sender}.example", recipients, body, size, time, outbound)


def _site(chance: random.Random) -> int:
    return chance.choices(range(1, SITES + 1), cum_weights=_SITE_WEIGHTS)[0]
