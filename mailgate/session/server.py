"""A client's session over any Trio stream: reads ahead, writes replies in order, and decides nothing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import trio

from mailgate.protocol.events import Event, Gone, Slot
from mailgate.protocol.reply import Reply
from mailgate.protocol.server import ServerProtocol, State
from mailgate.session.wire import End, Wire


class ServerSession:
    """Drives a ServerProtocol. `listen` runs in a nursery of the owner's; one other task takes the events.

    Any task of the session may `answer`; the one that takes the events does the writing. The client's leaving
    is an event, never an exception: what is said to a client that has gone is dropped.
    """

    def __init__(self, stream: trio.abc.Stream, protocol: ServerProtocol, client_stall: float) -> None:
        self._protocol = protocol
        self._client_stall = client_stall
        self._wire = Wire(stream, protocol.receive, self._on_end, lambda: protocol.buffered)
        self._latest = math.inf
        self.on_gone: Callable[[], None] = lambda: None
        """called as soon as the client is known to have gone, by the task that found out"""

    async def listen(self) -> None:
        """Read from the client until its end."""
        await self._wire.listen()

    @property
    def gone(self) -> bool:
        """The client will read no more, as far as one can tell."""
        return self._wire.end is not None and (self._wire.end is not End.EOF or self._protocol.left)

    @property
    def end(self) -> End | None:
        """How the client's side ended, if it has."""
        return self._wire.end

    @property
    def signs(self) -> int:
        """How often the client was heard of: it sent something, or closed in order."""
        return self._wire.signs

    def _on_end(self, end: End) -> None:
        self._protocol.receive_eof()
        if self.gone:
            self.on_gone()

    async def next_event(self, silence: float) -> Event:
        """The next event, with everything written that has been answered.

        Gone, if the client takes longer for it than `silence` (seconds, counted from our last reply
        and only while it is the client's turn), or is to `hurry` and has not sent it by then.
        """
        deadline: float | None = None
        while True:
            event = self._protocol.next_event()
            said = await self.flush()  # also what the protocol has answered by itself
            if event is not None:
                return event
            if said:
                deadline = None
                continue  # it may have stopped at a mouthful
            if self.gone or self._protocol.state is State.CLOSED:
                return Gone()
            if self._protocol.unanswered:
                deadline = None
            elif deadline is None:
                deadline = trio.current_time() + silence
            await self._wire.wait(math.inf if deadline is None else min(deadline, self._latest))

    def hurry(self, latest: float) -> None:
        """Whatever it is that we wait for the client to send: not longer than until then (Trio's clock)."""
        self._latest = latest
        self._wire.wake()

    async def replied(self) -> None:
        """Wait until every slot is answered and its reply written, or the client has gone."""
        while True:
            await self.flush()
            if self.gone or not self._protocol.unanswered:
                return
            await self._wire.wait()

    async def flush(self) -> bool:
        """Write what is ready. True: there was something."""
        said = False
        while data := self._protocol.data_to_send():
            said = True
            await self._wire.send(data, self._client_stall)
        return said

    async def goodbye(self, farewell: Reply, linger: float) -> None:
        """Say 421, unless that has been said or nobody is there to hear it.

        The client has some seconds to take it, and then to close first: a reset, which our closing may cause, must
        not overtake the reply.
        """
        if self._wire.end in (None, End.SILENCE):
            self._protocol.goodbye(farewell)
            await self._wire.send(self._protocol.data_to_send(), linger)
        deadline = trio.current_time() + linger
        while self._wire.end is None:
            await self._wire.wait(deadline)

    async def part(self, linger: float) -> None:
        """Close our side; the client has some seconds to close its own.

        In order it does so only if it has read everything: with something unread, its system resets the connection.
        """
        await self._close_our_side()
        deadline = trio.current_time() + linger
        while self._wire.end is None:
            await self._wire.wait(deadline)

    async def _close_our_side(self) -> None:
        stream = self._wire.stream
        if self._wire.end is None and isinstance(stream, trio.abc.HalfCloseableStream):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_eof()

    def answer(self, slot: Slot, answer: Reply) -> None:
        """Answer a slot; the task that takes the events will write it."""
        self._protocol.answer(slot, answer)
        self._wire.wake()

    def greet(self, greeting: Reply) -> None:
        """Answer the greeting's slot."""
        self._protocol.greet(greeting)
