"""Mutants of which neither a log nor an exception tells: someone outside has to miss something."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from mailgate import gateway
from mailgate.network import Address
from mailgate.protocol.events import Gone, MailAsked, Quit
from mailgate.protocol.reply import Reply
from mailgate.relay.conversation import Conversation
from mailgate.relay.delivery import Delivery
from mailgate.relay.outcome import Failure, Scope
from mailgate.relay.reach import Reach
from mailgate.relay.routing import Path
from mailgate.relay.settings import Host, Listener, Route
from mailgate.relay.transaction import Transaction
from mailgate.relay.upstreams import Lease, Upstreams
from sim.mutant import Change, Mutant, budget, changes

LINGER = 50.0
"""seconds"""

SENT_AWAY = 0.1
"""of all MAIL commands"""

_take = Upstreams._take
_locate = Reach._locate
_run_conversation = Conversation.run
_transact = Conversation._transact
_note = Delivery._note


def _admit(listener: Listener, peer: Address) -> bool:
    return True


def _take_anybodys(self: Upstreams, path: Path, route: Route) -> Lease | None:
    kept = (other for other, protocol in self._kept if protocol is route.protocol)
    return _take(self, next(kept, path), route)


async def _locate_one(self: Reach, hosts: Sequence[Host], grace: float, until: float) -> list[Path]:
    if self._preferences is not None:
        self._preferences.clear()
    return (await _locate(self, hosts, grace, until))[:1]


async def _run_and_linger(self: Conversation, refusal: Reply | None = None) -> None:
    await _run_conversation(self, refusal)
    await trio.sleep(LINGER)


async def _transact_or_send_away(self: Conversation, asked: MailAsked) -> Quit | Gone | None:
    if self._shared.network.random.random() < SENT_AWAY:
        return Gone()
    return await _transact(self, asked)


def _note_and_blame_quietly(self: Delivery, where: Path | Host | str | None, failure: Failure) -> None:
    _note(self, where, failure)
    if isinstance(where, Path) and failure.scope in (Scope.MESSAGE, Scope.SESSION):
        self._shared.health.failed(where, failure.why, trio.current_time(), static=not self.hop.route.mx)


def _commit_without_a_line(self: Transaction) -> None:
    self._committed = True


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "everybody is admitted",
        "no_open_relay",
        "a listener's clients may come from anywhere",
        changes(Change(gateway, "admitted", _admit)),
    ),
    Mutant(
        "a kept session is anybody's",
        "delivered_only_when_a_next_hop_took_it",
        "a session that was kept for one next hop is used for another",
        changes(Change(Upstreams, "_take", _take_anybodys)),
    ),
    Mutant(
        "only the first path",
        "mail_arrives_in_time",
        "of a next hop's paths only the first one of the first preference is tried",
        changes(Change(Reach, "_locate", _locate_one)),
    ),
    Mutant(
        "the dot's reply is not waited for",
        "unknown_is_told_and_logged",
        "a next hop has one minute for its answer to the dot",
        changes(budget("delivery", 60)),
    ),
    Mutant(
        "clients' sessions linger",
        "nothing_is_left",
        "a client's connection and its task are kept for 50 s after the session's end",
        changes(Change(Conversation, "run", _run_and_linger)),
    ),
    Mutant(
        "sent away for nothing",
        "no_session_kills_another",
        "one in ten transactions is told 421 Shutting down, and nothing shuts down",
        changes(Change(Conversation, "_transact", _transact_or_send_away)),
    ),
    Mutant(
        "outages are kept quiet",
        "mail_arrives_in_time",
        "a path is down when its host refuses a message or hangs up inside a transaction, and the log does not say so",
        changes(Change(Delivery, "_note", _note_and_blame_quietly)),
    ),
    Mutant(
        "crashes leave no trace",
        "duplicates_are_explained",
        "no line says that a dot is about to be written",
        changes(Change(Transaction, "committing", _commit_without_a_line)),
    ),
)
