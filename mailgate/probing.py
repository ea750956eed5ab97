"""The `probe` command: what the next hop of an address would say, path by path, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailgate.config import Config
from mailgate.network import RealNetwork
from mailgate.protocol import command
from mailgate.protocol.command import BadCommand, Dialect, Extension
from mailgate.relay.probing import Probed, Question, probe
from mailgate.relay.routing import Path, find_route, postmaster
from mailgate.relay.settings import Host, Listener, Route
from mailgate.text import escaped, quoted

WIDE = 1000
"""columns where there is no terminal: whoever reads it there wants each answer on one line"""

_DIALECT = Dialect(tuple(Extension), smtputf8=True)


class NothingToAsk(Exception):
    """The address or the listener is none, or no route takes it."""


def run(config: Config, *, address: str, listener: str | None, sender: str) -> bool:
    """Probe and print; whether some path takes the address. Raises NothingToAsk."""
    question = _question(config, address, sender)
    at, route = _route(config, question, listener)
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    by = f"by route {route.name} over {route.protocol.name}"
    console.print(Text(f"<{question.recipient}>, offered to listener {at.name}, goes {by}"))
    rows: list[Probed] = []
    with console.status("asking path by path …"):
        network = RealNetwork(config.dns_servers)
        winner = trio.run(probe, config.settings, network, route, question, rows.append)
    console.print(table(rows))
    if winner is not None:
        console.print(Text(f"a message would go by {_shown(winner)}: it was the first to take MAIL just now"))
    return any(row.accepts for row in rows)


def _question(config: Config, address: str, sender: str) -> Question:
    mail = _parsed(f"MAIL FROM:<{sender}> SMTPUTF8", f"sender {quoted(sender)}")
    rcpt = _parsed(f"RCPT TO:<{address}>", quoted(address))
    assert isinstance(mail, command.Mail)
    assert isinstance(rcpt, command.Rcpt)
    return Question(mail.reverse_path, postmaster(config.settings, rcpt.mailbox))


def _parsed(line: str, what: str) -> command.Command:
    try:
        return command.parse(line.encode("utf-8", "replace"), _DIALECT)
    except BadCommand:
        raise NothingToAsk(f"{what} is no address; write for example joe@example.org") from None


def _route(config: Config, question: Question, name: str | None) -> tuple[Listener, Route]:
    listeners = [one for one in config.settings.listeners if name in (None, one.name)]
    if not listeners:
        known = ", ".join(one.name for one in config.settings.listeners)
        raise NothingToAsk(f"there is no listener {escaped(str(name))}; there are {known}")
    for listener in listeners:
        route = find_route(listener.routes, question.recipient.domain)
        if route is not None:
            return listener, route
    nobody = "no listener has a route" if name is None else f"listener {name} has no route"
    raise NothingToAsk(
        f"{nobody} for {escaped(question.recipient.domain)}: a client would hear 550 5.7.1; "
        "add the domain to a [[route]] that the listener names"
    )


def table(rows: Sequence[Probed]) -> Table:
    """A row for each path."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="underline")
    with_backbones = any(_backbone(row.where) for row in rows)
    if with_backbones:
        made.add_column("backbone", no_wrap=True)
    made.add_column("path", overflow="fold")
    made.add_column("got to", no_wrap=True)
    made.add_column("answer", overflow="fold")
    made.add_column("connect", justify="right", no_wrap=True)
    made.add_column("seconds", justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            *([_backbone(row.where)] if with_backbones else []),
            Text(_place(row.where)),
            row.stage.value,
            Text(escaped(row.answer), style="green" if row.accepts else "red"),
            "" if row.connected is None else f"{row.connected:.2f}",
            f"{row.seconds:.2f}",
        )
    return made


def _backbone(where: Path | Host | str) -> str:
    return where.backbone.name if isinstance(where, Path) and where.backbone is not None else ""


def _place(where: Path | Host | str) -> str:
    if not isinstance(where, Path):
        return str(where)
    return str(where.address) if where.host in (None, where.address) else f"{where.host} ({where.address})"


def _shown(path: Path) -> str:
    return _place(path) if path.backbone is None else f"{path.backbone.name} to {_place(path)}"
