"""Histories that nobody ran: mail relayed as it should be, to be broken in one place by a test. Pure.

Everything takes the time that a calm network takes: `LATENCY` seconds each way, nothing in the programs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mailgate.network import Address, Answer, NoAnswer, TcpAddress
from sim.content import content, digest
from sim.dialogs import replies
from sim.records import (
    Asked,
    Attempt,
    Copy,
    Crash,
    End,
    Fault,
    History,
    Kind,
    Logged,
    Looked,
    Message,
    Said,
    Session,
    Settled,
    Transaction,
)

LATENCY = 0.02

SIZE = 600

GATEWAYS: Mapping[tuple[str, bool], TcpAddress] = {
    ("gw1", False): TcpAddress("192.0.2.1", 25),
    ("gw2", False): TcpAddress("198.51.100.2", 25),
    ("gw1", True): TcpAddress("10.0.0.1", 24),
    ("gw2", True): TcpAddress("10.0.0.2", 24),
}
"""(gateway, from inside) → where it listens"""

NEXT_HOPS: Mapping[str, tuple[str, str]] = {
    "corp.example": ("in1", "10.1.0.1"),
    "lists.example": ("in3", "10.1.0.3"),
    "d1.example": ("o1", "203.0.113.1"),
    "d5.example": ("o5", "203.0.113.5"),
}
"""domain → a server that takes its mail"""

_SOURCES = {"osend1": "203.0.113.11", "isend1": "10.1.0.11", "stranger": "203.0.113.66"}


class Protocol(enum.Enum):
    """What a client speaks."""

    SMTP = "EHLO"
    PRDR = "EHLO, with one reply per recipient"
    LMTP = "LHLO"


class Silence(enum.Enum):
    """In place of a reply."""

    LOST = "the reply never comes"


@dataclass(slots=True)
class Relayed:
    """What one client's transaction added to a history."""

    message: Message
    client: Session
    upstream: dict[str, Session] = field(default_factory=dict)
    """by domain"""

    @property
    def told(self) -> list[Said]:
        """The replies to the client's dot."""
        return self.client.transactions[0].outcomes

    def handed(self, domain: str = "corp.example") -> Transaction:
        """The upstream transaction for a domain."""
        return self.upstream[domain].transactions[0]


class Builder:
    """A history that grows by what is said to it."""

    def __init__(self) -> None:
        self.history = History(seed=0, gateways=("gw1", "gw2"), ended=100_000.0)

    def message(self, *recipients: str, sender: str = "osend1", at: float = 0.5) -> Message:
        """Another message. Senders are `osend1` outside, `isend1` inside, and `stranger`."""
        name = f"m{len(self.history.messages) + 1}"
        reverse_path = f"{name}@{sender}.example"
        body = digest(content(name, SIZE))
        outbound, foreign = sender == "isend1", sender == "stranger"
        made = Message(name, sender, reverse_path, recipients, body, SIZE, at, outbound, foreign)
        self.history.messages[name] = made
        return made

    def sessions(self, client: str, ip: str, server: str, address: TcpAddress, at: float) -> Session:
        """A connection that has succeeded, and nothing more."""
        number = len(self.history.sessions)
        opened = Session(number, client, 0, TcpAddress(ip, 40_000 + number), server, 0, address, at)
        opened.established = at + 2 * LATENCY
        self.history.sessions.append(opened)
        return opened

    def log(self, gateway: str, time: float, event: str, **about: object) -> None:
        """A line of a gateway's log."""
        self.history.log.append(Logged(gateway, 0, time, {"event": event, **about}))

    def fault(self, kind: Kind, target: str, time: float, until: float) -> None:
        """Something is broken."""
        self.history.faults.append(Fault(kind, target, time, until))
        self.history.calm = max(self.history.calm, until)

    def relay(
        self,
        message: Message,
        *,
        at: float = 1.0,
        protocol: Protocol = Protocol.SMTP,
        gateway: str = "gw1",
        positions: Sequence[int] | None = None,
        rcpts: Mapping[str, str] | None = None,
        dots: Mapping[str, str | Silence] | None = None,
    ) -> Relayed:
        """A sound transaction from a client's connect to its end, with all that follows from it.

        `rcpts`, `dots`: what next hops say of recipients, 250 if nothing else. With plain SMTP all recipients have one
        next hop, and an outcome for the first one is that of all. `positions` of the message's recipients: None: all.
        """
        return _Relay(self, message, at, protocol, gateway, positions, rcpts or {}, dots or {}).make()


