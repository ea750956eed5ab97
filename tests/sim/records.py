"""What is known of a simulated run: the record that the network, the servers and the gateways' logs leave. No I/O.

Times are in seconds on the run's clock. What a session's record says is what was on the wire, seen from outside: the
checker believes no gateway.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailgate.network import Address, Answer, NoAnswer


class Phase(enum.Enum):
    """How far an SMTP or LMTP session has come, as its client sees it."""

    CONNECT = "connect"
    """it is being opened; the look-up of its host is part of that"""
    GREETING = "greeting"
    EHLO = "EHLO"
    MAIL = "MAIL"
    """from the reply to EHLO until that to MAIL has arrived"""
    RCPT = "RCPT"
    """until the last reply to a RCPT has arrived and DATA is written"""
    DATA = "DATA"
    """until the reply to DATA has arrived"""
    BODY = "body"
    """until the dot is written"""
    DOT = "dot"
    """the dot is on its way"""
    AFTER_DOT = "after the dot"
    """the server's host has the dot; until its last reply to it has arrived"""
    KEPT = "kept"
    """until the next MAIL is written"""
    OVER = "over"
    """QUIT was written, or one side has closed"""


class Side(enum.Enum):
    """Of a gateway: the sessions of its clients, and its own with next hops."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class End(enum.Enum):
    """How one side of a connection ended it."""

    FIN = "closed"
    RESET = "reset"
    """by that side's program, or because it closed with octets unread"""
    DETACHED = "its host crashed"


class Kind(enum.Enum):
    """Faults."""

    REFUSED = "refused"
    BLACK_HOLE = "black hole"
    RESET = "reset"
    HALF_OPEN = "half-open"
    SLOW_READER = "slow reader"
    SLOW_WRITER = "slow writer"
    ONE_WAY = "one-way loss"
    DNS_FAILURE = "DNS failure"
    DNS_LIE = "DNS lie"
    CRASH = "host crash"
    NO_SOURCE = "source address gone"
    GATEWAY_CRASH = "gateway crash"
    OVERLOAD = "overload"
    LOST_REPLY = "reply lost"
    STRANGER = "stranger"
    STORE_CUT = "ledger cut off"
    STORE_DOWN = "ledger down"
    STORE_LOST = "ledger lost"
    STORE_SLOW = "ledger slow"
    STORE_MUTE = "ledger mute"


STORE_KINDS = (Kind.STORE_CUT, Kind.STORE_DOWN, Kind.STORE_LOST, Kind.STORE_SLOW, Kind.STORE_MUTE)
"""what is done to the shared ledger; no mail is put off for that"""


class Service(enum.Enum):
    """What becomes of a plain SMTP message from outside whose recipients have several next hops."""

    APART = "apart"
    LEDGER = "together, with a shared ledger"
    HANDOVER = "together, with a shared ledger and a handover"


@dataclass(slots=True)
class Said:
    """A reply on the wire."""

    code: int
    text: str
    """all of it, the lines joined by newlines, code included"""
    written: float
    """when its server had written all of it"""
    arrived: float | None = None
    """when all of it was in the client's host; None: never"""

    @property
    def kind(self) -> int:
        """Its first digit."""
        return self.code // 100


@dataclass(slots=True)
class Asked:
    """A command on the wire, with its reply."""

    line: str
    """without its CRLF"""
    written: float
    arrived: float | None = None
    reply: Said | None = None

    @property
    def verb(self) -> str:
        """In upper case."""
        return self.line.partition(" ")[0].upper()


@dataclass(slots=True)
class Transaction:
    """MAIL, and what followed in one session up to the replies to the dot."""

    session: Session
    mail: Asked
    reverse_path: str
    parameters: tuple[str, ...]
    """of MAIL, in upper case"""
    rcpts: list[tuple[str, Asked]] = field(default_factory=list)
    """(mailbox, command), in order"""
    data: Asked | None = None
    octets: int = 0
    """of the message as written until now, dot-stuffed, without its dot"""
    content: bytes = b""
    """its first octets, at most 4,096 of them, dot-stuffed as written"""
    digest: str = ""
    """once the dot is written: `digest` of the message with neither dot-stuffing nor the `Received:` lines on top"""
    dot_written: float | None = None
    dot_arrived: float | None = None
    """when the dot's last octet was in the server's host"""
    outcomes: list[Said] = field(default_factory=list)
    """replies after the dot was written: one; LMTP: one per accepted recipient; PRDR: 353, those, the final one"""

    @property
    def accepted(self) -> list[str]:
        """The mailboxes whose RCPT was answered 2xx, in order, duplicates included."""
        return [mailbox for mailbox, asked in self.rcpts if asked.reply is not None and asked.reply.kind == 2]

    @property
    def prdr(self) -> bool:
        """Each recipient has a reply of its own after a 353 (draft-hall-prdr)."""
        return "PRDR" in self.parameters

    def outcome(self, index: int) -> Said | None:
        """The reply after the dot for the accepted recipient of that index. With PRDR a negative final one counts."""
        if self.session.lmtp:
            return self.outcomes[index] if index < len(self.outcomes) else None
        if not self.prdr or not self.outcomes or self.outcomes[0].code != 353:
            return self.outcomes[0] if self.outcomes else None
        due = len(self.accepted) + 2
        if len(self.outcomes) < due:
            return None
        own, final = self.outcomes[1 + index], self.outcomes[due - 1]
        return own if final.kind == 2 or own.kind != 2 else final


