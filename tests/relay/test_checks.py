"""What the gateway finds out by itself about hosts that are down, and when it sends clients away for it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from world import DONE, NO_PATH, Client, Hop, World

from mailgate.network import Answer, NoAnswer, TcpAddress
from mailgate.relay.settings import Backbone, Limits
from mailgate.testing import Close, Delay, Script, Silence, Turns

AWAY = "421 4.3.2 gw.example No next hop can be reached, try later or elsewhere"
EAST = Backbone(name="east", sources=("192.0.2.10",), helo="east.example")
WEST = Backbone(name="west", sources=("192.0.2.20",), helo="west.example")


def connects(world: World, name: str = "a1", since: float = -1) -> list[float]:
    """When a host was called."""
    address = world.address(name)
    return [one.time for one in world.network.connections if one.address == address and one.time > since]


def break_all(world: World) -> None:
    for name in world.mtas:
        world.network.refuse(world.address(name))


async def rcpt(client: Client, recipient: str = "u@a.example") -> str:
    """What one recipient hears."""
    told = await client.envelope(recipient)
    await client.play("C: RSET\nS: 250 ...")
    return told.rcpts[0]


async def greeting(world: World) -> str:
    client = await world.client(greeted=False)
    said = await client.reply()
    await client.stream.aclose()
    await client.ended.wait()
    return said


# Checks


async def test_every_5_s(autojump_clock: MockClock) -> None:
    """From start to start, beginning 5 s after somebody wanted the path; once it is up there is none any more."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script())) as world:
        world.network.refuse(world.address("a1"))
        client = await world.client()
        await trio.sleep(1)
        assert (await client.transact("u@a.example")).outcomes == (DONE,)
        await trio.sleep_until(17)
        world.network.restore(world.address("a1"))
        assert connects(world) == [1, 6, 11, 16]
        await trio.sleep_until(100)
        assert connects(world) == [1, 6, 11, 16, 21]
        session = world.mta("a1").sessions[0]
        assert [str(line) for line in session.lines if line.side == "C"] == ["C: EHLO gw.example", "C: QUIT"]
        assert [event["event"] for event in world.events("path_down", "path_up")] == ["path_down", "path_up"]
        assert (await client.transact("u@a.example")).outcomes == (DONE,)
        assert world.messages == {"a1": 1, "a2": 1}


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Script(greeting=(Delay(3), "554 5.3.2 no")), 5),
        (Script(greeting=(Delay(7), "554 5.3.2 no")), 7),
        (Script(greeting=Silence()), 10),
        (Script(greeting=Delay(6), ehlo=Silence()), 10),
        (Script(ehlo=Close()), 5),
    ],
    ids=["slow", "slower than the interval", "silent", "10 s in all", "closes at EHLO"],
)
async def test_a_check_takes_10_s_at_most(fault: Script, seconds: float, autojump_clock: MockClock) -> None:
    """A check that takes longer than 5 s is followed by the next one at once."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", fault, Script())) as world:
        client = await world.client()
        assert (await client.transact("u@a.example")).outcomes == (DONE,)
        began = trio.current_time()
        await trio.sleep(60)
        first, *later = connects(world, since=began)
        assert first == pytest.approx(began + 5)
        assert [one - first for one in later] == pytest.approx([seconds * turn for turn, _ in enumerate(later, 1)])
        assert len(later) >= 5


async def test_a_black_hole(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script())) as world:
        world.network.black_hole(world.address("a1"))
        client = await world.client()
        assert (await client.transact("u@a.example")).outcomes == (DONE,)
        began = trio.current_time()
        await trio.sleep(30.1)
        assert connects(world, since=0) == pytest.approx([began + 5 * turn for turn in range(1, 7)])


async def test_for_10_minutes_after_the_last_one_who_wanted_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script())) as world:
        world.network.refuse(world.address("a1"))
        for wanted in (0, 500):
            await trio.sleep_until(wanted)
            await (await world.client()).transact("u@a.example")
        await trio.sleep_until(3000)
        times = connects(world, since=502)
        assert times[0] == 505
        assert times[-1] == 1100
        assert len(times) == 120
        await (await world.client()).transact("u@a.example")  # a trial, as its back-off is over; and it is wanted again
        await trio.sleep_until(3012)
        assert connects(world, since=2000) == [3000, 3005, 3010]


async def test_recipients_wait_for_no_check(autojump_clock: MockClock) -> None:
    """While the host is down they hear so at once: what the checks say is news enough."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        break_all(world)
        client = await world.client()
        for _ in range(40):
            assert await rcpt(client) == NO_PATH
            await trio.sleep(0.99)
        assert connects(world) == [0, 5, 10, 15, 20, 25, 30, 35]
        world.network.restore(world.address("a1"))
        await trio.sleep_until(45.1)
        assert (await client.transact("u@a.example")).outcomes == (DONE,)


