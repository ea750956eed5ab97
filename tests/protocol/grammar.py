"""What the tests of the grammar have in common."""

from __future__ import annotations

import pytest

from mailgate.protocol.command import (
    BadCommand,
    Dialect,
    Extension,
    Mail,
    Mailbox,
    MailParameters,
    Rcpt,
    parse,
)

ESMTP = Dialect(tuple(Extension))
UTF8 = Dialect(tuple(Extension), smtputf8=True)
PLAIN = Dialect(())


def mail(local: str, domain: str, parameters: MailParameters | None = None) -> Mail:
    return Mail(Mailbox(local, domain), parameters or MailParameters())


def rcpt(local: str, domain: str) -> Rcpt:
    return Rcpt(Mailbox(local, domain))


def refusal(line: bytes, dialect: Dialect = ESMTP) -> str:
    with pytest.raises(BadCommand) as raised:
        parse(line, dialect)
    return str(raised.value.reply)


SYNTAX, ADDRESS = "Syntax: {keyword}<address>", "Bad address syntax: want <local-part@domain>"
