"""What the gateway must reach, measured on a process of its own. `pytest -s` prints the figures."""

from __future__ import annotations

import contextlib
import hashlib
import math
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from caller import Caller
from dns_server import Zone
from live import Gateway, NextHops, configuration, eventually, many_descriptors, route

from mailgate.testing import Script, ScriptedMTA, SlowReading

MIB = 1024 * 1024
KIB = 1024
ROUND_TRIP = 0.1
DOMAINS = 300

Record = Callable[[str, object], None]


@pytest.fixture
def record(record_property: Record) -> Iterator[Record]:
    """Note a figure, for the report and for `pytest -s`."""
    figures: list[str] = []

    def note(name: str, value: object) -> None:
        record_property(name, value)
        figures.append(f"{name}: {value}")

    yield note
    print("", *figures, sep="\n    ")  # noqa: T201


def test_recipients_at_many_slow_next_hops_are_answered_at_once(tmp_path: Path, record: Record) -> None:
    mtas = [ScriptedMTA(f"h{number}", script=Script(pace=0.2)) for number in range(20)]
    with NextHops() as hops:
        config = configuration(tmp_path, *(route(mta.name, hops.tcp(mta)) for mta in mtas))
        with Gateway(config, tmp_path) as gateway, Caller(gateway.lmtp) as client:
            client.say(b"LHLO c\r\n")
            client.replies(2)
            began = time.monotonic()
            rcpts = b"".join(b"RCPT TO:<u@%s.example>\r\n" % mta.name.encode() for mta in mtas)
            client.say(b"MAIL FROM:<s@in.example>\r\n" + rcpts + b"DATA\r\n")
            assert client.replies(21)[1:] == ["250 2.1.5 recipient ok"] * 20
            recipients = time.monotonic() - began
            assert client.reply().startswith("354 ")
            client.say(b"Subject: test\r\n\r\nhello\r\n.\r\n")
            assert client.replies(20) == ["250 2.0.0 taken"] * 20
            whole = time.monotonic() - began
    record("all 20 RCPT answers, s (four replies of 0.2 s each)", round(recipients, 3))
    record("the whole transaction, s (six replies)", round(whole, 3))
    assert [len(mta.messages) for mta in mtas] == [1] * 20
    assert recipients < 1.5
    assert whole < 2.5


def test_fifty_next_hops_are_done_in_eight_round_trips(tmp_path: Path, record: Record) -> None:
    mtas = [ScriptedMTA(f"h{number}", script=Script(pace=ROUND_TRIP)) for number in range(50)]
    with NextHops() as hops:
        config = configuration(tmp_path, *(route(mta.name, hops.tcp(mta)) for mta in mtas))
        with Gateway(config, tmp_path) as gateway, Caller(gateway.lmtp) as client:
            seconds = deliver(client, [f"u@{mta.name}.example" for mta in mtas])
    record("50 recipients at 50 next hops, 100 ms per reply, s", round(seconds, 2))
    assert [len(mta.messages) for mta in mtas] == [1] * 50
    assert seconds < 8 * ROUND_TRIP


