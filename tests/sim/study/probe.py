"""The call-ahead of the paper: a session with the next hop that goes as far as the recipient, and no further."""

from __future__ import annotations

import trio

from mailgate.network import Network, TcpAddress

CONNECT, DIALOG = 30.0, 60.0
"""seconds for the connect, and for all that is said then until the reply to RCPT; together less than the 300 that
clients wait for that reply"""

FAILED = "451 4.4.1 the next hop cannot be asked now"


async def probe(
    network: Network, address: TcpAddress, source: str, name: str, reverse_path: str, recipient: str
) -> str:
    """The reply to RCPT, of one line; a 451 where the next hop does not come to give one."""
    stream: trio.abc.Stream | None = None
    with trio.move_on_after(CONNECT):
        try:
            stream = await network.connect(address, source)
        except OSError:
            return FAILED
    if stream is None:
        return FAILED
    async with stream:
        with trio.move_on_after(DIALOG):
            return await _ask(stream, name, reverse_path, recipient)
    return FAILED


async def _ask(stream: trio.abc.Stream, name: str, reverse_path: str, recipient: str) -> str:
    received = bytearray()
    reply = ""
    commands = (None, f"EHLO {name}", f"MAIL FROM:<{reverse_path}>", f"RCPT TO:<{recipient}>")
    try:
        for command in commands:
            if command is not None:
                await stream.send_all(f"{command}\r\n".encode())
            reply = await _reply(stream, received)
            if not reply.startswith("2"):
                break
        await stream.send_all(b"QUIT\r\n")
    except trio.BrokenResourceError:
        return FAILED
    # Of a refusal only its class counts; what is not 2 or 5 is for now.
    return reply if reply[:1] in ("2", "5") else FAILED


async def _reply(stream: trio.abc.Stream, received: bytearray) -> str:
    """The last line of the next reply; "" if the connection ends."""
    while True:
        while (end := received.find(b"\n")) < 0:
            data = await stream.receive_some(4096)
            if not data:
                return ""
            received += data
        line = received[:end].decode().rstrip("\r")
        del received[: end + 1]
        if line[3:4] != "-":
            return line
