"""What is remembered of paths, as stories: (seconds, what happens) and (seconds, what is asked, the answer)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailgate.network import Address, HostName, TcpAddress, UnixAddress
from mailgate.relay.health import STATICS, Family, Health, Outage, PathHealth, Sum
from mailgate.relay.routing import Path
from mailgate.relay.settings import Backbone

ISP_A = Backbone(name="isp-a", sources=("192.0.2.10", "2001:db8:a::10"), helo="a.gw.example")
ISP_B = Backbone(name="isp-b", sources=("198.51.100.10", "2001:db8:b::10"), helo="b.gw.example")
ONE, TWO = TcpAddress("203.0.113.1", 25), TcpAddress("203.0.113.2", 25)
SIX = TcpAddress("2001:db8::1", 25)

PLAIN = Path(ONE)
OTHER = Path(TWO)
UNIX = Path(UnixAddress("/run/lmtp"))
A1, A2, A6 = (Path(address, ISP_A) for address in (ONE, TWO, SIX))
B1, B2 = (Path(address, ISP_B) for address in (ONE, TWO))

What = Callable[[Health, float], object]
Story = Sequence[tuple[float, What] | tuple[float, What, object]]


def failed(path: Path = PLAIN, why: str = "refused", *, static: bool = False) -> What:
    return lambda health, now: health.failed(path, why, now, static=static)


def check_failed(path: Path = PLAIN) -> What:
    return lambda health, now: health.failed(path, "refused", now, static=True, checked=True)


def succeeded(path: Path = PLAIN, *, static: bool = False, latency: float | None = None) -> What:
    return lambda health, now: health.succeeded(path, now, static=static, latency=latency)


def source_missing(path: Path = A1) -> What:
    return lambda health, now: health.source_missing(path, now)


def source_found(path: Path = A1) -> What:
    return lambda health, now: health.source_found(path)


def wanted_by_a_message(path: Path = PLAIN) -> What:
    return lambda health, now: health.want(path, now)


def down(path: Path = PLAIN) -> What:
    return lambda health, now: health.down(path)


def due(path: Path = PLAIN) -> What:
    return lambda health, now: health.due(path, now)


def why(path: Path = PLAIN) -> What:
    return lambda health, now: health.why(path)


def fresh(*paths: Path) -> What:
    return lambda health, now: health.fresh(paths, now)


def wanted(path: Path = PLAIN) -> What:
    return lambda health, now: health.wanted(path, now)


def out_by_checks(path: Path = PLAIN) -> What:
    return lambda health, now: health.out_by_checks(path, now)


def latency(path: Path = PLAIN) -> What:
    return lambda health, now: _shown(health, path).latency


def failures(path: Path = PLAIN) -> What:
    return lambda health, now: _shown(health, path).failures


def down_since(path: Path = PLAIN) -> What:
    return lambda health, now: _shown(health, path).down_since


def _shown(health: Health, path: Path) -> PathHealth:
    return next(one for one in health.records().paths if one.path == path)


def told(story: Story, health: Health) -> tuple[list[tuple[float, object]], list[tuple[float, object]]]:
    """Play a story: what was answered, and what should have been, each with its time."""
    answers: list[tuple[float, object]] = []
    expected: list[tuple[float, object]] = []
    for now, what, *answer in story:
        result = what(health, now)
        if answer:
            answers.append((now, result))
            expected.append((now, answer[0]))
    return answers, expected


def stories(table: dict[str, Story]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("story", table.values(), ids=table.keys())


DOWN: dict[str, Story] = {
    "never seen": [
        (0, down(), False),
        (0, due(), False),
        (0, why(), ""),
        (0, fresh(PLAIN), False),
        (0, wanted(), False),
        (0, out_by_checks(), False),
    ],
    "seen as a success only": [(0, succeeded()), (1, down(), False), (1, due(), False), (1, why(), "")],
    "failed": [(0, failed(why="no route")), (0, down(), True), (9999, down(), True), (9999, why(), "no route")],
    "the last reason": [(0, failed(why="no route")), (1, failed(why="silent")), (1, why(), "silent")],
    "a success ends it": [(0, failed()), (1, succeeded()), (1, down(), False), (99, due(), False), (1, why(), "")],
    "another address is another path": [(0, failed(A1)), (0, down(A2), False), (0, down(A1), True)],
    "another port is another path": [(0, failed(PLAIN)), (0, down(Path(TcpAddress(ONE.ip, 26))), False)],
    "another backbone is another path": [(0, failed(A1)), (0, down(B1), False), (0, down(PLAIN), False)],
    "a path is the same by any name": [
        (0, failed(PLAIN)),
        (0, down(Path(ONE, None, HostName("mx.example", 25))), True),
    ],
    "a unix socket": [(0, failed(UNIX)), (0, down(UNIX), True), (1, succeeded(UNIX)), (1, down(UNIX), False)],
    "found as a stranger, then by configuration": [
        (0, failed(static=False)),
        (1, failed(static=True)),
        (1, down(), True),
        (1, failures(), 2),
        (1, down_since(), 0),
        (2, succeeded(static=False)),
        (2, down(), False),
    ],
    "down since the first failure": [(3, failed()), (9, failed()), (9, down_since(), 3), (9, failures(), 2)],
    "a success forgets failures": [
        (0, failed()),
        (1, failed()),
        (2, succeeded()),
        (2, failures(), 0),
        (2, down_since(), None),
        (3, failed()),
        (3, failures(), 1),
        (3, down_since(), 3),
    ],
}


@stories(DOWN)
def test_down(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


BACK_OFF: dict[str, Story] = {
    "1 s": [(0, failed()), (0, due(), False), (0.9, due(), False), (1.1, due(), True), (9999, due(), True)],
    "from the failure": [(100, failed()), (100.9, due(), False), (101.1, due(), True)],
    "doubles to 60 s": [
        (0, failed()),
        (2, failed()),
        (3.9, due(), False),
        (4.1, due(), True),
        (10, failed()),
        (13.9, due(), False),
        (14.1, due(), True),
        (20, failed()),
        (27.9, due(), False),
        (28.1, due(), True),
        (30, failed()),
        (45.9, due(), False),
        (46.1, due(), True),
        (50, failed()),
        (81.9, due(), False),
        (82.1, due(), True),
        (100, failed()),
        (159.9, due(), False),
        (160.1, due(), True),
        (200, failed()),
        (259.9, due(), False),
        (260.1, due(), True),
    ],
    "at the end of it, a further failure is a step": [
        (0, failed()),
        (1, failed()),
        (2.9, due(), False),
        (3, due(), True),
    ],
    "ten messages racing onto it are one step": [
        *[(tenth / 100, failed()) for tenth in range(10)],
        (1.0, due(), False),
        (1.1, due(), True),
        (1.1, failures(), 10),
    ],
    "counts from the latest of those": [(0, failed()), (0.9, failed()), (1.8, due(), False), (2.0, due(), True)],
    "starts anew after a success": [
        (0, failed()),
        (2, failed()),
        (3, succeeded()),
        (4, failed()),
        (4.9, due(), False),
        (5.1, due(), True),
    ],
    "each path has its own": [
        (0, failed(A1)),
        (2, failed(A1)),
        (2, failed(B1)),
        (3.1, due(B1), True),
        (3.1, due(A1), False),
    ],
}


@stories(BACK_OFF)
def test_back_off(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


BACKBONES: dict[str, Story] = {
    "out for all hosts of its family": [
        (0, source_missing(A1)),
        (0, down(A1), True),
        (0, down(A2), True),
        (0, down(A6), False),
        (0, down(B1), False),
        (0, down(PLAIN), False),
        (0, due(A6), False),
    ],
    "out for IPv6": [(0, source_missing(A6)), (0, down(A6), True), (0, down(A1), False)],
    "says which source": [
        (0, source_missing(A6)),
        (0, why(A6), "no address of this machine: 2001:db8:a::10, the source on backbone isp-a"),
    ],
    "back once it is bound, on any path": [(0, source_missing(A1)), (1, source_found(A2)), (1, down(A1), False)],
    "of another family: still out": [(0, source_missing(A1)), (1, source_found(A6)), (1, down(A1), True)],
    "another backbone's source: still out": [(0, source_missing(A1)), (1, source_found(B1)), (1, down(A1), True)],
    "found, though never missing": [(0, source_found(A1)), (0, down(A1), False)],
    "a path without backbone cannot be out": [
        (0, source_missing(PLAIN)),
        (0, down(PLAIN), False),
        (0, source_missing(A1)),
        (0, source_found(PLAIN)),
        (0, down(A1), True),
    ],
    "nor one to a unix socket": [
        (0, source_missing(UNIX)),
        (0, down(UNIX), False),
        (0, source_missing(A1)),
        (0, down(UNIX), False),
        (0, source_found(UNIX)),
        (0, down(A1), True),
    ],
    "failed, then its source was lost": [
        (0, failed(A1, "refused")),
        (1, source_missing(A1)),
        (1, why(A1), "no address of this machine: 192.0.2.10, the source on backbone isp-a"),
        (2, source_found(A1)),
        (2, down(A1), True),
        (2, why(A1), "refused"),
    ],
    "a success of one path brings it back for all": [
        (0, source_missing(A1)),
        (1, succeeded(A2)),
        (1, down(A1), False),
        (1, down(A2), False),
    ],
    "a failure of the path leaves it out": [(0, source_missing(A1)), (1, failed(A2)), (1, down(A1), True)],
    "has the same back-off": [
        (0, source_missing(A1)),
        (0.9, due(A2), False),
        (1.1, due(A2), True),
        (2, source_missing(A2)),
        (3.9, due(A1), False),
        (4.1, due(A1), True),
    ],
    "both back-offs, the backbone's longer": [
        (0, failed(A1)),
        (0.5, source_missing(A1)),
        (1.4, due(A1), False),
        (1.6, due(A1), True),
    ],
    "both back-offs, the path's longer": [
        (0, source_missing(A1)),
        (0.5, failed(A1)),
        (1.4, due(A1), False),
        (1.6, due(A1), True),
    ],
    "no failure of the path": [
        (0, succeeded(A1)),
        (1, source_missing(A1)),
        (1, failures(A1), 0),
        (1, down_since(A1), 1),
    ],
}


@stories(BACKBONES)
def test_backbones(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


FRESH: dict[str, Story] = {
    "of a stranger, 5 s": [
        (0, failed()),
        (0, fresh(PLAIN), True),
        (4.9, fresh(PLAIN), True),
        (5, fresh(PLAIN), False),
        (5.1, fresh(PLAIN), False),
    ],
    "of a static host, 15 s": [
        (0, failed(static=True)),
        (14.9, fresh(PLAIN), True),
        (15.1, fresh(PLAIN), False),
    ],
    "of a static host, since its last check": [
        (0, check_failed()),
        (5, check_failed()),
        (19.9, fresh(PLAIN), True),
        (20.1, fresh(PLAIN), False),
    ],
    "of a source, 5 s": [(0, source_missing(A1)), (4.9, fresh(A1), True), (5.1, fresh(A1), False)],
    "of a source that a static path has, 15 s": [
        (0, wanted_by_a_message(A1)),
        (0, source_missing(A1)),
        (14.9, fresh(A1), True),
        (15.1, fresh(A1), False),
    ],
    "of the path or its source, whichever is later": [
        (0, source_missing(A1)),
        (3, failed(A1)),
        (7.9, fresh(A1), True),
        (8.1, fresh(A1), False),
        (20, failed(B1)),
        (23, source_missing(B1)),
        (27.9, fresh(B1), True),
        (28.1, fresh(B1), False),
    ],
    "the last failure among all counts": [
        (0, failed(A1)),
        (3, failed(B1)),
        (7.9, fresh(A1, B1), True),
        (7.9, fresh(B1, A1), True),
        (8.1, fresh(A1, B1), False),
    ],
    "one path is up": [(0, failed(A1)), (0, fresh(A1, B1), False), (0, fresh(B1, A1), False)],
    "one path has come back": [(0, failed(A1)), (0, failed(B1)), (1, succeeded(B1)), (1, fresh(A1, B1), False)],
    "no paths": [(0, fresh(), False)],
}


@stories(FRESH)
def test_fresh(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


WANTED: dict[str, Story] = {
    "for 10 minutes": [(0, wanted_by_a_message()), (599.9, wanted(), True), (600, wanted(), False)],
    "wanted again": [(0, wanted_by_a_message()), (500, wanted_by_a_message()), (1099.9, wanted(), True)],
    "wanting it says nothing of its health": [(0, wanted_by_a_message()), (0, down(), False), (0, due(), False)],
    "failing or being back does not end it": [
        (0, wanted_by_a_message()),
        (5, failed(static=True)),
        (6, succeeded(static=True)),
        (599.9, wanted(), True),
    ],
    "each path on its own": [(0, wanted_by_a_message(A1)), (0, wanted(B1), False)],
    "a check is not somebody": [(0, check_failed()), (0, wanted(), False)],
    "a path that failed as a stranger's": [
        (0, failed()),
        (1, wanted_by_a_message()),
        (1, down(), True),
        (1, wanted(), True),
    ],
}


@stories(WANTED)
def test_wanted(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


def checks(start: int, end: int, path: Path = PLAIN) -> list[tuple[float, What]]:
    """One that fails every 5 s."""
    return [(now, check_failed(path)) for now in range(start, end + 1, 5)]


OUT: dict[str, Story] = {
    "for 30 s": [*checks(0, 25), (29.9, out_by_checks(), False), (30, out_by_checks(), True)],
    "not from a single check": [(0, check_failed()), (30.1, out_by_checks(), False)],
    "the last one under 15 s ago": [*checks(0, 30), (44.9, out_by_checks(), True), (45, out_by_checks(), False)],
    "a success ends it": [*checks(0, 30), (31, succeeded(static=True)), (31, out_by_checks(), False)],
    "anybody's success ends it": [*checks(0, 30), (31, succeeded(static=False)), (31, out_by_checks(), False)],
    "and it takes 30 s again": [
        *checks(0, 30),
        (31, succeeded(static=True)),
        *checks(35, 60),
        (64.9, out_by_checks(), False),
        (65.1, out_by_checks(), True),
    ],
    "messages' failures are no checks": [
        *[(now, failed(static=True)) for now in range(0, 35, 5)],
        (35, out_by_checks(), False),
    ],
    "what a message met before the first check does not count": [
        (0, failed(static=True)),
        *checks(10, 35),
        (39.9, out_by_checks(), False),
        (40.1, out_by_checks(), True),
    ],
    "what a message met after the last check does not count": [
        *checks(0, 30),
        (40, failed(static=True)),
        (44.9, out_by_checks(), True),
        (45.1, out_by_checks(), False),
    ],
    "29.9 s without a check": [
        (0, check_failed()),
        (29.9, check_failed()),
        (30.1, out_by_checks(), True),
    ],
    "30 s without a check: the path may have been up": [
        (0, check_failed()),
        (30, check_failed()),
        (30.1, out_by_checks(), False),
        (45, check_failed()),
        (59.9, out_by_checks(), False),
        (60, check_failed()),
        (60.1, out_by_checks(), True),
    ],
    "messages' failures do not bridge that": [
        (0, check_failed()),
        (20, failed(static=True)),
        (35, check_failed()),
        (35.1, out_by_checks(), False),
    ],
    "a source that is missing for 30 s": [
        *[(now, source_missing(A1)) for now in range(0, 30, 5)],
        (29.9, out_by_checks(A2), False),
        (30.1, out_by_checks(A2), True),
        (30.1, out_by_checks(B2), False),
        (39.9, out_by_checks(A2), True),
        (40.1, out_by_checks(A2), False),
    ],
    "the path's own 30 s, though the source is lost since": [
        *checks(0, 25, A1),
        (28, source_missing(A1)),
        (30.1, out_by_checks(A1), True),
    ],
}


@stories(OUT)
def test_out_by_checks(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


LATENCY: dict[str, Story] = {
    "the first one": [(0, succeeded(latency=0.8)), (0, latency(), 0.8)],
    "smoothed": [(0, succeeded(latency=0.8)), (1, succeeded(latency=1.6)), (1, latency(), pytest.approx(0.9))],
    "not measured": [(0, succeeded()), (0, latency(), None)],
    "not measured this time": [(0, succeeded(latency=0.8)), (1, succeeded()), (1, latency(), 0.8)],
    "kept while it is down": [(0, succeeded(latency=0.8)), (1, failed()), (1, latency(), 0.8)],
}


@stories(LATENCY)
def test_latency(story: Story) -> None:
    answers, expected = told(story, Health())
    assert answers == expected


# The order of paths. Chance is a list of numbers: the lower, the earlier.


class Dice:
    """Numbers that are known beforehand."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = list(numbers)

    def random(self) -> float:
        return self._numbers.pop(0)


