"""Dovecot's LMTP server: it takes mail, and sends none."""

from __future__ import annotations

from lab.mta import CONFIGS, RECIPES, File, Mta, Role
from lab.roots import Root

# The daemon would keep what it inherits open.
_START = """
dovecot </dev/null >/dev/null 2>&1
for tenth in $(seq 100); do
  if grep -q ':0018 00000000:0000 0A' /proc/net/tcp; then exit 0; fi
  sleep 0.1
done
echo 'Dovecot does not listen on port 24' >&2
exit 1
"""

# Its processes go by many names, and have their programs in one folder. What has ended meanwhile is no error.
_STOP = """
for tenth in $(seq 50); do
  left=
  for process in /proc/[0-9]*; do
    case $(readlink $process/exe || true) in
      /usr/sbin/dovecot | /usr/lib/dovecot/*) left=yes; kill -KILL ${process#/proc/} 2>/dev/null || true ;;
    esac
  done
  if [ -z "$left" ]; then exit 0; fi
  sleep 0.1
done
exit 1
"""

_OURS = CONFIGS / "dovecot"
_RECIPE = (File("/etc/dovecot/dovecot.conf", RECIPES / "dovecot" / "dovecot.conf"),)
_FULL = (
    *_RECIPE,
    File("/etc/dovecot/beside-1.conf", _OURS / "full.conf"),
    File("/etc/dovecot/full-users", _OURS / "full-users"),
)

# What is beside the recipe comes first: the first user database that knows somebody counts.
_PREPARE = """
cd /etc/dovecot
cat $(ls beside-*.conf 2>/dev/null) dovecot.conf >whole
mv whole dovecot.conf
doveconf -n >/dev/null
"""

DOVECOT = Mta(
    name="Dovecot",
    root=Root("dovecot", ("dovecot-lmtpd",)),
    roles={
        Role.INSIDE: _RECIPE,
        Role.FULL: _FULL,
        Role.FULL_FOR_NOW: (*_FULL, File("/etc/dovecot/beside-2.conf", _OURS / "full-for-now.conf")),
    },
    version="echo Dovecot $(dovecot --version)",
    prepare=_PREPARE,
    start=_START,
    stop=_STOP,
    flush="true",
    queue="echo 0",
    speaks="lmtp",
)
