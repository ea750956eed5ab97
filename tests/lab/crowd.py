"""A server for a crowd of domains, each at an address of its own; some answer the dot late. Run in a machine's network:

    python crowd.py FIRST COUNT SLOW SECONDS

Listens on port 25 of COUNT addresses from FIRST on; the first SLOW of them answer the dot after SECONDS. Prints a
line once it listens, then one for each message taken: its name, the recipient, and the seconds since the epoch.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import sys
import time
from collections.abc import Callable

from aiosmtpd.smtp import SMTP, Envelope, Session

_NAME = re.compile(rb"^X-Lab-Message: (\S+)", re.MULTILINE)


class Taking:
    """Takes every message, after a while."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """aiosmtpd's name for: the dot has come."""
        await asyncio.sleep(self._delay)
        assert isinstance(envelope.content, bytes)
        found = _NAME.search(envelope.content)
        for recipient in envelope.rcpt_tos:
            print(found[1].decode() if found else "-", recipient, time.time(), flush=True)  # noqa: T201
        return "250 2.0.0 taken"


def _server(delay: float) -> Callable[[], SMTP]:
    return lambda: SMTP(Taking(delay), hostname="crowd.example", timeout=900)


async def main(first: str, count: int, slow: int, seconds: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    for number in range(count):
        address = str(ipaddress.ip_address(first) + number)
        await loop.create_server(_server(seconds if number < slow else 0), address, 25)
    print("listening", flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
