"""The real network, on loopback: sockets, and DNS messages answered by a responder of our own."""

from __future__ import annotations

import contextlib
import datetime
import errno
import gc
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
import trio.testing

from mailgate.network import (
    Address,
    Answer,
    Incoming,
    Network,
    NoAnswer,
    NoSuchSource,
    RealNetwork,
    TcpAddress,
    UnixAddress,
    acknowledged,
)
from mailgate.testing import reset

LOOPBACK = TcpAddress("127.0.0.1", 0)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


def _open_sockets() -> int:
    gc.collect()
    targets = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sum(target.startswith("socket:") for target in targets)


@pytest.fixture
def network() -> RealNetwork:
    return RealNetwork()


@pytest.fixture
def leaves_no_socket() -> Iterator[None]:
    before = _open_sockets()
    yield
    assert _open_sockets() == before


def test_it_fits_the_protocol(network: RealNetwork) -> None:
    checked: Network = network
    assert checked.random.random() != RealNetwork().random.random()
    assert checked.now().tzinfo is datetime.UTC
    assert abs(checked.now() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=60)


# Connections.


async def _talk(network: Network, incoming: Incoming, source: str | None = None) -> tuple[Address, Address]:
    """Connect and accept, say something both ways, close; peer and local as the server sees them."""
    async with await network.connect(incoming.address, source) as client:
        server, peer, local = await incoming.accept()
        async with server:
            await client.send_all(b"hello")
            assert await server.receive_some() == b"hello"
            await server.send_all(b"bye")
        assert await client.receive_some() == b"bye"
        assert await client.receive_some() == b""
    return peer, local


@pytest.mark.parametrize(
    ("listen", "source", "peer"),
    [
        pytest.param(LOOPBACK, None, "127.0.0.1", id="v4"),
        pytest.param(LOOPBACK, "127.0.0.9", "127.0.0.9", id="v4-source"),
        pytest.param(LOOPBACK, "127.0.1.1", "127.0.1.1", id="v4-source-of-another-network"),
        pytest.param(TcpAddress("::1", 0), None, "::1", id="v6", marks=needs_ipv6),
        pytest.param(TcpAddress("::1", 0), "::1", "::1", id="v6-source", marks=needs_ipv6),
    ],
)
async def test_tcp(
    network: RealNetwork, listen: TcpAddress, source: str | None, peer: str, leaves_no_socket: None
) -> None:
    incoming = await network.listen(listen)
    seen, local = await _talk(network, incoming, source)
    assert isinstance(seen, TcpAddress)
    assert (seen.ip, local) == (peer, incoming.address)
    await incoming.aclose()


async def test_unix(network: RealNetwork, tmp_path: Path, leaves_no_socket: None) -> None:
    address = UnixAddress(str(tmp_path / "socket"))
    incoming = await network.listen(address)
    assert incoming.address == address
    assert await _talk(network, incoming) == (UnixAddress(""), address)
    await incoming.aclose()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ip", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_a_source_does_not_take_a_port_of_its_own(
    network: RealNetwork, ip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_before_bind: list[int] = []
    bind = trio._socket._SocketType.bind

    async def watched(self: trio._socket._SocketType, address: tuple[str, int]) -> None:
        set_before_bind.append(self.getsockopt(socket.IPPROTO_IP, 24))
        await bind(self, address)

    incoming = await network.listen(TcpAddress(ip, 0))
    monkeypatch.setattr(trio._socket._SocketType, "bind", watched)
    await _talk(network, incoming, ip)
    await incoming.aclose()
    assert set_before_bind == [1]


async def _nobody(network: RealNetwork) -> Address:
    incoming = await network.listen(LOOPBACK)
    await incoming.aclose()
    return incoming.address


async def test_connecting_to_nobody_is_refused(network: RealNetwork, leaves_no_socket: None) -> None:
    with pytest.raises(ConnectionRefusedError):
        await network.connect(await _nobody(network))


