"""The page of results, made from results made up here."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections import Counter
from collections.abc import Mapping

import pytest

from lab import conventional, inbound, outbound, results, together, trouble  # noqa: F401 - scenarios register
from lab.account import Account
from lab.run import Result
from lab.scenario import Case, cases
from lab.site import Measured

GOOD = Account(2, lost=(), excused=(), duplicates=(), bodies=4, useless=())

COLUMNS = ["server", "topology", "gateways", "delivered after, by", "copies", "second", "bodies", "useless"]


def case(name: str) -> Case:
    return next(one for one in cases() if one.name == name)


def passed(
    name: str,
    *,
    measured: tuple[Measured, ...] = (),
    remarks: tuple[str, ...] = (),
    account: Account = GOOD,
    versions: Mapping[str, str] | None = None,
) -> Result:
    return Result(case(name), 9.0, (), measured, remarks, account, versions or {})


def failed(name: str, *wrong: str, account: Account | None = None) -> Result:
    return Result(case(name), 9.0, wrong, account=account)


EXIM = "inbound-all-well/exim/1a/mailgate"
POSTFIX = "inbound-all-well/postfix/1a/mailgate"
STUCK = "inbound-inside-cut-drop/postfix/1a/postfix"
BESIDE = "inbound-inside-cut-drop/postfix/1a/mailgate"


def paged(*done: Result, command: str = "make lab", seconds: float = 90) -> str:
    return results.page(done, command, seconds)


def tables(page: str) -> list[list[list[str]]]:
    """Each table of a page: its rows, the column names first."""
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[row for row in table if set(row) != {"---"}] for table in found if table]


def row(result: Result) -> dict[str, str]:
    """The row of a result that is alone on its page."""
    ((columns, only),) = tables(paged(result))
    return dict(zip(columns, only, strict=True))


def test_one_row_for_each_case() -> None:
    done = [passed(one.name) for one in cases()]
    rows = Counter((each[0], each[1], each[2]) for table in tables(paged(*done)) for each in table[1:])
    assert rows == Counter((one.mta.title, one.topology.value, one.scenario.way.value) for one in cases())


def test_one_table_for_each_name_of_a_scenario() -> None:
    page = paged(*(passed(one.name) for one in cases()))
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert sorted(headings) == sorted({one.scenario.name for one in cases()})
    assert len(tables(page)) == len(headings)


def test_the_columns() -> None:
    assert tables(paged(passed(EXIM)))[0][0] == COLUMNS


def test_the_row_of_a_case() -> None:
    account = Account(7, lost=(), excused=("one",), duplicates=("two", "three"), bodies=5, useless=("four",))
    measured = (Measured("first", 1.234, ("gw1", "gw2")), Measured("next", 0.5, ()))
    assert row(passed(EXIM, measured=measured, account=account)) == {
        "server": "Exim",
        "topology": "1a",
        "gateways": "mailgate",
        "delivered after, by": "first: 1.23 gw1 and gw2<br>next: 0.50",
        "copies": "7",
        "second": "3",
        "bodies": "5",
        "useless": "1",
    }


def test_the_row_of_a_case_that_did_not_come_to_its_account() -> None:
    shown = row(failed(EXIM, "no network"))
    assert [shown[name] for name in ("copies", "second", "bodies", "useless")] == ["failed", "", "", ""]


NOTES: dict[str, tuple[Result, str]] = {
    "a failure": (failed(EXIM, "no network"), "- Exim, 1a, mailgate: **failed**: no network"),
    "a failure with an account": (failed(EXIM, "lost: m1", account=GOOD), "- Exim, 1a, mailgate: **failed**: lost: m1"),
    "a remark": (passed(EXIM, remarks=("33 transfers",)), "- Exim, 1a, mailgate: 33 transfers"),
    "an excused copy": (
        passed(EXIM, account=Account(2, (), ("m1 to ann: unknown",), (), 1, ())),
        "- Exim, 1a, mailgate: second copy: m1 to ann: unknown",
    ),
    "a duplicate": (
        passed(EXIM, account=Account(2, (), (), ("m1 to ann: twice",), 1, ())),
        "- Exim, 1a, mailgate: second copy: m1 to ann: twice",
    ),
}


@pytest.mark.parametrize(("result", "note"), NOTES.values(), ids=NOTES)
def test_notes_below_the_table(result: Result, note: str) -> None:
    below = paged(result).rpartition("|")[2]
    assert below.split("\n") == ["", "", note, ""]


def test_the_server_whose_sending_it_is_about_orders_the_rows() -> None:
    (_, *rows) = tables(paged(passed(POSTFIX), passed(EXIM)))[0]
    assert [each[0] for each in rows] == ["Exim", "Postfix"]


def test_a_server_that_a_scenario_has_twice_is_told_with_its_difference() -> None:
    names = [f"together-rejected/{key}/1b/mailgate" for key in ("exim-without-prdr", "exim")]
    page = paged(*(passed(name, remarks=("so",)) for name in names))
    assert [each[0] for each in tables(page)[0][1:]] == ["Exim", "Exim without PRDR"]
    assert "- Exim without PRDR, 1b, mailgate: so" in page.splitlines()


def test_ways_of_one_scenario_share_a_table_and_each_has_its_prose() -> None:
    page = paged(passed(STUCK), passed(BESIDE))
    (_, *rows) = tables(page)[0]
    assert [each[2] for each in rows] == ["mailgate", "postfix gateways"]
    for name in (STUCK, BESIDE):
        scenario = case(name).scenario
        assert f"**{scenario.way.value}.** {scenario.prose}" in page


def test_scenarios_come_in_the_order_in_which_they_are_written() -> None:
    written = ["inbound-two-domains-at-once", "inbound-gateway-stopped", "outbound-all-well"]
    done = [passed(f"{name}/exim/1a/mailgate") for name in reversed(written)]
    assert [line for line in paged(*done).splitlines() if line.startswith("## ")] == [f"## {name}" for name in written]


# The head


def head(*done: Result, command: str = "make lab", seconds: float = 90) -> str:
    return paged(*done, command=command, seconds=seconds).partition("## ")[0]


def test_the_command_and_the_day_are_told() -> None:
    said = head(passed(EXIM), command="make lab ONLY='a b'")
    assert f"Written by `make lab ONLY='a b'` on {datetime.date.today().isoformat()}" in said


COUNTED = {
    "all passed": ([passed(EXIM), passed(POSTFIX)], 90, "- 2 cases in 2 minutes: 2 passed, 0 failed."),
    "one failed": ([passed(EXIM), failed(POSTFIX, "a", "b")], 3600, "- 2 cases in 60 minutes: 1 passed, 1 failed."),
    "none": ([], 0, "- 0 cases in 0 minutes: 0 passed, 0 failed."),
}


@pytest.mark.parametrize(("done", "seconds", "line"), COUNTED.values(), ids=COUNTED)
def test_cases_are_counted(done: list[Result], seconds: float, line: str) -> None:
    assert line in head(*done, seconds=seconds).splitlines()


def test_what_came_of_mail_by_mailgate_is_added_up() -> None:
    one = Account(10, ("l",), ("e", "e"), ("d", "d", "d"), 99, ("u", "u", "u", "u"))
    two = Account(1, (), (), (), 99, ())
    done = (failed(EXIM, "lost", account=one), passed(POSTFIX, account=two), failed(BESIDE, "it has no account"))
    assert (
        "- With mailgate: 11 copies delivered, 1 lost, 2 second copies of the kinds that SMTP cannot avoid, 3 others, "
        "4 useless transfers." in head(*done).splitlines()
    )


def test_what_came_of_mail_by_other_gateways_is_not_added_to_mailgates() -> None:
    elsewhere = Account(10, ("l",), ("e",), ("d",), 99, ("u",))
    assert "- With mailgate: 2 copies delivered, 0 lost, 0 second" in head(
        passed(EXIM), passed(STUCK, account=elsewhere)
    )


def test_versions_are_told_once_each() -> None:
    said = head(
        passed(EXIM, versions={"Exim": "Exim 4.96", "Postfix": "Postfix 3.7"}),
        passed(POSTFIX, versions={"Postfix": "Postfix 3.7"}),
    )
    assert [line for line in said.splitlines() if line.startswith(("- Exim", "- Postfix"))] == [
        "- Exim: Exim 4.96",
        "- Postfix: Postfix 3.7",
    ]


def test_mailgates_version_is_told() -> None:
    assert f"- mailgate {importlib.metadata.version('mailgate')}" in head().splitlines()


@pytest.mark.parametrize("column", COLUMNS)
def test_the_legend_explains_every_column(column: str) -> None:
    """That which its name does not: who the gateways are."""
    said = " ".join(head().split())
    assert column == "gateways" or all(f"*{part}*" in said for part in column.split(", "))


# The terminal


def test_the_terminal_shows_a_row_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    results.show([passed(EXIM), failed(POSTFIX, "no network")])
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["inbound-all-well"] in shown
    assert [line for line in shown if line[:1] in (["Exim"], ["Postfix"])] == [
        ["Exim", "1a", "mailgate", "2", "0", "4", "0"],
        ["Postfix", "1a", "mailgate", "failed"],
    ]
