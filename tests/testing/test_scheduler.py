"""`seeded`: the same seed gives the same order, and Trio still has what it reaches into."""

from __future__ import annotations

import random

import pytest
import trio

from mailgate.testing import seeded

SEEDS = range(8)


def _order(seed: int) -> list[tuple[int, int]]:
    """In which order six tasks pass five checkpoints each."""
    log = []

    async def task(number: int) -> None:
        for step in range(5):
            log.append((number, step))
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(task, number)

    seeded(seed)
    trio.run(main)
    return log


def test_trio_has_the_names_that_seeded_reaches_into() -> None:
    assert isinstance(trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(trio._core._run._r, random.Random)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_order(seed: int) -> None:
    assert _order(seed) == _order(seed)


def test_seeds_differ() -> None:
    orders = [_order(seed) for seed in SEEDS]
    assert len(SEEDS) == sum(order not in orders[:number] for number, order in enumerate(orders))


def test_a_trio_without_those_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    with pytest.raises(RuntimeError, match=r"use Trio 0\.35, or adapt seeded"):
        seeded(1)
