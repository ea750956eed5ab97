"""The event log and the trace of a run that is made up here: two clients, and an upstream session that serves both."""

from __future__ import annotations

import enum
from collections.abc import Callable

import click
import pytest

from mailgate.network import Answer, NoAnswer, TcpAddress
from sim import event_log, trace
from sim.content import content, digest
from sim.records import (
    Asked,
    Attempt,
    Copy,
    Crash,
    End,
    Fault,
    History,
    Hit,
    Kind,
    Logged,
    Looked,
    Message,
    Phase,
    Said,
    Session,
    Settled,
    Side,
    Transaction,
)
from sim.story import Stories
from sim.summary import Finding

SENDER, GATEWAY, SERVER = TcpAddress("203.0.113.11", 1025), TcpAddress("192.0.2.1", 25), TcpAddress("10.1.0.1", 25)
LATE = TcpAddress("203.0.113.12", 1026)

LATENCY = 0.025


def said(time: float, text: str) -> Said:
    return Said(int(text[:3]), text, time, time + LATENCY)


def asked(time: float, line: str, reply: str) -> Asked:
    return Asked(line, time, time + LATENCY, said(time + LATENCY, reply))


def transaction(session: Session, time: float, message: str, reply: Said | None, name: str = "") -> Transaction:
    """From MAIL to the dot; a gateway puts a `Received:` line with its id on top."""
    mail = asked(time, f"MAIL FROM:<{message}@osend1.example>", "250 2.1.0 Sender")
    rcpt = asked(time + 0.1, "RCPT TO:<u1@corp.example>", "250 2.1.5 Recipient")
    data = asked(time + 0.2, "DATA", "354 Go ahead")
    received = f"Received: from x ([203.0.113.11])\r\n\tby gw1 with ESMTP id {name};\r\n" if name else ""
    octets = received.encode() + content(message, 500)
    made = Transaction(
        session,
        mail,
        f"{message}@osend1.example",
        (),
        [("u1@corp.example", rcpt)],
        data,
        len(octets),
        octets,
        digest(octets),
        time + 0.3,
        time + 0.3 + LATENCY,
        [] if reply is None else [reply],
    )
    session.commands += [mail, rcpt, data]
    session.transactions.append(made)
    return made


def client(number: int, host: str, address: TcpAddress, time: float, message: str, reply: str) -> Session:
    made = Session(number, host, 0, address, "gw1", 0, GATEWAY, time, time + 0.05)
    made.greeting = said(time + 0.05, "220 gw1.site.example")
    made.commands.append(asked(time + 0.1, f"EHLO {host}.example", "250-gw1.site.example\n250 PIPELINING"))
    transaction(made, time + 0.2, message, said(time + 1.0, reply))
    made.client_end = time + 2.0, End.FIN
    return made


def bare(number: int, time: float) -> Session:
    return Session(number, "gw1", 0, TcpAddress("10.0.0.1", 4000 + number), "in2", 0, SERVER, time, error="refused")


def logged(time: float, event: str, name: str = "", **fields: object) -> Logged:
    own = {"id": name} if name else {}
    return Logged("gw1", 0, time, {"event": event, "log_level": "info", **own, **fields})


def message(name: str, time: float) -> Message:
    octets = content(name, 500)
    return Message(
        name,
        "osend1",
        f"{name}@osend1.example",
        ("u1@corp.example",),
        digest(octets),
        len(octets),
        time,
        outbound=False,
    )


