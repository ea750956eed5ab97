"""The store on a server that speaks the Redis protocol: Valkey, or Redis 6 and later, by the coredis client.

Marks are keys `mailgate:MARK`, each with a time to live: nothing stays for ever, and a mark is some 150 bytes of the
server's memory. Its `maxmemory-policy` should be `noeviction`, which is its default: a mark that it refuses is noticed
and counted, one that it drops to make room is a second copy that nobody hears of. It is one server, no cluster, and
needs no persistence; its `timeout` is 0, the default, or longer than HEARTBEAT. A user of its own may be limited to
`~mailgate:* +ping +set +del` (and `+select`, if the URL names a database). A host's name is asked of the system's
resolver whenever a connection is opened.

All calls go over one connection, each written at once and answered in order. coredis's own client is not used: of a
call that is cancelled while it connects it makes an error that ends the client, and it takes a place in its pool away
from the next ones with each that is cancelled while it waits.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import trio

from mailgate.store import StoreLost, StoreUnreachable

if TYPE_CHECKING:
    from coredis.connection import BaseConnection
    from coredis.pool import ConnectionPool
    from coredis.typing import RedisValueT, ResponseType

PREFIX = "mailgate:"
"""of all our keys: other programs may use the same server"""

OPENING = 2.0
"""seconds until a connection must be open, password and all"""

HEARTBEAT = 5.0
"""seconds between two questions whether the server is there: a dead connection is found before a call needs it"""

MUTE = 2.0
"""seconds that the answer may take: a caller of ours waits for 1, and answers come in order"""

FIRST_PAUSE = 0.1
"""seconds until a lost connection is opened anew"""

LAST_PAUSE = 5.0
"""seconds between two attempts, once it has doubled so far"""

_LONGEST_REASON = 200
"""characters: a server may answer anything"""

_NOT_YET = "it has not been connected to yet"
_LOST = "the connection to it is lost"

_MEANING = {
    # Servers that do not know HELLO repeat what they were sent, the password and all, cut off somewhere.
    "UnknownCommandError": "it does not know a command of Redis 6",
    "AuthenticationRequiredError": "it wants a password",
    "AuthenticationFailureError": "it refuses the user or the password",
    "AssertionError": "it does not answer as a Redis server does",
}
"""names of errors that coredis raises, and what they mean for us"""


class StoreMissing(Exception):
    """The package for it is not installed."""

    def __init__(self) -> None:
        super().__init__('a shared ledger needs the package coredis: pip install "mailgate[ledger]"')


class RedisStore:
    """A Store; its owner keeps `run` running. A call while there is no connection raises StoreUnreachable at once.

    After any failure the connection is opened anew, as behind the address there may be another server by then; calls
    that wait on it raise StoreLost. A call that was cancelled leaves it open, and its late answer is skipped.
    """

    def __init__(self, url: str) -> None:
        """`redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss:` over TLS with a certificate that is checked
        against the host, or `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]`, with %XX in the user and the password.

        Raises StoreMissing, and ValueError, which does not show the URL.
        """
        self._server = _server(url)
        self._connection: BaseConnection | None = None
        self._why = _NOT_YET

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay connected, whatever happens to the server. Started after a first attempt; ends by being cancelled."""
        async with trio.open_nursery() as nursery:
            tried = trio.Event()
            nursery.start_soon(self._stay_connected, tried)
            await tried.wait()
            task_status.started()

    async def _stay_connected(self, tried: trio.Event) -> None:
        pause = FIRST_PAUSE
        while True:
            opened = await self._hold_connection(tried)
            tried.set()
            if opened:
                pause = FIRST_PAUSE
            await trio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _hold_connection(self, opened: trio.Event) -> bool:
        """Open a connection and keep it as long as it is good. Whether it was ever open."""
        server = self._server
        connection = server.connection_class(server.location, **server.connection_kwargs)
        opening, was_open = trio.CancelScope(), False
        try:
            async with trio.open_nursery() as beating:
                async with trio.open_nursery() as holding:  # ends with the connection
                    with trio.fail_after(OPENING) as opening:
                        await holding.start(connection.run)
                    self._connection, self._why, was_open = connection, _LOST, True
                    opened.set()
                    beating.start_soon(self._beat, connection)
                beating.cancel_scope.cancel()
        except* Exception as errors:  # coredis's errors end here: it is the store that fails, and not the gateway
            # A connection that is cancelled before it is open raises an error in place of Cancelled.
            self._why = f"no answer in {OPENING:g} s" if opening.cancel_called else self._reason(errors)
        finally:
            self._connection = None
            _close_buffers(connection)
        return was_open

    async def _beat(self, connection: BaseConnection) -> None:
        """Give a connection up once the server is mute."""
        while connection.usable:
            with trio.move_on_after(MUTE) as patience:
                await connection.create_request(b"PING", raise_exceptions=False)
            if patience.cancelled_caught:
                self._give_up(connection, f"no answer in {MUTE:g} s")
            await trio.sleep(HEARTBEAT)

    def _give_up(self, connection: BaseConnection, why: str) -> None:
        self._why = why
        connection.invalidate(why)

    async def add(self, marks: Sequence[str], seconds: float) -> None:
        """As Store.add, in one round trip. The time is rounded up to a whole second."""
        life = max(1, math.ceil(seconds))
        await self._ask(b"SET", [(PREFIX + mark, 1, b"EX", life) for mark in marks])

    async def take(self, marks: Sequence[str]) -> tuple[bool, ...]:
        """As Store.take, in one round trip."""
        removed = await self._ask(b"DEL", [(PREFIX + mark,) for mark in marks])
        return tuple(number == 1 for number in removed)

    async def _ask(self, command: bytes, calls: Sequence[tuple[RedisValueT, ...]]) -> list[ResponseType]:
        connection = self._connection
        if connection is None or not connection.usable:
            raise StoreUnreachable(self._why)
        from coredis.exceptions import ResponseError

        try:
            requests = [connection.create_request(command, *arguments) for arguments in calls]
            return [await request for request in requests]
        except Exception as error:  # as above
            if connection.usable:
                self._give_up(connection, self._reason(error))
            # Of several calls one may be refused and another be done.
            refused = isinstance(error, ResponseError) and len(calls) == 1
            raise (StoreUnreachable if refused else StoreLost)(self._why) from error

    def _reason(self, error: BaseException) -> str:
        """In words that may be logged, and without the password, which a server may repeat."""
        why, password = _meaning(error), self._server.connection_kwargs.get("password")
        return (why.replace(password, "...") if password else why)[:_LONGEST_REASON]


