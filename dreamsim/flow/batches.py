"""Batches: episodes laid out as token sequences, with the agent's tokens marked.

In: closed groups of episodes. Out: batches of trajectories in numpy.
Always:
- ids are those that the engine was given and gave: nothing is tokenized again (only the state that a truncated episode
  ended in is tokenized, for the first time, where a value function wants to see it);
- the agent's tokens, and no others, carry a step and the log-probability the engine sampled them with;
- where the prompt of step t+1 begins with the prompt and the answer of step t, both stand in one growing sequence, so
  that a whole episode costs one forward pass; where it does not (a windowed prompt), step t+1 begins a new sequence.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from dreamsim.agents.language_model import PolicyPrompt, PolicySettings
from dreamsim.errors import RecordError
from dreamsim.flow.groups import ClosedGroup, unusable, versions
from dreamsim.flow.staleness import Pace
from dreamsim.protocols import Tokenizer
from dreamsim.records.batch import Batch
from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode
from dreamsim.records.sample import TokenSample, Trajectory, TrajectoryGroup
from dreamsim.records.state import RESULT, State, split_line
from dreamsim.runtime.pipes import PipeReceiver, PipeSender

Continuation = Callable[[Episode], NDArray[np.int32]]
"""The prompt that would have asked for one more step of an episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """What a batch is."""

    groups: int = 16
    """Groups of a batch."""
    max_tokens: int | None = None
    """Longest sequence; an episode that has a longer one is left out, and counted."""
    informative_only: bool = False
    """Whether groups whose returns are all the same are left out and replaced by later ones (the dynamic sampling of
    DAPO, arXiv 2503.14476). A policy that always fails then never gets a batch: watch `left_out`."""


class BatchBuilder:
    """Collects groups until they make a batch. Synchronous; `build` is work for a thread."""

    def __init__(
        self, settings: BatchSettings, *, continuation: Continuation | None = None, first_number: int = 0
    ) -> None:
        """`continuation` makes `Trajectory.continuation` for truncated episodes; `first_number` continues a run."""
        self._settings = settings
        self._continuation = continuation
        self._number = first_number
        self._groups: list[TrajectoryGroup] = []
        self.left_out: Counter[str] = Counter()
        """`groups not viable`, `groups without variance`, `groups too stale` and `episodes too long`."""

    @property
    def number(self) -> int:
        """Of the batch that is being collected; a trainer whose version it is will learn from it."""
        return self._number

    @property
    def groups_left_out(self) -> int:
        """Groups that are in no batch, for whatever reason."""
        return sum(count for reason, count in self.left_out.items() if reason.startswith("groups"))

    def add(self, closed: ClosedGroup) -> Batch | None:
        """Lay out one group; returns a batch when it is full."""
        group = self._laid_out(closed) if closed.viable else None
        if group is None:
            self.left_out["groups not viable"] += 1
        elif self._settings.informative_only and not group.informative:
            self.left_out["groups without variance"] += 1
        else:
            self._groups.append(group)
        return self.rest() if len(self._groups) >= self._settings.groups else None

    def rest(self) -> Batch | None:
        """What has been collected so far, as a smaller batch; None if that is nothing."""
        if not self._groups:
            return None
        batch = Batch(number=self._number, groups=tuple(self._groups))
        self._number += 1
        self._groups = []
        return batch

    def _laid_out(self, closed: ClosedGroup) -> TrajectoryGroup | None:
        made = [trajectory(episode, continuation=self._continuation) for episode in closed.episodes]
        limit = self._settings.max_tokens
        fitting = [one for one in made if limit is None or max(map(len, one.samples)) <= limit]
        self.left_out["episodes too long"] += len(made) - len(fitting)
        return TrajectoryGroup(task_key=closed.task_key, trajectories=tuple(fitting)) if fitting else None


async def make_batches(
    groups: PipeReceiver[ClosedGroup],
    batches: PipeSender[Batch],
    builder: BatchBuilder,
    *,
    send_rest: bool = False,
    pace: Pace | None = None,
) -> None:
    """Receive groups until no more come and send every full batch, at the end a smaller one if asked; then close.

    Laying out happens in a thread: the event loop stays free. With `pace`, groups that are too stale for the batch that
    is being collected are left out, and pacing is told of every group; batches must then be numbered by the version
    that learns from them (`BatchBuilder(first_number=trainer.version)`).
    """
    with groups, batches:
        async for closed in groups:
            before = builder.groups_left_out
            stale = pace is not None and closed.viable and pace.too_stale(closed, builder.number)
            if stale:
                builder.left_out["groups too stale"] += 1
            batch = None if stale else await anyio.to_thread.run_sync(builder.add, closed)
            if pace is not None:
                pace.group_ended(left_out=builder.groups_left_out > before, too_stale=stale, batch=batch is not None)
            if batch is not None:
                await batches.send(batch)
        rest = builder.rest() if send_rest else None
        if rest is not None:
            await batches.send(rest)


