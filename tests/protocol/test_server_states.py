"""The server side: its table of states, and how a session ends in each of them."""

from __future__ import annotations

import pytest
from server_states import WAYS, asked, server_in, three_rcpts
from serving import GOOD, LMTP, SMTP, Server

from mailgate.protocol.command import Verb
from mailgate.protocol.events import Content, ContentEnd, Gone
from mailgate.protocol.reply import Role, reply
from mailgate.protocol.server import MOVES, REFUSED, ServerOptions, State

TRY_LATER = reply(421, "4.3.2", "gw closing")


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
