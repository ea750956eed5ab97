"""What is read from captures, with captures made up here: a dialog becomes packets, and something happens to them."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import dpkt
import pytest
from dpkt.ethernet import ETH_TYPE_IP, ETH_TYPE_IP6, Ethernet
from dpkt.ip import IP
from dpkt.ip6 import IP6
from dpkt.pcap import DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2
from dpkt.sll import SLL
from dpkt.sll2 import SLL2
from dpkt.tcp import TCP, TH_ACK, TH_FIN, TH_PUSH, TH_RST, TH_SYN

from lab.wire import Asked, Attempt, Capture, Transaction, read

CLIENT = "10.0.1.25"
SERVER = "10.0.0.1"


@dataclass(frozen=True)
class Packet:
    time: float
    from_client: bool
    number: int
    acknowledged: int
    flags: int
    octets: bytes = b""
    client_port: int = 40000


@dataclass
class Connection:
    """Makes the packets of a connection: one a second, and after each with octets a bare ACK half a second later."""

    client_number: int = 1000
    server_number: int = 9000
    port: int = 40000
    now: float = 0

    def opening(self) -> list[Packet]:
        syn = self.say("C", flags=TH_SYN)
        self.client_number += 1
        answer = self.say("S", flags=TH_SYN | TH_ACK)
        self.server_number += 1
        return [syn, answer, self.say("C")]

    def dialog(self, text: str) -> list[Packet]:
        packets = []
        for speaker, octets in spoken(text):
            packets += self.exchange(speaker, octets)
        return packets

    def exchange(self, speaker: str, octets: bytes) -> list[Packet]:
        said = self.say(speaker, octets, flags=TH_ACK | TH_PUSH)
        listener = "S" if speaker == "C" else "C"
        return [said, replace(self.say(listener), time=self.now - 0.5)]

    def say(self, speaker: str, octets: bytes = b"", *, flags: int = TH_ACK) -> Packet:
        if octets or flags != TH_ACK:
            self.now += 1
        by_client = speaker == "C"
        numbers = (self.client_number, self.server_number) if by_client else (self.server_number, self.client_number)
        self.client_number += len(octets) if by_client else 0
        self.server_number += 0 if by_client else len(octets)
        number, acknowledged = (each % (1 << 32) for each in numbers)
        return Packet(self.now, by_client, number, acknowledged, flags, octets, self.port)


def spoken(text: str) -> Iterable[tuple[str, bytes]]:
    """The pieces of a dialog. Each line begins with C or S; what one says in lines that follow each other is one piece.

    `C- ` begins a line without CRLF at its end.
    """
    speaker, piece = "", b""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line[0] != speaker and piece:
            yield speaker, piece
            piece = b""
        speaker = line[0]
        piece += line[3:].encode() + (b"" if line[1] == "-" else b"\r\n")
    yield speaker, piece


def whole(text: str) -> list[Packet]:
    connection = Connection()
    return connection.opening() + connection.dialog(text)


def frame(packet: Packet, link: int = DLT_LINUX_SLL2) -> bytes:
    source, target = (CLIENT, SERVER) if packet.from_client else (SERVER, CLIENT)
    ports = (packet.client_port, 25) if packet.from_client else (25, packet.client_port)
    tcp = TCP(
        sport=ports[0],
        dport=ports[1],
        seq=packet.number,
        ack=packet.acknowledged,
        flags=packet.flags,
        sum=1,  # a checksum that nobody has to work out
        data=packet.octets,
    )
    addresses = [bytes(int(part) for part in address.split(".")) for address in (source, target)]
    ip = IP(src=addresses[0], dst=addresses[1], p=6, sum=1, data=bytes(tcp))
    ip.len = len(ip)
    return framed(bytes(ip), ETH_TYPE_IP, link)


def framed(data: bytes, kind: int, link: int) -> bytes:
    if link == DLT_EN10MB:
        return bytes(Ethernet(type=kind, data=data)).ljust(60, b"\0")
    if link == DLT_LINUX_SLL:
        return bytes(SLL(ethtype=kind, hdr=b"\0" * 8, data=data))
    return bytes(SLL2(ethtype=kind, hdr=b"\0" * 8, data=data))


def written(packets: Iterable[Packet], link: int = DLT_LINUX_SLL2) -> io.BytesIO:
    return recorded([(packet.time, frame(packet, link)) for packet in packets], link)


def recorded(frames: Iterable[tuple[float, bytes]], link: int) -> io.BytesIO:
    file = io.BytesIO()
    dpkt.pcap.Writer(file, snaplen=1 << 18, linktype=link).writepkts(frames)
    file.seek(0)
    return file


def capture(packets: Iterable[Packet]) -> Capture:
    return read(written(packets))


def only(packets: Iterable[Packet]) -> Transaction:
    (transaction,) = capture(packets).transactions
    return transaction


BEGUN = """
    S: 220 mx
    C: EHLO a
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<ann@a.example> SIZE=9
    S: 250 ok
