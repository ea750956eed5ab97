"""Playing a scenario: its message is sent, run after run over the sender's queue, while things are broken."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from mailgate.demo.checker import duplicates
from mailgate.demo.history import Caller, Copy, History, Recipient, Sent, Try
from mailgate.demo.links import Links, Pause
from mailgate.demo.scenarios import Action, Cut, Direction, Does, Expected, Mend, QueueRun, Scenario, Stop
from mailgate.demo.world import HOMES, PATIENCE, RECOVERY, SITE, Gw, Server, Site, World
from mailgate.network import Address
from mailgate.testing import Attempt, Patience, Script, ScriptedSender, Sending, Speaks, State

_WAIT = PATIENCE + 1  # longer than an answer may take, so that one that comes too late is seen as such
_SENDER_PATIENCE = Patience(
    connect=_WAIT, greeting=_WAIT, hello=_WAIT, mail=_WAIT, rcpt=_WAIT, data=_WAIT, body=_WAIT, dot=_WAIT
)

_FILLER = b"%07d the quick brown fox jumps over the lazy dog\r\n"
_LINE = len(_FILLER % 0)

_ON_ITS_WAY = 0.1
"""seconds until what has left the sender is through the gateway, on one machine"""

_LOOK = 0.05
"""seconds between two looks at what the gateways know"""

_LEAVING = 3.0
"""seconds in which the servers notice that the gateways have hung up"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends in a direction."""

    server: Server
    reverse_path: str
    protocol: Speaks


ORIGINS = {
    Direction.INBOUND: Origin(Server.MX_A, "sam@a.example", "smtp"),
    Direction.OUTBOUND: Origin(Server.INSIDE, f"ann@{SITE}", "lmtp"),
}


class Post:
    """A sending server."""

    def __init__(self, origin: Origin, site: Site) -> None:
        self.origin = origin
        self.links = Links(site.ips[origin.server])
        self.sender = ScriptedSender(
            self.links,
            f"{origin.server}.example",
            origin.protocol,
            source=self.links.ip,
            patience=_SENDER_PATIENCE,
        )

    @property
    def last_words(self) -> str:
        """What was said last in its newest session."""
        newest = self.sender.transcripts[-1:]
        return " ".join(f"{one.title}  {one.lines[-1]}" for one in newest if one.lines)


@dataclass(frozen=True, slots=True)
class Told:
    """What a run over the queue brought one recipient."""

    address: str
    tries: tuple[Try, ...]


@dataclass(frozen=True, slots=True)
class Mail:
    """A message to be sent."""

    id: str
    """as in its Message-ID line"""
    content: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """Whom to tell how it goes."""

    run: Callable[[str, int, Sequence[Told]], None]
    """(the message's id, the number of the run over the queue, what it brought)"""
    mended: Callable[[float], None]
    """(the seconds until the gateways had found out; infinite: they have not)"""


async def play(scenario: Scenario, mail: Mail, post: Post, world: World, hosts: trio.Nursery, report: Report) -> Sent:
    """Send the scenario's message. Afterwards all is mended, unless what is broken is to stay so."""
    mended: list[float] = []
    tries: list[list[Try]] = [[] for _ in scenario.recipients]
    for count, run in enumerate(scenario.runs, 1):
        for step in run.before:
            await act(step, world, hosts)
            if isinstance(step, Mend):
                mended.append(await _found_out(world))
                report.mended(mended[-1])
        waiting = [at for at, made in enumerate(tries) if not made or made[-1].state is State.DEFERRED]
        recipients = [scenario.recipients[at] for at in waiting]
        sending = await _send(scenario, run, mail.content, recipients, post, world, hosts)
        told = [Told(fate.recipient, tuple(_tries(fate.attempts, world))) for fate in sending.fates]
        for at, one in zip(waiting, told, strict=True):
            tries[at] += one.tries
        report.run(mail.id, count, told)
    if not scenario.keeps:
        # Nothing that one scenario has taught the gateways is to matter in the next.
        for gateway in world.gateways.values():
            await gateway.stop()
        await mend(world, hosts)
    outcome = tuple(Recipient(address, tuple(made)) for address, made in zip(scenario.recipients, tries, strict=True))
    return Sent(
        id=mail.id,
        reverse_path=post.origin.reverse_path,
        content=mail.content,
        recipients=outcome,
        announced=tuple(dict.fromkeys(scenario.duplicates)),
        within=scenario.within,
        mended=tuple(mended),
    )


