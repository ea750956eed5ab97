"""The race for a path, as a table: what each path does → who wins, exactly when, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from mailgate.network import TcpAddress
from mailgate.relay.outcome import Failure, Scope, Stage, ours
from mailgate.relay.paths import Place, Runner, race
from mailgate.relay.routing import Path
from mailgate.testing import seeded

HEAD_START = 0.25
FOREVER = 1000.0

ELSEWHERE = ours(Stage.CONNECT, Scope.PATH, "refused")
NOWHERE = Failure(Stage.MAIL, Scope.MESSAGE, elsewhere=False, why="550 no", reply=ELSEWHERE.reply)
"""no other path would do better"""


class Session(trio.abc.AsyncResource):
    """A connection, and what it becomes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class Course:
    """What the paths of a race do. Of each: `0.1 connects, 6 wins`, in seconds after its own start.

    It `waits` for room, `begins` to connect once there is some, `connects`, `wins`, `fails`, or `ends` the race for
    all; behind its last act nothing comes.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = {name: Path(TcpAddress(f"192.0.2.{number}", 25)) for number, name in enumerate(paths, 1)}
        self.acts = {name: [act.split() for act in acts.split(", ") if act] for name, acts in paths.items()}
        self.names = {path: name for name, path in self.paths.items()}
        self.starts: dict[str, float] = {}
        self.sessions: list[Session] = []
        self.holding: dict[str, float] = {}

    async def open(self, runner: Runner) -> Session | Failure:
        name = self.names[runner.path]
        assert name not in self.starts, "started twice"
        self.starts[name] = start = trio.current_time()
        assert all(since == start for since in self.holding.values()), f"started while {self.holding} held the floor"
        session: Session | None = None
        won = False
        try:
            for seconds, act in self.acts[name]:
                await trio.sleep_until(start + float(seconds))
                match act:
                    case "waits":
                        runner.move(Place.WAITING)
                    case "begins":
                        runner.move(Place.CONNECTING)
                    case "connects":
                        session = self.connect(name, runner)
                    case "wins":
                        won = True
                        return session or self.connect(name, runner)
                    case "fails":
                        return ELSEWHERE
                    case "ends":
                        return NOWHERE
            await trio.sleep_forever()
        finally:
            self.holding.pop(name, None)
            if session is not None and not won:
                await trio.aclose_forcefully(session)

    def connect(self, name: str, runner: Runner) -> Session:
        """From now on it holds the floor."""
        self.sessions.append(Session(name))
        self.holding[name] = trio.current_time()
        runner.move(Place.CONNECTED)
        return self.sessions[-1]

    @property
    def closed(self) -> list[str]:
        return sorted(one.name for one in self.sessions if one.closed)

    @property
    def left_open(self) -> list[str]:
        return [one.name for one in self.sessions if not one.closed]


@dataclass(frozen=True, slots=True)
class Row:
    """A race."""

    paths: Mapping[str, str]
    winner: str | None
    time: float
    """when it ends"""
    starts: Mapping[str, float]
    """in order"""
    closed: str = ""
    """the connections that were closed"""
    slow: str = ""
    back: str = ""
    """what is left to be tried, in order"""


NEVER = ""

ROWS: dict[str, Row] = {
    "none": Row({}, None, 0, {}),
    "one, at once": Row({"a": "0 wins"}, "a", 0, {"a": 0}),
    "one, late": Row({"a": "3 connects, 9 wins"}, "a", 9, {"a": 0}),
    "one, fails": Row({"a": "3 fails"}, None, 3, {"a": 0}),
    "the first wins at once": Row({"a": "0 wins", "b": "0 wins"}, "a", 0, {"a": 0}, back="b"),
    "the first wins inside its head start": Row({"a": "0.2 wins", "b": "0 wins"}, "a", 0.2, {"a": 0}, back="b"),
    "just inside the head start": Row({"a": "0.2499 wins", "b": "0 wins"}, "a", 0.2499, {"a": 0}, back="b"),
    "just behind it": Row({"a": "0.2501 wins", "b": "1 wins"}, "a", 0.2501, {"a": 0, "b": 0.25}, back="b"),
    "a black hole": Row({"a": NEVER, "b": "0.1 wins"}, "b", 0.35, {"a": 0, "b": 0.25}, slow="a"),
    "two black holes": Row(
        {"a": NEVER, "b": NEVER, "c": "0.1 connects, 0.2 wins"},
        "c",
        0.7,
        {"a": 0, "b": 0.25, "c": 0.5},
        slow="a b",
    ),
    "black holes behind": Row({"a": "0.3 wins", "b": NEVER, "c": NEVER}, "a", 0.3, {"a": 0, "b": 0.25}, back="b c"),
    "slow, but first": Row({"a": "0.4 wins", "b": "0.2 wins"}, "a", 0.4, {"a": 0, "b": 0.25}, back="b"),
    "a failure lets the next start at once": Row({"a": "0.1 fails", "b": "0 wins"}, "b", 0.1, {"a": 0, "b": 0.1}),
    "each failure does": Row(
        {"a": "0.1 fails", "b": "0.1 fails", "c": "0.1 wins"}, "c", 0.3, {"a": 0, "b": 0.1, "c": 0.2}
    ),
    "the last one's failure does": Row(
        {"a": NEVER, "b": "0.1 fails", "c": "0 wins"}, "c", 0.35, {"a": 0, "b": 0.25, "c": 0.35}, slow="a"
    ),
    "an earlier one's failure does not": Row(
        {"a": "0.3 fails", "b": NEVER, "c": "0 wins"}, "c", 0.5, {"a": 0, "b": 0.25, "c": 0.5}, slow="b"
    ),
    "a loser that failed is not slow": Row({"a": "0.3 fails", "b": "0.1 wins"}, "b", 0.35, {"a": 0, "b": 0.25}),
    "all fail": Row({"a": "1 fails", "b": "1 fails", "c": "0.1 fails"}, None, 1.25, {"a": 0, "b": 0.25, "c": 0.5}),
    # Who is connected holds the floor.
    "holds the floor and wins": Row({"a": "0.1 connects, 6 wins", "b": "0 wins"}, "a", 6, {"a": 0}, back="b"),
    "holds the floor and fails": Row(
        {"a": "0.1 connects, 6 fails", "b": "0.1 wins"}, "b", 6.1, {"a": 0, "b": 6}, closed="a"
    ),
    "connects in the last moment": Row({"a": "0.249 connects, 6 wins", "b": "0 wins"}, "a", 6, {"a": 0}, back="b"),
    "connects while the next one does": Row(
        {"a": "0.3 connects, 6 wins", "b": NEVER, "c": "0 wins"}, "a", 6, {"a": 0, "b": 0.25}, back="b c"
    ),
    "nobody starts while an earlier one holds the floor": Row(
        {"a": "0.3 connects, 6 fails", "b": "0.1 fails", "c": "0.1 wins"},
        "c",
        6.1,
        {"a": 0, "b": 0.25, "c": 6},
        closed="a",
    ),
    "two hold it, the later one wins": Row(
        {"a": "0.4 connects, 6 wins", "b": "0.1 connects, 1 wins", "c": "0 wins"},
        "b",
        1.25,
        {"a": 0, "b": 0.25},
        closed="a",
        back="a c",
    ),
    "two hold it, one fails": Row(
        {"a": "0.3 connects, 4 fails", "b": "0.2 connects, 6 fails", "c": "0 wins"},
        "c",
        6.25,
        {"a": 0, "b": 0.25, "c": 6.25},
        closed="a b",
    ),
    "the floor is free, but the last one has its head start": Row(
        {"a": "0.3 connects, 0.4 fails", "b": NEVER, "c": "0.2 wins"},
        "c",
        0.7,
        {"a": 0, "b": 0.25, "c": 0.5},
        closed="a",
        slow="b",
    ),
    "the floor is free, and its head start is long over": Row(
        {"a": "0.3 connects, 4 fails", "b": NEVER, "c": "0.2 wins"},
        "c",
        4.2,
        {"a": 0, "b": 0.25, "c": 4},
        closed="a",
        slow="b",
    ),
    "connected is not slow": Row(
        {"a": "0.3 connects", "b": "0.1 connects, 1 wins"}, "b", 1.25, {"a": 0, "b": 0.25}, closed="a", back="a"
    ),
    # Who waits for room stands in nobody's way.
    "waits for room": Row({"a": "0 waits", "b": "0.1 wins"}, "b", 0.1, {"a": 0, "b": 0}, back="a"),
    "all wait for room": Row(
        {"a": "0 waits, 2 connects, 3 wins", "b": "0 waits", "c": "0 waits"},
        "a",
        3,
        {"a": 0, "b": 0, "c": 0},
        back="b c",
    ),
    "waits, then connects while the next one does": Row(
        {"a": "0 waits, 0.1 connects, 6 wins", "b": NEVER, "c": "0 wins"}, "a", 6, {"a": 0, "b": 0}, back="b c"
    ),
    "began too late to be slow": Row(
        {"a": "0 waits, 1.9 begins", "b": "1 connects, 2 wins"}, "b", 2, {"a": 0, "b": 0}, back="a"
    ),
    "began early enough to be slow": Row(
        {"a": "0 waits, 1.7 begins", "b": "1 connects, 2 wins"}, "b", 2, {"a": 0, "b": 0}, slow="a"
    ),
    # A failure for all.
    "ends the race": Row({"a": "0.1 ends", "b": "0 wins"}, None, 0.1, {"a": 0}, back="b"),
    "ends the race for others": Row(
        {"a": NEVER, "b": "0.1 connects, 0.2 ends", "c": "0 wins"},
        None,
        0.45,
        {"a": 0, "b": 0.25},
        closed="b",
        back="a c",
    ),
    "ends the race for the one that holds the floor": Row(
        {"a": "0.4 connects, 6 wins", "b": "0.3 ends"}, None, 0.55, {"a": 0, "b": 0.25}, closed="a", back="a"
    ),
    "40 paths, the last one is good": Row(
        {**{f"p{number}": NEVER for number in range(39)}, "good": "0.1 wins"},
        "good",
        39 * HEAD_START + 0.1,
        {**{f"p{number}": number * HEAD_START for number in range(39)}, "good": 39 * HEAD_START},
        slow=" ".join(f"p{number}" for number in range(39)),
    ),
    "40 paths, the first one is good": Row(
        {"good": "0 wins", **{f"p{number}": NEVER for number in range(39)}},
        "good",
        0,
        {"good": 0},
        back=" ".join(f"p{number}" for number in range(39)),
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_race(row: Row, autojump_clock: MockClock) -> None:
    course = Course(row.paths)
    paths = list(course.paths.values())
    with trio.fail_after(FOREVER):
        finish = await race(paths, course.open, HEAD_START)
    assert (finish.won.name if finish.won else None) == row.winner
    assert finish.over == any("ends" in row.paths[name] for name in row.starts)
    assert trio.current_time() == pytest.approx(row.time)
    assert list(course.starts) == list(row.starts)
    assert course.starts == pytest.approx(row.starts)
    assert course.closed == row.closed.split()
    assert course.left_open == ([row.winner] if row.winner else [])
    assert [course.names[path] for path in finish.slow] == row.slow.split()
    assert [course.names[path] for path in paths] == row.back.split()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ends", [pytest.param(False, id="three winners"), pytest.param(True, id="one ends the race")])
async def test_in_the_same_moment(ends: bool, seed: int, autojump_clock: MockClock) -> None:
    """At most one wins. The others are closed, and what was as good as the winner stays on the list."""
    seeded(seed)
    course = Course({"a": NEVER, "b": NEVER, "c": NEVER})
    paths = list(course.paths.values())
    gong = trio.Event()

    async def open_path(runner: Runner) -> Session | Failure:
        name = course.names[runner.path]
        runner.move(Place.WAITING)  # so that all start at once
        await gong.wait()
        if ends and name == "b":
            return NOWHERE
        return course.connect(name, runner)

    async def ring() -> None:
        await trio.sleep(2)
        gong.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ring)
        finish = await race(paths, open_path, HEAD_START)
    assert trio.current_time() == 2
    assert finish.won is not None
    assert not finish.over
    assert len(course.sessions) == (2 if ends else 3)
    assert course.left_open == [finish.won.name]
    others = [name for name in ("a", "b", "c") if name != finish.won.name and not (ends and name == "b")]
    assert [course.names[path] for path in paths] == others
    assert finish.slow == ()


async def test_raced_again(autojump_clock: MockClock) -> None:
    """What came back starts first the next time, with what had not started behind it."""
    course = Course({"a": "0.4 connects", "b": "0.3 wins", "c": "1 wins", "d": "0 wins"})
    paths = list(course.paths.values())
    first = await race(paths, course.open, HEAD_START)
    assert first.won is not None
    assert [course.names[path] for path in paths] == ["a", "c", "d"]
    course.acts["a"] = [["0.1", "fails"]]
    course.starts.clear()
    second = await race(paths, course.open, HEAD_START)
    assert second.won is not None
    assert second.won.name == "d"
    assert course.starts == pytest.approx({"a": 0.55, "c": 0.65, "d": 0.9})
    assert [course.names[path] for path in paths] == []
    assert [course.names[path] for path in second.slow] == ["c"]
    assert course.left_open == ["b", "d"]


# Cancelled from outside


class Strike(trio.abc.Instrument):
    """Cancels a scope behind a number of steps of any task; none is done too early to be counted."""

    def __init__(self, scope: trio.CancelScope, limit: int) -> None:
        self.struck = False
        self._scope = scope
        self._left = limit

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self.struck = True
            self._scope.cancel()


COURSES = {
    "one of two": {"a": "0.1 connects, 1 wins", "b": "0 wins"},
    "the second": {"a": NEVER, "b": "0.1 connects, 0.2 wins", "c": NEVER},
    "at the same moment": {"a": "0.5 connects, 1 wins", "b": "0.25 connects, 0.75 wins"},
    "all fail": {"a": "0.3 connects, 1 fails", "b": "0.3 fails", "c": "0.1 connects, 0.2 fails"},
    "ended": {"a": "0.4 connects", "b": "0.3 ends"},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("paths", COURSES.values(), ids=COURSES.keys())
def test_cancelled_behind_every_step(paths: dict[str, str], seed: int) -> None:
    """Whoever cancels the race, in the moment of victory too, leaves nothing open."""

    async def struck_behind(limit: int) -> bool:
        course = Course(paths)
        left = list(course.paths.values())
        finish = None
        with trio.CancelScope() as scope:
            strike = Strike(scope, limit)
            trio.lowlevel.add_instrument(strike)
            finish = await race(left, course.open, HEAD_START)
        trio.lowlevel.remove_instrument(strike)
        won = finish.won if finish is not None else None
        assert course.left_open == ([won.name] if won is not None else [])
        assert not course.holding
        return strike.struck and finish is None

    limit = 0
    cancelled = True
    while cancelled:
        limit += 1
        seeded(seed)
        cancelled = trio.run(struck_behind, limit, clock=MockClock(autojump_threshold=0))
    assert limit > 5


async def test_cancelled_by_a_deadline_in_the_moment_of_victory(autojump_clock: MockClock) -> None:
    course = Course({"a": "0.1 connects, 1 wins"})
    finish = None
    with trio.move_on_after(1):
        finish = await race(list(course.paths.values()), course.open, HEAD_START)
    assert course.left_open == ([finish.won.name] if finish and finish.won else [])


async def test_bug_of_one_path_closes_all(autojump_clock: MockClock) -> None:
    course = Course({"a": "0.4 connects", "b": NEVER, "c": NEVER})

    async def open_path(runner: Runner) -> Session | Failure:
        if course.names[runner.path] == "b":
            await trio.sleep(0.3)
            raise ZeroDivisionError
        return await course.open(runner)

    with pytest.RaisesGroup(ZeroDivisionError):
        await race(list(course.paths.values()), open_path, HEAD_START)
    assert course.closed == ["a"]
    assert course.left_open == []


# Any race at all

_times = st.integers(0, 20).map(lambda tenth: tenth / 10)


@st.composite
def _acts(draw: st.DrawFn) -> str:
    times = sorted(draw(st.lists(_times, min_size=3, max_size=3)))
    names = [
        *draw(st.sampled_from([(), ("waits",)])),
        *draw(st.sampled_from([(), ("connects",)])),
        *draw(st.sampled_from([(), ("wins",), ("fails",), ("fails",), ("ends",)])),
    ]
    return ", ".join(f"{time} {name}" for time, name in zip(times, names, strict=False))


@settings(max_examples=300, deadline=None)
@given(
    paths=st.lists(_acts(), max_size=8).map(lambda acts: {f"p{number}": one for number, one in enumerate(acts)}),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_race(paths: dict[str, str], seed: int) -> None:
    """At most one wins, everything else is closed, and no path is lost or tried twice."""

    async def check() -> None:
        course = Course(paths)
        left = list(course.paths.values())
        finish = None
        with trio.move_on_after(100):
            finish = await race(left, course.open, HEAD_START)
        await wait_all_tasks_blocked()
        if finish is None:
            assert not any("wins" in paths[name] or "ends" in paths[name] for name in course.starts)
            assert course.left_open == []
            return
        won = finish.won.name if finish.won is not None else None
        assert course.left_open == ([won] if won is not None else [])
        back = [course.names[path] for path in left]
        slow = [course.names[path] for path in finish.slow]
        done = [name for name in course.starts if name not in back and name not in slow]
        assert back == [name for name in paths if name in back]
        assert sorted([*back, *slow, *done]) == sorted(paths)
        assert all(name == won or "fails" in paths[name] or "ends" in paths[name] for name in done)
        assert list(course.starts) == list(paths)[: len(course.starts)]
        assert all("connects" not in paths[name] or course.starts[name] < trio.current_time() for name in slow)
        if won is None and not any("ends" in paths[name] for name in done):
            assert back == []

    seeded(seed)
    trio.run(check, clock=MockClock(autojump_threshold=0))
