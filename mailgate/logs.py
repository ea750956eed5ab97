"""Logging: a line per event, cheap, its keys always in the same order, and safe to look at on a terminal.

    timestamp=2024-05-01T12:00:00.123Z level=info event="session ends" id=7F3A2 to=a@example.org,b@example.org

Values hold what strangers sent. In every format whatever is not printable is escaped (text.escaped), so that a
value can neither begin a line of its own nor speak to a terminal.
"""

from __future__ import annotations

import datetime
import enum
import json
import logging
import math
import re
from collections.abc import Callable
from typing import BinaryIO, Literal, cast

import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from mailgate.text import escaped, quoted

Format = Literal["auto", "logfmt", "json", "console"]

_Scalar = str | int | float | bool | None

_LEVELS = {"exception": "error", "warn": "warning", "fatal": "critical"}
_BARE = re.compile(r"[!#-+\--<>-\[\]-~]+")
"""what needs neither quotes nor a look: printable ASCII but space and `"` `,` `=` `\\`"""


def configure(
    *,
    stream: BinaryIO,
    format: Format,  # noqa: A002
    verbose: bool,
    now: Callable[[], datetime.datetime],
) -> FilteringBoundLogger:
    """A logger that writes to the stream, flushing after each event. It changes nothing global.

    `format` "auto" is "console" (coloured) on a terminal and "logfmt" elsewhere. DEBUG comes through if
    `verbose`, otherwise INFO and above. `now` gives the wall clock with a time zone. Floats are rounded to
    three places, as times in seconds are to milliseconds.

    A stream that cannot be written (a full disk, a pipe whose reader has ended) must not cost mail: OSError ends
    here, and the first line that gets through again counts the others as `lost_lines`. A pipe whose reader stands
    still is waited for, and with it everything: a line before the dot that was dropped would tell no story.
    """
    automatic = "console" if stream.isatty() else "logfmt"
    render = _RENDERERS[automatic if format == "auto" else format]
    logger = structlog.wrap_logger(
        _Sink(stream),
        processors=[format_exc_info, _in_order(now), render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        context_class=dict,
    )
    return cast(FilteringBoundLogger, logger.bind())


class _Sink:
    """Where lines go; structlog calls the method of the event's level."""

    __slots__ = ("_stream", "lost")

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.lost = 0

    def msg(self, line: bytes) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError:
            self.lost += 1
        else:
            self.lost = 0

    debug = info = warning = warn = error = exception = critical = fatal = log = msg


def _in_order(now: Callable[[], datetime.datetime]) -> Processor:
    """timestamp, level, event, id, and then the keys as they were given."""

    def in_order(sink: _Sink, method: str, event: EventDict) -> EventDict:
        timestamp = now().astimezone(datetime.UTC).isoformat(timespec="milliseconds")
        line: EventDict = {
            "timestamp": timestamp.replace("+00:00", "Z"),
            "level": _LEVELS.get(method, method),
            "event": event.pop("event", ""),
        }
        if "id" in event:
            line["id"] = event.pop("id")
        if sink.lost:
            line["lost_lines"] = sink.lost
        line.update(event)
        return line

    return in_order


def _logfmt(sink: _Sink, method: str, line: EventDict) -> bytes:
    return (" ".join([f"{key}={_text(value)}" for key, value in line.items()]) + "\n").encode()


def _json(sink: _Sink, method: str, line: EventDict) -> bytes:
    encoded = _ENCODER.encode({key: _plain(value) for key, value in line.items()})
    # What is not ASCII comes out escaped, but for DEL, which can stand only within strings.
    return encoded.replace("\x7f", "\\u007f").encode() + b"\n"


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _console(sink: _Sink, method: str, line: EventDict) -> bytes:
    level = line.pop("level")
    parts = [
        f"{_DIM}{line.pop('timestamp')}{_RESET}",
        f"{_COLOURS.get(level, _BOLD)}{level:<7}{_RESET}",
        f"{_BOLD}{escaped(str(line.pop('event')))}{_RESET}",
    ]
    traceback = str(line.pop("exception", ""))
    parts += [f"{_CYAN}{key}{_RESET}={_text(value)}" for key, value in line.items()]
    # A traceback keeps its lines, but indented: the exception's own message may have lines that look like ours.
    lines = [" ".join(parts), *(f"    {escaped(part)}" for part in traceback.split("\n") if part)]
    return ("\n".join(lines) + "\n").encode()


_RESET, _BOLD, _DIM, _CYAN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"
_COLOURS = {"debug": _DIM, "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}

_RENDERERS: dict[str, Processor] = {"logfmt": _logfmt, "json": _json, "console": _console}


def _plain(value: object) -> _Scalar | list[_Scalar]:
    return [_scalar(element) for element in value] if isinstance(value, tuple | list) else _scalar(value)


def _scalar(value: object) -> _Scalar:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, str | int) else str(value)


_WORDS = {None: "null", True: "true", False: "false"}


def _text(value: object) -> str:
    """A value as logfmt has it, in quotes where it needs them."""
    if isinstance(value, tuple | list):
        # A comma of an element's own must not make two of it: quoted local parts may have one.
        text = ",".join([_word(element).replace(",", "\\,") for element in value])
        return text if _BARE.fullmatch(text.replace(",", "")) else quoted(text)
    text = _word(value)
    return text if _BARE.fullmatch(text) else quoted(text)


def _word(value: object) -> str:
    if type(value) is str:  # nearly all are
        return value
    scalar = _scalar(value)
    return _WORDS[scalar] if scalar is None or isinstance(scalar, bool) else str(scalar)
