"""Who is where in the study: the paper's figure 1 with twelve networks on the Internet around it. Pure.

Each gateway has an inside link of its own in both topologies: in 1a a cable, in 1b a line between sites. Gateways that
are not mailgate have one default route for what they send to the Internet: gateway 1 by backbone A, gateway 2 by B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailgate.network import Answer, NoAnswer, TcpAddress
from sim.site import Topology
from sim.study.failures import SITES, Component, Part

GATEWAYS = ("gw1", "gw2")
SUBMIT = "submit"
"""the inside host that sends"""

CORE, INTERNET = "core", "internet"
LATENCY: Mapping[str, float] = {
    "isp-a": 0.005,
    "isp-b": 0.005,
    "inside-1": 0.001,
    "inside-2": 0.001,
    CORE: 0.0005,
    INTERNET: 0.02,
}
"""the networks, and the seconds that a packet takes through each"""

SMTP, LMTP = 25, 24
"""ports"""

INSIDE_DOMAINS: Mapping[str, TcpAddress] = {
    "in1.example": TcpAddress("10.1.0.1", SMTP),
    "in2.example": TcpAddress("10.1.0.2", SMTP),
}
OUTSIDE_DOMAINS: Mapping[str, TcpAddress] = {
    f"d{site}.example": TcpAddress(f"203.0.113.{site}", SMTP) for site in range(1, SITES + 1)
}
"""domains, and where their servers are"""

HOSTS: Mapping[str, Mapping[str, str]] = {
    "mail1": {"10.1.0.1": CORE},
    "mail2": {"10.1.0.2": CORE},
    SUBMIT: {"10.1.0.11": CORE},
    **{f"o{site}": {f"203.0.113.{site}": INTERNET} for site in range(1, SITES + 1)},
    **{f"s{site}": {f"203.0.113.{100 + site}": INTERNET} for site in range(1, SITES + 1)},
}
"""hosts but the gateways: addresses and their networks. `o3` receives in network 3 of the Internet, `s3` sends there"""

SITE_OF: Mapping[str, str] = {f"{kind}{site}": f"{site}" for kind in "os" for site in range(1, SITES + 1)}
"""hosts on the Internet, and which network each one is in"""

SERVES: Mapping[str, str] = {
    "mail1": "in1.example",
    "mail2": "in2.example",
    **{f"o{site}": f"d{site}.example" for site in range(1, SITES + 1)},
}
"""which host is the mail server of which domain"""


@dataclass(frozen=True, slots=True)
class GatewayPlace:
    """Where a gateway is."""

    outside: Mapping[str, str]
    """backbone → the address there; the default route first"""
    inside: str
    """its address inside"""
    link: str
    """its network inside"""

    @property
    def default(self) -> str:
        """The address that its packets to the Internet have if nothing else is said."""
        return next(iter(self.outside.values()))


_ONE_SITE = {
    "gw1": GatewayPlace({"a": "192.0.2.10", "b": "198.51.100.10"}, "10.0.1.1", "inside-1"),
    "gw2": GatewayPlace({"b": "198.51.100.11", "a": "192.0.2.11"}, "10.0.2.1", "inside-2"),
}
_TWO_SITES = {
    "gw1": GatewayPlace({"a": "192.0.2.10"}, "10.0.1.1", "inside-1"),
    "gw2": GatewayPlace({"b": "198.51.100.11"}, "10.0.2.1", "inside-2"),
}
PLACES: Mapping[Topology, Mapping[str, GatewayPlace]] = {
    Topology.ONE_SITE: _ONE_SITE,
    Topology.TWO_SITES: _TWO_SITES,
}

_MX = (("gw1", "a"), ("gw2", "b"), ("gw1", "b"), ("gw2", "a"))


def mx(topology: Topology) -> tuple[TcpAddress, ...]:
    """The site's MX addresses, in the order that docs/multihoming.md recommends."""
    places = PLACES[topology]
    return tuple(
        TcpAddress(places[gateway].outside[backbone], SMTP)
        for gateway, backbone in _MX
        if backbone in places[gateway].outside
    )


def inside_addresses(topology: Topology, port: int) -> tuple[TcpAddress, ...]:
    """The gateways, as the inside host that sends tries them."""
    return tuple(TcpAddress(PLACES[topology][gateway].inside, port) for gateway in GATEWAYS)


def networks_of(topology: Topology, gateway: str) -> dict[str, str]:
    """A gateway's addresses and their networks. What is sent from no address in particular comes from the first one."""
    place = PLACES[topology][gateway]
    return {place.inside: place.link, **{ip: f"isp-{backbone}" for backbone, ip in place.outside.items()}}


def dns() -> dict[tuple[str, str], Answer | NoAnswer]:
    """What DNS says; in the study it never fails."""
    records: dict[tuple[str, str], Answer | NoAnswer] = {}
    for domain, address in OUTSIDE_DOMAINS.items():
        records[domain, "MX"] = Answer((f"10 mail.{domain}.",), 3600)
        records[f"mail.{domain}", "A"] = Answer((address.ip,), 3600)
    return records


def site_of(host: str) -> str:
    """The network on the Internet that a host is in, or its number inside: its name less the first letters."""
    return host.lstrip("abcdefghijklmnopqrstuvwxyz")


def ways(topology: Topology, site: str, inside: str, *, outbound: bool) -> tuple[tuple[Component, ...], ...]:
    """What must work for mail between a network on the Internet and an inside server, one tuple for each way.

    The hosts that send never fail, so outbound the inside server is not among them, nor inbound the outside one.
    """
    server = Component(Part.OUTSIDE_SERVER, site) if outbound else Component(Part.INSIDE_SERVER, inside)
    return tuple(
        (
            server,
            Component(Part.GATEWAY, number),
            Component(Part.INSIDE_LINK, number),
            Component(Part.BACKBONE, backbone),
            Component(Part.ROUTE, f"{backbone}-{site}"),
        )
        for number, place in zip("12", PLACES[topology].values(), strict=True)
        for backbone in place.outside
    )
