"""Seeds on all cores: a process for each core, a seed at a time for each process.

What becomes of one seed harms no other one. An exception in it, the end of its process, and running for ever are each
told as what became of that seed; another process takes its place, and the rest goes on.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext

from sim.summary import Summary

Task = Callable[[int], Summary]
"""What is done with a seed. It goes to other processes, by its name."""

LIMIT = 3600.0
"""seconds of the wall clock that a seed may take: longer ones run in circles"""


@dataclass(frozen=True, slots=True)
class Broken:
    """A seed that came to no end."""

    seed: int
    why: str
    """a traceback, or what became of the process"""


def run(
    seeds: Iterable[int],
    jobs: int,
    task: Task,
    done: Callable[[Summary | Broken], None],
    limit: float = LIMIT,
) -> None:
    """Do the task for each seed, `jobs` at a time; `done` is told of each as it ends.

    KeyboardInterrupt goes through; before that, the processes are killed.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(seeds)
    workers: list[_Worker] = []
    try:
        for seed in itertools.islice(waiting, jobs):
            workers.append(_Worker(context, task, seed))
        while workers:
            patience = min(worker.began for worker in workers) + limit - _now()
            wait([worker.results for worker in workers], max(0.0, patience))
            for place in range(len(workers) - 1, -1, -1):
                result = workers[place].result(limit)
                if result is None:
                    continue
                done(result)
                following = next(waiting, None)
                if following is None:
                    workers.pop(place).end()
                elif workers[place].process.is_alive():
                    workers[place].begin(following)
                else:
                    workers[place] = _Worker(context, task, following)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process, and the seed that it is busy with."""

    def __init__(self, context: SpawnContext, task: Task, seed: int) -> None:
        self.results, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, task), daemon=True)
        try:
            self.process.start()
        finally:
            theirs.close()
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """Have it do one more seed."""
        self.seed = seed
        self.began = _now()
        with suppress(BrokenPipeError):  # it is dead: its result tells
            self.results.send(seed)

    def result(self, limit: float) -> Summary | Broken | None:
        """What became of its seed; None: that is not known yet."""
        if self.results.poll():
            return self._received()
        if _now() < self.began + limit:
            return None
        self.end()
        return Broken(self.seed, f"not done after {limit:.0f} s: killed")

    def _received(self) -> Summary | Broken:
        try:
            received: Summary | Broken = self.results.recv()
        except (EOFError, OSError):
            self.process.join()
            return Broken(self.seed, f"its process ended with exit status {self.process.exitcode}")
        return received

    def end(self) -> None:
        """Whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.results.close()


def _work(seeds: Connection, task: Task) -> None:
    """Do one seed after the other, until nobody is there any more to hear of them."""
    # A terminal sends its Ctrl-C to all processes. The one that started us has to hear it, and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            seed = seeds.recv()
            seeds.send(_outcome(task, seed))


def _outcome(task: Task, seed: int) -> Summary | Broken:
    try:
        return task(seed)
    except Exception:
        return Broken(seed, traceback.format_exc())


def _now() -> float:
    return time.monotonic()
