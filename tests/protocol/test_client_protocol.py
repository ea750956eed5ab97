"""The client side: what it says, and what it makes of what comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client_states import ALL, COMMANDS, RECIPIENTS, SENDER, answers, client_in, events_of
from feeding import Cut, each_cut

from mailgate.protocol.client import (
    MOVES,
    SAYABLE,
    Broken,
    Capabilities,
    ClientProtocol,
    State,
    capabilities,
)
from mailgate.protocol.command import Body, Extension, Mailbox, MailParameters, Verb
from mailgate.protocol.reply import Reply, Role

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
    "RSET": (lambda client: client.reset(), State.READY, b"RSET\r\n"),
    "RSET inside a transaction": (lambda client: client.reset(), State.MAIL, b"RSET\r\n"),
    "RSET and MAIL": (
        lambda client: client.reset() + client.mail(SENDER, MailParameters()),
        State.MAIL,
        b"RSET\r\nMAIL FROM:<a@x>\r\n",
    ),
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
    "a limit": (("mx", "SIZE 1000"), Capabilities(frozenset({Extension.SIZE}))),
    "any case": (("mx", "size 10", "Pipelining"), Capabilities(frozenset({Extension.SIZE, Extension.PIPELINING}))),
    "trailing space": (("mx", "8BITMIME "), Capabilities(frozenset({Extension.EIGHTBITMIME}))),
    "unknown": (("mx", "STARTTLS", "AUTH PLAIN", "AUTH=PLAIN", "", "CHUNKING"), Capabilities(frozenset())),
    "twice": (("mx", "SIZE 10", "SIZE 20"), Capabilities(frozenset({Extension.SIZE}))),
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
    "RSET": (State.READY, [COMMANDS[Verb.RSET]], b"250 ok\r\n", [("RSET", 250)], State.READY),
    "RSET refused": (State.READY, [COMMANDS[Verb.RSET]], b"500 no\r\n", [("RSET", 500)], State.READY),
    "RSET inside a transaction": (State.MAIL, [COMMANDS[Verb.RSET]], b"250 ok\r\n", [("RSET", 250)], State.READY),
    "RSET refused inside one": (State.MAIL, [COMMANDS[Verb.RSET]], b"451 no\r\n", [("RSET", 451)], State.READY),
    "RSET and MAIL": (
        State.READY,
        [COMMANDS[Verb.RSET], COMMANDS[Verb.MAIL]],
        b"250 ok\r\n250 ok\r\n",
        [("RSET", 250), ("MAIL", 250)],
        State.MAIL,
    ),
    "RSET refused, MAIL taken": (
        State.READY,
        [COMMANDS[Verb.RSET], COMMANDS[Verb.MAIL]],
        b"500 no\r\n250 ok\r\n",
        [("RSET", 500), ("MAIL", 250)],
        State.MAIL,
    ),
    "RSET and MAIL, refused": (
        State.READY,
        [COMMANDS[Verb.RSET], COMMANDS[Verb.MAIL]],
        b"250 ok\r\n451 no\r\n",
        [("RSET", 250), ("MAIL", 451)],
        State.READY,
    ),
    "a transaction given up": (
        State.READY,
        [COMMANDS[verb] for verb in (Verb.MAIL, Verb.RCPT, Verb.RSET)],
        b"250 ok\r\n250 ok\r\n250 ok\r\n",
        [("MAIL", 250), ("RCPT", 250), ("RSET", 250)],
        State.READY,
    ),
    "a MAIL given up and another": (
        State.READY,
        [COMMANDS[verb] for verb in (Verb.MAIL, Verb.RCPT, Verb.RSET, Verb.MAIL)],
        b"550 no\r\n503 no\r\n250 ok\r\n250 ok\r\n",
        [("MAIL", 550), ("RCPT", 503), ("RSET", 250), ("MAIL", 250)],
        State.MAIL,
    ),
    "a MAIL given up and another, refused": (
        State.READY,
        [COMMANDS[verb] for verb in (Verb.MAIL, Verb.RSET, Verb.MAIL)],
        b"250 ok\r\n250 ok\r\n550 no\r\n",
        [("MAIL", 250), ("RSET", 250), ("MAIL", 550)],
        State.READY,
    ),
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
