"""The network of one case: namespaces, veth pairs and bridges, and links that can be cut.

A case's namespaces bear its number, in a /run/netns that is the run's own (__main__.py): two runs never meet.
"""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Iterable

from lab import commands
from lab.topology import Machine, Topology, inside_link, machines, networks

SWITCH = "switch"
"""the namespace of the bridges: one for each network"""

_SYSCTLS = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv4.conf.all.rp_filter=2")


class Cut(enum.Enum):
    """How a link is cut: what nft does with what would cross it."""

    DROP = "drop"
    """a black hole"""
    RESET = "reject with tcp reset"
    """connections are refused, and those under way reset"""


class Link(enum.Enum):
    """What can be cut; `Network` knows at which routers."""

    GATEWAY1_INSIDE = "gateway 1 - inside"
    GATEWAY2_INSIDE = "gateway 2 - inside"
    GATEWAY1_OUTSIDE = "outside - gateway 1"
    GATEWAY2_OUTSIDE = "outside - gateway 2"
    BACKBONE_A = "backbone A"
    BACKBONE_B = "backbone B"
    A_TO_ALPHA = "backbone A - alpha"
    A_TO_BETA = "backbone A - beta"
    B_TO_ALPHA = "backbone B - alpha"
    B_TO_BETA = "backbone B - beta"


class Network:
    """The namespaces of one case, and their cuts."""

    def __init__(self, number: int, topology: Topology) -> None:
        self._prefix = f"c{number}-"
        self.topology = topology
        self.machines = {machine.name: machine for machine in machines(topology)}

    def namespace(self, machine: str) -> str:
        """The name of a machine's network namespace."""
        return self._prefix + machine

    def inside(self, machine: str, *command: str) -> list[str]:
        """The command that runs a command in a machine's network, but in this system's root."""
        return ["ip", "netns", "exec", self.namespace(machine), *command]

    async def build(self) -> None:
        """Make everything, up and routed.

        Raises:
            commands.Failed: `ip` refused something.
        """
        await _batch(self._plan())
        await _batch(self._bridges(), self.namespace(SWITCH))
        for machine in self.machines.values():
            sysctls = (*_SYSCTLS, *(("net.ipv4.ip_forward=1",) if machine.forwards else ()))
            await commands.run(self.inside(machine.name, "sysctl", "-qw", *sysctls))
            await _batch(_legs(machine), self.namespace(machine.name))

    def destroy(self) -> None:
        """Remove every namespace; what still ran in one keeps it until it ends. Blocks for some milliseconds."""
        names = (*self.machines, SWITCH)
        lines = "".join(f"netns del {self.namespace(name)}\n" for name in names)
        subprocess.run(["ip", "-force", "-batch", "-"], input=lines, text=True, capture_output=True, check=False)

    async def cut(self, link: Link, how: Cut) -> None:
        """Cut a link that is whole, or cut it in another way.

        Raises:
            commands.Failed: nft refused it.
        """
        for router, which in self._where(link):
            table = _table(link)
            rules = "".join(f"  {match} {how.value}\n" for match in which)
            await self._nft(
                router,
                f"table inet {table} {{}}\ndelete table inet {table}\ntable inet {table} {{\n chain forward {{\n"
                f"  type filter hook forward priority 0\n{rules} }}\n}}\n",
            )

    async def repair(self, link: Link) -> None:
        """Make a link whole; one that is so already stays it."""
        table = _table(link)
        for router, _ in self._where(link):
            await self._nft(router, f"table inet {table} {{}}\ndelete table inet {table}\n")

    async def lose_connections(self, machine: str) -> None:
        """Abort a machine's connections to mail servers; the programs at both ends see them lost."""
        await commands.run(self.inside(machine, "ss", "-K", "-t", "dport = :24 or dport = :25 or dport = :587"))

    async def lose_clients(self, machine: str) -> None:
        """Abort the connections of a machine's clients from outside; the programs at both ends see them lost, unless
        the link is cut: then that on the machine only."""
        await commands.run(self.inside(machine, "ss", "-K", "-t", "sport = :25"))

    async def stall(self, gateway: int, octets: int) -> None:
        """Let a gateway hear so much from the inside, and no more: what comes then is a black hole's."""
        chain = "type filter hook forward priority 0"
        rule = f"ip daddr 10.0.0.{gateway} tcp dport {{24, 25, 587}} quota over {octets} bytes drop"
        await self._nft("core", f"table inet stall {{\n chain forward {{\n  {chain}\n  {rule}\n }}\n}}\n")

    async def unstall(self) -> None:
        """Let everything through again that `stall` swallowed."""
        await self._nft("core", "delete table inet stall\n")

    async def _nft(self, router: str, rules: str) -> None:
        await commands.run(self.inside(router, "nft", "-f", "-"), rules)

    def _where(self, link: Link) -> Iterable[tuple[str, tuple[str, ...]]]:
        """Which routers cut it, and what of their traffic."""
        gateways = {number: self.machines[f"gw{number}"] for number in (1, 2)}
        match link:
            case Link.GATEWAY1_INSIDE | Link.GATEWAY2_INSIDE:
                number = 1 if link is Link.GATEWAY1_INSIDE else 2
                ip = gateways[number].ip(inside_link(self.topology, number))
                return [("core", _both_ways(ip))]
            case Link.GATEWAY1_OUTSIDE | Link.GATEWAY2_OUTSIDE:
                gateway = gateways[1 if link is Link.GATEWAY1_OUTSIDE else 2]
                isps = {"isp-a": "router-a", "isp-b": "router-b"}
                return [(isps[leg.network], _both_ways(leg.ip)) for leg in gateway.legs if leg.network in isps]
            case Link.BACKBONE_A | Link.BACKBONE_B:
                return [("router-a" if link is Link.BACKBONE_A else "router-b", ("meta l4proto tcp",))]
            case _:
                router = "router-a" if link in (Link.A_TO_ALPHA, Link.A_TO_BETA) else "router-b"
                server = "alpha" if link in (Link.A_TO_ALPHA, Link.B_TO_ALPHA) else "beta"
                return [(router, _both_ways(self.machines[server].ip("internet")))]

    def _plan(self) -> Iterable[str]:
        yield f"netns add {self.namespace(SWITCH)}"
        port = 0
        for machine in self.machines.values():
            yield f"netns add {self.namespace(machine.name)}"
            for leg in machine.legs:
                yield (
                    f"link add {leg.network} netns {self.namespace(machine.name)} type veth "
                    f"peer name p{port} netns {self.namespace(SWITCH)}"
                )
                port += 1

    def _bridges(self) -> Iterable[str]:
        for network in networks(self.topology):
            yield f"link add {network} type bridge"
            yield f"link set {network} up"
        legs = (leg for machine in self.machines.values() for leg in machine.legs)
        for port, leg in enumerate(legs):
            yield f"link set p{port} master {leg.network} up"


def _legs(machine: Machine) -> Iterable[str]:
    yield "link set lo up"
    for leg in machine.legs:
        yield f"addr add {leg.address} dev {leg.network}"
        yield f"link set {leg.network} up"
    yield from machine.setup


def _table(link: Link) -> str:
    return "cut_" + link.name.lower()


def _both_ways(ip: str) -> tuple[str, ...]:
    return (f"ip saddr {ip} meta l4proto tcp", f"ip daddr {ip} meta l4proto tcp")


async def _batch(lines: Iterable[str], namespace: str | None = None) -> None:
    where = [] if namespace is None else ["-n", namespace]
    await commands.run(["ip", *where, "-batch", "-"], "".join(f"{line}\n" for line in lines))
