"""Exim."""

from __future__ import annotations

import dataclasses

from lab.mta import CONFIGS, MOOD, RECIPES, File, Mta, Role
from lab.roots import Root

_FOLDER = "/etc/exim4"
_OUTSIDE = File(f"{_FOLDER}/exim4.conf", CONFIGS / "exim" / "outside.conf")


_HURRIED = File(f"{_FOLDER}/hurried.conf", CONFIGS / "exim" / "hurried.conf")
_WITHOUT_PRDR = File(f"{_FOLDER}/prdr.conf", CONFIGS / "exim" / "without-prdr.conf")


def _verdict(name: str) -> File:
    return File(f"{_FOLDER}/verdict.conf", CONFIGS / "exim" / name)


_RECIPE = (
    File(f"{_FOLDER}/exim4.conf", RECIPES / "exim" / "exim4.conf"),
    File("/etc/default/exim4", RECIPES / "exim" / "default"),
)

_PREPARE = """
cd /etc/exim4
[ ! -e mood.acl ] || sed -i '1i acl_smtp_data = /etc/exim4/mood.acl' exim4.conf
exim4 -bV >/dev/null
"""


# As Debian starts it, with what /etc/default/exim4 says (from the package: a queue run every 30 minutes). The folder in
# /run does not outlive a boot.
_START = """
. /etc/default/exim4
install -d -o Debian-exim -g Debian-exim -m 750 /run/exim4
exim4 -bd -q$QUEUEINTERVAL
for tenth in $(seq 100); do
  if grep -q ':0019 00000000:0000 0A' /proc/net/tcp; then exit 0; fi
  sleep 0.1
done
echo 'Exim does not listen on port 25' >&2
exit 1
"""

# A delivery that was started a moment ago may be missed the first time.
_STOP = """
for tenth in $(seq 50); do
  pids=$(pidof exim4) || exit 0
  kill -KILL $pids || true
  sleep 0.1
done
exit 1
"""

# One queue runner delivers one message at a time. Several of them leave each other's messages alone.
_FLUSH = "for runner in 1 2 3 4; do exim4 -qff </dev/null >/dev/null 2>&1 & done"

EXIM = Mta(
    name="Exim",
    root=Root("exim", ("exim4-daemon-heavy",)),
    roles={
        Role.OUTSIDE: (_OUTSIDE,),
        Role.DEFERS: (_OUTSIDE, _verdict("defers.conf")),
        Role.REJECTS: (_OUTSIDE, _verdict("rejects.conf")),
        Role.TOGETHER: (_OUTSIDE,),
        Role.HURRIED: (_OUTSIDE, _HURRIED),
        Role.INSIDE: _RECIPE,
        Role.MOODY: (*_RECIPE, File(f"{_FOLDER}/mood.acl", CONFIGS / "exim" / "mood.acl"), MOOD),
    },
    version="exim4 -bV | sed -n 's/^\\(Exim version [^ ]*\\).*/\\1/p'",
    prepare=_PREPARE,
    start=_START,
    stop=_STOP,
    flush=_FLUSH,
    queue="exim4 -bpc",
    prdr=True,
)

EXIM_WITHOUT_PRDR = dataclasses.replace(
    EXIM,
    roles={
        Role.TOGETHER: (_OUTSIDE, _WITHOUT_PRDR),
        Role.HURRIED: (_OUTSIDE, _HURRIED, _WITHOUT_PRDR),
    },
    prdr=False,
    variant="without PRDR",
)
"""a sender"""
