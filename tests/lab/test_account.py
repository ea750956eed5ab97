"""Whether everything that was sent arrived once, in cases made up here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from lab.account import LATE, NEAR, WAITS, Account, account
from lab.gateway import LAPSE, Told
from lab.mailbox import Copy
from lab.wire import Asked, Transaction

ANN = "ann@example.org"
BOB = "bob@example.net"

FIRST = Copy("m1", "ann", time=100, via=(("gw1", "A1"),), bounce=False)
SECOND = Copy("m1", "ann", time=110, via=(("gw2", "B2"),), bounce=False)
THIRD = Copy("m1", "ann", time=120, via=(("gw2", "C3"),), bounce=False)

UNKNOWN = Told("A1", ANN, begun=99, ended=101, kind="unknown", untold=False)
"""what the log of gw1 may say of FIRST"""


def of_copies(
    *copies: Copy, told: Sequence[tuple[str, Told]] = (), crashes: Sequence[tuple[str, float]] = ()
) -> Account:
    """The account of m1 to ann, of which so many copies came."""
    return account([("m1", ANN)], [(ANN, copy) for copy in copies], {}, told, crashes, [])


def changed(**changes: object) -> list[tuple[str, Told]]:
    return [("gw1", dataclasses.replace(UNKNOWN, **changes))]  # type: ignore[arg-type]


def test_one_copy_is_as_it_should_be() -> None:
    assert of_copies(FIRST) == Account(1, (), (), (), 0, ())


# Lost

LOST = {
    "nothing came": [],
    "another message came": [(ANN, dataclasses.replace(FIRST, message="m2"))],
    "it came to another recipient": [(BOB, FIRST)],
}


@pytest.mark.parametrize("copies", LOST.values(), ids=LOST)
def test_lost(copies: list[tuple[str, Copy]]) -> None:
    assert account([("m1", ANN)], copies, {}, [], [], []).lost == (f"m1 to {ANN}",)


def test_of_two_recipients_the_one_without_a_copy_has_lost_it() -> None:
    assert account([("m1", ANN), ("m1", BOB)], [(ANN, FIRST)], {}, [], [], []).lost == (f"m1 to {BOB}",)


def test_what_no_recipient_had_to_get_is_not_lost() -> None:
    """A recipient that was refused is not expected to get anything."""
    assert account([], [], {}, [], [], []) == Account(0, (), (), (), 0, ())


def test_taken_by_a_server_without_mailboxes_is_not_lost() -> None:
    came = account([("m1", ANN)], [], {("m1", ANN): [100.0]}, [], [], [])
    assert (came.copies, came.lost, came.duplicates) == (1, (), ())


def test_taken_twice_by_a_server_without_mailboxes_is_a_duplicate() -> None:
    came = account([("m1", ANN)], [], {("m1", ANN): [100.0, 101.0]}, [], [], [])
    assert (came.copies, len(came.duplicates)) == (2, 1)


# A second copy: what the log of gw1 says, when which gateway crashed, and the kind that explains it

LAPSED = ("gw1", Told("", ANN, begun=101, ended=101, kind=LAPSE, untold=False))

UNTOLD_LINE = Told("A1", ANN, begun=0, ended=105, kind="delivered", untold=True)

Logged = tuple[list[tuple[str, Told]], list[tuple[str, float]], str]

EXPLAINED: dict[str, Logged] = {
    "unknown": (changed(), [], "unknown"),
    "untold by its key": (changed(kind="delivered", untold=True), [], "untold"),
    "untold by a line of its own": ([*changed(kind="delivered"), ("gw1", UNTOLD_LINE)], [], "untold"),
    "crashed just after it": ([], [("gw1", 100.5)], "crashed over"),
    "crashed long after it": ([], [("gw1", 500)], "crashed over"),
    "crashed, by clocks that differ": ([], [("gw1", 100 - NEAR)], "crashed over"),
    "crashed, of several times": ([], [("gw1", 50), ("gw1", 101)], "crashed over"),
    "the log is ahead": (changed(begun=100 + NEAR, ended=103), [], "unknown"),
    "the log is behind": (changed(begun=97, ended=100 - NEAR), [], "unknown"),
    "not put into the ledger": ([LAPSED], [], "not in the shared ledger"),
    "unknown, and another one told": ([*changed(kind="deferred", recipient=BOB), *changed()], [], "unknown"),
}


@pytest.mark.parametrize(("told", "crashes", "kind"), EXPLAINED.values(), ids=EXPLAINED)
def test_a_second_copy_explained(told: list[tuple[str, Told]], crashes: list[tuple[str, float]], kind: str) -> None:
    came = of_copies(FIRST, SECOND, told=told, crashes=crashes)
    assert (came.excused, came.duplicates) == ((f"m1 to {ANN}: 2 copies, {kind}",), ())


def test_it_does_not_matter_which_copy_is_explained() -> None:
    assert of_copies(SECOND, FIRST, told=changed()).excused == (f"m1 to {ANN}: 2 copies, unknown",)


UNEXPLAINED: dict[str, tuple[list[tuple[str, Told]], list[tuple[str, float]]]] = {
    "nothing is known": ([], []),
    "heard": (changed(kind="delivered"), []),
    "deferred": (changed(kind="deferred"), []),
    "rejected": (changed(kind="rejected"), []),
    "unknown for another recipient": (changed(recipient=BOB), []),
    "unknown by another gateway": ([("gw2", UNKNOWN)], []),
    "unknown in another session": (changed(session="A2"), []),
    "unknown later in the session": (changed(begun=100.1 + NEAR, ended=110), []),
    "unknown earlier in the session": (changed(begun=70, ended=99.9 - LATE), []),
    "untold to another recipient": (changed(kind="delivered", untold=True, recipient=BOB), []),
    "untold by another gateway": ([("gw2", UNTOLD_LINE)], []),
    "untold in another session": (changed(kind="delivered", untold=True, session="A2"), []),
    "another gateway crashed": ([], [("gw3", 101)]),
    "another one not put into the ledger": ([("gw1", dataclasses.replace(LAPSED[1], recipient=BOB))], []),
    "another gateway's not put into the ledger": ([("gw3", LAPSED[1])], []),
    "one before it not put into the ledger": ([("gw1", dataclasses.replace(LAPSED[1], ended=99.9 - NEAR))], []),
    "one long after it not put into the ledger": ([("gw1", dataclasses.replace(LAPSED[1], ended=101 + WAITS))], []),
    "crashed before it": ([], [("gw1", 99.9 - NEAR)]),
    "crashed, but it had been heard": (changed(kind="delivered"), [("gw1", 101.5)]),
}


@pytest.mark.parametrize(("told", "crashes"), UNEXPLAINED.values(), ids=UNEXPLAINED)
def test_a_second_copy_unexplained(told: list[tuple[str, Told]], crashes: list[tuple[str, float]]) -> None:
    came = of_copies(FIRST, SECOND, told=told, crashes=crashes)
    assert (came.excused, came.duplicates) == ((), (f"m1 to {ANN}: 2 copies, by gw1 A1 and gw2 B2",))


def test_a_copy_past_all_gateways_is_a_duplicate() -> None:
    came = of_copies(FIRST, dataclasses.replace(FIRST, via=()))
    assert came.duplicates == (f"m1 to {ANN}: 2 copies, by gw1 A1 and nobody",)


def test_the_gateways_of_a_duplicate_are_told_in_the_order_of_its_way() -> None:
    came = of_copies(FIRST, dataclasses.replace(SECOND, via=(("gw2", "B2"), ("gw1", "E5"))))
    assert came.duplicates == (f"m1 to {ANN}: 2 copies, by gw1 A1 and gw1 E5, gw2 B2",)


def test_three_copies_and_one_excuse_are_a_duplicate() -> None:
    came = of_copies(FIRST, SECOND, THIRD, told=changed())
    assert (came.excused, came.duplicates) == ((), (f"m1 to {ANN}: 3 copies, by gw1 A1 and gw2 B2 and gw2 C3",))


def test_three_copies_and_two_excuses_are_excused() -> None:
    came = of_copies(FIRST, SECOND, THIRD, told=changed(), crashes=[("gw2", 111)])
    assert (came.excused, came.duplicates) == ((f"m1 to {ANN}: 3 copies, unknown, crashed over",), ())


def test_a_copy_that_nobody_was_to_get() -> None:
    came = account([("m1", BOB)], [(BOB, FIRST), (ANN, FIRST)], {}, [], [], [])
    assert came.duplicates == (f"m1 to {ANN}: nobody was to get it",)


def test_the_excuse_of_one_message_is_none_for_another() -> None:
    copies = [dataclasses.replace(copy, message="m2", via=(("gw1", "D4"),)) for copy in (FIRST, SECOND)]
    expected = [("m1", ANN), ("m2", ANN)]
    came = account(expected, [(ANN, copy) for copy in (FIRST, SECOND, *copies)], {}, changed(), [], [])
    assert (came.excused, came.duplicates) == (
        (f"m1 to {ANN}: 2 copies, unknown",),
        (f"m2 to {ANN}: 2 copies, by gw1 D4 and gw1 D4",),
    )


# Transfers

TRANSFER = Transaction(
    started=99,
    client="10.0.0.1",
    server="10.0.1.25",
    port=25,
    lmtp=False,
    message="m1",
    sender="ann@gamma.example",
    mail=250,
    recipients=(Asked(ANN, 250),),
    data=354,
    octets=2000,
    complete=True,
    answers=(250,),
    ended=100,
)

TRANSFERS: dict[str, tuple[Transaction, str | None]] = {
    "taken": (TRANSFER, None),
    "taken for the one who was accepted": (
        dataclasses.replace(TRANSFER, recipients=(Asked(BOB, 550), Asked(ANN, 250))),
        None,
    ),
    "taken for one of two": (
        dataclasses.replace(TRANSFER, lmtp=True, recipients=(Asked(ANN, 250), Asked(BOB, 250)), answers=(250, 451)),
        None,
    ),
    "put off after the dot": (dataclasses.replace(TRANSFER, recipients=(Asked(BOB, 250),), answers=(451,)), None),
    "refused after the dot": (dataclasses.replace(TRANSFER, recipients=(Asked(BOB, 250),), answers=(554,)), None),
    "not answered": (dataclasses.replace(TRANSFER, recipients=(Asked(BOB, 250),), answers=(), ended=None), None),
    "nobody asked for": (dataclasses.replace(TRANSFER, recipients=()), "nobody had been accepted"),
    "nobody accepted": (dataclasses.replace(TRANSFER, recipients=(Asked(ANN, 451),)), "nobody had been accepted"),
    "no reply to RCPT": (dataclasses.replace(TRANSFER, recipients=(Asked(ANN, None),)), "nobody had been accepted"),
    "nobody accepted, and cut off": (
        dataclasses.replace(TRANSFER, recipients=(Asked(ANN, 550),), octets=1, complete=False, answers=()),
        "nobody had been accepted",
    ),
    "DATA refused": (dataclasses.replace(TRANSFER, data=451, answers=()), "DATA had not been accepted"),
    "DATA unanswered": (dataclasses.replace(TRANSFER, data=None, answers=()), "DATA had not been accepted"),
    "taken, and never seen": (
        dataclasses.replace(TRANSFER, recipients=(Asked(BOB, 250),)),
        "taken, and it came to nothing",
    ),
    "taken, and another message came": (dataclasses.replace(TRANSFER, message="m2"), "taken, and it came to nothing"),
    "taken without a name": (dataclasses.replace(TRANSFER, message=None), "taken, and it came to nothing"),
}


@pytest.mark.parametrize(("transfer", "why"), TRANSFERS.values(), ids=TRANSFERS)
def test_useless_transfers(transfer: Transaction, why: str | None) -> None:
    came = account([("m1", ANN)], [(ANN, FIRST)], {}, [], [], [transfer])
    assert came.useless == (() if why is None else (f"{transfer.message} from 10.0.0.1 to 10.0.1.25: {why}",))


def test_what_went_to_a_server_without_mailboxes_is_not_useless() -> None:
    assert account([], [], {("m1", ANN): [100.0]}, [], [], [TRANSFER]).useless == ()


def test_what_a_server_with_a_queue_sends_back_is_not_useless() -> None:
    assert account([], [], {}, [], [], [TRANSFER], {("m1", ANN)}).useless == ()


def test_a_bounce_that_arrived_is_not_useless() -> None:
    bounce = dataclasses.replace(TRANSFER, message=None, sender="")
    assert account([], [], {}, [], [], [bounce], {("", ANN)}).useless == ()


def test_that_one_is_sent_back_excuses_no_other() -> None:
    assert len(account([], [], {}, [], [], [TRANSFER], {("m2", ANN), ("m1", BOB), ("", ANN)}).useless) == 1


def test_a_transfer_without_a_body_counts_for_nothing() -> None:
    probe = dataclasses.replace(TRANSFER, recipients=(Asked(ANN, 451),), data=None, octets=0, answers=())
    came = account([("m1", ANN)], [(ANN, FIRST)], {}, [], [], [probe, TRANSFER])
    assert (came.bodies, came.useless) == (1, ())


def test_all_bodies_are_counted() -> None:
    assert account([], [(ANN, FIRST)], {}, [], [], [TRANSFER, TRANSFER, TRANSFER]).bodies == 3
