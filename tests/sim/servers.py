"""The mail servers of a run: how each one behaves that takes mail, and each one that sends."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mailgate.network import Address, TcpAddress
from mailgate.testing import Speaks
from sim.records import History, Service
from sim.schedules import EXIM, EXIM_INSIDE, OPENSMTPD, POSTFIX, POSTFIX_INSIDE, SENDMAIL, Schedule
from sim.sender import Sender
from sim.site import (
    FROM_OUTSIDE,
    HANDOVER,
    INSIDE_HOSTS,
    LMTP,
    OUTSIDE_HOSTS,
    SMTP,
    STRANGER,
    TOGETHER_HOSTS,
    Topology,
    binds,
)
from sim.temper import Span, Temper

_BARE = ("SIZE 52428800", "ENHANCEDSTATUSCODES")
_MOST = ("PIPELINING", "8BITMIME", "SMTPUTF8", *_BARE)


def _at(ip: str) -> tuple[TcpAddress]:
    return (TcpAddress(ip, 25),)


def _inside(name: str) -> tuple[TcpAddress]:
    return _at(INSIDE_HOSTS[name])


def _outside(name: str) -> tuple[TcpAddress]:
    return _at(OUTSIDE_HOSTS[name])


TEMPERS: Mapping[str, Temper] = {
    "in1": Temper(addresses=_inside("in1"), extensions=_MOST, contents=0.02),
    "in2": Temper(addresses=_inside("in2"), extensions=_MOST, senders=0.01),
    "in3": Temper(addresses=_inside("in3"), extensions=(*_MOST, "PRDR"), pace=Span(0, 0.05), contents=0.05),
    "box": Temper(addresses=_inside("box"), extensions=_MOST, protocol="lmtp", storing=Span(0, 0.2)),
    "o1": Temper(addresses=_outside("o1"), extensions=_MOST, greylist=300, senders=0.02),
    "o2": Temper(addresses=_outside("o2"), extensions=_BARE, pace=Span(0, 2)),
    "o3": Temper(addresses=_outside("o3"), extensions=_MOST, contents=0.03),
    "o4": Temper(addresses=_outside("o4"), extensions=(*_MOST, "PRDR"), storing=Span(0, 20), contents=0.08),
    "o5": Temper(addresses=_outside("o5"), extensions=_MOST, pace=Span(0, 0.2), storing=Span(1, 300)),
    "o6": Temper(addresses=_outside("o6"), extensions=_BARE, greylist=120, senders=0.01, contents=0.01),
}
"""who takes mail"""


_TOGETHER: Mapping[str, Temper] = {
    "in1": replace(TEMPERS["in1"], storing=Span(0, 1), contents=0.05, passing=0.05),
    "in2": replace(TEMPERS["in2"], passing=0.05),
    "in3": replace(TEMPERS["in3"], storing=Span(0, 3), contents=0.1, passing=0.1),
    "box": replace(TEMPERS["box"], storing=Span(0, 1), contents=0.03, passing=0.1),
}
"""inside, where outcomes are to differ: one has stored a message when another one refuses it"""

_QUEUE = Temper(addresses=_at(TOGETHER_HOSTS[HANDOVER]), extensions=_MOST, contents=0.05, passing=0.05)
"""takes mail for everybody"""


def tempers(odd: float, service: Service = Service.APART) -> Mapping[str, Temper]:
    """The servers that take mail; with 0, they do so at once, and take everything."""
    if odd:
        together = {} if service is Service.APART else _TOGETHER
        handover = {HANDOVER: _QUEUE} if service is Service.HANDOVER else {}
        return {**TEMPERS, **together, **handover}
    return {
        name: Temper(addresses=one.addresses, extensions=one.extensions, protocol=one.protocol)
        for name, one in TEMPERS.items()
    }


@dataclass(frozen=True, slots=True)
class _Sends:
    """A server that sends, and to which of the gateways' listeners."""

    schedule: Schedule
    listener: str = FROM_OUTSIDE
    protocol: Speaks = "smtp"


_SENDERS: Mapping[str, _Sends] = {
    "isend1": _Sends(POSTFIX_INSIDE, LMTP, "lmtp"),
    "isend2": _Sends(EXIM_INSIDE, LMTP, "lmtp"),
    "isend3": _Sends(EXIM, SMTP),  # with a reply per recipient, by PRDR
    "osend1": _Sends(POSTFIX),
    "osend2": _Sends(EXIM),
    "osend3": _Sends(SENDMAIL),
    "osend4": _Sends(OPENSMTPD),
    STRANGER: _Sends(POSTFIX),  # tries the listeners first that are not for him
}

_SENDERS_TOGETHER: Mapping[str, _Sends] = {
    **_SENDERS,
    "osend1": _Sends(replace(POSTFIX, by_domain=False)),
    "osend2": _Sends(replace(EXIM, uses=EXIM_INSIDE.uses)),
    "osend4": _Sends(replace(OPENSMTPD, by_domain=False)),
}
"""all by way of a smart host, so that one transaction has the recipients in all domains, and none asks for PRDR"""

SCHEDULES: Mapping[str, Schedule] = {name: one.schedule for name, one in _SENDERS.items()}
"""by the name of the sender: when it tries again is the same in all services"""


def senders(
    topology: Topology, service: Service, history: History, chance: Callable[[str], random.Random]
) -> list[Sender]:
    """Who sends mail; `chance` gives each one randomness of its own."""
    sends = _SENDERS if service is Service.APART else _SENDERS_TOGETHER
    return [
        Sender(
            name,
            f"{name}.example",
            one.schedule,
            _gateways(topology, name),
            history,
            chance(name),
            protocol=one.protocol,
        )
        for name, one in sends.items()
    ]


def _gateways(topology: Topology, sender: str) -> list[Address]:
    """Where the gateways listen for a sender, in the order of preference."""
    everywhere = [(name, address) for gateway in topology.gateways for name, address in binds(topology, gateway)]
    wanted = (SMTP, FROM_OUTSIDE) if sender == STRANGER else (_SENDERS[sender].listener,)
    return [address for listener in wanted for name, address in everywhere if name == listener]
