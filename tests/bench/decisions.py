"""How long routing and health decisions take per recipient, against the goal: `make bench`. A program, not a test.

A route table of 200 patterns, of which the last takes the recipient; as many records in memory as there may be; a
next hop of two hosts, as most have, or five, each to be reached over two backbones. Of each figure the best of several
runs is taken, so that what else the machine does is not in it. The exit status is 1 if one misses the goal.
"""

from __future__ import annotations

import random
import sys
import timeit
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from mailgate.network import Address, HostName, TcpAddress
from mailgate.relay.health import Health
from mailgate.relay.routing import NextHop, Path, RouteTable, next_hop, paths_to
from mailgate.relay.settings import Backbone, Route

GOAL = 20.0
"""microseconds"""

RUNS, DECISIONS = 7, 5000
"""and how many decisions are timed in each run"""

DOMAINS, RECORDS, USUAL, MANY = 200, 10_000, 2, 5
"""patterns, records, and hosts of a next hop"""

BACKBONES = (
    Backbone(name="isp-a", sources=("192.0.2.10", "2001:db8:a::10"), helo="a.gw.example"),
    Backbone(name="isp-b", sources=("198.51.100.10", "2001:db8:b::10"), helo="b.gw.example"),
)
NAMED = tuple(f"customer{number}.example" for number in range(DOMAINS - 1))
INSIDE = Route(name="inside", domains=NAMED, hosts=(HostName("mail.example", 25),))
OUTSIDE = Route(name="outside", domains=("*",), mx=True, backbones=BACKBONES)
TABLE = RouteTable((INSIDE, OUTSIDE))

RECIPIENT = "Mail.Department.Example.ORG"
"""the domain: no pattern but the last takes it"""

FOUND: list[tuple[HostName, list[Address]]] = [
    (HostName(f"mx{number}.example.org", 25), [TcpAddress(f"203.0.113.{number}", 25)]) for number in range(MANY)
]
"""the hosts of its next hop, all at one preference, as DNS gives them"""


def paths(hosts: int = MANY) -> list[Path]:
    """All paths of the next hop."""
    return [path for host, addresses in FOUND[:hosts] for path in paths_to(OUTSIDE, host, addresses)]


def remembered(down: int) -> Health:
    """A full memory, in which that many paths of the next hop are down, and other hosts' paths, too."""
    health = Health(RECORDS)
    for number in range(RECORDS - MANY * len(BACKBONES)):
        other = Path(TcpAddress(f"10.0.{number >> 8}.{number & 255}", 25), BACKBONES[number % 2])
        health.failed(other, "connection timed out", 0, static=False)
    for number, path in enumerate(paths()):
        if number < down:
            health.failed(path, "connection timed out", 0, static=False)
        else:
            health.succeeded(path, 0, static=False, latency=0.1)
    return health


def decisions() -> dict[str, Callable[[], object]]:
    """What is decided, and a function that decides it once."""
    ways = paths()
    some, none = remembered(down=3), remembered(down=len(ways))
    chance = random.Random(1)
    deliveries: dict[NextHop, str] = {next_hop(OUTSIDE, RECIPIENT): "under way"}

    def found() -> NextHop:
        route = TABLE.find(RECIPIENT)
        assert route is not None
        return next_hop(route, RECIPIENT)

    def trials() -> list[Path]:
        return [path for path in ways if some.down(path) and some.due(path, 9)]

    def everything(hosts: int) -> list[Path]:
        assert deliveries[found()]
        return some.order(paths(hosts), BACKBONES, chance, "isp-b")

    return {
        f"find the route, of {DOMAINS} patterns, and its next hop": found,
        "find the next hop's delivery": lambda: deliveries[next_hop(OUTSIDE, RECIPIENT)],
        f"list the paths to {MANY} hosts over {len(BACKBONES)} backbones": paths,
        "put them in order, 3 being down": lambda: some.order(ways, BACKBONES, chance, "isp-b"),
        "find those that are down and due for a trial": trials,
        "find that all are down, and lately": lambda: none.fresh(ways, 1),
        f"for a recipient alone: route, delivery, paths, order; {USUAL} hosts": lambda: everything(USUAL),
        f"the same with {MANY} hosts": lambda: everything(MANY),
    }


def main() -> int:
    """Print the table; the exit status."""
    table = Table(title=f"microseconds per recipient; the goal: under {GOAL:.0f}")
    table.add_column("decision")
    table.add_column("takes", justify="right")
    table.add_column("goal")
    missed = 0
    for name, decide in decisions().items():
        took = min(timeit.repeat(decide, number=DECISIONS, repeat=RUNS)) / DECISIONS * 1e6
        met = took < GOAL
        missed += not met
        table.add_row(name, f"{took:.1f}", "met" if met else "missed", style=None if met else "bold red")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
