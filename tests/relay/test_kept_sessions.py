"""Upstream sessions kept for the next transaction: when they are used again, and what may be wrong with them then."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from world import DONE, Client, Hop, World

from mailgate.network import Address, Answer, TcpAddress
from mailgate.relay.settings import Backbone, Limits
from mailgate.testing import Close, Delay, Plan, Raw, Reset, Script, ScriptedMTA, Silence, Turns

EAST = Backbone(name="east", sources=("192.0.2.10",), helo="east.example")
WEST = Backbone(name="west", sources=("192.0.2.20",), helo="west.example")


class Tapped(trio.abc.Stream):
    """A server's end of a connection, which remembers what came in one piece."""

    def __init__(self, stream: trio.abc.Stream, pieces: list[bytes], first: bytes = b"") -> None:
        self.stream = stream
        self.pieces = pieces
        self.first = first
        """was read already"""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.first:
            data, self.first = self.first, b""
            return data
        received = await self.stream.receive_some(max_bytes)
        self.pieces.append(bytes(received))
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


def tap(world: World, name: str) -> list[bytes]:
    """What a host reads from now on, piece by piece."""
    pieces: list[bytes] = []
    mta = world.mta(name)

    async def handle(stream: trio.abc.Stream, peer: Address) -> None:
        await mta.handle(Tapped(stream, pieces), peer)

    world.network.serve(world.address(name), handle)
    return pieces


def sessions(world: World, name: str = "a1") -> int:
    """How many a host has had."""
    return len(world.mta(name).sessions)


def kept(world: World) -> int:
    return world.gateway._shared.upstreams.kept


def quit_at(world: World, name: str = "a1", session: int = 0) -> list[float]:
    """When a host was told QUIT."""
    return [line.time for line in world.mta(name).sessions[session].lines if line.text == "QUIT"]


async def delivers(client: Client, *recipients: str, parameters: str = "") -> None:
    told = await client.transact(*(recipients or ("u@a.example",)), parameters=parameters)
    assert all(outcome.startswith("2") for outcome in told.outcomes), told
    assert told.outcomes, told
    await wait_all_tasks_blocked()


# Used again


@pytest.mark.parametrize("another_client", [False, True])
async def test_used_again(another_client: bool, autojump_clock: MockClock) -> None:
    """RSET and MAIL go out together: one round trip, and what an earlier user left behind is gone."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        pieces = tap(world, "a1")
        client = await world.client()
        await delivers(client)
        await trio.sleep(2.9)
        if another_client:
            await client.quit()
            client = await world.client()
        await delivers(client)
        assert sessions(world) == 1
        assert [piece for piece in pieces if b"RSET" in piece] == [b"RSET\r\nMAIL FROM:<s@in.example>\r\n"]
        said = [str(line) for line in world.mta("a1").sessions[0].lines if line.side == "C"]
        assert [line for line in said if not line.startswith("C: [")] == [
            "C: EHLO gw.example",
            *("C: MAIL FROM:<s@in.example>", "C: RCPT TO:<u@a.example>", "C: DATA"),
            *("C: RSET", "C: MAIL FROM:<s@in.example>", "C: RCPT TO:<u@a.example>", "C: DATA"),
        ]
        assert world.messages == {"a1": 2}


async def test_used_again_without_pipelining(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(extensions=()))) as world:
        pieces = tap(world, "a1")
        client = await world.client()
        await delivers(client)
        await delivers(client)
        assert sessions(world) == 1
        after = pieces.index(b"RSET\r\n")
        assert pieces[after + 1] == b"MAIL FROM:<s@in.example>\r\n"


async def test_told_quit_after_3_s(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        await delivers(client)
        await trio.sleep(2)
        await delivers(client)
        await trio.sleep(2.99)
        assert quit_at(world) == []
        await trio.sleep(2)
        assert quit_at(world) == [pytest.approx(5)]
        assert world.network.open_streams == 0
        await delivers(client)
        assert sessions(world) == 2


async def test_not_longer_than_30_s(autojump_clock: MockClock) -> None:
    """Counted from its start: a transaction every 2 s, and the one at 30 s gets a session of its own."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        for turn in range(16):
            await trio.sleep_until(2 * turn)
            await delivers(client)
        assert sessions(world) == 2
        assert quit_at(world) == [pytest.approx(30)]
        assert len(world.mta("a1").messages) == 16


