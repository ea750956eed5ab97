"""The two networks of the paper's figure 1, as in the lab: who is where, and how the gateways are set up. Pure.

1a  one site: both gateways on both backbones, and on one inside network
1b  two sites: gw1 on backbone A, gw2 on backbone B, each with an inside link of its own
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping

from mailgate.network import Answer, NoAnswer, TcpAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Backbone, Limits, Listener, Route, Settings, SeveralNextHops, Timeouts
from sim.records import Service

GATEWAYS = ("gw1", "gw2")

STRANGER = "stranger"
"""the host of somebody who means harm"""

INSIDE_DOMAINS = ("corp.example", "corp.example", "lists.example", "box.example")
"""the first one twice, since most mail is for it"""

OUTSIDE_DOMAINS = ("d1.example", "d2.example", "d3.example", "d4.example", "d5.example", "d6.example")

TIMEOUTS = Timeouts()

HOSTNAME = "{}.site.example"


class Topology(enum.Enum):
    """Figure 1(a) or 1(b)."""

    ONE_SITE = "1a"
    TWO_SITES = "1b"

    @property
    def gateways(self) -> Mapping[str, Mapping[str, str]]:
        """The gateways' addresses and their networks, in the order of their MX; inside they come from the first one."""
        return _GATEWAYS[self]

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks between which the gateways are."""
        return _NETWORKS[self]

    @property
    def sources(self) -> tuple[str, ...]:
        """The gateways' addresses on backbones."""
        return tuple(ip for each in self.gateways.values() for ip, network in each.items() if network in BACKBONES)

    def inside(self, gateway: str) -> str:
        """A gateway's address inside."""
        return next(ip for ip, network in self.gateways[gateway].items() if network not in BACKBONES)


BACKBONES = ("isp-a", "isp-b")

_GATEWAYS: Mapping[Topology, Mapping[str, Mapping[str, str]]] = {
    Topology.ONE_SITE: {
        "gw1": {"10.0.0.1": "inside", "192.0.2.1": "isp-a", "198.51.100.1": "isp-b"},
        "gw2": {"10.0.0.2": "inside", "192.0.2.2": "isp-a", "198.51.100.2": "isp-b"},
    },
    Topology.TWO_SITES: {
        "gw1": {"10.0.1.1": "inside-1", "192.0.2.1": "isp-a"},
        "gw2": {"10.0.2.1": "inside-2", "198.51.100.2": "isp-b"},
    },
}

_NETWORKS: Mapping[Topology, tuple[str, ...]] = {
    Topology.ONE_SITE: ("isp-a", "isp-b"),
    Topology.TWO_SITES: ("isp-a", "isp-b", "inside-1", "inside-2"),
}

LATENCY: Mapping[str, float] = {
    "internet": 0.02,
    "isp-a": 0.005,
    "isp-b": 0.01,
    "inside": 0.0005,
    "inside-1": 0.002,
    "inside-2": 0.004,
    "core": 0.0005,
}
"""the networks, and the seconds that a packet takes through each"""

INSIDE_HOSTS: Mapping[str, str] = {
    "in1": "10.1.0.1",
    "in2": "10.1.0.2",
    "in3": "10.1.0.3",
    "box": "10.1.0.4",
    "isend1": "10.1.0.11",
    "isend2": "10.1.0.12",
    "isend3": "10.1.0.13",
}
"""hosts on the network `core`"""

OUTSIDE_HOSTS: Mapping[str, str] = {
    **{f"o{number}": f"203.0.113.{number}" for number in range(1, 7)},
    **{f"osend{number}": f"203.0.113.{10 + number}" for number in range(1, 5)},
    STRANGER: "203.0.113.66",
}
"""hosts on the network `internet`"""

HANDOVER = "queue"
"""the host with a queue that takes what next hops do not"""

STORE = "ledger"
"""the host of the shared ledger"""

