"""Several next hops and one reply, sentence by sentence: who may write its dot when, and what is said in the end.

That all of it leads a client that tries again to one copy for each is in test_together_table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from world import (
    CONTENT,
    DONE,
    GO_AHEAD,
    LOST,
    NOT_ALL,
    NOT_ALL_WILLING,
    PUT_OFF,
    SENDER,
    TAKEN,
    UNKNOWN,
    Client,
    Hop,
    Told,
    World,
    wire,
)

from mailgate.relay.delivery import Delivery
from mailgate.relay.settings import Limits, SeveralNextHops
from mailgate.testing import Close, Delay, During, Plan, Script, Silence, Turns, seeded

BUSY = "451 4.3.0 busy"
FULL = "452 4.2.2 mailbox full"
SPAM = "554 5.7.1 spam"
TWO = "u@a.example", "u@b.example"
THREE = (*TWO, "u@c.example")


def together(nursery: trio.Nursery, *hops: Hop, limits: Limits | None = None, capacity: int = 65_536) -> World:
    return World(nursery, *hops, several_next_hops=SeveralNextHops.TOGETHER, limits=limits, capacity=capacity)


def one_by_one(**scripts: Script) -> tuple[Hop, Hop, Hop]:
    """Next hops `a`, `b` and `c`; who is not named is well."""
    a, b, c = (Hop(name, scripts.get(name, Script())) for name in "abc")
    return a, b, c


def dots(world: World) -> dict[str, list[float]]:
    """When each host got its dots."""
    return {name: [message.time for message in mta.messages] for name, mta in world.mtas.items()}


async def up_to_the_message(client: Client, *recipients: str) -> None:
    told = await client.envelope(*recipients)
    assert set(told.rcpts) == {TAKEN}
    await client.play(f"C: DATA\nS: {GO_AHEAD}")


# The order of dots: what each next hop is slow with, and when the dots come


@dataclass(frozen=True, slots=True)
class Order:
    """What takes the next hops `a`, `b` and `c` some seconds, and when each gets its dot."""

    slow: dict[str, Script]
    a: float
    b: float
    c: float
    reply: float
    """when the client hears"""


ORDERS = {
    "nobody is slow": Order({}, 0, 0, 0, 0),
    "all wait for who takes the message last": Order({"c": Script(data=Delay(9))}, 9, 9, 9, 9),
    "the first one, too": Order({"a": Script(data=Delay(9))}, 9, 9, 9, 9),
    "the first one answers late": Order({"a": Script(dot=Delay(5))}, 0, 5, 5, 5),
    "the others answer at their own pace": Order(
        {"a": Script(dot=Delay(5)), "b": Script(dot=Delay(7)), "c": Script(dot=Delay(2))}, 0, 5, 5, 12
    ),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_one_dot_when_all_are_ready_and_then_the_others_at_once(order: Order, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, together(nursery, *one_by_one(**order.slow)) as world:
        client = await world.client()
        assert await client.transact(*THREE) == Told(SENDER, (TAKEN,) * 3, GO_AHEAD, (DONE,))
        assert trio.current_time() == order.reply
        assert dots(world) == {"a1": [order.a], "b1": [order.b], "c1": [order.c]}


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_the_scheduling(seed: int, autojump_clock: MockClock) -> None:
    seeded(seed)
    names = "abcdefgh"
    hops = [Hop(name, Script(dot=Delay(1))) for name in names]
    async with trio.open_nursery() as nursery, together(nursery, *hops, capacity=64) as world:
        client = await world.client(capacity=64)
        told = await client.transact(*(f"u@{name}.example" for name in names))
        assert told.outcomes == (DONE,)
        assert dots(world) == {f"{name}1": [0 if name == "a" else 1] for name in names}


async def test_the_first_is_the_first_recipients(autojump_clock: MockClock) -> None:
    """Of those accepted: not the route's, and not the quickest."""
    hops = one_by_one(a=Script(dot=Delay(1)), b=Script(dot=Delay(1), rcpt=Delay(1)), c=Script(rcpt="550 5.1.1 no"))
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        told = await client.transact("u@c.example", "u@b.example", "u@a.example")
        assert told == Told(SENDER, ("550 5.1.1 no", TAKEN, TAKEN), GO_AHEAD, (DONE,))
        assert dots(world) == {"a1": [2], "b1": [1], "c1": []}