"""

MAIL = (
    BEGUN
    + """
    C: RCPT TO:<bob@b.example>
    S: 250 ok
    C: DATA
    S: 354 go
    C: X-Lab-Message: m1
    C:
    C: ..
    C: .
    S: 250 taken
    C: QUIT
    S: 221 bye
"""
)

TRANSACTION = Transaction(
    started=6,
    client=CLIENT,
    server=SERVER,
    port=25,
    lmtp=False,
    message="m1",
    sender="ann@a.example",
    mail=250,
    recipients=(Asked("bob@b.example", 250),),
    data=354,
    octets=len("X-Lab-Message: m1\r\n\r\n..\r\n"),
    complete=True,
    answers=(250,),
    ended=13,
)


def test_plain() -> None:
    assert capture(whole(MAIL)) == Capture((TRANSACTION,), (Attempt(1, CLIENT, SERVER, 25, "open"),), 0)


# Dialogs: what is said after BEGUN, and what is to be read.

LMTP = """
    S: 220 mx
    C: LHLO a
    S: 250 mx
    C: MAIL FROM:<a@a>
    C: RCPT TO:<b@b>
    C: RCPT TO:<c@c>
    C: RCPT TO:<b@b>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 550 no
    S: 250 ok
    S: 354 go
    C: text
    C: .
    C: QUIT
