"""LoRA adapters of a vLLM server, replaced while it serves.

In: a client of the server. Out: `AdapterVersions` whose handles are names of models on that server.
Always: a server that does not take adapters while it runs is told apart from an adapter that it cannot load.

The server must have been started with `--enable-lora --max-loras 2` (or more) and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1,
and must see the trainer's directory of weights under the same path.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anyio

from dreamsim.engines.adapter_versions import AdapterVersions
from dreamsim.engines.http_client import JsonClient, StatusError
from dreamsim.errors import EngineError


def adapter_versions(client: JsonClient, url: str, announced: Iterable[str]) -> AdapterVersions[str]:
    """The adapters `announced` of the server at `url`."""

    async def add(version: str, path: Path) -> str:
        body = {"lora_name": version, "lora_path": str(await anyio.Path(path).absolute())}
        try:
            await client.call("load_lora_adapter", body, request_id=version, as_text=True)
        except StatusError as error:
            if error.status not in (404, 405):
                raise EngineError(f"{url} could not load adapter {version} from {path}: {error.said}") from error
            raise EngineError(
                f"{url} takes no adapters while it runs: start vLLM with --enable-lora --max-loras 2 and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1",
                recoverable=False,
            ) from error
        return version

    async def remove(version: str) -> None:
        await client.call("unload_lora_adapter", {"lora_name": version}, request_id=version, as_text=True, tries=1)

    return AdapterVersions({}, announced, add=add, remove=remove)
