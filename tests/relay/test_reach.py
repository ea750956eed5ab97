"""How the gateway gets to a next hop some of whose paths are broken, in exact virtual time."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock
from world import DONE, LOST, NO_PATH, TAKEN, UNKNOWN, Client, Hop, Told, World

from mailgate.network import Answer, TcpAddress
from mailgate.relay import lookups
from mailgate.relay.routing import Path
from mailgate.testing import Close, Delay, During, Plan, Raw, Reset, Script, Silence, Turns, seeded

U = "u@a.example"
GOOD = Script()
SILENT = Script(greeting=Silence())
DRIP: Plan = tuple(step for octet in b"220 slow" for step in (Raw(bytes([octet])), Delay(3.0)))
AT_ONCE = 0.05
"""seconds that need no network"""


async def timed(client: Client, *recipients: str, sender: str = "s@in.example") -> tuple[float, Told]:
    """A transaction, and how long it took."""
    began = trio.current_time()
    told = await client.transact(*(recipients or (U,)), sender=sender)
    seconds = trio.current_time() - began
    if not told.outcomes:
        await client.play("C: RSET\nS: 250 ...")
    return seconds, told


async def delivered(client: Client, *, sender: str = "s@in.example") -> float:
    """How long a message took that must have been delivered."""
    seconds, told = await timed(client, sender=sender)
    assert told.outcomes == (DONE,)
    return seconds


async def refused(client: Client) -> float:
    """How long it took to hear that there is no path."""
    seconds, told = await timed(client)
    assert told.rcpts == (NO_PATH,)
    return seconds


def tries(world: World, name: str, since: float = -1) -> list[float]:
    """When connections to a host were tried."""
    address = world.address(name)
    return [one.time for one in world.network.connections if one.address == address and one.time >= since]


def marked(world: World) -> list[str]:
    """Paths that were marked down."""
    return [str(event["path"]) for event in world.events("path_down")]


def is_down(world: World, name: str) -> bool:
    return world.gateway._shared.health.down(Path(world.address(name)))


# A black hole


@pytest.mark.parametrize("order", range(6))
async def test_black_hole_beside_a_good_host(order: int, autojump_clock: MockClock) -> None:
    """Whichever comes first by chance: 0.75 s for the first message, nothing for the next ones."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=(10, 10))) as world:
        world.network.random.seed(order)
        world.network.black_hole(world.address("a1"))
        world.network.delay(world.address("a2"), 0.1)
        client = await world.client()
        assert await delivered(client) <= 0.75
        while not tries(world, "a1"):
            await trio.sleep(10)
            assert await delivered(client) <= 0.75
        assert marked(world) == ["a1.mx.example:25(10.0.0.1:25)"]
        for pause in (0.1, 0.5, 1, 4, 10, 60):  # the path's time for a trial comes, and nobody waits for it
            await trio.sleep(pause)
            assert await delivered(client) <= 0.1 + 1e-6


@pytest.mark.parametrize("holes", [1, 2, 4])
async def test_black_holes_of_a_better_preference(holes: int, autojump_clock: MockClock) -> None:
    hop = Hop("a", *[GOOD] * holes, GOOD, mx=(*[10] * holes, 20))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        for number in range(holes):
            world.network.black_hole(world.address(f"a{number + 1}"))
        client = await world.client()
        assert await delivered(client) == pytest.approx(5 + 0.25 * (holes - 1))
        for pause in (0, 4, 60):
            await trio.sleep(pause)
            assert await delivered(client) == 0


async def test_static_hosts_are_preferences(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD)) as world:
        world.network.black_hole(world.address("a1"))
        client = await world.client()
        assert await delivered(client) == 5
        await trio.sleep(4)
        assert await delivered(client) == 0


@pytest.mark.parametrize("error", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ETIMEDOUT])
async def test_unreachable_host_beside_good_ones(error: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, GOOD, mx=(10, 10, 10))) as world:
        world.network.refuse(world.address("a2"), error=error)
        world.network.delay(world.address("a2"), 0.1)
        client = await world.client()
        for _ in range(10):
            assert await delivered(client) <= 0.1 + 1e-6
            await trio.sleep(4)
        assert set(marked(world)) <= {"a2.mx.example:25(10.0.0.2:25)"}
        assert tries(world, "a2")


