"""Several next hops and one reply, in time: patience, the handover, the budget; a client or a gateway that leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock
from world import (
    CONTENT,
    DELIVERED_ALREADY,
    DONE,
    GO_AHEAD,
    NOT_ALL,
    NOT_ALL_WILLING,
    PUT_OFF,
    TAKEN,
    Client,
    Hop,
    World,
    wire,
)

from mailgate.relay.settings import SeveralNextHops, Timeouts
from mailgate.testing import Close, Delay, During, Plan, Script, Silence, SlowReading, Turns, reset

BUSY = "451 4.3.0 busy"
FULL = "452 4.2.2 mailbox full"
SPAM = "554 5.7.1 spam"
TWO = "u@a.example", "u@b.example"
THREE = (*TWO, "u@c.example")


def together(
    nursery: trio.Nursery, *hops: Hop, handover: Script | None = None, timeouts: Timeouts | None = None
) -> World:
    several = SeveralNextHops.TOGETHER
    return World(nursery, *hops, several_next_hops=several, handover=handover, timeouts=timeouts, gateways=2)


def dots(world: World, name: str) -> list[float]:
    return [message.time for message in world.mta(name).messages]


# Patience


@dataclass(frozen=True, slots=True)
class Patient:
    """What `b` says behind its dots; `a` takes the message at once."""

    hosts: tuple[Script, ...]
    dots: dict[str, list[float]]
    """when each host got one"""
    seconds: float
    reply: str = DONE


PATIENT = {
    "1, 2, 4 … 30 s behind a refusal": Patient(
        (Script(dot=BUSY),), {"b1": [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181, 211]}, 211, NOT_ALL
    ),
    "other paths first, and at once": Patient(
        (Script(dot=BUSY), Script(dot=Turns(BUSY, DONE))), {"b1": [0, 1], "b2": [0, 1]}, 1
    ),
    "a 421 is a refusal, too": Patient((Script(dot=Turns(("421 4.3.2 bye", Close()), DONE)),), {"b1": [0, 1]}, 1),
    "greylisted at the dot: no": Patient((Script(dot="451 4.7.1 grey"), Script()), {"b1": [0], "b2": []}, 0, NOT_ALL),
    "a full mailbox: no": Patient((Script(dot=FULL), Script()), {"b1": [0], "b2": []}, 0, NOT_ALL),
    "refused for good: no": Patient((Script(dot=SPAM), Script()), {"b1": [0], "b2": []}, 0, NOT_ALL_WILLING),
    "then refused for good": Patient((Script(dot=Turns(BUSY, SPAM)),), {"b1": [0, 1]}, 1, NOT_ALL_WILLING),
    "then full": Patient((Script(dot=Turns(BUSY, FULL)),), {"b1": [0, 1]}, 1, NOT_ALL),
    "unknown: no": Patient((Script(dot=Close()), Script()), {"b1": [0], "b2": []}, 0, NOT_ALL),
    "then unknown": Patient((Script(dot=Turns(BUSY, Close(), DONE)),), {"b1": [0, 1]}, 1, NOT_ALL),
    "silent": Patient((Script(dot=Silence()), Script()), {"b1": [0], "b2": []}, 540, NOT_ALL),
    "each answer takes its time": Patient(
        (Script(dot=(Delay(50), BUSY)),), {"b1": [0, 51, 103, 157, 215]}, 265, NOT_ALL
    ),
    "RCPT refused meanwhile": Patient(
        (Script(dot=Turns(BUSY, DONE), rcpt=Turns(TAKEN, "450 4.3.0 later", TAKEN)),), {"b1": [0, 3]}, 3
    ),
    "DATA refused meanwhile": Patient(
        (Script(dot=Turns(BUSY, DONE), data=Turns("354 go", BUSY, "354 go")),), {"b1": [0, 3]}, 3
    ),
    "lost in the message meanwhile": Patient(
        (Script(dot=Turns(BUSY, DONE), body=(During(9, Turns((), Close(), ())),)),), {"b1": [0, 3]}, 3
    ),
}


@pytest.mark.parametrize("case", PATIENT.values(), ids=PATIENT)
async def test_patience(case: Patient, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, together(nursery, Hop("a"), Hop("b", *case.hosts)) as world:
        client = await world.client()
        assert (await client.transact(*TWO)).outcomes == (case.reply,)
        assert {name: dots(world, name) for name in case.dots} == case.dots
        assert trio.current_time() == case.seconds
        assert dots(world, "a1") == [0]


async def test_patience_is_a_setting(autojump_clock: MockClock) -> None:
    hops = Hop("a"), Hop("b", Script(dot=BUSY))
    async with trio.open_nursery() as nursery, together(nursery, *hops, timeouts=Timeouts(patience=10)) as world:
        client = await world.client()
        assert (await client.transact(*TWO)).outcomes == (NOT_ALL,)
        assert (dots(world, "b1"), trio.current_time()) == ([0, 1, 3, 7], 7)


async def test_no_patience_before_the_first_success(autojump_clock: MockClock) -> None:
    """Nobody has the message: the client may as well try again itself."""
    hops = Hop("a", Script(dot=Turns(BUSY, DONE)), Script()), Hop("b")
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        assert (await client.transact(*TWO)).outcomes == (NOT_ALL,)
        assert world.messages == {"a1": 1, "a2": 0, "b1": 0}
        assert trio.current_time() == 0


async def test_no_patience_apart(autojump_clock: MockClock) -> None:
    hop = Hop("a", Script(dot=Turns(BUSY, DONE)), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        assert (await client.transact("u@a.example", "v@a.example")).outcomes == (BUSY,)


# The handover


@dataclass(frozen=True, slots=True)
class Handed:
    """What `b`, `c` and the inside MTA say; `a` takes the message at once."""

    reply: str
    seconds: float
    b: Script = Script(dot=FULL)  # noqa: RUF009 - it is frozen
    c: Script = Script()  # noqa: RUF009
    inside: Script = Script()  # noqa: RUF009
    got: tuple[str, ...] = ()
    """whom the inside MTA took the message for"""
    entries: int = 0
    put_off: int = 0


HANDED = {
    "refused for now": Handed(DONE, 0, got=("u@b.example",)),
    "refused": Handed(DONE, 0, b=Script(dot=SPAM), got=("u@b.example",)),
    "several, in one transaction": Handed(DONE, 0, c=Script(dot=SPAM), got=("u@b.example", "u@c.example")),
    "past patience": Handed(DONE, 211, b=Script(dot=BUSY), got=("u@b.example",)),
    "long past it": Handed(DONE, 500, b=Script(dot=(Delay(500), FULL)), got=("u@b.example",)),
    "nothing is left": Handed(DONE, 0, b=Script()),
    "one is unknown": Handed(NOT_ALL, 0, c=Script(dot=Close()), entries=1, put_off=2),
    "all that is left is unknown": Handed(NOT_ALL, 0, b=Script(dot=Close()), entries=2, put_off=1),
    "it takes its time": Handed(DONE, 530, inside=Script(dot=Delay(530)), got=("u@b.example",)),
    "it is silent": Handed(NOT_ALL, 540, inside=Script(dot=Silence()), entries=2, put_off=1),
    "it is silent at RCPT": Handed(NOT_ALL, 60, inside=Script(rcpt=Silence()), entries=2, put_off=1),
    "it cannot be reached": Handed(NOT_ALL, 0, inside=Script(greeting=Close()), entries=2, put_off=1),
    "it refuses RCPT": Handed(NOT_ALL, 0, inside=Script(rcpt="550 5.7.1 no"), entries=2, put_off=1),
    "it refuses the message": Handed(NOT_ALL, 0, inside=Script(dot=SPAM), entries=2, put_off=1),
    "it is busy": Handed(NOT_ALL, 0, inside=Script(dot=Turns(BUSY, DONE)), entries=2, put_off=1),
    "it is lost behind the dot": Handed(NOT_ALL, 0, inside=Script(dot=Close()), entries=2, put_off=1),
    "it takes one of two": Handed(
        NOT_ALL_WILLING,
        0,
        c=Script(dot=SPAM),
        inside=Script(recipients={"u@c.example": "550 5.7.1 no"}),
        got=("u@b.example",),
        entries=2,
        put_off=1,
    ),
    "nobody has the message": Handed(DONE, 0, b=Script(rcpt="450 4.2.0 later"), c=Script(rcpt="450 4.2.0 later")),
}


@pytest.mark.parametrize("case", HANDED.values(), ids=HANDED)
async def test_handover(case: Handed, autojump_clock: MockClock) -> None:
    hops = Hop("a"), Hop("b", case.b), Hop("c", case.c)
    async with trio.open_nursery() as nursery, together(nursery, *hops, handover=case.inside) as world:
        client = await world.client()
        assert (await client.transact(*THREE)).outcomes == (case.reply,)
        assert trio.current_time() == case.seconds
        assert tuple(recipient for recipient, _ in world.mta("handover").taken) == case.got
        status = world.gateway.status().ledger
        assert (status.entries, status.put_off) == (case.entries, case.put_off)


async def test_the_same_message_is_handed_over(autojump_clock: MockClock) -> None:
    """Same sender, same octets; over plain SMTP, on a session of its own that is left with a goodbye."""
    hops = Hop("a"), Hop("b", Script(dot=SPAM))
    async with trio.open_nursery() as nursery, together(nursery, *hops, handover=Script()) as world:
        client = await world.client()
        await client.transact(*TWO, sender="S+x@in.example", parameters=" BODY=8BITMIME")
        (theirs,), (handed,) = world.mta("a1").messages, world.mta("handover").messages
        assert (handed.reverse_path, handed.parameters) == ("S+x@in.example", ("BODY=8BITMIME",))
        assert handed.content == theirs.content
        await trio.sleep(10)
        assert "C: QUIT" in world.mta("handover").sessions[0].dialog


async def test_nobody_took_it_nothing_is_handed_over(autojump_clock: MockClock) -> None:
    """Then no reply is wrong: the sender's own server has it."""
    hops = Hop("a", Script(dot=SPAM)), Hop("b")
    async with trio.open_nursery() as nursery, together(nursery, *hops, handover=Script()) as world:
        client = await world.client()
        assert (await client.transact(*TWO)).outcomes == (NOT_ALL_WILLING,)
        assert (await client.transact("v@a.example")).outcomes == (SPAM,)
        assert world.mta("handover").connections == 0


