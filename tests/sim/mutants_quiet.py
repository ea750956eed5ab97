"""Mutants of which neither a log nor an exception tells: someone outside has to miss something."""

from __future__ import annotations

import trio

from mailgate.relay.delivery import Delivery
from mailgate.relay.outcome import Failure, Scope
from mailgate.relay.routing import Path
from mailgate.relay.settings import Host
from sim.mutant import Change, Mutant, changes

_note = Delivery._note


def _note_and_blame_quietly(self: Delivery, where: Path | Host | str | None, failure: Failure) -> None:
    _note(self, where, failure)
    if isinstance(where, Path) and failure.scope in (Scope.MESSAGE, Scope.SESSION):
        self._shared.health.failed(where, failure.why, trio.current_time(), static=not self.hop.route.mx)


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "outages are kept quiet",
        "mail_arrives_in_time",
        "a path is down when its host refuses a message or hangs up inside a transaction, and the log does not say so",
        changes(Change(Delivery, "_note", _note_and_blame_quietly)),
    ),
)
