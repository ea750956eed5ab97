"""Lines, and the data of a message: where it ends, what it contains, and what is never passed on."""

from __future__ import annotations

import pytest
from feeding import Cut, at, each_cut, no_deadline
from hypothesis import example, given
from hypothesis import strategies as st

from mailgate.protocol.framing import BareNewline, DataDecoder, DataEncoder, Flaw, LineBuffer, LineTooLong

REPAIR, REFUSE = BareNewline.REPAIR, BareNewline.REFUSE
PLACES = st.lists(st.integers(0, 300), max_size=8)

# Lines

TOO_LONG = "too long"


def lines_of(chunks: list[bytes], limit: int = 10) -> list[bytes | str]:
    buffer = LineBuffer(limit)
    found: list[bytes | str] = []
    for chunk in chunks:
        buffer.feed(chunk)
        while True:
            try:
                line = buffer.take()
            except LineTooLong:
                found.append(TOO_LONG)
                continue
            if line is None:
                break
            found.append(line)
    return found


LINES: dict[str, tuple[bytes, list[bytes | str]]] = {
    "nothing": (b"", []),
    "no line end yet": (b"abc", []),
    "CR alone": (b"abc\r", []),
    "CRLF": (b"abc\r\n", [b"abc"]),
    "LF": (b"abc\n", [b"abc"]),
    "empty": (b"\r\n\n\r\n", [b"", b"", b""]),
    "CR within": (b"a\rb\r\n", [b"a\rb"]),
    "one CR is taken off": (b"abc\r\r\n", [b"abc\r"]),
    "several": (b"a\r\nb\nc\r\nd", [b"a", b"b", b"c"]),
    "any octets": (b"\x00\xff\r\n", [b"\x00\xff"]),
    "longest, CRLF": (b"12345678\r\n", [b"12345678"]),
    "longest, LF": (b"123456789\n", [b"123456789"]),
    "too long, CRLF": (b"123456789\r\n", [TOO_LONG]),
    "too long, LF": (b"1234567890\n", [TOO_LONG]),
    "no end, at the limit": (b"1234567890", []),
    "no end, too long": (b"12345678901", [TOO_LONG]),
    "no end in sight": (b"x" * 100, [TOO_LONG]),
    "the rest of a line too long is no line": (b"x" * 100 + b"\r\nabc\r\n", [TOO_LONG, b"abc"]),
    "several too long": (b"x" * 11 + b"\n" + b"y" * 30 + b"\na\n" + b"z" * 20, [TOO_LONG, TOO_LONG, b"a", TOO_LONG]),
}


@each_cut
@pytest.mark.parametrize(("octets", "lines"), LINES.values(), ids=LINES.keys())
def test_lines(octets: bytes, lines: list[bytes | str], cut: Cut) -> None:
    assert lines_of(cut(octets)) == lines


@no_deadline
@given(st.text("ab\r\n", max_size=80).map(str.encode), PLACES)
def test_lines_in_any_pieces(octets: bytes, places: list[int]) -> None:
    assert lines_of(at(octets, *places)) == lines_of([octets])


def test_short_lines_behind_a_long_one_that_came_in_two_pieces() -> None:
    assert lines_of([b"abcdef", b"gh\r\na\r\nb\r\n"]) == [b"abcdefgh", b"a", b"b"]


def test_a_line_without_end_is_not_kept() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"x" * 11)
    with pytest.raises(LineTooLong):
        buffer.take()
    for _ in range(100):
        buffer.feed(b"x" * 1000)
        assert buffer.take() is None
        assert len(buffer) == 0


def test_a_look_at_the_next_line_takes_nothing() -> None:
    buffer = LineBuffer(10)
    assert buffer.peek() is None
    buffer.feed(b"RCP")
    assert buffer.peek() is None
    buffer.feed(b"T\r\nDATA\r\n")
    assert buffer.peek() == b"RCPT"
    assert buffer.take() == b"RCPT"
    assert buffer.peek() == b"DATA"
    assert len(buffer) == 6


