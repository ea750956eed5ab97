"""Dialogs as text, played against a ServerProtocol and a decider that is as simple as can be.

The decider reads its answers from the addresses: `mail451@…`, `data451@…` as the reverse-path, `rcpt550@…`,
`dot451@…` as a recipient get that code there; everything else is accepted. Several may stand in one local part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from feeding import Cut

from mailgate.protocol.command import Mailbox, MailParameters, ReversePath
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
from mailgate.protocol.framing import Flaw
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.protocol.server import FLAW_REPLIES, ServerOptions, ServerProtocol, State

SMTP = ServerOptions(role=Role.SMTP, hostname="gw")
LMTP = ServerOptions(role=Role.LMTP, hostname="gw")

GREETING = reply(220, "", "gw ready")
GOOD = {
    "mail": reply(250, "2.1.0", "sender ok"),
    "rcpt": reply(250, "2.1.5", "recipient ok"),
    "data": reply(354, "", "go"),
    "dot": reply(250, "2.0.0", "taken"),
}


def answer_for(stage: str, mailbox: ReversePath) -> Reply:
    """What the decider says there."""
    found = re.search(rf"{stage}([245]\d\d)", mailbox.local if mailbox else "")
    return reply(int(found[1]), f"{found[1][0]}.0.0", f"so says {mailbox}") if found else GOOD[stage]


@dataclass
class Server:
    """A ServerProtocol, the octets that it has written, and what its decider was told."""

    options: ServerOptions
    written: bytes = b""
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.protocol = ServerProtocol(self.options)
        self.content = b""
        self._sender: ReversePath = None
        self._accepted: list[Mailbox] = []
        self._flaw: Flaw | None = None

    @property
    def in_content(self) -> bool:
        return self.protocol.state is State.CONTENT

    def greet(self) -> None:
        self.protocol.greet(GREETING)
        self.work()
        assert self.written == bytes(GREETING)
        self.written = b""

    def feed(self, octets: bytes) -> None:
        self.protocol.receive(octets)
        self.work()

    def end(self) -> None:
        self.protocol.receive_eof()
        self.work()

    def work(self) -> None:
        """Take and decide events, and write, until there is nothing to do."""
        idle = False
        while not idle:
            event = self.protocol.next_event()
            if event is not None:
                self.decide(event)
            said = self.protocol.data_to_send()
            self.written += said
            idle = isinstance(event, Gone) or (event is None and not said)

    def decide(self, event: Event) -> None:
        match event:
            case MailAsked(slot, sender, parameters):
                self._sender = sender
                self.told.append(" ".join([f"MAIL <{self._sender or ''}>", *_shown(parameters)]))
                self._accepted.clear()
                self.protocol.answer(slot, answer_for("mail", self._sender))
            case RcptAsked(slot, mailbox):
                self.told.append(f"RCPT <{mailbox}>")
                answer = answer_for("rcpt", mailbox)
                if answer.kind == 2:
                    self._accepted.append(mailbox)
                self.protocol.answer(slot, answer)
            case DataAsked(slot):
                self.told.append("DATA")
                self.content, self._flaw = b"", None
                self.protocol.answer(slot, answer_for("data", self._sender))
            case Content(data):
                self.content += data
            case ContentSpoilt(flaw):
                assert self._flaw is None
                self._flaw = flaw
            case ContentEnd(slots):
                self.told.append(f"spoilt: {self._flaw.value}" if self._flaw else f"message {self.content!r}")
                self._answer_outcomes(slots)
            case Reset():
                self.told.append("reset")
            case Quit():
                self.told.append("quit")
            case Gone():
                self.told.append("gone")

    def _answer_outcomes(self, slots: tuple[Slot, ...]) -> None:
        for slot, mailbox in zip(slots, self._accepted, strict=len(slots) != 1):
            self.protocol.answer(slot, FLAW_REPLIES[self._flaw] if self._flaw else answer_for("dot", mailbox))


def _shown(parameters: MailParameters) -> list[str]:
    size = [] if parameters.size is None else [f"SIZE={parameters.size}"]
    body = [] if parameters.body is None else [f"BODY={parameters.body.value}"]
    return [*size, *body, *["SMTPUTF8"] * parameters.smtputf8, *["PRDR"] * parameters.prdr]


@dataclass(frozen=True, slots=True)
class Move:
    """Something that one side does."""

    who: str
    octets: bytes


def moves(script: str) -> list[Move]:
    r"""`C: line` and `S: line` (CRLF is added), `C! octets` with Python's escapes, `E: event`, `C.` for the end."""
    found = []
    for line in filter(str.strip, script.splitlines()):
        who, _, text = line.strip().partition(" ")
        if who == "C!":
            octets = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
            found.append(Move("C", octets))
        elif who in ("C:", "S:"):
            found.append(Move(who[0], text.encode() + b"\r\n"))
        elif who == "E:":
            found.append(Move("E", text.encode()))
        else:
            assert who == "C.", line
            found.append(Move("C.", b""))
    return found


def said(script: list[Move], who: str) -> bytes:
    """All that one side says in a dialog."""
    return b"".join(move.octets for move in script if move.who == who)


def assert_told(server: Server, script: list[Move]) -> None:
    wanted = [move.octets.decode() for move in script if move.who == "E"]
    assert not wanted or server.told == wanted


def play_step_by_step(options: ServerOptions, script: list[Move]) -> Server:
    """Each reply must come right behind what it answers."""
    server = Server(options)
    server.greet()
    for number, move in enumerate(script):
        if move.who == "S":
            assert server.written[: len(move.octets)] == move.octets, f"at move {number}"
            server.written = server.written[len(move.octets) :]
        elif move.who in ("C", "C."):
            assert server.written == b"", f"before move {number}: {move.octets!r}"
            server.feed(move.octets) if move.who == "C" else server.end()
    assert server.written == b""
    return server


def play(options: ServerOptions, script: list[Move], cut: Cut, trailing: bytes = b"") -> Server:
    """All that the client says comes in pieces that have nothing to do with its lines."""
    server = Server(options)
    server.greet()
    for chunk in cut(said(script, "C") + trailing):
        server.feed(chunk)
    if any(move.who == "C." for move in script):
        server.end()
    return server
