"""Promises 1 and 2: who was told 2xx, and who 5xx. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mailgate.network import Answer, NoAnswer
from mailgate.relay.outcome import DELIVERED_BEFORE
from sim.dialogs import INSTANT, FromClient, Heard, Served, ToNextHop, or_never
from sim.evidence import Evidence, domain_of
from sim.expectations import EVERYTHING
from sim.records import Said
from sim.summary import Finding

PROMISE = "delivered_only_when_a_next_hop_took_it"

# 1. Delivered


def delivered_only_when_a_next_hop_took_it(evidence: Evidence) -> Iterator[Finding]:
    """Each 2xx that the gateway wrote behind the dot is matched by a 2xx of a next hop for that recipient.

    Evidence is a reply to the dot of an upstream transaction for this very client's one, for that recipient, which had
    arrived in the gateway's host when ours was written: however the two cross in time, no gateway can know it earlier.
    An address that was told 2xx n times needs n of them. Replies that were written count, not those that were read:
    what a gateway says to a client that is just leaving must be true, too.

    At RCPT the same holds in plain SMTP, where there is one reply for all behind the dot. Where each recipient has one
    of its own, a recipient may be accepted before it is offered.

    In place of that, another transaction may have delivered this very message to that recipient before, if its gateway
    could not know that its sender has heard so: then the ledger has known it.

    A server is offered only recipients whose next hop it is, by the site's routes or by what DNS had said. The host
    that takes what next hops do not is offered whom one of them had refused behind the dot, or who had no dot, in a
    transaction with one reply for all, once another one has the message.

    And at the senders: who has been told 2xx for good has a copy.
    """
    for given in evidence.given:
        yield from _unfounded(evidence, given)
        if not given.per_recipient:
            yield from _unasked(given)
    for handed in evidence.handed:
        yield from _astray(evidence, handed)
    yield from lost(evidence)


def _unfounded(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    told: dict[str, list[Said]] = defaultdict(list)
    for index, mailbox in enumerate(given.accepted):
        said = given.told(index)
        if said is not None and said.kind == 2:
            told[mailbox].append(said)
    if not told:
        return
    took: dict[str, list[float]] = defaultdict(list)
    for handed in given.dotted:
        for index, mailbox in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if outcome is not None and outcome.kind == 2:
                took[mailbox].append(handed.arrived(index))
    for mailbox, all_said in told.items():
        times = sorted(took[mailbox])
        for number, said in enumerate(all_said):
            if number >= len(times) or times[number] > said.written + INSTANT:
                # The ledger knows addresses: one that is named twice, and was taken once, has the message.
                if evidence.delivered_before(given, mailbox, said.written) > 0:
                    continue
                what = f"<{mailbox}> was told {said.text!r}, and no next hop had taken the message for it"
                yield _finding(given, what, said)


def _unasked(given: FromClient) -> Iterator[Finding]:
    for mailbox, asked in given.transaction.rcpts:
        said = asked.reply
        if said is None or said.kind != 2:
            continue
        if not any(_accepted_by(handed, mailbox, said.written) for handed in given.handed):
            yield _finding(given, f"RCPT <{mailbox}> was told {said.text!r}, and no next hop had accepted it", said)


def _astray(evidence: Evidence, handed: ToNextHop) -> Iterator[Finding]:
    session = handed.session
    for mailbox, asked in handed.transaction.rcpts:
        if evidence.is_handover(session):
            if not any(_may_hand_over(evidence, given, mailbox, asked.written) for given in handed.givers):
                yield Finding(PROMISE, f"<{mailbox}> was handed over for no reason", asked.written, session.number)
        elif not evidence.leads_to(session, domain_of(mailbox), asked.written):
            what = f"<{mailbox}> was offered to {session.server or session.server_address}, no next hop of its domain"
            yield Finding(PROMISE, what, asked.written, session.number)


def _may_hand_over(evidence: Evidence, given: FromClient, mailbox: str, time: float) -> bool:
    """Its own next hop has not taken it, nothing is unknown, and somebody has the message."""
    if not given.together:
        return False
    delivered = any(evidence.delivered_before(given, one, time) > 0 for one in given.accepted)
    for handed in given.dotted:
        for index, one in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if or_never(handed.transaction.dot_written) > time or evidence.is_handover(handed.session):
                continue
            if outcome is None or handed.arrived(index) > time + INSTANT or handed.heard(index) is Heard.NO:
                return False
            delivered = delivered or outcome.kind == 2
            if one == mailbox and outcome.kind == 2 and given.accepted.count(one) == 1:
                return False
    return delivered


def _accepted_by(handed: ToNextHop, mailbox: str, until: float) -> bool:
    return any(
        other == mailbox and asked.reply is not None and asked.reply.kind == 2 and _by(asked.reply, until)
        for other, asked in handed.transaction.rcpts
    )


_BY_THE_LEDGER = str(DELIVERED_BEFORE.reply)


def lost(evidence: Evidence) -> Iterator[Finding]:
    """Recipients that are settled as delivered at their sender, and have no copy: an address n times needs n.

    Of equal messages one may do for two, if the sender knew of the first one, and its gateway could not know that.
    """
    history = evidence.history
    copies = Counter((copy.message, copy.recipient) for copy in history.copies)
    for settled in history.settled:
        if settled.state == "delivered":
            message = history.messages[settled.message]
            recipient = message.recipients[settled.position]
            copies[message.name, recipient] -= 1
            missing = -copies[message.name, recipient]
            if message.recipients.count(recipient) > 1 and settled.text == _BY_THE_LEDGER:
                missing -= 1  # an address that has the message has it, however often it is named
            if missing > 0 and missing > evidence.taken_for_a_retry(message.name, recipient):
                what = f"lost: {settled.message} <{recipient}> was told {settled.text!r}, and there is no copy"
                yield Finding(PROMISE, what, settled.time)


# 2. Refused


def refused_only_by_its_own_next_hop(evidence: Evidence) -> Iterator[Finding]:
    """Each 5xx that the gateway wrote about a recipient is its own next hop's, or our stated policy.

    Evidence is a 5xx that had arrived in the gateway's host before: to that recipient's RCPT, to the dot for that
    recipient; to MAIL, DATA or inside the message, in an upstream transaction for this client's one with that
    recipient's next hop. Of replies to RCPT and to the dot an address that was told 5xx n times needs n. Nothing that a
    server says before MAIL is about a recipient, and no 4xx, silence or loss ever is a 5xx.

    Policy is: no route for the domain, messages over the size limit, what is wrong with a stranger's commands or
    message, and what DNS had told the gateway of the domain (no such domain, no host, no mail at all, ourselves). A
    client may be told 554 at the greeting if it is not admitted, and anything as far as it breaks the order of
    commands.
    """
    for served in evidence.served:
        yield from _turned_away(served)
    for given in evidence.given:
        yield from _own_refusals(evidence, given)
        told = list(_refusals_told(given))
        if told:
            yield from _unexplained(evidence, given, told)


_SYNTAX = (500, 501, 503, 504, 555)  # RFC 5321 section 4.2.2


def _turned_away(served: Served) -> Iterator[Finding]:
    session = served.session
    said = session.greeting
    if said is not None and said.kind == 5 and served.listening.admits(session.client_address):
        what = f"a client that may connect was greeted with {said.text!r}"
        yield Finding("refused_only_by_its_own_next_hop", what, said.written, session.number)
    for asked in session.commands:
        said = asked.reply
        if said is not None and said.kind == 5 and asked.verb in ("EHLO", "HELO", "LHLO") and said.code not in _SYNTAX:
            what = f"{asked.line!r} was told {said.text!r}"
            yield Finding("refused_only_by_its_own_next_hop", what, said.written, session.number)


def _own_refusals(evidence: Evidence, given: FromClient) -> Iterator[Finding]:
    """Of MAIL, which is answered before any next hop is asked; and of DATA where there was nobody to send it to."""
    own = given.transaction
    said = own.mail.reply
    too_big = said is not None and said.code == 552 and _size(given) > evidence.site.message_size
    if said is not None and said.kind == 5 and said.code not in _SYNTAX and not too_big:
        yield _finding(given, f"{own.mail.line!r} was told {said.text!r}", said)
    said = own.data.reply if own.data is not None else None
    if said is not None and said.kind == 5 and not given.accepted and said.code not in _SYNTAX:
        yield _finding(given, f"DATA was told {said.text!r}", said)


def _size(given: FromClient) -> int:
    announced = [int(one[5:]) for one in given.transaction.parameters if one.startswith("SIZE=") and one[5:].isdigit()]
    return max([given.transaction.octets, *announced])


def _refusals_told(given: FromClient) -> Iterator[tuple[str, Said]]:
    """(recipient, its 5xx), in the order in which they were written."""
    own = given.transaction
    for mailbox, asked in own.rcpts:
        if asked.reply is not None and asked.reply.kind == 5:
            yield mailbox, asked.reply
    refused = own.data.reply if own.data is not None else None
    for index, mailbox in enumerate(given.accepted):
        said = refused if refused is not None and refused.kind == 5 else given.told(index)
        if said is not None and said.kind == 5:
            yield mailbox, said


def _unexplained(evidence: Evidence, given: FromClient, told: Sequence[tuple[str, Said]]) -> Iterator[Finding]:
    own_refusals = _upstream_refusals(given)
    used: Counter[str] = Counter()
    for mailbox, said in told:
        if _is_policy(evidence, given, mailbox, said) or _refused_whole(evidence, given, mailbox, said.written):
            continue
        times = own_refusals.get(mailbox, [])
        if used[mailbox] < len(times) and times[used[mailbox]] <= said.written + INSTANT:
            used[mailbox] += 1
        else:
            yield _finding(given, f"<{mailbox}> was told {said.text!r}, which no next hop of its own had said", said)


def _upstream_refusals(given: FromClient) -> Mapping[str, Sequence[float]]:
    """Recipient → when 5xx about it had arrived, to RCPT or to the dot."""
    times: dict[str, list[float]] = defaultdict(list)
    for handed in given.handed:
        for mailbox, asked in handed.transaction.rcpts:
            if asked.reply is not None and asked.reply.kind == 5:
                times[mailbox].append(or_never(asked.reply.arrived))
        for index, mailbox in enumerate(handed.accepted):
            outcome = handed.outcome(index)
            if outcome is not None and outcome.kind == 5:
                times[mailbox].append(handed.arrived(index))
    return {mailbox: sorted(each) for mailbox, each in times.items()}


def _refused_whole(evidence: Evidence, given: FromClient, mailbox: str, until: float) -> bool:
    """A recipient's next hop had refused the sender or the message, whoever it is for."""
    return any(
        one.kind == 5 and _by(one, until) for handed in given.handed for one in evidence.about_message(handed, mailbox)
    )


