"""How many upstream sessions there are at a time, and what becomes of those who have to wait for one."""

from __future__ import annotations

import dataclasses
import math
import random
import time

import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from world import DONE, NO_PATH, TAKEN, Client, Hop, Speaks, Told, World

from mailgate.network import Address, Answer, TcpAddress
from mailgate.relay.delivery import AHEAD
from mailgate.relay.health import Health
from mailgate.relay.intake import TOO_MANY_HOPS
from mailgate.relay.routing import Path
from mailgate.relay.settings import Backbone, Limits, Route, Settings
from mailgate.relay.upstreams import LOWERED_FOR, Upstreams
from mailgate.testing import Delay, MemoryNetwork, Script, Silence, Turns, reset, seeded

AHEAD_TEXT = "250 2.1.5 Accepted, the next hop will be asked when there is room"
TOO_MANY = "452 4.5.3 Too many next hops in one transaction, send the rest in another one"
EAST = Backbone(name="east", sources=("192.0.2.10",), helo="east.example")


class Busy:
    """How many sessions a host has at a time. Beyond its limit it says 421 at the greeting, as MTAs do."""

    def __init__(self, world: World, name: str, limit: float = math.inf) -> None:
        self._mta = world.mta(name)
        self.limit = limit
        self.now = self.peak = self.refused = 0
        world.network.serve(world.address(name), self._handle)

    async def _handle(self, stream: trio.abc.Stream, peer: Address) -> None:
        if self.now >= self.limit:
            self.refused += 1
            await stream.send_all(b"421 4.7.0 Too many connections from you\r\n")
            await stream.aclose()
            return
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await self._mta.handle(stream, peer)
        finally:
            self.now -= 1


def held(world: World) -> int:
    return world.gateway._shared.upstreams.held


async def all_send(world: World, count: int, speaks: Speaks = "smtp", *recipients: str) -> list[tuple[float, Told]]:
    """As many clients with a message each, and when they heard what."""
    results: list[tuple[float, Told]] = []

    async def send(client: Client) -> None:
        told = await client.transact(*(recipients or ("u@a.example",)))
        results.append((trio.current_time(), told))

    clients = [await world.client(speaks) for _ in range(count)]
    async with trio.open_nursery() as sending:
        for client in clients:
            sending.start_soon(send, client)
    return results


# Limits


@pytest.mark.parametrize(
    ("hop", "limits", "most"),
    [
        (Hop("a", Script(dot=Delay(10))), Limits(), 15),
        (Hop("a", Script(dot=Delay(10)), mx=(10,)), Limits(), 10),
        (Hop("a", Script(dot=Delay(10))), Limits(sessions_per_host=3), 3),
        (Hop("a", Script(dot=Delay(10)), mx=(10,)), Limits(sessions_per_mx_host=2), 2),
        (Hop("a", Script(dot=Delay(10))), Limits(upstream_sessions=4), 4),
    ],
    ids=["static", "MX", "3 static", "2 MX", "4 in all"],
)
async def test_at_most(hop: Hop, limits: Limits, most: int, autojump_clock: MockClock) -> None:
    """The others wait, and take the kept sessions of those who were first, as soon as these are through."""
    async with trio.open_nursery() as nursery, World(nursery, hop, limits=limits) as world:
        busy = Busy(world, "a1")
        results = await all_send(world, 2 * most + 1)
        assert busy.peak == most
        assert [seconds for seconds, _ in results] == pytest.approx([10] * most + [20] * most + [30])
        assert {told.outcomes for _, told in results} == {(DONE,)}
        assert len(world.mta("a1").sessions) == most
        assert {event["log_level"] for event in world.log} <= {"debug", "info"}


async def test_in_all(autojump_clock: MockClock) -> None:
    """Of several hosts together. What is only kept for one is given up for another."""
    hops = [Hop(name, Script(dot=Delay(10))) for name in "abcd"]
    async with trio.open_nursery() as nursery, World(nursery, *hops, limits=Limits(upstream_sessions=2)) as world:
        peak = 0
        for name in ("a1", "b1", "c1", "d1"):
            Busy(world, name)
        results = []

        async def send(name: str) -> None:
            results.append(await (await world.client()).transact(f"u@{name}.example"))

        async with trio.open_nursery() as sending:
            for name in "abcdabcd":
                sending.start_soon(send, name)
            for _ in range(45):
                await trio.sleep(1)
                peak = max(peak, sum(mta.open_sessions for mta in world.mtas.values()))
        assert peak == 2
        assert {told.outcomes for told in results} == {(DONE,)}
        assert trio.current_time() == 45


