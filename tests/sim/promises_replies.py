"""Promises 3 and 6: the replies to a client, their number, order and time. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from sim.dialogs import INSTANT, FromClient, Heard, Served, ToNextHop, or_never, replies, replies_due
from sim.evidence import Evidence
from sim.records import Asked, End, Said, Session
from sim.summary import Finding

ORDER = "one_reply_per_recipient_in_order"
TIME = "every_reply_is_in_time"

# 3. One reply per recipient, in order


def one_reply_per_recipient_in_order(evidence: Evidence) -> Iterator[Finding]:
    """Each command has one reply, and behind the dot there is one per accepted recipient in LMTP, one in plain SMTP,
    and with PRDR 353, one per recipient, and the final one, which is 2xx if any recipient's is, else 4xx if any is.

    Evidence is what the gateway wrote. Replies go with commands in order, so that a missing one shows at the end, one
    too many as unasked, and two that changed places by their class: what is told of a recipient behind the dot must
    be what its next hop had said, where that was certainly heard, and 4xx where they differ and there is only one
    reply. Of recipients with the same address, the first one's reply is the first of theirs upstream. Once a client
    has been told 421 it gets nothing more, and nothing is due. Replies are not missed either where the client left,
    the connection broke or the gateway crashed before it closed, or where the time for them is not over. A client
    whose stream ends behind its QUIT has not left.
    """
    for served in evidence.served:
        yield from _unasked(served)
        yield from _unfit(served)
    for given in evidence.given:
        if given.transaction.dot_written is not None:
            yield from _number(evidence, given)
            yield from _classes(given)
            yield from _agreement(evidence, given)


def _unasked(served: Served) -> Iterator[Finding]:
    """Only a goodbye may be, and it is the last word."""
    session = served.session
    for said in session.unasked:
        if said.code != 421:
            yield _finding(session, f"nobody asked for {said.text!r}", said.written)
    last = max((said.written for said in replies(session)), default=-math.inf)
    if last > served.dismissed + INSTANT:
        yield _finding(session, f"something was said {last - served.dismissed:g} s behind the goodbye", last)


_FIT: Mapping[str, tuple[int, ...]] = {"DATA": (3, 4, 5), "QUIT": (2, 5)}
_USUAL = (2, 4, 5)


def _unfit(served: Served) -> Iterator[Finding]:
    """Replies of a class that their command does not have, and those that came before it."""
    session = served.session
    greeting = session.greeting
    if greeting is not None and greeting.kind not in _USUAL:
        yield _finding(session, f"the greeting was {greeting.text!r}", greeting.written)
    for asked in session.commands:
        said = asked.reply
        if said is None or said.code == 421:
            continue
        early = said.written < or_never(asked.arrived) - INSTANT
        if early or said.kind not in _FIT.get(asked.verb, _USUAL):
            yield _finding(session, f"{asked.line!r} was told {said.text!r}{' too early' * early}", said.written)


def _number(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    own, session, served = given.transaction, given.session, given.served
    missing = given.due - len(own.outcomes)
    if missing < 0:
        yield _finding(session, f"{-missing} replies too many behind the dot", own.outcomes[-1].written)
    if own.dot_arrived is None or missing <= 0 or served.dismissed <= own.dot_arrived + INSTANT:
        return
    excused = min(_left(served), or_never(session.broken), served.life_ended, evidence.history.ended)
    if served.closed < excused - INSTANT and served.closed > own.dot_arrived:
        yield _finding(session, f"{missing} replies were missing when the gateway closed", served.closed)
    elif excused > own.dot_arrived + BOUNDS["dot"]:
        yield _finding(session, f"{missing} replies to the dot never came", own.dot_arrived + BOUNDS["dot"])


def _left(served: Served) -> float:
    """When the client left. A stream that ends behind QUIT means nothing."""
    session = served.session
    if session.client_end is None:
        return math.inf
    time, how = session.client_end
    quits = bool(session.commands) and session.commands[-1].verb == "QUIT"
    return math.inf if quits and how is End.FIN else time


def _classes(given: FromClient) -> Iterator[Finding]:
    own, session = given.transaction, given.session
    for place, said in enumerate(own.outcomes):
        begins = place == 0 and said.code == 353 and own.prdr and not session.lmtp
        # A client may write its dot while our goodbye is on its way to it.
        goodbye = said.code == 421 and said.written <= or_never(own.dot_arrived) + INSTANT
        if goodbye or begins:
            continue
        if said.kind not in _USUAL or said.code in (221, 421):
            yield _finding(session, f"the dot was told {said.text!r}", said.written)
        elif said.written < or_never(own.dot_arrived) - INSTANT:
            yield _finding(session, f"the dot was told {said.text!r} before it came", said.written)
    if own.prdr and own.outcomes and own.outcomes[0].code == 353 and len(own.outcomes) == given.due > 2:
        final = own.outcomes[-1]
        kinds = [said.kind for said in own.outcomes[1:-1]]
        if final.kind != next(kind for kind in (2, 4, 5, final.kind) if kind in (*kinds, final.kind)):
            yield _finding(session, f"recipients were told {kinds}, and then {final.text!r}", final.written)


# What is told and what was heard


def _agreement(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    dotted = given.dotted
    if not dotted:
        return
    if not given.per_recipient:
        said = given.told(0)
        expected = _single_of_several(evidence, given) if given.together else _single(given, dotted)
        if said is not None and expected is not None and said.kind != expected:
            yield _finding(given.session, f"the dot was told {said.text!r}, next hops {expected}xx", said.written)
        return
    told: dict[str, list[Said | None]] = {}
    for index, mailbox in enumerate(given.accepted):
        told.setdefault(mailbox, []).append(given.told(index))
    for mailbox, all_said in told.items():
        yield from _recipient_agreement(given, mailbox, all_said, dotted)


def _single(given: FromClient, dotted: list[ToNextHop]) -> int | None:
    """The class of the one reply; None: it cannot be told, or there is something unknown, another promise's."""
    kinds: list[int] = []
    for handed in dotted:
        for index in range(len(handed.accepted)):
            outcome = handed.outcome(index)
            if outcome is None or handed.heard(index) is not Heard.YES:
                return None
            kinds.append(outcome.kind)
    same = len(kinds) >= len(given.accepted) and all(kind == kinds[0] for kind in kinds)
    return kinds[0] if same else 4


