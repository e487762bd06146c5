"""Engines and retrievers that count what goes through them.

In: an engine or a retriever, and the run's telemetry. Out: one that answers the same.
Always: adds no waiting and changes nothing; time counts also when the call fails or is cancelled, tokens only
when there is an answer.
"""

from __future__ import annotations

from dreamsim.protocols import Engine, Retriever
from dreamsim.records.completion import Completion, GenerationRequest
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.runtime.snapshot import NESTED
from dreamsim.runtime.telemetry import Telemetry


class MeasuredEngine:
    """Counts tokens by the request's role; the time of roles that are stations inside another one, too.

    The policy's time is not taken here: the rollout takes it around the whole decision.
    """

    def __init__(self, engine: Engine, telemetry: Telemetry) -> None:
        """`engine`, measured."""
        self._engine = engine
        self._telemetry = telemetry

    @property
    def name(self) -> str:
        """As the engine's."""
        return self._engine.name

    @property
    def version(self) -> str:
        """As the engine's."""
        return self._engine.version

    @property
    def max_model_len(self) -> int:
        """As the engine's."""
        return self._engine.max_model_len

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`, and count it."""
        role = request.role or "engine"
        if role in NESTED:
            with self._telemetry.station(role).visit():
                completion = await self._engine.generate(request)
        else:
            completion = await self._engine.generate(request)
        self._telemetry.tokens(
            role,
            prompt=completion.prompt_tokens,
            generated=len(completion.token_ids),
            cached=completion.cached_tokens,
        )
        return completion


class MeasuredRetriever:
    """Takes the time of every search."""

    def __init__(self, retriever: Retriever, telemetry: Telemetry) -> None:
        """`retriever`, measured."""
        self._retriever = retriever
        self._station = telemetry.station("retrieval")

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        """Search, and take the time."""
        with self._station.visit():
            return await self._retriever.retrieve(query)