def ask(
    session: Session, line: str, written: float, text: str, *, told: float | None = None, transaction: bool = True
) -> Asked:
    """A command, and the reply that its server has written `told`; None: at once."""
    arrived = written + LATENCY
    asked = Asked(line, written, arrived, say(text, arrived if told is None else told))
    session.commands.append(asked)
    if transaction and asked.verb == "MAIL":
        path, _, parameters = line.partition("<")[2].partition(">")
        session.transactions.append(Transaction(session, asked, path, tuple(parameters.split())))
    elif transaction and asked.verb == "RCPT":
        session.transactions[-1].rcpts.append((line.partition("<")[2].rstrip(">"), asked))
    elif transaction and asked.verb == "DATA":
        session.transactions[-1].data = asked
    return asked


def say(text: str, written: float, *, lost: bool = False) -> Said:
    """A reply."""
    return Said(int(text[:3]), text, written, None if lost else written + LATENCY)


def dot(transaction: Transaction, message: Message, written: float, top: bytes = b"") -> None:
    """The message and its dot. `top` stands before what the sender wrote."""
    transaction.content = top + content(message.id, message.size)
    transaction.octets = len(transaction.content)
    transaction.digest = digest(transaction.content)
    transaction.dot_written = written
    transaction.dot_arrived = written + LATENCY


