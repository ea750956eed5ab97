"""Every budget of the architecture, to the second: what is waited for, how long, and what is said then."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock
from world import Hop, Speaks, World

from mailgate.network import TcpAddress
from mailgate.relay.settings import Limits
from mailgate.testing import Close, Delay, During, Script, ScriptedMTA, Silence, SlowReading, StopReading

NO_PATH = "451 4.4.1 No path to the next hop, try later or elsewhere"
LOST = "451 4.4.2 The next hop was lost, try later or elsewhere"
UNKNOWN = "451 4.4.2 The next hop did not confirm the message, try again"
NOT_FOUND = "451 4.4.3 The next hop could not be looked up, try later or elsewhere"
TOO_LATE = "451 4.4.7 The next hop took too long, try later or elsewhere"
RCPT_OK = "250 2.1.5 recipient ok"
GO_AHEAD = "354 End data with <CR><LF>.<CR><LF>"
TAKEN = "250 2.0.0 taken"


@dataclass(frozen=True, slots=True)
class BlackHole:
    """A host of which nothing is heard."""


@dataclass(frozen=True, slots=True)
class Far:
    """A host to which connecting takes some seconds."""

    seconds: float
    script: Script = field(default_factory=Script)


@dataclass(frozen=True, slots=True)
class SlowName:
    """A host whose name takes some seconds to be looked up."""

    seconds: float
    script: Script = field(default_factory=Script)


Host = Script | BlackHole | Far | SlowName


def hop_of(name: str, hosts: tuple[Host, ...]) -> Hop:
    scripts = [
        one if isinstance(one, Script) else one.script if isinstance(one, Far | SlowName) else Script() for one in hosts
    ]
    named = any(isinstance(one, SlowName) for one in hosts)
    return Hop(
        name, *scripts, names=[f"{name}{number}.example" for number in range(1, len(hosts) + 1)] if named else ()
    )


def arrange(world: World, name: str, hosts: tuple[Host, ...]) -> None:
    """Make the ways to a hop's hosts what they are to be."""
    for number, host in enumerate(hosts, 1):
        match host:
            case BlackHole():
                world.network.black_hole(world.address(f"{name}{number}"))
            case Far(seconds):
                world.network.delay(world.address(f"{name}{number}"), seconds)
            case SlowName(seconds):
                for record_type in ("AAAA", "A"):
                    world.network.query_delays[f"{name}{number}.example", record_type] = seconds
            case Script():
                pass