async def test_an_inside_mta_that_does_not_confirm_may_have_the_message(autojump_clock: MockClock) -> None:
    """Then that is what is known of the recipient, and no more what its next hop said."""
    hops = Hop("a"), Hop("b", Script(dot=SPAM))
    async with trio.open_nursery() as nursery, together(nursery, *hops, handover=Script(dot=Close())) as world:
        client = await world.client()
        assert (await client.transact(*TWO)).outcomes == (NOT_ALL,)
        await client.quit()
        counts = world.gateway.counts
        assert (counts["delivered"], counts["unknown"], counts["rejected"]) == (1, 1, 0)


@pytest.mark.parametrize("way", ["apart", "PRDR", "LMTP"])
async def test_handover_is_for_together_only(way: str, autojump_clock: MockClock) -> None:
    several = SeveralNextHops.APART if way == "apart" else SeveralNextHops.TOGETHER
    hops = Hop("l", Script(outcomes={"v@l.example": FULL}), speaks="lmtp"), Hop("b", Script(dot=FULL))
    async with (
        trio.open_nursery() as nursery,
        World(nursery, *hops, several_next_hops=several, handover=Script()) as world,
    ):
        client = await world.client("lmtp" if way == "LMTP" else "smtp")
        parameters = " PRDR" if way == "PRDR" else ""
        await client.transact("u@l.example", "v@l.example", "u@b.example", parameters=parameters)
        assert world.mta("handover").connections == 0


