"""What the checkers know of a site beforehand, from its operator and not from its gateways. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailgate.network import Address, TcpAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import IPNetwork, Limits, Timeouts
from sim import site
from sim.schedules import Schedule
from sim.servers import SCHEDULES

EVERYTHING = "*"
"""the pattern of a route that takes all domains, and finds their next hops by MX"""


@dataclass(frozen=True, slots=True)
class Listening:
    """An address of a gateway, and what it is for."""

    domains: tuple[str, ...]
    """of the routes behind it: `example.org` exactly, `.example.org` its subdomains, `*` everything"""
    clients: tuple[IPNetwork, ...] | None = None
    """who may connect; None: everyone"""
    outside: bool = False
    """it is for plain SMTP from outside: what that may do in one transaction depends on the run's service"""

    def serves(self, domain: str) -> bool:
        """Whether mail for a domain may pass."""
        parents = domain.lower().split(".")
        suffixes = [f".{'.'.join(parents[number:])}" for number in range(1, len(parents))]
        return any(pattern in self.domains for pattern in (EVERYTHING, domain.lower(), *suffixes))

    def admits(self, client: Address) -> bool:
        """Whether somebody may connect."""
        if self.clients is None or not isinstance(client, TcpAddress):
            return True
        return any(ipaddress.ip_address(client.ip) in network for network in self.clients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Who may send what where, and for how long one may wait. Times are in seconds, sizes in octets."""

    listeners: Mapping[Address, Listening]
    servers: Mapping[str, frozenset[str]]
    """inside domain → the hosts that take its mail. Those of other domains are found by DNS"""
    one_by_one: frozenset[str]
    """inside domains whose next hop speaks LMTP: plain SMTP has one reply, so one recipient in a transaction"""
    addresses: Mapping[str, tuple[str, ...]]
    """inside domain → the IP addresses of these hosts"""
    names: Mapping[str, frozenset[str]]
    """gateway → the names of hosts that it knows for its own, in lower case"""
    sources: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """(gateway, backbone) → the IP addresses that its connections come from there"""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """sender → when it tries again; one that is not here may take as long as it likes"""
    timeouts: Timeouts = field(default_factory=Timeouts)
    message_size: int = Limits().message_size


def of_both_topologies() -> Site:
    """The simulated site. An address means the same in both of its topologies, so there is one for both."""
    listeners: dict[Address, Listening] = {}
    one_by_one: dict[str, None] = {}
    names: dict[str, frozenset[str]] = {}
    sources: dict[tuple[str, str], frozenset[str]] = {}
    for topology in site.Topology:
        for gateway in site.GATEWAYS:
            settings = site.settings(topology, gateway)
            by_name = {
                one.name: Listening(
                    tuple(domain for route in one.routes for domain in route.domains),
                    one.clients,
                    one.name == site.FROM_OUTSIDE,
                )
                for one in settings.listeners
            }
            listeners |= {address: by_name[name] for name, address in site.binds(topology, gateway)}
            routes = [route for one in settings.listeners for route in one.routes]
            one_by_one |= {name: None for one in routes if one.protocol is Role.LMTP for name in one.domains}
            backbones = [backbone for route in routes for backbone in route.backbones]
            own = frozenset({settings.hostname.lower(), *(one.helo.lower() for one in backbones)})
            names[gateway] = names.get(gateway, frozenset()) | own
            sources |= {(gateway, one.name): frozenset(one.sources) for one in backbones}
    hosts = {
        domain: [host for host in site.INSIDE_HOSTS if domain in site.DOMAINS.get(host, ())]
        for domain in dict.fromkeys(site.INSIDE_DOMAINS)
    }
    return Site(
        listeners=listeners,
        servers={domain: frozenset(names) for domain, names in hosts.items()},
        addresses={domain: tuple(site.INSIDE_HOSTS[name] for name in names) for domain, names in hosts.items()},
        one_by_one=frozenset(one_by_one),
        names=names,
        sources=sources,
        schedules=SCHEDULES,
        timeouts=site.TIMEOUTS,
    )
