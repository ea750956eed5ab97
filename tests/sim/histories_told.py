"""Stories in which a client is told what is not so, or in the wrong way: promises 1, 2, 3 and 6. Pure."""

from __future__ import annotations

from mailgate.network import NoAnswer, TcpAddress
from sim.histories import (
    Builder,
    Protocol,
    Silence,
    ask,
    change,
    change_rcpt,
    looked_up,
    refuse_sender,
    say,
    settle_rest,
    unsaid,
    unsettle,
)
from sim.histories_kept import BUSY, NO, TAKEN, A, B, C, Tell, X, Y, no_such_domain
from sim.records import End

ONE = "delivered_only_when_a_next_hop_took_it"
TWO = "refused_only_by_its_own_next_hop"
THREE = "one_reply_per_recipient_in_order"
UNKNOWN = "unknown_is_told_and_logged"
SIX = "every_reply_is_in_time"


def told_too_early(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.told[0].written = relayed.handed().outcomes[0].written


def told_of_another(world: Builder) -> None:
    """Both were told 2xx, and one has it."""
    relayed = world.relay(world.message(X, Y, sender="isend1"), protocol=Protocol.LMTP, dots={Y: BUSY})
    change(relayed.told, 1, TAKEN)
    settle_rest(world)


def once_for_two(world: Builder) -> None:
    relayed = world.relay(world.message(X, X, sender="isend1"), protocol=Protocol.LMTP)
    handed = relayed.handed("d1.example")
    handed.rcpts[1][1].reply = say(BUSY, handed.rcpts[1][1].arrived or 0)
    handed.outcomes.pop(2)


def accepted_without_asking(world: Builder) -> None:
    message = world.message(A)
    relayed = world.relay(message, rcpts={A: BUSY})
    change_rcpt(relayed.client.transactions[0].rcpts[0][1], "250 2.1.5 ok")
    world.relay(message, at=900.0)


def offered_to_another(world: Builder) -> None:
    world.relay(world.message(A)).upstream["corp.example"].server = "in3"


def lost(world: Builder) -> None:
    world.relay(world.message(A))
    world.history.copies.clear()


def one_of_two_lost(world: Builder) -> None:
    world.relay(world.message(A, A), protocol=Protocol.PRDR)
    world.history.copies.pop()


def deferred_told_as_refused(world: Builder) -> None:
    relayed = world.relay(world.message(A, B), rcpts={B: BUSY})
    relayed.client.transactions[0].rcpts[1][1].reply = say("550 5.2.1 no", 1.5)
    settle_rest(world)


def anothers_refusal(world: Builder) -> None:
    relayed = world.relay(world.message(A, B), rcpts={A: NO, B: NO})
    _, asked = relayed.handed().rcpts.pop()
    relayed.upstream["corp.example"].commands.remove(asked)


def refused_before_it_was_said(world: Builder) -> None:
    relayed = world.relay(world.message(A), rcpts={A: NO})
    relayed.client.transactions[0].rcpts[0][1].reply = say(NO, 1.49)


def refused_for_no_path(world: Builder) -> None:
    relayed = world.relay(world.message(A), rcpts={A: NO})
    upstream = relayed.upstream["corp.example"]
    upstream.greeting = say("554 5.3.2 no", 1.36)
    upstream.commands.clear()
    upstream.transactions.clear()


def unknown_told_as_refused(world: Builder) -> None:
    """A loss that is nobody's 5xx; what is unknown must be told as 4xx, too."""
    relayed = world.relay(world.message(A), dots={A: Silence.LOST})
    relayed.told[0] = say("550 5.4.0 lost", relayed.told[0].written)
    settle_rest(world)


def someone_elses_mx_refused_the_sender(world: Builder) -> None:
    message = world.message(A, C)
    relayed = world.relay(message, rcpts={A: NO, C: NO})
    refuse_sender(relayed.upstream["corp.example"], NO)
    world.history.sessions.remove(relayed.upstream["lists.example"])


def no_such_domain_in_spite_of_dns(world: Builder) -> None:
    no_such_domain(world)
    world.history.lookups.clear()
    looked_up(world, 1.4, "d1.example", "MX", NoAnswer.TEMPORARY)


def too_small_to_be_too_big(world: Builder) -> None:
    relayed = world.relay(world.message(A), rcpts={A: NO})
    own = relayed.client.transactions[0]
    own.mail.reply = say("552 5.3.4 too big", 1.22)
    own.rcpts[0][1].reply = say("503 5.5.1 no sender", 1.32)
    unsaid(world, relayed)
    settle_rest(world)


def too_small_to_be_too_big_at_rcpt(world: Builder) -> None:
    unsaid(world, world.relay(world.message(A), rcpts={A: "552 5.3.4 too big"}))


def admitted_and_turned_away(world: Builder) -> None:
    client = world.sessions("isend1", "10.1.0.11", "gw1", TcpAddress("10.0.0.1", 24), 1.0)
    client.greeting = say("554 5.7.1 no", 1.02)
    client.server_end = (3.0, End.FIN)


def a_reply_too_few(world: Builder) -> None:
    relayed = world.relay(world.message(X, Y, sender="isend1"), protocol=Protocol.LMTP)
    relayed.told.pop()
    relayed.client.client_end = None
    unsettle(world, 1)
    settle_rest(world)
    world.history.ended = 50.0  # no time to wait in vain


def a_reply_too_many(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.client.unasked.append(say(TAKEN, 1.78))


def swapped(world: Builder) -> None:
    """Of one address twice the first was put off; the second one is told so."""
    relayed = world.relay(world.message(X, X, sender="isend1"), protocol=Protocol.LMTP)
    change(relayed.handed("d1.example").outcomes, 1, BUSY)
    change(relayed.told, 1, BUSY)
    world.history.copies.pop()
    unsettle(world, 1)
    settle_rest(world)


def taken_and_told_as_deferred(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    change(relayed.told, 0, BUSY)
    settle_rest(world)


def wrong_final_reply(world: Builder) -> None:
    relayed = world.relay(world.message(A, B), protocol=Protocol.PRDR)
    change(relayed.told, 3, "550 none")


def goodbye_in_place_of_an_outcome(world: Builder) -> None:
    message = world.message(A)
    relayed = world.relay(message, dots={A: BUSY})
    change(relayed.told, 0, "421 4.3.2 going")
    relayed.client.commands.pop()
    world.relay(message, at=900.0)


def the_wrong_class(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    data = relayed.client.transactions[0].data
    assert data is not None
    data.reply = say("250 2.0.0 go", 1.66)


def something_behind_the_goodbye(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.client.unasked.append(say("421 4.3.2 going", 1.83))


def never_told(world: Builder) -> None:
    """The client has waited for the second reply for ten minutes."""
    message = world.message(X, Y, sender="isend1")
    relayed = world.relay(message, protocol=Protocol.LMTP)
    relayed.told.pop()
    relayed.client.commands.pop()
    relayed.client.client_end, relayed.client.server_end = (1000.0, End.FIN), (1000.1, End.FIN)


def unknown_told_as_taken(world: Builder) -> None:
    """In the moment of a reset nobody knows what was heard; here the reply never came."""
    relayed = world.relay(world.message(A), dots={A: Silence.LOST})
    change(relayed.told, 0, TAKEN)
    settle_rest(world)


def slow(command: str, seconds: float) -> Tell:
    def tell(world: Builder) -> None:
        relayed = world.relay(world.message(A))
        asked = next(one for one in relayed.client.commands if one.verb == command)
        assert asked.reply is not None
        asked.reply.written += seconds
        relayed.client.client_end = relayed.client.server_end = None

    tell.__name__ = f"slow_{command}"
    return tell


def slow_dot(world: Builder) -> None:
    relayed = world.relay(world.message(A))
    relayed.told[0].written += 600
    relayed.told[0].arrived = None
    relayed.client.client_end, relayed.client.server_end = (1400.0, End.FIN), (1400.1, End.FIN)


def no_greeting(world: Builder) -> None:
    world.sessions("osend1", "203.0.113.11", "gw1", TcpAddress("192.0.2.1", 25), 1.0)


def never_answered(world: Builder) -> None:
    client = world.sessions("osend1", "203.0.113.11", "gw1", TcpAddress("192.0.2.1", 25), 1.0)
    client.greeting = say("220 gw1", 1.04)
    ask(client, "EHLO osend1", 1.1, "250 gw1").reply = None
    client.client_end, client.server_end = (301.1, End.FIN), (301.2, End.FIN)


BROKEN: tuple[tuple[Tell, tuple[str, ...]], ...] = (
    (told_too_early, (ONE,)),
    (told_of_another, (ONE, THREE)),
    (once_for_two, (ONE,)),
    (accepted_without_asking, (ONE,)),
    (offered_to_another, (ONE,)),
    (lost, (ONE,)),
    (one_of_two_lost, (ONE,)),
    (deferred_told_as_refused, (TWO,)),
    (anothers_refusal, (TWO,)),
    (refused_before_it_was_said, (TWO,)),
    (refused_for_no_path, (TWO,)),
    (unknown_told_as_refused, (TWO, UNKNOWN)),
    (someone_elses_mx_refused_the_sender, (TWO,)),
    (no_such_domain_in_spite_of_dns, (TWO,)),
    (too_small_to_be_too_big, (TWO,)),
    (too_small_to_be_too_big_at_rcpt, (TWO,)),
    (admitted_and_turned_away, (TWO,)),
    (a_reply_too_few, (THREE,)),
    (a_reply_too_many, (THREE,)),
    (swapped, (THREE,)),
    (taken_and_told_as_deferred, (THREE,)),
    (wrong_final_reply, (THREE,)),
    (goodbye_in_place_of_an_outcome, (THREE,)),
    (the_wrong_class, (THREE,)),
    (something_behind_the_goodbye, (THREE,)),
    (never_told, (THREE, SIX)),
    (unknown_told_as_taken, (ONE, UNKNOWN)),
    (slow("EHLO", 300), (SIX,)),
    (slow("RCPT", 300), (SIX,)),
    (slow("DATA", 120), (SIX,)),
    (slow_dot, (SIX,)),
    (no_greeting, (SIX,)),
    (never_answered, (SIX,)),
)
"""and the promises that are broken, each by the name of its checker"""