async def test_not_more_than_100_transactions(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), limits=Limits(upstream_sessions=1)) as world:
        client = await world.client()
        for _ in range(100):
            assert sessions(world) <= 1
            await delivers(client)
        assert quit_at(world) == [0]
        await delivers(client)
        assert sessions(world) == 2


async def test_the_one_used_last_is_used_first(autojump_clock: MockClock) -> None:
    """So that those that are needed no more come of age."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(0.1)))) as world:
        clients = [await world.client() for _ in range(3)]
        async with trio.open_nursery() as sending:
            for client in clients:
                sending.start_soon(client.transact, "u@a.example")
        assert kept(world) == 3
        for _ in range(3):
            await trio.sleep(1)
            await delivers(clients[0])
        assert sessions(world) == 3
        assert kept(world) == 1


# For whom


def same_host(world: World, *names: str) -> None:
    """Let names of other hops lead to the host of hop `a`."""
    address = world.address("a1")
    assert isinstance(address, TcpAddress)
    for name in names:
        world.network.records[name, "A"] = Answer((address.ip,), 60)


async def test_not_across_backbones(autojump_clock: MockClock) -> None:
    """They stand for our HELO name, too."""
    hops = [
        Hop("a", names=("a.host",), backbones=[EAST]),
        Hop("b", names=("b.host",), backbones=[WEST]),
        Hop("c", names=("c.host",)),
        Hop("d", names=("d.host",), backbones=[EAST]),
    ]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        same_host(world, "b.host", "c.host", "d.host")
        client = await world.client()
        for turn in range(2):
            for name in ("a", "b", "c", "d"):
                await delivers(client, f"u@{name}.example")
            assert sessions(world) == 3, turn
        helos = [session.dialog[2] for session in world.mta("a1").sessions]
        assert helos == ["C: EHLO east.example", "C: EHLO west.example", "C: EHLO gw.example"]
        assert world.messages == {"a1": 8, "b1": 0, "c1": 0, "d1": 0}


async def test_not_across_protocols(autojump_clock: MockClock) -> None:
    hops = [Hop("a", names=("a.host",)), Hop("b", names=("b.host",), speaks="lmtp")]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        same_host(world, "b.host")
        quiet = Script(greeting=Raw(b""))
        mtas = {b"EHLO": ScriptedMTA("smtp", "smtp", quiet), b"LHLO": ScriptedMTA("lmtp", "lmtp", quiet)}

        async def handle(stream: trio.abc.Stream, peer: Address) -> None:
            await stream.send_all(b"220 either\r\n")
            first = bytes(await stream.receive_some())
            await mtas[first[:4]].handle(Tapped(stream, [], first), peer)

        world.network.serve(world.address("a1"), handle)
        client = await world.client("lmtp")
        for _ in range(3):
            await delivers(client, "u@a.example", "u@b.example")
        assert [len(mta.sessions) for mta in mtas.values()] == [1, 1]
        assert [len(mta.messages) for mta in mtas.values()] == [3, 3]


# Stale

USUAL = "250 2.1.0 sender ok"


@dataclass(frozen=True, slots=True)
class Use:
    """What becomes of a kept session until its next use, one second later."""

    script: Script
    seconds: float = 0
    """that the next use costs"""


def idling(*steps: str | Raw | Close | Reset | Silence) -> Script:
    """Half a second behind its first message the server does something."""
    return Script(dot=Turns((DONE, Delay(0.5), *steps), DONE))


def at_mail(*steps: str | Raw | Close | Reset | Silence) -> Script:
    return Script(mail=Turns(USUAL, steps, USUAL))


STALE = {
    "421 while idle": Use(idling("421 4.4.2 a1 idle for too long", Close())),
    "421 while idle, and stays": Use(idling("421 4.4.2 a1 idle for too long", Silence())),
    "closed while idle": Use(idling(Close())),
    "reset while idle": Use(idling(Reset())),
    "junk while idle": Use(idling(Raw(b"\x00\xff\r\n"), Silence())),
    "junk without an end while idle": Use(idling(Raw(b"x" * 5000), Silence())),
    "a reply nobody asked for while idle": Use(idling("250 2.0.0 still here")),
    "half a reply while idle": Use(idling(Raw(b"250-2.0.0 and"))),
    "a flood while idle": Use(idling(Raw(b"250 2.0.0 ok\r\n" * 20_000))),
    "421 to RSET": Use(Script(rset=("421 4.4.2 a1 closes", Close()))),
    "451 to RSET": Use(Script(rset="451 4.3.0 not now")),
    "502 to RSET": Use(Script(rset="502 5.5.1 what?")),
    "junk to RSET": Use(Script(rset=(Raw(b"\xff\xfe\r\n"), Silence()))),
    "closed at RSET": Use(Script(rset=Close())),
    "reset at RSET": Use(Script(rset=Reset())),
    "silent at RSET": Use(Script(rset=Silence()), 10),
    "421 to MAIL": Use(at_mail("421 4.3.2 a1 closes", Close())),
    "closed at MAIL": Use(at_mail(Close())),
    "reset at MAIL": Use(at_mail(Reset())),
    "junk to MAIL": Use(at_mail(Raw(b"?\r\n"), Silence())),
    "silent at MAIL": Use(at_mail(Silence()), 10),
}


@pytest.mark.parametrize("speaks", ["smtp", "lmtp"])
@pytest.mark.parametrize("case", STALE.values(), ids=STALE)
async def test_stale(case: Use, speaks: str, autojump_clock: MockClock) -> None:
    """The message goes out in a new session: the next hop is as well as ever, and nobody hears of it."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", case.script)) as world:
        client = await world.client("lmtp" if speaks == "lmtp" else "smtp")
        await delivers(client)
        assert kept(world) == 1
        await trio.sleep(1)
        began = trio.current_time()
        told = await client.transact("u@a.example")
        assert told.outcomes == (DONE,)
        assert trio.current_time() - began == pytest.approx(case.seconds)
        assert sessions(world) == 2
        assert world.messages == {"a1": 2}
        assert len(world.events("opened_anew")) == 1
        assert {event["log_level"] for event in world.log} <= {"debug", "info"}
        assert world.events("path_down", "path_up", "attempt_failed") == []
        assert not world.gateway._shared.health.down(world.gateway._shared.health.records().paths[0].path)


