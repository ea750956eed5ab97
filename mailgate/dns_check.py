"""`check --dns`: whether DNS says of our source addresses what receivers of our mail look for.

They look up the PTR of the address that we come from, look whether a name there leads back to the address
(*forward-confirmed*), and compare it with the name that we say in EHLO. Where that fails, some refuse our mail.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio
from rich.console import Console
from rich.text import Text

from mailgate.config import Config, Problem
from mailgate.network import Answer, Network, NoAnswer, RealNetwork
from mailgate.text import escaped

MOST_NAMES = 10
"""of one address that are looked up: more than one is seldom meant, and receivers do not look at many either"""

Progress = Callable[[int, int], None]
"""told (answers, questions) so far"""

# Addresses that mean another machine in every site: what the world sees is the address of a NAT before it.
_NOT_SEEN_BY_OTHERS = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),  # RFC 1918, RFC 6598
        *("127.0.0.0/8", "::1/128", "fc00::/7"),
    )
)

Question = tuple[str, str]
"""name without the last dot, record type"""

Answers = Mapping[Question, Answer | NoAnswer]


@dataclass(frozen=True, slots=True)
class Source:
    """An address that our connections come from, and the name that we give ourselves there."""

    where: str
    """in the configuration, for messages"""
    ip: str
    helo: str
    key: str = "helo"
    """of the configuration, where that name is"""

    @property
    def pointer(self) -> str:
        """The name whose PTR record is for the address."""
        return ipaddress.ip_address(self.ip).reverse_pointer

    @property
    def record_type(self) -> str:
        """Of names that lead to the address."""
        return "AAAA" if ":" in self.ip else "A"

    @property
    def seen_by_others(self) -> bool:
        """It is an address of the Internet, which DNS can know."""
        address = ipaddress.ip_address(self.ip)
        return not any(address in network for network in _NOT_SEEN_BY_OTHERS)


@dataclass(frozen=True, slots=True)
class Checked:
    """What DNS lacks for a source; nothing: all is well."""

    source: Source
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say about all sources."""

    remarks: tuple[str, ...]
    checked: tuple[Checked, ...]
    problems: tuple[Problem, ...] = ()
    """that are no source's"""

    @property
    def is_good(self) -> bool:
        """DNS has everything."""
        return not self.problems and not any(one.problems for one in self.checked)


def run(config: Config) -> bool:
    """Ask, and print what is found; whether DNS has everything."""
    console = Console()
    network = RealNetwork(config.dns_servers)
    with console.status("asking DNS …") as status:

        def progress(answers: int, questions: int) -> None:
            status.update(f"asking DNS: {answers} of {questions} answers …")

        report = trio.run(functools.partial(check, config, network, progress))
    for remark in report.remarks:
        console.print(Text(remark), soft_wrap=True)
    for problem in report.problems:
        console.print(Text(str(problem), style="red"), soft_wrap=True)
    for one in report.checked:
        if not one.problems:
            console.print(Text(f"{one.source.where}: ok", style="green"), soft_wrap=True)
        for problem in one.problems:
            console.print(Text(str(problem), style="red"), soft_wrap=True)
    return report.is_good


async def check(config: Config, network: Network, progress: Progress = lambda answers, questions: None) -> Report:
    """Ask about each source of each backbone; without backbones about the addresses of our hostname.

    All questions that do not need another's answer are asked at the same time.
    """
    if config.backbones:
        sources = [
            Source(f'backbone "{backbone.name}": source {ip}', ip, backbone.helo)
            for backbone in config.backbones
            for ip in backbone.sources
        ]
        return Report((), tuple(await check_sources(sources, network, progress)))
    hostname = config.settings.hostname
    remarks = (
        "There is no backbone to check: the system chooses the address that connections come from, and the HELO name "
        f"is the hostname. If that address is one of {hostname}, this is what others see:",
    )
    found = await _addresses(hostname, network)
    if isinstance(found, Problem):
        return Report(remarks, (), (found,))
    sources = [Source(f"hostname {hostname}: address {ip}", ip, hostname, "hostname") for ip in found]
    return Report(remarks, tuple(await check_sources(sources, network, progress)))


async def check_sources(sources: Sequence[Source], network: Network, progress: Progress) -> list[Checked]:
    """What DNS lacks for each of them, in their order."""
    public = [source for source in sources if source.seen_by_others]
    questions = [(source.pointer, "PTR") for source in public]
    questions += [(source.helo, source.record_type) for source in public if not _is_literal(source.helo)]
    answers = await _ask(questions, {}, network, progress)
    more = [(name, source.record_type) for source in public for name in _names(answers, source)]
    answers = await _ask(more, answers, network, progress)
    return [Checked(source, tuple(_problems(source, answers))) for source in sources]