ALL = [A1, A2, B1, B2]
FALLING, RISING = (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)

# What has happened; the backbones in the route's order; the one to keep; chance; the order
ORDER: dict[str, tuple[Story, tuple[Backbone, ...], str | None, tuple[float, ...], list[Path]]] = {
    "the route's order of backbones": ([], (ISP_A, ISP_B), None, RISING, [A1, A2, B1, B2]),
    "the other way round": ([], (ISP_B, ISP_A), None, RISING, [B1, B2, A1, A2]),
    "hosts at random, inside a backbone": ([], (ISP_A, ISP_B), None, FALLING, [A2, A1, B2, B1]),
    "the backbone to keep comes first": ([], (ISP_A, ISP_B), "isp-b", RISING, [B1, B2, A1, A2]),
    "the one to keep is first anyway": ([], (ISP_A, ISP_B), "isp-a", RISING, [A1, A2, B1, B2]),
    "the one to keep is none of the route's": ([], (ISP_A, ISP_B), "isp-c", RISING, [A1, A2, B1, B2]),
    "a backbone that the route does not name": ([], (ISP_B,), None, RISING, [B1, B2, A1, A2]),
    "no backbones named: chance": ([], (), None, FALLING, [B2, B1, A2, A1]),
    "what is down comes last": ([(0, failed(A1))], (ISP_A, ISP_B), None, RISING, [A2, B1, B2, A1]),
    "even if it is to be kept": (
        [(0, failed(B1)), (0, failed(B2))],
        (ISP_A, ISP_B),
        "isp-b",
        RISING,
        [A1, A2, B1, B2],
    ),
    "all down: as if all were up": ([(0, failed(one)) for one in ALL], (ISP_B, ISP_A), None, RISING, [B1, B2, A1, A2]),
    "a source is missing": ([(0, source_missing(A1))], (ISP_A, ISP_B), None, RISING, [B1, B2, A1, A2]),
}


