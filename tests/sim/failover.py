"""That nobody is put off for want of a path before every server was tried, whatever else is broken. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from mailgate.network import TcpAddress
from sim.dialogs import INSTANT, FromClient
from sim.evidence import Evidence, domain_of
from sim.records import Said
from sim.summary import Finding

_NO_PATH = " 4.4.1 "

_LATELY = 100.0
"""seconds for which a try that failed may stand for another one: a path rests for 60 s at most, and opening it took
up to 30"""

_Tries = dict[tuple[str, int, str], list[float]]


def untried(evidence: Evidence, promise: str) -> Iterator[Finding]:
    """451 4.4.1 at RCPT says that no path to the next hop could be opened: then each of its servers was tried.

    Evidence is a connect of that gateway to each server of an inside domain, for whomever, since the transaction began
    or in the 100 s before the reply.
    """
    tries: _Tries = defaultdict(list)
    for session in evidence.upstream:
        if isinstance(session.server_address, TcpAddress):
            tries[session.client, session.client_life, session.server_address.ip].append(session.connecting)
    for given in evidence.given:
        for mailbox, asked in given.transaction.rcpts:
            said = asked.reply
            if said is not None and said.kind == 4 and _NO_PATH in said.text:
                for ip in evidence.site.addresses.get(domain_of(mailbox), ()):
                    if not _tried(tries, given, ip, said):
                        what = f"<{mailbox}> was put off by {said.text!r}, and {ip} had not been tried"
                        yield Finding(promise, what, said.written, given.session.number)


def _tried(tries: _Tries, given: FromClient, ip: str, said: Said) -> bool:
    times = tries.get((given.served.gateway, given.served.life, ip), [])
    place = bisect_right(times, said.written + INSTANT)
    return place > 0 and times[place - 1] >= min(given.began, said.written - _LATELY) - INSTANT
