"""sendmail, in every role."""

from __future__ import annotations

from lab.mta import CONFIGS, MOOD, RECIPES, File, Mta, Role
from lab.roots import Root

_RECIPE = RECIPES / "sendmail"
_OURS = CONFIGS / "sendmail"
_MAILBOXES = File("/etc/procmailrc", _RECIPE / "procmailrc")


def _files(mc: str, access: str) -> tuple[File, ...]:
    return (
        File("/etc/mail/sendmail.mc", _OURS / f"{mc}.mc"),
        File("/etc/mail/lab.m4", _OURS / "lab.m4"),
        File("/etc/mail/access", _OURS / f"{access}.access"),
        _MAILBOXES,
    )


_INSIDE = (
    File("/etc/mail/sendmail.mc", _RECIPE / "sendmail.mc"),
    File("/etc/mail/access", _RECIPE / "access"),
    File("/etc/mail/sendmail.conf", _RECIPE / "sendmail.conf"),
    _MAILBOXES,
)

_GATEWAY = (
    *_files("gateway", "gateway"),
    File("/etc/mail/mailertable", _OURS / "gateway.mailertable"),
    File("/etc/mail/sendmail.conf", _OURS / "gateway.conf"),
)

# A gateway names the other one in its configuration.
_PREPARE = """
cd /etc/mail
case $(hostname) in gw1.*) other=gw2;; *) other=gw1;; esac
sed -i "s/other[.]/$other./" sendmail.mc
[ ! -e mood.mc ] || cat mood.mc >>sendmail.mc
m4 sendmail.mc >sendmail.cf
for table in access mailertable; do [ ! -e $table ] || makemap hash $table <$table; done
sendmail-mta -Am -bi >/dev/null
"""

# The lab keeps its machine busy: sendmail would only queue, or refuse connections.
_LOAD = "-O QueueLA=1000 -O RefuseLA=1000 -O DelayLA=0"

# /run is new with the machine. How often it looks into its queue is in Debian's sendmail.conf, unless the role has one.
_START = f"""
install -d -o smmta -g smmta -m 2755 /run/sendmail/mta
. /etc/mail/sendmail.conf
/usr/sbin/sendmail-mta -Am -L sm-mta -bd -q$QUEUE_INTERVAL {_LOAD}
for wait in $(seq 100); do
    ! grep -q ' 00000000:0019 00000000:0000 0A ' /proc/net/tcp || exit 0
    sleep 0.1
done
exit 1
"""

SENDMAIL = Mta(
    name="sendmail",
    root=Root("sendmail", ("sendmail-bin", "sendmail-cf", "m4", "procmail")),
    roles={
        Role.OUTSIDE: _files("outside", "outside"),
        Role.TOGETHER: _files("outside", "outside"),
        Role.HURRIED: _files("hurried", "outside"),
        Role.DEFERS: _files("defers", "outside"),
        Role.REJECTS: _files("rejects", "outside"),
        Role.INSIDE: _INSIDE,
        Role.MOODY: (*_INSIDE, File("/etc/mail/mood.mc", _OURS / "mood.mc"), MOOD),
        Role.PLAIN: _files("plain", "plain"),
        Role.GATEWAY: _GATEWAY,
    },
    version="echo \"sendmail $(sendmail-mta -Am -d0.1 -bt </dev/null | sed -n 's/^Version //p')\"",
    prepare=_PREPARE,
    start=_START,
    # A process that dies may just have made another.
    stop="while start-stop-daemon --stop --quiet --signal KILL --exec /usr/libexec/sendmail/sendmail; do :; done",
    flush=f"sendmail-mta -Am -L sm-flush -q -O MinQueueAge=0 -O MaxQueueAge=0 {_LOAD} </dev/null >/dev/null 2>&1 &",
    queue="find /var/spool/mqueue -name 'qf*' | wc -l",
)
