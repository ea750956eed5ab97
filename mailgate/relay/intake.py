"""A transaction's recipients: RCPT by RCPT to the delivery of each one's next hop, and the answers back in order."""

from __future__ import annotations

import functools

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.command import Mailbox
from mailgate.protocol.events import Slot
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.relay.apart import ANOTHER_HOP, Apart
from mailgate.relay.body import Body
from mailgate.relay.delivery import AHEAD, FULL, Delivery
from mailgate.relay.envelope import Envelope, Recipient
from mailgate.relay.grouping import Grouping
from mailgate.relay.outcome import Failure, Outcome
from mailgate.relay.recall import Turn
from mailgate.relay.reports import Reports
from mailgate.relay.routing import NextHop, next_hop, postmaster
from mailgate.relay.settings import Listener, SeveralNextHops
from mailgate.relay.shared import Shared
from mailgate.relay.together import KEPT_BACK
from mailgate.session.server import ServerSession

NOT_RELAYED = reply(550, "5.7.1", "This domain is not served here, relaying denied")
TOO_MANY_HOPS = reply(452, "4.5.3", "Too many next hops in one transaction, send the rest in another one")
PUT_OFF = reply(452, "4.5.3", "Has kept others waiting, send it in another transaction")

_ANOTHER_TRANSACTION = (ANOTHER_HOP, FULL, TOO_MANY_HOPS, PUT_OFF, KEPT_BACK.reply)
"""what recipients hear who have to come again"""


