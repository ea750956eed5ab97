"""The wiring of `mailgate serve`: listeners, signals, drain, the ledger from one run to the next.

In memory, on virtual time; the signals are real, and so is the ledger's file.
"""

from __future__ import annotations

import errno
import io
import json
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from structlog.typing import FilteringBoundLogger
from trio.testing import MockClock

from mailgate import app, ledger_file, logs
from mailgate.config import Config, parse
from mailgate.network import TcpAddress
from mailgate.relay.ledger import Remembered
from mailgate.store import StoreUnreachable
from mailgate.testing import Delay, Dialog, MemoryNetwork, Script, ScriptedMTA, Silence

SMTP, LMTP = TcpAddress("127.0.0.1", 2525), TcpAddress("127.0.0.1", 2424)
MX = TcpAddress("127.0.0.2", 25)

FILE = """
hostname = "gw.example"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["127.0.0.1:2525"]
routes = ["inside"]

[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["127.0.0.1:2424"]
routes = ["inside"]

[[route]]
name = "inside"
domains = ["a.example"]
hosts = ["127.0.0.2:25"]
"""
CONFIG = parse(FILE)
ONE_SESSION = parse(FILE.replace('"lmtp"', '"lmtp"\nclients = ["192.0.2.0/24"]') + "[limits]\nsessions = 1\n")

GOODBYE = "S: 421 4.3.2 gw.example Shutting down, ..."
HELLO = """
    S: 220 gw.example SMTP mailgate
    C: HELO c
    S: 250 gw.example
"""
ENVELOPE = f"""
    {HELLO}
    C: MAIL FROM:<s@in.example>
    S: 250 ...
    C: RCPT TO:<u@a.example>
    S: 250 ...
"""
CONTENT = f"""
    {ENVELOPE}
    C: DATA
    S: 354 ...
    C: hello
"""


