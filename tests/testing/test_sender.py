"""The scripted sender: which recipient goes where, as Postfix was measured to do, and what it says on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mailgate.network import TcpAddress
from mailgate.testing import (
    Attempt,
    Close,
    Delay,
    MemoryNetwork,
    Patience,
    Plan,
    Raw,
    Reset,
    Script,
    ScriptedMTA,
    ScriptedSender,
    Sending,
    Silence,
    Speaks,
    Stage,
    State,
    Turns,
)

GATEWAYS = (TcpAddress("10.0.0.1", 24), TcpAddress("10.0.0.2", 24))
GW1, GW2 = GATEWAYS
RECIPIENTS = ("a@x.example", "b@x.example", "c@x.example")
A, B, C = RECIPIENTS
MESSAGE = b"Subject: 1\r\n\r\n.dot\r\n..\r\nend\r\n"
PLAIN = ("SIZE",)


class Site:
    """Two gateways and a sender, in memory."""

    def __init__(self, nursery: trio.Nursery, protocol: Speaks, first: Script, second: Script | None = None) -> None:
        self.network = MemoryNetwork(nursery)
        self.gateways = [ScriptedMTA("gw1", protocol, first), ScriptedMTA("gw2", protocol, second)]
        for address, gateway in zip(GATEWAYS, self.gateways, strict=True):
            self.network.serve(address, gateway.handle)

    @property
    def taken(self) -> list[list[str]]:
        """For whom each gateway took the message."""
        return [[recipient for message in gateway.messages for recipient in message.taken] for gateway in self.gateways]


def only(recipient: str, plan: Plan) -> dict[str, Plan]:
    return {recipient: plan}


# The first gateway's script, gw1 | who got it at gw1 | who at gw2 | who was refused. This is what Postfix 3.7 does,
# inside by LMTP and outside by SMTP.
LMTP_FAILOVER = [
    pytest.param(Script(), "abc", "", "", id="nothing"),
    pytest.param(Script(outcomes=only(B, "451 no")), "ac", "b", "", id="dot-451-for-b"),
    pytest.param(Script(outcomes=only(B, "452 4.5.3 no")), "ac", "b", "", id="dot-452-for-b"),
    pytest.param(Script(outcomes=only(B, "550 no")), "ac", "", "b", id="dot-550-for-b"),
    pytest.param(Script(outcomes=only(B, Close())), "a", "bc", "", id="dot-close-after-a"),
    pytest.param(Script(recipients=only(B, "451 no")), "ac", "b", "", id="rcpt-451-for-b"),
    pytest.param(Script(recipients=only(B, ("421 bye", Close()))), "", "abc", "", id="rcpt-421-close-for-b"),
    pytest.param(Script(recipients=only(B, "550 no")), "ac", "", "b", id="rcpt-550-for-b"),
    pytest.param(Script(dot=Close()), "", "abc", "", id="dot-close"),
    pytest.param(Script(dot=Reset()), "", "abc", "", id="dot-reset"),
    pytest.param(Script(greeting="421 no"), "", "abc", "", id="greeting-421"),
    pytest.param(Script(greeting="554 no"), "", "abc", "", id="greeting-554"),
    pytest.param(Script(greeting=Close()), "", "abc", "", id="greeting-close"),
    pytest.param(Script(greeting=Raw(b"SSH-2.0-x\r\n")), "", "abc", "", id="greeting-garbage"),
    pytest.param(Script(lhlo="451 no"), "", "abc", "", id="lhlo-451"),
    pytest.param(Script(lhlo="554 no"), "", "", "abc", id="lhlo-554"),
    pytest.param(Script(mail="451 no"), "", "abc", "", id="mail-451"),
    pytest.param(Script(mail="550 no"), "", "", "abc", id="mail-550"),
    pytest.param(Script(data="451 no"), "", "abc", "", id="data-451"),
    pytest.param(Script(data="554 no"), "", "", "abc", id="data-554"),
    pytest.param(Script(rcpt="550 no"), "", "", "abc", id="rcpt-550-for-all"),
    pytest.param(Script(rcpt="451 no"), "", "abc", "", id="rcpt-451-for-all"),
    pytest.param(Script(rcpt="451 no", data="354 go"), "", "abc", "", id="rcpt-451-for-all-but-354"),
]


def _names(letters: str) -> tuple[str, ...]:
    return tuple(f"{letter}@x.example" for letter in letters)


@pytest.mark.parametrize("uses", [pytest.param(PLAIN, id="in-turn"), pytest.param(("PIPELINING",), id="pipelined")])
@pytest.mark.parametrize(("script", "at_first", "at_second", "refused"), LMTP_FAILOVER)
async def test_lmtp_failover(
    script: Script, at_first: str, at_second: str, refused: str, uses: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "lmtp", script)
        sending = await ScriptedSender(site.network, protocol="lmtp", uses=uses).send(MESSAGE, RECIPIENTS, GATEWAYS)
        await trio.testing.wait_all_tasks_blocked()
        assert site.network.open_streams == 0
        nursery.cancel_scope.cancel()
    assert [tuple(taken) for taken in site.taken] == [_names(at_first), _names(at_second)]
    assert sending.refused == _names(refused)
    assert sending.delivered == tuple(name for name in RECIPIENTS if name not in sending.refused)
    assert sending.deferred == ()
    contents = [message.content for gateway in site.gateways for message in gateway.messages if message.recipients]
    assert contents == [MESSAGE] * len(contents)


SMTP_FAILOVER = [
    pytest.param(Script(recipients=only(A, "451 no")), "bc", "a", "", id="rcpt-451-for-a"),
    pytest.param(Script(rcpt=Turns("250 ok", "452 4.5.3 no")), "a", "bc", "", id="rcpt-452-from-the-second-on"),
    pytest.param(Script(ehlo="502 no"), "abc", "", "", id="helo"),
    pytest.param(Script(ehlo="502 no", helo="554 no"), "", "", "abc", id="helo-554"),
    pytest.param(Script(dot="451 no"), "", "abc", "", id="dot-451"),
    pytest.param(Script(dot=("421 bye", Close())), "", "abc", "", id="dot-421"),
    pytest.param(Script(dot=Close()), "", "abc", "", id="dot-close"),
    pytest.param(Script(dot="554 no"), "", "", "abc", id="dot-554"),
]


@pytest.mark.parametrize("uses", [pytest.param(PLAIN, id="in-turn"), pytest.param(("PIPELINING",), id="pipelined")])
@pytest.mark.parametrize(("script", "at_first", "at_second", "refused"), SMTP_FAILOVER)
async def test_smtp_failover(
    script: Script, at_first: str, at_second: str, refused: str, uses: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", script)
        sending = await ScriptedSender(site.network, uses=uses).send(MESSAGE, RECIPIENTS, GATEWAYS)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [tuple(taken) for taken in site.taken] == [_names(at_first), _names(at_second)]
    assert sending.refused == _names(refused)


# Exim's rules: the recipients' replies count only after a positive final one.
PRDR = [
    pytest.param(Script(outcomes=only(B, "451 no")), "ac", "b", "", id="451-for-b"),
    pytest.param(Script(outcomes=only(B, "550 no")), "ac", "", "b", id="550-for-b"),
    pytest.param(Script(prdr_end="451 no"), "", "abc", "", id="final-451"),
    pytest.param(Script(prdr_end="550 no"), "", "", "abc", id="final-550"),
    pytest.param(Script(prdr_end=Close()), "", "abc", "", id="no-final"),
    pytest.param(Script(prdr_start="250 ok"), "abc", "", "", id="one-reply-for-all"),
]


@pytest.mark.parametrize(("script", "at_first", "at_second", "refused"), PRDR)
async def test_prdr(script: Script, at_first: str, at_second: str, refused: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", dataclasses.replace(script, extensions=("PRDR",)))
        sending = await ScriptedSender(site.network, uses=("PRDR",)).send(MESSAGE, RECIPIENTS, GATEWAYS)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert site.gateways[0].messages[0].parameters == ("PRDR",)
    assert tuple(fate.recipient for fate in sending.fates if fate.attempts[-1].gateway == GW2) == _names(at_second)
    assert sending.refused == _names(refused)
    assert sending.delivered == tuple(name for name in RECIPIENTS if name not in sending.refused)
    assert [name for name in sending.delivered if name not in _names(at_second)] == list(_names(at_first))


async def test_prdr_is_not_asked_for_with_one_recipient(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(extensions=("PRDR",)))
        await ScriptedSender(site.network, uses=("PRDR",)).send(MESSAGE, [A], GATEWAYS)
        assert site.gateways[0].messages[0].parameters == ()


# What is done to gw1 | where it fails there | with which words | after how many seconds
WAITS: list[tuple[str, Script, Callable[[MemoryNetwork], None], Stage, str, float]] = [
    ("refused", Script(), lambda net: net.refuse(GW1), Stage.CONNECT, "[Errno 111] Connection refused: 10.0.0.1:24", 0),
    ("black-hole", Script(), lambda net: net.black_hole(GW1), Stage.CONNECT, "timed out after 30 s", 30),
    ("greeting", Script(greeting=Silence()), lambda net: None, Stage.GREETING, "timed out after 300 s", 300),
    ("hello", Script(lhlo=Silence()), lambda net: None, Stage.HELLO, "timed out after 300 s", 300),
    ("mail", Script(mail=Silence()), lambda net: None, Stage.MAIL, "timed out after 300 s", 300),
    ("rcpt", Script(recipients=only(C, Silence())), lambda net: None, Stage.RCPT, "timed out after 300 s", 300),
    ("data", Script(data=Silence()), lambda net: None, Stage.DATA, "timed out after 120 s", 120),
    ("dot", Script(dot=Silence()), lambda net: None, Stage.DOT, "timed out after 600 s", 600),
    ("slow", Script(dot=(Delay(599), Close())), lambda net: None, Stage.DOT, "connection lost", 599),
]


@pytest.mark.parametrize(
    ("script", "fault", "stage", "text", "seconds"), [pytest.param(*row, id=name) for name, *row in WAITS]
)
async def test_how_long_it_waits_and_how_it_says_so(
    script: Script,
    fault: Callable[[MemoryNetwork], None],
    stage: Stage,
    text: str,
    seconds: float,
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "lmtp", script)
        fault(site.network)
        sending = await ScriptedSender(site.network, protocol="lmtp").send(MESSAGE, RECIPIENTS, GATEWAYS)
        nursery.cancel_scope.cancel()
    first, second = sending.fates[0].attempts
    assert (first.gateway, first.stage, first.text, first.state) == (GW1, stage, text, State.DEFERRED)
    assert (first.seconds, second.seconds, sending.seconds) == (seconds, 0, seconds)
    assert (second.gateway, second.stage, second.text) == (GW2, Stage.DOT, "250 2.0.0 taken")
    assert str(first) == f"10.0.0.1:24 {stage.value}: {text} ({seconds:.3f} s)"


async def test_both_gateways_down_defers_with_every_attempt(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        sending = await ScriptedSender(network).send(MESSAGE, [A], GATEWAYS)
    (fate,) = sending.fates
    assert (fate.state, [attempt.gateway for attempt in fate.attempts]) == (State.DEFERRED, list(GATEWAYS))
    assert sending == Sending((fate,), (), 0)


async def test_a_recipient_named_twice_has_two_fates(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "lmtp", Script(outcomes=only(A, Turns("250 ok", "550 no"))))
        sending = await ScriptedSender(site.network, protocol="lmtp").send(MESSAGE, [A, A], GATEWAYS)
    assert [fate.state for fate in sending.fates] == [State.DELIVERED, State.REFUSED]


# The message and the envelope | offered | the parameters of MAIL
PARAMETERS = [
    pytest.param(b"a\r\n", A, ("SIZE",), ("SIZE=3",), id="size"),
    pytest.param("\u00fc\r\n".encode(), A, ("8BITMIME",), ("BODY=8BITMIME",), id="8bit"),
    pytest.param(b"a\r\n", A, ("8BITMIME", "SMTPUTF8"), (), id="neither-needed"),
    pytest.param(b"a\r\n", "\u00fc@x.example", ("SMTPUTF8",), ("SMTPUTF8",), id="utf-8"),
]


@pytest.mark.parametrize(("message", "recipient", "offered", "parameters"), PARAMETERS)
async def test_parameters(
    message: bytes, recipient: str, offered: tuple[str, ...], parameters: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(extensions=offered))
        await ScriptedSender(site.network).send(message, [recipient], GATEWAYS)
        assert site.gateways[0].messages[0].parameters == parameters


async def test_utf8_that_is_not_offered_is_refused(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(extensions=()))
        sending = await ScriptedSender(site.network).send(b"", ["\u00fc@x.example"], GATEWAYS)
    (attempt,) = sending.fates[0].attempts
    assert (attempt.text, attempt.state) == ("SMTPUTF8 is required, but was not offered", State.REFUSED)


@pytest.mark.parametrize("message", [b"a", b"a\n", b"a\rb\r\n", b"a\r\nb"])
async def test_a_message_with_other_line_ends_is_refused(message: bytes, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="every line of the message must end in CRLF"):
            await ScriptedSender(MemoryNetwork(nursery)).send(message, [A], GATEWAYS)


async def test_it_connects_from_its_source(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script())
        await ScriptedSender(site.network, source="192.0.2.10").send(b"", [A], GATEWAYS)
        assert [connection.source for connection in site.network.connections] == ["192.0.2.10"]


@pytest.mark.parametrize("capacity", [1, 64])
async def test_small_buffers(capacity: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, capacity=capacity)
        mta = ScriptedMTA("gw1", "lmtp")
        network.serve(GW1, mta.handle)
        sending = await ScriptedSender(network, protocol="lmtp").send(MESSAGE, RECIPIENTS, [GW1])
        assert sending.delivered == RECIPIENTS
        nursery.cancel_scope.cancel()


async def test_the_transcript_of_a_pipelined_message(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "lmtp", Script(extensions=("PIPELINING",)))
        sender = ScriptedSender(site.network, protocol="lmtp")
        sending = await sender.send(MESSAGE, [A, B], GATEWAYS, reverse_path="")
    assert sending.transcripts == tuple(sender.transcripts)
    assert sending.transcripts[0].dialog == [
        "-- connected",
        "S: 220 gw1 ready",
        "C: LHLO sender.example",
        "S: 250-gw1",
        "S: 250 PIPELINING",
        "C: MAIL FROM:<>",
        "C: RCPT TO:<a@x.example>",
        "C: RCPT TO:<b@x.example>",
        "C: DATA",
        "S: 250 2.1.0 sender ok",
        "S: 250 2.1.5 recipient ok",
        "S: 250 2.1.5 recipient ok",
        "S: 354 go ahead",
        "C: [34 bytes with the dot]",
        "C: QUIT",
        "S: 250 2.0.0 taken",
        "S: 250 2.0.0 taken",
    ]


# Several transactions in one session


async def _transactions(
    site: Site, sender: ScriptedSender, *recipients: str, last: bool = False
) -> tuple[list[str], list[str]]:
    """One for each recipient: the texts told, and the dialog, without the messages and their replies."""
    told: list[str] = []
    async with sender.connect(GW1) as session:
        for recipient in recipients:
            told += [attempt.text for attempt in await session.transact(MESSAGE, [recipient], "s@x", last=last)]
    await trio.testing.wait_all_tasks_blocked()
    return told, [line for line in sender.transcripts[-1].dialog if line.startswith("C:")] if sender.transcripts else []


HELLO, BODY = "C: EHLO sender.example", "C: [34 bytes with the dot]"


def envelope(recipient: str) -> list[str]:
    return ["C: MAIL FROM:<s@x>", f"C: RCPT TO:<{recipient}>", "C: DATA"]


# What gw1 does | what the sender is told about a, and then about b | what it says
SESSIONS = [
    pytest.param(
        Script(),
        ["250 2.0.0 taken", "250 2.0.0 taken"],
        [HELLO, *envelope(A), BODY, *envelope(B), BODY, "C: QUIT"],
        id="taken",
    ),
    pytest.param(
        Script(recipients=only(A, "550 no")),
        ["550 no", "250 2.0.0 taken"],
        [HELLO, *envelope(A)[:2], "C: RSET", *envelope(B), BODY, "C: QUIT"],
        id="refused-at-RCPT",
    ),
    pytest.param(
        Script(dot=Turns("451 no", "250 ok")),
        ["451 no", "250 ok"],
        [HELLO, *envelope(A), BODY, *envelope(B), BODY, "C: QUIT"],
        id="refused-at-the-dot",
    ),
    pytest.param(
        Script(recipients=only(A, "451 no"), rset="502 no"),
        ["451 no", "502 no"],
        [HELLO, *envelope(A)[:2], "C: RSET"],
        id="no-RSET",
    ),
    pytest.param(Script(greeting="421 no"), ["421 no", "421 no"], [], id="greeting"),
    pytest.param(Script(mail="421 no"), ["421 no", "421 no"], [HELLO, "C: MAIL FROM:<s@x>"], id="421"),
    pytest.param(
        Script(dot=("250 ok", Close())),
        ["250 ok", "connection lost"],
        [HELLO, *envelope(A), BODY, *envelope(B)[:1]],
        id="closed-after-the-first",
    ),
]


@pytest.mark.parametrize(("script", "told", "said"), SESSIONS)
async def test_sessions(script: Script, told: list[str], said: list[str], autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", dataclasses.replace(script, extensions=()))
        assert await _transactions(site, ScriptedSender(site.network), A, B) == (told, said)
        assert site.network.open_streams == 0


async def test_a_pipelined_session_says_rset_in_its_group(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(recipients=only(A, "550 no")))
        told, said = await _transactions(site, ScriptedSender(site.network, uses=("PIPELINING",)), A, B)
    assert told == ["550 no", "250 2.0.0 taken"]
    assert said == [HELLO, *envelope(A), "C: RSET", *envelope(B), BODY, "C: QUIT"]


async def test_quit_ends_a_session(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script())
        told, said = await _transactions(site, ScriptedSender(site.network, uses=("PIPELINING",)), A, B, last=True)
    assert told == ["250 2.0.0 taken", "QUIT was said"]
    assert said == [HELLO, *envelope(A), BODY, "C: QUIT"]


async def test_a_session_that_could_not_be_opened(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        sender = ScriptedSender(network)
        async with sender.connect(GW1) as session:
            (attempt,) = await session.transact(MESSAGE, [A], "s@x")
        assert (session.usable, session.transcript, attempt.stage) == (False, None, Stage.CONNECT)
        assert attempt.text == "[Errno 111] Connection refused: 10.0.0.1:24"


async def test_each_transaction_has_a_time_of_its_own(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(greeting=Delay(5), dot=Delay(2)))
        async with ScriptedSender(site.network).connect(GW1) as session:
            (first,) = await session.transact(MESSAGE, [A], "s@x")
            await trio.sleep(100)
            (second,) = await session.transact(MESSAGE, [B], "s@x")
    assert (first.seconds, second.seconds, session.transactions) == (7, 2, 2)


async def test_a_fate_is_told_as_soon_as_it_is_known(autojump_clock: MockClock) -> None:
    told: list[tuple[float, int, str]] = []

    def tell(position: int, attempt: Attempt) -> None:
        told.append((trio.current_time() - begin, position, attempt.text))

    script = Script(recipients=only(B, "550 b"), outcomes={A: (Delay(3), "250 a"), C: (Delay(4), Close())})
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "lmtp", script)
        begin = trio.current_time()
        async with ScriptedSender(site.network, protocol="lmtp").connect(GW1) as session:
            await session.transact(MESSAGE, RECIPIENTS, "s@x", told=tell)
    assert told == [(0, 1, "550 b"), (3, 0, "250 a"), (7, 2, "connection lost")]


async def test_a_cancelled_session_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(dot=Silence()))
        sender = ScriptedSender(site.network)
        with trio.move_on_after(5):
            await _transactions(site, sender, A)
        assert sender.transcripts[0].dialog[-1] == BODY
        assert site.network.open_streams == 0
        nursery.cancel_scope.cancel()


# What gw1 does | bytes of the message per second | what has been said when the transaction is cancelled, after 5 s
CANCELLED = [
    pytest.param(Script(greeting=Silence()), None, [], id="greeting"),
    pytest.param(Script(rcpt=Silence()), None, [HELLO, *envelope(A)[:2]], id="RCPT"),
    pytest.param(Script(), 4, [HELLO, *envelope(A)], id="inside-the-message"),
    pytest.param(Script(dot=Silence()), None, [HELLO, *envelope(A), BODY], id="dot"),
]


@pytest.mark.parametrize(("script", "rate", "said"), CANCELLED)
async def test_a_session_ends_with_a_cancelled_transaction(
    script: Script, rate: float | None, said: list[str], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", dataclasses.replace(script, extensions=()))
        sender = ScriptedSender(site.network, rate=rate)
        async with sender.connect(GW1) as session:
            with trio.move_on_after(5):
                await session.transact(MESSAGE, [A], "s@x")
            assert not session.usable
            (attempt,) = await session.transact(MESSAGE, [B], "s@x")
        await trio.testing.wait_all_tasks_blocked()
        assert (attempt.text, attempt.state) == ("the session has ended", State.DEFERRED)
        assert [line for line in sender.transcripts[0].dialog if line.startswith("C:")] == said
        assert site.network.open_streams == 0
        nursery.cancel_scope.cancel()


async def test_a_session_closed_inside_a_message_does_not_say_quit(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script(extensions=()))
        sender = ScriptedSender(site.network, rate=4)
        async with sender.connect(GW1) as session:
            with trio.move_on_after(5):
                await session.transact(MESSAGE, [A], "s@x")
        await trio.testing.wait_all_tasks_blocked()
        assert sender.transcripts[0].dialog[-1] == "S: 354 go ahead"
        assert site.gateways[0].unfinished == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rate", [4, 10, 1000])
async def test_it_sends_at_a_rate(rate: float, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script())
        sending = await ScriptedSender(site.network, rate=rate).send(MESSAGE, [A], GATEWAYS)
    assert sending.delivered == (A,)
    assert sending.seconds == pytest.approx(31 / rate)


async def test_a_slow_sender_is_not_impatient(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script())
        sender = ScriptedSender(site.network, rate=0.01, patience=Patience(body=1))
        assert (await sender.send(MESSAGE, [A], GATEWAYS)).delivered == (A,)


@pytest.mark.parametrize(("remember", "kept"), [(None, 3), (2, 2), (0, 0)])
async def test_how_much_it_remembers(remember: int | None, kept: int, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        site = Site(nursery, "smtp", Script())
        sender = ScriptedSender(site.network, remember=remember)
        for _ in range(3):
            assert len((await sender.send(MESSAGE, [A], GATEWAYS)).transcripts) == 1
    assert len(sender.transcripts) == kept
