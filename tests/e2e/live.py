"""The gateway as a process of its own, between scripted next hops, over real sockets.

    with NextHops() as hops:
        mta = ScriptedMTA("mx")
        with Gateway(configuration(tmp_path, route("a", hops.tcp(mta))), tmp_path) as gateway:
            with smtplib.SMTP(*gateway.smtp) as client:
                client.sendmail("s@in.example", "u@a.example", MESSAGE)
            (done,) = gateway.wait_for(event="delivered")

Nothing here sleeps but to look again, and nothing waits without a deadline.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import trio
from dns_server import Zone, serve

from mailgate.testing import ScriptedMTA

Speaks = Literal["smtp", "lmtp"]

PATIENCE = 10.0
"""seconds that anything may take here: many times what it takes, for slow machines"""

POLL = 0.01
"""seconds between two looks"""

MAILGATE = (sys.executable, "-m", "mailgate")

MESSAGE = "Subject: test\r\n\r\nhello\r\n.a dot\r\n"

Line = dict[str, Any]
"""one line of a JSON log"""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the configuration."""

    name: str
    hosts: tuple[str, ...]
    protocol: Speaks

    def __str__(self) -> str:
        return (
            f'[[route]]\nname = "{self.name}"\ndomains = ["{self.name}.example"]\n'
            f'hosts = {json.dumps(self.hosts)}\nprotocol = "{self.protocol}"\n'
        )


def route(name: str, *hosts: str, protocol: Speaks = "smtp") -> Route:
    """A route for NAME.example, to hosts in order of preference."""
    return Route(name, hosts, protocol)


def configuration(directory: Path, *routes: Route, extra: str = "", bare_newline: str = "repair") -> str:
    """SMTP on one free port, LMTP on another and on a unix socket, each with all routes. `extra`: more tables."""
    names = json.dumps([one.name for one in routes])
    return f"""\
hostname = "gw.example"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["127.0.0.1:0"]
routes = {names}
bare_newline = "{bare_newline}"

[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["127.0.0.1:0", "unix:{directory}/lmtp.sock"]
clients = ["127.0.0.0/8"]
routes = {names}
bare_newline = "{bare_newline}"

{"".join(map(str, routes))}
{extra}
"""


BINDS = 3
"""addresses that `configuration` listens on"""


