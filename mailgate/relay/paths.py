"""One path to a next hop: how it is opened, up to the point where a transaction may begin."""

from __future__ import annotations

import os
from dataclasses import dataclass

import trio

from mailgate.network import Address, Network
from mailgate.protocol.reply import Reply
from mailgate.relay.outcome import Failure, Stage, failure
from mailgate.relay.settings import Host
from mailgate.session.client import ClientSession, Lost, Patience


@dataclass(frozen=True, slots=True)
class Path:
    """One way to reach a next hop."""

    host: Host
    address: Address

    def __str__(self) -> str:
        return str(self.address) if self.host == self.address else f"{self.host}({self.address})"


async def connect(network: Network, path: Path, patience: Patience) -> trio.abc.Stream | Failure:
    """Open a connection. The caller closes the stream."""
    deadline = min(trio.current_time() + patience.silence, patience.deadline)
    with trio.move_on_at(deadline):
        try:
            return await network.connect(path.address)
        except OSError as error:
            return failure(Stage.CONNECT, Lost(_plain(error)))
    return failure(Stage.CONNECT, Lost("no connection in time"))


async def introduce(session: ClientSession, name: str, patience: Patience) -> Failure | None:
    """Wait for the greeting and say hello. None: a transaction may begin."""
    greeting = await session.greeting(patience)
    if isinstance(greeting, Lost) or greeting.kind != 2:
        return failure(Stage.GREETING, greeting)
    hello = await session.hello(name, patience)
    if isinstance(hello, Lost) or hello.kind != 2:
        return failure(Stage.HELLO, hello)
    return None


def refused(result: Reply | Lost) -> bool:
    """Whether a step ended in anything but the positive reply that it wants."""
    return isinstance(result, Lost) or result.kind in (4, 5)


def _plain(error: OSError) -> str:
    """What the system said; Trio puts the address in front, which is in every line anyway."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
