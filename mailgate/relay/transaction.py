"""One transaction: recipients → deliveries → replies.

`run` is the transaction, from MAIL to the last reply; its nursery holds the deliveries, which end by themselves.
What ends them early is `give_up`: RSET, the client's leaving, a message that nobody may have, the end of a drain.
From the first commit on nothing does but the budget, and, where there is one reply for all, a first next hop that
refuses (together).
"""

from __future__ import annotations

import math
import tempfile

import trio
from structlog.typing import FilteringBoundLogger

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
from mailgate.relay import outcome, together
from mailgate.relay.body import Body
from mailgate.relay.envelope import Envelope, Recipient
from mailgate.relay.handover import hand_over
from mailgate.relay.intake import Intake
from mailgate.relay.outcome import DELIVERED_BEFORE, Kind
from mailgate.relay.recall import Delivered, Turn
from mailgate.relay.retry import Retry
from mailgate.relay.settings import Listener, SeveralNextHops
from mailgate.relay.shared import Shared
from mailgate.relay.trace import LOOP, Arrival, HopCounter, received_line
from mailgate.session.server import ServerSession

SENDER_TAKEN = reply(250, "2.1.0", "Sender ok")
GO_AHEAD = reply(354, "", "End data with <CR><LF>.<CR><LF>")
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
        self._together = not per_recipient and listener.several_next_hops is SeveralNextHops.TOGETHER
        self._retry = Retry(shared.recall, asked.reverse_path)
        self._body = Body(self._limits.body_memory, self._times.stall)
        self._hops = HopCounter()
        self._intake = Intake(session, listener, self._envelope, self._body, shared, self, self._log)
        self._data_slot: Slot | None = None
        self._data_taken = False
        self._slots: dict[int, Slot] = {}  # by recipient position: for its outcome
        self._refusal: Reply | None = None  # of the message as a whole, by our own policy
        self._committed = False
        self._progress = trio.Event()  # a recipient has its outcome
        self._began = trio.current_time()
        self._told: list[Recipient] = []
        self.told: list[Delivered] = []
        """deliveries whose success has been written to a client that was still there"""
        self.untold: list[Delivered] = []
        """those whose success has not, and of which the ledger does not know"""
        self.signs = 0
        """the client's signs of life until then"""

    @property
    def deliveries(self) -> int:
        """Those under way."""
        return self._intake.under_way

    async def run(self) -> Quit | Gone | None:
        """Serve the transaction; what ended the session, if anything did."""
        self._session.answer(self._asked.slot, SENDER_TAKEN)
        self._session.on_gone = self._client_left
        if self._session.gone:  # before there was anybody to be told
            return Gone()
        try:
            with self._body:
                async with trio.open_nursery() as deliveries:
                    self._intake.begin(deliveries)
                    ended = await self._take_recipients()
        finally:
            self._session.on_gone = lambda: None
            self._account()  # also of what is cut off: then a dot without its reply is an unknown outcome
            self.untold = self._retry.to_leave(one for one in self._intake.accepted if one not in self._told)
        if isinstance(ended, Gone) and self._data_slot is not None:
            await self._put_off_failed()  # it was perhaps kept waiting for too long
        if not self._intake.accepted:
            await self._retry.put_off_again([one for one, turn in self._intake.put_off.items() if turn is Turn.LATER])
        return ended

    def give_up(self, why: Reply) -> None:
        """End all deliveries, unless one has committed: then they run to their outcome."""
        if not self._committed:
            self._intake.give_up(why)

    def _client_left(self) -> None:
        """Nothing is begun for nobody: *together*, only what has its dot out goes on to its outcome."""
        self.give_up(CLIENT_LEFT)
        if self._together:
            for delivery in self._intake.deliveries:
                if not delivery.undecided:
                    delivery.drop(CLIENT_LEFT)
        self._progress.set()

    # Recipients

    async def _take_recipients(self) -> Quit | Gone | None:
        while True:
            match await self._session.next_event(self._times.command):
                case RcptAsked(slot, mailbox):
                    await self._intake.take(slot, mailbox)
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

    # DATA

    async def _take_data(self, slot: Slot) -> Quit | Gone | None:
        self._intake.accepted.sort(key=lambda one: one.position)
        self._data_slot = slot
        for delivery in self._intake.deliveries:
            if delivery.live:
                delivery.request_data()
            else:
                delivery.drop(TAKEN_BACK)
        self._decide_data()
        await self._session.replied()
        if slot.reply is None:
            self.give_up(CLIENT_LEFT)
            return Gone()
        if slot.reply.kind == 3:
            return await self._take_content()
        if slot.reply.kind == 4:
            await self._put_off_failed()
        return None

    def data_taken(self) -> None:
        """A delivery's report: its next hop has said 354."""
        self._data_taken = True
        self._decide_data()

    def _decide_data(self) -> None:
        """354 once one next hop takes the message; a refusal once none will. The others' refusals are outcomes."""
        slot = self._data_slot
        if slot is None or slot.reply is not None:
            return
        if self._data_taken:
            self._session.answer(slot, GO_AHEAD)
            for delivery in self._intake.deliveries:
                delivery.go_ahead()
        elif self._intake.settled:
            decide = together.one_reply if self._together else outcome.data_refusal
            self._session.answer(slot, decide(self._intake.outcomes))

    # The message

    async def _take_content(self) -> Quit | Gone | None:
        recipient = str(self._intake.accepted[0].mailbox) if len(self._intake.accepted) == 1 else None
        smtputf8 = self._envelope.parameters.smtputf8
        await self._append(received_line(self._arrival, recipient, smtputf8=smtputf8))
        while True:
            match await self._session.next_event(self._times.body):
                case Content(data):
                    self._hops.feed(data)
                    self._retry.feed(data)
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
        if self._refusal is not None or self._intake.settled:
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
        now = trio.current_time()
        for delivery in self._intake.deliveries:
            delivery.attempts_until = now + self._times.attempts
            delivery.patience_until = now + self._times.patience if self._together else -math.inf
            delivery.scope.deadline = now + self._times.delivery
        if self._refusal is None:
            await self._recognise()
            self._body.finish()
        places = slots if self._envelope.per_recipient else slots * len(self._intake.accepted)
        self._slots = {one.position: slot for one, slot in zip(self._intake.accepted, places, strict=True)}
        if not self._envelope.per_recipient:
            await self._answer_all(slots[0], now + self._times.delivery)
        for recipient in self._intake.accepted:
            self._tell_outcome(recipient)
        await self._session.replied()
        await self._all_settled()  # the client may have gone before
        self.signs = self._session.signs
        if not self._session.gone:
            self._told = [one for one in self._intake.accepted if one.delivered and self._written(one)]
            self.told = self._retry.to_leave(self._told)
        return None

    def _written(self, recipient: Recipient) -> bool:
        """Whether the client was written a success for a recipient."""
        answer = self._slots[recipient.position].reply
        return answer is not None and answer.kind == 2

    async def _recognise(self) -> None:
        """Leave out who has this message from an earlier transaction, whose success its client was not told."""
        known = await self._retry.recognise(self._intake.accepted)
        if known:
            self._log.info("delivered_before", to=[one.mailbox for one in known])
            for delivery in self._intake.deliveries:
                if not delivery.open:
                    delivery.drop(TAKEN_BACK)

    async def _answer_all(self, slot: Slot, until: float) -> None:
        """One reply for all, once all outcomes are known, and what is left has been handed over.

        Of a failure beside a success the ledger knows before the client does: its retry may be here in no time.
        """
        await self._all_settled()
        if self._refusal is not None:
            return
        host = self._listener.handover
        if host is not None and self._may_hand_over(until):
            self._committed = True
            left = [one for one in self._intake.accepted if not one.delivered]
            await hand_over(host, left, self._envelope, self._body, self._shared, self._log, until)
        answer = together.one_reply(self._intake.outcomes)
        if answer.kind == 4:
            await self._retry.leave_entries(self._intake.accepted)
            await self._put_off_failed()
        self._session.answer(slot, answer)

    def _may_hand_over(self, until: float) -> bool:
        gone = self._session.gone or self._intake.given_up is not None
        in_time = trio.current_time() < until
        return self._together and in_time and not gone and together.to_hand_over(self._intake.outcomes)

    async def _all_settled(self) -> None:
        """Wait for all outcomes. A client that has gone may be back at once: what it was not told is then written down
        as soon as it is known."""
        while True:
            self._progress = trio.Event()
            if self._session.gone:
                await self._retry.leave_entries(self._intake.accepted)
            if self._intake.settled:
                return
            await self._progress.wait()

    async def _put_off_failed(self) -> None:
        intake = self._intake
        if intake.given_up != outcome.STOPPED:  # that is no next hop's failure
            await self._retry.put_off(intake.accepted, list(intake.put_off), others_wait=intake.others_wait)

    # Reports

    def answered(self, recipient: Recipient, answer: Reply) -> None:
        """A delivery's report: the answer to a RCPT."""
        self._intake.answered(recipient, answer)

    def ready(self) -> None:
        """A delivery's report: it has written all but its dot."""
        self._proceed()

    def committing(self) -> None:
        """A delivery's report: its dot is about to be written."""
        if not self._committed:
            self._committed = True
            self._log.info(
                "committing",
                to=[one.mailbox for one in self._intake.accepted],
                bytes=self._body.size,
                paths=[f"{one.hop}/{one.path}" for one in self._intake.deliveries if one.live and one.path is not None],
            )

    def decided(self) -> None:
        """A delivery's report: it has all answers to its dot."""
        self._proceed()

    def begun(self) -> bool:
        """Whether somebody has the message, or may have it, and the client waits."""
        return not self._session.gone and together.begun(self._intake.deliveries, self._intake.outcomes)

    def settled(self, recipient: Recipient) -> None:
        """A delivery's report: a recipient has its outcome."""
        self._progress.set()
        self._proceed()
        self._decide_data()
        self._tell_outcome(recipient)

    def _proceed(self) -> None:
        """Let those commit whose turn it is; where nobody is to have the message any more, end the others."""
        if not self._together:
            for delivery in self._intake.deliveries:
                if delivery.ready:
                    delivery.commit()
        elif together.doomed(self._intake.deliveries, self._intake.outcomes):
            if self._intake.given_up is None:
                self._intake.give_up(together.KEPT_BACK.reply)
        else:
            for delivery in together.to_commit(self._intake.deliveries, self._intake.outcomes):
                delivery.commit()

    def _tell_outcome(self, recipient: Recipient) -> None:
        slot = self._slots.get(recipient.position)
        if slot is None or slot.reply is not None:
            return
        if self._refusal is not None:
            self._session.answer(slot, self._refusal)
        elif self._envelope.per_recipient and recipient.outcome is not None:
            self._session.answer(slot, recipient.outcome.reply)

    def _account(self) -> None:
        """Count the outcomes, and write the line that ends the transaction's story."""
        outcomes = [one for one in self._intake.outcomes if one is not DELIVERED_BEFORE]
        if not outcomes:
            return
        seconds = trio.current_time() - self._began
        if self._intake.given_up in (CLIENT_LEFT, TAKEN_BACK):
            to = [one.mailbox for one in self._intake.accepted]
            self._log.info("abandoned", why=self._intake.given_up.text, to=to, bytes=self._body.size, seconds=seconds)
            return
        kinds = [one.kind for one in outcomes]
        self._shared.counts.update(kind.value for kind in kinds)
        untold = {}
        if self._session.gone and Kind.DELIVERED in kinds:
            untold = {"untold": kinds.count(Kind.DELIVERED)}
            self._shared.counts.update(untold)
        told = [f"{one.mailbox} {one.outcome} ({one.via})" for one in self._intake.accepted]
        if all(kind is Kind.DELIVERED for kind in kinds):
            self._log.info("delivered", outcomes=told, seconds=seconds, **untold)
        else:
            event = "partly_delivered" if Kind.DELIVERED in kinds else "not_delivered"
            self._log.warning(event, outcomes=told, bytes=self._body.size, seconds=seconds, **untold)
