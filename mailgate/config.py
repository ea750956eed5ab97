"""The configuration file: TOML → checked, typed settings; everything that is wrong with it reported at once.

Three steps. Each table is checked by its model (config_tables), each value in it by its parser (config_values).
What is good of a table is kept even beside errors, and the rules between keys (config_rules) are checked on
that. If nothing is wrong, the tables become `Settings`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import tomli
from pydantic import BaseModel

from mailgate import config_rules, config_together
from mailgate.config_tables import (
    ARRAYS,
    NAME,
    TABLES,
    BackboneTable,
    DnsTable,
    Draft,
    Item,
    LedgerTable,
    LimitsTable,
    ListenerTable,
    Problem,
    RouteTable,
    TimeoutsTable,
    TopTable,
    name_of,
    read_table,
)
from mailgate.network import Address, TcpAddress
from mailgate.relay.settings import Backbone, Limits, Listener, Route, Settings, Timeouts
from mailgate.text import escaped

__all__ = ["Bind", "Config", "ConfigError", "Problem", "load", "parse"]

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Bind:
    """An address to listen on, and what its clients are offered."""

    listener: Listener
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the configuration file says."""

    settings: Settings
    binds: tuple[Bind, ...]
    """in the order of the file; a listener may have several"""
    dns_servers: tuple[TcpAddress, ...] = ()
    """none: the system's"""
    backbones: tuple[Backbone, ...] = ()
    """all of them, in the order of the file; each is some route's"""
    state_dir: Path | None = None
    """where the control socket is, and the ledger between two runs; none: there is neither"""
    ledger_url: str | None = field(default=None, repr=False)
    """of the ledger that several gateways share, as config_values.parse_ledger_url knows it; a password may be in it"""
    warnings: tuple[Problem, ...] = ()
    """what is allowed, but may not be what was meant"""


class ConfigError(Exception):
    """The configuration cannot be used; `problems` is everything that is wrong with it."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


def load(path: Path) -> Config:
    """Read a configuration file. Raises ConfigError."""
    source = escaped(str(path))
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}", "name a file that this user may read")
        raise ConfigError(source, [problem]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = Problem(f"line {line}", "is not UTF-8", "save the file as UTF-8, which TOML wants")
        raise ConfigError(source, [problem]) from None
    return parse(text, source)


def parse(text: str, source: str = "configuration") -> Config:
    """Check a configuration. Raises ConfigError, whose messages begin with `source`."""
    raw = _toml(text, source)
    draft = Draft(
        top=read_table(TopTable, {key: value for key, value in raw.items() if key not in TABLES}, ""),
        listeners=_read_array(ListenerTable, raw, "listener"),
        routes=_read_array(RouteTable, raw, "route"),
        backbones=_read_array(BackboneTable, raw, "backbone"),
        dns=read_table(DnsTable, raw.get("dns", {}), "dns."),
        ledger=read_table(LedgerTable, raw.get("ledger", {}), "ledger."),
        limits=read_table(LimitsTable, raw.get("limits", {}), "limits."),
        timeouts=read_table(TimeoutsTable, raw.get("timeouts", {}), "timeouts."),
    )
    problems = [
        *(problem for item in draft.items() for problem in item.problems),
        *(_no_array(kind) for kind in ARRAYS if not isinstance(raw.get(kind, []), list)),
        *config_rules.broken(draft),
    ]
    if problems:
        raise ConfigError(source, problems)
    return _config(draft)


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        where, what = f"line {error.lineno}, column {error.colno}", error.msg
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested as deep
        where, what = "", str(error).partition(";")[0]
    problem = Problem(where, f"is no TOML: {escaped(what)}", "see https://toml.io for the syntax")
    raise ConfigError(source, [problem])


def _no_array(kind: str) -> Problem:
    return Problem(kind, "is one table where there may be several", f"write [[{kind}]], in double brackets")


def _read_array(model: type[T], raw: dict[str, Any], kind: str) -> list[Item[T]]:
    tables = raw.get(kind, [])
    if not isinstance(tables, list):
        tables = [tables]
    names = Counter(name_of(table) for table in tables)
    items = []
    for position, table in enumerate(tables):
        name = name_of(table)
        # A person finds a table by its name at once, and by its position where the name does not tell.
        tells = NAME.fullmatch(name) is not None and names[name] == 1
        items.append(read_table(model, table, f'{kind} "{name}": ' if tells else f"{kind}[{position}]."))
    return items


def _config(draft: Draft) -> Config:
    backbones = {item.name: _backbone(item.table, draft.top.table.hostname) for item in draft.backbones}
    routes = {item.name: _route(item.table, backbones) for item in draft.routes}
    listeners = [
        Listener(
            name=table.name,
            protocol=table.protocol,
            routes=tuple(routes[name] for name in table.routes),
            clients=None if table.clients is None else tuple(table.clients),
            bare_newline=table.bare_newline,
            several_next_hops=table.several_next_hops,
            handover=table.handover,
        )
        for table in (item.table for item in draft.listeners)
    ]
    binds = [
        Bind(listener, address)
        for listener, item in zip(listeners, draft.listeners, strict=True)
        for address in item.table.bind
    ]
    settings = Settings(
        hostname=draft.top.table.hostname,
        listeners=tuple(listeners),
        postmaster=draft.top.table.postmaster,
        addresses=tuple(bind.address for bind in binds if isinstance(bind.address, TcpAddress)),
        timeouts=Timeouts(**draft.timeouts.table.model_dump()),
        limits=Limits(**draft.limits.table.model_dump()),
        ledger=draft.ledger.table.enabled,
    )
    return Config(
        settings=settings,
        binds=tuple(binds),
        dns_servers=tuple(draft.dns.table.servers or ()),
        backbones=tuple(backbones.values()),
        state_dir=draft.top.table.state_dir,
        ledger_url=draft.ledger.table.url,
        warnings=tuple(config_together.doubtful(draft)),
    )


def _backbone(table: BackboneTable, hostname: str) -> Backbone:
    return Backbone(name=table.name, sources=tuple(table.source), helo=table.helo or hostname)


def _route(table: RouteTable, backbones: dict[str, Backbone]) -> Route:
    return Route(
        name=table.name,
        domains=tuple(table.domains),
        hosts=tuple(table.hosts or ()),
        protocol=table.protocol,
        backbones=tuple(backbones[name] for name in table.backbones or ()),
        mx=table.mx,
        port=table.port,
        allow_private=table.allow_private,
        address_literals=table.address_literals,
        group_domains=table.group_domains,
    )
