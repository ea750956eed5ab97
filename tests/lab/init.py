"""The first process of a machine with a root of its own: mounts it, takes what is logged, reaps. Linux only.

    python init.py ROOT FOLDER HOSTNAME

started in fresh mount, pid, UTS and IPC namespaces. ROOT stays as it is: changes go to FOLDER/upper, the log to
FOLDER/log. Prints a line once the machine is up. When it ends, the kernel ends every process of the machine.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def main(root: Path, folder: Path, hostname: str) -> None:
    """Bring the machine up, and serve it for ever."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the one who ends us
    socket.sethostname(hostname)
    new = _mount(root, folder)
    with (folder / "log").open("ab", buffering=0) as log:
        syslog = _in_root(new)
        print("up", flush=True)  # noqa: T201
        while True:
            ready, _, _ = select.select([syslog.fileno(), wake], [], [])
            if syslog.fileno() in ready:
                log.write(syslog.recv(65536).rstrip(b"\n\0") + b"\n")
            if wake in ready:
                os.read(wake, 4096)
                _reap()


def _mount(root: Path, folder: Path) -> Path:
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    new = folder / "root"
    layers = f"lowerdir={root},upperdir={folder}/upper,workdir={folder}/work"
    _run("mount", "-t", "overlay", "overlay", "-o", layers, str(new))
    _run("mount", "-t", "proc", "proc", f"{new}/proc")
    _run("mount", "-t", "tmpfs", "tmpfs", f"{new}/dev")
    _run("mount", "-t", "tmpfs", "tmpfs", f"{new}/run")
    return new


def _in_root(new: Path) -> socket.socket:
    """Make it our root, with devices; the socket that is /dev/log there."""
    os.chroot(new)
    os.chdir("/")
    os.umask(0)
    for name, number in _DEVICES.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*number))
    os.symlink("/proc/self/fd", "/dev/fd")
    os.mkdir("/dev/shm", 0o1777)
    os.mkdir("/run/lock", 0o1777)
    syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    syslog.bind("/dev/log")
    os.umask(0o022)
    return syslog


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