def body(size: int) -> bytes:
    """A message of that many octets, in lines of 64."""
    return (b"x" * 62 + b"\r\n") * (size // 64)


DEAF_FROM_HERE = ("250 2.0.0 ok", Delay(9999))
SLOW_PROBE = Script(greeting=Delay(9), ehlo=(Delay(9), "502 5.5.1 no EHLO here"), helo=Delay(9))
SLOW = Script(greeting=Delay(9), ehlo=Delay(9), mail=Delay(59), rcpt=Silence())
NO_RCPT = Script(rcpt=Silence())
LOST_AT_177 = (NO_RCPT, NO_RCPT, Script(mail=(Delay(57), Close())))

RCPT_BUDGETS: dict[str, tuple[tuple[Host, ...], str, float, int]] = {
    # hosts; the reply to RCPT, after how many seconds; hosts that were tried
    "connect": ((BlackHole(),), NO_PATH, 5, 1),
    "connect, just in time": ((Far(4.9),), RCPT_OK, 4.9, 1),
    "connect, two hosts": ((BlackHole(), BlackHole()), NO_PATH, 10, 2),
    "connect, then the next host": ((BlackHole(), Script()), RCPT_OK, 5, 2),
    "greeting": ((Script(greeting=Silence()),), NO_PATH, 10, 1),
    "greeting, just in time": ((Script(greeting=Delay(9.9)),), RCPT_OK, 9.9, 1),
    "greeting, then the next host": ((Script(greeting=Silence()), Script()), RCPT_OK, 10, 2),
    "EHLO": ((Script(ehlo=Silence()),), NO_PATH, 10, 1),
    "EHLO, just in time": ((Script(ehlo=Delay(9.9)),), RCPT_OK, 9.9, 1),
    "HELO": ((Script(ehlo=(Delay(9), "502 5.5.1 no EHLO here"), helo=Silence()),), NO_PATH, 19, 1),
    "probe": ((Far(4, SLOW_PROBE),), NO_PATH, 30, 1),
    "probe, just in time": ((Far(2.9, SLOW_PROBE),), RCPT_OK, 29.9, 1),
    "probe, for each host anew": ((Far(4, SLOW_PROBE), Far(2, SLOW_PROBE)), RCPT_OK, 59, 2),
    "EHLO takes no byte": ((Script(greeting=DEAF_FROM_HERE),), NO_PATH, 10, 1),
    "look-up": ((SlowName(1000), Script()), RCPT_OK, 30, 1),
    "look-up, just in time": ((SlowName(29.8),), RCPT_OK, 29.8, 1),
    "look-up, of the only host": ((SlowName(1000),), NOT_FOUND, 30, 0),
    "look-up and probe": ((SlowName(25, Script(greeting=Delay(9))), SlowName(0)), RCPT_OK, 30, 2),
    "look-up and probe, just in time": ((SlowName(25, Script(greeting=Delay(4.9))), SlowName(0)), RCPT_OK, 29.9, 1),
    "MAIL": ((Script(mail=Silence()),), LOST, 60, 1),
    "MAIL, just in time": ((Script(mail=Delay(59.9)),), RCPT_OK, 59.9, 1),
    "RCPT": ((NO_RCPT,), LOST, 60, 1),
    "RCPT, just in time": ((Script(rcpt=Delay(59.9)),), RCPT_OK, 59.9, 1),
    "RCPT, then the next host": ((NO_RCPT, Script()), RCPT_OK, 60, 2),
    "RCPT takes no byte": ((Script(mail=DEAF_FROM_HERE),), LOST, 60, 1),
    "in all": ((NO_RCPT,) * 3, LOST, 180, 3),
    "in all, no fourth host": ((*(NO_RCPT,) * 3, Script()), LOST, 180, 3),
    "in all, just in time": ((*LOST_AT_177, Far(2.9)), RCPT_OK, 179.9, 4),
    "in all, cut at the look-up": ((*LOST_AT_177, SlowName(14)), LOST, 180, 3),
    "in all, cut at connect": ((*LOST_AT_177, BlackHole(), Script()), LOST, 180, 4),
    "in all, cut at the greeting": ((*LOST_AT_177, Script(greeting=Silence()), Script()), LOST, 180, 4),
    "in all, cut at EHLO": ((*LOST_AT_177, Script(ehlo=Silence()), Script()), LOST, 180, 4),
    "in all, cut where EHLO takes no byte": ((*LOST_AT_177, Script(greeting=DEAF_FROM_HERE)), LOST, 180, 4),
    "in all, cut at MAIL": ((SLOW, SLOW, Script()), LOST, 180, 2),
    "in all, hosts that cannot be reached": ((BlackHole(),) * 40, NO_PATH, 180, 36),
}


@pytest.mark.parametrize(("hosts", "reply", "seconds", "tried"), RCPT_BUDGETS.values(), ids=RCPT_BUDGETS)
async def test_rcpt(hosts: tuple[Host, ...], reply: str, seconds: float, tried: int, autojump_clock: MockClock) -> None:
    """Over connections that hold next to nothing, so that a host that does not read is noticed."""
    async with trio.open_nursery() as nursery, World(nursery, hop_of("a", hosts), capacity=8) as world:
        arrange(world, "a", hosts)
        client = await world.client()
        began = trio.current_time()
        told = await client.envelope("u@a.example")
        assert told.rcpts == (reply,)
        assert trio.current_time() - began == pytest.approx(seconds)
        # Hosts that are down are looked at every 5 s, beside the transaction.
        assert len({one.address for one in world.network.connections}) == tried


async def test_mx_that_are_not_answered_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), mx=(10,))) as world:
        world.network.query_delays["a.example", "MX"] = 1000
        client = await world.client()
        began = trio.current_time()
        assert (await client.envelope("u@a.example")).rcpts == (NOT_FOUND,)
        assert trio.current_time() - began == pytest.approx(30)


