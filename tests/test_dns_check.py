"""`check --dns`: what DNS says of our addresses → what is said of it. DNS is a table, and time virtual."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock

from mailgate.config import Config, parse
from mailgate.dns_check import MOST_NAMES, Report, check
from mailgate.network import Answer, NoAnswer
from mailgate.testing import MemoryNetwork

CONFIG = """\
hostname = "gw1.example.org"

[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["10.0.0.1:24"]
clients = ["10.0.0.0/8"]
routes = ["outside"]

[[route]]
name = "outside"
domains = ["*"]
mx = true
"""

Records = Mapping[tuple[str, str], tuple[str, ...] | NoAnswer]


def with_backbones(*backbones: tuple[str, str]) -> Config:
    """Backbones a, b and so on, each a list of sources, and a HELO name."""
    names = "abcdefgh"[: len(backbones)]
    tables = "".join(
        f'[[backbone]]\nname = "{name}"\nsource = [{sources}]\nhelo = "{helo}"\n'
        for name, (sources, helo) in zip(names, backbones, strict=True)
    )
    return parse(f"{CONFIG}backbones = {list(names)}\n{tables}")


def network_with(records: Records, nursery: trio.Nursery) -> MemoryNetwork:
    network = MemoryNetwork(nursery)
    for question, answer in records.items():
        network.records[question] = answer if isinstance(answer, NoAnswer) else Answer(answer, 300)
    return network


async def said(config: Config, records: Records, nursery: trio.Nursery) -> tuple[Report, list[str]]:
    """What is found, and all problems as a person sees them."""
    report = await check(config, network_with(records, nursery))
    problems = [*report.problems, *(problem for one in report.checked for problem in one.problems)]
    return report, [str(problem) for problem in problems]


# One IPv4 source, HELO name gw1-a.example.org: records → what is said behind 'backbone "a": source 192.0.2.10: '

PTR = "10.2.0.192.in-addr.arpa", "PTR"
HELO = "gw1-a.example.org", "A"
OTHER = "other.example.net", "A"

ASK = "ask the provider whose address it is for the record: 10.2.0.192.in-addr.arpa. PTR gw1-a.example.org."
ADD = "whoever keeps the zone of that name has to add: gw1-a.example.org. A 192.0.2.10"
AGAIN = "try again; if it fails again, see to the servers in [dns], or to those of the system"

V4: dict[str, tuple[Records, list[str]]] = {
    "all is there": ({PTR: ("gw1-a.example.org.",), HELO: ("192.0.2.10",)}, []),
    "in other letters": ({PTR: ("GW1-A.Example.ORG.",), HELO: ("192.0.2.10",)}, []),
    "among other addresses and names": (
        {PTR: ("a.example.net.", "gw1-a.example.org.", "z.example."), HELO: ("192.0.2.9", "192.0.2.10")},
        [],
    ),
    "no PTR": ({HELO: ("192.0.2.10",)}, [f"there is no PTR record for it; {ASK}"]),
    "no PTR, but others at that name": (
        {PTR: NoAnswer.NO_DATA, HELO: ("192.0.2.10",)},
        [f"there is no PTR record for it; {ASK}"],
    ),
    "PTR cannot be looked up": (
        {PTR: NoAnswer.TEMPORARY, HELO: ("192.0.2.10",)},
        [f"the look-up of its PTR record (10.2.0.192.in-addr.arpa) failed, so nothing is known of it; {AGAIN}"],
    ),
    "HELO name does not exist": (
        {PTR: ("gw1-a.example.org.",)},
        [f"its HELO name, gw1-a.example.org, does not exist; {ADD}"],
    ),
    "HELO name has no address": (
        {PTR: ("gw1-a.example.org.",), HELO: NoAnswer.NO_DATA},
        [f"its HELO name, gw1-a.example.org, has no A record; {ADD}"],
    ),
    "HELO name leads elsewhere": (
        {PTR: ("gw1-a.example.org.",), HELO: ("192.0.2.98", "192.0.2.99")},
        [f"its HELO name, gw1-a.example.org, leads to 192.0.2.98, 192.0.2.99 instead; {ADD}"],
    ),
    "HELO name cannot be looked up": (
        {PTR: ("gw1-a.example.org.",), HELO: NoAnswer.TEMPORARY},
        [f"the look-up of its HELO name, gw1-a.example.org (A) failed, so nothing is known of it; {AGAIN}"],
    ),
    "PTR names another, which leads back": (
        {PTR: ("other.example.net.",), HELO: ("192.0.2.10",), OTHER: ("192.0.2.10",)},
        [
            "its PTR record says other.example.net, but its HELO name is gw1-a.example.org; "
            f'write helo = "other.example.net", or {ASK}'
        ],
    ),
    "PTR names two others, one leads back, one cannot be looked up": (
        {PTR: ("a.example.", "other.example.net."), HELO: ("192.0.2.10",), OTHER: ("192.0.2.10",)}
        | {("a.example", "A"): NoAnswer.TEMPORARY},
        [
            "its PTR record says a.example, other.example.net, but its HELO name is gw1-a.example.org; "
            f'write helo = "other.example.net", or {ASK}'
        ],
    ),
    "PTR names another, which leads elsewhere": (
        {PTR: ("other.example.net.",), HELO: ("192.0.2.10",), OTHER: ("192.0.2.99",)},
        [
            "its PTR record says other.example.net, which leads to 192.0.2.99 instead, "
            f"but its HELO name is gw1-a.example.org; {ASK}",
        ],
    ),
    "PTR names another, which cannot be looked up": (
        {PTR: ("other.example.net.",), HELO: ("192.0.2.10",), OTHER: NoAnswer.TEMPORARY},
        [
            "the look-up of the name in its PTR record, other.example.net (A) failed, so nothing is known of it; "
            + AGAIN,
            f"its PTR record says other.example.net, but its HELO name is gw1-a.example.org; {ASK}",
        ],
    ),
    "nothing at all": (
        {},
        [
            f"there is no PTR record for it; {ASK}",
            f"its HELO name, gw1-a.example.org, does not exist; {ADD}",
        ],
    ),
    "text for a terminal": (
        {PTR: ("\x1b[2J.",), HELO: ("192.0.2.10",)},
        [
            f"its PTR record says \\u001b[2j, which does not exist, but its HELO name is gw1-a.example.org; {ASK}",
        ],
    ),
}


@pytest.mark.parametrize(("records", "expected"), V4.values(), ids=V4)
async def test_a_source(
    records: Records, expected: list[str], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    report, problems = await said(with_backbones(('"192.0.2.10"', "gw1-a.example.org")), records, nursery)
    assert problems == [f'backbone "a": source 192.0.2.10: {problem}' for problem in expected]
    assert report.is_good == (not expected)
    assert report.remarks == ()


PTR6 = "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.a.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR"


async def test_each_family_has_records_of_its_own(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    records: Records = {
        PTR: ("gw1-a.example.org.",),
        PTR6: ("gw1-a.example.org.",),
        HELO: ("192.0.2.10",),
        ("gw1-a.example.org", "AAAA"): ("2001:DB8:A:0::11",),
    }
    config = with_backbones(('"192.0.2.10", "2001:db8:a::10"', "gw1-a.example.org"))
    report, problems = await said(config, records, nursery)
    assert [bool(one.problems) for one in report.checked] == [False, True]
    assert problems == [
        'backbone "a": source 2001:db8:a::10: its HELO name, gw1-a.example.org, leads to 2001:DB8:A:0::11 instead; '
        "whoever keeps the zone of that name has to add: gw1-a.example.org. AAAA 2001:db8:a::10"
    ]


async def test_an_address_may_be_written_in_another_way(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    records: Records = {PTR6: ("gw1-a.example.org.",), ("gw1-a.example.org", "AAAA"): ("2001:DB8:A:0::10",)}
    _, problems = await said(with_backbones(('"2001:db8:a::10"', "gw1-a.example.org")), records, nursery)
    assert problems == []


async def test_backbones_are_told_apart(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    config = with_backbones(('"192.0.2.10"', "gw1-a.example.org"), ('"198.51.100.10"', "gw1-a.example.org"))
    report, problems = await said(config, {PTR: ("gw1-a.example.org.",), HELO: ("192.0.2.10",)}, nursery)
    assert [one.source.ip for one in report.checked if not one.problems] == ["192.0.2.10"]
    assert [problem.split(";")[0] for problem in problems] == [
        'backbone "b": source 198.51.100.10: there is no PTR record for it',
        'backbone "b": source 198.51.100.10: its HELO name, gw1-a.example.org, leads to 192.0.2.10 instead',
    ]


PRIVATE = ["10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "127.0.1.1", "::1", "fd00::1"]


@pytest.mark.parametrize("source", PRIVATE)
async def test_a_private_address_is_not_asked_about(
    source: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network = network_with({}, nursery)
    report = await check(with_backbones((f'"{source}"', "gw1-a.example.org")), network)
    assert [str(problem) for one in report.checked for problem in one.problems] == [
        f'backbone "a": source {source}: is a private address, so others see another one, that of a NAT: DNS can say '
        "nothing of this one; have that one's PTR record name gw1-a.example.org, and gw1-a.example.org resolve to it; "
        "only you can check that"
    ]
    assert network.queries == []


async def test_a_helo_name_that_is_an_address(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    records: Records = {PTR: ("a.example.",), ("a.example", "A"): ("192.0.2.10",)}
    _, problems = await said(with_backbones(('"192.0.2.10"', "[192.0.2.10]")), records, nursery)
    assert problems == [
        'backbone "a": source 192.0.2.10: its HELO name, [192.0.2.10], is an address literal, which many servers '
        "refuse; write a name that resolves to 192.0.2.10 as `helo`"
    ]


async def test_a_helo_name_that_is_an_address_and_a_name_that_leads_elsewhere(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    _, problems = await said(with_backbones(('"192.0.2.10"', "[192.0.2.10]")), {PTR: ("a.example.",)}, nursery)
    assert problems[0] == (
        'backbone "a": source 192.0.2.10: its PTR record says a.example, which does not exist; '
        "whoever keeps the zone of that name has to add: a.example. A 192.0.2.10"
    )


# Without backbones the hostname's addresses are looked at

BY_HOSTNAME: dict[str, tuple[Records, list[str]]] = {
    "all is there": (
        {PTR: ("gw1.example.org.",), ("gw1.example.org", "A"): ("192.0.2.10",)},
        [],
    ),
    "another name": (
        {PTR: ("a.example.",), ("gw1.example.org", "A"): ("192.0.2.10",), ("a.example", "A"): ("192.0.2.10",)},
        [
            "hostname gw1.example.org: address 192.0.2.10: its PTR record says a.example, but its HELO name is "
            'gw1.example.org; write hostname = "a.example", or ask the provider whose address it is for the record: '
            "10.2.0.192.in-addr.arpa. PTR gw1.example.org."
        ],
    ),
    "no address": (
        {("gw1.example.org", "A"): NoAnswer.NO_DATA},
        [
            "hostname gw1.example.org: DNS has no address for it; add an A or AAAA record to its zone, or write the "
            "sources of your uplinks in [[backbone]] tables"
        ],
    ),
    "cannot be looked up": (
        {("gw1.example.org", "A"): NoAnswer.TEMPORARY},
        [
            "hostname gw1.example.org: the look-up of its addresses (AAAA, A) failed, so nothing is known of it; "
            f"{AGAIN}"
        ],
    ),
}


@pytest.mark.parametrize(("records", "expected"), BY_HOSTNAME.values(), ids=BY_HOSTNAME)
async def test_no_backbone(
    records: Records, expected: list[str], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    report, problems = await said(parse(CONFIG), records, nursery)
    assert problems == expected
    assert report.is_good == (not expected)
    (remark,) = report.remarks
    assert remark.startswith("There is no backbone to check: the system chooses the address")


async def test_a_hostname_that_is_an_address(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    config = parse(CONFIG.replace('"gw1.example.org"', '"[IPv6:2001:db8:a::10]"'))
    _, problems = await said(config, {}, nursery)
    where = "hostname [IPv6:2001:db8:a::10]: address 2001:db8:a::10"
    assert problems == [
        f"{where}: there is no PTR record for it; "
        "ask the provider whose address it is for one that says the name you choose",
        f"{where}: its HELO name, [IPv6:2001:db8:a::10], is an address literal, which many servers refuse; "
        "write a name that resolves to 2001:db8:a::10 as `hostname`",
    ]


# How it asks


async def test_questions_are_asked_together_and_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    config = with_backbones(('"192.0.2.10"', "gw1-a.example.org"), ('"192.0.2.11"', "gw1-a.example.org"))
    other_ptr = "11.2.0.192.in-addr.arpa", "PTR"
    records: Records = {PTR: ("gw1-a.example.org.",), other_ptr: ("other.example.net.",), HELO: ("192.0.2.10",)}
    network = network_with(records, nursery)
    network.query_delays = {PTR: 3, other_ptr: 1, HELO: 2, OTHER: 4}
    seen: list[tuple[int, int]] = []
    await check(config, network, lambda answers, questions: seen.append((answers, questions)))
    assert sorted((query.time, query.name) for query in network.queries) == [
        (0, PTR[0]),
        (0, other_ptr[0]),
        (0, HELO[0]),
        (3, OTHER[0]),
    ]
    assert trio.current_time() == 7
    assert seen == [(1, 3), (2, 3), (3, 3), (4, 4)]


async def test_a_helo_name_that_is_an_address_is_not_looked_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network = network_with({}, nursery)
    await check(with_backbones(('"192.0.2.10"', "[192.0.2.10]")), network)
    assert [query.name for query in network.queries] == [PTR[0]]


async def test_an_address_of_hundreds_of_names(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    names = tuple(f"a{number}.example." for number in range(500))
    network = network_with({PTR: (*names, "gw1-a.example.org."), HELO: ("192.0.2.10",)}, nursery)
    report = await check(with_backbones(('"192.0.2.10"', "gw1-a.example.org")), network)
    assert report.is_good
    assert len(network.queries) == 1 + MOST_NAMES