class Intake:
    """Of one transaction. Its deliveries run in the nursery that `begin` is given, and end by themselves."""

    def __init__(
        self,
        session: ServerSession,
        listener: Listener,
        envelope: Envelope,
        body: Body,
        shared: Shared,
        reports: Reports,
        log: FilteringBoundLogger,
    ) -> None:
        """`reports`: who hears of the deliveries; it hands `answered` on to here."""
        self._session = session
        self._listener = listener
        self._envelope = envelope
        self._body = body
        self._shared = shared
        self._limits = shared.settings.limits
        self._reports = reports
        self._log = log
        several = SeveralNextHops.TOGETHER if envelope.per_recipient else listener.several_next_hops
        self._apart = Apart() if several is SeveralNextHops.APART else None
        self._offered = 0
        self._last: dict[NextHop, Delivery] = {}  # of each next hop
        self._nursery: trio.Nursery | None = None
        self._grouping: Grouping | None = None
        self.accepted: list[Recipient] = []
        """in the order in which they were answered"""
        self.deliveries: list[Delivery] = []
        """in the order of their first recipients"""
        self.given_up: Reply | None = None
        """why nobody is to have the message any more"""
        self.put_off: dict[Mailbox, Turn] = {}
        """who has had to let the others go first"""
        self.others_wait = False
        """recipients were told to come in another transaction"""

    @property
    def under_way(self) -> int:
        """Deliveries that have not ended."""
        return sum(not one.over for one in self.deliveries)

    @property
    def outcomes(self) -> list[Outcome]:
        """Those known of accepted recipients."""
        return [one.outcome for one in self.accepted if one.outcome is not None]

    @property
    def settled(self) -> bool:
        """Every accepted recipient has its outcome."""
        return all(one.outcome is not None for one in self.accepted)

    def begin(self, nursery: trio.Nursery) -> None:
        """Look-ups and deliveries run in this nursery."""
        self._nursery = nursery
        self._grouping = Grouping(self._shared, nursery, functools.partial(self._place, nursery))

    def give_up(self, why: Reply) -> None:
        """End all look-ups and deliveries; whoever waits hears why, and so does whoever comes."""
        self.given_up = why
        if self._grouping is not None:
            for recipient in self._grouping.drop():
                self._tell(recipient, why)
        for delivery in self.deliveries:
            delivery.drop(why)

    async def take(self, slot: Slot, mailbox: Mailbox) -> None:
        """The next RCPT. With a shared store this takes a second at most."""
        mailbox = postmaster(self._shared.settings, mailbox)
        recipient = Recipient(self._offered, mailbox, slot, trio.current_time())
        self._offered += 1
        route = self._shared.routes(self._listener).find(mailbox.domain)
        turn = Turn.NOW if route is None else await self._turn(mailbox)
        if self.given_up is not None:  # by the drain, which the client has not heard of yet, or for another next hop
            self._tell(recipient, self.given_up)
        elif route is None:
            self._tell(recipient, NOT_RELAYED)
        elif turn is not Turn.NOW:
            self.put_off[mailbox] = turn
            self._tell(recipient, PUT_OFF)
        else:
            assert self._grouping is not None
            self._grouping.add(recipient, next_hop(route, mailbox.domain))

    async def _turn(self, mailbox: Mailbox) -> Turn:
        """Whose failure has kept others waiting lets them go first. (Where each has its own reply nobody waits.)"""
        if self._envelope.per_recipient or self.given_up is not None:
            return Turn.NOW
        if mailbox in self.put_off:
            return self.put_off[mailbox]
        return await self._shared.recall.turn(self._envelope.reverse_path, mailbox)

    def _place(self, deliveries: trio.Nursery, recipient: Recipient, hop: NextHop, failure: Failure | None) -> None:
        """Give a recipient to the delivery of its next hop. With a failure there is no telling which one that is."""
        if self._apart is not None:
            self._apart.expect(recipient, hop)
            if self._apart.excludes(hop):
                self.answered(recipient, ANOTHER_HOP)
                return
        if failure is not None:
            self._log.warning("attempt_failed", hop=hop, path=hop.domain, stage=failure.stage.value, why=failure.why)
            self.answered(recipient, failure.reply)
            return
        delivery = self._delivery(deliveries, recipient, hop)
        if delivery is None:
            self.answered(recipient, TOO_MANY_HOPS)
        else:
            delivery.offer(recipient)

    def _delivery(self, deliveries: trio.Nursery, recipient: Recipient, hop: NextHop) -> Delivery | None:
        """The delivery for one more recipient of a next hop; with many, a full one is followed by another."""
        last = self._last.get(hop)
        if last is not None and (self._apart or last.offered < self._limits.recipients_per_delivery):
            return last
        if self.under_way >= self._limits.deliveries:
            return None
        delivery = Delivery(
            hop,
            recipient.mailbox.domain,
            self._envelope,
            self._body,
            self._shared,
            self._reports,
            self._log,
            capacity=self._capacity(hop),
            crowded=self._crowded,
        )
        self._last[hop] = delivery
        self.deliveries.append(delivery)
        deliveries.start_soon(delivery.run)
        return delivery

    def _capacity(self, hop: NextHop) -> int:
        """Recipients in one delivery: where each may have another outcome, and the client hears one, a single one."""
        one_outcome = self._apart is not None and hop.route.protocol is Role.LMTP
        return 1 if one_outcome else self._limits.recipients_per_delivery

    def _crowded(self) -> Reply | None:
        """What is said where there is no room for a session, which our own deliveries may be taking.

        Who has a reply of its own behind the data may be accepted before it was asked for.
        """
        if self._envelope.per_recipient:
            return AHEAD
        return TOO_MANY_HOPS if self._apart is None and any(one.live for one in self.deliveries) else None

    def answered(self, recipient: Recipient, answer: Reply) -> None:
        """A delivery's report: the answer to a RCPT."""
        if self._apart is None:
            self._tell(recipient, answer)
            return
        for ready, told in self._apart.answered(recipient, answer):
            self._tell(ready, told)
        for delivery in self.deliveries:
            if self._apart.excludes(delivery.hop):
                delivery.drop(ANOTHER_HOP)

    def _tell(self, recipient: Recipient, answer: Reply) -> None:
        self._session.answer(recipient.slot, answer)
        if answer.kind == 2:
            self.accepted.append(recipient)
            return
        self.others_wait = self.others_wait or answer in _ANOTHER_TRANSACTION
        if self.given_up is None:
            asked = {} if recipient.via is None else {"path": recipient.via}
            self._log.info("recipient_refused", to=recipient.mailbox, **asked, reply=answer)
