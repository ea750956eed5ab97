"""A run's history, indexed for the checkers: whose transaction an upstream one was, and what was heard and told. Pure.

All of it is from the wire, but for one thing: a gateway's log tells under which id it knew a client's session. That id
is in the `Received:` line on top of what it sent upstream, so the wire shows for whom that was. An upstream
transaction that never came to its message is known by its reverse-path, which is that of one message, and by when it
began: it may then be for more than one transaction of a client's (the sender's host crashed, and its old session goes
on at the gateway), and counts for each where evidence is wanted.

A server's octets that have reached the gateway's host are known to the gateway, which always reads, but in the moment
in which a connection breaks or a host crashes: that is what `Heard.MAYBE` is for.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from mailgate.network import Answer, NoAnswer, TcpAddress
from sim.content import via
from sim.expectations import Listening, Site
from sim.records import End, History, Looked, Message, Said, Session, Side, Transaction

INSTANT = 1e-6
"""seconds within which things happen at the same time"""

_NEW_STATE = ("MAIL", "RSET", "EHLO", "HELO", "LHLO", "QUIT")
"""commands that end a transaction"""

_LONGEST_TTL = 3600.0  # seconds that an answer of DNS may be remembered

_Life = tuple[str, int]


class Heard(enum.Enum):
    """Whether a gateway has heard what a next hop said."""

    YES = "yes"
    NO = "no"
    MAYBE = "nobody can tell"


class Served:
    """A client's session with a gateway."""

    __slots__ = ("dismissed", "gateway", "given", "life", "life_ended", "listening", "session")

    def __init__(self, session: Session, gateway: str, life: int, life_ended: float, listening: Listening) -> None:
        self.session = session
        self.gateway = gateway
        self.life = life
        self.life_ended = life_ended
        """when the gateway's host crashed; inf: it did not, in that life"""
        self.listening = listening
        self.dismissed = min((said.written for said in replies(session) if said.code == 421), default=math.inf)
        """when it was first told 421"""
        if session.greeting is not None and session.greeting.kind == 5:
            self.dismissed = session.greeting.written
        self.given: list[FromClient] = []

    @property
    def client_gone(self) -> float:
        """From when on nobody need be told anything: the client has ended its side, or the connection is broken."""
        end = self.session.client_end
        return min(math.inf if end is None else end[0], or_never(self.session.broken))

    @property
    def closed(self) -> float:
        """When the gateway closed it; a crash is none of that."""
        end = self.session.server_end
        return math.inf if end is None or end[1] is End.DETACHED else end[0]

    @property
    def over(self) -> float:
        """From when on nothing is due any more, whatever the reason."""
        return min(self.client_gone, self.closed, self.life_ended, self.dismissed)


class FromClient:
    """A client's transaction at a gateway."""

    __slots__ = ("accepted", "began", "handed", "message", "over", "served", "transaction")

    def __init__(self, served: Served, transaction: Transaction, message: Message | None) -> None:
        self.served = served
        self.transaction = transaction
        self.message = message
        self.accepted = transaction.accepted
        mail = transaction.mail
        said = mail.reply.written if mail.reply is not None else None
        self.began = said if said is not None else or_never(mail.arrived)
        """when it could lead to something: MAIL is answered before anything is done"""
        self.over = math.inf
        """when it could not any more"""
        self.handed: list[ToNextHop] = []
        """what the gateway did for it, or may have done"""

    @property
    def session(self) -> Session:
        """The client's."""
        return self.served.session

    @property
    def per_recipient(self) -> bool:
        """Each recipient has a reply of its own behind the dot."""
        return self.session.lmtp or self.transaction.prdr

    @property
    def due(self) -> int:
        """Replies to the dot."""
        return replies_due(self.transaction, len(self.accepted))

    def told(self, index: int) -> Said | None:
        """What was written of the accepted recipient of that index, behind the dot. With PRDR its own reply."""
        outcomes = self.transaction.outcomes
        if self.session.lmtp:
            place = index
        elif self.transaction.prdr and outcomes and outcomes[0].code == 353:
            place = 1 + index
        else:
            place = 0
        return outcomes[place] if place < len(outcomes) else None

    @property
    def dotted(self) -> list[ToNextHop]:
        """Where the gateway wrote its dot for it."""
        return [one for one in self.handed if one.transaction.dot_written is not None]


