"""Names from task lists, states and checkpoints never become paths that lead elsewhere, nor settings that cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.checkpoint import TrainingFiles
from dreamsim.cli.models import trained_with
from dreamsim.errors import ConfigurationError, EnvironmentFailure
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.addresses import without_keys
from dreamsim_adapters.environments.alfworld.environment import game_of
from dreamsim_adapters.environments.alfworld.games import GAMES_FOLDER, game_file
from dreamsim_adapters.environments.alfworld.layout import Logic, lay_out
from tests.hostile.garbage import odd_texts

GAME = "train/pick_and_place_simple-Mug-None-Desk-308/trial_T20190908_091747_866951"
OUT = [
    "../../etc/x",
    "/etc/passwd/x",
    "train/../..",
    "train/a/..",
    "train/a/b/c",
    "train//b",
    "a/b/\0",
    "",
    "a/b/c\n",
    ".",
]


def task(game: Any) -> Task:
    return Task(
        environment="alfworld/x", instruction="i", first_state=State(lines=()), fold="train", parameters={"game": game}
    )


@pytest.mark.parametrize("game", OUT)
def test_the_game_of_a_task_leads_nowhere_else(tmp_path: Path, game: str) -> None:
    with pytest.raises(EnvironmentFailure):
        game_of(task(game))
    with pytest.raises(ConfigurationError):
        game_file(tmp_path, game)


@given(st.one_of(odd_texts(), st.from_regex(r"[\w./-]{1,8}/[\w./-]{1,8}/[\w./-]{1,8}", fullmatch=True)))
def test_a_game_is_inside_the_folder_or_refused(game: str) -> None:
    folder = Path("/data")
    try:
        file = game_file(folder, game)
    except ConfigurationError:
        return
    assert Path(os.path.normpath(file)).is_relative_to(folder / GAMES_FOLDER)
    assert len(file.relative_to(folder).parts) == 5


def test_a_games_id_is_kept(tmp_path: Path) -> None:
    assert game_of(task(GAME)) == GAME
    assert game_file(tmp_path, GAME).parts[-4:-1] == tuple(GAME.split("/"))


@pytest.mark.parametrize("game", OUT)
def test_a_list_of_games_writes_nowhere_else(tmp_path: Path, game: str) -> None:
    line = {"id": game, "task_type": "t", "pddl_params": {}, "task_descs": ["d"], "pddl_problem": "p"}
    (tmp_path / "games.jsonl").write_text(json.dumps(line))
    with pytest.raises(ConfigurationError, match=r"games\.jsonl, line 1"):
        lay_out(tmp_path / "games.jsonl", tmp_path / "data", logic=Logic(domain="d", grammar="g"))
    assert [path.name for path in tmp_path.iterdir()] == ["games.jsonl"]


class NoTrainer:
    """Must not be asked to load anything."""

    version = 1

    def load(self, directory: Path) -> None:
        raise AssertionError(directory)


@pytest.mark.parametrize("name", ["../../evil", "/etc", "v1/..", "v1\n", "", 7, None, ["v1"], "v"])
def test_a_state_names_no_checkpoint_elsewhere(tmp_path: Path, name: Any) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"format": 1, "checkpoint": name}))
    with pytest.raises(ConfigurationError, match="names no checkpoint"):
        TrainingFiles(directory=tmp_path).load(NoTrainer())  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"[" * 5000, b'{"format": 1}', b"\xff", b'"x"'])
def test_a_damaged_state_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"state\.json is no state"):
        TrainingFiles(directory=tmp_path).load(NoTrainer())  # type: ignore[arg-type]


TOLD: list[dict[str, Any]] = [
    *[{"window": value} for value in list[Any](("2", -2, True, 2**40, []))],
    *[{"max_tokens": value} for value in list[Any]((0, -1, "many", 1e9, None))],
    *[{"generation": value} for value in list[Any]((-1, "0", 1.5, {}))],
    *[{"layout": value} for value in list[Any](("evil", [], None))],
    *[{"retrieve": value} for value in list[Any](("always", 0))],
    *({name: "yes"} for name in ("reasoning", "history", "begin_action", "show_admissible", "example_state")),
    *({name: -1} for name in ("demonstrations", "tasks_shown")),
]


@pytest.mark.parametrize("told", TOLD)
def test_what_a_checkpoint_says_of_itself_is_checked(tmp_path: Path, told: dict[str, Any]) -> None:
    (tmp_path / "dreamsim.json").write_text(json.dumps(told))
    with pytest.raises(ConfigurationError, match=next(iter(told))):
        trained_with(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 5000, b"\xff", b"[1]", b"{" + b" " * 2**21 + b"}"])
def test_a_checkpoint_that_says_nonsense_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dreamsim.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"dreamsim\.json"):
        trained_with(tmp_path)


def test_a_worker_that_plays_somebody_elses_game_gets_no_keys() -> None:
    secret = dict.fromkeys(("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "X_KEY_ID"), "s")
    plain = {"PATH": "p", "HOME": "h", "LANG": "l", "JAVA_HOME": "j", "KEYBOARD": "k", "ALFWORLD_DATA": "d"}
    assert without_keys({**secret, **plain}) == plain
