"""Paths over several backbones: source addresses, HELO names, and what is about us rather than about the mail."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock
from world import DONE, NO_PATH, TAKEN, Client, Hop, Told, World

from mailgate.network import Address, Answer, TcpAddress
from mailgate.relay.settings import Backbone
from mailgate.testing import Close, During, Script, ScriptedMTA, Turns

A4, B4 = "192.0.2.10", "198.51.100.10"
A6, B6 = "2001:db8:a::10", "2001:db8:b::10"
A = Backbone(name="isp-a", sources=(A4, A6), helo="gw-a.example")
B = Backbone(name="isp-b", sources=(B4, B6), helo="gw-b.example")
ONLY_4 = Backbone(name="isp-4", sources=(A4,), helo="gw-4.example")
ONLY_6 = Backbone(name="isp-6", sources=(B6,), helo="gw-6.example")

U = "u@a.example"
GOOD = Script()
OUT_OF_RESOURCES = "451 4.3.2 Out of resources, try later or elsewhere"
LATER = "451 4.7.1 greylisted"


async def timed(client: Client, *recipients: str, sender: str = "s@in.example") -> tuple[float, Told]:
    """A transaction, and how long it took."""
    began = trio.current_time()
    told = await client.transact(*(recipients or (U,)), sender=sender)
    seconds = trio.current_time() - began
    if not told.outcomes:
        await client.play("C: RSET\nS: 250 ...")
    return seconds, told


async def delivered(client: Client, *recipients: str, sender: str = "s@in.example") -> float:
    """How long a message took that must have been delivered."""
    seconds, told = await timed(client, *recipients, sender=sender)
    assert told.outcomes == (DONE,)
    return seconds


async def told_of(client: Client, *, sender: str = "s@in.example") -> str:
    """What is said to a recipient."""
    _, told = await timed(client, sender=sender)
    return told.rcpts[0]


def sources(world: World, since: int = 0) -> list[str | None]:
    """Where connections came from, in order."""
    return [one.source for one in world.network.connections[since:]]


def by_source(world: World, name: str, scripts: Mapping[str, Script]) -> dict[str, ScriptedMTA]:
    """Let a host behave by where a connection comes from: for each source address a server of its own."""
    mtas = {source: ScriptedMTA(f"{name} to {source}", "smtp", script) for source, script in scripts.items()}

    async def handle(stream: trio.abc.Stream, peer: Address) -> None:
        assert isinstance(peer, TcpAddress)
        await mtas[peer.ip].handle(stream, peer)

    world.network.serve(world.address(name), handle)
    return mtas


def hellos(*mtas: ScriptedMTA) -> list[str]:
    """Who we said we were, in order."""
    lines = [line for mta in mtas for session in mta.sessions for line in str(session).split("\n")]
    return [line.split()[-1] for line in lines if "C: EHLO" in line]


def six(world: World, name: str, address: str) -> TcpAddress:
    """Give a host by name an IPv6 address, too."""
    where = TcpAddress(address, 25)
    world.network.records[f"{name}.mx.example", "AAAA"] = Answer((address,), 3600)
    world.network.serve(where, world.mta(name).handle)
    return where


# Which paths there are


async def test_source_and_name_of_a_backbone(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=(A, B))) as world:
        client = await world.client()
        await delivered(client)
        world.network.refuse(world.address("a1"), source=A4)
        await trio.sleep(10)
        await delivered(client)
        assert sources(world) == [A4, A4, B4]
        assert hellos(world.mta("a1")) == ["gw-a.example", "gw-b.example"]


async def test_no_backbone(autojump_clock: MockClock) -> None:
    """The system chooses the source, and we are who we are."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        await delivered(await world.client())
        assert sources(world) == [None]
        assert hellos(world.mta("a1")) == ["gw.example"]


