"""What was transferred on the wire: the mail transactions in a packet capture.

It shares no code with mailgate, so that it can bear witness for or against it.

Times are those of the first sight of what they are about. A connection that was open when the capture began is read
from its next HELO, EHLO, LHLO or MAIL; only with LHLO seen is it known to speak LMTP.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lab import tcp
from lab.tcp import Attempt

__all__ = ["Asked", "Attempt", "Capture", "Transaction", "read"]

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
    connections = tcp.connections(pcap, _Dialog)
    transactions = [each.seen(one) for one in connections for each in one.hearer.ended()]
    attempts = [attempt for one in connections if (attempt := one.attempt()) is not None]
    return Capture(
        tuple(sorted(transactions, key=lambda each: each.started)),
        tuple(attempts),
        sum(one.missed() for one in connections),
    )


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

    def seen(self, connection: tcp.Connection[_Dialog]) -> Transaction:
        """It, as far as it was seen on that connection."""
        header, blank, _ = self.header.partition(b"\r\n\r\n")
        found = _MESSAGE.search(header + blank)
        body_begun = self.octets > 0 or (self.data or 0) // 100 == 3
        return Transaction(
            started=self.started,
            client=connection.client,
            server=connection.server,
            port=connection.port,
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

    def __init__(self, from_start: bool) -> None:
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
