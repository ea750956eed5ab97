"""The ledger between two runs: what was written comes back once, the time between counted, and nothing else does."""

from __future__ import annotations

import datetime
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mailgate import ledger_file
from mailgate.ledger_file import Unusable
from mailgate.relay.ledger import LEDGER_ENTRIES, LEDGER_LIFE, PUT_OFF_ENTRIES, PUT_OFF_LIFE, Marks, Remembered

STOPPED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
A, B = (f"ledger:{digit * 32}" for digit in "ab")
C, D = (f"put-off:{digit * 32}" for digit in "cd")
SOME = Remembered(ledger=((A, 100.0), (B, LEDGER_LIFE)), put_off=((C, 50.5), (D, PUT_OFF_LIFE)))


def later(seconds: float) -> datetime.datetime:
    return STOPPED + datetime.timedelta(seconds=seconds)


def written(**changes: object) -> str:
    """A good file, with some of its keys changed."""
    good = {"format": 1, "written": STOPPED.timestamp(), "ledger": [[A, 100]], "put_off": [[C, 50.5]]}
    return json.dumps(good | changes)


def put(directory: Path, content: str | bytes) -> Path:
    path = directory / ledger_file.NAME
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_it_comes_back_and_only_once(tmp_path: Path) -> None:
    ledger_file.write(tmp_path, SOME, STOPPED)
    assert ledger_file.take(tmp_path, STOPPED) == SOME
    assert list(tmp_path.iterdir()) == []
    assert ledger_file.take(tmp_path, STOPPED) is None


def test_nothing_comes_back_as_nothing(tmp_path: Path) -> None:
    ledger_file.write(tmp_path, Remembered(), STOPPED)
    assert ledger_file.take(tmp_path, STOPPED) == Remembered()


def test_the_time_between_counts(tmp_path: Path) -> None:
    ledger_file.write(tmp_path, SOME, STOPPED)
    assert ledger_file.take(tmp_path, later(60)) == Remembered(
        ledger=((A, 40.0), (B, LEDGER_LIFE - 60)), put_off=((D, PUT_OFF_LIFE - 60),)
    )


def test_after_five_days_nothing_is_left(tmp_path: Path) -> None:
    ledger_file.write(tmp_path, SOME, STOPPED)
    assert ledger_file.take(tmp_path, later(LEDGER_LIFE)) == Remembered()


def test_as_much_as_a_gateway_remembers(tmp_path: Path) -> None:
    ledger, put_off = Marks(LEDGER_ENTRIES, LEDGER_LIFE), Marks(PUT_OFF_ENTRIES, PUT_OFF_LIFE)
    for number in range(LEDGER_ENTRIES):
        ledger.add(f"ledger:{number:032x}", 0.1 + number / 1e7)
    for number in range(PUT_OFF_ENTRIES):
        put_off.add(f"put-off:{number:032x}", 0.1)
    ledger_file.write(tmp_path, Remembered(ledger=ledger.left(0.2), put_off=put_off.left(0.2)), STOPPED)
    assert (tmp_path / ledger_file.NAME).stat().st_size < ledger_file.LONGEST / 2
    back = ledger_file.take(tmp_path, STOPPED)
    assert back is not None
    assert (len(back.ledger), len(back.put_off)) == (LEDGER_ENTRIES, PUT_OFF_ENTRIES)
    assert [mark for mark, _ in back.ledger] == [mark for mark, _ in ledger.left(0.2)]


def test_a_life_that_floats_made_longer(tmp_path: Path) -> None:
    ledger_file.write(tmp_path, Remembered(ledger=((A, LEDGER_LIFE + 1e-10),)), STOPPED)
    assert ledger_file.take(tmp_path, STOPPED) == Remembered(ledger=((A, LEDGER_LIFE),))


def test_the_file_is_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger_file.write(tmp_path, SOME, STOPPED)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ledger_file.NAME).stat().st_mode) == 0o600


