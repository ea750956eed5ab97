"""mailgate in the lab: its configuration is one that it takes, and its log is read as it writes it."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path

import pytest
import trio

from lab.gateway import BINDS, LAPSE, Mailgate, Together, Told, configuration
from lab.network import Network
from lab.topology import DNS, SITE_DOMAINS, Topology
from mailgate import config, logs
from mailgate.network import TcpAddress
from mailgate.protocol.reply import Reply
from mailgate.relay.outcome import Kind, Outcome
from mailgate.relay.settings import SeveralNextHops

ONE, TWO = Topology.ONE_SITE, Topology.TWO_SITES

BOTH_SERVERS = {"example.org": "smtp", "example.net": "lmtp"}

SITE = dict.fromkeys(SITE_DOMAINS, "smtp")

OUTSIDE = {
    (ONE, 1): {"isp-a": "192.0.2.10", "isp-b": "198.51.100.10"},
    (ONE, 2): {"isp-a": "192.0.2.11", "isp-b": "198.51.100.11"},
    (TWO, 1): {"isp-a": "192.0.2.10"},
    (TWO, 2): {"isp-b": "198.51.100.11"},
}

EACH = pytest.mark.parametrize(
    ("topology", "number"), OUTSIDE, ids=[f"{topology.value} gw{number}" for topology, number in OUTSIDE]
)


def configured(topology: Topology, number: int, speak: dict[str, str] | None = None) -> config.Config:
    """A gateway's configuration, as mailgate understands it."""
    return config.parse(configuration(Network(1, topology), number, BOTH_SERVERS if speak is None else speak))


def binds(found: config.Config, listener: str) -> list[str]:
    return [str(bind.address) for bind in found.binds if bind.listener.name == listener]


# Each case may have servers for both domains of the site, or for one.

SPEAK = {
    "both": BOTH_SERVERS,
    "both, the other way round": {"example.net": "smtp", "example.org": "lmtp"},
    "one": {"example.org": "smtp"},
}


@EACH
@pytest.mark.parametrize("speak", SPEAK.values(), ids=SPEAK)
def test_mailgate_takes_the_configuration(topology: Topology, number: int, speak: dict[str, str]) -> None:
    assert configured(topology, number, speak).settings.hostname == f"gw{number}.example.org"


@EACH
def test_a_gateway_listens_on_each_of_its_backbones(topology: Topology, number: int) -> None:
    outside = [f"{ip}:25" for ip in OUTSIDE[topology, number].values()]
    assert binds(configured(topology, number), "from-outside") == outside


@EACH
@pytest.mark.parametrize(("listener", "port"), [("from-inside", 24), ("from-inside-smtp", 587)])
def test_a_gateway_listens_inside(topology: Topology, number: int, listener: str, port: int) -> None:
    assert binds(configured(topology, number), listener) == [f"10.0.0.{number}:{port}"]


@EACH
def test_the_lines_that_say_that_it_listens_are_counted_right(topology: Topology, number: int) -> None:
    """The lab waits for one from each listening address."""
    assert len(configured(topology, number).binds) == BINDS + (topology is ONE)


@EACH
def test_backbones_are_the_addresses_outside_in_order(topology: Topology, number: int) -> None:
    found = {backbone.name: backbone.sources for backbone in configured(topology, number).backbones}
    assert list(found.items()) == [(name, (ip,)) for name, ip in OUTSIDE[topology, number].items()]


@EACH
def test_names_on_backbones_are_those_of_the_zone(topology: Topology, number: int) -> None:
    names = [backbone.helo for backbone in configured(topology, number).backbones]
    assert names == [f"gw{number}-{name[-1]}.example.org" for name in OUTSIDE[topology, number]]


