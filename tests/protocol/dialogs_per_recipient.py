"""One reply per recipient behind the data: LMTP (RFC 2033) and PRDR (draft-hall-prdr)."""

from __future__ import annotations

from dialog_parts import DATA, EHLO, ENVELOPE, LHLO, LHLO_10, PRDR_ENVELOPE, QUIT, REFUSE_LMTP, SMALL_LMTP, Dialogs
from serving import LMTP, SMTP

PER_RECIPIENT_DIALOGS: Dialogs = {
    # LMTP
    "LMTP": (
        LMTP,
        f"""
        {LHLO} {ENVELOPE} {DATA}
        C: hello
        C: .
        S: 250 2.0.0 taken
        {QUIT}
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'hello\\r\\n'
        E: quit
        """,
    ),
    "LMTP wants LHLO": (
        LMTP,
        f"""
        C: HELO me
        S: 500 5.5.1 Command unrecognized: LHLO is spoken here
        C: EHLO me
        S: 500 5.5.1 Command unrecognized: LHLO is spoken here
        C: MAIL FROM:<a@x>
        S: 503 5.5.1 Bad sequence of commands: say LHLO first
        {LHLO}
        C: EHLO me
        S: 500 5.5.1 Command unrecognized: LHLO is spoken here
        {ENVELOPE}
        C: HELO me
        S: 500 5.5.1 Command unrecognized: LHLO is spoken here
        {DATA}
        """,
    ),
    "SMTP knows no LHLO": (
        SMTP,
        f"""
        C: LHLO me
        S: 500 5.5.1 Command unrecognized: EHLO is spoken here
        {EHLO}
        """,
    ),
    "LMTP: no recipient": (
        LMTP,
        f"""
        {LHLO}
        C: MAIL FROM:<a@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: DATA
        S: 503 5.5.1 Bad sequence of commands: this transaction has no valid recipient yet
        """,
    ),
    "LMTP: one reply per accepted recipient, in order, duplicates too": (
        LMTP,
        f"""
        {LHLO} {ENVELOPE}
        C: RCPT TO:<dot452@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<dot550@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<dot452@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: .
        S: 250 2.0.0 taken
        S: 452 4.0.0 so says dot452@y
        S: 250 2.0.0 taken
        S: 550 5.0.0 so says dot550@y
        S: 452 4.0.0 so says dot452@y
        {ENVELOPE} {DATA}
        C: .
        S: 250 2.0.0 taken
        """,
    ),
    "LMTP: too big": (
        SMALL_LMTP,
        f"""
        {LHLO_10} {ENVELOPE}
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: 123456789
        C: .
        S: 552 5.3.4 Message exceeds the size limit
        S: 552 5.3.4 Message exceeds the size limit
        {QUIT}
        """,
    ),
    "LMTP: bare CR": (
        LMTP,
        f"""
        {LHLO} {ENVELOPE}
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C! a\\rb\\r\\n.\\r\\n
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        {QUIT}
        """,
    ),
    "LMTP: bare LF": (
        REFUSE_LMTP,
        f"""
        {LHLO} {ENVELOPE}
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C! a\\nb\\r\\n.\\r\\n
        S: 554 5.6.0 Message has an LF without CR, which RFC 5321 section 2.3.8 forbids
        S: 554 5.6.0 Message has an LF without CR, which RFC 5321 section 2.3.8 forbids
        {QUIT}
        """,
    ),
    "LMTP: DATA refused": (
        LMTP,
        f"""
        {LHLO}
        C: MAIL FROM:<data451@x>
        S: 250 2.1.0 sender ok
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<c@y>
        S: 250 2.1.5 recipient ok
        C: DATA
        S: 451 4.0.0 so says data451@x
        {ENVELOPE}
        """,
    ),
    "LMTP has no PRDR, one reply per recipient it has anyway": (
        LMTP,
        f"""
        {LHLO}
        C: MAIL FROM:<a@x> PRDR
        S: 555 5.5.4 MAIL parameter not recognized: PRDR
        """,
    ),
    # PRDR
    "PRDR": (
        SMTP,
        f"""
        {EHLO} {PRDR_ENVELOPE}
        C: RCPT TO:<dot452@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: RCPT TO:<dot550@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: .
        S: 353 One reply per recipient follows
        S: 250 2.0.0 taken
        S: 452 4.0.0 so says dot452@y
        S: 550 5.0.0 so says dot550@y
        S: 250 2.0.0 taken
        S: 250 2.0.0 Done, see the replies per recipient
        {ENVELOPE} {DATA}
        C: .
        S: 250 2.0.0 taken
        {QUIT}
        """,
    ),
    "PRDR: one recipient": (
        SMTP,
        f"""
        {EHLO} {PRDR_ENVELOPE} {DATA}
        C: .
        S: 353 One reply per recipient follows
        S: 250 2.0.0 taken
        S: 250 2.0.0 Done, see the replies per recipient
        """,
    ),
    "PRDR: 4xx for one and 5xx for another": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x> PRDR
        S: 250 2.1.0 sender ok
        C: RCPT TO:<dot550@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<dot452@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: .
        S: 353 One reply per recipient follows
        S: 550 5.0.0 so says dot550@y
        S: 452 4.0.0 so says dot452@y
        S: 451 4.3.0 No recipient has the message, see the replies per recipient
        """,
    ),
    "PRDR: 5xx for all": (
        SMTP,
        f"""
        {EHLO}
        C: MAIL FROM:<a@x> PRDR
        S: 250 2.1.0 sender ok
        C: RCPT TO:<dot554@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<dot550@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: .
        S: 353 One reply per recipient follows
        S: 554 5.0.0 so says dot554@y
        S: 550 5.0.0 so says dot550@y
        S: 554 5.0.0 No recipient takes the message
        """,
    ),
    "PRDR: bare CR": (
        SMTP,
        f"""
        {EHLO} {PRDR_ENVELOPE}
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C! a\\rb\\r\\n.\\r\\n
        S: 353 One reply per recipient follows
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        S: 554 5.6.0 No recipient takes the message
        """,
    ),
    "PRDR in one transaction only": (
        SMTP,
        f"""
        {EHLO} {PRDR_ENVELOPE}
        C: RSET
        S: 250 2.0.0 Reset
        {ENVELOPE} {DATA}
        C: .
        S: 250 2.0.0 taken
        """,
    ),
}
