"""Answers held to a JSON schema, on the real vLLM: a model with random weights writes nothing else by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest

from dreamsim.engines.chat import EngineChat
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.errors import EngineError
from dreamsim.experience.judge import CRITERIA, Judge
from dreamsim.experience.questions import Patience, Prompt
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.testing.world import Position, gold_path, layout_of, scripted_task
from tests.engines.models import byte_tokenizer, random_llama

if TYPE_CHECKING:
    from dreamsim.engines.vllm_local import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
pytest.importorskip("vllm")
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"score": {"type": "integer", "enum": [0, 1, 2]}, "kind": {"enum": ["good", "bad"]}},
        "required": ["score", "kind"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = random_llama(tmp_path_factory.mktemp("model"), vocabulary=257, context=2048, end=256)
    return byte_tokenizer(path, end="<end>")


@pytest.fixture(scope="module")
async def engine(model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    from dreamsim.engines.vllm_local import open_vllm_engine

    settings = VllmSettings(
        model=str(model), dtype="float32", kv_cache_gib=0.125, max_num_seqs=16, seeded=True, json_schemas=True
    )
    async with open_vllm_engine(settings, log_path=tmp_path_factory.mktemp("log") / "vllm.log") as opened:
        yield opened


def request(number: int, schema: str | None) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"j{number}",
        prompt_token_ids=np.arange(2, 40, dtype=np.int32),
        sampling=Sampling(max_tokens=64, json_schema=schema),
        seed=number,
    )


async def test_every_answer_follows_the_schema(engine: VllmEngine, model: Path) -> None:
    tokenizer = load_tokenizer(model)
    answers: dict[int, Completion] = {}

    async def ask(number: int) -> None:
        answers[number] = await engine.generate(request(number, SCHEMA))

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(ask, number)
    read = [json.loads(tokenizer.decode(answer.token_ids).removesuffix("<end>")) for answer in answers.values()]
    assert {tuple(sorted(one)) for one in read} == {("kind", "score")}
    assert {one["score"] for one in read} <= {0, 1, 2}
    assert len({json.dumps(one) for one in read}) > 1


async def test_an_answer_without_a_schema_stays_free(engine: VllmEngine) -> None:
    completion = await engine.generate(request(100, None))
    assert len(completion.token_ids) > 30


async def test_a_judge_with_random_weights_gives_scores_in_range(engine: VllmEngine, model: Path) -> None:
    chat = EngineChat(engine, load_tokenizer(model), lambda system: None, max_tokens=1500, timeout_s=300)
    judge = Judge(chat, Prompt(system="Judge.", user="{action}"), patience=Patience(attempts=6, temperature=1.0))
    task = scripted_task(0)
    transition = Position(layout_of(task)).take_action(gold_path(task)[0])
    scores = await judge.scores(task, [], transition, request_id="e-0")
    assert set(scores.by_name) == set(CRITERIA)
    assert set(scores.by_name.values()) <= {0, 1, 2}


async def test_a_schema_that_is_none_fails_its_request_only(engine: VllmEngine) -> None:
    with pytest.raises(EngineError):
        await engine.generate(request(200, '{"type": "no such type"}'))
    assert len((await engine.generate(request(201, SCHEMA))).token_ids) > 5
