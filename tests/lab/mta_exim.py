"""Exim."""

from __future__ import annotations

from lab.mta import CONFIGS, RECIPES, File, Mta, Role
from lab.roots import Root

_FOLDER = "/etc/exim4"
_OUTSIDE = File(f"{_FOLDER}/exim4.conf", CONFIGS / "exim" / "outside.conf")


def _verdict(name: str) -> File:
    return File(f"{_FOLDER}/verdict.conf", CONFIGS / "exim" / name)


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
        Role.INSIDE: (
            File(f"{_FOLDER}/exim4.conf", RECIPES / "exim" / "exim4.conf"),
            File("/etc/default/exim4", RECIPES / "exim" / "default"),
        ),
    },
    version="exim4 -bV | sed -n 's/^\\(Exim version [^ ]*\\).*/\\1/p'",
    prepare="exim4 -bV >/dev/null",
    start=_START,
    stop=_STOP,
    flush=_FLUSH,
    queue="exim4 -bpc",
)
