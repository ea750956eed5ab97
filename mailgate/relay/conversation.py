"""One client's session, from the greeting to the goodbye."""

from __future__ import annotations

import ipaddress

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import Address, TcpAddress, acknowledged
from mailgate.protocol.events import Gone, MailAsked, Quit, Reset
from mailgate.protocol.reply import Reply, reply
from mailgate.protocol.server import ServerOptions, ServerProtocol
from mailgate.relay.outcome import STOPPED
from mailgate.relay.recall import Delivered
from mailgate.relay.settings import Listener
from mailgate.relay.shared import Shared
from mailgate.relay.trace import Arrival
from mailgate.relay.transaction import Transaction
from mailgate.session.server import ServerSession
from mailgate.session.wire import End

LINGER = 2
"""seconds that a client gets to close the connection after our 421, before we do"""

ACKNOWLEDGEMENT = 0.05
"""seconds between two looks whether a client's system has acknowledged our last answer"""


class Conversation:
    """Serves one client; the caller owns the stream and closes it."""

    def __init__(
        self,
        listener: Listener,
        stream: trio.abc.Stream,
        peer: Address,
        session_id: str,
        shared: Shared,
        log: FilteringBoundLogger,
    ) -> None:
        settings = shared.settings
        options = ServerOptions(
            role=listener.protocol,
            hostname=settings.hostname,
            extensions=shared.extensions(listener),
            message_size=settings.limits.message_size,
            recipients=settings.limits.recipients,
            bad_commands=settings.limits.bad_commands,
            bare_newline=listener.bare_newline,
        )
        self._listener = listener
        self._stream = stream
        self._peer = peer
        self._id = session_id
        self._shared = shared
        self._times = settings.timeouts
        self._log = log
        self._protocol = ServerProtocol(options, self._observe)
        self._session = ServerSession(stream, self._protocol, self._times.client_stall)
        self._transaction: Transaction | None = None
        self._draining = False
        self._unheard: list[Delivered] = []  # told to have succeeded, since the client was last heard of
        self._untold: list[Delivered] = []  # the client does not know, nor does the ledger
        self._signs = 0

    @property
    def deliveries(self) -> int | None:
        """Those under way in its transaction; None: there is no transaction now."""
        return None if self._transaction is None else self._transaction.deliveries

    async def run(self, refusal: Reply | None = None) -> None:
        """Serve until the client says QUIT, leaves, is silent for too long or is sent away.

        With a refusal (421, 554) that is the greeting, and the end.
        """
        try:
            async with trio.open_nursery() as listening:
                listening.start_soon(self._session.listen)
                ended = await self._converse() if refusal is None else self._refuse(refusal)
                if isinstance(ended, Gone):
                    await self._session.goodbye(self._farewell(), LINGER)
                else:
                    await self._session.flush()
                if self._still_unheard():
                    await self._listen_for_a_sign()
                listening.cancel_scope.cancel()
            self._give_up_hope()
            await self._remember_untold()
        finally:
            self._give_up_hope()
            self._shared.recall.remember_here(self._untold)

    async def _listen_for_a_sign(self) -> None:
        """A QUIT that came with the message is no sign that our answer was read. The end of the connection is.

        A client that closed its side before our answer (Exim does), or is silent until we have had enough, gives none;
        but its system has taken the answer, or has not.
        """
        await self._session.part(LINGER)
        if self._still_unheard() and self._session.end in (End.EOF, End.SILENCE):
            with trio.move_on_after(LINGER):
                while not acknowledged(self._stream):  # noqa: ASYNC110 - the kernel gives no notice of it
                    await trio.sleep(ACKNOWLEDGEMENT)
                self._unheard = []

    def _give_up_hope(self) -> None:
        """Whoever has given no sign by now was not told."""
        if self._still_unheard():
            self._log.warning("untold", to=[one.recipient for one in self._unheard])
            self._shared.counts["untold"] += sum(not one.before for one in self._unheard)
            self._untold += self._unheard
            self._unheard = []

    async def _remember_untold(self) -> None:
        untold, self._untold = self._untold, []
        await self._shared.recall.remember(untold)

    def _still_unheard(self) -> bool:
        return bool(self._unheard) and self._session.signs == self._signs

    async def _converse(self) -> Quit | Gone:
        name = f"{self._shared.settings.hostname} {self._listener.protocol.name} mailgate"
        self._session.greet(reply(220, "", name))
        while True:
            match await self._session.next_event(self._times.command):
                case MailAsked() if self._draining:  # it was sent before the client could hear
                    return Gone()
                case MailAsked() as asked:
                    ended = await self._transact(asked)
                    if ended is not None:
                        return ended
                case (Quit() | Gone()) as ended:
                    return ended
                case Reset():
                    pass
                case event:
                    raise RuntimeError(f"no place for {event!r} between transactions")

    def _refuse(self, refusal: Reply) -> Gone:
        self._log.warning("client_refused", client=self._peer, listener=self._listener.name, reply=refusal)
        self._session.greet(refusal)
        return Gone()

    async def _transact(self, asked: MailAsked) -> Quit | Gone | None:
        hello = self._protocol.hello
        assert hello is not None  # the state table lets no MAIL come before it
        settings = self._shared.settings
        arrival = Arrival(hello, self._peer, settings.hostname, self._id, self._shared.network.now())
        self._transaction = Transaction(self._session, self._listener, asked, arrival, self._shared, self._log)
        try:
            ended = await self._transaction.run()
        finally:
            self._untold += self._transaction.untold
            if self._transaction.told:
                self._unheard = [*(self._unheard if self._still_unheard() else ()), *self._transaction.told]
                self._signs = self._transaction.signs
            self._transaction = None
            if self._draining:
                self._session.hurry(trio.current_time())
        await self._remember_untold()
        return ended

    def _farewell(self) -> Reply:
        hostname = self._shared.settings.hostname
        if self._session.end is End.SILENCE and not self._draining:
            return reply(421, "4.4.2", f"{hostname} Timeout, closing")
        return reply(421, "4.3.2", f"{hostname} Shutting down, try later or elsewhere")

    # Drain

    def drain(self, until: float) -> None:
        """Between transactions: end now. In one: it may go on until then (Trio's clock)."""
        self._draining = True
        self._session.hurry(trio.current_time() if self._transaction is None else until)

    def stop(self) -> None:
        """The drain is over: what has not been committed is given up."""
        if self._transaction is not None:
            self._transaction.give_up(STOPPED)

    def _observe(self, about: str, answer: Reply) -> None:
        self._log.debug("reply", to=about, reply=answer)


def admitted(listener: Listener, peer: Address) -> bool:
    """Whether a peer may connect. Who reaches a unix socket was let in by its file mode."""
    if listener.clients is None or not isinstance(peer, TcpAddress):
        return True
    address = ipaddress.ip_address(peer.ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in listener.clients)
