"""What a gateway says of itself at a moment: `Gateway.status`, and how the memory of paths is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from world import Hop, World

from mailgate.network import HostName, TcpAddress
from mailgate.relay import status
from mailgate.relay.health import Health
from mailgate.relay.routing import Path as MailPath
from mailgate.relay.settings import Backbone, Limits, Route
from mailgate.testing import Close, Delay, Script

EAST = Backbone(name="east", sources=("192.0.2.10", "2001:db8::10"), helo="east.example")
WEST = Backbone(name="west", sources=("198.51.100.10",), helo="west.example")
ADDRESS = TcpAddress("10.0.0.1", 25)


async def test_all_of_it(autojump_clock: MockClock) -> None:
    """The keys and their meaning are a promise to whoever reads the document."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=[EAST])) as world:
        await trio.sleep(90)
        client = await world.client()
        await client.transact("u@a.example")
        await trio.sleep(2)
        assert dataclasses.asdict(world.gateway.status()) == {
            "format": 1,
            "version": "0.1.0",
            "hostname": "gw.example",
            "time": "2026-01-01T00:01:32.000Z",
            "started": "2026-01-01T00:00:00.000Z",
            "running_for": 92.0,
            "draining": False,
            "sessions": 1,
            "sessions_limit": 1000,
            "listeners": (
                {"name": "smtp", "protocol": "smtp", "sessions": 1},
                {"name": "lmtp", "protocol": "lmtp", "sessions": 0},
            ),
            "transactions": 0,
            "deliveries": 0,
            "upstream": {"held": 1, "kept": 1, "limit": 5000},
            "recipients": {"delivered": 1, "rejected": 0, "deferred": 0, "unknown": 0, "untold": 0},
            "ledger": {
                "enabled": True,
                "shared": "none",
                "entries": 0,
                "limit": 100_000,
                "put_off": 0,
                "recorded": 0,
                "met": 0,
                "possible_duplicate": 0,
                "unasked": 0,
                "evicted": 0,
            },
            "backbones": (
                {
                    "name": "east",
                    "sources": ("192.0.2.10", "2001:db8::10"),
                    "helo": "east.example",
                    "paths": 1,
                    "down": 0,
                    "failures": 0,
                    "outages": (),
                },
            ),
            "paths": (
                {
                    "backbone": "east",
                    "host": "10.0.0.1:25",
                    "address": "10.0.0.1:25",
                    "static": True,
                    "up": True,
                    "down_for": None,
                    "failures": 0,
                    "why": "",
                    "last_success_ago": 2.0,
                    "latency": 0.0,
                    "next_try_in": None,
                },
            ),
            "paths_left_out": 0,
            "hosts": ({"name": "10.0.0.1:25", "paths": 1, "down": 0, "failures": 0},),
            "hosts_left_out": 0,
        }


async def test_before_it_runs(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, Hop("a"))
        await trio.sleep(5)
        told = world.gateway.status()
        assert (told.started, told.running_for, told.paths) == (None, 0, ())


# What is under way


async def test_sessions_transactions_and_deliveries(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), Hop("b", Script(rcpt="550 no"))) as world:

        def now() -> tuple[list[int], int, int, int, int]:
            told = world.gateway.status()
            by_listener = [one.sessions for one in told.listeners]
            assert told.sessions == sum(by_listener)
            return by_listener, told.transactions, told.deliveries, told.upstream.held, told.upstream.kept

        assert now() == ([0, 0], 0, 0, 0, 0)
        smtp, idle, lmtp = await world.client(), await world.client(), await world.client("lmtp")
        assert now() == ([2, 1], 0, 0, 0, 0)
        await smtp.envelope()
        assert now() == ([2, 1], 1, 0, 0, 0)
        await smtp.play("C: RCPT TO:<u@a.example>\nS: 250 ...")
        assert now() == ([2, 1], 1, 1, 1, 0)
        await lmtp.envelope("u@a.example", "u@b.example")
        await wait_all_tasks_blocked()
        assert now() == ([2, 1], 2, 3, 3, 0)
        await smtp.play("C: RSET\nS: 250 ...")
        await lmtp.play("C: DATA\nS: 354 ...\nC: x\nC: .\nS: 250 ...")
        await wait_all_tasks_blocked()
        # Only the session that took a message is worth keeping.
        assert now() == ([2, 1], 0, 0, 1, 1)
        await idle.quit()
        assert now() == ([1, 1], 0, 0, 1, 1)
        await trio.sleep(4)
        assert now() == ([1, 1], 0, 0, 0, 0)


