"""What is read of dialogs, and when which phase is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from mailgate.network import TcpAddress
from sim.content import content, digest
from sim.records import End, Phase, Said, Session
from sim.tap import DialogTap
from sim.tap_dialogs import (
    ASKED,
    BEGUN,
    DIALOGS,
    OFFERED,
    ONE,
    PRDR,
    SENT,
    TAKEN,
    Dialog,
    Piece,
    code,
    groups,
    lines,
    read,
    single_octets,
)
from sim.tcp import Way


class Wire:
    """A session with a tap on it, and the phases it told."""

    def __init__(self, moved: Callable[[Session], None] | None = None) -> None:
        address = TcpAddress("192.0.2.1", 25)
        self.session = Session(0, "client", 0, address, "server", 0, address, connecting=0)
        self.phases: list[Phase] = []
        self._moved = moved
        self.tap = DialogTap(self.session, self._tell)
        self._written = dict.fromkeys(Way, 0)

    def _tell(self, session: Session) -> None:
        self.phases.append(session.phase)
        if self._moved is not None:
            self._moved(session)

    def write(self, way: Way, octets: bytes) -> None:
        """Octets that do not arrive before `arrive`."""
        self._written[way] += len(octets)
        self.tap.written(way, octets)

    def octets(self, way: Way) -> int:
        """Written in all."""
        return self._written[way]

    def arrive(self, way: Way) -> None:
        """All that was written in that way."""
        self.tap.arrived(way, self._written[way])

    async def play(self, pieces: Sequence[Piece], seconds: float = 0) -> None:
        """Each piece is written so many seconds after the one before has arrived, and is so long on its way."""
        if self.session.established is None:
            self.tap.opened()
        for way, octets in pieces:
            await self._pass(seconds)
            self.write(way, octets)
            await self._pass(seconds)
            self.arrive(way)

    async def _pass(self, seconds: float) -> None:
        if seconds:  # to go through the scheduler for each octet takes long
            await trio.sleep(seconds)


@pytest.mark.parametrize(("cut", "seconds"), [(lines, 0), (lines, 1), (groups, 0), (single_octets, 0)])
@pytest.mark.parametrize("dialog", [pytest.param(each, id=name) for name, each in DIALOGS.items()])
async def test_dialogs(
    dialog: Dialog, cut: Callable[[str], list[Piece]], seconds: float, autojump_clock: MockClock
) -> None:
    wire = Wire()
    await wire.play(cut(dialog.text), seconds)
    session = wire.session
    assert " ".join(phase.name for phase in wire.phases) == dialog.phases
    assert session.phase is wire.phases[-1]
    assert tuple(map(read, session.transactions)) == dialog.transactions
    assert tuple(map(code, session.unasked)) == dialog.unasked
    if dialog.commands is not None:
        assert " ".join(f"{asked.verb} {code(asked.reply)}" for asked in session.commands) == dialog.commands


@pytest.mark.parametrize("dialog", [pytest.param(each.text, id=name) for name, each in DIALOGS.items()])
@pytest.mark.parametrize("end", ["a half close", "a reset", "a crash"])
async def test_cut_off_anywhere(dialog: str, end: str, autojump_clock: MockClock) -> None:
    pieces = lines(dialog)
    for count, (way, line) in enumerate(pieces):
        for length in range(len(line)):
            wire = Wire()
            await wire.play(pieces[:count])
            wire.write(way, line[:length])
            match end:
                case "a half close":
                    wire.tap.ended(way, End.FIN)
                case "a reset":
                    wire.tap.broke()
                case _:
                    wire.tap.ended(way, End.DETACHED)
            wire.arrive(way)
            assert wire.session.phase is wire.phases[-1] is Phase.OVER
            assert wire.phases.count(Phase.OVER) == 1


# When


async def test_times(autojump_clock: MockClock) -> None:
    wire = Wire()
    await trio.sleep(1)
    await wire.play(groups(SENT + "C: QUIT\n S: 250-well\n S: 250 taken\n S: 221 bye"), 1)
    session = wire.session
    assert session.established == 1
    assert session.greeting == Said(220, "220 mx", 2, 3)
    assert [(asked.verb, asked.written, asked.arrived, asked.reply) for asked in session.commands] == [
        ("EHLO", 4, 5, Said(250, "250-mx\n250 PIPELINING", 8, 9)),
        ("MAIL", 10, 11, Said(250, "250 ok", 12, 13)),
        ("RCPT", 14, 15, Said(250, "250 ok", 16, 17)),
        ("DATA", 18, 19, Said(354, "354 go", 20, 21)),
        ("QUIT", 22, 23, Said(221, "221 bye", 28, 29)),
    ]
    (transaction,) = session.transactions
    assert (transaction.dot_written, transaction.dot_arrived) == (22, 23)
    assert transaction.outcomes == [Said(250, "250-well\n250 taken", 26, 27)]


async def test_the_dot_counts_from_its_last_octet(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(ASKED + "S: 354 go\n C- x"))
    (transaction,) = wire.session.transactions
    for octet in b"\r\n.\r\n":
        assert (transaction.dot_written, transaction.digest) == (None, "")
        await trio.sleep(1)
        wire.write(Way.TO_SERVER, bytes([octet]))
    assert (transaction.dot_written, transaction.digest) == (5, digest(b"x\r\n"))
    wire.tap.arrived(Way.TO_SERVER, wire.octets(Way.TO_SERVER) - 1)
    assert (wire.phases[-1], transaction.dot_arrived) == (Phase.DOT, None)
    await trio.sleep(1)
    wire.arrive(Way.TO_SERVER)
    assert (wire.phases[-1], transaction.dot_arrived) == (Phase.AFTER_DOT, 6)


async def test_a_reply_has_arrived_with_its_last_octet(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(OFFERED + "C: RSET\n C: NOOP"))
    before = wire.octets(Way.TO_CLIENT)
    for part in (b"250-reset\r\n250", b" done\r\n250 no", b"thing\r\n"):
        wire.write(Way.TO_CLIENT, part)
    replies = [asked.reply for asked in wire.session.commands[-2:]]
    ends = [before + len(part) for part in (b"250-reset\r\n250 done\r\n", b"250-reset\r\n250 done\r\n250 nothing\r\n")]
    for end in ends:
        for total in (end - 1, end):
            await trio.sleep(1)
            wire.tap.arrived(Way.TO_CLIENT, total)
    assert replies == [Said(250, "250-reset\n250 done", 0, 2), Said(250, "250 nothing", 0, 4)]


async def test_held_text_keeps_its_time(autojump_clock: MockClock) -> None:
    """What is written behind DATA without waiting is a message, or commands, once DATA is answered."""
    wire = Wire()
    await wire.play(lines(ASKED))
    await trio.sleep(1)
    wire.write(Way.TO_SERVER, b"x\r\n.\r\nNOOP\r\n")
    await trio.sleep(1)
    wire.write(Way.TO_CLIENT, b"354 go\r\n")
    (transaction,) = wire.session.transactions
    assert (transaction.dot_written, wire.session.commands[-1].written) == (1, 1)
    await trio.sleep(1)
    wire.arrive(Way.TO_SERVER)
    assert (transaction.dot_arrived, wire.session.commands[-1].arrived) == (3, 3)
    wire.arrive(Way.TO_CLIENT)
    assert wire.phases[-2:] == [Phase.DATA, Phase.AFTER_DOT]  # when the client has heard


async def test_replies_in_one_segment_are_heard_at_once(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(BEGUN))
    await wire.play([(Way.TO_SERVER, b"MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n")])
    await wire.play([(Way.TO_CLIENT, b"250 ok\r\n250 ok\r\n354 go\r\n")])
    assert wire.phases[-2:] == [Phase.MAIL, Phase.BODY]


# Replies that are lost, or cross with what they are no answer to


async def test_a_reply_that_is_lost(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(SENT))
    wire.write(Way.TO_CLIENT, b"250 taken\r\n")
    assert wire.session.transactions[0].outcomes == [Said(250, "250 taken", 0, None)]
    assert wire.session.phase is Phase.AFTER_DOT
    wire.tap.broke()
    assert wire.session.transactions[0].outcomes == [Said(250, "250 taken", 0, None)]


async def test_a_reply_that_crosses_with_a_command_is_taken_for_its_answer(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(TAKEN))
    session = wire.session
    wire.write(Way.TO_CLIENT, b"421 idle\r\n421 really\r\n421 bye\r\n")
    assert list(map(code, session.unasked)) == [421, 421, 421]
    wire.write(Way.TO_SERVER, b"RSET\r\nMAIL FROM:<a@a>\r\n")
    wire.arrive(Way.TO_CLIENT)
    assert [asked.reply and asked.reply.text for asked in session.commands[-2:]] == ["421 idle", "421 really"]
    assert [said.text for said in session.unasked] == ["421 bye"]
    assert session.phase is Phase.KEPT
    wire.write(Way.TO_SERVER, b"NOOP\r\n")
    assert [said.text for said in session.unasked] == ["421 bye"]
    assert session.commands[-1].reply is None


async def test_a_reply_that_crosses_with_the_dot_is_taken_for_its_answer(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(ASKED + "S: 354 go\n C: x"))
    wire.write(Way.TO_CLIENT, b"250 early\r\n")
    assert list(map(code, wire.session.unasked)) == [250]
    wire.write(Way.TO_SERVER, b".\r\n")
    assert wire.session.unasked == []
    assert list(map(code, wire.session.transactions[0].outcomes)) == [250]
    wire.arrive(Way.TO_CLIENT)
    assert wire.phases[-2:] == [Phase.DOT, Phase.KEPT]


async def test_replies_that_cross_with_the_dot_of_prdr(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(PRDR.partition("C: x")[0] + "C: x"))
    wire.write(Way.TO_CLIENT, b"353 each\r\n250 ok\r\n452 no\r\n250 all\r\n421 bye\r\n")
    wire.write(Way.TO_SERVER, b".\r\n")
    assert list(map(code, wire.session.transactions[0].outcomes)) == [353, 250, 452, 250]
    assert list(map(code, wire.session.unasked)) == [421]


# What


async def test_envelope(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(
        lines(
            BEGUN
            + """
            C: mail from:<m1@a.example> size=9 Body=8BITMIME PRDR
            C: RCPT TO:<"b>b"@b.example>
            C: RCPT TO: <c@c.example> NOTIFY=NEVER
            C: RCPT TO:c@c
            C: MAIL FROM:<>
            """
        )
    )
    first, second = wire.session.transactions
    assert (first.reverse_path, first.parameters, first.prdr) == (
        "m1@a.example",
        ("SIZE=9", "BODY=8BITMIME", "PRDR"),
        True,
    )
    assert [mailbox for mailbox, _ in first.rcpts] == ['"b>b"@b.example', "c@c.example", ""]
    assert (second.reverse_path, second.parameters) == ("", ())
    assert first.mail.line == "mail from:<m1@a.example> size=9 Body=8BITMIME PRDR"
    assert first.session is wire.session


@pytest.mark.parametrize("protocol", ["EHLO", "LHLO"])
async def test_protocol(protocol: str, autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(f"S: 220 mx\n C: {protocol} a"))
    assert wire.session.lmtp is (protocol == "LHLO")


RECEIVED = b"Received: from a\r\n\tby b id 0a; now\r\n"


@pytest.mark.parametrize("piece", [1, 1000, 16_384, 1_000_000])
@pytest.mark.parametrize("size", [0, 1000, 4_200, 300_000])
@pytest.mark.parametrize("top", [b"", RECEIVED * 2])
async def test_message(top: bytes, size: int, piece: int, autojump_clock: MockClock) -> None:
    message = top + content("m1", size)
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    wire = Wire()
    await wire.play(lines(ASKED + "S: 354 go"))
    whole = stuffed + b".\r\nNOOP\r\n"
    await wire.play([(Way.TO_SERVER, whole[start : start + piece]) for start in range(0, len(whole), piece)])
    (transaction,) = wire.session.transactions
    assert transaction.octets == len(stuffed)
    assert transaction.content == stuffed[:4_096]
    assert transaction.digest == digest(content("m1", size))
    assert transaction.dot_arrived is not None
    assert wire.session.commands[-1].line == "NOOP"


async def test_a_message_that_begins_with_a_dot(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(ASKED + "S: 354 go\n C: ..a\n C: .."))
    assert wire.session.transactions[0].digest == ""
    await wire.play(lines("C: ."))
    assert wire.session.transactions[0].digest == digest(b".a\r\n.\r\n")


# How it ends


async def test_the_first_end_of_each_kind_counts(autojump_clock: MockClock) -> None:
    wire = Wire()
    for how in (End.FIN, End.RESET):
        await trio.sleep(1)
        wire.tap.ended(Way.TO_SERVER, how)
        wire.tap.ended(Way.TO_CLIENT, how)
        wire.tap.broke()
    session = wire.session
    assert (session.client_end, session.server_end, session.broken) == ((1, End.FIN), (1, End.FIN), 1)
    assert wire.phases == [Phase.OVER]


async def test_what_comes_after_the_end_is_read(autojump_clock: MockClock) -> None:
    wire = Wire()
    await wire.play(lines(SENT))
    wire.tap.ended(Way.TO_SERVER, End.FIN)
    await wire.play(lines("S: 250 taken"))
    assert list(map(read, wire.session.transactions)) == [ONE]
    assert wire.phases[-2:] == [Phase.AFTER_DOT, Phase.OVER]


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.CONNECT, Phase.OVER)])
async def test_the_connection_may_be_broken_at_any_change(phase: Phase, autojump_clock: MockClock) -> None:
    def moved(session: Session) -> None:
        if session.phase is phase:
            wire.tap.broke()
            wire.tap.ended(Way.TO_CLIENT, End.RESET)
            told.append(wire.phases.count(Phase.OVER))

    told: list[int] = []
    wire = Wire(moved)
    await wire.play(lines(TAKEN))
    assert told == [0]  # not while it has yet to return
    assert wire.phases[-2:] == [phase, Phase.OVER]
