"""Senders, real gateways and receivers together, in memory: everything arrives, whole and for the right ones."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from mailgate.gateway import Gateway
from mailgate.network import TcpAddress
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Listener, Route, Settings
from mailgate.testing import MemoryNetwork, Speaks
from sim.content import content, digest
from sim.receiver import Receiver
from sim.records import History, Message
from sim.schedules import DAY, EXIM, EXIM_INSIDE, OPENSMTPD, POSTFIX, Schedule
from sim.sender import Sender
from sim.temper import Temper

GATEWAYS = (TcpAddress("192.0.2.1", 25), TcpAddress("192.0.2.2", 25))
EXTENSIONS = ("PIPELINING", "SIZE 52428800", "PRDR")
INSIDE = (TcpAddress("10.0.0.25", 25), TcpAddress("10.0.0.26", 25))


def _gateway(network: MemoryNetwork, role: Role) -> tuple[Gateway, Listener]:
    route = Route(name="inside", domains=("d.example", "e.example"), hosts=INSIDE)
    listener = Listener(name="l", protocol=role, routes=(route,))
    return Gateway(Settings(hostname="gw.example", listeners=(listener,)), network), listener


@pytest.mark.parametrize(
    ("schedule", "protocol"), [(POSTFIX, "smtp"), (EXIM, "smtp"), (OPENSMTPD, "smtp"), (EXIM_INSIDE, "lmtp")]
)
async def test_through_gateways(schedule: Schedule, protocol: Speaks, autojump_clock: MockClock) -> None:
    """A sender, two gateways, two receivers of one next hop. The first one is overloaded and crashes meanwhile."""
    everybody = ("u1@d.example", "no-u2@d.example", "busy-u3@e.example", "u1@d.example")
    async with trio.open_nursery() as nursery:
        network, history = MemoryNetwork(nursery), History(1, ())
        receivers = [
            Receiver(f"in{number}", Temper(addresses=(ip,), extensions=extensions), history, random.Random(number))
            for number, (ip, extensions) in enumerate(zip(INSIDE, (EXTENSIONS, ()), strict=True))
        ]
        life = trio.CancelScope()

        async def run(receiver: Receiver, scope: trio.CancelScope) -> None:
            with scope:
                await receiver.program(network)

        nursery.start_soon(run, receivers[0], life)
        nursery.start_soon(receivers[1].program, network)
        for address in GATEWAYS:
            gateway, listener = _gateway(network, Role(protocol))
            await nursery.start(gateway.run)

            async def serve(
                stream: trio.abc.Stream, peer: TcpAddress, gateway: Gateway = gateway, listener: Listener = listener
            ) -> None:
                await gateway.serve(listener, stream, peer)

            network.serve(address, serve)  # type: ignore[arg-type]
        sender = Sender("s1", "s1.example", schedule, GATEWAYS, history, random.Random(3), protocol=protocol)
        nursery.start_soon(sender.program, network)
        sent: dict[str, Message] = {}
        for number in range(1, 21):
            name = f"m{number}"
            body = digest(content(name, 100 * number))
            now = trio.current_time()
            sent[name] = Message(name, "s1", f"{name}@s1.example", everybody, body, 100 * number, now, outbound=False)
            sender.submit(sent[name])
            await trio.sleep(1)
            if number == 5:
                receivers[0].overload(trio.current_time() + 5)
            if number == 15:
                life.cancel()
        await trio.sleep(DAY)
        assert sender.queued == 0
        ends = {(one.message, one.position): one.state for one in history.settled}
        for name, message in sent.items():
            assert [ends[name, at] for at in range(4)] == ["delivered", "refused", "delivered", "delivered"]
            copies = [one for one in history.copies if one.message == name]
            assert {one.recipient for one in copies} == {everybody[0], everybody[2]}
            assert {one.digest for one in copies} == {message.digest}
            assert {len(one.via) for one in copies} == {1}
        assert history.violations == []
        nursery.cancel_scope.cancel()