@pytest.mark.parametrize(
    ("address", "source"),
    [
        pytest.param(TcpAddress("127.0.0.1", 9), "203.0.113.77", id="v4"),
        pytest.param(TcpAddress("::1", 9), "2001:db8::77", id="v6", marks=needs_ipv6),
    ],
)
async def test_a_source_that_is_not_ours(
    address: TcpAddress, source: str, network: RealNetwork, leaves_no_socket: None
) -> None:
    with pytest.raises(NoSuchSource) as raised:
        await network.connect(address, source)
    assert raised.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("call", "number"),
    [("connect", errno.EADDRNOTAVAIL), ("bind", errno.EADDRINUSE)],
    ids=["no port left for connect()", "no port left for bind()"],
)
async def test_that_we_lack_ports_says_nothing_of_the_source(
    call: str, number: int, network: RealNetwork, leaves_no_socket: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: trio._socket._SocketType, address: tuple[str, int]) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(trio._socket._SocketType, call, fails)
    with pytest.raises(OSError) as raised:
        await network.connect(TcpAddress("127.0.0.1", 9), "127.0.0.1")
    assert not isinstance(raised.value, NoSuchSource)
    assert raised.value.errno == number


HAS_ADDRESS = {
    "127.0.0.1": True,
    "127.200.0.1": True,
    "0.0.0.0": True,
    "203.0.113.77": False,
    "224.0.0.1": False,
    "255.255.255.255": False,
    "2001:db8::77": False,
    "ff02::1": False,
    "::1%lo": False,
    "localhost": False,
    "": False,
}


@pytest.mark.parametrize(
    ("ip", "has"), [*HAS_ADDRESS.items(), *(pytest.param(ip, True, marks=needs_ipv6) for ip in ("::1", "::"))]
)
def test_has_address(ip: str, has: bool, network: RealNetwork, leaves_no_socket: None) -> None:
    assert network.has_address(ip) == has


def test_a_bind_that_takes_any_address_deceives_nobody(network: RealNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ip_nonlocal_bind, which VRRP wants."""
    monkeypatch.setattr(socket.socket, "bind", lambda self, address: None)
    assert not network.has_address("203.0.113.77")


@contextlib.contextmanager
def _full_backlog(family: socket.AddressFamily, where: str | tuple[str, int]) -> Iterator[Address]:
    """A listener that never accepts, and takes no more connections."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind(where)
        listener.listen(0)
        name = listener.getsockname()
        for _ in range(3):
            client = stack.enter_context(socket.socket(family))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(name)
        yield UnixAddress(name) if family == socket.AF_UNIX else TcpAddress(*name)


async def test_a_cancelled_connect_leaves_nothing(network: RealNetwork, leaves_no_socket: None) -> None:
    with _full_backlog(socket.AF_INET, ("127.0.0.1", 0)) as address, trio.move_on_after(0.05) as scope:
        await network.connect(address)
    assert scope.cancelled_caught


async def test_a_unix_socket_with_a_full_backlog_is_an_error(
    network: RealNetwork, tmp_path: Path, leaves_no_socket: None
) -> None:
    with _full_backlog(socket.AF_UNIX, str(tmp_path / "full")) as address, pytest.raises(OSError):
        await network.connect(address)


# Listening.


async def test_an_address_is_listened_on_once_at_a_time(network: RealNetwork, leaves_no_socket: None) -> None:
    incoming = await network.listen(LOOPBACK)
    with pytest.raises(OSError) as raised:
        await network.listen(incoming.address)
    assert raised.value.errno == errno.EADDRINUSE
    await incoming.aclose()
    await (await network.listen(incoming.address)).aclose()


@needs_ipv6
async def test_v6_leaves_v4_alone(network: RealNetwork) -> None:
    any_v6 = await network.listen(TcpAddress("::", 0))
    assert isinstance(any_v6.address, TcpAddress)
    any_v4 = await network.listen(TcpAddress("0.0.0.0", any_v6.address.port))
    await any_v6.aclose()
    await any_v4.aclose()


async def test_a_closed_listener_ends_its_accept(network: RealNetwork) -> None:
    incoming = await network.listen(LOOPBACK)

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await incoming.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        await incoming.aclose()


def _stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))


