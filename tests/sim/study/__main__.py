"""`make study`: runs all designs under the same failures, and writes docs/availability.md with its plots."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sim.site import Topology
from sim.study.designs import Design
from sim.study.experiment import experiment
from sim.study.failures import DAY
from sim.study.figures import Figures, Result, Run, late
from sim.study.page import page
from sim.study.plots import draw

SEEDS, DAYS = 6, 183
"""as many seeds, of half a year each"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), default=SEEDS, show_default=True, help="How many, from 1 on.")
@click.option("--days", type=click.IntRange(1), default=DAYS, show_default=True, help="Simulated in each run.")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("docs"),
    show_default=True,
    help="Where to write.",
)
def main(seeds: int, days: int, jobs: int | None, folder: Path) -> None:
    """Run all designs under the same failures, and write a page about them with its plots.

    Exit status 1 if a run failed; then nothing is written.
    """
    console = Console()
    runs = [
        Run(design, topology, seed, days * DAY)
        for seed in range(1, seeds + 1)
        for topology in Topology
        for design in Design
    ]
    # The spawned processes import what they are told to do anew: nothing is shared but the task.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs or len(os.sched_getaffinity(0)), context) as pool:
        results = list(_shown(console, completed(pool, experiment, runs), len(runs)))
    figures = Figures(results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "availability.md").write_text(page(figures, command(seeds, days)), "utf-8")
    draw(figures, folder)
    for design in Design:
        tally = figures.tally(design)
        console.print(f"{design.value}: of a million recipients {late(tally):,.0f} had nothing after an hour")
    console.print(f"{sum(result.cpu for result in results):.0f} s of CPU; written: {folder / 'availability.md'}")


def command(seeds: int, days: int) -> str:
    """What makes the page again, as it is typed in the repository's root."""
    if (seeds, days) == (SEEDS, DAYS):
        return "make study"
    return f"PYTHONPATH=tests .venv/bin/python -m sim.study --seeds={seeds} --days={days}"


def completed(pool: Executor, task: Callable[[Run], Result], runs: Sequence[Run]) -> Iterator[Result]:
    """Do the task for each run: what comes of them, as they end.

    Raises RuntimeError, which names the run, for the first one that fails. Those that have not begun are given up then.
    """
    pending = {pool.submit(task, run): run for run in runs}
    try:
        for future in as_completed(pending):
            error = future.exception()
            if error is not None:
                raise RuntimeError(f"{pending[future]}: {error}") from error
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _shown(console: Console, results: Iterator[Result], total: int) -> Iterator[Result]:
    """The results, and on the console how far it is."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        for result in results:
            console.print(
                f"{result.run}: {result.simulated} messages, {result.failures} failures, {result.cpu:.0f} s of CPU",
                soft_wrap=True,
                highlight=False,
            )
            progress.advance(bar)
            yield result


if __name__ == "__main__":
    main(prog_name="python -m sim.study")
