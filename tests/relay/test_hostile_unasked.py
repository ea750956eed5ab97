"""Next hops that speak unasked: behind a reply, inside the message, before our dot, or while nobody is asking."""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from world import Hop, Speaks, World

from mailgate.protocol.command import Mailbox, MailParameters
from mailgate.protocol.reply import Reply, Role
from mailgate.session.client import ClientSession, Lost, Patience
from mailgate.testing import Close, Delay, During, Plan, Raw, Script, Step, seeded

NO_PATH = "451 4.4.1 No path to the next hop, try later or elsewhere"
LOST = "451 4.4.2 The next hop was lost, try later or elsewhere"
UNKNOWN = "451 4.4.2 The next hop did not confirm the message, try again"
TAKEN = "250 2.0.0 taken"
SPOKEN: tuple[Speaks, ...] = ("smtp", "lmtp")


def script_of(stage: str, *steps: Step) -> Script:
    changed: dict[str, Any] = {stage: steps}
    return dataclasses.replace(Script(), **changed)


STRAY = b"250 2.0.0 nobody asked\r\n"
STRAYS = {
    # what is said in one piece at a stage → what the client is told last
    "greeting": (b"220 hi\r\n", NO_PATH),
    "ehlo": (b"250 hi\r\n", LOST),
    "mail": (b"250 2.1.0 ok\r\n", LOST),
    "rcpt": (b"250 2.1.5 ok\r\n", LOST),
    "data": (b"354 go\r\n", LOST),
    "dot": (b"250 2.0.0 taken\r\n", TAKEN),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize("stray", [STRAY, b"421 4.3.2 bye\r\n", b"oops", b"\0", b"250-"], ids=str)
@pytest.mark.parametrize(("stage", "said", "told"), [(stage, *rest) for stage, rest in STRAYS.items()], ids=STRAYS)
async def test_stray_reply(
    stage: str, said: bytes, told: str, stray: bytes, speaks: Speaks, autojump_clock: MockClock
) -> None:
    """A second reply behind the one that was asked for is never the next command's: the session is lost."""
    stage = "lhlo" if (stage, speaks) == ("ehlo", "lmtp") else stage
    hop = Hop("a", script_of(stage, Raw(said + stray)), speaks=speaks)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 ...\nC: RCPT TO:<u@a.example>")
        last = await client.reply()
        if last.startswith("250"):
            await client.play("C: DATA")
            last = await client.reply()
        if last.startswith("354"):
            await client.play("C: Subject: hi\nC+ 1\nC: .")
            last = await client.reply()
        assert last == told


async def test_replies_beyond_the_recipients(autojump_clock: MockClock) -> None:
    """LMTP: three replies where two are due. The first two count."""
    script = Script(outcomes={"v@a.example": Raw(b"450 4.2.0 not you\r\n250 2.0.0 nor anybody\r\n")})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, speaks="lmtp")) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "v@a.example")
        assert told.outcomes == (TAKEN, "450 4.2.0 not you")


async def test_fewer_replies_than_recipients(autojump_clock: MockClock) -> None:
    script = Script(outcomes={"v@a.example": Close()})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, speaks="lmtp")) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "v@a.example", "w@a.example")
        assert told.outcomes == (TAKEN, UNKNOWN, UNKNOWN)


