"""Single values of the configuration: text → addresses, networks, domains, mailboxes.

Each parser raises BadValue, which says what is wrong and what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

import idna

from mailgate.network import Address, HostName, TcpAddress, UnixAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Host, IPAddress, IPNetwork
from mailgate.text import escaped, quoted

DEFAULT_PORTS = {Role.SMTP: 25, Role.LMTP: 24}
"""of a host given without one; 24 is registered for private mail systems, and RFC 2033 section 5 forbids 25"""

DNS_PORT = 53
LEDGER_PORT = 6379
"""registered for Redis, and what Valkey listens on too"""
MAX_NAME = 253
"""octets of a domain name as text (RFC 1035 section 2.3.4 says 255 on the wire)"""
MAX_LABEL = 63
"""octets of one label (RFC 1035 section 2.3.4)"""
MAX_LOCAL_PART = 64
"""octets of a mailbox's local part (RFC 5321 section 4.5.3.1.1)"""
MAX_UNIX_PATH = 107
"""octets of a unix socket's path on Linux, without the NUL behind it"""
MAX_STATE_DIR = 80
"""octets of `state_dir`'s path, so that there is room for the name of a unix socket in it"""

# An underscore is no host name, but such names are in use, and a RCPT may name them.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL_PART = re.compile(  # RFC 5321 section 4.1.2: Dot-string or Quoted-string
    rf'{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~]|\\[ -~])*"'
)
_DIGITS = re.compile(r"[0-9]{1,5}")
_SCOPED = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]{1,15})?")  # fe80::1%eth0
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

_USERINFO = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"  # RFC 3986 section 3.2.1, but for the colon
_USER_AND_PASSWORD = re.compile(f"{_USERINFO}*:{_USERINFO}+")
_DATABASE = re.compile(r"[0-9]{1,4}")

# By the names of ipaddress's properties
_NO_SOURCES = {
    "is_unspecified": "stands for any address, so it chooses no uplink",
    "is_multicast": "is a multicast address, which nothing comes from",
    "is_link_local": "is a link-local address, which leads to no other network",
}


class BadValue(ValueError):
    """A value that its key does not take: what is wrong with it, and what would be right."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def shown(text: str) -> str:
    """A value from the file, fit for a message to a terminal."""
    return quoted(text, limit=80)


def parse_bind(text: str) -> Address:
    """`0.0.0.0:25`, `[::]:25`, `unix:/run/x`. Port 0: the system picks one, which `serve` logs."""
    if text.startswith("unix:"):
        return _unix(text)
    example = 'write for example "0.0.0.0:25", "[::]:25" or "unix:/run/mailgate.sock"'
    host, port = _split(text, example)
    address = _ip(host)
    if address is None:
        wrong = f"is no IP address but a name: {shown(host)}" if host not in ("", "*") else "has no IP address"
        raise BadValue(f"{shown(text)} {wrong}", example)
    if port is None:
        raise BadValue(f"{shown(text)} has no port", f'write for example "{TcpAddress(str(address), 25)}"')
    return TcpAddress(str(address), port)


def parse_host(text: str, protocol: Role) -> Host:
    """`mail1.example.org`, `mail1.example.org:2525`, `10.0.0.25:2525`, `[2001:db8::1]:25`, `2001:db8::1`,
    `unix:/run/lmtp`. Without a port it is the protocol's default."""
    if text.startswith("unix:"):
        return _unix(text)
    example = 'write for example "mail1.example.org", "10.0.0.25:2525", "[2001:db8::1]:25" or "unix:/run/lmtp"'
    host, port = _split(text, example)
    if port is None:
        port = DEFAULT_PORTS[protocol]
    if port == 0:
        raise BadValue(f"{shown(text)} has port 0, where nothing listens", "write a port from 1 to 65535")
    address = _ip(host)
    return HostName(_name(host), port) if address is None else TcpAddress(str(address), port)


def parse_dns_server(text: str) -> TcpAddress:
    """`127.0.0.1`, `127.0.0.1:5353`, `[::1]:5353`, `::1`; without a port it is 53."""
    example = 'write for example "127.0.0.1" or "127.0.0.1:5353"'
    host, port = _split(text, example)
    address = _ip(host)
    if address is None or port == 0:
        raise BadValue(f"{shown(text)} is no IP address with or without a port", example)
    return TcpAddress(str(address), DNS_PORT if port is None else port)


def parse_source(text: str) -> str:
    """The address that a backbone's connections come from: `192.0.2.10`, `2001:db8::1`; in canonical form."""
    address = _ip(text)
    example = 'write for example "192.0.2.10" or "2001:db8::10", an address of this machine'
    if address is None or "%" in text:
        raise BadValue(f"{shown(text)} is no IP address", f"{example}, without a port or an interface")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise BadValue(f"{shown(text)} is IPv4 written as IPv6", f'write "{address.ipv4_mapped}"')
    for kind, wrong in _NO_SOURCES.items():
        if getattr(address, kind):
            raise BadValue(f"{shown(text)} {wrong}", example)
    return str(address)


