"""Which next hop fails when, what the client hears, who gets the message, and what its retries bring: the table.

One message to u@a.example, u@b.example and u@c.example, whose next hops `a`, `b` and `c` commit in that order. Its
client tries again, with the same content and whoever heard a 4xx, until nobody is left. A story is what happens then,
transaction by transaction:

    a451 b451 c451 +a +c @211 | a250 b452 c250 | b250 +b

In the first transaction all three heard 451 (be it at RCPT, at DATA or behind the dot), `a` and `c` got the message,
and the reply came 211 s behind the client's dot. In the second `b` heard 452, the others 250, and nobody got anything.
`+b?` is a next hop that has read the whole message and not said what it made of it, `+b/h` the inside MTA that got the
message for `b`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mailgate.testing import Close, Delay, During, Script, Turns


class Client(enum.Enum):
    """Who sends, and to what kind of listener."""

    TOGETHER = "together"
    APART = "apart"
    PRDR = "PRDR"
    LMTP = "LMTP"


class Memory(enum.Enum):
    """What the gateways remember by, and what else helps."""

    NONE = "no ledger"
    LOCAL = "own ledgers"
    SHARED = "shared ledger"
    HANDOVER = "handover"
    """and own ledgers"""


class Retry(enum.Enum):
    """Where the client tries again."""

    HERE = "here"
    THERE = "there"
    """and then here, and so on"""


Setting = tuple[Memory, Retry]

EVERY: tuple[Setting, ...] = tuple((memory, retry) for memory in Memory for retry in Retry)
HANDED: tuple[Setting, ...] = ((Memory.HANDOVER, Retry.HERE), (Memory.HANDOVER, Retry.THERE))
SHARED: tuple[Setting, ...] = ((Memory.SHARED, Retry.HERE), (Memory.SHARED, Retry.THERE))
NONE_HERE: Setting = (Memory.NONE, Retry.HERE)
NONE_THERE: Setting = (Memory.NONE, Retry.THERE)
OWN_HERE: Setting = (Memory.LOCAL, Retry.HERE)
OWN_THERE: Setting = (Memory.LOCAL, Retry.THERE)

MARKED = (*SHARED, OWN_HERE, NONE_HERE, HANDED[0])
"""the retry finds the put-off marks"""
UNMARKED = (OWN_THERE, NONE_THERE, HANDED[1])
"""it does not"""
EXACT = (*SHARED, OWN_HERE)
"""it finds the entries of the ledger, too, and there is no handover"""
BLIND = (OWN_THERE, NONE_THERE)
"""it finds neither"""


Reply = str | Close


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the next hops; those that are not named are well."""

    scripts: Mapping[str, Sequence[Script]] = field(default_factory=dict)
    """by next hop, one for each of its hosts"""
    gone: str = ""
    """the next hop to which nobody can connect in the first transaction"""
    gone_from: float = 0
    """seconds after its start"""


def at_dots(plans: Mapping[str, Sequence[Reply]]) -> Fault:
    """By next hop, what is said behind the dot, each in turn; then it takes the message."""
    return Fault({hop: (Script(dot=_in_turn(*steps)),) for hop, steps in plans.items()})


def at_dot(hop: str, *plans: Reply) -> Fault:
    """Likewise, of one next hop."""
    return at_dots({hop: plans})


def at_data(hop: str, *plans: Reply) -> Fault:
    """At DATA likewise."""
    return Fault({hop: (Script(data=_in_turn(*plans)),)})


def mid_body(hop: str, *others: Script) -> Fault:
    """The first time its first host breaks off in the middle of the message."""
    return Fault({hop: (Script(body=(During(500, Turns(Close(), ())),)), *others)})


def _in_turn(*plans: Reply) -> Turns:
    return Turns(*plans, ())


def _then_closes(seconds: float) -> Script:
    """The first time it takes the message, but reads none of it, and closes some seconds later."""
    return Script(body=(During(1, Turns((Delay(seconds), Close()), ())),))


BUSY = "451 4.3.0 busy"
FULL = "452 4.2.2 mailbox full"
GREY = "451 4.7.1 greylisted"
REFUSED = ("554 5.7.1 spam",) * 9
SLOW_354 = (Script(data=Delay(3)),)
SLOW_DOT = (Script(dot=Delay(10)),)