# The budget


async def test_all_is_told_by_540_s(autojump_clock: MockClock) -> None:
    """What has its dot out is unknown then, what has not is deferred; who has the message is written down."""
    hops = Hop("a"), Hop("b", Script(dot=Silence())), Hop("c", Script(dot=(Delay(300), BUSY)))
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        assert (await client.transact(*THREE)).outcomes == (NOT_ALL,)
        assert trio.current_time() == 540
        await client.quit()
        assert world.gateway.status().ledger.entries == 1
        (end,) = world.events("partly_delivered")
        assert [text.split(":")[0] for text in end["outcomes"]] == [
            "u@a.example delivered",
            "u@b.example unknown",
            "u@c.example deferred",
        ]


async def test_a_next_hop_that_is_never_ready(autojump_clock: MockClock) -> None:
    """Nobody gets it, and the others are not put off for it. (One that takes no byte for 60 s is lost.)"""
    hops = Hop("a"), Hop("b", Script(body=(SlowReading(1200),)))
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        assert set((await client.envelope(*TWO)).rcpts) == {TAKEN}
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        data = wire((b"x" * 98 + b"\r\n") * 11_000)
        await client.send(data[:-3])
        await trio.sleep(100 - trio.current_time())
        await client.send(data[-3:])
        assert await client.reply() == NOT_ALL
        assert trio.current_time() == 640
        assert world.messages == {"a1": 0, "b1": 0}
        assert (await client.envelope(*TWO)).rcpts == (TAKEN, PUT_OFF)


