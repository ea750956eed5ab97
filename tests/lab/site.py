"""One case's world: the network, its machines, the mail servers and gateways; and what scenarios do with it."""

from __future__ import annotations

import enum
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from lab import commands, ledger
from lab.capture import Capturing
from lab.gateway import Mailgate, Together, configuration
from lab.mailbox import Copy, Mailboxes
from lab.mta import CONFIGS, Mta, Role
from lab.network import Cut, Link, Network
from lab.node import MailServer, Node
from lab.topology import DOMAINS, SITE_DOMAINS, Topology, zone

_INJECT = Path(__file__).with_name("inject.py")

LOOK = 0.05
"""seconds between two looks"""

QUEUE_RUN = 4
"""seconds between the queue runs that are requested after a repair, as a sender's own schedule would have them"""


class Way(enum.Enum):
    """Who the gateways are."""

    MAILGATE = "mailgate"
    POSTFIX = "postfix gateways"
    SENDMAIL = "sendmail gateways"


class Unexpected(Exception):
    """Something is not as the scenario says it must be."""


class Slot:
    """Leave to work: so many cases have it at a time. A case that only waits gives it to another."""

    def __init__(self, slots: trio.Semaphore) -> None:
        self._slots = slots
        self._held = False

    async def take(self) -> None:
        """Wait for it."""
        await self._slots.acquire()
        self._held = True

    def give(self) -> None:
        """Leave it to another; once is enough."""
        if self._held:
            self._held = False
            self._slots.release()

    @asynccontextmanager
    async def given(self) -> AsyncIterator[None]:
        """Leave it to others inside."""
        self.give()
        yield
        await self.take()


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a sender's server has taken."""

    name: str
    recipients: tuple[str, ...]
    taken: float
    """seconds since the epoch"""

    def only(self, recipient: str) -> Message:
        """The part of it that is for one recipient."""
        return Message(self.name, (recipient,), self.taken)


