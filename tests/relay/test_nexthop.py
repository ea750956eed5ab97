"""Next hops by MX, and where their hosts are: what DNS says → hosts, addresses, or the reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import Address, Answer, HostName, NoAnswer, TcpAddress
from mailgate.protocol.reply import Reply
from mailgate.relay import nexthop
from mailgate.relay.lookups import Lookups
from mailgate.relay.nexthop import Located, locate, preferences
from mailgate.relay.outcome import LOOKUP_FAILED, NO_SUCH_DOMAIN, NULL_MX, OURSELVES, Failure, told
from mailgate.relay.routing import NextHop, Preferences, next_hop
from mailgate.relay.settings import Host, Route
from mailgate.testing import MemoryNetwork

Records = Mapping[tuple[str, str], Answer | NoAnswer]

BY_MX = Route(name="out", domains=("*",), mx=True)
NAMES = ("gw.example", "isp-a.gw.example")


def answer(*records: str) -> Answer:
    return Answer(records, 60)


def hosts(*groups: str, port: int = 25) -> Preferences:
    """A string for each preference: the names of its hosts."""
    return tuple(tuple(HostName(name, port) for name in group.split()) for group in groups)


async def find(records: Records, hop: NextHop, seed: int = 0) -> Preferences | Failure:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, seed)
        network.records.update(records)
        found = await preferences(Lookups(network), hop, NAMES)
        nursery.cancel_scope.cancel()
    return found


# The hosts of a domain

MX: dict[str, tuple[Answer | NoAnswer, Preferences | Reply]] = {
    "one": (answer("10 mx.a.example."), hosts("mx.a.example")),
    "in order of preference": (answer("20 b.example.", "10 a.example."), hosts("a.example", "b.example")),
    "preferences as numbers": (answer("100 b.example.", "20 a.example."), hosts("a.example", "b.example")),
    "in lower case": (answer("10 MX.A.Example."), hosts("mx.a.example")),
    "a host twice counts at its best": (
        answer("20 a.example.", "10 a.example.", "20 b.example."),
        hosts("a.example", "b.example"),
    ),
    "implicit": (NoAnswer.NO_DATA, hosts("a.example")),
    "null": (answer("0 ."), NULL_MX),
    "null beside a host": (answer("0 .", "10 mx.a.example."), hosts("mx.a.example")),
    "no such domain": (NoAnswer.NO_SUCH_DOMAIN, NO_SUCH_DOMAIN),
    "temporary": (NoAnswer.TEMPORARY, LOOKUP_FAILED),
    "nothing in the answer": (answer(), hosts("a.example")),
    "nonsense": (answer("ten mx.a.example.", "70000 b.example.", "10 a\\000b.example.", "10"), NO_SUCH_DOMAIN),
    "nonsense beside a host": (answer("-1 b.example.", "10 a..example.", "10 mx.a.example."), hosts("mx.a.example")),
    "more nonsense": (answer(f"{'9' * 5000} b.example.", "\u0661 b.example.", "10 a b.example."), NO_SUCH_DOMAIN),
    "a label too long": (answer(f"10 {'a' * 64}.example.", f"10 {'b' * 63}.example."), hosts(f"{'b' * 63}.example")),
    "a name too long": (answer(f"10 {'a.' * 130}example.", "10 mx.a.example."), hosts("mx.a.example")),
    "an address for a name": (answer("10 192.0.2.1."), hosts("192.0.2.1")),
    "ourselves": (answer("10 gw.example."), OURSELVES),
    "ourselves by a backbone's HELO name": (answer("10 isp-a.gw.example."), OURSELVES),
    "ourselves best": (answer("10 gw.example.", "20 b.example."), OURSELVES),
    "ourselves among equals": (answer("10 GW.example.", "10 b.example."), OURSELVES),
    "ourselves behind another": (answer("5 b.example.", "10 gw.example.", "20 c.example."), hosts("b.example")),
}


@pytest.mark.parametrize("grouped", [False, True], ids=["by domain", "grouped"])
@pytest.mark.parametrize(("mx", "expected"), MX.values(), ids=MX)
async def test_mx(
    mx: Answer | NoAnswer, expected: Preferences | Reply, grouped: bool, autojump_clock: MockClock
) -> None:
    route = Route(name="out", domains=("*",), mx=True, group_domains=grouped)
    found = await find({("a.example", "MX"): mx}, next_hop(route, "a.example"))
    assert (found.reply if isinstance(found, Failure) else found) == expected


async def test_a_failure_says_what_is_wrong(autojump_clock: MockClock) -> None:
    found = await find({("a.example", "MX"): NoAnswer.TEMPORARY}, next_hop(BY_MX, "a.example"))
    assert isinstance(found, Failure)
    assert found.why == "a.example (MX): temporary failure"


async def test_equal_hosts_come_in_any_order(autojump_clock: MockClock) -> None:
    records = {("a.example", "MX"): answer("10 a.example.", "10 b.example.", "20 c.example.")}
    found = {await find(records, next_hop(BY_MX, "a.example"), seed) for seed in range(20)}
    assert found == {hosts("a.example b.example", "c.example"), hosts("b.example a.example", "c.example")}


async def test_grouped_domains_with_equal_hosts_are_equal(autojump_clock: MockClock) -> None:
    route = Route(name="out", domains=("*",), mx=True, group_domains=True)
    records = {
        ("a.example", "MX"): answer("10 y.example.", "10 x.example.", "20 z.example."),
        ("b.example", "MX"): answer("5 x.example.", "7 z.example.", "5 Y.example."),
        ("c.example", "MX"): answer("5 x.example.", "5 z.example.", "5 y.example."),
    }
    a, b, c = [await find(records, next_hop(route, f"{name}.example")) for name in "abc"]
    assert a == b
    assert a != c


async def test_of_500_mx_the_best_20(autojump_clock: MockClock) -> None:
    mx = answer(*(f"{number} h{number}.example." for number in reversed(range(500))))
    found = await find({("a.example", "MX"): mx}, next_hop(BY_MX, "a.example"))
    assert found == hosts(*(f"h{number}.example" for number in range(20)))


@pytest.mark.parametrize(("grouped", "choices"), [(False, 5), (True, 1)], ids=["by domain", "grouped"])
async def test_of_500_equal_mx_any_20(grouped: bool, choices: int, autojump_clock: MockClock) -> None:
    """Grouped domains are equal whatever the dice say."""
    route = Route(name="out", domains=("*",), mx=True, group_domains=grouped)
    records = {("a.example", "MX"): answer(*(f"10 h{number}.example." for number in range(500)))}
    found = [await find(records, next_hop(route, "a.example"), seed) for seed in range(5)]
    assert [len(one[0]) for one in found if not isinstance(one, Failure)] == [20] * 5
    assert len(set(found)) == choices


async def test_ourselves_behind_20_equals(autojump_clock: MockClock) -> None:
    """What is cut off counts, too."""
    mx = answer(*(f"10 a{number}.example." for number in range(20)), "10 gw.example.")
    route = Route(name="out", domains=("*",), mx=True, group_domains=True)
    found = await find({("a.example", "MX"): mx}, next_hop(route, "a.example"))
    assert isinstance(found, Failure)
    assert found.reply == OURSELVES


async def test_a_domain_without_mx_that_is_ourselves(autojump_clock: MockClock) -> None:
    found = await find({("gw.example", "A"): answer("192.0.2.9")}, next_hop(BY_MX, "gw.example"))
    assert isinstance(found, Failure)
    assert found.reply == OURSELVES


async def test_the_routes_port_is_that_of_its_mx(autojump_clock: MockClock) -> None:
    route = Route(name="out", domains=("*",), mx=True, port=2525)
    records = {("a.example", "MX"): answer("10 mx.example.")}
    assert await find(records, next_hop(route, "a.example")) == hosts("mx.example", port=2525)


@pytest.mark.parametrize(
    ("domain", "asked"),
    [("bücher.example", "xn--bcher-kva.example"), ("A.Example", "a.example"), ("a_b.example", "a_b.example")],
)
async def test_what_is_asked(domain: str, asked: str, autojump_clock: MockClock) -> None:
    assert await find({(asked, "MX"): answer("10 mx.example.")}, next_hop(BY_MX, domain)) == hosts("mx.example")


@pytest.mark.parametrize(
    ("literal", "ip"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
        ("[IPv6:::ffff:192.0.2.1]", "192.0.2.1"),
    ],
    ids=str,
)
async def test_literals(literal: str, ip: str, autojump_clock: MockClock) -> None:
    route = Route(name="out", domains=("*",), mx=True, port=2525)
    assert await find({}, next_hop(route, literal)) == ((TcpAddress(ip, 2525),),)


async def test_static_hosts_need_no_look_up(autojump_clock: MockClock) -> None:
    first, second = TcpAddress("10.0.0.1", 25), HostName("b.example", 25)
    route = Route(name="in", domains=("a.example",), hosts=(first, second))
    assert await find({}, next_hop(route, "a.example")) == ((first,), (second,))


# Where they are


async def where(
    records: Records,
    *sought: Host,
    route: Route = BY_MX,
    own: Sequence[Address] = (),
    local: Sequence[str] = (),
    delays: Mapping[tuple[str, str], float] | None = None,
    grace: float = 0.25,
    etc_hosts: Mapping[str, tuple[str, ...]] | None = None,
) -> Located:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.records.update(records)
        network.query_delays.update(delays or {})
        network.hosts.update(etc_hosts or {})
        network.addresses.extend(local)
        located = await locate(Lookups(network), network, route, sought, own, grace)
        nursery.cancel_scope.cancel()
    return located


MX1, MX2 = HostName("mx1.example", 25), HostName("mx2.example", 25)

# What one host's A and AAAA are, and what comes of it if it is the only one
ADDRESSES: dict[str, tuple[Answer | NoAnswer, Answer | NoAnswer, Sequence[str] | Reply]] = {
    "both, IPv6 first": (answer("192.0.2.1"), answer("2001:db8::1"), ["2001:db8::1", "192.0.2.1"]),
    "IPv4 only": (answer("192.0.2.1"), NoAnswer.NO_DATA, ["192.0.2.1"]),
    "IPv4, and IPv6 failed": (answer("192.0.2.1"), NoAnswer.TEMPORARY, ["192.0.2.1"]),
    "none": (NoAnswer.NO_DATA, NoAnswer.NO_DATA, NO_SUCH_DOMAIN),
    "no such name": (NoAnswer.NO_SUCH_DOMAIN, NoAnswer.NO_SUCH_DOMAIN, NO_SUCH_DOMAIN),
    "one failed for now": (NoAnswer.NO_DATA, NoAnswer.TEMPORARY, LOOKUP_FAILED),
    "both failed for now": (NoAnswer.TEMPORARY, NoAnswer.TEMPORARY, LOOKUP_FAILED),
    "private": (answer("10.0.0.1"), NoAnswer.NO_DATA, NO_SUCH_DOMAIN),
    "private, and one failed for now": (answer("10.0.0.1"), NoAnswer.TEMPORARY, LOOKUP_FAILED),
    "one of two private": (answer("10.0.0.1", "192.0.2.1"), NoAnswer.NO_DATA, ["192.0.2.1"]),
    "IPv4-mapped leaves by IPv4": (NoAnswer.NO_DATA, answer("::ffff:192.0.2.1"), ["192.0.2.1"]),
    "the same twice": (answer("192.0.2.1"), answer("::ffff:192.0.2.1"), ["192.0.2.1"]),
}


@pytest.mark.parametrize(("a", "aaaa", "expected"), ADDRESSES.values(), ids=ADDRESSES)
async def test_addresses(
    a: Answer | NoAnswer, aaaa: Answer | NoAnswer, expected: Sequence[str] | Reply, autojump_clock: MockClock
) -> None:
    located = await where({(MX1.name, "A"): a, (MX1.name, "AAAA"): aaaa}, MX1)
    if isinstance(expected, Reply):
        assert located.addresses == ()
        assert told([failure for _, failure in located.failures]) == expected
    else:
        assert located == Located(addresses=((MX1, tuple(TcpAddress(ip, 25) for ip in expected)),))


# Every range that is not on the Internet: its first and last address, and those beside it
RANGES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "this network": (["0.0.0.0", "0.255.255.255"], ["1.0.0.0"]),
    "10/8": (["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
    "carrier's NAT": (["100.64.0.0", "100.127.255.255"], ["100.63.255.255", "100.128.0.0"]),
    "loopback": (["127.0.0.1", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]),
    "link-local": (["169.254.0.1", "169.254.255.255"], ["169.253.255.255", "169.255.0.0"]),
    "172.16/12": (["172.16.0.0", "172.31.255.255"], ["172.15.255.255", "172.32.0.0"]),
    "192.168/16": (["192.168.0.0", "192.168.255.255"], ["192.167.255.255", "192.169.0.0"]),
    "multicast, reserved, broadcast": (["224.0.0.1", "240.0.0.1", "255.255.255.255"], ["223.255.255.255"]),
    "documentation is allowed": ([], ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"]),
    "IPv6 unspecified, loopback": (["::", "::1"], ["2001:4860::1"]),
    "unique local": (["fc00::1", "fdff::1"], ["fbff::1"]),
    "IPv6 link-local": (["fe80::1", "febf::1"], ["fe7f::1"]),
    "site-local": (["fec0::1", "feff::1"], []),
    "discarded": (["100::", "100::ffff:ffff:ffff:ffff"], ["100:0:0:1::"]),
    "a site's own NAT64": (["64:ff9b:1::192.0.2.1"], ["64:ff9b:2::1"]),
    "IPv6 multicast": (["ff02::1"], []),
    "IPv4 inside IPv6": (
        ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1", "::10.0.0.1"],
        ["64:ff9b::192.0.2.1"],
    ),
}


@pytest.mark.parametrize("allowed", [False, True], ids=["", "allow_private"])
@pytest.mark.parametrize(("inside", "outside"), RANGES.values(), ids=RANGES)
async def test_private_ranges(
    inside: Sequence[str], outside: Sequence[str], allowed: bool, autojump_clock: MockClock
) -> None:
    route = Route(name="out", domains=("*",), mx=True, allow_private=allowed)
    for ip in (*inside, *outside):
        located = await where({(MX1.name, "AAAA" if ":" in ip else "A"): answer(ip)}, MX1, route=route)
        assert bool(located.addresses) == (allowed or ip in outside), ip
        literal = await where({}, TcpAddress(ip, 25), route=route)
        assert bool(literal.addresses) == (allowed or ip in outside), f"[{ip}]"


OWN = (TcpAddress("192.0.2.9", 25), TcpAddress("0.0.0.0", 2525), TcpAddress("10.0.0.9", 25))
# address and port, the machine's other addresses → whether that is ourselves
OURS: dict[str, tuple[TcpAddress, Sequence[str], bool]] = {
    "a listener's": (TcpAddress("192.0.2.9", 25), [], True),
    "a listener's private one": (TcpAddress("10.0.0.9", 25), [], True),
    "another port": (TcpAddress("192.0.2.9", 26), [], False),
    "another address": (TcpAddress("192.0.2.8", 25), ["192.0.2.8"], False),
    "any address of ours": (TcpAddress("192.0.2.8", 2525), ["192.0.2.8"], True),
    "any address, but not ours": (TcpAddress("192.0.2.8", 2525), [], False),
    "by way of NAT64": (TcpAddress("64:ff9b::192.0.2.9", 25), [], True),
    "by way of 6to4": (TcpAddress("2002:c000:209::1", 25), [], True),
    "another family": (TcpAddress("2001:db8::9", 2525), ["2001:db8::9"], False),
}


@pytest.mark.parametrize(("address", "local", "ours"), OURS.values(), ids=OURS)
async def test_ourselves(address: TcpAddress, local: Sequence[str], ours: bool, autojump_clock: MockClock) -> None:
    host = HostName("mx1.example", address.port)
    records = {(host.name, "AAAA" if ":" in address.ip else "A"): answer(address.ip)}
    located = await where(records, host, own=OWN, local=local)
    assert located.ourselves == ours
    assert bool(located.addresses) != ours


async def test_a_host_with_many_addresses(autojump_clock: MockClock) -> None:
    records = {
        (MX1.name, "A"): answer(*(f"198.51.100.{number}" for number in range(200))),
        (MX1.name, "AAAA"): answer("2001:db8::1"),
    }
    ((_, found),) = (await where(records, MX1)).addresses
    assert len(found) == nexthop.MOST_ADDRESSES
    assert TcpAddress("2001:db8::1", 25) in found


SLOW = {(MX2.name, "A"): 3.0, (MX2.name, "AAAA"): 3.0}


@pytest.mark.parametrize(("grace", "late", "seconds"), [(0.25, (MX2,), 0.25), (3.5, (), 3), (0, (MX2,), 0)])
async def test_a_slow_look_up_is_late(
    grace: float, late: tuple[Host, ...], seconds: float, autojump_clock: MockClock
) -> None:
    records = {(MX1.name, "A"): answer("192.0.2.1"), (MX2.name, "A"): answer("192.0.2.2")}
    located = await where(records, MX1, MX2, delays=SLOW, grace=grace)
    assert (located.late, located.failures) == (late, ())
    assert [host for host, _ in located.addresses] == [MX1] if late else [MX1, MX2]
    assert trio.current_time() == pytest.approx(seconds)


async def test_a_slow_look_up_is_waited_for_if_there_is_nothing_else(autojump_clock: MockClock) -> None:
    records = {(MX1.name, "A"): answer("10.0.0.1"), (MX2.name, "A"): answer("192.0.2.2")}
    located = await where(records, MX1, MX2, delays=SLOW)
    assert (located.late, [host for host, _ in located.addresses]) == ((), [MX2])
    assert trio.current_time() == pytest.approx(3)


async def test_half_an_answer_will_do(autojump_clock: MockClock) -> None:
    """Name servers that are silent when asked for AAAA are not rare; the host is not late for that."""
    records = {(MX1.name, "A"): answer("192.0.2.1"), (MX1.name, "AAAA"): answer("2001:db8::1")}
    located = await where(records, MX1, delays={(MX1.name, "A"): 1.0, (MX1.name, "AAAA"): 10.0})
    assert located == Located(addresses=((MX1, (TcpAddress("192.0.2.1", 25),)),))
    assert trio.current_time() == pytest.approx(1.25)


async def test_the_first_address_says_how_long_the_others_have(autojump_clock: MockClock) -> None:
    named = [HostName(f"mx{number}.example", 25) for number in range(5)]
    delays = {(host.name, kind): 0.2 * number for number, host in enumerate(named) for kind in ("A", "AAAA")}
    located = await where({(host.name, "A"): answer("192.0.2.1") for host in named}, *named, delays=delays, grace=0.5)
    assert ([host for host, _ in located.addresses], list(located.late)) == (named[:3], named[3:])
    assert trio.current_time() == pytest.approx(0.5)


async def test_ipv6_comes_first_whichever_is_known_first(autojump_clock: MockClock) -> None:
    records = {(MX1.name, "A"): answer("192.0.2.1"), (MX1.name, "AAAA"): answer("2001:db8::1")}
    located = await where(records, MX1, delays={(MX1.name, "AAAA"): 0.1})
    assert located.addresses == ((MX1, (TcpAddress("2001:db8::1", 25), TcpAddress("192.0.2.1", 25))),)


async def test_a_failure_beside_good_ones(autojump_clock: MockClock) -> None:
    records: Records = {(MX1.name, "A"): NoAnswer.TEMPORARY, (MX2.name, "A"): answer("192.0.2.2")}
    located = await where(records, MX1, MX2)
    assert located.addresses == ((MX2, (TcpAddress("192.0.2.2", 25),)),)
    assert [(host, failure.reply) for host, failure in located.failures] == [(MX1, LOOKUP_FAILED)]


async def test_a_failure_for_now_outweighs_one_for_good(autojump_clock: MockClock) -> None:
    located = await where({(MX2.name, "A"): NoAnswer.TEMPORARY}, MX1, MX2)
    assert [failure.reply for _, failure in located.failures] == [NO_SUCH_DOMAIN, LOOKUP_FAILED]
    assert told([failure for _, failure in located.failures]) == LOOKUP_FAILED


async def test_ourselves_ends_the_search(autojump_clock: MockClock) -> None:
    records = {(MX1.name, "A"): answer("192.0.2.9"), (MX2.name, "A"): answer("192.0.2.2")}
    assert await where(records, MX1, MX2, delays=SLOW, own=OWN) == Located(ourselves=True)
    assert trio.current_time() == 0


async def test_static_names_are_the_operators_word(autojump_clock: MockClock) -> None:
    route = Route(name="in", domains=("a.example",), hosts=(MX1, MX2))
    located = await where({}, MX1, MX2, route=route, own=OWN, etc_hosts={MX1.name: ("127.0.0.1", "192.0.2.9")})
    assert located.addresses == ((MX1, (TcpAddress("127.0.0.1", 25), TcpAddress("192.0.2.9", 25))),)
    ((host, failure),) = located.failures
    assert (host, failure.reply) == (MX2, LOOKUP_FAILED)


async def test_etc_hosts_is_not_for_strangers(autojump_clock: MockClock) -> None:
    located = await where({(MX1.name, "A"): answer("192.0.2.1")}, MX1, etc_hosts={MX1.name: ("198.51.100.1",)})
    assert located.addresses == ((MX1, (TcpAddress("192.0.2.1", 25),)),)
