"""Connections: what Trio asks of streams, faults and their times, and what a tap is told."""

from __future__ import annotations

import errno
import math
import os
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream

from mailgate.network import TcpAddress
from sim.links import Toward
from sim.net_bench import CLIENT, SERVER, Bench, bench
from sim.net_stream import SimStream
from sim.records import End
from sim.tcp import CAPACITY, Way

PORT = TcpAddress(SERVER, 25)


# What Trio asks of every stream.


@pytest.mark.parametrize(
    ("latency", "capacity"), [(0.0, 65_536), (0.05, 65_536), (0.0, 2_000), (0.05, 20_000)], ids=str
)
async def test_it_is_a_stream(latency: float, capacity: int, autojump_clock: MockClock) -> None:
    async with bench(latency=latency, capacity=capacity) as one:

        async def clogged() -> tuple[SimStream, SimStream]:
            near, far = await one.pair()
            for stream in (near, far):
                await stream.send_all(bytes(capacity))
            return near, far

        await check_half_closeable_stream(one.pair, clogged)


# How long it takes.


async def test_times_of_an_exchange(autojump_clock: MockClock) -> None:
    async with bench() as one:
        server = await (await one.network(one.server)).listen(PORT)
        client = await (await one.network(one.client)).connect(PORT)
        await client.send_all(b"hello")
        far, _, _ = await server.accept()
        await far.receive_some()
        await far.send_all(b"bye")
        await far.aclose()
        await client.receive_some()
        await client.receive_some()
        await client.aclose()
        there, back = Way.TO_SERVER, Way.TO_CLIENT
        assert one.taps[0].told == [
            (0.02, "opened"),
            (0.02, (there, b"hello")),
            (0.03, (there, 5)),
            (0.03, (back, b"bye")),
            (0.03, (back, End.FIN)),
            (0.04, (back, 3)),
            (0.04, (there, End.FIN)),
        ]


async def test_a_network_takes_in_so_many_octets_per_second(autojump_clock: MockClock) -> None:
    async with bench(latency=0) as one:
        one.link.bandwidth = 10_000.0
        near, far = await one.pair()
        began = trio.current_time()
        await near.send_all(bytes(50_000))
        await _receive(far, 50_000)
        assert trio.current_time() - began == pytest.approx(5)


async def test_what_is_under_way_is_limited_by_the_buffers(autojump_clock: MockClock) -> None:
    """Each 64 KiB wait for the acknowledgement of those before."""
    async with bench(latency=1) as one:
        one.link.bandwidth = math.inf
        near, far = await one.pair()
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(near.send_all, bytes(4 * 65_536))
            await _receive(far, 4 * 65_536)
            assert trio.current_time() - began == pytest.approx(7)


async def _receive(stream: SimStream, octets: int) -> None:
    while octets > 0:
        octets -= len(await stream.receive_some())
    assert octets == 0


# What is lost is sent again after 0.2, 0.4, 0.8 … s: the first time after the loss has ended 1.4 s after it began.


def connection_to_server(one: Bench, until: float) -> None:
    one.connection.drop(until, Way.TO_SERVER)


def connection_to_client(one: Bench, until: float) -> None:
    one.connection.drop(until, Way.TO_CLIENT)


def connection_both_ways(one: Bench, until: float) -> None:
    one.connection.drop(until)


def network(one: Bench, until: float) -> None:
    one.link.drop(until)


def network_outward(one: Bench, until: float) -> None:
    one.link.drop(until, Toward.OUT)


def network_inward(one: Bench, until: float) -> None:
    one.link.drop(until, Toward.IN)


def address_of_the_server(one: Bench, until: float) -> None:
    one.server.lose_address(SERVER, until)


def address_of_the_client(one: Bench, until: float) -> None:
    one.client.lose_address(CLIENT, until)


def shorter_one_later(one: Bench, until: float) -> None:
    one.connection.drop(until)
    one.connection.drop(until - 0.9)


