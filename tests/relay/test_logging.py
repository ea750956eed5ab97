"""What an operator reads: two lines for a transaction that goes well, as many as explain it for one that does not."""

from __future__ import annotations

import io
import ipaddress

import pytest
import trio
from structlog.typing import EventDict
from trio.testing import MockClock
from world import CLIENT, CONTENT, GO_AHEAD, LOST, UNKNOWN, Hop, Speaks, World, wire

from mailgate import logs
from mailgate.network import NoAnswer, TcpAddress
from mailgate.relay.body import Body
from mailgate.relay.settings import Limits
from mailgate.testing import EPOCH, Close, Delay, Script, Silence, StopReading


def _told(events: list[EventDict]) -> list[str]:
    """The events as text: level, event, and its keys but those of the transaction, which are the same on each."""
    common = ("event", "log_level", "id", "client", "helo", "sender")
    lines = []
    for event in events:
        words = [f"{key}={_text(value)}" for key, value in event.items() if key not in common]
        lines.append(" ".join([event["log_level"], event["event"], *words]))
    return lines


def _text(value: object) -> str:
    return "[" + ", ".join(str(one) for one in value) + "]" if isinstance(value, list) else str(value)


# A transaction that goes well


@pytest.mark.parametrize("next_hop", ["smtp", "lmtp"])
async def test_two_lines_where_all_goes_well(next_hop: Speaks, autojump_clock: MockClock) -> None:
    hops = Hop("a", Script(pace=1), speaks=next_hop), Hop("b", speaks=next_hop)
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.transact("u@a.example", "v@b.example", "w@a.example")
        await client.quit()
        rounds = 8 if next_hop == "lmtp" else 7  # replies that hop a took a second for
        assert _told(world.events()) == [
            "info committing to=[u@a.example, v@b.example, w@a.example] bytes=152 paths=[a/10.0.0.1:25, b/10.0.1.1:25]",
            "info delivered outcomes=["
            "u@a.example delivered: 250 2.0.0 taken (10.0.0.1:25), "
            "v@b.example delivered: 250 2.0.0 taken (10.0.1.1:25), "
            f"w@a.example delivered: 250 2.0.0 taken (10.0.0.1:25)] seconds={rounds}.0",
        ]


@pytest.mark.parametrize(("speaks", "parameters"), [("smtp", ""), ("lmtp", ""), ("smtp", " PRDR")])
async def test_each_line_says_whose_it_is(speaks: Speaks, parameters: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(speaks)
        await client.transact("u@a.example", sender="", parameters=parameters)
        await client.transact("u@a.example", parameters=parameters)
        await client.quit()
        session = world.log[0]["id"]
        assert len(session) == 12
        assert [
            (event["id"], event["client"], event["helo"], event["sender"], event["event"]) for event in world.events()
        ] == [
            (session, CLIENT, "client.example", "<>", "committing"),
            (session, CLIENT, "client.example", "<>", "delivered"),
            (session, CLIENT, "client.example", "<s@in.example>", "committing"),
            (session, CLIENT, "client.example", "<s@in.example>", "delivered"),
        ]


async def test_the_first_line_comes_before_the_first_dot(autojump_clock: MockClock) -> None:
    """A next hop that takes all but the dot: the line is there, so that a crash now leaves it without its second."""
    hop = Hop("a", Script(body=(StopReading(173),)))
    async with trio.open_nursery() as nursery, World(nursery, hop, capacity=1) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT)[:-3])
        await trio.sleep(1)
        assert world.events() == []
        await client.send(b".\r\n")
        await trio.sleep(1)
        (event,) = world.events()
        assert (event["event"], event["bytes"]) == ("committing", 173)
        assert world.messages == {"a1": 0}


