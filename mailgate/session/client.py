"""A session with a next hop over any Trio stream: says commands, waits for replies, and decides nothing.

What a peer may do is a value, never an exception: every step ends in a Reply, or in Lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from mailgate.protocol.client import Answered, Broken, Capabilities, ClientProtocol, SpokenEarly, State
from mailgate.protocol.command import Extension, Mailbox, MailParameters, ReversePath, Verb
from mailgate.protocol.reply import Reply, Role
from mailgate.session.wire import End, Wire

CLOSED = "the next hop has closed the session"
"""why a session is lost behind a 421"""


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is of no more use."""

    why: str


@dataclass(frozen=True, slots=True)
class Stale:
    """A kept session turned out to be of no more use; the next hop may be as well as ever, in a new one."""

    why: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: `silence` seconds for one reply, and never beyond `deadline` (Trio's clock)."""

    silence: float
    deadline: float = math.inf


class ClientSession:
    """Drives a ClientProtocol. `listen` runs in a nursery of the owner's, who also closes `stream`.

    A session may change owners: the reader stops with the one's nursery and starts in the next one's.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        role: Role,
        stall: float,
        observe: Callable[[Verb, Reply], None] = lambda verb, answer: None,
    ) -> None:
        """`stall`: seconds that the next hop may take none of what we send. `observe` sees each reply."""
        self.stream = stream
        self.observe = observe
        """the next owner sets its own"""
        self._role = role
        self._stall = stall
        self._protocol = ClientProtocol(role)
        self._wire = Wire(stream, self._protocol.receive, self._on_end, lambda: self._protocol.buffered)
        self._lost: Lost | None = None

    async def listen(self) -> None:
        """Read from the next hop until its end. After it was cancelled it may be run again, by the next owner."""
        await self._wire.listen()

    def _on_end(self, end: End) -> None:
        self._protocol.receive_eof(end.value)

    @property
    def capabilities(self) -> Capabilities:
        """What the next hop offered."""
        return self._protocol.capabilities

    @property
    def transactions(self) -> int:
        """Messages whose dot was answered, whatever the answer."""
        return self._protocol.transactions

    @property
    def awaiting(self) -> bool:
        """Replies are due."""
        return bool(self._protocol.awaited)

    @property
    def reusable(self) -> bool:
        """Another transaction may begin, as far as is known."""
        idle = not (self.awaiting or self._protocol.speaking)
        return idle and self.partable and self._protocol.state is State.READY

    @property
    def partable(self) -> bool:
        """A QUIT would be understood, once the replies that are due have come."""
        return (
            self._lost is None
            and self._wire.end is None
            and not self._wire.writing
            and self._protocol.state in (State.HELLO, State.READY, State.MAIL)
        )

    async def greeting(self, patience: Patience) -> Reply | Lost:
        """Wait for the greeting."""
        return await self.reply(patience)

    async def hello(self, name: str, patience: Patience) -> Reply | Lost:
        """LHLO, or EHLO and, where that is refused with 5xx, HELO (RFC 5321 section 3.2)."""
        if self._role is Role.LMTP:
            return await self._ask(lambda: self._protocol.hello(Verb.LHLO, name), patience)
        answer = await self._ask(lambda: self._protocol.hello(Verb.EHLO, name), patience)
        if isinstance(answer, Reply) and answer.kind == 5:
            return await self._ask(lambda: self._protocol.hello(Verb.HELO, name), patience)
        return answer

    async def mail(self, reverse_path: ReversePath, wanted: MailParameters, patience: Patience) -> Reply | Lost:
        """MAIL, with what the next hop knows of the wanted parameters."""
        return await self._ask(lambda: self._protocol.mail(reverse_path, wanted), patience)

    async def again(self, reverse_path: ReversePath, wanted: MailParameters, patience: Patience) -> Reply | Stale:
        """MAIL behind an earlier transaction: RSET and MAIL in one write where the next hop knows PIPELINING.

        Stale: it had hung up or spoken meanwhile, or leaves, is silent or refuses RSET now. What its host thinks of
        us must then be asked in a new session. With both replies due this may take twice the patience's silence.
        """
        if (unasked := await self.look()) is not None:
            return _stale(unasked)
        if not self.reusable:
            return Stale("something is half said")

        def mail() -> bytes:
            return self._protocol.mail(reverse_path, wanted)

        if pipelining := Extension.PIPELINING in self.capabilities.extensions:
            answer = await self._ask(lambda: self._protocol.reset() + mail(), patience)
        else:
            answer = await self._ask(self._protocol.reset, patience)
        if isinstance(answer, Lost) or answer.kind != 2:
            return _stale(answer)
        answer = await (self.reply(patience) if pipelining else self._ask(mail, patience))
        return _stale(answer) if isinstance(answer, Lost) or answer.code == 421 else answer

    async def offer(self, mailboxes: Sequence[Mailbox], patience: Patience) -> Lost | None:
        """RCPT for each, in one write: `reply` then waits for one answer each, in order."""
        return await self._say(lambda: b"".join(self._protocol.rcpt(mailbox) for mailbox in mailboxes), patience)

    async def data(self, patience: Patience) -> Reply | Lost:
        """DATA; a positive reply is a 3xx."""
        return await self._ask(self._protocol.data, patience)

    async def content(self, content: bytes) -> Reply | Lost | None:
        """Send some octets of the message. A Reply is a refusal that came before our dot."""
        spoken = self.spoken()
        if spoken is not None:
            return spoken
        lost = await self._send(self._protocol.content(content), self._stall)
        if lost is None:
            return None
        # Servers that refuse a message may close at once; then the refusal is there to be read, and says more.
        await self._settle()
        match self._protocol.next_event():
            case SpokenEarly(answer):
                return answer
            case _:
                return lost

    def spoken(self) -> Reply | Lost | None:
        """What the next hop has said unasked inside the message, as far as it has been read."""
        if self._lost is not None:
            return self._lost
        match self._protocol.next_event():
            case SpokenEarly(answer):
                return answer
            case Broken(why):
                return self._lose(why)
            case None if self._protocol.state is State.CLOSED:
                return self._lose(CLOSED)
            case _:
                return None

    async def hold(self, released: Callable[[], bool]) -> Reply | Lost | None:
        """Wait, inside the message, until it is `released`, which is asked again at each `wake`; then `look`.

        A Reply, Lost: the next hop has spoken, or left, before.
        """
        while not released():
            if (said := self.spoken()) is not None:
                return said
            await self._wire.wait()
        return await self.look()

    def wake(self) -> None:
        """Let whoever waits in `hold` look again."""
        self._wire.wake()

    async def look(self) -> Reply | Lost | None:
        """Like `spoken`, with everything that has reached us by now having been read, but without waiting for more."""
        await self._settle()
        return self._unasked()

    def _unasked(self) -> Reply | Lost | None:
        """Like `spoken`, and a reply that has only begun counts: its end must not answer what we say next."""
        said = self.spoken()
        if said is None and self._protocol.speaking:
            return self._lose("a reply nobody asked for has begun")
        return said

    async def _settle(self) -> None:
        """Let the reader take what has reached us.

        Three times through the scheduler: at the first turn it asks the system what has become readable and makes
        our reader runnable, at the second the reader has run. A reader that was only just started begins to read at
        the first turn and has what was there at the second: at the third we are behind it in any case.
        """
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    async def end(self) -> Lost | None:
        """Write the dot. Whatever becomes of this write, the next hop may have the message."""
        return self._lost or await self._send(self._protocol.end(), self._stall)

    @property
    def outcomes_due(self) -> int:
        """Replies to the dot that are still to come."""
        return self._protocol.awaited

    async def reply(self, patience: Patience) -> Reply | Lost:
        """The next reply that is due."""
        deadline = min(trio.current_time() + patience.silence, patience.deadline)
        while self._lost is None:
            match self._protocol.next_event():
                case Answered(verb, answer):
                    self.observe(verb, answer)
                    return answer
                case SpokenEarly(answer):
                    return self._lose(f"a reply nobody asked for: {answer}")
                case Broken(why):
                    return self._lose(why)
                case None if self._protocol.state is State.CLOSED:
                    return self._lose(CLOSED)
                case None:
                    await self._wire.wait(deadline)
        return self._lost

    async def farewell(self, within: float) -> None:
        """Hear what is due, say QUIT, hear an answer, close; all in some seconds. `listen` must have ended.

        A session that is not `partable` is closed at once.
        """
        try:
            if self.partable:
                async with trio.open_nursery() as listening:
                    listening.start_soon(self.listen)
                    await self._part(trio.current_time() + within)
                    listening.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self.stream)

    async def _part(self, deadline: float) -> None:
        patience = Patience(math.inf, deadline)
        while self.awaiting:
            if isinstance(await self.reply(patience), Lost):
                return
        await self._ask(self._protocol.quit, patience)

    async def _ask(self, command: Callable[[], bytes], patience: Patience) -> Reply | Lost:
        return await self._say(command, patience) or await self.reply(patience)

    async def _say(self, command: Callable[[], bytes], patience: Patience) -> Lost | None:
        # What came unasked since the last reply must not become the reply to this command.
        if self._lost is None and not self._protocol.awaited:
            self._unasked()
        within = min(self._stall, patience.silence, patience.deadline - trio.current_time())
        return self._lost or await self._send(command(), max(0, within))

    async def _send(self, octets: bytes, within: float) -> Lost | None:
        if self._lost is None and not await self._wire.send(octets, within):
            return self._lose(self._wire.end.value if self._wire.end else "closed")
        return self._lost

    def _lose(self, why: str) -> Lost:
        self._lost = self._lost or Lost(why)
        return self._lost


def _stale(found: Reply | Lost) -> Stale:
    return Stale(found.why if isinstance(found, Lost) else str(found))
