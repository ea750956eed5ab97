"""The hosts of a next hop, by MX or as the route names them, and their addresses.

What DNS says of a recipient's domain comes from strangers. It is bounded (`MOST_HOSTS`, `MOST_ADDRESSES`), it cannot
point into our own networks unless the route allows that, and it cannot lead back to ourselves.
"""

from __future__ import annotations

import enum
import ipaddress
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from mailgate.network import Address, Answer, HostName, Network, NoAnswer, TcpAddress
from mailgate.protocol.reply import Reply
from mailgate.relay.lookups import Lookups
from mailgate.relay.outcome import LOOKUP_FAILED, NO_SUCH_DOMAIN, NULL_MX, OURSELVES, Failure, lookup_failure
from mailgate.relay.routing import NextHop, Preferences
from mailgate.relay.settings import Host, IPAddress, IPNetwork, Route

RECORD_TYPES = ("AAAA", "A")
"""IPv6 first, as RFC 6724 has it by default"""

MOST_HOSTS = 20
"""of one domain: more than any site means, and a bound for those that mean harm"""

MOST_ADDRESSES = 20
"""of one host, for the same reasons"""

_LONGEST_NAME = 253  # octets in text without the last dot; RFC 1035 section 2.3.4 allows 255 on the wire
_LONGEST_LABEL = 63
_HIGHEST_PREFERENCE = 65_535


def _networks(*written: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(one) for one in written)


# The documentation ranges (RFC 5737, RFC 3849) are in neither table: they harm nobody, and tests live there.

NOWHERE = _networks(
    "0.0.0.0/8",  # unspecified, "this network" (RFC 1122 section 3.2.1.3)
    "127.0.0.0/8",  # loopback
    "224.0.0.0/4",  # multicast (RFC 5771)
    "240.0.0.0/4",  # reserved, and broadcast (RFC 1112 section 4)
    "::/96",  # unspecified, loopback, and the abandoned IPv4-compatible ones (RFC 4291 section 2.5.5.1)
    "100::/64",  # discarded (RFC 6666)
    "ff00::/8",  # multicast
)
"""addresses that are no machine's, or anybody's own"""

PRIVATE = _networks(
    "10.0.0.0/8",  # RFC 1918
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # behind a carrier's NAT (RFC 6598)
    "169.254.0.0/16",  # link-local (RFC 3927)
    "fc00::/7",  # unique local (RFC 4193)
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local, abandoned (RFC 3879)
    "64:ff9b:1::/48",  # a site's own NAT64 (RFC 8215)
)
"""addresses that mean another machine in every site"""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1


# Hosts


async def preferences(lookups: Lookups, hop: NextHop, names: Collection[str]) -> Preferences | Failure:
    """The hosts of a next hop, as RFC 5321 section 5.1 has it; the best `MOST_HOSTS`.

    `names` are those that we go by ourselves, in lower case: a host of that name is dropped with all that are no
    better. Hosts as good as each other come in random order, but in their names' order where domains are grouped, so
    that equal sets are equal.
    """
    if hop.hosts is not None:
        return hop.hosts
    if hop.domain.startswith("["):
        return ((_plain(hop.domain[1:-1].removeprefix("ipv6:"), hop.route.port),),)
    exchanges = await _exchanges(lookups, hop.domain)
    if isinstance(exchanges, Failure):
        return exchanges
    in_order = sorted(exchanges) if hop.route.group_domains else lookups.shuffled(exchanges)
    in_order.sort(key=lambda one: one.preference)  # keeps the order of equal ones
    ours = min((one.preference for one in in_order if one.name in names), default=math.inf)
    by_name: dict[str, int] = {}
    for one in in_order:
        if one.preference < ours:
            by_name.setdefault(one.name, one.preference)
    if not by_name:
        return lookup_failure(f"{hop.domain}: we are its best host for mail ourselves (MX)", OURSELVES)
    groups: dict[int, list[Host]] = {}
    for name, preference in list(by_name.items())[:MOST_HOSTS]:
        groups.setdefault(preference, []).append(HostName(name, hop.route.port))
    return tuple(tuple(hosts) for hosts in groups.values())


@dataclass(frozen=True, slots=True, order=True)
class _Exchange:
    preference: int
    name: str


