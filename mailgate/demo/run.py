"""The demo from its first line to its exit status."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import trio

from mailgate import logs
from mailgate.demo.board import Board, console
from mailgate.demo.checker import Breach, check
from mailgate.demo.history import Sent
from mailgate.demo.play import (
    ORIGINS,
    Mail,
    Post,
    Report,
    Told,
    compose,
    drain,
    facts,
    history,
    mend,
    play,
    seen,
    surprises,
)
from mailgate.demo.scenarios import SCENARIOS, Scenario
from mailgate.demo.serving import serve_by_hand
from mailgate.demo.world import CannotStart, Journal, Site, World, find_site
from mailgate.network import RealNetwork

EXIT_BROKEN = 1
EXIT_INTERRUPTED = 130
"""what a shell makes of SIGINT"""

_BLINK = 0.08
"""seconds between two looks at what is being said"""


class CannotRun(Exception):
    """Something that the demo needs is not there; the text says what."""


def run(*, serve: bool, verbose: bool, file: Path | None) -> int:
    """The `demo` command; its exit status. Raises CannotRun."""
    failures: list[Exception] = []
    with contextlib.ExitStack() as closing:
        copies: list[BinaryIO] = [sys.stderr.buffer] if verbose else []
        if file is not None:
            copies.append(closing.enter_context(_open(file)))
        board = Board(console(), live=not (verbose and sys.stderr.isatty()))
        try:
            return trio.run(functools.partial(demo, board, Journal(copies), serve=serve))
        except* CannotStart as group:
            failures += _leaves(group)
    raise CannotRun("; ".join(map(str, failures)))


def _open(file: Path) -> BinaryIO:
    try:
        return file.open("wb")
    except OSError as error:
        raise CannotRun(f"--log {file}: cannot be written: {error.strerror}; name another file") from None


def _leaves(group: ExceptionGroup[CannotStart]) -> Iterator[CannotStart]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def demo(
    board: Board,
    journal: Journal,
    *,
    serve: bool,
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> int:
    """Play the scenarios; the exit status. Raises CannotStart, with nothing left open."""
    site = await find_site()
    log = logs.configure(stream=journal, format="logfmt", verbose=True, now=RealNetwork().now)
    world = World(site, journal, log)
    status = EXIT_INTERRUPTED
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as hosts:  # ends by being cancelled
            await mend(world, hosts)
            possible = [one for one in scenarios if not (one.over_backbones and site.one_address)]
            board.introduce(world, left_out=len(scenarios) - len(possible) if site.one_address else None)
            async with trio.open_nursery() as playing:  # ends by being cancelled
                playing.start_soon(_cancel_at_signal, signals, playing.cancel_scope)
                status = await _play_all(possible, world, site, board, hosts)
                playing.cancel_scope.cancel()
            if serve and status != EXIT_INTERRUPTED:
                await mend(world, hosts)
                await serve_by_hand(world, board, signals)
                await drain(world)
            hosts.cancel_scope.cancel()
    if status == EXIT_INTERRUPTED:
        board.say("Interrupted: not every promise has been tried.")
    return status


async def _play_all(scenarios: Sequence[Scenario], world: World, site: Site, board: Board, hosts: trio.Nursery) -> int:
    began = trio.current_time()
    posts = {direction: Post(origin, site) for direction, origin in ORIGINS.items()}
    sent: list[Sent] = []
    known: list[Breach] = []
    broken: list[str] = []
    for number, scenario in enumerate(scenarios, 1):
        world.journal.clear()
        torn = world.torn
        post = posts[scenario.direction]
        mail = compose(scenario, number, post)
        board.open(number, scenario, len(mail.content), post.origin)
        sent.append(await _play_one(scenario, mail, post, world, board, hosts))
        happened = history(world, sent)
        news = [breach for breach in check(happened).breaches if breach not in known]
        known += news
        problems = [*map(str, news), *surprises(scenario, sent[-1], happened)]
        board.tell_callers(list(seen(scenario, sent[-1], happened.copies)))
        board.close(problems, facts(sent[-1], happened.copies, world.torn - torn), world.journal.text)
        if problems:
            broken.append(f"{number} {scenario.title}")
    findings = check(history(world, sent, await drain(world)))
    rest = [str(breach) for breach in findings.breaches if breach not in known]
    board.summarise(findings.tally, trio.current_time() - began)
    board.conclude([*broken, *rest])
    return EXIT_BROKEN if broken or rest else 0


async def _play_one(
    scenario: Scenario, mail: Mail, post: Post, world: World, board: Board, hosts: trio.Nursery
) -> Sent:
    def ran(name: str, run: int, told: Sequence[Told]) -> None:
        board.rows(run, told, [copy for copy in history(world, ()).copies if copy.id == name])

    with board.waiting() as show:
        async with trio.open_nursery() as watching:  # ends by being cancelled
            watching.start_soon(_watch, post, show)
            sent = await play(scenario, mail, post, world, hosts, Report(ran, board.mended))
            watching.cancel_scope.cancel()
    return sent


async def _watch(post: Post, show: Callable[[str], None]) -> None:
    while True:
        show(post.last_words)
        await trio.sleep(_BLINK)


async def _cancel_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
