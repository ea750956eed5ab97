"""A gateway that refuses the first messages with 451 after their dot, and records all. Run in a machine's network:

    python -m lab.identity_sink ASKED

ASKED is a JSON object: "name", "protocol", "port", "refusals", "extensions" and "refused". Recipients
in `refused` get 452 at RCPT. Prints a line once it listens, then a JSON object for each message, and for each client
that broke the protocol.
"""

from __future__ import annotations

import base64
import functools
import json
import sys
import time
from typing import Any

import trio

from lab.commands import Failed
from lab.identity_compare import Attempt
from mailgate.testing import Delay, Delivered, Question, Script, ScriptedMTA, Violation

LISTENING = "listening"

_HESITATION = 1.1
"""seconds before the greeting: no two attempts of a server are in the same second, as they are not when a delivery is
waited for"""


def attempt_of(line: str) -> Attempt:
    """What a line that was printed for a message says.

    Raises:
        Failed: it is about a client that broke the protocol.
    """
    told = json.loads(line)
    if "violation" in told:
        raise Failed(told["violation"])
    return Attempt(
        told["gateway"],
        told["time"],
        told["reverse_path"],
        tuple(told["recipients"]),
        base64.b64decode(told["content"]),
        tuple(told["taken"]),
    )


def _record(gateway: str, message: Delivered) -> None:
    told = {
        "gateway": gateway,
        "time": time.time(),
        "reverse_path": message.reverse_path,
        "recipients": message.recipients,
        "content": base64.b64encode(message.content).decode(),
        "taken": message.taken,
    }
    print(json.dumps(told), flush=True)  # noqa: T201


async def _serve(asked: dict[str, Any]) -> None:
    """Serve until killed."""
    mta = ScriptedMTA(asked["name"], asked["protocol"], on_message=functools.partial(_record, asked["name"]))

    def dot(question: Question) -> str | None:
        # With LMTP this is asked for each recipient, before the message is among those received.
        return "451 4.3.0 not now" if len(mta.messages) < asked["refusals"] else None

    mta.script = Script(
        greeting=Delay(_HESITATION),
        extensions=tuple(asked["extensions"]),
        dot=dot,
        recipients=dict.fromkeys(asked["refused"], "452 4.5.3 one at a time"),
    )

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await mta.handle(stream)
        except Violation as violation:
            print(json.dumps({"violation": str(violation)}), flush=True)  # noqa: T201

    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_tcp, handle, asked["port"], host="0.0.0.0"))
        print(LISTENING, flush=True)  # noqa: T201


if __name__ == "__main__":
    trio.run(_serve, json.loads(sys.argv[1]))
