"""Next hops whose replies are no replies, come unasked, too early, without end, or in pieces."""

from __future__ import annotations

import dataclasses
import tracemalloc
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from world import Hop, Speaks, World

from mailgate.network import Address
from mailgate.testing import Close, Plan, Raw, Reset, Script, Step

NO_PATH = "451 4.4.1 No path to the next hop, try later or elsewhere"
LOST = "451 4.4.2 The next hop was lost, try later or elsewhere"
UNKNOWN = "451 4.4.2 The next hop did not confirm the message, try again"
TAKEN = "250 2.0.0 taken"
SPOKEN: tuple[Speaks, ...] = ("smtp", "lmtp")

# No reply, in place of one

NO_REPLIES: dict[str, bytes] = {
    "words": b"hello there\r\n",
    "nothing": b"\r\n",
    "NULs": b"\0\0\0 ok\r\n",
    "two digits": b"25 ok\r\n",
    "four digits": b"2500 ok\r\n",
    "no separator": b"250ok\r\n",
    "a sign": b"+25 ok\r\n",
    "1xx": b"150 wait\r\n",
    "6xx": b"600 what\r\n",
    "0xx": b"000 what\r\n",
    "a reply of two codes": b"250-ok\r\n450 no\r\n",
    "a continuation that is none": b"250-ok\r\nhello\r\n",
    "an overlong line": b"250 " + b"x" * 2048 + b"\r\n",
    "an overlong line without end": b"250 " + b"x" * 5000,
    "too many lines": b"250-x\r\n" * 128 + b"250 x\r\n",
    "too many lines without end": b"250-x\r\n" * 500,
    "another alphabet's digits": "٢٥٠ ok\r\n".encode(),
}

STAGES: dict[str, tuple[str, str, str]] = {
    # stage of the script → what stands for it: at RCPT, at DATA, behind the dot
    "greeting": (NO_PATH, "", ""),
    "ehlo": (NO_PATH, "", ""),
    "mail": (LOST, "", ""),
    "rcpt": (LOST, "", ""),
    "data": ("250 2.1.5 recipient ok", LOST, ""),
    "dot": ("250 2.1.5 recipient ok", "354 End data with <CR><LF>.<CR><LF>", UNKNOWN),
}


def script_of(stage: str, *steps: Step) -> Script:
    changed: dict[str, Any] = {stage: steps}
    return dataclasses.replace(Script(), **changed)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("data", NO_REPLIES.values(), ids=NO_REPLIES)
async def test_no_reply(data: bytes, stage: str, autojump_clock: MockClock) -> None:
    """The session counts as lost, at once."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script_of(stage, Raw(data)))) as world:
        client = await world.client()
        told = await client.transact("u@a.example")
        assert (*told.rcpts, told.data, *(told.outcomes or ("",))) == STAGES[stage]
        assert trio.current_time() == 0


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("step", [Raw(b"oops\r\n"), Raw(b"421 4.3.2 bye\r\n"), Close(), Reset()], ids=str)
async def test_no_reply_and_the_next_host(step: Step, stage: str, autojump_clock: MockClock) -> None:
    """Before the dot the next host takes the message, behind it nobody else does."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script_of(stage, step), Script())) as world:
        client = await world.client()
        told = await client.transact("u@a.example")
        assert world.messages == ({"a1": 1, "a2": 0} if stage == "dot" else {"a1": 0, "a2": 1})
        refused = "451 4.3.2 bye" if step == Raw(b"421 4.3.2 bye\r\n") else UNKNOWN
        assert told.outcomes == ((refused if stage == "dot" else TAKEN),)


WRONG_KIND = {
    # stage → a reply that is one, of a class that cannot stand there
    "greeting": "354 go ahead",
    "ehlo": "354 go ahead",
    "mail": "354 go ahead",
    "rcpt": "354 go ahead",
    "data": "250 2.0.0 ok",
    "dot": "354 go ahead",
}


@pytest.mark.parametrize("stage", STAGES)
async def test_reply_of_a_class_that_cannot_be(stage: str, autojump_clock: MockClock) -> None:
    hop = Hop("a", script_of(stage, WRONG_KIND[stage]))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        told = await client.transact("u@a.example")
        assert (*told.rcpts, told.data, *(told.outcomes or ("",))) == STAGES[stage]


