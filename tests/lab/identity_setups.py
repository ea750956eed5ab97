"""The set-ups whose retries are compared: what is unlike the lab's usual configuration, and what is sent through it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from dataclasses import dataclass

from lab.mta import CONFIGS, File, Mta, Role
from lab.mtas import EXIM, OPENSMTPD, POSTFIX, SENDMAIL
from lab.roots import Root
from mailgate.testing import EXTENSIONS, Speaks

_EXTRAS = {
    "Postfix": Root("identity-postfix", ("postfix", "opendkim", "opendkim-tools", "postsrsd", "libfaketime")),
    "Exim": Root("identity-exim", ("exim4-daemon-heavy", "openssl", "libfaketime")),
    "sendmail": Root(
        "identity-sendmail",
        ("sendmail-bin", "sendmail-cf", "m4", "procmail", "opendkim", "opendkim-tools", "openssl", "libfaketime"),
    ),
    "OpenSMTPD": OPENSMTPD.root,
}
"""by the name of a server: a root that has what its set-ups need beside it"""

ROOTS = (*_EXTRAS.values(), Root("knot", ("knot",)))

_DATE = "Date: Wed, 01 Jul 2026 12:00:00 +0000\r\nMessage-ID: <one@gamma.example>\r\n"
_TEXT = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
_PARTS = (
    "--=_edge\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
    "--=_edge\r\nContent-Type: text/plain\r\n\r\nGreetings\r\n--=_edge--\r\n"
)


class Letter(enum.Enum):
    """What is sent: the header behind From, To and Subject, and the body."""

    PLAIN = (_DATE, "A line.\r\n.\r\n..two dots, and spaces  \r\n")
    BARE = ("", "Whoever takes it gives it a date and a name.\r\n")
    EIGHT_BIT = (f"{_DATE}MIME-Version: 1.0\r\n{_TEXT}", "Grüße\r\n")
    PARTS = (f'{_DATE}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_edge"\r\n', f"\r\n{_PARTS}")
    LONG = (_DATE, "x" * 3000 + "\r\n")
    INTERNATIONAL = (_DATE, "Greetings\r\n")
    """with a header in UTF-8"""

    def content(self, sender: str, to: str) -> str:
        """The octets, each as a character."""
        header, body = self.value
        subject = "Grüße" if self is Letter.INTERNATIONAL else "one"
        text = f"From: Ann <{sender}>\r\nTo: Bob <{to}>\r\nSubject: {subject}\r\n{header}\r\n{body}"
        return text.encode().decode("latin-1")

    @property
    def options(self) -> tuple[str, ...]:
        """The parameters of MAIL that it needs."""
        if self is Letter.INTERNATIONAL:
            return ("BODY=8BITMIME", "SMTPUTF8")
        return ("BODY=8BITMIME",) if self in (Letter.EIGHT_BIT, Letter.PARTS) else ()


@dataclass(frozen=True, slots=True)
class Setup:
    """A server, and what is done with it. All shell commands are run in its root."""

    mta: Mta
    what: str
    """for the table"""
    before: str = ""
    """commands, before the server's configuration is compiled; its files are there"""
    after: str = ""
    """the same, just before it is started"""
    files: tuple[File, ...] = ()
    inside: bool = False
    """by the recipe for a server behind mailgate; else as a server of the Internet, which sends by MX"""
    recipients: tuple[str, ...] = ("bob@example.org",)
    to: str = ""
    """whom the header names; the first recipient if empty"""
    letter: Letter = Letter.PLAIN
    options: tuple[str, ...] = ()
    """parameters of MAIL when it is handed in, beside the letter's own"""
    submit: str = ""
    """the command that takes the message on its standard input; else it comes by SMTP"""
    offers: tuple[tuple[str, ...], tuple[str, ...]] = (EXTENSIONS, EXTENSIONS)
    """by gw1, and by gw2"""
    refused: tuple[str, ...] = ()
    """recipients that gw1 always refuses at RCPT"""
    between: str = ""
    """commands, after the first round of attempts"""
    days: int = 0
    """that pass then"""
    records: tuple[str, str] = ("", "")
    """lines of the zone, at first, and after the first round"""

    @property
    def name(self) -> str:
        return f"{self.mta.name}/{self.what}"

    @property
    def role(self) -> Role:
        return Role.INSIDE if self.inside else Role.OUTSIDE

    @property
    def listens(self) -> tuple[Speaks, int]:
        """What the gateways speak, and the port."""
        if not self.inside:
            return "smtp", 25
        return ("smtp", 587) if self.mta is SENDMAIL else ("lmtp", 24)

    @property
    def server(self) -> Mta:
        """The server as it is to be run."""
        roles = {self.role: (*self.mta.roles[self.role], *self.files)}
        prepare = "\n".join((self.before, _CLOCK if self.days else "", self.mta.prepare, self.after))
        return dataclasses.replace(self.mta, root=_EXTRAS[self.mta.name], roles=roles, prepare=prepare)


