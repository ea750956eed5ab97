"""Which mutants the checkers kill, and after how many seeds: what the checkers are worth."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rich.table import Table

from sim.checker import CHECKS
from sim.mutants import MUTANTS, Mutant
from sim.run import SMALL, simulate

SEEDS = range(1, 51)
"""those in which a mutant must be caught"""


@dataclass(frozen=True, slots=True)
class Kill:
    """What became of a mutant."""

    mutant: str
    promise: str
    """the checker that has to fire"""
    findings: dict[str, int]
    """by checker, in all seeds up to that one"""
    caught_at: int | None
    """the number of seeds that it took; None: it survived"""
    seeds: int
    """seeds that were run"""
    broken: int
    """runs that ended in an exception, which kills nobody"""


def kill(mutant: Mutant, seeds: Sequence[int] = SEEDS) -> Kill:
    """Run one seed after another with the mutant planted, until its checker fires."""
    findings: Counter[str] = Counter()
    broken = 0
    for count, seed in enumerate(seeds, 1):
        try:
            with mutant.plant():
                found = simulate(seed, SMALL).summary.findings
        except Exception:
            broken += 1
            continue
        findings.update(finding.promise for _, finding in found)
        if findings[mutant.promise]:
            return Kill(mutant.name, mutant.promise, dict(findings), count, count, broken)
    return Kill(mutant.name, mutant.promise, dict(findings), None, len(seeds), broken)


def run_all(progress: Callable[[Kill], None], jobs: int | None = None) -> list[Kill]:
    """Try all mutants, some at a time (None: one for each core). `progress` hears of each as it is through."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=context) as pool:
        kills = []
        for one in pool.map(_kill_number, range(len(MUTANTS))):
            progress(one)
            kills.append(one)
        return kills


def _kill_number(number: int) -> Kill:
    """Plants cannot be sent to another process; numbers can."""
    return kill(MUTANTS[number])


def matrix(kills: Iterable[Kill]) -> Table:
    """Mutants by checkers: how many findings. The checker that has to fire has a star."""
    promises = [check.__name__ for check in CHECKS]
    legend = "\n".join(f"{number:2} {name}" for number, name in enumerate(promises, 1))
    table = Table(title="Findings by mutant and checker", caption=legend, caption_justify="left")
    table.add_column("mutant", no_wrap=True)
    for number, _ in enumerate(promises, 1):
        table.add_column(str(number), justify="right")
    table.add_column("seeds", justify="right")
    order = [mutant.name for mutant in MUTANTS]
    for one in sorted(kills, key=lambda one: order.index(one.mutant)):
        table.add_row(one.mutant, *(_cell(one, promise) for promise in promises), _verdict(one))
    return table


def _cell(one: Kill, promise: str) -> str:
    count = one.findings.get(promise, 0)
    return f"{count}*" if promise == one.promise else str(count or "")


def _verdict(one: Kill) -> str:
    broken = f", {one.broken} broken" if one.broken else ""
    if one.caught_at is None:
        return f"[bold red]survived {one.seeds}{broken}[/bold red]"
    return f"{one.caught_at}{broken}"
