"""Several next hops and one reply: who may write its dot, when nobody is to have the message, and what is replied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mailgate.protocol.reply import Reply, reply
from mailgate.relay.outcome import DELIVERED_BEFORE, UNKNOWN, Kind, Outcome
from mailgate.relay.together import (
    KEPT_BACK,
    NOT_ALL,
    NOT_ALL_WILLING,
    begun,
    doomed,
    one_reply,
    passes,
    to_commit,
    to_hand_over,
)

TAKEN = Outcome(Kind.DELIVERED, reply(250, "2.0.0", "taken"))
TAKEN_TOO = Outcome(Kind.DELIVERED, reply(250, "2.6.0", "queued"))
BUSY = Outcome(Kind.DEFERRED, reply(451, "4.3.0", "busy"))
BUSY_TOO = Outcome(Kind.DEFERRED, reply(450, "4.7.1", "busy too"))
REFUSED = Outcome(Kind.REJECTED, reply(554, "5.6.0", "spam"))
REFUSED_TOO = Outcome(Kind.REJECTED, reply(550, "5.7.1", "spam, too"))


@dataclass(frozen=True)
class Part:
    """A delivery, as far as the order of dots is concerned."""

    name: str
    open: bool = True
    ready: bool = False
    undecided: bool = False


def parts(text: str) -> list[Part]:
    """From `a:writes b:ready c:dot d:done`."""
    made = []
    for word in text.split():
        name, stage = word.split(":")
        made.append(Part(name, open=stage != "done", ready=stage == "ready", undecided=stage == "dot"))
    return made


# deliveries in the order of their first recipients, outcomes so far → who may write its dot, is nobody to have it
ORDER: dict[str, tuple[str, Sequence[Outcome], str, bool]] = {
    "some still write": ("a:ready b:writes", [], "", False),
    "all are ready: the first alone": ("a:ready b:ready c:ready", [], "a", False),
    "the first one lost its session": ("a:writes b:ready", [], "", False),
    "one delivery": ("a:ready", [], "a", False),
    "the first one's reply is awaited": ("a:dot b:ready c:ready", [], "", False),
    "it has accepted": ("a:done b:ready c:ready", [TAKEN], "bc", False),
    "it has accepted, and another one lost its session": ("a:done b:writes c:ready", [TAKEN], "c", False),
    "it has accepted a recipient, and its replies go on": ("a:dot b:ready", [TAKEN], "b", False),
    "it has refused a recipient, and its replies go on": ("a:dot b:ready", [REFUSED], "", False),
    "it has refused for now": ("a:done b:ready c:ready", [BUSY], "bc", True),
    "it has refused": ("a:done b:ready", [REFUSED], "b", True),
    "its outcome is unknown": ("a:done b:ready", [UNKNOWN], "b", True),
    "one has no path left": ("a:ready b:done", [BUSY], "a", True),
    "one has no path left while a reply is awaited": ("a:dot b:done c:ready", [BUSY], "", False),
    "a later one has refused": ("a:done b:done c:ready", [TAKEN, REFUSED], "c", False),
    "one had it before": ("a:done b:ready c:ready", [DELIVERED_BEFORE], "bc", False),
    "all is over": ("a:done b:done", [TAKEN, TAKEN], "", False),
}


@pytest.mark.parametrize(("deliveries", "outcomes", "may_commit", "nobody"), ORDER.values(), ids=ORDER.keys())
def test_order(deliveries: str, outcomes: Sequence[Outcome], may_commit: str, nobody: bool) -> None:
    made = parts(deliveries)
    assert doomed(made, outcomes) is nobody
    if not nobody:  # otherwise nobody is asked
        assert "".join(part.name for part in to_commit(made, outcomes)) == may_commit


BEGUN: dict[str, tuple[str, Sequence[Outcome], bool]] = {
    "nothing is out": ("a:ready b:writes", [], False),
    "a dot is out": ("a:dot b:writes", [], True),
    "somebody has it": ("a:done b:writes", [TAKEN], True),
    "nobody has it": ("a:done b:writes", [BUSY], False),
    "somebody may have it, and that will not be known": ("a:done b:writes", [UNKNOWN], False),
}


@pytest.mark.parametrize(("deliveries", "outcomes", "wanted"), BEGUN.values(), ids=BEGUN.keys())
def test_begun(deliveries: str, outcomes: Sequence[Outcome], wanted: bool) -> None:
    assert begun(parts(deliveries), outcomes) is wanted


PASSES: dict[str, bool] = {
    "451 4.3.0 busy": True,
    "452 4.3.1 disk full": True,
    "421 4.3.2 going down": True,
    "450 4.2.0 greylisted": False,
    "452 4.2.2 mailbox full": False,
    "451 4.7.1 greylisted": False,
    "554 5.3.0 no": False,
    "250 2.0.0 taken": False,
}


@pytest.mark.parametrize("theirs", PASSES)
def test_what_may_change_while_a_client_waits(theirs: str) -> None:
    code, enhanced, text = theirs.split(maxsplit=2)
    kind = {"2": Kind.DELIVERED, "4": Kind.DEFERRED, "5": Kind.REJECTED}[code[0]]
    assert passes(Outcome(kind, reply(int(code), enhanced, text))) is PASSES[theirs]


def test_the_unknown_does_not_pass() -> None:
    assert not passes(UNKNOWN)


HANDED_OVER: dict[str, tuple[Sequence[Outcome], bool]] = {
    "all have it": ([TAKEN, TAKEN], False),
    "one refuses for now": ([TAKEN, BUSY], True),
    "one refuses": ([REFUSED, TAKEN], True),
    "nobody has it": ([BUSY, REFUSED], False),
    "one is unknown": ([TAKEN, UNKNOWN, BUSY], False),
}


@pytest.mark.parametrize(("outcomes", "wanted"), HANDED_OVER.values(), ids=HANDED_OVER.keys())
def test_what_is_handed_over(outcomes: Sequence[Outcome], wanted: bool) -> None:
    assert to_hand_over(outcomes) is wanted


REPLIES: dict[str, tuple[Sequence[Outcome], Reply]] = {
    "one": ([TAKEN], TAKEN.reply),
    "one is refused": ([REFUSED], REFUSED.reply),
    "all have it": ([TAKEN, TAKEN_TOO], TAKEN.reply),
    "all are refused in the same words": ([REFUSED, REFUSED], REFUSED.reply),
    "all are refused": (
        [REFUSED, REFUSED_TOO],
        reply(554, "5.0.0", "Refused:", "554 5.6.0 spam", "550 5.7.1 spam, too"),
    ),
    "all have it, one from before": ([DELIVERED_BEFORE, TAKEN], TAKEN.reply),
    "all have it from before": ([DELIVERED_BEFORE, DELIVERED_BEFORE], DELIVERED_BEFORE.reply),
    "one has it from before, one is refused": ([DELIVERED_BEFORE, REFUSED], NOT_ALL_WILLING),
    "all are refused for now in the same words": ([BUSY, BUSY], BUSY.reply),
    "all are refused for now": ([BUSY_TOO, BUSY], NOT_ALL),
    "one is refused for now and kept the others back": ([KEPT_BACK, BUSY], NOT_ALL),
    "one is refused and kept the others back": ([REFUSED, KEPT_BACK], NOT_ALL_WILLING),
    "one is unknown and kept the others back": ([UNKNOWN, KEPT_BACK], NOT_ALL),
    "one has it, one is refused": ([TAKEN, REFUSED], NOT_ALL_WILLING),
    "one has it, one is refused for now": ([BUSY, TAKEN], NOT_ALL),
    "one is refused, one is refused for now": ([REFUSED, BUSY], NOT_ALL_WILLING),
}


@pytest.mark.parametrize(("outcomes", "wanted"), REPLIES.values(), ids=REPLIES.keys())
def test_one_reply(outcomes: Sequence[Outcome], wanted: Reply) -> None:
    assert one_reply(outcomes) == wanted
    assert (wanted.kind == 5) <= all(one.kind is Kind.REJECTED for one in outcomes)
    assert (wanted.kind == 2) <= all(one.kind is Kind.DELIVERED for one in outcomes)
