"""`dreamsim train`: rollouts, trainer, weights, evaluation, in one command.

In: settings, as `python -m dreamsim.run` takes them, and `train.*`. Out: a directory with weights, metrics, episodes
and a summary; an exit code.
Always: as a run: a setting that cannot be used is one line and exit code 2, before anything is made; Ctrl-C loses the
episodes in flight and nothing else; `--resume DIRECTORY` goes on where it stood, also after kill -9.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Sequence
from functools import partial

import anyio
import structlog
from anyio import to_thread

from dreamsim.cli import exits
from dreamsim.cli.attending import attended
from dreamsim.cli.checks import Check, check_settings, dry_run, require_good
from dreamsim.cli.display import Display, RichDisplay, make_display
from dreamsim.cli.interrupts import Interrupts, interruptible
from dreamsim.cli.logs import run_log
from dreamsim.cli.reality import REALITIES
from dreamsim.cli.run_directory import RunDirectory, prepare, settings_of
from dreamsim.cli.terminal import captured
from dreamsim.cli.trackers import Tracker, missing, open_trackers
from dreamsim.cli.train_display import follow_training
from dreamsim.cli.train_parts import assembled_training, learned_from, training_settings
from dreamsim.cli.train_text import describe_alarm, describe_line, render_training, training_figures
from dreamsim.cli.trainer import check_trainable, let_others_compute, missing_packages
from dreamsim.errors import DreamsimError, UsageError
from dreamsim.flow.alarms import Alarm
from dreamsim.records.training import Line
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import parse_arguments
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.training.loop import Training

log = structlog.get_logger()


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    started = time.monotonic()
    command = parse_arguments(arguments)
    if "help" in command.switches:
        from dreamsim.cli.help_text import render_training_help

        print(render_training_help())
        return exits.DONE
    settings = learned_from(settings_of(command))
    checks = [*check_settings(settings), *training_checks(settings)]
    if "dry-run" in command.switches:
        return dry_run(settings, checks)
    require_good(checks)
    let_others_compute(settings)
    directory = prepare(settings)
    with captured(directory.path / "logs" / "engine.log") as terminal, run_log(directory.log):
        display = make_display(settings.display.mode, settings.display.interval_s, terminal.out)
        return anyio.run(
            partial(train, settings, directory, display, started=started),
            backend_options={"use_uvloop": importlib.util.find_spec("uvloop") is not None},
        )


def training_checks(settings: Settings) -> list[Check]:
    """What a training needs beside what a run does."""
    found = []
    lacking = missing_packages(("torch", "transformers", "accelerate"))
    text = f"{', '.join(lacking)} not installed: pip install 'dreamsim-rl[train]'" if lacking else "installed"
    found.append(Check(name="trainer", good=not lacking, text=text))
    for name, package in missing(settings.train.log).items():
        text = f"train.log = {name} needs the package '{package}': pip install {package}, or leave it out"
        found.append(Check(name="log", good=False, text=text))
    try:
        check_trainable(settings)
        wanted = training_settings(settings, "checked")
    except UsageError as error:
        found.append(Check(name="training", good=False, text=str(error)))
        return found
    reality = settings.tasks.environment.partition("/")[0]
    needed = wanted.real_share.ever("real") or settings.train.evaluate_games > 0
    if needed and reality not in REALITIES:
        text = f"there is no real environment '{reality}' here: set train.evaluate_games = 0 and train.real_share = 0"
        found.append(Check(name="reality", good=False, text=text))
    elif needed and reality != "scripted":
        lacking = missing_packages((reality, "dreamsim_adapters"))
        extra = reality.replace("_", "-")
        text = f"{', '.join(lacking)} not installed: pip install 'dreamsim-rl[{extra}]'" if lacking else "installed"
        found.append(Check(name="reality", good=not lacking, text=text))
    budget = wanted.max_real_transitions
    text = ", ".join(f"{float(share):g} from update {first}" for first, share in wanted.real_share.points)
    text += "" if budget is None else f"; at most {budget:,} real transitions"
    found.append(Check(name="real share", good=True, text=text))
    return found


async def train(settings: Settings, directory: RunDirectory, display: Display, *, started: float) -> int:
    """Train as `settings` ask; returns the exit code.

    Raises:
        UsageError: the training could not begin.
    """
    interrupts = Interrupts()
    sitting = _Sitting(settings, directory, display, interrupts, started=started)
    await interruptible(sitting.train, interrupts, stop_after_s=settings.run.stop_after_s)
    return await sitting.conclude()


class _Sitting:
    """The part of a training that one process does."""

    def __init__(
        self, settings: Settings, directory: RunDirectory, display: Display, interrupts: Interrupts, *, started: float
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._display = display
        self._interrupts = interrupts
        self._started = started
        self._training: Training | None = None
        self._error: str | None = None
        self._tracker: Tracker | None = None

    async def say(self, text: str) -> None:
        """Tell the user."""
        log.info("note", text=text)
        with contextlib.suppress(OSError):  # nobody looks any more
            await to_thread.run_sync(self._display.note, text)

    async def train(self) -> None:
        """Set up and train.

        Raises:
            UsageError: the training could not begin.
        """
        await self.say(f"training {self._directory.path}")
        telemetry = Telemetry()
        try:
            async with assembled_training(self._settings, self._directory, telemetry, self.say) as assembled:
                self._training = Training(
                    assembled.parts,
                    assembled.settings,
                    directory=self._directory.path,
                    report=self._report,
                    telemetry=telemetry,
                )
                self._interrupts.call_first(self._stop)
                run, control = self._settings.run, self._training.control
                async with attended(run, self._directory, control, telemetry, self.say):
                    await self._watched(self._training)
        except DreamsimError as error:
            if self._training is None:
                raise
            log.exception("training.ended")
            self._error = str(error)

    async def _watched(self, training: Training) -> None:
        """Run it, with its curves and the live view."""
        opening = partial(
            open_trackers, self._settings.train.log, self._directory.path, self._settings.model_dump(mode="json")
        )
        display = self._display
        ended: DreamsimError | None = None
        async with contextlib.AsyncExitStack() as opened:
            trackers = await to_thread.run_sync(opening)
            self._tracker = await to_thread.run_sync(opened.enter_context, trackers)
            async with anyio.create_task_group() as shown:
                with display.live():
                    if isinstance(display, RichDisplay):
                        steps = self._settings.train.steps
                        shown.start_soon(partial(follow_training, display, training, steps=steps))
                    try:
                        await training.run()
                    except DreamsimError as error:
                        ended = error  # not through the task group, which would wrap it
                    shown.cancel_scope.cancel()
        if ended is not None:
            raise ended

    async def _stop(self) -> None:
        await self.say("stopping: what is not finished is done again when the training goes on (again: kill)")
        if self._training is not None:
            self._training.stop()

    async def _report(self, line: Line, alarms: Sequence[Alarm]) -> None:
        log.info("update", **line)
        if self._tracker is not None:
            await to_thread.run_sync(self._tracker.write, line)
        await self.say(describe_line(line, steps=self._settings.train.steps))
        for alarm in alarms:
            await self.say(describe_alarm(alarm))

    async def conclude(self) -> int:
        """Write the summary; returns the exit code."""
        training = self._training
        if training is None:
            await self.say("interrupted before the training began; nothing to keep")
            return exits.INTERRUPTED
        code = exits.DONE if training.finished else exits.INTERRUPTED
        code = code if self._error is None else exits.FAILED
        figures = training_figures(training, code=code, error=self._error, steps=self._settings.train.steps)
        figures["wall_s"] = round(time.monotonic() - self._started, 3)
        adapter_of = None if self._settings.train.lora_rank is None else self._settings.policy.model
        text = render_training(training, self._directory, code=code, error=self._error, adapter_of=adapter_of)
        await to_thread.run_sync(self._directory.write_summary, figures)
        with contextlib.suppress(OSError):
            await to_thread.run_sync(self._display.conclude, text)
        return code
