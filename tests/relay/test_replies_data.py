"""What a client hears at DATA and behind the dot."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from world import (
    BOTH,
    CONTENT,
    DONE,
    GO_AHEAD,
    LOST,
    NOBODY_NOW,
    SENDER,
    TAKEN,
    UNKNOWN,
    Hop,
    Speaks,
    Told,
    World,
    wire,
)

from mailgate.testing import Close, Delay, Plan, Raw, Reset, Script, Silence, Turns, seeded

# DATA, one delivery

DATA_ANSWERS: dict[str, tuple[Plan, str, list[int]]] = {
    # what the first of two hosts says to DATA, what the client hears, messages at each
    "354": ("354 go on", GO_AHEAD, [1, 0]),
    "354 after 59 s": (Delay(59), GO_AHEAD, [1, 0]),
    "4xx": ("452 4.3.1 disk full", "452 4.3.1 disk full", [0, 0]),
    "4xx, enhanced code added": ("451 busy", "451 4.0.0 busy", [0, 0]),
    "5xx": ("554 5.7.1 no", "554 5.7.1 no", [0, 0]),
    "5xx, class mended": ("554 4.7.1 no", "554 5.7.1 no", [0, 0]),
    "421": ("421 4.3.2 closing", GO_AHEAD, [0, 1]),
    "2xx": ("250 2.0.0 what?", GO_AHEAD, [0, 1]),
    "garbage": (Raw(b"\r\n"), GO_AHEAD, [0, 1]),
    "closed": (Close(), GO_AHEAD, [0, 1]),
    "reset": (Reset(), GO_AHEAD, [0, 1]),
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize(("plan", "answer", "messages"), DATA_ANSWERS.values(), ids=DATA_ANSWERS.keys())
async def test_data_with_one_delivery(
    speaks: Speaks, plan: Plan, answer: str, messages: list[int], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(data=plan), Script())) as world:
        client = await world.client(speaks)
        told = await client.transact("u@a.example", "v@a.example")
        assert told.data == answer
        assert set(told.outcomes) == ({DONE} if answer == GO_AHEAD else set())
        assert list(world.messages.values()) == messages


DATA_LOSSES: dict[str, Plan] = {"421": "421 4.3.2 closing", "2xx": "250 ok", "closed": Close(), "silent": Silence()}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("plan", DATA_LOSSES.values(), ids=DATA_LOSSES.keys())
async def test_session_lost_at_data_none_left(speaks: Speaks, plan: Plan, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(data=plan))) as world:
        client = await world.client(speaks)
        assert await client.transact("u@a.example") == Told(SENDER, (TAKEN,), LOST)
        assert trio.current_time() == (60 if plan == Silence() else 0)


async def test_354_may_take_60_s_with_all_hosts_together(autojump_clock: MockClock) -> None:
    hop = Hop("a", Script(data=(Delay(40), Close())), Script(data=Delay(40)), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        assert (await client.transact("u@a.example")).data == LOST
        assert trio.current_time() == 60
        assert len(world.mta("a3").sessions) == 0


async def test_a_refused_data_ends_the_transaction_only(autojump_clock: MockClock) -> None:
    script = Script(data=Turns("451 4.3.0 busy", "354 go on"))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client()
        assert (await client.transact("u@a.example")).data == "451 4.3.0 busy"
        await client.play("C: DATA\nS: 503 5.5.1 Bad sequence of commands: say MAIL first")
        assert (await client.transact("u@a.example")).outcomes == (DONE,)


# DATA, several deliveries: hops a, b, c with one recipient each

SEVERAL: dict[str, tuple[tuple[Plan, Plan, Plan], str, tuple[str, ...]]] = {
    "all": (("354 go", "354 go", "354 go"), GO_AHEAD, (DONE, DONE, DONE)),
    "one": (("451 4.3.0 a", "354 go", "554 5.7.1 c"), GO_AHEAD, ("451 4.3.0 a", DONE, "554 5.7.1 c")),
    "one, late": (("451 4.3.0 a", "554 5.7.1 b", Delay(59)), GO_AHEAD, ("451 4.3.0 a", "554 5.7.1 b", DONE)),
    "one, another is lost": (("354 go", Close(), "354 go"), GO_AHEAD, (DONE, LOST, DONE)),
    "one, another says 421": (("354 go", "421 4.3.2 bye", "354 go"), GO_AHEAD, (DONE, LOST, DONE)),
    "none, all 4xx": (("451 4.3.0 a", "452 4.3.1 b", "451 4.3.0 c"), NOBODY_NOW, ()),
    "none, the same 4xx": (("452 4.3.1 full", "452 4.3.1 full", "452 4.3.1 full"), "452 4.3.1 full", ()),
    "none, one 4xx": (("554 5.7.1 a", "451 4.3.0 b", "554 5.7.1 c"), NOBODY_NOW, ()),
    "none, one lost": (("554 5.7.1 a", "554 5.7.1 b", Reset()), NOBODY_NOW, ()),
    "none, all 5xx": (("554 5.7.1 a", "550 5.7.0 b", "554 5.7.1 c"), "554 5.7.1 a", ()),
    "none, all lost": ((Reset(), Close(), "421 4.3.2 bye"), LOST, ()),
}


@pytest.mark.parametrize(("plans", "data", "outcomes"), SEVERAL.values(), ids=SEVERAL.keys())
async def test_data_with_several_deliveries(
    plans: tuple[Plan, Plan, Plan], data: str, outcomes: tuple[str, ...], autojump_clock: MockClock
) -> None:
    hops = [Hop(name, Script(data=plan)) for name, plan in zip("abc", plans, strict=True)]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "u@b.example", "u@c.example")
        assert told == Told(SENDER, (TAKEN, TAKEN, TAKEN), data, outcomes)


async def test_354_does_not_wait_for_all(autojump_clock: MockClock) -> None:
    hops = Hop("a", Script(data=Delay(50))), Hop("b")
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        assert trio.current_time() == 0
        await client.send(wire(CONTENT))
        await client.play(f"S: {DONE}\nS: {DONE}")
        assert trio.current_time() == 50


async def test_a_next_hop_that_took_nobody_is_let_go(autojump_clock: MockClock) -> None:
    hops = Hop("a", Script(rcpt="550 5.1.1 no")), Hop("b")
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await trio.sleep(1)
        assert world.mta("a1").sessions[0].dialog[-4:-1] == [
            "C: RCPT TO:<u@a.example>",
            "S: 550 5.1.1 no",
            "C: QUIT",
        ]
        await client.send(wire(CONTENT))
        await client.play(f"S: {DONE}")
        assert (await client.transact("u@b.example")).outcomes == (DONE,)
        assert trio.current_time() == 1, "nobody waits for it"


# The dot

DOT_ANSWERS: dict[str, tuple[Plan, str]] = {
    "2xx": ("250 2.6.0 queued as 1", "250 2.6.0 queued as 1"),
    "2xx, enhanced code added": ("250 queued", "250 2.0.0 queued"),
    "4xx": ("452 4.2.2 full", "452 4.2.2 full"),
    "5xx": ("554 5.7.1 spam", "554 5.7.1 spam"),
    "5xx, class mended": ("554 4.7.1 spam", "554 5.7.1 spam"),
    "421": ("421 4.3.2 closing", "451 4.3.2 closing"),
    "421, then closed": (("421 4.3.2 closing", Close()), "451 4.3.2 closing"),
    "closed": (Close(), UNKNOWN),
    "reset": (Reset(), UNKNOWN),
    "garbage": (Raw(b"huh?\r\n"), UNKNOWN),
    "half a reply": ((Raw(b"250-2.0.0 tak\r\n"), Close()), UNKNOWN),
    "half a line": ((Raw(b"250 2.0.0 taken"), Close()), UNKNOWN),
    "3xx": ("354 go on", UNKNOWN),
    "353 without PRDR": ("353 what?", UNKNOWN),
    "code out of range": ("199 what?", UNKNOWN),
    "silent": (Silence(), UNKNOWN),
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("next_hop", BOTH)
@pytest.mark.parametrize(("plan", "outcome"), DOT_ANSWERS.values(), ids=DOT_ANSWERS.keys())
async def test_reply_to_the_dot(
    speaks: Speaks, next_hop: Speaks, plan: Plan, outcome: str, autojump_clock: MockClock
) -> None:
    """From the commit on there is no other host, whatever is or is not heard."""
    hop = Hop("a", Script(dot=plan), Script(), speaks=next_hop)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client(speaks)
        assert await client.transact("u@a.example") == Told(SENDER, (TAKEN,), GO_AHEAD, (outcome,))
        assert world.messages == {"a1": 1, "a2": 0}
        assert len(world.mta("a2").sessions) == 0
        assert trio.current_time() == (540 if plan == Silence() else 0)


async def test_budget_of_the_outcomes_ends_what_has_no_dot_out(autojump_clock: MockClock) -> None:
    """At 540 s the one that is committed is unknown, the one that could not be is deferred."""
    hops = Hop("a", Script(dot=Silence())), Hop("b", Script(data=Silence()))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "u@b.example")
        assert told.outcomes == (UNKNOWN, LOST)
        assert trio.current_time() == 540


# LMTP: each recipient its own, written in order as soon as known

LMTP_REPLIES: dict[str, tuple[dict[str, Plan], list[tuple[float, str]]]] = {
    # after the dot by recipient, what the client hears and when
    "in order": (
        {"u@a.example": Delay(1), "v@a.example": Delay(1), "u@b.example": Delay(3)},
        [(1, DONE), (2, DONE), (3, DONE)],
    ),
    "the first is the last": (
        {"u@a.example": Delay(9), "v@a.example": Delay(1), "u@b.example": Delay(3)},
        [(9, DONE), (10, DONE), (10, DONE)],
    ),
    "refused by one next hop": (
        {"u@a.example": "550 5.2.1 u", "v@a.example": "452 4.2.2 v", "u@b.example": Delay(3)},
        [(0, "550 5.2.1 u"), (0, "452 4.2.2 v"), (3, DONE)],
    ),
    "lost half-way": (
        {"u@a.example": DONE, "v@a.example": (Delay(1), Close()), "u@b.example": Delay(3)},
        [(0, DONE), (1, UNKNOWN), (3, DONE)],
    ),
    "421 for the first": (
        {"u@a.example": ("421 4.3.2 closing", Close()), "u@b.example": DONE},
        [(0, "451 4.3.2 closing"), (0, UNKNOWN), (0, DONE)],
    ),
    "silent for the second": (
        {"u@a.example": DONE, "v@a.example": Silence(), "u@b.example": Delay(3)},
        [(0, DONE), (540, UNKNOWN), (540, DONE)],
    ),
}


@pytest.mark.parametrize(("outcomes", "heard"), LMTP_REPLIES.values(), ids=LMTP_REPLIES.keys())
async def test_lmtp_replies_are_written_when_known_and_in_turn(
    outcomes: dict[str, Plan], heard: list[tuple[float, str]], autojump_clock: MockClock
) -> None:
    hops = [Hop(name, Script(outcomes=outcomes), speaks="lmtp") for name in "ab"]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "v@a.example", "u@b.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT))
        told = []
        for _ in heard:
            reply = await client.reply()
            told.append((trio.current_time(), reply))
        assert told == heard
        assert world.messages == {"a1": 1, "b1": 1}


@pytest.mark.parametrize("seed", range(20))
async def test_lmtp_replies_whatever_the_scheduling(seed: int, autojump_clock: MockClock) -> None:
    seeded(seed)
    names = "abcdefgh"
    hops = [Hop(name, Script(dot=f"250 2.0.0 {name}"), speaks=BOTH[place % 2]) for place, name in enumerate(names)]
    async with trio.open_nursery() as nursery, World(nursery, *hops, capacity=64) as world:
        client = await world.client("lmtp", capacity=64)
        told = await client.transact(*(f"u@{name}.example" for name in names))
        assert told.outcomes == tuple(f"250 2.0.0 {name}" for name in names)


# Duplicates of one address are two recipients


@pytest.mark.parametrize("next_hop", BOTH)
async def test_duplicates_have_their_own_outcomes(next_hop: Speaks, autojump_clock: MockClock) -> None:
    script = Script(
        recipients={"u@a.example": Turns("250 2.1.5 one", "450 4.2.0 two", "250 2.1.5 three")},
        outcomes={"u@a.example": Turns("250 2.0.0 first", "552 5.2.2 second")},
        extensions=("PIPELINING", "PRDR"),
    )
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, speaks=next_hop)) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "u@a.example", "u@a.example")
        assert told.rcpts == ("250 2.1.5 one", "450 4.2.0 two", "250 2.1.5 three")
        assert told.outcomes == ("250 2.0.0 first", "552 5.2.2 second")


async def test_duplicates_share_the_outcome_of_plain_smtp(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        assert (await (await world.client("lmtp")).transact("u@a.example", "u@a.example")).outcomes == (DONE, DONE)
        assert (await (await world.client("smtp")).transact("u@a.example", "u@a.example")).outcomes == (DONE,)
        assert [message.recipients for message in world.mta("a1").messages] == [("u@a.example", "u@a.example")] * 2


# QUIT behind the dot


@pytest.mark.parametrize("ending", ["S.", "C/\nS."], ids=["waits", "closes its sending side"])
@pytest.mark.parametrize("speaks", BOTH)
async def test_quit_pipelined_behind_the_dot_is_no_abort(
    speaks: Speaks, ending: str, autojump_clock: MockClock
) -> None:
    """As Postfix does it. Its sending side may be closed by then, too."""
    script = Script(dot=Delay(100), pace=1)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client(speaks)
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT) + b"QUIT\r\n")
        if ending.startswith("C/"):
            await client.play("C/")
        await client.play(f"S: {DONE}\nS: 221 2.0.0 Bye\nS.")
        assert world.messages == {"a1": 1}


# Extensions that a next hop lacks


@pytest.mark.parametrize("speaks", BOTH)
async def test_smtputf8_that_the_next_hop_lacks(speaks: Speaks, autojump_clock: MockClock) -> None:
    """Refused, and from then on not offered; the sender's own server then knows what to do."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(extensions=("8BITMIME",)))) as world:
        client = await world.client(speaks)
        told = await client.envelope("ü@a.example", sender="ö@in.example", parameters=" SMTPUTF8")
        assert told.rcpts == ("553 5.6.7 The next hop does not take internationalized addresses (RFC 6531)",)
        assert "MAIL" not in str(world.mta("a1").sessions[0])
        later = await world.client(speaks, greeted=False)
        offered = await later.hello()
        assert ("SMTPUTF8" in offered, "8BITMIME" in offered) == (False, True)


