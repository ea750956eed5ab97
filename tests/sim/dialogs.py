"""Transactions at a gateway's both sides, as the checkers look at them: what was told, and what was heard. Pure.

A server's octets that have reached the gateway's host are known to the gateway, which always reads, but in the moment
in which a connection breaks or a host crashes: that is what `Heard.MAYBE` is for.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator

from sim.expectations import Listening
from sim.records import End, Message, Said, Session, Transaction

INSTANT = 1e-6
"""seconds within which things happen at the same time"""


class Heard(enum.Enum):
    """Whether a gateway has heard what a next hop said."""

    YES = "yes"
    NO = "no"
    MAYBE = "nobody can tell"


class Served:
    """A client's session with a gateway."""

    __slots__ = ("dismissed", "gateway", "given", "life", "life_ended", "listening", "session", "together")

    def __init__(
        self, session: Session, gateway: str, life: int, life_ended: float, listening: Listening, *, together: bool
    ) -> None:
        self.session = session
        self.gateway = gateway
        self.life = life
        self.life_ended = life_ended
        """when the gateway's host crashed; inf: it did not, in that life"""
        self.listening = listening
        self.together = together
        """plain SMTP may have several next hops in one transaction"""
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
    def name(self) -> str:
        """The id of its message; empty: it is none that there is."""
        return "" if self.message is None else self.message.id

    @property
    def per_recipient(self) -> bool:
        """Each recipient has a reply of its own behind the dot."""
        return self.session.lmtp or self.transaction.prdr

    @property
    def together(self) -> bool:
        """It may have several next hops, and has one reply for all."""
        return self.served.together and not self.per_recipient

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

    def taken(self, recipient: str) -> Iterator[float]:
        """When the gateway knew that a next hop had taken the message for a recipient."""
        for handed in self.dotted:
            for index, mailbox in enumerate(handed.accepted):
                outcome = handed.outcome(index)
                if mailbox == recipient and outcome is not None and outcome.kind == 2:
                    yield handed.arrived(index)

    def signs(self, recipient: str) -> Iterator[float]:
        """For each 2xx that was told of a recipient: when the gateway could know that it was read."""
        for index, mailbox in enumerate(self.accepted):
            said = self.told(index)
            if mailbox == recipient and said is not None and said.kind == 2:
                yield self.sign(said)

    def sign(self, said: Said) -> float:
        """When the gateway could know that its client had read a reply: by a later command, or by an orderly end."""
        session, read = self.session, or_never(said.arrived)
        signs = [or_never(one.arrived) for one in session.commands if one.written > read + INSTANT]
        end = session.client_end
        if end is not None and end[1] is End.FIN and end[0] > read and not session.faults and session.broken is None:
            signs.append(end[0])
        return min(signs, default=math.inf)

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


def or_never(time: float | None) -> float:
    return math.inf if time is None else time