class NextHops:
    """A thread that runs scripted mail servers; on leaving, a protocol violation of the gateway's is raised."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery
        self._failures: list[BaseException] = []
        self.peers: list[str] = []
        """the IP address of each client, in order"""

    def __enter__(self) -> NextHops:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    def tcp(self, mta: ScriptedMTA, ip: str = "127.0.0.1", port: int = 0) -> str:
        """Let a server listen on a free port, or on that one; its address as a configuration has it."""
        return trio.from_thread.run(self._listen_tcp, mta, ip, port, trio_token=self._token)

    def dns(self, zone: Zone) -> str:
        """Let a DNS server answer by a zone; its address as a configuration has it."""
        return str(trio.from_thread.run(self._nursery.start, serve, zone, trio_token=self._token))

    def unix(self, mta: ScriptedMTA, path: Path) -> str:
        """Let a server listen on a unix socket."""
        return trio.from_thread.run(self._listen_unix, mta, path, trio_token=self._token)

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()

    async def _listen_tcp(self, mta: ScriptedMTA, ip: str, port: int) -> str:
        (listener,) = await trio.open_tcp_listeners(port, host=ip)
        self._serve(mta, listener)
        port = listener.socket.getsockname()[1]
        return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"

    async def _listen_unix(self, mta: ScriptedMTA, path: Path) -> str:
        listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await listening.bind(str(path))
        listening.listen(100)
        self._serve(mta, trio.SocketListener(listening))
        return f"unix:{path}"

    def _serve(self, mta: ScriptedMTA, listener: trio.SocketListener) -> None:
        handler = functools.partial(self._handle, mta)
        self._nursery.start_soon(trio.serve_listeners, handler, [listener])

    async def _handle(self, mta: ScriptedMTA, stream: trio.SocketStream) -> None:
        if stream.socket.family != trio.socket.AF_UNIX:
            self.peers.append(stream.socket.getpeername()[0])
        try:
            await mta.handle(stream)
        except AssertionError as violation:
            self._failures.append(violation)


class Gateway:
    """`mailgate serve` in a subprocess. On leaving it is told to stop, must do so, and its log be without errors."""

    def __init__(
        self,
        config: str,
        directory: Path,
        *options: str,
        log_format: str = "json",
        terminal: bool = False,
        may_fail: bool = False,
    ) -> None:
        """`log_format` "" leaves the choice to it, `terminal` gives it one to write to.

        `may_fail`: errors in the log, and an exit code that is not 0, are expected.
        """
        self._file = directory / "gateway.toml"
        self._file.write_text(config)
        self._options = ("--log-format", log_format, *options) if log_format else options
        self._json = log_format == "json"
        self._terminal = terminal
        self._may_fail = may_fail
        self._changed = threading.Condition()
        self._raw: list[str] = []
        self._parsed: list[Line] = []
        self._errors: list[str] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Gateway:
        self.process, output = self._start()
        assert self.process.stderr is not None
        for stream, lines in ((output, self._raw), (self.process.stderr, self._errors)):
            self._readers.append(threading.Thread(target=self._read, args=(stream, lines)))
            self._readers[-1].start()
        try:
            self.wait(lambda: sum("listening" in line for line in self._raw) == BINDS, "listening")
        except AssertionError:
            self._end()
            raise
        return self

    def _start(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        command = [*MAILGATE, "serve", "-c", str(self._file), *self._options]
        if not self._terminal:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert process.stdout is not None
            return process, process.stdout
        ours, its = os.openpty()
        process = subprocess.Popen(command, stdout=its, stderr=subprocess.PIPE)
        os.close(its)
        return process, open(ours, "rb")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        status = self.process.poll()
        self._end()
        if error is None and not self._may_fail:
            assert status == 0, f"exit status {status}; log:\n{self.log}"
            assert self._errors == []
            assert self.lines(level="error") == []
            assert "Traceback" not in self.log

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()

    def _read(self, stream: IO[bytes], lines: list[str]) -> None:
        with stream, contextlib.suppress(OSError):  # EIO is how a terminal ends
            for line in stream:
                text = line.decode().rstrip("\r\n")
                with self._changed:
                    lines.append(text)
                    if self._json and lines is self._raw:
                        self._parsed.append(json.loads(text))
                    self._changed.notify_all()

    # Where it is

    @property
    def smtp(self) -> tuple[str, int]:
        """Host and port of the SMTP listener."""
        return self.at("smtp")

    @property
    def lmtp(self) -> tuple[str, int]:
        """Host and port of the LMTP listener."""
        return self.at("lmtp")

    def at(self, protocol: Speaks) -> tuple[str, int]:
        """Host and port of a listener, which follow `127.0.0.1:` in the order of the configuration."""
        ports = re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(self._raw[:BINDS]))
        return "127.0.0.1", int(ports[0 if protocol == "smtp" else 1])

    # What it says

    @property
    def log(self) -> str:
        """The log so far."""
        return "\n".join([*self._raw, *self._errors])

    def lines(self, **wanted: object) -> list[Line]:
        """The lines of a JSON log that have these values."""
        return [line for line in list(self._parsed) if all(line.get(key) == value for key, value in wanted.items())]

    def wait_for(self, count: int = 1, **wanted: object) -> list[Line]:
        """Wait until so many lines have these values."""
        self.wait(lambda: len(self.lines(**wanted)) >= count, f"{count} lines with {wanted}")
        return self.lines(**wanted)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the log fulfils a condition; AssertionError once PATIENCE is over or it has ended."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                ended = not any(reader.is_alive() for reader in self._readers)
                if condition():
                    return
                assert not ended, f"ended before {what}; log:\n{self.log}"
                assert time.monotonic() < deadline, f"no {what} within {PATIENCE} s; log:\n{self.log}"
                self._changed.wait(0.1)

    # What it holds

    @property
    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self, key: Literal["VmRSS", "VmHWM"] = "VmRSS") -> int:
        """Resident bytes: now, or at their peak since the last `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith(key + ":"))
        return int(kib) * 1024

    def forget_peak(self) -> None:
        """Let `memory("VmHWM")` begin anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def limit_descriptors(self, number: int) -> None:
        """Set RLIMIT_NOFILE of the running process."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (number, hard))


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds, looking every POLL seconds; AssertionError once PATIENCE is over."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(POLL)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def accepts(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


@contextlib.contextmanager
def many_descriptors(number: int) -> Iterator[bool]:
    """Let this process have that many file descriptors; whether the system grants it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    granted = hard >= number or hard == resource.RLIM_INFINITY
    if granted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield granted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