@pytest.mark.parametrize(("story", "backbones", "first", "chance", "order"), ORDER.values(), ids=ORDER.keys())
def test_order(
    story: Story, backbones: tuple[Backbone, ...], first: str | None, chance: tuple[float, ...], order: list[Path]
) -> None:
    health = Health()
    told(story, health)
    assert health.order(ALL, backbones, Dice(*chance), first) == order


def test_paths_without_backbones_are_in_random_order() -> None:
    assert Health().order([PLAIN, OTHER, UNIX], (), Dice(0.5, 0.1, 0.3)) == [OTHER, UNIX, PLAIN]


def test_order_of_nothing() -> None:
    assert Health().order([], (ISP_A,), Dice()) == []


# Memory


def stranger(number: int) -> Path:
    return Path(TcpAddress(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 25))


def test_dead_strangers_do_not_make_a_static_path_forgotten() -> None:
    health = Health()
    health.failed(PLAIN, "refused", 0, static=True)
    for number in range(10_001):
        health.failed(stranger(number), "no route", 1, static=False)
    assert health.down(PLAIN)
    assert len(health.records().paths) == 10_001


def test_of_static_paths_there_is_an_end_too() -> None:
    """Their host names may have other addresses every minute. The one unused for longest is forgotten."""
    health = Health()
    for number in range(STATICS):
        health.want(stranger(number), 0)
    health.down(stranger(0))
    health.want(stranger(STATICS), 0)
    assert [health.wanted(stranger(number), 0) for number in (0, 1, 2, STATICS)] == [True, False, True, True]
    assert len(health.records().paths) == STATICS


