"""The page for Prometheus: its form, and that counters never fall."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dreamsim.records.load import EngineLoad
from dreamsim.runtime.exposition import render_metrics
from dreamsim.runtime.snapshot import LoopLag, Snapshot, StationUse, TokenCount

SAMPLE = re.compile(
    r'^dreamsim_[a-z_]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"(,[a-z]+="([^"\\\n]|\\["\\n])*")*\})? -?[0-9.e+-]+$'
)
NAMES = st.text(max_size=12)


@given(
    outcomes=st.dictionaries(NAMES, st.integers(0, 10**9), max_size=3),
    counters=st.dictionaries(NAMES, st.integers(0, 10**9), max_size=3),
    seconds=st.floats(0, 1e9),
)
def test_every_line_is_a_comment_or_a_sample_whatever_things_are_called(
    outcomes: dict[str, int], counters: dict[str, int], seconds: float
) -> None:
    page = render_metrics(Snapshot(outcomes=outcomes, counters=counters, elapsed_s=seconds))
    assert page.endswith("\n")
    for line in page[:-1].split("\n"):
        assert line.startswith(("# HELP dreamsim_", "# TYPE dreamsim_")) or SAMPLE.match(line), line


def test_each_metric_is_typed_once_and_counters_are_called_total() -> None:
    station = StationUse(seconds=1.0, own_seconds=1.0, visits=2, inside=1)
    page = render_metrics(
        Snapshot(
            stations={"policy": station},
            tokens={"policy": TokenCount(requests=1, prompt=5, generated=2, cached=3)},
            loads=(EngineLoad(running=1, waiting=2, cache_use=0.5, preemptions=4), EngineLoad()),
            lag=LoopLag(p50_s=0.001, p99_s=0.002, max_s=0.1, samples=9),
        )
    )
    types = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
    assert len({name for name, _ in types}) == len(types)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in types)
    assert 'dreamsim_engine_cache_use_ratio{engine="0"} 0.5' in page
    assert 'dreamsim_engine_cache_use_ratio{engine="1"}' not in page
    assert 'dreamsim_tokens_total{role="policy",kind="cached"} 3' in page


def test_steps_of_an_episode_that_is_played_again_still_count() -> None:
    before = render_metrics(Snapshot(steps=100, admitted=10))
    after = render_metrics(Snapshot(steps=93, admitted=10, counters={"requeued": 1, "requeued_steps": 7}))
    for page, begun in ((before, 10), (after, 11)):
        assert "dreamsim_steps_total 100\n" in page
        assert f"dreamsim_episodes_begun_total {begun}\n" in page