def _single_of_several(evidence: Evidence, given: FromClient) -> int | None:
    """The same where there may be several next hops, more than one dot, and recipients who had the message before.

    It is 2xx if all have the message, and else the class of the last answer if there was one next hop, and it gave
    all of them the same. Whether a 5xx may be told is another promise's.
    """
    said = given.told(0)
    if said is not None and said.kind == 5:
        return None
    last: dict[str, list[int]] = {}
    for handed in sorted(given.dotted, key=lambda one: or_never(one.transaction.dot_written)):
        for index, mailbox in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if outcome is None or handed.heard(index) is not Heard.YES:
                return None
            last.setdefault(mailbox, []).append(outcome.kind)
    wanted = Counter(given.accepted)
    had = {mailbox: max(0, evidence.delivered_before(given, mailbox, given.over)) for mailbox in wanted}
    if all(last.get(mailbox, []).count(2) >= times for mailbox, times in wanted.items()):
        return 2
    if all(last.get(mailbox, []).count(2) + had[mailbox] >= times for mailbox, times in wanted.items()):
        return None  # they have it all, but whether the ledger had said so is another promise's
    finals = [kind for mailbox, times in wanted.items() for kind in last.get(mailbox, [])[-times:]]
    alone = len({handed.session.server_address for handed in given.dotted}) == 1
    same = alone and len(finals) == len(given.accepted) and len(set(finals)) == 1
    return finals[0] if same else 4


