"""What a run, or many of them, came to: findings, duplicates by their reasons, and figures. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from sim.records import Kind, Phase, Service, Side


class Duplicate(enum.Enum):
    """Why a recipient may have a message twice (docs/ARCHITECTURE.md, Promises)."""

    UNKNOWN = "after an unknown outcome"
    UNTOLD = "the sender did not read our 2xx"
    CRASHED = "the gateway crashed after its dot"
    MIXED = "a mixed outcome whose entry was not there"
    OTHER = "other"


class Exact(enum.Enum):
    """How often something happened that there is to be exact about."""

    SEVERAL = "transactions with several next hops"
    MIXED = "some had the message and some not"
    AGAIN = "dots written again after a 4xx"
    HANDED = "recipients handed over"
    SPARED = "second copies that the ledger prevented"
    TWINS = "equal messages sent on purpose"
    FOR_TWO = "recipients with one copy for two of them"
    """the sender had read what its gateway could not know to be read; or the ledger could not be asked"""
    MARKED = "recipients put off for the others' sake"
    ASKED = "questions to the shared ledger"
    UNANSWERED = "of them without an answer in time"


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was not kept."""

    promise: str
    """the name of its checker"""
    what: str
    time: float
    session: int | None = None
    """the number of the session where it shows"""


@dataclass(slots=True)
class Summary:
    """A run in figures; what many runs add up to. It can be pickled."""

    seeds: list[int] = field(default_factory=list)
    messages: int = 0
    recipients: int = 0
    """outcomes: one for each recipient of each message, settled at its sender"""
    delivered: int = 0
    refused: int = 0
    expired: int = 0
    attempts: int = 0
    sessions: int = 0
    faults: dict[Kind, int] = field(default_factory=dict)
    hits: dict[tuple[Side, Kind, Phase], int] = field(default_factory=dict)
    lost: int = 0
    """recipients that a sender was told 2xx for, and that have no copy"""
    half: int = 0
    """copies whose content is not that of their message"""
    wrong: int = 0
    """replies against a promise"""
    duplicates: dict[Duplicate, int] = field(default_factory=dict)
    services: dict[Service, int] = field(default_factory=dict)
    """seeds"""
    exact: dict[Exact, int] = field(default_factory=dict)
    left: int = 0
    late: int = 0
    """recipients settled later than the bound"""
    findings: list[tuple[int, Finding]] = field(default_factory=list)
    """(seed, what)"""
    simulated: float = 0.0
    cpu: float = 0.0
    digests: dict[int, str] = field(default_factory=dict)
    """seed → hash of its event log"""
