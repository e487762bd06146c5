"""What the simulator itself costs: its wall time over that of the same requests, replayed with asyncio alone.

In: settings, rounds. Out: `overhead_ratio`.
Always:
- both run in one process on the same engines, one after the other, with the prefix caches emptied before each;
- the replay makes exactly the requests that the simulation before it made, each episode's in order and all episodes at
  once, straight into vLLM, and each answer gets as many tokens as it had;
- the simulation does all that a run does: prompts, retrieval, parsing, checks, telemetry, a store on disk; Python's
  collector is set as `dreamsim run` sets it, for both;
- a first simulation warms up and is not counted.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli.engines import Role, open_engines
from dreamsim.cli.models import Prepared, experience_settings, policy_settings, prepare
from dreamsim.cli.tasks import experience_file, load_tasks
from dreamsim.cli.trust import open_checks
from dreamsim.engines.vllm_local import VllmEngine
from dreamsim.evaluation.intervals import Estimate, over_seeds
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel
from dreamsim.flow.source import CyclingTasks
from dreamsim.protocols import Engine
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.task import Task
from dreamsim.runtime.config import Settings
from dreamsim.runtime.measured import MeasuredEngine, MeasuredRetriever
from dreamsim.runtime.memory import rare_collections
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.store.jsonl import import_jsonl
from dreamsim.store.store import open_store

ID_LENGTH = 20
"""Of an episode's id, with which its requests' ids begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one request asked for, and how much it got."""

    engine: VllmEngine
    prompt: NDArray[np.int32]
    sampling: Sampling
    tokens: int


@dataclass(slots=True)
class Recording:
    """The requests of a simulation, by episode, in order."""

    episodes: dict[str, list[Request]] = field(default_factory=lambda: defaultdict(list))

    @property
    def tokens(self) -> int:
        """Tokens generated."""
        return sum(request.tokens for requests in self.episodes.values() for request in requests)

    @property
    def requests(self) -> int:
        """Requests made."""
        return sum(len(requests) for requests in self.episodes.values())


class RecordingEngine(MeasuredEngine):
    """An engine as a run measures it, that also notes what goes through it."""

    def __init__(self, engine: VllmEngine, telemetry: Telemetry, recording: Recording) -> None:
        super().__init__(engine, telemetry)
        self._bare = engine
        self._recording = recording

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`, count it and note it."""
        if request.adapter is not None:
            raise SystemExit("overhead replays whole models: leave the adapters out")
        completion = await super().generate(request)
        self._recording.episodes[request.request_id[:ID_LENGTH]].append(
            Request(
                engine=self._bare,
                prompt=request.prompt_token_ids,
                sampling=request.sampling,
                tokens=len(completion.token_ids),
            )
        )
        return completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Time."""

    wall_s: float
    """On the wall."""
    cpu_s: float
    """Of processors, by this process: the simulator, and the part of vLLM that feeds its engine processes."""

    @classmethod
    def now(cls) -> Spent:
        """Until now."""
        return cls(wall_s=time.perf_counter(), cpu_s=time.process_time())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(wall_s=self.wall_s - other.wall_s, cpu_s=self.cpu_s - other.cpu_s)


async def replay(recording: Recording) -> Spent:
    """Time that the bare engines take for the same requests."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    async def episode(name: str, requests: list[Request]) -> int:
        generated = 0
        for number, request in enumerate(requests):
            wanted = SamplingParams(
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p,
                top_k=request.sampling.top_k,
                max_tokens=request.tokens,
                min_tokens=0,
                ignore_eos=True,
                logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_clone=True,
            )
            prompt = {"type": "token", "prompt_token_ids": request.prompt.tolist()}
            outputs = request.engine._llm.generate(prompt, wanted, f"replay-{name}-{number}")
            async for output in outputs:
                generated += len(output.outputs[0].token_ids)
        return generated

    begun = Spent.now()
    generated = await asyncio.gather(*(episode(name, requests) for name, requests in recording.episodes.items()))
    spent = Spent.now() - begun
    if sum(generated) != recording.tokens:
        raise SystemExit(f"the replay generated {sum(generated)} tokens, the simulation {recording.tokens}")
    return spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all rounds share."""

    settings: Settings
    work: Path
    tasks: tuple[Task, ...]
    engines: dict[Role, VllmEngine]
    ready: dict[Role, Prepared]

    async def forget(self) -> None:
        """Empty the prefix caches."""
        for engine in {id(engine): engine for engine in self.engines.values()}.values():
            await engine.reset_prefix_cache()

    async def simulate(self, number: int) -> tuple[Spent, Recording]:
        """Time from the first admission to the last stored episode, and the requests made."""
        recording = Recording()  # one sequence of requests per episode, whoever asked
        settings, telemetry = self.settings, Telemetry()
        directory = self.work / f"overhead-{number}"
        async with (
            open_checks(settings, telemetry) as checks,
            open_store(directory / "store.sqlite", encoder=settings.store.encoder) as store,
        ):
            path = experience_file(settings)
            if path is not None:
                await import_jsonl(path, store)
                await store.flush()

            def measured(role: Role) -> Engine:
                return RecordingEngine(self.engines[role], telemetry, recording)

            playing, dreaming = self.ready["policy"], self.ready["experience"]
            policy = LanguageModelPolicy(
                measured("policy"), playing.tokenizer, policy_settings(settings.policy, playing)
            )
            how = experience_settings(settings.experience, dreaming)
            searched = MeasuredRetriever(store, telemetry)
            model = ExperienceModel(measured("experience"), dreaming.tokenizer, how, searched, checks=checks)
            simulator = Simulator(
                environment=DreamEnvironment(model),
                policy=policy,
                tasks=CyclingTasks(self.tasks, episodes=settings.episodes),
                run=f"overhead-{number}",
                sink=store,
                concurrency=settings.run.concurrency,
                max_steps=settings.run.max_steps,
                seed=settings.run.seed,
                telemetry=telemetry,
            )
            await self.forget()
            async with simulator:
                begun = Spent.now()
                async for _ in simulator.episodes():
                    pass
                await store.flush()
                spent = Spent.now() - begun
        await anyio.to_thread.run_sync(shutil.rmtree, directory)
        return spent, recording


async def measure(
    settings: Settings, work: Path, *, rounds: int, say: Callable[[str], None]
) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The ratio over the rounds, and the seconds it comes from."""
    tasks = await anyio.to_thread.run_sync(load_tasks, settings)
    ready: dict[Role, Prepared] = {
        "policy": await anyio.to_thread.run_sync(prepare, settings.policy, "policy"),
        "experience": await anyio.to_thread.run_sync(prepare, settings.experience, "experience"),
    }
    simulated: list[Spent] = []
    bare: list[Spent] = []
    async with opened_engines(settings, ready, work, say) as engines:
        stage = Stage(settings=settings, work=work, tasks=tasks, engines=engines, ready=ready)
        warm, _ = await stage.simulate(0)
        say(f"warm-up: {warm.wall_s:.1f} s")
        for number in range(1, rounds + 1):
            with rare_collections():
                ours, recording = await stage.simulate(number)
            await stage.forget()
            with rare_collections():
                alone = await replay(recording)
            simulated.append(ours)
            bare.append(alone)
            say(
                f"round {number}: {recording.requests} requests, {recording.tokens} tokens: "
                f"simulator {ours.wall_s:.2f} s ({ours.cpu_s:.2f} of this process), "
                f"bare {alone.wall_s:.2f} s ({alone.cpu_s:.2f}), ratio {ours.wall_s / alone.wall_s:.3f}"
            )
    ratios = [ours.wall_s / alone.wall_s for ours, alone in zip(simulated, bare, strict=True)]
    more = {
        "simulator_s": [one.wall_s for one in simulated],
        "bare_s": [one.wall_s for one in bare],
        "simulator_cpu_s": [one.cpu_s for one in simulated],
        "bare_cpu_s": [one.cpu_s for one in bare],
    }
    return {"overhead_ratio": over_seeds(ratios)}, more


@asynccontextmanager
async def opened_engines(
    settings: Settings, ready: dict[Role, Prepared], work: Path, say: Callable[[str], None]
) -> AsyncIterator[dict[Role, VllmEngine]]:
    """The engines of a run, which must be vLLM's: only those can be replayed straight into."""

    async def told(text: str) -> None:
        say(text)

    tokenizers = {role: role_ready.tokenizer for role, role_ready in ready.items()}
    async with open_engines(settings, tokenizers, told, logs=work) as engines:
        policy, experience = (getattr(engine, "alive", None) for engine in (engines.policy, engines.experience))
        if not isinstance(policy, VllmEngine) or not isinstance(experience, VllmEngine):
            raise SystemExit("overhead needs vLLM in this process for both roles")
        yield {"policy": policy, "experience": experience}
