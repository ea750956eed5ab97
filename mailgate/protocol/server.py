"""The server's side of SMTP and LMTP, without I/O: bytes in → events, replies → bytes out.

Every command takes a slot. `answer(slot, reply)` may come in any order; the ready prefix of slots is released,
so replies leave in the order of their commands (RFC 2920 section 3.2), one per accepted recipient behind the
data in LMTP (RFC 2033 section 4.2) and PRDR. Replies move the state, not commands. Only RCPTs overtake
unanswered RCPTs; every other command waits until all before it are answered.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass

from mailgate.protocol import command
from mailgate.protocol.command import BadCommand, Dialect, Extension, MailParameters, Verb
from mailgate.protocol.events import (
    Content,
    ContentEnd,
    ContentSpoilt,
    DataAsked,
    Event,
    Gone,
    MailAsked,
    Quit,
    RcptAsked,
    Reset,
    Slot,
)
from mailgate.protocol.framing import BareNewline, DataDecoder, Flaw, LineBuffer, LineTooLong
from mailgate.protocol.reply import Reply, Role, final_prdr_reply, reply


class State(enum.Enum):
    """Where a session is."""

    GREETING = "not greeted yet"
    HELLO = "greeted"
    READY = "between transactions"
    MAIL = "has a reverse-path"
    RCPT = "has an accepted recipient"
    CONTENT = "takes the message"
    OUTCOME = "has the message, owes replies"
    CLOSED = "over"


_ALWAYS = (Verb.NOOP, Verb.VRFY, Verb.HELP, Verb.RSET)
_S, _V = State, Verb

MOVES: dict[State, dict[Verb, State]] = {
    _S.GREETING: {_V.GREETING: _S.HELLO},
    _S.HELLO: {_V.HELO: _S.READY, _V.QUIT: _S.CLOSED, **dict.fromkeys(_ALWAYS, _S.HELLO)},
    _S.READY: {_V.HELO: _S.READY, _V.MAIL: _S.MAIL, _V.QUIT: _S.CLOSED, **dict.fromkeys(_ALWAYS, _S.READY)},
    _S.MAIL: {_V.HELO: _S.READY, _V.RCPT: _S.RCPT, _V.QUIT: _S.CLOSED, **dict.fromkeys(_ALWAYS, _S.MAIL)}
    | {_V.RSET: _S.READY},
    _S.RCPT: {_V.HELO: _S.READY, _V.RCPT: _S.RCPT, _V.DATA: _S.CONTENT, _V.QUIT: _S.CLOSED}
    | dict.fromkeys(_ALWAYS, _S.RCPT)
    | {_V.RSET: _S.READY},
    _S.CONTENT: {_V.DOT: _S.OUTCOME},
    _S.OUTCOME: {_V.DOT: _S.READY},
    _S.CLOSED: {},
}
"""What a positive reply (2xx, 3xx) to a command moves the state to; a command that is not there is answered 503.