# Back again


@pytest.mark.parametrize("messages", [1, 3], ids=["one message knows of it", "several do"])
@pytest.mark.parametrize("after", [0.5, 4.9, 5.1, 14, 100])
async def test_recovered_static_host_is_used_again(after: float, messages: int, autojump_clock: MockClock) -> None:
    """10 s after it is back, and one message that failed there is enough."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD)) as world:
        world.network.refuse(world.address("a1"))
        client = await world.client()
        for _ in range(messages):
            await delivered(client)
        assert world.messages == {"a1": 0, "a2": messages}
        await trio.sleep(after)
        world.network.restore(world.address("a1"))
        await trio.sleep(10)
        assert await delivered(client) == 0
        assert world.messages == {"a1": 1, "a2": messages}
        assert [event["event"] for event in world.events("path_down", "path_up")] == ["path_down", "path_up"]


async def test_checks_start_every_five_seconds(autojump_clock: MockClock) -> None:
    """From start to start, also where each takes its time; and they end when nobody wants the host any more."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD)) as world:
        world.network.black_hole(world.address("a1"))
        client = await world.client()
        await delivered(client)  # until 5
        await trio.sleep(1000)
        checks = tries(world, "a1")[1:]
        assert checks[0] == 10
        assert all(later - earlier == 5 for earlier, later in itertools.pairwise(checks))
        assert 600 <= checks[-1] <= 610


async def test_trial_in_the_background(autojump_clock: MockClock) -> None:
    """A stranger's path gets one trial when its time has come and a message wants it; the message does not wait."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=(10, 20))) as world:
        world.network.refuse(world.address("a1"))
        client = await world.client()
        await delivered(client)
        world.network.restore(world.address("a1"))
        world.network.delay(world.address("a1"), 0.5)
        await trio.sleep(0.9)
        assert await delivered(client) == 0
        assert tries(world, "a1") == [0], "its back-off is not over"
        await trio.sleep(0.1)
        assert await delivered(client) == 0
        assert await delivered(client) == 0
        assert tries(world, "a1") == [0, 1], "one trial"
        assert is_down(world, "a1")
        await trio.sleep(0.6)
        assert not is_down(world, "a1")
        await trio.sleep(10)
        assert tries(world, "a1") == [0, 1], "strangers are not polled"
        await delivered(client)
        assert world.messages == {"a1": 1, "a2": 4}
        assert [line for line in str(world.mta("a1").sessions[0]).split("\n") if "MAIL" in line] == []


async def test_path_whose_time_has_come_is_tried_last(autojump_clock: MockClock) -> None:
    """When what was up fails, what was down may have come back."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=(10, 20))) as world:
        world.network.refuse(world.address("a1"))
        client = await world.client()
        await delivered(client)
        world.network.restore(world.address("a1"))
        world.network.refuse(world.address("a2"))
        await trio.sleep(4)
        assert await delivered(client) == 0
        assert world.messages == {"a1": 1, "a2": 1}
        assert is_down(world, "a2")


async def test_all_are_back(autojump_clock: MockClock) -> None:
    """Also when all have been down the best preference comes first."""
    for order in range(8):
        async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=(10, 20))) as world:
            world.network.random.seed(order)
            for name in ("a1", "a2"):
                world.network.refuse(world.address(name))
            client = await world.client()
            await refused(client)
            await trio.sleep(10)
            for name in ("a1", "a2"):
                world.network.restore(world.address(name))
            await delivered(client)
            assert world.messages == {"a1": 1, "a2": 0}


async def test_path_whose_time_has_not_come_is_not_tried(autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, Script(rcpt=Close()), mx=(10, 20))) as world,
    ):
        world.network.refuse(world.address("a1"))
        client = await world.client()
        assert (await timed(client))[1].rcpts == (LOST,)
        await trio.sleep(0.5)
        assert (await timed(client))[1].rcpts == (LOST,)
        assert tries(world, "a1") == [0]


