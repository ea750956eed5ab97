"""Client sides in every state, and what they may say."""

from __future__ import annotations

from collections.abc import Callable

from mailgate.protocol.client import (
    Answered,
    ClientProtocol,
    Event,
    State,
)
from mailgate.protocol.command import Mailbox, MailParameters, Verb
from mailgate.protocol.reply import Role

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


COMMANDS: dict[Verb, Callable[[ClientProtocol], bytes]] = {
    Verb.HELO: lambda client: client.hello(Verb.HELO, "gw"),
    Verb.EHLO: lambda client: client.hello(Verb.EHLO, "gw"),
    Verb.LHLO: lambda client: client.hello(Verb.LHLO, "gw"),
    Verb.MAIL: lambda client: client.mail(SENDER, MailParameters()),
    Verb.RCPT: lambda client: client.rcpt(SENDER),
    Verb.DATA: lambda client: client.data(),
    Verb.DOT: lambda client: client.end(),
    Verb.RSET: lambda client: client.reset(),
    Verb.QUIT: lambda client: client.quit(),
}
