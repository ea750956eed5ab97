"""Ways to cut octets into what a stream might give: whatever the cut, the result must be the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import settings

Cut = Callable[[bytes], list[bytes]]


def _every(length: int) -> Cut:
    return lambda octets: [octets[start : start + length] for start in range(0, len(octets), length)]


def at(octets: bytes, *places: int) -> list[bytes]:
    """Cut at these places; those outside are counted from the start again."""
    bounds = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(bounds)]


CUTS: dict[str, Cut] = {
    "whole": lambda octets: [octets],
    "byte by byte": _every(1),
    "by threes": _every(3),
}

each_cut = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())

no_deadline = settings(deadline=None)
"""for hypothesis on machines that have other things to do, too"""