@pytest.mark.parametrize(
    ("lose", "arrived", "answered"),
    [
        (connection_to_server, 1.41, 1.42),
        (connection_to_client, 0.01, 1.42),
        (connection_both_ways, 1.41, 1.42),
        (network, 1.41, 1.42),
        (network_outward, 1.41, 1.42),
        (network_inward, 1.41, 1.42),
        (address_of_the_server, 1.41, 1.42),
        (address_of_the_client, 1.41, 1.42),
        (shorter_one_later, 1.41, 1.42),
    ],
)
async def test_what_was_lost_is_sent_again(
    lose: Callable[[Bench, float], None], arrived: float, answered: float, autojump_clock: MockClock
) -> None:
    async with bench() as one:
        near, far = await one.pair()
        began = trio.current_time()
        lose(one, began + 1)
        await near.send_all(b"question")
        assert await far.receive_some() == b"question"
        assert trio.current_time() - began == pytest.approx(arrived, abs=0.001)
        await far.send_all(b"answer")
        assert await near.receive_some() == b"answer"
        assert trio.current_time() - began == pytest.approx(answered, abs=0.02)


async def test_what_is_held_back_sets_out_when_an_acknowledgement_comes(autojump_clock: MockClock) -> None:
    async with bench(latency=0.05) as one:
        near, far = await one.pair()
        connection, began = one.connection, trio.current_time()
        await near.send_all(b"a")
        await trio.sleep(0.03)
        await near.send_all(b"b")
        await trio.sleep(0.01)
        connection.drop(began + 0.06, Way.TO_CLIENT)  # the acknowledgement of the first
        await trio.sleep(0.03)
        await near.send_all(b"c")
        await _receive(far, 3)
        assert trio.current_time() - began == pytest.approx(0.13, abs=0.001)


async def test_order_and_end_survive_loss(autojump_clock: MockClock) -> None:
    async with bench(seed=3) as one:
        near, far = await one.pair()
        octets = random.Random(3).randbytes(300_000)
        connection = one.connection

        async def send() -> None:
            for start in range(0, len(octets), 7_000):
                await near.send_all(octets[start : start + 7_000])
                await trio.sleep(0.03)
            await near.aclose()

        async def lose() -> None:
            chance = random.Random(4)
            while one.internet.connections:
                connection.drop(trio.current_time() + chance.random(), chance.choice((None, *Way)))
                await trio.sleep(2 * chance.random())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(lose)
            received = b""
            while piece := await far.receive_some():
                received += piece
            await far.aclose()
        assert received == octets


