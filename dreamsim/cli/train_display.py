"""The live view of a training.

In: the training and its telemetry. Out: what a terminal shows, redrawn in place. Always: drawn from what the metrics
file says; what runs now comes from snapshots; real and dreamed apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio
from anyio import to_thread
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamsim.cli import figures
from dreamsim.cli.display import RichDisplay
from dreamsim.cli.train_text import describe_alarm, evaluation, transitions
from dreamsim.records.training import Line
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.training.loop import Training

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 40
"""Updates in a curve."""


async def follow_training(display: RichDisplay, training: Training, *, steps: int) -> None:
    """Redraw until cancelled, or until nobody can see it."""
    before = training.telemetry.snapshot()
    while True:
        await anyio.sleep(display.interval_s)
        now = training.telemetry.snapshot()
        view = render_view(training, now, before, steps=steps)
        try:
            await to_thread.run_sync(display.draw, view)
        except OSError:
            return
        before = now


def render_view(training: Training, now: Snapshot, before: Snapshot, *, steps: int) -> RenderableType:
    """One moment."""
    history, updates = training.history, training.progress.updates
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    bar.add_row(ProgressBar(total=max(1, steps), completed=updates), f"update {updates} of {steps}")
    body = Table.grid(padding=(0, 2))
    body.add_column(style="bold", no_wrap=True)
    body.add_column()
    rates = now.since(before)
    body.add_row("now", f"{now.alive:,} episodes alive, {rates.steps_per_s:,.1f} steps/s")
    for source in ("dreamed", "real"):
        found = _values(history, f"success_{source}")
        if found:
            body.add_row(source, f"{curve(found)} success {figures.percent(found[-1])}")
    measured = [line for line in history if line["evaluation_success"] is not None]
    if measured:
        body.add_row(
            "held-out", f"{curve(_values(measured, 'evaluation_success'))} real games {evaluation(measured[-1])}"
        )
    learned = [line for line in history if line.get("updates")]
    if learned:
        entropy, kl = _values(learned, "entropy"), _values(learned, "kl_reference")
        body.add_row("policy", f"entropy {entropy[-1]:.3g}" + (f", KL {kl[-1]:.3g}" if kl else ""))
    if history:
        body.add_row("transitions", transitions(history[-1]))
        body.add_row("time", _waiting(history))
    for alarm in training.ringing:
        body.add_row("alarm", Text(describe_alarm(alarm), style="yellow"))
    return Group(bar, body)


def curve(values: Sequence[float]) -> str:
    """Shares as bars, the last `WIDTH` of them; 0 is the lowest bar and 1 the highest."""
    last = len(BARS) - 1
    return "".join(BARS[min(last, max(0, round(value * last)))] for value in values[-WIDTH:])


def _values(history: Sequence[Line], key: str) -> list[float]:
    return [float(value) for line in history if (value := line.get(key)) is not None]


def _waiting(history: Sequence[Line]) -> str:
    """Who waited for whom, in all updates so far."""
    waited, worked, delivered, idle = (
        sum(_values(history, key)) for key in ("waited_s", "worked_s", "delivered_s", "engine_idle_s")
    )
    whole = waited + worked + delivered
    if not whole:
        return figures.DASH
    shares = f"trainer waited {figures.percent(waited / whole)}, engines idle {figures.percent(min(1.0, idle / whole))}"
    return f"{shares} of {figures.clock_time(whole)}"
