"""Next hops that say anything at any moment: whatever it is, a client's 2xx has a next hop's 2xx behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from world import Client, Hop, Speaks, World, wire

from mailgate.network import Address
from mailgate.testing import reset, seeded


@dataclass(frozen=True, slots=True)
class Say:
    """Send these octets."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Hear:
    """Read until what is read ends so."""

    end: bytes = b"\r\n"


@dataclass(frozen=True, slots=True)
class Sip:
    """Read that many octets, at most."""

    octets: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for some tenths of a second."""

    tenths: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection, by FIN or by RST."""

    abruptly: bool


Move = Say | Hear | Sip | Wait | Leave


@dataclass(slots=True)
class RandomHop:
    """Makes its moves in each session, and then only reads. Notes what it said when."""

    moves: list[Move]
    said: list[tuple[float, bytes]] = field(default_factory=list)
    heard: bytes = b""
    heard_all: bool = False
    """the gateway closed first, and all that it had said was read"""

    async def handle(self, stream: trio.abc.Stream, peer: Address) -> None:
        """Serve one connection."""
        try:
            for move in self.moves:
                await self._make(move, stream)
            while await self._read(stream, 65_536):
                pass
        except trio.BrokenResourceError:
            return
        self.heard_all = Leave not in map(type, self.moves)

    async def _make(self, move: Move, stream: trio.abc.Stream) -> None:
        match move:
            case Say(octets):
                await stream.send_all(octets)
                self.said.append((trio.current_time(), octets))
            case Hear(end):
                heard = b""
                while not heard.endswith(end):
                    octet = await self._read(stream, 1)
                    if not octet:
                        raise trio.BrokenResourceError
                    heard += octet
            case Sip(octets):
                await self._read(stream, octets)
            case Wait(tenths):
                await trio.sleep(tenths / 10)
            case Leave(abruptly):
                await (reset(stream) if abruptly else stream.aclose())
                raise trio.BrokenResourceError

    async def _read(self, stream: trio.abc.Stream, limit: int) -> bytes:
        data = bytes(await stream.receive_some(limit))
        self.heard += data
        return data


# Scripts: the proper dialog, with anything in it changed

RECIPIENTS = ("u@a.example", "v@a.example")
LINES = [b"250 2.0.0 ok\r\n", b"354 go\r\n", b"220 hi\r\n", b"353 each\r\n", b"221 bye\r\n"]
REFUSALS = [b"450 4.2.0 later\r\n", b"550 5.1.1 no\r\n", b"421 4.3.2 bye\r\n", b"552 5.3.4 too big\r\n"]
PIECES = [
    b"2",
    b"250",
    b"250 ",
    b"250-",
    b"250-a\r\n",
    b"ok\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"junk\r\n",
    b"x" * 3000,
]

say = st.sampled_from(LINES + REFUSALS + PIECES).map(Say)
moves = st.one_of(
    say,
    say,
    st.sampled_from([Hear(), Hear(b"\r\n.\r\n")]),
    st.sampled_from([1, 5, 99]).map(Sip),
    st.sampled_from([1, 5, 9, 10, 11, 25, 700]).map(Wait),
    st.booleans().map(Leave),
)


def proper(speaks: Speaks, extensions: tuple[str, ...]) -> list[Move]:
    hello = "".join(f"250-{one}\r\n" for one in ("hi", *extensions)) + "250 8BITMIME\r\n"
    replies = [
        b"220 hi\r\n",
        hello.encode(),
        b"250 2.1.0 ok\r\n",
        b"250 2.1.5 ok\r\n",
        b"250 2.1.5 ok\r\n",
        b"354 go\r\n",
    ]
    script: list[Move] = []
    for one in replies:
        script += [Say(one), Hear()]
    script[-1] = Hear(b"\r\n.\r\n")
    if "PRDR" in extensions:
        return [*script, Say(b"353 each\r\n"), *[Say(b"250 2.0.0 ok\r\n")] * 3]
    return [*script, *[Say(b"250 2.0.0 ok\r\n")] * (2 if speaks == "lmtp" else 1)]


@st.composite
def scripts(draw: st.DrawFn, speaks: Speaks, extensions: tuple[str, ...]) -> list[Move]:
    script = proper(speaks, extensions)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(script)))
        match draw(st.sampled_from(["insert", "insert", "replace", "split", "drop"])), script[place : place + 1]:
            case "split", [Say(octets)]:
                cut = draw(st.integers(0, len(octets)))
                script[place : place + 1] = [Say(octets[:cut]), draw(moves), Say(octets[cut:])]
            case "drop", _:
                del script[place : place + 1]
            case "replace", _:
                script[place : place + 1] = [draw(moves)]
            case _:
                script.insert(place, draw(moves))
    return script


# The client's side


@dataclass(slots=True)
class Story:
    """What the client said and heard, and when."""

    go_ahead: float = math.inf
    """when it had the 354"""
    dot: float = math.inf
    """when it sent its dot, a second later"""
    outcomes: list[str] = field(default_factory=list)
    """for each recipient in order"""
    final: str = ""
    """what closes a PRDR"""
    told: list[str] = field(default_factory=list)
    """all replies from RCPT on"""


