"""Run-time checks beside a dream, over a scripted engine that sometimes lies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from dreamsim.engines.scripted import ScriptedEngine
from dreamsim.errors import ConfigurationError, ConsistencyError, ExperienceError, VerificationError
from dreamsim.experience.checks import Checks
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout
from dreamsim.experience.uncertainty import Gate, GateCalibration
from dreamsim.flow.rollout import Rollout, RolloutSettings
from dreamsim.protocols import Assignment, EpisodeSession, LedgerSession
from dreamsim.records.completion import Decision
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction, Verdict
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.trust_counts import TrustCounter, TrustFigures
from tests.experience.dreams import TASK, TOKENIZER, Asked, NothingVanishes, SeenThings, says

pytestmark = pytest.mark.anyio
TAKEN, LIE = says("egg: held"), says("hat: gone")


class SaysOfEggs:
    """A verifier: the task is done when the egg is held; of failures it cannot tell."""

    name = "eggs"

    def __init__(self) -> None:
        self.asked: list[tuple[int, LedgerSession | None]] = []

    async def verify(
        self, task: Task, before: Sequence[Transition], transition: Transition, *, books: LedgerSession | None = None
    ) -> Verdict:
        self.asked.append((len(before), books))
        if transition.outcome == "failure":
            return Verdict(verifier=self.name, outcome=None)
        held = transition.state.elements.get("egg") == "held"
        return Verdict(verifier=self.name, outcome="success" if held else "running", reason="I looked")


def model_of(asked: Asked, checks: Checks, *, samples: int = 3) -> ExperienceModel:
    settings = ExperienceSettings(layout=PromptLayout(retrieve="off"), samples=samples)
    return ExperienceModel(ScriptedEngine(asked, TOKENIZER), TOKENIZER, settings, checks=checks)


def dreaming(asked: Asked, checks: Checks) -> AbstractAsyncContextManager[EpisodeSession]:
    return DreamEnvironment(model_of(asked, checks)).session(TASK, episode_id="e", seed=0)


def with_ledger(**changes: object) -> Checks:
    ledger = NothingVanishes()
    return Checks(ledgers=lambda name: ledger, **changes)  # type: ignore[arg-type]


def with_verifier(**changes: object) -> Checks:
    verifier = SaysOfEggs()
    return Checks(verifiers=lambda name: verifier, **changes)  # type: ignore[arg-type]


async def test_a_step_that_contradicts_is_sampled_again() -> None:
    checks = with_ledger()
    async with dreaming(Asked(LIE, TAKEN), checks) as session:
        step = await session.step("take egg")
    assert (step.samples, step.state.elements["hat"]) == (2, "here")
    assert step.trust is not None
    assert [found.rule for found in step.trust.rejected] == ["stays"]
    assert step.trust.contradictions == ()


async def test_the_first_sample_is_greedy_and_the_second_is_drawn() -> None:
    asked = Asked(LIE, TAKEN)
    async with dreaming(asked, with_ledger()) as session:
        await session.step("take egg")
    assert [request.sampling.temperature for request in asked.requests] == [0.0, 0.7]


async def test_a_liar_ends_the_episode_with_an_error_of_its_own_kind() -> None:
    checks = with_ledger()
    async with dreaming(Asked(LIE), checks) as session:
        with pytest.raises(ConsistencyError, match=r"3 samples.*stays: hat is gone") as caught:
            await session.step("take egg")
    assert caught.value.kind == "consistency"
    assert checks.count.figures.inconsistent == 1


class Waves:
    """A policy that knows one action."""

    name = "waves"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Waves:
        return self

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        return Decision(action="wave")


async def test_an_episode_with_a_liar_ends_as_data_of_that_kind_with_its_steps_before() -> None:
    telemetry = Telemetry()
    checks = with_ledger(count=TrustCounter(telemetry.counters))
    rollout = Rollout(
        environment=DreamEnvironment(model_of(Asked(says(), LIE), checks)),
        policy=Waves(),
        settings=RolloutSettings(run="r", max_steps=5),
        telemetry=telemetry,
    )
    episode = await rollout.play(Assignment(task=TASK), telemetry.admitted("e", TASK.key))
    assert (episode.outcome, episode.error_kind, len(episode.transitions)) == ("error", "consistency", 1)
    assert TrustFigures(telemetry.snapshot().counters).contradictions_before == 50


async def test_the_kind_is_that_of_the_last_refusal() -> None:
    async with dreaming(Asked(LIE, "nonsense"), with_ledger()) as session:
        with pytest.raises(ExperienceError) as caught:
            await session.step("take egg")
    assert caught.value.kind == "experience"


class HatStays(SeenThings):
    """Books that know the whole step: the hat stays, and nothing ends."""

    def amended(self, transition: Transition) -> State | None:
        return None if "unknown" in transition.action else State.of(["at: kitchen", "egg: held", "hat: here"])

    def outcome(self, transition: Transition) -> StepOutcome | None:
        return "running"


class AmendingBooks(NothingVanishes):
    def open(self, task: Task) -> HatStays:
        return HatStays(task.first_state)


def amending() -> Checks:
    books = AmendingBooks()
    return Checks(ledgers=lambda name: books, amend_after=2)


async def test_after_two_lies_a_step_is_as_the_books_say_and_marked() -> None:
    checks, asked = amending(), Asked(LIE)
    async with dreaming(asked, checks) as session:
        step = await session.step("take egg")
        again = await session.step("take egg")
    assert step.state.elements == {"at": "kitchen", "egg": "held", "hat": "here"}
    assert (step.samples, step.outcome, step.reward, step.reasoning) == (2, "running", 0.0, "")
    assert step.trust is not None
    assert step.trust.amended
    assert [found.rule for found in step.trust.rejected] == ["stays", "stays"]
    assert (again.samples, len(asked.requests)) == (2, 4)
    assert (checks.count.figures.amended, checks.count.figures.contradictions_after) == (2, 0)


async def test_what_the_books_do_not_decide_is_not_amended() -> None:
    checks = amending()
    async with dreaming(Asked(LIE), checks) as session:
        with pytest.raises(ConsistencyError):
            await session.step("unknown")
    assert checks.count.figures.amended == 0


async def test_a_step_that_is_sampled_well_in_time_is_the_models_own() -> None:
    async with dreaming(Asked(LIE, TAKEN), amending()) as session:
        step = await session.step("take egg")
    assert step.trust is not None
    assert (step.reasoning, step.trust.amended) == ("so it is", False)


async def test_a_contradiction_that_is_only_flagged_is_kept_and_marked() -> None:
    checks = with_ledger(on_contradiction="flag")
    async with dreaming(Asked(LIE), checks) as session:
        step = await session.step("take egg")
    assert (step.samples, step.state.elements.get("hat")) == (1, None)
    assert step.trust is not None
    assert [found.rule for found in step.trust.contradictions] == ["stays"]
    assert checks.count.figures.contradictions_after == 100


async def test_without_the_check_nobody_looks() -> None:
    checks = with_ledger(on_contradiction="off")
    async with dreaming(Asked(LIE), checks) as session:
        step = await session.step("take egg")
    assert step.trust is not None
    assert step.trust.contradictions == ()
    assert checks.count.figures.contradictions_before is None


async def test_rates_before_and_after_the_check_are_counted_by_first_and_by_kept_transitions() -> None:
    checks = with_ledger()
    async with dreaming(Asked(LIE, TAKEN), checks) as session:
        for _ in range(4):
            await session.step("take egg")
    figures = checks.count.figures
    assert (figures.contradictions_before, figures.contradictions_after) == (25, 0)
    assert (figures.rules_before, figures.rules_after) == ({"stays": 1}, {})


async def test_without_checks_a_transition_says_nothing_of_them() -> None:
    async with dreaming(Asked(TAKEN), Checks()) as session:
        assert (await session.step("take egg")).trust is None


async def test_the_books_follow_real_steps() -> None:
    dream = await model_of(Asked(says("key: gone")), with_ledger()).dream(TASK, episode_id="e", seed=0)
    state = State.of([*TASK.first_state.lines, "key: here"])
    dream.follow(Transition(action="look", state=state, reward=0, outcome="running"))
    with pytest.raises(ConsistencyError, match="key is gone"):
        await dream.predict("wave")


async def test_what_is_only_predicted_is_not_entered_in_the_books() -> None:
    dream = await model_of(Asked(says("cup: here"), says("egg: held")), with_ledger()).dream(
        TASK, episode_id="e", seed=0
    )
    await dream.predict("look")
    assert (await dream.predict("take egg")).samples == 1


async def test_each_episode_has_books_of_its_own_and_each_environment_one_ledger() -> None:
    ledger, names = NothingVanishes(), []

    def ledger_for(name: str) -> NothingVanishes:
        names.append(name)
        return ledger

    model = model_of(Asked(TAKEN), Checks(ledgers=ledger_for))
    for number in range(3):
        await model.dream(TASK, episode_id=str(number), seed=0)
    assert (names, ledger.opened) == (["test/one"], 3)


@pytest.mark.parametrize(
    ("answer", "outcome", "reward", "claimed"),
    [
        (says("hat: held", outcome="success"), "running", 0.0, "success"),
        (says("egg: held"), "success", 1.0, "running"),
        (says("egg: held", outcome="success"), "success", 1.0, None),
        (says("egg: held", outcome="failure"), "failure", 0.0, None),
    ],
    ids=["false success", "missed success", "true success", "cannot tell"],
)
async def test_a_trusted_verifier_sets_outcome_and_reward(
    answer: str, outcome: str, reward: float, claimed: str | None
) -> None:
    async with dreaming(Asked(answer), with_verifier()) as session:
        step = await session.step("take egg")
    assert (step.outcome, step.reward) == (outcome, reward)
    assert step.trust is not None
    assert step.trust.claimed == claimed


class FailuresEarnNothing(SeenThings):
    """Books of which a step that shows nothing new cannot succeed."""

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        claims = transition.outcome == "success" and transition.state.elements == self.facts
        return (*super().contradictions(transition), *((Contradiction(rule="claims", message="nothing new"),) * claims))


class StrictLedger:
    name = "strict/1"

    def open(self, task: Task) -> FailuresEarnNothing:
        return FailuresEarnNothing(task.first_state)


def strict(**changes: object) -> Checks:
    ledger, verifier = StrictLedger(), SaysOfEggs()
    return Checks(ledgers=lambda name: ledger, verifiers=lambda name: verifier, **changes)  # type: ignore[arg-type]


async def test_a_claim_that_the_verifier_replaces_is_no_reason_to_ask_again() -> None:
    checks = strict()
    async with dreaming(Asked(says(outcome="success"), TAKEN), checks) as session:
        step = await session.step("wave")
    assert (step.samples, step.outcome, step.reward) == (1, "running", 0.0)
    assert step.trust is not None
    assert (step.trust.claimed, step.trust.contradictions) == ("success", ())
    assert [found.rule for found in step.trust.rejected] == ["claims"]
    figures = checks.count.figures
    assert (figures.contradictions_before, figures.contradictions_after) == (100.0, 0.0)


async def test_a_lie_beside_a_claim_that_is_replaced_is_still_asked_again() -> None:
    async with dreaming(Asked(says("hat: gone", outcome="success"), TAKEN), strict()) as session:
        step = await session.step("take egg")
    assert (step.samples, step.outcome) == (2, "success")


@pytest.mark.parametrize("policy", ["drop", "flag"])
async def test_a_claim_against_the_books_is_asked_again_where_the_verifier_replaces_nothing(policy: str) -> None:
    async with dreaming(Asked(says(outcome="success"), says()), strict(on_disagreement=policy)) as session:
        step = await session.step("wave")
    assert (step.samples, step.outcome) == (2, "running")


async def test_a_corrected_step_is_shown_corrected_to_the_model() -> None:
    asked = Asked(says("hat: held", outcome="success"), says())
    async with dreaming(asked, with_verifier()) as session:
        await session.step("take hat")
        await session.step("wave")
    assert "<done> success" not in asked.prompt(1)
    assert "hat: held\n<reward> 0\n<done> no\n<end>" in asked.prompt(1)


async def test_a_disagreement_can_end_the_episode() -> None:
    async with dreaming(Asked(says(outcome="success")), with_verifier(on_disagreement="drop")) as session:
        with pytest.raises(VerificationError, match=r"says success, eggs says running: I looked") as caught:
            await session.step("wave")
    assert caught.value.kind == "verification"


async def test_a_disagreement_can_be_kept_and_marked() -> None:
    async with dreaming(Asked(says(outcome="success")), with_verifier(on_disagreement="flag")) as session:
        step = await session.step("wave")
    assert (step.outcome, step.reward) == ("success", 1.0)
    assert step.trust is not None
    assert step.trust.disagrees(step.outcome)


async def test_the_disagreement_rate_is_of_steps_the_verifier_could_tell() -> None:
    checks = with_verifier(on_disagreement="flag")
    for answer in (says(), says(outcome="success"), says(outcome="failure")):
        async with dreaming(Asked(answer), checks) as session:
            await session.step("wave")
    assert checks.count.figures.disagreement_rate == 0.5
    assert checks.count.figures.disagreements_by_kind == {"success->running": 1}


async def test_a_verifier_that_is_dear_is_asked_at_claimed_ends_only() -> None:
    verifier = SaysOfEggs()
    checks = Checks(verifiers=lambda name: verifier, verify="ends")
    async with dreaming(Asked(says(), says(outcome="failure")), checks) as session:
        await session.step("wave")
        await session.step("wave")
    assert verifier.asked == [(1, None)]


async def test_the_verifier_sees_the_open_books() -> None:
    verifier, ledger = SaysOfEggs(), NothingVanishes()
    checks = Checks(verifiers=lambda name: verifier, ledgers=lambda name: ledger)
    async with dreaming(Asked(says()), checks) as session:
        await session.step("wave")
    assert isinstance(verifier.asked[0][1], SeenThings)


def test_handing_over_to_reality_without_one_is_refused_at_start() -> None:
    calibration = GateCalibration(features=(), mean=(), scale=(), weight=(), bias=0.0)
    with pytest.raises(ConfigurationError, match="none is attached"):
        Checks(gate=Gate(mode="real", calibration=calibration))
