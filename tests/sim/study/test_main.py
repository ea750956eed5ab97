"""The command line of the study, and what it does when a run fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from sim.site import Topology
from sim.study.__main__ import DAYS, SEEDS, command, completed, main
from sim.study.designs import Design
from sim.study.figures import Result, Run

RUNS = [Run(Design.MAILGATE, Topology.ONE_SITE, seed, 0.0) for seed in range(1, 6)]


def done(run: Run) -> Result:
    return Result(run, {}, 0, 0, 0.0)


@pytest.mark.parametrize("option", ["--seeds=0", "--days=0", "--days=-3", "--jobs=0", "--seeds=one"])
def test_bad_numbers_are_refused(option: str) -> None:
    outcome = CliRunner().invoke(main, [option])
    assert outcome.exit_code == 2
    assert option.partition("=")[0] in outcome.output


@pytest.mark.parametrize(
    ("seeds", "days", "shown"),
    [
        (SEEDS, DAYS, "make study"),
        (1, DAYS, f"PYTHONPATH=tests .venv/bin/python -m sim.study --seeds=1 --days={DAYS}"),
    ],
)
def test_the_command_that_the_page_names(seeds: int, days: int, shown: str) -> None:
    assert command(seeds, days) == shown


def test_every_run_is_done() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert {result.run for result in completed(pool, done, RUNS)} == set(RUNS)


def test_a_run_that_fails_is_named_and_ends_the_others() -> None:
    began: list[int] = []
    told = threading.Event()

    def second_fails(run: Run) -> Result:
        began.append(run.seed)
        if run.seed == 2:
            raise ValueError("out of order")
        if run.seed > 2:
            told.wait(10)
        return done(run)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match=r"^seed 2, 1a, mailgate: out of order$"):
            list(completed(pool, second_fails, RUNS))
        told.set()
    assert 4 not in began