NUMBERED = ("u@a.example", "v@a.example", "w@a.example")


async def test_text_of_a_reply_is_made_harmless(autojump_clock: MockClock) -> None:
    plans: dict[str, Plan] = {
        NUMBERED[0]: Raw(b"550 5.1.1 \0\x1b[2J\x7f\xff caf\xc3\xa9\r\n"),
        NUMBERED[1]: Raw(b"550 5.1.1 one\rtwo\r\n"),
        NUMBERED[2]: Raw(b"550 5.1.1 " + b"x" * 2000 + b"\r\n"),
    }
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(recipients=plans))) as world:
        client = await world.client()
        told = await client.envelope(*NUMBERED)
        assert told.rcpts[:2] == ("550 5.1.1 ?[2J? caf?", "550 5.1.1 one?two")
        assert told.rcpts[2] == "550 5.1.1 " + "x" * (512 - 2 - 10)


# Without end


@dataclass(frozen=True, slots=True)
class Endless:
    """Greets as it should up to some command, and then says the same over and over."""

    stage: str
    noise: bytes

    async def handle(self, stream: trio.abc.Stream, peer: Address) -> None:
        """Serve one connection."""
        for stage, proper in PROPER.items():
            if stage == self.stage:
                break
            await stream.send_all(proper)
            await stream.receive_some()
        try:
            while True:
                await stream.send_all(self.noise)
        except trio.BrokenResourceError:
            return


PROPER = {
    "greeting": b"220 hi\r\n",
    "ehlo": b"250 hi\r\n",
    "mail": b"250 2.1.0 ok\r\n",
    "rcpt": b"250 2.1.5 ok\r\n",
    "data": b"354 go\r\n",
    "dot": b"250 2.0.0 ok\r\n",
}
NOISE = {
    "a line": b"x" * 65_536,
    "continuation lines": b"250-x\r\n" * 9_000,
    "replies": b"250 2.0.0 x\r\n" * 5_000,
    "newlines": b"\n" * 65_536,
    "NULs": b"\0" * 65_536,
}


@pytest.mark.parametrize(
    ("stage", "noise"),
    [
        pytest.param(stage, noise, id=f"{name}, {stage}")
        for stage in STAGES
        for name, noise in NOISE.items()
        if (stage, name) != ("dot", "replies")  # there the first of them is the answer
    ],
)
async def test_endless(stage: str, noise: bytes, autojump_clock: MockClock) -> None:
    """Next to nothing of it is kept, and the client hears its 4xx at once."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        world.network.serve(world.address("a1"), Endless(stage, noise).handle)
        client = await world.client()
        tracemalloc.start()
        told = await client.transact("u@a.example")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000
        last = [one for one in (*told.rcpts, told.data, *told.outcomes) if one][-1]
        assert last.startswith("451 4.4.")
        assert trio.current_time() == 0


# In pieces


class Dripping(trio.abc.Stream):
    """A stream whose every write goes out octet by octet."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for octet in bytes(data):
            await self._stream.send_all(bytes([octet]))
            await trio.sleep(0.01)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


PIECES: dict[str, Script] = {
    "taken": Script(),
    "prdr": Script(extensions=("PIPELINING", "PRDR"), outcomes={"v@a.example": "550-5.7.1 not\n550 5.7.1 you"}),
    "refused in several lines": Script(rcpt="550-5.1.1 no\n550-5.1.1 such\n550 5.1.1 user"),
    "deferred": Script(dot="451 4.3.0 later"),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize("script", PIECES.values(), ids=PIECES)
async def test_replies_in_single_octets(script: Script, speaks: Speaks, autojump_clock: MockClock) -> None:
    """They come to the same as in one piece."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script), Hop("b", script)) as world:
        mta = world.mta("a1")

        async def handle(stream: trio.abc.Stream, peer: Address) -> None:
            await mta.handle(Dripping(stream), peer)

        client = await world.client(speaks)
        whole = await client.transact("u@a.example", "v@a.example")
        await client.play("C: RSET\nS: 250 ...")
        await trio.sleep(world.settings.timeouts.idle + 0.1)  # or the session is used again
        world.network.serve(world.address("a1"), handle)
        began = trio.current_time()
        dripped = await client.transact("u@a.example", "v@a.example")
        assert dripped == whole
        assert trio.current_time() - began > 1
