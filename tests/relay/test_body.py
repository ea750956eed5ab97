"""The body: one writer, many readers."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from unittest import mock

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from world import Hop, World, wire

from mailgate.relay import body as body_module
from mailgate.relay.body import AHEAD, CHUNK, Body, Reader
from mailgate.testing import Close, During, Script, SlowReading, seeded

PATIENCE = 60.0
MEMORY = 262_144
BLOCK = b"0123456789abcdef" * 4096
"""64 KiB"""

IN_MEMORY = 100 * len(BLOCK)
IN_A_FILE = 0
both = pytest.mark.parametrize("memory", [IN_MEMORY, IN_A_FILE], ids=["memory", "file"])


async def _read_all(reader: Reader, pace: float = 0) -> bytes:
    """Read to the end, with a pause before each piece."""
    read = bytearray()
    await trio.sleep(pace)
    while octets := await reader.read():
        assert len(octets) <= body_module.CHUNK
        read += octets
        await trio.sleep(pace)
    return bytes(read)


# Any writes, any readers


@dataclass(frozen=True, slots=True)
class Reading:
    """One reader of a case."""

    after: int
    """it starts behind so many writes"""
    pace: float
    """seconds that it takes for each piece"""
    holds: bool


writings = st.lists(st.binary(max_size=100), max_size=20)
readings = st.lists(
    st.builds(Reading, st.integers(0, 20), st.sampled_from([0, 0.5, 7, 1000]), st.booleans()), max_size=4
)


@settings(deadline=None)
@given(writes=writings, readers=readings, memory=st.integers(0, 1000), seed=st.integers(0, 2**32 - 1))
def test_all_readers_get_the_same_bytes(writes: list[bytes], readers: list[Reading], memory: int, seed: int) -> None:
    """With small limits; no holding reader is ever further behind than they say, but for lost patience."""
    seeded(seed)
    with mock.patch.object(body_module, "AHEAD", 120), mock.patch.object(body_module, "CHUNK", 30):
        trio.run(_write_and_read, writes, readers, memory, clock=MockClock(autojump_threshold=0))


async def _write_and_read(writes: list[bytes], readers: list[Reading], memory: int) -> None:
    got: list[bytes] = []
    with Body(memory, PATIENCE) as body:

        async def read(reading: Reading, reader: Reader) -> None:
            got.append(await _read_all(reader, reading.pace))
            reader.close()

        async with trio.open_nursery() as nursery:
            begun: list[Reader] = []
            for number in range(21):
                for reading in readers:
                    if reading.after == number:
                        begun.append(body.reader(holds=reading.holds))
                        nursery.start_soon(read, reading, begun[-1])
                if number < len(writes):
                    before = trio.current_time()
                    assert await body.write(writes[number]) is None
                    behind = [one for one in begun if one.holds and body.size - one.position > 120]
                    assert behind == []
                    assert trio.current_time() <= before + PATIENCE
            body.finish()
    assert body.size == len(b"".join(writes))
    assert got == [b"".join(writes)] * len(readers)


# One reader, step by step


@both
async def test_a_reader_waits_for_what_is_not_written_yet(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        reader = body.reader(holds=True)
        read: list[tuple[float, bytes]] = []

        async def note() -> None:
            while octets := await reader.read():
                read.append((trio.current_time(), octets))
            read.append((trio.current_time(), b""))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
            for octets in (b"one", b"two", b""):
                await trio.sleep(1)
                await body.write(octets)
            await trio.sleep(1)
            body.finish()
        assert read == [(1, b"one"), (2, b"two"), (4, b"")]
        assert await reader.read() == b"", "the end is the end"


@both
async def test_pieces_are_of_64_kib_at_most(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        await body.write(BLOCK * 2 + b"rest")
        body.finish()
        reader = body.reader(holds=False)
        assert [len(await reader.read()) for _ in range(4)] == [CHUNK, CHUNK, 4, 0]


async def test_from_memory_to_the_file_in_mid_reading(autojump_clock: MockClock) -> None:
    with Body(10, PATIENCE) as body:
        reader = body.reader(holds=True)
        await body.write(b"01234")
        assert await reader.read() == b"01234"
        await body.write(b"56789")
        await body.write(b"abcde")
        assert await reader.read() == b"56789abcde"
        assert await body.reader(holds=True).read() == b"0123456789abcde"


# How far the writer may be ahead


async def _write_until_held(body: Body, limit: float) -> int:
    """Write blocks until a write is held up for so many seconds; octets written."""
    with trio.move_on_after(limit):
        while True:
            await body.write(BLOCK)
    return body.size


@both
async def test_writer_is_held_1_mib_ahead_of_the_slowest_reader(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        fast, slow = body.reader(holds=True), body.reader(holds=True)
        assert await _write_until_held(body, 50) == AHEAD + len(BLOCK)
        await fast.read()
        assert await _write_until_held(body, 50) == AHEAD + 2 * len(BLOCK), "a write begins unless it would wait"
        for _ in range(3):
            await slow.read()
        assert slow.position == 3 * len(BLOCK)
        assert body.size - fast.position == AHEAD + len(BLOCK)


@both
async def test_held_write_ends_when_the_reader_has_read(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        reader = body.reader(holds=True)

        async def read_later() -> None:
            await trio.sleep(59)
            await reader.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_later)
            for _ in range(AHEAD // len(BLOCK) + 1):
                await body.write(BLOCK)
        assert trio.current_time() == 59
        assert reader.holds


@both
async def test_writer_is_held_60_s_at_most_and_never_again_by_that_reader(
    memory: int, autojump_clock: MockClock
) -> None:
    with Body(memory, PATIENCE) as body:
        silent, slow = body.reader(holds=True), body.reader(holds=True)
        await body.write(BLOCK * 17)
        assert trio.current_time() == 60
        assert (silent.holds, slow.holds) == (False, False)
        await body.write(BLOCK * 17)
        assert trio.current_time() == 60
        assert await slow.read() == BLOCK, "it lags, and loses nothing"


@both
async def test_patience_is_lost_with_those_behind_only(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        silent, fast = body.reader(holds=True), body.reader(holds=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read_all, fast)
            await body.write(BLOCK * 17)
            assert trio.current_time() == 60
            assert (silent.holds, fast.holds) == (False, True)
            body.finish()


@both
async def test_a_slow_reader_holds_faster_ones_60_s_in_all(memory: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with Body(memory, PATIENCE) as body:
            fast, slow = body.reader(holds=True), body.reader(holds=True)
            nursery.start_soon(_read_all, fast, 0)
            nursery.start_soon(_read_all, slow, 10)
            for _ in range(100):
                assert await body.write(BLOCK) is None
            assert trio.current_time() == 60
            assert (fast.holds, slow.holds) == (True, False)
            nursery.cancel_scope.cancel()


@both
async def test_a_slow_reader_that_is_alone_is_waited_for(memory: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with Body(memory, PATIENCE) as body:
            slow = body.reader(holds=True)
            nursery.start_soon(_read_all, slow, 10)
            for _ in range(100):
                assert await body.write(BLOCK) is None
            assert trio.current_time() > 800
            assert slow.holds
            nursery.cancel_scope.cancel()


@both
async def test_a_replaying_reader_holds_nobody(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        reader = body.reader(holds=False)
        await body.write(BLOCK * 40)
        assert trio.current_time() == 0
        body.finish()
        assert await _read_all(reader) == BLOCK * 40


@both
async def test_a_reader_that_leaves_holds_nobody(memory: int, autojump_clock: MockClock) -> None:
    with Body(memory, PATIENCE) as body:
        reader = body.reader(holds=True)

        async def leave_later() -> None:
            await trio.sleep(5)
            reader.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_later)
            await body.write(BLOCK * 17)
        assert trio.current_time() == 5
        await body.write(BLOCK * 17)
        assert trio.current_time() == 5


async def test_nobody_reads(autojump_clock: MockClock) -> None:
    with Body(IN_A_FILE, PATIENCE) as body:
        await body.write(BLOCK * 40)
        body.finish()
        assert trio.current_time() == 0


# The file


async def test_a_small_body_makes_no_file(autojump_clock: MockClock) -> None:
    with mock.patch.object(tempfile, "TemporaryFile", side_effect=AssertionError), Body(MEMORY, PATIENCE) as body:
        for _ in range(MEMORY // len(BLOCK)):
            assert await body.write(BLOCK) is None
        assert await body.reader(holds=True).read() == BLOCK


async def test_the_file_has_no_name_and_is_closed_at_the_end(autojump_clock: MockClock) -> None:
    before = _open_files()
    with Body(IN_A_FILE, PATIENCE) as body:
        await body.write(BLOCK)
        (file,) = [one for one in _open_files() if one not in before]
        assert file.endswith(" (deleted)")
    assert _open_files() == before


def _open_files() -> list[str]:
    """What this process has open, by descriptor."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(f"{descriptor} {os.readlink(f'/proc/self/fd/{descriptor}')}")
        except FileNotFoundError:  # the one that listdir had
            continue
    return sorted(names)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG], ids=errno.errorcode.get)
