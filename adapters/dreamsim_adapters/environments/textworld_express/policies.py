"""The offline policies of TextWorldExpress: which of them there are, and what the games' own rules add to them.

In: the environment. Out: policies. Always: of a gold path's `look around` a third is played, as the others would only
teach to look, except where Simon says it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Policy
from dreamsim.records.state import State, is_held
from dreamsim.records.task import Task
from dreamsim_adapters.environments.offline_policies import (
    GoldPolicy,
    MistakenPolicy,
    MixedPolicy,
    RandomPolicy,
    RestlessPolicy,
)
from dreamsim_adapters.environments.textworld_express.careless import CarelessPolicy
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.foretell import OPPOSITE
from dreamsim_adapters.environments.textworld_express.mistakes import mistake

LOOK: Final = "look around"
KEPT_LOOKS: Final = 0.3
"""Share of a gold path's `look around` that is played."""
COLLECTED: Final = ("gold", "random", "mixed", "mistaken", "restless")
"""Names of the policies that experience is collected with unless others are asked for."""
POLICIES: Final = (*COLLECTED, "careless")
"""Names of all policies without a model."""


def offline_policy(name: str, environment: TextWorldExpressEnvironment) -> Policy:
    """The policy called `name`.

    Raises:
        ConfigurationError: there is none of that name.
    """
    path, words = environment.gold_path, environment.pool.vocabulary
    if name == "gold":
        return GoldPolicy(path, kept=without_looks)
    if name == "random":
        return RandomPolicy()
    if name == "mixed":
        return MixedPolicy(path, detours, kept=without_looks)
    if name == "mistaken":
        return MistakenPolicy(path, words, mistake, kept=without_looks)
    if name == "restless":
        return RestlessPolicy(words, mistake)
    if name == "careless":
        return CarelessPolicy(path, kept=without_looks)
    raise ConfigurationError(f"there is no policy {name!r} to collect with; there are {', '.join(POLICIES)}")


def without_looks(task: Task, path: Sequence[str], dice: random.Random, *, keep: float = KEPT_LOOKS) -> Sequence[str]:
    """A gold path with `keep` of its `look around`."""
    # Where Simon says it, looking around is an action like any other.
    said = task.environment.endswith("/simonsays")
    return [action for action in path if action != LOOK or said or dice.random() < keep]


def detours(state: State, admissible: Sequence[str]) -> dict[str, str | None]:
    """Actions that can be taken and taken back, each with the action that does so (None: it changes nothing)."""
    found: dict[str, str | None] = {}
    elements = state.elements
    for action in admissible:
        verb, _, rest = action.partition(" ")
        if verb in ("look", "inventory", "examine"):
            found[action] = None
        elif verb == "move" and rest in OPPOSITE:
            found[action] = f"move {OPPOSITE[rest]}"
        elif verb == "open":
            found[action] = f"close {rest}"
        elif verb == "close":
            found[action] = f"open {rest}"
        elif verb == "take" and elements.get(rest, "").startswith("in "):
            if place := _place(elements, elements[rest]):
                found[action] = f"put {rest} in {place}"
        elif verb == "put" and (thing := rest.partition(" in ")[0]) in elements and is_held(elements[thing]):
            found[action] = f"take {thing}"
    return found


def _place(elements: dict[str, str], value: str) -> str | None:
    """The piece of furniture that `in <furniture> <preparation>` names."""
    words = value.removeprefix("in ").split()
    names = (" ".join(words[:length]) for length in range(len(words), 0, -1))
    return next((name for name in names if name in elements), None)
