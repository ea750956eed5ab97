"""mailgate on a gateway's machine, and what its log says."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from lab import commands
from lab.network import Network
from lab.topology import DNS, ISPS, SITE_DOMAINS, Topology, inside_link

BINDS = 3
"""listeners, each with a line in the log once it listens; on two backbones the first has two"""

LAPSE = "lapse"
"""what became of an entry for the shared ledger, where it could not be made; of no session"""

_OUTCOME = re.compile(r"(\S+) (delivered|rejected|deferred|unknown)\b")


@dataclass(frozen=True, slots=True)
class Together:
    """The gateways take several next hops in one transaction from outside, and share a ledger."""

    patience: float = 240
    """seconds"""
    handover: bool = False
    """whether the machine `handover` takes what is left"""


@dataclass(frozen=True, slots=True)
class Told:
    """What the log says of a recipient's message: which session, when, and what became of it."""

    session: str
    recipient: str
    begun: float
    ended: float
    """seconds since the epoch"""
    kind: str
    untold: bool


def configuration(network: Network, number: int, speak: dict[str, str], together: Together | None = None) -> str:
    """A gateway's configuration. `speak`: what the server of each domain of the site speaks, smtp or lmtp.

    All limits and timeouts are the defaults, but for the patience of `together`.
    """
    machine = network.machines[f"gw{number}"]
    inner = machine.ip(inside_link(network.topology, number))
    outer = {isp: machine.ip(isp) for isp in ISPS if machine.on(isp)}
    text = f"""\
hostname = "gw{number}.example.org"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = {json.dumps([f"{ip}:25" for ip in outer.values()])}
routes = {json.dumps(list(speak))}
{_outside_listener(network, together)}
[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["{inner}:24"]
clients = ["10.0.0.0/8"]
routes = ["outside"]

[[listener]]
name = "from-inside-smtp"
protocol = "smtp"
bind = ["{inner}:587"]
clients = ["10.0.0.0/8"]
routes = ["outside"]

[[route]]
name = "outside"
domains = ["*"]
mx = true
allow_private = true   # the lab's Internet is made of documentation addresses
backbones = {json.dumps(list(outer))}

[dns]
servers = ["{DNS}"]
"""
    for domain, protocol in speak.items():
        host = network.machines[SITE_DOMAINS[domain]].ip("servers")
        text += f'\n[[route]]\nname = "{domain}"\ndomains = ["{domain}"]\nhosts = ["{host}"]\nprotocol = "{protocol}"\n'
    for isp, ip in outer.items():
        text += f'\n[[backbone]]\nname = "{isp}"\nsource = ["{ip}"]\nhelo = "gw{number}{isp[-2:]}.example.org"\n'
    if together is not None:
        ledger = network.machines["ledger"].ip("servers")
        text += f'\n[ledger]\nurl = "redis://{ledger}"\n\n[timeouts]\npatience = {together.patience:g}\n'
    return text


def _outside_listener(network: Network, together: Together | None) -> str:
    if together is None:
        return ""
    handover = network.machines["handover"].ip("servers")
    return 'several_next_hops = "together"\n' + (f'handover = "{handover}"\n' if together.handover else "")


class Mailgate:
    """A gateway that can be started, stopped and killed. It ends with the nursery it was started in, at the latest."""

    def __init__(self, nursery: trio.Nursery, network: Network, number: int, folder: Path) -> None:
        self._nursery = nursery
        self._network = network
        self.name = f"gw{number}"
        self._config = folder / f"gw{number}.toml"
        self._log = folder / f"gw{number}.log"
        self._process: trio.Process | None = None
        self.crashes: list[float] = []
        """when it was killed"""

    def configure(self, text: str) -> None:
        """Write its configuration."""
        self._config.write_text(text)

    async def start(self) -> None:
        """Start it; it listens when this comes back.

        Raises:
            commands.Failed: it ended, or does not listen.
        """
        before = self._count("listening")
        command = [sys.executable, "-m", "mailgate", "serve", "-c", str(self._config), "--log-format", "json"]
        self._process = await self._nursery.start(_serve, self._network.inside(self.name, *command), self._log)
        wanted = before + BINDS + (self._network.topology is Topology.ONE_SITE)
        with trio.move_on_after(commands.PATIENCE):
            while self._process.poll() is None:
                if self._count("listening") >= wanted:
                    return
                await trio.sleep(0.05)
        raise commands.Failed(f"{self.name} does not listen: {self._log.read_text()[-2000:]}")

    async def stop(self) -> None:
        """Have it drain and end, as at a restart."""
        assert self._process is not None
        self._process.terminate()
        await self._process.wait()

    async def kill(self) -> None:
        """Crash it."""
        assert self._process is not None
        self.crashes.append(time.time())
        self._process.kill()
        await self._process.wait()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its log, line by line; the last one only if it is whole."""
        if self._log.exists():
            for line in self._log.read_text().splitlines():
                if line.startswith("{") and line.endswith("}"):
                    yield json.loads(line)

    def logged(self, event: str) -> bool:
        """Whether its log has an event."""
        return self._count(event) > 0

    def told(self) -> Iterator[Told]:
        """What became of each recipient."""
        begun: dict[tuple[str, str], float] = {}  # the last transaction of each session with each recipient
        for line in self.lines():
            ended = datetime.datetime.fromisoformat(line["timestamp"]).timestamp()
            for outcome in line.get("outcomes", ()) if "seconds" in line else ():  # others are not the last word
                found = _OUTCOME.match(outcome)
                assert found is not None, outcome
                untold = bool(line.get("untold")) and found[2] == "delivered"
                begun[line["id"], found[1]] = ended - line["seconds"]
                yield Told(line["id"], found[1], ended - line["seconds"], ended, found[2], untold)
            if line["event"] == "possible_duplicate":
                for recipient in line["to"]:
                    yield Told("", recipient, ended, ended, LAPSE, untold=False)
            if line["event"] == "untold":  # found out when the session ended, for what was delivered last in it
                for recipient in line["to"]:
                    yield Told(
                        line["id"], recipient, begun.get((line["id"], recipient), ended), ended, "delivered", True
                    )

    def _count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())


async def _serve(command: list[str], log: Path, task_status: trio.TaskStatus[trio.Process]) -> None:
    with log.open("ab") as opened:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=opened, stderr=subprocess.STDOUT
        )
        try:
            task_status.started(process)
            await process.wait()
        finally:
            process.kill()
