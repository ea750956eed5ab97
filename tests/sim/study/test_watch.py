"""The tap that sees whole messages go by: dialogs in pieces of every kind."""

from __future__ import annotations

import pytest
import trio

from mailgate.network import TcpAddress
from sim.records import Session
from sim.study.measure import Transfer
from sim.study.watch import TransferTap
from sim.tcp import Way

ADDRESS = TcpAddress("192.0.2.1", 25)

UP, DOWN = Way.TO_SERVER, Way.TO_CLIENT

ONE = (
    (DOWN, b"220 hi\r\n"),
    (UP, b"EHLO s\r\n"),
    (DOWN, b"250 hi\r\n"),
    (UP, b"MAIL FROM:<m17@s.example> SIZE=30\r\nRCPT TO:<u@d.example>\r\nDATA\r\n"),
    (DOWN, b"250 ok\r\n250 ok\r\n354 go\r\n"),
    (UP, b"MAIL FROM:<m99@no.example>\r\n354 no\r\n..\r\n"),
    (UP, b".\r\nQUIT\r\n"),
    (DOWN, b"250 ok\r\n"),
)
"""a message whose content looks like commands; it has 28 + 8 + 4 octets, and 3 of the dot"""

TWO = (
    *ONE[:-2],
    (UP, b".\r\n"),
    (DOWN, b"250 ok\r\n"),
    (UP, b"RSET\r\nMAIL FROM:<m18@s.example>\r\nRCPT TO:<u@d.example>\r\n"),
    (DOWN, b"250 ok\r\n250 ok\r\n250 ok\r\n"),
    (UP, b"DATA\r\n"),
    (DOWN, b"354 go\r\n"),
    (UP, b".\r\n"),
)
PROBE = (
    *ONE[:3],
    (UP, b"MAIL FROM:<m17@s.example>\r\n"),
    (DOWN, b"250 ok\r\n"),
    (UP, b"RCPT TO:<u@d.example>\r\n"),
    (DOWN, b"250 ok\r\n"),
    (UP, b"QUIT\r\n"),
)
CUT = ONE[:-2]


async def seen(said: tuple[tuple[Way, bytes], ...], *, pieces: int, arrives: int = 10_000) -> list[tuple[str, int]]:
    """What a tap tells of a dialog that is written in pieces; so many octets arrive."""
    session = Session(0, "s1", 0, ADDRESS, "gw1", 0, ADDRESS, 0.0)
    transfers: list[Transfer] = []
    tap = TransferTap(session, transfers.append)
    tap.opened()
    totals = dict.fromkeys(Way, 0)
    for way, octets in said:
        for begin in range(0, len(octets), pieces):
            piece = octets[begin : begin + pieces]
            tap.written(way, piece)
            totals[way] += len(piece)
            tap.arrived(way, min(totals[way], arrives))
    await trio.lowlevel.checkpoint()
    assert all((one.client, one.server) == ("s1", "gw1") for one in transfers)
    return [(one.message, one.octets) for one in transfers]


@pytest.mark.parametrize("pieces", [1000, 7, 5])
@pytest.mark.parametrize(
    ("said", "expected"),
    [(ONE, [("m17", 43)]), (TWO, [("m17", 43), ("m18", 3)]), (PROBE, []), (CUT, [])],
    ids=["one", "two", "probe", "cut"],
)
async def test_whole_messages(
    said: tuple[tuple[Way, bytes], ...], expected: list[tuple[str, int]], pieces: int
) -> None:
    assert await seen(said, pieces=pieces) == expected


async def test_a_dot_that_does_not_arrive_is_none() -> None:
    upward = sum(len(octets) for way, octets in ONE if way is UP)
    quit_line = len(b"QUIT\r\n")
    assert await seen(ONE, pieces=1000, arrives=upward - quit_line - 1) == []
    assert await seen(ONE, pieces=1000, arrives=upward - quit_line) == [("m17", 43)]
