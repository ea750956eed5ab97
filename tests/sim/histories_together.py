"""Stories of several next hops in one transaction with one reply for all, and of a shared ledger. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from mailgate.network import TcpAddress
from sim.entries import entry_of
from sim.histories import LATENCY, Builder, Relayed, ask, dot, say, settle_rest
from sim.histories_kept import NO, TAKEN, A, C, Tell
from sim.records import Asking, Attempt, Copy, End, Message, Service, Session, Settled

BUSY, NOT_NOW = "451 4.7.1 content must be looked at", "451 4.3.0 not just now"
NOT_ALL, KNOWN = "451 4.3.0 not all have it", "250 2.0.0 delivered already"

FIRST = "one_dot_goes_first"
THREE = "one_reply_per_recipient_in_order"
FIVE = "one_next_hop_takes_it"
REMEMBERED = "what_was_not_told_is_remembered"
NOTHING_ELSE = "nothing_else_is_remembered"
DUPLICATES = "duplicates_are_explained"
DELIVERED = "delivered_only_when_a_next_hop_took_it"

LASTS = 5 * 86_400.0


def several(
    world: Builder,
    message: Message,
    *,
    at: float = 1.0,
    gateway: str = "gw1",
    dots: Mapping[str, str] | None = None,
    told: str = "",
    service: Service = Service.LEDGER,
) -> Relayed:
    """As `relay`, for several next hops: the first one's dot is answered before the others get theirs.

    What is told is 250 if all have taken it, else 451, unless another text is given.
    """
    world.history.service = service
    dots = dots or {}
    settled, attempts = list(world.history.settled), list(world.history.attempts)
    relayed = world.relay(message, at=at, gateway=gateway, dots=dots)
    world.history.settled[:], world.history.attempts[:] = settled, attempts
    for session in list(relayed.upstream.values())[1:]:
        own = session.transactions[0]
        own.dot_written, own.dot_arrived = at + 0.78, at + 0.8
        own.outcomes[:] = [say(said.text, at + 0.8) for said in own.outcomes]
        world.history.copies[:] = [
            dataclasses.replace(copy, time=at + 0.8)
            if copy.receiver == session.server and copy.time == at + 0.74
            else copy
            for copy in world.history.copies
        ]
    same = all(dots.get(one, TAKEN)[0] == "2" for one in message.recipients)
    tell(world, relayed, told or (TAKEN if same else NOT_ALL), at + 0.86, range(len(message.recipients)))
    return relayed


def tell(world: Builder, relayed: Relayed, text: str, time: float, positions: Sequence[int]) -> None:
    """The client's reply to the dot, and what it makes of that; then it goes."""
    client, message = relayed.client, relayed.message
    relayed.told[:] = [say(text, time)]
    client.commands.pop()
    ask(client, "QUIT", time + 0.04, "221 bye")
    client.client_end, client.server_end = (time + 0.08, End.FIN), (time + 0.1, End.FIN)
    heard = time + LATENCY
    state = {"2": "delivered", "5": "refused"}.get(text[0], "deferred")
    for position in positions:
        began, address = client.connecting, client.server_address
        world.history.attempts.append(Attempt(message.id, position, address, began, heard, "dot", text, state))
        if state != "deferred":
            world.history.settled.append(Settled(message.id, position, heard, state, text))


def asks(
    world: Builder, message: Message, recipient: str, time: float, *, gateway: str = "gw1", found: bool | None = None
) -> Asking:
    """An entry is made; or taken away, if it is said whether it was there."""
    takes = found is not None
    asking = Asking(gateway, 0, time, takes, (entry_of(message, recipient),), math.inf if takes else LASTS)
    asking.done, asking.answered = time + 0.002, time + 0.004
    asking.found = () if found is None else (found,)
    world.history.askings.append(asking)
    return asking


