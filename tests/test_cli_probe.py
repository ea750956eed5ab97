"""`mailgate probe`: what a person at a terminal sees, and the exit status a script does."""

from __future__ import annotations

import functools
import io
import itertools
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from rich.console import Console

from mailgate import probing
from mailgate.cli import main
from mailgate.network import HostName, TcpAddress, UnixAddress
from mailgate.relay.outcome import Stage
from mailgate.relay.probing import Probed
from mailgate.relay.routing import Path as MailPath
from mailgate.relay.settings import Backbone
from mailgate.testing import Close, Raw, Script, ScriptedMTA, Silence

DOWN = "127.0.0.1:1"
CONFIG = """\
hostname = "gw.example"
postmaster = "admin@a.example"

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["127.0.0.1:0"]
routes = ["inside"]

[[listener]]
name = "from-inside"
protocol = "lmtp"
bind = ["127.0.0.1:0"]
clients = ["127.0.0.0/8"]
routes = ["outside", "boxes"]

[[route]]
name = "inside"
domains = ["a.example"]
hosts = [{inside}]

[[route]]
name = "outside"
domains = ["*"]
hosts = [{outside}]

[[route]]
name = "boxes"
domains = ["box.example"]
hosts = [{boxes}]
protocol = "lmtp"

[dns]
servers = ["{dns}"]

[timeouts]
connect = 0.3
reply = 0.3
quit = 0.3
"""


class Site:
    """Scripted mail servers on real sockets, and the configuration of a gateway before them."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self._nursery = nursery
        self._file = directory / "gateway.toml"
        self._hosts = {"inside": [DOWN], "outside": [DOWN], "boxes": [DOWN]}
        self._dns = DOWN

    async def host(self, route: str, mta: ScriptedMTA) -> str:
        """One more host of a route."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._nursery.start_soon(trio.serve_listeners, mta.handle, [listener])
        return self.add(route, f"127.0.0.1:{listener.socket.getsockname()[1]}")

    async def unix_host(self, route: str, mta: ScriptedMTA, path: Path) -> str:
        """One more host of a route, on a unix socket."""
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(str(path))
        listening.listen()
        self._nursery.start_soon(trio.serve_listeners, mta.handle, [trio.SocketListener(listening)])
        return self.add(route, f"unix:{path}")

    def add(self, route: str, host: str) -> str:
        """One more host of a route, in the place of the one that is down."""
        self._hosts[route] = [*(one for one in self._hosts[route] if one != DOWN), host]
        return host

    async def name_server(self) -> None:
        """DNS that knows no name (RCODE 3)."""
        server = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await server.bind(("127.0.0.1", 0))
        self._dns = f"127.0.0.1:{server.getsockname()[1]}"
        self._nursery.start_soon(_deny, server)

    async def probe(self, *arguments: str) -> Result:
        """Run the command, in a thread: it has an event loop of its own."""
        hosts = {route: ", ".join(f'"{one}"' for one in hosts) for route, hosts in self._hosts.items()}
        self._file.write_text(CONFIG.format(dns=self._dns, **hosts))
        command = ["probe", "-c", str(self._file), *arguments]
        invoke = functools.partial(CliRunner().invoke, main, command, prog_name="mailgate", catch_exceptions=False)
        return await trio.to_thread.run_sync(invoke)


async def _deny(server: trio.socket.SocketType) -> None:
    with server:
        while True:
            query, client = await server.recvfrom(512)
            await server.sendto(query[:2] + b"\x81\x83" + query[4:6] + b"\0" * 6 + query[12:], client)


@pytest.fixture
def site(nursery: trio.Nursery, tmp_path: Path) -> Site:
    return Site(nursery, tmp_path)


def rows(result: Result) -> list[tuple[str, ...]]:
    """The rows below the headings, without the times."""
    headings, *lines = result.stdout.partition("\na message would go by")[0].splitlines()[1:]
    at = [headings.index(heading) for heading in ("path", "got to", "answer", "connect")]
    return [tuple(line[begin:end].strip() for begin, end in itertools.pairwise(at)) for line in lines]


