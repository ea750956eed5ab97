"""`mailgate status`: what a person at a terminal sees, what a program reads, and the exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from click.testing import CliRunner, Result
from rich.console import Console
from trio.testing import MockClock

from mailgate import control, status_view
from mailgate.cli import main
from mailgate.network import Address, RealNetwork, UnixAddress
from mailgate.relay.status import (
    BackboneStatus,
    HostStatus,
    LedgerStatus,
    ListenerStatus,
    OutageStatus,
    PathStatus,
    RecipientCounts,
    Status,
    UpstreamStatus,
)
from mailgate.testing import MemoryNetwork

PATIENCE = 30.0
"""seconds that a process may take here: many times what it takes, for slow machines"""

STATE = Path("/state")
SOCKET = UnixAddress("/state/control.sock")
LOG = structlog.get_logger(processors=[lambda *_: {}], wrapper_class=structlog.make_filtering_bound_logger(50))

CONFIG = """
hostname = "gw.example"
{state}

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["127.0.0.1:0"]
routes = ["inside"]

[[route]]
name = "inside"
domains = ["a.example"]
hosts = ["127.0.0.1:1"]
"""

UP = PathStatus(
    backbone=None,
    host="10.0.0.1:25",
    address="10.0.0.1:25",
    static=True,
    up=True,
    down_for=None,
    failures=0,
    why="",
    last_success_ago=3.5,
    latency=0.0123,
    next_try_in=None,
)
DOWN = dataclasses.replace(
    UP,
    up=False,
    down_for=125.0,
    failures=12,
    why="Connection refused",
    last_success_ago=None,
    latency=None,
    next_try_in=4.2,
)
NAMED = dataclasses.replace(UP, host="mail.example:25", address="10.0.0.2:25", backbone="isp-a", latency=1.5)
GONE = "no address of this machine: 192.0.2.1, the source on backbone isp-b"
OUTAGE = OutageStatus(family="IPv4", down_for=3700.0, failures=2, why=GONE, next_try_in=1.0)
ISP_A = BackboneStatus(
    name="isp-a", sources=("192.0.2.9", "2001:db8::9"), helo="a.example", paths=2, down=1, failures=1, outages=()
)
ISP_B = BackboneStatus(
    name="isp-b", sources=("192.0.2.1",), helo="b.example", paths=1, down=1, failures=0, outages=(OUTAGE,)
)
IDLE = Status(
    format=1,
    version="0.1.0",
    hostname="gw.example",
    time="2026-01-01T00:00:00Z",
    started="2025-12-31T23:59:55Z",
    running_for=5.0,
    draining=False,
    sessions=0,
    sessions_limit=1000,
    listeners=(ListenerStatus(name="from-outside", protocol="smtp", sessions=0),),
    transactions=0,
    deliveries=0,
    upstream=UpstreamStatus(held=0, kept=0, limit=5000),
    recipients=RecipientCounts(delivered=0, rejected=0, deferred=0, unknown=0, untold=0),
    backbones=(),
    paths=(),
    paths_left_out=0,
    hosts=(),
    hosts_left_out=0,
)
BUSY = dataclasses.replace(
    IDLE,
    running_for=200_000.0,
    draining=True,
    sessions=1012,
    sessions_limit=2000,
    listeners=(
        ListenerStatus(name="from-outside", protocol="smtp", sessions=1000),
        ListenerStatus(name="from-inside", protocol="lmtp", sessions=12),
    ),
    transactions=1,
    deliveries=1,
    upstream=UpstreamStatus(held=7, kept=3, limit=1),
    recipients=RecipientCounts(delivered=12_345, rejected=6, deferred=7, unknown=8, untold=9),
    backbones=(ISP_A, ISP_B),
    paths=(dataclasses.replace(DOWN, backbone="isp-b", why=GONE), dataclasses.replace(DOWN, backbone="isp-a"), NAMED),
    hosts=(HostStatus(name="10.0.0.1:25", paths=2, down=2, failures=24),),
)


def printed(status: Status, width: int = 120) -> str:
    to = io.StringIO()
    Console(width=width, file=to).print(status_view.shown(status))
    return "\n".join(line.rstrip() for line in to.getvalue().splitlines()) + "\n"


# What a person sees

AT_REST = """\
gw.example, mailgate 0.1.0, running for 5 s: serving
clients     0 of at most 1,000 sessions: from-outside 0
under way   0 transactions, 0 deliveries
next hops   0 of at most 5,000 sessions, 0 of them kept for reuse
recipients  0 delivered (0 untold), 0 rejected, 0 deferred, 0 unknown

