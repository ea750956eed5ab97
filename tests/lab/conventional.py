"""The conventional ways beside it: what the paper complained about, in the same lab. What they do is measured; that
they do what the paper says is the expectation."""

from __future__ import annotations

from lab.inbound import TO as IN
from lab.mta import Mta
from lab.mtas import POSTFIX, SENDMAIL
from lab.network import Cut, Link
from lab.outbound import TO as OUT
from lab.scenario import inbound_by_smtp, plain, scenario
from lab.site import Site, Way
from lab.topology import Topology

STUCK = 20
"""seconds after which a message that sits in a gateway counts as stuck: it would be for as long as the fault lasts"""

DELIVERED = 30
"""seconds after a queue run of the gateway"""


@scenario("inbound", inbound_by_smtp, way=Way.POSTFIX, name="inbound-inside-cut-drop")
async def stuck_inbound(site: Site, mta: Mta) -> None:
    """The same with gateways that store and forward (Postfix).

    Gateway 1 takes the message and cannot hand it on: it is stuck there, while gateway 2 could deliver it, until the
    link is repaired and the gateway's queue is run.
    """
    await site.cut(Link.GATEWAY1_INSIDE, Cut.DROP)
    message = await site.send("sender", *IN)
    await site.stay_away(message, seconds=STUCK)
    site.expect(await site.servers["gw1"].queued() > 0, "the message is not stuck in gateway 1")
    await site.repair(Link.GATEWAY1_INSIDE)
    await site.arrive_by_queue_run("not before the repair", "gw1", message, within=DELIVERED)


@scenario(
    "outbound",
    plain,
    way=Way.POSTFIX,
    name="outbound-split",
    mtas=(POSTFIX, SENDMAIL),
    topologies=(Topology.TWO_SITES,),
)
async def stuck_outbound(site: Site, mta: Mta) -> None:
    """The same by plain SMTP, with gateways that store and forward (Postfix).

    Gateway 1 takes the message for both, delivers alpha's part, and keeps beta's, which gateway 2 could deliver, until
    the repair.
    """
    await site.cut(Link.A_TO_BETA, Cut.DROP)
    await site.cut(Link.B_TO_ALPHA, Cut.DROP)
    message = await site.send("mail1", *OUT)
    await site.arrive("alpha", message.only(OUT[0]), within=DELIVERED)
    await site.stay_away(message.only(OUT[1]), seconds=STUCK)
    site.expect(await site.servers["gw1"].queued() == 1, "beta's part is not stuck in gateway 1")
    await site.repair(Link.A_TO_BETA)
    await site.arrive_by_queue_run("beta, not before the repair", "gw1", message, within=DELIVERED)


@scenario(
    "outbound",
    plain,
    way=Way.SENDMAIL,
    name="outbound-receivers-stopped",
    mtas=(POSTFIX, SENDMAIL),
    waits=True,
    patience=900,
)
async def circling(site: Site, mta: Mta) -> None:
    """The same with gateways that pass on what they cannot deliver to each other (sendmail's FallbackMXhost).

    The message circles between the gateways until it has too many hops: transfers that move it no nearer to anybody.
    """
    await site.servers["alpha"].stop()
    message = await site.send("mail1", OUT[0])
    site.refused.add((message.name, OUT[0]))
    async with site.slot.given():
        await site.until_told("mail1", message, within=600)
    site.measure("sent back", site.now() - message.taken)
    between = [one for one in site.capturing.transactions() if one.octets and one.message == message.name]
    site.remarks.append(f"{len(between)} transfers until it was sent back")
    site.expect(len(between) > 10, f"{len(between)} transfers are no circling")
