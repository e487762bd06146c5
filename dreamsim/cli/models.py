"""The two roles of a run, policy and experience model, on the engines that the settings name.

In: settings and the store that demonstrations come from. Out: an `Environment` and a `Policy`.
Always: each value is the user's if given, else what the checkpoint's `dreamsim.json` says it was trained with, else
a default; token counts and search times reach the telemetry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from dreamsim.protocols import Environment, Policy, Retriever
from dreamsim.runtime.config import Settings
from dreamsim.runtime.telemetry import Telemetry

Say = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Who plays, and where."""

    environment: Environment
    """The dreamed environment."""
    policy: Policy
    """The agent."""


@asynccontextmanager
async def open_roles(settings: Settings, retriever: Retriever, telemetry: Telemetry, say: Say) -> AsyncIterator[Roles]:
    """Start the engines and put the roles on them.

    Raises:
        UsageError: a model or package is missing.
    """
    async with AsyncExitStack() as opened:
        if settings.experience.kind == "scripted":
            yield scripted_roles(settings)
            return
        raise NotImplementedError


def scripted_roles(settings: Settings) -> Roles:
    """The text world of `dreamsim.testing`, and somebody who knows it."""
    from dreamsim.testing.environment import ScriptedEnvironment
    from dreamsim.testing.policies import RandomPolicy, ScriptedPolicy

    policy = ScriptedPolicy() if settings.scripted.policy == "gold" else RandomPolicy()
    return Roles(environment=ScriptedEnvironment(latency_s=settings.scripted.latency_s), policy=policy)
