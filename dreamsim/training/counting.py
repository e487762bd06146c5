"""The books of a training: what was done in which environment, and what of the budget is spent.

In: rounds that are over, episodes that came late, the counters of failed tries. Out: `Progress.totals`, and what the
mixer of sources knows.
Always: every transition of a training episode is counted once, in whichever round it comes, whether or not it is
learned from, and also those of tries that are not stored; the budget knows what late episodes may still bring.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dreamsim.flow.failures import retried_steps
from dreamsim.flow.planning import Planner
from dreamsim.records.episode import SOURCES, Episode, episode_id
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.training.parts import Progress, TrainingSettings
from dreamsim.training.table import PlayedGroup, Table


class Books:
    """Counts what happens to planned groups."""

    def __init__(self, settings: TrainingSettings, planner: Planner, table: Table, telemetry: Telemetry) -> None:
        """Of the training that these belong to."""
        self._counters = telemetry.counters
        self._seen = {source: self._counters[retried_steps(source)] for source in SOURCES}
        self._settings = settings
        self._planner = planner
        self._table = table

    def round_over(self, progress: Progress, groups: Sequence[PlayedGroup]) -> None:
        """The first planned round was played; what came late for earlier ones is counted with it."""
        size, run = self._settings.group_size, self._settings.run
        for group, one in zip(progress.planned.popleft(), groups, strict=True):
            self._planner.played(group, one.closed, transitions=one.transitions)
            progress.totals[group.source] += one.transitions
            progress.totals["episodes"] += len(one.episodes)
            if len(one.episodes) < size:
                ids = {episode_id(run, made.task.key, made.repeat) for made in group.assignments(size)}
                missing = ids - {episode.id for episode in one.episodes}
                progress.late.update(dict.fromkeys(sorted(missing), group.source))
        self.came(progress, self._table.late())

    def came(self, progress: Progress, episodes: Iterable[Episode]) -> None:
        """Episodes of groups that were over without them, and the failed tries since this was told last."""
        real = self._tried(progress)
        for episode in episodes:
            if progress.late.pop(episode.id, None) is not None:
                progress.totals[episode.source] += len(episode.transitions)
                progress.totals["episodes"] += 1
                real += len(episode.transitions) if episode.source == "real" else 0
        waiting = sum(source == "real" for source in progress.late.values())
        self._planner.mixer.spend(real, outstanding=waiting * self._settings.most_transitions)

    def _tried(self, progress: Progress) -> int:
        """Count the steps of new failed tries; returns how many are real."""
        before, self._seen = self._seen, {source: self._counters[retried_steps(source)] for source in SOURCES}
        new = {source: count - before[source] for source, count in self._seen.items()}
        progress.totals.update(new)
        return new["real"]