@pytest.mark.parametrize(
    ("nothing_heard", "seconds", "tried"),
    [
        pytest.param(True, 5 + 6 * 0.25, 7, id="nothing heard: each but the last joined after 250 ms"),
        pytest.param(False, 30, 3, id="silent behind the connect: each holds the floor for 10 s, 30 s in all"),
    ],
)
async def test_a_hosts_addresses_share_its_probe(
    nothing_heard: bool, seconds: float, tried: int, autojump_clock: MockClock
) -> None:
    """Seven addresses, then the next host."""
    async with trio.open_nursery() as nursery, World(nursery, hop_of("a", (SlowName(0), SlowName(0)))) as world:
        world.network.hosts["a1.example"] = tuple(f"10.9.9.{number}" for number in range(1, 8))
        silent = ScriptedMTA("silent", "smtp", Script(greeting=Silence()))
        for ip in world.network.hosts["a1.example"]:
            world.network.serve(TcpAddress(ip, 25), silent.handle)
            if nothing_heard:
                world.network.black_hole(TcpAddress(ip, 25))
        client = await world.client()
        began = trio.current_time()
        told = await client.envelope("u@a.example")
        assert told.rcpts == (RCPT_OK,)
        assert trio.current_time() - began == pytest.approx(seconds)
        addresses = {one.address for one in world.network.connections}
        assert addresses - {world.address("a2")} <= {TcpAddress(f"10.9.9.{number}", 25) for number in range(1, 8)}
        assert len(addresses) == tried + 1