def parse_state_dir(text: str) -> Path:
    """The absolute path of a directory."""
    if not text.startswith("/") or not text.isprintable():
        raise BadValue(f"{shown(text)} is no absolute path", 'write for example "/var/lib/mailgate"')
    if len(text.encode()) > MAX_STATE_DIR:
        raise BadValue(
            f"{shown(text)} is too long",
            f"at most {MAX_STATE_DIR} octets leave room for a unix socket in it, whose whole path may have "
            f"{MAX_UNIX_PATH}",
        )
    return Path(text)


@dataclass(frozen=True, slots=True)
class LedgerUrl:
    """Where the ledger is that several gateways share. Its password is in the URL and shows nowhere."""

    server: TcpAddress | HostName | UnixAddress
    database: int
    tls: bool
    password: bool

    def __str__(self) -> str:
        remarks = (
            (self.database, f"database {self.database}"),
            (self.tls, "over TLS"),
            (self.password, "with a password"),
        )
        return ", ".join([str(self.server), *(remark for applies, remark in remarks if applies)])


_LEDGER_EXAMPLE = (
    'write for example "redis://10.0.0.5", "redis://:PASSWORD@10.0.0.5:6379/0", "rediss://ledger.example.org" or '
    '"unix:///run/valkey/valkey.sock"'
)


def parse_ledger_url(text: str) -> LedgerUrl:
    """`redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, with `rediss:` over TLS; or
    `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]`.

    What is wrong is said without showing the text: its password may stand anywhere in it.
    """
    scheme, behind, rest = text.partition("://")
    if scheme not in ("redis", "rediss", "unix") or not behind:
        raise BadValue("does not begin with redis://, rediss:// or unix://", _LEDGER_EXAMPLE)
    authority, slash, tail = rest.partition("/")
    credentials, at, place = authority.rpartition("@")
    if "@" in tail or "#" in rest or (at and not _USER_AND_PASSWORD.fullmatch(credentials)):
        raise BadValue(
            "has no good user and password before the @",
            'write ":PASSWORD@" or "USER:PASSWORD@", and in them "/" as %2F, "?" as %3F, "#" as %23, "@" as %40, '
            '"%" as %25 and whatever else is neither letter nor digit likewise',
        )
    if scheme == "unix":
        if place:
            raise BadValue("has a host, but a unix socket has none", _LEDGER_EXAMPLE)
        path, options, query = tail.partition("?")
        server: TcpAddress | HostName | UnixAddress = _ledger_socket(slash + path)
        database = query[3:] if query.startswith("db=") else "" if options else "0"
    else:
        server, database = _ledger_host(place), tail or "0"
    if _DATABASE.fullmatch(database) is None:
        where = '"?db=0"' if scheme == "unix" else '"/0"'
        raise BadValue("has something at its end that is no number of a database", f"write for example {where} there")
    return LedgerUrl(server, int(database), tls=scheme == "rediss", password=bool(at))


def _ledger_host(place: str) -> TcpAddress | HostName:
    try:
        host, port = _split(place, "")
        address = _ip(host)
        name = _name(host) if address is None else ""
    except BadValue:
        port, address, name = 0, None, ""
    if port == 0:
        raise BadValue("has no good host, or no good port behind it", _LEDGER_EXAMPLE)
    port = LEDGER_PORT if port is None else port
    return HostName(name, port) if address is None else TcpAddress(str(address), port)


def _ledger_socket(path: str) -> UnixAddress:
    try:
        if "%" in path:
            raise BadValue("has a % in its path")
        return _unix(f"unix:{path}")
    except BadValue:
        remedy = f"write one of at most {MAX_UNIX_PATH} octets, such as unix:///run/valkey/valkey.sock"
        raise BadValue("has no good path of a unix socket", remedy) from None


def parse_port(number: int) -> int:
    """A TCP port to connect to."""
    if not 0 < number <= 65535:
        raise BadValue(f"{number} is no port", "write a number from 1 to 65535")
    return number


def parse_network(text: str) -> IPNetwork:
    """`10.0.0.0/8`, `2001:db8::/32`; a single address is a network of one."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise _no_network(text) from None
    if isinstance(network, ipaddress.IPv6Network) and network.overlaps(_MAPPED) and network.prefixlen >= 96:
        # One way to write a network, so that who is let in is what is written.
        inner = ipaddress.IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        raise BadValue(f"{shown(text)} is IPv4 written as IPv6", f'write "{inner}"')
    return network


def _no_network(text: str) -> BadValue:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return BadValue(f"{shown(text)} is no network", 'write for example "10.0.0.0/8" or "2001:db8::/32"')
    return BadValue(
        f"{shown(text)} has bits set behind its prefix length",
        f'write "{meant}" for the network, or "{text.partition("/")[0]}" for that one address',
    )


def parse_domain_pattern(text: str) -> str:
    """A route's domain: `example.org` exactly, `.example.org` its subdomains, `*` everything; normalised."""
    if text == "*":
        return text
    if text.startswith("*."):
        raise BadValue(f"{shown(text)} is no domain", f"write {shown(text[1:])} for all subdomains")
    if text.startswith("."):
        return f".{_name(text[1:])}"
    return parse_domain(text)


