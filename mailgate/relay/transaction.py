"""One transaction: recipients → deliveries → replies.

`run` is the transaction, from MAIL to the last reply; its nursery holds the deliveries, which end by themselves.
What ends them early is `give_up`: RSET, the client's leaving, a message that nobody may have, the end of a drain.
From the first commit on nothing does but the budget.
"""

from __future__ import annotations

import functools
import tempfile

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.command import Mailbox
from mailgate.protocol.events import (
    Content,
    ContentEnd,
    ContentSpoilt,
    DataAsked,
    Gone,
    MailAsked,
    Quit,
    RcptAsked,
    Reset,
    Slot,
)
from mailgate.protocol.reply import Reply, Role, reply
from mailgate.protocol.server import FLAW_REPLIES
from mailgate.relay import outcome
from mailgate.relay.apart import ANOTHER_HOP, Apart
from mailgate.relay.body import Body
from mailgate.relay.delivery import Delivery
from mailgate.relay.envelope import Envelope, Recipient
from mailgate.relay.grouping import Grouping
from mailgate.relay.outcome import Failure, Kind
from mailgate.relay.routing import NextHop, next_hop, postmaster
from mailgate.relay.settings import Listener
from mailgate.relay.shared import Shared
from mailgate.relay.trace import LOOP, Arrival, HopCounter, received_line
from mailgate.session.server import ServerSession

SENDER_TAKEN = reply(250, "2.1.0", "Sender ok")
GO_AHEAD = reply(354, "", "End data with <CR><LF>.<CR><LF>")
NOT_RELAYED = reply(550, "5.7.1", "This domain is not served here, relaying denied")
TOO_MANY_HOPS = reply(452, "4.5.3", "Too many next hops in one transaction, send the rest in another one")
NO_SPACE = reply(452, "4.3.1", "No space for the message, try later or elsewhere")
CLIENT_LEFT = reply(451, "4.4.2", "The client has left")
TAKEN_BACK = reply(451, "4.5.0", "The client has taken the transaction back")


