"""The client side, one transaction after another: what is forgotten, and what is counted."""

from __future__ import annotations

import pytest
from client_states import COMMANDS, SENDER, client_in, events_of
from feeding import Cut, each_cut

from mailgate.protocol.client import State
from mailgate.protocol.command import MailParameters, Verb
from mailgate.protocol.reply import Role


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


# What is said, and what comes: recipients accepted
GIVEN_UP: dict[str, tuple[list[Verb], bytes, int]] = {
    "RSET": ([Verb.RSET], b"", 0),
    "RSET refused": ([Verb.RSET], b"500 no\r\n", 0),
    "RCPT answered behind RSET": ([Verb.RCPT, Verb.RSET], b"250 ok\r\n250 ok\r\n", 0),
    "RCPT of both transactions": (
        [Verb.RCPT, Verb.RSET, Verb.MAIL, Verb.RCPT],
        b"250 old\r\n250 ok\r\n250 ok\r\n250 new\r\n",
        1,
    ),
}


@each_cut
@pytest.mark.parametrize(("said", "octets", "accepted"), GIVEN_UP.values(), ids=GIVEN_UP.keys())
def test_recipients_given_up_are_forgotten(said: list[Verb], octets: bytes, accepted: int, cut: Cut) -> None:
    client = client_in(State.MAIL)
    assert client.accepted == 3
    for verb in said:
        COMMANDS[verb](client)
    events_of(client, *cut(octets))
    assert client.accepted == accepted


# What comes behind the dot: messages counted
COUNTED: dict[str, tuple[Role, bool, bytes, int]] = {
    "nothing": (Role.SMTP, False, b"", 0),
    "250": (Role.SMTP, False, b"250 ok\r\n", 1),
    "554": (Role.SMTP, False, b"554 no\r\n", 1),
    "421": (Role.SMTP, False, b"421 bye\r\n", 1),
    "garbage": (Role.SMTP, False, b"what?\r\n", 0),
    "LMTP, all but one": (Role.LMTP, False, b"250 ok\r\n" * 2, 0),
    "LMTP, all": (Role.LMTP, False, b"250 ok\r\n" * 3, 1),
    "PRDR, all but the final one": (Role.SMTP, True, b"353 each\r\n" + b"250 ok\r\n" * 3, 0),
    "PRDR, all": (Role.SMTP, True, b"353 each\r\n" + b"250 ok\r\n" * 4, 1),
}


@pytest.mark.parametrize(("role", "prdr", "octets", "count"), COUNTED.values(), ids=COUNTED.keys())
def test_messages_are_counted_at_their_last_reply(role: Role, prdr: bool, octets: bytes, count: int) -> None:
    client = client_in(State.OUTCOME, role, prdr=prdr)
    events_of(client, octets)
    assert client.transactions == count


def test_each_message_begins_at_the_start_of_a_line() -> None:
    client = client_in(State.CONTENT)
    assert client.content(b"a") + client.end() == b"a\r\n.\r\n"
    events_of(client, b"250 ok\r\n")
    client.mail(None, MailParameters())
    client.rcpt(SENDER)
    client.data()
    events_of(client, b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert client.content(b".b\r\n") + client.end() == b"..b\r\n.\r\n"