YES, NO = "250 2.0.0 yes", "550 5.7.1 not you"
PRDR_ENDS: dict[str, tuple[Plan, tuple[str, str], tuple[str, str]]] = {
    # the last reply; those for two recipients; what the client is told of each
    "accepted": ("250 2.0.0 done", (YES, NO), (YES, NO)),
    "deferred": ("451 4.3.0 disk full", (YES, NO), ("451 4.3.0 disk full", NO)),
    "refused": ("554 5.3.0 after all not", (YES, NO), ("554 5.3.0 after all not", NO)),
    "none": (Close(), (YES, NO), (UNKNOWN, UNKNOWN)),
    "no reply": (Raw(b"hello\r\n"), (YES, YES), (UNKNOWN, UNKNOWN)),
    "no 2xx": ("354 go on", (YES, YES), (UNKNOWN, UNKNOWN)),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize(("end", "each", "told"), PRDR_ENDS.values(), ids=PRDR_ENDS)
async def test_the_last_word_of_prdr_decides(
    end: Plan, each: tuple[str, str], told: tuple[str, str], speaks: Speaks, autojump_clock: MockClock
) -> None:
    outcomes = dict(zip(("u@a.example", "v@a.example"), each, strict=True))
    script = Script(extensions=("PRDR",), outcomes=outcomes, prdr_end=end)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client(speaks)
        heard = await client.transact(*outcomes, parameters=" PRDR" if speaks == "smtp" else "")
        assert (heard.outcomes if speaks == "lmtp" else heard.outcomes[1:-1]) == told


# Before our dot


@pytest.mark.parametrize("seed", range(20))
def test_what_has_arrived_is_seen_before_the_dot(seed: int) -> None:
    """Over a socket, and at the last moment: it is there when we begin to look. In any order of tasks."""
    seeded(seed)
    assert isinstance(trio.run(look), Lost)


PROPER = (b"220 hi\r\n", b"250 hi\r\n", b"250 2.1.0 ok\r\n", b"250 2.1.5 ok\r\n", b"354 go\r\n")


async def look() -> Reply | Lost | None:
    near, far = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
    session = ClientSession(stream, Role.SMTP, 60)
    with far:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(session.listen)
            steps: tuple[Callable[[Patience], Awaitable[object]], ...] = (
                session.greeting,
                functools.partial(session.hello, "gw.example"),
                functools.partial(session.mail, None, MailParameters()),
                functools.partial(offer, session),
                session.data,
            )
            for step, proper in zip(steps, PROPER, strict=True):
                nursery.start_soon(step, Patience(60))
                await trio.testing.wait_all_tasks_blocked()
                far.sendall(proper)
                await trio.testing.wait_all_tasks_blocked()
            assert await session.content(b"Subject: hi\r\n") is None
            far.sendall(b"250 2.0.0 early\r\n")
            seen = await session.look()
            nursery.cancel_scope.cancel()
    return seen


async def offer(session: ClientSession, patience: Patience) -> None:
    assert await session.offer([Mailbox("u", "a.example")], patience) is None
    await session.reply(patience)


EARLY: dict[str, tuple[Step, Plan, str]] = {
    # in the message; behind the dot; what the client is told
    "250, then 451": ("250 2.0.0 early", "451 4.3.0 no", LOST),
    "250, then nothing else": ("250 2.0.0 early", Raw(b""), LOST),
    "250, then 250": ("250 2.0.0 early", "250 2.0.0 ok", LOST),
    "354 again": ("354 go on", "250 2.0.0 ok", LOST),
    "353": ("353 as you like", "250 2.0.0 ok", LOST),
    "the beginning of a 250": (Raw(b"250 2.0.0 ea"), Raw(b"rly\r\n451 4.3.0 no\r\n"), LOST),
    "the code of a 250": (Raw(b"250"), Raw(b" ok\r\n451 4.3.0 no\r\n"), LOST),
    "one octet of a 250": (Raw(b"2"), Raw(b"50 ok\r\n451 4.3.0 no\r\n"), LOST),
    "a line of a 250": (Raw(b"250-early\r\n"), Raw(b"250 ok\r\n451 4.3.0 no\r\n"), LOST),
    "the beginning of a 552": (Raw(b"552 5.3.4 too "), Raw(b"big\r\n"), LOST),
    "garbage": (Raw(b"hello\r\n"), "250 2.0.0 ok", LOST),
    "garbage without end": (Raw(b"hello"), "250 2.0.0 ok", LOST),
    "421": ("421 4.3.2 bye", "250 2.0.0 ok", LOST),
    "552": ("552 5.3.4 too big", "250 2.0.0 ok", "552 5.3.4 too big"),
    "452": ("452 4.3.1 full", "250 2.0.0 ok", "452 4.3.1 full"),
    "452, then 250": (Raw(b"452 4.3.1 full\r\n250 2.0.0 ok\r\n"), "250 2.0.0 ok", "452 4.3.1 full"),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize(("early", "behind", "told"), EARLY.values(), ids=EARLY)
async def test_early_reply(early: Step, behind: Plan, told: str, speaks: Speaks, autojump_clock: MockClock) -> None:
    """What is said before our dot, or only begun, is no answer to it."""
    hop = Hop("a", Script(body=(During(20, early),), dot=behind), speaks=speaks)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: 354 ...\nC: Subject: hi\nC+ 1\nC: .\nS: {told}")
        assert world.messages == {"a1": 0}


@pytest.mark.parametrize("early", ["250 2.0.0 early", Raw(b"25"), "421 4.3.2 bye"], ids=str)
async def test_early_reply_and_the_next_host(early: Step, autojump_clock: MockClock) -> None:
    hop = Hop("a", Script(body=(During(20, early),)), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: 354 ...\nC: Subject: hi\nC+ 1\nC: .\nS: {TAKEN}")
        assert world.messages == {"a1": 0, "a2": 1}


LEAVES: dict[str, tuple[Step, ...]] = {
    "closes": ("552 5.3.4 too big", Close()),
    "stops reading": ("552 5.3.4 too big", Delay(50), Close()),
}


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize("steps", LEAVES.values(), ids=LEAVES)
async def test_refused_in_a_large_message(steps: tuple[Step, ...], capacity: int, autojump_clock: MockClock) -> None:
    """It refuses and leaves while we are writing: it is the refusal that counts, and no other host is tried."""
    hop = Hop("a", Script(body=(During(1000, steps),)), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop, capacity=capacity) as world:
        client = await world.client()
        told = await client.transact("u@a.example", content=b"x" * 998 + b"\r\n" + b"0123456789abcde\r\n" * 20_000)
        assert told.outcomes == ("552 5.3.4 too big",)
        assert world.messages == {"a1": 0, "a2": 0}


# 421 out of turn, while nobody is asking

IDLE = ("421 4.4.2 you were idle", Close())


@pytest.mark.parametrize("steps", [IDLE, IDLE[:1], IDLE[1:]], ids=["421 and FIN", "421", "FIN"])
async def test_lost_between_rcpt_and_data(steps: tuple[Step, ...], autojump_clock: MockClock) -> None:
    """What was accepted is offered again, in its order, and goes over the next host."""
    leaves = Script(recipients={"v@a.example": ("250 2.1.5 ok", Delay(1), *steps)})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", leaves, Script())) as world:
        client = await world.client()
        await client.envelope("u@a.example", "v@a.example")
        await client.play(f"C+ 2\nC: DATA\nS: 354 ...\nC: Subject: hi\nC: .\nS: {TAKEN}")
        assert [message.recipients for message in world.mta("a2").messages] == [("u@a.example", "v@a.example")]


@pytest.mark.parametrize("steps", [IDLE, IDLE[:1], IDLE[1:]], ids=["421 and FIN", "421", "FIN"])
async def test_lost_between_two_rcpts(steps: tuple[Step, ...], autojump_clock: MockClock) -> None:
    leaves = Script(recipients={"u@a.example": ("250 2.1.5 ok", Delay(1), *steps)})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", leaves, Script())) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play("C+ 2\nC: RCPT TO:<v@a.example>\nS: 250 2.1.5 ...")
        await client.play(f"C: DATA\nS: 354 ...\nC: Subject: hi\nC: .\nS: {TAKEN}")
        assert [message.recipients for message in world.mta("a2").messages] == [("u@a.example", "v@a.example")]
