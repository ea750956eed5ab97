"""The configuration of a multihomed gateway: backbones, routes by MX, where state is kept; what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailgate.config import ConfigError, parse
from mailgate.config_values import BadValue, parse_port, parse_source, parse_state_dir
from mailgate.network import HostName, TcpAddress
from mailgate.relay.settings import Backbone, Route

GOOD = """\
hostname = "gw1.example.org"
postmaster = "postmaster@example.org"
state_dir = "/var/lib/mailgate"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["0.0.0.0:25", "unix:/run/in"]
routes = ["inside"]

[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["10.0.0.1:24"]
clients = ["10.0.0.0/8"]
routes = ["outside"]

[[route]]
name = "inside"
domains = ["example.org"]
hosts = ["mail1.example.org", "[2001:db8::25]:2525", "unix:/run/lmtp"]
backbones = ["isp-a"]

[[route]]
name = "outside"
domains = ["*"]
mx = true
port = 2525
backbones = ["isp-b", "isp-a"]
allow_private = true
address_literals = true
group_domains = true

[[backbone]]
name = "isp-a"
source = ["192.0.2.10", "2001:DB8:A:0::10"]
helo = "GW1-a.example.org"

[[backbone]]
name = "isp-b"
source = ["198.51.100.10"]
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

A = Backbone(name="isp-a", sources=("192.0.2.10", "2001:db8:a::10"), helo="gw1-a.example.org")
B = Backbone(name="isp-b", sources=("198.51.100.10",), helo="gw1.example.org")


def test_a_good_file_becomes_settings() -> None:
    config = parse(GOOD)
    inside, outside = (listener.routes[0] for listener in config.settings.listeners)
    assert inside.backbones == (A,)
    assert outside == Route(
        name="outside",
        domains=("*",),
        mx=True,
        port=2525,
        backbones=(B, A),
        allow_private=True,
        address_literals=True,
        group_domains=True,
    )
    assert config.backbones == (A, B)
    assert config.state_dir == Path("/var/lib/mailgate")


def test_the_gateway_is_told_where_it_listens() -> None:
    assert parse(GOOD).settings.addresses == (TcpAddress("0.0.0.0", 25), TcpAddress("10.0.0.1", 24))


def test_what_is_left_out_has_its_default() -> None:
    options = GOOD[GOOD.index("port = 2525") : GOOD.index("[[backbone]]")]
    config = parse(changed((options, 'backbones = ["isp-b"]\n\n')))
    (outside,) = config.settings.listeners[1].routes
    assert outside == Route(name="outside", domains=("*",), mx=True, backbones=(B,))


def test_hosts_and_mx_that_is_false() -> None:
    text = changed(('hosts = ["mail1', 'mx = false\nhosts = ["mail1'))
    (inside,) = parse(text).settings.listeners[0].routes
    assert (inside.mx, inside.hosts[0]) == (False, HostName("mail1.example.org", 25))


# Values

SOURCES = [("192.0.2.10", "192.0.2.10"), ("127.0.1.1", "127.0.1.1"), ("2001:DB8:0:0::10", "2001:db8::10")]


@pytest.mark.parametrize(("text", "source"), SOURCES, ids=[text for text, _ in SOURCES])
def test_source(text: str, source: str) -> None:
    assert parse_source(text) == source


BAD_SOURCES = [
    ("", "is no IP address"),
    ("gw1.example.org", "is no IP address"),
    ("192.0.2.10:25", "is no IP address"),
    ("192.0.2.0/24", "is no IP address"),
    ("[2001:db8::10]", "is no IP address"),
    ("fe80::1%eth0", "is no IP address"),
    ("2001:db8::10%eth0", "is no IP address"),
    ("0.0.0.0", "stands for any address"),
    ("::", "stands for any address"),
    ("224.0.0.1", "is a multicast address"),
    ("ff02::1", "is a multicast address"),
    ("169.254.0.1", "is a link-local address"),
    ("fe80::1", "is a link-local address"),
    ("::ffff:192.0.2.10", "is IPv4 written as IPv6"),
]


@pytest.mark.parametrize(("text", "what"), BAD_SOURCES, ids=[text for text, _ in BAD_SOURCES])
def test_bad_source(text: str, what: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_source(text)
    assert what in caught.value.what
    assert '"192.0.2.10"' in caught.value.remedy


@pytest.mark.parametrize("number", [1, 65535])
def test_port(number: int) -> None:
    assert parse_port(number) == number


@pytest.mark.parametrize("number", [-1, 0, 65536])
def test_bad_port(number: int) -> None:
    with pytest.raises(BadValue, match=f"{number} is no port"):
        parse_port(number)


BAD_STATE_DIRS = {
    "relative": ("var/lib/mailgate", "is no absolute path"),
    "empty": ("", "is no absolute path"),
    "a control character": ("/var\x1b/lib", "is no absolute path"),
    "no room for a socket in it": ("/" + "x" * 80, "is too long"),
    "octets, not characters": ("/" + "ü" * 40, "is too long"),
}


@pytest.mark.parametrize(("text", "what"), BAD_STATE_DIRS.values(), ids=BAD_STATE_DIRS)
def test_bad_state_dir(text: str, what: str) -> None:
    with pytest.raises(BadValue, match=what):
        parse_state_dir(text)


def test_the_longest_state_dir() -> None:
    longest = "/" + "x" * 79
    assert parse_state_dir(longest) == Path(longest)


# What is refused: some changes to a good file, and exactly what is said of it

NEITHER = 'hosts: is missing; write for example hosts = ["mail1.example.org"], or mx = true to ask DNS for them'
B_TABLE = '[[backbone]]\nname = "isp-b"\nsource = ["198.51.100.10"]\n'

REFUSED: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "a key of another table": (
        [('helo = "GW1-a.example.org"', "mx = true")],
        ['backbone "isp-a": mx: unknown key; it belongs in [[route]]'],
    ),
    "state_dir in a table": (
        [('helo = "GW1-a.example.org"', 'state_dir = "/x"')],
        ['backbone "isp-a": state_dir: unknown key; it belongs at the top of the file, before the first table'],
    ),
    "state_dir is no path": (
        [('"/var/lib/mailgate"', '"state"')],
        ['state_dir: "state" is no absolute path; write for example "/var/lib/mailgate"'],
    ),
    "state_dir is no string": (
        [('"/var/lib/mailgate"', "5")],
        ['state_dir: must be a string; for example state_dir = "/var/lib/mailgate"'],
    ),
    "no source": (
        [('source = ["198.51.100.10"]', "")],
        ['backbone "isp-b": source: is missing; for example source = ["192.0.2.10", "2001:db8:a::10"]'],
    ),
    "an empty source": (
        [('source = ["198.51.100.10"]', "source = []")],
        ['backbone "isp-b": source: is empty; for example source = ["192.0.2.10", "2001:db8:a::10"]'],
    ),
    "a source with a port": (
        [('"198.51.100.10"', '"198.51.100.10:0"')],
        [
            'backbone "isp-b": source[0]: "198.51.100.10:0" is no IP address; write for example "192.0.2.10" or '
            '"2001:db8::10", an address of this machine, without a port or an interface'
        ],
    ),
    "a HELO name of one word": (
        [("GW1-a.example.org", "gw1")],
        ['backbone "isp-a": helo: "gw1" is not fully qualified; write for example "gw1.example.org"'],
    ),
    "a backbone in single brackets": (
        [
            ('[[backbone]]\nname = "isp-a"', '[backbone]\nname = "isp-a"'),
            (B_TABLE, ""),
            ('"isp-b", "isp-a"', '"isp-a"'),
        ],
        ["backbone: is one table where there may be several; write [[backbone]], in double brackets"],
    ),
    "one name for two backbones": (
        [('name = "isp-b"', 'name = "isp-a"'), ('"isp-b", "isp-a"', '"isp-a"')],
        ['backbone[1].name: "isp-a" is already the name of backbone[0]; write another name'],
    ),
    "a backbone that is not there": (
        [('"isp-b", "isp-a"', '"isp-b", "isp_a"')],
        ['route "outside": backbones[1]: there is no backbone "isp_a"; did you mean "isp-a"?'],
    ),
    "a backbone like no other": (
        [('"isp-b", "isp-a"', '"isp-b", "xyz"')],
        ['route "outside": backbones[1]: there is no backbone "xyz"; write a [[backbone]] table with that name'],
    ),
    "a backbone twice in a route": (
        [('"isp-b", "isp-a"', '"isp-b", "isp-b"')],
        ['route "outside": backbones[1]: "isp-b" is already backbones[0]; leave one of the two out'],
    ),
    "a backbone that no route uses": (
        [('"isp-b", "isp-a"', '"isp-a"')],
        ['backbone "isp-b": name: no route uses this backbone; add it to the `backbones` of a route, or leave it out'],
    ),
    "a backbone that no route uses, as far as one can see": (
        [('"isp-b", "isp-a"', '"isp-a", 5')],
        ['route "outside": backbones[1]: must be a string; for example backbones = ["isp-a", "isp-b"]'],
    ),
    "no backbones in a list of them": (
        [('["isp-b", "isp-a"]', "[]"), (B_TABLE, "")],
        ['route "outside": backbones: is empty; for example backbones = ["isp-a", "isp-b"]'],
    ),
    "a source twice in a backbone": (
        [('"198.51.100.10"', '"2001:db8::1", "2001:db8:0::1"')],
        ['backbone "isp-b": source[1]: "2001:db8::1" is already source[0]; leave one of the two out'],
    ),
    "two IPv4 sources": (
        [('"198.51.100.10"', '"198.51.100.10", "198.51.100.11"')],
        [
            'backbone "isp-b": source[1]: "198.51.100.11" is a second IPv4 address beside "198.51.100.10"; '
            "leave one of the two out, or write a [[backbone]] of its own for it"
        ],
    ),
    "two IPv6 sources": (
        [('"198.51.100.10"', '"2001:db8::1", "198.51.100.10", "2001:db8::2"')],
        [
            'backbone "isp-b": source[2]: "2001:db8::2" is a second IPv6 address beside "2001:db8::1"; '
            "leave one of the two out, or write a [[backbone]] of its own for it"
        ],
    ),
    "one source for two backbones": (
        [('"198.51.100.10"', '"198.51.100.10", "2001:db8:a::10"')],
        [
            'backbone "isp-b": source[1]: "2001:db8:a::10" is already backbone "isp-a": source[1]; '
            "write the address that this uplink's provider gave you"
        ],
    ),
    "hosts and mx": (
        [("mx = true", 'mx = true\nhosts = ["a.example"]')],
        ['route "outside": hosts: is there, and so is mx = true; leave one of the two out'],
    ),
    "neither hosts nor mx": (
        [('hosts = ["mail1.example.org", "[2001:db8::25]:2525", "unix:/run/lmtp"]\n', "")],
        [f'route "inside": {NEITHER}'],
    ),
    "no hosts, and mx is false": (
        [('hosts = ["mail1.example.org", "[2001:db8::25]:2525", "unix:/run/lmtp"]\n', "mx = false\n")],
        [f'route "inside": {NEITHER}'],
    ),
    "neither hosts nor mx, as far as one can see": (
        [("mx = true", 'mx = "yes"')],
        ['route "outside": mx: must be true or false; for example mx = true'],
    ),
    "bad hosts are there": (
        [('"mail1.example.org", "[2', '"mail 1.example.org", "[2')],
        [
            'route "inside": hosts[0]: "mail 1.example.org" is no domain name: "mail 1" between its dots; '
            'letters, digits and hyphens make up a name, such as "example.org"'
        ],
    ),
    "what is for MX only": (
        [
            (
                'backbones = ["isp-a"]\n\n',
                'backbones = ["isp-a"]\nport = 26\nallow_private = false\naddress_literals = true\n'
                "group_domains = true\n\n",
            )
        ],
        [
            'route "inside": port: means nothing without mx = true; '
            "write it behind the name or address in `hosts`, or leave it out",
            'route "inside": allow_private: means nothing without mx = true; '
            "leave it out: `hosts` may have any address",
            'route "inside": address_literals: means nothing without mx = true; '
            "leave it out: such a route takes address literals anyway",
            'route "inside": group_domains: means nothing without mx = true; '
            "leave it out: domains of such a route share a delivery anyway",
        ],
    ),
    "a port that is none": (
        [("port = 2525", "port = 65536")],
        ['route "outside": port: 65536 is no port; write a number from 1 to 65535'],
    ),
    "a port that is none, without MX": (
        [('backbones = ["isp-a"]\n\n', 'backbones = ["isp-a"]\nport = 0\n\n')],
        ['route "inside": port: 0 is no port; write a number from 1 to 65535'],
    ),
    "a port in quotes": (
        [("port = 2525", 'port = "25"')],
        ['route "outside": port: must be a whole number; for example port = 25'],
    ),
    "LMTP by MX on port 25": (
        [("port = 2525", 'port = 25\nprotocol = "lmtp"')],
        ['route "outside": port: is 25, where RFC 2033 forbids LMTP; write for example port = 24'],
    ),
    "LMTP by MX without a port": (
        [("port = 2525", 'protocol = "lmtp"')],
        ['route "outside": port: is missing, so it is 25, where RFC 2033 forbids LMTP; write for example port = 24'],
    ),
    "LMTP by MX on another port": (
        [("port = 2525", 'port = 24\nprotocol = "lmtp"')],
        [],
    ),
    "LMTP by MX, on what port one cannot see": (
        [("port = 2525", 'port = 0\nprotocol = "lmtp"')],
        ['route "outside": port: 0 is no port; write a number from 1 to 65535'],
    ),
    "hosts of a family that no backbone has": (
        [('backbones = ["isp-a"]', 'backbones = ["isp-b"]'), ('"mail1.example.org", ', '"10.0.0.25", ')],
        [
            'route "inside": hosts[1]: no path leads to [2001:db8::25]:2525: none of the route\'s backbones, '
            '"isp-b", has an IPv6 source; add one to a backbone, or leave the host out'
        ],
    ),
    "a host of a family that one of the backbones has": (
        [('backbones = ["isp-a"]', 'backbones = ["isp-b", "isp-a"]')],
        [],
    ),
    "a host of a family that no backbone has, as far as one can see": (
        [('backbones = ["isp-a"]', 'backbones = ["isp-b"]'), ('"198.51.100.10"', '"198.51.100.10", "x"')],
        [
            'backbone "isp-b": source[1]: "x" is no IP address; write for example "192.0.2.10" or "2001:db8::10", '
            "an address of this machine, without a port or an interface"
        ],
    ),
    "a host of a family that no backbone has that is there": (
        [('backbones = ["isp-a"]', 'backbones = ["isp-b", "isp-aa"]')],
        ['route "inside": backbones[1]: there is no backbone "isp-aa"; did you mean "isp-a"?'],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(changes: list[tuple[str, str]], expected: list[str]) -> None:
    assert problems(changed(*changes)) == expected


MX = 'route "outside" goes wherever DNS says (mx)'
EVERYTHING = 'route "outside" takes every domain ("*")'

RELAYS = {
    # domains of the route by MX; who may connect; what is said, and why
    "some domains, nobody named": ('["a.example"]', "", f"is missing, and {MX}"),
    "some domains, everyone": ('["a.example"]', 'clients = ["0.0.0.0/0"]\n', f"is everyone, and {MX}"),
    "some domains, somebody": ('["a.example"]', 'clients = ["10.0.0.0/8"]\n', None),
    "every domain, nobody named": ('["*"]', "", f"is missing, and {EVERYTHING}"),
}


@pytest.mark.parametrize(("domains", "clients", "what"), RELAYS.values(), ids=RELAYS)
def test_open_relay(domains: str, clients: str, what: str | None) -> None:
    text = changed(('domains = ["*"]', f"domains = {domains}"), ('clients = ["10.0.0.0/8"]\n', clients))
    expected = (
        f'listener "from-inside": clients: {what}: this would be an open relay; '
        'name who may connect, for example clients = ["10.0.0.0/8"]'
    )
    assert problems(text) == ([] if what is None else [expected])


def test_a_relay_by_mx_on_a_unix_socket_is_left_to_the_files_mode() -> None:
    text = changed(('bind = ["10.0.0.1:24"]\nclients = ["10.0.0.0/8"]', 'bind = ["unix:/run/out"]'))
    assert problems(text) == []
