"""What is refused before an engine is asked to load a checkpoint in place of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamsim.engines.checkpoints import check_interchangeable
from dreamsim.errors import ConfigurationError

PRESENT: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"], "hidden_size": 64, "vocab_size": 300, "dtype": "bf16"}


def checkpoint(path: Path, **changes: Any) -> Path:
    (path / "config.json").write_text(json.dumps({**PRESENT, **changes}))
    (path / "model.safetensors").write_bytes(b"")
    return path


def test_another_checkpoint_of_the_same_shape_is_taken(tmp_path: Path) -> None:
    check_interchangeable(checkpoint(tmp_path, dtype="float32", more=1), PRESENT)
    check_interchangeable(checkpoint(tmp_path, architectures=None), PRESENT)


def test_another_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="hidden_size 32 instead of 64, vocab_size 9 instead of 300"):
        check_interchangeable(checkpoint(tmp_path, hidden_size=32, vocab_size=9), PRESENT)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    (checkpoint(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="no complete checkpoint"):
        check_interchangeable(tmp_path, PRESENT)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no readable config\.json"):
        check_interchangeable(tmp_path / "nowhere", PRESENT)
