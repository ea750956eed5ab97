"""Recipients on their way to a delivery, where the next hop has to be looked up before it is known which one.

Domains with the same hosts at the same preferences share a delivery if their route groups domains. The look-ups run
side by side; recipients are placed in the client's order all the same.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable

import trio

from mailgate.relay import nexthop
from mailgate.relay.envelope import Recipient
from mailgate.relay.outcome import Failure, lookup_failure
from mailgate.relay.routing import NextHop, Preferences
from mailgate.relay.shared import Shared

Place = Callable[[Recipient, NextHop, Failure | None], None]


class Grouping:
    """Places recipients: at once if it can. `place` gets the next hop, and why it could not be looked up."""

    def __init__(self, shared: Shared, nursery: trio.Nursery, place: Place) -> None:
        """`nursery`: where look-ups run; they end by themselves, or by `drop`."""
        self._shared = shared
        self._nursery = nursery
        self._place = place
        self._queue: deque[tuple[Recipient, NextHop]] = deque()
        self._scopes: dict[NextHop, trio.CancelScope] = {}
        self._known: dict[NextHop, tuple[NextHop, Failure | None]] = {}

    def add(self, recipient: Recipient, hop: NextHop) -> None:
        """The next recipient, in the client's order."""
        self._queue.append((recipient, hop))
        if not hop.route.group_domains:
            self._known[hop] = hop, None
        elif hop not in self._scopes:
            self._scopes[hop] = trio.CancelScope()
            self._nursery.start_soon(self._look_up, hop)
        self._place_known()

    def drop(self) -> list[Recipient]:
        """Look up nothing any more; those who were not placed."""
        for scope in self._scopes.values():
            scope.cancel()
        left = [recipient for recipient, _ in self._queue]
        self._queue.clear()
        return left

    async def _look_up(self, hop: NextHop) -> None:
        found: Preferences | Failure = lookup_failure(f"{hop.domain} (MX): no answer in time")
        with self._scopes[hop], trio.move_on_after(self._shared.settings.timeouts.probe):
            found = await nexthop.preferences(self._shared.lookups, hop, self._shared.names)
        if isinstance(found, Failure):
            self._known[hop] = hop, found
        else:
            self._known[hop] = dataclasses.replace(hop, domain="", hosts=found), None
        self._place_known()

    def _place_known(self) -> None:
        while self._queue and self._queue[0][1] in self._known:
            recipient, hop = self._queue.popleft()
            self._place(recipient, *self._known[hop])
