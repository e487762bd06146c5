"""The real games pass the consistency suite, their ledger beside every step."""

from __future__ import annotations

import pytest

from dreamsim.cli.ledgers import ledger_for
from dreamsim.testing.consistency import check_consistency
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import GAMES, GameSpec

pytestmark = pytest.mark.anyio


async def test_the_real_games_are_consistent(textworld: TextWorldExpressEnvironment) -> None:
    mix = [GameSpec(game=game) for game in GAMES]
    tasks = await textworld.tasks(mix, fold="dev", count=2 * len(mix))
    report = await check_consistency(textworld, tasks, ledger=ledger_for, steps=12)
    assert report.consistent, [str(finding) for finding in report.findings]
    assert (report.episodes, report.errors) == (len(tasks), 0)
