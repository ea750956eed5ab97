"""Which transactions are read from captures, with dialogs made up here."""

from __future__ import annotations

import time

import pytest

from lab.packets import (
    BEGUN,
    CLIENT,
    MAIL,
    SERVER,
    TRANSACTION,
    Connection,
    capture,
    only,
    split,
    whole,
    written,
)
from lab.wire import Asked, Attempt, Capture, read


def test_plain() -> None:
    assert capture(whole(MAIL)) == Capture((TRANSACTION,), (Attempt(1, CLIENT, SERVER, 25, "open"),), 0)


# Dialogs: what is said after BEGUN, and what is to be read.

LMTP = """
    S: 220 mx
    C: LHLO a
    S: 250 mx
    C: MAIL FROM:<a@a>
    C: RCPT TO:<b@b>
    C: RCPT TO:<c@c>
    C: RCPT TO:<b@b>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 550 no
    S: 250 ok
    S: 354 go
    C: text
    C: .
    C: QUIT
"""

DIALOGS: dict[str, tuple[str, dict[str, object]]] = {
    "no command after MAIL": (BEGUN, {"mail": 250, "recipients": (), "data": None, "octets": 0, "ended": 7}),
    "MAIL unanswered": (BEGUN.rpartition("S:")[0], {"mail": None, "ended": None}),
    "MAIL refused": (BEGUN.replace("250 ok", "451 no"), {"mail": 451, "ended": 7}),
    "the empty sender": (BEGUN.replace("ann@a.example", ""), {"sender": ""}),
    "small letters": (BEGUN.replace("MAIL FROM", "mail from"), {"sender": "ann@a.example"}),
    "no angle brackets": (BEGUN.replace("<ann@a.example>", " ann@a.example"), {"sender": "ann@a.example"}),
    "a probe refused": (
        BEGUN + "C: RCPT TO:<b@b>\n S: 550 no\n C: QUIT\n S: 221 bye",
        {"recipients": (Asked("b@b", 550),), "data": None, "octets": 0, "complete": False, "answers": (), "ended": 9},
    ),
    "RCPT unanswered": (BEGUN + "C: RCPT TO:<b@b>", {"recipients": (Asked("b@b", None),), "ended": None}),
    "a reply of several lines": (
        BEGUN + "C: RCPT TO:<b@b>\n S: 550-not\n S: 550-500 here\n S: 550 no\n C: RCPT TO:<c@c>\n S: 250 ok",
        {"recipients": (Asked("b@b", 550), Asked("c@c", 250))},
    ),
    "a reply without text": (BEGUN + "C: RCPT TO:<b@b>\n S: 250", {"recipients": (Asked("b@b", 250),)}),
    "a reply in pieces": (
        BEGUN + "C: RCPT TO:<b@b>\n S- 25\n C: RSET\n S: 0 ok",
        {"recipients": (Asked("b@b", 250),)},
    ),
    "pipelining": (
        BEGUN + "C: RCPT TO:<b@b>\n C: RCPT TO:<c@c>\n C: DATA\n S: 250 ok\n S: 451 no\n S: 354 go\n C: x\n C: .",
        {"recipients": (Asked("b@b", 250), Asked("c@c", 451)), "data": 354, "octets": 3, "complete": True},
    ),
    "other commands": (
        BEGUN
        + """
        C: XFORWARD NAME=x
        S: 250 ok
        C: NOOP
        C:
        C: WHATEVER
        S: 250 ok
        S: 500 what
        S: 500 what
        C: RCPT TO:<b@b>
        S: 251 ok
        """,
        {"recipients": (Asked("b@b", 251),)},
    ),
    "AUTH and XCLIENT first": (
        """
        S: 220 mx
        C: XCLIENT ADDR=192.0.2.1
        S: 220 mx
        C: EHLO a
        S: 250 mx
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: YW5u
        S: 334 UGFzc3dvcmQ6
        C: YW5u
        S: 235 ok
        C: MAIL FROM:<a@a>
        S: 250 ok
        """,
        {"mail": 250},
    ),
    "the client does not wait for the greeting": (
        "C: EHLO a\n C: MAIL FROM:<a@a>\n S: 220 mx\n S: 250 mx\n S: 451 no",
        {"mail": 451},
    ),
    "the client does not wait for 354": (
        BEGUN + "C: DATA\n C: x\n C: .\n S: 354 go\n S: 452 no",
        {"data": 354, "octets": 3, "complete": True, "answers": (452,)},
    ),
    "DATA refused": (
        BEGUN + "C: DATA\n S: 554 no\n C: QUIT\n S: 221 bye",
        {"data": 554, "octets": 0, "complete": False, "answers": (), "ended": 9},
    ),
    "DATA unanswered": (BEGUN + "C: DATA", {"data": None, "ended": None}),
    "nothing sent after 354": (BEGUN + "C: DATA\n S: 354 go", {"data": 354, "octets": 0, "ended": None}),
    "an empty body": (BEGUN + "C: DATA\n S: 354 go\n C: .\n S: 250 ok", {"octets": 0, "complete": True, "ended": 11}),
    "a body cut off": (
        BEGUN + "C: DATA\n S: 354 go\n C: X-Lab-Message: m\n C- abc",
        {"octets": 21, "complete": False, "message": "m", "ended": None},
    ),
    "a header cut off": (BEGUN + "C: DATA\n S: 354 go\n C- X-Lab-Message: m", {"octets": 16, "message": None}),
    "no header but in the text": (
        BEGUN + "C: DATA\n S: 354 go\n C: A: b\n C:\n C: X-Lab-Message: m\n C: .",
        {"message": None, "complete": True},
    ),
    "dots in the text": (
        BEGUN + "C: DATA\n S: 354 go\n C: ..\n C: a.\n C: .b\n C- .\n",
        {"octets": 4 + 4 + 4 + 1, "complete": False},
    ),
    "no answer after the dot": (BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .", {"answers": (), "ended": None}),
    "QUIT behind the dot": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .\n C: QUIT\n S: 451 no\n S: 221 bye",
        {"octets": 3, "answers": (451,), "ended": 11},
    ),
    "only the dot unanswered": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .\n C: QUIT\n S: 221 bye",
        {"complete": True, "answers": (), "ended": None},
    ),
    "LMTP": (
        LMTP + "S: 250 ok\n S: 452 no\n S: 221 bye",
        {
            "lmtp": True,
            "recipients": (Asked("b@b", 250), Asked("c@c", 550), Asked("b@b", 250)),
            "answers": (250, 452),
            "ended": 9,
        },
    ),
    "LMTP with an answer missing": (LMTP + "S: 250 ok", {"answers": (250,), "ended": None}),
    "LMTP with an answer missing before QUIT's": (LMTP + "S: 250 ok\n S: 221 bye", {"answers": (250,)}),
    "LMTP with too many answers": (LMTP + "S: 250 1\n S: 250 2\n S: 250 3\n S: 221 bye", {"answers": (250, 250)}),
    "LMTP after RSET": (
        "S: 220 mx\n C: LHLO a\n S: 250 mx\n C: RSET\n S: 250 ok\n C: MAIL FROM:<a@a>\n S: 250 ok",
        {"lmtp": True},
    ),
    "PRDR": (
        BEGUN
        + """
        C: RCPT TO:<b@b>
        C: RCPT TO:<c@c>
        C: RCPT TO:<d@d>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 no
        S: 354 go
        C: x
        C: .
        C: QUIT
        S: 353 now
        S: 250 b
        S: 550 c
        S: 250 all
        S: 221 bye
        """,
        {"answers": (353, 250, 550, 250), "ended": 11},
    ),
    "PRDR unfinished": (
        BEGUN + "C: RCPT TO:<b@b>\n C: DATA\n S: 250 ok\n S: 354 go\n C: .\n S: 353 now\n S: 250 b",
        {"answers": (353, 250), "ended": None},
    ),
    "BDAT": (
        BEGUN
        + """
        C: BDAT 20
        C: X-Lab-Message: m42
        S: 250 20 octets
        C: BDAT 9 LAST
        C:
        C: .
        C: MAIL
        C: QUIT
        S: 250 ok
        S: 500 what
        S: 221 bye
        """,
        {"message": "m42", "data": 250, "octets": 29, "complete": True, "answers": (250,), "ended": 11},
    ),
    "BDAT in one go": (
        BEGUN + "C: BDAT 5 LAST\n C: abc\n C: QUIT\n S: 250 ok\n S: 221 bye",
        {"data": None, "octets": 5, "complete": True, "answers": (250,), "ended": 9},
    ),
    "an empty last BDAT": (
        BEGUN + "C: BDAT 5\n C: abc\n S: 250 ok\n C: BDAT 0 LAST\n S: 250 ok",
        {"data": 250, "octets": 5, "complete": True, "answers": (250,), "ended": 11},
    ),
    "BDAT cut off": (
        BEGUN + "C: BDAT 9 LAST\n C: abc",
        {"octets": 5, "complete": False, "answers": (), "ended": None},
    ),
    "BDAT behind a refused RCPT": (
        BEGUN + "C: RCPT TO:<b@b>\n C: BDAT 5 LAST\n C: abc\n S: 550 no\n S: 503 what",
        {"recipients": (Asked("b@b", 550),), "octets": 5, "complete": True, "answers": (503,)},
    ),
    "the server speaks too early": (
        BEGUN + "S: 250 early\n C: RCPT TO:<b@b>\n S: 550 no",
        {"recipients": (Asked("b@b", 550),)},
    ),
    "the server speaks too often": (
        BEGUN + "C: RCPT TO:<b@b>\n S: 550 no\n S: 250 no\n C: RCPT TO:<c@c>\n S: 451 no",
        {"recipients": (Asked("b@b", 550), Asked("c@c", 451))},
    ),
    "the server speaks too early before DATA's reply": (
        BEGUN + "C: DATA\n S: 250 early\n S: 354 go\n C: x\n C: .\n S: 452 no",
        {"data": 354, "octets": 3, "answers": (452,)},
    ),
    "the server forgets a reply before DATA's": (
        BEGUN + "C: RCPT TO:<b@b>\n C: DATA\n S: 354 go\n C: x\n C: .\n S: 452 no",
        {"recipients": (Asked("b@b", None),), "data": 354, "octets": 3, "answers": (452,)},
    ),
    "the server speaks in the body": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n S: 250 early\n C: .\n S: 452 no",
        {"octets": 3, "complete": True, "answers": (452,)},
    ),
    "the server speaks in the body, and not after it": (
        BEGUN + "C: DATA\n S: 354 go\n C: x\n S: 421 bye\n C: .",
        {"complete": True, "answers": (), "ended": None},
    ),
    "the server babbles": (BEGUN + "C: RCPT TO:<b@b>\n S: hello\n S: 550 no", {"recipients": (Asked("b@b", 550),)}),
}