async def test_order_of_paths(autojump_clock: MockClock) -> None:
    """Of one preference all hosts over the first backbone, then all over the second; then the next preference."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, GOOD, GOOD, mx=(10, 10, 20), backbones=(B, A))) as world,
    ):
        for name in ("a1", "a2", "a3"):
            world.network.refuse(world.address(name))
        _, told = await timed(await world.client())
        assert told.rcpts == (NO_PATH,)
        assert sources(world) == [B4, B4, A4, A4, B4, A4]
        hosts = [str(one.address) for one in world.network.connections]
        assert set(hosts[:2]) == set(hosts[2:4]) == {"10.0.0.1:25", "10.0.0.2:25"}
        assert set(hosts[4:]) == {"10.0.0.3:25"}


async def test_source_of_each_family(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, mx=(10,), backbones=(A, B))) as world:
        world.network.refuse(six(world, "a1", "2001:db8::25"))
        world.network.refuse(world.address("a1"))
        await timed(await world.client())
        assert sorted(map(str, sources(world)[:2])) == [A4, A6]
        assert sorted(map(str, sources(world)[2:])) == [B4, B6]
        families = {
            (":" in str(one.address.ip), ":" in str(one.source))
            for one in world.network.connections
            if isinstance(one.address, TcpAddress)
        }
        assert families == {(False, False), (True, True)}


async def test_host_without_a_source_of_its_family(autojump_clock: MockClock) -> None:
    """It is no path over that backbone, and no failure while there is another one."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, mx=(10,), backbones=(ONLY_6, ONLY_4))) as world,
    ):
        assert await delivered(await world.client()) == 0
        assert sources(world) == [A4]
        assert hellos(world.mta("a1")) == ["gw-4.example"]
        assert world.events("attempt_failed") == []


async def test_host_without_any_source_of_its_family(autojump_clock: MockClock) -> None:
    """The next one; without any other that is a 4xx."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, GOOD, mx=(10, 20), backbones=(ONLY_6,))) as world,
    ):
        client = await world.client()
        assert await told_of(client) == NO_PATH
        assert sources(world) == []
        six(world, "a2", "2001:db8::25")
        assert await delivered(client) == 0
        assert sources(world) == [B6]


# A source address that is gone


@pytest.mark.parametrize("mx", [(), (10,)], ids=["static", "mx"])
async def test_source_is_gone_and_comes_back(mx: tuple[int, ...], autojump_clock: MockClock) -> None:
    """The other backbone at once, for all hosts. The first trial of a message, or a check, finds it again."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, mx=mx, backbones=(A, B)), Hop("b", GOOD, mx=mx, backbones=(A, B))) as world,
    ):
        client = await world.client()
        world.network.remove_source(A4)
        assert await delivered(client) == 0
        assert sources(world) == [A4, B4]
        assert await delivered(client, "u@b.example") == 0
        assert sources(world) == [A4, B4, B4], "it is out for other hosts, too"
        assert [str(event["path"]).partition("/")[0] for event in world.events("path_down")] == ["isp-a"]
        await trio.sleep(4)
        world.network.restore_source(A4)
        # 5 s after it was wanted for static hosts; at the next message for strangers.
        await trio.sleep(0 if mx else 1.1)
        if mx:
            assert await delivered(client) == 0
            assert sources(world)[3:] in ([A4, B4], [B4, A4])
        await trio.sleep(4)
        seen = len(sources(world))
        assert await delivered(client) == await delivered(client, "u@b.example") == 0
        assert sources(world, seen) == [A4, A4]
        assert len(world.events("path_up")) == 1