def trajectory(episode: Episode, *, continuation: Continuation | None = None) -> Trajectory:
    """Lay out one episode.

    Raises:
        RecordError: it cannot be learned from (`flow.groups.unusable` says why).
    """
    reason = unusable(episode)
    if reason is not None:
        raise RecordError("episode", f"{episode.id} cannot be learned from: {reason}")
    states = [episode.task.first_state, *(step.state for step in episode.transitions[:-1])]
    decided = versions(episode)
    truncated = episode.outcome == "truncated"
    return Trajectory(
        episode_id=episode.id,
        task_key=episode.task.key,
        source=episode.source,
        samples=layout([step.decision for step in episode.transitions if step.decision is not None]),
        rewards=np.array([step.reward for step in episode.transitions], dtype=np.float32),
        anchors=tuple(map(anchor, states)),
        terminated=not truncated,
        success=episode.outcome == "success",
        continuation=continuation(episode) if truncated and continuation is not None else None,
        oldest_version=min(decided),
        newest_version=max(decided),
    )


def layout(decisions: Sequence[Decision]) -> tuple[TokenSample, ...]:
    """The fewest sequences that hold every decision after its own prompt, in order.

    Raises:
        RecordError: a decision is not a language model's, or its prompt is empty.
    """
    samples: list[TokenSample] = []
    growing = _Growing()
    for step, decision in enumerate(decisions):
        if not growing.goes_on_with(decision.prompt_token_ids):
            samples.append(growing.sample())
            growing = _Growing()
        growing.add(step, decision)
    return (*samples, growing.sample()) if decisions else ()


class _Growing:
    """One sequence while it grows."""

    __slots__ = ("_ids", "_logprobs", "_steps")

    def __init__(self) -> None:
        self._ids: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._steps: list[NDArray[np.int32]] = []
        self._logprobs: list[NDArray[np.float32]] = []

    def goes_on_with(self, prompt: NDArray[np.int32]) -> bool:
        return len(prompt) >= len(self._ids) and np.array_equal(prompt[: len(self._ids)], self._ids)

    def add(self, step: int, decision: Decision) -> None:
        completion = decision.completion
        if completion is None:
            raise RecordError("decision", f"of step {step} has no completion: no language model made it")
        read = len(decision.prompt_token_ids) - len(self._ids)
        written = len(completion.token_ids)
        self._ids = np.concatenate([decision.prompt_token_ids, completion.token_ids]).astype(np.int32)
        self._steps += [np.full(read, -1, dtype=np.int32), np.full(written, step, dtype=np.int32)]
        self._logprobs += [np.zeros(read, dtype=np.float32), completion.logprobs.astype(np.float32)]

    def sample(self) -> TokenSample:
        return TokenSample(
            token_ids=self._ids, step_index=np.concatenate(self._steps), logprobs=np.concatenate(self._logprobs)
        )


def anchor(state: State) -> str:
    """Hash of a state that two steps share if and only if they were taken in the same state.

    The order of lines does not count, and neither does the `result` line: it tells what the last action returned, not
    what there is. 16 hexadecimal digits.
    """
    lines = sorted(line for line in state.lines if split_line(line)[0] != RESULT)
    return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def continuation_of(tokenizer: Tokenizer, settings: PolicySettings) -> Continuation:
    """Replays an episode through the policy's own prompt and asks for one more step."""
    return partial(_continuation, tokenizer, settings)


def _continuation(tokenizer: Tokenizer, settings: PolicySettings, episode: Episode) -> NDArray[np.int32]:
    prompt = PolicyPrompt(tokenizer, settings, episode.task)
    admissible: tuple[str, ...] = ()
    for step in episode.transitions:
        completion = None if step.decision is None else step.decision.completion
        prompt.append(step.action, step.state, None if completion is None else completion.token_ids)
        admissible = step.admissible
    return prompt.ask(admissible)
