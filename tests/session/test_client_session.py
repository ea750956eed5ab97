"""A session with a next hop: each step is a Reply or Lost, in time, whatever the next hop does."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from sessions import RECIPIENTS, SENDER, each_capacity
from trio.testing import MockClock

from mailgate.protocol.command import Extension, MailParameters, Verb
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.session.client import ClientSession, Lost, Patience
from mailgate.session.wire import PIECE
from mailgate.testing import Side, bounded_stream_pair, play

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


# Dialogs


async def whole_dialog(session: ClientSession) -> list[Reply | Lost | None]:
    return [await stage.step(session) for stage in STAGES.values()]


WHOLE = "".join(stage.heard + stage.said for stage in STAGES.values())
REPLIES = [
    reply(220, "", "hi"),
    reply(250, "", "mx", "PIPELINING"),
    reply(250, "2.1.0", "ok"),
    reply(250, "2.1.5", "ok"),
    reply(354, "", "go"),
    None,
    reply(250, "2.0.0", "taken"),
]


async def test_a_dialog_in_lockstep(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    session = ClientSession(ours, Role.SMTP, STALL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(lambda: play(theirs, WHOLE, side=Side.SERVER))
        assert await whole_dialog(session) == REPLIES
        nursery.cancel_scope.cancel()


@each_capacity
async def test_a_dialog(capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, WHOLE, side=Side.SERVER))
        assert await whole_dialog(it.session) == REPLIES
        assert it.session.capabilities.extensions == {Extension.PIPELINING}
        nursery.cancel_scope.cancel()


@each_capacity
@pytest.mark.parametrize("answers_early", [True, False], ids=["answers each at once", "answers all at last"])
async def test_recipients_go_in_one_write(answers_early: bool, capacity: int, autojump_clock: MockClock) -> None:
    heard = ["C: RCPT TO:<b@y>\n", "C: RCPT TO:<c@y>\n", "C: RCPT TO:<d@y>\n"]
    said = ["S: 250 2.1.5 ok\n", "S: 550-5.1.1 no\nS: 550 5.1.1 never\n", "S: 452 4.2.2 full\n"]
    pairs = zip(heard, said, strict=True)
    group = "".join(line + answer for line, answer in pairs) if answers_early else "".join([*heard, *said])
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("RCPT") + group, side=Side.SERVER))
        await go_to("RCPT", it.session)
        assert await it.session.offer(RECIPIENTS, PATIENCE) is None
        assert [await it.session.reply(PATIENCE) for _ in range(3)] == [
            reply(250, "2.1.5", "ok"),
            reply(550, "5.1.1", "no", "never"),
            reply(452, "4.2.2", "full"),
        ]
        assert it.session.clean
        nursery.cancel_scope.cancel()


@each_capacity
async def test_many_recipients_do_not_deadlock(capacity: int, autojump_clock: MockClock) -> None:
    """The next hop answers each before it reads the next one: we read while we write."""
    many = RECIPIENTS * 30
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        group = "".join(f"C: RCPT TO:<{mailbox}>\nS: 250 2.1.5 ok\n" for mailbox in many)
        nursery.start_soon(lambda: play(it.peer, before("RCPT") + group, side=Side.SERVER))
        await go_to("RCPT", it.session)
        assert await it.session.offer(many, PATIENCE) is None
        for _ in many:
            assert await it.session.reply(PATIENCE) == reply(250, "2.1.5", "ok")
        nursery.cancel_scope.cancel()


@each_capacity
@pytest.mark.parametrize("code", [500, 502, 550, 554])
async def test_helo_where_ehlo_is_refused(code: int, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        script = f"S: 220 hi\nC: EHLO gw\nS: {code} what?\nC: HELO gw\nS: 250 mx"
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to("hello", it.session)
        assert await it.session.hello("gw", PATIENCE) == reply(250, "", "mx")
        assert it.session.capabilities.extensions == frozenset()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("code", [421, 451])
async def test_no_helo_where_ehlo_is_put_off(code: int, autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        script = f"S: 220 hi\nC: EHLO gw\nS: {code} later\nC+ 5"
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to("hello", it.session)
        assert await it.session.hello("gw", PATIENCE) == reply(code, "", "later")
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


LMTP = """
    S: 220 hi
    C: LHLO gw
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@x>
    S: 250 ok
    C: RCPT TO:<b@y>
    C: RCPT TO:<c@y>
    C: RCPT TO:<d@y>
    S: 250 ok
    S: 550 no
    S: 250 ok
    C: DATA
    S: 354 go
    C: hello
    C: .
    S: 250 taken
    S+ 1
    S: 452 full
