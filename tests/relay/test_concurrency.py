"""Many recipients at once: probed concurrently, answered in order, and in the client's order on each session."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock
from world import Client, Hop, Speaks, World

from mailgate.testing import Delay, Script, seeded

TWENTY = [f"h{number:02}" for number in range(20)]


@pytest.mark.parametrize("parameters", ["", " PRDR"], ids=["lmtp", "prdr"])
async def test_twenty_next_hops_take_four_reply_times(parameters: str, autojump_clock: MockClock) -> None:
    """Greeting, EHLO, MAIL and RCPT: 200 ms each, at all next hops at once. Then DATA, and the dot."""
    slow = Script(pace=0.2)
    async with trio.open_nursery() as nursery, World(nursery, *[Hop(name, slow) for name in TWENTY]) as world:
        client = await world.client("smtp" if parameters else "lmtp")
        began = trio.current_time()
        told = await client.envelope(*[f"u@{name}.example" for name in TWENTY], parameters=parameters)
        assert told.rcpts == ("250 2.1.5 recipient ok",) * 20
        assert trio.current_time() - began == pytest.approx(4 * 0.2)
        await client.play("C: DATA\nS: 354 ...")
        assert trio.current_time() - began == pytest.approx(5 * 0.2)
        await client.play("C: Subject: hi\nC: .")
        due = 22 if parameters else 20
        assert {(await client.reply())[:3] for _ in range(due)} <= {"250", "353"}
        assert trio.current_time() - began == pytest.approx(6 * 0.2)
        assert set(world.messages.values()) == {1}


async def test_each_answer_is_told_when_its_turn_has_come(autojump_clock: MockClock) -> None:
    """Two at a hop that is fast, with a slow one between and a slower one behind them."""
    hops = (Hop("fast"), Hop("slow", Script(rcpt=Delay(3))), Hop("slower", Script(rcpt=Delay(5))))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 ...")
        for recipient in ("u@fast.example", "u@slow.example", "v@fast.example", "u@slower.example", "w@fast.example"):
            await client.play(f"C: RCPT TO:<{recipient}>")
        told = []
        for _ in range(5):
            await client.reply()
            told.append(trio.current_time())
        assert told == pytest.approx([0, 3, 3, 5, 5])


INTERLEAVED = [f"{user}{number}@{hop}.example" for number in range(6) for user in "uv" for hop in ("a", "b", "c")]
"""36 recipients: each next hop's turn comes in every third"""

UNKNOWN = "u2@b.example"
JITTER = {address: Delay((number * 7 % 5) / 10) for number, address in enumerate(INTERLEAVED) if number % 4}
"""some are answered at once, some later, so that the next hops overtake each other"""


async def offer_in_groups(client: Client, recipients: list[str], size: int) -> None:
    """All RCPTs, some pipelined groups of them; the answers are only read at the end."""
    await client.play("C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 ...")
    for start in range(0, len(recipients), size):
        await client.send(b"".join(f"RCPT TO:<{one}>\r\n".encode() for one in recipients[start : start + size]))
        await trio.sleep(0.05)
    for _ in recipients:
        assert await client.reply() == "250 2.1.5 recipient ok"


def offered(world: World, host: str) -> list[str]:
    """The recipients that a host was offered in its only session, in order."""
    [session] = world.mta(host).sessions
    return [line.text[9:-1] for line in session.lines if line.text.startswith("RCPT TO:<")]


