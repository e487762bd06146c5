"""A curriculum behind the planner's seam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.curriculum.domain import ElementDomain
from dreamsim.curriculum.generator import TaskGenerator, WritingSettings
from dreamsim.curriculum.novelty import KnownTasks
from dreamsim.curriculum.source import Curriculum
from dreamsim.curriculum.task_writing import task_text
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.errors import UsageError
from dreamsim.flow.choosing import CurriculumChooser
from dreamsim.flow.groups import ClosedGroup
from dreamsim.flow.planning import TaskChooser
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import EpisodeOutcome, Source
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.runtime.seeds import generator
from dreamsim.testing.decisions import decided_episode

pytestmark = pytest.mark.anyio


def begins(room: int, thing: int) -> State:
    return State.of([f"at: room {room}", f"thing {thing}: here"])


HALF: tuple[EpisodeOutcome, ...] = ("success", "failure")
TASKS = [
    Task(environment="e/f", instruction="find it", first_state=begins(n % 3, n), fold="train", seed=n) for n in range(9)
]


class Places:
    """Each text far from every other."""

    name = "places"
    dimension = 32

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [generator(0, text).normal(size=32) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


def answer(request: GenerationRequest) -> str:
    draw = generator(request.seed, "answer")
    return task_text("find it", begins(int(draw.integers(3)), int(draw.integers(9))))


def a_chooser(*, token_s: float = 0.0, writes: bool = True, groups: int | None = None) -> CurriculumChooser:
    section = CurriculumSection(synthetic=0.5, waiting=3)
    curriculum = Curriculum(TASKS, section, size=2, seed=0, groups=groups)
    engine = ScriptedEngine(answer, ByteTokenizer(), latency=Latency(token_s=token_s))
    settings = WritingSettings(max_tokens=200, samples=4)
    known, domain = KnownTasks(Places(), TASKS), ElementDomain(TASKS)
    generator = TaskGenerator(engine, ByteTokenizer(), settings, known=known, domain=domain) if writes else None
    return CurriculumChooser(curriculum, generator)


async def play(chooser: TaskChooser, rounds: int, numbers: dict[str, int], *, every: int = 1) -> list[Task]:
    """Choose and observe so many groups, each half solved; every so many of them is real."""
    chosen = []
    for place in range(rounds):
        source: Source = "dreamed" if every == 1 or place % every else "real"
        task = await chooser.choose(source)
        number = numbers.get(task.key, 0)
        numbers[task.key] = number + 1
        episodes = [
            decided_episode(0, task=task, repeat=2 * number + one, outcome=outcome) for one, outcome in enumerate(HALF)
        ]
        closed = ClosedGroup(task_key=task.key, number=number, episodes=tuple(episodes), viable=True, complete=True)
        chooser.observe(closed, source)
        chosen.append(task)
    return chosen


async def test_written_tasks_are_chosen_and_never_for_reality() -> None:
    chooser = a_chooser()
    chosen = await play(chooser, 40, {}, every=4)
    synthetic = [task.synthetic for task in chosen]
    assert 10 <= sum(synthetic) <= 20
    assert not any(synthetic[::4])
    assert not any(task.synthetic for task in await play(a_chooser(writes=False), 20, {}))


async def test_how_long_an_answer_takes_changes_nothing() -> None:
    quick, slow = a_chooser(), a_chooser(token_s=1e-4)
    assert await play(quick, 12, {}) == await play(slow, 12, {})
    assert quick.state() == slow.state()


async def test_a_restored_chooser_goes_on_as_an_uninterrupted_one() -> None:
    straight, first, second = a_chooser(), a_chooser(), a_chooser()
    numbers: dict[str, int] = {}
    expected = await play(straight, 30, {})
    begun = await play(first, 15, numbers)
    second.restore(first.state())
    assert begun + await play(second, 15, numbers) == expected


async def test_more_groups_than_the_curriculum_has_are_refused() -> None:
    chooser = a_chooser(groups=2)
    await play(chooser, 2, {})
    with pytest.raises(UsageError):
        await chooser.choose("dreamed")
