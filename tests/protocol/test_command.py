"""The grammar of commands: what each line is, or what is wrong with it."""

from __future__ import annotations

import pytest
from feeding import no_deadline
from hypothesis import given
from hypothesis import strategies as st

from mailgate.protocol.command import (
    MAX_LINE,
    BadCommand,
    Body,
    Command,
    Dialect,
    Extension,
    Hello,
    Mail,
    Mailbox,
    MailParameters,
    Other,
    Rcpt,
    Verb,
    parse,
)

ESMTP = Dialect(tuple(Extension))
UTF8 = Dialect(tuple(Extension), smtputf8=True)
PLAIN = Dialect(())


def mail(local: str, domain: str, parameters: MailParameters | None = None) -> Mail:
    return Mail(Mailbox(local, domain), parameters or MailParameters())


def rcpt(local: str, domain: str) -> Rcpt:
    return Rcpt(Mailbox(local, domain))


# Every verb

VERBS: dict[str, Command] = {
    "HELO mx.example": Hello(Verb.HELO, "mx.example"),
    "EHLO mx.example": Hello(Verb.EHLO, "mx.example"),
    "LHLO mx.example": Hello(Verb.LHLO, "mx.example"),
    "EHLO [192.0.2.1]": Hello(Verb.EHLO, "[192.0.2.1]"),
    "EHLO [IPv6:2001:db8::1]": Hello(Verb.EHLO, "[IPv6:2001:db8::1]"),
    "EHLO what_ever-(it)-is": Hello(Verb.EHLO, "what_ever-(it)-is"),
    "EHLO   mx.example  ": Hello(Verb.EHLO, "mx.example"),
    "MAIL FROM:<u@x.example>": mail("u", "x.example"),
    "RCPT TO:<u@x.example>": rcpt("u", "x.example"),
    "DATA": Other(Verb.DATA),
    "DATA ": Other(Verb.DATA),
    "RSET": Other(Verb.RSET),
    "RSET  ": Other(Verb.RSET),
    "NOOP": Other(Verb.NOOP),
    "NOOP whatever <this> is": Other(Verb.NOOP),
    "VRFY u": Other(Verb.VRFY),
    "VRFY <u@x.example>": Other(Verb.VRFY),
    "HELP": Other(Verb.HELP),
    "HELP me, please": Other(Verb.HELP),
    "QUIT": Other(Verb.QUIT),
    "QUIT ": Other(Verb.QUIT),
    "qUiT": Other(Verb.QUIT),
    "mail from:<u@x.example>": mail("u", "x.example"),
    "rcpt To:<u@x.example>": rcpt("u", "x.example"),
    "Ehlo mx.example": Hello(Verb.EHLO, "mx.example"),
}


@pytest.mark.parametrize("line", VERBS)
def test_verbs(line: str) -> None:
    assert parse(line.encode(), ESMTP) == VERBS[line]