# All paths are dead


async def test_all_dead(autojump_clock: MockClock) -> None:
    """The first waits, in its budget; as long as checks go on, nobody else does."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD)) as world:
        for name in ("a1", "a2"):
            world.network.black_hole(world.address(name))
        client = await world.client()
        assert await refused(client) == 10
        for pause in (0, 1, 4, 7, 16, 30, 100, 250):
            await trio.sleep(pause)
            assert await refused(client) < AT_ONCE
        world.network.restore(world.address("a2"))
        await trio.sleep(10)
        assert await delivered(client) == 0


async def test_all_dead_and_mute(autojump_clock: MockClock) -> None:
    """Checks that take as long as they may leave no gap in which a message would wait."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", SILENT, SILENT)) as world:
        client = await world.client()
        assert await refused(client) == 20
        for _ in range(100):
            await trio.sleep(0.7)
            assert await refused(client) < AT_ONCE


async def test_all_dead_and_nobody_asked_for_long(autojump_clock: MockClock) -> None:
    """Nothing is known then, so the message finds out."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        world.network.black_hole(world.address("a1"))
        client = await world.client()
        assert await refused(client) == 5
        await client.quit()
        await trio.sleep(700)
        client = await world.client()
        assert await refused(client) == 5
        assert await refused(client) == 0


@pytest.mark.parametrize(("pause", "probes"), [(0, 1), (4.99, 1), (5, 2), (100, 2)])
async def test_freshness_of_strangers(pause: float, probes: int, autojump_clock: MockClock) -> None:
    """The failure of all paths is the answer for 5 s."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=(10, 10))) as world:
        for name in ("a1", "a2"):
            world.network.refuse(world.address(name))
        client = await world.client()
        await refused(client)
        await trio.sleep(pause)
        assert await refused(client) == 0
        assert len(tries(world, "a1")) == len(tries(world, "a2")) == probes


async def _refused_by(client: Client, times: list[float]) -> None:
    await refused(client)
    times.append(trio.current_time())


@pytest.mark.parametrize(("mx", "most"), [((), 2), ((10, 10), 1)], ids=["static, and our check", "mx"])
async def test_single_flight(mx: Sequence[int], most: int, autojump_clock: MockClock) -> None:
    """Ten messages at once, when nothing fresh is known: one of them tries, for all."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=mx)) as world:
        for name in ("a1", "a2"):
            world.network.black_hole(world.address(name))
        client = await world.client()
        await refused(client)
        await client.quit()
        await trio.sleep(700)
        clients = [await world.client() for _ in range(10)]
        began = trio.current_time()
        times: list[float] = []
        async with trio.open_nursery() as asking:
            for one in clients:
                asking.start_soon(_refused_by, one, times)
        assert 1 <= len(tries(world, "a1", began)) <= most
        assert 1 <= len(tries(world, "a2", began)) <= most
        assert len(times) == 10
        assert set(times) == {began + 5.25}


async def test_single_flight_that_succeeds(autojump_clock: MockClock) -> None:
    """Nobody who waited is refused, or waits for what is still down."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, GOOD, mx=(20, 10))) as world:
        world.network.refuse(world.address("a1"))
        world.network.black_hole(world.address("a2"))
        clients = [await world.client() for _ in range(8)]
        await refused(clients[0])
        await trio.sleep(6)
        world.network.restore(world.address("a1"))
        world.network.delay(world.address("a1"), 0.1)
        began = trio.current_time()
        async with trio.open_nursery() as asking:
            for one in clients:
                asking.start_soon(delivered, one)
        assert world.messages == {"a1": 8, "a2": 0}
        assert trio.current_time() - began == pytest.approx(0.45)  # the first, then the seven
        assert len(tries(world, "a2", began)) == 1