class ToNextHop:
    """An upstream transaction."""

    __slots__ = ("accepted", "began", "gateway", "givers", "session", "transaction")

    def __init__(self, session: Session, transaction: Transaction) -> None:
        self.session = session
        self.transaction = transaction
        self.gateway = session.client
        self.accepted = transaction.accepted
        self.began = transaction.mail.written
        self.givers: tuple[FromClient, ...] = ()
        """whom it was for, or may have been for"""

    def outcome(self, index: int) -> Said | None:
        """The reply behind the dot that counts for the accepted recipient of that index."""
        return self.transaction.outcome(index)

    def arrived(self, index: int) -> float:
        """When that outcome was known in the gateway's host: with PRDR it takes the final reply. inf: never."""
        said = self.outcome(index)
        if said is None:
            return math.inf
        if self.transaction.prdr and self.transaction.outcomes[0].code == 353:
            said = self.transaction.outcomes[replies_due(self.transaction, len(self.accepted)) - 1]
        return or_never(said.arrived)

    def heard(self, index: int) -> Heard:
        """Whether the gateway has heard that outcome.

        Not if it never arrived, or only when the gateway had closed. A reset reaches the two ends at different times,
        and takes what was not read yet: what arrives behind it, or in the same moment, may be heard or not.
        """
        said, arrived = self.outcome(index), self.arrived(index)
        end = self.session.client_end
        ended = math.inf if end is None else end[0]
        if said is None or arrived == math.inf or arrived > ended + INSTANT:
            return Heard.NO
        broke = or_never(self.session.broken)
        crashed = end is not None and end[1] is not End.FIN and arrived >= ended - INSTANT
        reset = self.session.server_end
        taken_back = reset is not None and reset[1] is not End.FIN and said.written >= reset[0] - INSTANT
        if said.kind == 3 or crashed or taken_back or arrived >= broke - INSTANT:
            return Heard.MAYBE
        return Heard.YES

    @property
    def early(self) -> list[Said]:
        """What the next hop said inside the message, before the dot."""
        data, dot = self.transaction.data, or_never(self.transaction.dot_written)
        if data is None or data.reply is None or data.reply.arrived is None:
            return []
        begins = data.reply.arrived
        return [one for one in self.session.unasked if begins - INSTANT <= or_never(one.arrived) <= dot + INSTANT]


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
        self.messages = {message.reverse_path: message for message in history.messages.values()}
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
        served = Served(session, gateway, life, self.life_ended(gateway, life), listening)
        self.served.append(served)
        for transaction in session.transactions:
            given = FromClient(served, transaction, self.messages.get(transaction.reverse_path))
            served.given.append(given)
            self.given.append(given)
            self._by_envelope[gateway, life, transaction.reverse_path].append(given)
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


def replies(session: Session) -> Iterator[Said]:
    """All that its server wrote: greeting, replies to commands and dots, what was unasked; not in order."""
    if session.greeting is not None:
        yield session.greeting
    for asked in session.commands:
        if asked.reply is not None:
            yield asked.reply
    for transaction in session.transactions:
        yield from transaction.outcomes
    yield from session.unasked


def replies_due(transaction: Transaction, accepted: int) -> int:
    """How many replies the dot has."""
    if transaction.session.lmtp:
        return accepted
    begun = transaction.outcomes and transaction.outcomes[0].code == 353
    return accepted + 2 if transaction.prdr and begun else 1


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


def or_never(time: float | None) -> float:
    return math.inf if time is None else time
