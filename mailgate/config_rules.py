"""What must hold between keys of the configuration. Each rule looks at what is good of the file."""

from __future__ import annotations

import difflib
import ipaddress
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from mailgate import config_together
from mailgate.config_tables import BackboneTable, Draft, Item, Problem, RouteTable
from mailgate.config_values import shown
from mailgate.network import Address, TcpAddress, UnixAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Host, IPNetwork

LMTP_FORBIDDEN_PORT = 25

# What is not reachable over the Internet (RFC 6890): whoever lists all but this has listed everyone.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/3", "::/3", "4000::/2", "8000::/1"),
    )
)


def broken(draft: Draft) -> Iterator[Problem]:
    """All that is wrong between keys."""
    for rule in _RULES:
        yield from rule(draft)


def _some_listener(draft: Draft) -> Iterator[Problem]:
    if not draft.listeners:
        yield Problem("listener", "there is none", "write a [[listener]] table for each port to listen on")


def _names_are_unique(draft: Draft) -> Iterator[Problem]:
    kinds: tuple[tuple[str, Sequence[Item[Any]]], ...] = (
        ("listener", draft.listeners),
        ("route", draft.routes),
        ("backbone", draft.backbones),
    )
    for kind, items in kinds:
        for position, first in _repeats(item.name or None for item in items):
            name = shown(items[position].name)
            yield Problem(
                items[position].at("name"), f"{name} is already the name of {kind}[{first}]", "write another name"
            )


def _lists_have_no_repeats(draft: Draft) -> Iterator[Problem]:
    lists: list[tuple[Item[Any], str, Sequence[Hashable]]] = [(draft.dns, "servers", draft.dns.table.servers or ())]
    for listener in draft.listeners:
        lists.append((listener, "routes", listener.table.routes))
        lists.append((listener, "clients", listener.table.clients or ()))
    for route in draft.routes:
        lists.append((route, "domains", route.table.domains))
        lists.append((route, "hosts", route.table.hosts or ()))
        lists.append((route, "backbones", route.table.backbones or ()))
    for backbone in draft.backbones:
        lists.append((backbone, "source", backbone.table.source))
    for item, key, elements in lists:
        for position, first in _repeats(elements):
            what = f"{shown(str(elements[position]))} is already {key}[{first}]"
            yield Problem(item.at(key, position), what, "leave one of the two out")


def _routes_exist(draft: Draft) -> Iterator[Problem]:
    for listener in draft.listeners:
        yield from _unknown(listener, "routes", listener.table.routes, "route", draft.routes)


def _backbones_exist(draft: Draft) -> Iterator[Problem]:
    for route in draft.routes:
        yield from _unknown(route, "backbones", route.table.backbones or (), "backbone", draft.backbones)


def _unknown(
    user: Item[Any], key: str, names: Sequence[str], kind: str, defined: Sequence[Item[Any]]
) -> Iterator[Problem]:
    known = [item.name for item in defined if item.name]
    for position, name in enumerate(names):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {shown(close[0])}?" if close else f"write a [[{kind}]] table with that name"
            yield Problem(user.at(key, position), f"there is no {kind} {shown(name)}", remedy)


def _routes_are_used(draft: Draft) -> Iterator[Problem]:
    if not any("routes" in listener.bad for listener in draft.listeners):
        used = [name for listener in draft.listeners for name in listener.table.routes]
        yield from _unused(draft.routes, used, "no listener uses this route", "the `routes` of a listener")


def _backbones_are_used(draft: Draft) -> Iterator[Problem]:
    if not any("backbones" in route.bad for route in draft.routes):
        used = [name for route in draft.routes for name in route.table.backbones or ()]
        yield from _unused(draft.backbones, used, "no route uses this backbone", "the `backbones` of a route")


def _unused(defined: Sequence[Item[Any]], used: Sequence[str], what: str, where: str) -> Iterator[Problem]:
    for item in defined:
        if item.name and item.name not in used:
            yield Problem(item.at("name"), what, f"add it to {where}, or leave it out")


def _hosts_or_mx(draft: Draft) -> Iterator[Problem]:
    for route in draft.routes:
        table, bad = route.table, route.bad
        if table.mx and table.hosts is not None:
            yield Problem(route.at("hosts"), "is there, and so is mx = true", "leave one of the two out")
        if not table.mx and table.hosts is None and not bad & {"mx", "hosts"}:
            remedy = 'write for example hosts = ["mail1.example.org"], or mx = true to ask DNS for them'
            yield Problem(route.at("hosts"), "is missing", remedy)


_ONLY_WITH_MX = {
    "port": "write it behind the name or address in `hosts`, or leave it out",
    "allow_private": "leave it out: `hosts` may have any address",
    "address_literals": "leave it out: such a route takes address literals anyway",
    "group_domains": "leave it out: domains of such a route share a delivery anyway",
}
"""keys of routes whose hosts are found by MX, and what to do on others"""


def _only_with_mx(draft: Draft) -> Iterator[Problem]:
    for route in draft.routes:
        if not route.table.mx and "mx" not in route.bad:
            for key, remedy in _ONLY_WITH_MX.items():
                if key in route.table.model_fields_set:
                    yield Problem(route.at(key), "means nothing without mx = true", remedy)


