"""The memory that several gateways share, as the relay sees it: marks that are made, and taken away by one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class StoreUnreachable(Exception):
    """The store cannot be asked now, or refuses; the message says why. Nothing was done."""


class StoreLost(StoreUnreachable):
    """The store was asked, and is gone without an answer: it may have done what it was asked to, or not."""


class Store(Protocol):
    """Marks by name, in one place for all gateways of a site. It has no patience of its own: the caller's scope has.

    After a call that was cancelled, the next ones must work as if that one had not been.
    """

    async def add(self, marks: Sequence[str], seconds: float) -> None:
        """Make each mark, or make it anew; it is gone by itself after so many seconds. Raises StoreUnreachable."""
        ...

    async def take(self, marks: Sequence[str]) -> tuple[bool, ...]:
        """Take each mark away; whether it was there. Of several who take one, one finds it. Raises StoreUnreachable,
        also if no mark is named.
        """
        ...
