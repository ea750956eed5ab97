"""Promises 7 and 8: what is left, and what one session, path or stranger can do to the others. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from mailgate.network import TcpAddress
from sim.dialogs import INSTANT, FromClient, Served, ToNextHop, or_never, replies, replies_due
from sim.evidence import Evidence, domain_of
from sim.records import Asked, End, Logged, Said, Session
from sim.summary import Finding

LEFT = "nothing_is_left"
RELAY = "no_open_relay"
KILLS = "no_session_kills_another"
HEALTH = "strangers_do_not_poison_health"

MARGIN = 2.0
"""seconds for what takes no time by any budget: a client's leaving to be noticed, a nursery to end"""

# 7. Nothing is left


def nothing_is_left(evidence: Evidence) -> Iterator[Finding]:
    """No task, stream or file is left at the end, and no upstream session longer than somebody may want it.

    Evidence is what was counted at the end, and when a gateway closed its side of its sessions. One without any
    transaction has the time to be opened; one in a transaction has until the client's is over, and behind a dot until
    the outcomes are heard, or the time for them is over; and then 3 s to be kept and 5 s for a goodbye. A kept
    session is not taken up again later than 3 s after the last transaction, nor 30 s after its start; then it has 10 s
    for the answer to RSET. Sessions whose connect did not succeed leave nothing that could be seen from outside.
    A client's session, if nothing was done to it, is closed within 4 s of its client's end and of our last reply.
    """
    for left in evidence.history.left:
        yield Finding(LEFT, left, evidence.history.ended)
    by_session: dict[int, list[ToNextHop]] = {}
    for handed in evidence.handed:
        by_session.setdefault(handed.session.number, []).append(handed)
    for session in evidence.upstream:
        if session.established is not None:
            transactions = by_session.get(session.number, [])
            yield from _held_too_long(evidence, session, transactions)
            yield from _kept_too_long(evidence, session, transactions)
    for served in evidence.served:
        yield from _lingering(evidence, served)


def _held_too_long(evidence: Evidence, session: Session, transactions: list[ToNextHop]) -> Iterator[Finding]:
    times = evidence.site.timeouts
    if transactions:
        over = max(_until(evidence, one) for one in transactions)
        limit = max([over + times.idle, *(reset + times.reply for reset in _resets(session))])
    else:
        limit = session.connecting + times.probe
    limit += times.quit + MARGIN
    closed = session.client_end[0] if session.client_end is not None else evidence.history.ended
    if closed > limit:
        what = f"a session with {session.server_address} was still open {closed - limit:.0f} s after its time"
        yield Finding(LEFT, what, limit, session.number)


def _resets(session: Session) -> list[float]:
    """When a kept session was taken up again: what nobody answers then is given up."""
    return [asked.written for asked in session.commands if asked.verb == "RSET"]


def _until(evidence: Evidence, handed: ToNextHop) -> float:
    """When an upstream transaction is over at last."""
    own = handed.transaction
    if own.dot_written is None:
        return max((given.over for given in handed.givers), default=handed.began)
    last = own.outcomes[-1] if len(own.outcomes) >= replies_due(own, len(handed.accepted)) else None
    arrived = or_never(last.arrived if last is not None else None)
    dots = [or_never(given.transaction.dot_arrived) for given in handed.givers]
    return min(arrived, max([own.dot_written, *dots]) + evidence.site.timeouts.delivery)


def _kept_too_long(evidence: Evidence, session: Session, transactions: list[ToNextHop]) -> Iterator[Finding]:
    times = evidence.site.timeouts
    for begins in _resets(session) or [one.began for one in transactions[1:]]:
        before = [one for one in transactions if one.began < begins]
        if before:
            heard = max((or_never(said.arrived) for said in before[-1].transaction.outcomes), default=before[-1].began)
            limit = min(heard + times.idle, session.connecting + times.reuse) + MARGIN
            if begins > limit:
                what = f"a session with {session.server_address} was used again {begins - limit:.0f} s too late"
                yield Finding(LEFT, what, begins, session.number)


LINGER = 4.0
"""seconds in which a client that has ended may give a sign that it has read our answer, and a moment more"""


