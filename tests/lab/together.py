"""One message for several next hops in one transaction, with a ledger that both gateways share: does each recipient get
one copy, or the sender one answer about him, whatever his own server says?"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping

import trio

from lab import ledger
from lab.gateway import Together
from lab.inbound import FIRST, NEXT
from lab.mta import Mta, Role
from lab.mtas import DOVECOT, EXIM, EXIM_WITHOUT_PRDR, OPENSMTPD, POSTFIX, SENDMAIL
from lab.network import Cut, Link
from lab.scenario import Cast, scenario
from lab.site import LOOK, Message, Site, Unexpected
from lab.topology import SITE_DOMAINS, Topology
from lab.wire import Transaction

ANN, BOB, CAROL = TO = ("ann@example.org", "bob@example.net", "carol@example.com")
"""one recipient in each domain of the site, each domain with a server of its own; bob's is the moody one"""

_, FULL, _ = IN_ONE_DOMAIN = ("ann@example.org", "bob@example.org", "carol@example.org")
"""those of one domain; bob's mailbox is the full one"""

SENDERS = (POSTFIX, EXIM, EXIM_WITHOUT_PRDR, SENDMAIL)
"""who leaves a gateway for the next one after a 4xx. Exim hears one reply for each recipient (PRDR), or one for all"""

SHORT = 4
"""seconds of the gateways' patience where it has to end"""

TOLD = 60
"""seconds until the sender's users have been told of what was refused for good: some queue runs"""

GIVEN_UP = 90
"""seconds until a hurried server has given up: 20 s in its queue, 30 s in the one for what is handed over, and the next
tries"""

_INSIDE = {
    "postfix": (OPENSMTPD, EXIM, SENDMAIL),
    "exim": (POSTFIX, SENDMAIL, OPENSMTPD),
    "sendmail": (EXIM, POSTFIX, OPENSMTPD),
}
"""whom each sender's mail goes to"""

_FIRST = {"postfix": "mail3", "exim": "mail1", "sendmail": "mail1"}
"""whose recipient each sender names first: Postfix and sendmail have an order of their own"""


def three_inside(
    sender: Role = Role.TOGETHER, *, handover: bool = False, moody: Mapping[str, str] | None = None
) -> Callable[[Mta], Cast]:
    """A server outside, and three inside. One of these is moody: the second, or who it is in `moody` for the sender."""

    def cast(mta: Mta) -> Cast:
        names = SITE_DOMAINS.values()
        inside: Cast = {name: (server, Role.INSIDE) for name, server in zip(names, _INSIDE[mta.root.name], strict=True)}
        one = "mail2" if moody is None else moody[mta.root.name]
        queue: Cast = {"handover": (POSTFIX, Role.HANDOVER)} if handover else {}
        return {"sender": (mta, sender), **inside, one: (inside[one][0], Role.MOODY), **queue}

    return cast


def dovecot(mood: Role) -> Callable[[Mta], Cast]:
    """A server outside, and Dovecot inside."""
    return lambda mta: {"sender": (mta, Role.TOGETHER), "mail1": (DOVECOT, mood)}


_by = functools.partial(scenario, "together", mtas=SENDERS)


@_by(three_inside(), together=Together())
async def all_well(site: Site, mta: Mta) -> None:
    """Nothing is broken.

    A message to three recipients, each with a next hop of its own, arrives within 10 s, in one transaction, over one
    connection, and nothing waits for a queue run; the next one within 1 s. (Postfix is told to hand all mail to the MX
    hosts of one domain. By itself it makes a transaction for each domain.)
    """
    first = await site.send("sender", *TO)
    await site.arrive("first", first, within=FIRST)
    await site.until_empty("sender", within=FIRST)
    await _expect_one_transaction(site, first)
    site.expect(len(site.capturing.opened("sender")) == 1, "the sender opened more than one connection")
    await site.arrive("next", await site.send("sender", *TO), within=NEXT)


@_by(three_inside(), together=Together())
async def two_next_hops_at_one_gateway(site: Site, mta: Mta) -> None:
    """As inbound-two-domains-at-once: gateway 1's inside link resets connections, and one message has a recipient in
    each of two domains.

    Gateway 2 takes it in one transaction, whoever the sender is: it arrives within 10 s, without a queue run.
    """
    await site.cut(Link.GATEWAY1_INSIDE, Cut.RESET)
    message = await site.send("sender", ANN, CAROL)
    await site.arrive("both", message, within=FIRST)
    await site.until_empty("sender", within=FIRST)
    await _expect_one_transaction(site, message)