LONG = "250 2.1.5 " + "x" * 300


@pytest.mark.parametrize(
    ("script", "stage", "answer", "status"),
    [
        (Script(), "RCPT", "250 2.1.5 recipient ok", 0),
        (Script(rcpt="251 2.1.5 forwarded"), "RCPT", "251 2.1.5 forwarded", 0),
        (Script(rcpt=LONG), "RCPT", LONG, 0),
        (Script(extensions=()), "RCPT", "250 2.1.5 recipient ok", 0),
        (Script(ehlo="502 no"), "RCPT", "250 2.1.5 recipient ok", 0),
        (Script(rcpt="550 5.1.1 unknown"), "RCPT", "550 5.1.1 unknown", 1),
        (Script(rcpt="450-4.2.1 later\n450 4.2.1 or never"), "RCPT", "450 4.2.1 later or never", 1),
        (Script(mail="550 5.7.1 \x1b[31mnot you"), "MAIL", "550 5.7.1 \\u001b[31mnot you", 1),
        (Script(ehlo="451 4.3.0 later"), "hello", "451 4.3.0 later", 1),
        (Script(greeting="554 5.3.2 go away"), "greeting", "554 5.3.2 go away", 1),
        (Script(greeting=Silence()), "greeting", "no answer in time", 1),
        (Script(greeting=Raw(b"SSH-2.0-OpenSSH\r\n")), "greeting", "not a reply line: b'SSH-2.0-OpenSSH'", 1),
        (Script(rcpt=Close()), "RCPT", "connection closed", 1),
        (Script(quit=Silence()), "RCPT", "250 2.1.5 recipient ok", 0),
    ],
    ids=[
        "accepted",
        "accepted with another code",
        "long text",
        "no extensions",
        "HELO only",
        "refused",
        "deferred",
        "refused at MAIL",
        "EHLO 4xx",
        "greeting 5xx",
        "silent",
        "no mail server",
        "closes at RCPT",
        "silent at QUIT",
    ],
)
async def test_one_path(site: Site, script: Script, stage: str, answer: str, status: int) -> None:
    mta = ScriptedMTA("a", script=script)
    host = await site.host("inside", mta)
    result = await site.probe("u@a.example")
    assert result.stdout.splitlines()[0] == (
        "<u@a.example>, offered to listener from-outside, goes by route inside over SMTP"
    )
    assert rows(result) == [(host, stage, answer)]
    assert (result.exit_code, result.stderr) == (status, "")
    # Whether the recipient is taken does not matter for the race, which MAIL decides.
    wins = stage == "RCPT"
    assert ("a message would go by" in result.stdout) == wins
    assert (mta.messages, mta.unfinished) == ([], 0)


async def test_it_asks_as_a_delivery_would_and_leaves_politely(site: Site) -> None:
    mta = ScriptedMTA("a")
    await site.host("inside", mta)
    await site.probe("u@a.example", "--sender", "s@in.example")
    asked, raced = mta.sessions
    envelope = ["C: EHLO gw.example", "C: MAIL FROM:<s@in.example>"]
    assert [line for line in asked.dialog if line.startswith("C")] == [*envelope, "C: RCPT TO:<u@a.example>", "C: QUIT"]
    assert [line for line in raced.dialog if line.startswith("C")] == [*envelope, "C: QUIT"]