async def test_no_dot_before_the_clients(autojump_clock: MockClock) -> None:
    """Promise 4."""
    async with trio.open_nursery() as nursery, together(nursery, *one_by_one()) as world:
        client = await world.client()
        await up_to_the_message(client, *THREE)
        await client.send(wire(CONTENT)[:-3])
        await trio.sleep(50)
        assert dots(world) == {"a1": [], "b1": [], "c1": []}
        await client.send(wire(CONTENT)[-3:])
        await client.play(f"S: {DONE}")
        assert dots(world) == {"a1": [50], "b1": [50], "c1": [50]}


# Who is dropped


SLOW = Script(data=Delay(1))
DROPPED: dict[str, tuple[dict[str, Script], str]] = {
    "the first one refuses": ({"a": Script(dot=SPAM)}, NOT_ALL_WILLING),
    "the first one refuses for now": ({"a": Script(dot=BUSY)}, NOT_ALL),
    "the first one is lost": ({"a": Script(dot=Close())}, NOT_ALL),
    "the second one refuses early": ({"b": Script(body=(During(1, SPAM),)), "c": SLOW}, NOT_ALL_WILLING),
    "the second one is lost early": ({"b": Script(body=(During(1, Close()),)), "c": SLOW}, NOT_ALL),
}


@pytest.mark.parametrize(("scripts", "reply"), DROPPED.values(), ids=DROPPED.keys())
async def test_dropped_without_a_dot_and_without_a_goodbye(
    scripts: dict[str, Script], reply: str, autojump_clock: MockClock
) -> None:
    """A QUIT inside the message would be a line of it, and a dot before it the message."""
    async with trio.open_nursery() as nursery, together(nursery, *one_by_one(**scripts)) as world:
        client = await world.client()
        assert (await client.transact(*THREE)).outcomes == (reply,)
        await trio.sleep(60)
        for name in "abc":
            mta, script = world.mta(f"{name}1"), scripts.get(name)
            if script in (None, SLOW):
                begun = script is None  # otherwise it had not said 354
                assert (mta.connections, len(mta.messages), mta.unfinished, mta.open_sessions) == (1, 0, begun, 0)
                assert "QUIT" not in str(mta.sessions[0])
        assert all(mta.taken == [] for mta in world.mtas.values())


# The reply


# By next hop, what is said behind the dot → the reply for all. `a` commits first.
REPLIES: dict[str, tuple[dict[str, Plan], str]] = {
    "all take it": ({"a": "250 2.6.0 as 1", "b": "250 2.6.0 as 2", "c": "250 2.6.0 as 3"}, "250 2.6.0 as 1"),
    "a later one refuses": ({"b": SPAM}, NOT_ALL_WILLING),
    "a later one refuses for now": ({"b": FULL}, NOT_ALL),
    "a later one is lost": ({"c": Close()}, NOT_ALL),
    "later ones refuse, one for now": ({"b": FULL, "c": SPAM}, NOT_ALL_WILLING),
    "the first one refuses": ({"a": SPAM, "b": SPAM, "c": SPAM}, NOT_ALL_WILLING),
    "the first one is full": ({"a": "452 4.3.1 disk full"}, NOT_ALL),
    "the first one says 421": ({"a": "421 4.3.2 closing"}, NOT_ALL),
}


@pytest.mark.parametrize(("plans", "reply"), REPLIES.values(), ids=REPLIES.keys())
async def test_one_reply(plans: dict[str, Plan], reply: str, autojump_clock: MockClock) -> None:
    """Never a 5xx that is not everybody's, never a 452 that senders take for something else, never a 421."""
    hops = one_by_one(**{name: Script(dot=plan) for name, plan in plans.items()})
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        assert (await client.transact(*THREE)).outcomes == (reply,)


# One delivery, whatever the number of recipients: its own reply
ALONE: dict[str, tuple[Plan, str]] = {
    "taken": (DONE, DONE),
    "refused": (SPAM, SPAM),
    "refused for now": (BUSY, BUSY),
    "full": (FULL, FULL),
    "421": ("421 4.3.2 closing", "451 4.3.2 closing"),
    "lost": (Close(), UNKNOWN),
    "silent": (Silence(), UNKNOWN),
}


@pytest.mark.parametrize("recipients", [("u@a.example",), ("u@a.example", "v@a.example")], ids=["one", "two"])
@pytest.mark.parametrize(("plan", "reply"), ALONE.values(), ids=ALONE.keys())
async def test_one_delivery(plan: Plan, reply: str, recipients: tuple[str, ...], autojump_clock: MockClock) -> None:
    """And no patience: nobody else has the message, so the client may as well try again itself."""
    async with trio.open_nursery() as nursery, together(nursery, *one_by_one(a=Script(dot=plan))) as world:
        client = await world.client()
        assert (await client.transact(*recipients)).outcomes == (reply,)
        assert trio.current_time() == (540 if plan == Silence() else 0)
        assert world.messages == {"a1": 1, "b1": 0, "c1": 0}
        assert world.gateway.status().ledger.put_off == 0


