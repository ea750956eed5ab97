"""A session that is lost between RCPT and the dot: another host, and everything said again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from world import BOTH, DONE, GO_AHEAD, LOST, SENDER, TAKEN, Client, Hop, Speaks, Told, World, wire

from mailgate.testing import BodyAction, Close, Delay, During, Plan, Reset, Script, Turns, seeded

CAPACITIES = [1, 64, 65_536]

CONTENT = b"Subject: replay\r\n\r\n" + b"".join(b".%04d\r\n" % number for number in range(500))
RECEIVED = 150
"""octets of our own line before it, about"""


def _during(at: int, plan: Plan) -> Script:
    assert not isinstance(plan, Turns)
    return Script(body=(During(at, plan),))


LOSSES: dict[str, Script] = {
    "idle, closed": Script(recipients={"v@a.example": (TAKEN, Close())}),
    "idle, reset": Script(recipients={"v@a.example": (TAKEN, Reset())}),
    "idle, 421": Script(recipients={"v@a.example": (TAKEN, "421 4.4.2 idle for too long", Close())}),
    "idle, unasked 4xx": Script(recipients={"v@a.example": (TAKEN, "451 4.3.0 what?")}),
    "idle, unasked 3xx": Script(recipients={"v@a.example": (TAKEN, "354 go")}),
    "idle, after a while": Script(recipients={"v@a.example": (TAKEN, Delay(5), Close())}),
    "DATA, closed": Script(data=Close()),
    "DATA, 421": Script(data=("421 4.3.2 closing", Close())),
    "354, then closed": Script(data=("354 go", Close())),
    "354, then reset": Script(data=("354 go", Reset())),
    "354, then 421": Script(data=("354 go", "421 4.3.2 closing", Close())),
    "354, then 2xx": Script(data=("354 go", DONE)),
    "message, closed": _during(RECEIVED + 100, Close()),
    "message, reset": _during(RECEIVED + 100, Reset()),
    "message, 421": _during(RECEIVED + 100, ("421 4.3.2 closing", Close())),
    "message, 2xx": _during(RECEIVED + 100, DONE),
    "message, 354": _during(RECEIVED + 100, "354 go on"),
    "message, garbage": _during(RECEIVED + 100, "what?"),
    "end of the message, closed": _during(len(CONTENT), Close()),
    "end of the message, reset": _during(len(CONTENT), Reset()),
    "end of the message, 2xx": _during(len(CONTENT), DONE),
}


async def _in_parts(client: Client, *recipients: str) -> Told:
    """A transaction whose client pauses at each step, and before the dot.

    What has reached us by then must be seen. What has not can be told from the reply to the dot by nobody.
    """
    told = await client.envelope(*(recipients or ("u@a.example", "v@a.example")))
    await trio.sleep(10)
    await client.play("C: DATA")
    data = await client.reply()
    if data != GO_AHEAD:
        return Told(told.mail, told.rcpts, data)
    octets = wire(CONTENT)
    for part in (octets[:1000], octets[1000:-3], octets[-3:]):
        await client.send(part)
        await trio.sleep(10)
    due = len(told.rcpts) if client.speaks == "lmtp" else 1
    return Told(told.mail, told.rcpts, data, tuple([await client.reply() for _ in range(due)]))


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("script", LOSSES.values(), ids=LOSSES.keys())
async def test_another_host_gets_everything_anew(
    speaks: Speaks, script: Script, capacity: int, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, Script()), capacity=capacity) as world:
        client = await world.client(speaks)
        told = await _in_parts(client)
        assert told == Told(SENDER, (TAKEN, TAKEN), GO_AHEAD, (DONE,) * (2 if speaks == "lmtp" else 1))
        assert world.mta("a1").messages == []
        (message,) = world.mta("a2").messages
        assert message.reverse_path == "s@in.example"
        assert message.recipients == ("u@a.example", "v@a.example")
        assert message.content.endswith(CONTENT)
        assert message.content.startswith(b"Received: from client.example ([192.0.2.1])\r\n")


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("script", LOSSES.values(), ids=LOSSES.keys())
async def test_none_left(speaks: Speaks, script: Script, autojump_clock: MockClock) -> None:
    """Never the 2xx that was said too early, and never a dot."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client(speaks)
        told = await _in_parts(client)
        assert {told.data, *told.outcomes} - {GO_AHEAD} == {LOST}
        assert world.mta("a1").messages == []


