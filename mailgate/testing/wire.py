"""A stream, and what has been received from it but not yet looked at."""

from __future__ import annotations

import enum

import trio


class End(enum.Enum):
    """How the peer's bytes end."""

    OPEN = enum.auto()
    CLOSED = enum.auto()
    RESET = enum.auto()


class Wire:
    """Sends without ever blocking a peer that has to speak before it can read on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()
        self.end = End.OPEN

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.end is not End.OPEN

    async def receive(self) -> None:
        """Wait for more of `received`, or for the end."""
        try:
            data = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError:
            self.end = End.RESET
            return
        self.received += data
        if not data:
            self.end = End.CLOSED

    async def say(self, data: bytes) -> None:
        """Just send, which is cheaper: for a few KiB that the peer will read before it says anything.

        Raises BrokenResourceError when the peer has gone.
        """
        await self.stream.send_all(data)

    async def send(self, data: bytes) -> None:
        """Send, and receive meanwhile. Raises BrokenResourceError when the peer has gone."""
        broken: trio.BrokenResourceError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_on)
            try:
                await self.stream.send_all(data)
            except trio.BrokenResourceError as error:
                broken = error
            nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken

    async def _receive_on(self) -> None:
        while not self.ended:
            await self.receive()