@dataclass(slots=True)
class Session:
    """One connection, from the call of connect on, and all that was said in it."""

    number: int
    """in the order of their connects"""
    client: str
    """the name of the host"""
    client_life: int
    """how often that host had crashed before"""
    client_address: Address
    """with the port, once there is one: what the server sees as its peer"""
    server: str
    """the name of the host; empty: nobody has that address"""
    server_life: int
    server_address: Address
    connecting: float
    established: float | None = None
    error: str = ""
    """why connect failed"""
    lmtp: bool = False
    """LHLO was said"""
    phase: Phase = Phase.CONNECT
    greeting: Said | None = None
    commands: list[Asked] = field(default_factory=list)
    """all of them, in order"""
    transactions: list[Transaction] = field(default_factory=list)
    unasked: list[Said] = field(default_factory=list)
    """replies that were due to no command"""
    client_end: tuple[float, End] | None = None
    server_end: tuple[float, End] | None = None
    broken: float | None = None
    """when a reset first reached, or a time-out ended, one of its ends by no program's doing"""
    faults: list[Kind] = field(default_factory=list)
    """what was done to it"""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a sender was given. Every MAIL tells which one it is for: its reverse-path is its own, and that of
    messages that equal it.
    """

    id: str
    """`m` and digits; the reverse-path is `<id>@<the sender's domain>`"""
    sender: str
    """the name of the host that sends it"""
    reverse_path: str
    recipients: tuple[str, ...]
    digest: str
    size: int
    submitted: float
    outbound: bool
    foreign: bool = False
    """a stranger's: it asks the gateways to relay what they must not, or tries to poison their health"""
    twin: str = ""
    """the id of the message that it equals, sent once more on purpose: sender, recipients and content are the same"""

    @property
    def name(self) -> str:
        """What the wire, and copies, tell of its id."""
        return self.twin or self.id


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one session told a sender about one recipient."""

    message: str
    position: int
    """among the message's recipients"""
    gateway: Address
    began: float
    """when its session was opened, or this transaction begun in it"""
    ended: float
    stage: str
    """of mailgate.testing.Stage"""
    text: str
    state: str
    """`delivered`, `refused` or `deferred`"""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a recipient at its sender: it was delivered or refused; `expired` after five days."""

    message: str
    position: int
    time: float
    state: str
    """`delivered`, `refused` or `expired`"""
    text: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that a receiver has put into a recipient's mailbox. It says so before it says 2xx."""

    message: str
    recipient: str
    receiver: str
    time: float
    digest: str
    via: tuple[str, ...]
    """the session ids in its `Received:` lines, last hop first"""


@dataclass(frozen=True, slots=True)
class Crash:
    """A host was detached from the network, and its programs ended."""

    host: str
    life: int
    """the one that ended"""
    time: float
    until: float
    """when it was there again"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was broken, by whatever cause, and what it was done to."""

    kind: Kind
    target: str
    """a host, a network, an address, or `session <number>`"""
    time: float
    until: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A session that a fault reached, and where it was then."""

    kind: Kind
    phase: Phase
    side: Side
    session: int
    time: float


@dataclass(frozen=True, slots=True)
class Looked:
    """What a host was told by DNS."""

    host: str
    time: float
    name: str
    record_type: str
    answer: Answer | NoAnswer


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of a gateway's log."""

    gateway: str
    life: int
    time: float
    fields: Mapping[str, object]
    """`event` and `log_level` among them; `id` is that of the client's session"""


@dataclass(slots=True)
class Asking:
    """A question that a gateway sent to the shared ledger."""

    gateway: str
    life: int
    time: float
    takes: bool
    """marks away; else it makes them"""
    marks: tuple[str, ...]
    seconds: float = math.inf
    """that the marks it makes are there"""
    done: float | None = None
    """when the server did it; None: never"""
    answered: float | None = None
    """when the answer was there, be the gateway still waiting for it or not; None: never"""
    refused: bool = False
    """the answer is that nobody listens there"""
    broken: bool = False
    """in place of the answer there is a reset"""
    found: tuple[bool, ...] = ()
    """which marks were there to be taken"""


@dataclass(slots=True)
class History:
    """Everything that happened in one run."""

    seed: int
    gateways: tuple[str, ...]
    """names of hosts"""
    service: Service = Service.APART
    handover: str = ""
    """the name of the host that takes what next hops do not; empty: there is none"""
    sessions: list[Session] = field(default_factory=list)
    messages: dict[str, Message] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    lookups: list[Looked] = field(default_factory=list)
    log: list[Logged] = field(default_factory=list)
    askings: list[Asking] = field(default_factory=list)
    forgotten: list[float] = field(default_factory=list)
    """when the shared ledger lost all that it knew"""
    violations: list[str] = field(default_factory=list)
    """what receivers saw gateways do against the protocol"""
    left: list[str] = field(default_factory=list)
    """tasks, streams and files that were there when nothing should be"""
    calm: float = 0.0
    """when the last fault had ended"""
    stopping: float = math.inf
    """when the gateways were told to stop"""
    ended: float = 0.0

    def side(self, session: Session) -> Side | None:
        """Where a session is, as seen from its gateway; None: no gateway has part in it."""
        if session.client in self.gateways:
            return Side.UPSTREAM
        return Side.CLIENT if session.server in self.gateways else None