def again(world: Builder, relayed: Relayed, recipient: str, at: float, text: str, server: tuple[str, str]) -> Session:
    """Another dot in the same client's transaction, for one recipient, and its answer a moment later."""
    client = relayed.client
    name, ip = server
    session = world.sessions(client.server, "10.0.0.1", name, TcpAddress(ip, 25), at)
    session.greeting = say(f"220 {name}", at + 0.02)
    ask(session, "EHLO gw1", at + 0.04, f"250 {name}")
    ask(session, f"MAIL FROM:<{relayed.message.reverse_path}>", at + 0.08, "250 ok")
    ask(session, f"RCPT TO:<{recipient}>", at + 0.12, "250 ok")
    ask(session, "DATA", at + 0.16, "354 go")
    top = f"Received: from x\r\n\tby y with SMTP id {client.number:012x};\r\n".encode()
    dot(session.transactions[0], relayed.message, at + 0.2, top)
    session.transactions[0].outcomes.append(say(text, at + 0.22))
    ask(session, "QUIT", at + 0.26, "221 bye")
    session.client_end, session.server_end = (at + 0.3, End.FIN), (at + 0.28, End.FIN)
    if text[0] == "2":
        message, via = relayed.message, (f"{client.number:012x}",)
        world.history.copies.append(Copy(message.id, recipient, name, at + 0.22, message.digest, via))
    return session


IN1, IN3, QUEUE = ("in1", "10.1.0.1"), ("in3", "10.1.0.3"), ("queue", "10.1.0.5")


def _known(world: Builder, message: Message, at: float) -> None:
    """The first recipient comes again at the other gateway, and gets no second copy."""
    asks(world, message, A, at + 0.725, gateway="gw2", found=True)
    copies, settled, attempts = (list(one) for one in _ends(world))
    relayed = world.relay(message, at=at, gateway="gw2", positions=[0])
    for now, before in zip(_ends(world), (copies, settled, attempts), strict=True):
        now[:] = before  # type: ignore[index]
    own = relayed.handed()
    own.dot_written = own.dot_arrived = None
    own.outcomes.clear()
    relayed.upstream["corp.example"].commands.pop()
    relayed.upstream["corp.example"].client_end = (at + 0.73, End.FIN)
    tell(world, relayed, KNOWN, at + 0.74, [0])


def _ends(world: Builder) -> tuple[list[Copy], list[Settled], list[Attempt]]:
    return world.history.copies, world.history.settled, world.history.attempts


# Kept


def several_at_once(world: Builder) -> None:
    several(world, world.message(A, C))


def mixed_and_known(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.83)
    _known(world, message, 900.0)
    world.relay(message, at=1800.0, positions=[1])


def mixed_and_out_of_reach(world: Builder) -> None:
    """The entry could not be made."""
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.83).answered = None
    world.history.askings[0].done = None
    asks(world, message, A, 900.725, found=False)
    world.relay(message, at=900.0, positions=[0])
    world.relay(message, at=1800.0, positions=[1])


def mixed_and_lost(world: Builder) -> None:
    """The server has lost what it knew."""
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.83)
    world.history.forgotten.append(500.0)
    world.relay(message, at=900.0, positions=[0])
    world.relay(message, at=1800.0, positions=[1])


def first_refused(world: Builder) -> None:
    """Nobody has the message then, and the second one's session is closed without a dot."""
    message = world.message(A, C)
    relayed = several(world, message, dots={A: NO}, told=NOT_ALL)
    other = relayed.handed("lists.example")
    other.dot_written = other.dot_arrived = None
    other.outcomes.clear()
    relayed.upstream["lists.example"].commands.pop()
    relayed.upstream["lists.example"].client_end = (1.77, End.FIN)
    world.history.copies.clear()
    world.relay(message, at=900.0, positions=[1])
    world.relay(message, at=1800.0, positions=[0], dots={A: NO})


def mended(world: Builder) -> None:
    relayed = several(world, world.message(A, C), dots={C: NOT_NOW}, told=TAKEN)
    again(world, relayed, C, 2.8, TAKEN, IN3)
    _told_at(relayed, 3.1)


def handed_over(world: Builder) -> None:
    world.history.handover = "queue"
    relayed = several(world, world.message(A, C), dots={C: NO}, told=TAKEN, service=Service.HANDOVER)
    again(world, relayed, C, 2.8, TAKEN, QUEUE)
    _told_at(relayed, 3.1)


def _told_at(relayed: Relayed, time: float) -> None:
    client = relayed.client
    relayed.told[:] = [say(relayed.told[0].text, time)]
    client.commands.pop()
    ask(client, "QUIT", time + 0.04, "221 bye")
    client.client_end, client.server_end = (time + 0.08, End.FIN), (time + 0.1, End.FIN)


KEPT: tuple[Tell, ...] = (
    several_at_once,
    mixed_and_known,
    mixed_and_out_of_reach,
    mixed_and_lost,
    first_refused,
    mended,
    handed_over,
)


# Broken


