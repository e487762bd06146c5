"""Rollouts, pacing, batches, trainer and delivery in one loop, in virtual time: what a lag buys and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.flow.batches import BatchBuilder, BatchSettings, make_batches
from dreamsim.flow.delivery import deliver
from dreamsim.flow.groups import ClosedGroup, GroupAssembler, GroupSettings, assemble_groups
from dreamsim.flow.learning import Learned, LearningSettings, learn
from dreamsim.flow.source import GroupedTasks
from dreamsim.flow.staleness import Pace, PacedTasks, PaceSettings, PaceStatistics
from dreamsim.records.batch import Batch
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Episode, episode_id
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.weights import WeightsUpdate
from dreamsim.runtime.clock import VirtualClock
from dreamsim.runtime.pipes import Pipe
from dreamsim.simulator import Simulator
from dreamsim.testing import ScriptedEnvironment, scripted_tasks
from tests.flow.runs import in_virtual_time
from tests.flow.test_learning import CountingTrainer

STEPS, GROUPS, SIZE = 6, 2, 2
PLAY_S, LEARN_S, LOAD_S = 3.0, 3.0, 0.5


class WatchingTrainer(CountingTrainer):
    """Notes how old every batch is."""

    def __init__(self) -> None:
        super().__init__()
        self.staleness: list[int] = []

    def step(self, batch: Batch) -> UpdateMetrics:
        self.staleness.append(self.version - batch.oldest_version)
        assert batch.number == self.version, "a batch is learned from by the version that its number says"
        return super().step(batch)


@dataclass(kw_only=True)
class Loop:
    """A whole training."""

    settings: PaceSettings
    weights: Path
    slow: Callable[[GenerationRequest], bool] = lambda request: False
    trainer: WatchingTrainer = field(default_factory=WatchingTrainer)
    builder: BatchBuilder = field(default_factory=lambda: BatchBuilder(BatchSettings(groups=GROUPS)))

    async def run(self) -> PaceStatistics:
        now = anyio.current_time
        episodes: Pipe[Episode] = Pipe("episodes", 1, now=now)
        groups: Pipe[ClosedGroup] = Pipe("groups", 1, now=now)
        batches: Pipe[Batch] = Pipe("batches", 1, now=now)
        updates: Pipe[WeightsUpdate] = Pipe("updates", 1, now=now)
        pace = Pace(self.settings)
        engine = _Slowed(self.slow)
        stations = LearningSettings(weights=self.weights / "w", checkpoint=self.weights / "c")
        assembler = GroupAssembler(GroupSettings(size=SIZE))

        def report(step: Learned) -> None:
            pace.learned(step)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(assemble_groups, episodes.receiver, groups.sender, assembler)
            tasks.start_soon(partial(make_batches, pace=pace), groups.receiver, batches.sender, self.builder)
            tasks.start_soon(partial(learn, report=report), self.trainer, batches.receiver, updates.sender, stations)
            tasks.start_soon(partial(deliver, pace=pace), updates.receiver, [engine])
            await self._play(engine, pace, episodes)
        return pace.statistics()

    async def _play(self, engine: ScriptedEngine, pace: Pace, episodes: Pipe[Episode]) -> None:
        settings = PolicySettings(window=None, begin_action=True, max_tokens=16)
        simulator = Simulator(
            environment=ScriptedEnvironment(),
            policy=LanguageModelPolicy(engine, ByteTokenizer(), settings),
            tasks=PacedTasks(GroupedTasks(scripted_tasks(5), size=SIZE, groups=1000), pace, group_size=SIZE),
            run="lags",
            max_steps=3,
            clock=VirtualClock(),
        )
        with episodes.sender:
            async with simulator:
                async for episode in simulator.episodes():
                    await episodes.sender.send(episode)


class _Slowed(ScriptedEngine):
    """Answers in a second, and chosen requests in ten."""

    def __init__(self, slow: Callable[[GenerationRequest], bool]) -> None:
        latency = Latency(start_s=PLAY_S / 3)
        super().__init__(lambda request: "wait\n", ByteTokenizer(), latency=latency, load_s=LOAD_S)
        self._slow = slow

    async def generate(self, request: GenerationRequest) -> Any:
        if self._slow(request):
            await anyio.sleep(10.0)
        return await super().generate(request)


@pytest.fixture(autouse=True)
def threads_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what stations do in threads at once; a trainer's step takes its time on the virtual clock."""

    async def run_sync(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if getattr(function, "__name__", "") == "learned_from":
            await anyio.sleep(LEARN_S)
        return function(*args)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)


def settings(lag: int) -> PaceSettings:
    return PaceSettings(max_lag=lag, batch_groups=GROUPS, steps=STEPS)


@pytest.mark.may_block
def test_lag_0_is_on_policy_and_everybody_takes_turns(tmp_path: Path) -> None:
    loop = Loop(settings=settings(0), weights=tmp_path)
    told = in_virtual_time(loop.run)
    assert loop.trainer.staleness == [0] * STEPS
    turn = PLAY_S + LEARN_S + LOAD_S
    assert told.elapsed_s == pytest.approx(STEPS * turn)
    assert told.trainer_waited_s == pytest.approx(STEPS * PLAY_S + (STEPS - 1) * LOAD_S)
    assert told.engine_waited_s == pytest.approx((STEPS - 1) * LEARN_S + STEPS * LOAD_S)  # nobody waits for the last


@pytest.mark.may_block
def test_lag_1_is_faster_and_one_version_behind(tmp_path: Path) -> None:
    loop = Loop(settings=settings(1), weights=tmp_path)
    told = in_virtual_time(loop.run)
    assert loop.trainer.staleness[0] == 0
    assert max(loop.trainer.staleness) == 1
    assert told.elapsed_s < 0.7 * STEPS * (PLAY_S + LEARN_S + LOAD_S)
    assert told.trainer_wait_share < 0.25


@pytest.mark.may_block
@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_nothing_staler_than_the_lag_is_learned_from_and_no_more_is_played_than_needed(
    tmp_path: Path, lag: int
) -> None:
    loop = Loop(settings=settings(lag), weights=tmp_path)
    told = in_virtual_time(loop.run)
    assert max(loop.trainer.staleness) <= lag
    assert loop.trainer.version == STEPS
    assert told.admitted == STEPS * GROUPS + told.too_stale
    assert told.starved == 0


@pytest.mark.may_block
def test_what_comes_too_late_is_left_out_and_replaced(tmp_path: Path) -> None:
    late = episode_id("lags", scripted_tasks(5)[0].key, 0)

    def slow(request: GenerationRequest) -> bool:
        return request.request_id == f"{late}-a0-0"

    loop = Loop(settings=settings(1), weights=tmp_path, slow=slow)
    told = in_virtual_time(loop.run)
    assert told.too_stale == loop.builder.left_out["groups too stale"] > 0
    assert max(loop.trainer.staleness) <= 1
    assert loop.trainer.version == STEPS