# What is done with the older of two strangers, when there is room for two and a third comes: is it kept?
USES: dict[str, tuple[What, bool]] = {
    "nothing": (lambda health, now: None, False),
    "displayed": (lambda health, now: health.records(), False),
    "failed again": (failed(PLAIN), True),
    "asked whether it is down": (down(PLAIN), True),
    "asked whether it is due": (due(PLAIN), True),
    "put in order": (lambda health, now: health.order([PLAIN], (), Dice(0)), True),
}


@pytest.mark.parametrize(("use", "kept"), USES.values(), ids=USES.keys())
def test_the_stranger_unused_for_longest_is_forgotten(use: What, kept: bool) -> None:
    health = Health(strangers=2)
    health.failed(PLAIN, "refused", 0, static=False)
    health.failed(OTHER, "refused", 1, static=False)
    use(health, 2)
    health.failed(UNIX, "refused", 3, static=False)
    assert [health.down(path) for path in (PLAIN, OTHER, UNIX)] == [kept, not kept, True]


def test_a_stranger_that_became_static_makes_room_among_strangers() -> None:
    health = Health(strangers=1)
    health.failed(PLAIN, "refused", 0, static=False)
    health.want(PLAIN, 1)
    health.failed(OTHER, "refused", 2, static=False)
    assert [health.down(path) for path in (PLAIN, OTHER)] == [True, True]


