"""All results together: sums by design and topology, and what the page and the plots read off them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sim.site import Topology
from sim.study.designs import Design
from sim.study.failures import DAY, HOUR, YEAR
from sim.study.measure import Direction, Tally, total

TITLES: Mapping[Topology, str] = {Topology.ONE_SITE: "one site (1a)", Topology.TWO_SITES: "two sites (1b)"}
"""what the page and the plots call the topologies"""


@dataclass(frozen=True, slots=True)
class Run:
    """What is run."""

    design: Design
    topology: Topology
    seed: int
    seconds: float
    """of the time in which messages are submitted and failures begin"""

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.topology.value}, {self.design.value}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    run: Run
    tallies: Mapping[tuple[Direction, str], Tally]
    """by direction and what the sender is"""
    failures: int
    simulated: int
    """messages that were really sent"""
    cpu: float
    """seconds"""


class Figures:
    """The results of a study."""

    def __init__(self, results: Iterable[Result]) -> None:
        order = list(Design)
        self.results = sorted(
            results, key=lambda one: (order.index(one.run.design), one.run.topology.value, one.run.seed)
        )

    @property
    def seeds(self) -> list[int]:
        """In order."""
        return sorted({result.run.seed for result in self.results})

    @property
    def years(self) -> float:
        """Simulated, of each design in each topology."""
        return len(self.seeds) * self.results[0].run.seconds / YEAR

    def tally(
        self,
        design: Design,
        topology: Topology | None = None,
        direction: Direction | None = None,
        sender: str | None = None,
        seed: int | None = None,
    ) -> Tally:
        """The sums of a design; None: of all of them."""
        return total(
            tally
            for result in self.results
            for (way, name), tally in result.tallies.items()
            if result.run.design is design
            and topology in (None, result.run.topology)
            and direction in (None, way)
            and sender in (None, name)
            and seed in (None, result.run.seed)
        )

    def senders(self) -> list[str]:
        """What the senders of inbound mail are, by their share of it."""
        counts: dict[str, int] = {}
        for result in self.results:
            for (way, name), tally in result.tallies.items():
                if way is Direction.INBOUND:
                    counts[name] = counts.get(name, 0) + tally.recipients
        return sorted(counts, key=lambda name: (-counts[name], name))

    def over_seeds(self, value: Callable[[Tally], float], design: Design, topology: Topology) -> tuple[float, float]:
        """The least and the greatest value of a seed."""
        values = [value(self.tally(design, topology, seed=seed)) for seed in self.seeds]
        return min(values), max(values)

    def failures(self, topology: Topology) -> int:
        """That there were in a topology, for each design."""
        return sum(
            result.failures
            for result in self.results
            if result.run.topology is topology and result.run.design is self.results[0].run.design
        )

    def sent(self) -> int:
        """Messages that were really sent, in all runs."""
        return sum(result.simulated for result in self.results)


def per_million(count: float, recipients: int) -> float:
    """Of a million recipients."""
    return 1e6 * count / recipients if recipients else 0.0


def late(tally: Tally) -> float:
    """Recipients of a million that had nothing after an hour."""
    return per_million(tally.late.total(), tally.recipients)


def needless(tally: Tally) -> float:
    """Recipients of a million that had nothing after an hour, though there was a way when they were submitted."""
    return per_million(tally.needless, tally.recipients)


def useless(tally: Tally) -> float:
    """Useless transfers for a thousand messages."""
    return 1e3 * tally.useless / tally.messages if tally.messages else 0.0


def not_delivered(tally: Tally, seconds: Sequence[float]) -> list[float]:
    """The shares of recipients that had nothing so long after the submission; `seconds` ascend."""
    shares: list[float] = []
    delays = sorted(tally.delays)
    reached, place = 0, 0
    for limit in seconds:
        while place < len(delays) and delays[place][0] <= limit:
            reached += delays[place][1]
            place += 1
        shares.append(1 - reached / tally.recipients)
    return shares


def span(seconds: float) -> str:
    """A length of time, as people say it."""
    if seconds == float("inf"):
        return "never"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def count(value: float) -> str:
    """A number, with as many digits as mean anything."""
    if value == 0:
        return "0"
    if value < 10:
        return f"{value:.2g}"
    return f"{value:,.0f}"
