"""`make study`: runs all designs under the same failures, and writes docs/availability.md with its plots."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console()
    runs = [
        Run(design, topology, seed, options.days * DAY)
        for seed in range(1, options.seeds + 1)
        for topology in Topology
        for design in Design
    ]
    # The spawned processes import what they are told to do anew: nothing is shared but the task.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        results = list(_shown(console, pool, runs))
    figures = Figures(results)
    options.folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m sim.study --seeds={options.seeds} --days={options.days}"
    (options.folder / "availability.md").write_text(page(figures, command), "utf-8")
    draw(figures, options.folder)
    for design in Design:
        tally = figures.tally(design)
        console.print(f"{design.value}: of a million recipients {late(tally):,.0f} had nothing after an hour")
    console.print(
        f"{sum(result.cpu for result in results):.0f} s of CPU; written: {options.folder / 'availability.md'}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim.study", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on (%(default)s)")
    parser.add_argument("--days", type=int, default=DAYS, help="simulated in each run (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="where to write (%(default)s)")
    return parser


def _shown(console: Console, pool: ProcessPoolExecutor, runs: Sequence[Run]) -> Iterator[Result]:
    """Do all runs, and show how far it is."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(runs))
        for future in as_completed([pool.submit(experiment, run) for run in runs]):
            result = future.result()
            run = result.run
            console.print(
                f"seed {run.seed}, {run.topology.value}, {run.design.value}: {result.simulated} messages, "
                f"{result.failures} failures, {result.cpu:.0f} s of CPU",
                soft_wrap=True,
                highlight=False,
            )
            progress.advance(bar)
            yield result


if __name__ == "__main__":
    sys.exit(main())
