"""`mailgate demo` over real sockets: as a user runs it, and with what must make it say that a promise is broken."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest
import trio
from rich.console import Console

from mailgate.demo import play, run, world
from mailgate.demo.board import Board
from mailgate.demo.checker import Promise
from mailgate.demo.links import Fault, Links
from mailgate.demo.scenarios import ANN, BEN, BOB, EVA, SCENARIOS, QueueRun, Scenario, takes
from mailgate.demo.world import ISP_A, ISP_B, LOOPBACK, Gw, Journal, Server, ServerHost
from mailgate.network import Address
from mailgate.protocol.reply import reply
from mailgate.relay import outcome
from mailgate.relay.health import Health
from mailgate.relay.outcome import Kind, Outcome

COMMAND = (sys.executable, "-m", "mailgate", "demo")

ENOUGH = 60
"""seconds for a demo, which takes five on a machine that does nothing else"""

SUMMARY = (
    "14 messages, 26 recipients: 25 delivered (7 deferred first), 1 refused; lost 0, half 0; "
    "duplicates: 1 unknown, 0 untold, 0 unexplained; "
)
HELD = "✓ Every promise held."


# As a user runs it


@contextlib.contextmanager
def running(*arguments: str, stderr: int | None = None) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A demo and its output; killed if the test has failed."""
    demo = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert demo.stdout is not None
    try:
        yield demo, demo.stdout
    finally:
        demo.kill()
        demo.wait(ENOUGH)
        demo.stdout.close()


def test_every_promise_holds_in_two_demos_at_a_time() -> None:
    demos = [subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for demo in demos:
        output, errors = demo.communicate(timeout=ENOUGH)
        lines = output.splitlines()
        assert (demo.returncode, errors) == (0, ""), output
        assert sum(line.startswith("   ✓ held: ") for line in lines) == len(SCENARIOS)
        assert [line for line in lines if line.startswith(SUMMARY)], output
        assert HELD in lines
        assert "\x1b" not in output


def test_on_a_terminal() -> None:
    near, far = pty.openpty()
    output = b""
    with subprocess.Popen(COMMAND, stdout=far, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}) as demo:
        os.close(far)
        with contextlib.suppress(OSError):  # EIO: how Linux says that nobody has the other end any more
            while data := os.read(near, 65_536):
                output += data
        os.close(near)
        assert demo.wait(ENOUGH) == 0
    text = output.decode()
    assert HELD in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is back
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= 80


def test_the_log_goes_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "gateways.log"
    done = subprocess.run([*COMMAND, "--verbose", "--log", str(file)], check=False, capture_output=True, timeout=ENOUGH)
    assert done.returncode == 0
    assert b"level=" not in done.stdout
    assert b" event=upstream_reply " in done.stderr
    assert [gateway for gateway in Gw if f" gateway={gateway} ".encode() not in done.stderr] == []
    assert file.read_bytes() == done.stderr


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--log", str(tmp_path)], check=False, capture_output=True, text=True, timeout=ENOUGH
    )
    problem = f"mailgate: --log {tmp_path}: cannot be written: Is a directory; name another file\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", problem)


def test_interrupted_it_says_so() -> None:
    with running(stderr=subprocess.STDOUT) as (demo, output):
        assert next(line for line in output if line.startswith("1  "))
        demo.send_signal(signal.SIGINT)
        rest = output.read()
        assert demo.wait(ENOUGH) == run.EXIT_INTERRUPTED
    assert rest.splitlines()[-1] == "Interrupted: not every promise has been tried."


def test_serve_takes_messages_by_hand_until_sigint() -> None:
    with running("--serve") as (demo, output):
        commands = []
        for line in output:
            if "python3 -c" in line:
                commands.append(line.strip().replace("python3", shlex.quote(sys.executable), 1))
            if "nc -C" in line:
                break
        for command in commands:
            subprocess.run(command, shell=True, check=True, timeout=ENOUGH)
        told = [line.split("  ", 1)[1] for line in itertools.islice(filter(str.strip, output), len(commands))]
        demo.send_signal(signal.SIGINT)
        assert (output.read(), demo.wait(ENOUGH)) == ("Stopping.\n", 0)
    by = r"took \d+ bytes by gw1 from"
    patterns = [f"inside {by} <{EVA}> for {ANN}\n", f"mx-a {by} <{ANN}> for {EVA}\n"]
    assert [one for one, line in zip(patterns, told, strict=True) if not re.fullmatch(one, line)] == []
    gateway = re.search(r'"(127[\d.]+)", (\d+)', commands[0])
    assert gateway is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((gateway[1], int(gateway[2])), timeout=ENOUGH)


# In this process


async def played(scenarios: Sequence[Scenario]) -> tuple[int, str]:
    """The exit status and the output."""
    output = io.StringIO()
    board = Board(Console(file=output, width=120, highlight=False), live=False)
    status = await run.demo(board, Journal(), serve=False, scenarios=scenarios)
    return status, output.getvalue()


