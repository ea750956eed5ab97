"""The recipients of one delivery: who waits for an answer, who is accepted, and until when somebody waits for us."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from mailgate.relay.envelope import Recipient


class Inbox:
    """Recipients come in the client's order, and then the request for DATA. Times are on Trio's clock."""

    def __init__(self, patience: float, changed: Callable[[], None]) -> None:
        """`patience`: seconds that a client waits for the answer to one RCPT. `changed` hears when `limit` may have."""
        self.waiting: list[Recipient] = []
        """for an answer to their RCPT"""
        self.taken: list[Recipient] = []
        """accepted, on whichever path"""
        self.data_requested = False
        self._patience = patience
        self._changed = changed
        self._news = trio.Event()
        self._answered_at = -math.inf
        self._data_by = math.inf

    @property
    def open(self) -> list[Recipient]:
        """Those accepted that have no outcome yet."""
        return [one for one in self.taken if one.outcome is None]

    def put(self, recipient: Recipient) -> None:
        """One more recipient."""
        self.waiting.append(recipient)
        self._changed()
        self._news.set()

    def request_data(self, by: float) -> None:
        """All recipients are answered; there must be a 354 by then."""
        self.data_requested = True
        self._data_by = by
        self._changed()
        self._news.set()

    def go_ahead(self) -> None:
        """Nobody waits for our 354 any more."""
        self._data_by = math.inf
        self._changed()

    def answered(self, recipient: Recipient, *, accepted: bool) -> None:
        """A recipient waits no more."""
        self.waiting.remove(recipient)
        self._answered_at = trio.current_time()
        self._changed()
        if accepted:
            recipient.accepted = True
            self.taken.append(recipient)

    async def news(self) -> None:
        """Wait until there are more recipients, or DATA is requested."""
        await self._news.wait()
        self._news = trio.Event()

    def answer_by(self) -> float:
        """When the first one who waits must be answered: clients wait for each reply from the one before it on."""
        if not self.waiting:
            return math.inf
        return max(self.waiting[0].arrived, self._answered_at) + self._patience

    def limit(self) -> float:
        """When the step under way must be done, for the sake of the reply that the client waits for."""
        return min(self._data_by, self.answer_by())
