"""What a recipient's next hop would say, over each of its paths, without sending anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio
from structlog.typing import EventDict

from mailgate.network import Network
from mailgate.protocol.command import Extension, Mailbox, MailParameters, ReversePath
from mailgate.protocol.reply import Reply
from mailgate.relay import nexthop
from mailgate.relay.envelope import Envelope
from mailgate.relay.outcome import OURSELVES, Failure, Stage, lacks_smtputf8
from mailgate.relay.paths import refused
from mailgate.relay.reach import NO_SOURCE, Reach
from mailgate.relay.routing import NextHop, Path, next_hop, paths_to
from mailgate.relay.settings import Host, Route, Settings
from mailgate.relay.shared import Shared
from mailgate.session.client import ClientSession, Lost, Patience


@dataclass(frozen=True, slots=True)
class Question:
    """Whom the probe speaks for and of."""

    sender: ReversePath
    recipient: Mailbox

    @property
    def utf8(self) -> bool:
        """One of them needs SMTPUTF8 (RFC 6531)."""
        return not (str(self.sender).isascii() and str(self.recipient).isascii())


@dataclass(frozen=True, slots=True)
class Probed:
    """What one path said: up to which stage it got, and the answer there."""

    where: Path | Host | str
    stage: Stage
    answer: str
    accepts: bool
    seconds: float
    connected: float | None = None
    """seconds until there was a connection"""


async def probe(
    settings: Settings, network: Network, route: Route, question: Question, report: Callable[[Probed], None]
) -> Path | None:
    """Try every path of a route, one after another, up to RCPT; each is reported as soon as it is known.

    Then let them race as a message would, up to MAIL, and return the path that wins; None: none does.
    """
    shared = Shared(settings, network, structlog.get_logger(processors=[_drop]))
    hop = next_hop(route, question.recipient.domain)
    began = trio.current_time()
    found = await nexthop.preferences(shared.lookups, hop, shared.names)
    if isinstance(found, Failure):
        report(Probed(hop.domain, found.stage, found.why, accepts=False, seconds=trio.current_time() - began))
        return None
    for hosts in found:
        began = trio.current_time()
        located = await nexthop.locate(shared.lookups, network, route, hosts, settings.addresses, math.inf)
        seconds = trio.current_time() - began
        if located.ourselves:
            report(Probed(hop.domain, Stage.LOOKUP, OURSELVES.text, accepts=False, seconds=seconds))
            break
        for host, failure in located.failures:
            report(Probed(host, failure.stage, failure.why, accepts=False, seconds=seconds))
        for host, addresses in located.addresses:
            paths = paths_to(route, host, addresses)
            if not paths:
                report(Probed(host, Stage.CONNECT, NO_SOURCE, accepts=False, seconds=seconds))
            for path in paths:
                report(await _probe_path(shared, route, path, question))
    return await _race(Shared(settings, network, shared.log), hop, question)


async def _probe_path(shared: Shared, route: Route, path: Path, question: Question) -> Probed:
    """Over one path, on a session of its own."""
    times = shared.settings.timeouts
    began = trio.current_time()
    connected: float | None = None
    last: tuple[Stage, Reply | Lost] | None = None

    def on_connection() -> None:
        nonlocal connected
        connected = trio.current_time() - began

    async def ask(session: ClientSession) -> Failure | None:
        nonlocal last
        if question.utf8 and Extension.SMTPUTF8 not in session.capabilities.extensions:
            return lacks_smtputf8()
        patience = Patience(times.envelope)
        result = await session.mail(question.sender, MailParameters(smtputf8=question.utf8), patience)
        last = Stage.MAIL, result
        if not refused(result):
            last = Stage.RCPT, await session.offer([question.recipient], patience) or await session.reply(patience)
        return None

    lease = shared.upstreams.lease_now(path, route)
    assert lease is not None  # one at a time
    try:
        failure = await shared.upstreams.open(lease, began + times.probe, ask, log=shared.log, connected=on_connection)
        seconds = trio.current_time() - began
        if lease.session is not None and lease.session.partable:
            await lease.session.farewell(times.quit)
    finally:
        await trio.aclose_forcefully(lease)
    if failure is not None:
        return Probed(path, failure.stage, failure.why, accepts=False, seconds=seconds, connected=connected)
    assert last is not None
    stage, result = last
    answer = result.why if isinstance(result, Lost) else str(result)
    accepts = isinstance(result, Reply) and result.kind == 2
    return Probed(path, stage, answer, accepts, seconds, connected)


async def _race(shared: Shared, hop: NextHop, question: Question) -> Path | None:
    """The path that a message would go over, as long as nothing is known of any of them."""
    envelope = Envelope(question.sender, MailParameters(smtputf8=question.utf8), per_recipient=False)
    domain = question.recipient.domain
    reach = Reach(hop, domain, envelope, shared, shared.log, lambda where, failure: None, lambda: None)
    lease = None
    with trio.move_on_after(shared.settings.timeouts.recipient):
        lease = await reach.open()
    if lease is None:
        return None
    try:
        if lease.session is not None and lease.session.partable:
            await lease.session.farewell(shared.settings.timeouts.quit)
    finally:
        await trio.aclose_forcefully(lease)
    return lease.path


def _drop(logger: object, method: str, event: EventDict) -> EventDict:
    """The probe is told by its table, and has no log."""
    raise structlog.DropEvent
