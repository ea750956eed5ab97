"""The client goes away, or takes its transaction back: at every point of the dialog."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock
from world import Client, Hop, Speaks, World, wire

from mailgate.relay.settings import Limits
from mailgate.testing import Close, Delay, During, Script, Silence, SlowReading, reset

SPOKEN: tuple[Speaks, ...] = ("smtp", "lmtp")
PACE = Script(pace=1)
RCPT = {"smtp": ("u@a.example", "v@a.example"), "lmtp": ("u@a.example", "v@a.example", "u@b.example")}


class Leaving(enum.Enum):
    """How a client goes away."""

    CLOSE = "FIN"
    RESET = "RST"
    HALF = "FIN of one direction"


async def leave(client: Client, how: Leaving) -> None:
    match how:
        case Leaving.CLOSE:
            await client.stream.aclose()
        case Leaving.RESET:
            await reset(client.stream)
        case Leaving.HALF:
            assert isinstance(client.stream, trio.abc.HalfCloseableStream)
            await client.stream.send_eof()


class End(enum.Enum):
    """How a session with a next hop ended."""

    NONE = "there was none"
    QUIT = "told QUIT"
    CUT = "closed"


@dataclass(frozen=True, slots=True)
class Point:
    """Where the client leaves a dialog in which each of a next hop's replies takes a second."""

    at: float
    """seconds behind EHLO"""
    delivered: bool
    upstream: End


POINTS = {
    "before MAIL": Point(0, False, End.NONE),
    "before the next hop's greeting": Point(10.5, False, End.CUT),
    "before its EHLO reply": Point(11.5, False, End.QUIT),
    "before its MAIL reply": Point(12.5, False, End.QUIT),
    "before its RCPT reply": Point(13.5, False, End.CUT),
    "between RCPT and DATA": Point(16.5, False, End.QUIT),
    "before its 354": Point(24.5, False, End.CUT),
    "before the message": Point(30, False, End.CUT),
    "in the message": Point(40, False, End.CUT),
    "before the dot": Point(50, False, End.CUT),
    "before the reply to the dot": Point(55.5, True, End.QUIT),
    "behind the reply": Point(60, True, End.QUIT),
}
"""The client pauses for 10 s before it goes on, and the next hop's steps begin at 10, 24 and 55 s. With two
recipients at the first hop its RCPT replies are there at 14 and 15 s. A session that is being opened is told QUIT
once the reply that is due has come, half a second later; one that has lasted 30 s is not kept."""


async def slow_dialog(client: Client, speaks: Speaks) -> None:
    await client.play("C+ 10\nC: MAIL FROM:<s@in.example>\nS: 250 2.1.0 ...")
    await client.play("\n".join(f"C: RCPT TO:<{one}>" for one in RCPT[speaks]))
    for _ in RCPT[speaks]:
        assert await client.reply() == "250 2.1.5 recipient ok"
    await trio.sleep_until(24)
    await client.play("C: DATA\nS: 354 ...")
    await trio.sleep_until(35)
    await client.play("C: Subject: half")
    await trio.sleep_until(45)
    await client.play("C: a message")
    await trio.sleep_until(55)
    await client.play("C: .\nS: 250 ...")
    await trio.sleep_forever()


