"""Captures of what the gateways hear and say, and the mail transfers in them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import trio

from lab import commands, wire
from lab.network import Network

_WHAT = "tcp and (port 24 or port 25 or port 587)"

_HELD_BACK = 1.2
"""seconds: the kernel hands over what it captured once a second. At once, it would have room for few packets only"""


class Capturing:
    """A tcpdump on each gateway's machine, until `stop`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._running: dict[str, trio.Process] = {}
        self._files: dict[str, Path] = {}

    async def start(self, nursery: trio.Nursery, machine: str, folder: Path) -> None:
        """Begin to capture on a machine; it captures when this comes back."""
        self._files[machine] = folder / f"{machine}.pcap"
        tcpdump = ["tcpdump", "-i", "any", "-p", "-n", "-U", "-B", "32768", "-Z", "root", "-w"]
        command = self._network.inside(machine, *tcpdump, str(self._files[machine]), _WHAT)
        self._running[machine] = await nursery.start(_capture, command)

    async def catch_up(self) -> None:
        """Wait until the files have what has happened until now."""
        await trio.sleep(_HELD_BACK)

    async def stop(self) -> None:
        """End all captures; the files are complete then."""
        await self.catch_up()
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
            await process.wait()

    def transactions(self) -> list[wire.Transaction]:
        """Those that a gateway took part in, in order of their start; each once, as its client's side saw it.

        Raises:
            commands.Failed: a capture lacks something, so that what it shows proves nothing.
        """
        gateways = {leg.ip: name for name in self._files for leg in self._network.machines[name].legs}
        seen = [
            one
            for machine, capture in self._read()
            for one in capture.transactions
            if gateways.get(one.client, machine) == machine
        ]
        return sorted(seen, key=lambda one: one.started)

    def attempts(self) -> list[wire.Attempt]:
        """The connections that a gateway tried to open.

        Raises:
            commands.Failed: a capture lacks something.
        """
        return [
            one
            for machine, capture in self._read()
            for one in capture.attempts
            if one.client in {leg.ip for leg in self._network.machines[machine].legs}
        ]

    def opened(self, machine: str) -> list[wire.Attempt]:
        """The connections that a machine opened to gateways.

        Raises:
            commands.Failed: a capture lacks something.
        """
        own = {leg.ip for leg in self._network.machines[machine].legs}
        found = [one for _, capture in self._read() for one in capture.attempts if one.client in own]
        return [one for one in found if one.outcome == "open"]

    def _read(self) -> Iterator[tuple[str, wire.Capture]]:
        for machine, file in self._files.items():
            capture = wire.read(file)
            if capture.missed:
                raise commands.Failed(f"the capture on {machine} lacks {capture.missed} octets")
            yield machine, capture


async def _capture(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        with trio.move_on_after(commands.PATIENCE) as scope:
            said = b""
            while b"listening on" not in said:
                more = await process.stderr.receive_some()
                if not more:
                    raise commands.Failed(f"{' '.join(command)}: {said.decode(errors='replace')}")
                said += more
        if scope.cancelled_caught:
            raise commands.Failed(f"{' '.join(command)}: does not begin")
        task_status.started(process)
        async for _ in process.stderr:
            pass  # what it says at its end must not fill the pipe
        await process.wait()
    finally:
        process.kill()
