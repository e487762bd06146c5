"""A small dream of the shipped experience model on the real vLLM, with ledger, verifier and cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dreamsim.cli.ledgers import ledger_for
from dreamsim.cli.tasks import DATA, read_tasks
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.errors import ExperienceError
from dreamsim.experience.cache import TransitionCache
from dreamsim.experience.checks import Checks
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout
from dreamsim.experience.uncertainty import Gate
from dreamsim.experience.verifier import LedgerVerifier
from dreamsim.records.episode import Transition
from dreamsim.records.task import Task
from dreamsim.records.trust import Trust

pytestmark = [pytest.mark.anyio, pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("vllm")
ACTIONS = ("look around", "inventory", "open the moon")


async def played(model: ExperienceModel, task: Task, name: str) -> list[Transition | str]:
    """The dreamed steps; a step that could not be dreamed is the kind of its error, and the last."""
    steps: list[Transition | str] = []
    async with DreamEnvironment(model).session(task, episode_id=name, seed=1) as session:
        for action in ACTIONS:
            try:
                step = await session.step(action)
            except ExperienceError as error:
                return [*steps, error.kind]
            steps.append(step)
            if step.done:
                break
    return steps


def without_cached(steps: list[Transition | str]) -> list[Transition | str]:
    return [
        step
        if isinstance(step, str)
        else dataclasses.replace(step, trust=dataclasses.replace(trust_of(step), cached=False))
        for step in steps
    ]


def trust_of(step: Transition) -> Trust:
    assert step.trust is not None, "a checked step says what was found"
    return step.trust


async def test_the_same_dream_again_costs_no_engine_call_and_is_checked_again(tmp_path: Path) -> None:
    from dreamsim.engines.vllm_local import open_vllm_engine

    task = next(iter(read_tasks(DATA / "tasks.jsonl.xz")))
    wanted = VllmSettings(
        model=str(DATA / "experience"), name="tiny", max_model_len=1024, max_num_seqs=8, kv_cache_gib=0.125
    )
    async with open_vllm_engine(wanted, log_path=tmp_path / "vllm.log") as engine:
        checks = Checks(
            ledgers=ledger_for,
            verifiers=lambda name: LedgerVerifier(ledger_for(name)),
            cache=TransitionCache(),
            gate=Gate(agreement_samples=2),
        )
        settings = ExperienceSettings(layout=PromptLayout(retrieve="off"), max_tokens=200)
        model = ExperienceModel(engine, load_tokenizer(str(DATA / "experience")), settings, checks=checks)
        first = await played(model, task, "first")
        calls = engine.statistics().requests
        again = await played(model, task, "again")
        assert engine.statistics().requests == calls
    figures = checks.count.figures
    assert without_cached(first) == without_cached(again)
    assert [trust_of(step).cached for step in again if not isinstance(step, str)] == [True] * sum(
        not isinstance(step, str) for step in again
    )
    assert figures.saved_calls == calls
    assert figures.steps_first >= 2
    measured = [trust_of(step).features for step in first if not isinstance(step, str)]
    assert all(features is not None and (features.mean_logprob or -1) < 0 for features in measured)
