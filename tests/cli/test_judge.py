"""`dreamsim judge` against a chat server on loopback."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dreamsim.cli.judge import chosen_steps, judge_source, main, parser
from dreamsim.errors import UsageError
from dreamsim.protocols import StateLedger
from dreamsim.records.codec import episode_to_json
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction
from dreamsim.store.jsonl import read_jsonl
from dreamsim.store.store import open_store
from dreamsim.testing.world import Position, gold_path, layout_of, scripted_task

# The verb's own files are opened by the test, too.
pytestmark = pytest.mark.may_block
GOOD = {"reason": "fine", "consistency": 2, "diversity": 2, "informativeness": 1, "hallucination": 2}
Answering = Callable[[int], object]


def episode(seed: int) -> Episode:
    task = scripted_task(seed)
    position = Position(layout_of(task))
    steps = tuple(position.take_action(action) for action in gold_path(task))
    return Episode(
        id=f"e{seed}",
        run="dream",
        task=task,
        repeat=0,
        source="dreamed",
        purpose="training",
        transitions=steps,
        outcome="success",
    )


EPISODES = [episode(seed) for seed in range(3)]
STEPS = sum(len(one.transitions) for one in EPISODES)


@asynccontextmanager
async def judging(answer: Answering = lambda number: GOOD) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A chat server; yields its address and what it was asked."""
    asked: list[dict[str, Any]] = []

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "critic"}]})

    async def chat(request: web.Request) -> web.Response:
        asked.append(await request.json())
        said = answer(len(asked))
        if isinstance(said, web.Response):
            return said
        text = said if isinstance(said, str) else json.dumps(said)
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 5}})

    application = web.Application()
    application.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    finally:
        await runner.cleanup()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "episodes.jsonl"
    path.write_text("".join(json.dumps(episode_to_json(one)) + "\n" for one in EPISODES))
    return path


def scores_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def judged(source: Path, url: str, *more: str, model: str = "critic", **ledgers: Any) -> int:
    scores = source.with_name("scores.jsonl")
    given = [str(source), str(scores), "--judge.url", url, "--judge.model", model, "--concurrency", "1", *more]
    return await judge_source(parser().parse_args(given), **ledgers)


async def test_every_step_gets_its_scores(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with judging() as (url, asked):
        assert await judged(source, url, "--price-in", "1", "--price-out", "2") == 0
    lines = scores_of(source.with_name("scores.jsonl"))
    assert len(lines) == len({line["id"] for line in lines}) == STEPS
    assert {line["judge"] for line in lines} == {"judge:critic@0"}
    assert all("response_format" in body for body in asked)
    said = capsys.readouterr().out
    assert f"{STEPS} steps judged by judge:critic@0" in said
    assert "informativeness (0 to 2)" in said
    assert f"cost of all sittings: {STEPS * 60 / 1e6:,.4f}" in said


async def test_going_on_asks_only_for_what_is_missing(source: Path) -> None:
    async with judging() as (url, asked):
        assert await judged(source, url, "--limit", "1") == 0
        first = len(asked)
        assert await judged(source, url) == 0
    assert first == len(EPISODES[0].transitions)
    assert len(asked) == STEPS


async def test_a_step_without_a_usable_answer_is_reported_and_has_no_score(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with judging(lambda number: GOOD if number > 2 else "I would rather not.") as (url, _):
        assert await judged(source, url, "--attempts", "2") == 1
        assert len(scores_of(source.with_name("scores.jsonl"))) == STEPS - 1
        assert f"{STEPS + 1:,} requests in all sittings (2 without a usable answer)" in capsys.readouterr().out
        assert await judged(source, url, "--attempts", "2") == 0
    assert len(scores_of(source.with_name("scores.jsonl"))) == STEPS


async def test_a_wrong_key_ends_the_verb(source: Path) -> None:
    async with judging(lambda number: web.Response(status=401, text="wrong key")) as (url, _):
        with pytest.raises(UsageError, match="the judge cannot be asked: the server answered 401"):
            await judged(source, url)


async def test_scores_of_another_judge_are_not_mixed_in(source: Path) -> None:
    async with judging() as (url, _):
        await judged(source, url, "--limit", "1")
        scores = source.with_name("scores.jsonl")
        scores.write_text(scores.read_text().replace("critic@0", "other@1"))
        with pytest.raises(UsageError, match="holds the scores of judge:other@1"):
            await judged(source, url)


class NoWaving:
    """A ledger that finds fault with the first step of every episode."""

    name = "first@1"

    def open(self, task: Task) -> Any:
        class Books:
            def __init__(self) -> None:
                self.facts: Mapping[str, str] = {}
                self.seen = 0

            def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
                return () if self.seen else (Contradiction(rule="first", message="the first step"),)

            def see(self, transition: Transition) -> None:
                self.seen += 1

        return Books()


async def test_agreement_with_the_ledger_is_reported(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger: StateLedger = NoWaving()
    async with judging(lambda number: {**GOOD, "consistency": 0 if number == 1 else 2}) as (url, _):
        await judged(source, url, ledgers=lambda environment: ledger)
    said = capsys.readouterr().out
    assert "Cohen's kappa with the ledger" in said
    assert "1 / 0" in said
    assert f"2 / {STEPS - 3}" in said


async def test_episodes_can_be_written_with_their_scores(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "scored.jsonl"
    async with judging() as (url, _):
        await judged(source, url, "--episodes", str(target))
    found = {one.id: one for one in read_jsonl(target)}
    assert set(found) == {"e0", "e1", "e2"}
    assert found["e1"].quality["judge_informativeness"] == 0.5
    assert found["e1"].transitions == EPISODES[1].transitions


async def test_a_store_can_be_judged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with open_store(path, encoder=None) as store:
        await store.add_all([*EPISODES, dataclasses.replace(EPISODES[0], id="real", source="real", generation=0)])
        await store.flush()
    async with judging() as (url, asked):
        assert await judged(path, url) == 0
    assert len(asked) == STEPS


async def test_scores_can_be_added_to_the_episodes_in_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with open_store(path, encoder=None) as store:
        await store.add_all([dataclasses.replace(EPISODES[0], quality={"consistency": 0.75})])
    async with judging() as (url, _):
        assert await judged(path, url, "--keep") == 0
    async with open_store(path, encoder=None, read_only=True) as store:
        found = await store.episode("e0")
    assert found is not None
    assert (found.quality["consistency"], found.quality["judge_informativeness"]) == (0.75, 0.5)


async def test_only_some_steps_can_be_judged(source: Path) -> None:
    async with judging() as (url, asked):
        await judged(source, url, "--steps", "1")
    assert len(asked) == 3


def test_the_same_seed_draws_the_same_steps() -> None:
    drawn = [[step.step for step in chosen_steps(EPISODES[0], 2, seed=seed)] for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert len({tuple(steps) for steps in drawn}) > 1


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--judge\.model"):
        main(["a", "b", "--judge.url", "http://x/v1"])
    with pytest.raises(UsageError, match="--steps must be at least 1"):
        main(["a", "b", "--judge.url", "http://x/v1", "--judge.model", "m", "--steps", "0"])
    with pytest.raises(UsageError, match="--keep adds scores to a store"):
        main(["a.jsonl", "b", "--judge.url", "http://x/v1", "--judge.model", "m", "--keep"])
