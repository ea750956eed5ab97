"""The server of the ledger that gateways share: Redis as Debian has it, on a machine beside the inside servers."""

from __future__ import annotations

from lab.node import Node
from lab.roots import Root

ROOT = Root("redis", ("redis-server",))

MACHINE = "ledger"

_START = """
redis-server --bind 0.0.0.0 --protected-mode no --save '' --daemonize yes >/dev/null
for tenth in $(seq 100); do
  if redis-cli ping >/dev/null 2>&1; then exit 0; fi
  sleep 0.1
done
echo 'Redis does not answer' >&2
exit 1
"""


async def start(node: Node) -> None:
    """Start it; it answers when this comes back."""
    await node.run(_START)


async def stop(node: Node) -> None:
    """End it as a crash would."""
    await node.run("kill -KILL $(pidof redis-server)")