AT_DATA: dict[str, tuple[dict[str, Plan], str]] = {
    "all refuse": ({"a": SPAM, "b": SPAM, "c": SPAM}, SPAM),
    "all refuse for now": ({"a": BUSY, "b": BUSY, "c": BUSY}, BUSY),
    "all are lost": ({"a": Close(), "b": Close(), "c": Close()}, LOST),
}


@pytest.mark.parametrize(("plans", "reply"), AT_DATA.values(), ids=AT_DATA.keys())
async def test_what_all_say_is_true_of_all(plans: dict[str, Plan], reply: str, autojump_clock: MockClock) -> None:
    """They speak at the same time, so that nobody is held back for another one."""
    for seed in range(10):
        seeded(seed)
        hops = one_by_one(**{name: Script(data=plan) for name, plan in plans.items()})
        async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
            client = await world.client()
            told = await client.transact(*THREE)
            assert told.data in (reply, NOT_ALL, NOT_ALL_WILLING)
            assert world.messages == {"a1": 0, "b1": 0, "c1": 0}


async def test_the_refusal_of_one_before_any_354_is_the_answer_to_data(autojump_clock: MockClock) -> None:
    hops = one_by_one(a=Script(data=Delay(2)), b=Script(data=(Delay(1), SPAM)), c=Script(data=Delay(2)))
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        assert await client.transact(*THREE) == Told(SENDER, (TAKEN,) * 3, NOT_ALL_WILLING)
        assert trio.current_time() == 1
        assert (await client.transact("u@a.example", "u@c.example")).outcomes == (DONE,)


async def test_rcpt_is_answered_by_each_ones_own_next_hop(autojump_clock: MockClock) -> None:
    hops = one_by_one(a=Script(rcpt="550 5.1.1 a"), b=Script(rcpt="450 4.2.1 b"))
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        told = await client.transact(*THREE)
        assert told == Told(SENDER, ("550 5.1.1 a", "450 4.2.1 b", TAKEN), GO_AHEAD, (DONE,))
        assert world.gateway.status().ledger.put_off == 0


# Many recipients, and the same one twice


async def test_more_recipients_than_a_delivery_takes(autojump_clock: MockClock) -> None:
    """There is a second delivery then, for the same next hop."""
    many = [f"u{number}@a.example" for number in range(103)]
    async with trio.open_nursery() as nursery, together(nursery, Hop("a", Script(dot=Delay(1))), Hop("b")) as world:
        client = await world.client()
        told = await client.transact(*many, "u@b.example")
        assert (set(told.rcpts), told.outcomes) == ({TAKEN}, (DONE,))
        assert [message.recipients for message in world.mta("a1").messages] == [tuple(many[:100]), tuple(many[100:])]
        assert dots(world) == {"a1": [0, 1], "b1": [1]}