@pytest.mark.parametrize(("text", "expected"), DIALOGS.values(), ids=DIALOGS.keys())
def test_dialog(text: str, expected: dict[str, object]) -> None:
    transaction = capture(whole(text)).transactions[0]
    assert {name: getattr(transaction, name) for name in expected} == expected


ENDS_OF_THE_FIRST = {
    "the dot": "C: DATA\n S: 354 go\n C: .\n S: 250 ok",
    "RSET": "C: RCPT TO:<x@x>\n S: 550 no\n C: RSET\n S: 250 ok",
    "EHLO": "C: EHLO a\n S: 250 mx",
    "refusal of DATA and RSET": "C: DATA\n S: 554 no\n C: RSET\n S: 250 ok",
    "MAIL": "C: NOOP\n S: 250 ok",
}


@pytest.mark.parametrize("end", ENDS_OF_THE_FIRST.values(), ids=ENDS_OF_THE_FIRST.keys())
def test_the_next_transaction_on_the_connection_is_another(end: str) -> None:
    second = "C: MAIL FROM:<b@b>\n C: RCPT TO:<c@c>\n S: 250 ok\n S: 451 no"
    first, last = capture(whole(f"{BEGUN}{end}\n{second}")).transactions
    assert (first.sender, last.sender, last.recipients) == ("ann@a.example", "b@b", (Asked("c@c", 451),))


