"""A machine with a root of its own, in which a mail server or the DNS server runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import trio

from lab import commands
from lab.mta import File, Mta, Role
from lab.network import Network
from lab.topology import DNS, DOMAINS

_MOOD = "/var/lib/mood"

_INIT = Path(__file__).with_name("init.py")
_OWN = ("--mount", "--pid", "--uts", "--ipc")


class Node:
    """A machine that is up. Its processes end with the nursery that it was started in."""

    def __init__(self, name: str, folder: Path, first: int) -> None:
        self.name = name
        self.folder = folder
        self._first = first

    @classmethod
    async def start(
        cls, nursery: trio.Nursery, network: Network, name: str, root: Path, folder: Path, hostname: str
    ) -> Node:
        """Bring a machine of the network up, in a root; its changes and log are in `folder`, a new one."""
        folder.mkdir(parents=True)  # noqa: ASYNC240 - a folder in memory
        enter = network.inside(name, "unshare", *_OWN, "--fork", "--kill-child")
        command = [*enter, sys.executable, str(_INIT), str(root), str(folder), hostname]
        process = await nursery.start(_machine, command)
        await _said_up(process, name)
        return cls(name, folder, _child_of(process.pid))

    @property
    def changes(self) -> Path:
        """Everything that has been written in its root."""
        return self.folder / "upper"

    async def run(self, script: str, patience: float = commands.PATIENCE) -> str:
        """Run a shell script there, as root; its output.

        Raises:
            commands.Failed: its status was not 0, or it took longer than `patience` seconds.
        """
        enter = ["nsenter", f"--target={self._first}", *_OWN, "--net", "--root"]
        clean = [
            "env",
            "--chdir=/",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
        ]
        try:
            return await commands.run([*enter, *clean, "/bin/sh", "-euc", script], patience=patience)
        except commands.Failed as failed:
            raise commands.Failed(f"{self.name}: {failed}") from None

    async def put(self, target: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        where = shlex.quote(target)
        await self.run(
            f"mkdir -p $(dirname {where}); cat >{where} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\nchmod {mode:o} {where}"
        )


class MailServer:
    """A mail server in a role, on a machine of its own."""

    def __init__(self, node: Node, mta: Mta, role: Role) -> None:
        self.node = node
        self.mta = mta
        self.role = role
        self.domain = DOMAINS.get(node.name, "example.org")

    async def start(self) -> None:
        """Set it up as its role has it, and start it."""
        await self.node.put("/etc/resolv.conf", f"nameserver {DNS}\n")
        await self.node.put("/etc/hosts", "127.0.0.1 localhost\n")
        for file in self.mta.roles[self.role]:
            await self._install(file)
        await self.node.run(self.mta.prepare)
        await self.node.run(self.mta.start)

    async def _install(self, file: File) -> None:
        text = file.source.read_text().replace("example.org", self.domain)
        await self.node.put(file.target, text, file.mode)

    async def stop(self) -> None:
        """End it as a crash would."""
        await self.node.run(self.mta.stop)

    async def forget(self) -> None:
        """Remove its configuration; it has to be stopped."""
        files = " ".join(shlex.quote(file.target) for file in self.mta.roles[self.role])
        await self.node.run(f"rm {files}")

    async def again(self) -> None:
        """Start it after it was stopped."""
        await self.node.run(self.mta.start)

    async def answer(self, verdict: str, times: int | None = None) -> None:
        """What it says to a dot from now on, if it is moody: defer, reject or take, so often (None: always), then take;
        or hold: nothing, until it is told otherwise."""
        mood = verdict if times is None else f"{verdict} {times}"
        await self.node.run(f"install -d -m 777 {_MOOD}; cd {_MOOD}; rm -f asked; echo {mood} >now; chmod 666 now")

    def was_asked(self) -> bool:
        """Whether it has heard a dot since it was last told what to say to one."""
        return (self.node.changes / f".{_MOOD}" / "asked").exists()

    async def flush(self) -> None:
        """Have it try everything in its queue now."""
        await self.node.run(self.mta.flush)

    async def queued(self) -> int:
        """How many messages are in its queue."""
        return int((await self.node.run(self.mta.queue)).split()[-1])

    async def version(self) -> str:
        """What it is."""
        return (await self.node.run(self.mta.version)).strip()


async def _machine(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    """Run a machine until it is cancelled, which ends it at once."""
    process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        task_status.started(process)
        await process.wait()
    finally:
        process.kill()
    raise commands.Failed(f"{' '.join(command)} ended with status {process.returncode}")


async def _said_up(process: trio.Process, name: str) -> None:
    assert process.stdout is not None
    with trio.move_on_after(commands.PATIENCE):
        said = b""
        async for octets in process.stdout:
            said += octets
            if said == b"up\n":
                return
    raise commands.Failed(f"{name} does not come up")


def _child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
