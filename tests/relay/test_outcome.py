"""What a failure is about, and what becomes of a recipient: tables."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailgate.protocol.reply import Reply, reply
from mailgate.relay.outcome import (
    LOOKUP_FAILED,
    NO_PATH,
    NO_SMTPUTF8,
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
    outcome,
    prdr_outcomes,
    refuses_accepted,
    single_reply,
    told,
    undelivered,
)
from mailgate.session.client import Lost

S250 = reply(250, "2.0.0", "taken")
S421 = reply(421, "4.3.2", "closing")
S450 = reply(450, "4.2.0", "later")
S451 = reply(451, "4.3.0", "busy")
S550 = reply(550, "5.1.1", "no")
S554 = reply(554, "5.7.1", "never")
GONE = Lost("connection closed")

# A failure: its scope, whether another path may do better, and what the client hears if none does

FAILURES: list[tuple[Stage, Reply | Lost, Scope, bool, Reply]] = [
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
    (Stage.RCPT, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.RCPT, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.DATA, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.DATA, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.DATA, S451, Scope.MESSAGE, False, S451),
    (Stage.DATA, S554, Scope.MESSAGE, False, S554),
    (Stage.CONTENT, GONE, Scope.SESSION, True, SESSION_LOST),
    (Stage.CONTENT, S421, Scope.SESSION, True, SESSION_LOST),
    (Stage.CONTENT, S451, Scope.MESSAGE, False, S451),
    (Stage.CONTENT, S554, Scope.MESSAGE, False, S554),
]


@pytest.mark.parametrize(
    ("stage", "result", "scope", "elsewhere", "client"),
    FAILURES,
    ids=[f"{stage.value} {'lost' if isinstance(result, Lost) else result.code}" for stage, result, *_ in FAILURES],
)
def test_failure(stage: Stage, result: Reply | Lost, scope: Scope, elsewhere: bool, client: Reply) -> None:
    why = result.why if isinstance(result, Lost) else str(result)
    assert failure(stage, result) == Failure(stage, scope, elsewhere, why, client)


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
}


@pytest.mark.parametrize(("failures", "client"), TOLD.values(), ids=TOLD.keys())
def test_told(failures: Sequence[Failure], client: Reply) -> None:
    assert told(failures) == client


@given(st.lists(st.sampled_from([LOOKUP, PATH, SESSION, MAIL_450, MAIL_451, UTF8]), min_size=1))
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
MIXED_DOT = reply(451, "4.3.0", "Not all recipients have the message, try again")

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


SINGLE: dict[str, tuple[Sequence[Reply], Reply]] = {
    "one": ([S250], S250),
    "all delivered": ([S250, S250], S250),
    "all refused": ([S554, S550], S554),
    "all deferred": ([S450, S451], S450),
    "delivered and refused": ([S250, S550], MIXED_DOT),
    "delivered and deferred": ([S250, S450], MIXED_DOT),
    "refused and deferred": ([S550, S450], MIXED_DOT),
}


@pytest.mark.parametrize(("replies", "wanted"), SINGLE.values(), ids=SINGLE.keys())
def test_single_reply(replies: Sequence[Reply], wanted: Reply) -> None:
    assert single_reply([outcome(one) for one in replies]) == wanted