async def test_many_slow_answers_are_no_silence(autojump_clock: MockClock) -> None:
    """A client waits for each reply from the one before it on, so that is how long a recipient may take."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(rcpt=Delay(4)))) as world:
        client = await world.client("lmtp")
        told = await client.transact(*(f"u{number}@a.example" for number in range(60)))
        assert told.rcpts == (RCPT_OK,) * 60
        assert trio.current_time() == pytest.approx(240)
        assert world.messages == {"a1": 1}


async def test_each_recipient_has_180_seconds_from_the_reply_before_it_on(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, hop_of("a", (NO_RCPT,) * 9)) as world:
        client = await world.client("lmtp")
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 ...")
        began = trio.current_time()
        answered = []
        for pause, recipient in ((0, "first@a.example"), (100, "second@a.example")):
            await client.play(f"C+ {pause}\nC: RCPT TO:<{recipient}>")
        for _ in range(2):
            assert await client.reply() == LOST
            answered.append(trio.current_time() - began)
        assert answered == pytest.approx([180, 360])


DATA_BUDGETS: dict[str, tuple[tuple[tuple[Host, ...], ...], str, float, int]] = {
    # for each hop its hosts; the reply to DATA, after how many seconds; connections that were tried
    "354": (((Script(data=Silence()),),), LOST, 60, 1),
    "354, just in time": (((Script(data=Delay(59.9)),),), GO_AHEAD, 59.9, 1),
    "354, no time for the next host": (((Script(data=Silence()), Script()),), LOST, 60, 1),
    "354, replayed in time": (((Script(data=(Delay(40), Close())), Script(mail=Delay(19.9))),), GO_AHEAD, 59.9, 2),
    "354, cut at the replay's connect": (((Script(data=(Delay(57), Close())), BlackHole(), Script()),), LOST, 60, 2),
    "354, cut at the replay's MAIL": (((Script(data=(Delay(40), Close())), Script(mail=Silence())),), LOST, 60, 2),
    "354, cut at the replay's RCPT": (
        ((Script(data=(Delay(40), Close())), Script(greeting=Delay(9), ehlo=Delay(9), rcpt=Silence())),),
        LOST,
        60,
        2,
    ),
    "354, cut at the replay's DATA": (((Script(data=(Delay(59), Close())), Script(data=Silence())),), LOST, 60, 2),
    "354 of two hops, one is enough": (((Script(data=Silence()),), (Script(data=Delay(1)),)), GO_AHEAD, 1, 2),
    "354 of two hops, one refuses": (
        ((Script(data=Silence()),), (Script(data="554 5.3.0 no"),)),
        "451 4.3.0 No next hop takes the message now, try later or elsewhere",
        60,
        2,
    ),
}


@pytest.mark.parametrize(("hops", "reply", "seconds", "tried"), DATA_BUDGETS.values(), ids=DATA_BUDGETS)
async def test_data(
    hops: tuple[tuple[Host, ...], ...], reply: str, seconds: float, tried: int, autojump_clock: MockClock
) -> None:
    named = dict(zip("ab", hops, strict=False))
    async with trio.open_nursery() as nursery, World(nursery, *[hop_of(*one) for one in named.items()]) as world:
        client = await world.client("lmtp")
        told = await client.envelope(*[f"u@{name}.example" for name in named])
        assert told.rcpts == (RCPT_OK,) * len(hops)
        for name, hosts in named.items():
            for number in range(len(hosts)):
                if isinstance(hosts[number], BlackHole):
                    world.network.black_hole(world.address(f"{name}{number + 1}"))
        began = trio.current_time()
        await client.play("C: DATA")
        assert await client.reply() == reply
        assert trio.current_time() - began == pytest.approx(seconds)
        assert len(world.network.connections) == tried


LARGE = 256_000
"""octets of a message that does not fit into the buffers on the way to a next hop"""

DEAF = Script(body=(StopReading(100_000),))
NO_MAIL = Script(mail=Silence())
DOT_BUDGETS: dict[str, tuple[tuple[Host, ...], str, float, int]] = {
    # hosts; the reply to the dot, after how many seconds; connections that were tried
    "outcome": ((Script(dot=Silence()),), UNKNOWN, 540, 1),
    "outcome, just in time": ((Script(dot=Delay(539.9)),), TAKEN, 539.9, 1),
    "outcome, no other host behind the dot": ((Script(dot=(Delay(10), Close())), Script()), UNKNOWN, 10, 1),
    "message not through": ((Script(body=(SlowReading(300),)), Script()), TOO_LATE, 540, 1),
    "no byte taken": ((DEAF,), LOST, 60, 1),
    "no byte taken, then the next host": ((DEAF, Script()), TAKEN, 60, 2),
    "attempts: none from 240 s on": ((DEAF, NO_MAIL, NO_MAIL, NO_MAIL, Script()), LOST, 240, 4),
    "attempts: one just before": (
        (DEAF, NO_MAIL, NO_MAIL, Script(mail=(Delay(59.9), Close())), Script()),
        TAKEN,
        239.9,
        5,
    ),
    "attempts: the last one goes on": (
        (DEAF, NO_MAIL, NO_MAIL, Script(mail=(Delay(59.9), Close())), Script(dot=Delay(300))),
        TAKEN,
        539.9,
        5,
    ),
    "attempts: the last one until 540 s": (
        (DEAF, NO_MAIL, NO_MAIL, Script(mail=(Delay(59.9), Close())), Script(dot=Delay(301))),
        UNKNOWN,
        540,
        5,
    ),
}


@pytest.mark.parametrize("speaks", ["smtp", "lmtp"])
@pytest.mark.parametrize(("hosts", "reply", "seconds", "tried"), DOT_BUDGETS.values(), ids=DOT_BUDGETS)
async def test_dot(
    hosts: tuple[Host, ...], reply: str, seconds: float, tried: int, speaks: Speaks, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, hop_of("a", hosts)) as world:
        client = await world.client(speaks)
        began = trio.current_time()
        told = await client.transact("u@a.example", content=body(LARGE))
        assert told.outcomes == (reply,)
        assert trio.current_time() - began == pytest.approx(seconds)
        assert len(world.network.connections) == tried
        await trio.testing.wait_all_tasks_blocked()
        kind = "delivered" if reply == TAKEN else "unknown" if reply == UNKNOWN else "deferred"
        [event] = world.events("delivered", "not_delivered")
        assert f" {kind}: " in event["outcomes"][0]


@pytest.mark.parametrize(("free_at", "reply", "sessions"), [(239, TAKEN, 2), (241, LOST, 1)])
async def test_room_for_a_session_too_late_for_an_attempt(
    free_at: float, reply: str, sessions: int, autojump_clock: MockClock
) -> None:
    """The first host is lost behind the client's dot, and the second one has no room: another client's is there."""
    limits = Limits(sessions_per_host=1)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", DEAF, Script()), limits=limits) as world:
        world.network.refuse(world.address("a1"))
        other = await world.client()
        assert (await other.envelope("u@a.example")).rcpts == (RCPT_OK,)
        world.network.restore(world.address("a1"))
        await trio.sleep(10)  # a check finds it up
        client = await world.client("lmtp")
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(body(LARGE) + b".\r\n")
        await trio.sleep(free_at)
        await other.quit()
        assert await client.reply() == reply
        assert len(world.mta("a2").sessions) == sessions


async def test_one_late_next_hop_does_not_hold_the_others_reply(autojump_clock: MockClock) -> None:
    hops = (Hop("a"), Hop("b", Script(dot=Silence())), Hop("c"))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example", "u@c.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}\nC: .\nS: {TAKEN}")
        assert trio.current_time() == 0
        await client.play(f"S: {UNKNOWN}\nS: {TAKEN}")
        assert trio.current_time() == pytest.approx(540)


AT_DATA = f"""
    C: MAIL FROM:<s@in.example>
    S: 250 2.1.0 Sender ok
    C: RCPT TO:<u@a.example>
    S: {RCPT_OK}
    C: DATA
    S: {GO_AHEAD}
