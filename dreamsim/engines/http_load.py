"""How busy a vLLM server is: four lines of its `/metrics`.

In: Prometheus text (format 0.0.4). Out: `EngineLoad`. Always: lines that are not understood are passed over; a page
without the four tells nothing rather than zeros.
"""

from __future__ import annotations

import re
from typing import Final

from dreamsim.engines.http_client import JsonClient, StatusError
from dreamsim.records.load import EngineLoad

SAMPLE: Final = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}]*\})?[ \t]+([-+.0-9eE]+)(?:[ \t]|$)", re.MULTILINE)
RUNNING: Final = "vllm:num_requests_running"
WAITING: Final = "vllm:num_requests_waiting"
CACHE_USE: Final = "vllm:kv_cache_usage_perc"
PREEMPTIONS: Final = "vllm:num_preemptions_total"
NO_PAGE: Final = (404, 405)
"""Statuses that a server without metrics answers; any other may be another one at the next look."""


class ServerLoad:
    """Asks one server, and asks it no more once it has said that it has no such page."""

    def __init__(self, client: JsonClient, *, vllm: bool) -> None:
        """`vllm` is whether the server is one of those that tell."""
        self._client = client
        self._tells = vllm

    async def read(self) -> EngineLoad | None:
        """How busy the server is, all its clients together; None where it does not tell.

        Raises:
            EngineError: it could not be asked now.
        """
        if not self._tells:
            return None
        try:
            # The metrics are beside the API, not in it: http://host:8000/metrics for http://host:8000/v1.
            page = await self._client.call("../metrics", request_id="load", tries=1, as_text=True)
        except StatusError as error:
            if error.status not in NO_PAGE:
                raise
            self._tells = False
            return None
        return parse_load(page)


def parse_load(page: str) -> EngineLoad | None:
    """The server's load, all its engines together; None where the page is not vLLM's."""
    found: dict[str, list[float]] = {RUNNING: [], WAITING: [], CACHE_USE: [], PREEMPTIONS: []}
    for name, value in SAMPLE.findall(page):
        if name in found:
            try:
                found[name].append(float(value))
            except ValueError:
                return None
    if not (found[RUNNING] and found[WAITING]):
        return None
    return EngineLoad(
        running=int(sum(found[RUNNING])),
        waiting=int(sum(found[WAITING])),
        cache_use=max(found[CACHE_USE], default=None),
        preemptions=int(sum(found[PREEMPTIONS])),
    )
