"""PPO: policy gradients whose baseline is a learned value, for agents of many steps.

In: batches of trajectories (their groups do not matter). Out: new weights and `UpdateMetrics`.

One `step`, top to bottom: (1) values of what stood before every token of the agent, by the critic as it is; (2) rewards
at the last token of each step; (3) GAE, which looks on after truncation and ends at termination; (4) advantages are
whitened; (5) minibatches of episodes are learned from with the clipped objective, the clipped value loss and a KL term.

Time and discount: tokens are the steps of the decision process, but time passes between steps of the environment only:
`gamma` and `lam` count at the last token of a step, inside a step both are 1. The advantage of a step's first token is
then that of GAE over environment steps (Eq. in arXiv 2511.03773, section 2), and tokens of one action share its credit.

Deviations from PPO (arXiv 1707.06347) and DreamGym (arXiv 2511.03773):
1. The critic is a linear head on the policy's last hidden state; its loss trains the whole network unless
   `detach_critic`.
2. What the environment says is no action: no loss, no value, no discount falls on it.
3. Truncated episodes need their continuation (`flow.batches.continuation_of`); without one they are refused, since a
   made-up value of 0 would punish every episode that merely ran out of steps.
4. Tokens are weighed by min(pi_old / mu, C), mu being the engine (truncated importance sampling).
5. `k1` as a KL estimator is taken off the rewards, token by token (as in InstructGPT, arXiv 2203.02155, Eq. 2).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.sample import TokenSample, Trajectory
from dreamsim.records.weights import WeightsUpdate
from dreamsim_trainers.advantages import ValueTargets, generalized_advantages, whitened
from dreamsim_trainers.causal_lm import LoraShape
from dreamsim_trainers.divergence import KlEstimator, kl_estimate
from dreamsim_trainers.losses import (
    Normalisation,
    clipped,
    clipped_policy_loss,
    clipped_value_loss,
    importance_weights,
    token_weights,
)
from dreamsim_trainers.network import NetworkSettings, TokenOutputs
from dreamsim_trainers.optimisation import Learner, OptimiserSettings
from dreamsim_trainers.rows import TokenRows, bare_rows, rows_of
from dreamsim_trainers.tallies import Tallies

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings:
    """The algorithm's settings."""

    gamma: float = 0.95
    """Discount from one environment step to the next. At 1 a truncated episode is worth what it was worth before:
    waiting costs nothing, a mistake that ends the task does, and a policy learns to do nothing."""
    lam: float = 0.95
    """Lambda of GAE from one environment step to the next; 1 inside a step."""
    whiten: bool = True
    """Advantages to mean 0 and deviation 1 over a batch's tokens."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    value_clip: float | None = 0.2
    """How far a value may move in one batch; None is no limit."""
    detach_critic: bool = False
    """Whether the value loss trains the head alone and leaves the policy's layers as they are."""
    normalisation: Normalisation = "token"
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
    """k2 and k3 are part of the loss, k1 of the rewards."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    importance: Literal["truncated", "none"] = "truncated"
    """Whether tokens are weighed by pi_old / mu."""
    importance_limit: float = 2.0
    """C: greatest weight."""
    temperature: float = 1.0
    """The temperature that the engine samples with."""
    lora: LoraShape | None = None
    """Train an adapter (and the value head) only."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory, more time."""
    optimiser: OptimiserSettings = field(default_factory=lambda: OptimiserSettings(minibatches=4))
    """How weights are changed."""

    def __post_init__(self) -> None:
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise ConfigurationError("gamma and lam must be from 0 to 1")
        if not 0 < self.clip_low < 1 or self.clip_high <= 0:
            raise ConfigurationError("clip_low must be between 0 and 1, clip_high greater than 0")
        if self.importance_limit < 1:
            raise ConfigurationError("importance_limit below 1 would take weight from tokens the engine got right")
        if self.temperature <= 0:
            raise ConfigurationError("at temperature 0 a policy does not explore: nothing can be learned")


