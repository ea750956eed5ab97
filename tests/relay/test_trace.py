"""`Received:` lines: the one we add, and those we count."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from world import Hop, Speaks, World

from mailgate.network import Address, TcpAddress, UnixAddress
from mailgate.protocol.command import Hello, Verb
from mailgate.relay.trace import Arrival, HopCounter, received_line
from mailgate.testing import Script

WHEN = datetime.datetime(2026, 3, 1, 23, 59, 58, tzinfo=datetime.UTC)
PEER = TcpAddress("192.0.2.1", 4025)


def _line(hello: Hello, peer: Address = PEER, recipient: str | None = None, *, smtputf8: bool = False) -> str:
    arrival = Arrival(hello, peer, "gw.example", "0a1b2c3d4e5f", WHEN)
    return received_line(arrival, recipient, smtputf8=smtputf8).decode()


PROTOCOLS = [
    pytest.param(Verb.HELO, False, "SMTP", id="HELO"),
    pytest.param(Verb.EHLO, False, "ESMTP", id="EHLO"),
    pytest.param(Verb.EHLO, True, "UTF8SMTP", id="EHLO, SMTPUTF8"),
    pytest.param(Verb.LHLO, False, "LMTP", id="LHLO"),
    pytest.param(Verb.LHLO, True, "UTF8LMTP", id="LHLO, SMTPUTF8"),
]


@pytest.mark.parametrize(("verb", "smtputf8", "protocol"), PROTOCOLS)
def test_protocol(verb: Verb, smtputf8: bool, protocol: str) -> None:
    """RFC 3848, RFC 6531 section 4.3."""
    assert _line(Hello(verb, "client.example"), smtputf8=smtputf8) == (
        "Received: from client.example ([192.0.2.1])\r\n"
        f"\tby gw.example with {protocol} id 0a1b2c3d4e5f;\r\n"
        "\tSun, 01 Mar 2026 23:59:58 +0000\r\n"
    )


PEERS: dict[str, tuple[Address, str]] = {
    "IPv4": (PEER, "([192.0.2.1])"),
    "IPv6": (TcpAddress("2001:db8::1", 4025), "([IPv6:2001:db8::1])"),
    "unix socket": (UnixAddress(""), "(unix socket)"),
    "named unix socket": (UnixAddress("/run/client\r\nX: y"), "(unix socket)"),
}


@pytest.mark.parametrize(("peer", "where"), PEERS.values(), ids=PEERS.keys())
def test_peer(peer: Address, where: str) -> None:
    first = _line(Hello(Verb.EHLO, "client.example"), peer).split("\r\n")[0]
    assert first == f"Received: from client.example {where}"


HELLO_NAMES = {
    "name": ("mx_1.client-2.example", "mx_1.client-2.example"),
    "literal": ("[192.0.2.1]", "[192.0.2.1]"),
    "IPv6 literal": ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    "comment": ("a(b)c", "a?b?c"),
    "closes the comment": ("x) by evil.example (", "x??by?evil.example??"),
    "semicolon": ("a;b", "a?b"),
    "line ends": ("a\r\nX-Evil: yes", "a??X-Evil:?yes"),
    "quotes and angles": ('"<a@b>"', "??a?b??"),
    "not ASCII": ("naïve", "na?ve"),
    "too long": ("x" * 1000, "x" * 255),
}


@pytest.mark.parametrize(("name", "written"), HELLO_NAMES.values(), ids=HELLO_NAMES.keys())
def test_hostile_hello(name: str, written: str) -> None:
    line = _line(Hello(Verb.HELO, name))
    assert line.startswith(f"Received: from {written} ([192.0.2.1])\r\n\tby ")
    assert line.count("\r\n") == 3


@pytest.mark.parametrize("recipient", ["u@a.example", '"a b"@a.example', "ü@a.example"])
def test_recipient(recipient: str) -> None:
    assert _line(Hello(Verb.EHLO, "client.example"), recipient=recipient) == (
        "Received: from client.example ([192.0.2.1])\r\n"
        "\tby gw.example with ESMTP id 0a1b2c3d4e5f\r\n"
        f"\tfor <{recipient}>;\r\n"
        "\tSun, 01 Mar 2026 23:59:58 +0000\r\n"
    )


# End to end

RECIPIENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "one": (("u@a.example",), "\r\n\tfor <u@a.example>"),
    "two": (("u@a.example", "v@a.example"), ""),
    "two, one of them refused": (("u@a.example", "no@a.example"), "\r\n\tfor <u@a.example>"),
    "the same twice": (("u@a.example", "u@a.example"), ""),
    "one without a domain": (("Postmaster",), "\r\n\tfor <hostmaster@a.example>"),
}


@pytest.mark.parametrize(("recipients", "words"), RECIPIENTS.values(), ids=RECIPIENTS.keys())
@pytest.mark.parametrize(("speaks", "protocol"), [("smtp", "ESMTP"), ("lmtp", "LMTP")])
async def test_named_only_where_it_is_the_only_one(
    speaks: Speaks, protocol: str, recipients: tuple[str, ...], words: str, autojump_clock: MockClock
) -> None:
    hop = Hop("a", Script(recipients={"no@a.example": "550 5.1.1 no"}))
    async with trio.open_nursery() as nursery, World(nursery, hop, postmaster="hostmaster@a.example") as world:
        await trio.sleep(3661)
        client = await world.client(speaks, peer=TcpAddress("2001:db8::1", 4025))
        await client.transact(*recipients, content=b"Subject: x\r\n\r\n")
        assert world.mta("a1").messages[0].content.decode() == (
            "Received: from client.example ([IPv6:2001:db8::1])\r\n"
            f"\tby gw.example with {protocol} id {world.log[0]['id']}{words};\r\n"
            "\tThu, 01 Jan 2026 01:01:01 +0000\r\n"
            "Subject: x\r\n\r\n"
        )


async def test_smtputf8_and_helo(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(peer=UnixAddress(""))
        await client.transact("ü@a.example", parameters=" SMTPUTF8")
        await client.play("C: HELO old.example\nS: 250 ...")
        await client.transact("u@a.example")
        lines = [message.content.decode().split("\r\n") for message in world.mta("a1").messages]
        session = world.log[0]["id"]
        assert [some[:3] for some in lines] == [
            [
                "Received: from client.example (unix socket)",
                f"\tby gw.example with UTF8SMTP id {session}",
                "\tfor <ü@a.example>;",
            ],
            [
                "Received: from old.example (unix socket)",
                f"\tby gw.example with SMTP id {session}",
                "\tfor <u@a.example>;",
            ],
        ]


async def test_one_recipient_at_each_of_two_next_hops_is_not_named(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        client = await world.client("lmtp")
        await client.transact("u@a.example", "u@b.example")
        assert [b"\tfor" in mta.messages[0].content for mta in world.mtas.values()] == [False, False]


# The count

HEADERS = {
    "none": (b"Subject: x\r\n\r\n", 0),
    "empty": (b"", 0),
    "one": (b"Received: x\r\n\r\n", 1),
    "case": (b"RECEIVED: x\r\nreceived: y\r\nReCeived: z\r\n\r\n", 3),
    "space before the colon": (b"Received : x\r\nReceived\t: x\r\n\r\n", 2),
    "folded": (b"Received: x\r\n\tReceived: y\r\n Received: z\r\n\r\n", 1),
    "other names": (b"X-Received: x\r\nReceived-SPF: x\r\nReceive: x\r\n\r\n", 0),
    "within a line": (b"Subject: Received: x\r\n\r\n", 0),
    "in the body": (b"Received: x\r\n\r\nReceived: y\r\n\r\nReceived: z\r\n", 1),
    "header only": (b"Received: x\r\nReceived: y\r\n", 2),
    "no header": (b"\r\nReceived: x\r\n", 0),
    "the last line is long": (b"Received: " + b"x" * 10_000 + b"\r\nReceived: y\r\n\r\n", 2),
    "a long line before": (b"X: " + b"x" * 10_000 + b"\r\nReceived: y\r\n\r\n", 1),
}


@pytest.mark.parametrize(("content", "count"), HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_count(content: bytes, count: int, size: int) -> None:
    assert _counted(_pieces(content, lambda _: size)) == count


@given(
    st.lists(st.sampled_from([b"Received: x\r\n", b"received\t:\r\n", b"X: y\r\n", b"\tfolded\r\n", b"\r\n"])),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_count_whatever_the_pieces(lines: list[bytes], sizes: list[int]) -> None:
    header = lines[: lines.index(b"\r\n")] if b"\r\n" in lines else lines
    wanted = sum(line.lower().startswith(b"received") for line in header)
    assert _counted(_pieces(b"".join(lines), lambda number: sizes[number % len(sizes)])) == wanted


def _pieces(content: bytes, size: Callable[[int], int]) -> list[bytes]:
    """Cut anywhere but between CR and LF, which the decoder holds together."""
    pieces: list[bytes] = []
    start = 0
    while start < len(content):
        end = start + size(len(pieces))
        if content[end - 1 : end + 1] == b"\r\n":
            end += 1
        pieces.append(content[start:end])
        start = end
    return pieces


def _counted(pieces: list[bytes]) -> int:
    counter = HopCounter()
    for piece in pieces:
        counter.feed(piece)
    return counter.count
