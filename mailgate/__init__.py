"""A mail gateway that never takes a message it cannot hand on.

What is named here is for embedding (docs/embedding.md); `mailgate.testing` has scripted mail servers and networks.
"""

from mailgate.gateway import Gateway
from mailgate.network import HostName, Network, RealNetwork, TcpAddress, UnixAddress
from mailgate.protocol.framing import BareNewline
from mailgate.protocol.reply import Role
from mailgate.relay.settings import Limits, Listener, Route, Settings, SeveralNextHops, Timeouts
from mailgate.store import Store, StoreLost, StoreUnreachable

__all__ = [
    "BareNewline",
    "Gateway",
    "HostName",
    "Limits",
    "Listener",
    "Network",
    "RealNetwork",
    "Role",
    "Route",
    "Settings",
    "SeveralNextHops",
    "Store",
    "StoreLost",
    "StoreUnreachable",
    "TcpAddress",
    "Timeouts",
    "UnixAddress",
]
