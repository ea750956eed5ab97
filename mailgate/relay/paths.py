"""Paths to a next hop: how one is opened, and the race that opens the first of several.

A path that has not connected within its head start is joined by the next one (as RFC 8305 does for addresses). One
that has connected holds the floor while it shows life: nobody else starts. The first to take MAIL wins.
"""

from __future__ import annotations

import enum
import errno
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from mailgate.network import Network, NoSuchSource
from mailgate.protocol.reply import Reply
from mailgate.relay.outcome import Failure, Scope, Stage, failure, ours
from mailgate.relay.routing import Path
from mailgate.session.client import ClientSession, Lost, Patience

_T = TypeVar("_T", bound=trio.abc.AsyncResource)

OWN_LACK = (
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,  # of connect(): no port is left. A source that is gone is NoSuchSource
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
)
"""what the system says when it is we who lack something"""


async def connect(network: Network, path: Path, patience: Patience) -> trio.abc.Stream | Failure:
    """Open a connection. The caller closes the stream."""
    deadline = min(trio.current_time() + patience.silence, patience.deadline)
    with trio.move_on_at(deadline):
        try:
            return await network.connect(path.address, path.source)
        except NoSuchSource:
            return ours(Stage.CONNECT, Scope.BACKBONE, f"{path.source} is no address of this machine")
        except OSError as error:
            scope = Scope.OWN if error.errno in OWN_LACK else Scope.PATH
            return ours(Stage.CONNECT, scope, _plain(error))
    return ours(Stage.CONNECT, Scope.PATH, "no connection in time")


async def introduce(session: ClientSession, name: str, patience: Patience, others: int) -> Failure | None:
    """Wait for the greeting and say hello. None: a transaction may begin. `others`: as `outcome.failure` has it."""
    greeting = await session.greeting(patience)
    if isinstance(greeting, Lost) or greeting.kind != 2:
        return failure(Stage.GREETING, greeting, others)
    hello = await session.hello(name, patience)
    if isinstance(hello, Lost) or hello.kind != 2:
        return failure(Stage.HELLO, hello, others)
    return None


def refused(result: Reply | Lost) -> bool:
    """Whether a step ended in anything but the positive reply that it wants."""
    return isinstance(result, Lost) or result.kind in (4, 5)


def _plain(error: OSError) -> str:
    """What the system said; Trio puts the address in front, which is in every line anyway."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


# The race


class Place(enum.Enum):
    """Where a runner is."""

    WAITING = "waits until there is room for one more session"
    CONNECTING = "has no connection yet"
    CONNECTED = "holds the floor"
    OUT = "has won or failed"


class Runner:
    """A path in a race. Whoever opens the path says how far it has got."""

    def __init__(self, path: Path, head_start: float, moved: Callable[[], None]) -> None:
        self.path = path
        self.place = Place.CONNECTING
        self.may_be_joined = trio.current_time() + head_start
        """when its head start is over, on Trio's clock"""
        self._head_start = head_start
        self._moved = moved

    def move(self, place: Place) -> None:
        """It has got there."""
        if place is Place.CONNECTING:  # there is room for it only now
            self.may_be_joined = trio.current_time() + self._head_start
        self.place = place
        self._moved()


@dataclass(frozen=True, slots=True)
class Finish(Generic[_T]):
    """How a race ended."""

    won: _T | None
    slow: tuple[Path, ...]
    """paths that started before the winner did, and had their head start and no connection yet when it won"""
    over: bool
    """without a winner: it was ended by a failure that no other path could mend"""


async def race(
    paths: list[Path], open_path: Callable[[Runner], Awaitable[_T | Failure]], head_start: float
) -> Finish[_T]:
    """Open the first of some paths. Each leaves `paths` as it starts, and comes back if another one was faster.

    A failure that no other path could mend ends the race without a winner.
    """
    runners: list[Runner] = []
    won: _T | None = None
    winner: Runner | None = None
    over = False
    moved = trio.Event()

    def on_move() -> None:
        nonlocal moved
        moved.set()
        moved = trio.Event()

    async def run(runner: Runner) -> None:
        nonlocal won, winner, over
        result = await open_path(runner)
        if winner is not None and not isinstance(result, Failure):  # the winner came in at the same moment
            await trio.aclose_forcefully(result)
            return
        runner.move(Place.OUT)
        if not isinstance(result, Failure):
            won, winner = result, runner
            racing.cancel_scope.cancel()
        elif not result.elsewhere:
            over = True
            racing.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as racing:
            while paths:
                await trio.lowlevel.checkpoint_if_cancelled()  # what woke us below may have been the end of the race
                runner = Runner(paths.pop(0), head_start, on_move)
                runners.append(runner)
                racing.start_soon(run, runner)
                while (until := _wait_until(runners)) > trio.current_time():
                    with trio.move_on_at(until):
                        await moved.wait()
        finish = Finish(won, _slow(runners, winner), over and won is None)
        won = None
    finally:
        if won is not None:  # somebody has cancelled us in the moment of victory
            await trio.aclose_forcefully(won)
    paths[:0] = [one.path for one in runners if one.place is not Place.OUT and one.path not in finish.slow]
    return finish


def _wait_until(runners: list[Runner]) -> float:
    """When the next one may start: never while somebody holds the floor, at once if the last one is out or waits."""
    if any(one.place is Place.CONNECTED for one in runners):
        return math.inf
    last = runners[-1]
    return last.may_be_joined if last.place is Place.CONNECTING else -math.inf


def _slow(runners: list[Runner], winner: Runner | None) -> tuple[Path, ...]:
    if winner is None:
        return ()
    before = [one for one in runners[: runners.index(winner)] if one.may_be_joined <= trio.current_time()]
    return tuple(one.path for one in before if one.place is Place.CONNECTING)
