"""Text that strangers wrote, made fit for one line of a log or a terminal."""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str) -> str:
    """The text with all that is not printable as `\\n`, `\\r`, `\\t`, `\\u001b` or `\\U000e0001`.

    Not printable are control characters (ESC among them), line and paragraph separators, spaces other than
    U+0020, invisible and direction-changing characters, and lone surrogates: whatever could begin a line of
    its own or make a terminal do or show something else. A backslash is left alone.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _SHORT.get(char) or _numeric(char) for char in text)


def quoted(text: str, limit: int | None = None) -> str:
    """The escaped text in double quotes, its own quotes and backslashes escaped too.

    Of a text longer than `limit` characters the rest is left out, and an ellipsis says so.
    """
    rest = limit is not None and len(text) > limit
    shown = escaped(text[:limit].replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{shown}{"…" if rest else ""}"'


def _numeric(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
