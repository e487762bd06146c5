"""What measurements are made with: engines, tokenizers and experiences, as a run would have them.

In: settings as `python -m dreamsim.run` takes them. Out: open engines and stores. Always: closed with their context.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from dreamsim.cli.engines import Role, model_source
from dreamsim.cli.tasks import experience_file
from dreamsim.engines.vllm_local import VllmEngine, open_vllm_engine
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.runtime.config import Settings
from dreamsim.store.jsonl import import_jsonl
from dreamsim.store.store import Store, open_store


@asynccontextmanager
async def experiences(settings: Settings, work: Path) -> AsyncIterator[Store]:
    """A store of the real experiences that the settings name, kept in `work`."""
    path = experience_file(settings)
    if path is None:
        raise SystemExit("store.experiences is none: there is nothing to retrieve from or to compare with")
    stat = await anyio.Path(path).stat()
    name = f"experiences-{path.name.partition('.')[0]}-{stat.st_size}.sqlite"
    async with open_store(work / name, encoder=settings.store.encoder) as store:
        await import_jsonl(path, store)
        await store.flush()
        yield store


@asynccontextmanager
async def one_engine(settings: Settings, role: Role, log: Path, *, seeded: bool) -> AsyncIterator[VllmEngine]:
    """The engine of one role, alone; `seeded` makes its samples repeatable."""
    general, section = settings.vllm, getattr(settings, role)
    own = section.vllm
    wanted = VllmSettings(
        model=model_source(section, role),
        dtype=own.dtype or general.dtype,
        max_model_len=own.max_model_len or general.max_model_len,
        max_num_seqs=own.max_num_seqs or general.max_num_seqs,
        max_num_batched_tokens=own.max_num_batched_tokens or general.max_num_batched_tokens,
        kv_cache_gib=own.kv_cache_gib or general.kv_cache_gib,
        seeded=seeded,
    )
    async with open_vllm_engine(wanted, log_path=log) as engine:
        yield engine