async def _send(
    scenario: Scenario,
    run: QueueRun,
    content: bytes,
    recipients: Sequence[str],
    post: Post,
    world: World,
    hosts: trio.Nursery,
) -> Sending:
    async with trio.open_nursery() as meddling:  # ends by being cancelled
        if run.midway:
            post.links.pause = Pause(after=len(content) // 2)
            meddling.start_soon(_meddle, post.links.pause, run.midway, world, hosts)
        sending = await post.sender.send(
            content, recipients, _gateways(scenario.direction, world), reverse_path=post.origin.reverse_path
        )
        meddling.cancel_scope.cancel()
    post.links.pause = None  # where no connection came about, nobody has taken it
    return sending


async def _meddle(pause: Pause, actions: Sequence[Action], world: World, hosts: trio.Nursery) -> None:
    await pause.reached.wait()
    await trio.sleep(_ON_ITS_WAY)
    for step in actions:
        await act(step, world, hosts)
    pause.resume.set()


async def act(action: Action, world: World, hosts: trio.Nursery) -> None:
    """Break something, or mend everything; `hosts` is the nursery that the hosts run in."""
    match action:
        case Cut(gateway, server, fault, over):
            address = None if server is None else world.servers[server].address
            source = world.gateways[gateway].sources[over] if over else None
            world.gateways[gateway].links.cut(address, fault, source=source)
        case Does(server, script):
            world.servers[server].mta.script = script
        case Stop(host):
            await (world.gateways[host] if isinstance(host, Gw) else world.servers[host]).stop()
        case Mend():
            await mend(world, hosts)


async def _found_out(world: World) -> float:
    """Wait until the gateways know of no path that is down; the seconds that this took, infinite if too many."""
    began = trio.current_time()
    with trio.move_on_after(RECOVERY):
        while not all(gateway.knows_all_up for gateway in world.gateways.values()):  # noqa: ASYNC110
            await trio.sleep(_LOOK)
        return trio.current_time() - began
    return math.inf


async def mend(world: World, hosts: trio.Nursery) -> None:
    """Undo everything that was broken; in the beginning, switch everything on. Raises CannotStart."""
    for gateway in world.gateways.values():
        gateway.links.mend()
    for server in world.servers.values():
        server.mta.script = Script()
    for host in world.hosts:
        if not host.running:
            await hosts.start(host.run)


def _gateways(direction: Direction, world: World) -> list[Address]:
    inbound = direction is Direction.INBOUND
    return [host.smtp if inbound else host.lmtp for host in world.gateways.values()]


def _tries(attempts: Sequence[Attempt], world: World) -> Iterator[Try]:
    for one in attempts:
        first_line = one.text.partition("\n")[0]
        yield Try(world.name_of(one.gateway), one.stage, first_line, one.state, one.seconds)


def compose(scenario: Scenario, number: int, post: Post) -> Mail:
    """A message with what is easily spoilt on the way: dots, 8-bit text, a long line, blanks and empty lines."""
    name = f"{number}@demo.example"
    lines = [
        f"From: <{post.origin.reverse_path}>",
        f"To: {', '.join(f'<{address}>' for address in scenario.recipients)}",
        f"Subject: {scenario.title}",
        f"Date: {email.utils.format_datetime(post.links.now())}",
        f"Message-ID: <{name}>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        ".",
        "..",
        ".a line that begins with a dot",
        "Gr\u00fc\u00dfe, \u3053\u3093\u306b\u3061\u306f",
        "long " * 190,
        "blanks at the end   ",
        "",
    ]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    filler = b"".join(_FILLER % at for at in range(scenario.size // _LINE))
    return Mail(name, head + filler[: max(0, scenario.size - len(head)) // _LINE * _LINE] + b"\r\n")


def surprises(scenario: Scenario, sent: Sent, happened: History) -> Iterator[str]:
    """Where it did not go as the scenario says."""
    copies = happened.copies
    for recipient in sent.recipients:
        expected = [one for run in scenario.runs for one in run.expected.get(recipient.address, ())]
        tries = recipient.tries
        if len(expected) != len(tries) or not all(map(Expected.fits, expected, tries)):
            got = ", ".join(f"{one.gateway} {one.state.value} at {one.stage.value} ({one.text})" for one in tries)
            yield f"{recipient.address}: expected {', '.join(map(str, expected))}; got {got or 'nothing'}"
        brought = [copy for copy in copies if (copy.id, copy.address) == (sent.id, recipient.address) and copy.taken]
        over = [happened.backbone(copy) for copy in brought]
        for one in expected:
            if one.over and one.over not in over:
                how = ", ".join(f"{copy.gateway} as {copy.caller}" for copy in brought)
                yield f"{recipient.address}: expected over {one.over}; came by {how or 'nobody'}"
    found = duplicates(sent, copies)
    if found != scenario.duplicates:
        got = ", ".join(kind.value for kind in found) or "none"
        yield f"expected duplicates: {', '.join(kind.value for kind in scenario.duplicates) or 'none'}; got {got}"


def facts(sent: Sent, copies: Sequence[Copy], torn: int) -> str:
    """What came of a message, in a line; `torn`: halves of it that a server has dropped."""
    states = [recipient.state for recipient in sent.recipients]
    counts = [(states.count(state), state.value) for state in (State.DELIVERED, State.REFUSED, State.DEFERRED)]
    parts = [f"{count} {what}" for count, what in counts if count]
    if torn:
        parts.append("a half without a dot came to nothing")
    extra = duplicates(sent, copies)
    parts.append(
        f"a duplicate that SMTP cannot avoid: {', '.join(kind.value for kind in extra)}" if extra else "nobody twice"
    )
    return ", ".join(parts)


def seen(scenario: Scenario, sent: Sent, copies: Sequence[Copy]) -> Iterator[str]:
    """As whom the servers saw the gateway, where the scenario is about its backbones."""
    if any(one.over for run in scenario.runs for each in run.expected.values() for one in each):
        callers: dict[Caller, list[str]] = {}
        for copy in copies:
            if copy.id == sent.id:
                callers.setdefault(copy.caller, []).append(copy.server)
        for caller, servers in callers.items():
            yield f"{caller}, by {' and '.join(dict.fromkeys(servers))}"


def history(world: World, sent: Sequence[Sent], left: tuple[str, ...] = ()) -> History:
    """Everything up to now."""
    servers = world.servers.values()
    violations = [
        f"{server.name} saw a breach of the protocol: {what}" for server in servers for what in server.violations
    ]
    return History(
        sent=tuple(sent),
        arrivals=tuple(arrival for server in servers for arrival in server.arrivals),
        homes={domain: server.value for domain, server in HOMES.items()},
        uplinks={
            server.value: tuple(uplink for gateway in world.gateways.values() for uplink in gateway.uplinks(server))
            for server in Server
        },
        patience=PATIENCE,
        recovery=RECOVERY,
        faults=(*violations, *(f"a gateway logged an error: {line}" for line in world.journal.errors)),
        left=left,
    )


async def drain(world: World) -> tuple[str, ...]:
    """Stop the gateways as SIGTERM does; what they leave behind."""
    async with trio.open_nursery() as draining:
        for gateway in world.gateways.values():
            draining.start_soon(gateway.drain)
    with trio.move_on_after(_LEAVING):
        for server in world.servers.values():
            await server.quiet()
    sockets = [
        f"{gateway.links.open_streams} connections that {gateway.name} opened are not closed"
        for gateway in world.gateways.values()
        if gateway.links.open_streams
    ]
    sessions = [
        f"{server.mta.open_sessions} sessions are still open at {server.name}"
        for server in world.servers.values()
        if server.mta.open_sessions
    ]
    return (*sockets, *sessions)
