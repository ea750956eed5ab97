"""The simulated receivers: what they answer to whom, when, and that a copy is in its mailbox before they say so."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mailgate.network import TcpAddress
from mailgate.testing import MemoryNetwork, Patience, ScriptedSender, Speaks, play
from sim.content import content, digest
from sim.receiver import Receiver
from sim.records import History
from sim.temper import Room, Span, Temper, message_id, picked, poisoned, room

ADDRESS = TcpAddress("10.0.0.25", 25)
USES = ("PIPELINING", "SIZE", "PRDR")
PRDR = ("PIPELINING", "SIZE 52428800", "PRDR")

KINDS = {kind: next(f"full-u{number}@d" for number in range(100) if room(f"full-u{number}@d") is kind) for kind in Room}
"""a full mailbox of each kind"""

EMPTY, SOON, ONE = KINDS[Room.NONE], KINDS[Room.SOON], KINDS[Room.ONE]


class Site:
    """A receiver, and somebody who sends to it."""

    def __init__(self, nursery: trio.Nursery, seed: int = 1, **ways: Any) -> None:
        """`ways`: fields of its temper."""
        self.nursery = nursery
        self.history = History(seed, ())
        self.network = MemoryNetwork(nursery)
        self.temper = Temper(addresses=(ADDRESS,), **ways)
        self.receiver = Receiver("mx1", self.temper, self.history, random.Random(seed))
        self.start()

    def start(self) -> None:
        """The receiver's program, in a scope that `crash` ends."""
        self._life = trio.CancelScope()
        self.nursery.start_soon(self._run, self._life)

    async def _run(self, life: trio.CancelScope) -> None:
        with life:
            await self.receiver.program(self.network)

    def crash(self) -> None:
        self._life.cancel()

    async def send(self, *recipients: str, message: str = "m1", source: str = "192.0.2.1") -> list[str]:
        """The last words about each recipient."""
        await trio.testing.wait_all_tasks_blocked()
        sender = ScriptedSender(
            self.network, protocol=self.temper.protocol, uses=USES, source=source, patience=Patience(dot=60)
        )
        async with sender.connect(ADDRESS) as session:
            attempts = await session.transact(content("m1", 500), recipients, f"{message}@s.example", last=True)
        return [attempt.text for attempt in attempts]

    @property
    def copies(self) -> list[tuple[str, str]]:
        return [(copy.message, copy.recipient) for copy in self.history.copies]


def codes(texts: list[str]) -> list[str]:
    return [text[:3] for text in texts]


# Protocol | the recipients | what each hears at first | and some time later
BOTH: tuple[Speaks, Speaks] = ("smtp", "lmtp")
RECIPIENTS = [
    pytest.param("smtp", ("u@d", "no-u@d", "busy-u@d"), ("250", "550", "451"), ("250", "550", "250"), id="smtp"),
    pytest.param("lmtp", ("u@d", "no-u@d", "busy-u@d"), ("250", "550", "451"), ("250", "550", "250"), id="lmtp"),
    pytest.param(
        "smtp", (EMPTY, SOON, ONE, ONE), ("552", "452", "250", "552"), ("552", "250", "250", "552"), id="full"
    ),
    pytest.param(
        "lmtp", (EMPTY, SOON, ONE, ONE), ("552", "452", "250", "552"), ("552", "250", "250", "552"), id="full-lmtp"
    ),
    pytest.param("lmtp", ("u@d", "u@d"), ("250", "250"), ("250", "250"), id="twice"),
]


@pytest.mark.parametrize(("protocol", "recipients", "first", "later"), RECIPIENTS)
async def test_recipients(
    protocol: Speaks,
    recipients: tuple[str, ...],
    first: tuple[str, ...],
    later: tuple[str, ...],
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, protocol=protocol, busy=300)
        assert codes(await site.send(*recipients)) == list(first)
        taken = [("m1", recipient) for recipient, code in zip(recipients, first, strict=True) if code == "250"]
        assert site.copies == taken
        await trio.sleep(299)
        assert codes(await site.send(*recipients)) == list(first)
        await trio.sleep(2)
        assert codes(await site.send(*recipients)) == list(later)
        nursery.cancel_scope.cancel()


