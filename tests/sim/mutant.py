"""What a mutant is: a fault that somebody could write into mailgate, planted from outside for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from unittest import mock

from mailgate.relay.settings import Timeouts

Plant = Callable[[], AbstractContextManager[None]]
"""the fault is there inside the context, and behind it everything is as before"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault, and who must notice it."""

    name: str
    promise: str
    """the name of the checker that must fire"""
    what: str
    """the fault in a sentence"""
    plant: Plant


@dataclass(frozen=True, slots=True)
class Change:
    """An attribute of one of mailgate's classes or modules, and what stands in its place."""

    owner: object
    name: str
    new: object


def changes(*all_of_them: Change) -> Plant:
    """A plant that makes some changes at once."""

    @contextlib.contextmanager
    def plant() -> Iterator[None]:
        with contextlib.ExitStack() as made:
            for change in all_of_them:
                made.enter_context(mock.patch.object(change.owner, change.name, change.new))
            yield

    return plant


def budget(name: str, seconds: float) -> Change:
    """One of the `Timeouts` is that long, whatever the settings say."""

    def ignore(_: Timeouts, __: float) -> None:
        """Settings may be made meanwhile."""

    return Change(Timeouts, name, property(lambda _: seconds, ignore))
