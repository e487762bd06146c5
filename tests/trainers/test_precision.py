"""What is trained is float32 under bfloat16 autocast, whatever type a checkpoint was loaded in (on a GPU: its own)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dreamsim_trainers import causal_lm, dpo
from dreamsim_trainers.causal_lm import LoraShape, TrainSettings, train
from dreamsim_trainers.dpo import DpoTraining, train_dpo
from tests.engines.models import byte_tokenizer
from tests.trainers.test_baselines import _policy, good_and_bad
from tests.trainers.test_causal_lm import SAMPLES, model

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

LORAS = pytest.mark.parametrize("lora", [None, LoraShape(rank=2, alpha=4)], ids=["full", "lora"])


class Types:
    """What types weights had while they were trained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.trained: set[Any] = set()
        self.frozen: set[Any] = set()
        self.reference: set[Any] = set()
        self.autocast: set[Any] = set()
        make = module._trainer_class

        def watched(*arguments: Any) -> Any:
            seen = self

            class Watched(make(*arguments)):  # type: ignore[misc]  # trl has no types
                def training_step(self, *rest: Any, **named: Any) -> Any:
                    for one in self.model.parameters():
                        (seen.trained if one.requires_grad else seen.frozen).add(one.dtype)
                    reference = getattr(self, "ref_model", None)
                    seen.reference |= {one.dtype for one in reference.parameters()} if reference else set()
                    seen.autocast.add(self.accelerator.mixed_precision)
                    return super().training_step(*rest, **named)

            return Watched

        monkeypatch.setattr(module, "_trainer_class", watched)


def settings(output: Path, lora: LoraShape | None) -> TrainSettings:
    return TrainSettings(output=output, steps=1, batch_size=2, warmup_steps=0, threads=1, lora=lora)


@LORAS
def test_supervised_training_of_a_model_loaded_in_bfloat16(
    lora: LoraShape | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(byte_tokenizer(tmp_path, end="<end>"))
    tokenizer.pad_token = "<end>"
    types = Types(monkeypatch, causal_lm)
    train(model().bfloat16(), tokenizer, SAMPLES, settings(tmp_path / "out", lora))
    assert types.trained == {torch.float32}
    assert types.frozen == ({torch.bfloat16} if lora else set())
    assert types.autocast == {"bf16"}


@LORAS
def test_preferences_of_a_model_loaded_in_bfloat16(
    lora: LoraShape | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = Types(monkeypatch, dpo)
    start = _policy(tmp_path / "start")

    def load_in_bfloat16(name: str) -> Any:
        return load(name).bfloat16()

    load = causal_lm.load_for_training
    monkeypatch.setattr(dpo, "load_for_training", load_in_bfloat16)
    monkeypatch.setattr("dreamsim_trainers.experience_model.load_for_training", load_in_bfloat16)
    train_dpo(good_and_bad(), DpoTraining(model=start, train=settings(tmp_path / "out", lora)))
    assert types.trained == {torch.float32}
    # the reference computes as the policy does, so that they agree before the first step
    assert types.reference == (set() if lora else {torch.float32})
    assert types.autocast == {"bf16"}
