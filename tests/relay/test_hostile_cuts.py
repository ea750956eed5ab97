"""A next hop whose connection ends, or goes silent, at every single byte of the dialog, in both directions."""

from __future__ import annotations

import dataclasses
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
    """A next hop's end of a connection that is cut, or not; octets count from the last `count_from_here` on."""

    def __init__(self, stream: trio.abc.Stream, cut: Cut | None) -> None:
        self._stream = stream
        self._cut = cut
        self.carried = {Way.SAYS: b"", Way.HEARS: b""}

    def count_from_here(self, cut: Cut | None) -> None:
        """Forget what was carried, and cut from here on."""
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
        heard = data[: self._room(Way.HEARS, len(data))]  # the cut may have been set meanwhile
        if data and not heard:
            await self._end()
        self.carried[Way.HEARS] += heard
        return heard

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
    kept: bool = False
    """another transaction went well before, and the session is cut in its second one"""


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
    "kept smtp": (dataclasses.replace(SMTP, kept=True), How.CLOSE, BOTH),
    "kept smtp, silent": (dataclasses.replace(SMTP, kept=True), How.HANG, BOTH),
    "kept lmtp, reset": (dataclasses.replace(LMTP, kept=True), How.RESET, BOTH),
    "kept, not pipelined": (dataclasses.replace(SMTP, extensions=(), kept=True), How.CLOSE, BOTH),
}
CASES = [
    pytest.param(dialect, how, way, id=f"{name}, {way.value}")
    for name, (dialect, how, ways) in SWEEPS.items()
    for way in ways
]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a transaction."""

    told: Told
    first: int
    """messages that the first host got on the connection that was cut"""
    anew: int
    """messages that it got on others"""
    second: int
    """messages that the second host got"""
    stream: CutStream


async def run(dialect: Dialect, cut: Cut | None) -> Run:
    """A transaction by way of a next hop of two hosts, the first one's first connection being cut."""
    hop = Hop("a", *[Script(extensions=dialect.extensions)] * 2, speaks=dialect.hop)
    capacity = 16 if cut is not None and cut.how is How.HANG else 65_536
    streams: list[CutStream] = []
    async with trio.open_nursery() as nursery, World(nursery, hop, capacity=capacity) as world:
        mta = world.mta("a1")

        async def handle(stream: trio.abc.Stream, peer: Address) -> None:
            streams.append(CutStream(stream, None if streams or dialect.kept else cut))
            await mta.handle(streams[-1], peer)

        world.network.serve(world.address("a1"), handle)
        client = await world.client(dialect.client)
        if dialect.kept:
            await client.transact(*dialect.recipients, parameters=dialect.mail, content=b".\r\n")
            await trio.testing.wait_all_tasks_blocked()
            streams[0].count_from_here(cut)
        before = len(mta.messages)
        told = await client.transact(*dialect.recipients, parameters=dialect.mail, content=b".\r\n")
        await client.quit()
    assert len(streams) <= 2
    first = len(mta.messages) - before
    anew = sum(DOT in stream.carried[Way.HEARS] for stream in streams[1:])
    return Run(told, first - anew, anew, len(world.mta("a2").messages), streams[0])


DOT = b"\r\n..\r\n.\r\n"
"""the end of the message, on its way to a next hop"""


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
    """A message is taken at most once. Before the dot the other host takes it, or, where a kept session was cut before
    anything was known of this transaction, the same one in a new session. Behind the dot nobody else does: then the
    client hears 2xx where the first host's 2xx came in full, and 4xx where it did not."""
    uncut = (await run(dialect, None)).stream
    for octets in range(len(uncut.carried[way])):
        found = await run(dialect, Cut(way, octets, how))
        why = f"cut at {octets}: {found.stream.carried}; {found}"
        told, carried = found.told, found.stream.carried
        heard, said = positive(told, dialect), confirmed(carried[Way.SAYS], dialect)
        elsewhere = found.anew + found.second
        assert found.first == (DOT in carried[Way.HEARS]), why
        if how is not How.HANG:  # a silence at DATA uses up the time for a 354
            assert elsewhere or b"354 go ahead\r\n" in carried[Way.SAYS], why
        assert not any(one.startswith("5") for one in (*told.rcpts, told.data, *told.outcomes)), why
        if elsewhere:
            assert (found.first, elsewhere) == (0, 1), why
            assert all(heard), why
        elif how is How.RESET:  # what was on its way is lost
            assert all(confirmed for told, confirmed in zip(heard, said, strict=True) if told), why
        else:
            assert heard == said, why
        if found.anew:
            assert dialect.kept, why
            assert b"RCPT" not in carried[Way.HEARS], why