def parse_domain(text: str) -> str:
    """A domain as mail uses it: a name, in lower case, A-labels, no dot at its end; or an address literal,
    its address in canonical form (RFC 5321 section 4.1.3, RFC 5952)."""
    if not text.startswith("["):
        return _name(text)
    literal = text.removeprefix("[").removesuffix("]")
    tag = literal[:5] if literal[:5].upper() == "IPV6:" else ""
    address = _ip(literal.removeprefix(tag))
    if not text.endswith("]") or address is None or "%" in literal or (address.version == 6) != bool(tag):
        raise BadValue(f"{shown(text)} is no address literal", 'write "[192.0.2.1]" or "[IPv6:2001:db8::1]"')
    return f"[{tag.lower()}{address}]"


def parse_hostname(text: str) -> str:
    """The gateway's own name: fully qualified, or an address literal (RFC 5321 section 4.1.3)."""
    name = parse_domain(text)
    if "." not in name and not name.startswith("["):
        raise BadValue(f"{shown(text)} is not fully qualified", f'write for example "{name}.example.org"')
    return name.replace("[ipv6:", "[IPv6:")


def parse_mailbox(text: str) -> str:
    """`local-part@domain`, the domain normalised; no angle brackets."""
    local, at, domain = text.rpartition("@")
    if not at or _LOCAL_PART.fullmatch(local) is None or len(local) > MAX_LOCAL_PART:
        raise BadValue(f"{shown(text)} is no mailbox", 'write for example "postmaster@example.org"')
    return f"{local}@{parse_domain(domain)}"


def _split(text: str, example: str) -> tuple[str, int | None]:
    """Host, port. Two colons or more without brackets are an IPv6 address without a port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        # What else stands in brackets is no address: left as it is, it is refused by whoever looks at it.
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise BadValue(f"{shown(text)} is no address", example)
        colon, port = rest[:1], rest[1:]
    elif text.count(":") > 1:
        host, colon, port = text, "", ""
    else:
        host, colon, port = text.partition(":")
    if not colon:
        return host, None
    if _DIGITS.fullmatch(port) is None or int(port) > 65535:
        raise BadValue(f"{shown(text)} has a bad port", "a port is a number up to 65535")
    return host, int(port)


def _ip(text: str) -> IPAddress | None:
    if _SCOPED.fullmatch(text) is None:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or not path.isprintable():
        raise BadValue(f"{shown(text)} is no absolute path", 'write for example "unix:/run/mailgate/lmtp.sock"')
    if len(path.encode()) > MAX_UNIX_PATH:
        raise BadValue(f"{shown(text)} is too long", f"a unix socket's path has at most {MAX_UNIX_PATH} octets")
    return UnixAddress(path)


def _name(text: str) -> str:
    """A domain name in lower case, its U-labels as A-labels (RFC 5890), without the dot at its end."""
    name = text.removesuffix(".").lower()
    if not name.isascii():
        name = _ascii_name(text)
    labels = name.split(".")
    if not name:
        raise BadValue(f"{shown(text)} is empty", 'write a name such as "example.org"')
    if len(name) > MAX_NAME or any(len(label) > MAX_LABEL for label in labels):
        raise BadValue(
            f"{shown(text)} is too long",
            f"a name has at most {MAX_NAME} octets, each part between dots at most {MAX_LABEL}",
        )
    for label in labels:
        if _LABEL.fullmatch(label) is None:
            raise BadValue(
                f"{shown(text)} is no domain name: {shown(label) if label else 'nothing'} between its dots",
                'letters, digits and hyphens make up a name, such as "example.org"',
            )
    if labels[-1].isdigit():
        raise BadValue(
            f"{shown(text)} is no domain name: its last part is a number",
            'write an IPv4 address with four numbers up to 255; as a mail domain, in brackets: "[192.0.2.1]"',
        )
    return name


def _ascii_name(text: str) -> str:
    if len(text) > MAX_NAME:  # too long in any case, and not worth the work
        raise BadValue(f"{shown(text)} is too long", f"a name has at most {MAX_NAME} octets")
    try:
        encoded: bytes = idna.encode(text, uts46=True, std3_rules=True)
    except idna.IDNAError as error:
        raise BadValue(
            f"{shown(text)} is no internationalised domain name: {escaped(str(error))}",
            "write a name that IDNA 2008 allows (RFC 5891)",
        ) from None
    return encoded.decode("ascii").removesuffix(".").lower()