async def test_single_flight_whose_client_leaves(autojump_clock: MockClock) -> None:
    """The next one tries in its place."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, mx=(10,))) as world:
        world.network.black_hole(world.address("a1"))
        client, leaves, waits = [await world.client() for _ in range(3)]
        await refused(client)
        await trio.sleep(6)
        began = trio.current_time()
        await leaves.play(f"C: MAIL FROM:<s@in.example>\nS: 250 ...\nC: RCPT TO:<{U}>")
        await trio.sleep(1)
        times: list[float] = []
        async with trio.open_nursery() as asking:
            asking.start_soon(_refused_by, waits, times)
            await trio.sleep(1)
            await leaves.stream.aclose()
        assert times == [began + 2 + 5]
        assert tries(world, "a1", began) == [began, began + 2]


# Hosts that take their time


MUTE: dict[str, tuple[Sequence[Script], float, int, int]] = {
    # hosts; seconds that they take together, how many were tried, and how many are down for it: what was cut short in
    # less than a connect's and a reply's time is not
    "one says nothing": ([SILENT], 10, 1, 1),
    "two say nothing": ([SILENT] * 2, 20, 2, 2),
    "three say nothing": ([SILENT] * 3, 30, 3, 2),
    "five say nothing": ([SILENT] * 5, 30, 3, 2),
    "an octet at a time": ([Script(greeting=DRIP)], 10, 1, 1),
    "five of these": ([Script(greeting=DRIP)] * 5, 30, 3, 2),
    "slow at everything": ([Script(greeting=Delay(9.5), ehlo=(Delay(9.5), "500 no"), helo=Silence())] * 3, 30, 2, 1),
}


@pytest.mark.parametrize(("better", "seconds", "tried", "down"), MUTE.values(), ids=MUTE.keys())
async def test_preference_that_does_not_get_connected(
    better: Sequence[Script], seconds: float, tried: int, down: int, autojump_clock: MockClock
) -> None:
    """It has 30 s, then the next preference has its turn."""
    hop = Hop("a", *better, GOOD, mx=(*[10] * len(better), 20))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        client = await world.client()
        assert await delivered(client) == pytest.approx(seconds)
        assert len(world.network.connections) == tried + 1
        assert len(marked(world)) == down


async def test_no_time_is_no_failure(autojump_clock: MockClock) -> None:
    """A stranger's mute hosts beside somebody's good one: that it has no time left says nothing of it."""
    for order in range(8):
        hop = Hop("a", *[SILENT] * 5, GOOD, mx=(*[10] * 5, 10))
        async with trio.open_nursery() as nursery, World(nursery, hop) as world:
            world.network.random.seed(order)
            world.network.delay(world.address("a6"), 0.2)
            await delivered(await world.client())
            assert "a6.mx.example:25(10.0.0.6:25)" not in marked(world)


@pytest.mark.parametrize("late", ["connected", "greeted"])
async def test_cut_short_is_no_failure(late: str, autojump_clock: MockClock) -> None:
    """It was in time for itself, and the time of its preference was over. It comes once more, when all else failed."""
    mute = Script(greeting=Delay(9.9), ehlo=(Delay(9.9), "500 no"), helo=(Delay(9.9), "500 no"))  # 29.7 s
    for order in range(4):
        second = Script(greeting=Delay(6)) if late == "greeted" else GOOD
        hop = Hop("a", mute, second, Script(mail=Close()), mx=(10, 10, 20))
        async with trio.open_nursery() as nursery, World(nursery, hop) as world:
            world.network.random.seed(order)
            world.network.delay(world.address("a2"), 2 if late == "connected" else 0)
            await delivered(await world.client())
            assert "a2.mx.example:25(10.0.0.2:25)" not in marked(world)
            assert world.messages["a2"] == 1


async def test_late_greeting_holds_the_floor(autojump_clock: MockClock) -> None:
    """As postscreen does to those whom it does not know. Nobody else starts meanwhile."""
    for order in range(4):
        async with (
            trio.open_nursery() as nursery,
            World(nursery, Hop("a", Script(greeting=Delay(6)), GOOD, mx=(10, 10))) as world,
        ):
            world.network.random.seed(order)
            seconds = await delivered(await world.client())
            assert world.messages == ({"a1": 1, "a2": 0} if seconds else {"a1": 0, "a2": 1})
            assert seconds in (0, 6)
            assert len(world.network.connections) == 1
            assert marked(world) == []


ENDS: dict[str, Plan] = {
    "closed": Close(),
    "reset": Reset(),
    "closed in the line": (Raw(b"220 he"), Close()),
    "closed between the lines": (Raw(b"220-hello\r\n"), Close()),
    "closed behind it": ("220 hello", Close()),
    "garbage": Raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "4xx": "450 4.3.2 not now",
    "421": ("421 4.3.2 not now", Close()),
    "5xx": "554 5.3.2 no mail here",
}


@pytest.mark.parametrize("greeting", ENDS.values(), ids=ENDS.keys())
async def test_ends_in_the_greeting(greeting: Plan, autojump_clock: MockClock) -> None:
    """The next path at once, and this one is down."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", Script(greeting=greeting), GOOD, mx=(10, 20))) as world,
    ):
        client = await world.client()
        assert await delivered(client) == 0
        assert marked(world) == ["a1.mx.example:25(10.0.0.1:25)"]


