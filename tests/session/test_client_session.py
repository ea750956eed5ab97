"""A session with a next hop that goes well: each step is a Reply, and what is left can be used again."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from sessions import RECIPIENTS, SENDER, each_capacity
from steps import PATIENCE, STAGES, STALL, WHOLE, before, go_to, talk
from trio.testing import MockClock

from mailgate.protocol.command import Extension, MailParameters, Verb
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.session.client import ClientSession, Lost
from mailgate.testing import Side, bounded_stream_pair, play

# Dialogs


async def whole_dialog(session: ClientSession) -> list[Reply | Lost | None]:
    return [await stage.step(session) for stage in STAGES.values()]


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
        assert not it.session.awaiting
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
        assert session.reusable
        assert session.transactions == 1
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


# What a session is good for

GOOD_FOR: dict[str, tuple[bool, bool]] = {
    # behind the step: partable, reusable
    "greeting": (True, False),
    "hello": (True, True),
    "MAIL": (True, False),
    "RCPT": (True, False),
    "DATA": (False, False),
    "content": (False, False),
    "dot": (True, True),
}


def good_for(session: ClientSession) -> tuple[bool, bool]:
    """Whether it is partable, and whether it is reusable."""
    return session.partable, session.reusable


@each_capacity
async def test_good_for_what_after_each_step(capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        assert good_for(it.session) == (False, False)
        nursery.start_soon(lambda: play(it.peer, WHOLE, side=Side.SERVER))
        for name, stage in STAGES.items():
            assert it.session.transactions == 0
            await stage.step(it.session)
            assert good_for(it.session) == GOOD_FOR[name], name
        assert it.session.transactions == 1
        nursery.cancel_scope.cancel()


# Step → its refusal: partable, reusable
REFUSALS = {
    "hello": ("451 no", (True, False)),
    "MAIL": ("550 no", (True, True)),
    "RCPT": ("550 no", (True, False)),
    "DATA": ("451 no", (True, True)),
    "dot": ("554 no", (True, True)),
}


@each_capacity
@pytest.mark.parametrize("name", REFUSALS)
async def test_good_for_what_after_a_refusal(name: str, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    refusal, wanted = REFUSALS[name]
    script = before(name) + STAGES[name].heard + f"S: {refusal}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, script, side=Side.SERVER))
        await go_to(name, it.session)
        await STAGES[name].step(it.session)
        assert good_for(it.session) == wanted
        assert it.session.transactions == (1 if name == "dot" else 0)
        nursery.cancel_scope.cancel()


@each_capacity
async def test_partable_while_a_reply_is_due(capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("RCPT") + "C: RCPT TO:<b@y>", side=Side.SERVER))
        await go_to("RCPT", it.session)
        await it.session.offer(RECIPIENTS[:1], PATIENCE)
        assert it.session.awaiting
        assert good_for(it.session) == (True, False)
        nursery.cancel_scope.cancel()


@each_capacity
@pytest.mark.parametrize("end", ["S.", "S/", "S~"], ids=["closes", "closes its sending side", "resets"])
async def test_good_for_nothing_once_the_next_hop_has_left(end: str, capacity: int, autojump_clock: MockClock) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, f"{WHOLE}\nS+ 1\n{end}", side=Side.SERVER))
        await whole_dialog(it.session)
        found = [good_for(it.session)]
        await trio.sleep(2)
        assert [*found, good_for(it.session)] == [(True, True), (False, False)]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["MAIL", "RCPT", "DATA"])
async def test_not_partable_after_a_write_that_was_cancelled(name: str, autojump_clock: MockClock) -> None:
    it = talk(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before(name), side=Side.SERVER))
        await go_to(name, it.session)
        found = [it.session.partable]
        with trio.move_on_after(1) as scope:
            await STAGES[name].step(it.session)
        assert scope.cancelled_caught
        assert [*found, it.session.partable] == [True, False]
        nursery.cancel_scope.cancel()