_CLOCK = """
echo +0 >/etc/faketimerc
ls /usr/lib/*/faketime/libfaketime.so.1 >/etc/ld.so.preload
"""


def days_pass(days: int) -> str:
    """The command that lets days pass on a machine whose clock can be moved; nothing may run there meanwhile."""
    return f"echo +{days}d >/etc/faketimerc"


# Pieces of configurations

_OPENDKIM = (File("/etc/opendkim.conf", CONFIGS / "identity_opendkim.conf"),)
_FILTER = (File("/usr/local/bin/filter", CONFIGS / "identity_filter.sh", 0o755),)

_SIGNER = """
opendkim-genkey -b 2048 -d gamma.example -s lab -D /etc/dkimkeys
chown opendkim /etc/dkimkeys/lab.private
install -d -o opendkim /run/opendkim
opendkim -x /etc/opendkim.conf
"""

_NO_UTF8 = tuple(one for one in EXTENSIONS if one != "SMTPUTF8")
_NO_8BIT = tuple(one for one in _NO_UTF8 if one != "8BITMIME")
_OTHERWISE = (("PIPELINING", "8BITMIME", "SIZE 1000000"), ("8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"))
_THREE = tuple(f"{name}@example.org" for name in ("bob", "carol", "dave"))


def _postconf(*lines: str) -> str:
    return "\n".join(f"postconf -e '{line}'" for line in lines)


def _exim_smtp(*lines: str) -> str:
    """Options of the transport that hands over to others."""
    return _insert("/^  driver = smtp$/r", "/etc/exim4/exim4.conf", lines)


def _sendmail_mc(*lines: str) -> str:
    return _insert("/^MAILER(.local.)/e cat", "/etc/mail/sendmail.mc", lines)


def _insert(where: str, file: str, lines: tuple[str, ...]) -> str:
    text = "\n".join(lines)
    return f"cat >/tmp/more <<'END'\n{text}\nEND\nsed -i '{where} /tmp/more' {file}\n"


def _exim_dkim(key: str, *lines: str) -> str:
    made = f"openssl {key} -out /etc/exim4/dkim.pem 2>/dev/null; chmod 644 /etc/exim4/dkim.pem\n"
    options = ("dkim_domain = gamma.example", "dkim_selector = lab", "dkim_private_key = /etc/exim4/dkim.pem")
    return made + _exim_smtp(*options, *lines)


_RSA = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"
_ED25519 = "genpkey -algorithm ed25519"


