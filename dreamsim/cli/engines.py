"""The engines of a run: one for both roles when they are the same, else two.

In: settings. Out: open engines. Always: closed when the context is left; each writes its output to a log of its own;
engines and trainer that share a GPU each have a part of its memory that leaves the others theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup, TaskStatus

from dreamsim.cli.tasks import DATA
from dreamsim.engines.restarting import open_restarting_engine
from dreamsim.engines.vllm_process import has_gpu
from dreamsim.engines.vllm_settings import PromptLookup, VllmSettings
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Engine, Tokenizer
from dreamsim.runtime.config import TINY, ExperienceSection, PolicySection, Settings

Say = Callable[[str], Awaitable[None]]
Role = Literal["policy", "experience"]
ROLES: tuple[Role, ...] = ("policy", "experience")
SHUTDOWN_S = 1.0
"""What a closing engine gets before it is killed: every answer it gave is stored by then, so nothing is lost."""
TRAINED = "policy"
"""The adapter that `dreamsim train` trains, as requests call it."""
SHARED_GPU_SHARE = 0.45
"""Of a GPU's memory, when two engines share it."""
GPU_SHARE_BESIDE_TRAINER = 0.5
"""Of a GPU's memory, when an engine shares it with a trainer: weights, optimizer and activations take the rest."""
SHARED_GPU_SHARE_BESIDE_TRAINER = 0.3
"""Of a GPU's memory, for each of two engines that share it with a trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """An engine for each role; the same object where one serves both."""

    policy: Engine
    """Decides actions."""
    experience: Engine
    """Dreams transitions."""


def model_source(role: PolicySection | ExperienceSection, name: str) -> str:
    """The model as an engine takes it: a directory, or a name on the Hugging Face hub."""
    return str(DATA / name) if role.model == TINY else role.model


def tokenizer_source(role: PolicySection | ExperienceSection, name: str) -> str:
    """Where the tokenizer of a role is."""
    return role.tokenizer if role.tokenizer is not None else model_source(role, name)


@asynccontextmanager
async def open_engines(
    settings: Settings, tokenizers: Mapping[Role, Tokenizer], say: Say, *, logs: Path
) -> AsyncIterator[Engines]:
    """Start what the settings name.

    Raises:
        UsageError: an engine cannot be had.
    """
    policy, experience = settings.policy, settings.experience
    async with AsyncExitStack() as opened:
        if settings.one_engine:
            await say(f"starting {policy.model} for both roles")
            engine = await opened.enter_async_context(await opening(settings, "policy", tokenizers, logs))
            yield Engines(policy=engine, experience=engine)
            return
        await say(f"starting {policy.model} as policy and {experience.model} as experience model")
        openings: dict[str, AbstractAsyncContextManager[Engine]] = {
            name: await opening(settings, name, tokenizers, logs) for name in ROLES
        }
        if await to_thread.run_sync(has_gpu):  # one after the other: each measures what memory is free when it starts
            engines = {name: await opened.enter_async_context(opening) for name, opening in openings.items()}
        else:
            engines = await opened.enter_async_context(opened_together(openings))
        yield Engines(policy=engines["policy"], experience=engines["experience"])


class opened_together(AbstractAsyncContextManager[dict[str, Any]]):  # noqa: N801 - used like a function
    """Open several things at the same time.

    The first failure closes the others and is raised as it is; so is an error of the block.
    """

    def __init__(self, openings: Mapping[str, AbstractAsyncContextManager[Any]]) -> None:
        self._openings = openings
        self._open: dict[str, Any] = {}
        self._failures: list[Exception] = []
        self._closing = anyio.Event()
        self._holders: TaskGroup

    async def __aenter__(self) -> dict[str, Any]:
        self._holders = anyio.create_task_group()
        await self._holders.__aenter__()
        try:
            async with anyio.create_task_group() as starting:
                for name, opening in self._openings.items():
                    starting.start_soon(self._holders.start, self._hold, name, opening)
        except BaseException as error:
            await self._close(type(error), error, error.__traceback__)
            raise
        if self._failures:
            await self._close(None, None, None)
        return self._open

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._close(kind, error, trace)

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._closing.set()
        if kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()):
            return await self._holders.__aexit__(kind, error, trace)
        # The block's own error is not given to the group, which would wrap it.
        await self._holders.__aexit__(None, None, None)
        if self._failures and error is None:
            raise self._failures[0]
        return None

    async def _hold(
        self, name: str, opening: AbstractAsyncContextManager[Any], *, task_status: TaskStatus[None]
    ) -> None:
        # Each is opened and closed in one task, as the cancel scopes inside it demand.
        started = False
        try:
            async with opening as self._open[name]:
                started = True
                task_status.started()
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001 - raised by whoever opened us
            self._failures.append(error)
            if not started:
                task_status.started()


async def opening(
    settings: Settings, name: Role, tokenizers: Mapping[Role, Tokenizer], logs: Path
) -> AbstractAsyncContextManager[Engine]:
    """The engine of one role, to be entered.

    Raises:
        UsageError: it cannot be had.
    """
    role: PolicySection | ExperienceSection = getattr(settings, name)
    if role.kind == "http":
        return _server(settings, role, tokenizers[name])
    from dreamsim.engines.vllm_local import open_vllm_engine

    wanted = await to_thread.run_sync(vllm_settings, settings, name)

    async def start() -> AbstractAsyncContextManager[Engine]:
        return open_vllm_engine(wanted, log_path=logs / f"vllm-{name}.log")

    # As many again as it computes at once wait inside, so that it never waits for us.
    return open_restarting_engine(start, restarts=settings.run.engine_restarts, at_once=2 * wanted.max_num_seqs)


def vllm_settings(settings: Settings, name: Role) -> VllmSettings:
    """What vLLM is started with for a role, or for both if one engine serves them. Blocks: looks at files.

    Raises:
        ConfigurationError: an adapter cannot be loaded, or a setting would spoil what the engine writes.
    """
    role: PolicySection | ExperienceSection = getattr(settings, name)
    general, own = settings.vllm, role.vllm
    lookup = own.prompt_lookup if own.prompt_lookup is not None else general.prompt_lookup
    if lookup and not has_gpu():
        raise ConfigurationError(
            f"{name}.vllm.prompt_lookup = {lookup}: vLLM's CPU engine writes other tokens with it (docs/engines.md); "
            "set vllm.prompt_lookup = 0 where there is no GPU"
        )
    share = own.gpu_memory_utilization or general.gpu_memory_utilization
    if share is None and has_gpu():
        share = gpu_share(_engines_here(settings))
    adapters = {served: getattr(settings, served).adapter for served in (ROLES if settings.one_engine else (name,))}
    return VllmSettings(
        model=model_source(role, name),
        name=f"{TINY}-{name}" if role.model == TINY else "",
        dtype=own.dtype or general.dtype,
        max_model_len=own.max_model_len or general.max_model_len,
        max_num_seqs=own.max_num_seqs or general.max_num_seqs,
        max_num_batched_tokens=own.max_num_batched_tokens or general.max_num_batched_tokens,
        kv_cache_gib=own.kv_cache_gib or general.kv_cache_gib,
        gpu_memory_utilization=share,
        enforce_eager=general.enforce_eager,
        enable_prefix_caching=general.prefix_caching,
        tensor_parallel_size=general.tensor_parallel_size,
        block_size=general.block_size,
        speculative=PromptLookup(tokens=lookup) if lookup else None,
        cpu_threads=own.cpu_threads or general.cpu_threads,
        seeded=general.seeded,
        tells_load=settings.run.adaptive,
        seed=settings.run.seed % 2**31,
        shutdown_timeout_s=SHUTDOWN_S,
        adapters={served: Path(path) for served, path in adapters.items() if path is not None},
        swapped_adapters={TRAINED: settings.train.lora_rank} if name == "policy" and settings.train.lora_rank else {},
    )


def gpu_share(engines: int, *, training: bool = False) -> float | None:
    """Of a GPU's memory, what each of `engines` on it takes, beside a trainer or not; None is vLLM's own default."""
    if training:
        return SHARED_GPU_SHARE_BESIDE_TRAINER if engines > 1 else GPU_SHARE_BESIDE_TRAINER
    return SHARED_GPU_SHARE if engines > 1 else None


def beside_trainer(settings: Settings, *, dreamed: bool) -> Settings:
    """The settings for engines on the GPU that a trainer is loaded on; a share that is set stays. Blocks: looks for it.

    Args:
        settings: as they were given.
        dreamed: whether the experience model is started, too.
    """
    if settings.vllm.gpu_memory_utilization is not None or not has_gpu():
        return settings
    share = gpu_share(_engines_here(settings) if dreamed else 1, training=True)
    return settings.model_copy(update={"vllm": settings.vllm.model_copy(update={"gpu_memory_utilization": share})})


def _engines_here(settings: Settings) -> int:
    """How many engines compute on this machine when both roles are started."""
    return 1 if settings.one_engine else (settings.policy.kind, settings.experience.kind).count("vllm")


def _server(
    settings: Settings, role: PolicySection | ExperienceSection, tokenizer: Tokenizer
) -> AbstractAsyncContextManager[Engine]:
    from dreamsim.engines.openai_http import HttpSettings, open_http_engine

    assert role.url is not None, "checked by the settings"
    return open_http_engine(
        HttpSettings(
            url=role.url,
            model=role.model,
            api_key_variable=role.api_key_variable,
            concurrency=settings.run.concurrency + 1,  # one asks how busy it is while all episodes wait
            max_model_len=role.vllm.max_model_len,
            require_token_ids=role.require_token_ids,
        ),
        tokenizer=tokenizer,
    )
