"""A run's history, indexed for the checkers: whose transaction an upstream one was, and what was heard and told. Pure.

All of it is from the wire, but for one thing: a gateway's log tells under which id it knew a client's session. That id
is in the `Received:` line on top of what it sent upstream, so the wire shows for whom that was. An upstream
transaction that never came to its message is known by its reverse-path, which is that of one message, and by when it
began: it may then be for more than one transaction of a client's (the sender's host crashed, and its old session goes
on at the gateway), and counts for each where evidence is wanted.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mailgate.network import Answer, NoAnswer, TcpAddress
from sim.content import via
from sim.dialogs import INSTANT, FromClient, Served, ToNextHop, or_never
from sim.entries import Entries
from sim.expectations import Site
from sim.records import History, Looked, Said, Service, Session, Side

_NEW_STATE = ("MAIL", "RSET", "EHLO", "HELO", "LHLO", "QUIT")
"""commands that end a transaction"""

_LONGEST_TTL = 3600.0  # seconds that an answer of DNS may be remembered

_Life = tuple[str, int]


@dataclass(slots=True)
class _Told:
    """Of all transactions for a message and a recipient, and when the gateway could know it."""

    taken: list[tuple[FromClient, float]] = field(default_factory=list)
    """the next hop has said 2xx"""
    signs: list[tuple[FromClient, float]] = field(default_factory=list)
    """the client has read a 2xx"""
    unasked: list[FromClient] = field(default_factory=list)
    """those in which the shared ledger could not be asked, or told"""


class Evidence:
    """All transactions of a history on both sides of its gateways, and what belongs to what."""

    def __init__(self, history: History, site: Site) -> None:
        self.history = history
        self.site = site
        self._back: dict[str, list[float]] = defaultdict(list)
        self._ended: dict[_Life, float] = {}
        for crash in sorted(history.crashes, key=lambda one: one.time):
            self._back[crash.host].append(crash.until)
            self._ended[crash.host, crash.life] = crash.time
        self.messages = {one.reverse_path: one for one in history.messages.values() if not one.twin}
        self.twinned = frozenset(one.twin for one in history.messages.values() if one.twin)
        """the ids of messages that were sent once more on purpose"""
        self.entries = Entries(history)
        self.served: list[Served] = []
        """clients' sessions that were established"""
        self.upstream: list[Session] = []
        """gateways' own sessions, established or not"""
        self.given: list[FromClient] = []
        self.handed: list[ToNextHop] = []
        self.committing = {
            (line.gateway, line.life, str(line.fields.get("id")))
            for line in history.log
            if line.fields.get("event") == "committing"
        }
        """(gateway, life, id) of sessions whose log says that a dot was about to be written"""
        self.ids: dict[int, str] = {}
        """number of a client's session → the gateway's id for it"""
        self._by_envelope: dict[tuple[str, int, str], list[FromClient]] = defaultdict(list)
        self._by_id: dict[tuple[str, int, str], Served] = {}
        self._by_message: dict[str, list[FromClient]] = defaultdict(list)
        self._about: dict[tuple[str, str], _Told] = {}
        self._looked: dict[tuple[str, str, str], list[Looked]] | None = None
        for session in history.sessions:
            side = history.side(session)
            if side is Side.UPSTREAM:
                self.upstream.append(session)
            elif side is Side.CLIENT and session.established is not None:
                self._serve(session)
        self._read_ids()
        for session in self.upstream:
            for transaction in session.transactions:
                self._hand(ToNextHop(session, transaction))

    def life(self, host: str, time: float) -> int:
        """How often a host had come back at that time."""
        return bisect_right(self._back.get(host, []), time)

    def life_ended(self, host: str, life: int) -> float:
        """When that life ended in a crash; inf: it did not."""
        return self._ended.get((host, life), math.inf)

    # Both sides

    def _serve(self, session: Session) -> None:
        # A SYN may be repeated until the gateway is back: what counts is who has answered.
        greeted = session.greeting.written if session.greeting is not None else session.established
        gateway, life = session.server, self.life(session.server, or_never(greeted))
        listening = self.site.listeners[session.server_address]
        together = listening.outside and self.history.service is not Service.APART
        served = Served(session, gateway, life, self.life_ended(gateway, life), listening, together=together)
        self.served.append(served)
        for transaction in session.transactions:
            given = FromClient(served, transaction, self.messages.get(transaction.reverse_path))
            served.given.append(given)
            self.given.append(given)
            self._by_envelope[gateway, life, transaction.reverse_path].append(given)
            self._by_message[given.name].append(given)
        _find_ends(served)

    def _read_ids(self) -> None:
        places: dict[tuple[str, int, str], list[Served]] = defaultdict(list)
        for served in self.served:
            places[served.gateway, served.life, str(served.session.client_address)].append(served)
        for line in self.history.log:
            if line.fields.get("event") != "connected":
                continue
            # A port may come again: then it is the last session that was there.
            found = places.get((line.gateway, line.life, str(line.fields.get("client"))), [])
            there = [one for one in found if one.session.connecting <= line.time + INSTANT]
            if there:
                name = str(line.fields["id"])
                self._by_id[line.gateway, line.life, name] = there[-1]
                self.ids[there[-1].session.number] = name

    def _hand(self, handed: ToNextHop) -> None:
        handed.givers = tuple(self._givers(handed))
        self.handed.append(handed)
        for given in handed.givers:
            given.handed.append(handed)

    def _givers(self, handed: ToNextHop) -> list[FromClient]:
        gateway, life = handed.gateway, handed.session.client_life
        began, reverse_path = handed.began, handed.transaction.reverse_path
        ids = via(handed.transaction.content)
        served = self._by_id.get((gateway, life, ids[0])) if ids else None
        if served is not None:
            its_own = [one for one in served.given if one.transaction.reverse_path == reverse_path]
            return [one for one in its_own if one.began <= began + INSTANT][-1:]
        candidates = self._by_envelope.get((gateway, life, reverse_path), [])
        return [one for one in candidates if one.began <= began + INSTANT and began <= one.over + INSTANT]

    def of_id(self, gateway: str, life: int, name: str) -> Served | None:
        """The client's session that a gateway gave an id."""
        return self._by_id.get((gateway, life, name))

    def of_message(self, name: str) -> Sequence[FromClient]:
        """Clients' transactions for a message, or for one that equals it."""
        return self._by_message.get(name, ())

    # Deliveries that gateways need not know to be known

    def delivered_before(self, given: FromClient, recipient: str, time: float) -> int:
        """How often other transactions had delivered that message to a recipient, and no gateway could know that its
        sender had read so. Where the shared ledger could not be asked, nobody can: an entry may have been left over.
        """
        told = self._told(given.name, recipient)
        delivered = sum(known <= time + INSTANT for one, known in told.taken if one is not given)
        if not delivered or any(one is not given for one in told.unasked):
            return delivered
        return delivered - sum(sign <= time + INSTANT for one, sign in told.signs if one is not given)

    def taken_for_a_retry(self, name: str, recipient: str) -> int:
        """How many equal messages may have been told to be there already: for each, a sender was told so of the one
        before it, and knows, though its gateway could not know that.
        """
        told = self._told(name, recipient)
        if told.unasked or not told.taken:
            return len(self.of_message(name)) if told.taken else 0
        return sum(sign == math.inf for _, sign in told.signs)

    def _told(self, name: str, recipient: str) -> _Told:
        known = self._about.get((name, recipient))
        if known is None:
            known = self._about[name, recipient] = _Told()
            for given in self.of_message(name):
                known.taken += [(given, time) for time in given.taken(recipient)]
                known.signs += [(given, time) for time in given.signs(recipient)]
                if self._unasked(given, recipient):
                    known.unasked.append(given)
        return known

    def _unasked(self, given: FromClient, recipient: str) -> bool:
        """The shared ledger could not be asked, or told, of a recipient of a transaction."""
        served, came = given.served, or_never(given.transaction.dot_arrived)
        if self.history.service is Service.APART or recipient not in given.accepted or came == math.inf:
            return False
        times = (came, min(given.over, self.history.ended), min(served.closed, self.history.ended))
        return not all(self.entries.could_ask(served.gateway, served.life, time) for time in times)

    # DNS

    def answers(
        self, gateway: str, name: str, record_type: str, since: float, until: float
    ) -> Iterator[Answer | NoAnswer]:
        """What a gateway knew of a name in some time: what it was told then, and what it may have remembered."""
        if self._looked is None:
            self._looked = defaultdict(list)
            for one in self.history.lookups:
                self._looked[one.host, one.name.lower().removesuffix("."), one.record_type].append(one)
        for looked in self._looked.get((gateway, name, record_type), []):
            kept = min(looked.answer.ttl, _LONGEST_TTL) if isinstance(looked.answer, Answer) else 0.0
            if looked.time <= until + INSTANT and looked.time + kept >= since - INSTANT:
                yield looked.answer

    def hosts(self, gateway: str, domain: str, since: float, until: float) -> Iterator[tuple[str, ...]]:
        """The hosts for a domain's mail, by each answer that the gateway knew in some time."""
        for answer in self.answers(gateway, domain, "MX", since, until):
            if isinstance(answer, Answer) and answer.records:
                yield tuple(record.split()[1].lower().removesuffix(".") for record in answer.records)
            elif answer is NoAnswer.NO_DATA or isinstance(answer, Answer):
                yield (domain,)  # RFC 5321 section 5.1: the implicit MX

    def is_handover(self, session: Session) -> bool:
        """Whether it leads to the host that takes what next hops do not."""
        return bool(self.history.handover) and session.server == self.history.handover

    def leads_to(self, session: Session, domain: str, until: float) -> bool:
        """Whether a server is a next hop of a domain, or DNS had said so to the gateway by then."""
        servers = self.site.servers.get(domain)
        if servers is not None:
            return session.server in servers
        if not isinstance(session.server_address, TcpAddress):
            return False
        for hosts in self.hosts(session.client, domain, -math.inf, until):
            for host in hosts:
                for record_type in ("A", "AAAA"):
                    for answer in self.answers(session.client, host, record_type, -math.inf, until):
                        if isinstance(answer, Answer) and session.server_address.ip in answer.records:
                            return True
        return False

    def about_message(self, handed: ToNextHop, mailbox: str) -> Iterator[Said]:
        """What a recipient's next hop has said about the sender or the message, whoever else that is for."""
        own = handed.transaction
        sender = own.mail.reply
        refused = sender if sender is not None and sender.kind != 2 else None
        if refused is not None and self.leads_to(handed.session, domain_of(mailbox), or_never(refused.arrived)):
            yield refused
        if mailbox in handed.accepted:
            yield from handed.early
            if own.data is not None and own.data.reply is not None:
                yield own.data.reply


def domain_of(mailbox: str) -> str:
    """In lower case."""
    return mailbox.rpartition("@")[2].lower()


def _find_ends(served: Served) -> None:
    """From its last reply on, or the reply to the command that ends it, a transaction leads to nothing new."""
    current = -1
    for asked in served.session.commands:
        if current >= 0 and asked.verb in _NEW_STATE and asked.reply is not None and asked.reply.kind == 2:
            served.given[current].over = min(served.given[current].over, asked.reply.written)
        if current + 1 < len(served.given) and asked is served.given[current + 1].transaction.mail:
            current += 1
    for given in served.given:
        own = given.transaction
        ends = [given.over, served.closed, served.life_ended]
        if own.dot_written is not None and len(own.outcomes) >= given.due > 0:
            ends.append(own.outcomes[-1].written)
        if own.data is not None and own.data.reply is not None and own.data.reply.kind in (4, 5) and given.accepted:
            ends.append(own.data.reply.written)
        given.over = min(ends)
