"""The simulator: many episodes at once inside any asyncio program.

In: an environment, a policy, tasks and, if episodes are to be kept, a sink. Out: finished episodes.
Always:
- it runs in the caller's event loop and leaves no task, thread or process behind: leaving the block cancels
  what still runs (stored as cancelled) and waits until the books are kept;
- every admitted assignment ends in exactly one episode, stored before it is delivered;
- a slow consumer holds admission; it never holds an episode that is over;
- an exception of the caller's own block leaves it as it is, never wrapped in a group.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.flow.adapting import Adaptation, LoadTelling
from dreamsim.flow.collector import Collector
from dreamsim.flow.control import RunControl
from dreamsim.flow.failures import RECORD, FailurePolicy, PolicedRollout
from dreamsim.flow.rollout import RolloutSettings
from dreamsim.protocols import Environment, EpisodeSink, Policy, TaskSource
from dreamsim.records.episode import Episode
from dreamsim.runtime.clock import Clock
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.watchdog import STUCK_SECONDS, watch


class EpisodeStream:
    """Finished episodes as they come. Iterate it; `aclose` it to end early."""

    def __init__(self, collector: Collector) -> None:
        """Made by `Simulator.episodes`."""
        self._collector = collector

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Episode:
        """The next finished episode.

        Raises:
            DreamsimError: the run could not go on, because its store, task source or engine failed, or too many
                episodes did; raised
                after the last episode. (What the source or sink raised is raised as it is.)
        """
        try:
            episode = await self._collector.results.receiver.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._collector.results.receiver.close()
            self._collector.tell()
            raise StopAsyncIteration from None
        self._collector.delivered()
        return episode

    async def aclose(self) -> None:
        """Cancel what still runs, wait until it is stored, deliver nothing more. Idempotent."""
        self._collector.cancel()
        await self._collector.finished.wait()
        self._collector.results.receiver.close()


class Simulator:
    """Runs episodes of tasks.

    Example:
        async with Simulator(environment=dream, policy=policy, tasks=tasks, run="first") as simulator:
            async for episode in simulator.episodes():
                print(episode.id, episode.outcome)
    """

    def __init__(
        self,
        *,
        environment: Environment,
        policy: Policy,
        tasks: TaskSource,
        run: str,
        sink: EpisodeSink | None = None,
        concurrency: int = 256,
        max_steps: int = 50,
        seed: int = 0,
        episode_seconds: float | None = None,
        finished: Container[str] = (),
        generation: int = 1,
        world_size: int = 1,
        failures: FailurePolicy = RECORD,
        buffer: int = 256,
        stuck_seconds: float = STUCK_SECONDS,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        engines: Iterable[object] = (),
        requeue: bool = True,
        control: RunControl | None = None,
    ) -> None:
        """Nothing starts before `async with`.

        Args:
            environment: where episodes happen, real or dreamed.
            policy: who plays.
            tasks: what to run.
            run: the run's name. Episode ids depend on it, so two runs into one sink need two names.
            sink: where finished episodes go before they are delivered; None keeps none.
            concurrency: most episodes at once.
            max_steps: an episode that is not over after so many steps is truncated.
            seed: root of all seeds.
            episode_seconds: most time for the steps of one episode; None is no limit.
            finished: ids of episodes not to run again, when resuming.
            generation: of dreamed episodes: 1 + the greatest generation of what their model was trained on.
            world_size: so many consecutive repeats of a task share the environment's seed.
            failures: what is done about episodes that fail.
            buffer: finished episodes that may wait for the consumer before admission is held.
            stuck_seconds: an episode that waits this long for one thing is named in `Snapshot.stuck`.
            clock: tells the time; the machine's if left out. Not together with `telemetry`.
            telemetry: counts what happens; a new one if left out.
            engines: what episodes ask. While those that tell their load are under pressure fewer than `concurrency`
                episodes are alive (`flow.concurrency` says how many); without them it is always `concurrency`.
            requeue: whether the youngest episodes may then be cut off and played again later.
            control: pauses the run, lowers its limit, ends episodes; of one's own if several simulators are one run.

        Raises:
            ConfigurationError: a value makes no sense; the message names it.
        """
        _check(concurrency, buffer, clock, telemetry)
        self.telemetry: Telemetry = Telemetry(clock=clock) if telemetry is None else telemetry
        """What happens in the run: `simulator.telemetry.snapshot()`."""
        self.control: RunControl = RunControl(self.telemetry) if control is None else control
        """Pauses the run, lowers its limit, ends episodes."""
        self._engines = tuple(engine for engine in engines if isinstance(engine, LoadTelling))
        self._requeue = requeue
        self._settings = RolloutSettings(
            run=run,
            seed=seed,
            max_steps=max_steps,
            episode_seconds=episode_seconds,
            generation=generation,
            world_size=world_size,
        )
        self._environment = environment
        self._policy = policy
        self._tasks = tasks
        self._sink = sink
        self._concurrency = concurrency
        self._finished = finished
        self._failures = failures
        self._buffer = buffer
        self._stuck_seconds = stuck_seconds
        self._group: TaskGroup | None = None
        self._collector: Collector | None = None

    def episodes(self, tasks: TaskSource | None = None) -> EpisodeStream:
        """Start running `tasks` (by default the simulator's own); the episodes come as they finish.

        One stream at a time: end it or `aclose` it before the next.
        """
        if self._group is None:
            raise UsageError("enter the simulator first: `async with Simulator(...) as simulator:`")
        if self._collector is not None:
            if not self._collector.over:
                raise UsageError("the last stream of episodes is not over: exhaust it or `aclose()` it first")
            self._collector.results.close()
        rollout = PolicedRollout(
            environment=self._environment,
            policy=self._policy,
            settings=self._settings,
            telemetry=self.telemetry,
            failures=self._failures,
            gate=self.control.gate,
        )
        self._collector = Collector(
            rollout=rollout,
            sink=self._sink,
            telemetry=self.telemetry,
            concurrency=self._concurrency,
            buffer=self._buffer,
            finished=self._finished,
            gate=self.control.gate,
        )
        played = self._tasks if tasks is None else tasks
        self._group.start_soon(self._collect, self._collector, played, name="dreamsim collector")
        if self._engines:
            adaptation = Adaptation(
                self._engines, telemetry=self.telemetry, gate=self.control.gate, requeue=self._requeue
            )
            self._group.start_soon(adaptation.run, self._collector, name="dreamsim adaptation")
        return EpisodeStream(self._collector)

    async def _collect(self, collector: Collector, tasks: TaskSource) -> None:
        self.control.attach(collector)
        try:
            await collector.run(tasks)
        finally:
            self.control.detach(collector)

    async def stop(self, *, drain_seconds: float = 5.0) -> None:
        """Admit nothing more, give what runs `drain_seconds` to end, then cancel it; all of it is stored.

        The stream then ends by itself after what it still holds. Safe to call at any time and more than once.
        """
        if self._collector is not None:
            await self._collector.stop(drain_seconds=drain_seconds)

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise UsageError("a simulator cannot be entered while it is in use")
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(watch, self.telemetry, self._stuck_seconds, name="dreamsim watchdog")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, collector = self._group, self._collector
        assert group is not None, "left without having been entered"
        if collector is not None:
            collector.cancel()
        group.cancel_scope.cancel()
        try:
            # The block's own exception is not given to the group, which would wrap it.
            await group.__aexit__(None, None, None)
        except anyio.get_cancelled_exc_class():
            if not isinstance(error, anyio.get_cancelled_exc_class()):
                raise
            # Else the block's own cancellation goes on: the caller gets the one it sent.
        finally:
            self._group = None
            if collector is not None:
                collector.results.close()
        if error is None and collector is not None:
            collector.tell()


def _check(concurrency: int, buffer: int, clock: Clock | None, telemetry: Telemetry | None) -> None:
    """Raises: ConfigurationError: a value makes no sense."""
    if concurrency < 1:
        raise ConfigurationError("concurrency must be at least 1, or no episode could ever run")
    if buffer < 1:
        raise ConfigurationError("buffer must be at least 1, or no episode could ever be delivered")
    if clock is not None and telemetry is not None:
        raise ConfigurationError("give clock or telemetry, not both: a telemetry has its own clock")
