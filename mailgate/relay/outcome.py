"""What a failure is about, and what becomes of a recipient: the one place where both are decided. Pure.

A failure has a scope. It says whether another path may do better, and which reply the client gets when none is
left. No exact reply codes: the first digit decides, but for 421, which speaks of the session (RFC 5321 section 3.8).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from mailgate.protocol.reply import Reply, passed_on, reply
from mailgate.session.client import Lost


class Stage(enum.Enum):
    """How far an attempt got."""

    LOOKUP = "look-up"
    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "message"


class Scope(enum.Enum):
    """What a failure is about. The value is its rank when one of several failures has to be told."""

    LOOKUP = 1
    BACKBONE = 2
    """our source address is gone"""
    OWN = 3
    """we lack descriptors, ports or memory ourselves"""
    PATH = 4
    FULL = 5
    """the host takes no more sessions of ours at a time"""
    SESSION = 6
    MESSAGE = 7
    US = 8
    """the next hop will not take mail from us; over another backbone we are somebody else"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt over one path came to nothing."""

    stage: Stage
    scope: Scope
    elsewhere: bool
    """another path may do better"""
    why: str
    reply: Reply
    """what the client hears if no other path does"""


NO_PATH = reply(451, "4.4.1", "No path to the next hop, try later or elsewhere")
SESSION_LOST = reply(451, "4.4.2", "The next hop was lost, try later or elsewhere")
LOOKUP_FAILED = reply(451, "4.4.3", "The next hop could not be looked up, try later or elsewhere")
OUT_OF_RESOURCES = reply(451, "4.3.2", "Out of resources, try later or elsewhere")
NO_SUCH_DOMAIN = reply(550, "5.1.2", "The recipient's domain does not exist or has no host for mail, check the address")
NULL_MX = reply(556, "5.1.10", "The recipient's domain takes no mail (RFC 7505)")
OURSELVES = reply(554, "5.4.6", "The way to the recipient's domain leads back to this gateway, its DNS is wrong")
OUTCOME_UNKNOWN = reply(451, "4.4.2", "The next hop did not confirm the message, try again")
NO_SMTPUTF8 = reply(553, "5.6.7", "The next hop does not take internationalized addresses (RFC 6531)")
STOPPED = reply(451, "4.3.2", "Shutting down, try later or elsewhere")
BUG = reply(451, "4.3.0", "Internal error, try later or elsewhere")
TOO_LATE = reply(451, "4.4.7", "The next hop took too long, try later or elsewhere")

_US = "7"
"""the subject of an enhanced status code that speaks of security or policy (RFC 3463 section 3.8)"""

# By stage: what a lost session is about, and what a 4xx or 5xx is about.
_SCOPES: dict[Stage, tuple[Scope, Scope]] = {
    Stage.CONNECT: (Scope.PATH, Scope.PATH),
    Stage.GREETING: (Scope.PATH, Scope.PATH),
    Stage.HELLO: (Scope.PATH, Scope.PATH),
    Stage.MAIL: (Scope.SESSION, Scope.MESSAGE),
    Stage.RCPT: (Scope.SESSION, Scope.SESSION),
    Stage.DATA: (Scope.SESSION, Scope.MESSAGE),
    Stage.CONTENT: (Scope.SESSION, Scope.MESSAGE),
}
_TOLD = {
    Scope.LOOKUP: LOOKUP_FAILED,
    Scope.BACKBONE: NO_PATH,
    Scope.OWN: OUT_OF_RESOURCES,
    Scope.PATH: NO_PATH,
    Scope.FULL: NO_PATH,
    Scope.SESSION: SESSION_LOST,
}
_WELCOME = (Stage.GREETING, Stage.HELLO)


