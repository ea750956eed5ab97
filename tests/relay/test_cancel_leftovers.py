"""Sessions that are broken off leave nothing, and bugs stay where they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from world import Client, Hop, Speaks, World

from mailgate.protocol.reply import Reply
from mailgate.relay import outcome
from mailgate.relay.delivery import Delivery
from mailgate.relay.intake import Intake
from mailgate.relay.outcome import Outcome
from mailgate.relay.reach import Reach
from mailgate.relay.settings import Limits
from mailgate.relay.transaction import Transaction
from mailgate.testing import Script, StopReading, reset

SPOKEN: tuple[Speaks, ...] = ("smtp", "lmtp")
RCPT = {"smtp": ("u@a.example", "v@a.example"), "lmtp": ("u@a.example", "u@b.example")}


# Sessions broken off in mid-body


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("speaks", SPOKEN)
async def test_thirty_sessions_aborted_in_mid_body(speaks: Speaks, how: str, autojump_clock: MockClock) -> None:
    """Their bodies are in files by then, and one next hop does not read."""
    limits = Limits(body_memory=10_000, sessions_per_host=30)
    hops = (Hop("a"), Hop("b", Script(body=(StopReading(5_000),))))
    async with trio.open_nursery() as nursery, World(nursery, *hops, limits=limits) as world:
        before = resources(world)
        clients = [await world.client(speaks) for _ in range(30)]
        async with trio.open_nursery() as talking:
            for client in clients:
                talking.start_soon(send_half, client)
        assert resources(world).files == before.files + 30
        for client in clients:
            await (client.stream.aclose() if how == "close" else reset(client.stream))
        for client in clients:
            await client.ended.wait()
        await trio.sleep(world.settings.timeouts.quit)
        assert resources(world) == before
        assert world.messages == {"a1": 0, "b1": 0}
        assert world.mta("a1").unfinished == 30


@dataclass(frozen=True, slots=True)
class Resources:
    """What there is that a session may have left: open files, and tasks other than the next hops'."""

    files: int
    tasks: int


def resources(world: World) -> Resources:
    servers = sum(mta.open_sessions for mta in world.mtas.values())
    return Resources(len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living - servers)


async def send_half(client: Client) -> None:
    await client.envelope(*RCPT[client.speaks])
    await client.play("C: DATA\nS: 354 ...")
    await client.send(b"half a message\r\n" * 1_000)
    await trio.sleep(1)


# Bugs


def failing(original: Callable[..., Any], *, for_hop: str, bug: BaseException) -> Callable[..., Any]:
    """A method of Delivery or Reach that has a bug, for one next hop only."""

    async def method(one: Delivery | Reach, *arguments: object) -> object:
        hop = one.hop if isinstance(one, Delivery) else one._hop
        if hop.route.name == for_hop:
            raise bug
        return await original(one, *arguments)

    return method


BUG_REPLY = "451 4.3.0 Internal error, try later or elsewhere"
UNKNOWN = "451 4.4.2 The next hop did not confirm the message, try again"
TAKEN = "250 2.0.0 taken"
BEHIND_RCPT = ("250 2.1.5 recipient ok", "354 End data with <CR><LF>.<CR><LF>")
DELIVERY_BUGS = {
    # the method → what the recipient at that next hop is told at RCPT and behind the dot
    Reach.open: (BUG_REPLY, ""),
    Reach._next_stage: (BUG_REPLY, ""),
    Reach._open_path: (BUG_REPLY, ""),
    Reach._begin_anew: (BUG_REPLY, ""),
    Reach._mail: (BUG_REPLY, ""),
    Delivery._dialog: (BUG_REPLY, ""),
    Delivery._offer_batch: (BUG_REPLY, ""),
    Delivery._data: (BEHIND_RCPT[0], BUG_REPLY),
    Delivery._content: (BEHIND_RCPT[0], BUG_REPLY),
    Delivery._commit: (BEHIND_RCPT[0], BUG_REPLY),
    Delivery._turn: (BEHIND_RCPT[0], BUG_REPLY),
}


