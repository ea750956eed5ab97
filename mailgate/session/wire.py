"""One stream, read by one task: what server and client sessions have in common.

The reader is always at the stream, so that the peer's end is noticed while we are busy elsewhere. It carries the
session's one deadline: how long the peer may be silent. Whoever waits for the peer sets it, and nobody else.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

import trio

CHUNK = 65_536
"""octets of one read, and of what is sent at a time"""

PIECE = 16_384
"""octets of one write: a peer that does not take these within the limit takes nothing, as far as we can tell"""


class End(enum.Enum):
    """Why a wire has ended."""

    EOF = "connection closed"
    LOST = "connection lost"
    SILENCE = "no answer in time"
    STALLED = "took no data in time"


_DEAF = (End.LOST, End.STALLED)
"""Ends behind which nothing can be written. A peer that has shut down its sending side may still read."""


class Wire:
    """A stream and what its reader found. `receive` and `ended` are called by the reader, in order."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        receive: Callable[[bytes], None],
        ended: Callable[[End], None],
        backlog: Callable[[], int],
    ) -> None:
        self.stream = stream
        self._receive = receive
        self._ended = ended
        self._backlog = backlog
        self._silence = trio.CancelScope()
        self._room = trio.Event()
        self._news = trio.Event()
        self.end: End | None = None
        self.signs = 0
        """how often the peer was heard of: bytes, and its orderly end"""
        self.writing = False
        """a write has begun and not ended: once it was interrupted this stays, and the stream can only be closed"""

    async def listen(self) -> None:
        """Read until the stream ends or the peer is silent for too long; run it in a nursery that you cancel.

        It may be run again then: what comes meanwhile stays in the stream.
        """
        if self.end is not None:
            return
        end = End.SILENCE
        # A scope serves once; somebody may be waiting already.
        self._silence = trio.CancelScope(deadline=self._silence.deadline)
        with self._silence:
            end = await self._read()
        self.finish(end)

    async def _read(self) -> End:
        while True:
            while self._backlog() >= CHUNK:
                await self._room.wait()
                self._room = trio.Event()
            try:
                data = await self.stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return End.LOST
            self.signs += 1
            if not data:
                return End.EOF
            self._receive(bytes(data))
            del data  # or it would be kept for as long as the session is idle
            self.wake()

    async def wait(self, deadline: float = math.inf) -> None:
        """Wait for news: bytes, the end, or a `wake`. Silence until the deadline (Trio's clock) is an end, too.

        One task at a time may wait, and the deadline counts only while `listen` runs.
        """
        self._room.set()
        if self._silence.deadline != deadline:
            self._silence.deadline = deadline
        try:
            await self._news.wait()
        finally:  # whoever is cancelled here does not wait for the peer any more
            if self._silence.deadline != math.inf:
                self._silence.deadline = math.inf
        self._news = trio.Event()

    def wake(self) -> None:
        """Let the one who waits look again."""
        self._news.set()

    async def send(self, data: bytes, within: float) -> bool:
        """Write everything, `within` seconds for each piece. False: the wire has ended.

        When this is cancelled the stream is fit for nothing but closing.
        """
        for start in range(0, len(data), PIECE):
            if self.end in _DEAF:
                return False
            self.writing = True
            with trio.move_on_after(within) as patience:
                try:
                    await self.stream.send_all(data[start : start + PIECE])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.finish(End.LOST)
                    return False
            if patience.cancelled_caught:
                self.finish(End.STALLED)
                return False
            self.writing = False
        return True

    def finish(self, end: End) -> None:
        """The wire has ended; a second end counts where the first one still let us write."""
        if self.end is None or (self.end not in _DEAF and end in _DEAF):
            self.end = end
            self._ended(end)
            self.wake()
