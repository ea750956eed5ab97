"""Dialogs for the tests of the tap: what is said, and what is to be read of it."""

from __future__ import annotations

from dataclasses import dataclass

from sim.records import Said, Transaction
from sim.tcp import Way

Piece = tuple[Way, bytes]
"""what one side writes at once"""


# How a dialog is cut into pieces. In all of them the phases are the same.


def lines(text: str) -> list[Piece]:
    """One piece per line. `C- ` and `S- ` begin a line without CRLF at its end."""
    sides = {"C": Way.TO_SERVER, "S": Way.TO_CLIENT}
    return [
        (sides[line[0]], line[3:].encode() + (b"" if line[1] == "-" else b"\r\n"))
        for line in filter(None, map(str.strip, text.splitlines()))
    ]


def groups(text: str) -> list[Piece]:
    """What the client says before the server speaks is one piece."""
    pieces: list[Piece] = []
    for way, line in lines(text):
        before = pieces.pop()[1] if pieces and pieces[-1][0] is way is Way.TO_SERVER else b""
        pieces.append((way, before + line))
    return pieces


def single_octets(text: str) -> list[Piece]:
    """One piece per octet."""
    return [(way, bytes([octet])) for way, line in lines(text) for octet in line]


def code(said: Said | None) -> int:
    """0: no reply."""
    return 0 if said is None else said.code


def read(transaction: Transaction) -> Read:
    """What was read, in short."""
    return Read(
        code(transaction.mail.reply),
        tuple(code(asked.reply) for _, asked in transaction.rcpts),
        None if transaction.data is None else code(transaction.data.reply),
        transaction.octets,
        transaction.dot_written is not None,
        tuple(map(code, transaction.outcomes)),
    )


# The dialogs


@dataclass(frozen=True)
class Read:
    """A transaction: replies by their codes, 0 where there is none."""

    mail: int
    rcpts: tuple[int, ...] = ()
    data: int | None = None
    octets: int = 0
    complete: bool = False
    outcomes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dialog:
    """What is said, and what is to be read."""

    text: str
    phases: str
    """after CONNECT"""
    transactions: tuple[Read, ...] = ()
    unasked: tuple[int, ...] = ()
    commands: str | None = None
    """verbs with the codes of their replies"""


BEGUN = """
    S: 220 mx
    C: EHLO a
    S: 250-mx
    S: 250 PIPELINING
"""
OFFERED = (
    BEGUN
    + """
    C: MAIL FROM:<a@a>
    S: 250 ok
    C: RCPT TO:<b@b>
    S: 250 ok
"""
)
ASKED = OFFERED + "C: DATA\n"
SENT = ASKED + "S: 354 go\n C: x\n C: .\n"
TAKEN = SENT + "S: 250 taken\n"

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
    C: x
    C: .
    C: QUIT
