"""Each checker finds the faults that it is there for, and finds nothing where none is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sim.checker import CHECKS
from sim.conftest import KILL
from sim.kills import SEEDS, kill
from sim.mutants import MUTANTS, Mutant
from sim.run import SMALL, simulate

SOUND = SEEDS[:5]


def test_every_checker_has_a_mutant() -> None:
    assert sorted({mutant.promise for mutant in MUTANTS}) == sorted(check.__name__ for check in CHECKS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    killed = kill(mutant)
    record_property(KILL, dataclasses.asdict(killed))
    assert killed.caught_at is not None, f"{mutant.what}: not seen by {mutant.promise} in {killed.seeds} seeds"


@pytest.mark.parametrize("seed", SOUND)
def test_without_a_mutant_nothing_is_found(seed: int) -> None:
    assert simulate(seed, SMALL).summary.findings == []
