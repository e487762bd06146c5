"""Sums over tokens and updates that become `UpdateMetrics`.

In: what every micro-batch said. Out: the metrics of a step. Always: nothing is kept of the network's graph; what was
said for an optimizer step that was skipped is in no sum; the formulas are those that `dreamsim.records.learning`
documents.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim_trainers.divergence import kl_estimate
from dreamsim_trainers.losses import probability_ratio
from dreamsim_trainers.rows import TokenRows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Sums after an optimizer step."""

    seen: int = 0
    """Tokens."""
    sums: dict[str, float] = field(default_factory=dict)
    """By name, over these tokens."""
    loss: float = 0.0
    """As in `Tallies`."""
    policy_loss: float = 0.0
    """As in `Tallies`."""
    value_loss: float = 0.0
    """As in `Tallies`; 0 without a critic."""


class Tallies:
    """Adds up what one step of a trainer does."""

    def __init__(self) -> None:
        self.loss = 0.0
        """Sum of losses over updates."""
        self.policy_loss = 0.0
        """Its part of the policy."""
        self.value_loss: float | None = None
        """Its part of the critic."""
        self.explained_variance: float | None = None
        """Of the critic before the step."""
        self.kl_of_update = 0.0
        """Mean k3 estimate of KL(old || new) over the tokens of the latest optimizer step, before it was taken."""
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._seen = 0
        self._before = _Sums()
        self._updates = 0
        self._skipped = 0
        self._norms = 0.0
        self._rate = 0.0
        self._sequences = 0
        self._tokens = 0
        self._read = 0
        self._spread = 0.0

    def tokens(
        self,
        *,
        new: torch.Tensor,
        old: torch.Tensor,
        behaviour: torch.Tensor,
        fresh: torch.Tensor,
        importance: torch.Tensor,
        limit: float | None,
        entropy: torch.Tensor,
        kl: torch.Tensor | None,
        clipped: torch.Tensor,
    ) -> None:
        """Add the tokens of a micro-batch; all of shape [tokens].

        `fresh` tells which were sampled by the weights that learn from them.
        """
        new = new.detach()
        ratio = probability_ratio(old, behaviour)
        self._seen += len(new)
        sums = {
            "entropy": entropy,
            "kl_step": kl_estimate(old, new, "k3"),  # the old policy sampled the tokens
            "clipped": clipped,
            "difference": (old - behaviour).abs(),
            "fresh": fresh,
            "fresh_difference": (old - behaviour).abs() * fresh,
            "importance": importance,
        }
        if limit is not None:
            sums["truncated"] = ratio > limit
        if kl is not None:
            sums["kl"] = kl
        for name, column in sums.items():
            self._sums[name] += float(column.detach().sum())

    def updated(self, *, gradient_norm: float, learning_rate: float) -> None:
        """One optimizer step was taken, or skipped because `gradient_norm` is not finite."""
        before = self._before
        if not math.isfinite(gradient_norm):  # what was said is not finite either, most likely
            self._skipped += 1
            self._seen, self._sums = before.seen, defaultdict(float, before.sums)
            self.loss, self.policy_loss = before.loss, before.policy_loss
            self.value_loss = None if self.value_loss is None else before.value_loss
            return
        moved = self._sums["kl_step"] - before.sums.get("kl_step", 0.0)
        self.kl_of_update = moved / max(self._seen - before.seen, 1)
        self._before = _Sums(
            seen=self._seen,
            sums=dict(self._sums),
            loss=self.loss,
            policy_loss=self.policy_loss,
            value_loss=self.value_loss or 0.0,
        )
        self._updates += 1
        self._norms += gradient_norm
        self._rate = learning_rate

    def learned(self, rows: TokenRows, *, advantages: torch.Tensor) -> None:
        """What the step learned from."""
        self._sequences = len(rows.token_ids)
        self._tokens = len(rows.episode)
        self._read = rows.tokens_read
        self._spread = float(advantages.std(correction=0))

    def metrics(
        self, batch: Batch, *, version: int, staleness: int, teaching_share: float | None, seconds: float
    ) -> UpdateMetrics:
        """The metrics of the step."""
        episodes = batch.trajectories
        seen, updates = max(self._seen, 1), max(self._updates, 1)
        sources = batch.sources
        return UpdateMetrics(
            batch=batch.number,
            version=version,
            staleness=staleness,
            episodes=len(episodes),
            steps_real=sources.get("real", 0),
            steps_dreamed=sources.get("dreamed", 0),
            sequences=self._sequences,
            tokens=self._tokens,
            tokens_read=self._read,
            return_mean=sum(one.total_reward for one in episodes) / len(episodes),
            success_share=sum(one.success for one in episodes) / len(episodes),
            informative_share=sum(group.informative for group in batch.groups) / len(batch.groups),
            teaching_share=teaching_share,
            updates=self._updates,
            skipped_updates=self._skipped,
            loss=self.loss / updates,
            policy_loss=self.policy_loss / updates,
            kl_reference=self._sums["kl"] / seen if "kl" in self._sums else None,
            entropy=self._sums["entropy"] / seen,
            kl_step=self._sums["kl_step"] / seen,
            clipped_share=self._sums["clipped"] / seen,
            logprob_difference=self._sums["difference"] / seen,
            logprob_difference_fresh=self._sums["fresh_difference"] / fresh if (fresh := self._sums["fresh"]) else None,
            importance_mean=self._sums["importance"] / seen if self._seen else 1.0,
            importance_truncated=self._sums["truncated"] / seen,
            advantage_spread=self._spread,
            value_loss=None if self.value_loss is None else self.value_loss / updates,
            explained_variance=self.explained_variance,
            gradient_norm=self._norms / updates,
            learning_rate=self._rate,
            seconds=seconds,
        )
