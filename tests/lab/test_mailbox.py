"""What is read from Maildirs, with files made up here."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lab.mailbox import Copy, Mailboxes
from lab.roots import USERS


def put(changes: Path, message: bytes, user: str = "ann", name: str = "1") -> Path:
    """A message in a user's Maildir."""
    file = changes / "home" / user / "Maildir" / "new" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(message)
    return file


def looked(changes: Path, message: bytes) -> Copy | None:
    """What is read from a message; None if it is not one of the lab's."""
    put(changes, message)
    found = Mailboxes(changes).look()
    assert len(found) <= 1
    return found[0] if found else None


PLAIN = b"From: ann@gamma.example\nX-Lab-Message: m1\n\ntext\n"

BY_GW1 = b"Received: from mail1.gamma.example ([203.0.113.25])\n\tby gw1.example.org with ESMTP id A1;\n\tMon, 1 Jan\n"
BY_GW2 = (
    b"Received: from mail1.example.org ([10.0.1.25])\n\tby gw2.example.org with LMTP id B2\n\tfor <ann@x>;\n\tMon\n"
)
BY_SERVER = (
    b"Received: from gw1.example.org (gw1.example.org [10.0.0.1])\n\tby mail1.example.org (Postfix) id C3;\n\tMon\n"
)

VIA: dict[str, tuple[bytes, tuple[tuple[str, str], ...]]] = {
    "nobody": (PLAIN, ()),
    "a gateway": (BY_GW1 + PLAIN, (("gw1", "A1"),)),
    "a gateway, on one line": (BY_GW1.replace(b"\n\t", b" ") + PLAIN, (("gw1", "A1"),)),
    "a gateway, folded after every word": (
        BY_GW1.replace(b" ", b"\n ").replace(b":\n ", b": ") + PLAIN,
        (("gw1", "A1"),),
    ),
    "a gateway, for somebody": (BY_GW2 + PLAIN, (("gw2", "B2"),)),
    "a gateway below its server": (BY_SERVER + BY_GW1 + PLAIN, (("gw1", "A1"),)),
    "a gateway above a server": (BY_GW1 + BY_SERVER + PLAIN, (("gw1", "A1"),)),
    "both, the last one first": (BY_GW2 + BY_GW1 + PLAIN, (("gw2", "B2"), ("gw1", "A1"))),
    "one twice": (BY_GW1.replace(b"A1", b"D4") + BY_GW1 + PLAIN, (("gw1", "D4"), ("gw1", "A1"))),
    "the name of the lab first": (PLAIN.replace(b"\n\n", b"\n" + BY_GW1 + b"\n"), (("gw1", "A1"),)),
    "a server only": (BY_SERVER + PLAIN, ()),
    "another gateway": (BY_GW1.replace(b"gw1", b"gw3") + PLAIN, ()),
    "a longer name": (BY_GW1.replace(b"by gw1", b"by agw1") + PLAIN, ()),
    "a word that ends in by": (BY_GW1.replace(b"by gw1", b"standby gw1") + PLAIN, ()),
    "a gateway in the text": (PLAIN + BY_GW1, ()),
}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("message", "via"), VIA.values(), ids=VIA)
def test_the_way_of_a_copy(message: bytes, via: tuple[tuple[str, str], ...], ending: bytes, tmp_path: Path) -> None:
    copy = looked(tmp_path, message.replace(b"\n", ending))
    assert copy is not None
    assert (copy.message, copy.via, copy.bounce) == ("m1", via, False)


BOUNCE = b"From: %s\nSubject: failed\n\nSorry.\n\n--part\n\nFrom: ann@gamma.example\nX-Lab-Message: m1\n\n--part--\n"

FROM = {
    "Postfix": b"MAILER-DAEMON@mail1.example.org (Mail Delivery System)",
    "Exim": b"Mail Delivery System <Mailer-Daemon@mail1.example.org>",
    "sendmail": b"Mail Delivery Subsystem <MAILER-DAEMON@mail1.example.org>",
    "OpenSMTPD": b"Mailer Daemon <MAILER-DAEMON@mail1.example.org>",
    "folded": b"Mail Delivery System\n\t<MAILER-DAEMON@mail1.example.org>",
    "small letters": b"mailer-daemon",
}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("sender", FROM.values(), ids=FROM)
def test_a_bounce(sender: bytes, ending: bytes, tmp_path: Path) -> None:
    copy = looked(tmp_path, (BOUNCE % sender).replace(b"\n", ending))
    assert copy is not None
    assert (copy.message, copy.bounce) == ("m1", True)


def test_a_bounce_is_not_said_to_have_come_as_its_message_came(tmp_path: Path) -> None:
    copy = looked(tmp_path, (BOUNCE % FROM["Exim"]).replace(b"X-Lab", BY_GW1 + b"X-Lab"))
    assert copy is not None
    assert copy.via == ()


