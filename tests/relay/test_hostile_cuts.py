"""A next hop whose connection ends, or goes silent, at every single byte of the dialog, in both directions."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock
from world import Hop, Speaks, Told, World

from mailgate.network import Address
from mailgate.testing import Script, reset


class Way(enum.Enum):
    """A direction of the connection, seen from the next hop."""

    SAYS = "says"
    HEARS = "hears"


class How(enum.Enum):
    """What happens behind the last octet."""

    CLOSE = "FIN"
    RESET = "RST"
    HANG = "silence"


@dataclass(frozen=True, slots=True)
class Cut:
    """Behind how many octets one way a connection is cut."""

    way: Way
    octets: int
    how: How


class CutStream(trio.abc.Stream):
    """A next hop's end of a connection that is cut, or not."""

    def __init__(self, stream: trio.abc.Stream, cut: Cut | None) -> None:
        self._stream = stream
        self._cut = cut
        self.carried = {Way.SAYS: b"", Way.HEARS: b""}

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        piece = bytes(data)[: self._room(Way.SAYS, len(data))]
        if piece:
            await self._stream.send_all(piece)
            self.carried[Way.SAYS] += piece
        if not self._room(Way.SAYS, 1):
            await self._end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        room = self._room(Way.HEARS, max_bytes or 65_536)
        if not room:
            await self._end()
        data = bytes(await self._stream.receive_some(room))
        self.carried[Way.HEARS] += data
        return data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _room(self, way: Way, wanted: int) -> int:
        if self._cut is None or self._cut.way is not way:
            return wanted
        return min(wanted, self._cut.octets - len(self.carried[way]))

    async def _end(self) -> None:
        match self._cut:
            case Cut(how=How.HANG):
                await trio.sleep_forever()
            case Cut(how=How.RESET):
                await reset(self._stream)
        await self._stream.aclose()
        raise trio.BrokenResourceError("cut")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How client, gateway and next hop speak with each other."""

    client: Speaks
    hop: Speaks
    extensions: tuple[str, ...]
    recipients: tuple[str, ...] = ("u@a.example", "v@a.example")
    mail: str = ""
    """parameters of the client's MAIL"""


SMTP = Dialect("smtp", "smtp", ("PIPELINING",))
LMTP = Dialect("lmtp", "lmtp", ("PIPELINING",))
PRDR = Dialect("smtp", "smtp", ("PIPELINING", "PRDR"), mail=" PRDR")
BOTH = (Way.SAYS, Way.HEARS)
SWEEPS = {
    "smtp": (SMTP, How.CLOSE, BOTH),
    "smtp, reset": (SMTP, How.RESET, BOTH),
    "smtp, silent": (SMTP, How.HANG, BOTH),
    "smtp to lmtp": (Dialect("smtp", "lmtp", (), ("u@a.example",)), How.CLOSE, (Way.SAYS,)),
    "lmtp to smtp": (Dialect("lmtp", "smtp", ()), How.CLOSE, (Way.SAYS,)),
    "lmtp": (LMTP, How.CLOSE, BOTH),
    "lmtp, silent": (LMTP, How.HANG, (Way.SAYS,)),
    "prdr": (PRDR, How.CLOSE, (Way.SAYS,)),
}
CASES = [
    pytest.param(dialect, how, way, id=f"{name}, {way.value}")
    for name, (dialect, how, ways) in SWEEPS.items()
    for way in ways
]


class Cutting:
    """Transactions by way of a next hop of two hosts, whose first one's connections are cut."""

    def __init__(self, world: World, dialect: Dialect) -> None:
        self._world = world
        self._dialect = dialect
        self._address = world.address("a1")

    async def transact(self, cut: Cut | None) -> tuple[Told, CutStream]:
        mta = self._world.mta("a1")
        streams = []

        async def handle(stream: trio.abc.Stream, peer: Address) -> None:
            streams.append(CutStream(stream, cut))
            await mta.handle(streams[-1], peer)

        self._world.network.serve(self._address, handle)
        client = await self._world.client(self._dialect.client)
        told = await client.transact(*self._dialect.recipients, parameters=self._dialect.mail, content=b".\r\n")
        await client.quit()
        [stream] = streams
        return told, stream


def positive(told: Told, dialect: Dialect) -> list[bool]:
    """For each recipient: was it told 2xx behind the data."""
    outcomes = told.outcomes[1:-1] if dialect.mail else told.outcomes
    if len(outcomes) <= 1:
        outcomes = (outcomes or ("",)) * len(dialect.recipients)
    return [one.startswith("2") for one in outcomes]


def confirmed(said: bytes, dialect: Dialect) -> list[bool]:
    """For each recipient: do these octets of a next hop have a complete 2xx behind the data."""
    _, _, behind = said.partition(b"354 ")
    replies = [line for line in behind.splitlines(keepends=True)[1:] if line.endswith(b"\r\n")]
    count = len(dialect.recipients)
    if dialect.hop == "lmtp":
        return [one.startswith(b"250") for one in replies[:count]] + [False] * (count - len(replies))
    final = count + 1 if "PRDR" in dialect.extensions else 0
    return [len(replies) > final and replies[final].startswith(b"250")] * count


@pytest.mark.parametrize(("dialect", "how", "way"), CASES)
async def test_cut_at_every_byte(dialect: Dialect, how: How, way: Way, autojump_clock: MockClock) -> None:
    """A message is taken at most once. Before the dot the other host takes it. Behind the dot nobody else does:
    then the client hears 2xx where the first host's 2xx came in full, and 4xx where it did not."""
    hop = Hop("a", *[Script(extensions=dialect.extensions)] * 2, speaks=dialect.hop)
    capacity = 16 if how is How.HANG else 65_536
    async with trio.open_nursery() as nursery, World(nursery, hop, capacity=capacity) as world:
        cutting = Cutting(world, dialect)
        _, uncut = await cutting.transact(None)
        for octets in range(len(uncut.carried[way])):
            before = world.messages
            told, stream = await cutting.transact(Cut(way, octets, how))
            first, second = (world.messages[name] - before[name] for name in ("a1", "a2"))
            found = f"cut at {octets}: {stream.carried}; {told}; {first} + {second} messages"
            dot_heard = b"\r\n..\r\n.\r\n" in stream.carried[Way.HEARS]
            heard, said = positive(told, dialect), confirmed(stream.carried[Way.SAYS], dialect)
            assert first == dot_heard, found
            if how is not How.HANG:  # a silence at DATA uses up the time for a 354
                assert second or b"354 go ahead\r\n" in stream.carried[Way.SAYS], found
            assert not any(one.startswith("5") for one in (*told.rcpts, told.data, *told.outcomes)), found
            if second:
                assert not first, found
                assert all(heard), found
            elif how is How.RESET:  # what was on its way is lost
                assert all(confirmed for told, confirmed in zip(heard, said, strict=True) if told), found
            else:
                assert heard == said, found
