"""PRDR (draft-hall-prdr): one reply per recipient over SMTP, on the client's side and on the next hop's."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from trio.testing import MockClock
from world import CONTENT, DONE, GO_AHEAD, NOBODY_NOW, TOO_BIG, UNKNOWN, Hop, World, wire

from mailgate.relay.settings import Limits
from mailgate.testing import EXTENSIONS, Close, Delay, Plan, Script, Silence

EACH = "353 One reply per recipient follows"
SOME = "250 2.0.0 Done, see the replies per recipient"
NONE_NOW = "451 4.3.0 No recipient has the message, see the replies per recipient"
WITH_PRDR = (*EXTENSIONS, "PRDR")

# The client's side: recipients at hops a, b and c

CLIENT_SIDE: dict[str, tuple[tuple[Plan, Plan, Plan], tuple[str, str, str], str]] = {
    # what the hops say to the dot, what the client hears of each, and the final reply
    "all": ((DONE, DONE, DONE), (DONE, DONE, DONE), SOME),
    "one of three": (
        ("554 5.7.1 a", DONE, "452 4.2.2 c"),
        ("554 5.7.1 a", DONE, "452 4.2.2 c"),
        SOME,
    ),
    "none, one 4xx": (
        ("554 5.7.1 a", "452 4.2.2 b", "550 5.7.0 c"),
        ("554 5.7.1 a", "452 4.2.2 b", "550 5.7.0 c"),
        NONE_NOW,
    ),
    "none, one unknown": (
        ("554 5.7.1 a", Close(), "550 5.7.0 c"),
        ("554 5.7.1 a", UNKNOWN, "550 5.7.0 c"),
        NONE_NOW,
    ),
    "none, all 5xx": (
        ("554 5.7.1 a", "550 5.7.0 b", "550 5.7.0 c"),
        ("554 5.7.1 a", "550 5.7.0 b", "550 5.7.0 c"),
        "554 5.7.1 No recipient takes the message",
    ),
    "421 is no reply to a recipient": (
        (DONE, "421 4.3.2 closing", DONE),
        (DONE, "451 4.3.2 closing", DONE),
        SOME,
    ),
}


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize(("plans", "each", "final"), CLIENT_SIDE.values(), ids=CLIENT_SIDE.keys())
async def test_client_side(
    plans: tuple[Plan, ...], each: tuple[str, ...], final: str, capacity: int, autojump_clock: MockClock
) -> None:
    hops = [Hop(name, Script(dot=plan)) for name, plan in zip("abc", plans, strict=True)]
    async with trio.open_nursery() as nursery, World(nursery, *hops, capacity=capacity) as world:
        client = await world.client(capacity=capacity)
        told = await client.transact("u@a.example", "u@b.example", "u@c.example", parameters=" PRDR")
        assert told.outcomes == (EACH, *each, final)
        await client.quit()
        assert world.messages == {"a1": 1, "b1": 1, "c1": 1}


async def test_client_hears_353_at_once_and_each_reply_in_turn(autojump_clock: MockClock) -> None:
    hops = Hop("a", Script(dot=Delay(7))), Hop("b", Script(dot=Delay(3))), Hop("c", Script(dot=Delay(9)))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client()
        await client.envelope("u@a.example", "u@b.example", "u@c.example", parameters=" PRDR")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT) + b"QUIT\r\n")
        heard = []
        for _ in range(6):
            reply = await client.reply()
            heard.append((trio.current_time(), reply))
        assert heard == [(0, EACH), (7, DONE), (7, DONE), (9, DONE), (9, SOME), (9, "221 2.0.0 Bye")]


async def test_a_client_that_did_not_say_prdr_has_one_reply(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(extensions=WITH_PRDR))) as world:
        client = await world.client()
        assert (await client.transact("u@a.example", "v@a.example")).outcomes == (DONE,)
        assert world.mta("a1").messages[0].parameters == (), "the next hop was not asked for it either"


async def test_a_refused_recipient_has_no_reply_behind_the_data(autojump_clock: MockClock) -> None:
    script = Script(recipients={"v@a.example": "550 5.1.1 no"})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client()
        told = await client.transact("u@a.example", "v@a.example", "w@a.example", parameters=" PRDR")
        assert told.outcomes == (EACH, DONE, DONE, SOME)


async def test_refused_data_is_refused_for_all(autojump_clock: MockClock) -> None:
    hops = Hop("a", Script(data="554 5.7.1 a")), Hop("b", Script(data="451 4.3.0 b"))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client()
        told = await client.transact("u@a.example", "u@b.example", parameters=" PRDR")
        assert told.data == NOBODY_NOW


async def test_a_message_nobody_may_have(autojump_clock: MockClock) -> None:
    """A reply each, and a final one: also for our own refusals."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b"), limits=Limits(message_size=1000)) as world,
    ):
        client = await world.client()
        told = await client.transact("u@a.example", "u@b.example", parameters=" PRDR", content=b"x" * 2000 + b"\r\n")
        assert told.outcomes == (EACH, TOO_BIG, TOO_BIG, "552 5.3.4 No recipient takes the message")
        assert world.messages == {"a1": 0, "b1": 0}


