"""What was transferred on the wire: the mail transactions in a packet capture.

It shares no code with mailgate, so that it can bear witness for or against it.

Times are those of the first sight of what they are about. A packet may be in the capture several times (seen on
several interfaces). A connection that was open when the capture began is read from its next HELO, EHLO, LHLO or MAIL;
only with LHLO seen is it known to speak LMTP. What the capture has missed is counted (Capture.missed), not guessed.
"""

from __future__ import annotations

import heapq
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import dpkt
from dpkt.ethernet import Ethernet
from dpkt.ip import IP
from dpkt.ip6 import IP6
from dpkt.pcap import DLT_EN10MB, DLT_LINUX_SLL, DLT_LINUX_SLL2
from dpkt.sll import SLL
from dpkt.sll2 import SLL2
from dpkt.tcp import TCP, TH_ACK, TH_RST, TH_SYN

_FRAMES = {DLT_EN10MB: Ethernet, DLT_LINUX_SLL: SLL, DLT_LINUX_SLL2: SLL2}

_LONGEST_LINE = 1 << 16
_LONGEST_HEADER = 1 << 16

_BODY_END = b"\r\n.\r\n"
_MESSAGE = re.compile(rb"^X-Lab-Message:[ \t]*(.*?)[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
_MAILBOX = re.compile(r"(?:MAIL FROM|RCPT TO):\s*(?:<([^>]*)>|(\S+))", re.IGNORECASE)
_CHUNK = re.compile(r"BDAT\s+(\d+)(\s+LAST)?\s*$", re.IGNORECASE)
_FOOTHOLD = re.compile(r"(?:HELO|EHLO|LHLO) |MAIL FROM:", re.IGNORECASE)
_LAST_LINE = re.compile(r"(\d{3})(?: |$)")

_TELLING = {354: "DATA", 221: "QUIT"}
"""replies that can only be to one command"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A RCPT, and the code of its reply; None without one."""

    mailbox: str
    answer: int | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """One mail transaction on one connection: MAIL, and what followed up to the replies after the body."""

    started: float
    """when MAIL was sent"""
    client: str
    server: str
    port: int
    """the server's"""
    lmtp: bool
    message: str | None
    """the value of X-Lab-Message in the header of the message, as far as it was sent"""
    sender: str
    mail: int | None
    """the reply to MAIL"""
    recipients: tuple[Asked, ...]
    data: int | None
    """the reply to DATA, or to the last BDAT that was not LAST"""
    octets: int
    """those of the body on the wire (dots stuffed, without the last dot), as far as they were sent without a gap"""
    complete: bool
    """the last dot was sent, or all of the LAST chunk"""
    answers: tuple[int, ...]
    """the replies after that: one; LMTP: one for each accepted recipient; PRDR: 353, those, and the final one.
    What a server says before is no answer."""
    ended: float | None
    """when the last reply to anything in it came; None if one, or the rest of the body, is missing"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that a client asked for, however often it repeated its SYN."""

    time: float
    client: str
    server: str
    port: int
    outcome: Literal["refused", "silent", "open"]
    """the answer was a RST, none in TCP (an ICMP error is not looked at), or a SYN/ACK"""


@dataclass(frozen=True, slots=True)
class Capture:
    """All that was seen, in the order of time."""

    transactions: tuple[Transaction, ...]
    attempts: tuple[Attempt, ...]
    missed: int
    """octets that were received and are not in the capture: if there are any, it proves little"""


def read(pcap: Path | BinaryIO) -> Capture:
    """Read a capture in the format of tcpdump -w, on Ethernet or `-i any`. Its end may be cut off.

    Raises:
        ValueError: it is no such file.
    """
    if isinstance(pcap, Path):
        with pcap.open("rb") as file:
            return read(file)
    connections: list[_Connection] = []
    by_ends: dict[tuple[_End, _End], _Connection] = {}
    for time, source, target, tcp in _packets(pcap):
        connection = by_ends.get((source, target))
        if connection is None or connection.is_over_at(tcp):
            connection = _Connection(source, target, tcp)
            connections.append(connection)
            by_ends[source, target] = by_ends[target, source] = connection
        connection.packet(time, source, tcp)
    transactions = [transaction for connection in connections for transaction in connection.transactions()]
    attempts = [attempt for connection in connections for attempt in connection.attempts()]
    return Capture(
        tuple(sorted(transactions, key=lambda each: each.started)),
        tuple(attempts),
        sum(connection.missed() for connection in connections),
    )


_End: TypeAlias = tuple[bytes, int]
"""an IP address and a port"""


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


class _Connection:
    """One TCP connection: puts both streams together and hands them to a dialog as they grow."""

    def __init__(self, source: _End, target: _End, first: Any) -> None:
        syn, ack = first.flags & TH_SYN, first.flags & TH_ACK
        from_client = not ack if syn else source[1] > target[1]  # no SYN: a server's port is the lower one
        self._client, self._server = (source, target) if from_client else (target, source)
        self._syn: int | None = first.seq if syn and not ack else None
        self._asked_at = 0.0
        self._outcome: Literal["refused", "silent", "open"] = "silent"
        self._dialog = _Dialog(from_start=bool(syn))
        self._streams = {self._client: _Stream(), self._server: _Stream()}

    def is_over_at(self, tcp: Any) -> bool:
        """Whether this packet asks for the next connection between the same ports."""
        return bool(tcp.flags & (TH_SYN | TH_ACK) == TH_SYN and tcp.seq != self._syn)

    def packet(self, time: float, source: _End, tcp: Any) -> None:
        self._asked_at = self._asked_at or time
        if source == self._server and not self._is_of_this(tcp):
            return
        syn = bool(tcp.flags & TH_SYN)
        target = self._server if source == self._client else self._client
        if tcp.flags & TH_ACK:
            self._hear(time, target, self._streams[target].acknowledged(tcp.ack))
        self._hear(time, source, self._streams[source].segment(tcp.seq + syn, tcp.data))

    def transactions(self) -> list[Transaction]:
        return [each.seen(self._client, self._server) for each in self._dialog.ended()]

    def attempts(self) -> list[Attempt]:
        if self._syn is None:
            return []
        server, port = self._server
        return [Attempt(self._asked_at, _text(self._client[0]), _text(server), port, self._outcome)]

    def missed(self) -> int:
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
                self._dialog.lost()
            elif speaker == self._client:
                self._dialog.client_said(time, piece)
            else:
                self._dialog.server_said(time, piece)


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


@dataclass(slots=True)
class _Open:
    """A transaction that is being read."""

    started: float = 0
    lmtp: bool = False
    sender: str = ""
    mail: int | None = None
    recipients: list[Asked] = field(default_factory=list)
    data: int | None = None
    octets: int = 0
    header: bytearray = field(default_factory=bytearray)
    complete: bool = False
    answers: list[int] = field(default_factory=list)
    ended: float | None = None

    def receive(self, octets: bytes) -> None:
        self.octets += len(octets)
        if len(self.header) < _LONGEST_HEADER and b"\r\n\r\n" not in self.header:
            self.header += octets[:_LONGEST_HEADER]

    def is_answered(self) -> bool:
        accepted = sum(asked.answer is not None and asked.answer // 100 == 2 for asked in self.recipients)
        if self.answers[:1] == [353]:
            return len(self.answers) >= 1 + accepted + 1
        return len(self.answers) >= (max(accepted, 1) if self.lmtp else 1)

    def seen(self, client: _End, server: _End) -> Transaction:
        header, blank, _ = self.header.partition(b"\r\n\r\n")
        found = _MESSAGE.search(header + blank)
        body_begun = self.octets > 0 or (self.data or 0) // 100 == 3
        return Transaction(
            started=self.started,
            client=_text(client[0]),
            server=_text(server[0]),
            port=server[1],
            lmtp=self.lmtp,
            message=found[1].decode("utf-8", "replace") if found else None,
            sender=self.sender,
            mail=self.mail,
            recipients=tuple(self.recipients),
            data=self.data,
            octets=self.octets,
            complete=self.complete,
            answers=tuple(self.answers),
            ended=None if body_begun and not self.complete else self.ended,
        )


@dataclass(frozen=True, slots=True)
class _Question:
    """What the server has to answer."""

    verb: str
    """the command's; "." for the end of a body"""
    transaction: _Open
    recipient: int = 0


class _Dialog:
    """Reads what both sides say as SMTP or LMTP, in the order in which it was on the wire."""

    def __init__(self, *, from_start: bool) -> None:
        self._transactions: list[_Open] = []
        self._current = _Open()
        """outside of transactions one that nobody will see"""
        self._lmtp = False
        self._questions: deque[_Question] = deque()
        self._client_text = bytearray()
        self._server_text = bytearray()
        self._body_tail = b""
        self._chunk_left = 0
        self._chunk_is_last = False
        self._read: Callable[[float], bool] = self._command
        """reads on in the client's text; false if there is not enough of it"""
        self._astray = not from_start
        """whether we do not know what the client is at"""
        if from_start:
            self._questions.append(_Question("greeting", self._current))

    def client_said(self, time: float, octets: bytes) -> None:
        self._client_text += octets
        self._read_on(time)

    def server_said(self, time: float, octets: bytes) -> None:
        self._server_text += octets
        while (line := _take_line(self._server_text)) is not None:
            if last := _LAST_LINE.match(line):
                self._reply(time, int(last[1]))

    def lost(self) -> None:
        """A part of what was said is not known: look for a foothold anew."""
        self._owe_for_ever()
        self._current = _Open()
        self._client_text.clear()
        self._server_text.clear()
        self._read = self._command
        self._astray = True

    def ended(self) -> list[_Open]:
        """All transactions, when nothing more will come."""
        self._owe_for_ever()
        return self._transactions

    def _owe_for_ever(self) -> None:
        while self._questions:
            self._questions.popleft().transaction.ended = None

    def _read_on(self, time: float) -> None:
        while self._read(time):
            pass

    def _command(self, time: float) -> bool:
        line = _take_line(self._client_text)
        if line is None:
            return False
        self._astray = self._astray and not _FOOTHOLD.match(line)
        if not self._astray:
            self._obey(time, line)
        return True

    def _wait(self, time: float) -> bool:
        """After DATA: what comes next is a body or a command, as the server answers."""
        return False

    def _body(self, time: float) -> bool:
        seen = self._body_tail + self._client_text  # the end may be in several pieces
        end = seen.find(_BODY_END)
        stop = len(seen) if end < 0 else end + len(_BODY_END)
        self._current.receive(seen[len(self._body_tail) : stop])
        self._body_tail = seen[max(0, stop - len(_BODY_END) + 1) : stop]
        self._client_text = bytearray(seen[stop:])
        if end >= 0:
            self._current.octets -= len(b".\r\n")
            self._questions.append(_Question(".", self._current))
            self._complete()
        return end >= 0

    def _chunk(self, time: float) -> bool:
        octets = self._client_text[: self._chunk_left]
        del self._client_text[: self._chunk_left]
        self._chunk_left -= len(octets)
        self._current.receive(bytes(octets))
        if self._chunk_left:
            return False
        self._read = self._command
        if self._chunk_is_last:
            self._complete()
        return True

    def _complete(self) -> None:
        self._current.complete = True
        self._current = _Open()
        self._read = self._command

    def _obey(self, time: float, line: str) -> None:
        """Take a command. Whatever is none gets a reply all the same."""
        verb = line[:4].upper()
        if verb in ("HELO", "EHLO", "LHLO", "RSET", "QUIT"):
            self._lmtp = self._lmtp or verb == "LHLO"
            self._current = _Open()
        elif verb == "MAIL":
            self._current = _Open(time, self._lmtp, _mailbox(line))
            self._transactions.append(self._current)
        elif verb == "RCPT":
            self._current.recipients.append(Asked(_mailbox(line), None))
        elif verb == "DATA":
            self._read = self._wait
        elif chunk := _CHUNK.match(line):
            self._chunk_left, self._chunk_is_last = int(chunk[1]), bool(chunk[2])
            self._read = self._chunk
            verb = "." if self._chunk_is_last else verb
        self._questions.append(_Question(verb, self._current, len(self._current.recipients) - 1))

    def _reply(self, time: float, code: int) -> None:
        """Give a reply to the question it is for: the oldest one, unless the reply itself shows that it is not."""
        telling = _TELLING.get(code)
        if telling and any(question.verb == telling for question in self._questions):
            while self._questions[0].verb != telling:
                self._questions.popleft().transaction.ended = None
        if not self._questions or (self._questions[0].verb == "DATA" and code < 300):
            return  # nobody asked
        question = self._questions[0]
        question.transaction.ended = time
        if self._is_answered(question, code):
            self._questions.popleft()
        if question.verb == "DATA":
            self._read = self._body if code // 100 == 3 else self._command
            self._body_tail = b"\r\n"  # DATA's own: a body may be empty
            self._read_on(time)

    def _is_answered(self, question: _Question, code: int) -> bool:
        """Write down the reply. False if there are more to come."""
        transaction = question.transaction
        match question.verb:
            case "MAIL":
                transaction.mail = code
            case "RCPT":
                asked = transaction.recipients[question.recipient]
                transaction.recipients[question.recipient] = Asked(asked.mailbox, code)
            case "DATA" | "BDAT":
                transaction.data = code
            case ".":
                transaction.answers.append(code)
                return transaction.is_answered()
        return True


def _take_line(text: bytearray) -> str | None:
    """Take a line from the beginning of the text, if it is all there."""
    end = text.find(b"\n")
    if end < 0:
        if len(text) > _LONGEST_LINE:
            text.clear()  # this is no mail
        return None
    line = text[:end].decode("utf-8", "replace").rstrip("\r")
    del text[: end + 1]
    return line


def _mailbox(line: str) -> str:
    found = _MAILBOX.match(line)
    return (found[1] or found[2] or "") if found else ""


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
