"""Recipient domain → route, as tables; and who may connect at all."""

from __future__ import annotations

import ipaddress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from world import Hop, World

from mailgate.network import Address, TcpAddress, UnixAddress
from mailgate.protocol.command import Mailbox
from mailgate.protocol.reply import Role
from mailgate.relay.conversation import admitted
from mailgate.relay.routing import NextHop, canonical, find_route, postmaster
from mailgate.relay.settings import Listener, Route, Settings

# Which pattern takes a domain. Each is a route of its own, so the order of routes can be turned round.

PATTERNS = (
    "*",
    ".example.org",
    "example.org",
    ".sub.example.org",
    "exact.sub.example.org",
    "xn--bcher-kva.example",
    ".xn--bcher-kva.example",
    "[192.0.2.1]",
    "[ipv6:2001:db8::1]",
    ".",
)

TAKEN_BY = {
    "example.org": "example.org",
    "EXAMPLE.Org": "example.org",
    "mail.example.org": ".example.org",
    "a.b.c.example.org": ".example.org",
    "sub.example.org": ".example.org",
    "x.sub.example.org": ".sub.example.org",
    "x.y.sub.example.org": ".sub.example.org",
    "exact.sub.example.org": "exact.sub.example.org",
    "x.exact.sub.example.org": ".sub.example.org",
    "badexample.org": "*",
    "org": "*",
    "elsewhere.example": "*",
    "bücher.example": "xn--bcher-kva.example",
    "BÜCHER.example": "xn--bcher-kva.example",
    "bu\u0308cher.example": "xn--bcher-kva.example",
    "bücher。example": "xn--bcher-kva.example",
    "XN--BCHER-KVA.example": "xn--bcher-kva.example",
    "x.bücher.example": ".xn--bcher-kva.example",
    "x_y.bücher.example": "*",  # no valid name
    "[192.0.2.1]": "[192.0.2.1]",
    "[192.0.2.2]": "*",
    "[IPv6:2001:db8::1]": "[ipv6:2001:db8::1]",
    "[ipv6:2001:0DB8:0:0::0001]": "[ipv6:2001:db8::1]",
    "[IPv6:2001:db8::2]": "*",
}


@pytest.mark.parametrize(("domain", "pattern"), TAKEN_BY.items())
def test_the_most_specific_pattern_wins_whatever_the_order(domain: str, pattern: str) -> None:
    routes = [Route(name=one, domains=(one,), hosts=()) for one in PATTERNS]
    assert [find_route(order, domain) for order in (routes, routes[::-1])] == [routes[PATTERNS.index(pattern)]] * 2


def test_of_equal_patterns_the_first_route_wins() -> None:
    first, second = (Route(name=name, domains=("example.org", "*"), hosts=()) for name in ("first", "second"))
    assert find_route([first, second], "example.org") is first
    assert find_route([second, first], "elsewhere.example") is second


NOT_TAKEN = ["elsewhere.example", "sub.example.org", "org", "example.org.evil.example", "[192.0.2.1]"]


@pytest.mark.parametrize("domain", NOT_TAKEN)
def test_nobody_takes_it(domain: str) -> None:
    assert find_route([Route(name="r", domains=("example.org",), hosts=())], domain) is None


def test_nobody_is_there() -> None:
    assert find_route([], "example.org") is None


@given(st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1))
def test_canonical_never_fails_and_is_its_own_form(domain: str) -> None:
    once = canonical(domain)
    assert canonical(once) == once


def test_next_hops_are_equal_where_their_routes_are() -> None:
    routes = [Route(name=name, domains=("*",), hosts=()) for name in "ab"]
    assert NextHop(routes[0]) == NextHop(routes[0])
    assert NextHop(routes[0]) != NextHop(routes[1])
    assert str(NextHop(routes[0])) == "a"


# <Postmaster>

POSTMASTERS = [
    pytest.param("boss@a.example", Mailbox("Postmaster", ""), Mailbox("boss", "a.example"), id="configured"),
    pytest.param('"a@b"@a.example', Mailbox("Postmaster", ""), Mailbox('"a@b"', "a.example"), id="quoted"),
    pytest.param(None, Mailbox("POSTMASTER", ""), Mailbox("postmaster", "gw.example"), id="by default"),
    pytest.param("boss@a.example", Mailbox("postmaster", "b.example"), Mailbox("postmaster", "b.example"), id="other"),
]


@pytest.mark.parametrize(("configured", "asked", "wanted"), POSTMASTERS)
def test_postmaster(configured: str | None, asked: Mailbox, wanted: Mailbox) -> None:
    assert postmaster(Settings(hostname="gw.example", listeners=(), postmaster=configured), asked) == wanted


# Who may connect

NETWORKS = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8:1::/48"))

PEERS: list[tuple[Address, bool]] = [
    (TcpAddress("192.0.2.255", 1), True),
    (TcpAddress("192.0.3.0", 1), False),
    (TcpAddress("::ffff:192.0.2.1", 1), True),
    (TcpAddress("::ffff:192.0.3.1", 1), False),
    (TcpAddress("2001:db8:1::9", 1), True),
    (TcpAddress("2001:db8:2::9", 1), False),
    (TcpAddress("fe80::1%eth0", 1), False),
    (UnixAddress(""), True),
]


@pytest.mark.parametrize(("peer", "wanted"), PEERS, ids=[str(peer) for peer, _ in PEERS])
def test_admitted(peer: Address, wanted: bool) -> None:
    listener = Listener(name="l", protocol=Role.SMTP, routes=(), clients=NETWORKS)
    assert admitted(listener, peer) is wanted
    assert admitted(Listener(name="l", protocol=Role.SMTP, routes=()), peer) is True
    assert admitted(Listener(name="l", protocol=Role.SMTP, routes=(), clients=()), peer) is isinstance(
        peer, UnixAddress
    )


# End to end: where recipients go, one session per next hop


async def test_recipients_by_next_hop(autojump_clock: MockClock) -> None:
    """Domains of one route share a session, in the client's order; the addresses go on as they were written."""
    hops = (
        Hop("a", domains=("a.example", ".a.example", "xn--bcher-kva.example")),
        Hop("b", domains=("*",)),
        Hop("c", domains=("[192.0.2.9]",)),
    )
    recipients = {
        "One@A.Example": "a1",
        "two@elsewhere.example": "b1",
        "three@x.a.example": "a1",
        "four@[192.0.2.9]": "c1",
        "five@xn--bcher-kva.example": "a1",
        "six@[192.0.2.8]": "b1",
        '"se ven"@a.example': "a1",
    }
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        told = await client.transact(*recipients)
        assert told.outcomes == ("250 2.0.0 taken",) * 7
        for name, mta in world.mtas.items():
            wanted = tuple(recipient for recipient, host in recipients.items() if host == name)
            assert [message.recipients for message in mta.messages] == [wanted]
