"""From outside to inside: does mail get past what is broken behind the first gateway?"""

from __future__ import annotations

from lab.mta import Mta
from lab.network import Cut, Link
from lab.scenario import SENDERS, inbound, scenario
from lab.site import Draft, Message, Site

TO = ("ann@example.org", "bob@example.net")
"""one recipient in each domain of the site, each domain with a server of its own"""

FIRST = 10
"""seconds for the first message after a fault behind a reachable gateway"""

NEXT = 1
"""seconds for the next ones"""

UNDER_CHECK = 12
"""seconds after which the dead paths are known by checks alone: no failure of a message is as fresh"""

EARLY = 50
"""seconds after which a gateway with nothing behind it refuses already at its greeting: once its own checks, one every
5 s, have found nothing for 30 s, and a check of a black hole takes 5 s"""

CONNECT = 300
"""seconds that a sender may need to see that a gateway does not answer at all: its own connect timeout, per address"""


@scenario("inbound", inbound)
async def all_well(site: Site, mta: Mta) -> None:
    """Nothing is broken.

    A message to each of the two domains arrives within 10 s, and the next ones within 1 s. (OpenSMTPD itself leaves a
    second or more between messages.)
    """
    await site.arrive("first", *await _to_each(site), within=FIRST)
    await site.arrive("next", *await _to_each(site), within=_next(mta))


@scenario("inbound", inbound)
async def inside_cut_drop(site: Site, mta: Mta) -> None:
    """The link between gateway 1 and the inside is a black hole.

    Gateway 1 takes no message; the sender goes on to gateway 2: 10 s for the first message, 1 s for the next ones.
    A sender that does not leave its first MX for a 4xx at RCPT gets through once gateway 1 refuses at its greeting.
    """
    await _inside_cut(site, mta, Cut.DROP)


@scenario("inbound", inbound)
async def inside_cut_reset(site: Site, mta: Mta) -> None:
    """The link between gateway 1 and the inside resets every connection. Otherwise as with a black hole."""
    await _inside_cut(site, mta, Cut.RESET)


async def _inside_cut(site: Site, mta: Mta, how: Cut) -> None:
    await site.cut(Link.GATEWAY1_INSIDE, how)
    first = await _to_each(site)
    if mta.goes_on:
        await site.arrive("first", *first, within=FIRST)
        await site.arrive("next", *await _to_each(site), within=NEXT)
        await site.rest(UNDER_CHECK)
        await site.arrive("later", *await _to_each(site), within=NEXT)
    else:
        await site.rest(EARLY)
        await site.servers["sender"].flush()  # once: another one would send it back to gateway 1
        await site.arrive("first, once refused early", *first, within=FIRST, since=site.now())
        await site.arrive("next", *await _to_each(site), within=FIRST)


def _next(mta: Mta) -> float:
    """The limit for next messages, unless the sender itself takes its time."""
    return NEXT if mta.goes_on else FIRST


async def _to_each(site: Site) -> list[Message]:
    return await site.send_all("sender", [Draft((recipient,)) for recipient in TO])


@scenario("inbound", inbound, mtas=tuple(mta for mta in SENDERS if mta.goes_on))
async def two_domains_at_once(site: Site, mta: Mta) -> None:
    """As with gateway 1's inside link resetting connections, but one message has a recipient in each of the domains.

    Gateway 2 takes a transaction for one next hop and answers 452 for the other recipient. Where the sender makes a
    transaction for each domain, or begins another at once for whom is left (Exim), both arrive within 10 s. Where it
    knows no further MX and waits for its next queue run, that delivers the second one, within 10 s.
    """
    await site.cut(Link.GATEWAY1_INSIDE, Cut.RESET)
    message = await site.send("sender", *TO)
    await site.settle([message], FIRST)
    left = site.missing([message])
    if left:
        site.remarks.append(f"{len(left)} of the recipients had to wait for a queue run")
        await site.arrive_by_queue_run("second, by a queue run", "sender", message, within=FIRST)
    else:
        await site.arrive("both", message, within=FIRST)


@scenario("inbound", inbound, waits=True, patience=600)
async def gateway_cut_drop(site: Site, mta: Mta) -> None:
    """Nothing from outside reaches gateway 1, over either backbone, nor comes back.

    The sender's own connect timeout rules, once for each address of gateway 1; then gateway 2 takes the message.
    """
    await site.cut(Link.GATEWAY1_OUTSIDE, Cut.DROP)
    messages = await _to_each(site)
    async with site.slot.given():
        await site.settle(messages, CONNECT)
    await site.arrive("first", *messages, within=CONNECT)


@scenario("inbound", inbound)
async def gateway_cut_reset(site: Site, mta: Mta) -> None:
    """Connections from outside to gateway 1 are reset. Gateway 2 takes the message within 10 s."""
    await site.cut(Link.GATEWAY1_OUTSIDE, Cut.RESET)
    await site.arrive("first", *await _to_each(site), within=FIRST)


@scenario("inbound", inbound)
async def gateway_stopped(site: Site, mta: Mta) -> None:
    """Gateway 1 has been stopped, and its machine refuses connections. Gateway 2 takes the message within 10 s."""
    await site.gateways[1].stop()
    await site.arrive("first", *await _to_each(site), within=FIRST)


@scenario("inbound", inbound)
async def one_server_stopped(site: Site, mta: Mta) -> None:
    """The server of one of the two domains is stopped, and started again later.

    The other domain's mail arrives, 10 s and 1 s, by whichever gateway; the message for the stopped one stays in the
    sender's queue, and no gateway takes it. After the start a queue run delivers it within 10 s.
    """
    await site.servers["mail2"].stop()
    waiting = await site.send("sender", "bob@example.net")
    await site.arrive("other domain", await site.send("sender", "ann@example.org"), within=FIRST)
    await site.arrive("other domain, next", await site.send("sender", "ann@example.org"), within=_next(mta))
    await site.stay_away(waiting, seconds=3)
    site.expect_tried("mail2")
    site.expect_no_transfer(waiting)
    await site.expect_queued("sender", 1)
    await site.servers["mail2"].again()
    await site.arrive_by_queue_run("after the start", "sender", waiting, within=FIRST)


@scenario("inbound", inbound)
async def both_inside_cut(site: Site, mta: Mta) -> None:
    """The inside links of both gateways are black holes; then they are repaired.

    Until then the messages stay in the sender's queue, and no gateway hears a word of their bodies. A queue run after
    the repair delivers them within 10 s.
    """
    links = (Link.GATEWAY1_INSIDE, Link.GATEWAY2_INSIDE)
    for link in links:
        await site.cut(link, Cut.DROP)
    messages = await _to_each(site)
    await site.stay_away(*messages, seconds=15)
    site.expect_tried("mail1", "mail2")
    site.expect_no_transfer(*messages)
    await site.expect_queued("sender", 2)
    await site.repair(*links)
    await site.arrive_by_queue_run("after the repair", "sender", *messages, within=FIRST)