def test_a_look_never_sees_the_rest_of_a_line_too_long() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"x" * 11)
    with pytest.raises(LineTooLong):
        buffer.take()
    buffer.feed(b"RCPT\r\nDATA\r\n")
    assert buffer.peek() == b"DATA"


def test_everything_buffered() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"DATA\r\na\r\n.\r\nQUIT\r\n")
    assert buffer.take() == b"DATA"
    assert buffer.tail(6) == b"QUIT\r\n"
    assert buffer.tail(100) == b"a\r\n.\r\nQUIT\r\n"
    assert buffer.take_all() == b"a\r\n.\r\nQUIT\r\n"
    assert len(buffer) == 0
    buffer.feed(b"NOOP\r\n")
    assert buffer.take() == b"NOOP"


# Message data

Decoded = tuple[bytes | Flaw, bytes | None]
"""(content or what is wrong with it, the octets behind the end or None: it has not come)"""


def decoded(chunks: list[bytes], bare_newline: BareNewline = REPAIR) -> Decoded:
    decoder = DataDecoder(bare_newline)
    content = rest = b""
    for number, chunk in enumerate(chunks):
        if decoder.finished:
            return decoder.flaw or content, rest + b"".join(chunks[number:])
        more, rest = decoder.decode(chunk)
        content += more
        assert decoder.finished or not rest
    return decoder.flaw or content, rest if decoder.finished else None


