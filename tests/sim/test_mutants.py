"""Mutants do what they say, and when they are gone everything is as it was."""

from __future__ import annotations

import inspect
import sys

import pytest
import trio
from trio.testing import MockClock
from world import (
    ANOTHER_HOP,
    DONE,
    FULL,
    NO_PATH,
    NO_ROUTE,
    NOT_FOUND,
    TAKEN,
    UNKNOWN,
    Hop,
    World,
)

from mailgate.relay.settings import Limits
from mailgate.testing import Close, Delay, During, Reset, Script, Silence
from sim import acts_together
from sim.acts import (
    Case,
    after_a_repair,
    answers,
    beginning,
    commits,
    down,
    duplicate,
    files,
    goodbye,
    half,
    half_and_gone,
    killed,
    no_path,
    one,
    one_by_one,
    other_listener,
    others,
    outcomes,
    paths_tried,
    patience,
    quietly_down,
    second_lookup,
    stranger,
    streams,
    tasks,
    two,
    unknown,
    welcome,
)
from sim.mutants import MUTANTS, Mutant

AGREED = "250 2.0.0 Taken"
REFUSED = "550 5.4.0 Refused"
NOT_ALL = "451 4.3.0 Not all recipients have the message"
NO = "550 5.7.1 no"
BUSY = "451 4.3.0 busy"

OF_ONE = outcomes("u@a.example")
OF_BOTH = outcomes("u@a.example", "v@b.example", speaks="lmtp")

