"""The event log of a run: one line of text for each thing that happened, and a hash over all of them.

Two runs of a seed are the same run if their logs are, byte for byte, whatever the process, its hash seed or the version
of Python. So nothing in a line depends on the order of a set or on where an object is in memory.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from mailgate.network import Answer
from sim.records import Asked, End, History, Said, Session, Transaction

_Entry = tuple[float, str]

_TOP = 256
"""octets of a message that are in the log: there a gateway has put its `Received:` line"""

_WHERE_IN_MEMORY = re.compile(r" at 0x[0-9a-fA-F]+")


def lines(history: History) -> Iterator[str]:
    """All that happened, in order of time; at the same time in the order of `_TELLERS`, and there in the record's."""
    yield f"seed={history.seed} gateways={_text(history.gateways)}"
    entries = [entry for tell in _TELLERS for entry in tell(history)]
    entries.sort(key=lambda entry: entry[0])
    for time, text in entries:
        yield f"{time!r} {text}"
    yield from (f"violation {_text(one)}" for one in history.violations)
    yield from (f"left {_text(one)}" for one in history.left)
    yield f"calm={history.calm!r} ended={history.ended!r}"


def digest(history: History) -> str:
    """The hash of the event log, 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    for line in lines(history):
        found.update(line.encode())
        found.update(b"\n")
    return found.hexdigest()


def plain(value: object) -> str:
    """Any value of a log line as text that says the same in every process."""
    match value:
        case str():
            return value
        case enum.Enum():
            return plain(value.value)
        case float():
            return repr(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case Mapping():
            return ", ".join(sorted(f"{plain(key)}: {plain(of)}" for key, of in value.items()))
        case AbstractSet():
            return ", ".join(sorted(plain(one) for one in value))
        case list() | tuple():
            return ", ".join(plain(one) for one in value)
        case _:
            return _WHERE_IN_MEMORY.sub("", str(value))


def _text(value: object) -> str:
    """In quotes and in ASCII: which characters are printable differs between versions of Python."""
    return ascii(plain(value))


def _sessions(history: History) -> Iterator[_Entry]:
    for session in history.sessions:
        name = f"session {session.number}"
        yield (
            session.connecting,
            f"{name} connects {session.client}/{session.client_life} {session.client_address}"
            f" to {session.server}/{session.server_life} {session.server_address}"
            f" established={_time(session.established)} error={_text(session.error)} lmtp={session.lmtp}"
            f" phase={session.phase.value} faults={_text(session.faults)}",
        )
        for time, text in _dialog(session):
            yield time, f"{name} {text}"


def _dialog(session: Session) -> Iterator[_Entry]:
    if session.greeting is not None:
        yield session.greeting.written, f"greeting {_said(session.greeting)}"
    for asked in session.commands:
        yield asked.written, f"command {_asked(asked)}"
    for transaction in session.transactions:
        yield from _transaction(transaction)
    for said in session.unasked:
        yield said.written, f"unasked {_said(said)}"
    if session.client_end is not None:
        yield _end("client", session.client_end)
    if session.server_end is not None:
        yield _end("server", session.server_end)
    if session.broken is not None:
        yield session.broken, "broken"


def _end(side: str, end: tuple[float, End]) -> _Entry:
    return end[0], f"{side} {end[1].value}"


def _transaction(transaction: Transaction) -> Iterator[_Entry]:
    mailboxes = [mailbox for mailbox, _ in transaction.rcpts]
    dot = transaction.dot_written
    yield (
        transaction.mail.written,
        f"transaction {_text(transaction.reverse_path)} parameters={_text(transaction.parameters)}"
        f" to={_text(mailboxes)} octets={transaction.octets} top={_text(transaction.content[:_TOP])}"
        f" digest={transaction.digest} dot={_time(dot)} arrived={_time(transaction.dot_arrived)}",
    )
    for said in transaction.outcomes:
        yield said.written, f"outcome {_said(said)}"


def _asked(asked: Asked) -> str:
    reply = "none" if asked.reply is None else _said(asked.reply)
    return f"{_text(asked.line)} arrived={_time(asked.arrived)} reply: {reply}"


def _said(said: Said) -> str:
    return f"{said.code} {_text(said.text)} written={said.written!r} arrived={_time(said.arrived)}"


def _time(time: float | None) -> str:
    return "never" if time is None else repr(time)


def _messages(history: History) -> Iterator[_Entry]:
    for one in history.messages.values():
        yield (
            one.submitted,
            f"message {one.id} at {one.sender} from={_text(one.reverse_path)} to={_text(one.recipients)}"
            f" digest={one.digest} size={one.size} outbound={one.outbound} foreign={one.foreign}"
            f"{f' twin={one.twin}' if one.twin else ''}",
        )


def _faults(history: History) -> Iterator[_Entry]:
    for one in history.faults:
        yield one.time, f"fault {one.kind.value} of {_text(one.target)} until {one.until!r}"


def _hits(history: History) -> Iterator[_Entry]:
    for one in history.hits:
        yield one.time, f"hit {one.kind.value} in {one.phase.value} of {one.side.value} session {one.session}"


def _crashes(history: History) -> Iterator[_Entry]:
    for one in history.crashes:
        yield one.time, f"crash {one.host}/{one.life} until {one.until!r}"


def _lookups(history: History) -> Iterator[_Entry]:
    for one in history.lookups:
        answer = one.answer
        told = f"{_text(answer.records)} ttl={answer.ttl!r}" if isinstance(answer, Answer) else answer.value
        yield one.time, f"look-up by {one.host} of {_text(one.name)} {one.record_type}: {told}"


def _askings(history: History) -> Iterator[_Entry]:
    for one in history.askings:
        what = "takes" if one.takes else f"makes for {one.seconds!r}"
        yield (
            one.time,
            f"ledger asked by {one.gateway}/{one.life} {what} {_text(one.marks)} done={_time(one.done)}"
            f" answered={_time(one.answered)} refused={one.refused} broken={one.broken} found={_text(one.found)}",
        )
    yield from ((time, "ledger forgets all") for time in history.forgotten)


def _log(history: History) -> Iterator[_Entry]:
    for one in history.log:
        fields = " ".join(f"{key}={_text(one.fields[key])}" for key in sorted(one.fields))
        yield one.time, f"log {one.gateway}/{one.life} {fields}"


def _copies(history: History) -> Iterator[_Entry]:
    for one in history.copies:
        yield (
            one.time,
            f"copy of {one.message} for {_text(one.recipient)} at {one.receiver} digest={one.digest}"
            f" via={_text(one.via)}",
        )


def _attempts(history: History) -> Iterator[_Entry]:
    for one in history.attempts:
        yield (
            one.ended,
            f"attempt of {one.message} {one.position} at {one.gateway} began={one.began!r} {one.state}"
            f" at {one.stage}: {_text(one.text)}",
        )


def _settled(history: History) -> Iterator[_Entry]:
    for one in history.settled:
        yield one.time, f"settled {one.message} {one.position} {one.state}: {_text(one.text)}"


_TELLERS: tuple[Callable[[History], Iterator[_Entry]], ...] = (
    _messages,
    _faults,
    _crashes,
    _hits,
    _lookups,
    _askings,
    _sessions,
    _log,
    _copies,
    _attempts,
    _settled,
)
