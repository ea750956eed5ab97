"""The body of a message: one writer, many readers, each at its own pace and from the start.

It lives in memory up to a limit and in an unlinked temporary file beyond it. The file is written and read with
blocking calls, of 64 KiB or of what was in memory: they take some microseconds from the page cache, where a worker
thread for each would take 230, and would not run on virtual time.
"""

from __future__ import annotations

import os
import tempfile
from types import TracebackType
from typing import IO

import trio

CHUNK = 65_536
"""octets that a reader gets at a time, at most"""

AHEAD = 1_048_576
"""octets that the writer may be ahead of the slowest reader: what is left after the client's dot is little"""


class Body:
    """A context manager: the file is closed on leaving, so leave after the tasks that read it."""

    def __init__(self, memory: int, patience: float) -> None:
        """`memory` octets stay in memory; one write is held up for `patience` seconds at most."""
        self._memory_limit = memory
        self._patience = patience
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._readers: list[Reader] = []
        self._grown = trio.Event()
        self._drained = trio.Event()
        self.size = 0
        self.finished = False

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def write(self, data: bytes) -> OSError | None:
        """Append, then wait until no reader is more than AHEAD behind.

        A reader is waited for `patience` seconds at a time; one that keeps faster readers waiting, in all. Then it may
        lag. (A slow reader that is alone keeps only its own sender waiting, who would fare no better elsewhere.)

        Returns the error when the file system takes no more: the body is then incomplete and must be given up.
        """
        try:
            self._append(data)
        except OSError as error:
            return error
        self.size += len(data)
        self._wake_readers()
        await self._wait_for_readers(trio.current_time() + self._patience)
        return None

    async def _wait_for_readers(self, deadline: float) -> None:
        while behind := self._too_far_ahead():
            began = trio.current_time()
            others = len(behind) < len(self._readers)
            until = min(deadline, began + min(reader.patience for reader in behind)) if others else deadline
            with trio.move_on_at(until):
                self._drained = trio.Event()
                await self._drained.wait()
            now = trio.current_time()
            for reader in behind:
                if others:
                    reader.patience -= now - began
                reader.holds = reader.patience > 0 and now < deadline

    def finish(self) -> None:
        """The body is complete."""
        self.finished = True
        self._wake_readers()

    def reader(self, *, holds: bool) -> Reader:
        """A reader at the start. One that replays does not hold the writer up."""
        reader = Reader(self, holds, self._patience)
        self._readers.append(reader)
        return reader

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._memory += data
            if len(self._memory) <= self._memory_limit:
                return
            self._file = tempfile.TemporaryFile(prefix="mailgate-", buffering=0)  # noqa: SIM115 - __exit__ closes
            data, self._memory = bytes(self._memory), bytearray()
        view = memoryview(data)
        while view:
            view = view[os.write(self._file.fileno(), view) :]

    def _too_far_ahead(self) -> list[Reader]:
        return [reader for reader in self._readers if reader.holds and self.size - reader.position > AHEAD]

    def _wake_readers(self) -> None:
        self._grown.set()
        self._grown = trio.Event()

    # For its readers

    async def _next(self, position: int) -> bytes:
        while position >= self.size and not self.finished:
            await self._grown.wait()
        if self._file is not None:
            return os.pread(self._file.fileno(), CHUNK, position)
        return bytes(self._memory[position : position + CHUNK])

    def _moved(self) -> None:
        self._drained.set()

    def _leave(self, reader: Reader) -> None:
        self._readers.remove(reader)
        self._drained.set()


class Reader:
    """Reads a body from its start to its end, waiting where it has not been written yet."""

    def __init__(self, body: Body, holds: bool, patience: float) -> None:  # noqa: FBT001 - only Body.reader calls this
        self._body = body
        self.holds = holds
        """the writer waits for this reader"""
        self.patience = patience
        """seconds that the writer may still wait for it while others are waiting, too"""
        self.position = 0

    async def read(self) -> bytes:
        """The next octets, CHUNK at most; none at the end of the finished body. Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        data = await self._body._next(self.position)
        self.position += len(data)
        self._body._moved()
        return data

    def close(self) -> None:
        """Read no more."""
        self._body._leave(self)
