"""Which recipients share a delivery, and what is said where the next hop cannot be looked up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from world import ANOTHER_HOP, BOTH, DONE, NOT_FOUND, TAKEN, Hop, Speaks, World

from mailgate.network import Answer, NoAnswer
from mailgate.relay.settings import Timeouts
from mailgate.testing import Script

NO_SUCH = "550 5.1.2 The recipient's domain does not exist or has no host for mail, check the address"
NULL_MX = "556 5.1.10 The recipient's domain takes no mail (RFC 7505)"
OURSELVES = "554 5.4.6 The way to the recipient's domain leads back to this gateway, its DNS is wrong"
STOPPED = "451 4.3.2 Shutting down, try later or elsewhere"

DOMAINS = ("d0.example", "d1.example", "d2.example")


def mx_hop(name: str = "a", *, group_domains: bool = True, hosts: int = 1) -> Hop:
    preferences = [10 * number for number in range(1, hosts + 1)]
    return Hop(name, *[Script()] * hosts, mx=preferences, domains=DOMAINS, group_domains=group_domains)


def mail(world: World, domain: str, *records: str) -> None:
    """Let a domain have these MX."""
    world.network.records[domain, "MX"] = Answer(records, 60)


def got(world: World, name: str = "a1") -> list[tuple[str, ...]]:
    """Whom a host got messages for, one tuple per message, in alphabetical order."""
    return sorted(message.recipients for message in world.mta(name).messages)


# Who shares a delivery


async def test_static_one_per_route(autojump_clock: MockClock) -> None:
    hops = (Hop("a", domains=["a.example", ".aa.example"]), Hop("b", speaks="lmtp"))
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        recipients = ("u@a.example", "u@b.example", "v@x.aa.example", "v@b.example", "w@a.example", "u@a.example")
        told = await client.transact(*recipients)
        assert told.outcomes == (DONE,) * 6
        assert got(world, "a1") == [("u@a.example", "v@x.aa.example", "w@a.example", "u@a.example")]
        assert got(world, "b1") == [("u@b.example", "v@b.example")]


async def test_mx_one_per_domain(autojump_clock: MockClock) -> None:
    """However it is written."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop(group_domains=False)) as world:
        client = await world.client("lmtp")
        await client.transact("u@d0.example", "u@d1.example", "v@D0.Example", "v@d1.example")
        assert got(world) == [("u@d0.example", "v@D0.Example"), ("u@d1.example", "v@d1.example")]


SAME = {
    "the same records": ("10 a1.mx.example.", "20 a2.mx.example."),
    "in another order": ("20 a2.mx.example.", "10 a1.mx.example."),
    "in other letters": ("10 A1.mx.Example.", "20 a2.MX.example"),
    "with other numbers for the same order": ("5 a1.mx.example.", "6 a2.mx.example."),
    "twice": ("10 a1.mx.example.", "10 a1.mx.example.", "20 a2.mx.example.", "30 a1.mx.example."),
    "and a record that names nothing": ("10 a1.mx.example.", "20 a2.mx.example.", "x y"),
}
OTHER = {
    "the other way round": ("20 a1.mx.example.", "10 a2.mx.example."),
    "equally good": ("10 a1.mx.example.", "10 a2.mx.example."),
    "one of them": ("10 a1.mx.example.",),
    "one more": ("10 a1.mx.example.", "20 a2.mx.example.", "30 a3.mx.example."),
}


@pytest.mark.parametrize(
    ("records", "same"),
    [*((records, True) for records in SAME.values()), *((records, False) for records in OTHER.values())],
    ids=[*SAME, *OTHER],
)
async def test_grouped_domains(records: tuple[str, ...], same: bool, autojump_clock: MockClock) -> None:
    """Those with the same hosts at the same preferences share one transaction, in the order of RCPTs."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop(hosts=2)) as world:
        mail(world, "d1.example", *records)
        client = await world.client("lmtp")
        recipients = ("u@d0.example", "u@d1.example", "v@d0.example", "v@d1.example")
        told = await client.transact(*recipients)
        assert told.outcomes == (DONE,) * 4
        shares = sorted(got(world, "a1") + got(world, "a2"))
        assert shares == ([recipients] if same else [recipients[0::2], recipients[1::2]])
        mails = [line for name in ("a1", "a2") for one in world.mta(name).sessions for line in one.dialog]
        assert len([line for line in mails if line.startswith("C: MAIL")]) == (1 if same else 2)


async def test_equal_preferences_in_any_order(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, mx_hop(hosts=2)) as world:
        both = ("10 a1.mx.example.", "10 a2.mx.example.")
        for number, domain in enumerate(DOMAINS):
            mail(world, domain, *(both if number % 2 else reversed(both)))
        client = await world.client("lmtp")
        recipients = tuple(f"u@{domain}" for domain in DOMAINS)
        for _ in range(20):
            await client.transact(*recipients)
            await trio.sleep(61)
        assert got(world, "a1") + got(world, "a2") == [recipients] * 20
        assert all(world.messages.values()), "both are used"


async def test_grouped_domains_of_two_routes(autojump_clock: MockClock) -> None:
    """They do not share: the routes may differ in everything."""
    hops = (
        Hop("a", mx=(10,), names=("mx.example",), group_domains=True),
        Hop("b", mx=(10,), names=("mx.example",), group_domains=True),
    )
    async with trio.open_nursery() as nursery, World(nursery, *hops) as world:
        client = await world.client("lmtp")
        await client.transact("u@a.example", "u@b.example", "v@a.example")
        assert got(world, "b1") == [("u@a.example", "v@a.example"), ("u@b.example",)]


@pytest.mark.parametrize("group_domains", [False, True])
async def test_100_recipients_in_one(group_domains: bool, autojump_clock: MockClock) -> None:
    """The 101st starts another delivery, and so does the 201st."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop(group_domains=group_domains)) as world:
        client = await world.client("lmtp")
        domains = DOMAINS if group_domains else DOMAINS[:1]
        recipients = tuple(f"u{number:03}@{domains[number % len(domains)]}" for number in range(201))
        told = await client.transact(*recipients)
        assert told.outcomes == (DONE,) * 201
        assert got(world) == [recipients[:100], recipients[100:200], recipients[200:]]


