"""The command line of the lab:  python -m lab --help

It runs itself again in namespaces of its own (mounts, processes, network, ...) and does everything there. When that
inner process ends, in whatever way, the kernel removes all that the lab made: processes, networks, mounts. Two runs
have nothing in common but the cached roots, which nobody writes to.
"""

from __future__ import annotations

import fnmatch
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import click
import trio

# Those that are not used here have scenarios, which register.
from lab import conventional, inbound, outbound, progress, results, roots, together, trouble  # noqa: F401
from lab.mtas import ROOTS
from lab.run import Lab, Result
from lab.scenario import SCENARIOS, Case, cases

_NEEDED = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "tcpdump": "tcpdump",
    "sysctl": "procps",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
"""commands, and the Debian packages that they are in"""

_ALONE = (
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--uts",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation=private",
)

_INTERRUPTED = 130
"""exit status, as shells have it for SIGINT"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Cases whose name has this in it; * and ? may be used, | means or.")
@click.option("--jobs", default=4, show_default=True, help="Cases at a time, beside those that mostly wait.")
@click.option("--results", "page", type=click.Path(path_type=Path), help="Write the results to this file too.")
@click.option(
    "--logs",
    type=click.Path(path_type=Path),
    default=Path("lab-logs"),
    show_default=True,
    help="Where the logs of failed cases are kept.",
)
@click.option("--keep", is_flag=True, help="Keep the logs of cases that passed, too.")
@click.option("--list", "listing", is_flag=True, help="Show the scenarios and cases, and run nothing.")
@click.option("--inside", is_flag=True, hidden=True)
def main(only: str, jobs: int, page: Path | None, logs: Path, keep: bool, listing: bool, inside: bool) -> None:
    """The paper's experiments with real mail servers, in a network of namespaces. As root, on Debian.

    Exit status 0 if every case passed, 1 if one did not, 2 if nothing could be run.
    """
    chosen = _chosen(only)
    if not chosen:
        raise click.UsageError(f"no case has {only!r} in its name; --list shows them")
    if listing:
        _list(chosen)
    elif inside:
        sys.exit(_inside(chosen, jobs, page, logs, keep))
    else:
        _ready()
        sys.exit(_apart(sys.argv[1:]))


def _chosen(only: str) -> list[Case]:
    patterns = [f"*{one.strip()}*" for one in only.split("|")]
    return [case for case in cases() if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]


def _list(chosen: list[Case]) -> None:
    for scenario in SCENARIOS:
        names = [case.name for case in chosen if case.scenario is scenario]
        if names:
            click.echo(f"\n{scenario.name} ({scenario.way.value})\n")
            click.echo("".join(f"    {line}".rstrip() + "\n" for line in scenario.prose.splitlines()))
            click.echo("".join(f"    {name}\n" for name in names), nl=False)


def _ready() -> None:
    """See that the lab can run here, and that its roots are built."""
    if os.geteuid() != 0:
        raise _CannotRun("the lab makes network namespaces: run it as root")
    if not Path("/etc/debian_version").exists() or "VERSION_CODENAME" not in platform.freedesktop_os_release():
        raise _CannotRun("the lab's mail servers come from Debian's packages: run it on Debian")
    missing = sorted({package for command, package in _NEEDED.items() if shutil.which(command) is None})
    if missing:
        raise _CannotRun(f"something is missing for the lab:  apt-get install {' '.join(missing)}")
    try:
        roots.build(ROOTS, roots.cache_folder(), click.echo)
    except roots.CannotBuild as why:
        raise _CannotRun(str(why)) from None


class _CannotRun(click.ClickException):
    exit_code = 2


def _apart(arguments: list[str]) -> int:
    """Run the lab in namespaces of its own; its exit status."""
    inner = [sys.executable, "-m", "lab", "--inside", *arguments]
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", *_ALONE, *inner])

    def end(number: int, frame: FrameType | None) -> None:
        process.kill()

    signal.signal(signal.SIGTERM, end)
    try:
        return process.wait()
    except KeyboardInterrupt:  # the inner one has heard it too, and ends
        try:
            process.wait(10)
        finally:
            process.kill()
        return _INTERRUPTED


def _inside(chosen: list[Case], jobs: int, page: Path | None, logs: Path, keep: bool) -> int:
    """Run the cases; this is the first process of the namespaces."""
    cache = roots.cache_folder()
    work = cache / "work"
    work.mkdir(exist_ok=True)
    for folder in (work, Path("/run")):  # seen by nobody else, and gone with us
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder)], check=True)
    shutil.rmtree(logs, ignore_errors=True)
    lab = Lab({root.name: roots.path_of(root, cache) for root in ROOTS}, work, logs.absolute(), keep, jobs)
    done: list[Result] = []
    started = time.monotonic()
    with progress.shown(chosen) as show:

        def finished(result: Result) -> None:
            done.append(result)
            show.done(result)

        try:
            trio.run(lab.run, chosen, show.begun, finished)
            interrupted = False
        except* KeyboardInterrupt:
            interrupted = True
    results.show(done)
    if interrupted:
        click.echo("interrupted: the table has what was done until then, and no page was written")
        return _INTERRUPTED
    if page is not None:
        page.write_text(results.page(done, _command(), time.monotonic() - started))
    return 1 if any(result.wrong for result in done) else 0


def _command() -> str:
    only = next((arg for arg in sys.argv if arg.startswith("--only=") and arg != "--only="), None)
    return "make lab" if only is None else f"make lab ONLY={shlex.quote(only.removeprefix('--only='))}"


if __name__ == "__main__":
    main(prog_name="lab")
