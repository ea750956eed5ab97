"""Each checker, on histories that nobody ran: it is silent where the promise was kept, and fires where it was not."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from sim import histories_done, histories_kept, histories_together, histories_told
from sim.checker import CHECKS, check, merge, summarize
from sim.duplicates import duplicates
from sim.evidence import Evidence
from sim.expectations import Listening, of_both_topologies
from sim.histories import Builder, Silence, crash
from sim.histories_kept import DENIED, KEPT, NO, A, B, Tell, X
from sim.records import Kind
from sim.schedules import POSTFIX, POSTFIX_INSIDE
from sim.summary import Duplicate

BROKEN = (*histories_told.BROKEN, *histories_done.BROKEN, *histories_together.BROKEN)

SITE = dataclasses.replace(of_both_topologies(), schedules={"osend1": POSTFIX, "isend1": POSTFIX_INSIDE})


@pytest.mark.parametrize("tell", [*KEPT, *histories_together.KEPT], ids=lambda tell: tell.__name__)
def test_nothing_is_found_where_all_promises_were_kept(tell: Tell) -> None:
    world = Builder()
    tell(world)
    assert check(world.history, SITE) == []


@pytest.mark.parametrize(("tell", "promises"), BROKEN, ids=lambda about: getattr(about, "__name__", ""))
def test_what_was_broken_is_found_and_nothing_else(tell: Tell, promises: tuple[str, ...]) -> None:
    world = Builder()
    tell(world)
    assert {finding.promise for finding in check(world.history, SITE)} == set(promises)


def test_each_checker_has_a_story_that_breaks_its_promise() -> None:
    assert {promise for _, promises in BROKEN for promise in promises} == {one.__name__ for one in CHECKS}


@pytest.mark.parametrize(
    ("tell", "why"),
    [
        (histories_kept.plain, None),
        (histories_kept.twice_the_same_address, None),
        (histories_kept.unknown_and_again, None),
        (histories_kept.reset_as_the_reply_came, Duplicate.UNKNOWN),
        (histories_kept.untold, Duplicate.UNTOLD),
        (histories_kept.too_late_to_be_heard, None),
        (histories_kept.half_told, Duplicate.UNTOLD),
        (histories_kept.copies_by_another_session, Duplicate.UNTOLD),
        (histories_together.mixed_and_known, None),
        (histories_together.mixed_and_out_of_reach, Duplicate.MIXED),
        (histories_together.mixed_and_lost, Duplicate.MIXED),
        (histories_together.sent_again_though_it_was_known, Duplicate.OTHER),
        (histories_done.sent_again_for_nothing, Duplicate.OTHER),
    ],
)
def test_duplicates_are_told_apart(tell: Tell, why: Duplicate | None) -> None:
    world = Builder()
    tell(world)
    assert duplicates(Evidence(world.history, SITE)) == Counter([] if why is None else [why])


@pytest.mark.parametrize(
    "time",
    [
        1.73,  # before the reply came to it
        1.765,  # as its own was on its way
    ],
)
def test_a_crash_behind_the_dot_explains_a_copy(time: float) -> None:
    world = Builder()
    message = world.message(A)
    crash(world, world.relay(message), time)
    world.relay(message, at=900.0, gateway="gw2")
    assert check(world.history, SITE) == []
    assert duplicates(Evidence(world.history, SITE)) == Counter([Duplicate.CRASHED])


def test_an_unknown_outcome_explains_a_copy() -> None:
    world = Builder()
    message = world.message(A)
    world.relay(message)
    relayed = world.relay(message, at=900.0, dots={A: Silence.LOST})
    first = world.history.copies[0]
    via = (f"{relayed.client.number:012x}",)
    world.history.copies[0] = dataclasses.replace(first, time=900.74, via=via)
    world.history.copies.append(first)
    assert duplicates(Evidence(world.history, SITE)) == Counter([Duplicate.UNKNOWN])


def test_a_run_in_figures() -> None:
    world = Builder()
    world.relay(world.message(A, B), rcpts={B: NO})
    world.relay(world.message(X, sender="stranger", at=20.0), at=20.0, rcpts={X: DENIED})
    world.fault(Kind.CRASH, "in2", 3.0, 4.0)
    world.history.left.append("a file")
    summary = summarize(world.history, check(world.history, SITE), SITE)
    assert (summary.messages, summary.recipients, summary.delivered, summary.refused) == (1, 2, 1, 1)
    assert (summary.attempts, summary.sessions, summary.faults) == (2, 4, {Kind.CRASH: 1})
    assert (summary.lost, summary.half, summary.wrong, summary.left, summary.late) == (0, 0, 0, 1, 0)


def test_lost_is_not_counted_as_wrong_as_well() -> None:
    world = Builder()
    histories_told.lost(world)
    summary = summarize(world.history, check(world.history, SITE), SITE)
    assert (summary.lost, summary.wrong) == (1, 0)


def test_runs_add_up() -> None:
    summaries = []
    for seed in (1, 2):
        world = Builder()
        world.history.seed = seed
        histories_done.sent_again_for_nothing(world)
        summaries.append(summarize(world.history, check(world.history, SITE), SITE))
    total = merge(summaries)
    assert (total.seeds, total.messages, total.delivered) == ([1, 2], 2, 4)
    assert total.duplicates == {Duplicate.OTHER: 2}
    assert [seed for seed, _ in total.findings] == [1, 2]


@pytest.mark.parametrize(
    ("patterns", "domain", "serves"),
    [
        (("corp.example",), "corp.example", True),
        (("corp.example",), "CORP.example", True),
        (("corp.example",), "sub.corp.example", False),
        ((".corp.example",), "sub.corp.example", True),
        ((".corp.example",), "corp.example", False),
        ((".corp.example",), "evilcorp.example", False),
        (("*",), "d1.example", True),
        ((), "corp.example", False),
    ],
)
def test_a_listener_serves_what_its_routes_take(patterns: tuple[str, ...], domain: str, serves: bool) -> None:
    assert Listening(patterns).serves(domain) is serves
