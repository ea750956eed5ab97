"""The messages of a run."""

from __future__ import annotations

import pytest

from sim.site import Topology
from sim.study.failures import DAY, YEAR, Component, Failure, Manner, Part, trace
from sim.study.messages import AFTER, BEFORE, GAP, MOST, THINNED, planned

A = Component(Part.BACKBONE, "a")


def test_a_seed_is_one_list() -> None:
    failures = trace(1, Topology.ONE_SITE, 30 * DAY)
    first = planned(1, Topology.ONE_SITE, failures, 30 * DAY)
    assert first == planned(1, Topology.ONE_SITE, failures, 30 * DAY)
    assert [one.message.submitted for one in first] == sorted(one.message.submitted for one in first)


@pytest.mark.parametrize("outbound", [False, True])
def test_those_in_calm_count_for_several(outbound: bool) -> None:
    failures = trace(1, Topology.TWO_SITES, YEAR)
    made = [one for one in planned(1, Topology.TWO_SITES, failures, YEAR) if one.message.outbound is outbound]
    assert sum(one.weight for one in made) == pytest.approx(YEAR / GAP, rel=0.05)
    assert len(made) < YEAR / GAP / 2


def test_what_is_near_a_failure_counts_for_itself() -> None:
    failure = Failure(A, Manner.REFUSES, 10 * DAY, 11 * DAY)
    for one in planned(3, Topology.ONE_SITE, [failure], 20 * DAY):
        near = failure.begins - BEFORE <= one.message.submitted <= failure.ends + AFTER
        assert one.weight == (1 if near else THINNED)


def test_three_recipients_on_average() -> None:
    made = planned(1, Topology.ONE_SITE, [], 4 * YEAR)
    counts = [len(one.message.recipients) for one in made]
    assert sum(counts) / len(counts) == pytest.approx(3, rel=0.1)
    assert min(counts) == 1
    assert 40 <= max(counts) <= MOST


def test_inbound_ones_have_one_domain() -> None:
    for one in planned(1, Topology.ONE_SITE, [], 30 * DAY):
        domains = {recipient.partition("@")[2] for recipient in one.message.recipients}
        assert one.message.outbound or len(domains) == 1