async def test_a_stale_unix_socket_is_replaced(network: RealNetwork, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    _stale(path)
    incoming = await network.listen(UnixAddress(str(path)))
    await _talk(network, incoming)
    await incoming.aclose()


async def test_a_live_unix_socket_is_not_replaced(network: RealNetwork, tmp_path: Path, leaves_no_socket: None) -> None:
    address = UnixAddress(str(tmp_path / "socket"))
    incoming = await network.listen(address)
    with pytest.raises(OSError, match="Address already in use: another process listens on it"):
        await network.listen(address)
    stream, _, _ = await incoming.accept()  # the probe of the second listen
    await stream.aclose()
    await _talk(network, incoming)
    await incoming.aclose()


async def test_a_busy_unix_socket_is_not_replaced(network: RealNetwork, tmp_path: Path) -> None:
    full = _full_backlog(socket.AF_UNIX, str(tmp_path / "full"))
    with full as address, pytest.raises(OSError, match="Address already in use"):
        await network.listen(address)


async def test_a_file_that_is_no_socket_is_left_alone(network: RealNetwork, tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_text("precious")
    with pytest.raises(OSError) as raised:
        await network.listen(UnixAddress(str(path)))
    assert raised.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


async def test_closing_leaves_the_file_of_a_successor(network: RealNetwork, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    old = await network.listen(UnixAddress(str(path)))
    path.unlink()
    new = await network.listen(UnixAddress(str(path)))
    await old.aclose()
    await _talk(network, new)
    await new.aclose()
    assert not path.exists()


@contextlib.contextmanager
def _no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(descriptor) for descriptor in os.listdir("/proc/self/fd"))
    filler = [os.dup(0) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(filler) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filler:
            os.close(descriptor)


async def test_accept_without_descriptors_fails_and_goes_on_later(network: RealNetwork) -> None:
    incoming = await network.listen(LOOPBACK)
    async with await network.connect(incoming.address):
        with _no_more_descriptors(), pytest.raises(OSError) as raised:
            await incoming.accept()
        assert raised.value.errno == errno.EMFILE
        stream, _, _ = await incoming.accept()
        await stream.aclose()
    await incoming.aclose()


async def test_a_client_that_has_gone_again_is_passed_over(
    network: RealNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = await network.listen(LOOPBACK)
    getpeername = trio._socket._SocketType.getpeername
    calls: list[None] = []

    def gone_the_first_time(self: trio._socket._SocketType) -> object:
        calls.append(None)
        if len(calls) == 1:
            raise OSError(errno.ENOTCONN, "gone")
        return getpeername(self)

    async with await network.connect(incoming.address), await network.connect(incoming.address):
        monkeypatch.setattr(trio._socket._SocketType, "getpeername", gone_the_first_time)
        stream, _, _ = await incoming.accept()
        await stream.aclose()
    assert len(calls) == 2
    await incoming.aclose()


# DNS.


class Responder:
    """A DNS server on loopback, UDP and TCP on one port: a table of (name, type) → what it does."""

    def __init__(self, zone: dict[tuple[str, str], str | tuple[str, ...]]) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str, str]] = []

    async def bind(self) -> TcpAddress:
        (self.listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.datagrams = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await self.datagrams.bind(self.listener.socket.getsockname())
        return TcpAddress(*self.datagrams.getsockname())

    async def run(self) -> None:
        with self.datagrams:
            async with self.listener, trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve_tcp, [self.listener])
                while True:
                    data, client = await self.datagrams.recvfrom(65_535)
                    reply = self._reply(dns.message.from_wire(data), "udp")
                    if reply is not None:
                        await self.datagrams.sendto(reply, client)

    async def _serve_tcp(self, stream: trio.SocketStream) -> None:
        async with stream:
            data = await stream.receive_some(65_535)
            reply = self._reply(dns.message.from_wire(bytes(data[2:])), "tcp")
            if reply is not None:
                await stream.send_all(len(reply).to_bytes(2, "big") + reply)
            await stream.receive_some(1)

    def _reply(self, query: dns.message.Message, transport: str) -> bytes | None:
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        reply = dns.message.make_response(query)
        what = self.zone.get((name, kind), "NXDOMAIN")
        if what == "silence" or (what == "silence over tcp" and transport == "tcp"):
            return None
        if what == "garbage":
            return b"\x00" * 20
        if what == "silence over tcp" or (isinstance(what, tuple) and len(what) > 20 and transport == "udp"):
            reply.flags |= dns.flags.TC
        elif isinstance(what, str):
            reply.set_rcode(dns.rcode.from_text(what))
        for record in what if isinstance(what, tuple) and not reply.flags & dns.flags.TC else ():
            owner, ttl, record_type, *data = record.split()
            reply.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", record_type, " ".join(data)))
        return reply.to_wire()


async def _start(nursery: trio.Nursery, responder: Responder) -> TcpAddress:
    address = await responder.bind()
    nursery.start_soon(responder.run)
    return address


ZONE: dict[tuple[str, str], str | tuple[str, ...]] = {
    ("x.example.", "A"): ("x.example. 300 A 192.0.2.1", "x.example. 300 A 192.0.2.2"),
    ("x.example.", "AAAA"): ("x.example. 60 AAAA 2001:db8::1",),
    ("x.example.", "MX"): ("x.example. 600 MX 10 a.example.", "x.example. 600 MX 20 b.example."),
    ("x.example.", "TXT"): (),
    ("null.example.", "MX"): ("null.example. 600 MX 0 .",),
    ("alias.example.", "A"): ("alias.example. 30 CNAME x.example.", "x.example. 300 A 192.0.2.1"),
    ("alias.example.", "MX"): ("alias.example. 30 CNAME x.example.",),
    ("many.example.", "MX"): tuple(f"many.example. 9 MX {number} m.example." for number in range(30)),
    ("xn--bcher-kva.example.", "A"): ("xn--bcher-kva.example. 5 A 192.0.2.3",),
    ("fail.example.", "A"): "SERVFAIL",
    ("refused.example.", "A"): "REFUSED",
    ("formerr.example.", "A"): "FORMERR",
}

# name, type | what query() returns
QUERIES: list[tuple[str, str, Answer | NoAnswer]] = [
    ("x.example", "A", Answer(("192.0.2.1", "192.0.2.2"), 300)),
    ("x.example.", "A", Answer(("192.0.2.1", "192.0.2.2"), 300)),
    ("x.example", "AAAA", Answer(("2001:db8::1",), 60)),
    ("x.example", "MX", Answer(("10 a.example.", "20 b.example."), 600)),
    ("x.example", "TXT", NoAnswer.NO_DATA),
    ("null.example", "MX", Answer(("0 .",), 600)),
    ("alias.example", "A", Answer(("192.0.2.1",), 30)),
    ("alias.example", "MX", NoAnswer.NO_DATA),
    ("many.example", "MX", Answer(tuple(f"{number} m.example." for number in range(30)), 9)),
    ("b\u00fccher.example", "A", Answer(("192.0.2.3",), 5)),
    ("nobody.example", "A", NoAnswer.NO_SUCH_DOMAIN),
    ("fail.example", "A", NoAnswer.TEMPORARY),
    ("refused.example", "A", NoAnswer.TEMPORARY),
    ("formerr.example", "A", NoAnswer.TEMPORARY),
    ("a..example", "A", NoAnswer.NO_SUCH_DOMAIN),
    ("x" * 64 + ".example", "A", NoAnswer.NO_SUCH_DOMAIN),
    ("\u2028.example", "A", NoAnswer.NO_SUCH_DOMAIN),
]


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr("trio._core._thread_cache.start_thread_soon", start)


@pytest.mark.parametrize(
    ("name", "record_type", "answer"), [pytest.param(*row, id=f"{row[0][:20]}-{row[1]}") for row in QUERIES]
)
async def test_queries(
    name: str,
    record_type: str,
    answer: Answer | NoAnswer,
    nursery: trio.Nursery,
    no_threads: None,
) -> None:
    server = await _start(nursery, Responder(ZONE))
    got = await RealNetwork((server,)).query(name, record_type)
    if isinstance(got, Answer):
        got = Answer(tuple(sorted(got.records, key=_by_preference)), got.ttl)
    assert got == answer


def _by_preference(record: str) -> tuple[int, str]:
    return (int(record.split()[0]), record) if " " in record else (0, record)


async def test_a_truncated_answer_is_asked_for_over_tcp(nursery: trio.Nursery) -> None:
    responder = Responder(ZONE)
    server = await _start(nursery, responder)
    await RealNetwork((server,)).query("many.example", "MX")
    assert [transport for _, _, transport in responder.asked] == ["udp", "tcp"]


async def test_the_next_server_is_asked_where_one_fails(nursery: trio.Nursery) -> None:
    failing = await _start(nursery, Responder({("x.example.", "A"): "SERVFAIL"}))
    server = await _start(nursery, Responder(ZONE))
    assert await RealNetwork((failing, server)).query("x.example", "AAAA") == NoAnswer.NO_SUCH_DOMAIN
    assert await RealNetwork((failing, server)).query("x.example", "A") == Answer(("192.0.2.1", "192.0.2.2"), 300)


@pytest.mark.parametrize("what", ["silence", "silence over tcp", "garbage"])
async def test_a_query_that_gets_nothing_ends(
    what: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, leaves_no_socket: None
) -> None:
    monkeypatch.setattr("mailgate.network.QUERY_LIFETIME", 0.3)
    async with trio.open_nursery() as responders:
        server = await _start(responders, Responder({("x.example.", "A"): what}))
        begin = trio.current_time()
        assert await RealNetwork((server,)).query("x.example", "A") == NoAnswer.TEMPORARY
        assert trio.current_time() - begin < 5
        responders.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["silence", "silence over tcp"])
async def test_a_cancelled_query_leaves_nothing(what: str, leaves_no_socket: None) -> None:
    async with trio.open_nursery() as responders:
        server = await _start(responders, Responder({("x.example.", "A"): what}))
        with trio.move_on_after(0.1) as scope:
            await RealNetwork((server,)).query("x.example", "A")
        assert scope.cancelled_caught
        responders.cancel_scope.cancel()


async def test_the_systems_servers_are_followed_as_they_change(tmp_path: Path, nursery: trio.Nursery) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    network = RealNetwork(resolv_conf=str(resolv_conf))
    assert network._system.get() is None
    assert await network.query("x.example", "A") == NoAnswer.TEMPORARY
    resolv_conf.write_text("search example\n")
    assert await network.query("x.example", "A") == NoAnswer.TEMPORARY
    resolv_conf.write_text("nameserver 127.0.0.53\n")
    resolver = network._system.get()
    assert resolver is not None
    assert [str(server) for server in resolver.nameservers] == ["127.0.0.53"]


# /etc/hosts.

HOSTS = """
# comment
127.0.0.1\tlocalhost
10.0.0.25   mail1.example.org mail1 # the first
2001:db8::25 Mail1
10.0.0.25 mail1
not-an-address mail2
10.0.0.26
10.0.0.27 mail3.example.org.
"""


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("localhost", ("127.0.0.1",)),
        ("mail1.example.org", ("10.0.0.25",)),
        ("mail1", ("10.0.0.25", "2001:db8::25")),
        ("MAIL1.", ("10.0.0.25", "2001:db8::25")),
        ("mail2", ()),
        ("mail3.example.org", ("10.0.0.27",)),
        ("", ()),
    ],
)
async def test_hosts(name: str, addresses: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    assert await RealNetwork(hosts=str(path)).local_names(name) == addresses


def _edit(path: Path) -> None:
    path.write_text("10.0.0.2222 mail\n10.0.0.2 mail\n")


def _replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("10.0.0.2 mail\n")
    new.replace(path)


@pytest.mark.parametrize(("change", "after"), [(_edit, ("10.0.0.2",)), (_replace, ("10.0.0.2",)), (Path.unlink, ())])
async def test_hosts_are_read_anew_when_they_change(
    change: Callable[[Path], None], after: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 mail\n")
    network = RealNetwork(hosts=str(path))
    assert await network.local_names("mail") == ("10.0.0.1",)
    change(path)
    assert await network.local_names("mail") == after


def test_hosts_are_not_read_again_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 mail\n")
    network = RealNetwork(hosts=str(path))
    first = network._hosts.get()
    assert network._hosts.get() is first


# What a peer's system has acknowledged


async def _connected() -> tuple[trio.SocketStream, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.testing.open_stream_to_socket_listener(listener)
        return near, await listener.accept()


async def _soon(near: trio.SocketStream, *, acknowledges: bool) -> bool:
    """Whether it comes to that within a second."""
    for _ in range(100):
        if acknowledged(near) is acknowledges:
            return True
        await trio.sleep(0.01)
    return False


async def test_acknowledged() -> None:
    near, far = await _connected()
    async with near, far:
        assert acknowledged(near)
        await near.send_all(b"250 taken\r\n")
        assert await _soon(near, acknowledges=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell")
async def test_not_acknowledged_by_a_peer_that_takes_no_more() -> None:
    near, far = await _connected()
    async with near, far:
        with trio.move_on_after(0.2):
            await near.send_all(bytes(50_000_000))
        assert not acknowledged(near)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell")
async def test_not_acknowledged_by_a_peer_that_resets() -> None:
    near, far = await _connected()
    async with near:
        await far.send_eof()
        assert await near.receive_some() == b""
        await reset(far)
        assert await _soon(near, acknowledges=False)


async def test_what_cannot_be_asked_counts_as_acknowledged() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(b"250 taken\r\n")
    assert acknowledged(near)
    await trio.aclose_forcefully(far)