async def test_source_stays_away(autojump_clock: MockClock) -> None:
    """Nobody waits for it, and it is tried more and more seldom."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, mx=(10,), backbones=(A, B))) as world:
        client = await world.client()
        world.network.remove_source(A4)
        for _ in range(60):
            assert await delivered(client) == 0
            await trio.sleep(5)
        assert 5 <= sources(world).count(A4) <= 12
        world.network.restore_source(A4)
        await trio.sleep(61)
        await delivered(client)  # brings the trial
        await trio.sleep(4)
        seen = len(sources(world))
        await delivered(client)
        assert sources(world, seen) == [A4]


async def test_source_is_gone_for_its_family_only(autojump_clock: MockClock) -> None:
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, mx=(10,), backbones=(A, B)), Hop("b", GOOD, mx=(10,), backbones=(A, B))) as world,
    ):
        del world.network.records["b1.mx.example", "A"]
        six(world, "b1", "2001:db8::25")
        world.network.remove_source(A4)
        client = await world.client()
        await delivered(client)
        await delivered(client, "u@b.example")
        assert sources(world) == [A4, B4, A6]


async def test_all_sources_are_gone(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", GOOD, mx=(10,), backbones=(A, B))) as world:
        for source in (A4, B4):
            world.network.remove_source(source)
        client = await world.client()
        assert await told_of(client) == NO_PATH
        assert await told_of(client) == NO_PATH
        assert sources(world) == [A4, B4], "that was fresh"
        world.network.restore_source(B4)
        await trio.sleep(5)
        assert await delivered(client) == 0
        assert sources(world, 2) == [A4, B4]


# Our own lack of resources


OWN = [
    pytest.param(number, id=errno.errorcode[number])
    for number in (
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EAGAIN,
    )
]


@pytest.mark.parametrize("number", OWN)
async def test_own_lack_of_resources(number: int, autojump_clock: MockClock) -> None:
    """Says nothing of path or backbone: the other one is tried, and the next message begins as if nothing were."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=(A, B))) as world:
        world.network.refuse(world.address("a1"), source=A4, error=number)
        client = await world.client()
        await delivered(client)
        await trio.sleep(4)
        await delivered(client)
        assert sources(world) == [A4, B4, A4, B4]
        world.network.refuse(world.address("a1"), source=B4, error=number)
        await trio.sleep(4)
        assert await told_of(client) == OUT_OF_RESOURCES
        assert await told_of(client) == OUT_OF_RESOURCES
        assert world.events("path_down") == []
        for source in (A4, B4):
            world.network.restore(world.address("a1"), source=source)
        assert await delivered(client) == 0


# A backbone that leads nowhere


async def test_black_holed_backbone(autojump_clock: MockClock) -> None:
    """Each host costs its first message a head start, and no later one anything."""
    hops = [Hop(name, GOOD, mx=(10,), backbones=(A, B)) for name in ("a", "b")]
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        for name in ("a1", "b1"):
            world.network.black_hole(world.address(name), source=A4)
        client = await world.client()
        for recipient in (U, "u@b.example"):
            assert await delivered(client, recipient) == 0.25
            for pause in (0, 4, 30):
                await trio.sleep(pause)
                assert await delivered(client, recipient) == 0


async def test_lost_in_the_message(autojump_clock: MockClock) -> None:
    """It goes on over the other backbone to the same host."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=(A, B))) as world:
        mtas = by_source(world, "a1", {A4: Script(body=(During(20, Close()),)), B4: GOOD})
        client = await world.client()
        assert await delivered(client) == 0
        assert sources(world) == [A4, B4]
        assert [len(mta.messages) for mta in mtas.values()] == [0, 1]
        assert world.events("path_down") == []


# About us


NOT_YOU = "550 5.7.1 not from isp-a"
NOR_YOU = "554 5.7.25 not from isp-b"

ABOUT_US: dict[str, tuple[str, str, str]] = {
    "refused by all: as on the preferred one": (NOT_YOU, NOR_YOU, NOT_YOU),
    "as on the preferred one, also where the other says more": (NOT_YOU, "521 5.7.1 never", NOT_YOU),
    "and the other one may take it later": (NOT_YOU, "451 4.3.0 later", "451 4.3.0 later"),
    "the other way round": ("451 4.3.0 later", NOR_YOU, "451 4.3.0 later"),
    "and the other one refuses the sender": (NOT_YOU, "550 5.1.8 no such sender", "550 5.1.8 no such sender"),
    "the sender first": ("550 5.1.8 no such sender", TAKEN, "550 5.1.8 no such sender"),
}


@pytest.mark.parametrize(("first", "second", "told"), ABOUT_US.values(), ids=ABOUT_US.keys())
async def test_refused_at_mail(first: str, second: str, told: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=(A, B))) as world:
        by_source(world, "a1", {A4: Script(mail=first), B4: Script(mail=second)})
        client = await world.client()
        assert await told_of(client) == told
        assert world.events("path_down") == []


async def test_refused_by_the_other_one_first(autojump_clock: MockClock) -> None:
    """Whichever speaks first, the preferred one's reply is told."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=(A, B))) as world:
        world.network.delay(world.address("a1"), 0.3, source=A4)
        by_source(world, "a1", {A4: Script(mail=NOT_YOU), B4: Script(mail=NOR_YOU)})
        assert await told_of(await world.client()) == NOT_YOU


