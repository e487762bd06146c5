"""The settings of `dreamsim train`: `train.*`.

In: text from flags, the environment and TOML files. Out: a section of `runtime.config`. Always: a combination that must
fail later is refused here, with what to change.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from dreamsim.records.weights import InFlight
from dreamsim.runtime.setting import Names, OptionalFloat, OptionalInt, Section, setting


class TrainSection(Section):
    """Training the policy: `dreamsim train` (docs/training.md)."""

    algorithm: Literal["grpo", "ppo"] = setting("grpo", "how it learns")
    steps: int = setting(20, "updates to make", unit="updates", ge=1)
    group_size: int = setting(16, "attempts at one task, compared with each other", unit="episodes", ge=1)
    minimum_group: OptionalInt = setting(
        None, "episodes without an error that a group needs to be learned from; default: 2 for grpo, 1 for ppo", ge=1
    )
    group_deadline_s: OptionalFloat = setting(
        None, "time from a group's first finished episode after which the others are not waited for", unit="s", gt=0
    )
    groups: int = setting(24, "tasks an update learns from", unit="groups", ge=1)
    lag: int = setting(0, "rounds that may be played ahead of the trainer; 0 is strictly on-policy", ge=0)
    in_flight: InFlight = setting(
        "drain",
        "requests being answered when new weights come: finished before, gone on with by the new ones, or begun again",
    )
    learning_rate: OptionalFloat = setting(
        None, "of AdamW; default: 5e-4 for models below 50 million weights, 1e-6 above, 1e-5 with LoRA", gt=0
    )
    warmup: int = setting(4, "optimizer steps of linear warm-up", ge=0)
    decay: OptionalInt = setting(
        None,
        "updates at the end in which the learning rate falls, linearly and nearly to 0; default: half of train.steps",
        unit="updates",
        ge=0,
    )
    epochs: int = setting(1, "passes over the episodes of an update", ge=1)
    minibatches: int = setting(4, "optimizer steps of a pass", ge=1)
    target_kl: OptionalFloat = setting(
        None, "learn no further from an update once the policy has moved so far; default: no limit", unit="nats", gt=0
    )
    normalisation: Literal["token", "sequence", "constant", "auto"] = setting(
        "auto", "how tokens are weighed; `auto`: sequence for grpo, token for ppo"
    )
    clip_low: float = setting(0.2, "the probability ratio may fall to 1 - this", gt=0, lt=1)
    clip_high: float = setting(0.28, "the probability ratio may rise to 1 + this (DAPO, arXiv 2503.14476)", gt=0)
    kl_coefficient: float = setting(0.0, "weight of KL(policy || first policy); 0 keeps no reference", ge=0)
    kl_estimator: Literal["k1", "k2", "k3"] = setting("k3", "its estimator")
    entropy_coefficient: float = setting(0.0, "weight of the entropy bonus", ge=0)
    step_advantages: float = setting(1.0, "grpo: weight of GiGPO's step advantages (arXiv 2505.10978)", ge=0)
    normalise_advantages: bool = setting(True, "grpo: divide by the group's standard deviation (no: Dr. GRPO)")
    gamma: float = setting(
        0.95,
        "discount from one step to the next; for ppo below 1, or running out of steps costs nothing (docs/trainers.md)",
        ge=0,
        le=1,
    )
    lam: float = setting(0.95, "ppo: lambda of GAE", ge=0, le=1)
    lora_rank: OptionalInt = setting(None, "train a LoRA adapter of this rank; default: the whole model", ge=1, le=512)
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, more time")
    mixed_precision: Literal["no", "bf16"] = setting("bf16", "type that the trainer computes in")
    micro_tokens: OptionalInt = setting(
        None,
        "tokens of one forward pass, padding included; bounds memory. Default: 16384, on a CPU 4096, which pads less",
        unit="tokens",
        ge=16,
    )
    max_tokens: OptionalInt = setting(None, "longer episodes are left out", unit="tokens", ge=16)
    threads: OptionalInt = setting(None, "threads of the trainer on a CPU; default: all cores", unit="threads", ge=1)
    real_share: Names = setting(
        ("0",), "share of groups played in the real environment, with a schedule: 0.1, or SHARE,UPDATE:SHARE as 0,40:1"
    )
    max_real_transitions: OptionalInt = setting(
        None, "real transitions training may make, evaluations apart", unit="transitions", ge=0
    )
    evaluate_every: int = setting(5, "updates from one evaluation to the next", unit="updates", ge=1)
    evaluate_games: int = setting(
        90, "held-out real games of an evaluation; 0: none, and no best weights", unit="games", ge=0
    )
    evaluate_fold: Literal["train", "dev"] = setting("dev", "their fold; the test fold chooses nothing")
    save_every: int = setting(1, "updates from one checkpoint to the next", unit="updates", ge=1)
    log: Names = setting(
        ("tensorboard",), "where metrics go beside metrics.jsonl: tensorboard, wandb, trackio; empty for nowhere"
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.algorithm == "grpo" and self.group_size < 2:
            raise ValueError("train.group_size must be at least 2 for grpo: one attempt is compared with nothing")
        if self.minimum_group is not None and self.minimum_group > self.group_size:
            raise ValueError(
                f"train.minimum_group = {self.minimum_group} is more than the {self.group_size} episodes of a group "
                "(train.group_size): no group could ever be learned from"
            )
        if self.minimum_group == 1 and self.algorithm == "grpo":
            raise ValueError("train.minimum_group must be at least 2 for grpo: one attempt is compared with nothing")
        if self.decay is not None and self.decay > self.steps:
            raise ValueError(f"train.decay = {self.decay} is more than train.steps = {self.steps}: it has no beginning")
        unknown = [name for name in self.log if name not in ("tensorboard", "wandb", "trackio")]
        if unknown:
            raise ValueError(f"train.log: there is no '{unknown[0]}'; there are tensorboard, wandb and trackio")
        return self