NOT_OURS = dict.fromkeys([*Gw, *Server], "192.0.2.1")  # RFC 5737: no host has it


async def test_where_only_127_0_0_1_is_there_all_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_IPS", NOT_OURS)
    status, output = await played(SCENARIOS)
    assert status == 0, output
    left_out = sum(scenario.over_backbones for scenario in SCENARIOS)
    assert (
        "(This system has no 127.0.0.2 and up, so all of them share one address. Backbones differ by theirs: "
        f"{left_out} scenarios in which one is cut are left out.)"
    ) in output
    assert output.count("✓ held: ") == len(SCENARIOS) - left_out
    assert output.count(" 127.0.0.1:") == len(Server) + 2 * len(Gw)
    assert output.count("   from 127.0.0.1 ") == 2 * len(Gw)


def test_without_any_address_it_says_so_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_IPS", NOT_OURS)
    monkeypatch.setattr(world, "LOOPBACK", "192.0.2.1")
    problem = (
        "inside cannot listen on 192.0.2.1:0: Cannot assign requested address; "
        "the demo needs the loopback interface, try again"
    )
    with pytest.raises(run.CannotRun, match=re.escape(problem)):
        run.run(serve=False, verbose=False, file=None)


async def test_an_answer_that_was_not_expected_is_a_failure() -> None:
    other = dataclasses.replace(SCENARIOS[0], runs=(QueueRun({ANN: (takes(Gw.GW2),), BEN: (takes(Gw.GW1),)}),))
    status, output = await played([other, SCENARIOS[1]])
    assert status == run.EXIT_BROKEN
    assert f"   ✗ BROKEN: {ANN}: expected gw2 delivered at dot; got gw1 delivered at dot (250 2.0.0 taken)\n" in output
    assert " level=debug event=upstream_reply " in output  # what the gateways logged in that scenario
    assert "✗ BROKEN: 1 Inbound, all well." in output
    assert HELD not in output


BACKBONES = [scenario for scenario in SCENARIOS if scenario.over_backbones]


async def test_a_cut_backbone_is_told() -> None:
    status, output = await played(BACKBONES)
    assert status == 0, output
    lines = [line.rstrip() for line in output.splitlines()]
    over_a, over_b = "gw1-isp-a.home.example from 127.0.1.11, by", "gw1-isp-b.home.example from 127.0.2.11, by"
    assert [line for line in lines if " 127.0.1.11, by" in line or " 127.0.2.11, by" in line] == [
        f"   seen:      {over_b} mx-a and mx-b",
        f"   seen:      {over_b} mx-a and mx-b",
        f"   seen:      {over_a} mx-a and mx-b",
        f"   seen:      {over_b} mx-a and mx-b",
        f"   seen:      {over_a} mx-a",
        f"              {over_b} mx-b",
    ]
    assert sum(line.startswith("   mended; the gateways know after ") for line in lines) == 1


async def test_the_wrong_backbone_is_found_out() -> None:
    over_b = QueueRun({EVA: (takes(Gw.GW1, ISP_B),), BOB: (takes(Gw.GW1, ISP_A),)})
    status, output = await played([dataclasses.replace(SCENARIOS[1], runs=(over_b,))])
    assert status == run.EXIT_BROKEN
    came = "came by gw1 as gw1-isp-a.home.example from 127.0.1.11"
    assert f"   ✗ BROKEN: {EVA}: expected over isp-b; {came}\n" in output
    assert f"{BOB}: expected over" not in output


async def test_a_foreign_source_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Links.connect

    async def from_elsewhere(links: Links, address: Address, source: str | None = None) -> trio.abc.Stream:
        return await real(links, address, "127.0.3.11" if source == "127.0.1.11" else source)

    monkeypatch.setattr(Links, "connect", from_elsewhere)
    status, output = await played(SCENARIOS[1:2])
    assert status == run.EXIT_BROKEN
    how = f"mx-a got mail for {EVA} by gw1 as gw1-isp-a.home.example from 127.0.3.11: no uplink of it"
    assert f"✗ BROKEN: {Promise.BACKBONE.value}: {how}" in " ".join(output.split())


async def test_who_waits_for_a_cut_backbone_again_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Health, "failed", lambda *_, **__: None)
    status, output = await played(BACKBONES[:2])
    assert status == run.EXIT_BROKEN
    assert f"{Promise.IN_TIME.value}: gw1 answered for {EVA} after 0.5 s, not 0.5" in output


async def test_who_does_not_find_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "RECOVERY", 0.01)
    status, output = await played(BACKBONES[:3])
    assert status == run.EXIT_BROKEN
    assert "   mended; the gateways have not found out\n" in output
    assert f"✗ BROKEN: {Promise.FOUND_OUT.value}: 0.01 s after all was mended a gateway had not found out" in output


