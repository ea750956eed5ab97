"""A mail server that sends: its queue, and deliveries that do what a `Schedule` says."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import trio

from mailgate.network import Address, Network
from mailgate.testing import Attempt, ScriptedSender, SenderSession, Speaks, Stage, State
from sim.content import content
from sim.queue import Entry, Queue
from sim.records import History, Message
from sim.schedules import Again, Goodbye, Schedule

DELIVERIES = 20
"""at a time; Postfix's default_destination_concurrency_limit"""

_PICKED_UP = 0.5  # seconds at most from a message's coming to its first run

_BEFORE_MAIL = (Stage.CONNECT, Stage.GREETING, Stage.HELLO)


class Sender:
    """A sending server. What it knows outlives its program, which may be cancelled at any await and run again."""

    def __init__(
        self,
        name: str,
        domain: str,
        schedule: Schedule,
        gateways: Sequence[Address],
        history: History,
        random: random.Random,
        *,
        protocol: Speaks = "smtp",
        uses: Sequence[str] | None = None,
        source: str | None = None,
        deliveries: int = DELIVERIES,
    ) -> None:
        """`domain`: its name in EHLO. `gateways`: in order of preference.

        `uses`: extensions, in place of those of the schedule. `source`: the IP address to connect from.
        """
        self.name = name
        self.domain = domain
        self.schedule = schedule
        self.gateways = tuple(gateways)
        self.protocol = protocol
        self.uses = schedule.uses if uses is None else tuple(uses)
        self.source = source
        self._random = random
        self._deliveries = deliveries
        self._queue = Queue(schedule, history)
        self._news = trio.Event()  # for the program: there is something to do, or somebody to do it

    @property
    def queued(self) -> int:
        """Recipients that are not settled."""
        return self._queue.recipients

    def submit(self, message: Message) -> None:
        """Take a message, whether the program runs or not; it is due within half a second."""
        self._queue.add(message, trio.current_time() + self._random.uniform(0, _PICKED_UP))
        self._news.set()

    async def program(self, network: Network) -> None:
        """Deliver what is due, until cancelled. What came due while nothing ran, or was under way, is due at once."""
        client = ScriptedSender(
            network,
            self.domain,
            self.protocol,
            uses=self.uses,
            source=self.source,
            patience=self.schedule.patience,
            remember=0,
        )
        self._queue.start(trio.current_time())
        hand_over, taker = trio.open_memory_channel[Entry](0)
        life = _Life(client, taker)
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                while (waits := life.waiting) or life.agents < self._deliveries:
                    entry = self._queue.take(trio.current_time())
                    if entry is None:
                        break
                    if waits:
                        hand_over.send_nowait(entry)
                    else:
                        life.agents += 1
                        nursery.start_soon(self._agent, life, entry)
                due = self._queue.next_due
                with trio.move_on_at(due if due > trio.current_time() else math.inf):
                    await self._news.wait()

    # What an agent does: one delivery after the other, over connections of its own.

    async def _agent(self, life: _Life, entry: Entry | None) -> None:
        async with aclosing(_Connections(life.client, self.schedule.messages)) as connections:
            while entry is not None:
                life.busy += 1
                await self._deliver(life, connections, entry)
                life.busy -= 1
                now = trio.current_time()
                self._queue.put_back(entry, now)
                entry = self._queue.take(now)
                if entry is None and self.schedule.keeps and connections.usable:
                    entry = await self._wait(life)
        life.agents -= 1
        self._news.set()

    async def _wait(self, life: _Life) -> Entry | None:
        """For something else to send over the open connections."""
        self._news.set()
        with trio.move_on_after(self.schedule.keeps):
            return await life.taker.receive()
        return None

    async def _deliver(self, life: _Life, connections: _Connections, entry: Entry) -> None:
        """One run: each gateway in turn, for those recipients that may go on."""
        schedule, sessions = self.schedule, 0
        body = content(entry.message.name, entry.message.size)
        going = list(entry.waiting)
        for number, gateway in enumerate(self.gateways):
            if number and schedule.hesitation:
                await trio.sleep(schedule.hesitation)
            made = await self._offer(life, connections, gateway, entry, body, going)
            sessions += any(attempt.stage not in _BEFORE_MAIL for attempt in made.values())
            going = [
                position
                for position, attempt in made.items()
                if attempt.state is State.DEFERRED and attempt.stage in schedule.moves
            ]
            if not going or sessions == schedule.sessions:
                break

    async def _offer(
        self,
        life: _Life,
        connections: _Connections,
        gateway: Address,
        entry: Entry,
        body: bytes,
        positions: list[int],
    ) -> dict[int, Attempt]:
        """What came of each position at that gateway."""
        made: dict[int, Attempt] = {}
        offered = positions
        while offered:
            session = await connections.to(gateway)
            reused = session.transactions > 0

            def told(index: int, attempt: Attempt, offered: list[int] = offered) -> None:
                self._queue.told(entry, offered[index], attempt, trio.current_time())

            attempts = await session.transact(
                body,
                [entry.message.recipients[position] for position in offered],
                entry.message.reverse_path,
                last=self._is_last(life),
                told=told,
            )
            made.update(zip(offered, attempts, strict=True))
            if not (reused and _stale(session, attempts)):  # else all of them again, over a new connection
                offered = self._again(session, offered, attempts)
        return made

    def _is_last(self, life: _Life) -> bool:
        """Whether QUIT may go with the dot: a connection that is kept on demand is not, if nobody else sends."""
        alone = life.busy == 1 and self._queue.next_due > trio.current_time()
        return self.schedule.goodbye is Goodbye.BEHIND_THE_DOT and (alone or not self.schedule.keeps)

    def _again(self, session: SenderSession, offered: list[int], attempts: Sequence[Attempt]) -> list[int]:
        """Those that heard 452 in a transaction that took others, where that means: try again here."""
        if self.schedule.on_452 is not Again.HERE or not session.usable:
            return []
        again = [at for at, one in enumerate(attempts) if one.stage is Stage.RCPT and one.text.startswith("452")]
        accepted = any(one.stage in (Stage.BODY, Stage.DOT) for one in attempts)
        return [offered[at] for at in again] if accepted else []