class Served:
    """A running `app.serve`, what it returned and what it logged."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.drained: bool | None = None
        self.ended = trio.Event()
        self._output = io.BytesIO()

    async def run(self, config: Config) -> None:
        """The task."""
        self.drained = await app.serve(config, self.network, self._logger())
        self.ended.set()

    def _logger(self) -> FilteringBoundLogger:
        return logs.configure(stream=self._output, format="json", verbose=False, now=self.network.now)

    async def client(self, script: str, address: TcpAddress = SMTP) -> Dialog:
        """Connect and play."""
        dialog = Dialog(await self.network.connect(address), patience=1000)
        await dialog.play(script)
        return dialog

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self._output.getvalue().splitlines()]

    def events(self) -> list[str]:
        """What its log is about."""
        return [line["event"] for line in self.lines()]


async def start(
    nursery: trio.Nursery, script: Script | None = None, config: Config = CONFIG
) -> tuple[Served, ScriptedMTA]:
    """Start serving before a scripted next hop."""
    network = MemoryNetwork(nursery)
    mta = ScriptedMTA("a", script=script)
    network.serve(MX, mta.handle)
    served = Served(network)
    nursery.start_soon(served.run, config)
    await trio.testing.wait_all_tasks_blocked()
    return served, mta


@contextmanager
def takes(seconds: float) -> Iterator[None]:
    """What is within takes exactly that long."""
    began = trio.current_time()
    yield
    assert trio.current_time() - began == pytest.approx(seconds)


async def test_each_address_that_is_listened_on_is_a_line(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served, _ = await start(nursery)
    lines = [line for line in served.lines() if line["event"] == "listening"]
    assert [{**line, "timestamp": ""} for line in lines] == [
        {"timestamp": "", "level": "info", "event": "listening", "listener": name, "protocol": protocol, "address": at}
        for name, protocol, at in [
            ("from-outside", "smtp", "127.0.0.1:2525"),
            ("from-inside", "lmtp", "127.0.0.1:2424"),
        ]
    ]
    await served.client("S: 220 gw.example SMTP mailgate")
    await served.client("S: 220 gw.example LMTP mailgate", LMTP)
    signal.raise_signal(signal.SIGTERM)
    await served.ended.wait()


async def test_an_address_in_use_leaves_no_listener_behind(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    network = MemoryNetwork(nursery)
    await network.listen(LMTP)
    with pytest.raises(app.CannotListen) as failure:
        await Served(network).run(CONFIG)
    assert str(failure.value) == (
        'listener "from-inside": cannot listen on 127.0.0.1:2424: Address already in use: 127.0.0.1:2424; '
        "stop what uses it, or change `bind`"
    )
    await network.listen(SMTP)  # free again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_ends_what_is_idle_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock, number: signal.Signals
) -> None:
    served, _ = await start(nursery)
    greeted = await served.client("S: 220 ...")
    idle = await served.client(HELLO)
    with takes(0):
        signal.raise_signal(number)
        for client in (greeted, idle):
            await client.play(f"{GOODBYE}\nC.")
        await served.ended.wait()
    assert served.drained is True
    draining, stopped = served.lines()[-2:]
    assert (draining["event"], draining["signal"], draining["seconds"]) == ("draining", number.name, 30)
    assert stopped["event"] == "stopped"


async def test_nobody_is_let_in_any_more(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served, _ = await start(nursery)
    client = await served.client(ENVELOPE)
    signal.raise_signal(signal.SIGTERM)
    await trio.testing.wait_all_tasks_blocked()
    for address in (SMTP, LMTP):
        with pytest.raises(ConnectionRefusedError):
            await served.network.connect(address)
    await client.play("C.")
    await served.ended.wait()


async def test_a_transaction_may_go_on_for_the_time_of_the_drain(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    served, mta = await start(nursery)
    in_time = await served.client(ENVELOPE)
    too_late = await served.client(ENVELOPE)
    in_the_body = await served.client(CONTENT)
    with takes(30):
        signal.raise_signal(signal.SIGTERM)
        await in_time.play(f"""
            C+ 29
            C: DATA
            S: 354 ...
            C: hello
            C: .
            S: 250 2.0.0 taken
            {GOODBYE}
            C.
        """)
        for client in (too_late, in_the_body):
            await client.play(f"{GOODBYE}\nC.")
        await served.ended.wait()
    assert served.drained is True
    assert (len(mta.messages), mta.unfinished) == (1, 1)


async def test_a_committed_transaction_has_all_the_time_it_needs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    served, _ = await start(nursery, Script(dot=Delay(300)))
    client = await served.client(CONTENT + "C: .")
    await trio.testing.wait_all_tasks_blocked()
    with takes(300):
        signal.raise_signal(signal.SIGTERM)
        await client.play(f"S: 250 2.0.0 taken\n{GOODBYE}\nC.")
        await served.ended.wait()
    assert served.drained is True
    assert served.lines()[-1]["delivered"] == 1


async def test_a_second_signal_cuts_everything_off(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served, _ = await start(nursery, Script(dot=Silence()))
    committed = await served.client(CONTENT + "C: .")
    waiting = await served.client(CONTENT)
    await trio.testing.wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGTERM)
    await committed.play("C+ 1")
    with takes(0):
        signal.raise_signal(signal.SIGINT)
        await served.ended.wait()
    for client in (committed, waiting):
        await client.play("S.")
    assert served.drained is False
    assert served.network.open_streams == 2  # the clients' own ends
    leaving = next(line for line in served.lines() if line["event"] == "leaving_at_once")
    assert (leaving["level"], leaving["signal"]) == ("warning", "SIGINT")
    # Whoever comes to look for the message finds what is known of it.
    assert served.lines()[-1] | {"event": "stopped", "unknown": 1} == served.lines()[-1]
    assert any("u@a.example unknown: 451 4.4.2 " in str(line.get("outcomes")) for line in served.lines())


async def test_a_second_signal_does_not_wait_for_goodbyes(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served, _ = await start(nursery, Script(quit=Silence()))
    client = await served.client(CONTENT + "C: .\nS: 250 ...")
    with takes(1):
        signal.raise_signal(signal.SIGTERM)
        await client.play(f"{GOODBYE}\nC.\nC+ 1")
        assert not served.ended.is_set()  # a next hop has five seconds to answer our QUIT
        signal.raise_signal(signal.SIGTERM)
        await served.ended.wait()


async def test_sessions_are_limited_and_who_is_sent_away_is_none(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    served, _ = await start(nursery, config=ONE_SESSION)
    too_many = "S: 421 4.3.2 gw.example Too many sessions, ..."
    first = await served.client("S: 220 ...")
    await served.client(too_many)
    await first.play("C: QUIT\nS: 221 ...\nS.")
    # Neither the one that was sent away, and has not left yet, nor one that may not connect takes its place.
    await served.client("S: 554 5.7.1 gw.example You may not connect here", LMTP)
    await served.client("S: 220 ...")
    await served.client(too_many)
    signal.raise_signal(signal.SIGTERM)
    await served.ended.wait()


async def test_a_lack_of_descriptors_is_a_line_and_a_pause(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served, _ = await start(nursery)
    for _ in range(3):
        served.network.fail_accept(SMTP, errno.EMFILE)
    with takes(3 * app.ACCEPT_PAUSE):
        await served.client(HELLO)
    with takes(0):
        await served.client("S: 220 ...", LMTP)
    failures = [line for line in served.lines() if line["event"] == "accept_failed"]
    assert [(line["level"], line["listener"]) for line in failures] == [("error", "from-outside")]
    assert failures[0]["why"] == "Too many open files: 127.0.0.1:2525"
    signal.raise_signal(signal.SIGTERM)
    await served.ended.wait()


# The ledger from one run to the next

MARK = "ledger:" + "a" * 32
PUT_OFF = "put-off:" + "b" * 32


def stateful(directory: Path, tables: str = "") -> Config:
    """With a `state_dir`."""
    return parse(f'state_dir = "{directory}"\n{FILE}{tables}')


async def a_run(nursery: trio.Nursery, config: Config) -> Served:
    """A start and a stop."""
    served, _ = await start(nursery, config=config)
    signal.raise_signal(signal.SIGTERM)
    await served.ended.wait()
    return served


def about_the_ledger(served: Served) -> list[dict[str, Any]]:
    """Its log's lines about the ledger, without their time."""
    lines = [line for line in served.lines() if line["event"].startswith("ledger")]
    return [{key: value for key, value in line.items() if key != "timestamp"} for line in lines]


