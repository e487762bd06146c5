"""What `dreamsim fidelity` needs: real episodes to hold the dream against, and the model in the variants to compare.

In: a file, a store or an environment; settings. Out: episodes, foretellers, witnesses.
Always: only real episodes, none of which ended in an error; what is retrieved is never of the same task, and only of
fold `train`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamsim.cli.ledgers import ledger_for
from dreamsim.cli.models import Prepared, experience_settings
from dreamsim.errors import MissingExtraError, UsageError
from dreamsim.evaluation.examination import Variants
from dreamsim.evaluation.fidelity import DreamForeteller, Witnesses
from dreamsim.experience.checks import Checks
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.uncertainty import Gate
from dreamsim.protocols import Engine, Retriever
from dreamsim.records.episode import Episode
from dreamsim.runtime.config import Settings
from dreamsim.runtime.seeds import seed_of
from dreamsim.runtime.trust_counts import TrustCounter
from dreamsim.store.jsonl import read_jsonl
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store

PARTS = ("history", "retrieval", "reasoning")
"""What can be taken away from a model."""
POLICIES = ("gold", "random", "mixed", "mistaken")
"""Who plays the episodes that are collected, in equal parts."""


def read_held_out(path: Path) -> list[Episode]:
    """The real episodes of a JSONL file. Blocks.

    Raises:
        UsageError: there is no file, or a line is wrong.
    """
    if not path.is_file():
        raise UsageError(f"no file at {path}")
    return usable(read_jsonl(path))


async def stored_held_out(path: Path) -> list[Episode]:
    """The real episodes of a store.

    Raises:
        UsageError: there is no store.
    """
    async with open_store(path, encoder=None, read_only=True) as store:
        return usable([episode async for episode in store.episodes(EpisodeFilter(source="real"))])


def usable(episodes: Iterable[Episode]) -> list[Episode]:
    """Real episodes with at least one step and without an error, in the order of their ids."""
    kept = [one for one in episodes if one.source == "real" and one.outcome != "error" and one.transitions]
    return sorted(kept, key=lambda episode: episode.id)


async def collected(count: int, games: Sequence[str], *, seed: int, fold: str = "test") -> list[Episode]:
    """`count` episodes of TextWorldExpress, played now by the policies that need no model.

    Raises:
        UsageError: the environment is not installed, or there are not so many seeds.
    """
    try:
        from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect
        from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, GameSpec
    except ImportError as error:
        raise MissingExtraError(
            error.name or "textworld-express", extra="textworld-express", purpose="collecting episodes"
        ) from error
    kept = _Kept()
    mix = tuple(GameSpec.parse(game) for game in games) or DEFAULT_MIX
    per_policy = max(1, round(count / len(POLICIES)))
    for number, policy in enumerate(POLICIES):
        settings = CollectSettings(
            run=f"held-out-{policy}",
            mix=mix,
            fold=fold,
            tasks=per_policy,
            first=(seed * len(POLICIES) + number) * -(-per_policy // len(mix)),
            policies=(policy,),
            seed=seed,
            purpose="evaluation",
        )
        await collect(settings, kept)
    return usable(kept.episodes)


class _Kept:
    """A sink that keeps episodes in memory."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    async def add(self, episode: Episode) -> None:
        self.episodes.append(episode)


def determined(episode: Episode) -> Sequence[bool]:
    """Which next states the episode's history decides, as its environment knows; of unknown environments, all."""
    kind = episode.task.environment.partition("/")[0]
    if kind == "textworld_express":
        from dreamsim_adapters.environments.textworld_express.determined import determined as in_textworld_express

        return in_textworld_express(episode)
    if kind == "alfworld":
        from dreamsim_adapters.environments.alfworld.determined import determined as in_alfworld

        return in_alfworld(episode)
    return [True] * len(episode.transitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An experience model's parts, to be put together in several ways."""

    engine: Engine
    """Generates."""
    prepared: Prepared
    """Tokenizer, frame, what it was trained with."""
    retriever: Retriever
    """Finds past experiences."""
    settings: Settings
    """How it is asked."""
    checks: Checks
    """The run-time checks that the settings name."""

    @property
    def name(self) -> str:
        """Name and version of the model."""
        return f"{self.engine.name}@{self.engine.version}"

    def variants(self, *, without: Sequence[str], passes: int) -> Variants:
        """The model as it is to be examined."""
        how, gate, seed = self._how, self.settings.experience.gate, self.settings.run.seed
        known = None if self.checks.gate is None else self.checks.gate.calibration
        cache = self.checks.cache  # a greedy answer to the same prompt is the same in all variants
        measuring = Gate(mode="flag", agreement_samples=gate.samples, calibration=known)
        # As in a run, but for the gate, which is measured and does not act, and the ledger, which always does.
        checked = dataclasses.replace(
            self.checks,
            ledgers=ledger_for,
            on_contradiction="resample",
            gate=None,
            reality=None,
            count=TrustCounter(),
        )
        return Variants(
            plain=self._foreteller(how, Checks(cache=cache), seed),
            measured=self._foreteller(how, Checks(gate=measuring, cache=cache), seed),
            again=[self._foreteller(how, None, seed_of(seed, "pass", number)) for number in range(1, passes)],
            checked=self._foreteller(how, checked, seed),
            ablated={part: self._foreteller(ablated(how, part), None, seed) for part in without},
        )

    def environment(self) -> DreamEnvironment:
        """Where a policy plays: the dream, with the checks that the settings name beside it."""
        return DreamEnvironment(self._model(self._how, self.checks))

    @property
    def witnesses(self) -> Witnesses:
        """Who is asked about what was foretold: the ledgers always, the verifiers that the settings name."""
        return Witnesses(ledgers=ledger_for, verifiers=self.checks.verifiers)

    @property
    def _how(self) -> ExperienceSettings:
        return experience_settings(self.settings.experience, self.prepared)

    def _foreteller(self, how: ExperienceSettings, checks: Checks | None, seed: int) -> DreamForeteller:
        return DreamForeteller(self._model(how, checks), seed=seed)

    def _model(self, how: ExperienceSettings, checks: Checks | None) -> ExperienceModel:
        return ExperienceModel(self.engine, self.prepared.tokenizer, how, self.retriever, checks=checks)


def ablated(how: ExperienceSettings, part: str) -> ExperienceSettings:
    """`how` without one of `PARTS`.

    Raises:
        UsageError: there is no such part.
    """
    layout = how.layout
    if part == "history":
        return dataclasses.replace(how, layout=dataclasses.replace(layout, history=False))
    if part == "retrieval":
        return dataclasses.replace(how, layout=dataclasses.replace(layout, retrieve="off"))
    if part == "reasoning":
        return dataclasses.replace(
            how,
            layout=dataclasses.replace(layout, reasoning=False),
            rules=dataclasses.replace(how.rules, reasoning_required=False),
        )
    raise UsageError(f"a model cannot be examined without '{part}': there are {', '.join(PARTS)}")
