"""The server side: its states, the order of its replies, its ends, and that nothing makes it stumble."""

from __future__ import annotations

import dataclasses

import pytest
from feeding import at, no_deadline
from hypothesis import given
from hypothesis import strategies as st
from serving import GOOD, LMTP, SMTP, Server

from mailgate.protocol.command import MAX_LINE, Verb
from mailgate.protocol.events import Content, ContentEnd, DataAsked, Gone, MailAsked, Quit, RcptAsked, Reset, Slot
from mailgate.protocol.framing import BareNewline, LineBuffer
from mailgate.protocol.reply import MAX_LINE_READ, Reply, ReplyParser, Role, reply
from mailgate.protocol.server import MOVES, REFUSED, ServerOptions, ServerProtocol, State, final_prdr_reply

TRY_LATER = reply(421, "4.3.2", "gw closing")

# The way to each state, for SMTP and LMTP alike
HELLO = {Role.SMTP: b"EHLO me\r\n", Role.LMTP: b"LHLO me\r\n"}
WAYS: dict[State, bytes | None] = {
    State.GREETING: None,
    State.HELLO: b"",
    State.READY: b"{hello}",
    State.MAIL: b"{hello}MAIL FROM:<a@x>\r\n",
    State.RCPT: b"{hello}MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\n",
    State.CONTENT: b"{hello}MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\nhello\r\n",
    State.OUTCOME: b"{hello}MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\nhello\r\n",
    State.CLOSED: b"QUIT\r\n",
}


def server_in(state: State, options: ServerOptions = SMTP) -> Server:
    """A server in that state, with nothing left to write."""
    server = Server(options)
    way = WAYS[state]
    if way is not None:
        server.greet()
        server.feed(way.replace(b"{hello}", HELLO[options.role]))
    if state is State.OUTCOME:
        server.protocol.receive(b".\r\n")
        assert isinstance(list(iter(server.protocol.next_event, None))[-1], ContentEnd)
    assert server.protocol.state is state
    server.written = b""
    return server


def asked(protocol: ServerProtocol) -> Slot:
    """The slot of the command that comes next."""
    event = protocol.next_event()
    assert isinstance(event, MailAsked | RcptAsked | DataAsked)
    return event.slot


# The table of states

COMMANDS: dict[Verb, bytes] = {
    Verb.HELO: b"HELO me\r\n",
    Verb.EHLO: b"EHLO me\r\n",
    Verb.LHLO: b"LHLO me\r\n",
    Verb.MAIL: b"MAIL FROM:<a@x>\r\n",
    Verb.RCPT: b"RCPT TO:<b@y>\r\n",
    Verb.DATA: b"DATA\r\n",
    Verb.RSET: b"RSET\r\n",
    Verb.NOOP: b"NOOP\r\n",
    Verb.VRFY: b"VRFY b\r\n",
    Verb.HELP: b"HELP\r\n",
    Verb.QUIT: b"QUIT\r\n",
}

# RFC 5321 sections 4.1.4 and 4.3.2. Where a cell is empty the command is out of order.
TABLE = """
          HELO   MAIL   RCPT   DATA     RSET   NOOP   VRFY   HELP   QUIT
HELLO     READY  -      -      -        HELLO  HELLO  HELLO  HELLO  CLOSED
READY     READY  MAIL   -      -        READY  READY  READY  READY  CLOSED
MAIL      READY  -      RCPT   -        READY  MAIL   MAIL   MAIL   CLOSED
RCPT      READY  -      RCPT   CONTENT  READY  RCPT   RCPT   RCPT   CLOSED
"""


def cells() -> dict[tuple[State, Verb], State | None]:
    verbs, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return {
        (State[row[0]], Verb[verb]): None if cell == "-" else State[cell]
        for row in rows
        for verb, cell in zip(verbs, row[1:], strict=True)
    }


CELLS = cells()
SILENT = (State.GREETING, State.CONTENT, State.OUTCOME, State.CLOSED)
"""States in which a command is not answered: it waits, is content, or comes too late"""


def test_the_table_is_the_whole_of_it() -> None:
    for state, moves in MOVES.items():
        wanted = {verb: to for (of, verb), to in CELLS.items() if of is state and to is not None}
        own = {verb: to for verb, to in moves.items() if verb not in (Verb.GREETING, Verb.DOT)}
        assert own == wanted, state
    assert {state for state, _ in CELLS} | set(SILENT) == set(MOVES) == set(State) == set(WAYS)
    assert set(COMMANDS) == set(Verb) - {Verb.GREETING, Verb.DOT}
    assert {state for state, _ in REFUSED} <= set(State)


