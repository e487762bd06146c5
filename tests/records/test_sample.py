"""Groups of trajectories: whether their returns differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dreamsim.records.sample import Trajectory, TrajectoryGroup


def group(*rewards: Sequence[float]) -> TrajectoryGroup:
    made = [
        Trajectory(
            episode_id=f"e{number}",
            task_key="t",
            source="real",
            samples=(),
            rewards=np.array(one, dtype=np.float32),
            anchors=("s",) * len(one),
            terminated=True,
            success=False,
        )
        for number, one in enumerate(rewards)
    ]
    return TrajectoryGroup(task_key="t", trajectories=tuple(made))


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -0.7, 0.0])
def test_equal_returns_are_not_informative(value: float) -> None:
    assert not group(*[[value]] * 3).informative


def test_the_same_rewards_in_another_order_are_not_informative() -> None:
    assert not group([0.1, 1e4, -1e4, 0.7], [1e4, 0.1, 0.7, -1e4], [0.8]).informative


@pytest.mark.parametrize("returns", [[0.0, 1.0], [0.0, 1e-7], [1.0, 1.00001]])
def test_returns_that_differ_are_informative(returns: list[float]) -> None:
    assert group(*[[value] for value in returns]).informative
