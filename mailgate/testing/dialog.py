"""Dialogs written as text, played against whatever is at the other end of a stream."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

import trio

from mailgate.testing.streams import reset
from mailgate.testing.transcript import shown
from mailgate.testing.wire import End, Wire


class Side(enum.Enum):
    """Whose lines are ours."""

    CLIENT = "C"
    SERVER = "S"


@dataclass(frozen=True, slots=True)
class _Move:
    """One line of a script."""

    side: Side
    sign: str
    text: str

    def __str__(self) -> str:
        return f"{self.side.value}{self.sign} {self.text}".rstrip(" ")


_MOVE = re.compile(r"([CS])([:!./~+])(?: (.*))?")
_SIGN_OF_END = {End.OPEN: "", End.CLOSED: ".", End.RESET: "~"}


def _parse(script: str) -> list[_Move]:
    moves = []
    for number, written in enumerate(script.split("\n"), 1):
        line = written.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        found = _MOVE.fullmatch(line)
        if found is None:
            raise ValueError(
                f"line {number} of the dialog: {line!r}; a line begins with C or S, one of : ! . / ~ + and a space"
            )
        moves.append(_Move(Side(found[1]), found[2], found[3] or ""))
    return moves


def _unescaped(text: str) -> bytes:
    """Text with Python's escapes, as octets."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


class Dialog:
    """One side of a conversation over a stream, in as many pieces as one likes.

    `patience` is the seconds that each expectation waits, and each sending.
    """

    def __init__(self, stream: trio.abc.Stream, *, side: Side = Side.CLIENT, patience: float = 30) -> None:
        self._stream = stream
        self._wire = Wire(stream)
        self._side = side
        self._patience = patience
        self._played: list[str] = []

    @property
    def unread(self) -> bytes:
        """What the peer said that no script has expected yet, as far as it has been received."""
        return bytes(self._wire.received)

    async def play(self, script: str) -> list[str]:
        """Play a script; returns the lines that the peer said. Raises AssertionError at the first difference.

        Each line begins with the side, C or S, and a sign. What we do on our side, we expect on the peer's:

        =========== ==================================================== =======================================
        `C: text`   send the line with CRLF                              expect exactly this line; a final `...`
                                                                         stands for any rest
        `C! bytes`  send raw bytes, with Python's escapes                expect exactly these bytes
        `C/`        close the sending direction only                     expect the end
        `C.`        close                                                expect the end
        `C~`        reset                                                expect a reset
        `C+ 2.5`    wait 2.5 seconds                                     expect that nothing comes for so long
        =========== ==================================================== =======================================

        Our lines that follow each other go out in one piece, as a pipelining client's do. Indentation, empty
        lines and lines that begin with `#` do not count.
        """
        moves = _parse(script)
        said: list[str] = []
        while moves:
            group = 1
            if self._sends(moves[0]):
                while group < len(moves) and self._sends(moves[group]):
                    group += 1
                await self._send(moves[:group], expects_more=any(move.side is not self._side for move in moves))
            elif moves[0].side is self._side:
                await self._act(moves[0])
            else:
                said += await self._expect(moves[0])
            del moves[:group]
        return said

    def _sends(self, move: _Move) -> bool:
        return move.side is self._side and move.sign in ":!"

    async def _send(self, moves: list[_Move], *, expects_more: bool) -> None:
        data = b"".join(move.text.encode() + b"\r\n" if move.sign == ":" else _unescaped(move.text) for move in moves)
        self._played += map(str, moves)
        with trio.move_on_after(self._patience) as scope:
            try:
                if expects_more:
                    await self._wire.send(data)
                else:
                    await self._stream.send_all(data)
            except trio.BrokenResourceError:
                # Not yet a failure: what the peer said before it left is still to be compared.
                self._played.append("-- the peer is gone")
        if scope.cancelled_caught:
            self._fail(f"the peer took not all of this for {self._patience:g} s", "")

    async def _act(self, move: _Move) -> None:
        self._played.append(str(move))
        match move.sign:
            case ".":
                await self._stream.aclose()
            case "/" if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            case "~":
                await reset(self._stream)
            case "+":
                await trio.sleep(float(move.text))
            case _:
                raise ValueError(f"this stream cannot do {str(move)!r}")

    async def _expect(self, move: _Move) -> list[str]:
        if move.sign == "+":
            with trio.move_on_after(float(move.text)):
                while not self._wire.received and not self._wire.ended:
                    await self._wire.receive()
            if self._wire.received or self._wire.ended:
                self._fail(str(move), self._got(self._next_line()))
            self._played.append(str(move))
            return []
        wanted = _unescaped(move.text) if move.sign == "!" else b""
        with trio.move_on_after(self._patience) as scope:
            while not (self._complete(move, wanted) or self._wire.ended):
                await self._wire.receive()
        if scope.cancelled_caught:
            self._fail(str(move), f"nothing more for {self._patience:g} s, after {shown(self.unread)!r}")
        match move.sign:
            case ":":
                return [self._expect_line(move)]
            case "!":
                got = bytes(self._wire.received[: len(wanted)])
                if got != wanted:
                    self._fail(str(move), self._got(got))
                del self._wire.received[: len(wanted)]
            case _:
                if self._wire.received or self._wire.end is not (End.RESET if move.sign == "~" else End.CLOSED):
                    self._fail(str(move), self._got(self._next_line()))
        self._played.append(str(move))
        return []

    def _complete(self, move: _Move, wanted: bytes) -> bool:
        """Whether enough has come to compare it."""
        if move.sign == ":":
            return b"\n" in self._wire.received
        return len(self._wire.received) >= len(wanted) if move.sign == "!" else bool(self._wire.received)

    def _next_line(self) -> bytes:
        head, newline, _ = bytes(self._wire.received).partition(b"\n")
        return head + newline

    def _expect_line(self, move: _Move) -> str:
        line = self._next_line()
        text = line.removesuffix(b"\r\n").decode("utf-8", "backslashreplace")
        beginning = move.text.removesuffix("...")
        fits = text == move.text if beginning == move.text else text.startswith(beginning)
        if not line.endswith(b"\r\n") or not fits:
            self._fail(str(move), self._got(line))
        del self._wire.received[: len(line)]
        self._played.append(f"{move.side.value}: {text}")
        return text

    def _got(self, data: bytes) -> str:
        """What came instead, as a line of a script."""
        peer = (Side.SERVER if self._side is Side.CLIENT else Side.CLIENT).value
        if not data:
            return f"{peer}{_SIGN_OF_END[self._wire.end]}"
        if data.endswith(b"\r\n"):
            return f"{peer}: {shown(data[:-2])}"
        return f"{peer}! {shown(data)}" + (
            f" and then {peer}{_SIGN_OF_END[self._wire.end]}" if self._wire.ended else ""
        )

    def _fail(self, expected: str, got: str) -> None:
        raise AssertionError(
            "\n".join(
                [
                    "the dialog differs:",
                    *(f"    {line}" for line in self._played),
                    f"expected: {expected}",
                    f"     got: {got}",
                ]
            )
        )


async def play(stream: trio.abc.Stream, script: str, *, side: Side = Side.CLIENT, patience: float = 30) -> list[str]:
    """Play a whole dialog as `Dialog.play` does; what the peer said beyond the script is an AssertionError.

    Only what has been received by then is noticed: end the script with `S.` or `S+ 1` to be sure. For a dialog
    in several pieces keep one `Dialog`.
    """
    dialog = Dialog(stream, side=side, patience=patience)
    said = await dialog.play(script)
    if dialog.unread:
        dialog._fail("(nothing more)", shown(dialog.unread))
    return said
