"""Stopping with nothing lost: who is sent away at once, who may finish, and until when."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock
from world import Hop, Speaks, World, wire

from mailgate.testing import Close, Delay, Script, Silence, SlowReading

SPOKEN: tuple[Speaks, ...] = ("smtp", "lmtp")
GOODBYE = "S: 421 4.3.2 gw.example Shutting down, try later or elsewhere\nS."
STOPPED = "S: 451 4.3.2 Shutting down, try later or elsewhere\n"
TAKEN = "S: 250 2.0.0 taken\n"

MAIL = "C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 ..."
RCPT = MAIL + "\nC: RCPT TO:<u@a.example>\nS: 250 2.1.5 ..."
DATA = RCPT + "\nC: DATA\nS: 354 ...\nC: Subject: hi"
DOT = DATA + "\nC: ."


@dataclass(frozen=True, slots=True)
class Draining:
    """A client, and how it goes on when the gateway is told to stop."""

    before: str
    """its dialog up to then"""
    after: str
    """and from then on, to the end of the connection"""
    seconds: float
    """until it has ended"""
    messages: int = 0
    hop: Script = Script()  # noqa: RUF009 - it is frozen


SLOW_DOT = Script(dot=Delay(100))
SLOW_READER = Script(body=(SlowReading(1),))
CASES = {
    "greeted": Draining("S: 220 ...", GOODBYE, 0),
    "between transactions": Draining("", GOODBYE, 0),
    "behind a command": Draining("C: NOOP\nS: 250 ...", GOODBYE, 0),
    "behind half a command": Draining("C! MAIL FR", GOODBYE, 0),
    "behind a transaction": Draining(f"{DOT}\n{TAKEN}", GOODBYE, 0, 1),
    "behind a transaction taken back": Draining(f"{RCPT}\nC: RSET\nS: 250 ...", GOODBYE, 0),
    "behind MAIL": Draining(MAIL, GOODBYE, 30),
    "behind RCPT": Draining(RCPT, GOODBYE, 30),
    "behind RCPT, it says RSET": Draining(RCPT, f"C+ 9\nC: RSET\nS: 250 ...\n{GOODBYE}", 9),
    "behind RCPT, it says QUIT": Draining(RCPT, "C+ 9\nC: QUIT\nS: 221 ...\nS.", 9),
    "behind RCPT, it finishes": Draining(RCPT, f"C+ 9\nC: DATA\nS: 354 ...\nC+ 9\nC: .\n{TAKEN}{GOODBYE}", 18, 1),
    "waits for an answer to RCPT": Draining(
        f"{MAIL}\nC: RCPT TO:<u@a.example>", STOPPED + GOODBYE, 30, hop=Script(rcpt=Silence())
    ),
    "waits for an answer to RCPT, it comes": Draining(
        f"{MAIL}\nC: RCPT TO:<u@a.example>", f"S: 250 2.1.5 ...\n{GOODBYE}", 30, hop=Script(rcpt=Delay(29))
    ),
    "waits for an answer to RCPT, with more behind it": Draining(
        f"{MAIL}\nC: RCPT TO:<u@a.example>\nC: NOOP\nC: RCPT TO:<v@a.example>",
        f"{STOPPED}S: 250 2.0.0 Fine\n{STOPPED}{GOODBYE}",
        30,
        hop=Script(rcpt=Silence()),
    ),
    "waits for a 354": Draining(f"{RCPT}\nC: DATA", STOPPED + GOODBYE, 30, hop=Script(data=Silence())),
    "in the message": Draining(DATA, GOODBYE, 30),
    "in the message, it goes on too long": Draining(DATA, f"C+ 29\nC: x\n{GOODBYE}", 30),
    "in the message, it finishes": Draining(DATA, f"C+ 29\nC: .\n{TAKEN}{GOODBYE}", 29, 1),
    "waits for its outcome, not committed": Draining(DOT, STOPPED + GOODBYE, 30, hop=SLOW_READER),
    "waits for its outcome, committed": Draining(DOT, TAKEN + GOODBYE, 100, 1, hop=SLOW_DOT),
    "waits for its outcome, which is unknown": Draining(
        DOT, f"S: 451 4.4.2 ...\n{GOODBYE}", 40, 1, hop=Script(dot=(Delay(40), Close()))
    ),
    "has said QUIT behind its dot": Draining(f"{DOT}\nC: QUIT", f"{TAKEN}S: 221 ...\nS.", 100, 1, hop=SLOW_DOT),
    # The client, who may be about to say more, has 2 s to hear the 421 and close.
    "has said MAIL behind its dot": Draining(
        f"{DOT}\nC: MAIL FROM:<s@in.example>\nC: RCPT TO:<u@a.example>\nC: DATA", TAKEN + GOODBYE, 102, 1, hop=SLOW_DOT
    ),
}


def stop(world: World) -> None:
    """Tell the gateway to."""
    world.nursery.start_soon(world.gateway.drain)


def gateway_runs(world: World) -> bool:
    return any("Gateway.run" in task.name for task in world.nursery.child_tasks)


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_drain(case: Draining, speaks: Speaks, autojump_clock: MockClock) -> None:
    """When the last client has gone, and QUIT been said, `Gateway.run` ends by itself."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", case.hop), capacity=16) as world:
        client = await world.client(speaks, greeted=not case.before.startswith("S: 220"))
        await client.play(case.before)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        stop(world)
        await client.play(case.after)
        assert trio.current_time() - began == pytest.approx(case.seconds)
        assert world.messages == {"a1": case.messages}
        await client.stream.aclose()
        await client.ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - began == pytest.approx(case.seconds)
        assert not gateway_runs(world)
        assert world.network.open_streams == 0


