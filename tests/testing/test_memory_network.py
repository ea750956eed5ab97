"""The network in memory: what a connect, an accept, a query give, and when."""

from __future__ import annotations

import datetime
import errno
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import Address, Answer, Network, NoAnswer, NoSuchSource, TcpAddress, UnixAddress
from mailgate.testing import EPOCH, BoundedStream, Connection, MemoryNetwork, Query, bounded_stream_pair

HOST = TcpAddress("10.0.0.25", 25)
HOST6 = TcpAddress("2001:db8::25", 25)
SOCKET = UnixAddress("/run/lmtp")
SOURCE = "192.0.2.10"


async def _greet(stream: trio.abc.Stream, peer: Address) -> None:
    await stream.send_all(f"hello {peer}".encode())
    await stream.receive_some()


def _fits_the_protocol(network: MemoryNetwork) -> Network:
    return network


async def _linger(stream: trio.abc.Stream, peer: Address) -> None:
    await trio.sleep_forever()


async def _read_and_close(stream: BoundedStream) -> bytes:
    async with stream:
        return await stream.receive_some()


@pytest.mark.parametrize(
    ("address", "source", "seen"),
    [
        pytest.param(HOST, None, b"hello 127.0.0.1:49152", id="v4"),
        pytest.param(HOST, SOURCE, b"hello 192.0.2.10:49152", id="v4-source"),
        pytest.param(HOST6, None, b"hello [::1]:49152", id="v6"),
        pytest.param(SOCKET, None, b"hello unix:", id="unix"),
    ],
)
async def test_a_handler_serves_and_sees_its_client(
    address: Address, source: str | None, seen: bytes, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.serve(address, _greet)
        assert await _read_and_close(await network.connect(address, source)) == seen
    assert network.connections == [Connection(address, source, 0)]


def _delay(network: MemoryNetwork) -> None:
    network.delay(HOST, 7)


def _refuse(network: MemoryNetwork) -> None:
    network.refuse(HOST)


Fault = Callable[[MemoryNetwork], None]

# What was done to HOST, which is served | what a connect from SOURCE gives | after how many seconds
FAULTS: list[tuple[str, list[Fault], int | None, float]] = [
    ("nothing", [], None, 0),
    ("refused", [lambda network: network.refuse(HOST)], errno.ECONNREFUSED, 0),
    ("unreachable", [lambda network: network.refuse(HOST, error=errno.EHOSTUNREACH)], errno.EHOSTUNREACH, 0),
    ("refused-for-this-source", [lambda network: network.refuse(HOST, source=SOURCE)], errno.ECONNREFUSED, 0),
    ("refused-for-another", [lambda network: network.refuse(HOST, source="192.0.2.99")], None, 0),
    ("black-hole", [lambda network: network.black_hole(HOST)], errno.ETIMEDOUT, 100),
    ("delayed", [lambda network: network.delay(HOST, 7)], None, 7),
    ("delayed-less-from-here", [_delay, lambda network: network.delay(HOST, 3, source=SOURCE)], None, 3),
    ("delayed-and-refused", [_delay, _refuse], errno.ECONNREFUSED, 7),
    ("restored", [_delay, _refuse, lambda network: network.restore(HOST)], None, 0),
    ("source-missing", [lambda network: network.remove_source(SOURCE)], errno.EADDRNOTAVAIL, 0),
    (
        "source-back",
        [lambda network: network.remove_source(SOURCE), lambda network: network.restore_source(SOURCE)],
        None,
        0,
    ),
]


@pytest.mark.parametrize(("faults", "error", "seconds"), [pytest.param(*row, id=name) for name, *row in FAULTS])
async def test_faults(faults: list[Fault], error: int | None, seconds: float, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.serve(HOST, _greet)
        for fault in faults:
            fault(network)
        got: int | None = errno.ETIMEDOUT
        with trio.move_on_after(100):
            try:
                await _read_and_close(await network.connect(HOST, SOURCE))
                got = None
            except OSError as raised:
                got = raised.errno
        assert (got, trio.current_time()) == (error, seconds)


async def test_a_missing_source_is_told_from_a_lack_of_ports(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.remove_source(SOURCE)
        with pytest.raises(NoSuchSource, match=r"Cannot assign requested address: 192\.0\.2\.10"):
            await network.connect(HOST, SOURCE)
        network.refuse(HOST, error=errno.EADDRNOTAVAIL)
        with pytest.raises(OSError) as raised:
            await network.connect(HOST)
        assert not isinstance(raised.value, NoSuchSource)


async def test_its_addresses(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.addresses.append(SOURCE)
        assert [network.has_address(ip) for ip in (SOURCE, "192.0.2.11")] == [True, False]


async def test_nothing_listens_at_an_unknown_address(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectionRefusedError, match=r"Connection refused: 10\.0\.0\.25:25"):
            await MemoryNetwork(nursery).connect(HOST)


@pytest.mark.parametrize(
    ("listen", "connect"),
    [
        pytest.param(HOST, HOST, id="v4"),
        pytest.param(HOST6, HOST6, id="v6"),
        pytest.param(SOCKET, SOCKET, id="unix"),
        pytest.param(TcpAddress("0.0.0.0", 25), HOST, id="any-v4"),
        pytest.param(TcpAddress("::", 25), HOST6, id="any-v6"),
    ],
)
async def test_listening(listen: Address, connect: Address, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        incoming = await network.listen(listen)
        client = await network.connect(connect)
        server, peer, local = await incoming.accept()
        assert (incoming.address, local) == (listen, connect)
        assert isinstance(peer, type(connect))
        await server.send_all(b"x")
        assert network.open_streams == 2
        assert await _read_and_close(client) == b"x"
        await server.aclose()
        assert network.open_streams == 0


async def test_port_0_is_a_free_port(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        first, second = [await network.listen(TcpAddress("127.0.0.1", 0)) for _ in range(2)]
        assert first.address != second.address
        async with await network.connect(first.address):
            pass


async def test_an_address_is_listened_on_once_at_a_time(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        incoming = await network.listen(HOST)
        with pytest.raises(OSError, match=r"Address already in use: 10\.0\.0\.25:25"):
            await network.listen(HOST)
        await incoming.aclose()
        await (await network.listen(HOST)).aclose()


async def test_closing_a_listener_resets_who_waits_and_ends_accept(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        incoming = await network.listen(HOST)
        async with await network.connect(HOST) as client:
            await incoming.aclose()
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await incoming.accept()
        with pytest.raises(ConnectionRefusedError):
            await network.connect(HOST)


async def test_an_accept_that_fails_leaves_the_listener_usable(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        incoming = await network.listen(HOST)
        network.fail_accept(HOST, errno.EMFILE)
        async with await network.connect(HOST):
            with pytest.raises(OSError, match="Too many open files"):
                await incoming.accept()
            await (await incoming.accept())[0].aclose()


async def test_open_streams_counts_what_its_users_left_open(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.serve(HOST, _linger)
        streams = [await network.connect(HOST) for _ in range(200)]
        assert network.open_streams == 200
        for stream in streams[::2]:
            stream.reset()
        assert network.open_streams == 100
        nursery.cancel_scope.cancel()


A = Answer(("10.0.0.25",), 300)

# records | query | answer
RECORDS: list[tuple[str, dict[tuple[str, str], Answer | NoAnswer], tuple[str, str], Answer | NoAnswer]] = [
    ("found", {("mx.example", "A"): A}, ("mx.example", "A"), A),
    ("case-and-last-dot", {("mx.example", "A"): A}, ("MX.example.", "A"), A),
    ("other-type", {("mx.example", "A"): A}, ("mx.example", "MX"), NoAnswer.NO_DATA),
    ("other-name", {("mx.example", "A"): A}, ("example", "A"), NoAnswer.NO_SUCH_DOMAIN),
    ("told-to-fail", {("mx.example", "A"): NoAnswer.TEMPORARY}, ("mx.example", "A"), NoAnswer.TEMPORARY),
]


@pytest.mark.parametrize(("records", "query", "answer"), [pytest.param(*row, id=name) for name, *row in RECORDS])
async def test_dns(
    records: dict[tuple[str, str], Answer | NoAnswer],
    query: tuple[str, str],
    answer: Answer | NoAnswer,
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.records.update(records)
        network.query_delays["mx.example", "A"] = 2
        assert await network.query(*query) == answer
        assert network.queries == [Query(*query, 0)]
        assert trio.current_time() == (2 if query[0].lower().startswith("mx") and query[1] == "A" else 0)


async def test_hosts(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.hosts["mail1"] = ("10.0.0.25", "2001:db8::25")
        assert await network.local_names("Mail1") == ("10.0.0.25", "2001:db8::25")
        assert await network.local_names("mail2") == ()


async def test_the_clock_and_the_dice(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = _fits_the_protocol(MemoryNetwork(nursery, seed=7))
        await trio.sleep(90)
        assert network.now() == EPOCH + datetime.timedelta(seconds=90)
        assert network.random.random() == MemoryNetwork(nursery, seed=7).random.random()


async def test_the_capacity_is_that_of_each_connection(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, capacity=3)
        network.serve(HOST, _greet)
        assert await _read_and_close(await network.connect(HOST)) == b"hel"
        nursery.cancel_scope.cancel()


async def test_a_pair_has_the_capacity_of_a_socket_by_default(autojump_clock: MockClock) -> None:
    left, _right = bounded_stream_pair()
    with trio.move_on_after(1) as scope:
        await left.send_all(b"x" * 65_536)
    assert not scope.cancelled_caught
