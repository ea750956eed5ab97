"""The grammar of commands: verbs and paths."""

from __future__ import annotations

import pytest
from grammar import ADDRESS, ESMTP, PLAIN, SYNTAX, mail, rcpt, refusal

from mailgate.protocol.command import (
    Command,
    Hello,
    Mail,
    Mailbox,
    MailParameters,
    Other,
    Rcpt,
    Verb,
    parse,
)

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
