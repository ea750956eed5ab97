"""The Gateway's nursery, where next hops are told QUIT."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from world import Hop, World

from mailgate.session.client import ClientSession


async def test_a_goodbye_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    """Promise 8: the message has its outcome, others are served as before, and the room for a session is free."""

    async def fails(session: ClientSession, within: float) -> None:
        await trio.aclose_forcefully(session.stream)
        raise OSError("a stream of some other kind")

    monkeypatch.setattr(ClientSession, "farewell", fails)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        for _ in range(2):
            assert (await client.transact("u@a.example")).outcomes == ("250 2.0.0 taken",)
            await trio.sleep(world.settings.timeouts.idle + 0.1)  # for so long the session is kept
        failed = world.events("background_failed")
        assert [(event["log_level"], event["task"]) for event in failed] == [("error", "_say_goodbye")] * 2
        assert world.gateway._shared.upstreams.held == 0
