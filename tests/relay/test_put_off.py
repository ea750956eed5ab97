"""Whoever fails while others are kept waiting steps aside once, so that nobody is starved by another one's failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import trio
from store import MemoryStore, Mood
from trio.testing import MockClock
from world import ANOTHER_HOP, CONTENT, DONE, GO_AHEAD, NOT_ALL, PUT_OFF, TAKEN, Hop, World, wire

from mailgate.relay.ledger import PUT_OFF_ENTRIES, PUT_OFF_LIFE
from mailgate.relay.settings import SeveralNextHops
from mailgate.testing import Close, Delay, Plan, Script, Silence, Turns, reset

BUSY = "451 4.3.0 busy"
SPAM = "554 5.7.1 spam"
BUSY_HOP = Hop("a", Script(dot=BUSY))

TOGETHER, APART = SeveralNextHops.TOGETHER, SeveralNextHops.APART


async def send(
    world: World, *recipients: str, sender: str = "s@in.example", gateway: int = 0, content: bytes = CONTENT
) -> str:
    """One transaction on a connection of its own; the codes that each recipient heard, at RCPT or later."""
    client = await world.client(gateway=gateway)
    told = await client.transact(*recipients, sender=sender, content=content)
    await client.quit()
    final = told.outcomes[0] if told.outcomes else told.data
    return " ".join((final if rcpt.startswith("2") else rcpt)[:3] for rcpt in told.rcpts)


# Stories: what each of the recipients hears, transaction by transaction, offered as long as it hears a 4xx.


@dataclass(frozen=True, slots=True)
class Case:
    """What is said behind the dot by each next hop, from `a` on, always."""

    dots: Sequence[Plan | None]
    several: SeveralNextHops
    told: Sequence[str]


CASES = {
    "apart, the first one always refuses": Case(
        (BUSY, None), APART, ["451 452", "452 250", "451", "451"]
    ),
    "apart, it always refuses for good": Case((SPAM, None), APART, ["554 452", "250"]),
    "apart, it is never heard of": Case((Close(), None), APART, ["451 452", "452 250", "451", "451"]),
    "apart, all are well": Case((None, None), APART, ["250 452", "250"]),
    "apart, nobody waits": Case((BUSY,), APART, ["451", "451", "451"]),
    "together, the first one always refuses": Case((BUSY, None), TOGETHER, ["451 451", "452 250", "451", "451"]),
    "together, it always refuses for good": Case((SPAM, None), TOGETHER, ["451 451", "452 250", "554"]),
    "together, it is never heard of": Case((Close(), None), TOGETHER, ["451 451", "452 250", "451", "451"]),
    "together, a later one always refuses for good": Case((None, SPAM), TOGETHER, ["451 451", "250 452", "554"]),
    "together, both refuse for good": Case((SPAM, SPAM), TOGETHER, ["451 451", "452 554", "554"]),
    "together, nobody waits": Case((BUSY,), TOGETHER, ["451", "451", "451"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_others_get_their_turn(case: Case, autojump_clock: MockClock) -> None:
    hops = [Hop(name, Script(dot=dot)) for name, dot in zip("abc", case.dots, strict=False)]
    async with trio.open_nursery() as nursery, World(nursery, *hops, several_next_hops=case.several) as world:
        left = [f"u@{hop.name}.example" for hop in hops]
        told: list[str] = []
        while left and len(told) < len(case.told):
            told.append(await send(world, *left))
            left = [one for one, code in zip(left, told[-1].split(), strict=True) if code.startswith("4")]
        assert told == case.told


@pytest.mark.parametrize("refusal", [SPAM, "452 4.2.2 mailbox full"], ids=["for good", "for now"])
@pytest.mark.parametrize("several", [TOGETHER, APART], ids=["together", "apart"])
@pytest.mark.parametrize("failing", [1, 2, 3, 4])
async def test_several_that_fail_do_not_starve_the_last(
    failing: int, several: SeveralNextHops, refusal: str, autojump_clock: MockClock
) -> None:
    """As spam filters and full mailboxes do: these fail whenever they are offered, one behind the other."""
    names = "abcde"[: failing + 1]
    hops = [Hop(name, Script(dot=refusal if name != names[-1] else None)) for name in names]
    async with trio.open_nursery() as nursery, World(nursery, *hops, several_next_hops=several) as world:
        left = [f"u@{name}.example" for name in names]
        taken_in = 0
        for number in range(1, 21):
            told = await send(world, *left)
            left = [one for one, code in zip(left, told.split(), strict=True) if code.startswith("4")]
            if world.messages[f"{names[-1]}1"] and not taken_in:
                taken_in = number
            if not left:
                break
        assert 1 <= taken_in <= failing + 1
        assert (left == []) is (refusal == SPAM)


# One mark


@pytest.mark.parametrize("several", [TOGETHER, APART], ids=["together", "apart"])
async def test_it_is_not_even_asked(several: SeveralNextHops, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), several_next_hops=several) as world:
        await send(world, "u@a.example", "u@b.example")
        await trio.sleep(60)  # sessions that were kept are gone
        connections = len(world.network.connections)
        client = await world.client()
        told = await client.envelope("u@a.example", "u@b.example")
        assert told.rcpts == (PUT_OFF, TAKEN)
        asked = [connection.address for connection in world.network.connections[connections:]]
        assert asked == [world.address("b1")]
        await client.quit()


async def test_twice_where_nobody_else_is_offered(autojump_clock: MockClock) -> None:
    """But not more often. The same address again in that transaction is the same recipient."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, BUSY_HOP, Hop("b"), several_next_hops=TOGETHER) as world,
    ):
        await send(world, "u@a.example", "u@b.example")
        client = await world.client()
        for _ in range(2):
            assert (await client.envelope("u@a.example", "u@a.example")).rcpts == (PUT_OFF, PUT_OFF)
            await client.play("C: RSET\nS: 250 ...")
        assert (await client.envelope("u@a.example", "u@a.example")).rcpts == (TAKEN, TAKEN)
        await client.quit()


