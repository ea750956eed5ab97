"""What belongs together in a run: a client's session with a gateway, and what the gateway did for it. Pure.

Gateways name their clients' sessions by ids. An upstream transaction has that id in the `Received:` line that the
gateway put on top of the message; one that never came to a message is known by its reverse-path, which is that of one
message only.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.content import via
from sim.records import Attempt, Copy, History, Hit, Logged, Session, Side, Transaction

_Life = tuple[str, int]
"""a gateway's name, and how often it had crashed"""


@dataclass(slots=True, eq=False)
class Story:
    """A session of a gateway's client, and what belongs to it."""

    id: str
    """the gateway's name for it; empty: the gateway never knew of it"""
    gateway: str
    life: int
    client: Session | None
    """None: it is not to be found"""
    upstream: dict[int, Session] = field(default_factory=dict)
    """the gateway's sessions that have a transaction of this story, by number"""
    log: list[Logged] = field(default_factory=list)

    @property
    def begins(self) -> float:
        """When its client connected."""
        return self.client.connecting if self.client is not None else self.log[0].time

    @property
    def ends(self) -> float:
        """When the last thing happened that its client or the gateway's log tells of."""
        client = [] if self.client is None else [last_time(self.client)]
        return max([*client, *(line.time for line in self.log[-1:])])


