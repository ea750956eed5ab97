"""Whether a gateway can know a retry again: by reverse-path, recipient and the octets of the content. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_FIELD = re.compile(rb"(?m)^([!-9;-~]+)[ \t]*:(?:.*\r\n)(?:[ \t].*\r\n)*")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A message as a gateway received it, up to its dot."""

    gateway: str
    time: float
    """seconds since the epoch, of the dot"""
    reverse_path: str
    recipients: tuple[str, ...]
    """that the gateway had accepted at RCPT"""
    content: bytes
    """without dot-stuffing and the dot"""
    taken: tuple[str, ...]
    """the recipients that were answered 2xx after the dot"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What several attempts to send one message have in common."""

    attempts: int
    contents: int
    """different ones among them"""
    reverse_paths: int
    retries: int
    """counted for each recipient: an attempt that another one came before"""
    known: int
    """retries with the reverse-path and the content of the attempt before"""
    changed: tuple[str, ...]
    """what was not as in the attempt before: names of header fields, `body`, `reverse-path`"""


def verdict(attempts: Sequence[Attempt]) -> Verdict:
    """Compare attempts, which are in the order of their time."""
    everybody = sorted({to for one in attempts for to in one.recipients})
    retries = [pair for to in everybody for pair in pairwise(one for one in attempts if to in one.recipients)]
    return Verdict(
        attempts=len(attempts),
        contents=len({one.content for one in attempts}),
        reverse_paths=len({one.reverse_path for one in attempts}),
        retries=len(retries),
        known=sum(_key(before) == _key(retry) for before, retry in retries),
        changed=tuple(dict.fromkeys(what for before, retry in retries for what in _changed(before, retry))),
    )


def _key(attempt: Attempt) -> tuple[str, bytes]:
    return attempt.reverse_path, attempt.content


def _changed(before: Attempt, retry: Attempt) -> Iterator[str]:
    if before.reverse_path != retry.reverse_path:
        yield "reverse-path"
    (header, body), (other_header, other_body) = _parts(before.content), _parts(retry.content)
    if header != other_header:
        fields, others = _fields(header), _fields(other_header)
        names = sorted({name for name, _ in (fields - others) + (others - fields)})
        yield from names or ["order of the header"]
    if body != other_body:
        yield "body"


def _parts(content: bytes) -> tuple[bytes, bytes]:
    header, end, body = content.partition(b"\r\n\r\n")
    return header + end[:2], body


def _fields(header: bytes) -> Counter[tuple[str, bytes]]:
    return Counter((found[1].decode(), found[0]) for found in _FIELD.finditer(header))
