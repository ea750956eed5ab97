"""What is seen while seeds run: on a terminal a bar with what there was so far, and every seed that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sim.pool import Broken
from sim.summary import Summary

_LINES = 10
"""lines that tell how far it is, where standard output is no terminal"""


class Show:
    """Told of every seed that is done."""

    def __init__(self, console: Console, progress: Progress, seeds: int) -> None:
        self._console = console
        self._progress = progress
        self._bar = progress.add_task("", total=seeds)
        self._seeds = seeds
        self._done = 0
        self._messages = 0
        self._faults = 0
        self._findings = 0

    def done(self, result: Summary | Broken) -> None:
        """A seed is done."""
        self._done += 1
        if isinstance(result, Broken):
            self._findings += 1
            why = result.why.rstrip().rpartition("\n")[2]
            self._console.print(f"[red]seed {result.seed} broke:[/] {escape(why)}", soft_wrap=True)
        else:
            self._messages += result.messages
            self._faults += sum(result.faults.values())
            self._findings += len(result.findings)
            if result.findings:
                seed, finding = result.findings[0]
                counted = f"{len(result.findings)} findings, the first:"
                self._console.print(f"[red]seed {seed}:[/] {counted} {escape(finding.promise)}", soft_wrap=True)
        so_far = f"{self._messages:,} messages, {self._faults:,} faults, {self._findings:,} findings"
        self._progress.update(self._bar, advance=1, description=so_far)
        if self._progress.disable and self._done * _LINES // self._seeds > (self._done - 1) * _LINES // self._seeds:
            self._console.print(f"{self._done}/{self._seeds} seeds: {so_far}", soft_wrap=True)


@contextmanager
def shown(console: Console, seeds: int) -> Iterator[Show]:
    """Show the progress of that many seeds."""
    columns = (
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Show(console, progress, seeds)
