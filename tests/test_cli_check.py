"""`mailgate check` and `mailgate --version`, as a person at a terminal sees them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from mailgate import dns_check
from mailgate.cli import main
from mailgate.network import Answer, NoAnswer, TcpAddress

EXAMPLE = Path(__file__).parent.parent / "conf" / "mailgate.toml"

SUMMARY = """\
hostname: gw1.example.org
mail for <Postmaster>: postmaster@example.org
DNS servers: 127.0.0.1:53
state: none is kept, and there is no control socket for `mailgate status`
ledger: this gateway's own memory, lost when it stops

backbone isp-a: from 192.0.2.10, 2001:db8:a::10, HELO gw1-a.example.org
backbone isp-b: from 198.51.100.10, HELO gw1-b.example.org

listener from-outside: SMTP
    on 0.0.0.0:25, [::]:25
    for everyone
    example.org, .example.org -> route inside: SMTP to mail1.example.org:25, then 10.0.0.25:2525
    any other domain -> refused
    several next hops -> apart, one in each transaction

listener from-inside: LMTP
    on 10.0.0.1:24
    for 10.0.0.0/8, 2001:db8:1::/48
    * -> route outside: SMTP by MX, port 25, over isp-a, then isp-b
    several next hops -> together, each recipient with a reply of its own
"""

SMALL = """\
hostname = "gw1.example.org"

[[listener]]
name = "out"
protocol = "lmtp"
bind = [BIND]
routes = ["inside"]

[[route]]
name = "inside"
domains = ["bücher.example"]
hosts = ["unix:/run/lmtp"]
protocol = "lmtp"
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="mailgate")


def test_a_good_file_is_explained() -> None:
    result = run("check", str(EXAMPLE))
    assert (result.stdout, result.stderr, result.exit_code) == (SUMMARY, "", 0)


@pytest.mark.parametrize(
    ("bind", "lines"),
    [
        ('"127.0.0.1:2424"', ["on 127.0.0.1:2424", "for everyone"]),
        ('"unix:/run/x"', ["on unix:/run/x", "for whom the file mode of its unix socket lets in"]),
        (
            '"unix:/run/x", "[::1]:24"',
            ["on unix:/run/x, [::1]:24", "for everyone", "for whom the file mode of its unix socket lets in"],
        ),
    ],
    ids=["tcp", "unix", "both"],
)
def test_who_may_connect_and_what_is_by_default(tmp_path: Path, bind: str, lines: list[str]) -> None:
    file = tmp_path / "gw.toml"
    file.write_text(SMALL.replace("BIND", bind))
    assert run("check", str(file)).stdout.splitlines() == [
        "hostname: gw1.example.org",
        "mail for <Postmaster>: postmaster@gw1.example.org",
        "DNS servers: as the system has them",
        "state: none is kept, and there is no control socket for `mailgate status`",
        "ledger: this gateway's own memory, lost when it stops",
        "",
        "listener out: LMTP",
        *(f"    {line}" for line in lines),
        "    xn--bcher-kva.example -> route inside: LMTP to unix:/run/lmtp",
        "    any other domain -> refused",
        "    several next hops -> together, each recipient with a reply of its own",
    ]


ROUTE = """\
mx = true
port = 2525
allow_private = true
address_literals = true
group_domains = true
backbones = ["isp-a"]

[[backbone]]
name = "isp-a"
source = ["2001:db8:a::10"]
"""


@pytest.mark.parametrize(
    ("route", "way"),
    [
        (
            ROUTE,
            "LMTP by MX, port 2525, over isp-a; hosts with private addresses too; address literals too; "
            "domains with the same hosts share a delivery",
        ),
        ('hosts = ["a", "b"]\n' + ROUTE[ROUTE.index("backbones") :], "LMTP to a:24, then b:24, over isp-a"),
    ],
    ids=["by MX", "by name"],
)
def test_the_way_of_a_route(tmp_path: Path, route: str, way: str) -> None:
    file = tmp_path / "gw.toml"
    state = 'state_dir = "/var/lib/mailgate"\n'
    file.write_text(state + SMALL.replace("BIND", '"unix:/run/x"').replace('hosts = ["unix:/run/lmtp"]\n', "") + route)
    lines = run("check", str(file)).stdout.splitlines()
    assert "state: /var/lib/mailgate" in lines
    assert "backbone isp-a: from 2001:db8:a::10, HELO gw1.example.org" in lines
    assert f"    xn--bcher-kva.example -> route inside: {way}" in lines


