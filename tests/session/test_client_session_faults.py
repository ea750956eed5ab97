"""A session with a next hop that does not go well: each step is a Reply or Lost, in time."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from sessions import RECIPIENTS, each_capacity
from steps import ANSWERED, PATIENCE, SILENCE, STAGES, STALL, WHOLE, before, go_to, offer_one, talk
from trio.testing import MockClock

from mailgate.protocol.reply import Reply, Role, reply
from mailgate.session.client import ClientSession, Lost, Patience
from mailgate.session.wire import PIECE, End
from mailgate.testing import Side, play

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
    "silence": ("", End.SILENCE.value, SILENCE),
    "silence inside a line": ("S+ 5\nS! 250 o", End.SILENCE.value, SILENCE),
    "silence between lines": ("S+ 5\nS: 250-ok\nS+ 4\nS: 250-ok", End.SILENCE.value, SILENCE),
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
        assert not it.session.partable
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
        assert not it.session.partable
        for stage in STAGES.values():
            assert await stage.step(it.session) == Lost("the next hop has closed the session")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("then", ["greeting", "hello", "MAIL", "RCPT", "DATA"])
async def test_whatever_is_said_behind_421_is_lost(then: str, autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        await it.peer.send_all(b"421 bye\r\n")
        assert await it.session.greeting(PATIENCE) == reply(421, "", "bye")
        assert await STAGES[then].step(it.session) == Lost("the next hop has closed the session")
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
        assert await it.session.greeting(patience) == Lost(End.SILENCE.value)
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
        assert it.session.partable
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
        assert await it.session.hello("gw", patience) == Lost(End.STALLED.value)
        assert trio.current_time() == when
        assert not it.session.partable
        nursery.cancel_scope.cancel()


async def test_content_that_is_not_taken(autojump_clock: MockClock) -> None:
    it = talk(64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("content"), side=Side.SERVER))
        await go_to("content", it.session)
        assert await it.session.content(b"x" * 1000) == Lost(End.STALLED.value)
        assert trio.current_time() == STALL
        nursery.cancel_scope.cancel()


async def test_a_dot_that_is_not_taken(autojump_clock: MockClock) -> None:
    it = talk(64)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("content"), side=Side.SERVER))
        await go_to("content", it.session)
        assert await it.session.content(b"x" * 62 + b"\r\n") is None
        assert await it.session.end() == Lost(End.STALLED.value)
        assert trio.current_time() == STALL
        assert await it.session.reply(PATIENCE) == Lost(End.STALLED.value)
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
        assert not it.session.partable
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


async def test_an_early_refusal_is_no_outcome(autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, f"{before('dot')}S: 552 big", side=Side.SERVER))
        await go_to("dot", it.session)
        assert await it.session.reply(PATIENCE) == Lost("a reply nobody asked for: 552 big")
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
        assert not it.session.partable
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
