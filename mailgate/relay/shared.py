"""What outlives a session, as sessions see it. The Gateway makes it and owns what is behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from mailgate.network import Network
from mailgate.protocol.client import Capabilities
from mailgate.protocol.command import Extension
from mailgate.relay.lookups import Lookups
from mailgate.relay.settings import Host, Listener, Settings
from mailgate.session.client import ClientSession


@dataclass(slots=True)
class Shared:
    """The world, the settings, and the memory that sessions have in common."""

    settings: Settings
    network: Network
    release: Callable[[ClientSession], bool]
    """take over a clean upstream session, to say QUIT. True: it is taken, and the giver touches it no more"""
    log: FilteringBoundLogger
    lookups: Lookups
    offered: dict[Host, Capabilities] = field(default_factory=dict)
    """what each host offered when we last heard its EHLO or LHLO; no larger than the configuration"""

    counts: Counter[str] = field(default_factory=Counter)
    """recipients since the start by kind of outcome; `untold`: delivered, but the client had gone"""

    def extensions(self, listener: Listener) -> tuple[Extension, ...]:
        """What a listener offers: 8BITMIME and SMTPUTF8 only while no next hop is known to lack them."""
        known = [self.offered[host] for route in listener.routes for host in route.hosts if host in self.offered]
        return tuple(
            extension
            for extension in Extension
            if extension not in _NEXT_HOPS_MATTER or all(extension in one.extensions for one in known)
        )


_NEXT_HOPS_MATTER = (Extension.EIGHTBITMIME, Extension.SMTPUTF8)