@pytest.mark.parametrize("speaks", BOTH)
async def test_the_next_host_cannot_be_reached(speaks: Speaks, autojump_clock: MockClock) -> None:
    """What says most of the message is told: that a session was there, and was lost."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(data=Close()), Script())) as world:
        world.network.refuse(world.address("a2"))
        client = await world.client(speaks)
        assert (await client.transact("u@a.example")).data == LOST


EARLY: dict[str, tuple[str, str]] = {
    "4xx": ("452 4.3.1 disk full", "452 4.3.1 disk full"),
    "4xx, enhanced code added": ("451 busy", "451 4.0.0 busy"),
    "5xx": ("554 5.7.1 spam", "554 5.7.1 spam"),
    "5xx, class mended": ("554 4.7.1 spam", "554 5.7.1 spam"),
}


@pytest.mark.parametrize("at", [0, RECEIVED + 100, len(CONTENT)], ids=["first", "middle", "last"])
@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize(("theirs", "ours"), EARLY.values(), ids=EARLY.keys())
async def test_refusal_inside_the_message_is_its_outcome(
    speaks: Speaks, theirs: str, ours: str, at: int, autojump_clock: MockClock
) -> None:
    """The next hop has spoken about this message: no other host is asked, and there is no dot."""
    hop = Hop("a", _during(at, theirs), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client(speaks)
        told = await _in_parts(client)
        assert told == Told(SENDER, (TAKEN, TAKEN), GO_AHEAD, (ours,) * (2 if speaks == "lmtp" else 1))
        assert world.messages == {"a1": 0, "a2": 0}
        assert len(world.mta("a2").sessions) == 0


@pytest.mark.parametrize("later", ["451 4.3.0 no", "554 5.7.1 no", DONE])
async def test_an_early_2xx_is_never_the_reply_to_the_dot(later: str, autojump_clock: MockClock) -> None:
    script = Script(body=(During(len(CONTENT), DONE),), dot=later)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client()
        assert (await _in_parts(client)).outcomes == (LOST,)
        assert world.messages == {"a1": 0}


@pytest.mark.parametrize("speaks", BOTH)
async def test_an_early_2xx_to_an_empty_message(speaks: Speaks, autojump_clock: MockClock) -> None:
    """The client's dot adds no octet to what we have sent: all that is left is to look before our own dot."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", _during(100, DONE), Script())) as world:
        client = await world.client(speaks)
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await trio.sleep(10)
        await client.play(f"C: .\nS: {DONE}")
        assert world.messages == {"a1": 0, "a2": 1}


# What the second host says to what the first one accepted

SECOND_HOSTS: dict[str, tuple[Script, str, tuple[str, str]]] = {
    # the second of three hosts, what plain SMTP hears (of the third host), what LMTP hears (of the second)
    "takes all": (Script(), DONE, (DONE, DONE)),
    "refuses one, 5xx": (Script(recipients={"v@a.example": "550 5.1.1 v"}), DONE, (DONE, "550 5.1.1 v")),
    "refuses one, 4xx": (Script(recipients={"v@a.example": "450 4.2.1 v"}), DONE, (DONE, "450 4.2.1 v")),
    "refuses all": (Script(rcpt="550 5.1.1 no"), DONE, ("550 5.1.1 no", "550 5.1.1 no")),
    "421 at RCPT": (Script(recipients={"v@a.example": "421 4.3.2 bye"}), DONE, (DONE, DONE)),
    "MAIL 4xx": (Script(mail="451 4.3.0 busy"), DONE, (DONE, DONE)),
    "MAIL 5xx": (Script(mail="550 5.7.1 s"), "550 5.7.1 s", ("550 5.7.1 s", "550 5.7.1 s")),
    "DATA 4xx": (Script(data="451 4.3.0 busy"), "451 4.3.0 busy", ("451 4.3.0 busy", "451 4.3.0 busy")),
    "lost again": (Script(data=("354 go", Close())), DONE, (DONE, DONE)),
}


