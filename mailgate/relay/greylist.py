"""Which backbone a sender's mail to a domain keeps, so that greylisting does not start anew with each retry. Pure.

Greylisting (RFC 6647) refuses the first mail of an unknown (client address, reverse-path, recipient) for a while.
The client address is our backbone's: a retry over another one would be unknown again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mailgate.protocol.command import ReversePath
from mailgate.relay.routing import canonical

KEPT = 3600.0
"""seconds for which a backbone is kept after the last 4xx that was met on it"""

KEPT_IN_ALL = 4 * 3600.0
"""seconds after the first 4xx until which further ones make that longer: what refuses a sender for ever by its
backbone, or is no greylisting (a full mailbox, met again by each message of a mailing list), must not hold the mail
to a backbone that the route does not prefer"""

ENTRIES = 10_000
"""remembered at most; the one unused for longest goes first"""

_Key = tuple[ReversePath, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    backbone: str
    first: float
    until: float


class Greylist:
    """Backbones by reverse-path and domain. Times are in seconds on Trio's clock, and are passed in."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()

    def met(self, sender: ReversePath, domain: str, backbone: str, now: float) -> None:
        """A recipient of this sender's in this domain met a 4xx at RCPT on a backbone, known by its name.

        It is kept for an hour from now, as the next hop's waiting time may begin anew with each try; at most four
        hours from the first 4xx, after which the next one is a first. On another backbone than the kept one it is
        a first, too: that backbone was not to be had, so the waiting is now on this one.
        """
        key = (sender, canonical(domain))
        before = self._current(key, now)
        first = before.first if before is not None and before.backbone == backbone else now
        self._kept[key] = _Kept(backbone, first, min(now + KEPT, first + KEPT_IN_ALL))
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def kept(self, sender: ReversePath, domain: str, now: float) -> str | None:
        """The name of the backbone to prefer; None: no wish."""
        key = (sender, canonical(domain))
        found = self._current(key, now)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found.backbone

    def _current(self, key: _Key, now: float) -> _Kept | None:
        """What is remembered and still holds; what does not is forgotten."""
        found = self._kept.get(key)
        if found is not None and now >= found.until:
            del self._kept[key]
            return None
        return found
