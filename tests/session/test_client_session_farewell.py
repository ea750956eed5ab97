"""Parting with a next hop: what is due is heard, QUIT is said where it can be understood, and the stream closed."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sessions import RECIPIENTS, SENDER, each_capacity
from steps import PATIENCE, STAGES, STALL, WHOLE, Step, before, go_to
from trio.testing import MockClock

from mailgate.protocol.command import MailParameters
from mailgate.protocol.reply import Role
from mailgate.session.client import ClientSession
from mailgate.testing import Side, bounded_stream_pair, play


class Parting:
    """A session, the other end of its stream, and what is said over it."""

    def __init__(self, capacity: int, nursery: trio.Nursery, script: str) -> None:
        self.ours, self.theirs = bounded_stream_pair(capacity)
        self.session = ClientSession(self.ours, Role.SMTP, STALL)
        nursery.start_soon(lambda: play(self.theirs, script, side=Side.SERVER))

    async def cancelled_in(self, name: str, step: Step) -> None:
        """Get to a stage, and be cancelled while the next hop owes us something; `listen` has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.session.listen)
            await go_to(name, self.session)
            nursery.start_soon(step, self.session)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async def quiet(self, name: str) -> None:
        """Get to a stage, and have nothing due."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.session.listen)
            await go_to(name, self.session)
            nursery.cancel_scope.cancel()


# Nothing is due

FAREWELLS: dict[str, tuple[str, float]] = {
    "221": ("C: QUIT\nS: 221 bye\nC.", 0),
    "221 after a while": ("C: QUIT\nS+ 3\nS: 221 bye\nC.", 3),
    "two lines": ("C: QUIT\nS: 221-bye\nS: 221 bye\nC.", 0),
    "refused": ("C: QUIT\nS: 500 what?\nC.", 0),
    "garbage": ("C: QUIT\nS: what?\nC.", 0),
    "one octet": ("C: QUIT\nS! 2\nS+ 100", 5),
    "one octet a second": ("C: QUIT\nS! 2\nS+ 1\nS! 2\nS+ 1\nS! 1\nS+ 1\nS! \\n\nC.", 3),
    "one octet a second, for ever": ("C: QUIT\n" + "S! 2\nS+ 1\n" * 5 + "S+ 100", 5),
    "closes": ("C: QUIT\nS.", 0),
    "has closed": ("S.", 0),
    "resets": ("C: QUIT\nS~", 0),
    "has reset": ("S~", 0),
    "silence": ("C: QUIT\nS+ 100", 5),
    "reads nothing": ("S+ 100", 5),
}


@each_capacity
@pytest.mark.parametrize(("script", "when"), FAREWELLS.values(), ids=FAREWELLS.keys())
@pytest.mark.parametrize("name", ["hello", "MAIL", "RCPT"])
async def test_farewell(name: str, script: str, when: float, capacity: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, before(name) + "S+ 1\n" + script)
        await it.quiet(name)
        await trio.sleep(1)
        await trio.testing.wait_all_tasks_blocked()
        await it.session.farewell(5)
        assert trio.current_time() == 1 + when
        assert it.ours.closed
        await trio.testing.wait_all_tasks_blocked()  # the dialog is played to its end
        nursery.cancel_scope.cancel()


async def test_a_farewell_in_lockstep(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    session = ClientSession(ours, Role.SMTP, STALL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: play(theirs, WHOLE + "C: QUIT\nS: 221 bye\nC.", side=Side.SERVER))
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            for stage in STAGES.values():
                await stage.step(session)
            listening.cancel_scope.cancel()
        await session.farewell(5)
    assert trio.current_time() == 0


# Something is due


async def offer_three(session: ClientSession) -> None:
    await session.offer(RECIPIENTS, PATIENCE)
    await session.reply(PATIENCE)


THREE = "C: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: RCPT TO:<d@y>\n"
QUIT = "C: QUIT\nS: 221 bye\nC."

DUE: dict[str, tuple[str, Step, str]] = {
    # the stage, what is cancelled in it, and what the next hop has heard then
    "EHLO": ("hello", STAGES["hello"].step, STAGES["hello"].heard),
    "MAIL": ("MAIL", STAGES["MAIL"].step, STAGES["MAIL"].heard),
    "RCPT": ("RCPT", STAGES["RCPT"].step, STAGES["RCPT"].heard),
}

ENDS: dict[str, tuple[str, float]] = {
    # what the next hop does then, and when we are through
    "2xx": ("S+ 2\nS: 250 ok\n" + QUIT, 2),
    "4xx": ("S+ 2\nS: 451 no\n" + QUIT, 2),
    "5xx": ("S+ 2\nS: 550 no\n" + QUIT, 2),
    "2xx at last, then silence": ("S+ 4\nS: 250 ok\nC: QUIT\nS+ 100", 5),
    "2xx too late": ("S+ 5\nC.", 5),
    "half a reply": ("S+ 2\nS: 250-ok\nS+ 100", 5),
    "half a reply, and the rest": ("S+ 2\nS: 250-ok\nS+ 2\nS: 250 ok\n" + QUIT, 4),
    "silence": ("S+ 100", 5),
    "421": ("S+ 2\nS: 421 bye\nC.", 2),
    "garbage": ("S+ 2\nS: what?\nC.", 2),
    "a reply that does not fit": ("S+ 2\nS: 354 go\nC.", 2),
    "a reply too many": ("S+ 2\nS! 250 ok\\r\\n250 ok\\r\\n\nC.", 2),
    "closes": ("S+ 2\nS.", 2),
    "closes its sending side": ("S+ 2\nS/\nC.", 2),
    "resets": ("S+ 2\nS~", 2),
    "answers and closes": ("S+ 2\nS: 250 ok\nS.", 2),
}


@pytest.mark.parametrize("capacity", [64, 65_536])
@pytest.mark.parametrize(("then", "when"), ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize(("name", "step", "heard"), DUE.values(), ids=DUE.keys())
async def test_a_reply_is_due(
    name: str, step: Step, heard: str, then: str, when: float, capacity: int, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, before(name) + heard + then)
        await it.cancelled_in(name, step)
        assert it.session.partable
        assert it.session.awaiting
        await it.session.farewell(5)
        assert trio.current_time() == when
        assert it.ours.closed
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


SEVERAL: dict[str, tuple[str, float]] = {
    "all come": ("S+ 2\nS: 250 ok\nS+ 1\nS: 550 no\nS+ 1\nS: 250 ok\n" + QUIT, 4),
    "one has come": ("S: 250 ok\nS+ 1\nS: 550 no\nS+ 1\nS: 250 ok\n" + QUIT, 2),
    "one does not come": ("S+ 2\nS: 250 ok\nS+ 1\nS: 550 no\nS+ 100", 5),
    "421 for one": ("S+ 2\nS: 250 ok\nS: 421 bye\nC.", 2),
}


@each_capacity
@pytest.mark.parametrize(("then", "when"), SEVERAL.values(), ids=SEVERAL.keys())
async def test_several_replies_are_due(then: str, when: float, capacity: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, before("RCPT") + THREE + then)
        await it.cancelled_in("RCPT", offer_three)
        await it.session.farewell(5)
        assert trio.current_time() == when
        assert it.ours.closed
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


BOTH = WHOLE + "C: RSET\nC: MAIL FROM:<a@x>\n"

BEGUN_AGAIN = {
    "both are due": BOTH + "S+ 2\nS: 250 ok\nS: 250 ok\n",
    "MAIL is due": BOTH + "S: 250 ok\nS+ 2\nS: 250 ok\n",
    "RSET is due": WHOLE.replace("S: 250-mx\nS: 250 PIPELINING", "S: 250 mx") + "C: RSET\nS+ 2\nS: 250 ok\n",
}


@each_capacity
@pytest.mark.parametrize("script", BEGUN_AGAIN.values(), ids=BEGUN_AGAIN.keys())
async def test_another_transaction_had_begun(script: str, capacity: int, autojump_clock: MockClock) -> None:
    async def begin_again(session: ClientSession) -> None:
        await session.again(SENDER, MailParameters(), PATIENCE)

    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, script + QUIT)
        async with trio.open_nursery() as listening:
            listening.start_soon(it.session.listen)
            for stage in STAGES.values():
                await stage.step(it.session)
            listening.start_soon(begin_again, it.session)
            await trio.testing.wait_all_tasks_blocked()
            listening.cancel_scope.cancel()
        assert it.session.partable
        assert not it.session.reusable
        await it.session.farewell(5)
        assert trio.current_time() == 2
        assert it.ours.closed


# QUIT would not be understood

NOT_PARTABLE: dict[str, tuple[str, Step, str]] = {
    "no greeting": ("greeting", STAGES["greeting"].step, ""),
    "DATA is due": ("DATA", STAGES["DATA"].step, "C: DATA\n"),
    "the dot is due": ("dot", STAGES["dot"].step, "C: .\n"),
}


@each_capacity
@pytest.mark.parametrize(("name", "step", "heard"), NOT_PARTABLE.values(), ids=NOT_PARTABLE.keys())
async def test_a_session_that_is_not_partable_is_only_closed(
    name: str, step: Step, heard: str, capacity: int, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, before(name) + heard + "C.")
        await it.cancelled_in(name, step)
        assert not it.session.partable
        await it.session.farewell(5)
        assert trio.current_time() == 0
        assert it.ours.closed


async def test_a_session_inside_the_message_is_only_closed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(64, nursery, before("dot") + "C.")
        await it.quiet("dot")
        await it.session.farewell(5)
        assert trio.current_time() == 0
        assert it.ours.closed


async def test_a_session_whose_write_was_interrupted_is_only_closed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(1, nursery, before("MAIL"))
        await it.cancelled_in("MAIL", STAGES["MAIL"].step)
        assert not it.session.partable
        await it.session.farewell(5)
        assert trio.current_time() == 0
        assert it.ours.closed
        assert await it.theirs.receive_some() == b"M"
        assert await it.theirs.receive_some() == b""


@each_capacity
async def test_a_lost_session_is_only_closed(capacity: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, before("MAIL") + "C: MAIL FROM:<a@x>\nS: what?\nC.")
        await it.cancelled_in("MAIL", STAGES["MAIL"].step)
        await it.session.farewell(5)
        assert trio.current_time() == 0
        assert it.ours.closed


# Cancelled


@each_capacity
@pytest.mark.parametrize("said", ["", "C: QUIT\n"], ids=["reads nothing", "reads QUIT"])
async def test_a_cancelled_farewell_closes(said: str, capacity: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(capacity, nursery, before("RCPT") + said + "S+ 100")
        await it.quiet("RCPT")
        with trio.move_on_after(2) as scope:
            await it.session.farewell(5)
        assert scope.cancelled_caught
        assert trio.current_time() == 2
        assert it.ours.closed
        nursery.cancel_scope.cancel()


async def test_a_farewell_that_is_cancelled_while_a_reply_is_due_closes(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(64, nursery, before("MAIL") + "C: MAIL FROM:<a@x>\nC.")
        await it.cancelled_in("MAIL", STAGES["MAIL"].step)
        with trio.move_on_after(2) as scope:
            await it.session.farewell(5)
        assert scope.cancelled_caught
        assert trio.current_time() == 2
        assert it.ours.closed


@pytest.mark.parametrize("name", ["greeting", "RCPT"], ids=["not partable", "partable"])
async def test_a_farewell_that_is_cancelled_before_it_begins_closes(name: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        it = Parting(64, nursery, before(name) + "C.")
        await it.quiet(name)
        with trio.CancelScope() as scope:
            scope.cancel()
            await it.session.farewell(5)
        assert it.ours.closed
