"""Stories in which all promises are kept, among them those where that is hard to see. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mailgate.network import Answer, NoAnswer, TcpAddress
from sim.histories import (
    Builder,
    Protocol,
    Relayed,
    Silence,
    ask,
    change,
    crash,
    looked_up,
    refuse_sender,
    say,
    unsaid,
    unsettle,
)
from sim.records import Crash, End, Hit, Kind, Phase, Side

A, B, C = "a@corp.example", "b@corp.example", "c@lists.example"
X, Y = "x@d1.example", "y@d5.example"
"""recipients inside and outside"""

NO, BUSY, DENIED = "550 5.1.1 no such user", "451 4.2.1 later", "550 5.7.1 relaying denied"
TAKEN, ANOTHER = "250 2.0.0 taken", "452 4.5.3 another hop"

Tell = Callable[[Builder], None]
"""a story"""


def plain(world: Builder) -> None:
    world.relay(world.message(A, B))


def refused_at_rcpt(world: Builder) -> None:
    world.relay(world.message(A, B), rcpts={A: NO})


def all_refused_at_rcpt(world: Builder) -> None:
    world.relay(world.message(A), rcpts={A: NO})


def refused_at_the_dot(world: Builder) -> None:
    world.relay(world.message(A, B), dots={A: NO})


def mixed_by_lmtp(world: Builder) -> None:
    relayed = world.relay(world.message(X, Y, sender="isend1"), protocol=Protocol.LMTP, dots={Y: NO})
    assert [said.kind for said in relayed.told] == [2, 5]


def mixed_by_prdr(world: Builder) -> None:
    message = world.message(A, B, C)
    world.relay(message, protocol=Protocol.PRDR, dots={B: BUSY})
    world.relay(message, protocol=Protocol.PRDR, positions=[1], at=900.0)


def twice_the_same_address(world: Builder) -> None:
    relayed = world.relay(world.message(X, X, sender="isend1"), protocol=Protocol.LMTP)
    assert len(relayed.told) == 2


def one_of_twice_the_same_address(world: Builder) -> None:
    """The first is put off, the second one delivered, and no reply has the other's place."""
    message = world.message(X, X, sender="isend1")
    relayed = world.relay(message, protocol=Protocol.LMTP)
    change(relayed.told, 0, "451 4.2.1 later")
    change(relayed.handed("d1.example").outcomes, 1, "451 4.2.1 later")
    world.history.copies.pop()
    unsettle(world, 0)
    world.relay(message, protocol=Protocol.LMTP, positions=[0], at=900.0)


def unknown_and_again(world: Builder) -> None:
    message = world.message(A)
    world.relay(message, dots={A: Silence.LOST})
    world.relay(message, at=900.0)


def too_early_for_nobody(world: Builder) -> None:
    """A session that was opened, and given up in a race."""
    world.relay(world.message(A))
    lost = world.sessions("gw1", "10.0.0.1", "in2", TcpAddress("10.1.0.2", 25), 1.32)
    lost.client_end = (1.5, End.FIN)


def relaying_denied(world: Builder) -> None:
    message = world.message(X, sender="stranger")
    unsaid(world, world.relay(message, rcpts={X: DENIED}))


def goodbye_to_the_silent(world: Builder) -> None:
    client = world.sessions("osend1", "203.0.113.11", "gw1", TcpAddress("192.0.2.1", 25), 1.0)
    client.greeting = say("220 gw1", 1.02)
    client.unasked.append(say("421 4.4.2 Timeout", 301.02))
    client.server_end = (303.02, End.FIN)


