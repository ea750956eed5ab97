"""The server side: the order of its replies, and that nothing makes it stumble."""

from __future__ import annotations

import dataclasses

import pytest
from feeding import at, no_deadline
from hypothesis import given
from hypothesis import strategies as st
from server_states import ENVELOPE_OF_THREE, asked, server_in, three_rcpts
from serving import GOOD, LMTP, SMTP, Server

from mailgate.protocol.command import MAX_LINE
from mailgate.protocol.events import Content, ContentEnd, ContentSpoilt, DataAsked, MailAsked, Quit, RcptAsked
from mailgate.protocol.framing import BareNewline, LineBuffer
from mailgate.protocol.reply import MAX_LINE_READ, Reply, ReplyParser, Role, final_prdr_reply, reply
from mailgate.protocol.server import MOUTHFUL, ServerOptions, ServerProtocol, State

# The order of replies

ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_replies_leave_in_the_order_of_commands(order: tuple[int, ...]) -> None:
    protocol, slots = three_rcpts()
    written: list[bytes] = []
    for done, position in enumerate(order, 1):
        protocol.answer(slots[position], reply(250, "2.1.5", str(position)))
        ready = next((number for number in range(3) if number not in order[:done]), 3)
        written.append(protocol.data_to_send())
        assert b"".join(written) == b"".join(b"250 2.1.5 %d\r\n" % number for number in range(ready))
        assert protocol.unanswered == 3 - ready
        assert isinstance(protocol.next_event(), DataAsked) == (done == 3)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_lmtp_outcomes_leave_in_the_order_of_recipients(order: tuple[int, ...]) -> None:
    protocol, slots = three_rcpts(LMTP)
    for slot in slots:
        protocol.answer(slot, GOOD["rcpt"])
    protocol.answer(asked(protocol), GOOD["data"])
    protocol.next_event()
    end = protocol.next_event()
    assert isinstance(end, ContentEnd)
    protocol.data_to_send()
    for position in order:
        assert protocol.next_event() is None, "QUIT waits for all outcomes"
        protocol.answer(end.slots[position], reply(250, "2.0.0", str(position)))
    assert protocol.data_to_send() == b"250 2.0.0 0\r\n250 2.0.0 1\r\n250 2.0.0 2\r\n"
    assert isinstance(protocol.next_event(), Quit)
    assert protocol.data_to_send() == b"221 2.0.0 Bye\r\n"


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_prdr_outcomes_leave_in_the_order_of_recipients_and_then_the_final_one(order: tuple[int, ...]) -> None:
    protocol = ServerProtocol(SMTP)
    protocol.greet(reply(220, "", "hi"))
    protocol.receive(ENVELOPE_OF_THREE.replace(b"<a@x>", b"<a@x> PRDR"))
    protocol.next_event()
    protocol.answer(asked(protocol), GOOD["mail"])
    for slot in [asked(protocol) for _ in range(3)]:
        protocol.answer(slot, GOOD["rcpt"])
    protocol.answer(asked(protocol), GOOD["data"])
    protocol.data_to_send()
    protocol.next_event()
    end = protocol.next_event()
    assert isinstance(end, ContentEnd)
    assert protocol.data_to_send() == b"353 One reply per recipient follows\r\n", "at once"
    for position in order:
        assert protocol.next_event() is None, "QUIT waits for all outcomes"
        protocol.answer(end.slots[position], reply(250 if position else 451, "", str(position)))
    assert protocol.data_to_send() == b"451 0\r\n250 1\r\n250 2\r\n250 2.0.0 Done, see the replies per recipient\r\n"
    assert isinstance(protocol.next_event(), Quit)


OVERTAKES = {
    b"RCPT TO:<c@y>\r\n": True,
    b"rcpt to:<c@y>\r\n": True,
    b"RCPT TO:<c@y>\n": True,
    b"RCPT TO:<c@y>": False,
    b"RCPT": False,
    b"RCPT\r\n": False,
    b"RCPTX\r\n": False,
    b" RCPT TO:<c@y>\r\n": False,
    b"NOOP\r\n": False,
    b"RSET\r\n": False,
    b"DATA\r\n": False,
    b"MAIL FROM:<a@x>\r\n": False,
    b"EHLO me\r\n": False,
    b"QUIT\r\n": False,
    b"junk\r\n": False,
    b"\r\n": False,
    b"x" * 5000 + b"RCPT TO:<c@y>\r\n": False,
}


