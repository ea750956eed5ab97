"""Reads the dialog of one SMTP or LMTP connection while it goes on, from outside, into its `records.Session`.

It shares no code with mailgate, so that it can bear witness for or against it.

Replies are matched to commands as the client must do it (RFC 2920 section 3.1): in order, one by one, and a reply that
comes while none is due is unasked. So one that was written too early, and is still on its way when the client writes
what it seems to answer, is that one's reply: no client can tell.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from sim.content import digest
from sim.records import Asked, End, Phase, Said, Session, Transaction
from sim.tcp import Tap, Way

_HEAD = 4_096  # octets of a message that are kept
_CRLF = b"\r\n"
_DOT = b"\r\n.\r\n"
_LAST_LINE = re.compile(rb"(\d{3})(?: |$)")
_PATH = re.compile(r'(?:MAIL FROM|RCPT TO):\s*<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>(.*)', re.IGNORECASE)

_PHASES: Mapping[str, Phase] = {
    "EHLO": Phase.EHLO,
    "HELO": Phase.EHLO,
    "LHLO": Phase.EHLO,
    "MAIL": Phase.MAIL,
    "RCPT": Phase.RCPT,
    "DATA": Phase.DATA,
    "QUIT": Phase.OVER,
}
"""where a session is while the reply to such a command is what it waits for; others leave it where it was"""

_MOVES: Mapping[Phase, tuple[Phase | None, Phase | None]] = {
    Phase.GREETING: (Phase.EHLO, Phase.EHLO),
    Phase.EHLO: (Phase.MAIL, None),
    Phase.MAIL: (Phase.RCPT, Phase.KEPT),
    Phase.DATA: (Phase.BODY, Phase.KEPT),
    Phase.OVER: (Phase.OVER, Phase.OVER),
}
"""where it is once a positive (2xx, 3xx) or a negative reply has come and no other is due; None: where it was"""


@dataclass(frozen=True, slots=True)
class _Due:
    """A reply that the client waits for: to a command, to a transaction's dot, or the greeting."""

    phase: Phase | None
    asked: Asked | None = None
    transaction: Transaction | None = None


class _Replies:
    """Cuts what a server writes into replies. A line that is none counts as part of the next reply."""

    def __init__(self) -> None:
        self._position = 0
        self._line = bytearray()
        self._lines: list[bytes] = []

    def feed(self, time: float, octets: bytes) -> list[tuple[int, Said]]:
        """The replies that are complete now, each with its end's offset in all that the server has written."""
        complete: list[tuple[int, Said]] = []
        *whole, part = octets.split(b"\n")
        for piece in whole:
            self._position += len(piece) + 1
            line = bytes(self._line + piece).removesuffix(b"\r")
            self._line.clear()
            self._lines.append(line)
            if last := _LAST_LINE.match(line):
                text = b"\n".join(self._lines).decode("utf-8", "replace")
                complete.append((self._position, Said(int(last[1]), text, time)))
                self._lines.clear()
        self._position += len(part)
        self._line += part
        return complete


