"""Whether engine and trainer agree on log-probabilities: asked before the first step of a training.

In: an engine, what scores tokens with the trainer's weights, tasks. Out: a `LogprobAgreement`.
Always: the scored tokens are those that the engine sampled, after the very prompts it was given; nothing is decoded.

Where both hold the same weights, what differs is rounding: the trainer computes whole sequences in one way, the engine
one token at a time in another. More than rounding means other weights, another temperature, top-p or top-k in the
engine, or a mistake in a model's definition; importance weights would then correct for what nobody did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from dreamsim.agents.language_model import PolicyPrompt, PolicySettings, sampling_of
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Engine, LogprobScorer, Tokenizer
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.sample import TokenSample
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of

LIMIT: Final = 0.02
"""Most mean |difference| in bfloat16, nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobAgreement:
    """Engine against trainer, on tokens that the engine sampled."""

    mean: float
    """Mean over tokens of |log pi (trainer) - log mu (engine)|, nats."""
    maximum: float
    """Greatest."""
    differences: tuple[NDArray[np.float32], ...]
    """For each answer |difference| of each of its tokens, shape [its tokens]."""
    tokens: int
    """Tokens compared."""
    completions: int
    """Answers they are of."""
    version: str
    """Version that the engine answered with."""

    def problem(self, limit: float = LIMIT) -> str | None:
        """What to tell a person where the mean is above `limit`; None where it is not."""
        if self.mean <= limit:
            return None
        return (
            f"engine and trainer disagree: mean |difference of log-probabilities| {self.mean:.4f} over {self.tokens} "
            f"tokens (at most {self.maximum:.4f}), above {limit:g}. See that the engine serves the weights the trainer "
            "begins with, that both know the same temperature, and that top_p is 1 and top_k 0"
        )

    def require(self, limit: float = LIMIT) -> None:
        """Refuse to train on a disagreement.

        Raises:
            ConfigurationError: the mean is above `limit`.
        """
        problem = self.problem(limit)
        if problem is not None:
            raise ConfigurationError(problem)


async def logprob_agreement(
    engine: Engine,
    scorer: LogprobScorer,
    prompts: Sequence[NDArray[np.int32]],
    sampling: Sampling,
    *,
    adapter: str | None = None,
    seed: int = 0,
) -> LogprobAgreement:
    """Sample one answer to each of `prompts` and score it.

    Args:
        engine: samples.
        scorer: the trainer, or what has its weights.
        prompts: token ids, each of shape [n], n at least 1.
        sampling: as in training: temperature as the scorer's, top-p 1, top-k 0.
        adapter: the engine's adapter that is asked, if the policy is one.
        seed: names the answers.

    Raises:
        ConfigurationError: the engine tells no log-probabilities, or answered nothing.
        EngineError: the engine failed.
    """
    answers: dict[int, Completion] = {}

    async def ask(index: int) -> None:
        answers[index] = await engine.generate(
            GenerationRequest(
                request_id=f"agreement-{index}",
                prompt_token_ids=prompts[index],
                sampling=sampling,
                seed=seed_of(seed, "agreement", index),
                adapter=adapter,
                role="policy",
            )
        )

    async with anyio.create_task_group() as group:
        for index in range(len(prompts)):
            group.start_soon(ask, index)
    samples = [_sample(prompts[index], answer) for index, answer in sorted(answers.items())]
    told = np.concatenate([answer.logprobs for _, answer in sorted(answers.items())]) if answers else np.zeros(0)
    if not len(told) or not np.isfinite(told).all():
        raise ConfigurationError(f"{engine.name} tells no log-probabilities of its tokens: nothing can be compared")
    scored = await anyio.to_thread.run_sync(scorer.logprobs, samples)
    difference = np.abs(scored - told).astype(np.float32)
    ends = np.cumsum([len(answer.token_ids) for _, answer in sorted(answers.items())])
    return LogprobAgreement(
        mean=float(difference.mean()),
        maximum=float(difference.max()),
        differences=tuple(np.split(difference, ends[:-1])),
        tokens=len(told),
        completions=len(answers),
        version=answers[0].version,
    )


async def policy_agreement(
    engine: Engine,
    scorer: LogprobScorer,
    tokenizer: Tokenizer,
    settings: PolicySettings,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
) -> LogprobAgreement:
    """Ask the policy for the first decision of each of `tasks`, as training will ask it, and score the decisions.

    Raises:
        ConfigurationError: the engine tells no log-probabilities, or there are no tasks.
        EngineError: the engine failed.
    """

    def prepared() -> tuple[list[NDArray[np.int32]], Sampling]:
        return [PolicyPrompt(tokenizer, settings, task).ask() for task in tasks], sampling_of(tokenizer, settings)

    prompts, sampling = await anyio.to_thread.run_sync(prepared)
    return await logprob_agreement(engine, scorer, prompts, sampling, adapter=settings.adapter, seed=seed)


def _sample(prompt: NDArray[np.int32], answer: Completion) -> TokenSample:
    written = len(answer.token_ids)
    return TokenSample(
        token_ids=np.concatenate([prompt, answer.token_ids]).astype(np.int32),
        step_index=np.concatenate([np.full(len(prompt), -1), np.zeros(written)]).astype(np.int32),
        logprobs=np.concatenate([np.zeros(len(prompt)), answer.logprobs]).astype(np.float32),
    )