def _one_source_per_family(draft: Draft) -> Iterator[Problem]:
    for backbone in draft.backbones:
        firsts: dict[str, str] = {}
        for position, source in enumerate(backbone.table.source):
            first = firsts.setdefault(_family(source), source)
            if first != source:
                what = f"{shown(source)} is a second {_family(source)} address beside {shown(first)}"
                remedy = "leave one of the two out, or write a [[backbone]] of its own for it"
                yield Problem(backbone.at("source", position), what, remedy)


def _one_backbone_for_a_source(draft: Draft) -> Iterator[Problem]:
    owners: dict[str, Item[BackboneTable]] = {}
    for backbone in draft.backbones:
        for position, source in enumerate(backbone.table.source):
            owner = owners.setdefault(source, backbone)
            if owner is not backbone:
                what = f"{shown(source)} is already {owner.at('source', owner.table.source.index(source))}"
                remedy = "write the address that this uplink's provider gave you"
                yield Problem(backbone.at("source", position), what, remedy)


def _hosts_have_a_path(draft: Draft) -> Iterator[Problem]:
    for route in draft.routes:
        names = route.table.backbones or ()
        used = [item for item in draft.backbones if item.name in names]
        if not names or len(used) < len(names) or any("source" in item.bad for item in used):
            continue
        families = [_family(source) for item in used for source in item.table.source]
        for position, host in enumerate(route.table.hosts or ()):
            if isinstance(host, TcpAddress) and _family(host.ip) not in families:
                family, known = _family(host.ip), ", ".join(shown(name) for name in names)
                what = f"no path leads to {host}: none of the route's backbones, {known}, has an {family} source"
                yield Problem(route.at("hosts", position), what, "add one to a backbone, or leave the host out")


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def _one_route_for_a_domain(draft: Draft) -> Iterator[Problem]:
    for listener in draft.listeners:
        owners: dict[str, str] = {}
        for route in draft.routes_of(listener):
            for position, domain in enumerate(route.table.domains):
                owner = owners.setdefault(domain, route.name)
                if owner != route.name:
                    what = f"listener {shown(listener.name)} has {shown(domain)} in route {shown(owner)} too"
                    yield Problem(route.at("domains", position), what, "leave it in the route that is to have it")


def _no_open_relay(draft: Draft) -> Iterator[Problem]:
    """A listener whose mail may go anywhere must say from whom. On unix sockets the file's mode does."""
    for listener in draft.listeners:
        anywhere = [why for route in draft.routes_of(listener) if (why := _goes_anywhere(route))]
        if not anywhere or all(isinstance(address, UnixAddress) for address in listener.table.bind):
            continue
        why = f"{anywhere[0]}: this would be an open relay"
        remedy = 'name who may connect, for example clients = ["10.0.0.0/8"]'
        clients = listener.table.clients
        if clients is None:
            yield Problem(listener.at("clients"), f"is missing, and {why}", remedy)
        elif _is_everyone(clients):
            yield Problem(listener.at("clients"), f"is everyone, and {why}", remedy)


def _goes_anywhere(route: Item[RouteTable]) -> str:
    """Why a route is not for everyone; empty: it may be."""
    if "*" in route.table.domains:
        return f'route {shown(route.name)} takes every domain ("*")'
    return f"route {shown(route.name)} goes wherever DNS says (mx)" if route.table.mx else ""


def _is_everyone(clients: Iterable[IPNetwork]) -> bool:
    listed = [*clients, *_NOT_PUBLIC]
    v4 = [network for network in listed if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in listed if isinstance(network, ipaddress.IPv6Network)]
    whole: tuple[IPNetwork, ...] = (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))
    return any(network.prefixlen == 0 for network in whole)


def _binds_do_not_collide(draft: Draft) -> Iterator[Problem]:
    """One address for one listener; and 0.0.0.0 or :: takes its port on all addresses of its family."""
    places = [
        (listener.at("bind", position), address)
        for listener in draft.listeners
        for position, address in enumerate(listener.table.bind)
    ]
    for number, (where, address) in enumerate(places):
        for other_where, other in places[:number]:
            if _collide(address, other):
                what = f"{address} collides with {other} at {other_where}"
                yield Problem(where, what, "bind each address and port once")
                break


def _collide(one: Address, other: Address) -> bool:
    if isinstance(one, UnixAddress) or isinstance(other, UnixAddress):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    wildcard = "::" if ":" in one.ip else "0.0.0.0"
    same_family = (":" in one.ip) == (":" in other.ip)
    return one.ip == other.ip or (same_family and wildcard in (one.ip, other.ip))