no path has been tried yet
"""

AT_WORK = """\
gw.example, mailgate 0.1.0, running for 2 d 7 h: draining
clients     1,012 of at most 2,000 sessions: from-outside 1,000, from-inside 12
under way   1 transaction, 1 delivery
next hops   7 of at most 1 session, 3 of them kept for reuse
recipients  12,345 delivered (9 untold), 6 rejected, 7 deferred, 8 unknown

backbone  source                  state  paths  down  failures  why
isp-a     192.0.2.9, 2001:db8::9  up         2     1         1
isp-b     192.0.2.1               out        1     1         0  IPv4 out for 1 h 1 min: no address of this machine:
                                                                192.0.2.1, the source on backbone isp-b

backbone  path                           state            latency  success  failures  next try  why
isp-a     10.0.0.1:25                    down 2 min 5 s              never        12    in 4 s  Connection refused
isp-b     10.0.0.1:25                    down 2 min 5 s              never        12    in 4 s  its backbone is out
isp-a     mail.example:25 (10.0.0.2:25)  up              1,500 ms  3 s ago
"""

WITHOUT_BACKBONES = """\
path         state  latency  success  failures  next try  why
10.0.0.1:25  up       12 ms  3 s ago
"""


def test_at_rest() -> None:
    assert printed(IDLE) == AT_REST


def test_at_work() -> None:
    assert printed(BUSY) == AT_WORK


def test_without_backbones() -> None:
    assert printed(dataclasses.replace(IDLE, paths=(UP,))).partition("\n\n")[2] == WITHOUT_BACKBONES


LEDGER = LedgerStatus(enabled=True, limit=100_000)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, None),
        ({"enabled": False, "limit": 0}, None),
        ({"entries": 2, "recorded": 1200, "met": 1198}, "1,200 made, 1,198 met, 2 of at most 100,000 here"),
        ({"put_off": 3}, "0 made, 0 met, 0 of at most 100,000 here, 3 put off"),
        ({"recorded": 9, "evicted": 1}, "9 made, 0 met, 0 of at most 100,000 here, 1 evicted"),
        ({"shared": "reachable"}, "shared, reachable: 0 made, 0 met, 0 of at most 100,000 here"),
        (
            {"shared": "unreachable", "recorded": 7, "entries": 1, "possible_duplicate": 1, "unasked": 40},
            "shared, unreachable: 7 made, 0 met, 1 of at most 100,000 here, 1 possible duplicate, 40 unasked",
        ),
    ],
    ids=["nothing", "off", "its own", "put off", "evicted", "shared", "unreachable"],
)
def test_the_ledger_is_a_line_if_there_is_something_to_say(changes: dict[str, Any], line: str | None) -> None:
    head = printed(dataclasses.replace(IDLE, ledger=dataclasses.replace(LEDGER, **changes))).partition("\n\n")[0]
    at_rest = AT_REST.partition("\n\n")[0]
    assert head == (at_rest if line is None else f"{at_rest}\nledger      {line}")


def test_a_gateway_that_says_nothing_of_a_ledger() -> None:
    """An older one: its document is read all the same."""
    document = json.loads(control.encoded(IDLE))
    del document["ledger"]
    assert control.decoded(json.dumps(document).encode()) == IDLE


def test_80_columns_are_enough() -> None:
    lines = printed(BUSY, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    assert any("refused" in line for line in lines)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (dataclasses.replace(UP, latency=0.0004), "0.4 ms"),
        (dataclasses.replace(DOWN, next_try_in=0.0), "due"),
        (dataclasses.replace(DOWN, next_try_in=0.0, static=False), "when wanted"),
        (dataclasses.replace(DOWN, down_for=0.4), "down 0 s"),
        (dataclasses.replace(UP, host="unix:/run/lmtp", address="unix:/run/lmtp"), "unix:/run/lmtp  up"),
    ],
    ids=["a short latency", "due", "due, found by MX", "just now", "a unix socket"],
)
def test_a_path(path: PathStatus, says: str) -> None:
    assert says in printed(dataclasses.replace(IDLE, paths=(path,)))


@pytest.mark.parametrize(
    ("backbone", "state"),
    [
        (dataclasses.replace(ISP_A, paths=0, down=0), "not tried yet"),
        (dataclasses.replace(ISP_A, down=2), "down"),
        (dataclasses.replace(ISP_A, outages=(OUTAGE,)), "no IPv4"),
        (dataclasses.replace(ISP_A, outages=(OUTAGE, dataclasses.replace(OUTAGE, family="IPv6"))), "out"),
    ],
    ids=["unused", "all paths down", "one family", "both families"],
)
def test_a_backbone(backbone: BackboneStatus, state: str) -> None:
    table = printed(dataclasses.replace(IDLE, backbones=(backbone,))).partition("\n\n")[2]
    heading, row = table.splitlines()[:2]
    assert row[heading.index("state") : heading.index("paths")].strip() == state


def test_many_strangers() -> None:
    """Those that are up are not all worth a row; what a route names, and what is down, is."""
    up = [dataclasses.replace(UP, static=False, host=f"mx{number}.example:25") for number in range(40)]
    down = [dataclasses.replace(DOWN, static=False, host=f"down{number}.example:25") for number in range(30)]
    text = printed(dataclasses.replace(IDLE, paths=(UP, *down, *up), paths_left_out=1000))
    shown = [line.split()[0] for line in text.partition("path ")[2].splitlines()[1:]]
    assert shown == [
        "10.0.0.1:25",
        *sorted(one.host for one in down),
        *sorted(one.host for one in up[: status_view.STRANGERS]),
        "and",
    ]
    assert text.endswith("\nand 1,020 more paths found by MX, 0 of them known down\n")


HOSTILE = "550 [red]no[/red] [/] :smile: \x1b[31m\r\nroot: \u202e"


def test_strangers_words_are_only_words() -> None:
    status = dataclasses.replace(
        IDLE,
        hostname=HOSTILE,
        version=HOSTILE,
        listeners=(ListenerStatus(name=HOSTILE, protocol=HOSTILE, sessions=0),),
        ledger=dataclasses.replace(LEDGER, shared=HOSTILE),
        backbones=(
            dataclasses.replace(
                ISP_B, name=HOSTILE, sources=(HOSTILE,), outages=(dataclasses.replace(OUTAGE, why=HOSTILE),)
            ),
        ),
        paths=(dataclasses.replace(DOWN, why="x" + HOSTILE, host=HOSTILE, address=HOSTILE, backbone=HOSTILE),),
    )
    text = printed(status, 1000)
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count("550 [red]no[/red] [/] :smile: \\u001b[31m\\r\\nroot: \\u202e") == 10


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (3605, "1 h"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (8_640_000, "100 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert status_view.duration(seconds) == text


# Watching, on virtual time


class Watching:
    """A gateway in memory that comes and goes, and what the watching command prints."""

    def __init__(self, nursery: trio.Nursery, *, terminal: bool = False) -> None:
        self.network = MemoryNetwork(nursery)
        self.screen = io.StringIO()
        self.console = Console(
            file=self.screen,
            width=200,
            height=50,
            force_terminal=terminal,
            markup=False,
            highlight=False,
            color_system="standard" if terminal else None,
        )
        self.status = dataclasses.replace(IDLE, paths=(UP,))
        self.began = 0.0
        self.network.serve(SOCKET, self._answer)

    async def _answer(self, stream: trio.abc.Stream, peer: Address) -> None:
        running = trio.current_time() - self.began
        status = dataclasses.replace(self.status, running_for=running, started=str(self.began))
        await stream.send_all(control.encoded(status))


def running(seconds: int) -> str:
    return f"gw.example, mailgate 0.1.0, running for {seconds} s: serving"


async def test_it_looks_every_second(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    watching = Watching(nursery)
    with trio.move_on_after(2.5):
        await status_view.watch_on(watching.network, STATE, watching.console)
    text = watching.screen.getvalue()
    assert text.count("10.0.0.1:25") == 3
    assert [text.count(running(second)) for second in range(4)] == [1, 1, 1, 0]


async def test_it_says_when_the_gateway_goes_and_comes_back(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    watching = Watching(nursery)
    nursery.start_soon(status_view.watch_on, watching.network, STATE, watching.console)
    await trio.sleep(1.5)
    text = watching.screen.getvalue()
    assert running(1) in text
    assert "no answer" not in text

    watching.network.refuse(SOCKET)
    await trio.sleep(3)
    text = watching.screen.getvalue().partition(running(1))[2]
    why = "what follows is how it was before: unix:/state/control.sock: nobody listens: "
    assert [f"no answer for {second} s; {why}" in text for second in range(4)] == [True, True, True, False]
    assert text.count(running(1)) == 3, "with what was last known"

    watching.network.restore(SOCKET)
    await trio.sleep(15)
    text = watching.screen.getvalue().rpartition("no answer")[2]
    assert text.count("the gateway is back, it was away for 3 s\n") == 10
    assert text.rstrip().endswith("3 s ago")
    assert "back" not in text.rpartition(running(19))[0].rpartition(running(18))[2]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("noticed", [True, False], ids=["it was away", "between two looks"])
async def test_it_says_when_it_was_restarted(nursery: trio.Nursery, noticed: bool, autojump_clock: MockClock) -> None:
    watching = Watching(nursery)
    nursery.start_soon(status_view.watch_on, watching.network, STATE, watching.console)
    await trio.sleep(5.5)
    if noticed:
        watching.network.refuse(SOCKET)
        await trio.sleep(2)
        watching.network.restore(SOCKET)
    watching.began = trio.current_time()
    await trio.sleep(1)
    away = ", it was away for 2 s" if noticed else ""
    assert f"\nthe gateway was restarted{away}\n{running(0)}" in watching.screen.getvalue()
    nursery.cancel_scope.cancel()


async def test_garbage_does_not_end_it(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    watching = Watching(nursery)
    nursery.start_soon(status_view.watch_on, watching.network, STATE, watching.console)
    await trio.sleep(0.5)

    async def garbage(stream: trio.abc.Stream, peer: Address) -> None:
        await stream.send_all(b"\x1b[31m")

    watching.network.serve(SOCKET, garbage)
    await trio.sleep(1)
    assert "the answer is no status" in watching.screen.getvalue()
    assert "\x1b" not in watching.screen.getvalue()
    nursery.cancel_scope.cancel()


async def test_a_terminal_is_redrawn(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    watching = Watching(nursery, terminal=True)
    with trio.move_on_after(1.5):
        await status_view.watch_on(watching.network, STATE, watching.console)
    text = watching.screen.getvalue()
    assert "\x1b[1A\x1b[2K" in text, "it goes up, and writes over what was there"
    assert text.endswith("\x1b[?25h"), "the cursor is back"


async def test_what_is_not_true_any_more_is_dim(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    watching = Watching(nursery, terminal=True)
    nursery.start_soon(status_view.watch_on, watching.network, STATE, watching.console)
    for there, style in ((True, "\x1b[32mup"), (False, "\x1b[2;32mup"), (True, "\x1b[32mup")):
        (watching.network.restore if there else watching.network.refuse)(SOCKET)
        watching.screen.truncate(0)
        await trio.sleep(1.5)
        assert style in watching.screen.getvalue().rpartition("latency")[2]
    nursery.cancel_scope.cancel()


async def test_json_is_a_line_a_second(
    nursery: trio.Nursery, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = Watching(nursery)
    nursery.start_soon(status_view.watch_json, watching.network, STATE, watching.console)
    await trio.sleep(1.5)
    watching.network.refuse(SOCKET)
    await trio.sleep(3)
    watching.network.restore(SOCKET)
    await trio.sleep(2)
    seen = [json.loads(line)["running_for"] for line in watching.screen.getvalue().splitlines()]
    assert seen == [0, 1, 5, 6]
    assert capsys.readouterr().err == (
        "mailgate: unix:/state/control.sock: nobody listens: the gateway that left it there has ended; "
        "start one with `mailgate serve`; looking again every second\n"
        "mailgate: the gateway answers again\n"
    )
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("watch", [status_view.watch_on, status_view.watch_json], ids=["", "json"])
async def test_the_first_look_must_succeed(nursery: trio.Nursery, autojump_clock: MockClock, watch: Any) -> None:
    watching = Watching(nursery)
    watching.network.refuse(SOCKET)
    with pytest.raises(control.CannotAsk):
        await watch(watching.network, STATE, watching.console)


# The command, over a real socket


async def status(directory: Path, *arguments: str, state: str | None = None) -> Result:
    """Run the command, in a thread: it has an event loop of its own."""
    file = directory / "gateway.toml"
    file.write_text(CONFIG.format(state=f'state_dir = "{directory}"' if state is None else state))
    command = ["status", "-c", str(file), *arguments]
    invoke = functools.partial(CliRunner().invoke, main, command, prog_name="mailgate", catch_exceptions=False)
    return await trio.to_thread.run_sync(invoke)


async def answer(nursery: trio.Nursery, directory: Path, document: bytes) -> None:
    """Listen there, and give everybody this."""

    async def give(stream: trio.SocketStream) -> None:
        await stream.send_all(document)

    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(directory / "control.sock"))
    listening.listen()
    nursery.start_soon(trio.serve_listeners, give, [trio.SocketListener(listening)])


async def test_the_command(nursery: trio.Nursery, tmp_path: Path) -> None:
    async with await control.listen(RealNetwork(), tmp_path) as incoming:
        nursery.start_soon(control.serve, incoming, lambda: BUSY, LOG)
        result = await status(tmp_path)
        nursery.cancel_scope.cancel()
    assert (result.exit_code, result.stderr) == (0, "")
    # Without a terminal each path is on one line.
    outage = next(line for line in result.stdout.splitlines() if line.startswith("isp-b "))
    assert outage.rstrip().endswith(GONE)


async def test_json(nursery: trio.Nursery, tmp_path: Path) -> None:
    """As it came, keys that this version does not know included."""
    document = {**dataclasses.asdict(BUSY), "format": 2, "new": HOSTILE + "\x7f\u0085ü"}
    await answer(nursery, tmp_path, json.dumps(document, ensure_ascii=False).encode())
    result = await status(tmp_path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == json.loads(json.dumps(document))
    assert result.stdout.isascii()
    assert all(line.isprintable() for line in result.stdout.splitlines())
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("arguments", "document", "message"),
    [
        ([], b"garbage\x1b[31m", "the answer is no status that mailgate of this version knows ("),
        (["--json"], b"garbage\x1b[31m", "the answer is no JSON ("),
        ([], json.dumps({**dataclasses.asdict(IDLE), "format": 9}).encode(), "the answer has format 9, and "),
        ([], b"", "{}: closed without an answer; is the gateway just ending? try again"),
    ],
    ids=["garbage", "garbage as JSON", "another format", "nothing"],
)
async def test_no_good_answer(
    nursery: trio.Nursery, tmp_path: Path, arguments: list[str], document: bytes, message: str
) -> None:
    await answer(nursery, tmp_path, document)
    result = await status(tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("mailgate: " + message.format(f"unix:{tmp_path}/control.sock"))
    assert result.stderr.rstrip("\n").isprintable()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--watch"], ["--json", "--watch"]], ids=" ".join)
async def test_nobody_listens(tmp_path: Path, arguments: list[str]) -> None:
    result = await status(tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"mailgate: unix:{tmp_path}/control.sock: there is no such socket: no gateway runs with this `state_dir`; "
        "start one with `mailgate serve`, or restart it if its configuration has changed\n"
    )


async def test_no_state_dir(tmp_path: Path) -> None:
    result = await status(tmp_path, state="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"mailgate: {tmp_path}/gateway.toml: it has no control socket to ask; set state_dir, for example "
        'state_dir = "/var/lib/mailgate", before the first table, and restart the gateway\n'
    )


async def test_a_bad_configuration(tmp_path: Path) -> None:
    result = await status(tmp_path, state='state_dir = "relative"')
    assert (result.exit_code, result.stdout) == (2, "")
    assert "state_dir" in result.stderr


# The whole of it, as processes


@contextlib.contextmanager
def started(file: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mailgate", *command, "-c", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)  # so that whoever waits for a line of it does not hang
    watchdog.start()
    with process:
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Read its output up to a line that has this."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended without {text!r}")


def test_a_gateway_is_watched_until_ctrl_c(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.format(state=f'state_dir = "{tmp_path}"'))
    with started(file, "serve") as gateway:
        line_with(gateway, f"control_socket address=unix:{tmp_path}/control.sock")
        with started(file, "status", "--watch") as watching:
            line_with(watching, "gw.example, mailgate ")
            gateway.terminate()
            assert gateway.wait(PATIENCE) == 0
            line_with(watching, "no answer for 0 s; what follows is how it was before: ")
            with started(file, "serve") as again:
                line_with(watching, "the gateway was restarted, it was away for ")
                watching.send_signal(signal.SIGINT)
                _, errors = watching.communicate(timeout=PATIENCE)
                assert (watching.returncode, errors) == (0, "")
                again.terminate()
                assert again.wait(PATIENCE) == 0
    assert not (tmp_path / "control.sock").exists()


def test_a_second_gateway_with_the_same_state_dir(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.format(state=f'state_dir = "{tmp_path}"'))
    with started(file, "serve") as gateway:
        line_with(gateway, "control_socket")
        with started(file, "serve") as second:
            _, errors = second.communicate(timeout=PATIENCE)
        assert second.returncode == 1
        assert errors.startswith(f"mailgate: state_dir: cannot make the control socket unix:{tmp_path}/control.sock: ")
        assert (tmp_path / "control.sock").exists()