def failure(stage: Stage, result: Reply | Lost, others: int = 0) -> Failure:
    """Classify what ended an attempt: a lost session, or a 4xx or 5xx.

    `others`: sessions that we hold with that host already. A host that has some and wants no more is not down.
    """
    lost_scope, refused_scope = _SCOPES[stage]
    scope = lost_scope if isinstance(result, Lost) or result.code == 421 else refused_scope
    why = result.why if isinstance(result, Lost) else str(result)
    if isinstance(result, Lost):
        return ours(stage, scope, why)
    if stage in _WELCOME and result.kind == 4 and others:
        return ours(stage, Scope.FULL, why)
    if scope is not Scope.MESSAGE:
        return ours(stage, scope, why)
    # Each host may see the sender differently, so a 4xx at MAIL is worth another one. From DATA on the next hop has
    # spoken about this message.
    at_mail = stage is Stage.MAIL
    if at_mail and result.kind == 5 and result.enhanced.split(".")[1:2] == [_US]:
        scope = Scope.US
    return Failure(stage, scope, at_mail and (result.kind == 4 or scope is Scope.US), why, passed_on(result))


def ours(stage: Stage, scope: Scope, why: str) -> Failure:
    """A failure that the next hop has no reply of its own for."""
    return Failure(stage, scope, elsewhere=True, why=why, reply=_TOLD[scope])


def lookup_failure(why: str, answer: Reply = LOOKUP_FAILED) -> Failure:
    """A domain gave no hosts, or a host's name no address."""
    return Failure(Stage.LOOKUP, Scope.LOOKUP, elsewhere=True, why=why, reply=answer)


def lacks_smtputf8() -> Failure:
    """The message needs SMTPUTF8 and this host does not offer it; another one may (RFC 6531 section 3.6)."""
    return Failure(Stage.HELLO, Scope.MESSAGE, elsewhere=True, why="SMTPUTF8 is not offered", reply=NO_SMTPUTF8)


def refuses_accepted(refusal: Reply) -> Failure:
    """A path that does not take a recipient whom an earlier path has taken; the client has one reply for all."""
    why = f"refuses a recipient that was accepted before: {refusal}"
    return Failure(Stage.RCPT, Scope.SESSION, elsewhere=True, why=why, reply=SESSION_LOST)


def refused_for_now(refusal: Reply) -> Failure:
    """A 4xx to the dot, where it is worth trying again."""
    return Failure(Stage.CONTENT, Scope.MESSAGE, elsewhere=True, why=str(refusal), reply=refusal)


def told(failures: Sequence[Failure]) -> Reply:
    """What the client hears of these failures, none of them followed by a success.

    A failure that no other path could mend is the answer. Of the rest, one that may pass (4xx) comes before one
    that may not, so that no 4xx becomes a 5xx, and the more it says of the message the better.
    """
    if not failures:
        return NO_PATH
    if not failures[-1].elsewhere:
        return failures[-1].reply
    return max(failures, key=lambda one: (one.reply.kind == 4, one.scope.value)).reply


class Kind(enum.Enum):
    """What became of one recipient's message."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"


_KINDS = {2: Kind.DELIVERED, 4: Kind.DEFERRED, 5: Kind.REJECTED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient's message, and the reply that tells our client."""

    kind: Kind
    reply: Reply

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.reply}"


UNKNOWN = Outcome(Kind.UNKNOWN, OUTCOME_UNKNOWN)
DELIVERED_BEFORE = Outcome(Kind.DELIVERED, reply(250, "2.0.0", "Delivered already"))
"""of a recipient who has the message from an earlier transaction, of which the client was not told"""


def outcome(theirs: Reply) -> Outcome:
    """The outcome that a next hop's reply is, be it to the dot or, for one recipient, before it."""
    return Outcome(_KINDS[theirs.kind], passed_on(theirs))


def undelivered(ours: Reply) -> Outcome:
    """The outcome of a failure before the commit."""
    return Outcome(_KINDS[ours.kind], ours)


def prdr_outcomes(replies: Sequence[Reply], final: Reply) -> list[Outcome]:
    """Outcomes of a PRDR dialog (draft-hall-prdr): the next hop acts on its final reply.

    Where that is negative nobody has the message; a recipient who was refused on its own keeps its refusal.
    """
    return [outcome(one if final.kind == 2 or one.kind != 2 else final) for one in replies]


def data_refusal(outcomes: Sequence[Outcome]) -> Reply:
    """The reply to DATA when no next hop takes the message: 5xx only where all are 5xx."""
    replies = [one.reply for one in outcomes]
    same = all(one == replies[0] for one in replies)
    if same or all(one.kind == 5 for one in replies):
        return replies[0]
    return reply(451, "4.3.0", "No next hop takes the message now, try later or elsewhere")
