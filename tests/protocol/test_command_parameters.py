"""The grammar of commands: internationalized addresses, parameters, and anything at all."""

from __future__ import annotations

import pytest
from feeding import no_deadline
from grammar import ADDRESS, ESMTP, PLAIN, UTF8, mail, refusal
from hypothesis import given
from hypothesis import strategies as st

from mailgate.protocol.command import (
    MAX_LINE,
    BadCommand,
    Body,
    Dialect,
    Extension,
    Mail,
    Mailbox,
    MailParameters,
    Rcpt,
    parse,
)

# Internationalized addresses (RFC 6531): allowed once the transaction has asked for SMTPUTF8

NO_SMTPUTF8 = "Non-ASCII address without SMTPUTF8 (RFC 6531)"

INTERNATIONAL: dict[str, Mailbox] = {
    "<b\u00fcro@x.example>": Mailbox("b\u00fcro", "x.example"),
    "<u@b\u00fccher.example>": Mailbox("u", "b\u00fccher.example"),
    "<\u7528\u6237@\u4f8b\u5b50.\u5e7f\u544a>": Mailbox("\u7528\u6237", "\u4f8b\u5b50.\u5e7f\u544a"),
    '<"b\u00fc ro"@x.example>': Mailbox('"b\u00fc ro"', "x.example"),
    "<\U0001f4e7@x.example>": Mailbox("\U0001f4e7", "x.example"),
    "<@b\u00fccher.example:u@x.example>": Mailbox("u", "x.example"),
}


@pytest.mark.parametrize("path", INTERNATIONAL)
def test_international_addresses(path: str) -> None:
    line = f"RCPT TO:{path}".encode()
    assert parse(line, UTF8) == Rcpt(INTERNATIONAL[path])
    assert refusal(line, ESMTP) == f"553 5.6.7 {NO_SMTPUTF8}"
    line = f"MAIL FROM:{path}".encode()
    assert refusal(line, UTF8) == f"553 5.6.7 {NO_SMTPUTF8}", "the parameter counts, not an earlier transaction's"
    assert parse(line + b" SMTPUTF8", ESMTP) == Mail(INTERNATIONAL[path], MailParameters(smtputf8=True))


def test_a_bad_address_is_bad_syntax_before_it_is_not_ascii() -> None:
    assert refusal("RCPT TO:<b\u00fcro>".encode(), UTF8) == f"501 5.1.3 {ADDRESS}"


@pytest.mark.parametrize("letters", [100, 200])
def test_the_length_of_a_domain_is_in_octets(letters: int) -> None:
    domain = "\u00fc" * letters + ".example"
    line = f"RCPT TO:<u@{domain}>".encode()
    if letters == 100:
        assert isinstance(parse(line, UTF8), Rcpt)
    else:
        assert refusal(line, UTF8) == "501 5.1.3 Bad address syntax: the domain exceeds 255 octets"


# Parameters

PARAMETERS: dict[str, MailParameters] = {
    "": MailParameters(),
    "SIZE=0": MailParameters(size=0),
    "SIZE=1000": MailParameters(size=1000),
    "size=1000": MailParameters(size=1000),
    "SIZE=00000000000000000001": MailParameters(size=1),
    "SIZE=99999999999999999999": MailParameters(size=99_999_999_999_999_999_999),
    "BODY=7BIT": MailParameters(body=Body.SEVENBIT),
    "BODY=8BITMIME": MailParameters(body=Body.EIGHTBITMIME),
    "Body=8bitMime": MailParameters(body=Body.EIGHTBITMIME),
    "SMTPUTF8": MailParameters(smtputf8=True),
    "PRDR": MailParameters(prdr=True),
    "prdr": MailParameters(prdr=True),
    "SIZE=10 BODY=8BITMIME SMTPUTF8 PRDR": MailParameters(10, Body.EIGHTBITMIME, smtputf8=True, prdr=True),
    "PRDR  SMTPUTF8   SIZE=10 ": MailParameters(10, smtputf8=True, prdr=True),
}


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_parameters(parameters: str) -> None:
    line = f"MAIL FROM:<u@x.example> {parameters}".encode()
    assert parse(line, ESMTP) == mail("u", "x.example", PARAMETERS[parameters])


