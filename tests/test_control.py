"""The control socket: who gets what, and that nobody who asks can do harm. On virtual time, but where it is a file."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.typing import FilteringBoundLogger
from trio.testing import MockClock, wait_all_tasks_blocked

from mailgate import app, control, logs
from mailgate.config import parse
from mailgate.gateway import Gateway
from mailgate.network import Address, Incoming, RealNetwork, TcpAddress, UnixAddress
from mailgate.relay.status import Status
from mailgate.testing import Dialog, MemoryNetwork

STATE = Path("/state")
SOCKET = UnixAddress("/state/control.sock")
SMTP = TcpAddress("127.0.0.1", 2525)

FILE = """
hostname = "gw.example"
state_dir = "/state"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["127.0.0.1:2525"]
routes = ["inside"]

[[route]]
name = "inside"
domains = ["a.example"]
hosts = ["127.0.0.2:25"]

[ledger]
enabled = false
"""


class Served:
    """A control socket in memory, with a small buffer so that a client that does not read is noticed."""

    def __init__(self, nursery: trio.Nursery, capacity: int = 64) -> None:
        self.network = MemoryNetwork(nursery, capacity=capacity)
        self.gateway = Gateway(parse(FILE).settings, self.network)
        self.output = io.BytesIO()
        self.log = logger(self.output)

    async def start(self, nursery: trio.Nursery, status: Callable[[], Status] | None = None) -> Incoming:
        """Listen, and answer."""
        incoming = await control.listen(self.network, STATE)
        nursery.start_soon(control.serve, incoming, status or self.gateway.status, self.log)
        return incoming

    async def ask(self) -> Status:
        """As the command does."""
        return control.decoded(await control.ask(self.network, STATE))

    def events(self) -> list[tuple[str, str]]:
        """Level and event of the log's lines."""
        return [(line["level"], line["event"]) for line in lines(self.output)]


def logger(output: io.BytesIO) -> FilteringBoundLogger:
    return logs.configure(stream=output, format="json", verbose=True, now=RealNetwork().now)


