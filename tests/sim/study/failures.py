"""What breaks, how often, for how long and in which manner: the laws, and the trace of a seed. Pure.

A trace is made before a run, and is the same for every design: each component has randomness of its own, so that
nothing that happens in a run can change what breaks, and one component more leaves the others as they were.
"""

from __future__ import annotations

import enum
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sim.site import Topology

HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365.25 * DAY

SITES = 12
"""networks on the Internet that mail comes from and goes to"""


class Part(enum.Enum):
    """Kinds of components."""

    BACKBONE = "backbone"
    ROUTE = "route"
    """from one backbone to one network on the Internet"""
    INSIDE_LINK = "inside link"
    GATEWAY = "gateway"
    INSIDE_SERVER = "inside server"
    OUTSIDE_SERVER = "outside server"


class Manner(enum.Enum):
    """How something fails."""

    BLACK_HOLE = "black hole"
    """packets vanish; a host is off"""
    REFUSES = "refuses"
    """connections are refused at once: by a router, or by a host whose mail server does not run"""


@dataclass(frozen=True, slots=True)
class Component:
    """Something that breaks."""

    part: Part
    name: str
    """`a`, `1`; of a route: backbone and site, as in `a-3`"""


@dataclass(frozen=True, slots=True)
class Law:
    """How a component breaks."""

    between: float
    """mean seconds from a repair to the next failure; exponential"""
    repair: float
    """median seconds until it is repaired; lognormal"""
    spread: float
    """standard deviation of the logarithm of that time; 1.2 means that one repair in ten takes 4.7 medians or more"""
    black_holes: float
    """the share of its failures that are black holes; the others refuse"""
    why: str

    @property
    def mean_repair(self) -> float:
        """In seconds."""
        return self.repair * math.exp(self.spread**2 / 2)

    @property
    def availability(self) -> float:
        """The share of time in which it works."""
        return self.between / (self.between + self.mean_repair)


_COMMON: Mapping[Part, Law] = {
    Part.BACKBONE: Law(
        30 * DAY, 40 * 60, 1.2, 0.7, "an uplink with 99.8 % of the time: about what contracts without a backup promise"
    ),
    Part.ROUTE: Law(
        60 * DAY,
        15 * 60,
        1.3,
        0.9,
        "a backbone reaches some networks and not others: routing that converges, congestion, filters. "
        "Most are short, and nobody is told by an error",
    ),
    Part.GATEWAY: Law(45 * DAY, 15 * 60, 1.2, 0.6, "updates and restarts, now and then a defect"),
    Part.INSIDE_SERVER: Law(
        60 * DAY, 20 * 60, 1.2, 0.4, "the same, with more care taken; often only its program stops"
    ),
    Part.OUTSIDE_SERVER: Law(30 * DAY, 30 * 60, 1.5, 0.5, "other people's servers: no less often, and some for a day"),
}

_CABLE = Law(180 * DAY, 45 * 60, 1.0, 0.8, "a cable and a switch's port in one building")
_LINE = Law(30 * DAY, 60 * 60, 1.2, 0.8, "a leased line or a tunnel between sites, no better than an uplink")

LAWS: Mapping[Topology, Mapping[Part, Law]] = {
    Topology.ONE_SITE: {**_COMMON, Part.INSIDE_LINK: _CABLE},
    Topology.TWO_SITES: {**_COMMON, Part.INSIDE_LINK: _LINE},
}
"""The assumptions of the study. They are round numbers in the order of magnitude that mail administrators know, not
measurements."""

COMPONENTS: tuple[Component, ...] = (
    *(Component(Part.BACKBONE, name) for name in "ab"),
    *(Component(Part.INSIDE_LINK, name) for name in "12"),
    *(Component(Part.GATEWAY, name) for name in "12"),
    *(Component(Part.INSIDE_SERVER, name) for name in "12"),
    *(Component(Part.OUTSIDE_SERVER, f"{site}") for site in range(1, SITES + 1)),
    *(Component(Part.ROUTE, f"{backbone}-{site}") for backbone in "ab" for site in range(1, SITES + 1)),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A component is broken from `begins` until `ends`, in seconds."""

    component: Component
    manner: Manner
    begins: float
    ends: float


def trace(seed: int, topology: Topology, seconds: float) -> tuple[Failure, ...]:
    """All failures that begin in that time, in the order of their beginnings; the last ones may end later."""
    failures = [failure for component in COMPONENTS for failure in _of(component, seed, topology, seconds)]
    return tuple(sorted(failures, key=lambda one: (one.begins, one.component.part.value, one.component.name)))


def _of(component: Component, seed: int, topology: Topology, seconds: float) -> Iterator[Failure]:
    law = LAWS[topology][component.part]
    chance = random.Random(f"failures {seed} {topology.value} {component.part.value} {component.name}")
    time = chance.expovariate(1 / law.between)
    while time < seconds:
        ends = time + chance.lognormvariate(math.log(law.repair), law.spread)
        manner = Manner.BLACK_HOLE if chance.random() < law.black_holes else Manner.REFUSES
        yield Failure(component, manner, time, ends)
        time = ends + chance.expovariate(1 / law.between)


class Calendar:
    """When something works."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self._of: dict[Component, list[Failure]] = {}
        for failure in failures:
            self._of.setdefault(failure.component, []).append(failure)
        self._begins = {component: [one.begins for one in each] for component, each in self._of.items()}

    def works(self, component: Component, time: float) -> bool:
        """Whether it does."""
        begun = bisect_right(self._begins.get(component, []), time)
        return begun == 0 or self._of[component][begun - 1].ends <= time


def merged(failures: Sequence[Failure], before: float, after: float) -> list[tuple[float, float]]:
    """The times in which anything is broken, each from `before` seconds earlier until `after` seconds later.

    `failures` are in the order of their beginnings.
    """
    spans: list[tuple[float, float]] = []
    for failure in failures:
        begins, ends = failure.begins - before, failure.ends + after
        if spans and begins <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], ends))
        else:
            spans.append((begins, ends))
    return spans