class Stories:
    """All stories of a run, in the order in which their clients connected."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._messages = {one.reverse_path: one.id for one in history.messages.values() if not one.twin}
        self._by_id: dict[str, Story] = {}
        self._by_client: dict[int, Story] = {}
        self._owners: dict[tuple[int, int], Story] = {}  # of upstream transactions: session, position
        self._bare: dict[_Life, list[Session]] = defaultdict(list)  # upstream sessions without any transaction
        self._unnamed: dict[_Life, list[Logged]] = defaultdict(list)  # what gateways log of no session in particular
        self._hits: dict[int, list[Hit]] = defaultdict(list)
        for hit in history.hits:
            self._hits[hit.session].append(hit)
        self._attempts: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in history.attempts:
            self._attempts[history.messages[attempt.message].name].append(attempt)
        self._copies: dict[str, list[Copy]] = defaultdict(list)
        for copy in history.copies:
            for name in copy.via:
                self._copies[name].append(copy)
        self._read_log()
        self._read_clients()
        self._read_upstream()
        self.all = sorted(
            [*self._by_id.values(), *(one for one in self._by_client.values() if not one.id)],
            key=lambda story: story.begins,
        )

    def of_session(self, number: int) -> list[Story]:
        """The stories that a session has a part in, be it a client's or an upstream one."""
        if number in self._by_client:
            return [self._by_client[number]]
        return [
            story
            for story in self.all
            if number in story.upstream or any(one.number == number for one in self.beside(story))
        ]

    def of_message(self, message: str) -> list[Story]:
        """The stories in which a message, or one that equals it, was sent."""
        known = self._history.messages.get(message)
        return [story for story in self.all if known is not None and known.name in self.messages(story)]

    def messages(self, story: Story) -> list[str]:
        """The ids of the messages in it, in order."""
        own = [] if story.client is None else story.client.transactions
        others = [one for session in story.upstream.values() for one in self.transactions(story, session)]
        found = (self._messages.get(one.reverse_path) for one in [*own, *others])
        return list(dict.fromkeys(one for one in found if one is not None))

    def transactions(self, story: Story, session: Session) -> list[Transaction]:
        """Those of an upstream session that are part of the story: a session that was kept may serve several."""
        return [
            one
            for position, one in enumerate(session.transactions)
            if self._owners.get((session.number, position)) is story
        ]

    def beside(self, story: Story) -> list[Session]:
        """Sessions that came to no MAIL, opened by the gateway while this client had a transaction open.

        Paths that lost a race or failed are among them, and may be another client's; so may be checks.
        """
        if story.client is None or not story.client.transactions:
            return []
        bare = self._bare[story.gateway, story.life]
        first = bisect.bisect_left(bare, story.client.transactions[0].mail.written, key=_connecting)
        last = bisect.bisect_right(bare, last_time(story.client), key=_connecting)
        return bare[first:last]

    def unnamed(self, story: Story) -> list[Logged]:
        """What the gateway logged meanwhile of no session in particular."""
        lines = self._unnamed[story.gateway, story.life]
        first = bisect.bisect_left(lines, story.begins, key=_time)
        last = bisect.bisect_right(lines, story.ends, key=_time)
        return lines[first:last]

    def hits(self, session: Session) -> list[Hit]:
        """The faults that reached a session."""
        return self._hits[session.number]

    def attempts(self, story: Story) -> list[Attempt]:
        """What the story's client made of it."""
        if story.client is None:
            return []
        gateway, begins, ends = story.client.server_address, story.client.connecting, story.ends
        return [
            one
            for message in self.messages(story)
            for one in self._attempts[message]
            if one.gateway == gateway and begins <= one.began and one.ended <= ends
        ]

    def copies(self, story: Story) -> list[Copy]:
        """What came of it in mailboxes."""
        return self._copies[story.id] if story.id else []

    # How they are found

    def _read_log(self) -> None:
        clients: dict[tuple[str, int, str], list[Session]] = defaultdict(list)
        for session in self._history.sessions:
            if self._history.side(session) is Side.CLIENT:
                clients[session.server, session.server_life, str(session.client_address)].append(session)
        for line in self._history.log:
            name = str(line.fields.get("id", ""))
            if not name:
                self._unnamed[line.gateway, line.life].append(line)
                continue
            story = self._by_id.setdefault(name, Story(name, line.gateway, line.life, None))
            story.log.append(line)
            if story.client is None:
                peer = str(line.fields.get("client", ""))
                known = clients[line.gateway, line.life, peer]
                story.client = next((one for one in reversed(known) if one.connecting <= line.time), None)
                if story.client is not None:
                    self._by_client[story.client.number] = story

    def _read_clients(self) -> None:
        """Also of those that the gateway has never seen."""
        for session in self._history.sessions:
            if self._history.side(session) is Side.CLIENT and session.number not in self._by_client:
                self._by_client[session.number] = Story("", session.server, session.server_life, session)

    def _read_upstream(self) -> None:
        asked = self._asked()
        for session in self._history.sessions:
            if self._history.side(session) is not Side.UPSTREAM:
                continue
            life = session.client, session.client_life
            if not session.transactions:
                self._bare[life].append(session)
            for position, transaction in enumerate(session.transactions):
                owner = self._owner(life, transaction, asked)
                if owner is not None:
                    owner.upstream[session.number] = session
                    self._owners[session.number, position] = owner

    def _asked(self) -> Mapping[tuple[_Life, str], list[tuple[float, Story]]]:
        """When clients' MAILs with a reverse-path came to a gateway, and in which stories."""
        asked: dict[tuple[_Life, str], list[tuple[float, Story]]] = defaultdict(list)
        for story in self._by_client.values():
            for one in [] if story.client is None else story.client.transactions:
                if one.mail.arrived is not None:
                    asked[(story.gateway, story.life), one.reverse_path].append((one.mail.arrived, story))
        for mails in asked.values():
            mails.sort(key=lambda mail: mail[0])
        return asked

    def _owner(
        self, life: _Life, transaction: Transaction, asked: Mapping[tuple[_Life, str], list[tuple[float, Story]]]
    ) -> Story | None:
        ids = via(transaction.content)
        if ids and ids[0] in self._by_id:
            return self._by_id[ids[0]]
        mails = asked.get((life, transaction.reverse_path), [])
        before = [story for arrived, story in mails if arrived <= transaction.mail.written]
        return before[-1] if before else None


def last_time(session: Session) -> float:
    """When the last thing happened in a session."""
    times = [session.connecting]
    times += [one[0] for one in (session.client_end, session.server_end) if one is not None]
    times += [one for one in (session.established, session.broken) if one is not None]
    for asked in session.commands:
        times.append(asked.written if asked.arrived is None else asked.arrived)
        if asked.reply is not None:
            times.append(asked.reply.written if asked.reply.arrived is None else asked.reply.arrived)
    for transaction in session.transactions:
        times += [one.written if one.arrived is None else one.arrived for one in transaction.outcomes]
    return max(times)


def _connecting(session: Session) -> float:
    return session.connecting


def _time(line: Logged) -> float:
    return line.time