"""
CLIENT_BUDGETS = {
    # the dialog behind EHLO, before the client falls silent; when it hears 421
    "EHLO": ("", 300),
    "a command": ("C: NOOP\nS: 250 2.0.0 Fine", 300),
    "a command, each time anew": ("C+ 299\nC: NOOP\nS: 250 2.0.0 Fine\nC+ 299\nC: NOOP\nS: 250 2.0.0 Fine", 898),
    "half a command": ("C+ 200\nC! MAIL FR", 300),
    "MAIL": ("C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 Sender ok", 300),
    "RCPT": ("C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 Sender ok\nC: RCPT TO:<u@b.example>\nS: 250 2.1.5 ...", 330),
    "RCPT refused": (
        "C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 Sender ok\nC: RCPT TO:<u@c.example>\nS: 550 5.7.1 ...",
        300,
    ),
    "354": (AT_DATA, 120),
    "in the message": (AT_DATA + "C+ 100\nC: Subject: cut off", 220),
    "in the message, each time anew": (AT_DATA + "C+ 119\nC! x\nC+ 119\nC! x\nC+ 119\nC! x", 477),
    "before the end of the dot's line": (AT_DATA + "C: Subject: cut off\nC! .", 120),
    "a message that nobody may have": (AT_DATA + "C! a\\rb", 120),
}


@pytest.mark.parametrize("speaks", ["smtp", "lmtp"])
@pytest.mark.parametrize(("dialog", "seconds"), CLIENT_BUDGETS.values(), ids=CLIENT_BUDGETS)
async def test_silent_client(dialog: str, seconds: float, speaks: Speaks, autojump_clock: MockClock) -> None:
    hops = (Hop("a"), Hop("b", Script(rcpt=Delay(30))))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client(speaks)
        await client.play(dialog + "\nS: 421 4.4.2 gw.example Timeout, closing\nS.")
        assert trio.current_time() == pytest.approx(seconds)
        assert world.messages == {"a1": 0, "b1": 0}


async def test_client_that_never_speaks(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(greeted=False)
        await client.play("S: 220 ...\nS: 421 4.4.2 gw.example Timeout, closing\nS.")
        assert trio.current_time() == pytest.approx(300)


async def test_client_that_takes_no_greeting(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(capacity=8, greeted=False)
        await client.ended.wait()
        assert trio.current_time() == pytest.approx(120)


async def test_client_that_takes_no_answer_to_rcpt(autojump_clock: MockClock) -> None:
    """Nothing is committed, so all that is under way ends with it."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b", NO_RCPT)) as world:
        client = await world.client("lmtp", capacity=8)
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 2.1.0 Sender ok")
        await client.send(b"RCPT TO:<u@a.example>\r\nRCPT TO:<u@b.example>\r\n")
        with trio.fail_after(121):
            await client.ended.wait()
        assert trio.current_time() == pytest.approx(120)
        assert world.mta("a1").sessions[0].dialog[-2:] == ["C: QUIT", "S: 221 2.0.0 a1 closes"]


