"""What a gateway recalls of transactions that are over: the ledger and the put-off marks, here and in the shared store.

A mark has one home. With a store that is the store, so that each gateway of the site finds it and one alone takes it;
what the store could not be given is kept here, and is found here only. A store that fails costs no mail: it is left
alone for some seconds, and what was not asked or not put there may make a second copy, which is counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.command import Mailbox, ReversePath
from mailgate.relay.ledger import (
    LEDGER_ENTRIES,
    LEDGER_LIFE,
    PUT_OFF_ENTRIES,
    PUT_OFF_LIFE,
    Marks,
    Remembered,
    entry,
    put_off,
)
from mailgate.relay.status import LedgerStatus
from mailgate.store import Store, StoreUnreachable

PATIENCE = 1.0
"""seconds that one question to the store may take"""

LEFT_ALONE = 5.0
"""seconds for which a store that failed is not asked: not every message is to wait for it"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that has succeeded."""

    sender: ReversePath
    recipient: Mailbox
    digest: bytes
    """of the content as it was received"""

    @property
    def mark(self) -> str:
        """Its entry in the ledger."""
        return entry(self.sender, self.recipient, self.digest)


class Recall:
    """Of one gateway. Nothing here fails because the store does."""

    def __init__(self, *, enabled: bool, store: Store | None, log: FilteringBoundLogger) -> None:
        """`enabled`: keep a ledger; put-off marks are kept in any case."""
        self.enabled = enabled
        self._store = store
        self._log = log
        self._ledger = Marks(LEDGER_ENTRIES, LEDGER_LIFE)
        self._put_off = Marks(PUT_OFF_ENTRIES, PUT_OFF_LIFE)
        self._reachable = True
        self._alone_until = 0.0  # Trio's clock
        self._recorded = 0
        self._met = 0
        self._possible_duplicate = 0
        self._unasked = 0

    # The ledger

    async def delivered_before(self, deliveries: Sequence[Delivered]) -> tuple[bool, ...]:
        """Take the entries of these: whether each was delivered already, and its client does not know."""
        if not (self.enabled and deliveries):
            return (False,) * len(deliveries)
        marks = [one.mark for one in deliveries]
        now = trio.current_time()
        here = [self._ledger.take(mark, now) for mark in marks]
        # The store is asked for all: it may have been given, in a call that got no answer, what is here too.
        there = await self._ask(lambda store: store.take(marks))
        if there is None:
            self._unasked += 0 if self._store is None else len(marks)
            return tuple(here)
        return tuple(one or other for one, other in zip(here, there, strict=True))

    def met(self, recipients: int) -> None:
        """So many recipients got no second copy."""
        self._met += recipients

    async def remember(self, deliveries: Sequence[Delivered]) -> None:
        """Make entries of deliveries whose clients were not told. They are made even if this is cancelled."""
        if not (self.enabled and deliveries):
            return
        marks = [one.mark for one in deliveries]
        made = None
        try:
            made = await self._add(marks, LEDGER_LIFE)
        finally:
            if made is None:
                self.remember_here(deliveries)
            else:
                self._recorded += len(deliveries)

    def remember_here(self, deliveries: Sequence[Delivered]) -> None:
        """Likewise, at once and without the store."""
        if not (self.enabled and deliveries):
            return
        now = trio.current_time()
        for one in deliveries:
            self._ledger.add(one.mark, now)
        self._recorded += len(deliveries)
        if self._store is not None:
            self._possible_duplicate += len(deliveries)
            to = [one.recipient for one in deliveries]
            self._log.warning("possible_duplicate", to=to, why="the shared ledger could not be told")

    # Put-off marks

    async def put_off(self, sender: ReversePath, recipients: Sequence[Mailbox]) -> None:
        """At their next offer these have to let others go first."""
        marks = [put_off(sender, recipient) for recipient in recipients]
        if marks and await self._add(marks, PUT_OFF_LIFE) is None:
            now = trio.current_time()
            for mark in marks:
                self._put_off.add(mark, now)

    async def is_put_off(self, sender: ReversePath, recipient: Mailbox) -> bool:
        """Whether a recipient has to let others go first, this once."""
        mark = put_off(sender, recipient)
        if self._put_off.take(mark, trio.current_time()):
            return True
        there = await self._ask(lambda store: store.take([mark]))
        return there is not None and there[0]

    # The store

    async def _add(self, marks: Sequence[str], life: float) -> bool | None:
        async def add(store: Store) -> bool:
            await store.add(marks, life)
            return True

        return await self._ask(add)

    async def _ask(self, question: Callable[[Store], Awaitable[T]]) -> T | None:
        """The store's answer; None: there is no store, or no answer."""
        if self._store is None or trio.current_time() < self._alone_until:
            return None
        why = f"no answer in {PATIENCE:g} s"
        with trio.move_on_after(PATIENCE):
            try:
                answer = await question(self._store)
            except StoreUnreachable as error:
                why = str(error)
            else:
                self._answered()
                return answer
        self._alone_until = trio.current_time() + LEFT_ALONE
        if self._reachable:
            self._reachable = False
            self._log.warning("store_unreachable", why=why)
        return None

    def _answered(self) -> None:
        if not self._reachable:
            self._reachable = True
            self._log.info("store_back")

    # For the one who runs the gateway

    def status(self) -> LedgerStatus:
        """What is remembered, and what it was good for."""
        shared = "none" if self._store is None else "reachable" if self._reachable else "unreachable"
        return LedgerStatus(
            enabled=self.enabled,
            shared=shared,
            entries=len(self._ledger),
            limit=self._ledger.limit,
            put_off=len(self._put_off),
            recorded=self._recorded,
            met=self._met,
            possible_duplicate=self._possible_duplicate,
            unasked=self._unasked,
            evicted=self._ledger.evicted,
        )

    def remembered(self) -> Remembered:
        """What the next gateway in this one's place has to know."""
        now = trio.current_time()
        return Remembered(ledger=self._ledger.left(now), put_off=self._put_off.left(now))

    def restore(self, remembered: Remembered) -> None:
        """Take over what the gateway before this one has left."""
        now = trio.current_time()
        if self.enabled:
            self._ledger.restore(remembered.ledger, now)
        self._put_off.restore(remembered.put_off, now)
