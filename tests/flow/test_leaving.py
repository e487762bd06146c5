"""Leaving a session after a failure, and what of two failures is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from dreamsim.errors import EnvironmentFailure
from dreamsim.flow.rollout import CLOSING_SECONDS
from dreamsim.protocols import EpisodeSession
from dreamsim.records.episode import Episode
from dreamsim.records.task import Task
from dreamsim.testing import (
    FAULT_KINDS,
    Fault,
)
from tests.flow.runs import in_virtual_time
from tests.flow.test_rollout import Interrupted, Untidy, play, played


@pytest.mark.parametrize("episode_seconds", [None, 1000.0])
@pytest.mark.parametrize("fault", ["error", "bug", "group", "disconnect", "foreign"])
def test_a_session_that_hangs_when_left_after_a_failure_is_given_up(
    fault: Fault, episode_seconds: float | None
) -> None:
    async def main() -> tuple[Episode, float]:
        episode = await played(Untidy(step=fault, leaving="hang"), episode_seconds=episode_seconds)
        return episode, anyio.current_time()

    episode, seconds = in_virtual_time(main)
    assert episode.error_kind == FAULT_KINDS[fault]
    assert seconds <= CLOSING_SECONDS + 1
    assert len(episode.transitions) == 1


@pytest.mark.parametrize("leaving", ["bug", "error", "foreign", "disconnect"])
def test_what_failed_first_stands_when_leaving_the_session_fails_too(leaving: Fault) -> None:
    episode = play(Untidy(step="group", leaving=leaving))
    assert episode.error_kind == "parse"
    assert "no <state>" in (episode.error_message or "")


def test_a_session_may_say_what_an_error_inside_it_means() -> None:
    class Translating(Interrupted):
        @asynccontextmanager
        async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
            async with super().session(task, episode_id=episode_id, seed=seed) as session:
                try:
                    yield session
                except ConnectionResetError as error:
                    raise EnvironmentFailure("the worker died") from error

    episode = play(Translating(step="disconnect"))
    assert (episode.error_kind, episode.error_message) == ("environment", "the worker died")


def test_a_time_limit_that_was_reached_stands_when_leaving_the_session_fails() -> None:
    episode = play(Untidy(step="hang", leaving="bug"), episode_seconds=5.0)
    assert episode.error_kind == "timeout"


async def test_an_episode_that_its_run_cut_off_is_cut_off_whatever_leaving_its_session_raises() -> None:
    found: list[Episode] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        found.append(await played(Untidy(leaving="bug")))
    assert [one.error_message for one in found] == ["cancelled with the run"]
