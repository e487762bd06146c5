"""How busy vLLM is: its scheduler's own statistics, read where they arrive.

In: what vLLM's output loop tells its statistics loggers, once per step of the engine. Out: `EngineLoad`.
Always: a step costs a few assignments; none of vLLM's Prometheus metrics, which go with statistics unless a logger of
their kind is given, are registered or counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dreamsim.records.load import EngineLoad


@dataclass(slots=True)
class _Rank:
    running: int = 0
    waiting: int = 0
    cache_use: float = 0.0


class LoadBook:
    """What was told last, of each of the engine's data-parallel ranks."""

    def __init__(self) -> None:
        self._ranks: dict[int, _Rank] = {}
        self._preemptions = 0

    def record(self, scheduler: Any, iteration: Any, rank: int = 0) -> None:
        """Take vLLM's `SchedulerStats` and `IterationStats` of one step; either may be None."""
        if scheduler is not None:
            told = self._ranks.setdefault(rank, _Rank())
            told.running = scheduler.num_running_reqs
            # The second are those that wait for something else than room, as a grammar or an adapter.
            told.waiting = scheduler.num_waiting_reqs + scheduler.num_skipped_waiting_reqs
            told.cache_use = scheduler.kv_cache_usage
        if iteration is not None:
            self._preemptions += iteration.num_preempted_reqs

    def load(self) -> EngineLoad:
        """All ranks together; the fullest cache counts."""
        ranks = self._ranks.values()
        return EngineLoad(
            running=sum(rank.running for rank in ranks),
            waiting=sum(rank.waiting for rank in ranks),
            cache_use=max((rank.cache_use for rank in ranks), default=0.0),
            preemptions=self._preemptions,
        )


def load_logger(book: LoadBook) -> type:
    """A class for AsyncLLM's `stat_loggers` that writes into `book`."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class LoadLogger(PrometheusStatLogger):  # type: ignore[misc, unused-ignore] # takes its place: see "Always"
        def __init__(self, vllm_config: Any, engine_indexes: Any = None) -> None:
            pass

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
        ) -> None:
            book.record(scheduler_stats, iteration_stats, engine_idx)

        def log_engine_initialized(self) -> None:
            pass

        def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
            pass

        def record_admission_rejection(self, reason: str) -> None:
            pass

    return LoadLogger
