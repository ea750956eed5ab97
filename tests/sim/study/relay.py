"""A gateway that is not mailgate: what conventional ones and the paper's prototype do, each on a simulated host.

It receives by `Visit`, and hands on with a `ScriptedSender` for each next hop. Its queue is on a disk that survives
every crash.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from mailgate.network import Incoming, Network, TcpAddress
from mailgate.testing import Fate, ScriptedSender, State
from mailgate.testing.script import Speaks
from sim.schedules import Schedule
from sim.study.door import Visit
from sim.study.probe import probe

HOPS = 100
"""`Received:` lines, with one more of which a message goes back to its sender: sendmail on Debian, measured"""

CIRCLE_PAUSE = 3.0
"""seconds from a failure to the hand-over to the fallback: what two sendmails were measured to take each time"""

_USES = ("PIPELINING", "SIZE")


class Policy(enum.Enum):
    """When a gateway takes a message."""

    QUEUE = "always"
    CALL_AHEAD = "once the next hop, asked in a session of its own, has accepted the recipient"
    ANSWER = "never: it hands it on at once, and answers what came of it, recipient by recipient"


@dataclass(frozen=True, slots=True)
class Service:
    """What it offers at some addresses."""

    speaks: Speaks
    binds: tuple[TcpAddress, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Hop:
    """Where mail for a domain goes."""

    address: TcpAddress
    source: str
    """the address that it is sent from"""


@dataclass(frozen=True, slots=True)
class Stay:
    """A recipient's message was in a gateway's queue."""

    message: str
    recipient: str
    gateway: str
    since: float
    until: float
    """infinity: it still is"""


class Why(enum.Enum):
    """Why a gateway gave up."""

    EXPIRED = "expired"
    HOPS = "too many hops"
    REFUSED = "refused by the next hop"


@dataclass(frozen=True, slots=True)
class Bounce:
    """A gateway sent a message back to its sender for a recipient."""

    message: str
    recipient: str
    time: float
    why: Why


@dataclass(slots=True)
class _Kept:
    """A message in the queue."""

    reverse_path: str
    recipients: list[str]
    content: bytes
    since: float

    @property
    def message(self) -> str:
        return self.reverse_path.partition("@")[0]


class Relay:
    """A gateway. `program` is for `Host.start`; what is in its queue outlives the program."""

    def __init__(
        self,
        name: str,
        services: Sequence[Service],
        hops: Mapping[str, Hop],
        schedule: Schedule,
        fallback: Sequence[Hop] = (),
    ) -> None:
        """`hops` by domain. `schedule`: when its queue tries again, and how long it waits for a server.

        `fallback`: ways to the other gateway, which gets what a next hop does not take.
        """
        self.name = name
        self.stays: list[Stay] = []
        """of messages that were in the queue for more than a second, once they have left it"""
        self.bounces: list[Bounce] = []
        self._services = services
        self._hops = hops
        self._schedule = schedule
        self._fallback = tuple(fallback)
        self._queue: dict[int, _Kept] = {}
        self._number = 0

    @property
    def queued(self) -> int:
        """Recipients in the queue."""
        return sum(len(kept.recipients) for kept in self._queue.values())

    def staying(self) -> list[Stay]:
        """What is in the queue now."""
        return [
            Stay(kept.message, recipient, self.name, kept.since, math.inf)
            for kept in self._queue.values()
            for recipient in kept.recipients
        ]

    async def program(self, network: Network) -> None:
        """Serve, and empty the queue, until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in list(self._queue):
                nursery.start_soon(self._work, number, network)
            for service in self._services:
                for bind in service.binds:
                    incoming = await network.listen(bind)
                    nursery.start_soon(self._accept, service, incoming, network, nursery)

    async def _accept(self, service: Service, incoming: Incoming, network: Network, nursery: trio.Nursery) -> None:
        async with incoming:
            while True:
                stream, _, _ = await incoming.accept()
                desk = _Desk(self, service.policy, network, nursery)
                nursery.start_soon(Visit(stream, self.name, service.speaks, desk).run)

    # What comes in

    async def asked_ahead(self, network: Network, reverse_path: str, recipient: str) -> str:
        """The reply of a recipient's next hop to its RCPT, or a 451 if there is none."""
        hop = self._hops[_domain(recipient)]
        return await probe(network, hop.address, hop.source, self.name, reverse_path, recipient)

    def keep(
        self, reverse_path: str, recipients: Sequence[str], content: bytes, network: Network, nursery: trio.Nursery
    ) -> None:
        """Put a message into the queue, and work on it at once."""
        self._number += 1
        content = self._stamped(content)
        self._queue[self._number] = _Kept(reverse_path, list(recipients), content, trio.current_time())
        nursery.start_soon(self._work, self._number, network)

    async def pass_on(
        self, reverse_path: str, recipients: Sequence[str], content: bytes, network: Network
    ) -> list[Fate]:
        """Hand a message on to all next hops at the same time; one fate for each recipient."""
        fates: dict[int, Fate] = {}
        content = self._stamped(content)
        groups: dict[Hop, list[int]] = {}
        for position, recipient in enumerate(recipients):
            groups.setdefault(self._hops[_domain(recipient)], []).append(position)

        async def one(hop: Hop, positions: Sequence[int]) -> None:
            sender = ScriptedSender(
                network, self.name, uses=_USES, source=hop.source, patience=self._schedule.patience, remember=0
            )
            mailboxes = [recipients[position] for position in positions]
            sending = await sender.send(content, mailboxes, (hop.address,), reverse_path=reverse_path)
            fates.update(zip(positions, sending.fates, strict=True))

        if len(groups) == 1:
            await one(*next(iter(groups.items())))
        else:
            async with trio.open_nursery() as nursery:
                for hop, positions in groups.items():
                    nursery.start_soon(one, hop, positions)
        return [fates[position] for position in range(len(recipients))]

    def _stamped(self, content: bytes) -> bytes:
        return f"Received: by {self.name} id {self._number:06d}\r\n".encode() + content

    # The queue

    async def _work(self, number: int, network: Network) -> None:
        """Try until nothing is left of a message."""
        kept = self._queue[number]
        if kept.content.count(b"Received: by ", 0, kept.content.find(b"Subject:")) > HOPS:
            self._give_up(kept, kept.recipients, Why.HOPS)
        while kept.recipients:
            await self._attempt(kept, network)
            now = trio.current_time()
            if kept.recipients and now - kept.since > self._schedule.lifetime:
                self._give_up(kept, kept.recipients, Why.EXPIRED)
            if kept.recipients:
                await trio.sleep_until(next_try(self._schedule, kept.since, now))
        del self._queue[number]

    async def _attempt(self, kept: _Kept, network: Network) -> None:
        by_hop: dict[Hop, list[str]] = {}
        for recipient in kept.recipients:
            by_hop.setdefault(self._hops[_domain(recipient)], []).append(recipient)
        if len(by_hop) == 1:
            await self._try_hop(kept, *next(iter(by_hop.items())), network)
        else:
            async with trio.open_nursery() as nursery:
                for hop, recipients in by_hop.items():
                    nursery.start_soon(self._try_hop, kept, hop, recipients, network)

    async def _try_hop(self, kept: _Kept, hop: Hop, recipients: Sequence[str], network: Network) -> None:
        left = await self._send(kept, recipients, hop, network)
        if left and self._fallback:
            await trio.sleep(CIRCLE_PAUSE)
        for other in self._fallback:
            left = await self._send(kept, left, other, network) if left else left

    async def _send(self, kept: _Kept, recipients: Sequence[str], hop: Hop, network: Network) -> list[str]:
        """Send to a next hop; the recipients that it did not take."""
        sender = ScriptedSender(
            network, self.name, uses=_USES, source=hop.source, patience=self._schedule.patience, remember=0
        )
        sending = await sender.send(kept.content, recipients, (hop.address,), reverse_path=kept.reverse_path)
        self._strike_off(kept, sending.delivered)
        self._give_up(kept, sending.refused, Why.REFUSED)
        return list(sending.deferred)

    def _strike_off(self, kept: _Kept, recipients: Sequence[str]) -> None:
        now = trio.current_time()
        for recipient in list(recipients):
            kept.recipients.remove(recipient)
            if now - kept.since > 1:
                self.stays.append(Stay(kept.message, recipient, self.name, kept.since, now))

    def _give_up(self, kept: _Kept, recipients: Sequence[str], why: Why) -> None:
        now = trio.current_time()
        self.bounces += [Bounce(kept.message, recipient, now, why) for recipient in recipients]
        self._strike_off(kept, recipients)