def _common(mta: Mta, sendmail: str) -> Iterator[Setup]:
    """What is measured of each of them."""
    yield Setup(mta, "as installed")
    yield Setup(mta, "three recipients", recipients=_THREE)
    yield Setup(
        mta, "three recipients, of whom gw1 refuses the second at RCPT", recipients=_THREE, refused=(_THREE[1],)
    )
    yield Setup(mta, "submitted locally, without Date and Message-ID", letter=Letter.BARE, submit=sendmail)
    yield Setup(mta, "two days pass after the first attempts", days=2)
    yield Setup(mta, "as its recipe behind mailgate", inside=True, recipients=_THREE)
    yield Setup(mta, "the gateways differ in SIZE, PIPELINING, ENHANCEDSTATUSCODES", offers=_OTHERWISE)
    yield Setup(mta, "8-bit text, both gateways offer 8BITMIME", letter=Letter.EIGHT_BIT)
    yield Setup(mta, "8-bit text, no gateway offers 8BITMIME", letter=Letter.EIGHT_BIT, offers=(_NO_8BIT, _NO_8BIT))
    yield Setup(mta, "8-bit text, only gw1 offers 8BITMIME", letter=Letter.EIGHT_BIT, offers=(EXTENSIONS, _NO_8BIT))
    yield Setup(mta, "8-bit parts, no gateway offers 8BITMIME", letter=Letter.PARTS, offers=(_NO_8BIT, _NO_8BIT))
    yield Setup(mta, "8-bit parts, only gw1 offers 8BITMIME", letter=Letter.PARTS, offers=(EXTENSIONS, _NO_8BIT))


def _international(mta: Mta) -> Setup:
    what = "sender and header in UTF-8, only gw1 offers SMTPUTF8"
    return Setup(mta, what, letter=Letter.INTERNATIONAL, offers=(EXTENSIONS, _NO_UTF8))


def _long(mta: Mta) -> Setup:
    return Setup(mta, "a line of 3000 octets", letter=Letter.LONG)


def _postfix() -> Iterator[Setup]:
    yield from _common(POSTFIX, "sendmail -i -f ann@gamma.example bob@example.org")
    yield _international(POSTFIX)
    yield _long(POSTFIX)
    milter = _postconf("smtpd_milters = inet:127.0.0.1:8891", "non_smtpd_milters = $smtpd_milters")
    yield Setup(POSTFIX, "OpenDKIM as a milter", files=_OPENDKIM, after=_SIGNER + milter)
    table = "smtp_header_checks = regexp:{{/^Subject:/ PREPEND X-Sent-By: mail1}}"
    yield Setup(POSTFIX, "postsuper -r ALL after the first attempts", between="postsuper -r ALL 2>&1; sleep 1")
    yield Setup(POSTFIX, "smtp_header_checks, PREPEND", after=_postconf(table))
    generic = "smtp_generic_maps = inline:{{ann@gamma.example = a.nn@gamma.example}}"
    yield Setup(POSTFIX, "smtp_generic_maps", after=_postconf(generic))
    pipe = (
        "postconf -M 'filter/unix=filter unix - n n - 10 pipe flags=Rq user=nobody null_sender="
        " argv=/usr/local/bin/filter -f ${sender} -- ${recipient}'\n"
    )
    content_filter = "postconf -P 'smtp/inet/content_filter=filter:dummy'\n"
    yield Setup(POSTFIX, "an after-queue content_filter adds the time", files=_FILTER, after=pipe + content_filter)
    verp = _postconf("smtpd_authorized_verp_clients = 127.0.0.1")
    yield Setup(POSTFIX, "VERP", after=verp, recipients=_THREE, options=("XVERP",))
    srs = "echo secret >/etc/postsrsd.secret; postsrsd -D -dsrs.example -s/etc/postsrsd.secret -unobody\n"
    maps = ("sender_canonical_maps = tcp:localhost:10001", "sender_canonical_classes = envelope_sender")
    yield Setup(POSTFIX, "PostSRSd; two days pass", after=srs + _postconf(*maps), days=2)