async def test_static_100_recipients_in_one(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, Hop("a")) as world:
        client = await world.client("lmtp")
        recipients = tuple(f"u{number:03}@a.example" for number in range(101))
        assert (await client.transact(*recipients)).outcomes == (DONE,) * 101
        assert got(world) == [recipients[:100], recipients[100:]]


# Look-ups


async def test_look_ups_side_by_side(autojump_clock: MockClock) -> None:
    """They take as long as the slowest, and RCPTs keep the client's order all the same."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop()) as world:
        for domain, seconds in zip(DOMAINS, (5, 1, 3), strict=True):
            world.network.query_delays[domain, "MX"] = seconds
        client = await world.client("lmtp")
        recipients = tuple(f"{name}@{domain}" for name in "uv" for domain in DOMAINS)
        told = await client.transact(*recipients)
        assert told.rcpts == (TAKEN,) * 6
        assert trio.current_time() == 5
        assert [query.time for query in world.network.queries if query.record_type == "MX"] == [0, 0, 0]
        assert got(world) == [recipients]


async def test_a_slow_one_holds_those_behind_it(autojump_clock: MockClock) -> None:
    """Whoever comes before it does not wait."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop()) as world:
        world.network.query_delays["d1.example", "MX"] = 5
        client = await world.client("lmtp")
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 ...")
        await client.play("\n".join(f"C: RCPT TO:<u@{domain}>" for domain in DOMAINS))
        times = []
        for _ in DOMAINS:
            assert await client.reply() == TAKEN
            times.append(trio.current_time())
        assert times == [0, 5, 5]


OUTCOMES: dict[str, tuple[Answer | NoAnswer | None, str]] = {
    "no such domain": (None, NO_SUCH),
    "no such domain, says DNS": (NoAnswer.NO_SUCH_DOMAIN, NO_SUCH),
    "no MX and no address": (NoAnswer.NO_DATA, NO_SUCH),
    "MX without an address": (Answer(("10 nothing.example.",), 60), NO_SUCH),
    "MX that name nothing": (Answer(("10 ..", "x"), 60), NO_SUCH),
    "null MX": (Answer(("0 .",), 60), NULL_MX),
    "temporary failure": (NoAnswer.TEMPORARY, NOT_FOUND),
    "ourselves": (Answer(("10 gw.example.", "20 a1.mx.example."), 60), OURSELVES),
    "ourselves, behind another": (Answer(("20 GW.example.", "10 a1.mx.example."), 60), TAKEN),
}


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("group_domains", [False, True], ids=["alone", "grouped"])
@pytest.mark.parametrize(("answer", "said"), OUTCOMES.values(), ids=OUTCOMES)
async def test_outcomes(
    answer: Answer | NoAnswer | None, said: str, group_domains: bool, speaks: Speaks, autojump_clock: MockClock
) -> None:
    """What DNS says of one domain is the answer to its RCPT, and harms no other."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop(group_domains=group_domains)) as world:
        del world.network.records["d1.example", "MX"]
        if answer is not None:
            world.network.records["d1.example", "MX"] = answer
        client = await world.client(speaks)
        told = await client.transact("u@d1.example", "u@d0.example")
        other_hop = said == TAKEN and speaks == "smtp" and not group_domains
        assert told.rcpts == (said, ANOTHER_HOP if other_hop else TAKEN)
        assert set(told.outcomes) == {DONE}
        assert world.events("path_down") == []


async def test_a_look_up_without_an_answer(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, World(nursery, mx_hop()) as world:
        world.network.query_delays["d1.example", "MX"] = 1000
        client = await world.client("lmtp")
        told = await client.envelope("u@d1.example", "u@d0.example")
        assert told.rcpts == (NOT_FOUND, TAKEN)
        assert trio.current_time() == 30
        await client.stream.aclose()


# Apart


async def test_apart(autojump_clock: MockClock) -> None:
    """Plain SMTP: who shares the first one's hosts is in, the rest comes again."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop(hosts=2)) as world:
        mail(world, "d1.example", "10 a2.mx.example.")
        for slow in ("d0.example", "d2.example"):
            world.network.query_delays[slow, "MX"] = 2
        client = await world.client("smtp")
        recipients = ("u@d0.example", "u@d1.example", "u@d2.example", "v@d1.example", "v@d0.example")
        told = await client.transact(*recipients)
        assert told.rcpts == (TAKEN, ANOTHER_HOP, TAKEN, ANOTHER_HOP, TAKEN)
        assert told.outcomes == (DONE,)
        assert got(world) == [recipients[0::2]]
        assert world.messages == {"a1": 1, "a2": 0}


