"""Running commands: what failed, and what it said."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence

import trio

PATIENCE = 60
"""seconds that any command may take"""


class Failed(Exception):
    """A command ended with another status than 0, or not in time; the text has its output."""


async def run(command: Sequence[str], said: str | bytes = b"", patience: float = PATIENCE) -> str:
    """Run a command with that on its standard input; its standard output.

    Raises:
        Failed: its status was not 0, or it took longer than `patience` seconds.
    """
    entered = said.encode() if isinstance(said, str) else said
    name = " ".join(command)[:300]
    with tempfile.TemporaryFile() as output:  # not a pipe: a daemon that it starts may keep that open for ever
        with trio.move_on_after(patience) as scope:
            ran = await trio.run_process(
                list(command), stdin=entered, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        output.seek(0)
        heard = output.read().decode(errors="replace")
    if scope.cancelled_caught:
        raise Failed(f"{name}: not done after {patience} s: {heard[-2000:]}")
    if ran.returncode:
        raise Failed(f"{name}: status {ran.returncode}: {heard[-2000:]}")
    return heard
