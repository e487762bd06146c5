"""False alarms of a ledger: what it calls contradictions in real episodes, which are none. There must be none.

In: episode files (JSON lines, also .xz), or TextWorldExpress itself with `--collect N`: N fresh games of each variant
below, each played by every offline policy. Out: alarms per rule and goal verdicts, as a table; with `--record`, figures
for each game in benchmarks/results/trust.json. Exit status 1 when there was an alarm or a wrong verdict.
Always: nothing is kept but counts, so that any number of episodes can be looked at.

    python -m benchmarks.ledger_alarms dreamsim/data/experiences.jsonl.xz
    python -m benchmarks.ledger_alarms --collect 200 --fold test --first 700 --record
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from benchmarks.ledger import ROOT, portable, record, shown
from dreamsim.cli.ledgers import ledger_for
from dreamsim.evaluation.intervals import Estimate, proportion, share
from dreamsim.protocols import GoalLedger, StateLedger
from dreamsim.records.episode import Episode
from dreamsim.store.jsonl import read_jsonl

RESULTS = ROOT / "benchmarks" / "results" / "trust.json"
EVERYBODY = ("gold", "random", "mixed", "mistaken", "restless")
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
    alarmed: Counter[str] = field(default_factory=Counter)
    """Environment -> episodes with an alarm."""
    said: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Environment -> (steps decided, steps) of each episode."""
    ends: Counter[str] = field(default_factory=Counter)
    """Environment -> steps that ended the task."""
    ends_decided: Counter[str] = field(default_factory=Counter)
    """Environment -> of these, those whose outcome the goal check decided."""
    undecided: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(environment, verb, real outcome) -> steps that it left open."""
    examples: list[str] = field(default_factory=list)
    """The first alarms and wrong verdicts."""

    def add(self, episode: Episode, ledger: StateLedger) -> None:
        """Count a real episode."""
        where = episode.task.environment
        books = ledger.open(episode.task)
        self.episodes[where] += 1
        decided, alarms = self.decided[where], self.alarms.total()
        for number, transition in enumerate(episode.transitions):
            self.steps[where] += 1
            at = f"{where} {episode.task.key} step {number} {transition.action!r}"
            for found in books.contradictions(transition):
                self.alarms[where, found.rule] += 1
                self.examples.append(f"{at}: {found.rule}: {found.message}")
            verdict = books.outcome(transition) if isinstance(books, GoalLedger) else None
            self.decided[where] += verdict is not None
            self.ends[where] += transition.done
            self.ends_decided[where] += transition.done and verdict is not None
            if verdict is None:
                self.undecided[where, transition.action.partition(" ")[0], transition.outcome] += 1
            if verdict not in (None, transition.outcome):
                self.wrong[where] += 1
                self.examples.append(f"{at}: led to {transition.outcome}, the books say {verdict}")
            books.see(transition)
        self.alarmed[where] += self.alarms.total() > alarms
        self.said.setdefault(where, []).append((self.decided[where] - decided, len(episode.transitions)))

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
        lines += [f"left open: {' '.join(which)}: {count}" for which, count in self.undecided.most_common(20)]
        return "\n".join([*lines, *self.examples[:20]])

    @property
    def figures(self) -> dict[str, Estimate]:
        """Game -> share of episodes with an alarm, of steps and of endings decided, of verdicts that were wrong."""
        found: dict[str, Estimate] = {}
        for where, episodes in sorted(self.episodes.items()):
            game = where.rpartition("/")[2]
            said = self.said[where]
            found[f"ledger_false_alarms.{game}"] = proportion(self.alarmed[where], episodes)
            found[f"ledger_decided.{game}"] = share([one for one, _ in said], [steps for _, steps in said])
            found[f"ledger_decided_ends.{game}"] = proportion(self.ends_decided[where], self.ends[where])
            found[f"ledger_wrong_verdicts.{game}"] = proportion(self.wrong[where], self.decided[where])
        return found


class Counting:
    """A sink that counts the alarms of real episodes, each by its own environment's ledger, and keeps nothing else."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        """What was counted."""
        self.errors = 0
        """Episodes that ended in an error, which are left out."""
        self._ledgers: dict[str, StateLedger] = {}

    async def add(self, episode: Episode) -> None:
        """Count an episode."""
        self.count(episode)

    def count(self, episode: Episode) -> None:
        """Count an episode, if it is real."""
        where = episode.task.environment
        if episode.source == "real":
            self.errors += episode.outcome == "error"
            if where not in self._ledgers:
                self._ledgers[where] = ledger_for(where)
            self.alarms.add(episode, self._ledgers[where])


def count(episodes: Iterable[Episode]) -> Alarms:
    """The alarms of real episodes."""
    counting = Counting()
    for episode in episodes:
        counting.count(episode)
    return counting.alarms


async def collected(
    counting: Counting, each: int, *, fold: str, first: int, workers: int, policies: Sequence[str] = EVERYBODY
) -> None:
    """Fresh episodes of every policy: gold ones, random ones, and those that also try what cannot work."""
    from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect
    from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
    from dreamsim_adapters.environments.textworld_express.games import GameSpec
    from dreamsim_adapters.environments.textworld_express.pool import WorkerPool

    async with WorkerPool(workers=workers) as pool:
        environment = TextWorldExpressEnvironment(pool=pool)
        for text in VARIANTS:  # one after another: what is waiting to be played is kept in memory
            settings = CollectSettings(
                run="alarms",
                mix=(GameSpec.parse(text),),
                fold=fold,
                first=first,
                tasks=each,
                policies=tuple(policies),
                max_steps=30,
                seed=first,
            )
            await collect(settings, counting, environment=environment)
            print(f"{text}: {counting.alarms.episodes.total():,} episodes", file=sys.stderr, flush=True)


def main() -> int:
    """Count, print, and tell by the exit status."""
    parser = argparse.ArgumentParser(description="Count a ledger's false alarms on real episodes.")
    parser.add_argument("files", nargs="*", type=Path, help="episode files")
    parser.add_argument("--collect", type=int, default=0, metavar="N", help="fresh games of each variant")
    parser.add_argument("--fold", default="dev", help="fold of the fresh games")
    parser.add_argument("--first", type=int, default=0, help="number of the first seed within the fold")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--policies", default=",".join(EVERYBODY), help="who plays the fresh games")
    parser.add_argument("--record", action="store_true", help="write the figures of the fresh games to the result file")
    asked = parser.parse_args()
    counting = Counting()
    for file in asked.files:
        for episode in read_jsonl(file):
            counting.count(episode)
    if asked.collect:
        policies = asked.policies.split(",")
        how = {"fold": asked.fold, "first": asked.first, "workers": asked.workers, "policies": policies}
        anyio.run(lambda: collected(counting, asked.collect, **how))
    alarms = counting.alarms
    print(alarms.table())
    if asked.record:
        figures = alarms.figures
        print(shown(figures))
        record(
            figures,
            seeds=[asked.first],
            ledger=RESULTS,
            more={"fold": asked.fold, "games_of_each_variant": asked.collect},
            command=["python", "-m", "benchmarks.ledger_alarms", *portable(sys.argv[1:])],
        )
    return 0 if alarms.none and not counting.errors else 1


if __name__ == "__main__":
    raise SystemExit(main())