@pytest.mark.parametrize("line", OVERTAKES, ids=lambda line: repr(line[-20:]))
def test_only_rcpt_overtakes_rcpt(line: bytes) -> None:
    server = server_in(State.MAIL)
    protocol = server.protocol
    protocol.receive(b"RCPT TO:<b@y>\r\n" + line)
    slot = asked(protocol)
    event = protocol.next_event()
    assert isinstance(event, RcptAsked) == OVERTAKES[line]
    assert protocol.data_to_send() == b""
    protocol.answer(slot, GOOD["rcpt"])
    if isinstance(event, RcptAsked):
        protocol.answer(event.slot, GOOD["rcpt"])
    server.work()
    assert server.written.startswith(bytes(GOOD["rcpt"]))


def test_a_bad_rcpt_among_good_ones_is_answered_in_its_place() -> None:
    server = server_in(State.MAIL)
    protocol = server.protocol
    protocol.receive(b"RCPT TO:<b@y>\r\nRCPT TO:<>\r\nRCPT TO:<c@y>\r\n")
    first = asked(protocol)
    assert protocol.next_event() is None
    assert protocol.data_to_send() == b""
    protocol.answer(first, GOOD["rcpt"])
    protocol.answer(asked(protocol), reply(550, "5.1.1", "no"))
    lines = protocol.data_to_send().split(b"\r\n")
    assert [line[:9] for line in lines] == [b"250 2.1.5", b"501 5.1.3", b"550 5.1.1", b""]


def test_no_more_rcpts_are_asked_at_a_time_than_a_transaction_may_have() -> None:
    server = server_in(State.MAIL, dataclasses.replace(SMTP, recipients=3))
    protocol = server.protocol
    protocol.receive(b"RCPT TO:<b@y>\r\n" * 5)
    slots = [asked(protocol) for _ in range(3)]
    assert protocol.next_event() is None
    assert protocol.unanswered == 3
    for slot in slots:
        protocol.answer(slot, GOOD["rcpt"])
    assert protocol.next_event() is None
    lines = protocol.data_to_send().split(b"\r\n")
    assert [line[:9] for line in lines] == [b"250 2.1.5"] * 3 + [b"452 4.5.3"] * 2 + [b""]


def test_a_burst_is_answered_by_mouthfuls() -> None:
    server = server_in(State.READY)
    protocol = server.protocol
    fine = b"250 2.0.0 Fine\r\n"
    protocol.receive(b"NOOP\r\n" * 1000 + b"MAIL FROM:<a@x>\r\n")
    written = []
    while (event := protocol.next_event()) is None:
        written.append(protocol.data_to_send())
        assert MOUTHFUL <= len(written[-1]) < MOUTHFUL + len(fine)
    assert isinstance(event, MailAsked)
    assert b"".join(written) + protocol.data_to_send() == fine * 1000


def test_no_slot_is_answered_twice() -> None:
    protocol, slots = three_rcpts()
    protocol.answer(slots[1], GOOD["rcpt"])
    with pytest.raises(RuntimeError, match=r"answered twice: Slot\('RCPT TO:<c@y>'"):
        protocol.answer(slots[1], GOOD["rcpt"])


@pytest.mark.parametrize(
    "octets", [b"a\rb", b"123456789\rb", b"1234567890123", b"a\r\n\x00.b"], ids=["CR", "CR at the limit", "big", "NUL"]
)
def test_no_content_comes_with_a_flaw_or_behind_it(octets: bytes) -> None:
    server = server_in(State.RCPT, dataclasses.replace(SMTP, message_size=10))
    server.protocol.receive(b"DATA\r\n")
    server.protocol.answer(asked(server.protocol), GOOD["data"])
    server.protocol.receive(octets + b"more\r\n.\r\n")
    assert [type(event) for event in iter(server.protocol.next_event, None)] == [ContentSpoilt, ContentEnd]


def test_no_content_is_empty() -> None:
    server = server_in(State.CONTENT)  # behind a whole line
    server.protocol.receive(b"a\r")
    assert server.protocol.next_event() == Content(b"\r\na")
    server.protocol.receive(b"\n.\r")
    assert server.protocol.next_event() is None


def test_replies_are_observed_as_they_leave() -> None:
    seen: list[tuple[str, str]] = []
    protocol = ServerProtocol(SMTP, lambda about, answer: seen.append((about, str(answer))))
    protocol.greet(reply(220, "", "hi"))
    protocol.receive(b"junk\r\n")
    protocol.next_event()
    protocol.goodbye(reply(421, "4.3.2", "bye"))
    assert seen == [("greeting", "220 hi"), ("junk", "500 5.5.1 Command unrecognized"), ("goodbye", "421 4.3.2 bye")]


# PRDR's final reply