async def test_refused_on_one_backbone(autojump_clock: MockClock) -> None:
    """The other one takes it; this one's other hosts are not asked, and the next message begins with it again."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, GOOD, mx=(10, 10), backbones=(A, B))) as world,
    ):
        for name in ("a1", "a2"):
            by_source(world, name, {A4: Script(mail=NOT_YOU), B4: GOOD})
        client = await world.client()
        assert await delivered(client) == 0
        assert sources(world) == [A4, B4]
        await trio.sleep(4)
        assert await delivered(client) == 0
        assert sources(world) == [A4, B4, A4, B4]


@pytest.mark.parametrize("broken", [A4, B4], ids=["the preferred one", "the other one"])
async def test_refused_on_one_and_unreachable_on_the_other(broken: str, autojump_clock: MockClock) -> None:
    """What is not known may pass: 4xx. When all are down but the one that refuses, too."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", backbones=(A, B))) as world:
        where = world.address("a1")
        by_source(world, "a1", {A4: Script(mail=NOT_YOU), B4: Script(mail=NOR_YOU)})
        world.network.refuse(where, source=broken)
        client = await world.client()
        for _ in range(3):
            assert (await told_of(client))[:3] == "451"


async def test_refused_in_a_later_preference_only(autojump_clock: MockClock) -> None:
    """Refused over both backbones by the first host: the second one is the same next hop, and is not asked."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, Hop("a", GOOD, GOOD, mx=(10, 20), backbones=(A, B))) as world,
    ):
        by_source(world, "a1", {A4: Script(mail=NOT_YOU), B4: Script(mail=NOR_YOU)})
        assert await told_of(await world.client()) == NOT_YOU
        assert sources(world) == [A4, B4]


# Greylisting


async def test_greylisted_over_the_second_backbone(autojump_clock: MockClock) -> None:
    """The retry goes where the waiting began, for an hour; other senders and domains go as ever."""
    hop = Hop("a", mx=(10,), backbones=(A, B), domains=("a.example", "other.example"))
    async with trio.open_nursery() as nursery, World(nursery, hop) as world:
        where = world.address("a1")
        mtas = by_source(world, "a1", {A4: GOOD, B4: Script(rcpt=Turns(LATER, TAKEN))})
        world.network.refuse(where, source=A4)
        client = await world.client()
        assert await told_of(client) == LATER
        world.network.restore(where, source=A4)
        await trio.sleep(5)
        await delivered(client, sender="else@in.example")  # brings the trial that finds it up again
        await trio.sleep(50)

        async def goes_by(recipient: str, sender: str) -> str:
            before = len(mtas[A4].messages)
            await trio.sleep(4)
            await delivered(client, recipient, sender=sender)
            return "isp-a" if len(mtas[A4].messages) > before else "isp-b"

        assert await goes_by(U, "s@in.example") == "isp-b"
        assert await goes_by(U, "else@in.example") == "isp-a"
        assert await goes_by("u@other.example", "s@in.example") == "isp-a"
        await client.quit()
        await trio.sleep(3600 - 80)
        client = await world.client()
        assert await goes_by(U, "s@in.example") == "isp-b"
        await trio.sleep(20)
        assert await goes_by(U, "s@in.example") == "isp-a"


async def test_greylisted_and_the_backbone_goes_down(autojump_clock: MockClock) -> None:
    """A wish is no reason to wait."""
    async with trio.open_nursery() as nursery, World(nursery, Hop("a", mx=(10,), backbones=(A, B))) as world:
        where = world.address("a1")
        by_source(world, "a1", {A4: Script(rcpt=LATER), B4: GOOD})
        client = await world.client()
        assert await told_of(client) == LATER
        world.network.black_hole(where, source=A4)
        await trio.sleep(10)
        assert await delivered(client) == 0.25
        assert await delivered(client) == 0
