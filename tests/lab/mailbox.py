"""What arrived: the messages in the Maildirs of a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.roots import USERS

_NAME = re.compile(rb"^X-Lab-Message: (\S+)", re.MULTILINE)
_VIA = re.compile(rb"^Received:.*?\bby (gw[12])\.example\.org\b[^;]*?\bid (\w+)", re.MULTILINE | re.DOTALL)
_BOUNCE = re.compile(rb"^From: .*\bmailer-daemon\b", re.MULTILINE | re.IGNORECASE)
_BLANK = re.compile(rb"\r?\n\r?\n")
_FAILED = re.compile(rb"^Action: failed\b", re.MULTILINE | re.IGNORECASE)
_RECIPIENT = re.compile(rb"^Final-Recipient: *rfc822; *<?([^\s>]+)", re.MULTILINE | re.IGNORECASE)
_FOLD = re.compile(rb"\r?\n[ \t]+")


@dataclass(frozen=True, slots=True)
class Copy:
    """A message in a mailbox."""

    message: str
    user: str
    time: float
    """seconds since the epoch"""
    via: tuple[tuple[str, str], ...]
    """the gateways it came through, the last one first, each with its id for the transaction"""
    bounce: bool
    """it tells of the message, and is not the message"""
    failed: tuple[str, ...] = ()
    """the recipients that it says did not get the message (RFC 3464)"""


class Mailboxes:
    """Those of one machine; `look` reads what is new, and forgets nothing."""

    def __init__(self, changes: Path) -> None:
        """`changes`: what has been written in its root."""
        self._folders = {user: changes / "home" / user / "Maildir" / "new" for user in USERS}
        self._seen: dict[Path, Copy | None] = {}

    def look(self) -> list[Copy]:
        """Every copy that is there, in no order."""
        for user, folder in self._folders.items():
            if folder.is_dir():
                for file in folder.iterdir():
                    if file not in self._seen:
                        self._seen[file] = _read(file, user)
        return [copy for copy in self._seen.values() if copy is not None]


def _read(file: Path, user: str) -> Copy | None:
    """Its change time is that of the move into `new`; a server may set the other times as it likes."""
    with file.open("rb") as opened:
        start = opened.read(65536)
    header = _FOLD.sub(b" ", _BLANK.split(start, maxsplit=1)[0])
    bounce = bool(_BOUNCE.search(header))
    named = _NAME.search(start if bounce else header)
    if named is None:
        return None
    via = tuple((by.decode(), number.decode()) for by, number in _VIA.findall(header))
    failed = tuple(_failed(start)) if bounce else ()
    return Copy(named[1].decode(), user, file.stat().st_ctime, via, bounce, failed)


def _failed(bounce: bytes) -> Iterator[str]:
    """Its recipients that failed. What is said of each is a paragraph; the order of its lines is the server's."""
    for paragraph in _BLANK.split(bounce):
        named = _RECIPIENT.search(paragraph)
        if named is not None and _FAILED.search(paragraph):
            yield named[1].decode()
