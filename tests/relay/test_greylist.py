"""Which backbone a sender's mail to a domain keeps, as stories: (minutes, what is met) and (minutes, what is kept)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mailgate.protocol.command import Mailbox, ReversePath
from mailgate.relay.greylist import Greylist

ANN, BOB = Mailbox("ann", "a.example"), Mailbox("bob", "a.example")


@dataclass(frozen=True)
class Met:
    """A 4xx at RCPT."""

    backbone: str
    sender: ReversePath = ANN
    domain: str = "far.example"


@dataclass(frozen=True)
class Kept:
    """The backbone to prefer."""

    backbone: str | None
    sender: ReversePath = ANN
    domain: str = "far.example"


STORIES: dict[str, Sequence[tuple[float, Met | Kept]]] = {
    "nothing met": [(0, Kept(None))],
    "an hour": [(0, Met("isp-b")), (0, Kept("isp-b")), (59.9, Kept("isp-b")), (60.1, Kept(None))],
    "an hour from the last": [(0, Met("isp-b")), (50, Met("isp-b")), (109.9, Kept("isp-b")), (110.1, Kept(None))],
    "four hours from the first, however often": [
        *[(minute, Met("isp-b")) for minute in range(0, 240, 20)],
        (239.9, Kept("isp-b")),
        (240.1, Kept(None)),
    ],
    "then the next one is a first": [
        *[(minute, Met("isp-b")) for minute in range(0, 260, 20)],
        (299.9, Kept("isp-b")),
        (300.1, Kept(None)),
    ],
    "after its hour the next one is a first": [
        (0, Met("isp-b")),
        *[(minute, Met("isp-b")) for minute in range(70, 310, 20)],
        (309.9, Kept("isp-b")),
        (310.1, Kept(None)),
    ],
    "met on another backbone: that one, anew": [
        *[(minute, Met("isp-b")) for minute in range(0, 240, 20)],
        (230, Met("isp-a")),
        (230, Kept("isp-a")),
        (289.9, Kept("isp-a")),
        (290.1, Kept(None)),
    ],
    "another sender": [(0, Met("isp-b", sender=ANN)), (0, Kept(None, sender=BOB))],
    "another domain": [(0, Met("isp-b")), (0, Kept(None, domain="near.example"))],
    "the null reverse-path": [
        (0, Met("isp-b", sender=None)),
        (0, Kept("isp-b", sender=None)),
        (0, Kept(None, sender=ANN)),
    ],
    "a domain written otherwise": [
        (0, Met("isp-b", domain="B\u00fccher.example")),
        (0, Kept("isp-b", domain="XN--bcher-kva.EXAMPLE")),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_greylist(story: Sequence[tuple[float, Met | Kept]]) -> None:
    greylist = Greylist()
    for minute, step in story:
        if isinstance(step, Met):
            greylist.met(step.sender, step.domain, step.backbone, minute * 60)
        else:
            assert (minute, greylist.kept(step.sender, step.domain, minute * 60)) == (minute, step.backbone)


# What is done with the older of two, when there is room for two and a third comes: is it kept?
USES = {"nothing": (False, False), "asked for": (True, False), "met again": (False, True)}


@pytest.mark.parametrize(("asked", "met"), USES.values(), ids=USES.keys())
def test_the_one_unused_for_longest_is_forgotten(asked: bool, met: bool) -> None:
    greylist = Greylist(entries=2)
    greylist.met(ANN, "one.example", "isp-b", 0)
    greylist.met(ANN, "two.example", "isp-b", 1)
    if asked:
        greylist.kept(ANN, "one.example", 2)
    if met:
        greylist.met(ANN, "one.example", "isp-b", 2)
    greylist.met(ANN, "three.example", "isp-b", 3)
    kept = [greylist.kept(ANN, f"{name}.example", 4) for name in ("one", "two", "three")]
    assert kept == (["isp-b", None, "isp-b"] if asked or met else [None, "isp-b", "isp-b"])
