"""What we remember of paths: which are down, since when and why, and when to try them again. Pure.

Only failures with path scope come here (docs/ARCHITECTURE.md): nothing that a next hop says about a sender, a
recipient or a message, or no stranger's mail would be safe from another's. A path is *down* from such a failure
until its next success; a backbone is out, for one address family, while its source address cannot be bound.

Times are in seconds on Trio's clock, and are passed in.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailgate.network import TcpAddress
from mailgate.relay.routing import Path
from mailgate.relay.settings import Backbone

FIRST_BACK_OFF = 1.0
"""seconds after a first failure in which the path is not tried again; they double with each further step"""

LONGEST_BACK_OFF = 60.0
"""seconds at which the back-off stops doubling"""

FRESH = 5.0
"""seconds for which a failure of all paths is an answer"""

FRESH_UNDER_CHECK = 15.0
"""the same where paths are static: while they are down, checks bring newer news"""

WANTED = 600.0
"""seconds for which a static path that is down is worth checking after somebody wanted it"""

PROOF = 30.0
"""seconds that our own checks must have found a path down to prove it; as many without a check prove nothing"""

PROOF_AGE = 15.0
"""seconds for which the last such check holds"""

STATICS = 10_000
"""records of static paths; only host names whose addresses keep changing could make that many"""

_SMOOTHING = 1 / 8
"""a new latency's part in the smoothed one, as for round-trip times (RFC 6298 section 2.3)"""

_Key = tuple[str | None, str, int | None]


class Chance(Protocol):
    """What is needed of the network's `random`."""

    def random(self) -> float:
        """A number from 0 to 1."""
        ...


class Family(enum.Enum):
    """Of IP addresses."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


@dataclass(frozen=True, slots=True)
class PathHealth:
    """One path, for display. What its backbone's outage adds is in it, as it is in `Health.down`."""

    path: Path
    static: bool
    down_since: float | None
    """None: it is up"""
    failures: int
    """since its last success"""
    why: str
    """it is down; empty if it is up"""
    retry_at: float | None
    """when its back-off runs out, past or to come; None: it is up"""
    last_success: float | None
    latency: float | None
    """seconds until greeting and EHLO are answered, smoothed; None: never measured"""


@dataclass(frozen=True, slots=True)
class Sum:
    """The paths of one host or one backbone, added up. For display only: no decision is made by it."""

    name: str
    paths: int
    down: int
    failures: int


@dataclass(frozen=True, slots=True)
class Outage:
    """A backbone whose source address of one family cannot be bound."""

    backbone: str
    family: Family
    since: float
    failures: int
    why: str
    retry_at: float


@dataclass(frozen=True, slots=True)
class Records:
    """What `Health` remembers at one moment: static paths first, then strangers', those used last first."""

    paths: tuple[PathHealth, ...]
    hosts: tuple[Sum, ...]
    backbones: tuple[Sum, ...]
    """paths without a backbone are in none of them"""
    outages: tuple[Outage, ...]


class _Trouble:
    """Failures in a row, of a path or of a source address."""

    __slots__ = ("_checked_at", "_checked_since", "back_off", "failures", "last", "since", "why")

    def __init__(self, now: float) -> None:
        self.since = self.last = self._checked_at = now
        self.why = ""
        self.failures = 0
        self.back_off = FIRST_BACK_OFF
        self._checked_since: float | None = None

    def add(self, why: str, now: float, *, checked: bool) -> None:
        """A failure. Inside the back-off it began together with the last one, so it is the same step."""
        if now >= self.retry_at:
            self.back_off = min(self.back_off * 2, LONGEST_BACK_OFF)
        self.last = now
        self.why = why
        self.failures += 1
        if checked:
            if self._checked_since is None or now - self._checked_at >= PROOF:
                self._checked_since = now
            self._checked_at = now

    @property
    def retry_at(self) -> float:
        """When the back-off runs out; it counts from the last failure."""
        return self.last + self.back_off

    def proved(self, now: float) -> bool:
        """Whether checks have found it for long enough, and lately."""
        since = self._checked_since
        return since is not None and now - since >= PROOF and now - self._checked_at < PROOF_AGE


class _Record:
    """What is known of one path but for its backbone."""

    __slots__ = ("last_success", "latency", "path", "static", "trouble", "wanted")

    def __init__(self, path: Path) -> None:
        self.path = path
        """by the host that it was found for last"""
        self.static = False
        self.trouble: _Trouble | None = None
        """None: it is up, as far as we know"""
        self.last_success: float | None = None
        self.latency: float | None = None
        self.wanted: float | None = None


