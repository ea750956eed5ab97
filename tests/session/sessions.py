"""What the tests of sessions have in common: streams, a decider, and what both sides have to say."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio

from mailgate.protocol.command import Extension, Mailbox
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
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.protocol.server import ServerOptions, ServerProtocol
from mailgate.session.server import ServerSession

each_capacity = pytest.mark.parametrize("capacity", [1, 64, 65_536])

OPTIONS = ServerOptions(role=Role.SMTP, hostname="gw", extensions=(Extension.PIPELINING,))
LMTP_OPTIONS = ServerOptions(role=Role.LMTP, hostname="gw", extensions=(Extension.PIPELINING,))
STALL = 120
SILENCE = 300

GREETING = reply(220, "", "hi")
OK = reply(250, "2.0.0", "ok")
NO = reply(550, "5.1.1", "no")
GO = reply(354, "", "go")
BYE = reply(421, "4.3.2", "bye")

SENDER = Mailbox("a", "x")
RECIPIENTS = (Mailbox("b", "y"), Mailbox("c", "y"), Mailbox("d", "y"))


def serve(stream: trio.abc.Stream, options: ServerOptions = OPTIONS) -> ServerSession:
    """A server's session that has its greeting ready; `listen` is still to be started."""
    session = ServerSession(stream, ServerProtocol(options), STALL)
    session.greet(GREETING)
    return session


def summary(event: Event) -> str:
    """An event in a few words."""
    match event:
        case MailAsked(_, path, _):
            return f"MAIL <{path or ''}>"
        case RcptAsked(_, mailbox):
            return f"RCPT <{mailbox}>"
        case DataAsked():
            return "DATA"
        case Content(data):
            return f"content {data!r}"
        case ContentSpoilt(flaw):
            return f"spoilt: {flaw.value}"
        case ContentEnd(slots):
            return f"end, {len(slots)} due"
        case Reset():
            return "reset"
        case Quit():
            return "quit"
        case Gone():
            return "gone"


@dataclass
class Decider:
    """Takes the events of a session, one after the other, and answers each at once."""

    session: ServerSession
    told: list[str] = field(default_factory=list)
    """what happened; content is put together"""
    ended: float = -1
    """when Quit or Gone came"""

    async def run(self) -> None:
        content = b""
        while True:
            event = await self.session.next_event(SILENCE)
            match event:
                case Content(data):
                    content += data
                    continue
                case ContentEnd(slots):
                    self.told.append(f"message {content!r}")
                    content = b""
                    for slot in slots:
                        self.session.answer(slot, OK)
                    continue
            self.told.append(summary(event))
            match event:
                case MailAsked(slot):
                    self.session.answer(slot, OK)
                case RcptAsked(slot, mailbox):
                    self.session.answer(slot, NO if mailbox.local == "no" else OK)
                case DataAsked(slot):
                    self.session.answer(slot, GO)
                case Quit() | Gone():
                    self.ended = trio.current_time()
                    return


async def slot_of(session: ServerSession, *, after: Reply | None = None) -> Slot:
    """The slot of the next MAIL, RCPT or DATA; with `after`, those before it get that reply."""
    while True:
        event = await session.next_event(SILENCE)
        match event:
            case MailAsked(slot, _, _) | RcptAsked(slot, _) | DataAsked(slot):
                if after is None or isinstance(event, RcptAsked):
                    return slot
                session.answer(slot, after)
            case Reset():
                pass
            case _:
                raise AssertionError(event)


async def to_rcpt(session: ServerSession) -> Slot:
    """Take a hello and MAIL; the slot of the first RCPT behind them, unanswered."""
    return await slot_of(session, after=OK)


async def to_content(session: ServerSession) -> None:
    """Take everything up to DATA, and let the message begin."""
    session.answer(await to_rcpt(session), OK)
    while True:
        match await session.next_event(SILENCE):
            case RcptAsked(slot, _):
                session.answer(slot, OK)
            case DataAsked(slot):
                session.answer(slot, GO)
                await session.flush()
                return
            case event:
                raise AssertionError(event)


HELLO = "S: 220 hi\nC: EHLO me\nS: 250-gw\nS: 250 PIPELINING\n"
TO_RCPT = HELLO + "C: MAIL FROM:<a@x>\nS: 250 2.0.0 ok\nC: RCPT TO:<b@y>\n"
TO_DATA = TO_RCPT + "S: 250 2.0.0 ok\nC: DATA\nS: 354 go\n"


async def answer_after(seconds: float, session: ServerSession, slot: Slot, answer: Reply) -> None:
    await trio.sleep(seconds)
    session.answer(slot, answer)


async def gone_at(session: ServerSession, silence: float = SILENCE) -> float:
    """When the next event comes, which is Gone."""
    assert await session.next_event(silence) == Gone()
    return trio.current_time()


LEAVES = {"closes": "C.", "resets": "C~", "closes its sending side": "C/"}
