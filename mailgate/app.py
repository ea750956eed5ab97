"""Wiring for a gateway of its own: listeners, signals, drain, and the ledger from one run to the next."""

from __future__ import annotations

import contextlib
import datetime
import errno
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from structlog.typing import FilteringBoundLogger

from mailgate import control, ledger_file
from mailgate.config import Bind, Config
from mailgate.gateway import Gateway
from mailgate.network import Incoming, Network
from mailgate.relay.ledger import Remembered
from mailgate.store import StoreUnreachable

if TYPE_CHECKING:
    from mailgate.store_redis import RedisStore

ACCEPT_PAUSE = 0.1
"""seconds without accepting once the system has no descriptor left: an ended session gives one back"""


_REMEDIES = {
    errno.EADDRINUSE: "stop what uses it, or change `bind`",
    errno.EADDRNOTAVAIL: "change `bind` to an address of this machine",
    errno.EACCES: "run it as a user who may: ports below 1024 need root or CAP_NET_BIND_SERVICE, "
    "a unix socket needs write access to its directory",
    errno.ENOENT: "make its directory, or change `bind`",
}


class CannotListen(Exception):
    """An address of the configuration cannot be listened on."""

    def __init__(self, bind: Bind, error: OSError) -> None:
        remedy = _REMEDIES.get(error.errno or 0, "change `bind`")
        super().__init__(
            f'listener "{bind.listener.name}": cannot listen on {bind.address}: {error.strerror or error}; {remedy}'
        )


@dataclass(frozen=True, slots=True)
class _Listening:
    bind: Bind
    incoming: Incoming


async def serve(config: Config, network: Network, log: FilteringBoundLogger) -> bool:
    """Run the gateway of a configuration until SIGTERM or SIGINT, then drain; a second signal leaves at once.

    False: it did, and cut off what was under way. Raises CannotListen and control.CannotServe, with nothing left open.
    """
    for warning in config.warnings:
        log.warning("config_warning", where=warning.where, what=warning.what, remedy=warning.remedy)
    store = _shared_store(config)
    gateway = Gateway(config.settings, network, log, store)
    everything = trio.CancelScope()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with contextlib.AsyncExitStack() as closing:
            listening = [await _listen(bind, network, log, closing) for bind in config.binds]
            asked = await _listen_for_status(config, network, log, closing)
            # The control socket is ours by now: no other gateway with this `state_dir` runs, or will before we end.
            _take_up_ledger(gateway, config, network.now(), log)
            async with trio.open_nursery() as watching:  # ends by being cancelled
                if store is not None:
                    await watching.start(store.run)
                    await _look_for(store, log)
                if asked is not None:
                    watching.start_soon(control.serve, asked, gateway.status, log)
                with everything:
                    async with trio.open_nursery() as sessions:  # ends by itself
                        await sessions.start(gateway.run)
                        await _accept_until_signal(gateway, listening, sessions, signals, log)
                        watching.start_soon(_leave_at_next, signals, everything, log)
                        await gateway.drain()
                watching.cancel_scope.cancel()
            _lay_down_ledger(gateway, config, network.now(), log)
    log.info("stopped", **gateway.counts)
    return not everything.cancelled_caught


async def _listen(
    bind: Bind, network: Network, log: FilteringBoundLogger, closing: contextlib.AsyncExitStack
) -> _Listening:
    try:
        incoming = await network.listen(bind.address)
    except OSError as error:
        raise CannotListen(bind, error) from None
    await closing.enter_async_context(incoming)
    listener = bind.listener
    log.info("listening", listener=listener.name, protocol=listener.protocol.value, address=incoming.address)
    return _Listening(bind, incoming)


async def _listen_for_status(
    config: Config, network: Network, log: FilteringBoundLogger, closing: contextlib.AsyncExitStack
) -> Incoming | None:
    """The control socket, if the configuration has a place for it; it is there until everything else has ended."""
    if config.state_dir is None:
        return None
    incoming = await control.listen(network, config.state_dir)
    await closing.enter_async_context(incoming)
    log.info("control_socket", address=incoming.address)
    return incoming