async def test_all_kept_ones_are_stale(autojump_clock: MockClock) -> None:
    """Those that are left are tried first, each once."""
    script = Script(dot=Turns(*[(Delay(1), DONE, Close())] * 5, DONE))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        clients = [await world.client() for _ in range(5)]
        async with trio.open_nursery() as sending:
            for client in clients:
                sending.start_soon(delivers, client)
        await delivers(clients[0])
        assert sessions(world) == 6
        assert {event["log_level"] for event in world.log} <= {"debug", "info"}


async def test_what_a_new_session_says_counts(autojump_clock: MockClock) -> None:
    """A host that has gone meanwhile: its kept session is stale, and then its path is down."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", idling(Close()), Script())) as world:
        client = await world.client()
        await delivers(client)
        await trio.sleep(1)
        world.network.refuse(world.address("a1"))
        await delivers(client)
        assert world.messages == {"a1": 1, "a2": 1}
        assert [event["why"] for event in world.events("path_down")] == ["Connection refused"]


async def test_a_kept_session_without_smtputf8(autojump_clock: MockClock) -> None:
    """A message that needs it goes to the next host, and the session serves again, or is told QUIT."""
    plain = Script(extensions=("PIPELINING", "8BITMIME"))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", plain, Script(), mx=(10, 20))) as world:
        client = await world.client()
        await delivers(client)
        await delivers(client, "ü@a.example", parameters=" SMTPUTF8")
        assert world.messages == {"a1": 1, "a2": 1}
        assert world.events("path_down") == []
        assert not any("RSET" in line for line in world.mta("a1").sessions[0].dialog)
        await trio.sleep(3)
        assert [line[3:] for line in world.mta("a1").sessions[0].dialog if line.startswith("C: Q")] == ["QUIT"]


# Not kept


@dataclass(frozen=True, slots=True)
class NotWell:
    dialog: str
    hop: Script = Script()  # noqa: RUF009 - it is frozen


MAIL = "C: MAIL FROM:<s@in.example>\nS: 250 ..."
RCPT = f"{MAIL}\nC: RCPT TO:<u@a.example>\nS: 250 ..."
NOT_WELL = {
    "taken back": NotWell(f"{RCPT}\nC: RSET\nS: 250 ..."),
    "the client says QUIT": NotWell(f"{RCPT}\nC: QUIT\nS: 221 ..."),
    "the client leaves": NotWell(f"{RCPT}\nC."),
    "the client leaves in the message": NotWell(f"{RCPT}\nC: DATA\nS: 354 ...\nC: half\nC."),
    "MAIL refused": NotWell(f"{MAIL}\nC: RCPT TO:<u@a.example>\nS: 550 ...", Script(mail=Turns(USUAL, "550 no"))),
    "RCPT refused": NotWell(
        f"{MAIL}\nC: RCPT TO:<u@a.example>\nS: 550 ...\nC: RSET\nS: 250 ...", Script(rcpt=Turns("250 ok", "550 no"))
    ),
    "DATA refused": NotWell(f"{RCPT}\nC: DATA\nS: 451 ...", Script(data=Turns("354 go", "451 no"))),
    "421 to the dot": NotWell(
        f"{RCPT}\nC: DATA\nS: 354 ...\nC: x\nC: .\nS: 451 ...",
        Script(dot=Turns(DONE, ("421 4.3.2 a1 closes", Close()))),
    ),
}


@pytest.mark.parametrize("used", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("case", NOT_WELL.values(), ids=NOT_WELL)
async def test_not_kept(case: NotWell, used: bool, autojump_clock: MockClock) -> None:
    """A session whose transaction did not come to its end, be it a new one or one that was kept before."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", case.hop)) as world:
        client = await world.client()
        await delivers(client)
        if not used:
            await trio.sleep(5)
        await client.play(case.dialog)
        await wait_all_tasks_blocked()
        assert kept(world) == 0
        assert sessions(world) == (1 if used else 2)
        assert world.network.open_streams == 0


