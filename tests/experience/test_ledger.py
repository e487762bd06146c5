"""The generic ledger: real episodes never contradict; every kind of lie does, by the rule that is meant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path

import pytest

from dreamsim.cli.ledgers import ledger_for
from dreamsim.experience.books import Books, Step
from dreamsim.experience.ledger import ElementLedger
from dreamsim.experience.ledger_rules import RULES
from dreamsim.experience.parse import AnswerRules
from dreamsim.protocols import GoalLedger, LedgerSession
from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.store.jsonl import read_jsonl
from dreamsim.testing.liars import LIES, Lie, Moment
from dreamsim_adapters.environments.textworld_express.ledger import TextWorldExpressLedger

STATE = ("at: hall", "box: closed", "apple: here", "coin: held", "north: attic")
TASK = Task(environment="any", instruction="do", first_state=State.of(STATE), fold="train")


@cache
def real_episodes() -> tuple[Episode, ...]:
    """Every seventh of the real episodes that the package ships: all games and policies are among them."""
    path = Path(str(files("dreamsim"))) / "data" / "experiences.jsonl.xz"
    return tuple(islice(read_jsonl(path), 0, None, 7))


def _step(
    action: str, *lines: str, of: tuple[str, ...] = STATE, reward: float = 0.0, outcome: StepOutcome = "running"
) -> Transition:
    return Transition(action=action, state=State.of([*of, *lines]), reward=reward, outcome=outcome)


def _rules(session: LedgerSession, transition: Transition) -> set[str]:
    return {found.rule for found in session.contradictions(transition)}


def _moments(episode: Episode) -> Iterator[Moment]:
    before, last = episode.task.first_state.elements, None
    for transition in episode.transitions:
        yield Moment(before=before, last_action=last, transition=transition)
        before, last = transition.state.elements, transition.action


@pytest.mark.parametrize("ledger", [ElementLedger(), TextWorldExpressLedger()], ids=lambda ledger: ledger.name)
def test_real_episodes_never_contradict(ledger: ElementLedger | TextWorldExpressLedger) -> None:
    steps = 0
    for episode in real_episodes():
        books = ledger.open(episode.task)
        for transition in episode.transitions:
            assert books.contradictions(transition) == (), (episode.id, transition.action)
            assert books.outcome(transition) in (None, transition.outcome), (episode.id, transition.action)
            books.see(transition)
            steps += 1
    assert steps > 1000


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.rule)
@pytest.mark.parametrize("ledger", [ElementLedger(), TextWorldExpressLedger()], ids=lambda ledger: ledger.name)
def test_every_lie_about_a_real_step_is_caught(ledger: ElementLedger | TextWorldExpressLedger, lie: Lie) -> None:
    told = 0
    for episode in real_episodes():
        books = ledger.open(episode.task)
        for moment in _moments(episode):
            lied = lie.tell(moment)
            if lied is not None:
                assert lie.rule in _rules(books, lied), (moment.transition.action, lied.state.lines)
                told += 1
            books.see(moment.transition)
        if told > 30:
            return
    assert told > 0


def test_looking_at_a_transition_changes_nothing() -> None:
    books = ElementLedger().open(TASK)
    books.contradictions(_step("take apple", of=("at: hall", "apple: held")))
    assert books.facts["apple"] == "here"


def test_no_step_is_taken_after_the_end() -> None:
    books = ElementLedger().open(TASK)
    books.see(_step("win", reward=1.0, outcome="success"))
    assert "after_end" in _rules(books, _step("look"))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -1.0, 1.5])
def test_rewards_are_numbers_in_the_range_of_the_task(reward: float) -> None:
    assert "reward_range" in _rules(ElementLedger().open(TASK), _step("win", reward=reward, outcome="success"))


def test_rewards_along_the_way_are_allowed_where_the_task_gives_them() -> None:
    rewards = AnswerRules(outcome_only=False, minimum_reward=-1.0)
    assert _rules(ElementLedger(rewards).open(TASK), _step("go on", reward=-0.5)) == set()


def test_a_thing_that_no_line_has_mentioned_is_not_taken() -> None:
    after = ("at: hall", "box: closed", "apple: here", "coin: held", "north: attic", "sword: held")
    assert "from_nowhere" in _rules(ElementLedger().open(TASK), _step("take sword", of=after))


def test_what_is_held_lies_in_no_room_that_was_left_without_it() -> None:
    books = ElementLedger().open(TASK)
    books.see(_step("take apple", "apple: held"))
    books.see(_step("move north", of=("at: attic", "apple: held", "coin: held", "south: hall")))
    assert "one_place" in _rules(books, _step("move south", "apple #2: held"))


def test_unknown_actions_may_change_anything() -> None:
    after = ("at: hall", "box: open", "pear: in box", "north: attic")
    assert _rules(ElementLedger().open(TASK), _step("cast a spell", of=after)) == set()


def test_where_there_are_no_places_looking_is_a_word() -> None:
    task = dataclasses.replace(TASK, first_state=State.of(["result: Simon says examine peach"]))
    books = ElementLedger().open(task)
    books.see(_step("examine peach", of=("result: Simon says examine peach",)))
    assert _rules(books, _step("examine peach", of=("result: incorrect",), outcome="failure")) == set()


def test_facts_tell_other_scenes_as_they_were_left() -> None:
    books = ElementLedger().open(TASK)
    books.see(_step("move north", of=("at: attic", "coin: held", "south: hall", "result: ok")))
    assert books.facts["coin"] == "held"
    assert books.facts["apple at hall"] == "here"
    assert "result" not in books.facts


def test_the_generic_ledger_knows_that_a_failure_ends_nothing() -> None:
    books = ElementLedger().open(TASK)
    assert isinstance(books, GoalLedger)
    assert books.outcome(_step("fly", "result: failed")) == "running"
    assert books.outcome(_step("fly")) is None


def test_every_rule_says_what_it_forbids() -> None:
    for ledger in (ElementLedger(), TextWorldExpressLedger()):
        assert all(meaning.endswith(".") and len(meaning) > 20 for meaning in ledger.rules.values())


@pytest.mark.parametrize(
    ("environment", "ledger"), [("textworld_express/twc", "textworld_express-2"), ("web", "elements-1")]
)
def test_an_environment_has_its_ledger_by_name(environment: str, ledger: str) -> None:
    assert ledger_for(environment).name == ledger


def test_the_documentation_names_every_rule_as_it_is() -> None:
    written = (Path(__file__).parents[2] / "docs" / "consistency.md").read_text()
    for ledger in (ElementLedger(), TextWorldExpressLedger()):
        for rule, meaning in ledger.rules.items():
            assert f"| `{rule}` | {meaning} |" in written


def test_an_environment_may_bring_rules_of_its_own() -> None:
    def lamp_burns(books: Books, step: Step) -> Iterator[str]:
        """A lamp that was lit stays lit."""
        if books.before.get("lamp") == "lit" and step.after.get("lamp") == "out":
            yield f"the lamp went out at {step.action!r}"

    task = dataclasses.replace(TASK, first_state=State.of([*STATE, "lamp: lit"]))
    books = ElementLedger(rules=(*RULES, lamp_burns)).open(task)
    assert _rules(books, _step("sing", "lamp: out")) == {"lamp_burns"}
