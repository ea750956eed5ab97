"""A client's session: its dialogs, the order of its replies, and how much is read ahead."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sessions import (
    HELLO,
    LEAVES,
    LMTP_OPTIONS,
    NO,
    OK,
    SILENCE,
    TO_DATA,
    TO_RCPT,
    Decider,
    answer_after,
    each_capacity,
    serve,
    slot_of,
    summary,
    to_content,
    to_rcpt,
)
from trio.testing import MockClock

from mailgate.protocol.events import Content, ContentEnd
from mailgate.session.wire import CHUNK
from mailgate.testing import BoundedStream, Dialog, bounded_stream_pair, play

MESSAGE = """
    C: Subject: hi
    C:
    C: ..dots
    C: .
"""
CONTENT = b"Subject: hi\r\n\r\n.dots\r\n"

UNPIPELINED = f"""
    {TO_RCPT}
    S: 250 2.0.0 ok
    C: RCPT TO:<no@y>
    S: 550 5.1.1 no
    C: DATA
    S: 354 go
    {MESSAGE}
    S: 250 2.0.0 ok
    C: QUIT
    S: 221 2.0.0 Bye
"""

PIPELINED = f"""
    {HELLO}
    C: MAIL FROM:<a@x>
    C: RCPT TO:<b@y>
    C: RCPT TO:<no@y>
    C: DATA
    S: 250 2.0.0 ok
    S: 250 2.0.0 ok
    S: 550 5.1.1 no
    S: 354 go
    {MESSAGE}
    C: QUIT
    S: 250 2.0.0 ok
    S: 221 2.0.0 Bye
