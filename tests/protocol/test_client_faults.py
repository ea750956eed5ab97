"""The client side, and a next hop that says what it should not: nothing of it is ever a success."""

from __future__ import annotations

import pytest
from client_states import COMMANDS, answers, client_in, events_of
from feeding import Cut, at, each_cut, no_deadline
from hypothesis import given
from hypothesis import strategies as st

from mailgate.protocol.client import (
    Answered,
    Broken,
    ClientProtocol,
    Event,
    SpokenEarly,
    State,
)
from mailgate.protocol.command import Verb
from mailgate.protocol.reply import Role, reply

# What nobody asked for

NOT_AWAITING = (State.HELLO, State.READY, State.MAIL, State.CONTENT)


@each_cut
@pytest.mark.parametrize("code", [200, 220, 250, 251, 354, 353, 421, 451, 550])
@pytest.mark.parametrize("state", NOT_AWAITING, ids=lambda state: state.name)
def test_a_reply_nobody_asked_for(state: State, code: int, cut: Cut) -> None:
    client = client_in(state)
    refusal = code in (451, 550)
    found = events_of(client, *cut(b"%d 4.3.0 unasked\r\n" % code))
    wanted = reply(code, "4.3.0", "unasked")
    if state is State.CONTENT and refusal:
        assert found == [SpokenEarly(wanted)]
        assert client.state is State.CONTENT
    else:
        assert found == [Broken(f"a reply nobody asked for: {wanted}")]
        assert client.state is State.CLOSED


def test_early_refusals_may_be_several_and_the_message_may_end() -> None:
    client = client_in(State.CONTENT)
    assert events_of(client, b"451 a\r\n", b"554 b\r\n") == [
        SpokenEarly(reply(451, "", "a")),
        SpokenEarly(reply(554, "", "b")),
    ]
    client.end()
    assert answers(events_of(client, b"554 c\r\n")) == [("DOT", 554)]


AWAITING: dict[str, tuple[State, list[Verb], str]] = {
    "greeting": (State.GREETING, [], "GREETING"),
    "EHLO": (State.HELLO, [Verb.EHLO], "EHLO"),
    "MAIL": (State.READY, [Verb.MAIL], "MAIL"),
    "RCPT": (State.MAIL, [Verb.RCPT, Verb.RCPT], "RCPT"),
    "DATA": (State.DATA, [], "DATA"),
    "dot": (State.OUTCOME, [], "DOT"),
    "RSET": (State.READY, [Verb.RSET], "RSET"),
    "RSET and MAIL": (State.READY, [Verb.RSET, Verb.MAIL], "RSET"),
    "RCPT and RSET": (State.MAIL, [Verb.RCPT, Verb.RSET], "RCPT"),
    "QUIT": (State.READY, [Verb.QUIT], "QUIT"),
}
each_awaiting = pytest.mark.parametrize(("state", "said", "verb"), AWAITING.values(), ids=AWAITING.keys())


def awaiting(state: State, said: list[Verb]) -> ClientProtocol:
    client = client_in(state)
    for verb in said:
        COMMANDS[verb](client)
    return client


@each_cut
@each_awaiting
def test_421_closes_wherever_it_stands(state: State, said: list[Verb], verb: str, cut: Cut) -> None:
    client = awaiting(state, said)
    assert answers(events_of(client, *cut(b"421 4.3.2 closing\r\n250 trailing\r\n"))) == [(verb, 421)]
    assert client.state is State.CLOSED
    client.receive_eof()
    assert client.next_event() is None


# Verb → code; 354 for the others
MISFITS = {"DATA": 250}


@each_awaiting
def test_a_reply_of_a_class_that_does_not_fit(state: State, said: list[Verb], verb: str) -> None:
    client = awaiting(state, said)
    code = MISFITS.get(verb, 354)
    assert events_of(client, b"%d what\r\n" % code) == [
        Broken(f"a reply that does not fit {Verb[verb].value}: {code} what")
    ]
    assert client.state is State.CLOSED


GARBAGE: dict[str, tuple[bytes, str]] = {
    "text": (b"hello\r\n", "not a reply line: b'hello'"),
    "an empty line": (b"\r\n", "not a reply line: b''"),
    "binary": (b"\x00\xff\x16\x03\n", r"not a reply line: b'\x00\xff\x16\x03'"),
    "junk in the second line": (b"250-a\r\nb\r\n", "not a reply line: b'b'"),
    "a code of no class": (b"150 wait\r\n", "no such reply code: b'150 wait'"),
    "codes that differ": (b"250-a\r\n550 b\r\n", "a reply of 250 goes on with 550"),
    "a line that is too long": (b"250 " + b"x" * 2043 + b"\r\n", "a reply line of more than 2048 octets"),
    "a line without end": (b"250 " + b"x" * 2045, "a reply line of more than 2048 octets"),
    "a continuation line without end": (b"250-a\r\n250-" + b"x" * 2045, "a reply line of more than 2048 octets"),
    "junk without end": (b"\x00" * 2049, "a reply line of more than 2048 octets"),
    "continuation lines without end": (b"250-x\r\n" * 128, "a reply of more than 128 lines"),
}


