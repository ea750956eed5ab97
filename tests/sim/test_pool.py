"""The pool of processes: what becomes of one seed harms no other one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from sim import pool
from sim.pool import Broken
from sim.summary import Summary

# Tasks: what the other processes do with a seed


def well(seed: int) -> Summary:
    return Summary(seeds=[seed])


def raises_at_3(seed: int) -> Summary:
    if seed == 3:
        raise RuntimeError("the checker does not know this")
    return well(seed)


def killed_at_3(seed: int) -> Summary:
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return well(seed)


def endless_at_3(seed: int) -> Summary:
    if seed == 3:
        time.sleep(3600)
    return well(seed)


def heedless(seed: int) -> Summary:
    """A terminal's Ctrl-C reaches every process."""
    os.kill(os.getpid(), signal.SIGINT)
    return well(seed)


def run(task: pool.Task, seeds: range, jobs: int, limit: float = pool.LIMIT) -> tuple[list[int], list[Broken]]:
    """Seeds that came to their end, in order, and what came to none."""
    done: list[int] = []
    broken: list[Broken] = []

    def ended(result: Summary | Broken) -> None:
        if isinstance(result, Broken):
            broken.append(result)
        else:
            done.extend(result.seeds)

    pool.run(seeds, jobs, task, ended, limit)
    return sorted(done), broken


@pytest.mark.parametrize(("seeds", "jobs"), [(range(1, 8), 2), (range(1, 3), 4), (range(1, 4), 1), (range(0), 2)])
def test_each_seed_is_done_once(seeds: range, jobs: int) -> None:
    assert run(well, seeds, jobs) == (list(seeds), [])


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (raises_at_3, "RuntimeError: the checker does not know this"),
        (killed_at_3, "its process ended with exit status -9"),
    ],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_one_that_breaks_is_told_and_the_rest_goes_on(task: pool.Task, why: str, jobs: int) -> None:
    done, broken = run(task, range(1, 6), jobs)

    assert done == [1, 2, 4, 5]
    assert [one.seed for one in broken] == [3]
    assert why in broken[0].why


def test_one_that_runs_for_ever_is_killed_and_the_rest_goes_on() -> None:
    limit = 8.0  # a process has to start in it, on a busy machine

    done, broken = run(endless_at_3, range(2, 5), 2, limit)

    assert done == [2, 4]
    assert broken == [Broken(3, "not done after 8 s: killed")]


def test_a_traceback_says_where() -> None:
    _, broken = run(raises_at_3, range(3, 4), 1)

    assert "in raises_at_3" in broken[0].why


def test_the_processes_do_not_hear_the_terminal() -> None:
    assert run(heedless, range(1, 3), 1) == ([1, 2], [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_it_leaves_no_process(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    started = _noted(monkeypatch)

    def ended(result: Summary | Broken) -> None:
        raise error

    with pytest.raises(error):
        pool.run(range(1, 10), 2, well, ended)
    assert len(started) == 2
    assert not any(worker.process.is_alive() for worker in started)


def _noted(monkeypatch: pytest.MonkeyPatch) -> list[pool._Worker]:
    """The workers that are started from now on."""
    started: list[pool._Worker] = []
    begin: Callable[[pool._Worker, int], None] = pool._Worker.begin

    def noting(worker: pool._Worker, seed: int) -> None:
        if worker not in started:
            started.append(worker)
        begin(worker, seed)

    monkeypatch.setattr(pool._Worker, "begin", noting)
    return started
