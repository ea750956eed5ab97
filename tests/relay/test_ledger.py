"""Deliveries whose success the client was not told: its retry is answered, and makes no second copy."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from store import MemoryStore
from trio.testing import MockClock
from world import (
    CONTENT,
    DELIVERED_ALREADY,
    DONE,
    GO_AHEAD,
    NOT_ALL,
    NOT_ALL_WILLING,
    UNKNOWN,
    Hop,
    Speaks,
    World,
    wire,
)

from mailgate.relay.ledger import LEDGER_LIFE
from mailgate.relay.settings import SeveralNextHops
from mailgate.testing import Close, Delay, Script, Turns, reset

APART, TOGETHER = SeveralNextHops


@dataclass(frozen=True, slots=True)
class Way:
    """How a client comes by a message, and to whom."""

    speaks: Speaks
    recipients: tuple[str, ...]
    parameters: str = ""
    several: SeveralNextHops = APART


TWO_HOPS = "u@a.example", "u@b.example"
WAYS = {
    "apart": Way("smtp", ("u@a.example", "v@a.example")),
    "together": Way("smtp", TWO_HOPS, several=TOGETHER),
    "PRDR": Way("smtp", TWO_HOPS, " PRDR"),
    "LMTP": Way("lmtp", TWO_HOPS),
}
LMTP, TOGETHER_WAY = WAYS["LMTP"], WAYS["together"]

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


async def send(
    world: World,
    way: Way,
    *,
    leaves: bool = False,
    gateway: int = 0,
    sender: str = "s@in.example",
    content: bytes = CONTENT,
) -> list[str]:
    """What is said behind the dot, once for each reply that is said more than once; one connection.

    `leaves`: the client resets the connection behind that.
    """
    client = await world.client(way.speaks, gateway=gateway)
    told = await client.transact(*way.recipients, sender=sender, parameters=way.parameters, content=content)
    if leaves:
        await reset(client.stream)
        await client.ended.wait()
    else:
        await client.quit()
    each = told.outcomes[1:-1] if way.parameters else told.outcomes
    return list(dict.fromkeys(each or (told.data,)))


def copies(world: World) -> dict[str, int]:
    """How often each recipient got the message."""
    taken = [recipient for mta in world.mtas.values() for recipient, _ in mta.taken]
    return {recipient: taken.count(recipient) for recipient in taken}


def once(way: Way) -> dict[str, int]:
    return dict.fromkeys(way.recipients, 1)


def twice(way: Way) -> dict[str, int]:
    return dict.fromkeys(way.recipients, 2)


def entries(world: World) -> int:
    return world.gateway.status().ledger.entries


# What is told leaves no trace


@every_way
async def test_equal_messages_sent_on_purpose_are_all_delivered(way: Way, autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b"), several_next_hops=way.several) as world,
    ):
        for _ in range(2):
            assert await send(world, way) == [DONE]
            assert entries(world) == 0
        assert copies(world) == twice(way)


# What is not told


@every_way
async def test_the_retry_makes_no_second_copy(way: Way, autojump_clock: MockClock) -> None:
    """Of what the first one was answered there is nothing left: the third is a message of its own."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b"), several_next_hops=way.several) as world,
    ):
        assert await send(world, way, leaves=True) == [DONE]
        assert entries(world) == 2
        assert await send(world, way) == [DELIVERED_ALREADY]
        assert copies(world) == once(way)
        assert entries(world) == 0
        assert await send(world, way) == [DONE]
        assert copies(world) == twice(way)


@every_way
async def test_an_answer_that_is_not_told_either(way: Way, autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b"), several_next_hops=way.several) as world,
    ):
        await send(world, way, leaves=True)
        for _ in range(3):
            assert await send(world, way, leaves=True) == [DELIVERED_ALREADY]
            assert entries(world) == 2
        assert await send(world, way) == [DELIVERED_ALREADY]
        assert copies(world) == once(way)
        assert entries(world) == 0


@every_way
async def test_a_client_that_is_gone_before_the_answer(way: Way, autojump_clock: MockClock) -> None:
    """Together, whoever waits for the first next hop's answer then gets nothing until the retry."""
    hops = Hop("a", Script(dot=Turns((Delay(9), DONE), DONE))), Hop("b")
    async with trio.open_nursery() as nursery, World(nursery, *hops, several_next_hops=way.several) as world:
        client = await world.client(way.speaks)
        await client.envelope(*way.recipients, parameters=way.parameters)
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT))
        await trio.sleep(5)
        await reset(client.stream)
        await client.ended.wait()
        assert world.messages["b1"] == (way.several is APART and "u@b.example" in way.recipients)
        assert await send(world, way) == [DONE if way.several is TOGETHER else DELIVERED_ALREADY]
        assert copies(world) == once(way)


async def test_a_retry_that_comes_before_the_outcome(autojump_clock: MockClock) -> None:
    """What it was not told is written down as soon as it is known: here `b`'s, and not yet `a`'s."""
    hops = Hop("a", Script(dot=Turns((Delay(9), DONE), DONE))), Hop("b")
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.envelope(*TWO_HOPS)
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT))
        await trio.sleep(5)
        await reset(client.stream)
        await trio.sleep(1)
        assert await send(world, LMTP) == [DONE, DELIVERED_ALREADY]
        assert copies(world) == {"u@a.example": 2, "u@b.example": 1}


