"""What a person sees while a run goes on: a live view on a terminal, a line now and then elsewhere.

In: snapshots of the telemetry, and notes. Out: text on the terminal. Always: drawn off the event loop, and never
the reason for a run to fail.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

import anyio
from anyio import to_thread
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamsim.cli import figures
from dreamsim.cli.figures import Moment
from dreamsim.cli.visible import in_one_line, visible
from dreamsim.runtime.snapshot import Snapshot

LIVE_INTERVAL_S = 0.5

Mode = Literal["rich", "plain", "off"]


class Display(Protocol):
    """Shows a run."""

    interval_s: float
    """Seconds between two moments shown."""

    def note(self, text: str) -> None:
        """Say something once."""
        ...

    def show(self, moment: Moment) -> None:
        """Show the run as it is now. Blocks: call it off the event loop."""
        ...

    def conclude(self, text: str) -> None:
        """Show the closing summary."""
        ...

    def live(self) -> AbstractContextManager[object]:
        """While this is open, moments are shown."""
        ...


def make_display(mode: Literal["auto", "rich", "plain", "off"], interval_s: float, out: TextIO) -> Display:
    """The display asked for; `auto` is `rich` on a terminal."""
    if mode == "auto":
        mode = "rich" if out.isatty() else "plain"
    if mode == "rich":
        return RichDisplay(out)
    return PlainDisplay(out, interval_s=interval_s, silent=mode == "off")


async def follow(
    display: Display,
    snapshot: Callable[[], Snapshot],
    *,
    lag: Callable[[], float],
    total: int,
    max_steps: int,
) -> None:
    """Show moments until cancelled, or until nobody can see them (`... | head`, a terminal that was closed)."""
    before = snapshot()
    while True:
        await anyio.sleep(display.interval_s)
        now = snapshot()
        moment = Moment(now=now, before=before, total=total, max_steps=max_steps, store_lag_s=lag())
        try:
            await to_thread.run_sync(display.show, moment)
        except OSError:
            return
        before = now


class PlainDisplay:
    """One line per interval, for logs and pipes."""

    def __init__(self, out: TextIO, *, interval_s: float, silent: bool = False) -> None:
        self.interval_s = interval_s
        self._out = out
        self._silent = silent
        self._started = time.monotonic()

    def note(self, text: str) -> None:
        """Print `text` with the time since the start."""
        if not self._silent:
            gone = figures.clock_time(time.monotonic() - self._started)
            print(f"{gone:>7}  {visible(text)}", file=self._out, flush=True)

    def show(self, moment: Moment) -> None:
        """Print one line."""
        parts = (
            figures.progress(moment),
            figures.flight(moment),
            figures.success(moment),
            figures.failures(moment),
            figures.speed(moment),
            figures.cache(moment),
            figures.trust(moment.trust),
            figures.store(moment),
            figures.loop(moment),
            figures.stations(moment),
            f"{figures.clock_time(moment.eta_s)} to go",
        )
        self.note("; ".join(part for part in parts if part))

    def conclude(self, text: str) -> None:
        """Print the summary as it is."""
        if not self._silent:
            print(visible(text), file=self._out, flush=True)

    def live(self) -> Self:
        """Nothing to prepare."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo."""


class RichDisplay:
    """A view that is redrawn in place."""

    def __init__(self, out: TextIO) -> None:
        self.interval_s = LIVE_INTERVAL_S
        self._console = Console(file=out, highlight=False)
        self._live: Live | None = None

    def note(self, text: str) -> None:
        """Print `text` above the view."""
        self._console.print(Text(visible(text), style="dim"), soft_wrap=True)

    def show(self, moment: Moment) -> None:
        """Redraw."""
        self.draw(render(moment))

    def draw(self, view: RenderableType) -> None:
        """Redraw with `view`. Blocks: call it off the event loop."""
        if self._live is not None:
            self._live.update(view, refresh=True)

    def conclude(self, text: str) -> None:
        """Print the summary, long paths unbroken."""
        self._console.print(Text(visible(text)), soft_wrap=True)

    def live(self) -> Self:
        """Open the view."""
        return self

    def __enter__(self) -> Self:
        # No refresh thread: what is drawn is what `show` was given, when it was given.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):
                live.stop()


def render(moment: Moment) -> RenderableType:
    """The live view of one moment."""
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    elapsed = figures.clock_time(moment.now.elapsed_s)
    times = f"{figures.progress(moment)}, {elapsed} gone, {figures.clock_time(moment.eta_s)} to go"
    bar.add_row(ProgressBar(total=1.0, completed=moment.share), times)
    body = Table.grid(padding=(0, 2))
    body.add_column(style="bold", no_wrap=True)
    body.add_column()
    failed = figures.failures(moment)
    body.add_row("episodes", Text(f"{figures.flight(moment)}, {figures.success(moment)}"))
    body.add_row("", Text(visible(failed), style="red" if moment.now.failures else "dim"))
    body.add_row("speed", Text(f"{figures.speed(moment)}, {figures.cache(moment)}"))
    if trusted := figures.trust(moment.trust):
        body.add_row("trust", Text(trusted))
    body.add_row("time in", Text(figures.stations(moment)))
    body.add_row("house", Text(f"{figures.store(moment)}, {figures.loop(moment)}"))
    for stuck in moment.now.stuck[:3]:
        said = f"{stuck.episode_id} step {stuck.step}: {stuck.seconds:.0f} s in {stuck.station} {stuck.awaiting}"
        body.add_row("stuck", Text(in_one_line(said), style="yellow"))
    return Group(bar, body)