async def test_the_same_address_twice_is_two_recipients(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, together(nursery, Hop("a"), Hop("b")) as world:
        client = await world.client()
        told = await client.transact("u@a.example", "u@b.example", "u@a.example")
        assert (told.rcpts, told.outcomes) == ((TAKEN,) * 3, (DONE,))
        assert world.mta("a1").messages[0].recipients == ("u@a.example", "u@a.example")


# LMTP next hops: several outcomes in one delivery


@dataclass(frozen=True, slots=True)
class Several:
    """What an LMTP next hop says behind the dot of u, v and w, which are offered before u@b.example."""

    u: Plan = DONE
    v: Plan = DONE
    w: Plan = DONE
    reply: str = DONE
    seconds: float = 0
    b: float | None = 0
    """when `b` gets its dot; None: never"""
    offered: tuple[str, ...] = ("uvw",)
    """who is in each of the next hop's messages"""
    entries: int = 0
    put_off: int = 0


SEVERAL = {
    "all take it": Several(),
    "the first success lets the others go": Several(u=Delay(1), v=Delay(1), w=Delay(1), seconds=3, b=1),
    "also behind a refusal": Several(
        u=FULL, v=(Delay(1), DONE), w=(Delay(1), DONE), seconds=2, b=1, reply=NOT_ALL, entries=3, put_off=1
    ),
    "all refuse": Several(SPAM, SPAM, SPAM, NOT_ALL_WILLING, b=None, put_off=3),
    "all refuse for now": Several(BUSY, BUSY, BUSY, NOT_ALL, b=None, put_off=3),
    "one is over quota": Several(v=FULL, reply=NOT_ALL, entries=3, put_off=1),
    "one is over quota for good": Several(v="552 5.2.2 full", reply=NOT_ALL_WILLING, entries=3, put_off=1),
    "patience is for those refused only": Several(
        v=Turns(BUSY, DONE), w=Turns(BUSY, BUSY, DONE), seconds=3, offered=("uvw", "vw", "w")
    ),
    "the first one refuses, and may pass": Several(u=Turns(BUSY, DONE), seconds=1, offered=("uvw", "u")),
    "lost in the middle": Several(v=Close(), reply=NOT_ALL, entries=2, put_off=2),
    "lost before the first": Several(u=Close(), reply=NOT_ALL, b=None, put_off=3),
    "lost behind one that may pass": Several(u=BUSY, v=DONE, w=Close(), reply=NOT_ALL, entries=2, put_off=2),
}


@pytest.mark.parametrize("case", SEVERAL.values(), ids=SEVERAL)
async def test_lmtp_next_hop(case: Several, autojump_clock: MockClock) -> None:
    outcomes: dict[str, Plan] = {"u@l.example": case.u, "v@l.example": case.v, "w@l.example": case.w}
    hops = Hop("l", Script(outcomes=outcomes), speaks="lmtp"), Hop("b")
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        told = await client.transact(*outcomes, "u@b.example")
        assert (told.rcpts, told.outcomes) == ((TAKEN,) * 4, (case.reply,))
        assert trio.current_time() == case.seconds
        assert dots(world)["b1"] == ([] if case.b is None else [case.b])
        offered = ["".join(one[0] for one in message.recipients) for message in world.mta("l1").messages]
        assert tuple(offered) == case.offered
        status = world.gateway.status().ledger
        assert (status.entries, status.put_off) == (case.entries, case.put_off)


async def test_lmtp_next_hop_alone(autojump_clock: MockClock) -> None:
    """One delivery, but no one reply is true of both: the one who has it has an entry."""
    script = Script(outcomes={"v@l.example": SPAM})
    async with trio.open_nursery() as nursery, together(nursery, Hop("l", script, speaks="lmtp")) as world:
        client = await world.client()
        assert (await client.transact("u@l.example", "v@l.example")).outcomes == (NOT_ALL_WILLING,)
        assert world.gateway.status().ledger.entries == 1
        for _ in range(2):  # there is nobody whom it could let go first
            assert (await client.envelope("v@l.example")).rcpts == (PUT_OFF,)
            await client.play("C: RSET\nS: 250 ...")
        assert (await client.transact("v@l.example")).outcomes == (SPAM,)


# Bugs


BUGS: dict[str, tuple[Callable[..., Any], str, list[str]]] = {
    # in the delivery of `b`: what fails, the reply, and who has the message
    "with the recipients": (Delivery._offer_batch, DONE, ["u@a.example", "u@c.example"]),
    "at DATA": (Delivery._data, NOT_ALL, []),
    "in the message": (Delivery._content, NOT_ALL, []),
    "before its turn": (Delivery._turn, NOT_ALL, []),
    "at its dot": (Delivery._commit, NOT_ALL, ["u@a.example", "u@c.example"]),
}


@pytest.mark.parametrize(("method", "reply", "taken"), BUGS.values(), ids=BUGS.keys())
async def test_a_bug_in_one_delivery(
    method: Callable[..., Any],
    reply: str,
    taken: list[str],
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """It is that one's failure, and not the end of the session; who has the message is written down."""

    async def fails(one: Delivery, *arguments: object) -> object:
        if one.hop.route.name == "b":
            raise RuntimeError("a bug")
        return await method(one, *arguments)

    monkeypatch.setattr(Delivery, method.__name__, fails)
    async with trio.open_nursery() as nursery, together(nursery, *one_by_one()) as world:
        world.bugs_expected = True
        client = await world.client()
        told = await client.transact(*THREE)
        assert (told.outcomes or (told.data,))[0] == reply
        assert [recipient for mta in world.mtas.values() for recipient, _ in mta.taken] == taken
        assert world.gateway.status().ledger.entries == (0 if reply == DONE else len(taken))
        assert len(world.events("delivery_failed")) == 1
        await client.quit()
