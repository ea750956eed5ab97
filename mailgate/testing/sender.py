"""A mail server that sends: what Postfix does with several gateways, recipient by recipient.

It shares no code with mailgate's own protocol modules: it is a witness of what they answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from mailgate.network import Address, Network
from mailgate.testing.script import Speaks
from mailgate.testing.sending import Attempt, Fate, Patience, Sending, Stage, State
from mailgate.testing.transcript import Transcript, shown
from mailgate.testing.wire import Wire

USES = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8")
"""what a `ScriptedSender` makes use of, where it is offered and there is something to use it for"""

_CHUNK = 65_536  # bytes of the message sent at a time
_REPLY_LINE = re.compile(r"[2-5][0-9][0-9](?:[ -].*)?", re.DOTALL)


class ScriptedSender:
    """An SMTP or LMTP client that hands a message to the first gateway, and to the next what that one did not take.

    As Postfix does, measured: a recipient that got a 4xx (452 included), or whose session was refused, lost or
    silent, goes to the next gateway at once; a 5xx refuses it for good, except at the greeting. With PIPELINING
    the whole envelope is one group and QUIT follows right behind the dot; QUIT's reply is not waited for.
    """

    def __init__(
        self,
        network: Network,
        name: str = "sender.example",
        protocol: Speaks = "smtp",
        *,
        uses: tuple[str, ...] = USES,
        source: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`uses`: extensions to make use of; with "PRDR" in it, as Exim does, for two recipients and more.

        `source`: the IP address to connect from.
        """
        self.name = name
        self.protocol = protocol
        self.network = network
        self.uses = uses
        self.source = source
        self.patience = patience or Patience()
        self.transcripts: list[Transcript] = []
        """of all messages it sent"""

    async def send(
        self,
        message: bytes,
        recipients: Sequence[str],
        gateways: Sequence[Address],
        *,
        reverse_path: str = "sender@sender.example",
    ) -> Sending:
        """Send a message, all of whose lines end in CRLF (else ValueError). Never raises for what gateways do."""
        lines = message.split(b"\r\n")
        if lines.pop() or any(b"\r" in line or b"\n" in line for line in lines):
            raise ValueError("every line of the message must end in CRLF, and CR and LF may not occur alone")
        begin, first = trio.current_time(), len(self.transcripts)
        attempts: list[list[Attempt]] = [[] for _ in recipients]
        waiting = list(range(len(recipients)))
        for gateway in gateways:
            if not waiting:
                break
            session = _Session(self, gateway, reverse_path, [recipients[position] for position in waiting])
            made = await session.run(message)
            for position, attempt in zip(waiting, made, strict=True):
                attempts[position].append(attempt)
            waiting = [position for position in waiting if attempts[position][-1].state is State.DEFERRED]
        fates = tuple(
            Fate(recipient, made[-1].state if made else State.DEFERRED, tuple(made))
            for recipient, made in zip(recipients, attempts, strict=True)
        )
        return Sending(fates, tuple(self.transcripts[first:]), trio.current_time() - begin)


class _Ended(Exception):
    """The session is over for all recipients whose fate in it is still open."""

    def __init__(self, text: str, state: State = State.DEFERRED) -> None:
        super().__init__(text)
        self.text = text
        self.state = state


def _state(reply: str) -> State:
    return {"2": State.DELIVERED, "5": State.REFUSED}.get(reply[0], State.DEFERRED)


def _stuffed(message: bytes) -> bytes:
    """Dot-stuffed (RFC 5321 section 4.5.2)."""
    return b"".join(b"." + line if line.startswith(b".") else line for line in message.splitlines(keepends=True))


