"""docs/availability.md: every result in it comes from a run, other numbers mostly from the run's tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sim.site import Topology
from sim.study import page_text as text
from sim.study.designs import Design
from sim.study.failures import COMPONENTS, DAY, LAWS, Law, Part
from sim.study.figures import TITLES, Figures, count, late, needless, per_million, span, useless
from sim.study.measure import Direction, Place, Tally
from sim.study.relay import Why


def page(figures: Figures, command: str) -> str:
    """The whole page."""
    whole = _joined(
        _head(figures, command),
        _short(figures),
        text.DESIGNS,
        text.WORLD,
        _failure_laws(),
        text.MEASURES,
        *(_results(figures, topology) for topology in Topology),
        _not_better(figures),
        text.LIMITS,
    )
    return whole + "\n"


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts)


def _head(figures: Figures, command: str) -> str:
    seeds, days = figures.seeds, figures.results[0].run.seconds / DAY
    one, two = (figures.failures(topology) for topology in Topology)
    return f"""
# Availability: {len(Design)} designs under the same failures

Written by `{command}`. No result in it is typed by hand.

- {len(Design)} designs of a pair of gateways, in both topologies of the paper's figure 1, each for
  {figures.years:.1f} simulated years: seeds {seeds[0]} to {seeds[-1]}, {days:.0f} days each. A seed is the same
  failures and the same messages for all designs.
- {one:,} failures with one site, {two:,} with two; {figures.sent():,} messages were really sent, over a simulated
  network, in real dialogs. Messages in calm count for several (below).
- The assumptions are ours, and the results follow from them. They say how the designs differ, not how often your mail
  will be late.
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(figures: Figures) -> str:
    def row(design: Design, topology: Topology) -> list[str]:
        tally = figures.tally(design, topology)
        least, most = figures.over_seeds(late, design, topology)
        return [
            TITLES[topology],
            design.value,
            f"{count(late(tally))} ({count(least)} to {count(most)})",
            count(per_million(tally.late[Place.GATEWAY], tally.recipients)),
            count(needless(tally)),
            count(per_million(tally.returned.total(), tally.recipients)),
            count(per_million(tally.second, tally.recipients)),
            count(useless(tally)),
        ]

    head = (
        "topology",
        "gateways",
        "nothing after an hour (seeds)",
        "of them in a gateway's queue",
        "though there was a way",
        "never",
        "second copies",
        "useless transfers",
    )
    rows = [row(design, topology) for topology in Topology for design in Design]
    return _joined("## In short", text.SHORT, _table(head, rows), _sentences(figures), text.PLOTS)


def _sentences(figures: Figures) -> str:
    """What the table says, with its numbers."""
    tallies = {design: figures.tally(design) for design in Design}
    stuck = ", ".join(f"{count(needless(tally))} ({design.value})" for design, tally in tallies.items())
    wasted = ", ".join(f"{count(useless(tally))} ({design.value})" for design, tally in tallies.items())
    fallback, ours = tallies[Design.FALLBACK], tallies[Design.MAILGATE]
    circled = 1e3 * fallback.circling / fallback.messages
    gone = per_million(fallback.returned[Why.HOPS.value], fallback.recipients)
    return f"""
Both topologies and directions together:

- Recipients of a million that had nothing after an hour though there was a way: {stuck}.
- Late, and there was none then: {count(late(ours) - needless(ours))} of a million with mailgate. There the schedule of
  whoever has the message decides.
- Useless transfers for a thousand messages: {wasted}.
- With fallback, {count(circled)} transfers for a thousand messages went from gateway to gateway, and
  {count(gone)} of a million recipients got nothing at all, because their message had gone in circles when what was
  broken was behind both gateways.
"""


def _failure_laws() -> str:
    def number(part: Part) -> int:
        return sum(component.part is part for component in COMPONENTS)

    def row(name: str, part: Part, law: Law) -> list[str]:
        return [
            f"{name} ({number(part)})",
            f"{law.between / DAY:.0f} d",
            span(law.repair),
            span(law.mean_repair),
            f"{law.black_holes:.0%}",
            f"{law.availability:.3%}",
            law.why,
        ]

    rows: list[list[str]] = []
    for part in Part:
        laws = {topology: LAWS[topology][part] for topology in Topology}
        if laws[Topology.ONE_SITE] == laws[Topology.TWO_SITES]:
            rows.append(row(part.value, part, laws[Topology.ONE_SITE]))
        else:
            rows += [row(f"{part.value}, {TITLES[topology]}", part, law) for topology, law in laws.items()]
    head = ("component (how many)", "between failures", "repaired: median", "mean", "black holes", "available", "why")
    return _joined(text.FAILURES, _table(head, rows), text.FAILURES_END)