# A client that leaves


async def send(client: Client, *recipients: str) -> None:
    """Up to the client's dot."""
    told = await client.envelope(*recipients)
    assert set(told.rcpts) == {TAKEN}
    await client.play(f"C: DATA\nS: {GO_AHEAD}")
    await client.send(wire(CONTENT))


@dataclass(frozen=True, slots=True)
class Leaving:
    """What a client leaves behind that is gone 5 s behind its dot."""

    scripts: dict[str, Script]
    taken: str = ""
    """who has the message in the end"""
    seconds: float = 5
    entries: int = 0
    later: dict[str, int] = field(default_factory=lambda: {"a1": 1, "b1": 1, "c1": 1})
    """copies at each host, once the client has come again"""


LEAVING = {
    "dots are held": Leaving({"c": Script(data=Delay(20))}),
    "the first one has its dot": Leaving({"a": Script(dot=Turns(Delay(20), DONE))}, "a", 20, 1),
    "and refuses": Leaving({"a": Script(dot=Turns((Delay(20), BUSY), DONE))}, "", 20, 0),
    "all have their dots": Leaving(
        {"b": Script(dot=Turns(Delay(20), DONE)), "c": Script(dot=Turns(Delay(30), DONE))}, "abc", 30, 3
    ),
    "one is tried again": Leaving({"b": Script(dot=Turns(BUSY, BUSY, BUSY, DONE))}, "ac", 5, 2),
    "one refuses then": Leaving({"b": Script(dot=Turns((Delay(20), BUSY), DONE))}, "ac", 20, 2),
}


@pytest.mark.parametrize("case", LEAVING.values(), ids=LEAVING)
async def test_a_client_that_leaves(case: Leaving, autojump_clock: MockClock) -> None:
    """No dot is written for nobody; what has one runs to its outcome, which the retry finds."""
    hops = [Hop(name, case.scripts.get(name, Script())) for name in "abc"]
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        await send(client, *THREE)
        await trio.sleep(5)
        await reset(client.stream)
        await client.ended.wait()
        assert trio.current_time() == case.seconds
        taken = [recipient for mta in world.mtas.values() for recipient, _ in mta.taken]
        assert taken == [f"u@{name}.example" for name in case.taken]
        assert world.gateway.status().ledger.entries == case.entries
        again = await world.client()
        left = list(THREE)
        while left:
            told = await again.transact(*left)
            left = [one for one, rcpt in zip(left, told.rcpts, strict=True) if rcpt.startswith("4")]
            assert told.outcomes[0] in (DONE, DELIVERED_ALREADY)
        copies = {name: len(mta.taken) for name, mta in world.mtas.items()}
        assert copies == case.later