"""
PRDR = (
    LMTP.replace("LHLO", "EHLO").replace("PIPELINING", "PRDR").replace("<a@x>", "<a@x> PRDR")
    .replace("    S: 250 taken\n", "    S: 353 each\n    S: 250 taken\n") + "    S: 250 for some\n"
)  # fmt: skip


@each_capacity
@pytest.mark.parametrize(
    ("role", "script", "codes"),
    [(Role.LMTP, LMTP, [250, 452]), (Role.SMTP, PRDR, [353, 250, 452, 250])],
    ids=["LMTP", "PRDR"],
)
async def test_one_outcome_per_recipient(
    role: Role, script: str, codes: list[int], capacity: int, autojump_clock: MockClock
) -> None:
    it = talk(capacity, role)
    session = it.session
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await session.greeting(PATIENCE)
        await session.hello("gw", PATIENCE)
        await session.mail(SENDER, MailParameters(prdr=True), PATIENCE)
        await session.offer(RECIPIENTS, PATIENCE)
        for _ in RECIPIENTS:
            await session.reply(PATIENCE)
        await session.data(PATIENCE)
        await session.content(b"hello\r\n")
        await session.end()
        found = []
        while session.outcomes_due:
            answer = await session.reply(PATIENCE)
            assert isinstance(answer, Reply)
            found.append(answer.code)
        assert found == codes
        assert session.clean
        nursery.cancel_scope.cancel()


async def test_replies_are_observed(autojump_clock: MockClock) -> None:
    seen: list[tuple[Verb, int]] = []
    ours, theirs = bounded_stream_pair()
    session = ClientSession(ours, Role.SMTP, STALL, lambda verb, answer: seen.append((verb, answer.code)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(lambda: play(theirs, WHOLE, side=Side.SERVER))
        await whole_dialog(session)
        nursery.cancel_scope.cancel()
    assert seen == [
        (Verb.GREETING, 220),
        (Verb.EHLO, 250),
        (Verb.MAIL, 250),
        (Verb.RCPT, 250),
        (Verb.DATA, 354),
        (Verb.DOT, 250),
    ]


# What a next hop may do in place of its reply → why the session is lost, and when

FAULTS: dict[str, tuple[str, str, float]] = {
    "closes": ("S.", "connection closed", 0),
    "closes after a while": ("S+ 7\nS.", "connection closed", 7),
    "closes its sending side": ("S/", "connection closed", 0),
    "closes inside a line": ("S! 250 o\nS.", "connection closed", 0),
    "closes between the lines of a reply": ("S: 250-ok\nS.", "connection closed", 0),
    "resets": ("S~", "connection lost", 0),
    "garbage": ("S: what?", "not a reply line: b'what?'", 0),
    "a code of no class": ("S: 150 wait", "no such reply code: b'150 wait'", 0),
    "binary": ("S! \\x00\\xff\\x16\\n", r"not a reply line: b'\x00\xff\x16'", 0),
    "a line without end": (f"S! {'2' * 3000}", "a reply line of more than 2048 octets", 0),
    "a reply without end": ("S: 250-ok\n" * 200, "a reply of more than 128 lines", 0),
    "silence": ("", "silence", SILENCE),
    "silence inside a line": ("S+ 5\nS! 250 o", "silence", SILENCE),
    "silence between lines": ("S+ 5\nS: 250-ok\nS+ 4\nS: 250-ok", "silence", SILENCE),
}


@each_capacity
@pytest.mark.parametrize(("fault", "why", "when"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("name", ANSWERED)
async def test_faults(name: str, fault: str, why: str, when: float, capacity: int, autojump_clock: MockClock) -> None:
    script = before(name) + STAGES[name].heard + fault
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to(name, it.session)
        result = await STAGES[name].step(it.session)
        assert result == Lost(why)
        assert trio.current_time() == when
        assert not it.session.clean
        # From here on nothing else is to be had from it.
        for stage in STAGES.values():
            assert await stage.step(it.session) == result
        assert await it.session.look() == result
        assert trio.current_time() == when
        nursery.cancel_scope.cancel()


@each_capacity
@pytest.mark.parametrize("name", ANSWERED)
async def test_421_is_a_reply_and_the_end(name: str, capacity: int, autojump_clock: MockClock) -> None:
    script = before(name) + STAGES[name].heard + "S: 421 4.3.2 bye\nS: 250 trailing"
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to(name, it.session)
        assert await STAGES[name].step(it.session) == reply(421, "4.3.2", "bye")
        assert not it.session.clean
        for stage in STAGES.values():
            assert await stage.step(it.session) == Lost("the next hop has closed the session")
        nursery.cancel_scope.cancel()


async def test_421_to_the_first_of_several_recipients(autojump_clock: MockClock) -> None:
    it = talk()
    script = before("RCPT") + "C: RCPT TO:<b@y>\nS: 421 4.3.2 bye\nS."
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to("RCPT", it.session)
        await it.session.offer(RECIPIENTS[:1], PATIENCE)
        assert await it.session.reply(PATIENCE) == reply(421, "4.3.2", "bye")
        assert await it.session.reply(PATIENCE) == Lost("the next hop has closed the session")
        nursery.cancel_scope.cancel()


# Patience


@each_capacity
@pytest.mark.parametrize(
    ("patience", "when"),
    [
        pytest.param(Patience(10), 10, id="silence"),
        pytest.param(Patience(10, deadline=1000), 10, id="silence before the deadline"),
        pytest.param(Patience(10, deadline=4), 4, id="deadline before silence"),
        pytest.param(Patience(math.inf, deadline=600), 600, id="deadline alone"),
        pytest.param(Patience(10, deadline=0), 0, id="deadline now"),
        pytest.param(Patience(10, deadline=-5), 0, id="deadline in the past"),
        pytest.param(Patience(0), 0, id="none"),
    ],
)
async def test_patience(patience: Patience, when: float, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        assert await it.session.greeting(patience) == Lost("silence")
        assert trio.current_time() == when
        nursery.cancel_scope.cancel()


@each_capacity
async def test_silence_is_counted_anew_for_each_reply(capacity: int, autojump_clock: MockClock) -> None:
    said = "S+ 9\nS: 250 ok\nS+ 9\nS: 250 ok\nS+ 9\nS: 250 ok\n"
    script = before("RCPT") + "C: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: RCPT TO:<d@y>\n" + said
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to("RCPT", it.session)
        await it.session.offer(RECIPIENTS, PATIENCE)
        for number in (1, 2, 3):
            assert await it.session.reply(PATIENCE) == reply(250, "", "ok")
            assert trio.current_time() == 9 * number
        nursery.cancel_scope.cancel()


@each_capacity
async def test_idling_is_no_silence(capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, WHOLE, side=Side.SERVER, patience=1000))
        await go_to("RCPT", it.session)
        await trio.sleep(900)
        assert it.session.clean
        assert await offer_one(it.session) == reply(250, "2.1.5", "ok")
        nursery.cancel_scope.cancel()


async def test_a_reply_that_is_there_already_is_taken_however_late(autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        await it.peer.send_all(b"220 hi\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert await it.session.greeting(Patience(10, deadline=-5)) == reply(220, "", "hi")
        nursery.cancel_scope.cancel()


async def test_a_cancelled_wait_leaves_no_deadline_behind(autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        with trio.move_on_after(5):
            await it.session.greeting(PATIENCE)
        await trio.sleep(50)
        await it.peer.send_all(b"220 hi\r\n")
        assert await it.session.greeting(PATIENCE) == reply(220, "", "hi")
        nursery.cancel_scope.cancel()


# A next hop that takes nothing


@pytest.mark.parametrize(
    ("patience", "when"),
    [
        pytest.param(Patience(10), 10, id="silence"),
        pytest.param(Patience(1000), STALL, id="stall"),
        pytest.param(Patience(10, deadline=4), 4, id="deadline"),
        pytest.param(Patience(10, deadline=-4), 0, id="deadline in the past"),
    ],
)
async def test_a_command_that_is_not_taken(patience: Patience, when: float, autojump_clock: MockClock) -> None:
    it = talk(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        await it.peer.send_all(b"220 hi\r\n")
        await it.session.greeting(PATIENCE)
        assert await it.session.hello("gw", patience) == Lost("takes no more data")
        assert trio.current_time() == when
        assert not it.session.clean
        nursery.cancel_scope.cancel()


async def test_content_that_is_not_taken(autojump_clock: MockClock) -> None:
    it = talk(64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("content"), side=Side.SERVER))
        await go_to("content", it.session)
        assert await it.session.content(b"x" * 1000) == Lost("takes no more data")
        assert trio.current_time() == STALL
        nursery.cancel_scope.cancel()


async def test_a_dot_that_is_not_taken(autojump_clock: MockClock) -> None:
    it = talk(64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("content"), side=Side.SERVER))
        await go_to("content", it.session)
        assert await it.session.content(b"x" * 62 + b"\r\n") is None
        assert await it.session.end() == Lost("takes no more data")
        assert trio.current_time() == STALL
        assert await it.session.reply(PATIENCE) == Lost("takes no more data")
        nursery.cancel_scope.cancel()


async def test_a_slow_next_hop_is_not_lost_while_it_takes_something(autojump_clock: MockClock) -> None:
    it = talk(64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)

        async def read_slowly() -> None:
            await play(it.peer, before("content"), side=Side.SERVER)
            while True:
                await trio.sleep(0.125)
                await it.peer.receive_some(64)

        nursery.start_soon(read_slowly)
        await go_to("content", it.session)
        assert await it.session.content(b"x" * 4 * PIECE) is None
        assert 2 * STALL < trio.current_time() < 4 * STALL
        nursery.cancel_scope.cancel()


# What nobody asked for

UNASKED: dict[str, tuple[str, str]] = {
    "2xx": ("S: 250 unasked", "a reply nobody asked for: 250 unasked"),
    "3xx": ("S: 354 unasked", "a reply nobody asked for: 354 unasked"),
    "421": ("S: 421 unasked", "a reply nobody asked for: 421 unasked"),
    "4xx": ("S: 451 unasked", "a reply nobody asked for: 451 unasked"),
    "5xx": ("S: 550 unasked", "a reply nobody asked for: 550 unasked"),
    "two": ("S: 250 unasked\nS: 250 unasked", "a reply nobody asked for: 250 unasked"),
    "a line without text": ("S: 250", "a reply nobody asked for: 250"),
    "the first line of a reply": ("S: 250-unasked", "a reply nobody asked for has begun"),
    "half a line": ("S! 250 unask", "a reply nobody asked for has begun"),
    "one digit": ("S! 2", "a reply nobody asked for has begun"),
    "garbage": ("S: what?", "not a reply line: b'what?'"),
}


@each_capacity
@pytest.mark.parametrize(("unasked", "why"), UNASKED.values(), ids=UNASKED.keys())
@pytest.mark.parametrize("name", ["hello", "MAIL", "RCPT", "DATA"])
async def test_bytes_before_a_command_are_never_its_answer(
    name: str, unasked: str, why: str, capacity: int, autojump_clock: MockClock
) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, f"{before(name)}{unasked}\nS+ 20", side=Side.SERVER))
        await go_to(name, it.session)
        await trio.sleep(1)
        assert await STAGES[name].step(it.session) == Lost(why)
        assert trio.current_time() == 1
        assert not it.session.clean
        nursery.cancel_scope.cancel()


EARLY: dict[str, tuple[str, Reply | Lost]] = {
    "2xx": ("S: 250 early", Lost("a reply nobody asked for: 250 early")),
    "3xx": ("S: 354 early", Lost("a reply nobody asked for: 354 early")),
    "421": ("S: 421 early", Lost("a reply nobody asked for: 421 early")),
    "4xx": ("S: 452 4.3.1 full", reply(452, "4.3.1", "full")),
    "5xx": ("S: 552-5.3.4 too\nS: 552 5.3.4 big", reply(552, "5.3.4", "too", "big")),
    "4xx and closes": ("S: 452 4.3.1 full\nS.", reply(452, "4.3.1", "full")),
    "5xx and closes": ("S: 552 5.3.4 big\nS.", reply(552, "5.3.4", "big")),
    "5xx and 250": ("S: 552 5.3.4 big\nS: 250 ok", reply(552, "5.3.4", "big")),
    "closes": ("S.", Lost("connection closed")),
    "resets": ("S~", Lost("connection lost")),
    "garbage": ("S: what?", Lost("not a reply line: b'what?'")),
}


@each_capacity
@pytest.mark.parametrize(("early", "wanted"), EARLY.values(), ids=EARLY.keys())
@pytest.mark.parametrize("how", ["content", "spoken", "look"])
async def test_what_comes_before_the_dot(
    how: str, early: str, wanted: Reply | Lost, capacity: int, autojump_clock: MockClock
) -> None:
    it = talk(capacity)
    session = it.session
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(lambda: play(it.peer, f"{before('dot')}{early}\nS+ 20", side=Side.SERVER))
        await go_to("dot", session)
        await trio.sleep(1)
        match how:
            case "content":
                assert await session.content(b"more\r\n") == wanted
            case "spoken":
                assert session.spoken() == wanted
            case _:
                assert await session.look() == wanted
        nursery.cancel_scope.cancel()


@each_capacity
async def test_a_refusal_in_the_middle_of_a_write(capacity: int, autojump_clock: MockClock) -> None:
    """A server that refuses and closes while we are writing: the refusal says more than the loss."""
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        script = f"{before('content')}S+ 5\nS: 552 5.3.4 big\nS."
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to("content", it.session)
        assert await it.session.content(b"x" * 200_000) == reply(552, "5.3.4", "big")
        assert trio.current_time() == 5
        assert not it.session.clean
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("capacity", [64, 65_536])
@pytest.mark.parametrize("early", [b"250 early\r\n", b"2"], ids=["a reply", "its first octet"])
async def test_look_sees_what_has_just_reached_us(early: bytes, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("dot"), side=Side.SERVER))
        await go_to("dot", it.session)
        await trio.testing.wait_all_tasks_blocked()
        assert await it.session.look() is None
        await it.peer.send_all(early)
        assert isinstance(await it.session.look(), Lost)
        nursery.cancel_scope.cancel()


async def real_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a TCP connection over loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()


@pytest.mark.parametrize("early", [b"250 early\r\n", b"2", b""], ids=["a reply", "its first octet", "the end"])
async def test_look_sees_what_has_just_reached_a_real_socket(early: bytes) -> None:
    ours, theirs = await real_pair()
    session = ClientSession(ours, Role.SMTP, STALL)
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(lambda: play(theirs, before("dot"), side=Side.SERVER))
        await go_to("dot", session)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await session.look() is None
        # On loopback what is sent is there when the call returns; no checkpoint of ours lies between.
        if early:
            theirs.socket._sock.send(early)  # type: ignore[attr-defined]
        else:
            theirs.socket._sock.close()  # type: ignore[attr-defined]
        assert isinstance(await session.look(), Lost)
        nursery.cancel_scope.cancel()


# Clean

CLEAN = {"greeting": True, "hello": True, "MAIL": True, "RCPT": True, "DATA": False, "content": False, "dot": True}


@each_capacity
async def test_clean_after_each_step(capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        assert not it.session.clean
        nursery.start_soon(lambda: play(it.peer, WHOLE, side=Side.SERVER))
        for name, stage in STAGES.items():
            await stage.step(it.session)
            assert it.session.clean == CLEAN[name], name
        nursery.cancel_scope.cancel()


REFUSALS = {"hello": "451 no", "MAIL": "550 no", "RCPT": "550 no", "DATA": "451 no", "dot": "554 no"}


@each_capacity
@pytest.mark.parametrize("name", REFUSALS)
async def test_clean_after_a_refusal(name: str, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    script = before(name) + STAGES[name].heard + f"S: {REFUSALS[name]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to(name, it.session)
        await STAGES[name].step(it.session)
        assert it.session.clean
        nursery.cancel_scope.cancel()


@each_capacity
async def test_not_clean_while_a_reply_is_due(capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("RCPT") + "C: RCPT TO:<b@y>", side=Side.SERVER))
        await go_to("RCPT", it.session)
        await it.session.offer(RECIPIENTS[:1], PATIENCE)
        assert not it.session.clean
        nursery.cancel_scope.cancel()


@each_capacity
@pytest.mark.parametrize("end", ["S.", "S/", "S~"], ids=["closes", "closes its sending side", "resets"])
async def test_not_clean_once_the_next_hop_has_left(end: str, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, f"{before('RCPT')}\nS+ 1\n{end}", side=Side.SERVER))
        await go_to("RCPT", it.session)
        found = [it.session.clean]
        await trio.sleep(2)
        assert [*found, it.session.clean] == [True, False]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["MAIL", "RCPT", "DATA"])
async def test_not_clean_after_a_write_that_was_cancelled(name: str, autojump_clock: MockClock) -> None:
    it = talk(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before(name), side=Side.SERVER))
        await go_to(name, it.session)
        found = [it.session.clean]
        with trio.move_on_after(1) as scope:
            await STAGES[name].step(it.session)
        assert scope.cancelled_caught
        assert [*found, it.session.clean] == [True, False]
        nursery.cancel_scope.cancel()


# Farewell


async def to_farewell(it: Talk, script: str) -> None:
    """Get to where a QUIT may be said; `listen` has ended."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to("RCPT", it.session)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