@pytest.mark.parametrize(
    ("method", "at_rcpt", "behind_the_dot"),
    [pytest.param(method, *told, id=method.__qualname__) for method, told in DELIVERY_BUGS.items()],
)
async def test_bug_in_one_delivery(
    method: Callable[..., Any],
    at_rcpt: str,
    behind_the_dot: str,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """It fails that delivery; the other one, and the session, go on, and no room for a session is lost."""
    bug = RuntimeError("a bug")
    owner = Delivery if method.__qualname__.startswith("Delivery") else Reach
    monkeypatch.setattr(owner, method.__name__, failing(method, for_hop="b", bug=bug))
    prdr = Script(extensions=("PIPELINING", "PRDR"))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", prdr), Hop("b", prdr)) as world:
        world.bugs_expected = True
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "u@b.example", "v@a.example")
        assert told.rcpts == (BEHIND_RCPT[0], at_rcpt, BEHIND_RCPT[0])
        assert told.outcomes == ((TAKEN, behind_the_dot, TAKEN) if behind_the_dot else (TAKEN, TAKEN))
        [event] = world.events("delivery_failed")
        assert event["log_level"] == "error"
        await client.quit()
        assert world.events("session_failed") == []
        await trio.sleep(world.settings.timeouts.idle + world.settings.timeouts.quit + 0.1)
        assert world.gateway._shared.upstreams.held == 0


async def test_bug_behind_the_commit_of_the_only_delivery(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The next hop may have the message, so the outcome is unknown."""

    def no_outcome(theirs: Reply) -> Outcome:
        raise ValueError(f"cannot make anything of {theirs}")

    monkeypatch.setattr(outcome, "outcome", no_outcome)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        world.bugs_expected = True
        client = await world.client()
        assert (await client.transact("u@a.example")).outcomes == (UNKNOWN,)
        assert len(world.events("delivery_failed")) == 1
        await client.quit()


TRANSACTION_BUGS = {
    # the method of Intake or Transaction → messages that hop a gets before the session ends
    Intake.take: 0,
    Transaction.answered: 0,
    Transaction._take_data: 0,
    Transaction.data_taken: 0,
    Transaction._take_content: 0,
    Transaction._append: 0,
    Transaction._finish: 0,
    Transaction._recognise: 0,
    Transaction.ready: 0,
    Transaction.committing: 0,
    Transaction._account: 1,
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize(
    ("method", "messages"),
    [pytest.param(method, messages, id=method.__qualname__) for method, messages in TRANSACTION_BUGS.items()],
)
async def test_bug_in_a_transaction(
    method: Callable[..., Any],
    messages: int,
    speaks: Speaks,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    """It ends the session, with a log line; another session, in the middle of its message, goes on."""

    def buggy(one: Intake | Transaction, *arguments: object) -> object:
        if "bug" in str(one._envelope.reverse_path):
            raise RuntimeError("a bug")
        return method(one, *arguments)

    owner = Intake if method.__qualname__.startswith("Intake") else Transaction
    monkeypatch.setattr(owner, method.__name__, buggy)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        world.bugs_expected = True
        other = await world.client(speaks)
        await other.envelope("u@a.example")
        await other.play("C: DATA\nS: 354 ...\nC: Subject: other")
        client = await world.client(speaks)
        with trio.move_on_after(1), contextlib.suppress(AssertionError):  # the end, in place of a reply
            await client.transact(*RCPT[speaks], sender="bug@in.example")
        await trio.testing.wait_all_tasks_blocked()
        assert client.ended.is_set()
        assert len(world.events("session_failed")) == 1
        assert world.messages["a1"] == messages
        await other.play(f"C: .\nS: {TAKEN}")
        await other.quit()