def some(seconds: float) -> Remembered:
    return Remembered(ledger=((MARK, seconds),), put_off=((PUT_OFF, seconds),))


async def test_the_ledger_goes_from_one_run_to_the_next(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    file = tmp_path / ledger_file.NAME
    network = MemoryNetwork(nursery)
    ledger_file.write(tmp_path, some(100), network.now())
    await trio.sleep(10)
    served = Served(network)
    nursery.start_soon(served.run, stateful(tmp_path))
    await trio.testing.wait_all_tasks_blocked()
    assert not file.exists()  # a crash from here on must not bring it back
    assert about_the_ledger(served) == [
        {"level": "info", "event": "ledger_taken_up", "file": str(file), "entries": 1, "put_off": 1}
    ]
    await trio.sleep(10)
    signal.raise_signal(signal.SIGTERM)
    await served.ended.wait()
    assert ledger_file.take(tmp_path, network.now()) == some(80)


RETRY = f"{CONTENT}C: .\nS: 250 ...\nC: QUIT\nS: 221 ...\nS."


@pytest.mark.parametrize("hurry", [False, True], ids=["drained", "cut short"])
async def test_a_retry_at_the_next_run_makes_no_second_copy(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path, *, hurry: bool
) -> None:
    served, mta = await start(nursery, Script(dot=Delay(5)), stateful(tmp_path))
    gone = await served.client(CONTENT + "C: .\nC+ 1\nC.")
    await gone.play("C+ 10")
    if hurry:  # there is something to wait for
        await served.client(ENVELOPE)
    for _ in range(1 + hurry):
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked()
    await served.ended.wait()
    assert served.drained is not hurry

    again = Served(served.network)
    nursery.start_soon(again.run, stateful(tmp_path))
    await trio.testing.wait_all_tasks_blocked()
    await again.client(RETRY)
    assert len(mta.messages) == 1
    signal.raise_signal(signal.SIGTERM)
    await again.ended.wait()


async def test_a_first_run_starts_empty_and_says_so(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    served = await a_run(nursery, stateful(tmp_path))
    why = "there is no such file: none was kept, or the last run did not end well"
    file = str(tmp_path / ledger_file.NAME)
    assert about_the_ledger(served) == [{"level": "info", "event": "ledger_empty", "file": file, "why": why}]
    assert ledger_file.take(tmp_path, served.network.now()) == Remembered()


async def test_without_a_state_dir_it_ends_with_the_run(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    served = await a_run(nursery, CONFIG)
    why = "there is no state_dir to keep it in, so it ends with each run"
    assert about_the_ledger(served) == [
        {"level": "info", "event": "ledger_empty", "why": why, "remedy": "set state_dir"}
    ]


async def test_a_damaged_file_is_a_warning(nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path) -> None:
    (tmp_path / ledger_file.NAME).write_text("{")
    served = await a_run(nursery, stateful(tmp_path))
    (line,) = about_the_ledger(served)
    assert (line["level"], line["event"]) == ("warning", "ledger_empty")
    assert line["why"].startswith("it is damaged, or another version's: ")
    assert ledger_file.take(tmp_path, served.network.now()) == Remembered()


async def test_a_ledger_that_is_off_leaves_no_file_and_none_for_later(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    ledger_file.write(tmp_path, some(100), MemoryNetwork(nursery).now())
    served = await a_run(nursery, stateful(tmp_path, "[ledger]\nenabled = false\n"))
    assert about_the_ledger(served) == []
    assert ledger_file.take(tmp_path, served.network.now()) is None


async def test_a_file_that_cannot_be_written_is_an_error_and_the_exit_as_otherwise(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    state = tmp_path / "none"
    served = await a_run(nursery, stateful(state))
    assert about_the_ledger(served)[-1] == {
        "level": "error",
        "event": "ledger_lost",
        "file": str(state / ledger_file.NAME),
        "why": "No such file or directory",
        "remedy": f"see that the user that the gateway runs as may write in {state}, and has room there",
        "entries": 0,
        "put_off": 0,
    }
    assert served.drained is True
    assert served.events()[-1] == "stopped"


async def test_a_start_that_fails_leaves_the_file(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    network = MemoryNetwork(nursery)
    ledger_file.write(tmp_path, some(100), network.now())
    await network.listen(LMTP)
    with pytest.raises(app.CannotListen):
        await Served(network).run(stateful(tmp_path))
    assert ledger_file.take(tmp_path, network.now()) == some(100)


async def test_what_is_doubtful_in_the_configuration_is_a_warning(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    config = parse(FILE.replace('"smtp"', '"smtp"\nseveral_next_hops = "together"'))
    (warning,) = config.warnings
    served = await a_run(nursery, config)
    first = served.lines()[0]
    assert (first["level"], first["event"]) == ("warning", "config_warning")
    assert (first["where"], first["what"], first["remedy"]) == (warning.where, warning.what, warning.remedy)


# The shared ledger


class Store:
    """In the place of the real one: who may serve is to find it running."""

    made: ClassVar[list[Store]] = []

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: list[str] = []
        self.made.append(self)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """As long as it may be asked."""
        await trio.sleep(1)
        self.events.append("runs")
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.events.append("has ended")

    async def take(self, marks: Sequence[str]) -> tuple[bool, ...]:
        """There is nothing."""
        await trio.lowlevel.checkpoint()
        self.events += marks
        return (False,) * len(marks)

    async def add(self, marks: Sequence[str], seconds: float) -> None:
        """Note it."""
        await trio.lowlevel.checkpoint()
        self.events += marks


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> list[Store]:
    """Those that are made."""
    module = types.ModuleType("mailgate.store_redis")
    monkeypatch.setattr(Store, "made", [])
    monkeypatch.setattr(module, "RedisStore", Store, raising=False)
    monkeypatch.setitem(sys.modules, "mailgate.store_redis", module)
    return Store.made


async def test_a_shared_ledger_is_there_before_the_first_session_and_until_the_last(
    nursery: trio.Nursery, autojump_clock: MockClock, stores: list[Store]
) -> None:
    served, _ = await start(nursery, Script(dot=Delay(50)), parse(f'{FILE}[ledger]\nurl = "redis://:s3cret@h"\n'))
    (store,) = stores
    assert store.url == "redis://:s3cret@h"
    client = await served.client("")
    with takes(1):
        await client.play("S: 220 ...")
    assert store.events == ["runs"]
    await client.play(f"{CONTENT.partition('SMTP mailgate')[2]}C: .\nC+ 1\nC.")
    signal.raise_signal(signal.SIGTERM)
    await served.ended.wait()
    asked = [event.partition(":")[0] for event in store.events]
    assert asked == ["runs", "put-off", "put-off", "ledger", "ledger", "has ended"]
    assert "s3cret" not in str(served.lines())


async def test_a_shared_ledger_that_cannot_be_reached_is_named_at_the_start(
    nursery: trio.Nursery, autojump_clock: MockClock, stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(store: Store, marks: Sequence[str]) -> tuple[bool, ...]:
        await trio.lowlevel.checkpoint()
        raise StoreUnreachable("connection refused")

    monkeypatch.setattr(Store, "take", nobody)
    served = await a_run(nursery, parse(f'{FILE}[ledger]\nurl = "redis://h"\n'))
    [line] = [line for line in served.lines() if line["event"] == "store_unreachable"]
    assert (line["level"], line["why"]) == ("warning", "connection refused")


async def test_without_a_url_there_is_none(
    nursery: trio.Nursery, autojump_clock: MockClock, stores: list[Store]
) -> None:
    await a_run(nursery, CONFIG)
    assert stores == []
