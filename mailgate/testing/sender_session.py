"""One connection of a `ScriptedSender`, and the transactions in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from mailgate.network import Address
from mailgate.testing.sending import Attempt, Stage, State
from mailgate.testing.transcript import Transcript, remembered, shown
from mailgate.testing.wire import Wire

if TYPE_CHECKING:
    from mailgate.testing.sender import ScriptedSender

Told = Callable[[int, Attempt], None]
"""is called with a recipient's position when what came of it is known, before anything else is awaited"""

_CHUNK = 65_536  # bytes of the message sent at a time
_FEW = 4096  # bytes that a peer's buffers have room for, even while it waits for us to read
_REPLY_LINE = re.compile(r"[2-5][0-9][0-9](?:[ -].*)?", re.DOTALL)


class _Ended(Exception):
    """The session is over for all recipients whose fate in it is still open."""

    def __init__(self, text: str, state: State = State.DEFERRED) -> None:
        super().__init__(text)
        self.text = text
        self.state = state


def _state(reply: str) -> State:
    return {"2": State.DELIVERED, "5": State.REFUSED}.get(reply[0], State.DEFERRED)


def _stuffed(message: bytes) -> bytes:
    """Dot-stuffed (RFC 5321 section 4.5.2). Raises ValueError unless every line ends in CRLF."""
    ends = message.count(b"\r\n")
    if not ends == message.count(b"\r") == message.count(b"\n") or not (message.endswith(b"\n") or not message):
        raise ValueError("every line of the message must end in CRLF, and CR and LF may not occur alone")
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if message.startswith(b".") else stuffed