async def test_every_path_is_asked(site: Site, tmp_path: Path) -> None:
    await site.name_server()
    refuses = await site.host("inside", ScriptedMTA("refuses", script=Script(rcpt="550 5.1.1 unknown")))
    site.add("inside", "no-such-host.example:25")
    down = site.add("inside", "127.0.0.2:1")
    accepts = await site.host("inside", ScriptedMTA("accepts"))
    port = accepts.rpartition(":")[2]
    site.add("inside", f"localhost:{port}")
    result = await site.probe("u@a.example")
    assert rows(result) == [
        (refuses, "RCPT", "550 5.1.1 unknown"),
        ("no-such-host.example:25", "look-up", "no-such-host.example: no such domain"),
        (down, "connect", "Connection refused"),
        (accepts, "RCPT", "250 2.1.5 recipient ok"),
        (f"localhost:{port} (127.0.0.1:{port})", "RCPT", "250 2.1.5 recipient ok"),
    ]
    assert result.exit_code == 0
    # It refuses the recipient, but the race is over by then.
    assert result.stdout.splitlines()[-1] == f"a message would go by {refuses}: it was the first to take MAIL just now"


async def test_all_paths_are_down(site: Site) -> None:
    with socket.socket() as mute:
        # It is bound but does not accept: once its backlog is full, connections hang.
        mute.bind(("127.0.0.1", 0))
        mute.listen(0)
        address = mute.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(address)
            hangs = site.add("inside", f"127.0.0.1:{address[1]}")
            down = site.add("inside", "127.0.0.2:1")
            result = await site.probe("u@a.example")
    assert rows(result) == [(hangs, "connect", "no connection in time"), (down, "connect", "Connection refused")]
    assert result.exit_code == 1
    assert "a message would" not in result.stdout


async def test_lmtp_over_a_unix_socket(site: Site, tmp_path: Path) -> None:
    mta = ScriptedMTA("boxes", "lmtp", Script(recipients={"full@box.example": "452 4.2.2 over quota"}))
    host = await site.unix_host("boxes", mta, tmp_path / "lmtp.sock")
    result = await site.probe("u@box.example")
    assert result.stdout.splitlines()[0] == (
        "<u@box.example>, offered to listener from-inside, goes by route boxes over LMTP"
    )
    assert rows(result) == [(host, "RCPT", "250 2.1.5 recipient ok")]
    assert rows(await site.probe("full@box.example")) == [(host, "RCPT", "452 4.2.2 over quota")]


async def test_a_listener_has_its_own_routes(site: Site) -> None:
    inside = await site.host("inside", ScriptedMTA("inside"))
    outside = await site.host("outside", ScriptedMTA("outside"))
    for arguments, host in (((), inside), (("--listener", "from-inside"), outside)):
        assert rows(await site.probe("u@a.example", *arguments)) == [(host, "RCPT", "250 2.1.5 recipient ok")]


async def test_postmaster_goes_where_the_configuration_says(site: Site) -> None:
    await site.host("inside", ScriptedMTA("inside"))
    result = await site.probe("Postmaster")
    assert result.stdout.startswith("<admin@a.example>, offered to listener from-outside, ")


@pytest.mark.parametrize(
    ("extensions", "stage", "answer", "status"),
    [
        (("8BITMIME", "SMTPUTF8"), "RCPT", "250 2.1.5 recipient ok", 0),
        (("8BITMIME",), "hello", "SMTPUTF8 is not offered", 1),
    ],
    ids=["taken", "not taken"],
)
async def test_an_internationalized_address(
    site: Site, extensions: tuple[str, ...], stage: str, answer: str, status: int
) -> None:
    host = await site.host("inside", ScriptedMTA("a", script=Script(extensions=extensions)))
    result = await site.probe("jörg@a.example")
    assert (rows(result), result.exit_code) == ([(host, stage, answer)], status)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("u@elsewhere.example", "--listener", "from-outside"),
            "listener from-outside has no route for elsewhere.example: a client would hear 550 5.7.1; "
            "add the domain to a [[route]] that the listener names",
        ),
        (
            ("u@a.example", "--listener", "nobody\n"),
            "there is no listener nobody\\n; there are from-outside, from-inside",
        ),
        (("u",), '"u" is no address; write for example joe@example.org'),
        (("<u@a.example>",), '"<u@a.example>" is no address; write for example joe@example.org'),
        (("u@a.example> X=Y",), '"u@a.example> X=Y" is no address; write for example joe@example.org'),
        (("u\r\nDATA@a.example",), '"u\\r\\nDATA@a.example" is no address; write for example joe@example.org'),
        (("u@a.example", "--sender", "s"), 'sender "s" is no address; write for example joe@example.org'),
    ],
    ids=["no route", "no such listener", "no domain", "in brackets", "a parameter", "two lines", "bad sender"],
)
async def test_there_is_nothing_to_ask(site: Site, arguments: tuple[str, ...], message: str) -> None:
    mta = ScriptedMTA("a")
    await site.host("inside", mta)
    result = await site.probe(*arguments)
    assert (result.stdout, result.stderr, result.exit_code) == ("", f"mailgate: {message}\n", 2)
    assert mta.sessions == []


