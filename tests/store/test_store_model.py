"""The store against a dict."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dreamsim.records.codec import episode_to_json
from dreamsim.records.episode import EPISODE_OUTCOMES, PURPOSES, SOURCES, Episode
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import Store, open_store
from dreamsim.testing.strategies import episodes


class StoreMachine(RuleBasedStateMachine):
    """Adds, reads and reopens; what the dict holds is what the store must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal())
        self.model: dict[str, Episode] = {}
        self.opened: AbstractContextManager[Any]
        self.store: Store

    @initialize()
    def open(self) -> None:
        self.opened = self.portal.wrap_async_context_manager(open_store(self.directory / "store.sqlite3", encoder=None))
        self.store = self.opened.__enter__()

    @rule(added=st.lists(episodes(), max_size=5), durable=st.booleans())
    def add(self, added: list[Episode], durable: bool) -> None:
        for episode in added:
            self.portal.call(self.store.add_durable if durable else self.store.add, episode)
            self.model.setdefault(episode.id, episode)

    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        if self.model:
            self.portal.call(self.store.add, self.model[data.draw(st.sampled_from(sorted(self.model)))])

    @rule()
    def reopen(self) -> None:
        self.opened.__exit__(None, None, None)
        self.open()

    @rule(data=st.data())
    def read_one(self, data: st.DataObject) -> None:
        self.portal.call(self.store.flush)
        wanted = data.draw(st.sampled_from([*sorted(self.model), "unknown"]))
        found = self.portal.call(self.store.episode, wanted)
        assert (found is None) == (wanted not in self.model)
        if found is not None:
            assert episode_to_json(found) == episode_to_json(self.model[wanted])

    @rule(
        outcome=st.sampled_from([None, *EPISODE_OUTCOMES]),
        source=st.sampled_from([None, *SOURCES]),
        purpose=st.sampled_from([None, *PURPOSES]),
        limit=st.integers(0, 9) | st.none(),
    )
    def read_some(self, outcome: Any, source: Any, purpose: Any, limit: int | None) -> None:
        async def ids() -> list[str]:
            wanted = EpisodeFilter(outcome=outcome, source=source, purpose=purpose)
            return [episode.id async for episode in self.store.episodes(wanted, limit=limit)]

        self.portal.call(self.store.flush)
        matching = [
            episode.id
            for episode in self.model.values()
            if outcome in (None, episode.outcome)
            and source in (None, episode.source)
            and purpose in (None, episode.purpose)
        ]
        assert self.portal.call(ids) == matching[:limit]

    @rule()
    def count(self) -> None:
        self.portal.call(self.store.flush)
        counts = self.portal.call(self.store.counts)
        assert counts.episodes == len(self.model)
        assert counts.steps == sum(len(episode.transitions) for episode in self.model.values())
        for outcome, number in counts.by_outcome.items():
            assert number == sum(episode.outcome == outcome for episode in self.model.values())
        for source in SOURCES:
            expected = sum(episode.source == source for episode in self.model.values())
            assert counts.only(source=source).episodes == expected

    @rule(data=st.data())
    def ask_for_finished(self, data: st.DataObject) -> None:
        self.portal.call(self.store.flush)
        runs = {episode.run for episode in self.model.values()}
        assert set(self.portal.call(self.store.runs)) == runs
        run = data.draw(st.sampled_from([*sorted(runs), "unknown"]))
        expected = {episode.id for episode in self.model.values() if episode.run == run}
        assert self.portal.call(self.store.finished_ids, run) == expected

    @invariant()
    def the_queue_is_bounded(self) -> None:
        statistics = self.store.statistics()
        assert 0 <= statistics.queue_depth <= statistics.queue_capacity

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        self.stack.close()


StoreMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=12, suppress_health_check=[HealthCheck.too_slow]
)
TestStoreAgainstADict = pytest.mark.filterwarnings("default::ResourceWarning")(StoreMachine.TestCase)
