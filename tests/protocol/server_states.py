"""Server sides in every state."""

from __future__ import annotations

from serving import GOOD, SMTP, Server

from mailgate.protocol.events import ContentEnd, DataAsked, MailAsked, RcptAsked, Reset, Slot
from mailgate.protocol.reply import Role, reply
from mailgate.protocol.server import ServerOptions, ServerProtocol, State

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