async def test_nothing_is_handed_over_for_nobody(autojump_clock: MockClock) -> None:
    """The client comes again: then it is."""
    hops = Hop("a"), Hop("b", Script(dot=(Delay(20), FULL)))
    async with trio.open_nursery() as nursery, together(nursery, *hops, handover=Script()) as world:
        client = await world.client()
        await send(client, *TWO)
        await trio.sleep(5)
        await reset(client.stream)
        await client.ended.wait()
        assert world.mta("handover").connections == 0
        assert world.gateway.status().ledger.entries == 1


async def test_a_client_that_leaves_during_the_handover(autojump_clock: MockClock) -> None:
    """Its dot may be out: what comes of it is written down, so that the retry is not handed over again."""
    hops = Hop("a"), Hop("b", Script(dot=FULL))
    async with (
        trio.open_nursery() as nursery,
        together(nursery, *hops, handover=Script(dot=Turns(Delay(20), DONE))) as world,
    ):
        client = await world.client()
        await send(client, *TWO)
        await trio.sleep(5)
        await reset(client.stream)
        await client.ended.wait()
        assert world.gateway.status().ledger.entries == 2
        again = await world.client()
        assert (await again.transact(*TWO)).outcomes == (DELIVERED_ALREADY,)
        assert world.messages == {"a1": 1, "b1": 1, "handover": 1}


# A gateway that stops


@dataclass(frozen=True, slots=True)
class Draining:
    """The gateway is told to stop 5 s behind the client's dot."""

    scripts: dict[str, Script]
    reply: str
    seconds: float
    taken: str = ""


DRAINING = {
    "dots are held": Draining({"c": Script(data=Delay(100))}, NOT_ALL, 35),
    "dots are held, for a while": Draining({"c": Script(data=Delay(20))}, DONE, 20, "abc"),
    "the first one has its dot": Draining({"a": Script(dot=Delay(100))}, DONE, 100, "abc"),
    "and refuses": Draining({"a": Script(dot=(Delay(100), BUSY))}, NOT_ALL, 100),
    "all have their dots": Draining({"b": Script(dot=Delay(100))}, DONE, 100, "abc"),
    "one is tried again": Draining({"b": Script(dot=Turns(*[BUSY] * 6, DONE))}, DONE, 61, "abc"),
    "one is silent": Draining({"b": Script(dot=Silence())}, NOT_ALL, 540, "ac"),
}


@pytest.mark.parametrize("case", DRAINING.values(), ids=DRAINING)
async def test_a_gateway_that_stops(case: Draining, autojump_clock: MockClock) -> None:
    """Before the first dot nobody has the message; behind it all run to their outcome, patience included."""
    hops = [Hop(name, case.scripts.get(name, Script())) for name in "abc"]
    async with trio.open_nursery() as nursery, together(nursery, *hops) as world:
        client = await world.client()
        await send(client, *THREE)
        await trio.sleep(5)
        world.nursery.start_soon(world.gateway.drain)
        assert await client.reply() == case.reply
        assert trio.current_time() == case.seconds
        taken = [recipient for mta in world.mtas.values() for recipient, _ in mta.taken]
        assert taken == [f"u@{name}.example" for name in case.taken]
        await client.play("S: 421 ...\nS.")


async def test_what_a_stopping_gateway_knows_is_handed_on(autojump_clock: MockClock) -> None:
    plan: Plan = Turns((Delay(100), FULL), DONE)
    async with trio.open_nursery() as nursery, together(nursery, Hop("a"), Hop("b", Script(dot=plan))) as world:
        client = await world.client()
        await send(client, *TWO)
        await trio.sleep(5)
        world.nursery.start_soon(world.gateway.drain)
        await client.play(f"S: {NOT_ALL}\nS: 421 ...\nS.\nC.")
        await client.ended.wait()
        remembered = world.gateway.remembered()
        assert (len(remembered.ledger), len(remembered.put_off)) == (1, 1)
        world.gateways[1].remember(remembered)
        again = await world.client(gateway=1)
        told = await again.transact(*TWO)
        assert (told.rcpts[1][:3], told.outcomes) == ("452", (DELIVERED_ALREADY,))
        assert (await again.transact("u@b.example")).outcomes == (DONE,)
        assert world.messages == {"a1": 1, "b1": 2}