SIZE_SYNTAX, BODY_SYNTAX = "501 5.5.4 Syntax: SIZE=octets", "501 5.5.4 Syntax: BODY=7BIT or BODY=8BITMIME"

BAD_PARAMETERS = {
    "RET=HDRS": "555 5.5.4 MAIL parameter not recognized: RET",
    "ENVID=QQ314159": "555 5.5.4 MAIL parameter not recognized: ENVID",
    "AUTH=<>": "555 5.5.4 MAIL parameter not recognized: AUTH",
    "PIPELINING": "555 5.5.4 MAIL parameter not recognized: PIPELINING",
    "8BITMIME": "555 5.5.4 MAIL parameter not recognized: 8BITMIME",
    "X": "555 5.5.4 MAIL parameter not recognized: X",
    f"{'X' * 100}=1": f"555 5.5.4 MAIL parameter not recognized: {'X' * 60}",
    "SIZE": SIZE_SYNTAX,
    "SIZE=": "501 5.5.4 Bad parameter syntax: SIZE=",
    "SIZE=-1": SIZE_SYNTAX,
    "SIZE=+1": SIZE_SYNTAX,
    "SIZE=1e3": SIZE_SYNTAX,
    "SIZE=1_000": SIZE_SYNTAX,
    "SIZE=ten": SIZE_SYNTAX,
    "SIZE=100000000000000000000": SIZE_SYNTAX,
    f"SIZE={'9' * 1500}": SIZE_SYNTAX,
    "SIZE=1=2": "501 5.5.4 Bad parameter syntax: SIZE=1=2",
    "BODY": BODY_SYNTAX,
    "BODY=": "501 5.5.4 Bad parameter syntax: BODY=",
    "BODY=BINARYMIME": BODY_SYNTAX,
    "BODY=8BIT": BODY_SYNTAX,
    "SMTPUTF8=1": "501 5.5.4 SMTPUTF8 takes no value",
    "SMTPUTF8=": "501 5.5.4 Bad parameter syntax: SMTPUTF8=",
    "PRDR=yes": "501 5.5.4 PRDR takes no value",
    "SIZE=1 SIZE=1": "501 5.5.4 Parameter given twice: SIZE",
    "SIZE=1 size=2": "501 5.5.4 Parameter given twice: size",
    "PRDR BODY=7BIT PRDR": "501 5.5.4 Parameter given twice: PRDR",
    "=": "501 5.5.4 Bad parameter syntax: =",
    "=1": "501 5.5.4 Bad parameter syntax: =1",
    "-X": "501 5.5.4 Bad parameter syntax: -X",
    "SI_ZE=1": "501 5.5.4 Bad parameter syntax: SI_ZE=1",
    "<v@x.example>": "501 5.5.4 Bad parameter syntax: <v@x.example>",
    "S\u0131ZE=1": "501 5.5.4 Bad parameter syntax: S\u0131ZE=1",
    "SIZE=\u0661": "501 5.5.4 Bad parameter syntax: SIZE=\u0661",
    "SIZE=1\u00a0PRDR": "501 5.5.4 Bad parameter syntax: SIZE=1\u00a0PRDR",  # a no-break space is no space
    "\u3000PRDR": "501 5.5.4 Bad parameter syntax: \u3000PRDR",
}


@pytest.mark.parametrize("parameters", BAD_PARAMETERS)
def test_bad_parameters(parameters: str) -> None:
    assert refusal(f"MAIL FROM:<u@x.example> {parameters}".encode()) == BAD_PARAMETERS[parameters]