NO_BOUNCE = {
    "somebody else": BOUNCE % b"postmaster@example.org",
    "to the daemon": b"To: mailer-daemon@example.org\n" + PLAIN,
    "the daemon in the text": PLAIN + b"From: mailer-daemon@example.org\n",
}


@pytest.mark.parametrize("message", NO_BOUNCE.values(), ids=NO_BOUNCE)
def test_no_bounce(message: bytes, tmp_path: Path) -> None:
    copy = looked(tmp_path, message)
    assert copy is None or not copy.bounce


REPORT = b"From: mailer-daemon\n\nSorry.\n\n%s\n--part\n\nX-Lab-Message: m1\n\n--part--\n"

OF_BOB = {
    "Postfix": b"Reporting-MTA: dns; a\n\nFinal-Recipient: rfc822; bob@b\nOriginal-Recipient: x\nAction: failed\n",
    "Exim": b"Reporting-MTA: dns; a\n\nAction: failed\nFinal-Recipient: rfc822;bob@b\nStatus: 5.0.0\n",
    "sendmail": b"Reporting-MTA: dns; a\n\nFinal-Recipient: RFC822; bob@b\nAction: failed\nStatus: 4.3.0\n",
}
OF_ANN = b"Final-Recipient: rfc822; ann@b\nAction: %s\n"

FAILED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    **{name: (text, ("bob@b",)) for name, text in OF_BOB.items()},
    "two": (b"\n".join((OF_BOB["Postfix"], OF_ANN % b"failed")), ("bob@b", "ann@b")),
    "one that is only late": (b"\n".join((OF_BOB["Exim"], OF_ANN % b"delayed")), ("bob@b",)),
    "no report": (b"", ()),
}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("report", "failed"), FAILED.values(), ids=FAILED)
def test_whom_a_bounce_is_about(report: bytes, failed: tuple[str, ...], ending: bytes, tmp_path: Path) -> None:
    copy = looked(tmp_path, (REPORT % report).replace(b"\n", ending))
    assert copy is not None
    assert copy.failed == failed


def test_a_message_tells_of_nobody(tmp_path: Path) -> None:
    copy = looked(tmp_path, PLAIN + OF_BOB["Exim"])
    assert copy is not None
    assert copy.failed == ()


NOT_OURS = {
    "empty": b"",
    "no such line": b"From: ann@gamma.example\n\ntext\n",
    "only in the text": b"From: ann@gamma.example\n\nX-Lab-Message: m1\n",
    "only in the text, with CRLF": b"From: ann@gamma.example\r\n\r\nX-Lab-Message: m1\r\n",
    "not at the start of a line": b"Subject: X-Lab-Message: m1\n\n",
    "a bounce of something else": BOUNCE.replace(b"X-Lab-Message", b"X-Other") % FROM["Exim"],
}


@pytest.mark.parametrize("message", NOT_OURS.values(), ids=NOT_OURS)
def test_a_file_that_is_not_the_labs(message: bytes, tmp_path: Path) -> None:
    assert looked(tmp_path, message) is None


def test_a_header_without_a_text(tmp_path: Path) -> None:
    copy = looked(tmp_path, b"X-Lab-Message: m1\n")
    assert copy is not None
    assert copy.message == "m1"


def test_everybodys_mail_is_seen(tmp_path: Path) -> None:
    for user in USERS:
        put(tmp_path, PLAIN, user)
    assert sorted(copy.user for copy in Mailboxes(tmp_path).look()) == sorted(USERS)


def test_each_file_is_a_copy(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        put(tmp_path, PLAIN, name=name)
    assert [copy.message for copy in Mailboxes(tmp_path).look()] == ["m1"] * 3


def test_without_maildirs_there_is_nothing(tmp_path: Path) -> None:
    assert Mailboxes(tmp_path).look() == []


def test_what_comes_later_is_seen_at_the_next_look(tmp_path: Path) -> None:
    boxes = Mailboxes(tmp_path)
    put(tmp_path, PLAIN)
    boxes.look()
    put(tmp_path, PLAIN.replace(b"m1", b"m2"), name="2")
    assert sorted(copy.message for copy in boxes.look()) == ["m1", "m2"]


def test_what_was_seen_is_not_forgotten(tmp_path: Path) -> None:
    boxes = Mailboxes(tmp_path)
    file = put(tmp_path, PLAIN)
    boxes.look()
    file.unlink()
    assert [copy.message for copy in boxes.look()] == ["m1"]


def test_the_time_is_that_of_the_move(tmp_path: Path) -> None:
    """The file's other times are what its server made them."""
    file = put(tmp_path, PLAIN)
    os.utime(file, (0, 0))
    (copy,) = Mailboxes(tmp_path).look()
    assert copy.time == pytest.approx(time.time(), abs=60)
