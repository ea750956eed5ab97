"""The bounded streams: Trio's own checks, and a table of how each side's ending looks to the other."""

from __future__ import annotations

import random
import types
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from mailgate.testing import BoundedStream, Resettable, bounded_stream_pair, reset

CAPACITIES = [1, 64, 65_536]


class _LessData(int):
    def to_bytes(self, *args: object, **kwargs: object) -> bytes:
        return bytes(range(256)) * 16


class _LessRandom(random.Random):
    def getrandbits(self, k: int) -> int:
        return super().getrandbits(k) if k <= 64 else _LessData(0)


@pytest.mark.parametrize("capacity", CAPACITIES)
async def test_trios_own_checks(capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if capacity == 1:
        # Trio's check sends 1 MiB each way. Byte by byte that takes 25 s; 4 KiB show the same.
        monkeypatch.setattr("trio.testing._check_streams.random", types.SimpleNamespace(Random=_LessRandom))

    async def make() -> tuple[BoundedStream, BoundedStream]:
        await trio.lowlevel.checkpoint()
        return bounded_stream_pair(capacity)

    async def make_clogged() -> tuple[BoundedStream, BoundedStream]:
        left, right = bounded_stream_pair(capacity)
        await left.send_all(b"x" * capacity)
        await right.send_all(b"x" * capacity)
        return left, right

    await trio.testing.check_half_closeable_stream(make, make_clogged)


@pytest.mark.parametrize("capacity", CAPACITIES)
async def test_no_more_than_the_capacity_is_buffered(capacity: int, autojump_clock: trio.testing.MockClock) -> None:
    left, right = bounded_stream_pair(capacity)
    with trio.move_on_after(1) as scope:
        await left.send_all(b"x" * (capacity + 1))
    assert scope.cancelled_caught
    assert await right.receive_some() == b"x" * capacity


def test_a_capacity_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 byte, not 0"):
        bounded_stream_pair(0)


async def _receive_all(stream: BoundedStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def _send(stream: BoundedStream) -> bytes:
    await stream.send_all(b"y")
    return b"sent"


async def _wait(stream: BoundedStream) -> bytes:
    await stream.wait_send_all_might_not_block()
    return b"ready"


async def _aclose(stream: BoundedStream) -> None:
    await stream.aclose()


async def _half_close(stream: BoundedStream) -> None:
    await stream.send_eof()


# What one side does after it has sent b"unread" | what the other side does | what comes of it
ENDINGS = [
    pytest.param(_aclose, _receive_all, b"unread", id="close-receive"),
    pytest.param(_aclose, _send, trio.BrokenResourceError, id="close-send"),
    pytest.param(_aclose, _wait, trio.BrokenResourceError, id="close-wait"),
    pytest.param(_half_close, _receive_all, b"unread", id="half-close-receive"),
    pytest.param(_half_close, _send, b"sent", id="half-close-send"),
    pytest.param(_half_close, _wait, b"ready", id="half-close-wait"),
    pytest.param(reset, _receive_all, trio.BrokenResourceError, id="reset-receive"),
    pytest.param(reset, _send, trio.BrokenResourceError, id="reset-send"),
    pytest.param(reset, _wait, trio.BrokenResourceError, id="reset-wait"),
]


@pytest.mark.parametrize(("end", "act", "expected"), ENDINGS)
async def test_how_an_ending_looks_to_the_other_side(
    end: Callable[[BoundedStream], Awaitable[None]],
    act: Callable[[BoundedStream], Awaitable[bytes]],
    expected: bytes | type[Exception],
) -> None:
    left, right = bounded_stream_pair(64)
    await left.send_all(b"unread")
    await end(left)
    if isinstance(expected, bytes):
        assert await act(right) == expected
    else:
        with pytest.raises(expected):
            await act(right)
    assert not right.closed


@pytest.mark.parametrize(
    "act", [pytest.param(_receive_all, id="receive"), pytest.param(_send, id="send"), pytest.param(_wait, id="wait")]
)
async def test_a_reset_side_is_closed(act: Callable[[BoundedStream], Awaitable[bytes]]) -> None:
    left, _right = bounded_stream_pair(64)
    left.reset()
    assert left.closed
    with pytest.raises(trio.ClosedResourceError):
        await act(left)


async def _blocked_in_receive(stream: BoundedStream) -> bytes:
    return await stream.receive_some()


async def _blocked_in_send(stream: BoundedStream) -> bytes:
    await stream.send_all(b"xx")
    return b"sent"


@pytest.mark.parametrize("blocked", [_blocked_in_receive, _blocked_in_send])
async def test_a_reset_wakes_who_is_blocked(blocked: Callable[[BoundedStream], Awaitable[bytes]]) -> None:
    left, right = bounded_stream_pair(1)

    async def expect_reset() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await blocked(right)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_reset)
        await trio.testing.wait_all_tasks_blocked()
        left.reset()


class _Wrapped(trio.abc.Stream):
    """Somebody else's stream around another one."""

    def __init__(self, inner: BoundedStream) -> None:
        self.inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Abrupt(_Wrapped):
    def reset(self) -> None:
        self.inner.reset()


@pytest.mark.parametrize(
    ("wrapped", "abruptly"), [pytest.param(_Abrupt, True, id="reset"), pytest.param(_Wrapped, False, id="no-reset")]
)
async def test_any_stream_with_a_reset_is_reset(wrapped: type[_Wrapped], abruptly: bool) -> None:
    left, right = bounded_stream_pair(64)
    stream = wrapped(left)
    assert isinstance(stream, Resettable) == abruptly
    await reset(stream)
    if abruptly:
        with pytest.raises(trio.BrokenResourceError):
            await right.receive_some()
    else:
        assert await right.receive_some() == b""


async def test_reset_of_a_socket_is_seen_as_one_by_its_peer() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        server = await listener.accept()
    async with client, server:
        await reset(server)
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
