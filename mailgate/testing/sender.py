"""A mail server that sends: what Postfix does with several gateways, recipient by recipient.

It shares no code with mailgate's own protocol modules: it is a witness of what they answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from mailgate.network import Address, Network
from mailgate.testing.script import Speaks
from mailgate.testing.sender_session import SenderSession
from mailgate.testing.sending import Attempt, Fate, Patience, Sending, State
from mailgate.testing.transcript import Transcript

USES = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8")
"""what a `ScriptedSender` makes use of, where it is offered and there is something to use it for"""


class ScriptedSender:
    """An SMTP or LMTP client that hands a message to the first gateway, and to the next what that one did not take.

    As Postfix does, measured: a recipient that got a 4xx (452 included), or whose session was refused, lost or
    silent, goes to the next gateway at once; a 5xx refuses it for good, except at the greeting. With PIPELINING
    the whole envelope is one group and QUIT follows right behind the dot; QUIT's reply is not waited for.
    """

    def __init__(
        self,
        network: Network,
        name: str = "sender.example",
        protocol: Speaks = "smtp",
        *,
        uses: tuple[str, ...] = USES,
        source: str | None = None,
        patience: Patience | None = None,
        rate: float | None = None,
        remember: int | None = None,
    ) -> None:
        """`uses`: extensions to make use of; with "PRDR" in it, as Exim does, for two recipients and more.

        `source`: the IP address to connect from. `rate`: bytes of a message sent per second; None: as fast as it goes.
        `remember`: of how many connections, the newest ones, transcripts are kept; None: of all.
        """
        self.name = name
        self.protocol = protocol
        self.network = network
        self.uses = uses
        self.source = source
        self.patience = patience or Patience()
        self.rate = rate
        self.remember = remember
        self.transcripts: list[Transcript] = []
        """of all its connections; at most `remember`"""

    def connect(self, gateway: Address) -> SenderSession:
        """A connection for several transactions: `async with sender.connect(gateway) as session`."""
        return SenderSession(self, gateway)

    async def send(
        self,
        message: bytes,
        recipients: Sequence[str],
        gateways: Sequence[Address],
        *,
        reverse_path: str = "sender@sender.example",
    ) -> Sending:
        """Send a message, all of whose lines end in CRLF (else ValueError). Never raises for what gateways do."""
        begin = trio.current_time()
        transcripts: list[Transcript] = []
        attempts: list[list[Attempt]] = [[] for _ in recipients]
        waiting = list(range(len(recipients)))
        for gateway in gateways:
            if not waiting:
                break
            async with self.connect(gateway) as session:
                offered = [recipients[position] for position in waiting]
                made = await session.transact(message, offered, reverse_path, last=True)
            if session.transcript is not None:
                transcripts.append(session.transcript)
            for position, attempt in zip(waiting, made, strict=True):
                attempts[position].append(attempt)
            waiting = [position for position in waiting if attempts[position][-1].state is State.DEFERRED]
        fates = tuple(
            Fate(recipient, made[-1].state if made else State.DEFERRED, tuple(made))
            for recipient, made in zip(recipients, attempts, strict=True)
        )
        return Sending(fates, tuple(transcripts), trio.current_time() - begin)
