"""Dreamed and real episodes, a trainer, and its weights back to the engines, in one loop.

In: environments, a policy, a trainer, tasks, an archive. Out: better weights, one line of metrics for every update.

    plan -> play -> groups -> batch -> learn -> publish, deliver -> plan -> evaluate -> checkpoint -> play

Always:
- an episode is on disk before anyone learns from it;
- update u learns from round u, and round u is played only once the weights of update u - lag are delivered: no step is
  learned from more than `lag` versions after it was decided (the bound of AReaL, arXiv 2505.24298 Eq. 3, per round);
- planning depends on the state and on results, and the state is written before what it plans is played (every
  `save_every` updates): after a kill the same groups are played under the same ids, episodes that are on disk are taken
  from there, and an update whose state is on disk is not made again;
- evaluations are not learned from, not retrieved from, and counted apart; the best weights are those of the best one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from dreamsim.checkpoint import TrainingFiles
from dreamsim.errors import ConfigurationError, DreamsimError
from dreamsim.evaluation.success import PolicyReport
from dreamsim.flow.alarms import Alarm, alarms
from dreamsim.flow.archive import DurableSink
from dreamsim.flow.batches import BatchBuilder, BatchSettings
from dreamsim.flow.control import PausableClock, RunControl
from dreamsim.flow.delivery import load_everywhere
from dreamsim.flow.groups import ClosedGroup, GroupAssembler, GroupSettings
from dreamsim.flow.learning import learned_from
from dreamsim.flow.mixing import SourceMixer
from dreamsim.flow.planning import PlannedGroup, Planner
from dreamsim.flow.rounds import RoundFigures, round_figures
from dreamsim.protocols import Assignment
from dreamsim.records.batch import Batch
from dreamsim.records.episode import SOURCES, Source, episode_id
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.training import Line, TrainingStep
from dreamsim.runtime.pipes import Pipe, PipeReceiver
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.training.counting import Books
from dreamsim.training.lines import training_step
from dreamsim.training.parts import Progress, TrainingParts, TrainingSettings, plainly
from dreamsim.training.table import Lane, Table

MOST_EMPTY_ROUNDS = 3
"""A training whose rounds hold nothing to learn from so many times in a row is ended."""

Round = tuple[PlannedGroup, ...]
Report = Callable[[Line, Sequence[Alarm]], Awaitable[None]]


class Training:
    """One training. `run` it once; a new one over the same directory goes on.

    Example:
        training = Training(parts, TrainingSettings(run="mine", steps=100), directory=Path("runs/mine"))
        history = await training.run()
    """

    def __init__(
        self,
        parts: TrainingParts,
        settings: TrainingSettings,
        *,
        directory: Path,
        report: Report | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Nothing starts before `run`. Make it inside the event loop.

        Args:
            parts: what it is made of.
            settings: the training.
            directory: where its files are; a training that stands there already is gone on with.
            report: is told of every line of metrics, and of the alarms that begin to ring with it.
            telemetry: counts what happens to training episodes.

        Raises:
            ConfigurationError: the schedule asks for an environment that is not there.
        """
        for source in SOURCES:
            if settings.real_share.ever(source) and source not in parts.environments:
                raise ConfigurationError(f"the real share asks for {source} groups, and there is no such environment")
        self._parts = parts
        self._settings = settings
        self._files = TrainingFiles(directory=directory)
        self._report = report
        self.telemetry: Telemetry = Telemetry() if telemetry is None else telemetry
        """What happens to training episodes."""
        self.control: RunControl = RunControl(self.telemetry)
        """Pauses them, lowers their limit, ends some; evaluations go on."""
        self.progress: Progress = Progress()
        """What is done so far."""
        self.history: list[Line] = []
        """Every line of metrics so far, those of earlier sittings included."""
        self.ringing: tuple[Alarm, ...] = ()
        """Alarms that ring now."""
        self.finished = False
        """Whether `run` has done all there is to do."""
        size, self._now = settings.group_size, self.telemetry.clock.monotonic
        mixer = SourceMixer(
            settings.real_share, most_per_group=size * settings.most_transitions, budget=settings.max_real_transitions
        )
        self._planner = Planner(parts.tasks, mixer, groups=settings.batch_groups)
        grouped = GroupSettings(size=size, minimum=min(settings.minimum, size), deadline_s=settings.group_deadline_s)
        assembler = GroupAssembler(grouped)
        self._begun = self._now()
        self._table = Table(assembler, group_size=size, now=PausableClock(self._now, self.control).now)
        self._books = Books(settings, self._planner, self._table, self.telemetry)
        self._known: set[str] = set()  # episodes that need not be played: simulators look into it, so it only grows
        self._scope, self._stopping = anyio.CancelScope(), False
        self._error: Exception | None = None

    async def run(self) -> list[Line]:
        """Train until all updates are made, the budget of real transitions is spent, or `stop` is called.

        Returns:
            `history`.

        Raises:
            DreamsimError: the training could not go on; what is on disk can be gone on with.
        """
        self._begun = self._now()
        with plainly(), self._scope:
            await self._begin()
            if self._unfinished:
                await self._loop()
            if not self._stopping:
                await to_thread.run_sync(self._keep, self._files.last)
            self.finished = not self._stopping
        if self._error is not None:
            raise self._error
        return self.history

    def stop(self) -> None:
        """End now. What was not finished is not kept, and is done again by whoever goes on."""
        self._stopping = True
        self._scope.cancel()

    @property
    def _unfinished(self) -> bool:
        return self.progress.updates < self._settings.steps and bool(self.progress.planned)

    async def _begin(self) -> None:
        """Go back to what was written last, or write the first state, and take up the rounds that are planned."""
        parts, files = self._parts, self._files
        state = await to_thread.run_sync(files.load, parts.trainer)
        if state is not None and parts.trainer.version:
            await self._deliver()
        if parts.check is not None:
            await parts.check()
        if state is None:
            await to_thread.run_sync(lambda: files.lines(up_to=-1))
            await self._evaluated_at_first()
            await self._plan()
            await self._save()
        else:
            self.progress = Progress.from_json(state["progress"])
            self._planner.restore(state["planner"])
            self.history = await to_thread.run_sync(lambda: files.lines(up_to=self.progress.updates))
            self.ringing = alarms(self.history)
            await self._count_late()
            if await self._plan():  # more updates are wanted than before
                await self._save()
        self._table.idle()
        await self._taken_up(self.progress.planned)

    async def _count_late(self) -> None:
        """Episodes that came after the state was written, of rounds that it knows; those not on disk never come."""
        late = list(self.progress.late)
        found = [await self._parts.archive.episode(id) for id in await self._parts.archive.known_ids(late)]
        self._books.came(self.progress, [episode for episode in found if episode is not None])
        self.progress.late.clear()
        self._books.came(self.progress, ())

    async def _taken_up(self, rounds: Iterable[Round]) -> None:
        """These rounds are going to be played, but for their episodes that are on disk already.

        Also a round that the saved state does not know may have been played before: a kill makes the training fall
        back to that state, and what was planned after it is planned again.
        """
        archive, size = self._parts.archive, self._settings.group_size
        groups = [group for planned in rounds for group in planned]
        self._table.planned(len(groups))
        made = [one for group in groups for one in group.assignments(size)]
        ids = [episode_id(self._settings.run, one.task.key, one.repeat) for one in made]
        known = await archive.known_ids(ids)
        self._known |= known
        for id in ids:
            episode = await archive.episode(id) if id in known else None
            if episode is not None:
                self._table.arrived(episode)

    async def _loop(self) -> None:
        rounds: Pipe[Round] = Pipe("rounds", self._settings.lag + 2, now=self._now)
        lanes: dict[Source, Pipe[Assignment]] = {
            source: Pipe(f"{source} assignments", self._settings.group_size, now=self._now)
            for source in self._parts.environments
        }
        for planned in self.progress.planned:
            rounds.sender.send_nowait(planned)
        try:
            async with anyio.create_task_group() as tasks:
                for source, lane in lanes.items():
                    tasks.start_soon(self._told, self._play, source, lane.receiver)
                tasks.start_soon(self._told, self._dispatch, rounds.receiver, lanes)
                await self._told(self._learn, rounds)
                tasks.cancel_scope.cancel()
        finally:
            rounds.close()
            for lane in lanes.values():
                lane.close()

    async def _told(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do `work`; the first error ends everything and is raised by `run`, outside the group that would wrap it."""
        try:
            with plainly():
                await work(*arguments)
        except DreamsimError as error:
            self._error = error if self._error is None else self._error
            self.stop()

    async def _dispatch(self, rounds: PipeReceiver[Round], lanes: Mapping[Source, Pipe[Assignment]]) -> None:
        async for planned in rounds:
            for group in planned:
                for assignment in group.assignments(self._settings.group_size):
                    await lanes[group.source].sender.send(assignment)

    async def _play(self, source: Source, lane: PipeReceiver[Assignment]) -> None:
        settings = self._settings
        simulator = Simulator(
            environment=self._parts.environments[source],
            policy=self._parts.policy,
            tasks=Lane(lane),
            run=settings.run,
            sink=DurableSink(self._parts.archive, lambda: self._stopping),
            concurrency=settings.concurrency if source == "dreamed" else settings.real_concurrency,
            max_steps=settings.max_steps,
            seed=settings.seed,
            episode_seconds=settings.episode_seconds,
            stuck_seconds=settings.stall_s,
            finished=self._known,
            generation=self._parts.generation,
            world_size=settings.group_size,
            failures=settings.failures,
            telemetry=self.telemetry,
            engines=self._parts.engines if source == "dreamed" else (),
            control=self.control,
        )
        async with simulator:
            async for episode in simulator.episodes():
                self._table.arrived(episode)

    async def _learn(self, rounds: Pipe[Round]) -> None:
        """Round after round. What is planned anew is played only when the state that knows of it is on disk."""
        empty = 0
        while self._unfinished:
            begun = self._now()
            planned = self.progress.planned[0]
            groups = await self._table.complete(planned)
            came = self._now()
            viable = [one.closed for one in groups if one.closed.viable]
            batch = await to_thread.run_sync(self._batch, viable)
            metrics = None if batch is None else await to_thread.run_sync(learned_from, self._parts.trainer, batch)
            figures = round_figures(
                [(group.source, one.episodes) for group, one in zip(planned, groups, strict=True)],
                not_viable=len(groups) - (0 if batch is None else len(batch.groups)),
            )
            empty = 0 if batch is not None else empty + 1
            if empty == MOST_EMPTY_ROUNDS:
                raise DreamsimError(
                    f"{empty} rounds in a row held no group to learn from ({figures.failed_kinds or 'no tokens'}): "
                    "see `dreamsim episodes` for what happened to their episodes"
                )
            self._books.round_over(self.progress, groups)
            times = {"waited_s": came - begun, "worked_s": self._now() - came}
            new = await (self._plan() if metrics is None else self._learned(metrics, figures, times))
            await self._save(due=metrics is None or self._due(self._settings.save_every))
            await self._taken_up(new)
            for one in new:
                await rounds.sender.send(one)

    async def _learned(self, metrics: UpdateMetrics, figures: RoundFigures, times: dict[str, float]) -> list[Round]:
        """An update was made: bring its weights to the engines, plan, evaluate, tell."""
        self.progress.updates += 1
        begun = self._now()
        await self._deliver()
        times["delivered_s"] = self._now() - begun
        new = await self._plan()
        times["engine_idle_s"] = self._table.idle()
        begun = self._now()
        due = self._due(self._settings.evaluate_every) or not self._unfinished
        report = await self._evaluation() if due else None
        times["evaluated_s"] = self._now() - begun if report is not None else 0.0
        self._table.idle()  # an engine that evaluates is not idle
        await self._tell(self._step(figures, report, times), metrics)
        return new

    def _due(self, every: int) -> bool:
        return self.progress.updates % every == 0 or not self._unfinished

    def _batch(self, groups: Sequence[ClosedGroup]) -> Batch | None:
        """Lay out the groups of a round. Blocks."""
        builder = BatchBuilder(
            BatchSettings(groups=len(groups) + 1, max_tokens=self._settings.max_tokens),
            continuation=self._parts.continuation,
            first_number=self.progress.updates,
        )
        for group in groups:
            builder.add(group)
        return builder.rest()

    async def _deliver(self) -> None:
        """Publish the trainer's weights and have every engine load them."""
        trainer, files = self._parts.trainer, self._files
        update = await to_thread.run_sync(trainer.publish, files.weights(trainer.version))
        await load_everywhere(update, self._parts.receivers, in_flight=self._settings.in_flight)
        await to_thread.run_sync(lambda: files.forget_weights(keep={trainer.version}))

    async def _evaluation(self) -> PolicyReport | None:
        if self._parts.evaluate is None:
            return None
        report = await self._parts.evaluate(self.progress.updates)
        self.progress.totals["evaluation"] += report.overall.steps
        success, best = report.overall.success.value, self.progress.best_success
        if success is not None and (best is None or success > best):
            await to_thread.run_sync(self._keep, self._files.best)
            self.progress.best_success, self.progress.best_update = success, self.progress.updates
        return report

    def _keep(self, directory: Path) -> None:
        self._parts.trainer.publish(directory)
        self._parts.describe(directory)

    async def _evaluated_at_first(self) -> None:
        """Measure the policy as it is before training."""
        begun = self._now()
        report = await self._evaluation()
        if report is not None:
            await self._tell(self._step(round_figures([]), report, {"evaluated_s": self._now() - begun}), None)

    def _step(self, figures: RoundFigures, report: PolicyReport | None, times: Mapping[str, float]) -> TrainingStep:
        share = self._settings.real_share.at(max(0, self.progress.updates - 1))
        told = self._parts.curriculum()
        return training_step(self.progress, figures, report, times, told, real_share=share, elapsed_s=self._elapsed)

    async def _tell(self, step: TrainingStep, metrics: UpdateMetrics | None) -> None:
        """Write a line of metrics and the alarms that begin to ring with it."""
        ringing = alarms([*self.history, step.line(metrics)])
        before = {alarm.name for alarm in self.ringing}
        new = [alarm for alarm in ringing if alarm.name not in before]
        line = replace(step, alarms=len(ringing)).line(metrics)
        self.ringing = ringing
        self.history.append(line)
        await to_thread.run_sync(self._files.add_line, line)
        for alarm in new:
            await to_thread.run_sync(self._files.add_alarm, {"update": step.update, **asdict(alarm)})
        if self._report is not None:
            await self._report(line, new)

    async def _plan(self) -> list[Round]:
        """Plan as far ahead as may be played now; returns what is new."""
        progress, settings, new = self.progress, self._settings, []
        while len(progress.planned) < min(settings.lag + 1, settings.steps - progress.updates):
            planned = await self._planner.round(progress.updates + len(progress.planned))
            if not planned:
                break
            progress.planned.append(planned)
            new.append(planned)
        return new

    async def _save(self, *, due: bool = True) -> None:
        if due:
            progress, planner = self.progress.to_json(seconds=self._elapsed), self._planner.state()
            state = {"progress": progress, "planner": planner}
            await to_thread.run_sync(self._files.save, state, self._parts.trainer)

    @property
    def _elapsed(self) -> float:
        return self.progress.seconds + self._now() - self._begun
