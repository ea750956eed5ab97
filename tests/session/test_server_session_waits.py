"""A client's session: how long it waits for what."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sessions import (
    BYE,
    HELLO,
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
    to_content,
    to_rcpt,
)
from trio.testing import MockClock

from mailgate.protocol.events import Content
from mailgate.session.wire import PIECE, End
from mailgate.testing import bounded_stream_pair, play, reset

# Silence: counted only while it is the client's turn


@each_capacity
async def test_silence_from_the_start(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, "S: 220 hi")
        assert await gone_at(session) == SILENCE
        assert session.end is End.SILENCE
        assert session.gone
        assert await gone_at(session) == SILENCE, "and no later"


# What the client does, with pauses → when it has been silent for too long
SILENCES: dict[str, tuple[str, float]] = {
    "it begins with our reply": ("C+ 10\nC: NOOP\nS: 250 2.0.0 Fine", 10 + SILENCE),
    "half a command is silence": ("C+ 299\nC! NOO", SILENCE),
    "byte by byte is silence": ("C+ 100\nC! N\nC+ 100\nC! O\nC+ 99\nC! OP", SILENCE),
    "a bad command is no silence": ("C+ 299\nC: junk\nS: 500 5.5.1 Command unrecognized", 299 + SILENCE),
    "an overlong line is no silence": (f"C+ 299\nC! {'x' * 2049}\nS: 500 5.5.2 Line too long", 299 + SILENCE),
    "the rest of an overlong line is": (
        f"C! {'x' * 2049}\nS: 500 5.5.2 Line too long\nC+ 200\nC! {'x' * 2049}\nC+ 99\nC! \\n",
        SILENCE,
    ),
}


@each_capacity
@pytest.mark.parametrize(("script", "when"), SILENCES.values(), ids=SILENCES.keys())
async def test_silence(script: str, when: float, capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"S: 220 hi\n{script}")
        assert await gone_at(session) == when


@each_capacity
async def test_our_own_time_is_not_the_clients_silence(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"{TO_RCPT}\nS+ 999\nS: 250 2.0.0 ok")
        slot = await to_rcpt(session)
        nursery.start_soon(answer_after, 1000, session, slot, OK)
        assert await gone_at(session) == 1000 + SILENCE


async def test_silence_begins_when_the_client_has_the_reply(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(1)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, "C+ 100\nS: 220 hi")
        assert await gone_at(session) == 100 + SILENCE


@each_capacity
async def test_silence_in_the_message_is_counted_from_event_to_event(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"{TO_DATA}\nC+ 100\nC! a\nC+ 100\nC! b")
        await to_content(session)
        assert await session.next_event(120) == Content(b"a")
        assert await session.next_event(120) == Content(b"b")
        assert await gone_at(session, 120) == 320


@each_capacity
async def test_after_silence_the_client_is_still_told(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"S: 220 hi\nS+ 299\n{'S'}: 421 4.3.2 bye")
        await gone_at(session)
        await session.goodbye(BYE, 2)
        assert trio.current_time() == SILENCE, "it was silent long enough, no need to linger"


# Hurry


@each_capacity
async def test_hurry(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, "S: 220 hi\nC+ 20\nC: NOOP\nS: 250 2.0.0 Fine")

        async def hurry() -> None:
            await trio.sleep(10)
            session.hurry(40)

        nursery.start_soon(hurry)
        assert await gone_at(session) == 40


async def test_hurry_is_never_an_extension(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    session = serve(server)
    session.hurry(1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        assert await gone_at(session) == SILENCE
        del client


async def test_hurry_up_at_once(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)

        async def hurry() -> None:
            await trio.sleep(10)
            session.hurry(trio.current_time())

        nursery.start_soon(hurry)
        assert await gone_at(session) == 10
        del client


@each_capacity
async def test_an_answer_is_waited_for_in_spite_of_hurry(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, f"{TO_RCPT}\nS+ 49\nS: 250 2.0.0 ok")
        slot = await to_rcpt(session)
        session.hurry(20)
        nursery.start_soon(answer_after, 50, session, slot, OK)
        assert await gone_at(session) == 50


async def test_a_client_that_takes_no_reply(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(1)
    session = serve(server)
    calls: list[float] = []
    session.on_gone = lambda: calls.append(trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        assert await gone_at(session) == STALL
        assert calls == [STALL]
        assert session.end is End.STALLED
        await session.goodbye(BYE, 2)
        assert trio.current_time() == STALL, "nobody is there to hear it"
        nursery.cancel_scope.cancel()
    assert await client.receive_some(100) == b"2"


async def test_a_client_that_stops_taking_replies_after_a_while(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(64)
    session = serve(server)
    decider = Decider(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decider.run)
        await play(client, HELLO)
        await trio.sleep(10)
        await client.send_all(b"NOOP\r\n" * 20)
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert decider.ended == 10 + STALL


async def test_a_slow_reader_is_not_gone_while_it_takes_something(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(PIECE)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        await client.send_all(b"HELP\r\n" * 2000)  # answered by some 90,000 octets

        async def read_slowly() -> None:
            while True:
                await trio.sleep(STALL - 1)
                await client.receive_some(PIECE)

        nursery.start_soon(read_slowly)
        assert await gone_at(session) > 5 * (STALL - 1)
        assert session.end is End.SILENCE
        nursery.cancel_scope.cancel()


# Cancellation


async def test_a_cancelled_wait_leaves_no_deadline_behind(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        with trio.move_on_after(5):
            await session.next_event(10)
        await trio.sleep(50)
        assert session.end is None
        assert await gone_at(session) == 55 + SILENCE
        del client


async def test_a_reset_in_the_middle_of_a_reply(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(1)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)

        async def leave() -> None:
            await trio.sleep(5)
            await reset(client)

        nursery.start_soon(leave)
        assert await gone_at(session) == 5
        assert session.end is End.LOST
