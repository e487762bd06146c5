"""GRPO: policy gradients whose baseline is the group, for agents of many steps; with GiGPO's step advantages if asked.

In: batches of trajectory groups. Out: new weights and `UpdateMetrics`.

One `step`, top to bottom: (1) returns of the episodes, compared within their groups; (2) groups that say nothing are
left out; (3) the advantage of an episode, plus that of its step where asked for, goes to every token of the agent; (4)
what the engine sampled is corrected for towards the trainer's own weights; (5) minibatches of episodes are learned from
with the clipped objective and a KL penalty.

Deviations from DeepSeekMath (arXiv 2402.03300) and DreamGym (arXiv 2511.03773):
1. The standard deviation is the population's, so that A = (r - mean) / sqrt(V) with V of DreamGym's Eq. 7.
2. Groups without variance are left out before normalising (DAPO, arXiv 2503.14476): N counts what is learned from.
3. `k1` as a KL estimator is taken off the advantage, since as a loss its gradient is zero on average.
4. Tokens are weighed by min(pi_old / mu, C), mu being the engine (truncated importance sampling).
5. A sequence is an episode, however many prompts it was laid out in; only the agent's tokens count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dreamsim.errors import ConfigurationError
from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.sample import TokenSample, Trajectory
from dreamsim.records.weights import WeightsUpdate
from dreamsim_trainers.advantages import anchor_advantages, discounted_returns, group_advantages
from dreamsim_trainers.causal_lm import LoraShape
from dreamsim_trainers.divergence import KlEstimator, kl_estimate
from dreamsim_trainers.losses import Normalisation, clipped, clipped_policy_loss, importance_weights, token_weights
from dreamsim_trainers.network import NetworkSettings, TokenOutputs
from dreamsim_trainers.optimisation import Learner, OptimiserSettings
from dreamsim_trainers.rows import rows_of
from dreamsim_trainers.tallies import Tallies

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoSettings:
    """The algorithm's settings; defaults as in verl-agent where it has them."""

    normalise_advantages: bool = True
    """Divide by the group's standard deviation; no: Dr. GRPO."""
    step_advantages: float = 0.0
    """Weight omega of GiGPO's step advantages; 0 is plain GRPO, 1 is GiGPO."""
    gamma: float = 0.95
    """Discount of the returns to go that step advantages compare."""
    normalisation: Normalisation = "sequence"
    """How tokens are weighed: `token`, `sequence` or `constant` (`losses.token_weights`)."""
    constant_tokens: float = 128.0
    """For `constant`: tokens that an episode is taken to have."""
    clip_low: float = 0.2
    """The ratio may fall to 1 - clip_low before its gradient goes."""
    clip_high: float = 0.2
    """The ratio may rise to 1 + clip_high before its gradient goes."""
    kl_coefficient: float = 0.01
    """Weight beta of KL(policy || first policy); 0 keeps no reference."""
    kl_estimator: KlEstimator = "k3"
    """k2 and k3 are part of the loss, k1 of the advantage."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    importance: Literal["truncated", "none"] = "truncated"
    """Whether tokens are weighed by pi_old / mu."""
    importance_limit: float = 2.0
    """C: greatest weight."""
    temperature: float = 1.0
    """The temperature that the engine samples with."""
    lora: LoraShape | None = None
    """Train an adapter only."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory, more time."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """How weights are changed."""

    def __post_init__(self) -> None:
        if not 0 < self.clip_low < 1 or self.clip_high <= 0:
            raise ConfigurationError("clip_low must be between 0 and 1, clip_high greater than 0")
        if self.importance_limit < 1:
            raise ConfigurationError("importance_limit below 1 would take weight from tokens the engine got right")
        if self.temperature <= 0:
            raise ConfigurationError("at temperature 0 a policy does not explore: nothing can be learned")


