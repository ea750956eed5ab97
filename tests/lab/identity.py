"""Do retries of a message have the same content? Measured with real mail servers:  python -m lab.identity --help

A server sends a message to two gateways that refuse it with 451 after its dot, and records what they received. Then
its queue is run, and run again, until it is delivered. The table goes into docs/peers/retries.md.

Like the lab, it does everything in namespaces of its own, which end with it.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import trio

from lab import commands, roots
from lab.identity_compare import Attempt, Verdict, verdict
from lab.identity_setups import ROOTS, SETUPS, Letter, Setup, days_pass
from lab.identity_sink import LISTENING, attempt_of
from lab.mta import CONFIGS, REPOSITORY
from lab.network import Network
from lab.node import MailServer, Node
from lab.topology import Topology, zone

PAGE = REPOSITORY / "docs" / "peers" / "retries.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->\n"

_INJECT = Path(__file__).with_name("identity_inject.py")
_ALONE = (
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--uts",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation=private",
)

_REFUSALS = (4, 7)
"""messages that gw1, and gw2, refuses before it takes one"""
_ROUNDS = 12
"""queue runs at most"""
_BEGINS, _ENDS = 8, 2.5
"""seconds: a round of attempts begins within the first after its request, and is over the second after the last one"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a set-up."""

    setup: Setup
    attempts: tuple[Attempt, ...]
    delivered: bool
    version: str

    @property
    def verdict(self) -> Verdict:
        return verdict(self.attempts)


class _Site:
    """The lab's network with the set-up's server, two gateways that refuse, and DNS."""

    def __init__(self, nursery: trio.Nursery, network: Network, folder: Path, where: Mapping[str, Path]) -> None:
        self._nursery = nursery
        self._network = network
        self._folder = folder
        self._roots = where
        self._recorded = tuple(folder / f"gw{number}.jsonl" for number in (1, 2))

    async def measure(self, setup: Setup) -> Measured:
        """Have a message sent until it is delivered, or given up."""
        await self._network.build()
        dns = await self._node("ns", "knot", "ns.lab.example")
        await dns.put("/etc/knot/knot.conf", (CONFIGS / "knot.conf").read_text())
        await self._name_server(dns, setup.records[0])
        for number, file in enumerate(self._recorded, 1):
            await self._nursery.start(_serve, self._network, number, setup, file)
        server = await self._server(setup)
        await self._inject(setup, server)
        await self._round(before=0)
        for number in range(_ROUNDS):
            if self._delivered(setup) or not await server.queued():
                break
            if number == 0:
                await self._between(setup, server, dns)
            before = len(self._attempts())
            await server.flush()
            await self._round(before)
        attempts = self._attempts()
        if not attempts:
            raise commands.Failed(f"{setup.name}: no attempt: {(server.node.folder / 'log').read_text()[-3000:]}")
        return Measured(setup, tuple(attempts), self._delivered(setup), await server.version())

    async def _node(self, machine: str, root: str, hostname: str) -> Node:
        folder = self._folder / machine
        return await Node.start(self._nursery, self._network, machine, self._roots[root], folder, hostname)

    async def _name_server(self, node: Node, records: str) -> None:
        """Start it, or start it again."""
        await node.put("/etc/knot/zone", f"{zone(self._network.topology)}{records}\n")
        start = "mkdir -p /run/knot /var/lib/knot; knotd -d -c /etc/knot/knot.conf"
        await node.run(f"[ ! -e /run/knot/knot.pid ] || kill -KILL $(cat /run/knot/knot.pid); {start}")

    async def _server(self, setup: Setup) -> MailServer:
        machine, domain = ("mail1", "example.org") if setup.inside else ("sender", "gamma.example")
        node = await self._node(machine, setup.server.root.name, f"mail1.{domain}")
        server = MailServer(node, setup.server, setup.role)
        await server.start()
        return server

    async def _inject(self, setup: Setup, server: MailServer) -> None:
        sender = f"{'änn' if setup.letter is Letter.INTERNATIONAL else 'ann'}@{server.domain}"
        recipients = [to.replace("example.org", "alpha.example") if setup.inside else to for to in setup.recipients]
        content = setup.letter.content(sender, setup.to or recipients[0])
        if setup.submit:
            text = content.encode("latin-1").decode().replace("\r\n", "\n")
            await server.node.put("/tmp/message", text)
            await server.node.run(f"{setup.submit} </tmp/message")
            return
        options = (*setup.letter.options, *setup.options)
        message = {"sender": sender, "recipients": recipients, "options": options, "content": content}
        await commands.run(self._network.inside(server.node.name, sys.executable, str(_INJECT)), json.dumps(message))

    async def _between(self, setup: Setup, server: MailServer, dns: Node) -> None:
        """What happens between the first round of attempts and the second."""
        if setup.records[1]:
            await self._name_server(dns, setup.records[1])
        if setup.between:
            await server.node.run(setup.between)
        if setup.days:
            await server.stop()
            await server.node.run(days_pass(setup.days))
            await server.again()

    async def _round(self, before: int) -> None:
        """Wait until a round of attempts has begun, and is over."""
        deadline = time.monotonic() + _BEGINS
        there = before
        while time.monotonic() < deadline:
            if len(self._attempts()) > there:
                there = len(self._attempts())
                deadline = time.monotonic() + _ENDS
            await trio.sleep(0.1)

    def _attempts(self) -> list[Attempt]:
        lines = [line for file in self._recorded for line in file.read_text().splitlines() if line.endswith("}")]
        return sorted(map(attempt_of, lines), key=lambda one: one.time)

    def _delivered(self, setup: Setup) -> bool:
        return len({to for one in self._attempts() for to in one.taken}) == len(setup.recipients)


