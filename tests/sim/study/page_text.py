"""What docs/availability.md says in words. Numbers are those of the modules that hold them."""

from __future__ import annotations

from mailgate.relay.settings import Timeouts
from sim.study import probe, relay
from sim.study.designs import FALLBACK_QUEUE, QUEUE
from sim.study.failures import DAY, HOUR, SITES
from sim.study.measure import LATE, SOON
from sim.study.messages import AFTER, AVERAGE, BEFORE, GAP, LARGEST, MOST, THINNED

_MINUTE = 60

NEARLY_ALL = 0.999
"""the share of recipients whose time the table of senders has"""

DESIGNS = f"""
## What is compared

Two gateways each time, gw1 and gw2, and the same servers around them.

- **store and forward**: conventional gateways. They take everything at once, put it into a queue and hand it on: at
  once, and after a failure as Postfix does, at the first scan of the queue (every {QUEUE.runner:.0f} s)
  after as long as the message is old, {QUEUE.wait(0):.0f} s at least and {QUEUE.wait(DAY):.0f} s at most.
  After {QUEUE.lifetime / DAY:.0f} days the message goes back. The inside server speaks SMTP to them.
- **with fallback**: the same, as sendmail with `FallbackMXhost`. Each gateway names the other: what a next hop does not
  take is handed to the other gateway, {relay.CIRCLE_PAUSE:.0f} s later. After {relay.HOPS} hops the message goes back.
  Both were measured of two sendmails. A black hole takes {FALLBACK_QUEUE.patience.connect:.0f} s, with the others
  {QUEUE.patience.connect:.0f} s, as measured of sendmail and Postfix.
- **the paper's**: inbound, call-ahead. At RCPT the gateway asks the inside server for the recipient, in a session of
  its own that is closed again (at most {probe.CONNECT:.0f} s for the connect). What it cannot ask for it
  refuses with 451. Then it puts the message into a queue and hands it on as the conventional ones do. Outbound, LMTP:
  it takes the whole message, delivers to all outside servers at the same time, and answers for each recipient; there
  it has no queue.
- **mailgate**: the real `Gateway` of this repository with its defaults, in both directions.

The first three are small programs of this study (`tests/sim/study`) that speak the real protocols; they are not
sendmail or Postfix. What those do in the same situations was measured in [the lab](lab.md).
"""

WORLD = f"""
## The world

The network is simulated: packets take time and get lost, TCP retransmits and gives up, and the clock jumps to the next
event.

- **Topologies**: 1a, one site, both gateways on both backbones; 1b, two sites, gw1 on backbone A and gw2 on backbone
  B. Each gateway has an inside link of its own. In 1a the gateways that are not mailgate have one default route for
  what they send, gw1 by A and gw2 by B, as is usual; mailgate uses both ([multihoming](multihoming.md)).
- **The Internet**: {SITES} networks, each with a server that receives and one that sends. The first one has most of
  the mail, the next ones half, a third, a quarter of that and so on.
- **MX**: gw1-a, gw2-b, gw1-b, gw2-a in 1a; gw1-a, gw2-b in 1b.
- **Senders**: programs with the retry schedules that were measured of Postfix, Exim, sendmail and OpenSMTPD. Outside
  mostly Postfix, inside Postfix, with their defaults: so a message waits by the same schedule, whether it waits at its
  sender or in a gateway. ([Our recipe](peers/postfix.md) for inside servers tries more often.) They never fail
  themselves: a message that cannot be submitted is no matter of the gateways.
- **Messages**: in each direction one every {GAP / _MINUTE:.0f} min on average (Poisson), of some kilobytes (lognormal,
  at most {LARGEST // 1000} kB), for 1 to {MOST} recipients; most have one, {AVERAGE:.0f} is the average.
  Outbound each recipient is in a network of its own draw. Inbound all are at one of two inside servers, since senders
  split messages by domain.
- **Calm**: when nothing is broken, nor will be for {BEFORE / _MINUTE:.0f} min, nor was for {AFTER / HOUR:.0f} h, only
  one message in {THINNED} is sent, and counts for {THINNED}.
"""

FAILURES = """
## What fails

Each component fails and is repaired on its own, at random: exponential time between failures, lognormal time to
repair. A black hole swallows packets; the other failures refuse connections at once. A gateway or server that is a
black hole is off; one that refuses has lost its mail program. When a network fails, in either manner, connections that
are open hang, and TCP retransmits.
"""

