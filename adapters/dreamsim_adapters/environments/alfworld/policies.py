"""The offline policies of ALFWorld: which of them there are, and what the games' own rules add to them.

In: the environment. Out: policies. Always: `gold` plays the solution of the planner, which knows where everything is;
`expert` that of the package's handcoded expert, which searches, and does not always find.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Policy
from dreamsim.records.state import State
from dreamsim_adapters.environments.alfworld.actions import parse_action
from dreamsim_adapters.environments.alfworld.environment import AlfworldEnvironment
from dreamsim_adapters.environments.alfworld.mapping import ROOM
from dreamsim_adapters.environments.alfworld.mistakes import mistake, put_form
from dreamsim_adapters.environments.offline_policies import (
    GoldPolicy,
    MistakenPolicy,
    MixedPolicy,
    RandomPolicy,
    RestlessPolicy,
)

POLICIES: Final = ("gold", "random", "mixed", "mistaken", "restless", "expert")
"""Names of the policies that experience is collected with."""
RARE: Final = 0.08
"""Weight of each verb that only looks; before anything is found, most verbs are of that kind."""


def offline_policy(name: str, environment: AlfworldEnvironment) -> Policy:
    """The policy called `name`.

    Raises:
        ConfigurationError: there is none of that name.
    """
    path, words = environment.solution, environment.pool.vocabulary
    if name == "gold":
        return GoldPolicy(path)
    if name == "expert":
        return GoldPolicy(partial(environment.solution, by="expert"), name="alfworld-handcoded-expert")
    if name == "random":
        return RandomPolicy(rare=RARE)
    if name == "mixed":
        return MixedPolicy(path, detours)
    if name == "mistaken":
        return MistakenPolicy(path, words, mistake)
    if name == "restless":
        return RestlessPolicy(words, mistake, rare=RARE)
    raise ConfigurationError(f"there is no policy {name!r} to collect with; there are {', '.join(POLICIES)}")


def detours(state: State, admissible: Sequence[str]) -> dict[str, str | None]:
    """Actions that can be taken and taken back, each with the action that does so (None: it changes nothing)."""
    found: dict[str, str | None] = {}
    for text in admissible:
        action = parse_action(text)
        if action.verb in ("look", "inventory", "examine"):
            found[text] = None
        elif action.verb == "go" and state.scene not in (None, ROOM):
            found[text] = f"go to {state.scene}"
        elif action.verb == "open":
            found[text] = f"close {action.place}"
        elif action.verb == "close":
            found[text] = f"open {action.place}"
        elif action.verb == "take":
            found[text] = put_form(admissible).format(action.thing, action.place)
        elif action.verb == "put":
            found[text] = f"take {action.thing} from {action.place}"
    return found