@pytest.fixture
def history() -> History:
    """m1 and m2 come by sessions 1 and 4 and go out on session 2, which is kept; 3 came to no MAIL."""
    first = client(1, "osend1", SENDER, 100.0, "m1", "250 2.0.0 Taken")
    second = client(4, "osend2", LATE, 110.0, "m2", "451 4.4.2 Unknown")
    upstream = Session(2, "gw1", 0, TcpAddress("10.0.0.1", 4002), "in1", 0, SERVER, 100.3, 100.31)
    upstream.greeting = said(100.32, "220 in1.corp.example")
    transaction(upstream, 100.4, "m1", said(100.9, "250 2.0.0 in1 has it"), "aaaa")
    transaction(upstream, 110.4, "m2", None, "bbbb")
    upstream.broken = 110.8
    made = History(17, ("gw1", "gw2"))
    made.sessions = [first, upstream, bare(3, 100.35), second]
    made.messages = {one.id: one for one in (message("m1", 99.0), message("m2", 109.0))}
    made.faults = [Fault(Kind.BLACK_HOLE, "isp-b", 50.0, 105.0), Fault(Kind.RESET, "session 2", 110.8, 110.8)]
    made.hits = [Hit(Kind.RESET, Phase.AFTER_DOT, Side.UPSTREAM, 2, 110.8)]
    made.log = [
        logged(100.05, "connected", "aaaa", client=SENDER),
        logged(100.7, "committing", "aaaa", to=["u1@corp.example"]),
        logged(100.8, "path_down", path="in2"),
        logged(101.0, "delivered", "aaaa"),
        logged(110.05, "connected", "bbbb", client=LATE),
        logged(111.0, "not_delivered", "bbbb"),
    ]
    made.lookups = [Looked("gw1", 1.0, "d1.example", "MX", Answer(("10 o1.mx.example.",), 60.0))]
    made.lookups.append(Looked("gw1", 2.0, "d2.example", "MX", NoAnswer.TEMPORARY))
    made.crashes = [Crash("o1", 0, 300.0, 360.0)]
    made.copies = [Copy("m1", "u1@corp.example", "in1", 100.85, made.messages["m1"].digest, ("aaaa",))]
    made.attempts = [Attempt("m1", 0, GATEWAY, 100.0, 101.0, "dot", "250 2.0.0 Taken", "delivered")]
    made.settled = [Settled("m1", 0, 101.0, "delivered", "250 2.0.0 Taken")]
    made.ended = 400.0
    return made


FINDING = Finding("unknown_is_told_and_logged", "the log has no unknown", 111.0, session=2)


def told(history: History, *findings: Finding, name: str = "", message: str = "") -> list[str]:
    return [click.unstyle(line) for line in trace.tell(history, findings, name=name, message=message)]


def heads(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("── ")]


FIRST, SECOND = "── aaaa at gw1, from 100.000: m1 ──", "── bbbb at gw1, from 110.000: m2 ──"

# Trace


def test_a_story_has_both_sides_in_order_of_time(history: History) -> None:
    assert told(history, name="aaaa") == [
        FIRST,
        "  black hole: isp-b, from 50.000 to 105.000",
        "    100.000            osend1 → gw1 #1   connects from 203.0.113.11:1025 to 192.0.2.1:25",
        "    100.050            osend1 → gw1 #1   is open",
        "    100.050    +0.025  osend1 ← gw1 #1   220 gw1.site.example",
        "    100.100    +0.025  osend1 → gw1 #1   EHLO osend1.example",
        "    100.125    +0.025  osend1 ← gw1 #1   250-gw1.site.example / 250 PIPELINING",
        "    100.200    +0.025  osend1 → gw1 #1   MAIL FROM:<m1@osend1.example>",
        "    100.225    +0.025  osend1 ← gw1 #1   250 2.1.0 Sender",
        "    100.300    +0.025  osend1 → gw1 #1   RCPT TO:<u1@corp.example>",
        "    100.300                gw1 → in1 #2  connects from 10.0.0.1:4002 to 10.1.0.1:25",
        "    100.310                gw1 → in1 #2  is open",
        "    100.320    +0.025      gw1 ← in1 #2  220 in1.corp.example",
        "    100.325    +0.025  osend1 ← gw1 #1   250 2.1.5 Recipient",
        "    100.350                gw1 → in2 #3  (a path without MAIL, from 10.0.0.1:4003 to 10.1.0.1:25: "
        "failed: refused, until 100.350)",
        "    100.400    +0.025  osend1 → gw1 #1   DATA",
        "    100.400    +0.025      gw1 → in1 #2  MAIL FROM:<m1@osend1.example>",
        "    100.425    +0.025  osend1 ← gw1 #1   354 Go ahead",
        "    100.425    +0.025      gw1 ← in1 #2  250 2.1.0 Sender",
        "    100.500    +0.025  osend1 → gw1 #1   (444 octets, and the dot)",
        "    100.500    +0.025      gw1 → in1 #2  RCPT TO:<u1@corp.example>",
        "    100.525    +0.025      gw1 ← in1 #2  250 2.1.5 Recipient",
        "    100.600    +0.025      gw1 → in1 #2  DATA",
        "    100.625    +0.025      gw1 ← in1 #2  354 Go ahead",
        "    100.700            gw1 log           committing to=u1@corp.example",
        "    100.700    +0.025      gw1 → in1 #2  (508 octets, and the dot)",
        "    100.800            gw1 log           path_down path=in2",
        "    100.850            in1               puts m1 into the mailbox of u1@corp.example",
        "    100.900    +0.025      gw1 ← in1 #2  250 2.0.0 in1 has it",
        "    101.000    +0.025  osend1 ← gw1 #1   250 2.0.0 Taken",
        "    101.000            gw1 log           delivered",
        "    101.000            osend1            has m1 [0] delivered at dot: 250 2.0.0 Taken",
        "    102.000            osend1 → gw1 #1   closed",
        "    110.400                gw1 → in1 #2  (a transaction of another session, until 110.800)",
        "    110.800                gw1 → in1 #2  is broken",
        "    110.800            FAULT             reset strikes session 2 in phase after the dot",
        "",
    ]


