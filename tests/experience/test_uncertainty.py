"""The uncertainty gate: what it measures, what it learns, what it does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.scripted import ScriptedEngine
from dreamsim.errors import ConfigurationError, TruncationError, UncertaintyError
from dreamsim.experience.checks import Checks
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout, Retrieve
from dreamsim.experience.uncertainty import (
    FEATURES,
    Gate,
    GateCalibration,
    GateMode,
    agreement_of,
    fit_gate,
    gate_features,
    load_gate,
)
from dreamsim.protocols import Environment
from dreamsim.records.completion import Completion
from dreamsim.records.episode import Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import State
from dreamsim.records.trust import GateFeatures
from tests.experience.dreams import TASK, TOKENIZER, Asked, NothingVanishes, RealHouse, says

pytestmark = pytest.mark.anyio
BY_AGREEMENT = GateCalibration(features=("agreement",), mean=(0.5,), scale=(0.1,), weight=(-1.0,), bias=0.0)
"""Wrong for sure when no sample agrees, right for sure when all do."""
EGG, HAT, NONSENSE = says("egg: held"), says("hat: held"), "nonsense"


def completion(*logprobs: float) -> Completion:
    return Completion(
        token_ids=np.arange(len(logprobs), dtype=np.int32),
        logprobs=np.array(logprobs, dtype=np.float32),
        finish_reason="stop",
        prompt_tokens=3,
    )


def experience(similarity: float) -> Experience:
    return Experience(
        id="e:0",
        episode_id="e",
        task_key="t",
        environment="test/one",
        fold="train",
        source="real",
        instruction="",
        state=(),
        action="",
        changes=(),
        next_state=(),
        reasoning="",
        reward=0.0,
        outcome="running",
        similarity=similarity,
    )


def step(*lines: str, reward: float = 0.0) -> Transition:
    return Transition(action="a", state=State.of(lines), reward=reward, outcome="success" if reward else "running")


def test_features_are_what_was_measured() -> None:
    features = gate_features(completion(-1.0, -3.0), agreement=0.5, experiences=[experience(0.2), experience(0.9)])
    assert features == GateFeatures(agreement=0.5, mean_logprob=-2.0, lowest_logprob=-3.0, similarity=0.9)


def test_what_an_engine_does_not_tell_is_not_measured() -> None:
    features = gate_features(completion(float("nan"), -1.0))
    assert features == GateFeatures()


def test_agreement_is_the_share_of_samples_with_the_same_state_reward_and_outcome() -> None:
    mine = step("a: 1", "b: 2")
    others = [step("b: 2", "a: 1"), step("a: 1"), step("a: 1", "b: 2", reward=1.0), None]
    assert agreement_of(mine, others) == 0.25
    assert agreement_of(mine, []) is None


def fitted(seed: int = 0, n: int = 400) -> tuple[list[GateFeatures], list[bool], GateCalibration]:
    draw = np.random.default_rng(seed)
    chance = draw.random(n)
    wrong = [bool(value) for value in draw.random(n) < chance]
    features = [
        GateFeatures(agreement=float(1 - c), mean_logprob=float(-c + draw.normal(0, 0.1)), similarity=0.5)
        for c in chance
    ]
    return features, wrong, fit_gate(features, wrong, experience_model="m@1")


def test_what_was_fitted_ranks_errors_above_what_is_right() -> None:
    features, wrong, calibration = fitted()
    chances = np.array([calibration.chance(one) for one in features])
    errors = np.array(wrong)
    assert (chances[errors][:, None] > chances[~errors][None, :]).mean() > 0.8
    assert chances[errors].mean() > chances[~errors].mean() + 0.2


def test_a_chance_means_what_it_says() -> None:
    features, wrong, calibration = fitted(n=2000)
    chances = np.array([calibration.chance(one) for one in features])
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        inside = (chances >= low) & (chances < high)
        assert abs(chances[inside].mean() - np.array(wrong)[inside].mean()) < 0.08


def test_only_features_that_differ_and_are_always_there_are_used() -> None:
    assert fitted()[2].features == ("agreement", "mean_logprob")


@pytest.mark.parametrize("wrong", [[True, True], [False, False]])
def test_without_errors_or_with_nothing_else_there_is_nothing_to_fit(wrong: list[bool]) -> None:
    with pytest.raises(ConfigurationError, match="right and others that are wrong"):
        fit_gate([GateFeatures(agreement=0.1), GateFeatures(agreement=0.9)], wrong)


def test_without_a_feature_that_differs_there_is_nothing_to_fit() -> None:
    with pytest.raises(ConfigurationError, match="nothing to go by"):
        fit_gate([GateFeatures(), GateFeatures()], [True, False])


def test_a_calibration_comes_back_as_the_same_plain_numbers(tmp_path: Path) -> None:
    calibration = fitted()[2]
    calibration.save(tmp_path / "gate.json")
    assert load_gate(tmp_path / "gate.json") == calibration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "other/1"}, "schema"),
        ({"features": ["height"], "mean": [0], "scale": [1], "weight": [1]}, "height"),
        ({"scale": [0.0, 1.0]}, "scale"),
        ({"weight": [1.0]}, "weight"),
        ({"mean": [True, 0.0]}, "mean"),
    ],
)
def test_a_wrong_calibration_is_refused_by_field(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "gate.json"
    fitted()[2].save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigurationError, match=said):
        load_gate(path)


def test_a_calibration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gate\.json"):
        load_gate(tmp_path / "gate.json")


values = st.one_of(st.none(), st.floats(-1e6, 1e6))


@given(features=st.builds(GateFeatures, **dict.fromkeys(FEATURES, values)))
def test_a_chance_is_always_between_0_and_1(features: GateFeatures) -> None:
    calibration = GateCalibration(
        features=FEATURES, mean=(0.0,) * 4, scale=(1e-3,) * 4, weight=(9.0, -9.0, 1.0, -1.0), bias=1.0
    )
    assert 0 <= calibration.chance(features) <= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"agreement_samples": 0}, "at least one"),
        ({"mode": "truncate"}, "without a calibration"),
        ({"calibration": BY_AGREEMENT}, r"samples to 2 or more"),
    ],
)
def test_a_gate_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Gate(**settings)  # type: ignore[arg-type]


class Nearby:
    """A retriever that finds one experience of a similarity."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        self.asked.append(query.k)
        return (experience(0.75),)


