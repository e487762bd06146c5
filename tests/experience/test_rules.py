"""Rules of the user's own: what they say of steps, and what is said of mistakes in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError, RecordError
from dreamsim.experience.patterns import folded, parse_pattern
from dreamsim.experience.rules import RuleVerifier, load_rules, parse_rules
from dreamsim.records.episode import Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.testing.strategies import tasks, texts, transitions

RULES = """
[[rule]]
name = "coin in hand"
environment = "textworld_express/coin"
success = ["coin: held"]

[[rule]]
name = "put away"
instruction = "Put the {thing} in the {place}."
success = ["{thing}: in {place}"]
failure = { state = ["{thing}: broken{}"], not = ["glue: held"] }

[[rule]]
name = "bought"
environment = "webshop"
instruction = "buy {item}"
success = { action = "click[buy now]", state = ["title: {item} {}"] }
otherwise = "unknown"
"""


def task(environment: str = "test/one", instruction: str = "wait") -> Task:
    return Task(environment=environment, instruction=instruction, first_state=State.of(["at: hall"]), fold="train")


def step(*lines: str, action: str = "wait") -> Transition:
    return Transition(action=action, state=State.of(lines), reward=0.0, outcome="running")


PUT = "put  the Red Cup in the shelf 3."


@pytest.mark.parametrize(
    ("environment", "instruction", "transition", "expected"),
    [
        ("textworld_express/coin", "find it", step("at: hall", "coin: held"), "success"),
        ("textworld_express/coin", "find it", step("at: hall", "coin: here"), "running"),
        ("textworld_express/coin", "find it", step("old coin: held"), "running"),
        ("kitchen", PUT, step("red cup: in shelf 3"), "success"),
        ("kitchen", PUT, step("red cup: in shelf 33"), "running"),
        ("kitchen", PUT, step("blue cup: in shelf 3"), "running"),
        ("kitchen", PUT, step("red cup: broken in two"), "failure"),
        ("kitchen", PUT, step("red cup: broken in two", "glue: held"), "running"),
        ("webshop", "buy soap", step("title: soap bar", action="click[Buy Now]"), "success"),
        ("webshop", "buy soap", step("title: soap bar", action="click[back]"), None),
        ("webshop", "find soap", step("title: soap bar", action="click[Buy Now]"), None),
        ("test/one", "wait", step("coin: held"), None),
    ],
)
def test_what_the_rules_say(environment: str, instruction: str, transition: Transition, expected: str | None) -> None:
    verifier = RuleVerifier(parse_rules(RULES, kind="toml"))
    verdict = verifier.verdict(task(environment, instruction), transition)
    assert verdict.outcome == expected, verdict.reason


def test_the_verdict_names_the_rule_that_decided() -> None:
    verdict = RuleVerifier(parse_rules(RULES, kind="toml")).verdict(task("k", PUT), step("red cup: in shelf 3"))
    assert verdict.reason == "put away: success holds"


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ('[[rule]]\nname = "x"', ":1: rule 1: success: is missing, and so is failure"),
        ('\n[[rule]]\nsucces = ["a"]\nfailure = ["b"]', ":3: rule 1: succes: is not a field"),
        ("[[rule]]\nsuccess = []", ":2: rule 1: success: is empty"),
        ('[[rule]]\nsuccess = ["{thing}: held"]', ":2: rule 1: success: '{thing}: held': {thing} is no name"),
        ('[[rule]]\ninstruction = "{a}{b}"\nsuccess = ["x"]', ":2: rule 1: instruction: has two places side by side"),
        ('[[rule]]\ninstruction = "{a} {a}"\nsuccess = ["x"]', ":2: rule 1: instruction: has {a} twice"),
        ('[[rule]]\nenvironment = "{a}"\nsuccess = ["x"]', ":2: rule 1: environment: takes {} for anything"),
        ('[[rule]]\nsuccess = ["x"]\n\n[[rule]]\nsuccess = ["a { b"]', ":5: rule 2: success[0]: has a lone '{'"),
        ('[[rule]]\nsuccess = ["x"]\notherwise = "maybe"', ":3: rule 1: otherwise: must be one of"),
        ('[[rule]]\nsuccess = "x"', ":2: rule 1: success: must be an object"),
        ('[[rule]]\nsuccess = { state = ["x", ""] }', ":2: rule 1: success.state[1]: is empty"),
        ('[[rule]]\nsuccess = { states = ["x"] }', ":2: rule 1: success"),
        ("rules = []", "rule: is missing"),
        ("[[rule]", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line(mistake: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_rules(mistake, kind="toml", source="r.toml")
    assert f"r.toml{said}" in str(caught.value) or said in str(caught.value)
    assert str(caught.value).startswith("r.toml")


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_rules('[[rule]]\nname = "a"\n[[rule]]\nname = "b"', kind="toml", source="r.toml")
    assert [line.partition(" rule ")[0] for line in str(caught.value).splitlines()] == ["r.toml:1:", "r.toml:3:"]


def test_json_says_the_same(tmp_path: Path) -> None:
    import tomllib

    path = tmp_path / "mine.json"
    path.write_text(json.dumps(tomllib.loads(RULES)))
    verifier = load_rules(path)
    assert verifier.verdict(task("k", PUT), step("red cup: in shelf 3")).outcome == "success"
    assert verifier.name.startswith("rules:mine@")


def test_another_content_is_another_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RULES)
    first = load_rules(path).name
    path.write_text(RULES + "\n")
    assert load_rules(path).name != first


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read"):
        load_rules(tmp_path / "none.toml")


@given(tasks(), transitions())
def test_any_step_gets_a_verdict(some_task: Task, transition: Transition) -> None:
    verdict = RuleVerifier(parse_rules(RULES, kind="toml")).verdict(some_task, transition)
    assert verdict.outcome in (None, "running", "success", "failure")


@given(
    st.one_of(texts(200), texts(40).map(lambda text: f'[[rule]]\nsuccess = ["{text}"]')),
    st.sampled_from(("toml", "json")),
)
def test_any_text_is_rules_or_a_configuration_error(text: str, kind: str) -> None:
    try:
        made = parse_rules(text, kind="json" if kind == "json" else "toml")
    except ConfigurationError:
        return
    assert made


@given(st.lists(texts(8).filter(lambda word: word.strip()), min_size=1, max_size=4), st.data())
def test_what_was_filled_in_is_found_again(words: list[str], data: st.DataObject) -> None:
    """A text made from a pattern matches it, and what is found makes the same text."""
    between = [data.draw(st.sampled_from(("<>", " - ", "::"))) for _ in words]
    pattern = parse_pattern("".join(f"{{n{i}}}{sep}" for i, sep in enumerate(between)), "p")
    text = folded("".join(word + sep for word, sep in zip(words, between, strict=True)))
    found = pattern.match(text)
    if found is not None:
        assert pattern.filled(found).match(text) == {}
    if not any(sep.strip() in word for word in words for sep in between) and text == text.strip():
        assert found is not None


@given(texts(60))
def test_any_text_is_a_pattern_or_a_record_error(text: str) -> None:
    try:
        pattern = parse_pattern(text, "p")
    except RecordError:
        return
    assert len(pattern.literals) == len(pattern.places) + 1


def test_a_pattern_of_many_places_takes_no_longer_on_a_hostile_line() -> None:
    pattern = parse_pattern("{}a" * 60 + "{}b", "p")
    assert pattern.match("a" * 200_000) is None


def test_the_rules_in_the_documentation_decide_as_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```toml\n(.+?)```", page, flags=re.DOTALL)
    verifier = RuleVerifier(parse_rules(shown, kind="toml"))
    put = task("alfworld/pick_and_place_simple", "Put some mug on shelf")
    assert verifier.verdict(put, step("mug 2: in shelf 1")).outcome == "success"
    assert verifier.verdict(put, step("mug 2: in drawer 1")).outcome == "running"
    buy = task("webshop", "a red cup, and price lower than 20.00 dollars")
    assert verifier.verdict(buy, step("at: end", "result: score 0.0")).outcome == "failure"
    assert verifier.verdict(buy, step("title: cup", action="click[Buy Now]")).outcome == "success"
    assert verifier.verdict(buy, step("title: cup", action="click[Back]")).outcome is None
