"""The live view of a training, and the curves for TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from dreamsim.cli.trackers import missing, open_trackers, tag
from dreamsim.cli.train_display import BARS, WIDTH, curve, render_view
from dreamsim.flow.alarms import Alarm
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.training.loop import Training
from tests.cli.test_train import EVALUATED, line


def seen(training: Any) -> str:
    out = io.StringIO()
    view = render_view(cast("Training", training), Snapshot(alive=7), Snapshot(), steps=9)
    Console(file=out, width=160).print(view)
    return out.getvalue()


def test_the_view_holds_progress_success_of_both_kinds_and_alarms() -> None:
    alarm = Alarm(name="no variance", seen="all alike", advice="take others")
    history = [line(update=0, **EVALUATED), line(update=1, updates=1, success_dreamed=0.5, total_real_transitions=3)]
    said = seen(SimpleNamespace(history=history, ringing=(alarm,), progress=SimpleNamespace(updates=1)))
    assert "update 1 of 9" in said
    assert "7 episodes alive" in said
    assert "success 50.0 %" in said
    assert "real games 25.0 % [10.0, 50.0]" in said
    assert "3 real, 0 dreamed" in said
    assert "no variance" in said


def test_a_training_that_has_not_begun_can_be_shown() -> None:
    said = seen(SimpleNamespace(history=[], ringing=(), progress=SimpleNamespace(updates=0)))
    assert "update 0 of 9" in said


def test_a_curve_has_the_lowest_bar_for_nothing_and_the_highest_for_all() -> None:
    assert curve([0.0, 1.0]) == BARS[0] + BARS[-1]
    assert len(curve([0.5] * 100)) == WIDTH


def test_curves_are_grouped_by_what_they_are_about() -> None:
    assert tag("evaluation_success") == "evaluation/success"
    assert tag("waited_s") == "seconds/waited"
    assert tag("entropy") == "update/entropy"


def test_tensorboard_gets_every_number_at_its_update(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for sitting in ((1, 2, 3), (3, 4)):  # killed before the state of update 3 was on disk
        with open_trackers(["tensorboard"], tmp_path, {}) as tracker:
            for update in sitting:
                tracker.write(line(update=update, entropy=update / 10))
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, round(event.value, 3)) for event in written.Scalars("update/entropy")]
    assert found == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert "update/value_loss" not in written.Tags()["scalars"]


def test_a_tracker_that_fails_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    with open_trackers(["tensorboard"], tmp_path, {}) as tracker:
        monkeypatch.setattr("dreamsim.cli.trackers._numbers", lambda line: 1 / 0)
        tracker.write(line())


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert missing(["wandb"]) == {"wandb": "wandb"}
    assert missing([]) == {}
