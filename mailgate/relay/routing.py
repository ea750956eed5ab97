"""Recipient domain → route → next hop. Pure.

The most specific pattern wins, whatever the order of routes: the domain itself, then the longest suffix, then
`*`. The listener's routes are all there is: a recipient that none of them takes is not relayed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

import idna

from mailgate.network import Address, TcpAddress
from mailgate.protocol.command import Mailbox
from mailgate.relay.settings import Backbone, Host, Route, Settings

Preferences = tuple[tuple[Host, ...], ...]
"""Hosts, the most preferred first; those of one inner tuple are as good as each other"""


@dataclass(frozen=True, slots=True)
class NextHop:
    """What a route yields for a domain. Recipients with equal next hops share a delivery."""

    route: Route
    domain: str = ""
    """with MX, unless domains are grouped: large receivers refuse several of them in one transaction"""
    hosts: Preferences | None = None
    """None: still to be looked up, by the domain"""

    def __str__(self) -> str:
        return self.route.name


@dataclass(frozen=True, slots=True)
class Path:
    """One way to reach a next hop. Paths are the same if backbone and address are, by whatever name they were found."""

    address: Address
    backbone: Backbone | None = field(default=None, hash=False)  # two at one address are few, and hashing it costs
    """None: the system chooses the source address"""
    host: Host | None = field(default=None, compare=False)
    """what the address was found for; None: the address itself"""

    @property
    def source(self) -> str | None:
        """The IP address that connections come from; None: the system's choice."""
        if self.backbone is None or not isinstance(self.address, TcpAddress):
            return None
        return self.backbone.source(self.address)

    def __str__(self) -> str:
        where = str(self.address) if self.host in (None, self.address) else f"{self.host}({self.address})"
        return where if self.backbone is None else f"{self.backbone.name}/{where}"


def paths_to(route: Route, host: Host, addresses: Sequence[Address]) -> list[Path]:
    """All ways to a host, by backbone. None leads to a unix socket, or to a family that it has no source for."""
    found: list[Path] = []
    distinct = addresses if len(addresses) == 1 else tuple(dict.fromkeys(addresses))
    for backbone in route.backbones or (None,):
        for address in distinct:
            if backbone is None or not isinstance(address, TcpAddress):
                path = Path(address, None, host)
                if path not in found:  # a unix socket is the same on every backbone
                    found.append(path)
            elif backbone.source(address) is not None:
                found.append(Path(address, backbone, host))
    return found


class RouteTable:
    """The routes of one listener, by pattern; made once, for it is asked for every recipient."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._by_pattern = {pattern: route for route in reversed(routes) for pattern in route.domains}
        everything = self._by_pattern.get("*")
        takes_literals = everything is not None and (not everything.mx or everything.address_literals)
        self._for_literals = everything if takes_literals else None

    def find(self, domain: str) -> Route | None:
        """The route that takes a domain, however it is written; None: nobody does."""
        domain = canonical(domain)
        exact = self._by_pattern.get(domain)
        if exact is not None:
            return exact
        if domain.startswith("["):
            return self._for_literals
        _, dot, rest = domain.partition(".")
        while dot:
            route = self._by_pattern.get(f".{rest}")
            if route is not None:
                return route
            _, dot, rest = rest.partition(".")
        return self._by_pattern.get("*")


def find_route(routes: Sequence[Route], domain: str) -> Route | None:
    """As `RouteTable.find`, where it is asked once."""
    return RouteTable(routes).find(domain)


def next_hop(route: Route, domain: str) -> NextHop:
    """The next hop of a domain that the route takes; where domains are grouped, as it is before the MX are known."""
    if route.mx:
        return NextHop(route, canonical(domain))
    return NextHop(route, hosts=tuple((host,) for host in route.hosts))


def canonical(domain: str) -> str:
    """A recipient's domain as patterns have it: lower case, A-labels (RFC 5890), literals as RFC 5952 writes them.

    What is no valid name has no other form than its own, and only `*` can take it.
    """
    if domain.startswith("["):
        tag, address = ("ipv6:", domain[6:-1]) if domain[:6].lower() == "[ipv6:" else ("", domain[1:-1])
        return f"[{tag}{ipaddress.ip_address(address)}]"
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain.lower()


def postmaster(settings: Settings, mailbox: Mailbox) -> Mailbox:
    """Where a recipient really goes: `<Postmaster>` without a domain has an address by configuration."""
    if mailbox.domain:
        return mailbox
    address = settings.postmaster or f"postmaster@{settings.hostname}"
    local, _, domain = address.rpartition("@")
    return Mailbox(local, domain)
