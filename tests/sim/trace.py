"""What happened in a run, to be read by a person: a client's session with a gateway, and all that belongs to it.

    ── 5f3a9c01d2e4 at gw1, from 100.000: m12 ──
      100.000           osend1 → gw1  #17   connects from 203.0.113.11:1025 to 192.0.2.1:25
      100.050           osend1 → gw1  #17   is open
      100.050  +0.025   osend1 ← gw1  #17   220 gw1.site.example SMTP mailgate
      100.075    lost   osend1 → gw1  #17   EHLO osend1.example

Time is in seconds of the run, when the octets were written; behind it is how much later all of them were in the other
host, or `lost` if they never were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from mailgate.text import escaped
from sim.event_log import plain
from sim.records import Asked, History, Logged, Message, Said, Session, Transaction
from sim.story import Stories, Story, last_time
from sim.summary import Finding

_ON_THE_WIRE = ("reply", "upstream_reply", "connected", "closed")
"""events of the gateways' logs that say what the dialogs say"""

_MESSAGE = re.compile(r"\bm\d+\b")

_AROUND = 10
"""faults that are named in the head of a story, at most"""


@dataclass(frozen=True, slots=True)
class _Line:
    """Of a story."""

    time: float
    who: str
    text: str
    arrived: str = ""
    colour: str | None = None


def listed(findings: Sequence[Finding]) -> Iterator[str]:
    """The findings, a line each."""
    for one in findings:
        session = "" if one.session is None else f", session {one.session}"
        yield click.style(f"{one.promise}: {escaped(one.what)} (at {one.time:.3f} s{session})", fg="red")


def tell(history: History, findings: Sequence[Finding], *, name: str = "", message: str = "") -> Iterator[str]:
    """The stories of a run, line by line: those of the findings, then the others.

    With a name only the gateway's session of that id, with a message (`m12`) only those in which it was sent.
    """
    stories = Stories(history)
    about: dict[Story, list[Finding]] = {}
    for finding in findings:
        for story in _of(stories, finding):
            about.setdefault(story, []).append(finding)
    if name:
        chosen = [story for story in stories.all if story.id == name]
        if not chosen:
            yield f"There is no session {escaped(name)}."
    elif message:
        yield from _message(history, message)
        chosen = stories.of_message(message)
    else:
        chosen = list(dict.fromkeys([*about, *stories.all]))
    for story in chosen:
        yield from _story(history, stories, story, about.get(story, []))


def _of(stories: Stories, finding: Finding) -> list[Story]:
    """The stories of its session, else of the messages that it names: those that were going on then, if any was."""
    if finding.session is not None:
        found = stories.of_session(finding.session)
    else:
        found = [story for message in _MESSAGE.findall(finding.what) for story in stories.of_message(message)]
    return [story for story in found if story.begins <= finding.time <= story.ends] or found


def _message(history: History, name: str) -> Iterator[str]:
    """What became of a message, recipient by recipient."""
    one = history.messages.get(name)
    if one is None:
        yield f"There is no message {name} in this run."
        return
    kind = "a stranger's" if one.foreign else "outbound" if one.outbound else "inbound"
    yield click.style(
        f"══ {name}: {one.size:,} octets from <{escaped(one.reverse_path)}>, {kind}, given to {one.sender}"
        f" at {one.submitted:.3f}{f', once more as {one.twin}' if one.twin else ''} ══",
        bold=True,
    )
    for position, recipient in enumerate(one.recipients):
        yield f"  [{position}] {escaped(recipient)}: {_fate(history, one, position)}"
        for copy in history.copies:
            if copy.message == one.name and copy.recipient == recipient:
                spoilt = "" if copy.digest == one.digest else "; NOT WHAT WAS SENT"
                yield f"      copy at {copy.receiver} at {copy.time:.3f}, through {', '.join(copy.via)}{spoilt}"
    yield ""


def _fate(history: History, message: Message, position: int) -> str:
    tries = sum(one.message == message.id and one.position == position for one in history.attempts)
    for one in history.settled:
        if one.message == message.id and one.position == position:
            return f"{one.state} at {one.time:.3f}, {tries} attempts: {escaped(one.text)}"
    return f"not settled, {tries} attempts"


def _story(history: History, stories: Stories, story: Story, findings: Sequence[Finding]) -> Iterator[str]:
    name = story.id or "unknown to the gateway"
    messages = ", ".join(stories.messages(story)) or "no message"
    yield click.style(f"── {name} at {story.gateway}, from {story.begins:.3f}: {messages} ──", bold=True)
    for text in listed(findings):
        yield f"  {text}"
    for text in _around(history, story):
        yield click.style(f"  {text}", fg="yellow")
    lines = sorted(_lines(history, stories, story), key=lambda line: line.time)
    width = max((len(line.who) for line in lines), default=0)
    for line in lines:
        text = f"{line.time:11.3f} {line.arrived:>9}  {line.who:<{width}}  {escaped(line.text)}"
        yield click.style(text, fg=line.colour) if line.colour else text
    yield ""


def _around(history: History, story: Story) -> Iterator[str]:
    """What was broken then, whether it reached these sessions or not."""
    broken = [
        one
        for one in history.faults
        if not one.target.startswith("session ") and one.time <= story.ends and one.until >= story.begins
    ]
    for one in broken[:_AROUND]:
        yield f"{one.kind.value}: {escaped(one.target)}, from {one.time:.3f} to {one.until:.3f}"
    if len(broken) > _AROUND:
        yield f"and {len(broken) - _AROUND} more faults"


