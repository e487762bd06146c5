"""Episodes with token ids of their own making, for tests of what learns from episodes.

In: a seed, the layout wanted. Out: episodes whose decisions have prompts, answers and log-probabilities.
Always: the same arguments give the same episode; in the growing layout every prompt begins with the prompt and the
answer before it, in the windowed one none does.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from dreamsim.records.completion import Completion, Decision
from dreamsim.records.episode import Episode, EpisodeOutcome, Purpose, Source, StepOutcome, Transition, episode_id
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator

Layout = Literal["growing", "windowed"]


def decided_task(number: int = 0) -> Task:
    """A task that says nothing but its number."""
    return Task(
        environment="scripted/tokens",
        instruction=f"task {number}",
        first_state=State.of(["at: start"]),
        fold="train",
    )


def decided_episode(
    seed: int,
    *,
    task: Task | None = None,
    repeat: int = 0,
    steps: int = 3,
    layout: Layout = "growing",
    outcome: EpisodeOutcome = "success",
    vocabulary: int = 64,
    version: int = 0,
    source: Source = "dreamed",
    purpose: Purpose = "training",
) -> Episode:
    """An episode of random tokens: reward 1 at the end if it is a success."""
    draw = generator(seed, "decided episode", repeat)
    task = decided_task() if task is None else task
    seen = draw.integers(2, vocabulary, 4).astype(np.int32)
    made: list[Transition] = []
    for step in range(steps):
        answer = draw.integers(2, vocabulary, int(draw.integers(1, 4))).astype(np.int32)
        completion = Completion(
            token_ids=answer,
            logprobs=-draw.exponential(2.0, len(answer)).astype(np.float32),
            finish_reason="stop",
            prompt_tokens=len(seen),
            version=str(version),
        )
        last = step == steps - 1
        ended: StepOutcome = outcome if last and (outcome == "success" or outcome == "failure") else "running"
        made.append(
            Transition(
                action=f"do {step}",
                state=State.of([f"at: place {int(draw.integers(3))}"]),
                reward=float(ended == "success"),
                outcome=ended,
                decision=Decision(action=f"do {step}", prompt_token_ids=seen, completion=completion),
            )
        )
        read = draw.integers(2, vocabulary, int(draw.integers(1, 5))).astype(np.int32)
        # 0 and 1 are never drawn: a windowed prompt begins otherwise than the one before it, and cannot go on
        begun = np.array([step % 2], dtype=np.int32)
        seen = np.concatenate([seen, answer, read]) if layout == "growing" else np.concatenate([begun, read])
    return Episode(
        id=episode_id("tokens", task.key, repeat),
        run="tokens",
        task=task,
        repeat=repeat,
        source=source,
        purpose=purpose,
        transitions=tuple(made),
        outcome=outcome,
        error_kind="unexpected" if outcome == "error" else None,
    )
