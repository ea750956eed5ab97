"""Replies: tables of what is read, what is written, and what becomes of those that are passed on."""

from __future__ import annotations

import pytest
from feeding import Cut, at, each_cut, no_deadline
from hypothesis import given
from hypothesis import strategies as st

from mailgate.protocol.framing import LineBuffer
from mailgate.protocol.reply import (
    MAX_LINE,
    MAX_LINE_READ,
    MAX_LINES_READ,
    MAX_LINES_RELAYED,
    BadReply,
    Reply,
    ReplyParser,
    passed_on,
    reply,
)


def read(chunks: list[bytes]) -> list[Reply]:
    """All replies in some octets. Raises BadReply."""
    lines, parser = LineBuffer(MAX_LINE_READ), ReplyParser()
    found = []
    for chunk in chunks:
        lines.feed(chunk)
        while (line := lines.take()) is not None:
            answer = parser.line(line)
            if answer is not None:
                found.append(answer)
    return found


# Reading

GOOD: dict[str, tuple[bytes, Reply]] = {
    "one line": (b"250 ok\r\n", reply(250, "", "ok")),
    "bare LF": (b"250 ok\n", reply(250, "", "ok")),
    "code alone": (b"250\r\n", reply(250, "", "")),
    "code and space": (b"250 \r\n", reply(250, "", "")),
    "several spaces": (b"250   ok \r\n", reply(250, "", "  ok ")),
    "lowest code": (b"200 ok\r\n", reply(200, "", "ok")),
    "highest code": (b"599 no\r\n", reply(599, "", "no")),
    "several lines": (b"250-one\r\n250-\r\n250 three\r\n", reply(250, "", "one", "", "three")),
    "last line without text": (b"250-one\r\n250\r\n", reply(250, "", "one", "")),
    "most lines": (b"250-x\r\n" * 127 + b"250 x\r\n", Reply(250, "", ("x",) * 128)),
    "enhanced code": (b"550 5.1.1 no\r\n", reply(550, "5.1.1", "no")),
    "enhanced code alone": (b"550 5.1.1\r\n", reply(550, "5.1.1", "")),
    "enhanced code, several spaces": (b"550 5.1.1   no\r\n", reply(550, "5.1.1", "no")),
    "enhanced code, most digits": (b"550 5.123.456 no\r\n", reply(550, "5.123.456", "no")),
    "enhanced code, class of another": (b"250 5.1.1 ok\r\n", reply(250, "5.1.1", "ok")),
    "enhanced code on each line": (b"550-5.1.1 no\r\n550 5.1.1 never\r\n", reply(550, "5.1.1", "no", "never")),
    "enhanced code on the first line": (b"550-5.1.1 no\r\n550 never\r\n", reply(550, "5.1.1", "no", "never")),
    "enhanced codes that differ": (b"550-5.1.1 no\r\n550 5.2.2 never\r\n", reply(550, "5.1.1", "no", "never")),
    "enhanced code on the last line": (b"550-no\r\n550 5.1.1 never\r\n", reply(550, "", "no", "5.1.1 never")),
    "not enhanced: class 3": (b"354 3.0.0 go\r\n", reply(354, "", "3.0.0 go")),
    "not enhanced: text at once": (b"250 2.0.0ok\r\n", reply(250, "", "2.0.0ok")),
    "not enhanced: four digits": (b"250 2.0.1234 ok\r\n", reply(250, "", "2.0.1234 ok")),
    "not enhanced: two parts": (b"250 2.0 ok\r\n", reply(250, "", "2.0 ok")),
    "not enhanced: foreign digits": ("250 2.\u0661.\u0665 ok\r\n".encode(), reply(250, "", "2.\u0661.\u0665 ok")),
    "UTF-8": ("550 geht nicht für dich\r\n".encode(), reply(550, "", "geht nicht für dich")),
    "Latin-1": (b"550 f\xfcr\r\n", reply(550, "", "f\ufffdr")),
    "control characters": (b"550 a\x00\x1b[31m\tb\r\n", reply(550, "", "a\x00\x1b[31m\tb")),
    "CR within": (b"550 a\rb\r\n", reply(550, "", "a\rb")),
}


