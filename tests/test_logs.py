"""Logging: the three formats, the order of keys, hostile values, and what a line costs."""

from __future__ import annotations

import datetime
import enum
import io
import json
import time
from collections.abc import Callable
from typing import get_args

import pytest
from structlog.typing import FilteringBoundLogger

from mailgate import logs
from mailgate.network import TcpAddress

NOW = datetime.datetime(2024, 5, 1, 14, 30, 0, 123_987, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
HEAD = "timestamp=2024-05-01T12:30:00.123Z level=info event="
FORMATS: tuple[logs.Format, ...] = ("logfmt", "json", "console")


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


class Full(io.BytesIO):
    """A stream on a disk that is full for its first writes."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def flush(self) -> None:
        if self.failures:
            self.failures -= 1
            self.truncate(0)
            self.seek(0)
            raise OSError(28, "No space left on device")


def logger(stream: io.BytesIO, log_format: logs.Format = "logfmt", *, verbose: bool = False) -> FilteringBoundLogger:
    return logs.configure(stream=stream, format=log_format, verbose=verbose, now=lambda: NOW)


def logged(write: Callable[[FilteringBoundLogger], object], log_format: logs.Format = "logfmt") -> str:
    """What a call on a logger writes."""
    stream = io.BytesIO()
    write(logger(stream, log_format, verbose=True))
    return stream.getvalue().decode()


class Colour(enum.Enum):
    RED = "red hot"


VALUES = [
    # a value; as logfmt has it; as JSON has it
    ("plain", "plain", "plain"),
    ("joe@example.org", "joe@example.org", "joe@example.org"),
    ("<joe@example.org>", "<joe@example.org>", "<joe@example.org>"),
    ("two words", '"two words"', "two words"),
    ("", '""', ""),
    ("a=b", '"a=b"', "a=b"),
    ('a"b', r'"a\"b"', 'a"b'),
    ("a\\b", r'"a\\b"', "a\\b"),
    ("Grüße", '"Grüße"', "Grüße"),
    (5, "5", 5),
    (True, "true", True),
    (None, "null", None),
    (0.123456, "0.123", 0.123),
    (float("inf"), "inf", "inf"),
    (b"raw\xff", r'"raw\\xff"', "raw\\xff"),
    (Colour.RED, '"red hot"', "red hot"),
    (TcpAddress("10.0.0.1", 25), "10.0.0.1:25", "10.0.0.1:25"),
    (("a@x", "b@y"), "a@x,b@y", ["a@x", "b@y"]),
    (["a b", "c"], '"a b,c"', ["a b", "c"]),
    (("a,b", "c"), r'"a\\,b,c"', ["a,b", "c"]),
    ("a,b", '"a,b"', "a,b"),
    ((1, None, 0.5), "1,null,0.5", [1, None, 0.5]),
    ((), '""', []),
]


@pytest.mark.parametrize(("value", "text", "plain"), VALUES, ids=[repr(value) for value, _, _ in VALUES])
def test_value(value: object, text: str, plain: object) -> None:
    assert logged(lambda log: log.info("e", key=value)) == f"{HEAD}e key={text}\n"
    assert json.loads(logged(lambda log: log.info("e", key=value), "json"))["key"] == plain
    assert logged(lambda log: log.info("e", key=value), "console").endswith(f"={text}\n")


def test_keys_come_in_order() -> None:
    def write(log: FilteringBoundLogger) -> None:
        log.bind(zebra=1, id="7F3A2").info("session begins", apple=2, mango=3)

    assert logged(write) == f'{HEAD}"session begins" id=7F3A2 zebra=1 apple=2 mango=3\n'
    assert list(json.loads(logged(write, "json"))) == [
        *("timestamp", "level", "event", "id", "zebra", "apple", "mango")
    ]


def test_json_line() -> None:
    assert logged(lambda log: log.info("e", to=("a@x", "b@y")), "json") == (
        '{"timestamp":"2024-05-01T12:30:00.123Z","level":"info","event":"e","to":["a@x","b@y"]}\n'
    )


def test_console_line() -> None:
    assert logged(lambda log: log.warning("odd reply", id="7F3A2"), "console") == (
        "\x1b[2m2024-05-01T12:30:00.123Z\x1b[0m \x1b[33mwarning\x1b[0m \x1b[1modd reply\x1b[0m "
        "\x1b[36mid\x1b[0m=7F3A2\n"
    )


@pytest.mark.parametrize(
    ("log_format", "stream", "beginning"),
    [
        ("auto", io.BytesIO(), b"timestamp="),
        ("auto", Terminal(), b"\x1b["),
        ("logfmt", Terminal(), b"timestamp="),
        ("json", Terminal(), b"{"),
        ("console", io.BytesIO(), b"\x1b["),
    ],
    ids=["auto, file", "auto, terminal", "logfmt", "json", "console"],
)
def test_format_is_chosen(log_format: logs.Format, stream: io.BytesIO, beginning: bytes) -> None:
    logger(stream, log_format).info("e")
    assert stream.getvalue().startswith(beginning)


def test_every_format_is_tested() -> None:
    assert set(get_args(logs.Format)) == {"auto", *FORMATS}


@pytest.mark.parametrize(
    ("verbose", "levels"),
    [(False, ["info", "warning", "error", "critical"]), (True, ["debug", "info", "warning", "error", "critical"])],
    ids=["quiet", "verbose"],
)
def test_levels(verbose: bool, levels: list[str]) -> None:
    stream = io.BytesIO()
    log = logger(stream, "json", verbose=verbose)
    for method in (log.debug, log.info, log.warning, log.error, log.critical):
        method("e")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == levels


# What strangers send

HOSTILE = {
    "newline": ("a\nlevel=error", r"a\nlevel=error"),
    "CRLF": ("a\r\nb", r"a\r\nb"),
    "tab": ("a\tb", r"a\tb"),
    "NUL": ("a\x00b", r"a\u0000b"),
    "ESC": ("\x1b]0;owned\x07", r"\u001b]0;owned\u0007"),
    "DEL": ("a\x7f", r"a\u007f"),
    "CSI in one octet": ("\x9b2J", r"\u009b2J"),
    "line separator": ("a\u2028b", r"a\u2028b"),
    "next line": ("a\x85b", r"a\u0085b"),
    "right to left": ("a\u202eb", r"a\u202eb"),
    "zero width": ("a\u200bb", r"a\u200bb"),
    "beyond the BMP": ("a\U000e0041b", r"a\U000e0041b"),
    "lone surrogate": ("a\udcffb", r"a\udcffb"),
}
COLOURS = ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m")


def stripped(line: str) -> str:
    for colour in COLOURS:
        line = line.replace(colour, "")
    return line


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize(("hostile", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_value(hostile: str, shown: str, log_format: logs.Format) -> None:
    line = stripped(logged(lambda log: log.info(hostile, text=hostile, several=(hostile, "b")), log_format))
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if log_format == "json":
        read = json.loads(line)
        assert (read["event"], read["text"], read["several"]) == (hostile, hostile, [hostile, "b"])
    else:
        assert f'text="{shown}"' in line
        assert f'several="{shown},b"' in line


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_an_exception_is_one_line(log_format: logs.Format) -> None:
    def write(log: FilteringBoundLogger) -> None:
        try:
            raise ValueError("bad\n\x1b[2Jlevel=info")
        except ValueError:
            log.exception("a session failed", id="7F3A2")

    line = logged(write, log_format)
    assert line[:-1].isprintable()
    assert line.endswith("\n")
    if log_format == "json":
        read = json.loads(line)
        assert (read["level"], read["id"]) == ("error", "7F3A2")
        assert read["exception"].endswith("\nValueError: bad\n\x1b[2Jlevel=info")
    else:
        assert "level=error" in line
        assert line.endswith(r'\nValueError: bad\n\u001b[2Jlevel=info"' + "\n")


def test_an_exception_on_the_console_has_its_lines_indented() -> None:
    error = ExceptionGroup("several", [ValueError("bad\n\x1b[2Jlevel=info")])
    first, *rest = stripped(logged(lambda log: log.error("a session failed", exc_info=error), "console")).splitlines()
    assert first == "2024-05-01T12:30:00.123Z error   a session failed"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert any(line.endswith("ValueError: bad") for line in rest)


# The stream


def test_a_stream_that_cannot_be_written_costs_lines_only() -> None:
    stream = Full(failures=2)
    log = logger(stream)
    for event in ("one", "two", "three", "four"):
        log.info(event)
    assert stream.getvalue().decode() == f"{HEAD}three lost_lines=2\n{HEAD}four\n"


def test_a_line_is_cheap() -> None:
    """About 15 µs on two slow cores; the limit allows for other tests beside this one."""
    stream = io.BytesIO()
    log = logger(stream).bind(id="7F3A2", listener="from-outside")
    count, best = 2000, float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(count):
            log.info("outcomes", to=("a@example.org", "b@example.net"), reply="250 2.0.0 Ok", octets=12345, seconds=0.5)
        best = min(best, (time.perf_counter() - begin) / count)
    assert best < 60e-6
