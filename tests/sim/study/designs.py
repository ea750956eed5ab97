"""The four designs that are compared, each as a program for a gateway's host."""

from __future__ import annotations

import enum
import ipaddress
import logging
from collections.abc import Mapping
from typing import Protocol

import trio

from mailgate.gateway import Gateway
from mailgate.network import Network, TcpAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Backbone, Listener, Route, Settings
from mailgate.testing.script import Speaks
from sim.gateways import accept, recording
from sim.schedules import POSTFIX, SENDMAIL
from sim.site import Topology
from sim.study.layout import INSIDE_DOMAINS, LMTP, OUTSIDE_DOMAINS, PLACES, SMTP, GatewayPlace
from sim.study.relay import Hop, Policy, Relay, Service


class Design(enum.Enum):
    """What the gateways are."""

    CONVENTIONAL = "store and forward"
    FALLBACK = "with fallback"
    PAPER = "the paper's"
    MAILGATE = "mailgate"

    @property
    def inside_protocol(self) -> Speaks:
        """What the inside host that sends speaks to the gateways."""
        return "lmtp" if self in (Design.PAPER, Design.MAILGATE) else "smtp"


QUEUE, FALLBACK_QUEUE = POSTFIX, SENDMAIL
"""what the queues of gateways do as; those with a fallback as sendmail, of which circling was measured"""


class Program(Protocol):
    """What runs on a gateway's host."""

    async def program(self, network: Network) -> None:
        """Until cancelled."""
        ...


def relay(design: Design, topology: Topology, gateway: str) -> Relay:
    """A gateway of one of the first three designs."""
    place = PLACES[topology][gateway]
    outer = tuple(TcpAddress(ip, SMTP) for ip in place.outside.values())
    if design is Design.PAPER:
        services = (
            Service("smtp", outer, Policy.CALL_AHEAD),
            Service("lmtp", (TcpAddress(place.inside, LMTP),), Policy.ANSWER),
        )
    else:
        services = (
            Service("smtp", outer, Policy.QUEUE),
            Service("smtp", (TcpAddress(place.inside, SMTP),), Policy.QUEUE),
        )
    hops = {
        **{domain: Hop(address, place.inside) for domain, address in INSIDE_DOMAINS.items()},
        **{domain: Hop(address, place.default) for domain, address in OUTSIDE_DOMAINS.items()},
    }
    if design is Design.FALLBACK:
        return Relay(gateway, services, hops, FALLBACK_QUEUE, _ways_to_other(topology, gateway))
    return Relay(gateway, services, hops, QUEUE)


def _ways_to_other(topology: Topology, gateway: str) -> tuple[Hop, ...]:
    """To the other gateway: by the Internet, and by the inside where that does not work."""
    own = PLACES[topology][gateway]
    other = next(place for name, place in PLACES[topology].items() if name != gateway)
    return (
        Hop(TcpAddress(other.default, SMTP), own.default),
        Hop(TcpAddress(other.inside, SMTP), own.inside),
    )


_FROM_OUTSIDE, _FROM_INSIDE = "from-outside", "from-inside"


class MailgateProgram:
    """The real gateway, with its defaults."""

    def __init__(self, topology: Topology, gateway: str) -> None:
        self.errors: list[str] = []
        """what it logged that is nothing of the network's: there should be none"""
        self._name = gateway
        self._place = PLACES[topology][gateway]

    async def program(self, network: Network) -> None:
        """Serve until cancelled."""
        gateway = Gateway(mailgate_settings(self._name, self._place), network, recording(logging.ERROR, self._record))
        outer, inner = gateway.settings.listeners
        binds = [(outer, TcpAddress(ip, SMTP)) for ip in self._place.outside.values()]
        async with trio.open_nursery() as nursery:
            await nursery.start(gateway.run)
            for listener, bind in (*binds, (inner, TcpAddress(self._place.inside, LMTP))):
                incoming = await network.listen(bind)
                nursery.start_soon(accept, gateway, listener, incoming, nursery)

    def _record(self, event: Mapping[str, object]) -> None:
        self.errors.append(f"{trio.current_time():.3f} {self._name} {event}")


def mailgate_settings(gateway: str, place: GatewayPlace) -> Settings:
    """What mailgate is told: as docs/multihoming.md sets it up."""
    backbones = tuple(
        Backbone(name=name, sources=(ip,), helo=f"{gateway}-{name}.example") for name, ip in place.outside.items()
    )
    inside = tuple(
        Route(name=domain.partition(".")[0], domains=(domain,), hosts=(address,))
        for domain, address in INSIDE_DOMAINS.items()
    )
    outside = Route(name="outside", domains=("*",), mx=True, backbones=backbones, allow_private=True)
    return Settings(
        hostname=f"{gateway}.site.example",
        listeners=(
            Listener(name=_FROM_OUTSIDE, protocol=Role.SMTP, routes=inside),
            Listener(
                name=_FROM_INSIDE,
                protocol=Role.LMTP,
                routes=(outside,),
                clients=(ipaddress.ip_network("10.0.0.0/8"),),
            ),
        ),
    )
