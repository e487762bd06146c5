"""GRPO on a model of a few thousand weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dreamsim.errors import ConfigurationError
from dreamsim.records.batch import Batch
from dreamsim.testing.decisions import Layout
from dreamsim.testing.trainer_contracts import check_trainer

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers import optimisation
from dreamsim_trainers.causal_lm import LoraShape
from dreamsim_trainers.grpo import GrpoSettings, GrpoTrainer, episode_advantages
from dreamsim_trainers.optimisation import OptimiserSettings
from dreamsim_trainers.rows import rows_of
from dreamsim_trainers.tallies import Tallies
from tests.trainers.tiny import batch, tiny

FAST = OptimiserSettings(learning_rate=1e-3, mixed_precision="no", cpu=True)
PLAIN = GrpoSettings(optimiser=FAST, kl_coefficient=0.0)


def weights(trainer: GrpoTrainer) -> list[torch.Tensor]:
    return [one.detach().clone() for one in trainer._learner.parameters.values()]


def as_sampled_by(trainer: GrpoTrainer, made: Batch) -> Batch:
    """The batch with the log-probabilities that the trainer's own weights give its tokens."""
    rows = rows_of(made.trajectories)
    said = trainer._learner.evaluate(rows).logprobs.numpy()
    groups, place = [], 0
    for group in made.groups:
        trajectories = []
        for one in group.trajectories:
            samples = []
            for sample in one.samples:
                logprobs = np.zeros(len(sample), dtype=np.float32)
                count = int(sample.loss_mask.sum())
                logprobs[sample.loss_mask] = said[place : place + count]
                place += count
                samples.append(replace(sample, logprobs=logprobs))
            trajectories.append(replace(one, samples=tuple(samples)))
        groups.append(replace(group, trajectories=tuple(trajectories)))
    return replace(made, groups=tuple(groups))


@pytest.mark.parametrize(
    "settings",
    [
        GrpoSettings(optimiser=replace(FAST, minibatches=2, epochs=2, warmup_updates=8), entropy_coefficient=0.01),
        GrpoSettings(
            optimiser=replace(FAST, mixed_precision="bf16"),
            lora=LoraShape(rank=2, alpha=4),
            gradient_checkpointing=True,
            step_advantages=1.0,
        ),
    ],
    ids=["full", "lora"],
)
def test_interrupted_and_resumed_is_as_not_interrupted(settings: GrpoSettings, tmp_path: Path) -> None:
    check_trainer(lambda: GrpoTrainer(tiny(), settings), [batch(0), batch(1), batch(2)], tmp_path)


@pytest.mark.parametrize("layout", ["growing", "windowed"])
def test_successful_episodes_become_likelier_than_failed_ones(layout: Layout) -> None:
    trainer = GrpoTrainer(tiny(), replace(PLAIN, importance="none"))
    made = as_sampled_by(trainer, batch(layout=layout))
    rows = rows_of(made.trajectories)
    good = torch.tensor([made.trajectories[index].success for index in rows.episode])
    before = trainer._learner.evaluate(rows).logprobs
    for _ in range(5):
        trainer.step(made)
    change = trainer._learner.evaluate(rows).logprobs - before
    assert change[good].mean() > 0 > change[~good].mean()


def test_a_batch_without_variance_changes_nothing_but_the_version() -> None:
    trainer = GrpoTrainer(tiny(), PLAIN)
    before = weights(trainer)
    metrics = trainer.step(batch(0, ("success", "success"), ("failure", "failure")))
    assert all(torch.equal(one, other) for one, other in zip(before, weights(trainer), strict=True))
    assert (metrics.updates, metrics.informative_share, metrics.version) == (0, 0.0, 1)


def test_groups_without_variance_do_not_change_what_the_others_teach() -> None:
    alone, beside = GrpoTrainer(tiny(), PLAIN), GrpoTrainer(tiny(), PLAIN)
    alone.step(batch(0, ("success", "failure")))
    beside.step(batch(0, ("success", "failure"), ("failure", "failure")))
    assert all(torch.equal(one, other) for one, other in zip(weights(alone), weights(beside), strict=True))