class PpoTrainer:
    """A `dreamsim.protocols.Trainer`."""

    name = "ppo"

    def __init__(
        self, model: PreTrainedModel, settings: PpoSettings, *, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """Take over `model`, which is changed in place; `tokenizer` is written beside published weights."""
        self.settings = settings
        self._tokenizer = tokenizer
        self._learner = Learner(
            model,
            settings.optimiser,
            NetworkSettings(
                lora=settings.lora,
                critic=True,
                detach_critic=settings.detach_critic,
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
        """Learn from `batch`.

        Raises:
            UsageError: a truncated episode came without its continuation.
        """
        import torch

        begun = time.monotonic()
        learner, settings = self._learner, self.settings
        trajectories = batch.trajectories
        rows = rows_of(trajectories)
        before = learner.evaluate(rows)
        reference = learner.evaluate(rows, reference=True).logprobs if settings.kl_coefficient else None
        penalty = None
        if reference is not None and settings.kl_estimator == "k1":
            penalty = settings.kl_coefficient * kl_estimate(before.logprobs, reference, "k1")
        old_values = _values(before)
        targets = self._targets(trajectories, rows, old_values, penalty)
        advantages = targets.advantages
        if settings.whiten:
            advantages = whitened(advantages, torch.ones_like(advantages, dtype=torch.bool))
        tallies = Tallies()
        tallies.value_loss, tallies.explained_variance = 0.0, explained_variance(old_values, targets.returns)
        for chosen in self.settings.optimiser.episodes_of_steps(len(trajectories), version=self.version):
            mine = np.flatnonzero(np.isin(rows.episode, chosen))
            weights = torch.zeros(len(rows.episode))
            weights[mine] = token_weights(
                torch.from_numpy(rows.episode[mine]), settings.normalisation, constant=settings.constant_tokens
            )
            losses = _Loss(
                settings=settings,
                advantages=advantages,
                returns=targets.returns,
                behaviour=torch.from_numpy(rows.behaviour).to(learner.device),
                fresh=torch.from_numpy(rows.of_version(trajectories, self.version)).to(learner.device),
                weights=weights.to(learner.device),
                old=before.logprobs,
                old_values=old_values,
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
        tallies.learned(rows, advantages=advantages)
        staleness = learner.version - batch.oldest_version
        learner.version += 1
        return tallies.metrics(
            batch,
            version=learner.version,
            staleness=staleness,
            teaching_share=None,
            seconds=time.monotonic() - begun,
        )

    def _targets(
        self,
        trajectories: tuple[Trajectory, ...],
        rows: TokenRows,
        values: torch.Tensor,
        penalty: torch.Tensor | None,
    ) -> ValueTargets:
        """Advantages and returns of all tokens, shapes [tokens]."""
        import torch

        layout = TokenTimes.of(trajectories, rows)
        rewards = torch.from_numpy(layout.rewards).to(values.device)
        if penalty is not None:
            rewards = rewards - penalty
        ends = torch.from_numpy(layout.step_ends).to(values.device)
        ones = torch.ones_like(rewards)
        found = generalized_advantages(
            layout.by_episode(rewards),
            layout.by_episode(values),
            lengths=torch.from_numpy(layout.lengths).to(values.device),
            terminated=torch.tensor([one.terminated for one in trajectories], device=values.device),
            bootstrap=self._bootstrap(trajectories, values),
            gamma=layout.by_episode(ones.masked_fill(ends, self.settings.gamma)),
            lam=layout.by_episode(ones.masked_fill(ends, self.settings.lam)),
        )
        return ValueTargets(advantages=layout.flat(found.advantages), returns=layout.flat(found.returns))

    def _bootstrap(self, trajectories: tuple[Trajectory, ...], values: torch.Tensor) -> torch.Tensor:
        """V of the state that each truncated episode was in when it was cut off; 0 for the others. Shape [episodes]."""
        import torch

        found = torch.zeros(len(trajectories), device=values.device)
        cut = [index for index, one in enumerate(trajectories) if not one.terminated]
        prompts = [one.continuation for index in cut if (one := trajectories[index]).continuation is not None]
        if len(prompts) < len(cut):
            raise UsageError(
                f"{len(cut) - len(prompts)} truncated episodes came without a continuation, so their last state cannot "
                "be valued: make batches with `continuation=continuation_of(tokenizer, policy settings)`"
            )
        if prompts:
            found[cut] = _values(self._learner.evaluate(bare_rows(prompts)))
        return found

    def logprobs(self, samples: Sequence[TokenSample]) -> NDArray[np.float32]:
        """What the weights of now think of the agent's tokens, shape [agent tokens]; for `flow.agreement`."""
        return self._learner.logprobs(samples)

    def publish(self, directory: Path) -> WeightsUpdate:
        """Write the weights for an engine; the critic stays here."""
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
class TokenTimes:
    """Where the tokens of episodes stand in time."""

    rewards: NDArray[np.float32]
    """Shape [tokens]: the reward of a step at its last token, else 0."""
    step_ends: NDArray[np.bool_]
    """Shape [tokens]: whether a token is the last of its step."""
    lengths: NDArray[np.int64]
    """Shape [episodes]: tokens of each."""
    inside: NDArray[np.bool_]
    """Shape [episodes, longest]: what is not padding."""

    @classmethod
    def of(cls, trajectories: tuple[Trajectory, ...], rows: TokenRows) -> TokenTimes:
        """From rows that hold these trajectories one after another, each with its tokens in order of time."""
        step_ends = np.append(rows.step[1:] != rows.step[:-1], True)
        rewards = np.concatenate([one.rewards for one in trajectories])[rows.step]
        lengths = np.bincount(rows.episode, minlength=len(trajectories))
        return cls(
            rewards=np.where(step_ends, rewards, 0).astype(np.float32),
            step_ends=step_ends,
            lengths=lengths.astype(np.int64),
            inside=np.arange(lengths.max()) < lengths[:, None],
        )

    def by_episode(self, flat: torch.Tensor) -> torch.Tensor:
        """Shape [tokens] to [episodes, longest], padded with 0."""
        import torch

        made = torch.zeros(self.inside.shape, dtype=flat.dtype, device=flat.device)
        made[torch.from_numpy(self.inside).to(flat.device)] = flat
        return made

    def flat(self, rows: torch.Tensor) -> torch.Tensor:
        """Shape [episodes, longest] back to [tokens]."""
        import torch

        return rows[torch.from_numpy(self.inside).to(rows.device)]


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float | None:
    """1 - Var(R - V) / Var(R); 1 is a perfect critic, 0 one that knows the mean. None where R is constant."""
    spread = float(returns.var(correction=0))
    return None if spread == 0 else 1 - float((returns - values).var(correction=0)) / spread


def _values(said: TokenOutputs) -> torch.Tensor:
    if said.values is None:
        raise UsageError("the network has no value head")
    return said.values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """The loss of some tokens of a minibatch, in sums."""

    settings: PpoSettings
    advantages: torch.Tensor
    returns: torch.Tensor
    behaviour: torch.Tensor
    fresh: torch.Tensor
    weights: torch.Tensor
    old: torch.Tensor
    old_values: torch.Tensor
    reference: torch.Tensor | None
    tallies: Tallies

    def __call__(self, said: TokenOutputs, tokens: NDArray[Any]) -> torch.Tensor:
        import torch

        settings = self.settings
        at = torch.from_numpy(tokens).to(said.logprobs.device)
        new, old, weights, advantages = said.logprobs, self.old[at], self.weights[at], self.advantages[at]
        limit = settings.importance_limit if settings.importance == "truncated" else None
        importance = torch.ones_like(new)
        if limit is not None:
            importance = importance_weights(old, self.behaviour[at], truncate=limit)
        bounds = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
        policy = weights * importance * clipped_policy_loss(new, old, advantages, **bounds)
        value = weights * clipped_value_loss(
            _values(said), self.old_values[at], self.returns[at], clip=settings.value_clip
        )
        loss = policy.sum() + settings.value_coefficient * value.sum()
        loss = loss - settings.entropy_coefficient * (weights * said.entropy).sum()
        kl = None if self.reference is None else kl_estimate(new, self.reference[at], settings.kl_estimator)
        if kl is not None and settings.kl_estimator != "k1":
            loss = loss + settings.kl_coefficient * (weights * kl).sum()
        self.tallies.loss += float(loss.detach())
        self.tallies.policy_loss += float(policy.detach().sum())
        self.tallies.value_loss = (self.tallies.value_loss or 0.0) + float(value.detach().sum())
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