@_by(three_inside(), together=Together())
async def deferred_once(site: Site, mta: Mta) -> None:
    """The server of the second recipient answers 4xx to the dot, once.

    The gateway tries it again while the sender waits, and the sender hears of one transaction, well done; with PRDR it
    hears the 4xx of the second recipient, and offers that one again. Everybody has one copy within 10 s.
    """
    await site.servers["mail2"].answer("defer", 1)
    message = await site.send("sender", *TO)
    await site.arrive("all", message, within=FIRST)
    await site.until_empty("sender", within=FIRST)
    if not mta.prdr:
        await _expect_one_transaction(site, message)
    await _tell(site, message)


@_by(three_inside(), together=Together(patience=SHORT), waits=True)
async def deferred_past_patience(site: Site, mta: Mta) -> None:
    """The server of the second recipient answers 4xx to every dot, for longer than the gateways' patience, here 4 s;
    then it takes what comes.

    The others have their copies within 10 s, and the sender hears 451 (with PRDR: for the second one only). It offers
    the message to the other gateway, and nobody gets it a second time; the second one's stays in the sender's queue.
    After the change a queue run delivers it within 10 s.
    """
    await site.servers["mail2"].answer("defer")
    message = await site.send("sender", *TO)
    await _others_arrive(site, message)
    await site.stay_away(message.only(BOB), seconds=3 * SHORT)
    await site.expect_queued("sender", 1)
    await site.servers["mail2"].answer("take")
    await site.arrive_by_queue_run("after the change", "sender", message, within=FIRST)
    await site.until_empty("sender", within=FIRST)
    await _tell(site, message)


@_by(three_inside(Role.HURRIED), together=Together(patience=SHORT), waits=True)
async def deferred_for_good(site: Site, mta: Mta) -> None:
    """The server of the second recipient answers 4xx to every dot, for longer than the sender tries, here 20 s.

    The others have their copies within 10 s, and no second ones. The sender's users are told, once, of the second
    recipient and of nobody else.
    """
    await site.servers["mail2"].answer("defer")
    message = await _send_refused(site, TO, BOB)
    await _others_arrive(site, message)
    await _until_told_of(site, message, BOB, GIVEN_UP)


@_by(three_inside(), together=Together(patience=SHORT))
async def rejected(site: Site, mta: Mta) -> None:
    """The server of the second recipient answers 5xx to every dot.

    The others have their copies within 10 s, and no second ones. The sender's users are told, once, of the second
    recipient and of nobody else.
    """
    await site.servers["mail2"].answer("reject")
    message = await _send_refused(site, TO, BOB)
    await _others_arrive(site, message)
    await _until_told_of(site, message, BOB, TOLD)


@_by(three_inside(moody=_FIRST), together=Together(patience=SHORT))
async def first_rejected(site: Site, mta: Mta) -> None:
    """The same, but it is the server of the recipient that the sender names first.

    Without PRDR the first dot is that server's, so the gateway drops the other next hops before theirs: nobody has the
    message, and the sender hears 451. From then on it is the same.
    """
    first = _FIRST[mta.root.name]
    refused = TO[list(SITE_DOMAINS.values()).index(first)]
    await site.servers[first].answer("reject")
    message = await _send_refused(site, TO, refused)
    await _others_arrive(site, message, refused)
    await _until_told_of(site, message, refused, TOLD)
    named = [each.mailbox for each in _to(message, site)[0].recipients]
    site.expect(named[0] == refused, f"the recipients came as {named}")


_handed_over = functools.partial(
    _by,
    three_inside(handover=True),
    topologies=(Topology.TWO_SITES,),
    together=Together(patience=SHORT, handover=True),
)


