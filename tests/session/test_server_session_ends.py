"""A client's session: how it ends, on either side."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sessions import (
    BYE,
    GREETING,
    HELLO,
    LEAVES,
    OK,
    SILENCE,
    STALL,
    TO_DATA,
    TO_RCPT,
    Decider,
    answer_after,
    each_capacity,
    gone_at,
    serve,
    summary,
    to_content,
    to_rcpt,
)
from trio.testing import MockClock

from mailgate.protocol.events import Event
from mailgate.session.server import ServerSession
from mailgate.session.wire import End
from mailgate.testing import Dialog, bounded_stream_pair, play

# The client's end

NEWS = f"""{TO_RCPT}
C+ 5
"""

# What the client does at 5 s, an answer being due → whether it is gone then, and how the wire ended
ENDS: dict[str, tuple[str, bool, End | None]] = {
    "closes": ("C.", True, End.EOF),
    "closes its sending side": ("C/", True, End.EOF),
    "resets": ("C~", True, End.LOST),
    "closes behind a command": ("C: RCPT TO:<c@y>\nC.", True, End.EOF),
    "closes inside a command": ("C! QUIT\nC.", True, End.EOF),
    "closes behind QUIT": ("C: QUIT\nC.", False, End.EOF),
    "closes its sending side behind QUIT": ("C: QUIT\nC/", False, End.EOF),
    "closes behind DATA and QUIT": ("C: DATA\nC: QUIT\nC/", False, End.EOF),
    "stays": ("C: QUIT", False, None),
}


@each_capacity
@pytest.mark.parametrize(("leave", "gone", "end"), ENDS.values(), ids=ENDS.keys())
async def test_on_gone_is_called_at_once(
    leave: str, gone: bool, end: End | None, capacity: int, autojump_clock: MockClock
) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    calls: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, NEWS + leave)
        await to_rcpt(session)
        session.on_gone = lambda: calls.append(trio.current_time())
        await trio.sleep(100)  # busy elsewhere
        assert calls == [5] * gone
        assert session.gone == gone
        assert session.end is end
        nursery.cancel_scope.cancel()


SECOND_ENDS: dict[str, tuple[str, float, End]] = {
    "resets": ("C+ 5\nC~", 20, End.LOST),
    "closes": ("C+ 5\nC.", 20, End.LOST),
    "takes no reply": ("C+ 500", 20 + STALL, End.STALLED),
}


@pytest.mark.parametrize(("then", "when", "end"), SECOND_ENDS.values(), ids=SECOND_ENDS.keys())
async def test_a_client_that_could_still_read_and_then_cannot(
    then: str, when: float, end: End, autojump_clock: MockClock
) -> None:
    """Behind QUIT it has shut down its sending side; only our writing then finds out."""
    client, server = bounded_stream_pair(1)
    session = serve(server)
    calls: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(lambda: play(client, f"{TO_RCPT}C: QUIT\nC/\n{then}", patience=1000))
        slot = await to_rcpt(session)
        session.on_gone = lambda: calls.append(trio.current_time())
        nursery.start_soon(answer_after, 20, session, slot, OK)
        await session.replied()
        await session.flush()
        assert calls == [when]
        assert session.end is end
        assert session.gone
        nursery.cancel_scope.cancel()


@each_capacity
async def test_a_client_that_is_gone_is_an_event(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"{NEWS}C~")
        await to_rcpt(session)
        assert await gone_at(session) == 5


@each_capacity
async def test_commands_before_the_end_are_still_events(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    events: list[Event] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, "C: RSET\nC: EHLO me\nC: QUIT\nC/")
        await trio.testing.wait_all_tasks_blocked()
        while not events or summary(events[-1]) not in ("quit", "gone"):
            events.append(await session.next_event(SILENCE))
        nursery.cancel_scope.cancel()
    assert [summary(event) for event in events] == ["reset", "reset", "quit"]


@each_capacity
async def test_half_closed_behind_quit_all_replies_come(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    decider = Decider(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decider.run)
        await play(
            client,
            f"""
            {TO_DATA}
            C: hello
            C: .
            C: QUIT
            C/
            S: 250 2.0.0 ok
            S: 221 2.0.0 Bye
            """,
        )
        nursery.cancel_scope.cancel()


@each_capacity
@pytest.mark.parametrize("cut", [b"", b"hello", b"hello\r\n", b"hello\r\n.", b"hello\r\n.\r", b"QUIT\r\n"], ids=repr)
async def test_a_message_cut_short_never_ends(cut: bytes, capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    decider = Decider(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decider.run)
        await play(client, TO_DATA)
        await client.send_all(cut)
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert decider.told[-2:] == ["DATA", "gone"]
    assert decider.ended == 0


# Goodbye


@each_capacity
async def test_goodbye_waits_for_the_client_to_close(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, "S: 220 hi\nS: 421 4.3.2 bye\nC+ 1\nC.")
        await session.goodbye(BYE, 2)
        assert trio.current_time() == 1
        assert session.end is End.EOF


@each_capacity
async def test_goodbye_does_not_wait_long(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, "S: 220 hi\nS: 421 4.3.2 bye")
        await session.goodbye(BYE, 2)
        assert trio.current_time() == 2


@each_capacity
async def test_goodbye_reads_on_so_that_no_reset_overtakes_it(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)

        async def talk_on() -> None:
            for _ in range(8):
                await client.send_all(b"x" * 100)
                await trio.sleep(0.125)
            await client.aclose()

        nursery.start_soon(talk_on)
        nursery.start_soon(Dialog(client).play, "S: 220 hi\nS: 421 4.3.2 bye")
        await session.goodbye(BYE, 2)
        assert trio.current_time() == 1


@pytest.mark.parametrize("script", [TO_RCPT, TO_DATA], ids=["commands", "message"])
async def test_goodbye_to_a_client_that_had_sent_much(script: str, autojump_clock: MockClock) -> None:
    """What was read ahead is dropped, so that the client's end can be read."""
    client, server = bounded_stream_pair(65_536)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)

        async def flood() -> None:
            await play(client, script)
            await client.send_all(b"x" * 500_000)
            await client.aclose()

        nursery.start_soon(flood)
        await (to_rcpt(session) if script is TO_RCPT else to_content(session))
        await trio.sleep(10)
        await session.goodbye(BYE, 2)
        assert trio.current_time() == 10
        assert session.end is End.EOF