TOGETHER = """\
hostname = "gw1.example.org"
{state}

[[listener]]
name = "from-outside"
protocol = "smtp"
bind = ["0.0.0.0:25"]
routes = ["a", "b"]
{listener}

[[route]]
name = "a"
domains = ["gw1.example.org"]
hosts = ["mx.a.example"]

[[route]]
name = "b"
domains = ["b.example"]
hosts = ["mx.b.example"]

[ledger]
{ledger}
"""
STATE = 'state_dir = "/var/lib/mailgate"'
URL = 'url = "redis://:s3cret@10.0.0.5/1"'
PLAIN = 'several_next_hops = "together"'
HANDOVER = f'{PLAIN}\nhandover = "10.0.0.25"'
COMES_AGAIN = "together; what one has not taken when another has, comes again: "


@pytest.mark.parametrize(
    ("state", "listener", "ledger", "kept", "several", "warnings"),
    [
        ("", "", "", "this gateway's own memory, lost when it stops", "apart, one in each transaction", 0),
        (STATE, PLAIN, "", "this gateway's own memory", COMES_AGAIN + "the ledger knows who has it", 1),
        (
            *(STATE, PLAIN, "enabled = false", "off"),
            *(COMES_AGAIN + "with second copies, as the ledger is off", 1),
        ),
        (
            *(STATE, PLAIN, URL, "shared at 10.0.0.5:6379, database 1, with a password"),
            *(COMES_AGAIN + "the ledger knows who has it", 0),
        ),
        (
            *("", HANDOVER, URL, "shared at 10.0.0.5:6379, database 1, with a password"),
            *("together; what one has not taken when another has, goes to 10.0.0.25:25", 0),
        ),
    ],
    ids=["apart", "alone", "no ledger", "a shared ledger", "a handover"],
)
def test_several_next_hops_and_the_ledger(
    tmp_path: Path, state: str, listener: str, ledger: str, kept: str, several: str, warnings: int
) -> None:
    file = tmp_path / "gw.toml"
    file.write_text(TOGETHER.format(state=state, listener=listener, ledger=ledger))
    result = run("check", str(file))
    assert f"ledger: {kept}" in result.stdout.splitlines()
    assert f"    several next hops -> {several}" in result.stdout.splitlines()
    assert result.exit_code == 0
    assert result.stderr.count("\n") == warnings
    assert "s3cret" not in result.output


def test_what_is_doubtful_is_a_warning_and_no_error(tmp_path: Path) -> None:
    file = tmp_path / "gw.toml"
    file.write_text(TOGETHER.format(state="", listener=PLAIN, ledger=""))
    result = run("check", str(file))
    assert result.stderr.startswith(
        f'mailgate: warning: {file}: listener "from-outside": several_next_hops: "together" without a handover and '
        "without a shared ledger is right only for a single gateway: "
    )
    assert result.exit_code == 0


@pytest.mark.parametrize("command", [["check"], ["serve", "-c"]], ids=["check", "serve"])
def test_a_shared_ledger_needs_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "gw.toml"
    file.write_text(TOGETHER.format(state="", listener="", ledger=URL))
    for module in ("coredis", "coredis.pool"):
        monkeypatch.setitem(sys.modules, module, None)
    result = run(*command, str(file))
    assert (result.stdout, result.exit_code) == ("", 2)
    assert result.stderr == (
        f'{file}: ledger.url: a shared ledger needs the package coredis: pip install "mailgate[ledger]"\n'
    )


class Dns:
    """In the place of the real network, which `check` asks."""

    def __init__(self, records: dict[tuple[str, str], str]) -> None:
        self._records = records
        self.servers: list[tuple[TcpAddress, ...]] = []

    def at(self, servers: tuple[TcpAddress, ...]) -> Dns:
        self.servers.append(servers)
        return self

    async def query(self, name: str, record_type: str) -> Answer | NoAnswer:
        await trio.lowlevel.checkpoint()
        record = self._records.get((name, record_type))
        return NoAnswer.NO_SUCH_DOMAIN if record is None else Answer((record,), 300)