def dots_at_once(world: Builder) -> None:
    relayed = several(world, world.message(A, C))
    other = relayed.handed("lists.example")
    other.dot_written, other.dot_arrived = 1.72, 1.74


def dot_before_the_message_is_out(world: Builder) -> None:
    relayed = first_without_the_second(world)
    relayed.handed("lists.example").octets = 10


def first_without_the_second(world: Builder) -> Relayed:
    """The second one's session is lost as it waits, and there is no other path."""
    message = world.message(A, C)
    relayed = several(world, message)
    other = relayed.handed("lists.example")
    other.dot_written = other.dot_arrived = None
    other.outcomes.clear()
    relayed.upstream["lists.example"].commands.pop()
    relayed.upstream["lists.example"].client_end = (1.73, End.FIN)
    world.history.copies.pop()
    relayed.told[:] = [say(NOT_ALL, relayed.told[0].written)]
    asks(world, message, A, 1.83)
    world.history.settled.clear()
    settle_rest(world)
    return relayed


def not_remembered(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    settle_rest(world)


def remembered_too_late(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.9)
    settle_rest(world)


def not_remembered_as_the_client_left(world: Builder) -> None:
    message = world.message(A, C)
    relayed = several(world, message)
    relayed.told.clear()
    relayed.client.commands.pop()
    relayed.client.client_end, relayed.client.server_end = (1.75, End.RESET), (1.9, End.FIN)
    world.history.settled.clear()
    settle_rest(world)


def sent_again_though_it_was_known(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.83)
    world.relay(message, at=900.0, positions=[0])
    world.relay(message, at=1800.0, positions=[1])


def remembered_for_nothing(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.83)
    asks(world, message, C, 1.83)
    settle_rest(world)


def remembered_though_it_was_told(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message)
    asks(world, message, A, 2.9)


def remembered_and_left_there(world: Builder) -> None:
    """An entry that was found stays."""
    message = world.message(A, C)
    several(world, message, dots={C: BUSY})
    asks(world, message, A, 1.83)
    _known(world, message, 900.0)
    asks(world, message, A, 900.73, gateway="gw2")
    world.relay(message, at=1800.0, positions=[1])


def remembered_by_another_name(world: Builder) -> None:
    message = world.message(A, C)
    several(world, message)
    asks(world, message, A, 1.83).marks = ("ledger:0123",)


def refused_and_again(world: Builder) -> None:
    relayed = several(world, world.message(A, C), dots={C: NO}, told=TAKEN)
    again(world, relayed, C, 2.8, TAKEN, IN3)
    _told_at(relayed, 3.1)


def unknown_and_handed_over(world: Builder) -> None:
    world.history.handover = "queue"
    message = world.message(A, C)
    relayed = several(world, message, service=Service.HANDOVER)
    relayed.handed("lists.example").outcomes[0].arrived = None
    relayed.upstream["lists.example"].broken = 1.81
    again(world, relayed, C, 2.8, TAKEN, QUEUE)
    for one in (A, C):
        asks(world, message, one, 3.05)
    world.log("gw1", 3.1, "not_delivered", id=f"{relayed.client.number:012x}", outcomes=[f"{C} unknown: lost"])
    relayed.told[:] = [say(NOT_ALL, 3.1)]
    _told_at(relayed, 3.1)
    world.history.settled.clear()
    settle_rest(world)


def one_is_enough(world: Builder) -> None:
    several(world, world.message(A, C), dots={C: BUSY}, told=TAKEN)


BROKEN: tuple[tuple[Tell, tuple[str, ...]], ...] = (
    (dots_at_once, (FIRST,)),
    (dot_before_the_message_is_out, (FIRST,)),
    (not_remembered, (REMEMBERED,)),
    (remembered_too_late, (REMEMBERED,)),
    (not_remembered_as_the_client_left, (REMEMBERED,)),
    (sent_again_though_it_was_known, (REMEMBERED, DUPLICATES)),
    (remembered_for_nothing, (NOTHING_ELSE,)),
    (remembered_though_it_was_told, (NOTHING_ELSE,)),
    (remembered_and_left_there, (NOTHING_ELSE,)),
    (remembered_by_another_name, (NOTHING_ELSE,)),
    (refused_and_again, (FIVE,)),
    (unknown_and_handed_over, (FIVE, DELIVERED)),
    (one_is_enough, (DELIVERED, THREE)),
)
"""and the promises that are broken, each by the name of its checker"""