@each_capacity
async def test_goodbye_takes_the_place_of_replies(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"{TO_RCPT}\nC: RCPT TO:<c@y>\nS: 421 4.3.2 bye\nS+ 1\nC.")
        slot = await to_rcpt(session)
        await session.goodbye(BYE, 2)
        session.answer(slot, OK)
        await session.flush()


@each_capacity
@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES.keys())
async def test_goodbye_to_a_client_that_has_gone(leave: str, capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"{HELLO}\n{leave}")
        assert summary(await session.next_event(SILENCE)) == "reset"
        await gone_at(session)
        await session.goodbye(BYE, 2)
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()
    if leave == LEAVES["closes its sending side"]:
        await server.aclose()
        assert await client.receive_some(1000) == b""


async def test_goodbye_does_not_repeat_a_421(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    session = ServerSession(server, serve(server)._protocol, STALL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        await client.send_all(b"junk\r\n" * 21)
        assert await gone_at(session) == 0
        await session.goodbye(BYE, 2)
        assert trio.current_time() == 2
        nursery.cancel_scope.cancel()
    received = await client.receive_some(65_536)
    assert received.startswith(bytes(GREETING))
    assert received.count(b"\r\n421") == 1
    assert received.endswith(b"\r\n421 4.7.0 gw Too many bad commands, closing\r\n")
