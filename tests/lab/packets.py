"""Captures made up for tests: a dialog becomes packets."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

import dpkt
from dpkt.ethernet import ETH_TYPE_IP, Ethernet
from dpkt.ip import IP
from dpkt.pcap import DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2
from dpkt.sll import SLL
from dpkt.sll2 import SLL2
from dpkt.tcp import TCP, TH_ACK, TH_PUSH, TH_SYN

from lab.wire import Asked, Capture, Transaction, read

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


def split(packets: list[Packet], size: int) -> list[Packet]:
    """The same octets in smaller segments."""
    return [
        replace(packet, number=packet.number + start, octets=packet.octets[start : start + size])
        for packet in packets
        for start in range(0, max(1, len(packet.octets)), size)
    ]


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
"""what is to be read of MAIL"""
