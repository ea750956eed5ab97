"""What a seed is made to do, as a task for other processes; the sizes by their names."""

from __future__ import annotations

import gc
from collections.abc import Mapping

from sim.run import CALM, SMALL, STANDARD, Size, simulate
from sim.summary import Summary

SIZES: Mapping[str, Size] = {"standard": STANDARD, "small": SMALL, "calm": CALM}


def summary_of(size: str, seed: int) -> Summary:
    """Run a seed of that size."""
    # A run makes little garbage in cycles, and keeps much: to look for it seldom saves an eighth of the time. When it
    # is over, all that it kept is garbage.
    gc.set_threshold(50_000, 20, 50)
    summary = simulate(seed, SIZES[size]).summary
    gc.collect()
    return summary