# Display


def test_records_of_paths() -> None:
    health = Health()
    health.succeeded(PLAIN, 1, static=True, latency=0.25)
    health.failed(OTHER, "refused", 2, static=False)
    health.failed(OTHER, "silent", 5, static=False)
    assert health.records().paths == (
        PathHealth(PLAIN, True, None, 0, "", retry_at=None, last_success=1, latency=0.25),
        PathHealth(OTHER, False, 2, 2, "silent", retry_at=7, last_success=None, latency=None),
    )


def test_records_of_a_path_whose_backbone_is_out_too() -> None:
    """They say what `down` and `due` say."""
    health = Health()
    health.failed(A1, "refused", 2, static=True)
    health.source_missing(A1, 3)
    why = "no address of this machine: 192.0.2.10, the source on backbone isp-a"
    assert health.records().paths == (PathHealth(A1, True, 2, 1, why, retry_at=4, last_success=None, latency=None),)
    assert health.records().outages == (Outage("isp-a", Family.IPV4, 3, 1, why, retry_at=4),)


def test_records_come_static_first_then_by_last_use() -> None:
    health = Health()
    for path, static in ((PLAIN, False), (OTHER, False), (A1, True), (B1, True)):
        health.succeeded(path, 0, static=static)
    health.down(PLAIN)
    assert [one.path for one in health.records().paths] == [B1, A1, PLAIN, OTHER]


