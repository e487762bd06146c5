"""Hypothesis strategies for the records: anything a model or a user could bring, odd text included.

In: nothing. Out: strategies. Always: what they draw satisfies the records' own invariants.
Needs `hypothesis` (the `dev` extra).
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dreamsim.records.completion import Completion, Decision
from dreamsim.records.episode import (
    EPISODE_OUTCOMES,
    PURPOSES,
    SOURCES,
    STEP_OUTCOMES,
    Episode,
    StepOutcome,
    Transition,
    episode_id,
)
from dreamsim.records.state import GONE, HELD, RESULT, SCENE, State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction, GateFeatures, Trust, Verdict

KEYS = (SCENE, RESULT, "box", "key", "door", "exits", "[12]", "stove")
VALUES = ("kitchen", "hall", "open", "closed", HELD, f"{HELD} lit", "in box", "12 eggs", "a: b", GONE, "")

ODD_TEXTS = (
    *("", " ", "\n", ":", ": a", "a:", "[", "]", "[1]", "[1] a", "[1]: a", "[a", "a]: b", "\0", "'", '"', "\\"),
    *("a: b: c", "\ta:\u00a0b\u2028", "\u2028", "<state>", "<end>", "a\n<state>\nb: c"),
    *(GONE, f"a: {GONE}", f"b: {HELD}"),
    *("\u00e9\u4e2d\U0001f600", "a" * 300, '{"a": [1, null]}', "take the key", "-1", "1e309", "NaN"),
)
LETTERS = st.characters(exclude_categories=["Cs"])


def texts(max_size: int = 20) -> st.SearchStrategy[str]:
    """Any text without lone surrogates; tags, colons, brackets and white space of all kinds are likely."""
    return st.one_of(st.sampled_from(ODD_TEXTS), st.text(LETTERS, max_size=max_size))


def lines() -> st.SearchStrategy[str]:
    """Element lines: mostly well-formed ones that share keys with each other, sometimes any text."""
    formed = st.builds("{}: {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES))
    return st.one_of(formed, formed, texts())


def states() -> st.SearchStrategy[State]:
    """States as `State.of` makes them."""
    return st.lists(lines(), max_size=8).map(State.of)


def tasks() -> st.SearchStrategy[Task]:
    """Tasks of any environment."""
    scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts(), st.floats(-1e6, 1e6))
    return st.builds(
        Task,
        environment=st.sampled_from(("scripted/carry", "textworld_express/twc", "web")),
        instruction=texts(),
        first_state=states(),
        fold=st.sampled_from(("train", "dev", "test")),
        seed=st.integers(0, 2**62),
        parameters=st.dictionaries(texts(), scalars, max_size=3),
    )


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """An engine's answers."""
    length = draw(st.integers(1, 8))
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=length, max_size=length))
    logprobs = draw(st.lists(st.floats(-50, 0, width=32), min_size=length, max_size=length))
    prompt = draw(st.integers(0, 4096))
    return Completion(
        token_ids=np.array(ids, dtype=np.int32),
        logprobs=np.array(logprobs, dtype=np.float32),
        finish_reason=draw(st.sampled_from(("stop", "length", "abort"))),
        prompt_tokens=prompt,
        cached_tokens=draw(st.integers(0, prompt)),
        version=draw(texts()),
    )


def decisions() -> st.SearchStrategy[Decision]:
    """Decisions with and without a language model behind them."""
    ids = st.lists(st.integers(0, 2**31 - 1), max_size=8).map(lambda drawn: np.array(drawn, dtype=np.int32))
    return st.one_of(
        st.builds(Decision, action=texts(), thought=texts()),
        st.builds(Decision, action=texts(), thought=texts(), prompt_token_ids=ids, completion=completions()),
    )


def trusts() -> st.SearchStrategy[Trust]:
    """What run-time checks may have found."""
    share = st.one_of(st.none(), st.floats(0, 1))
    logprob = st.one_of(st.none(), st.floats(-50, 0))
    outcome = st.sampled_from((None, *STEP_OUTCOMES))
    found = st.lists(st.builds(Contradiction, rule=texts(), message=texts()), max_size=2).map(tuple)
    features = st.builds(
        GateFeatures, agreement=share, mean_logprob=logprob, lowest_logprob=logprob, similarity=st.floats(-1, 1)
    )
    return st.builds(
        Trust,
        contradictions=found,
        rejected=found,
        verdict=st.one_of(st.none(), st.builds(Verdict, verifier=texts(), outcome=outcome, reason=texts())),
        claimed=outcome,
        uncertainty=share,
        features=st.one_of(st.none(), features),
        amended=st.booleans(),
        grounded=st.booleans(),
        cached=st.booleans(),
    )


def transitions(outcome: StepOutcome = "running") -> st.SearchStrategy[Transition]:
    """Transitions with this outcome."""
    return st.builds(
        Transition,
        action=texts(),
        state=states(),
        reward=st.floats(-10, 10),
        outcome=st.just(outcome),
        reasoning=texts(),
        admissible=st.lists(texts(), max_size=3).map(tuple),
        score=st.one_of(st.none(), st.floats(-1, 1)),
        decision=st.one_of(st.none(), decisions()),
        samples=st.integers(1, 9),
        retrieved=st.lists(texts(), max_size=2).map(tuple),
    )


@st.composite
def episodes(draw: st.DrawFn, *, max_steps: int = 4) -> Episode:
    """Finished episodes of every outcome."""
    task = draw(tasks())
    run, repeat = draw(texts()), draw(st.integers(0, 9))
    outcome = draw(st.sampled_from(EPISODE_OUTCOMES))
    steps = draw(st.lists(transitions(), max_size=max_steps))
    if outcome in ("success", "failure"):
        steps.append(draw(transitions("success" if outcome == "success" else "failure")))
    source = draw(st.sampled_from(SOURCES))
    failed = outcome == "error"
    return Episode(
        id=episode_id(run, task.key, repeat),
        run=run,
        task=task,
        repeat=repeat,
        source=source,
        purpose=draw(st.sampled_from(PURPOSES)),
        transitions=tuple(steps),
        outcome=outcome,
        error_kind=draw(st.sampled_from(("parse", "engine", "unexpected"))) if failed else None,
        error_message=draw(texts()) if failed else None,
        policy=draw(texts()),
        experience_model=draw(texts()) if source == "dreamed" else "",
        started_at=draw(st.floats(0, 4e9)),
        duration_s=draw(st.floats(0, 1e6)),
        generation=draw(st.integers(1, 9)) if source == "dreamed" else 0,
        quality=draw(st.dictionaries(texts(), st.floats(0, 1), max_size=3)),
    )
