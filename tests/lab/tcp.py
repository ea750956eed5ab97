"""The TCP connections in a packet capture, and what was said on them.

A packet may be in the capture several times (seen on several interfaces), or not at all: what the capture has missed
is counted, not guessed.
"""

from __future__ import annotations

import heapq
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, Literal, Protocol, TypeAlias, TypeVar

import dpkt
from dpkt.ethernet import Ethernet
from dpkt.ip import IP
from dpkt.ip6 import IP6
from dpkt.pcap import DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2
from dpkt.sll import SLL
from dpkt.sll2 import SLL2
from dpkt.tcp import TCP, TH_ACK, TH_RST, TH_SYN

_FRAMES = {DLT_EN10MB: Ethernet, DLT_LINUX_SLL: SLL, DLT_LINUX_SLL2: SLL2}

_End: TypeAlias = tuple[bytes, int]
"""an IP address and a port"""


class Hearer(Protocol):
    """Who hears what both sides of a connection say, in the order in which it was on the wire."""

    def client_said(self, time: float, octets: bytes) -> None: ...

    def server_said(self, time: float, octets: bytes) -> None: ...

    def lost(self) -> None:
        """A part of what was said is not known."""


H = TypeVar("H", bound=Hearer)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that a client asked for, however often it repeated its SYN."""

    time: float
    client: str
    server: str
    port: int
    outcome: Literal["refused", "silent", "open"]
    """the answer was a RST, none in TCP (an ICMP error is not looked at), or a SYN/ACK"""


def connections(file: BinaryIO, hearer: Callable[[bool], H]) -> list[Connection[H]]:
    """The connections in a capture, in the order of their first packets. Its end may be cut off.

    `hearer` makes who hears a connection; it is told whether that was seen from its start.

    Raises:
        ValueError: it is no capture.
    """
    found: list[Connection[H]] = []
    by_ends: dict[tuple[_End, _End], Connection[H]] = {}
    for time, source, target, tcp in _packets(file):
        connection = by_ends.get((source, target))
        if connection is None or connection.is_over_at(tcp):
            connection = Connection(source, target, tcp, hearer)
            found.append(connection)
            by_ends[source, target] = by_ends[target, source] = connection
        connection.packet(time, source, tcp)
    return found


def _packets(file: BinaryIO) -> Iterator[tuple[float, _End, _End, Any]]:
    """The TCP packets: time, from, to, packet."""
    try:
        reader = dpkt.pcap.Reader(file)
    except dpkt.NeedData as error:
        raise ValueError("the capture is empty") from error
    frame_of = _FRAMES.get(reader.datalink())
    if frame_of is None:
        raise ValueError(f"a capture of link type {reader.datalink()}")
    try:
        for time, octets in reader:
            ip = frame_of(octets).data
            if isinstance(ip, IP | IP6) and isinstance(ip.data, TCP):
                yield float(time), (ip.src, ip.data.sport), (ip.dst, ip.data.dport), ip.data
    except dpkt.NeedData:
        return  # the last packet was being written


class Connection(Generic[H]):
    """One TCP connection: puts both streams together and hands them to the hearer as they grow."""

    def __init__(self, source: _End, target: _End, first: Any, hearer: Callable[[bool], H]) -> None:
        syn, ack = first.flags & TH_SYN, first.flags & TH_ACK
        from_client = not ack if syn else source[1] > target[1]  # no SYN: a server's port is the lower one
        self._client, self._server = (source, target) if from_client else (target, source)
        self.client, self.server = _text(self._client[0]), _text(self._server[0])
        self.port = self._server[1]
        self.hearer = hearer(bool(syn))
        self._syn: int | None = first.seq if syn and not ack else None
        self._asked_at = 0.0
        self._outcome: Literal["refused", "silent", "open"] = "silent"
        self._streams = {self._client: _Stream(), self._server: _Stream()}

    def is_over_at(self, tcp: Any) -> bool:
        """Whether this packet asks for the next connection between the same ports."""
        return bool(tcp.flags & (TH_SYN | TH_ACK) == TH_SYN and tcp.seq != self._syn)

    def packet(self, time: float, source: _End, tcp: Any) -> None:
        """Take the next packet of it."""
        self._asked_at = self._asked_at or time
        if source == self._server and not self._is_of_this(tcp):
            return
        syn = bool(tcp.flags & TH_SYN)
        target = self._server if source == self._client else self._client
        if tcp.flags & TH_ACK:
            self._hear(time, target, self._streams[target].acknowledged(tcp.ack))
        self._hear(time, source, self._streams[source].segment(tcp.seq + syn, tcp.data))

    def attempt(self) -> Attempt | None:
        """How it began, if that was seen."""
        if self._syn is None:
            return None
        return Attempt(self._asked_at, self.client, self.server, self.port, self._outcome)

    def missed(self) -> int:
        """Octets that were received and are not in the capture."""
        return sum(stream.missed() for stream in self._streams.values())

    def _is_of_this(self, tcp: Any) -> bool:
        """Whether a packet of the server's carries this connection on. The first one that does is the answer to SYN."""
        if self._syn is None or self._outcome == "open":
            return True
        if tcp.ack != (self._syn + 1) % (1 << 32):
            return False  # about an older connection between these ports
        self._outcome = "refused" if tcp.flags & TH_RST else "open"
        return self._outcome == "open"

    def _hear(self, time: float, speaker: _End, pieces: Iterator[bytes | None]) -> None:
        for piece in pieces:
            if piece is None:
                self.hearer.lost()
            elif speaker == self._client:
                self.hearer.client_said(time, piece)
            else:
                self.hearer.server_said(time, piece)


class _Stream:
    """One direction of a connection. Places in it are counted from the first number seen, and do not wrap."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._at = 0
        """the place up to which everything has been handed on"""
        self._received = 0
        """the place up to which the other side said that it had everything"""
        self._early: list[tuple[int, bytes]] = []
        """a heap of what is to be handed on: place and octets"""
        self._gaps = 0

    def segment(self, number: int, octets: bytes) -> Iterator[bytes | None]:
        """Take a segment. Yields what is now in order; None for a gap that the capture has and the receiver had not."""
        if self._first is None:
            self._first = number
        if octets:
            heapq.heappush(self._early, (self._place(number), octets))
        return self._in_order()

    def acknowledged(self, number: int) -> Iterator[bytes | None]:
        """Take an acknowledgement by the other side. Yields as `segment`."""
        if self._first is not None:
            self._received = max(self._received, self._place(number))
        return self._in_order()

    def missed(self) -> int:
        at_the_end = self._received - self._at
        return self._gaps + (at_the_end if at_the_end > 1 else 0)  # 1 is a FIN, which has a number, too

    def _place(self, number: int) -> int:
        """The place that is nearest to where we are, of those with this sequence number."""
        distance = (number - (self._first or 0) - self._at) % (1 << 32)
        return self._at + (distance if distance < 1 << 31 else distance - (1 << 32))

    def _in_order(self) -> Iterator[bytes | None]:
        while self._early and self._early[0][0] <= max(self._at, self._received):
            place, octets = heapq.heappop(self._early)
            if place > self._at:
                self._gaps += place - self._at
                self._at = place
                yield None
            new = octets[self._at - place :]
            self._at += len(new)
            if new:
                yield new


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
