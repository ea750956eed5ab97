"""Handing over what next hops did not take to an inside MTA with a queue, in the same session.

Some recipients of a plain SMTP transaction have the message and some have not; one 250 is true of all of them as soon
as somebody answers for the rest (RFC 5321 section 4.4). That is this MTA: it tries on, and tells the sender of what
fails for good. A recipient whose outcome is unknown is not handed over, for it may have the message (promise 5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.protocol.reply import Reply
from mailgate.relay.body import Body
from mailgate.relay.delivery import Delivery
from mailgate.relay.envelope import Envelope, Recipient
from mailgate.relay.outcome import Kind
from mailgate.relay.routing import NextHop
from mailgate.relay.settings import Host, Route
from mailgate.relay.shared import Shared


async def hand_over(
    host: Host,
    recipients: Sequence[Recipient],
    envelope: Envelope,
    body: Body,
    shared: Shared,
    log: FilteringBoundLogger,
    until: float,
) -> None:
    """Deliver to the host, until some time on Trio's clock; whom it takes has another outcome afterwards.

    With several recipients it has several replies to RCPT, and its reply to the dot is for those it has accepted.
    """
    log.info("handing_over", host=host, outcomes=[f"{one.mailbox} {one.outcome} ({one.via})" for one in recipients])
    route = Route(name="handover", domains=("*",), hosts=(host,))
    again = [Recipient(one.position, one.mailbox, one.slot, trio.current_time()) for one in recipients]
    reports = _Reports(len(again))
    delivery = reports.delivery = Delivery(
        NextHop(route, hosts=((host,),)),
        recipients[0].mailbox.domain,
        dataclasses.replace(envelope, per_recipient=True),
        body,
        shared,
        reports,
        log,
        capacity=len(again),
        crowded=lambda: None,
    )
    delivery.scope.deadline = until
    for recipient in again:
        delivery.offer(recipient)
    try:
        await delivery.run()
    finally:  # what is true of them is true even if this was cut off
        for recipient, handed in zip(recipients, again, strict=True):
            if handed.outcome is not None and handed.outcome.kind in (Kind.DELIVERED, Kind.UNKNOWN):
                recipient.outcome, recipient.via = handed.outcome, handed.via


class _Reports:
    """Drives the delivery on: DATA once all are answered, and the dot without waiting for anybody."""

    def __init__(self, waiting: int) -> None:
        self.delivery: Delivery | None = None
        self._waiting = waiting

    def answered(self, recipient: Recipient, answer: Reply) -> None:
        self._waiting -= 1
        if not self._waiting and self.delivery is not None:
            if self.delivery.live:
                self.delivery.request_data()
            else:
                self.delivery.drop(answer)

    def data_taken(self) -> None:
        pass

    def ready(self) -> None:
        if self.delivery is not None:
            self.delivery.commit()

    def committing(self) -> None:
        pass

    def decided(self) -> None:
        pass

    def begun(self) -> bool:
        return False

    def settled(self, recipient: Recipient) -> None:
        pass