async def test_full_mailboxes_with_prdr(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, extensions=PRDR)
        assert codes(await site.send(EMPTY, SOON, ONE, ONE, "u@d")) == ["552", "452", "250", "552", "250"]
        assert site.copies == [("m1", ONE), ("m1", "u@d")]
        nursery.cancel_scope.cancel()


async def test_a_copy_tells_what_came_and_over_which_hops(autojump_clock: MockClock) -> None:
    received = b"Received: from a\r\n\tby gw1 with SMTP id 1f; now\r\nReceived: by x id 2e; then\r\n"
    async with trio.open_nursery() as nursery:
        site = Site(nursery)
        await trio.testing.wait_all_tasks_blocked()
        async with ScriptedSender(site.network).connect(ADDRESS) as session:
            await trio.sleep(7)
            await session.transact(received + content("m5", 1000), ["u@d"], "m5@s.example")
        (copy,) = site.history.copies
        assert (copy.message, copy.recipient, copy.receiver, copy.time) == ("m5", "u@d", "mx1", 7)
        assert (copy.digest, copy.via) == (digest(content("m5", 1000)), ("1f", "2e"))
        nursery.cancel_scope.cancel()


async def test_a_copy_is_there_before_the_reply_and_outlives_a_crash(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, storing=Span(10, 10))
        with trio.move_on_after(5):
            await site.send("u@d")
        assert site.copies == [("m1", "u@d")]
        site.crash()
        await trio.testing.wait_all_tasks_blocked()
        assert (site.receiver.open_sessions, site.network.open_streams) == (0, 0)
        site.start()
        assert codes(await site.send("u@d", message="m2")) == ["250"]
        assert site.copies == [("m1", "u@d"), ("m2", "u@d")]
        nursery.cancel_scope.cancel()


async def test_greylisting(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, greylist=100)
        told: list[str] = []
        for seconds, source, message, recipient in [
            (0, "192.0.2.1", "m1", "u@d"),
            (99, "192.0.2.2", "m1", "u@d"),  # the same network
            (2, "192.0.2.1", "m1", "u@d"),
            (0, "198.51.100.1", "m1", "u@d"),
            (0, "192.0.2.1", "m2", "u@d"),
            (0, "192.0.2.1", "m1", "v@d"),
            (101, "192.0.2.1", "m2", "u@d"),
        ]:
            await trio.sleep(seconds)
            told += codes(await site.send(recipient, message=message, source=source))
        assert told == ["451", "451", "250", "451", "451", "451", "250"]
        nursery.cancel_scope.cancel()


# What is refused | at which stage | which extensions it has
SHARES = [
    pytest.param("senders", "mail", ("PIPELINING",), id="senders"),
    pytest.param("contents", "dot", ("PIPELINING",), id="contents"),
    pytest.param("contents", "dot", PRDR, id="contents-prdr"),
]


@pytest.mark.parametrize(("what", "stage", "extensions"), SHARES)
async def test_shares_of_messages_are_refused(
    what: str, stage: str, extensions: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, 1, extensions=extensions, busy=100, **{what: 0.5})
        names = [f"m{number}" for number in range(60)]
        first = {name: codes(await site.send("u@d", "v@d", message=name)) for name in names}
        assert all(one == two for one, two in first.values())
        assert Counter(message for message, _ in site.copies) == {
            name: 2 for name, told in first.items() if told[0] == "250"
        }
        assert [name for name in names if first[name][0] != "250"] == [
            name for name in names if picked(0.5, "mx1", stage, name)
        ]
        shares = Counter(told[0][0] for told in first.values())
        assert all(shares[kind] >= least for kind, least in (("2", 20), ("4", 8), ("5", 8))), shares
        await trio.sleep(100)
        later = {name: codes(await site.send("u@d", "v@d", message=name)) for name in names}
        assert later == {name: told if told[0][0] == "5" else ["250", "250"] for name, told in first.items()}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body", "dot"])
