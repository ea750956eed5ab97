"""The `status` command: what a running gateway says of itself, for a person or, as JSON, for a program."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from mailgate import control
from mailgate.control import CannotAsk
from mailgate.network import Network, RealNetwork
from mailgate.relay.status import BackboneStatus, LedgerStatus, PathStatus, Status
from mailgate.text import escaped

WIDE = 1000
"""columns where there is no terminal: whoever reads it there wants each path on one line"""

INTERVAL = 1.0
"""seconds from one look to the next"""

STRANGERS = 20
"""paths found by MX that are shown although they are up"""

BACK_FOR = 10.0
"""seconds for which a gateway's return is worth a line"""

_GONE_STYLE = "bold red"
_DOUBT_STYLE = "bold yellow"
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def run(state_dir: Path, *, as_json: bool, watch: bool) -> None:
    """Ask and print; with `watch` until Ctrl-C. Raises CannotAsk if nobody answers (with `watch`: the first time)."""
    network = RealNetwork()
    if not watch:
        document = trio.run(control.ask, network, state_dir)
        if as_json:
            print(_json(document, indent=2))  # noqa: T201
        else:
            console().print(shown(control.decoded(document)))
        return
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(watch_json if as_json else watch_on, network, state_dir, console())


def console() -> Console:
    """Standard output. What strangers wrote is no markup there."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDE
    return made


def _json(document: bytes, indent: int | None = None) -> str:
    """The document, keys that we do not know included, in ASCII without control characters. Raises CannotAsk."""
    try:
        return json.dumps(json.loads(document), indent=indent)
    except (ValueError, RecursionError) as error:
        raise CannotAsk(f"the answer is no JSON ({error}); what listens there is no mailgate") from None


# Watching


@dataclass(slots=True)
class Watched:
    """What was seen of a gateway, look by look."""

    status: Status | None = None
    """the last one"""
    gone: str = ""
    """why it does not answer now"""
    gone_since: float = 0.0
    remark: str = ""
    """what happened to it lately"""
    remark_until: float = 0.0

    def answered(self, status: Status, now: float) -> None:
        """It says this."""
        again = self.status is not None and status.started != self.status.started
        if self.gone or again:
            how = "was restarted" if again else "is back"
            lasted = f", it was away for {duration(now - self.gone_since)}" if self.gone else ""
            self._note(f"the gateway {how}{lasted}", now)
        self.status, self.gone = status, ""

    def failed(self, why: str, now: float) -> None:
        """It says nothing, or nothing of use."""
        if not self.gone:
            self.gone_since = now
        self.gone = why

    def _note(self, remark: str, now: float) -> None:
        self.remark, self.remark_until = remark, now + BACK_FOR

    def remarks(self, now: float) -> list[Text]:
        """What is to be said above the status."""
        if self.gone:
            since = f"no answer for {duration(now - self.gone_since)}; what follows is how it was before"
            return [Text(escaped(f"{since}: {self.gone}"), style=_GONE_STYLE)]
        return [Text(self.remark, style="bold green")] if self.remark and now < self.remark_until else []


async def look(network: Network, state_dir: Path, seen: Watched, *, first: bool) -> None:
    """One look. Raises CannotAsk if it is the first one and nobody answers: that may well be a mistake in a path."""
    try:
        status = control.decoded(await control.ask(network, state_dir))
    except CannotAsk as error:
        if first:
            raise
        seen.failed(str(error), trio.current_time())
    else:
        seen.answered(status, trio.current_time())


async def watch_on(network: Network, state_dir: Path, console: Console) -> None:
    """Look and print, until cancelled; a terminal is redrawn. Raises CannotAsk if nobody answers the first time."""
    seen = Watched()
    await look(network, state_dir, seen, first=True)
    if not console.is_terminal:
        await _every(network, state_dir, seen, lambda: console.print(_page(seen, trio.current_time()), ""))
        return
    with Live(console=console, auto_refresh=False) as live:
        await _every(network, state_dir, seen, lambda: live.update(_page(seen, trio.current_time()), refresh=True))


async def _every(network: Network, state_dir: Path, seen: Watched, show: Callable[[], None]) -> None:
    while True:
        show()
        await trio.sleep(INTERVAL)
        await look(network, state_dir, seen, first=False)


def _page(seen: Watched, now: float) -> RenderableType:
    assert seen.status is not None
    return Group(*seen.remarks(now), Styled(shown(seen.status), "dim" if seen.gone else ""))


async def watch_json(network: Network, state_dir: Path, console: Console) -> None:
    """A line for each look that was answered; what happens between goes to standard error. Otherwise as `watch_on`."""
    said, first = "", True
    while True:
        try:
            line = _json(await control.ask(network, state_dir))
        except CannotAsk as error:
            if first:
                raise
            if str(error) != said:
                said = str(error)
                _warn(f"{said}; looking again every second")
        else:
            if said:
                said = ""
                _warn("the gateway answers again")
            console.print(line, soft_wrap=True)
        first = False
        await trio.sleep(INTERVAL)


def _warn(what: str) -> None:
    print(f"mailgate: {escaped(what)}", file=sys.stderr)  # noqa: T201


# What it looks like


def shown(status: Status) -> RenderableType:
    """The whole, for a person."""
    parts: list[RenderableType] = [_header(status), _numbers(status)]
    if status.backbones:
        parts += ["", _backbones(status.backbones)]
    rows = _worth_a_row(status.paths)
    outages = [outage.why for backbone in status.backbones for outage in backbone.outages]
    parts += ["", _paths(rows, outages) if rows else Text("no path has been tried yet", style="dim")]
    rest = len(status.paths) - len(rows) + status.paths_left_out
    if rest:
        down = sum(not one.up for one in status.paths) - sum(not one.up for one in rows)
        parts.append(Text(f"and {_count(rest, 'more path')} found by MX, {down} of them known down", style="dim"))
    return Group(*parts)


def _worth_a_row(paths: Sequence[PathStatus]) -> list[PathStatus]:
    """All that a route names or that are down, and some of the others.

    Their order stays from one look to the next as long as no path goes up or down.
    """

    def order(one: PathStatus) -> tuple[bool, bool, str, str, str]:
        return not one.static, one.up, one.host, one.address, one.backbone or ""

    fixed = [one for one in paths if one.static or not one.up]
    used_last = [one for one in paths if not one.static and one.up][:STRANGERS]
    return sorted(fixed + used_last, key=order)


def _header(status: Status) -> Text:
    state = ("draining", "bold yellow") if status.draining else ("serving", "bold green")
    running = f", mailgate {escaped(status.version)}, running for {duration(status.running_for)}: "
    return Text.assemble((escaped(status.hostname), "bold"), running, state)


def _numbers(status: Status) -> Text:
    upstream, recipients = status.upstream, status.recipients
    listeners = ", ".join(f"{escaped(one.name)} {one.sessions:,}" for one in status.listeners)
    counts = (
        f"{recipients.delivered:,} delivered ({recipients.untold:,} untold), {recipients.rejected:,} rejected, "
        f"{recipients.deferred:,} deferred, "
    )
    lines = [
        ("clients", f"{_of(status.sessions, status.sessions_limit)}: {listeners}"),
        ("under way", f"{_count(status.transactions, 'transaction')}, {_deliveries(status.deliveries)}"),
        ("next hops", f"{_of(upstream.held, upstream.limit)}, {upstream.kept:,} of them kept for reuse"),
        ("recipients", counts),
    ]
    text = Text("\n").join(Text.assemble((f"{label:<12}", "dim"), said) for label, said in lines)
    text.append(f"{recipients.unknown:,} unknown", style=_DOUBT_STYLE if recipients.unknown else "")
    ledger = _ledger(status.ledger)
    return Text.assemble(text, (f"\n{'ledger':<12}", "dim"), ledger) if ledger else text


def _ledger(ledger: LedgerStatus) -> Text | None:
    """None: there is nothing to say. Most sites never need it, and few of its numbers are not 0."""
    numbers = (ledger.entries, ledger.put_off, ledger.recorded, ledger.met, ledger.possible_duplicate, ledger.unasked)
    if ledger.shared == "none" and not any(numbers):
        return None
    told = Text(f"{ledger.recorded:,} made, {ledger.met:,} met, {ledger.entries:,} of at most {ledger.limit:,} here")
    if ledger.evicted:
        told.append(f", {ledger.evicted:,} evicted", style=_DOUBT_STYLE)
    if ledger.put_off:
        told.append(f", {ledger.put_off:,} put off")
    if ledger.possible_duplicate:
        told.append(f", {_count(ledger.possible_duplicate, 'possible duplicate')}", style=_DOUBT_STYLE)
    if ledger.unasked:
        told.append(f", {ledger.unasked:,} unasked", style=_DOUBT_STYLE)
    if ledger.shared != "none":
        shared = escaped(ledger.shared)
        told = Text.assemble((f"shared, {shared}", _GONE_STYLE if shared == "unreachable" else ""), ": ", told)
    return told


def _of(sessions: int, limit: int) -> str:
    return f"{sessions:,} of at most {_count(limit, 'session')}"


def _deliveries(number: int) -> str:
    return "1 delivery" if number == 1 else f"{number:,} deliveries"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _backbones(backbones: Iterable[BackboneStatus]) -> Table:
    table = _table()
    table.add_column("backbone", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("paths", justify="right", no_wrap=True)
    table.add_column("down", justify="right", no_wrap=True)
    table.add_column("failures", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in backbones:
        whys = [f"{out.family} out for {duration(out.down_for)}: {escaped(out.why)}" for out in one.outages]
        table.add_row(
            Text(escaped(one.name)),
            Text(", ".join(map(escaped, one.sources))),
            _state_of_backbone(one),
            f"{one.paths:,}",
            Text(f"{one.down:,}", style="red" if one.down else ""),
            f"{one.failures:,}",
            Text("\n".join(whys), style="red"),
        )
    return table


def _paths(paths: Sequence[PathStatus], outages: Sequence[str]) -> Table:
    """`outages`: reasons that the backbones' own table has."""
    with_backbones = any(one.backbone for one in paths)
    table = _table()
    if with_backbones:
        table.add_column("backbone", no_wrap=True)
    table.add_column("path", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("latency", justify="right", no_wrap=True)
    table.add_column("success", justify="right", no_wrap=True)
    table.add_column("failures", justify="right", no_wrap=True)
    table.add_column("next try", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in paths:
        table.add_row(
            *([Text(escaped(one.backbone or ""))] if with_backbones else []),
            Text(escaped(one.host if one.host == one.address else f"{one.host} ({one.address})")),
            _state(one),
            "" if one.latency is None else _latency(one.latency),
            "never" if one.last_success_ago is None else f"{duration(one.last_success_ago)} ago",
            f"{one.failures:,}" if one.failures else "",
            _next_try(one),
            Text("its backbone is out" if one.why in outages else escaped(one.why), style="red"),
        )
    return table


def _state_of_backbone(backbone: BackboneStatus) -> Text:
    if backbone.outages:
        whole = len(backbone.outages) == len(backbone.sources)
        return Text("out" if whole else f"no {backbone.outages[0].family}", style="bold red")
    if not backbone.paths:
        return Text("not tried yet", style="dim")
    return Text("down", style="bold red") if backbone.down == backbone.paths else Text("up", style="green")


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="underline")


def _state(path: PathStatus) -> Text:
    if path.up:
        return Text("up", style="green")
    return Text("down" if path.down_for is None else f"down {duration(path.down_for)}", style="bold red")


def _next_try(path: PathStatus) -> str:
    if path.next_try_in is None:
        return ""
    if path.next_try_in == 0:
        return "due" if path.static else "when wanted"
    return f"in {duration(path.next_try_in)}"


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:,.0f} ms"


def duration(seconds: float) -> str:
    """As people say it, in its two largest units: `2 d 3 h`, `5 min 4 s`, `12 s`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"