# The next hop's side: u, v and w at hop a, the client speaks LMTP

NEXT_HOP_SIDE: dict[str, tuple[Script, tuple[str, str, str]]] = {
    "all": (Script(), (DONE, DONE, DONE)),
    "mixed": (
        Script(outcomes={"u@a.example": "554 5.7.1 u", "w@a.example": "452 4.2.2 w"}),
        ("554 5.7.1 u", DONE, "452 4.2.2 w"),
    ),
    "none": (
        Script(outcomes={"v@a.example": "452 4.2.2 v"}, dot="554 5.7.1 no", prdr_end="452 4.2.2 none"),
        ("554 5.7.1 no", "452 4.2.2 v", "554 5.7.1 no"),
    ),
    "one reply in place of 353": (Script(prdr_start="250 2.0.0 for all"), ("250 2.0.0 for all",) * 3),
    "one refusal in place of 353": (Script(prdr_start="554 5.7.1 spam"), ("554 5.7.1 spam",) * 3),
    "the final reply takes it back": (
        Script(outcomes={"u@a.example": "554 5.7.1 u"}, prdr_end="451 4.3.0 disk failed"),
        ("554 5.7.1 u", "451 4.3.0 disk failed", "451 4.3.0 disk failed"),
    ),
    "lost behind 353": (Script(prdr_start=("353 go", Close())), (UNKNOWN,) * 3),
    "lost before the final reply": (
        Script(outcomes={"u@a.example": "554 5.7.1 u"}, prdr_end=Close()),
        (UNKNOWN, UNKNOWN, UNKNOWN),
    ),
    "silent before the final reply": (Script(prdr_end=Silence()), (UNKNOWN,) * 3),
    "3xx in place of a recipient's reply": (Script(outcomes={"v@a.example": "354 what?"}), (UNKNOWN,) * 3),
    "3xx other than 353": (Script(prdr_start="354 what?"), (UNKNOWN,) * 3),
}


@pytest.mark.parametrize(("script", "outcomes"), NEXT_HOP_SIDE.values(), ids=NEXT_HOP_SIDE.keys())
async def test_next_hop_side(script: Script, outcomes: tuple[str, ...], autojump_clock: MockClock) -> None:
    """Nobody but the final reply says that anybody has the message."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", dataclasses.replace(script, extensions=WITH_PRDR), Script())) as world,
    ):
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "v@a.example", "w@a.example")
        assert told.outcomes == outcomes
        assert world.mta("a1").messages[0].parameters == ("PRDR",)
        assert world.messages == {"a1": 1, "a2": 0}


async def test_both_sides(autojump_clock: MockClock) -> None:
    """PRDR, plain SMTP and LMTP next hops of one PRDR client."""
    outcomes: dict[str, Plan] = {"u@a.example": "554 5.7.1 u", "u@c.example": "452 4.2.2 c"}
    hops = (
        Hop("a", Script(extensions=WITH_PRDR, outcomes=outcomes)),
        Hop("b", Script(dot="554 5.7.1 b")),
        Hop("c", Script(outcomes=outcomes), speaks="lmtp"),
    )
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client()
        recipients = ("u@a.example", "u@b.example", "v@a.example", "u@c.example", "v@c.example")
        told = await client.transact(*recipients, parameters=" PRDR")
        assert told.outcomes == (EACH, "554 5.7.1 u", "554 5.7.1 b", DONE, "452 4.2.2 c", DONE, SOME)


async def test_a_single_recipient(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(extensions=WITH_PRDR))) as world:
        client = await world.client()
        assert (await client.transact("u@a.example", parameters=" PRDR")).outcomes == (EACH, DONE, SOME)


async def test_session_lost_before_the_dot_is_each_recipients_own_affair(autojump_clock: MockClock) -> None:
    """The second host takes u only, so v has that host's refusal and u the message."""
    hop = Hop(
        "a",
        Script(extensions=WITH_PRDR, data=Close()),
        Script(extensions=WITH_PRDR, recipients={"v@a.example": "550 5.1.1 not here"}),
    )
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        told = await client.transact("u@a.example", "v@a.example", parameters=" PRDR")
        assert told.outcomes == (EACH, DONE, "550 5.1.1 not here", SOME)