class GrpoTrainer:
    """A `dreamsim.protocols.Trainer`."""

    name = "grpo"

    def __init__(
        self, model: PreTrainedModel, settings: GrpoSettings, *, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """Take over `model`, which is changed in place; `tokenizer` is written beside published weights."""
        self.settings = settings
        self._tokenizer = tokenizer
        self._learner = Learner(
            model,
            settings.optimiser,
            NetworkSettings(
                lora=settings.lora,
                gradient_checkpointing=settings.gradient_checkpointing,
                temperature=settings.temperature,
            ),
            reference=settings.kl_coefficient > 0,
        )

    @property
    def version(self) -> int:
        """Batches learned from."""
        return self._learner.version

    def step(self, batch: Batch) -> UpdateMetrics:
        """Learn from `batch`; one whose groups all lack variance changes nothing but the version."""
        import torch

        begun = time.monotonic()
        learner, settings = self._learner, self.settings
        every = batch.trajectories
        episodes = episode_advantages(batch, settings)
        kept = [index for index, worth in enumerate(episodes) if worth.teaches]
        tallies = Tallies()
        if kept:
            trajectories = [every[index] for index in kept]
            rows = rows_of(trajectories)
            steps = torch.cat([episodes[index].of_steps for index in kept])
            worth = steps[torch.from_numpy(rows.step)].to(learner.device)
            behaviour = torch.from_numpy(rows.behaviour).to(learner.device)
            fresh = torch.from_numpy(rows.of_version(trajectories, self.version)).to(learner.device)
            # with a single update the weights of the update are the old ones, and one forward pass is spared
            single = settings.optimiser.epochs * settings.optimiser.minibatches == 1
            old = None if single else learner.evaluate(rows).logprobs
            reference = learner.evaluate(rows, reference=True).logprobs if settings.kl_coefficient else None
            for chosen in self.settings.optimiser.episodes_of_steps(len(trajectories), version=self.version):
                mine = np.flatnonzero(np.isin(rows.episode, chosen))
                weights = torch.zeros(len(rows.episode))
                weights[mine] = token_weights(
                    torch.from_numpy(rows.episode[mine]), settings.normalisation, constant=settings.constant_tokens
                )
                losses = _Loss(
                    settings=settings,
                    advantages=worth,
                    behaviour=behaviour,
                    fresh=fresh,
                    weights=weights.to(learner.device),
                    old=old,
                    reference=reference,
                    tallies=tallies,
                )
                rate = learner.learning_rate
                norm = learner.update(
                    rows, rows.rows_of_episodes(chosen), losses, entropy_gradient=settings.entropy_coefficient > 0
                )
                tallies.updated(gradient_norm=norm, learning_rate=rate)
                if settings.optimiser.far_enough(tallies.kl_of_update):
                    break
            tallies.learned(rows, advantages=worth)
        staleness = learner.version - batch.oldest_version
        learner.version += 1
        return tallies.metrics(
            batch,
            version=learner.version,
            staleness=staleness,
            teaching_share=len(kept) / len(every),
            seconds=time.monotonic() - begun,
        )

    def logprobs(self, samples: Sequence[TokenSample]) -> NDArray[np.float32]:
        """What the weights of now think of the agent's tokens, shape [agent tokens]; for `flow.agreement`."""
        return self._learner.logprobs(samples)

    def publish(self, directory: Path) -> WeightsUpdate:
        """Write the weights for an engine."""
        return self._learner.publish(directory, self._tokenizer)

    def save(self, directory: Path) -> None:
        """Write everything that `load` needs."""
        self._learner.save(directory, {"algorithm": self.name, "settings": self.settings})

    def load(self, directory: Path) -> None:
        """Go on from what was saved. The reference is the model this trainer was made with.

        Raises:
            ConfigurationError: saved by another algorithm or with other settings.
        """
        self._learner.load(directory, {"algorithm": self.name, "settings": self.settings})


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeAdvantage:
    """What one episode is worth."""

    of_steps: torch.Tensor
    """Shape [steps]: the advantage of every token of a step."""
    teaches: bool
    """Whether its group (or a group of its steps) has any variance."""


def episode_advantages(batch: Batch, settings: GrpoSettings) -> list[EpisodeAdvantage]:
    """A(step) = A(episode) + omega A(step among those taken in the same state), for all of `batch.trajectories`.

    GRPO's advantage (arXiv 2402.03300) plus, weighted, GiGPO's (arXiv 2505.10978).
    """
    import torch

    every = batch.trajectories
    returns = torch.tensor([one.total_reward for one in every], dtype=torch.float64)
    groups = torch.tensor(batch.group_index)
    found = group_advantages(returns, groups, normalise=settings.normalise_advantages)
    steps = [torch.full((len(one.rewards),), float(found.advantages[index])) for index, one in enumerate(every)]
    teaches = found.informative.tolist()
    if settings.step_advantages:
        togo = torch.cat([discounted_returns(torch.from_numpy(one.rewards).double(), settings.gamma) for one in every])
        compared = anchor_advantages(togo, _anchor_numbers(every), normalise=settings.normalise_advantages)
        lengths = [len(one.rewards) for one in every]
        pieces = zip(torch.split(compared.advantages, lengths), torch.split(compared.informative, lengths), strict=True)
        for index, (advantage, informative) in enumerate(pieces):
            steps[index] = steps[index] + settings.step_advantages * advantage.float()
            teaches[index] = teaches[index] or bool(informative.any())
    return [EpisodeAdvantage(of_steps=one, teaches=useful) for one, useful in zip(steps, teaches, strict=True)]


def _anchor_numbers(trajectories: tuple[Trajectory, ...]) -> torch.Tensor:
    """The same number for steps of one task taken in the same state."""
    import torch

    numbers: dict[tuple[str, str], int] = {}
    pairs = [(one.task_key, state) for one in trajectories for state in one.anchors]
    return torch.tensor([numbers.setdefault(pair, len(numbers)) for pair in pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """The loss of some tokens of a minibatch, in sums."""

    settings: GrpoSettings
    advantages: torch.Tensor
    behaviour: torch.Tensor
    fresh: torch.Tensor
    weights: torch.Tensor
    old: torch.Tensor | None
    reference: torch.Tensor | None
    tallies: Tallies

    def __call__(self, said: TokenOutputs, tokens: NDArray[Any]) -> torch.Tensor:
        import torch

        settings = self.settings
        at = torch.from_numpy(tokens).to(said.logprobs.device)
        new, weights = said.logprobs, self.weights[at]
        old = new.detach() if self.old is None else self.old[at]
        advantages = self.advantages[at]
        kl = None if self.reference is None else kl_estimate(new, self.reference[at], settings.kl_estimator)
        if kl is not None and settings.kl_estimator == "k1":
            advantages = advantages - settings.kl_coefficient * kl.detach()
        limit = settings.importance_limit if settings.importance == "truncated" else None
        importance = torch.ones_like(new)
        if limit is not None:
            importance = importance_weights(old, self.behaviour[at], truncate=limit)
        bounds = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
        policy = weights * importance * clipped_policy_loss(new, old, advantages, **bounds)
        loss = policy.sum() - settings.entropy_coefficient * (weights * said.entropy).sum()
        if kl is not None and settings.kl_estimator != "k1":
            loss = loss + settings.kl_coefficient * (weights * kl).sum()
        self.tallies.loss += float(loss.detach())
        self.tallies.policy_loss += float(policy.detach().sum())
        self.tallies.tokens(
            new=new,
            old=old,
            behaviour=self.behaviour[at],
            fresh=self.fresh[at],
            importance=importance,
            limit=limit,
            entropy=said.entropy,
            kl=kl,
            clipped=clipped(new, old, advantages, **bounds),
        )
        return loss
