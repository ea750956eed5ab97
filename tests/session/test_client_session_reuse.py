"""A session with a next hop that changes owners: the reader stops and starts, and another transaction begins."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from sessions import SENDER, each_capacity
from steps import PATIENCE, SILENCE, STAGES, STALL, WHOLE, Talk, before, go_to, talk
from trio.testing import MockClock

from mailgate.protocol.command import MailParameters, Verb
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.session.client import ClientSession, Lost, Patience, Stale
from mailgate.session.wire import End
from mailgate.testing import Side, bounded_stream_pair, play, seeded

IDLE = 2
"""seconds between the owners, while nobody listens"""

WITHOUT = WHOLE.replace("S: 250-mx\nS: 250 PIPELINING\n", "S: 250 mx\n")
"""the first transaction with a next hop that does not know PIPELINING"""

OK = reply(250, "2.1.0", "ok")


async def kept(it: Talk, nursery: trio.Nursery, script: str, first: str = WHOLE) -> None:
    """A first transaction, and the reader stops; the next hop goes on with the script."""
    nursery.start_soon(lambda: play(it.peer, first + script, side=Side.SERVER, patience=1000))
    async with trio.open_nursery() as listening:
        listening.start_soon(it.session.listen)
        for stage in STAGES.values():
            assert not isinstance(await stage.step(it.session), Lost)
        listening.cancel_scope.cancel()
    assert it.session.reusable
    await trio.sleep(IDLE)


async def again(session: ClientSession, patience: Patience = PATIENCE) -> Reply | Stale:
    """What the next owner does: the reader has only just been started."""
    async with trio.open_nursery() as listening:
        listening.start_soon(session.listen)
        result = await session.again(SENDER, MailParameters(), patience)
        listening.cancel_scope.cancel()
    return result


# Used again

PIPELINED = "C: RSET\nC: MAIL FROM:<a@x>\n"

AGAIN: dict[str, tuple[str, str, Reply]] = {
    "in one write": (WHOLE, PIPELINED + "S: 250 reset\nS: 250 2.1.0 ok", OK),
    "each answered at once": (WHOLE, "C: RSET\nS: 250 reset\nC: MAIL FROM:<a@x>\nS: 250 2.1.0 ok", OK),
    "one after the other": (WITHOUT, "C: RSET\nC+ 1\nS: 250 reset\nC: MAIL FROM:<a@x>\nS: 250 2.1.0 ok", OK),
    "MAIL 451": (WHOLE, PIPELINED + "S: 250 reset\nS: 451 4.7.1 later", reply(451, "4.7.1", "later")),
    "MAIL 550": (WITHOUT, "C: RSET\nS: 250 reset\nC: MAIL FROM:<a@x>\nS: 550 5.7.1 no", reply(550, "5.7.1", "no")),
}


@each_capacity
@pytest.mark.parametrize(("first", "script", "answer"), AGAIN.values(), ids=AGAIN.keys())
async def test_again(first: str, script: str, answer: Reply, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, script, first)
        assert await again(it.session) == answer
        assert it.session.partable
        assert it.session.reusable == (answer.kind != 2)
        assert it.session.transactions == 1


async def test_again_in_lockstep(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    it = Talk(ClientSession(ours, Role.SMTP, STALL), theirs)
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, PIPELINED + "S: 250 reset\nS: 250 2.1.0 ok")
        assert await again(it.session) == OK


REST = "C: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\nS: 354 go\nC: ...hello\nC: .\n"


@each_capacity
@pytest.mark.parametrize("role", Role, ids=lambda role: role.name)
async def test_many_transactions(role: Role, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity, role)
    first = WHOLE if role is Role.SMTP else WHOLE.replace("EHLO", "LHLO")
    another = PIPELINED + "S: 250 reset\nS: 250 2.1.0 ok\n" + REST + "S: 250 2.0.0 taken\n"
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, another * 3, first)
        for number in (2, 3, 4):
            assert await again(it.session) == OK
            async with trio.open_nursery() as listening:  # the delivery is a third owner
                listening.start_soon(it.session.listen)
                for name in ("RCPT", "DATA", "content", "dot"):
                    result = await STAGES[name].step(it.session)
                assert result == reply(250, "2.0.0", "taken")
                listening.cancel_scope.cancel()
            assert it.session.transactions == number
            assert it.session.reusable


async def test_the_next_owner_observes(autojump_clock: MockClock) -> None:
    it = talk()
    seen: list[tuple[Verb, int]] = []
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, PIPELINED + "S: 250 reset\nS: 451 later")
        it.session.observe = lambda verb, answer: seen.append((verb, answer.code))
        await again(it.session)
    assert seen == [(Verb.RSET, 250), (Verb.MAIL, 451)]


# Stale: what came while it idled

IDLED: dict[str, tuple[str, str]] = {
    "closed": ("S.", "connection closed"),
    "closed its sending side": ("S/", "connection closed"),
    "reset": ("S~", "connection lost"),
    "421": ("S: 421 4.4.2 idle", "a reply nobody asked for: 421 4.4.2 idle"),
    "421 and closed": ("S: 421 4.4.2 idle\nS.", "a reply nobody asked for: 421 4.4.2 idle"),
    "2xx": ("S: 250 unasked", "a reply nobody asked for: 250 unasked"),
    "two": ("S: 250 unasked\nS: 250 unasked", "a reply nobody asked for: 250 unasked"),
    "the first line of a reply": ("S: 250-unasked", "a reply nobody asked for has begun"),
    "half a line": ("S! 250 unask", "a reply nobody asked for has begun"),
    "one octet": ("S! 2", "a reply nobody asked for has begun"),
    "garbage": ("S: what?", "not a reply line: b'what?'"),
}

OF_ONE_OCTET = "a reply nobody asked for has begun"
"""all that is known where no more than one octet fits in"""


@each_capacity
@pytest.mark.parametrize(("idled", "why"), IDLED.values(), ids=IDLED.keys())
@pytest.mark.parametrize("first", [WHOLE, WITHOUT], ids=["PIPELINING", "no PIPELINING"])
async def test_what_came_while_it_idled(
    first: str, idled: str, why: str, capacity: int, autojump_clock: MockClock
) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        # Nothing is said to it then.
        hears_no_more = "" if idled.endswith(("S.", "S~")) else "\nC+ 5"
        await kept(it, nursery, f"S+ 1\n{idled}{hears_no_more}", first)
        short = capacity == 1 and ":" in idled
        assert await again(it.session) == Stale(OF_ONE_OCTET if short else why)
        assert trio.current_time() == IDLE
        assert not it.session.reusable
        assert not it.session.partable
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_that_was_only_just_started_has_seen_it(seed: int) -> None:
    """Whatever order the scheduler takes reader and speaker in: nothing unasked becomes the answer to RSET."""

    async def idle_and_speak() -> None:
        ours, theirs = bounded_stream_pair()
        it = Talk(ClientSession(ours, Role.SMTP, STALL), theirs)
        async with trio.open_nursery() as nursery:
            await kept(it, nursery, "S+ 1\nS: 250 unasked\nC+ 5")
            assert await again(it.session) == Stale("a reply nobody asked for: 250 unasked")
            nursery.cancel_scope.cancel()

    seeded(seed)
    trio.run(idle_and_speak, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("idled", ["S: 421 bye", "S! 2", "S.", "S~"], ids=["421", "one octet", "closed", "reset"])
def test_what_came_to_a_real_socket(idled: str, seed: int) -> None:
    async def idle_and_speak() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
            theirs = await listener.accept()
        session = ClientSession(ours, Role.SMTP, STALL)
        async with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.listen)
                nursery.start_soon(lambda: play(theirs, WHOLE, side=Side.SERVER))
                for stage in STAGES.values():
                    await stage.step(session)
                nursery.cancel_scope.cancel()
            await play(theirs, idled, side=Side.SERVER)
            assert isinstance(await again(session), Stale)

    seeded(seed)
    trio.run(idle_and_speak)


# Stale: what comes in place of the replies

PIPELINED_FAULTS: dict[str, tuple[str, str, float]] = {
    # what the next hop does once it has heard both: why, and when
    "421": ("S: 421 4.4.2 idle", "421 4.4.2 idle", 0),
    "421 and closes": ("S: 421 4.4.2 idle\nS.", "421 4.4.2 idle", 0),
    "421 to MAIL": ("S: 250 reset\nS: 421 4.3.2 bye", "421 4.3.2 bye", 0),
    "421 to both": ("S: 421 bye\nS: 421 bye", "421 bye", 0),
    "RSET refused": ("S: 500 what?\nS: 250 ok", "500 what?", 0),
    "RSET put off": ("S: 451 later\nS: 250 ok", "451 later", 0),
    "closes": ("S.", "connection closed", 0),
    "closes between": ("S: 250 reset\nS.", "connection closed", 0),
    "closes between, later": ("S: 250 reset\nS+ 3\nS.", "connection closed", 3),
    "closes inside a line": ("S: 250 reset\nS! 25\nS.", "connection closed", 0),
    "resets": ("S~", "connection lost", 0),
    "resets between": ("S: 250 reset\nS+ 1\nS~", "connection lost", 1),
    "garbage": ("S: what?", "not a reply line: b'what?'", 0),
    "garbage between": ("S: 250 reset\nS: what?", "not a reply line: b'what?'", 0),
    "does not fit": ("S: 354 go", "a reply that does not fit RSET: 354 go", 0),
    "does not fit MAIL": ("S: 250 reset\nS: 354 go", "a reply that does not fit MAIL: 354 go", 0),
    "silence": ("", End.SILENCE.value, SILENCE),
    "silence inside a line": ("S+ 5\nS! 250 res", End.SILENCE.value, SILENCE),
    "silence between": ("S+ 5\nS: 250 reset", End.SILENCE.value, 5 + SILENCE),
}


@each_capacity
@pytest.mark.parametrize(("fault", "why", "when"), PIPELINED_FAULTS.values(), ids=PIPELINED_FAULTS.keys())
async def test_faults(fault: str, why: str, when: float, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, PIPELINED + fault)
        assert await again(it.session) == Stale(why)
        assert trio.current_time() == IDLE + when
        assert not it.session.reusable
        nursery.cancel_scope.cancel()


MAIL = "S: 250 reset\nC: MAIL FROM:<a@x>\n"

SINGLE_FAULTS: dict[str, tuple[str, str, float]] = {
    # what the next hop does once it has heard RSET: why, and when
    "421": ("S: 421 4.4.2 idle\nC+ 5", "421 4.4.2 idle", 0),
    "421 to MAIL": (MAIL + "S: 421 4.3.2 bye", "421 4.3.2 bye", 0),
    "RSET refused": ("S: 500 what?\nC+ 5", "500 what?", 0),
    "closes": ("S.", "connection closed", 0),
    "closes behind MAIL": (MAIL + "S.", "connection closed", 0),
    "garbage": ("S: what?\nC+ 5", "not a reply line: b'what?'", 0),
    "garbage behind MAIL": (MAIL + "S: what?", "not a reply line: b'what?'", 0),
    "a reply too many": ("S! 250 a\\r\\n250 b\\r\\n\nC+ 5", "a reply nobody asked for: 250 b", 0),
    "silence": ("C+ 20", End.SILENCE.value, SILENCE),
    "silence behind MAIL": ("S+ 5\n" + MAIL, End.SILENCE.value, 5 + SILENCE),
}


@pytest.mark.parametrize("capacity", [64, 65_536])
@pytest.mark.parametrize(("fault", "why", "when"), SINGLE_FAULTS.values(), ids=SINGLE_FAULTS.keys())
async def test_faults_without_pipelining(
    fault: str, why: str, when: float, capacity: int, autojump_clock: MockClock
) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, "C: RSET\n" + fault, WITHOUT)
        assert await again(it.session) == Stale(why)
        assert trio.current_time() == IDLE + when
        await trio.sleep(20)  # nothing more is said to it
        nursery.cancel_scope.cancel()


async def test_rset_is_not_taken(autojump_clock: MockClock) -> None:
    it = talk(1)
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, "S+ 100")
        assert await again(it.session) == Stale(End.STALLED.value)
        assert trio.current_time() == IDLE + SILENCE
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("patience", "why", "when"),
    [
        pytest.param(Patience(10, deadline=5), End.SILENCE, 5, id="deadline first"),
        pytest.param(Patience(math.inf, deadline=30), End.SILENCE, 30, id="deadline alone"),
        pytest.param(Patience(10, deadline=0), End.STALLED, IDLE, id="deadline in the past"),
    ],
)
async def test_patience(patience: Patience, why: End, when: float, autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, "S+ 100")
        assert await again(it.session, patience) == Stale(why.value)
        assert trio.current_time() == when
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["greeting", "MAIL", "RCPT", "DATA"])
async def test_inside_a_transaction_nothing_is_used_again(name: str, autojump_clock: MockClock) -> None:
    it = talk()
    due = STAGES[name].heard
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: play(it.peer, before(name) + due + "C+ 5", side=Side.SERVER))
        async with trio.open_nursery() as listening:
            listening.start_soon(it.session.listen)
            await go_to(name, it.session)
            listening.start_soon(STAGES[name].step, it.session)
            await trio.testing.wait_all_tasks_blocked()
            listening.cancel_scope.cancel()
        assert not it.session.reusable
        assert await again(it.session) == Stale("something is half said")


async def test_what_was_read_unasked_before_the_reader_stopped(autojump_clock: MockClock) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        await kept(it, nursery, "S+ 1\nS! 2\nC+ 5")
        async with trio.open_nursery() as listening:
            listening.start_soon(it.session.listen)
            await trio.testing.wait_all_tasks_blocked()
            listening.cancel_scope.cancel()
        assert not it.session.reusable
        assert await again(it.session) == Stale("a reply nobody asked for has begun")
