"""What strangers send: each gets a clear reply, nothing is hurt by it, and the next client is served.

Every test here ends with a message that is delivered as it was sent; at the end the gateway's log has no error.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from caller import Caller
from live import MESSAGE, PATIENCE, Gateway, NextHops, Speaks, configuration, eventually, route

from mailgate.protocol.framing import Flaw
from mailgate.protocol.server import FLAW_REPLIES
from mailgate.testing import Script, ScriptedMTA, Silence

LIMITS = """
[limits]
message_size = 100_000
recipients = 5

[timeouts]
idle = 0.05
"""
IMPATIENT = f"{LIMITS}command = 0.5\nbody = 0.5\n"

TOO_LONG = "500 5.5.2 Line too long"
SYNTAX = "500 5.5.2 Syntax error: "
UNKNOWN = "500 5.5.1 Command unrecognized"
ORDER = "503 5.5.1 Bad sequence of commands: "
BAD_PATH = "Bad address syntax: want <local-part@domain>"
GONE_ON = "250 2.0.0 Fine"
"""what the NOOP behind a bad command is told"""


@dataclass(frozen=True)
class Site:
    """Gateways before the same next hop: one repairs a bare LF, one refuses it, one does not wait for clients."""

    repairs: Gateway
    refuses: Gateway
    impatient: Gateway
    mta: ScriptedMTA
    at_rest: int
    """file descriptors of the first one without any session"""

    def delivered(self) -> list[bytes]:
        """What the next hop got in this test, without our line on top."""
        return [message.content.split(b"\r\n", 4)[-1] for message in self.mta.messages]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    mta = ScriptedMTA("a")
    one, two, three = (tmp_path_factory.mktemp("gateway") for _ in range(3))
    with NextHops() as hops:
        to_a = route("a", hops.tcp(mta))
        with (
            Gateway(configuration(one, to_a, extra=LIMITS), one) as repairs,
            Gateway(configuration(two, to_a, extra=LIMITS, bare_newline="refuse"), two) as refuses,
            Gateway(configuration(three, to_a, extra=IMPATIENT), three) as impatient,
        ):
            yield Site(repairs, refuses, impatient, mta, repairs.descriptors)


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    eventually(lambda: running.mta.open_sessions == 0, "the end of the sessions of earlier tests")
    running.mta.messages.clear()
    yield running
    running.mta.messages.clear()
    for gateway in (running.repairs, running.refuses, running.impatient):
        with smtplib.SMTP(*gateway.smtp, "client.example", timeout=PATIENCE) as client:
            assert client.sendmail("s@in.example", "u@a.example", MESSAGE) == {}
    assert running.delivered() == [MESSAGE.encode()] * 3


HELLO = {"smtp": b"EHLO c\r\n", "lmtp": b"LHLO c\r\n"}
MAIL = b"MAIL FROM:<s@in.example>\r\n"
RCPT = b"RCPT TO:<u@a.example>\r\n"
"""its answer is 250 2.1.5"""


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"NOOP " + b"x" * 3000, [TOO_LONG]),
        (b"x" * 200_000, [TOO_LONG]),
        (b"x" * 3000 + b"\r\n" + b"y" * 3000, [TOO_LONG] * 2),
        (b"RCPT TO:<u\x00@a.example>", [SYNTAX + "control character in a command"]),
        (b"NOOP \x1b[2J", [SYNTAX + "control character in a command"]),
        (b"NOOP one\rtwo", [SYNTAX + "control character in a command"]),
        (b"NOOP \xff\xfe", [SYNTAX + "neither ASCII nor UTF-8"]),
        (b"MAIL FROM:<s\xc3\xbc@in.example>", ["553 5.6.7 Non-ASCII address without SMTPUTF8 (RFC 6531)"]),
        (b"HACK", [UNKNOWN]),
        (b"", [UNKNOWN]),
        (b"NOOP\r\nHACK\r\nNOOP", ["250 2.0.0 Fine", UNKNOWN, "250 2.0.0 Fine"]),
        (b"AUTH PLAIN AGEAYg==", ["502 5.5.1 Command not implemented"]),
        (b"MAIL", ["501 5.1.7 Syntax: FROM:<address>"]),
        (b"MAIL FROM:s@in.example", ["501 5.1.7 Syntax: FROM:<address>"]),
        (b"MAIL FROM:<s@@in.example>", [f"501 5.1.7 {BAD_PATH}"]),
        (b"MAIL FROM:<s>", [f"501 5.1.7 {BAD_PATH}"]),
        (b"MAIL FROM:<s@[300.1.1.1]>", ["501 5.1.7 Bad address literal"]),
        (MAIL + b"RCPT TO:u@a.example", ["250 2.1.0 Sender ok", "501 5.1.3 Syntax: TO:<address>"]),
        (MAIL + b"RCPT TO:<>", ["250 2.1.0 Sender ok", f"501 5.1.3 {BAD_PATH}"]),
        (MAIL + b"RCPT TO:<u@a_.example.>", ["250 2.1.0 Sender ok", f"501 5.1.3 {BAD_PATH}"]),
        (MAIL + b"RCPT TO:<u@a.example> NOTIFY=NEVER", ["250 2.1.0 Sender ok", "555 5.5.4 RCPT parameter not ..."]),
        (b"MAIL FROM:<s@in.example> FOO=BAR", ["555 5.5.4 MAIL parameter not recognized: FOO"]),
        (b"MAIL FROM:<s@in.example> SIZE=100001", ["552 5.3.4 Message exceeds the size limit"]),
        (b"MAIL FROM:<s@in.example> SIZE=lots", ["501 5.5.4 Syntax: SIZE=octets"]),
        (b"MAIL FROM:<s@in.example> BODY=9BIT", ["501 5.5.4 Syntax: BODY=7BIT or BODY=8BITMIME"]),
        (b"RCPT TO:<u@a.example>", [ORDER + "say MAIL first"]),
        (b"DATA", [ORDER + "say MAIL first"]),
        (MAIL + b"DATA", ["250 2.1.0 Sender ok", ORDER + "this transaction has no valid recipient yet"]),
        (MAIL + MAIL, ["250 2.1.0 Sender ok", ORDER + "this transaction has no valid recipient yet", UNKNOWN]),
        (MAIL + RCPT + MAIL + b"RSET", ["250 2.1.0 ...", "250 2.1.5 ...", ORDER + "...", "250 2.0.0 Reset"]),
        (
            MAIL + RCPT * 7 + b"RSET",
            ["250 2.1.0 ...", *["250 2.1.5 ..."] * 5, *["452 4.5.3 Too many recipients, ..."] * 2, "250 2.0.0 Reset"],
        ),
    ],
    ids=[
        "overlong",
        "very overlong",
        "two overlong",
        "NUL",
        "ESC",
        "CR within",
        "not UTF-8",
        "8-bit address",
        "unknown verb",
        "empty line",
        "between good ones",
        "not implemented",
        "MAIL alone",
        "MAIL without brackets",
        "two at signs",
        "no domain",
        "bad literal",
        "RCPT without brackets",
        "RCPT null",
        "RCPT bad domain",
        "RCPT parameter",
        "MAIL parameter",
        "SIZE too big",
        "SIZE no number",
        "BODY unknown",
        "RCPT before MAIL",
        "DATA before MAIL",
        "DATA before RCPT",
        "MAIL twice",
        "MAIL behind RCPT",
        "too many recipients",
    ],
)
def test_a_bad_command_is_answered_and_the_session_goes_on(
    site: Site, protocol: Speaks, said: bytes, told: list[str]
) -> None:
    with Caller(site.repairs.at(protocol)) as client:
        client.say(HELLO[protocol])
        client.replies(2)
        client.say(said + b"\r\nNOOP\r\nQUIT\r\n")
        replies = client.replies(len(told) + 2)
        assert len(replies) == len(told) + 2
        for got, wanted in zip(replies, [*told, GONE_ON, "221 2.0.0 Bye"], strict=True):
            assert got.startswith(wanted.removesuffix("..."))
        assert client.rest() == ""
    assert site.mta.messages == []


@pytest.mark.parametrize(
    ("protocol", "said", "told"),
    [
        ("smtp", b"MAIL FROM:<s@in.example>", ORDER + "say EHLO first"),
        ("lmtp", b"MAIL FROM:<s@in.example>", ORDER + "say LHLO first"),
        ("lmtp", b"EHLO c", "500 5.5.1 Command unrecognized: LHLO is spoken here"),
        ("lmtp", b"HELO c", "500 5.5.1 Command unrecognized: LHLO is spoken here"),
        ("smtp", b"LHLO c", "500 5.5.1 Command unrecognized: EHLO is spoken here"),
        ("smtp", b"EHLO", "501 5.5.4 Syntax: EHLO hostname"),
    ],
)
def test_before_the_hello(site: Site, protocol: Speaks, said: bytes, told: str) -> None:
    with Caller(site.repairs.at(protocol)) as client:
        client.say(said + b"\r\nQUIT\r\n")
        assert client.replies(3)[1:] == [told, "221 2.0.0 Bye"]


def test_the_21st_bad_command_ends_the_session(site: Site) -> None:
    with Caller(site.repairs.smtp) as client:
        client.say(b"EHLO c\r\n" + b"HACK\r\n" * 30)
        replies = client.replies_to("421")
        assert replies[2:] == [UNKNOWN] * 20 + ["421 4.7.0 gw.example Too many bad commands, closing"]
        assert client.rest() == ""


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: gw.example\r\nUser-Agent: scanner/1.0\r\nAccept: */*\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
        b"\n" * 1_000_000,
        b"\r\n" * 500_000,
        b"\x00" * 1_000_000,
        b"\r" * 1_000_000,
        bytes(range(256)) * 4000,
        b"EHLO c\r\n" * 5000,
        b"\x04\x01\x00\x19\x7f\x00\x00\x01\x00",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<policy-file-request/>\x00",
    ],
    ids=["HTTP", "TLS", "LFs", "CRLFs", "NULs", "CRs", "all bytes", "5,000 EHLOs", "SOCKS", "SSH", "Flash"],
)
def test_who_takes_it_for_something_else_is_told_and_sent_away(site: Site, said: bytes) -> None:
    with Caller(site.impatient.smtp) as by_smtp, Caller(site.impatient.lmtp) as by_lmtp:
        for client in (by_smtp, by_lmtp):
            client.say(said)
        for client in (by_smtp, by_lmtp):
            greeting, *replies, last = client.replies_to("421")
            assert greeting.startswith("220 ")
            assert {reply[:3] for reply in replies} <= {"250", "500"}
            assert last.startswith(("421 4.7.0 ", "421 4.4.2 "))  # too many, or no whole line in time


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"EHLO",
        b"EHLO c\r\n" + MAIL,
        b"EHLO c\r\n" + MAIL + RCPT,
        b"EHLO c\r\n" + MAIL + RCPT + b"DATA\r\nSubject: cut short\r\n\r\nhello\r\n",
        b"EHLO c\r\n" + MAIL + RCPT + b"DATA\r\nSubject: cut short\r\n\r\nhello\r\n.",
        b"EHLO c\r\n" + MAIL + RCPT + b"DATA\r\nhello\r\n.\r",
    ],
    ids=["connected", "half a command", "MAIL", "RCPT", "cut in the body", "cut at the dot", "cut at the last CR"],
)
def test_who_leaves_at_any_moment_leaves_nothing(site: Site, said: bytes, how: str) -> None:
    with Caller(site.repairs.smtp) as client:
        # A port scanner does not even wait for the greeting.
        client.say(said)
        if how == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half-close":
            client.socket.shutdown(socket.SHUT_WR)
            replies = client.replies(10)
            assert not any(reply.startswith("250 2.0.0") for reply in replies)
    eventually(lambda: site.repairs.descriptors == site.at_rest, "the end of the session")
    assert site.mta.messages == []


def test_who_speaks_before_the_greeting_is_served(site: Site) -> None:
    with Caller(site.repairs.smtp) as client:
        client.say(b"EHLO c\r\n" + MAIL + RCPT + b"DATA\r\n")
        assert [reply[:3] for reply in client.replies(5)] == ["220", "250", "250", "250", "354"]
        client.say(b"early\r\n.\r\nQUIT\r\n")
        assert client.replies(2) == ["250 2.0.0 taken", "221 2.0.0 Bye"]
    assert site.delivered() == [b"early\r\n"]


@pytest.mark.parametrize("said", [b"", b"EHLO c\r\nNO", b"EHLO c\r\n" + MAIL + RCPT + b"DATA\r\nhello"])
def test_who_is_silent_is_sent_away(site: Site, said: bytes) -> None:
    with Caller(site.impatient.smtp) as client:
        client.say(said)
        assert client.replies_to("421")[-1].startswith("421 4.4.2 gw.example Timeout")
    assert site.mta.messages == []


@pytest.mark.parametrize("host", ["that is slow", "that is not ours"])
def test_recipients_without_end_take_no_memory(tmp_path: Path, host: str) -> None:
    slow = ScriptedMTA("slow", script=Script(greeting=Silence()))
    rcpt = b"RCPT TO:<u@slow.example>\r\n" if host == "that is slow" else b"RCPT TO:<u@other.example>\r\n"
    with NextHops() as hops:
        config = configuration(tmp_path, route("slow", hops.tcp(slow)), extra="[timeouts]\ndrain = 0.1\n")
        with Gateway(config, tmp_path) as gateway, Caller(gateway.smtp) as client:
            client.say(HELLO["smtp"] + MAIL)
            client.replies(3)
            before = gateway.memory()
            client.socket.settimeout(1)
            with contextlib.suppress(TimeoutError):  # it takes no more, which is as good
                for _ in range(20 if host == "that is not ours" else 300):
                    client.socket.sendall(rcpt * 1000)
                    if host == "that is not ours":
                        client.replies(1000)
            assert gateway.memory() - before < 4 * 1024 * 1024


# What must not end a message, or begin another one

SMUGGLED = b"MAIL FROM:<evil@in.example>\r\nRCPT TO:<u@a.example>\r\nDATA\r\nevil\r\n.\r\n"
ENDS: dict[str, tuple[bytes, bytes | Flaw, bytes | Flaw]] = {
    "LF . LF": (b"\n.\n", b"\r\n.\r\n", Flaw.BARE_LF),
    "LF . CRLF": (b"\n.\r\n", b"\r\n.\r\n", Flaw.BARE_LF),
    "CRLF . LF": (b"\r\n.\n", b"\r\n\r\n", Flaw.BARE_LF),  # its dot was stuffing
    "CR . CR": (b"\r.\r", Flaw.BARE_CR, Flaw.BARE_CR),
    "CR . CRLF": (b"\r.\r\n", Flaw.BARE_CR, Flaw.BARE_CR),
    "CRLF . CR": (b"\r\n.\r", Flaw.BARE_CR, Flaw.BARE_CR),
    "CR . LF": (b"\r.\n", Flaw.BARE_CR, Flaw.BARE_CR),
    "LF . CR": (b"\n.\r", Flaw.BARE_CR, Flaw.BARE_LF),
    "CRCRLF . CRCRLF": (b"\r\r\n.\r\r\n", Flaw.BARE_CR, Flaw.BARE_CR),
    "LFCR . LFCR": (b"\n\r.\n\r", Flaw.BARE_CR, Flaw.BARE_LF),
    "CRLF NUL . CRLF": (b"\r\n\x00.\r\n", Flaw.HIDDEN_DOT, Flaw.HIDDEN_DOT),
    "CRLF . NUL CRLF": (b"\r\n.\x00\r\n", b"\r\n\x00\r\n", b"\r\n\x00\r\n"),
}
"""What looks like an end of data to some servers; what the next hop gets of it, or why it gets nothing, where bare
LFs are repaired, and where they are refused. The next hop notices bare CRs and LFs and what is not stuffed."""


@pytest.mark.parametrize(("end", "repaired", "refused"), ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("mode", ["repair", "refuse"])
def test_only_crlf_dot_crlf_ends_a_message(
    site: Site, mode: str, protocol: Speaks, end: bytes, repaired: bytes | Flaw, refused: bytes | Flaw
) -> None:
    gateway, becomes = (site.repairs, repaired) if mode == "repair" else (site.refuses, refused)
    with Caller(gateway.at(protocol)) as client:
        client.say(HELLO[protocol] + MAIL + RCPT + b"DATA\r\n")
        client.replies(5)
        client.say(b"good" + end + SMUGGLED + b"QUIT\r\n")
        replies = client.replies(10)
    # The end of what is smuggled is a true one, so this is one message, with one reply.
    if isinstance(becomes, Flaw):
        assert (replies, site.delivered()) == ([str(FLAW_REPLIES[becomes]), "221 2.0.0 Bye"], [])
    else:
        whole = b"good" + becomes + SMUGGLED.removesuffix(b".\r\n")
        assert (replies, site.delivered()) == (["250 2.0.0 taken", "221 2.0.0 Bye"], [whole])


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_message_that_grows_over_the_limit(site: Site, protocol: Speaks) -> None:
    with Caller(site.repairs.at(protocol)) as client:
        client.say(HELLO[protocol] + MAIL + RCPT * 2 + b"DATA\r\n")
        client.replies(6)
        client.say(b"x" * 998 + b"\r\n")
        client.say((b"y" * 998 + b"\r\n") * 200 + b".\r\nNOOP\r\nQUIT\r\n")
        count = 1 if protocol == "smtp" else 2
        assert client.replies(10) == [
            *["552 5.3.4 Message exceeds the size limit"] * count,
            GONE_ON,
            "221 2.0.0 Bye",
        ]
    assert site.mta.messages == []


def test_lines_of_the_message_may_be_of_any_length(site: Site) -> None:
    content = b"x" * 90_000 + b"\r\n"
    with Caller(site.repairs.smtp) as client:
        client.say(HELLO["smtp"] + MAIL + RCPT + b"DATA\r\n")
        client.replies(5)
        client.say(content + b".\r\nQUIT\r\n")
        assert client.replies(2) == ["250 2.0.0 taken", "221 2.0.0 Bye"]
    assert site.delivered() == [content]


def test_a_message_in_circles_is_refused(site: Site) -> None:
    with Caller(site.repairs.smtp) as client:
        client.say(HELLO["smtp"] + MAIL + RCPT + b"DATA\r\n")
        client.replies(5)
        client.say(b"Received: from here\r\n" * 51 + b"\r\nhello\r\n.\r\nQUIT\r\n")
        assert client.replies(2) == ["554 5.4.6 Too many hops: this message goes in circles", "221 2.0.0 Bye"]
    assert site.mta.messages == []


def test_a_client_that_may_not_connect_is_told(tmp_path: Path) -> None:
    config = configuration(tmp_path, route("a", "127.0.0.1:1")).replace("127.0.0.0/8", "192.0.2.0/24")
    with Gateway(config, tmp_path) as gateway:
        with Caller(gateway.lmtp) as client:
            assert client.reply() == "554 5.7.1 gw.example You may not connect here"
        (refused,) = gateway.wait_for(event="client_refused")
        assert refused["listener"] == "from-inside"
