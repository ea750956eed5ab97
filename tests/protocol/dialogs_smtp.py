"""Plain SMTP: the usual, HELO, refusals, what is taken back, and how a client ends."""

from __future__ import annotations

from dialog_parts import BARE, DATA, EHLO, ENVELOPE, HELO, QUIT, Dialogs
from serving import SMTP

SMTP_DIALOGS: Dialogs = {
    # The usual
    "a message": (
        SMTP,
        f"""
        {EHLO}
        E: reset
        {ENVELOPE}
        E: MAIL <a@x>
        E: RCPT <b@y>
        {DATA}
        E: DATA
        C: Subject: hi
        C:
        C: hello
        C: .
        E: message b'Subject: hi\\r\\n\\r\\nhello\\r\\n'
        S: 250 2.0.0 taken
        {QUIT}
        E: quit
        """,
    ),
    "an empty message": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: .
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b''
        S: 250 2.0.0 taken
        """,
    ),
    "a message with dots": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: ..
        C: ..a
        C: b.
        C: .
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'.\\r\\n.a\\r\\nb.\\r\\n'
        S: 250 2.0.0 taken
        """,
    ),
    "a message that looks like commands": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: RSET
        C: QUIT
        C: .
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'RSET\\r\\nQUIT\\r\\n'
        S: 250 2.0.0 taken
        """,
    ),
    "two messages": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: .
        S: 250 2.0.0 taken
        {ENVELOPE} {DATA}
        C: x
        C: .
        S: 250 2.0.0 taken
        {QUIT}
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b''
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'x\\r\\n'
        E: quit
        """,
    ),
    "all parameters": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x> SIZE=100 BODY=8BITMIME SMTPUTF8 PRDR
        S: 250 2.1.0 sender ok
        C: RCPT TO:<bücher@y>
        S: 250 2.1.5 recipient ok
        E: reset
        E: MAIL <a@x> SIZE=100 BODY=8BITMIME SMTPUTF8 PRDR
        E: RCPT <bücher@y>
        """,
    ),
    "SMTPUTF8 holds for one transaction": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x> SMTPUTF8
        S: 250 2.1.0 sender ok
        C: RSET
        S: 250 2.0.0 Reset
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<bücher@y>
        S: 553 5.6.7 Non-ASCII address without SMTPUTF8 (RFC 6531)
        """,
    ),
    "stock replies": (
        SMTP,
        f"""
        C: NOOP
        S: 250 2.0.0 Fine
        {EHLO}
        C: NOOP at all
        S: 250 2.0.0 Fine
        C: VRFY b@y
        S: 252 2.0.0 Cannot verify, offer it with RCPT
        C: HELP
        S: 214 2.0.0 This is mailgate: RFC 5321 and RFC 2033
        C: RSET
        S: 250 2.0.0 Reset
        {QUIT}
        E: reset
        E: reset
        E: quit
        """,
    ),
    "QUIT at once": (SMTP, f"{QUIT}\nE: quit"),
    "LF for CRLF in commands": (
        SMTP,
        """
        C! HELO me\\n
        S: 250 gw
        C! QUIT\\n
        S: 221 2.0.0 Bye
        """,
    ),
    # HELO
    "HELO offers nothing": (
        SMTP,
        f"""
        {HELO} {ENVELOPE} {DATA}
        C: x
        C: .
        S: 250 2.0.0 taken
        {QUIT}
        """,
    ),
    "HELO knows no parameters": (
        SMTP,
        f"""
        {HELO}
        C: MAIL FROM:<a@x> SIZE=10
        S: 555 5.5.4 MAIL parameter not recognized: SIZE
        C: MAIL FROM:<a@x> BODY=8BITMIME
        S: 555 5.5.4 MAIL parameter not recognized: BODY
        C: MAIL FROM:<a@x> SMTPUTF8
        S: 555 5.5.4 MAIL parameter not recognized: SMTPUTF8
        C: MAIL FROM:<a@x> PRDR
        S: 555 5.5.4 MAIL parameter not recognized: PRDR
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        """,
    ),
    "HELO behind EHLO takes the parameters away": (
        SMTP,
        f"""
        {EHLO} {HELO}
        C: MAIL FROM:<a@x> SIZE=10
        S: 555 5.5.4 MAIL parameter not recognized: SIZE
        """,
    ),
    "EHLO with a bad name is none": (
        SMTP,
        """
        C: EHLO
        S: 501 5.5.4 Syntax: EHLO hostname
        C: MAIL FROM:<a@x>
        S: 503 5.5.1 Bad sequence of commands: say EHLO first
        """,
    ),
    "what is not offered is not taken": (
        BARE,
        """
        C: EHLO me
        S: 250-gw
        S: 250 PIPELINING
        C: MAIL FROM:<a@x> SIZE=10
        S: 555 5.5.4 MAIL parameter not recognized: SIZE
        C: MAIL FROM:<a@x> PRDR
        S: 555 5.5.4 MAIL parameter not recognized: PRDR
        """,
    ),
    # Refusals
    "MAIL refused": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<mail451@x>
        S: 451 4.0.0 so says mail451@x
        C: RCPT TO:<b@y>
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        C: MAIL FROM:<>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        E: reset
        E: MAIL <mail451@x>
        E: MAIL <>
        E: RCPT <b@y>
        """,
    ),
    "one RCPT of three refused": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<rcpt451@y>
        S: 451 4.0.0 so says rcpt451@y
        {DATA}
        C: .
        S: 250 2.0.0 taken
        """,
    ),
    "all RCPTs refused": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: DATA
        S: 503 5.5.1 Bad sequence of commands: this transaction has no valid recipient yet
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        """,
    ),
    "DATA refused ends the transaction": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<data451@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        C: DATA
        S: 451 4.0.0 so says data451@x
        C: RCPT TO:<c@y>
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        {ENVELOPE} {DATA}
        """,
    ),
    "message refused": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<dot554@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: .
        S: 554 5.0.0 so says dot554@y
        {ENVELOPE} {DATA}
        C: .
        S: 250 2.0.0 taken
        """,
    ),
    # Taking back
    "RSET": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE}
        C: RSET
        S: 250 2.0.0 Reset
        C: RCPT TO:<c@y>
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        C: DATA
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: reset
        """,
    ),
    "a second EHLO resets": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {EHLO}
        C: DATA
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: reset
        """,
    ),
    "HELO resets, before any RCPT too": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        {HELO}
        C: RCPT TO:<b@y>
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        """,
    ),
    "a bad EHLO resets nothing": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE}
        C: EHLO
        S: 501 5.5.4 Syntax: EHLO hostname
        {DATA}
        """,
    ),
    "MAIL inside a transaction": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE}
        C: MAIL FROM:<c@x>
        S: 503 5.5.1 Bad sequence of commands: a transaction is under way, say DATA or RSET first
        {DATA}
        C: .
        S: 250 2.0.0 taken
        """,
    ),
    # The client's end
    "the end at once": (SMTP, "C.\nE: gone"),
    "the end between commands": (SMTP, f"{EHLO}\nC.\nE: reset\nE: gone"),
    "the end inside a command": (SMTP, "C! HELO\nC.\nE: gone"),
    "the end inside a transaction": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE}
        C.
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: gone
        """,
    ),
    "the end inside the message": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: hello
        C! .
        C.
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: gone
        """,
    ),
    "the end inside the message, behind what looks like QUIT": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: QUIT
        C.
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: gone
        """,
    ),
    "the end behind QUIT": (SMTP, f"{QUIT}\nC.\nE: quit"),
}
