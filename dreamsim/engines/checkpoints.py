"""Looks at a checkpoint before an engine loads it: a wrong one would kill the engine or leave it half loaded.

In: a directory, and the configuration of the model that is to be replaced. Out: nothing, or a refusal.
Always: nothing is loaded; only what makes two checkpoints interchangeable is compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dreamsim.errors import ConfigurationError

COMPARED: Final = (
    "architectures",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)


def check_interchangeable(path: Path, present: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that cannot take the place of a model. Blocks: reads files.

    Args:
        path: directory of the checkpoint.
        present: configuration of the model that is to be replaced, as in `config.json`.

    Raises:
        ConfigurationError: it is not complete, or of another shape.
    """
    try:
        told = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no checkpoint: it has no readable config.json ({error})") from error
    if not any(path.glob("*.safetensors")):
        raise ConfigurationError(f"{path} is no complete checkpoint: it holds no *.safetensors")
    known = [name for name in COMPARED if None not in (told.get(name), present.get(name))]
    differing = [name for name in known if told[name] != present[name]]
    if differing:
        said = ", ".join(f"{name} {told[name]} instead of {present[name]}" for name in differing)
        raise ConfigurationError(f"{path} cannot take the place of the model that runs: {said}")