@pytest.mark.parametrize("end", ["RSET", "HELO a", "EHLO a", "QUIT"])
def test_a_recipient_without_a_transaction_belongs_to_none(end: str) -> None:
    assert only(whole(f"{BEGUN} C: {end}\n S: 250 ok\n C: RCPT TO:<b@b>\n S: 503 what")).recipients == ()


def test_a_message_may_have_a_long_way_behind_it() -> None:
    received = "C: Received: from somewhere over the rainbow\n" * 500
    sent = f"C: DATA\n S: 354 go\n {received} C: x-lab-message:  m 7 \n C: \n C: ."
    assert only(split(whole(BEGUN + sent), 1000)).message == "m 7"


# The limit is generous, and still far below what anything quadratic would take.


@pytest.mark.parametrize("size", [1448, 65_000])
def test_a_large_body(size: int) -> None:
    connection = Connection()
    packets = connection.opening() + connection.dialog(BEGUN + "C: DATA\n S: 354 go")
    line = b"x" * 76 + b"\r\n"
    body = line * (20_000_000 // len(line)) + b".\r\n"
    for start in range(0, len(body), size):
        packets.append(connection.say("C", body[start : start + size]))
    file = written([*packets, *connection.dialog("S: 250 ok")])
    begun = time.perf_counter()
    (seen,) = read(file).transactions
    assert (seen.octets, seen.complete, seen.answers) == (len(body) - 3, True, (250,))
    assert time.perf_counter() - begun < 10
