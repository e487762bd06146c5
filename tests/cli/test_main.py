from __future__ import annotations

import importlib

import pytest

from dreamsim.cli.main import VERBS, Verb, main


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert [verb.name for verb in VERBS if f"  {verb.name} " not in said] == []


def test_an_unknown_verb_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episods"]) == 2
    assert "did you mean 'episodes'?" in capsys.readouterr().err


def test_nothing_is_no_verb() -> None:
    assert main([]) == 2


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_is_where_it_is_said_to_be(verb: Verb) -> None:
    assert callable(getattr(importlib.import_module(verb.module), verb.entry))


def test_a_wrong_argument_of_a_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "--outcome", "grand"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dreamsim: dreamsim episodes: argument --outcome: invalid choice")
    assert len(said.splitlines()) == 1
