"""The Gateway: what outlives a session, and the boundary where a session's errors end."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import Address, Network
from mailgate.protocol.reply import Reply, reply
from mailgate.relay.conversation import Conversation, admitted
from mailgate.relay.lookups import Lookups
from mailgate.relay.settings import Listener, Settings
from mailgate.relay.shared import Shared
from mailgate.session.client import ClientSession


class Gateway:
    """A mail gateway over any streams. The nursery is yours:

    await nursery.start(gateway.run)
    await gateway.serve(listener, stream, peer)     # once per connection, each in its own task
    """

    def __init__(self, settings: Settings, network: Network, log: FilteringBoundLogger | None = None) -> None:
        self.settings = settings
        self._log: FilteringBoundLogger = log or structlog.get_logger("mailgate")
        self._shared = Shared(settings, network, self._release, self._log, Lookups(network))
        self._conversations: dict[Conversation, bool] = {}  # those that are served are True, those sent away False
        self._farewells: trio.Nursery | None = None
        self._stop = trio.Event()
        self._draining = False
        self._left = trio.Event()

    @property
    def counts(self) -> Mapping[str, int]:
        """Recipients since the start, but those whose transaction the client took back or left: `delivered`,
        `rejected`, `deferred`, `unknown`; of those delivered, `untold` had a client that was gone before it could
        hear so.
        """
        return self._shared.counts

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own what sessions leave behind: upstream sessions that are told QUIT. Ends when `drain` is through."""
        async with trio.open_nursery() as farewells:
            self._farewells = farewells
            task_status.started()
            try:
                await self._stop.wait()
            finally:
                self._farewells = None

    async def serve(self, listener: Listener, stream: trio.abc.Stream, peer: Address) -> None:
        """Serve one client connection to its end, and close it. `run` must be running.

        What goes wrong in a session is a log line; nothing but cancellation comes out of here. Raises RuntimeError if
        `run` was not started; the stream is then still yours.
        """
        if self._farewells is None and not self._draining:
            raise RuntimeError("start Gateway.run in your nursery first")
        session_id = f"{self._shared.network.random.getrandbits(48):012x}"
        log = self._log.bind(id=session_id)
        refusal = self._refusal(listener, peer)
        conversation = Conversation(listener, stream, peer, session_id, self._shared, log)
        self._conversations[conversation] = refusal is None
        try:
            log.debug("connected", client=peer, listener=listener.name)
            await conversation.run(refusal)
            await stream.aclose()
        except* Exception:
            log.exception("session_failed", client=peer, listener=listener.name)
        finally:
            del self._conversations[conversation]
            self._left.set()
            self._left = trio.Event()
            await trio.aclose_forcefully(stream)
        log.debug("closed")

    def _refusal(self, listener: Listener, peer: Address) -> Reply | None:
        hostname = self.settings.hostname
        if not admitted(listener, peer):
            return reply(554, "5.7.1", f"{hostname} You may not connect here")
        if self._draining:
            return reply(421, "4.3.2", f"{hostname} Shutting down, try later or elsewhere")
        if sum(self._conversations.values()) >= self.settings.limits.sessions:
            return reply(421, "4.3.2", f"{hostname} Too many sessions, try later or elsewhere")
        return None

    async def drain(self) -> None:
        """Stop, with nothing lost: new clients and those between transactions hear 421, transactions have
        `timeouts.drain` seconds to reach their first commit, committed ones run to their outcome. Then `run` ends.
        """
        self._draining = True
        until = trio.current_time() + self.settings.timeouts.drain
        for conversation in list(self._conversations):
            conversation.drain(until)
        with trio.move_on_at(until):
            await self._empty()
        for conversation in list(self._conversations):
            conversation.stop()
        await self._empty()
        self._stop.set()

    async def _empty(self) -> None:
        while self._conversations:
            await self._left.wait()

    def _release(self, session: ClientSession) -> bool:
        if self._farewells is None:
            return False
        self._farewells.start_soon(self._say_goodbye, session)
        return True

    async def _say_goodbye(self, session: ClientSession) -> None:
        try:
            await session.farewell(self.settings.timeouts.quit)
        except* Exception:
            # The message has its outcome: a courtesy that fails must not take everybody else with it.
            self._log.exception("farewell_failed")
