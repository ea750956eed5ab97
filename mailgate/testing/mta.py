"""A mail server whose behaviour is a table: a next hop for tests, the demo, and programs that embed mailgate.

It shares no code with mailgate's own protocol modules: it is a witness of what they send.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import trio

from mailgate.network import Address
from mailgate.testing.message import Delivered, Message, MessageError
from mailgate.testing.script import (
    BodyAction,
    Close,
    Delay,
    During,
    Plan,
    Raw,
    Reset,
    Script,
    Silence,
    SlowReading,
    Speaks,
    Step,
    StopReading,
    Turns,
    ends,
    reply_of,
)
from mailgate.testing.streams import reset
from mailgate.testing.transcript import Transcript, shown

_COMMAND_LIMIT = 512 + 26 + 17 + 10
"""octets of a command line: RFC 5321 section 4.5.3.1.4, and what SIZE, 8BITMIME and SMTPUTF8 add to MAIL"""

_READ = 65_536  # bytes asked for at a time

_PATH = r'<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>((?: [^ ]+)*)'
_MAIL = re.compile(r"MAIL FROM:" + _PATH, re.IGNORECASE)
_RCPT = re.compile(r"RCPT TO:" + _PATH, re.IGNORECASE)

_KEYWORD_OF = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "PRDR": "PRDR"}
"""MAIL parameters → the extension that must have been offered"""

_LAST_IN_GROUP = ("EHLO", "HELO", "LHLO", "DATA", "VRFY", "QUIT", "NOOP")
"""commands that no other may follow before their reply, pipelining or not (RFC 2920 section 3.1)"""


class Violation(AssertionError):
    """The client broke the protocol. The message has what it did and the dialog until then."""


class ScriptedMTA:
    """An SMTP or LMTP server that does what its script says, and records what it was told.

    `handle` fits `MemoryNetwork.serve(address, mta.handle)` and `trio.serve_tcp(mta.handle, port)`. The script
    may be replaced at any time; it holds from the next reply on, in open sessions too. A client that breaks the
    protocol (line ends, dot-stuffing, order, parameters or pipelining that were not offered) ends `handle` with
    a `Violation`.
    """

    def __init__(
        self, name: str, protocol: Speaks = "smtp", script: Script | None = None, *, keep: int | None = None
    ) -> None:
        """`keep` bounds the bytes of each message's content that are kept; None: all."""
        self.name = name
        self.protocol = protocol
        self.keep = keep
        self.messages: list[Delivered] = []
        """every message whose dot arrived, in the order of the dots"""
        self.sessions: list[Transcript] = []
        """what was said, one transcript per connection"""
        self.unfinished = 0
        """messages that were begun (354 was said), and whose dot has not come"""
        self.open_sessions = 0
        self._turns: dict[tuple[str, str], int] = {}
        self._script = script or Script()

    @property
    def script(self) -> Script:
        """What it does. Setting it starts all `Turns` anew."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script
        self._turns.clear()

    @property
    def taken(self) -> list[tuple[str, str]]:
        """(recipient, SHA-256 of the content) for each time that it took a message for a recipient."""
        return [(recipient, message.sha256) for message in self.messages for recipient in message.taken]

    async def handle(self, stream: trio.abc.Stream, peer: Address | None = None) -> None:
        """Serve one connection until it ends, and close it. Raises Violation."""
        transcript = Transcript(f"{self.name}#{len(self.sessions) + 1}")
        self.sessions.append(transcript)
        transcript.add("--", f"connection from {peer}" if peer else "connection")
        self.open_sessions += 1
        try:
            async with stream:
                await _Session(self, stream, transcript).run()
        finally:
            self.open_sessions -= 1

    def _steps(self, stage: str, plan: Plan | None, usual: str, address: str = "") -> tuple[Step, ...]:
        """What to do now, where that plan is due."""
        if isinstance(plan, Turns):
            turn = self._turns.get((stage, address), 0)
            self._turns[stage, address] = turn + 1
            plan = plan.plans[min(turn, len(plan.plans) - 1)]
        steps = plan if isinstance(plan, tuple) else () if plan is None else (plan,)
        return (*steps, usual) if all(isinstance(step, Delay) for step in steps) else steps


class _SessionOver(Exception):
    """The script or the client ended the session."""


class _Session:
    """One connection."""

    def __init__(self, mta: ScriptedMTA, stream: trio.abc.Stream, transcript: Transcript) -> None:
        self._mta = mta
        self._stream = stream
        self._transcript = transcript
        self._buffer = bytearray()
        self._offered: dict[str, str] | None = None  # None until a greeting command was accepted
        self._forget()

    def _forget(self) -> None:
        """Back to where no transaction is."""
        self._mail_sent = False
        self._mail_accepted = False
        self._reverse_path = ""
        self._parameters: tuple[str, ...] = ()
        self._recipients: list[str] = []

    async def run(self) -> None:
        try:
            await self._do("greeting", self._mta.script.greeting, f"220 {self._mta.name} ready")
            while True:
                await self._command(await self._line())
        except _SessionOver:
            pass
        except trio.BrokenResourceError:
            self._transcript.add("--", "connection lost")

    # What comes in.

    async def _receive(self, limit: int = _READ) -> bytes:
        """At most that many octets, at least one."""
        if self._buffer:
            data = bytes(self._buffer[:limit])
            del self._buffer[:limit]
            return data
        data = bytes(await self._stream.receive_some(limit))
        if not data:
            self._transcript.add("--", "closed by the client")
            raise _SessionOver
        return data

    async def _line(self) -> str:
        received = bytearray()
        while b"\n" not in received:
            received += await self._receive()
            if len(received) > _COMMAND_LIMIT and b"\n" not in received[:_COMMAND_LIMIT]:
                self._violation(f"a command line of more than {_COMMAND_LIMIT} octets")
        end = received.index(b"\n") + 1
        line, self._buffer[:0] = bytes(received[:end]), received[end:]
        self._transcript.add("C", shown(line.removesuffix(b"\n").removesuffix(b"\r")))
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            self._violation("a command line that does not end in CRLF, or has a CR within")
        if not line.isascii() and "SMTPUTF8" not in (self._offered or {}):
            self._violation("a command with non-ASCII characters, without SMTPUTF8")
        try:
            return line[:-2].decode()
        except UnicodeDecodeError:
            self._violation("a command that is not UTF-8")

    async def _command(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        if self._buffer and "PIPELINING" not in (self._offered or {}):
            self._violation("commands in a group, without PIPELINING")
        if self._buffer and verb in _LAST_IN_GROUP:
            self._violation(f"something was sent behind {verb} before its reply")
        script, name = self._mta.script, self._mta.name
        match verb:
            case "EHLO" | "HELO" | "LHLO":
                await self._hello(verb)
            case "MAIL":
                await self._mail(line)
            case "RCPT":
                await self._rcpt(line)
            case "DATA":
                await self._data()
            case "RSET":
                self._forget()
                await self._do("rset", script.rset, "250 2.0.0 flushed")
            case "NOOP":
                await self._do("noop", script.noop, "250 2.0.0 ok")
            case "VRFY":
                await self._do("vrfy", script.vrfy, "252 2.1.5 not verified")
            case "QUIT":
                await self._do("quit", script.quit, f"221 2.0.0 {name} closes")
                raise _SessionOver
            case _:
                self._violation("an unknown command")

    async def _hello(self, verb: str) -> None:
        if (verb == "LHLO") is not (self._mta.protocol == "lmtp"):
            self._violation(f"{verb} to a server that speaks {self._mta.protocol.upper()}")
        script, name = self._mta.script, self._mta.name
        plan = {"EHLO": script.ehlo, "HELO": script.helo, "LHLO": script.lhlo}[verb]
        keywords = () if verb == "HELO" else script.extensions
        texts = [name, *keywords]
        usual = "\n".join([*(f"250-{text}" for text in texts[:-1]), f"250 {texts[-1]}"])
        reply = await self._do(verb.lower(), plan, usual)
        self._forget()
        if reply.startswith("2"):
            lines = () if verb == "HELO" else reply.split("\n")[1:]
            self._offered = {line[4:].partition(" ")[0].upper(): line[4:] for line in lines}

    async def _mail(self, line: str) -> None:
        if self._offered is None:
            self._violation("MAIL before a greeting command that was accepted")
        if self._mail_accepted:
            self._violation("MAIL inside a transaction")
        reverse_path, parameters = self._path(_MAIL, line)
        for parameter in parameters:
            keyword = parameter.partition("=")[0].upper()
            if _KEYWORD_OF.get(keyword) not in self._offered:
                self._violation(f"the parameter {keyword}, which was not offered")
        if not line.isascii() and "SMTPUTF8" not in parameters:
            self._violation("a non-ASCII address without the parameter SMTPUTF8")
        reply = await self._do("mail", self._mta.script.mail, "250 2.1.0 sender ok")
        self._forget()
        self._mail_sent = True
        if reply.startswith("2"):
            self._mail_accepted = True
            self._reverse_path, self._parameters = reverse_path, parameters

    async def _rcpt(self, line: str) -> None:
        if not self._mail_sent:
            self._violation("RCPT without MAIL")
        recipient, parameters = self._path(_RCPT, line)
        if parameters:
            self._violation("parameters of RCPT, of which none was offered")
        if not self._mail_accepted:
            await self._do("", None, "503 5.5.1 no sender was accepted")
            return
        script, usual = self._mta.script, "250 2.1.5 recipient ok"
        if recipient in script.recipients:
            reply = await self._do("recipient", script.recipients[recipient], usual, recipient)
        else:
            reply = await self._do("rcpt", script.rcpt, usual)
        if reply.startswith("2"):
            self._recipients.append(recipient)

    def _path(self, grammar: re.Pattern[str], line: str) -> tuple[str, tuple[str, ...]]:
        found = grammar.fullmatch(line)
        if found is None:
            self._violation("bad syntax")
        return found[1], tuple(found[2].split())

    # The message.

    async def _data(self) -> None:
        if not self._mail_sent:
            self._violation("DATA without MAIL")
        usual = "354 go ahead" if self._recipients else "503 5.5.1 no recipient was accepted"
        if not (await self._do("data", self._mta.script.data, usual)).startswith("3"):
            return
        message = Message(self._mta.keep)
        self._mta.unfinished += 1
        try:
            await self._read(message)
        except MessageError as error:
            self._violation(str(error))
        finally:
            if message.finished:
                self._mta.unfinished -= 1
            else:
                self._transcript.add("C", f"[{message.received} bytes without a dot]")
        self._transcript.add("C", f"[{message.received} bytes with the dot]")
        if self._buffer and "PIPELINING" not in (self._offered or {}):
            self._violation("something was sent behind the dot before its reply, without PIPELINING")
        plans, replies = self._outcomes()
        self._mta.messages.append(
            Delivered(
                self._reverse_path,
                self._parameters,
                tuple(self._recipients),
                replies,
                bytes(message.content),
                message.size,
                message.digest.hexdigest(),
                trio.current_time(),
            )
        )
        self._forget()
        for steps in plans:
            await self._perform(steps)

    def _outcomes(self) -> tuple[list[tuple[Step, ...]], tuple[str, ...]]:
        """What to do after the dot, step by step, and what each recipient's reply thereby is."""
        mta, script, recipients = self._mta, self._mta.script, self._recipients
        usual = "250 2.0.0 taken"
        start: tuple[Step, ...] = ()
        if "PRDR" in self._parameters:
            start = mta._steps("prdr_start", script.prdr_start, "353 one reply per recipient follows")
            if not reply_of(start).startswith("353") or ends(start):  # one reply for all may come in its place
                return [start], (reply_of(start),) * len(recipients)
        elif mta.protocol == "smtp":
            steps = mta._steps("dot", script.dot, usual)
            return [steps], (reply_of(steps),) * len(recipients)
        each: list[tuple[Step, ...]] = []
        for recipient in recipients:
            if recipient in script.outcomes:
                each.append(mta._steps("outcome", script.outcomes[recipient], usual, recipient))
            else:
                each.append(mta._steps("dot", script.dot, usual))
            if ends(each[-1]):
                break
        told = [reply_of(steps) for steps in each]
        replies = (*told, *[""] * (len(recipients) - len(told)))
        if not start:
            return each, replies
        taken = any(reply.startswith("2") for reply in replies)
        usual = "250 2.0.0 taken, for some" if taken else replies[0] or "451 4.3.0 taken for none"
        return [start, *each, mta._steps("prdr_end", script.prdr_end, usual)], replies

    async def _read(self, message: Message) -> None:
        actions = sorted(self._mta.script.body, key=lambda action: action.at)
        rate = 0.0
        while not message.finished:
            while actions and actions[0].at <= message.received:
                rate = await self._act(actions.pop(0)) or rate
            limit = actions[0].at - message.received if actions else _READ
            if rate:
                limit = min(limit, max(1, int(rate / 10)))  # ten bites a second
            data = await self._receive(limit)
            if rate:
                await trio.sleep(len(data) / rate)
            self._buffer[:0] = message.feed(data)

    async def _act(self, action: BodyAction) -> float:
        """Do it; the rate at which the message is to be read from now on, or 0."""
        match action:
            case StopReading():
                self._transcript.add("--", f"the server stops reading at byte {action.at}")
                await trio.sleep_forever()
            case SlowReading():
                return action.bytes_per_second
            case During():
                await self._perform(action.plan if isinstance(action.plan, tuple) else (action.plan,))
        return 0

    # What goes out.

    async def _do(self, stage: str, plan: Plan | None, usual: str, address: str = "") -> str:
        """Do what is due; the reply that was given, or ""."""
        steps = self._mta._steps(stage, plan, usual, address)
        await self._perform(steps)
        return reply_of(steps)

    async def _perform(self, steps: Sequence[Step]) -> None:
        await trio.sleep(self._mta.script.pace)
        for step in steps:
            match step:
                case str():
                    self._transcript.add("S", step)
                    await self._stream.send_all(step.replace("\n", "\r\n").encode() + b"\r\n")
                case Raw(data):
                    self._transcript.add("S", f"[raw] {shown(data)}")
                    await self._stream.send_all(data)
                case Delay(seconds):
                    await trio.sleep(seconds)
                case Close():
                    self._transcript.add("--", "closed by the server")
                    await self._stream.aclose()
                    raise _SessionOver
                case Reset():
                    self._transcript.add("--", "reset by the server")
                    await reset(self._stream)
                    raise _SessionOver
                case Silence():
                    self._transcript.add("--", "the server falls silent")
                    self._buffer.clear()
                    while True:
                        await self._receive()
                        self._buffer.clear()

    def _violation(self, what: str) -> NoReturn:
        self._transcript.add("--", f"violation: {what}")
        raise Violation(f"{self._mta.name}: {what}\n{self._transcript}")
