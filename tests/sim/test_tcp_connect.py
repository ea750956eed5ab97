"""How connections are opened: when, and why not."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import TcpAddress
from sim.net_bench import NOBODY, SERVER, Bench, bench
from sim.tcp import Way

PORT = TcpAddress(SERVER, 25)


def lost_for_2_s(one: Bench) -> None:
    one.internet.on_connect = lambda connection: connection.drop(2)


def answer_lost_for_2_s(one: Bench) -> None:
    one.internet.on_connect = lambda connection: connection.drop(2, Way.TO_CLIENT)


def server_down_for_2_s(one: Bench) -> None:
    one.internet.on_connect = lambda connection: one.server.crash(2)


def refused_after_2_s(one: Bench) -> None:
    lost_for_2_s(one)
    one.server.refuse(4)


def refused_by_a_fault(one: Bench) -> None:
    one.internet.on_connect = lambda connection: connection.refuse()


def reset_by_a_fault(one: Bench) -> None:
    one.internet.on_connect = lambda connection: connection.reset()


def refused_by_the_network(one: Bench) -> None:
    one.link.refuse(1)


def refused_by_the_host(one: Bench) -> None:
    one.server.refuse(1)


def lost_for_good(one: Bench) -> None:
    one.link.drop(math.inf)


def nothing(one: Bench) -> None:
    """Nobody breaks anything."""


@pytest.mark.parametrize(
    ("break_", "to", "error", "after"),
    [
        (nothing, PORT, None, 0.02),
        (nothing, TcpAddress(SERVER, 26), errno.ECONNREFUSED, 0.02),
        (nothing, TcpAddress(NOBODY, 25), errno.ETIMEDOUT, 127),
        (lost_for_2_s, PORT, None, 3.02),
        (answer_lost_for_2_s, PORT, None, 3.02),
        (refused_after_2_s, PORT, errno.ECONNREFUSED, 3.02),
        (server_down_for_2_s, PORT, errno.ECONNREFUSED, 3.02),  # it listens for this test, and does so no more
        (refused_by_a_fault, PORT, errno.ECONNREFUSED, 0),
        (reset_by_a_fault, PORT, errno.ECONNREFUSED, 0),
        (refused_by_the_network, PORT, errno.ECONNREFUSED, 0),
        (refused_by_the_host, PORT, errno.ECONNREFUSED, 0.02),
        (lost_for_good, PORT, errno.ETIMEDOUT, 127),
    ],
)
async def test_connect(
    break_: Callable[[Bench], None], to: TcpAddress, error: int | None, after: float, autojump_clock: MockClock
) -> None:
    async with bench() as one:
        await (await one.network(one.server)).listen(PORT)
        client = await one.network(one.client)
        break_(one)
        seen = None
        try:
            await client.connect(to)
        except OSError as refusal:
            seen = refusal.errno
        assert seen == error
        assert trio.current_time() == pytest.approx(after)
        session = one.history.sessions[0]
        assert session.error == ("" if error is None else os.strerror(error))
        assert (list(one.internet.connections), one.client.streams) == ([0] * (error is None), error is None)


async def test_a_connect_that_is_given_up_leaves_nothing(autojump_clock: MockClock) -> None:
    async with bench() as one:
        incoming = await (await one.network(one.server)).listen(PORT)
        client = await one.network(one.client)
        with trio.move_on_after(0.015):  # the server's answer is on its way
            await client.connect(PORT)
        with trio.move_on_after(10) as waiting:
            await incoming.accept()
        assert waiting.cancelled_caught
        assert one.history.sessions[0].error == "given up"
        assert (one.internet.connections, one.client.ends, one.server.ends) == ({}, {}, {})


@pytest.mark.parametrize(
    ("lost_until", "accepted"), [(0, 0.03), (2, 3.03), (40, None)], ids=["at once", "asked for again", "never"]
)
async def test_what_confirms_a_connection_is_lost(
    lost_until: float, accepted: float | None, autojump_clock: MockClock
) -> None:
    async with bench() as one:
        incoming = await (await one.network(one.server)).listen(PORT)
        # The server's answer is on its way then.
        one.internet.on_connect = lambda connection: one.internet.timeline.at(0.015, connection.drop, lost_until)
        client = await (await one.network(one.client)).connect(PORT)
        seen = None
        with trio.move_on_after(200):
            await incoming.accept()
            seen = trio.current_time()
        assert seen == (None if accepted is None else pytest.approx(accepted))
        if accepted is None:
            await client.send_all(b"anybody there?")
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()


async def test_octets_confirm_a_connection_too(autojump_clock: MockClock) -> None:
    async with bench() as one:
        incoming = await (await one.network(one.server)).listen(PORT)
        one.internet.on_connect = lambda connection: one.internet.timeline.at(0.015, connection.drop, 0.5)
        client = await (await one.network(one.client)).connect(PORT)
        await trio.sleep_until(0.6)
        await client.send_all(b"hello")
        await incoming.accept()
        assert trio.current_time() == pytest.approx(0.61)
