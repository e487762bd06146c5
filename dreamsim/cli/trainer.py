"""The trainer of `dreamsim train`: made from settings, joined to the policy's engine.

In: settings, the policy's engine. Out: a trainer, who takes its weights, what stands beside weights that are kept.
Always: what the trainer learns from is what the engine samples: the same weights, the same temperature.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from dreamsim.cli.engines import TRAINED, model_source, tokenizer_source
from dreamsim.cli.models import Player
from dreamsim.engines.adapted import AdaptedEngine, AdapterEngine
from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim.protocols import LogprobScorer, Trainer, WeightsReceiver
from dreamsim.runtime.config import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dreamsim_trainers.optimisation import OptimiserSettings

SMALL = 50_000_000
"""Weights below which a model is small, and takes larger steps."""
TOKENIZER_FILES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template", "spiece")
"""How the names of a tokenizer's files begin."""
MICRO_TOKENS, MICRO_TOKENS_CPU = 16_384, 4096
"""Tokens of a forward pass. A CPU needs few to be busy, and rows of near lengths pad each other less."""
RATE_SMALL, RATE_LORA, RATE = 5e-4, 1e-5, 1e-6


class MadeTrainer(Trainer, LogprobScorer, Protocol):
    """A trainer that can be compared with an engine."""


def let_others_compute(settings: Settings) -> None:
    """Have threads that wait for each other sleep, where trainer and engines share the cores at the same time.

    Call it before torch is imported, whose OpenMP reads the environment once. Spinning, two threads of a trainer beside
    an engine cost nearly twice the processor time (docs/log.md).
    """
    if settings.train.lag:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_trainer(settings: Settings) -> MadeTrainer:
    """The trainer that the settings ask for, with the policy's weights. Blocks: loads a model.

    Raises:
        UsageError: a package is missing, or the model cannot be trained.
    """
    train, policy = settings.train, settings.policy
    check_trainable(settings)
    try:
        import torch

        from dreamsim_trainers.causal_lm import LoraShape, load_for_training
        from dreamsim_trainers.grpo import GrpoSettings, GrpoTrainer
        from dreamsim_trainers.ppo import PpoSettings, PpoTrainer
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", extra="train", purpose="dreamsim train") from error
    torch.set_num_threads(train.threads or len(os.sched_getaffinity(0)))
    source = model_source(policy, "policy")
    model = load_for_training(source)
    shared: dict[str, Any] = {
        "clip_low": train.clip_low,
        "clip_high": train.clip_high,
        "kl_coefficient": train.kl_coefficient,
        "kl_estimator": train.kl_estimator,
        "entropy_coefficient": train.entropy_coefficient,
        "temperature": policy.temperature,
        "lora": None if train.lora_rank is None else LoraShape(rank=train.lora_rank, alpha=2 * train.lora_rank),
        "gradient_checkpointing": train.gradient_checkpointing,
        "optimiser": _optimiser(settings, model),
    }
    if train.normalisation != "auto":
        shared["normalisation"] = train.normalisation
    if train.algorithm == "ppo":
        return PpoTrainer(model, PpoSettings(gamma=train.gamma, lam=train.lam, **shared))
    grpo = GrpoSettings(
        normalise_advantages=train.normalise_advantages,
        step_advantages=train.step_advantages,
        gamma=train.gamma,
        **shared,
    )
    return GrpoTrainer(model, grpo)


def _optimiser(settings: Settings, model: PreTrainedModel) -> OptimiserSettings:
    import torch

    from dreamsim_trainers.optimisation import OptimiserSettings

    train = settings.train
    of_update = train.epochs * train.minibatches
    decay = train.steps // 2 if train.decay is None else train.decay
    return OptimiserSettings(
        learning_rate=train.learning_rate or _rate(settings, model),
        warmup_updates=train.warmup,
        decay_from=(train.steps - decay) * of_update,
        decay_updates=decay * of_update,
        epochs=train.epochs,
        minibatches=train.minibatches,
        target_kl=train.target_kl,
        micro_tokens=train.micro_tokens or (MICRO_TOKENS if torch.cuda.is_available() else MICRO_TOKENS_CPU),
        mixed_precision=train.mixed_precision,
        seed=settings.run.seed,
    )


def _rate(settings: Settings, model: PreTrainedModel) -> float:
    if settings.train.lora_rank is not None:
        return RATE_LORA
    return RATE_SMALL if model.num_parameters() < SMALL else RATE


def check_trainable(settings: Settings) -> None:
    """Refuse roles whose weights cannot be trained as they are set.

    Raises:
        ConfigurationError: they cannot; the message says what to change.
    """
    policy, lora = settings.policy, settings.train.lora_rank
    if policy.kind == "scripted":
        raise ConfigurationError("a scripted policy learns nothing: leave policy.engine out")
    if policy.kind == "http":
        raise ConfigurationError("weights cannot be sent to a server from here: leave policy.url out to train")
    if policy.top_p < 1:
        raise ConfigurationError(
            "policy.top_p below 1 makes the engine's log-probabilities those of another distribution: set it to 1"
        )
    if policy.samples > 1:
        raise ConfigurationError(
            "policy.samples above 1 hides from the trainer what the policy wrote in vain: set it to 1 to train"
        )
    if settings.one_engine and lora is None:
        raise ConfigurationError(
            "one engine serves policy and experience model, and the experience model would change with the policy: "
            "set run.shared = no, or train an adapter with train.lora_rank"
        )
    if policy.adapter is not None:
        raise ConfigurationError("policy.adapter would be neither trained nor merged: merge it into policy.model first")


def trained_player(settings: Settings, player: Player) -> Player:
    """The policy as it is trained: on its engine, or as an adapter of it."""
    if settings.train.lora_rank is None:
        return player
    return replace(player, engine=AdaptedEngine(cast("AdapterEngine", player.engine), TRAINED))


def receiver_of(player: Player) -> WeightsReceiver:
    """Who takes the weights of the policy.

    Raises:
        ConfigurationError: the engine takes none while it runs.
    """
    if not hasattr(player.engine, "load_weights"):
        raise ConfigurationError(f"{player.engine.name} takes no new weights while it runs: play the policy on vLLM")
    return cast("WeightsReceiver", player.engine)


def describe_weights(settings: Settings, player: Player, directory: Path) -> None:
    """Write beside weights what they are asked with: the tokenizer, and how they want to be prompted. Blocks.

    The tokenizer's files are copied where there are some: read and written by transformers, one of an own make (that of
    the tiny models) comes out as another one.
    """
    source = Path(tokenizer_source(settings.policy, "policy"))
    if source.is_dir():
        for path in sorted(source.iterdir()):
            if path.name.startswith(TOKENIZER_FILES):
                shutil.copyfile(path, directory / path.name)
    else:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(str(source), trust_remote_code=False).save_pretrained(str(directory))
    (directory / "dreamsim.json").write_text(json.dumps(dict(player.told), indent=1) + "\n", encoding="utf-8")


def missing_packages(names: Sequence[str]) -> list[str]:
    """Those of `names` that are not installed."""
    import importlib.util

    return [name for name in names if importlib.util.find_spec(name) is None]
