"""The real games pass the consistency suite, their ledger beside every step."""

from __future__ import annotations

from collections import Counter

import pytest

from dreamsim.cli.ledgers import ledger_for
from dreamsim.protocols import AmendingLedger, GoalLedger
from dreamsim.testing import MemorySink
from dreamsim.testing.consistency import check_consistency
from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import GAMES, GameSpec

pytestmark = pytest.mark.anyio


async def test_the_real_games_are_consistent(textworld: TextWorldExpressEnvironment) -> None:
    mix = [GameSpec(game=game) for game in GAMES]
    tasks = await textworld.tasks(mix, fold="dev", count=2 * len(mix))
    report = await check_consistency(textworld, tasks, ledger=ledger_for, steps=12)
    assert report.consistent, [str(finding) for finding in report.findings]
    assert (report.episodes, report.errors) == (len(tasks), 0)


async def test_the_books_are_right_about_fresh_games_of_every_policy(textworld: TextWorldExpressEnvironment) -> None:
    mix = tuple(GameSpec.parse(text) for text in (*GAMES, "simonsays:memorization=1,gameLength=4"))
    sink = MemorySink()
    settings = CollectSettings(run="r", mix=mix, fold="dev", tasks=2 * len(mix), first=300, max_steps=15)
    await collect(settings, sink, environment=textworld)
    decided = Counter[str]()
    for episode in sink.episodes.values():
        books = ledger_for(episode.task.environment).open(episode.task)
        assert isinstance(books, GoalLedger)
        assert isinstance(books, AmendingLedger)
        for transition in episode.transitions:
            assert books.contradictions(transition) == ()
            amended = books.amended(transition)
            assert amended is None or amended.same_as(transition.state)
            verdict = books.outcome(transition)
            assert verdict in (None, transition.outcome)
            decided[f"{episode.task.environment} {verdict}"] += 1
            books.see(transition)
    for game in ("twc", "coin", "mapreader", "simonsays"):
        assert decided[f"textworld_express/{game} success"]
        assert not decided[f"textworld_express/{game} None"]
