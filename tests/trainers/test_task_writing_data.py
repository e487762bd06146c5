"""Samples from which the writing of tasks is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.curriculum.task_writing import content_key, parse_task
from dreamsim.errors import ConfigurationError
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim_trainers.experience_data import IGNORED
from dreamsim_trainers.experience_model import ExperienceTraining
from dreamsim_trainers.task_writing_data import TaskWriting, families_of, task_writing_samples, variations


class Letters:
    """One id per character."""

    vocabulary_size = 1 << 16

    def encode(self, text: str) -> NDArray[np.int32]:
        return np.array([ord(character) for character in text], dtype=np.int32)

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        return "".join(chr(number) for number in token_ids)


def tasks(count: int, *, environment: str = "e/coin", fold: str = "train", verb: str = "find") -> list[Task]:
    def lines(number: int) -> list[str]:
        return [f"at: room {number % 3}", f"shelf {number % 3}: here", f"thing {number}: here"]

    return [
        Task(environment=environment, instruction=f"{verb} it", first_state=State.of(lines(n)), fold=fold, seed=n)
        for n in range(count)
    ]


def shown(sample_ids: NDArray[np.int32]) -> list[str]:
    return Letters().decode(sample_ids).split("<example>")[1:]


def key_of(written: str) -> str:
    read = parse_task(written)
    return content_key(read.instruction, read.first_state)


def test_loss_falls_on_every_task_but_the_seed() -> None:
    for sample in task_writing_samples(tasks(20), Letters(), 30):
        learned = Letters().decode(sample.labels[sample.labels != IGNORED])
        assert learned == "".join(part.strip("\n") for part in shown(sample.input_ids)[1:])
        assert len(shown(sample.input_ids)) >= 2


def test_no_task_of_a_sample_says_what_another_says() -> None:
    repeated = tasks(6) + [Task(**{**_fields(t), "seed": 100 + t.seed}) for t in tasks(6)]  # type: ignore[arg-type]
    for sample in task_writing_samples(repeated, Letters(), 30):
        keys = [key_of(part.strip()) for part in shown(sample.input_ids)]
        assert len(set(keys)) == len(keys)


def _fields(task: Task) -> dict[str, object]:
    return {name: getattr(task, name) for name in ("environment", "instruction", "first_state", "fold", "seed")}


def test_families_are_not_mixed() -> None:
    mixed = tasks(8) + tasks(8, environment="e/twc") + tasks(8, fold="dev")
    assert [len(family) for family in families_of(mixed)] == [8, 8, 8]
    for family in families_of(mixed):
        assert len({(task.environment, task.fold) for task in variations(family, 0, TaskWriting())}) == 1


def test_a_family_is_learned_from_as_often_as_it_has_tasks() -> None:
    made = task_writing_samples(tasks(40) + tasks(10, environment="e/twc", verb="lose"), Letters(), 200)
    assert np.mean(["find" in Letters().decode(sample.input_ids) for sample in made]) == pytest.approx(0.8, abs=0.08)


def test_a_variation_is_nearer_to_its_seed_than_a_task_at_random() -> None:
    def same_room(candidates: int) -> float:
        drawn = [variations(tasks(60), n, TaskWriting(others=0, candidates=candidates)) for n in range(100)]
        return float(np.mean([seed.first_state.scene == one.first_state.scene for seed, one in drawn]))

    assert same_room(8) > 0.9 > 0.5 > same_room(1)


def test_the_same_seed_gives_the_same_samples() -> None:
    def made(seed: int) -> list[list[int]]:
        settings = TaskWriting(seed=seed)
        return [sample.input_ids.tolist() for sample in task_writing_samples(tasks(20), Letters(), 5, settings)]

    assert made(1) == made(1) != made(2)


def test_samples_are_as_many_as_asked_and_no_longer_than_asked() -> None:
    limit = TaskWriting(others=4, max_tokens=250)
    made = list(task_writing_samples(tasks(20), Letters(), 12, limit))
    assert len(made) == 12
    assert max(len(sample.input_ids) for sample in made) <= 250
    assert min(len(sample.input_ids) for sample in made) > 120


@pytest.mark.parametrize(
    ("given", "settings", "said"),
    [
        (tasks(1) + tasks(1, fold="dev"), TaskWriting(), "no two of these"),
        (tasks(20), TaskWriting(max_tokens=40), "only 0 samples"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(given: Sequence[Task], settings: TaskWriting, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        list(task_writing_samples(given, Letters(), 1, settings))


def test_tasks_of_a_held_out_fold_are_refused(tmp_path: object) -> None:
    from pathlib import Path

    from dreamsim.store.encoders import encoder_from_name
    from dreamsim_trainers.causal_lm import TrainSettings
    from dreamsim_trainers.experience_model import train_experience_model
    from tests.trainers.played import several

    output = Path(str(tmp_path))
    wanted = ExperienceTraining(
        train=TrainSettings(output=output, steps=1), task_writing=0.5, tasks=tuple(tasks(2, fold="test"))
    )
    with pytest.raises(ConfigurationError, match="tasks of fold train alone"):
        train_experience_model(several(2), [], encoder_from_name("lexical"), wanted)
