"""Postfix, in every role."""

from __future__ import annotations

from pathlib import Path

from lab.mta import CONFIGS, MOOD, RECIPES, File, Mta, Role
from lab.roots import Root

_OURS = CONFIGS / "postfix"
_QUEUES = "maildrop incoming active deferred hold"


def _main(source: Path) -> tuple[File, ...]:
    return (File("/etc/postfix/main.cf", source),)


def _beside(name: str, main: Path = _OURS / "outside.cf") -> tuple[File, ...]:
    return (*_main(main), File("/etc/postfix/beside.cf", _OURS / f"{name}.cf"))


# The lab's roots lack the copies of /etc that a chroot needs; Debian's init script would make them.
_PREPARE = """
cd /etc/postfix
postconf -F '*/*/chroot=n'
[ ! -e beside.cf ] || grep '^[a-z]' beside.cf | while read -r line; do postconf -e "$line"; done
if [ -e /usr/local/bin/mood ]; then
  postconf -Me 'mood/unix=mood unix - n n - 0 spawn user=nobody argv=/usr/local/bin/mood policy'
fi
newaliases
"""

POSTFIX = Mta(
    name="Postfix",
    root=Root("postfix", ("postfix",)),
    roles={
        Role.OUTSIDE: _main(_OURS / "outside.cf"),
        Role.TOGETHER: _beside("together"),
        Role.HURRIED: _beside("hurried"),
        Role.DEFERS: _beside("defers"),
        Role.REJECTS: _beside("rejects"),
        Role.INSIDE: _main(RECIPES / "postfix" / "main.cf"),
        Role.MOODY: (*_beside("mood", RECIPES / "postfix" / "main.cf"), MOOD),
        Role.HANDOVER: _main(_OURS / "handover.cf"),
        Role.PLAIN: _beside("plain"),
        Role.GATEWAY: _main(_OURS / "gateway.cf"),
    },
    version='echo "Postfix $(postconf -dh mail_version)"',
    prepare=_PREPARE,
    # It comes back when the master process has initialised, and so listens.
    start="postfix start 2>&1",
    # The master leads a process group that its children stay in.
    stop="master=$(tr -d ' ' </var/spool/postfix/pid/master.pid); kill -s KILL -- -$master || true",
    flush="postqueue -f",
    queue=f"cd /var/spool/postfix; find {_QUEUES} -type f | wc -l",
)
