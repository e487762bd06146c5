"""What is fuzzed: for each kind of input from outside, what is drawn and what must hold of it.

Every check ends normally or raises nothing but a `DreamsimError`; what it returns is not looked at further.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dreamsim.agents.language_model import PolicySettings, parse_decision
from dreamsim.curriculum.task_writing import parse_task
from dreamsim.engines.http_answers import (
    count_of,
    finish_reason_of,
    ids_in_logprobs,
    logprobs_of,
    text_of,
    token_ids_of,
)
from dreamsim.errors import DreamsimError
from dreamsim.experience.annotation import read_annotation
from dreamsim.experience.judge import Scores
from dreamsim.experience.parse import AnswerRules, parse_answer
from dreamsim.experience.questions import json_of
from dreamsim.experience.rules import parse_rules
from dreamsim.experience.uncertainty import load_gate
from dreamsim.records.codec import episode_from_json, episode_to_json, task_from_json, task_to_json
from dreamsim.records.state import StateMemory, apply_changes
from dreamsim.runtime.settings_sources import (
    CommandLine,
    environment_values,
    file_values,
    load_settings,
    parse_arguments,
)
from dreamsim.store.jsonl import read_jsonl
from tests.hostile.garbage import json_texts, json_values, mutated, odd_texts
from tests.store.samples import make_episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of input."""

    draw: st.SearchStrategy[Any]
    """What comes in."""
    check: Callable[[Any], object]
    """Reads it; raises an AssertionError where something does not hold."""


def _file(suffix: str, content: bytes, read: Callable[[Path], object]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        path.write_bytes(content)
        refused = ""
        try:
            read(path)
        except DreamsimError as error:
            refused = str(error)
        assert not refused or str(path) in refused  # where a file is wrong, it is named


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# model output ---------------------------------------------------------------------------------------------------------

TAGS = (
    "<reason>",
    "<state>",
    "<reward>",
    "<done>",
    "<end>",
    "<task>",
    "<action>",
    "< STATE >",
    "\n",
    "no",
    "success",
    "0",
)
WRITTEN = st.lists(st.one_of(st.sampled_from((*TAGS, "1", "1e999", "\u0661", "at: hall", "box: gone")), odd_texts(10)))
ANSWERS = st.one_of(
    WRITTEN.map(" ".join),
    st.builds("<reason> {}\n<state>\n{}\n<reward> {}\n<done> {}\n<end>".format, *(odd_texts() for _ in range(4))),
    st.builds("<reason> x\n<state>\n{}\n<reward> 1\n<done> success".format, odd_texts(200)),
)


def _answer(written: str) -> None:
    answer = parse_answer(written, AnswerRules())
    assert 0 <= answer.reward <= 1
    state = apply_changes(StateMemory(make_episode(1).task.first_state), answer.changed)
    assert all("\n" not in line for line in state.lines)


def _decision(written: str) -> None:
    for begun in (False, True):
        with contextlib.suppress(DreamsimError):
            _, action = parse_decision(written, PolicySettings(begin_action=begun))
            assert len(action) <= PolicySettings().max_action_characters
            assert "\n" not in action


def _written_task(written: str) -> None:
    found = parse_task(written)
    assert found.instruction
    assert found.first_state.lines


def _judged(written: str) -> None:
    value = json_of(written)
    for read in (Scores.read, lambda told: read_annotation(told, steps=2)):
        with contextlib.suppress(DreamsimError):
            read(value)


# servers --------------------------------------------------------------------------------------------------------------

CHOICE = {
    "token_ids": [5, 6, 7],
    "text": "key",
    "finish_reason": "stop",
    "logprobs": {"token_logprobs": [-0.5, -1.0, None], "tokens": ["token_id:5", "token_id:6", "token_id:7"]},
}


def _choice(choice: Any) -> None:
    """As the HTTP engine reads it, with the errors that it turns into its own."""
    with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError, OverflowError):
        told = choice.get("token_ids")
        ids = token_ids_of(ids_in_logprobs(choice) or () if told is None else told, most=8, vocabulary=300)
        assert ids.dtype == np.int32
        assert len(ids) <= 8
        assert not len(ids) or 0 <= ids.min() <= ids.max() < 300
        logprobs = logprobs_of(choice, len(ids))
        assert logprobs.shape == ids.shape
        assert not np.isinf(logprobs).any()
        assert finish_reason_of(choice) in ("stop", "length", "abort")
        assert isinstance(text_of(choice["text"], most=8), str)
        assert count_of(choice.get("usage")) >= 0


# files ----------------------------------------------------------------------------------------------------------------

