"""The two roles of a run, policy and experience model, on the engines that the settings name.

In: settings and the store that demonstrations come from. Out: an `Environment` and a `Policy`.
Always: each value is the user's if given, else what the checkpoint's `dreamsim.json` says it was trained with, else
a default; token counts and search times reach the telemetry; engines start at the same time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.cli.engines import Role, open_engines, opening, tokenizer_source
from dreamsim.cli.tasks import DATA
from dreamsim.cli.trust import open_checks
from dreamsim.engines.remembered import RememberingTokenizer
from dreamsim.engines.tokenizers import ChatFrame, chat_frame, load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.parse import AnswerRules
from dreamsim.experience.prompt import PromptLayout
from dreamsim.protocols import Engine, Environment, Policy, Retriever, Tokenizer
from dreamsim.records.strict_json import read_small_json
from dreamsim.runtime.config import ExperienceSection, PolicySection, Settings
from dreamsim.runtime.measured import MeasuredEngine, MeasuredRetriever
from dreamsim.runtime.telemetry import Telemetry

Say = Callable[[str], Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Who plays, and where."""

    environment: Environment
    """The dreamed environment."""
    policy: Policy
    """The agent."""
    generation: int = 1
    """Of what is dreamed: 1 + the greatest generation of what the experience model was trained on."""
    player: Player | None = None
    """What the policy stands on; None without a model."""
    dreamer: Dreamer | None = None
    """What the experience model stands on; None without a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """What a language-model policy stands on: what a trainer needs to know of it."""

    engine: Engine
    """Answers for it."""
    tokenizer: Tokenizer
    """Its tokenizer."""
    settings: PolicySettings
    """How it is asked."""
    told: Mapping[str, Any]
    """What stands in the `dreamsim.json` beside its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dreamer:
    """What an experience model stands on: it can be asked for tasks, too."""

    engine: Engine
    """Answers for it."""
    prepared: Prepared
    """Tokenizer, frame and what it was trained with."""
    adapter: str | None
    """LoRA adapter, as the engine calls it."""


@asynccontextmanager
async def open_roles(
    settings: Settings, retriever: Retriever, telemetry: Telemetry, say: Say, *, logs: Path
) -> AsyncIterator[Roles]:
    """Start the engines and put the roles on them; engines write their logs into the directory `logs`.

    Raises:
        UsageError: a model or package is missing.
    """
    if settings.experience.kind == "scripted":
        yield scripted_roles(settings)
        return
    async with AsyncExitStack() as opened:
        playing = await to_thread.run_sync(prepare, settings.policy, "policy")
        dreaming = await to_thread.run_sync(prepare, settings.experience, "experience")
        tokenizers: dict[Role, Tokenizer] = {"policy": playing.tokenizer, "experience": dreaming.tokenizer}
        checks = await opened.enter_async_context(open_checks(settings, telemetry))
        engines = await opened.enter_async_context(open_engines(settings, tokenizers, say, logs=logs))
        player = player_of(settings.policy, playing, engines.policy)
        policy = LanguageModelPolicy(MeasuredEngine(player.engine, telemetry), player.tokenizer, player.settings)
        asked = experience_settings(settings.experience, dreaming)
        dreamer = Dreamer(engine=engines.experience, prepared=dreaming, adapter=asked.adapter)
        model = ExperienceModel(
            MeasuredEngine(dreamer.engine, telemetry),
            dreaming.tokenizer,
            asked,
            MeasuredRetriever(retriever, telemetry),
            checks=checks,
        )
        generation = 1 + _told(dreaming.trained, "generation", 0)
        yield Roles(
            environment=DreamEnvironment(model), policy=policy, generation=generation, player=player, dreamer=dreamer
        )