async def test_a_freed_slot(autojump_clock: MockClock) -> None:
    """Whose session is not kept leaves its slot to the next one, once QUIT is answered."""
    script = Script(dot=Delay(10), quit=Delay(2))
    limits = Limits(sessions_per_host=1, reused=1)
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script), limits=limits) as world:
        busy = Busy(world, "a1")
        results = await all_send(world, 3)
        assert [seconds for seconds, _ in results] == pytest.approx([10, 22, 34])
        assert busy.peak == 1
        assert len(world.mta("a1").sessions) == 3


async def test_kept_ones_of_another_key_are_given_up(autojump_clock: MockClock) -> None:
    hops = [Hop("a", names=("a.host",)), Hop("b", names=("b.host",), backbones=[EAST])]
    async with trio.open_nursery() as nursery, World(nursery, *hops, limits=Limits(sessions_per_host=1)) as world:
        address = world.address("a1")
        assert isinstance(address, TcpAddress)
        world.network.records["b.host", "A"] = Answer((address.ip,), 60)
        busy = Busy(world, "a1")
        client = await world.client()
        for name in "abab":
            assert (await client.transact(f"u@{name}.example")).outcomes == (DONE,)
        assert trio.current_time() == 0
        assert busy.peak == 1
        assert len(world.mta("a1").sessions) == 4


async def test_waiting_has_an_end(autojump_clock: MockClock) -> None:
    """After 180 s there is an answer, and the host is none the worse for it."""
    script = Script(dot=Delay(300))
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", script), limits=Limits(sessions_per_host=1)) as world,
    ):
        nursery.start_soon((await world.client()).transact, "u@a.example")  # noqa: ASYNC111
        await wait_all_tasks_blocked()
        client = await world.client()
        assert (await client.envelope("u@a.example")).rcpts == (NO_PATH,)
        assert trio.current_time() == pytest.approx(180)
        assert world.events("path_down") == []
        await trio.sleep(130)
        await client.play("C: RSET\nS: 250 ...")
        assert (await client.envelope("u@a.example")).rcpts == (TAKEN,)


# Full hosts


async def test_full_where_we_hold_sessions(autojump_clock: MockClock) -> None:
    """It waits for one of them, and for a minute nobody tries for more; nothing is marked down."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(10)))) as world:
        busy = Busy(world, "a1", limit=1)
        results = await all_send(world, 2)
        assert [seconds for seconds, _ in results] == pytest.approx([10, 20])
        assert busy.refused == 1
        results = await all_send(world, 3)
        assert [seconds for seconds, _ in results] == pytest.approx([30, 40, 50])
        assert busy.refused == 1
        assert world.events("path_down", "attempt_failed") == []
        busy.limit = 5
        await trio.sleep_until(62)  # until 60
        results = await all_send(world, 3)
        assert [seconds for seconds, _ in results] == pytest.approx([72, 72, 72])
        assert {told.outcomes for _, told in results} == {(DONE,)}


async def test_the_minute_is_over_for_those_who_wait(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(31)))) as world:
        busy = Busy(world, "a1", limit=1)

        async def allow() -> None:
            await trio.sleep(1)
            busy.limit = 5

        nursery.start_soon(allow)
        results = await all_send(world, 5)
        assert [seconds for seconds, _ in results] == pytest.approx([31, 62, 91, 91, 91])


@pytest.mark.parametrize("answer", ["421 4.3.2 busy", "451 4.7.0 busy", "450 4.7.0 busy"])
async def test_full_without_a_session_of_ours(answer: str, autojump_clock: MockClock) -> None:
    """Then the path is at fault."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(greeting=answer), Script())) as world:
        results = await all_send(world, 1)
        assert results[0][1].outcomes == (DONE,)
        assert world.messages == {"a1": 0, "a2": 1}
        assert len(world.events("path_down")) == 1


