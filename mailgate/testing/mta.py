"""A mail server whose behaviour is a table: a next hop for tests, the demo, and programs that embed mailgate.

It shares no code with mailgate's own protocol modules: it is a witness of what they send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import trio

from mailgate.network import Address
from mailgate.testing.message import Delivered, Message, MessageError
from mailgate.testing.mta_wire import READ, MTAWire, SessionOver, Violation
from mailgate.testing.script import (
    BodyAction,
    Delay,
    During,
    Plan,
    Question,
    Script,
    SlowReading,
    Speaks,
    Step,
    StopReading,
    Turns,
    ends,
    reply_of,
)
from mailgate.testing.transcript import Transcript, remembered

__all__ = ["ScriptedMTA", "Violation"]

_PATH = r'<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>((?: [^ ]+)*)'
_MAIL = re.compile(r"MAIL FROM:" + _PATH, re.IGNORECASE)
_RCPT = re.compile(r"RCPT TO:" + _PATH, re.IGNORECASE)

_KEYWORD_OF = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "PRDR": "PRDR"}
"""MAIL parameters → the extension that must have been offered"""

_LAST_IN_GROUP = ("EHLO", "HELO", "LHLO", "DATA", "VRFY", "QUIT", "NOOP")
"""commands that no other may follow before their reply, pipelining or not (RFC 2920 section 3.1)"""


class ScriptedMTA:
    """An SMTP or LMTP server that does what its script says, and records what it was told.

    `handle` fits `MemoryNetwork.serve(address, mta.handle)` and `trio.serve_tcp(mta.handle, port)`. The script
    may be replaced at any time; it holds from the next reply on, in open sessions too. A client that breaks the
    protocol (line ends, dot-stuffing, order, parameters or pipelining that were not offered) ends `handle` with
    a `Violation`.
    """

    def __init__(
        self,
        name: str,
        protocol: Speaks = "smtp",
        script: Script | None = None,
        *,
        keep: int | None = None,
        remember: int | None = None,
        on_message: Callable[[Delivered], None] | None = None,
    ) -> None:
        """`keep` bounds the bytes of each message's content that are kept; None: all.

        `remember`: of how many messages and sessions, the newest ones, records are kept; None: of all.
        `on_message` is called for each message whose dot has arrived, before any reply to it is written. Its
        `replies` are those that are going to be. It must not raise.
        """
        self.name = name
        self.protocol = protocol
        self.keep = keep
        self.remember = remember
        self.on_message = on_message
        self.messages: list[Delivered] = []
        """every message whose dot arrived, in the order of the dots; at most `remember`"""
        self.sessions: list[Transcript] = []
        """what was said, one transcript per connection; at most `remember`"""
        self.connections = 0
        """that there were until now"""
        self.unfinished = 0
        """messages that were begun (354 was said), and whose dot has not come"""
        self._open: dict[int, _Session] = {}
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
    def open_sessions(self) -> int:
        """Connections that are being served."""
        return len(self._open)

    @property
    def taken(self) -> list[tuple[str, str]]:
        """(recipient, SHA-256 of the content) for each time that it took a message for a recipient."""
        return [(recipient, message.sha256) for message in self.messages for recipient in message.taken]

    async def handle(self, stream: trio.abc.Stream, peer: Address | None = None) -> None:
        """Serve one connection until it ends, and close it. Raises Violation."""
        self.connections += 1
        number = self.connections
        transcript = Transcript(f"{self.name}#{number}")
        remembered(self.sessions, transcript, self.remember)
        transcript.add("--", f"connection from {peer}" if peer else "connection")
        self._open[number] = session = _Session(self, number, MTAWire(self.name, stream, transcript), peer)
        try:
            async with stream:
                await session.run()
        finally:
            del self._open[number]

    def dismiss(self, *steps: Step) -> None:
        """Do this now in each session that waits for a command outside a transaction, unasked.

        `mta.dismiss("421 4.3.2 too busy", Close())` is what servers do that are shut down or short of something.
        """
        for session in self._open.values():
            session.wire.dismiss(steps)

    def _received(self, message: Delivered) -> None:
        remembered(self.messages, message, self.remember)
        if self.on_message is not None:
            self.on_message(message)

    def _turn(self, stage: str, address: str) -> int:
        """How often that was due before, since the script was set."""
        turn = self._turns.get((stage, address), 0)
        self._turns[stage, address] = turn + 1
        return turn


class _Session:
    """One connection."""

    def __init__(self, mta: ScriptedMTA, number: int, wire: MTAWire, peer: Address | None) -> None:
        self.wire = wire
        self._mta = mta
        self._number = number
        self._peer = peer
        self._offered: dict[str, str] | None = None  # None until a greeting command was accepted
        self._forget()

    def _forget(self) -> None:
        """Back to where no transaction is."""
        self._mail_sent = False
        self._mail_accepted = False
        self._reverse_path = ""
        self._parameters: tuple[str, ...] = ()
        self._recipients: list[str] = []
        self._message: Message | None = None
        self._content = b""  # once its dot has come

    async def run(self) -> None:
        wire = self.wire
        try:
            await self._do("greeting", self._mta.script.greeting, f"220 {self._mta.name} ready")
            while True:
                while not (wire.buffer or self._mail_accepted):
                    await wire.idle()
                await self._command(await wire.line())
        except SessionOver:
            pass
        except trio.BrokenResourceError:
            wire.transcript.add("--", "connection lost")

    async def _command(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        if not line.isascii() and "SMTPUTF8" not in (self._offered or {}):
            self.wire.violation("a command with non-ASCII characters, without SMTPUTF8")
        if self.wire.buffer and "PIPELINING" not in (self._offered or {}):
            self.wire.violation("commands in a group, without PIPELINING")
        if self.wire.buffer and verb in _LAST_IN_GROUP:
            self.wire.violation(f"something was sent behind {verb} before its reply")
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
                raise SessionOver
            case _:
                self.wire.violation("an unknown command")

    async def _hello(self, verb: str) -> None:
        if (verb == "LHLO") is not (self._mta.protocol == "lmtp"):
            self.wire.violation(f"{verb} to a server that speaks {self._mta.protocol.upper()}")
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
            self.wire.violation("MAIL before a greeting command that was accepted")
        if self._mail_accepted:
            self.wire.violation("MAIL inside a transaction")
        reverse_path, parameters = self._path(_MAIL, line)
        for parameter in parameters:
            keyword = parameter.partition("=")[0].upper()
            if _KEYWORD_OF.get(keyword) not in self._offered:
                self.wire.violation(f"the parameter {keyword}, which was not offered")
        if not line.isascii() and "SMTPUTF8" not in parameters:
            self.wire.violation("a non-ASCII address without the parameter SMTPUTF8")
        self._forget()
        self._reverse_path, self._parameters = reverse_path, parameters
        reply = await self._do("mail", self._mta.script.mail, "250 2.1.0 sender ok")
        self._mail_sent, self._mail_accepted = True, reply.startswith("2")

    async def _rcpt(self, line: str) -> None:
        if not self._mail_sent:
            self.wire.violation("RCPT without MAIL")
        recipient, parameters = self._path(_RCPT, line)
        if parameters:
            self.wire.violation("parameters of RCPT, of which none was offered")
        if not self._mail_accepted:
            await self._do("", None, "503 5.5.1 no sender was accepted")
            return
        script = self._mta.script
        stage, plan = _own_or("recipients", script.recipients, "rcpt", script.rcpt, recipient)
        reply = await self._do(stage, plan, "250 2.1.5 recipient ok", recipient, len(self._recipients))
        if reply.startswith("2"):
            self._recipients.append(recipient)

    def _path(self, grammar: re.Pattern[str], line: str) -> tuple[str, tuple[str, ...]]:
        found = grammar.fullmatch(line)
        if found is None:
            self.wire.violation("bad syntax")
        return found[1], tuple(found[2].split())

    # The message.

    async def _data(self) -> None:
        if not self._mail_sent:
            self.wire.violation("DATA without MAIL")
        usual = "354 go ahead" if self._recipients else "503 5.5.1 no recipient was accepted"
        if not (await self._do("data", self._mta.script.data, usual)).startswith("3"):
            return
        self._message = message = Message(self._mta.keep)
        self._mta.unfinished += 1
        try:
            await self._read(message)
        except MessageError as error:
            self.wire.violation(str(error))
        finally:
            if message.finished:
                self._mta.unfinished -= 1
            else:
                self.wire.transcript.add("C", f"[{message.received} bytes without a dot]")
        self.wire.transcript.add("C", f"[{message.received} bytes with the dot]")
        if self.wire.buffer and "PIPELINING" not in (self._offered or {}):
            self.wire.violation("something was sent behind the dot before its reply, without PIPELINING")
        self._content = bytes(message.content)
        plans, replies, final = self._outcomes()
        self._mta._received(
            Delivered(
                self._reverse_path,
                self._parameters,
                tuple(self._recipients),
                replies,
                self._content,
                message.size,
                message.digest.hexdigest(),
                trio.current_time(),
                final,
            )
        )
        self._forget()
        for steps in plans:
            await self._perform(steps)

    def _outcomes(self) -> tuple[list[tuple[Step, ...]], tuple[str, ...], str]:
        """What to do after the dot, step by step; what each recipient's reply thereby is, and PRDR's final one."""
        script, recipients = self._mta.script, self._recipients
        usual = "250 2.0.0 taken"
        start: tuple[Step, ...] = ()
        if "PRDR" in self._parameters:
            start = self._steps("prdr_start", script.prdr_start, "353 one reply per recipient follows")
            if not reply_of(start).startswith("353") or ends(start):  # one reply for all may come in its place
                return [start], (reply_of(start),) * len(recipients), ""
        elif self._mta.protocol == "smtp":
            steps = self._steps("dot", script.dot, usual)
            return [steps], (reply_of(steps),) * len(recipients), ""
        each: list[tuple[Step, ...]] = []
        for position, recipient in enumerate(recipients):
            stage, plan = _own_or("outcomes", script.outcomes, "dot", script.dot, recipient)
            each.append(self._steps(stage, plan, usual, recipient, position))
            if ends(each[-1]):
                break
        told = [reply_of(steps) for steps in each]
        replies = (*told, *[""] * (len(recipients) - len(told)))
        if not start or (each and ends(each[-1])):
            return [start, *each], replies, ""
        taken = any(reply.startswith("2") for reply in replies)
        usual = "250 2.0.0 taken, for some" if taken else replies[0] or "451 4.3.0 taken for none"
        end = self._steps("prdr_end", script.prdr_end, usual)
        return [start, *each, end], replies, reply_of(end)

    async def _read(self, message: Message) -> None:
        actions = sorted(self._mta.script.body, key=lambda action: action.at)
        rate = 0.0
        while not message.finished:
            while actions and actions[0].at <= message.received:
                rate = await self._act(actions.pop(0)) or rate
            limit = actions[0].at - message.received if actions else READ
            if rate:
                limit = min(limit, max(1, int(rate / 10)))  # ten bites a second
            data = await self.wire.receive(limit)
            if rate:
                await trio.sleep(len(data) / rate)
            self.wire.buffer[:0] = message.feed(data)

    async def _act(self, action: BodyAction) -> float:
        """Do it; the rate at which the message is to be read from now on, or 0."""
        match action:
            case StopReading():
                self.wire.transcript.add("--", f"the server stops reading at byte {action.at}")
                await trio.sleep_forever()
            case SlowReading():
                return action.bytes_per_second
            case During():
                await self._do("body", action.plan, "")
        return 0

    # What goes out.

    async def _do(self, stage: str, plan: Plan | None, usual: str, recipient: str = "", position: int = 0) -> str:
        """Do what is due; the reply that was given, or ""."""
        steps = self._steps(stage, plan, usual, recipient, position)
        await self._perform(steps)
        return reply_of(steps)

    def _steps(
        self, stage: str, plan: Plan | None, usual: str, recipient: str = "", position: int = 0
    ) -> tuple[Step, ...]:
        """What to do now, where that plan is due."""
        if callable(plan):
            plan = plan(self._question(stage, recipient, position))
        if isinstance(plan, Turns):
            turn = self._mta._turn(stage, recipient if stage in ("recipients", "outcomes") else "")
            plan = plan.plans[min(turn, len(plan.plans) - 1)]
        steps = plan if isinstance(plan, tuple) else () if plan is None else (plan,)
        return (*steps, usual) if usual and all(isinstance(step, Delay) for step in steps) else steps

    def _question(self, stage: str, recipient: str, position: int) -> Question:
        message = self._message
        return Question(
            stage=stage,
            time=trio.current_time(),
            session=self._number,
            peer=self._peer,
            reverse_path=self._reverse_path,
            parameters=self._parameters,
            recipient=recipient,
            recipients=tuple(self._recipients),
            position=position,
            size=message.size if message else 0,
            sha256=message.digest.hexdigest() if message and message.finished else "",
            content=self._content,
        )

    async def _perform(self, steps: Sequence[Step]) -> None:
        if steps and self._mta.script.pace:
            await trio.sleep(self._mta.script.pace)
        await self.wire.perform(steps)


def _own_or(
    own: str, plans: Mapping[str, Plan], every: str, plan: Plan | None, recipient: str
) -> tuple[str, Plan | None]:
    """A recipient's own plan, or that for all, with the name of the field that has it."""
    return (own, plans[recipient]) if recipient in plans else (every, plan)