async def test_a_gateway_that_lies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "UNKNOWN", Outcome(Kind.DELIVERED, reply(250, "2.0.0", "it will have worked")))
    status, output = await played(SCENARIOS[-1:])
    assert status == run.EXIT_BROKEN
    assert f"✗ BROKEN: {Promise.CONFIRMED.value}: gw1 said 2xx for {ANN}, its next hop did not" in output


@pytest.mark.parametrize("text", [text for one in SCENARIOS for text in (one.broken, one.promise)])
def test_prose_fits_a_terminal_of_80_columns(text: str) -> None:
    assert len(text) <= 80 - len("   expected:  ")


# Its parts


async def test_a_server_records_what_breaks_the_protocol() -> None:
    host = ServerHost(Server.MX_A, LOOPBACK)
    async with trio.open_nursery() as hosts:
        await hosts.start(host.run)
        stream = await Links(LOOPBACK).connect(host.address)
        await stream.send_all(b"EHLO x\r\nDATA\r\n")
        while await stream.receive_some():
            pass
        await stream.aclose()
        await host.quiet()
        await host.stop()
    (violation,) = host.violations
    assert violation.startswith("mx-a: ")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(
    ("to", "source"),
    [
        pytest.param(True, None, id="to-an-address"),
        pytest.param(False, LOOPBACK, id="from-a-source"),
        pytest.param(True, LOOPBACK, id="from-a-source-to-an-address"),
    ],
)
async def test_a_cut_is_real_for_sockets(fault: Fault, to: bool, source: str | None) -> None:
    host = ServerHost(Server.MX_A, LOOPBACK)
    async with trio.open_nursery() as hosts:
        await hosts.start(host.run)
        links = Links(LOOPBACK)
        stream = await links.connect(host.address)
        await stream.receive_some()
        links.cut(host.address if to else None, fault, source=source)
        assert await stream.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"NOOP\r\n")
        await host.quiet()
        assert links.open_streams == 1
        await stream.aclose()
        assert links.open_streams == 0
        with trio.move_on_after(0.01) as waiting, pytest.raises(OSError, match="No route to host"):
            await links.connect(host.address)
        assert waiting.cancelled_caught == (fault is Fault.BLACK_HOLE)
        links.mend()
        await (await links.connect(host.address)).aclose()
        await host.stop()


CUTS = [
    pytest.param(True, None, ((1, "127.0.1.11"), (1, "127.0.2.11")), id="to-an-address"),
    pytest.param(False, "127.0.1.11", ((0, "127.0.2.11"), (1, "127.0.2.11")), id="from-a-source"),
    pytest.param(
        True,
        "127.0.1.11",
        ((0, "127.0.2.11"), (1, "127.0.1.11"), (1, "127.0.2.11")),
        id="from-a-source-to-an-address",
    ),
]


@pytest.mark.parametrize(("to", "source", "open_"), CUTS)
async def test_a_cut_leaves_everything_else(to: bool, source: str | None, open_: tuple[tuple[int, str], ...]) -> None:
    hosts = [ServerHost(Server.MX_A, LOOPBACK), ServerHost(Server.MX_B, LOOPBACK)]
    async with trio.open_nursery() as running_hosts:
        for host in hosts:
            await running_hosts.start(host.run)
        links = Links(LOOPBACK)
        ways = [(number, ip) for number in (0, 1) for ip in ("127.0.1.11", "127.0.2.11")]
        streams = {way: await links.connect(hosts[way[0]].address, way[1]) for way in ways}
        for stream in streams.values():
            await stream.receive_some()
        links.cut(hosts[0].address if to else None, Fault.UNREACHABLE, source=source)
        for (number, ip), stream in streams.items():
            if (number, ip) in open_:
                await stream.send_all(b"NOOP\r\n")
                assert (await stream.receive_some()).startswith(b"250 ")
                await (await links.connect(hosts[number].address, ip)).aclose()
            else:
                assert await stream.receive_some() == b""
                with pytest.raises(OSError, match="No route to host"):
                    await links.connect(hosts[number].address, ip)
            await stream.aclose()
        for host in hosts:
            await host.stop()


def test_the_journal_finds_errors_and_only_those() -> None:
    copy = io.BytesIO()
    journal = Journal([copy])
    error = b"timestamp=2024-05-01T12:00:00.123Z level=error event=session_failed\n"
    info = b'timestamp=2024-05-01T12:00:00.123Z level=info event=reply reply="250 \\n level=error "\n'
    for line in (error, info):
        journal.write(line)
    assert (journal.errors, journal.text, copy.getvalue()) == (
        [error.decode().rstrip()],
        (error + info).decode(),
        error + info,
    )
    journal.clear()
    assert (journal.errors, journal.text) == ([error.decode().rstrip()], "")
