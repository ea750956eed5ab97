"""The figures, the page and the plots, of results that were made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sim.site import Topology
from sim.study.designs import Design
from sim.study.failures import DAY
from sim.study.figures import Figures, Result, Run, count, late, not_delivered, span
from sim.study.measure import Direction, Place, Tally
from sim.study.page import page
from sim.study.plots import draw
from sim.study.relay import Why


def results() -> list[Result]:
    """Two seeds; the designs differ in how much is late."""
    made: list[Result] = []
    for seed in (2, 1):
        for topology in Topology:
            for number, design in enumerate(Design):
                tallies = {
                    (Direction.INBOUND, name): _tally(10 * seed * (4 - number)) for name in ("Postfix", "Exim")
                } | {(Direction.OUTBOUND, "Postfix, inside"): _tally(number)}
                made.append(Result(Run(design, topology, seed, 73 * DAY), tallies, 100 * seed, 5000, 1.0))
    return made


def _tally(stuck: int) -> Tally:
    tally = Tally(
        recipients=1000, messages=500, delays=[(0.5, 1000 - stuck), (7200.0, stuck - 1)] if stuck else [(0.5, 1000)]
    )
    tally.late[Place.GATEWAY] = stuck
    if stuck:
        tally.returned["expired"] = 1
    return tally


def test_figures_add_seeds_and_directions_up() -> None:
    figures = Figures(results())
    assert figures.seeds == [1, 2]
    assert figures.years == pytest.approx(2 * 73 / 365.25)
    assert figures.tally(Design.MAILGATE, Topology.ONE_SITE).recipients == 6000
    assert figures.tally(Design.MAILGATE, Topology.ONE_SITE, Direction.INBOUND, "Exim").late.total() == 30
    assert figures.over_seeds(late, Design.MAILGATE, Topology.ONE_SITE) == pytest.approx((23e3 / 3, 43e3 / 3))
    assert figures.senders() == ["Exim", "Postfix"]
    assert figures.failures(Topology.ONE_SITE) == 300


def test_not_delivered() -> None:
    tally = Tally(recipients=10, delays=[(100, 3), (1, 6)])
    assert not_delivered(tally, [0.5, 1, 99, 100, 1e6]) == pytest.approx([1, 0.4, 0.4, 0.1, 0.1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.123, "0.12 s"),
        (42, "42 s"),
        (119, "119 s"),
        (150, "2.5 min"),
        (7200, "2.0 h"),
        (5 * DAY, "5.0 d"),
        (float("inf"), "never"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.034, "0.034"), (3.14, "3.1"), (12345.6, "12,346")])
def test_count(value: float, text: str) -> None:
    assert count(value) == text


def test_the_page_depends_on_the_results_only() -> None:
    text = page(Figures(results()), "make study")
    assert text == page(Figures(reversed(results())), "make study")


def test_only_what_went_in_circles_is_said_to_have_done_so() -> None:
    made = results()
    circled = next(one for one in made if one.run.design is Design.FALLBACK)
    circled.tallies[Direction.OUTBOUND, "Postfix, inside"].returned[Why.HOPS.value] = 12
    assert "  1,000 of a million recipients got nothing at all, because" in page(Figures(made), "make study")


def test_every_table_of_the_page_is_whole() -> None:
    text = page(Figures(results()), "make study")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {line.count("|") for line in table.splitlines()}
        assert len(widths) == 1, table


def test_the_plots_depend_on_the_figures_only(tmp_path: Path) -> None:
    figures = Figures(results())
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        draw(figures, folder)
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    assert names[0]
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_page_shows_every_plot(tmp_path: Path) -> None:
    figures = Figures(results())
    draw(figures, tmp_path)
    shown = re.findall(r"\]\(([^)]*\.svg)\)", page(figures, "make study"))
    assert sorted(shown) == sorted(path.name for path in tmp_path.iterdir())
