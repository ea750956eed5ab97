"""The command line of the simulation:  python -m sim --help"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from sim import event_log, kills, pool, repeat, report, trace
from sim.checker import merge
from sim.faults import POSSIBLE
from sim.pool import Broken
from sim.progress import shown
from sim.records import History, Side
from sim.report import Report
from sim.run import CALM, simulate
from sim.seeds import SIZES, summary_of
from sim.summary import Summary

GOAL = 6.0
"""milliseconds of CPU per delivery, of gateways, servers and network together"""

_INTERRUPTED = 130
"""exit status, as shells have it for SIGINT"""

_size = click.option("--size", type=click.Choice(tuple(SIZES)), default="standard", show_default=True)
_jobs = click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one for each core]")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Real gateways in a simulated network where everything breaks, on virtual time. One seed is one run."""


@main.command()
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--first", default=1, show_default=True, help="The first of them.")
@_jobs
@_size
@click.option(
    "--limit",
    type=click.FloatRange(min=0, min_open=True),
    default=pool.LIMIT,
    show_default=True,
    help="Seconds that a seed may take.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, writable=True),
    help="A page that the figures go into, unless a seed came to no end.",
)
def run(seeds: int, first: int, jobs: int | None, size: str, limit: float, figures: Path | None) -> None:
    """Run many seeds, and say what they came to.

    Exit status 0 if every promise held, 1 if not.
    """
    jobs = jobs or _cores()
    if figures is not None:
        _see_that_they_fit(figures)
    done: list[Summary] = []
    broken: list[Broken] = []
    out = report.console()
    interrupted = False
    began = time.monotonic()
    with shown(out, seeds) as show:

        def ended(result: Summary | Broken) -> None:
            if isinstance(result, Broken):
                broken.append(result)
            else:
                done.append(result)
            show.done(result)

        try:
            pool.run(range(first, first + seeds), jobs, functools.partial(summary_of, size), ended, limit)
        except KeyboardInterrupt:
            interrupted = True
    made = Report(
        total=merge(sorted(done, key=lambda one: one.seeds)),
        broken=tuple(sorted(broken, key=lambda one: one.seed)),
        possible=POSSIBLE,
        size=size,
        wall=time.monotonic() - began,
        jobs=jobs,
    )
    report.show(made, out)
    if interrupted:
        click.echo(f"interrupted: this is what {len(done)} of {seeds} seeds came to")
        sys.exit(_INTERRUPTED)
    if not made.failing:
        out.print("✓ Every promise held.", style="green")
    if figures is not None and not broken:
        figures.write_text(report.put(figures.read_text(), _command(seeds, first, size), report.block(made)))
    sys.exit(1 if made.failing else 0)


def _see_that_they_fit(page: Path) -> None:
    """Before the run, not behind it. Raises UsageError."""
    try:
        report.put(page.read_text(), "", "")
    except ValueError as error:
        raise click.UsageError(f"{page}: {error}; put these two lines where the figures go") from None


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _command(seeds: int, first: int, size: str) -> str:
    rest = ("" if first == 1 else f" FIRST={first}") + ("" if size == "standard" else f" SIZE={size}")
    return f"make sim SEEDS={seeds}{rest}"


@main.command()
@click.argument("seed", type=int)
@click.option("--trace", "tracing", is_flag=True, help="Tell what happened, session by session.")
@click.option("--id", "name", default="", help="Only the gateway's session of that id.")
@click.option("--message", default="", help="Only the sessions that sent that message, such as m12.")
@_size
def replay(seed: int, tracing: bool, name: str, message: str, size: str) -> None:
    """Run one seed again, and print what it found.

    Exit status 0 if every promise held, 1 if not.
    """
    outcome = simulate(seed, SIZES[size])
    findings = [one for _, one in outcome.summary.findings]
    for line in trace.listed(findings):
        click.echo(line)
    click.echo(f"seed {seed}: {len(findings)} findings, event log {outcome.digest}")
    if tracing or name or message:
        click.echo()
        for line in trace.tell(outcome.history, findings, name=name, message=message):
            click.echo(line)
    sys.exit(1 if findings else 0)


@main.command()
@click.argument("seed", type=int)
@click.option("--lines", is_flag=True, help="The log itself.")
@_size
def digest(seed: int, lines: bool, size: str) -> None:
    """The hash of a seed's event log: everything that happened in it."""
    outcome = simulate(seed, SIZES[size])
    for line in event_log.lines(outcome.history) if lines else (outcome.digest,):
        click.echo(line)


@main.command("repeat")
@click.argument("seed", type=int)
@click.argument("interpreters", nargs=-1, required=True)
@_size
def repeated(seed: int, interpreters: Sequence[str], size: str) -> None:
    """Run a seed twice with each Python, under different hash seeds: its event log must always be the same.

    Exit status 1 if it is not; then the first line that differs is shown.
    """
    runs = [repeat.Run(interpreter, hashing) for interpreter in interpreters for hashing in repeat.HASH_SEEDS]
    try:
        told = [repeat.digest(one, seed, size) for one in runs]
    except (OSError, subprocess.CalledProcessError) as error:
        raise click.ClickException(f"{error}; is it a Python that has mailgate's test requirements?") from None
    for one, digested in zip(runs, told, strict=True):
        click.echo(f"{digested}  {one}")
    other = next((one for one, digested in zip(runs, told, strict=True) if digested != told[0]), None)
    if other is None:
        click.echo(f"seed {seed} is one run, {len(runs)} times.")
        return
    for line in repeat.difference(runs[0], other, seed, size):
        click.echo(line)
    sys.exit(1)


@main.command()
@_jobs
def mutants(jobs: int | None) -> None:
    """Plant one fault after the other into the gateway, and see whether the checkers notice.

    Exit status 1 if one survived.
    """
    out = report.console()

    def progress(one: kills.Kill) -> None:
        out.print(f"{one.mutant}: {'survived' if one.caught_at is None else f'caught after {one.caught_at}'}")

    done = kills.run_all(progress, jobs or _cores())
    out.print(kills.matrix(done))
    sys.exit(1 if any(one.caught_at is None for one in done) else 0)


@main.command()
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many; the cheapest counts.")
def cost(seeds: int) -> None:
    """What a delivery costs where nothing breaks: CPU per upstream transaction that came to its dot.

    Exit status 1 if that is above the goal. Something else that runs on the machine makes it more, never less.
    """
    costs: list[float] = []
    for seed in range(1, seeds + 1):
        outcome = simulate(seed, CALM)
        deliveries = _deliveries(outcome.history)
        costs.append(outcome.summary.cpu * 1000 / deliveries)
        click.echo(f"seed {seed}: {deliveries:,} deliveries, {outcome.summary.cpu:.2f} s, {costs[-1]:.2f} ms each")
    click.echo(f"{min(costs):.2f} ms of CPU per delivery; the goal is {GOAL:g} ms")
    sys.exit(1 if min(costs) > GOAL else 0)


def _deliveries(history: History) -> int:
    return sum(
        transaction.dot_written is not None
        for session in history.sessions
        if history.side(session) is Side.UPSTREAM
        for transaction in session.transactions
    )


if __name__ == "__main__":
    main(prog_name="sim")