@pytest.mark.parametrize("how", Leaving)
@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
async def test_client_leaves(point: Point, speaks: Speaks, how: Leaving, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", PACE), Hop("b", PACE)) as world:
        client = await world.client(speaks)
        with trio.move_on_at(point.at):
            await slow_dialog(client, speaks)
        await leave(client, how)
        await client.ended.wait()
        # What is committed runs to its outcome: a second until the reply. All else ends at once.
        assert trio.current_time() == pytest.approx(max(point.at, 56) if point.delivered else point.at)
        await trio.sleep(1.6)
        assert world.network.open_streams == 0
        hosts = ("a1", "b1") if speaks == "lmtp" else ("a1",)
        for host in hosts:
            assert how_it_ended(world, host) is point.upstream
            assert len(world.mta(host).messages) == point.delivered
        untold = len(RCPT[speaks]) if point.at < 56 else None
        assert [event.get("untold") for event in world.events("delivered")] == [untold] * point.delivered
        assert world.events("not_delivered", "partly_delivered") == []
        accepted = point.upstream is not End.NONE and point.at > 16
        assert len(world.events("abandoned")) == (accepted and not point.delivered)


def how_it_ended(world: World, host: str) -> End:
    if not world.mta(host).sessions:
        return End.NONE
    [session] = world.mta(host).sessions
    return End.QUIT if "C: QUIT" in session.dialog else End.CUT


# Two deliveries: one has committed when the client leaves

LATER = {
    # the other next hop's hosts; does it get the message
    "slow": ((Script(body=(SlowReading(100),)),), True),
    "lost, then the next host": ((Script(body=(SlowReading(100), During(500, Close()))), Script(mail=Delay(9))), True),
    "lost, and no other host": ((Script(body=(SlowReading(100), During(500, Close()))),), False),
    "refuses": ((Script(body=(SlowReading(100),), dot="554 5.6.0 no"),), False),
}


@pytest.mark.parametrize("how", Leaving)
@pytest.mark.parametrize(("hosts", "delivered"), LATER.values(), ids=LATER)
async def test_the_first_commit_counts_for_all(
    hosts: tuple[Script, ...], delivered: bool, how: Leaving, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b", *hosts), capacity=16) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example")
        await client.play("C: DATA\nS: 354 ...")
        await client.send(wire(b"x" * 998 + b"\r\n"))
        await client.play("S: 250 2.0.0 taken")
        await leave(client, how)
        await client.ended.wait()
        assert trio.current_time() > 4
        assert len(world.mta("a1").messages) == 1
        assert [mta.taken != [] for name, mta in world.mtas.items() if name == f"b{len(hosts)}"] == [delivered]
        [event] = world.events("delivered", "partly_delivered")
        assert event["untold"] == 1 + delivered


async def test_before_the_first_commit_no_delivery_goes_on(autojump_clock: MockClock) -> None:
    """The client's dot is in, and both next hops are slow in taking the message: neither gets its dot."""
    slow = Script(body=(SlowReading(100),))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", slow), Hop("b", slow), capacity=16) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example")
        await client.play("C: DATA\nS: 354 ...")
        await client.send(wire(b"x" * 998 + b"\r\n"))
        await trio.sleep(3)
        await client.stream.aclose()
        await client.ended.wait()
        assert trio.current_time() == pytest.approx(3)
        assert world.messages == {"a1": 0, "b1": 0}
        assert len(world.events("abandoned")) == 1


# Cut at every byte of what the client says

BEFORE_DATA = {
    "smtp": b"EHLO c\r\nMAIL FROM:<s@in.example>\r\nRCPT TO:<u@a.example>\r\nRCPT TO:<v@a.example>\r\nDATA\r\n",
    "lmtp": b"LHLO c\r\nMAIL FROM:<s@in.example>\r\nRCPT TO:<u@a.example>\r\nRCPT TO:<u@b.example>\r\nDATA\r\n",
}
MESSAGE = b"Subject: cut\r\n\r\n..\r\nbye\r\n.\r\n"


async def say_bytes(client: Client, count: int) -> None:
    """Say that many octets of the dialog, the message only behind the 354."""
    before = BEFORE_DATA[client.speaks]
    await client.send(before[:count])
    if count > len(before):
        await client.play("S: 220 ...")
        while not (await client.reply()).startswith("354"):
            pass
        await client.send(MESSAGE[: count - len(before)])


@pytest.mark.parametrize("how", Leaving)
@pytest.mark.parametrize("speaks", SPOKEN)
async def test_client_leaves_at_every_byte(speaks: Speaks, how: Leaving, autojump_clock: MockClock) -> None:
    """Without its last byte a message goes nowhere. With it, it may: then all of it, and the log says so."""
    whole = len(BEFORE_DATA[speaks]) + len(MESSAGE)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        for count in range(whole):
            client = await world.client(speaks, greeted=False)
            await say_bytes(client, count)
            await leave(client, how)
            await client.ended.wait()
            assert world.messages == {"a1": 0, "b1": 0}, f"cut at byte {count}"
        assert world.events("delivered", "partly_delivered") == []
        client = await world.client(speaks, greeted=False)
        await say_bytes(client, whole)
        await leave(client, how)
        await client.ended.wait()
        delivered = len(world.events("delivered"))
        assert world.messages == {"a1": delivered, "b1": delivered if speaks == "lmtp" else 0}


