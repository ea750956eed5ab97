"""Several next hops in one transaction, and the ledger: what the file says, what is refused, what is only doubtful."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailgate.config import Config, ConfigError, parse
from mailgate.config_values import BadValue, LedgerUrl, parse_ledger_url
from mailgate.network import HostName, TcpAddress, UnixAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import SeveralNextHops

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()

GOOD = """\
hostname = "gw.example.org"

[[listener]]
name = "out"
protocol = "smtp"
bind = ["10.0.0.1:2525"]
routes = ["a", "b"]
several_next_hops = "together"
handover = "10.0.0.25"

[[listener]]
name = "in"
protocol = "lmtp"
bind = ["0.0.0.0:24"]
routes = ["a", "b"]

[[route]]
name = "a"
domains = ["a.example"]
hosts = ["mx.a.example"]

[[route]]
name = "b"
domains = ["b.example"]
hosts = ["mx.b.example", "10.0.0.9:2424", "unix:/run/b"]
protocol = "lmtp"
backbones = ["isp"]

[[backbone]]
name = "isp"
source = ["192.0.2.10"]

[ledger]
url = "redis://:s3cret@10.0.0.5"
"""

SECRET = "s3cret"


def changed(*changes: tuple[str, str]) -> str:
    """GOOD with some of its text replaced, each at its first place."""
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def problems(text: str) -> list[str]:
    try:
        parse(text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


# What it means


def test_the_keys_become_settings() -> None:
    config = parse(GOOD)
    out, into = config.settings.listeners
    assert out.several_next_hops is SeveralNextHops.TOGETHER
    assert out.handover == TcpAddress("10.0.0.25", 25)
    assert (into.several_next_hops, into.handover) == (SeveralNextHops.APART, None)
    assert config.settings.ledger
    assert config.ledger_url == "redis://:s3cret@10.0.0.5"
    assert config.warnings == ()


def test_the_ledger_can_be_off() -> None:
    assert not parse(changed(('url = "redis://:s3cret@10.0.0.5"', "enabled = false"))).settings.ledger


def test_the_handover_is_spoken_to_in_smtp() -> None:
    """Its default port is that of SMTP, as a route's."""
    config = parse(changed(('"10.0.0.25"', '"Queue.example.org"')))
    assert config.settings.listeners[0].handover == HostName("queue.example.org", 25)


def test_the_password_is_not_in_what_is_shown_of_a_configuration() -> None:
    config = parse(GOOD)
    assert SECRET not in repr(config)
    assert SECRET not in str(config)


URLS = {
    "redis://10.0.0.5": (TcpAddress("10.0.0.5", 6379), 0, False, False),
    "redis://10.0.0.5:6380/7": (TcpAddress("10.0.0.5", 6380), 7, False, False),
    "redis://10.0.0.5/": (TcpAddress("10.0.0.5", 6379), 0, False, False),
    "redis://[2001:db8::5]:6380": (TcpAddress("2001:db8::5", 6380), 0, False, False),
    "redis://Ledger.example.org": (HostName("ledger.example.org", 6379), 0, False, False),
    "redis://:s3cret@localhost": (HostName("localhost", 6379), 0, False, True),
    "redis://mailgate:p%40ss%2Fw%C3%B6rd@10.0.0.5/0": (TcpAddress("10.0.0.5", 6379), 0, False, True),
    "rediss://ledger.example.org": (HostName("ledger.example.org", 6379), 0, True, False),
    "unix:///run/valkey.sock": (UnixAddress("/run/valkey.sock"), 0, False, False),
    "unix://:s3cret@/run/valkey.sock?db=3": (UnixAddress("/run/valkey.sock"), 3, False, True),
}


@pytest.mark.parametrize(("text", "meaning"), URLS.items(), ids=URLS)
def test_url(text: str, meaning: tuple[TcpAddress | HostName | UnixAddress, int, bool, bool]) -> None:
    server, database, tls, password = meaning
    assert parse_ledger_url(text) == LedgerUrl(server, database, tls=tls, password=password)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://10.0.0.5", "10.0.0.5:6379"),
        ("redis://joe:s3cret@[::1]/1", "[::1]:6379, database 1, with a password"),
        ("rediss://:s3cret@a.example", "a.example:6379, over TLS, with a password"),
        ("unix:///run/x", "unix:/run/x"),
    ],
)
def test_what_is_shown_of_a_url(text: str, shown: str) -> None:
    assert str(parse_ledger_url(text)) == shown


NO_SCHEME = "does not begin with redis://, rediss:// or unix://"
NO_USER = "has no good user and password before the @"
NO_HOST = "has no good host, or no good port behind it"
NO_PATH = "has no good path of a unix socket"
NO_DATABASE = "has something at its end that is no number of a database"

