"""When real mail servers try again, as they were measured to do, and how they split a message."""

from __future__ import annotations

import itertools
import random

import pytest

from mailgate.network import TcpAddress
from mailgate.testing import Attempt, Stage, State
from sim.queue import Queue
from sim.records import History, Message
from sim.schedules import (
    DAY,
    EXIM,
    EXIM_INSIDE,
    LIFETIME,
    OPENSMTPD,
    OPENSMTPD_INSIDE,
    POSTFIX,
    POSTFIX_INSIDE,
    SCHEDULES,
    SENDMAIL,
    SENDMAIL_INSIDE,
    Schedule,
    bound,
)

HOUR = 3600.0

GATEWAY = TcpAddress("192.0.2.1", 25)

REFUSED = Attempt(GATEWAY, Stage.RCPT, "451 4.4.1 no path", State.DEFERRED, 0)


def message(submitted: float, *recipients: str) -> Message:
    return Message("m1", "s1", "m1@s1.example", recipients or ("u@d.example",), "", 100, submitted, outbound=False)


def runs(schedule: Schedule, begins: float, until: float = 10 * DAY) -> list[float]:
    """The message's ages at all its runs, each of which fails at once; the program had started that long before."""
    queue = Queue(schedule, History(0, ()))
    queue.start(0)
    queue.add(message(begins), begins)
    ages: list[float] = []
    while (now := queue.next_due) < until:
        entry = queue.take(now)
        assert entry is not None
        ages.append(now - begins)
        queue.told(entry, 0, REFUSED, now)
        queue.put_back(entry, now)
    return ages


# Who | when its program had begun | the ages at the first tries. That of the programs that were measured is the time
# between a run over the queue and the message, as it was then: 2 s.
MEASURED = [
    pytest.param(POSTFIX, 2, [0, 598, 1198, 2398, 4798, 8998], id="postfix"),
    pytest.param(EXIM, 2, [0, 1798, 3598, 5398, 7198, 8998, 14398], id="exim"),
    pytest.param(SENDMAIL, 2, [0, 598, 1198, 1798], id="sendmail"),
    pytest.param(OPENSMTPD, 2, [0, 400, 1600, 3600, 6400], id="opensmtpd"),
    pytest.param(POSTFIX_INSIDE, 30, [0, 90, 210, 450], id="postfix-inside"),
    pytest.param(EXIM_INSIDE, 0, [0, 20, 40, 60], id="exim-inside"),
    pytest.param(SENDMAIL_INSIDE, 30, [0, 90, 210, 450], id="sendmail-inside"),
    pytest.param(OPENSMTPD_INSIDE, 30, [0, 10, 40, 90, 160], id="opensmtpd-inside"),
]


@pytest.mark.parametrize(("schedule", "begins", "ages"), MEASURED)
def test_tries(schedule: Schedule, begins: float, ages: list[float]) -> None:
    assert runs(schedule, begins)[: len(ages)] == ages


every = pytest.mark.parametrize("schedule", [pytest.param(one, id=one.name) for one in SCHEDULES])


@every
def test_a_message_expires_after_five_days(schedule: Schedule) -> None:
    *_, before, last = runs(schedule, 17)
    assert before < LIFETIME <= last


@every
def test_no_gap_is_longer_than_said(schedule: Schedule) -> None:
    chance = random.Random(1)
    for _ in range(20):
        ages = runs(schedule, chance.uniform(0, 5000))
        gaps = [later - age for age, later in itertools.pairwise(ages)]
        assert all(gap <= schedule.gap(age) + 1e-6 for age, gap in zip(ages, gaps, strict=False))
        assert any(gap > schedule.gap(age) * 0.5 for age, gap in zip(ages, gaps, strict=False)), "it says too much"


@every
def test_a_working_path_is_tried_within_the_bound(schedule: Schedule) -> None:
    begins = 321.0
    ages = runs(schedule, begins)
    for works in range(0, int(LIFETIME), 1777):
        first = next(age for age in ages if age >= works)
        assert begins + first <= bound(schedule, begins, begins + works)


def test_the_bound_grows_with_a_run_that_is_under_way() -> None:
    assert bound(SENDMAIL, 100, 1000) == 1601
    assert bound(SENDMAIL, 100, 1000, run=60) == 1661
    assert bound(SENDMAIL, 100, 50) == 701, "it was not there before"


NAMES = ("a@x.example", "b@y.example", "c@x.example", "a@x.example")

SPLITS = [
    pytest.param(SENDMAIL, [[0, 1, 2, 3]], id="together"),
    pytest.param(POSTFIX, [[0, 2, 3], [1]], id="by-domain"),
    pytest.param(SENDMAIL_INSIDE, [[0], [1], [2], [3]], id="one-by-one"),
]


@pytest.mark.parametrize(("schedule", "deliveries"), SPLITS)
def test_deliveries(schedule: Schedule, deliveries: list[list[int]]) -> None:
    assert schedule.deliveries(NAMES) == deliveries


def test_a_delivery_has_so_many_recipients_at_most() -> None:
    split = POSTFIX.deliveries([f"u{number}@x.example" for number in range(120)])
    assert [len(one) for one in split] == [50, 50, 20]
    assert list(itertools.chain(*split)) == list(range(120))


def test_what_was_under_way_is_due_at_the_next_start() -> None:
    queue = Queue(POSTFIX, History(0, ()))
    queue.start(0)
    queue.add(message(10), 10)
    assert queue.take(10) is not None
    assert queue.take(10) is None
    queue.start(100)
    assert (queue.next_due, queue.recipients) == (100, 1)


def test_what_rests_goes_on_resting_at_the_next_start() -> None:
    queue = Queue(POSTFIX, History(0, ()))
    queue.start(0)
    queue.add(message(10), 10)
    entry = queue.take(10)
    assert entry is not None
    queue.put_back(entry, 11)
    queue.start(100)
    assert queue.next_due == 400, "its 300 s are over at 311"


def test_recipients_are_settled_by_position() -> None:
    history = History(0, ())
    queue = Queue(SENDMAIL, history)
    queue.add(message(0, "a@x.example", "a@x.example", "b@x.example"), 0)
    entry = queue.take(0)
    assert entry is not None
    queue.told(entry, 1, Attempt(GATEWAY, Stage.DOT, "552 full", State.REFUSED, 3), 5)
    queue.told(entry, 0, Attempt(GATEWAY, Stage.DOT, "250 ok", State.DELIVERED, 3), 6)
    queue.told(entry, 2, REFUSED, 7)
    assert [(one.position, one.state, one.time) for one in history.settled] == [(1, "refused", 5), (0, "delivered", 6)]
    assert [(one.position, one.began, one.ended, one.stage) for one in history.attempts] == [
        (1, 2, 5, "dot"),
        (0, 3, 6, "dot"),
        (2, 7, 7, "RCPT"),
    ]
    assert queue.recipients == 1
