"""The two networks, and the zone, as addresses and names have to fit together."""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter

import dns.rdatatype
import dns.zone
import pytest

from lab.topology import (
    CROWD,
    DOMAINS,
    SITE_DOMAINS,
    Machine,
    Topology,
    crowd_address,
    inside_link,
    machines,
    networks,
    zone,
)

BOTH = pytest.mark.parametrize("topology", Topology, ids=lambda topology: topology.value)

ONE, TWO = Topology.ONE_SITE, Topology.TWO_SITES

GATEWAYS = {
    (ONE, "gw1"): {"isp-a": "192.0.2.10", "isp-b": "198.51.100.10", "inside": "10.0.0.1"},
    (ONE, "gw2"): {"isp-a": "192.0.2.11", "isp-b": "198.51.100.11", "inside": "10.0.0.2"},
    (TWO, "gw1"): {"isp-a": "192.0.2.10", "inside1": "10.0.0.1"},
    (TWO, "gw2"): {"isp-b": "198.51.100.11", "inside2": "10.0.0.2"},
}

MX = {
    ONE: ["gw1-a", "gw2-b", "gw1-b", "gw2-a"],
    TWO: ["gw1-a", "gw2-b"],
}


def by_name(topology: Topology) -> dict[str, Machine]:
    return {machine.name: machine for machine in machines(topology)}


@pytest.mark.parametrize(
    ("topology", "name", "legs"),
    [(*which, legs) for which, legs in GATEWAYS.items()],
    ids=[f"{topology.value} {name}" for topology, name in GATEWAYS],
)
def test_where_a_gateway_is(topology: Topology, name: str, legs: dict[str, str]) -> None:
    found = {leg.network: leg.ip for leg in by_name(topology)[name].legs if leg.network != "names"}
    assert found == legs


@BOTH
@pytest.mark.parametrize("number", [1, 2])
def test_a_gateways_inside_link_is_one_of_its_networks(topology: Topology, number: int) -> None:
    assert by_name(topology)[f"gw{number}"].ip(inside_link(topology, number)) == f"10.0.0.{number}"


def test_at_two_sites_the_gateways_share_no_network_but_that_of_the_names() -> None:
    gw1, gw2 = (by_name(TWO)[name] for name in ("gw1", "gw2"))
    assert {leg.network for leg in gw1.legs} & {leg.network for leg in gw2.legs} == {"names"}


@BOTH
def test_machines_have_names_of_their_own(topology: Topology) -> None:
    assert len(by_name(topology)) == len(machines(topology))


@BOTH
def test_no_address_is_on_two_machines(topology: Topology) -> None:
    """The core may have one address on both of its inside links."""
    own = [address for machine in machines(topology) for address in {leg.ip for leg in machine.legs}]
    crowd = [crowd_address(number) for number in range(len(CROWD))]
    assert [address for address, times in Counter(own + crowd).items() if times > 1] == []


@BOTH
def test_every_leg_has_an_address_with_its_prefix(topology: Topology) -> None:
    legs = [leg for machine in machines(topology) for leg in machine.legs]
    assert [str(ipaddress.IPv4Interface(leg.address)) for leg in legs] == [leg.address for leg in legs]


@BOTH
def test_every_network_joins_machines(topology: Topology) -> None:
    found = Counter(leg.network for machine in machines(topology) for leg in machine.legs)
    assert set(found) == set(networks(topology))
    assert min(found.values()) >= 2


@BOTH
def test_everybody_who_runs_something_can_ask_for_names(topology: Topology) -> None:
    assert {machine.name for machine in machines(topology) if not machine.on("names")} == {
        "router-a",
        "router-b",
        "core",
    }