def _stale(session: SenderSession, attempts: Sequence[Attempt]) -> bool:
    """The gateway had hung up, or does so at our first word."""
    return not session.usable and all(attempt.stage is Stage.MAIL for attempt in attempts)


@dataclass(slots=True)
class _Life:
    """What the deliveries of one life of the program share."""

    client: ScriptedSender
    taker: trio.MemoryReceiveChannel[Entry]
    agents: int = 0
    busy: int = 0
    """of them, with a message"""

    @property
    def waiting(self) -> int:
        """Agents that wait for a message."""
        return self.taker.statistics().tasks_waiting_receive


class _Connections:
    """The connections of an agent, at most one to each gateway."""

    def __init__(self, client: ScriptedSender, messages: int) -> None:
        """`messages`: how many may go over one connection."""
        self._client = client
        self._messages = messages
        self._sessions: dict[Address, SenderSession] = {}

    @property
    def usable(self) -> bool:
        """Whether there is one for another message."""
        return any(self._is_usable(session) for session in self._sessions.values())

    def _is_usable(self, session: SenderSession) -> bool:
        return session.usable and session.transactions < self._messages

    async def to(self, gateway: Address) -> SenderSession:
        """The connection to a gateway; a new one, unless the last one can be used again."""
        session = self._sessions.get(gateway)
        if session is not None:
            if self._is_usable(session):
                return session
            await session.aclose()
        self._sessions[gateway] = session = self._client.connect(gateway)
        return await session.__aenter__()

    async def aclose(self) -> None:
        """Close all of them, whatever happens meanwhile."""
        async with AsyncExitStack() as stack:
            for session in self._sessions.values():
                stack.push_async_callback(session.aclose)