FAULTS: dict[str, Fault] = {
    "nothing": Fault(),
    # before the message
    "a no connection": Fault(gone="a"),
    "b no connection": Fault(gone="b"),
    "a RCPT 450": Fault({"a": (Script(rcpt=_in_turn("450 4.2.0 later")),)}),
    "b RCPT 450": Fault({"b": (Script(rcpt=_in_turn("450 4.2.0 later")),)}),
    "a RCPT 550": Fault({"a": (Script(rcpt="550 5.1.1 no"),)}),
    "b RCPT 550": Fault({"b": (Script(rcpt="550 5.1.1 no"),)}),
    "a DATA 451": at_data("a", BUSY),
    "b DATA 451": at_data("b", BUSY),
    "a DATA 554": at_data("a", *REFUSED),
    "b DATA 554": at_data("b", *REFUSED),
    # in the message
    "a lost mid-body": mid_body("a"),
    "b lost mid-body": mid_body("b"),
    "a lost mid-body, another host": mid_body("a", Script()),
    "b lost mid-body, another host": mid_body("b", Script()),
    # when only the dot is left; another one takes longer to have all
    "a lost before the dots": Fault({"a": (_then_closes(2),), "c": SLOW_354}),
    "b lost before the dots": Fault({"b": (_then_closes(2),), "c": SLOW_354}),
    # while the first one has its dot
    "b lost in wait": Fault({"a": SLOW_DOT, "b": (_then_closes(6),)}),
    "b lost in wait, another host": Fault({"a": SLOW_DOT, "b": (_then_closes(6), Script())}),
    "b lost in wait and gone": Fault({"a": SLOW_DOT, "b": (_then_closes(6),)}, gone="b", gone_from=1),
    # the first dot
    "a 451": at_dot("a", BUSY),
    "a 451 twice": at_dot("a", BUSY, BUSY),
    "a 452 4.2.2": at_dot("a", FULL),
    "a 554": at_dot("a", *REFUSED),
    "a silent": at_dot("a", Close()),
    # the dots after it
    "b 451": at_dot("b", BUSY),
    "b 451 twice": at_dot("b", BUSY, BUSY),
    "b 451, another host": Fault({"b": (Script(dot=BUSY), Script())}),
    "b 421": at_dot("b", "421 4.3.2 closing"),
    "b 451 for 13 times": at_dot("b", *[BUSY] * 13),
    "b 452 4.2.2": at_dot("b", FULL),
    "b 451 4.7.1": at_dot("b", GREY),
    "b 554": at_dot("b", *REFUSED),
    "b silent": at_dot("b", Close()),
    # several
    "b 451, c 554": at_dots({"b": (BUSY,), "c": REFUSED}),
    "b 452 4.2.2, c 554": at_dots({"b": (FULL,), "c": REFUSED}),
    "b silent, c 554": at_dots({"b": (Close(),), "c": REFUSED}),
    "a 554, b 554": at_dots({"a": REFUSED, "b": REFUSED}),
}
"""What fails, and how often; "for good" is nine times"""


@dataclass(frozen=True, slots=True)
class Row:
    """What happens where something fails."""

    fails: str
    """a key of `FAULTS`"""
    client: Client
    settings: tuple[Setting, ...]
    """under each of these it is the same"""
    story: str


TOGETHER, APART, PRDR, LMTP = Client