def test_sums_are_by_host_and_by_backbone() -> None:
    mx = HostName("mx.example", 25)
    health = Health()
    health.failed(Path(ONE, ISP_A, mx), "refused", 0, static=False)
    health.failed(Path(ONE, ISP_A, mx), "refused", 0, static=False)
    health.failed(Path(SIX, ISP_A, mx), "refused", 0, static=False)
    health.succeeded(Path(ONE, ISP_B, mx), 0, static=False)
    health.succeeded(OTHER, 0, static=False)
    records = health.records()
    assert sorted(records.hosts, key=lambda one: one.name) == [
        Sum("203.0.113.2:25", paths=1, down=0, failures=0),
        Sum("mx.example:25", paths=3, down=2, failures=3),
    ]
    assert sorted(records.backbones, key=lambda one: one.name) == [
        Sum("isp-a", paths=2, down=2, failures=3),
        Sum("isp-b", paths=1, down=0, failures=0),
    ]


def test_a_path_is_displayed_by_the_host_it_was_found_for_last() -> None:
    health = Health()
    for name in ("mx1.example", "mx2.example"):
        health.succeeded(Path(ONE, None, HostName(name, 25)), 0, static=False)
    assert [one.name for one in health.records().hosts] == ["mx2.example:25"]


def test_records_of_nothing() -> None:
    records = Health().records()
    assert (records.paths, records.hosts, records.backbones, records.outages) == ((), (), (), ())


