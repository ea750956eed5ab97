"""A simulated sender and scripted gateways, for its tests."""

from __future__ import annotations

import dataclasses
import random

import trio
import trio.testing

from mailgate.network import TcpAddress
from mailgate.testing import MemoryNetwork, Script, ScriptedMTA, Speaks
from sim.content import content, digest
from sim.records import History, Message
from sim.schedules import DAY, Schedule
from sim.sender import Sender

GATEWAYS = tuple(TcpAddress(f"192.0.2.{number}", 25) for number in range(1, 5))
A, B, C = "a@d.example", "b@d.example", "c@d.example"
EXTENSIONS = ("PIPELINING", "SIZE 52428800", "PRDR")


class Site:
    """A sender and scripted gateways, the first of which does what a test says."""

    def __init__(
        self,
        nursery: trio.Nursery,
        schedule: Schedule,
        *scripts: Script,
        protocol: Speaks = "smtp",
        deliveries: int = 20,
    ) -> None:
        """One gateway for each script."""
        self.nursery = nursery
        self.history = History(1, ())
        self.network = MemoryNetwork(nursery)
        self.mtas = [ScriptedMTA(f"gw{number}", protocol, script) for number, script in enumerate(scripts, 1)]
        gateways = GATEWAYS[: len(scripts)]
        for address, mta in zip(gateways, self.mtas, strict=True):
            self.network.serve(address, mta.handle)
        self.sender = Sender(
            "s1",
            "s1.example",
            schedule,
            gateways,
            self.history,
            random.Random(1),
            protocol=protocol,
            deliveries=deliveries,
        )
        self.life = trio.CancelScope()
        self._messages = 0

    def submit(self, *recipients: str) -> Message:
        self._messages += 1
        name = f"m{self._messages}"
        body = digest(content(name, 300))
        message = Message(name, "s1", f"{name}@s1.example", recipients, body, 300, trio.current_time(), outbound=False)
        self.sender.submit(message)
        return message

    async def run(self) -> None:
        """The sender's program, until `crash`."""
        with self.life:
            await self.sender.program(self.network)

    def crash(self) -> None:
        self.life.cancel()
        self.life = trio.CancelScope()

    async def settle(self, seconds: float = 10 * DAY) -> None:
        """Run until nothing is queued, at most so long, and then until nobody does anything."""
        self.nursery.start_soon(self.run)
        until = trio.current_time() + seconds
        while self.sender.queued and trio.current_time() < until:  # noqa: ASYNC110 - also others look at it
            await trio.sleep(10)
        await trio.sleep(30)
        self.crash()
        await trio.testing.wait_all_tasks_blocked()
        assert self.network.open_streams == 0

    @property
    def way(self) -> list[str]:
        """Of each recipient of the first message: the gateways by their numbers, and what came of it."""
        ways: dict[int, str] = {}
        for one in self.history.attempts:
            if one.message == "m1":
                ways[one.position] = ways.get(one.position, "") + str(GATEWAYS.index(one.gateway) + 1)
        for end in self.history.settled:
            if end.message == "m1":
                ways[end.position] += f" {end.state}"
        return [ways[position] for position in sorted(ways)]

    @property
    def begins(self) -> list[float]:
        """When the first recipient's attempts began."""
        return [round(one.began) for one in self.history.attempts if one.position == 0]

    def said(self, gateway: int) -> list[list[str]]:
        """The verbs of each session at a gateway."""
        return [
            [line.text.split()[0] for line in transcript.lines if line.side == "C"]
            for transcript in self.mtas[gateway - 1].sessions
        ]


def script(**what: object) -> Script:
    return dataclasses.replace(Script(extensions=EXTENSIONS), **what)  # type: ignore[arg-type]
