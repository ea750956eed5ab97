"""Backbones over real sockets: the system's own bind(), refusals and black holes, on addresses of the loopback."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import MESSAGE, Gateway, NextHops, Route, configuration, eventually, route

from mailgate.testing import ScriptedMTA

A, B = "127.0.1.1", "127.0.2.1"
NOT_OURS = "203.0.113.77"


def backbones(**sources: str) -> str:
    """A [[backbone]] table for each, and the end of a route that uses them in this order."""
    return "".join(
        f'[[backbone]]\nname = "{name}"\nsource = ["{source}"]\nhelo = "{name}.gw.example"\n'
        for name, source in sources.items()
    )


class Over(Route):
    """A route over backbones."""

    def __str__(self) -> str:
        return super().__str__() + 'backbones = ["isp-a", "isp-b"]\n'


def over_both(name: str, *hosts: str) -> Route:
    """A route to hosts in order of preference, over isp-a and isp-b."""
    return Over(name, hosts, "smtp")


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address that swallows connection attempts: it listens, and its backlog is full."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"


def send(gateway: Gateway) -> float:
    """One message; the seconds that it took."""
    began = time.monotonic()
    with smtplib.SMTP(*gateway.smtp, timeout=20) as client:
        client.sendmail("s@in.example", "u@a.example", MESSAGE)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("sources", "via", "down"),
    [
        ({"isp-a": A, "isp-b": B}, "isp-a", []),
        ({"isp-a": NOT_OURS, "isp-b": B}, "isp-b", ["isp-a"]),
    ],
    ids=["the first one", "the other one if the source address is gone"],
)
def test_a_backbone_has_its_source_and_its_helo(
    tmp_path: Path, sources: dict[str, str], via: str, down: list[str]
) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops:
        host = hops.tcp(mta)
        config = configuration(tmp_path, over_both("a", host), extra=backbones(**sources))
        with Gateway(config, tmp_path) as gateway:
            send(gateway)
            (done,) = gateway.wait_for(event="delivered")
            assert [line["path"].partition("/")[0] for line in gateway.lines(event="path_down")] == down
    assert f"({via}/{host})" in done["outcomes"][0]
    assert [line.text for line in mta.sessions[0].lines if line.text.startswith("EHLO")] == [f"EHLO {via}.gw.example"]
    assert hops.peers == [sources[via]]


def test_a_black_hole_is_waited_for_once(tmp_path: Path) -> None:
    mta = ScriptedMTA("a")
    with NextHops() as hops, black_hole() as nowhere:
        config = configuration(tmp_path, route("a", nowhere, hops.tcp(mta)), extra="[timeouts]\nconnect = 1\n")
        with Gateway(config, tmp_path) as gateway:
            first, second = send(gateway), send(gateway)
    assert len(mta.messages) == 2
    assert 1 <= first < 2
    assert second < 0.5


def test_a_host_that_is_up_again_is_found(tmp_path: Path) -> None:
    preferred, other = ScriptedMTA("preferred"), ScriptedMTA("other")
    with socket.socket() as reserved, NextHops() as hops:
        reserved.bind(("127.0.0.1", 0))  # nobody listens
        port = reserved.getsockname()[1]
        config = configuration(tmp_path, route("a", f"127.0.0.1:{port}", hops.tcp(other)))
        with Gateway(config, tmp_path) as gateway:
            send(gateway)
            assert len(other.messages) == 1
            reserved.close()
            hops.tcp(preferred, port=port)
            gateway.wait_for(event="path_up")
            send(gateway)
            eventually(lambda: len(preferred.messages) == 1, "the message at the preferred host")
