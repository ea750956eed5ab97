"""What outlives a session, as sessions see it. The Gateway makes it and owns what is behind it."""

from __future__ import annotations

from collections import Counter

import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import Network
from mailgate.protocol.command import Extension
from mailgate.relay.checks import Checks
from mailgate.relay.greylist import Greylist
from mailgate.relay.health import Health
from mailgate.relay.lookups import Lookups
from mailgate.relay.recall import Recall
from mailgate.relay.routing import NextHop, RouteTable
from mailgate.relay.settings import Listener, Settings
from mailgate.relay.upstreams import Upstreams
from mailgate.store import Store


class Shared:
    """The world, the settings, and the memory that sessions have in common."""

    def __init__(
        self, settings: Settings, network: Network, log: FilteringBoundLogger, store: Store | None = None
    ) -> None:
        """`store`: that the site's gateways share; None: this gateway has only its own memory."""
        self.settings = settings
        self.network = network
        self.log = log
        self.lookups = Lookups(network)
        self.health = Health()
        self.upstreams = Upstreams(settings, network, self.health, log)
        self.checks = Checks(self.upstreams, settings.timeouts.check, log)
        self.greylist = Greylist()
        self.recall = Recall(enabled=settings.ledger, store=store, log=log)
        self.names = our_names(settings)
        """in lower case: hosts of these names are ourselves"""
        self.probes: dict[NextHop, trio.Event] = {}
        """next hops of which all paths are down, and which one message is trying; the event: it is through"""
        self._routes: dict[str, RouteTable] = {}
        self.counts: Counter[str] = Counter()
        """recipients since the start by kind of outcome; `untold`: delivered, but the client had gone"""

    def routes(self, listener: Listener) -> RouteTable:
        """The routes of a listener."""
        known = self._routes.get(listener.name)
        if known is None or known.routes is not listener.routes:
            known = self._routes[listener.name] = RouteTable(listener.routes)
        return known

    def extensions(self, listener: Listener) -> tuple[Extension, ...]:
        """What a listener offers: 8BITMIME and SMTPUTF8 only while no next hop is known to lack them."""
        offered = self.upstreams.offered
        known = [offered[host] for route in listener.routes for host in route.hosts if host in offered]
        return tuple(
            extension
            for extension in Extension
            if extension not in _NEXT_HOPS_MATTER or all(extension in one.extensions for one in known)
        )


def our_names(settings: Settings) -> tuple[str, ...]:
    """What we call ourselves: the hostname, and the HELO names of the backbones in use."""
    routes = [route for listener in settings.listeners for route in listener.routes]
    helos = [backbone.helo for route in routes for backbone in route.backbones]
    return tuple(dict.fromkeys(name.lower() for name in (settings.hostname, *helos)))


_NEXT_HOPS_MATTER = (Extension.EIGHTBITMIME, Extension.SMTPUTF8)