async def _serve(network: Network, number: int, setup: Setup, file: Path, task_status: trio.TaskStatus[None]) -> None:
    """Run a gateway that refuses, until cancelled."""
    protocol, port = setup.listens
    asked = {
        "name": f"gw{number}",
        "protocol": protocol,
        "port": port,
        "refusals": _REFUSALS[number - 1],
        "extensions": setup.offers[number - 1],
        "refused": setup.refused if number == 1 else (),
    }
    command = network.inside(f"gw{number}", sys.executable, "-m", "lab.identity_sink", json.dumps(asked))
    with file.open("wb") as opened:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=opened)
    try:
        while not _says(file, LISTENING):  # noqa: ASYNC110 - other programs tell us nothing
            await trio.sleep(0.05)
        task_status.started()
        await process.wait()
    finally:
        process.kill()
    raise commands.Failed(f"gw{number} ended with status {process.returncode}")


def _says(file: Path, what: str) -> bool:
    return what in file.read_text()


async def _measured(setup: Setup, number: int, work: Path, where: Mapping[str, Path]) -> Measured:
    network = Network(number, Topology.ONE_SITE)
    folder = work / str(number)
    folder.mkdir()
    try:
        async with trio.open_nursery() as nursery:
            measured = await _Site(nursery, network, folder, where).measure(setup)
            nursery.cancel_scope.cancel()
        return measured
    finally:
        network.destroy()


async def _measure_all(chosen: Sequence[Setup], jobs: int, work: Path, where: Mapping[str, Path]) -> list[Measured]:
    """Measure set-ups, some side by side, and tell of each; those that failed are left out."""
    limit = trio.CapacityLimiter(jobs)
    done: dict[str, Measured] = {}

    async def one(setup: Setup, number: int) -> None:
        async with limit:
            try:
                done[setup.name] = await _measured(setup, number, work, where)
            except* Exception as failed:
                click.echo(f"{setup.name}: FAILED: {failed.exceptions}", err=True)
            else:
                click.echo(f"{setup.name}: {' | '.join(_cells(done[setup.name]))}")

    async with trio.open_nursery() as nursery:
        for number, setup in enumerate(chosen, 1):
            nursery.start_soon(one, setup, number)
    return [done[setup.name] for setup in chosen if setup.name in done]


def _cells(measured: Measured) -> tuple[str, ...]:
    found = measured.verdict
    return (
        measured.setup.mta.name,
        measured.setup.what,
        str(found.attempts) + ("" if measured.delivered else ", never taken"),
        str(found.contents),
        str(found.reverse_paths),
        f"{found.known} of {found.retries}",
        ", ".join(found.changed) or "nothing",
    )


def _table(done: Sequence[Measured], command: str) -> Iterator[str]:
    versions = ", ".join(dict.fromkeys(one.version for one in done))
    yield f"Written by `{command}`; nothing in the table is typed by hand."
    yield f"{versions}."
    yield ""
    yield "| server | set-up | attempts | contents | reverse-paths | retries known again | what changed |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for one in done:
        yield f"| {' | '.join(_cells(one))} |"


def renewed(page: str, table: str) -> str:
    """The text of a page, with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table + END + rest.partition(END)[2]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Set-ups whose name has this in it; * and ? may be used.")
@click.option("--jobs", default=2, show_default=True, help="Set-ups at a time.")
@click.option("--show", is_flag=True, help="Print the contents that differ, and leave the page as it is.")
@click.option("--inside", is_flag=True, hidden=True)
def main(only: str, jobs: int, show: bool, inside: bool) -> None:
    """Measure whether retries have the same content. As root, on Debian; all of it takes about ten minutes.

    With --only or --show the page stays as it is. Exit status 1 if a set-up could not be measured.
    """
    chosen = [setup for setup in SETUPS if fnmatch.fnmatchcase(setup.name, f"*{only}*")]
    if not chosen:
        raise click.UsageError(f"no set-up has {only!r} in its name")
    if not inside:
        roots.build(ROOTS, roots.cache_folder(), click.echo)
        again = [sys.executable, "-m", "lab.identity", "--inside", *sys.argv[1:]]
        sys.exit(subprocess.run(["setpriv", "--pdeathsig", "KILL", "unshare", *_ALONE, *again], check=False).returncode)
    cache = roots.cache_folder()
    work = cache / "work"
    work.mkdir(exist_ok=True)
    for folder in (work, Path("/run")):  # seen by nobody else, and gone with us
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder)], check=True)
    where = {root.name: roots.path_of(root, cache) for root in ROOTS}
    done = trio.run(functools.partial(_measure_all, chosen, jobs, work, where))
    if show:
        _show(done)
    elif not only:
        command = "make identity"
        PAGE.write_text(renewed(PAGE.read_text(), "".join(f"{line}\n" for line in _table(done, command))))
    sys.exit(len(done) < len(chosen))


def _show(done: Sequence[Measured]) -> None:
    for one in done:
        click.echo(f"\n{one.setup.name}")
        for attempt in one.attempts:
            click.echo(
                f"  {attempt.time:.2f} {attempt.gateway} <{attempt.reverse_path}> {shlex.join(attempt.recipients)}"
            )
        for content in dict.fromkeys(attempt.content for attempt in one.attempts):
            click.echo("".join(f"    {line}\n" for line in content.decode(errors="replace").splitlines()))


if __name__ == "__main__":
    main(prog_name="lab.identity")
