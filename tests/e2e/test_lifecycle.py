"""How `mailgate serve` starts, drains and leaves, and what it does when the system has nothing left to give."""

from __future__ import annotations

import contextlib
import functools
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
import trio
from caller import Caller
from live import MAILGATE, PATIENCE, Gateway, NextHops, accepts, configuration, eventually, route
from redis_server import RedisServer

from mailgate.testing import Delay, Script, ScriptedMTA

GOODBYE = "421 4.3.2 gw.example Shutting down"
ENVELOPE = b"EHLO c\r\nMAIL FROM:<s@in.example>\r\nRCPT TO:<u@a.example>\r\n"
QUICKLY = 3.0
"""seconds; a drain has 30"""


def assert_goodbye(client: Caller) -> None:
    """It hears 421, and nothing more."""
    assert client.reply().startswith(GOODBYE)
    assert client.rest() == ""


def serve(config: Path) -> subprocess.CompletedProcess[str]:
    """Run a gateway that is not going to serve."""
    command = [*MAILGATE, "serve", "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_an_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(configuration(tmp_path, route("a", "127.0.0.1:1")).replace("127.0.0.1:0", address, 1))
        done = serve(config)
    assert done.returncode == 1
    assert done.stderr == (
        f'mailgate: listener "from-outside": cannot listen on {address}: Address already in use; '
        "stop what uses it, or change `bind`\n"
    )


@pytest.mark.parametrize(
    ("bind", "why"),
    [
        ("192.0.2.1:2525", "Cannot assign requested address; change `bind` to an address of this machine"),
        ("unix:/no/such/directory/x", "No such file or directory; make its directory, or change `bind`"),
    ],
    ids=["not this machine's", "no directory"],
)
def test_an_address_that_cannot_be_listened_on(tmp_path: Path, bind: str, why: str) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(configuration(tmp_path, route("a", "127.0.0.1:1")).replace("127.0.0.1:0", bind, 1))
    done = serve(config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f'mailgate: listener "from-outside": cannot listen on {bind}: {why}\n'


@pytest.mark.parametrize("others", ["another one listens", "left behind"])
def test_the_file_of_a_unix_socket_is_replaced_only_if_nobody_listens(tmp_path: Path, others: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "lmtp.sock"))
        config = configuration(tmp_path, route("a", "127.0.0.1:1"))
        if others == "left behind":
            with Gateway(config, tmp_path) as gateway, socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "lmtp.sock"))
                assert client.recv(3) == b"220"
                assert len(gateway.lines(event="listening")) == 3
            assert not (tmp_path / "lmtp.sock").exists()
        else:
            other.listen()
            (tmp_path / "gateway.toml").write_text(config)
            done = serve(tmp_path / "gateway.toml")
            assert done.returncode == 1
            assert f"cannot listen on unix:{tmp_path}/lmtp.sock: Address already in use" in done.stderr


def test_a_bad_configuration_is_status_2_and_a_line_for_each_problem(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(configuration(tmp_path, route("a", "mx:no-port")).replace("hostname", "hostnmae"))
    done = serve(config)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{config}: ") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_sessions_between_transactions_hear_421_at_once(tmp_path: Path, number: signal.Signals) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)))
        with Gateway(config, tmp_path) as gateway, contextlib.ExitStack() as stack:
            clients = []
            for said in (b"", b"EHLO c\r\n", ENVELOPE + b"RSET\r\n"):
                client = stack.enter_context(Caller(gateway.smtp))
                client.say(said)
                client.replies(1 + said.count(b"\n"))
                clients.append(client)
            told = time.monotonic()
            gateway.process.send_signal(number)
            assert [client.reply()[: len(GOODBYE)] for client in clients] == [GOODBYE] * 3
            assert [client.rest() for client in clients] == [""] * 3
            assert gateway.process.wait(PATIENCE) == 0
            assert time.monotonic() - told < QUICKLY
            gateway.wait_for(event="stopped")
            assert [line["event"] for line in gateway.lines() if "id" not in line][-2:] == ["draining", "stopped"]


def test_a_transaction_under_way_ends_well(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)))
        with Gateway(config, tmp_path) as gateway, Caller(gateway.smtp) as client:
            client.say(ENVELOPE)
            client.replies(4)
            gateway.process.terminate()
            eventually(lambda: not accepts(*gateway.smtp), "nobody is let in any more")
            client.say(b"RCPT TO:<v@a.example>\r\nDATA\r\n")
            assert client.replies(2) == ["250 2.1.5 recipient ok", "354 End data with <CR><LF>.<CR><LF>"]
            client.say(b"hello\r\n.\r\n")
            assert client.reply() == "250 2.0.0 taken"
            assert_goodbye(client)
            assert gateway.process.wait(PATIENCE) == 0
    assert [message.taken for message in mta.messages] == [("u@a.example", "v@a.example")]