BAD_URLS = {
    "": NO_SCHEME,
    "s3cret@10.0.0.5": NO_SCHEME,
    "10.0.0.5:6379": NO_SCHEME,
    "redis:10.0.0.5": NO_SCHEME,
    "REDIS://s3cret": NO_SCHEME,
    "valkey://:s3cret@10.0.0.5": NO_SCHEME,
    "unix:/run/s3cret": NO_SCHEME,
    "redis://s3cret@10.0.0.5": NO_USER,
    "redis://s3cret:@10.0.0.5": NO_USER,
    "redis://:s3/cret@10.0.0.5": NO_USER,
    "redis://:s3?cret@10.0.0.5": NO_USER,
    "redis://:s3#cret@10.0.0.5": NO_USER,
    "redis://:s3@cret@10.0.0.5": NO_USER,
    "redis://:s3:cret@10.0.0.5": NO_USER,
    "redis://:s3%cret@10.0.0.5": NO_USER,
    "redis://:s3 cret@10.0.0.5": NO_USER,
    "redis://:s3\u00fccret@10.0.0.5": NO_USER,
    "redis://:s3cret\n@10.0.0.5": NO_USER,
    "redis://10.0.0.5/0#s3cret": NO_USER,
    "redis://": NO_HOST,
    "redis:///0": NO_HOST,
    "redis://:s3cret": NO_HOST,
    "redis://joe:s3cret": NO_HOST,
    "redis://:s3cret@": NO_HOST,
    "redis://:s3cret@10.0.0.256": NO_HOST,
    "redis://:s3cret@10.0.0.5:0": NO_HOST,
    "redis://:s3cret@10.0.0.5:65536": NO_HOST,
    "redis://:s3cret@a b": NO_HOST,
    "redis://10.0.0.5?password=s3cret": NO_HOST,
    "redis://10.0.0.5,10.0.0.6": NO_HOST,
    "redis://10.0.0.5/s3cret": NO_DATABASE,
    "redis://10.0.0.5/0/s3cret": NO_DATABASE,
    "redis://10.0.0.5/0?password=s3cret": NO_DATABASE,
    "redis://10.0.0.5/-1": NO_DATABASE,
    "redis://10.0.0.5/\u0663": NO_DATABASE,
    "unix:///run/x?s3cret": NO_DATABASE,
    "unix:///run/x?3": NO_DATABASE,
    "unix:///run/x?db=": NO_DATABASE,
    "unix:///run/x?db=0&password=s3cret": NO_DATABASE,
    "unix://:s3cret": "has a host, but a unix socket has none",
    "unix://run/s3cret": "has a host, but a unix socket has none",
    "unix://": NO_PATH,
    "unix:///run/%78": NO_PATH,
    "unix:///run/\0s3cret": NO_PATH,
    f"unix:///{'s3cret' * 20}": NO_PATH,
}


@pytest.mark.parametrize(("text", "what"), BAD_URLS.items(), ids=[ascii(text) for text in BAD_URLS])
def test_bad_url(text: str, what: str) -> None:
    """Whatever is wrong, the password is not in the message, nor in what Python would say of it."""
    with pytest.raises(BadValue) as caught:
        parse_ledger_url(text)
    assert caught.value.what == what
    assert caught.value.remedy
    assert SECRET not in f"{caught.value.what} {caught.value.remedy}"


# What is refused

HANDOVER = 'handover = "10.0.0.25"'
LMTP_LEAVE_OUT = "leave it out: each recipient has a reply of its own there, so all next hops are served in one"

