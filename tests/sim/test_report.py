"""What is made of many seeds' summaries, made up here."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sim import report
from sim.pool import Broken
from sim.records import Kind, Phase, Service, Side
from sim.report import Report
from sim.summary import Duplicate, Exact, Finding, Summary

UP, CLIENT = Side.UPSTREAM, Side.CLIENT

POSSIBLE: report.Possible = {
    (UP, Kind.REFUSED): (Phase.CONNECT,),
    (UP, Kind.RESET): (Phase.DOT, Phase.KEPT),
    (CLIENT, Kind.RESET): (Phase.DOT,),
}

LOST = Finding("delivered_only_when_a_next_hop_took_it", "m12 [0] was told 250 and is nowhere", 12.5, 17)
LEFT = Finding("nothing_is_left", "gw1: 1 connections at rest", 99.0)

DONE = Summary(
    seeds=[1, 2, 3],
    messages=1500,
    recipients=4200,
    simulated=86_400.0 * 731,
    faults={Kind.RESET: 1200, Kind.REFUSED: 7},
    hits={(UP, Kind.REFUSED, Phase.CONNECT): 7, (UP, Kind.RESET, Phase.DOT): 1100},
    duplicates={Duplicate.UNTOLD: 9},
    services={Service.APART: 1, Service.LEDGER: 2},
    exact={Exact.TWINS: 12},
)


def done(seeds: int = 3, **changes: object) -> Summary:
    """`DONE`, with other seeds and whatever else is given."""
    fields = {name: getattr(DONE, name) for name in Summary.__dataclass_fields__}
    return Summary(**{**fields, "seeds": list(range(1, seeds + 1)), **changes})


def shown(made: Report) -> str:
    out = io.StringIO()
    report.show(made, Console(file=out, width=140, highlight=False))
    return out.getvalue()


def test_figures() -> None:
    found = dict(report.figures(Report(total=DONE, possible=POSSIBLE)))

    assert found["seeds"] == "3 (standard)"
    assert found["simulated time"] == "731.0 days (2.0 years)"
    assert found["messages"] == "1,500"
    assert found["faults"] == "1,207"
    assert found["faults: reset"] == "1,200"
    assert found["faults: black hole"] == "0"
    assert found["duplicates: the sender did not read our 2xx"] == "9"
    assert found["duplicates: other"] == "0"
    assert found["seeds: apart"] == "1"
    assert found["seeds: together, with a shared ledger"] == "2"
    assert found["together: recipients handed over"] == "0"
    assert found["together: equal messages sent on purpose"] == "12"


@pytest.mark.parametrize(
    ("seeds", "size", "connect", "dot", "kept"),
    [
        (200, "standard", "7 !", "1,100", "0 !"),
        (199, "standard", "7", "1,100", "0"),
        (200, "small", "7", "1,100", "0"),
    ],
)
def test_cells_with_few_hits_are_marked_in_a_full_run(seeds: int, size: str, connect: str, dot: str, kept: str) -> None:
    header, rows = report.matrix(Report(total=done(seeds), possible=POSSIBLE, size=size), UP)

    assert header == ("", "connect", "dot", "kept")
    assert rows == [("refused", connect, "·", "·"), ("reset", "·", dot, kept)]


def test_the_sides_have_a_matrix_each() -> None:
    assert report.matrix(Report(total=DONE, possible=POSSIBLE), CLIENT) == (("", "dot"), [("reset", "0")])


def test_a_hit_where_none_is_possible_is_seen() -> None:
    strange = Report(total=done(hits={(UP, Kind.REFUSED, Phase.DOT): 2}), possible=POSSIBLE)

    assert report.matrix(strange, UP)[1][0] == ("refused", "0", "2 ?", "·")
    assert report.legend(strange) == "· it cannot happen there; ? it was not thought to be possible there"


def test_when_all_is_well_nothing_is_to_be_replayed() -> None:
    text = shown(Report(total=done(cpu=99.7), possible=POSSIBLE, wall=61.2, jobs=2))

    assert "61 s on 2 processes, 100 s of CPU" in text
    assert "replay" not in text


def test_findings_and_the_command_that_shows_the_first_one() -> None:
    failed = Report(
        total=done(findings=[(17, LOST), (23, LEFT)]),
        broken=(Broken(9, "Traceback (most recent call last):\nRuntimeError: [no] place\n"),),
        possible=POSSIBLE,
        size="small",
    )
    lines = shown(failed).splitlines()

    assert failed.failing == [9, 17, 23]
    assert lines[-7:] == [
        "seed 9: Traceback (most recent call last):",
        "RuntimeError: [no] place",
        f"seed 17: {LOST.promise}: m12 [0] was told 250 and is nowhere (at 12.500 s, session 17)",
        "seed 23: nothing_is_left: gw1: 1 connections at rest (at 99.000 s)",
        "3 of 4 seeds failed. The first one again:",
        "    make sim SEED=9 TRACE=1 SIZE=small",
        "    PYTHONPATH=tests .venv/bin/python -m sim replay 9 --trace --size small",
    ]


def test_only_the_first_findings_are_printed() -> None:
    text = shown(Report(total=done(findings=[(seed, LEFT) for seed in range(1, 31)]), possible=POSSIBLE))

    assert text.count("nothing_is_left") == report.SHOWN
    assert "and 10 more\n" in text


# The page of the documentation

PAGE = """\
# Testing

<!-- figures: make sim SEEDS=200 -->
not run yet
<!-- end -->

The end.
"""


def test_the_block_of_the_page_is_written_anew() -> None:
    once = report.put(PAGE, "make sim SEEDS=3", "first")
    again = report.put(once, "make sim SEEDS=4", "second")

    assert again == PAGE.replace("SEEDS=200", "SEEDS=4").replace("not run yet", "second")


@pytest.mark.parametrize("page", ["# Testing\n", "<!-- figures: x -->\n"])
def test_a_page_without_that_block_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="no block"):
        report.put(page, "make sim", "text")


def test_the_block_says_nothing_of_when_and_where() -> None:
    def block(wall: float, jobs: int, cpu: float) -> str:
        return report.block(Report(total=done(cpu=cpu), possible=POSSIBLE, wall=wall, jobs=jobs))

    assert block(1.0, 1, 2.0) == block(10.0, 8, 20.0)


def test_the_block() -> None:
    lines = report.block(Report(total=DONE, possible=POSSIBLE)).splitlines()

    assert lines[0] == "Seeds 1 to 3; nothing here is typed by hand."
    assert "| messages | 1,500 |" in lines
    assert lines[-7:] == [
        "Clients' sessions with gateways: faults, by the phase that they struck in.",
        "",
        "|  | dot |",
        "| --- | --- |",
        "| reset | 0 |",
        "",
        "· it cannot happen there.",
    ]