async def test_smtputf8_another_host_offers_it(autojump_clock: MockClock) -> None:
    hop = Hop("a", Script(extensions=()), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        told = await client.transact("ü@a.example", sender="ö@in.example", parameters=" SMTPUTF8 BODY=8BITMIME")
        assert told.outcomes == (DONE,)
        message = world.mta("a2").messages[0]
        assert (message.reverse_path, message.recipients) == ("ö@in.example", ("ü@a.example",))
        assert message.parameters == ("BODY=8BITMIME", "SMTPUTF8")


async def test_8bitmime_that_the_next_hop_lacks(autojump_clock: MockClock) -> None:
    """The message goes as it is, as Exim does; from then on the extension is not offered."""
    content = "Subject: x\r\n\r\nnaïve\r\n".encode()
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(extensions=("SMTPUTF8",)))) as world:
        client = await world.client()
        told = await client.transact("u@a.example", parameters=" BODY=8BITMIME", content=content)
        assert told.outcomes == (DONE,)
        assert world.mta("a1").messages[0].content.endswith(content)
        assert world.mta("a1").messages[0].parameters == ()
        later = await world.client(greeted=False)
        assert await later.hello() == ["PIPELINING", "SIZE 52428800", "SMTPUTF8", "ENHANCEDSTATUSCODES", "PRDR"]
        world.mta("a1").script = Script()
        await trio.sleep(3.1)  # or the session is used again, and nothing is heard anew
        await client.envelope("u@a.example")
        assert "8BITMIME" in await (await world.client(greeted=False)).hello(), "what was heard last counts"
