"""The two networks of the paper's figure 1: machines, their legs in networks, their routes. Pure.

    1a  one site: both gateways on both backbones, and on one inside network
    1b  two sites: gw1 on backbone A, gw2 on backbone B, each with an inside link of its own

                      internet (sender, alpha, beta, crowd)
                 router-a                       router-b
        isp-a ------+------------      ---------+----------- isp-b
                   gw1    (1a: each on both)    gw2
        inside -----+---------------------------+-----------
                             core
        servers -------------+------------- (mail1, mail2, mail3, handover, ledger)

Everybody also has a leg in `names`, where the DNS server is: a cut link cuts mail, and nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass


class Topology(enum.Enum):
    """Figure 1(a) or 1(b)."""

    ONE_SITE = "1a"
    TWO_SITES = "1b"


@dataclass(frozen=True, slots=True)
class Leg:
    """A machine's interface, named after the network it is in."""

    network: str
    address: str
    """with its prefix length"""

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Machine:
    """A host or a router."""

    name: str
    legs: tuple[Leg, ...]
    setup: tuple[str, ...] = ()
    """what `ip` is told, line by line, once the legs are up"""
    forwards: bool = False

    def ip(self, network: str) -> str:
        """Its address in a network.

        Raises:
            KeyError: it has none there.
        """
        for leg in self.legs:
            if leg.network == network:
                return leg.ip
        raise KeyError(f"{self.name} has no leg in {network}")

    def on(self, network: str) -> bool:
        """Whether it is in a network."""
        return any(leg.network == network for leg in self.legs)


DNS = "10.53.0.53"

ISPS = {"isp-a": "192.0.2", "isp-b": "198.51.100"}
"""a backbone's network, less the last octet: its router is .1 there, gw1 .10, gw2 .11"""

_MX = (("gw1-a", "gw1", "isp-a"), ("gw2-b", "gw2", "isp-b"), ("gw1-b", "gw1", "isp-b"), ("gw2-a", "gw2", "isp-a"))
"""The site's MX hosts in order, each one address of one gateway: whoever tries only two (Postfix, after 4xx from both)
has then tried both gateways and both backbones."""

_ON_INTERNET = ("sender", "alpha", "beta", "crowd")
_CROWD = 100
"""The machine `crowd` has as many addresses, from 203.0.113.100 on: destinations by the dozen."""

SITE_DOMAINS = {"example.org": "mail1", "example.net": "mail2", "example.com": "mail3"}
"""the site's, and which machine is the mail server of each"""

DOMAINS = {name: domain for domain, name in SITE_DOMAINS.items()} | {
    "sender": "gamma.example",
    "alpha": "alpha.example",
    "beta": "beta.example",
}
"""which machine is the mail server of which domain"""

_SERVERS = {"mail1": 25, "mail2": 26, "mail3": 27, "handover": 30, "ledger": 31}
"""the machines beside the core, and the last octets of their addresses"""

CROWD = tuple(f"d{number}.example" for number in range(_CROWD))
"""domains whose server is `crowd`, each at an address of its own"""


def machines(topology: Topology) -> tuple[Machine, ...]:
    """Every machine of a topology."""
    return (
        _router("router-a", "203.0.113.1", "isp-a"),
        _router("router-b", "203.0.113.2", "isp-b"),
        *(_on_internet(number, name) for number, name in enumerate(_ON_INTERNET)),
        _core(topology),
        *(_gateway(topology, number) for number in (1, 2)),
        *(_server(name, last) for name, last in _SERVERS.items()),
        Machine("ns", (Leg("names", f"{DNS}/24"),)),
    )


def networks(topology: Topology) -> tuple[str, ...]:
    """Every network that machines have legs in."""
    return tuple(sorted({leg.network for machine in machines(topology) for leg in machine.legs}))


def inside_link(topology: Topology, number: int) -> str:
    """The network between a gateway and the core."""
    return "inside" if topology is Topology.ONE_SITE else f"inside{number}"


def crowd_address(number: int) -> str:
    """The address of a domain of the crowd."""
    return f"203.0.113.{100 + number}"


