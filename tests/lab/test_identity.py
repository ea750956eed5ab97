"""Whether retries are the same, judged from attempts."""

from __future__ import annotations

import pytest

from lab.identity import BEGIN, END, renewed
from lab.identity_compare import Attempt, verdict

HEADER = b"Received: from a\r\n\tby b\r\nSubject: one\r\n"
MESSAGE = HEADER + b"\r\nbody\r\n"
SIGNED = b"DKIM-Signature: t=1\r\n" + MESSAGE
SIGNED_LATER = b"DKIM-Signature: t=2\r\n" + MESSAGE


def attempt(content: bytes, *recipients: str, sender: str = "ann@a.example") -> Attempt:
    return Attempt("gw1", 0, sender, recipients or ("bob",), content, ())


@pytest.mark.parametrize(
    ("attempts", "known", "changed"),
    [
        ([attempt(MESSAGE)] * 3, "2 of 2", ()),
        ([attempt(MESSAGE)], "0 of 0", ()),
        ([attempt(SIGNED), attempt(SIGNED_LATER)], "0 of 1", ("DKIM-Signature",)),
        ([attempt(SIGNED), attempt(MESSAGE)], "0 of 1", ("DKIM-Signature",)),
        ([attempt(MESSAGE), attempt(HEADER + b"\r\nbody \r\n")], "0 of 1", ("body",)),
        ([attempt(MESSAGE), attempt(MESSAGE.replace(b"\tby", b" by"))], "0 of 1", ("Received",)),
        ([attempt(b"A: 1\r\nB: 2\r\n\r\n"), attempt(b"B: 2\r\nA: 1\r\n\r\n")], "0 of 1", ("order of the header",)),
        ([attempt(MESSAGE), attempt(MESSAGE, sender="prvs=1=ann@a.example")], "0 of 1", ("reverse-path",)),
        # One gateway's way, then the other's, then the first one's again: no retry is like the one before.
        ([attempt(MESSAGE), attempt(SIGNED), attempt(MESSAGE)], "0 of 2", ("DKIM-Signature",)),
        # Each recipient has retries of its own.
        ([attempt(MESSAGE, "bob", "carol"), attempt(MESSAGE, "bob")], "1 of 1", ()),
        (
            [attempt(MESSAGE, "bob"), attempt(SIGNED, "carol"), attempt(MESSAGE, "bob", "carol")],
            "1 of 2",
            ("DKIM-Signature",),
        ),
    ],
)
def test_a_retry_is_known_by_all_its_octets(attempts: list[Attempt], known: str, changed: tuple[str, ...]) -> None:
    found = verdict(attempts)
    assert (f"{found.known} of {found.retries}", found.changed) == (known, changed)


def test_what_differs_is_counted() -> None:
    found = verdict([attempt(SIGNED, "bob", "carol"), attempt(MESSAGE, "bob"), attempt(MESSAGE, "bob", sender="x")])
    assert (found.attempts, found.contents, found.reverse_paths) == (3, 2, 2)


def test_the_table_takes_the_place_of_the_one_before() -> None:
    assert renewed(f"above\n{BEGIN}old\n{END}below\n", "new\n") == f"above\n{BEGIN}new\n{END}below\n"
