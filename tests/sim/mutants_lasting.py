"""Mutants that forget the time, leave something, or let one session harm another: promises 6 to 8."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import cast

import trio

from mailgate.network import Answer, NoAnswer
from mailgate.protocol.events import Gone, Quit
from mailgate.protocol.reply import Reply
from mailgate.relay import health, lookups
from mailgate.relay.body import Body
from mailgate.relay.checks import Checks
from mailgate.relay.conversation import Conversation
from mailgate.relay.delivery import Delivery
from mailgate.relay.envelope import Recipient
from mailgate.relay.health import Health
from mailgate.relay.lookups import Lookups
from mailgate.relay.outcome import STOPPED, Failure, Scope
from mailgate.relay.routing import Path, RouteTable
from mailgate.relay.settings import Host, Listener, Route
from mailgate.relay.shared import Shared
from mailgate.relay.transaction import Transaction
from mailgate.relay.upstreams import Lease, Upstreams
from mailgate.session.client import ClientSession
from mailgate.session.wire import End
from sim.mutant import Change, Mutant, budget, changes

LONG = 7200.0
"""seconds"""

_run_transaction = Transaction.run
_run_conversation = Conversation.run
_exit_body = Body.__exit__
_keep = Lookups._keep
_note = Delivery._note
_offer_batch = Delivery._offer_batch


# 7. Nothing is left


async def _run_and_leave_a_task(self: Transaction) -> Quit | Gone | None:
    start = self._shared.upstreams.start
    if start is not None:
        start(trio.sleep_forever)
    return await _run_transaction(self)


async def _give_back_without_closing(self: Lease) -> None:  # noqa: ASYNC124 - it stands for one that waits
    if not self._upstreams.take_back(self):
        self._upstreams.free(self)


async def _never_expire(self: Upstreams) -> None:
    await trio.sleep_forever()


@contextlib.contextmanager
def _bodies_stay_open() -> Iterator[None]:
    """Files are closed at last when the mutant is gone, or they would be left for the runs behind it."""
    left: list[Body] = []

    def leave(
        self: Body, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left.append(self)

    with changes(Change(Body, "__exit__", leave))():
        try:
            yield
        finally:
            for body in left:
                _exit_body(body, None, None, None)


# 8. No open relay, no session that kills another, no stranger who has a path down


def _routes_of_all(self: Shared, listener: Listener) -> RouteTable:
    return RouteTable([route for one in self.settings.listeners for route in one.routes])


@contextlib.contextmanager
def _a_lost_client_ends_all() -> Iterator[None]:
    """A gateway is known by what its sessions share."""
    running: dict[Shared, list[Conversation]] = {}

    async def run(self: Conversation, refusal: Reply | None = None) -> None:
        together = running.setdefault(self._shared, [])
        together.append(self)
        try:
            await _run_conversation(self, refusal)
        finally:
            together.remove(self)
        if self._session.end is End.LOST:
            for other in list(together):
                await trio.aclose_forcefully(other._stream)

    with changes(Change(Conversation, "run", run))():
        yield


async def _run_without_boundary(self: Delivery) -> None:
    try:
        with self.scope:
            await self._deliver()
    finally:
        self._settle_the_rest(STOPPED)


async def _offer_batch_and_trust(self: Delivery, session: ClientSession, batch: Sequence[Recipient]) -> Failure | None:
    ended = await _offer_batch(self, session, batch)
    if ended is not None:
        raise TypeError(f"no reply: {ended.why}")
    return None


def _note_and_blame(self: Delivery, where: Path | Host | str | None, failure: Failure, scope: Scope) -> None:
    _note(self, where, failure)
    if isinstance(where, Path) and failure.scope is scope:
        about_the_path = dataclasses.replace(failure, scope=Scope.PATH)
        self._shared.upstreams.blame(where, self.hop.route, about_the_path)


def _blame_for_the_message(self: Delivery, where: Path | Host | str | None, failure: Failure) -> None:
    _note_and_blame(self, where, failure, Scope.MESSAGE)


def _blame_for_the_session(self: Delivery, where: Path | Host | str | None, failure: Failure) -> None:
    _note_and_blame(self, where, failure, Scope.SESSION)


# Mail arrives


def _never_due(self: Health, path: Path, now: float) -> bool:
    return False


def _keep_failures(self: Lookups, key: tuple[str, str], result: Answer | NoAnswer) -> None:
    if result is NoAnswer.TEMPORARY:
        answer = cast(Answer, result)  # what makes it a bug
        self._kept[key] = lookups._Kept(answer, trio.current_time() + lookups.LONGEST)
    else:
        _keep(self, key, result)


def _want_nothing(self: Checks, path: Path, route: Route) -> None:
    """No path is watched."""


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "RCPT waits for ever",
        "every_reply_is_in_time",
        "a next hop may take as long as it likes for its answer to MAIL or RCPT",
        changes(budget("recipient", math.inf), budget("envelope", math.inf)),
    ),
    Mutant(
        "DATA waits for ever",
        "every_reply_is_in_time",
        "a next hop may take as long as it likes for its 354",
        changes(budget("data", math.inf)),
    ),
    Mutant(
        "the dot waits for ever",
        "every_reply_is_in_time",
        "a next hop may take as long as it likes for its answer to the dot",
        changes(budget("delivery", math.inf)),
    ),
    Mutant(
        "a task is left",
        "nothing_is_left",
        "each transaction leaves a task in the gateway's nursery",
        changes(Change(Transaction, "run", _run_and_leave_a_task)),
    ),
    Mutant(
        "a stream is left",
        "nothing_is_left",
        "an upstream session that can be neither kept nor told QUIT is not closed",
        changes(Change(Lease, "aclose", _give_back_without_closing)),
    ),
    Mutant(
        "kept for ever",
        "nothing_is_left",
        "nobody parts with upstream sessions that were kept for long enough",
        changes(Change(Upstreams, "expire", _never_expire)),
    ),
    Mutant(
        "a file is left",
        "nothing_is_left",
        "bodies are not closed, and something still refers to them",
        _bodies_stay_open,
    ),
    Mutant(
        "any route for anybody",
        "no_open_relay",
        "a recipient may use the routes of all listeners",
        changes(Change(Shared, "routes", _routes_of_all)),
    ),
    Mutant(
        "one for all",
        "no_session_kills_another",
        "a client whose connection breaks takes all other sessions with it",
        _a_lost_client_ends_all,
    ),
    Mutant(
        "a bug is everybody's",
        "no_session_kills_another",
        "a next hop that is lost at RCPT raises an exception, which ends the session with all its deliveries",
        changes(
            Change(Delivery, "run", _run_without_boundary), Change(Delivery, "_offer_batch", _offer_batch_and_trust)
        ),
    ),
    Mutant(
        "refusals count as outages",
        "strangers_do_not_poison_health",
        "a path is down when its host refuses a sender or a message",
        changes(Change(Delivery, "_note", _blame_for_the_message)),
    ),
    Mutant(
        "lost sessions count as outages",
        "strangers_do_not_poison_health",
        "a path is down when its host hangs up inside a transaction",
        changes(Change(Delivery, "_note", _blame_for_the_session)),
    ),
    Mutant(
        "down for long",
        "mail_arrives_in_time",
        "a path that was found down is not tried again for two hours",
        changes(
            Change(health, "FRESH", LONG),
            Change(health, "FRESH_UNDER_CHECK", LONG),
            Change(Health, "due", _never_due),
            Change(Checks, "want", _want_nothing),
        ),
    ),
    Mutant(
        "a failure is an answer",
        "mail_arrives_in_time",
        "that DNS could not be asked is remembered as if it were an answer",
        changes(Change(Lookups, "_keep", _keep_failures)),
    ),
)