def zone(topology: Topology) -> str:
    """The whole name space of the lab, as the zone `.`."""
    return "".join(f"{line}\n" for line in _records(topology))


def _records(topology: Topology) -> Iterator[str]:
    yield "$TTL 60"
    yield ". SOA ns.lab.example. hostmaster.lab.example. 1 3600 600 86400 1"
    yield ". NS ns.lab.example."
    yield f"ns.lab.example. A {DNS}"
    here = {machine.name: machine for machine in machines(topology)}
    for host, gateway, isp in _MX:
        if here[gateway].on(isp):
            yield f"{host}.example.org. A {here[gateway].ip(isp)}"
    for number in (1, 2):
        for domain in SITE_DOMAINS:
            yield f"gw{number}.{domain}. A {here[f'gw{number}'].ip(inside_link(topology, number))}"
    for name, domain in DOMAINS.items():
        inside = here[name].on("servers")
        yield f"mail1.{domain}. A {here[name].ip('servers' if inside else 'internet')}"
        if inside:
            for preference, (host, gateway, isp) in enumerate(_MX, 1):
                if here[gateway].on(isp):
                    yield f"{domain}. MX {preference}0 {host}.example.org."
        else:
            yield f"{domain}. MX 10 mail1.{domain}."
    for number, domain in enumerate(CROWD):
        yield f"mail1.{domain}. A {crowd_address(number)}"
        yield f"{domain}. MX 10 mail1.{domain}."


def _router(name: str, outer: str, isp: str) -> Machine:
    return Machine(name, (Leg("internet", f"{outer}/24"), Leg(isp, f"{ISPS[isp]}.1/24")), forwards=True)


def _on_internet(number: int, name: str) -> Machine:
    legs = (Leg("internet", f"203.0.113.{25 + number}/24"), Leg("names", f"10.53.0.{25 + number}/24"))
    routes = tuple(f"route add {net}.0/24 via 203.0.113.{last}" for last, net in enumerate(ISPS.values(), 1))
    if name != "crowd":
        return Machine(name, legs, routes)
    more = tuple(f"addr add {crowd_address(each)}/24 dev internet" for each in range(_CROWD))
    return Machine(name, legs, (*routes, *more))


def _core(topology: Topology) -> Machine:
    servers = Leg("servers", "10.0.1.254/24")
    if topology is Topology.ONE_SITE:
        return Machine("core", (Leg("inside", "10.0.0.254/24"), servers), forwards=True)
    links = tuple(Leg(inside_link(topology, number), "10.0.0.254/32") for number in (1, 2))
    routes = tuple(f"route add 10.0.0.{number}/32 dev {inside_link(topology, number)}" for number in (1, 2))
    return Machine("core", (*links, servers), routes, forwards=True)


def _gateway(topology: Topology, number: int) -> Machine:
    link = inside_link(topology, number)
    everywhere = topology is Topology.ONE_SITE
    inner = Leg(link, f"10.0.0.{number}/{24 if everywhere else 32}")
    own = [isp for position, isp in enumerate(ISPS, 1) if everywhere or position == number]
    outer = tuple(Leg(isp, f"{ISPS[isp]}.{9 + number}/24") for isp in own)
    setup = [] if everywhere else [f"route add 10.0.0.254 dev {link}", "route add 10.0.0.0/24 via 10.0.0.254"]
    setup += ["route add 10.0.1.0/24 via 10.0.0.254", f"route add default via {ISPS[own[0]]}.1"]
    setup += ["rule add priority 1000 lookup main suppress_prefixlength 0"]
    for table, leg in enumerate(outer, 101):
        setup += [
            f"rule add priority {table * 10} from {leg.ip} lookup {table}",
            f"route add default via {ISPS[leg.network]}.1 dev {leg.network} table {table}",
            f"route add unreachable default metric 9999 table {table}",
        ]
    return Machine(f"gw{number}", (*outer, inner, Leg("names", f"10.53.0.{number}/24")), tuple(setup))


def _server(name: str, last: int) -> Machine:
    legs = (Leg("servers", f"10.0.1.{last}/24"), Leg("names", f"10.53.0.{100 + last}/24"))
    return Machine(name, legs, ("route add default via 10.0.1.254",))
