"""docs/training.md says what every number is and when every alarm rings, in the words of the sources."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from dreamsim.cli.training_docs import alarm_rows, field_texts, metric_rows
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.training import TrainingStep

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


def test_every_field_has_a_text() -> None:
    for kind in (TrainingStep, UpdateMetrics):
        assert list(field_texts(kind)) == [field.name for field in fields(kind)]


def test_no_key_of_a_line_means_two_things() -> None:
    assert not set(field_texts(TrainingStep)) & set(field_texts(UpdateMetrics))


def test_the_page_holds_the_tables_as_they_are_printed() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    assert "\n".join(metric_rows()) in page
    assert "\n".join(alarm_rows()) in page
