"""The grammar of commands: verbs, paths and ESMTP parameters (RFC 5321 section 4.1), with the RFC beside each rule.

Where we are more lenient than the RFC it is because mail in the wild is, and because a gateway that hands an
address on as it came harms nobody by it; each such place says so.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from mailgate.protocol.reply import Reply, reply

MAX_LINE = 2048
"""octets of a command line: RFC 5321 section 4.5.3.1.4 says 512, its extensions add some, long addresses more"""


class Verb(enum.Enum):
    """What a slot is for: a command, or one of the two moments when the server speaks unasked."""

    GREETING = "greeting"
    HELO = "HELO"
    EHLO = "EHLO"
    LHLO = "LHLO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "end of data"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    HELP = "HELP"
    QUIT = "QUIT"


HELLOS = (Verb.HELO, Verb.EHLO, Verb.LHLO)

_COMMANDS = {verb.value: verb for verb in Verb if verb not in (Verb.GREETING, Verb.DOT)}
_UNIMPLEMENTED = frozenset({"EXPN", "TURN", "ETRN", "AUTH", "STARTTLS", "BDAT", "SEND", "SOML", "SAML"})


class Extension(enum.Enum):
    """What a server may offer in reply to EHLO or LHLO, as far as we know it."""

    PIPELINING = "PIPELINING"  # RFC 2920
    SIZE = "SIZE"  # RFC 1870
    EIGHTBITMIME = "8BITMIME"  # RFC 6152
    SMTPUTF8 = "SMTPUTF8"  # RFC 6531
    ENHANCEDSTATUSCODES = "ENHANCEDSTATUSCODES"  # RFC 2034
    PRDR = "PRDR"  # draft-hall-prdr


class BadCommand(Exception):
    """A command that gets its reply from the grammar alone."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply: Reply = reply(code, enhanced, text)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A local part as it was written, quotes included, and a domain; `<Postmaster>` alone has the domain ""."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local


ReversePath = Mailbox | None
"""Whom to tell of failures; None is the null reverse-path `<>` (RFC 5321 section 4.5.5)."""


class Body(enum.Enum):
    """RFC 6152."""

    SEVENBIT = "7BIT"
    EIGHTBITMIME = "8BITMIME"


@dataclass(frozen=True, slots=True)
class MailParameters:
    """The ESMTP parameters of MAIL that we know."""

    size: int | None = None
    body: Body | None = None
    smtputf8: bool = False
    prdr: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """HELO, EHLO or LHLO and the name the client gave."""

    verb: Verb
    name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM."""

    reverse_path: ReversePath
    parameters: MailParameters


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Other:
    """A command whose argument means nothing to us."""

    verb: Verb


Command = Hello | Mail | Rcpt | Other


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the grammar depends on: the extensions in force, and whether this transaction asked for SMTPUTF8."""

    extensions: Collection[Extension]
    smtputf8: bool = False


