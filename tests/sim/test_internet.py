"""Hosts: their programs, crashes, addresses and DNS."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import Answer, NoAnswer, NoSuchSource, TcpAddress, UnixAddress
from sim.hosts import Host, HostNetwork
from sim.net_bench import CLIENT, NOBODY, SERVER, Bench, bench
from sim.records import Crash, End, Looked
from sim.tcp import Way

PORT = TcpAddress(SERVER, 25)


# Programs.


async def test_programs_start_anew_after_a_crash(autojump_clock: MockClock) -> None:
    async with bench() as one:
        seen: list[tuple[str, float]] = []

        async def program(network: HostNetwork) -> None:
            seen.append(("starts", trio.current_time()))
            try:
                await trio.sleep_forever()
            finally:
                seen.append(("ends", trio.current_time()))

        one.server.start(program)
        await trio.sleep(10)
        one.server.crash(50)
        one.server.crash(1000)  # it is down already
        assert not one.server.up
        await trio.sleep(100)
        assert seen == [("starts", 0), ("ends", 10), ("starts", 50)]
        assert (one.server.up, one.server.life) == (True, 1)
        assert one.history.crashes == [Crash("server", 0, 10, 50)]


async def test_a_program_given_to_a_host_that_is_down_starts_with_it(autojump_clock: MockClock) -> None:
    async with bench() as one:
        host = one.internet.host("new", {NOBODY: "net"})
        host.crash(50)
        started = trio.Event()

        async def program(network: HostNetwork) -> None:  # noqa: ASYNC124
            started.set()

        host.start(program)
        await started.wait()
        assert trio.current_time() == 50


async def test_what_a_program_raises_ends_the_run(autojump_clock: MockClock) -> None:
    async def program(network: HostNetwork) -> None:  # noqa: ASYNC124
        raise ValueError("a mistake")

    one = Bench()
    one.server.start(program)
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        await one.internet.run()


async def test_what_a_program_raises_as_it_is_cancelled_ends_the_run(autojump_clock: MockClock) -> None:
    async def program(network: HostNetwork) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("a mistake")

    one = Bench()
    one.server.start(program)
    one.internet.timeline.at(1, one.server.crash, 2)
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        await one.internet.run()


async def test_what_is_left(autojump_clock: MockClock) -> None:
    async with bench() as one:

        async def child() -> None:
            await trio.sleep_forever()

        async def program(network: HostNetwork) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, name="a child")
                async with await network.listen(PORT) as incoming:
                    await incoming.accept()
                    await trio.sleep(10)
                nursery.cancel_scope.cancel()

        one.server.start(program)
        client = await (await one.network(one.client)).connect(PORT)
        await trio.sleep(5)
        assert (one.client.streams, one.server.streams) == (1, 1)
        assert [name.rpartition(".")[2] for name in one.server.tasks] == ["a child", "program"]
        await trio.sleep(10)
        await client.aclose()
        assert (one.client.streams, one.server.streams) == (0, 1)
        assert one.server.tasks == ()
        for stream in list(one.server.ends):
            await stream.aclose()
        await trio.sleep(10)
        assert (one.client.ends, one.server.ends, one.internet.connections) == ({}, {}, {})


# Crashes.


async def test_a_crash_says_nothing_to_peers(autojump_clock: MockClock) -> None:
    """Not even what programs do as they are cancelled, and not what their host had still to send."""
    async with bench() as one:
        closed: list[float] = []

        async def program(network: HostNetwork) -> None:
            async with await network.listen(PORT) as incoming:
                stream, _, _ = await incoming.accept()
                try:
                    async with stream:
                        await stream.receive_some()
                        stream.connection.drop(12, Way.TO_CLIENT)
                        await stream.send_all(b"still to be sent")
                        await trio.sleep_forever()
                finally:
                    closed.append(trio.current_time())

        one.server.start(program)
        client = await (await one.network(one.client)).connect(PORT)
        idle = await (await one.network(one.client)).connect(PORT)
        await client.send_all(b"question")
        one.internet.timeline.at(10, one.server.crash, 1000)
        for stream in (client, idle):
            with trio.move_on_after(20_000) as waiting:
                await stream.receive_some()
            assert waiting.cancelled_caught
        assert closed == [10]
        told = [[what for _, what in tap.told if what != "opened"] for tap in one.taps]
        assert told[0][-1] == (Way.TO_CLIENT, End.DETACHED)
        assert told[1] == [(Way.TO_CLIENT, End.DETACHED)]


async def test_a_crash_ends_what_programs_have_closed_too(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, far = await one.pair()
        one.connection.drop(12)
        await trio.sleep_until(10)
        await near.send_all(b"on its way for ever")
        await near.aclose()
        one.client.crash(11)
        with trio.move_on_after(10_000) as waiting:
            await far.receive_some()
        assert waiting.cancelled_caught


@pytest.mark.parametrize(("back_at", "told_after"), [(11, 0.02), (14, 3.03)], ids=["at once", "when it is there again"])
async def test_what_is_sent_to_a_life_that_is_over_is_answered_by_a_reset(
    back_at: float, told_after: float, autojump_clock: MockClock
) -> None:
    async with bench() as one:
        near, _ = await one.pair()
        await trio.sleep_until(10)
        one.server.crash(back_at)
        assert one.server.streams == 0
        await trio.sleep_until(12)
        await near.send_all(b"question")
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        assert trio.current_time() - 12 == pytest.approx(told_after, abs=0.001)
        assert one.taps[0].told[-1][1] == "broke"
        await near.aclose()
        assert not one.internet.connections


async def test_one_that_waits_for_room_hears_of_the_crash(autojump_clock: MockClock) -> None:
    async with bench() as one:
        near, _ = await one.pair()
        one.internet.timeline.at(100, one.server.crash, 200)
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(bytes(1_000_000))
        assert 200 < trio.current_time() < 261


async def test_the_network_of_a_life_that_is_over_reaches_nobody(autojump_clock: MockClock) -> None:
    async with bench() as one:
        await (await one.network(one.server)).listen(PORT)
        network = await one.network(one.client)
        one.client.crash(1)
        for _ in range(2):
            with pytest.raises(OSError) as refusal:
                await network.connect(PORT)
            assert refusal.value.errno == errno.ENETDOWN
            with pytest.raises(OSError):
                await network.listen(TcpAddress(CLIENT, 25))
            assert await network.query("mx.example", "A") is NoAnswer.TEMPORARY
            await trio.sleep(2)
        assert not one.history.sessions


async def test_a_crash_of_the_client_while_it_connects(autojump_clock: MockClock) -> None:
    async with bench() as one:
        incoming = await (await one.network(one.server)).listen(PORT)

        async def program(network: HostNetwork) -> None:
            if one.client.life == 0:
                async with await network.connect(PORT):
                    raise ValueError("nobody gets here")

        one.internet.timeline.at(0.015, one.client.crash, 1)
        one.client.start(program)
        with trio.move_on_after(200) as waiting:
            await incoming.accept()
        assert waiting.cancelled_caught
        session = one.history.sessions[0]
        assert (session.error, session.established) == ("given up", None)
        assert one.taps[0].told == []
        assert not one.internet.connections


async def test_the_packets_of_a_connect_end_with_its_host(autojump_clock: MockClock) -> None:
    """Even where the program that called it is still there."""
    async with bench() as one:
        await (await one.network(one.server)).listen(PORT)
        network = await one.network(one.client)
        one.internet.timeline.at(0.015, one.client.crash, 1)
        with trio.move_on_after(200):
            await network.connect(PORT)
        assert one.history.sessions[0].error == "given up"


async def test_a_server_crashes_before_it_accepts(autojump_clock: MockClock) -> None:
    async with bench() as one:

        async def program(network: HostNetwork) -> None:
            await network.listen(PORT)
            await trio.sleep_forever()

        one.server.start(program)
        one.internet.timeline.at(0.015, one.server.crash, 2)
        client = await (await one.network(one.client)).connect(PORT)  # the answer was on its way
        await trio.sleep(5)
        await client.send_all(b"hello")
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


async def test_a_server_comes_back_while_it_is_connected_to(autojump_clock: MockClock) -> None:
    async with bench() as one:

        async def program(network: HostNetwork) -> None:
            await network.listen(PORT)
            await trio.sleep_forever()

        one.server.start(program)
        one.server.crash(2)
        await (await one.network(one.client)).connect(PORT)
        assert trio.current_time() == pytest.approx(3.02)
        assert one.history.sessions[0].server_life == 1


# Addresses and names.


async def test_sources(autojump_clock: MockClock) -> None:
    async with bench() as one:
        one.internet.link("other", latency=0.5)
        two = one.internet.host("two", {"192.0.2.4": "net", "198.51.100.4": "other"})
        far = one.internet.host("far", {"198.51.100.5": "other"})
        network = await one.network(two)
        for host in (one.server, far):
            await (await one.network(host)).listen(TcpAddress("0.0.0.0", 25))
        two.lose_address("192.0.2.4", 100)

        async def seen(to: str, source: str | None = None) -> tuple[str, float]:
            """As which address it comes, and how long it takes."""
            began = trio.current_time()
            try:
                await network.connect(TcpAddress(to, 25), source)
            except NoSuchSource:
                return "none", 0
            address = one.history.sessions[-1].client_address
            assert isinstance(address, TcpAddress)
            return address.ip, round(trio.current_time() - began, 3)

        assert [await seen("198.51.100.5"), await seen(SERVER), await seen(SERVER, "192.0.2.4")] == [
            ("198.51.100.4", 1),
            ("198.51.100.4", 1.02),  # the other address is lost
            ("none", 0),
        ]
        assert [network.has_address(ip) for ip in ("192.0.2.4", "198.51.100.4", SERVER)] == [False, True, False]
        await trio.sleep_until(100)
        assert [await seen(SERVER), await seen(SERVER, "198.51.100.4"), await seen(SERVER, NOBODY)] == [
            ("192.0.2.4", 0.02),
            ("198.51.100.4", 1.02),
            ("none", 0),
        ]
        assert network.has_address("192.0.2.4")


async def test_to_itself(autojump_clock: MockClock) -> None:
    async with bench() as one:
        one.link.drop(1000)
        network = await one.network(one.server)
        incoming = await network.listen(PORT)
        stream = await network.connect(PORT)
        await stream.send_all(b"hello")
        other, _, _ = await incoming.accept()
        assert await other.receive_some() == b"hello"
        assert trio.current_time() == 0


async def test_no_unix_sockets(autojump_clock: MockClock) -> None:
    async with bench() as one:
        network = await one.network(one.server)
        for call in (network.connect, network.listen):
            with pytest.raises(OSError) as refusal:
                await call(UnixAddress("/run/socket"))
            assert refusal.value.errno == errno.EAFNOSUPPORT


async def test_names(autojump_clock: MockClock) -> None:
    async with bench() as one:
        answer, lie = Answer(("192.0.2.2",), 60), Answer((NOBODY,), 60)
        one.internet.records["mx.example", "A"] = answer
        network = await one.network(one.client)

        def asked(host: Host, name: str, record_type: str) -> Answer | None:
            return lie if trio.current_time() > 10 else None

        one.internet.on_query = asked
        seen = [
            await network.query(*query) for query in (("MX.example.", "A"), ("mx.example", "MX"), ("no.example", "A"))
        ]
        await trio.sleep(10)
        seen.append(await network.query("mx.example", "A"))
        assert seen == [answer, NoAnswer.NO_DATA, NoAnswer.NO_SUCH_DOMAIN, lie]
        assert one.history.lookups[0] == Looked("client", 0.02, "mx.example", "A", answer)
        assert [looked.answer for looked in one.history.lookups] == seen
