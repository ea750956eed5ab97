"""The steps of a session with a next hop, and the dialogs that go with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
import trio.testing
from sessions import RECIPIENTS, SENDER

from mailgate.protocol.command import MailParameters
from mailgate.protocol.reply import Reply, Role
from mailgate.session.client import ClientSession, Lost, Patience
from mailgate.testing import bounded_stream_pair

SILENCE = 10
STALL = 60
PATIENCE = Patience(SILENCE)

Step = Callable[[ClientSession], Awaitable[Reply | Lost | None]]


async def offer_one(session: ClientSession) -> Reply | Lost:
    return await session.offer(RECIPIENTS[:1], PATIENCE) or await session.reply(PATIENCE)


async def send_dot(session: ClientSession) -> Reply | Lost:
    return await session.end() or await session.reply(PATIENCE)


@dataclass(frozen=True, slots=True)
class Stage:
    """A step, what the next hop hears, and what it says when all is well."""

    step: Step
    heard: str
    said: str


STAGES: dict[str, Stage] = {
    "greeting": Stage(lambda session: session.greeting(PATIENCE), "", "S: 220 hi\n"),
    "hello": Stage(lambda session: session.hello("gw", PATIENCE), "C: EHLO gw\n", "S: 250-mx\nS: 250 PIPELINING\n"),
    "MAIL": Stage(
        lambda session: session.mail(SENDER, MailParameters(), PATIENCE), "C: MAIL FROM:<a@x>\n", "S: 250 2.1.0 ok\n"
    ),
    "RCPT": Stage(offer_one, "C: RCPT TO:<b@y>\n", "S: 250 2.1.5 ok\n"),
    "DATA": Stage(lambda session: session.data(PATIENCE), "C: DATA\n", "S: 354 go\n"),
    "content": Stage(lambda session: session.content(b"..hello\r\n"), "C: ...hello\n", ""),
    "dot": Stage(send_dot, "C: .\n", "S: 250 2.0.0 taken\n"),
}
NAMES = list(STAGES)
ANSWERED = [name for name in NAMES if name != "content"]


def before(name: str) -> str:
    """The dialog up to a stage, as the next hop plays it."""
    return "".join(STAGES[one].heard + STAGES[one].said for one in NAMES[: NAMES.index(name)])


async def go_to(name: str, session: ClientSession) -> None:
    """Take all stages up to one."""
    for one in NAMES[: NAMES.index(name)]:
        assert not isinstance(await STAGES[one].step(session), Lost), one


@dataclass(frozen=True, slots=True)
class Talk:
    """A session, and the other end of its stream."""

    session: ClientSession
    peer: trio.abc.Stream


def talk(capacity: int = 65_536, role: Role = Role.SMTP) -> Talk:
    ours, theirs = bounded_stream_pair(capacity)
    return Talk(ClientSession(ours, role, STALL), theirs)


WHOLE = "".join(stage.heard + stage.said for stage in STAGES.values())
