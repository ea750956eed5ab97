"""Messages that nobody may have: the client hears it after its dot, and nothing is delivered."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock
from world import DONE, GO_AHEAD, SENDER, TAKEN, TOO_BIG, Hop, Speaks, Told, World, wire

from mailgate.protocol.framing import BareNewline
from mailgate.relay.settings import Limits
from mailgate.testing import Script, StopReading

BARE_CR = "554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids"
BARE_LF = "554 5.6.0 Message has an LF without CR, which RFC 5321 section 2.3.8 forbids"
LOOP = "554 5.4.6 Too many hops: this message goes in circles"
NO_SPACE = "452 4.3.1 No space for the message, try later or elsewhere"

RECIPIENTS = ("u@a.example", "v@a.example")


@dataclass(frozen=True, slots=True)
class Way:
    """How the client and the two next hops speak, and how many replies are due behind the dot."""

    speaks: Speaks
    next_hop: Speaks
    parameters: str
    due: int


WAYS = {
    "SMTP": Way("smtp", "smtp", "", 1),
    "LMTP": Way("lmtp", "smtp", "", 3),
    "LMTP to LMTP": Way("lmtp", "lmtp", "", 3),
    "PRDR": Way("smtp", "smtp", " PRDR", 5),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


async def _send(world: World, way: Way, octets: bytes, pause: float = 0) -> list[str]:
    """Send those octets and the end of data, with a pause before the last line; the replies."""
    client = await world.client(way.speaks)
    recipients = (*RECIPIENTS, "u@b.example")
    told = await client.envelope(*recipients, parameters=way.parameters)
    assert told.rcpts == (TAKEN, TAKEN, TAKEN if way.due > 1 else told.rcpts[-1])
    await client.play(f"C: DATA\nS: {GO_AHEAD}")
    await client.send(octets)
    await trio.sleep(pause)
    await client.send(b"\r\n.\r\n")
    replies = [await client.reply() for _ in range(way.due)]
    told = await client.transact("u@a.example")
    assert told == Told(SENDER, (TAKEN,), GO_AHEAD, (DONE,)), "the session goes on"
    await client.quit()
    return replies[1:-1] if way.parameters else replies


def _hops(way: Way) -> tuple[Hop, Hop]:
    return Hop("a", speaks=way.next_hop), Hop("b", speaks=way.next_hop)


HEADER = b"Subject: x\r\n\r\n"

FLAWS = {
    "too big": (HEADER + b"x" * 5000, TOO_BIG),
    "bare CR": (HEADER + b"a\rb", BARE_CR),
    "bare CR at the end": (HEADER + b"a\r", BARE_CR),
    "CR CR LF": (HEADER + b"a\r\r\nb", BARE_CR),
    "bare LF": (HEADER + b"a\nb", BARE_LF),
    "bare LF first": (b"\n" + HEADER, BARE_LF),
    "LF.LF": (HEADER + b"a\n.\nb", BARE_LF),
    "LF.CRLF": (HEADER + b"a\n.\r\nMAIL FROM:<evil@in.example>\r\nb", BARE_LF),
    "CRLF.LF": (HEADER + b"a\r\n.\nMAIL FROM:<evil@in.example>\r\nb", BARE_LF),
    "CR.CR": (HEADER + b"a\r.\rb", BARE_CR),
    "51 Received": (b"Received: x\r\n" * 51 + HEADER, LOOP),
}


@each_way
@pytest.mark.parametrize("pause", [0, 1], ids=["at once", "end comes later"])
@pytest.mark.parametrize(("octets", "refusal"), FLAWS.values(), ids=FLAWS.keys())
async def test_nobody_gets_it(way: Way, octets: bytes, refusal: str, pause: float, autojump_clock: MockClock) -> None:
    limits = Limits(message_size=4000)
    refuse = BareNewline.REFUSE
    async with (
        trio.open_nursery() as nursery,
        World(nursery, *_hops(way), limits=limits, bare_newline=refuse) as world,
    ):
        assert await _send(world, way, octets, pause) == [refusal] * (1 if way.due == 1 else 3)
        assert world.messages == {"a1": 1, "b1": 0}, "only the good one that came after it"


# What may pass

FINE = {
    "50 Received": (b"Received: x\r\n" * 50 + HEADER, None),
    "51 Received, one in the body": (b"Received: x\r\n" * 50 + HEADER + b"Received: x", None),
    "dots": (HEADER + b"..\r\n...\r\n..a", HEADER + b".\r\n..\r\n.a"),
    "dot first": (b"..", b"."),
    "empty line": (b"", b""),
}

REPAIRED = {
    # sent, what the next hop gets
    "bare LF": (HEADER + b"a\nb", HEADER + b"a\r\nb"),
    "all bare LF": (b"Subject: x\n\na\nb", b"Subject: x\r\n\r\na\r\nb"),
    "two of them": (HEADER + b"a\n\nb", HEADER + b"a\r\n\r\nb"),
    "LF at the end": (HEADER + b"a\n", HEADER + b"a\r\n"),
    "LF.LF": (HEADER + b"a\n.\nb", HEADER + b"a\r\n.\r\nb"),
    "LF.CRLF": (HEADER + b"a\n.\r\nb", HEADER + b"a\r\n.\r\nb"),
    "CRLF.LF": (HEADER + b"a\r\n.\nb", HEADER + b"a\r\n\r\nb"),
    "smuggled": (
        HEADER + b"a\n.\r\nMAIL FROM:<evil@in.example>\r\nRCPT TO:<u@a.example>\r\nDATA\r\nb",
        HEADER + b"a\r\n.\r\nMAIL FROM:<evil@in.example>\r\nRCPT TO:<u@a.example>\r\nDATA\r\nb",
    ),
}


@each_way
@pytest.mark.parametrize(("sent", "got"), [*FINE.values(), *REPAIRED.values()], ids=[*FINE, *REPAIRED])
async def test_what_the_next_hop_gets(way: Way, sent: bytes, got: bytes | None, autojump_clock: MockClock) -> None:
    """The scripted server sees a message of its own making where a bare LF or an unstuffed dot is passed on."""
    async with trio.open_nursery() as nursery, World(nursery, *_hops(way)) as world:
        assert set(await _send(world, way, sent)) == {DONE}
        for message in world.mta("a1").messages[:1] + world.mta("b1").messages:
            own, _, content = message.content.partition(b"+0000\r\n")
            assert own.startswith(b"Received: from client.example ")
            assert content == (sent if got is None else got) + b"\r\n"
        assert world.messages == {"a1": 2, "b1": 1 if way.due > 1 else 0}


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize(("sent", "got"), REPAIRED.values(), ids=REPAIRED.keys())
async def test_repaired_whatever_the_pieces(sent: bytes, got: bytes, capacity: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), capacity=capacity) as world:
        client = await world.client(capacity=capacity)
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(sent + b"\r\n.\r\n")
        assert await client.reply() == DONE
        assert world.mta("a1").messages[0].content.endswith(b"+0000\r\n" + got + b"\r\n")


# SIZE

SIZES = {
    "over the limit": (4001, TOO_BIG),
    "far over the limit": (99_999_999_999_999_999_999, TOO_BIG),
    "at the limit": (4000, SENDER),
    "not known": (0, SENDER),
}


@pytest.mark.parametrize("speaks", ["smtp", "lmtp"])
@pytest.mark.parametrize(("size", "reply"), SIZES.values(), ids=SIZES.keys())
async def test_size_at_mail(speaks: Speaks, size: int, reply: str, autojump_clock: MockClock) -> None:
    limits = Limits(message_size=4000)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), limits=limits) as world:
        client = await world.client(speaks, greeted=False)
        assert "SIZE 4000" in await client.hello()
        await client.play(f"C: MAIL FROM:<s@in.example> SIZE={size}\nS: {reply}")
        assert world.network.connections == []


@pytest.mark.parametrize(("size", "reply"), [(4000, DONE), (4001, TOO_BIG)])
async def test_size_of_the_message(size: int, reply: str, autojump_clock: MockClock) -> None:
    """Counted as RFC 1870 has it: without dot-stuffing and the end of data, and without what we add."""
    limits = Limits(message_size=4000)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), limits=limits) as world:
        client = await world.client()
        content = b".\r\n" * 1000 + b"x" * (size - 3002) + b"\r\n"
        assert (await client.transact("u@a.example", content=content)).outcomes == (reply,)


# A full disk


@each_way
async def test_full_disk(way: Way, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    """In mid-message: the deliveries have begun, and are dropped without a dot."""
    monkeypatch.setattr(os, "write", _fills_up(os.write, room=8192))
    limits = Limits(body_memory=1000)
    async with trio.open_nursery() as nursery, World(nursery, *_hops(way), limits=limits) as world:
        replies = await _send(world, way, HEADER + b"x" * 20_000, pause=1)
        assert replies == [NO_SPACE] * (1 if way.due == 1 else 3)
        assert world.messages == {"a1": 1, "b1": 0}
        (event,) = world.events("body_not_written")
        assert (event["log_level"], event["why"]) == ("error", "No space left on device")


@each_way
async def test_no_temporary_file(way: Way, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    def temporary_file(**options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    limits = Limits(body_memory=1000)
    async with trio.open_nursery() as nursery, World(nursery, *_hops(way), limits=limits) as world:
        replies = await _send(world, way, HEADER + b"x" * 20_000)
        assert replies == [NO_SPACE] * (1 if way.due == 1 else 3)
        assert world.messages == {"a1": 1, "b1": 0}


def _fills_up(write: Callable[[int, memoryview], int], room: int) -> Callable[[int, memoryview], int]:
    """os.write on a disk with so many octets of room: first it writes less than it was given, then ENOSPC."""
    left = room

    def limited(descriptor: int, data: memoryview) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[:left])
        left -= written
        return written

    return limited


async def test_a_refusal_does_not_wait_for_a_next_hop_that_takes_nothing(autojump_clock: MockClock) -> None:
    """Nothing is owed to it any more."""
    limits = Limits(message_size=10_000_000)
    hop = Hop("a", Script(body=(StopReading(0),)))
    async with trio.open_nursery() as nursery, World(nursery, hop, limits=limits) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(b"a\rb" + b"x" * 5_000_000 + b"\r\n"))
        assert await client.reply() == BARE_CR
        assert trio.current_time() == 0
