"""How real mail servers send: what they do with a recipient that was put off, and when they try again. Pure.

Numbers marked *measured* were seen with the real programs, outside a site and with their default settings unless said
(docs/peers, by program; Debian 12). The others are the documented defaults of these programs. Times are in seconds.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailgate.testing import Patience, Stage

DAY = 86_400.0

LIFETIME = 5 * DAY
"""after which a message goes back to its author"""


class Again(enum.Enum):
    """What becomes of the recipients that heard 452 while others of the transaction were accepted."""

    ELSEWHERE = "the next gateway"
    HERE = "another transaction over the same connection, at once"


class Goodbye(enum.Enum):
    """When QUIT is said in a session that is not kept."""

    BEHIND_THE_DOT = "in one group with the dot"
    AFTER_THE_REPLY = "once the dot is answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One program with one configuration."""

    name: str
    wait: Callable[[float], float]
    """how long a message rests at least when a run for it has ended at that age"""
    runner: float
    """between two runs over the queue, the first one when the program starts; 0: each message has its own timer"""
    moves: tuple[Stage, ...] = tuple(Stage)
    """where a recipient has got to in a session when a temporary failure sends it to the next gateway, in the same run;
    elsewhere it rests"""
    hesitation: float = 0.0
    """before the next gateway is tried"""
    on_452: Again = Again.ELSEWHERE
    sessions: int | None = None
    """that one run may hold, those not counted in which EHLO was not answered; None: one per gateway"""
    by_domain: bool = False
    """the recipients in each domain are a delivery of their own"""
    recipients: int = 100
    """in a delivery, and so in a transaction"""
    messages: int = 100
    """in a connection"""
    keeps: float = 0.0
    """that a connection waits for another message; 0: it takes only what is due when the message before it is done"""
    goodbye: Goodbye = Goodbye.AFTER_THE_REPLY
    uses: tuple[str, ...] = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8")
    patience: Patience = field(default_factory=Patience)
    lifetime: float = LIFETIME

    def gap(self, age: float) -> float:
        """The longest time from the end of a run at that age of the message to the begin of the next."""
        return self.wait(age) + self.runner

    def deliveries(self, recipients: Sequence[str]) -> list[list[int]]:
        """How the recipients of a message, by their positions, are split; each delivery is retried on its own."""
        groups: dict[str, list[int]] = {}
        for position, recipient in enumerate(recipients):
            groups.setdefault(recipient.rpartition("@")[2] if self.by_domain else "", []).append(position)
        most = self.recipients
        return [group[begin : begin + most] for group in groups.values() for begin in range(0, len(group), most)]


def bound(schedule: Schedule, submitted: float, works: float, run: float = 0.0) -> float:
    """By when a message's next run has begun, if the path that it needs works from that time on.

    The run that is under way then, if any, ends `run` seconds later at most. Each gateway that is tried in vain before
    the one that works comes on top. Where `moves` is not everything that may be never.
    """
    ended = max(works, submitted) + run
    return ended + schedule.gap(max(0.0, ended - submitted))


# When a message is tried again: what a program waits never gets less as the message grows older.

_ONCE = 1.0  # seconds in which a run is not the next one


def _postfix(least: float, most: float) -> Callable[[float], float]:
    """minimal_backoff_time, maximal_backoff_time: as long as the message is old, between these."""
    return lambda age: min(max(age, least), most)


def _sendmail(age: float) -> float:
    """Each run over the queue tries everything that is in it, once."""
    return _ONCE


def _opensmtpd(base: float) -> Callable[[float], float]:
    """Tries base·n² after the message came, and not the same one twice."""

    def wait(age: float) -> float:
        tries = math.floor(math.sqrt((age + _ONCE) / base)) + 1
        return base * tries * tries - age

    return wait


@dataclass(frozen=True, slots=True)
class _Rule:
    """A part of an Exim retry rule, `F` or `G`, until that age."""

    until: float
    pause: float
    factor: float = 1.0

    def wait(self, age: float, begin: float) -> float:
        """After the n-th try since the rule's begin the pause is pause·factorⁿ: solved for the age."""
        return self.pause + max(0.0, age - begin) * (self.factor - 1.0)


def _exim(*rules: _Rule) -> Callable[[float], float]:
    """A `G` grows until the pause of the last rule, an `F`, which goes on for ever."""

    def wait(age: float) -> float:
        begin, most = 0.0, rules[-1].pause
        for rule in rules:
            if age < rule.until:
                return min(most, rule.wait(age, begin))
            begin = rule.until
        return most

    return wait


_MINUTE, _HOUR = 60.0, 3600.0

_DEBIAN = (_Rule(2 * _HOUR, 15 * _MINUTE), _Rule(16 * _HOUR, _HOUR, 1.5), _Rule(4 * DAY, 6 * _HOUR))
"""`* * F,2h,15m; G,16h,1h,1.5; F,4d,6h`. Exim would give up after four days; here it tries for a fifth one"""

