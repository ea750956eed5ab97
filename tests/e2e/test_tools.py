"""Mail as other people's tools send and take it: swaks, and Postfix's smtp-source and smtp-sink."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from caller import Caller
from live import Gateway, NextHops, Route, Speaks, accepts, configuration, eventually, free_port, route

from mailgate.relay import outcome
from mailgate.relay.intake import NOT_RELAYED
from mailgate.testing import Script, ScriptedMTA

POSTFIX_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/libexec/postfix"])
SOURCE = shutil.which("smtp-source", path=POSTFIX_PATH)
SINK = shutil.which("smtp-sink", path=POSTFIX_PATH)
SWAKS = shutil.which("swaks")

needs_postfix = pytest.mark.skipif(SOURCE is None or SINK is None, reason="needs Debian's package postfix")
needs_swaks = pytest.mark.skipif(SWAKS is None, reason="needs Debian's package swaks")

TIMEOUT = 30
"""seconds for one run of a tool"""


@contextlib.contextmanager
def sink(*options: str) -> Iterator[str]:
    """smtp-sink with these options; its address."""
    assert SINK is not None
    port = free_port()
    user = ("-u", "postfix") if os.getuid() == 0 else ()
    with subprocess.Popen([SINK, *user, *options, f"127.0.0.1:{port}", "200"], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: accepts("127.0.0.1", port), f"smtp-sink {options}")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


# smtp-source to smtp-sink, and everything between them.


@dataclass(frozen=True)
class Site:
    """A gateway before an smtp-sink for each protocol, and a mail server whose messages can be looked at."""

    gateway: Gateway
    mta: ScriptedMTA


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tools")
    mta = ScriptedMTA("a", script=Script(recipients={"nobody@a.example": "550 5.1.1 unknown here"}))
    with contextlib.ExitStack() as stack:
        hops = stack.enter_context(NextHops())
        routes = [route("a", hops.tcp(mta))]
        if SINK is not None:
            routes.append(route("smtp", stack.enter_context(sink())))
            routes.append(route("lmtp", stack.enter_context(sink("-L")), protocol="lmtp"))
        gateway = stack.enter_context(Gateway(configuration(directory, *routes), directory))
        yield Site(gateway, mta)


def source(gateway: Gateway, protocol: Speaks, domain: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run smtp-source; it fails at the first reply that it does not like."""
    assert SOURCE is not None
    host, port = gateway.at(protocol)
    speak = ("-L",) if protocol == "lmtp" else ()
    command = [SOURCE, *speak, *options, "-f", "s@in.example", "-t", f"u@{domain}", f"{host}:{port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


WAYS: list[tuple[Speaks, Speaks]] = [("smtp", "smtp"), ("smtp", "lmtp"), ("lmtp", "smtp"), ("lmtp", "lmtp")]
"""our client's protocol and our next hop's"""

RUNS = {
    "ten at a time": (200, 1, ["-s", "10"]),
    "each to another recipient": (200, 1, ["-s", "10", "-N"]),
    "many in one session": (200, 1, ["-s", "10", "-d"]),
    "large": (20, 1, ["-s", "4", "-l", "1000000"]),
    "many recipients": (10, 50, ["-s", "2", "-r", "50"]),
}
"""messages, recipients of each, and the options"""

CASES = [
    pytest.param(*way, *run, id=f"{name}, {way[0]} to {way[1]}")
    for name, run in RUNS.items()
    for way in WAYS
    # Over SMTP the second recipient of an LMTP next hop has to come again: see the test below this one.
    if not (name == "many recipients" and way == ("smtp", "lmtp"))
]


@needs_postfix
@pytest.mark.parametrize(("protocol", "next_hop", "messages", "recipients", "options"), CASES)
def test_smtp_source(
    site: Site, protocol: Speaks, next_hop: Speaks, messages: int, recipients: int, options: Sequence[str]
) -> None:
    before = len(site.gateway.lines(event="delivered"))
    done = source(site.gateway, protocol, f"{next_hop}.example", "-m", str(messages), *options)
    assert (done.returncode, done.stderr) == (0, "")
    lines = site.gateway.wait_for(before + messages, event="delivered")[before:]
    assert len(lines) == messages
    assert all(len(line["outcomes"]) == recipients for line in lines)


@needs_postfix
def test_smtp_source_with_two_recipients_of_an_lmtp_next_hop(site: Site) -> None:
    done = source(site.gateway, "smtp", "lmtp.example", "-m", "1", "-r", "2")
    assert (done.returncode, done.stderr.split(": ")[1:3]) == (1, ["fatal", "recipient rejected"])
    assert ": 452 4.5.3 Too many recipients for this next hop" in done.stderr


# swaks


@needs_swaks
@pytest.mark.parametrize("pipelining", [(), ("--pipeline",)], ids=["one by one", "pipelined"])
@pytest.mark.parametrize("protocol", ["SMTP", "ESMTP", "LMTP"])
def test_swaks(site: Site, protocol: str, pipelining: tuple[str, ...]) -> None:
    site.mta.messages.clear()
    done = swaks(site, protocol, "u@a.example,v@a.example", *pipelining)
    assert done.returncode == 0, done.stdout
    (message,) = site.mta.messages
    assert message.taken == ("u@a.example", "v@a.example")
    assert b"\r\nSubject: test " in message.content


@needs_swaks
@pytest.mark.parametrize("pipelining", [(), ("--pipeline",)], ids=["one by one", "pipelined"])
@pytest.mark.parametrize("protocol", ["ESMTP", "LMTP"])
@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("nobody@a.example", "550 5.1.1 unknown here"),
        ("u@nowhere.example", str(NOT_RELAYED)),
    ],
    ids=["by the next hop", "by us"],
)
def test_swaks_is_refused(site: Site, protocol: str, pipelining: tuple[str, ...], recipient: str, reply: str) -> None:
    done = swaks(site, protocol, recipient, *pipelining)
    assert done.returncode == 24  # no recipient was accepted
    assert reply in done.stdout


