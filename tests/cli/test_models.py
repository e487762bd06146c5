from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamsim.cli.models import Prepared, experience_settings, policy_settings, trained_with
from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.engines.tokenizers import ChatFrame
from dreamsim.errors import ConfigurationError
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments


def settings(*arguments: str) -> Settings:
    return load_settings(parse_arguments(arguments), {})


def prepared(**trained: Any) -> Prepared:
    return Prepared(tokenizer=ByteTokenizer(), frame=ChatFrame(), trained=trained)


def test_a_model_is_asked_as_it_was_trained() -> None:
    asked = policy_settings(settings().policy, prepared(window=None, begin_action=True, max_tokens=24))
    assert (asked.window, asked.begin_action, asked.max_tokens) == (None, True, 24)


def test_what_the_user_gives_wins_over_how_it_was_trained() -> None:
    given = settings("--policy.window", "5", "--no-policy.begin_action").policy
    asked = policy_settings(given, prepared(window=None, begin_action=True))
    assert (asked.window, asked.begin_action) == (5, False)


def test_a_window_of_minus_one_shows_all() -> None:
    assert policy_settings(settings("--policy.window", "-1").policy, prepared()).window is None


def test_a_foreign_model_is_asked_with_room_to_think() -> None:
    asked = policy_settings(settings().policy, prepared())
    assert (asked.window, asked.max_tokens, asked.show_admissible) == (2, 512, True)


def test_an_experience_model_retrieves_as_it_was_trained() -> None:
    asked = experience_settings(settings().experience, prepared(retrieve="episode", demonstrations=2))
    assert (asked.layout.retrieve, asked.layout.demonstrations) == ("episode", 2)


def test_no_demonstrations_is_no_retrieval() -> None:
    given = settings("--experience.demonstrations", "0").experience
    assert experience_settings(given, prepared(retrieve="step")).layout.retrieve == "off"


def test_without_reasoning_none_is_required() -> None:
    given = settings("--no-experience.reasoning").experience
    asked = experience_settings(given, prepared(reasoning=True))
    assert (asked.layout.reasoning, asked.rules.reasoning_required) == (False, False)


def test_an_adapter_is_called_by_its_role_here_and_by_its_name_on_a_server() -> None:
    assert policy_settings(settings("--policy.adapter", "/a/b").policy, prepared()).adapter == "policy"
    server = ("--policy.url", "http://h/v1", "--policy.model", "m", "--policy.adapter", "mine")
    assert policy_settings(settings(*server).policy, prepared()).adapter == "mine"


def test_a_checkpoint_without_notes_was_trained_with_nothing(tmp_path: Path) -> None:
    assert trained_with(tmp_path) == {}


def test_notes_are_read(tmp_path: Path) -> None:
    (tmp_path / "dreamsim.json").write_text(json.dumps({"window": None}))
    assert trained_with(tmp_path) == {"window": None}


@pytest.mark.parametrize("content", ["{", "[]"])
def test_notes_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "dreamsim.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"dreamsim\.json"):
        trained_with(tmp_path)
