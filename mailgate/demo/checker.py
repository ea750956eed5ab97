"""Whether the promises held: the history in, breaches and numbers out. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailgate.demo.history import Copy, Duplicate, History, Recipient, Sent, Try, below_received, bringer, message_id
from mailgate.testing import Stage, State


class Promise(enum.Enum):
    """What a gateway promises; the value says it in a few words."""

    CONFIRMED = "a 2xx only after the next hop's own 2xx"
    OWN_REFUSAL = "a 5xx only from the recipient's own next hop"
    WHOLE = "only whole messages, byte for byte"
    ONCE = "nobody twice, but after an announced unknown outcome"
    PLACE = "to its own domain's server, and nobody else's"
    BACKBONE = "over its own uplinks, each with its address and HELO name"
    IN_TIME = "every answer in time"
    FOUND_OUT = "a path that is mended is soon used again"
    SOUND = "no breach of the protocol, no internal error"
    NOTHING_LEFT = "nothing left of a session that ended"


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that did not hold, and how."""

    promise: Promise
    id: str
    """the message's; "" if it is about none"""
    how: str

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.how}"


@dataclass(frozen=True, slots=True)
class Tally:
    """The numbers. All but `messages` and `half` count recipients."""

    messages: int
    recipients: int
    delivered: int
    refused: int
    deferred_first: int
    """of those delivered: put off, or cut off, by a gateway before"""
    queued: int
    """still with their senders"""
    lost: int
    """their senders believe them delivered, and no server has them"""
    half: int
    """arrivals of which a part is missing"""
    duplicates: tuple[Duplicate, ...]
    """one per copy too many"""


@dataclass(frozen=True, slots=True)
class Findings:
    """The verdict: without breaches every promise held."""

    breaches: tuple[Breach, ...]
    tally: Tally


def check(history: History) -> Findings:
    """Compare what was sent, and how that was answered, with what arrived."""
    copies = history.copies
    breaches = [
        *(breach for sent in history.sent for breach in _answers(sent, copies)),
        *(breach for sent in history.sent for breach in _copies_too_many(sent, copies)),
        *_contents(history),
        *_strangers(history, copies),
        *_impostors(history, copies),
        *_late(history),
        *(Breach(Promise.SOUND, "", fault) for fault in history.faults),
        *(Breach(Promise.NOTHING_LEFT, "", rest) for rest in history.left),
    ]
    return Findings(tuple(breaches), _tally(history, copies))


def duplicates(sent: Sent, copies: Sequence[Copy]) -> tuple[Duplicate, ...]:
    """The copies too many of a message, each with the best explanation that the evidence allows."""
    return tuple(kind for address in _addresses(sent) for kind in _kinds(sent, address, copies))


def _answers(sent: Sent, copies: Sequence[Copy]) -> Iterator[Breach]:
    """Each final answer needs a next hop's own behind it; by gateway, since another one's is no excuse."""
    for address in _addresses(sent):
        ours = _copies_for(sent, address, copies)
        for gateway in _gateways(sent):
            confirmed = sum(copy.taken for copy in ours if copy.gateway == gateway)
            if _told(sent, address, gateway, State.DELIVERED) > confirmed:
                how = f"{gateway} said 2xx for {address}, its next hop did not"
                yield Breach(Promise.CONFIRMED, sent.id, how)
            refused = sum(copy.reply.startswith("5") for copy in ours if copy.gateway == gateway)
            if _told(sent, address, gateway, State.REFUSED) > refused:
                how = f"{gateway} said 5xx for {address}, its next hop did not"
                yield Breach(Promise.OWN_REFUSAL, sent.id, how)


def _copies_too_many(sent: Sent, copies: Sequence[Copy]) -> Iterator[Breach]:
    for address in _addresses(sent):
        for kind in _kinds(sent, address, copies):
            if kind not in sent.announced:
                yield Breach(Promise.ONCE, sent.id, f"{address} has a copy too many, kind: {kind.value}")


def _kinds(sent: Sent, address: str, copies: Sequence[Copy]) -> list[Duplicate]:
    """An explanation needs a try at that gateway which ended after the message, and not in a 2xx."""
    ours = _copies_for(sent, address, copies)
    too_many = sum(copy.taken or copy.unanswered for copy in ours)
    too_many -= sum(recipient.address == address for recipient in sent.recipients)
    explained: list[Duplicate] = []
    for gateway in _gateways(sent):
        brought = [copy for copy in ours if copy.gateway == gateway]
        ended = [
            one for one in _tries(sent, address, gateway) if one.stage is Stage.DOT and one.state is State.DEFERRED
        ]
        unknown = min(len(ended), sum(copy.unanswered for copy in brought))
        confirmed = sum(copy.taken for copy in brought) - _told(sent, address, gateway, State.DELIVERED)
        unheard = sum(not one.text[:1].isdigit() for one in ended)
        explained += [Duplicate.UNKNOWN] * unknown
        explained += [Duplicate.UNTOLD] * max(0, min(unheard, len(ended) - unknown, confirmed))
    explained += [Duplicate.UNEXPLAINED] * (too_many - len(explained))
    return explained[: max(0, too_many)]