async def test_what_a_path_that_is_down_might_do(autojump_clock: MockClock) -> None:
    """It may take what the only one that is up never will: no 5xx."""
    plain = Script(extensions=("PIPELINING",))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, plain)) as world:
        world.network.refuse(world.address("a1"))
        client = await world.client()
        for _ in range(3):
            told = await client.transact("ü@a.example", parameters=" SMTPUTF8")
            assert told.rcpts[0][:3] == "451"
            await client.play("C: RSET\nS: 250 ...")


# A stranger's mail marks nothing down


SAID: dict[str, Script] = {
    "4xx at MAIL": Script(mail="451 4.1.8 sender cannot be verified"),
    "5xx at MAIL": Script(mail="550 5.1.8 no such sender"),
    "5xx about us at MAIL": Script(mail="550 5.7.1 not from you"),
    "421 at MAIL": Script(mail=("421 4.7.0 not from you", Close())),
    "closed at MAIL": Script(mail=Close()),
    "reset at MAIL": Script(mail=Reset()),
    "silent at MAIL": Script(mail=Silence()),
    "garbage at MAIL": Script(mail=Raw(b"what?\r\n")),
    "closed at RCPT": Script(rcpt=Close()),
    "421 at RCPT": Script(rcpt=("421 4.7.0 no", Close())),
    "4xx at RCPT": Script(rcpt="451 4.7.1 later"),
    "closed at DATA": Script(data=Close()),
    "closed in the message": Script(body=(During(20, Close()),)),
    "4xx in the message": Script(body=(During(20, "451 4.3.0 no"),)),
    "closed at the dot": Script(dot=Close()),
    "421 at the dot": Script(dot=("421 4.3.2 no", Close())),
    "4xx at the dot": Script(dot="451 4.3.0 no"),
}


@pytest.mark.parametrize("mx", [(), (10, 10)], ids=["static", "mx"])
@pytest.mark.parametrize("script", SAID.values(), ids=SAID.keys())
async def test_what_is_said_of_mail_marks_nothing_down(
    script: Script, mx: Sequence[int], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, script, mx=mx)) as world:
        client = await world.client()
        for _ in range(3):
            await timed(client, sender="stranger@bad.example")
        assert marked(world) == []
        for name in ("a1", "a2"):
            assert not is_down(world, name)
            world.mta(name).script = GOOD
        assert await delivered(client) == 0


async def test_refused_at_mail_everywhere(autojump_clock: MockClock) -> None:
    """4xx at MAIL: each host is asked, and the sender hears it. 5xx: that is the answer."""
    later, never = Script(mail="451 4.1.8 sender?"), Script(mail="550 5.1.8 sender!")
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", later, later), Hop("b", never, GOOD)) as world:
        client = await world.client()
        assert (await timed(client, U))[1].rcpts == ("451 4.1.8 sender?",)
        assert len(tries(world, "a1")) == len(tries(world, "a2")) == 1
        assert (await timed(client, "u@b.example"))[1].rcpts == ("550 5.1.8 sender!",)
        assert len(tries(world, "b1")) == 1
        assert tries(world, "b2") == []


