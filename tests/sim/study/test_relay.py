"""The gateways that are not mailgate, between scripted servers in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import TcpAddress
from mailgate.testing import MemoryNetwork, Script, ScriptedMTA, ScriptedSender, Sending
from mailgate.testing.script import Speaks
from sim.schedules import POSTFIX
from sim.study.relay import HOPS, Hop, Policy, Relay, Service, Why, next_try

GW1, GW2 = TcpAddress("10.0.0.1", 25), TcpAddress("10.0.0.2", 25)
A, B = TcpAddress("203.0.113.1", 25), TcpAddress("203.0.113.2", 25)
HOPS_OF = {"a.example": Hop(A, "10.0.0.1"), "b.example": Hop(B, "10.0.0.1")}

CONTENT = b"Subject: test\r\n\r\n.dot\r\nhello\r\n"
FROM = "m1@sender.example"
TO_A, TO_B = "u@a.example", "u@b.example"


class World:
    """Gateways, and servers a and b."""

    def __init__(self, network: MemoryNetwork, nursery: trio.Nursery) -> None:
        self.network = network
        self.nursery = nursery
        self.a, self.b = ScriptedMTA("a"), ScriptedMTA("b")
        network.serve(A, self.a.handle)
        network.serve(B, self.b.handle)

    async def gateway(
        self,
        policy: Policy,
        address: TcpAddress = GW1,
        speaks: Speaks = "smtp",
        fallback: tuple[TcpAddress, ...] = (),
    ) -> Relay:
        ways = [Hop(other, address.ip) for other in fallback]
        relay = Relay(f"gw{address.ip[-1]}", [Service(speaks, (address,), policy)], HOPS_OF, POSTFIX, ways)
        self.nursery.start_soon(relay.program, self.network)
        await trio.testing.wait_all_tasks_blocked()
        return relay

    async def send(self, *recipients: str, speaks: Speaks = "smtp", content: bytes = CONTENT) -> Sending:
        sender = ScriptedSender(self.network, protocol=speaks)
        return await sender.send(content, recipients, [GW1], reverse_path=FROM)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(MemoryNetwork(nursery), nursery)
        nursery.cancel_scope.cancel()


async def test_a_queue_takes_everything_and_hands_it_on(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.QUEUE)
        sending = await here.send(TO_A, TO_B)
        assert sending.delivered == (TO_A, TO_B)
        await trio.sleep(1)
        assert [here.a.messages[0].content, here.b.messages[0].content] == [
            b"Received: by gw1 id 000001\r\n" + CONTENT,
            b"Received: by gw1 id 000001\r\n" + CONTENT,
        ]
        assert (relay.queued, relay.stays, relay.bounces) == (0, [], [])


async def test_a_queue_keeps_what_cannot_be_handed_on(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.QUEUE)
        here.network.refuse(A)
        assert (await here.send(TO_A, TO_B)).delivered == (TO_A, TO_B)
        await trio.sleep(500)
        assert relay.queued == 1
        assert [stay.recipient for stay in relay.staying()] == [TO_A]
        here.network.restore(A)
        await trio.sleep(200)  # the first scan of the queue with 300 s gone by is at 600 s
        assert relay.queued == 0
        assert [(stay.recipient, round(stay.until)) for stay in relay.stays] == [(TO_A, 600)]


async def test_a_queue_outlives_its_program(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = Relay("gw1", [Service("smtp", (GW1,), Policy.QUEUE)], HOPS_OF, POSTFIX)
        here.network.refuse(A)
        async with trio.open_nursery() as life:
            life.start_soon(relay.program, here.network)
            await trio.testing.wait_all_tasks_blocked()
            await here.send(TO_A)
            await trio.sleep(10)
            life.cancel_scope.cancel()
        here.network.restore(A)
        assert relay.queued == 1
        here.nursery.start_soon(relay.program, here.network)
        await trio.sleep(1)
        assert (relay.queued, len(here.a.messages)) == (0, 1)


async def test_a_queue_gives_up_after_five_days(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.QUEUE)
        here.network.refuse(A)
        await here.send(TO_A)
        await trio.sleep(POSTFIX.lifetime + 5000)
        assert relay.queued == 0
        assert [(one.message, one.recipient, one.why) for one in relay.bounces] == [("m1", TO_A, Why.EXPIRED)]


async def test_what_a_next_hop_refuses_goes_back(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.QUEUE)
        here.a.script = Script(rcpt="550 5.1.1 nobody")
        await here.send(TO_A)
        await trio.sleep(1)
        assert [one.why for one in relay.bounces] == [Why.REFUSED]


async def test_call_ahead_refuses_where_the_next_hop_is_gone(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.CALL_AHEAD)
        here.network.refuse(A)
        sending = await here.send(TO_A, TO_B)
        assert (sending.deferred, sending.delivered) == ((TO_A,), (TO_B,))
        await trio.sleep(1)
        assert (relay.queued, len(here.b.messages)) == (0, 1)
        assert len(here.b.sessions) == 2  # the probe, and the message


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script(rcpt="550 5.1.1 nobody"), "refused"),
        (Script(rcpt="452 4.2.2 full"), "deferred"),
        (Script(greeting="421 4.3.2 no"), "deferred"),
    ],
)
async def test_call_ahead_passes_the_reply_on(autojump_clock: MockClock, script: Script, outcome: str) -> None:
    async with world() as here:
        await here.gateway(Policy.CALL_AHEAD)
        here.a.script = script
        assert getattr(await here.send(TO_A), outcome) == (TO_A,)
        assert here.a.messages == []


async def test_call_ahead_answers_in_time_where_nothing_comes_back(autojump_clock: MockClock) -> None:
    async with world() as here:
        await here.gateway(Policy.CALL_AHEAD)
        here.network.black_hole(A)
        sending = await here.send(TO_A)
        assert sending.deferred == (TO_A,)
        assert sending.seconds == 30


async def test_call_ahead_keeps_what_fails_behind_the_probe(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.CALL_AHEAD)
        here.a.script = Script(dot="451 4.3.0 not now")
        assert (await here.send(TO_A)).delivered == (TO_A,)
        await trio.sleep(1)
        assert relay.queued == 1


async def test_lmtp_answers_what_came_of_each(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.ANSWER, speaks="lmtp")
        here.a.script = Script(recipients={"no@a.example": "550 5.1.1 nobody"})
        here.network.refuse(B)
        sending = await here.send(TO_A, TO_B, "no@a.example", TO_A, speaks="lmtp")
        assert [fate.state.value for fate in sending.fates] == ["delivered", "deferred", "refused", "delivered"]
        assert relay.queued == 0
        assert here.a.messages[0].recipients == (TO_A, "no@a.example", TO_A)[::2]


async def test_lmtp_delivers_in_parallel(autojump_clock: MockClock) -> None:
    async with world() as here:
        await here.gateway(Policy.ANSWER, speaks="lmtp")
        here.a.script = here.b.script = Script(pace=1)
        sending = await here.send(TO_A, TO_B, speaks="lmtp")
        assert sending.delivered == (TO_A, TO_B)
        assert sending.seconds < 10  # one after the other it would be over 12


async def test_a_fallback_gets_what_a_next_hop_does_not_take(autojump_clock: MockClock) -> None:
    async with world() as here:
        relay = await here.gateway(Policy.QUEUE, fallback=(GW2,))
        other = ScriptedMTA("gw2")
        here.network.serve(GW2, other.handle)
        here.network.refuse(A)
        await here.send(TO_A, TO_B)
        await trio.sleep(5)
        assert (relay.queued, len(here.b.messages)) == (0, 1)
        assert [message.recipients for message in other.messages] == [(TO_A,)]


async def test_fallbacks_to_each_other_circle(autojump_clock: MockClock) -> None:
    async with world() as here:
        relays = [
            await here.gateway(Policy.QUEUE, GW1, fallback=(GW2,)),
            await here.gateway(Policy.QUEUE, GW2, fallback=(GW1,)),
        ]
        here.network.refuse(A)
        await here.send(TO_A)
        await trio.sleep(3600)
        assert [one.why for relay in relays for one in relay.bounces] == [Why.HOPS]
        between = [one for one in here.network.connections if one.address in (GW1, GW2)]
        assert len(between) == HOPS + 1


@pytest.mark.parametrize(
    ("now", "again"), [(1, 600), (299, 600), (300, 600), (600, 1200), (1200, 2400), (2400, 4800), (9000, 13200)]
)
def test_tries_are_those_of_postfix(now: float, again: float) -> None:
    assert next_try(POSTFIX, 0, now) == again
