"""`dreamsim judge` starts a model in this process, whose answers its schema holds to what can be read as scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamsim.cli.judge import main
from dreamsim.experience.judge import CRITERIA
from dreamsim.records.episode import Episode
from dreamsim.store.jsonl import read_jsonl, write_jsonl
from dreamsim.testing.world import Position, gold_path, layout_of, scripted_task
from tests.engines.models import byte_tokenizer, random_llama

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = 2


def dreamed() -> Episode:
    """The first steps of a solved task."""
    task = scripted_task(1)
    position = Position(layout_of(task))
    return Episode(
        id="e",
        run="r",
        task=task,
        repeat=0,
        source="dreamed",
        purpose="training",
        transitions=tuple(position.take_action(action) for action in gold_path(task)[:STEPS]),
        outcome="truncated",
    )


def test_a_model_in_this_process_judges_by_the_schema(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    model = byte_tokenizer(
        random_llama(tmp_path / "model", vocabulary=257, context=2048, end=256),  # writes nonsense by itself
        end="<end>",
    )
    write_jsonl(tmp_path / "episodes.jsonl", [dreamed()])
    (tmp_path / "judge.system.md").write_text("Judge.")
    (tmp_path / "judge.user.md").write_text("{action}")
    scores, scored = tmp_path / "scores.jsonl", tmp_path / "scored.jsonl"
    asked = [str(tmp_path / "episodes.jsonl"), str(scores), "--episodes", str(scored), "--concurrency", "2"]
    asked += ["--judge.model", str(model), "--judge.temperature", "1", "--judge.max-tokens", "1500"]
    assert main([*asked, "--attempts", "6", "--prompts", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    assert sorted(line["step"] for line in lines) == list(range(STEPS))
    assert {line[name] for line in lines for name in CRITERIA} <= {0, 1, 2}
    (kept,) = read_jsonl(scored)
    assert any(name.startswith("judge") for name in kept.quality)
