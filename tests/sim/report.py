"""What many seeds came to: figures, the matrices of faults, findings; for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim.pool import Broken
from sim.records import Kind, Phase, Service, Side
from sim.summary import Duplicate, Exact, Summary

Possible = Mapping[tuple[Side, Kind], tuple[Phase, ...]]
"""where a fault can strike"""

FULL = 200
"""seeds of the standard size that make a full run"""

ENOUGH = 50
"""hits that every cell of the matrices should have in a full run"""

SHOWN = 20
"""findings that are printed"""

_NEVER = "·"
_FEW = "!"
_SURPRISE = "?"

_DAY = 86_400.0
_YEAR = 365.25

_WIDTH = 140
"""columns of the tables where standard output is no terminal"""

_SIDES = {
    Side.UPSTREAM: "Gateways' sessions with next hops",
    Side.CLIENT: "Clients' sessions with gateways",
}

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run of many seeds."""

    total: Summary
    possible: Possible
    broken: tuple[Broken, ...] = ()
    size: str = "standard"
    wall: float = 0.0
    """seconds on the wall clock"""
    jobs: int = 1

    @property
    def full(self) -> bool:
        """It has so many seeds that each cell of the matrices should have enough hits."""
        return self.size == "standard" and len(self.total.seeds) >= FULL

    @property
    def failing(self) -> list[int]:
        """The seeds with findings, and those that came to no end, in order."""
        return sorted({seed for seed, _ in self.total.findings} | {one.seed for one in self.broken})


def figures(report: Report) -> list[tuple[str, str]]:
    """(what, how many). The same for the same seeds, wherever they were run."""
    total = report.total
    days = total.simulated / _DAY
    faults = {kind: total.faults.get(kind, 0) for kind in Kind}
    return [
        ("seeds", f"{len(total.seeds):,} ({report.size})"),
        *((f"seeds: {service.value}", f"{total.services.get(service, 0):,}") for service in Service),
        ("simulated time", f"{days:,.1f} days ({days / _YEAR:.1f} years)"),
        ("messages", f"{total.messages:,}"),
        ("recipients", f"{total.recipients:,}"),
        ("of them delivered", f"{total.delivered:,}"),
        ("refused", f"{total.refused:,}"),
        ("expired after five days", f"{total.expired:,}"),
        ("attempts", f"{total.attempts:,}"),
        ("sessions", f"{total.sessions:,}"),
        ("faults", f"{sum(faults.values()):,}"),
        *((f"faults: {kind.value}", f"{count:,}") for kind, count in faults.items()),
        *((f"together: {what.value}", f"{total.exact.get(what, 0):,}") for what in Exact),
        *((f"duplicates: {why.value}", f"{total.duplicates.get(why, 0):,}") for why in Duplicate),
        ("lost", f"{total.lost:,}"),
        ("half messages", f"{total.half:,}"),
        ("wrong replies", f"{total.wrong:,}"),
        ("late", f"{total.late:,}"),
        ("tasks, streams or files left", f"{total.left:,}"),
        ("promises not kept", f"{len(total.findings):,}"),
    ]


def matrix(report: Report, side: Side) -> tuple[Row, list[Row]]:
    """Header and rows: how often each kind of fault hit a session in each phase."""
    kinds = [kind for kind in Kind if (side, kind) in report.possible]
    phases = [phase for phase in Phase if any(phase in report.possible[side, kind] for kind in kinds)]
    rows = [(kind.value, *(_cell(report, side, kind, phase) for phase in phases)) for kind in kinds]
    return ("", *(phase.value for phase in phases)), rows


def _cell(report: Report, side: Side, kind: Kind, phase: Phase) -> str:
    hits = report.total.hits.get((side, kind, phase), 0)
    if phase not in report.possible[side, kind]:
        return f"{hits:,} {_SURPRISE}" if hits else _NEVER
    return f"{hits:,} {_FEW}" if report.full and hits < ENOUGH else f"{hits:,}"


def legend(report: Report) -> str:
    """What the marks in the matrices mean, as far as they are there."""
    cells = [cell for side in Side for row in matrix(report, side)[1] for cell in row[1:]]
    meanings = (
        (_NEVER, "it cannot happen there"),
        (_FEW, f"fewer than {ENOUGH} hits"),
        (_SURPRISE, "it was not thought to be possible there"),
    )
    return "; ".join(f"{mark} {meaning}" for mark, meaning in meanings if any(cell.endswith(mark) for cell in cells))


# For a terminal


def console() -> Console:
    """Standard output, wide enough for the matrices."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = _WIDTH
    return made


def show(report: Report, out: Console) -> None:
    """Print it all: figures, matrices, what it took, findings, and how the first of them is looked into."""
    out.print(_table("", ("what", "how many"), figures(report)))
    for side, title in _SIDES.items():
        out.print(_table(f"{title}: faults, by the phase that they struck in", *matrix(report, side)))
    marks = legend(report)
    if marks:
        out.print(marks)
    cpu = report.total.cpu
    out.print(f"{report.wall:,.0f} s on {report.jobs} processes, {cpu:,.0f} s of CPU in the runs themselves")
    for line in _findings(report):
        out.print(escape(line), style="red", soft_wrap=True)
    for line in replay(report):
        out.print(escape(line), soft_wrap=True)


def _findings(report: Report) -> Iterator[str]:
    for one in report.broken[:SHOWN]:
        yield f"seed {one.seed}: {one.why.rstrip()}"
    for seed, finding in report.total.findings[:SHOWN]:
        session = "" if finding.session is None else f", session {finding.session}"
        yield f"seed {seed}: {finding.promise}: {finding.what} (at {finding.time:.3f} s{session})"
    more = max(0, len(report.total.findings) - SHOWN) + max(0, len(report.broken) - SHOWN)
    if more:
        yield f"and {more:,} more"


def replay(report: Report) -> Iterator[str]:
    """The commands that show the first seed that failed."""
    if not report.failing:
        return
    seed = report.failing[0]
    rest, option = ("", "") if report.size == "standard" else (f" SIZE={report.size}", f" --size {report.size}")
    yield f"{len(report.failing)} of {len(report.total.seeds) + len(report.broken)} seeds failed. The first one again:"
    yield f"    make sim SEED={seed} TRACE=1{rest}"
    yield f"    PYTHONPATH=tests .venv/bin/python -m sim replay {seed} --trace{option}"


def _table(title: str, header: Row, rows: Sequence[Row]) -> Table:
    table = Table(*header, title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(escape, row))
    return table


# For the documentation


def block(report: Report) -> str:
    """Figures and matrices in Markdown, with nothing in them of when and where it was run."""
    first, last = min(report.total.seeds), max(report.total.seeds)
    parts = [
        f"Seeds {first} to {last}; nothing here is typed by hand.",
        _markdown(("what", "how many"), figures(report)),
    ]
    for side, title in _SIDES.items():
        parts += [f"{title}: faults, by the phase that they struck in.", _markdown(*matrix(report, side))]
    marks = legend(report)
    return "\n\n".join([*parts, f"{marks}."] if marks else parts)


def _markdown(header: Row, rows: Sequence[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))


def put(page: str, command: str, text: str) -> str:
    """The page with that text between `<!-- figures: the command -->` and `<!-- end -->`.

    Raises ValueError if it has no such block.
    """
    before, begins, rest = page.partition("<!-- figures: ")
    _, ends, after = rest.partition("<!-- end -->")
    if not begins or not ends:
        raise ValueError("there is no block from <!-- figures: … --> to <!-- end -->")
    return f"{before}{begins}{command} -->\n{text}\n{ends}{after}"