async def test_a_session_that_sends_nothing_costs_no_line(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        await client.play("C: RSET\nS: 250 ...\nC: MAIL FROM:<>\nS: 250 ...\nC: RSET\nS: 250 ...")
        await client.quit()
        assert world.events() == []
        assert [event["event"] for event in world.log if event["event"] != "reply"] == ["connected", "closed"]


async def test_verbose_shows_every_reply_on_both_sides(autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", Script(recipients={"v@a.example": "550 no"}))) as world,
    ):
        client = await world.client()
        await client.transact("u@a.example", "v@a.example")
        await client.quit()
        lines = _told(world.log)
        assert [line for line in lines if line.startswith("debug upstream_reply")] == [
            "debug upstream_reply path=10.0.0.1:25 to=greeting reply=220 a1 ready",
            "debug upstream_reply path=10.0.0.1:25 to=EHLO "
            "reply=250 a1 PIPELINING 8BITMIME SMTPUTF8 SIZE 52428800 ENHANCEDSTATUSCODES",
            "debug upstream_reply path=10.0.0.1:25 to=MAIL reply=250 2.1.0 sender ok",
            "debug upstream_reply path=10.0.0.1:25 to=RCPT reply=250 2.1.5 recipient ok",
            "debug upstream_reply path=10.0.0.1:25 to=RCPT reply=550 no",
            "debug upstream_reply path=10.0.0.1:25 to=DATA reply=354 go ahead",
            "debug upstream_reply path=10.0.0.1:25 to=end of data reply=250 2.0.0 taken",
        ]
        assert [line for line in lines if line.startswith("debug reply")] == [
            "debug reply to=greeting reply=220 gw.example SMTP mailgate",
            "debug reply to=EHLO client.example "
            "reply=250 gw.example PIPELINING SIZE 52428800 8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES PRDR",
            "debug reply to=MAIL FROM:<s@in.example> reply=250 2.1.0 Sender ok",
            "debug reply to=RCPT TO:<u@a.example> reply=250 2.1.5 recipient ok",
            "debug reply to=RCPT TO:<v@a.example> reply=550 5.0.0 no",
            f"debug reply to=DATA reply={GO_AHEAD}",
            "debug reply to=end of data reply=250 2.0.0 taken",
            "debug reply to=QUIT reply=221 2.0.0 Bye",
        ]
        assert {event["id"] for event in world.log} == {world.log[0]["id"]}


# Transactions that do not

HOP_A, HOP_B = "10.0.0.1:25", "10.0.0.2:25"

STORIES: dict[str, tuple[tuple[Script, ...], list[str]]] = {
    # the hosts of the next hop of u and v, and the lines
    "recipient refused": (
        (Script(recipients={"v@a.example": "550 5.1.1 no such user"}),),
        [
            f"info recipient_refused to=v@a.example path={HOP_A} reply=550 5.1.1 no such user",
            f"info committing to=[u@a.example] bytes=173 paths=[a/{HOP_A}]",
            f"info delivered outcomes=[u@a.example delivered: 250 2.0.0 taken ({HOP_A})] seconds=0.0",
        ],
    ),
    "second host": (
        (Script(greeting="554 5.3.2 not now"), Script()),
        [
            f"warning path_down path={HOP_A} stage=greeting why=554 5.3.2 not now",
            f"warning attempt_failed hop=a path={HOP_A} stage=greeting why=554 5.3.2 not now",
            f"info committing to=[u@a.example, v@a.example] bytes=153 paths=[a/{HOP_B}]",
            f"info delivered outcomes=[u@a.example delivered: 250 2.0.0 taken ({HOP_B}), "
            f"v@a.example delivered: 250 2.0.0 taken ({HOP_B})] seconds=0.0",
        ],
    ),
    "second host, lost at DATA": (
        (Script(data=Close()), Script()),
        [
            f"warning attempt_failed hop=a path={HOP_A} stage=DATA why=connection closed",
            f"info committing to=[u@a.example, v@a.example] bytes=153 paths=[a/{HOP_B}]",
            f"info delivered outcomes=[u@a.example delivered: 250 2.0.0 taken ({HOP_B}), "
            f"v@a.example delivered: 250 2.0.0 taken ({HOP_B})] seconds=0.0",
        ],
    ),
    "no path": (
        (Script(ehlo=Silence()), Script(mail="421 4.3.2 bye")),
        [
            f"warning path_down path={HOP_A} stage=hello why=no answer in time",
            f"warning attempt_failed hop=a path={HOP_A} stage=hello why=no answer in time",
            f"warning attempt_failed hop=a path={HOP_B} stage=MAIL why=421 4.3.2 bye",
            f"info recipient_refused to=u@a.example path={HOP_B} reply={LOST}",
            f"info recipient_refused to=v@a.example path={HOP_B} reply={LOST}",
        ],
    ),
    "DATA refused": (
        (Script(data="451 4.3.0 busy"),),
        [
            f"warning attempt_failed hop=a path={HOP_A} stage=DATA why=451 4.3.0 busy",
            f"warning not_delivered outcomes=[u@a.example deferred: 451 4.3.0 busy ({HOP_A}), "
            f"v@a.example deferred: 451 4.3.0 busy ({HOP_A})] bytes=0 seconds=0.0",
        ],
    ),
    "refused after the dot": (
        (Script(dot="554 5.7.1 spam"),),
        [
            f"info committing to=[u@a.example, v@a.example] bytes=153 paths=[a/{HOP_A}]",
            f"warning not_delivered outcomes=[u@a.example rejected: 554 5.7.1 spam ({HOP_A}), "
            f"v@a.example rejected: 554 5.7.1 spam ({HOP_A})] bytes=153 seconds=0.0",
        ],
    ),
    "unknown": (
        (Script(dot=(Delay(3), Close())),),
        [
            f"info committing to=[u@a.example, v@a.example] bytes=153 paths=[a/{HOP_A}]",
            f"warning not_delivered outcomes=[u@a.example unknown: {UNKNOWN} ({HOP_A}), "
            f"v@a.example unknown: {UNKNOWN} ({HOP_A})] bytes=153 seconds=3.0",
        ],
    ),
}


@pytest.mark.parametrize(("scripts", "lines"), STORIES.values(), ids=STORIES.keys())
async def test_story(scripts: tuple[Script, ...], lines: list[str], autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", *scripts)) as world:
        client = await world.client()
        await client.transact("u@a.example", "v@a.example")
        await client.quit()
        assert _told(world.events()) == lines
        # That a path is down concerns everybody, and is no transaction's.
        assert {event.get("id") for event in world.events("path_down")} <= {None}
        assert {event["id"] for event in world.events() if event["event"] != "path_down"} == {world.log[0]["id"]}


async def test_partly_delivered(autojump_clock: MockClock) -> None:
    hops = Hop("a"), Hop("b", Script(dot="452 4.2.2 full"))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.transact("u@a.example", "u@b.example")
        await client.quit()
        assert _told(world.events())[-1] == (
            "warning partly_delivered outcomes=[u@a.example delivered: 250 2.0.0 taken (10.0.0.1:25), "
            "u@b.example deferred: 452 4.2.2 full (10.0.1.1:25)] bytes=152 seconds=0.0"
        )
        assert world.gateway.counts == {"delivered": 1, "deferred": 1}


async def test_a_name_that_does_not_resolve(autojump_clock: MockClock) -> None:
    hop = Hop("a", Script(), Script(), names=("mx1.a.example", "mx2.a.example"))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        world.network.records["mx1.a.example", "A"] = NoAnswer.TEMPORARY
        client = await world.client()
        await client.transact("u@a.example")
        await client.quit()
        first, committing, _ = _told(world.events())
        assert first == (
            "warning attempt_failed hop=a path=mx1.a.example:25 stage=look-up why=mx1.a.example: temporary failure"
        )
        assert committing.endswith("paths=[a/mx2.a.example:25(10.0.0.2:25)]")


async def test_no_route_and_another_next_hop(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        client = await world.client()
        await client.envelope("u@elsewhere.example", "u@a.example")
        await client.play("C: RCPT TO:<u@b.example>\nS: 452 ...")
        assert [line for line in _told(world.events()) if "refused" in line] == [
            "info recipient_refused to=u@elsewhere.example "
            "reply=550 5.7.1 This domain is not served here, relaying denied",
            "info recipient_refused to=u@b.example "
            "reply=452 4.5.3 Goes to another next hop, send it in another transaction",
        ]


ABANDONED = {
    "RSET": ("C: RSET\nS: 250 ...", "The client has taken the transaction back", 0),
    "QUIT": ("C: QUIT\nS: 221 ...\nS.", "The client has left", 0),
    "closed": ("C.", "The client has left", 0),
    "reset": ("C~", "The client has left", 0),
    "closed in the message": (f"C: DATA\nS: {GO_AHEAD}\nC: 1234567890\nC.", "The client has left", 132),
}


@pytest.mark.parametrize(("ending", "why", "size"), ABANDONED.values(), ids=ABANDONED.keys())
async def test_abandoned(ending: str, why: str, size: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "v@a.example")
        await trio.sleep(2)
        await client.play(ending)
        await trio.sleep(1)
        assert _told(world.events()) == [
            f"info abandoned why={why} to=[u@a.example, v@a.example] bytes={size} seconds=2.0"
        ]


async def test_a_message_nobody_may_have(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), limits=Limits(message_size=100)) as world:
        client = await world.client()
        await client.transact("u@a.example", content=b"x" * 200 + b"\r\n")
        await client.quit()
        (line,) = _told(world.events())
        assert line.startswith(
            "warning not_delivered outcomes=[u@a.example rejected: 552 5.3.4 Message exceeds the size limit "
        )


async def test_untold(autojump_clock: MockClock) -> None:
    """The client left when it was too late to stop: delivered, and it could not hear so."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(5)))) as world:
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "v@a.example")
        await client.play(f"C: DATA\nS: {GO_AHEAD}")
        await client.send(wire(CONTENT))
        await trio.sleep(1)
        await client.play("C.")
        await trio.sleep(10)
        assert [(event["event"], event.get("untold")) for event in world.events()] == [
            ("committing", None),
            ("delivered", 2),
        ]
        assert world.gateway.counts == {"delivered": 2, "untold": 2}


async def test_client_refused(autojump_clock: MockClock) -> None:
    allowed = (ipaddress.ip_network("192.0.2.0/24"),)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), clients=allowed) as world:
        client = await world.client(peer=TcpAddress("2001:db8::1", 7), greeted=False)
        await client.play("S: 554 ...\nS.")
        (event,) = world.events()
        assert {key: str(value) for key, value in event.items() if key != "id"} == {
            "event": "client_refused",
            "log_level": "warning",
            "client": "[2001:db8::1]:7",
            "listener": "smtp",
            "reply": "554 5.7.1 gw.example You may not connect here",
        }


async def test_a_bug_is_an_error_with_its_traceback_and_ends_nothing_else(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A bug in a delivery is that delivery's 4xx."""

    def broken(body: Body, *, holds: bool) -> None:
        raise RuntimeError("a bug")

    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        world.bugs_expected = True
        client = await world.client("lmtp")
        with monkeypatch.context() as patched:
            patched.setattr(Body, "reader", broken)
            told = await client.transact("u@a.example", "v@a.example")
        assert told.outcomes == ("451 4.3.0 Internal error, try later or elsewhere",) * 2
        assert world.messages == {"a1": 0}
        (event,) = world.events("delivery_failed")
        assert (event["log_level"], event["exc_info"], str(event["hop"])) == ("error", True, "a")
        assert (await client.transact("u@a.example")).outcomes == ("250 2.0.0 taken",)


# As it is written


async def test_as_logfmt(autojump_clock: MockClock) -> None:
    """Strangers' text neither begins a line nor a key of its own."""
    script = Script(recipients={'"a b,c=d"@a.example': '550 5.1.1 "no" id=000000000000 event=delivered'})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        client = await world.client("lmtp", greeted=False)
        await client.hello('x"=id=1')
        await client.transact('"a b,c=d"@a.example', "u@a.example", "v@a.example")
        await client.quit()
        stream = io.BytesIO()
        log = logs.configure(stream=stream, format="logfmt", verbose=False, now=lambda: EPOCH)
        for event in world.events():
            fields = dict(event)
            getattr(log, fields.pop("log_level"))(fields.pop("event"), **fields)
        common = f'id={world.log[0]["id"]} client=192.0.2.1:4025 helo="x\\"=id=1" sender=<s@in.example>'
        time = "timestamp=2026-01-01T00:00:00.000Z"
        assert stream.getvalue().decode().splitlines() == [
            f'{time} level=info event=recipient_refused {common} to="\\"a b,c=d\\"@a.example" path=10.0.0.1:25 '
            'reply="550 5.1.1 \\"no\\" id=000000000000 event=delivered"',
            f"{time} level=info event=committing {common} to=u@a.example,v@a.example bytes=145 paths=a/10.0.0.1:25",
            f'{time} level=info event=delivered {common} outcomes="u@a.example delivered: 250 2.0.0 taken '
            '(10.0.0.1:25),v@a.example delivered: 250 2.0.0 taken (10.0.0.1:25)" seconds=0.0',
        ]
