"""One run of the whole simulator with faults in every part of it.

In: an `Attack`. Out: what is stored of every task that was given, and how the run ended.
Always: nothing but the models is made up: policy, experience model, retrieval, rollout, collector and, where a path is
given, the SQLite store with its index are those of every run; only the engine answers from a script.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.engines.restarting import RestartingEngine, open_restarting_engine
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.format import answer_segment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.flow.failures import FailurePolicy
from dreamsim.flow.source import in_turn
from dreamsim.protocols import Assignment, Engine, Environment, EpisodeSink
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import episode_id
from dreamsim.runtime.clock import Clock
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.store.store import open_store
from dreamsim.testing import (
    Fault,
    FaultSchedule,
    FaultyEngine,
    FaultyEnvironment,
    FaultyStore,
    JumpingClock,
    MemorySink,
    ScriptedEnvironment,
    faulty_connection,
    scripted_tasks,
)

TOKENIZER = ByteTokenizer()
RUN = "attacked"
RETRY = FailurePolicy(on_failure="retry", retries=2, backoff_s=0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What a run is exposed to."""

    seed: int
    """Of the faults and of the run."""
    rates: Mapping[Fault, float]
    """Probability per call of a part, by kind."""
    world: Literal["dreamed", "scripted"] = "dreamed"
    """Whether an experience model dreams, or the scripted text world answers."""
    tasks: int = 40
    """Tasks, each played once."""
    concurrency: int = 16
    """Most at once."""
    failures: FailurePolicy = RETRY
    """What is done about failed episodes."""
    episode_s: float = 20.0
    """An episode's own time: what a hang costs."""
    slow_s: float = 0.02
    """How late a slow answer is."""
    start_s: float = 0.0
    """How long an engine takes to start."""
    within_s: float = 300.0
    """A run that is not over by then hangs."""


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    given: list[str] = field(default_factory=list)
    """Ids of the episodes that were to be."""
    stored: Counter[str] = field(default_factory=Counter)
    """How often each id is stored."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Stored episodes by error kind, `none` for those without."""
    broken: int = 0
    """Stored episodes that have other steps than they say."""
    struck: Counter[Fault] = field(default_factory=Counter)
    """Faults that happened, by kind."""
    restarts: int = 0
    """Times that the engine was started again."""
    hung: bool = False
    """Whether it was not over in time."""
    error: str | None = None
    """What ended the run early."""

    @property
    def accounted(self) -> int:
        """Tasks that ended in exactly one whole episode."""
        return sum(self.stored[id] == 1 for id in self.given) - self.broken


async def attacked(attack: Attack, path: Path | None, clock: Clock | None = None) -> Outcome:
    """Run `attack`; stored in the file `path`, or in memory, where time may be virtual.

    Args:
        attack: what happens.
        path: the store's file.
        clock: tells the time when nothing makes it jump.
    """
    schedule = FaultSchedule(attack.seed, attack.rates, slow_s=attack.slow_s)
    outcome = Outcome(struck=schedule.struck)
    sink = MemorySink()
    try:
        with anyio.fail_after(attack.within_s):
            await _played(attack, schedule, outcome, sink, path, JumpingClock(clock))
    except TimeoutError:
        outcome.hung = True
    except Exception as error:  # noqa: BLE001 - it is what is measured
        outcome.error = f"{type(error).__name__}: {error}"
    if path is None:
        outcome.stored = sink.added
        outcome.kinds = Counter(one.error_kind or "none" for one in sink.episodes.values())
    else:
        await anyio.to_thread.run_sync(_read, path, outcome)
    return outcome


async def _played(
    attack: Attack,
    schedule: FaultSchedule,
    outcome: Outcome,
    memory: MemorySink,
    path: Path | None,
    clock: JumpingClock,
) -> None:
    async with AsyncExitStack() as opened:
        sink: EpisodeSink = memory
        if path is not None:
            opening = open_store(path, connect=faulty_connection(schedule), clock=clock)
            sink = await opened.enter_async_context(opening)
        faulty = FaultyStore(sink, schedule)

        async def start() -> AbstractAsyncContextManager[Engine]:
            return _engine(attack, schedule, clock)

        engine = await opened.enter_async_context(open_restarting_engine(start, restarts=10_000, at_once=8))
        simulator = Simulator(
            environment=FaultyEnvironment(_world(attack, engine, faulty if path is not None else None), schedule),
            policy=LanguageModelPolicy(engine, TOKENIZER, PolicySettings(window=0, max_tokens=200, samples=2)),
            tasks=_Given(attack, outcome),
            run=RUN,
            sink=faulty,
            concurrency=attack.concurrency,
            max_steps=8,
            seed=attack.seed,
            episode_seconds=attack.episode_s,
            failures=attack.failures,
            telemetry=Telemetry(clock=clock),
        )
        async with simulator:
            async for _ in simulator.episodes():
                pass
        outcome.restarts = engine.restarts


def _world(attack: Attack, engine: RestartingEngine, retriever: FaultyStore | None) -> Environment:
    if attack.world == "scripted":
        return ScriptedEnvironment()
    settings = ExperienceSettings(max_tokens=400, samples=3, sources=("real", "dreamed"), same_environment=False)
    return DreamEnvironment(ExperienceModel(engine, TOKENIZER, settings, retriever))


@asynccontextmanager
async def _engine(attack: Attack, schedule: FaultSchedule, clock: JumpingClock) -> AsyncIterator[Engine]:
    await anyio.sleep(attack.start_s)
    yield FaultyEngine(ScriptedEngine(answer, TOKENIZER), schedule, clock=clock)


def answer(request: GenerationRequest) -> str:
    """What the scripted model writes: some action, or some change that ends the task one time in eight."""
    if request.role == "experience":
        over = request.seed % 8 == 0
        return answer_segment(
            reasoning="the action has an effect",
            changed=[f"box: {request.seed % 5}", "result: done"],
            reward=float(over),
            outcome="success" if over else "running",
        )
    said = TOKENIZER.decode(request.prompt_token_ids)
    listed = (
        said.rpartition("Possible actions: ")[2].partition("\n")[0].split("; ") if "Possible actions" in said else []
    )
    actions = listed or ["open box", "go hall", "take key"]
    return f"<action> {actions[request.seed % len(actions)]}\n<end>"


class _Given:
    """Gives the tasks; all of them are owed from the beginning, whether the run comes to ask for them or not."""

    def __init__(self, attack: Attack, outcome: Outcome) -> None:
        self._all = tuple(in_turn(scripted_tasks(attack.tasks, rooms=3), attack.tasks, "training"))
        outcome.given.extend(episode_id(RUN, one.task.key, one.repeat) for one in self._all)

    async def assignments(self) -> AsyncIterator[Assignment]:
        for assignment in self._all:
            yield assignment


def _read(path: Path, outcome: Outcome) -> None:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT id, error_kind FROM episodes WHERE run = ?", (RUN,)).fetchall()
        outcome.stored = Counter(row[0] for row in rows)
        outcome.kinds = Counter(row[1] or "none" for row in rows)
        statement = (
            "SELECT count(*) FROM episodes e WHERE step_count != (SELECT count(*) FROM steps WHERE episode = e.number)"
        )
        (outcome.broken,) = connection.execute(statement).fetchone()
    finally:
        connection.close()
