"""The whole simulator on an engine that dies and is started again: what is stored is what would have been anyway."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from benchmarks.faulty_run import answer
from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.engines.restarting import open_restarting_engine
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.protocols import Engine, Environment
from dreamsim.records.completion import Completion, GenerationRequest
from dreamsim.records.episode import Episode
from dreamsim.runtime.clock import VirtualClock
from dreamsim.simulator import Simulator
from dreamsim.testing import FaultSchedule, FaultyEngine, MemorySink, ScriptedEnvironment, scripted_tasks
from tests.flow.runs import RUN, RememberedTasks, in_virtual_time, record

TOKENIZER = ByteTokenizer()
EPISODES = 24
EPISODE_S = 20.0
START_S = 3 * EPISODE_S
"""An engine takes longer to start than an episode may last."""
WORLDS = ("dreamed", "scripted")


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a run."""

    episodes: dict[str, Episode]
    stored: dict[str, int]
    given: list[str]
    answered: Counter[str]
    """How often each request was answered, by all engines together."""
    asked: Counter[str]
    """How often each was begun."""
    restarts: int
    deaths: int


class Counting:
    """An engine whose requests are counted when they are begun and when they are answered."""

    def __init__(self, engine: Engine, asked: Counter[str], answered: Counter[str]) -> None:
        self._engine, self._asked, self._answered = engine, asked, answered
        self.name, self.version, self.max_model_len = engine.name, engine.version, engine.max_model_len

    async def generate(self, request: GenerationRequest) -> Completion:
        self._asked[request.request_id] += 1
        completion = await self._engine.generate(request)
        self._answered[request.request_id] += 1
        return completion


def play(world: str, *, dying: float, seed: int = 0) -> Played:
    """A run on engines each call of which is the last one with probability `dying`."""
    schedule = FaultSchedule(seed, {"dead": dying})
    asked: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    source, sink = RememberedTasks(scripted_tasks(6, rooms=3), episodes=EPISODES), MemorySink()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Engine]:
        await anyio.sleep(START_S)
        scripted = ScriptedEngine(answer, TOKENIZER, latency=Latency(start_s=0.3))
        yield FaultyEngine(Counting(scripted, asked, answered), schedule)

    async def opening() -> AbstractAsyncContextManager[Engine]:
        return opened()

    async def main() -> int:
        async with open_restarting_engine(opening, restarts=1000, at_once=8) as engine:
            dream = ExperienceModel(engine, TOKENIZER, ExperienceSettings(max_tokens=400))
            environment: Environment = DreamEnvironment(dream) if world == "dreamed" else ScriptedEnvironment()
            simulator = Simulator(
                environment=environment,
                policy=LanguageModelPolicy(engine, TOKENIZER, PolicySettings(window=0, max_tokens=200)),
                tasks=source,
                run=RUN,
                sink=sink,
                concurrency=12,
                max_steps=6,
                episode_seconds=EPISODE_S,
                clock=VirtualClock(),
            )
            async with simulator as running:
                async for _ in running.episodes():
                    pass
            return engine.restarts

    started = in_virtual_time(main)
    return Played(
        episodes=sink.episodes,
        stored=sink.added,
        given=source.given_ids,
        answered=answered,
        asked=asked,
        restarts=started,
        deaths=schedule.struck["dead"],
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("world", WORLDS)
def test_episodes_go_on_at_the_step_they_were_at_and_end_as_if_nothing_had_died(world: str, seed: int) -> None:
    calm, struck = play(world, dying=0.0), play(world, dying=0.04, seed=seed)
    assert struck.restarts == struck.deaths >= 3
    assert sorted(struck.stored) == sorted(struck.given)
    assert set(struck.stored.values()) == {1}
    assert {id: record(one) for id, one in struck.episodes.items()} == {
        id: record(one) for id, one in calm.episodes.items()
    }
    # No step is taken twice: what was answered before a death is not asked for again, only what was in flight is.
    assert struck.answered == calm.answered
    assert struck.asked.total() > calm.asked.total()


def test_an_outage_longer_than_an_episode_may_last_costs_no_episode() -> None:
    struck = play("scripted", dying=0.04)
    assert {one.error_kind for one in struck.episodes.values()} == {None}
    assert max(one.duration_s for one in struck.episodes.values()) > START_S > EPISODE_S
