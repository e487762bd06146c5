"""LoRA adapters for both roles on one chat model, from training to how they are asked; the weights are random."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.cli import train_experience_model, train_policy
from dreamsim.cli.models import prepare
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.store.jsonl import write_jsonl
from tests.engines.models import random_chat_qwen2
from tests.trainers.played import several

pytest.importorskip("trl")
pytestmark = [pytest.mark.timeout(600), pytest.mark.may_block]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_chat_qwen2(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LoRA adapter for each role, trained by the commands."""
    directory = tmp_path_factory.mktemp("adapters")
    data = str(directory / "real.jsonl")
    write_jsonl(data, several(4))
    of_all = [data, "--model", str(base), "--lora-rank", "4", "--steps", "2", "--batch-size", "2", "--threads", "1"]
    of_all += ["--learning-rate", "0.05", "--warmup-steps", "1", "--max-tokens", "2000"]
    paths = {role: directory / role for role in ("policy", "experience")}
    assert train_policy.main([*of_all, "--output", str(paths["policy"])]) == 0
    told = ["--output", str(paths["experience"]), "--demonstrations", "0", "--answer-tokens", "32"]
    assert train_experience_model.main([*of_all, *told]) == 0
    return paths


def options(base: Path, adapters: dict[str, Path]) -> list[str]:
    """Of a run with both adapters on one engine; the policy is asked in the chat frame, if not trained so."""
    given = ["--vllm.kv_cache_gib", "0.25", "--vllm.max_num_seqs", "16", "--run.max_steps", "2"]
    for role, path in adapters.items():
        given += [f"--{role}.model", str(base), f"--{role}.adapter", str(path)]
    return [*given, "--policy.layout", "chat", "--policy.samples", "2", "--experience.samples", "2"]


def settings(*arguments: str) -> Settings:
    return load_settings(parse_arguments(arguments), {})


def test_an_adapter_is_asked_as_it_was_trained(base: Path, adapters: dict[str, Path]) -> None:
    given = settings(*options(base, adapters))
    playing, dreaming = prepare(given.policy, "policy"), prepare(given.experience, "experience")
    assert given.one_engine
    assert playing.trained["begin_action"] is True
    assert dreaming.trained["retrieve"] == "off"
    assert len(dreaming.frame.head) == len(dreaming.frame.tail) == 0  # trained without the frame
    assert playing.tokenizer.decode(playing.frame.head).startswith("<|im_start|>system\n")
    assert playing.tokenizer.decode(playing.frame.tail) == "<|im_end|>\n<|im_start|>assistant\n"


def test_training_an_adapter_says_how_to_use_it(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "real.jsonl", several(1))
    given = ["--model", str(base), "--steps", "1", "--batch-size", "1", "--output", str(tmp_path / "out")]
    train_policy.main([str(tmp_path / "real.jsonl"), *given, "--lora-rank", "2"])
    assert f"--policy.model {base} --policy.adapter {tmp_path / 'out'}" in capsys.readouterr().out