CASES: dict[str, Case] = {
    "told at commit": Case(one(Script(dot=NO)), OF_ONE, (NO,), (AGREED,)),
    "deferred is delivered": Case(one(Script(dot=BUSY)), OF_ONE, (BUSY,), (AGREED,)),
    "unknown is delivered": Case(one(Script(dot=Close())), OF_ONE, (UNKNOWN,), (AGREED,)),
    "first outcome for all": Case(two(Script(), Script(dot=(Delay(1), NO))), OF_BOTH, (DONE, NO), (DONE, DONE)),
    "LMTP has one reply": Case(
        (Hop("a", Script(outcomes={"v@a.example": NO}), speaks="lmtp"),),
        outcomes("u@a.example", "v@a.example", speaks="lmtp"),
        (DONE, NO),
        (DONE, DONE),
    ),
    "PRDR without its end": Case(
        one(Script(extensions=("PRDR", "PIPELINING"), prdr_end=BUSY)),
        outcomes("u@a.example", speaks="lmtp"),
        (BUSY,),
        (DONE,),
    ),
    "unknown is refused": Case(one(Script(dot=Close())), OF_ONE, (UNKNOWN,), (REFUSED,)),
    "no path is final": Case(one(Script()), no_path, (NO_PATH,), (REFUSED,)),
    "4xx at RCPT becomes 5xx": Case(
        one(Script(rcpt="450 4.2.0 later")), answers("u@a.example"), ("450 4.2.0 later",), ("550 5.2.0 later",)
    ),
    "4xx at the dot becomes 5xx": Case(one(Script(dot=BUSY)), OF_ONE, (BUSY,), ("551 5.3.0 busy",)),
    "refusals change places": Case(
        one(Script(recipients={"v@a.example": NO})), answers("u@a.example", "v@a.example"), (TAKEN, NO), (NO, TAKEN)
    ),
    "outcomes overtake": Case(two(Script(dot=Delay(1)), Script(dot=NO)), OF_BOTH, (DONE, NO), (NO, DONE)),
    "outcomes by next hop": Case(
        two(Script(dot=NO), Script()),
        outcomes("u@a.example", "v@b.example", "w@a.example", speaks="lmtp"),
        (NO, DONE, NO),
        (NO, NO, DONE),
    ),
    "duplicates are merged": Case(one(Script()), duplicate, (DONE, DONE, "250 2.0.0 Fine"), (DONE, "250 2.0.0 Fine")),
    "outcomes by address": Case(one(Script()), duplicate, (DONE, DONE, "250 2.0.0 Fine"), ()),
    "what is there is all": Case(one(Script()), half, 0, 1),
    "the client's end is a dot": Case(one(Script()), half_and_gone, 0, 1),
    "the rest is replayed": Case(one(Script(body=(During(100_000, Close()),)), Script()), beginning, True, False),
    "unknown is tried elsewhere": Case(one(Script(dot=Close()), Script()), paths_tried, (1, 0), (1, 1)),
    "deferred is tried elsewhere": Case(one(Script(dot=BUSY), Script()), paths_tried, (1, 0), (1, 1)),
    "unknown is logged as deferred": Case(one(Script(dot=Close())), unknown, {"unknown": 1}, {"deferred": 1}),
    "all or nothing": Case(two(Script(), Script(dot=NO)), OF_BOTH, (DONE, NO), (NOT_ALL, NOT_ALL)),
    "several next hops at once": Case(
        two(Script(), Script()), answers("u@a.example", "v@b.example"), (TAKEN, ANOTHER_HOP), (TAKEN, TAKEN)
    ),
    "several mailboxes at once": Case(
        (Hop("a", speaks="lmtp"),), answers("u@a.example", "v@a.example"), (TAKEN, FULL), (TAKEN, TAKEN)
    ),
    "RCPT waits for ever": Case(one(Script(rcpt=Silence())), patience, 60, None),
    "DATA waits for ever": Case(one(Script(data=Silence())), patience, 60, None),
    "the dot waits for ever": Case(one(Script(dot=Silence())), patience, 540, None),
    "a task is left": Case(one(Script()), tasks, 0, 1),
    "a stream is left": Case(one(Script(rcpt=Reset())), streams, 0, 1),
    "kept for ever": Case(one(Script()), streams, 0, 1),
    "a file is left": Case(one(Script()), files, 0, 1, Limits(body_memory=100)),
    "any route for anybody": Case(one(Script()), other_listener, (NO_ROUTE,), (TAKEN,)),
    "one for all": Case(one(Script()), others, False, True),
    "a bug is everybody's": Case(one(Script(rcpt=Close())), killed, 0, 1),
    "refusals count as outages": Case(one(Script(mail="550 5.1.0 no")), down, 0, 1),
    "lost sessions count as outages": Case(one(Script(rcpt=Close())), down, 0, 1),
    "down for long": Case(one(Script()), after_a_repair, (TAKEN,), (NO_PATH,)),
    "a failure is an answer": Case(
        (Hop("a", Script(), mx=(10,)),),
        second_lookup,
        ((NOT_FOUND,), (TAKEN,)),
        ((NOT_FOUND,), (NOT_FOUND,)),
    ),
    "everybody is admitted": Case(one(Script()), stranger, "554", "220"),
    "a kept session is anybody's": Case(two(Script(), Script()), one_by_one, (1, 1), (2, 0)),
    "only the first path": Case(one(Script(), Script()), no_path, (TAKEN,), (NO_PATH,)),
    "the dot's reply is not waited for": Case(one(Script(dot=Delay(300))), OF_ONE, (DONE,), (UNKNOWN,)),
    "clients' sessions linger": Case(one(Script()), goodbye, 0, 50),
    "sent away for nothing": Case(one(Script()), welcome, ["250"], ["250", "421"]),
    "outages are kept quiet": Case(one(Script(mail="550 5.1.0 no")), quietly_down, (0, 0), (0, 1)),
    "crashes leave no trace": Case(one(Script()), commits, 1, 0),
    **acts_together.CASES,
}


async def seen(case: Case) -> object:
    """What is seen of a gateway of its own, which is then ended as it stands."""
    async with trio.open_nursery() as nursery, World(nursery, *case.hops, limits=case.limits) as world:
        what = await case.act(world)
        nursery.cancel_scope.cancel()
    return what


ALL = pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])


def test_every_mutant_is_a_case_and_has_a_name_of_its_own() -> None:
    assert list(CASES) == [mutant.name for mutant in MUTANTS]


@ALL
async def test_a_mutant_does_what_it_says(mutant: Mutant, autojump_clock: MockClock) -> None:
    case = CASES[mutant.name]
    assert await seen(case) == case.sound
    with mutant.plant():
        assert await seen(case) == case.mutated
    assert await seen(case) == case.sound


@ALL
def test_a_mutant_leaves_nothing_behind(mutant: Mutant) -> None:
    before = attributes()
    with mutant.plant():
        assert differences(before, attributes()) != []
    assert differences(before, attributes()) == []


def attributes() -> dict[str, object]:
    """Of all modules of mailgate, and of the classes in them."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] == "mailgate"]
    found: dict[str, object] = {}
    for module in modules:
        for name, value in vars(module).items():
            found[f"{module.__name__}.{name}"] = value
            if inspect.isclass(value):
                found |= {f"{module.__name__}.{name}.{key}": inner for key, inner in vars(value).items()}
    return found


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) is not after.get(name)]
