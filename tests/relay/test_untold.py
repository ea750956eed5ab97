"""A delivery that the client was told of, and whether there is a sign that it has heard so."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from world import Hop, World

from mailgate.testing import Script, reset

MESSAGE = "C: MAIL FROM:<s@c.example>\nS: 250 ...\nC: RCPT TO:<u@a.example>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: x\n"
TAKEN = "S: 250 2.0.0 taken"

# what the client does from its dot on; how it leaves; is it untold
CASES = {
    "QUIT afterwards": (f"C: .\n{TAKEN}\nC: QUIT\nS: 221 ...", "closes", False),
    "QUIT with the dot, read and closed": (f"C: .\nC: QUIT\n{TAKEN}\nS: 221 ...\nS.", "closes", False),
    "QUIT with the dot, read, never closed": (f"C: .\nC: QUIT\n{TAKEN}\nS: 221 ...\nS.", "stays", False),
    "QUIT with the dot, reset": ("C: .\nC: QUIT", "resets", True),
    "QUIT and half-closed with the dot": (f"C: .\nC: QUIT\nC/\n{TAKEN}\nS: 221 ...\nS.", "stays", False),
    "closed after the reply": (f"C: .\n{TAKEN}", "closes", False),
    "reset after the reply": (f"C: .\n{TAKEN}", "resets", True),
    "silent after the reply, then closed": (f"C: .\n{TAKEN}", "waits and closes", False),
    "silent after the reply, for ever": (f"C: .\n{TAKEN}", "stays", False),
    "another command, then reset": (f"C: .\n{TAKEN}\nC: NOOP\nS: 250 ...", "resets", False),
    "MAIL and RSET that came with the dot, then reset": ("C: .\nC: MAIL FROM:<s@c.example>\nC: RSET", "resets", True),
    "another message, then reset": (f"C: .\n{TAKEN}\n{MESSAGE}C: .\n{TAKEN}", "resets", True),
}


def _named(world: World) -> list[list[str]]:
    return [[str(mailbox) for mailbox in event["to"]] for event in world.events("untold")]


@pytest.mark.parametrize(("dialog", "leaves", "untold"), CASES.values(), ids=CASES)
async def test_untold(dialog: str, leaves: str, untold: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        await client.play(MESSAGE + dialog)
        match leaves:
            case "closes":
                await client.play("C.")
            case "resets":
                await trio.sleep(0.1)
                await reset(client.stream)
            case "waits and closes":
                await client.play("S: 421 ...\nC.")
            case _:
                pass
        await client.ended.wait()
        assert _named(world) == ([["u@a.example"]] if untold else [])
        assert world.gateway.counts["untold"] == untold


async def test_every_recipient_is_named(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        client = await world.client("lmtp")
        await client.transact("u@a.example", "u@b.example")
        await reset(client.stream)
        await client.ended.wait()
        assert _named(world) == [["u@a.example", "u@b.example"]]


async def test_a_refused_message_is_never_untold(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot="554 5.6.0 no"))) as world:
        client = await world.client()
        await client.transact("u@a.example")
        await reset(client.stream)
        await client.ended.wait()
        assert _named(world) == []
