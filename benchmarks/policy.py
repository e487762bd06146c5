"""How often the policy solves real games that nobody learned from.

In: settings, a number of games. Out: `policy_real_success` with Wilson's interval, and the same for each game.
Always:
- games of the package's test fold, the default mix in turn, each played once, in the real environment by the same
  simulator as dreams;
- an episode that ends in an error is not solved, and is counted;
- episodes are kept under the hash of the policy's weights and settings: repeating the command plays what is missing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import anyio

from benchmarks.roles import one_engine
from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli.engines import model_source
from dreamsim.cli.models import policy_settings, prepare
from dreamsim.evaluation.intervals import Estimate, proportion
from dreamsim.flow.source import CyclingTasks
from dreamsim.runtime.config import Settings
from dreamsim.simulator import Simulator
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store

CONCURRENCY = 128


async def measure(settings: Settings, work: Path, *, games: int) -> tuple[dict[str, Estimate], dict[str, int]]:
    """Estimates by key, and episodes by outcome."""
    from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment

    ready = await anyio.to_thread.run_sync(prepare, settings.policy, "policy")
    run = await anyio.to_thread.run_sync(run_name, settings, games)
    async with open_store(work / "policy.sqlite", encoder=None) as store, TextWorldExpressEnvironment() as environment:
        tasks = await environment.tasks(fold="test", count=games)
        finished = await store.finished_ids(run)
        if len(finished) < games:
            async with one_engine(settings, "policy", work / "vllm-policy.log", seeded=False) as engine:
                simulator = Simulator(
                    environment=environment,
                    policy=LanguageModelPolicy(engine, ready.tokenizer, policy_settings(settings.policy, ready)),
                    tasks=CyclingTasks(tasks, episodes=games, purpose="evaluation"),
                    run=run,
                    sink=store,
                    concurrency=CONCURRENCY,
                    max_steps=settings.run.max_steps,
                    seed=settings.run.seed,
                    finished=finished,
                )
                async with simulator:
                    async for _ in simulator.episodes():
                        pass
            await store.flush()
        solved: Counter[str] = Counter()
        played: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        async for episode in store.episodes(EpisodeFilter(run=run)):
            game = episode.task.environment.rpartition("/")[2]
            played[game] += 1
            solved[game] += episode.outcome == "success"
            outcomes[episode.outcome if episode.error_kind is None else f"error {episode.error_kind}"] += 1
    if played.total() != games:
        raise SystemExit(f"{played.total()} episodes of {games} games: repeat the command")
    figures = {"policy_real_success": proportion(solved.total(), games)}
    for game, number in sorted(played.items()):
        figures[f"policy_real_success.{game}"] = proportion(solved[game], number)
    return figures, dict(outcomes)


def run_name(settings: Settings, games: int) -> str:
    """The same for the same weights, settings and games."""
    content = hashlib.blake2b(digest_size=6)
    source = Path(model_source(settings.policy, "policy"))
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else []
    for file in files:
        content.update(file.read_bytes())
    content.update(f"{settings.policy!r} {settings.run.max_steps} {settings.run.seed} {games}".encode())
    return f"policy-{content.hexdigest()}"
