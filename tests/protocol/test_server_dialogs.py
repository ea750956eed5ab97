"""Whole dialogs with a server side: client lines in, events and reply lines out, in whatever pieces they come."""

from __future__ import annotations

import pytest
from dialog_parts import DATA, EHLO, ENVELOPE, LHLO
from dialogs_bad import BAD_DIALOGS
from dialogs_per_recipient import PER_RECIPIENT_DIALOGS
from dialogs_smtp import SMTP_DIALOGS
from feeding import CUTS, Cut, each_cut
from serving import LMTP, SMTP, assert_told, moves, play, play_step_by_step, said

from mailgate.protocol.server import ServerOptions, State

DIALOGS = SMTP_DIALOGS | BAD_DIALOGS | PER_RECIPIENT_DIALOGS

each_dialog = pytest.mark.parametrize(("options", "text"), DIALOGS.values(), ids=DIALOGS.keys())


@each_dialog
def test_step_by_step(options: ServerOptions, text: str) -> None:
    script = moves(text)
    assert_told(play_step_by_step(options, script), script)


@each_cut
@each_dialog
def test_in_pieces(options: ServerOptions, text: str, cut: Cut) -> None:
    script = moves(text)
    server = play(options, script, cut)
    assert server.written == said(script, "S")
    assert_told(server, script)


@each_dialog
def test_with_trailing_data(options: ServerOptions, text: str) -> None:
    """Half a command behind the dialog changes nothing; the other half then ends it, unless it is over."""
    script = moves(text)
    if any(move.who == "C." for move in script):
        return
    server = play(options, script, CUTS["whole"], trailing=b"QU")
    assert server.written == said(script, "S")
    assert_told(server, script)
    if server.protocol.state is not State.CONTENT:
        over = server.protocol.state is State.CLOSED
        server.feed(b"IT\r\n")
        assert server.written == said(script, "S") + (b"" if over else b"221 2.0.0 Bye\r\n")


def first(length: int) -> Cut:
    """Only so many octets come."""
    return lambda octets: [octets[:length]]


@pytest.mark.parametrize("options", [SMTP, LMTP], ids=["SMTP", "LMTP"])
def test_a_session_cut_at_every_byte(options: ServerOptions) -> None:
    hello, lmtp = (EHLO, 0) if options is SMTP else (LHLO, 1)
    text = f"{hello} {ENVELOPE} {ENVELOPE.partition('sender ok')[2]} {DATA}\nC: ..hello\nC:\nC: .\nC: QUIT"
    octets = said(moves(text), "C")
    dot = octets.index(b"\r\n.\r\n") + 5
    quit_ = len(octets)
    for length in range(len(octets) + 1):
        server = play(options, moves(f"C.\n{text}"), first(length))
        messages = [told for told in server.told if told.startswith("message")]
        assert len(messages) == (length >= dot)
        assert server.written.count(b"taken") == (length >= dot) * (1 + lmtp)
        assert server.told[-1] == ("quit" if length == quit_ else "gone")
