"""Mail through `mailgate serve`, as Python's own clients send it."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from live import MESSAGE, PATIENCE, Gateway, NextHops, Speaks, configuration, route

from mailgate.relay.intake import NOT_RELAYED
from mailgate.relay.outcome import NO_PATH
from mailgate.testing import Script, ScriptedMTA

UNKNOWN_USER = "550 5.1.1 <nobody@a.example> unknown here"


@dataclass(frozen=True)
class Site:
    """A gateway with next hop a (SMTP), b (LMTP on a unix socket), and c, which is down."""

    gateway: Gateway
    a: ScriptedMTA
    b: ScriptedMTA
    directory: Path

    def client(self, way: str) -> smtplib.SMTP:
        """Connect by one of WAYS."""
        if way == "lmtp-unix":
            return smtplib.LMTP(f"{self.directory}/lmtp.sock", local_hostname="client.example")
        kind = smtplib.SMTP if way == "smtp" else smtplib.LMTP
        host, port = self.gateway.smtp if way == "smtp" else self.gateway.lmtp
        return kind(host, port, "client.example", timeout=PATIENCE)


WAYS = ("smtp", "lmtp", "lmtp-unix")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    a = ScriptedMTA("a", script=Script(recipients={"nobody@a.example": UNKNOWN_USER}))
    b = ScriptedMTA("b", "lmtp", Script(outcomes={"full@b.example": "452 4.2.2 over quota"}))
    with NextHops() as hops:
        config = configuration(
            directory,
            route("a", hops.tcp(a)),
            route("b", hops.unix(b, directory / "b.sock"), protocol="lmtp"),
            route("c", "127.0.0.1:1"),
        )
        with Gateway(config, directory) as gateway:
            yield Site(gateway, a, b, directory)


@pytest.fixture(autouse=True)
def _nothing_before(site: Site) -> None:
    site.a.messages.clear()
    site.b.messages.clear()


@pytest.mark.parametrize("way", WAYS)
def test_a_message_reaches_its_next_hop_with_one_line_more(site: Site, way: str) -> None:
    with site.client(way) as client:
        assert client.sendmail("s@in.example", ["u@a.example"], MESSAGE) == {}
    (message,) = site.a.messages
    assert (message.reverse_path, message.taken) == ("s@in.example", ("u@a.example",))
    received, content = message.content.split(b";", 1)
    protocol = b"ESMTP" if way == "smtp" else b"LMTP"
    where = b"(unix socket)" if way == "lmtp-unix" else b"([127.0.0.1])"
    lines = received.split(b"\r\n")
    assert lines[0] == b"Received: from client.example " + where
    assert lines[1].startswith(b"\tby gw.example with " + protocol + b" id ")
    assert lines[2] == b"\tfor <u@a.example>"
    assert content.split(b"\r\n", 2)[2] == MESSAGE.encode()


def test_the_same_session_serves_one_transaction_after_another(site: Site) -> None:
    with site.client("smtp") as client:
        for number in range(3):
            client.sendmail("s@in.example", [f"u{number}@a.example"], MESSAGE)
    assert [message.recipients for message in site.a.messages] == [(f"u{number}@a.example",) for number in range(3)]


def test_over_smtp_a_refused_recipient_does_not_keep_the_other_from_its_mail(site: Site) -> None:
    with site.client("smtp") as client:
        refused = client.sendmail("s@in.example", ["nobody@a.example", "u@a.example"], MESSAGE)
    assert refused == {"nobody@a.example": (550, UNKNOWN_USER[4:].encode())}
    assert [message.taken for message in site.a.messages] == [("u@a.example",)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("nobody@a.example", UNKNOWN_USER),
        ("u@c.example", str(NO_PATH)),
        ("u@elsewhere.example", str(NOT_RELAYED)),
    ],
    ids=["its next hop refuses it", "its next hop is down", "no route"],
)
def test_a_recipient_that_is_refused(site: Site, way: str, recipient: str, reply: str) -> None:
    with site.client(way) as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        client.sendmail("s@in.example", [recipient], MESSAGE)
    assert refused.value.recipients == {recipient: (int(reply[:3]), reply[4:].encode())}


@pytest.mark.parametrize("way", ["lmtp", "lmtp-unix"])
def test_over_lmtp_each_recipient_has_its_own_outcome(site: Site, way: str) -> None:
    recipients = ["u@a.example", "full@b.example", "u@c.example", "u@b.example", "u@a.example"]
    with site.client(way) as client:
        client.ehlo_or_helo_if_needed()
        assert client.mail("s@in.example")[0] == 250
        assert [client.rcpt(recipient)[0] for recipient in recipients] == [250, 250, 451, 250, 250]
        # smtplib reads the first of the replies to the dot.
        outcomes = [client.data(MESSAGE), *(client.getreply() for _ in range(3))]
    assert outcomes == [
        (250, b"2.0.0 taken"),
        (452, b"4.2.2 over quota"),
        (250, b"2.0.0 taken"),
        (250, b"2.0.0 taken"),
    ]
    assert [message.taken for message in site.a.messages] == [("u@a.example", "u@a.example")]
    assert [message.taken for message in site.b.messages] == [("u@b.example",)]


def test_over_smtp_another_next_hop_has_to_wait_for_another_transaction(site: Site) -> None:
    with site.client("smtp") as client:
        refused = client.sendmail("s@in.example", ["u@a.example", "u@b.example"], MESSAGE)
        assert {who: code for who, (code, _) in refused.items()} == {"u@b.example": 452}
        assert client.sendmail("s@in.example", list(refused), MESSAGE) == {}
    assert (len(site.a.messages), len(site.b.messages)) == (1, 1)


def test_over_ipv6(tmp_path: Path) -> None:
    mta = ScriptedMTA("v6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with NextHops() as hops:
        config = configuration(tmp_path, route("a", hops.tcp(mta, "::1")))
        with Gateway(config.replace('"127.0.0.1:0"', '"[::1]:0"', 1), tmp_path) as gateway:
            (listening,) = [line for line in gateway.lines(event="listening") if line["address"].startswith("[::1]:")]
            port = int(listening["address"].rpartition(":")[2])
            with smtplib.SMTP("::1", port, "client.example", timeout=PATIENCE) as client:
                client.sendmail("s@in.example", "u@a.example", MESSAGE)
    assert mta.messages[0].content.startswith(b"Received: from client.example ([IPv6:::1])\r\n")


@pytest.mark.parametrize(
    ("protocol", "hello"),
    [("smtp", ("EHLO", "c")), ("lmtp", ("LHLO", "c"))],
    ids=["smtp", "lmtp"],
)
def test_commands_that_carry_no_mail(site: Site, protocol: Speaks, hello: tuple[str, str]) -> None:
    with site.client(protocol) as client:
        told = [
            client.docmd(*hello)[0],
            client.docmd("NOOP", "whatever")[0],
            client.docmd("VRFY", "u@a.example")[0],
            client.docmd("HELP")[0],
            client.docmd("EXPN", "list")[0],
            client.docmd("STARTTLS")[0],
            client.docmd("MAIL", "FROM:<>")[0],
            client.docmd("RCPT", "TO:<u@a.example>")[0],
            client.docmd("RSET")[0],
            client.docmd("RCPT", "TO:<u@a.example>")[0],
            client.docmd("QUIT")[0],
        ]
    assert told == [250, 250, 252, 214, 502, 502, 250, 250, 250, 503, 221]
    assert site.a.messages == []
