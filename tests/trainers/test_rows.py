"""Rows, the network's tokens, and how they are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.testing.decisions import Layout

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers.network import NetworkSettings, policy_network
from dreamsim_trainers.optimisation import Learner, OptimiserSettings
from dreamsim_trainers.rows import bare_rows, micro_batches, padded, rows_of
from tests.trainers.tiny import batch, tiny


@pytest.mark.parametrize("layout", ["growing", "windowed"])
def test_arrays_over_tokens_follow_rows_and_places(layout: Layout) -> None:
    trajectories = batch(0, layout=layout).trajectories
    rows = rows_of(trajectories)
    place = 0
    step_base = 0
    for index, trajectory in enumerate(trajectories):
        for sample in trajectory.samples:
            for position in np.flatnonzero(sample.loss_mask):
                assert rows.behaviour[place] == sample.logprobs[position]
                assert rows.episode[place] == index
                assert rows.step[place] == step_base + sample.step_index[position]
                place += 1
        step_base += len(trajectory.rewards)
    assert place == len(rows.episode) == rows.starts[-1]


@settings(max_examples=25)
@given(st.integers(1, 60), st.sets(st.integers(0, 5)))
def test_micro_batches_hold_every_row_once_within_the_limit(limit: int, wanted: set[int]) -> None:
    rows = rows_of(batch().trajectories)
    pieces = list(micro_batches(rows, sorted(wanted), most_tokens=limit))
    assert sorted(row for piece in pieces for row in piece) == sorted(wanted)
    for piece in pieces:
        assert len(piece) == 1 or len(piece) * max(len(rows.token_ids[row]) for row in piece) <= limit


def test_the_network_says_what_the_whole_model_says_of_the_agents_tokens() -> None:
    model = tiny()
    rows = rows_of(batch().trajectories)
    every = list(range(len(rows.token_ids)))
    network = policy_network(model, NetworkSettings(critic=True, temperature=0.7))
    ids, mask = padded(rows, every, torch.device("cpu"))
    with torch.no_grad():
        said = network(ids, mask)
        logprobs = (model(input_ids=ids).logits / 0.7).log_softmax(-1)
    place = 0
    for row in every:
        for position in np.flatnonzero(rows.chosen[row]):
            expected = logprobs[row, position - 1]
            token = int(rows.token_ids[row][position])
            assert said.logprobs[place].item() == pytest.approx(expected[token].item(), abs=1e-5)
            assert said.entropy[place].item() == pytest.approx(-(expected.exp() * expected).sum().item(), abs=1e-4)
            place += 1
    assert place == len(said.logprobs)
    assert not said.values.any()  # a new critic expects nothing


def test_samples_are_scored_in_their_order_whatever_the_micro_batches() -> None:
    samples = [sample for trajectory in batch().trajectories for sample in trajectory.samples]
    scored = []
    for most in (1, 40, 10_000):
        optimiser = OptimiserSettings(micro_tokens=most, mixed_precision="no", cpu=True)
        scored.append(Learner(tiny(), optimiser, NetworkSettings(), reference=False).logprobs(samples))
    expected = []
    with torch.no_grad():
        for sample in samples:
            ids = torch.from_numpy(sample.token_ids.astype(np.int64))
            logprobs = tiny()(input_ids=ids[None]).logits[0].log_softmax(-1)
            places = np.flatnonzero(sample.loss_mask)
            expected += [logprobs[place - 1, ids[place]].item() for place in places]
    for one in scored:
        assert one.dtype == np.float32
        assert one == pytest.approx(np.array(expected), abs=1e-4)


def test_a_bare_row_is_valued_after_its_whole_prompt() -> None:
    model = tiny()
    network = policy_network(model, NetworkSettings(critic=True))
    with torch.no_grad():
        network.value_head.weight.normal_()  # type: ignore[union-attr, operator]  # made above
    prompt = np.array([3, 4, 5], dtype=np.int32)
    ids, mask = padded(bare_rows([prompt]), [0], torch.device("cpu"))
    with torch.no_grad():
        found = network(ids, mask).values
        hidden = model.get_decoder()(input_ids=torch.tensor([[3, 4, 5]])).last_hidden_state[0, -1]
        assert found.item() == pytest.approx(network.value_head(hidden).item(), abs=1e-5)  # type: ignore[operator]