class _Relay:
    """One transaction. Times are offsets from its begin, the same in each."""

    def __init__(
        self,
        builder: Builder,
        message: Message,
        at: float,
        protocol: Protocol,
        gateway: str,
        positions: Sequence[int] | None,
        rcpts: Mapping[str, str],
        dots: Mapping[str, str | Silence],
    ) -> None:
        self.builder = builder
        self.message = message
        self.at = at
        self.protocol = protocol
        self.gateway = gateway
        self.positions = list(range(len(message.recipients)) if positions is None else positions)
        self.recipients = [message.recipients[position] for position in self.positions]
        self.rcpts = rcpts
        self.dots = dots
        self.address = GATEWAYS[gateway, message.outbound]
        if message.outbound and protocol is not Protocol.LMTP:
            self.address = TcpAddress(self.address.ip, 25)
        self.accepted = [one for one in self.recipients if self.rcpts.get(one, "250")[0] == "2"]

    def make(self) -> Relayed:
        client = self.client = self.builder.sessions(
            self.message.sender, _SOURCES[self.message.sender], self.gateway, self.address, self.at
        )
        made = Relayed(self.message, client)
        self.name = f"{client.number:012x}"
        self.builder.log(self.gateway, self.at + 0.04, "connected", id=self.name, client=str(client.client_address))
        self._envelope()
        if self.accepted:
            self.builder.log(self.gateway, self.at + 0.72, "committing", id=self.name)
        for domain in dict.fromkeys(one.rpartition("@")[2] for one in self.recipients):
            made.upstream[domain] = self._upstream(domain)
        end = self._outcomes() if self.accepted else self.at + 0.7
        ask(client, "QUIT", end + 0.04, "221 2.0.0 Bye")
        client.client_end, client.server_end = (end + 0.08, End.FIN), (end + 0.1, End.FIN)
        return made

    def _envelope(self) -> None:
        client, at = self.client, self.at
        client.lmtp = self.protocol is Protocol.LMTP
        client.greeting = say("220 gw1", at + 0.04)
        ask(client, f"{'LHLO' if client.lmtp else 'EHLO'} {self.message.sender}", at + 0.1, "250 gw1")
        parameters = " PRDR" if self.protocol is Protocol.PRDR else ""
        ask(client, f"MAIL FROM:<{self.message.reverse_path}>{parameters}", at + 0.2, "250 2.1.0 Sender ok")
        for one in self.recipients:
            ask(client, f"RCPT TO:<{one}>", at + 0.3, self.rcpts.get(one, "250 2.1.5 ok"), told=at + 0.5)
        if self.accepted:
            ask(client, "DATA", at + 0.6, "354 go", told=at + 0.66)
            dot(client.transactions[0], self.message, at + 0.7)
        for position, one in zip(self.positions, self.recipients, strict=True):
            if one not in self.accepted:
                self._tell(position, "RCPT", self.rcpts[one], at + 0.52)

    def _upstream(self, domain: str) -> Session:
        """The next hop's side of it."""
        at, (server, ip) = self.at, NEXT_HOPS[domain]
        source = "192.0.2.1" if self.message.outbound else "10.0.0.1"
        session = self.builder.sessions(self.gateway, source, server, TcpAddress(ip, 25), at + 0.32)
        for name, record_type, record in (
            (domain, "MX", f"10 {server}.mx.example."),
            (f"{server}.mx.example", "A", ip),
        ):
            looked = Looked(self.gateway, at + 0.32, name, record_type, Answer((record,), 30))
            self.builder.history.lookups.append(looked)
        session.greeting = say(f"220 {server}", at + 0.36)
        ask(session, "EHLO gw1", at + 0.38, f"250 {server}")
        mail = f"MAIL FROM:<{self.message.reverse_path}>"
        here = [one for one in self.recipients if one.endswith(f"@{domain}")]
        taken = [one for one in here if one in self.accepted]
        if len(taken) > 1 and self.protocol is not Protocol.SMTP:
            mail += " PRDR"
        ask(session, mail, at + 0.42, "250 2.1.0 ok")
        for one in here:
            ask(session, f"RCPT TO:<{one}>", at + 0.46, self.rcpts.get(one, "250 2.1.5 ok"))
        end = at + 0.54
        if taken:
            end = self._message(session, server, taken)
        ask(session, "QUIT", end, "221 bye")
        session.server_end, session.client_end = (end + LATENCY, End.FIN), (end + 2 * LATENCY, End.FIN)
        return session

    def _message(self, session: Session, server: str, taken: Sequence[str]) -> float:
        at, (handed,) = self.at, session.transactions
        ask(session, "DATA", at + 0.62, "354 go")
        dot(handed, self.message, at + 0.72, f"Received: from x\r\n\tby y with SMTP id {self.name};\r\n".encode())
        all_said = [self.dots.get(one, "250 2.0.0 taken") for one in (taken if handed.prdr else taken[:1])]
        texts = [text for text in all_said if not isinstance(text, Silence)]
        if len(texts) < len(all_said):
            session.faults.append(Kind.LOST_REPLY)
        if handed.prdr:
            final = "250 2.0.0 done" if any(text[0] == "2" for text in texts) else "451 4.3.0 none"
            texts = ["353 one by one", *texts, *([final] if len(texts) == len(all_said) else [])]
        handed.outcomes += [say(text, at + 0.74) for text in texts]
        for one in taken:
            text = self.dots.get(one if handed.prdr else taken[0], "250")
            if not isinstance(text, Silence) and text[0] == "2":
                copy = Copy(self.message.id, one, server, at + 0.74, self.message.digest, (self.name,))
                self.builder.history.copies.append(copy)
        return at + (3.76 if Silence.LOST not in all_said else 540.74)

    def _outcomes(self) -> float:
        """Behind the dot. Returns when the last reply has arrived."""
        shared = self.protocol is Protocol.SMTP
        all_said = [self.dots.get(self.accepted[0] if shared else one, "250 2.0.0 taken") for one in self.accepted]
        written = self.at + (540.72 if Silence.LOST in all_said else 0.76)
        texts = ["451 4.4.2 unknown" if isinstance(text, Silence) else text for text in all_said]
        told = texts[:1] if shared else texts
        if self.protocol is Protocol.PRDR:
            final = next(
                (text for text in ("250 done", "451 none") if text[0] in [one[0] for one in texts]), "550 none"
            )
            told = ["353 one by one", *texts, final]
        self.client.transactions[0].outcomes += [say(text, written) for text in told]
        for one, text in zip(self._accepted_positions(), texts, strict=True):
            self._tell(one, "dot", text, written + LATENCY)
        logged = [
            f"{one} {'unknown' if isinstance(text, Silence) else 'known'}: {text}"
            for one, text in zip(self.accepted, all_said, strict=True)
        ]
        self.builder.log(self.gateway, written, "not_delivered", id=self.name, outcomes=logged)
        return written + LATENCY

    def _accepted_positions(self) -> list[int]:
        return [position for position in self.positions if self.message.recipients[position] in self.accepted]

    def _tell(self, position: int, stage: str, text: str, time: float) -> None:
        """What the sender makes of a reply."""
        history = self.builder.history
        state = {"2": "delivered", "5": "refused"}.get(text[0], "deferred")
        gateway: Address = self.address
        history.attempts.append(Attempt(self.message.id, position, gateway, self.at, time, stage, text, state))
        if state != "deferred":
            history.settled.append(Settled(self.message.id, position, time, state, text))