class Health:
    """The memory of one gateway's paths. A path that it does not know is up.

    Backbones are known by their names, which must differ; a path without one has nothing but its own record.
    """

    def __init__(self, strangers: int = 10_000) -> None:
        """`strangers`: records of paths found by MX that are kept, the one unused for longest goes first.

        However many there are, no record of a static path goes for them.
        """
        self._bounds = {False: strangers, True: STATICS}
        self._strangers: OrderedDict[_Key, _Record] = OrderedDict()
        self._statics: OrderedDict[_Key, _Record] = OrderedDict()
        self._outages: dict[tuple[str, Family], _Trouble] = {}

    def failed(self, path: Path, why: str, now: float, *, static: bool, checked: bool = False) -> None:
        """An attempt, or a check of our own (`checked`), failed with path scope: the path is down.

        Failures inside the back-off of the last one are one step of it, however many messages ran into them; the
        back-off then counts from the latest. A path that was ever static stays so.
        """
        record = self._made(path, static=static)
        record.trouble = _more(record.trouble, why, now, checked=checked)

    def succeeded(self, path: Path, now: float, *, static: bool, latency: float | None = None) -> None:
        """Greeting and EHLO were answered, `latency` seconds after the attempt began; None: not measured.

        The path is up and its failures are forgotten. Its source has been bound, so its backbone is back, too.
        """
        record = self._made(path, static=static)
        record.trouble = None
        record.last_success = now
        if latency is not None:
            before = latency if record.latency is None else record.latency
            record.latency = before + (latency - before) * _SMOOTHING
        self.source_found(path)

    def source_missing(self, path: Path, now: float) -> None:
        """bind() said EADDRNOTAVAIL: the path's backbone is out for the address's family.

        That is no failure of the path. What this machine itself says counts as a check of our own, whoever asked.
        A path whose source is the system's choice has no backbone that could be out.
        """
        key = _outage_key(path)
        if key is not None:
            why = f"no address of this machine: {path.source}, the source on backbone {key[0]}"
            self._outages[key] = _more(self._outages.get(key), why, now, checked=True)

    def source_found(self, path: Path) -> None:
        """The path's source could be bound: its backbone is back for that family, whatever comes of the path."""
        key = _outage_key(path)
        if key is not None:
            self._outages.pop(key, None)

    def down(self, path: Path) -> bool:
        """Whether the path has failed and not succeeded since, or its backbone is out for its family."""
        record = self._known(path)
        return (record is not None and record.trouble is not None) or self._outage(path) is not None

    def due(self, path: Path, now: float) -> bool:
        """Whether the path is down and its back-off has run out: it may have a trial.

        Where the path and its backbone are both down, both back-offs have to run out. It stays due until the
        trial's result is told, so that there is only one trial is the caller's part.
        """
        troubles = self._troubles(path)
        return bool(troubles) and all(now >= trouble.retry_at for trouble in troubles)

    def why(self, path: Path) -> str:
        """Why the path is down: its backbone's outage, which is in the way first, or its own last failure.

        Empty if it is up.
        """
        troubles = self._troubles(path)
        return troubles[-1].why if troubles else ""

    def fresh(self, paths: Iterable[Path], now: float) -> bool:
        """Whether all these paths are down, and so lately that this is the answer, without another attempt.

        Lately is less than 5 s ago for the last failure among them, 15 s where a path is static. No paths: False.
        """
        fresh = False
        for path in paths:
            record = self._known(path)
            troubles = self._all(path, record)
            if not troubles:
                return False
            limit = FRESH_UNDER_CHECK if record is not None and record.static else FRESH
            fresh = fresh or any(now - trouble.last < limit for trouble in troubles)
        return fresh

    def want(self, path: Path, now: float) -> None:
        """A message wanted the path, or a client that we sent away at the greeting. For static paths only.

        It may be the first that is heard of the path, which then is known as static.
        """
        self._made(path, static=True).wanted = now

    def wanted(self, path: Path, now: float) -> bool:
        """Whether somebody wanted the path in the last 10 minutes, so that it is worth checking if it is down."""
        record = self._known(path)
        return record is not None and record.wanted is not None and now - record.wanted < WANTED

    def out_by_checks(self, path: Path, now: float) -> bool:
        """Whether our own checks have found the path down for 30 s or more, the last of them under 15 s ago.

        Messages' failures neither begin this nor end it; a success does, and so do 30 s without a check: the path
        may have been up meanwhile. A backbone that has been out for as long is as good a proof.
        """
        return any(trouble.proved(now) for trouble in self._troubles(path))

    def order(
        self, paths: Iterable[Path], backbones: Sequence[Backbone], random: Chance, first: str | None = None
    ) -> list[Path]:
        """The paths of one preference, in the order to try them: those that are up before those that are down.

        Of these, those on the backbone named `first` (None: no such wish), then by the route's order of backbones,
        and at random where there is nothing to choose. Paths on none of the route's backbones come behind.
        """
        ranks = {backbone.name: rank for rank, backbone in enumerate(backbones)}
        if first is not None:
            ranks[first] = -1
        last = len(backbones)

        def place(path: Path) -> tuple[bool, int, float]:
            backbone = path.backbone
            rank = last if backbone is None else ranks.get(backbone.name, last)
            return self.down(path), rank, random.random()

        return sorted(paths, key=place)

    def records(self) -> Records:
        """All that is remembered, for `mailgate status`; nothing counts as used by this."""
        known = [*reversed(self._statics.values()), *reversed(self._strangers.values())]
        paths = tuple(self._shown(record) for record in known)
        return Records(
            paths,
            _sums(paths, lambda path: str(path.host or path.address)),
            _sums(paths, lambda path: None if path.backbone is None else path.backbone.name),
            tuple(
                Outage(name, family, trouble.since, trouble.failures, trouble.why, trouble.retry_at)
                for (name, family), trouble in self._outages.items()
            ),
        )

    def _shown(self, record: _Record) -> PathHealth:
        troubles = self._all(record.path, record)
        return PathHealth(
            record.path,
            record.static,
            down_since=min((one.since for one in troubles), default=None),
            failures=record.trouble.failures if record.trouble is not None else 0,
            why=troubles[-1].why if troubles else "",
            retry_at=max((one.retry_at for one in troubles), default=None),
            last_success=record.last_success,
            latency=record.latency,
        )

    def _troubles(self, path: Path) -> list[_Trouble]:
        """Why the path is down: its own failures, then its backbone's."""
        return self._all(path, self._known(path))

    def _all(self, path: Path, record: _Record | None) -> list[_Trouble]:
        both = None if record is None else record.trouble, self._outage(path)
        return [one for one in both if one is not None]

    def _outage(self, path: Path) -> _Trouble | None:
        key = _outage_key(path) if self._outages else None
        return None if key is None else self._outages.get(key)

    def _known(self, path: Path) -> _Record | None:
        """The path's record, which counts as used by this."""
        key = _key(path)
        record = self._statics.get(key)
        if record is not None:
            self._statics.move_to_end(key)
            return record
        record = self._strangers.get(key)
        if record is not None:
            self._strangers.move_to_end(key)
        return record

    def _made(self, path: Path, *, static: bool) -> _Record:
        """The path's record, made if there is none, among the static ones if it ever was static."""
        record = self._known(path)
        if record is None or (static and not record.static):
            key = _key(path)
            record = self._strangers.pop(key, None) or _Record(path)
            record.static = static
            table = self._statics if static else self._strangers
            table[key] = record
            if len(table) > self._bounds[static]:
                table.popitem(last=False)
        record.path = path
        return record


