"""DNS answers above the seam's `query`: kept for their time to live, and asked for once at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import trio

from mailgate.network import Answer, Network, NoAnswer

LONGEST = 3600.0
"""seconds that an answer is kept, whatever it says itself: a wrong one must not outlive its mending for long"""

ENTRIES = 10_000
"""answers kept at most; the one unused for longest goes first"""

QUERIES = 100
"""asked within `BURST`; more overflow the buffers of small DNS servers, and what is lost is asked again only after
seconds (dnsmasq takes 150)"""

BURST = 0.25
"""seconds after which a query that is not answered yet gives its place to the next one: whoever does not answer must
not hold up what others are asked"""

_Key = tuple[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    until: float


class _Flight:
    """A query under way. Without a result once it is `done`, its asker was cancelled and somebody else must ask."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: Answer | NoAnswer | None = None


class Lookups:
    """The look-ups of one gateway. Only answers are kept: that there is none, for now or at all, is asked anew."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._limit = trio.CapacityLimiter(QUERIES)
        self._flights: dict[_Key, _Flight] = {}

    def shuffled(self, items: Iterable[_T]) -> list[_T]:
        """The same in random order, as records of equal preference are to be used (RFC 5321 section 5.1)."""
        mixed = list(items)
        self._network.random.shuffle(mixed)
        return mixed

    async def local_names(self, name: str) -> tuple[str, ...]:
        """As `Network.local_names`."""
        return await self._network.local_names(name)

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        """As `Network.query`, from memory if it is known; whoever asks meanwhile shares the result."""
        await trio.lowlevel.checkpoint()
        key = (name.lower().removesuffix("."), record_type)
        while True:
            kept = self._kept.get(key)
            if kept is not None and trio.current_time() < kept.until:
                self._kept.move_to_end(key)
                return kept.answer
            flight = self._flights.get(key)
            if flight is None:
                return await self._ask(key)
            await flight.done.wait()
            if flight.result is not None:
                return flight.result

    async def _ask(self, key: _Key) -> Answer | NoAnswer:
        flight = self._flights[key] = _Flight()
        try:
            await self._limit.acquire_on_behalf_of(flight)
            async with trio.open_nursery() as asking:
                asking.start_soon(self._give_place, flight)
                flight.result = await self._network.query(*key)
                asking.cancel_scope.cancel()
        finally:
            del self._flights[key]
            flight.done.set()
        assert flight.result is not None
        self._keep(key, flight.result)
        return flight.result

    async def _give_place(self, flight: _Flight) -> None:
        """Give back the place of a query after a while, or at once when it is cancelled with it."""
        try:
            await trio.sleep(BURST)
        finally:
            self._limit.release_on_behalf_of(flight)

    def _keep(self, key: _Key, result: Answer | NoAnswer) -> None:
        self._kept.pop(key, None)
        if isinstance(result, Answer):
            self._kept[key] = _Kept(result, trio.current_time() + min(result.ttl, LONGEST))
            if len(self._kept) > ENTRIES:
                self._kept.popitem(last=False)