@each_cut
@pytest.mark.parametrize(("octets", "wanted"), GOOD.values(), ids=GOOD.keys())
def test_read(octets: bytes, wanted: Reply, cut: Cut) -> None:
    assert read(cut(octets)) == [wanted]


@pytest.mark.parametrize(("octets", "wanted"), GOOD.values(), ids=GOOD.keys())
def test_read_with_trailing_data(octets: bytes, wanted: Reply) -> None:
    assert read([octets + b"451-4.3.0 and\r\n451 4.3.0 more\r\n250 unfinished\r"]) == [
        wanted,
        reply(451, "4.3.0", "and", "more"),
    ]


def test_an_incomplete_reply_is_none() -> None:
    octets = b"250-one\r\n250 two\r\n"
    for length in range(len(octets)):
        assert read([octets[:length]]) == []


BAD: dict[str, tuple[bytes, str]] = {
    "empty line": (b"\r\n", r"not a reply line: b''"),
    "no code": (b"ok\r\n", r"not a reply line: b'ok'"),
    "two digits": (b"25 ok\r\n", "not a reply line"),
    "four digits": (b"2500 ok\r\n", "not a reply line"),
    "sign": (b"+25 ok\r\n", "not a reply line"),
    "leading space": (b" 25 ok\r\n", "not a reply line"),
    "underscore": (b"2_5 ok\r\n", "not a reply line"),
    "tab behind the code": (b"250\tok\r\n", "not a reply line"),
    "no space behind the code": (b"250ok\r\n", "not a reply line"),
    "digits that are not ASCII": ("2\u06650 ok\r\n".encode(), "not a reply line"),
    "NUL": (b"\x00250 ok\r\n", "not a reply line"),
    "1xx": (b"199 ok\r\n", "no such reply code"),
    "6xx": (b"600 ok\r\n", "no such reply code"),
    "000": (b"000 ok\r\n", "no such reply code"),
    "junk in the second line": (b"250-one\r\njunk\r\n", "not a reply line: b'junk'"),
    "another code in the second line": (b"250-one\r\n251 two\r\n", "a reply of 250 goes on with 251"),
    "another class in the second line": (b"250-one\r\n550 two\r\n", "a reply of 250 goes on with 550"),
    "too many lines": (b"250-x\r\n" * 128, "a reply of more than 128 lines"),
}


@each_cut
@pytest.mark.parametrize(("octets", "why"), BAD.values(), ids=BAD.keys())
def test_what_is_no_reply(octets: bytes, why: str, cut: Cut) -> None:
    with pytest.raises(BadReply, match=f"^{why}"):
        read(cut(octets))


@pytest.mark.parametrize(("octets", "why"), BAD.values(), ids=BAD.keys())
def test_a_good_reply_before_a_bad_one(octets: bytes, why: str) -> None:
    parser = ReplyParser()
    assert parser.line(b"220 hello") == reply(220, "", "hello")
    *good, bad = octets.removesuffix(b"\r\n").split(b"\r\n")
    for line in good:
        assert parser.line(line) is None
    with pytest.raises(BadReply, match=f"^{why}"):
        parser.line(bad)


def test_what_an_error_shows_of_a_line_is_bounded() -> None:
    with pytest.raises(BadReply) as raised:
        ReplyParser().line(b"\xff" * MAX_LINE_READ)
    assert len(str(raised.value)) < 300


