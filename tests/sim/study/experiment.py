"""One run of the study: a design in a topology, under the failures and with the messages of a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

import trio
from trio.testing import MockClock

from mailgate.testing import seeded
from sim.internet import Internet
from sim.records import History, Session
from sim.schedules import EXIM, OPENSMTPD, POSTFIX, SENDMAIL, Schedule
from sim.sender import Sender
from sim.study.breaking import Breaker, Switch
from sim.study.designs import Design, MailgateProgram, Program, relay
from sim.study.failures import DAY, SITES, Calendar, Failure, trace
from sim.study.figures import Result, Run
from sim.study.layout import (
    GATEWAYS,
    HOSTS,
    INSIDE_DOMAINS,
    LATENCY,
    LMTP,
    OUTSIDE_DOMAINS,
    SERVES,
    SMTP,
    SUBMIT,
    dns,
    inside_addresses,
    mx,
    networks_of,
)
from sim.study.mailbox import Mailbox
from sim.study.measure import Evidence, opened, tallied
from sim.study.messages import Planned, planned
from sim.study.relay import Relay
from sim.study.watch import TransferTap

END = 6 * DAY
"""seconds after the last message in which everybody has settled it: five days, and some more for the last try"""

_LOOK = 600.0
"""seconds between two looks at whether they have"""

SENDERS: Mapping[str, Schedule] = {
    SUBMIT: POSTFIX,
    **{f"s{site}": POSTFIX for site in range(1, SITES + 1)},
    "s3": EXIM,
    "s4": SENDMAIL,
    "s7": OPENSMTPD,
    "s9": EXIM,
}
"""what the hosts that send are"""


def experiment(run: Run) -> Result:
    """Run it, and measure it. Raises RuntimeError if mailgate logged an error."""
    began = time.process_time()
    failures = trace(run.seed, run.topology, run.seconds)
    messages = planned(run.seed, run.topology, failures, run.seconds)
    names = {host: schedule.name for host, schedule in SENDERS.items()}
    tallies = tallied(simulate(run, failures, messages), names)
    return Result(run, tallies, len(failures), len(messages), time.process_time() - began)


def simulate(run: Run, failures: Sequence[Failure], messages: Sequence[Planned]) -> Evidence:
    """What happens to those messages under those failures, on a clock of its own. Both are in the order of time."""
    world = _World(run, failures, messages)
    seeded(run.seed)
    trio.run(world.run, clock=MockClock(autojump_threshold=0))
    return world.evidence


class _World:
    """The network with everybody on it."""

    def __init__(self, run: Run, failures: Sequence[Failure], messages: Sequence[Planned]) -> None:
        self._run = run
        self._failures = failures
        self._messages = messages
        self._history = History(run.seed, GATEWAYS)
        self.evidence = Evidence(run.topology, messages, Calendar(failures))

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{what} {self._run.seed}")

    async def run(self) -> None:
        internet = Internet(self._history, self._chance("internet"), self._tap)
        self._build(internet)
        async with trio.open_nursery() as nursery:  # ends by being cancelled
            await nursery.start(internet.run)
            for name, switch in self._switches.items():
                internet.hosts[name].start(switch.run)
            for receiver in self._receivers:
                internet.hosts[receiver.name].start(receiver.program)
            for sender in self._senders.values():
                internet.hosts[sender.name].start(sender.program)
            nursery.start_soon(Breaker(internet, self._switches).run, self._failures)
            await self._submit()
            await self._settle()
            nursery.cancel_scope.cancel()
        self._collect()

    def _build(self, internet: Internet) -> None:
        design, topology = self._run.design, self._run.topology
        internet.records.update(dns())
        for name, latency in LATENCY.items():
            internet.link(name, latency=latency)
        for name in GATEWAYS:
            internet.host(name, networks_of(topology, name))
        for name, addresses in HOSTS.items():
            internet.host(name, addresses)
        self._relays: list[Relay] = []
        self._mailgates: list[MailgateProgram] = []
        if design is Design.MAILGATE:
            self._mailgates = [MailgateProgram(topology, name) for name in GATEWAYS]
        else:
            self._relays = [relay(design, topology, name) for name in GATEWAYS]
        programs: list[Program] = [*self._mailgates, *self._relays]
        self._switches = {name: Switch(program) for name, program in zip(GATEWAYS, programs, strict=True)}
        domains = {**INSIDE_DOMAINS, **OUTSIDE_DOMAINS}
        self._receivers = [Mailbox(name, domains[domain], self.evidence.copies) for name, domain in SERVES.items()]
        self._senders = {name: self._sender(name) for name in SENDERS}

    def _sender(self, name: str) -> Sender:
        design, topology = self._run.design, self._run.topology
        protocol = design.inside_protocol if name == SUBMIT else "smtp"
        inside = inside_addresses(topology, LMTP if protocol == "lmtp" else SMTP)
        gateways = inside if name == SUBMIT else mx(topology)
        return Sender(
            name,
            f"{name}.example",
            SENDERS[name],
            gateways,
            self._history,
            self._chance(name),
            protocol=protocol,
            uses=("PIPELINING", "SIZE"),
        )

    def _tap(self, session: Session) -> TransferTap:
        return TransferTap(session, self.evidence.transfers.append)

    async def _submit(self) -> None:
        for one in self._messages:
            await trio.sleep_until(one.message.submitted)
            self._history.messages[one.message.id] = one.message
            self._senders[one.message.sender].submit(one.message)

    async def _settle(self) -> None:
        until = trio.current_time() + END
        while self._queued() and trio.current_time() < until:  # noqa: ASYNC110 - several things to look at
            await trio.sleep(_LOOK)

    def _queued(self) -> int:
        at_senders = sum(sender.queued for sender in self._senders.values())
        return at_senders + sum(one.queued for one in self._relays)

    def _collect(self) -> None:
        errors = [line for program in self._mailgates for line in program.errors]
        if errors:
            raise RuntimeError(f"mailgate logged {len(errors)} errors, the first: {errors[0]}")
        evidence, history = self.evidence, self._history
        evidence.settled = history.settled
        for one in self._relays:
            evidence.stays += [*one.stays, *one.staying()]
            evidence.bounces += one.bounces
        evidence.sessions = opened(history)