# Many dead destinations


async def test_many_dead_destinations(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and sockets are bounded, and other mail goes on. With smaller bounds, 2,000 stand for 10,000."""
    bound, destinations = 200, 2000
    monkeypatch.setattr(lookups, "ENTRIES", bound)
    dead = Hop("dead", Script(), mx=(10,), domains=(".dead.example",))
    async with trio.open_nursery() as nursery, World(nursery, dead, Hop("a", GOOD, GOOD)) as world:
        shared = world.gateway._shared
        shared.health._bounds[False] = bound
        for number in range(destinations):
            name, ip = f"d{number}.dead.example", f"10.9.{number // 250}.{number % 250}"
            world.network.records[name, "A"] = Answer((ip,), 3600)
            world.network.refuse(TcpAddress(ip, 25))
        lmtp, client = await world.client("lmtp"), await world.client()
        for first in range(0, destinations, 250):
            recipients = [f"u@d{number}.dead.example" for number in range(first, first + 250)]
            _, told = await timed(lmtp, *recipients)
            assert set(told.rcpts) == {NO_PATH}
            assert await delivered(client) == 0
        records = shared.health.records().paths
        assert len([one for one in records if not one.static]) == bound
        assert [str(one.path) for one in records if one.static] == ["10.0.1.1:25"]
        assert len(shared.lookups._kept) <= bound
        assert shared.upstreams.held <= 1
        assert shared.upstreams._lots == {}
        assert shared.probes == {}
        assert world.network.open_streams <= 1
        assert len(nursery.child_tasks) < 20


# A session that is lost


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize("mx", [(), (10, 10)], ids=["next preference", "same preference"])
async def test_lost_in_the_message(mx: Sequence[int], order: int, autojump_clock: MockClock) -> None:
    """It goes on over another path, and there only once."""
    breaks = Script(body=(During(20, Close()),))
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", breaks, GOOD, mx=mx)) as world:
        world.network.random.seed(order)
        client = await world.client()
        assert await delivered(client) == 0
        assert world.messages == {"a1": 0, "a2": 1}
        assert marked(world) == []


@pytest.mark.parametrize("dot", [Close(), Reset(), (Delay(3), Close()), Raw(b"2"), Raw(b"what?\r\n")])
async def test_lost_behind_the_dot(dot: Plan, autojump_clock: MockClock) -> None:
    """No other path sees the message, whatever becomes of it here."""
    for order in range(4):
        script = Script(dot=dot)
        async with trio.open_nursery() as nursery, World(nursery, Hop("a", script, script, mx=(10, 10))) as world:
            world.network.random.seed(order)
            _, told = await timed(await world.client())
            assert told.outcomes == (UNKNOWN,)
            assert sorted(world.messages.values()) == [0, 1]
            assert len(world.network.connections) == 1


async def test_slow_path_is_left_alone_by_the_next_attempt(autojump_clock: MockClock) -> None:
    """A path that was too slow in this message's race is not what it goes on over."""
    for order in range(6):
        hop = Hop("a", GOOD, Script(rcpt=Turns(Close(), TAKEN)), GOOD, mx=(10, 10, 20))
        async with trio.open_nursery() as nursery, World(nursery, hop) as world:
            world.network.random.seed(order)
            world.network.black_hole(world.address("a1"))
            assert await delivered(await world.client()) <= 5.25
            assert len(tries(world, "a1")) <= 1


async def test_repeats_with_the_same_seed(autojump_clock: MockClock) -> None:
    """Chance comes from one place: the same seed, the same connections."""
    seen = []
    for _ in range(2):
        seeded(7)
        async with trio.open_nursery() as nursery, World(nursery, Hop("a", *[GOOD] * 5, mx=(10,) * 5)) as world:
            client = await world.client()
            for _ in range(5):
                await delivered(client)
                await trio.sleep(4)
            seen.append([one.address for one in world.network.connections])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 1
