from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.cli.main import main
from dreamsim.cli.tasks import SHIPPED_TASKS, read_tasks


def test_the_list_holds_the_tasks_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "list.jsonl.xz"
    assert main(["tasks", str(output), "--game", "twc", "--game", "coin", "--count", "4", "--fold", "dev"]) == 0
    tasks = list(read_tasks(output))
    assert [task.environment for task in tasks] == ["textworld_express/twc", "textworld_express/coin"] * 2
    assert {task.fold for task in tasks} == {"dev"}
    assert "4 tasks of fold dev" in capsys.readouterr().out


def test_the_shipped_list_is_what_the_verb_makes(tmp_path: Path) -> None:
    output = tmp_path / "list.jsonl"
    assert main(["tasks", str(output), "--count", "6"]) == 0
    made, shipped = list(read_tasks(output)), list(read_tasks(SHIPPED_TASKS))
    assert [task.key for task in made] == [task.key for task in shipped[:6]]


def test_a_list_in_a_directory_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", str(tmp_path / "none" / "list.jsonl")]) == 2
    assert "there is no directory" in capsys.readouterr().err
