from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import RecordError
from dreamsim.records.codec import (
    decision_from_json,
    decision_to_json,
    episode_from_json,
    episode_to_json,
    task_from_json,
    task_to_json,
    transition_from_json,
    transition_to_json,
)
from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.task import Task
from dreamsim.testing.strategies import decisions, episodes, tasks, transitions


def through_json(value: object) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def by_hand() -> dict[str, Any]:
    return {
        "environment": "shop",
        "instruction": "buy a red mug",
        "steps": [
            {
                "state": ["at: results", "[1] red mug"],
                "action": "click [1]",
                "next_state": ["at: item", "[2] buy"],
                "reward": 0,
                "done": False,
            },
            {"action": "click [2]", "next_state": "at: done\nresult: thank you", "reward": 1, "done": True},
        ],
    }


@given(task=tasks())
def test_a_task_comes_back_equal(task: Task) -> None:
    assert task_from_json(through_json(task_to_json(task))) == task


@given(transition=transitions())
def test_a_transition_comes_back_with_the_same_json(transition: Transition) -> None:
    written = transition_to_json(transition)
    assert transition_to_json(transition_from_json(through_json(written))) == written


@given(decision=decisions())
def test_a_decision_keeps_its_arrays(decision: Decision) -> None:
    again = decision_from_json(through_json(decision_to_json(decision)))
    assert np.array_equal(again.prompt_token_ids, decision.prompt_token_ids)
    assert (again.completion is None) == (decision.completion is None)
    if again.completion is not None and decision.completion is not None:
        assert again.completion.logprobs.dtype == np.float32
        assert np.array_equal(again.completion.logprobs, decision.completion.logprobs)
        assert np.array_equal(again.completion.token_ids, decision.completion.token_ids)


@given(episode=episodes())
def test_an_episode_comes_back_with_the_same_json(episode: Episode) -> None:
    written = episode_to_json(episode)
    again = episode_from_json(through_json(written))
    assert episode_to_json(again) == written
    assert again.task == episode.task


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_other_value_is_refused_as_a_record_error(value: object) -> None:
    with pytest.raises(RecordError):
        episode_from_json(value)


@given(data=st.data())
def test_any_field_of_any_other_type_is_accepted_or_refused_by_name(data: st.DataObject) -> None:
    episode = by_hand()
    name = data.draw(st.sampled_from(("environment", "instruction", "steps", "fold", "seed", "source", "id")))
    episode[name] = data.draw(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))
    problem = None
    try:
        episode_from_json(episode)
    except RecordError as error:
        problem = error
    assert problem is None or problem.field.startswith((name, "first_state"))


def test_an_episode_written_by_hand_gets_the_stated_defaults() -> None:
    episode = episode_from_json(by_hand())
    assert (episode.task.fold, episode.run, episode.repeat) == ("train", "import", 0)
    assert (episode.source, episode.purpose, episode.outcome) == ("real", "experience", "success")
    assert episode.task.first_state.lines == ("at: results", "[1] red mug")
    assert episode.transitions[1].state.lines == ("at: done", "result: thank you")
    assert [transition.outcome for transition in episode.transitions] == ["running", "success"]


def test_an_episode_without_an_id_has_the_same_one_at_every_import() -> None:
    assert episode_from_json(by_hand()).id == episode_from_json(by_hand()).id
    other = by_hand() | {"instruction": "buy a blue mug"}
    assert episode_from_json(other).id != episode_from_json(by_hand()).id


def test_the_end_of_a_task_without_reward_is_a_failure() -> None:
    episode = by_hand()
    episode["steps"][1]["reward"] = 0
    assert episode_from_json(episode).outcome == "failure"


def test_an_episode_that_did_not_end_is_truncated() -> None:
    episode = by_hand()
    del episode["steps"][1]
    assert episode_from_json(episode).outcome == "truncated"


def test_token_ids_may_be_a_plain_list() -> None:
    decision = decision_from_json({"action": "go", "prompt_token_ids": [1, 2, 70_000]})
    assert decision.prompt_token_ids.dtype == np.int32
    assert decision.prompt_token_ids.tolist() == [1, 2, 70_000]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("environment",), None, "environment"),
        (("environment",), 3, "environment"),
        (("instruction",), "\ud800", "instruction"),
        (("enviroment",), "shop", "enviroment"),
        (("schema",), "dreamsim-episode/99", "schema"),
        (("seed",), 2**63, "seed"),
        (("seed",), True, "seed"),
        (("parameters",), {"size": [1]}, "parameters.size"),
        (("source",), "imagined", "source"),
        (("outcome",), "failure", "outcome"),
        (("outcome",), "error", "error_kind"),
        (("error_kind",), "parse", "error_kind"),
        (("task_key",), "0", "task_key"),
        (("id",), "", "id"),
        (("steps",), {}, "steps"),
        (("steps",), [], "first_state"),
        (("steps", 0), 7, "steps[0]"),
        (("steps", 0, "state"), None, "steps[0].state"),
        (("steps", 0, "action"), None, "steps[0].action"),
        (("steps", 0, "next_state"), ["a", 1], "steps[0].next_state[1]"),
        (("steps", 0, "done"), True, "steps[0].done"),
        (("steps", 0, "done"), 1, "steps[0].done"),
        (("steps", 0, "reward"), "1", "steps[0].reward"),
        (("steps", 0, "reward"), float("nan"), "steps[0].reward"),
        (("steps", 0, "rewards"), 1, "steps[0].rewards"),
        (("steps", 1, "state"), ["at: elsewhere"], "steps[1].state"),
        (("steps", 1, "outcome"), "running", "steps[1].done"),
        (("steps", 1, "decision"), {"action": "x", "prompt_token_ids": "!"}, "steps[1].decision.prompt_token_ids"),
        (("steps", 1, "decision"), {"action": "x", "prompt_token_ids": "AAA="}, "steps[1].decision.prompt_token_ids"),
        (
            ("steps", 1, "decision"),
            {"action": "x", "prompt_token_ids": [1, 2**31]},
            "steps[1].decision.prompt_token_ids[1]",
        ),
        (
            ("steps", 1, "decision"),
            {
                "action": "x",
                "completion": {
                    "token_ids": [1, 2],
                    "logprobs": [-1.0],
                    "finish_reason": "stop",
                    "prompt_tokens": 0,
                },
            },
            "steps[1].decision.completion.logprobs",
        ),
    ],
)
def test_a_bad_field_is_named(path: tuple[str | int, ...], value: object, field: str) -> None:
    episode = by_hand()
    place: Any = episode
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        episode_from_json(episode)
    assert caught.value.field == field
    assert str(caught.value).startswith(field + ": ")