def _lingering(evidence: Evidence, served: Served) -> Iterator[Finding]:
    session = served.session
    end = session.client_end
    if session.faults or end is None or end[1] is End.DETACHED:
        return
    due = [
        or_never(own.dot_arrived) + evidence.site.timeouts.delivery
        for own in session.transactions
        if own.dot_arrived is not None and len(own.outcomes) < replies_due(own, len(own.accepted))
    ]
    limit = max([end[0], *(said.written for said in replies(session)), *due]) + LINGER
    if min(served.closed, served.life_ended, evidence.history.ended) > limit:
        what = f"the session of {session.client_address} was still open {LINGER:g} s after its client had ended it"
        yield Finding(LEFT, what, limit, session.number)


# 8. No open relay


def no_open_relay(evidence: Evidence) -> Iterator[Finding]:
    """Nobody reaches a domain that its listener does not serve, and nobody is welcome who may not connect.

    Evidence is what gateways said upstream: each RCPT names a recipient that a client had named before, in a
    transaction with that reverse-path, at a listener that admits it and serves the domain. And what they told clients:
    the greeting of one that may not connect is not 2xx; another
    domain's RCPT is 550 5.7.1, or an answer about the commands (no sender was accepted, too many recipients, 421);
    and no stranger's message is in a mailbox that was not open to him.
    """
    reached: dict[str, list[FromClient]] = {}
    for served in evidence.served:
        said, client = served.session.greeting, served.session.client_address
        if said is not None and said.kind == 2 and not served.listening.admits(client):
            yield Finding(RELAY, f"{client}, who may not connect, was welcomed", said.written, served.session.number)
    for given in evidence.given:
        yield from _relaying_not_denied(given)
        if given.message is not None and given.message.foreign:
            reached.setdefault(given.message.id, []).append(given)
    for handed in evidence.handed:
        for mailbox, asked in handed.transaction.rcpts:
            if not any(_may_reach(given, mailbox, asked) for given in handed.givers):
                what = f"RCPT <{mailbox}> was said for no client that may reach it"
                yield Finding(RELAY, what, asked.written, handed.session.number)
    for copy in evidence.history.copies:
        message = evidence.history.messages.get(copy.message)
        if message is not None and message.foreign:
            domain = domain_of(copy.recipient)
            if not any(_open_to(given, domain) for given in reached.get(message.id, [])):
                yield Finding(RELAY, f"{message.id}, a stranger's, reached <{copy.recipient}>", copy.time)


def _may_reach(given: FromClient, mailbox: str, asked: Asked) -> bool:
    named = any(
        other == mailbox and or_never(rcpt.arrived) <= asked.written + INSTANT
        for other, rcpt in given.transaction.rcpts
    )
    return named and _open_to(given, domain_of(mailbox))


def _open_to(given: FromClient, domain: str) -> bool:
    listening = given.served.listening
    return listening.admits(given.session.client_address) and listening.serves(domain)


def _relaying_not_denied(given: FromClient) -> Iterator[Finding]:
    for mailbox, asked in given.transaction.rcpts:
        said = asked.reply
        if said is None or given.served.listening.serves(domain_of(mailbox)):
            continue
        mail = given.transaction.mail.reply
        denied = said.code == 550 and "5.7.1" in said.text
        about_commands = said.code == 421 or "4.5.3" in said.text or mail is None or mail.kind != 2
        if not denied and not about_commands:
            what = f"RCPT <{mailbox}>, which is not served there, was told {said.text!r}"
            yield Finding(RELAY, what, said.written, given.session.number)


# 8. No session kills another

_SHUTTING_DOWN = "Shutting down"
_BUGS = ("session_failed", "delivery_failed", "background_failed")


def no_session_kills_another(evidence: Evidence) -> Iterator[Finding]:
    """No session ends for what another one does, or for a bug.

    Evidence is the gateways' logs as far as they confess: exceptions that came to an error boundary. And on the wire:
    a gateway closes a client's session only behind QUIT, behind a 421 or 554 that it has written, or when the client
    had already ended its side or the connection was broken, or because the gateway's host crashed. How the client's
    end travels does not matter: if it came first anywhere, it is an excuse. And nobody is told that a gateway shuts
    down before it is.
    """
    for line in evidence.history.log:
        event = line.fields.get("event")
        if event in _BUGS:
            yield Finding(KILLS, f"{line.gateway} logged {event}: {_last_line(line)}", line.time)
    for served in evidence.served:
        if _closed_for_no_reason(served):
            yield Finding(KILLS, "the gateway closed, and nobody knows why", served.closed, served.session.number)
        for said in replies(served.session):
            if said.code == 421 and _SHUTTING_DOWN in said.text and said.written < evidence.history.stopping:
                what = f"told {said.text!r}, and the gateway was not told to stop"
                yield Finding(KILLS, what, said.written, served.session.number)


