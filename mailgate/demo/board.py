"""How the demo looks: a table, row by row, for terminals and for pipes. It decides nothing."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mailgate.demo.checker import Tally
from mailgate.demo.history import Copy, Duplicate, Try
from mailgate.demo.play import Origin, Told
from mailgate.demo.scenarios import Scenario
from mailgate.demo.world import Server, World
from mailgate.testing import State
from mailgate.text import escaped

_PIPE_WIDTH = 120
"""columns where nobody says how wide the reader's screen is"""

_INDENT = 3
_LABEL = len("expected:") + 2
_GAP = 2
_COLUMNS = {"recipient": 16, "by": 3, "answer": 0, "went to": 7, "time": 6}
"""widths; the answer's is what remains"""

_STYLES = {State.DELIVERED: "green", State.DEFERRED: "yellow", State.REFUSED: "red"}
_PLACES = {
    Server.INSIDE: "the site's own server: home.example",
    Server.MX_A: "outside: a.example",
    Server.MX_B: "outside: b.example",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """`mailgate demo | head` has seen enough; the verdict is still the exit status."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console() -> Console:
    """Standard output. Characters that its encoding lacks become question marks, which is better than no demo."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _Console(width=width, highlight=False, markup=False, emoji=False)


def went_to(one: Try, address: str, copies: Sequence[Copy]) -> str:
    """The server that has the message by this try; with a question mark if it has not said so."""
    brought = [copy for copy in copies if copy.address == address and copy.gateway == one.gateway]
    if one.state is State.DELIVERED:
        return next((copy.server for copy in brought if copy.taken), "")
    return next((f"{copy.server}?" for copy in brought if copy.unanswered), "")


class Board:
    """Prints what it is told."""

    def __init__(self, console: Console, *, live: bool) -> None:
        """`live`: show on a terminal's last line what is being said at the moment."""
        self._console = console
        self._live = live and console.is_terminal and not console.is_dumb_terminal

    def introduce(self, world: World, *, left_out: int | None) -> None:
        """Who is where; `left_out`: scenarios that cannot be played, as all share one address. None: they do not."""
        self.say("Two mailgate gateways and three scripted mail servers, on this machine only:", "bold")
        table = _grid()
        for server in world.servers.values():
            table.add_row(server.name.value, f"SMTP {server.address}", _PLACES[server.name])
        for gateway in world.gateways.values():
            table.add_row(gateway.name.value, f"SMTP {gateway.smtp}", "gateway, for the outside")
            table.add_row("", f"LMTP {gateway.lmtp}", "gateway, for the inside")
            for backbone in gateway.backbones:
                table.add_row("", f"from {backbone.sources[0]}", f"its backbone {backbone.name}")
        self._indented(table)
        if left_out is not None:
            self.say(
                "(This system has no 127.0.0.2 and up, so all of them share one address. Backbones differ by theirs: "
                f"{left_out} scenarios in which one is cut are left out.)"
            )
        self._console.print()
        self._row([Text(heading, style="dim") for heading in _COLUMNS])

    def open(self, number: int, scenario: Scenario, size: int, origin: Origin) -> None:
        """What is sent, what is broken, and what is expected."""
        self._console.print()
        self.say(f"{number}  {scenario.title}", "bold")
        prose = _grid()
        prose.add_column(no_wrap=True)
        prose.add_row("sent:", f"{size:,} bytes by {origin.protocol.upper()} from {origin.reverse_path}")
        prose.add_row("broken:", scenario.broken)
        prose.add_row("expected:", scenario.promise)
        self._indented(prose)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Callable[[str], None]]:
        """Within, the function shows what is going on, if somebody is looking; nothing of it stays."""
        if not self._live:
            yield lambda text: None
            return
        spinner = Spinner("dots")
        with Live(spinner, console=self._console, auto_refresh=False, transient=True) as live:

            def show(text: str) -> None:
                spinner.update(text=Text(escaped(text)[: self._console.width - _INDENT], style="dim"))
                live.refresh()

            yield show

    def rows(self, run: int, told: Sequence[Told], copies: Sequence[Copy]) -> None:
        """What a run over the sender's queue brought; the copies are this message's, so far."""
        if run > 1:
            self._indented(Text("tried again, from the sender's queue:", style="italic"))
        for one in told:
            address = one.address
            for made in one.tries:
                answer = Text(f"{made.stage.value}: {escaped(made.text)}", style=_STYLES[made.state])
                seconds = Text(_duration(made.seconds))
                where = Text(went_to(made, one.address, copies))
                self._row([Text(address), Text(made.gateway), answer, where, seconds])
                address = ""

    def mended(self, seconds: float) -> None:
        """Everything is as it should be again, and the gateways have found out by themselves; or not."""
        text = "mended; the gateways have not found out" if math.isinf(seconds) else "mended; the gateways know after "
        self._indented(Text(text + ("" if math.isinf(seconds) else _duration(seconds)), style="italic"))

    def tell_callers(self, callers: Sequence[str]) -> None:
        """As whom the servers saw the gateway."""
        for line in callers:
            label = "seen:" if line == callers[0] else ""
            self._indented(Text(f"{label:{_LABEL}}{escaped(line)}"))

    def close(self, problems: Sequence[str], facts: str, journal: str) -> None:
        """Whether it went as promised; the gateways' log if it did not."""
        if not problems:
            self._indented(Text(f"✓ held: {facts}", style="green"))
            return
        for problem in problems:
            self._indented(Text(f"✗ BROKEN: {escaped(problem)}", style="bold red"))
        if journal:
            self._indented(Text("the gateways' log:"))
            self._console.print(Text(journal), soft_wrap=True)

    def summarise(self, tally: Tally, seconds: float) -> None:
        """The one line of numbers."""
        kinds = ", ".join(f"{tally.duplicates.count(kind)} {kind.value}" for kind in Duplicate)
        queued = f", {tally.queued} still queued" if tally.queued else ""
        self._console.print()
        self.say(
            f"{tally.messages} messages, {tally.recipients} recipients: {tally.delivered} delivered "
            f"({tally.deferred_first} deferred first), {tally.refused} refused{queued}; "
            f"lost {tally.lost}, half {tally.half}; duplicates: {kinds}; {seconds:.1f} s",
            "bold",
        )

    def conclude(self, broken: Sequence[str]) -> None:
        """Whether every promise held, and what to do next."""
        if broken:
            self.say(f"✗ BROKEN: {'; '.join(broken)}.", "bold red")
            self.say("Please report what is above; with --verbose you see what the gateways log meanwhile.")
        else:
            self.say("✓ Every promise held.", "bold green")
            self.say(
                "Next: --serve lets you send messages by hand, --verbose shows what the gateways log; "
                "`mailgate serve -c FILE` is the real thing, and conf/mailgate.toml explains FILE."
            )

    def say(self, text: str, style: str = "") -> None:
        """A line; on a terminal it is broken between words."""
        self._console.print(Text(text, style=style), soft_wrap=not self._console.is_terminal)

    def verbatim(self, line: str) -> None:
        """A line to be copied: never broken."""
        self._console.print(Text(line), soft_wrap=True)

    def _row(self, cells: Sequence[Text]) -> None:
        rest = self._console.width - _INDENT - sum(_COLUMNS.values()) - _GAP * (len(_COLUMNS) - 1)
        table = _grid()
        for width in _COLUMNS.values():
            table.add_column(width=width or max(rest, 12), no_wrap=True, overflow="ellipsis")
        table.columns[-1].justify = "right"
        table.add_row(*cells)
        self._indented(table)

    def _indented(self, what: RenderableType) -> None:
        self._console.print(Padding(what, (0, 0, 0, _INDENT), expand=False))


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _grid() -> Table:
    return Table.grid(padding=(0, _GAP, 0, 0))
