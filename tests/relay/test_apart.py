"""Plain SMTP, apart: one next hop per transaction, decided in the order of RCPTs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock
from world import ANOTHER_HOP, DONE, FULL, NO_ROUTE, TAKEN, Hop, World

from mailgate.protocol.command import Mailbox, Verb
from mailgate.protocol.events import Slot
from mailgate.protocol.reply import reply
from mailgate.relay.apart import Apart
from mailgate.relay.envelope import Recipient
from mailgate.relay.routing import NextHop
from mailgate.relay.settings import Limits, Route
from mailgate.testing import Delay, Plan, Script, seeded

# Pure: each recipient is its next hop's letter and what that answers

ANSWERS = {"2": reply(250, "2.1.5", "yes"), "4": reply(450, "4.2.0", "later"), "5": reply(550, "5.1.1", "no")}

DECISIONS = {
    # recipients in RCPT order → what they are told, and the next hop chosen; "-" is 452
    "a2": ("2", "a"),
    "a5": ("5", None),
    "a2 a2 a5 a4": ("2254", "a"),
    "a2 b2": ("2-", "a"),
    "a5 b2": ("52", "b"),
    "a4 b2": ("42", "b"),
    "a2 b5": ("2-", "a"),
    "a2 b4": ("2-", "a"),
    "a5 b2 a2": ("52-", "b"),
    "a5 b5 c2": ("552", "c"),
    "a2 b2 a2": ("2-2", "a"),
    "a4 b5 a2 b2": ("452-", "a"),
}


@pytest.mark.parametrize(("asked", "decision"), DECISIONS.items(), ids=DECISIONS.keys())
def test_decided_in_the_order_of_rcpts(asked: str, decision: tuple[str, str | None]) -> None:
    """Whatever the order in which the next hops answer."""
    wanted, chosen = decision
    words = asked.split()
    for order in itertools.permutations(range(len(words))):
        apart, told = _decide(words, order)
        assert [str(one) for one in told] == [ANOTHER_HOP if digit == "-" else str(ANSWERS[digit]) for digit in wanted]
        assert apart.chosen == (chosen and _hop(chosen))


def _decide(words: Sequence[str], order: Sequence[int]) -> tuple[Apart, list[object]]:
    apart = Apart()
    recipients = [Recipient(place, Mailbox("u", word[0]), Slot(Verb.RCPT, ""), 0) for place, word in enumerate(words)]
    for recipient, word in zip(recipients, words, strict=True):
        apart.expect(recipient, _hop(word[0]))
    told = []
    for place in order:
        told += apart.answered(recipients[place], ANSWERS[words[place][1]])
    assert [recipient for recipient, _ in told] == recipients
    return apart, [answer for _, answer in told]


def _hop(name: str) -> NextHop:
    return NextHop(Route(name=name, domains=(name,), hosts=()))


def test_held_back_until_all_before_it_are_answered() -> None:
    apart = Apart()
    first, second = (Recipient(place, Mailbox("u", "x"), Slot(Verb.RCPT, ""), 0) for place in range(2))
    apart.expect(first, _hop("a"))
    apart.expect(second, _hop("b"))
    assert not apart.excludes(_hop("b"))
    assert apart.answered(second, ANSWERS["2"]) == []
    (told_first, answer), (told_second, put_off) = apart.answered(first, ANSWERS["2"])
    assert (told_first, answer) == (first, ANSWERS["2"])
    assert (told_second, str(put_off)) == (second, ANOTHER_HOP)
    assert (apart.excludes(_hop("a")), apart.excludes(_hop("b"))) == (False, True)


# Whole dialogs

DIALOGS: dict[str, tuple[dict[str, Plan], tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    # what becomes of each RCPT, what the client hears, and who gets the message from which host
    "another next hop": (
        {"u@a.example": TAKEN, "u@b.example": TAKEN, "v@a.example": TAKEN},
        (TAKEN, ANOTHER_HOP, TAKEN),
        {"a1": ("u@a.example", "v@a.example")},
    ),
    "the first one is slow": (
        {"u@a.example": Delay(5), "u@b.example": TAKEN, "v@b.example": "550 5.1.1 v"},
        (TAKEN, ANOTHER_HOP, ANOTHER_HOP),
        {"a1": ("u@a.example",)},
    ),
    "the first one is refused": (
        {"u@a.example": "550 5.1.1 u", "u@b.example": TAKEN, "v@a.example": TAKEN},
        ("550 5.1.1 u", TAKEN, ANOTHER_HOP),
        {"b1": ("u@b.example",)},
    ),
    "the first one is refused, late": (
        {"u@a.example": (Delay(5), "550 5.1.1 u"), "u@b.example": TAKEN, "v@a.example": TAKEN, "v@b.example": TAKEN},
        ("550 5.1.1 u", TAKEN, ANOTHER_HOP, TAKEN),
        {"b1": ("u@b.example", "v@b.example")},
    ),
    "the first one is put off": (
        {"u@a.example": "450 4.2.0 u", "u@b.example": TAKEN},
        ("450 4.2.0 u", TAKEN),
        {"b1": ("u@b.example",)},
    ),
    "no route": (
        {"u@elsewhere.example": TAKEN, "u@b.example": TAKEN, "u@a.example": TAKEN},
        (NO_ROUTE, TAKEN, ANOTHER_HOP),
        {"b1": ("u@b.example",)},
    ),
    "LMTP next hop, a second recipient": (
        {"u@l.example": TAKEN, "v@l.example": TAKEN, "u@a.example": TAKEN},
        (TAKEN, FULL, ANOTHER_HOP),
        {"l1": ("u@l.example",)},
    ),
    "LMTP next hop, the first one is refused": (
        {"u@l.example": "550 5.1.1 u", "v@l.example": TAKEN, "w@l.example": TAKEN},
        ("550 5.1.1 u", TAKEN, FULL),
        {"l1": ("v@l.example",)},
    ),
}


@pytest.mark.parametrize(("plans", "told", "got"), DIALOGS.values(), ids=DIALOGS.keys())
@pytest.mark.parametrize("capacity", [1, 64, 65_536])
async def test_dialog(
    plans: dict[str, Plan],
    told: tuple[str, ...],
    got: dict[str, tuple[str, ...]],
    capacity: int,
    autojump_clock: MockClock,
) -> None:
    await _dialog(plans, told, got, capacity)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("plans", "told", "got"), DIALOGS.values(), ids=DIALOGS.keys())
async def test_dialog_whatever_the_scheduling(
    plans: dict[str, Plan],
    told: tuple[str, ...],
    got: dict[str, tuple[str, ...]],
    seed: int,
    autojump_clock: MockClock,
) -> None:
    seeded(seed)
    await _dialog(plans, told, got, 65_536)


async def _dialog(
    plans: dict[str, Plan], told: tuple[str, ...], got: dict[str, tuple[str, ...]], capacity: int
) -> None:
    hops = [Hop(name, Script(recipients=plans), speaks="lmtp" if name == "l" else "smtp") for name in "abl"]
    async with trio.open_nursery() as nursery, World(nursery, *hops, capacity=capacity) as world:
        client = await world.client(capacity=capacity)
        heard = await client.transact(*plans)
        assert heard.rcpts == told
        assert heard.outcomes == (DONE,)
        await client.quit()
        messages = {name: mta.messages for name, mta in world.mtas.items() if mta.messages}
        assert {name: some[0].recipients for name, some in messages.items()} == got
        assert [len(some) for some in messages.values()] == [1]
        assert all(mta.unfinished == 0 for mta in world.mtas.values())


async def test_unpipelined(autojump_clock: MockClock) -> None:
    """A next hop that is known to be another is not even asked; the rest goes on the same connection, as Exim does."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        client = await world.client()
        await client.play(f"""
            C: MAIL FROM:<s@in.example>
            S: 250 2.1.0 Sender ok
            C: RCPT TO:<u@a.example>
            S: {TAKEN}
            C: RCPT TO:<u@b.example>
            S: {ANOTHER_HOP}
            C: DATA
            S: 354 End data with <CR><LF>.<CR><LF>
            C: .
            S: {DONE}
            C: MAIL FROM:<s@in.example>
            S: 250 2.1.0 Sender ok
            C: RCPT TO:<u@b.example>
            S: {TAKEN}
        """)
        assert [len(mta.sessions) for mta in world.mtas.values()] == [1, 1]


