"""What a recipient's next hop would say, over each of its paths, without sending anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from mailgate.network import Network
from mailgate.protocol.command import Extension, Mailbox, MailParameters, ReversePath
from mailgate.protocol.reply import Reply
from mailgate.relay import nexthop
from mailgate.relay.lookups import Lookups
from mailgate.relay.outcome import Failure, Stage, lacks_smtputf8
from mailgate.relay.paths import Path, connect, introduce, refused
from mailgate.relay.settings import Host, Route, Settings
from mailgate.session.client import ClientSession, Lost, Patience


@dataclass(frozen=True, slots=True)
class Question:
    """Whom the probe speaks for and of."""

    sender: ReversePath
    recipient: Mailbox


@dataclass(frozen=True, slots=True)
class Probed:
    """What one path said: up to which stage it got, and the answer there."""

    where: Host | Path
    stage: Stage
    answer: str
    accepts: bool
    seconds: float


async def probe(
    settings: Settings, network: Network, route: Route, question: Question, report: Callable[[Probed], None]
) -> None:
    """Try every path of a route, one after another, up to RCPT; each is reported as soon as it is known."""
    lookups = Lookups(network)
    for host in route.hosts:
        began = trio.current_time()
        found = await nexthop.addresses(lookups, host)
        if isinstance(found, Failure):
            report(Probed(host, found.stage, found.why, accepts=False, seconds=trio.current_time() - began))
            continue
        for address in found:
            report(await _probe_path(settings, network, route, Path(host, address), question))


async def _probe_path(settings: Settings, network: Network, route: Route, path: Path, question: Question) -> Probed:
    times = settings.timeouts
    began = trio.current_time()
    by = began + times.probe
    stream = await connect(network, path, Patience(times.connect, by))
    if isinstance(stream, Failure):
        return Probed(path, stream.stage, stream.why, accepts=False, seconds=trio.current_time() - began)
    session = ClientSession(stream, route.protocol, times.stall)
    try:
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            stage, result = await _ask(session, settings, question, by)
            listening.cancel_scope.cancel()
        seconds = trio.current_time() - began
        if session.clean:
            await session.farewell(times.quit)
    finally:
        await trio.aclose_forcefully(stream)
    answer = result.why if isinstance(result, Lost | Failure) else str(result)
    return Probed(path, stage, answer, accepts=isinstance(result, Reply) and result.kind == 2, seconds=seconds)


async def _ask(
    session: ClientSession, settings: Settings, question: Question, by: float
) -> tuple[Stage, Reply | Lost | Failure]:
    times = settings.timeouts
    failure = await introduce(session, settings.hostname, Patience(times.reply, by))
    if failure is not None:
        return failure.stage, failure
    utf8 = not (str(question.sender).isascii() and str(question.recipient).isascii())
    if utf8 and Extension.SMTPUTF8 not in session.capabilities.extensions:
        failure = lacks_smtputf8()
        return failure.stage, failure
    patience = Patience(times.envelope)
    result = await session.mail(question.sender, MailParameters(smtputf8=utf8), patience)
    if refused(result):
        return Stage.MAIL, result
    return Stage.RCPT, await session.offer([question.recipient], patience) or await session.reply(patience)