def lines(output: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


async def test_a_client_gets_the_document_and_the_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = Served(nursery)
    await served.start(nursery)
    document = await control.ask(served.network, STATE)
    assert document.endswith(b"}\n")
    assert json.loads(document) == json.loads(json.dumps(dataclasses.asdict(served.gateway.status())))
    assert control.decoded(document) == served.gateway.status()
    assert served.network.open_streams == 0
    assert served.events() == []


async def test_nothing_is_read(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = Served(nursery, capacity=100_000)
    await served.start(nursery)
    async with await served.network.connect(SOCKET) as stream:
        await stream.send_all(b"GET / HTTP/1.0\r\n\r\n" * 1000)
        received = b""
        while data := await stream.receive_some():
            received += data
    assert control.decoded(received) == served.gateway.status()
    assert trio.current_time() == 0


async def test_who_does_not_read_is_cut(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """After a second, and meanwhile others are served; there are never more than a few, and nothing is left."""
    served = Served(nursery)
    await served.start(nursery)
    for _ in range(control.AT_ONCE - 1):
        await served.network.connect(SOCKET)
    await served.ask()
    assert trio.current_time() == 0
    for _ in range(2):
        await served.network.connect(SOCKET)
    await served.ask()
    assert trio.current_time() == control.PATIENCE
    await trio.sleep(1.5 * control.PATIENCE)
    cut = control.AT_ONCE + 1
    assert served.events() == [("debug", "control_client_cut")] * cut
    assert served.network.open_streams == cut  # the clients' own ends


async def test_who_leaves_early_is_no_error(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = Served(nursery)
    await served.start(nursery)
    for _ in range(2 * control.AT_ONCE):
        await (await served.network.connect(SOCKET)).aclose()
    await wait_all_tasks_blocked()
    await served.ask()
    assert trio.current_time() == 0
    assert {level for level, _ in served.events()} <= {"debug"}


async def test_a_bug_is_a_line_in_the_log(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = Served(nursery)
    broken = True

    def status() -> Status:
        if broken:
            raise ZeroDivisionError
        return served.gateway.status()

    await served.start(nursery, status)
    for _ in range(2 * control.AT_ONCE):
        with pytest.raises(control.CannotAsk, match="closed without an answer"):
            await served.ask()
    assert served.events() == [("error", "control_failed")] * 2 * control.AT_ONCE
    broken = False
    await served.ask()


async def test_a_bug_in_accepting_harms_nobody_else(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = Served(nursery)
    incoming = await served.start(nursery)
    await wait_all_tasks_blocked()
    await incoming.aclose()
    await wait_all_tasks_blocked()
    assert served.events() == [("error", "control_failed")]
    await trio.lowlevel.checkpoint()  # this task, which is in the same nursery, goes on


async def test_a_lack_of_descriptors_is_a_line_and_a_pause(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = Served(nursery)
    await served.start(nursery)
    for _ in range(3):
        served.network.fail_accept(SOCKET, errno.EMFILE)
    await served.ask()
    assert trio.current_time() == pytest.approx(3 * control.PAUSE)
    assert served.events() == [("error", "accept_failed")]
    assert lines(served.output)[0]["listener"] == "control socket"


# In `mailgate serve`


async def test_it_is_there_until_the_drain_is_over(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    network, output = MemoryNetwork(nursery), io.BytesIO()

    async def ask() -> Status:
        return control.decoded(await control.ask(network, STATE))

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as serving:
            serving.start_soon(app.serve, parse(FILE), network, logger(output))
            await wait_all_tasks_blocked()
            task_status.started()

    async with trio.open_nursery() as serving:
        await serving.start(serve)
        assert [line["event"] for line in lines(output)] == ["listening", "control_socket"]
        assert lines(output)[1]["address"] == "unix:/state/control.sock"
        client = Dialog(await network.connect(SMTP), patience=1000)
        await client.play("S: 220 ...\nC: HELO c\nS: 250 ...\nC: MAIL FROM:<>\nS: 250 ...")
        await trio.sleep(60)
        told = await ask()
        assert (told.draining, told.running_for, told.sessions, told.transactions) == (False, 60, 1, 1)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(10)
        told = await ask()
        assert (told.draining, told.running_for, told.sessions, told.transactions) == (True, 70, 1, 1)
        await client.play("C: QUIT\nS: 221 ...\nC.")
    with pytest.raises(control.CannotAsk, match="nobody listens"):
        await ask()
    assert trio.current_time() == 70
    assert network.open_streams == 0


async def test_a_client_of_the_control_socket_does_not_hold_up_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network, output = MemoryNetwork(nursery, capacity=64), io.BytesIO()
    async with trio.open_nursery() as serving:
        serving.start_soon(app.serve, parse(FILE), network, logger(output))
        await wait_all_tasks_blocked()
        await network.connect(SOCKET)
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGTERM)
    assert trio.current_time() == 0


async def test_no_state_dir_no_socket(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    network = MemoryNetwork(nursery)
    async with trio.open_nursery() as serving:
        config = parse(FILE.replace("state_dir", "# state_dir"))
        serving.start_soon(app.serve, config, network, logger(io.BytesIO()))
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionRefusedError):
            await network.connect(SOCKET)
        signal.raise_signal(signal.SIGTERM)


async def test_a_gateway_that_cannot_make_it_does_not_start(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    network = MemoryNetwork(nursery)
    await network.listen(SOCKET)
    with pytest.raises(control.CannotServe):
        await app.serve(parse(FILE), network, logger(io.BytesIO()))
    await network.listen(SMTP)  # free again


# The file


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
async def test_only_its_user_may_ask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        async with await control.listen(RealNetwork(), tmp_path):
            assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
            assert os.umask(mask) == mask
        assert not (tmp_path / "control.sock").exists()
    finally:
        os.umask(before)


async def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    async with await control.listen(RealNetwork(), tmp_path):
        stream = await trio.open_unix_socket(str(tmp_path / "control.sock"))
        await stream.aclose()


def _file(directory: Path) -> Path:
    (directory / "control.sock").write_text("not a socket")
    return directory


def _no_directory(directory: Path) -> Path:
    (directory / "file").write_text("")
    return directory / "file"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda directory: directory / "none",
            "No such file or directory; make the directory {}, owned by the user that the gateway runs as, "
            "or change `state_dir`",
        ),
        (_file, "Address already in use; what is there is no socket: remove it, or change `state_dir`"),
        (_no_directory, "Not a directory; `state_dir` must be a directory that the gateway may write in"),
    ],
    ids=["no directory", "a file", "a file in place of the directory"],
)
async def test_it_cannot_be_made(tmp_path: Path, made: Callable[[Path], Path], message: str) -> None:
    directory = made(tmp_path)
    with pytest.raises(control.CannotServe) as failure:
        await control.listen(RealNetwork(), directory)
    where = f"unix:{directory}/control.sock"
    assert str(failure.value) == f"state_dir: cannot make the control socket {where}: {message.format(directory)}"


async def test_another_gateway_has_it(tmp_path: Path) -> None:
    async with await control.listen(RealNetwork(), tmp_path):
        with pytest.raises(control.CannotServe) as failure:
            await control.listen(RealNetwork(), tmp_path)
        assert (tmp_path / "control.sock").exists()
    assert str(failure.value).endswith(
        "; a running gateway has it: stop that one, or give each a `state_dir` of its own"
    )


class NotOurs(RealNetwork):
    """A directory of another user's: tests may run as root, whom no mode keeps out."""

    async def listen(self, address: Address) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


async def test_a_directory_of_another_users(tmp_path: Path) -> None:
    with pytest.raises(control.CannotServe) as failure:
        await control.listen(NotOurs(), tmp_path)
    assert str(failure.value).endswith(
        f": Permission denied; let the user that the gateway runs as write in {tmp_path}, or change `state_dir`"
    )


# The other end


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            errno.ENOENT,
            "there is no such socket: no gateway runs with this `state_dir`; start one with `mailgate serve`, "
            "or restart it if its configuration has changed",
        ),
        (
            errno.ECONNREFUSED,
            "nobody listens: the gateway that left it there has ended; start one with `mailgate serve`",
        ),
        (errno.EACCES, "this user may not ask: do it as root, or as the user that the gateway runs as"),
        (errno.ENOTSOCK, "Socket operation on non-socket: unix:/state/control.sock; `state_dir` must be the running"),
    ],
    ids=["none", "left behind", "not allowed", "another error"],
)
async def test_nobody_to_ask(nursery: trio.Nursery, number: int, message: str, autojump_clock: MockClock) -> None:
    network = MemoryNetwork(nursery)
    network.refuse(SOCKET, error=number)
    with pytest.raises(control.CannotAsk) as failure:
        await control.ask(network, STATE)
    assert str(failure.value).startswith(f"unix:/state/control.sock: {message}")


SILENT = "unix:/state/control.sock: no answer within 5 s; is the gateway stopped, or very busy? try again"


async def _says_nothing(stream: trio.abc.Stream, peer: Address) -> None:
    await trio.sleep_forever()


async def _drips(stream: trio.abc.Stream, peer: Address) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(b" ")
            await trio.sleep(1)


async def _closes(stream: trio.abc.Stream, peer: Address) -> None:
    await stream.aclose()


@pytest.mark.parametrize(
    ("handler", "message", "seconds"),
    [
        (_says_nothing, SILENT, 5),
        (_drips, SILENT, 5),
        (
            _closes,
            "unix:/state/control.sock: closed without an answer; is the gateway just ending? try again",
            0,
        ),
    ],
    ids=["silence", "one octet after another", "the end"],
)
async def test_no_answer(
    nursery: trio.Nursery,
    handler: Callable[[trio.abc.Stream, Address], Any],
    message: str,
    seconds: float,
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(nursery)
    network.serve(SOCKET, handler)
    with pytest.raises(control.CannotAsk) as failure:
        await control.ask(network, STATE)
    assert (str(failure.value), trio.current_time()) == (message, seconds)
    nursery.cancel_scope.cancel()


async def test_too_much(nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LONGEST", 100_000)

    async def endless(stream: trio.abc.Stream, peer: Address) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b" " * 10_000)

    network = MemoryNetwork(nursery)
    network.serve(SOCKET, endless)
    document = await control.ask(network, STATE)
    assert 100_000 < len(document) < 300_000
    with pytest.raises(control.CannotAsk, match="more than 100000 bytes came"):
        control.decoded(document)
    nursery.cancel_scope.cancel()


def _document() -> dict[str, Any]:
    async def made() -> bytes:
        await trio.lowlevel.checkpoint()
        return control.encoded(Gateway(parse(FILE).settings, RealNetwork()).status())

    document: dict[str, Any] = json.loads(trio.run(made))
    return document


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "the answer has format 2, and this mailgate knows 1; use the one that runs"),
        (
            {"paths": [{}]},
            "the answer is no status that mailgate of this version knows (paths.0.backbone: Field required)",
        ),
        ({"sessions": "many"}, "(sessions: "),
        ({"recipients": None}, "(recipients: "),
    ],
    ids=["another format", "a key lacks", "another type", "null"],
)
def test_another_version(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(control.CannotAsk) as failure:
        control.decoded(json.dumps(_document() | changed).encode())
    assert message in str(failure.value)


@pytest.mark.parametrize(
    "garbage", [b"", b"220 gw.example ESMTP\r\n", b"[]", b"{}", b"\xff\xfe", b'{"format": 1', b"[" * 999]
)
def test_garbage(garbage: bytes) -> None:
    with pytest.raises(control.CannotAsk, match="the answer is no status that mailgate of this version knows"):
        control.decoded(garbage)


def test_keys_of_a_later_version_are_left_out() -> None:
    document = _document()
    document["recipients"]["new"] = 1
    control.decoded(json.dumps(document | {"new": [1]}).encode())