async def test_a_full_host_among_others(autojump_clock: MockClock) -> None:
    """Whoever waits for room lets the next host be tried at once."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(50)), Script())) as world:
        Busy(world, "a1", limit=1)
        results = await all_send(world, 3)
        assert {told.outcomes for _, told in results} == {(DONE,)}
        assert world.events("path_down") == []


@pytest.mark.parametrize(
    "hop", [Hop("a", Script(pace=0.1)), Hop("a", Script(pace=0.1), mx=(10,))], ids=["static", "MX"]
)
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_per_client(limit: int, hop: Hop, autojump_clock: MockClock) -> None:
    """Twenty messages to a host that lets so many in at a time."""
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        busy = Busy(world, "a1", limit=limit)
        for _ in range(3):
            results = await all_send(world, 20)
            assert {told.rcpts + told.outcomes for _, told in results} == {(TAKEN, DONE)}
        assert busy.peak == limit
        assert busy.refused <= 20
        assert len(world.mta("a1").messages) == 60
        assert world.events("path_down", "attempt_failed") == []


# One transaction with more next hops than there is room for


def domains(count: int) -> list[str]:
    return [f"d{number}.example" for number in range(count)]


@pytest.mark.parametrize("speaks", ["lmtp", "prdr"])
async def test_more_domains_than_slots(speaks: str, autojump_clock: MockClock) -> None:
    """300 domains at one host: ten sessions, and one delivery behind the other in each."""
    hop = Hop("a", Script(pace=0.01), mx=(10,), domains=domains(300))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        busy = Busy(world, "a1")
        client = await world.client("lmtp" if speaks == "lmtp" else "smtp")
        recipients = [f"u@{domain}" for domain in hop.domains]
        told = await client.transact(*recipients, parameters=" PRDR" if speaks == "prdr" else "")
        assert [told.rcpts.count(one) for one in (TAKEN, AHEAD_TEXT)] == [10, 290]
        outcomes = told.outcomes if speaks == "lmtp" else told.outcomes[1:-1]
        assert outcomes == (DONE,) * 300
        assert busy.peak == 10
        got = [message.recipients for message in world.mta("a1").messages]
        assert sorted(got) == sorted((recipient,) for recipient in recipients)
        assert world.events("path_down", "attempt_failed") == []


@pytest.mark.parametrize("speaks", ["lmtp", "prdr"])
async def test_refused_after_it_was_accepted_ahead(speaks: str, autojump_clock: MockClock) -> None:
    """The refusal is its outcome, and nobody else's."""
    refused = {"u@d3.example": "550 5.1.1 no such user", "u@d4.example": "450 4.2.1 full"}
    hop = Hop("a", Script(recipients=refused), mx=(10,), domains=domains(6))
    limits = Limits(sessions_per_mx_host=1)
    async with trio.open_nursery() as nursery, World(nursery, hop, limits=limits) as world:
        client = await world.client("lmtp" if speaks == "lmtp" else "smtp")
        await client.play("C: MAIL FROM:<s@in.example>" + (" PRDR" if speaks == "prdr" else "") + "\nS: 250 ...")
        said = []
        for domain in hop.domains:  # one by one, so that the first one has the session
            await client.play(f"C: RCPT TO:<u@{domain}>")
            said.append(await client.reply())
        assert said == [TAKEN, *[AHEAD_TEXT] * 5]
        await client.play("C: DATA\nS: 354 ...\nC: x\nC: .")
        outcomes = [await client.reply() for _ in range(6 if speaks == "lmtp" else 8)]
        if speaks == "prdr":
            assert outcomes[0].startswith("353")
            assert outcomes[-1].startswith("250")
            outcomes = outcomes[1:-1]
        assert outcomes == [DONE] * 3 + list(refused.values()) + [DONE]


async def test_all_were_accepted_ahead_and_there_is_no_room(autojump_clock: MockClock) -> None:
    """Somebody else has all sessions: the client hears so at DATA, in time."""
    hop = Hop("a", Script(dot=Delay(400)), mx=(10,))
    async with (
        trio.open_nursery() as nursery,
        World(nursery, hop, limits=Limits(sessions_per_mx_host=1)) as world,
    ):
        nursery.start_soon((await world.client()).transact, "u@a.example")  # noqa: ASYNC111
        await wait_all_tasks_blocked()
        client = await world.client("lmtp")
        told = await client.transact("u@a.example")
        assert told.rcpts == (AHEAD_TEXT,)
        assert told.data.startswith("451 4.4.1")
        assert trio.current_time() == pytest.approx(60.25)
        await client.quit()
        await trio.sleep(400)
        assert len(world.mta("a1").messages) == 1