def _more(trouble: _Trouble | None, why: str, now: float, *, checked: bool) -> _Trouble:
    trouble = trouble or _Trouble(now)
    trouble.add(why, now, checked=checked)
    return trouble


def _key(path: Path) -> _Key:
    """What makes paths the same, as built-in values: hashing a `Path` takes three times as long."""
    backbone = path.backbone
    name = None if backbone is None else backbone.name
    address = path.address
    return (name, address.ip, address.port) if isinstance(address, TcpAddress) else (name, address.path, None)


def _outage_key(path: Path) -> tuple[str, Family] | None:
    """Backbone and family whose source the path binds; None: it binds none."""
    backbone, address = path.backbone, path.address
    if backbone is None or not isinstance(address, TcpAddress):
        return None
    return backbone.name, Family.IPV6 if ":" in address.ip else Family.IPV4


def _sums(paths: Sequence[PathHealth], name: Callable[[Path], str | None]) -> tuple[Sum, ...]:
    groups: dict[str, list[PathHealth]] = {}
    for one in paths:
        key = name(one.path)
        if key is not None:
            groups.setdefault(key, []).append(one)
    return tuple(
        Sum(key, len(group), sum(one.down_since is not None for one in group), sum(one.failures for one in group))
        for key, group in groups.items()
    )