async def test_it_is_asked_for_before_any_dot(autojump_clock: MockClock) -> None:
    """Sessions are open by then; they end without a dot, and without a goodbye."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        await send(world, LMTP, leaves=True)
        await trio.sleep(60)
        await send(world, LMTP)
        for name in ("a1", "b1"):
            assert (len(world.mta(name).messages), world.mta(name).unfinished) == (1, 1)
            assert "DATA" in str(world.mta(name).sessions[1])
            assert "QUIT" not in str(world.mta(name).sessions[1])


async def test_some_of_a_delivery_have_it(autojump_clock: MockClock) -> None:
    """Then it is said again without them, on another session."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        await send(world, Way("lmtp", ("u@a.example",)), leaves=True)
        way = Way("lmtp", ("v@a.example", "u@a.example", "w@a.example"))
        assert await send(world, way) == [DONE, DELIVERED_ALREADY]
        assert [message.recipients for message in world.mta("a1").messages] == [
            ("u@a.example",),
            ("v@a.example", "w@a.example"),
        ]


async def test_apart_some_of_a_delivery_have_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        await send(world, Way("smtp", ("u@a.example",)), leaves=True)
        assert await send(world, Way("smtp", ("u@a.example", "v@a.example"))) == [DONE]
        assert copies(world) == {"u@a.example": 1, "v@a.example": 1}


async def test_together_one_has_it_and_another_one_refuses(autojump_clock: MockClock) -> None:
    """It counts as the first success: the refusal leaves an entry again."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b", Script(dot="554 5.7.1 spam")), several_next_hops=TOGETHER) as world,
    ):
        await send(world, Way("smtp", ("u@a.example",)), leaves=True)
        assert await send(world, Way("smtp", ("u@b.example", "u@a.example"))) == [NOT_ALL_WILLING]
        assert entries(world) == 1
        assert copies(world) == {"u@a.example": 1}


@pytest.mark.parametrize("way", [LMTP, TOGETHER_WAY], ids=["LMTP", "together"])
async def test_the_same_address_twice(way: Way, autojump_clock: MockClock) -> None:
    """Both are delivered, and both were not told."""
    way = Way(way.speaks, ("u@a.example", "u@a.example", "u@b.example"), several=way.several)
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b"), several_next_hops=way.several) as world,
    ):
        await send(world, way, leaves=True)
        assert await send(world, way) == [DELIVERED_ALREADY]
        assert copies(world) == {"u@a.example": 2, "u@b.example": 1}
        assert entries(world) == 0


# Who is whom


@dataclass(frozen=True, slots=True)
class Retry:
    """A message that comes behind one whose client was not told."""

    met: bool
    """it is the same one"""
    sender: str = "s@in.example"
    recipient: str = "u@a.example"
    content: bytes = CONTENT


RETRIES = {
    "the same": Retry(True),
    "another sender": Retry(False, sender="t@in.example"),
    "the null reverse-path": Retry(False, sender=""),
    "a sender in other letters": Retry(False, sender="S@in.example"),
    "another recipient there": Retry(False, recipient="v@a.example"),
    "a recipient in other letters": Retry(False, recipient="U@a.example"),
    "a domain in other letters": Retry(True, recipient="u@A.EXAMPLE"),
    "one more line": Retry(False, content=CONTENT + b"\r\n"),
    "another header": Retry(False, content=b"X-Retry: 1\r\n" + CONTENT),
    "newlines that were repaired": Retry(True, content=b"Subject: test\n\nhello\r\n.dot\r\n"),
    "half of it": Retry(False, content=CONTENT[: len(CONTENT) // 2] + b"\r\n"),
}


@pytest.mark.parametrize("retry", RETRIES.values(), ids=RETRIES)
async def test_what_is_the_same_message(retry: Retry, autojump_clock: MockClock) -> None:
    """Our own `Received:` is not part of it: it differs each time."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        await send(world, Way("smtp", ("u@a.example",)), leaves=True)
        await trio.sleep(60)
        way = Way("smtp", (retry.recipient,))
        told = await send(world, way, sender=retry.sender, content=retry.content)
        assert told == ([DELIVERED_ALREADY] if retry.met else [DONE])
        assert entries(world) == (not retry.met)


# Apart, recipients of two next hops would come again in two transactions.
PAIRS = {
    f"{first}, then {then}": (WAYS[first], WAYS[then])
    for first in WAYS
    for then in WAYS
    if then != "apart" or first in ("apart", "together")
}


@pytest.mark.parametrize(("first", "then"), PAIRS.values(), ids=PAIRS)
async def test_by_whichever_way_it_comes_again(first: Way, then: Way, autojump_clock: MockClock) -> None:
    again = Way(then.speaks, first.recipients, then.parameters, then.several)
    several = TOGETHER if TOGETHER in (first.several, then.several) else APART
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b"), several_next_hops=several) as world:
        await send(world, first, leaves=True)
        assert await send(world, again) == [DELIVERED_ALREADY]
        assert copies(world) == once(first)


