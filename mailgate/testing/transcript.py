"""What was said in one session, with times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import trio

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a transcript; `side` is "C" (client), "S" (server) or "--" (what happened, said by nobody)."""

    time: float
    side: str
    text: str

    def __str__(self) -> str:
        colon = "" if self.side == "--" else ":"
        return f"{self.side}{colon} {self.text}"


@dataclass(slots=True)
class Transcript:
    """One session; printed, it shows each line with its seconds since the session began."""

    title: str
    lines: list[Line] = field(default_factory=list)

    def add(self, side: str, text: str) -> None:
        """Note a line; one of several lines, such as an EHLO reply, becomes several."""
        now = trio.current_time()
        self.lines += [Line(now, side, line) for line in text.split("\n")]

    @property
    def dialog(self) -> list[str]:
        """The lines without their times, as `C: …` and `S: …`."""
        return [str(line) for line in self.lines]

    def __str__(self) -> str:
        begin = self.lines[0].time if self.lines else 0
        return "\n".join(f"{line.time - begin:8.3f} {self.title} {line}" for line in self.lines)


def shown(data: bytes) -> str:
    """Bytes of a line, readable: what is not printable ASCII is escaped."""
    text = data.decode("latin-1")
    if text.isascii() and text.isprintable():
        return text
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in data)


def remembered(records: list[_Record], record: _Record, limit: int | None) -> None:
    """Add a record, and forget the oldest ones beyond the limit; None: there is none."""
    records.append(record)
    if limit is not None:
        del records[: -limit or None]