async def test_kept_after_a_refused_dot(autojump_clock: MockClock) -> None:
    """The transaction has ended as it should: the next hop has spoken about the message, not about the session."""
    script = Script(dot=Turns("550 5.7.1 spam", DONE))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client()
        assert (await client.transact("u@a.example")).outcomes == ("550 5.7.1 spam",)
        await delivers(client)
        assert sessions(world) == 1


# The end


async def test_drain_parts_with_all(autojump_clock: MockClock) -> None:
    names = ("a", "b", "c", "d")
    async with trio.open_nursery() as nursery, World(nursery, *map(Hop, names)) as world:
        client = await world.client("lmtp")
        await delivers(client, *(f"u@{name}.example" for name in names))
        assert kept(world) == 4
        await trio.sleep(1)
        await world.gateway.drain()
        await wait_all_tasks_blocked()
        assert trio.current_time() == 1
        assert [quit_at(world, f"{name}1") for name in names] == [[1]] * 4
        assert world.network.open_streams == 0
        assert not any("Gateway.run" in task.name for task in nursery.child_tasks)


@pytest.mark.parametrize(
    "script", [Script(quit=Silence()), idling(Silence()), idling(Raw(b"250 2.0.0 ok\r\n" * 20_000))]
)
async def test_drain_waits_for_nobody_long(script: Script, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        await delivers(await world.client())
        await trio.sleep(1)
        await world.gateway.drain()
        await trio.sleep(5.001)
        assert not any("Gateway.run" in task.name for task in nursery.child_tasks)
        assert world.network.open_streams == 0


@pytest.mark.parametrize("quits", [DONE, Silence()], ids=["polite", "silent"])
@pytest.mark.parametrize("seconds", [0, 1, 3.5])
async def test_run_cancelled(seconds: float, quits: Plan, autojump_clock: MockClock) -> None:
    """Nothing is left then, be it kept or told QUIT."""
    async with trio.open_nursery() as nursery:
        world = World(nursery, Hop("a", Script(quit=quits)), Hop("b"), capacity=16)
        async with trio.open_nursery() as running:
            await running.start(world.gateway.run)
            client = await world.client("lmtp")
            await delivers(client, "u@a.example", "u@b.example")
            assert kept(world) == 2
            busy = await world.client()
            await busy.envelope("u@b.example")
            await trio.sleep(seconds)
            running.cancel_scope.cancel()
        assert kept(world) == 0
        await busy.quit()
        await client.quit()
        await wait_all_tasks_blocked()
        assert world.network.open_streams == 0
        assert world.gateway._shared.upstreams.held == 0
        nursery.cancel_scope.cancel()


async def test_a_goodbye_with_something_unasked_in_the_way(autojump_clock: MockClock) -> None:
    """Nobody looks at a kept session until it is needed; at its end what came meanwhile harms nobody."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", idling("250 2.0.0 hello?"))) as world:
        await delivers(await world.client())
        await trio.sleep(9)
        assert world.network.open_streams == 0
        assert {event["log_level"] for event in world.log} <= {"debug", "info"}
