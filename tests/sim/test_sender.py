"""The simulated senders: where a recipient goes next, when, over which connections, and what a crash leaves."""

from __future__ import annotations

import dataclasses
import random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mailgate.testing import Close, Delay, Reset, Silence, Speaks, Turns
from sim.content import digest
from sim.schedules import (
    EXIM,
    LIFETIME,
    OPENSMTPD,
    POSTFIX,
    POSTFIX_INSIDE,
    SCHEDULES,
    SENDMAIL,
    SENDMAIL_INSIDE,
    Schedule,
)
from sim.sender_site import EXTENSIONS, GATEWAYS, A, B, C, Site, script

ALL = "1 delivered"
NEXT = "12 delivered"
LATER = "11 delivered"

DEFERRALS = {
    "rcpt-451": script(recipients={B: Turns("451 no", "250 ok")}),
    "mail-451": script(mail=Turns("451 no", "250 ok")),
    "data-451": script(data=Turns("451 no", "354 go")),
    "dot-451": script(dot=Turns("451 no", "250 ok")),
    "dot-close": script(dot=Turns(Close(), "250 ok")),
    "greeting-421": script(greeting=Turns(("421 no", Close()), "220 hi")),
    "rcpt-550": script(recipients={B: "550 no"}),
}

# What gw1 does the first time | who sends | the way of a and b
WAYS = [
    pytest.param("rcpt-451", POSTFIX, [ALL, NEXT]),
    pytest.param("rcpt-451", EXIM, [ALL, NEXT]),
    pytest.param("rcpt-451", SENDMAIL, [ALL, NEXT]),
    pytest.param("rcpt-451", OPENSMTPD, [ALL, LATER]),
    pytest.param("mail-451", POSTFIX, [NEXT, NEXT]),
    pytest.param("mail-451", OPENSMTPD, [LATER, LATER]),
    pytest.param("data-451", EXIM, [NEXT, NEXT]),
    pytest.param("data-451", OPENSMTPD, [LATER, LATER]),
    pytest.param("dot-451", POSTFIX, [NEXT, NEXT]),
    pytest.param("dot-451", SENDMAIL, [NEXT, NEXT]),
    pytest.param("dot-451", OPENSMTPD, [LATER, LATER]),
    pytest.param("dot-close", EXIM, [NEXT, NEXT]),
    pytest.param("dot-close", OPENSMTPD, [LATER, LATER]),
    pytest.param("greeting-421", POSTFIX, [NEXT, NEXT]),
    pytest.param("greeting-421", OPENSMTPD, [NEXT, NEXT]),
    pytest.param("rcpt-550", POSTFIX, [ALL, "1 refused"]),
    pytest.param("rcpt-550", OPENSMTPD, [ALL, "1 refused"]),
]


@pytest.mark.parametrize(("what", "schedule", "ways"), WAYS, ids=lambda value: getattr(value, "name", None))
async def test_where_a_recipient_goes(
    what: str, schedule: Schedule, ways: list[str], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, schedule, DEFERRALS[what], script())
        site.submit(A, B)
        await site.settle()
        assert site.way == ways


async def test_opensmtpd_goes_on_after_two_seconds(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, OPENSMTPD, script(greeting=("421 no", Close())), script())
        site.submit(A)
        await site.settle()
        first, second = site.history.attempts
        assert (first.stage, second.began - first.ended) == ("greeting", 2)


ONE_BY_ONE = script(rcpt=lambda asked: "452 4.5.3 one at a time" if asked.recipients else None)

# Who sends to gateways that take one recipient at a time | the way of a, b and c | when c's last attempt was
ON_452 = [
    pytest.param(EXIM, [ALL, "11 delivered", "111 delivered"], 0, id="Exim"),
    pytest.param(POSTFIX, [ALL, NEXT, "121 delivered"], 600, id="Postfix"),
    pytest.param(SENDMAIL, [ALL, NEXT, "121 delivered"], 600, id="sendmail"),
    pytest.param(OPENSMTPD, [ALL, LATER, "111 delivered"], 1600, id="OpenSMTPD"),
    pytest.param(SENDMAIL_INSIDE, [ALL, ALL, ALL], 0, id="one-in-a-transaction"),
]


@pytest.mark.parametrize(("schedule", "ways", "last"), ON_452)
async def test_452(schedule: Schedule, ways: list[str], last: float, autojump_clock: MockClock) -> None:
    plain = dataclasses.replace(ONE_BY_ONE, extensions=EXTENSIONS[:2])
    async with trio.open_nursery() as nursery:
        site = Site(nursery, schedule, plain, plain)
        site.submit(A, B, C)
        await site.settle()
        assert site.way == ways
        assert round(site.history.settled[-1].time) == last