@no_deadline
@given(st.binary(), st.lists(st.integers(0, 200)))
def test_any_octets_in_any_pieces_give_the_same(octets: bytes, places: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> list[Reply] | str:
        try:
            return read(chunks)
        except BadReply as bad:
            return str(bad)

    assert outcome(at(octets, *places)) == outcome([octets])


# Writing

WRITTEN: dict[str, tuple[Reply, bytes]] = {
    "one line": (reply(250, "2.0.0", "ok"), b"250 2.0.0 ok\r\n"),
    "without enhanced code": (reply(354, "", "go"), b"354 go\r\n"),
    "several lines": (reply(550, "5.1.1", "no", "", "never"), b"550-5.1.1 no\r\n550-5.1.1 \r\n550 5.1.1 never\r\n"),
    "EHLO": (reply(250, "", "gw", "SIZE 10"), b"250-gw\r\n250 SIZE 10\r\n"),
    "empty text": (reply(250, "2.0.0", ""), b"250 2.0.0 \r\n"),
    "no text": (reply(250, "2.0.0"), b"250 2.0.0 \r\n"),
    "nothing but a code": (reply(250, ""), b"250 \r\n"),
    "CRLF in the text": (reply(550, "5.0.0", "a\r\n250 b"), b"550 5.0.0 a?250 b\r\n"),
    "control characters": (reply(550, "5.0.0", "a\x00\x1b\x7f\tb"), b"550 5.0.0 a?b\r\n"),
    "not ASCII": (reply(550, "5.0.0", "für ä b"), b"550 5.0.0 f?r ? b\r\n"),
    "lone surrogate": (reply(550, "5.0.0", "a\udcffb"), b"550 5.0.0 a?b\r\n"),
    "longest line": (reply(550, "5.0.0", "x" * 500), b"550 5.0.0 " + b"x" * 500 + b"\r\n"),
    "line too long": (reply(550, "5.0.0", "x" * 501), b"550 5.0.0 " + b"x" * 500 + b"\r\n"),
    "longest line without enhanced code": (reply(550, "", "x" * 507), b"550 " + b"x" * 506 + b"\r\n"),
}


@pytest.mark.parametrize(("answer", "octets"), WRITTEN.values(), ids=WRITTEN.keys())
def test_written(answer: Reply, octets: bytes) -> None:
    assert bytes(answer) == octets


@pytest.mark.parametrize("code", [0, 100, 199, 600, -250])
def test_codes_that_are_none(code: int) -> None:
    with pytest.raises(ValueError, match="a reply code is 200 to 599"):
        reply(code, "", "x")


@pytest.mark.parametrize(("code", "kind"), [(200, 2), (299, 2), (354, 3), (421, 4), (599, 5)])
def test_the_first_digit_is_the_kind(code: int, kind: int) -> None:
    assert reply(code, "", "x").kind == kind


def test_on_one_line() -> None:
    assert str(reply(550, "5.1.1", "no", "never")) == "550 5.1.1 no never"
    assert str(reply(354, "", "go")) == "354 go"
    assert str(reply(250, "")) == "250"


CODES = st.integers(200, 599)
ENHANCED = st.one_of(st.just(""), st.from_regex(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True))
REPLIES = st.builds(Reply, CODES, ENHANCED, st.lists(st.text(), max_size=10).map(tuple))


def assert_well_formed(octets: bytes) -> Reply:
    """One reply, no octet more, in lines that every client can read."""
    assert octets.endswith(b"\r\n")
    for line in octets[:-2].split(b"\r\n"):
        assert len(line) + 2 <= MAX_LINE
        assert all(0x20 <= octet <= 0x7E for octet in line)
    (answer,) = read([octets])
    return answer


@no_deadline
@given(REPLIES)
def test_whatever_is_written_is_one_reply(answer: Reply) -> None:
    again = assert_well_formed(bytes(answer))
    assert again.code == answer.code
    assert len(again.lines) == max(1, len(answer.lines))
    if answer.enhanced:
        assert again.enhanced == answer.enhanced


# Passing on

PASSED: dict[str, tuple[bytes, bytes]] = {
    "as it is": (b"550 5.1.1 no such user\r\n", b"550 5.1.1 no such user\r\n"),
    "several lines": (b"550-5.1.1 no\r\n550 5.1.1 never\r\n", b"550-5.1.1 no\r\n550 5.1.1 never\r\n"),
    "enhanced code missing": (b"250 ok\r\n", b"250 2.0.0 ok\r\n"),
    "enhanced code missing, 4xx": (b"452 full\r\n", b"452 4.0.0 full\r\n"),
    "enhanced code on one line only": (b"550-5.1.1 no\r\n550 never\r\n", b"550-5.1.1 no\r\n550 5.1.1 never\r\n"),
    "enhanced 5 behind 2xx": (b"250 5.1.5 ok\r\n", b"250 2.1.5 ok\r\n"),
    "enhanced 5 behind 4xx": (b"451 5.7.1 later\r\n", b"451 4.7.1 later\r\n"),
    "enhanced 4 behind 5xx": (b"550 4.2.2 no\r\n", b"550 5.2.2 no\r\n"),
    "enhanced 2 behind 5xx": (b"550 2.1.5 no\r\n", b"550 5.1.5 no\r\n"),
    "421": (b"421 4.3.2 closing\r\n", b"451 4.3.2 closing\r\n"),
    "421 without enhanced code": (b"421 closing\r\n", b"451 4.0.0 closing\r\n"),
    "421 with another class": (b"421 5.3.2 closing\r\n", b"451 4.3.2 closing\r\n"),
    "221": (b"221 2.0.0 bye\r\n", b"250 2.0.0 bye\r\n"),
    "3xx has no enhanced code": (b"354 2.0.0 go\r\n", b"354 go\r\n"),
    "control characters": (b"550 5.1.1 a\x00\x1b[31mb\tc\r\n", b"550 5.1.1 a?[31mb?c\r\n"),
    "CR within": (b"550 5.1.1 a\r250 b\r\n", b"550 5.1.1 a?250 b\r\n"),
    "not ASCII": ("550 5.1.1 für dich\r\n".encode(), b"550 5.1.1 f?r dich\r\n"),
    "foreign digits": ("250 2.\u0661.\u0665 ok\r\n".encode(), b"250 2.0.0 2.?.? ok\r\n"),
    "long line": (b"550 5.1.1 " + b"x" * 2000 + b"\r\n", b"550 5.1.1 " + b"x" * 500 + b"\r\n"),
    "many lines": (b"550-5.1.1 x\r\n" * 8 + b"550 5.1.1 y\r\n", b"550-5.1.1 x\r\n" * 7 + b"550 5.1.1 x\r\n"),
    "no text": (b"550\r\n", b"550 5.0.0 \r\n"),
}


@pytest.mark.parametrize(("theirs", "ours"), PASSED.values(), ids=PASSED.keys())
def test_passed_on(theirs: bytes, ours: bytes) -> None:
    (answer,) = read([theirs])
    assert bytes(passed_on(answer)) == ours


def test_passed_on_with_a_detail_for_a_missing_enhanced_code() -> None:
    assert passed_on(reply(250, "", "ok"), "1.5") == reply(250, "2.1.5", "ok")
    assert passed_on(reply(250, "2.6.0", "ok"), "1.5") == reply(250, "2.6.0", "ok")


def test_a_passed_on_reply_is_bounded_in_memory_too() -> None:
    long = Reply(550, "5.0.0", ("x" * MAX_LINE_READ,) * MAX_LINES_READ)
    ours = passed_on(long)
    assert len(ours.lines) == MAX_LINES_RELAYED
    assert max(len(line) for line in ours.lines) <= MAX_LINE


_TEXTS = st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), ENHANCED.map(str.encode))


@no_deadline
@given(CODES, st.lists(_TEXTS.map(lambda text: text.replace(b"\n", b" ")), min_size=1, max_size=12))
def test_whatever_is_passed_on_is_one_reply_and_never_a_goodbye(code: int, texts: list[bytes]) -> None:
    last = len(texts) - 1
    lines = [b"%d%s%s\n" % (code, b" " if at == last else b"-", text) for at, text in enumerate(texts)]
    (theirs,) = read(lines)
    ours = assert_well_formed(bytes(passed_on(theirs)))
    assert ours.kind == theirs.kind
    assert ours.code not in (421, 221)
    if theirs.kind != 3:
        assert ours.enhanced.startswith(f"{theirs.kind}.")
