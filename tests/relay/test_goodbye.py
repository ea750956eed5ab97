"""The Gateway's nursery, where next hops are told QUIT."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from world import Hop, World

from mailgate.session.client import ClientSession


async def test_a_goodbye_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    """Promise 8: the message has its outcome, and others are served as before."""

    async def fails(session: ClientSession, within: float) -> None:
        await trio.aclose_forcefully(session.stream)
        raise OSError("a stream of some other kind")

    monkeypatch.setattr(ClientSession, "farewell", fails)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        for _ in range(2):
            assert (await client.transact("u@a.example")).outcomes == ("250 2.0.0 taken",)
            await trio.testing.wait_all_tasks_blocked()
        assert [event["log_level"] for event in world.events("farewell_failed")] == ["error", "error"]
