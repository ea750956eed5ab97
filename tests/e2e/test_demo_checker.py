"""The demo's checker against fabricated histories: each promise broken once."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mailgate.demo.checker import Promise, check
from mailgate.demo.history import Arrival, Caller, Duplicate, History, Recipient, Sent, Try, Uplink, callers
from mailgate.demo.serving import arrived
from mailgate.demo.world import LOOPBACK, Server, ServerHost
from mailgate.testing import Delivered, Line, Stage, State, Transcript

EVA, BOB = "eva@a.example", "bob@b.example"
SENDER = "ann@home.example"
HOMES = {"a.example": "mx-a", "b.example": "mx-b"}
UPLINKS = tuple(
    Uplink(gateway, f"isp-{isp}", Caller(f"127.0.{net}.{host}", f"{gateway}-isp-{isp}.home.example"))
    for gateway, host in (("gw1", 11), ("gw2", 12))
    for isp, net in (("a", 1), ("b", 2))
)
CALLERS = {(uplink.gateway, uplink.backbone): uplink.caller for uplink in UPLINKS}
CONTENT = b"Subject: x\r\nMessage-ID: <1@demo.example>\r\n\r\n.one\r\ntwo\r\n"


def tried(gateway: str, stage: Stage, text: str, state: State, seconds: float = 0.1) -> Try:
    return Try(gateway, stage, text, state, seconds)


def takes(gateway: str) -> Try:
    return tried(gateway, Stage.DOT, "250 2.0.0 ok", State.DELIVERED)


def defers(gateway: str, stage: Stage = Stage.RCPT) -> Try:
    return tried(gateway, stage, "451 4.4.2 later", State.DEFERRED)


def refuses(gateway: str) -> Try:
    return tried(gateway, Stage.DOT, "550 5.7.1 no", State.REFUSED)


def breaks_off(gateway: str) -> Try:
    return tried(gateway, Stage.DOT, "connection lost", State.DEFERRED)


def received(gateway: str) -> bytes:
    line = f"Received: from inside.example ([127.0.0.21])\r\n\tby {gateway}.home.example with LMTP id 1;\r\n\tnow\r\n"
    return line.encode()


def arrival(
    server: str,
    gateway: str,
    recipient: str,
    reply: str = "250 2.0.0 taken",
    content: bytes = CONTENT,
    sender: str = SENDER,
    caller: Caller | None = None,
) -> Arrival:
    whole = received(gateway) + content if gateway else content
    message = Delivered(sender, (), (recipient,), (reply,), whole, len(whole), "", 0)
    return Arrival(server, message, caller or CALLERS.get((gateway, "isp-a"), Caller("", "")))


def history(
    eva: tuple[Try, ...],
    bob: tuple[Try, ...],
    *arrivals: Arrival,
    announced: tuple[Duplicate, ...] = (),
) -> History:
    sent = Sent("1@demo.example", SENDER, CONTENT, (Recipient(EVA, eva), Recipient(BOB, bob)), announced)
    return with_uplinks((sent,), arrivals)


def with_uplinks(sent: tuple[Sent, ...], arrivals: tuple[Arrival, ...]) -> History:
    uplinks = dict.fromkeys(HOMES.values(), UPLINKS)
    return History(sent=sent, arrivals=arrivals, homes=HOMES, uplinks=uplinks, patience=5, recovery=10)


AT_A = arrival("mx-a", "gw1", EVA)
AT_B = arrival("mx-b", "gw1", BOB)
UNANSWERED = arrival("mx-b", "gw1", BOB, reply="")
ONE = (takes("gw1"),)
WELL = history(ONE, ONE, AT_A, AT_B)


def sent_with(one: History, within: float | None = None, mended: tuple[float, ...] = ()) -> History:
    (sent,) = one.sent
    return dataclasses.replace(one, sent=(dataclasses.replace(sent, within=within, mended=mended),))


KEPT = [
    pytest.param(WELL, id="all-well"),
    pytest.param(history(ONE, (defers("gw1"), takes("gw2")), AT_A, arrival("mx-b", "gw2", BOB)), id="failover"),
    pytest.param(
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, caller=CALLERS["gw1", "isp-b"]), AT_B), id="over-two-backbones"
    ),
    pytest.param(sent_with(WELL, within=0.1, mended=(0.5, 10)), id="just-in-time"),
    pytest.param(history(ONE, (defers("gw1"), defers("gw2")), AT_A), id="queued"),
    pytest.param(history(ONE, (refuses("gw1"),), AT_A, arrival("mx-b", "gw1", BOB, "550 no")), id="refused"),
    pytest.param(
        history(ONE, (defers("gw1", Stage.DOT),), AT_A, arrival("mx-b", "gw1", BOB, "451 no")), id="deferred-at-the-dot"
    ),
    pytest.param(
        history(
            ONE,
            (defers("gw1", Stage.DOT), takes("gw1")),
            AT_A,
            UNANSWERED,
            AT_B,
            announced=(Duplicate.UNKNOWN,),
        ),
        id="announced-unknown",
    ),
    pytest.param(history(ONE, (defers("gw1", Stage.DOT),), AT_A, UNANSWERED), id="unknown-and-not-tried-again"),
]


@pytest.mark.parametrize("kept", KEPT)
def test_kept(kept: History) -> None:
    findings = check(kept)
    assert findings.breaches == ()
    assert (findings.tally.lost, findings.tally.half) == (0, 0)


NO_UPLINK = "mx-a got mail for eva@a.example by gw1 as {as_}: no uplink of it"

BROKEN = [
    (
        "2xx-without-next-hop",
        history(ONE, ONE, AT_A),
        [(Promise.CONFIRMED, "gw1 said 2xx for bob@b.example, its next hop did not")],
    ),
    (
        "2xx-for-an-unknown-outcome",
        history(ONE, ONE, AT_A, UNANSWERED),
        [(Promise.CONFIRMED, "gw1 said 2xx for bob@b.example, its next hop did not")],
    ),
    (
        "2xx-for-a-refusal",
        history(ONE, ONE, AT_A, arrival("mx-b", "gw1", BOB, "550 no")),
        [(Promise.CONFIRMED, "gw1 said 2xx for bob@b.example, its next hop did not")],
    ),
    (
        "2xx-by-one-and-delivered-by-the-other",
        history(ONE, ONE, AT_A, arrival("mx-b", "gw2", BOB)),
        [(Promise.CONFIRMED, "gw1 said 2xx for bob@b.example, its next hop did not")],
    ),
    (
        "5xx-of-somebody-else",
        history((refuses("gw1"),), ONE, arrival("mx-a", "gw1", EVA, "451 no"), AT_B),
        [(Promise.OWN_REFUSAL, "gw1 said 5xx for eva@a.example, its next hop did not")],
    ),
    (
        "half",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, content=CONTENT[:-5]), AT_B),
        [(Promise.WHOLE, "mx-a got it with 5 bytes missing")],
    ),
    (
        "changed",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, content=CONTENT.replace(b".one", b"..one")), AT_B),
        [(Promise.WHOLE, "mx-a got it changed")],
    ),
    (
        "two-received-lines",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, content=received("gw1") + CONTENT), AT_B),
        [(Promise.WHOLE, "mx-a got it changed")],
    ),
    (
        "other-sender",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, sender=""), AT_B),
        [(Promise.WHOLE, "mx-a got it as from <>, sent as from <ann@home.example>")],
    ),
    (
        "nobody-sent-it",
        history(ONE, ONE, AT_A, AT_B, arrival("mx-b", "gw1", BOB, content=CONTENT.replace(b"<1@", b"<2@"))),
        [(Promise.WHOLE, "mx-b got a message that nobody sent")],
    ),
    (
        "twice",
        history(ONE, ONE, AT_A, AT_B, AT_B),
        [(Promise.ONCE, "bob@b.example has a copy too many, kind: unexplained")],
    ),
    (
        "tried-again-by-the-gateway-itself",
        history(ONE, ONE, AT_A, UNANSWERED, AT_B, announced=(Duplicate.UNKNOWN,)),
        [(Promise.ONCE, "bob@b.example has a copy too many, kind: unexplained")],
    ),
    (
        "451-after-a-250",
        history(ONE, (defers("gw1", Stage.DOT), takes("gw1")), AT_A, AT_B, AT_B, announced=(Duplicate.UNKNOWN,)),
        [(Promise.ONCE, "bob@b.example has a copy too many, kind: unexplained")],
    ),
    (
        "unknown-that-was-not-announced",
        history(ONE, (defers("gw1", Stage.DOT), takes("gw1")), AT_A, UNANSWERED, AT_B),
        [(Promise.ONCE, "bob@b.example has a copy too many, kind: unknown")],
    ),
    (
        "untold-that-was-not-announced",
        history(ONE, (breaks_off("gw1"), takes("gw1")), AT_A, AT_B, AT_B),
        [(Promise.ONCE, "bob@b.example has a copy too many, kind: untold")],
    ),
    (
        "wrong-server",
        history(ONE, ONE, AT_A, arrival("mx-a", "gw1", BOB)),
        [(Promise.PLACE, "mx-a got mail for bob@b.example")],
    ),
    (
        "no-recipient-of-it",
        history(ONE, ONE, AT_A, AT_B, arrival("mx-a", "gw1", "ivy@a.example")),
        [(Promise.PLACE, "ivy@a.example got it, and was no recipient of it")],
    ),
    (
        "over-nobodys-address",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, caller=Caller("127.0.0.11", "gw1-isp-a.home.example")), AT_B),
        [(Promise.BACKBONE, NO_UPLINK.format(as_="gw1-isp-a.home.example from 127.0.0.11"))],
    ),
    (
        "with-the-other-backbones-name",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, caller=Caller("127.0.2.11", "gw1-isp-a.home.example")), AT_B),
        [(Promise.BACKBONE, NO_UPLINK.format(as_="gw1-isp-a.home.example from 127.0.2.11"))],
    ),
    (
        "over-the-other-gateways-backbone",
        history(ONE, ONE, arrival("mx-a", "gw1", EVA, caller=CALLERS["gw2", "isp-a"]), AT_B),
        [(Promise.BACKBONE, NO_UPLINK.format(as_="gw2-isp-a.home.example from 127.0.1.12"))],
    ),
    (
        "later-than-this-message-may",
        sent_with(history((dataclasses.replace(takes("gw1"), seconds=0.6),), ONE, AT_A, AT_B), within=0.5),
        [(Promise.IN_TIME, "gw1 answered for eva@a.example after 0.6 s, not 0.5")],
    ),
    (
        "not-found-out",
        sent_with(WELL, mended=(0.5, math.inf)),
        [(Promise.FOUND_OUT, "10 s after all was mended a gateway had not found out")],
    ),
    (
        "too-late",
        history(ONE, (dataclasses.replace(takes("gw1"), seconds=5.5),), AT_A, AT_B),
        [(Promise.IN_TIME, "gw1 answered for bob@b.example after 5.5 s, not 5")],
    ),
    (
        "protocol",
        dataclasses.replace(WELL, faults=("mx-a saw it",)),
        [(Promise.SOUND, "mx-a saw it")],
    ),
    (
        "left",
        dataclasses.replace(WELL, left=("a socket",)),
        [(Promise.NOTHING_LEFT, "a socket")],
    ),
]


@pytest.mark.parametrize(("broken", "expected"), [pytest.param(*row, id=name) for name, *row in BROKEN])
def test_broken(broken: History, expected: list[tuple[Promise, str]]) -> None:
    assert [(breach.promise, breach.how) for breach in check(broken).breaches] == expected


def test_every_promise_is_broken_once() -> None:
    assert {promise for _, _, breaches in BROKEN for promise, _ in breaches} == {*Promise}


def test_without_a_received_line_nobody_is_known_to_have_brought_it() -> None:
    findings = check(history(ONE, ONE, arrival("mx-a", "", EVA), AT_B))
    assert [(breach.promise, breach.how) for breach in findings.breaches] == [
        (Promise.CONFIRMED, "gw1 said 2xx for eva@a.example, its next hop did not"),
        (Promise.WHOLE, "mx-a got it without a Received line of a gateway"),
    ]


def test_the_same_address_twice_wants_two_copies() -> None:
    sent = Sent("1@demo.example", SENDER, CONTENT, (Recipient(EVA, ONE), Recipient(EVA, ONE)))
    message = dataclasses.replace(AT_A.message, recipients=(EVA, EVA), replies=("250 ok", "250 ok"))
    assert check(with_uplinks((sent,), (dataclasses.replace(AT_A, message=message),))).breaches == ()
    (breach,) = check(with_uplinks((sent,), (AT_A,))).breaches
    assert breach.promise is Promise.CONFIRMED


def test_the_numbers() -> None:
    tally = check(
        history(
            (defers("gw1", Stage.DOT), takes("gw1"), takes("gw1")),
            (defers("gw1"), defers("gw2")),
            arrival("mx-a", "gw1", EVA, reply=""),
            arrival("mx-a", "gw1", EVA, content=CONTENT[:-5]),
        )
    ).tally
    assert (tally.messages, tally.recipients, tally.delivered, tally.refused) == (1, 2, 1, 0)
    assert (tally.deferred_first, tally.queued, tally.lost, tally.half) == (1, 1, 0, 1)
    assert tally.duplicates == (Duplicate.UNKNOWN,)


def test_lost_is_what_was_believed_and_is_nowhere() -> None:
    assert check(history(ONE, ONE, AT_A)).tally.lost == 1


def test_what_a_stranger_wrote_does_not_reach_the_terminal() -> None:
    host = ServerHost(Server.MX_A, LOOPBACK)
    message = Delivered("\x1b[2J@x", (), (EVA, "\u202e@a.example"), ("250", "250"), b"", 7, "", 0)
    line = arrived(host, message).split("  ", 1)[1]
    assert line == f"mx-a took 7 bytes by nobody known from <\\u001b[2J@x> for {EVA}, \\u202e@a.example"


def test_who_brought_a_message_is_who_spoke_the_newest_dot() -> None:
    def dialog(*lines: tuple[float, str, str]) -> Transcript:
        return Transcript("mx-a", [Line(*line) for line in lines])

    first = dialog((1, "C", "EHLO one"), (5, "C", "[7 bytes with the dot]"), (9, "C", "[7 bytes with the dot]"))
    other = dialog((2, "C", "HELO two"), (7, "C", "[7 bytes with the dot]"), (8, "C", "[7 bytes without a dot]"))
    mute = dialog((3, "--", "connection from nobody"))
    brought = callers(["127.0.1.11", "127.0.2.11", "127.0.3.11"], [first, other, mute])
    one, two = Caller("127.0.1.11", "one"), Caller("127.0.2.11", "two")
    assert [brought(time) for time in (5, 7.5, 8.5, 9)] == [one, two, two, one]