def test_a_bad_configuration(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.replace("hostname", "hostnmae"))
    result = CliRunner().invoke(main, ["probe", "-c", str(file), "u@a.example"])
    assert result.exit_code == 2
    assert all(line.startswith(f"{file}: ") for line in result.stderr.splitlines())


TABLE = """\
path                        got to   answer                     connect  seconds
mail1.example.org:25        RCPT     250 2.1.5 ok                  0.00     0.01
(192.0.2.25:25)
[2001:db8:1234:5678::25]:2  RCPT     550 5.1.1                     0.25    12.00
525                                  <joe@example.org>:
                                     Recipient address
                                     rejected: User unknown in
                                     virtual mailbox table
mail3.example.org:25        look-up  mail3.example.org:                     0.10
                                     temporary failure
unix:/run/dovecot/lmtp      connect  No such file or directory              0.00
"""

BACKBONES = """\
backbone  path           got to   answer              connect  seconds
isp-a     192.0.2.25:25  connect  Connection refused              0.01
isp-b     192.0.2.25:25  RCPT     250 2.1.5 ok           0.02     0.03
          a.example      look-up  a.example: null MX              0.00
"""


def printed(probed: Sequence[Probed]) -> list[str]:
    to = io.StringIO()
    Console(width=80, file=to).print(probing.table(probed))
    return [line.rstrip() for line in to.getvalue().splitlines()]


def test_the_table_fits_80_columns() -> None:
    v6, unix = TcpAddress("2001:db8:1234:5678::25", 2525), UnixAddress("/run/dovecot/lmtp")
    mail1, mail3 = HostName("mail1.example.org", 25), HostName("mail3.example.org", 25)
    refusal = "550 5.1.1 <joe@example.org>: Recipient address rejected: User unknown in virtual mailbox table"
    probed = [
        Probed(MailPath(TcpAddress("192.0.2.25", 25), host=mail1), Stage.RCPT, "250 2.1.5 ok", True, 0.012, 0.001),
        Probed(MailPath(v6, host=v6), Stage.RCPT, refusal, False, 12, 0.25),
        Probed(mail3, Stage.LOOKUP, "mail3.example.org: temporary failure", False, 0.1),
        Probed(MailPath(unix, host=unix), Stage.CONNECT, "No such file or directory", False, 0),
    ]
    assert printed(probed) == TABLE.splitlines()


def test_backbones_have_a_column_of_their_own() -> None:
    address = TcpAddress("192.0.2.25", 25)
    isp_a, isp_b = (Backbone(name=name, sources=("192.0.2.1",), helo="gw.example") for name in ("isp-a", "isp-b"))
    probed = [
        Probed(MailPath(address, isp_a), Stage.CONNECT, "Connection refused", False, 0.01),
        Probed(MailPath(address, isp_b), Stage.RCPT, "250 2.1.5 ok", True, 0.03, 0.02),
        Probed("a.example", Stage.LOOKUP, "a.example: null MX", False, 0),
    ]
    assert printed(probed) == BACKBONES.splitlines()