async def test_a_delivery_that_is_over_is_not_under_way(autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a"), Hop("b", Script(greeting="554 no"))) as world,
    ):
        client = await world.client("lmtp")
        await client.envelope("u@a.example", "u@b.example")
        await wait_all_tasks_blocked()
        told = world.gateway.status()
        assert (told.transactions, told.deliveries) == (1, 1)


async def test_who_is_sent_away_is_no_session(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a"), limits=Limits(sessions=1)) as world:
        await world.client()
        refused = await world.client(greeted=False)
        await refused.play("S: 421 4.3.2 ...")
        told = world.gateway.status()
        assert (told.sessions, told.sessions_limit) == (1, 1)


async def test_draining(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        async with trio.open_nursery() as draining:
            draining.start_soon(world.gateway.drain)
            await wait_all_tasks_blocked()
            told = world.gateway.status()
            assert (told.draining, told.sessions, told.transactions, told.deliveries) == (True, 1, 1, 1)
        told = world.gateway.status()
        assert (told.draining, told.sessions, told.transactions, told.deliveries) == (True, 0, 0, 0)


# Recipients


@pytest.mark.parametrize(
    ("script", "counts"),
    [
        (Script(), {"delivered": 2}),
        (Script(dot="550 5.7.1 no"), {"rejected": 2}),
        (Script(dot="450 4.2.1 later"), {"deferred": 2}),
        (Script(dot=Close()), {"unknown": 2}),
        (Script(rcpt="550 5.1.1 no"), {}),
    ],
    ids=["delivered", "rejected", "deferred", "unknown", "refused at RCPT"],
)
async def test_recipients(script: Script, counts: dict[str, int], autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", script)) as world:
        await (await world.client()).transact("u@a.example", "v@a.example")
        await wait_all_tasks_blocked()  # they are counted once the client was told
        nobody = dict.fromkeys(("delivered", "rejected", "deferred", "unknown", "untold"), 0)
        assert dataclasses.asdict(world.gateway.status().recipients) == nobody | counts


async def test_untold_is_told_apart(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(dot=Delay(5)))) as world:
        client = await world.client()
        await client.envelope("u@a.example")
        await client.play("C: DATA\nS: 354 ...\nC: x\nC: .\nC+ 1\nC.")
        await client.ended.wait()
        told = world.gateway.status().recipients
        assert (told.delivered, told.untold) == (1, 1)


# Paths


async def test_a_path_that_is_down(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(greeting="554 no"), Script())) as world:
        await trio.sleep(10)
        await (await world.client()).transact("u@a.example")
        await trio.sleep(0.5)
        down, up = world.gateway.status().paths
        assert (down.address, down.up, down.down_for, down.failures, down.next_try_in) == (
            "10.0.0.1:25",
            False,
            0.5,
            1,
            0.5,
        )
        assert (down.why, down.last_success_ago, down.latency) == ("554 no", None, None)
        assert (up.address, up.up, up.last_success_ago) == ("10.0.0.2:25", True, 0.5)
        await trio.sleep(2)
        assert world.gateway.status().paths[0].next_try_in == 0
        assert [(one.name, one.down) for one in world.gateway.status().hosts] == [
            ("10.0.0.1:25", 1),
            ("10.0.0.2:25", 0),
        ]


async def test_a_path_found_by_mx(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", Script(ehlo=Delay(0.25)), mx=(10,))) as world:
        await (await world.client()).transact("u@a.example")
        (path,) = world.gateway.status().paths
        assert (path.host, path.address, path.static) == ("a1.mx.example:25", "10.0.0.1:25", False)
        assert (path.backbone, path.latency) == (None, 0.25)


async def test_a_backbone_that_is_out(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=[EAST, WEST])) as world:
        world.network.remove_source(EAST.sources[0])
        await (await world.client()).transact("u@a.example")
        await trio.sleep(0.5)
        east, west = world.gateway.status().backbones
        (outage,) = east.outages
        why = "no address of this machine: 192.0.2.10, the source on backbone east"
        assert dataclasses.asdict(outage) == {
            "family": "IPv4",
            "down_for": 0.5,
            "failures": 1,
            "why": why,
            "next_try_in": 0.5,
        }
        assert west.outages == ()
        assert (west.paths, west.down) == (1, 0)


def test_backbones_are_the_configurations() -> None:
    """Each once, in the order of the routes, whether it was ever used or not."""
    routes = [
        Route(name="a", domains=("a.example",), backbones=(WEST,)),
        Route(name="b", domains=("b.example",), backbones=(EAST, WEST)),
        Route(name="c", domains=("c.example",)),
    ]
    health = Health()
    health.failed(MailPath(ADDRESS, EAST), "no", 1, static=False)
    health.succeeded(MailPath(ADDRESS, WEST), 1, static=False)
    told = status.backbones(routes, health.records(), 2)
    assert [(one.name, one.paths, one.down, one.failures) for one in told] == [("west", 1, 0, 0), ("east", 1, 1, 1)]
    assert [one.paths for one in status.backbones(routes, Health().records(), 2)] == [0, 0]


def stranger(number: int) -> MailPath:
    return MailPath(TcpAddress(f"192.0.{number >> 8}.{number & 255}", 25), host=HostName(f"mx{number}.example", 25))


def test_the_order_of_paths() -> None:
    """Static ones, then others; of each those that are down; of these, those used last."""
    health = Health()
    for number, (static, down) in enumerate(((False, False), (True, False), (False, True), (True, True)) * 2):
        if down:
            health.failed(stranger(number), "no", 1, static=static)
        else:
            health.succeeded(stranger(number), 1, static=static)
    shown = [int(one.host.removeprefix("mx").partition(".")[0]) for one in status.paths(health.records(), 2)]
    assert shown == [7, 3, 5, 1, 6, 2, 4, 0]


def test_so_many_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MOST", 3)
    health = Health()
    for number in range(10):
        health.succeeded(stranger(number), 1, static=False)
    health.failed(stranger(5), "no", 1, static=False)
    records = health.records()
    assert [one.host for one in status.paths(records, 2)] == ["mx5.example:25", "mx9.example:25", "mx8.example:25"]
    assert [one.name for one in status.hosts(records)] == ["mx5.example:25", "mx9.example:25", "mx8.example:25"]


async def test_what_is_left_out_is_counted(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MOST", 1)
    hops = [Hop("a"), Hop("b"), Hop("c")]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        for hop in hops:
            await (await world.client()).transact(f"u@{hop.name}.example")
        told = world.gateway.status()
        assert (len(told.paths), told.paths_left_out, len(told.hosts), told.hosts_left_out) == (1, 2, 1, 2)


def test_a_reason_has_an_end() -> None:
    health = Health()
    health.failed(stranger(1), "550 " + "x" * 10_000, 1, static=False)
    (path,) = status.paths(health.records(), 2)
    assert path.why == "550 " + "x" * 496


def test_each_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
    section = page.partition("### The control socket")[2].partition("\n## ")[0]
    types = [one for one in vars(status).values() if isinstance(one, type) and one.__module__ == status.__name__]
    assert len(types) == 9
    missing = [(one.__name__, key) for one in types for key in one.__slots__ if f"`{key}`" not in section]  # type: ignore[attr-defined]
    assert missing == []