@pytest.mark.parametrize("group_domains", [False, True], ids=["alone", "grouped"])
async def test_apart_behind_a_refused_one(group_domains: bool, autojump_clock: MockClock) -> None:
    """The first one accepted decides, by the order of RCPTs and not of answers."""
    script = Script(recipients={"u@d0.example": "550 5.1.1 no such user"})
    hop = Hop("a", script, mx=(10,), domains=DOMAINS, group_domains=group_domains)
    async with trio.open_nursery() as nursery, World(nursery, hop, Hop("b")) as world:
        world.network.query_delays["d0.example", "MX"] = 2
        world.network.records["d1.example", "MX"] = NoAnswer.NO_SUCH_DOMAIN
        client = await world.client("smtp")
        told = await client.transact("u@d0.example", "u@d1.example", "u@b.example", "u@d2.example")
        assert told.rcpts == ("550 5.1.1 no such user", NO_SUCH, TAKEN, ANOTHER_HOP)
        assert world.messages == {"a1": 0, "b1": 1}


# Ended meanwhile


@pytest.mark.parametrize("speaks", BOTH)
@pytest.mark.parametrize("group_domains", [False, True], ids=["alone", "grouped"])
@pytest.mark.parametrize("how", ["leaves", "drain"])
async def test_ended_while_look_ups_are_under_way(
    how: str, group_domains: bool, speaks: Speaks, autojump_clock: MockClock
) -> None:
    """Whoever is still there is answered, in order, and nothing is left."""
    async with (
        trio.open_nursery() as nursery,
        World(nursery, mx_hop(group_domains=group_domains), timeouts=Timeouts(drain=5)) as world,
    ):
        for domain in DOMAINS[1:]:
            world.network.query_delays[domain, "MX"] = 1000
        client = await world.client(speaks)
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 ...")
        await client.play("\n".join(f"C: RCPT TO:<u@{domain}>" for domain in (*DOMAINS, DOMAINS[0])))
        assert await client.reply() == TAKEN
        await trio.sleep(1)
        if how == "leaves":
            await client.stream.aclose()
            await client.ended.wait()
            await wait_all_tasks_blocked()
            assert trio.current_time() == 1
            assert world.network.open_streams == 0
        else:
            nursery.start_soon(world.gateway.drain)  # noqa: ASYNC111
            said = [await client.reply() for _ in range(3)]
            if speaks == "smtp" and not group_domains:  # another domain is another next hop, whatever DNS says
                assert said == [ANOTHER_HOP, ANOTHER_HOP, TAKEN]
                assert trio.current_time() == 1
            else:
                # With grouped domains the last one's place is behind those that are being looked up.
                assert said == [STOPPED, STOPPED, STOPPED if group_domains else TAKEN]
                assert trio.current_time() == 6
            await client.play("S: 421 ...\nS.")
        await trio.sleep(6)


@pytest.mark.parametrize("speaks", BOTH)
async def test_taken_back_while_look_ups_are_under_way(speaks: Speaks, autojump_clock: MockClock) -> None:
    """RSET has its turn when every RCPT is answered: no look-up takes longer than 30 s."""
    async with trio.open_nursery() as nursery, World(nursery, mx_hop()) as world:
        world.network.query_delays["d1.example", "MX"] = 20
        world.network.query_delays["d2.example", "MX"] = 1000
        client = await world.client(speaks)
        await client.play("C: MAIL FROM:<s@in.example>\nS: 250 ...")
        await client.play("\n".join([*(f"C: RCPT TO:<u@{domain}>" for domain in DOMAINS), "C: RSET"]))
        # Apart, a next hop that is not known is another one; what DNS says is heard when it comes again.
        unknown = NOT_FOUND if speaks == "lmtp" else ANOTHER_HOP
        assert [await client.reply() for _ in range(4)] == [TAKEN, TAKEN, unknown, "250 2.0.0 Reset"]
        assert trio.current_time() == 30
        assert (await client.transact("u@d0.example", "u@d1.example")).outcomes[0] == DONE
        assert got(world) == [("u@d0.example", "u@d1.example")]
