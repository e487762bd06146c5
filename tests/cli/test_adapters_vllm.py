"""Two LoRA adapters, policy and experience model, on one real vLLM; one of them is asked in a chat frame.

All weights are random, so that episodes end as typed failures; what counts is what is asked, and of whom.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dreamsim.cli.models import open_roles
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.flow.source import CyclingTasks
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.store.store import open_store
from dreamsim.testing.world import scripted_tasks
from tests.cli.test_adapters import adapters, base, options, settings

__all__ = ["adapters", "base"]
pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(1200)]
EPISODES = 8


async def silent(text: str) -> None:
    """Says nothing."""


async def test_two_adapters_play_and_dream_on_one_engine_in_a_chat_frame(
    base: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamsim.engines.vllm_local import VllmEngine

    asked: list[tuple[VllmEngine, GenerationRequest]] = []
    generate = VllmEngine.generate

    async def noting(self: VllmEngine, request: GenerationRequest) -> Completion:
        asked.append((self, request))
        return await generate(self, request)

    monkeypatch.setattr(VllmEngine, "generate", noting)
    given = settings(*options(base, adapters))
    async with (
        open_store(tmp_path / "store.sqlite") as store,
        open_roles(given, store, Telemetry(), silent, logs=tmp_path) as roles,
        Simulator(
            environment=roles.environment,
            policy=roles.policy,
            tasks=CyclingTasks(scripted_tasks(EPISODES), episodes=EPISODES),
            run="adapters",
            max_steps=2,
        ) as simulator,
    ):
        episodes = [episode async for episode in simulator.episodes()]
        engine = asked[0][0]
        await answers_differ(engine, ("policy", "experience", None))
    assert logs_of(tmp_path) == ["vllm-policy.log"]
    assert len(episodes) == EPISODES
    assert {episode.error_kind for episode in episodes} <= {None, "policy", "experience", "parse"}
    assert all(one is engine for one, _ in asked)
    by_role = {role: [request for _, request in asked if request.role == role] for role in adapters}
    assert {request.adapter for request in by_role["policy"]} == {"policy"}
    assert {request.adapter for request in by_role["experience"]} <= {"experience"}
    check_frames([request.prompt_token_ids.tolist() for request in by_role["policy"]], base)


def logs_of(directory: Path) -> list[str]:
    """One for each engine that was started."""
    return [log.name for log in directory.rglob("vllm-*.log")]


async def answers_differ(engine: object, adapters: Sequence[str | None]) -> None:
    """Each adapter, and none, answers the same question in its own way."""
    from dreamsim.engines.vllm_local import VllmEngine

    assert isinstance(engine, VllmEngine)
    said = set()
    for adapter in adapters:
        sampling = Sampling(max_tokens=24, temperature=0.0)
        prompt = np.arange(40, 90, dtype=np.int32)
        request = GenerationRequest(
            request_id=f"differ-{adapter}", prompt_token_ids=prompt, sampling=sampling, seed=0, adapter=adapter
        )
        said.add(tuple((await engine.generate(request)).token_ids.tolist()))
    assert len(said) == len(adapters)


def check_frames(prompts: Sequence[list[int]], base: Path) -> None:
    """Every prompt is one system turn and one user turn, in the template's own tokens."""
    tokenizer = load_tokenizer(base)
    start, end = (int(tokenizer.encode(tag)[0]) for tag in ("<|im_start|>", "<|im_end|>"))
    assert prompts
    for prompt in prompts:
        assert [token for token in prompt if token in (start, end)] == [start, end, start, end, start]
        said = tokenizer.decode(np.array(prompt, dtype=np.int32))
        assert said.startswith("<|im_start|>system\nYou ")
        assert said.count("<task>") == 1
        assert said.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_the_command_runs_two_adapters_on_one_engine(base: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = [sys.executable, "-m", "dreamsim.run", *options(base, adapters), "--display.mode", "plain"]
    command += ["--concurrency", str(EPISODES), "--episodes", str(EPISODES), "--run.directory", str(directory)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)
    assert ended.returncode in (0, 1), ended.stderr  # 1: too many failures, as random weights must end
    assert "for both roles" in ended.stdout + ended.stderr
    assert logs_of(directory) == ["vllm-policy.log"]
    with sqlite3.connect(next(directory.rglob("*.sqlite"))) as store:
        (dreamed,) = store.execute("SELECT count(*) FROM episodes WHERE source = 'dreamed'").fetchone()
    assert dreamed == EPISODES