async def check_order(group: int, extensions: tuple[str, ...]) -> None:
    hops = [Hop(name, Script(recipients=JITTER, extensions=extensions)) for name in ("a", "b", "c")]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await offer_in_groups(client, INTERLEAVED, group)
        for name in ("a", "b", "c"):
            wanted = [one for one in INTERLEAVED if one.endswith(f"@{name}.example")]
            assert offered(world, f"{name}1") == wanted
        await client.play("C: DATA\nS: 354 ...\nC: Subject: hi\nC: .")
        for _ in INTERLEAVED:
            assert (await client.reply()).startswith("250")
        for name in ("a", "b", "c"):
            [message] = world.mta(f"{name}1").messages
            assert list(message.recipients) == offered(world, f"{name}1")


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("group", [1, 5, 36])
@pytest.mark.parametrize("seed", range(20))
def test_recipients_keep_the_clients_order(seed: int, group: int, extensions: tuple[str, ...]) -> None:
    seeded(seed)
    trio.run(check_order, group, extensions, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", range(20))
def test_outcomes_keep_the_clients_order(seed: int) -> None:
    """Every recipient has an outcome of its own, at next hops of both protocols, and duplicates have one each."""
    seeded(seed)
    trio.run(check_outcomes, clock=MockClock(autojump_threshold=0))


async def check_outcomes() -> None:
    names = ("a", "b", "c")
    outcomes = {address: f"250 2.0.0 for {address}" for address in INTERLEAVED if not address.startswith("v3")}
    refused = {address: f"451 4.2.1 not for {address}" for address in INTERLEAVED if address.startswith("v3")}
    script = Script(outcomes=outcomes | refused, recipients=JITTER | {UNKNOWN: "550 5.1.1 unknown"})
    hops = [Hop(name, script, speaks="lmtp") for name in names]
    recipients = [*INTERLEAVED, *INTERLEAVED[5:9], UNKNOWN]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        told = await client.transact(*recipients)
        assert [one for one, answer in zip(recipients, told.rcpts, strict=True) if answer[0] != "2"] == [UNKNOWN] * 2
        assert told.outcomes == tuple((outcomes | refused)[one] for one in recipients if one != UNKNOWN)


ANOTHER = "452 4.5.3 Goes to another next hop, send it in another transaction"


@pytest.mark.parametrize("seed", range(20))
def test_the_first_accepted_recipients_next_hop_is_chosen(seed: int) -> None:
    """Plain SMTP, everything pipelined, with answers that come in any order: the order of RCPTs decides."""
    seeded(seed)
    trio.run(check_choice, random.Random(seed), clock=MockClock(autojump_threshold=0))


async def check_choice(chance: random.Random) -> None:
    replies = {one: chance.choice(("250 2.1.5 yes", "450 4.2.0 later", "550 5.1.1 no")) for one in INTERLEAVED}
    script = Script(recipients={one: (Delay(chance.choice((0, 1, 2))), text) for one, text in replies.items()})
    recipients = chance.sample(INTERLEAVED, 9)
    wanted: list[str] = []
    chosen = ""
    for recipient in recipients:
        hop = recipient.partition("@")[2]
        wanted.append(replies[recipient] if chosen in ("", hop) else ANOTHER)
        chosen = chosen or (hop if replies[recipient].startswith("2") else "")
    async with trio.open_nursery() as nursery, World(nursery, *[Hop(name, script) for name in "abc"]) as world:
        client = await world.client("smtp")
        told = await client.transact(*recipients)
        assert list(told.rcpts) == wanted
        accepted = tuple(one for one, told in zip(recipients, wanted, strict=True) if told.startswith("2"))
        messages = [message for mta in world.mtas.values() for message in mta.messages]
        assert [message.recipients for message in messages] == ([accepted] if accepted else [])


@pytest.mark.parametrize("speaks", ["smtp", "lmtp"])
async def test_sessions_do_not_wait_for_each_other(speaks: Speaks, autojump_clock: MockClock) -> None:
    """Thirty clients at once, some of them at a next hop that is silent: the others are done in no time."""
    hops = (Hop("fast"), Hop("dead", Script(greeting=Delay(9999))))
    ended: dict[str, list[float]] = {"fast": [], "dead": []}

    async def one(world: World, name: str) -> None:
        client = await world.client(speaks)
        told = await client.transact(f"u@{name}.example")
        assert told.rcpts[0].startswith("250" if name == "fast" else "451 4.4.1")
        ended[name].append(trio.current_time())
        await client.quit()

    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        async with trio.open_nursery() as clients:
            for number in range(30):
                clients.start_soon(one, world, ("fast", "dead")[number % 2])
        assert ended == {"fast": [0] * 15, "dead": [10] * 15}
