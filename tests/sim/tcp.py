"""Connections: how they are opened, and what may be done to them. How octets get across is in `sim.net_flow`."""

from __future__ import annotations

import enum
import errno
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from sim.net_flow import Cause, Flow
from sim.net_stream import SimStream
from sim.records import End, Session
from sim.timeline import Timeline, Waiter

if TYPE_CHECKING:
    from sim.hosts import SimIncoming
    from sim.links import Path

__all__ = ["CAPACITY", "Connection", "SimStream", "Tap", "Way"]

CAPACITY = 65_536
"""octets of one way that the buffers of both hosts hold"""

SYN_RETRIES = (1.0, 3.0, 7.0, 15.0, 31.0, 63.0)
"""seconds after the first try at which a connect is tried again, as Linux does (tcp_syn_retries). A server's host asks
its client as often to confirm the connection, and forgets it the last time (tcp_synack_retries)"""

SYN_GIVE_UP = 127.0
"""seconds after which a connect fails"""


class Way(enum.Enum):
    """Of octets in a connection."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class Tap(Protocol):
    """Watches one connection. Its methods may do anything to the connection, its hosts and networks."""

    def opened(self) -> None:
        """The client's connect has succeeded."""

    def written(self, way: Way, octets: bytes) -> None:
        """A program has handed these to its host's buffer; they have not set out yet."""

    def arrived(self, way: Way, total: int) -> None:
        """Of the octets of that way, so many from the start are in the other host's receive buffer."""

    def ended(self, way: Way, how: End) -> None:
        """The program that sends in that way has closed (or half-closed), reset, or ended with its host. Told once.

        It is told, too, of one that closes after its connection was broken.
        """

    def broke(self) -> None:
        """A reset by nobody's program, or a time-out of TCP, has reached an end that its program had not closed."""


class _Stage(enum.Enum):
    """How far a connect has come."""

    OPENING = enum.auto()
    OPEN = enum.auto()
    FAILED = enum.auto()