async def test_recovery_is_seen_within_10_s(autojump_clock: MockClock) -> None:
    """Whoever failed on it wanted it, too: nobody else has to."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        break_all(world)
        client = await world.client()
        assert await rcpt(client) == NO_PATH
        world.network.restore(world.address("a1"))
        await trio.sleep(10)
        assert (await client.transact("u@a.example")).outcomes == (DONE,)


async def test_strangers_are_never_checked(autojump_clock: MockClock) -> None:
    """A host found by MX is called for messages only."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", mx=(10,))) as world:
        break_all(world)
        client = await world.client()
        assert await rcpt(client) == NO_PATH
        await trio.sleep(2)
        assert await rcpt(client) == NO_PATH  # at once
        await trio.sleep(600)
        assert connects(world) == [0]
        assert await rcpt(await world.client()) == NO_PATH
        assert connects(world) == [0, 602]


async def test_a_trial_of_a_stranger(autojump_clock: MockClock) -> None:
    """One, however many messages want it, and they wait for nothing."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script(), mx=(10, 20))) as world:
        world.network.refuse(world.address("a1"))
        clients = [await world.client("lmtp") for _ in range(5)]
        await clients[0].transact("u@a.example")
        world.network.restore(world.address("a1"))
        world.mta("a1").script = Script(greeting=Delay(3))
        await trio.sleep(2)
        async with trio.open_nursery() as sending:
            for client in clients:
                sending.start_soon(client.transact, "u@a.example", "v@a.example")
        assert trio.current_time() == 2
        assert connects(world) == [0, 2]
        await trio.sleep(4)
        await clients[0].transact("u@a.example")
        assert world.messages == {"a1": 1, "a2": 6}
        assert world.events("background_failed") == []


async def test_a_check_beside_a_trial(autojump_clock: MockClock) -> None:
    """Both come at the same moment: one of them is enough, and neither harms the other."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(), Script())) as world:
        world.network.refuse(world.address("a1"))
        client = await world.client()
        await client.transact("u@a.example")
        for turn in range(1, 20):
            await trio.sleep_until(5 * turn)
            await client.transact("u@a.example")
        assert connects(world) == [5 * turn for turn in range(20)]
        assert world.events("background_failed") == []


async def test_no_check_where_there_is_no_room(autojump_clock: MockClock) -> None:
    """So many sessions with it are something to know, too."""
    slow = Script(dot=Delay(12))
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", slow, Script()), limits=Limits(sessions_per_host=1)) as world,
    ):
        client = await world.client()
        nursery.start_soon(client.transact, "u@a.example")
        await wait_all_tasks_blocked()
        path = world.gateway._shared.health.records().paths[0].path
        world.gateway._shared.health.failed(path, "test", trio.current_time(), static=True)
        another = await world.client()
        assert (await another.transact("u@a.example")).outcomes == (DONE,)
        await trio.sleep(30)
        assert connects(world)[:2] == [0, 15] or connects(world)[:2] == [0, 20]
        assert world.messages == {"a1": 1, "a2": 1}


async def test_drain_ends_checks(autojump_clock: MockClock) -> None:
    """In the middle of one, too."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        world.network.black_hole(world.address("a1"))
        world.mta("b1").script = Script(greeting=Silence())
        client = await world.client("lmtp")
        assert (await client.envelope("u@a.example", "u@b.example")).rcpts == (NO_PATH, NO_PATH)
        await trio.sleep(7)
        await client.stream.aclose()
        await client.ended.wait()
        until = trio.current_time()
        await world.gateway.drain()
        await wait_all_tasks_blocked()
        assert not any("Gateway.run" in task.name for task in nursery.child_tasks)
        assert trio.current_time() == until
        assert world.network.open_streams == 0
        await trio.sleep(60)
        assert connects(world, since=until) == connects(world, "b1", since=until) == []


# Early refusal


async def test_clients_are_sent_away(autojump_clock: MockClock) -> None:
    """From 30 s behind the first check that found it down, at 5 s, until one finds it up."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        break_all(world)
        client = await world.client()
        assert await rcpt(client) == NO_PATH
        said: dict[float, bool] = {}
        for second in range(1, 60):
            await trio.sleep_until(second + 0.5)
            said[second] = await greeting(world) == AWAY
        assert [second for second, away in said.items() if away] == list(range(35, 60))
        world.network.restore(world.address("a1"))
        await trio.sleep_until(60.5)
        assert (await greeting(world)).startswith("220 ")
        # In those sessions nothing has changed.
        assert (await client.transact("u@a.example")).outcomes == (DONE,)


