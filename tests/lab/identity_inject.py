"""Hands one message to the mail server on 127.0.0.1:25. Run in a machine's network:

    python identity_inject.py <MESSAGE

MESSAGE is a JSON object: "sender", "recipients", "options" (of MAIL), and "content", each octet as a character.
"""

from __future__ import annotations

import json
import smtplib
import sys
from typing import Any


def main(message: dict[str, Any]) -> None:
    """Send it; smtplib's exceptions tell of refusals."""
    with smtplib.SMTP("127.0.0.1", 25, local_hostname="localhost", timeout=60) as server:
        content = message["content"].encode("latin-1")
        server.sendmail(message["sender"], message["recipients"], content, message["options"])


if __name__ == "__main__":
    main(json.load(sys.stdin))