@each_cut
@pytest.mark.parametrize(("octets", "why"), GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED], ids=lambda one: one.name)
def test_garbage(state: State, octets: bytes, why: str, cut: Cut) -> None:
    client = client_in(state)
    assert events_of(client, *cut(octets)) == [Broken(why)]
    assert client.state is State.CLOSED
    assert events_of(client, b"250 ok\r\n") == []


def test_a_reply_before_garbage_is_still_one() -> None:
    client = client_in(State.OUTCOME)
    first, second = events_of(client, b"250 taken\r\nhello\r\n")
    assert answers([first]) == [("DOT", 250)]
    assert second == Broken("not a reply line: b'hello'")


def test_the_longest_line_and_the_most_lines() -> None:
    client = client_in(State.OUTCOME)
    octets = b"250-" + b"x" * 2042 + b"\r\n" + b"250-y\r\n" * 126 + b"250 z\r\n"
    assert answers(events_of(client, octets)) == [("DOT", 250)]


@pytest.mark.parametrize(
    ("octets", "speaking"),
    [(b"", False), (b"2", True), (b"250-a\r\n", True), (b"451 a\r\n", False), (b"451 a\r\n2", True)],
    ids=repr,
)
def test_a_reply_that_has_only_begun(octets: bytes, speaking: bool) -> None:
    client = client_in(State.CONTENT)
    events_of(client, octets)
    assert client.speaking == speaking


@pytest.mark.parametrize("rest", [b"", b"2", b"250", b"250 ok", b"250 ok\r", b"250-ok\r\n"], ids=repr)
@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED], ids=lambda one: one.name)
def test_the_end_of_the_stream(state: State, rest: bytes) -> None:
    client = client_in(state)
    client.receive(rest)
    client.receive_eof("connection lost")
    assert list(iter(client.next_event, None)) == [Broken("connection lost")]
    assert client.state is State.CLOSED


def test_a_reply_before_the_end_of_the_stream_is_still_one() -> None:
    client = client_in(State.OUTCOME)
    client.receive(b"250 taken\r\n")
    client.receive_eof()
    assert list(iter(client.next_event, None)) == [
        Answered(Verb.DOT, reply(250, "", "taken")),
        Broken("connection closed"),
    ]


def test_a_session_that_is_over_takes_nothing_in() -> None:
    client = client_in(State.CLOSED)
    buffered = client.buffered
    client.receive(b"x" * 1000)
    assert client.buffered == buffered
    assert client.next_event() is None


# Anything at all

_LINES = st.one_of(
    st.sampled_from((b"250 ok\r\n", b"250-ok\r\n", b"353 each\r\n", b"354 go\r\n", b"220 hi\r\n", b"421 bye\r\n")),
    st.sampled_from((b"451 no\r\n", b"550-no\r\n", b"550 5.1.1 no\r\n", b"junk\r\n", b"\r\n", b"250 " + b"x" * 2050)),
    st.sampled_from((b"2", b"50 ", b"\n", b"\r")),
)
OCTETS = st.lists(st.one_of(_LINES, st.binary(max_size=6)), max_size=20).map(b"".join)
STATES = st.sampled_from([state for state in State if state is not State.CLOSED])


@no_deadline
@given(STATES, st.sampled_from(Role), st.booleans(), OCTETS, st.lists(st.integers(0, 200), max_size=8))
def test_any_octets_in_any_pieces_give_the_same(
    state: State, role: Role, prdr: bool, octets: bytes, places: list[int]
) -> None:
    def run(chunks: list[bytes]) -> tuple[list[Event], State]:
        client = client_in(state, role, prdr=prdr)
        found = events_of(client, *chunks)
        client.receive_eof()
        return found + list(iter(client.next_event, None)), client.state

    whole, pieces = run([octets]), run(at(octets, *places))
    assert pieces == whole
    assert whole[1] is State.CLOSED
    assert sum(isinstance(event, Broken) for event in whole[0]) <= 1


@no_deadline
@given(OCTETS.filter(lambda octets: b"250" in octets))
def test_whatever_comes_before_the_dot_is_never_a_success(octets: bytes) -> None:
    client = client_in(State.CONTENT)
    assert not [event for event in events_of(client, octets) if isinstance(event, Answered)]