ROWS = (
    Row("nothing", TOGETHER, EVERY, "a250 b250 c250 +a +b +c"),
    Row("nothing", APART, EVERY, "a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("nothing", PRDR, EVERY, "a250 b250 c250 +a +b +c"),
    Row("nothing", LMTP, EVERY, "a250 b250 c250 +a +b +c"),
    #
    # Before the message: each hears its own next hop's answer to RCPT.
    #
    Row("a no connection", TOGETHER, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("a no connection", APART, EVERY, "a451 b250 c452 +b | a250 c452 +a | c250 +c"),
    Row("a no connection", PRDR, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("a no connection", LMTP, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("b no connection", TOGETHER, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b no connection", APART, EVERY, "a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("b no connection", PRDR, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b no connection", LMTP, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("a RCPT 450", TOGETHER, EVERY, "a450 b250 c250 +b +c | a250 +a"),
    Row("a RCPT 450", APART, EVERY, "a450 b250 c452 +b | a250 c452 +a | c250 +c"),
    Row("a RCPT 450", PRDR, EVERY, "a450 b250 c250 +b +c | a250 +a"),
    Row("a RCPT 450", LMTP, EVERY, "a450 b250 c250 +b +c | a250 +a"),
    Row("b RCPT 450", TOGETHER, EVERY, "a250 b450 c250 +a +c | b250 +b"),
    Row("b RCPT 450", PRDR, EVERY, "a250 b450 c250 +a +c | b250 +b"),
    Row("b RCPT 450", LMTP, EVERY, "a250 b450 c250 +a +c | b250 +b"),
    Row("a RCPT 550", TOGETHER, EVERY, "a550 b250 c250 +b +c"),
    Row("a RCPT 550", APART, EVERY, "a550 b250 c452 +b | c250 +c"),
    Row("a RCPT 550", PRDR, EVERY, "a550 b250 c250 +b +c"),
    Row("a RCPT 550", LMTP, EVERY, "a550 b250 c250 +b +c"),
    Row("b RCPT 550", TOGETHER, EVERY, "a250 b550 c250 +a +c"),
    Row("b RCPT 550", APART, EVERY, "a250 b452 c452 +a | b550 c250 +c"),
    Row("b RCPT 550", PRDR, EVERY, "a250 b550 c250 +a +c"),
    Row("b RCPT 550", LMTP, EVERY, "a250 b550 c250 +a +c"),
    #
    # At DATA and in the message. Together: nobody has it; who failed steps aside once, and hears its own answer alone.
    #
    Row("a DATA 451", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a250 +a"),
    Row("a DATA 451", TOGETHER, UNMARKED, "a451 b451 c451 | a250 b250 c250 +a +b +c"),
    Row("a DATA 451", APART, MARKED, "a451 b452 c452 | a452 b250 c452 +b | a250 c452 +a | c250 +c"),
    Row("a DATA 451", APART, UNMARKED, "a451 b452 c452 | a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("a DATA 451", PRDR, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("a DATA 451", LMTP, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("b DATA 451", TOGETHER, MARKED, "a451 b451 c451 | a250 b452 c250 +a +c | b250 +b"),
    Row("b DATA 451", TOGETHER, UNMARKED, "a451 b451 c451 | a250 b250 c250 +a +b +c"),
    Row("b DATA 451", APART, MARKED, "a250 b452 c452 +a | b451 c452 | b452 c250 +c | b250 +b"),
    Row("b DATA 451", APART, UNMARKED, "a250 b452 c452 +a | b451 c452 | b250 c452 +b | c250 +c"),
    Row("b DATA 451", PRDR, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b DATA 451", LMTP, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("a DATA 554", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a554"),
    Row(
        "a DATA 554",
        TOGETHER,
        UNMARKED,
        "a451 b451 c451 | a451 b451 c451 | a452 b250 c250 +b +c | a452 | a554",
    ),
    Row("a DATA 554", APART, EVERY, "a554 b452 c452 | b250 c452 +b | c250 +c"),
    Row("a DATA 554", PRDR, EVERY, "a554 b250 c250 +b +c"),
    Row("a DATA 554", LMTP, EVERY, "a554 b250 c250 +b +c"),
    Row("b DATA 554", TOGETHER, MARKED, "a451 b451 c451 | a250 b452 c250 +a +c | b554"),
    Row(
        "b DATA 554",
        TOGETHER,
        UNMARKED,
        "a451 b451 c451 | a451 b451 c451 | a250 b452 c250 +a +c | b452 | b554",
    ),
    Row("b DATA 554", APART, EVERY, "a250 b452 c452 +a | b554 c452 | c250 +c"),
    Row("b DATA 554", PRDR, EVERY, "a250 b554 c250 +a +c"),
    Row("b DATA 554", LMTP, EVERY, "a250 b554 c250 +a +c"),
    Row("a lost mid-body", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a250 +a"),
    Row("a lost mid-body", TOGETHER, UNMARKED, "a451 b451 c451 | a250 b250 c250 +a +b +c"),
    Row("a lost mid-body", APART, MARKED, "a451 b452 c452 | a452 b250 c452 +b | a250 c452 +a | c250 +c"),
    Row("a lost mid-body", APART, UNMARKED, "a451 b452 c452 | a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("a lost mid-body", PRDR, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("a lost mid-body", LMTP, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("b lost mid-body", TOGETHER, MARKED, "a451 b451 c451 | a250 b452 c250 +a +c | b250 +b"),
    Row("b lost mid-body", TOGETHER, UNMARKED, "a451 b451 c451 | a250 b250 c250 +a +b +c"),
    Row("b lost mid-body", APART, MARKED, "a250 b452 c452 +a | b451 c452 | b452 c250 +c | b250 +b"),
    Row("b lost mid-body", APART, UNMARKED, "a250 b452 c452 +a | b451 c452 | b250 c452 +b | c250 +c"),
    Row("b lost mid-body", PRDR, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b lost mid-body", LMTP, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("a lost mid-body, another host", TOGETHER, EVERY, "a250 b250 c250 +a +b +c"),
    Row("a lost mid-body, another host", APART, EVERY, "a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("a lost mid-body, another host", PRDR, EVERY, "a250 b250 c250 +a +b +c"),
    Row("a lost mid-body, another host", LMTP, EVERY, "a250 b250 c250 +a +b +c"),
    Row("b lost mid-body, another host", TOGETHER, EVERY, "a250 b250 c250 +a +b +c"),
    Row("b lost mid-body, another host", APART, EVERY, "a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("b lost mid-body, another host", PRDR, EVERY, "a250 b250 c250 +a +b +c"),
    Row("b lost mid-body, another host", LMTP, EVERY, "a250 b250 c250 +a +b +c"),
    #
    # When only the dot is left. (Others than together write it at once.)
    #
    Row("a lost before the dots", TOGETHER, MARKED, "a451 b451 c451 @1 | a452 b250 c250 +b +c @2 | a250 +a"),
    Row("a lost before the dots", TOGETHER, UNMARKED, "a451 b451 c451 @1 | a250 b250 c250 +a +b +c @2"),
    Row("b lost before the dots", TOGETHER, MARKED, "a451 b451 c451 @1 | a250 b452 c250 +a +c @2 | b250 +b"),
    Row("b lost before the dots", TOGETHER, UNMARKED, "a451 b451 c451 @1 | a250 b250 c250 +a +b +c @2"),
    Row("b lost in wait", TOGETHER, EVERY, "a250 b250 c250 +a +b +c @10"),
    Row("b lost in wait, another host", TOGETHER, EVERY, "a250 b250 c250 +a +b +c @10"),
    Row("b lost in wait and gone", TOGETHER, EXACT, "a451 b451 c451 +a +c @216 | a250 b452 c250 | b250 +b"),
    Row("b lost in wait and gone", TOGETHER, HANDED, "a250 b250 c250 +a +b/h +c @216"),
    Row("b lost in wait and gone", TOGETHER, BLIND, "a451 b451 c451 +a +c @216 | a250 b250 c250 +a +b +c @10"),
    Row(
        "b lost in wait and gone",
        TOGETHER,
        (NONE_HERE,),
        "a451 b451 c451 +a +c @216 | a250 b452 c250 +a +c @10 | b250 +b",
    ),
    #
    # The first dot. Together: its refusal still leaves nobody with the message.
    #
    Row("a 451", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a250 +a"),
    Row("a 451", TOGETHER, UNMARKED, "a451 b451 c451 | a250 b250 c250 +a +b +c"),
    Row("a 451", APART, MARKED, "a451 b452 c452 | a452 b250 c452 +b | a250 c452 +a | c250 +c"),
    Row("a 451", APART, UNMARKED, "a451 b452 c452 | a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("a 451", PRDR, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("a 451", LMTP, EVERY, "a451 b250 c250 +b +c | a250 +a"),
    Row("a 451 twice", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a451 | a250 +a"),
    Row(
        "a 451 twice",
        TOGETHER,
        UNMARKED,
        "a451 b451 c451 | a451 b451 c451 | a452 b250 c250 +b +c | a452 | a250 +a",
    ),
    Row(
        "a 451 twice",
        APART,
        MARKED,
        "a451 b452 c452 | a452 b250 c452 +b | a451 c452 | a452 c250 +c | a250 +a",
    ),
    Row(
        "a 451 twice",
        APART,
        UNMARKED,
        "a451 b452 c452 | a451 b452 c452 | a452 b250 c452 +b | a452 c250 +c | a250 +a",
    ),
    Row("a 451 twice", PRDR, EVERY, "a451 b250 c250 +b +c | a451 | a250 +a"),
    Row("a 451 twice", LMTP, EVERY, "a451 b250 c250 +b +c | a451 | a250 +a"),
    Row("a 452 4.2.2", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a250 +a"),
    Row("a 452 4.2.2", TOGETHER, UNMARKED, "a451 b451 c451 | a250 b250 c250 +a +b +c"),
    Row("a 452 4.2.2", PRDR, EVERY, "a452 b250 c250 +b +c | a250 +a"),
    Row("a 452 4.2.2", LMTP, EVERY, "a452 b250 c250 +b +c | a250 +a"),
    Row("a 554", TOGETHER, MARKED, "a451 b451 c451 | a452 b250 c250 +b +c | a554"),
    Row("a 554", TOGETHER, UNMARKED, "a451 b451 c451 | a451 b451 c451 | a452 b250 c250 +b +c | a452 | a554"),
    Row("a 554", APART, EVERY, "a554 b452 c452 | b250 c452 +b | c250 +c"),
    Row("a 554", PRDR, EVERY, "a554 b250 c250 +b +c"),
    Row("a 554", LMTP, EVERY, "a554 b250 c250 +b +c"),
    Row("a silent", TOGETHER, MARKED, "a451 b451 c451 +a? | a452 b250 c250 +b +c | a250 +a"),
    Row("a silent", TOGETHER, UNMARKED, "a451 b451 c451 +a? | a250 b250 c250 +a +b +c"),
    Row("a silent", APART, MARKED, "a451 b452 c452 +a? | a452 b250 c452 +b | a250 c452 +a | c250 +c"),
    Row("a silent", APART, UNMARKED, "a451 b452 c452 +a? | a250 b452 c452 +a | b250 c452 +b | c250 +c"),
    Row("a silent", PRDR, EVERY, "a451 b250 c250 +a? +b +c | a250 +a"),
    Row("a silent", LMTP, EVERY, "a451 b250 c250 +a? +b +c | a250 +a"),
    #
    # The dots after it. Together: patience, then the handover, then the ledger.
    #
    Row("b 451", TOGETHER, EVERY, "a250 b250 c250 +a +b +c @1"),
    Row("b 451", APART, MARKED, "a250 b452 c452 +a | b451 c452 | b452 c250 +c | b250 +b"),
    Row("b 451", APART, UNMARKED, "a250 b452 c452 +a | b451 c452 | b250 c452 +b | c250 +c"),
    Row("b 451", PRDR, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b 451", LMTP, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b 451 twice", TOGETHER, EVERY, "a250 b250 c250 +a +b +c @3"),
    Row("b 451 twice", PRDR, EVERY, "a250 b451 c250 +a +c | b451 | b250 +b"),
    Row("b 451 twice", LMTP, EVERY, "a250 b451 c250 +a +c | b451 | b250 +b"),
    Row("b 451, another host", TOGETHER, EVERY, "a250 b250 c250 +a +b +c"),
    Row("b 421", TOGETHER, EVERY, "a250 b250 c250 +a +b +c @1"),
    Row("b 421", PRDR, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b 421", LMTP, EVERY, "a250 b451 c250 +a +c | b250 +b"),
    Row("b 451 for 13 times", TOGETHER, EXACT, "a451 b451 c451 +a +c @211 | a250 b452 c250 | b451 | b250 +b"),
    Row("b 451 for 13 times", TOGETHER, HANDED, "a250 b250 c250 +a +b/h +c @211"),
    Row("b 451 for 13 times", TOGETHER, BLIND, "a451 b451 c451 +a +c @211 | a250 b250 c250 +a +b +c @1"),
    Row(
        "b 451 for 13 times",
        TOGETHER,
        (NONE_HERE,),
        "a451 b451 c451 +a +c @211 | a250 b452 c250 +a +c | b451 | b250 +b",
    ),
    Row("b 452 4.2.2", TOGETHER, EXACT, "a451 b451 c451 +a +c | a250 b452 c250 | b250 +b"),
    Row("b 452 4.2.2", TOGETHER, HANDED, "a250 b250 c250 +a +b/h +c"),
    Row("b 452 4.2.2", TOGETHER, BLIND, "a451 b451 c451 +a +c | a250 b250 c250 +a +b +c"),
    Row("b 452 4.2.2", TOGETHER, (NONE_HERE,), "a451 b451 c451 +a +c | a250 b452 c250 +a +c | b250 +b"),
    Row("b 452 4.2.2", APART, MARKED, "a250 b452 c452 +a | b452 c452 | b452 c250 +c | b250 +b"),
    Row("b 452 4.2.2", PRDR, EVERY, "a250 b452 c250 +a +c | b250 +b"),
    Row("b 452 4.2.2", LMTP, EVERY, "a250 b452 c250 +a +c | b250 +b"),
    Row("b 451 4.7.1", TOGETHER, EXACT, "a451 b451 c451 +a +c | a250 b452 c250 | b250 +b"),
    Row("b 451 4.7.1", TOGETHER, HANDED, "a250 b250 c250 +a +b/h +c"),
    Row("b 451 4.7.1", TOGETHER, BLIND, "a451 b451 c451 +a +c | a250 b250 c250 +a +b +c"),
    Row("b 451 4.7.1", TOGETHER, (NONE_HERE,), "a451 b451 c451 +a +c | a250 b452 c250 +a +c | b250 +b"),
    Row("b 554", TOGETHER, EXACT, "a451 b451 c451 +a +c | a250 b452 c250 | b554"),
    Row("b 554", TOGETHER, HANDED, "a250 b250 c250 +a +b/h +c"),
    Row(
        "b 554",
        TOGETHER,
        (OWN_THERE,),
        "a451 b451 c451 +a +c | a451 b451 c451 +a +c | a250 b452 c250 | b452 | b554",
    ),
    Row("b 554", TOGETHER, (NONE_HERE,), "a451 b451 c451 +a +c | a250 b452 c250 +a +c | b554"),
    Row(
        "b 554",
        TOGETHER,
        (NONE_THERE,),
        "a451 b451 c451 +a +c | a451 b451 c451 +a +c | a250 b452 c250 +a +c | b452 | b554",
    ),
    Row("b 554", APART, EVERY, "a250 b452 c452 +a | b554 c452 | c250 +c"),
    Row("b 554", PRDR, EVERY, "a250 b554 c250 +a +c"),
    Row("b 554", LMTP, EVERY, "a250 b554 c250 +a +c"),
    # What is unknown is not handed over.
    Row("b silent", TOGETHER, (*EXACT, HANDED[0]), "a451 b451 c451 +a +b? +c | a250 b452 c250 | b250 +b"),
    Row("b silent", TOGETHER, (*BLIND, HANDED[1]), "a451 b451 c451 +a +b? +c | a250 b250 c250 +a +b +c"),
    Row("b silent", TOGETHER, (NONE_HERE,), "a451 b451 c451 +a +b? +c | a250 b452 c250 +a +c | b250 +b"),
    Row("b silent", APART, MARKED, "a250 b452 c452 +a | b451 c452 +b? | b452 c250 +c | b250 +b"),
    Row("b silent", APART, UNMARKED, "a250 b452 c452 +a | b451 c452 +b? | b250 c452 +b | c250 +c"),
    Row("b silent", PRDR, EVERY, "a250 b451 c250 +a +b? +c | b250 +b"),
    Row("b silent", LMTP, EVERY, "a250 b451 c250 +a +b? +c | b250 +b"),
    #
    # Several at a time.
    #
    Row("b 451, c 554", TOGETHER, EXACT, "a451 b451 c451 +a +b @1 | a250 b250 c452 | c554"),
    Row("b 451, c 554", TOGETHER, HANDED, "a250 b250 c250 +a +b +c/h @1"),
    Row("b 451, c 554", PRDR, EVERY, "a250 b451 c554 +a | b250 +b"),
    Row("b 451, c 554", LMTP, EVERY, "a250 b451 c554 +a | b250 +b"),
    Row(
        "b 452 4.2.2, c 554",
        TOGETHER,
        EXACT,
        "a451 b451 c451 +a | a250 b452 c452 | b451 c451 +b | b250 c452 | c554",
    ),
    Row("b 452 4.2.2, c 554", TOGETHER, HANDED, "a250 b250 c250 +a +b/h +c/h"),
    Row("b silent, c 554", TOGETHER, EXACT, "a451 b451 c451 +a +b? | a250 b452 c452 | b451 c451 +b | b250 c452 | c554"),
    # Both step aside until the third one has had its turn.
    Row(
        "a 554, b 554",
        TOGETHER,
        MARKED,
        "a451 b451 c451 | a452 b451 c451 | a452 b452 c250 +c | a451 b451 | a452 b554 | a554",
    ),
)
