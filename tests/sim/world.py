"""A run: the site, its gateways, the servers around them, and the faults of one seed."""

from __future__ import annotations

import os
import random

import trio

from sim.faults import Injector
from sim.gateways import GatewayProgram
from sim.internet import Internet
from sim.plan import Plan
from sim.receiver import Receiver
from sim.records import STORE_KINDS, History, Service, Session
from sim.schedules import LIFETIME
from sim.sender import Sender
from sim.servers import senders, tempers
from sim.site import GATEWAYS, HANDOVER, INSIDE_HOSTS, LATENCY, OUTSIDE_HOSTS, STORE, TOGETHER_HOSTS, dns
from sim.store import Table
from sim.tap import DialogTap

_MUTE = 0.01
"""the share of the shared ledger's answers that get lost"""

QUIET = 60.0
"""seconds after the last message's end in which a gateway comes to rest: goodbyes, checks, kept sessions"""

BANDWIDTH = 12_500_000.0
"""octets per second of every network"""


class World:
    """Everything in a run. `run` is for `trio.run`; afterwards `history` is complete."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history = History(plan.seed, GATEWAYS, plan.service)
        if plan.service is Service.HANDOVER:
            self.history.handover = HANDOVER
        self._descriptors = 0

    def _chance(self, what: str) -> random.Random:
        """Everybody has randomness of their own, so that what one draws does not change what another does."""
        return random.Random(f"{what} {self.plan.seed}")

    async def run(self) -> None:
        """From the first message to the last one's end, and until everything has come to rest."""
        self._descriptors = _descriptors()
        self.internet = Internet(self.history, self._chance("internet"), self._tap)
        self._build()
        async with trio.open_nursery() as nursery:  # ends by being cancelled
            await nursery.start(self.internet.run)
            for name, program in self._gateways.items():
                self.internet.hosts[name].start(program.run)
            for receiver in self._receivers.values():
                self.internet.hosts[receiver.name].start(receiver.program)
            for sender in self._senders.values():
                self.internet.hosts[sender.name].start(sender.program)
            nursery.start_soon(self._break)
            await self._submit()
            await self._settle()
            await self._end()
            nursery.cancel_scope.cancel()
        self.history.ended = trio.current_time()

    # How it is built

    def _build(self) -> None:
        plan, internet, history = self.plan, self.internet, self.history
        internet.records.update(dns())
        for name, latency in LATENCY.items():
            internet.link(name, latency=latency, bandwidth=BANDWIDTH)
        for name, addresses in plan.topology.gateways.items():
            internet.host(name, addresses)
        for name, ip in INSIDE_HOSTS.items():
            internet.host(name, {ip: "core"})
        for name, ip in OUTSIDE_HOSTS.items():
            internet.host(name, {ip: "internet"})
        self._ledger = self._build_ledger()
        self._gateways = {
            name: GatewayProgram(name, plan.topology, history, internet.hosts[name], self._ledger) for name in GATEWAYS
        }
        self._receivers = {
            name: Receiver(name, temper, history, self._chance(name))
            for name, temper in tempers(plan.size.odd, plan.service).items()
        }
        self._senders: dict[str, Sender] = {
            sender.name: sender for sender in senders(plan.topology, plan.service, history, self._chance)
        }
        self._injector = Injector(
            internet,
            history,
            self._chance("faults"),
            self._receivers,
            rate=plan.size.rate,
            until=plan.faults_until,
        )

    def _build_ledger(self) -> Table | None:
        """What the gateways have in common, and the host that they hand over to."""
        if self.plan.service is Service.APART:
            return None
        for name, ip in TOGETHER_HOSTS.items():
            self.internet.host(name, {ip: "core"})
        mute = _MUTE if self.plan.size.rate else 0.0
        host = self.internet.hosts[STORE]
        return Table(host, self.history, self.internet.timeline, self._chance("ledger"), mute=mute)

    def _tap(self, session: Session) -> DialogTap:
        return DialogTap(session, self._moved)

    def _moved(self, session: Session) -> None:
        self._injector.moved(session)

    # What happens

    async def _submit(self) -> None:
        for message in self.plan.messages:
            await trio.sleep_until(message.submitted)
            self.history.messages[message.id] = message
            self._senders[message.sender].submit(message)

    async def _break(self) -> None:
        for outage in sorted((*self.plan.outages, *self.plan.store_outages), key=lambda one: one.begins):
            await trio.sleep_until(outage.begins)
            if outage.kind not in STORE_KINDS:
                self._injector.outage(outage.kind, outage.target, outage.ends)
            elif self._ledger is not None:
                self._ledger.break_it(outage.kind, outage.target, outage.ends)
        await trio.sleep_until(self.plan.faults_until)
        if self._ledger is not None:
            self._ledger.stop_losing_answers()

    async def _settle(self) -> None:
        """Wait until nobody has anything to send, or nobody would try any more."""
        await trio.sleep_until(self.plan.faults_until)
        until = trio.current_time() + LIFETIME
        # There are several of them, and to look at them once a minute costs nothing.
        while any(sender.queued for sender in self._senders.values()) and trio.current_time() < until:  # noqa: ASYNC110
            await trio.sleep(QUIET)
        await trio.sleep_until(max(trio.current_time(), self.history.calm))

    async def _end(self) -> None:
        """Everything comes to rest; then the gateways are told to stop, and nothing may be left of them."""
        await trio.sleep(QUIET)
        hosts = [self.internet.hosts[name] for name in self._gateways]
        for host in hosts:
            if host.streams:
                self.history.left.append(f"{host.name}: {host.streams} connections at rest")
        self.history.stopping = trio.current_time()
        for program in self._gateways.values():
            await program.stop()
        await trio.sleep(QUIET)
        for host in hosts:
            if host.streams or host.tasks:
                self.history.left.append(f"{host.name}: {host.streams} connections, tasks: {host.tasks}")
        files = _descriptors() - self._descriptors
        if files > 0:  # fewer: what somebody else had left was collected meanwhile
            self.history.left.append(f"{files} files")


def _descriptors() -> int:
    """Files that this process has open."""
    return len(os.listdir("/proc/self/fd"))
