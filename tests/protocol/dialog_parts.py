"""What the dialogs are made of: options, and lines that many of them begin with."""

from __future__ import annotations

import dataclasses

from serving import LMTP, SMTP

from mailgate.protocol.command import Extension
from mailgate.protocol.framing import BareNewline
from mailgate.protocol.server import ServerOptions

Dialogs = dict[str, tuple[ServerOptions, str]]
"""title: options, and the dialog as `serving.moves` reads it"""

SMALL = dataclasses.replace(SMTP, message_size=10)
SMALL_LMTP = dataclasses.replace(LMTP, message_size=10)
REFUSE = dataclasses.replace(SMTP, bare_newline=BareNewline.REFUSE)
REFUSE_LMTP = dataclasses.replace(LMTP, bare_newline=BareNewline.REFUSE)
FEW = dataclasses.replace(SMTP, recipients=3)
STRICT = dataclasses.replace(SMTP, bad_commands=3)
BARE = dataclasses.replace(SMTP, extensions=(Extension.PIPELINING,))

EHLO = """
    C: EHLO me
    S: 250-gw
    S: 250-PIPELINING
    S: 250-SIZE 52428800
    S: 250-8BITMIME
    S: 250-SMTPUTF8
    S: 250-ENHANCEDSTATUSCODES
    S: 250 PRDR
"""
EHLO_10 = EHLO.replace("52428800", "10")
LHLO = EHLO.replace("EHLO", "LHLO").replace("250-ENH", "250 ENH").replace("    S: 250 PRDR\n", "")
LHLO_10 = LHLO.replace("52428800", "10")
HELO = """
    C: HELO me
    S: 250 gw
"""
ENVELOPE = """
    C: MAIL FROM:<a@x>
    S: 250 2.1.0 sender ok
    C: RCPT TO:<b@y>
    S: 250 2.1.5 recipient ok
"""
PRDR_ENVELOPE = ENVELOPE.replace("<a@x>", "<a@x> PRDR")
DATA = """
    C: DATA
    S: 354 go
"""
QUIT = """
    C: QUIT
    S: 221 2.0.0 Bye
"""