def _server(url: str) -> ConnectionPool[Any]:
    """Where the URL leads, and how. It is used for that only, never opened."""
    try:
        from coredis.pool import ConnectionPool  # a quarter of a second: only those wait for it who need it
    except ModuleNotFoundError:
        raise StoreMissing from None
    # coredis would take the certificate of any host.
    tls = ssl.create_default_context() if url.startswith("rediss:") else None
    try:
        server = ConnectionPool.from_url(url, decode_components=True, ssl_context=tls)
    except ValueError:  # its words repeat parts of the URL
        server = None
    if server is None or server.location is None:
        raise ValueError("the URL of the shared ledger is not good")
    return server


def _close_buffers(connection: BaseConnection) -> None:
    """A connection that was never open leaves them to the garbage collector, and anyio complains about each."""
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    for part in vars(connection).values():
        if isinstance(part, MemoryObjectReceiveStream | MemoryObjectSendStream):
            part.close()


def _meaning(error: BaseException) -> str:
    """What went wrong; the deepest cause that says something says it best."""
    causes = list(_causes(error))
    for cause in reversed(causes):
        meaning = _MEANING.get(type(cause).__name__)
        if meaning is not None:
            return meaning
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError | socket.gaierror):
            return os.strerror(cause.errno)
        if str(cause):
            return str(cause)
    return type(causes[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        else:
            yield cause
            cause = cause.__cause__