@_handed_over()
async def handover_deferred(site: Site, mta: Mta) -> None:
    """As together-deferred-past-patience, but the gateways hand over what is left to an inside server with a queue.

    The sender hears of one transaction, well done, and its queue is empty. (With PRDR it hears of the 4xx, and tries on
    itself.) After the change the second recipient has his copy within 10 s.
    """
    await site.servers["mail2"].answer("defer")
    message = await site.send("sender", *TO)
    await _others_arrive(site, message)
    await site.stay_away(message.only(BOB), seconds=SHORT + 2)
    if not mta.prdr:
        await site.until_empty("sender", within=FIRST)
        await _expect_one_transaction(site, message)
        await site.expect_queued("handover", 1)
    await site.servers["mail2"].answer("take")
    await site.arrive_by_queue_run("after the change", "sender" if mta.prdr else "handover", message, within=FIRST)
    await _tell(site, message)


@_handed_over(waits=True)
async def handover_deferred_for_good(site: Site, mta: Mta) -> None:
    """The same, but the server of the second recipient never takes it: the inside server with the queue gives up.

    The sender's users are told of the second recipient alone. (With PRDR this is not about the gateways' handover, and
    the sender, which is in no hurry here, keeps it in its queue.)
    """
    await site.servers["mail2"].answer("defer")
    message = await _send_refused(site, TO, BOB)
    await _others_arrive(site, message)
    if mta.prdr:
        await site.stay_away(message.only(BOB), seconds=3 * SHORT)
        await site.expect_queued("sender", 1)
        await _tell(site, message)
    else:
        await _until_told_of(site, message, BOB, GIVEN_UP, queue="handover")
        await _expect_one_transaction(site, message)


@_handed_over()
async def handover_rejected(site: Site, mta: Mta) -> None:
    """The server of the second recipient answers 5xx to every dot; what is left is handed over.

    The inside server with the queue gets the 5xx, and sends the message back. The sender's users are told of the second
    recipient alone. (With PRDR the sender hears the 5xx itself.)
    """
    await site.servers["mail2"].answer("reject")
    message = await _send_refused(site, TO, BOB)
    await _others_arrive(site, message)
    await _until_told_of(site, message, BOB, TOLD, queue="handover")
    await _expect_one_transaction(site, message)


@_by(dovecot(Role.FULL), topologies=(Topology.TWO_SITES,), together=Together(patience=SHORT))
async def mailbox_full(site: Site, mta: Mta) -> None:
    """One next hop, Dovecot by LMTP, has three recipients, and the mailbox of the second one is over quota: 5xx after
    the dot for him, 2xx for the others.

    The others have their copies within 10 s, and no second ones. The sender's users are told, once, of the second
    recipient and of nobody else.
    """
    message = await _send_refused(site, IN_ONE_DOMAIN, FULL)
    await _others_arrive(site, message, FULL)
    await _until_told_of(site, message, FULL, TOLD)


@_by(dovecot(Role.FULL_FOR_NOW), topologies=(Topology.TWO_SITES,), together=Together(patience=SHORT))
async def mailbox_full_for_now(site: Site, mta: Mta) -> None:
    """The same, but Dovecot answers 4.2.2, which does not try the gateways' patience; later there is room.

    The others have their copies within 10 s. Once there is room a queue run delivers the second one's, within 10 s.
    Nobody has two.
    """
    message = await site.send("sender", *IN_ONE_DOMAIN)
    await _others_arrive(site, message, FULL)
    await site.stay_away(message.only(FULL), seconds=3)
    await site.expect_queued("sender", 1)
    await site.recast("mail1", Role.INSIDE)
    await site.arrive_by_queue_run("with room", "sender", message, within=FIRST)
    await site.until_empty("sender", within=FIRST)
    await _tell(site, message)


@_by(three_inside(), topologies=(Topology.TWO_SITES,), together=Together(patience=SHORT))
async def ledger_stopped(site: Site, mta: Mta) -> None:
    """As together-deferred-past-patience, but the server of the ledger has crashed.

    No mail is lost or late. The other gateway does not know who has the message: the second copies that this makes are
    those that the gateways' logs warn of. (With PRDR there is nothing to remember.)
    """
    assert site.ledger is not None
    await ledger.stop(site.ledger)
    await site.servers["mail2"].answer("defer")
    message = await site.send("sender", *TO)
    await _others_arrive(site, message)
    await site.stay_away(message.only(BOB), seconds=2 * SHORT)
    await site.servers["mail2"].answer("take")
    await site.arrive_by_queue_run("after the change", "sender", message, within=2 * FIRST)
    await site.until_empty("sender", within=FIRST)
    await _tell(site, message)


