"""Training on ready-made samples: that it learns, goes on where it stopped, and writes what others load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError
from dreamsim_trainers.causal_lm import LoraShape, Order, Padding, TinyShape, TrainSettings, tiny_model, train
from dreamsim_trainers.experience_data import IGNORED, Sample
from tests.engines.models import byte_tokenizer

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
SHAPE = TinyShape(hidden_size=32, layers=1, heads=1, intermediate_size=32, induction=False)
SAMPLES = [
    Sample(
        input_ids=np.resize(np.arange(5 + number, 12 + number, dtype=np.int32), 20 + number),
        labels=np.concatenate([np.full(8, IGNORED), np.resize(np.arange(5 + number, 12 + number), 20 + number)[8:]]),
    )
    for number in range(12)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import PreTrainedTokenizerFast

    path = byte_tokenizer(tmp_path_factory.mktemp("tokenizer"), end="<end>")
    loaded = PreTrainedTokenizerFast.from_pretrained(path)
    loaded.pad_token = "<end>"
    return loaded


def settings(output: Path, steps: int, **changes: Any) -> TrainSettings:
    given: dict[str, Any] = {"learning_rate": 1e-2, "warmup_steps": 1, "log_steps": 1, "threads": 1, **changes}
    return TrainSettings(output=output, steps=steps, batch_size=4, **given)


def model() -> Any:
    return tiny_model(272, SHAPE, pad_token_id=256, end_token_id=256, seed=0)


def weights(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(directory / "model.safetensors"))


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_a_batch_is_padded_to_a_multiple_of_32_and_loses_nothing(lengths: Sequence[int]) -> None:
    rows = [{"input_ids": list(range(1, length + 1)), "labels": list(range(length))} for length in lengths]
    batch = Padding(pad_token_id=7)(rows)
    longest = -(-max(lengths) // 32) * 32
    assert batch["input_ids"].shape == batch["labels"].shape == (len(lengths), longest)
    for row, length in enumerate(lengths):
        assert batch["input_ids"][row].tolist() == [*range(1, length + 1), *[7] * (longest - length)]
        assert batch["labels"][row].tolist() == [*range(length), *[IGNORED] * (longest - length)]


def test_padding_does_not_change_the_loss() -> None:
    row = {"input_ids": list(range(5, 25)), "labels": [*[IGNORED] * 5, *range(10, 25)]}
    alone = {name: torch.tensor([ids]) for name, ids in row.items()}
    with torch.no_grad():
        assert torch.allclose(model()(**alone).loss, model()(**Padding(pad_token_id=0)([row])).loss, atol=1e-5)


def test_thirty_steps_teach_a_tiny_model_its_data_and_leave_a_checkpoint(tmp_path: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM

    given = settings(tmp_path / "out", 30, provenance={"command": "as told"})
    assert train(model(), tokenizer, SAMPLES, given) == tmp_path / "out"
    batch = Padding(pad_token_id=0)([{"input_ids": s.input_ids, "labels": s.labels} for s in SAMPLES])
    with torch.no_grad():
        before = float(model()(**batch).loss)
        after = float(AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)(**batch).loss)
    assert after < 0.5 * before
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["command"] == "as told"
    assert told["samples"] == len(SAMPLES)
    assert told["final_loss"] == pytest.approx(after, rel=0.5)


@given(samples=st.integers(1, 40), batch_size=st.integers(1, 8), steps=st.integers(1, 30), seed=st.integers(0, 9))
def test_every_sample_is_shown_before_any_is_shown_again(samples: int, batch_size: int, steps: int, seed: int) -> None:
    order = Order(lengths=list(range(samples)), batch_size=batch_size, steps=steps, seed=seed)
    shown = list(order)
    assert shown == list(order)
    assert len(shown) == len(order) == steps * batch_size
    for begin in range(0, len(shown), samples):
        epoch = shown[begin : begin + samples]
        assert len(set(epoch)) == len(epoch)


class InterruptionError(Exception):
    """Stands for whatever ends a training."""


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(model(), tokenizer, SAMPLES, settings(tmp_path / "whole", 7, save_steps=2))
    batches = 0

    def failing(self: Padding, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        nonlocal batches
        batches += 1
        if batches > 5:
            raise InterruptionError
        return padded(self, rows)

    padded = Padding.__call__
    parts = settings(tmp_path / "parts", 7, save_steps=2)
    with monkeypatch.context() as patched:
        patched.setattr(Padding, "__call__", failing)
        with pytest.raises(InterruptionError):
            train(model(), tokenizer, SAMPLES, parts)
    assert not (parts.output / "model.safetensors").exists()
    resumed = train(model(), tokenizer, SAMPLES, parts)
    assert json.loads((resumed / "training" / "checkpoint-7" / "trainer_state.json").read_text())["global_step"] == 7
    one, other = weights(whole), weights(resumed)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_lora_leaves_the_model_alone_and_is_an_adapter_of_its_own(tmp_path: Path, tokenizer: Any) -> None:
    from peft import PeftModel

    from dreamsim.engines.vllm_settings import lora_rank

    base = model()
    base.save_pretrained(tmp_path / "base")
    output = train(base, tokenizer, SAMPLES, settings(tmp_path / "lora", 3, lora=LoraShape(rank=4, alpha=8)))
    assert lora_rank("one", output) == 4
    assert not (output / "model.safetensors").exists()
    again = PeftModel.from_pretrained(model(), str(output))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        adapted = again(input_ids=ids).logits
        with again.disable_adapter():
            plain = again(input_ids=ids).logits
        assert torch.equal(plain, model()(input_ids=ids).logits)
    assert not torch.allclose(adapted, plain)


def test_nothing_to_train_on_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match="nothing to train on"):
        train(model(), tokenizer, [], settings(tmp_path, 1))


@pytest.mark.parametrize("text", ["", "256,4,4", "256,4,4,x", "1,2,3,4,5"])
def test_a_shape_is_four_numbers(text: str) -> None:
    assert TinyShape.parse("32,2,1,64") == TinyShape(hidden_size=32, layers=2, heads=1, intermediate_size=64)
    with pytest.raises(ConfigurationError, match="four whole numbers"):
        TinyShape.parse(text)


def test_a_width_that_its_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiple of heads"):
        tiny_model(50, TinyShape(hidden_size=30, heads=4), pad_token_id=0, end_token_id=1, seed=0)