async def test_plain_smtp_waits(autojump_clock: MockClock) -> None:
    """One reply for all: nobody may be accepted before the next hop has."""
    hop = Hop("a", Script(dot=Delay(20)), mx=(10,))
    async with (
        trio.open_nursery() as nursery,
        World(nursery, hop, limits=Limits(sessions_per_mx_host=1)) as world,
    ):
        nursery.start_soon((await world.client()).transact, "u@a.example")  # noqa: ASYNC111
        await wait_all_tasks_blocked()
        told = await (await world.client()).envelope("v@a.example", "w@a.example")
        assert told.rcpts == (TAKEN, TAKEN)
        assert trio.current_time() == 20


async def test_a_thousand_recipients(autojump_clock: MockClock) -> None:
    """In 300 domains at 30 hosts."""
    hops = [
        Hop(f"h{number}", Script(), mx=(10,), domains=[f"d{one}.h{number}.example" for one in range(10)])
        for number in range(30)
    ]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        busy = [Busy(world, f"{hop.name}1") for hop in hops]
        client = await world.client("lmtp")
        recipients = [f"u{turn}@{hop.domains[turn % 10]}" for turn in range(34) for hop in hops][:1000]
        began = time.process_time()
        told = await client.transact(*recipients)
        seconds = time.process_time() - began
        print(f"1,000 recipients, 300 domains, 30 hosts: {seconds:.2f} s of CPU, servers and client included")  # noqa: T201
        assert seconds < 60
        assert told.rcpts == (TAKEN,) * 1000
        assert told.outcomes == (DONE,) * 1000
        assert trio.current_time() < 3
        got = [recipient for mta in world.mtas.values() for message in mta.messages for recipient in message.recipients]
        assert sorted(got) == sorted(recipients)
        assert sum(world.messages.values()) == 300
        assert max(one.peak for one in busy) == 10


async def test_more_next_hops_than_deliveries(autojump_clock: MockClock) -> None:
    """The 501st next hop hears 452, and whoever comes later at one of the 500 does not."""
    hop = Hop("a", mx=(10,), domains=domains(503))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client("lmtp")
        told = await client.transact(*(f"u@{domain}" for domain in hop.domains), "v@d7.example")
        assert told.rcpts[500:] == (TOO_MANY, TOO_MANY, TOO_MANY, AHEAD_TEXT) or told.rcpts[500:] == (
            *[TOO_MANY] * 3,
            TAKEN,
        )
        assert told.outcomes == (DONE,) * 501


# Giving up while waiting