class DialogTap(Tap):
    """Keeps a session's record complete at any time, and its phase.

    A MAIL inside a transaction begins another one, whatever the server says to it. DATA without MAIL, and what follows
    it, is among the session's commands only.
    """

    def __init__(self, session: Session, moved: Callable[[Session], None]) -> None:
        """`moved` is called after each call that has changed the phase, with the record complete.

        A phase that lasts no time is not seen: the replies that arrive in one segment count as heard at once. `moved`
        may break the connection; that the session is over is told when it has returned.
        """
        self._session = session
        self._moved = moved
        self._told = True
        self._telling = False
        # What the client writes
        self._read: Callable[[float, bytes], bytes] = self._commands
        """takes some of the octets, gives back the rest"""
        self._text = bytearray()
        """the line, or the message with a CRLF before it, that is being read"""
        self._position = 0
        """offset in all that the client has written of what is read next"""
        self._held: list[tuple[float, bytes]] = []
        """what was written behind DATA before its reply: the reply decides what that is"""
        self._open: Transaction | None = None
        self._to_server: deque[tuple[int, Asked | Transaction]] = deque()
        """commands and dots that are on their way, with the offsets of their ends"""
        self._arrived = 0
        # What the server writes
        self._replies = _Replies()
        self._to_client: deque[tuple[int, Said]] = deque()
        """replies that are on their way, with the offsets of their ends: the first one is the first that is due, and so
        on, and those beyond are unasked"""
        self._due = deque([_Due(Phase.GREETING)])
        """replies that have not arrived"""
        self._next = Phase.EHLO
        """the phase when none is due"""

    # What it is told

    def opened(self) -> None:
        """The client's connect has succeeded."""
        self._session.established = trio.current_time()
        self._tell()

    def written(self, way: Way, octets: bytes) -> None:
        """A program has handed these to its host's buffer."""
        now = trio.current_time()
        if way is Way.TO_SERVER:
            self._take(now, octets)
        else:
            for end, said in self._replies.feed(now, octets):
                self._to_client.append((end, said))
                if len(self._to_client) <= len(self._due):
                    self._answer(len(self._to_client) - 1)
                else:
                    self._session.unasked.append(said)
        self._tell()

    def arrived(self, way: Way, total: int) -> None:
        """So many octets, from the start, are in the other host's receive buffer."""
        if way is Way.TO_SERVER:
            self._arrived = total
            self._mark_arrived()
        else:
            while self._to_client and self._to_client[0][0] <= total:
                _, said = self._to_client.popleft()
                said.arrived = trio.current_time()
                if self._due:
                    self._heard(self._due.popleft(), said)
        self._tell()

    def ended(self, way: Way, how: End) -> None:
        """The program that sends in that way has closed its side, or ended with its host."""
        session, end = self._session, (trio.current_time(), how)
        if way is Way.TO_SERVER:
            session.client_end = session.client_end or end
        else:
            session.server_end = session.server_end or end
        self._tell()

    def broke(self) -> None:
        """A reset by nobody's program, or a time-out of TCP, has reached an end."""
        if self._session.broken is None:
            self._session.broken = trio.current_time()
        self._tell()

    # The phase

    def _tell(self) -> None:
        session = self._session
        phase = self._phase()
        if phase is session.phase or session.phase is Phase.OVER:
            return
        session.phase = phase
        self._told = False
        if self._telling:
            return  # we are called by `moved`
        self._telling = True
        while not self._told:
            self._told = True
            self._moved(session)
        self._telling = False

    def _phase(self) -> Phase:
        session = self._session
        if session.client_end is not None or session.server_end is not None or session.broken is not None:
            return Phase.OVER
        if session.established is None:
            return Phase.CONNECT
        for due in self._due:
            if due.phase is Phase.DOT and due.transaction is not None and due.transaction.dot_arrived is not None:
                return Phase.AFTER_DOT
            if due.phase is not None:
                return due.phase
        return self._next

    # The client

    def _take(self, time: float, octets: bytes) -> None:
        while octets:
            octets = self._read(time, octets)

    def _commands(self, time: float, octets: bytes) -> bytes:
        piece, newline, rest = octets.partition(b"\n")
        self._position += len(piece) + len(newline)
        self._text += piece
        if newline:
            line = self._text.decode("utf-8", "replace").removesuffix("\r")
            self._text.clear()
            self._command(Asked(line, time))
        return rest

    def _hold(self, time: float, octets: bytes) -> bytes:
        self._held.append((time, octets))
        return b""

    def _message(self, time: float, octets: bytes) -> bytes:
        transaction, text = self._open, self._text
        assert transaction is not None  # DATA has seen to that
        searched = max(0, len(text) - len(_DOT) + 1)
        text += octets
        end = text.find(_DOT, searched)
        size = len(text) - len(_CRLF) if end < 0 else end
        head = min(size, _HEAD)
        transaction.octets = size
        if len(transaction.content) != head:
            transaction.content = bytes(text[len(_CRLF) : len(_CRLF) + head])
        if end < 0:
            self._position += len(octets)
            return b""
        rest = bytes(text[end + len(_DOT) :])
        self._position += len(octets) - len(rest)
        stuffed = bytes(text[: end + len(_CRLF)])
        transaction.digest = digest(stuffed.replace(b"\r\n.", _CRLF)[len(_CRLF) :])
        self._dot(time, transaction)
        return rest

    def _dot(self, time: float, transaction: Transaction) -> None:
        """The dot was written."""
        transaction.dot_written = time
        self._to_server.append((self._position, transaction))
        self._text.clear()
        self._read = self._commands
        self._leave()
        for _ in range(len(transaction.accepted) if self._session.lmtp else 1):
            self._owe(_Due(Phase.DOT, transaction=transaction), len(self._due))

    def _command(self, asked: Asked) -> None:
        session = self._session
        session.commands.append(asked)
        self._to_server.append((self._position, asked))
        verb = asked.verb
        match verb:
            case "MAIL":
                reverse_path, parameters = _path(asked.line)
                self._open = Transaction(session, asked, reverse_path, tuple(parameters.upper().split()))
                session.transactions.append(self._open)
            case "RCPT" if self._open is not None:
                self._open.rcpts.append((_path(asked.line)[0], asked))
            case "DATA":
                self._open = self._open or Transaction(session, asked, "", ())
                self._open.data = asked
                self._read = self._hold
            case "EHLO" | "HELO" | "LHLO" | "RSET":
                session.lmtp = session.lmtp or verb == "LHLO"
                self._leave()
        self._owe(_Due(_PHASES.get(verb), asked, self._open), len(self._due))

    def _leave(self) -> None:
        """The client is in no transaction any more."""
        if self._open is not None:
            self._open = None
            self._next = Phase.KEPT

    def _mark_arrived(self) -> None:
        while self._to_server and self._to_server[0][0] <= self._arrived:
            _, what = self._to_server.popleft()
            if isinstance(what, Asked):
                what.arrived = trio.current_time()
            else:
                what.dot_arrived = trio.current_time()

    # Replies

    def _owe(self, due: _Due, index: int) -> None:
        """Another reply is due, after so many others. One that was unasked, but is on its way, will be taken for it."""
        unasked = len(self._to_client) - len(self._due)
        self._due.insert(index, due)
        if unasked > 0:
            self._session.unasked.pop(-unasked)
            self._answer(index)

    def _answer(self, index: int) -> None:
        """The reply that is due at that index has been written."""
        due, (_, said) = self._due[index], self._to_client[index]
        if due.asked is not None:
            due.asked.reply = said
            if due.phase is Phase.DATA:
                self._answer_data(said)
        elif due.transaction is not None:
            due.transaction.outcomes.append(said)
            if said.code == 353 and due.transaction.prdr and len(due.transaction.outcomes) == 1:
                # draft-hall-prdr: one reply for each recipient follows, and a final one.
                for number in range(len(due.transaction.accepted) + 1):
                    self._owe(due, index + 1 + number)
        else:
            self._session.greeting = said

    def _answer_data(self, said: Said) -> None:
        """It is decided what the client writes behind DATA."""
        self._read = self._commands
        if said.kind == 3:
            self._read = self._message
            self._text += _CRLF  # DATA's own: a message may be empty
        held, self._held = self._held, []
        for time, octets in held:
            self._take(time, octets)
        self._mark_arrived()

    def _heard(self, due: _Due, said: Said) -> None:
        """A reply that was due has arrived."""
        given_up = due.transaction is not None and due.transaction is not self._open
        if due.phase is None or due.phase not in _MOVES or given_up:
            return
        positive, negative = _MOVES[due.phase]
        self._next = (positive if said.kind in (2, 3) else negative) or self._next


def _path(line: str) -> tuple[str, str]:
    """The mailbox of a MAIL or RCPT, and what stands behind it; empty if it is none."""
    found = _PATH.match(line)
    return (found[1], found[2]) if found else ("", "")