async def transact(client: Client, story: Story, parameters: str) -> None:
    story.told += (await client.envelope(*RECIPIENTS, parameters=parameters)).rcpts
    accepted = sum(one.startswith("2") for one in story.told)
    if not accepted:
        return
    await client.play("C: DATA")
    story.told.append(await client.reply())
    if not story.told[-1].startswith("354"):
        return
    story.go_ahead = trio.current_time()
    await client.send(CONTENT)
    await trio.sleep(1)
    story.dot = trio.current_time()
    await client.send(b".\r\n")
    if parameters:
        await client.play("S: 353 ...")
    due = accepted if parameters or client.speaks == "lmtp" else 1
    story.outcomes = [await client.reply() for _ in range(due)]
    if parameters:
        story.final = await client.reply()
    story.told += [*story.outcomes, story.final]


CONTENT = wire(b"Subject: hi\r\n\r\n.\r\n")[:-3]


async def run(hop: RandomHop, speaks: Speaks, client_speaks: Speaks, parameters: str, capacity: int) -> Story:
    story = Story()
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", speaks=speaks), capacity=capacity) as world:
        world.network.serve(world.address("a1"), hop.handle)
        client = await world.client(client_speaks)
        await transact(client, story, parameters)
        await client.quit()
    return story


def replies(said: bytes) -> list[bytes]:
    """The last lines of the complete replies in there."""
    return [line for line in said.split(b"\n")[:-1] if line[3:4] != b"-"]


def prdr_replies(final: list[bytes], positive: list[int], accepted: int) -> list[bytes]:
    """Those that must be 2xx: of the recipients that were told so, and the last one."""
    return [final[1 + number] for number in (*positive, accepted)]


def check(hop: RandomHop, story: Story, speaks: Speaks, prdr: bool) -> None:
    if any(one.startswith("5") for one in story.told):
        said = b"".join(octets for _, octets in hop.said)
        assert any(line.startswith(b"5") for line in said.split(b"\n")), "a 5xx of nobody's"
    positive = [number for number, one in enumerate(story.outcomes) if one.startswith("2")]
    assert not story.final or story.final.startswith("2") == bool(positive), "the last word of PRDR is another"
    if not positive:
        return
    before = b"".join(octets for time, octets in hop.said if time <= story.go_ahead)
    between = b"".join(octets for time, octets in hop.said if story.go_ahead < time < story.dot)
    behind = b"".join(octets for time, octets in hop.said if time >= story.dot)
    assert before.endswith(b"\n"), "a reply was begun before the message"
    assert before.split(b"\n")[-2].startswith(b"3"), "something was said behind the 354"
    assert between == b"", "something was said inside the message"
    final = replies(behind)
    if speaks == "lmtp":
        assert all(final[number].startswith(b"2") for number in positive), "a recipient has no 2xx of its own"
    elif prdr and final[0].startswith(b"353"):
        assert all(one.startswith(b"2") for one in prdr_replies(final, positive, len(story.outcomes))), (
            "PRDR ends in no 2xx"
        )
    else:
        assert final[0].startswith(b"2"), "there is no 2xx behind the dot"
    if hop.heard_all:
        assert CONTENT + b".\r\n" in hop.heard, "the message is not complete"


DIALECTS: list[tuple[Speaks, Speaks, tuple[str, ...], str]] = [
    # of the client, of the next hop, what the next hop offers, parameters of the client's MAIL
    ("smtp", "smtp", ("PIPELINING",), ""),
    ("smtp", "smtp", (), ""),
    ("lmtp", "smtp", ("PIPELINING", "PRDR"), ""),
    ("lmtp", "lmtp", ("PIPELINING",), ""),
    ("smtp", "smtp", ("PRDR",), " PRDR"),
    ("smtp", "lmtp", (), " PRDR"),
]


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    dialect=st.sampled_from(DIALECTS),
    capacity=st.sampled_from([64, 65_536]),
    seed=st.integers(0, 1000),
)
def test_random_next_hop(
    data: st.DataObject, dialect: tuple[Speaks, Speaks, tuple[str, ...], str], capacity: int, seed: int
) -> None:
    client_speaks, speaks, extensions, parameters = dialect
    hop = RandomHop(data.draw(scripts(speaks, extensions)))
    seeded(seed)
    story = trio.run(run, hop, speaks, client_speaks, parameters, capacity, clock=MockClock(autojump_threshold=0))
    check(hop, story, speaks, "PRDR" in extensions)


def test_the_proper_script_is_taken() -> None:
    """Else the test above would show nothing."""
    for client_speaks, speaks, extensions, parameters in DIALECTS:
        hop = RandomHop(proper(speaks, extensions))
        story = trio.run(run, hop, speaks, client_speaks, parameters, 64, clock=MockClock(autojump_threshold=0))
        assert [one[:3] for one in story.outcomes] == ["250"] * len(story.outcomes) != []
        check(hop, story, speaks, "PRDR" in extensions)
