"""Runs cases, some side by side, and says how each went."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from lab.account import Account, account
from lab.mtas import POSTFIX, SENDMAIL
from lab.network import Network
from lab.scenario import Case
from lab.site import Measured, Site, Slot, Unexpected, Way

_GATEWAYS = {Way.MAILGATE: None, Way.POSTFIX: POSTFIX, Way.SENDMAIL: SENDMAIL}

_KEPT = ("*.log", "*.toml", "*/log")
"""what of a case's folder tells why it failed"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a case went."""

    case: Case
    seconds: float
    wrong: tuple[str, ...]
    """what is not as it must be; empty: it passed"""
    measured: tuple[Measured, ...] = ()
    remarks: tuple[str, ...] = ()
    account: Account | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lab:
    """Where cases run."""

    roots: Mapping[str, Path]
    work: Path
    """an empty folder, for overlays"""
    logs: Path
    """where the logs of failed cases are kept"""
    keep: bool
    """those of cases that passed, too"""
    jobs: int
    """cases at work at a time, beside those that wait for something"""

    async def run(self, cases: Sequence[Case], begun: Callable[[Case], None], done: Callable[[Result], None]) -> None:
        """Run cases, and tell of each when it begins and when it is done."""
        slots = trio.Semaphore(self.jobs)

        async def one(case: Case, number: int, slot: Slot) -> None:
            try:
                begun(case)
                done(await _Run(self, case, number, slot).to_its_end())
            finally:
                slot.give()

        async with trio.open_nursery() as nursery:
            for number, case in enumerate(cases, 1):
                slot = Slot(slots)
                await slot.take()
                nursery.start_soon(one, case, number, slot)


class _Run:
    """One case, from its network to its account."""

    def __init__(self, lab: Lab, case: Case, number: int, slot: Slot) -> None:
        self._lab = lab
        self._case = case
        self._network = Network(number, case.topology)
        self._folder = lab.work / str(number)
        self._slot = slot

    async def to_its_end(self) -> Result:
        """Run it; whatever goes wrong in it is in the result."""
        started = time.monotonic()
        self._folder.mkdir(parents=True)
        result = Result(self._case, 0, ())
        failures: tuple[str, ...] = ()
        try:
            with trio.fail_after(self._case.scenario.patience):
                result = await self._played()
        except* Exception as group:
            failures = tuple(_told(error) for error in _leaves(group))
        finally:
            self._network.destroy()
        result = dataclasses.replace(result, seconds=time.monotonic() - started, wrong=failures + result.wrong)
        if result.wrong or self._lab.keep:
            self._keep_logs()
        shutil.rmtree(self._folder, ignore_errors=True)
        return result

    async def _played(self) -> Result:
        scenario, mta = self._case.scenario, self._case.mta
        async with trio.open_nursery() as nursery:
            site = Site(nursery, self._network, self._folder, self._lab.roots, self._slot)
            await site.build(scenario.cast(mta), _GATEWAYS[scenario.way], scenario.together)
            await scenario.play(site, mta)
            await site.capturing.stop()
            versions = {server.mta.name: await server.version() for server in site.servers.values()}
            came = await trio.to_thread.run_sync(_account, site)
            nursery.cancel_scope.cancel()
        wrong = _wrong(came) if scenario.way is Way.MAILGATE else ()
        return Result(self._case, 0, wrong, tuple(site.measured), tuple(site.remarks), came, versions)

    def _keep_logs(self) -> None:
        folder = self._lab.logs / self._case.name.replace("/", "_")
        for pattern in _KEPT:
            for file in self._folder.glob(pattern):
                kept = folder / file.relative_to(self._folder)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kept)


def _account(site: Site) -> Account:
    expected = {
        (message.name, to)
        for message in site.sent
        for to in message.recipients
        if (message.name, to) not in site.refused
    }
    told = [(gateway.name, line) for gateway in site.gateways.values() for line in gateway.told()]
    crashes = [(gateway.name, moment) for gateway in site.gateways.values() for moment in gateway.crashes]
    seen = site.capturing.transactions()
    fruitful = site.refused | {("", to) for to in site.told()}
    return account(expected, site.copies(), site.taken_elsewhere, told, crashes, seen, fruitful)


def _wrong(came: Account) -> tuple[str, ...]:
    kinds = {"lost": came.lost, "a copy too many": came.duplicates, "useless transfer": came.useless}
    return tuple(f"{kind}: {one}" for kind, those in kinds.items() for one in those)


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, Unexpected) else f"{type(error).__name__}: {error}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