@EACH
def test_from_outside_mail_goes_to_the_sites_servers_only(topology: Topology, number: int) -> None:
    (listener,) = {bind.listener for bind in configured(topology, number).binds if bind.listener.clients is None}
    assert [(route.domains, [str(host) for host in route.hosts], route.protocol.name) for route in listener.routes] == [
        (("example.org",), ["10.0.1.25:25"], "SMTP"),
        (("example.net",), ["10.0.1.26:24"], "LMTP"),
    ]


@EACH
def test_in_a_transaction_there_is_one_next_hop_by_default(topology: Topology, number: int) -> None:
    found = configured(topology, number)
    assert {one.several_next_hops for one in found.settings.listeners} == {SeveralNextHops.APART}
    assert found.ledger_url is None


@EACH
@pytest.mark.parametrize("handover", [True, False])
def test_together(topology: Topology, number: int, handover: bool) -> None:
    """All three of the site's domains are served in one transaction, only from outside."""
    text = configuration(Network(1, topology), number, SITE, Together(patience=4, handover=handover))
    found = config.parse(text)
    outside = [one for one in found.settings.listeners if one.several_next_hops is SeveralNextHops.TOGETHER]
    assert [one.name for one in outside] == ["from-outside"]
    assert len(outside[0].routes) == 3
    assert (str(outside[0].handover) if outside[0].handover else None) == ("10.0.1.30:25" if handover else None)
    assert found.ledger_url == "redis://10.0.1.31"
    assert found.settings.timeouts.patience == 4


@EACH
def test_from_inside_mail_goes_by_mx_over_every_backbone(topology: Topology, number: int) -> None:
    inside = [one for one in configured(topology, number).settings.listeners if one.clients is not None]
    assert [[str(network) for network in one.clients or ()] for one in inside] == [["10.0.0.0/8"]] * 2
    for listener in inside:
        (route,) = listener.routes
        assert route.mx
        assert [backbone.name for backbone in route.backbones] == list(OUTSIDE[topology, number])


@EACH
def test_the_labs_name_server_is_asked(topology: Topology, number: int) -> None:
    assert configured(topology, number).dns_servers == (TcpAddress(DNS, 53),)


# The log. Lines as they were written by a gateway, but for what they are about.

AT = datetime.datetime(2024, 5, 1, 12, 0, 10, tzinfo=datetime.UTC)
ENDED = AT.timestamp()
ANN, BOB = "ann@example.org", "bob@example.net"

DELIVERED = f"{ANN} delivered: 250 2.0.0 ok (10.0.1.25:25)"
DEFERRED = f"{BOB} deferred: 451 4.4.1 no path (None)"
REJECTED = f"{BOB} rejected: 550 5.1.1 delivered nowhere (10.0.1.26:24)"
UNKNOWN = f"{BOB} unknown: 451 4.4.2 lost (isp-a/10.0.1.26:24)"


def line(event: str, **more: object) -> str:
    return json.dumps({"timestamp": "2024-05-01T12:00:10.000Z", "level": "info", "event": event, "id": "A1", **more})


def told(recipient: str, kind: str, *, untold: bool = False, begun: float = ENDED - 1.5) -> Told:
    return Told("A1", recipient, begun, ENDED, kind, untold)


