from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dreamsim.cli.run_directory import RunDirectory
from dreamsim.cli.summary import Ending, render_summary, summary_figures
from dreamsim.records.episode import EpisodeOutcome, Source
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.store.queries import CountRow, Counts


def row(outcome: EpisodeOutcome, episodes: int, *, source: Source = "dreamed", kind: str | None = None) -> CountRow:
    return CountRow(
        source=source, purpose="training", outcome=outcome, error_kind=kind, episodes=episodes, steps=3 * episodes
    )


def ending(*rows: CountRow, expected: int = 100) -> Ending:
    return Ending(
        counts=Counts(rows=rows),
        snapshot=Snapshot(elapsed_s=10.0, steps=300, alive_peak=64),
        expected=expected,
        max_failures=0.05,
        interrupted=False,
        dropped=0,
        error=None,
        set_up_s=2.0,
        wall_s=12.0,
    )


def test_all_there_and_few_failed_is_done() -> None:
    assert ending(row("success", 96), row("error", 4, kind="parse")).exit_code == 0


def test_too_many_failed_is_not() -> None:
    end = ending(row("success", 94), row("error", 6, kind="parse"))
    said = "6 episodes failed (6.0%); 5.0% of the episodes may (run.max_failures)"
    assert (end.exit_code, end.reason) == (1, said)


def test_an_episode_that_is_not_stored_is_not_done() -> None:
    assert ending(row("success", 99)).exit_code == 1


def test_lost_episodes_are_no_failures() -> None:
    assert ending(row("failure", 60), row("truncated", 40)).exit_code == 0


def test_an_error_of_the_run_is_told_even_when_all_is_stored() -> None:
    end = replace(ending(row("success", 100)), error="vLLM is dead")
    assert (end.exit_code, end.reason) == (1, "vLLM is dead")


def test_an_interruption_counts_only_when_something_is_missing() -> None:
    assert replace(ending(row("success", 99)), interrupted=True).exit_code == 130
    assert replace(ending(row("success", 100)), interrupted=True).exit_code == 0


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(path=tmp_path / "a", store=tmp_path / "a" / "store.sqlite", resumed=False)


def test_real_and_dreamed_are_told_apart(directory: RunDirectory) -> None:
    end = ending(row("success", 50), row("failure", 20), row("success", 30, source="real"))
    text = render_summary(end, directory)
    assert "dreamed  70 episodes, 210 steps; success 71.4% (95 %: 59.9% to 80.7%); 20 lost" in text
    assert "real     30 episodes, 90 steps; success 100.0%" in text
    figures = summary_figures(end, directory)
    assert figures["sources"]["dreamed"]["success"]["n"] == 70
    assert figures["sources"]["real"]["episodes"] == 30


def test_errors_are_no_trials_of_success_and_are_told_by_type(directory: RunDirectory) -> None:
    end = ending(row("success", 1), row("failure", 1), row("error", 2, kind="parse"), row("error", 1, kind="engine"))
    text = render_summary(end, directory)
    assert "success 50.0%" in text
    assert "failed   3 episodes (parse 2, engine 1)" in text


def test_the_summary_says_where_things_are_and_how_to_go_on(directory: RunDirectory) -> None:
    text = render_summary(ending(row("success", 1)), directory)
    assert str(directory.store) in text
    assert str(directory.log) in text
    assert "dreamsim episodes --run" in text
    assert "--run.resume" in text
    assert "--run.resume" not in render_summary(ending(row("success", 100)), directory)


def test_the_summary_file_is_json(directory: RunDirectory) -> None:
    directory.path.mkdir()
    directory.write_summary(summary_figures(ending(row("success", 100)), directory))
    assert json.loads(directory.summary.read_text())["exit_code"] == 0


def test_what_the_checks_found_is_in_the_figures_and_in_the_text(tmp_path: Path) -> None:
    counters = {
        "consistency_first": 200,
        "consistency_first_contradicting": 4,
        "consistency_first_rule:one_place": 5,
        "consistency_kept": 198,
        "verified_decided": 100,
        "verified_disagreed": 2,
        "verified_disagreed:success->running": 2,
        "transition_cache_hits": 50,
        "transition_cache_misses": 150,
    }
    end = ending(row("success", 100))
    end = replace(end, snapshot=replace(end.snapshot, counters=counters))
    directory = RunDirectory(path=tmp_path, store=tmp_path / "s.sqlite3", resumed=False)
    found = json.loads(json.dumps(summary_figures(end, directory)))["trust"]
    assert found["contradicting_steps_per_100_before"] == 2
    assert found["contradictions_by_rule_before"] == {"one_place": 5}
    assert found["contradicting_steps_per_100_after"] == 0
    assert (found["disagreement_rate"], found["disagreements_by_kind"]) == (0.02, {"success->running": 2})
    assert found["transition_cache"]["saved_engine_calls"] == 50
    assert "contradicting steps 2.00 of 100 before the check, 0.00 after" in render_summary(end, directory)


def test_a_run_without_checks_says_nothing_of_them(tmp_path: Path) -> None:
    directory = RunDirectory(path=tmp_path, store=tmp_path / "s.sqlite3", resumed=False)
    assert "  trust " not in render_summary(ending(row("success", 100)), directory)