REFUSED: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "no such way": (
        [('"together"', '"both"'), (f"{HANDOVER}\n", "")],
        ['listener "out": several_next_hops: "both" is not known here; write "apart" or "together"'],
    ),
    "a handover, and no such way": (
        [('"together"', '"both"')],
        ['listener "out": several_next_hops: "both" is not known here; write "apart" or "together"'],
    ),
    "a handover for apart": (
        [('"together"', '"apart"')],
        [
            'listener "out": handover: means nothing without several_next_hops = "together"; '
            "write that too, or leave it out"
        ],
    ),
    "a handover and nothing else": (
        [('several_next_hops = "together"\n', "")],
        [
            'listener "out": handover: means nothing without several_next_hops = "together"; '
            "write that too, or leave it out"
        ],
    ),
    "an LMTP listener with both": (
        [('bind = ["0.0.0.0:24"]', f'bind = ["0.0.0.0:24"]\nseveral_next_hops = "together"\n{HANDOVER}')],
        [
            f'listener "in": several_next_hops: means nothing with protocol = "lmtp"; {LMTP_LEAVE_OUT}',
            f'listener "in": handover: means nothing with protocol = "lmtp"; {LMTP_LEAVE_OUT}',
        ],
    ),
    "an LMTP listener that says apart": (
        [('bind = ["0.0.0.0:24"]', 'bind = ["0.0.0.0:24"]\nseveral_next_hops = "apart"')],
        [f'listener "in": several_next_hops: means nothing with protocol = "lmtp"; {LMTP_LEAVE_OUT}'],
    ),
    "several handovers": (
        [(HANDOVER, 'handover = ["10.0.0.25"]')],
        ['listener "out": handover: must be a string; for example handover = "10.0.0.25:2525"'],
    ),
    "no host": (
        [(HANDOVER, 'handover = "10.0.0.256"')],
        [
            'listener "out": handover: "10.0.0.256" is no domain name: its last part is a number; write an IPv4 '
            'address with four numbers up to 255; as a mail domain, in brackets: "[192.0.2.1]"'
        ],
    ),
    "a url that is not used": (
        [("[ledger]", "[ledger]\nenabled = false")],
        ["ledger.url: means nothing with enabled = false; leave one of the two out"],
    ),
    "a url that is none": (
        [('"redis://:s3cret@10.0.0.5"', '"s3cret"')],
        [
            f'ledger.url: {NO_SCHEME}; write for example "redis://10.0.0.5", "redis://:PASSWORD@10.0.0.5:6379/0", '
            '"rediss://ledger.example.org" or "unix:///run/valkey/valkey.sock"'
        ],
    ),
    "a url that is a list": (
        [('"redis://:s3cret@10.0.0.5"', '["redis://:s3cret@10.0.0.5"]')],
        ['ledger.url: must be a string; for example url = "redis://:PASSWORD@10.0.0.5"'],
    ),
    "a url in another table": (
        [("handover", 'url = "redis://:s3cret@10.0.0.5"\nhandover')],
        ['listener "out": url: unknown key; it belongs in [ledger]'],
    ),
    "enabled is no text": (
        [('url = "redis://:s3cret@10.0.0.5"', 'enabled = "no"')],
        ["ledger.enabled: must be true or false; for example enabled = true"],
    ),
    "more patience than attempts": (
        [("[ledger]", "[timeouts]\nattempts = 100\n[ledger]")],
        [
            "timeouts.patience: 240 is too long for attempts = 100: what is tried again with patience is a new "
            "attempt; patience must be at most attempts"
        ],
    ),
    "shorter attempts, and nobody is together": (
        [("[ledger]", "[timeouts]\nattempts = 100\n[ledger]"), (f'several_next_hops = "together"\n{HANDOVER}\n', "")],
        [],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(changes: list[tuple[str, str]], expected: list[str]) -> None:
    found = problems(changed(*changes))
    assert found == expected
    assert SECRET not in str(found)


# Who is handed over to, who listens there, and whether that is the gateway itself
ITSELF = [
    ("10.0.0.1:2525", True),  # the listener's own address
    ("10.0.0.1:2526", False),
    ("10.0.0.2:2525", False),
    ("127.0.0.1:2525", False),
    ("127.0.0.1:24", True),  # 0.0.0.0 takes it, of another listener
    ("127.9.9.9:24", True),
    ("10.0.0.1:24", True),  # it takes what another listens on
    ("192.0.2.10:24", True),  # and a backbone's source
    ("10.0.0.25:24", False),  # nobody says whose that is
    ("[::1]:24", False),
    ("localhost:24", True),
    ("localhost:2525", False),
    ("gw.example.org:2525", True),
    ("gw.example.org", False),
    ("mx.example.org:24", False),
    ("unix:/run/in", True),
    ("unix:/run/other", False),
]


@pytest.mark.parametrize(("handover", "itself"), ITSELF, ids=[handover for handover, _ in ITSELF])
def test_a_handover_to_itself(handover: str, *, itself: bool) -> None:
    text = changed(('"10.0.0.25"', f'"{handover}"'), ('"0.0.0.0:24"', '"0.0.0.0:24", "unix:/run/in"'))
    found = problems(text)
    assert bool(found) is itself
    assert all(
        one.startswith(f'listener "out": handover: {handover} is this gateway itself, listener "') for one in found
    )
    assert all(
        one.endswith("]: what nobody has taken would go round; name an inside server with a queue") for one in found
    )


@pytest.mark.parametrize("handover", ["10.0.0.9:2424", "mx.b.example:24", "unix:/run/b"])
def test_a_handover_that_speaks_lmtp(handover: str) -> None:
    assert problems(changed(('"10.0.0.25"', f'"{handover}"'))) == [
        f'listener "out": handover: is spoken to in SMTP, and {handover} speaks LMTP, says route "b": protocol; '
        "name the port of a server's SMTP"
    ]


def test_a_handover_that_is_a_next_hop_too() -> None:
    """It may take for others what they did not."""
    assert problems(changed(('"10.0.0.25"', '"mx.a.example"'))) == []


# What is only doubtful

URL_LINE = 'url = "redis://:s3cret@10.0.0.5"\n'
ONLY = ('routes = ["a", "b"]', 'routes = ["a"]')
WITHOUT_HANDOVER = (f"{HANDOVER}\n", "")

FOR_ONE_ONLY = (
    'listener "out": several_next_hops: "together" without a handover and without a shared ledger is right only for a '
    "single gateway: another one that gets a sender's retry does not know who has the message, and makes a second "
    'copy; if there are others, write url = "redis://..." in [ledger] on all of them, or write for example '
    'handover = "10.0.0.25", an inside server with a queue'
)
FOR_NOBODY = (
    'listener "out": several_next_hops: "together" without a handover and with the ledger off: whenever one next hop '
    "has taken a message and another has not, the sender's retry makes a second copy for the first; leave out "
    'enabled = false in [ledger], or write for example handover = "10.0.0.25", an inside server with a queue'
)
FOR_NOTHING = (
    'listener "out": several_next_hops: "together" changes nothing: all recipients have one next hop, that of route '
    '"a"; leave it out; a message goes to one of a route\'s `hosts`, and each next hop has a route of its own'
)

DOUBTFUL: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "a handover and a shared ledger": ([], []),
    "a handover": ([(URL_LINE, "")], []),
    "a handover and no ledger": ([(URL_LINE, "enabled = false")], []),
    "a shared ledger": ([WITHOUT_HANDOVER], []),
    "neither": ([WITHOUT_HANDOVER, (URL_LINE, "")], [FOR_ONE_ONLY]),
    "no ledger at all": ([WITHOUT_HANDOVER, (URL_LINE, "enabled = false")], [FOR_NOBODY]),
    "apart": ([(f'several_next_hops = "together"\n{HANDOVER}\n', ""), (URL_LINE, "enabled = false")], []),
    "one next hop": ([ONLY], [FOR_NOTHING]),
    "one next hop, neither": ([ONLY, WITHOUT_HANDOVER, (URL_LINE, "")], [FOR_NOTHING]),
    "one next hop, which speaks LMTP": ([ONLY, ('hosts = ["mx.a.example"]', 'hosts = ["m"]\nprotocol = "lmtp"')], []),
    "one route, by MX": (
        [
            ONLY,
            ('hosts = ["mx.a.example"]', "mx = true"),
            ('"smtp"', '"smtp"\nclients = ["10.0.0.0/8"]'),
            ('"lmtp"', '"lmtp"\nclients = ["10.0.0.0/8"]'),
        ],
        [],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_doubtful(changes: list[tuple[str, str]], expected: list[str]) -> None:
    config: Config = parse(changed(*changes))
    assert [str(warning) for warning in config.warnings] == expected


def test_each_listener_is_looked_at() -> None:
    second = (
        GOOD[GOOD.index("[[listener]]") : GOOD.index("handover")].replace('"out"', '"out2"').replace("2525", "2526")
    )
    config = parse(changed(("[[listener]]", f"{second}\n[[listener]]"), WITHOUT_HANDOVER, (URL_LINE, "")))
    assert [warning.where for warning in config.warnings] == [
        'listener "out2": several_next_hops',
        'listener "out": several_next_hops',
    ]
    assert [listener.protocol for listener in config.settings.listeners] == [Role.SMTP, Role.SMTP, Role.LMTP]


# The document


def test_the_documents_example_of_two_gateways_is_good() -> None:
    """It is complete, and nothing in it is doubtful."""
    section = DOCUMENT.partition("### Two gateways and a shared ledger")[2].partition("\n## ")[0]
    (example,) = re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    config = parse(example)
    assert config.warnings == ()
    assert [one.several_next_hops for one in config.settings.listeners] == [SeveralNextHops.TOGETHER]
    assert config.ledger_url == "redis://:PASSWORD@10.0.0.5"


def test_each_event_of_the_ledger_is_documented() -> None:
    section = DOCUMENT.partition("### What the log says of it")[2].partition("\n## ")[0]
    source = "".join((ROOT / "mailgate" / name).read_text() for name in ("app.py", "relay/recall.py"))
    events = re.findall(r'log\.\w+\(\s*"((?:ledger|store|config|possible)_\w+)"', source)
    assert len(events) == 10
    assert [event for event in events if f"| `{event}` |" not in section] == []