@dataclass(frozen=True, slots=True)
class Measured:
    """How long a message took, by which gateways."""

    what: str
    seconds: float
    via: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to send, so many seconds after the start of sending."""

    recipients: tuple[str, ...]
    octets: int = 2000
    after: float = 0


class Site:
    """What a scenario acts on. Everything ends with the nursery it was brought up in."""

    def __init__(
        self,
        nursery: trio.Nursery,
        network: Network,
        folder: Path,
        roots: Mapping[str, Path],
        slot: Slot,
    ) -> None:
        self._nursery = nursery
        self.network = network
        self.slot = slot
        self._folder = folder
        self._roots = roots
        self.servers: dict[str, MailServer] = {}
        self.gateways: dict[int, Mailgate] = {}
        self.ledger: Node | None = None
        self.capturing = Capturing(network)
        self._boxes: dict[str, Mailboxes] = {}
        self._names = itertools.count(1)
        self.sent: list[Message] = []
        self.measured: list[Measured] = []
        self.remarks: list[str] = []
        self.refused: set[tuple[str, str]] = set()
        """(message, recipient) that must not arrive"""
        self.taken_elsewhere: dict[tuple[str, str], list[float]] = {}
        """(message, recipient) that a server without mailboxes took, and when"""

    @property
    def topology(self) -> Topology:
        return self.network.topology

    async def build(
        self, cast: Mapping[str, tuple[Mta, Role]], gateway: Mta | None, together: Together | None = None
    ) -> None:
        """Bring everything up: the servers of the cast on their machines, and the gateways (None: mailgate)."""
        await self.network.build()
        await self._start_dns()
        if together is not None:
            await self._start_ledger()
        async with trio.open_nursery() as starting:
            for number in (1, 2):
                if gateway is None:
                    starting.start_soon(self._start_mailgate, number, cast, together)
                else:
                    starting.start_soon(self._start_server, f"gw{number}", gateway, Role.GATEWAY)
            for name, (mta, role) in cast.items():
                starting.start_soon(self._start_server, name, mta, role)
            for number in (1, 2):
                starting.start_soon(self.capturing.start, self._nursery, f"gw{number}", self._folder)

    async def _start_dns(self) -> None:
        node = await self._node("ns", "knot", "ns.lab.example")
        await node.put("/etc/knot/knot.conf", (CONFIGS / "knot.conf").read_text())
        await node.put("/etc/knot/zone", zone(self.topology))
        await node.run("mkdir -p /run/knot /var/lib/knot; knotd -d -c /etc/knot/knot.conf")

    async def _start_ledger(self) -> None:
        self.ledger = await self._node(ledger.MACHINE, ledger.ROOT.name, "ledger.example.org")
        await ledger.start(self.ledger)

    async def _start_mailgate(
        self, number: int, cast: Mapping[str, tuple[Mta, Role]], together: Together | None
    ) -> None:
        speak = {domain: cast[name][0].speaks for domain, name in SITE_DOMAINS.items() if name in cast}
        gateway = Mailgate(self._nursery, self.network, number, self._folder)
        gateway.configure(configuration(self.network, number, speak, together))
        await gateway.start()
        self.gateways[number] = gateway

    async def _start_server(self, name: str, mta: Mta, role: Role) -> None:
        host = name if role in (Role.GATEWAY, Role.HANDOVER) else "mail1"
        node = await self._node(name, mta.root.name, f"{host}.{DOMAINS.get(name, 'example.org')}")
        server = MailServer(node, mta, role)
        await server.start()
        self.servers[name] = server
        self._boxes[name] = Mailboxes(node.changes)

    async def _node(self, name: str, root: str, hostname: str) -> Node:
        folder = self._folder / name
        return await Node.start(self._nursery, self.network, name, self._roots[root], folder, hostname)

    # What scenarios do

    def now(self) -> float:
        """Seconds since the epoch, as in everything that happens here."""
        return time.time()

    def measure(self, what: str, seconds: float, via: tuple[str, ...] = ()) -> None:
        """Keep a figure for the results."""
        self.measured.append(Measured(what, seconds, via))

    async def cut(self, link: Link, how: Cut = Cut.DROP) -> None:
        """Cut a link."""
        await self.network.cut(link, how)

    async def repair(self, *links: Link) -> None:
        """Make links whole."""
        for link in links:
            await self.network.repair(link)

    async def send(self, machine: str, *recipients: str, octets: int = 2000) -> Message:
        """Have the server of a machine take a message to send."""
        (message,) = await self.send_all(machine, [Draft(recipients, octets)])
        return message

    async def send_all(self, machine: str, drafts: Sequence[Draft]) -> list[Message]:
        """Have the server of a machine take messages, each at its time."""
        sender = f"ann@{DOMAINS[machine]}"
        names = [f"m{next(self._names)}" for _ in drafts]
        asked = [
            {"name": name, "sender": sender, "recipients": one.recipients, "octets": one.octets, "after": one.after}
            for name, one in zip(names, drafts, strict=True)
        ]
        patience = commands.PATIENCE + max(one.after for one in drafts) * 3
        command = self.network.inside(machine, sys.executable, str(_INJECT))
        times = json.loads(await commands.run(command, json.dumps(asked), patience))
        messages = [Message(*of) for of in zip(names, (one.recipients for one in drafts), times, strict=True)]
        self.sent += messages
        return messages

    def copies(self) -> list[tuple[str, Copy]]:
        """(recipient, copy): everything that arrived."""
        return [
            (f"{copy.user}@{DOMAINS[name]}", copy)
            for name, box in self._boxes.items()
            if name in DOMAINS
            for copy in box.look()
            if not copy.bounce
        ]

    def copies_of(self, message: Message) -> list[Copy]:
        """What arrived of a message, at its recipients."""
        return [copy for to, copy in self.copies() if copy.message == message.name and to in message.recipients]

    def bounces(self, machine: str) -> list[Copy]:
        """What a machine's users have been told of messages that could not be delivered."""
        return [copy for copy in self._boxes[machine].look() if copy.bounce]

    def told(self) -> set[str]:
        """Whom bounces have told of anything."""
        boxes = [(name, box) for name, box in self._boxes.items() if name in DOMAINS]
        return {f"{copy.user}@{DOMAINS[name]}" for name, box in boxes for copy in box.look() if copy.bounce}

    def missing(self, messages: Sequence[Message]) -> list[tuple[Message, str]]:
        """The messages that have not arrived, each with the recipient that lacks it."""
        there = {(copy.message, recipient) for recipient, copy in self.copies()} | self.refused
        there |= set(self.taken_elsewhere)
        return [(one, to) for one in messages for to in one.recipients if (one.name, to) not in there]

    async def recast(self, machine: str, role: Role) -> None:
        """Stop a server, and start it in another role."""
        before = self.servers[machine]
        await before.stop()
        await before.forget()
        self.servers[machine] = MailServer(before.node, before.mta, role)
        await self.servers[machine].start()

    async def arrive(self, what: str, *messages: Message, within: float, since: float | None = None) -> None:
        """Wait until messages have arrived everywhere, and measure it from when each was taken, or from then.

        Raises:
            Unexpected: something has not arrived `within` seconds; none is measured then.
        """
        deadline = time.time() + within + 1  # what comes a little late is told with its time
        while missing := self.missing(messages):
            if time.time() > deadline:
                first, recipient = missing[0]
                raise Unexpected(f"{what}: {first.name} has not reached {recipient} after {within} s")
            await trio.sleep(LOOK)
        copies = [(one, copy) for one in messages for copy in self.copies_of(one)]
        seconds = max(copy.time - (one.taken if since is None else since) for one, copy in copies)
        via = tuple(sorted({by for _, copy in copies for by, _ in copy.via}))
        self.measure(what, seconds, via)
        if seconds > within:
            raise Unexpected(f"{what}: it took {seconds:.2f} s, not at most {within}")

    async def arrive_by_queue_run(self, what: str, machine: str, *messages: Message, within: float) -> None:
        """Request a run of a machine's queue, and again every few seconds; the time counts from the first one.

        Raises:
            Unexpected: something has not arrived `within` seconds.
        """
        since = self.now()
        async with trio.open_nursery() as running:
            running.start_soon(self.run_queue, machine)
            await self.arrive(what, *messages, within=within, since=since)
            running.cancel_scope.cancel()

    async def run_queue(self, machine: str) -> None:
        """Request a run of a machine's queue every few seconds, until cancelled."""
        while True:
            await self.servers[machine].flush()
            await trio.sleep(QUEUE_RUN)

    async def settle(self, messages: Sequence[Message], seconds: float) -> None:
        """Give messages so long to arrive, as far as they will."""
        with trio.move_on_after(seconds):
            while self.missing(messages):  # noqa: ASYNC110 - other programs tell us nothing
                await trio.sleep(LOOK)

    async def rest(self, seconds: float) -> None:
        """Let time go by, while other cases work."""
        async with self.slot.given():
            await trio.sleep(seconds)

    async def stay_away(self, *messages: Message, seconds: float) -> None:
        """See that messages do not arrive for so long.

        Raises:
            Unexpected: one did.
        """
        async with self.slot.given():
            with trio.move_on_after(seconds):
                while True:
                    for message in messages:
                        self.expect(not self.copies_of(message), f"{message.name} has arrived where nothing could")
                    await trio.sleep(LOOK)

    async def until_empty(self, machine: str, within: float) -> None:
        """Wait until nothing is in the queue of a machine.

        Raises:
            Unexpected: something is, after so many seconds.
        """
        deadline = trio.current_time() + within
        while queued := await self.servers[machine].queued():
            if trio.current_time() > deadline:
                break
            await trio.sleep(0.2)
        self.expect(queued == 0, f"{queued} messages are still in the queue of {machine} after {within} s")

    async def until_told(self, machine: str, message: Message, within: float) -> None:
        """Wait until a machine's users have been told, once, that a message could not be delivered.

        Raises:
            Unexpected: they have not, after so many seconds, or more than once, or of another.
        """
        with trio.move_on_after(within):
            while not self.bounces(machine):  # noqa: ASYNC110 - other programs tell us nothing
                await trio.sleep(LOOK)
        told = [copy.message for copy in self.bounces(machine)]
        self.expect(told == [message.name], f"{machine} was told of {told}, and not once of {message.name}")

    async def expect_queued(self, machine: str, messages: int) -> None:
        """See that so many messages, or more, are in a machine's queue: sendmail has one for each recipient.

        Raises:
            Unexpected: there are less.
        """
        queued = await self.servers[machine].queued()
        self.expect(queued >= messages, f"{queued} messages are in the queue of {machine}, not {messages}")

    def expect_no_transfer(self, *messages: Message) -> None:
        """See that no octet of messages' bodies went to a gateway, or from one.

        Raises:
            Unexpected: one did.
        """
        names = {message.name for message in messages}
        bodies = [one for one in self.capturing.transactions() if one.octets and one.message in names | {None}]
        self.expect(not bodies, f"{len(bodies)} bodies were transferred in vain, the first one: {bodies[:1]}")

    def expect_tried(self, *machines: str) -> None:
        """See that a gateway tried to connect to each of these: otherwise it is no merit that nothing was transferred.

        Raises:
            Unexpected: none did.
        """
        tried = {attempt.server for attempt in self.capturing.attempts()}
        for name in machines:
            addresses = {leg.ip for leg in self.network.machines[name].legs}
            self.expect(bool(tried & addresses), f"no gateway tried to connect to {name}")

    def expect(self, fact: bool, otherwise: str) -> None:
        """See that something is so.

        Raises:
            Unexpected: it is not.
        """
        if not fact:
            raise Unexpected(otherwise)