def next_try(schedule: Schedule, since: float, now: float) -> float:
    """When a message that came at `since` is tried again after a failure at `now`.

    That is at the first scan of the queue once it has rested as it must. All gateways scan at the same times.
    """
    return math.ceil((now + schedule.wait(now - since)) / schedule.runner) * schedule.runner


def _domain(recipient: str) -> str:
    return recipient.partition("@")[2]


class _Desk:
    """What a gateway says in one session."""

    def __init__(self, relay: Relay, policy: Policy, network: Network, nursery: trio.Nursery) -> None:
        self._relay = relay
        self._policy = policy
        self._network = network
        self._nursery = nursery
        self._asked: dict[tuple[str, str], str] = {}  # (reverse-path, domain) → the reply that was got ahead

    async def offered(self, reverse_path: str, recipient: str) -> str:
        if self._policy is not Policy.CALL_AHEAD:
            return "250 2.1.5 recipient ok"
        key = reverse_path, _domain(recipient)
        if key not in self._asked:
            self._asked[key] = await self._relay.asked_ahead(self._network, reverse_path, recipient)
        return self._asked[key]

    async def taken(self, reverse_path: str, recipients: Sequence[str], content: bytes) -> Sequence[str]:
        if self._policy is Policy.ANSWER:
            fates = await self._relay.pass_on(reverse_path, recipients, content, self._network)
            return [_answer(fate) for fate in fates]
        self._relay.keep(reverse_path, recipients, content, self._network, self._nursery)
        return ["250 2.0.0 queued"]


def _answer(fate: Fate) -> str:
    if fate.state is State.DELIVERED:
        return "250 2.0.0 delivered"
    text = fate.attempts[-1].text
    return text if fate.state is State.REFUSED else "451 4.4.1 not delivered now"
