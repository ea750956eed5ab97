"""The hosts of a next hop, and their addresses."""

from __future__ import annotations

from mailgate.network import Address, Answer, HostName, Network, NoAnswer, TcpAddress
from mailgate.relay.outcome import Failure, lookup_failure
from mailgate.relay.settings import Host


async def addresses(network: Network, host: Host) -> tuple[Address, ...] | Failure:
    """Where a host is: an address is there already, a name is looked up in /etc/hosts and then in DNS.

    IPv6 comes first, as RFC 6724 has it by default.
    """
    if not isinstance(host, HostName):
        return (host,)
    local = await network.local_names(host.name)
    if local:
        return tuple(TcpAddress(ip, host.port) for ip in local)
    found: list[Address] = []
    reasons: list[NoAnswer] = []
    for record_type in ("AAAA", "A"):
        match await network.query(host.name, record_type):
            case Answer(records):
                found += [TcpAddress(ip, host.port) for ip in records]
            case NoAnswer() as reason:
                reasons.append(reason)
    if found:
        return tuple(found)
    worst = NoAnswer.TEMPORARY if NoAnswer.TEMPORARY in reasons else reasons[0]
    return lookup_failure(f"{host.name}: {worst.value}")
