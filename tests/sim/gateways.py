"""The real gateway on a simulated host: started, and started anew after each crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import structlog
import trio
from structlog.typing import EventDict, FilteringBoundLogger

from mailgate.gateway import Gateway
from mailgate.network import Incoming, Network
from mailgate.relay.settings import Listener
from sim.hosts import Host
from sim.records import History, Logged
from sim.site import Topology, binds, settings
from sim.store import SimStore, Table

PATIENCE = 700.0
"""seconds after which a gateway that was told to stop has something left: its longest budget is 540"""


class GatewayProgram:
    """What runs on a gateway's host. `run` is for `Host.start`, `stop` ends it in an orderly way."""

    def __init__(self, name: str, topology: Topology, history: History, host: Host, ledger: Table | None) -> None:
        self.name = name
        self._topology = topology
        self._history = history
        self._host = host
        self._ledger = ledger
        self._stopping = trio.Event()
        self._stopped = trio.Event()

    async def run(self, network: Network) -> None:
        """Serve until `stop`, then drain. What is left then is in the history."""
        gateway = Gateway(
            settings(self._topology, self.name, self._history.service),
            network,
            recording(logging.DEBUG, partial(self._record, self._host.life)),
            None if self._ledger is None else SimStore(self._ledger, self._host, self._topology.inside(self.name)),
        )
        listeners = {listener.name: listener for listener in gateway.settings.listeners}
        with trio.CancelScope() as everything:
            async with trio.open_nursery() as sessions:  # ends by itself
                await sessions.start(gateway.run)
                async with trio.open_nursery() as accepting:  # ends by being cancelled
                    for listener, address in binds(self._topology, self.name):
                        incoming = await network.listen(address)
                        accepting.start_soon(accept, gateway, listeners[listener], incoming, sessions)
                    await self._stopping.wait()
                    accepting.cancel_scope.cancel()
                everything.deadline = trio.current_time() + PATIENCE
                await gateway.drain()
        if everything.cancelled_caught:
            self._history.left.append(f"{self.name}: something does not end {PATIENCE:g} s after it was told to stop")
        self._stopped.set()

    async def stop(self) -> None:
        """Tell it to stop, and wait until it has."""
        self._stopping.set()
        await self._stopped.wait()

    def _record(self, life: int, event: Mapping[str, object]) -> None:
        if self._host.up:  # a process that was killed says nothing more, and Python's `finally` is not its doing
            fields = {key: _plain(value) for key, value in event.items()}
            self._history.log.append(Logged(self.name, life, trio.current_time(), fields))


async def accept(gateway: Gateway, listener: Listener, incoming: Incoming, sessions: trio.Nursery) -> None:
    """Have the gateway serve whoever comes, in that nursery, until cancelled."""
    async with incoming:
        while True:
            stream, peer, _ = await incoming.accept()
            sessions.start_soon(gateway.serve, listener, stream, peer)


def recording(least: int, record: Callable[[Mapping[str, object]], None]) -> FilteringBoundLogger:
    """A logger that prints nothing: `record` is given each event of that level (as in `logging`) and above.

    The level's name is the event's last field, `log_level`.
    """

    def process(_: object, level: str, event: EventDict) -> EventDict:
        record({**event, "log_level": level})
        raise structlog.DropEvent

    logger = structlog.wrap_logger(
        None, processors=[process], wrapper_class=structlog.make_filtering_bound_logger(least)
    )
    return cast(FilteringBoundLogger, logger.bind())


def _plain(value: object) -> object:
    """A value as it is now; what it is made of may change."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float) or value is None else str(value)