def model_of(
    asked: Asked,
    gate: Gate,
    *,
    reality: Environment | None = None,
    retriever: Nearby | None = None,
    retrieve: Retrieve = "off",
    ledger: NothingVanishes | None = None,
) -> ExperienceModel:
    settings = ExperienceSettings(layout=PromptLayout(retrieve=retrieve), samples=2)
    checks = Checks(gate=gate, reality=reality, ledgers=None if ledger is None else lambda name: ledger)
    return ExperienceModel(ScriptedEngine(asked, TOKENIZER), TOKENIZER, settings, retriever, checks=checks)


def gate_of(mode: GateMode) -> Gate:
    return Gate(mode=mode, agreement_samples=3, calibration=BY_AGREEMENT)


async def test_without_a_calibration_features_are_measured_and_nothing_else_happens() -> None:
    model = model_of(Asked(EGG, EGG, HAT, NONSENSE), Gate(agreement_samples=4))
    dream = await model.dream(TASK, episode_id="e", seed=0)
    trust = (await dream.predict("take egg")).trust
    assert trust is not None
    assert trust.features is not None
    assert trust.features.agreement == pytest.approx(1 / 3)
    assert trust.features.mean_logprob is not None
    assert trust.uncertainty is None


async def test_a_single_sample_costs_no_further_engine_call() -> None:
    asked = Asked(EGG)
    dream = await model_of(asked, Gate()).dream(TASK, episode_id="e", seed=0)
    trust = (await dream.predict("take egg")).trust
    assert len(asked.requests) == 1
    assert trust is not None
    assert trust.features is not None
    assert trust.features.agreement is None


async def test_samples_that_are_compared_are_drawn_with_seeds_of_their_own() -> None:
    asked = Asked(EGG)
    await (await model_of(asked, Gate(agreement_samples=3)).dream(TASK, episode_id="e", seed=0)).step("take egg")
    assert [request.sampling.temperature for request in asked.requests] == [0.0, 0.7, 0.7]
    assert len({request.seed for request in asked.requests}) == 3
    assert len({request.request_id for request in asked.requests}) == 3


