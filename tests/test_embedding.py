"""The examples of docs/embedding.md are run as they stand there."""

from __future__ import annotations

import functools
import re
import smtplib
import subprocess
import sys
from pathlib import Path

import trio

from mailgate.testing import ScriptedMTA

PAGE = Path(__file__).parent.parent / "docs" / "embedding.md"
REAL, IN_MEMORY = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_example_in_memory(tmp_path: Path) -> None:
    program = tmp_path / "in_memory.py"
    program.write_text(IN_MEMORY)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Received: from there \(\[198\.51\.100\.7\]\)\n\tby gw1\.example\.org with SMTP id", done.stdout)
    assert done.stdout.endswith("Subject: hello\n\nHello!\n\n")


async def test_example_on_sockets() -> None:
    namespace: dict[str, object] = {"__name__": "example"}
    exec(REAL.replace("2526", str(await _port())), namespace)
    inside = ScriptedMTA("inside")
    hosts = namespace["inside"].hosts  # type: ignore[attr-defined]
    port = await _port()
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_tcp, inside.handle, hosts[0].port, host="127.0.0.1"))
        nursery.start_soon(namespace["main"], port)  # type: ignore[arg-type]
        await trio.to_thread.run_sync(_send, port)
        nursery.cancel_scope.cancel()
    assert [message.recipients for message in inside.messages] == [("bob@example.org",)]


async def _port() -> int:
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _send(port: int) -> None:
    for _ in range(100):
        try:
            client = smtplib.SMTP("127.0.0.1", port, timeout=5)
            break
        except ConnectionRefusedError:
            trio.from_thread.run(trio.sleep, 0.02)
    with client:
        client.sendmail("ann@example.net", ["bob@example.org"], "Subject: hello\r\n\r\nHello!\r\n")