async def _look_for(store: RedisStore, log: FilteringBoundLogger) -> None:
    """Whoever has just configured it is to hear now, and not with the first message, if it cannot be reached."""
    try:
        await store.take(())  # nothing: that asks only whether there is a connection
    except StoreUnreachable as error:
        log.warning("store_unreachable", why=str(error))


def _shared_store(config: Config) -> RedisStore | None:
    if config.ledger_url is None:
        return None
    from mailgate.store_redis import RedisStore  # its package is there only where it is needed

    return RedisStore(config.ledger_url)


def _take_up_ledger(gateway: Gateway, config: Config, now: datetime.datetime, log: FilteringBoundLogger) -> None:
    """What the gateway before this one remembered. Without it this one starts empty, and says so."""
    if config.state_dir is None:
        if config.settings.ledger:
            why = "there is no state_dir to keep it in, so it ends with each run"
            log.info("ledger_empty", why=why, remedy="set state_dir")
        return
    file = str(config.state_dir / ledger_file.NAME)
    try:
        if not config.settings.ledger:
            ledger_file.discard(config.state_dir)  # once it is on again, this would be too old
            return
        remembered = ledger_file.take(config.state_dir, now)
    except ledger_file.Unusable as error:
        log.warning("ledger_empty", file=file, why=str(error))
        return
    if remembered is None:
        log.info(
            "ledger_empty", file=file, why="there is no such file: none was kept, or the last run did not end well"
        )
        return
    gateway.remember(remembered)
    log.info("ledger_taken_up", file=file, **_sizes(remembered))


def _lay_down_ledger(gateway: Gateway, config: Config, now: datetime.datetime, log: FilteringBoundLogger) -> None:
    """What this gateway remembers, for the next one."""
    if config.state_dir is None or not config.settings.ledger:
        return
    remembered = gateway.remembered()
    try:
        ledger_file.write(config.state_dir, remembered, now)
    except OSError as error:
        why = error.strerror or str(error)
        remedy = f"see that the user that the gateway runs as may write in {config.state_dir}, and has room there"
        file = str(config.state_dir / ledger_file.NAME)
        log.error("ledger_lost", file=file, why=why, remedy=remedy, **_sizes(remembered))


def _sizes(remembered: Remembered) -> dict[str, int]:
    return {"entries": len(remembered.ledger), "put_off": len(remembered.put_off)}


async def _accept_until_signal(
    gateway: Gateway,
    listening: Sequence[_Listening],
    sessions: trio.Nursery,
    signals: AsyncIterator[int],
    log: FilteringBoundLogger,
) -> None:
    async with trio.open_nursery() as accepting:  # ends by being cancelled
        for one in listening:
            accepting.start_soon(_accept, gateway, one, sessions, log)
        number = await anext(signals)
        log.info("draining", signal=signal.Signals(number).name, seconds=gateway.settings.timeouts.drain)
        accepting.cancel_scope.cancel()
    for one in listening:
        await one.incoming.aclose()


async def _accept(gateway: Gateway, one: _Listening, sessions: trio.Nursery, log: FilteringBoundLogger) -> None:
    failing = False
    while True:
        try:
            stream, peer, _ = await one.incoming.accept()
        except OSError as error:
            if not failing:  # once, not ten times a second for as long as it lasts
                remedy = "raise the limit of open files, or lower limits.sessions"
                log.error("accept_failed", listener=one.bind.listener.name, why=error.strerror, remedy=remedy)
            failing = True
            await trio.sleep(ACCEPT_PAUSE)
        else:
            failing = False
            sessions.start_soon(gateway.serve, one.bind.listener, stream, peer)


async def _leave_at_next(signals: AsyncIterator[int], everything: trio.CancelScope, log: FilteringBoundLogger) -> None:
    number = await anext(signals)
    log.warning("leaving_at_once", signal=signal.Signals(number).name)
    everything.cancel()