async def test_exim_takes_one_connection_for_what_heard_452(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, EXIM, dataclasses.replace(ONE_BY_ONE, extensions=()), script())
        site.submit(A, B, C)
        await site.settle()
        (verbs,) = site.said(1)
        assert [verb for verb in verbs if verb.isalpha()] == [
            "EHLO",
            *("MAIL", "RCPT", "RCPT", "RCPT", "DATA"),
            *("MAIL", "RCPT", "RCPT", "DATA"),
            *("MAIL", "RCPT", "DATA"),
            "QUIT",
        ]


async def test_exim_asks_for_prdr(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, EXIM, script(outcomes={B: "550 no", C: Turns("451 no", "250 ok")}), script())
        site.submit(A, B, C)
        site.submit(A)
        await site.settle()
        assert site.way == [ALL, "1 refused", NEXT]
        asked = {one.reverse_path: one.parameters[1:] for one in reversed(site.mtas[0].messages)}
        assert asked == {"m1@s1.example": ("PRDR",), "m2@s1.example": ()}


async def test_postfix_gives_up_after_two_sessions(autojump_clock: MockClock) -> None:
    no = script(rcpt="451 no")
    async with trio.open_nursery() as nursery:
        site = Site(nursery, POSTFIX, script(), no, no, script())
        site.network.refuse(GATEWAYS[0])
        site.submit(A)
        await site.settle(200)
        assert site.way == ["123"], "one that could not be reached does not count"


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("schedule", [pytest.param(one, id=one.name) for one in SCHEDULES])
async def test_everybody_delivers(schedule: Schedule, protocol: Speaks, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, schedule, script(), protocol=protocol)
        sent = [site.submit(A, B, "x@e.example", A) for _ in range(5)]
        await site.settle()
        assert len(site.history.settled) == 20
        taken = sorted(name for message in site.mtas[0].messages for name in message.recipients)
        assert taken == sorted([A, A, B, "x@e.example"] * 5)
        assert {digest(message.content) for message in site.mtas[0].messages} == {message.digest for message in sent}