@pytest.mark.parametrize("speaks", SPOKEN)
async def test_quit_behind_the_dot_is_no_leaving(speaks: Speaks, autojump_clock: MockClock) -> None:
    """Postfix says QUIT at once, and closes its side."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", PACE), Hop("b", PACE)) as world:
        client = await world.client(speaks)
        await client.envelope(*RCPT[speaks])
        await client.play("C: DATA\nS: 354 ...\nC: Subject: hi\nC: .\nC: QUIT\nC/")
        for _ in range(len(RCPT[speaks]) if speaks == "lmtp" else 1):
            assert await client.reply() == "250 2.0.0 taken"
        await client.play("S: 221 ...\nS.")
        [event] = world.events("delivered")
        assert "untold" not in event


# RSET

A_MAIL = "C: MAIL FROM:<first@in.example>\nS: 250 2.1.0 ..."
RESETS = {
    "before MAIL": "",
    "behind MAIL": A_MAIL,
    "behind a recipient": A_MAIL + "\nC: RCPT TO:<u@a.example>\nS: 250 2.1.5 ...",
    "behind recipients of several hops": A_MAIL
    + "\nC: RCPT TO:<u@a.example>\nC: RCPT TO:<u@b.example>\nS: 250 2.1.5 ...\nS: ...",
    "behind a recipient that is refused": A_MAIL + "\nC: RCPT TO:<no@a.example>\nS: 550 5.1.1 ...",
    "behind a recipient that is not relayed": A_MAIL + "\nC: RCPT TO:<u@c.example>\nS: 550 5.7.1 ...",
    "behind a DATA that is refused": A_MAIL + "\nC: RCPT TO:<u@d.example>\nS: 250 ...\nC: DATA\nS: 451 4.3.5 ...",
    "behind a message": A_MAIL + "\nC: RCPT TO:<u@a.example>\nS: 250 ...\nC: DATA\nS: 354 ...\nC: .\nS: 250 ...",
}


@pytest.mark.parametrize("reset_by", ["RSET", "hello"])
@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize("dialog", RESETS.values(), ids=RESETS)
async def test_reset(dialog: str, speaks: Speaks, reset_by: str, autojump_clock: MockClock) -> None:
    """The next hops of the transaction are told QUIT, and the next transaction is a new one.

    Where a message went well the session is kept for 3 s before.
    """
    first = Script(recipients={"no@a.example": "550 5.1.1 unknown"})
    refuses = Script(data="451 4.3.5 not now")
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", first), Hop("b"), Hop("d", refuses)) as world:
        client = await world.client(speaks)
        await client.play(dialog)
        delivered = world.messages["a1"]
        await client.play({"RSET": "C: RSET", "hello": "C: LHLO c" if speaks == "lmtp" else "C: EHLO c"}[reset_by])
        assert (await client.reply()).startswith("250")
        await trio.sleep(0.1)
        assert world.network.open_streams == delivered
        if delivered:
            await trio.sleep(world.settings.timeouts.idle)
        assert world.network.open_streams == 0
        assert all("C: QUIT" in session.dialog for mta in world.mtas.values() for session in mta.sessions)
        told = await client.transact("u@a.example", "v@a.example")
        assert told.outcomes == ("250 2.0.0 taken",) * (2 if speaks == "lmtp" else 1)
        assert world.messages == {"a1": delivered + 1, "b1": 0, "d1": 0}
        message = world.mta("a1").messages[-1]
        assert message.recipients == ("u@a.example", "v@a.example")
        assert message.reverse_path == "s@in.example"


@pytest.mark.parametrize("speaks", SPOKEN)
async def test_reset_waits_for_the_answers_before_it(speaks: Speaks, autojump_clock: MockClock) -> None:
    """RFC 2920: whoever pipelines RSET behind RCPTs hears about each of them first."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", PACE)) as world:
        client = await world.client(speaks)
        await client.play(
            """
                C: MAIL FROM:<s@in.example>
                C: RCPT TO:<u@a.example>
                C: RSET
                S: 250 2.1.0 ...
                S: 250 2.1.5 ...
                S: 250 2.0.0 Reset
            """
        )
        assert trio.current_time() == pytest.approx(4)