def _contents(history: History) -> Iterator[Breach]:
    """Each arrival is a message that was sent, whole, under one `Received:` line of a gateway."""
    sent = {one.id: one for one in history.sent}
    for arrival in history.arrivals:
        content = arrival.message.content
        original = sent.get(message_id(content))
        if original is None:
            yield Breach(Promise.WHOLE, "", f"{arrival.server} got a message that nobody sent")
            continue
        what = None
        if not bringer(content):
            what = "without a Received line of a gateway"
        elif len(below_received(content)) < len(original.content):
            missing = len(original.content) - len(below_received(content))
            what = f"with {missing} bytes missing"
        elif below_received(content) != original.content:
            what = "changed"
        elif arrival.message.reverse_path != original.reverse_path:
            what = f"as from <{arrival.message.reverse_path}>, sent as from <{original.reverse_path}>"
        if what is not None:
            yield Breach(Promise.WHOLE, original.id, f"{arrival.server} got it {what}")


def _strangers(history: History, copies: Sequence[Copy]) -> Iterator[Breach]:
    recipients = {sent.id: _addresses(sent) for sent in history.sent}
    for copy in copies:
        home = history.homes.get(copy.address.rpartition("@")[2])
        if copy.server != home:
            yield Breach(Promise.PLACE, copy.id, f"{copy.server} got mail for {copy.address}")
        elif copy.address not in recipients.get(copy.id, [copy.address]):
            yield Breach(Promise.PLACE, copy.id, f"{copy.address} got it, and was no recipient of it")


def _impostors(history: History, copies: Sequence[Copy]) -> Iterator[Breach]:
    for copy in copies:
        if copy.gateway and history.backbone(copy) is None:
            how = f"{copy.server} got mail for {copy.address} by {copy.gateway} as {copy.caller}: no uplink of it"
            yield Breach(Promise.BACKBONE, copy.id, how)


def _late(history: History) -> Iterator[Breach]:
    for sent in history.sent:
        patience = history.patience if sent.within is None else sent.within
        for recipient in sent.recipients:
            for one in recipient.tries:
                if one.seconds > patience:
                    how = f"{one.gateway} answered for {recipient.address} after {one.seconds:.1f} s, not {patience:g}"
                    yield Breach(Promise.IN_TIME, sent.id, how)
        for seconds in sent.mended:
            if seconds > history.recovery:
                how = f"{history.recovery:g} s after all was mended a gateway had not found out"
                yield Breach(Promise.FOUND_OUT, sent.id, how)


def _tally(history: History, copies: Sequence[Copy]) -> Tally:
    everyone = [recipient for sent in history.sent for recipient in sent.recipients]
    states = [recipient.state for recipient in everyone]
    sizes = {sent.id: len(sent.content) for sent in history.sent}
    contents = [arrival.message.content for arrival in history.arrivals]
    return Tally(
        messages=len(history.sent),
        recipients=len(everyone),
        delivered=states.count(State.DELIVERED),
        refused=states.count(State.REFUSED),
        deferred_first=sum(map(_deferred_first, everyone)),
        queued=states.count(State.DEFERRED),
        lost=sum(_lost(sent, address, copies) for sent in history.sent for address in _addresses(sent)),
        half=sum(len(below_received(content)) < sizes.get(message_id(content), 0) for content in contents),
        duplicates=tuple(kind for sent in history.sent for kind in duplicates(sent, copies)),
    )


def _deferred_first(recipient: Recipient) -> bool:
    return recipient.state is State.DELIVERED and recipient.tries[0].state is State.DEFERRED


def _lost(sent: Sent, address: str, copies: Sequence[Copy]) -> int:
    believed = sum(one.state is State.DELIVERED for one in sent.recipients if one.address == address)
    return max(0, believed - sum(copy.taken or copy.unanswered for copy in _copies_for(sent, address, copies)))


def _told(sent: Sent, address: str, gateway: str, state: State) -> int:
    """How often a gateway gave that final answer for an address."""
    return sum(one.state is state for one in _tries(sent, address, gateway))


def _tries(sent: Sent, address: str, gateway: str) -> list[Try]:
    tries = [one for recipient in sent.recipients if recipient.address == address for one in recipient.tries]
    return [one for one in tries if one.gateway == gateway]


def _copies_for(sent: Sent, address: str, copies: Sequence[Copy]) -> list[Copy]:
    return [copy for copy in copies if copy.id == sent.id and copy.address == address]


def _addresses(sent: Sent) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(recipient.address for recipient in sent.recipients))


def _gateways(sent: Sent) -> list[str]:
    return list(dict.fromkeys(one.gateway for recipient in sent.recipients for one in recipient.tries))