def _exim() -> Iterator[Setup]:
    yield from _common(EXIM, "exim4 -i -f ann@gamma.example bob@example.org")
    yield _international(EXIM)
    yield Setup(EXIM, "headers_add, fixed", before=_exim_smtp("headers_add = X-Sent-By: mail1"))
    yield Setup(EXIM, "headers_add with $tod_full", before=_exim_smtp("headers_add = X-Sent: $tod_full"))
    warn = _insert("/^acl_check_data:$/r", "/etc/exim4/exim4.conf", ("  warn add_header = X-Came: $tod_full",))
    yield Setup(EXIM, "add_header with $tod_full in an ACL", before=warn)
    yield Setup(EXIM, "return_path_add", before=_exim_smtp("return_path_add"))
    yield Setup(EXIM, "envelope_to_add", before=_exim_smtp("envelope_to_add"))
    yield Setup(
        EXIM,
        "envelope_to_add, three recipients, of whom gw1 refuses the second",
        before=_exim_smtp("envelope_to_add"),
        recipients=_THREE,
        refused=(_THREE[1],),
    )
    yield Setup(EXIM, "delivery_date_add", before=_exim_smtp("delivery_date_add"))
    yield Setup(EXIM, "DKIM, RSA", before=_exim_dkim(_RSA))
    yield Setup(EXIM, "DKIM, RSA; two days pass", before=_exim_dkim(_RSA), days=2)
    yield Setup(EXIM, "DKIM, RSA, dkim_timestamps", before=_exim_dkim(_RSA, "dkim_timestamps = 86400"))
    yield Setup(EXIM, "DKIM, Ed25519", before=_exim_dkim(_ED25519))
    yield Setup(EXIM, "headers_rewrite", before=_exim_smtp("headers_rewrite = *@gamma.example a.$1@gamma.example f"))
    command = "transport_filter = /usr/local/bin/filter"
    yield Setup(EXIM, "a transport_filter adds the time", files=_FILTER, before=_exim_smtp(command))
    prvs = _exim_smtp("return_path = ${prvs{$return_path}{secret}}")
    yield Setup(EXIM, "BATV, return_path = ${prvs…}, on one day", before=prvs)
    yield Setup(EXIM, "BATV, return_path = ${prvs…}; two days pass", before=prvs, days=2)
    srs = _exim_smtp("return_path = ${srs_encode {secret} {$return_path} {srs.example}}")
    yield Setup(EXIM, "SRS, return_path = ${srs_encode…}, on one day", before=srs)
    yield Setup(EXIM, "SRS, return_path = ${srs_encode…}; two days pass", before=srs, days=2)
    verp = _exim_smtp("max_rcpt = 1", "return_path = ann+$local_part=$domain@gamma.example")
    yield Setup(EXIM, "VERP", before=verp, recipients=_THREE)


def _sendmail() -> Iterator[Setup]:
    yield from _common(SENDMAIL, "sendmail-mta -Am -i -f ann@gamma.example bob@example.org")
    yield _long(SENDMAIL)
    milter = _sendmail_mc("INPUT_MAIL_FILTER(`opendkim', `S=inet:8891@127.0.0.1')dnl")
    yield Setup(SENDMAIL, "OpenDKIM as a milter", files=_OPENDKIM, before=milter + _SIGNER)
    masquerade = _sendmail_mc(
        "MASQUERADE_AS(`brand.example')dnl",
        "FEATURE(`masquerade_entire_domain')dnl",
        "MASQUERADE_DOMAIN(`gamma.example')dnl",
        "FEATURE(`masquerade_envelope')dnl",
    )
    yield Setup(SENDMAIL, "MASQUERADE_AS, the envelope too", before=masquerade)
    lines = ("LOCAL_CONFIG", "HX-Sent-By: $j", "HX-Sent: $b", "HX-For: $u", "H?m?X-Host: $h")
    yield Setup(SENDMAIL, "header lines (H) with $j, $b, $u, $h", before=_sendmail_mc(*lines))
    cname = ("www.alpha.example. CNAME mail1.alpha.example.", "www.alpha.example. A 203.0.113.26")
    goes = "a CNAME of a domain in the header goes away after the first attempts"
    yield Setup(SENDMAIL, goes, to="joe@www.alpha.example", records=cname)
    nocanonify = _sendmail_mc("FEATURE(`nocanonify')dnl")
    yield Setup(SENDMAIL, f"nocanonify; {goes}", before=nocanonify, to="joe@www.alpha.example", records=cname)


def _opensmtpd() -> Iterator[Setup]:
    yield Setup(OPENSMTPD, "as installed")
    yield Setup(OPENSMTPD, "three recipients", recipients=_THREE)


SETUPS = (*_postfix(), *_exim(), *_sendmail(), *_opensmtpd())
