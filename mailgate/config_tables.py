"""The tables of the configuration file: their keys, types and defaults; and reading one, with all that is wrong.

docs/configuration.md describes every key here; a test compares the two.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
)
from pydantic_core import ErrorDetails

from mailgate import config_values as values
from mailgate.network import Address, TcpAddress
from mailgate.protocol.framing import BareNewline
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Host, IPNetwork, Limits, SeveralNextHops, Timeouts
from mailgate.text import quoted

MAX_SECONDS = 3600
"""of any one wait: more is surely meant as milliseconds, and no client waits that long"""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""of a listener, route or backbone: one word in a log line"""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration."""

    where: str
    """the key path, such as `listener "from-inside": routes[0]`; or `line 3, column 5`; or empty"""
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        what = f"{self.where}: {self.what}" if self.where else self.what
        return f"{what}; {self.remedy}" if self.remedy else what


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise values.BadValue("must be a string")
    return value


def _name(value: str) -> str:
    if NAME.fullmatch(value) is None:
        raise values.BadValue(
            f"{values.shown(value)} is no name", "letters, digits, dots, hyphens and underscores, 63 at most"
        )
    return value


def _bind(value: object) -> Address:
    return values.parse_bind(_text(value))


def _host(value: object, info: ValidationInfo) -> Host:
    # `protocol` stands before `hosts` in the model, so it is here, unless it is wrong itself.
    return values.parse_host(_text(value), info.data.get("protocol", Role.SMTP))


def _handover(value: object) -> Host:
    return values.parse_host(_text(value), Role.SMTP)


def _network(value: object) -> IPNetwork:
    return values.parse_network(_text(value))


def _source(value: object) -> str:
    return values.parse_source(_text(value))


def _state_dir(value: object) -> Path:
    return values.parse_state_dir(_text(value))


def _ledger_url(value: object) -> str:
    text = _text(value)
    values.parse_ledger_url(text)
    return text


def _dns_server(value: object) -> TcpAddress:
    return values.parse_dns_server(_text(value))


# A parser that makes another type than str of a string; the JSON Schema says string.
def _parsed(parse: Any) -> PlainValidator:
    return PlainValidator(parse, json_schema_input_type=str)


Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Port = Annotated[int, AfterValidator(values.parse_port)]
HostName = Annotated[str, AfterValidator(values.parse_hostname)]
Name = Annotated[str, AfterValidator(_name)]
# An enum is taken by its value, the only thing that TOML can hold.
Protocol = Annotated[Role, Field(strict=False)]


class Table(BaseModel):
    """What all tables have in common: exact types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _keep(
        cls, value: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo[dict[str | None, Any]]
    ) -> object:
        """Note each good field in the context: if others are not, pydantic itself would drop it with them."""
        good = check(value)
        info.context[info.field_name] = good
        return good


class TopTable(Table):
    """The keys before the first table."""

    hostname: HostName = Field(examples=["gw1.example.org"])
    postmaster: Annotated[str, AfterValidator(values.parse_mailbox)] | None = Field(
        default=None, examples=["postmaster@example.org"]
    )
    state_dir: Annotated[Path, _parsed(_state_dir)] | None = Field(default=None, examples=["/var/lib/mailgate"])


class ListenerTable(Table):
    """[[listener]]"""

    name: Name = Field(examples=["from-outside"])
    protocol: Protocol = Field(examples=["smtp"])
    bind: list[Annotated[Address, _parsed(_bind)]] = Field(min_length=1, examples=[["0.0.0.0:25", "[::]:25"]])
    routes: list[str] = Field(min_length=1, examples=[["inside"]])
    clients: list[Annotated[IPNetwork, _parsed(_network)]] | None = Field(
        default=None, min_length=1, examples=[["10.0.0.0/8"]]
    )
    bare_newline: Annotated[BareNewline, Field(strict=False)] = Field(default=BareNewline.REPAIR, examples=["repair"])
    several_next_hops: Annotated[SeveralNextHops, Field(strict=False)] = Field(
        default=SeveralNextHops.APART, examples=["together"]
    )
    handover: Annotated[Host, _parsed(_handover)] | None = Field(default=None, examples=["10.0.0.25:2525"])


class RouteTable(Table):
    """[[route]]"""

    name: Name = Field(examples=["inside"])
    domains: list[Annotated[str, AfterValidator(values.parse_domain_pattern)]] = Field(
        min_length=1, examples=[["example.org", ".example.org"]]
    )
    protocol: Protocol = Field(default=Role.SMTP, examples=["smtp"])
    hosts: list[Annotated[Host, _parsed(_host)]] | None = Field(
        default=None, min_length=1, examples=[["mail1.example.org", "10.0.0.25:2525"]]
    )
    mx: bool = Field(default=False, examples=[True])
    port: Port = Field(default=25, examples=[25])
    backbones: list[str] | None = Field(default=None, min_length=1, examples=[["isp-a", "isp-b"]])
    allow_private: bool = Field(default=False, examples=[True])
    address_literals: bool = Field(default=False, examples=[True])
    group_domains: bool = Field(default=False, examples=[True])


class BackboneTable(Table):
    """[[backbone]]"""

    name: Name = Field(examples=["isp-a"])
    source: list[Annotated[str, _parsed(_source)]] = Field(min_length=1, examples=[["192.0.2.10", "2001:db8:a::10"]])
    helo: HostName | None = Field(default=None, examples=["gw1-a.example.org"])


class DnsTable(Table):
    """[dns]"""

    servers: list[Annotated[TcpAddress, _parsed(_dns_server)]] | None = Field(
        default=None, min_length=1, examples=[["127.0.0.1:5353"]]
    )