class _Session:
    """One try at one gateway, for some recipients."""

    def __init__(self, sender: ScriptedSender, gateway: Address, reverse_path: str, recipients: Sequence[str]) -> None:
        self._sender = sender
        self._gateway = gateway
        self._reverse_path = reverse_path
        self._recipients = recipients
        self._attempts: list[Attempt | None] = [None] * len(recipients)
        self._begin = trio.current_time()
        self._stage = Stage.CONNECT
        self._offered: tuple[str, ...] = ()
        self._parameters: list[str] = []

    async def run(self, message: bytes) -> list[Attempt]:
        """One attempt per recipient."""
        try:
            with self._within(self._sender.patience.connect):
                stream = await self._sender.network.connect(self._gateway, self._sender.source)
            async with stream:
                self._wire = Wire(stream)
                self._transcript = Transcript(f"{self._sender.name} to {self._gateway}")
                self._sender.transcripts.append(self._transcript)
                self._transcript.add("--", "connected")
                await self._converse(message)
        except _Ended as end:
            self._settle(end.text, end.state)
        except OSError as error:
            self._settle(str(error), State.DEFERRED)
        # A conversation that came to its end has settled everybody.
        return [attempt for attempt in self._attempts if attempt is not None]

    async def _converse(self, message: bytes) -> None:
        patience = self._sender.patience
        self._stage = Stage.GREETING
        greeting = await self._reply(patience.greeting)
        if not greeting.startswith("2"):
            raise _Ended(greeting)  # also a 5xx: another gateway may know better
        self._stage = Stage.HELLO
        await self._hello()
        self._choose_parameters(message)
        go_ahead = await (self._pipelined() if self._can("PIPELINING") else self._in_turn())
        if self._accepted():
            await self._message(message)
        else:
            if go_ahead:
                await self._send(b".\r\n")  # DATA was in the group; an empty message for nobody ends it
            await self._command("QUIT")

    # Before the message.

    async def _hello(self) -> None:
        verb = "LHLO" if self._sender.protocol == "lmtp" else "EHLO"
        await self._command(f"{verb} {self._sender.name}")
        reply = await self._reply(self._sender.patience.hello)
        if reply.startswith("5") and verb == "EHLO":
            await self._command(f"HELO {self._sender.name}")
            reply = await self._reply(self._sender.patience.hello)
        elif reply.startswith("2"):
            self._offered = tuple(line[4:].partition(" ")[0].upper() for line in reply.split("\n")[1:])
        if not reply.startswith("2"):
            raise _Ended(reply, _state(reply))

    def _can(self, extension: str) -> bool:
        return extension in self._offered and extension in self._sender.uses

    def _choose_parameters(self, message: bytes) -> None:
        if self._can("SIZE"):
            self._parameters.append(f"SIZE={len(message)}")
        if self._can("8BITMIME") and not message.isascii():
            self._parameters.append("BODY=8BITMIME")
        if not "".join([self._reverse_path, *self._recipients]).isascii():
            if not self._can("SMTPUTF8"):
                raise _Ended("SMTPUTF8 is required, but was not offered", State.REFUSED)
            self._parameters.append("SMTPUTF8")
        if self._can("PRDR") and len(self._recipients) > 1 and self._sender.protocol == "smtp":
            self._parameters.append("PRDR")

    def _mail_line(self) -> str:
        return " ".join([f"MAIL FROM:<{self._reverse_path}>", *self._parameters])

    async def _in_turn(self) -> bool:
        """The envelope, command by command; whether we are to send a message."""
        patience = self._sender.patience
        await self._command(self._mail_line())
        await self._mail_reply()
        for position in self._open():
            await self._command(f"RCPT TO:<{self._recipients[position]}>")
            await self._rcpt_reply(position)
        if not self._accepted():
            return False
        await self._command("DATA")
        return await self._data_reply(patience.data)

    async def _pipelined(self) -> bool:
        """The envelope in one group; whether we are to send a message."""
        patience = self._sender.patience
        self._stage = Stage.MAIL
        rcpts = [f"RCPT TO:<{recipient}>" for recipient in self._recipients]
        await self._command(self._mail_line(), *rcpts, "DATA")
        await self._mail_reply()
        for position in range(len(self._recipients)):
            await self._rcpt_reply(position)
        return await self._data_reply(patience.data)

    async def _mail_reply(self) -> None:
        self._stage = Stage.MAIL
        reply = await self._reply(self._sender.patience.mail)
        if not reply.startswith("2"):
            self._settle(reply, _state(reply))

    async def _rcpt_reply(self, position: int) -> None:
        self._stage = Stage.RCPT
        reply = await self._reply(self._sender.patience.rcpt)
        if not reply.startswith("2"):
            self._settle(reply, _state(reply), [position])

    async def _data_reply(self, patience: float) -> bool:
        self._stage = Stage.DATA
        reply = await self._reply(patience)
        if not reply.startswith("3"):
            # A 2xx is no answer to DATA; only a 5xx is one for good.
            self._settle(reply, State.REFUSED if reply.startswith("5") else State.DEFERRED)
        return reply.startswith("3")

    def _open(self) -> list[int]:
        """The positions whose fate in this session is not known yet."""
        return [position for position, attempt in enumerate(self._attempts) if attempt is None]

    _accepted = _open  # once all RCPT replies are in

    # The message and what follows.

    async def _message(self, message: bytes) -> None:
        patience = self._sender.patience
        self._stage = Stage.BODY
        stuffed = _stuffed(message)
        for begin in range(0, len(stuffed), _CHUNK):
            with self._within(patience.body):
                await self._send(stuffed[begin : begin + _CHUNK])
        self._stage = Stage.DOT
        self._transcript.add("C", f"[{len(stuffed) + 3} bytes with the dot]")
        with self._within(patience.body):
            if self._can("PIPELINING"):
                self._transcript.add("C", "QUIT")
                await self._send(b".\r\nQUIT\r\n")
            else:
                await self._send(b".\r\n")
        await self._dot_replies()
        if not self._can("PIPELINING"):
            await self._command("QUIT")

    async def _dot_replies(self) -> None:
        patience, accepted = self._sender.patience.dot, self._accepted()
        if self._sender.protocol == "lmtp":
            for position in accepted:
                reply = await self._reply(patience)
                self._settle(reply, _state(reply), [position])
            return
        reply = await self._reply(patience)
        if "PRDR" in self._parameters and reply.startswith("353"):
            each = [await self._reply(patience) for _ in accepted]
            reply = await self._reply(patience)
            if reply.startswith("2"):  # only now do the others count; a refusal is one for all
                for position, own in zip(accepted, each, strict=True):
                    self._settle(own, _state(own), [position])
        self._settle(reply, _state(reply))

    def _settle(self, text: str, state: State, positions: Sequence[int] | None = None) -> None:
        """That is what came of those recipients, or of all that are open."""
        attempt = Attempt(self._gateway, self._stage, text, state, trio.current_time() - self._begin)
        for position in self._open() if positions is None else positions:
            if self._attempts[position] is None:
                self._attempts[position] = attempt

    # The wire.

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise _Ended(f"timed out after {seconds:g} s")

    async def _send(self, data: bytes) -> None:
        try:
            await self._wire.send(data)
        except trio.BrokenResourceError:
            raise _Ended("connection lost") from None

    async def _command(self, *lines: str) -> None:
        for line in lines:
            self._transcript.add("C", line)
        with self._within(self._sender.patience.hello):
            await self._send("".join(f"{line}\r\n" for line in lines).encode())

    async def _reply(self, seconds: float) -> str:
        """A whole reply, its lines joined by newlines."""
        lines: list[str] = []
        with self._within(seconds):
            while not lines or lines[-1][3:4] == "-":
                lines.append(await self._reply_line())
        return "\n".join(lines)

    async def _reply_line(self) -> str:
        while b"\n" not in self._wire.received:
            if self._wire.ended:
                self._transcript.add("--", "connection lost")
                raise _Ended("connection lost")
            await self._wire.receive()
        end = self._wire.received.index(b"\n") + 1
        line = bytes(self._wire.received[:end])
        del self._wire.received[:end]
        text = shown(line.removesuffix(b"\n").removesuffix(b"\r"))
        self._transcript.add("S", text)
        if not line.endswith(b"\r\n") or not _REPLY_LINE.fullmatch(text):
            raise _Ended(f"not a reply: {text[:60]}")
        return text
