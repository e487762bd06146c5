"""Foreign text on a terminal and in figures: shown as it is, never obeyed."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dreamsim.cli.display import PlainDisplay, RichDisplay
from dreamsim.cli.episodes import describe, safe, table
from dreamsim.cli.logs import warnings_only
from dreamsim.cli.main import main
from dreamsim.cli.visible import in_one_line, visible
from dreamsim.evaluation.page import label_of
from dreamsim.records.episode import Episode
from dreamsim.records.state import State
from tests.hostile.garbage import MARKUP, ODD, TERMINAL, odd_texts
from tests.store.samples import make_episode


def hostile_episode(text: str) -> Episode:
    """An episode in which every text is `text`."""
    episode = make_episode(1)
    steps = tuple(
        dataclasses.replace(step, action=text, reasoning=text, state=State(lines=(text,)), retrieved=(text,))
        for step in episode.transitions
    )
    task = dataclasses.replace(episode.task, instruction=text, environment=text, first_state=State(lines=(text,)))
    return dataclasses.replace(
        episode, id=text, run=text, policy=text, task=task, transitions=steps, error_kind=text, error_message=text
    )


def shown(episode: Episode) -> str:
    out = io.StringIO()
    console = Console(file=out, highlight=False, width=200)
    console.print(table([episode]))
    for block in describe(episode):
        console.print(block, soft_wrap=True)
    return out.getvalue()


def only_text(written: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in written)


@given(odd_texts())
def test_an_episode_is_shown_as_text(text: str) -> None:
    assert only_text(shown(hostile_episode(text)))


@pytest.mark.parametrize("text", MARKUP)
def test_markup_is_shown_and_not_read(text: str) -> None:
    assert shown(hostile_episode(text)).count(text) > 5


@pytest.mark.parametrize("text", TERMINAL)
def test_commands_to_a_terminal_are_taken_apart(text: str) -> None:
    assert not set(shown(hostile_episode(text))) & set("\x1b\x9b\x07\b\r\u202e\x7f")


@given(odd_texts())
def test_text_in_one_line_is_one_line(text: str) -> None:
    assert in_one_line(text).isprintable()
    assert only_text(visible(text))
    assert only_text(safe(text).plain)


@pytest.mark.parametrize("text", ODD)
def test_both_displays_show_text(text: str) -> None:
    plain, rich = io.StringIO(), io.StringIO()
    for display in (PlainDisplay(plain, interval_s=1), RichDisplay(rich)):
        display.note(text)
        display.conclude(text)
    assert only_text(plain.getvalue())
    assert only_text(rich.getvalue())


def test_warnings_of_verbs_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_only():
        structlog.get_logger().warning("said", text="\x1b]0;evil\x07 \x9b2J")
    assert not set(capsys.readouterr().err) & set("\x07\x9b")


def test_an_error_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "e.jsonl"
    file.write_text('{"environment": "e", "instruction": "i", "\\u001b[2J": 1, "first_state": [], "steps": []}\n')
    store = str(tmp_path / "s.sqlite")
    assert main(["import", str(file), "--store", store, "--encoder", "lexical"]) == 2
    assert main(["import", str(file), "--store", store, "--encoder", "lexical", "--skip-bad"]) == 0
    said = capsys.readouterr()
    assert "e.jsonl:1" in said.err
    assert only_text(said.out + said.err)


@given(st.one_of(odd_texts(80), st.text("$\\^_{}x", max_size=40)))
def test_a_label_is_no_formula(text: str) -> None:
    cbook = pytest.importorskip("matplotlib.cbook")
    label = label_of(text)
    assert not cbook.is_math_text(label)
    assert label.isprintable()
    assert len(label) <= 48


def test_a_figure_can_be_drawn_of_any_label() -> None:
    figures = pytest.importorskip("matplotlib.figure")
    agg = pytest.importorskip("matplotlib.backends.backend_agg")
    figure = figures.Figure()
    agg.FigureCanvasAgg(figure)
    for place, text in enumerate(MARKUP):
        figure.text(0, place / 20, label_of(text))
    figure.canvas.draw()