NO_ID = "── unknown to the gateway at gw1, from 200.000: no message ──"


@pytest.mark.parametrize(
    ("finding", "order"),
    [
        (None, [FIRST, SECOND, NO_ID]),
        (Finding("p", "its client", 111.0, session=4), [SECOND, FIRST, NO_ID]),
        (Finding("p", "a kept session, in the second story", 111.0, session=2), [SECOND, FIRST, NO_ID]),
        (Finding("p", "a path that failed", 101.0, session=3), [FIRST, SECOND, NO_ID]),
        (Finding("p", "m2 [0] is late", 9999.0), [SECOND, FIRST, NO_ID]),
        (Finding("p", "something is left", 400.0), [FIRST, SECOND, NO_ID]),
    ],
)
def test_the_stories_of_findings_come_first(history: History, finding: Finding | None, order: list[str]) -> None:
    history.sessions.append(Session(5, "osend1", 0, SENDER, "gw1", 0, GATEWAY, 200.0, error="timed out"))

    lines = told(history, *([] if finding is None else [finding]))

    assert heads(lines) == order
    assert sum(line.startswith("  p: ") for line in lines) == (finding is not None and "left" not in finding.what)


def test_a_transaction_whose_message_did_not_come_is_known_by_its_reverse_path(history: History) -> None:
    history.sessions[1].transactions[1].content = b""

    assert "(508 octets, and the dot)" in "".join(told(history, name="bbbb"))


@pytest.mark.parametrize(
    ("time", "name", "owner"),
    [
        (100.4, "", "aaaa"),  # between the two MAILs
        (110.4, "", "cccc"),
        (110.4, "aaaa", "aaaa"),  # the first session is slow, and has its id in the message
    ],
)
def test_of_two_sessions_for_one_message_the_id_tells_and_else_the_time(
    history: History, time: float, name: str, owner: str
) -> None:
    """The second one is from a sender that has crashed meanwhile, and begins anew."""
    first, upstream, *_ = history.sessions
    again = client(6, "osend1", LATE, 105.0, "m1", "250 2.0.0 Taken")
    upstream.transactions.clear()
    made = transaction(upstream, time, "m1", None, name)
    if not name:
        made.content = b""
    history.sessions = [first, upstream, again]
    history.log = [
        logged(100.05, "connected", "aaaa", client=SENDER),
        logged(105.05, "connected", "cccc", client=LATE),
    ]

    owners = [story.id for story in Stories(history).all if story.upstream]

    assert owners == [owner]


def test_a_message_and_the_sessions_that_sent_it(history: History) -> None:
    lines = told(history, message="m1")

    assert lines[:3] == [
        "══ m1: 444 octets from <m1@osend1.example>, inbound, given to osend1 at 99.000 ══",
        "  [0] u1@corp.example: delivered at 101.000, 1 attempts: 250 2.0.0 Taken",
        "      copy at in1 at 100.850, through aaaa",
    ]
    assert heads(lines) == [FIRST]


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("m2", ["  [0] u1@corp.example: not settled, 0 attempts"]),
        ("m3", ["There is no message m3 in this run."]),
    ],
)
def test_what_is_not_there_is_told(history: History, message: str, lines: list[str]) -> None:
    assert set(lines) <= set(told(history, message=message))


def test_octets_that_were_lost_are_marked(history: History) -> None:
    history.sessions[0].transactions[0].outcomes[0].arrived = None

    assert "    101.000      lost  osend1 ← gw1 #1   250 2.0.0 Taken" in told(history, name="aaaa")


