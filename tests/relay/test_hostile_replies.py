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
from mailgate.testing import Close, Delay, During, Plan, Raw, Reset, Script, Step

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


# Unasked

STRAY = b"250 2.0.0 nobody asked\r\n"
STRAYS = {
    # what is said in one piece at a stage → what the client is told last
    "greeting": (b"220 hi\r\n", NO_PATH),
    "ehlo": (b"250 hi\r\n", LOST),
    "mail": (b"250 2.1.0 ok\r\n", LOST),
    "rcpt": (b"250 2.1.5 ok\r\n", LOST),
    "data": (b"354 go\r\n", LOST),
    "dot": (b"250 2.0.0 taken\r\n", TAKEN),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize("stray", [STRAY, b"421 4.3.2 bye\r\n", b"oops", b"\0", b"250-"], ids=str)
@pytest.mark.parametrize(("stage", "said", "told"), [(stage, *rest) for stage, rest in STRAYS.items()], ids=STRAYS)
async def test_stray_reply(
    stage: str, said: bytes, told: str, stray: bytes, speaks: Speaks, autojump_clock: MockClock
) -> None:
    """A second reply behind the one that was asked for is never the next command's: the session is lost."""
    stage = "lhlo" if (stage, speaks) == ("ehlo", "lmtp") else stage
    hop = Hop("a", script_of(stage, Raw(said + stray)), speaks=speaks)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 ...\nC: RCPT TO:<u@a.example>")
        last = await client.reply()
        if last.startswith("250"):
            await client.play("C: DATA")
            last = await client.reply()
        if last.startswith("354"):
            await client.play("C: Subject: hi\nC+ 1\nC: .")
            last = await client.reply()
        assert last == told


async def test_replies_beyond_the_recipients(autojump_clock: MockClock) -> None:
    """LMTP: three replies where two are due. The first two count."""
    script = Script(outcomes={"v@a.example": Raw(b"450 4.2.0 not you\r\n250 2.0.0 nor anybody\r\n")})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, speaks="lmtp")) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "v@a.example")
        assert told.outcomes == (TAKEN, "450 4.2.0 not you")


async def test_fewer_replies_than_recipients(autojump_clock: MockClock) -> None:
    script = Script(outcomes={"v@a.example": Close()})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, speaks="lmtp")) as world:
        client = await world.client("lmtp")
        told = await client.transact("u@a.example", "v@a.example", "w@a.example")
        assert told.outcomes == (TAKEN, UNKNOWN, UNKNOWN)


# Before our dot

