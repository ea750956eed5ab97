"""What a gateway is doing at one moment, as plain values: for `mailgate status`, and for programs that embed it. Pure.

The fields' names are the keys of the JSON document that the control socket gives (control.py, docs/configuration.md).
They only ever become more: one that is dropped, or means something else, makes another `FORMAT`. Times are in seconds
before or after the moment, for Trio's clock means nothing to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailgate.relay.health import Outage, PathHealth, Records, Sum
from mailgate.relay.settings import Backbone, Route

FORMAT = 1
"""of the document"""

MOST = 1000
"""paths and hosts that are told: health knows up to 20,000, which nobody reads and which would hold up mail"""

LONGEST_WHY = 500
"""characters of a reason: a reply may have 100 lines"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatus:
    """Who is connected to one listener."""

    name: str
    protocol: str
    """`smtp` or `lmtp`"""
    sessions: int
    """clients that are served now; those sent away at the greeting are none"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamStatus:
    """Our sessions with next hops."""

    held: int
    """in all: used, kept, being opened, or told QUIT"""
    kept: int
    """of these, those that wait for their next transaction"""
    limit: int
    """`limits.upstream_sessions`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientCounts:
    """Recipients since the start, but those whose transaction the client took back or left."""

    delivered: int
    rejected: int
    deferred: int
    unknown: int
    """the next hop did not confirm the message, nor refuse it"""
    untold: int
    """of those delivered: the client was gone before it could hear so, and will send the message again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """Deliveries whose success their client was not told. Counts are since the start."""

    enabled: bool = False
    shared: str = "none"
    """`reachable`, `unreachable`: the store that several gateways share, when it was last asked; `unknown`: it was not
    asked yet; `none`: there is no such store"""
    entries: int = 0
    """remembered by this gateway itself"""
    limit: int = 0
    """of these"""
    put_off: int = 0
    """recipients that hear 452 at their next offer, once, as far as this gateway itself remembers"""
    recorded: int = 0
    """entries made, here or in the store"""
    met: int = 0
    """recipients that were delivered before: answered 250, without a second copy"""
    possible_duplicate: int = 0
    """entries that should be in the store and are here: another gateway may make a second copy"""
    unasked: int = 0
    """recipients delivered while the store could not be asked"""
    evicted: int = 0
    """entries gone before their time, for want of room"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStatus:
    """One way to a host, as far as it was ever tried."""

    backbone: str | None
    """None: the system chooses the source address"""
    host: str
    """name and port, or the address where the configuration has that"""
    address: str
    static: bool
    """a route names the host; otherwise it was found by MX"""
    up: bool
    down_for: float | None
    """None: it is up"""
    failures: int
    """since its last success; those of its backbone are not among them"""
    why: str
    """it is down; empty if it is up. A next hop's words may be in it"""
    last_success_ago: float | None
    """None: there was none yet"""
    latency: float | None
    """until greeting and EHLO are answered, smoothed; None: never measured"""
    next_try_in: float | None
    """0: as soon as a message wants it, or at the next check; None: it is up"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageStatus:
    """A backbone's source address that cannot be bound."""

    family: str
    """`IPv4` or `IPv6`"""
    down_for: float
    failures: int
    why: str
    next_try_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """The paths to one host, added up."""

    name: str
    paths: int
    down: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneStatus:
    """A backbone of the configuration, and the paths over it, added up."""

    name: str
    sources: tuple[str, ...]
    helo: str
    paths: int
    down: int
    failures: int
    outages: tuple[OutageStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole."""

    format: int
    version: str
    """of the program"""
    hostname: str
    time: str
    """the wall clock, as RFC 3339 has it, in UTC"""
    started: str | None
    """when it began to run, on the same clock: another start has another one; None: it does not run"""
    running_for: float
    draining: bool
    """told to stop: nobody new is let in"""
    sessions: int
    """clients that are served now"""
    sessions_limit: int
    """`limits.sessions`"""
    listeners: tuple[ListenerStatus, ...]
    transactions: int
    """under way"""
    deliveries: int
    """under way, of all transactions: one for each next hop"""
    upstream: UpstreamStatus
    recipients: RecipientCounts
    ledger: LedgerStatus = LedgerStatus()
    """an older gateway says nothing of it"""
    backbones: tuple[BackboneStatus, ...]
    """those that routes use"""
    paths: tuple[PathStatus, ...]
    """static ones, then those found by MX; of each those that are down, then those used last"""
    paths_left_out: int
    """that are known beyond the first 1,000"""
    hosts: tuple[HostStatus, ...]
    hosts_left_out: int


def paths(records: Records, now: float) -> tuple[PathStatus, ...]:
    """The first of the paths, in the order of `Status.paths`."""
    first = sorted(records.paths, key=lambda one: (not one.static, one.down_since is None))[:MOST]
    return tuple(_path(one, now) for one in first)


def hosts(records: Records) -> tuple[HostStatus, ...]:
    """The first of the hosts, those with paths that are down before others."""
    first = sorted(records.hosts, key=lambda one: not one.down)[:MOST]
    return tuple(HostStatus(name=one.name, paths=one.paths, down=one.down, failures=one.failures) for one in first)


def backbones(routes: Iterable[Route], records: Records, now: float) -> tuple[BackboneStatus, ...]:
    """The backbones of these routes, whether anything is known of them or not."""
    used = {backbone.name: backbone for route in routes for backbone in route.backbones}
    return tuple(_backbone(one, records.backbones, records.outages, now) for one in used.values())


def _path(one: PathHealth, now: float) -> PathStatus:
    path = one.path
    return PathStatus(
        backbone=None if path.backbone is None else path.backbone.name,
        host=str(path.host or path.address),
        address=str(path.address),
        static=one.static,
        up=one.down_since is None,
        down_for=_since(one.down_since, now),
        failures=one.failures,
        why=one.why[:LONGEST_WHY],
        last_success_ago=_since(one.last_success, now),
        latency=None if one.latency is None else round(one.latency, 6),
        next_try_in=None if one.retry_at is None else _until(one.retry_at, now),
    )


def _backbone(backbone: Backbone, sums: Sequence[Sum], outages: Sequence[Outage], now: float) -> BackboneStatus:
    known = next((one for one in sums if one.name == backbone.name), Sum(backbone.name, paths=0, down=0, failures=0))
    return BackboneStatus(
        name=backbone.name,
        sources=backbone.sources,
        helo=backbone.helo,
        paths=known.paths,
        down=known.down,
        failures=known.failures,
        outages=tuple(
            OutageStatus(
                family=one.family.value,
                down_for=round(now - one.since, 3),
                failures=one.failures,
                why=one.why,
                next_try_in=_until(one.retry_at, now),
            )
            for one in outages
            if one.backbone == backbone.name
        ),
    )


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 3)


def _until(moment: float, now: float) -> float:
    return round(max(0.0, moment - now), 3)