def _lmtp_not_on_port_25(draft: Draft) -> Iterator[Problem]:
    """RFC 2033 section 5: a client that takes it for SMTP would misread the replies."""
    places: list[tuple[str, Address | Host]] = []
    for listener in draft.listeners:
        if listener.table.protocol is Role.LMTP:
            places += ((listener.at("bind", number), it) for number, it in enumerate(listener.table.bind))
    for route in draft.routes:
        if route.table.protocol is Role.LMTP:
            places += ((route.at("hosts", number), it) for number, it in enumerate(route.table.hosts or ()))
    for where, address in places:
        if not isinstance(address, UnixAddress) and address.port == LMTP_FORBIDDEN_PORT:
            yield Problem(
                where, f"{address} is LMTP on port 25, which RFC 2033 forbids", "use another port, such as 24"
            )
    for route in draft.routes:
        lmtp = route.table.protocol is Role.LMTP and route.table.mx
        if lmtp and route.table.port == LMTP_FORBIDDEN_PORT and "port" not in route.bad:
            what = "is 25" if "port" in route.table.model_fields_set else "is missing, so it is 25"
            yield Problem(route.at("port"), f"{what}, where RFC 2033 forbids LMTP", "write for example port = 24")


def _postmaster_has_a_route(draft: Draft) -> Iterator[Problem]:
    postmaster = draft.top.table.postmaster
    if postmaster is None or any("domains" in route.bad for route in draft.routes):
        return
    domain = postmaster.rpartition("@")[2]
    for listener in draft.listeners:
        patterns = [pattern for route in draft.routes_of(listener) for pattern in route.table.domains]
        if listener.table.protocol is Role.SMTP and patterns and not any(_matches(one, domain) for one in patterns):
            yield Problem(
                draft.top.at("postmaster"),
                f"listener {shown(listener.name)} has no route for {shown(domain)}",
                "write a mailbox in a domain that it has a route for: RFC 5321 section 4.5.1 wants <Postmaster> taken",
            )


def _matches(pattern: str, domain: str) -> bool:
    return pattern in ("*", domain) or (pattern.startswith(".") and domain.endswith(pattern))


_ORDER: tuple[tuple[str, str, Callable[[float, float], bool], str, str], ...] = (
    ("head_start", "less than", operator.lt, "connect", "the next path is to start beside one that still connects"),
    ("connect", "at most", operator.le, "probe", "connecting is a part of the probe"),
    ("reply", "at most", operator.le, "probe", "the greeting is a part of the probe"),
    ("probe", "at most", operator.le, "recipient", "a probe is a part of the answer to RCPT"),
    ("envelope", "at most", operator.le, "recipient", "a next hop's answer to RCPT is a part of ours"),
    ("attempts", "less than", operator.lt, "delivery", "an attempt that starts then needs time to end"),
    ("patience", "at most", operator.le, "attempts", "what is tried again with patience is a new attempt"),
    ("idle", "at most", operator.le, "reuse", "a session that may not be used again is not worth keeping"),
)
"""budgets that others bound, most of them because they are parts of those"""

_CLIENTS_WAIT: tuple[tuple[str, float, str], ...] = (
    ("recipient", 300, "Postfix and Exim wait 300 s for the answer to RCPT"),
    ("data", 120, "clients wait 120 s for the answer to DATA (RFC 5321 section 4.5.3.2.4)"),
    ("stall", 180, "clients wait 180 s for a block of data to be taken (RFC 5321 section 4.5.3.2.5)"),
    ("delivery", 600, "Postfix and Exim wait 600 s for the answer to the dot"),
)
"""budgets that must end before a client's do: a client that has given up sends again what we may have delivered"""


def _budgets_fit(draft: Draft) -> Iterator[Problem]:
    table, bad = draft.timeouts.table, draft.timeouts.bad
    if not config_together.is_used(draft) and "patience" not in table.model_fields_set:
        bad |= {"patience"}  # whoever only makes `attempts` shorter need not know of it
    for key, bound, fits, other, reason in _ORDER:
        mine, theirs = getattr(table, key), getattr(table, other)
        if not fits(mine, theirs) and key not in bad and other not in bad:
            remedy = f"{key} must be {bound} {other}"
            yield Problem(draft.timeouts.at(key), f"{mine:g} is too long for {other} = {theirs:g}: {reason}", remedy)
    for key, limit, reason in _CLIENTS_WAIT:
        mine = getattr(table, key)
        if mine >= limit and key not in bad:
            yield Problem(draft.timeouts.at(key), f"{mine:g} is too long: {reason}", f"write less than {limit:g}")


def _repeats(elements: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """(position, position of its first) of each element that was there before; None is no element."""
    seen: dict[Hashable, int] = {}
    for position, element in enumerate(elements):
        if element is not None and seen.setdefault(element, position) != position:
            yield position, seen[element]


_RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _some_listener,
    _names_are_unique,
    _lists_have_no_repeats,
    _routes_exist,
    _routes_are_used,
    _hosts_or_mx,
    _only_with_mx,
    _one_route_for_a_domain,
    _no_open_relay,
    _binds_do_not_collide,
    _backbones_exist,
    _backbones_are_used,
    _one_source_per_family,
    _one_backbone_for_a_source,
    _hosts_have_a_path,
    _lmtp_not_on_port_25,
    _postmaster_has_a_route,
    _budgets_fit,
    *config_together.RULES,
)
