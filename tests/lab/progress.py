"""What is seen while cases run: a line for each that is done, and on a terminal what runs now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lab.run import Result
from lab.scenario import Case

_NAMES = 3
"""cases that the bar names"""


class Show:
    """Told of every case when it begins and when it is done."""

    def __init__(self, console: Console, progress: Progress, cases: Sequence[Case]) -> None:
        self._console = console
        self._progress = progress
        self._bar = progress.add_task("", total=len(cases))
        self._total = len(cases)
        self._done = 0
        self._running: list[str] = []

    def begun(self, case: Case) -> None:
        """A case has begun."""
        self._running.append(case.name)
        self._name()

    def done(self, result: Result) -> None:
        """A case is done."""
        self._running.remove(result.case.name)
        self._done += 1
        verdict = "[red]FAILED[/]" if result.wrong else "[green]passed[/]"
        figures = "; ".join(f"{one.what} {one.seconds:.1f} s" for one in result.measured)
        self._console.print(
            f"{self._done:3}/{self._total} {verdict} {escape(result.case.name)} in {result.seconds:.0f} s"
            + (f"  [dim]({escape(figures)})[/]" if figures else ""),
            soft_wrap=True,
            highlight=False,
        )
        for wrong in result.wrong[:10]:
            self._console.print(f"        {escape(wrong)}", soft_wrap=True, highlight=False)
        self._progress.advance(self._bar)
        self._name()

    def _name(self) -> None:
        shown = ", ".join(self._running[-_NAMES:])
        more = len(self._running) - _NAMES
        self._progress.update(self._bar, description=shown + (f" and {more} more" if more > 0 else ""))


@contextmanager
def shown(cases: Sequence[Case]) -> Iterator[Show]:
    """Show the progress of cases, to the terminal or a file that is standard output."""
    console = Console()
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Show(console, progress, cases)
