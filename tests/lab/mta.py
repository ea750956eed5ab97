"""What the lab has to know of a mail server to run it, in each of its roles.

A role's files are copied into the server's root, with `example.org` replaced by its own domain; then `prepare` and
`start` are run there, by /bin/sh as root. A server's name is mail1 in its domain, and it has a resolver in
/etc/resolv.conf that knows the lab's zone. Users are those of roots.USERS, with mail in ~/Maildir, and nobody else.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.roots import Root

REPOSITORY = Path(__file__).parents[2]

RECIPES = REPOSITORY / "conf" / "peers"
"""configurations that docs/peers explains"""

CONFIGS = Path(__file__).parent / "configs"
"""those that only the lab needs"""


class Role(enum.Enum):
    """What a server is there for."""

    OUTSIDE = "outside"
    """of the Internet: takes mail for its domain, sends by MX; out of the box but for names and mailboxes"""
    TOGETHER = "together"
    """the same, but it gives a message for several domains of the site to a gateway in one transaction"""
    HURRIED = "hurried"
    """the same, but it gives up after 20 s"""
    DEFERS = "defers"
    """of the Internet, but every message is refused with a 4xx after its dot"""
    REJECTS = "rejects"
    """the same with a 5xx"""
    INSIDE = "inside"
    """behind the gateways: the recipe"""
    MOODY = "moody"
    """the same, but what it answers to a dot is as the case says: `MailServer.answer`"""
    FULL = "full"
    """the same, but bob's mailbox is over quota: 5xx"""
    FULL_FOR_NOW = "full for now"
    """the same with a 4xx"""
    HANDOVER = "handover"
    """behind the gateways: a queue for what they could hand on to some recipients only"""
    PLAIN = "plain"
    """behind gateways that store and forward: sends by SMTP to gw1, then gw2, many recipients at a time"""
    GATEWAY = "gateway"
    """a gateway that stores and forwards, beside which mailgate is measured"""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a role: where it goes in the root, and where it comes from."""

    target: str
    source: Path
    mode: int = 0o644


MOOD = File("/usr/local/bin/mood", CONFIGS / "mood.sh", 0o755)
"""what a moody server asks about each message"""


@dataclass(frozen=True, slots=True)
class Mta:
    """A mail server. All texts but the name are shell commands, run in its root."""

    name: str
    root: Root
    roles: Mapping[Role, tuple[File, ...]]
    version: str
    """prints one line: what it is"""
    prepare: str
    start: str
    """comes back when it listens, or soon will"""
    stop: str
    """ends it at once, as a crash would"""
    flush: str
    """tries everything in the queue now, whatever has been remembered about hosts"""
    queue: str
    """prints a number: the messages in the queue"""
    speaks: str = "smtp"
    """what a gateway speaks to it"""
    goes_on: bool = True
    """whether it tries the next MX after a 4xx to RCPT"""
    prdr: bool = False
    """whether it asks a gateway for a reply for each recipient"""
    variant: str = ""
    """what is special about it, where a scenario has it twice"""

    @property
    def title(self) -> str:
        """What it is called in the results."""
        return f"{self.name} {self.variant}".strip()

    @property
    def key(self) -> str:
        """What it is called in the names of cases."""
        return "-".join((self.root.name, *self.variant.lower().split()))