EARLY: dict[str, tuple[Step, Plan, str]] = {
    # in the message; behind the dot; what the client is told
    "250, then 451": ("250 2.0.0 early", "451 4.3.0 no", LOST),
    "250, then nothing else": ("250 2.0.0 early", Raw(b""), LOST),
    "250, then 250": ("250 2.0.0 early", "250 2.0.0 ok", LOST),
    "354 again": ("354 go on", "250 2.0.0 ok", LOST),
    "353": ("353 as you like", "250 2.0.0 ok", LOST),
    "the beginning of a 250": (Raw(b"250 2.0.0 ea"), Raw(b"rly\r\n451 4.3.0 no\r\n"), LOST),
    "the code of a 250": (Raw(b"250"), Raw(b" ok\r\n451 4.3.0 no\r\n"), LOST),
    "one octet of a 250": (Raw(b"2"), Raw(b"50 ok\r\n451 4.3.0 no\r\n"), LOST),
    "a line of a 250": (Raw(b"250-early\r\n"), Raw(b"250 ok\r\n451 4.3.0 no\r\n"), LOST),
    "the beginning of a 552": (Raw(b"552 5.3.4 too "), Raw(b"big\r\n"), LOST),
    "garbage": (Raw(b"hello\r\n"), "250 2.0.0 ok", LOST),
    "garbage without end": (Raw(b"hello"), "250 2.0.0 ok", LOST),
    "421": ("421 4.3.2 bye", "250 2.0.0 ok", LOST),
    "552": ("552 5.3.4 too big", "250 2.0.0 ok", "552 5.3.4 too big"),
    "452": ("452 4.3.1 full", "250 2.0.0 ok", "452 4.3.1 full"),
    "452, then 250": (Raw(b"452 4.3.1 full\r\n250 2.0.0 ok\r\n"), "250 2.0.0 ok", "452 4.3.1 full"),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize(("early", "behind", "told"), EARLY.values(), ids=EARLY)
async def test_early_reply(early: Step, behind: Plan, told: str, speaks: Speaks, autojump_clock: MockClock) -> None:
    """What is said before our dot, or only begun, is no answer to it."""
    hop = Hop("a", Script(body=(During(20, early),), dot=behind), speaks=speaks)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: 354 ...\nC: Subject: hi\nC+ 1\nC: .\nS: {told}")
        assert world.messages == {"a1": 0}


@pytest.mark.parametrize("early", ["250 2.0.0 early", Raw(b"25"), "421 4.3.2 bye"], ids=str)
async def test_early_reply_and_the_next_host(early: Step, autojump_clock: MockClock) -> None:
    hop = Hop("a", Script(body=(During(20, early),)), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: 354 ...\nC: Subject: hi\nC+ 1\nC: .\nS: {TAKEN}")
        assert world.messages == {"a1": 0, "a2": 1}


LEAVES: dict[str, tuple[Step, ...]] = {
    "closes": ("552 5.3.4 too big", Close()),
    "stops reading": ("552 5.3.4 too big", Delay(50), Close()),
}


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize("steps", LEAVES.values(), ids=LEAVES)
async def test_refused_in_a_large_message(steps: tuple[Step, ...], capacity: int, autojump_clock: MockClock) -> None:
    """It refuses and leaves while we are writing: it is the refusal that counts, and no other host is tried."""
    hop = Hop("a", Script(body=(During(1000, steps),)), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop, capacity=capacity) as world:
        client = await world.client()
        told = await client.transact("u@a.example", content=b"x" * 998 + b"\r\n" + b"0123456789abcde\r\n" * 20_000)
        assert told.outcomes == ("552 5.3.4 too big",)
        assert world.messages == {"a1": 0, "a2": 0}


# 421 out of turn, while nobody is asking

IDLE = ("421 4.4.2 you were idle", Close())


@pytest.mark.parametrize("steps", [IDLE, IDLE[:1], IDLE[1:]], ids=["421 and FIN", "421", "FIN"])
async def test_lost_between_rcpt_and_data(steps: tuple[Step, ...], autojump_clock: MockClock) -> None:
    """What was accepted is offered again, in its order, and goes over the next host."""
    leaves = Script(recipients={"v@a.example": ("250 2.1.5 ok", Delay(1), *steps)})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", leaves, Script())) as world:
        client = await world.client()
        await client.envelope("u@a.example", "v@a.example")
        await client.play(f"C+ 2\nC: DATA\nS: 354 ...\nC: Subject: hi\nC: .\nS: {TAKEN}")
        assert [message.recipients for message in world.mta("a2").messages] == [("u@a.example", "v@a.example")]


@pytest.mark.parametrize("steps", [IDLE, IDLE[:1], IDLE[1:]], ids=["421 and FIN", "421", "FIN"])
async def test_lost_between_two_rcpts(steps: tuple[Step, ...], autojump_clock: MockClock) -> None:
    leaves = Script(recipients={"u@a.example": ("250 2.1.5 ok", Delay(1), *steps)})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", leaves, Script())) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play("C+ 2\nC: RCPT TO:<v@a.example>\nS: 250 2.1.5 ...")
        await client.play(f"C: DATA\nS: 354 ...\nC: Subject: hi\nC: .\nS: {TAKEN}")
        assert [message.recipients for message in world.mta("a2").messages] == [("u@a.example", "v@a.example")]


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
        world.network.serve(world.address("a1"), handle)
        dripped = await client.transact("u@a.example", "v@a.example")
        assert dripped == whole
        assert trio.current_time() > 1
