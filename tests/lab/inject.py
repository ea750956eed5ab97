"""Hands messages to the mail server on 127.0.0.1:25. Run in a machine's network:

    python inject.py <MESSAGES >TIMES

MESSAGES is a JSON list of {"name", "sender", "recipients", "octets", "after"}; `after` is in seconds since the start.
TIMES is a JSON list of the seconds since the epoch at which the server took each.
"""

from __future__ import annotations

import email.utils
import json
import smtplib
import sys
import time
from typing import Any

_LINE = b"What cannot be handed on is not taken.\r\n"


def content(name: str, sender: str, octets: int) -> bytes:
    """A message of about so many octets, that bears its name."""
    domain = sender.partition("@")[2]
    header = (
        f"From: <{sender}>\r\nTo: undisclosed-recipients:;\r\nSubject: {name}\r\nDate: {email.utils.formatdate()}\r\n"
        f"Message-ID: <{name}@{domain}>\r\nX-Lab-Message: {name}\r\n\r\n"
    ).encode()
    return header + _LINE * max(1, (octets - len(header)) // len(_LINE))


def main(messages: list[dict[str, Any]]) -> list[float]:
    """Send each when its time has come; when each was taken."""
    started = time.monotonic()
    times = []
    with smtplib.SMTP("127.0.0.1", 25, local_hostname="localhost", timeout=120) as server:
        for one in messages:
            time.sleep(max(0.0, started + one["after"] - time.monotonic()))
            server.sendmail(one["sender"], one["recipients"], content(one["name"], one["sender"], one["octets"]))
            times.append(time.time())
    return times


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