@pytest.mark.parametrize(("second", "smtp", "lmtp"), SECOND_HOSTS.values(), ids=SECOND_HOSTS.keys())
@pytest.mark.parametrize("speaks", BOTH)
async def test_what_the_second_host_takes(
    speaks: Speaks, second: Script, smtp: str, lmtp: tuple[str, str], autojump_clock: MockClock
) -> None:
    """Plain SMTP: a host that does not take all is no path. LMTP: that recipient's outcome."""
    hop = Hop("a", _during(RECEIVED, Close()), second, Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client(speaks)
        told = await _in_parts(client)
        assert told.outcomes == (lmtp if speaks == "lmtp" else (smtp,))
        messages = [mta.messages for mta in world.mtas.values()]
        assert sum(len(some) for some in messages) == (1 if DONE in told.outcomes else 0)


async def test_plain_smtp_no_host_takes_all(autojump_clock: MockClock) -> None:
    """A refusal that only one of the two recipients got is no reply for both."""
    refusing = Script(recipients={"v@a.example": "550 5.1.1 v"})
    hop = Hop("a", _during(RECEIVED, Close()), refusing, refusing)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        assert (await _in_parts(client)).outcomes == (LOST,)
        assert world.messages == {"a1": 0, "a2": 0, "a3": 0}


async def test_other_next_hops_go_on(autojump_clock: MockClock) -> None:
    """One replays while the others stream and wait with their dots for nobody but the client."""
    hops = Hop("a", _during(RECEIVED, Reset()), Script()), Hop("b"), Hop("c", _during(RECEIVED, Close()))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        told = await _in_parts(client, "u@a.example", "u@b.example", "u@c.example")
        assert told.outcomes == (DONE, DONE, LOST)
        contents = [world.mta(name).messages[0].content for name in ("a2", "b1")]
        assert contents[0] == contents[1]


async def test_replay_of_what_is_in_the_file(autojump_clock: MockClock) -> None:
    """A message of 3 MB, which the memory does not hold, lost near its end."""
    content = b"".join(b"%07d\r\n" % number for number in range(333_333))
    actions: tuple[BodyAction, ...] = (During(2_900_000, Close()),)
    hop = Hop("a", Script(body=actions), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        assert (await client.transact("u@a.example", content=content)).outcomes == (DONE,)
        assert world.mta("a2").messages[0].content.endswith(content)


@pytest.mark.parametrize("seed", range(20))
async def test_replay_whatever_the_scheduling(seed: int, autojump_clock: MockClock) -> None:
    """The whole message at once, so that the loss meets the streaming anywhere."""
    seeded(seed)
    hops = (
        Hop("a", _during(500, Close()), _during(2000, "421 4.3.2 bye"), Script()),
        Hop("b", _during(1000, DONE), Script(), speaks="lmtp"),
    )
    recipients = ("u@a.example", "u@b.example", "v@a.example", "v@b.example")
    async with trio.open_nursery() as nursery, World(nursery, *hops, capacity=64) as world:
        client = await world.client("lmtp", capacity=64)
        assert (await client.transact(*recipients, content=CONTENT)).outcomes == (DONE,) * 4
        assert world.messages == {"a1": 0, "a2": 0, "a3": 1, "b1": 0, "b2": 1}
        assert world.mta("a3").messages[0].sha256 == world.mta("b2").messages[0].sha256