async def test_each_copy_of_a_recipient_is_settled_by_its_own_reply(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(
            nursery,
            POSTFIX_INSIDE,
            script(outcomes={A: Turns("552 full", "250 ok", "451 no", "250 ok")}),
            protocol="lmtp",
        )
        site.submit(A, A, A)
        await site.settle()
        assert site.way == ["1 refused", "1 delivered", "11 delivered"]


# When


async def test_it_tries_again_as_its_schedule_says(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, POSTFIX, script(), script())
        for address in GATEWAYS:
            site.network.refuse(address)
        nursery.start_soon(site.run)
        await trio.sleep(2)
        site.submit(A)
        await trio.sleep(5000)
        assert site.begins == [2, 2, 600, 600, 1200, 1200, 2400, 2400, 4800, 4800]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("schedule", [POSTFIX, EXIM, SENDMAIL, OPENSMTPD], ids=lambda one: one.name)
async def test_it_gives_up_after_five_days(schedule: Schedule, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, schedule, script(rcpt="451 4.2.1 no"))
        site.submit(A, B)
        await site.settle()
        assert [one.state for one in site.history.settled] == ["expired"] * 2
        assert all(LIFETIME <= one.time <= LIFETIME + schedule.gap(LIFETIME) for one in site.history.settled)
        assert site.sender.queued == 0


async def test_so_many_deliveries_at_a_time(autojump_clock: MockClock) -> None:
    most = 0
    async with trio.open_nursery() as nursery:
        site = Site(nursery, SENDMAIL, script(dot=Delay(10)), deliveries=3)
        nursery.start_soon(site.run)
        for _ in range(10):
            site.submit(A)
        for _ in range(45):
            most = max(most, site.mtas[0].open_sessions)
            await trio.sleep(1)
        assert (most, len(site.history.settled)) == (3, 10)
        assert site.history.settled[-1].time == pytest.approx(40, abs=1)
        nursery.cancel_scope.cancel()


# Over which connections

# Who | how long after the first message the second comes | the number of sessions
KEPT = [
    pytest.param(OPENSMTPD, 9, 1, id="OpenSMTPD"),
    pytest.param(OPENSMTPD, 11, 2, id="OpenSMTPD-later"),
    pytest.param(POSTFIX, 1, 2, id="Postfix"),
    pytest.param(EXIM, 1, 2, id="Exim"),
]


@pytest.mark.parametrize(("schedule", "seconds", "sessions"), KEPT)
async def test_kept_connections(schedule: Schedule, seconds: float, sessions: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, schedule, script())
        site.submit(A)
        nursery.start_soon(site.settle)
        await trio.sleep(seconds)
        site.submit(A)
    assert len(site.history.settled) == 2
    verbs = site.said(1)
    assert (len(verbs), [one[-1] for one in verbs]) == (sessions, ["QUIT"] * sessions)


async def test_postfix_keeps_a_connection_while_others_are_busy(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, POSTFIX, script(dot=Turns(Delay(3), Delay(2), "250 ok")))
        nursery.start_soon(site.settle)
        site.submit(A)
        site.submit(A)
        await trio.sleep(3)
        site.submit(A)
    assert len(site.history.settled) == 3
    assert sorted(one.count("MAIL") for one in site.said(1)) == [1, 2]


async def test_exim_sends_what_is_due_over_one_connection(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, EXIM, script(greeting=Turns(*(("421 no", Close()),) * 5, "220 hi")), deliveries=1)
        for _ in range(5):
            site.submit(A)
        await site.settle()
    assert [one.count("MAIL") for one in site.said(1)] == [0] * 5 + [5]


async def test_so_many_messages_over_a_connection(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, dataclasses.replace(EXIM, messages=2), script(dot=Delay(5)), deliveries=1)
        for _ in range(5):
            site.submit(A)
        await site.settle()
    assert [one.count("MAIL") for one in site.said(1)] == [2, 2, 1]


# How a kept connection ends meanwhile
ENDS = [
    pytest.param(("421 4.4.2 bye", Close()), id="421"),
    pytest.param((Close(),), id="closed"),
    pytest.param((Reset(),), id="reset"),
]


@pytest.mark.parametrize("steps", ENDS)
async def test_a_stale_connection_is_replaced(
    steps: tuple[str | Close | Reset, ...], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, OPENSMTPD, script(), script())
        nursery.start_soon(site.settle)
        site.submit(A)
        await trio.sleep(5)
        site.mtas[0].dismiss(*steps)
        await trio.testing.wait_all_tasks_blocked()
        site.submit(B)
    assert [one.state for one in site.history.settled] == ["delivered", "delivered"]
    last = site.history.attempts[1:]
    assert [(one.gateway, one.stage, one.state) for one in last] == [
        (GATEWAYS[0], "MAIL", "deferred"),
        (GATEWAYS[0], "dot", "delivered"),
    ]
    assert last[1].ended < 6, "at once"


# Crashes


async def test_mail_may_come_while_nothing_runs(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, POSTFIX, script())
        site.submit(A)
        await trio.sleep(1000)
        await site.settle()
        assert (site.way, site.begins) == ([ALL], [1000])


# At which of the gateway's steps the sender crashes | how often a and b have been taken in the end
SLOW = {
    "greeting": ({"greeting": Turns(Silence(), "220 hi")}, [1, 1]),
    "mail": ({"mail": Turns(Silence(), "250 ok")}, [1, 1]),
    "rcpt": ({"rcpt": Turns("250 ok", Silence(), "250 ok")}, [1, 1]),
    "data": ({"data": Turns(Silence(), "354 go")}, [1, 1]),
    "dot": ({"dot": Turns("250 a", (Delay(60), "250 b"), "250 ok")}, [1, 2]),
}


@pytest.mark.parametrize(("what", "taken"), [pytest.param(*row, id=name) for name, row in SLOW.items()])
async def test_a_crash_loses_nothing_and_repeats_nothing_that_was_heard(
    what: dict[str, object], taken: list[int], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, POSTFIX_INSIDE, script(**what), protocol="lmtp")
        site.submit(A, B)
        nursery.start_soon(site.run)
        await trio.sleep(30)
        site.crash()
        await trio.sleep(10)
        await site.settle()
        assert [one.split()[1] for one in site.way] == ["delivered", "delivered"]
        everybody = [name for message in site.mtas[0].messages for name in message.taken]
        assert [everybody.count(name) for name in (A, B)] == taken


async def test_a_crash_at_any_time(autojump_clock: MockClock) -> None:
    """Somebody who crashes again and again delivers everything in the end."""
    async with trio.open_nursery() as nursery:
        site = Site(nursery, OPENSMTPD, script(pace=0.3), script(pace=0.2))
        for _ in range(30):
            site.submit(A, B)
        chance = random.Random(7)
        for _ in range(60):
            nursery.start_soon(site.run)
            await trio.sleep(chance.uniform(0, 3))
            site.crash()
            await trio.testing.wait_all_tasks_blocked()
            assert site.network.open_streams == 0
        await site.settle()
        assert sorted((one.message, one.position) for one in site.history.settled) == sorted(
            (f"m{number}", position) for number in range(1, 31) for position in (0, 1)
        )