@pytest.mark.parametrize(("patience", "taken"), [(119, True), (121, False)])
async def test_client_that_takes_no_outcome(patience: float, taken: bool, autojump_clock: MockClock) -> None:
    """The message is delivered, and the log says that the client was not told."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(capacity=8)
        await client.play(AT_DATA)
        await client.send(b"Subject: hi\r\n.\r\n")
        await trio.sleep(patience)
        if taken:
            await client.play(f"S: {TAKEN}")
        else:
            assert client.ended.is_set()
        await trio.testing.wait_all_tasks_blocked()
        [event] = world.events("delivered")
        assert event.get("untold", False) is not taken
        assert world.messages == {"a1": 1}


# The body's writer, held up by a slow reader

HELD: dict[str, tuple[tuple[Script, ...], float, float]] = {
    # hosts of the slow hop; when the client's dot is taken; tolerance
    "60 s at a time": ((Script(body=(SlowReading(500),)),), 60, 0.5),
    "60 s in all, though the reader moves": ((Script(body=(SlowReading(10_000),)),), 60, 0.5),
    "by a host that was not the first to be tried": (
        (Script(ehlo="451 4.3.2 no"), Script(body=(SlowReading(10_000),))),
        60,
        0.5,
    ),
    "by nobody who replays": ((Script(body=(During(99, Close()),)), Script(body=(SlowReading(10_000),))), 0, 0.5),
}


@pytest.mark.parametrize(("hosts", "seconds", "tolerance"), HELD.values(), ids=HELD)
async def test_writer_is_held(
    hosts: tuple[Script, ...], seconds: float, tolerance: float, autojump_clock: MockClock
) -> None:
    content = body(3_145_728)
    async with trio.open_nursery() as nursery, World(nursery, Hop("fast"), Hop("slow", *hosts)) as world:
        client = await world.client("lmtp")
        await client.envelope("u@fast.example", "u@slow.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(content + b".\r\n")
        await client.play(f"S: {TAKEN}")
        assert world.mta("fast1").messages[0].size > len(content)
        assert trio.current_time() == pytest.approx(seconds, abs=tolerance)
        await client.reply()


# QUIT


@pytest.mark.parametrize(
    ("plan", "seconds"), [(Silence(), 5), (Delay(3), 3), (Close(), 0)], ids=["silence", "late", "close"]
)
async def test_quit(plan: Silence | Delay | Close, seconds: float, autojump_clock: MockClock) -> None:
    """The client does not wait for it. It is said when the session was kept for 3 s."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(quit=plan))) as world:
        client = await world.client()
        assert (await client.transact("u@a.example")).outcomes == (TAKEN,)
        assert trio.current_time() == 0
        await trio.sleep(3 - 0.1)
        assert "C: QUIT" not in world.mta("a1").sessions[0].dialog
        await trio.sleep(seconds)
        assert world.network.open_streams == 1
        await trio.sleep(0.2)
        assert world.network.open_streams == 0