class LedgerTable(Table):
    """[ledger]"""

    enabled: bool = Field(default=True, examples=[True])
    url: Annotated[str, _parsed(_ledger_url)] | None = Field(default=None, examples=["redis://:PASSWORD@10.0.0.5"])


def _numbers(name: str, of: type[Limits] | type[Timeouts], kind: object) -> type[Table]:
    """The table that has the fields of a dataclass of numbers, so that the two can't drift apart."""
    fields: dict[str, Any] = {
        field.name: (kind, Field(default=field.default, examples=[field.default])) for field in dataclasses.fields(of)
    }
    return create_model(name, __base__=Table, **fields)


LimitsTable = _numbers("LimitsTable", Limits, Count)
TimeoutsTable = _numbers("TimeoutsTable", Timeouts, Seconds)

TABLES: dict[str, type[Table]] = {
    "listener": ListenerTable,
    "route": RouteTable,
    "backbone": BackboneTable,
    "dns": DnsTable,
    "ledger": LedgerTable,
    "limits": LimitsTable,
    "timeouts": TimeoutsTable,
}
ARRAYS = ("listener", "route", "backbone")
"""tables of which there may be several"""

_NEUTRAL: dict[str, Any] = {
    "hostname": "",
    "name": "",
    "protocol": Role.SMTP,
    "bind": [],
    "routes": [],
    "clients": [],
    "domains": [],
    "source": [],
}
"""what a bad field is taken for, so that it breaks no rule across keys; otherwise its default"""

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A table as far as it is good."""

    prefix: str
    """of the paths of its keys"""
    name: str
    """as written, good or not; empty where it has none"""
    table: T
    bad: frozenset[str] = frozenset()
    """keys with a wrong value, or missing though required: the table has something neutral there"""
    problems: tuple[Problem, ...] = ()

    def at(self, key: str, position: int | None = None) -> str:
        """The path of one of its keys, or of an element of the list there."""
        return self.prefix + (key if position is None else f"{key}[{position}]")


@dataclass(frozen=True, slots=True)
class Draft:
    """The whole file as far as it is good."""

    top: Item[TopTable]
    listeners: Sequence[Item[ListenerTable]]
    routes: Sequence[Item[RouteTable]]
    backbones: Sequence[Item[BackboneTable]]
    dns: Item[DnsTable]
    ledger: Item[LedgerTable]
    limits: Item[Table]
    timeouts: Item[Table]

    def items(self) -> tuple[Item[Any], ...]:
        """All tables."""
        arrays: tuple[Item[Any], ...] = (*self.listeners, *self.routes, *self.backbones)
        return (self.top, *arrays, self.dns, self.ledger, self.limits, self.timeouts)

    def routes_of(self, listener: Item[ListenerTable]) -> list[Item[RouteTable]]:
        """The routes that a listener's recipients may use."""
        return [route for route in self.routes if route.name in listener.table.routes]


def name_of(raw: object) -> str:
    """The name that a table gives itself, good or not; empty where it has none."""
    name = raw.get("name") if isinstance(raw, dict) else None
    return name if isinstance(name, str) else ""


def read_table(model: type[T], raw: object, prefix: str) -> Item[T]:
    """Check one table; `prefix` is that of the paths of its keys."""
    good: dict[str, Any] = {}
    try:
        return Item(prefix, name_of(raw), model.model_validate(raw, context=good))
    except ValidationError as error:
        details = error.errors(include_url=False)
        shapeless = not all(one["loc"] for one in details)  # no table at all
        bad = frozenset(model.model_fields if shapeless else (str(one["loc"][0]) for one in details))
        neutral = {key: _NEUTRAL[key] for key in model.model_fields if key in bad and key in _NEUTRAL}
        problems = tuple(_problem(model, prefix, one) for one in details)
        return Item(prefix, name_of(raw), model.model_construct(**neutral | good), bad, problems)


_WRONG = {
    "missing": "is missing",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "too_short": "is empty",
    "greater_than": "must be more than 0",
    "less_than_equal": f"must be at most {MAX_SECONDS}: these are seconds",
}
"""pydantic's words, in ours"""


def _problem(model: type[BaseModel], prefix: str, details: ErrorDetails) -> Problem:
    if not details["loc"]:
        return Problem(prefix.rstrip(".: "), "must be a table", "write its keys in lines of their own below it")
    key, *positions = details["loc"]
    where = prefix + _shown_key(str(key)) + "".join(f"[{position}]" for position in positions)
    if details["type"] == "extra_forbidden":
        return Problem(where, "unknown key", _meant(str(key), model))
    field = model.model_fields[str(key)]
    example = f"for example {key} = {json.dumps((field.examples or [None])[0])}"
    context = details.get("ctx", {})
    error = context.get("error")
    if isinstance(error, values.BadValue):
        return Problem(where, error.what, error.remedy or example)
    if details["type"] == "enum":
        expected = context["expected"].replace("'", '"')
        return Problem(where, f"{_shown_value(details['input'])} is not known here", f"write {expected}")
    return Problem(where, _WRONG.get(details["type"], details["msg"]), example)


def _meant(key: str, model: type[BaseModel]) -> str:
    """What somebody who wrote an unknown key may have meant."""
    homes = [f"[[{name}]]" if name in ARRAYS else f"[{name}]" for name in TABLES if key in TABLES[name].model_fields]
    if homes:
        return f"it belongs in {' or '.join(homes)}"
    if key in TopTable.model_fields:
        return "it belongs at the top of the file, before the first table"
    known = [*model.model_fields, *(TABLES if model is TopTable else ())]
    close = difflib.get_close_matches(key, known, 1)
    return f"did you mean `{close[0]}`?" if close else f"the keys here are {', '.join(known)}"


def _shown_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else quoted(key, 80)


def _shown_value(value: object) -> str:
    return values.shown(value if isinstance(value, str) else str(value))