# A second transaction in the same session

AFTER = {
    # script of the only next hop's only host for the first transaction; what the client hears last of it
    "delivered": (Script(), "250 2.0.0"),
    "sender refused": (Script(mail="550 5.7.1 not you"), "550 5.7.1"),
    "recipients refused": (Script(rcpt="450 4.2.0 not now"), "450 4.2.0"),
    "DATA refused": (Script(data="554 5.3.0 no"), "554 5.3.0"),
    "DATA refused, then the hop closes": (Script(data=("452 4.3.1 full", Close())), "452 4.3.1"),
    "lost at DATA": (Script(data=Close()), "451 4.4.2"),
    "lost in the message": (Script(body=(During(9, Close()),)), "451 4.4.2"),
    "refused in the message": (Script(body=(During(9, "552 5.3.4 too big"),)), "552 5.3.4"),
    "message refused": (Script(dot="554 5.6.0 no"), "554 5.6.0"),
    "message deferred": (Script(dot="451 4.3.0 no"), "451 4.3.0"),
    "unknown": (Script(dot=Close()), "451 4.4.2"),
    "no path": (Script(greeting=Close()), "451 4.4.1"),
    "too late": (Script(dot=Silence()), "451 4.4.2"),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize(("first", "told"), AFTER.values(), ids=AFTER)
async def test_second_transaction(first: Script, told: str, speaks: Speaks, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", first)) as world:
        client = await world.client(speaks)
        heard = await client.transact("u@a.example", "v@a.example")
        last = heard.outcomes or (heard.data or heard.rcpts[-1],)
        assert [one[:9] for one in last] == [told] * len(last)
        taken = len(world.mta("a1").taken)
        world.mta("a1").script = Script()
        if told == "451 4.4.1":
            await trio.sleep(10)  # it is down, and found to be up again by a check
        if not heard.data:
            await client.play("C: RSET\nS: 250 2.0.0 Reset")
        heard = await client.transact("w@a.example", "v@a.example")
        assert heard.outcomes == ("250 2.0.0 taken",) * (2 if speaks == "lmtp" else 1)
        assert [recipient for recipient, _ in world.mta("a1").taken[taken:]] == ["w@a.example", "v@a.example"]
        await client.quit()


SPOILT = {
    "bare CR": (b"a\rb\r\n.\r\n", "554 5.6.0 ..."),
    "too big": (b"x" * 2000 + b"\r\n.\r\n", "552 5.3.4 ..."),
    "loop": (b"Received: x\r\n" * 51 + b"\r\n.\r\n", "554 5.4.6 ..."),
}


@pytest.mark.parametrize("speaks", SPOKEN)
@pytest.mark.parametrize(("data", "reply"), SPOILT.values(), ids=SPOILT)
async def test_second_transaction_behind_a_message_that_nobody_may_have(
    data: bytes, reply: str, speaks: Speaks, autojump_clock: MockClock
) -> None:
    limits = Limits(message_size=1000)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b"), limits=limits) as world:
        client = await world.client(speaks)
        await client.envelope(*RCPT[speaks])
        await client.play("C: DATA\nS: 354 ...")
        await client.send(data)
        due = len(RCPT[speaks]) if speaks == "lmtp" else 1
        await client.play("\n".join([f"S: {reply}"] * due))
        assert world.messages == {"a1": 0, "b1": 0}
        heard = await client.transact(*RCPT[speaks])
        assert heard.outcomes == ("250 2.0.0 taken",) * due
