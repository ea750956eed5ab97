"""A mail server that takes mail, and puts it into mailboxes that outlive its crashes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import trio

from mailgate.network import Address, Network, TcpAddress, UnixAddress
from mailgate.testing import (
    Close,
    Delay,
    Delivered,
    During,
    Question,
    Reset,
    Script,
    ScriptedMTA,
    Silence,
    Step,
    Violation,
)
from sim.content import digest, via
from sim.records import Copy, History
from sim.temper import (
    BUSY,
    FULL,
    UNKNOWN,
    Room,
    Span,
    Temper,
    message_id,
    one_reply_each,
    picked,
    poisoned,
    room,
    spell,
)

_Steps = tuple[Step, ...]

_REFUSED: _Steps = ("451 4.3.2 Overloaded, try later",)
_CLOSED: _Steps = ("421 4.3.2 Overloaded, closing", Close())
_TOO_BUSY = (_REFUSED, _CLOSED)
_OVERLOADED = ("greeting", "ehlo", "helo", "lhlo", "mail", "rcpt", "data", "dot", "prdr_start")

_POISONS: tuple[_Steps, ...] = (
    ("421 4.7.0 I do not feel well", Close()),
    ("451 4.7.0 Not now",),
    (Reset(),),
    (Silence(),),
)

_NO_MEMORY_OF_ACCEPT = 1.0  # seconds until the next try, when the system has no resources for a connection


class Receiver:
    """A receiving server. Its mailboxes, what it remembers and `overload` outlive its program."""

    def __init__(self, name: str, temper: Temper, history: History, random: random.Random) -> None:
        self.name = name
        self.temper = temper
        self._history = history
        self._random = random
        self._overloaded = 0.0  # until then
        self._first: dict[tuple[str, ...], float] = {}  # when something was asked for the first time
        self._mta = ScriptedMTA(name, temper.protocol, self._script(), remember=0, on_message=self._take)
        self._judges: Mapping[str, Callable[[Question], Step | None]] = {
            "mail": self._mail,
            "rcpt": self._rcpt,
            "dot": self._dot,
            "prdr_start": self._prdr_start,
            "prdr_end": self._prdr_end,
        }

    @property
    def open_sessions(self) -> int:
        """Connections that are being served."""
        return self._mta.open_sessions

    async def program(self, network: Network) -> None:
        """Listen, and serve each connection in a task of its own, until cancelled. Raises OSError from `listen`."""
        async with trio.open_nursery() as nursery:
            for address in self.temper.addresses:
                nursery.start_soon(self._listen, network, address, nursery)

    def overload(self, until: float) -> None:
        """Answer 4xx to everything until then, a 421 with the end of the connection among them.

        Sessions outside a transaction hear 421 at once, unasked.
        """
        self._overloaded = max(self._overloaded, until)
        self._mta.dismiss(*_CLOSED)

    async def _listen(self, network: Network, address: Address, nursery: trio.Nursery) -> None:
        async with await network.listen(address) as incoming:
            while True:
                try:
                    stream, peer, _ = await incoming.accept()
                except OSError:
                    await trio.sleep(_NO_MEMORY_OF_ACCEPT)
                    continue
                nursery.start_soon(self._serve, stream, peer)

    async def _serve(self, stream: trio.abc.Stream, peer: Address) -> None:
        try:
            await self._mta.handle(stream, peer)
        except Violation as violation:
            self._history.violations.append(str(violation))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # nothing more can be said there, and nobody else minds

    def _take(self, message: Delivered) -> None:
        """Into the mailboxes, before anybody is told."""
        if not message.taken:
            return
        name, seen, hops = message_id(message.reverse_path), digest(message.content), via(message.content)
        self._history.copies += [
            Copy(name, recipient, self.name, message.time, seen, hops) for recipient in message.taken
        ]

    # What it says.

    def _script(self) -> Script:
        ask = self._decide
        return Script(
            extensions=self.temper.extensions,
            greeting=ask,
            ehlo=ask,
            helo=ask,
            lhlo=ask,
            mail=ask,
            rcpt=ask,
            data=ask,
            dot=ask,
            rset=ask,
            prdr_start=ask,
            prdr_end=ask,
            body=(During(0, ask),),
        )

    def _decide(self, asked: Question) -> _Steps | None:
        """Overload comes before poison, and that before the server's own ways."""
        if asked.time < self._overloaded and asked.stage in _OVERLOADED:
            steps: _Steps = self._random.choice(_TOO_BUSY)
        elif poisoned(asked.reverse_path) == asked.stage and self._age(asked.reverse_path) < self.temper.poison:
            steps = self._random.choice(_POISONS)
            if asked.stage == "body":
                # By then something has come. Whoever refused a message before its end must not take it behind that.
                steps = (Delay(self._random.uniform(0, 2)), *steps, Close())
        else:
            judge = self._judges.get(asked.stage)
            reply = judge(asked) if judge else None
            steps = () if reply is None else (reply,)
        delay = self._delay(asked)
        return (Delay(delay), *steps) if delay else steps or None

    def _delay(self, asked: Question) -> float:
        if asked.stage == "body":
            return 0.0
        storing = self.temper.storing if asked.stage == "dot" and asked.position == 0 else Span()
        return sum(self._random.uniform(span.least, span.most) for span in (self.temper.pace, storing) if span.most)

    def _mail(self, asked: Question) -> Step | None:
        if not self._refuses(self.temper.senders, asked):
            return None
        return self._for_good_or_not(asked, "550 5.7.1 Your mail is not welcome", "451 4.7.1 Your mail can wait")

    def _rcpt(self, asked: Question) -> Step | None:
        temper, recipient = self.temper, asked.recipient
        if recipient.startswith(UNKNOWN):
            return "550 5.1.1 No such user"
        if temper.greylist and self._age(_network(asked.peer), asked.reverse_path, recipient) < temper.greylist:
            return "451 4.7.1 Greylisted, come again"
        if recipient.startswith(BUSY) and self._is_busy(asked.reverse_path, recipient):
            return "451 4.2.1 Mailbox is busy, try later"
        if recipient.startswith(FULL) and not one_reply_each(asked, temper.protocol):
            return self._full(asked)
        return None

    def _dot(self, asked: Question) -> Step | None:
        refusal = self._content(asked) if "PRDR" not in asked.parameters else None
        own = asked.recipient.startswith(FULL) and one_reply_each(asked, self.temper.protocol)
        return refusal or (self._full(asked) if own else None) or self._passing(asked)

    def _passing(self, asked: Question) -> Step | None:
        """What is over soon, so that it is worth waiting."""
        share = self.temper.passing
        about = (asked.reverse_path, asked.recipient if one_reply_each(asked, self.temper.protocol) else "")
        if not share or not picked(share, self.name, "passing", *about):
            return None
        return "451 4.3.0 Not just now" if self._age("passing", *about) < spell(*about) else None

    def _full(self, asked: Question) -> Step | None:
        """By the recipient's position: each copy that a transaction wants to put there has an answer of its own."""
        match room(asked.recipient):
            case Room.NONE:
                return "552 5.2.2 Mailbox is full"
            case Room.SOON if self._is_busy(asked.reverse_path, asked.recipient):
                return "452 4.2.2 Mailbox is full, try later"
            case Room.ONE if asked.recipient in asked.recipients[: asked.position]:
                return "552 5.2.2 No room for another copy"
        return None

    def _prdr_start(self, asked: Question) -> Step | None:
        """The message's content may be refused by one reply for all …"""
        return None if self._late(asked) else self._content(asked)

    def _prdr_end(self, asked: Question) -> Step | None:
        """… or when all have had theirs: then only this one counts."""
        return self._content(asked) if self._late(asked) else None

    def _late(self, asked: Question) -> bool:
        return picked(0.5, "late", asked.reverse_path)

    def _content(self, asked: Question) -> Step | None:
        if not self._refuses(self.temper.contents, asked):
            return None
        return self._for_good_or_not(asked, "554 5.7.1 Content refused", "451 4.7.1 Content must be looked at")

    def _refuses(self, share: float, asked: Question) -> bool:
        stage = "mail" if asked.stage == "mail" else "dot"
        return bool(share) and picked(share, self.name, stage, message_id(asked.reverse_path))

    def _for_good_or_not(self, asked: Question, for_good: str, for_now: str) -> Step | None:
        if picked(0.5, "for good", asked.reverse_path):
            return for_good
        return for_now if self._is_busy(asked.stage, asked.reverse_path) else None

    def _is_busy(self, *about: str) -> bool:
        return self._age(*about) < self.temper.busy

    def _age(self, *about: str) -> float:
        """Seconds since that was asked for the first time."""
        now = trio.current_time()
        return now - self._first.setdefault(about, now)


def _network(peer: Address | None) -> str:
    match peer:
        case TcpAddress(ip) if ":" in ip:
            return ":".join(ip.split(":")[:4])
        case TcpAddress(ip):
            return ip.rpartition(".")[0]
        case UnixAddress(path):
            return path
    return ""
