"""`mailgate check` and `mailgate --version`, as a person at a terminal sees them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailgate.cli import main

EXAMPLE = Path(__file__).parent.parent / "conf" / "mailgate.toml"

SUMMARY = """\
hostname: gw1.example.org
mail for <Postmaster>: postmaster@example.org
DNS servers: 127.0.0.1:53

listener from-outside: SMTP
    on 0.0.0.0:25, [::]:25
    for everyone
    example.org, .example.org -> route inside: SMTP to mail1.example.org:25, then 10.0.0.25:2525
    any other domain -> refused

listener from-inside: LMTP
    on 10.0.0.1:24
    for 10.0.0.0/8, 2001:db8:1::/48
    * -> route outside: SMTP to relay-a.example.net:25, then relay-b.example.com:2525
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
        "",
        "listener out: LMTP",
        *(f"    {line}" for line in lines),
        "    xn--bcher-kva.example -> route inside: LMTP to unix:/run/lmtp",
        "    any other domain -> refused",
    ]


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
