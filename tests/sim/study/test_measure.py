"""What a run is measured by, on runs of a few messages."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields

import pytest

from mailgate.network import TcpAddress
from sim.records import Attempt, Copy, History, Message, Session, Settled
from sim.site import Topology
from sim.study.failures import HOUR, Calendar, Component, Failure, Manner, Part
from sim.study.layout import SUBMIT
from sim.study.measure import Direction, Evidence, Place, Tally, Transfer, opened, tallied
from sim.study.messages import Planned
from sim.study.relay import Bounce, Stay, Why

R1, R2 = "u0@d1.example", "u1@d2.example"
NAMES = {SUBMIT: "Postfix", "s3": "Exim"}


def evidence(*recipients: str, weight: int = 1, failures: tuple[Failure, ...] = ()) -> Evidence:
    """One outbound message, submitted after 100 s."""
    message = Message("m1", SUBMIT, f"m1@{SUBMIT}.example", recipients, "", 500, 100.0, True)
    return Evidence(Topology.TWO_SITES, [Planned(message, weight)], Calendar(failures))


def measured(found: Evidence) -> Tally:
    return tallied(found, NAMES)[Direction.OUTBOUND, "Postfix"]


def copy(recipient: str, time: float) -> Copy:
    return Copy("m1", recipient, "o1", time, "", ())


def broken(part: Part, name: str, begins: float, ends: float) -> Failure:
    return Failure(Component(part, name), Manner.BLACK_HOLE, begins, ends)


def test_delays_are_those_of_the_first_copies() -> None:
    found = evidence(R1, R2, weight=3)
    found.copies = [copy(R2, 150), copy(R1, 101), copy(R1, 130)]
    tally = measured(found)
    assert sorted(tally.delays) == [(1, 3), (50, 3)]
    assert (tally.recipients, tally.messages, tally.second) == (6, 3, 3)
    assert not tally.late


@pytest.mark.parametrize(
    ("since", "until", "place"),
    [
        (110, 9000, Place.GATEWAY),
        (110, math.inf, Place.GATEWAY),
        (110, 3000, Place.SENDER),
        (4000, 9000, Place.SENDER),
    ],
)
def test_where_it_is_after_an_hour(since: float, until: float, place: Place) -> None:
    found = evidence(R1)
    found.copies = [copy(R1, 9000)]
    found.stays = [Stay("m1", R1, "gw1", since, until)]
    assert measured(found).late == {place: 1}


@pytest.mark.parametrize(
    ("failures", "needless"),
    [
        ((), 1),
        ((broken(Part.BACKBONE, "a", 50, 9500),), 1),
        ((broken(Part.OUTSIDE_SERVER, "1", 50, 9500),), 0),
        ((broken(Part.OUTSIDE_SERVER, "1", 50, 99),), 1),
        ((broken(Part.OUTSIDE_SERVER, "2", 50, 9500),), 1),
        ((broken(Part.BACKBONE, "a", 50, 9500), broken(Part.INSIDE_LINK, "2", 50, 9500)), 0),
        ((broken(Part.BACKBONE, "a", 50, 9500), broken(Part.INSIDE_LINK, "1", 50, 9500)), 1),
        ((broken(Part.ROUTE, "b-1", 0, 150), broken(Part.ROUTE, "a-1", 50, 9500)), 0),
        ((broken(Part.ROUTE, "a-2", 50, 9500), broken(Part.ROUTE, "b-2", 50, 9500)), 1),
    ],
    ids=[
        "nothing",
        "a",
        "server",
        "repaired",
        "another server",
        "a and 2",
        "a and 1",
        "both routes",
        "routes elsewhere",
    ],
)
def test_late_though_there_was_a_way(failures: tuple[Failure, ...], needless: int) -> None:
    found = evidence(R1, failures=failures)
    found.copies = [copy(R1, 9600)]
    tally = measured(found)
    assert tally.late.total() == 1
    assert tally.needless == needless


def test_what_is_never_delivered() -> None:
    found = evidence(R1, R2, "u2@d3.example")
    found.bounces = [Bounce("m1", R1, 500, Why.HOPS)]
    found.settled = [
        Settled("m1", 0, 101, "delivered", "250"),
        Settled("m1", 1, 5 * 86400, "expired", ""),
    ]
    tally = measured(found)
    assert tally.returned == {"too many hops": 1, "expired": 1, "still under way": 1}
    assert tally.late == {Place.SENDER: 2, Place.RETURNED: 1}
    assert tally.sender_seconds == 1 + 5 * 86400 - 100


@pytest.mark.parametrize(
    ("onward", "useless"),
    [
        ((), 1),
        ((Transfer("m1", "gw1", "o1", 130.0, 500),), 0),
        ((Transfer("m1", "gw1", "o1", 109.9, 500),), 0),
        ((Transfer("m1", "gw1", "o1", 171.0, 500),), 1),
        ((Transfer("m1", "gw2", "o1", 130.0, 500),), 1),
        ((Transfer("m2", "gw1", "o1", 130.0, 500),), 1),
    ],
    ids=["never", "soon", "cut-through", "late", "by another one", "another message"],
)
def test_useless_transfers(onward: tuple[Transfer, ...], useless: int) -> None:
    found = evidence(R1, weight=2)
    found.transfers = [Transfer("m1", SUBMIT, "gw1", 110.0, 500), *onward]
    tally = measured(found)
    assert (tally.transfers, tally.useless, tally.useless_octets) == (2, 2 * useless, 1000 * useless)
    assert tally.circling == 0


def test_circling() -> None:
    found = evidence(R1)
    found.transfers = [Transfer("m1", SUBMIT, "gw1", 110.0, 500), Transfer("m1", "gw1", "gw2", 111.0, 520)]
    tally = measured(found)
    assert (tally.circling, tally.circling_octets, tally.useless) == (1, 520, 2)


def test_quantiles_count_those_that_never_come() -> None:
    tally = Tally(recipients=10, delays=[(5, 6), (1, 3)])
    assert tally.quantile(0.3) == 1
    assert tally.quantile(0.5) == 5
    assert tally.quantile(0.9) == 5
    assert tally.quantile(0.99) == math.inf
    assert tally.slowest() == 5


def test_tallies_add_up() -> None:
    one = Tally(recipients=2, delays=[(HOUR, 1)], second=1)
    one.late[Place.SENDER] = 1
    other = Tally(recipients=3, delays=[(1, 2)], second=4)
    other.late[Place.SENDER] = 5
    one.add(other)
    assert one == Tally(recipients=5, delays=[(HOUR, 1), (1, 2)], second=5, late=one.late)
    assert one.late == {Place.SENDER: 6}
    assert other == Tally(recipients=3, delays=[(1, 2)], second=4, late=Counter({Place.SENDER: 5}))


@pytest.mark.parametrize("field", [one.name for one in fields(Tally)])
def test_every_field_is_added(field: str) -> None:
    amounts = {"delays": [(1.0, 2)], "late": Counter({Place.SENDER: 1}), "returned": Counter(expired=1)}
    whole, other = Tally(), Tally()
    setattr(other, field, amounts.get(field, 1))
    whole.add(other)
    assert whole == other != Tally()


@pytest.mark.parametrize(
    ("ends", "sessions"),
    [
        ((("gw1", 200.0, True),), 2),
        ((("gw1", 200.0, False), ("gw2", 230.0, True)), 2),
        ((("gw1", 200.0, True), ("gw2", 230.0, True)), 4),
        ((("gw1", 200.0, False),), 0),
    ],
    ids=["once", "the second gateway", "twice", "never"],
)
def test_sessions_opened_are_connections_that_came_about(
    ends: tuple[tuple[str, float, bool], ...], sessions: int
) -> None:
    history = History(1, ("gw1", "gw2"))
    planned = evidence(R1, R2, R2).messages[0]
    history.messages["m1"] = planned.message
    for gateway, time, established in ends:
        address = TcpAddress(f"10.0.{gateway[-1]}.1", 25)
        for position in range(3):
            history.attempts.append(Attempt("m1", position, address, time + 1e-8 * position, time + 1, "dot", "", ""))
        for _ in (R1, R2):
            session = Session(0, SUBMIT, 0, TcpAddress("10.1.0.11", 0), gateway, 0, address, time)
            session.established = time + 0.1 if established else None
            history.sessions.append(session)
    assert opened(history) == ({"m1": sessions} if sessions else {})


def test_a_session_that_is_used_again_counts_once() -> None:
    history, address = History(1, ("gw1",)), TcpAddress("10.0.1.1", 25)
    history.messages["m1"] = evidence(R1).messages[0].message
    history.attempts = [Attempt("m1", 0, address, time, time + 1, "dot", "", "") for time in (200.0, 201.0)]
    session = Session(0, SUBMIT, 0, TcpAddress("10.1.0.11", 0), "gw1", 0, address, 200.0)
    session.established = 200.1
    history.sessions.append(session)
    assert opened(history) == {"m1": 1}
