"""A training without a model: scripted world, scripted engine, and a trainer that remembers what it was given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.curriculum.source import Curriculum
from dreamsim.engines.scripted import ByteTokenizer, EngineFault, Latency, ScriptedEngine
from dreamsim.evaluation.success import GameSettings, PolicyReport, play_games, policy_report
from dreamsim.flow.archive import EpisodeArchive
from dreamsim.flow.choosing import CurriculumChooser
from dreamsim.flow.planning import ShuffledTasks
from dreamsim.protocols import EpisodeSession
from dreamsim.records.batch import Batch
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Source
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.task import Task
from dreamsim.records.training import Line
from dreamsim.records.weights import WeightsUpdate
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.store.store import open_store
from dreamsim.testing.environment import ScriptedEnvironment
from dreamsim.testing.world import scripted_tasks
from dreamsim.training.loop import Training
from dreamsim.training.parts import TrainingParts, TrainingSettings
from tests.flow.test_learning import METRICS

TOKENIZER = ByteTokenizer()
SETTINGS = TrainingSettings(run="t", steps=4, group_size=3, batch_groups=2, max_steps=6, evaluate_every=2)
TIMES = ("elapsed_s", "waited_s", "worked_s", "delivered_s", "evaluated_s", "engine_idle_s", "alarms")
"""What differs from one training to the next of the same seed: times, and alarms, of which one is about times."""


class RememberingTrainer:
    """Its weights are a hash of all it has learned from, in order."""

    name = "remembering"

    def __init__(self) -> None:
        self.version = 0
        self.weights = ""
        self.batches: list[Batch] = []

    def step(self, batch: Batch) -> UpdateMetrics:
        self.batches.append(batch)
        told = [self.weights, *((one.episode_id, one.total_reward) for one in batch.trajectories)]
        tokens = b"".join(sample.token_ids.tobytes() for one in batch.trajectories for sample in one.samples)
        self.weights = hashlib.blake2b(repr(told).encode() + tokens, digest_size=8).hexdigest()
        staleness = self.version - batch.oldest_version
        self.version += 1
        return replace(METRICS, batch=batch.number, version=self.version, staleness=staleness)

    def publish(self, directory: Path) -> WeightsUpdate:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "weights").write_text(self.weights)
        return WeightsUpdate(version=self.version, path=directory, kind="full")

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "state").write_text(json.dumps([self.version, self.weights]))

    def load(self, directory: Path) -> None:
        self.version, self.weights = json.loads((directory / "state").read_text())


class Holding:
    """The scripted environment, real; the episode `held` begins once it is `opened`."""

    name = "holding-1"
    source: Source = "real"

    def __init__(self, held: str) -> None:
        self._inner, self._held = ScriptedEnvironment(source="real"), held
        self.opened = anyio.Event()

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            if episode_id == self._held:
                await self.opened.wait()
            yield session


def any_action(request: GenerationRequest) -> str:
    """One of the possible actions, by the request's seed."""
    said = TOKENIZER.decode(request.prompt_token_ids)
    actions = said.rpartition("Possible actions: ")[2].partition("\n")[0].split("; ")
    return f"<action> {actions[request.seed % len(actions)]}\n<end>"


def chooser(tasks: Sequence[Task]) -> CurriculumChooser:
    """A curriculum that writes no tasks."""
    return CurriculumChooser(Curriculum(tasks, CurriculumSection(synthetic=0.0), size=SETTINGS.group_size, seed=1))


def parts(
    archive: EpisodeArchive,
    trainer: RememberingTrainer,
    *,
    sources: Sequence[Any] = ("real", "dreamed"),
    evaluate: bool = True,
    latency_s: float = 0.0,
    fault: Mapping[str, EngineFault] | None = None,
    curriculum: bool = False,
) -> TrainingParts:
    """All parts, scripted. With a `curriculum` the results of groups decide which task comes next."""
    told = fault or {}
    engine = ScriptedEngine(
        any_action, TOKENIZER, latency=Latency(start_s=latency_s), fault=lambda request: told.get("policy")
    )
    policy = LanguageModelPolicy(engine, TOKENIZER, PolicySettings(window=0, max_tokens=200))
    real = ScriptedEnvironment(source="real")
    tasks = scripted_tasks(5, rooms=2)
    games = scripted_tasks(3, first_seed=500, fold="dev")

    async def measured(version: int) -> PolicyReport:
        settings = GameSettings(run="t-evaluation", first_repeat=version, max_steps=6)
        return policy_report(await play_games(real, policy, games, settings, archive))

    return TrainingParts(
        environments={source: ScriptedEnvironment(source=source) for source in sources},
        policy=policy,
        receivers=[engine],
        trainer=trainer,
        tasks=chooser(tasks) if curriculum else ShuffledTasks(tasks, seed=1),
        archive=archive,
        evaluate=measured if evaluate else None,
    )


async def train(
    directory: Path, settings: TrainingSettings = SETTINGS, **more: Any
) -> tuple[list[Line], RememberingTrainer]:
    """Train, or go on; returns the history and the trainer."""
    trainer = RememberingTrainer()
    async with open_store(directory / "store.sqlite", encoder=None) as store:
        training = Training(parts(store, trainer, **more), settings, directory=directory)
        return await training.run(), trainer


def without_times(history: Sequence[Line]) -> list[dict[str, Any]]:
    """What must be the same in two trainings of one seed."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in history]


def numbers(history: Sequence[Line], key: str) -> list[float]:
    """The values of `key`, which every line must have."""
    found = [line[key] for line in history]
    assert all(value is not None for value in found), key
    return [value for value in found if value is not None]