# Taking is atomic


@pytest.mark.parametrize("store", [None, MemoryStore(delay=0.5)], ids=["own", "shared"])
async def test_two_that_meet_one_entry(store: MemoryStore | None, autojump_clock: MockClock) -> None:
    """One is answered from it; the other one is a message of its own."""
    way = Way("smtp", ("u@a.example",))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), store=store, gateways=2) as world:
        await send(world, way, leaves=True)
        told: list[str] = []

        async def again(gateway: int) -> None:
            told.extend(await send(world, way, gateway=gateway))

        async with trio.open_nursery() as both:
            both.start_soon(again, 0)
            both.start_soon(again, 0 if store is None else 1)
        assert sorted(told) == [DELIVERED_ALREADY, DONE]
        assert copies(world) == {"u@a.example": 2}


# What never gets an entry


@every_way
async def test_what_is_unknown(way: Way, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hops = [Hop(name, Script(dot=Turns(Close(), DONE))) for name in "ab"]
        async with World(nursery, *hops, several_next_hops=way.several) as world:
            told = await send(world, way, leaves=True)
            assert set(told) <= {UNKNOWN, NOT_ALL}
            assert entries(world) == 0


@every_way
async def test_what_is_refused(way: Way, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hops = [Hop(name, Script(dot="554 5.7.1 spam")) for name in "ab"]
        async with World(nursery, *hops, several_next_hops=way.several) as world:
            await send(world, way, leaves=True)
            assert entries(world) == 0


@every_way
async def test_a_message_of_which_the_client_hears_by_quit(way: Way, autojump_clock: MockClock) -> None:
    """QUIT came with the dot, as Postfix sends it; the connection ends in an orderly way."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b"), several_next_hops=way.several) as world,
    ):
        client = await world.client(way.speaks)
        await client.envelope(*way.recipients, parameters=way.parameters)
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT) + b"QUIT\r\n")
        while not (await client.reply()).startswith("221"):
            pass
        await client.play("S.\nC.")
        await client.ended.wait()
        assert entries(world) == 0


async def test_without_a_ledger(autojump_clock: MockClock) -> None:
    way = Way("smtp", ("u@a.example",))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), ledger=False) as world:
        await send(world, way, leaves=True)
        assert await send(world, way) == [DONE]
        assert copies(world) == {"u@a.example": 2}
        status = world.gateway.status().ledger
        assert (status.enabled, status.entries, status.recorded, status.met) == (False, 0, 0, 0)


# Its life


async def test_it_lives_for_five_days(autojump_clock: MockClock) -> None:
    way = Way("smtp", ("u@a.example",))
    for seconds, told in ((LEDGER_LIFE - 60, DELIVERED_ALREADY), (LEDGER_LIFE, DONE)):
        async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
            nursery.cancel_scope.deadline += LEDGER_LIFE
            await send(world, way, leaves=True)
            await trio.sleep(seconds)
            assert await send(world, way) == [told]


async def test_it_outlives_a_restart(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b"), gateways=2) as world:
        await send(world, LMTP, leaves=True)
        await trio.sleep(100)
        await world.gateway.drain()
        remembered = world.gateway.remembered()
        assert [seconds for _, seconds in remembered.ledger] == [LEDGER_LIFE - 100] * 2
        world.gateways[1].remember(remembered)
        assert await send(world, LMTP, gateway=1) == [DELIVERED_ALREADY]
        assert copies(world) == once(LMTP)


async def test_without_a_ledger_nothing_is_taken_over(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        await send(world, LMTP, leaves=True)
        remembered = world.gateway.remembered()
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), ledger=False) as world:
        world.gateway.remember(remembered)
        assert entries(world) == 0


async def test_a_client_is_not_told_because_the_gateway_stops(autojump_clock: MockClock) -> None:
    """The dot is out, the answer comes while we drain, and the client has gone by then: what is handed over knows."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(100))), gateways=2) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT))
        await trio.sleep(1)
        world.nursery.start_soon(world.gateway.drain)
        await trio.sleep(1)
        await reset(client.stream)
        await client.ended.wait()
        assert trio.current_time() == 100
        world.gateways[1].remember(world.gateway.remembered())
        assert await send(world, Way("smtp", ("u@a.example",)), gateway=1) == [DELIVERED_ALREADY]


# What an operator sees


async def test_status_and_log(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        await send(world, LMTP, leaves=True)
        await send(world, LMTP, leaves=True)
        await send(world, LMTP)
        status = world.gateway.status().ledger
        assert (status.enabled, status.shared, status.entries) == (True, "none", 0)
        assert (status.recorded, status.met) == (4, 4)
        assert (status.possible_duplicate, status.unasked, status.evicted) == (0, 0, 0)
        assert world.gateway.counts["delivered"] == 2
        assert world.gateway.counts["untold"] == 2
        assert [[str(one) for one in event["to"]] for event in world.events("delivered_before")] == [list(TWO_HOPS)] * 2
        assert [event["log_level"] for event in world.events("delivered_before")] == ["info"] * 2
