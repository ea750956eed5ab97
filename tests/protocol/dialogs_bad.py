"""Limits, bad commands and bad messages."""

from __future__ import annotations

from dialog_parts import DATA, EHLO, EHLO_10, ENVELOPE, FEW, HELO, QUIT, REFUSE, SMALL, STRICT, Dialogs
from serving import SMTP

BAD_DIALOGS: Dialogs = {
    # Limits
    "SIZE at the limit": (
        SMALL,
        f"""
        {EHLO_10}
        C: MAIL FROM:<a@x> SIZE=11
        S: 552 5.3.4 Message exceeds the size limit
        C: RCPT TO:<b@y>
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        C: MAIL FROM:<a@x> SIZE=10
        S: 250 2.1.0 sender ok
        E: reset
        E: MAIL <a@x> SIZE=10
        """,
    ),
    "a message of the size limit": (
        SMALL,
        f"""
        {EHLO_10} {ENVELOPE} {DATA}
        C: 12345678
        C: .
        S: 250 2.0.0 taken
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'12345678\\r\\n'
        """,
    ),
    "dot-stuffing does not count": (
        SMALL,
        f"""
        {EHLO_10} {ENVELOPE} {DATA}
        C: ..2345678
        C: .
        S: 250 2.0.0 taken
        """,
    ),
    "a message that grows over the size limit": (
        SMALL,
        f"""
        {EHLO_10}
        C: MAIL FROM:<a@x> SIZE=5
        S: 250 2.1.0 sender ok
        C: RCPT TO:<b@y>
        S: 250 2.1.5 recipient ok
        {DATA}
        C: 123456789
        C: and more
        C: .
        S: 552 5.3.4 Message exceeds the size limit
        {ENVELOPE} {DATA}
        C: 1
        C: .
        S: 250 2.0.0 taken
        E: reset
        E: MAIL <a@x> SIZE=5
        E: RCPT <b@y>
        E: DATA
        E: spoilt: too big
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'1\\r\\n'
        """,
    ),
    "too many recipients, refused ones included": (
        FEW,
        f"""
        {EHLO} {ENVELOPE}
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: RCPT TO:<c@y>
        S: 250 2.1.5 recipient ok
        C: RCPT TO:<d@y>
        S: 452 4.5.3 Too many recipients, send the rest in another transaction
        {DATA}
        C: .
        S: 250 2.0.0 taken
        {ENVELOPE}
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: RCPT <rcpt550@y>
        E: RCPT <c@y>
        E: DATA
        E: message b''
        E: MAIL <a@x>
        E: RCPT <b@y>
        """,
    ),
    "an overlong line": (
        SMTP,
        f"""
        {EHLO}
        C: NOOP {"x" * 2041}
        S: 250 2.0.0 Fine
        C: NOOP {"x" * 2042}
        S: 500 5.5.2 Line too long
        C: MAIL FROM:<{"x" * 4000}@x>
        S: 500 5.5.2 Line too long
        {QUIT}
        """,
    ),
    "long lines in the message": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C: {"x" * 5000}
        C: .
        S: 250 2.0.0 taken
        """,
    ),
    # Bad commands
    "what is no command": (
        SMTP,
        f"""
        C:
        S: 500 5.5.1 Command unrecognized
        C: GET / HTTP/1.1
        S: 500 5.5.1 Command unrecognized
        {EHLO}
        C: STARTTLS
        S: 502 5.5.1 Command not implemented
        C: BDAT 10 LAST
        S: 502 5.5.1 Command not implemented
        C! NOOP \\x00\\r\\n
        S: 500 5.5.2 Syntax error: control character in a command
        C! NOOP \\r\\r\\n
        S: 500 5.5.2 Syntax error: control character in a command
        C! NOOP \\xff\\r\\n
        S: 500 5.5.2 Syntax error: neither ASCII nor UTF-8
        C: MAIL FROM:a@x
        S: 501 5.1.7 Syntax: FROM:<address>
        {ENVELOPE}
        C: RCPT TO:b@y
        S: 501 5.1.3 Syntax: TO:<address>
        C: RCPT TO:<b@y> NOTIFY=NEVER
        S: 555 5.5.4 RCPT parameter not recognized: NOTIFY=NEVER
        {DATA}
        """,
    ),
    "too many bad commands": (
        STRICT,
        f"""
        {HELO}
        C: X
        S: 500 5.5.1 Command unrecognized
        C: NOOP
        S: 250 2.0.0 Fine
        C: DATA
        S: 503 5.5.1 Bad sequence of commands: say MAIL first
        {ENVELOPE}
        C: RCPT TO:<rcpt550@y>
        S: 550 5.0.0 so says rcpt550@y
        C: RCPT TO:<>
        S: 501 5.1.3 Bad address syntax: want <local-part@domain>
        C: X
        S: 421 4.7.0 gw Too many bad commands, closing
        C: QUIT
        """,
    ),
    "a web browser": (
        SMTP,
        ""
        + "C: X-Header: whatever\nS: 500 5.5.1 Command unrecognized\n" * 20
        + "C: X-Header: whatever\nS: 421 4.7.0 gw Too many bad commands, closing\nC: MAIL FROM:<a@x>",
    ),
    # Bare CR and LF
    "bare LF repaired": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C! a\\n.\\nb\\n.\\r\\nQUIT\\r\\n.\\n\\r\\n.\\r\\n
        S: 250 2.0.0 taken
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: message b'a\\r\\n.\\r\\nb\\r\\n.\\r\\nQUIT\\r\\n\\r\\n\\r\\n'
        """,
    ),
    "bare LF refused": (
        REFUSE,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C! a\\n.\\nb\\r\\n.\\r\\n
        S: 554 5.6.0 Message has an LF without CR, which RFC 5321 section 2.3.8 forbids
        {QUIT}
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: spoilt: bare LF
        E: quit
        """,
    ),
    "bare CR refused": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C! a\\r.\\rMAIL FROM:<evil@x>\\r\\n.\\r\\n
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        {ENVELOPE}
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: spoilt: bare CR
        E: MAIL <a@x>
        E: RCPT <b@y>
        """,
    ),
    "bare CR refused again": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C! a\\rb\\r\\n.\\r\\n
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        {ENVELOPE} {DATA}
        C! a\\rb\\r\\n.\\r\\n
        S: 554 5.6.0 Message has a CR without LF, which RFC 5321 section 2.3.8 forbids
        E: reset
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: spoilt: bare CR
        E: MAIL <a@x>
        E: RCPT <b@y>
        E: DATA
        E: spoilt: bare CR
        """,
    ),
    "NUL before a dot refused": (
        SMTP,
        f"""
        {EHLO} {ENVELOPE} {DATA}
        C! a\\r\\n\\x00.\\r\\nMAIL FROM:<evil@x>\\r\\n.\\r\\n
        S: 554 5.6.0 Message has a line that begins with NUL and a dot
        {QUIT}
        """,
    ),
}