# RFC 5321 section 4.1.2. A local part may also have dots in a row or at its ends: some large providers gave
# out such addresses, and what we hand on is for the next hop to judge. \u0080- is RFC 6531 section 3.3.
_LOCAL = r"""[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\u0080-\U0010ffff]+|"(?:[\x20!#-\[\]-~\u0080-\U0010ffff]|\\[\x20-~])*\""""
# An underscore is no host name but is in use; the DNS takes it.
_LABEL = r"[A-Za-z0-9_\u0080-\U0010ffff](?:[A-Za-z0-9_\-\u0080-\U0010ffff]*[A-Za-z0-9_\u0080-\U0010ffff])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_MAILBOX = re.compile(rf"(?P<local>{_LOCAL})@(?P<domain>{_DOMAIN}|{_LITERAL})")
# RFC 5321 appendix C: a source route is accepted and ignored.
_ROUTE = re.compile(rf"@(?:{_DOMAIN}|{_LITERAL})(?:,@(?:{_DOMAIN}|{_LITERAL}))*:")
# The path ends at the first `>` outside of a quoted string.
_PATH = re.compile(r'<(?P<path>(?:"(?:\\.|[^"\\])*"|[^">])*)>(?P<rest>.*)', re.DOTALL)
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]*")
_VALUE = re.compile(r"[!-<>-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse(line: bytes, dialect: Dialect) -> Command:
    """One command line, without its line end. Raises BadCommand."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise BadCommand(500, "5.5.2", "Syntax error: neither ASCII nor UTF-8") from None
    if _CONTROL.search(text):
        raise BadCommand(500, "5.5.2", "Syntax error: control character in a command")
    word, _, argument = text.partition(" ")
    # Not upper() alone: it would make an "I" of a dotless one.
    verb = _COMMANDS.get(word.upper()) if word.isascii() else None
    if verb is None:
        if word.upper() in _UNIMPLEMENTED:
            raise BadCommand(502, "5.5.1", "Command not implemented")
        raise BadCommand(500, "5.5.1", "Command unrecognized")
    return _PARSERS[verb](verb, argument.strip(" "), dialect)


def _hello(verb: Verb, argument: str, dialect: Dialect) -> Command:
    # Clients give all sorts of names, and RFC 5321 section 4.1.4 forbids refusing mail for a wrong one.
    if not argument:
        raise BadCommand(501, "5.5.4", f"Syntax: {verb.value} hostname")
    if not argument.isascii() or " " in argument:
        raise BadCommand(501, "5.5.4", f"Syntax: {verb.value} hostname, in ASCII and without spaces")
    return Hello(verb, argument)


def _mail(verb: Verb, argument: str, dialect: Dialect) -> Command:
    path, rest = _split("FROM:", argument, "5.1.7")
    parameters = _parameters(rest, dialect)
    reverse_path = _mailbox(path, "5.1.7", utf8=parameters.smtputf8) if path else None
    return Mail(reverse_path, parameters)


def _rcpt(verb: Verb, argument: str, dialect: Dialect) -> Command:
    path, rest = _split("TO:", argument, "5.1.3")
    for word in _words(rest):
        raise BadCommand(555, "5.5.4", f"RCPT parameter not recognized: {word[:60]}")
    if path.lower() == "postmaster":  # RFC 5321 section 4.1.1.3
        return Rcpt(Mailbox(path, ""))
    return Rcpt(_mailbox(path, "5.1.3", utf8=dialect.smtputf8))


def _bare(verb: Verb, argument: str, dialect: Dialect) -> Command:
    if argument:
        raise BadCommand(501, "5.5.4", f"{verb.value} takes no argument")
    return Other(verb)


def _loose(verb: Verb, argument: str, dialect: Dialect) -> Command:
    return Other(verb)


def _vrfy(verb: Verb, argument: str, dialect: Dialect) -> Command:
    if not argument:
        raise BadCommand(501, "5.5.4", "Syntax: VRFY address")
    return Other(verb)


_PARSERS: dict[Verb, Callable[[Verb, str, Dialect], Command]] = {
    Verb.HELO: _hello,
    Verb.EHLO: _hello,
    Verb.LHLO: _hello,
    Verb.MAIL: _mail,
    Verb.RCPT: _rcpt,
    Verb.DATA: _bare,
    Verb.RSET: _bare,
    Verb.QUIT: _bare,
    Verb.NOOP: _loose,  # RFC 5321 section 4.1.1.9: its argument is ignored
    Verb.HELP: _loose,
    Verb.VRFY: _vrfy,
}


def _split(keyword: str, argument: str, enhanced: str) -> tuple[str, str]:
    """`FROM:<path> rest` → path, rest. A space behind the colon is wrong but common."""
    found = None
    if argument[: len(keyword)].upper() == keyword:
        found = _PATH.fullmatch(argument[len(keyword) :].lstrip(" "))
    if found is None or (found["rest"] and not found["rest"].startswith(" ")):
        raise BadCommand(501, enhanced, f"Syntax: {keyword}<address>")
    return found["path"], found["rest"]


def _words(rest: str) -> list[str]:
    """Only U+0020 parts words: str.split() alone would take a no-break space, too."""
    return [word for word in rest.split(" ") if word]


def _mailbox(path: str, enhanced: str, *, utf8: bool) -> Mailbox:
    route = _ROUTE.match(path)
    found = _MAILBOX.fullmatch(path, route.end() if route else 0)
    if found is None:
        raise BadCommand(501, enhanced, "Bad address syntax: want <local-part@domain>")
    if not path.isascii() and not utf8:
        raise BadCommand(553, "5.6.7", "Non-ASCII address without SMTPUTF8 (RFC 6531)")
    domain = found["domain"]
    if len(domain.encode()) > 255:  # RFC 5321 section 4.5.3.1.2
        raise BadCommand(501, enhanced, "Bad address syntax: the domain exceeds 255 octets")
    if domain.startswith("["):
        _check_literal(domain[1:-1], enhanced)
    return Mailbox(found["local"], domain)


def _check_literal(literal: str, enhanced: str) -> None:
    """RFC 5321 section 4.1.3; general address literals have never been registered."""
    version, text = (6, literal[5:]) if literal[:5].upper() == "IPV6:" else (4, literal)
    try:
        if ipaddress.ip_address(text).version != version or "%" in text:  # "%" names a zone of one machine
            raise ValueError(text)
    except ValueError:
        raise BadCommand(501, enhanced, "Bad address literal") from None


def _parameters(rest: str, dialect: Dialect) -> MailParameters:
    parameters = MailParameters()
    seen: list[str] = []
    for word in _words(rest):
        keyword, equals, value = word.partition("=")
        known = _PARAMETERS.get(keyword.upper())
        if not _KEYWORD.fullmatch(keyword) or (equals and not _VALUE.fullmatch(value)):
            raise BadCommand(501, "5.5.4", f"Bad parameter syntax: {word[:60]}")
        if known is None or known[0] not in dialect.extensions:
            raise BadCommand(555, "5.5.4", f"MAIL parameter not recognized: {keyword[:60]}")
        if keyword.upper() in seen:
            raise BadCommand(501, "5.5.4", f"Parameter given twice: {keyword}")
        seen.append(keyword.upper())
        parameters = known[1](parameters, value)
    return parameters


def _size(parameters: MailParameters, value: str) -> MailParameters:
    if not (value.isascii() and value.isdigit() and len(value) <= 20):  # RFC 1870 section 4
        raise BadCommand(501, "5.5.4", "Syntax: SIZE=octets")
    return replace(parameters, size=int(value))


def _body(parameters: MailParameters, value: str) -> MailParameters:
    try:
        return replace(parameters, body=Body(value.upper()))
    except ValueError:
        raise BadCommand(501, "5.5.4", "Syntax: BODY=7BIT or BODY=8BITMIME") from None


def _smtputf8(parameters: MailParameters, value: str) -> MailParameters:
    if value:
        raise BadCommand(501, "5.5.4", "SMTPUTF8 takes no value")
    return replace(parameters, smtputf8=True)


def _prdr(parameters: MailParameters, value: str) -> MailParameters:
    if value:
        raise BadCommand(501, "5.5.4", "PRDR takes no value")
    return replace(parameters, prdr=True)


_PARAMETERS: dict[str, tuple[Extension, Callable[[MailParameters, str], MailParameters]]] = {
    "SIZE": (Extension.SIZE, _size),
    "BODY": (Extension.EIGHTBITMIME, _body),
    "SMTPUTF8": (Extension.SMTPUTF8, _smtputf8),
    "PRDR": (Extension.PRDR, _prdr),
}
