"""A client's session: its events, its replies, and how long it waits for what."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sessions import (
    BYE,
    GREETING,
    HELLO,
    LMTP_OPTIONS,
    NO,
    OK,
    SILENCE,
    STALL,
    TO_DATA,
    TO_RCPT,
    Decider,
    each_capacity,
    serve,
    slot_of,
    summary,
    to_content,
    to_rcpt,
)
from trio.testing import MockClock

from mailgate.protocol.events import Content, ContentEnd, Event, Gone, Slot
from mailgate.protocol.reply import Reply
from mailgate.session.server import ServerSession
from mailgate.session.wire import CHUNK, PIECE, End
from mailgate.testing import BoundedStream, Dialog, bounded_stream_pair, play, reset

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


async def answer_after(seconds: float, session: ServerSession, slot: Slot, answer: Reply) -> None:
    await trio.sleep(seconds)
    session.answer(slot, answer)


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


LEAVES = {"closes": "C.", "resets": "C~", "closes its sending side": "C/"}


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


# Silence: counted only while it is the client's turn


async def gone_at(session: ServerSession, silence: float = SILENCE) -> float:
    """When the next event comes, which is Gone."""
    assert await session.next_event(silence) == Gone()
    return trio.current_time()


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