"""

TOLD = ["reset", "MAIL <a@x>", "RCPT <b@y>", "RCPT <no@y>", "DATA", f"message {CONTENT!r}", "quit"]


async def told_in(stream: trio.abc.Stream, client: trio.abc.Stream, script: str) -> list[str]:
    """What a decider is told while a client plays the script."""
    session = serve(stream)
    decider = Decider(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decider.run)
        await play(client, script)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return decider.told


# Dialogs


async def test_a_dialog_in_lockstep(autojump_clock: MockClock) -> None:
    client, server = trio.testing.lockstep_stream_pair()
    assert await told_in(server, client, UNPIPELINED) == TOLD


@each_capacity
@pytest.mark.parametrize("script", [UNPIPELINED, PIPELINED], ids=["one by one", "pipelined"])
async def test_a_dialog(script: str, capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    assert await told_in(server, client, script) == TOLD


@each_capacity
async def test_a_whole_lmtp_session_in_one_piece(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server, LMTP_OPTIONS)
    decider = Decider(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decider.run)
        await play(
            client,
            """
            C: LHLO me
            C: MAIL FROM:<a@x>
            C: RCPT TO:<b@y>
            C: RCPT TO:<b@y>
            C: DATA
            C: hello
            C: .
            C: QUIT
            S: 220 hi
            S: 250-gw
            S: 250 PIPELINING
            S: 250 2.0.0 ok
            S: 250 2.0.0 ok
            S: 250 2.0.0 ok
            S: 354 go
            S: 250 2.0.0 ok
            S: 250 2.0.0 ok
            S: 221 2.0.0 Bye
            S+ 1
            """,
        )
        nursery.cancel_scope.cancel()
    assert decider.told[-2:] == [r"message b'hello\r\n'", "quit"]


@each_capacity
async def test_a_long_message_comes_through(capacity: int, autojump_clock: MockClock) -> None:
    content = b"x" * 70 + b"\r\n"
    content *= 20 if capacity == 1 else 3000
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    decider = Decider(session)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decider.run)
        dialog = Dialog(client)
        await dialog.play(TO_DATA)
        await client.send_all(content)
        await dialog.play("C: .\nS: 250 2.0.0 ok\nC: QUIT\nS: 221 2.0.0 Bye")
        nursery.cancel_scope.cancel()
    assert decider.told[-2:] == [f"message {content!r}", "quit"]


# Replies


@each_capacity
async def test_an_answer_is_written_while_we_wait_for_the_client(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)

    async def decide() -> None:
        slot = await to_rcpt(session)
        nursery.start_soon(answer_after, 5, session, slot, NO)
        await session.next_event(SILENCE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decide)
        await play(client, f"{TO_RCPT}\nS+ 4.9\nS: 550 5.1.1 no")
        assert trio.current_time() == 5
        nursery.cancel_scope.cancel()


@each_capacity
async def test_answers_in_any_order_leave_in_that_of_commands(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)

    async def decide() -> None:
        slots = [await to_rcpt(session), await slot_of(session), await slot_of(session)]
        for seconds, slot, answer in ((3, slots[0], OK), (2, slots[1], NO), (1, slots[2], OK)):
            nursery.start_soon(answer_after, seconds, session, slot, answer)
        await session.next_event(SILENCE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decide)
        await play(
            client,
            f"""
            {TO_RCPT}
            C: RCPT TO:<c@y>
            C: RCPT TO:<d@y>
            S+ 2.9
            S: 250 2.0.0 ok
            S: 550 5.1.1 no
            S: 250 2.0.0 ok
            """,
        )
        assert trio.current_time() == 3
        nursery.cancel_scope.cancel()


@each_capacity
async def test_replied_waits_for_the_answers_and_writes_them(capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    ended: list[float] = []

    async def decide() -> None:
        slots = [await to_rcpt(session), await slot_of(session)]
        nursery.start_soon(answer_after, 2, session, slots[0], OK)
        nursery.start_soon(answer_after, 7, session, slots[1], OK)
        await session.replied()
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decide)
        await play(client, f"{TO_RCPT}\nC: RCPT TO:<c@y>\nS: 250 2.0.0 ok\nS+ 4.9\nS: 250 2.0.0 ok")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == [7]


@each_capacity
@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES.keys())
async def test_replied_ends_when_the_client_has_gone(leave: str, capacity: int, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    session = serve(server)
    ended: list[float] = []

    async def decide() -> None:
        slot = await to_rcpt(session)
        await session.replied()
        ended.append(trio.current_time())
        session.answer(slot, OK)  # what is said to a client that has gone is dropped
        await session.replied()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(decide)
        await play(client, f"{TO_RCPT}\nC+ 4\n{leave}")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == [4]


# Reading ahead


async def sent_at_most(client: BoundedStream, octets: bytes) -> int:
    """How much of it the other side takes before it stops reading (in a pair of capacity 64)."""
    sent = 0
    with trio.move_on_after(1000):
        for start in range(0, len(octets), 64):
            await client.send_all(octets[start : start + 64])
            sent += 64
    return sent


@pytest.mark.parametrize(
    "line", [b"RSET\r\n", b"junk junk junk\r\n", b"x" * 1024], ids=["commands", "junk", "no lines"]
)
async def test_little_is_read_ahead_while_an_answer_is_due(line: bytes, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(64)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, TO_RCPT)
        await to_rcpt(session)
        sent = await sent_at_most(client, line * 20_000)
        assert CHUNK <= sent <= CHUNK + 64 + 64
        nursery.cancel_scope.cancel()


async def test_a_burst_lets_others_have_their_turn(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(1_000_000)
    session = serve(server)
    turns = 0

    async def another_session() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        await client.send_all(b"NOOP\r\n" * 10_000 + b"QUIT\r\n")
        nursery.start_soon(session.listen)
        nursery.start_soon(another_session)
        assert summary(await session.next_event(SILENCE)) == "quit"
        assert turns > 30, "one for each mouthful of 4,096 octets"
        nursery.cancel_scope.cancel()


async def test_reading_goes_on_once_there_is_room(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(65_536)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, TO_RCPT)
        slot = await to_rcpt(session)
        decider = Decider(session)
        nursery.start_soon(decider.run)
        nursery.start_soon(client.send_all, b"RSET\r\n" * 15_000 + b"QUIT\r\n")
        await trio.sleep(10)
        session.answer(slot, OK)
        received = b""
        while not received.endswith(b"221 2.0.0 Bye\r\n"):
            received += await client.receive_some(65_536)
        assert received.count(b"Reset") == 15_000
        assert trio.current_time() == 10
        nursery.cancel_scope.cancel()


async def test_little_of_the_message_is_read_ahead(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(64)
    session = serve(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.listen)
        nursery.start_soon(play, client, TO_DATA)
        await to_content(session)
        sent = await sent_at_most(client, b"x" * 1_000_000)
        assert CHUNK <= sent <= CHUNK + 64 + 64
        nursery.start_soon(client.send_all, b"\r\n.\r\n")
        size = 0
        while not isinstance(event := await session.next_event(SILENCE), ContentEnd):
            assert isinstance(event, Content)
            size += len(event.data)
        assert sent + len(b"\r\n") <= size <= sent + len(b"\r\n") + 64, "some were under way when the test gave up"
        nursery.cancel_scope.cancel()
