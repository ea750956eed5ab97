"""Dialogs as text: what passes, and how a difference reads."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from mailgate.testing import Dialog, Side, bounded_stream_pair, play

GREETING = """
    # a comment, and an empty line

    S: 220 mx ready
    C: EHLO gw
    S: 250-mx
    S: 250 PIPELINING
"""

GROUP = """
    C: MAIL FROM:<a@x>
    C: RCPT TO:<b@y>
    C: DATA
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 354 go
"""


@pytest.mark.parametrize("capacity", [1, 64, 65_536])
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(GREETING, id="lines"),
        pytest.param(GREETING + GROUP, id="a group"),
        pytest.param("C! a\\r\\nb\\x00\\xff\nS! \\r\\n", id="raw"),
        pytest.param("C: d\u00fcrst\nS: gr\u00fc\u00df", id="utf-8"),
        pytest.param("C:\nS: ", id="empty lines"),
        pytest.param("C: QUIT\nS: 221 bye\nS.", id="server closes"),
        pytest.param("S: 220 hi\nC.", id="client closes"),
        pytest.param("C: x\nC/\nS: bye\nS.", id="half-close"),
        pytest.param("S: 220 hi\nC~", id="client resets"),
        pytest.param("C: x\nS~", id="server resets"),
        pytest.param("C+ 20\nC: late\nS+ 20\nS: late too", id="waits"),
    ],
)
async def test_both_sides_play_the_same_script(capacity: int, script: str, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(capacity)
    async with client, server, trio.open_nursery() as nursery:

        async def serve() -> None:
            await play(server, script.replace("C/", "C."), side=Side.SERVER)

        nursery.start_soon(serve)
        await play(client, script)


# What the peer says (and then closes, or is silent) | the script | what the error says
DIFFERENCES = [
    pytest.param("S: 250 ok", "S: 220 ok", "expected: S: 220 ok\n     got: S: 250 ok", id="line"),
    pytest.param("S: 250 ok", "S: 250 ok...more", "expected: S: 250 ok...more\n     got: S: 250 ok", id="dots-within"),
    pytest.param("S: 250 ok", "S: 220...", "expected: S: 220...\n     got: S: 250 ok", id="wildcard"),
    pytest.param("S: 250 ok", "S: 250 ok\nS: 250 ok", "got: nothing more for 30 s, after ''", id="silence"),
    pytest.param("S! 250 ok", "S: 250 ok", "got: nothing more for 30 s, after '250 ok'", id="part-of-a-line"),
    pytest.param("S! 250 ok\\n", "S: 250 ok", "got: S! 250 ok\\x0a", id="bare-newline"),
    pytest.param("S! 250 ok\nS.", "S: 250 ok", "got: S! 250 ok and then S.", id="cut-line"),
    pytest.param("S: 250 ok\nS.", "S: 250 ok\nS: 250 ok", "got: S.", id="end"),
    pytest.param("S~", "S.", "expected: S.\n     got: S~", id="reset-for-end"),
    pytest.param("S.", "S~", "expected: S~\n     got: S.", id="end-for-reset"),
    pytest.param("S: 250 ok", "S.", "expected: S.\n     got: S: 250 ok", id="line-for-end"),
    pytest.param("S+ 4\nS: 250 ok", "S+ 5", "expected: S+ 5\n     got: S: 250 ok", id="line-for-nothing"),
    pytest.param("S! abc", "S! abd", "expected: S! abd\n     got: S! abc", id="bytes"),
    pytest.param("S! 1\\r\\n2\\r\\n", "S: 1", "expected: (nothing more)\n     got: 2\\x0d\\x0a", id="more"),
    pytest.param("C: a\nS.", "C: b\nS: 1", "    C: b\nexpected: S: 1\n     got: S.", id="what-was-said-before"),
]


@pytest.mark.parametrize(("peer", "script", "message"), DIFFERENCES)
async def test_differences(peer: str, script: str, message: str, autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    async with client, server, trio.open_nursery() as nursery:

        async def serve() -> None:
            await play(server, peer.replace("C: a", "C: b"), side=Side.SERVER)

        nursery.start_soon(serve)
        with pytest.raises(AssertionError) as raised:
            await play(client, script)
        assert str(raised.value).endswith(message)


async def test_a_peer_that_takes_nothing_is_a_difference(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair(1)
    async with client, server:
        with pytest.raises(AssertionError, match="the peer took not all of this for 30 s"):
            await play(client, "C: EHLO gw")


async def test_patience(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    async with client, server:
        with pytest.raises(AssertionError, match="nothing more for 200 s"):
            await play(client, "S: 220 hi", patience=200)
        assert trio.current_time() == 200


async def test_a_dialog_in_pieces_keeps_what_came_early(autojump_clock: MockClock) -> None:
    client, server = bounded_stream_pair()
    async with client, server:
        await server.send_all(b"250 1\r\n250 2\r\n")
        dialog = Dialog(client)
        assert await dialog.play("S: 250...") == ["250 1"]
        assert dialog.unread == b"250 2\r\n"
        assert await dialog.play("S: 250...") == ["250 2"]


@pytest.mark.parametrize("line", ["X: hello", "C hello", "C:hello"])
async def test_a_line_that_is_none_is_refused(line: str, autojump_clock: MockClock) -> None:
    client, _server = bounded_stream_pair()
    with pytest.raises(ValueError, match="line 2 of the dialog"):
        await play(client, f"\n{line}")