V6 = "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.a.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"

RECORDS = {
    ("10.2.0.192.in-addr.arpa", "PTR"): "gw1-a.example.org.",
    ("gw1-a.example.org", "A"): "192.0.2.10",
    (V6, "PTR"): "gw1-a.example.org.",
    ("gw1-a.example.org", "AAAA"): "2001:db8:a::10",
    ("10.100.51.198.in-addr.arpa", "PTR"): "gw1-b.example.org.",
    ("gw1-b.example.org", "A"): "198.51.100.10",
}


@pytest.mark.parametrize(
    ("missing", "line", "status"),
    [
        (None, "ok", 0),
        (
            ("gw1-b.example.org", "A"),
            "its HELO name, gw1-b.example.org, does not exist; "
            "whoever keeps the zone of that name has to add: gw1-b.example.org. A 198.51.100.10",
            1,
        ),
    ],
    ids=["all is there", "a record is missing"],
)
def test_dns_is_asked(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, str] | None, line: str, status: int) -> None:
    dns = Dns({key: value for key, value in RECORDS.items() if key != missing})
    monkeypatch.setattr(dns_check, "RealNetwork", dns.at)
    result = run("check", "--dns", str(EXAMPLE))
    assert result.stdout == SUMMARY + (
        '\nbackbone "isp-a": source 192.0.2.10: ok\n'
        'backbone "isp-a": source 2001:db8:a::10: ok\n'
        f'backbone "isp-b": source 198.51.100.10: {line}\n'
    )
    assert (result.stderr, result.exit_code) == ("", status)
    assert dns.servers == [(TcpAddress("127.0.0.1", 53),)]


def test_dns_is_asked_of_the_hostname_where_there_is_no_backbone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gw.toml"
    file.write_text(SMALL.replace("BIND", '"unix:/run/x"'))
    monkeypatch.setattr(dns_check, "RealNetwork", Dns({}).at)
    result = run("check", str(file), "--dns")
    remark, problem = result.stdout.splitlines()[-2:]
    assert remark.startswith("There is no backbone to check: ")
    assert problem.startswith("hostname gw1.example.org: DNS has no address for it; ")
    assert result.exit_code == 1


def test_dns_is_not_asked_of_a_bad_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "gw.toml"
    file.write_text("")
    dns = Dns({})
    monkeypatch.setattr(dns_check, "RealNetwork", dns.at)
    assert run("check", "--dns", str(file)).exit_code == 2
    assert dns.servers == []


def test_a_bad_file_gets_a_line_on_stderr_for_each_problem(tmp_path: Path) -> None:
    file = tmp_path / "gw.toml"
    file.write_text(SMALL.replace("BIND", '"localhost:24"').replace("hostname", "hostnmae"))
    result = run("check", str(file))
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f'{file}: hostname: is missing; for example hostname = "gw1.example.org"',
        f"{file}: hostnmae: unknown key; did you mean `hostname`?",
        f'{file}: listener "out": bind[0]: "localhost:24" is no IP address but a name: "localhost"; '
        'write for example "0.0.0.0:25", "[::]:25" or "unix:/run/mailgate.sock"',
    ]
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('hostname = "x', "line 1, column 14: is no TOML: "),
        (None, "cannot be read: No such file or directory; name a file that this user may read"),
    ],
    ids=["syntax", "no file"],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: str | None, problem: str) -> None:
    file = tmp_path / "gw.toml"
    if content is not None:
        file.write_text(content)
    result = run("check", str(file))
    assert result.stderr.startswith(f"{file}: {problem}")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 2


def test_hostile_text_in_a_file_does_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "gw.toml"
    file.write_text('hostname = "\\u001b[2J\\nx"\n"\\u001b]0;k\\n" = 1\n[[listener]]\nname = "\\u001b[2J"')
    result = run("check", str(file))
    assert "\x1b" not in result.stderr
    assert all(line.startswith(f"{file}: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize("command", [("mailgate",), (sys.executable, "-m", "mailgate")], ids=["script", "module"])
def test_version(command: tuple[str, ...]) -> None:
    if command == ("mailgate",):
        command = (str(Path(sys.executable).with_name("mailgate")),)
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mailgate {version('mailgate')}\n"
