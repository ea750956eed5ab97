"""From inside to outside, by the recipes: does each recipient's mail get out over whatever path there is?"""

from __future__ import annotations

from lab.inbound import FIRST, NEXT, UNDER_CHECK
from lab.mta import Mta, Role
from lab.network import Cut, Link
from lab.scenario import outbound, outbound_to, scenario
from lab.site import Site

TO = ("ann@alpha.example", "bob@beta.example")


@scenario("outbound", outbound)
async def all_well(site: Site, mta: Mta) -> None:
    """Nothing is broken. A message to two destinations arrives within 10 s, and the next one within 1 s."""
    await site.arrive("first", await site.send("mail1", *TO), within=FIRST)
    await site.arrive("next", await site.send("mail1", *TO), within=NEXT)


@scenario("outbound", outbound)
async def backbone_cut_drop(site: Site, mta: Mta) -> None:
    """Backbone A is a black hole.

    At one site gateway 1 goes over backbone B; at two sites it answers 4xx, and gateway 2 delivers. 10 s for the first
    message; 1 s for the next one, while the failure is fresh, and 10 s for one later.
    """
    await _backbone_cut(site, Cut.DROP)


@scenario("outbound", outbound)
async def backbone_cut_reset(site: Site, mta: Mta) -> None:
    """Backbone A resets every connection. Otherwise as with a black hole."""
    await _backbone_cut(site, Cut.RESET)


async def _backbone_cut(site: Site, how: Cut) -> None:
    await site.cut(Link.BACKBONE_A, how)
    await site.arrive("first", await site.send("mail1", *TO), within=FIRST)
    await site.arrive("next", await site.send("mail1", *TO), within=NEXT)
    await site.rest(UNDER_CHECK)
    await site.arrive("later", await site.send("mail1", *TO), within=FIRST)


@scenario("outbound", outbound)
async def split(site: Site, mta: Mta) -> None:
    """Destination alpha can be reached over backbone A only, and beta over backbone B only.

    One message to both: at one site gateway 1 delivers each over its backbone; at two sites it delivers alpha's and
    answers 4xx for beta's, which gateway 2 delivers. 10 s for the first message, 1 s for the next.
    """
    await site.cut(Link.A_TO_BETA, Cut.DROP)
    await site.cut(Link.B_TO_ALPHA, Cut.DROP)
    await site.arrive("first", await site.send("mail1", *TO), within=FIRST)
    await site.arrive("next", await site.send("mail1", *TO), within=NEXT)


@scenario("outbound", outbound_to(Role.DEFERS))
async def deferred_after_dot(site: Site, mta: Mta) -> None:
    """The server of beta answers 4xx to the dot, until it is started again in another mood.

    alpha has its copy within 10 s, and never gets a second one; beta's part stays in the sender's queue. After the
    change a queue run delivers it within 10 s.
    """
    message = await site.send("mail1", *TO)
    await site.arrive("alpha", message.only("ann@alpha.example"), within=FIRST)
    await site.stay_away(message.only("bob@beta.example"), seconds=5)
    await site.expect_queued("mail1", 1)
    await site.recast("beta", Role.OUTSIDE)
    await site.arrive_by_queue_run("after the change", "mail1", message, within=FIRST)


@scenario("outbound", outbound_to(Role.REJECTS))
async def rejected_after_dot(site: Site, mta: Mta) -> None:
    """The server of beta answers 5xx to the dot.

    alpha has its copy within 10 s; the sender is told, once, that beta's could not be delivered; the queue is empty.
    """
    message = await site.send("mail1", *TO)
    site.refused.add((message.name, "bob@beta.example"))
    await site.arrive("alpha", message.only("ann@alpha.example"), within=FIRST)
    await site.until_empty("mail1", within=FIRST)
    await site.until_told("mail1", message, within=FIRST)


@scenario("outbound", outbound)
async def gateway_cut_drop(site: Site, mta: Mta) -> None:
    """The link between the inside and gateway 1 is a black hole.

    The sender's own connect timeout rules, which the recipes set to 5 s; then gateway 2 takes the message.
    """
    await site.cut(Link.GATEWAY1_INSIDE, Cut.DROP)
    await site.arrive("first", await site.send("mail1", *TO), within=FIRST)


@scenario("outbound", outbound)
async def gateway_stopped(site: Site, mta: Mta) -> None:
    """Gateway 1 has been stopped, and its machine refuses connections. Gateway 2 takes the message within 10 s."""
    await site.gateways[1].stop()
    await site.arrive("first", await site.send("mail1", *TO), within=FIRST)


@scenario("outbound", outbound)
async def killed_in_body(site: Site, mta: Mta) -> None:
    """Gateway 1 hears the first half of a message and no more; then it is killed.

    Nobody has the message then. The sender offers it to gateway 2, and it arrives within 10 s of the crash, once.
    """
    await site.network.stall(1, 400_000)
    message = await site.send("mail1", *TO, octets=1_000_000)
    await site.stay_away(message, seconds=1)
    await site.gateways[1].kill()
    await site.network.unstall()  # the machine is still there, and refuses what comes
    await site.arrive("after the crash", message, within=FIRST, since=site.gateways[1].crashes[-1])


@scenario("outbound", outbound)
async def receivers_stopped(site: Site, mta: Mta) -> None:
    """The servers of both destinations are stopped, and started again later.

    The message stays in the sender's queue, no gateway hears a word of its body, and a queue run after the start
    delivers it within 10 s.
    """
    for name in ("alpha", "beta"):
        await site.servers[name].stop()
    messages = [await site.send("mail1", *TO) for _ in range(3)]
    await site.stay_away(*messages, seconds=15)
    await site.expect_queued("mail1", 3)
    site.expect_tried("alpha", "beta")
    site.expect_no_transfer(*messages)
    for name in ("alpha", "beta"):
        await site.servers[name].again()
    await site.arrive_by_queue_run("after the start", "mail1", *messages, within=FIRST)
