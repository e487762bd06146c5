from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dreamsim.errors import ConfigurationError, EnvironmentFailure
from dreamsim_adapters.environments.textworld_express.games import GameSpec
from dreamsim_adapters.environments.textworld_express.pool import Shown, WorkerPool
from dreamsim_adapters.environments.workers.pool import TRIES

TWC = GameSpec(game="twc")
SORTING = GameSpec(game="sorting")


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _families(pool: WorkerPool) -> set[int]:
    """Process ids of the workers and of their Java machines."""
    found = set(pool.pids)
    for pid in pool.pids:
        found |= _children(pid)
    return found


def _alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie does not."""
    states = {}
    for pid in pids:
        try:
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {pid for pid, state in states.items() if state != "Z"}


async def _started(pool: WorkerPool) -> set[int]:
    await pool.vocabulary()
    return _families(pool)


async def test_a_game_goes_on_when_its_worker_is_killed() -> None:
    async with WorkerPool(workers=1) as pool:
        path = await pool.gold_path(TWC, fold="train", seed=3)
        async with pool.game(TWC, fold="train", seed=3) as game:
            await game.step(path[0])
            os.kill(pool.pids[0], signal.SIGKILL)
            shown = [await game.step(action) for action in path[1:]]
        assert shown[-1].success
        assert pool.lost == 1


async def test_a_game_goes_on_when_its_worker_hangs() -> None:
    async with WorkerPool(workers=1) as pool:
        path = await pool.gold_path(TWC, fold="train", seed=3)
        async with pool.game(TWC, fold="train", seed=3) as game:
            hung = pool.pids[0]
            os.kill(hung, signal.SIGSTOP)
            # Only of this worker: the next one may be slow on a busy machine.
            pool._ready[0]._silence_s = 0.2
            shown = [await game.step(action) for action in path]
        assert shown[-1].success
        assert pool.lost == 1
        assert not _alive({hung})


async def test_a_killed_worker_takes_its_java_machine_along() -> None:
    async with WorkerPool(workers=1) as pool:
        family = await _started(pool)
        os.kill(pool.pids[0], signal.SIGKILL)
        async with pool.game(TWC, fold="train", seed=1):
            assert not _alive(family)


async def test_what_takes_down_worker_after_worker_is_given_up() -> None:
    async with (
        WorkerPool(workers=1, restarts=9) as pool,
        pool.game(TWC, fold="train", seed=1) as game,
        anyio.create_task_group() as group,
    ):

        async def kill_every_worker() -> None:
            killed: set[int] = set()
            while True:
                for pid in set(pool.pids) - killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                await anyio.lowlevel.checkpoint()

        group.start_soon(kill_every_worker)
        with pytest.raises(EnvironmentFailure, match=f"lost {TRIES} workers in turn"):
            await game.step("look around")
        group.cancel_scope.cancel()


async def test_restarts_are_bounded() -> None:
    async with WorkerPool(workers=1, restarts=0) as pool:
        async with pool.game(TWC, fold="train", seed=1) as game:
            os.kill(pool.pids[0], signal.SIGKILL)
            with pytest.raises(EnvironmentFailure, match=r"every worker was lost 1 times.*code -9"):
                await game.step("look around")
        with pytest.raises(EnvironmentFailure, match="every worker was lost"):
            await pool.gold_path(TWC, fold="train", seed=1)


async def test_leaving_the_pool_leaves_no_process() -> None:
    async with WorkerPool() as pool:
        family = await _started(pool)
    assert len(family) >= 2
    assert not _alive(family)


async def test_a_cancelled_pool_leaves_no_process() -> None:
    family: set[int] = set()
    with anyio.CancelScope() as scope:
        async with WorkerPool(workers=1) as pool, pool.game(TWC, fold="train", seed=1):
            family = _families(pool)
            scope.cancel()
            await anyio.sleep_forever()
    assert family
    assert not _alive(family)


async def test_a_pool_left_while_it_starts_leaves_no_process() -> None:
    before = _children(os.getpid())
    with anyio.move_on_after(0.05):
        async with WorkerPool(workers=1) as pool:
            await pool.vocabulary()
    assert not _alive(_children(os.getpid()) - before)


async def test_an_error_inside_the_pool_comes_out_as_it_is() -> None:
    with pytest.raises(ValueError, match="my own"):
        async with WorkerPool(workers=1):
            raise ValueError("my own")


async def test_games_in_one_worker_do_not_disturb_each_other() -> None:
    async with WorkerPool(workers=1) as pool:
        for spec in (SORTING, TWC):
            path = await pool.gold_path(spec, fold="train", seed=7)
            async with pool.game(spec, fold="train", seed=7) as one, pool.game(spec, fold="train", seed=7) as two:
                both: list[tuple[Shown, Shown]] = []
                for action in path:
                    both.append((await one.step(action), await two.step(action)))
                    await pool.gold_path(spec, fold="train", seed=7)
            assert all(left == right for left, right in both)
            assert both[-1][0].success


async def test_a_game_that_fails_leaves_its_worker_alive() -> None:
    async with WorkerPool(workers=1) as pool:
        with pytest.raises(EnvironmentFailure, match="the game failed at 'open'"):
            async with pool.game(TWC, fold="train", seed=2**70):
                pass
        async with pool.game(TWC, fold="train", seed=1):
            pass
        assert pool.lost == 0


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"games_per_worker": 0}, {"silence_s": 0.0}, {"restarts": -1}])
def test_values_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        WorkerPool(**wrong)
