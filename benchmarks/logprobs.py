"""Measures how far engine and trainer are apart in log-probabilities, before and after weights were swapped in place.

    python -m benchmarks.logprobs
    python -m benchmarks.logprobs --policy.model path/to/checkpoint --vllm.dtype bfloat16

In: settings as `python -m dreamsim.run` takes them. Out: figures, printed and written to
benchmarks/results/closed-loop.json: `logprob_diff` (mean |log pi - log mu| over tokens that the engine sampled, 95 %
bootstrap interval over answers), `logprob_diff_after_swaps` (the same after the trainer's updates were loaded in
place), `weights_swap_s` (from published weights to an engine that answers with them, nothing being in flight).
Always: engine in bfloat16, trainer in bfloat16 under autocast with float32 weights, as in training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import numpy as np

from benchmarks.ledger import ROOT, record, shown
from benchmarks.roles import one_engine
from dreamsim.agents.language_model import PolicyPrompt, PolicySettings, sampling_of
from dreamsim.cli.engines import model_source
from dreamsim.cli.models import Prepared, policy_settings, prepare
from dreamsim.cli.tasks import load_tasks
from dreamsim.errors import UsageError
from dreamsim.evaluation.intervals import Estimate, clustered, over_seeds
from dreamsim.flow.agreement import LogprobAgreement, policy_agreement
from dreamsim.flow.batches import layout
from dreamsim.protocols import Engine
from dreamsim.records.batch import Batch
from dreamsim.records.completion import Decision, GenerationRequest
from dreamsim.records.sample import Trajectory, TrajectoryGroup
from dreamsim.records.task import Task
from dreamsim.runtime.config import Settings
from dreamsim.runtime.seeds import generator, seed_of
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim_trainers.grpo import GrpoTrainer

CLOSED_LOOP = ROOT / "benchmarks" / "results" / "closed-loop.json"
GROUP = 4


def estimate(found: LogprobAgreement) -> Estimate:
    """The mean over tokens, resampled by answers."""
    values = [(str(index), float(one)) for index, answer in enumerate(found.differences) for one in answer]
    return clustered(values, seed=0)


async def batch_of(
    engine: Engine, ready: Prepared, settings: PolicySettings, tasks: Sequence[Task], *, number: int
) -> Batch:
    """First decisions of the policy, with returns drawn at random: enough to move weights."""
    sampling = sampling_of(ready.tokenizer, settings)
    groups: list[TrajectoryGroup] = []
    for task in tasks:
        prompt = await anyio.to_thread.run_sync(PolicyPrompt(ready.tokenizer, settings, task).ask)
        made: list[Trajectory] = []
        for repeat in range(GROUP):
            name = f"batch-{number}-{len(groups)}-{repeat}"
            asked = GenerationRequest(
                request_id=name, prompt_token_ids=prompt, sampling=sampling, seed=seed_of(0, name), role="policy"
            )
            decision = Decision(action="", prompt_token_ids=prompt, completion=await engine.generate(asked))
            won = bool(generator(0, "return", name).random() < 0.5)
            made.append(
                Trajectory(
                    episode_id=name,
                    task_key=task.key,
                    source="dreamed",
                    samples=layout([decision]),
                    rewards=np.array([won], dtype=np.float32),
                    anchors=("",),
                    terminated=True,
                    success=won,
                )
            )
        groups.append(TrajectoryGroup(task_key=task.key, trajectories=tuple(made)))
    return Batch(number=number, groups=tuple(groups))


def trainer_of(source: str) -> GrpoTrainer:
    """A trainer of the same weights. Blocks."""
    from dreamsim_trainers.causal_lm import load_for_training
    from dreamsim_trainers.grpo import GrpoSettings
    from dreamsim_trainers.optimisation import OptimiserSettings

    return GrpoTrainer(load_for_training(source), GrpoSettings(optimiser=OptimiserSettings(learning_rate=1e-4)))


async def measure(settings: Settings, work: Path, *, answers: int, swaps: int) -> dict[str, Estimate]:
    """Estimates by key."""
    ready = await anyio.to_thread.run_sync(prepare, settings.policy, "policy")
    tasks = (await anyio.to_thread.run_sync(load_tasks, settings))[:answers]
    asked = policy_settings(settings.policy, ready)
    trainer = await anyio.to_thread.run_sync(trainer_of, model_source(settings.policy, "policy"))
    async with one_engine(settings, "policy", work / "vllm-logprobs.log", seeded=False) as engine:
        before = await policy_agreement(engine, trainer, ready.tokenizer, asked, tasks)
        seconds: list[float] = []
        for number in range(swaps):
            batch = await batch_of(engine, ready, asked, tasks[:8], number=number)
            await anyio.to_thread.run_sync(trainer.step, batch)
            update = await anyio.to_thread.run_sync(trainer.publish, work / "logprobs" / f"v{trainer.version}")
            begun = anyio.current_time()
            await engine.load_weights(update)
            seconds.append(anyio.current_time() - begun)
        after = await policy_agreement(engine, trainer, ready.tokenizer, asked, tasks)
    return {
        "logprob_diff": estimate(before),
        "logprob_diff_after_swaps": estimate(after),
        "weights_swap_s": over_seeds(seconds),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and record; returns the exit code."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks.logprobs", description=__doc__)
    whole.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="where files are kept")
    whole.add_argument("--ledger", type=Path, default=CLOSED_LOOP, help="the file of figures")
    whole.add_argument("--answers", type=int, default=64, help="answers compared")
    whole.add_argument("--swaps", type=int, default=3, help="updates made and loaded in place")
    given, rest = whole.parse_known_args(arguments)
    try:
        settings = load_settings(parse_arguments(["--vllm.dtype", "bfloat16", *rest]))
        given.work.mkdir(parents=True, exist_ok=True)
        figures = anyio.run(lambda: measure(settings, given.work, answers=given.answers, swaps=given.swaps))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = ["python", "-m", "benchmarks.logprobs", *(sys.argv[1:] if arguments is None else arguments)]
    record(figures, seeds=[0], ledger=given.ledger, command=command)
    print(shown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
