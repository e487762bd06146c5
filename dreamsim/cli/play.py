"""One run from set-up to summary.

In: settings, the run's directory, a display. Out: the exit code, with `summary.json` written.
Always: what finished is stored, whatever ends the run; episodes cut off by an interruption, a failure policy or a dead
engine are not stored, so that resuming runs them again; interrupted or not, the summary counts what the store holds.
"""

from __future__ import annotations

import contextlib
from functools import partial

import anyio
import structlog
from anyio import to_thread

from dreamsim.cli import exits
from dreamsim.cli.assemble import Parts, assembled
from dreamsim.cli.attending import attended
from dreamsim.cli.display import Display, follow
from dreamsim.cli.failures import failure_policy
from dreamsim.cli.interrupts import Interrupts, interruptible
from dreamsim.cli.run_directory import RunDirectory
from dreamsim.cli.summary import Ending, render_summary, summary_figures
from dreamsim.errors import DreamsimError, EngineError, EpisodeCancelledError
from dreamsim.flow.archive import was_cut_off
from dreamsim.flow.control import RunControl
from dreamsim.protocols import EpisodeSink
from dreamsim.records.episode import Episode
from dreamsim.records.lengths import LengthCount
from dreamsim.runtime.clock import Clock, RealClock
from dreamsim.runtime.config import Settings
from dreamsim.runtime.memory import rare_collections
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.store.queries import Counts
from dreamsim.store.store import open_store

DRAIN_S = 1.0
"""What an interrupted run gives its episodes to end by themselves; well under the 5 s in which it is to be over."""

log = structlog.get_logger()


class UntilInterrupted:
    """A sink that keeps no episode that the end of the run cut off."""

    def __init__(self, store: EpisodeSink, interrupts: Interrupts) -> None:
        self.dropped = 0
        """Episodes not kept."""
        self._store = store
        self._interrupts = interrupts

    async def add(self, episode: Episode) -> None:
        """Store `episode`, unless it ended because the run did: interrupted, or halted."""
        cut_off = episode.error_kind in (EpisodeCancelledError.kind, EngineError.kind)
        if (self._interrupts.requested and cut_off) or was_cut_off(episode):
            self.dropped += 1
        else:
            await self._store.add(episode)


async def run(
    settings: Settings,
    directory: RunDirectory,
    display: Display,
    *,
    started: float,
    interrupts: Interrupts | None = None,
    clock: Clock | None = None,
) -> int:
    """Run what `settings` ask for; returns the exit code.

    Args:
        started: monotonic time of the command, for the times in the summary.

    Raises:
        UsageError: the run could not begin.
    """
    clock = RealClock() if clock is None else clock
    interrupts = Interrupts() if interrupts is None else interrupts
    sitting = _Sitting(settings, directory, display, interrupts, clock=clock, started=started)
    await interruptible(sitting.play, interrupts, stop_after_s=settings.run.stop_after_s)
    ending = sitting.ending()
    if ending is None:
        await sitting.say("interrupted before the first episode began; nothing to keep")
        return exits.INTERRUPTED
    await to_thread.run_sync(_conclude, ending, directory, display)
    return ending.exit_code


def _conclude(ending: Ending, directory: RunDirectory, display: Display) -> None:
    directory.write_summary(summary_figures(ending, directory))
    with contextlib.suppress(OSError):
        display.conclude(render_summary(ending, directory))


def _log_failure(episode: Episode) -> None:
    if episode.error_kind is not None:
        log.warning("episode.failed", id=episode.id, kind=episode.error_kind, message=episode.error_message)


class _Sitting:
    """The part of a run that one process does."""

    def __init__(
        self,
        settings: Settings,
        directory: RunDirectory,
        display: Display,
        interrupts: Interrupts,
        *,
        clock: Clock,
        started: float,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._display = display
        self._interrupts = interrupts
        self._clock = clock
        self._started = started
        self._telemetry = Telemetry(clock=clock)
        self._control = RunControl(self._telemetry)
        self._counts: Counts | None = None
        self._lengths: tuple[LengthCount, ...] = ()
        self._dropped = 0
        self._error: str | None = None
        self._set_up_s = 0.0

    async def say(self, text: str) -> None:
        """Tell the user."""
        log.info("note", text=text)
        with contextlib.suppress(OSError):  # nobody looks any more
            await to_thread.run_sync(self._display.note, text)

    async def play(self) -> None:
        """Set up, run, count.

        Raises:
            UsageError: the run could not begin.
        """
        await self.say(f"run {self._directory.path}")
        begun = False
        try:
            async with (
                attended(self._settings.run, self._directory, self._control, self._telemetry, self.say),
                assembled(self._settings, self._directory, self._telemetry, self.say) as parts,
            ):
                begun = True
                self._set_up_s = self._clock.monotonic() - self._started
                sink = UntilInterrupted(parts.store, self._interrupts)
                try:
                    with rare_collections():
                        await self._episodes(parts, sink)
                finally:
                    self._dropped = sink.dropped
        except DreamsimError as error:
            if not begun:
                raise
            log.exception("run.ended")
            self._error = str(error)
        if begun:
            # Closing the store has written everything, so this is what a later reader will find.
            async with open_store(self._directory.store, encoder=None, read_only=True) as store:
                self._counts = await store.counts(self._directory.run)
                self._lengths = await store.lengths(self._directory.run)

    async def _episodes(self, parts: Parts, sink: EpisodeSink) -> None:
        run, roles = self._settings.run, parts.roles
        engines = [part.engine for part in (roles.player, roles.dreamer) if part is not None]
        simulator = Simulator(
            environment=parts.roles.environment,
            policy=parts.roles.policy,
            tasks=parts.tasks,
            run=self._directory.run,
            sink=sink,
            concurrency=run.concurrency,
            max_steps=run.max_steps,
            seed=run.seed,
            episode_seconds=run.episode_timeout_s,
            generation=parts.roles.generation,
            failures=failure_policy(run, episodes=self._settings.episodes),
            finished=parts.finished,
            telemetry=self._telemetry,
            stuck_seconds=run.stall_s,
            engines=engines if run.adaptive else (),
            requeue=run.requeue,
            control=self._control,
        )
        watching = partial(
            follow,
            self._display,
            self._telemetry.snapshot,
            lag=lambda: parts.store.statistics().lag_s,
            total=self._settings.episodes,
            max_steps=run.max_steps,
        )
        ended: DreamsimError | None = None
        async with simulator, anyio.create_task_group() as shown:
            self._interrupts.call_first(partial(self._stop, simulator))
            with self._display.live():
                shown.start_soon(watching)
                try:
                    async for episode in simulator.episodes():
                        _log_failure(episode)
                except DreamsimError as error:
                    ended = error  # not through the task group, which would wrap it
                shown.cancel_scope.cancel()
        if ended is not None:
            raise ended

    async def _stop(self, simulator: Simulator) -> None:
        await self.say("stopping: what runs gets a moment to end; everything finished is stored (again: kill)")
        await simulator.stop(drain_seconds=DRAIN_S)

    def ending(self) -> Ending | None:
        """How it ended, or None if no episode could begin."""
        if self._counts is None:
            return None
        return Ending(
            counts=self._counts,
            snapshot=self._telemetry.snapshot(),
            expected=self._settings.episodes,
            max_failures=self._settings.run.max_failures,
            interrupted=self._interrupts.requested,
            dropped=self._dropped,
            error=self._error,
            lengths=self._lengths,
            set_up_s=self._set_up_s,
            wall_s=self._clock.monotonic() - self._started,
        )