@_by(three_inside(), topologies=(Topology.TWO_SITES,), together=Together())
async def untold(site: Site, mta: Mta) -> None:
    """The inside servers have taken the message, the gateway's 250 is lost in a black hole, and then the connection.

    The sender offers the message to gateway 2, which answers 250 from the ledger: its queue is empty within 10 s, and
    nobody has a second copy.
    """
    await site.servers["mail2"].answer("hold")
    message = await site.send("sender", *TO)
    await _until(site.servers["mail2"].was_asked, "mail2 has heard no dot")
    await site.cut(Link.GATEWAY1_OUTSIDE, Cut.DROP)
    await site.servers["mail2"].answer("take")
    await site.arrive("while nobody can be told", message, within=FIRST)
    await site.rest(1)  # for the 250 to be on its way
    await site.network.lose_clients("gw1")
    await _until(lambda: site.gateways[1].logged("untold"), "gateway 1 takes the 250 for told")
    told_again = site.now()
    await site.network.lose_connections("sender")
    await site.until_empty("sender", within=FIRST)
    site.measure("taken as delivered before", site.now() - told_again)
    site.expect(site.gateways[2].logged("delivered_before"), "gateway 2 has not seen that all have the message")
    site.expect(len(site.copies_of(message)) == len(TO), "somebody has a second copy")
    await _tell(site, message)


async def _until(fact: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is so, for 10 s.

    Raises:
        Unexpected: it is not.
    """
    with trio.move_on_after(FIRST):
        while not fact():  # noqa: ASYNC110 - other programs tell us nothing
            await trio.sleep(LOOK)
    if not fact():
        raise Unexpected(f"{otherwise} after {FIRST} s")


def _to(message: Message, site: Site) -> list[Transaction]:
    """The transactions in which a message came to a gateway from outside, or tried to."""
    sender = {leg.ip for leg in site.network.machines["sender"].legs}
    mine = set(message.recipients)
    return [
        one
        for one in site.capturing.transactions()
        if one.client in sender and {asked.mailbox for asked in one.recipients} <= mine
    ]


async def _send_refused(site: Site, recipients: tuple[str, ...], refused: str) -> Message:
    message = await site.send("sender", *recipients)
    site.refused.add((message.name, refused))
    return message


async def _others_arrive(site: Site, message: Message, but: str = BOB) -> None:
    """All but one have their copies."""
    others = [message.only(to) for to in message.recipients if to != but]
    await site.arrive("others", *others, within=FIRST)


async def _until_told_of(site: Site, message: Message, refused: str, within: float, queue: str = "sender") -> None:
    """Wait, with queue runs, until the sender's users are told of a recipient, once and of nobody else."""
    async with trio.open_nursery() as running:
        running.start_soon(site.run_queue, queue)
        async with site.slot.given():
            await site.until_told("sender", message, within)
        running.cancel_scope.cancel()
    site.measure("told of it", site.now() - message.taken)
    await site.until_empty("sender", within=FIRST)
    told = [copy.failed for copy in site.bounces("sender")]
    site.expect(told == [(refused,)], f"the sender was told of {told}, not once of {refused} alone")
    await _tell(site, message)


async def _expect_one_transaction(site: Site, message: Message) -> None:
    """See that a message came to the gateways in one transaction, which was answered 2xx."""
    await site.capturing.catch_up()
    bodies = [one for one in _to(message, site) if one.message == message.name]
    site.expect(len(bodies) == 1, f"{message.name} came in {len(bodies)} transactions, not in one")
    site.expect(bodies[0].answers[-1:] in ((250,),), f"{message.name} was answered {bodies[0].answers}")


async def _tell(site: Site, message: Message) -> None:
    """Put into the results what the sender and the gateways said to each other about a message."""
    await site.capturing.catch_up()
    gateways = {leg.ip: name for name in ("gw1", "gw2") for leg in site.network.machines[name].legs}
    told: Counter[str] = Counter()  # in order
    for one in _to(message, site):
        asked = ", ".join(f"{each.mailbox.partition('@')[0]} {each.answer}" for each in one.recipients)
        answers = f"; the dot {' '.join(map(str, one.answers))}" if one.answers else ""
        told[f"{gateways[one.server]}: {asked}{answers}"] += 1
    site.remarks.append(" | ".join(what + (f" ({times} times)" if times > 1 else "") for what, times in told.items()))
