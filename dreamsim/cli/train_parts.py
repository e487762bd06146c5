"""The parts of `dreamsim train`, put together as the settings say.

In: settings, the training's directory. Out: `TrainingParts`.
Always: what is opened is closed again in reverse order; engines start once everything else is known to be there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from anyio import to_thread

from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli.assemble import importing_experiences
from dreamsim.cli.curriculum import curriculum_chooser, task_writer
from dreamsim.cli.engines import beside_trainer, opened_together
from dreamsim.cli.failures import failure_policy
from dreamsim.cli.models import Dreamer, Player, Roles, open_player, open_roles
from dreamsim.cli.reality import Reality, open_reality
from dreamsim.cli.run_directory import RunDirectory
from dreamsim.cli.tasks import experience_file, parse_mix, tasks_of
from dreamsim.cli.trainer import MadeTrainer, describe_weights, make_trainer, receiver_of, trained_player
from dreamsim.curriculum.figures import curriculum_figures
from dreamsim.curriculum.renaming import RenamingEnvironment, renamed_tasks, world_names
from dreamsim.errors import ConfigurationError
from dreamsim.evaluation.success import GameSettings, PolicyReport, play_games, policy_report
from dreamsim.flow.agreement import policy_agreement
from dreamsim.flow.batches import continuation_of
from dreamsim.flow.choosing import CurriculumChooser
from dreamsim.flow.mixing import ShareSchedule
from dreamsim.protocols import Environment, Policy
from dreamsim.records.episode import Source
from dreamsim.records.task import Task
from dreamsim.runtime.config import Settings
from dreamsim.runtime.measured import MeasuredEngine
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.store.encoders import encoder_from_name
from dreamsim.store.jsonl import read_jsonl
from dreamsim.store.store import Store, open_store
from dreamsim.training.parts import Evaluate, TrainingParts, TrainingSettings

Say = Callable[[str], Awaitable[None]]
AGREEMENT_TASKS = 16
"""First decisions on which engine and trainer are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A training, ready to run."""

    parts: TrainingParts
    """Its parts."""
    settings: TrainingSettings
    """How it is to train."""
    store: Store
    """Where its episodes are."""


def training_settings(settings: Settings, run: str) -> TrainingSettings:
    """What `Training` is told.

    Raises:
        ConfigurationError: the real share is no schedule.
    """
    train = settings.train
    return TrainingSettings(
        run=run,
        steps=train.steps,
        group_size=train.group_size,
        batch_groups=train.groups,
        minimum=train.minimum_group or (2 if train.algorithm == "grpo" else 1),
        group_deadline_s=train.group_deadline_s,
        failures=failure_policy(settings.run, episodes=_counted(settings)),
        lag=train.lag,
        in_flight=train.in_flight,
        max_steps=settings.run.max_steps,
        max_tokens=train.max_tokens,
        real_share=ShareSchedule.parse(train.real_share),
        max_real_transitions=train.max_real_transitions,
        evaluate_every=train.evaluate_every,
        save_every=train.save_every,
        concurrency=settings.run.concurrency,
        episode_seconds=settings.run.episode_timeout_s,
        stall_s=settings.run.stall_s,
        seed=settings.run.seed,
    )


def _counted(settings: Settings) -> int | None:
    """Episodes that `run.max_failures` is a share of, where it was set; None where it was not: groups do without what
    failed, and an alarm rings."""
    run, train = settings.run, settings.train
    if run.max_failures == type(run).model_fields["max_failures"].default:
        return None
    return train.steps * train.groups * train.group_size


@asynccontextmanager
async def assembled_training(
    settings: Settings, directory: RunDirectory, telemetry: Telemetry, say: Say
) -> AsyncIterator[Assembled]:
    """Open everything; `say` is told of what takes long.

    Raises:
        UsageError: a part cannot be had; the message says what to change.
    """
    wanted = training_settings(settings, directory.run)
    real, dreamed = wanted.real_share.ever("real"), wanted.real_share.ever("dreamed")
    environments: dict[Source, Environment] = {}
    async with AsyncExitStack() as opened:
        tasks, names = await to_thread.run_sync(_renamed, settings, await tasks_of(settings))
        store = await opened.enter_async_context(
            open_store(
                directory.store,
                encoder=settings.store.encoder if dreamed else None,
                quality=settings.store.filter.rule,
            )
        )
        reality: Reality | None = None
        if real or settings.train.evaluate_games:
            reality = await opened.enter_async_context(open_reality(settings.tasks.environment))
        if real and reality is not None:
            environments["real"] = RenamingEnvironment(reality.environment, names)
            wanted = replace(wanted, real_concurrency=min(reality.concurrency, wanted.concurrency))
        roles = await opened.enter_async_context(_roles(settings, store, telemetry, say, directory, dreamed=dreamed))
        if roles.environment is not None:
            environments["dreamed"] = RenamingEnvironment(roles.environment, names)
        player = roles.player
        policy = LanguageModelPolicy(MeasuredEngine(player.engine, telemetry), player.tokenizer, player.settings)
        evaluate = None
        if reality is not None and settings.train.evaluate_games:
            # Its own measuring would count evaluations as training.
            tested = LanguageModelPolicy(player.engine, player.tokenizer, player.settings)
            evaluate = await _evaluation(settings, wanted, reality, tested, store)
        engines = [part.engine for part in (player, roles.dreamer) if part is not None]
        chooser = await _curriculum(settings, tasks, roles.dreamer)
        parts = TrainingParts(
            environments=environments,
            policy=policy,
            receivers=[receiver_of(player)],
            trainer=roles.trainer,
            tasks=chooser,
            curriculum=partial(curriculum_figures, chooser.curriculum),
            archive=store,
            evaluate=evaluate,
            continuation=continuation_of(player.tokenizer, player.settings),
            generation=roles.generation,
            engines=engines if settings.run.adaptive else (),
            describe=partial(describe_weights, settings, player),
            check=partial(_agreement, player, roles.trainer, tasks, say),
        )
        yield Assembled(parts=parts, settings=wanted, store=store)


def _renamed(settings: Settings, tasks: Sequence[Task]) -> tuple[Sequence[Task], dict[str, frozenset[str]]]:
    """The tasks, some with other names, and by environment what may bear other names: what is carried in the real
    experiences. Blocks: reads them.

    Raises:
        ConfigurationError: tasks are to be renamed, and there are no experiences.
    """
    share = settings.curriculum.renamed
    if not share:
        return tasks, {}
    path = experience_file(settings)
    if path is None:
        raise ConfigurationError(
            "curriculum.renamed takes the names of things from real experiences: name some with store.experiences, "
            "or set curriculum.renamed = 0"
        )
    names = world_names(read_jsonl(path))
    return renamed_tasks(tasks, names, share=share, seed=settings.run.seed), names


def learned_from(settings: Settings) -> Settings:
    """The same settings with the tasks that may be learned from, those of the train fold, and with worlds that differ.

    A greedy experience model dreams the most likely world wherever something is open (what lies in a fridge, what a
    recipe asks for), and a policy learns that one.

    Raises:
        ConfigurationError: tasks of another fold are asked for.
    """
    if settings.tasks.fold not in ("any", "train"):
        raise ConfigurationError(f"tasks.fold = {settings.tasks.fold}: training is on tasks of the train fold")
    tasks = settings.tasks.model_copy(update={"fold": "train"})
    experience = settings.experience
    if experience.temperature is None:
        experience = experience.model_copy(update={"temperature": 1.0})
    return settings.model_copy(update={"tasks": tasks, "experience": experience})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Playing:
    """Who plays and learns, and the dream if there is one."""

    player: Player
    trainer: MadeTrainer
    environment: Environment | None = None
    generation: int = 1
    dreamer: Dreamer | None = None


@asynccontextmanager
async def _roles(
    settings: Settings, store: Store, telemetry: Telemetry, say: Say, directory: RunDirectory, *, dreamed: bool
) -> AsyncIterator[_Playing]:
    """The trainer, then engines. Not at the same time: what both import cannot be imported by two threads at once."""
    logs = directory.log.parent
    await say(f"loading {settings.policy.model} into the trainer")
    trainer = await to_thread.run_sync(make_trainer, settings)
    settings = await to_thread.run_sync(partial(beside_trainer, settings, dreamed=dreamed))
    openings: dict[str, AbstractAsyncContextManager[Any]] = {}
    if dreamed:
        openings["experiences"] = importing_experiences(settings, store, say)
        openings["roles"] = open_roles(settings, store, telemetry, say, logs=logs)
    else:
        await say(f"starting {settings.policy.model} as policy")
        openings["player"] = open_player(settings, telemetry, logs=logs)
    async with opened_together(openings) as found:
        roles: Roles | None = found.get("roles")
        player: Player | None = found["player"] if roles is None else roles.player
        if player is None:
            raise ConfigurationError("a scripted policy learns nothing: name a model with --policy.model")
        yield _Playing(
            player=trained_player(settings, player),
            trainer=trainer,
            environment=None if roles is None else roles.environment,
            generation=1 if roles is None else roles.generation,
            dreamer=None if roles is None else roles.dreamer,
        )


async def _agreement(player: Player, trainer: MadeTrainer, tasks: Sequence[Task], say: Say) -> None:
    """Say how far engine and trainer are apart before anything is learned."""
    found = await policy_agreement(player.engine, trainer, player.tokenizer, player.settings, tasks[:AGREEMENT_TASKS])
    await say(f"engine and trainer differ by {found.mean:.4f} nats per token ({found.tokens:,} tokens)")
    problem = found.problem()
    if problem is not None:
        await say(f"WARNING {problem}")


async def _curriculum(settings: Settings, tasks: Sequence[Task], dreamer: Dreamer | None) -> CurriculumChooser:
    """What says which task comes next; the experience model writes new ones, where it can."""
    section = settings.curriculum

    def make() -> CurriculumChooser:
        writer = None
        if dreamer is not None:
            writer = task_writer(
                settings.experience, dreamer.prepared, dreamer.engine, adapter=dreamer.adapter, section=section
            )
        return curriculum_chooser(
            section,
            tasks,
            size=settings.train.group_size,
            seed=settings.run.seed,
            clustered=settings.train.algorithm == "ppo",
            encoder=encoder_from_name(settings.store.encoder),
            writer=writer,
        )

    return await to_thread.run_sync(make)


async def _evaluation(
    settings: Settings, wanted: TrainingSettings, reality: Reality, policy: Policy, store: Store
) -> Evaluate:
    """Plays the same games of the evaluation's fold every time."""
    games = list(parse_mix(settings.tasks.mix))
    tasks = await reality.tasks(games, fold=settings.train.evaluate_fold, count=settings.train.evaluate_games, first=0)

    async def evaluate(version: int) -> PolicyReport:
        how = GameSettings(
            run=f"{wanted.run}-evaluation",
            first_repeat=version,
            max_steps=wanted.max_steps,
            seed=wanted.seed,
            concurrency=reality.concurrency,
            episode_seconds=wanted.episode_seconds,
        )
        return policy_report(await play_games(reality.environment, policy, tasks, how, store), seed=wanted.seed)

    return evaluate