@pytest.mark.parametrize("normalisation", ["token", "sequence", "constant"])
def test_the_size_of_micro_batches_changes_no_gradient(normalisation: str) -> None:
    norms = []
    for size in (1, 10_000):
        settings = replace(PLAIN, normalisation=normalisation, optimiser=replace(FAST, micro_tokens=size))  # type: ignore[arg-type]
        norms.append(GrpoTrainer(tiny(), settings).step(batch()).gradient_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_first_update_is_that_of_reinforce_with_the_group_as_baseline() -> None:
    """Against a loop that knows nothing of ratios, clipping or flat arrays."""
    settings = replace(
        PLAIN, normalise_advantages=False, normalisation="constant", constant_tokens=1.0, importance="none"
    )
    made = batch()
    trainer = GrpoTrainer(tiny(), settings)
    norm = trainer.step(made).gradient_norm

    model = tiny()
    loss = torch.zeros(())
    for group in made.groups:
        baseline = sum(one.total_reward for one in group.trajectories) / len(group.trajectories)
        for one in group.trajectories:
            for sample in one.samples:
                ids = torch.from_numpy(sample.token_ids).long()
                logprobs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
                for position in np.flatnonzero(sample.loss_mask):
                    loss = loss - (one.total_reward - baseline) * logprobs[position - 1, ids[position]]
    (loss / len(made.trajectories)).backward()  # type: ignore[no-untyped-call]  # torch
    squares = [one.grad.square().sum() for one in model.parameters() if one.grad is not None]
    assert norm == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-3)


def test_an_engine_that_agrees_is_not_corrected() -> None:
    trainer = GrpoTrainer(tiny(), PLAIN)
    metrics = trainer.step(as_sampled_by(trainer, batch()))
    assert metrics.logprob_difference == pytest.approx(0, abs=1e-5)
    assert metrics.importance_mean == pytest.approx(1, abs=1e-5)
    assert metrics.importance_truncated == 0


def test_the_reference_is_the_first_policy_and_divergence_grows_from_it() -> None:
    settings = replace(PLAIN, kl_coefficient=0.1, kl_estimator="k2")
    trainer = GrpoTrainer(tiny(), settings)
    first, second = trainer.step(batch(0)), trainer.step(batch(0))
    assert first.kl_reference == pytest.approx(0, abs=1e-7)
    assert second.kl_reference is not None
    assert second.kl_reference > 1e-7


def test_a_large_penalty_keeps_the_policy_near_the_first_one() -> None:
    def moved(coefficient: float, estimator: str) -> float:
        settings = replace(PLAIN, kl_coefficient=coefficient, kl_estimator=estimator)  # type: ignore[arg-type]
        trainer = GrpoTrainer(tiny(), settings)
        seen = [trainer.step(batch(0)).kl_reference for _ in range(4)]
        assert seen[-1] is not None
        return abs(seen[-1])

    for estimator in ("k2", "k3"):
        assert moved(100.0, estimator) < moved(1e-6, estimator)


def test_step_advantages_tell_apart_what_the_episode_does_not() -> None:
    made = batch(0, ("success", "success"))
    plain = episode_advantages(made, PLAIN)
    assert not any(one.teaches for one in plain)
    stepwise = episode_advantages(made, replace(PLAIN, step_advantages=1.0, gamma=0.5))
    # both begin in the task's first state, one succeeds at once and the other a step later
    assert [float(one.of_steps[0]) for one in stepwise] == pytest.approx([1.0, -1.0], abs=1e-3)
    assert all(one.teaches for one in stepwise)


def test_what_step_advantages_teach_is_told_apart_from_what_episodes_teach() -> None:
    made = batch(0, ("success", "success"), ("failure", "failure"))
    plain = GrpoTrainer(tiny(), PLAIN).step(made)
    stepwise = GrpoTrainer(tiny(), replace(PLAIN, step_advantages=1.0, gamma=0.5)).step(made)
    assert (plain.informative_share, plain.teaching_share) == (0.0, 0.0)
    assert (stepwise.informative_share, stepwise.teaching_share) == (0.0, 0.5)


def test_the_difference_to_the_engine_is_told_apart_by_whether_the_weights_are_the_same() -> None:
    trainer = GrpoTrainer(tiny(), PLAIN)
    first = trainer.step(batch(0, version=0))
    assert first.logprob_difference_fresh == pytest.approx(first.logprob_difference)
    late = trainer.step(batch(1, version=0))
    assert late.staleness == 1
    assert late.logprob_difference_fresh is None
    old, new = batch(2, version=1), as_sampled_by(trainer, batch(2, version=2))
    mixed = trainer.step(replace(old, groups=(old.groups[0], new.groups[1])))
    assert mixed.staleness == 1
    assert mixed.logprob_difference_fresh == pytest.approx(0, abs=1e-5)
    assert mixed.logprob_difference > 0.1


