"""One way of a connection: how octets get from the program that writes to the one that reads, as TCP does it.

A segment that arrives is acknowledged without an event of its own. Only when something was lost, or the writer waits
for room, a timer runs: what was not acknowledged is sent again, or the receiver is asked whether it has room. So a
connection that nothing happens to costs one event per segment.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import trio

from sim.records import End

if TYPE_CHECKING:
    from sim.links import Path
    from sim.tcp import Connection, SimStream, Way

SEGMENT = 16_384
"""octets in a segment at most"""

FIRST_RETRY = 0.2
"""seconds after which what was lost is sent again; each further time it is twice that (RFC 6298)"""

LONGEST_RETRY = 60.0
"""seconds between two tries at most"""

GIVE_UP = 924.0
"""seconds without an acknowledgement after which TCP breaks the connection, as Linux does (tcp_retries2)"""

GIVE_UP_ORPHAN = 102.0
"""the same, for a connection that its program has closed (tcp_orphan_retries)"""


_ENOUGH = 16  # doublings; more would only be cut down to the longest pause


class Cause(enum.Enum):
    """Why a host sends a reset."""

    PROGRAM = "its program reset the connection, or has closed it and left octets unread"
    UNKNOWN = "it knows of no such connection"


class _Segment(NamedTuple):
    """Octets with their sequence number; the end of the stream takes one, too."""

    start: int
    octets: bytes
    fin: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.octets) + self.fin


class Flow:
    """One way of a connection. The buffers of both hosts together hold `capacity` octets."""

    sender: SimStream
    receiver: SimStream
    back: Flow

    def __init__(self, connection: Connection, way: Way, path: Path, capacity: int) -> None:
        self.connection = connection
        self.way = way
        self.path = path
        self.capacity = capacity
        self.buffer = bytearray()
        """what the receiving host has, and its program has not read"""
        self.finished = False
        """the sending program has closed its side"""
        self.fin_arrived = False
        self.dropped = -math.inf
        """until when segments are lost"""
        self._timeline = connection.timeline
        self._written = 0
        self._arrived = 0
        self._read = 0
        self._known_read = 0  # as far as the sender knows
        self._reads = math.inf  # octets per second of the programs
        self._writes = math.inf
        self._may_write = -math.inf  # times from which on a slow program goes on
        self._may_read = -math.inf
        self._line_free = -math.inf  # when the network has taken in all that was sent
        self._unacknowledged: deque[_Segment] = deque()
        self._next = 0  # the first sequence number that is not on its way
        self._losing = False  # something was lost: nothing new is sent until an acknowledgement comes
        self._timer = 0  # the number of the timer that counts; older ones do nothing
        self._timed = False
        self._retrying = False  # the timer runs because something was lost
        self._tries = 0
        self._unanswered = 0.0  # since when
        self._asked_for_room = False
        self._end_told = False

    def lost(self, now: float) -> bool:
        """Whether a segment that sets out now does not arrive."""
        return now < self.dropped or self.path.lost(now)

    def limit(self, reads: float, writes: float) -> None:
        """Octets per second that the receiving program reads, and the sending one writes, from now on."""
        self._reads, self._writes = reads, writes
        self._may_read = self._may_write = -math.inf
        self.receiver.reader.wake()
        self.sender.writer.wake()

    @property
    def acknowledged(self) -> bool:
        """Whether the sender knows that all has arrived."""
        return not self._unacknowledged

    # The sending program

    def room(self) -> int:
        """Octets that the program may write now."""
        now = trio.current_time()
        if now < self._may_write:
            return 0
        if self._known_read != self._read and not self.back.lost(now):
            self._known_read = self._read
        room = min(SEGMENT, self.capacity - (self._written - self._known_read))
        return room if self._writes == math.inf else min(room, _at_once(self._writes))

    def write(self, octets: bytes) -> None:
        """The program hands over octets, for which there is room."""
        start = self._written
        self._written += len(octets)
        if self._writes != math.inf:
            self._may_write = trio.current_time() + len(octets) / self._writes
        self.connection.tap.written(self.way, octets)
        if not self.sender.gone:  # what the tap did may have ended it
            self._send(_Segment(start, octets))

    def finish(self) -> None:
        """The program closes its side, in an orderly way."""
        self.finished = True
        self.tell_end(End.FIN)
        if not self.sender.gone:
            self._send(_Segment(self._written, b"", fin=True))

    def tell_end(self, how: End) -> None:
        """Tell the tap, once."""
        if not self._end_told and self.connection.established:
            self._end_told = True
            self.connection.tap.ended(self.way, how)

    def wait_for_room(self) -> None:
        """The program is going to wait: see to it that it is woken."""
        if trio.current_time() < self._may_write:
            self._timeline.at(self._may_write, self.sender.writer.wake)
        elif not self._timed:
            self._start_timer()

    def reset(self, cause: Cause) -> None:
        """The sending host sends a reset; nobody sends it again if it is lost."""
        now = trio.current_time()
        if not self.lost(now):
            self._timeline.at(max(now, self._line_free) + self.path.latency, self._reset_arrives, cause)

    def abandon(self) -> None:
        """The sending host forgets what it was to send."""
        self._unacknowledged.clear()
        self._timer += 1
        self._timed = False

    # The receiving program

    def readable(self) -> bool:
        """Whether the program would get octets now."""
        return bool(self.buffer) and (self._reads == math.inf or trio.current_time() >= self._may_read)

    def read(self, limit: int) -> bytes:
        """Take octets, of which there are some."""
        buffer = self.buffer
        if self._reads != math.inf:
            limit = min(limit, _at_once(self._reads))
            self._may_read = trio.current_time() + min(limit, len(buffer)) / self._reads
        octets = bytes(buffer[:limit])
        del buffer[:limit]
        self._read += len(octets)
        if self.sender.writer.waits and not self._asked_for_room:
            self._tell_room()
        return octets

    def wait_for_octets(self) -> None:
        """The program is going to wait: see to it that it is woken."""
        if self.buffer:
            self._timeline.at(self._may_read, self.receiver.reader.wake)

    def _tell_room(self) -> None:
        """The receiver's host says that there is room again, once it is worth it (RFC 9293 section 3.8.6.2.2)."""
        now = trio.current_time()
        room = self.capacity - (self._written - self._read)
        if room >= min(SEGMENT, (self.capacity + 1) // 2) and not self.back.lost(now):
            self._asked_for_room = True
            self._timeline.at(now + self.path.latency, self._room_told)

    def _room_told(self) -> None:
        self._asked_for_room = False
        self._known_read = self._read
        self.sender.writer.wake()

    # Segments

    def _send(self, segment: _Segment) -> None:
        self._unacknowledged.append(segment)
        if not self._losing:
            self._transmit(segment, trio.current_time())

    def _transmit(self, segment: _Segment, now: float) -> None:
        if self.lost(now):
            self._lose()
            return
        self._next = segment.end
        self._line_free = max(self._line_free, now) + len(segment.octets) / self.path.bandwidth
        self._timeline.at(self._line_free + self.path.latency, self._arrive, segment)

    def _transmit_from(self, start: int, now: float) -> None:
        self._losing = False
        for segment in self._unacknowledged:
            if segment.start >= start and not self._losing:
                self._transmit(segment, now)

    def _arrive(self, segment: _Segment) -> None:
        receiver, connection = self.receiver, self.connection
        if not receiver.host.up:
            self._lose()
            return
        if connection.forgotten or receiver.gone:
            self.back.reset(Cause.UNKNOWN if connection.forgotten else receiver.answer)
            return
        if not connection.accepted:
            connection.accept()
        # No segment overtakes another, and behind a lost one none sets out: what is new is what comes next.
        if segment.end > self._arrived + self.fin_arrived:
            self._take(segment)
        if not receiver.gone:
            self._acknowledge()

    def _take(self, segment: _Segment) -> None:
        """What is new arrives."""
        receiver = self.receiver
        if segment.fin:
            self.fin_arrived = True
        elif receiver.closed:
            receiver.abort()  # nobody will ever read it
        else:
            self.buffer += segment.octets
            self._arrived += len(segment.octets)
            self.connection.tap.arrived(self.way, self._arrived)
        receiver.reader.wake()

    def _acknowledge(self) -> None:
        """The receiver's host says how far it has come; the sender hears of it unless the way back is broken."""
        now = trio.current_time()
        if self.back.lost(now):
            self._lose()
            return
        self._unanswered = now
        waiting, expected = self._unacknowledged, self._arrived + self.fin_arrived
        heard = False
        while waiting and waiting[0].end <= expected:
            waiting.popleft()
            heard = True
        if heard and self._retrying:
            self._retrying = False
            self._tries = 0
            self._transmit_from(self._next, now)
        if self.finished:
            self.sender.settle()
            self.receiver.settle()
        elif self.sender.writer.waits and self._known_read != self._read and not self._asked_for_room:
            self._tell_room()

    # What was lost

    def _lose(self) -> None:
        """A segment, or its acknowledgement, was lost."""
        if self.sender.gone:
            return
        self._losing = True
        if not self._retrying:
            self._retrying = True
            self._tries = 0
            self._start_timer()

    def _start_timer(self) -> None:
        now = trio.current_time()
        if not self._timed:
            self._timed = True
            self._unanswered = now
        pause = min(LONGEST_RETRY, FIRST_RETRY * 2.0**self._tries)
        limit = max(now, self._unanswered + self._patience)
        self._timer += 1
        self._timeline.at(min(now + pause, limit), self._try_again, self._timer)

    @property
    def _patience(self) -> float:
        return GIVE_UP_ORPHAN if self.sender.closed else GIVE_UP

    def _try_again(self, timer: int) -> None:
        if timer != self._timer:
            return
        now = trio.current_time()
        probing = self.sender.writer.waits and not self._unacknowledged
        if not self._unacknowledged and not probing:
            self._timed = self._retrying = self._losing = False
            return
        if now >= self._unanswered + self._patience:
            self.sender.time_out()
            return
        if self._losing or probing:
            self._tries = min(self._tries + 1, _ENOUGH)
        self._start_timer()
        if self._losing:
            self._transmit_from(0, now)
        if probing and not self.lost(now):
            self._timeline.at(now + self.path.latency, self._arrive, _Segment(self._written, b""))

    def _reset_arrives(self, cause: Cause) -> None:
        receiver = self.receiver
        if receiver.host.up and not receiver.gone and (cause is Cause.UNKNOWN or not self.connection.forgotten):
            receiver.break_(cause)


def _at_once(rate: float) -> int:
    """Octets that a program with that many per second takes in one go."""
    return max(1, int(rate))