async def test_new_clients_are_sent_elsewhere(autojump_clock: MockClock) -> None:
    """While the gateway drains, and when it has."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", SLOW_DOT)) as world:
        client = await world.client()
        await client.play(DOT)
        stop(world)
        for _ in range(3):
            await trio.sleep(20)
            another = await world.client(greeted=False)
            await another.play(GOODBYE)
        assert gateway_runs(world)
        await client.play(TAKEN + GOODBYE)
        await client.ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not gateway_runs(world)
        another = await world.client(greeted=False)
        await another.play(GOODBYE)
        assert len(world.events("client_refused")) == 4


async def test_one_commit_lets_all_deliveries_of_a_message_run(autojump_clock: MockClock) -> None:
    slow = Script(body=(SlowReading(20),))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b", slow), capacity=16) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example")
        await client.play("C: DATA\nS: 354 ...")
        await client.send(wire(b"x" * 998 + b"\r\n"))
        await client.play(TAKEN)
        stop(world)
        await client.play(TAKEN + GOODBYE)
        assert trio.current_time() > 40
        assert world.messages == {"a1": 1, "b1": 1}


async def test_quits_are_said_before_the_gateway_ends(autojump_clock: MockClock) -> None:
    """Next hops that take their time to answer are waited for, for 5 s."""
    hops = (Hop("a", Script(quit=Delay(3))), Hop("b", Script(quit=Silence())))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        for name in ("a", "b"):
            client = await world.client()
            assert (await client.transact(f"u@{name}.example")).outcomes == ("250 2.0.0 taken",)
            await client.quit()
        await world.gateway.drain()
        assert trio.current_time() == 0
        await trio.sleep(4.9)
        assert gateway_runs(world)
        await trio.sleep(0.2)
        assert not gateway_runs(world)
        assert world.mta("a1").sessions[0].dialog[-2:] == ["C: QUIT", "S: 221 2.0.0 a1 closes"]
        assert world.mta("b1").sessions[0].dialog[-3:-1] == ["C: QUIT", "-- the server falls silent"]


async def test_a_client_that_takes_no_goodbye(autojump_clock: MockClock) -> None:
    """Nobody waits for it as long as for one that takes no reply."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(capacity=8)
        await world.gateway.drain()
        await client.ended.wait()
        assert trio.current_time() == pytest.approx(2)


async def test_told_to_stop_twice(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", SLOW_DOT)) as world:
        client = await world.client()
        await client.play(DOT)
        async with trio.open_nursery() as stopping:
            stopping.start_soon(world.gateway.drain)
            await trio.sleep(1)
            stopping.start_soon(world.gateway.drain)
            await client.play(TAKEN + GOODBYE)
            await client.stream.aclose()
        assert trio.current_time() == pytest.approx(100)


async def test_an_idle_gateway_ends_at_once(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        await world.gateway.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert not gateway_runs(world)
        assert trio.current_time() == 0


async def test_many_clients_are_drained_together(autojump_clock: MockClock) -> None:
    """Thirty of them, at all points: each hears what it would hear alone."""
    cases = [case for case in CASES.values() if case.hop == Script() and not case.before.startswith("S: 220")]
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        clients = [await world.client() for _ in cases]
        for client, case in zip(clients, cases, strict=True):
            await client.play(case.before)
        stop(world)
        async with trio.open_nursery() as talking:
            for client, case in zip(clients, cases, strict=True):
                talking.start_soon(client.play, case.after)
        assert trio.current_time() == pytest.approx(30)
        assert world.messages == {"a1": sum(case.messages for case in cases)}
