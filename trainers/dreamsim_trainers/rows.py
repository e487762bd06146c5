"""A batch as flat arrays over the agent's tokens, and the rows of tokens they stand in.

In: trajectories. Out: `TokenRows`. Always: "tokens" are the agent's, in order of rows and places; every array over
tokens has the same length; micro-batches hold each row once, whatever their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dreamsim.records.sample import TokenSample, Trajectory

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Sequences, and what is known of the agent's tokens in them."""

    token_ids: tuple[NDArray[np.int32], ...]
    """For each row its tokens."""
    chosen: tuple[NDArray[np.bool_], ...]
    """For each row which tokens are the agent's."""
    starts: NDArray[np.int64]
    """Shape [rows + 1]: row i has the tokens `starts[i]` to `starts[i + 1] - 1`."""
    episode: NDArray[np.int64]
    """Shape [tokens]: index of the trajectory."""
    step: NDArray[np.int64]
    """Shape [tokens]: index of the step among the steps of all trajectories."""
    behaviour: NDArray[np.float32]
    """Shape [tokens]: log-probability by the engine."""

    @property
    def tokens_read(self) -> int:
        """Tokens of all rows together."""
        return sum(map(len, self.token_ids))

    def of_rows(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Indices of the tokens of these rows, in the order the network gives them."""
        return np.concatenate([np.arange(self.starts[row], self.starts[row + 1]) for row in rows])

    def of_version(self, trajectories: Sequence[Trajectory], version: int) -> NDArray[np.bool_]:
        """Shape [tokens]: whether a token's episode was decided wholly with `version` of the weights.

        `trajectories` are those that the rows were made of.
        """
        wholly = [one.oldest_version == one.newest_version == version for one in trajectories]
        mask: NDArray[np.bool_] = np.array(wholly)[self.episode]
        return mask

    def rows_of_episodes(self, episodes: Sequence[int]) -> list[int]:
        """The rows in which these trajectories stand."""
        wanted = set(episodes)
        firsts = self.episode[self.starts[:-1]]
        return [row for row, episode in enumerate(firsts.tolist()) if episode in wanted]


def rows_of(trajectories: Sequence[Trajectory]) -> TokenRows:
    """The rows of all samples that hold a token of the agent, trajectory after trajectory."""
    ids, chosen, episodes, steps, behaviour = [], [], [], [], []
    first_step = 0
    for index, trajectory in enumerate(trajectories):
        for sample in trajectory.samples:
            mask = sample.loss_mask
            ids.append(sample.token_ids)
            chosen.append(mask)
            episodes.append(np.full(int(mask.sum()), index, dtype=np.int64))
            steps.append(first_step + sample.step_index[mask].astype(np.int64))
            behaviour.append(sample.logprobs[mask])
        first_step += len(trajectory.rewards)
    return TokenRows(
        token_ids=tuple(ids),
        chosen=tuple(chosen),
        starts=np.cumsum([0, *map(len, episodes)]),
        episode=np.concatenate(episodes),
        step=np.concatenate(steps),
        behaviour=np.concatenate(behaviour),
    )


def rows_of_samples(samples: Sequence[TokenSample]) -> TokenRows:
    """Rows of sequences that belong to no episode, to be scored; each counts as an episode of one step."""
    held = [sample for sample in samples if sample.loss_mask.any()]
    counts = [int(sample.loss_mask.sum()) for sample in held]
    numbers = np.repeat(np.arange(len(held)), counts)
    told = [sample.logprobs[sample.loss_mask] for sample in held]
    return TokenRows(
        token_ids=tuple(sample.token_ids for sample in held),
        chosen=tuple(sample.loss_mask for sample in held),
        starts=np.cumsum([0, *counts]),
        episode=numbers,
        step=numbers,
        behaviour=np.concatenate(told) if told else np.zeros(0, dtype=np.float32),
    )


def bare_rows(prompts: Sequence[NDArray[np.int32]]) -> TokenRows:
    """Rows that ask for the value of a whole prompt each; a token that means nothing is put behind it to be valued."""
    filled = tuple(np.concatenate([prompt, prompt[-1:]]) for prompt in prompts)
    count = len(prompts)
    return TokenRows(
        token_ids=filled,
        chosen=tuple(np.arange(len(row)) == len(row) - 1 for row in filled),
        starts=np.arange(count + 1),
        episode=np.arange(count),
        step=np.arange(count),
        behaviour=np.zeros(count, dtype=np.float32),
    )


def micro_batches(rows: TokenRows, chosen: Sequence[int], *, most_tokens: int) -> Iterator[list[int]]:
    """The rows `chosen` in pieces of at most `most_tokens`, padding included; near lengths together, longest first."""
    by_length = sorted(chosen, key=lambda row: (-len(rows.token_ids[row]), row))
    piece: list[int] = []
    for row in by_length:
        longest = len(rows.token_ids[piece[0]]) if piece else 0
        if piece and longest * (len(piece) + 1) > most_tokens:
            yield piece
            piece = []
        piece.append(row)
    if piece:
        yield piece


def padded(rows: TokenRows, chosen: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of these rows, each of shape [rows, longest], padded on the right with id 0 and False."""
    import torch

    longest = max(len(rows.token_ids[row]) for row in chosen)
    ids = np.zeros((len(chosen), longest), dtype=np.int64)
    mask = np.zeros((len(chosen), longest), dtype=np.bool_)
    for place, row in enumerate(chosen):
        length = len(rows.token_ids[row])
        ids[place, :length] = rows.token_ids[row]
        mask[place, :length] = rows.chosen[row]
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
