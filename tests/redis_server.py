"""A real server that speaks the Redis protocol, for a test: in its directory, in memory only, on a unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import trio

PROGRAMS = ("valkey-server", "redis-server")

READY_WITHIN = 10.0
"""seconds"""


class RedisServer:
    """One server, as often as it is started; whoever makes it kills it at last. It runs from `start` to `kill`."""

    def __init__(self, directory: Path, *options: str) -> None:
        """Options as on its command line: "--requirepass", "s3cret"."""
        self.socket = directory / "redis.sock"
        self._log = directory / "redis.log"
        fixed = ("--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no")
        self._command = (_program(), *fixed, "--dir", str(directory), "--logfile", str(self._log), *options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its unix socket, without a password."""
        return f"unix://{self.socket}"

    async def start(self, *, password: str = "") -> None:
        """It answers when this comes back."""
        self._process = process = self._run()
        with trio.move_on_after(READY_WITHIN):
            while process.poll() is None:
                try:
                    await self.ask(f"AUTH {password}" if password else "PING")
                except OSError:
                    await trio.sleep(0.01)
                else:
                    return
        log = self._log.read_text() if self._log.exists() else "it wrote no log"
        pytest.fail(f"{self._command[0]} does not answer: {log[-1000:]}")

    def _run(self) -> subprocess.Popen[bytes]:
        """Not Trio's, which would end with a nursery: it outlasts some."""
        assert self._process is None
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it as a crash would, stopped or not; it may be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """From now on it neither reads nor answers; whoever connects is kept waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)  # a signal takes a moment

    def go_on(self) -> None:
        """After `stop`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def ask(self, command: str) -> str:
        """A command's answer, over a connection of its own: its first line, or the line behind that if it is longer."""
        stream = await trio.open_unix_socket(self.socket)
        async with stream:
            await stream.send_all(f"{command}\r\n".encode())
            lines = (await stream.receive_some()).decode().split("\r\n")
        return "\n".join(lines[1:]) if lines[0].startswith("$") else lines[0]


def free_port() -> int:
    """One that nobody listens on now, on 127.0.0.1."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _program() -> str:
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.fail(f"none of {' and '.join(PROGRAMS)} is installed: on Debian, apt-get install redis-server")