def test_a_transaction_that_has_committed_runs_to_its_outcome(tmp_path: Path) -> None:
    mta = ScriptedMTA("a", script=Script(dot=Delay(0.5)))
    with NextHops() as hops:
        # The drain is over before the next hop answers.
        config = configuration(tmp_path, route("a", hops.tcp(mta)), extra="[timeouts]\ndrain = 0.1\n")
        with Gateway(config, tmp_path) as gateway, Caller(gateway.smtp) as client:
            client.say(ENVELOPE + b"DATA\r\n")
            client.replies(5)
            client.say(b"hello\r\n.\r\n")
            gateway.wait_for(event="committing")
            gateway.process.terminate()
            assert client.reply() == "250 2.0.0 taken"
            assert_goodbye(client)
            assert gateway.process.wait(PATIENCE) == 0


def test_a_transaction_that_does_not_commit_in_time_is_given_up(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)), extra="[timeouts]\ndrain = 0.1\n")
        with Gateway(config, tmp_path) as gateway, Caller(gateway.smtp) as client:
            client.say(ENVELOPE + b"DATA\r\n")
            client.replies(5)
            gateway.process.terminate()
            assert_goodbye(client)
            assert gateway.process.wait(PATIENCE) == 0
    assert (mta.messages, mta.unfinished) == ([], 1)


def test_a_second_signal_leaves_at_once_with_status_1(tmp_path: Path) -> None:
    mta = ScriptedMTA("a", script=Script(dot=Delay(2 * PATIENCE)))
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)))
        with Gateway(config, tmp_path, may_fail=True) as gateway, Caller(gateway.smtp) as client:
            client.say(ENVELOPE + b"DATA\r\n")
            client.replies(5)
            client.say(b"hello\r\n.\r\n")
            gateway.wait_for(event="committing")
            gateway.process.terminate()
            gateway.wait_for(event="draining")
            told = time.monotonic()
            gateway.process.terminate()
            assert gateway.process.wait(PATIENCE) == 1
            assert time.monotonic() - told < QUICKLY
            assert not client.rest().startswith("2")
    draining, leaving, outcome, stopped = gateway.lines()[-4:]
    assert [line["event"] for line in (draining, leaving, stopped)] == ["draining", "leaving_at_once", "stopped"]
    assert outcome["outcomes"][0].startswith("u@a.example unknown: 451 4.4.2 ")
    assert gateway.lines(level="error") == []


def deliver_untold(gateway: Gateway) -> None:
    """A message whose client is gone before it can hear that it was delivered."""
    before = len(gateway.lines(event="committing"))
    with Caller(gateway.smtp) as client:
        client.say(ENVELOPE + b"DATA\r\n")
        client.replies(5)
        client.say(b"hello\r\n.\r\n")
        gateway.wait_for(before + 1, event="committing")
    gateway.wait_for(before + 1, event="delivered", untold=1)


def test_a_restart_hands_the_ledger_over(tmp_path: Path) -> None:
    mta = ScriptedMTA("a", script=Script(dot=Delay(0.5)))
    file = tmp_path / "ledger.json"
    with NextHops() as hops:
        config = f'state_dir = "{tmp_path}"\n{configuration(tmp_path, route("a", hops.tcp(mta)))}'
        with Gateway(config, tmp_path) as gateway:
            deliver_untold(gateway)
            assert not file.exists()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with Gateway(config, tmp_path) as gateway, Caller(gateway.smtp) as client:
            (line,) = gateway.wait_for(event="ledger_taken_up")
            assert (line["entries"], line["put_off"]) == (1, 0)
            assert not file.exists()
            client.reply()
            assert _delivers(client)
    assert len(mta.messages) == 1


