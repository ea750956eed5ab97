"""The system's files that say where names are: read anew when they change."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Generic, TypeVar

import dns.asyncresolver
import dns.exception

_T = TypeVar("_T")


class Watched(Generic[_T]):
    """What a small file says, read anew when the file has changed."""

    def __init__(self, path: str, read: Callable[[str], _T], missing: _T) -> None:
        self._path = path
        self._read = read
        self._missing = missing
        self._seen: tuple[int, int, int] | None = None
        self._value = missing

    def get(self) -> _T:
        """Blocks for a stat (2 µs), and for reading a small local file when it has changed."""
        try:
            status = os.stat(self._path)
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                self._value = self._read(self._path)
                self._seen = seen
        except OSError:
            self._seen, self._value = None, self._missing
        return self._value


def read_hosts(path: str) -> dict[str, tuple[str, ...]]:
    """A file as hosts(5) describes; lines that do not fit are skipped, as the C library does."""
    addresses: dict[str, tuple[str, ...]] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            ip, *names = line.partition("#")[0].split() or [""]
            try:
                ipaddress.ip_address(ip)
            except ValueError:
                continue
            for written in names:
                name = written.lower().removesuffix(".")
                if ip not in addresses.get(name, ()):
                    addresses[name] = (*addresses.get(name, ()), ip)
    return addresses


def read_resolv_conf(path: str) -> dns.asyncresolver.Resolver | None:
    """A file as resolv.conf(5) describes; None: there is no name server in it."""
    resolver = dns.asyncresolver.Resolver(configure=False)
    try:
        resolver.read_resolv_conf(path)
    except dns.exception.DNSException:
        return None
    return resolver
