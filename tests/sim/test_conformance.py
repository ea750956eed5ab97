"""Simulated connections behave as Linux's do: each row is played on both, and sees the same."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import Incoming, NoSuchSource, TcpAddress
from sim.net_bench import bench
from sim.net_ground import (
    SOON,
    Ground,
    Seen,
    Stream,
    half_closes,
    loopback,
    on_its_way,
    receives,
    sends,
    simulated,
    tried,
    until_the_end,
)

MUCH = 16 * 1024 * 1024
"""octets that no buffer takes"""


async def end_after_octets(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.send_all(b"hello")
        await client.aclose()
        return [await receives(server), await receives(server), await receives(server)]


async def answer_to_one_who_has_closed(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.aclose()
        await on_its_way()
        seen = [await sends(server)]
        await on_its_way()
        return [*seen, await sends(server), await sends(server), await receives(server)]


async def half_close(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with client, server:
        seen = [await half_closes(client), await receives(server), await sends(server, b"reply")]
        seen += [await receives(client), await sends(client), await half_closes(client)]
        await server.aclose()
        return [*seen, await receives(client)]


async def half_close_then_close(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.send_eof()
        await client.aclose()
        seen = [await receives(server), await sends(server)]
        await on_its_way()
        return [*seen, await receives(server), await sends(server)]


async def close_with_octets_unread(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await server.send_all(b"unread")
        await on_its_way()
        await client.aclose()
        await on_its_way()
        return [await receives(server), await receives(server), await sends(server)]


async def reset_with_octets_buffered(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.send_all(b"buffered")
        await on_its_way()
        await ground.reset(client)
        await on_its_way()
        return [await receives(server), await receives(server), await receives(server), await sends(server)]


async def reset_seen_by_sending(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await ground.reset(client)
        await on_its_way()
        return [await sends(server), await receives(server), await sends(server)]


async def reset_seen_by_half_closing(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await ground.reset(client)
        await on_its_way()
        return [await half_closes(server), await receives(server), await receives(server)]


async def reset_after_the_end(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.send_eof()
        await on_its_way()
        await ground.reset(client)
        await on_its_way()
        return [await receives(server), await sends(server), await receives(server)]


async def reset_while_receiving(ground: Ground) -> Seen:
    return await _while_waiting(ground, receives, ground.reset)


async def close_while_the_other_side_receives(ground: Ground) -> Seen:
    return await _while_waiting(ground, receives, lambda client: client.aclose())


async def reset_while_sending(ground: Ground) -> Seen:
    return await _while_waiting(ground, lambda server: sends(server, bytes(MUCH)), ground.reset)


async def close_while_the_other_side_sends(ground: Ground) -> Seen:
    return await _while_waiting(ground, lambda server: sends(server, bytes(MUCH)), lambda client: client.aclose())


async def _while_waiting(
    ground: Ground, act: Callable[[Stream], Awaitable[bytes | str]], then: Callable[[Stream], Awaitable[None]]
) -> Seen:
    client, server = await ground.pair()
    seen: Seen = []

    async def wait() -> None:
        seen.append(await act(server))

    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(SOON / 2)
        await then(client)
        await on_its_way()
        seen_later = await receives(server)
    return [*seen, seen_later]


async def own_close_while_receiving(ground: Ground) -> Seen:
    return await _closed_by_itself(ground, receives)


async def own_close_while_sending(ground: Ground) -> Seen:
    return await _closed_by_itself(ground, lambda server: sends(server, bytes(MUCH)))


async def _closed_by_itself(ground: Ground, act: Callable[[Stream], Awaitable[bytes | str]]) -> Seen:
    client, server = await ground.pair()
    seen: Seen = []

    async def wait() -> None:
        seen.append(await act(server))

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(SOON / 2)
        await server.aclose()
    return seen


async def after_closing(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.aclose()
        await client.aclose()
        return [await sends(client), await receives(client)]


async def after_resetting(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await ground.reset(client)
        await client.aclose()
        return [await sends(client), await receives(client)]


async def half_open(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with client:
        await ground.forget(server)
        seen = [await receives(client), await sends(client)]
        await on_its_way()
        return [*seen, await receives(client), await receives(client), await sends(client)]


async def half_open_and_told_by_sending(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with client:
        await ground.forget(server)
        seen = [await sends(client)]
        await on_its_way()
        return [*seen, await sends(client), await receives(client)]


async def half_open_with_octets_buffered(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with client:
        await server.send_all(b"before")
        await on_its_way()
        await ground.forget(server)
        seen = [await sends(client)]
        await on_its_way()
        return [*seen, await receives(client), await receives(client), await receives(client)]


async def full_buffers(ground: Ground) -> Seen:
    client, server = await ground.pair()
    seen: Seen = []

    async def send() -> None:
        await client.send_all(bytes(MUCH))
        seen.append("all sent")
        await client.aclose()

    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await on_its_way()
        seen.append("reading")
        octets = await until_the_end(server)
    return [*seen, str(len(octets[0])), octets[1]]


async def half_open_while_sending(ground: Ground) -> Seen:
    client, server = await ground.pair()
    seen: Seen = []

    async def send() -> None:
        try:
            await client.send_all(bytes(MUCH))
        except trio.BrokenResourceError:
            seen.append("broken")

    # What tells it is the question whether the other side has room again.
    with trio.fail_after(5):
        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await on_its_way()
            seen.append("forgotten")
            await ground.forget(server)
    return seen


async def room_after_a_reset(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await ground.reset(client)
        await on_its_way()
        return [await tried(server.wait_send_all_might_not_block, "has room"), await sends(server)]


async def octets_before_a_close(ground: Ground) -> Seen:
    client, server = await ground.pair()
    async with server:
        await client.send_all(bytes(60_000))
        await client.aclose()
        await on_its_way()
        octets = await until_the_end(server)
        return [str(len(octets[0])), octets[1]]


async def octets_before_the_accept(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        client = await ground.connect(incoming)
        await client.send_all(b"early")
        await client.aclose()
        await on_its_way()
        async with await ground.accepted(incoming) as server:
            return [await receives(server), await receives(server)]


async def reset_before_the_accept(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        await ground.reset(await ground.connect(incoming))
        client = await ground.connect(incoming)
        await client.send_all(b"the second one")
        await on_its_way()
        async with client, await ground.accepted(incoming) as server:
            return [await receives(server)]


async def no_more_listening(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        client = await ground.connect(incoming)
        await on_its_way()
    async with client:
        await on_its_way()
        return [await receives(client), await receives(client)]


async def nobody_listens(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        pass
    return [await _connect_error(ground, incoming)]


async def foreign_source(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        return [await _connect_error(ground, incoming, "192.0.2.77")]


async def _connect_error(ground: Ground, incoming: Incoming, source: str | None = None) -> str:
    try:
        async with await ground.client.connect(incoming.address, source):
            return "connected"
    except NoSuchSource:
        return "no such source"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


async def two_listen(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        try:
            async with await ground.server.listen(incoming.address):
                return ["both"]
        except OSError as error:
            return [errno.errorcode[error.errno or 0]]


async def closed_listener(ground: Ground) -> Seen:
    async with await ground.listen() as incoming:
        pass
    try:
        await incoming.accept()
    except trio.ClosedResourceError:
        return ["closed"]
    return ["accepted"]


async def listen_anywhere(ground: Ground) -> Seen:
    async with await ground.server.listen(TcpAddress("0.0.0.0", 0)) as incoming:
        assert isinstance(incoming.address, TcpAddress)
        address = TcpAddress(ground.ip, incoming.address.port)
        async with await ground.client.connect(address):
            stream, peer, local = await incoming.accept()
            async with stream:
                assert isinstance(peer, TcpAddress)
                return [
                    "a port" if address.port and peer.port else "no port",
                    "where it was connected to" if local == address else str(local),
                ]


ROWS: dict[Callable[[Ground], Awaitable[Seen]], Seen] = {
    end_after_octets: [b"hello", b"", b""],
    answer_to_one_who_has_closed: ["sent", "broken", "broken", b""],
    half_close: ["sent the end", b"", "sent", b"reply", "closed", "sent the end", b""],
    half_close_then_close: [b"", "sent", b"", "broken"],
    close_with_octets_unread: ["broken", b"", "broken"],
    reset_with_octets_buffered: [b"buffered", "broken", b"", "broken"],
    reset_seen_by_sending: ["broken", b"", "broken"],
    reset_seen_by_half_closing: ["broken", "broken", b""],
    reset_after_the_end: [b"", "broken", b""],
    reset_while_receiving: ["broken", b""],
    close_while_the_other_side_receives: [b"", b""],
    reset_while_sending: ["broken", b""],
    close_while_the_other_side_sends: ["broken", b""],
    own_close_while_receiving: ["closed"],
    own_close_while_sending: ["closed"],
    after_closing: ["closed", "closed"],
    after_resetting: ["closed", "closed"],
    half_open: ["waits", "sent", "broken", b"", "broken"],
    half_open_and_told_by_sending: ["sent", "broken", b""],
    half_open_with_octets_buffered: ["sent", b"before", "broken", b""],
    half_open_while_sending: ["forgotten", "broken"],
    room_after_a_reset: ["has room", "broken"],
    full_buffers: ["reading", "all sent", str(MUCH), b""],
    octets_before_a_close: ["60000", b""],
    octets_before_the_accept: [b"early", b""],
    reset_before_the_accept: [b"the second one"],
    no_more_listening: ["broken", b""],
    nobody_listens: ["ECONNREFUSED"],
    foreign_source: ["no such source"],
    two_listen: ["EADDRINUSE"],
    closed_listener: ["closed"],
    listen_anywhere: ["a port", "where it was connected to"],
}

each_row = pytest.mark.parametrize(
    ("row", "seen"), [pytest.param(row, seen, id=row.__name__) for row, seen in ROWS.items()]
)


@each_row
async def test_loopback(row: Callable[[Ground], Awaitable[Seen]], seen: Seen) -> None:
    assert await row(loopback()) == seen


@each_row
async def test_simulated(row: Callable[[Ground], Awaitable[Seen]], seen: Seen, autojump_clock: MockClock) -> None:
    async with bench() as one:
        assert await row(await simulated(one)) == seen