def test_a_thousand_recipients_in_three_hundred_domains(tmp_path: Path, record: Record) -> None:
    mtas = [ScriptedMTA(f"mx{number}", keep=0) for number in range(DOMAINS // 10)]
    domains = [f"d{number}.example" for number in range(DOMAINS)]
    recipients = [f"u{number}@{domains[number % DOMAINS]}" for number in range(1000)]
    zone: Zone = {}
    with NextHops() as hops, socket.socket() as reserved:
        reserved.bind(("127.0.2.99", 0))  # one port for all: that of the route
        port = reserved.getsockname()[1]
        for number, mta in enumerate(mtas):
            hops.tcp(mta, f"127.0.2.{number + 1}", port)
        for number, domain in enumerate(domains):
            zone[domain, "MX"] = [f"10 mx.{domain}."]
            zone[f"mx.{domain}", "A"] = [f"127.0.2.{number % len(mtas) + 1}"]
        mx = f'mx = true\nport = {port}\nallow_private = true\n[dns]\nservers = ["{hops.dns(zone)}"]\n'
        config = configuration(tmp_path, extra=f'[[route]]\nname = "all"\ndomains = ["*"]\n{mx}')
        config = config.replace("routes = []\n", 'routes = ["all"]\nclients = ["127.0.0.0/8"]\n', 1)
        config = config.replace("routes = []\n", 'routes = ["all"]\n', 1)
        times: list[float] = []
        while len(times) < 3 and min(times, default=math.inf) >= 3:  # others may be busy on this machine
            with Gateway(config, tmp_path) as gateway, Caller(gateway.lmtp) as client:
                times.append(deliver(client, recipients))
    record("1,000 recipients in 300 domains at 30 hosts, s", [round(seconds, 2) for seconds in times])
    assert sum(len(mta.messages) for mta in mtas) == DOMAINS * len(times)
    assert sum(len(message.recipients) for mta in mtas for message in mta.messages) == 1000 * len(times)
    assert min(times) < 3


def deliver(client: Caller, recipients: Sequence[str]) -> float:
    """One message by LMTP to all of them, each of which must get it; the seconds from MAIL to the last outcome."""
    client.say(b"LHLO c\r\n")
    client.replies(2)
    began = time.monotonic()
    rcpts = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients).encode()
    client.say(b"MAIL FROM:<s@in.example>\r\n" + rcpts + b"DATA\r\n")
    answers = client.replies(len(recipients) + 2)
    assert [one for one in answers[:-1] if not one.startswith("250 ")] == []
    assert answers[-1].startswith("354 ")
    client.say(b"Subject: test\r\n\r\nhello\r\n.\r\n")
    outcomes = client.replies(len(recipients))
    assert [one for one in outcomes if not one.startswith("250 ")] == []
    return time.monotonic() - began


def test_a_large_message_takes_no_memory(tmp_path: Path, record: Record) -> None:
    line = b"%076d\r\n"
    block = b"".join(line % number for number in range(800))  # 62,400 octets
    count = 60_000_000 // len(block) + 1
    fast = ScriptedMTA("fast", keep=1000)
    slow = ScriptedMTA("slow", script=Script(body=(SlowReading(20_000_000),)), keep=1000)
    with NextHops() as hops:
        config = configuration(
            tmp_path,
            route("fast", hops.tcp(fast)),
            route("slow", hops.tcp(slow)),
            extra="[limits]\nmessage_size = 100_000_000\n",
        )
        with Gateway(config, tmp_path) as gateway, Caller(gateway.lmtp) as client:
            client.say(b"LHLO c\r\n")
            client.replies(2)
            for blocks in (1, count):  # the first message is for warming up
                client.say(b"MAIL FROM:<>\r\nRCPT TO:<u@fast.example>\r\nRCPT TO:<u@slow.example>\r\nDATA\r\n")
                assert [reply[:3] for reply in client.replies(4)] == ["250", "250", "250", "354"]
                gateway.forget_peak()
                before = gateway.memory()
                began = time.monotonic()
                for _ in range(blocks):
                    client.say(block)
                client.say(b".\r\n")
                assert client.replies(2) == ["250 2.0.0 taken"] * 2
                seconds = time.monotonic() - began
                growth = gateway.memory("VmHWM") - before
    for mta in (fast, slow):
        message = mta.messages[1]
        received = message.content[: message.content.index(line % 0)]
        assert received.startswith(b"Received: from c ")
        sent = hashlib.sha256(received)
        for _ in range(count):
            sent.update(block)
        assert message.sha256 == sent.hexdigest()
    record("message, MB", round(count * len(block) / 1e6, 1))
    record("time, s", round(seconds, 2))
    record("the process grew by, MiB at its peak", round(growth / MIB, 2))
    assert growth < 8 * MIB


def test_an_idle_session_is_cheap(tmp_path: Path, record: Record) -> None:
    warm, idle = 100, 1000
    config = configuration(tmp_path, route("a", "127.0.0.1:1"), extra="[limits]\nsessions = 2000\n")
    with many_descriptors(2 * (warm + idle)) as granted, contextlib.ExitStack() as stack:
        if not granted:
            pytest.skip("the system does not allow that many file descriptors")
        gateway = stack.enter_context(Gateway(config, tmp_path))
        gateway.limit_descriptors(2 * (warm + idle))
        clients: list[Caller] = []
        for count in (warm, idle):
            before = gateway.memory()
            for _ in range(count):
                clients.append(stack.enter_context(Caller(gateway.smtp)))
                clients[-1].say(b"EHLO client.example\r\n")
                assert clients[-1].replies(2)[1].startswith("250-")
        each = (gateway.memory() - before) / idle
        # They are idle, not dead.
        clients[0].say(b"NOOP\r\n")
        assert clients[0].reply() == "250 2.0.0 Fine"
    record("memory of an idle session, KiB", round(each / KIB, 2))
    assert each <= 16 * KIB


def test_sessions_that_are_broken_off_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setenv("TMPDIR", str(spool))
    a, b = ScriptedMTA("a"), ScriptedMTA("b", "lmtp")
    half = b"x" * 998 + b"\r\n"
    with NextHops() as hops:
        config = configuration(
            tmp_path,
            route("a", hops.tcp(a)),
            route("b", hops.tcp(b), protocol="lmtp"),
            route("c", "127.0.0.1:1"),
            extra="[limits]\nsessions_per_host = 30\n",
        )
        with Gateway(config, tmp_path) as gateway:
            at_rest = gateway.descriptors
            clients = [Caller(gateway.lmtp) for _ in range(30)]
            for client in clients:
                client.say(b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@a.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n")
                assert client.replies(6)[-1].startswith("354 ")
                client.say(half * 600)  # more than is kept in memory
            # 30 clients, 60 sessions with next hops, 30 files.
            eventually(lambda: gateway.descriptors >= at_rest + 120, "all bodies in files")
            most = gateway.descriptors
            for number, client in enumerate(clients):
                if number % 2:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.socket.close()
            gateway.wait_for(30, event="abandoned")
            eventually(lambda: gateway.descriptors == at_rest, "only the descriptors of before")
            eventually(lambda: a.open_sessions + b.open_sessions == 0, "no session at the next hops")
            assert list(spool.iterdir()) == []
            assert (a.messages, b.messages) == ([], [])
            record("descriptors before, with 30 open messages, after", f"{at_rest}, {most}, {gateway.descriptors}")