async def _exchanges(lookups: Lookups, domain: str) -> Sequence[_Exchange] | Failure:
    """What a domain's MX name, at least one; without any record the domain itself is its host (implicit MX)."""
    match await lookups.query(domain, "MX"):
        case Answer(records) if records:
            if all(record.split()[1:] == ["."] for record in records):
                return lookup_failure(f"{domain}: it takes no mail (null MX)", NULL_MX)
            found = [exchange for exchange in map(_exchange, records) if exchange is not None]
            return found or lookup_failure(f"{domain}: none of its MX names a host", NO_SUCH_DOMAIN)
        case NoAnswer.TEMPORARY:
            return lookup_failure(f"{domain} (MX): {NoAnswer.TEMPORARY.value}")
        case NoAnswer.NO_SUCH_DOMAIN:
            return lookup_failure(f"{domain}: {NoAnswer.NO_SUCH_DOMAIN.value}", NO_SUCH_DOMAIN)
        case _:
            return [_Exchange(0, domain)]


def _exchange(record: str) -> _Exchange | None:
    """A record such as `10 mx.example.`; None: it does not name a host."""
    preference, _, name = record.partition(" ")
    name = name.lower().removesuffix(".")
    # DNS may hold any octets, and escapes those that no host's name has.
    if not name or len(name) > _LONGEST_NAME or "\\" in name or any(character.isspace() for character in name):
        return None
    if not all(0 < len(label) <= _LONGEST_LABEL for label in name.split(".")):
        return None
    if not (preference.isascii() and preference.isdecimal() and len(preference) <= len(str(_HIGHEST_PREFERENCE))):
        return None
    return _Exchange(int(preference), name) if int(preference) <= _HIGHEST_PREFERENCE else None


# Addresses


@dataclass(frozen=True, slots=True)
class Located:
    """Where the hosts of one preference are."""

    addresses: tuple[tuple[Host, tuple[Address, ...]], ...] = ()
    """hosts that can be tried, each with at least one address"""
    failures: tuple[tuple[Host, Failure], ...] = ()
    """hosts without an address"""
    late: tuple[Host, ...] = ()
    """hosts whose look-up would have kept the others waiting"""
    ourselves: bool = False
    """one of them is this gateway: this preference, and those less preferred, are not to be tried. The rest is empty"""


@dataclass(slots=True)
class _Search:
    """What is known so far of where a host is."""

    host: Host
    local: bool
    """/etc/hosts may know it"""
    done: bool = False
    found: list[Address] = field(default_factory=list)
    """may be tried"""
    unusable: list[Address] = field(default_factory=list)
    reasons: list[NoAnswer] = field(default_factory=list)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """At most `MOST_ADDRESSES`; many of one family do not push the other out."""
        kept = list(dict.fromkeys(self.found))
        six = [address for address in kept if _is_six(address)]
        four = [address for address in kept if not _is_six(address)]
        while len(six) + len(four) > MOST_ADDRESSES:
            kept.remove(max(six, four, key=len).pop())
        return tuple(kept)

    def failure(self, answer: Reply) -> Failure:
        """Why there is no address. `answer` is for those that have none for good."""
        name = self.host.name if isinstance(self.host, HostName) else str(self.host)
        if NoAnswer.TEMPORARY in self.reasons:
            return lookup_failure(f"{name}: {NoAnswer.TEMPORARY.value}")
        if self.unusable:
            listed = ", ".join(str(address) for address in self.unusable[:3])
            return lookup_failure(f"{name}: its address is not on the Internet ({listed})", answer)
        no_data = NoAnswer.NO_DATA in self.reasons or not self.reasons
        what = "it has no address (A, AAAA)" if no_data else NoAnswer.NO_SUCH_DOMAIN.value
        return lookup_failure(f"{name}: {what}", answer)


