"""The designs under a failure that is known, and whole runs."""

from __future__ import annotations

import pytest

from sim.content import content, digest
from sim.records import Message
from sim.site import Topology
from sim.study.designs import Design
from sim.study.experiment import SENDERS, experiment, simulate
from sim.study.failures import DAY, HOUR, Component, Failure, Manner, Part
from sim.study.figures import Run
from sim.study.layout import SUBMIT
from sim.study.measure import Place, Tally, tallied, total
from sim.study.messages import Planned

IN_TIME = "in time"
"""the delivery is made within five minutes: connects that time out take up to 120 s"""

BEGINS, ENDS = 1000.0, 1000.0 + 3 * HOUR
SIZE = 3000


def message(*recipients: str, sender: str) -> Planned:
    """One that is submitted an hour after the failure's begin and two before its end."""
    body = digest(content("m1", SIZE))
    outbound = sender == SUBMIT
    made = Message("m1", sender, f"m1@{sender}.example", recipients, body, SIZE, BEGINS + HOUR, outbound)
    return Planned(made, 1)


INBOUND = message("u0@in1.example", "u1@in1.example", sender="s1")
OUTBOUND = message("u0@d1.example", "u1@d2.example", "u2@d1.example", sender=SUBMIT)


def under(design: Design, topology: Topology, planned: Planned, *failures: Failure) -> Tally:
    """What is measured of one message."""
    evidence = simulate(Run(design, topology, 1, 0.0), failures, [planned])
    return total(tallied(evidence, {host: schedule.name for host, schedule in SENDERS.items()}).values())


def broken(part: Part, name: str, manner: Manner = Manner.BLACK_HOLE) -> Failure:
    return Failure(Component(part, name), manner, BEGINS, ENDS)


QUEUED, SENDER, RETURNED = Place.GATEWAY.value, Place.SENDER.value, Place.RETURNED.value

LINK = broken(Part.INSIDE_LINK, "1")
BACKBONE = broken(Part.BACKBONE, "a")
ROUTE = broken(Part.ROUTE, "a-1")
NO_BACKBONE = broken(Part.BACKBONE, "a", Manner.REFUSES)
NO_ROUTE = broken(Part.ROUTE, "a-1", Manner.REFUSES)
GATEWAY = broken(Part.GATEWAY, "1")
STOPPED = broken(Part.GATEWAY, "1", Manner.REFUSES)
SERVER = broken(Part.OUTSIDE_SERVER, "1", Manner.REFUSES)
INSIDE = broken(Part.INSIDE_SERVER, "1")

ALL = (IN_TIME,) * 4


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize(
    ("planned", "failure", "outcomes"),
    [
        (INBOUND, LINK, (QUEUED, IN_TIME, IN_TIME, IN_TIME)),
        (INBOUND, BACKBONE, ALL),
        (INBOUND, ROUTE, ALL),
        (INBOUND, GATEWAY, ALL),
        (INBOUND, STOPPED, ALL),
        (INBOUND, INSIDE, (QUEUED, QUEUED, SENDER, SENDER)),
        (OUTBOUND, LINK, ALL),
        (OUTBOUND, BACKBONE, (QUEUED, IN_TIME, IN_TIME, IN_TIME)),
        (OUTBOUND, ROUTE, (QUEUED, IN_TIME, IN_TIME, IN_TIME)),
        (OUTBOUND, NO_BACKBONE, (QUEUED, IN_TIME, IN_TIME, IN_TIME)),
        (OUTBOUND, NO_ROUTE, (QUEUED, IN_TIME, IN_TIME, IN_TIME)),
        (OUTBOUND, GATEWAY, ALL),
        (OUTBOUND, STOPPED, ALL),
        (OUTBOUND, SERVER, (QUEUED, RETURNED, SENDER, SENDER)),
    ],
    ids=[
        "inbound, inside link",
        "inbound, backbone",
        "inbound, route",
        "inbound, gateway",
        "inbound, gateway stopped",
        "inbound, server",
        "outbound, inside link",
        "outbound, backbone",
        "outbound, route",
        "outbound, backbone refuses",
        "outbound, route refuses",
        "outbound, gateway",
        "outbound, gateway stopped",
        "outbound, server",
    ],
)
def test_what_a_failure_does(planned: Planned, failure: Failure, outcomes: tuple[str, ...], topology: Topology) -> None:
    for design, outcome in zip(Design, outcomes, strict=True):
        tally = under(design, topology, planned, failure)
        if outcome == IN_TIME:
            assert not tally.late, design
            assert tally.slowest() < 300, design
            assert tally.returned == {}, design
        else:
            assert list(tally.late) == [Place(outcome)], design


@pytest.mark.parametrize("part", [Part.BACKBONE, Part.ROUTE])
@pytest.mark.parametrize(("manner", "least", "most"), [(Manner.REFUSES, 0, 5), (Manner.BLACK_HOLE, 30, 60)])
def test_how_long_it_takes_to_notice(part: Part, manner: Manner, least: float, most: float) -> None:
    failure = broken(part, "a" if part is Part.BACKBONE else "a-1", manner)
    assert least < under(Design.PAPER, Topology.TWO_SITES, OUTBOUND, failure).slowest() < most


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize(
    ("planned", "failures", "sessions"),
    [(INBOUND, (), 1), (OUTBOUND, (), 2), (OUTBOUND, (GATEWAY,), 2), (OUTBOUND, (STOPPED,), 2)],
    ids=["a domain", "two domains", "gateway", "gateway stopped"],
)
def test_sessions_that_the_sender_opened(
    planned: Planned, failures: tuple[Failure, ...], sessions: int, design: Design
) -> None:
    assert under(design, Topology.TWO_SITES, planned, *failures).sessions == sessions


def test_a_run_is_a_function_of_its_seed() -> None:
    run = Run(Design.MAILGATE, Topology.TWO_SITES, 2, 3 * DAY)
    assert experiment(run).tallies == experiment(run).tallies


@pytest.mark.parametrize("design", Design)
def test_everybody_is_accounted_for(design: Design) -> None:
    result = experiment(Run(design, Topology.TWO_SITES, 2, 4 * DAY))
    tally = total(result.tallies.values())
    assert tally.recipients == sum(count for _, count in tally.delays) + tally.returned.total()
    assert "still under way" not in tally.returned
