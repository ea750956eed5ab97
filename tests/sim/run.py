"""One seed is one run: `simulate` is the whole of it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio
from trio.testing import MockClock

from mailgate.testing import seeded
from sim.checker import check, summarize
from sim.event_log import digest
from sim.plan import CALM, SMALL, STANDARD, Size, draw
from sim.records import History
from sim.summary import Summary
from sim.world import World

__all__ = ["CALM", "SMALL", "STANDARD", "Outcome", "Size", "simulate"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run, checked."""

    history: History
    summary: Summary
    digest: str
    """of its event log: the same seed gives the same one"""


def simulate(seed: int, size: Size = STANDARD) -> Outcome:
    """Run one seed, on a clock of its own, and check what happened."""
    began = time.process_time()
    world = World(draw(seed, size))
    seeded(seed)
    trio.run(world.run, clock=MockClock(autojump_threshold=0))
    history = world.history
    cpu = time.process_time() - began
    summary = summarize(history, check(history))
    summary.cpu = cpu
    hashed = digest(history)
    summary.digests[seed] = hashed
    return Outcome(history, summary, hashed)
