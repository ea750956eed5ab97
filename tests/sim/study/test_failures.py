"""The traces of failures: what a seed stands for, and what the calendar makes of it."""

from __future__ import annotations

import itertools
import math

import pytest

from sim.site import Topology
from sim.study.failures import (
    COMPONENTS,
    DAY,
    HOUR,
    LAWS,
    YEAR,
    Calendar,
    Component,
    Failure,
    Manner,
    Part,
    merged,
    trace,
)

A = Component(Part.BACKBONE, "a")
B = Component(Part.BACKBONE, "b")


def failure(begins: float, ends: float, component: Component = A) -> Failure:
    return Failure(component, Manner.BLACK_HOLE, begins, ends)


@pytest.mark.parametrize("topology", Topology)
def test_a_seed_is_one_trace(topology: Topology) -> None:
    assert trace(1, topology, YEAR) == trace(1, topology, YEAR)
    assert trace(1, topology, YEAR) != trace(2, topology, YEAR)


def test_a_longer_trace_begins_like_a_shorter_one() -> None:
    long, short = trace(1, Topology.TWO_SITES, YEAR), trace(1, Topology.TWO_SITES, YEAR / 2)
    assert long[: len(short)] == short


def test_a_component_fails_in_one_way_at_a_time() -> None:
    of_it: dict[Component, list[Failure]] = {component: [] for component in COMPONENTS}
    for one in trace(1, Topology.TWO_SITES, 5 * YEAR):
        of_it[one.component].append(one)
    for failures in of_it.values():
        for earlier, later in itertools.pairwise(failures):
            assert earlier.begins < earlier.ends < later.begins


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("part", Part)
def test_the_laws_hold_in_the_long_run(topology: Topology, part: Part) -> None:
    law, years = LAWS[topology][part], 400
    of_it = [one for one in trace(1, topology, years * YEAR) if one.component.part is part]
    components = sum(component.part is part for component in COMPONENTS)
    expected = components * years * YEAR / (law.between + law.mean_repair)
    assert len(of_it) == pytest.approx(expected, rel=0.1)
    middle = sorted(one.ends - one.begins for one in of_it)[len(of_it) // 2]
    assert middle == pytest.approx(law.repair, rel=0.15)
    holes = sum(one.manner is Manner.BLACK_HOLE for one in of_it)
    assert holes / len(of_it) == pytest.approx(law.black_holes, abs=0.05)


def test_the_mean_repair_is_that_of_a_lognormal() -> None:
    law = LAWS[Topology.TWO_SITES][Part.INSIDE_LINK]
    assert law.mean_repair == pytest.approx(HOUR * math.exp(0.72))
    assert law.availability == pytest.approx(30 * DAY / (30 * DAY + law.mean_repair))


@pytest.mark.parametrize(
    ("time", "works"), [(9, True), (10, False), (19, False), (20, True), (29, True), (35, False), (40, True)]
)
def test_calendar(time: float, works: bool) -> None:
    calendar = Calendar([failure(5, 50, B), failure(10, 20), failure(30, 40)])
    assert calendar.works(A, time) is works


def test_what_never_fails_works() -> None:
    assert Calendar([]).works(A, 0)


def test_merged() -> None:
    failures = [failure(100, 110), failure(105, 200, B), failure(150, 160), failure(300, 310)]
    assert merged(failures, 10, 20) == [(90, 220), (290, 330)]
