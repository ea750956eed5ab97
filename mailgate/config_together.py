"""What must hold, and what should, where several next hops get one message, and of the ledger."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from mailgate.config_tables import Draft, Item, ListenerTable, Problem
from mailgate.network import Address, HostName, TcpAddress, UnixAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Host, SeveralNextHops

_KEYS = ("several_next_hops", "handover")
_LOCALHOST = ("127.0.0.1", "::1")
_HANDOVER = 'write for example handover = "10.0.0.25", an inside server with a queue'


def _only_where_one_reply_is_for_all(draft: Draft) -> Iterator[Problem]:
    for listener in draft.listeners:
        table = listener.table
        written = [key for key in _KEYS if key in table.model_fields_set]
        if table.protocol is Role.LMTP:
            remedy = "leave it out: each recipient has a reply of its own there, so all next hops are served in one"
            yield from (Problem(listener.at(key), 'means nothing with protocol = "lmtp"', remedy) for key in written)
        elif "handover" in written and not _is_together(listener) and "several_next_hops" not in listener.bad:
            what, remedy = 'means nothing without several_next_hops = "together"', "write that too, or leave it out"
            yield Problem(listener.at("handover"), what, remedy)


def _handover_is_another(draft: Draft) -> Iterator[Problem]:
    """What is handed over to ourselves would go round until it has too many Received lines."""
    places = [
        (listener.at("bind", position), address)
        for listener in draft.listeners
        for position, address in enumerate(listener.table.bind)
    ]
    for listener in draft.listeners:
        handover = listener.table.handover
        if handover is None:
            continue
        ours = next((where for where, address in places if _leads_to(handover, address, draft)), None)
        if ours is not None:
            what = f"{handover} is this gateway itself, {ours}: what nobody has taken would go round"
            yield Problem(listener.at("handover"), what, "name an inside server with a queue")


def _leads_to(host: Host, address: Address, draft: Draft) -> bool:
    """Whether who listens at the address gets connections to the host, as far as the file tells."""
    if isinstance(host, UnixAddress) or isinstance(address, UnixAddress):
        return host == address
    if host.port != address.port:
        return False
    if isinstance(host, HostName):
        if host.name == draft.top.table.hostname:
            return True
        ips: tuple[str, ...] = _LOCALHOST if host.name == "localhost" else ()
    else:
        ips = (host.ip,)
    if address.ip in ips:
        return True
    wildcard = ipaddress.ip_address(address.ip).is_unspecified
    return wildcard and any((":" in ip) == (":" in address.ip) and _is_ours(ip, draft) for ip in ips)


def _is_ours(ip: str, draft: Draft) -> bool:
    known = [address.ip for one in draft.listeners for address in one.table.bind if isinstance(address, TcpAddress)]
    known += [source for backbone in draft.backbones for source in backbone.table.source]
    return ip in known or ipaddress.ip_address(ip).is_loopback


def _handover_speaks_smtp(draft: Draft) -> Iterator[Problem]:
    for listener in draft.listeners:
        for route in draft.routes:
            lmtp = route.table.hosts if route.table.protocol is Role.LMTP else None
            if listener.table.handover in (lmtp or ()):
                what = f"is spoken to in SMTP, and {listener.table.handover} speaks LMTP, says {route.at('protocol')}"
                yield Problem(listener.at("handover"), what, "name the port of a server's SMTP")


def _url_is_used(draft: Draft) -> Iterator[Problem]:
    table = draft.ledger.table
    if table.url is not None and not table.enabled:
        yield Problem(draft.ledger.at("url"), "means nothing with enabled = false", "leave one of the two out")


RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _only_where_one_reply_is_for_all,
    _handover_is_another,
    _handover_speaks_smtp,
    _url_is_used,
)
"""what must hold; as those of config_rules, which runs them"""


def doubtful(draft: Draft) -> Iterator[Problem]:
    """What breaks no rule in a file without problems, and yet is right only for some sites."""
    for listener in draft.listeners:
        if not _is_together(listener):
            continue
        if (only := _only_next_hop(listener, draft)) is not None:
            what = f'"together" changes nothing: all recipients have one next hop, that of route "{only}"'
            remedy = (
                "leave it out; a message goes to one of a route's `hosts`, and each next hop has a route of its own"
            )
            yield Problem(listener.at("several_next_hops"), what, remedy)
        elif listener.table.handover is None:
            yield from _second_copies(listener, draft)


def _second_copies(listener: Item[ListenerTable], draft: Draft) -> Iterator[Problem]:
    where = listener.at("several_next_hops")
    if not draft.ledger.table.enabled:
        what = (
            '"together" without a handover and with the ledger off: whenever one next hop has taken a message and '
            "another has not, the sender's retry makes a second copy for the first"
        )
        yield Problem(where, what, f"leave out enabled = false in [ledger], or {_HANDOVER}")
    elif draft.ledger.table.url is None:
        what = (
            '"together" without a handover and without a shared ledger is right only for a single gateway: another '
            "one that gets a sender's retry does not know who has the message, and makes a second copy"
        )
        remedy = f'if there are others, write url = "redis://..." in [ledger] on all of them, or {_HANDOVER}'
        yield Problem(where, what, remedy)


def is_used(draft: Draft) -> bool:
    """Whether some listener takes messages for several next hops at once, behind one reply."""
    return any(_is_together(listener) for listener in draft.listeners)


def _is_together(listener: Item[ListenerTable]) -> bool:
    return listener.table.several_next_hops is SeveralNextHops.TOGETHER


def _only_next_hop(listener: Item[ListenerTable], draft: Draft) -> str | None:
    """The route whose hosts are the next hop of all recipients, each with the same reply; None: there is no such."""
    routes = draft.routes_of(listener)
    # Recipients behind LMTP have outcomes of their own, even of one next hop.
    one = len(routes) == 1 and not routes[0].table.mx and routes[0].table.protocol is Role.SMTP
    return routes[0].name if one else None