# Whatever happens

ADDRESSES: list[Address] = [ONE, TWO, SIX, UnixAddress("/run/lmtp")]
PATHS = [Path(address, backbone) for address in ADDRESSES for backbone in (None, ISP_A, ISP_B)]

happenings = st.sampled_from(PATHS).flatmap(
    lambda path: st.sampled_from(
        [
            failed(path),
            failed(path, static=True),
            check_failed(path),
            succeeded(path),
            succeeded(path, static=True, latency=0.1),
            source_missing(path),
            source_found(path),
            wanted_by_a_message(path),
        ]
    )
)
lives = st.lists(st.tuples(st.floats(0, 100), happenings), max_size=40)


def lived(life: list[tuple[float, What]]) -> tuple[Health, float]:
    """A health with a past, and its present time."""
    health, now = Health(strangers=3), 0.0
    for pause, what in life:
        now += pause
        what(health, now)
    return health, now


@given(life=lives, path=st.sampled_from(PATHS), static=st.booleans())
def test_a_success_ends_whatever_was(life: list[tuple[float, What]], path: Path, static: bool) -> None:
    health, now = lived(life)
    health.succeeded(path, now, static=static)
    assert not health.down(path)
    assert health.why(path) == ""


@given(life=lives, later=st.floats(0, 1000))
def test_what_is_not_down_is_nothing_worse(life: list[tuple[float, What]], later: float) -> None:
    health, now = lived(life)
    for path in PATHS:
        worse = (
            health.due(path, now + later),
            health.fresh([path], now + later),
            health.out_by_checks(path, now + later),
        )
        assert health.down(path) or not any(worse)
        assert health.down(path) == (health.why(path) != "")


@given(life=lives)
def test_what_is_down_is_due_within_60_s(life: list[tuple[float, What]]) -> None:
    health, now = lived(life)
    assert [health.due(path, now + 60) for path in PATHS] == [health.down(path) for path in PATHS]


@given(life=lives)
def test_the_number_of_strangers_is_bounded(life: list[tuple[float, What]]) -> None:
    health, _ = lived(life)
    assert sum(not one.static for one in health.records().paths) <= 3


@given(life=lives, seed=st.integers(0, 99), first=st.sampled_from([None, "isp-a", "isp-b"]))
def test_order_loses_no_path(life: list[tuple[float, What]], seed: int, first: str | None) -> None:
    health, _ = lived(life)
    ordered = health.order(PATHS, (ISP_A, ISP_B), random.Random(seed), first)
    assert sorted(map(str, ordered)) == sorted(map(str, PATHS))
    assert [health.down(path) for path in ordered] == sorted(health.down(path) for path in PATHS)