class SenderSession:
    """A connection to a gateway: `async with sender.connect(gateway) as session: await session.transact(…)`.

    It is opened on entering; whether that succeeded is told by the first transaction, as all else that goes wrong.
    Leaving says QUIT, if it can still be understood, and closes. A transaction that is cancelled ends the session.
    """

    def __init__(self, sender: ScriptedSender, gateway: Address) -> None:
        self.gateway = gateway
        self.transactions = 0
        """begun until now"""
        self.usable = False
        """Whether another transaction can be begun; that the gateway has hung up shows only then."""
        self.transcript: Transcript | None = None
        """None until it is connected"""
        self._sender = sender
        self._stage = Stage.CONNECT
        self._failure = ""  # why no other transaction can be begun
        self._offered: tuple[str, ...] = ()
        self._clean = True  # no transaction is under way for the gateway
        self._inside = False  # a transaction, under way or cancelled
        self._patience = 0.0

    async def __aenter__(self) -> SenderSession:
        self._begin = trio.current_time()
        sender, seconds = self._sender, self._sender.patience.connect
        try:
            with trio.move_on_after(seconds) as scope:
                self._wire = Wire(await sender.network.connect(self.gateway, sender.source))
        except OSError as error:
            self._failure = str(error)
            return self
        if scope.cancelled_caught:
            self._failure = f"timed out after {seconds:g} s"
            return self
        self.usable = True
        self.transcript = Transcript(f"{sender.name} to {self.gateway}")
        remembered(sender.transcripts, self.transcript, sender.remember)
        self._add("--", "connected")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.usable = False
        await self.aclose()

    async def aclose(self) -> None:
        """As leaving does; once more is harmless."""
        if self.transcript is None:
            return
        async with self._wire.stream:
            if self._inside and not self._failure:
                # In QUIT's place, which might be a part of a message: where the scheduler is seeded, checkpoints count.
                await trio.lowlevel.checkpoint()
            elif self.usable and self._stage is not Stage.CONNECT:
                await self._say_quit()
            self.usable = self._inside = False

    async def _say_quit(self) -> None:
        """Its reply is not waited for."""
        self._add("C", "QUIT")
        with trio.move_on_after(self._sender.patience.hello):
            try:
                await self._wire.say(b"QUIT\r\n")
            except trio.BrokenResourceError:
                self._add("--", "connection lost")

    async def transact(
        self,
        message: bytes,
        recipients: Sequence[str],
        reverse_path: str,
        *,
        last: bool = False,
        told: Told | None = None,
    ) -> list[Attempt]:
        """Send a message; what came of each recipient. Never raises for what gateways do.

        All lines of the message must end in CRLF (else ValueError). `last`: no other transaction will follow; with
        PIPELINING, QUIT then goes out right behind the dot. `told`: what to call at once as each fate is known.
        Cancelled, it leaves the gateway inside a transaction: the session is not usable any more.
        """
        if self.transactions:
            self._begin = trio.current_time()
        self.transactions += 1
        transaction = _Transaction(self, message, recipients, reverse_path, last=last, told=told)
        usable, self.usable = self.usable, False  # until this one has come to its end
        self._inside = True
        self._scope = trio.CancelScope()
        try:
            with self._scope as scope:
                if not usable:
                    raise _Ended(self._failure or "the session has ended")
                if self._stage is Stage.CONNECT:
                    await self._greet()
                await transaction.run()
        except _Ended as end:
            self._failure = end.text
            transaction.settle(end.text, end.state)
        if scope.cancelled_caught:
            self._failure = f"timed out after {self._patience:g} s"
            transaction.settle(self._failure, State.DEFERRED)
        self.usable, self._inside = not self._failure, False
        return transaction.made

    async def _greet(self) -> None:
        patience = self._sender.patience
        self._stage = Stage.GREETING
        greeting = await self._reply(patience.greeting)
        if not greeting.startswith("2"):
            raise _Ended(greeting)  # also a 5xx: another gateway may know better
        self._stage = Stage.HELLO
        verb = "LHLO" if self._sender.protocol == "lmtp" else "EHLO"
        await self._command(f"{verb} {self._sender.name}")
        reply = await self._reply(patience.hello)
        if reply.startswith("5") and verb == "EHLO":
            await self._command(f"HELO {self._sender.name}")
            reply = await self._reply(patience.hello)
        elif reply.startswith("2"):
            self._offered = tuple(line[4:].partition(" ")[0].upper() for line in reply.split("\n")[1:])
        if not reply.startswith("2"):
            raise _Ended(reply, _state(reply))

    def _can(self, extension: str) -> bool:
        return extension in self._offered and extension in self._sender.uses

    # The wire. One cancel scope for a whole transaction: each wait moves its deadline.

    def _add(self, side: str, text: str) -> None:
        if self.transcript is not None:
            self.transcript.add(side, text)

    def _within(self, seconds: float) -> None:
        """What is awaited next may take that long."""
        self._patience = seconds
        self._scope.deadline = trio.current_time() + seconds

    async def _send(self, data: bytes, *, answered: bool) -> None:
        """`answered`: the gateway may have to reply to the first part before it has all of it."""
        try:
            await (self._wire.send(data) if answered or len(data) > _FEW else self._wire.say(data))
        except trio.BrokenResourceError:
            raise _Ended("connection lost") from None

    async def _command(self, *lines: str) -> None:
        for line in lines:
            self._add("C", line)
        self._within(self._sender.patience.hello)
        await self._send("".join(f"{line}\r\n" for line in lines).encode(), answered=len(lines) > 1)

    async def _reply(self, seconds: float) -> str:
        """A whole reply, its lines joined by newlines."""
        self._within(seconds)
        lines = [await self._reply_line()]
        while lines[-1][3:4] == "-":
            lines.append(await self._reply_line())
        if lines[-1].startswith("421"):
            self._failure = lines[-1]  # it closes, whatever it goes on to say (RFC 5321 section 3.8)
        return "\n".join(lines)

    async def _reply_line(self) -> str:
        received = self._wire.received
        while b"\n" not in received:
            if self._wire.ended:
                self._add("--", "connection lost")
                raise _Ended("connection lost")
            await self._wire.receive()
        end = received.index(b"\n") + 1
        line = bytes(received[:end])
        del received[:end]
        text = shown(line.removesuffix(b"\n").removesuffix(b"\r"))
        self._add("S", text)
        if not line.endswith(b"\r\n") or not _REPLY_LINE.fullmatch(text):
            raise _Ended(f"not a reply: {text[:60]}")
        return text