async def _addresses(hostname: str, network: Network) -> tuple[str, ...] | Problem:
    if _is_literal(hostname):
        return (hostname[1:-1].removeprefix("IPv6:"),)
    answers = await _ask([(hostname, "AAAA"), (hostname, "A")], {}, network, lambda answers, questions: None)
    found = tuple(ip for answer in answers.values() for ip in _records(answer))
    if found:
        return found
    where = f"hostname {hostname}"
    if NoAnswer.TEMPORARY in answers.values():
        return _failed(where, "its addresses (AAAA, A)")
    return Problem(
        where,
        "DNS has no address for it",
        "add an A or AAAA record to its zone, or write the sources of your uplinks in [[backbone]] tables",
    )


async def _ask(questions: Iterable[Question], known: Answers, network: Network, progress: Progress) -> Answers:
    """All that is known, and the answers to what is not, asked at the same time and each once."""
    answers = dict(known)
    new = [question for question in dict.fromkeys(questions) if question not in answers]
    total = len(answers) + len(new)

    async def ask(question: Question) -> None:
        answers[question] = await network.query(*question)
        progress(len(answers), total)

    async with trio.open_nursery() as nursery:
        for question in new:
            nursery.start_soon(ask, question)
    return {question: answers[question] for question in (*known, *new)}


# Judging the answers


def _problems(source: Source, answers: Answers) -> Iterator[Problem]:
    if not source.seen_by_others:
        yield Problem(
            source.where,
            "is a private address, so others see another one, that of a NAT: DNS can say nothing of this one",
            f"have that one's PTR record name {source.helo}, and {source.helo} resolve to it; only you can check that",
        )
        return
    yield from _pointer_problems(source, answers)
    yield from _helo_problems(source, answers)


def _pointer_problems(source: Source, answers: Answers) -> Iterator[Problem]:
    if answers[source.pointer, "PTR"] is NoAnswer.TEMPORARY:
        yield _failed(source.where, f"its PTR record ({source.pointer})")
        return
    names = _names(answers, source)
    if not names:
        yield Problem(source.where, "there is no PTR record for it", _ask_for_pointer(source))
        return
    if source.helo in names:
        return  # whether this one leads back is asked of the HELO name
    shown = ", ".join(escaped(name) for name in names)
    forward = {name: answers[name, source.record_type] for name in names}
    confirmed = next((escaped(name) for name, answer in forward.items() if _leads_to(source, answer)), None)
    what = f"its PTR record says {shown}"
    if confirmed is None and NoAnswer.TEMPORARY in forward.values():
        yield _failed(source.where, f"the name in its PTR record, {shown} ({source.record_type})")
    elif confirmed is None:
        what += f", which {_found(forward[names[0]], source)}"
        if _is_literal(source.helo):
            yield Problem(source.where, what, _add(escaped(names[0]), source))
    if not _is_literal(source.helo):
        remedy = _ask_for_pointer(source)
        if confirmed is not None:
            remedy = f'write {source.key} = "{confirmed}", or {remedy}'
        yield Problem(source.where, f"{what}, but its HELO name is {source.helo}", remedy)


def _helo_problems(source: Source, answers: Answers) -> Iterator[Problem]:
    helo = source.helo
    if _is_literal(helo):
        what = f"its HELO name, {helo}, is an address literal, which many servers refuse"
        yield Problem(source.where, what, f"write a name that resolves to {source.ip} as `{source.key}`")
        return
    answer = answers[helo, source.record_type]
    if answer is NoAnswer.TEMPORARY:
        yield _failed(source.where, f"its HELO name, {helo} ({source.record_type})")
    elif not _leads_to(source, answer):
        yield Problem(source.where, f"its HELO name, {helo}, {_found(answer, source)}", _add(helo, source))


def _names(answers: Answers, source: Source) -> list[str]:
    """What an address's PTR records name, the HELO name first; no more than `MOST_NAMES`."""
    names = [record.lower().removesuffix(".") or "." for record in _records(answers[source.pointer, "PTR"])]
    return sorted(names, key=lambda name: (name != source.helo, name))[:MOST_NAMES]


def _records(answer: Answer | NoAnswer) -> tuple[str, ...]:
    return answer.records if isinstance(answer, Answer) else ()


def _leads_to(source: Source, answer: Answer | NoAnswer) -> bool:
    return ipaddress.ip_address(source.ip) in [ipaddress.ip_address(record) for record in _records(answer)]


def _found(answer: Answer | NoAnswer, source: Source) -> str:
    """What a name leads to instead of a source."""
    if answer is NoAnswer.NO_SUCH_DOMAIN:
        return "does not exist"
    found = ", ".join(_records(answer)[:MOST_NAMES])
    return f"leads to {found} instead" if found else f"has no {source.record_type} record"


def _is_literal(name: str) -> bool:
    return name.startswith("[")


def _ask_for_pointer(source: Source) -> str:
    if _is_literal(source.helo):
        return "ask the provider whose address it is for one that says the name you choose"
    return f"ask the provider whose address it is for the record: {source.pointer}. PTR {source.helo}."


def _add(name: str, source: Source) -> str:
    return f"whoever keeps the zone of that name has to add: {name}. {source.record_type} {source.ip}"


def _failed(where: str, what: str) -> Problem:
    return Problem(
        where,
        f"the look-up of {what} failed, so nothing is known of it",
        "try again; if it fails again, see to the servers in [dns], or to those of the system",
    )
