"""The ledger between two runs: what a gateway that stops remembers, in a file that the next one takes away.

Whoever reads the file removes it. Its marks are used up from then on, and after a crash it would bring back those
that were: a message that is sent again on purpose would be taken for a retry, and be lost.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from mailgate.relay.ledger import LEDGER_ENTRIES, LEDGER_LIFE, PUT_OFF_ENTRIES, PUT_OFF_LIFE, Remembered

NAME = "ledger.json"
"""of the file in `state_dir`"""

FORMAT = 1
"""of the document"""

LONGEST = 16_777_216
"""bytes that are read: twice what a gateway can remember"""

_ONLY_OURS = 0o600

_Left = tuple[str, float]
_LedgerLeft = tuple[
    Annotated[str, Field(pattern="^ledger:[0-9a-f]{32}$")],
    Annotated[float, Field(ge=0, le=LEDGER_LIFE, allow_inf_nan=False)],
]
_PutOffLeft = tuple[
    Annotated[str, Field(pattern="^put-off:[0-9a-f]{32}$")],
    Annotated[float, Field(ge=0, le=PUT_OFF_LIFE, allow_inf_nan=False)],
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """The file: JSON. Marks with the seconds that they had left when it was written, the oldest first."""

    format: int
    written: Annotated[float, Field(allow_inf_nan=False)]
    """on the wall clock, in seconds since 1970: the time until the next start counts"""
    ledger: Annotated[tuple[_LedgerLeft, ...], Field(max_length=LEDGER_ENTRIES)]
    put_off: Annotated[tuple[_PutOffLeft, ...], Field(max_length=PUT_OFF_ENTRIES)]


_DOCUMENT = pydantic.TypeAdapter(_Document)


class Unusable(Exception):
    """There is a file, and nothing was taken from it; the message says why."""


def write(state_dir: Path, remembered: Remembered, now: datetime.datetime) -> None:
    """Make the file, or make it anew, all or nothing. Raises OSError."""
    document = _Document(
        format=FORMAT,
        written=now.timestamp(),
        ledger=_rounded(remembered.ledger),
        put_off=_rounded(remembered.put_off),
    )
    new = state_dir / f"{NAME}.new"
    try:
        new.unlink(missing_ok=True)  # what a crash may have left
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _ONLY_OURS), "wb") as file:
            file.write(_DOCUMENT.dump_json(document))
            file.flush()
            os.fsync(file.fileno())
        new.replace(state_dir / NAME)
        _sync(state_dir)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _rounded(left: tuple[_Left, ...]) -> tuple[_Left, ...]:
    """To milliseconds: a sum of floats may be a little more than a whole life."""
    return tuple((mark, round(seconds, 3)) for mark, seconds in left)


def take(state_dir: Path, now: datetime.datetime) -> Remembered | None:
    """Read and remove the file; None: there is none. Raises Unusable."""
    path = state_dir / NAME
    content, why = b"", ""
    try:
        # Neither a link nor a pipe may lead us elsewhere, or hold us up.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(LONGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    discard(state_dir)
    if why:
        raise Unusable(why)
    return _remembered(content, now)


def discard(state_dir: Path) -> None:
    """Remove the file, if there is one. Raises Unusable."""
    try:
        (state_dir / NAME).unlink()
        _sync(state_dir)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Unusable(
            f"it cannot be removed, and what is in it must not come back: {error.strerror}; remove it, and let the "
            f"user that the gateway runs as write in {state_dir}"
        ) from None


def _remembered(content: bytes, now: datetime.datetime) -> Remembered:
    if len(content) > LONGEST:
        raise Unusable(f"it is larger than {LONGEST} bytes")
    try:
        document = _DOCUMENT.validate_json(content, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise Unusable(f"it is damaged, or another version's: {where}{first['msg']}") from None
    if document.format != FORMAT:
        raise Unusable(f"it has format {document.format}, and this mailgate knows {FORMAT}")
    elapsed = now.timestamp() - document.written
    if elapsed < 0:
        raise Unusable(f"it was written {-elapsed:.0f} s from now: the system's clock has gone back")
    return Remembered(ledger=_after(elapsed, document.ledger), put_off=_after(elapsed, document.put_off))


def _after(elapsed: float, left: tuple[_Left, ...]) -> tuple[_Left, ...]:
    return tuple((mark, seconds - elapsed) for mark, seconds in left if seconds > elapsed)


def _sync(directory: Path) -> None:
    """See to it that the names in a directory outlast a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