class _Transaction:
    """A message for some recipients in one session."""

    def __init__(
        self,
        session: SenderSession,
        message: bytes,
        recipients: Sequence[str],
        reverse_path: str,
        *,
        last: bool,
        told: Told | None,
    ) -> None:
        self._session = session
        self._sender = session._sender
        self._message = message
        self._stuffed = _stuffed(message)
        self._recipients = recipients
        self._reverse_path = reverse_path
        self._last = last
        self._told = told
        self._attempts: list[Attempt | None] = [None] * len(recipients)
        self._parameters: list[str] = []

    @property
    def made(self) -> list[Attempt]:
        """One attempt per recipient, once it has come to its end."""
        return [attempt for attempt in self._attempts if attempt is not None]

    def settle(self, text: str, state: State, positions: Sequence[int] | None = None) -> None:
        """That is what came of those recipients, or of all that are open."""
        session = self._session
        attempt = Attempt(session.gateway, session._stage, text, state, trio.current_time() - session._begin)
        for position in self._open() if positions is None else positions:
            if self._attempts[position] is None:
                self._attempts[position] = attempt
                if self._told is not None:
                    self._told(position, attempt)

    def _open(self) -> list[int]:
        """The positions whose fate in this session is not known yet."""
        return [position for position, attempt in enumerate(self._attempts) if attempt is None]

    def _accepted(self) -> list[int]:
        """The positions that RCPT took; to be asked when all replies to RCPT are in."""
        return self._open()

    async def run(self) -> None:
        session = self._session
        session._stage = Stage.MAIL
        self._choose_parameters()
        first = [] if session._clean else ["RSET"]
        session._clean = False
        go_ahead = await (self._pipelined(first) if session._can("PIPELINING") else self._in_turn(first))
        if self._accepted():
            await self._content()
        elif go_ahead:
            # DATA was in the group; an empty message for nobody ends it. Its reply is not worth waiting for.
            await session._send(b".\r\n", answered=False)
            await session._command("QUIT")
            session._failure = "QUIT was said"

    # Before the message.

    def _choose_parameters(self) -> None:
        session = self._session
        if session._can("SIZE"):
            self._parameters.append(f"SIZE={len(self._message)}")
        if session._can("8BITMIME") and not self._message.isascii():
            self._parameters.append("BODY=8BITMIME")
        if not "".join([self._reverse_path, *self._recipients]).isascii():
            if not session._can("SMTPUTF8"):
                raise _Ended("SMTPUTF8 is required, but was not offered", State.REFUSED)
            self._parameters.append("SMTPUTF8")
        if session._can("PRDR") and len(self._recipients) > 1 and self._sender.protocol == "smtp":
            self._parameters.append("PRDR")

    def _mail_line(self) -> str:
        return " ".join([f"MAIL FROM:<{self._reverse_path}>", *self._parameters])

    async def _in_turn(self, first: Sequence[str]) -> bool:
        """The envelope, command by command; whether we are to send a message."""
        for command in first:
            await self._session._command(command)
            await self._rset_reply()
        await self._session._command(self._mail_line())
        await self._mail_reply()
        for position in self._open():
            await self._session._command(f"RCPT TO:<{self._recipients[position]}>")
            await self._rcpt_reply(position)
        if not self._accepted():
            return False
        await self._session._command("DATA")
        return await self._data_reply()

    async def _pipelined(self, first: Sequence[str]) -> bool:
        """The envelope in one group; whether we are to send a message."""
        rcpts = [f"RCPT TO:<{recipient}>" for recipient in self._recipients]
        await self._session._command(*first, self._mail_line(), *rcpts, "DATA")
        for _ in first:
            await self._rset_reply()
        await self._mail_reply()
        for position in range(len(self._recipients)):
            await self._rcpt_reply(position)
        return await self._data_reply()

    async def _rset_reply(self) -> None:
        reply = await self._session._reply(self._sender.patience.mail)
        if not reply.startswith("2"):
            raise _Ended(reply)

    async def _mail_reply(self) -> None:
        reply = await self._session._reply(self._sender.patience.mail)
        if not reply.startswith("2"):
            self.settle(reply, _state(reply))

    async def _rcpt_reply(self, position: int) -> None:
        self._session._stage = Stage.RCPT
        reply = await self._session._reply(self._sender.patience.rcpt)
        if not reply.startswith("2"):
            self.settle(reply, _state(reply), [position])

    async def _data_reply(self) -> bool:
        self._session._stage = Stage.DATA
        reply = await self._session._reply(self._sender.patience.data)
        if not reply.startswith("3"):
            # A 2xx is no answer to DATA; only a 5xx is one for good.
            self.settle(reply, State.REFUSED if reply.startswith("5") else State.DEFERRED)
        return reply.startswith("3")

    # The message and what follows.

    async def _content(self) -> None:
        session, patience, rate = self._session, self._sender.patience, self._sender.rate
        session._stage = Stage.BODY
        chunk = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate)))
        for begin in range(0, len(self._stuffed), chunk):
            data = self._stuffed[begin : begin + chunk]
            session._within(patience.body)
            await session._send(data, answered=False)
            if rate is not None:
                session._within(len(data) / rate + patience.body)
                await trio.sleep(len(data) / rate)
        session._stage = Stage.DOT
        session._add("C", f"[{len(self._stuffed) + 3} bytes with the dot]")
        session._within(patience.body)
        if self._last and session._can("PIPELINING"):
            session._add("C", "QUIT")
            await session._send(b".\r\nQUIT\r\n", answered=True)
            session._failure = "QUIT was said"
        else:
            await session._send(b".\r\n", answered=False)
        await self._dot_replies()
        session._clean = True

    async def _dot_replies(self) -> None:
        patience, accepted = self._sender.patience.dot, self._accepted()
        reply = self._session._reply
        if self._sender.protocol == "lmtp":
            for position in accepted:
                own = await reply(patience)
                self.settle(own, _state(own), [position])
            return
        final = await reply(patience)
        if "PRDR" in self._parameters and final.startswith("353"):
            each = [await reply(patience) for _ in accepted]
            final = await reply(patience)
            if final.startswith("2"):  # only now do the others count; a refusal is one for all
                for position, own in zip(accepted, each, strict=True):
                    self.settle(own, _state(own), [position])
        self.settle(final, _state(final))