async def test_cut_at_any_step(autojump_clock: MockClock) -> None:
    """Clients that leave at every moment of a dialog with too few sessions: all slots come back."""
    rng = random.Random(0)
    hops = [Hop("a", Script(pace=0.05, quit=Turns(Delay(0.2), Silence()))), Hop("b", Script(pace=0.05), mx=(10,))]
    limits = Limits(sessions_per_host=2, sessions_per_mx_host=1, upstream_sessions=2)
    async with trio.open_nursery() as nursery, World(nursery, *hops, limits=limits) as world:
        busy = [Busy(world, "a1", limit=2), Busy(world, "b1")]

        async def come_and_go(number: int, speaks: Speaks, come: float, stay: float) -> None:
            await trio.sleep(come)
            client = await world.client(speaks)
            with trio.move_on_after(stay):
                for _ in range(3):
                    names = "ab" if speaks == "lmtp" else rng.choice("ab")
                    # A sender of its own: what this one is not told would be the others' second copy.
                    sender = f"s{number}@in.example"
                    await client.transact(*(f"u@{name}.example" for name in names), sender=sender)
            await (reset(client.stream) if rng.random() < 0.5 else client.stream.aclose())
            await client.ended.wait()

        async with trio.open_nursery() as clients:
            for number in range(150):
                speaks: Speaks = "lmtp" if number % 2 else "smtp"
                clients.start_soon(come_and_go, number, speaks, rng.uniform(0, 20), rng.uniform(0, 4))
        await trio.sleep(10)
        assert held(world) == 0
        assert busy[0].peak <= 2
        assert busy[1].peak <= 3  # one at a time, but it may notice 0.05 s late that one is closed
        results = await all_send(world, 3)
        assert {told.outcomes for _, told in results} == {(DONE,)}
        assert world.events("background_failed") == []


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who wants a session with a host, may lose patience, and holds it for some time."""

    host: int
    comes: float
    patience: float
    holds: float


def _tenths(most: int) -> st.SearchStrategy[float]:
    return st.integers(0, most).map(lambda one: one / 10)


_holders = st.builds(Holder, st.integers(0, 2), _tenths(20), st.one_of(_tenths(30), st.just(math.inf)), _tenths(20))


async def test_room_that_comes_back_by_itself_is_given(autojump_clock: MockClock) -> None:
    """A host wanted no more sessions than the one it had. A minute later it may have more, though that one goes on."""
    async with trio.open_nursery() as nursery:
        log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
        upstreams = Upstreams(Settings(hostname="gw.example", listeners=()), MemoryNetwork(nursery), Health(), log)
        path, route = Path(TcpAddress("192.0.2.1", 25)), Route(name="a", domains=("*",))
        await upstreams.lease(path, route, lambda: None)
        refused = await upstreams.lease(path, route, lambda: None)
        upstreams.lower(refused)
        await trio.aclose_forcefully(refused)
        with trio.fail_after(LOWERED_FOR + 1):
            await upstreams.lease(path, route, lambda: None)
        assert trio.current_time() == LOWERED_FOR


@settings(max_examples=200, deadline=None)
@given(
    holders=st.lists(_holders, max_size=20),
    limits=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    lowered=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_slots(holders: list[Holder], limits: tuple[int, int], lowered: bool, seed: int) -> None:
    """No slot is lost or given out twice, and nobody waits while there is room."""
    per_host, in_all = limits
    routes = [Route(name=str(host), domains=("*",), hosts=(TcpAddress("192.0.2.1", 25 + host),)) for host in range(3)]
    paths = [Path(TcpAddress("192.0.2.1", 25 + host)) for host in range(3)]
    waiting = [0, 0, 0]
    having = [0, 0, 0]
    served: list[Holder] = []

    async def check() -> None:
        async def hold(holder: Holder) -> None:
            await trio.sleep(holder.comes)
            lease = None
            waiting[holder.host] += 1
            with trio.move_on_after(holder.patience):
                lease = await upstreams.lease(paths[holder.host], routes[holder.host], lambda: None)
            waiting[holder.host] -= 1
            if lease is None:
                return
            served.append(holder)
            having[holder.host] += 1
            assert having[holder.host] <= per_host
            assert sum(having) <= in_all
            if lowered and len(served) == 3:
                upstreams.lower(lease)
            await trio.sleep(holder.holds)
            having[holder.host] -= 1
            await trio.aclose_forcefully(lease)

        async def watch() -> None:
            while True:
                await trio.sleep(0.05)
                await wait_all_tasks_blocked()
                for host in range(3):
                    room = upstreams._room(paths[host].address, routes[host])
                    assert not (waiting[host] and room), "somebody waits while there is room"

        async with trio.open_nursery() as nursery:
            log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
            limits = Limits(sessions_per_host=per_host, upstream_sessions=in_all)
            upstreams = Upstreams(
                Settings(hostname="gw.example", listeners=(), limits=limits), MemoryNetwork(nursery), Health(), log
            )
            nursery.start_soon(watch)
            with trio.fail_after(59):
                async with trio.open_nursery() as holding:
                    for holder in holders:
                        holding.start_soon(hold, holder)
            assert upstreams.held == 0
            assert all(holder in served for holder in holders if holder.patience == math.inf)
            nursery.cancel_scope.cancel()

    seeded(seed)
    trio.run(check, clock=MockClock(autojump_threshold=0))


def test_texts() -> None:
    assert str(AHEAD) == AHEAD_TEXT
    assert str(TOO_MANY_HOPS) == TOO_MANY