# What comes after the 354, up to the end → the content
MESSAGES: dict[str, tuple[bytes, bytes]] = {
    "empty": (b".\r\n", b""),
    "an empty line": (b"\r\n.\r\n", b"\r\n"),
    "a line": (b"a\r\n.\r\n", b"a\r\n"),
    "header and body": (b"A: b\r\n\r\nc\r\n.\r\n", b"A: b\r\n\r\nc\r\n"),
    "a line without text before the end": (b"a\r\n\r\n.\r\n", b"a\r\n\r\n"),
    "dot at the end of a line": (b"a.\r\n.\r\n", b"a.\r\n"),
    "dots within a line": (b"a..b\r\n.\r\n", b"a..b\r\n"),
    "lone dot": (b"a\r\n..\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
    "lone dot in the first line": (b"..\r\n.\r\n", b".\r\n"),
    "lone dot in the last line": (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
    "dot at the start of a line": (b"a\r\n..b\r\n.\r\n", b"a\r\n.b\r\n"),
    "dot at the start of the first line": (b"..a\r\n.\r\n", b".a\r\n"),
    "only the first dot is taken off": (b"....\r\n.\r\n", b"...\r\n"),
    "a dot that was not stuffed": (b".a\r\n.\r\n", b"a\r\n"),
    "dot and spaces": (b". \r\n.\r\n", b" \r\n"),
    "any octets but CR and LF": (
        bytes(set(range(256)) - {13, 10}) + b"\r\n.\r\n",
        bytes(set(range(256)) - {13, 10}) + b"\r\n",
    ),
    "a long line": (b"x" * 10_000 + b"\r\n.\r\n", b"x" * 10_000 + b"\r\n"),
    "many lines": (b"..x\r\n" * 1000 + b".\r\n", b".x\r\n" * 1000),
    "what looks like a command": (b"QUIT\r\n.\r\n", b"QUIT\r\n"),
}


@each_cut
@pytest.mark.parametrize("bare_newline", BareNewline)
@pytest.mark.parametrize(("octets", "content"), MESSAGES.values(), ids=MESSAGES.keys())
def test_messages(octets: bytes, content: bytes, bare_newline: BareNewline, cut: Cut) -> None:
    assert decoded(cut(octets), bare_newline) == (content, b"")


@each_cut
@pytest.mark.parametrize("rest", [b"QUIT\r\n", b".\r\n", b"\r\n.\r\n", b"\n", b".", b"a\rb\nc"])
@pytest.mark.parametrize(("octets", "content"), MESSAGES.values(), ids=MESSAGES.keys())
def test_messages_with_trailing_data(octets: bytes, content: bytes, rest: bytes, cut: Cut) -> None:
    assert decoded(cut(octets + rest)) == (content, rest)


@pytest.mark.parametrize(("octets", "content"), MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_cut_short_has_no_end(octets: bytes, content: bytes) -> None:
    for length in range(len(octets)) if len(octets) < 1000 else range(len(octets) - 5, len(octets)):
        found, rest = decoded([octets[:length]])
        assert rest is None
        assert isinstance(found, bytes)
        assert content.startswith(found)


# What stands between "a" and "b" → the content that goes on (REPAIR), its flaw (REFUSE). None of it ends the message.
NO_END: dict[bytes, tuple[bytes | Flaw, Flaw | bytes]] = {
    # Bare LF (SMTP smuggling: some servers take it for a line end)
    b"\n": (b"\r\n", Flaw.BARE_LF),
    b"\n\n": (b"\r\n\r\n", Flaw.BARE_LF),
    b"\n.\n": (b"\r\n.\r\n", Flaw.BARE_LF),
    b"\n.\r\n": (b"\r\n.\r\n", Flaw.BARE_LF),
    b"\r\n.\n": (b"\r\n\r\n", Flaw.BARE_LF),
    b"\n..\n": (b"\r\n..\r\n", Flaw.BARE_LF),
    b"\n..\r\n": (b"\r\n..\r\n", Flaw.BARE_LF),
    b"\r\n..\n": (b"\r\n.\r\n", Flaw.BARE_LF),
    b"\n\r\n": (b"\r\n\r\n", Flaw.BARE_LF),
    b"\n.\n\r\n": (b"\r\n.\r\n\r\n", Flaw.BARE_LF),
    b"\r\n\n.\r\n": (b"\r\n\r\n.\r\n", Flaw.BARE_LF),
    b"\r\n\n.\n": (b"\r\n\r\n.\r\n", Flaw.BARE_LF),
    b"\r\n.\n\r\n": (b"\r\n\r\n\r\n", Flaw.BARE_LF),
    b"\n.\n.\n": (b"\r\n.\r\n.\r\n", Flaw.BARE_LF),
    # Bare CR (some servers take it for a line end, others drop it)
    b"\r": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\r": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r.\r": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r.\r\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\n.\r": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\n.\r\r\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\n\r.\r\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\n\r.\r": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\r\n.\r": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\r\n.\r\r\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\r\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\n\r.\r\n": (Flaw.BARE_CR, Flaw.BARE_LF),
    b"\n.\r": (Flaw.BARE_CR, Flaw.BARE_LF),
    b"\r.\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\n\r": (Flaw.BARE_CR, Flaw.BARE_LF),
    b"\r\x00\n.\r\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    b"\r\n.\r\x00\n": (Flaw.BARE_CR, Flaw.BARE_CR),
    # NUL (some servers drop it)
    b"\r\n\x00.\r\n": (Flaw.HIDDEN_DOT, Flaw.HIDDEN_DOT),
    b"\r\n\x00\x00\x00.\r\n": (Flaw.HIDDEN_DOT, Flaw.HIDDEN_DOT),
    b"\r\n\x00.\x00\r\n": (Flaw.HIDDEN_DOT, Flaw.HIDDEN_DOT),
    b"\r\n\x00.x\r\n": (Flaw.HIDDEN_DOT, Flaw.HIDDEN_DOT),
    b"\n\x00.\r\n": (Flaw.HIDDEN_DOT, Flaw.BARE_LF),
    b"\n\x00.\n": (Flaw.HIDDEN_DOT, Flaw.BARE_LF),
    b"\r\n.\x00.\r\n": (Flaw.HIDDEN_DOT, Flaw.HIDDEN_DOT),  # as it is without its stuffing
    b"\r\n.\x00\r\n": (b"\r\n\x00\r\n", b"\r\n\x00\r\n"),
    b"\r\n\x00x.\r\n": (b"\r\n\x00x.\r\n", b"\r\n\x00x.\r\n"),
    b"\r\n\x00\r\n": (b"\r\n\x00\r\n", b"\r\n\x00\r\n"),
    b"x\x00.\r\n": (b"x\x00.\r\n", b"x\x00.\r\n"),
    # Other line ends, real and imagined
    b"\x0b.\x0b": (b"\x0b.\x0b", b"\x0b.\x0b"),
    b"\x0c.\x0c": (b"\x0c.\x0c", b"\x0c.\x0c"),
    b"\xc2\x85.\xc2\x85": (b"\xc2\x85.\xc2\x85", b"\xc2\x85.\xc2\x85"),
    b"\xe2\x80\xa8.\xe2\x80\xa8": (b"\xe2\x80\xa8.\xe2\x80\xa8", b"\xe2\x80\xa8.\xe2\x80\xa8"),
    b"\r\n. \r\n": (b"\r\n \r\n", b"\r\n \r\n"),
    b"\r\n .\r\n": (b"\r\n .\r\n", b"\r\n .\r\n"),
    b"\r\n.\t\r\n": (b"\r\n\t\r\n", b"\r\n\t\r\n"),
    b"\\r\\n.\\r\\n": (b"\\r\\n.\\r\\n", b"\\r\\n.\\r\\n"),
}


@each_cut
@pytest.mark.parametrize("sequence", NO_END, ids=repr)
def test_what_ends_no_message(sequence: bytes, cut: Cut) -> None:
    octets = b"a" + sequence + b"b"
    repaired, refused = NO_END[sequence]
    for bare_newline, wanted in (REPAIR, repaired), (REFUSE, refused):
        found = wanted if isinstance(wanted, Flaw) else b"a" + wanted + b"b\r\n"
        assert decoded(cut(octets), bare_newline)[1] is None
        assert decoded(cut(octets + b"\r\n.\r\nQUIT\r\n"), bare_newline) == (found, b"QUIT\r\n")


@pytest.mark.parametrize("sequence", NO_END, ids=repr)
def test_what_goes_on_is_seen_alike_by_every_server(sequence: bytes) -> None:
    """However lax a server behind us reads what we write, it sees one message, and its end where we saw it."""
    content, _ = decoded([b"a" + sequence + b"b\r\n.\r\n"])
    if isinstance(content, Flaw):
        return
    encoder = DataEncoder()
    written = encoder.encode(content) + encoder.end()
    for seen in (written, written.replace(b"\x00", b""), written.replace(b"\r\n", b"\n"), written.replace(b"\r", b"")):
        ends = [line for line in seen.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line == b"."]
        assert ends == [b"."]


@each_cut
@pytest.mark.parametrize("bare_newline", BareNewline)
def test_a_bare_cr_before_crlf_dot_crlf_does_not_hide_it(bare_newline: BareNewline, cut: Cut) -> None:
    """CRLF.CRLF it is; that message is refused."""
    assert decoded(cut(b"a\r\r\n.\r\nQUIT\r\n"), bare_newline) == (Flaw.BARE_CR, b"QUIT\r\n")


@each_cut
@pytest.mark.parametrize("start", [b"\n", b"\r", b".\n", b".\r", b"\n.\r\n", b"\x00.\r\n", b"\r.\r\n"], ids=repr)
def test_the_first_line_is_a_line_as_any_other(start: bytes, cut: Cut) -> None:
    wanted = decoded([b"\r\n" + start + b"b\r\n.\r\n"])[0]
    found = decoded(cut(start + b"b\r\n.\r\n"))[0]
    assert (found if isinstance(found, Flaw) else b"\r\n" + found) == wanted


@each_cut
def test_the_first_flaw_counts(cut: Cut) -> None:
    assert decoded(cut(b"a\nb\rc\r\n.\r\n"), REFUSE) == (Flaw.BARE_LF, b"")
    assert decoded(cut(b"a\rb\nc\r\n.\r\n"), REFUSE) == (Flaw.BARE_CR, b"")
    assert decoded(cut(b"a\r\n\x00.b\rc\r\n.\r\n"), REFUSE) == (Flaw.HIDDEN_DOT, b"")
    assert decoded(cut(b"a\rb\r\n\x00.c\r\n.\r\n"), REFUSE) == (Flaw.BARE_CR, b"")


@each_cut
def test_content_comes_out_up_to_the_flaw(cut: Cut) -> None:
    decoder = DataDecoder(REPAIR)
    content = b"".join(decoder.decode(chunk)[0] for chunk in cut(b"..a\r\nb\rc\r\n.\r\n"))
    assert content == b".a\r\nb"
    assert decoder.flaw is Flaw.BARE_CR


def test_nothing_much_is_held_back() -> None:
    decoder = DataDecoder(REPAIR)
    assert decoder.decode(b"a\r\n.\r")[0] == b"a"
    assert decoder.decode(b"\nQUIT\r\n") == (b"\r\n", b"QUIT\r\n")


_DATA = st.lists(st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b"\x00", b"\r\n.", b"\r\n.\r\n"])).map(b"".join)


@no_deadline
@given(_DATA, PLACES, st.sampled_from(BareNewline))
@example(b"\r\x00\n.", [1], REPAIR)
def test_data_in_any_pieces(octets: bytes, places: list[int], bare_newline: BareNewline) -> None:
    assert decoded(at(octets, *places), bare_newline) == decoded([octets], bare_newline)


@no_deadline
@given(_DATA, st.sampled_from(BareNewline))
def test_only_crlf_dot_crlf_ends_a_message(octets: bytes, bare_newline: BareNewline) -> None:
    _, end, rest = (b"\r\n" + octets).partition(b"\r\n.\r\n")
    assert decoded([octets], bare_newline)[1] == (rest if end else None)


@no_deadline
@given(_DATA, PLACES)
def test_content_never_has_a_bare_cr_or_lf(octets: bytes, places: list[int]) -> None:
    content, _ = decoded([*at(octets, *places), b"\r\n.\r\n"])
    if isinstance(content, bytes):
        assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")


# The way out

_CLEAN = st.lists(st.sampled_from([b"a", b".", b"\r\n", b".\r\n", b"\r\n.", b"\xff\x00"])).map(b"".join)
_MESSAGE = _CLEAN.map(lambda text: text and text + b"\r\n")


def encoded(chunks: list[bytes]) -> bytes:
    encoder = DataEncoder()
    return b"".join(encoder.encode(chunk) for chunk in chunks) + encoder.end()


# Content → what goes over the wire
ENCODED: dict[str, tuple[bytes, bytes]] = {
    "empty": (b"", b".\r\n"),
    "a line": (b"a\r\n", b"a\r\n.\r\n"),
    "an empty line": (b"\r\n", b"\r\n.\r\n"),
    "lone dot": (b".\r\n", b"..\r\n.\r\n"),
    "dots": (b"..\r\n...\r\n", b"...\r\n....\r\n.\r\n"),
    "dot at the start of a line": (b".a\r\nb\r\n.c\r\n", b"..a\r\nb\r\n..c\r\n.\r\n"),
    "dot elsewhere": (b"a.\r\nb.c\r\n", b"a.\r\nb.c\r\n.\r\n"),
    "dot behind an empty line": (b"\r\n.\r\n", b"\r\n..\r\n.\r\n"),
    "last line without its end": (b"a", b"a\r\n.\r\n"),
    "last line is a dot without its end": (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
}


@each_cut
@pytest.mark.parametrize(("content", "octets"), ENCODED.values(), ids=ENCODED.keys())
def test_encoded(content: bytes, octets: bytes, cut: Cut) -> None:
    assert encoded(cut(content)) == octets


def test_lone_dots_at_every_border_of_chunks() -> None:
    content = b".\r\n.\r\n..\r\n\r\n.\r\na\r\n.\r\n"
    whole = encoded([content])
    for first in range(len(content) + 1):
        for second in range(first, len(content) + 1):
            assert encoded(at(content, first, second)) == whole


@no_deadline
@given(_MESSAGE, PLACES, PLACES)
def test_any_message_round_trips_in_any_pieces(content: bytes, out: list[int], back: list[int]) -> None:
    octets = encoded(at(content, *out))
    found, rest = decoded(at(octets + b"QUIT\r\n", *back), REFUSE)
    if found is not Flaw.HIDDEN_DOT:
        assert found == content
    assert rest == b"QUIT\r\n"