async def test_a_file_system_that_takes_no_more(
    error: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The error is a value, and nobody is told of octets that are not there."""

    def failing(descriptor: int, data: memoryview) -> int:
        raise OSError(error, os.strerror(error))

    with Body(4, PATIENCE) as body:
        assert await body.write(b"1234") is None
        reader = body.reader(holds=True)
        assert await reader.read() == b"1234"
        monkeypatch.setattr(os, "write", failing)
        failed = await body.write(b"5678")
        assert failed is not None
        assert failed.errno == error
        assert body.size == 4
        with trio.move_on_after(1000) as waited:
            await reader.read()
        assert waited.cancelled_caught


async def test_short_writes_are_continued(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with Body(0, PATIENCE) as body:
        await body.write(b"0123456789")
        assert await body.reader(holds=True).read() == b"0123456789"


# The readers of a gateway: the client is held back by a delivery that streams, not by one that replays

FIRST_HOSTS: dict[str, tuple[Script, float]] = {
    # the first of two hosts; the second takes 1 MiB/s of 5 MiB: seconds until the client has sent it all
    "none": (Script(greeting=Close()), 3.5),
    "puts the sender off": (Script(mail="451 4.3.0 busy"), 3.5),
    "lost at RCPT": (Script(rcpt=Close()), 3.5),
    "lost at DATA": (Script(data=Close()), 3.5),
    "lost in the message": (Script(body=(During(100, Close()),)), 0),
}


@pytest.mark.parametrize(("first", "seconds"), FIRST_HOSTS.values(), ids=FIRST_HOSTS.keys())
async def test_who_holds_the_client_back(first: Script, seconds: float, autojump_clock: MockClock) -> None:
    slow = Script(body=(SlowReading(1_048_576),))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", first, slow)) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play("C: DATA\nS: 354 ...")
        await client.send(wire(BLOCK * 80 + b"\r\n"))
        assert seconds <= trio.current_time() <= seconds + 0.5
        await client.play("S: 250 2.0.0 taken")
        assert 5 <= trio.current_time() <= 5.5
