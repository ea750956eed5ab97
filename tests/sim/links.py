"""Networks that hosts are plugged into, and paths of packets over them."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.hosts import Host


class Toward(enum.Enum):
    """A direction, as seen from the addresses in a network."""

    OUT = "out of it"
    """packets that come from them"""
    IN = "into it"
    """packets that go to them"""


class Link:
    """A network: `latency` in seconds, `bandwidth` in octets per second for each connection."""

    def __init__(self, name: str, latency: float, bandwidth: float) -> None:
        self.name = name
        self.latency = latency
        self.bandwidth = bandwidth
        self.outward_lost = -math.inf
        """until when packets out of it are lost"""
        self.inward_lost = -math.inf
        self._refuses = -math.inf

    def drop(self, until: float, way: Toward | None = None) -> None:
        """Packets are lost until then, in that direction or in both. An earlier drop that lasts longer holds."""
        if way is not Toward.IN:
            self.outward_lost = max(self.outward_lost, until)
        if way is not Toward.OUT:
            self.inward_lost = max(self.inward_lost, until)

    def refuse(self, until: float) -> None:
        """Connects through it are refused at once, until then."""
        self._refuses = max(self._refuses, until)

    def refuses(self, now: float) -> bool:
        """Whether connects through it are refused."""
        return now < self._refuses


@dataclass(slots=True, eq=False)
class Place:
    """An address, the host that has it, and the network where it is."""

    ip: str
    host: Host
    link: Link
    lost: float = -math.inf
    """until when the host lacks it"""


class Path:
    """The way of packets from one address to another, which nobody need have."""

    __slots__ = ("_links", "bandwidth", "latency", "source", "target")

    def __init__(self, source: Place, target: Place | None) -> None:
        self.source = source
        self.target = target
        self._links = [source.link]
        if target is not None and target.link is not source.link:
            self._links.append(target.link)
        self.latency = sum(link.latency for link in self._links)
        self.bandwidth = min(link.bandwidth for link in self._links)

    def lost(self, now: float) -> bool:
        """Whether a packet that sets out now does not arrive."""
        source, target = self.source, self.target
        return (
            target is None
            or now < source.lost
            or now < target.lost
            or now < source.link.outward_lost
            or now < target.link.inward_lost
        )

    def refuses(self, now: float) -> bool:
        """Whether a connect over it is refused by a network."""
        return any(link.refuses(now) for link in self._links)