@pytest.mark.parametrize(
    ("parameter", "extension"),
    [
        ("SIZE=1", Extension.SIZE),
        ("BODY=7BIT", Extension.EIGHTBITMIME),
        ("SMTPUTF8", Extension.SMTPUTF8),
        ("PRDR", Extension.PRDR),
    ],
)
def test_what_is_not_offered_is_not_known(parameter: str, extension: Extension) -> None:
    line = f"MAIL FROM:<u@x.example> {parameter}".encode()
    assert isinstance(parse(line, Dialect((extension,))), Mail)
    others = tuple(other for other in Extension if other is not extension)
    for dialect in (PLAIN, Dialect(others)):
        wanted = f"555 5.5.4 MAIL parameter not recognized: {parameter.partition('=')[0]}"
        assert refusal(line, dialect) == wanted


RCPT_PARAMETERS = {
    "NOTIFY=SUCCESS": "555 5.5.4 RCPT parameter not recognized: NOTIFY=SUCCESS",
    "ORCPT=rfc822;u@x.example": "555 5.5.4 RCPT parameter not recognized: ORCPT=rfc822;u@x.example",
    "SIZE=1": "555 5.5.4 RCPT parameter not recognized: SIZE=1",
    "X": "555 5.5.4 RCPT parameter not recognized: X",
    "X" * 100: f"555 5.5.4 RCPT parameter not recognized: {'X' * 60}",
}


@pytest.mark.parametrize("parameters", RCPT_PARAMETERS)
@pytest.mark.parametrize("path", ["<u@x.example>", "<Postmaster>"])
def test_rcpt_takes_no_parameters(path: str, parameters: str) -> None:
    assert refusal(f"RCPT TO:{path} {parameters}".encode()) == RCPT_PARAMETERS[parameters]


# Anything

_WORDS = st.one_of(
    st.sampled_from(
        ("MAIL FROM:", "RCPT TO:", "EHLO", "DATA", "postmaster", "x.example", "SIZE=", "SMTPUTF8", "IPv6:")
    ),
    st.sampled_from('<>"\\@[]:,.u 1%-\u00fc'),
)


@no_deadline
@given(st.one_of(st.binary(), st.text().map(str.encode), st.lists(_WORDS).map("".join).map(str.encode)))
def test_any_line_is_a_command_or_a_refusal(line: bytes) -> None:
    for dialect in (ESMTP, UTF8, PLAIN):
        try:
            found = parse(line, dialect)
        except BadCommand:
            continue
        # What is taken can be said again as it is, and is the same.
        match found:
            case Rcpt(mailbox):
                assert parse(f"RCPT TO:<{mailbox}>".encode(), dialect) == found
            case Mail(Mailbox() as mailbox):
                again = parse(f"MAIL FROM:<{mailbox}> SMTPUTF8".encode(), ESMTP)
                assert again == Mail(mailbox, MailParameters(smtputf8=True))


@pytest.mark.parametrize(
    "line",
    [
        b"RCPT TO:<" + b'"' * MAX_LINE,
        b"RCPT TO:<" + b'"\\' * MAX_LINE,
        b"RCPT TO:<" + b"a-" * MAX_LINE + b"!>",
        b"RCPT TO:<u@" + b"a-" * MAX_LINE + b"!>",
        b"RCPT TO:<u@" + b"a." * MAX_LINE + b"!>",
        b"RCPT TO:<" + b"@a," * MAX_LINE + b"!>",
        b"RCPT TO:<" + b"@a-a" * MAX_LINE + b"!>",
        b"RCPT TO:<" + b">" * MAX_LINE,
        b"RCPT TO:" + b"<" * MAX_LINE,
        b"MAIL FROM:<>" + b" SIZE=1" * MAX_LINE,
    ],
)
def test_no_line_takes_long(line: bytes) -> None:
    """A pattern that backtracks without end would hang here (and in the gateway, all its sessions)."""
    refusal(line[:MAX_LINE])
