"""Whole runs: a few fixed seeds, seeds that have found something, and that one seed is one run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sim.evidence import domain_of
from sim.faults import POSSIBLE
from sim.plan import draw
from sim.records import STORE_KINDS, Kind, Service
from sim.run import SMALL, STANDARD, Size, simulate
from sim.summary import Summary

CASES: Mapping[str, tuple[int, Size]] = {
    "one site, a backbone is a black hole": (29, SMALL),
    "two sites, an inside link is a black hole": (19, SMALL),
    "an inside server is down": (24, SMALL),
    "an outside server refuses": (34, SMALL),
    "a gateway is down, and a message has 41 recipients": (32, SMALL),
    "a gateway has lost an address, and strangers are busy": (20, SMALL),
    "nothing is broken for long, two bodies are big": (12, SMALL),
    "who waited for room was not told that there was some again": (12, STANDARD),
    "who was put off in vain was not put off again beside one who had the message": (30, SMALL),
    "another message of the sender used the mark up": (55, SMALL),
}
"""what a seed is about. One that led to a fix is named after what was wrong"""


@functools.cache
def _summary(case: str) -> Summary:
    return simulate(*CASES[case]).summary


@pytest.mark.parametrize("case", CASES)
def test_a_seed_keeps_every_promise(case: str) -> None:
    summary = _summary(case)
    assert summary.findings == []
    assert summary.recipients > 50
    assert sum(summary.hits.values()) > 50


def test_faults_strike_everywhere_that_they_can_and_nowhere_else() -> None:
    cells = [cell for case in CASES for cell in _summary(case).hits]
    assert [cell for cell in cells if cell[2] not in POSSIBLE.get(cell[:2], ())] == []
    assert {(side, kind) for side, kind, _ in cells} == set(POSSIBLE)


def test_a_standard_run_is_made_of_what_it_should_be() -> None:
    plans = [draw(seed, STANDARD) for seed in range(20)]
    messages = [message for plan in plans for message in plan.messages]
    counts = [len(message.recipients) for message in messages]
    assert {plan.topology.value for plan in plans} == {"1a", "1b"}
    assert {plan.service for plan in plans} == set(Service)
    together = [plan for plan in plans if plan.service is not Service.APART]
    assert {outage.kind for plan in together for outage in plan.store_outages} == set(STORE_KINDS) - {Kind.STORE_MUTE}
    assert 0.05 < sum(bool(one.twin) for plan in together for one in plan.messages) / (570 * len(together)) < 0.1
    several = [one for plan in together for one in plan.messages if len({domain_of(to) for to in one.recipients}) > 1]
    assert len(several) > 100 * len(together)
    assert 2.7 < sum(counts) / len(counts) < 3.3
    assert min(counts) == 1
    assert max(counts) > 40
    assert 0.005 < sum(message.size > 256 * 1024 for message in messages) / len(messages) < 0.015


def test_one_seed_is_one_run_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-m", "sim", "digest", "3", "--size=small"],
            env={**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(Path(__file__).parent.parent)},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout
        for hashing in ("1", "2")
    }
    assert len(digests) == 1
    assert digests != {simulate(4, SMALL).digest + "\n"}