def test_a_crash_leaves_no_ledger_behind(tmp_path: Path) -> None:
    mta = ScriptedMTA("a", script=Script(dot=Delay(0.5)))
    with NextHops() as hops:
        config = f'state_dir = "{tmp_path}"\n{configuration(tmp_path, route("a", hops.tcp(mta)))}'
        with Gateway(config, tmp_path):
            pass
        with Gateway(config, tmp_path, may_fail=True) as gateway:
            gateway.wait_for(event="ledger_taken_up", entries=0)
            deliver_untold(gateway)
            gateway.process.kill()
        with Gateway(config, tmp_path) as gateway, Caller(gateway.smtp) as client:
            (line,) = gateway.wait_for(event="ledger_empty")
            assert (line["level"], line["file"]) == ("info", str(tmp_path / "ledger.json"))
            client.reply()
            assert _delivers(client)
    assert len(mta.messages) == 2


def test_a_shared_ledger_is_known_to_another_gateway_and_its_loss_costs_no_mail(tmp_path: Path) -> None:
    mta = ScriptedMTA("a", script=Script(dot=Delay(0.5)))
    here, there = tmp_path / "1", tmp_path / "2"
    server = RedisServer(tmp_path, "--requirepass", "s3cret")
    with NextHops() as hops, contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        trio.run(functools.partial(server.start, password="s3cret"))
        url = server.url.replace("://", "://:s3cret@")
        hop = route("a", hops.tcp(mta))
        gateways = []
        for directory in (here, there):
            directory.mkdir()
            config = configuration(directory, hop, extra=f'[ledger]\nurl = "{url}"\n')
            gateways.append(stack.enter_context(Gateway(config, directory)))
        one, other = gateways
        deliver_untold(one)
        with Caller(other.smtp) as client:
            client.reply()
            assert _delivers(client)
        other.wait_for(event="delivered_before", to=["u@a.example"])
        assert len(mta.messages) == 1
        server.kill()
        deliver_untold(one)
        one.wait_for(event="possible_duplicate", to=["u@a.example"])
        assert len(mta.messages) == 2
    assert "s3cret" not in one.log + other.log


def test_without_descriptors_it_says_so_and_goes_on(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta)))
        with Gateway(config, tmp_path, may_fail=True) as gateway:
            gateway.limit_descriptors(gateway.descriptors + 3)
            callers = [Caller(gateway.smtp) for _ in range(6)]
            assert [caller.reply()[:3] for caller in callers[:3]] == ["220"] * 3
            failure, *_ = gateway.wait_for(event="accept_failed")
            assert (failure["level"], failure["listener"]) == ("error", "from-outside")
            assert failure["why"] == "Too many open files"
            callers[0].say(ENVELOPE)
            assert callers[0].replies(3)[-1].startswith("451 4.3.2 ")
            for caller in callers[:3]:
                caller.socket.close()
            assert [caller.reply()[:3] for caller in callers[3:]] == ["220"] * 3
            for caller in callers[4:]:
                caller.socket.close()
            eventually(lambda: _delivers(callers[3]), "a transaction")
            callers[3].socket.close()
            gateway.process.terminate()
            assert gateway.process.wait(PATIENCE) == 0
    assert {line["event"] for line in gateway.lines(level="error")} == {"accept_failed"}


def _delivers(client: Caller) -> bool:
    """Whether a transaction goes well, on an open session."""
    client.say(ENVELOPE)
    _, _, recipient = client.replies(3)
    if not recipient.startswith("250"):
        return False
    client.say(b"DATA\r\n")
    assert client.reply().startswith("354")
    client.say(b"hello\r\n.\r\n")
    return client.reply().startswith("250")