def _is_policy(evidence: Evidence, given: FromClient, mailbox: str, said: Said) -> bool:
    own, listening = given.transaction, given.served.listening
    if not listening.serves(domain_of(mailbox)):
        return said.code == 550 and "5.7.1" in said.text
    if said.code in _SYNTAX:
        no_sender = own.mail.reply is None or own.mail.reply.kind != 2
        return no_sender or given.message is None or given.message.foreign
    if said.code == 552 and "5.3.4" in said.text:
        return _size(given) > evidence.site.message_size
    if said.code == 553 and "5.6.7" in said.text:
        return "SMTPUTF8" in own.parameters
    if said.code == 554 and "5.6.0" in said.text:  # what honest senders write has no flaws
        return given.message is None or given.message.foreign
    return EVERYTHING in listening.domains and _dns_said_so(evidence, given, domain_of(mailbox), said)


def _dns_said_so(evidence: Evidence, given: FromClient, domain: str, said: Said) -> bool:
    """Whether what DNS had told the gateway of a domain is the reason that it gives."""
    gateway, since, until = given.served.gateway, given.began, said.written
    if said.code == 556 and "5.1.10" in said.text:
        return ("",) in [tuple(dict.fromkeys(one)) for one in evidence.hosts(gateway, domain, since, until)]
    all_hosts = list(evidence.hosts(gateway, domain, since, until))
    if said.code == 554 and "5.4.6" in said.text:
        names = evidence.site.names.get(gateway, frozenset())
        return any(host in names for hosts in all_hosts for host in hosts)
    if said.code == 550 and "5.1.2" in said.text:
        answers = evidence.answers(gateway, domain, "MX", since, until)
        return NoAnswer.NO_SUCH_DOMAIN in list(answers) or any(
            all(_is_nowhere(evidence, gateway, host, since, until) for host in hosts) for hosts in all_hosts
        )
    return False


def _is_nowhere(evidence: Evidence, gateway: str, host: str, since: float, until: float) -> bool:
    """DNS had said that a host has no address of either family."""
    return all(
        any(
            not answer.records if isinstance(answer, Answer) else answer is not NoAnswer.TEMPORARY
            for answer in evidence.answers(gateway, host, record_type, since, until)
        )
        for record_type in ("A", "AAAA")
    )


def _by(said: Said, until: float) -> bool:
    return said.arrived is not None and said.arrived <= until + INSTANT


def _finding(given: FromClient, what: str, said: Said) -> Finding:
    promise = PROMISE if said.kind == 2 else "refused_only_by_its_own_next_hop"
    return Finding(promise, what, said.written, given.session.number)