@pytest.mark.parametrize(("retrieve", "asked"), [("step", [4]), ("episode", [4, 1]), ("off", [1])])
async def test_the_nearest_experience_is_that_of_the_step(retrieve: Retrieve, asked: list[int]) -> None:
    retriever = Nearby()
    model = model_of(Asked(EGG), Gate(), retriever=retriever, retrieve=retrieve)
    trust = (await (await model.dream(TASK, episode_id="e", seed=0)).predict("take egg")).trust
    assert trust is not None
    assert trust.features is not None
    assert trust.features.similarity == 0.75
    assert retriever.asked == asked


async def test_below_the_threshold_a_step_passes_with_its_chance() -> None:
    dream = await model_of(Asked(EGG), gate_of("truncate")).dream(TASK, episode_id="e", seed=0)
    trust = (await dream.step("take egg")).trust
    assert trust is not None
    assert trust.uncertainty == pytest.approx(1 / (1 + np.exp(5)))


async def test_above_it_another_sample_is_held_against_the_same_comparison() -> None:
    asked = Asked(HAT, EGG, EGG, EGG)
    transition = await (await model_of(asked, gate_of("resample")).dream(TASK, episode_id="e", seed=0)).step("take egg")
    assert (transition.samples, transition.state.elements["egg"]) == (2, "held")
    assert len(asked.requests) == 4


async def test_without_a_sample_that_passes_the_episode_fails_with_a_kind_of_its_own() -> None:
    dream = await model_of(Asked(HAT, EGG, EGG, HAT), gate_of("resample")).dream(TASK, episode_id="e", seed=0)
    with pytest.raises(UncertaintyError, match=r"2 samples.*chance of 0\.99, above 0\.50") as caught:
        await dream.step("take egg")
    assert caught.value.kind == "uncertainty"


async def test_above_it_the_episode_can_be_truncated() -> None:
    dream = await model_of(Asked(HAT, EGG), gate_of("truncate")).dream(TASK, episode_id="e", seed=0)
    with pytest.raises(TruncationError):
        await dream.step("take egg")


async def test_above_it_a_step_can_be_kept_with_its_chance() -> None:
    transition = await (await model_of(Asked(HAT, EGG), gate_of("flag")).dream(TASK, episode_id="e", seed=0)).step("x")
    assert transition.trust is not None
    assert transition.trust.uncertainty == pytest.approx(1 / (1 + np.exp(-5)))


async def test_reality_takes_the_same_actions_and_answers_in_the_models_place() -> None:
    house = RealHouse()
    asked = Asked(EGG, EGG, EGG, HAT, EGG, NONSENSE, says())
    ledger = NothingVanishes()
    model = model_of(asked, gate_of("real"), reality=house, ledger=ledger)
    async with DreamEnvironment(model).session(TASK, episode_id="e", seed=0) as session:
        await session.step("take egg")
        real = await session.step("wave")
        await session.step("look")
    assert house.taken == [["take egg", "wave"]]
    assert real.state.elements["wave"] == "done"
    assert real.trust is not None
    assert (real.trust.grounded, real.trust.uncertainty) == (True, 0.0)
    assert "wave: done" in asked.prompt(6)
    assert model._checks.count.figures.grounded == 1


async def test_reality_answers_too_where_no_sample_can_be_kept() -> None:
    house = RealHouse()
    model = model_of(Asked(NONSENSE, NONSENSE), gate_of("real"), reality=house)
    real = await (await model.dream(TASK, episode_id="e", seed=0)).step("wave")
    assert house.taken == [["wave"]]
    assert (real.state.elements["wave"], real.samples) == ("done", 2)
    assert real.trust is not None
    assert real.trust.grounded


async def test_a_past_that_reality_does_not_know_is_refused() -> None:
    asked = Asked(EGG, EGG, EGG, HAT, EGG, EGG)
    model = model_of(asked, gate_of("real"), reality=RealHouse(done_after=1))
    dream = await model.dream(TASK, episode_id="e", seed=0)
    await dream.step("take egg")
    with pytest.raises(UncertaintyError, match="ended with success after 1 of 2"):
        await dream.step("wave")
