"""What a failure is about, and what becomes of a recipient: tables."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from mailgate.network import Address, NoSuchSource, TcpAddress
from mailgate.protocol.reply import Reply, reply
from mailgate.relay.outcome import (
    LOOKUP_FAILED,
    NO_PATH,
    NO_SMTPUTF8,
    OUT_OF_RESOURCES,
    OUTCOME_UNKNOWN,
    SESSION_LOST,
    UNKNOWN,
    Failure,
    Kind,
    Outcome,
    Scope,
    Stage,
    data_refusal,
    failure,
    lacks_smtputf8,
    lookup_failure,
    ours,
    outcome,
    prdr_outcomes,
    refuses_accepted,
    told,
    undelivered,
)
from mailgate.relay.paths import connect
from mailgate.relay.routing import Path
from mailgate.relay.settings import Backbone
from mailgate.session.client import Lost, Patience
from mailgate.testing import MemoryNetwork

S250 = reply(250, "2.0.0", "taken")
S421 = reply(421, "4.3.2", "closing")
S450 = reply(450, "4.2.0", "later")
S451 = reply(451, "4.3.0", "busy")
S550 = reply(550, "5.1.1", "no")
S554 = reply(554, "5.3.0", "never")
POLICY = reply(550, "5.7.26", "not you")
GONE = Lost("connection closed")

# A failure: its scope, whether another path may do better, and what the client hears if none does

FAILURES: list[tuple[Stage, Reply | Lost, Scope, bool, Reply]] = [
    # while we hold no other session with that host
    (Stage.CONNECT, GONE, Scope.PATH, True, NO_PATH),
    (Stage.GREETING, GONE, Scope.PATH, True, NO_PATH),
    (Stage.GREETING, S421, Scope.PATH, True, NO_PATH),
    (Stage.GREETING, S450, Scope.PATH, True, NO_PATH),
    (Stage.GREETING, S554, Scope.PATH, True, NO_PATH),
    (Stage.HELLO, GONE, Scope.PATH, True, NO_PATH),
    (Stage.HELLO, S421, Scope.PATH, True, NO_PATH),
    (Stage.HELLO, S450, Scope.PATH, True, NO_PATH),
    (Stage.HELLO, S550, Scope.PATH, True, NO_PATH),
    (Stage.MAIL, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.MAIL, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.MAIL, S450, Scope.MESSAGE, True, S450),
    (Stage.MAIL, S550, Scope.MESSAGE, False, S550),
    (Stage.MAIL, POLICY, Scope.US, True, POLICY),
    (Stage.MAIL, reply(554, "5.7.1", "no"), Scope.US, True, reply(554, "5.7.1", "no")),
    (Stage.MAIL, reply(550, "4.7.1", "no"), Scope.US, True, reply(550, "5.7.1", "no")),
    (Stage.MAIL, reply(450, "4.7.1", "grey"), Scope.MESSAGE, True, reply(450, "4.7.1", "grey")),
    (Stage.MAIL, reply(553, "5.1.7", "sender"), Scope.MESSAGE, False, reply(553, "5.1.7", "sender")),
    (Stage.MAIL, reply(550, "", "no"), Scope.MESSAGE, False, reply(550, "5.0.0", "no")),
    (Stage.RCPT, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.RCPT, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.DATA, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.DATA, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.DATA, S451, Scope.MESSAGE, False, S451),
    (Stage.DATA, S554, Scope.MESSAGE, False, S554),
    (Stage.DATA, POLICY, Scope.MESSAGE, False, POLICY),
    (Stage.CONTENT, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.CONTENT, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.CONTENT, S451, Scope.MESSAGE, False, S451),
    (Stage.CONTENT, S554, Scope.MESSAGE, False, S554),
]


@pytest.mark.parametrize(
    ("stage", "result", "scope", "elsewhere", "client"),
    FAILURES,
    ids=[f"{stage.value} {result.why if isinstance(result, Lost) else result}" for stage, result, *_ in FAILURES],
)
def test_failure(stage: Stage, result: Reply | Lost, scope: Scope, elsewhere: bool, client: Reply) -> None:
    why = result.why if isinstance(result, Lost) else str(result)
    assert failure(stage, result) == Failure(stage, scope, elsewhere, why, client)


# The same while we hold other sessions with that host: one that wants no more of them at a time is not down

FULL = {(stage, result) for stage in (Stage.GREETING, Stage.HELLO) for result in (S421, S450)}


@pytest.mark.parametrize(
    ("stage", "result", "scope"),
    [(stage, result, Scope.FULL if (stage, result) in FULL else scope) for stage, result, scope, *_ in FAILURES],
    ids=[f"{stage.value} {result.why if isinstance(result, Lost) else result}" for stage, result, *_ in FAILURES],
)
def test_failure_beside_other_sessions(stage: Stage, result: Reply | Lost, scope: Scope) -> None:
    alone, beside = failure(stage, result), failure(stage, result, others=1)
    assert beside == dataclasses.replace(alone, scope=scope)


# What the system says at connect

CONNECTS: dict[str, tuple[OSError, Scope, Reply]] = {
    "refused": (OSError(errno.ECONNREFUSED, "x"), Scope.PATH, NO_PATH),
    "unreachable": (OSError(errno.EHOSTUNREACH, "x"), Scope.PATH, NO_PATH),
    "no way for this family": (OSError(errno.ENETUNREACH, "x"), Scope.PATH, NO_PATH),
    "timed out": (OSError(errno.ETIMEDOUT, "x"), Scope.PATH, NO_PATH),
    "bind: no such source": (NoSuchSource(errno.EADDRNOTAVAIL, "x"), Scope.BACKBONE, NO_PATH),
    "connect: no port left": (OSError(errno.EADDRNOTAVAIL, "x"), Scope.OWN, OUT_OF_RESOURCES),
    "source address in use": (OSError(errno.EADDRINUSE, "x"), Scope.OWN, OUT_OF_RESOURCES),
    "no descriptors": (OSError(errno.EMFILE, "x"), Scope.OWN, OUT_OF_RESOURCES),
    "no descriptors in all": (OSError(errno.ENFILE, "x"), Scope.OWN, OUT_OF_RESOURCES),
    "no buffers": (OSError(errno.ENOBUFS, "x"), Scope.OWN, OUT_OF_RESOURCES),
    "no memory": (OSError(errno.ENOMEM, "x"), Scope.OWN, OUT_OF_RESOURCES),
}


@pytest.mark.parametrize(("error", "scope", "client"), CONNECTS.values(), ids=CONNECTS.keys())
async def test_connect_fails(error: OSError, scope: Scope, client: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(network: MemoryNetwork, address: Address, source: str | None = None) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(MemoryNetwork, "connect", fails)
    path = Path(TcpAddress("192.0.2.1", 25), Backbone(name="one", sources=("10.0.0.1",), helo="gw"))
    async with trio.open_nursery() as nursery:
        found = await connect(MemoryNetwork(nursery), path, Patience(5))
    assert isinstance(found, Failure)
    assert (found.stage, found.scope, found.elsewhere, found.reply) == (Stage.CONNECT, scope, True, client)


async def test_connect_without_an_answer(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        path = Path(TcpAddress("192.0.2.1", 25))
        network.black_hole(path.address)
        found = await connect(network, path, Patience(5))
    assert found == Failure(Stage.CONNECT, Scope.PATH, True, "no connection in time", NO_PATH)
    assert trio.current_time() == pytest.approx(5)


def test_failures_of_our_own_finding() -> None:
    assert lookup_failure("mx: no such domain") == Failure(
        Stage.LOOKUP, Scope.LOOKUP, True, "mx: no such domain", LOOKUP_FAILED
    )
    assert (lacks_smtputf8().elsewhere, lacks_smtputf8().reply) == (True, NO_SMTPUTF8)
    assert (refuses_accepted(S550).elsewhere, refuses_accepted(S550).reply) == (True, SESSION_LOST)
    assert refuses_accepted(S550).why == "refuses a recipient that was accepted before: 550 5.1.1 no"


# Of several failures, the one that is told

LOOKUP = lookup_failure("x")
PATH = failure(Stage.CONNECT, GONE)
SESSION = failure(Stage.RCPT, GONE)
MAIL_450 = failure(Stage.MAIL, S450)
MAIL_451 = failure(Stage.MAIL, S451)
MAIL_550 = failure(Stage.MAIL, S550)
UTF8 = lacks_smtputf8()
BACKBONE = ours(Stage.CONNECT, Scope.BACKBONE, "x")
OWN = ours(Stage.CONNECT, Scope.OWN, "x")
FULL_HOST = ours(Stage.GREETING, Scope.FULL, "x")
US = failure(Stage.MAIL, POLICY)
UNWELCOME = dataclasses.replace(US, elsewhere=False)
DATA_451 = failure(Stage.DATA, S451)
DATA_554 = failure(Stage.DATA, S554)

TOLD: dict[str, tuple[Sequence[Failure], Reply]] = {
    "none": ([], NO_PATH),
    "look-up": ([LOOKUP], LOOKUP_FAILED),
    "path": ([PATH], NO_PATH),
    "look-up and path": ([LOOKUP, PATH, LOOKUP], NO_PATH),
    "session and path": ([SESSION, PATH], SESSION_LOST),
    "path and session": ([PATH, SESSION], SESSION_LOST),
    "MAIL 4xx and session": ([MAIL_450, SESSION], S450),
    "two 4xx": ([MAIL_450, MAIL_451], S450),
    "refusal at the end": ([PATH, MAIL_550], S550),
    "refusal behind a 4xx": ([MAIL_450, MAIL_550], S550),
    "DATA 4xx": ([SESSION, DATA_451], S451),
    "DATA 5xx": ([SESSION, DATA_554], S554),
    "no SMTPUTF8 anywhere": ([UTF8, UTF8], NO_SMTPUTF8),
    "no SMTPUTF8 here, no path there": ([UTF8, PATH], NO_PATH),
    "no path here, no SMTPUTF8 there": ([PATH, UTF8], NO_PATH),
    "no SMTPUTF8 here, 4xx there": ([UTF8, MAIL_450], S450),
    "look-up and backbone": ([LOOKUP, BACKBONE], NO_PATH),
    "backbone and our own lack": ([BACKBONE, OWN], OUT_OF_RESOURCES),
    "our own lack and path": ([OWN, PATH], NO_PATH),
    "our own lack and a full host": ([OWN, FULL_HOST], NO_PATH),
    "full host and session": ([FULL_HOST, SESSION], SESSION_LOST),
    "full host and 4xx": ([FULL_HOST, MAIL_450], S450),
    "unwelcome here, no path there": ([US, PATH], NO_PATH),
    "unwelcome here, 4xx there": ([US, MAIL_450], S450),
    "unwelcome here, no SMTPUTF8 there": ([US, UTF8], POLICY),
    "unwelcome on every backbone": ([US, US, UNWELCOME], POLICY),
    "unwelcome on every backbone, behind a path that failed": ([PATH, US, UNWELCOME], POLICY),
}


@pytest.mark.parametrize(("failures", "client"), TOLD.values(), ids=TOLD.keys())
def test_told(failures: Sequence[Failure], client: Reply) -> None:
    assert told(failures) == client


ALL = [LOOKUP, BACKBONE, OWN, PATH, FULL_HOST, SESSION, MAIL_450, MAIL_451, UTF8, US]


@given(st.lists(st.sampled_from(ALL), min_size=1))
def test_what_may_pass_is_never_told_as_what_may_not(failures: list[Failure]) -> None:
    temporary = any(one.reply.kind == 4 for one in failures)
    assert told(failures).kind == (4 if temporary else 5)


# Outcomes

OUTCOMES: dict[str, tuple[Reply, Outcome]] = {
    "2xx": (reply(250, "2.6.0", "ok"), Outcome(Kind.DELIVERED, reply(250, "2.6.0", "ok"))),
    "2xx without an enhanced code": (reply(250, "", "ok"), Outcome(Kind.DELIVERED, reply(250, "2.0.0", "ok"))),
    "4xx": (S450, Outcome(Kind.DEFERRED, S450)),
    "421": (S421, Outcome(Kind.DEFERRED, reply(451, "4.3.2", "closing"))),
    "4xx with a class of 5": (reply(450, "5.2.0", "no"), Outcome(Kind.DEFERRED, reply(450, "4.2.0", "no"))),
    "5xx": (S550, Outcome(Kind.REJECTED, S550)),
    "5xx with a class of 4": (reply(550, "4.2.0", "no"), Outcome(Kind.REJECTED, reply(550, "5.2.0", "no"))),
}


@pytest.mark.parametrize(("theirs", "wanted"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_outcome(theirs: Reply, wanted: Outcome) -> None:
    assert outcome(theirs) == wanted


def test_undelivered() -> None:
    assert undelivered(SESSION_LOST) == Outcome(Kind.DEFERRED, SESSION_LOST)
    assert undelivered(S554) == Outcome(Kind.REJECTED, S554)


def test_unknown_is_temporary() -> None:
    assert UNKNOWN.kind is Kind.UNKNOWN
    assert str(OUTCOME_UNKNOWN).startswith("451 4.4.2 ")


PRDR: dict[str, tuple[Sequence[Reply], Reply, Sequence[Reply]]] = {
    "all": ([S250, S250], S250, [S250, S250]),
    "mixed": ([S250, S550, S450], S250, [S250, S550, S450]),
    "none": ([S550, S450], S451, [S550, S450]),
    "taken back, for now": ([S250, S550], S451, [S451, S550]),
    "taken back, for good": ([S250, S450], S554, [S554, S450]),
    "taken back with 421": ([S250], S421, [reply(451, "4.3.2", "closing")]),
    "one that closes": ([S421, S250], S250, [reply(451, "4.3.2", "closing"), S250]),
    "positive for nobody": ([S550], S250, [S550]),
}


@pytest.mark.parametrize(("replies", "final", "wanted"), PRDR.values(), ids=PRDR.keys())
def test_prdr(replies: Sequence[Reply], final: Reply, wanted: Sequence[Reply]) -> None:
    assert [one.reply for one in prdr_outcomes(replies, final)] == wanted


# One reply for several recipients

MIXED_DATA = reply(451, "4.3.0", "No next hop takes the message now, try later or elsewhere")

REFUSALS: dict[str, tuple[Sequence[Reply], Reply]] = {
    "one": ([S450], S450),
    "the same": ([S451, S451], S451),
    "4xx": ([S450, S451], MIXED_DATA),
    "4xx and 5xx": ([S450, S550], MIXED_DATA),
    "5xx and 4xx": ([S550, S450], MIXED_DATA),
    "5xx": ([S554, S550], S554),
}


@pytest.mark.parametrize(("replies", "wanted"), REFUSALS.values(), ids=REFUSALS.keys())
def test_data_refusal(replies: Sequence[Reply], wanted: Reply) -> None:
    assert data_refusal([undelivered(one) for one in replies]) == wanted