EHLO and LHLO go as HELO does. CONTENT becomes OUTCOME when the dot comes in, OUTCOME becomes READY with the last
of its replies, positive or not. 421 closes, whatever it answers.
"""

REFUSED: dict[tuple[State, Verb], State] = {
    (_S.GREETING, _V.GREETING): _S.CLOSED,
    (_S.RCPT, _V.DATA): _S.READY,
    (_S.OUTCOME, _V.DOT): _S.READY,
}
"""What a negative reply (4xx, 5xx) moves the state to, where it moves it: a refused DATA ends the transaction."""

_WANTED = {
    _S.HELLO: "say {hello} first",
    _S.READY: "say MAIL first",
    _S.MAIL: "this transaction has no valid recipient yet",
    _S.RCPT: "a transaction is under way, say DATA or RSET first",
}

_HELLOS = {Role.SMTP: (Verb.HELO, Verb.EHLO), Role.LMTP: (Verb.LHLO,)}

FLAW_REPLIES = {
    Flaw.TOO_BIG: reply(552, "5.3.4", "Message exceeds the size limit"),
    Flaw.BARE_CR: reply(554, "5.6.0", "Message has a CR without LF, which RFC 5321 section 2.3.8 forbids"),
    Flaw.BARE_LF: reply(554, "5.6.0", "Message has an LF without CR, which RFC 5321 section 2.3.8 forbids"),
    Flaw.HIDDEN_DOT: reply(554, "5.6.0", "Message has a line that begins with NUL and a dot"),
}
"""What a message gets that nobody may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a server side offers and allows. Sizes in bytes."""

    role: Role
    hostname: str
    extensions: tuple[Extension, ...] = tuple(Extension)
    message_size: int = 52_428_800
    recipients: int = 1000
    bad_commands: int = 20
    bare_newline: BareNewline = BareNewline.REPAIR


_QUIT_AT_END = re.compile(rb"(?:\A|\n)QUIT\r?\n\Z", re.IGNORECASE)
_QUIT_LENGTH = len(b"\nQUIT\r\n")


MOUTHFUL = 4096
"""octets of replies behind which we want them sent first: a burst of NOOPs must not keep everybody else waiting"""


class ServerProtocol:
    """One client's session. Feed it with `receive`, ask `next_event` until it says None, write `data_to_send`."""

    def __init__(
        self, options: ServerOptions, observe: Callable[[str, Reply], None] = lambda about, reply: None
    ) -> None:
        self._options = options
        self._observe = observe
        self._lines = LineBuffer(command.MAX_LINE)
        self._raw = b""  # in CONTENT: octets not decoded yet
        self._decoder: DataDecoder | None = None
        self._spoilt = False
        self._size = 0
        self._events: list[Event] = []  # lists, because most are empty most of the time: a deque takes 760 octets
        self._slots: list[Slot] = []
        self._prdr: tuple[tuple[Slot, ...], Slot] | None = None
        self._out = bytearray()
        self._eof = False
        self._bad = 0
        self._asked = 0  # RCPTs in this transaction, refused ones included
        self._accepted = 0
        self._parameters = MailParameters()
        self.state = State.GREETING
        self.hello: command.Hello | None = None
        self._greeting = self._new_slot(Verb.GREETING, "greeting")

    # What comes in

    @property
    def buffered(self) -> int:
        """Octets received and not yet taken as events."""
        return len(self._lines) + len(self._raw)

    @property
    def unanswered(self) -> int:
        """Slots that wait for a reply of their own or of one before them."""
        return len(self._slots)

    @property
    def left(self) -> bool:
        """The client's stream has ended and not behind a QUIT: whoever only shuts down its sending side, too."""
        end = self._raw[-_QUIT_LENGTH:] or self._lines.tail(_QUIT_LENGTH)
        return self._eof and not _QUIT_AT_END.search(end)

    def receive(self, data: bytes) -> None:
        """Take octets from the client; once the session is over they are thrown away."""
        if self.state is State.CLOSED:
            return
        if self._decoder is not None:
            self._raw += data
        else:
            self._lines.feed(data)

    def receive_eof(self) -> None:
        """The client will send no more."""
        self._eof = True

    def next_event(self) -> Event | None:
        """What came next; None: nothing until more octets, or more answers, are in, or what is to be sent has been.

        Never raises for bad input.
        """
        while self._raw and self._decoder is not None and not self._events:
            self._take_content(self._decoder)
        if self._events:
            return self._events.pop(0)
        if self._decoder is not None:
            return Gone() if self._eof else None
        while self.state is not State.CLOSED and len(self._out) < MOUTHFUL and self._may_go_on():
            try:
                line = self._lines.take()
            except LineTooLong:
                self._complain(BadCommand(500, "5.5.2", "Line too long"))
                continue
            if line is None:
                return Gone() if self._eof and not self._slots else None
            event = self._take_command(line)
            if event is not None:
                return event
        return None

    def _may_go_on(self) -> bool:
        if not self._slots:
            return True
        if self._slots[-1].verb is not Verb.RCPT or len(self._slots) >= self._options.recipients:
            return False  # the rest stays in the buffer, and then with the client
        line = self._lines.peek()
        return line is not None and line[:5].upper() == b"RCPT "

    # Commands

    def _take_command(self, line: bytes) -> Event | None:
        try:
            parsed = command.parse(line, Dialect(self._extensions(), self._parameters.smtputf8))
            self._check_order(parsed)
        except BadCommand as bad:
            self._complain(bad, line)
            return None
        about = line.decode("utf-8", "replace")
        match parsed:
            case command.Hello():
                return self._say_hello(parsed, self._new_slot(parsed.verb, about))
            case command.Mail():
                return self._ask_mail(parsed, self._new_slot(Verb.MAIL, about))
            case command.Rcpt(mailbox):
                return self._ask_rcpt(mailbox, self._new_slot(Verb.RCPT, about))
            case command.Other(Verb.DATA):
                return DataAsked(self._new_slot(Verb.DATA, about))
            case command.Other(verb):
                self.answer(self._new_slot(verb, about), _STOCK_REPLIES[verb])
                return _STOCK_EVENTS.get(verb)

    def _extensions(self) -> tuple[Extension, ...]:
        """None behind HELO: whoever says HELO was offered nothing. LMTP has one reply per recipient without PRDR."""
        if self.hello is None or self.hello.verb is Verb.HELO:
            return ()
        lmtp = self._options.role is Role.LMTP
        return tuple(one for one in self._options.extensions if not (lmtp and one is Extension.PRDR))

    def _check_order(self, parsed: command.Command) -> None:
        verb = _verb(parsed)
        hellos = _HELLOS[self._options.role]
        if verb in command.HELLOS:
            if verb not in hellos:  # RFC 2033 section 4.1
                raise BadCommand(500, "5.5.1", f"Command unrecognized: {hellos[-1].value} is spoken here")
            verb = Verb.HELO
        if verb not in MOVES[self.state]:
            wanted = _WANTED[self.state].format(hello=hellos[-1].value)
            raise BadCommand(503, "5.5.1", f"Bad sequence of commands: {wanted}")

    def _complain(self, bad: BadCommand, line: bytes = b"") -> None:
        self._bad += 1
        slot = self._new_slot(Verb.NOOP, line.decode("utf-8", "replace"))
        if self._bad > self._options.bad_commands:
            self.answer(slot, reply(421, "4.7.0", f"{self._options.hostname} Too many bad commands, closing"))
        else:
            self.answer(slot, bad.reply)

    def _say_hello(self, hello: command.Hello, slot: Slot) -> Event:
        self.hello = hello
        lines = [self._options.hostname]
        for extension in self._extensions():
            size = f" {self._options.message_size}" if extension is Extension.SIZE else ""
            lines.append(extension.value + size)
        self.answer(slot, Reply(250, "", tuple(lines)))
        return Reset()

    def _ask_mail(self, mail: command.Mail, slot: Slot) -> Event | None:
        if (mail.parameters.size or 0) > self._options.message_size:  # RFC 1870 section 6.1
            self.answer(slot, FLAW_REPLIES[Flaw.TOO_BIG])
            return None
        self._parameters = mail.parameters
        self._asked = 0
        self._accepted = 0
        return MailAsked(slot, mail.reverse_path, mail.parameters)

    def _ask_rcpt(self, mailbox: command.Mailbox, slot: Slot) -> Event | None:
        # Refused ones count too: they are remembered like the others, and who guesses addresses has no end of them.
        self._asked += 1
        if self._asked > self._options.recipients:  # RFC 5321 section 4.5.3.1.10
            self.answer(slot, reply(452, "4.5.3", "Too many recipients, send the rest in another transaction"))
            return None
        return RcptAsked(slot, mailbox)

    # The message

    def _take_content(self, decoder: DataDecoder) -> None:
        raw, self._raw = self._raw, b""
        content, rest = decoder.decode(raw)
        self._size += len(content)
        if not self._spoilt and self._size > self._options.message_size:  # the content before any other flaw
            decoder.flaw = Flaw.TOO_BIG
        if decoder.flaw is None and content:
            self._events.append(Content(content))
        if decoder.flaw is not None and not self._spoilt:
            self._spoilt = True
            self._events.append(ContentSpoilt(decoder.flaw))
        if decoder.finished:
            self._decoder = None
            self._lines.feed(rest)
            self.state = MOVES[State.CONTENT][Verb.DOT]
            self._events.append(ContentEnd(self._outcome_slots()))

    def _outcome_slots(self) -> tuple[Slot, ...]:
        prdr = self._parameters.prdr
        begin = self._new_slot(Verb.DOT, "end of data") if prdr else None
        count = self._accepted if prdr or self._options.role is Role.LMTP else 1
        slots = tuple(self._new_slot(Verb.DOT, "end of data") for _ in range(count))
        if begin is not None:
            self._prdr = (slots, self._new_slot(Verb.DOT, "end of data, all recipients"))
            self.answer(begin, reply(353, "", "One reply per recipient follows"))
        return slots

    # What goes out

    def greet(self, greeting: Reply) -> None:
        """Say the greeting: 220, or 421 or 554 to send the client elsewhere."""
        self.answer(self._greeting, greeting)

    def goodbye(self, farewell: Reply) -> None:
        """Say 421 now, in the place of every reply that is due (RFC 5321 section 3.8), and end the session."""
        if self.state is not State.CLOSED:
            self._out += bytes(farewell)
            self._observe("goodbye", farewell)
            self._close()

    def answer(self, slot: Slot, answer: Reply) -> None:
        """Answer a slot, once; what is ready is released to `data_to_send`."""
        if slot.reply is not None:
            raise RuntimeError(f"answered twice: {slot!r}, now {answer!s}")
        slot.reply = answer
        if self._prdr is not None and all(one.reply for one in self._prdr[0]):
            slots, final = self._prdr
            self._prdr = None
            final.reply = final_prdr_reply([one.reply for one in slots if one.reply])
        while self._slots and self._slots[0].reply is not None:
            self._release(self._slots.pop(0))

    def data_to_send(self) -> bytes:
        """The octets to write now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def _new_slot(self, verb: Verb, about: str) -> Slot:
        slot = Slot(verb, about)
        self._slots.append(slot)
        return slot

    def _release(self, slot: Slot) -> None:
        answer = slot.reply
        assert answer is not None
        self._out += bytes(answer)
        self._observe(slot.about, answer)
        verb = Verb.HELO if slot.verb in command.HELLOS else slot.verb
        if verb is Verb.QUIT or answer.code == 421:
            self._close()
        elif verb is Verb.DOT and self._slots:
            pass  # more replies about this message are due
        elif answer.kind in (2, 3):
            self.state = MOVES[self.state].get(verb, self.state)
        else:
            self.state = REFUSED.get((self.state, verb), self.state)
        if slot.verb is Verb.RCPT and answer.kind == 2:
            self._accepted += 1
        if self.state is State.CONTENT:
            self._decoder = DataDecoder(self._options.bare_newline)
            self._raw = self._lines.take_all()
            self._spoilt = False
            self._size = 0

    def _close(self) -> None:
        """Nothing is said behind a goodbye, and nothing kept of what the client said."""
        self.state = State.CLOSED
        self._slots.clear()
        self._events.clear()
        self._lines.take_all()
        self._raw = b""
        self._decoder = None


def _verb(parsed: command.Command) -> Verb:
    match parsed:
        case command.Mail():
            return Verb.MAIL
        case command.Rcpt():
            return Verb.RCPT
        case _:
            return parsed.verb


_STOCK_REPLIES = {
    Verb.RSET: reply(250, "2.0.0", "Reset"),
    Verb.NOOP: reply(250, "2.0.0", "Fine"),
    Verb.VRFY: reply(252, "2.0.0", "Cannot verify, offer it with RCPT"),  # RFC 5321 section 3.5.3
    Verb.HELP: reply(214, "2.0.0", "This is mailgate: RFC 5321 and RFC 2033"),
    Verb.QUIT: reply(221, "2.0.0", "Bye"),
}
_STOCK_EVENTS: dict[Verb, Event] = {Verb.RSET: Reset(), Verb.QUIT: Quit()}