def _lines(history: History, stories: Stories, story: Story) -> Iterator[_Line]:
    """At the same time in this order: so `committing` is before the dot, and `delivered` behind the reply."""
    if story.client is not None:
        yield from _session(stories, story.client, story.client.transactions, "")
    for line in (*story.log, *stories.unnamed(story)):
        if line.fields.get("event") not in _ON_THE_WIRE:
            yield _logged(line)
    for session in story.upstream.values():
        yield from _session(stories, session, stories.transactions(story, session), "    ")
    for session in stories.beside(story):
        yield _bare(session)
        yield from _hits(stories, session)
    for crash in history.crashes:
        if story.begins <= crash.time <= story.ends:
            yield _Line(crash.time, crash.host, f"crashes, and is back at {crash.until:.3f}", colour="yellow")
    for copy in stories.copies(story):
        text = f"puts {copy.message} into the mailbox of {copy.recipient}"
        yield _Line(copy.time, copy.receiver, text, colour="green")
    for one in stories.attempts(story):
        text = f"has {one.message} [{one.position}] {one.state} at {one.stage}: {one.text}"
        yield _Line(one.ended, history.messages[one.message].sender, text, colour="cyan")


def _session(stories: Stories, session: Session, mine: Sequence[Transaction], indent: str) -> Iterator[_Line]:
    """The dialog; of transactions that belong to another story only where they were."""
    number = f"#{session.number}"
    server = session.server or str(session.server_address)
    there, back = f"{indent}{session.client} → {server} {number}", f"{indent}{session.client} ← {server} {number}"
    where = f"from {session.client_address} to {session.server_address}"
    yield _Line(session.connecting, there, f"connects {where}{', LMTP' if session.lmtp else ''}")
    if session.established is not None:
        yield _Line(session.established, there, "is open")
    elif session.error:
        yield _Line(last_time(session), there, f"fails: {session.error}")
    if session.greeting is not None:
        yield _said(back, session.greeting)
    spans = [_span(session, one) for one in session.transactions if one not in mine]
    for begins, ends in spans:
        yield _Line(begins, there, f"(a transaction of another session, until {ends:.3f})", colour="bright_black")
    for asked in session.commands:
        if not any(begins <= asked.written < ends for begins, ends in spans):
            yield from _asked(there, back, asked)
    for transaction in mine:
        yield from _content(session, there, back, transaction)
    for said in session.unasked:
        yield _said(back, said, "unasked: ")
    for who, end in ((there, session.client_end), (back, session.server_end)):
        if end is not None:
            yield _Line(end[0], who, end[1].value)
    if session.broken is not None:
        yield _Line(session.broken, there, "is broken", colour="yellow")
    yield from _hits(stories, session)


def _span(session: Session, transaction: Transaction) -> tuple[float, float]:
    """From its MAIL to the next one's, or the session's end."""
    begins = transaction.mail.written
    later = [one.mail.written for one in session.transactions if one.mail.written > begins]
    return begins, min(later, default=last_time(session))


def _asked(there: str, back: str, asked: Asked) -> Iterator[_Line]:
    yield _Line(asked.written, there, asked.line, _latency(asked.written, asked.arrived))
    if asked.reply is not None:
        yield _said(back, asked.reply)


def _content(session: Session, there: str, back: str, transaction: Transaction) -> Iterator[_Line]:
    octets = f"{transaction.octets:,} octets"
    if transaction.dot_written is not None:
        latency = _latency(transaction.dot_written, transaction.dot_arrived)
        yield _Line(transaction.dot_written, there, f"({octets}, and the dot)", latency)
    elif transaction.octets:
        time = session.client_end[0] if session.client_end is not None else last_time(session)
        yield _Line(time, there, f"({octets}, and no dot)")
    for said in transaction.outcomes:
        yield _said(back, said)


def _said(who: str, said: Said, before: str = "") -> _Line:
    text = " / ".join(said.text.split("\n"))
    return _Line(said.written, who, before + text, _latency(said.written, said.arrived))


def _latency(written: float, arrived: float | None) -> str:
    return "lost" if arrived is None else f"+{arrived - written:.3f}"


def _bare(session: Session) -> _Line:
    """A session that came to no MAIL, in one line."""
    who = f"    {session.client} → {session.server or session.server_address} #{session.number}"
    if session.commands:
        outcome = f"came to {session.commands[-1].verb}"
    elif session.established is not None:
        outcome = "was open"
    else:
        outcome = f"failed: {session.error}" if session.error else "did not open"
    where = f"from {session.client_address} to {session.server_address}"
    text = f"(a path without MAIL, {where}: {outcome}, until {last_time(session):.3f})"
    return _Line(session.connecting, who, text, colour="bright_black")


def _hits(stories: Stories, session: Session) -> Iterator[_Line]:
    for hit in stories.hits(session):
        text = f"{hit.kind.value} strikes session {hit.session} in phase {hit.phase.value}"
        yield _Line(hit.time, "FAULT", text, colour="yellow")


def _logged(line: Logged) -> _Line:
    fields = dict(line.fields)
    event, level = fields.pop("event", ""), fields.pop("log_level", "")
    rest = " ".join(f"{key}={plain(value)}" for key, value in fields.items() if key != "id")
    colour = "magenta" if level in ("warning", "error", "critical") else "blue"
    return _Line(line.time, f"{line.gateway} log", f"{event} {rest}".rstrip(), colour=colour)
