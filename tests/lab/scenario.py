"""What a scenario is, and the list of them. A scenario is a function with its prose: set-up, then expectation."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from lab.gateway import Together
from lab.mta import Mta, Role
from lab.mtas import DOVECOT, EXIM, OPENSMTPD, POSTFIX, SENDMAIL
from lab.site import Site, Way
from lab.topology import Topology

Cast = Mapping[str, tuple[Mta, Role]]
"""who plays on which machine"""

Play = Callable[[Site, Mta], Awaitable[None]]

SENDERS = (POSTFIX, EXIM, SENDMAIL, OPENSMTPD)
"""every server that can send; each is the one a scenario is about once"""

BOTH = (Topology.ONE_SITE, Topology.TWO_SITES)

_INSIDE = {
    "postfix": (EXIM, DOVECOT),
    "exim": (SENDMAIL, POSTFIX),
    "sendmail": (OPENSMTPD, EXIM),
    "opensmtpd": (POSTFIX, SENDMAIL),
}
"""whom each sender's mail goes to inside, so that every server is a receiver in every scenario"""

_OUTSIDE = {
    "postfix": (EXIM, SENDMAIL),
    "exim": (SENDMAIL, OPENSMTPD),
    "sendmail": (OPENSMTPD, POSTFIX),
    "opensmtpd": (POSTFIX, EXIM),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One experiment, to be run for several servers and topologies."""

    name: str
    group: str
    prose: str
    play: Play
    cast: Callable[[Mta], Cast]
    mtas: tuple[Mta, ...]
    topologies: tuple[Topology, ...]
    way: Way
    patience: float
    """seconds that a case may take before it counts as hung"""
    waits: bool
    """it mostly waits: it runs beside all others, from the start"""
    together: Together | None = None
    """None: the gateways take one next hop in a transaction from outside"""


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario for one server in one topology."""

    scenario: Scenario
    mta: Mta
    topology: Topology

    @property
    def name(self) -> str:
        """What it is called in progress, logs and ONLY."""
        return f"{self.scenario.name}/{self.mta.key}/{self.topology.value}/{self.scenario.way.name.lower()}"


SCENARIOS: list[Scenario] = []


def inbound(mta: Mta) -> Cast:
    """A server outside, and two others inside."""
    one, two = _INSIDE[mta.root.name]
    return {"sender": (mta, Role.OUTSIDE), "mail1": (one, Role.INSIDE), "mail2": (two, Role.INSIDE)}


def inbound_by_smtp(mta: Mta) -> Cast:
    """As inbound, but those inside speak SMTP, as gateways that store and forward need it."""
    spare = next(one for one in SENDERS if one is not mta and one not in _INSIDE[mta.root.name])
    return {name: (spare if player is DOVECOT else player, role) for name, (player, role) in inbound(mta).items()}


def outbound(mta: Mta) -> Cast:
    """A server inside, and two others outside."""
    return outbound_to(Role.OUTSIDE)(mta)


def outbound_to(beta: Role) -> Callable[[Mta], Cast]:
    """A server inside, and two others outside, the second in that role."""

    def cast(mta: Mta) -> Cast:
        one, two = _OUTSIDE[mta.root.name]
        return {"mail1": (mta, Role.INSIDE), "alpha": (one, Role.OUTSIDE), "beta": (two, beta)}

    return cast


def plain(mta: Mta) -> Cast:
    """As outbound, but the server inside sends in the conventional way."""
    one, two = _OUTSIDE[mta.root.name]
    return {"mail1": (mta, Role.PLAIN), "alpha": (one, Role.OUTSIDE), "beta": (two, Role.OUTSIDE)}


def both_ways(mta: Mta) -> Cast:
    """A server outside and inside, with others to receive from it."""
    return {**outbound(mta), "sender": (mta, Role.OUTSIDE), "mail2": (_INSIDE[mta.root.name][0], Role.INSIDE)}


def alone(mta: Mta) -> Cast:
    """A server inside, and nobody else."""
    return {"mail1": (mta, Role.INSIDE)}


def scenario(
    group: str,
    cast: Callable[[Mta], Cast],
    *,
    mtas: tuple[Mta, ...] = SENDERS,
    topologies: tuple[Topology, ...] = BOTH,
    way: Way = Way.MAILGATE,
    name: str | None = None,
    patience: float = 240,
    waits: bool = False,
    together: Together | None = None,
) -> Callable[[Play], Play]:
    """Make a function a scenario; its name and prose are the function's, unless it is a partner of another's."""

    def register(play: Play) -> Play:
        own = name or f"{group}-{play.__name__.replace('_', '-')}"
        prose = inspect.cleandoc(play.__doc__ or "")
        SCENARIOS.append(Scenario(own, group, prose, play, cast, mtas, topologies, way, patience, waits, together))
        return play

    return register


def cases() -> list[Case]:
    """Every case, those first that mostly wait."""
    all_of_them = [Case(one, mta, topology) for one in SCENARIOS for mta in one.mtas for topology in one.topologies]
    return sorted(all_of_them, key=lambda case: not case.scenario.waits)