@asynccontextmanager
async def open_player(settings: Settings, telemetry: Telemetry, *, logs: Path) -> AsyncIterator[Player]:
    """Start the policy's engine alone: for reality, where nobody dreams.

    Raises:
        UsageError: a model or package is missing.
    """
    ready = await to_thread.run_sync(prepare, settings.policy, "policy")
    async with await opening(settings, "policy", {"policy": ready.tokenizer}, logs) as engine:
        yield player_of(settings.policy, ready, engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a role needs beside its engine."""

    tokenizer: Tokenizer
    """Its tokenizer."""
    frame: ChatFrame
    """Ids before and after every prompt."""
    trained: Mapping[str, Any]
    """What `dreamsim.json` says."""


def prepare(role: PolicySection | ExperienceSection, name: str) -> Prepared:
    """Tokenizer, frame and provenance of a role. Blocks: reads files."""
    source = tokenizer_source(role, name)
    # An adapter was trained last; a server's adapter is a name of its own, and no directory.
    adapter = {} if role.adapter is None else trained_with(Path(role.adapter))
    trained = adapter or trained_with(Path(source))
    frame = frame_of(role, name, source, trained)
    return Prepared(tokenizer=RememberingTokenizer(load_tokenizer(source)), frame=frame, trained=trained)


def frame_of(role: PolicySection | ExperienceSection, name: str, source: str, trained: Mapping[str, Any]) -> ChatFrame:
    """The frame of a role's prompts: as the user says, else as it was trained, else its chat template's.

    Raises:
        ConfigurationError: a chat frame is asked for, and the model has no template.
    """
    layout = role.layout if role.layout != "auto" else trained.get("layout", "auto")
    if layout == "plain":
        return ChatFrame()
    system = (DATA / "prompts" / f"{name}.system.md").read_text(encoding="utf-8").strip()
    frame = chat_frame(source, system)
    if frame is None and layout == "chat":
        raise ConfigurationError(f"{name}.layout = chat, but {role.model} has no chat template: use plain")
    return ChatFrame() if frame is None else frame


def trained_with(directory: Path) -> Mapping[str, Any]:
    """What a checkpoint's `dreamsim.json` says; nothing where there is none.

    Raises:
        ConfigurationError: the file is no JSON object, or says what cannot be.
    """
    path = directory / "dreamsim.json"
    if not path.is_file():
        return {}
    try:
        told = read_small_json(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise ConfigurationError(f"{path} is not a JSON object")
    for name, can_be in _MAY_SAY.items():
        if name in told and not can_be(told[name]):
            raise ConfigurationError(f"{path}: {name} cannot be {told[name]!r:.60}")
    return told


def _is_number(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


_MAY_SAY: Mapping[str, Callable[[Any], bool]] = {
    "layout": lambda value: value in ("auto", "chat", "plain"),
    "window": lambda value: value is None or _is_number(value, -1),
    "max_tokens": lambda value: _is_number(value, 1),
    "retrieve": lambda value: value in ("episode", "step", "off"),
    "demonstrations": lambda value: _is_number(value, 0),
    "tasks_shown": lambda value: _is_number(value, 0),
    "generation": lambda value: _is_number(value, 0),
    **dict.fromkeys(("show_admissible", "begin_action", "example_state", "history", "reasoning"), _is_flag),
}
"""What `dreamsim.json` may say of what is read here; a checkpoint may come from anybody."""


def player_of(role: PolicySection, prepared: Prepared, engine: Engine) -> Player:
    """The policy of `role` on `engine`."""
    return Player(
        engine=engine, tokenizer=prepared.tokenizer, settings=policy_settings(role, prepared), told=prepared.trained
    )


def policy_settings(role: PolicySection, prepared: Prepared) -> PolicySettings:
    """How the policy is asked."""
    trained = prepared.trained
    told: int | None = trained.get("window", 2)
    window = told if role.window is None else role.window
    return PolicySettings(
        window=None if window is None or window < 0 else window,
        show_admissible=_first(role.show_admissible, trained, "show_admissible", True),
        begin_action=_first(role.begin_action, trained, "begin_action", False),
        max_tokens=_first(role.max_tokens, trained, "max_tokens", 512),
        temperature=role.temperature,
        top_p=role.top_p,
        samples=role.samples,
        head=prepared.frame.head,
        tail=prepared.frame.tail,
        adapter=_adapter(role, "policy"),
    )


def experience_settings(role: ExperienceSection, prepared: Prepared) -> ExperienceSettings:
    """How the experience model is asked."""
    trained = prepared.trained
    reasoning = _first(role.reasoning, trained, "reasoning", True)
    demonstrations = _first(role.demonstrations, trained, "demonstrations", 4)
    layout = PromptLayout(
        retrieve="off" if demonstrations == 0 else _first(role.retrieve, trained, "retrieve", "step"),
        demonstrations=demonstrations,
        example_state=_first(role.example_state, trained, "example_state", True),
        history=_first(role.history, trained, "history", True),
        reasoning=reasoning,
        head=prepared.frame.head,
        tail=prepared.frame.tail,
    )
    return ExperienceSettings(
        layout=layout,
        rules=AnswerRules(reasoning_required=reasoning),
        max_tokens=_first(role.max_tokens, trained, "max_tokens", 1024),
        temperature=role.temperature or 0.0,
        retry_temperature=role.retry_temperature,
        top_p=role.top_p,
        samples=role.samples,
        sources=role.balance.sources,
        balance=role.balance.rule,
        same_environment=role.same_environment,
        adapter=_adapter(role, "experience"),
    )


def _adapter(role: PolicySection | ExperienceSection, name: Role) -> str | None:
    """What requests call the adapter: a server has its own names, our engines call it by the role."""
    return role.adapter if role.adapter is None or role.kind == "http" else name


def _first(given: T | None, trained: Mapping[str, Any], name: str, default: T) -> T:
    """What the user gave, else what the model was trained with, else a default."""
    return given if given is not None else _told(trained, name, default)


def _told(trained: Mapping[str, Any], name: str, default: T) -> T:
    value: T = trained.get(name, default)
    return value


def scripted_roles(settings: Settings) -> Roles:
    """The text world of `dreamsim.testing`, and somebody who knows it."""
    from dreamsim.testing.environment import ScriptedEnvironment
    from dreamsim.testing.policies import RandomPolicy, ScriptedPolicy

    policy = ScriptedPolicy() if settings.scripted.policy == "gold" else RandomPolicy()
    return Roles(environment=ScriptedEnvironment(latency_s=settings.scripted.latency_s), policy=policy)