@BOTH
def test_routes_go_by_routers_on_a_network_of_the_machines_own(topology: Topology) -> None:
    routers = {leg.ip: leg.network for machine in machines(topology) if machine.forwards for leg in machine.legs}
    # At two sites the core has one address on both of its inside links, one for each gateway.
    inside = {inside_link(topology, number) for number in (1, 2)}
    for machine in machines(topology):
        for line in machine.setup:
            if " via " in line:
                router = line.split(" via ")[1].split()[0]
                networks_there = inside if routers[router] in inside else {routers[router]}
                assert any(machine.on(network) for network in networks_there), f"{machine.name}: {line}"


@pytest.mark.parametrize(("network", "there"), [("isp-a", True), ("isp-b", False), ("nowhere", False)])
def test_whether_a_machine_is_on_a_network(network: str, there: bool) -> None:
    assert by_name(TWO)["gw1"].on(network) is there


def test_an_address_where_a_machine_is_not() -> None:
    with pytest.raises(KeyError, match="gw1 has no leg in isp-b"):
        by_name(TWO)["gw1"].ip("isp-b")


# The zone


@functools.cache
def parsed(topology: Topology) -> dns.zone.Zone:
    return dns.zone.from_text(zone(topology), origin=".", relativize=False)


def mail_hosts(topology: Topology, domain: str) -> list[str]:
    """The MX hosts of a domain, in the order of their preferences."""
    found = parsed(topology).find_rdataset(f"{domain}.", "MX")
    assert len({record.preference for record in found}) == len(found)
    return [str(record.exchange) for record in sorted(found, key=lambda record: record.preference)]


def address(topology: Topology, host: str) -> str:
    (record,) = parsed(topology).find_rdataset(host, "A")
    return str(record.address)


@BOTH
@pytest.mark.parametrize("domain", SITE_DOMAINS)
def test_the_sites_mx_order(topology: Topology, domain: str) -> None:
    assert mail_hosts(topology, domain) == [f"{host}.example.org." for host in MX[topology]]


@BOTH
def test_each_mx_host_is_a_gateways_address_on_its_backbone(topology: Topology) -> None:
    for host in MX[topology]:
        gateway, backbone = host.split("-")
        assert address(topology, f"{host}.example.org.") == GATEWAYS[topology, gateway][f"isp-{backbone}"]


@BOTH
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("domain", ["example.org", "example.net"])
def test_a_gateways_inside_name(topology: Topology, number: int, domain: str) -> None:
    assert address(topology, f"gw{number}.{domain}.") == f"10.0.0.{number}"


@BOTH
@pytest.mark.parametrize(("name", "domain"), DOMAINS.items())
def test_the_servers_name(topology: Topology, name: str, domain: str) -> None:
    own = {leg.ip for leg in by_name(topology)[name].legs if leg.network in ("servers", "internet")}
    assert {address(topology, f"mail1.{domain}.")} == own


@BOTH
@pytest.mark.parametrize("domain", ["alpha.example", "beta.example", "gamma.example", CROWD[0], CROWD[-1]])
def test_outside_a_domain_has_one_server(topology: Topology, domain: str) -> None:
    assert mail_hosts(topology, domain) == [f"mail1.{domain}."]


@BOTH
def test_each_domain_of_the_crowd_has_its_address(topology: Topology) -> None:
    found = parsed(topology)
    for number, domain in enumerate(CROWD):
        assert [str(each) for each in found.find_rdataset(f"mail1.{domain}.", "A")] == [crowd_address(number)]


@BOTH
def test_every_mx_host_has_an_address(topology: Topology) -> None:
    found = parsed(topology)
    hosts = {host for domain in (*DOMAINS.values(), *CROWD) for host in mail_hosts(topology, domain)}
    assert {host for host in hosts if found.get_rdataset(host, "A") is None} == set()


@BOTH
def test_the_name_server_has_the_address_that_is_asked(topology: Topology) -> None:
    assert address(topology, "ns.lab.example.") == by_name(topology)["ns"].ip("names")


@BOTH
def test_nobody_has_ipv6(topology: Topology) -> None:
    assert [name for name, _, _ in parsed(topology).iterate_rdatas(dns.rdatatype.AAAA)] == []