def client_left_without_a_word(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.client.commands.pop()
    relayed.client.client_end = (relayed.told[0].written + 1, End.RESET)
    relayed.client.server_end = (relayed.told[0].written + 2, End.FIN)


def path_down_for_a_reason(world: Builder) -> None:
    refused = world.sessions("gw1", "192.0.2.1", "o1", TcpAddress("203.0.113.1", 25), 1.0)
    refused.established, refused.error = None, "Connection refused"
    world.log("gw1", 1.04, "path_down", path="isp-a/o1.mx.example:25(203.0.113.1:25)", stage="connect", why="refused")


def no_such_domain(world: Builder) -> None:
    message = world.message(X, sender="isend1")
    looked_up(world, 1.4, "d1.example", "MX", NoAnswer.NO_SUCH_DOMAIN)
    unsaid(world, world.relay(message, protocol=Protocol.LMTP, rcpts={X: "550 5.1.2 no such domain"}))


def no_mail(world: Builder) -> None:
    message = world.message(X, sender="isend1")
    looked_up(world, 1.4, "d1.example", "MX", Answer(("0 .",), 30))
    unsaid(world, world.relay(message, protocol=Protocol.LMTP, rcpts={X: "556 5.1.10 no mail"}))


def no_address(world: Builder) -> None:
    message = world.message(X, sender="isend1")
    looked_up(world, 1.36, "d1.example", "MX", Answer(("10 nowhere.example.",), 30))
    looked_up(world, 1.4, "nowhere.example", "AAAA", NoAnswer.NO_DATA)
    looked_up(world, 1.4, "nowhere.example", "A", Answer((), 30))
    unsaid(world, world.relay(message, protocol=Protocol.LMTP, rcpts={X: "550 5.1.2 no host"}))


def ourselves(world: Builder) -> None:
    message = world.message(X, sender="isend1")
    looked_up(world, 1.36, "d1.example", "MX", Answer(("10 gw1.site.example.",), 30))
    unsaid(world, world.relay(message, protocol=Protocol.LMTP, rcpts={X: "554 5.4.6 leads back"}))


def sender_refused(world: Builder) -> None:
    message = world.message(A)
    relayed = world.relay(message, rcpts={A: "550 5.7.0 no mail from you"})
    refuse_sender(relayed.upstream["corp.example"], "550 5.7.0 no mail from you")


def refused_inside_the_message(world: Builder) -> None:
    relayed = world.relay(world.message(A), dots={A: "552 5.2.3 too long"})
    handed = relayed.handed()
    handed.session.unasked.append(handed.outcomes.pop())
    handed.session.unasked[0].arrived = 1.71
    handed.dot_written = handed.dot_arrived = None


def copies_by_another_session(world: Builder) -> None:
    """The sender's host has crashed; what its old session was told nobody has read."""
    message = world.message(A)
    _cut_off(world, world.relay(message), 1.75)
    world.relay(message, at=1.8)


def reset_as_the_reply_came(world: Builder) -> None:
    """It may have been heard or not."""
    message = world.message(A)
    relayed = world.relay(message)
    upstream = relayed.upstream["corp.example"]
    upstream.broken = relayed.handed().outcomes[0].arrived
    upstream.faults.append(Kind.RESET)
    upstream.client_end = (1.76, End.FIN)
    upstream.commands.pop()
    change(relayed.told, 0, "451 4.4.2 unknown")
    world.history.attempts.clear()
    world.history.settled.clear()
    world.relay(message, at=900.0)


def crashed_behind_the_dot(world: Builder) -> None:
    message = world.message(A)
    crash(world, world.relay(message, dots={A: Silence.LOST}), 1.73)
    again = world.relay(message, at=900.0, gateway="gw2")
    again.client.server_life = 0


def untold(world: Builder) -> None:
    """The client was lost before our 2xx came to it."""
    message = world.message(A)
    relayed = world.relay(message)
    relayed.client.commands.pop()
    relayed.client.broken = 1.77
    relayed.client.server_end = (1.77, End.FIN)
    relayed.told[0].arrived = None
    world.history.attempts.clear()
    world.history.settled.clear()
    world.relay(message, at=900.0)


def put_off_while_something_is_broken(world: Builder) -> None:
    message = world.message(A)
    world.fault(Kind.BLACK_HOLE, "isp-a", 0.0, 100.0)
    unsaid(world, world.relay(message, at=150.0, rcpts={A: "451 4.4.2 lost"}))
    world.relay(message, at=900.0)


def put_off_after_every_server_was_tried(world: Builder) -> None:
    message = world.message(A)
    world.fault(Kind.BLACK_HOLE, "isp-a", 0.0, 100.0)
    for name, ip in (("in1", "10.1.0.1"), ("in2", "10.1.0.2")):
        tried = world.sessions("gw1", "10.0.0.1", name, TcpAddress(ip, 25), 50.3)
        tried.established, tried.error = None, "Connection refused"
    unsaid(world, world.relay(message, at=50.0, rcpts={A: "451 4.4.1 no path"}))
    world.relay(message, at=900.0)


def put_off_as_a_session_made_its_path_look_down(world: Builder) -> None:
    message = world.message(A)
    world.fault(Kind.RESET, "session 77", 0.9, 0.9)
    world.history.hits.append(Hit(Kind.RESET, Phase.GREETING, Side.UPSTREAM, 77, 0.9))
    unsaid(world, world.relay(message, rcpts={A: "451 4.4.2 lost"}))
    world.relay(message, at=900.0)


def sent_away_for_each_next_hop(world: Builder) -> None:
    message = world.message(A, C)
    unsaid(world, world.relay(message, positions=[1], rcpts={C: ANOTHER}))
    world.relay(message, positions=[0], at=900.0)
    world.relay(message, positions=[1], at=1800.0)


def greylisted(world: Builder) -> None:
    """For longer than it would take if its next hop had not said so each time."""
    message = world.message(A)
    for number in range(20):
        world.relay(message, at=1.0 + 900 * number, rcpts={A: BUSY} if number < 19 else {})


def connected_as_the_gateway_came_back(world: Builder) -> None:
    """The client's SYN was repeated until somebody answered it."""
    world.history.crashes.append(Crash("gw1", 0, 0.5, 1.01))
    relayed = world.relay(world.message(A))
    relayed.upstream["corp.example"].client_life = 1
    world.history.log[:] = [dataclasses.replace(line, life=1) for line in world.history.log]


def never_connected(world: Builder) -> None:
    """The client believes that it is connected; the packet that says so to the gateway is lost."""
    client = world.sessions("osend1", "203.0.113.11", "gw1", TcpAddress("192.0.2.1", 25), 1.0)
    client.faults.append(Kind.ONE_WAY)
    client.client_end = (301.0, End.FIN)


def taken_up_again_in_vain(world: Builder) -> None:
    """Nobody answers RSET in a session that was kept; its time is over then, and it is closed."""
    session = world.relay(world.message(A)).upstream["corp.example"]
    session.commands.pop()
    session.server_end = None
    ask(session, "RSET", 4.7, "250 ok").reply = None
    session.client_end = (14.7, End.FIN)


def too_late_to_be_heard(world: Builder) -> None:
    """The next hop's answer comes when the gateway has given up."""
    message = world.message(A)
    relayed = world.relay(message, dots={A: Silence.LOST})
    relayed.handed().outcomes.append(say(TAKEN, 560.0))
    world.relay(message, at=900.0)


def an_old_session_goes_on(world: Builder) -> None:
    """Its sender has crashed, come back, and handed the message to the same gateway again."""
    message = world.message(A)
    old = world.relay(message, dots={A: Silence.LOST})
    _cut_off(world, old, 1.75)
    world.relay(message, at=1.8)


def both_in_one_session(world: Builder) -> None:
    """As Exim does it: what was put off for another next hop's sake comes again in the same session."""
    message = world.message(A, C)
    first = world.relay(message, positions=[0])
    _, told = first.client.transactions[0].rcpts[0]
    asked = ask(first.client, f"RCPT TO:<{C}>", 1.3, ANOTHER, told=told.reply.written if told.reply else None)
    first.client.commands.remove(asked)
    first.client.commands.insert(3, asked)
    second = world.relay(message, at=1.9, positions=[1])
    first.client.commands[-1:] = second.client.commands[2:]
    for transaction in second.client.transactions:
        transaction.session = first.client
    first.client.transactions += second.client.transactions
    first.client.client_end, first.client.server_end = second.client.client_end, second.client.server_end
    world.history.sessions.remove(second.client)
    names = [f"{one.client.number:012x}".encode() for one in (first, second)]
    handed = second.handed("lists.example")
    handed.content = handed.content.replace(names[1], names[0])
    world.history.log[:] = [line for line in world.history.log if line.fields["id"] == names[0].decode()]


def too_big(world: Builder) -> None:
    relayed = world.relay(world.message(A), rcpts={A: "503 5.5.1 no sender"})
    unsaid(world, relayed)
    own = relayed.client.transactions[0]
    own.mail.reply = say("552 5.3.4 too big", 1.22)
    own.parameters = ("SIZE=60000000",)


def path_down_for_being_slow(world: Builder) -> None:
    """Another path was ready first, and this one had no connection yet."""
    opening = world.sessions("gw1", "192.0.2.1", "o1", TcpAddress("203.0.113.1", 25), 1.0)
    opening.established = None
    world.log("gw1", 1.25, "path_down", path="isp-a/203.0.113.1:25", stage="connect", why="slow")


def half_told(world: Builder) -> None:
    """The sender has read the reply for the first of two, and lost the connection before the second one."""
    message = world.message(A, A)
    relayed = world.relay(message, protocol=Protocol.PRDR)
    relayed.client.commands.pop()
    relayed.client.broken, relayed.client.server_end = 1.79, (1.79, End.FIN)
    world.history.attempts.pop()
    unsettle(world, 1)
    world.relay(message, at=900.0, protocol=Protocol.PRDR, positions=[1])


def _cut_off(world: Builder, relayed: Relayed, time: float) -> None:
    """The client's host has crashed, and knows of nothing any more."""
    relayed.client.commands.pop()
    relayed.client.client_end = (time, End.DETACHED)
    for said in relayed.told:
        said.arrived = None
    relayed.client.server_end = (relayed.told[-1].written + 5, End.RESET)
    world.history.attempts.clear()
    world.history.settled.clear()


KEPT: tuple[Tell, ...] = (
    too_late_to_be_heard,
    an_old_session_goes_on,
    both_in_one_session,
    too_big,
    path_down_for_being_slow,
    half_told,
    connected_as_the_gateway_came_back,
    never_connected,
    taken_up_again_in_vain,
    reset_as_the_reply_came,
    crashed_behind_the_dot,
    untold,
    put_off_while_something_is_broken,
    put_off_after_every_server_was_tried,
    put_off_as_a_session_made_its_path_look_down,
    sent_away_for_each_next_hop,
    greylisted,
    plain,
    refused_at_rcpt,
    all_refused_at_rcpt,
    refused_at_the_dot,
    mixed_by_lmtp,
    mixed_by_prdr,
    twice_the_same_address,
    one_of_twice_the_same_address,
    unknown_and_again,
    too_early_for_nobody,
    relaying_denied,
    goodbye_to_the_silent,
    client_left_without_a_word,
    path_down_for_a_reason,
    no_such_domain,
    no_mail,
    no_address,
    ourselves,
    sender_refused,
    refused_inside_the_message,
    copies_by_another_session,
)