REFUSED_VERBS = {
    "": "500 5.5.1 Command unrecognized",
    " ": "500 5.5.1 Command unrecognized",
    "  QUIT": "500 5.5.1 Command unrecognized",
    "QUIT!": "500 5.5.1 Command unrecognized",
    "MAILFROM:<u@x.example>": "500 5.5.1 Command unrecognized",
    "GET / HTTP/1.1": "500 5.5.1 Command unrecognized",
    "Host: mx.example": "500 5.5.1 Command unrecognized",
    ".": "500 5.5.1 Command unrecognized",
    "greeting": "500 5.5.1 Command unrecognized",
    "GREETING": "500 5.5.1 Command unrecognized",
    "END OF DATA": "500 5.5.1 Command unrecognized",
    "XCLIENT ADDR=192.0.2.1": "500 5.5.1 Command unrecognized",
    "MA\u0131L FROM:<>": "500 5.5.1 Command unrecognized",  # dotless i, whose upper case is I
    "R\u017fET": "500 5.5.1 Command unrecognized",  # long s, whose upper case is S
    "EXPN list": "502 5.5.1 Command not implemented",
    "TURN": "502 5.5.1 Command not implemented",
    "ETRN x.example": "502 5.5.1 Command not implemented",
    "AUTH PLAIN": "502 5.5.1 Command not implemented",
    "STARTTLS": "502 5.5.1 Command not implemented",
    "starttls": "502 5.5.1 Command not implemented",
    "BDAT 10 LAST": "502 5.5.1 Command not implemented",
    "SEND FROM:<u@x.example>": "502 5.5.1 Command not implemented",
    "SOML FROM:<u@x.example>": "502 5.5.1 Command not implemented",
    "SAML FROM:<u@x.example>": "502 5.5.1 Command not implemented",
    "HELO": "501 5.5.4 Syntax: HELO hostname",
    "EHLO ": "501 5.5.4 Syntax: EHLO hostname",
    "LHLO": "501 5.5.4 Syntax: LHLO hostname",
    "EHLO two words": "501 5.5.4 Syntax: EHLO hostname, in ASCII and without spaces",
    "EHLO b\u00fccher.example": "501 5.5.4 Syntax: EHLO hostname, in ASCII and without spaces",
    "DATA now": "501 5.5.4 DATA takes no argument",
    "RSET now": "501 5.5.4 RSET takes no argument",
    "QUIT now": "501 5.5.4 QUIT takes no argument",
    "VRFY": "501 5.5.4 Syntax: VRFY address",
}


def refusal(line: bytes, dialect: Dialect = ESMTP) -> str:
    with pytest.raises(BadCommand) as raised:
        parse(line, dialect)
    return str(raised.value.reply)


@pytest.mark.parametrize("line", REFUSED_VERBS)
def test_refused_verbs(line: str) -> None:
    assert refusal(line.encode()) == REFUSED_VERBS[line]


CONTROL = "500 5.5.2 Syntax error: control character in a command"
NOT_TEXT = "500 5.5.2 Syntax error: neither ASCII nor UTF-8"

OCTETS: dict[str, tuple[bytes, str]] = {
    **{
        f"control {octet:#04x} in {name}": (before + bytes([octet]) + after, CONTROL)
        for octet in (0x00, 0x07, 0x09, 0x0B, 0x0D, 0x1B, 0x1F, 0x7F)
        for name, before, after in (
            ("a verb", b"QU", b"IT"),
            ("an argument", b"NOOP a", b"b"),
            ("a path", b"MAIL FROM:<u", b"@x.example>"),
            ("a quoted local part", b'RCPT TO:<"a', b'b"@x.example>'),
            ("an end", b"QUIT", b""),
        )
    },
    "Latin-1": (b"MAIL FROM:<b\xfcro@x.example>", NOT_TEXT),
    "8 bits alone": (b"\x80", NOT_TEXT),
    "UTF-8 cut short": (b"NOOP \xc3", NOT_TEXT),
    "UTF-8 too long": (b"NOOP \xc0\xaf", NOT_TEXT),
    "UTF-8 surrogate": (b"NOOP \xed\xa0\x80", NOT_TEXT),
    "UTF-8 beyond Unicode": (b"NOOP \xf4\x90\x80\x80", NOT_TEXT),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", NOT_TEXT),
}


@pytest.mark.parametrize(("line", "wanted"), OCTETS.values(), ids=OCTETS.keys())
def test_octets_that_no_command_may_have(line: bytes, wanted: str) -> None:
    assert refusal(line) == wanted


# Paths