FAILURES_END = """
*Not* modelled: failures that come together (a power cut at a site takes its gateway and its link); disks that are lost
with a queue on them (that would hurt only gateways that have one); DNS that fails; overload, spam, greylisting, refused
recipients; people who notice and intervene.
"""

MEASURES = f"""
## What is measured

- **Time to delivery**: from the submission at the sender to the first copy in the recipient's mailbox.
- **Nothing after an hour**: recipients without a copy {LATE / _MINUTE:.0f} min after the submission, and where their
  message was then: in a gateway's queue, sent back, or at its sender.
- **Though there was a way**: those of them for whom all of some way worked when the message was submitted: the server,
  a gateway, its inside link, one of its backbones, and the route. This is what the gateways can do something about. For
  the others nobody could have delivered then, and the schedule of whoever had the message decides how long after the
  repair it comes.
- **Useless transfers**: whole messages that came to a gateway and were not handed on to a server, for any recipient,
  within {SOON:.0f} s. From gateway to gateway is no handing on.
- **Never**: recipients that got nothing; the sender is told.
- Counts are for a million recipients or a thousand messages, so that designs and directions compare. What is rare is
  rough: the first table has the range over the seeds.
"""

SHORT = """
For a million recipients; useless transfers for a thousand messages. In brackets the least and the greatest of a seed.
"""

PLOTS = """
![Recipients without their message, by time](availability-delays.svg)

![Nothing after an hour, and where it was](availability-late.svg)

![Useless transfers, and what never arrives](availability-useless.svg)
"""

NOT_BETTER = """
## Where mailgate is not better

A gateway without a queue leaves the mail with its sender. That is the idea, and it has a price. Where only one gateway
has a way, a fallback finds it as well, and at times sooner: the message is at a gateway already, and waits for nobody's
schedule.

**Late is late.** Mail for which there was no way when it was submitted comes no earlier with mailgate.
"""

LATE_TOO = f"""
Between the paper's design and mailgate that is a difference in such mail only. It was not traced case by case. One
cause may be that mailgate gives up a dead path after {Timeouts().connect:.0f} s, and answers at once while it
remembers it: a try of the paper's design lasts {QUEUE.patience.connect:.0f} s, and a repair may fall into it.
"""

BY_SENDER = f"""
**Senders differ.** What a gateway refuses for now is delivered when its sender comes back, by the sender's schedule
and not by ours. Postfix, Exim and sendmail go on to the next MX at once. OpenSMTPD never leaves its first MX for a 4xx
at RCPT; it goes on only when mailgate refuses at its greeting. And when no way is open, the sender's schedule decides
how long after the repair the message comes. Inbound, the time in which {100 * NEARLY_ALL:g} % were delivered;
recipients of a million with nothing after an hour:
"""

LOAD = """
**Senders' queues.** Mail that a conventional gateway takes leaves its sender's queue at once, whatever becomes of it.
mailgate leaves it there until it is delivered, and each try that fails costs the sender a session:
"""

DUPLICATES = """
**Second copies.** A connection that breaks between the dot and its reply leaves an unknown outcome, and the message is
sent again: by mailgate's client, as by any queue. With cut-through that moment comes on two connections at once, so
mailgate may meet more of them. With so little mail as here a failure hardly ever strikes in that tenth of a second;
`make sim` aims at it ([testing](testing.md)). Second copies here, of all recipients:
"""

ALL_WELL = """
**All well.** While nothing is broken everybody delivers at once, and the differences mean nothing. What mailgate sends
to the Internet takes a moment longer: its look-ups in DNS are in that time, and the other programs of this study look
nothing up. A gateway with a queue answers its client sooner; when mailgate answers, the message is in the mailbox.
"""

LIMITS = """
## How far to trust it

- The laws of failure are assumptions. `LAWS` in `tests/sim/study/failures.py` is the table to change.
- The programs that stand for conventional gateways retry at once after a restart, know no limit of connections and
  never put a destination aside for a while, as real queue managers do. That favours them.
- In 1a the other designs could use both backbones for what they send, too, with more effort in routing than is usual.
  Their outbound results would come nearer to mailgate's.
- Compare mailgate with the paper's design, too: the idea is the paper's. What mailgate adds is in the rows for useless
  transfers, in what is left in gateways (it has no queue in either direction), and outbound in 1a, where each gateway
  uses both backbones.
- The simulation is deterministic: the same seeds give this page, byte for byte.
"""
