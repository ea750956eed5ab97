"""Every test runs with a scheduler seed, so that a failure can be repeated."""

from __future__ import annotations

import os
import random
from collections.abc import Generator

import pytest

from mailgate.testing import seeded

SEED_VARIABLE = "MAILGATE_TEST_SEED"

_seed_key = pytest.StashKey[int]()


@pytest.fixture(autouse=True)
def scheduler_seed(request: pytest.FixtureRequest) -> int:
    """The seed of Trio's scheduler in this test: from the environment, else random."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().getrandbits(32))
    request.node.stash[_seed_key] = seed
    seeded(seed)
    return seed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse what pytest-trio silently ignores: a clock that is no parameter, so that a test sleeps for real."""
    for item in items:
        if not isinstance(item, pytest.Function) or "autojump_clock" not in item.fixturenames:
            continue
        if "autojump_clock" not in item._fixtureinfo.argnames:
            raise pytest.UsageError(f"{item.nodeid}: take autojump_clock as a parameter, not by usefixtures")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the seed where a test failed."""
    report = yield
    seed = item.stash.get(_seed_key, None)
    if report.failed and seed is not None:
        report.sections.append(("scheduler seed", f"repeat with {SEED_VARIABLE}={seed}"))
    return report
