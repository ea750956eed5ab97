"""One next hop's part of a transaction: one task, read from top to bottom.

    for each session with MAIL taken (see reach): recipients → DATA → message → dot → outcomes

Recipients reach it through its inbox, in the client's order, and leave on its upstream session in that order. What
it learns it reports at once. A path that fails before the commit is followed by the next one, on which everything
is said again. From the commit on there is no other path: what is not heard then is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVarTuple

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.command import Extension
from mailgate.protocol.reply import Reply, Role, passed_on, reply
from mailgate.relay import outcome
from mailgate.relay.body import Body
from mailgate.relay.envelope import Envelope, Recipient
from mailgate.relay.outcome import Failure, Outcome, Scope, Stage
from mailgate.relay.paths import refused
from mailgate.relay.reach import Reach
from mailgate.relay.routing import NextHop, Path
from mailgate.relay.settings import Host
from mailgate.relay.shared import Shared
from mailgate.relay.upstreams import Lease
from mailgate.session.client import ClientSession, Lost, Patience

_About = TypeVarTuple("_About")

AHEAD = reply(250, "2.1.5", "Accepted, the next hop will be asked when there is room")
FULL = reply(452, "4.5.3", "Too many recipients for this next hop, send the rest in another transaction")


class Reports(Protocol):
    """What a delivery tells the transaction it belongs to. Nothing here waits."""

    def answered(self, recipient: Recipient, answer: Reply) -> None:
        """The next hop's answer to RCPT, or ours in its place."""

    def data_taken(self) -> None:
        """The next hop has said 354."""

    def committing(self, delivery: Delivery) -> None:
        """The dot is about to be written."""

    def settled(self, recipient: Recipient) -> None:
        """An accepted recipient has its outcome."""


