"""Whether everything that was sent is where it belongs, once; and what crossed the wire for it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass

from lab.gateway import LAPSE, Told
from lab.mailbox import Copy
from lab.wire import Transaction

NEAR = 2.0
"""seconds between what the log of a gateway and the clock of a server may call the same moment"""

LATE = 20.0
"""seconds after its 250 in which a busy server may still put a message into the mailbox"""


WAITS = 540.0
"""seconds after a copy in which a gateway may still wait for the other recipients' next hops"""


@dataclass(frozen=True, slots=True)
class Account:
    """What came of a case."""

    copies: int
    lost: tuple[str, ...]
    """(message, recipient) that never arrived and that nobody was told of"""
    excused: tuple[str, ...]
    """second copies of DESIGN's kinds, each with its kind"""
    duplicates: tuple[str, ...]
    """all others"""
    bodies: int
    """transfers of a message, or the start of one, to or from a gateway"""
    useless: tuple[str, ...]
    """those that could be known to be in vain"""


def account(
    expected: Collection[tuple[str, str]],
    copies: Sequence[tuple[str, Copy]],
    elsewhere: Mapping[tuple[str, str], Sized],
    told: Sequence[tuple[str, Told]],
    crashes: Sequence[tuple[str, float]],
    transactions: Sequence[Transaction],
    fruitful: Collection[tuple[str, str]] = (),
) -> Account:
    """Compare what was sent with what came.

    `expected`: (message, recipient) that must have arrived. `copies`: (recipient, copy). `elsewhere`: how
    often (message, recipient) was taken by a server that keeps no copy. `told` and `crashes`: by
    which gateway. `transactions`: as seen on the wire. `fruitful`: (message, recipient) of transfers that were not in
    vain although no copy came of them; the message is "" where that is a bounce.
    """
    there = Counter((copy.message, recipient) for recipient, copy in copies)
    there.update({one: len(times) for one, times in elsewhere.items()})
    lost = tuple(f"{message} to {to}" for message, to in expected if not there[message, to])
    unexpected = [f"{message} to {to}: nobody was to get it" for message, to in there if (message, to) not in expected]
    excused, duplicates = [], unexpected
    for (message, to), times in there.items():
        if times > 1 and (message, to) in expected:
            these = [copy for recipient, copy in copies if (copy.message, recipient) == (message, to)]
            kinds = _kinds(to, these, told, crashes)
            if len(kinds) >= times - 1:
                excused.append(f"{message} to {to}: {times} copies, {', '.join(kinds)}")
            else:
                duplicates.append(f"{message} to {to}: {times} copies, by {_routes(these)}")
    bodies = [one for one in transactions if one.octets]
    useless = tuple(why for one in bodies if (why := _vain(one, there, fruitful)))
    return Account(there.total(), lost, tuple(excused), tuple(duplicates), len(bodies), useless)


def _kinds(
    to: str, copies: Iterable[Copy], told: Sequence[tuple[str, Told]], crashes: Sequence[tuple[str, float]]
) -> list[str]:
    """Of each copy that its sender did not hear of, why."""
    return [kind for copy in copies if (kind := _kind(to, copy, told, crashes)) is not None]


def _kind(to: str, copy: Copy, told: Sequence[tuple[str, Told]], crashes: Sequence[tuple[str, float]]) -> str | None:
    for gateway, number in copy.via:
        lines = [
            one
            for name, one in told
            if (name, one.session, one.recipient) == (gateway, number, to)
            and one.begun - NEAR <= copy.time <= one.ended + LATE
        ]
        if any(one.kind == "unknown" for one in lines):
            return "unknown"
        if any(one.untold for one in lines):
            return "untold"
        if not lines and any(name == gateway and copy.time <= at + NEAR for name, at in crashes):
            return "crashed over"
        if any(name == gateway and _is_lapse(one, to, copy) for name, one in told):
            return "not in the shared ledger"
    return None


def _is_lapse(one: Told, to: str, copy: Copy) -> bool:
    near = copy.time - NEAR <= one.ended <= copy.time + WAITS
    return one.kind == LAPSE and one.recipient == to and near


def _vain(one: Transaction, there: Counter[tuple[str, str]], fruitful: Collection[tuple[str, str]]) -> str | None:
    """Why a transfer was in vain, if that could be known before it, or if nothing ever came of it."""
    name = f"{one.message} from {one.client} to {one.server}"
    taken = [asked.mailbox for asked in one.recipients if asked.answer is not None and asked.answer // 100 == 2]
    if not taken:
        return f"{name}: nobody had been accepted"
    if not (one.data is not None and one.data // 100 == 3):
        return f"{name}: DATA had not been accepted"
    positive = [answer for answer in one.answers if answer // 100 == 2]
    named = [(one.message or "", to) for to in taken]
    if positive and not any(there[each] or each in fruitful for each in named):
        return f"{name}: taken, and it came to nothing"
    return None


def _routes(copies: Iterable[Copy]) -> str:
    return " and ".join(", ".join(f"{by} {number}" for by, number in reversed(copy.via)) or "nobody" for copy in copies)
