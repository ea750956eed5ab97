"""The control socket, both ends: a unix socket that gives whoever connects one JSON document, the gateway's status.

Nothing is read from the client, so there is nothing that it could ask for, or break. The document's keys are the
fields of `relay.status.Status`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pydantic
import trio
from structlog.typing import FilteringBoundLogger

from mailgate.network import Incoming, Network, UnixAddress
from mailgate.relay.status import FORMAT, Status

NAME = "control.sock"
"""of the socket in `state_dir`"""

AT_ONCE = 4
"""clients that are answered at a time; the others wait to be accepted"""

PATIENCE = 1.0
"""seconds that a client has to take the document"""

PAUSE = 0.1
"""seconds without accepting once the system has no descriptor left"""

ANSWER_WITHIN = 5.0
"""seconds that a gateway may take to answer us"""

LONGEST = 16_777_216
"""bytes of an answer: many times what a gateway can say"""

_ONLY_OURS = 0o177
"""the umask of a file that only its owner may use: 0600"""

_DOCUMENT = pydantic.TypeAdapter(Status)


class CannotServe(Exception):
    """The control socket cannot be made."""


class CannotAsk(Exception):
    """There is no gateway that answers, or not in words that we understand."""


def address(state_dir: Path) -> UnixAddress:
    """Where the control socket of a gateway with that `state_dir` is."""
    return UnixAddress(str(state_dir / NAME))


def encoded(status: Status) -> bytes:
    """The document: JSON in UTF-8."""
    return _DOCUMENT.dump_json(status) + b"\n"


# The gateway's end


async def listen(network: Network, state_dir: Path) -> Incoming:
    """Make the socket, for this user and root only; the file of a process that has ended is replaced.

    Raises CannotServe.
    """
    where = address(state_dir)
    try:
        with _umask(_ONLY_OURS):  # a chmod would come after those who may not have connected
            return await network.listen(where)
    except OSError as error:
        raise CannotServe(
            f"state_dir: cannot make the control socket {where}: {_reason(error)}; {_remedy(error, state_dir)}"
        ) from None


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _remedy(error: OSError, state_dir: Path) -> str:
    if error.errno == errno.ENOENT:
        return f"make the directory {state_dir}, owned by the user that the gateway runs as, or change `state_dir`"
    if error.errno == errno.EADDRINUSE:
        if _is_socket(address(state_dir).path):
            return "a running gateway has it: stop that one, or give each a `state_dir` of its own"
        return "what is there is no socket: remove it, or change `state_dir`"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"let the user that the gateway runs as write in {state_dir}, or change `state_dir`"
    return "`state_dir` must be a directory that the gateway may write in"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True


async def serve(incoming: Incoming, status: Callable[[], Status], log: FilteringBoundLogger) -> None:
    """Answer whoever connects, with `status` at that moment. Ends by being cancelled.

    What goes wrong here is a log line: it never touches mail.
    """
    try:
        room = trio.Semaphore(AT_ONCE)
        async with trio.open_nursery() as answering:  # end by themselves, within PATIENCE
            while True:
                await room.acquire()
                stream = await _accept(incoming, log)
                answering.start_soon(_answer, stream, status, room, log)
    except* Exception:
        log.exception("control_failed")


async def _accept(incoming: Incoming, log: FilteringBoundLogger) -> trio.abc.Stream:
    failing = False
    while True:
        try:
            stream, _, _ = await incoming.accept()
        except OSError as error:
            if not failing:  # once, not ten times a second for as long as it lasts
                remedy = "raise the limit of open files, or lower limits.sessions"
                log.error("accept_failed", listener="control socket", why=error.strerror, remedy=remedy)
            failing = True
            await trio.sleep(PAUSE)
        else:
            return stream


async def _answer(
    stream: trio.abc.Stream, status: Callable[[], Status], room: trio.Semaphore, log: FilteringBoundLogger
) -> None:
    try:
        with trio.move_on_after(PATIENCE) as patience:
            await stream.send_all(encoded(status()))
        if patience.cancelled_caught:
            log.debug("control_client_cut", seconds=PATIENCE)
    except* trio.BrokenResourceError:
        log.debug("control_client_gone")
    except* Exception:
        log.exception("control_failed")
    finally:
        room.release()
        await trio.aclose_forcefully(stream)


# The other end


async def ask(network: Network, state_dir: Path) -> bytes:
    """The document of a running gateway, not looked at yet. Raises CannotAsk."""
    where = address(state_dir)
    received = b""
    try:
        with trio.fail_after(ANSWER_WITHIN):
            async with await network.connect(where) as stream:
                while len(received) <= LONGEST and (data := await stream.receive_some()):
                    received += data
    except trio.TooSlowError:
        raise CannotAsk(
            f"{where}: no answer within {ANSWER_WITHIN:.0f} s; is the gateway stopped, or very busy? try again"
        ) from None
    except trio.BrokenResourceError:
        pass  # it was cut off, and what came is no document
    except OSError as error:
        raise CannotAsk(f"{where}: {_complaint(error)}") from None
    if not received:
        raise CannotAsk(f"{where}: closed without an answer; is the gateway just ending? try again")
    return received


def _complaint(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return (
            "there is no such socket: no gateway runs with this `state_dir`; start one with `mailgate serve`, or "
            "restart it if its configuration has changed"
        )
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens: the gateway that left it there has ended; start one with `mailgate serve`"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "this user may not ask: do it as root, or as the user that the gateway runs as"
    return f"{_reason(error)}; `state_dir` must be the running gateway's"


def decoded(document: bytes) -> Status:
    """What the document says; keys that a later version has added are left out. Raises CannotAsk."""
    if len(document) > LONGEST:
        raise CannotAsk(f"more than {LONGEST} bytes came: whatever listens there is no mailgate")
    try:
        status = _DOCUMENT.validate_json(document)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise CannotAsk(
            f"the answer is no status that mailgate of this version knows ({what}); is something else listening "
            "there, or another version? use the `mailgate` that runs"
        ) from None
    if status.format != FORMAT:
        raise CannotAsk(
            f"the answer has format {status.format}, and this mailgate knows {FORMAT}; use the one that runs"
        )
    return status
