"""What the scenarios have in common: every one has prose, and a cast that can play it."""

from __future__ import annotations

from collections import Counter

import pytest

from lab import conventional, inbound, outbound, together, trouble  # noqa: F401 - scenarios register
from lab.mta import Mta, Role
from lab.mtas import DOVECOT, EXIM, EXIM_WITHOUT_PRDR, OPENSMTPD, POSTFIX, ROOTS, SENDMAIL
from lab.scenario import SCENARIOS, SENDERS, Scenario, cases
from lab.site import Way
from lab.topology import SITE_DOMAINS, machines

FIVE = {mta.name: mta for mta in (POSTFIX, EXIM, SENDMAIL, OPENSMTPD, DOVECOT)}

EACH = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.name}-{scenario.way.name}")

WITH_MAILGATE = [scenario for scenario in SCENARIOS if scenario.way is Way.MAILGATE]

EACH_WITH_MAILGATE = pytest.mark.parametrize("scenario", WITH_MAILGATE, ids=lambda scenario: scenario.name)

EACH_CONVENTIONAL = pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in SCENARIOS if scenario.way is not Way.MAILGATE],
    ids=lambda scenario: f"{scenario.name}-{scenario.way.name}",
)

TOGETHER = [one for one in SCENARIOS if one.group == "together"]

INSIDE_ROLES = (Role.INSIDE, Role.MOODY, Role.FULL, Role.FULL_FOR_NOW, Role.PLAIN)

FROM_OUTSIDE = [one for one in WITH_MAILGATE if one.group == "inbound"]


def about(scenario: Scenario, mta: Mta) -> str:
    """The machine whose server a scenario is about."""
    return "sender" if "sender" in scenario.cast(mta) else "mail1"


def inside_receivers(scenario: Scenario) -> set[str]:
    """The servers inside that are not the one it is about."""
    return {
        player.name
        for mta in scenario.mtas
        for machine, (player, role) in scenario.cast(mta).items()
        if role is Role.INSIDE and machine != about(scenario, mta)
    }


@EACH
def test_it_has_prose(scenario: Scenario) -> None:
    assert scenario.prose


@EACH
def test_its_prose_begins_with_a_sentence(scenario: Scenario) -> None:
    assert scenario.prose.partition("\n\n")[0].endswith(".")


def test_names_are_unique_for_each_way() -> None:
    names = Counter((scenario.name, scenario.way) for scenario in SCENARIOS)
    assert [name for name, times in names.items() if times > 1] == []


def test_names_of_cases_are_unique() -> None:
    names = Counter(case.name for case in cases())
    assert [name for name, times in names.items() if times > 1] == []


def test_those_come_first_that_mostly_wait() -> None:
    waiting = [case.scenario.waits for case in cases()]
    assert waiting == sorted(waiting, reverse=True)


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name)
def test_there_are_scenarios_of_each_way(way: Way) -> None:
    assert any(scenario.way is way for scenario in SCENARIOS)


@pytest.mark.parametrize("group", ["inbound", "outbound", "together", "trouble"])
def test_there_are_scenarios_of_each_group(group: str) -> None:
    assert any(scenario.group == group for scenario in WITH_MAILGATE)


@EACH
def test_its_name_begins_with_its_group(scenario: Scenario) -> None:
    assert scenario.name.startswith(f"{scenario.group}-")


@EACH_CONVENTIONAL
def test_a_conventional_way_has_a_partner_with_mailgate(scenario: Scenario) -> None:
    (partner,) = [one for one in WITH_MAILGATE if one.name == scenario.name]
    assert {mta.name for mta in scenario.mtas} <= {mta.name for mta in partner.mtas}
    assert set(scenario.topologies) <= set(partner.topologies)


# Who plays


def test_the_senders_are_four() -> None:
    assert {mta.name for mta in SENDERS} == FIVE.keys() - {"Dovecot"}


@EACH_WITH_MAILGATE
def test_every_server_that_sends_is_the_one_it_is_about(scenario: Scenario) -> None:
    """Some are about servers only that leave a gateway for the next one after a 4xx."""
    assert {mta.name for mta in SENDERS} - {mta.name for mta in scenario.mtas} <= {
        mta.name for mta in SENDERS if not mta.goes_on
    }


