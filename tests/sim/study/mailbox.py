"""The servers that mail is for: they take everything, and note each copy."""

from __future__ import annotations

import functools

import trio

from mailgate.network import Network, TcpAddress
from mailgate.testing import Delivered, Script, ScriptedMTA
from sim.records import Copy

_SCRIPT = Script(extensions=("PIPELINING", "8BITMIME", "SIZE 52428800"))


class Mailbox:
    """A mail server. `program` is for `Host.start`; what it has noted outlives its program."""

    def __init__(self, name: str, address: TcpAddress, copies: list[Copy]) -> None:
        """`copies` gets one for each recipient of each message whose dot has come."""
        self.name = name
        self._address = address
        self._copies = copies

    async def program(self, network: Network) -> None:
        """Serve until cancelled."""
        mta = ScriptedMTA(self.name, script=_SCRIPT, keep=0, remember=0, on_message=self._note)
        incoming = await network.listen(self._address)
        async with incoming, trio.open_nursery() as nursery:
            while True:
                stream, peer, _ = await incoming.accept()
                nursery.start_soon(functools.partial(mta.handle, stream, peer))

    def _note(self, message: Delivered) -> None:
        name = message.reverse_path.partition("@")[0]
        now = trio.current_time()
        self._copies += [Copy(name, recipient, self.name, now, message.sha256, ()) for recipient in message.recipients]