# Another offer than (s@in.example, u@a.example): does it meet the mark?
OFFERS: dict[str, tuple[str, str, bool]] = {
    "the same": ("s@in.example", "u@a.example", True),
    "a domain in other letters": ("s@in.example", "u@A.Example", True),
    "another sender": ("t@in.example", "u@a.example", False),
    "the null reverse-path": ("", "u@a.example", False),
    "another recipient there": ("s@in.example", "v@a.example", False),
    "who was kept waiting": ("s@in.example", "u@b.example", False),
}


@pytest.mark.parametrize(("sender", "recipient", "meets"), OFFERS.values(), ids=OFFERS.keys())
@pytest.mark.parametrize("several", [TOGETHER, APART], ids=["together", "apart"])
async def test_whom_it_is_about(
    several: SeveralNextHops, sender: str, recipient: str, meets: bool, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), several_next_hops=several) as world:
        await send(world, "u@a.example", "u@b.example")
        client = await world.client()
        assert (await client.envelope(recipient, sender=sender)).rcpts == (PUT_OFF if meets else TAKEN,)
        await client.quit()


@pytest.mark.parametrize("parameters", ["", " PRDR"], ids=["LMTP", "PRDR"])
async def test_who_hears_a_reply_for_each_keeps_nobody_waiting(parameters: str, autojump_clock: MockClock) -> None:
    """So it neither leaves a mark nor meets one."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, BUSY_HOP, Hop("b"), several_next_hops=TOGETHER) as world,
    ):
        both = "u@a.example", "u@b.example"
        client = await world.client("smtp" if parameters else "lmtp")
        for _ in range(2):
            assert (await client.transact(*both, parameters=parameters)).rcpts == (TAKEN, TAKEN)
        assert await send(world, *both) == "451 451"
        assert (await client.transact(*both, parameters=parameters)).rcpts == (TAKEN, TAKEN)
        assert await send(world, *both) == "452 250"


# Where a transaction ends, apart, of u@a.example with u@b.example waiting: is the first one marked?
ENDS: dict[str, tuple[Script, bool]] = {
    "refused at RCPT for now": (Script(rcpt="450 4.2.0 later"), False),
    "refused at DATA for now": (Script(data=BUSY), True),
    "refused at DATA for good": (Script(data=SPAM), False),
    "lost at DATA": (Script(data=Close()), True),
    "silent at DATA": (Script(data=Silence()), True),
    "refused at the dot for now": (Script(dot=BUSY), True),
    "refused at the dot for good": (Script(dot=SPAM), False),
    "lost behind the dot": (Script(dot=Close()), True),
    "silent behind the dot": (Script(dot=Silence()), True),
    "taken": (Script(), False),
}


@pytest.mark.parametrize(("script", "marked"), ENDS.values(), ids=ENDS.keys())
async def test_what_ends_with_a_mark(script: Script, marked: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script), Hop("b")) as world:
        await send(world, "u@a.example", "u@b.example")
        assert world.gateway.status().ledger.put_off == marked


async def test_a_client_that_is_kept_waiting_until_it_leaves(autojump_clock: MockClock) -> None:
    """It will come again, and be kept waiting again."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Silence())), Hop("b")) as world:
        client = await world.client()
        told = await client.envelope("u@a.example", "u@b.example")
        assert told.rcpts == (TAKEN, ANOTHER_HOP)
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT))
        await trio.sleep(300)
        await reset(client.stream)
        await client.ended.wait()
        assert await send(world, "u@a.example", "u@b.example") == "452 250"


