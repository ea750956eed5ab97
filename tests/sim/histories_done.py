"""Stories in which a gateway does what it must not, or mail does not arrive: the other promises. Pure."""

from __future__ import annotations

import dataclasses

from mailgate.network import TcpAddress
from sim.histories import Builder, Silence, ask, change, change_rcpt, crash, dot, say, settle_rest, unsaid
from sim.histories_kept import ANOTHER, BUSY, A, B, Tell, X, path_down_for_a_reason, path_down_for_being_slow
from sim.records import End, Hit, Kind, Phase, Settled, Side

THREE = "one_reply_per_recipient_in_order"
FOUR = "only_complete_messages_are_committed"
FIVE = "one_next_hop_takes_it"
UNKNOWN = "unknown_is_told_and_logged"
SEVEN = "nothing_is_left"
RELAY = "no_open_relay"
KILLS = "no_session_kills_another"
HEALTH = "strangers_do_not_poison_health"
AGAIN = "duplicates_are_explained"
LATE = "mail_arrives_in_time"


def dot_before_the_clients(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.client.transactions[0].dot_arrived = 1.73


def dot_without_the_clients(world: Builder) -> None:
    message = world.message(A)
    relayed = world.relay(message)
    own = relayed.client.transactions[0]
    own.dot_written = own.dot_arrived = None
    own.outcomes.clear()
    relayed.client.commands.pop()
    relayed.client.client_end = (1.7, End.FIN)
    world.history.copies.clear()
    world.history.settled.clear()
    settle_rest(world)


def half_a_message(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.handed().digest = "half"


def half_a_copy(world: Builder) -> None:
    world.relay(world.message(A))
    world.history.copies[0] = dataclasses.replace(world.history.copies[0], digest="half")


def violation(world: Builder) -> None:
    world.history.violations.append("a line of the message that was not dot-stuffed")


def two_next_hops(world: Builder) -> None:
    relayed = world.relay(world.message(A), dots={A: BUSY})
    other = world.sessions("gw1", "10.0.0.1", "in2", TcpAddress("10.1.0.2", 25), 1.74)
    other.greeting = say("220 in2", 1.74)
    ask(other, "EHLO gw1", 1.74, "250 in2")
    ask(other, f"MAIL FROM:<{relayed.message.reverse_path}>", 1.74, "250 ok")
    ask(other, f"RCPT TO:<{A}>", 1.74, "250 ok")
    ask(other, "DATA", 1.74, "354 go")
    dot(other.transactions[0], relayed.message, 1.74, b"Received: from x\r\n\tby y id 000000000000;\r\n")
    other.transactions[0].outcomes.append(say(BUSY, 1.74))
    other.client_end = (2.0, End.FIN)
    settle_rest(world)


def put_off_and_sent(world: Builder) -> None:
    """The client was told to send the second recipient in another transaction."""
    message = world.message(A, B)
    relayed = world.relay(message)
    change_rcpt(relayed.client.transactions[0].rcpts[1][1], "452 4.5.3 another one")


def unknown_and_not_logged(world: Builder) -> None:
    message = world.message(A)
    world.relay(message, dots={A: Silence.LOST})
    world.history.log.pop()
    world.relay(message, at=900.0)


def not_waited_for(world: Builder) -> None:
    message = world.message(A)
    relayed = world.relay(message, dots={A: Silence.LOST})
    relayed.upstream["corp.example"].client_end = (60.0, End.FIN)
    world.relay(message, at=900.0)


def something_left(world: Builder) -> None:
    world.history.left.append("gw1: 1 connection")


def left_open(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.upstream["corp.example"].client_end = None


def opened_and_left_open(world: Builder) -> None:
    world.sessions("gw1", "10.0.0.1", "in2", TcpAddress("10.1.0.2", 25), 1.32).client_end = (60.0, End.FIN)


def kept_too_long(world: Builder) -> None:
    """Its next transaction begins too late; the message is sent again because the first outcome was 4xx."""
    message = world.message(A)
    first = world.relay(message, dots={A: BUSY})
    second = world.relay(message, at=30.0)
    session, later = first.upstream["corp.example"], second.upstream["corp.example"]
    session.commands[-1:] = later.commands[1:]
    for transaction in later.transactions:
        transaction.session = session
    session.transactions += later.transactions
    session.client_end = later.client_end
    world.history.sessions.remove(later)


def open_relay(world: Builder) -> None:
    relayed = world.relay(world.message(X, sender="stranger"))
    assert relayed.upstream


def relayed_for_who_may_not_connect(world: Builder) -> None:
    relayed = world.relay(world.message(X, sender="isend1"))
    relayed.client.client_address = TcpAddress("203.0.113.66", 40_000)
    relayed.client.greeting = None


def welcomed_in_spite_of_its_address(world: Builder) -> None:
    client = world.sessions("stranger", "203.0.113.66", "gw1", TcpAddress("10.0.0.1", 24), 1.0)
    client.greeting = say("220 gw1", 1.04)
    client.client_end, client.server_end = (2.0, End.FIN), (2.1, End.FIN)


def never_named(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.handed().rcpts.append((B, dataclasses.replace(relayed.handed().rcpts[0][1])))
    rcpt = relayed.handed().rcpts[-1][1]
    rcpt.reply = say(BUSY, rcpt.arrived or 0)


def not_denied(world: Builder) -> None:
    """Said to nobody upstream, but put off where it should be denied."""
    message = world.message(X, sender="stranger")
    unsaid(world, world.relay(message, rcpts={X: BUSY}))


def bug(world: Builder) -> None:
    world.log("gw1", 5.0, "delivery_failed", exception="Traceback…\nRuntimeError: no place for it")


def closed_without_a_word(world: Builder) -> None:
    client = world.sessions("osend1", "203.0.113.11", "gw1", TcpAddress("192.0.2.1", 25), 1.0)
    client.greeting = say("220 gw1", 1.04)
    client.server_end = (2.0, End.FIN)


def reset_without_a_word(world: Builder) -> None:
    closed_without_a_word(world)
    world.history.sessions[-1].server_end = (2.0, End.RESET)


def down_for_a_message(world: Builder) -> None:
    relayed = world.relay(world.message(A), dots={A: BUSY})
    world.log("gw1", 1.76, "path_down", path="10.1.0.1:25", stage="MAIL", why=BUSY)
    world.relay(relayed.message, at=900.0)


def down_without_a_session(world: Builder) -> None:
    world.log("gw1", 1.76, "path_down", path="10.1.0.1:25", stage="connect", why="refused")


def down_over_another_backbone(world: Builder) -> None:
    path_down_for_a_reason(world)
    session = world.history.sessions[-1]
    session.client_address = TcpAddress("198.51.100.1", 40_000)


def down_before_it_had_time(world: Builder) -> None:
    opening = world.sessions("gw1", "192.0.2.1", "o1", TcpAddress("203.0.113.1", 25), 1.0)
    opening.client_end = (1.3, End.FIN)
    world.log("gw1", 1.2, "path_down", path="isp-a/203.0.113.1:25", stage="greeting", why="silence")


def down_before_its_head_start(world: Builder) -> None:
    path_down_for_being_slow(world)
    world.history.log[-1] = dataclasses.replace(world.history.log[-1], time=1.1)


def sent_again_for_nothing(world: Builder) -> None:
    message = world.message(A)
    world.relay(message)
    world.relay(message, at=900.0, gateway="gw2")


def sent_again_for_what_was_heard(world: Builder) -> None:
    """The gateway had the 2xx, and told its client 4xx."""
    message = world.message(A)
    relayed = world.relay(message)
    change(relayed.told, 0, BUSY)
    world.history.attempts.clear()
    world.history.settled.clear()
    world.relay(message, at=900.0)


def one_copy_too_many_at_the_receiver(world: Builder) -> None:
    """One transaction, two copies: the second one is nobody's."""
    world.relay(world.message(A))
    world.history.copies.append(dataclasses.replace(world.history.copies[0], time=2.0))


def still_queued(world: Builder) -> None:
    world.message(A)


def expired(world: Builder) -> None:
    world.message(A)
    world.history.settled.append(Settled("m1", 0, 99_000.0, "expired", ""))


def late(world: Builder) -> None:
    world.relay(world.message(A), at=90_000.0)


def put_off_for_nothing(world: Builder) -> None:
    """No next hop has said 4xx, and nothing is broken."""
    message = world.message(A)
    relayed = world.relay(message, rcpts={A: "451 4.4.2 lost"})
    unsaid(world, relayed)
    world.relay(message, at=900.0)


def put_off_for_anothers_session(world: Builder) -> None:
    """What was done to a session behind MAIL is no reason to put off others."""
    message = world.message(A)
    world.fault(Kind.RESET, "session 77", 0.9, 0.9)
    world.history.hits.append(Hit(Kind.RESET, Phase.BODY, Side.UPSTREAM, 77, 0.9))
    unsaid(world, world.relay(message, rcpts={A: "451 4.4.2 lost"}))
    world.relay(message, at=900.0)


def put_off_before_every_server_was_tried(world: Builder) -> None:
    """Whatever is broken: the second server has not been asked."""
    message = world.message(A)
    world.fault(Kind.BLACK_HOLE, "isp-a", 0.0, 100.0)
    unsaid(world, world.relay(message, at=50.0, rcpts={A: "451 4.4.1 no path"}))
    world.relay(message, at=900.0)


def left_open_by_a_client(world: Builder) -> None:
    """The client has gone, and the gateway keeps its connection."""
    client = world.relay(world.message(A)).client
    assert client.client_end is not None
    client.server_end = (client.client_end[0] + 50, End.FIN)


def sent_away_for_nothing(world: Builder) -> None:
    """A client is told that the gateway shuts down, and it does not."""
    client = world.sessions("osend1", "203.0.113.11", "gw1", TcpAddress("192.0.2.1", 25), 1.0)
    client.greeting = say("421 4.3.2 gw1 Shutting down, try later or elsewhere", 1.04)
    client.server_end, client.client_end = (1.05, End.FIN), (1.1, End.FIN)


def crashed_without_a_trace(world: Builder) -> None:
    """A copy that a crash explains, but the log does not say that a dot was about to be written."""
    message = world.message(A)
    crash(world, world.relay(message), 1.73)
    world.history.log = [line for line in world.history.log if line.fields["event"] != "committing"]
    world.relay(message, at=900.0, gateway="gw2")


def sent_away_for_ever(world: Builder) -> None:
    message = world.message(A)
    for number in range(4):
        relayed = world.relay(message, at=1.0 + 900 * number, rcpts={A: ANOTHER} if number < 3 else {})
        if number < 3:
            unsaid(world, relayed)


BROKEN: tuple[tuple[Tell, tuple[str, ...]], ...] = (
    (dot_before_the_clients, (FOUR,)),
    (dot_without_the_clients, (FOUR,)),
    (half_a_message, (FOUR,)),
    (half_a_copy, (FOUR,)),
    (violation, (FOUR,)),
    (two_next_hops, (FIVE,)),
    (put_off_and_sent, (FIVE,)),
    (unknown_and_not_logged, (UNKNOWN,)),
    (not_waited_for, (UNKNOWN,)),
    (something_left, (SEVEN,)),
    (left_open, (SEVEN,)),
    (opened_and_left_open, (SEVEN,)),
    (kept_too_long, (SEVEN,)),
    (open_relay, (RELAY,)),
    (relayed_for_who_may_not_connect, (RELAY,)),
    (welcomed_in_spite_of_its_address, (RELAY,)),
    (never_named, (RELAY,)),
    (not_denied, (RELAY,)),
    (bug, (KILLS,)),
    (closed_without_a_word, (KILLS,)),
    (reset_without_a_word, (KILLS,)),
    (down_for_a_message, (HEALTH,)),
    (down_without_a_session, (HEALTH,)),
    (down_over_another_backbone, (HEALTH,)),
    (down_before_it_had_time, (HEALTH,)),
    (down_before_its_head_start, (HEALTH,)),
    (sent_again_for_nothing, (AGAIN,)),
    (one_copy_too_many_at_the_receiver, (AGAIN,)),
    (sent_again_for_what_was_heard, (AGAIN, THREE)),
    (still_queued, (LATE,)),
    (expired, (LATE,)),
    (late, (LATE,)),
    (put_off_for_nothing, (LATE,)),
    (put_off_for_anothers_session, (LATE,)),
    (sent_away_for_ever, (LATE,)),
    (put_off_before_every_server_was_tried, (LATE,)),
    (left_open_by_a_client, (SEVEN,)),
    (sent_away_for_nothing, (KILLS,)),
    (crashed_without_a_trace, (AGAIN,)),
)
"""and the promises that are broken, each by the name of its checker"""