class Transaction:
    """From MAIL on; `run` once. The deliveries report to it (`Reports`)."""

    def __init__(
        self,
        session: ServerSession,
        listener: Listener,
        asked: MailAsked,
        arrival: Arrival,
        shared: Shared,
        log: FilteringBoundLogger,
    ) -> None:
        self._session = session
        self._listener = listener
        self._asked = asked
        self._arrival = arrival
        self._shared = shared
        self._times = shared.settings.timeouts
        self._limits = shared.settings.limits
        self._log = log.bind(client=arrival.peer, helo=arrival.hello.name, sender=f"<{asked.reverse_path or ''}>")
        per_recipient = asked.parameters.prdr or listener.protocol is Role.LMTP
        self._envelope = Envelope(asked.reverse_path, asked.parameters, per_recipient)
        self._apart = None if per_recipient else Apart()
        self._body = Body(self._limits.body_memory, self._times.stall)
        self._hops = HopCounter()
        self._recipients: list[Recipient] = []
        self._accepted: list[Recipient] = []
        self._deliveries: list[Delivery] = []
        self._last: dict[NextHop, Delivery] = {}  # of each next hop
        self._grouping: Grouping | None = None
        self._data_slot: Slot | None = None
        self._data_taken = False
        self._slots: dict[int, Slot] = {}  # by recipient position: for its outcome
        self._refusal: Reply | None = None  # of the message as a whole, by our own policy
        self._given_up: Reply | None = None
        self._committed = False
        self._began = trio.current_time()
        self.told: list[Mailbox] = []
        """whose delivery has been written to a client that was still there"""
        self.signs = 0
        """the client's signs of life until then"""

    @property
    def deliveries(self) -> int:
        """Those under way."""
        return sum(not one.over for one in self._deliveries)

    async def run(self) -> Quit | Gone | None:
        """Serve the transaction; what ended the session, if anything did."""
        self._session.answer(self._asked.slot, SENDER_TAKEN)
        self._session.on_gone = lambda: self.give_up(CLIENT_LEFT)
        if self._session.gone:  # before there was anybody to be told
            return Gone()
        try:
            with self._body:
                async with trio.open_nursery() as deliveries:
                    self._grouping = Grouping(self._shared, deliveries, functools.partial(self._place, deliveries))
                    ended = await self._take_recipients()
        finally:
            self._session.on_gone = lambda: None
            self._account()  # also of what is cut off: then a dot without its reply is an unknown outcome
        return ended

    def give_up(self, why: Reply) -> None:
        """End all deliveries, unless one has committed: then they run to their outcome."""
        if not self._committed:
            self._given_up = why
            if self._grouping is not None:
                for recipient in self._grouping.drop():
                    self._tell(recipient, why)
            for delivery in self._deliveries:
                delivery.drop(why)

    # Recipients

    async def _take_recipients(self) -> Quit | Gone | None:
        while True:
            match await self._session.next_event(self._times.command):
                case RcptAsked(slot, mailbox):
                    self._take_recipient(slot, mailbox)
                case DataAsked(slot):
                    return await self._take_data(slot)
                case (Quit() | Gone()) as ended:
                    self.give_up(CLIENT_LEFT)
                    return ended
                case Reset():
                    self.give_up(TAKEN_BACK)
                    return None
                case event:
                    raise RuntimeError(f"no place for {event!r} before DATA")

    def _take_recipient(self, slot: Slot, mailbox: Mailbox) -> None:
        mailbox = postmaster(self._shared.settings, mailbox)
        recipient = Recipient(len(self._recipients), mailbox, slot, trio.current_time())
        self._recipients.append(recipient)
        if self._given_up is not None:  # by the drain, which the client has not heard of yet
            self._tell(recipient, self._given_up)
            return
        route = self._shared.routes(self._listener).find(mailbox.domain)
        if route is None:
            self._tell(recipient, NOT_RELAYED)
            return
        assert self._grouping is not None
        self._grouping.add(recipient, next_hop(route, mailbox.domain))

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
        if self.deliveries >= self._limits.deliveries:
            return None
        domain = recipient.mailbox.domain
        delivery = Delivery(hop, domain, self._envelope, self._body, self._shared, self, self._log)
        self._last[hop] = delivery
        self._deliveries.append(delivery)
        deliveries.start_soon(delivery.run)
        return delivery

    def answered(self, recipient: Recipient, answer: Reply) -> None:
        """A delivery's report: the answer to a RCPT."""
        if self._apart is None:
            self._tell(recipient, answer)
            return
        for ready, told in self._apart.answered(recipient, answer):
            self._tell(ready, told)
        for delivery in self._deliveries:
            if self._apart.excludes(delivery.hop):
                delivery.drop(ANOTHER_HOP)

    def _tell(self, recipient: Recipient, answer: Reply) -> None:
        self._session.answer(recipient.slot, answer)
        if answer.kind == 2:
            self._accepted.append(recipient)
        elif self._given_up is None:
            asked = {} if recipient.via is None else {"path": recipient.via}
            self._log.info("recipient_refused", to=recipient.mailbox, **asked, reply=answer)

    # DATA

    async def _take_data(self, slot: Slot) -> Quit | Gone | None:
        self._accepted.sort(key=lambda one: one.position)
        self._data_slot = slot
        for delivery in self._deliveries:
            if delivery.live:
                delivery.request_data()
            else:
                delivery.drop(TAKEN_BACK)
        self._decide_data()
        await self._session.replied()
        if slot.reply is None:
            self.give_up(CLIENT_LEFT)
            return Gone()
        return await self._take_content() if slot.reply.kind == 3 else None

    def data_taken(self) -> None:
        """A delivery's report: its next hop has said 354."""
        self._data_taken = True
        self._decide_data()

    def _decide_data(self) -> None:
        """354 once one next hop takes the message; a refusal once none will. The others' refusals are outcomes."""
        slot = self._data_slot
        if slot is None or slot.reply is not None:
            return
        outcomes = [one.outcome for one in self._accepted if one.outcome is not None]
        if self._data_taken:
            self._session.answer(slot, GO_AHEAD)
            for delivery in self._deliveries:
                delivery.go_ahead()
        elif len(outcomes) == len(self._accepted):
            self._session.answer(slot, outcome.data_refusal(outcomes))

    # The message

    async def _take_content(self) -> Quit | Gone | None:
        recipient = str(self._accepted[0].mailbox) if len(self._accepted) == 1 else None
        smtputf8 = self._envelope.parameters.smtputf8
        await self._append(received_line(self._arrival, recipient, smtputf8=smtputf8))
        while True:
            match await self._session.next_event(self._times.body):
                case Content(data):
                    self._hops.feed(data)
                    if self._hops.count > self._limits.hops:
                        self._refuse(LOOP)
                    await self._append(data)
                case ContentSpoilt(flaw):
                    self._refuse(FLAW_REPLIES[flaw])
                case ContentEnd(slots):
                    return await self._finish(slots)
                case Gone() as ended:
                    self.give_up(CLIENT_LEFT)
                    return ended
                case event:
                    raise RuntimeError(f"no place for {event!r} in the message")

    async def _append(self, data: bytes) -> None:
        if self._refusal is not None or all(one.outcome is not None for one in self._accepted):
            return  # nobody is going to read it
        error = await self._body.write(data)
        if error is not None:
            directory = tempfile.gettempdir()  # where TMPDIR says, if it does
            self._log.error("body_not_written", why=error.strerror, directory=directory, bytes=self._body.size)
            self._refuse(NO_SPACE)

    def _refuse(self, refusal: Reply) -> None:
        """Nobody may have this message; the client hears it after its dot."""
        if self._refusal is None:
            self._refusal = refusal
            self.give_up(refusal)

    async def _finish(self, slots: tuple[Slot, ...]) -> Quit | Gone | None:
        """The client's dot is in: the deliveries may commit, and their outcomes are the replies."""
        places = slots if self._envelope.per_recipient else slots * len(self._accepted)
        self._slots = {one.position: slot for one, slot in zip(self._accepted, places, strict=True)}
        now = trio.current_time()
        for delivery in self._deliveries:
            delivery.attempts_until = now + self._times.attempts
            delivery.scope.deadline = now + self._times.delivery
        if self._refusal is None:
            self._body.finish()
        for recipient in self._accepted:
            self._tell_outcome(recipient)
        await self._session.replied()
        self.signs = self._session.signs
        if not self._session.gone:
            replies = [(one.mailbox, self._slots[one.position].reply) for one in self._accepted]
            self.told = [mailbox for mailbox, reply in replies if reply is not None and reply.kind == 2]
        return None

    def committing(self, delivery: Delivery) -> None:
        """A delivery's report: its dot is about to be written."""
        if not self._committed:
            self._committed = True
            self._log.info(
                "committing",
                to=[one.mailbox for one in self._accepted],
                bytes=self._body.size,
                paths=[f"{one.hop}/{one.path}" for one in self._deliveries if one.live and one.path is not None],
            )

    def settled(self, recipient: Recipient) -> None:
        """A delivery's report: a recipient has its outcome."""
        self._decide_data()
        self._tell_outcome(recipient)

    def _tell_outcome(self, recipient: Recipient) -> None:
        slot = self._slots.get(recipient.position)
        if slot is None or slot.reply is not None:
            return
        outcomes = [recipient.outcome] if self._envelope.per_recipient else [one.outcome for one in self._accepted]
        known = [one for one in outcomes if one is not None]
        if self._refusal is not None:
            self._session.answer(slot, self._refusal)
        elif len(known) == len(outcomes):
            self._session.answer(slot, outcome.single_reply(known))

    def _account(self) -> None:
        """Count the outcomes, and write the line that ends the transaction's story."""
        outcomes = [one.outcome for one in self._accepted if one.outcome is not None]
        if not outcomes:
            return
        seconds = trio.current_time() - self._began
        if self._given_up in (CLIENT_LEFT, TAKEN_BACK):
            to = [one.mailbox for one in self._accepted]
            self._log.info("abandoned", why=self._given_up.text, to=to, bytes=self._body.size, seconds=seconds)
            return
        kinds = [one.kind for one in outcomes]
        self._shared.counts.update(kind.value for kind in kinds)
        untold = {}
        if self._session.gone and Kind.DELIVERED in kinds:
            untold = {"untold": kinds.count(Kind.DELIVERED)}
            self._shared.counts.update(untold)
        told = [f"{one.mailbox} {one.outcome} ({one.via})" for one in self._accepted]
        if all(kind is Kind.DELIVERED for kind in kinds):
            self._log.info("delivered", outcomes=told, seconds=seconds, **untold)
        else:
            event = "partly_delivered" if Kind.DELIVERED in kinds else "not_delivered"
            self._log.warning(event, outcomes=told, bytes=self._body.size, seconds=seconds, **untold)
