"""Marks with a time to live, as stories; and their names: different for what differs, and telling nobody an address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mailgate.protocol.command import Mailbox, ReversePath
from mailgate.relay.ledger import LEDGER_LIFE, PUT_OFF_LIFE, Digest, Marks, entry, put_off

LIFE = 100.0
ROOM = 3


@dataclass(frozen=True)
class Add:
    """A mark is made."""

    mark: str


@dataclass(frozen=True)
class Take:
    """A mark is taken away, if it is there."""

    mark: str
    there: bool


@dataclass(frozen=True)
class Restore:
    """Marks are taken over, with the seconds that they had left."""

    marks: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Left:
    """What there is: marks and the seconds they have left, the oldest first."""

    marks: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Evicted:
    """How many are gone before their time."""

    count: int


Step = Add | Take | Restore | Left | Evicted

# Of marks that live for 100 s, with room for three: what is done when.
STORIES: dict[str, Sequence[tuple[float, Step]]] = {
    "none": [(0, Take("a", there=False)), (0, Left(()))],
    "taken once": [(0, Add("a")), (1, Take("a", there=True)), (2, Take("a", there=False))],
    "taken by its name": [(0, Add("a")), (1, Take("b", there=False)), (2, Take("a", there=True))],
    "to the last second": [(0, Add("a")), (99.9, Take("a", there=True))],
    "and no longer": [(0, Add("a")), (100, Take("a", there=False))],
    "taken late it is gone for good": [(0, Add("a")), (100, Take("a", there=False)), (0, Left(()))],
    "made anew it lives anew": [(0, Add("a")), (60, Add("a")), (159.9, Take("a", there=True))],
    "made twice, taken once": [(0, Add("a")), (0, Add("a")), (1, Take("a", there=True)), (1, Take("a", there=False))],
    "the oldest goes first": [
        *[(time, Add(mark)) for time, mark in enumerate("abcd")],
        (4, Evicted(1)),
        (4, Left((("b", 97), ("c", 98), ("d", 99)))),
    ],
    "made anew it is young": [
        *[(time, Add(mark)) for time, mark in enumerate("abcad")],
        (5, Left((("c", 97), ("a", 98), ("d", 99)))),
    ],
    "what is taken leaves room": [
        *[(0, Add(mark)) for mark in "abc"],
        (1, Take("b", there=True)),
        (2, Add("d")),
        (2, Evicted(0)),
        (2, Left((("a", 98), ("c", 98), ("d", 100)))),
    ],
    "what is dead leaves room": [
        (0, Add("a")),
        (50, Add("b")),
        (50, Add("c")),
        (120, Add("d")),
        (120, Evicted(0)),
        (120, Left((("b", 30), ("c", 30), ("d", 100)))),
    ],
    "the dead are not told of": [(0, Add("a")), (50, Add("b")), (120, Left((("b", 30),)))],
    "taken over": [
        (0, Restore((("a", 10), ("b", 20)))),
        (5, Left((("a", 5), ("b", 15)))),
        (12, Take("a", there=False)),
        (12, Take("b", there=True)),
    ],
    "taken over, none lives longer than ours": [(0, Restore((("a", 1e9),))), (0, Left((("a", LIFE),)))],
    "taken over, the dead stay dead": [(0, Restore((("a", 0), ("b", -5), ("c", 5)))), (0, Left((("c", 5),)))],
    "taken over, more than there is room for": [
        (0, Restore((("a", 10), ("b", 20), ("c", 30), ("d", 40)))),
        (0, Left((("b", 20), ("c", 30), ("d", 40)))),
    ],
    "taken over beside our own": [
        (0, Add("a")),
        (1, Restore((("b", 10),))),
        (1, Take("a", there=True)),
        (1, Take("b", there=True)),
    ],
    "a short life behind a long one ends in time": [
        (0, Add("a")),
        (0, Restore((("b", 10),))),
        (20, Take("b", there=False)),
        (20, Left((("a", 80),))),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_marks(story: Sequence[tuple[float, Step]]) -> None:
    marks = Marks(ROOM, LIFE)
    for now, step in story:
        match step:
            case Add(mark):
                marks.add(mark, now)
            case Take(mark, there):
                assert (now, marks.take(mark, now)) == (now, there)
            case Restore(some):
                marks.restore(some, now)
            case Left(some):
                assert marks.left(now) == some
            case Evicted(count):
                assert marks.evicted == count
        assert len(marks) <= ROOM


def test_what_is_left_can_be_taken_over() -> None:
    old, new = Marks(ROOM, LIFE), Marks(ROOM, LIFE)
    for time, mark in enumerate("abc"):
        old.add(mark, time)
    new.restore(old.left(10), 1000)
    assert new.left(1000) == old.left(10)


def test_no_room_at_all() -> None:
    marks = Marks(0, LIFE)
    marks.add("a", 0)
    assert (len(marks), marks.take("a", 0)) == (0, False)


def test_lives() -> None:
    assert (LEDGER_LIFE, PUT_OFF_LIFE) == (5 * 24 * 3600, 24 * 3600)


# Names

ANN, BOB = Mailbox("ann", "in.example"), Mailbox("bob", "a.example")


def digest(*pieces: bytes) -> bytes:
    of = Digest()
    for piece in pieces:
        of.feed(piece)
    return of.value


HI = digest(b"hi")

# (reverse-path, recipient, digest of the content) → the same mark as (ann, bob, hi)?
NAMES: dict[str, tuple[ReversePath, Mailbox, bytes, bool]] = {
    "the same": (ANN, BOB, HI, True),
    "in other pieces": (ANN, BOB, digest(b"h", b"", b"i"), True),
    "a domain in other letters": (ANN, Mailbox("bob", "A.Example"), HI, True),
    "another sender": (BOB, BOB, HI, False),
    "a sender in other letters": (Mailbox("Ann", "in.example"), BOB, HI, False),
    "the null reverse-path": (None, BOB, HI, False),
    "another recipient": (ANN, ANN, HI, False),
    "another local part": (ANN, Mailbox("rob", "a.example"), HI, False),
    "a local part in other letters": (ANN, Mailbox("Bob", "a.example"), HI, False),
    "another domain": (ANN, Mailbox("bob", "b.example"), HI, False),
    "other content": (ANN, BOB, digest(b"hi "), False),
    "no content": (ANN, BOB, digest(), False),
}


@pytest.mark.parametrize(("sender", "recipient", "content", "same"), NAMES.values(), ids=NAMES.keys())
def test_entries_differ_for_what_differs(sender: ReversePath, recipient: Mailbox, content: bytes, same: bool) -> None:
    assert (entry(sender, recipient, content) == entry(ANN, BOB, HI)) is same


def test_a_domain_in_either_script_is_one() -> None:
    one, other = Mailbox("bob", "b\u00fccher.example"), Mailbox("bob", "xn--bcher-kva.example")
    assert entry(ANN, one, HI) == entry(ANN, other, HI)
    assert put_off(ANN, one) == put_off(ANN, other)


def test_where_one_part_ends_and_the_next_begins() -> None:
    names = {
        put_off(Mailbox("x", "y"), Mailbox("z", "w")),
        put_off(Mailbox("x", "yz"), Mailbox("", "w")),
        put_off(None, Mailbox("x@yz", "w")),
        put_off(Mailbox("x", "y"), Mailbox("zw", "")),
    }
    assert len(names) == 4


def test_put_off_is_no_entry() -> None:
    assert put_off(ANN, BOB) != put_off(BOB, ANN)
    assert put_off(ANN, BOB).partition(":")[2] != entry(ANN, BOB, HI).partition(":")[2]


def test_names_tell_nobody_an_address() -> None:
    assert re.fullmatch("ledger:[0-9a-f]{32}", entry(ANN, BOB, HI))
    assert re.fullmatch("put-off:[0-9a-f]{32}", put_off(ANN, BOB))
    assert re.fullmatch("put-off:[0-9a-f]{32}", put_off(None, Mailbox("\u00fc", "a.example")))
