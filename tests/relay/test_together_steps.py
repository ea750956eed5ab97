"""Together, one thing happens behind every single step of the gateway's tasks; then the client comes again, and nobody
gets two copies."""

from __future__ import annotations

import pytest
import trio
from store import MemoryStore
from test_cancel_steps import Blow, Steps
from trio.testing import MockClock
from world import CLIENT, Client, Hop, World, wire

from mailgate.relay.settings import SeveralNextHops
from mailgate.testing import BoundedStream, Delay, Script, Turns, bounded_stream_pair, seeded

RECIPIENTS = "u@a.example", "v@a.example", "u@b.example", "u@c.example"
CONTENT = b"Subject: hi\r\n\r\n" + b"x" * 300 + b"\r\n"
DONE = "250 2.0.0 taken"

SCRIPTS: dict[str, dict[str, Script]] = {
    "all take it": {"b": Script(pace=1)},
    "the first one refuses": {"a": Script(dot=Turns("451 4.3.0 busy", DONE))},
    "one is tried again, one refuses": {
        "b": Script(dot=Turns("451 4.3.0 busy", DONE)),
        "c": Script(dot=Turns((Delay(1), "452 4.2.2 full"), DONE)),
    },
}


def connect(world: World, scope: trio.CancelScope) -> Client:
    """A client whose session the embedder serves inside that scope."""
    near, far = bounded_stream_pair(128)
    client = Client(world, near, far, "smtp")
    world.clients.append(client)

    async def serve_scoped() -> None:
        with scope:
            await world.gateway.serve(world.listeners["smtp"], far, CLIENT)
        client.ended.set()

    world.nursery.start_soon(serve_scoped)
    return client


async def transact(client: Client, told: dict[str, str], left: list[str]) -> None:
    """One transaction, as far as it comes; `told` is what each recipient has heard."""
    envelope = await client.envelope(*left)
    told |= zip(left, envelope.rcpts, strict=True)
    accepted = [one for one in left if told[one].startswith("2")]
    if accepted:
        told |= dict.fromkeys(accepted, "")
        await client.play("C: DATA")
        answer = await client.reply()
        if answer.startswith("3"):
            await client.send(wire(CONTENT))
            answer = await client.reply()
        told |= dict.fromkeys(accepted, answer)
    await client.play("C: QUIT\nS: 221 ...\nS.")


async def talk(client: Client, told: dict[str, str], steps: Steps) -> None:
    try:
        await client.hello()
        await transact(client, told, list(RECIPIENTS))
    except* (AssertionError, trio.BrokenResourceError, trio.ClosedResourceError):
        if not steps.struck:
            raise
    await client.stream.aclose()


async def strike_behind(limit: int, blow: Blow, scripts: dict[str, Script]) -> bool:
    """Whether the dialog had not ended before that step."""
    steps = Steps(limit)
    told = dict.fromkeys(RECIPIENTS, "")
    scope = trio.CancelScope()
    trio.lowlevel.add_instrument(steps)
    hops = [Hop(name, scripts.get(name, Script())) for name in "abc"]
    together = SeveralNextHops.TOGETHER
    async with (
        trio.open_nursery() as nursery,
        World(nursery, *hops, capacity=128, several_next_hops=together, store=MemoryStore(), gateways=2) as world,
    ):
        client = connect(world, scope)
        assert isinstance(client.stream, BoundedStream)
        steps.strike = {
            Blow.CANCEL: scope.cancel,
            Blow.RESET: client.stream.reset,
            Blow.DRAIN: lambda: nursery.start_soon(world.gateway.drain),
        }[blow]
        async with trio.open_nursery() as talking:
            talking.start_soon(talk, client, told, steps)
            await client.ended.wait()
            await trio.testing.wait_all_tasks_blocked()
            talking.cancel_scope.cancel()
        struck, steps.strike = steps.struck, None
        await come_again(world, told, 0 if blow is Blow.CANCEL else 1)
        check(world, told)
    trio.lowlevel.remove_instrument(steps)
    # Leaving the world has shown that no task, connection or file is left.
    return struck


async def come_again(world: World, told: dict[str, str], gateway: int) -> None:
    """Until all have heard a 250. Behind a cancelled session the store may not know, but the gateway does."""
    for _ in range(8):
        left = [one for one, answer in told.items() if not answer.startswith("2")]
        if not left:
            return
        client = await world.client(gateway=gateway)
        await transact(client, told, left)
    raise AssertionError(f"still not delivered: {told}")


def check(world: World, told: dict[str, str]) -> None:
    """All are delivered, and only of whom the log has said so there may be two copies."""
    taken = [recipient for mta in world.mtas.values() for recipient, _ in mta.taken]
    events = world.events("delivered", "partly_delivered", "not_delivered")
    outcomes = [text for event in events for text in event["outcomes"]]
    unknown = {text.partition(" ")[0] for text in outcomes if " unknown: " in text}
    lost = {str(one) for event in world.events("possible_duplicate") for one in event["to"]}
    for recipient in RECIPIENTS:
        assert 1 <= taken.count(recipient) <= 1 + (recipient in unknown | lost)


@pytest.mark.parametrize("blow", [Blow.CANCEL, Blow.RESET, Blow.DRAIN])
@pytest.mark.parametrize("scripts", SCRIPTS.values(), ids=SCRIPTS)
def test_behind_every_step(scripts: dict[str, Script], blow: Blow) -> None:
    struck = True
    limit = 0
    while struck:
        limit += 1
        seeded(limit)
        try:
            struck = trio.run(strike_behind, limit, blow, scripts, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"behind step {limit}")
            raise
    assert limit > 50
