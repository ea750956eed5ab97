"""The client's side of SMTP and LMTP, without I/O: commands → bytes out, bytes in → replies.

Commands may be pipelined: replies come back in the order of commands (RFC 2920 section 3.1). A reply that was not
asked for, and bytes that are no reply, end the session: CLOSED absorbs everything.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from mailgate.protocol.command import HELLOS, Extension, Mailbox, MailParameters, ReversePath, Verb
from mailgate.protocol.framing import DataEncoder, LineBuffer, LineTooLong
from mailgate.protocol.reply import MAX_LINE_READ, BadReply, Reply, ReplyParser, Role


class State(enum.Enum):
    """Where a session with a next hop is."""

    GREETING = "waits for the greeting"
    HELLO = "greeted"
    READY = "between transactions"
    MAIL = "has said MAIL"
    DATA = "has said DATA"
    CONTENT = "sends the message"
    OUTCOME = "has sent the dot"
    CLOSED = "over"


_S, _V = State, Verb

SAYABLE: dict[State, dict[Verb, State]] = {
    _S.GREETING: {},
    _S.HELLO: {_V.HELO: _S.HELLO, _V.QUIT: _S.HELLO},
    _S.READY: {_V.MAIL: _S.MAIL, _V.RSET: _S.READY, _V.QUIT: _S.READY},
    _S.MAIL: {_V.RCPT: _S.MAIL, _V.DATA: _S.DATA, _V.RSET: _S.READY, _V.QUIT: _S.MAIL},
    _S.DATA: {},
    _S.CONTENT: {_V.DOT: _S.OUTCOME},
    _S.OUTCOME: {},
    _S.CLOSED: {},
}
"""What may be said where, and the state once it is said. EHLO and LHLO go as HELO does."""

MOVES: dict[tuple[State, Verb], tuple[State, State]] = {
    (_S.GREETING, _V.GREETING): (_S.HELLO, _S.CLOSED),
    (_S.HELLO, _V.HELO): (_S.READY, _S.HELLO),
    (_S.MAIL, _V.MAIL): (_S.MAIL, _S.READY),
    (_S.DATA, _V.DATA): (_S.CONTENT, _S.READY),
    (_S.OUTCOME, _V.DOT): (_S.READY, _S.READY),
}
"""Where a reply moves the state to: a positive one (2xx, 3xx), a negative one. 421 and the reply to QUIT close.

RSET's reply moves nothing: what it ends has ended when it was said, and a refusal is for the caller to judge.
"""

_POSITIVE = {_V.DATA: 3}  # RFC 5321 section 4.2.1: 3xx where the server waits for more, else 2xx


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to a command. 421 may stand in any reply's place (RFC 5321 section 3.8): the session is over."""

    verb: Verb
    reply: Reply


@dataclass(frozen=True, slots=True)
class SpokenEarly:
    """A 4xx (but 421) or 5xx inside the message: the next hop will not take it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Broken:
    """The session is over: what came is no answer to anything we said, or the stream ended."""

    why: str


Event = Answered | SpokenEarly | Broken


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the last EHLO or LHLO reply offered."""

    extensions: frozenset[Extension]