OK, LATER, FULL, NO, NEVER = (reply(code, "", str(code)) for code in (250, 451, 452, 550, 554))
FINAL = {
    "all": ([OK, OK], 250),
    "one": ([OK], 250),
    "first only": ([OK, NO, LATER], 250),
    "last only": ([NO, LATER, OK], 250),
    "none, 4xx": ([LATER, FULL], 451),
    "none, 5xx": ([NO, NEVER], 550),
    "none, mixed": ([NO, FULL], 451),
    "none, mixed the other way": ([FULL, NO], 451),
}


@pytest.mark.parametrize(("replies", "code"), FINAL.values(), ids=FINAL.keys())
def test_final_prdr_reply(replies: list[Reply], code: int) -> None:
    assert final_prdr_reply(replies).code == code


# Anything at all

_PIECES = st.one_of(
    st.sampled_from((b"EHLO me\r\n", b"LHLO me\r\n", b"HELO me\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n")),
    st.sampled_from(
        (b"MAIL FROM:<a@x>\r\n", b"MAIL FROM:<a@x> PRDR SIZE=5\r\n", b"MAIL FROM:<data451@x> SMTPUTF8\r\n")
    ),
    st.sampled_from((b"RCPT TO:<b@y>\r\n", b"RCPT TO:<dot452@y>\r\n", b"RCPT TO:<rcpt550@y>\r\n", b"DATA\r\n")),
    st.sampled_from((b".\r\n", b"..\r\n", b"\r\n.\r\n", b"hello\r\n", b"junk\r\n", b"x" * (MAX_LINE + 1))),
    st.sampled_from((b"\n", b"\r", b".", b"\x00", b"\xff")),
)
_USUAL = st.sampled_from([b"EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n", b"LHLO me\r\nMAIL FROM:<a@x>\r\n", b""])
OCTETS = st.tuples(_USUAL, st.lists(st.one_of(_PIECES, st.binary(max_size=8)), max_size=30)).map(
    lambda parts: parts[0] + b"".join(parts[1])
)
OPTIONS = st.builds(
    ServerOptions,
    role=st.sampled_from(Role),
    hostname=st.just("gw"),
    message_size=st.sampled_from([4, 1000]),
    recipients=st.sampled_from([2, 100]),
    bad_commands=st.sampled_from([2, 100]),
    bare_newline=st.sampled_from(BareNewline),
)


def run(options: ServerOptions, chunks: list[bytes]) -> Server:
    server = Server(options)
    server.greet()
    for chunk in chunks:
        server.feed(chunk)
    server.end()
    return server


@no_deadline
@given(OPTIONS, OCTETS, st.lists(st.integers(0, 400), max_size=10))
def test_any_octets_in_any_pieces_give_the_same(options: ServerOptions, octets: bytes, places: list[int]) -> None:
    whole, pieces = run(options, [octets]), run(options, at(octets, *places))
    assert pieces.written == whole.written
    assert pieces.told == whole.told


@no_deadline
@given(OPTIONS, OCTETS)
def test_byte_by_byte_is_the_same(options: ServerOptions, octets: bytes) -> None:
    whole, pieces = run(options, [octets]), run(options, [octets[at : at + 1] for at in range(len(octets))])
    assert pieces.written == whole.written
    assert pieces.told == whole.told


def replies_in(octets: bytes) -> list[Reply]:
    """All replies, and nothing else."""
    lines, parser, found = LineBuffer(MAX_LINE_READ), ReplyParser(), []
    lines.feed(octets)
    while (line := lines.take()) is not None:
        answer = parser.line(line)
        if answer is not None:
            found.append(answer)
    assert len(lines) == 0
    return found


@no_deadline
@given(OPTIONS, st.lists(st.one_of(_PIECES, st.binary(max_size=8)).map(lambda piece: piece.replace(b"\n", b""))))
def test_one_reply_per_command(options: ServerOptions, lines: list[bytes]) -> None:
    """In lockstep: each line gets one reply, a message one or, in LMTP and PRDR, as many as it must."""
    server = Server(options)
    server.greet()
    for line in lines:
        if server.protocol.state is State.CLOSED:
            server.feed(line + b"\n")
            assert server.written == b""
            return
        accepted, prdr = server.protocol._accepted, server.protocol._parameters.prdr
        content = server.in_content
        server.feed((line if content else line.strip(b"\r")) + b"\n")
        replies, still_content = replies_in(server.written), server.in_content
        server.written = b""
        if not content:
            assert len(replies) == 1
        elif still_content:
            assert replies == []
        else:
            assert len(replies) == (accepted if options.role is Role.LMTP else accepted + 2 if prdr else 1)