class Connection:
    """A connection, from the call of connect on."""

    def __init__(
        self,
        session: Session,
        tap: Tap,
        timeline: Timeline,
        *,
        there: Path,
        back: Path,
        capacity: int,
        over: Callable[[Connection], None],
    ) -> None:
        """`there`, `back`: the paths of what the client and the server send. `over` is called when nothing is left."""
        self.session = session
        self.tap = tap
        self.timeline = timeline
        self.forgotten = False
        """both hosts know nothing of it any more"""
        self.accepted = False
        """the server's host has put it where its program accepts it"""
        self._to_server = Flow(self, Way.TO_SERVER, there, capacity)
        self._to_client = Flow(self, Way.TO_CLIENT, back, capacity)
        self._to_server.back, self._to_client.back = self._to_client, self._to_server
        self.client = SimStream(self, there.source.host, incoming=self._to_client, outgoing=self._to_server)
        self.client.attach(self.client.host)
        # Nobody's before the first SYN arrives.
        self._far = SimStream(self, there.source.host, incoming=self._to_server, outgoing=self._to_client)
        self._far.gone = True
        self._over = over
        self._stage = _Stage.OPENING
        self._error: OSError | None = None
        self._opener = Waiter()
        self._began = 0.0
        self._opened = 0.0
        self._listener: SimIncoming | None = None

    @property
    def server(self) -> SimStream | None:
        """The server's end, once its host knows of it."""
        return None if self._listener is None else self._far

    # Faults

    def reset(self) -> None:
        """Both ends get a reset now, out of nowhere. One that is being opened is refused."""
        self.refuse()
        for end in (self.client, self._far):
            if not end.gone:
                end.break_(Cause.UNKNOWN)

    def forget(self) -> None:
        """Half-open: from now on what one side sends is answered by a reset to it; who sends nothing learns nothing."""
        self.forgotten = True

    def drop(self, until: float, way: Way | None = None) -> None:
        """Segments of that way, or both, are lost until then. An earlier drop that lasts longer holds."""
        for flow in self._flows(way):
            flow.dropped = max(flow.dropped, until)

    def refuse(self) -> None:
        """While it is being opened: the connect is refused."""
        self._fail_as(errno.ECONNREFUSED)

    def limit(self, way: Way, *, reads: float | None = None, writes: float | None = None) -> None:
        """Octets per second that the program at the receiving end of that way reads, and the sending one writes.

        None: as many as it likes.
        """
        for flow in self._flows(way):
            flow.limit(math.inf if reads is None else reads, math.inf if writes is None else writes)

    def _flows(self, way: Way | None) -> tuple[Flow, ...]:
        return tuple(flow for flow in (self._to_server, self._to_client) if way in (None, flow.way))

    # How it is opened

    async def open(self) -> None:
        """Connect. Raises OSError."""
        self._began = trio.current_time()
        self._syn(0)
        try:
            if self._stage is _Stage.OPENING:
                await self._opener.wait()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            self._fail("given up")  # unless there is a result
        if self._error is not None:
            raise self._error

    def _fail(self, why: str, error: int | None = None) -> None:
        if self._stage is _Stage.OPENING:
            self._stage = _Stage.FAILED
            self._error = None if error is None else OSError(error, f"{why}: {self.session.server_address}")
            self.session.error = why
            self._opener.wake()
            for end in (self.client, self._far):
                end.leave()

    def _fail_as(self, error: int) -> None:
        self._fail(os.strerror(error), error)

    @property
    def _opening(self) -> bool:
        return self._stage is _Stage.OPENING and not self.client.gone

    def _syn(self, number: int) -> None:
        """The client's host asks for the connection; the first time that is number 0."""
        now = trio.current_time()
        if not self._opening:
            return
        if now >= self._began + SYN_GIVE_UP:
            self._fail_as(errno.ETIMEDOUT)
        elif self._to_server.path.refuses(now):
            self._fail_as(errno.ECONNREFUSED)
        elif self._to_server.lost(now):
            self._syn_lost(number)
        else:
            self.timeline.at(now + self._to_server.path.latency, self._syn_arrives, number)

    def _syn_lost(self, number: int) -> None:
        """It was, or its answer."""
        pause = SYN_RETRIES[number] if number < len(SYN_RETRIES) else SYN_GIVE_UP
        self.timeline.at(self._began + pause, self._syn, number + 1)

    def _syn_arrives(self, number: int) -> None:
        now = trio.current_time()
        target = self._to_server.path.target
        if not self._opening or target is None:
            return
        if not target.host.up or self._to_client.lost(now):
            self._syn_lost(number)
            return
        back = now + self._to_client.path.latency
        listener = target.host.listener(self.session.server_address)
        if listener is None:
            self.timeline.at(back, self._fail_as, errno.ECONNREFUSED)
            return
        self._listener = listener
        if self._far.gone:
            self._far.attach(target.host)
        self.session.server_life = target.host.life
        self.timeline.at(back, self._established)

    def _established(self) -> None:
        if self._opening:
            self._stage = _Stage.OPEN
            self._opened = trio.current_time()
            self.client.host.lend(self.client)
            self._opener.wake()
            self.tap.opened()
            self._confirm(0)

    def _confirm(self, number: int) -> None:
        """The client's host confirms the connection; after the first time because the server's has asked again."""
        if self.accepted or self._far.gone:
            return
        now = trio.current_time()
        if number == len(SYN_RETRIES):
            self._far.answer = Cause.UNKNOWN
            self._far.leave()
        elif self.client.gone or self._to_server.lost(now) or (number and self._to_client.lost(now)):
            self.timeline.at(self._opened + SYN_RETRIES[number], self._confirm, number + 1)
        else:
            self.timeline.at(now + self._to_server.path.latency, self.accept)

    @property
    def established(self) -> bool:
        """Whether the client's connect has succeeded."""
        return self._stage is _Stage.OPEN

    def accept(self) -> None:
        """The server's host hears that the connection stands: its program may have it."""
        if not self.accepted and not self._far.gone and self._listener is not None:
            self.accepted = True
            self._listener.arrive(self._far)

    def check_over(self) -> None:
        """Something of it has ended: it may be over."""
        if self.client.over and self._far.over:
            self._over(self)
