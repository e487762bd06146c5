"""False alarms of a ledger: what it calls contradictions in real episodes, which are none. There must be none.

In: episode files (JSON lines, also .xz), or TextWorldExpress itself with `--collect N`: fresh episodes of the random
and the restless policy, N of each game and variant below. Out: a table of alarms per rule and of goal verdicts.
Exit status 1 when there was an alarm or a wrong verdict.

    python -m benchmarks.ledger_alarms dreamsim/data/experiences.jsonl.xz
    python -m benchmarks.ledger_alarms --collect 100 --workers 2
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from dreamsim.cli.ledgers import ledger_for
from dreamsim.protocols import GoalLedger, StateLedger
from dreamsim.records.episode import Episode
from dreamsim.store.jsonl import read_jsonl

VARIANTS = (
    *("twc", "coin", "cookingworld", "mapreader", "arithmetic", "sorting", "simonsays", "peckingorder"),
    "simonsays:memorization=1,gameLength=4",
    "mapreader:numLocations=8,includeDoors=1,limitInventorySize=1",
    "twc:numLocations=3,numItemsToPutAway=3,includeDoors=1,limitInventorySize=1",
    "coin:numLocations=6,includeDoors=1,limitInventorySize=1",
    "cookingworld:numLocations=4,includeDoors=1,limitInventorySize=1,numIngredients=3",
)
"""Games to collect: every game, and those with doors, limits and several rooms."""


@dataclass(slots=True)
class Alarms:
    """What was counted."""

    episodes: Counter[str] = field(default_factory=Counter)
    """Environment -> episodes."""
    steps: Counter[str] = field(default_factory=Counter)
    """Environment -> steps."""
    alarms: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(environment, rule) -> alarms."""
    decided: Counter[str] = field(default_factory=Counter)
    """Environment -> steps whose outcome the goal check decided."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Environment -> steps on which it was wrong."""
    examples: list[str] = field(default_factory=list)
    """The first alarms and wrong verdicts."""

    def add(self, episode: Episode, ledger: StateLedger) -> None:
        """Count a real episode."""
        where = episode.task.environment
        books = ledger.open(episode.task)
        self.episodes[where] += 1
        for number, transition in enumerate(episode.transitions):
            self.steps[where] += 1
            at = f"{where} {episode.task.key} step {number} {transition.action!r}"
            for found in books.contradictions(transition):
                self.alarms[where, found.rule] += 1
                self.examples.append(f"{at}: {found.rule}: {found.message}")
            verdict = books.outcome(transition) if isinstance(books, GoalLedger) else None
            self.decided[where] += verdict is not None
            if verdict not in (None, transition.outcome):
                self.wrong[where] += 1
                self.examples.append(f"{at}: led to {transition.outcome}, the books say {verdict}")
            books.see(transition)

    @property
    def none(self) -> bool:
        """Whether there were steps, and no alarm and no wrong verdict."""
        return bool(self.steps) and not self.alarms and not self.wrong

    def table(self) -> str:
        """For a person."""
        lines = [f"{'environment':34} {'episodes':>8} {'steps':>8} {'alarms':>7} {'decided':>8} {'wrong':>6}"]
        for where, episodes in sorted(self.episodes.items()):
            alarms = sum(count for (place, _), count in self.alarms.items() if place == where)
            share = self.decided[where] / self.steps[where] if self.steps[where] else 0.0
            lines.append(f"{where:34} {episodes:8} {self.steps[where]:8} {alarms:7} {share:8.1%} {self.wrong[where]:6}")
        lines += [f"{where} {rule}: {count}" for (where, rule), count in self.alarms.most_common()]
        return "\n".join([*lines, *self.examples[:20]])


def count(episodes: Iterable[Episode]) -> Alarms:
    """The alarms of real episodes, each by its own environment's ledger."""
    alarms = Alarms()
    ledgers: dict[str, StateLedger] = {}
    for episode in episodes:
        if episode.source != "real":
            continue
        where = episode.task.environment
        alarms.add(episode, ledgers.setdefault(where, ledger_for(where)))
    return alarms


async def collected(each: int, *, fold: str, first: int, workers: int) -> list[Episode]:
    """Fresh episodes of the random policy, and of the restless one, which also tries what cannot work."""
    from dreamsim.testing import MemorySink
    from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect
    from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
    from dreamsim_adapters.environments.textworld_express.games import GameSpec
    from dreamsim_adapters.environments.textworld_express.pool import WorkerPool

    sink, mix = MemorySink(), tuple(GameSpec.parse(text) for text in VARIANTS)
    settings = CollectSettings(
        run="alarms",
        mix=mix,
        fold=fold,
        first=first,
        tasks=each * len(mix),
        policies=("random", "restless"),
        max_steps=30,
    )
    async with WorkerPool(workers=workers) as pool:
        await collect(settings, sink, environment=TextWorldExpressEnvironment(pool=pool))
    return list(sink.episodes.values())


def main() -> int:
    """Count, print, and tell by the exit status."""
    parser = argparse.ArgumentParser(description="Count a ledger's false alarms on real episodes.")
    parser.add_argument("files", nargs="*", type=Path, help="episode files")
    parser.add_argument("--collect", type=int, default=0, metavar="N", help="fresh games of each variant")
    parser.add_argument("--fold", default="dev", help="fold of the fresh games")
    parser.add_argument("--first", type=int, default=0, help="number of the first seed within the fold")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    asked = parser.parse_args()
    episodes = [episode for file in asked.files for episode in read_jsonl(file)]
    if asked.collect:
        episodes += anyio.run(
            lambda: collected(asked.collect, fold=asked.fold, first=asked.first, workers=asked.workers)
        )
    alarms = count(episodes)
    print(alarms.table())
    return 0 if alarms.none else 1


if __name__ == "__main__":
    raise SystemExit(main())
