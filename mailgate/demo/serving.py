"""`mailgate demo --serve`: the world goes on, and takes messages that somebody sends by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import trio

from mailgate.demo.board import Board
from mailgate.demo.history import bringer
from mailgate.demo.scenarios import ANN, BOB, EVA
from mailgate.demo.world import Gw, ServerHost, World
from mailgate.network import TcpAddress
from mailgate.testing import Delivered
from mailgate.text import escaped

_LOOK = 0.05
"""seconds between two looks at what has arrived"""


async def serve_by_hand(world: World, board: Board, signals: AsyncIterator[int]) -> None:
    """Say how to send, and tell of each message that arrives; until a signal comes."""
    board.say("")
    board.say("Serving, until Ctrl-C. Send something from another terminal, and see where it goes:", "bold")
    for line in by_hand(world):
        board.verbatim(line)
    board.say("")
    async with trio.open_nursery() as watching:  # ends by being cancelled
        for server in world.servers.values():
            watching.start_soon(_tell, server, world, board)
        await anext(signals)
        watching.cancel_scope.cancel()
    board.say("Stopping.")


def by_hand(world: World) -> Iterator[str]:
    """Commands that send a message, for both directions, with swaks and with nothing but Python."""
    gateway = world.gateways[Gw.GW1]
    other = world.gateways[Gw.GW2]
    yield f"   inbound, by SMTP (gw2: {other.smtp})"
    yield f"     swaks --server {gateway.smtp} --from {EVA} --to {ANN}"
    yield f"     {_python('SMTP', gateway.smtp, EVA, ANN)}"
    yield f"   outbound, by LMTP: one answer per recipient (gw2: {other.lmtp})"
    yield f"     swaks --protocol LMTP --server {gateway.lmtp} --from {ANN} --to {EVA},{BOB}"
    yield f"     {_python('LMTP', gateway.lmtp, ANN, EVA)}"
    smtp, lmtp = gateway.smtp, gateway.lmtp
    yield f"   command by command: nc -C {smtp.ip} {smtp.port}, or nc -C {lmtp.ip} {lmtp.port}"


def _python(protocol: str, address: TcpAddress, sender: str, recipient: str) -> str:
    # One recipient: of several answers after the message, smtplib's LMTP reads only the first. Double quotes, and
    # newlines as Python writes them: one line that any shell takes in single quotes.
    connection = f'smtplib.{protocol}("{address.ip}", {address.port})'
    message = json.dumps("Subject: by hand\n\nHello.")
    return f'python3 -c \'import smtplib; {connection}.sendmail("{sender}", "{recipient}", {message})\''


async def _tell(server: ServerHost, world: World, board: Board) -> None:
    seen = len(server.mta.messages)
    while True:
        await trio.sleep(_LOOK)
        for message in server.mta.messages[seen:]:
            board.say(arrived(server, message), "green")
            seen += 1
        world.journal.clear()  # nobody will ask for it any more


def arrived(server: ServerHost, message: Delivered) -> str:
    """A line about a message; what it holds was written by a stranger."""
    recipients = ", ".join(message.recipients)
    return escaped(
        f"{server.links.now().astimezone():%H:%M:%S}  {server.name} took {message.size} bytes by "
        f"{bringer(message.content) or 'nobody known'} from <{message.reverse_path}> for {recipients}"
    )
