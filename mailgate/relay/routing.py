"""Recipient domain → route → next hop. Pure.

The most specific pattern wins, whatever the order of routes: the domain itself, then the longest suffix, then
`*`. The listener's routes are all there is: a recipient that none of them takes is not relayed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import idna

from mailgate.protocol.command import Mailbox
from mailgate.relay.settings import Route, Settings


@dataclass(frozen=True, slots=True)
class NextHop:
    """What a route yields for a domain. Recipients with equal next hops share a delivery."""

    route: Route

    def __str__(self) -> str:
        return self.route.name


def find_route(routes: Sequence[Route], domain: str) -> Route | None:
    """The route that takes a domain, however it is written; None: nobody does."""
    by_pattern = {pattern: route for route in reversed(routes) for pattern in route.domains}
    domain = canonical(domain)
    patterns = [domain]
    if not domain.startswith("["):
        labels = domain.split(".")
        patterns += ["." + ".".join(labels[start:]) for start in range(1, len(labels))]
    patterns.append("*")
    return next((by_pattern[pattern] for pattern in patterns if pattern in by_pattern), None)


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
