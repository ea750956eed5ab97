"""What is read from captures whatever becomes of the packets: repeated, split, late, missing."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dpkt.ethernet import ETH_TYPE_IP, ETH_TYPE_IP6
from dpkt.ip import IP
from dpkt.ip6 import IP6
from dpkt.pcap import DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2
from dpkt.tcp import TCP, TH_ACK, TH_FIN, TH_RST, TH_SYN

from lab.packets import (
    BEGUN,
    MAIL,
    TRANSACTION,
    Connection,
    Packet,
    capture,
    frame,
    framed,
    only,
    recorded,
    split,
    whole,
    written,
)
from lab.wire import Asked, Attempt, read

# The same dialog, with something done to its packets: what is read must not change.

Change = Callable[[list[Packet]], list[Packet]]


def _seen_twice(packets: list[Packet]) -> list[Packet]:
    return [replace(packet, time=packet.time + more) for packet in packets for more in (0, 0.001)]


def _repeated_late(packets: list[Packet]) -> list[Packet]:
    again = [replace(packet, time=packet.time + 3) for packet in packets]
    return sorted(packets + again, key=lambda packet: packet.time)


def _octet_by_octet(packets: list[Packet]) -> list[Packet]:
    return split(packets, 1)


def _backwards(packets: list[Packet]) -> list[Packet]:
    """Each piece in segments of three octets, the last first."""
    return [part for packet in packets for part in reversed(split([packet], 3))]


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