PATHS: dict[str, Mailbox] = {
    "<u@x.example>": Mailbox("u", "x.example"),
    "<U@X.Example>": Mailbox("U", "X.Example"),
    " <u@x.example>": Mailbox("u", "x.example"),
    "   <u@x.example>": Mailbox("u", "x.example"),
    "<u@x.example> ": Mailbox("u", "x.example"),
    "<u@localhost>": Mailbox("u", "localhost"),
    "<u@x>": Mailbox("u", "x"),
    "<u@1.2.3>": Mailbox("u", "1.2.3"),
    "<u@x_y.example>": Mailbox("u", "x_y.example"),
    "<u@xn--bcher-kva.example>": Mailbox("u", "xn--bcher-kva.example"),
    "<u@a--b.example>": Mailbox("u", "a--b.example"),
    "<a.b+c=d@x.example>": Mailbox("a.b+c=d", "x.example"),
    "<!#$%&'*+-/=?^_`{|}~@x.example>": Mailbox("!#$%&'*+-/=?^_`{|}~", "x.example"),
    "<.a..b.@x.example>": Mailbox(".a..b.", "x.example"),
    '<"a b"@x.example>': Mailbox('"a b"', "x.example"),
    '<"a>b"@x.example>': Mailbox('"a>b"', "x.example"),
    '<"<>"@x.example>': Mailbox('"<>"', "x.example"),
    '<"a@b"@x.example>': Mailbox('"a@b"', "x.example"),
    r'<"a\"b"@x.example>': Mailbox(r'"a\"b"', "x.example"),
    r'<"a\\"@x.example>': Mailbox(r'"a\\"', "x.example"),
    r'<"a\">"@x.example>': Mailbox(r'"a\">"', "x.example"),
    '<""@x.example>': Mailbox('""', "x.example"),
    '<" "@x.example>': Mailbox('" "', "x.example"),
    '<"@a:b"@x.example>': Mailbox('"@a:b"', "x.example"),
    "<u@[192.0.2.1]>": Mailbox("u", "[192.0.2.1]"),
    "<u@[IPv6:2001:db8::1]>": Mailbox("u", "[IPv6:2001:db8::1]"),
    "<u@[ipv6:2001:DB8::1]>": Mailbox("u", "[ipv6:2001:DB8::1]"),
    "<u@[IPv6:::ffff:192.0.2.1]>": Mailbox("u", "[IPv6:::ffff:192.0.2.1]"),
    "<@a.example:u@x.example>": Mailbox("u", "x.example"),
    "<@a.example,@b.example:u@x.example>": Mailbox("u", "x.example"),
    "<@[192.0.2.1]:u@x.example>": Mailbox("u", "x.example"),
    '<@a.example:"@b:c"@x.example>': Mailbox('"@b:c"', "x.example"),
    f"<{'u' * 200}@x.example>": Mailbox("u" * 200, "x.example"),
    f"<u@{'a.' * 127}a>": Mailbox("u", "a." * 127 + "a"),
}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path: str) -> None:
    assert parse(f"RCPT TO:{path}".encode(), ESMTP) == Rcpt(PATHS[path])
    assert parse(f"MAIL FROM:{path}".encode(), PLAIN) == Mail(PATHS[path], MailParameters())


def test_what_was_written_is_what_is_sent_on() -> None:
    for path, mailbox in PATHS.items():
        assert f"{mailbox}>" in path


SYNTAX, ADDRESS = "Syntax: {keyword}<address>", "Bad address syntax: want <local-part@domain>"

