"""Asking reality in a dream's place: the actions so far are taken again in the real environment, then the new one.

In: a real environment, a task, the dream's actions. Out: the real transitions.
Always: every transition is the real environment's own; a dream whose past reality does not know (the task was over
before) is refused, not patched.
"""

from __future__ import annotations

from collections.abc import Sequence

from dreamsim.errors import UncertaintyError
from dreamsim.protocols import Environment
from dreamsim.records.episode import Transition
from dreamsim.records.task import Task


async def taken_really(
    reality: Environment, task: Task, actions: Sequence[str], *, episode_id: str, seed: int
) -> tuple[Transition, ...]:
    """What `actions` lead to in `reality`, one transition for each; the last is what was asked for.

    Raises:
        UncertaintyError: there, the task ended before the last action.
        EpisodeError: the real environment failed.
    """
    transitions: list[Transition] = []
    async with reality.session(task, episode_id=episode_id, seed=seed) as session:
        for action in actions:
            if transitions and transitions[-1].done:
                raise UncertaintyError(
                    f"{reality.name} cannot answer {actions[-1]!r}: there, the task ended with "
                    f"{transitions[-1].outcome} after {len(transitions)} of {len(actions)} actions"
                )
            transitions.append(await session.step(action))
    return tuple(transitions)
