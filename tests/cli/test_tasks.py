from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.cli.tasks import load_tasks, mix_tasks, parse_mix, read_tasks, write_tasks
from dreamsim.errors import ConfigurationError, DatasetError
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.settings_sources import load_settings, parse_arguments


def task(variant: str, seed: int, fold: str = "test") -> Task:
    return Task(
        environment=f"textworld_express/{variant}",
        instruction="Do it.",
        first_state=State.of(["at: hall"]),
        fold=fold,
        seed=seed,
    )


TASKS = [task("twc", n) for n in range(6)] + [task("coin", n) for n in range(3)] + [task("twc", 9, "train")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl.xz"
    write_tasks(path, TASKS)
    return path


def loaded(file: Path, *arguments: str) -> list[tuple[str, int]]:
    settings = load_settings(parse_arguments(["--tasks.file", str(file), *arguments]), {})
    return [(task.environment.rpartition("/")[2], task.seed) for task in load_tasks(settings)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.xz"])
def test_a_list_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    write_tasks(tmp_path / name, TASKS)
    assert list(read_tasks(tmp_path / name)) == TASKS


def test_tasks_come_in_the_order_of_the_list(file: Path) -> None:
    assert len(loaded(file)) == 10
    assert loaded(file, "--tasks.count", "2") == [("twc", 0), ("twc", 1)]


def test_a_fold_leaves_the_others_out(file: Path) -> None:
    assert loaded(file, "--tasks.fold", "train") == [("twc", 9)]


def test_an_environment_may_be_named_with_its_variant(file: Path) -> None:
    assert {name for name, _ in loaded(file, "--tasks.environment", "textworld_express/coin")} == {"coin"}


def test_a_mix_takes_variants_in_proportion(file: Path) -> None:
    found = loaded(file, "--tasks.mix", "twc=2,coin=1", "--tasks.count", "6")
    assert found == [("twc", 0), ("coin", 0), ("twc", 1), ("twc", 2), ("coin", 1), ("twc", 3)]


def test_a_mix_ends_with_the_variant_that_runs_out() -> None:
    assert len(mix_tasks(TASKS, {"twc": 1.0, "coin": 1.0}, None)) == 7


@pytest.mark.parametrize("part", ["twc=0", "twc=-1", "twc=many", "twc=nan", "twc=inf"])
def test_a_weight_is_a_positive_number(part: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tasks\.mix"):
        parse_mix([part])


def test_a_variant_that_is_not_there_is_refused_with_those_that_are(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no tasks of 'maze'; there are: coin, twc"):
        loaded(file, "--tasks.mix", "maze")


def test_no_task_left_is_refused(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"change tasks\.environment or tasks\.fold"):
        loaded(file, "--tasks.fold", "dev")


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_tasks(path, TASKS[:1])
    path.write_text(path.read_text() + "\n{}\n")
    with pytest.raises(DatasetError, match=r"a\.jsonl:3: .*environment|a\.jsonl:3: first_state"):
        list(read_tasks(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent"):
        list(read_tasks(tmp_path / "absent.jsonl.xz"))
