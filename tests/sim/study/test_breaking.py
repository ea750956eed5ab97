"""A gateway's program that is stopped for a while."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mailgate.network import Network, TcpAddress
from mailgate.testing import MemoryNetwork
from sim.study.breaking import Switch

ADDRESS = TcpAddress("10.0.0.1", 25)


class Program:
    """Listens."""

    starts = 0

    async def program(self, network: Network) -> None:
        self.starts += 1
        async with await network.listen(ADDRESS):
            await trio.sleep_forever()


async def test_a_stopped_program_refuses_until_it_is_started_again(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network, program = MemoryNetwork(nursery), Program()
        switch = Switch(program)
        nursery.start_soon(switch.run, network)
        await wait_all_tasks_blocked()
        await (await network.connect(ADDRESS)).aclose()
        switch.stop(100)
        await trio.sleep_until(99)
        with pytest.raises(ConnectionRefusedError):
            await network.connect(ADDRESS)
        await trio.sleep_until(101)
        await (await network.connect(ADDRESS)).aclose()
        assert program.starts == 2
        nursery.cancel_scope.cancel()


async def test_a_host_that_comes_back_in_that_time_waits(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network, program = MemoryNetwork(nursery), Program()
        switch = Switch(program)
        switch.stop(100)
        nursery.start_soon(switch.run, network)
        await trio.sleep_until(99)
        assert program.starts == 0
        await trio.sleep_until(101)
        assert program.starts == 1
        nursery.cancel_scope.cancel()