@pytest.mark.parametrize("protocol", BOTH)
async def test_poison(protocol: Speaks, stage: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, protocol=protocol, poison=20_000)
        told = [(await site.send("u@d", message=f"poison-{stage}-m{number}"))[0] for number in range(40)]
        seen = {text.partition(" ")[0] for text in told}
        assert seen == {"421", "451", "connection", "timed"}
        assert site.copies == []
        await trio.sleep(20_000)
        assert codes(await site.send("u@d", message=f"poison-{stage}-m1")) == ["250"]
        assert site.copies == [("m1", "u@d")]
        assert site.history.violations == []
        nursery.cancel_scope.cancel()


async def test_overload(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery)
        await trio.testing.wait_all_tasks_blocked()
        site.receiver.overload(trio.current_time() + 100)
        told = codes([(await site.send("u@d"))[0] for _ in range(20)])
        assert set(told) == {"421", "451"}
        await trio.sleep(100)
        assert codes(await site.send("u@d")) == ["250"]
        nursery.cancel_scope.cancel()


# What a client had said when the overload begins | what it hears then, or at its next word
OVERLOADED = [
    pytest.param("", "S: 421...\nS.", id="idle"),
    pytest.param("C: MAIL FROM:<m1@s>\nS: 250...", "C: RCPT TO:<u@d>\nS: 4...", id="RCPT"),
    pytest.param("C: MAIL FROM:<m1@s>\nC: RCPT TO:<u@d>\nS: 250...\nS: 250...", "C: DATA\nS: 4...", id="DATA"),
    pytest.param(
        "C: MAIL FROM:<m1@s>\nC: RCPT TO:<u@d>\nC: DATA\nS: 250...\nS: 250...\nS: 354...", "C: .\nS: 4...", id="dot"
    ),
]


@pytest.mark.parametrize(("said", "heard"), OVERLOADED)
@pytest.mark.parametrize("seed", range(4))
async def test_overload_in_a_session(said: str, heard: str, seed: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, seed, extensions=("PIPELINING",))
        await trio.testing.wait_all_tasks_blocked()
        async with await site.network.connect(ADDRESS) as client:
            await play(client, "S: 220...\nC: EHLO gw\nS: 250-...\nS: 250...\n" + said)
            await trio.testing.wait_all_tasks_blocked()
            site.receiver.overload(trio.current_time() + 100)
            await play(client, heard)
        assert site.copies == []
        nursery.cancel_scope.cancel()


async def test_violations_end_one_session(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery)
        await trio.testing.wait_all_tasks_blocked()
        async with await site.network.connect(ADDRESS) as client:
            await play(client, "S: 220...\nC: MAIL FROM:<m1@s>\nS.")
        assert [one.split("\n")[0] for one in site.history.violations] == [
            "mx1: MAIL before a greeting command that was accepted"
        ]
        assert codes(await site.send("u@d")) == ["250"]
        nursery.cancel_scope.cancel()


async def test_nobody_minds_a_connection_that_breaks(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery)
        for script in ("", "S: 220...", "S: 220...\nC: EHLO gw"):
            await trio.testing.wait_all_tasks_blocked()
            client = await site.network.connect(ADDRESS)
            if script:
                await play(client, script)
            client.reset()
        assert codes(await site.send("u@d")) == ["250"]
        assert site.history.violations == []
        nursery.cancel_scope.cancel()


async def test_no_resources_to_accept_are_waited_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery)
        await trio.testing.wait_all_tasks_blocked()
        site.network.fail_accept(ADDRESS)
        assert codes(await site.send("u@d")) == ["250"]
        assert trio.current_time() == 1
        nursery.cancel_scope.cancel()


async def test_the_pace_of_replies(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, pace=Span(1, 2), storing=Span(50, 50))
        await site.send("u@d")
        assert 56 <= trio.current_time() <= 62, "six replies, and the storing"
        nursery.cancel_scope.cancel()


IDS = [
    ("m12@s1.example", "m12", ""),
    ("poison-rcpt-m7@stranger.example", "m7", "rcpt"),
    ("poison-body-m7@stranger.example", "m7", "body"),
    ("somebody@m1.example", "somebody@m1.example", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("reverse_path", "message", "stage"), IDS)
def test_reverse_paths(reverse_path: str, message: str, stage: str) -> None:
    assert (message_id(reverse_path), poisoned(reverse_path)) == (message, stage)