FAREWELLS: dict[str, tuple[str, float]] = {
    "221": ("C: QUIT\nS: 221 bye", 0),
    "221 after a while": ("C: QUIT\nS+ 3\nS: 221 bye", 3),
    "garbage": ("C: QUIT\nS: what?", 0),
    "one octet": ("C: QUIT\nS! 2", 0),
    "closes": ("C: QUIT\nS.", 0),
    "has closed": ("S.", 0),
    "resets": ("C: QUIT\nS~", 0),
    "has reset": ("S~", 0),
    "silence": ("C: QUIT\nS+ 100", 5),
    "reads nothing": ("S+ 100", 5),
}


@each_capacity
@pytest.mark.parametrize(("script", "when"), FAREWELLS.values(), ids=FAREWELLS.keys())
async def test_farewell(script: str, when: float, capacity: int, autojump_clock: MockClock) -> None:
    ours, theirs = bounded_stream_pair(capacity)
    it = Talk(ClientSession(ours, Role.SMTP, STALL), theirs)
    await to_farewell(it, before("RCPT"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: play(theirs, script, side=Side.SERVER))
        await trio.testing.wait_all_tasks_blocked()
        await it.session.farewell(5)
        assert trio.current_time() == when
        assert ours.closed
        nursery.cancel_scope.cancel()


@each_capacity
async def test_a_cancelled_farewell_closes(capacity: int, autojump_clock: MockClock) -> None:
    ours, theirs = bounded_stream_pair(capacity)
    it = Talk(ClientSession(ours, Role.SMTP, STALL), theirs)
    await to_farewell(it, before("RCPT"))
    with trio.move_on_after(2):
        await it.session.farewell(5)
    assert trio.current_time() == 2
    assert ours.closed


async def test_a_farewell_that_is_cancelled_before_it_begins_closes(autojump_clock: MockClock) -> None:
    ours, theirs = bounded_stream_pair()
    it = Talk(ClientSession(ours, Role.SMTP, STALL), theirs)
    await to_farewell(it, before("RCPT"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await it.session.farewell(5)
    assert ours.closed