def _recipient_agreement(
    given: FromClient, mailbox: str, told: list[Said | None], dotted: list[ToNextHop]
) -> Iterator[Finding]:
    """Where it was refused on another path meanwhile, only that no 2xx is missing can be told."""
    places = [(handed, index) for handed in dotted for index, other in enumerate(handed.accepted) if other == mailbox]
    if any(handed.heard(index) is Heard.MAYBE for handed, index in places):
        return
    # What is unknown is another promise's.
    kinds = [
        outcome.kind if (outcome := handed.outcome(index)) is not None and handed.heard(index) is Heard.YES else None
        for handed, index in places
    ]
    if len({handed.began for handed, _ in places}) == 1 and len(places) == len(told):
        for said, kind in zip(told, kinds, strict=True):
            if said is not None and kind is not None and said.kind != kind:
                what = f"<{mailbox}> was told {said.text!r}, and its next hop had said {kind}xx"
                yield _finding(given.session, what, said.written)
    elif None not in told:
        taken = sum(kind == 2 for kind in kinds)
        confirmed = sum(said is not None and said.kind == 2 for said in told)
        if confirmed < taken:
            what = f"<{mailbox}> was taken {taken} times, and told so {confirmed} times"
            yield _finding(given.session, what, given.over)


# 6. In time

BOUNDS: Mapping[str, float] = {"DATA": 110.0, "dot": 590.0}
"""seconds that a reply may take: what clients wait (RFC 5321 section 4.5.3.2), but for those that it is on its way"""
_USUAL_BOUND = 290.0


def every_reply_is_in_time(evidence: Evidence) -> Iterator[Finding]:
    """No reply takes so long that a client need give up: 300 s, 120 s for DATA's, 600 s for those to the dot.

    Evidence is the time from when the command was in the gateway's host, or from the reply before it if that came
    later, until the gateway has written the reply; all replies to a dot count from the dot. Ten seconds of each are
    the network's. A reply that never came counts, too, if the client and the gateway were both there for so long:
    the client had not ended its side, the connection was not broken, the gateway had neither crashed, nor closed, nor
    said 421. What is slow to arrive at the client's is not the gateway's doing, nor how slowly a client reads: our
    replies fit into any host's buffers. A client may believe that it is connected while the packet that tells the
    gateway so is lost: a greeting is missed only where nothing was done to the session, or the gateway knew of it.
    """
    for served in evidence.served:
        session = served.session
        if session.greeting is None and session.faults and session.number not in evidence.ids:
            continue
        yield from _slow(served, min(served.over, evidence.history.ended))


def _slow(served: Served, until: float) -> Iterator[Finding]:
    session = served.session
    assert session.established is not None
    answered = session.established
    for what, since, bound, said in _due(session):
        if since is None:
            return
        begins = max(since, answered) if what != "the dot" else since
        written = said.written if said is not None else math.inf
        if min(written, until) > begins + bound:
            took = f"took {written - begins:.0f} s" if said is not None else "never came"
            yield Finding(TIME, f"the reply to {what} {took}", begins + bound, session.number)
            return
        if said is None:
            return
        answered = max(answered, said.written)


def _due(session: Session) -> Iterator[tuple[str, float | None, float, Said | None]]:
    """(to what, since when, for how long, the reply): all replies that are due, in order."""
    yield "the connection", session.established, _USUAL_BOUND, session.greeting
    dots = iter(one for one in session.transactions if one.dot_written is not None)
    dot = next(dots, None)
    for asked in session.commands:
        yield _short(asked), asked.arrived, BOUNDS.get(asked.verb, _USUAL_BOUND), asked.reply
        if dot is not None and dot.data is asked:
            missing = replies_due(dot, len(dot.accepted)) > len(dot.outcomes)
            for said in (*dot.outcomes, *([None] if missing else [])):
                yield "the dot", dot.dot_arrived, BOUNDS["dot"], said
            dot = next(dots, None)


def _short(asked: Asked) -> str:
    return asked.line[:60]


def _finding(session: Session, what: str, time: float) -> Finding:
    return Finding(ORDER, what, time, session.number)
