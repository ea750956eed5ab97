"""Carries out a trace of failures on the simulated network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from mailgate.network import Network, TcpAddress
from sim.internet import Internet
from sim.records import Session
from sim.study.designs import Program
from sim.study.failures import Component, Failure, Manner, Part
from sim.study.layout import GATEWAYS, SITE_OF
from sim.tcp import Connection


class Switch:
    """A gateway's program, which can be stopped while its host runs: connections are refused then."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._life = trio.CancelScope()
        self._stopped_until = -math.inf

    async def run(self, network: Network) -> None:
        """For `Host.start`."""
        while True:
            await trio.sleep_until(self._stopped_until)
            with trio.CancelScope() as self._life:
                await self._program.program(network)

    def stop(self, until: float) -> None:
        """Stop it now, start it again then."""
        self._stopped_until = until
        self._life.cancel()


@dataclass(frozen=True, slots=True)
class _Broken:
    """A route."""

    manner: Manner
    until: float


class Breaker:
    """Breaks what the trace says, when it says so."""

    def __init__(self, internet: Internet, switches: Mapping[str, Switch]) -> None:
        """`switches` by gateway."""
        self._internet = internet
        self._switches = switches
        self._routes: dict[str, _Broken] = {}
        internet.on_connect = self._connecting

    async def run(self, failures: Sequence[Failure]) -> None:
        """Go through a trace, which is in the order of the beginnings."""
        for failure in failures:
            await trio.sleep_until(failure.begins)
            self.fail(failure)

    def fail(self, failure: Failure) -> None:
        """Break something, from now on."""
        component, hosts = failure.component, self._internet.hosts
        match component.part:
            case Part.BACKBONE:
                self._cut(f"isp-{component.name}", failure)
            case Part.INSIDE_LINK:
                self._cut(f"inside-{component.name}", failure)
            case Part.ROUTE:
                self._break_route(failure)
            case Part.GATEWAY if failure.manner is Manner.REFUSES:
                self._switches[f"gw{component.name}"].stop(failure.ends)
            case _ if failure.manner is Manner.REFUSES:
                hosts[_host(component)].refuse(failure.ends)
            case _:
                hosts[_host(component)].crash(failure.ends)

    def _cut(self, network: str, failure: Failure) -> None:
        """Connections that are open hang in both manners: TCP goes on trying when a router says "unreachable"."""
        link = self._internet.links[network]
        link.drop(failure.ends)
        if failure.manner is Manner.REFUSES:
            link.refuse(failure.ends)

    def _break_route(self, failure: Failure) -> None:
        self._routes[failure.component.name] = _Broken(failure.manner, failure.ends)
        for connection in list(self._internet.connections.values()):
            if self._route(connection.session) == failure.component.name:
                connection.drop(failure.ends)

    def _connecting(self, connection: Connection) -> None:
        broken = self._routes.get(self._route(connection.session))
        if broken is not None and trio.current_time() < broken.until:
            connection.drop(broken.until)
            if broken.manner is Manner.REFUSES:
                connection.refuse()

    def _route(self, session: Session) -> str:
        """The route that a connection takes between a backbone and a network on the Internet, or ""."""
        ends = (session.client, session.client_address), (session.server, session.server_address)
        for (gateway, address), (other, _) in (ends, ends[::-1]):
            if gateway in GATEWAYS and isinstance(address, TcpAddress):
                network = self._internet.hosts[gateway].addresses.get(address.ip, "")
                if network.startswith("isp-") and other in SITE_OF:
                    return f"{network.removeprefix('isp-')}-{SITE_OF[other]}"
        return ""


def _host(component: Component) -> str:
    """The host that a server or gateway runs on."""
    prefix = {Part.GATEWAY: "gw", Part.INSIDE_SERVER: "mail", Part.OUTSIDE_SERVER: "o"}[component.part]
    return prefix + component.name