def test_published_weights_load_and_say_what_the_trainer_says(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    trainer = GrpoTrainer(tiny(), PLAIN)
    trainer.step(batch())
    update = trainer.publish(tmp_path / "v1")
    assert (update.version, update.kind) == (1, "full")
    loaded = AutoModelForCausalLM.from_pretrained(str(update.path), dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.tie_word_embeddings
    rows = rows_of(batch().trajectories)
    ids = torch.from_numpy(rows.token_ids[0]).long()
    with torch.no_grad():
        logprobs = loaded.float()(input_ids=ids[None]).logits[0].log_softmax(-1)
    expected = [logprobs[place - 1, ids[place]].item() for place in np.flatnonzero(rows.chosen[0])]
    said = trainer._learner.evaluate(rows).logprobs[: len(expected)]
    assert said.tolist() == pytest.approx(expected, abs=0.02)


def test_a_published_adapter_fits_on_the_model_it_began_with(tmp_path: Path) -> None:
    from peft import PeftModel

    trainer = GrpoTrainer(tiny(), replace(PLAIN, lora=LoraShape(rank=2, alpha=4)))
    trainer.step(batch())
    update = trainer.publish(tmp_path / "v1")
    assert update.kind == "lora"
    loaded = PeftModel.from_pretrained(tiny(), str(update.path))
    rows = rows_of(batch().trajectories)
    ids = torch.from_numpy(rows.token_ids[0]).long()
    with torch.no_grad():
        logprobs = loaded(input_ids=ids[None]).logits[0].log_softmax(-1)
    expected = [logprobs[place - 1, ids[place]].item() for place in np.flatnonzero(rows.chosen[0])]
    assert trainer._learner.evaluate(rows).logprobs[: len(expected)].tolist() == pytest.approx(expected, abs=0.02)


def test_of_a_model_with_an_adapter_only_the_adapter_is_cast_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    cast: list[str] = []

    def watched(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        cast.extend(state)
        return in_bfloat16(state)

    in_bfloat16 = optimisation._cast
    monkeypatch.setattr(optimisation, "_cast", watched)
    trainer = GrpoTrainer(tiny(), replace(PLAIN, lora=LoraShape(rank=2, alpha=4)))
    written = load_file(str(trainer.publish(tmp_path / "v1").path / "adapter_model.safetensors"))
    assert cast
    assert all("lora_" in name for name in [*cast, *written])
    assert len(written) == len(cast) == len(trainer._learner.parameters)
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}


def test_small_steps_on_a_model_loaded_in_bfloat16_are_not_rounded_away() -> None:
    trainer = GrpoTrainer(tiny().bfloat16(), replace(PLAIN, optimiser=replace(FAST, learning_rate=1e-6)))
    before = weights(trainer)
    trainer.step(batch())
    moved = [not torch.equal(one, other) for one, other in zip(before, weights(trainer), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_a_model_that_changes_its_logits_at_the_end_is_refused() -> None:
    model = tiny()
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(ConfigurationError, match="final_logit_softcapping"):
        GrpoTrainer(model, PLAIN)


def test_a_training_may_go_on_for_longer_than_was_meant(tmp_path: Path) -> None:
    """More updates than before: the learning rate falls later."""
    shorter = replace(PLAIN, optimiser=replace(FAST, decay_from=2, decay_updates=2))
    trainer = GrpoTrainer(tiny(), shorter)
    for number in range(3):
        trainer.step(batch(number))
    trainer.save(tmp_path / "state")
    longer = GrpoTrainer(tiny(), replace(PLAIN, optimiser=replace(FAST, decay_from=4, decay_updates=4)))
    longer.load(tmp_path / "state")
    assert trainer.step(batch(3)).learning_rate < longer.step(batch(3)).learning_rate


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    trainer = GrpoTrainer(tiny(), PLAIN)
    trainer.save(tmp_path / "state")
    with pytest.raises(ConfigurationError, match="other settings: settings"):
        GrpoTrainer(tiny(), replace(PLAIN, clip_high=0.5)).load(tmp_path / "state")
    with pytest.raises(ConfigurationError, match="no trainer's state"):
        trainer.load(tmp_path / "nothing")


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"clip_low": 1.5}, {"importance_limit": 0.5}, {"temperature": 0.0}):
        with pytest.raises(ConfigurationError):
            GrpoSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "taken"), [(None, 6), (1e9, 6), (1e-6, 2)])
def test_a_batch_is_learned_from_until_the_policy_has_moved_far_enough(target: float | None, taken: int) -> None:
    far = replace(FAST, learning_rate=1e-2, minibatches=1, epochs=6, target_kl=target)
    trainer = GrpoTrainer(tiny(), replace(PLAIN, optimiser=far))
    metrics = trainer.step(as_sampled_by(trainer, batch(0)))
    # The first pass is made with the old weights themselves; the second sees that they have moved, and is the last.
    assert metrics.updates == taken


def test_one_token_that_the_policy_now_avoids_does_not_make_it_far_from_the_one_before() -> None:
    old = torch.full((1000,), -1.0)
    new = old.clone()
    new[0] = -21.0
    tallies = Tallies()
    ones, none = torch.ones(1000), torch.zeros(1000, dtype=torch.bool)
    tallies.tokens(
        new=new, old=old, behaviour=old, fresh=~none, importance=ones, limit=None, entropy=ones, kl=None, clipped=none
    )
    tallies.updated(gradient_norm=1.0, learning_rate=1.0)
    assert tallies.kl_of_update == pytest.approx((20 - 1 + np.exp(-20)) / 1000, rel=1e-4)