def test_another_is_replaced_and_what_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    put(tmp_path, "old")
    (tmp_path / f"{ledger_file.NAME}.new").write_text("half of")
    ledger_file.write(tmp_path, SOME, STOPPED)
    assert [path.name for path in tmp_path.iterdir()] == [ledger_file.NAME]
    assert ledger_file.take(tmp_path, STOPPED) == SOME


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    put(tmp_path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        ledger_file.write(tmp_path, SOME, STOPPED)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ledger_file.write(tmp_path / "none", SOME, STOPPED)
    assert ledger_file.take(tmp_path / "none", STOPPED) is None


NO_MARK = "String should match pattern"

DAMAGED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "it is damaged, or another version's: Invalid JSON: EOF"),
    "cut off": (written()[:-20], "it is damaged, or another version's: Invalid JSON"),
    "no text": (b"\xff\xfe\0", "it is damaged, or another version's: Invalid JSON"),
    "very deep": ("[" * 100_000, "it is damaged, or another version's: Invalid JSON"),
    "another kind of document": ("[]", "it is damaged, or another version's: Input should be"),
    "another format": (written(format=2), "it has format 2, and this mailgate knows 1"),
    "no time": (written(written=None), "written: Input should be a valid number"),
    "never": ('{"format":1,"written":NaN,"ledger":[],"put_off":[]}', "written: Input should be a finite number"),
    "no entries": (written(ledger=None), "ledger: Input should be a valid"),
    "no mark": (written(ledger=[["x", 1]]), NO_MARK),
    "a mark and more": (written(ledger=[[A + "\n", 1]]), NO_MARK),
    "a mark in capitals": (written(ledger=[[A.replace("a", "A"), 1]]), NO_MARK),
    "a mark of the other kind": (written(put_off=[[A, 1]]), NO_MARK),
    "no seconds": (written(ledger=[[A]]), "ledger: 0: 1: Field required"),
    "true for seconds": (written(ledger=[[A, True]]), "ledger: 0: 1: Input should be a valid number"),
    "less than nothing": (written(ledger=[[A, -1]]), "ledger: 0: 1: Input should be greater than or equal to 0"),
    "longer than a life": (written(ledger=[[A, LEDGER_LIFE + 1]]), "Input should be less than or equal to 432000"),
    "longer than a put-off": (written(put_off=[[C, PUT_OFF_LIFE + 1]]), "Input should be less than or equal to 86400"),
    "for ever": (written().replace("100", "Infinity"), "ledger: 0: 1: Input should be "),
    "too many": (written(put_off=[[C, 1]] * (PUT_OFF_ENTRIES + 1)), "put_off: Tuple should have at most 10000 items"),
    "too long": (" " * ledger_file.LONGEST + written(), "it is larger than 16777216 bytes"),
    "from the future": (
        written(written=later(61).timestamp()),
        "written 1 s from now: the system's clock has gone back",
    ),
}


@pytest.mark.parametrize(("content", "why"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_removed_and_said(tmp_path: Path, content: str | bytes, why: str) -> None:
    path = put(tmp_path, content)
    with pytest.raises(Unusable) as caught:
        ledger_file.take(tmp_path, later(60))
    assert why in str(caught.value)
    assert not path.exists()


def test_a_good_file_for_comparison(tmp_path: Path) -> None:
    put(tmp_path, written())
    assert ledger_file.take(tmp_path, STOPPED) == Remembered(ledger=((A, 100.0),), put_off=((C, 50.5),))


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(written())
    (tmp_path / ledger_file.NAME).symlink_to(elsewhere)
    with pytest.raises(Unusable, match="cannot be read"):
        ledger_file.take(tmp_path, STOPPED)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ledger_file.NAME)
    with pytest.raises(Unusable, match="it is damaged"):
        ledger_file.take(tmp_path, STOPPED)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would come back at every start, with what was used up since."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = put(tmp_path, written())
    monkeypatch.setattr(Path, "unlink", forbidden)
    with pytest.raises(Unusable) as caught:
        ledger_file.take(tmp_path, STOPPED)
    assert str(caught.value) == (
        "it cannot be removed, and what is in it must not come back: Permission denied; remove it, and let the user "
        f"that the gateway runs as write in {tmp_path}"
    )
    assert path.exists()


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / ledger_file.NAME).mkdir()
    with pytest.raises(Unusable, match="it cannot be removed"):
        ledger_file.take(tmp_path, STOPPED)


@pytest.mark.parametrize("there", [True, False], ids=["there", "not there"])
def test_it_can_be_thrown_away(tmp_path: Path, *, there: bool) -> None:
    if there:
        put(tmp_path, written())
    ledger_file.discard(tmp_path)
    assert list(tmp_path.iterdir()) == []