def _results(figures: Figures, topology: Topology) -> str:
    return _joined(f"## Results, {TITLES[topology]}", *_directions(figures, topology))


def _directions(figures: Figures, topology: Topology) -> Iterator[str]:
    for direction in Direction:
        tallies = {design: figures.tally(design, topology, direction) for design in Design}
        yield f"### {direction.value.capitalize()}"
        yield _table(("time to delivery", *(design.value for design in Design)), _times(list(tallies.values())))
        yield _table(("of a million recipients", *(design.value for design in Design)), _fates(list(tallies.values())))
        yield _table(
            ("of a thousand messages", *(design.value for design in Design)), _transfers(list(tallies.values()))
        )


def _times(tallies: Sequence[Tally]) -> Iterator[list[str]]:
    for name, share in (("median", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999), ("99.99 %", 0.9999)):
        yield [name, *(span(tally.quantile(share)) for tally in tallies)]
    yield ["slowest that came", *(span(tally.slowest()) for tally in tallies)]


def _fates(tallies: Sequence[Tally]) -> Iterator[list[str]]:
    def each(name: str, values: Iterable[float]) -> list[str]:
        pairs = zip(values, tallies, strict=True)
        return [name, *(count(per_million(value, tally.recipients)) for value, tally in pairs)]

    yield each("nothing after an hour", (tally.late.total() for tally in tallies))
    for place in Place:
        yield each(f"… {place.value}", (tally.late[place] for tally in tallies))
    yield each("… though there was a way", (tally.needless for tally in tallies))
    for reason in sorted({reason for tally in tallies for reason in tally.returned}):
        yield each(f"never: {reason}", (tally.returned[reason] for tally in tallies))
    yield each("second copies", (tally.second for tally in tallies))


def _transfers(tallies: Sequence[Tally]) -> Iterator[list[str]]:
    def each(name: str, values: Iterable[float]) -> list[str]:
        pairs = zip(values, tallies, strict=True)
        return [name, *(count(1e3 * value / tally.messages) for value, tally in pairs)]

    yield each("transfers to gateways", (tally.transfers for tally in tallies))
    yield each("… useless", (tally.useless for tally in tallies))
    yield each("… useless, in kB", (tally.useless_octets / 1000 for tally in tallies))
    yield each("… from gateway to gateway", (tally.circling for tally in tallies))
    yield each("… from gateway to gateway, in kB", (tally.circling_octets / 1000 for tally in tallies))
    yield each("sessions that the sender opened", (tally.sessions for tally in tallies))


def _not_better(figures: Figures) -> str:
    def by_sender(topology: Topology, name: str) -> list[str]:
        tallies = [figures.tally(design, topology, Direction.INBOUND, name) for design in Design]
        return [
            name,
            TITLES[topology],
            *(f"{span(tally.quantile(text.NEARLY_ALL))}; {count(late(tally))}" for tally in tallies),
        ]

    def load(topology: Topology, direction: Direction) -> list[str]:
        tallies = [figures.tally(design, topology, direction) for design in Design]
        return [
            f"{direction.value}, {TITLES[topology]}",
            *(f"{tally.sender_seconds / tally.recipients:.1f} s" for tally in tallies),
        ]

    names = [design.value for design in Design]
    compared = ", ".join(f"{count(late(figures.tally(design)))} ({design.value})" for design in Design)
    lates = f"Nothing after an hour, of a million recipients, both topologies and directions together: {compared}."
    senders = _table(
        ("sender", "topology", *names),
        (by_sender(topology, name) for name in figures.senders() for topology in Topology),
    )
    loads = _table(
        ("recipient's time in its sender's queue, mean", *names),
        (load(topology, direction) for topology in Topology for direction in Direction),
    )
    twice = _table(
        names, [[f"{tally.second:,} of {tally.recipients:,}" for tally in (figures.tally(design) for design in Design)]]
    )
    return _joined(
        text.NOT_BETTER,
        lates,
        text.LATE_TOO,
        text.BY_SENDER,
        senders,
        text.LOAD,
        loads,
        text.DUPLICATES,
        twice,
        text.ALL_WELL,
    )
