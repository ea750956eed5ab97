"""Several next hops and a client that tries again: the table of what may fail, and that every story ends well."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

import pytest
import trio
from store import MemoryStore
from together_cases import BLIND, FAULTS, HANDED, NONE_HERE, ROWS, Client, Fault, Memory, Retry, Row, Setting
from trio.testing import MockClock
from world import CONTENT, Hop, World, wire
from world import Client as Sender

from mailgate.relay.settings import SeveralNextHops
from mailgate.testing import Script

PAUSE = 60
"""seconds until the client tries again"""

ROUNDS = 8
"""transactions after which it has tried too often"""

FORGETFUL = (*BLIND, NONE_HERE, HANDED[1])
"""settings under which the retry of a mixed outcome may find no entry in a ledger"""

MESSAGE = CONTENT + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20


def world_of(nursery: trio.Nursery, row: Row, memory: Memory) -> World:
    """Two gateways before the next hops `a`, `b` and `c`."""
    fault = FAULTS[row.fails]
    return World(
        nursery,
        *(Hop(name, *fault.scripts.get(name, (Script(),))) for name in "abc"),
        several_next_hops=SeveralNextHops.APART if row.client is Client.APART else SeveralNextHops.TOGETHER,
        handover=Script() if memory is Memory.HANDOVER else None,
        ledger=memory is not Memory.NONE,
        store=MemoryStore() if memory is Memory.SHARED else None,
        gateways=2,
    )


class Story:
    """What happens to one message, told as `together_cases` does."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client
        self._seen = dict.fromkeys(world.mtas, 0)
        self.told: list[str] = []

    async def transaction(self, offered: Sequence[str], gateway: int) -> list[str]:
        """One transaction on a connection of its own; whoever is to be offered again."""
        client = await self._world.client("lmtp" if self._client is Client.LMTP else "smtp", gateway=gateway)
        prdr = self._client is Client.PRDR and len(offered) > 1
        told = await client.envelope(*(f"u@{name}.example" for name in offered), parameters=" PRDR" if prdr else "")
        heard = dict(zip(offered, told.rcpts, strict=True))
        accepted = [name for name, answer in heard.items() if answer.startswith("2")]
        seconds = 0
        if accepted:
            await client.play("C: DATA")
            data = await client.reply()
            replies = [data]
            if data.startswith("3"):
                began = await self._send(client)
                due = len(accepted) if self._client is Client.LMTP else len(accepted) + 2 if prdr else 1
                replies = [await client.reply() for _ in range(due)]
                seconds = round(trio.current_time() - began)
            each = replies[1:-1] if prdr else replies
            heard |= zip(accepted, each if len(each) > 1 else each * len(accepted), strict=True)
        await client.quit()
        words = [f"{name}{answer[:3]}" for name, answer in heard.items()] + self._copies()
        self.told.append(" ".join([*words, f"@{seconds}"] if seconds else words))
        return [name for name, answer in heard.items() if answer.startswith("4")]

    async def _send(self, client: Sender) -> float:
        """Send the message, its second half a second after the first; when it was through."""
        data = wire(MESSAGE)
        await client.send(data[: len(data) // 2])
        await trio.sleep(1)
        await client.send(data[len(data) // 2 :])
        return trio.current_time()

    def _copies(self) -> list[str]:
        """Who got the message since it was last asked."""
        copies = []
        for host, mta in self._world.mtas.items():
            for message in mta.messages[self._seen[host] :]:
                for recipient, reply in zip(message.recipients, message.replies, strict=True):
                    if reply == "" or reply.startswith("2"):
                        doubt = "" if reply else "?"
                        copies.append(f"+{recipient[2]}{doubt}{'/h' if host == 'handover' else ''}")
            self._seen[host] = len(mta.messages)
        return sorted(copies)


async def until_gone(world: World, fault: Fault) -> None:
    await trio.sleep(fault.gone_from)
    world.network.refuse(world.address(f"{fault.gone}1"))


CASES = {
    f"{row.fails}, {row.client.value}, {memory.value}, {retry.value}": (row, (memory, retry))
    for row in ROWS
    for memory, retry in row.settings
}


def test_no_case_is_there_twice() -> None:
    assert len(CASES) == sum(len(row.settings) for row in ROWS)
    assert {row.fails for row in ROWS} == set(FAULTS)


@pytest.mark.parametrize(("row", "setting"), CASES.values(), ids=CASES)
def test_the_story_ends_well(row: Row, setting: Setting) -> None:
    """Each recipient is delivered, or refused by its own next hop, and one that is delivered has one copy."""
    words = row.story.replace("|", "").split()
    last = {word[0]: word[1:] for word in words if word[0] in "abc"}
    copies = collections.Counter(word[1] for word in words if word.startswith("+") and not word.endswith("?"))
    refused = set(re.findall(r"\b([abc]) (?:RCPT |DATA )?5\d\d", row.fails))
    queued = {word[1] for word in words if word.endswith("/h")}
    most = 3 if row.client is Client.TOGETHER and setting in FORGETFUL else 1
    for name, code in last.items():
        if code == "250":
            assert 1 <= copies[name] <= most
        else:
            assert (code, copies[name]) in (("550", 0), ("554", 0))
        assert (code != "250") == (name in refused - queued)
    in_doubt = {word[1] for word in words if word.endswith("?")}
    assert in_doubt == set(re.findall(r"\b([abc]) silent", row.fails))


@pytest.mark.parametrize(("row", "setting"), CASES.values(), ids=CASES)
async def test_story(row: Row, setting: Setting, autojump_clock: MockClock) -> None:
    memory, retry = setting
    fault = FAULTS[row.fails]
    async with trio.open_nursery() as nursery, world_of(nursery, row, memory) as world:
        story = Story(world, row.client)
        left = list("abc")
        if fault.gone:
            world.nursery.start_soon(until_gone, world, fault)
            await trio.testing.wait_all_tasks_blocked()
        while left and len(story.told) < ROUNDS:
            gateway = len(story.told) % 2 if retry is Retry.THERE else 0
            left = await story.transaction(left, gateway)
            if fault.gone:
                world.network.restore(world.address(f"{fault.gone}1"))
            await trio.sleep(PAUSE)
        assert " | ".join(story.told) == row.story