EPISODE = episode_to_json(make_episode(1))
TASK = task_to_json(make_episode(1).task)


def _episode(value: Any) -> None:
    episode = episode_from_json(value)
    written = episode_to_json(episode)
    json.dumps(written, allow_nan=False).encode()
    assert episode_to_json(episode_from_json(written)) == written


def _task(value: Any) -> None:
    task = task_from_json(value)
    assert task_from_json(task_to_json(task)) == task


def _lines(texts: list[str]) -> None:
    _file(".jsonl", b"\n".join(map(_as_bytes, texts)), lambda path: list(read_jsonl(path)))


def _packed(drawn: tuple[str, bytes]) -> None:
    _file(drawn[0], drawn[1], lambda path: list(read_jsonl(path)))


def _rules(text: str) -> None:
    for kind in ("toml", "json"):
        with contextlib.suppress(DreamsimError):
            parse_rules(text, kind=kind)


GATE: dict[str, Any] = {
    "schema": "dreamsim-gate/1", "features": ["agreement"], "mean": [0.5], "scale": [1.0], "weight": [1.0], "bias": 0.0,
    "n": 10, "wrong": 2, "experience_model": "m",
}  # fmt: skip


# settings -------------------------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        ("policy.url", "run.seed", "run.name", "store.path", "tasks.mix", "policy.api_key_variable", "store.encoder")
    ),
    st.sampled_from(("config", "help", "no-run.shared", "train.real_share", "curriculum", "policy", "")),
    odd_texts(10),
)
VALUES = st.one_of(odd_texts(), st.sampled_from(("http://u:p@h/v1", "1e999", "-1", "9" * 5000, "none", "a,b=1,=")))
TOML = st.one_of(
    st.lists(st.builds("{} = {}".format, NAMES, st.one_of(VALUES, VALUES.map(json.dumps)))).map("\n".join),
    st.lists(st.sampled_from(("[run]", "[[rule]]", "[a.b]", "seed = 1", 'name = "x"', "a." * 2000 + "a = 1", "x = [")))
    .map("\n".join),
    st.sampled_from(("a = " + "[" * 5000, "a = 1" + "0" * 5000, "\x00", "a = 1979-05-27", "run = 5", "seed = inf")),
    odd_texts(60),
)  # fmt: skip


def _configured(text: str) -> None:
    def read(path: Path) -> None:
        file_values(path)
        load_settings(CommandLine(values={}, files=(path,), switches=frozenset()), {})

    with contextlib.suppress(DreamsimError), TemporaryDirectory() as folder:
        path = Path(folder) / "c.toml"
        path.write_bytes(_as_bytes(text))
        read(path)


def _flags(drawn: list[tuple[str, str]]) -> None:
    arguments = [part for name, value in drawn for part in (f"--{name}", value)]
    load_settings(parse_arguments([part for part in arguments if "\0" not in part and part != "--config"]), {})


def _variables(drawn: dict[str, str]) -> None:
    environment_values({f"DREAMSIM_{name.upper()}": value for name, value in drawn.items()})


TARGETS = {
    "an answer of the experience model": Target(draw=ANSWERS, check=_answer),
    "a decision of the policy": Target(draw=ANSWERS, check=_decision),
    "a task that a model wrote": Target(draw=ANSWERS, check=_written_task),
    "an answer of a judge": Target(draw=st.one_of(json_texts(), odd_texts()), check=_judged),
    "a choice of a server": Target(draw=st.one_of(mutated(CHOICE), json_values()), check=_choice),
    "an episode": Target(draw=st.one_of(mutated(EPISODE), json_values()), check=_episode),
    "a task": Target(draw=st.one_of(mutated(TASK), json_values()), check=_task),
    "lines of a file": Target(
        draw=st.lists(st.one_of(mutated(EPISODE).map(json.dumps), json_texts(), odd_texts()), max_size=3), check=_lines
    ),
    "a compressed file": Target(
        draw=st.tuples(st.sampled_from((".jsonl.gz", ".jsonl.xz")), st.binary(max_size=80)), check=_packed
    ),
    "a file of rules": Target(draw=st.one_of(TOML, json_texts()), check=_rules),
    "a calibration": Target(
        draw=st.one_of(mutated(GATE).map(json.dumps), json_texts()),
        check=lambda text: _file(".json", _as_bytes(text), load_gate),
    ),
    "a file of settings": Target(draw=TOML, check=_configured),
    "flags": Target(draw=st.lists(st.tuples(NAMES, VALUES), max_size=3), check=_flags),
    "environment variables": Target(draw=st.dictionaries(NAMES, VALUES, max_size=3), check=_variables),
}
"""By name."""
