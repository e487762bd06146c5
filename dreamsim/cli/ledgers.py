"""Which ledger keeps the books of which environment.

In: `Task.environment`. Out: its ledger; the generic one where the environment has none of its own.
Always: an adapter is imported when one of its tasks asks for it, and not before.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast

from dreamsim.experience.ledger import ElementLedger
from dreamsim.experience.parse import AnswerRules
from dreamsim.protocols import StateLedger

LEDGERS: Final = {
    "textworld_express": ("dreamsim_adapters.environments.textworld_express.ledger", "TextWorldExpressLedger"),
    "alfworld": ("dreamsim_adapters.environments.alfworld.ledger", "AlfworldLedger"),
}
"""What an environment's name begins with -> module and class of its ledger, made with the rewards of its tasks."""


def ledger_for(environment_name: str, rewards: AnswerRules | None = None) -> StateLedger:
    """The ledger of an environment, by `Task.environment` such as `textworld_express/twc`.

    Args:
        environment_name: as in the task.
        rewards: what tasks pay; by default 1 for success and 0 for all else.
    """
    module, kind = LEDGERS.get(environment_name.partition("/")[0], ("", ""))
    if not module or not is_there(module):
        return ElementLedger(rewards)
    make = cast("Callable[[AnswerRules | None], StateLedger]", getattr(import_module(module), kind))
    return make(rewards)


def is_there(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the adapters are not installed
        return False
