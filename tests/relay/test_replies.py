"""What a client hears at RCPT: the next hop's own answer, or ours where it has none to give."""

from __future__ import annotations

import ipaddress

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair
from world import BOTH, LOST, NO_PATH, NO_ROUTE, NOT_FOUND, SENDER, TAKEN, Hop, Speaks, Told, World

from mailgate.network import Answer, NoAnswer, TcpAddress
from mailgate.testing import Close, Plan, Raw, Reset, Script

ANSWERS = {
    "2xx": ("250 2.1.5 fine", "250 2.1.5 fine"),
    "2xx other than 250": ("251 2.1.5 will forward", "251 2.1.5 will forward"),
    "4xx": ("450 4.2.0 greylisted", "450 4.2.0 greylisted"),
    "452": ("452 4.5.3 too many", "452 4.5.3 too many"),
    "5xx": ("550 5.1.1 no such user", "550 5.1.1 no such user"),
    "several lines": ("550-5.1.1 no such\n550 5.1.1 user", "550-5.1.1 no such\n550 5.1.1 user"),
    "no text": (Raw(b"550\r\n"), "550 5.0.0 "),
    "enhanced code added, 2xx": ("250 fine", "250 2.1.5 fine"),
    "enhanced code added, 4xx": ("450 later", "450 4.0.0 later"),
    "enhanced code added, 5xx": ("550 never", "550 5.0.0 never"),
    "enhanced code added, each line": ("550-no\n550 way", "550-5.0.0 no\n550 5.0.0 way"),
    "class mended, 2xx": ("250 5.1.5 fine", "250 2.1.5 fine"),
    "class mended, 4xx": ("450 5.2.0 later", "450 4.2.0 later"),
    "class mended, 5xx": ("550 2.1.1 never", "550 5.1.1 never"),
    "control characters": (Raw(b"550 5.1.1 a\x1b[31mb\x00c\rd\te\x7f\r\n"), "550 5.1.1 a?[31mb?c?d?e?"),
    "not ASCII": (Raw("550 5.1.1 né \udcff!\r\n".encode("utf-8", "surrogateescape")), "550 5.1.1 n? ?!"),
    "long line": ("550 5.1.1 " + "x" * 1500, "550 5.1.1 " + "x" * (512 - len("550 5.1.1 \r\n"))),
    "many lines": ("550-5.1.1 no\n" * 99 + "550 5.1.1 no", "550-5.1.1 no\n" * 7 + "550 5.1.1 no"),
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize(("theirs", "ours"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_answer_to_rcpt_is_passed_on(speaks: Speaks, theirs: Plan, ours: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(rcpt=theirs), Script())) as world:
        client = await world.client(speaks)
        assert await client.envelope("u@a.example") == Told(SENDER, (ours,))
        assert [len(world.mta(name).sessions) for name in ("a1", "a2")] == [1, 0]


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("next_hop", BOTH)
async def test_each_recipient_has_its_own_answer(speaks: Speaks, next_hop: Speaks, autojump_clock: MockClock) -> None:
    """An LMTP next hop of an SMTP client takes one recipient only, which the first one refused is not."""
    answers = {"u@a.example": "550 5.1.1 u", "v@a.example": "450 4.2.0 v", "w@a.example": "250 2.1.5 w"}
    hop = Hop("a", Script(recipients=dict(answers)), speaks=next_hop)
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client(speaks)
        told = await client.transact(*answers)
        assert told.rcpts == tuple(answers.values())
        assert told.outcomes == ("250 2.0.0 taken",)
        assert [message.recipients for message in world.mta("a1").messages] == [("w@a.example",)]


# MAIL

MAIL_ANSWERS: dict[str, tuple[tuple[Plan, ...], str, list[int]]] = {
    # what the hosts say to MAIL, what RCPT is told, how many sessions each host sees
    "5xx": (("550 5.7.1 not you", "250 ok"), "550 5.7.1 not you", [1, 0]),
    "5xx, enhanced code added": (("554 not you", "250 ok"), "554 5.0.0 not you", [1, 0]),
    "4xx, the next host takes it": (("451 4.3.0 busy", "250 ok"), TAKEN, [1, 1]),
    "4xx everywhere": (("451 4.3.0 busy", "450 4.7.1 grey"), "451 4.3.0 busy", [1, 1]),
    "4xx, then 421": (("450 4.7.1 grey", "421 4.3.2 closing"), "450 4.7.1 grey", [1, 1]),
    "4xx, then 5xx": (("450 4.7.1 grey", "550 5.7.1 not you"), "550 5.7.1 not you", [1, 1]),
    "421, the next host takes it": (("421 4.3.2 closing", "250 ok"), TAKEN, [1, 1]),
    "421 everywhere": (("421 4.3.2 closing", "421 4.3.2 closing"), LOST, [1, 1]),
    "3xx": (("354 what?", "250 ok"), TAKEN, [1, 1]),
    "garbage": ((Raw(b"\x00\xff\r\n"), "250 ok"), TAKEN, [1, 1]),
    "closed": ((Close(), "250 ok"), TAKEN, [1, 1]),
    "reset": ((Reset(), Reset()), LOST, [1, 1]),
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize(("plans", "answer", "sessions"), MAIL_ANSWERS.values(), ids=MAIL_ANSWERS.keys())
async def test_answer_to_mail(
    speaks: Speaks, plans: tuple[Plan, ...], answer: str, sessions: list[int], autojump_clock: MockClock
) -> None:
    hop = Hop("a", *(Script(mail=plan) for plan in plans))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client(speaks)
        assert await client.envelope("u@a.example", "v@a.example") == Told(SENDER, (answer, answer))
        assert [len(mta.sessions) for mta in world.mtas.values()] == sessions


async def test_next_hops_get_the_reverse_path_and_its_parameters(autojump_clock: MockClock) -> None:
    hops = (
        Hop("a"),
        Hop("b", Script(extensions=())),
        Hop("c", Script(extensions=("SIZE", "8BITMIME")), speaks="lmtp"),
    )
    recipients = ("u@a.example", "u@b.example", "u@c.example")
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.transact(*recipients, sender='"a b"@in.example', parameters=" SIZE=100 BODY=8BITMIME")
        await client.transact(*recipients, sender="")
        got = {
            name: [(message.reverse_path, message.parameters) for message in mta.messages]
            for name, mta in world.mtas.items()
        }
        assert got == {
            "a1": [('"a b"@in.example', ("SIZE=100", "BODY=8BITMIME")), ("", ())],
            "b1": [('"a b"@in.example', ()), ("", ())],
            "c1": [('"a b"@in.example', ("SIZE=100", "BODY=8BITMIME")), ("", ())],
        }


# RCPT, where the session is lost

RCPT_LOSSES: dict[str, Plan] = {
    "421": "421 4.3.2 closing",
    "421, then closed": ("421 4.3.2 closing", Close()),
    "closed": Close(),
    "reset": Reset(),
    "3xx": "354 what?",
    "garbage": Raw(b"what?\r\n"),
    "code out of range": "650 what?",
    "two codes in one reply": "250-one\n550 two",
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("plan", RCPT_LOSSES.values(), ids=RCPT_LOSSES.keys())
async def test_session_lost_at_rcpt_none_left(speaks: Speaks, plan: Plan, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(rcpt=plan))) as world:
        client = await world.client(speaks)
        assert (await client.envelope("u@a.example", "v@a.example")).rcpts == (LOST, LOST)


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("plan", RCPT_LOSSES.values(), ids=RCPT_LOSSES.keys())
async def test_session_lost_at_rcpt_next_host(speaks: Speaks, plan: Plan, autojump_clock: MockClock) -> None:
    """The first host takes one and is lost at the second; the next one gets both, in order, and the message."""
    hop = Hop("a", Script(recipients={"v@a.example": plan}), Script())
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client(speaks)
        told = await client.transact("u@a.example", "v@a.example", "w@a.example")
        assert told.rcpts == (TAKEN,) * 3
        assert set(told.outcomes) == {"250 2.0.0 taken"}
        assert world.mta("a1").messages == []
        assert [message.recipients for message in world.mta("a2").messages] == [
            ("u@a.example", "v@a.example", "w@a.example")
        ]


@pytest.mark.parametrize("speaks", BOTH)
async def test_recipient_accepted_before_the_session_was_lost_for_good(
    speaks: Speaks, autojump_clock: MockClock
) -> None:
    """Its 250 has been said, so DATA is where it hears of it."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", Script(recipients={"v@a.example": Close()}))) as world,
    ):
        client = await world.client(speaks)
        told = await client.transact("u@a.example", "v@a.example")
        assert told == Told(SENDER, (TAKEN, LOST), LOST)


# No path

BROKEN_PATHS: dict[str, Script] = {
    "greeting 4xx": Script(greeting="450 4.3.2 busy"),
    "greeting 421": Script(greeting="421 4.3.2 busy"),
    "greeting 5xx": Script(greeting="554 5.7.1 not you"),
    "greeting 3xx": Script(greeting="354 what?"),
    "greeting garbage": Script(greeting=Raw(b"HTTP/1.1 400 Bad Request\r\n")),
    "greeting closed": Script(greeting=Close()),
    "greeting reset": Script(greeting=Reset()),
    "hello 4xx": Script(ehlo="450 4.3.2 busy", lhlo="450 4.3.2 busy"),
    "hello 421": Script(ehlo="421 4.3.2 busy", lhlo="421 4.3.2 busy"),
    "hello 5xx": Script(ehlo="550 5.7.1 not you", helo="550 5.7.1 not you", lhlo="550 5.7.1 not you"),
    "hello closed": Script(ehlo=Close(), lhlo=Close()),
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("script", BROKEN_PATHS.values(), ids=BROKEN_PATHS.keys())
async def test_no_path(speaks: Speaks, script: Script, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, script, speaks=speaks)) as world:
        client = await world.client()
        assert (await client.envelope("u@a.example", "v@a.example")).rcpts == (NO_PATH, NO_PATH)
        assert [len(mta.sessions) for mta in world.mtas.values()] == [1, 1], "each host is tried once"


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("script", BROKEN_PATHS.values(), ids=BROKEN_PATHS.keys())
async def test_next_host_in_place_of_a_broken_path(speaks: Speaks, script: Script, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, Script(), speaks=speaks)) as world:
        client = await world.client()
        assert (await client.envelope("u@a.example")).rcpts == (TAKEN,)


async def test_connection_refused(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script())) as world:
        client = await world.client()
        world.network.refuse(world.address("a1"))
        assert (await client.transact("u@a.example")).rcpts == (TAKEN,)
        await trio.sleep(3.1)  # or the session is used again
        world.network.refuse(world.address("a2"))
        assert (await client.envelope("u@a.example")).rcpts == (NO_PATH,)


async def test_helo_where_ehlo_is_refused(autojump_clock: MockClock) -> None:
    """Nothing was offered then, so nothing is pipelined: the scripted server would call that a violation."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(ehlo="502 5.5.1 no"))) as world:
        client = await world.client()
        told = await client.transact("u@a.example", "v@a.example", parameters=" SIZE=10")
        assert told.rcpts == (TAKEN, TAKEN)
        assert world.mta("a1").sessions[0].dialog[2:7] == [
            "C: EHLO gw.example",
            "S: 502 5.5.1 no",
            "C: HELO gw.example",
            "S: 250 a1",
            "C: MAIL FROM:<s@in.example>",
        ]
        assert world.mta("a1").messages[0].parameters == ()


# Names

NAMES = ("mx1.a.example", "mx2.a.example")
NO_NAME: dict[str, NoAnswer] = {reason.name: reason for reason in NoAnswer}


@pytest.mark.parametrize("reason", NO_NAME.values(), ids=NO_NAME.keys())
async def test_names_that_do_not_resolve(reason: NoAnswer, autojump_clock: MockClock) -> None:
    """The operator's mistake or the resolver's is never the sender's: 4xx, whatever DNS says."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script(), names=NAMES)) as world:
        client = await world.client()
        world.network.records[NAMES[0], "A"] = reason
        told = await client.transact("u@a.example")
        assert told.outcomes == ("250 2.0.0 taken",), "the next host has a name that resolves"
        world.network.records[NAMES[1], "A"] = reason
        assert (await client.envelope("u@a.example")).rcpts == ("250 2.1.5 recipient ok",), "its answer is still good"
        await client.play("C: RSET\nS: 250 ...")
        await trio.sleep(60)
        assert (await client.envelope("u@a.example")).rcpts == (NOT_FOUND,)


async def test_connection_failure_says_more_than_a_failed_lookup(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script(), names=NAMES)) as world:
        client = await world.client()
        world.network.refuse(world.address("a1"))
        world.network.records[NAMES[1], "A"] = NoAnswer.TEMPORARY
        assert (await client.envelope("u@a.example")).rcpts == (NO_PATH,)


ADDRESSES: dict[str, tuple[dict[str, str], tuple[str, ...], list[str]]] = {
    # DNS, /etc/hosts, and where we connect, nobody being there; one family or the other at random
    "IPv6 and IPv4": ({"A": "192.0.2.7", "AAAA": "2001:db8::7"}, (), ["[2001:db8::7]:25", "192.0.2.7:25"]),
    "IPv4 only": ({"A": "192.0.2.7"}, (), ["192.0.2.7:25"]),
    "IPv6 only": ({"AAAA": "2001:db8::7"}, (), ["[2001:db8::7]:25"]),
    "/etc/hosts": ({"A": "192.0.2.7"}, ("10.9.9.2", "10.9.9.1"), ["10.9.9.2:25", "10.9.9.1:25"]),
}


@pytest.mark.parametrize(("records", "local", "connected"), ADDRESSES.values(), ids=ADDRESSES.keys())
async def test_addresses_of_a_name(
    records: dict[str, str], local: tuple[str, ...], connected: list[str], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", names=NAMES)) as world:
        del world.network.records[NAMES[0], "A"]
        for record_type, ip in records.items():
            world.network.records[NAMES[0], record_type] = Answer((ip,), 60)
        if local:
            world.network.hosts[NAMES[0]] = local
        client = await world.client()
        assert (await client.envelope("u@a.example")).rcpts == (NO_PATH,)
        assert sorted(str(one.address) for one in world.network.connections) == sorted(connected)


# Who and whither


@pytest.mark.parametrize("speaks", BOTH)
async def test_no_route(speaks: Speaks, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client(speaks)
        told = await client.transact("u@elsewhere.example", "u@a.example", "u@sub.a.example")
        assert told.rcpts == (NO_ROUTE, TAKEN, NO_ROUTE)
        assert told.outcomes == ("250 2.0.0 taken",)
        assert [query for query in world.network.connections if query.address != world.address("a1")] == []


POSTMASTERS = {
    "as configured": ("hostmaster@a.example", TAKEN, ["C: RCPT TO:<hostmaster@a.example>"]),
    "our hostname has no route": (None, NO_ROUTE, []),
}


@pytest.mark.parametrize(("postmaster", "answer", "upstream"), POSTMASTERS.values(), ids=POSTMASTERS.keys())
@pytest.mark.parametrize("written", ["Postmaster", "postmaster", "POSTMASTER"])
async def test_postmaster_without_a_domain(
    postmaster: str | None, answer: str, upstream: list[str], written: str, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), postmaster=postmaster) as world:
        client = await world.client()
        assert (await client.envelope(written)).rcpts == (answer,)
        said = [line for session in world.mta("a1").sessions for line in session.dialog]
        assert [line for line in said if line.startswith("C: RCPT")] == upstream


async def test_lmtp_no_recipient_accepted(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(rcpt="550 5.1.1 no"))) as world:
        client = await world.client("lmtp")
        await client.play("""
            C: MAIL FROM:<s@in.example>
            C: RCPT TO:<u@a.example>
            C: RCPT TO:<v@a.example>
            C: DATA
            S: 250 2.1.0 Sender ok
            S: 550 5.1.1 no
            S: 550 5.1.1 no
            S: 503 5.5.1 Bad sequence of commands: this transaction has no valid recipient yet
        """)
        await client.quit()


async def test_client_who_may_not_connect(autojump_clock: MockClock) -> None:
    allowed = (ipaddress.ip_network("192.0.2.0/24"),)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), clients=allowed) as world:
        client = await world.client(peer=TcpAddress("198.51.100.1", 4025), greeted=False)
        await client.play("S: 554 5.7.1 gw.example You may not connect here\nC: EHLO me\nS+ 1.9\nS.")


# The same over all kinds of streams

DIALOG = """
    C: MAIL FROM:<s@in.example>
    S: 250 2.1.0 Sender ok
    C: RCPT TO:<u@a.example>
    S: 550 5.1.1 no
    C: RCPT TO:<v@a.example>
    S: 250 2.1.5 recipient ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: hello
    C:
    C: ..dot
    C: .
    S: 250 2.0.0 taken
    C: QUIT
    S: 221 2.0.0 Bye
    S.
"""


@pytest.mark.parametrize("speaks", BOTH)
async def test_unpipelined_over_lockstep_streams(speaks: Speaks, autojump_clock: MockClock) -> None:
    script = Script(recipients={"u@a.example": "550 5.1.1 no"})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script), capacity=1) as world:
        client = await world.client(speaks, pair=lockstep_stream_pair())
        await client.play(DIALOG)
        assert world.mta("a1").messages[0].content.endswith(b"\r\nSubject: hello\r\n\r\n.dot\r\n")


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize("speaks", BOTH)
async def test_pipelined_over_bounded_streams(speaks: Speaks, capacity: int, autojump_clock: MockClock) -> None:
    script = Script(recipients={"u@a.example": "550 5.1.1 no"})
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script), capacity=capacity) as world:
        client = await world.client(speaks, capacity=capacity)
        lines = [line.strip() for line in DIALOG.splitlines() if line.strip()]
        data = lines.index("C: DATA") + 1
        for group in (lines[:data], lines[data:]):
            said = [line for line in group if line.startswith("C")]
            await client.play("\n".join([*said, *(line for line in group if line.startswith("S"))]))
        assert world.mta("a1").messages[0].content.endswith(b"\r\nSubject: hello\r\n\r\n.dot\r\n")
