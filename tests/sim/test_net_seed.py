"""One seed is one run of the network."""

from __future__ import annotations

import hashlib
import random

import trio
from trio.testing import MockClock

from mailgate.network import TcpAddress
from mailgate.testing import seeded
from sim.hosts import HostNetwork
from sim.internet import Internet
from sim.net_bench import CLIENT, NOBODY, SERVER, Notes
from sim.records import History, Session
from sim.tcp import Way


class Crowd:
    """Hosts that talk to each other, and whatever breaks between them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._taps: list[Notes] = []
        self._internet = Internet(History(seed, ()), self._chance, self._tap)

    def _tap(self, session: Session) -> Notes:
        self._taps.append(Notes(session))
        return self._taps[-1]

    async def run(self) -> str:
        """A hash of all that has happened."""
        self._internet.link("net")
        for ip in (CLIENT, SERVER, "192.0.2.9"):
            host = self._internet.host(ip, {ip: "net"})
            for program in (_serve, _ask, _ask, _ask):
                host.start(program)
        with trio.move_on_after(200):
            async with trio.open_nursery() as nursery:
                await nursery.start(self._internet.run)
                while True:
                    await trio.sleep(self._chance.uniform(0, 5))
                    self._break()
        return hashlib.sha256(repr([notes.told for notes in self._taps]).encode()).hexdigest()

    def _break(self) -> None:
        chance, now = self._chance, trio.current_time()
        connections = list(self._internet.connections.values())
        match chance.choice(("crash", "reset", "forget", "drop", "lose")):
            case "crash":
                chance.choice(list(self._internet.hosts.values())).crash(now + chance.uniform(0, 9))
            case "reset" if connections:
                chance.choice(connections).reset()
            case "forget" if connections:
                chance.choice(connections).forget()
            case "drop" if connections:
                chance.choice(connections).drop(now + chance.uniform(0, 9), chance.choice((None, *Way)))
            case "lose":
                self._internet.links["net"].drop(now + chance.uniform(0, 2))


async def _serve(network: HostNetwork) -> None:
    async with await network.listen(TcpAddress("0.0.0.0", 25)) as incoming, trio.open_nursery() as nursery:
        while True:
            stream, _, _ = await incoming.accept()
            nursery.start_soon(_echo, stream)


async def _echo(stream: trio.abc.Stream) -> None:
    try:
        async with stream:
            while octets := await stream.receive_some():
                await stream.send_all(octets)
    except trio.BrokenResourceError:
        pass


async def _ask(network: HostNetwork) -> None:
    chance = network.random
    while True:
        try:
            async with await network.connect(TcpAddress(chance.choice((SERVER, CLIENT, NOBODY)), 25)) as stream:
                for _ in range(chance.randrange(9)):
                    await stream.send_all(chance.randbytes(chance.randrange(1, 40_000)))
                    with trio.move_on_after(9):
                        await stream.receive_some()
        except (OSError, trio.BrokenResourceError):
            await trio.sleep(chance.random())


def _run(seed: int) -> str:
    seeded(seed)
    return trio.run(Crowd(seed).run, clock=MockClock(autojump_threshold=0))


def test_one_seed_is_one_run() -> None:
    assert _run(1) == _run(1)
    assert _run(1) != _run(2)