"""
PRDR = LMTP.replace("LHLO", "EHLO").replace("<a@a>", "<a@a> SIZE=1 prdr")

TO_MAIL = "GREETING EHLO MAIL"
TO_DATA = f"{TO_MAIL} RCPT DATA"
TO_KEPT = f"{TO_DATA} BODY DOT AFTER_DOT KEPT"
ONE = Read(250, (250,), 354, 3, True, (250,))

DIALOGS: dict[str, Dialog] = {
    "nothing": Dialog("", "GREETING"),
    "greeting in part": Dialog("S: 220-mx\n S- 220 m", "GREETING"),
    "refused at the greeting": Dialog("S: 554 no\n C: QUIT\n S: 221 bye", "GREETING EHLO OVER", commands="QUIT 221"),
    "EHLO refused": Dialog(
        "S: 220 mx\n C: EHLO a\n S: 500 what\n C: HELO a\n S: 250 mx", TO_MAIL, commands="EHLO 500 HELO 250"
    ),
    "a probe": Dialog(
        OFFERED + "C: QUIT\n S: 221 bye",
        f"{TO_MAIL} RCPT OVER",
        (Read(250, (250,)),),
        commands="EHLO 250 MAIL 250 RCPT 250 QUIT 221",
    ),
    "a reply of several lines": Dialog(
        BEGUN + "C: MAIL FROM:<a@a>\n S: 550-not\n S: 550-250 here\n S: 550", f"{TO_MAIL} KEPT", (Read(550),)
    ),
    "MAIL refused, and again": Dialog(
        BEGUN + "C: MAIL FROM:<a@a>\n S: 451 no\n C: MAIL FROM:<a@a>\n S: 250 ok",
        f"{TO_MAIL} KEPT MAIL RCPT",
        (Read(451), Read(250)),
    ),
    "a message": Dialog(TAKEN, TO_KEPT, (ONE,)),
    "DATA refused": Dialog(ASKED + "S: 451 no", f"{TO_DATA} KEPT", (Read(250, (250,), 451),)),
    "DATA unanswered": Dialog(ASKED, TO_DATA, (Read(250, (250,), 0),)),
    "a message without its end": Dialog(
        ASKED + "S: 354 go\n C: x\n C: .x", f"{TO_DATA} BODY", (Read(250, (250,), 354, 7),)
    ),
    "an empty message": Dialog(
        ASKED + "S: 354 go\n C: .\n S: 250 ok", TO_KEPT, (Read(250, (250,), 354, 0, True, (250,)),)
    ),
    "dots": Dialog(
        ASKED + "S: 354 go\n C: ..\n C: a.\n C: .b\n C:\n C: .\n S: 250 ok",
        TO_KEPT,
        (Read(250, (250,), 354, 4 + 4 + 4 + 2, True, (250,)),),
    ),
    "QUIT behind the dot": Dialog(
        SENT + "C: QUIT\n S: 250 taken\n S: 221 bye",
        f"{TO_DATA} BODY DOT AFTER_DOT OVER",
        (ONE,),
        commands="EHLO 250 MAIL 250 RCPT 250 DATA 354 QUIT 221",
    ),
    "MAIL behind QUIT": Dialog(
        BEGUN + "C: QUIT\n S: 221 bye\n C: MAIL FROM:<a@a>", "GREETING EHLO MAIL OVER", (Read(0),)
    ),
    "no reply to the dot, which QUIT is behind": Dialog(
        SENT + "C: QUIT", f"{TO_DATA} BODY DOT AFTER_DOT", (Read(250, (250,), 354, 3, True),)
    ),
    "a group": Dialog(
        BEGUN
        + """
        C: MAIL FROM:<a@a>
        C: RCPT TO:<b@b>
        C: RCPT TO:<c@c>
        C: DATA
        S: 250 ok
        S: 451 no
        S: 250 ok
        S: 354 go
        """,
        f"{TO_DATA} BODY",
        (Read(250, (451, 250), 354),),
    ),
    "a message for nobody": Dialog(
        BEGUN
        + """
        C: MAIL FROM:<a@a>
        C: RCPT TO:<b@b>
        C: DATA
        S: 250 ok
        S: 550 no
        S: 354 go
        C: .
        S: 554 nobody
        """,
        TO_KEPT,
        (Read(250, (550,), 354, 0, True, (554,)),),
    ),
    "a kept session": Dialog(
        TAKEN + "C: RSET\n C: MAIL FROM:<a@a>\n C: RCPT TO:<b@b>\n S: 250 flushed\n S: 250 ok\n S: 550 no",
        f"{TO_KEPT} MAIL RCPT",
        (ONE, Read(250, (550,))),
    ),
    "RSET and NOOP in a kept session": Dialog(
        TAKEN + "C: NOOP\n S: 250 ok\n C: RSET\n S: 250 ok\n C: MAIL FROM:<a@a>", f"{TO_KEPT} MAIL", (ONE, Read(0))
    ),
    "NOOP inside": Dialog(
        OFFERED + "C: NOOP\n C: RCPT TO:<c@c>\n S: 250 nothing\n S: 452 no",
        f"{TO_MAIL} RCPT",
        (Read(250, (250, 452)),),
    ),
    "given up": Dialog(
        OFFERED + "C: RSET\n S: 250 ok\n C: RCPT TO:<c@c>\n S: 503 no",
        f"{TO_MAIL} RCPT KEPT RCPT KEPT",
        (Read(250, (250,)),),
    ),
    "given up unanswered": Dialog(
        BEGUN + "C: MAIL FROM:<a@a>\n C: RSET\n S: 250 ok\n S: 250 ok", f"{TO_MAIL} KEPT", (Read(250),)
    ),
    "EHLO inside": Dialog(
        OFFERED + "C: EHLO a\n S: 250 mx\n C: MAIL FROM:<a@a>\n S: 250 ok",
        f"{TO_MAIL} RCPT EHLO MAIL RCPT",
        (Read(250, (250,)), Read(250)),
    ),
    "EHLO inside, refused": Dialog(
        OFFERED + "C: EHLO a\n S: 451 no", f"{TO_MAIL} RCPT EHLO KEPT", (Read(250, (250,)),)
    ),
    "commands out of order": Dialog(
        BEGUN + "C: RCPT TO:<b@b>\n S: 503 no\n C: DATA\n S: 503 no\n C: what is this\n S: 500 what",
        f"{TO_MAIL} RCPT MAIL DATA KEPT",
        commands="EHLO 250 RCPT 503 DATA 503 WHAT 500",
    ),
    "a message without MAIL": Dialog(
        BEGUN + "C: DATA\n S: 354 go\n C: x\n C: .\n S: 503 no\n C: NOOP\n S: 250 ok",
        f"{TO_MAIL} DATA BODY DOT AFTER_DOT KEPT",
        commands="EHLO 250 DATA 354 NOOP 250",
    ),
    "LMTP": Dialog(
        LMTP + "S: 250 ok\n S: 452 no\n S: 221 bye",
        f"{TO_DATA} BODY DOT AFTER_DOT OVER",
        (Read(250, (250, 550, 250), 354, 3, True, (250, 452)),),
    ),
    "LMTP, one reply missing": Dialog(
        LMTP + "S: 250 ok",
        f"{TO_DATA} BODY DOT AFTER_DOT",
        (Read(250, (250, 550, 250), 354, 3, True, (250,)),),
    ),
    "LMTP for nobody": Dialog(
        """
        S: 220 mx
        C: LHLO a
        S: 250 mx
        C: MAIL FROM:<a@a>
        S: 250 ok
        C: DATA
        S: 354 go
        C: .
        """,
        f"{TO_DATA} BODY KEPT",
        (Read(250, (), 354, 0, True),),
    ),
    "PRDR": Dialog(
        PRDR + "S: 353 each\n S: 250 ok\n S: 452 no\n S: 250 all\n S: 221 bye",
        f"{TO_DATA} BODY DOT AFTER_DOT OVER",
        (Read(250, (250, 550, 250), 354, 3, True, (353, 250, 452, 250)),),
    ),
    "PRDR, one reply for all": Dialog(
        PRDR + "S: 451 no\n S: 221 bye",
        f"{TO_DATA} BODY DOT AFTER_DOT OVER",
        (Read(250, (250, 550, 250), 354, 3, True, (451,)),),
        commands="EHLO 250 MAIL 250 RCPT 250 RCPT 550 RCPT 250 DATA 354 QUIT 221",
    ),
    "PRDR, the last one missing": Dialog(
        PRDR + "S: 353 each\n S: 250 ok\n S: 452 no",
        f"{TO_DATA} BODY DOT AFTER_DOT",
        (Read(250, (250, 550, 250), 354, 3, True, (353, 250, 452)),),
        commands="EHLO 250 MAIL 250 RCPT 250 RCPT 550 RCPT 250 DATA 354 QUIT 0",
    ),
    "353 without PRDR": Dialog(
        SENT + "S: 353 each\n S: 250 ok", TO_KEPT, (Read(250, (250,), 354, 3, True, (353,)),), unasked=(250,)
    ),
    "unasked while idle": Dialog(TAKEN + "S: 421 bye", TO_KEPT, (ONE,), unasked=(421,)),
    "unasked in a transaction": Dialog(
        OFFERED + "S: 421 bye\n C: RCPT TO:<c@c>", f"{TO_MAIL} RCPT", (Read(250, (250, 0)),), unasked=(421,)
    ),
    "unasked inside the message": Dialog(
        ASKED + "S: 354 go\n C: x\n S: 250 taken\n C: .",
        f"{TO_DATA} BODY DOT AFTER_DOT",
        (Read(250, (250,), 354, 3, True),),
        unasked=(250,),
    ),
    "the client does not wait for the greeting": Dialog(
        "C: EHLO a\n C: MAIL FROM:<a@a>\n S: 220 mx\n S: 250 mx\n S: 451 no", f"{TO_MAIL} KEPT", (Read(451),)
    ),
    "the client does not wait for 354": Dialog(
        ASKED + "C: x\n C: .\n C: QUIT\n S: 354 go\n S: 452 no\n S: 221 bye",
        f"{TO_DATA} AFTER_DOT OVER",
        (Read(250, (250,), 354, 3, True, (452,)),),
    ),
    "the client does not wait, and DATA is refused": Dialog(
        ASKED + "C: x\n C: .\n C: QUIT\n S: 451 no\n S: 500 what\n S: 500 what\n S: 221 bye",
        f"{TO_DATA} OVER",
        (Read(250, (250,), 451),),
        commands="EHLO 250 MAIL 250 RCPT 250 DATA 451 X 500 . 500 QUIT 221",
    ),
    "garbage": Dialog("S: HTTP/1.1 400\n S:\n C: \x00\x7f\n C:\n S: 220 mx", "GREETING EHLO", commands="\x00\x7f 0  0"),
}