def test_what_strangers_say_speaks_to_no_terminal(history: History) -> None:
    history.sessions[0].commands[0].line = "EHLO \x1b[2J"

    assert any("EHLO \\u001b[2J" in line for line in told(history, name="aaaa"))


# Event log


def test_it_is_in_order_of_time(history: History) -> None:
    times = [float(line.partition(" ")[0]) for line in list(event_log.lines(history))[1:-1]]

    assert times == sorted(times)


def test_it_has_all_that_happened(history: History) -> None:
    lines = list(event_log.lines(history))

    for line in (
        "seed=17 gateways='gw1, gw2'",
        "1.0 look-up by gw1 of 'd1.example' MX: '10 o1.mx.example.' ttl=60.0",
        "2.0 look-up by gw1 of 'd2.example' MX: temporary failure",
        "50.0 fault black hole of 'isp-b' until 105.0",
        "100.7 log gw1/0 event='committing' id='aaaa' log_level='info' to='u1@corp.example'",
        "101.0 session 1 outcome 250 '250 2.0.0 Taken' written=101.0 arrived=101.025",
        "101.0 attempt of m1 0 at 192.0.2.1:25 began=100.0 delivered at dot: '250 2.0.0 Taken'",
        "101.0 settled m1 0 delivered: '250 2.0.0 Taken'",
        "102.0 session 1 client closed",
        "110.8 hit reset in after the dot of upstream session 2",
        "110.8 session 2 broken",
        "300.0 crash o1/0 until 360.0",
        "calm=0.0 ended=400.0",
    ):
        assert line in lines


CHANGES: dict[str, Callable[[History], object]] = {
    "a command": lambda run: setattr(run.sessions[0].commands[0], "line", "HELO osend1.example"),
    "when it arrived": lambda run: setattr(run.sessions[0].commands[0], "arrived", 100.1250001),
    "a reply": lambda run: setattr(run.sessions[0].commands[0].reply, "text", "250 other"),
    "a reply that came": lambda run: setattr(run.sessions[0].commands[0].reply, "arrived", None),
    "a greeting": lambda run: setattr(run.sessions[0].greeting, "code", 421),
    "an outcome": lambda run: run.sessions[0].transactions[0].outcomes.clear(),
    "an unasked reply": lambda run: run.sessions[0].unasked.append(said(101.0, "421 bye")),
    "the dot": lambda run: setattr(run.sessions[0].transactions[0], "dot_arrived", None),
    "the message": lambda run: setattr(run.sessions[0].transactions[0], "digest", "0"),
    "its length": lambda run: setattr(run.sessions[0].transactions[0], "octets", 3),
    "an end": lambda run: setattr(run.sessions[0], "client_end", (102.0, End.RESET)),
    "a phase": lambda run: setattr(run.sessions[0], "phase", Phase.OVER),
    "an error": lambda run: setattr(run.sessions[2], "error", "timed out"),
    "what was done to a session": lambda run: run.sessions[0].faults.append(Kind.RESET),
    "a copy": lambda run: run.copies.clear(),
    "a log line": lambda run: run.log.pop(),
    "the order of log lines": lambda run: run.log.reverse(),
    "a violation": lambda run: run.violations.append("gw1: MAIL before EHLO"),
    "what is left": lambda run: run.left.append("gw1: a task"),
    "the end": lambda run: setattr(run, "ended", 401.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_hash_is_of_all_of_it(history: History, change: Callable[[History], object]) -> None:
    for line in history.log:
        object.__setattr__(line, "time", 100.0)  # so that only their order tells them apart
    before = event_log.digest(history)
    assert event_log.digest(history) == before

    change(history)

    assert event_log.digest(history) != before


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("m1", "m1"),
        (b"m\xff", "m\\xff"),
        (0.1 + 0.2, "0.30000000000000004"),
        (3, "3"),
        (None, "None"),
        (Colour.RED, "red"),
        (["a", Colour.RED], "a, red"),
        (set("hgfedcba"), "a, b, c, d, e, f, g, h"),
        ({"b": 1, "a": {2, 1}}, "a: 1, 2, b: 1"),
        (SENDER, "203.0.113.11:1025"),
        (object(), "<object object>"),
    ],
)
def test_any_value_is_the_same_text_in_every_process(value: object, text: str) -> None:
    assert event_log.plain(value) == text
