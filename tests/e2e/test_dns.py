"""A real DNS server between the gateway's look-ups and its next hops, with all that it may do wrong."""

from __future__ import annotations

import pytest
import trio
from dns_server import Fault, Zone, serve

from mailgate import network as network_module
from mailgate.network import Answer, NoAnswer, RealNetwork, TcpAddress
from mailgate.relay.lookups import Lookups
from mailgate.relay.nexthop import locate, preferences
from mailgate.relay.outcome import LOOKUP_FAILED, NO_SUCH_DOMAIN, NULL_MX, Failure, told
from mailgate.relay.routing import next_hop
from mailgate.relay.settings import Route

LIFETIME = 0.5
MANY = [f"{number} h{number}.a-long-name-so-that-it-does-not-fit-into-a-datagram.example." for number in range(500)]

ZONE: Zone = {
    ("plain.example", "MX"): ["10 mx.plain.example."],
    ("mx.plain.example", "A"): ["192.0.2.1"],
    ("mx.plain.example", "AAAA"): ["2001:db8::1"],
    ("cname.example", "MX"): ["10 alias.cname.example."],
    ("alias.cname.example", "CNAME"): ["again.cname.example."],
    ("again.cname.example", "CNAME"): ["mx.plain.example."],
    ("moved.example", "CNAME"): ["plain.example."],
    ("many.example", "MX"): MANY,
    ("h0.a-long-name-so-that-it-does-not-fit-into-a-datagram.example", "A"): ["192.0.2.5"],
    ("implicit.example", "A"): ["192.0.2.2"],
    ("null.example", "MX"): ["0 ."],
    ("empty.example", "TXT"): ["nothing here"],
    ("xn--bcher-kva.example", "MX"): ["10 mx.plain.example."],
    ("loop.example", "MX"): ["10 a.loop.example."],
    ("a.loop.example", "CNAME"): ["b.loop.example."],
    ("b.loop.example", "CNAME"): ["a.loop.example."],
    **{(f"{fault.name.lower().replace('_', '-')}.example", "MX"): fault for fault in Fault},
    ("half.example", "MX"): ["10 mx.half.example."],
    ("mx.half.example", "A"): ["192.0.2.3"],
    ("mx.half.example", "AAAA"): Fault.SERVFAIL,
}

TO_PLAIN = ("192.0.2.1", "2001:db8::1")
# domain → the addresses of its best hosts, or the reply
FOUND = {
    "plain.example": TO_PLAIN,
    "PLAIN.example": TO_PLAIN,
    "cname.example": TO_PLAIN,
    "moved.example": TO_PLAIN,
    "many.example": ("192.0.2.5",),
    "implicit.example": ("192.0.2.2",),
    "bücher.example": TO_PLAIN,
    "half.example": ("192.0.2.3",),
    "null.example": NULL_MX,
    "empty.example": NO_SUCH_DOMAIN,
    "no-such.example": NO_SUCH_DOMAIN,
    "loop.example": LOOKUP_FAILED,
    "silence.example": LOOKUP_FAILED,
    "servfail.example": LOOKUP_FAILED,
    "garbage.example": LOOKUP_FAILED,
    "another-id.example": LOOKUP_FAILED,
}


@pytest.mark.parametrize(("domain", "expected"), FOUND.items(), ids=FOUND)
async def test_next_hops(domain: str, expected: object, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "QUERY_LIFETIME", LIFETIME)
    network = RealNetwork((await nursery.start(serve, ZONE),))
    lookups = Lookups(network)
    route = Route(name="out", domains=("*",), mx=True)
    with trio.fail_after(5):
        found = await preferences(lookups, next_hop(route, domain), ())
        if not isinstance(found, Failure):
            located = await locate(lookups, network, route, found[0], (), 1)
            if not located.addresses:
                found = located.failures[0][1]
    if isinstance(found, Failure):
        assert told([found]) == expected
    else:
        ips = [address.ip for _, ways in located.addresses for address in ways if isinstance(address, TcpAddress)]
        assert tuple(sorted(ips)) == expected


async def test_a_truncated_answer_is_asked_for_again_over_tcp(nursery: trio.Nursery) -> None:
    network = RealNetwork((await nursery.start(serve, ZONE),))
    answer = await network.query("many.example", "MX")
    assert isinstance(answer, Answer)
    assert sorted(answer.records) == sorted(MANY)


async def test_an_answer_about_another_name_is_none(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "QUERY_LIFETIME", LIFETIME)
    network = RealNetwork((await nursery.start(serve, ZONE),))
    answer = await network.query("another-name.example", "MX")
    assert answer in (NoAnswer.NO_DATA, NoAnswer.TEMPORARY)