BAD_PATHS = {
    "": SYNTAX,
    "u@x.example": SYNTAX,
    "<u@x.example": SYNTAX,
    "u@x.example>": SYNTAX,
    "<u@x.example>>": SYNTAX,
    "<u@x.example>SIZE=10": SYNTAX,
    "<u@x.example>,<v@x.example>": SYNTAX,
    "Some Body <u@x.example>": SYNTAX,
    '<"u@x.example>': SYNTAX,
    r'<"u\"@x.example>': SYNTAX,
    '<u"@x.example>': SYNTAX,
    "<u>": ADDRESS,
    "< >": ADDRESS,
    "< u@x.example>": ADDRESS,
    "<u@x.example >": ADDRESS,
    "<u @x.example>": ADDRESS,
    "<u@>": ADDRESS,
    "<@x.example>": ADDRESS,
    "<u@@x.example>": ADDRESS,
    "<u@x@y.example>": ADDRESS,
    "<u@.example>": ADDRESS,
    "<u@x..example>": ADDRESS,
    "<u@x.example.>": ADDRESS,
    "<u@-x.example>": ADDRESS,
    "<u@x-.example>": ADDRESS,
    "<u@x!y>": ADDRESS,
    "<u@x:y>": ADDRESS,
    "<u(comment)@x.example>": ADDRESS,
    "<u,v@x.example>": ADDRESS,
    "<u;v@x.example>": ADDRESS,
    "<<u@x.example>": ADDRESS,
    r"<a\@b@x.example>": ADDRESS,
    '<"u"v@x.example>': ADDRESS,
    '<u."v"@x.example>': ADDRESS,
    "<u@[]>": ADDRESS,
    "<u@[192.0.2.1>": ADDRESS,
    "<u@192.0.2.1]>": ADDRESS,
    "<u@[192.0.2.1].example>": ADDRESS,
    "<@a.example>": ADDRESS,
    "<@a.example:>": ADDRESS,
    "<@a.example u@x.example>": ADDRESS,
    "<@:u@x.example>": ADDRESS,
    "<@a.example,b.example:u@x.example>": ADDRESS,
    "<u@[192.0.2]>": "Bad address literal",
    "<u@[192.0.2.256]>": "Bad address literal",
    "<u@[2001:db8::1]>": "Bad address literal",
    "<u@[IPv6:192.0.2.1]>": "Bad address literal",
    "<u@[IPv6:2001:db8::1::]>": "Bad address literal",
    "<u@[IPv6:fe80::1%eth0]>": "Bad address literal",
    "<u@[mx.example]>": "Bad address literal",
    "<u@[x-new:whatever]>": "Bad address literal",
    f"<u@{'a.' * 127}aa>": "Bad address syntax: the domain exceeds 255 octets",
}


@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize(
    ("command", "enhanced"), [("MAIL FROM:", "5.1.7"), ("RCPT TO:", "5.1.3")], ids=["MAIL", "RCPT"]
)
def test_bad_paths(command: str, enhanced: str, path: str) -> None:
    text = BAD_PATHS[path].format(keyword=command.partition(" ")[2])
    assert refusal(f"{command}{path}".encode()) == f"501 {enhanced} {text}"


SPECIAL: dict[str, Command | str] = {
    "MAIL FROM:<>": Mail(None, MailParameters()),
    "MAIL FROM: <>": Mail(None, MailParameters()),
    "MAIL FROM:<> SIZE=10": Mail(None, MailParameters(size=10)),
    "RCPT TO:<>": f"501 5.1.3 {ADDRESS}",
    "RCPT TO:<Postmaster>": rcpt("Postmaster", ""),
    "RCPT TO:<postmaster>": rcpt("postmaster", ""),
    "RCPT TO:<POSTMASTER>": rcpt("POSTMASTER", ""),
    "RCPT TO:<Postmaster@x.example>": rcpt("Postmaster", "x.example"),
    'RCPT TO:<"Postmaster">': f"501 5.1.3 {ADDRESS}",
    "RCPT TO:<Postmaster@>": f"501 5.1.3 {ADDRESS}",
    "MAIL FROM:<Postmaster>": f"501 5.1.7 {ADDRESS}",
    "MAIL": "501 5.1.7 Syntax: FROM:<address>",
    "MAIL <u@x.example>": "501 5.1.7 Syntax: FROM:<address>",
    "MAIL TO:<u@x.example>": "501 5.1.7 Syntax: FROM:<address>",
    "MAIL FROM <u@x.example>": "501 5.1.7 Syntax: FROM:<address>",
    "MAIL FROM :<u@x.example>": "501 5.1.7 Syntax: FROM:<address>",
    "RCPT": "501 5.1.3 Syntax: TO:<address>",
    "RCPT FROM:<u@x.example>": "501 5.1.3 Syntax: TO:<address>",
    "MAIL   FROM:<u@x.example>": mail("u", "x.example"),
}


@pytest.mark.parametrize("line", SPECIAL)
def test_special_paths(line: str) -> None:
    wanted = SPECIAL[line]
    if isinstance(wanted, str):
        assert refusal(line.encode()) == wanted
    else:
        assert parse(line.encode(), ESMTP) == wanted


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