@pytest.mark.parametrize("dialog", ["", "C: RSET\nS: 250 ..."], ids=["gone", "RSET"])
async def test_a_client_that_leaves_before_data_says_nothing_of_next_hops(
    dialog: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        client = await world.client()
        await client.envelope("u@a.example", "u@b.example")
        await client.play(dialog)
        await reset(client.stream)
        await client.ended.wait()
        assert world.gateway.status().ledger.put_off == 0


# Together, in one delivery


async def test_of_an_lmtp_next_hop_only_who_failed(autojump_clock: MockClock) -> None:
    script = Script(outcomes={"v@l.example": "452 4.2.2 mailbox full"})
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("l", script, speaks="lmtp"), several_next_hops=TOGETHER) as world,
    ):
        assert await send(world, "u@l.example", "v@l.example", "w@l.example") == "451 451 451"
        assert await send(world, "u@l.example", "v@l.example", "w@l.example") == "250 452 250"
        assert await send(world, "v@l.example") == "452"
        assert [message.taken for message in world.mta("l1").messages] == [("u@l.example", "w@l.example"), ()]


# Its home and its life


async def test_it_lives_for_a_day(autojump_clock: MockClock) -> None:
    for seconds, told in ((PUT_OFF_LIFE - 1, "452 250"), (PUT_OFF_LIFE + 1, "451 452")):
        async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b")) as world:
            await send(world, "u@a.example", "u@b.example")
            await trio.sleep(seconds)
            assert await send(world, "u@a.example", "u@b.example") == told


async def test_gateways_share_it(autojump_clock: MockClock) -> None:
    """The one that the client comes to next finds it, and no other one then."""
    store = MemoryStore()
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), store=store, gateways=2) as world:
        await send(world, "u@a.example", "u@b.example")
        assert [store.seconds_left(mark) for mark in store.marks("put-off")] == [PUT_OFF_LIFE]
        assert [gateway.status().ledger.put_off for gateway in world.gateways] == [0, 0]
        assert await send(world, "u@a.example", "u@b.example", gateway=1) == "452 250"
        assert store.marks("put-off") == []
        assert await send(world, "u@a.example") == "451"