# To break, or bend, what was relayed


def change(said: list[Said], place: int, text: str) -> None:
    """Another reply in the place of one."""
    said[place] = say(text, said[place].written)


def change_rcpt(asked: Asked, text: str) -> None:
    """Another reply to a RCPT."""
    assert asked.reply is not None
    asked.reply = say(text, asked.reply.written)


def unsettle(world: Builder, position: int) -> None:
    """Its sender has not heard what became of a recipient."""
    world.history.settled[:] = [one for one in world.history.settled if one.position != position]


def settle_rest(world: Builder) -> None:
    """As `refused`, so that nobody waits for what the story leaves open."""
    done = {(one.message, one.position) for one in world.history.settled}
    for message in world.history.messages.values():
        for position in range(len(message.recipients)):
            if (message.id, position) not in done:
                world.history.settled.append(Settled(message.id, position, 2.0, "refused", ""))
    world.history.attempts.clear()


def refuse_sender(session: Session, text: str) -> None:
    """MAIL is refused, and so nothing follows it."""
    session.transactions[0].mail.reply = say(text, 1.44)
    session.transactions[0].rcpts.clear()
    session.commands[:] = [one for one in session.commands if one.verb != "RCPT"]


def looked_up(world: Builder, time: float, name: str, record_type: str, answer: Answer | NoAnswer) -> None:
    """What DNS has told gw1."""
    world.history.lookups.append(Looked("gw1", time, name, record_type, answer))


def unsaid(world: Builder, relayed: Relayed) -> None:
    """The next hop was never asked."""
    for session in relayed.upstream.values():
        world.history.sessions.remove(session)


def crash(world: Builder, relayed: Relayed, time: float) -> None:
    """Of the gateway's host: what was still to come from there, or to it, never does."""
    world.history.crashes.append(Crash("gw1", 0, time, time + 60))
    world.fault(Kind.GATEWAY_CRASH, "gw1", time, time + 60)
    world.history.attempts.clear()
    world.history.settled.clear()
    world.history.log[:] = [line for line in world.history.log if line.time <= time]
    for session in world.history.sessions:
        for said in replies(session):
            if said.arrived is not None and said.arrived > time:
                said.arrived = None
    client = relayed.client
    client.commands[:] = [asked for asked in client.commands if asked.written <= time]
    client.transactions[0].outcomes[:] = [said for said in relayed.told if said.written <= time]
    client.server_end, client.client_end = (time, End.DETACHED), None
    for session in relayed.upstream.values():
        session.client_end = (time, End.DETACHED)
