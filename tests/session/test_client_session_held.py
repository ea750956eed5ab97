"""A session whose dot is held back: it ends the wait for the next hop's sake, or for ours."""

from __future__ import annotations

import pytest
import trio
from sessions import each_capacity
from steps import before, go_to, talk
from trio.testing import MockClock

from mailgate.protocol.reply import reply
from mailgate.session.client import Lost
from mailgate.testing import Side, play


@pytest.mark.parametrize("meanwhile", ["S: 451 4.3.0 no", "S: 250 early", "S! 2\\nS.", "S.", "S~"])
@each_capacity
async def test_a_next_hop_that_stirs_while_its_dot_is_held(
    meanwhile: str, capacity: int, autojump_clock: MockClock
) -> None:
    it = talk(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, f"{before('dot')}S+ 7\n{meanwhile}", side=Side.SERVER))
        await go_to("dot", it.session)
        held = await it.session.hold(lambda: False)
        assert held == reply(451, "4.3.0", "no") if "451" in meanwhile else isinstance(held, Lost)
        assert trio.current_time() == 7
        nursery.cancel_scope.cancel()


async def test_a_dot_is_held_until_it_is_released(autojump_clock: MockClock) -> None:
    it = talk()
    released = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.session.listen)
        nursery.start_soon(lambda: play(it.peer, before("dot"), side=Side.SERVER))
        await go_to("dot", it.session)
        with trio.move_on_after(100) as waiting:
            await it.session.hold(lambda: released)
        assert waiting.cancelled_caught

        async def release() -> None:
            nonlocal released
            await trio.sleep(5)
            released = True
            it.session.wake()

        nursery.start_soon(release)
        assert await it.session.hold(lambda: released) is None
        assert trio.current_time() == 105
        nursery.cancel_scope.cancel()
