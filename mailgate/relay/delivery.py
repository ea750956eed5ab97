"""One next hop's part of a transaction: one task, read from top to bottom.

    for each session with MAIL taken (see reach): recipients → DATA → message → its turn → dot → outcomes

Recipients reach it through its inbox, in the client's order, and leave on its upstream session in that order. What
it learns it reports at once. A path that fails before the commit is followed by the next one, on which everything
is said again. From the commit on there is no other path: what is not heard then is unknown. (*Together*, a 4xx that
is heard then may be mended: by another path, or by the same one some seconds later.)
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import TypeVarTuple

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.command import Extension
from mailgate.protocol.reply import Reply, passed_on, reply
from mailgate.relay import dot, outcome, together
from mailgate.relay.body import Body
from mailgate.relay.envelope import Envelope, Recipient
from mailgate.relay.inbox import Inbox
from mailgate.relay.outcome import Failure, Outcome, Scope, Stage
from mailgate.relay.paths import refused
from mailgate.relay.reach import Reach
from mailgate.relay.reports import Reports
from mailgate.relay.routing import NextHop, Path
from mailgate.relay.settings import Host
from mailgate.relay.shared import Shared
from mailgate.relay.upstreams import Lease
from mailgate.session.client import ClientSession, Lost, Patience

_About = TypeVarTuple("_About")

AHEAD = reply(250, "2.1.5", "Accepted, the next hop will be asked when there is room")
FULL = reply(452, "4.5.3", "Too many recipients for this next hop, send the rest in another transaction")

PAUSE = 1.0
"""seconds before the same paths are tried again; twice as long each time"""

LONGEST_PAUSE = 30.0


class Again(enum.Enum):
    """What an attempt may end with besides a failure."""

    WITHOUT_SOME = "without some"
    """recipients are on the session who must not have the message: it is said again without them"""


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
        *,
        capacity: int,
        crowded: Callable[[], Reply | None],
    ) -> None:
        """`domain`: of its first recipient. `capacity`: recipients in one upstream transaction, at most.

        `crowded`: what recipients hear where there is no room for a session; None: they wait for it.
        """
        self.hop = hop
        self._domain = domain
        self.scope = trio.CancelScope()
        self.path: Path | None = None
        """the path under way, or the last one"""
        self.offered = 0
        """recipients it was given"""
        self.attempts_until = math.inf
        """when the last attempt may start, on Trio's clock"""
        self.patience_until = -math.inf
        """until when it may be tried again although the next hop has refused, or no path is left"""
        self.ready = False
        """all but the dot is written"""
        self.undecided = False
        """the dot may be out, and not all of the answers to it are here"""
        self._envelope = envelope
        self._body = body
        self._shared = shared
        self._times = shared.settings.timeouts
        self._reports = reports
        self._log = log
        self._inbox = Inbox(self._times.recipient, self._keep_time)
        self._here: list[Recipient] = []  # accepted on the path under way
        self._failures: list[Failure] = []
        self._opening = trio.CancelScope()  # a session is being opened
        self._ahead: Reply | None = None  # what recipients hear before they are offered
        self._session: ClientSession | None = None  # the one under way
        self._may_commit = False
        self._mendable: list[tuple[Recipient, Outcome]] = []  # answers to the dot that may be better next time
        self._reporting = False  # the transaction is being told something
        self._over: Reply | None = None  # what is said to whoever comes too late
        self._capacity = capacity
        self._crowded = crowded

    # For the transaction: nothing here waits

    @property
    def live(self) -> bool:
        """Its next hop has accepted a recipient, and it has not been given up."""
        return bool(self._inbox.taken) and self._over is None

    @property
    def open(self) -> bool:
        """It has accepted recipients without an outcome."""
        return bool(self._inbox.open)

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
            self._inbox.put(recipient)
            if self._ahead is not None:
                self._answer(recipient, self._ahead)

    def request_data(self) -> None:
        """All recipients are answered: get the message out to those accepted."""
        if self._over is None:
            self._inbox.request_data(trio.current_time() + self._times.data)

    def go_ahead(self) -> None:
        """The client has its 354, from whichever next hop: nobody waits for ours."""
        self._inbox.go_ahead()

    def commit(self) -> None:
        """It is its turn: once it is `ready` it may write its dot."""
        self._may_commit = True
        if self._session is not None:
            self._session.wake()

    def drop(self, why: Reply) -> None:
        """Give up; whoever is waiting hears why."""
        if self._over is None and trio.current_time() < self.scope.deadline:
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
        pause = PAUSE
        while True:
            if await self._try_all_paths() is Again.WITHOUT_SOME:
                continue
            if not self._worth_a_pause(pause):
                break
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._over = outcome.told(self._failures)

    def _worth_a_pause(self, pause: float) -> bool:
        """Nothing is left to be tried now, but somebody else has the message, the client waits, and it may pass."""
        last = self._failures[-1] if self._failures else None
        final = last is not None and not (last.elsewhere or together.passes(outcome.undelivered(last.reply)))
        in_time = trio.current_time() + pause < min(self.patience_until, self.attempts_until)
        return self.open and in_time and not final and self._reports.begun()

    async def _try_all_paths(self) -> Again | None:
        reach = Reach(
            self.hop,
            self._domain,
            self._envelope,
            self._shared,
            self._log,
            self._note,
            self._answer_ahead,
            self._may_start,
        )
        while self._may_start():
            lease = await self._open(reach)
            if lease is None:
                break
            try:
                result = await self._use(lease)
            finally:
                await trio.aclose_forcefully(lease)
            if not isinstance(result, Failure):
                return result
            self._note(lease.path, result)
            if not result.elsewhere:
                break
        return None

    async def _open(self, reach: Reach) -> Lease | None:
        """The next session on which MAIL was taken, if there is one in time for whoever is still to be served."""
        while self._may_start():
            with trio.CancelScope(deadline=self._inbox.limit()) as self._opening:
                lease = await reach.open()
                self._ahead = None
                return lease
            self._note(self.path, outcome.ours(Stage.CONNECT, Scope.PATH, "no session in time"))
        return None

    def _note(self, where: Path | Host | str | None, failure: Failure) -> None:
        self._failures.append(failure)
        if isinstance(where, Path):
            self.path = where
        self._log.warning("attempt_failed", hop=self.hop, path=where, stage=failure.stage.value, why=failure.why)
        if self._inbox.waiting and self._inbox.answer_by() <= trio.current_time():
            self._answer(self._inbox.waiting[0], outcome.told(self._failures))

    def _may_start(self) -> bool:
        """Another attempt has somebody to serve, and time to do so."""
        now = trio.current_time()
        someone = self._inbox.waiting or self._inbox.open
        return bool(someone) and now < self.attempts_until and now < self._inbox.limit()

    def _keep_time(self) -> None:
        """Whom we serve has changed, and so has the time that there is to open a session."""
        self._opening.deadline = self._inbox.limit()

    def _patience(self, silence: float) -> Patience:
        return Patience(silence, self._inbox.limit())

    def _answer_ahead(self) -> None:
        """There is no room for a session, and may be none until other deliveries of this transaction are over."""
        self._ahead = self._crowded()
        if self._ahead is not None:
            for recipient in list(self._inbox.waiting):
                self._answer(recipient, self._ahead)

    # One session

    async def _use(self, lease: Lease) -> Failure | Again | None:
        self.path = lease.path
        self._here = []
        session = lease.session
        assert session is not None
        result = None
        async with trio.open_nursery() as listening:
            listening.start_soon(session.listen)
            self._session = session
            result = await self._dialog(session)
            listening.cancel_scope.cancel()
        return result

    async def _dialog(self, session: ClientSession) -> Failure | Again | None:
        failure = await self._recipients(session)
        if failure is not None or not self._here:
            return failure
        return (
            await self._data(session)
            or await self._content(session)
            or await self._turn(session)
            or await self._commit(session)
        )

    async def _recipients(self, session: ClientSession) -> Failure | None:
        """Offer those that earlier paths had taken, those that wait, and those that come, until DATA is asked."""
        failure = await self._offer_all(session, [*self._inbox.open, *self._inbox.waiting])
        while failure is None and not self._inbox.data_requested:
            await self._inbox.news()
            failure = await self._offer_all(session, self._inbox.waiting)
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
        return None

    async def _turn(self, session: ClientSession) -> Failure | Again | None:
        """Hold the dot until it may go. A session that is lost meanwhile is lost before its dot."""
        self._may_commit = False
        self.ready = True
        self._report(self._reports.ready)
        # A reply that came before our dot must not become the answer to it.
        spoken = await session.hold(lambda: self._may_commit)
        self.ready = False
        if spoken is not None:
            return outcome.failure(Stage.CONTENT, spoken)
        return Again.WITHOUT_SOME if any(one.outcome is not None for one in self._here) else None

    async def _commit(self, session: ClientSession) -> Failure | None:
        """Write the dot, and hear the outcomes. A failure behind it is a refusal that may be mended."""
        # Whoever was given up in this very moment must not commit: from here to the write nothing waits.
        await trio.lowlevel.checkpoint_if_cancelled()
        self.undecided = True
        self._report(self._reports.committing)
        await session.end()

        def heard(recipient: Recipient, result: Outcome) -> None:
            if together.passes(result) and trio.current_time() < self.patience_until:
                self._mendable.append((recipient, result))
            else:
                self._settle(recipient, result)

        complete = await dot.hear(session, self.hop.route.protocol, self._here, heard)
        self.undecided = False
        if self._mendable and complete and self._reports.begun():
            self.attempts_until = min(self.attempts_until, self.patience_until)
            refusal = self._mendable[0][1].reply
            self._mendable.clear()
            return outcome.refused_for_now(refusal)
        self._settle_mendable()
        for recipient in self._here:
            if recipient.outcome is None:
                self._settle(recipient, outcome.UNKNOWN)
        self._report(self._reports.decided)
        return None

    # What is told

    def _report(self, tell: Callable[[*_About], None], *about: *_About) -> None:
        """Tell the transaction something. What fails in there is a bug of the whole transaction."""
        self._reporting = True
        tell(*about)
        self._reporting = False

    def _answer(self, recipient: Recipient, answer: Reply) -> None:
        recipient.via = self.path
        self._inbox.answered(recipient, accepted=answer.kind == 2)
        self._report(self._reports.answered, recipient, answer)

    def _settle(self, recipient: Recipient, result: Outcome) -> None:
        recipient.outcome = result
        recipient.via = self.path
        self._report(self._reports.settled, recipient)

    def _settle_mendable(self) -> None:
        mendable, self._mendable = self._mendable, []
        for recipient, result in mendable:
            self._settle(recipient, result)

    def _settle_the_rest(self, why: Reply) -> None:
        """Whoever has not been told anything yet is told now. Nothing here waits, so nothing can interrupt it."""
        self._over = self._over or why
        for recipient in list(self._inbox.waiting):
            self._answer(recipient, self._over)
        rest = outcome.undelivered(self._over)
        if self.undecided:
            rest = outcome.UNKNOWN
        elif self.ready and not self._may_commit:
            rest = together.KEPT_BACK  # it is not this next hop that was waited for
        self.undecided = self.ready = False
        self._settle_mendable()
        for recipient in self._inbox.open:
            self._settle(recipient, rest)