@EACH
def test_the_server_it_is_about_plays_the_sender(scenario: Scenario) -> None:
    for mta in scenario.mtas:
        assert scenario.cast(mta)[about(scenario, mta)][0] is mta


@pytest.mark.parametrize("name", FIVE)
def test_every_server_is_a_receiver_inside(name: str) -> None:
    assert any(name in inside_receivers(scenario) for scenario in SCENARIOS)


@pytest.mark.parametrize("scenario", FROM_OUTSIDE, ids=lambda scenario: scenario.name)
def test_in_every_scenario_from_outside_each_of_the_five_receives(scenario: Scenario) -> None:
    assert inside_receivers(scenario) == set(FIVE)


def test_dovecot_is_spoken_to_by_lmtp_and_all_others_by_smtp() -> None:
    assert {name: mta.speaks for name, mta in FIVE.items()} == {
        name: "lmtp" if name == "Dovecot" else "smtp" for name in FIVE
    }


@EACH
def test_everybody_is_on_a_machine_of_the_network(scenario: Scenario) -> None:
    for topology in scenario.topologies:
        there = {machine.name for machine in machines(topology)}
        for mta in scenario.mtas:
            assert scenario.cast(mta).keys() <= there


@EACH
def test_everybody_has_the_role(scenario: Scenario) -> None:
    for mta in scenario.mtas:
        for player, role in scenario.cast(mta).values():
            assert role in player.roles, f"{player.name} cannot play {role.value}"


@EACH
def test_those_inside_play_inside_roles(scenario: Scenario) -> None:
    for mta in scenario.mtas:
        for machine, (_, role) in scenario.cast(mta).items():
            assert (role in INSIDE_ROLES) == (machine in SITE_DOMAINS.values())


@EACH
def test_there_is_a_queue_to_hand_over_to_where_gateways_do(scenario: Scenario) -> None:
    wanted = scenario.together is not None and scenario.together.handover
    for mta in scenario.mtas:
        assert {name for name, (_, role) in scenario.cast(mta).items() if role is Role.HANDOVER} == (
            {"handover"} if wanted else set()
        )


@pytest.mark.parametrize("scenario", TOGETHER, ids=lambda scenario: scenario.name)
def test_only_with_and_without_prdr_all_ways_of_several_next_hops_are_seen(scenario: Scenario) -> None:
    assert scenario.together is not None
    assert {mta.prdr for mta in scenario.mtas if mta.root is EXIM.root} == {True, False}


PASSERS = ("sender", "mail1", "handover")
"""machines whose servers pass mail on"""


@EACH
def test_a_server_does_not_receive_from_itself(scenario: Scenario) -> None:
    """In one with mail both ways it is at both ends, and others receive."""
    for mta in scenario.mtas:
        cast = scenario.cast(mta)
        receivers = [player for machine, (player, _) in cast.items() if machine not in PASSERS]
        if about(scenario, mta) == "sender" and cast["mail1"][0] is not mta:
            receivers.append(cast["mail1"][0])
        assert mta not in receivers


@EACH_CONVENTIONAL
def test_gateways_that_store_and_forward_speak_smtp_only(scenario: Scenario) -> None:
    players = [player for mta in scenario.mtas for player, _ in scenario.cast(mta).values()]
    assert {player.speaks for player in players} == {"smtp"}


ROLES = [(mta, role) for mta in (*FIVE.values(), EXIM_WITHOUT_PRDR) for role in mta.roles]


@pytest.mark.parametrize(("mta", "role"), ROLES, ids=[f"{mta.key}-{role.value}" for mta, role in ROLES])
def test_the_files_of_a_role_are_there(mta: Mta, role: Role) -> None:
    assert [file.source for file in mta.roles[role] if not file.source.is_file()] == []


@pytest.mark.parametrize("name", FIVE)
def test_every_server_has_a_root(name: str) -> None:
    assert FIVE[name].root in ROOTS
