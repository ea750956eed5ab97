"""What a run showed, as a table on the terminal and as a page of the documentation."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from lab.run import Result
from lab.scenario import SCENARIOS
from lab.site import Way

_COLUMNS = ("server", "topology", "gateways", "delivered after, by", "copies", "second", "bodies", "useless")

_LEGEND = """\
*server*: the one whose sending it is about. *topology*: figure 1(a), one site, or 1(b), two sites. *delivered after*:
the seconds from the moment that the sender's server had taken a message (after a repair: from the queue run that was
requested then) to the moment it was in the last of its mailboxes; *by*: the gateways that its copies came through.
*copies*: of all messages, in mailboxes. *second*: copies that no recipient should have, each explained below the table.
*bodies*: transfers of a message, or the start of one, to or from a gateway, counted on the wire. *useless*: those to a
server that had accepted nobody, and those that were answered 2xx and came to nothing.
"""

_WIDTH = 118
"""columns of the table where standard output is no terminal"""


def show(done: Sequence[Result]) -> None:
    """Print the table."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for name, results in _by_scenario(done):
        table = Table(*_COLUMNS, title=name, title_justify="left", box=box.SIMPLE_HEAD)
        for result in results:
            table.add_row(*_row(result, "\n"), style="red" if result.wrong else None)
        console.print(table)


def page(done: Sequence[Result], command: str, seconds: float) -> str:
    """The page, in Markdown."""
    return "\n".join((*_head(done, command, seconds), *_sections(done)))


def _head(done: Sequence[Result], command: str, seconds: float) -> Iterator[str]:
    failed = sum(bool(result.wrong) for result in done)
    versions = {name: said for result in done for name, said in result.versions.items()}
    mailgate = [result.account for result in done if result.case.scenario.way is Way.MAILGATE and result.account]
    yield "# What the lab showed"
    yield ""
    yield f"Written by `{command}` on {datetime.date.today().isoformat()}; nothing in it is typed by hand."
    yield "How the lab is made is in [lab.md](lab.md)."
    yield ""
    yield f"- {len(done)} cases in {seconds / 60:.0f} minutes: {len(done) - failed} passed, {failed} failed."
    copies = sum(one.copies for one in mailgate)
    lost, excused, others, useless = (
        sum(len(getattr(one, kind)) for one in mailgate) for kind in ("lost", "excused", "duplicates", "useless")
    )
    yield (
        f"- With mailgate: {copies} copies delivered, {lost} lost, {excused} second copies of "
        f"the kinds that SMTP cannot avoid, {others} others, {useless} useless transfers."
    )
    yield f"- mailgate {importlib.metadata.version('mailgate')}"
    yield f"- Python {platform.python_version()}, Linux {platform.release()}"
    for name in sorted(versions):
        yield f"- {name}: {versions[name]}"
    yield ""
    yield _LEGEND


def _sections(done: Sequence[Result]) -> Iterator[str]:
    for name, results in _by_scenario(done):
        yield f"## {name}"
        for way in dict.fromkeys(result.case.scenario.way for result in results):
            prose = next(result.case.scenario.prose for result in results if result.case.scenario.way is way)
            yield ""
            yield f"**{way.value}.** {prose}"
        yield ""
        yield f"| {' | '.join(_COLUMNS)} |"
        yield f"|{' --- |' * len(_COLUMNS)}"
        for result in results:
            yield f"| {' | '.join(_row(result, '<br>'))} |"
        yield ""
        for result in results:
            for text in _notes(result):
                case = result.case
                named = f"{case.mta.title}, {case.topology.value}, {case.scenario.way.value}"
                yield f"- {named}: {' '.join(text.split())}"
        yield ""


def _notes(result: Result) -> Iterator[str]:
    yield from result.remarks
    if result.account is not None:
        yield from (f"second copy: {one}" for one in result.account.excused + result.account.duplicates)
    yield from (f"**failed**: {one}" for one in result.wrong)


def _by_scenario(done: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    order = {scenario.name: number for number, scenario in reversed(list(enumerate(SCENARIOS)))}
    names = sorted({result.case.scenario.name for result in done}, key=order.__getitem__)
    for name in names:
        results = [result for result in done if result.case.scenario.name == name]
        results.sort(
            key=lambda result: (result.case.mta.title, result.case.topology.value, result.case.scenario.way.name)
        )
        yield name, results


def _row(result: Result, between: str) -> tuple[str, ...]:
    case = result.case
    times = between.join(f"{one.what}: {one.seconds:.2f} {' and '.join(one.via)}".rstrip() for one in result.measured)
    came = result.account
    counts = (
        ("failed", "", "", "")
        if came is None
        else (str(came.copies), str(len(came.excused) + len(came.duplicates)), str(came.bodies), str(len(came.useless)))
    )
    return (case.mta.title, case.topology.value, case.scenario.way.value, times, *counts)
