"""The scripted server: dialogs for what it says, tables for its faults, and what it records."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mailgate.network import TcpAddress
from mailgate.testing import (
    Close,
    Delay,
    Delivered,
    During,
    MemoryNetwork,
    Question,
    Raw,
    Reset,
    Script,
    ScriptedMTA,
    Silence,
    SlowReading,
    Speaks,
    Step,
    StopReading,
    Turns,
    Violation,
    bounded_stream_pair,
    play,
)

EHLO = """
    S: 220 mx ready
    C: EHLO gw
    S: 250-mx
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SMTPUTF8
    S: 250-SIZE 52428800
    S: 250 ENHANCEDSTATUSCODES
"""
LHLO = EHLO.replace("EHLO", "LHLO")
ENVELOPE = """
    C: MAIL FROM:<s@in.example>
    S: 250 2.1.0 sender ok
    C: RCPT TO:<a@x.example>
    S: 250 2.1.5 recipient ok
    C: RCPT TO:<b@x.example>
    S: 250 2.1.5 recipient ok
    C: DATA
    S: 354 go ahead
"""
QUIT = """
    C: QUIT
    S: 221 2.0.0 mx closes
    S.
"""
BODY = """
    C! Subject: 1\\r\\n\\r\\n..dot\\r\\n.\\r\\n
