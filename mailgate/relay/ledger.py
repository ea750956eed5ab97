"""Who has which message although its sender was not told, and whose turn it is not: marks with a time to live. Pure.

An entry of the ledger is (reverse-path, recipient, digest of the content as it was received). It is made when that
delivery has succeeded and its client has heard nothing of the success, or a failure of others; the client's retry
takes the entry away, and with it the copy that would be the second. What was told leaves no entry: equal messages
that are sent on purpose are all delivered.

A put-off mark is (reverse-path, recipient). It is made for a recipient whose failure would have kept others waiting;
its next offer takes the mark away, and hears 452. If nobody was there to go first, another mark is made: the offer may
have been another message's of the same sender, and the others still wait. That one is not made again.

A mark is a name, which tells nobody an address, so that it may lie in a file and in a store that others read.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from mailgate.protocol.command import Mailbox, ReversePath
from mailgate.relay.routing import canonical

LEDGER_LIFE = 5 * 86_400.0
"""seconds: senders try for four or five days (RFC 5321 section 4.5.4.1)"""

PUT_OFF_LIFE = 86_400.0
"""seconds: a retry comes within hours"""

LEDGER_ENTRIES = 100_000
"""remembered by one gateway at most; the oldest goes first"""

PUT_OFF_ENTRIES = 10_000
"""likewise"""


class Digest:
    """Of a message's content, fed piece by piece."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def feed(self, content: bytes) -> None:
        """The next octets."""
        self._hash.update(content)

    @property
    def value(self) -> bytes:
        """Of what was fed so far."""
        return self._hash.digest()


def entry(sender: ReversePath, recipient: Mailbox, digest: bytes) -> str:
    """The mark of a delivery: `ledger:` and 32 hexadecimal digits."""
    return f"ledger:{_name(sender, recipient, digest)}"


def put_off(sender: ReversePath, recipient: Mailbox) -> str:
    """The mark of a recipient that has to let others go first: `put-off:` and 32 hexadecimal digits."""
    return f"put-off:{_name(sender, recipient)}"


def put_off_again(sender: ReversePath, recipient: Mailbox) -> str:
    """The mark of one that has let others go first when there were none: likewise."""
    return f"put-off:{_name(sender, recipient, b'again')}"


def _name(sender: ReversePath, recipient: Mailbox, digest: bytes = b"") -> str:
    # Local parts count as written (RFC 5321 section 2.4). None of the parts can have a NUL in it.
    whom = f"{recipient.local}@{canonical(recipient.domain)}"
    return hashlib.blake2b(f"{sender or ''}\0{whom}\0".encode() + digest, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a gateway hands over to the one that is started in its place: (mark, seconds left), the oldest first."""

    ledger: tuple[tuple[str, float], ...] = ()
    put_off: tuple[tuple[str, float], ...] = ()


class Marks:
    """Marks of one kind. Times are in seconds on Trio's clock, and are passed in."""

    def __init__(self, limit: int, life: float) -> None:
        self.limit = limit
        self._life = life
        self._until: OrderedDict[str, float] = OrderedDict()
        self.evicted = 0
        """gone before their time, for want of room"""

    def __len__(self) -> int:
        return len(self._until)

    def add(self, mark: str, now: float) -> None:
        """Make a mark, or make it anew."""
        self._set(mark, now + self._life, now)

    def has(self, mark: str, now: float) -> bool:
        """Whether a mark is there."""
        return now < self._until.get(mark, -math.inf)

    def take(self, mark: str, now: float) -> bool:
        """Take a mark away; whether it was there."""
        return now < self._until.pop(mark, -math.inf)

    def left(self, now: float) -> tuple[tuple[str, float], ...]:
        """All marks and the seconds they have left, the oldest first."""
        return tuple((mark, until - now) for mark, until in self._until.items() if now < until)

    def restore(self, marks: Iterable[tuple[str, float]], now: float) -> None:
        """Take over what another had `left`, for no longer than a mark of our own lives."""
        for mark, seconds in marks:
            self._set(mark, now + min(seconds, self._life), now)

    def _set(self, mark: str, until: float, now: float) -> None:
        self._until[mark] = until
        self._until.move_to_end(mark)
        while self._until and (len(self._until) > self.limit or next(iter(self._until.values())) <= now):
            _, oldest = self._until.popitem(last=False)
            self.evicted += oldest > now
