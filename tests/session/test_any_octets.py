"""Whatever the peer sends, in whatever pieces, and however Trio's scheduler shuffles: an ending, and no exception."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import GREETING, OPTIONS, RECIPIENTS, SENDER, Decider, serve
from trio.testing import MockClock

from mailgate.protocol.command import MailParameters
from mailgate.protocol.reply import Reply, Role
from mailgate.session.client import ClientSession, Lost, Patience, Stale
from mailgate.testing import BoundedStream, bounded_stream_pair, seeded

CAPACITIES = st.sampled_from([1, 64, 65_536])
SEEDS = st.integers(0, 2**32 - 1)
PAUSES = st.lists(st.sampled_from([0.0, 0.0, 1.0, 20.0]), max_size=5)


async def say(stream: BoundedStream, octets: bytes, pauses: list[float]) -> None:
    """Send the octets in as many parts as there are pauses, and close."""
    parts = len(pauses) + 1
    for number, pause in enumerate([*pauses, 0.0]):
        try:
            await stream.send_all(octets[len(octets) * number // parts : len(octets) * (number + 1) // parts])
        except trio.BrokenResourceError:
            return
        await trio.sleep(pause)
    await stream.send_eof()


async def hear(stream: BoundedStream) -> bytes:
    heard = b""
    while data := await stream.receive_some():
        heard += data
    return heard


# A client's session

_COMMANDS = st.one_of(
    st.sampled_from((b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<b@y>\r\n", b"RCPT TO:<no@y>\r\n", b"DATA\r\n")),
    st.sampled_from((b"hello\r\n", b".\r\n", b"\r\n.\r\n", b"RSET\r\n", b"QUIT\r\n", b"junk\r\n", b"x" * 2050)),
    st.binary(max_size=5),
)
COMMANDS = st.lists(_COMMANDS, max_size=15).map(b"".join)
USUAL = st.sampled_from((b"", b"EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"))


async def converse(octets: bytes, capacity: int, pauses: list[float]) -> tuple[list[str], bytes]:
    """What the decider is told, and what the client hears."""
    client, server = bounded_stream_pair(capacity)
    session = serve(server, OPTIONS)
    decider = Decider(session)
    heard = b""

    async def listen_to_replies() -> None:
        nonlocal heard
        heard = await hear(client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, client, octets, pauses)
        nursery.start_soon(listen_to_replies)
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            await decider.run()
            listening.cancel_scope.cancel()
        await server.aclose()
    return decider.told, heard


@settings(deadline=None)
@given(USUAL, COMMANDS, CAPACITIES, PAUSES, SEEDS)
def test_a_client_that_says_anything(
    usual: bytes, octets: bytes, capacity: int, pauses: list[float], seed: int
) -> None:
    seeded(seed)
    octets = usual + octets
    told, heard = trio.run(converse, octets, capacity, pauses, clock=MockClock(autojump_threshold=0))
    assert told[-1] in ("quit", "gone")
    assert sum("message" in one for one in told) <= octets.count(b".\r\n")
    assert heard.startswith(bytes(GREETING))
    assert heard.endswith(b"\r\n")


# A session with a next hop

_REPLIES = st.one_of(
    st.sampled_from(
        (b"220 hi\r\n", b"250 ok\r\n", b"250-PIPELINING\r\n", b"354 go\r\n", b"421 bye\r\n", b"451 no\r\n")
    ),
    st.sampled_from((b"550-no\r\n", b"550 no\r\n", b"353 each\r\n", b"junk\r\n", b"2", b"\r\n", b"x" * 2050)),
    st.binary(max_size=5),
)
REPLIES = st.lists(_REPLIES, max_size=10).map(b"".join)
WELL = b"220 hi\r\n250 mx\r\n250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n250 ok\r\n250 ok\r\n"
PATIENCE = Patience(10)
STARTS = st.integers(0, len(WELL)).map(lambda length: WELL[:length])


def positive(result: Reply | Lost) -> bool:
    return isinstance(result, Reply) and result.kind in (2, 3)


async def transact(session: ClientSession) -> Reply | Lost:
    """Take the steps of a delivery, up to the first that comes to nothing; what the last one comes to."""
    steps: list[Callable[[], Awaitable[Reply | Lost]]] = [
        lambda: session.greeting(PATIENCE),
        lambda: session.hello("gw", PATIENCE),
        lambda: session.mail(SENDER, MailParameters(prdr=True), PATIENCE),
    ]
    for step in steps:
        result = await step()
        if not positive(result):
            return result
    lost = await session.offer(RECIPIENTS, PATIENCE)
    if lost is not None:
        return lost
    answers = [await session.reply(PATIENCE) for _ in RECIPIENTS]
    if not any(positive(one) for one in answers):
        return answers[-1]
    result = await session.data(PATIENCE)
    if not positive(result):
        return result
    spoken = await session.content(b"hello\r\n") or await session.look() or await session.end()
    if spoken is not None:
        return spoken
    while session.outcomes_due and isinstance(result, Reply):
        result = await session.reply(PATIENCE)
    return result


async def deliver(role: Role, octets: bytes, capacity: int, pauses: list[float]) -> tuple[Reply | Lost, float]:
    """What becomes of it, and when. Then another transaction is begun, where that may be, and the session ended."""
    ours, theirs = bounded_stream_pair(capacity)
    session = ClientSession(ours, role, stall=60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear, theirs)
        nursery.start_soon(say, theirs, octets, pauses)
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            result = await transact(session)
            ended = trio.current_time()
            if isinstance(result, Lost):
                assert not session.partable
            if session.reusable:
                assert isinstance(await session.again(SENDER, MailParameters(), PATIENCE), Reply | Stale)
            listening.cancel_scope.cancel()
        parting = trio.current_time()
        await session.farewell(5)
        assert trio.current_time() <= parting + 5
        assert ours.closed
        nursery.cancel_scope.cancel()
    return result, ended


@settings(deadline=None)
@given(st.sampled_from(Role), STARTS, REPLIES, CAPACITIES, PAUSES, SEEDS)
def test_a_next_hop_that_says_anything(
    role: Role, start: bytes, octets: bytes, capacity: int, pauses: list[float], seed: int
) -> None:
    seeded(seed)
    clock = MockClock(autojump_threshold=0)
    _, ended = trio.run(deliver, role, start + octets, capacity, pauses, clock=clock)
    assert ended <= PATIENCE.silence * 13, "no step takes longer than its patience"