class Delivery:
    """Give it recipients with `offer`, then `request_data`; `run` is its task, `scope` ends it early."""

    def __init__(
        self,
        hop: NextHop,
        domain: str,
        envelope: Envelope,
        body: Body,
        shared: Shared,
        reports: Reports,
        log: FilteringBoundLogger,
    ) -> None:
        """`domain`: of its first recipient."""
        self.hop = hop
        self._domain = domain
        self.scope = trio.CancelScope()
        self.path: Path | None = None
        """the path under way, or the last one"""
        self.offered = 0
        """recipients it was given"""
        self.attempts_until = math.inf
        """when the last attempt may start, on Trio's clock"""
        self._envelope = envelope
        self._body = body
        self._shared = shared
        self._times = shared.settings.timeouts
        self._reports = reports
        self._log = log
        self._news = trio.Event()  # there are more recipients, or DATA is requested
        self._waiting: list[Recipient] = []  # the inbox: they wait for an answer to their RCPT
        self._taken: list[Recipient] = []  # accepted, on whichever path
        self._here: list[Recipient] = []  # accepted on the path under way
        self._answered_at = -math.inf  # when a recipient was last answered
        self._failures: list[Failure] = []
        self._data_by = math.inf  # from the request on: when a 354 must be there
        self._data_requested = False
        self._opening = trio.CancelScope()  # a session is being opened
        self._ahead = False  # recipients are accepted before they are offered
        self._committed = False
        self._reporting = False  # the transaction is being told something
        self._over: Reply | None = None  # what is said to whoever comes too late
        one_outcome = not envelope.per_recipient and hop.route.protocol is Role.LMTP
        self._capacity = 1 if one_outcome else shared.settings.limits.recipients_per_delivery

    # For the transaction: nothing here waits

    @property
    def live(self) -> bool:
        """Its next hop has accepted a recipient, and it has not been given up."""
        return bool(self._taken) and self._over is None

    @property
    def over(self) -> bool:
        """It has ended, or was given up."""
        return self._over is not None

    def offer(self, recipient: Recipient) -> None:
        """One more recipient; its answer will be reported."""
        self.offered += 1
        if self._over is not None:
            self._report(self._reports.answered, recipient, self._over)
        else:
            self._waiting.append(recipient)
            self._keep_time()
            self._news.set()
            if self._ahead:
                self._answer(recipient, AHEAD)

    def request_data(self) -> None:
        """All recipients are answered: get the message out to those accepted."""
        if self._over is None:
            self._data_requested = True
            self._data_by = trio.current_time() + self._times.data
            self._keep_time()
            self._news.set()

    def go_ahead(self) -> None:
        """The client has its 354, from whichever next hop: nobody waits for ours."""
        self._data_by = math.inf
        self._keep_time()

    def drop(self, why: Reply) -> None:
        """Give up; whoever is waiting hears why."""
        if self._over is None:
            self._over = why
        self.scope.cancel()

    # The task

    async def run(self) -> None:
        """Deliver. However this ends, every recipient is answered, and has an outcome if it was accepted."""
        try:
            with self.scope:
                await self._deliver()
        except* Exception:
            if self._reporting:
                raise
            # A bug here is this delivery's failure, not the session's: other next hops go on.
            self._over = outcome.BUG
            self._log.exception("delivery_failed", hop=self.hop, path=self.path)
        finally:
            self._settle_the_rest(outcome.TOO_LATE if self.scope.cancelled_caught else outcome.STOPPED)

    async def _deliver(self) -> None:
        reach = Reach(
            self.hop,
            self._domain,
            self._envelope,
            self._shared,
            self._log,
            self._note,
            self._accept_ahead,
            self._may_start,
        )
        while self._may_start():
            lease = await self._open(reach)
            if lease is None:
                break
            try:
                failure = await self._use(lease)
            finally:
                await trio.aclose_forcefully(lease)
            if failure is None:
                break
            self._note(lease.path, failure)
            if not failure.elsewhere:
                break
        self._over = outcome.told(self._failures)

    async def _open(self, reach: Reach) -> Lease | None:
        """The next session on which MAIL was taken, if there is one in time for whoever is still to be served."""
        while self._may_start():
            with trio.CancelScope(deadline=self._limit()) as self._opening:
                lease = await reach.open()
                self._ahead = False
                return lease
            self._note(self.path, outcome.ours(Stage.CONNECT, Scope.PATH, "no session in time"))
        return None

    def _note(self, where: Path | Host | str | None, failure: Failure) -> None:
        self._failures.append(failure)
        if isinstance(where, Path):
            self.path = where
        self._log.warning("attempt_failed", hop=self.hop, path=where, stage=failure.stage.value, why=failure.why)
        if self._waiting and self._answer_by() <= trio.current_time():
            self._answer(self._waiting[0], outcome.told(self._failures))

    def _may_start(self) -> bool:
        """Another attempt has somebody to serve, and time to do so."""
        now = trio.current_time()
        someone = bool(self._waiting) or any(one.outcome is None for one in self._taken)
        return someone and now < self.attempts_until and now < self._limit()

    def _limit(self) -> float:
        """When the step under way must be done, for the sake of the reply that the client waits for."""
        return min(self._data_by, self._answer_by())

    def _answer_by(self) -> float:
        """When the first one who waits must be answered: clients wait for each reply from the one before it on."""
        if not self._waiting:
            return math.inf
        return max(self._waiting[0].arrived, self._answered_at) + self._times.recipient

    def _keep_time(self) -> None:
        """Whom we serve has changed, and so has the time that there is to open a session."""
        self._opening.deadline = self._limit()

    def _patience(self, silence: float) -> Patience:
        return Patience(silence, self._limit())

    def _accept_ahead(self) -> None:
        """There is no room for a session, and may be none until other deliveries of this transaction are over.

        Where each recipient has a reply of its own behind the data, it may be accepted before it was asked for.
        """
        if self._envelope.per_recipient:
            self._ahead = True
            for recipient in list(self._waiting):
                self._answer(recipient, AHEAD)

    # One session

    async def _use(self, lease: Lease) -> Failure | None:
        self.path = lease.path
        self._here = []
        session = lease.session
        assert session is not None
        failure = None
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            failure = await self._dialog(session)
            listening.cancel_scope.cancel()
        return failure

    async def _dialog(self, session: ClientSession) -> Failure | None:
        failure = await self._recipients(session)
        if failure is not None or not self._here:
            return failure
        return await self._data(session) or await self._content(session) or await self._commit(session)

    async def _recipients(self, session: ClientSession) -> Failure | None:
        """Offer those that earlier paths had taken, those that wait, and those that come, until DATA is asked."""
        again = [one for one in self._taken if one.outcome is None]
        failure = await self._offer_all(session, [*again, *self._waiting])
        while failure is None and not self._data_requested:
            await self._news.wait()
            self._news = trio.Event()
            failure = await self._offer_all(session, self._waiting)
        return failure

    async def _offer_all(self, session: ClientSession, recipients: Sequence[Recipient]) -> Failure | None:
        pipelining = Extension.PIPELINING in session.capabilities.extensions
        left = list(recipients)
        while left:
            room = self._capacity - len(self._here)
            if room == 0:
                for recipient in left:
                    self._answer(recipient, FULL)
                return None
            size = room if pipelining else 1
            batch, left = left[:size], left[size:]
            failure = await self._offer_batch(session, batch)
            if failure is not None:
                return failure
        return None

    async def _offer_batch(self, session: ClientSession, batch: Sequence[Recipient]) -> Failure | None:
        lost = await session.offer([recipient.mailbox for recipient in batch], self._patience(self._times.envelope))
        if lost is not None:
            return outcome.failure(Stage.RCPT, lost)
        for recipient in batch:
            result = await session.reply(self._patience(self._times.envelope))
            if isinstance(result, Lost) or result.code == 421:
                return outcome.failure(Stage.RCPT, result)
            if result.kind == 2:
                self._here.append(recipient)
            if result.kind == 4:
                self._greylisted(recipient)
            if not recipient.accepted:
                self._answer(recipient, passed_on(result, "1.5" if result.kind == 2 else "0.0"))
            elif result.kind != 2:
                if not self._envelope.per_recipient:
                    return outcome.refuses_accepted(result)
                self._settle(recipient, outcome.outcome(result))
        return None

    def _greylisted(self, recipient: Recipient) -> None:
        """It may have been greylisting: then only the same backbone will be let in soon."""
        backbone = self.path.backbone if self.path is not None else None
        if backbone is not None and len(self.hop.route.backbones) > 1:
            sender, domain = self._envelope.reverse_path, recipient.mailbox.domain
            self._shared.greylist.met(sender, domain, backbone.name, trio.current_time())

    async def _data(self, session: ClientSession) -> Failure | None:
        result = await session.data(self._patience(self._times.data))
        if refused(result):
            return outcome.failure(Stage.DATA, result)
        self.go_ahead()
        self._report(self._reports.data_taken)
        return None

    async def _content(self, session: ClientSession) -> Failure | None:
        """Send the message, up to the end that the client's dot makes."""
        reader = self._body.reader(holds=all(one.stage is not Stage.CONTENT for one in self._failures))
        try:
            while octets := await reader.read():
                result = await session.content(octets)
                if result is not None:
                    return outcome.failure(Stage.CONTENT, result)
        finally:
            reader.close()
        # A reply that came before our dot must not become the answer to it.
        spoken = await session.look()
        return None if spoken is None else outcome.failure(Stage.CONTENT, spoken)

    async def _commit(self, session: ClientSession) -> Failure | None:
        """Write the dot, and hear the outcomes. There is no failure behind it, only outcomes."""
        # Whoever was given up in this very moment must not commit: from here to the write nothing waits.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._committed = True
        self._report(self._reports.committing, self)
        await session.end()
        patience = Patience(math.inf)
        if self.hop.route.protocol is Role.LMTP:  # RFC 2033 section 4.2
            for recipient in self._here:
                result = await session.reply(patience)
                if isinstance(result, Lost):
                    return None
                self._settle(recipient, outcome.outcome(result))
            return None
        result = await session.reply(patience)
        if isinstance(result, Reply) and result.kind == 3:
            await self._prdr_outcomes(session)
        elif isinstance(result, Reply):
            for recipient in self._here:
                self._settle(recipient, outcome.outcome(result))
        return None

    async def _prdr_outcomes(self, session: ClientSession) -> None:
        replies = []
        while session.outcomes_due:
            result = await session.reply(Patience(math.inf))
            if isinstance(result, Lost):
                return
            replies.append(result)
        *each, final = replies
        for recipient, settled in zip(self._here, outcome.prdr_outcomes(each, final), strict=True):
            self._settle(recipient, settled)

    # What is told

    def _report(self, tell: Callable[[*_About], None], *about: *_About) -> None:
        """Tell the transaction something. What fails in there is a bug of the whole transaction."""
        self._reporting = True
        tell(*about)
        self._reporting = False

    def _answer(self, recipient: Recipient, answer: Reply) -> None:
        self._waiting.remove(recipient)
        self._answered_at = trio.current_time()
        self._keep_time()
        recipient.via = self.path
        if answer.kind == 2:
            recipient.accepted = True
            self._taken.append(recipient)
        self._report(self._reports.answered, recipient, answer)

    def _settle(self, recipient: Recipient, result: Outcome) -> None:
        recipient.outcome = result
        recipient.via = self.path
        self._report(self._reports.settled, recipient)

    def _settle_the_rest(self, why: Reply) -> None:
        """Whoever has not been told anything yet is told now. Nothing here waits, so nothing can interrupt it."""
        self._over = self._over or why
        for recipient in list(self._waiting):
            self._answer(recipient, self._over)
        for recipient in self._taken:
            if recipient.outcome is None:
                self._settle(recipient, outcome.UNKNOWN if self._committed else outcome.undelivered(self._over))