TOGETHER_HOSTS: Mapping[str, str] = {HANDOVER: "10.1.0.5", STORE: "10.1.0.6"}
"""hosts on the network `core`, as far as they are needed"""

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "in1": ("corp.example",),
    "in2": ("corp.example",),
    "in3": ("lists.example",),
    "box": ("box.example",),
    "o1": ("d1.example",),
    "o2": ("d2.example",),
    "o3": ("d2.example", "d3.example"),
    "o4": ("d3.example", "d4.example"),
    "o5": ("d5.example",),
    "o6": ("d6.example",),
}
"""servers, and the domains that they take mail for"""

_MX: Mapping[str, tuple[str, ...]] = {
    "d1.example": ("10 o1",),
    "d2.example": ("10 o2", "20 o3"),
    "d3.example": ("10 o3", "10 o4"),
    "d4.example": ("0 o4",),
    "d5.example": ("10 o5",),
    "d6.example": ("10 o6",),
}

TTL = 60.0
"""seconds that what DNS says holds"""


def dns() -> dict[tuple[str, str], Answer | NoAnswer]:
    """What DNS says while nothing is wrong with it."""
    records: dict[tuple[str, str], Answer | NoAnswer] = {}
    for domain, hosts in _MX.items():
        records[domain, "MX"] = Answer(tuple(f"{host}.mx.example." for host in hosts), TTL)
    for host in DOMAINS:
        if host in OUTSIDE_HOSTS:
            records[f"{host}.mx.example", "A"] = Answer((OUTSIDE_HOSTS[host],), TTL)
    return records


FROM_OUTSIDE, LMTP, SMTP = "from-outside", "from-inside-lmtp", "from-inside-smtp"
"""listeners"""

LMTP_PORT = 24


def settings(topology: Topology, gateway: str, service: Service = Service.APART) -> Settings:
    """What a gateway is told."""
    inside = (
        Route(name="corp", domains=("corp.example",), hosts=_hosts("in1", "in2")),
        Route(name="lists", domains=("lists.example",), hosts=_hosts("in3")),
        Route(name="box", domains=("box.example",), hosts=_hosts("box"), protocol=Role.LMTP),
    )
    backbones = tuple(
        Backbone(name=network, sources=(ip,), helo=f"{gateway}-{network}.site.example")
        for ip, network in topology.gateways[gateway].items()
        if network in BACKBONES
    )
    outside = Route(name="outside", domains=("*",), mx=True, backbones=backbones, allow_private=True)
    ours = (ipaddress.ip_network("10.0.0.0/8"),)
    return Settings(
        hostname=HOSTNAME.format(gateway),
        listeners=(
            Listener(
                name=FROM_OUTSIDE,
                protocol=Role.SMTP,
                routes=inside,
                several_next_hops=SeveralNextHops.APART if service is Service.APART else SeveralNextHops.TOGETHER,
                handover=TcpAddress(TOGETHER_HOSTS[HANDOVER], 25) if service is Service.HANDOVER else None,
            ),
            Listener(name=LMTP, protocol=Role.LMTP, routes=(outside,), clients=ours),
            Listener(name=SMTP, protocol=Role.SMTP, routes=(outside,), clients=ours),
        ),
        timeouts=TIMEOUTS,
        limits=Limits(),
    )


def binds(topology: Topology, gateway: str) -> list[tuple[str, TcpAddress]]:
    """(listener, address): where a gateway listens."""
    outside = [
        (FROM_OUTSIDE, TcpAddress(ip, 25)) for ip, network in topology.gateways[gateway].items() if network in BACKBONES
    ]
    inside = topology.inside(gateway)
    return [*outside, (LMTP, TcpAddress(inside, LMTP_PORT)), (SMTP, TcpAddress(inside, 25))]


def _hosts(*names: str) -> tuple[TcpAddress, ...]:
    return tuple(TcpAddress(INSIDE_HOSTS[name], 25) for name in names)
