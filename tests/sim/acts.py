"""What is done with a gateway to see what a mutant changes."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio
from world import Client, Hop, Speaks, World, wire

from mailgate.network import NoAnswer
from mailgate.relay.settings import Limits
from mailgate.testing import Script
from mailgate.testing.streams import reset

NEVER = 1000
"""seconds after which something is not going to happen"""

Act = Callable[[World], Awaitable[object]]
"""does something with a gateway, and gives what is seen of it"""

# What is seen of a gateway


def outcomes(*recipients: str, speaks: Speaks = "smtp") -> Act:
    """What is told behind the dot."""

    async def act(world: World) -> object:
        client = await world.client(speaks)
        return (await client.transact(*recipients)).outcomes

    return act


def answers(*recipients: str) -> Act:
    """What is told at RCPT."""

    async def act(world: World) -> object:
        return (await (await world.client()).envelope(*recipients)).rcpts

    return act


async def no_path(world: World) -> object:
    world.network.refuse(world.address("a1"))
    return await answers("u@a.example")(world)


async def other_listener(world: World) -> object:
    world.listeners["smtp"] = dataclasses.replace(world.listeners["smtp"], routes=())
    return await answers("u@a.example")(world)


async def after_a_repair(world: World) -> object:
    await no_path(world)
    world.network.restore(world.address("a1"))
    await trio.sleep(60)
    return await answers("u@a.example")(world)


async def duplicate(world: World) -> object:
    """Everything that is said behind the dot within a minute, and to the command behind it."""
    client = await begun(world, "lmtp", "u@a.example", "u@a.example")
    await client.send(wire(b"hello\r\n") + b"NOOP\r\n")
    replies = []
    with trio.move_on_after(60):
        while True:
            replies.append(await client.reply())
    return tuple(replies)


async def paths_tried(world: World) -> object:
    """How many hosts got the message."""
    await (await world.client()).transact("u@a.example")
    return tuple(world.messages.values())


async def unknown(world: World) -> object:
    """How the outcome is counted."""
    await (await world.client()).transact("u@a.example")
    await trio.sleep(1)
    return dict(world.gateway.counts)


async def half(world: World) -> object:
    """How many messages the next hop has got while the client is in the middle of its one."""
    client = await begun(world, "smtp", "u@a.example")
    await client.send(b"half a line \r\n" * 100)
    await trio.sleep(1)
    return world.messages["a1"]


async def half_and_gone(world: World) -> object:
    client = await begun(world, "smtp", "u@a.example")
    await client.send(b"half a line \r\n" * 100)
    await client.stream.aclose()
    await trio.sleep(1)
    return world.messages["a1"]


async def begun(world: World, speaks: Speaks, *recipients: str) -> Client:
    """A client with its 354."""
    client = await world.client(speaks)
    await client.envelope(*recipients)
    await client.play("C: DATA\nS: 354 ...")
    return client


async def patience(world: World) -> object:
    """When a transaction is through, in seconds; None: it is not."""
    began = trio.current_time()
    with trio.move_on_after(NEVER):
        await (await world.client()).transact("u@a.example")
        return trio.current_time() - began
    return None


async def tasks(world: World) -> object:
    """Of the gateway, once it was told to stop and has had time."""
    client = await world.client()
    await client.transact("u@a.example")
    await client.quit()
    await world.gateway.drain()
    await trio.sleep(NEVER)
    return sum("Gateway" in task.name for task in world.nursery.child_tasks)


async def streams(world: World) -> object:
    """With next hops, a minute after a transaction."""
    await (await world.client()).transact("u@a.example")
    await trio.sleep(60)
    return world.network.open_streams


async def files(world: World) -> object:
    """More than there were, after a transaction with a big message."""
    before = len(os.listdir("/proc/self/fd"))
    client = await world.client()
    await client.transact("u@a.example", content=b"a line of it\r\n" * 100)
    await trio.sleep(1)
    return len(os.listdir("/proc/self/fd")) - before


async def others(world: World) -> object:
    """Whether a client has been sent away by the break of another one's connection."""
    client, other = await world.client(), await world.client()
    await reset(other.stream)
    await trio.sleep(1)
    return client.ended.is_set()


async def killed(world: World) -> object:
    """Sessions that ended in an exception."""
    client = await world.client("lmtp")
    with trio.move_on_after(60):
        await client.play("C: MAIL FROM:<s@in.example>\nC: RCPT TO:<u@a.example>\nC: NOOP")
        await client.ended.wait()
    return len(world.events("session_failed"))


async def beginning(world: World) -> object:
    """Whether the last host has got the message from its beginning on."""
    await (await world.client()).transact("u@a.example", content=b"it begins" + b"." * 140_000 + b"\r\n")
    got = [message.content for mta in world.mtas.values() for message in mta.messages]
    return b"it begins" in got[-1]


async def second_lookup(world: World) -> object:
    """What is told at RCPT before and after DNS has been mended."""
    mail = world.network.records.pop(("a.example", "MX"))
    world.network.records["a.example", "MX"] = NoAnswer.TEMPORARY
    first = await answers("u@a.example")(world)
    world.network.records["a.example", "MX"] = mail
    await trio.sleep(60)
    return first, await answers("u@a.example")(world)


async def down(world: World) -> object:
    """Paths that a transaction has marked."""
    with trio.move_on_after(NEVER):
        await (await world.client()).transact("u@a.example")
    return len(world.events("path_down"))


async def stranger(world: World) -> object:
    """What a client is told that its listener does not admit."""
    nobody = (ipaddress.ip_network("198.51.100.0/24"),)
    world.listeners["smtp"] = dataclasses.replace(world.listeners["smtp"], clients=nobody)
    return (await (await world.client(greeted=False)).reply())[:3]


async def one_by_one(world: World) -> object:
    """Messages that each host got, of one for each of two next hops."""
    client = await world.client()
    for recipient in ("u@a.example", "v@b.example"):
        await client.transact(recipient)
    return tuple(world.messages.values())


async def goodbye(world: World) -> object:
    """Seconds from a client's QUIT until nothing is left of it."""
    client = await world.client()
    began = trio.current_time()
    await client.quit()
    await client.ended.wait()
    return trio.current_time() - began


async def welcome(world: World) -> object:
    """The kinds of reply to a hundred clients' MAIL."""
    return sorted({(await (await world.client()).envelope()).mail[:3] for _ in range(100)})


async def quietly_down(world: World) -> object:
    """Paths that a transaction has marked, by the log and in truth."""
    said = await down(world)
    return said, sum(path.down_since is not None for path in world.gateway._shared.health.records().paths)


async def commits(world: World) -> object:
    await (await world.client()).transact("u@a.example")
    return len(world.events("committing"))


@dataclass(frozen=True, slots=True)
class Case:
    """What a mutant changes."""

    hops: tuple[Hop, ...]
    act: Act
    sound: object
    mutated: object
    limits: Limits = field(default_factory=Limits)


def one(script: Script, *more: Script) -> tuple[Hop, ...]:
    return (Hop("a", script, *more),)


def two(first: Script, second: Script) -> tuple[Hop, ...]:
    return (Hop("a", first), Hop("b", second))