async def test_octets_written_before_a_close_are_still_sent_again(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.drop(trio.current_time() + 40)
        await near.send_all(b"last words")
        await near.aclose()
        assert await far.receive_some() == b"last words"
        assert await far.receive_some() == b""


@pytest.mark.parametrize(
    ("close", "after"), [(False, 924), (True, None)], ids=["924 s", "102 s, when it was closed: nobody is told"]
)
async def test_tcp_gives_up(close: bool, after: float | None, autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        began = trio.current_time()
        one.connection.drop(began + 102 if close else math.inf)
        await near.send_all(b"question")
        if close:
            await near.aclose()
            await trio.sleep(103)
            assert one.client.ends == {}
        else:
            with pytest.raises(trio.BrokenResourceError, match=os.strerror(errno.ETIMEDOUT)):
                await near.receive_some()
            assert trio.current_time() - began == pytest.approx(924)
        assert [what for _, what in one.taps[0].told].count("broke") == (not close)
        await far.send_all(b"are you there?")  # its host hears that nobody is
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()


async def test_tcp_gives_up_where_only_acknowledgements_are_lost(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        began = trio.current_time()
        one.connection.drop(math.inf, Way.TO_CLIENT)
        await near.send_all(b"question")
        assert await far.receive_some() == b"question"
        with pytest.raises(trio.BrokenResourceError, match=os.strerror(errno.ETIMEDOUT)):
            await near.receive_some()
        assert trio.current_time() - began == pytest.approx(924, abs=0.02)


async def test_room_that_there_is_takes_no_time(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        await near.send_all(bytes(CAPACITY))
        await _receive(far, CAPACITY)
        began = trio.current_time()
        await near.send_all(bytes(CAPACITY))
        assert trio.current_time() == began


async def test_a_writer_that_waits_for_room_finds_out_too(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, _ = await one.pair()
        await near.send_all(bytes(CAPACITY))
        await trio.sleep(100)
        began = trio.current_time()
        one.connection.drop(math.inf)
        with pytest.raises(trio.BrokenResourceError, match=os.strerror(errno.ETIMEDOUT)):
            await near.send_all(b"more")
        assert trio.current_time() - began == pytest.approx(924)


async def test_room_is_told_though_the_first_word_of_it_was_lost(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, bytes(CAPACITY + 1))
            await trio.sleep(1)
            one.connection.drop(trio.current_time() + 100)
            await _receive(far, CAPACITY)
            with trio.fail_after(200):
                await _receive(far, 1)


# Faults in a connection that stands.


async def test_a_reset_reaches_both_ends_at_once(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.reset()
        began = trio.current_time()
        for stream in (near, far):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        assert trio.current_time() == began
        assert not one.internet.connections
        assert [what for _, what in one.taps[0].told] == ["opened", "broke", "broke"]


async def test_who_sends_nothing_does_not_learn_that_it_is_half_open(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.forget()
        await near.send_all(b"question")
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        await near.aclose()
        with trio.move_on_after(10_000) as waiting:
            await far.receive_some()
        assert waiting.cancelled_caught
        assert one.server.ends == {far: None}
        assert [what for _, what in one.taps[0].told][1:] == [
            (Way.TO_SERVER, b"question"),
            "broke",
            (Way.TO_SERVER, End.FIN),
        ]


async def test_half_open_keeps_resets_from_the_other_side(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.forget()
        near.reset()
        with trio.move_on_after(10_000) as waiting:
            await far.receive_some()
        assert waiting.cancelled_caught


async def test_a_reset_does_not_overtake_octets(autojump_clock: MockClock) -> None:
    async with bench() as one:
        one.link.bandwidth = 1_000.0
        near, far = await one.pair()
        await near.send_all(bytes(5_000))
        near.reset()
        await _receive(far, 5_000)
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()


@pytest.mark.parametrize("rate", [0.5, 3, 30])
async def test_a_slow_reader(rate: float, autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.limit(Way.TO_SERVER, reads=rate)
        began = trio.current_time()
        await near.send_all(bytes(300))
        assert trio.current_time() == began
        await _receive(far, 300)
        assert trio.current_time() - began == pytest.approx(300 / rate - max(1, 1 / rate), abs=0.1)


@pytest.mark.parametrize("rate", [0.5, 3, 30])
async def test_a_slow_writer(rate: float, autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, _ = await one.pair()
        one.connection.limit(Way.TO_SERVER, writes=rate)
        began = trio.current_time()
        await near.send_all(bytes(300))
        assert trio.current_time() - began == pytest.approx(300 / rate - max(1, 1 / rate), abs=0.1)


async def test_a_slow_program_is_fast_again(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.limit(Way.TO_SERVER, reads=0.001, writes=0.001)
        one.internet.timeline.at(10, one.connection.limit, Way.TO_SERVER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, bytes(300))
            await _receive(far, 300)
        assert trio.current_time() == pytest.approx(10, abs=0.1)


async def test_what_a_tap_does_comes_before_what_was_written(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        tap = one.taps[0]
        tap.on_written = one.connection.reset
        await near.send_all(b"never")
        assert (Way.TO_SERVER, 5) not in [what for _, what in tap.told]
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()


async def test_a_host_that_a_tap_crashes_sends_nothing_more(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.taps[0].on_written = lambda: one.client.crash(1000)
        await near.send_all(b"never")
        with trio.move_on_after(500) as waiting:
            await far.receive_some()
        assert waiting.cancelled_caught


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda near: near.reset(), [End.RESET]),
        (lambda near: near.connection.reset(), ["broke", "broke", End.FIN]),
        (lambda near: near.host.crash(1000), [End.DETACHED]),
        (lambda near: (near.connection.reset(), near.host.crash(1000)), ["broke", "broke", End.DETACHED]),
        (lambda near: None, [End.FIN]),
    ],
    ids=["reset", "reset by nobody", "crash", "reset by nobody, then crash", "close"],
)
async def test_how_an_end_is_told(
    end: Callable[[SimStream], object], how: list[object], autojump_clock: MockClock
) -> None:
    async with bench() as one:
        near, _ = await one.pair()
        end(near)
        await near.aclose()
        await trio.sleep(1)
        assert [what[1] if isinstance(what, tuple) else what for _, what in one.taps[0].told][1:] == how


async def test_octets_left_unread_make_a_reset_of_a_close(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        await far.send_all(b"unread")
        await trio.sleep(1)
        await near.aclose()
        assert one.taps[0].told[-1][1] == (Way.TO_SERVER, End.RESET)