def _last_line(line: Logged) -> str:
    text = str(line.fields.get("exception", "")).strip()
    return text.rpartition("\n")[2]


def _closed_for_no_reason(served: Served) -> bool:
    closed = served.closed
    if closed == math.inf or min(served.client_gone, served.dismissed, served.life_ended) <= closed + INSTANT:
        return False
    answered = [asked for asked in served.session.commands if asked.reply is not None]
    return not answered or answered[-1].verb != "QUIT"


# 8. Strangers and health

_PATH = re.compile(r"(?:(?P<backbone>[^/]+)/)?(?:[^(]*\()?(?P<address>\[?[0-9a-fA-F.:]+\]?:\d+)\)?")
_WELCOMES = ("EHLO", "HELO", "LHLO")

_RECENT = 40.0
"""seconds that opening a session may take in all: connect, greeting, EHLO, HELO"""


def strangers_do_not_poison_health(evidence: Evidence) -> Iterator[Finding]:
    """A path is called down only because a session over it has failed before MAIL.

    Evidence is a session of that gateway, from a source of that backbone to that address, begun in the last 40 s, for
    which one of these is true: connect failed, or had not succeeded after the head start that each path has; the
    greeting or the answer to EHLO was negative, or was missing for as long as it is waited for; the server ended the
    session before it, or the connection broke; or it is known that something was done to the session. Nothing that
    happens behind a positive answer to EHLO counts. What a gateway says as its host goes down is about that.
    """
    by_address: dict[tuple[str, int, str], list[Session]] = {}
    for session in evidence.upstream:
        key = session.client, session.client_life, str(session.server_address)
        by_address.setdefault(key, []).append(session)
    for line in evidence.history.log:
        if line.fields.get("event") != "path_down" or line.time >= evidence.life_ended(line.gateway, line.life):
            continue
        path = str(line.fields.get("path"))
        found = _PATH.fullmatch(path)
        sessions = [] if found is None else by_address.get((line.gateway, line.life, found["address"]), [])
        sources = evidence.site.sources.get((line.gateway, found["backbone"] or "")) if found is not None else None
        if not any(_was_over(one, sources) and _explains(evidence, one, line.time) for one in sessions):
            what = f"{line.gateway} called {path} down ({line.fields.get('stage')}: {line.fields.get('why')})"
            yield Finding(HEALTH, what, line.time)


def _was_over(session: Session, sources: frozenset[str] | None) -> bool:
    address = session.client_address
    return sources is None or not isinstance(address, TcpAddress) or not address.ip or address.ip in sources


def _explains(evidence: Evidence, session: Session, time: float) -> bool:
    """Whether a session had failed before MAIL at that time, and not long before."""
    if not session.connecting <= time + INSTANT <= session.connecting + _RECENT:
        return False
    hellos = [asked.reply for asked in session.commands if asked.verb in _WELCOMES and asked.reply is not None]
    if any(_by(said, time) and said.kind == 2 for said in hellos):
        return False
    times = evidence.site.timeouts
    if session.error or session.faults:
        return True
    if session.established is None or session.established > time:
        return time - session.connecting >= times.head_start - INSTANT
    welcomes = [*hellos, *([session.greeting] if session.greeting is not None else [])]
    negative = any(_by(said, time) and said.kind != 2 for said in welcomes)
    ended = min(session.server_end[0] if session.server_end is not None else math.inf, or_never(session.broken))
    heard = max([session.established, *(said.arrived for said in welcomes if said.arrived is not None)])
    return negative or ended <= time + INSTANT or time - heard >= times.reply - INSTANT


def _by(said: Said, time: float) -> bool:
    return said.arrived is not None and said.arrived <= time + INSTANT