# Outside, with their defaults

POSTFIX = Schedule(
    name="Postfix",
    # Measured: +598, +1198 s. minimal_backoff_time 300 s, maximal_backoff_time 4000 s, queue_run_delay 300 s.
    wait=_postfix(300, 4000),
    runner=300,
    # Measured: whatever is put off, at whatever stage, goes to the next gateway at once; 452, too.
    sessions=2,  # smtp_mx_session_limit; measured
    by_domain=True,  # measured
    recipients=50,  # smtp_destination_recipient_limit
    keeps=2,  # smtp_connection_cache_time_limit; only while more mail is waiting (…_cache_on_demand)
    goodbye=Goodbye.BEHIND_THE_DOT,  # measured
    # A black hole takes 30 s, RCPT 300 s, the dot 600 s: measured. It is the default of `Patience`.
)

EXIM = Schedule(
    name="Exim",
    # Measured: +1798 s. The queue is run every 30 minutes.
    wait=_exim(*_DEBIAN),
    runner=30 * _MINUTE,
    on_452=Again.HERE,  # measured
    keeps=0,  # it only asks what else is waiting for that host
    messages=500,  # connection_max_messages
    uses=("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "PRDR"),  # PRDR measured
    # A black hole takes 134 s, RCPT 300 s, the dot 600 s: measured. command_timeout, data_timeout: 300 s.
    patience=Patience(connect=134, data=300, body=300),
)

SENDMAIL = Schedule(
    name="sendmail",
    # Measured: +598, +1198 s. QUEUE_INTERVAL is 10 minutes.
    wait=_sendmail,
    runner=600,
    recipients=100,  # the default of a mailer's r=
    # A black hole takes 120 s, RCPT and the dot an hour: measured. The rest is of doc/op/op.me (Timeout).
    patience=Patience(connect=120, mail=600, rcpt=3600, data=300, body=3600, dot=3600),
)

OPENSMTPD = Schedule(
    name="OpenSMTPD",
    # Measured: +400, +1600 s.
    wait=_opensmtpd(400),
    runner=0,
    # Measured: it leaves the first gateway only where it is refused, or hears 421 at the greeting, and 2 s later.
    moves=(Stage.CONNECT, Stage.GREETING),
    hesitation=2,
    by_domain=True,  # measured
    keeps=10,  # measured
    uses=("SIZE", "8BITMIME"),
    # A black hole takes 135 s, the dot 300 s: measured.
    patience=Patience(connect=135, data=300, body=300, dot=300),
)

# Inside, by the recipes of docs/peers. Connecting takes at most 5 s in all of them, and the dot 600 s.

POSTFIX_INSIDE = Schedule(
    name="Postfix, inside",
    wait=_postfix(60, 30 * _MINUTE),  # measured: 90 s
    runner=60,
    recipients=50,
    goodbye=Goodbye.BEHIND_THE_DOT,
    patience=Patience(connect=5, hello=15),
)
"""LMTP. No connection is kept: a new message asks the first gateway first"""

EXIM_INSIDE = Schedule(
    name="Exim, inside",
    # F,10m,20s; F,2h,5m; G,16h,15m,1.5; F,4d,2h, and a queue run every 10 s. Measured: after 20 and 30 s.
    wait=_exim(
        _Rule(10 * _MINUTE, 20),
        _Rule(2 * _HOUR, 5 * _MINUTE),
        _Rule(16 * _HOUR, 15 * _MINUTE, 1.5),
        _Rule(4 * DAY, 2 * _HOUR),
    ),
    runner=10,
    messages=1,  # connection_max_messages
    patience=Patience(connect=5, data=300, body=300),
)
"""LMTP"""

SENDMAIL_INSIDE = Schedule(
    name="sendmail, inside",
    # Measured: after 85 to 109 s. MIN_QUEUE_AGE 1 minute, MAX_QUEUE_AGE 30, QUEUE_INTERVAL 1.
    wait=_postfix(60, 30 * _MINUTE),
    runner=60,
    recipients=1,
    patience=Patience(connect=5, greeting=15, hello=15, mail=600, rcpt=300, data=300, body=180),
)
"""SMTP, a recipient in each transaction"""

OPENSMTPD_INSIDE = Schedule(
    name="OpenSMTPD, inside",
    # Measured: tries 10, 40, 90, 160 s… after it arrived.
    wait=_opensmtpd(10),
    runner=0,
    recipients=1,
    messages=1,
    uses=(),
    patience=Patience(connect=5, greeting=90, hello=90, mail=90, rcpt=90, data=90, body=90),
)
"""LMTP by gwlmtp, a recipient in each session"""

SCHEDULES = (
    POSTFIX,
    EXIM,
    SENDMAIL,
    OPENSMTPD,
    POSTFIX_INSIDE,
    EXIM_INSIDE,
    SENDMAIL_INSIDE,
    OPENSMTPD_INSIDE,
)
