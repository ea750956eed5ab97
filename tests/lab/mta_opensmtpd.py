"""OpenSMTPD."""

from __future__ import annotations

from lab.mta import CONFIGS, RECIPES, File, Mta, Role
from lab.roots import Root

_NAME = File("/etc/mailname", CONFIGS / "opensmtpd" / "mailname")


def _outside(name: str) -> tuple[File, ...]:
    return (_NAME, File("/etc/smtpd.conf", CONFIGS / "opensmtpd" / name))


_START = """
smtpd
for tenth in $(seq 100); do
  if grep -q ':0019 00000000:0000 0A' /proc/net/tcp && smtpctl show status >/dev/null 2>&1; then exit 0; fi
  sleep 0.1
done
echo 'OpenSMTPD does not listen on port 25' >&2
exit 1
"""

# With the delivery agents, as when the machine crashes: one that went on would deliver what a new smtpd tries again.
_STOP = """
for tenth in $(seq 50); do
  pids="$(pidof smtpd mail.maildir || true) $(pidof -x gwlmtp || true)"
  if [ "$pids" = " " ]; then exit 0; fi
  kill -KILL $pids || true
  sleep 0.1
done
exit 1
"""

# A route that has failed is disabled for 15 s and more, whatever is scheduled. And a message that has found all of its
# hosts disabled is in flight for some 10 s more, when it cannot be scheduled: that is done once it is not.
_FLUSH = """
resume() {
  for route in $(smtpctl show routes | sed -n 's/^\\([0-9]*\\)\\..*/\\1/p'); do
    smtpctl resume route $route || true
  done
}
in_state() {
  smtpctl show queue | sed -n "s/^\\([0-9a-f]*\\)|.*|$1|.*/\\1/p"
}
wait_for=$(in_state inflight)
resume
smtpctl schedule all
(
  for second in $(seq 15); do
    sleep 1
    now=$(in_state pending)
    left=
    for id in $wait_for; do
      case $now in
        *$id*) resume; smtpctl schedule $id || true ;;
        *) left="$left $id" ;;
      esac
    done
    wait_for=$left
  done
) </dev/null >/dev/null 2>&1 &
"""

OPENSMTPD = Mta(
    name="OpenSMTPD",
    root=Root("opensmtpd", ("opensmtpd",)),
    roles={
        Role.OUTSIDE: _outside("outside.conf"),
        Role.DEFERS: _outside("defers.conf"),
        Role.REJECTS: _outside("rejects.conf"),
        Role.INSIDE: (
            _NAME,
            File("/etc/smtpd.conf", RECIPES / "opensmtpd" / "smtpd.conf"),
            File("/usr/local/bin/gwlmtp", RECIPES / "opensmtpd" / "gwlmtp", 0o755),
        ),
    },
    version="smtpd -h 2>&1 | sed -n 's/^version: *//p'",
    prepare="smtpd -n",
    start=_START,
    stop=_STOP,
    flush=_FLUSH,
    # A line for each recipient, and the first eight characters are the message's.
    queue="smtpctl show queue | cut -c 1-8 | sort -u | wc -l",
    goes_on=False,
)