async def test_who_is_sent_away_wants_the_hosts(autojump_clock: MockClock) -> None:
    """Or the checks would end after 10 minutes, and nobody know that the host is up."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        break_all(world)
        assert await rcpt(await world.client()) == NO_PATH
        for minute in range(1, 31):
            await trio.sleep_until(60 * minute + 0.5)
            assert await greeting(world) == AWAY
        await trio.sleep_until(3600)
        assert connects(world)[-1] == 2405
        assert len(connects(world)) == 482
        # Nobody has wanted it for long, and what is known is old: the next one is let in again.
        assert (await greeting(world)).startswith("220 ")


LATE = 100.5


async def all_are_down(world: World) -> None:
    """Everything fails, and is wanted."""
    break_all(world)
    client = await world.client("lmtp")
    await client.envelope(*(f"u@{name}.example" for name in dict.fromkeys(name[0] for name in world.mtas)))
    await trio.sleep_until(LATE)


@pytest.mark.parametrize("backbones", [(), (EAST, WEST)])
@pytest.mark.parametrize("recovers", ["", "a1", "a2", "a3", "b1", "b2"])
async def test_one_path_that_is_up_ends_it(
    recovers: str, backbones: tuple[Backbone, ...], autojump_clock: MockClock
) -> None:
    hops = (Hop("a", *[Script()] * 3, backbones=backbones), Hop("b", *[Script()] * 2, backbones=backbones))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        await all_are_down(world)
        assert await greeting(world) == AWAY
        if recovers:
            source = WEST.sources[0] if backbones else None
            world.network.restore(world.address(recovers))
            if source is not None:
                world.network.refuse(world.address(recovers), source=EAST.sources[0])
        await trio.sleep(5)
        assert (await greeting(world) == AWAY) is not bool(recovers)


async def test_not_with_an_mx_route(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b", mx=(10,))) as world:
        await all_are_down(world)
        assert (await greeting(world)).startswith("220 ")


async def test_not_while_a_host_was_never_tried(autojump_clock: MockClock) -> None:
    """Another route's host may be well."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b")) as world:
        world.network.refuse(world.address("a1"))
        assert await rcpt(await world.client()) == NO_PATH
        await trio.sleep(LATE)
        assert (await greeting(world)).startswith("220 ")


async def test_not_by_what_messages_found(autojump_clock: MockClock) -> None:
    """Nor by one moment's failure, however often it is told: 30 s of our own checks."""
    script = Script(greeting=Turns(Close(), Close(), Close(), "220 up", Close()))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        assert await rcpt(await world.client()) == NO_PATH  # 0; checks at 5, 10; up at 15
        await trio.sleep_until(16)
        assert await rcpt(await world.client()) == NO_PATH  # checks from 21 on
        await trio.sleep_until(50.9)
        assert (await greeting(world)).startswith("220 ")
        await trio.sleep_until(51.1)
        assert await greeting(world) == AWAY


@pytest.mark.parametrize("fails", [NoAnswer.TEMPORARY, NoAnswer.NO_SUCH_DOMAIN])
async def test_a_name_that_cannot_be_looked_up_never_counts(fails: NoAnswer, autojump_clock: MockClock) -> None:
    hops = (Hop("a"), Hop("b", names=("b.host",)))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        world.network.records["b.host", "A"] = fails
        await all_are_down(world)
        assert (await greeting(world)).startswith("220 ")


async def test_a_name_is_looked_up_again(autojump_clock: MockClock) -> None:
    """A host that has moved while it was down is found: now and then somebody is let in to look."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", names=("a.host",)), Hop("b")) as world:
        world.network.refuse(world.address("a1"))
        world.network.refuse(world.address("b1"))
        away = 0
        for second in range(300):
            await trio.sleep_until(second + 0.5)
            said = await greeting(world)
            away += said == AWAY
            if said != AWAY:
                client = await world.client("lmtp")
                await client.envelope("u@a.example", "u@b.example")
                await client.quit()
        assert away > 200
        moved = TcpAddress("10.9.9.9", 25)
        world.network.serve(moved, world.mta("a1").handle)
        world.network.records["a.host", "A"] = Answer((moved.ip,), 60)
        for _ in range(130):
            await trio.sleep(1)
            if await greeting(world) != AWAY:
                client = await world.client("lmtp")
                await client.transact("u@a.example")
                await client.quit()
        assert world.messages["a1"] > 0
        assert (await greeting(world)).startswith("220 ")


async def test_a_name_that_cannot_be_looked_up_any_more(autojump_clock: MockClock) -> None:
    """What is known of the old addresses is not enough after a minute."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", names=("a.host",))) as world:
        break_all(world)
        assert await rcpt(await world.client()) == NO_PATH
        world.network.records["a.host", "A"] = NoAnswer.TEMPORARY
        await trio.sleep_until(59.9)
        assert await greeting(world) == AWAY
        await trio.sleep_until(60.1)
        assert (await greeting(world)).startswith("220 ")


async def test_sessions_go_on(autojump_clock: MockClock) -> None:
    """Only who connects is sent away."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        await all_are_down(world)
        assert await greeting(world) == AWAY
        assert await rcpt(client) == NO_PATH
        assert [event["log_level"] for event in world.events("client_refused")] == ["warning"]
