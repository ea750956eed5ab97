"""Much mail at once: a queue with slow destinations at its head, and links that flap."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import trio

from lab import commands
from lab.mta import Mta
from lab.network import Cut, Link
from lab.scenario import alone, both_ways, scenario
from lab.site import Draft, Message, Site
from lab.topology import CROWD, Topology, crowd_address

_CROWD = Path(__file__).with_name("crowd.py")

SLOW = 5
"""of 100 destinations: 5 %"""

ANSWER = 300
"""seconds after which the slow ones answer the dot"""

HEAD_DELAY = 5
"""seconds that mail for the others may take"""

FLAPPING = 60
"""seconds"""

SETTLING = 30
"""seconds after the last repair in which everything has arrived that hangs nowhere"""

FLAPPED = 500
"""messages"""


@scenario("trouble", alone, topologies=(Topology.ONE_SITE,), waits=True, patience=700)
async def queue_head(site: Site, mta: Mta) -> None:
    """Of 100 destinations, 5 answer the dot after 300 s. One message to each goes out, the slow ones first; then two
    more to each.

    No message to one of the others takes more than 5 s; those to the slow ones arrive when they are answered, once.
    """
    slow = [Draft((f"ann@{domain}",)) for domain in CROWD[:SLOW]]
    rest = [Draft((f"ann@{domain}",), after=0.1 * number) for number, domain in enumerate(CROWD[SLOW:])]
    more = [Draft((f"ann@{domain}",), after=10 + 0.1 * number) for number, domain in enumerate(CROWD * 2)]
    async with trio.open_nursery() as serving:
        await serving.start(_serve_crowd, site)
        taken = site.taken_elsewhere
        messages = await site.send_all("mail1", [*slow, *rest, *more])
        late = {f"ann@{domain}" for domain in CROWD[:SLOW]}
        await site.settle([one for one in messages if one.recipients[0] not in late], 30)
        async with site.slot.given():
            await site.settle(messages, ANSWER + 60)
        site.expect(not site.missing(messages), f"not taken after {ANSWER + 60} s: {site.missing(messages)}")
        serving.cancel_scope.cancel()
    delays = {one: taken[one.name, one.recipients[0]][0] - one.taken for one in messages}
    site.measure("others", max(delay for one, delay in delays.items() if one.recipients[0] not in late))
    site.measure("slow ones", max(delay for one, delay in delays.items() if one.recipients[0] in late))
    worst = site.measured[-2].seconds
    site.expect(worst <= HEAD_DELAY, f"a message to a destination that is not slow took {worst:.1f} s")


async def _serve_crowd(site: Site, task_status: trio.TaskStatus[None]) -> None:
    command = [sys.executable, str(_CROWD), crowd_address(0), str(len(CROWD)), str(SLOW), str(ANSWER)]
    process = await trio.lowlevel.open_process(site.network.inside("crowd", *command), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        unfinished = b""
        async for octets in process.stdout:
            *lines, unfinished = (unfinished + octets).split(b"\n")
            for line in lines:
                if line == b"listening":
                    task_status.started()
                else:
                    name, recipient, moment = line.decode().split()
                    site.taken_elsewhere.setdefault((name, recipient), []).append(float(moment))
    finally:
        process.kill()
    raise commands.Failed("the crowd's server ended")


@scenario("trouble", both_ways, patience=400, waits=True)
async def flapping(site: Site, mta: Mta) -> None:
    """500 messages, half in and half out, while links go down, as black holes and with resets, and up at random for
    60 s (seeded). Then all are repaired, and queue runs requested.

    Every message arrives; exactly once, but for those whose outcome stayed unknown or untold, which the logs name. A
    reset that reaches only one end leaves the other one waiting, for up to an hour by its own timeouts: connections to
    gateways that are still there after 30 s are aborted, and the senders see them lost.
    """
    chance = random.Random(f"{mta.name} {site.topology.value}")
    half = FLAPPED // 2
    inwards = [Draft(("ann@example.org", "bob@example.net"), after=number * FLAPPING / half) for number in range(half)]
    outwards = [
        Draft(("ann@alpha.example", "bob@beta.example"), after=number * FLAPPING / half) for number in range(half)
    ]
    sent: list[Message] = []
    async with trio.open_nursery() as flaps:
        flaps.start_soon(_flap, site, chance)
        async with trio.open_nursery() as sending:
            for machine, drafts in (("sender", inwards), ("mail1", outwards)):
                sending.start_soon(_send, site, machine, drafts, sent)
        flaps.cancel_scope.cancel()
    await site.repair(*Link)
    repaired = site.now()
    async with trio.open_nursery() as running:
        for machine in ("sender", "mail1"):
            running.start_soon(site.run_queue, machine)
        await site.settle(sent, SETTLING)
        hung = site.missing(sent)
        running.cancel_scope.cancel()
    site.remarks.append(f"{len(hung)} recipients of {2 * len(sent)} hung in a lost connection")
    for machine in ("sender", "mail1") if hung else ():
        await site.network.lose_connections(machine)
    async with trio.open_nursery() as running:
        for machine in ("sender", "mail1"):
            running.start_soon(site.run_queue, machine)
        await site.arrive("all, after the last repair", *sent, within=4 * SETTLING, since=repaired)
        running.cancel_scope.cancel()


async def _send(site: Site, machine: str, drafts: list[Draft], sent: list[Message]) -> None:
    sent += await site.send_all(machine, drafts)


async def _flap(site: Site, chance: random.Random) -> None:
    """Cut and repair links at random. Cancelled between two commands or in one, it leaves some cut."""
    down: set[Link] = set()
    links = list(Link)
    while True:
        await trio.sleep(chance.uniform(0.2, 2))
        link = chance.choice(links)
        if link in down:
            down.remove(link)
            await site.repair(link)
        else:
            down.add(link)
            await site.cut(link, chance.choice(list(Cut)))