class ClientProtocol:
    """One session with a next hop. Each command method gives the octets to write; `next_event` what came back."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._lines = LineBuffer(MAX_LINE_READ)
        self._parser = ReplyParser()
        self._awaited: deque[Verb] = deque([Verb.GREETING])
        self._encoder = DataEncoder()
        self._accepted = 0
        self._prdr = False
        self._end: str | None = None
        self.transactions = 0
        """messages whose dot was answered, whatever the answer"""
        self.state = State.GREETING
        self.capabilities = Capabilities(frozenset())

    @property
    def awaited(self) -> int:
        """Replies that are due."""
        return len(self._awaited)

    @property
    def buffered(self) -> int:
        """Octets received and not yet taken as events."""
        return len(self._lines)

    @property
    def speaking(self) -> bool:
        """Some of a reply has come, but not its end (once `next_event` has said None)."""
        return bool(self._lines) or self._parser.begun

    @property
    def accepted(self) -> int:
        """Recipients accepted in this transaction: so many replies LMTP and PRDR give to the dot."""
        return self._accepted

    # Commands

    def hello(self, verb: Verb, name: str) -> bytes:
        """HELO, EHLO or LHLO."""
        return self._say(verb, f"{verb.value} {name}")

    def mail(self, reverse_path: ReversePath, wanted: MailParameters) -> bytes:
        """MAIL, with those of the wanted parameters that the next hop knows.

        What it does not know is left out: SMTPUTF8 must be checked by the caller, for without it the address may
        not be sent at all (RFC 6531 section 3.6); 8-bit data goes as it is (RFC 6152 section 3 wants it converted,
        which would break signatures; Exim does the same).
        """
        offered = self.capabilities.extensions
        words = [f"MAIL FROM:<{reverse_path or ''}>"]
        if wanted.size is not None and Extension.SIZE in offered:
            words.append(f"SIZE={wanted.size}")
        if wanted.body is not None and Extension.EIGHTBITMIME in offered:
            words.append(f"BODY={wanted.body.value}")
        if wanted.smtputf8 and Extension.SMTPUTF8 in offered:
            words.append("SMTPUTF8")
        self._prdr = wanted.prdr and Extension.PRDR in offered and self._role is Role.SMTP
        if self._prdr:
            words.append("PRDR")
        self._accepted = 0
        return self._say(Verb.MAIL, " ".join(words))

    def rcpt(self, mailbox: Mailbox) -> bytes:
        """RCPT."""
        return self._say(Verb.RCPT, f"RCPT TO:<{mailbox}>")

    def data(self) -> bytes:
        """DATA: with an accepted recipient only."""
        self._encoder = DataEncoder()
        return self._say(Verb.DATA, "DATA")

    def content(self, content: bytes) -> bytes:
        """Some octets of the message, dot-stuffed."""
        assert self.state is State.CONTENT
        return self._encoder.encode(content)

    def end(self) -> bytes:
        """The dot: the message is complete, and from the moment these octets are written it may be taken."""
        self._enter(Verb.DOT)
        self._awaited.extend([Verb.DOT] * (self._accepted if self._role is Role.LMTP else 1))
        return self._encoder.end()

    def reset(self) -> bytes:
        """RSET: a transaction is given up. MAIL may follow in the same write if the next hop knows PIPELINING."""
        self._accepted = 0
        return self._say(Verb.RSET, "RSET")

    def quit(self) -> bytes:
        """QUIT."""
        return self._say(Verb.QUIT, "QUIT")

    def _say(self, verb: Verb, line: str) -> bytes:
        self._enter(verb)
        self._awaited.append(verb)
        return f"{line}\r\n".encode()

    def _enter(self, verb: Verb) -> None:
        key = _as_helo(verb)
        if key not in SAYABLE[self.state]:
            raise RuntimeError(f"{verb.value} cannot be said: the session {self.state.value}")
        self.state = SAYABLE[self.state][key]

    # Replies

    def receive(self, data: bytes) -> None:
        """Take octets from the next hop."""
        if self.state is not State.CLOSED:
            self._lines.feed(data)

    def receive_eof(self, why: str = "connection closed") -> None:
        """The next hop will send no more."""
        self._end = why

    def next_event(self) -> Event | None:
        """What came next; None: nothing until more octets are in. Broken comes once and is the last."""
        if self.state is State.CLOSED:
            return None
        try:
            while (line := self._lines.take()) is not None:
                answer = self._parser.line(line)
                if answer is not None:
                    return self._take_reply(answer)
        except LineTooLong:
            return self._break(f"a reply line of more than {MAX_LINE_READ} octets")
        except BadReply as bad:
            return self._break(str(bad))
        return None if self._end is None else self._break(self._end)

    def _break(self, why: str) -> Broken:
        self.state = State.CLOSED
        return Broken(why)

    def _take_reply(self, answer: Reply) -> Event:
        if not self._awaited:
            if self.state is State.CONTENT and answer.kind in (4, 5) and answer.code != 421:
                return SpokenEarly(answer)
            return self._break(f"a reply nobody asked for: {answer}")
        verb = self._awaited.popleft()
        if verb is Verb.DOT and self._prdr and answer.code == 353:
            # draft-hall-prdr: one reply for each recipient follows, and a final one.
            self._prdr = False
            self._awaited.extend([Verb.DOT] * (self._accepted + 1))
            return Answered(verb, answer)
        expected = _POSITIVE.get(verb, 2)
        if answer.kind in (2, 3) and answer.kind != expected:
            return self._break(f"a reply that does not fit {verb.value}: {answer}")
        self._move(verb, answer)
        return Answered(verb, answer)

    def _move(self, verb: Verb, answer: Reply) -> None:
        positive = answer.kind in (2, 3)
        if verb is Verb.DOT and self._awaited:
            return  # more replies about this message are due
        self.transactions += verb is Verb.DOT
        if answer.code == 421 or verb is Verb.QUIT:
            self.state = State.CLOSED
            return
        if Verb.RSET in self._awaited:
            return  # about a transaction that was given up
        positive_state, negative_state = MOVES.get((self.state, _as_helo(verb)), (self.state, self.state))
        self.state = positive_state if positive else negative_state
        if verb is Verb.RCPT and positive:
            self._accepted += 1
        if verb in (Verb.EHLO, Verb.LHLO) and positive:
            self.capabilities = capabilities(answer)


def _as_helo(verb: Verb) -> Verb:
    return Verb.HELO if verb in HELLOS else verb


_EXTENSIONS = {extension.value: extension for extension in Extension}


def capabilities(hello: Reply) -> Capabilities:
    """What an EHLO or LHLO reply offers (RFC 5321 section 4.1.1.1); keywords we do not know are passed over."""
    keywords = [line.strip().partition(" ")[0].upper() for line in hello.lines[1:]]
    return Capabilities(frozenset(_EXTENSIONS[keyword] for keyword in keywords if keyword in _EXTENSIONS))
