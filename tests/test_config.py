"""The configuration file: what it means, what is refused and with which words, and that its document is true."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
import tomli
from pydantic import BaseModel

from mailgate.config import Config, ConfigError, Problem, load, parse
from mailgate.config_tables import TABLES, TopTable
from mailgate.config_values import (
    BadValue,
    parse_bind,
    parse_dns_server,
    parse_domain_pattern,
    parse_host,
    parse_hostname,
    parse_mailbox,
    parse_network,
)
from mailgate.network import HostName, TcpAddress, UnixAddress
from mailgate.protocol.framing import BareNewline
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Limits, Listener, Route, Settings, Timeouts

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()

GOOD = """\
hostname = "gw1.example.org"
postmaster = "postmaster@example.org"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["0.0.0.0:25", "[::]:25"]
routes = ["inside"]

[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["10.0.0.1:24"]
clients = ["10.0.0.0/8"]
routes = ["outside"]
bare_newline = "refuse"

[[route]]
name = "inside"
domains = ["example.org", ".example.org"]
hosts = ["mail1.example.org", "10.0.0.25:2525"]

[[route]]
name = "outside"
domains = ["*"]
hosts = ["mx.example.net", "unix:/run/lmtp"]
protocol = "lmtp"

[dns]
servers = ["127.0.0.1:5353"]

[limits]
message_size = 1_000_000

[timeouts]
probe = 20
connect = 2.5
"""


def problems(text: str) -> list[str]:
    """What is wrong with a configuration, as `check` says it."""
    try:
        parse(text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def changed(*changes: tuple[str, str]) -> str:
    """GOOD with some of its text replaced."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


# What it means


def test_a_good_file_becomes_settings() -> None:
    inside = Route(
        name="inside",
        domains=("example.org", ".example.org"),
        hosts=(HostName("mail1.example.org", 25), TcpAddress("10.0.0.25", 2525)),
    )
    outside = Route(
        name="outside",
        domains=("*",),
        hosts=(HostName("mx.example.net", 24), UnixAddress("/run/lmtp")),
        protocol=Role.LMTP,
    )
    from_outside = Listener(name="from-outside", protocol=Role.SMTP, routes=(inside,))
    from_inside = Listener(
        name="from-inside",
        protocol=Role.LMTP,
        routes=(outside,),
        clients=(IPv4Network("10.0.0.0/8"),),
        bare_newline=BareNewline.REFUSE,
    )
    config = parse(GOOD)
    assert config.settings == Settings(
        hostname="gw1.example.org",
        postmaster="postmaster@example.org",
        listeners=(from_outside, from_inside),
        addresses=(TcpAddress("0.0.0.0", 25), TcpAddress("::", 25), TcpAddress("10.0.0.1", 24)),
        limits=Limits(message_size=1_000_000),
        timeouts=Timeouts(probe=20, connect=2.5),
    )
    assert [(bind.listener.name, bind.address) for bind in config.binds] == [
        ("from-outside", TcpAddress("0.0.0.0", 25)),
        ("from-outside", TcpAddress("::", 25)),
        ("from-inside", TcpAddress("10.0.0.1", 24)),
    ]
    assert config.dns_servers == (TcpAddress("127.0.0.1", 5353),)


def test_what_is_left_out_has_its_default() -> None:
    config = parse(GOOD[: GOOD.index("[dns]")].replace('postmaster = "postmaster@example.org"\n', ""))
    assert config.dns_servers == ()
    assert config.backbones == ()
    assert config.state_dir is None
    assert config.ledger_url is None
    assert config.settings.ledger
    assert config.warnings == ()
    assert config.settings.postmaster is None
    assert config.settings.limits == Limits()
    assert config.settings.timeouts == Timeouts()


BINDS = [
    ("0.0.0.0:25", TcpAddress("0.0.0.0", 25)),
    ("[::]:25", TcpAddress("::", 25)),
    ("[2001:DB8:0::1]:65535", TcpAddress("2001:db8::1", 65535)),
    ("[fe80::1%eth0]:25", TcpAddress("fe80::1%eth0", 25)),
    ("127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
    ("unix:/run/x", UnixAddress("/run/x")),
]


@pytest.mark.parametrize(("text", "address"), BINDS, ids=[text for text, _ in BINDS])
def test_bind(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_bind(text) == address


HOSTS = [
    ("mail1.example.org", Role.SMTP, HostName("mail1.example.org", 25)),
    ("mail1.example.org", Role.LMTP, HostName("mail1.example.org", 24)),
    ("Mail1.Example.Org.:587", Role.SMTP, HostName("mail1.example.org", 587)),
    ("localhost", Role.SMTP, HostName("localhost", 25)),
    ("mail_1:2525", Role.SMTP, HostName("mail_1", 2525)),
    ("bücher.example", Role.SMTP, HostName("xn--bcher-kva.example", 25)),
    ("10.0.0.25", Role.SMTP, TcpAddress("10.0.0.25", 25)),
    ("10.0.0.25:2525", Role.SMTP, TcpAddress("10.0.0.25", 2525)),
    ("[2001:db8::1]:2525", Role.SMTP, TcpAddress("2001:db8::1", 2525)),
    ("[2001:db8::1]", Role.SMTP, TcpAddress("2001:db8::1", 25)),
    ("2001:db8::1", Role.LMTP, TcpAddress("2001:db8::1", 24)),
    ("unix:/run/lmtp", Role.LMTP, UnixAddress("/run/lmtp")),
]


@pytest.mark.parametrize(("text", "protocol", "host"), HOSTS, ids=[f"{text}, {role.name}" for text, role, _ in HOSTS])
def test_host(text: str, protocol: Role, host: HostName | TcpAddress | UnixAddress) -> None:
    assert parse_host(text, protocol) == host


VALUES: list[tuple[Callable[[str], object], str, object]] = [
    (parse_dns_server, "127.0.0.1", TcpAddress("127.0.0.1", 53)),
    (parse_dns_server, "127.0.0.1:5353", TcpAddress("127.0.0.1", 5353)),
    (parse_dns_server, "::1", TcpAddress("::1", 53)),
    (parse_dns_server, "[::1]:5353", TcpAddress("::1", 5353)),
    (parse_network, "10.0.0.0/8", IPv4Network("10.0.0.0/8")),
    (parse_network, "10.0.0.1", IPv4Network("10.0.0.1/32")),
    (parse_network, "2001:db8::/32", IPv6Network("2001:db8::/32")),
    (parse_network, "::/0", IPv6Network("::/0")),
    (parse_domain_pattern, "*", "*"),
    (parse_domain_pattern, "Example.ORG", "example.org"),
    (parse_domain_pattern, "example.org.", "example.org"),
    (parse_domain_pattern, ".Example.org.", ".example.org"),
    (parse_domain_pattern, "BÜCHER.example", "xn--bcher-kva.example"),
    (parse_domain_pattern, ".bücher。example", ".xn--bcher-kva.example"),
    (parse_domain_pattern, "XN--bcher-kva.example", "xn--bcher-kva.example"),
    (parse_domain_pattern, "[192.0.2.1]", "[192.0.2.1]"),
    (parse_domain_pattern, "[IPv6:2001:DB8:0::1]", "[ipv6:2001:db8::1]"),
    (parse_domain_pattern, "a" * 63 + ".example", "a" * 63 + ".example"),
    (parse_hostname, "GW1.example.org", "gw1.example.org"),
    (parse_hostname, "[IPV6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    (parse_mailbox, "Post.Master@Example.org", "Post.Master@example.org"),
    (parse_mailbox, '"a b@c"@example.org', '"a b@c"@example.org'),
]


@pytest.mark.parametrize(
    ("parser", "text", "value"), VALUES, ids=[f"{parser.__name__} {text[:30]}" for parser, text, _ in VALUES]
)
def test_value(parser: Callable[[str], object], text: str, value: object) -> None:
    assert parser(text) == value


def smtp_host(text: str) -> object:
    return parse_host(text, Role.SMTP)


BAD_VALUES: list[tuple[Callable[[str], object], str, str, str]] = [
    (parse_bind, "", "has no IP address", "0.0.0.0:25"),
    (parse_bind, "25", "is no IP address but a name", "0.0.0.0:25"),
    (parse_bind, ":25", "has no IP address", "0.0.0.0:25"),
    (parse_bind, "*:25", "has no IP address", "0.0.0.0:25"),
    (parse_bind, "localhost:25", "is no IP address but a name", "0.0.0.0:25"),
    (parse_bind, "10.0.0.1", "has no port", '"10.0.0.1:25"'),
    (parse_bind, "2001:db8::1", "has no port", '"[2001:db8::1]:25"'),
    (parse_bind, "10.0.0.1:65536", "has a bad port", "up to 65535"),
    (parse_bind, "10.0.0.1:+25", "has a bad port", "up to 65535"),
    (parse_bind, "10.0.0.1:٢٥", "has a bad port", "up to 65535"),
    (parse_bind, "[::]25", "is no address", "[::]:25"),
    (parse_bind, "[10.0.0.1]:25", "is no address", "[::]:25"),
    (parse_bind, "unix:run/x", "is no absolute path", "unix:/run"),
    (parse_bind, "unix:/run/\x00", "is no absolute path", "unix:/run"),
    (parse_bind, "unix:/" + "x" * 107, "is too long", "107"),
    (smtp_host, "", "is empty", "example.org"),
    (smtp_host, "mail1:", "has a bad port", "up to 65535"),
    (smtp_host, "mail1:0", "has port 0", "1 to 65535"),
    (smtp_host, "10.0.0.256", "its last part is a number", "up to 255"),
    (smtp_host, "2001:db8::x", "is no domain name", "letters"),
    (smtp_host, "mail 1", "is no domain name", "letters"),
    (smtp_host, "http://mail1", "has a bad port", "up to 65535"),
    (parse_dns_server, "localhost", "is no IP address", "127.0.0.1"),
    (parse_dns_server, "127.0.0.1:0", "is no IP address", "127.0.0.1"),
    (parse_network, "10.0.0.1/8", "has bits set behind", '"10.0.0.0/8" for the network, or "10.0.0.1"'),
    (parse_network, "10.0.0.0/33", "is no network", "10.0.0.0/8"),
    (parse_network, "example.org", "is no network", "10.0.0.0/8"),
    (parse_network, "::ffff:10.0.0.0/104", "is IPv4 written as IPv6", '"10.0.0.0/8"'),
    (parse_network, "::ffff:0:0/96", "is IPv4 written as IPv6", '"0.0.0.0/0"'),
    (parse_domain_pattern, "", "is empty", "example.org"),
    (parse_domain_pattern, ".", "is empty", "example.org"),
    (parse_domain_pattern, "*.example.org", "is no domain", '".example.org"'),
    (parse_domain_pattern, "a..example", "nothing between its dots", "letters"),
    (parse_domain_pattern, "..example", "nothing between its dots", "letters"),
    (parse_domain_pattern, "-a.example", '"-a" between its dots', "letters"),
    (parse_domain_pattern, "joe@example.org", "is no domain name", "letters"),
    (parse_domain_pattern, "192.0.2.1", "its last part is a number", "[192.0.2.1]"),
    (parse_domain_pattern, "☃.example", "is no internationalised domain name", "IDNA 2008"),
    (parse_domain_pattern, "ü" * 300, "is too long", "253"),
    (parse_domain_pattern, "a" * 64 + ".example", "is too long", "63"),
    (parse_domain_pattern, ".".join(["a" * 60] * 5), "is too long", "253"),
    (parse_domain_pattern, "[192.0.2.1", "is no address literal", "[192.0.2.1]"),
    (parse_domain_pattern, "[2001:db8::1]", "is no address literal", "[IPv6:2001:db8::1]"),
    (parse_domain_pattern, "[IPv6:192.0.2.1]", "is no address literal", "[IPv6:2001:db8::1]"),
    (parse_domain_pattern, "example.org\x1b[2J", r'"example.org\u001b[2J" is no domain name', "letters"),
    (parse_hostname, "gw1", "is not fully qualified", '"gw1.example.org"'),
    (parse_mailbox, "postmaster", "is no mailbox", "postmaster@example.org"),
    (parse_mailbox, "<joe@example.org>", "is no mailbox", "postmaster@example.org"),
    (parse_mailbox, "a b@example.org", "is no mailbox", "postmaster@example.org"),
    (parse_mailbox, "a" * 65 + "@example.org", "is no mailbox", "postmaster@example.org"),
    (parse_mailbox, "joe@", "is empty", "example.org"),
]


@pytest.mark.parametrize(
    ("parser", "text", "what", "remedy"),
    BAD_VALUES,
    ids=[f"{parser.__name__} {text[:30]!a}" for parser, text, _, _ in BAD_VALUES],
)
def test_bad_value(parser: Callable[[str], object], text: str, what: str, remedy: str) -> None:
    with pytest.raises(BadValue) as caught:
        parser(text)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


# What is refused: one change to a good file, and exactly what is said of it

ONE_CHANGE = {
    "missing": (
        ('hostname = "gw1.example.org"\n', ""),
        'hostname: is missing; for example hostname = "gw1.example.org"',
    ),
    "misspelt at the top": (
        ("postmaster =", "postmastre ="),
        "postmastre: unknown key; did you mean `postmaster`?",
    ),
    "misspelt in a table": (
        ("bare_newline =", "barenewline ="),
        'listener "from-inside": barenewline: unknown key; did you mean `bare_newline`?',
    ),
    "misspelt table": (("[limits]", "[limit]"), "limit: unknown key; did you mean `limits`?"),
    "in the wrong table": (
        ("message_size = 1_000_000", "reply = 5"),
        "limits.reply: unknown key; it belongs in [timeouts]",
    ),
    "behind the first table": (
        ("message_size = 1_000_000", 'hostname = "x.example.org"'),
        "limits.hostname: unknown key; it belongs at the top of the file, before the first table",
    ),
    "unlike any key": (
        ("message_size = 1_000_000", '"\\u001b[2J" = 1'),
        r'limits."\u001b[2J": unknown key; the keys here are message_size, recipients, recipients_per_delivery, '
        "deliveries, sessions, sessions_per_host, sessions_per_mx_host, upstream_sessions, reused, bad_commands, hops, "
        "body_memory",
    ),
    "a number for a string": (
        ('hostname = "gw1.example.org"', "hostname = 5"),
        'hostname: must be a string; for example hostname = "gw1.example.org"',
    ),
    "a string for a number": (
        ("message_size = 1_000_000", 'message_size = "1000000"'),
        "limits.message_size: must be a whole number; for example message_size = 52428800",
    ),
    "a fraction for a whole number": (
        ("message_size = 1_000_000", "message_size = 1e6"),
        "limits.message_size: must be a whole number; for example message_size = 52428800",
    ),
    "true for a number": (
        ("message_size = 1_000_000", "message_size = true"),
        "limits.message_size: must be a whole number; for example message_size = 52428800",
    ),
    "no time at all": (
        ("connect = 2.5", "connect = 0"),
        "timeouts.connect: must be more than 0; for example connect = 5",
    ),
    "not a number": (
        ("connect = 2.5", "connect = nan"),
        "timeouts.connect: must be a number; for example connect = 5",
    ),
    "infinite": (
        ("connect = 2.5", "quit = inf"),
        "timeouts.quit: must be a number; for example quit = 5",
    ),
    "milliseconds": (
        ("connect = 2.5", "quit = 5000"),
        "timeouts.quit: must be at most 3600: these are seconds; for example quit = 5",
    ),
    "a string for a list": (
        ('servers = ["127.0.0.1:5353"]', 'servers = "127.0.0.1"'),
        'dns.servers: must be a list; for example servers = ["127.0.0.1:5353"]',
    ),
    "an empty list": (
        ('servers = ["127.0.0.1:5353"]', "servers = []"),
        'dns.servers: is empty; for example servers = ["127.0.0.1:5353"]',
    ),
    "a number in a list": (
        ('bind = ["10.0.0.1:24"]', "bind = [24]"),
        'listener "from-inside": bind[0]: must be a string; for example bind = ["0.0.0.0:25", "[::]:25"]',
    ),
    "no such protocol": (
        ('hosts = ["mx.example.net", "unix:/run/lmtp"]\nprotocol = "lmtp"', 'hosts = ["a"]\nprotocol = "esmtp"'),
        'route "outside": protocol: "esmtp" is not known here; write "smtp" or "lmtp"',
    ),
    "a list where a table belongs": (
        ('[dns]\nservers = ["127.0.0.1:5353"]', "[[dns]]"),
        "dns: must be a table; write its keys in lines of their own below it",
    ),
    "no name": (
        ('name = "from-inside"\n', ""),
        'listener[1].name: is missing; for example name = "from-outside"',
    ),
    "a name of several words": (
        ('name = "from-inside"', 'name = "from inside"'),
        'listener[1].name: "from inside" is no name; letters, digits, dots, hyphens and underscores, 63 at most',
    ),
    "one name for two": (
        ('name = "from-inside"', 'name = "from-outside"'),
        'listener[1].name: "from-outside" is already the name of listener[0]; write another name',
    ),
    "no such route": (
        ('routes = ["inside"]', 'routes = ["inside", "insde"]'),
        'listener "from-outside": routes[1]: there is no route "insde"; did you mean "inside"?',
    ),
    "a route like no other": (
        ('routes = ["inside"]', 'routes = ["inside", "xyz"]'),
        'listener "from-outside": routes[1]: there is no route "xyz"; write a [[route]] table with that name',
    ),
    "an unused route": (
        ("[dns]", '[[route]]\nname = "spare"\ndomains = ["example.com"]\nhosts = ["a"]\n[dns]'),
        'route "spare": name: no listener uses this route; add it to the `routes` of a listener, or leave it out',
    ),
    "one route twice": (
        ('routes = ["inside"]', 'routes = ["inside", "inside"]'),
        'listener "from-outside": routes[1]: "inside" is already routes[0]; leave one of the two out',
    ),
    "one domain twice": (
        ('"example.org", ".example.org"]', '"example.org", "Example.ORG."]'),
        'route "inside": domains[1]: "example.org" is already domains[0]; leave one of the two out',
    ),
    "one host twice": (
        ('"mail1.example.org", "10.0.0.25:2525"]', '"10.0.0.25", "10.0.0.25:25"]'),
        'route "inside": hosts[1]: "10.0.0.25:25" is already hosts[0]; leave one of the two out',
    ),
    "one network twice": (
        ('clients = ["10.0.0.0/8"]', 'clients = ["10.0.0.1", "10.0.0.1/32"]'),
        'listener "from-inside": clients[1]: "10.0.0.1/32" is already clients[0]; leave one of the two out',
    ),
    "one DNS server twice": (
        ('servers = ["127.0.0.1:5353"]', 'servers = ["::1", "[::1]:53"]'),
        'dns.servers[1]: "[::1]:53" is already servers[0]; leave one of the two out',
    ),
    "one address twice": (
        ('bind = ["10.0.0.1:24"]', 'bind = ["10.0.0.1:24", "10.0.0.1:24"]'),
        'listener "from-inside": bind[1]: 10.0.0.1:24 collides with 10.0.0.1:24 at '
        'listener "from-inside": bind[0]; bind each address and port once',
    ),
    "an address in another listener's wildcard": (
        ('bind = ["0.0.0.0:25", "[::]:25"]', 'bind = ["0.0.0.0:24", "[::]:24"]'),
        'listener "from-inside": bind[0]: 10.0.0.1:24 collides with 0.0.0.0:24 at '
        'listener "from-outside": bind[0]; bind each address and port once',
    ),
    "an LMTP host on port 25": (
        ('"mx.example.net", "unix:/run/lmtp"', '"mx.example.net:25", "unix:/run/lmtp"'),
        'route "outside": hosts[0]: mx.example.net:25 is LMTP on port 25, which RFC 2033 forbids; '
        "use another port, such as 24",
    ),
    "a postmaster without a domain": (
        ("postmaster@example.org", "joe"),
        'postmaster: "joe" is no mailbox; write for example "postmaster@example.org"',
    ),
}


@pytest.mark.parametrize(("change", "problem"), ONE_CHANGE.values(), ids=ONE_CHANGE)
def test_one_change(change: tuple[str, str], problem: str) -> None:
    assert problems(changed(change)) == [problem]


SPARE = '[[route]]\nname = "spare"\ndomains = ["a.example", "EXAMPLE.org"]\nhosts = ["a"]\n\n[dns]'

SEVERAL_CHANGES: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "a domain in two routes of one listener": (
        [("[dns]", SPARE), ('routes = ["inside"]', 'routes = ["spare", "inside"]')],
        [
            'route "spare": domains[1]: listener "from-outside" has "example.org" in route "inside" too; '
            "leave it in the route that is to have it"
        ],
    ),
    "a domain in two routes of two listeners": (
        [("[dns]", SPARE), ('routes = ["outside"]', 'routes = ["outside", "spare"]')],
        [],
    ),
    "an LMTP listener on port 25": (
        [('"0.0.0.0:25", "[::]:25"', '"0.0.0.0:2525"'), ("10.0.0.1:24", "10.0.0.1:25")],
        [
            'listener "from-inside": bind[0]: 10.0.0.1:25 is LMTP on port 25, which RFC 2033 forbids; '
            "use another port, such as 24"
        ],
    ),
    "a postmaster whom no route takes": (
        [('domains = ["*"]', 'domains = [".example.com"]'), ("postmaster@example.org", "joe@example.com")],
        [
            'postmaster: listener "from-outside" has no route for "example.com"; write a mailbox in a domain that it '
            "has a route for: RFC 5321 section 4.5.1 wants <Postmaster> taken"
        ],
    ),
    "a postmaster in a subdomain that a route takes": (
        [("postmaster@example.org", "joe@a.b.example.org")],
        [],
    ),
    "a postmaster whom only a route of the inside takes": (
        [("postmaster@example.org", "joe@example.com")],
        [
            'postmaster: listener "from-outside" has no route for "example.com"; write a mailbox in a domain that it '
            "has a route for: RFC 5321 section 4.5.1 wants <Postmaster> taken"
        ],
    ),
    "a postmaster, and a route whose domains are wrong": (
        [
            ('domains = ["*"]', 'domains = ["example.com", 5]'),
            ("postmaster@example.org", "joe@example.com"),
        ],
        ['route "outside": domains[1]: must be a string; for example domains = ["example.org", ".example.org"]'],
    ),
    "a route that nobody uses, as far as one can see": (
        [("[dns]", SPARE), ('routes = ["inside"]', 'routes = ["inside", 5]')],
        ['listener "from-outside": routes[1]: must be a string; for example routes = ["inside"]'],
    ),
    "an open relay, as far as one can see": (
        [('clients = ["10.0.0.0/8"]', 'clients = ["10.0.0.1/8"]')],
        [
            'listener "from-inside": clients[0]: "10.0.0.1/8" has bits set behind its prefix length; '
            'write "10.0.0.0/8" for the network, or "10.0.0.1" for that one address'
        ],
    ),
    "two system's ports": (
        [('"0.0.0.0:25", "[::]:25"', '"127.0.0.1:0"'), ("10.0.0.1:24", "127.0.0.1:0")],
        [],
    ),
    "one port, two families": (
        [('"0.0.0.0:25", "[::]:25"', '"0.0.0.0:24"'), ("10.0.0.1:24", "[::1]:24")],
        [],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), SEVERAL_CHANGES.values(), ids=SEVERAL_CHANGES)
def test_several_changes(changes: list[tuple[str, str]], expected: list[str]) -> None:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    assert problems(text) == expected


def test_one_table_in_single_brackets_is_looked_into() -> None:
    text = changed(
        (GOOD[GOOD.index("[[route]]") : GOOD.index("[dns]")], '[route]\nname = "outside"\ndomains = ["*", "*"]\n'),
        ('routes = ["inside"]', 'routes = ["outside"]\nclients = ["10.0.0.1"]'),
    )
    assert problems(text) == [
        "route: is one table where there may be several; write [[route]], in double brackets",
        'route "outside": domains[1]: "*" is already domains[0]; leave one of the two out',
        'route "outside": hosts: is missing; write for example hosts = ["mail1.example.org"], or mx = true to ask DNS '
        "for them",
    ]


MISSING = "is missing"
EVERYONE = "is everyone"

RELAYS = {
    "nobody named": ('bind = ["10.0.0.1:24"]', MISSING),
    "nobody named, a unix socket beside": ('bind = ["10.0.0.1:24", "unix:/run/x"]', MISSING),
    "nobody named, loopback": ('bind = ["127.0.0.1:24"]', MISSING),
    "nobody named, unix sockets only": ('bind = ["unix:/run/x", "unix:/run/y"]', None),
    "everyone, unix sockets only": ('bind = ["unix:/run/x"]\nclients = ["0.0.0.0/0"]', None),
    "IPv4": ('bind = ["10.0.0.1:24"]\nclients = ["0.0.0.0/0"]', EVERYONE),
    "IPv6": ('bind = ["10.0.0.1:24"]\nclients = ["10.0.0.0/8", "::/0"]', EVERYONE),
    "IPv4 in halves": ('bind = ["10.0.0.1:24"]\nclients = ["128.0.0.0/1", "10.0.0.1", "0.0.0.0/1"]', EVERYONE),
    "IPv6 in halves": ('bind = ["10.0.0.1:24"]\nclients = ["8000::/1", "::/1"]', EVERYONE),
    "all public IPv4": (
        'bind = ["10.0.0.1:24"]\nclients = ["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"]',
        EVERYONE,
    ),
    "all public IPv6": ('bind = ["10.0.0.1:24"]\nclients = ["2000::/3"]', EVERYONE),
    "all private": (
        'bind = ["10.0.0.1:24"]\nclients = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]',
        None,
    ),
}


@pytest.mark.parametrize(("listener", "what"), RELAYS.values(), ids=RELAYS)
def test_open_relay(listener: str, what: str | None) -> None:
    text = changed(('bind = ["10.0.0.1:24"]\nclients = ["10.0.0.0/8"]', listener))
    expected = (
        f'listener "from-inside": clients: {what}, and route "outside" takes every domain ("*"): '
        'this would be an open relay; name who may connect, for example clients = ["10.0.0.0/8"]'
    )
    assert problems(text) == ([] if what is None else [expected])


BUDGETS = [
    # timeouts that are at their limit; the same, over it; which key is to blame
    ("head_start = 4.9", "head_start = 5", "head_start"),
    ("connect = 20", "connect = 20.1", "connect"),
    ("reply = 20", "reply = 20.1", "reply"),
    ("probe = 180", "probe = 180.1", "probe"),
    ("envelope = 180", "envelope = 180.1", "envelope"),
    ("attempts = 539.9", "attempts = 540", "attempts"),
    ("patience = 240", "patience = 240.1", "patience"),
    ("idle = 30", "idle = 30.1", "idle"),
    ("recipient = 299.9", "recipient = 300", "recipient"),
    ("data = 119.9", "data = 120", "data"),
    ("stall = 179.9", "stall = 180", "stall"),
    ("delivery = 599.9", "delivery = 600", "delivery"),
]


@pytest.mark.parametrize(("fits", "exceeds", "key"), BUDGETS, ids=[key for _, _, key in BUDGETS])
def test_budget(fits: str, exceeds: str, key: str) -> None:
    head = GOOD[: GOOD.index("probe = 20")]
    rest = "" if key == "probe" else "probe = 20\n"
    assert problems(head + rest + fits) == []
    (problem,) = problems(head + rest + exceeds)
    assert problem.startswith(f"timeouts.{key}: {exceeds.split()[-1]} is too long")


def test_a_bad_budget_is_not_compared_with_others() -> None:
    text = changed(("probe = 20", "probe = -1"), ("connect = 2.5", "connect = 40"))
    assert problems(text) == ["timeouts.probe: must be more than 0; for example probe = 30"]


def test_everything_is_reported_at_once() -> None:
    text = changed(
        ("hostname =", "hostnmae ="),
        ('protocol = "smtp"', 'protocol = "http"'),
        ('routes = ["inside"]', 'routes = ["insde"]'),
        ('clients = ["10.0.0.0/8"]\n', ""),
        ('"mail1.example.org", "10.0.0.25:2525"', '"mail1:x", "10.0.0.25:2525"'),
        ("message_size = 1_000_000", "message_size = 0"),
        ("probe = 20", "probe = 200"),
    )
    assert [problem.split(";")[0] for problem in problems(text)] == [
        "hostname: is missing",
        "hostnmae: unknown key",
        'listener "from-outside": protocol: "http" is not known here',
        'route "inside": hosts[0]: "mail1:x" has a bad port',
        "limits.message_size: must be more than 0",
        'listener "from-outside": routes[0]: there is no route "insde"',
        'route "inside": name: no listener uses this route',
        'listener "from-inside": clients: is missing, and route "outside" takes every domain ("*"): '
        "this would be an open relay",
        "timeouts.probe: 200 is too long for recipient = 180: a probe is a part of the answer to RCPT",
    ]


# What cannot be read at all

UNREADABLE = {
    "nothing": ("", "listener: there is none; write a [[listener]] table for each port to listen on"),
    "no value": ("hostname =", "line 1, column 11: is no TOML: Invalid value; see https://toml.io for the syntax"),
    "a key twice": (
        'a = 1\na = "x"',
        "line 2, column 8: is no TOML: Cannot overwrite a value; see https://toml.io for the syntax",
    ),
    "no number of any use": ("a = " + "1" * 5000, "see https://toml.io"),
    "very deep": ("a = " + "[" * 5000, "see https://toml.io"),
    "a table that is none": ("listener = 5", "listener[0]: must be a table"),
    "a list of what is no table": ("listener = [5]", "listener[0]: must be a table"),
    "another kind of table": ("limits = [5]", "limits: must be a table"),
}


@pytest.mark.parametrize(("text", "problem"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable(text: str, problem: str) -> None:
    assert any(problem in found for found in problems(text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "gw.toml")
    assert caught.value.problems == (
        Problem("", "cannot be read: No such file or directory", "name a file that this user may read"),
    )


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "gw.toml"
    path.write_bytes(b'# one\nhostname = "m\xfcller"\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: line 2: is not UTF-8; save the file as UTF-8, which TOML wants"


# The example and the document


def test_the_example_is_good() -> None:
    settings = load(ROOT / "conf" / "mailgate.toml").settings
    assert [(listener.name, listener.protocol) for listener in settings.listeners] == [
        ("from-outside", Role.SMTP),
        ("from-inside", Role.LMTP),
    ]
    # It says of these tables that they hold the defaults.
    assert settings.limits == Limits()
    assert settings.timeouts == Timeouts()


DOCUMENTED: dict[str, type[BaseModel]] = {
    "Top of the file": TopTable,
    "`[[listener]]`": TABLES["listener"],
    "`[[route]]`": TABLES["route"],
    "`[[backbone]]`": TABLES["backbone"],
    "`[dns]`": TABLES["dns"],
    "`[ledger]`": TABLES["ledger"],
    "`[limits]`": TABLES["limits"],
    "`[timeouts]`": TABLES["timeouts"],
}


def section(heading: str) -> str:
    return DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def documented_keys(heading: str) -> dict[str, object]:
    """Key → default, from the table in a section of the document."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", section(heading), re.MULTILINE)
    return {key: tomli.loads(f"it = {cell[1:-1]}")["it"] if cell.startswith("`") else cell for key, cell in rows}


def defaults(model: type[BaseModel]) -> dict[str, object]:
    """Key → default, as the document writes it."""
    found: dict[str, object] = {}
    for key, field in model.model_fields.items():
        default = field.default.value if isinstance(field.default, enum.Enum) else field.default
        found[key] = "required" if field.is_required() else "none" if default is None else default
    return found


@pytest.mark.parametrize(("heading", "model"), DOCUMENTED.items(), ids=DOCUMENTED)
def test_the_document_has_every_key_and_its_default(heading: str, model: type[BaseModel]) -> None:
    assert documented_keys(heading) == defaults(model)


@pytest.mark.parametrize(("key", "bundle"), [("limits", Limits), ("timeouts", Timeouts)], ids=["limits", "timeouts"])
def test_a_table_of_numbers_has_the_fields_of_its_bundle(key: str, bundle: type[Limits] | type[Timeouts]) -> None:
    assert defaults(TABLES[key]) == {field.name: field.default for field in dataclasses.fields(bundle)}


def test_the_documents_first_example_is_complete() -> None:
    first = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[0]
    config: Config = parse(first)
    assert [route.hosts for listener in config.settings.listeners for route in listener.routes] == [
        (HostName("mail1.example.org", 25),)
    ]


@pytest.mark.parametrize(("heading", "model"), DOCUMENTED.items(), ids=DOCUMENTED)
def test_the_documents_examples_have_the_right_shape(heading: str, model: type[BaseModel]) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)
    table: object = tomli.loads(example)
    if model is not TopTable:
        table = tomli.loads(example)[heading.strip("`[]")]
    for one in table if isinstance(table, list) else [table]:
        model.model_validate(one, context={})


def test_the_models_give_a_json_schema() -> None:
    schema = TABLES["route"].model_json_schema()
    assert schema["properties"]["hosts"]["anyOf"] == [
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "null"},
    ]
    assert schema["required"] == ["name", "domains"]