"""
CONTENT = b"Subject: 1\r\n\r\n.dot\r\n"
WIRE = b"Subject: 1\r\n\r\n..dot\r\n.\r\n"
DELIVERED = Delivered(
    reverse_path="s@in.example",
    parameters=(),
    recipients=("a@x.example", "b@x.example"),
    replies=("250 2.0.0 taken", "250 2.0.0 taken"),
    content=CONTENT,
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    time=0,
)


async def _play(mta: ScriptedMTA, script: str, capacity: int = 65_536) -> None:
    """Play the client's side against the server, and leave."""
    client, server = bounded_stream_pair(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, script)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize(
    ("protocol", "script"),
    [
        pytest.param("smtp", EHLO + ENVELOPE + BODY + "S: 250 2.0.0 taken" + QUIT, id="smtp"),
        pytest.param("lmtp", LHLO + ENVELOPE + BODY + "S: 250 2.0.0 taken\nS: 250 2.0.0 taken" + QUIT, id="lmtp"),
    ],
)
async def test_a_message(protocol: Speaks, script: str, capacity: int, autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", protocol)
    await _play(mta, script, capacity)
    assert mta.messages == [DELIVERED]
    assert mta.taken == [("a@x.example", DELIVERED.sha256), ("b@x.example", DELIVERED.sha256)]
    assert (mta.unfinished, mta.open_sessions) == (0, 0)


async def test_a_pipelined_message_with_its_quit(autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx")
    group = """
        C: MAIL FROM:<> SIZE=20 BODY=8BITMIME SMTPUTF8
        C: RCPT TO:<"a b>"@x.example>
        C: DATA
        S: 250 2.1.0 sender ok
        S: 250 2.1.5 recipient ok
        S: 354 go ahead
        C! .\\r\\nQUIT\\r\\n
        S: 250 2.0.0 taken
        S: 221 2.0.0 mx closes
        S.
    """
    await _play(mta, EHLO + group)
    (message,) = mta.messages
    assert (message.reverse_path, message.recipients, message.content) == ("", ('"a b>"@x.example',), b"")
    assert message.parameters == ("SIZE=20", "BODY=8BITMIME", "SMTPUTF8")


MAIL = "C: MAIL FROM:<s@in.example>\n"
RCPT = "C: RCPT TO:<a@x.example>\n"
DATA = MAIL + "S: 250...\n" + RCPT + "S: 250...\nC: DATA\n"
TO_DOT = DATA + "S: 354...\n" + BODY

# The script | the dialog from the greeting, or after EHLO
REPLIES = [
    pytest.param(Script(greeting="554 no"), "S: 554 no", id="greeting"),
    pytest.param(Script(greeting=Close()), "S.", id="greeting-close"),
    pytest.param(Script(greeting=Reset()), "S~", id="greeting-reset"),
    pytest.param(Script(greeting=Silence()), "S+ 1000", id="greeting-silence"),
    pytest.param(Script(greeting=("421 full", Close())), "S: 421 full\nS.", id="greeting-421-close"),
    pytest.param(Script(greeting="220-a\n220 b"), "S: 220-a\nS: 220 b", id="greeting-lines"),
    pytest.param(Script(greeting=Raw(b"SSH-2.0\n")), "S! SSH-2.0\\n\nS+ 1000", id="greeting-raw"),
    pytest.param(Script(greeting=Delay(9)), "S+ 8.9\nS: 220 mx ready", id="delay-and-the-usual"),
    pytest.param(Script(greeting=(Delay(9), "421 no")), "S+ 8.9\nS: 421 no", id="delay-and-another"),
    pytest.param(Script(ehlo="502 no"), "S: 220...\nC: EHLO gw\nS: 502 no\nC: HELO gw\nS: 250 mx", id="helo"),
    pytest.param(Script(extensions=()), "S: 220...\nC: EHLO gw\nS: 250 mx", id="no-extensions"),
    pytest.param(Script(mail="451 no"), EHLO + MAIL + "S: 451 no\n" + RCPT + "S: 503...", id="mail"),
    pytest.param(
        Script(rcpt="550 no"), EHLO + DATA.replace("S: 250...\nC: D", "S: 550 no\nC: D") + "S: 503...", id="rcpt"
    ),
    pytest.param(
        Script(recipients={"a@x.example": Close()}), EHLO + MAIL + "S: 250...\n" + RCPT + "S.", id="a-recipient"
    ),
    pytest.param(Script(data="451 no"), EHLO + DATA + "S: 451 no", id="data"),
    pytest.param(Script(dot="554 no"), EHLO + TO_DOT + "S: 554 no", id="dot"),
    pytest.param(Script(dot=(Raw(b"25"), Close())), EHLO + TO_DOT + "S! 25\nS.", id="dot-cut"),
    pytest.param(Script(rset=Close()), EHLO + "C: RSET\nS.", id="rset"),
    pytest.param(Script(noop="250 hm"), EHLO + "C: NOOP\nS: 250 hm\nC: VRFY a\nS: 252...", id="noop-vrfy"),
    pytest.param(Script(quit=Close()), EHLO + "C: QUIT\nS.", id="quit"),
    pytest.param(
        Script(noop=Turns("250 1", ("421 2", Delay(3)), Close())),
        EHLO + "C: NOOP\nS: 250 1\nC: NOOP\nS: 421 2\nC: NOOP\nS.",
        id="turns",
    ),
    pytest.param(Script(pace=0.2), "S+ 0.19\nS: 220...\nC: HELO gw\nS+ 0.19\nS: 250 mx", id="pace"),
    pytest.param(Script(body=(During(5, "250 early"),)), EHLO + DATA + "S: 354...\nC! 12345\nS: 250 early", id="early"),
    pytest.param(
        Script(body=(During(5, "250 early"),), dot="451 no"),
        EHLO + TO_DOT + "S: 250 early\nS: 451 no",
        id="early-and-again",
    ),
    pytest.param(Script(body=(During(0, Close()),)), EHLO + DATA + "S: 354...\nS.", id="close-before-the-body"),
    pytest.param(Script(body=(During(5, Reset()),)), EHLO + DATA + "S: 354...\nC! 12345\nS~", id="reset-in-the-body"),
]


@pytest.mark.parametrize(("script", "dialog"), REPLIES)
async def test_replies(script: Script, dialog: str, autojump_clock: MockClock) -> None:
    await _play(ScriptedMTA("mx", script=script), dialog)


# The script of an LMTP server | what follows the dot | the replies recorded, for a and b
OUTCOMES = [
    pytest.param({}, "S: 250...\nS: 250...", ("250 2.0.0 taken", "250 2.0.0 taken"), id="all"),
    pytest.param({"b@x.example": "451 no"}, "S: 250...\nS: 451 no", ("250 2.0.0 taken", "451 no"), id="one"),
    pytest.param({"b@x.example": Close()}, "S: 250...\nS.", ("250 2.0.0 taken", ""), id="close-between"),
    pytest.param({"a@x.example": Silence()}, "S+ 1000", ("", ""), id="silence"),
    pytest.param(
        {"a@x.example": "250-x\n250 y"},
        "S: 250-x\nS: 250 y\nS: 250...",
        ("250-x\n250 y", "250 2.0.0 taken"),
        id="lines",
    ),
]


@pytest.mark.parametrize(("outcomes", "dialog", "replies"), OUTCOMES)
async def test_lmtp_outcomes(
    outcomes: dict[str, str], dialog: str, replies: tuple[str, ...], autojump_clock: MockClock
) -> None:
    mta = ScriptedMTA("mx", "lmtp", Script(outcomes=outcomes))
    await _play(mta, LHLO + ENVELOPE + BODY + dialog)
    assert [message.replies for message in mta.messages] == [replies]


PRDR_TO_DOT = (
    "S: 220...\nC: EHLO gw\nS: 250-mx\nS: 250 PRDR" + ENVELOPE.replace("in.example>", "in.example> PRDR") + BODY
)
TAKEN = "250 2.0.0 taken"

PRDR_OUTCOMES = [
    pytest.param(Script(), f"S: 353...\nS: {TAKEN}\nS: {TAKEN}\nS: 250...", (TAKEN, TAKEN), id="all"),
    pytest.param(
        Script(outcomes={"b@x.example": "550 no"}),
        f"S: 353...\nS: {TAKEN}\nS: 550 no\nS: 250...",
        (TAKEN, "550 no"),
        id="one-refused",
    ),
    pytest.param(Script(dot="451 no"), "S: 353...\nS: 451 no\nS: 451 no\nS: 451 no", ("451 no",) * 2, id="none"),
    pytest.param(Script(prdr_start=TAKEN), f"S: {TAKEN}\nS+ 9", (TAKEN, TAKEN), id="one-reply-for-all"),
    pytest.param(Script(prdr_end=Close()), f"S: 353...\nS: {TAKEN}\nS: {TAKEN}\nS.", (TAKEN, TAKEN), id="no-end"),
]


@pytest.mark.parametrize(("script", "dialog", "replies"), PRDR_OUTCOMES)
async def test_prdr_outcomes(script: Script, dialog: str, replies: tuple[str, ...], autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", script=dataclasses.replace(script, extensions=("PRDR",)))
    await _play(mta, PRDR_TO_DOT + dialog)
    assert [message.replies for message in mta.messages] == [replies]


VIOLATIONS = [
    pytest.param("C! NOOP\\n", "does not end in CRLF", id="bare-LF"),
    pytest.param("C! NO\\rOP\\r\\n", "has a CR within", id="bare-CR"),
    pytest.param("C: NOOP " + "x" * 600, "more than 565 octets", id="long"),
    pytest.param("C: HELP", "an unknown command", id="unknown"),
    pytest.param("C: MAIL FROM:<a@x>", "MAIL before a greeting command", id="no-EHLO"),
    pytest.param("C: LHLO gw", "LHLO to a server that speaks SMTP", id="LHLO"),
    pytest.param("C: NOOP \u00fc", "non-ASCII characters, without SMTPUTF8", id="8-bit"),
    pytest.param("C: RSET\nC: RSET", "in a group, without PIPELINING", id="group-before-EHLO"),
    pytest.param(EHLO + "C: NOOP\nC: RSET", "behind NOOP", id="NOOP-not-last"),
    pytest.param(EHLO + "C! NOOP \\xff\\r\\n", "not UTF-8", id="not-UTF-8"),
    pytest.param(EHLO + "C: MAIL FROM: <a@x>", "bad syntax", id="space"),
    pytest.param(EHLO + "C: MAIL FROM:<a@x> RET=FULL", "the parameter RET, which", id="parameter"),
    pytest.param(EHLO + "C: MAIL FROM:<\u00fc@x>", "without the parameter SMTPUTF8", id="SMTPUTF8"),
    pytest.param(EHLO + RCPT, "RCPT without MAIL", id="RCPT-first"),
    pytest.param(EHLO + "C: DATA", "DATA without MAIL", id="DATA-first"),
    pytest.param(EHLO + MAIL + "S: 250...\n" + MAIL, "MAIL inside a transaction", id="MAIL-twice"),
    pytest.param(EHLO + MAIL + "S: 250...\nC: RCPT TO:<a@x> NOTIFY=NEVER", "parameters of RCPT", id="RCPT-parameter"),
    pytest.param(EHLO + DATA + "S: 354...\nC! a\\nb\\r\\n", "a bare CR or LF", id="body-LF"),
    pytest.param(EHLO + DATA + "S: 354...\nC! a\\rb\\r\\n", "a bare CR or LF", id="body-CR"),
    pytest.param(EHLO + DATA + "S: 354...\nC! a\\n.\\nb", "a bare LF", id="body-LF-dot-LF"),
    pytest.param(EHLO + DATA + "S: 354...\nC! .a\\r\\n", "not dot-stuffed", id="body-dot"),
    pytest.param(
        "S: 220...\nC: HELO gw\nS: 250 mx\n" + DATA + "S: 354...\nC! .\\r\\nQUIT\\r\\n",
        "behind the dot before its reply",
        id="group-behind-the-dot",
    ),
]


@pytest.mark.parametrize(("dialog", "message"), VIOLATIONS)
async def test_violations(dialog: str, message: str, autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx")
    with pytest.RaisesGroup(pytest.RaisesExc(Violation, match=message)):
        await _play(mta, dialog if "220" in dialog else "S: 220...\n" + dialog)
    assert mta.messages == []


@pytest.mark.parametrize("cut", range(len(WIRE)))
async def test_a_message_without_its_dot_is_unfinished(cut: int, autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx")
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, EHLO + DATA + "S: 354...")
            await client.send_all(WIRE[:cut])
    assert (mta.messages, mta.unfinished) == ([], 1)
    assert mta.sessions[0].dialog[-1] == f"C: [{cut} bytes without a dot]"


@pytest.mark.parametrize("size", [1, 2, 3, len(WIRE)])
async def test_a_message_in_pieces(size: int, autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", keep=12)
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, EHLO + DATA + "S: 354...")
            for begin in range(0, len(WIRE), size):
                await client.send_all(WIRE[begin : begin + size])
                await trio.testing.wait_all_tasks_blocked()
            await play(client, "S: 250 2.0.0 taken")
    (message,) = mta.messages
    assert (message.content, message.size, message.sha256) == (CONTENT[:12], len(CONTENT), DELIVERED.sha256)


async def test_a_server_that_stops_reading(autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", script=Script(body=(StopReading(10),)))
    client, server = bounded_stream_pair(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        await play(client, EHLO + DATA + "S: 354...")
        await client.send_all(b"x" * 18)
        with trio.move_on_after(1000) as scope:
            await client.send_all(b"x")
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_server_that_reads_slowly(autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", script=Script(body=(SlowReading(100, at=200),)))
    body = "C! " + "x" * 998 + "\\r\\n" + ".\\r\\n"
    await _play(mta, EHLO + DATA + "S: 354...\n" + body + "\nS: 250...")
    assert mta.messages[0].time == pytest.approx((1003 - 200) / 100)


async def test_the_script_can_be_replaced_while_it_runs(autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", script=Script(noop=Turns("250 1", "250 2")))
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, EHLO + "C: NOOP\nS: 250 1")
            mta.script = Script(noop=Turns("250 3", "250 4"))
            await play(client, "C: NOOP\nS: 250 3\nC: NOOP\nS: 250 4")


async def test_turns_of_a_verb_count_all_recipients(autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", script=Script(rcpt=Turns("250 first", "452 more")))
    await _play(mta, EHLO + MAIL + "S: 250...\n" + RCPT + "S: 250 first\nC: RCPT TO:<b@x.example>\nS: 452 more")


async def test_turns_count_over_all_sessions_and_apart_for_each_recipient(autojump_clock: MockClock) -> None:
    later = Turns("451 later", "250 now")
    mta = ScriptedMTA("mx", script=Script(recipients={"a@x.example": later, "b@x.example": later}))
    b = "C: RCPT TO:<b@x.example>\n"
    await _play(mta, EHLO + MAIL + "S: 250...\n" + RCPT + "S: 451 later\n" + b + "S: 451 later")
    await _play(mta, EHLO + MAIL + "S: 250...\n" + RCPT + "S: 250 now\n" + b + "S: 250 now")


async def test_a_transcript_reads_as_a_dialog(autojump_clock: MockClock) -> None:
    address = TcpAddress("10.0.0.25", 25)
    mta = ScriptedMTA("mx", script=Script(extensions=("PIPELINING",), pace=0.5))
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.serve(address, mta.handle)
        async with await network.connect(address) as client:
            await play(client, "S: 220...\nC: EHLO gw\nS: 250-mx\nS: 250...\n" + TO_DOT + "S: 250...")
    assert str(mta.sessions[0]) == (
        "   0.000 mx#1 -- connection from 127.0.0.1:49152\n"
        "   0.500 mx#1 S: 220 mx ready\n"
        "   0.500 mx#1 C: EHLO gw\n"
        "   1.000 mx#1 S: 250-mx\n"
        "   1.000 mx#1 S: 250 PIPELINING\n"
        "   1.000 mx#1 C: MAIL FROM:<s@in.example>\n"
        "   1.500 mx#1 S: 250 2.1.0 sender ok\n"
        "   1.500 mx#1 C: RCPT TO:<a@x.example>\n"
        "   2.000 mx#1 S: 250 2.1.5 recipient ok\n"
        "   2.000 mx#1 C: DATA\n"
        "   2.500 mx#1 S: 354 go ahead\n"
        "   2.500 mx#1 C: [24 bytes with the dot]\n"
        "   3.000 mx#1 S: 250 2.0.0 taken\n"
        "   3.000 mx#1 -- closed by the client"
    )


# Plans that are functions


def _one_at_a_time(asked: Question) -> Step | None:
    return "452 4.5.3 one at a time" if asked.recipients else None


def _no_second_copy(asked: Question) -> Step | None:
    return "552 5.2.2 twice" if asked.recipient in asked.recipients[: asked.position] else None


TWICE = ENVELOPE.replace("b@x", "a@x")

# The server | what it does | the dialog after EHLO
DECISIONS = [
    pytest.param(
        "smtp",
        Script(rcpt=_one_at_a_time),
        MAIL + "S: 250...\n" + RCPT + "S: 250...\n" + RCPT + "S: 452...\nC: RSET\nS: 250...",
        id="recipients",
    ),
    pytest.param(
        "smtp",
        Script(mail=lambda asked: None if asked.parameters else "530 5.7.0 say something"),
        MAIL + "S: 530...\nC: RSET\nS: 250...\nC: MAIL FROM:<s@in.example> SIZE=5\nS: 250...",
        id="parameters",
    ),
    pytest.param(
        "smtp",
        Script(dot=lambda asked: "554 5.6.0 spam" if b"Subject: 1" in asked.content else None),
        ENVELOPE + BODY + "S: 554...",
        id="content",
    ),
    pytest.param("lmtp", Script(dot=_no_second_copy), TWICE + BODY + "S: 250...\nS: 552...", id="position"),
    pytest.param(
        "lmtp",
        Script(outcomes={"b@x.example": lambda asked: "451 no"}),
        ENVELOPE + BODY + "S: 250...\nS: 451 no",
        id="of-one-recipient",
    ),
    pytest.param(
        "smtp",
        Script(noop=lambda asked: Turns("250 1", "250 2")),
        "C: NOOP\nS: 250 1\nC: NOOP\nS: 250 2",
        id="turns",
    ),
    pytest.param("smtp", Script(noop=lambda asked: Delay(9)), "C: NOOP\nS+ 8.9\nS: 250...", id="delay-and-the-usual"),
    pytest.param(
        "smtp",
        Script(body=(During(5, lambda asked: Close() if asked.reverse_path.startswith("s@") else None),)),
        DATA + "S: 354...\nC! 12345\nS.",
        id="in-the-body",
    ),
    pytest.param("smtp", Script(body=(During(5, lambda asked: None),)), TO_DOT + "S: 250...", id="nothing-in-the-body"),
]


@pytest.mark.parametrize(("protocol", "script", "dialog"), DECISIONS)
async def test_decisions(protocol: Speaks, script: Script, dialog: str, autojump_clock: MockClock) -> None:
    await _play(ScriptedMTA("mx", protocol, script), (EHLO if protocol == "smtp" else LHLO) + dialog)


async def test_what_a_decision_is_asked(autojump_clock: MockClock) -> None:
    asked: list[Question] = []
    peer = TcpAddress("192.0.2.7", 4025)
    ask = asked.append
    mta = ScriptedMTA("mx", "lmtp", Script(greeting=ask, lhlo=ask, mail=ask, rcpt=ask, data=ask, dot=ask, rset=ask))
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server, peer)
        async with client:
            await play(client, LHLO + ENVELOPE + BODY + "S: 250...\nS: 250...\nC: RSET\nS: 250...")
    both, known = ("a@x.example", "b@x.example"), Question(stage="rset", time=0, session=1, peer=peer)
    mail = dataclasses.replace(known, reverse_path="s@in.example")
    dot = dataclasses.replace(
        mail, stage="dot", recipients=both, size=len(CONTENT), sha256=DELIVERED.sha256, content=CONTENT
    )
    assert asked == [
        dataclasses.replace(known, stage="greeting"),
        dataclasses.replace(known, stage="lhlo"),
        dataclasses.replace(mail, stage="mail"),
        dataclasses.replace(mail, stage="rcpt", recipient=both[0]),
        dataclasses.replace(mail, stage="rcpt", recipient=both[1], recipients=both[:1], position=1),
        dataclasses.replace(mail, stage="data", recipients=both),
        dataclasses.replace(dot, recipient=both[0]),
        dataclasses.replace(dot, recipient=both[1], position=1),
        known,
    ]


# What it tells, and what it keeps


async def test_it_tells_of_a_message_before_it_replies(autojump_clock: MockClock) -> None:
    told: list[Delivered] = []
    mta = ScriptedMTA("mx", script=Script(dot=Delay(9)), on_message=told.append)
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, EHLO + ENVELOPE + BODY + "S+ 8.9")
            assert told == [DELIVERED]
            await play(client, "S: 250 2.0.0 taken")
    assert told == mta.messages


@pytest.mark.parametrize(("remember", "kept"), [(None, [1, 2, 3]), (2, [2, 3]), (0, [])])
async def test_how_much_it_remembers(remember: int | None, kept: list[int], autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx", remember=remember)
    for number in (1, 2, 3):
        await _play(mta, EHLO + DATA.replace("s@in", f"s{number}@in") + "S: 354...\nC: .\nS: 250...")
    assert [message.reverse_path for message in mta.messages] == [f"s{number}@in.example" for number in kept]
    assert [transcript.title for transcript in mta.sessions] == [f"mx#{number}" for number in kept]
    assert mta.connections == 3


# The final reply | what is seen of it | how many have the message then
FINALS = [
    pytest.param("250 ok", "S: 250 ok", 2, id="250"),
    pytest.param("451 no", "S: 451 no", 0, id="451"),
    pytest.param("550 no", "S: 550 no", 0, id="550"),
    pytest.param(("421 no", Close()), "S: 421 no\nS.", 0, id="421"),
    pytest.param(Close(), "S.", 2, id="none"),
]


@pytest.mark.parametrize(("final", "dialog", "taken"), FINALS)
async def test_a_final_refusal_is_for_all(
    final: Step | tuple[Step, ...], dialog: str, taken: int, autojump_clock: MockClock
) -> None:
    mta = ScriptedMTA("mx", script=Script(extensions=("PRDR",), prdr_end=final))
    await _play(mta, PRDR_TO_DOT + f"S: 353...\nS: {TAKEN}\nS: {TAKEN}\n" + dialog)
    assert len(mta.messages[0].taken) == taken


# A client that waits | what it sees when it is dismissed
IDLE = [
    pytest.param("S: 220...", True, id="after-the-greeting"),
    pytest.param(EHLO, True, id="after-EHLO"),
    pytest.param(EHLO + ENVELOPE + BODY + "S: 250...", True, id="after-a-message"),
    pytest.param(EHLO + MAIL + "S: 250...\nC: RSET\nS: 250...", True, id="after-RSET"),
    pytest.param(EHLO + MAIL + "S: 250...", False, id="after-MAIL"),
    pytest.param(EHLO + DATA + "S: 354...\nC! 12345", False, id="in-the-body"),
]


@pytest.mark.parametrize(("dialog", "idle"), IDLE)
async def test_dismissal(dialog: str, idle: bool, autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx")
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, dialog)
            await trio.testing.wait_all_tasks_blocked()
            mta.dismiss("421 4.3.2 bye", Close())
            await play(client, "S: 421 4.3.2 bye\nS." if idle else "S+ 1000")
        nursery.cancel_scope.cancel()


async def test_a_session_goes_on_after_words_that_do_not_end_it(autojump_clock: MockClock) -> None:
    mta = ScriptedMTA("mx")
    client, server = bounded_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mta.handle, server)
        async with client:
            await play(client, EHLO)
            await trio.testing.wait_all_tasks_blocked()
            mta.dismiss("250 well")
            await play(client, "S: 250 well\nC: NOOP\nS: 250 2.0.0 ok" + QUIT)


async def test_it_serves_real_sockets(nursery: trio.Nursery) -> None:
    mta = ScriptedMTA("mx")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, mta.handle, [listener])
    async with await trio.testing.open_stream_to_socket_listener(listener) as client:
        await play(client, EHLO + QUIT)