@pytest.mark.parametrize("mood", [Mood.FAILS, Mood.HANGS])
async def test_without_the_store_it_is_our_own(mood: Mood, autojump_clock: MockClock) -> None:
    """It harms nobody if the others do not know: no `possible_duplicate`."""
    store = MemoryStore(mood)
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), store=store, gateways=2) as world:
        await send(world, "u@a.example", "u@b.example")
        assert world.gateway.status().ledger.put_off == 1
        assert world.events("possible_duplicate") == []
        assert await send(world, "u@a.example", "u@b.example", gateway=1) == "451 452"
        assert await send(world, "u@a.example", "u@b.example") == "452 250"


async def test_without_a_ledger_it_is_kept(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), ledger=False) as world:
        await send(world, "u@a.example", "u@b.example")
        assert await send(world, "u@a.example", "u@b.example") == "452 250"


async def test_it_outlives_a_restart(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), gateways=2) as world:
        await send(world, "u@a.example", "u@b.example")
        await trio.sleep(100)
        await world.gateway.drain()
        ((mark, seconds),) = world.gateway.remembered().put_off
        assert (mark.partition(":")[0], seconds) == ("put-off", PUT_OFF_LIFE - 100)
        world.gateways[1].remember(world.gateway.remembered())
        assert await send(world, "u@a.example", "u@b.example", gateway=1) == "452 250"


async def test_there_is_an_end_to_what_is_remembered(autojump_clock: MockClock) -> None:
    """The oldest goes first. (The rest of it is about Marks.)"""
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), gateways=2) as world:
        await send(world, "u@a.example", "u@b.example")
        remembered = world.gateway.remembered()
        strangers = tuple((f"put-off:{number:032x}", PUT_OFF_LIFE) for number in range(PUT_OFF_ENTRIES))
        world.gateways[1].remember(remembered)
        world.gateways[1].remember(type(remembered)(put_off=strangers))
        assert world.gateways[1].status().ledger.put_off == PUT_OFF_ENTRIES
        assert await send(world, "u@a.example", "u@b.example", gateway=1) == "451 452"


async def test_what_the_client_and_the_log_hear(autojump_clock: MockClock) -> None:
    hops = Hop("a", Script(dot=Turns(BUSY, ()))), Hop("b", Script(dot=Delay(1)))
    async with trio.open_nursery() as nursery, World(nursery, *hops, several_next_hops=TOGETHER) as world:
        client = await world.client()
        assert (await client.transact("u@a.example", "u@b.example")).outcomes == (NOT_ALL,)
        assert (await client.transact("u@a.example", "u@b.example")).rcpts == (PUT_OFF, TAKEN)
        assert (await client.transact("u@a.example")).outcomes == (DONE,)
        refused = world.events("recipient_refused")
        assert [(str(event["to"]), str(event["reply"])) for event in refused] == [("u@a.example", PUT_OFF)]


@pytest.mark.parametrize("several", [TOGETHER, APART], ids=["together", "apart"])
async def test_another_message_of_the_sender_takes_the_mark_away(
    several: SeveralNextHops, autojump_clock: MockClock
) -> None:
    """It comes before each retry of the first one, to the recipient that always fails."""
    async with trio.open_nursery() as nursery, World(nursery, BUSY_HOP, Hop("b"), several_next_hops=several) as world:
        rounds = 0
        while not world.messages["b1"]:
            rounds += 1
            await send(world, "u@a.example", "u@b.example")
            await send(world, "u@a.example")
            assert rounds <= 3


async def test_who_is_put_off_in_vain_is_put_off_again(autojump_clock: MockClock) -> None:
    """A mixed outcome: those who have the message wait for their 250 just as others wait for it."""
    hops = [Hop("a"), Hop("b", Script(dot=SPAM)), Hop("c", Script(dot=SPAM))]
    async with trio.open_nursery() as nursery, World(nursery, *hops, several_next_hops=TOGETHER) as world:
        left = ["u@a.example", "u@b.example", "u@c.example"]
        told: list[str] = []
        while left and len(told) < 6:
            told.append(await send(world, *left))
            left = [one for one, code in zip(left, told[-1].split(), strict=True) if code.startswith("4")]
        assert left == []
        assert world.messages["a1"] == 1
