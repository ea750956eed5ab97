"""One thing happens behind every single step of the gateway's tasks: the embedder cancels `serve`, the client goes
away, the gateway is told to stop."""

from __future__ import annotations

import enum
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock
from world import CLIENT, Client, Hop, Speaks, World, wire

from mailgate.testing import BoundedStream, Script, bounded_stream_pair, seeded

RCPT = {"smtp": ("u@a.example", "v@a.example"), "lmtp": ("u@a.example", "u@b.example")}


class Blow(enum.Enum):
    """What happens."""

    CANCEL = "serve is cancelled"
    CLOSE = "the client closes"
    RESET = "the client resets"
    DRAIN = "the gateway is told to stop"


class Steps(trio.abc.Instrument):
    """Strikes behind a number of steps of the gateway's tasks."""

    def __init__(self, limit: int) -> None:
        self.strike: Callable[[], object] | None = None
        """what to do; steps are counted from when it is set"""
        self.struck = False
        self._left = limit

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.strike is None or not ("mailgate." in task.name or "serve_scoped" in task.name):
            return
        self._left -= 1
        if self._left == 0:
            self.struck = True
            self.strike()


def connect(world: World, speaks: Speaks, scope: trio.CancelScope) -> Client:
    """A client whose session the embedder serves inside that scope."""
    near, far = bounded_stream_pair(128)
    client = Client(world, near, far, speaks)
    world.clients.append(client)

    async def serve_scoped() -> None:
        with scope:
            await world.gateway.serve(world.listeners[speaks], far, CLIENT)
        client.ended.set()

    world.nursery.start_soon(serve_scoped)
    return client


async def talk(client: Client, told: list[str], steps: Steps) -> None:
    """One transaction, as far as it comes; the replies behind the dot are noted."""
    try:
        await client.hello()
        await client.envelope(*RCPT[client.speaks])
        await client.play("C: DATA\nS: 354 ...")
        await client.send(wire(b"Subject: hi\r\n\r\n" + b"x" * 300 + b"\r\n"))
        for _ in range(2 if client.speaks == "lmtp" else 1):
            told.append(await client.reply())
        await client.play("C: QUIT\nS: 221 ...\nS.")
    except* (AssertionError, trio.BrokenResourceError, trio.ClosedResourceError):
        if not steps.struck:
            raise
    await client.stream.aclose()


async def strike_behind(limit: int, blow: Blow, speaks: Speaks) -> bool:
    """Whether the dialog had not ended before that step."""
    steps = Steps(limit)
    told: list[str] = []
    scope = trio.CancelScope()
    trio.lowlevel.add_instrument(steps)
    hops = (Hop("a"), Hop("b", Script(pace=1), Script()))
    async with trio.open_nursery() as nursery, World(nursery, *hops, capacity=128) as world:
        client = connect(world, speaks, scope)
        assert isinstance(client.stream, BoundedStream)
        steps.strike = {
            Blow.CANCEL: scope.cancel,
            Blow.CLOSE: lambda: nursery.start_soon(client.stream.aclose),
            Blow.RESET: client.stream.reset,
            Blow.DRAIN: lambda: nursery.start_soon(world.gateway.drain),
        }[blow]
        async with trio.open_nursery() as talking:
            talking.start_soon(talk, client, told, steps)
            await client.ended.wait()
            await trio.testing.wait_all_tasks_blocked()
            talking.cancel_scope.cancel()
        check(world, told, blow)
    trio.lowlevel.remove_instrument(steps)
    # Leaving the world has shown that no task, connection or file is left.
    return steps.struck


def check(world: World, told: list[str], blow: Blow) -> None:
    """What the client was told is true, and whatever was committed is in the log."""
    taken = [recipient for mta in world.mtas.values() for recipient, _ in mta.taken]
    events = world.events("delivered", "partly_delivered", "not_delivered")
    assert len(events) == 1 or not world.events("committing")
    outcomes = [text for event in events for text in event["outcomes"]]
    delivered = [text.partition(" ")[0] for text in outcomes if " delivered: " in text]
    unknown = [text.partition(" ")[0] for text in outcomes if " unknown: " in text]
    assert sum(one.startswith("2") for one in told) <= len(taken)
    assert set(delivered) <= set(taken) <= {*delivered, *unknown}
    if blow is not Blow.CANCEL:
        # Behind the first commit all run to their outcome, before it none does.
        assert unknown == []
        assert len(taken) in (0, 2)
    if blow is Blow.DRAIN:
        assert told == [] or taken != []


@pytest.mark.parametrize("blow", Blow)
@pytest.mark.parametrize("speaks", ["smtp", "lmtp"])
@pytest.mark.parametrize("seed", [1, 2])
def test_behind_every_step(seed: int, speaks: Speaks, blow: Blow) -> None:
    struck = True
    limit = 0
    while struck:
        limit += 1
        seeded(seed)
        try:
            struck = trio.run(strike_behind, limit, blow, speaks, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"behind step {limit}")
            raise
    assert limit > 50
