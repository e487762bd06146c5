"""The run-time checks of a run, put together as the settings say.

In: settings, the run's telemetry. Out: `Checks` for the experience model.
Always: what a check lacks (a calibration, a rule file, a judge, a real environment) is refused before the run begins;
what is opened here is closed when the context is left.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from anyio import to_thread

from dreamsim.cli.ledgers import ledger_for
from dreamsim.engines.chat import HttpChat
from dreamsim.engines.openai_http import HttpSettings, open_http_engine
from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim.experience.cache import TransitionCache
from dreamsim.experience.checks import Checks
from dreamsim.experience.uncertainty import Gate, load_gate
from dreamsim.experience.verifier import LedgerVerifier, Verifiers, make_verifier
from dreamsim.protocols import ChatModel, Environment, Verifier
from dreamsim.runtime.config import Settings
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.trust_counts import TrustCounter
from dreamsim.runtime.trust_settings import CacheSection, GateSection, VerifySection

JUDGE_TOKENS = 512
"""Longest verdict of a judge, reasons included."""
JUDGE_TIMEOUT_S = 120.0
"""A judge that takes longer has not answered."""


@asynccontextmanager
async def open_checks(settings: Settings, telemetry: Telemetry) -> AsyncIterator[Checks]:
    """The checks that `settings` ask for, counting in `telemetry`.

    Raises:
        ConfigurationError: one lacks what it needs.
    """
    wanted = settings.experience
    # The first ledger of an environment imports its module, which is not for the event loop.
    await to_thread.run_sync(ledger_for, settings.tasks.environment)
    books = wanted.check.mode != "off" or "ledger" in wanted.verify.by
    async with AsyncExitStack() as opened:
        judge: ChatModel | None = None
        if "judge" in wanted.verify.by:
            judge = await opened.enter_async_context(_judge(wanted.verify))
        reality: Environment | None = None
        if wanted.gate.mode == "real":
            reality = await opened.enter_async_context(_reality(settings.tasks.environment))
        yield Checks(
            ledgers=ledger_for if books else None,
            on_contradiction=wanted.check.mode,
            amend_after=wanted.check.amend_after,
            verifiers=await to_thread.run_sync(partial(verifiers_of, wanted.verify, judge)),
            on_disagreement=wanted.verify.policy,
            verify=wanted.verify.steps,
            gate=await to_thread.run_sync(gate_of, wanted.gate),
            reality=reality,
            cache=cache_of(wanted.cache),
            count=TrustCounter(telemetry.counters),
        )


def cache_of(section: CacheSection) -> TransitionCache | None:
    """The transition cache, unless it is switched off."""
    return TransitionCache(mib=section.mib) if section.enabled else None


def gate_of(section: GateSection) -> Gate | None:
    """The uncertainty gate, unless it is switched off. Blocks: reads the calibration.

    Raises:
        ConfigurationError: the calibration cannot be read, or needs what is not measured.
    """
    if section.mode == "off":
        return None
    return Gate(
        mode=section.mode,
        threshold=section.threshold,
        agreement_samples=section.samples,
        calibration=None if section.calibration is None else load_gate(section.calibration),
    )


def verifiers_of(section: VerifySection, judge: ChatModel | None = None) -> Callable[[str], Verifier] | None:
    """Who verifies in an environment of a name; None if nobody does. Blocks: reads rules and prompts, once.

    Raises:
        ConfigurationError: a rule file or prompt is missing or wrong.
    """
    fixed: dict[str, Verifier | None] = {
        name: make_verifier((name,), rules=section.rules, judge=judge, prompts=section.prompts)
        for name in section.by
        if name != "ledger"
    }

    def verifier_of(environment: str) -> Verifier:
        found = [fixed.get(name) or LedgerVerifier(ledger_for(environment)) for name in dict.fromkeys(section.by)]
        return found[0] if len(found) == 1 else Verifiers(found)

    return verifier_of if section.by else None


@asynccontextmanager
async def _judge(section: VerifySection) -> AsyncIterator[ChatModel]:
    assert section.judge_url is not None, "checked by the settings"
    assert section.judge_model is not None, "checked by the settings"
    server = HttpSettings(url=section.judge_url, model=section.judge_model)
    async with open_http_engine(server) as engine:
        yield HttpChat(engine, max_tokens=JUDGE_TOKENS, timeout_s=JUDGE_TIMEOUT_S)


def check_reality(environment: str) -> None:
    """Raises: UsageError: the gate cannot ask the real environment of these tasks."""
    if environment.partition("/")[0] != "textworld_express":
        raise ConfigurationError(
            f"experience.gate.mode = real, but there is no real environment for '{environment}': "
            "set it to resample or truncate, or attach one in Python (dreamsim.experience.checks.Checks)"
        )
    for package in ("textworld_express", "dreamsim_adapters"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="textworld-express", purpose="experience.gate.mode = real")


@asynccontextmanager
async def _reality(environment: str) -> AsyncIterator[Environment]:
    await to_thread.run_sync(check_reality, environment)
    from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment

    async with TextWorldExpressEnvironment() as real:
        yield real
