"""SFT and DPO: the data they are given, and that a few steps of each move a tiny policy the right way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dreamsim.agents.language_model import PolicySettings
from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim.testing.decisions import decided_episode, decided_task
from dreamsim.testing.world import scripted_task
from tests.trainers.played import played, several

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers.causal_lm import TinyShape, TrainSettings
from dreamsim_trainers.demonstrations import demonstration_samples, preference_pairs
from dreamsim_trainers.dpo import DpoTraining, PairPadding, _row, train_dpo
from dreamsim_trainers.experience_data import IGNORED
from dreamsim_trainers.sft import SftTraining, train_sft

TOKENIZER = ByteTokenizer()
GROWING = PolicySettings(window=None, begin_action=True)
WINDOWED = PolicySettings(window=2)


def good_and_bad(count: int = 2) -> list[Episode]:
    """For each task the gold path and one that gives up."""
    tasks = [scripted_task(seed, fold="train") for seed in range(count)]
    return [
        episode
        for task in tasks
        for episode in (played(task), played(task, ["eat the moon", "dance", "sing"], repeat=1))
    ]


def decided(sample_ids: object, labels: object) -> str:
    ids, marked = np.asarray(sample_ids), np.asarray(labels) != IGNORED
    return TOKENIZER.decode(ids[marked].astype(np.int32))


def test_what_a_language_model_wrote_is_imitated_token_by_token() -> None:
    episode = decided_episode(3, steps=3)
    (sample,) = demonstration_samples(episode, TOKENIZER, GROWING, max_tokens=1000)
    written = [
        step.decision.completion.token_ids for step in episode.transitions if step.decision and step.decision.completion
    ]
    assert np.array_equal(sample.input_ids[sample.labels != IGNORED], np.concatenate(written))
    assert np.array_equal(sample.labels[sample.labels != IGNORED], np.concatenate(written))


def test_what_another_policy_did_is_laid_out_by_the_prompt() -> None:
    episode = several(1)[0]
    (sample,) = demonstration_samples(episode, TOKENIZER, GROWING, max_tokens=100_000)
    actions = "".join(f"{step.action}\n<end>" for step in episode.transitions)
    assert decided(sample.input_ids, sample.labels) == actions


def test_a_pair_is_a_success_and_a_failure_of_one_task() -> None:
    pairs = preference_pairs(good_and_bad(3), TOKENIZER, GROWING, max_tokens=100_000)
    assert len({pair.task_key for pair in pairs}) == len(pairs) == 3
    for pair in pairs:
        assert "dance" in decided(pair.rejected.input_ids, pair.rejected.labels)
        assert "dance" not in decided(pair.chosen.input_ids, pair.chosen.labels)


def test_with_a_prompt_for_each_step_the_pair_is_the_first_decision_that_differs() -> None:
    (pair,) = preference_pairs(good_and_bad(1), TOKENIZER, WINDOWED, max_tokens=100_000)
    first = int(np.argmax(pair.chosen.labels != IGNORED))
    assert np.array_equal(pair.chosen.input_ids[:first], pair.rejected.input_ids[:first])
    assert "dance" in decided(pair.rejected.input_ids, pair.rejected.labels)  # both ate the moon before


def test_tasks_without_both_and_errors_give_no_pair_and_the_number_of_pairs_is_bounded() -> None:
    task = decided_task()
    made = [decided_episode(seed, task=task, repeat=seed, outcome="success") for seed in range(3)]
    assert preference_pairs(made, TOKENIZER, GROWING) == []
    made += [decided_episode(9, task=task, repeat=9, outcome="error")]
    assert preference_pairs(made, TOKENIZER, GROWING) == []
    made += [decided_episode(seed, task=task, repeat=seed, outcome="failure") for seed in range(4, 7)]
    assert len(preference_pairs(made, TOKENIZER, GROWING, per_task=100)) == 9
    assert len(preference_pairs(made, TOKENIZER, GROWING, per_task=2)) == 2


def test_padding_puts_chosen_before_rejected_and_masks_all_but_decisions() -> None:
    pairs = preference_pairs(good_and_bad(2), TOKENIZER, GROWING, max_tokens=100_000)
    made = PairPadding(pad_token_id=0)([_row(pair) for pair in pairs])
    for place, pair in enumerate(pairs):
        for row, side in ((place, pair.chosen), (place + len(pairs), pair.rejected)):
            length = len(side.input_ids)
            assert np.array_equal(made["input_ids"][row, :length].numpy(), side.input_ids)
            assert np.array_equal(made["completion_mask"][row, :length].numpy(), side.labels != IGNORED)
            assert int(made["attention_mask"][row].sum()) == length
            assert not made["completion_mask"][row, length:].any()


def _policy(directory: Path) -> str:
    """An untrained checkpoint whose words are those of the episodes."""
    from dreamsim_trainers.experience_model import model_and_tokenizer

    settings = TrainSettings(output=directory, steps=1, seed=1)
    shape = TinyShape(hidden_size=32, layers=2, heads=2, intermediate_size=32, induction=False)
    directory.mkdir()
    model, _ = model_and_tokenizer(good_and_bad(), "tiny", shape, settings)
    model.save_pretrained(str(directory))
    return str(directory)


def _margin(directory: str) -> float:
    """How much likelier the actions of the good episodes are than those of the bad ones, a token."""
    from transformers import AutoModelForCausalLM

    from dreamsim.engines.tokenizers import load_tokenizer

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    pairs = preference_pairs(good_and_bad(), load_tokenizer(directory), GROWING)

    def mean(side: object) -> float:
        ids = torch.from_numpy(side.input_ids).long()  # type: ignore[attr-defined]
        with torch.no_grad():
            logprobs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        places = np.flatnonzero(side.labels != IGNORED)  # type: ignore[attr-defined]
        return float(np.mean([logprobs[place - 1, ids[place]].item() for place in places]))

    return float(np.mean([mean(pair.chosen) - mean(pair.rejected) for pair in pairs]))


def test_a_few_steps_of_sft_and_dpo_make_successes_likelier_than_failures(tmp_path: Path) -> None:
    start = _policy(tmp_path / "start")
    common = {"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 1, "log_steps": 3, "threads": 1}
    sft = train_sft(
        good_and_bad(),
        SftTraining(model=start, train=TrainSettings(output=tmp_path / "sft", **common)),  # type: ignore[arg-type]
    )
    dpo = train_dpo(
        good_and_bad(),
        DpoTraining(model=start, train=TrainSettings(output=tmp_path / "dpo", **common)),  # type: ignore[arg-type]
    )
    before = _margin(start)
    assert _margin(str(sft)) > before
    assert _margin(str(dpo)) > before
    for output, kind in ((sft, "sft"), (dpo, "dpo")):
        told = json.loads((output / "provenance.json").read_text())
        assert told["kind"] == kind
        assert told["real_steps"] == sum(len(episode.transitions) for episode in good_and_bad())
        assert (output / "dreamsim.json").is_file()


def test_what_must_not_be_learned_from_is_refused(tmp_path: Path) -> None:
    settings = TrainSettings(output=tmp_path / "out", steps=1)
    with pytest.raises(ConfigurationError, match="fold 'test'"):
        train_sft(several(1, fold="test"), SftTraining(model="none", train=settings))
    with pytest.raises(ConfigurationError, match="fold 'test'"):
        train_dpo(several(1, fold="test"), DpoTraining(model="none", train=settings))
    failed = [played(scripted_task(0, fold="train"), ["dance"])]
    with pytest.raises(ConfigurationError, match="no successful episode"):
        train_sft(failed, SftTraining(model="none", train=settings))
