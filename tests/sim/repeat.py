"""One seed in several processes: under other hash seeds, and with other versions of Python."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

HASH_SEEDS = ("1", "2")
"""of `PYTHONHASHSEED`: sets of strings have another order in each"""


@dataclass(frozen=True, slots=True)
class Run:
    """A process that runs a seed."""

    interpreter: str
    hashing: str
    """its hash seed"""

    def __str__(self) -> str:
        return f"{self.interpreter}, PYTHONHASHSEED={self.hashing}"


def digest(run: Run, seed: int, size: str) -> str:
    """The hash of the event log. Raises CalledProcessError."""
    return _said(run, "digest", str(seed), f"--size={size}").strip()


def difference(one: Run, other: Run, seed: int, size: str) -> Iterator[str]:
    """The first line of the event log that is not the same, in both runs, and the one before it."""
    logs = [_said(run, "digest", str(seed), f"--size={size}", "--lines").splitlines() for run in (one, other)]
    before = "(nothing)"
    for number, lines in enumerate(itertools.zip_longest(*logs, fillvalue="(its end)"), 1):
        if lines[0] != lines[1]:
            yield f"line {number}, behind  {before}"
            yield f"with {one}:  {lines[0]}"
            yield f"with {other}:  {lines[1]}"
            return
        before = lines[0]
    yield "Run once more, the logs are the same: it is not only the hash seed or the version that makes them differ."


def _said(run: Run, *arguments: str) -> str:
    """What a process says."""
    environment = {**os.environ, "PYTHONHASHSEED": run.hashing}
    command = [run.interpreter, "-m", "sim", *arguments]
    return subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout
