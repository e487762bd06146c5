"""Who gets a place at an engine, and when."""

from __future__ import annotations

import anyio
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines import places as module
from dreamsim.engines.places import Places


async def test_who_asked_first_ever_goes_first() -> None:
    places, served = Places(1), []

    async def ask(who: str) -> None:
        await places.take(places.ticket(who))
        served.append(who)
        places.give()

    first = places.ticket("old")
    assert places.take_nowait()
    async with anyio.create_task_group() as group:
        for who in ("young", "younger"):
            group.start_soon(ask, who)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, "old")
        await anyio.wait_all_tasks_blocked()
        assert places.waiting == 3
        places.give()
    assert served == ["old", "young", "younger"]
    assert places.ticket("old") == first


async def test_who_leaves_the_queue_takes_no_place() -> None:
    places = Places(1)
    assert places.take_nowait()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await places.take(places.ticket("a"))
    assert places.waiting == 0
    places.give()
    assert places.take_nowait()


async def test_a_place_that_comes_as_somebody_leaves_is_not_lost() -> None:
    places = Places(1)
    assert places.take_nowait()

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            await places.take(places.ticket("a"))
            places.give()

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, scope)
        await anyio.wait_all_tasks_blocked()
        places.give()
        scope.cancel()
    assert [places.take_nowait(), places.take_nowait()] == [True, False]


async def test_only_the_last_ones_are_remembered() -> None:
    places = Places(1)
    for number in range(module.KEPT + 1):
        places.ticket(f"e{number}")
    assert len(places._tickets) == module.KEPT
    assert places.ticket("e2") == 2
    assert places.ticket("e0") > module.KEPT


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_no_more_than_there_are_at_once_and_everybody_who_stays_gets_one(
    count: int, asked: list[tuple[int, bool]]
) -> None:
    async def main() -> None:
        places = Places(count)
        inside = most = served = 0

        async def ask(who: int, leaves: bool) -> None:
            nonlocal inside, most, served
            with anyio.CancelScope() as scope:
                if leaves:
                    scope.cancel()
                await places.take(places.ticket(str(who)))
                inside += 1
                most = max(most, inside)
                try:
                    await anyio.lowlevel.checkpoint()
                    served += 1
                finally:
                    inside -= 1
                    places.give()

        async with anyio.create_task_group() as group:
            for who, leaves in asked:
                group.start_soon(ask, who, leaves)
        assert most <= count
        assert served == sum(not leaves for _, leaves in asked)
        assert places.waiting == 0
        assert sum(places.take_nowait() for _ in range(count + 1)) == count

    anyio.run(main)
