"""What a gateway recalls of transactions that are over: the ledger and the put-off marks, here and in the shared store.

A mark has one home. With a store that is the store, so that each gateway of the site finds it and one alone takes it;
what the store certainly was not given is kept here, and is found here only. Where that is not certain it is not kept at
all: a mark in two homes would be taken twice, and an equal message that is sent on purpose be swallowed, which is worse
than a second copy. A store that cannot be reached costs no mail: it is left alone for some seconds, and what it was not
asked, or not given, may make a second copy, which is counted.
"""

from __future__ import annotations

import enum
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
    put_off_again,
)
from mailgate.relay.status import LedgerStatus
from mailgate.store import Store, StoreLost, StoreUnreachable

PATIENCE = 1.0
"""seconds that one question to the store may take"""

LEFT_ALONE = 5.0
"""seconds for which a store that failed is not asked: not every message is to wait for it"""

_SHARED = {None: "unknown", True: "reachable", False: "unreachable"}

T = TypeVar("T")


class Silent(enum.Enum):
    """Why the store has not answered."""

    NOT_ASKED = "not asked"
    """there is none, or it has done nothing"""
    LOST = "lost"
    """it may have done what it was asked to"""


class Turn(enum.Enum):
    """Whether it is a recipient's turn."""

    NOW = "now"
    LATER = "later"
    """it lets others go first"""
    LATER_AGAIN = "later again"
    """it has done so when there were no others"""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that has succeeded."""

    sender: ReversePath
    recipient: Mailbox
    digest: bytes
    """of the content as it was received"""
    before: bool = False
    """in an earlier transaction"""

    @property
    def mark(self) -> str:
        """Its entry in the ledger."""
        return entry(self.sender, self.recipient, self.digest)


class Recall:
    """Of one gateway. Nothing here fails because the store cannot be reached."""

    def __init__(self, *, enabled: bool, store: Store | None, log: FilteringBoundLogger) -> None:
        """`enabled`: keep a ledger; put-off marks are kept in any case."""
        self.enabled = enabled
        self._store = store
        self._log = log
        self._ledger = Marks(LEDGER_ENTRIES, LEDGER_LIFE)
        self._put_off = Marks(PUT_OFF_ENTRIES, PUT_OFF_LIFE)
        self._reachable: bool | None = None  # it was not asked yet
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
        elsewhere = [mark for mark in dict.fromkeys(marks) if not self._ledger.has(mark, now)]
        found: list[str] = []
        if elsewhere:
            there = await self._ask(lambda store: store.take(elsewhere))
            if not isinstance(there, Silent):
                found = [mark for mark, was_there in zip(elsewhere, there, strict=True) if was_there]
            elif self._store is not None:
                self._unasked += len(elsewhere)
        # Only now, as they would be lost if the question were cancelled.
        now = trio.current_time()
        found += [mark for mark in dict.fromkeys(marks) if self._ledger.take(mark, now)]
        return tuple(mark in found for mark in marks)

    def met(self, recipients: int) -> None:
        """So many recipients got no second copy."""
        self._met += recipients

    async def remember(self, deliveries: Sequence[Delivered]) -> None:
        """Make entries of deliveries whose clients were not told."""
        if not (self.enabled and deliveries):
            return
        answer: bool | Silent = Silent.LOST  # if this is cancelled
        try:
            answer = await self._add([one.mark for one in deliveries], LEDGER_LIFE)
        finally:
            match answer:
                case Silent.NOT_ASKED:
                    self.remember_here(deliveries)
                case Silent.LOST:
                    self._not_shared(deliveries)
                case _:
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
            self._not_shared(deliveries)

    def _not_shared(self, deliveries: Sequence[Delivered]) -> None:
        self._possible_duplicate += len(deliveries)
        to = [one.recipient for one in deliveries]
        self._log.warning("possible_duplicate", to=to, why="the shared ledger could not be told")

    # Put-off marks

    async def put_off(self, sender: ReversePath, recipients: Sequence[Mailbox]) -> None:
        """At their next offer these have to let others go first."""
        await self._mark([put_off(sender, recipient) for recipient in recipients])

    async def put_off_again(self, sender: ReversePath, recipients: Sequence[Mailbox]) -> None:
        """These have done so, and there were no others."""
        await self._mark([put_off_again(sender, recipient) for recipient in recipients])

    async def turn(self, sender: ReversePath, recipient: Mailbox) -> Turn:
        """Whether it is this recipient's turn; if not, it is put off by this."""
        once, again = marks = put_off(sender, recipient), put_off_again(sender, recipient)
        now = trio.current_time()
        found = [mark for mark in marks if self._put_off.take(mark, now)]
        if not found:
            there = await self._ask(lambda store: store.take(marks))
            if not isinstance(there, Silent):
                found = [mark for mark, was_there in zip(marks, there, strict=True) if was_there]
        return Turn.LATER if once in found else Turn.LATER_AGAIN if again in found else Turn.NOW

    async def _mark(self, marks: Sequence[str]) -> None:
        if marks and await self._add(marks, PUT_OFF_LIFE) is Silent.NOT_ASKED:
            now = trio.current_time()
            for mark in marks:
                self._put_off.add(mark, now)

    # The store

    async def _add(self, marks: Sequence[str], life: float) -> bool | Silent:
        async def add(store: Store) -> bool:
            await store.add(marks, life)
            return True

        return await self._ask(add)

    async def _ask(self, question: Callable[[Store], Awaitable[T]]) -> T | Silent:
        if self._store is None or trio.current_time() < self._alone_until:
            return Silent.NOT_ASKED
        silent, why = Silent.LOST, f"no answer in {PATIENCE:g} s"
        with trio.move_on_after(PATIENCE):
            try:
                answer = await question(self._store)
            except StoreUnreachable as error:
                silent = Silent.LOST if isinstance(error, StoreLost) else Silent.NOT_ASKED
                why = str(error)
            else:
                self._answered()
                return answer
        self._alone_until = trio.current_time() + LEFT_ALONE
        if self._reachable is not False:
            self._reachable = False
            self._log.warning("store_unreachable", why=why)
        return silent

    def _answered(self) -> None:
        if self._reachable is False:
            self._log.info("store_back")
        self._reachable = True

    # For the one who runs the gateway

    def status(self) -> LedgerStatus:
        """What is remembered, and what it was good for."""
        shared = "none" if self._store is None else _SHARED[self._reachable]
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