def swaks(site: Site, protocol: str, to: str, *options: str) -> subprocess.CompletedProcess[str]:
    assert SWAKS is not None
    host, port = site.gateway.at("lmtp" if protocol == "LMTP" else "smtp")
    where = ["--server", host, "--port", str(port), "--protocol", protocol]
    command = [SWAKS, *where, "--from", "s@in.example", "--to", to, "--timeout", "10s", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


# Next hops that misbehave as smtp-sink can.

NO_PATH = str(outcome.NO_PATH)
LOST = str(outcome.SESSION_LOST)
UNKNOWN = str(outcome.OUTCOME_UNKNOWN)
SOFT = "450 4.3.0 Error: command failed"
HARD = "500 5.3.0 Error: command failed"
DELIVERED = "250 2.0.0 Ok"

SINKS: dict[str, tuple[Speaks, tuple[str, ...], str]] = {
    "closes on connect": ("smtp", ("-q", "CONNECT"), NO_PATH),
    "closes at EHLO": ("smtp", ("-q", "EHLO"), NO_PATH),
    "closes at LHLO": ("lmtp", ("-q", "LHLO"), NO_PATH),
    "closes at MAIL": ("smtp", ("-q", "MAIL"), LOST),
    "closes at RCPT": ("smtp", ("-q", "RCPT"), LOST),
    "closes at DATA": ("smtp", ("-q", "DATA"), LOST),
    "closes at the dot": ("smtp", ("-q", "."), UNKNOWN),
    "closes at QUIT": ("smtp", ("-q", "QUIT"), DELIVERED),
    "closes at MAIL, LMTP": ("lmtp", ("-q", "MAIL"), LOST),
    "closes at RCPT, LMTP": ("lmtp", ("-q", "RCPT"), LOST),
    "closes at DATA, LMTP": ("lmtp", ("-q", "DATA"), LOST),
    "closes at the dot, LMTP": ("lmtp", ("-q", "."), UNKNOWN),
    "421 on connect": ("smtp", ("-Q", "CONNECT"), NO_PATH),
    "421 at EHLO": ("smtp", ("-Q", "EHLO"), NO_PATH),
    "421 at LHLO": ("lmtp", ("-Q", "LHLO"), NO_PATH),
    "421 at MAIL": ("smtp", ("-Q", "MAIL"), LOST),
    "421 at RCPT": ("smtp", ("-Q", "RCPT"), LOST),
    "421 at DATA": ("smtp", ("-Q", "DATA"), LOST),
    "421 at the dot": ("smtp", ("-Q", "."), "451 4.0.0 Server closing connection"),
    "421 at QUIT": ("smtp", ("-Q", "QUIT"), DELIVERED),
    "421 at the dot, LMTP": ("lmtp", ("-Q", "."), "451 4.0.0 Server closing connection"),
    "4xx on connect": ("smtp", ("-r", "CONNECT"), NO_PATH),
    "4xx at EHLO": ("smtp", ("-r", "EHLO"), NO_PATH),
    "4xx at MAIL": ("smtp", ("-r", "MAIL"), SOFT),
    "4xx at RCPT": ("smtp", ("-r", "RCPT"), SOFT),
    "4xx at DATA": ("smtp", ("-r", "DATA"), SOFT),
    "4xx at the dot": ("smtp", ("-r", "."), SOFT),
    "4xx at the dot, LMTP": ("lmtp", ("-r", "."), SOFT),
    "5xx on connect": ("smtp", ("-f", "CONNECT"), NO_PATH),
    "5xx at EHLO": ("smtp", ("-f", "EHLO"), DELIVERED),
    "5xx at EHLO and HELO": ("smtp", ("-f", "EHLO,HELO"), NO_PATH),
    "5xx at LHLO": ("lmtp", ("-f", "LHLO"), NO_PATH),
    "5xx at MAIL": ("smtp", ("-f", "MAIL"), HARD),
    "5xx at RCPT": ("smtp", ("-f", "RCPT"), HARD),
    "5xx at DATA": ("smtp", ("-f", "DATA"), HARD),
    "5xx at the dot": ("smtp", ("-f", "."), HARD),
    "5xx at the dot, LMTP": ("lmtp", ("-f", "."), HARD),
    "5xx at QUIT": ("smtp", ("-f", "QUIT"), DELIVERED),
    "550 behind 354, reads no more": ("smtp", ("-A", "0"), "550 "),
    "no 8BITMIME": ("smtp", ("-8",), DELIVERED),
    "no PIPELINING": ("smtp", ("-p",), DELIVERED),
    "no enhanced codes": ("smtp", ("-E",), DELIVERED),
    "no ESMTP": ("smtp", ("-e",), DELIVERED),
    "a PIX": ("smtp", ("-P",), DELIVERED),
    "slow at DATA": ("smtp", ("-w", "1"), DELIVERED),
    "slow at RCPT": ("smtp", ("-W", "RCPT:1"), DELIVERED),
    "slow to read": ("smtp", ("-H", "1", "-T", "4096"), DELIVERED),
    "speaks SMTP where LMTP is expected": ("lmtp", (), NO_PATH),
    "speaks LMTP where SMTP is expected": ("smtp", ("-L",), NO_PATH),
}
"""by name: what the route believes it speaks, the sink's options, and the last reply that the client hears"""

WRONG_PROTOCOL = "speaks SMTP where LMTP is expected"


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("sinks")
    with contextlib.ExitStack() as stack:
        routes: list[Route] = []
        for number, (name, (protocol, options, _)) in enumerate(SINKS.items()):
            speaks = ("-L",) if protocol == "lmtp" and name != WRONG_PROTOCOL else ()
            address = stack.enter_context(sink(*speaks, *options))
            routes.append(route(f"h{number}", address, protocol=protocol))
        yield stack.enter_context(Gateway(configuration(directory, *routes), directory))


@needs_postfix
@pytest.mark.parametrize("name", SINKS)
def test_smtp_sink_that_misbehaves(misbehaving: Gateway, name: str) -> None:
    protocol, _, told = SINKS[name]
    number = list(SINKS).index(name)
    with Caller(misbehaving.at(protocol)) as client:
        assert last_reply(client, protocol, f"u@h{number}.example").startswith(told)
        # Whatever it was, the session goes on.
        client.say(b"RSET\r\n")
        assert client.reply() == "250 2.0.0 Reset"


def last_reply(client: Caller, protocol: Speaks, recipient: str) -> str:
    """The reply that a transaction ends with: a refusal, or what is said behind the data."""
    hello = "LHLO" if protocol == "lmtp" else "EHLO"
    assert client.reply().startswith("220 ")
    for command in (f"{hello} c", "MAIL FROM:<s@in.example>", f"RCPT TO:<{recipient}>", "DATA"):
        client.say(f"{command}\r\n".encode())
        reply = client.reply()
        if reply[0] not in "23":
            return reply
    client.say(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 4000 + b".\r\n")
    return client.reply()