@pytest.mark.parametrize("options", [SMTP, LMTP], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("verb", COMMANDS, ids=lambda verb: verb.name)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_every_command_in_every_state(state: State, verb: Verb, options: ServerOptions) -> None:
    server = server_in(state, options)
    server.feed(COMMANDS[verb])
    foreign = verb in ((Verb.LHLO,) if options.role is Role.SMTP else (Verb.HELO, Verb.EHLO))
    if state in SILENT:
        assert server.written == b""
        assert server.protocol.state is state
        return
    to = CELLS[state, Verb.HELO if verb in (Verb.HELO, Verb.EHLO, Verb.LHLO) else verb]
    if foreign:
        assert server.written.startswith(b"500 5.5.1 ")
    elif to is None:
        assert server.written.startswith(b"503 5.5.1 Bad sequence of commands: ")
    else:
        assert server.written[:1] in (b"2", b"3")
    assert server.protocol.state is (state if foreign or to is None else to)


@pytest.mark.parametrize("state", [State.HELLO, State.READY, State.MAIL, State.RCPT], ids=lambda state: state.name)
@pytest.mark.parametrize(
    "line", [b"junk\r\n", b"STARTTLS\r\n", b"MAIL FROM:<a\r\n", b"\xff\r\n", b"x" * 3000 + b"\r\n"]
)
def test_junk_moves_no_state(state: State, line: bytes) -> None:
    server = server_in(state)
    server.feed(line)
    assert server.written.startswith(b"50")
    assert server.written.count(b"\r\n") == 1
    assert server.protocol.state is state


def test_what_is_said_before_the_greeting_is_answered_behind_it() -> None:
    server = Server(SMTP)
    server.feed(b"HELO me\r\nNOOP\r\n")
    assert server.written == b""
    assert server.told == []
    server.protocol.greet(reply(220, "", "hi"))
    server.work()
    assert server.written == b"220 hi\r\n250 gw\r\n250 2.0.0 Fine\r\n"


@pytest.mark.parametrize("code", [421, 554])
def test_a_greeting_that_sends_the_client_away_ends_the_session(code: int) -> None:
    server = Server(SMTP)
    server.feed(b"EHLO me\r\n")
    server.protocol.greet(reply(code, "", "go"))
    server.work()
    server.feed(b"QUIT\r\n")
    assert server.written == b"%d go\r\n" % code
    assert server.protocol.state is State.CLOSED
    assert server.told == []


# The order of replies

ENVELOPE_OF_THREE = (
    b"EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nRCPT TO:<d@y>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n"
)


def three_rcpts(options: ServerOptions = SMTP) -> tuple[ServerProtocol, list[Slot]]:
    """MAIL is accepted, the RCPTs are not answered; behind them come DATA, a message and QUIT in the same piece."""
    protocol = ServerProtocol(options)
    protocol.greet(reply(220, "", "hi"))
    protocol.receive(ENVELOPE_OF_THREE.replace(b"EHLO", HELLO[options.role][:4]))
    assert isinstance(protocol.next_event(), Reset)
    mail = asked(protocol)
    assert protocol.next_event() is None, "RCPT does not overtake MAIL"
    protocol.answer(mail, GOOD["mail"])
    slots = [asked(protocol) for _ in range(3)]
    assert protocol.next_event() is None, "DATA does not overtake RCPT"
    protocol.data_to_send()
    return protocol, slots


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
    for slot in slots:
        protocol.answer(slot, GOOD["rcpt"])
    assert protocol.next_event() is None
    lines = protocol.data_to_send().split(b"\r\n")
    assert [line[:9] for line in lines] == [b"250 2.1.5"] * 3 + [b"452 4.5.3"] * 2 + [b""]


def test_no_slot_is_answered_twice() -> None:
    protocol, slots = three_rcpts()
    protocol.answer(slots[1], GOOD["rcpt"])
    with pytest.raises(RuntimeError, match=r"answered twice: Slot\('RCPT TO:<c@y>'"):
        protocol.answer(slots[1], GOOD["rcpt"])


def test_replies_are_observed_as_they_leave() -> None:
    seen: list[tuple[str, str]] = []
    protocol = ServerProtocol(SMTP, lambda about, answer: seen.append((about, str(answer))))
    protocol.greet(reply(220, "", "hi"))
    protocol.receive(b"junk\r\nQUIT\r\n")
    protocol.next_event()
    assert seen == [("greeting", "220 hi"), ("junk", "500 5.5.1 Command unrecognized"), ("QUIT", "221 2.0.0 Bye")]


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


# The end of a session


@pytest.mark.parametrize("options", [SMTP, LMTP], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_goodbye_in_every_state(state: State, options: ServerOptions) -> None:
    server = server_in(state, options)
    protocol = server.protocol
    protocol.goodbye(TRY_LATER)
    protocol.goodbye(TRY_LATER)
    assert protocol.data_to_send() == (b"" if state is State.CLOSED else bytes(TRY_LATER))
    assert protocol.state is State.CLOSED
    assert protocol.unanswered == 0
    server.feed(b".\r\nNOOP\r\nQUIT\r\n")
    protocol.receive_eof()
    assert protocol.next_event() is None
    assert protocol.buffered == 0
    assert protocol.data_to_send() == b""


def test_goodbye_takes_the_place_of_all_replies_that_are_due() -> None:
    protocol, slots = three_rcpts()
    protocol.answer(slots[1], GOOD["rcpt"])
    protocol.goodbye(TRY_LATER)
    protocol.answer(slots[0], GOOD["rcpt"])  # a delivery that has not heard of it yet
    assert protocol.data_to_send() == bytes(TRY_LATER)
    assert protocol.next_event() is None


def test_goodbye_does_not_lose_what_has_been_released() -> None:
    protocol, slots = three_rcpts()
    protocol.answer(slots[0], GOOD["rcpt"])
    protocol.goodbye(TRY_LATER)
    assert protocol.data_to_send() == bytes(GOOD["rcpt"]) + bytes(TRY_LATER)


def test_a_session_that_is_over_keeps_nothing_of_what_came() -> None:
    protocol, _ = three_rcpts()
    assert protocol.buffered
    protocol.goodbye(TRY_LATER)
    assert protocol.buffered == 0, "else its reader would wait for room, and not see the client's end"
    server = server_in(State.CONTENT)
    server.protocol.receive(b"x" * 100_000)
    server.protocol.goodbye(TRY_LATER)
    assert server.protocol.buffered == 0
    server = server_in(State.CONTENT)
    server.protocol.receive(b"x\r\n.\r\nNOOP\r\n")
    assert isinstance(server.protocol.next_event(), Content)
    server.protocol.goodbye(TRY_LATER)
    assert server.protocol.next_event() is None
    server = server_in(State.READY)
    server.feed(b"QUIT\r\n" + b"x" * 100)
    assert server.protocol.buffered == 0


def test_nothing_is_said_behind_421() -> None:
    protocol, slots = three_rcpts()
    protocol.answer(slots[2], GOOD["rcpt"])
    protocol.answer(slots[1], reply(421, "4.3.2", "closing"))
    protocol.answer(slots[0], GOOD["rcpt"])
    assert protocol.data_to_send() == bytes(GOOD["rcpt"]) + b"421 4.3.2 closing\r\n"
    assert protocol.state is State.CLOSED
    assert protocol.next_event() is None


# What is still in the buffer when the stream ends → whether the client has left, as far as we can tell
TAILS = {
    b"": True,
    b"QUIT\r\n": False,
    b"quit\r\n": False,
    b"QUIT\n": False,
    b"DATA\r\nQUIT\r\n": False,
    b"NOOP\nQUIT\n": False,
    b"QUIT": True,
    b"QUIT\r": True,
    b"QUI": True,
    b"XQUIT\r\n": True,
    b" QUIT\r\n": True,
    b"NOOP QUIT\r\n": True,
    b"NOOP QUIT\n": True,
    b"QUIT\r\nNOOP\r\n": True,
    b"QUITX\r\n": True,
    b"DATA\r\n": True,
}


@pytest.mark.parametrize("tail", TAILS, ids=repr)
def test_a_client_that_has_left(tail: bytes) -> None:
    server = server_in(State.MAIL)
    protocol = server.protocol
    protocol.receive(b"RCPT TO:<b@y>\r\n")
    slot = asked(protocol)
    protocol.receive(tail)
    assert not protocol.left
    protocol.receive_eof()
    assert protocol.left == TAILS[tail]
    assert protocol.next_event() is None
    protocol.answer(slot, GOOD["rcpt"])
    server.work()
    assert server.written.startswith(bytes(GOOD["rcpt"]))


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_client_that_says_quit_behind_its_dot_has_not_left(cut: int) -> None:
    server = server_in(State.CONTENT)
    protocol = server.protocol
    octets = b"x\r\n.\r\nQUIT\r\n"
    protocol.receive(octets[:cut])
    end = [event for event in iter(protocol.next_event, None) if isinstance(event, ContentEnd)]
    protocol.receive(octets[cut:])
    protocol.receive_eof()
    assert not protocol.left
    if not end:
        end = [event for event in iter(protocol.next_event, None) if isinstance(event, ContentEnd)]
        assert not protocol.left
    protocol.answer(end[0].slots[0], GOOD["dot"])
    server.work()
    assert server.written == bytes(GOOD["dot"]) + b"221 2.0.0 Bye\r\n"


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_the_end_of_the_stream_in_every_state(state: State) -> None:
    server = server_in(state)
    protocol = server.protocol
    protocol.receive_eof()
    assert protocol.left
    # Where slots are due the answers come first, and are for nobody.
    waits = state in (State.GREETING, State.OUTCOME, State.CLOSED)
    assert isinstance(protocol.next_event(), Gone) != waits
    assert isinstance(protocol.next_event(), Gone) != waits, "again and again"


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