"""

DIALOGS: dict[str, tuple[str, dict[str, object]]] = {
    "no command after MAIL": (BEGUN, {"mail": 250, "recipients": (), "data": None, "octets": 0, "ended": 7}),
    "MAIL unanswered": (BEGUN.rpartition("S:")[0], {"mail": None, "ended": None}),
    "MAIL refused": (BEGUN.replace("250 ok", "451 no"), {"mail": 451, "ended": 7}),
    "the empty sender": (BEGUN.replace("ann@a.example", ""), {"sender": ""}),
    "small letters": (BEGUN.replace("MAIL FROM", "mail from"), {"sender": "ann@a.example"}),
    "no angle brackets": (BEGUN.replace("<ann@a.example>", " ann@a.example"), {"sender": "ann@a.example"}),
    "a probe refused": (
        BEGUN + "C: RCPT TO:<b@b>\n S: 550 no\n C: QUIT\n S: 221 bye",
        {"recipients": (Asked("b@b", 550),), "data": None, "octets": 0, "complete": False, "answers": (), "ended": 9},
    ),
    "RCPT unanswered": (BEGUN + "C: RCPT TO:<b@b>", {"recipients": (Asked("b@b", None),), "ended": None}),
    "a reply of several lines": (
        BEGUN + "C: RCPT TO:<b@b>\n S: 550-not\n S: 550-500 here\n S: 550 no\n C: RCPT TO:<c@c>\n S: 250 ok",
        {"recipients": (Asked("b@b", 550), Asked("c@c", 250))},
    ),
    "a reply without text": (BEGUN + "C: RCPT TO:<b@b>\n S: 250", {"recipients": (Asked("b@b", 250),)}),
    "a reply in pieces": (
        BEGUN + "C: RCPT TO:<b@b>\n S- 25\n C: RSET\n S: 0 ok",
        {"recipients": (Asked("b@b", 250),)},
    ),
    "pipelining": (
        BEGUN + "C: RCPT TO:<b@b>\n C: RCPT TO:<c@c>\n C: DATA\n S: 250 ok\n S: 451 no\n S: 354 go\n C: x\n C: .",
        {"recipients": (Asked("b@b", 250), Asked("c@c", 451)), "data": 354, "octets": 3, "complete": True},
    ),
    "other commands": (
        BEGUN
        + """
        C: XFORWARD NAME=x
        S: 250 ok
        C: NOOP
        C:
        C: WHATEVER
        S: 250 ok
        S: 500 what
        S: 500 what
        C: RCPT TO:<b@b>
        S: 251 ok
        """,
        {"recipients": (Asked("b@b", 251),)},
    ),
    "AUTH and XCLIENT first": (
        """
        S: 220 mx
        C: XCLIENT ADDR=192.0.2.1
        S: 220 mx
        C: EHLO a
        S: 250 mx
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: YW5u
        S: 334 UGFzc3dvcmQ6
        C: YW5u
        S: 235 ok
        C: MAIL FROM:<a@a>
        S: 250 ok
        """,
        {"mail": 250},
    ),
    "the client does not wait for the greeting": (
        "C: EHLO a\n C: MAIL FROM:<a@a>\n S: 220 mx\n S: 250 mx\n S: 451 no",
        {"mail": 451},
    ),
    "the client does not wait for 354": (
        BEGUN + "C: DATA\n C: x\n C: .\n S: 354 go\n S: 452 no",
        {"data": 354, "octets": 3, "complete": True, "answers": (452,)},
    ),
    "DATA refused": (
        BEGUN + "C: DATA\n S: 554 no\n C: QUIT\n S: 221 bye",
        {"data": 554, "octets": 0, "complete": False, "answers": (), "ended": 9},
    ),
    "DATA unanswered": (BEGUN + "C: DATA", {"data": None, "ended": None}),
    "nothing sent after 354": (BEGUN + "C: DATA\n S: 354 go", {"data": 354, "octets": 0, "ended": None}),
    "an empty body": (BEGUN + "C: DATA\n S: 354 go\n C: .\n S: 250 ok", {"octets": 0, "complete": True, "ended": 11}),
    "a body cut off": (
        BEGUN + "C: DATA\n S: 354 go\n C: X-Lab-Message: m\n C- abc",
        {"octets": 21, "complete": False, "message": "m", "ended": None},
    ),
    "a header cut off": (BEGUN + "C: DATA\n S: 354 go\n C- X-Lab-Message: m", {"octets": 16, "message": None}),
    "no header but in the text": (
        BEGUN + "C: DATA\n S: 354 go\n C: A: b\n C:\n C: X-Lab-Message: m\n C: .",
        {"message": None, "complete": True},
    ),
    "dots in the text": (
        BEGUN + "C: DATA\n S: 354 go\n C: ..\n C: a.\n C: .b\n C- .\n",
        {"octets": 4 + 4 + 4 + 1, "complete": False},
    ),
    "no answer after the dot": (BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .", {"answers": (), "ended": None}),
    "QUIT behind the dot": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .\n C: QUIT\n S: 451 no\n S: 221 bye",
        {"octets": 3, "answers": (451,), "ended": 11},
    ),
    "only the dot unanswered": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .\n C: QUIT\n S: 221 bye",
        {"complete": True, "answers": (), "ended": None},
    ),
    "LMTP": (
        LMTP + "S: 250 ok\n S: 452 no\n S: 221 bye",
        {
            "lmtp": True,
            "recipients": (Asked("b@b", 250), Asked("c@c", 550), Asked("b@b", 250)),
            "answers": (250, 452),
            "ended": 9,
        },
    ),
    "LMTP with an answer missing": (LMTP + "S: 250 ok", {"answers": (250,), "ended": None}),
    "LMTP with an answer missing before QUIT's": (LMTP + "S: 250 ok\n S: 221 bye", {"answers": (250,)}),
    "LMTP with too many answers": (LMTP + "S: 250 1\n S: 250 2\n S: 250 3\n S: 221 bye", {"answers": (250, 250)}),
    "LMTP after RSET": (
        "S: 220 mx\n C: LHLO a\n S: 250 mx\n C: RSET\n S: 250 ok\n C: MAIL FROM:<a@a>\n S: 250 ok",
        {"lmtp": True},
    ),
    "PRDR": (
        BEGUN
        + """
        C: RCPT TO:<b@b>
        C: RCPT TO:<c@c>
        C: RCPT TO:<d@d>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 no
        S: 354 go
        C: x
        C: .
        C: QUIT
        S: 353 now
        S: 250 b
        S: 550 c
        S: 250 all
        S: 221 bye
        """,
        {"answers": (353, 250, 550, 250), "ended": 11},
    ),
    "PRDR unfinished": (
        BEGUN + "C: RCPT TO:<b@b>\n C: DATA\n S: 250 ok\n S: 354 go\n C: .\n S: 353 now\n S: 250 b",
        {"answers": (353, 250), "ended": None},
    ),
    "BDAT": (
        BEGUN
        + """
        C: BDAT 20
        C: X-Lab-Message: m42
        S: 250 20 octets
        C: BDAT 9 LAST
        C:
        C: .
        C: MAIL
        C: QUIT
        S: 250 ok
        S: 500 what
        S: 221 bye
        """,
        {"message": "m42", "data": 250, "octets": 29, "complete": True, "answers": (250,), "ended": 11},
    ),
    "BDAT in one go": (
        BEGUN + "C: BDAT 5 LAST\n C: abc\n C: QUIT\n S: 250 ok\n S: 221 bye",
        {"data": None, "octets": 5, "complete": True, "answers": (250,), "ended": 9},
    ),
    "an empty last BDAT": (
        BEGUN + "C: BDAT 5\n C: abc\n S: 250 ok\n C: BDAT 0 LAST\n S: 250 ok",
        {"data": 250, "octets": 5, "complete": True, "answers": (250,), "ended": 11},
    ),
    "BDAT cut off": (
        BEGUN + "C: BDAT 9 LAST\n C: abc",
        {"octets": 5, "complete": False, "answers": (), "ended": None},
    ),
    "BDAT behind a refused RCPT": (
        BEGUN + "C: RCPT TO:<b@b>\n C: BDAT 5 LAST\n C: abc\n S: 550 no\n S: 503 what",
        {"recipients": (Asked("b@b", 550),), "octets": 5, "complete": True, "answers": (503,)},
    ),
    "the server speaks too early": (
        BEGUN + "S: 250 early\n C: RCPT TO:<b@b>\n S: 550 no",
        {"recipients": (Asked("b@b", 550),)},
    ),
    "the server speaks too often": (
        BEGUN + "C: RCPT TO:<b@b>\n S: 550 no\n S: 250 no\n C: RCPT TO:<c@c>\n S: 451 no",
        {"recipients": (Asked("b@b", 550), Asked("c@c", 451))},
    ),
    "the server speaks too early before DATA's reply": (
        BEGUN + "C: DATA\n S: 250 early\n S: 354 go\n C: x\n C: .\n S: 452 no",
        {"data": 354, "octets": 3, "answers": (452,)},
    ),
    "the server forgets a reply before DATA's": (
        BEGUN + "C: RCPT TO:<b@b>\n C: DATA\n S: 354 go\n C: x\n C: .\n S: 452 no",
        {"recipients": (Asked("b@b", None),), "data": 354, "octets": 3, "answers": (452,)},
    ),
    "the server speaks in the body": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n S: 250 early\n C: .\n S: 452 no",
        {"octets": 3, "complete": True, "answers": (452,)},
    ),
    "the server speaks in the body, and not after it": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n S: 421 bye\n C: .",
        {"complete": True, "answers": (), "ended": None},
    ),
    "the server babbles": (BEGUN + "C: RCPT TO:<b@b>\n S: hello\n S: 550 no", {"recipients": (Asked("b@b", 550),)}),
}


@pytest.mark.parametrize(("text", "expected"), DIALOGS.values(), ids=DIALOGS.keys())
def test_dialog(text: str, expected: dict[str, object]) -> None:
    transaction = capture(whole(text)).transactions[0]
    assert {name: getattr(transaction, name) for name in expected} == expected


ENDS_OF_THE_FIRST = {
    "the dot": "C: DATA\n S: 354 go\n C: .\n S: 250 ok",
    "RSET": "C: RCPT TO:<x@x>\n S: 550 no\n C: RSET\n S: 250 ok",
    "EHLO": "C: EHLO a\n S: 250 mx",
    "refusal of DATA and RSET": "C: DATA\n S: 554 no\n C: RSET\n S: 250 ok",
    "MAIL": "C: NOOP\n S: 250 ok",
}


@pytest.mark.parametrize("end", ENDS_OF_THE_FIRST.values(), ids=ENDS_OF_THE_FIRST.keys())
def test_the_next_transaction_on_the_connection_is_another(end: str) -> None:
    second = "C: MAIL FROM:<b@b>\n C: RCPT TO:<c@c>\n S: 250 ok\n S: 451 no"
    first, last = capture(whole(f"{BEGUN}{end}\n{second}")).transactions
    assert (first.sender, last.sender, last.recipients) == ("ann@a.example", "b@b", (Asked("c@c", 451),))


@pytest.mark.parametrize("end", ["RSET", "HELO a", "EHLO a", "QUIT"])
def test_a_recipient_without_a_transaction_belongs_to_none(end: str) -> None:
    assert only(whole(f"{BEGUN} C: {end}\n S: 250 ok\n C: RCPT TO:<b@b>\n S: 503 what")).recipients == ()


def test_a_message_may_have_a_long_way_behind_it() -> None:
    received = "C: Received: from somewhere over the rainbow\n" * 500
    sent = f"C: DATA\n S: 354 go\n {received} C: x-lab-message:  m 7 \n C: \n C: ."
    assert only(_split(whole(BEGUN + sent), 1000)).message == "m 7"


# The same dialog, with something done to its packets: what is read must not change.

Change = Callable[[list[Packet]], list[Packet]]


def _seen_twice(packets: list[Packet]) -> list[Packet]:
    return [replace(packet, time=packet.time + more) for packet in packets for more in (0, 0.001)]


def _repeated_late(packets: list[Packet]) -> list[Packet]:
    again = [replace(packet, time=packet.time + 3) for packet in packets]
    return sorted(packets + again, key=lambda packet: packet.time)


def _split(packets: list[Packet], size: int) -> list[Packet]:
    return [
        replace(packet, number=packet.number + start, octets=packet.octets[start : start + size])
        for packet in packets
        for start in range(0, max(1, len(packet.octets)), size)
    ]


def _octet_by_octet(packets: list[Packet]) -> list[Packet]:
    return _split(packets, 1)


def _backwards(packets: list[Packet]) -> list[Packet]:
    """Each piece in segments of three octets, the last first."""
    return [part for packet in packets for part in reversed(_split([packet], 3))]


def _overlapping(packets: list[Packet]) -> list[Packet]:
    """Each segment once more together with all that the same side said before."""
    said = {True: b"", False: b""}
    result = []
    for packet in packets:
        result.append(packet)
        said[packet.from_client] += packet.octets
        before = len(said[packet.from_client]) - len(packet.octets)
        if packet.octets:
            result.append(replace(packet, number=packet.number - before, octets=said[packet.from_client]))
    return result


def _keepalives(packets: list[Packet]) -> list[Packet]:
    """An octet that was acknowledged long ago is sent again."""
    return [
        each
        for packet in packets
        for each in (packet, replace(packet, number=(packet.number - 1) % (1 << 32), octets=b"\0"))
        if each is packet or not packet.flags & TH_SYN
    ]


def _without_bare_acks(packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if packet.octets or packet.flags != TH_ACK]


def _renumbered(packets: list[Packet]) -> list[Packet]:
    """The numbers of both sides wrap in mid-dialog."""
    more = (1 << 32) - 9000 - 50
    more_for_client = (1 << 32) - 1000 - 50
    mine = {True: more_for_client, False: more}
    return [
        replace(
            packet,
            number=(packet.number + mine[packet.from_client]) % (1 << 32),
            acknowledged=(packet.acknowledged + mine[not packet.from_client]) % (1 << 32) if packet.flags & 16 else 0,
        )
        for packet in packets
    ]


def _reset_at_the_end(packets: list[Packet]) -> list[Packet]:
    last = packets[-1]
    return [*packets, replace(last, flags=TH_RST), replace(last, flags=TH_RST, from_client=not last.from_client)]


def _finished(packets: list[Packet]) -> list[Packet]:
    said, heard = packets[-2:]
    fin = replace(said, number=heard.acknowledged, octets=b"", flags=TH_FIN | TH_ACK)
    return [*packets, fin, replace(heard, acknowledged=heard.acknowledged + 1)]


def _older_connection(packets: list[Packet]) -> list[Packet]:
    """The server first answers as if the last connection between these ports were still there."""
    stale = Packet(1.5, False, 0xC0000000, 0x40000000, TH_ACK)
    return [packets[0], stale, Packet(1.6, True, 0x40000000, 0, TH_RST), replace(packets[0], time=1.7), *packets[1:]]


def _open_at_the_start(packets: list[Packet]) -> list[Packet]:
    return packets[5:]


CHANGES: list[Change] = [
    _seen_twice,
    _repeated_late,
    _octet_by_octet,
    _backwards,
    _overlapping,
    _keepalives,
    _without_bare_acks,
    _renumbered,
    _reset_at_the_end,
    _finished,
    _older_connection,
    _open_at_the_start,
]


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
def test_packets_changed(change: Change) -> None:
    seen = capture(change(whole(MAIL)))
    assert (seen.transactions, seen.missed) == ((TRANSACTION,), 0)


def test_in_mid_body_at_the_start_the_next_transaction_is_read() -> None:
    packets = whole(MAIL.replace("C: QUIT", "C: RSET\n S: 250 ok\n C: MAIL FROM:<c@c>\n S: 452 no\n C: QUIT"))
    in_body = next(place for place, packet in enumerate(packets) if b"X-Lab" in packet.octets)
    seen = only(packets[in_body:])
    assert (seen.sender, seen.mail) == ("c@c", 452)


def test_what_was_never_received_is_not_counted() -> None:
    connection = Connection()
    packets = connection.opening() + connection.dialog(BEGUN + "C: DATA\n S: 354 go\n C: abc")
    connection.say("C", b"lost")
    seen = capture([*packets, connection.say("C", b"behind it\r\n.\r\n")])
    assert (seen.transactions[0].octets, seen.transactions[0].complete, seen.missed) == (5, False, 0)


def test_what_was_received_and_not_seen_is_told() -> None:
    packets = [packet for packet in whole(MAIL) if b"X-Lab" not in packet.octets]
    seen = capture(packets)
    assert seen.missed == TRANSACTION.octets + 3
    assert not seen.transactions[0].complete


def test_what_was_missed_at_the_end_is_told() -> None:
    packets = whole(BEGUN + "C: RCPT TO:<b@b>")
    assert capture(packets[:-2] + packets[-1:]).missed == len("RCPT TO:<b@b>\r\n")


@pytest.mark.parametrize("missed", [b"354", b"DATA"])
def test_after_something_missed_the_next_transaction_is_read(missed: bytes) -> None:
    text = MAIL.replace("C: QUIT", "C: MAIL FROM:<c@c>\n S: 250 ok\n C: RCPT TO:<d@d>\n S: 451 no\n C: QUIT")
    seen = capture([packet for packet in whole(text) if missed not in packet.octets])
    assert seen.transactions[-1].recipients == (Asked("d@d", 451),)


@pytest.mark.parametrize("octets", [0, 1, 15, 16, 39, 40, 50, 500])
def test_a_file_cut_off_is_read_up_to_there(octets: int) -> None:
    file = written(whole(BEGUN)).getvalue()
    last = len(frame(whole(BEGUN)[-1])) + 16
    cut = read(io.BytesIO(file[: len(file) - last + min(octets, last)]))
    assert cut.transactions[0].sender == "ann@a.example"


@pytest.mark.parametrize("link", [DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2])
def test_link_types(link: int) -> None:
    assert read(written(whole(MAIL), link)).transactions == (TRANSACTION,)


def test_ipv6() -> None:
    tcp = bytes(TCP(sport=40000, dport=24, seq=1, flags=TH_SYN, sum=1))
    ip = bytes(IP6(src=bytes(15) + b"\1", dst=bytes(15) + b"\2", nxt=6, plen=len(tcp), hlim=64, data=tcp))
    seen = read(recorded([(1, framed(ip, ETH_TYPE_IP6, DLT_EN10MB))], DLT_EN10MB))
    assert seen.attempts == (Attempt(1, "::1", "::2", 24, "silent"),)


def test_other_packets_are_passed_over() -> None:
    frames = [(packet.time, frame(packet)) for packet in whole(MAIL)]
    udp = IP(src=bytes(4), dst=bytes(4), p=17, sum=1, data=struct.pack(">HHHH", 53, 53, 8, 0))
    others = [framed(bytes(udp), ETH_TYPE_IP, DLT_LINUX_SLL2), framed(b"", 0x0806, DLT_LINUX_SLL2)]
    file = recorded([*((0, other) for other in others), *frames], DLT_LINUX_SLL2)
    assert read(file).transactions == (TRANSACTION,)


def test_a_path_is_opened(tmp_path: Path) -> None:
    (tmp_path / "pcap").write_bytes(written(whole(MAIL)).getvalue())
    assert read(tmp_path / "pcap").transactions == (TRANSACTION,)


@pytest.mark.parametrize("file", [b"", b"\0" * 24, recorded([], 113 + 1).getvalue()], ids=["empty", "other", "link"])
def test_what_is_no_capture_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError):
        read(io.BytesIO(file))


# Attempts

SYN = Packet(1, True, 1000, 0, TH_SYN)
REFUSAL = Packet(2, False, 0, 1001, TH_RST | TH_ACK)
CONSENT = Packet(2, False, 9000, 1001, TH_SYN | TH_ACK)

ATTEMPTS = {
    "refused": ([SYN, REFUSAL], ["refused"]),
    "silent": ([SYN], ["silent"]),
    "open": ([SYN, CONSENT], ["open"]),
    "repeated and silent": ([SYN, replace(SYN, time=2), replace(SYN, time=4)], ["silent"]),
    "repeated and open": ([SYN, replace(SYN, time=2), replace(CONSENT, time=3)], ["open"]),
    "open and reset": ([SYN, CONSENT, replace(REFUSAL, time=3)], ["open"]),
    "given up by the client": ([SYN, Packet(2, True, 1001, 0, TH_RST)], ["silent"]),
    "a RST to an older connection": ([SYN, replace(REFUSAL, acknowledged=77)], ["silent"]),
    "an ACK of an older connection": ([SYN, replace(CONSENT, flags=TH_ACK, acknowledged=77)], ["silent"]),
    "SYN/ACK missed": ([SYN, replace(CONSENT, flags=TH_ACK, number=9001)], ["open"]),
    "the same ports again": ([SYN, REFUSAL, replace(SYN, time=3, number=5000)], ["refused", "silent"]),
    "not seen": ([Packet(1, True, 1001, 9001, TH_ACK)], []),
    "only the answer seen": ([CONSENT], []),
    "numbers that wrap": (
        [replace(SYN, number=(1 << 32) - 1), replace(REFUSAL, acknowledged=0)],
        ["refused"],
    ),
}


@pytest.mark.parametrize(("packets", "outcomes"), ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_attempts(packets: list[Packet], outcomes: list[str]) -> None:
    assert [attempt.outcome for attempt in capture(packets).attempts] == outcomes


def test_an_attempt_is_timed_by_its_first_syn() -> None:
    assert [attempt.time for attempt in capture([SYN, replace(SYN, time=2)]).attempts] == [1]


def test_two_connections_on_the_same_ports_one_after_the_other() -> None:
    second = Connection(client_number=700_000, server_number=1 << 31, now=100)
    packets = whole(MAIL) + second.opening() + second.dialog(MAIL)
    assert [each.started for each in capture(packets).transactions] == [6, 106]


def test_connections_side_by_side() -> None:
    """The first to be opened is the last to say MAIL."""
    packets = []
    for port, second in ((40000, 0.2), (40001, 0.1), (40002, 0.0)):
        connection = Connection(port=port)
        packets += connection.opening()
        connection.now += second
        packets += connection.dialog(MAIL)
    transactions = capture(sorted(packets, key=lambda packet: packet.time)).transactions
    assert [each.started for each in transactions] == pytest.approx([6, 6.1, 6.2])
    assert [(each.message, each.answers) for each in transactions] == [("m1", (250,))] * 3


@pytest.mark.parametrize("seen", [0, 1])
def test_the_server_is_who_is_asked_whatever_its_port(seen: int) -> None:
    packets = [replace(packet, client_port=7) for packet in whole(MAIL)]
    assert capture(packets[seen:]).transactions == (TRANSACTION,)


# The limit is generous, and still far below what anything quadratic would take.


@pytest.mark.parametrize("size", [1448, 65_000])
def test_a_large_body(size: int) -> None:
    connection = Connection()
    packets = connection.opening() + connection.dialog(BEGUN + "C: DATA\n S: 354 go")
    line = b"x" * 76 + b"\r\n"
    body = line * (20_000_000 // len(line)) + b".\r\n"
    for start in range(0, len(body), size):
        packets.append(connection.say("C", body[start : start + size]))
    file = written([*packets, *connection.dialog("S: 250 ok")])
    begun = time.perf_counter()
    (seen,) = read(file).transactions
    assert (seen.octets, seen.complete, seen.answers) == (len(body) - 3, True, (250,))
    assert time.perf_counter() - begun < 10