async def locate(
    lookups: Lookups, network: Network, route: Route, hosts: Sequence[Host], own: Sequence[Address], grace: float
) -> Located:
    """The addresses of the hosts of one preference, looked up at the same time.

    It takes at most `grace` seconds from the first address that may be tried; what is not known then is late. `own`
    is where our listeners are. Hosts found by MX are looked up in DNS only, and tried only where a stranger's DNS may
    send us; those that a route names may be anywhere, and without an address they count as broken for now.
    """
    searches = [_Search(host, local=not route.mx) for host in hosts]
    ourselves = False
    with trio.CancelScope() as scope:

        def heard(search: _Search, addresses: Iterable[Address]) -> None:
            nonlocal ourselves
            for address in addresses:
                standing = _standing(network, route, own, address)
                if standing is _Standing.OURSELVES:
                    ourselves = True
                    scope.cancel()
                elif standing is _Standing.UNUSABLE:
                    search.unusable.append(address)
                else:
                    search.found.append(address)
                    scope.deadline = min(scope.deadline, trio.current_time() + grace)

        async with trio.open_nursery() as searching:
            for search in searches:
                searching.start_soon(_look_up, lookups, search, heard)
    if ourselves:
        return Located(ourselves=True)
    answer = NO_SUCH_DOMAIN if route.mx else LOOKUP_FAILED
    return Located(
        tuple((search.host, search.addresses) for search in searches if search.found),
        tuple((search.host, search.failure(answer)) for search in searches if search.done and not search.found),
        tuple(search.host for search in searches if not search.done and not search.found),
    )


async def addresses(lookups: Lookups, host: Host) -> tuple[Address, ...] | Failure:
    """Where a host that a route names is: an address is there already, a name is looked up in /etc/hosts, then DNS."""
    search = _Search(host, local=True)
    await _look_up(lookups, search, lambda search, found: search.found.extend(found))
    return search.addresses or search.failure(LOOKUP_FAILED)


_Heard = Callable[[_Search, Iterable[Address]], None]


async def _look_up(lookups: Lookups, search: _Search, heard: _Heard) -> None:
    host = search.host
    if not isinstance(host, HostName):
        heard(search, [host])
    elif search.local and (local := await lookups.local_names(host.name)):
        heard(search, [TcpAddress(ip, host.port) for ip in local])
    else:
        await _ask(lookups, search, host, heard)
    search.done = True


async def _ask(lookups: Lookups, search: _Search, host: HostName, heard: _Heard) -> None:
    async def ask(record_type: str) -> None:
        match await lookups.query(host.name, record_type):
            case Answer(records):
                heard(search, [_plain(ip, host.port) for ip in records])
                search.found.sort(key=_is_six, reverse=True)
            case NoAnswer() as reason:
                search.reasons.append(reason)

    async with trio.open_nursery() as asking:
        for record_type in RECORD_TYPES:
            asking.start_soon(ask, record_type)


def _plain(ip: str, port: int) -> TcpAddress:
    """An IPv4-mapped address (RFC 4291 section 2.5.5.2) is that of IPv4, and leaves by IPv4."""
    mapped = ipaddress.IPv6Address(ip).ipv4_mapped if ":" in ip else None
    return TcpAddress(ip if mapped is None else str(mapped), port)


def _is_six(address: Address) -> bool:
    return isinstance(address, TcpAddress) and ":" in address.ip


# What an address is to us


class _Standing(enum.Enum):
    USABLE = enum.auto()
    UNUSABLE = enum.auto()
    OURSELVES = enum.auto()


def _standing(network: Network, route: Route, own: Sequence[Address], address: Address) -> _Standing:
    """Whether an address may be tried. A route's own hosts are the operator's word.

    A private address may be ours, and then says that we are this domain's host; that loopback is ours says nothing.
    """
    if not route.mx or not isinstance(address, TcpAddress):
        return _Standing.USABLE
    ends = _ends(ipaddress.ip_address(address.ip))
    if not route.allow_private and _in_one_of(NOWHERE, ends):
        return _Standing.UNUSABLE
    if any(_is_ours(network, own, ip, address.port) for ip in ends):
        return _Standing.OURSELVES
    if not route.allow_private and _in_one_of(PRIVATE, ends):
        return _Standing.UNUSABLE
    return _Standing.USABLE


def _ends(ip: IPAddress) -> list[IPAddress]:
    """The address, and the IPv4 address that IPv6 is told to carry the connection to."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip in _NAT64:
        return [ip, ipaddress.IPv4Address(ip.packed[-4:])]
    return [ip] if ip.sixtofour is None else [ip, ip.sixtofour]


def _in_one_of(networks: Sequence[IPNetwork], ends: Sequence[IPAddress]) -> bool:
    return any(ip in network for ip in ends for network in networks)


def _is_ours(network: Network, own: Sequence[Address], ip: IPAddress, port: int) -> bool:
    for listening in own:
        if isinstance(listening, TcpAddress) and listening.port == port:
            at = ipaddress.ip_address(listening.ip)
            if at == ip or (at.is_unspecified and at.version == ip.version and network.has_address(str(ip))):
                return True
    return False
