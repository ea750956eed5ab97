"""The client side: what it says, what it makes of what comes back, and what ends the session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from feeding import Cut, at, each_cut, no_deadline
from hypothesis import given
from hypothesis import strategies as st

from mailgate.protocol.client import (
    MOVES,
    SAYABLE,
    Answered,
    Broken,
    Capabilities,
    ClientProtocol,
    Event,
    SpokenEarly,
    State,
    capabilities,
)
from mailgate.protocol.command import Body, Extension, Mailbox, MailParameters, Verb
from mailgate.protocol.reply import Reply, Role, reply

SENDER = Mailbox("a", "x")
RECIPIENTS = (Mailbox("b", "y"), Mailbox("c", "y"), Mailbox("b", "y"))
ALL = b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PRDR\r\n"


def events_of(client: ClientProtocol, *chunks: bytes) -> list[Event]:
    """What some octets are to it."""
    found: list[Event] = []
    for chunk in chunks:
        client.receive(chunk)
        found += iter(client.next_event, None)
    return found


def client_in(state: State, role: Role = Role.SMTP, *, prdr: bool = False) -> ClientProtocol:
    """A client in that state, with all replies in but those of the state itself; three recipients are accepted."""
    client = ClientProtocol(role)
    steps: list[tuple[State, bytes, Callable[[], object]]] = [
        (State.HELLO, b"220 hi\r\n", lambda: None),
        (State.READY, ALL, lambda: client.hello(Verb.EHLO if role is Role.SMTP else Verb.LHLO, "gw")),
        (State.MAIL, b"250 ok\r\n", lambda: client.mail(SENDER, MailParameters(prdr=prdr))),
        (State.MAIL, b"250 ok\r\n" * 3, lambda: [client.rcpt(mailbox) for mailbox in RECIPIENTS]),
        (State.DATA, b"", client.data),
        (State.CONTENT, b"354 go\r\n", lambda: None),
        (State.OUTCOME, b"", client.end),
        (State.CLOSED, b"421 bye\r\n" * 5, lambda: None),
    ]
    for reached, answers, say in steps:
        if client.state is state and state is not State.MAIL:
            break
        if client.state is State.MAIL and state is State.MAIL and client.accepted == len(RECIPIENTS):
            break
        say()
        events_of(client, answers)
        assert client.state is reached
    assert client.state is state
    return client


def answers(events: list[Event]) -> list[tuple[str, int]]:
    """(verb, code) of each reply; anything else is a failure."""
    found = []
    for event in events:
        assert isinstance(event, Answered), event
        found.append((event.verb.name, event.reply.code))
    return found


# What is said

SAID: dict[str, tuple[Callable[[ClientProtocol], bytes], State, bytes]] = {
    "EHLO": (lambda client: client.hello(Verb.EHLO, "gw.example"), State.HELLO, b"EHLO gw.example\r\n"),
    "LHLO": (lambda client: client.hello(Verb.LHLO, "gw.example"), State.HELLO, b"LHLO gw.example\r\n"),
    "HELO": (lambda client: client.hello(Verb.HELO, "gw.example"), State.HELLO, b"HELO gw.example\r\n"),
    "MAIL": (lambda client: client.mail(SENDER, MailParameters()), State.READY, b"MAIL FROM:<a@x>\r\n"),
    "MAIL, null": (lambda client: client.mail(None, MailParameters()), State.READY, b"MAIL FROM:<>\r\n"),
    "MAIL, all parameters": (
        lambda client: client.mail(SENDER, MailParameters(10, Body.EIGHTBITMIME, smtputf8=True, prdr=True)),
        State.READY,
        b"MAIL FROM:<a@x> SIZE=10 BODY=8BITMIME SMTPUTF8 PRDR\r\n",
    ),
    "MAIL, a size of 0": (
        lambda client: client.mail(SENDER, MailParameters(0, Body.SEVENBIT)),
        State.READY,
        b"MAIL FROM:<a@x> SIZE=0 BODY=7BIT\r\n",
    ),
    "MAIL, UTF-8": (
        lambda client: client.mail(Mailbox("ü", "ö"), MailParameters(smtputf8=True)),
        State.READY,
        "MAIL FROM:<ü@ö> SMTPUTF8\r\n".encode(),
    ),
    "RCPT": (lambda client: client.rcpt(Mailbox('"a >b"', "y")), State.MAIL, b'RCPT TO:<"a >b"@y>\r\n'),
    "RCPT, postmaster": (
        lambda client: client.rcpt(Mailbox("Postmaster", "")),
        State.MAIL,
        b"RCPT TO:<Postmaster>\r\n",
    ),
    "DATA": (lambda client: client.data(), State.MAIL, b"DATA\r\n"),
    "content": (lambda client: client.content(b".a\r\n..\r\n"), State.CONTENT, b"..a\r\n...\r\n"),
    "an empty message": (lambda client: client.end(), State.CONTENT, b".\r\n"),
    "a message": (lambda client: client.content(b"a\r\n.\r\n") + client.end(), State.CONTENT, b"a\r\n..\r\n.\r\n"),
    "QUIT": (lambda client: client.quit(), State.READY, b"QUIT\r\n"),
}


@pytest.mark.parametrize(("say", "state", "octets"), SAID.values(), ids=SAID.keys())
def test_said(say: Callable[[ClientProtocol], bytes], state: State, octets: bytes) -> None:
    assert say(client_in(state)) == octets


WANTED = MailParameters(10, Body.EIGHTBITMIME, smtputf8=True, prdr=True)

# The EHLO reply → MAIL
OFFERS = {
    b"250 mx\r\n": b"MAIL FROM:<a@x>\r\n",
    b"250-mx\r\n250 SIZE\r\n": b"MAIL FROM:<a@x> SIZE=10\r\n",
    b"250-mx\r\n250-X-OTHER\r\n250 8bitmime\r\n": b"MAIL FROM:<a@x> BODY=8BITMIME\r\n",
    b"250-mx\r\n250 SMTPUTF8\r\n": b"MAIL FROM:<a@x> SMTPUTF8\r\n",
    b"250-mx\r\n250 PRDR\r\n": b"MAIL FROM:<a@x> PRDR\r\n",
    b"250-SIZE\r\n250 mx\r\n": b"MAIL FROM:<a@x>\r\n",
}


@pytest.mark.parametrize(("hello", "mail"), OFFERS.items(), ids=map(repr, OFFERS))
def test_only_what_is_offered_is_used(hello: bytes, mail: bytes) -> None:
    client = client_in(State.HELLO)
    client.hello(Verb.EHLO, "gw")
    events_of(client, hello)
    assert client.mail(SENDER, WANTED) == mail


def test_prdr_is_not_for_lmtp() -> None:
    client = client_in(State.READY, Role.LMTP)
    assert b"PRDR" not in client.mail(SENDER, WANTED)


EVERYTHING = frozenset(Extension)
CAPABILITIES: dict[str, tuple[tuple[str, ...], Capabilities]] = {
    "nothing": (("mx",), Capabilities(frozenset())),
    "everything": (("mx", "SIZE", *(one.value for one in Extension)), Capabilities(EVERYTHING)),
    "with greeting": (("mx at your service", "PIPELINING"), Capabilities(frozenset({Extension.PIPELINING}))),
    "a limit": (("mx", "SIZE 1000"), Capabilities(frozenset({Extension.SIZE}), 1000)),
    "no limit": (("mx", "SIZE 0"), Capabilities(frozenset({Extension.SIZE}))),
    "bad limit": (("mx", "SIZE ten"), Capabilities(frozenset({Extension.SIZE}))),
    "negative limit": (("mx", "SIZE -1"), Capabilities(frozenset({Extension.SIZE}))),
    "foreign digits": (("mx", "SIZE \u0665"), Capabilities(frozenset({Extension.SIZE}))),
    "any case": (("mx", "size 10", "Pipelining"), Capabilities(frozenset({Extension.SIZE, Extension.PIPELINING}), 10)),
    "trailing space": (("mx", "8BITMIME "), Capabilities(frozenset({Extension.EIGHTBITMIME}))),
    "unknown": (("mx", "STARTTLS", "AUTH PLAIN", "AUTH=PLAIN", "", "CHUNKING"), Capabilities(frozenset())),
    "twice": (("mx", "SIZE 10", "SIZE 20"), Capabilities(frozenset({Extension.SIZE}), 20)),
}


@pytest.mark.parametrize(("lines", "wanted"), CAPABILITIES.values(), ids=CAPABILITIES.keys())
def test_capabilities(lines: tuple[str, ...], wanted: Capabilities) -> None:
    assert capabilities(Reply(250, "", lines)) == wanted


def test_helo_offers_nothing() -> None:
    client = client_in(State.HELLO)
    client.hello(Verb.EHLO, "gw")
    assert answers(events_of(client, b"502 what?\r\n")) == [("EHLO", 502)]
    assert client.hello(Verb.HELO, "gw") == b"HELO gw\r\n"
    assert answers(events_of(client, ALL)) == [("HELO", 250)]
    assert client.capabilities == Capabilities(frozenset())
    assert client.state is State.READY


COMMANDS: dict[Verb, Callable[[ClientProtocol], bytes]] = {
    Verb.HELO: lambda client: client.hello(Verb.HELO, "gw"),
    Verb.EHLO: lambda client: client.hello(Verb.EHLO, "gw"),
    Verb.LHLO: lambda client: client.hello(Verb.LHLO, "gw"),
    Verb.MAIL: lambda client: client.mail(SENDER, MailParameters()),
    Verb.RCPT: lambda client: client.rcpt(SENDER),
    Verb.DATA: lambda client: client.data(),
    Verb.DOT: lambda client: client.end(),
    Verb.QUIT: lambda client: client.quit(),
}


@pytest.mark.parametrize("verb", COMMANDS, ids=lambda verb: verb.name)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_what_may_be_said_in_every_state(state: State, verb: Verb) -> None:
    client = client_in(state)
    if (Verb.HELO if verb in (Verb.EHLO, Verb.LHLO) else verb) in SAYABLE[state]:
        assert COMMANDS[verb](client)
        return
    awaited = client.awaited
    with pytest.raises(RuntimeError, match="cannot be said: the session "):
        COMMANDS[verb](client)
    assert client.awaited == awaited
    assert client.state is state


def test_the_tables_are_about_all_states() -> None:
    assert set(SAYABLE) == set(State)
    assert {state for state, _ in MOVES} <= set(State)


# What comes back

DIALOGS: dict[str, tuple[State, list[Callable[[ClientProtocol], bytes]], bytes, list[tuple[str, int]], State]] = {
    # state before: what is said: what comes: the replies: state behind
    "greeting": (State.GREETING, [], b"220-hello\r\n220 there\r\n", [("GREETING", 220)], State.HELLO),
    "greeting 554": (State.GREETING, [], b"554 no\r\n", [("GREETING", 554)], State.CLOSED),
    "greeting 421": (State.GREETING, [], b"421 no\r\n", [("GREETING", 421)], State.CLOSED),
    "greeting 450": (State.GREETING, [], b"450 no\r\n", [("GREETING", 450)], State.CLOSED),
    "EHLO": (State.HELLO, [COMMANDS[Verb.EHLO]], ALL, [("EHLO", 250)], State.READY),
    "EHLO refused": (State.HELLO, [COMMANDS[Verb.EHLO]], b"500 no\r\n", [("EHLO", 500)], State.HELLO),
    "MAIL": (State.READY, [COMMANDS[Verb.MAIL]], b"250 ok\r\n", [("MAIL", 250)], State.MAIL),
    "MAIL refused": (State.READY, [COMMANDS[Verb.MAIL]], b"451 no\r\n", [("MAIL", 451)], State.READY),
    "RCPT": (State.MAIL, [COMMANDS[Verb.RCPT]], b"251 ok\r\n", [("RCPT", 251)], State.MAIL),
    "RCPT refused": (State.MAIL, [COMMANDS[Verb.RCPT]], b"550 no\r\n", [("RCPT", 550)], State.MAIL),
    "RCPTs": (
        State.MAIL,
        [COMMANDS[Verb.RCPT]] * 3,
        b"250-a\r\n250 b\r\n550 no\r\n452 full\r\n",
        [("RCPT", 250), ("RCPT", 550), ("RCPT", 452)],
        State.MAIL,
    ),
    "MAIL and RCPTs": (
        State.READY,
        [COMMANDS[Verb.MAIL], COMMANDS[Verb.RCPT], COMMANDS[Verb.RCPT]],
        b"250 ok\r\n250 ok\r\n550 no\r\n",
        [("MAIL", 250), ("RCPT", 250), ("RCPT", 550)],
        State.MAIL,
    ),
    "MAIL refused before RCPTs": (
        State.READY,
        [COMMANDS[Verb.MAIL], COMMANDS[Verb.RCPT], COMMANDS[Verb.RCPT]],
        b"550 no\r\n503 what?\r\n503 what?\r\n",
        [("MAIL", 550), ("RCPT", 503), ("RCPT", 503)],
        State.READY,
    ),
    "DATA": (State.MAIL, [COMMANDS[Verb.DATA]], b"354 go\r\n", [("DATA", 354)], State.CONTENT),
    "DATA, any 3xx": (State.MAIL, [COMMANDS[Verb.DATA]], b"300 go\r\n", [("DATA", 300)], State.CONTENT),
    "DATA refused": (State.MAIL, [COMMANDS[Verb.DATA]], b"554 no\r\n", [("DATA", 554)], State.READY),
    "dot": (State.CONTENT, [COMMANDS[Verb.DOT]], b"250 ok\r\n", [("DOT", 250)], State.READY),
    "dot refused": (State.CONTENT, [COMMANDS[Verb.DOT]], b"554 no\r\n", [("DOT", 554)], State.READY),
    "QUIT": (State.READY, [COMMANDS[Verb.QUIT]], b"221 bye\r\n", [("QUIT", 221)], State.CLOSED),
    "QUIT refused": (State.READY, [COMMANDS[Verb.QUIT]], b"500 what?\r\n", [("QUIT", 500)], State.CLOSED),
    "QUIT inside a transaction": (State.MAIL, [COMMANDS[Verb.QUIT]], b"221 bye\r\n", [("QUIT", 221)], State.CLOSED),
}


@each_cut
@pytest.mark.parametrize(("state", "commands", "octets", "wanted", "then"), DIALOGS.values(), ids=DIALOGS.keys())
def test_replies(
    state: State,
    commands: list[Callable[[ClientProtocol], bytes]],
    octets: bytes,
    wanted: list[tuple[str, int]],
    then: State,
    cut: Cut,
) -> None:
    client = client_in(state)
    for command in commands:
        command(client)
    assert answers(events_of(client, *cut(octets))) == wanted
    assert client.state is then
    assert client.awaited == 0


@pytest.mark.parametrize(("state", "commands", "octets", "wanted", "then"), DIALOGS.values(), ids=DIALOGS.keys())
def test_a_reply_more_than_asked_ends_the_session(
    state: State,
    commands: list[Callable[[ClientProtocol], bytes]],
    octets: bytes,
    wanted: list[tuple[str, int]],
    then: State,
) -> None:
    client = client_in(state)
    for command in commands:
        command(client)
    *found, last = events_of(client, octets + b"250 trailing\r\n")
    if then is State.CLOSED:
        found.append(last)
    else:
        assert last == Broken("a reply nobody asked for: 250 trailing")
    assert answers(found) == wanted
    assert client.state is State.CLOSED


def test_accepted_recipients_are_counted_anew_in_each_transaction() -> None:
    client = client_in(State.CONTENT)
    assert client.accepted == 3
    client.end()
    events_of(client, b"250 ok\r\n")
    client.mail(None, MailParameters())
    client.rcpt(SENDER)
    client.rcpt(SENDER)
    events_of(client, b"250 ok\r\n250 ok\r\n550 no\r\n")
    assert client.accepted == 1


def test_each_message_begins_at_the_start_of_a_line() -> None:
    client = client_in(State.CONTENT)
    assert client.content(b"a") + client.end() == b"a\r\n.\r\n"
    events_of(client, b"250 ok\r\n")
    client.mail(None, MailParameters())
    client.rcpt(SENDER)
    client.data()
    events_of(client, b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert client.content(b".b\r\n") + client.end() == b"..b\r\n.\r\n"


# Several replies to one message

OUTCOMES: dict[str, tuple[Role, bool, bytes, list[int], State, int]] = {
    # role, PRDR: what comes: the codes: state behind, replies still due
    "LMTP": (Role.LMTP, False, b"250 a\r\n452 b\r\n550 c\r\n", [250, 452, 550], State.READY, 0),
    "LMTP, too few": (Role.LMTP, False, b"250 a\r\n250 b\r\n", [250, 250], State.OUTCOME, 1),
    "LMTP, lines": (Role.LMTP, False, b"250-a\r\n250 a\r\n250 b\r\n250 c\r\n", [250] * 3, State.READY, 0),
    "LMTP, 421 for one": (Role.LMTP, False, b"421 a\r\n250 b\r\n250 c\r\n", [421, 250, 250], State.READY, 0),
    "LMTP, 421 at last": (Role.LMTP, False, b"250 a\r\n250 b\r\n421 c\r\n", [250, 250, 421], State.CLOSED, 0),
    "PRDR": (
        Role.SMTP,
        True,
        b"353 each\r\n250 a\r\n452 b\r\n550 c\r\n250 final\r\n",
        [353, 250, 452, 550, 250],
        State.READY,
        0,
    ),
    "PRDR, no final one yet": (
        Role.SMTP,
        True,
        b"353 each\r\n250 a\r\n452 b\r\n550 c\r\n",
        [353, 250, 452, 550],
        State.OUTCOME,
        1,
    ),
    "PRDR, 353 only": (Role.SMTP, True, b"353 each\r\n", [353], State.OUTCOME, 4),
    "PRDR, 250 for all": (Role.SMTP, True, b"250 ok\r\n", [250], State.READY, 0),
    "PRDR, 451 for all": (Role.SMTP, True, b"451 no\r\n", [451], State.READY, 0),
    "PRDR, 554 for all": (Role.SMTP, True, b"554 no\r\n", [554], State.READY, 0),
    "PRDR, 421 for all": (Role.SMTP, True, b"421 no\r\n", [421], State.CLOSED, 0),
    "PRDR, 421 at last": (
        Role.SMTP,
        True,
        b"353 each\r\n250 a\r\n250 b\r\n250 c\r\n421 no\r\n",
        [353, 250, 250, 250, 421],
        State.CLOSED,
        0,
    ),
}


@each_cut
@pytest.mark.parametrize(("role", "prdr", "octets", "codes", "then", "due"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_outcomes(role: Role, prdr: bool, octets: bytes, codes: list[int], then: State, due: int, cut: Cut) -> None:
    client = client_in(State.OUTCOME, role, prdr=prdr)
    assert answers(events_of(client, *cut(octets))) == [("DOT", code) for code in codes]
    assert client.state is then
    assert client.awaited == due


BAD_OUTCOMES: dict[str, tuple[Role, bool, bytes, str]] = {
    "353 without PRDR": (Role.SMTP, False, b"353 each\r\n", "a reply that does not fit end of data: 353 each"),
    "353 in LMTP": (Role.LMTP, False, b"353 each\r\n", "a reply that does not fit end of data: 353 each"),
    "353 twice": (Role.SMTP, True, b"353 each\r\n353 each\r\n", "a reply that does not fit end of data: 353 each"),
    "354 again": (Role.SMTP, False, b"354 go\r\n", "a reply that does not fit end of data: 354 go"),
    "354 with PRDR": (Role.SMTP, True, b"354 go\r\n", "a reply that does not fit end of data: 354 go"),
    "LMTP, one too many": (Role.LMTP, False, b"250 ok\r\n" * 4, "a reply nobody asked for: 250 ok"),
    "PRDR, one too many": (Role.SMTP, True, b"353 each\r\n" + b"250 ok\r\n" * 5, "a reply nobody asked for: 250 ok"),
}


@each_cut
@pytest.mark.parametrize(("role", "prdr", "octets", "why"), BAD_OUTCOMES.values(), ids=BAD_OUTCOMES.keys())
def test_outcomes_that_are_none(role: Role, prdr: bool, octets: bytes, why: str, cut: Cut) -> None:
    client = client_in(State.OUTCOME, role, prdr=prdr)
    *_, last = events_of(client, *cut(octets))
    assert last == Broken(why)
    assert client.state is State.CLOSED


def test_recipients_that_were_refused_get_no_outcome() -> None:
    client = client_in(State.READY, Role.LMTP)
    client.mail(SENDER, MailParameters())
    for mailbox in RECIPIENTS:
        client.rcpt(mailbox)
    client.data()
    events_of(client, b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
    client.end()
    assert client.awaited == 2


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


MISFITS = {"greeting": 354, "EHLO": 354, "MAIL": 354, "RCPT": 354, "DATA": 250, "dot": 354, "QUIT": 354}


@each_awaiting
def test_a_reply_of_a_class_that_does_not_fit(state: State, said: list[Verb], verb: str) -> None:
    client = awaiting(state, said)
    code = next(code for name, code in MISFITS.items() if AWAITING[name][2] == verb)
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