async def test_the_others_are_let_go_before_the_message(autojump_clock: MockClock) -> None:
    """As soon as it is decided: their sessions end with QUIT, without DATA."""
    hops = Hop("a", Script(rcpt=Delay(1))), Hop("b")
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client()
        await client.envelope("u@a.example", "u@b.example")
        await trio.sleep(1)
        assert world.mta("b1").open_sessions == 0
        assert world.mta("b1").sessions[0].dialog[-4:-2] == ["C: RCPT TO:<u@b.example>", f"S: {TAKEN}"]
        assert world.mta("b1").sessions[0].dialog[-2] == "C: QUIT"


# The 101st

MANY = [f"u{number}@a.example" for number in range(103)]


async def test_plain_smtp_has_room_for_100_at_one_next_hop(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        told = await client.transact(*MANY)
        assert told.rcpts == (TAKEN,) * 100 + (FULL,) * 3
        assert [message.recipients for message in world.mta("a1").messages] == [tuple(MANY[:100])]


async def test_who_was_refused_takes_no_room(autojump_clock: MockClock) -> None:
    script = Script(recipients={MANY[0]: "550 5.1.1 no", MANY[99]: "450 4.2.0 no"})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client()
        told = await client.transact(*MANY)
        assert told.rcpts == ("550 5.1.1 no", *(TAKEN,) * 98, "450 4.2.0 no", TAKEN, TAKEN, FULL)
        assert [len(message.recipients) for message in world.mta("a1").messages] == [100]


@pytest.mark.parametrize("parameters", ["", " PRDR"], ids=["LMTP", "PRDR"])
async def test_a_reply_per_recipient_has_room_in_a_second_delivery(parameters: str, autojump_clock: MockClock) -> None:
    outcomes: dict[str, Plan] = {address: f"250 2.0.0 {address}" for address in MANY}
    hop = Hop("a", Script(outcomes=outcomes), speaks="lmtp")
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client("smtp" if parameters else "lmtp")
        told = await client.transact(*MANY, parameters=parameters)
        assert told.rcpts == (TAKEN,) * 103
        each = told.outcomes[1:-1] if parameters else told.outcomes
        assert each == tuple(f"250 2.0.0 {address}" for address in MANY)
        assert sorted(len(message.recipients) for message in world.mta("a1").messages) == [3, 100]


async def test_room_is_a_setting(autojump_clock: MockClock) -> None:
    limits = Limits(recipients_per_delivery=2)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), limits=limits) as world:
        assert (await (await world.client("smtp")).envelope(*MANY[:3])).rcpts == (TAKEN, TAKEN, FULL)
        assert (await (await world.client("lmtp")).transact(*MANY[:5])).outcomes == (DONE,) * 5
        sizes = sorted(len(message.recipients) for message in world.mta("a1").messages)
        assert sizes == [1, 2, 2]
