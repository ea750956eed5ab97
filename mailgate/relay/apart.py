"""Plain SMTP, *apart*: one next hop per transaction. Pure.

The sender gets a single reply behind the data, so only recipients of one next hop can share a transaction: the
next hop of the first one accepted. The rest hear 452 4.5.3 and come again in another transaction. "First" is by the
order of RCPTs, not of their answers: what a next hop says is held back until all RCPTs before it are answered.
"""

from __future__ import annotations

from collections import deque

from mailgate.protocol.reply import Reply, reply
from mailgate.relay.envelope import Recipient
from mailgate.relay.routing import NextHop

ANOTHER_HOP = reply(452, "4.5.3", "Goes to another next hop, send it in another transaction")


class Apart:
    """Decides whose next hop this transaction is for."""

    def __init__(self) -> None:
        self.chosen: NextHop | None = None
        """the next hop of the first accepted recipient, once there is one"""
        self._queue: deque[tuple[Recipient, NextHop]] = deque()
        self._answers: dict[int, Reply] = {}

    def excludes(self, hop: NextHop) -> bool:
        """Whether recipients of this next hop have to come again."""
        return self.chosen is not None and self.chosen != hop

    def expect(self, recipient: Recipient, hop: NextHop) -> None:
        """The next RCPT, in the client's order."""
        self._queue.append((recipient, hop))

    def answered(self, recipient: Recipient, answer: Reply) -> list[tuple[Recipient, Reply]]:
        """A next hop's answer, in any order: those that may now be told, in the client's order."""
        self._answers[recipient.position] = answer
        ready = []
        while self._queue and self._queue[0][0].position in self._answers:
            first, hop = self._queue.popleft()
            told = self._answers.pop(first.position)
            if self.excludes(hop):
                told = ANOTHER_HOP
            elif told.kind == 2:
                self.chosen = hop
            ready.append((first, told))
        return ready
