"""The baselines of `benchmarks.closed_loop`: SFT or DPO on the episodes of one store.

In: `sft` or `dpo`, a store, the policy that both begin with. Out: a checkpoint; counts.json beside it, with what was
learned from. Always: one pass over what is learned from, so that more steps are more data and not more repetition.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from dreamsim.cli.engines import model_source
from dreamsim.cli.models import policy_settings, prepare
from dreamsim.records.episode import Episode
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.whole_files import write_whole
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store
from dreamsim_trainers.causal_lm import TrainSettings
from dreamsim_trainers.dpo import DpoTraining, train_dpo
from dreamsim_trainers.sft import SftTraining, train_sft

PAIRS_PER_TASK = 2
RATE = {"sft": 3e-4, "dpo": 1e-4}


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_loop_stored", description=__doc__)
    parser.add_argument("algorithm", choices=("sft", "dpo"))
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given, rest = parser.parse_known_args(arguments)
    settings = load_settings(parse_arguments(rest))
    episodes = anyio.run(dreamed, given.store)
    prepared = prepare(settings.policy, "policy")
    how = policy_settings(settings.policy, prepared)
    model = model_source(settings.policy, "policy")
    learned_from = _samples(given.algorithm, episodes)
    train = TrainSettings(
        output=given.output,
        steps=max(1, learned_from // 16),
        batch_size=16,
        learning_rate=RATE[given.algorithm],
        warmup_steps=10,
        seed=given.seed,
    )
    if given.algorithm == "sft":
        train_sft(episodes, SftTraining(model=model, train=train, settings=how))
    else:
        train_dpo(episodes, DpoTraining(model=model, train=train, settings=how, per_task=PAIRS_PER_TASK))
    counts = {
        "real": 0,
        "dreamed": sum(len(episode.transitions) for episode in episodes),
        "evaluation": 0,
        "episodes": len(episodes),
        "learned_from": learned_from,
        "stored_s": max(e.started_at + e.duration_s for e in episodes) - min(e.started_at for e in episodes),
    }
    write_whole(given.output / "counts.json", json.dumps(counts, indent=1) + "\n")
    return 0


async def dreamed(path: Path) -> list[Episode]:
    """The dreamed episodes of a store that did not end in an error."""
    async with open_store(path, encoder=None) as store:
        found = [episode async for episode in store.episodes(EpisodeFilter(source="dreamed"))]
    return [episode for episode in found if episode.outcome != "error"]


def _samples(algorithm: str, episodes: Sequence[Episode]) -> int:
    """Successes for SFT; for DPO at most so many pairs for every task that has both."""
    if algorithm == "sft":
        return sum(episode.outcome == "success" for episode in episodes)
    good: dict[str, int] = {}
    bad: dict[str, int] = {}
    for episode in episodes:
        kind = good if episode.outcome == "success" else bad
        kind[episode.task.key] = kind.get(episode.task.key, 0) + 1
    return sum(min(PAIRS_PER_TASK, number, bad.get(key, 0)) for key, number in good.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
