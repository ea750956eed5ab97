"""The roots that the lab's mail servers run in: a Debian tree of its own for each, built once and kept.

A root is named after what it was made from, so a changed recipe makes a new one. Nothing runs *in* a root: the lab
mounts an overlay above it (node.py), and it stays as it was built.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USERS = ("ann", "bob", "carol", "dave")
"""who has a mailbox on every server"""

_MIRROR = re.compile(r"(\S+/debian(?:-security)?/) (\S+)")
"""a line of what apt has, if it is Debian's: third parties' repositories have no place in a root"""

_PREPARE = f"""
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
for user in {" ".join(USERS)}; do useradd --create-home --shell /bin/sh $user; done
"""

_INSTALL = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends {packages}
apt-get clean
"""


class CannotBuild(Exception):
    """A root cannot be built; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Root:
    """What a root is made of: a minimal Debian with packages."""

    name: str
    packages: tuple[str, ...]


def cache_folder() -> Path:
    """Where roots are kept: $LAB_CACHE, else a folder in the user's cache."""
    given = os.environ.get("LAB_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mailgate-lab"


def path_of(root: Root, cache: Path) -> Path:
    """Where a root is, or will be."""
    made_from = repr((_suite(), platform.machine(), _PREPARE, _INSTALL, root.packages))
    return cache / f"{root.name}-{hashlib.sha256(made_from.encode()).hexdigest()[:10]}"


def build(roots: tuple[Root, ...], cache: Path, told: Callable[[str], None]) -> dict[str, Path]:
    """The roots, built where they are not there yet; by name.

    Raises:
        CannotBuild: a command failed; the end of its output is in the text.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        base = Root("base", ())
        if not all(path_of(root, cache).exists() for root in roots):
            _make(base, cache, told, _debootstrap)
        for root in roots:
            _make(root, cache, told, functools.partial(_derive, root, path_of(base, cache)))
    return {root.name: path_of(root, cache) for root in roots}


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Two labs that start together must not build the same root."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(root: Root, cache: Path, told: Callable[[str], None], fill: Callable[[Path], None]) -> None:
    final = path_of(root, cache)
    if final.exists():
        return
    told(f"building the root of {root.name} in {final}")
    begun = final.with_suffix(".part")
    if begun.exists():
        shutil.rmtree(begun)
    fill(begun)
    begun.rename(final)


def _debootstrap(folder: Path) -> None:
    mirrors = _mirrors()
    main = next(uri for uri, release in mirrors if release == _suite() and not uri.endswith("-security/"))
    _run(["debootstrap", "--variant=minbase", _suite(), str(folder), main])
    sources = folder / "etc/apt/sources.list"
    sources.write_text("".join(f"deb {uri} {release} main\n" for uri, release in mirrors))
    proxy = _output(["apt-config", "dump", "Acquire::http::Proxy"])
    (folder / "etc/apt/apt.conf.d/90lab").write_text(proxy)
    _inside(folder, _PREPARE)


def _derive(root: Root, base: Path, folder: Path) -> None:
    _run(["cp", "-a", str(base), str(folder)])
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    _inside(folder, _INSTALL.format(packages=" ".join(root.packages)))


def _inside(folder: Path, script: str) -> None:
    """Run a shell script in the tree, with a /proc of its own; whatever it leaves running ends with it."""
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={folder}/proc"]
    _run([*enter, "chroot", str(folder), "/bin/sh", "-euc", script])


def _suite() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _mirrors() -> list[tuple[str, str]]:
    """This system's own Debian mirrors, so that the lab asks nobody that the system does not: (URI, release)."""
    listed = _output(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
    found = sorted(set(_MIRROR.findall(listed)))
    if not any(release == _suite() for _, release in found):
        raise CannotBuild(f"apt knows no Debian mirror for {_suite()}: add one to /etc/apt/sources.list.d")
    return found


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _run(command: list[str]) -> None:
    ran = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if ran.returncode:
        end = "\n".join(ran.stdout.splitlines()[-15:])
        raise CannotBuild(f"{' '.join(command)[:200]} ended with status {ran.returncode}:\n{end}")
