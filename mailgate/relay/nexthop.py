"""The hosts of a next hop, and their addresses."""

from __future__ import annotations

import trio

from mailgate.network import Address, Answer, HostName, NoAnswer, TcpAddress
from mailgate.relay.lookups import Lookups
from mailgate.relay.outcome import Failure, lookup_failure
from mailgate.relay.settings import Host

RECORD_TYPES = ("AAAA", "A")
"""IPv6 first, as RFC 6724 has it by default"""


async def addresses(lookups: Lookups, host: Host) -> tuple[Address, ...] | Failure:
    """Where a host is: an address is there already, a name is looked up in /etc/hosts and then in DNS."""
    if not isinstance(host, HostName):
        return (host,)
    local = await lookups.local_names(host.name)
    if local:
        return tuple(TcpAddress(ip, host.port) for ip in local)
    answers: dict[str, Answer | NoAnswer] = {}

    async def ask(record_type: str) -> None:
        answers[record_type] = await lookups.query(host.name, record_type)

    async with trio.open_nursery() as asking:
        for record_type in RECORD_TYPES:
            asking.start_soon(ask, record_type)
    found: list[Address] = []
    reasons: list[NoAnswer] = []
    for record_type in RECORD_TYPES:
        match answers[record_type]:
            case Answer(records):
                found += [TcpAddress(ip, host.port) for ip in records]
            case NoAnswer() as reason:
                reasons.append(reason)
    if found:
        return tuple(found)
    worst = NoAnswer.TEMPORARY if NoAnswer.TEMPORARY in reasons else reasons[0]
    what = "it has no address (A, AAAA)" if worst is NoAnswer.NO_DATA else worst.value
    return lookup_failure(f"{host.name}: {what}")
