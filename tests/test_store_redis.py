"""The store on a real server: marks are made, and taken once, whatever happens to the server and to the calls."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from redis_server import RedisServer, free_port

from mailgate import store_redis
from mailgate.store import StoreLost, StoreUnreachable
from mailgate.store_redis import RedisStore, StoreMissing

SOON = 10.0
"""seconds within which happens what must happen"""

DEADLINE = 1.0
"""seconds that a caller has"""

AT_ONCE = 0.1
"""seconds within which is told what is known"""

A, B, C = "ledger:a", "ledger:b", "put-off:c"

HELLO = b"%3\r\n$5\r\nproto\r\n:3\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$2\r\nid\r\n:1\r\n"
"""a good answer of a server to what a connection begins with"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """One that runs."""
    server = RedisServer(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
async def store(server: RedisServer, nursery: trio.Nursery) -> RedisStore:
    """One that is connected."""
    return await running(server.url, nursery)


async def running(url: str, nursery: trio.Nursery) -> RedisStore:
    store = RedisStore(url)
    with trio.fail_after(SOON):
        await nursery.start(store.run)
    return store


async def comes_back(store: RedisStore) -> None:
    with trio.fail_after(SOON):
        while True:
            try:
                with trio.move_on_after(DEADLINE):
                    await store.take(["none"])
                    return
            except StoreUnreachable:
                await trio.sleep(0.01)


async def why_not(store: RedisStore) -> str:
    """What it says at once, as it cannot be asked."""
    with trio.fail_after(AT_ONCE), pytest.raises(StoreUnreachable) as raised:
        await store.take([A])
    return str(raised.value)


# A server that is there


async def test_a_mark_is_there_until_it_is_taken(store: RedisStore) -> None:
    await store.add([A, B], 60)
    assert await store.take([C, A, B]) == (False, True, True)
    assert await store.take([A, B]) == (False, False)


async def test_no_marks_are_no_question(store: RedisStore) -> None:
    await store.add([], 60)
    assert await store.take([]) == ()


@pytest.mark.parametrize(("seconds", "life"), [(432_000, 432_000), (86_399.2, 86_400), (0.001, 1)])
async def test_the_server_removes_a_mark_after_its_time(
    server: RedisServer, store: RedisStore, seconds: float, life: int
) -> None:
    await store.add([A], seconds)
    assert life * 1000 - 900 < int((await server.ask(f"PTTL mailgate:{A}")).removeprefix(":")) <= life * 1000


async def test_a_mark_that_is_made_anew_has_its_whole_time(server: RedisServer, store: RedisStore) -> None:
    await store.add([A], 60)
    await store.add([A], 600)
    assert await server.ask(f"TTL mailgate:{A}") in (":599", ":600")


async def test_a_call_is_one_round_trip_however_many_marks_it_has(server: RedisServer, store: RedisStore) -> None:
    async def reads(marks: list[str]) -> int:
        """Of the server, for two calls, and for our questions."""
        await store.take(marks)
        before = await server.ask("INFO stats")
        await store.add(marks, 60)
        assert await store.take(marks) == (True,) * len(marks)
        after = await server.ask("INFO stats")
        return total_reads(after) - total_reads(before)

    assert await reads([f"ledger:{number}" for number in range(50)]) == await reads([A])


def total_reads(stats: str) -> int:
    return int(stats.partition("total_reads_processed:")[2].split()[0])


async def test_of_two_stores_one_finds_the_mark(server: RedisServer, nursery: trio.Nursery) -> None:
    one, other = await running(server.url, nursery), await running(server.url, nursery)
    await one.add([A], 60)
    assert await other.take([A]) == (True,)
    assert await one.take([A]) == (False,)


async def test_of_fifty_who_claim_it_at_once_one_finds_the_mark(server: RedisServer, nursery: trio.Nursery) -> None:
    stores = [await running(server.url, nursery) for _ in range(5)]
    found: list[bool] = []

    async def claim(store: RedisStore) -> None:
        found.extend(await store.take([A]))

    for _ in range(20):
        found.clear()
        await stores[0].add([A], 60)
        async with trio.open_nursery() as claiming:
            for number in range(50):
                claiming.start_soon(claim, stores[number % 5])
        assert sorted(found) == [False] * 49 + [True]


async def test_over_tcp_in_a_database_of_its_own(tmp_path: Path, nursery: trio.Nursery) -> None:
    port = free_port()
    server = RedisServer(tmp_path, "--port", str(port))
    try:
        await server.start()
        store = await running(f"redis://127.0.0.1:{port}/3", nursery)
        await store.add([A], 60)
        assert "db3:keys=1,expires=1" in await server.ask("INFO keyspace")
    finally:
        server.kill()


# A server that goes away and comes back


async def test_nobody_is_there_at_first(tmp_path: Path, nursery: trio.Nursery) -> None:
    server = RedisServer(tmp_path)
    store = await running(server.url, nursery)
    assert await why_not(store) == "No such file or directory"
    try:
        await server.start()
        await comes_back(store)
    finally:
        server.kill()


async def test_killed_and_started_again(server: RedisServer, store: RedisStore) -> None:
    for _ in range(3):
        await store.add([A], 60)
        server.kill()
        with trio.fail_after(DEADLINE), pytest.raises(StoreUnreachable):
            await store.take([A])
        await why_not(store)
        await server.start()
        await comes_back(store)
        assert await store.take([A]) == (False,)  # it keeps nothing


async def test_killed_while_a_call_waits(server: RedisServer, store: RedisStore, nursery: trio.Nursery) -> None:
    server.stop()
    nursery.start_soon(killed_soon, server)
    with trio.fail_after(DEADLINE), pytest.raises(StoreUnreachable, match="the connection to it is lost"):
        await store.take([A])
    await server.start()
    await comes_back(store)


async def killed_soon(server: RedisServer) -> None:
    await trio.sleep(0.05)
    server.kill()


@pytest.mark.parametrize("calls", [1, 3])
async def test_the_answer_to_a_call_that_was_cancelled_is_nobody_elses(
    server: RedisServer, store: RedisStore, calls: int
) -> None:
    """A server stops for a while: it answers late, A was there and B was not, and the connection is the same."""
    connection = store._connection
    for _ in range(3):
        await store.add([A, C], 60)
        server.stop()
        for _ in range(calls):
            with trio.move_on_after(0.05) as patience:
                await store.take([A, A])
            assert patience.cancelled_caught
        server.go_on()
        assert await store.take([B, C]) == (False, True)
        assert await store.take([A]) == (False,)  # it did what it was asked to
    assert store._connection is connection


async def test_a_call_that_is_cancelled_takes_no_other_with_it(
    server: RedisServer, store: RedisStore, nursery: trio.Nursery
) -> None:
    await store.add([C], 60)
    server.stop()
    answers: list[tuple[bool, ...]] = []

    async def call(marks: list[str]) -> None:
        answers.append(await store.take(marks))

    async with trio.open_nursery() as waiting:
        async with trio.open_nursery() as hasty:
            hasty.start_soon(call, [A])
            await trio.testing.wait_all_tasks_blocked(0.01)
            waiting.start_soon(call, [B, C])
            await trio.testing.wait_all_tasks_blocked(0.01)
            hasty.cancel_scope.cancel()
        server.go_on()
    assert answers == [(False, True)]


async def test_a_mute_server_is_found_without_a_call_and_again_once_it_answers(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("HEARTBEAT", 0.02), ("MUTE", 0.1), ("OPENING", 0.1)):
        monkeypatch.setattr(store_redis, name, seconds)
    server = RedisServer(tmp_path)
    try:
        await server.start()
        store = await running(server.url, nursery)
        await trio.sleep(0.1)  # some heartbeats: they are no reason to go
        assert await store.take([A]) == (False,)
        server.stop()
        with trio.fail_after(SOON):
            while True:
                try:
                    with trio.move_on_after(0.01):
                        await store.take([A])
                except StoreUnreachable:
                    break
        assert await why_not(store) == "no answer in 0.1 s"
        await trio.sleep(0.5)  # some attempts that the stopped server does not answer
        server.go_on()
        await comes_back(store)
    finally:
        server.kill()


async def test_a_server_that_is_mute_from_the_beginning_holds_nobody_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_redis, "OPENING", 0.05)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        store = await running(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}", nursery)
        for _ in range(3):
            stream = await listener.accept()
            async with stream:
                assert (await stream.receive_some()).startswith(b"*2\r\n$5\r\nHELLO\r\n")
                assert await stream.receive_some() == b""  # given up
            assert await why_not(store) == "no answer in 0.05 s"


# A server that says no


@pytest.mark.parametrize(("marks", "failure"), [(["a"], StoreUnreachable), (["a", "b"], StoreLost)])
async def test_of_several_marks_one_may_be_refused_and_another_made(
    marks: list[str], failure: type[StoreUnreachable], server: RedisServer, store: RedisStore
) -> None:
    assert await server.ask("CONFIG SET maxmemory 1") == "+OK"
    with pytest.raises(StoreUnreachable) as raised:
        await store.add(marks, 60)
    assert raised.type is failure


async def test_an_error_is_told_and_the_connection_opened_anew(server: RedisServer, store: RedisStore) -> None:
    assert await server.ask("CONFIG SET maxmemory 1") == "+OK"
    with pytest.raises(StoreUnreachable, match="OOM command not allowed when used memory > 'maxmemory'"):
        await store.add([A], 60)
    assert "OOM" in await why_not(store)
    assert await server.ask("CONFIG SET maxmemory 0") == "+OK"
    await comes_back(store)
    await store.add([A], 60)
    assert await store.take([A]) == (True,)


async def test_a_replica_is_not_written_to(server: RedisServer, store: RedisStore) -> None:
    assert await server.ask("REPLICAOF 127.0.0.1 1") == "+OK"
    with pytest.raises(StoreUnreachable, match="read only replica"):
        await store.take([A])
    assert await server.ask("REPLICAOF NO ONE") == "+OK"
    await comes_back(store)


async def test_whatever_is_under_the_name_of_a_mark_is_a_mark(server: RedisServer, store: RedisStore) -> None:
    assert await server.ask(f"SADD mailgate:{A} x") == ":1"
    assert await store.take([A]) == (True,)


@pytest.mark.parametrize(
    ("who", "why"),
    {
        ":s3cret@": None,
        "default:s3cret@": None,
        "gateway:p%40ss%2Fw%C3%B6rd@": None,  # who may do no more than is needed
        "": "it wants a password",
        ":an0ther@": "it refuses the user or the password",
        "nobody:s3cret@": "it refuses the user or the password",
    }.items(),
)
async def test_passwords(tmp_path: Path, nursery: trio.Nursery, who: str, why: str | None) -> None:
    limited = ("--user", "gateway", "on", ">p@ss/wörd", "~mailgate:*", "+ping", "+set", "+del")
    server = RedisServer(tmp_path, *limited, "--user", "default", "on", ">s3cret", "~*", "+@all")
    try:
        await server.start(password="s3cret")
        store = await running(f"unix://{who}{server.socket}", nursery)
        if why is None:
            await store.add([A], 60)
            assert await store.take([A]) == (True,)
        else:
            assert await why_not(store) == why
    finally:
        server.kill()


OLD = b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cret`, \r\n"

STRANGE = {
    "it does not know HELLO": (OLD, "it does not know a command of Redis 6"),
    "it repeats the password": (b"-ERR what is `s3cret`?\r\n", "what is `...`?"),
    "it talks a lot": (b"-ERR " + 999 * b"a" + b"\r\n", 200 * "a"),
    "it answers something": (b"+OK\r\n", "it does not answer as a Redis server does"),
    "it speaks something else": (b"220 mx.example SMTP\r\n", "Protocol Error: Unknown RESP data type: '2'"),
    "it hangs up": (b"", "Connection lost while receiving response"),
    "it has no room": (b"-ERR max number of clients reached\r\n", "max number of clients reached"),
}


@pytest.mark.parametrize(("answer", "why"), STRANGE.values(), ids=STRANGE.keys())
async def test_strange_servers(nursery: trio.Nursery, answer: bytes, why: str) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)
            if answer:
                await stream.receive_some()

    (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    store = await running(f"redis://:s3cret@127.0.0.1:{listener.socket.getsockname()[1]}", nursery)
    assert await why_not(store) == why
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("nonsense", [b"?\r\n", b":x\r\n", b"$9999999999999\r\n", b"", b"-BAD \xff\r\n"])
async def test_nonsense_ends_a_connection_and_nothing_else(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, nonsense: bytes
) -> None:
    """The answers on the first connection are odd, and those on later ones good."""
    monkeypatch.setattr(store_redis, "MUTE", 0.1)
    answers = iter([nonsense])

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(HELLO)
            answer = next(answers, b":1\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                while answer and (commands := await stream.receive_some()):
                    await stream.send_all(answer * commands.count(b"*"))

    (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    store = await running(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}", nursery)
    with trio.fail_after(DEADLINE), pytest.raises(StoreUnreachable):
        await store.take([A])
    await comes_back(store)
    assert await store.take([A]) == (True,)
    nursery.cancel_scope.cancel()


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself; and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=a"
    files = ("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key))
    subprocess.run([*request.split(), *files], check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [
        ("127.0.0.1", True, None),
        ("127.0.0.1", False, "self-signed certificate"),
        ("localhost", True, "Hostname mismatch"),
    ],
)
async def test_tls(
    tmp_path: Path,
    certificate: tuple[Path, Path],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    trusted: bool,
    why: str | None,
) -> None:
    file, key = certificate
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    port = free_port()
    files = ("--tls-cert-file", str(file), "--tls-key-file", str(key), "--tls-ca-cert-file", str(file))
    server = RedisServer(tmp_path, "--tls-port", str(port), *files, "--tls-auth-clients", "no")
    try:
        await server.start()
        store = await running(f"rediss://{host}:{port}", nursery)
        if why is None:
            await store.add([A], 60)
            assert await store.take([A]) == (True,)
        else:
            assert why in await why_not(store)
    finally:
        server.kill()


# Its end


def left_open() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("state", ["connected", "stopped", "stopped before", "killed"])
async def test_its_end_leaves_nothing_behind(tmp_path: Path, state: str) -> None:
    server = RedisServer(tmp_path)
    try:
        await server.start()
        descriptors, tasks = left_open(), trio.lowlevel.current_statistics().tasks_living
        if state == "stopped before":
            server.stop()
        async with trio.open_nursery() as nursery:
            store = RedisStore(server.url)
            nursery.start_soon(store.run)
            await trio.sleep(0.2)
            if state == "stopped":
                server.stop()
            elif state == "killed":
                server.kill()
            with trio.move_on_after(0.05):
                try:
                    await store.take([A])
                except StoreUnreachable:
                    assert state in ("stopped before", "killed")
            nursery.cancel_scope.cancel()
        assert (left_open(), trio.lowlevel.current_statistics().tasks_living) == (descriptors, tasks)
        await why_not(store)
    finally:
        server.kill()


# What can be wrong before


@pytest.mark.parametrize(
    "url",
    ["redis://", "redis://:s3cret@", "redis://joe:s3/cret@host", "redis://:s3cret@host:65536", "redis://[:s3cret"],
)
def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL of the shared ledger is not good$"):
        RedisStore(url)


def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "coredis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "coredis", None)
    with pytest.raises(StoreMissing, match=r'pip install "mailgate\[ledger\]"'):
        RedisStore("redis://127.0.0.1")


def test_its_package_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, mailgate.app, mailgate.store_redis; sys.exit('coredis' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