LINES: dict[str, tuple[str, list[Told]]] = {
    "delivered": (line("delivered", outcomes=[DELIVERED], seconds=1.5), [told(ANN, "delivered")]),
    "at once": (line("delivered", outcomes=[DELIVERED], seconds=0), [told(ANN, "delivered", begun=ENDED)]),
    "deferred": (line("not_delivered", outcomes=[DEFERRED], seconds=1.5, bytes=9), [told(BOB, "deferred")]),
    "rejected": (line("not_delivered", outcomes=[REJECTED], seconds=1.5, bytes=9), [told(BOB, "rejected")]),
    "unknown": (line("not_delivered", outcomes=[UNKNOWN], seconds=1.5, bytes=9), [told(BOB, "unknown")]),
    "partly": (
        line("partly_delivered", outcomes=[DELIVERED, UNKNOWN], seconds=1.5, bytes=9),
        [told(ANN, "delivered"), told(BOB, "unknown")],
    ),
    "untold by its key": (
        line("delivered", outcomes=[DELIVERED], seconds=1.5, untold=1),
        [told(ANN, "delivered", untold=True)],
    ),
    "untold is only what was delivered": (
        line("partly_delivered", outcomes=[DELIVERED, DEFERRED], seconds=1.5, untold=1),
        [told(ANN, "delivered", untold=True), told(BOB, "deferred")],
    ),
    "untold none": (line("delivered", outcomes=[DELIVERED], seconds=1.5, untold=0), [told(ANN, "delivered")]),
    "committing": (line("committing", to=[ANN], bytes=9, paths=["x"]), []),
    "not put into the shared ledger": (
        line("possible_duplicate", to=[ANN]),
        [Told("", ANN, ENDED, ENDED, LAPSE, untold=False)],
    ),
    "handing over": (line("handing_over", host="10.0.1.30:25", outcomes=[DEFERRED]), []),
    "abandoned": (line("abandoned", why="the client left", to=[ANN], seconds=1.5), []),
    "listening": (line("listening", address="10.0.0.1:24"), []),
    "nothing": ("", []),
    "no line of a log": ("Traceback (most recent call last):", []),
    "no line of a log, with a brace": ("KeyError: {1}", []),
    "a line that is being written": (line("delivered", outcomes=[DELIVERED], seconds=1.5)[:-1], []),
}


async def read(folder: Path, log: bytes) -> list[Told]:
    """What the log of a gateway says, with that in its file."""
    (folder / "gw1.log").write_bytes(log)
    async with trio.open_nursery() as nursery:
        gateway = Mailgate(nursery, Network(1, ONE), 1, folder)
    return list(gateway.told())


@pytest.mark.parametrize(("text", "expected"), LINES.values(), ids=LINES)
async def test_told(text: str, expected: list[Told], tmp_path: Path) -> None:
    assert await read(tmp_path, f"{text}\n".encode()) == expected


async def test_a_line_of_its_own_tells_who_has_not_heard(tmp_path: Path) -> None:
    (ann, bob) = await read(tmp_path, f"{line('untold', to=[ANN, BOB])}\n".encode())
    assert [(one.session, one.recipient, one.ended, one.kind, one.untold) for one in (ann, bob)] == [
        ("A1", recipient, ENDED, "delivered", True) for recipient in (ANN, BOB)
    ]
    assert ann.begun <= ENDED


async def test_a_line_of_its_own_is_about_the_last_message(tmp_path: Path) -> None:
    earlier = line("delivered", outcomes=[DELIVERED], seconds=1.5)
    (_, ann) = await read(tmp_path, f"{earlier}\n{line('untold', to=[ANN])}\n".encode())
    assert ann == told(ANN, "delivered", untold=True)


async def test_the_log_is_read_in_order_past_what_is_no_line_of_it(tmp_path: Path) -> None:
    log = "\n".join(text for text, _ in LINES.values())
    assert await read(tmp_path, log.encode()) == [one for _, expected in LINES.values() for one in expected]


async def test_without_a_log_nothing_is_told(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        assert list(Mailgate(nursery, Network(1, ONE), 2, tmp_path).told()) == []


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
async def test_what_mailgate_writes_is_read(kind: Kind, tmp_path: Path) -> None:
    stream = io.BytesIO()
    log = logs.configure(stream=stream, format="json", verbose=False, now=lambda: AT).bind(id="A1")
    outcome = Outcome(kind, Reply(451, "4.0.0", ("whatever (it) delivered:",)))
    log.info("whatever", outcomes=[f"{ANN} {outcome} (isp-a/10.0.1.25:25)"], seconds=1.5)
    assert await read(tmp_path, stream.getvalue()) == [told(ANN, kind.value)]
