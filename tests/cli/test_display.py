from __future__ import annotations

import io

import pytest
from rich.console import Console

from dreamsim.cli import figures
from dreamsim.cli.display import PlainDisplay, RichDisplay, follow, make_display, render
from dreamsim.cli.figures import Moment
from dreamsim.runtime.snapshot import LoopLag, Snapshot, StationUse, StuckEpisode, TokenCount

BEFORE = Snapshot(elapsed_s=10.0, steps=1000)
NOW = Snapshot(
    elapsed_s=20.0,
    admitted=100,
    alive=50,
    alive_peak=64,
    done=50,
    storing=2,
    outcomes={"success": 30, "failure": 17, "error": 3},
    failures={"parse": 2, "engine": 1},
    steps=3000,
    tokens={
        "policy": TokenCount(requests=10, prompt=6000, generated=1000, cached=3000),
        "experience": TokenCount(requests=10, prompt=4000, generated=2000, cached=3000),
    },
    stations={
        "policy": StationUse(seconds=100, own_seconds=100, visits=10, inside=5),
        "environment": StationUse(seconds=300, own_seconds=300, visits=10, inside=45),
    },
    lag=LoopLag(p99_s=0.012),
    counters={
        "consistency_first": 400,
        "consistency_first_contradicting": 6,
        "consistency_kept": 390,
        "verified_decided": 200,
        "verified_disagreed": 3,
        "transition_cache_hits": 120,
        "transition_cache_misses": 280,
    },
    rss_mib=400.4,
    stuck=(
        StuckEpisode(
            episode_id="ab",
            task_key="t",
            step=3,
            station="environment",
            what="experience engine",
            seconds=61.0,
            awaiting="[red]generate",
        ),
    ),
)
MOMENT = Moment(now=NOW, before=BEFORE, total=100, max_steps=100, store_lag_s=0.5)


def test_a_plain_line_holds_every_figure() -> None:
    out = io.StringIO()
    PlainDisplay(out, interval_s=1.0).show(MOMENT)
    for said in (
        "50 of 100 episodes",
        "50 in flight (peak 64)",
        "success 63.8 %",
        "3 failed (parse 2, engine 1)",
        "200 steps/s",
        "1,300 tokens/s (300 generated)",
        "prefix-cache hits 60.0 %",
        "store lag 0.50 s (2 waiting)",
        "loop lag p99 12 ms",
        "400 MiB",
        "contradicting steps 1.50 of 100 before the check, 0.00 after",
        "verifier disagrees on 1.5 % of 200 steps",
        "cache saved 120 engine calls (30.0 %)",
        "bottleneck environment: environment 75.0 %, policy 25.0 %",
        "0:20 to go",
    ):
        assert said in out.getvalue()


def test_the_live_view_shows_the_same_and_no_markup_of_others() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(render(MOMENT))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO of above
    for said in ("50 of 100 episodes", "3 failed", "bottleneck environment", "[red]generate", "61 s"):
        assert said in shown


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_view_draws_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = FakeTerminal()
    display = RichDisplay(out)
    with display.live():
        display.show(MOMENT)
    display.conclude("the end")
    assert "50 of 100" in out.getvalue()
    assert "the end" in out.getvalue()


def test_nothing_yet_is_shown_as_a_dash() -> None:
    moment = Moment(now=Snapshot(), before=Snapshot(), total=10, max_steps=5)
    assert figures.success(moment) == "success –"
    assert figures.cache(moment) == "prefix-cache hits –"
    assert figures.stations(moment) == "bottleneck –"
    assert moment.eta_s is None


def test_progress_counts_the_steps_of_live_episodes() -> None:
    moment = Moment(now=Snapshot(steps=250, elapsed_s=10), before=Snapshot(), total=100, max_steps=10)
    assert moment.share == pytest.approx(0.25)
    assert moment.eta_s == pytest.approx(30.0)


def test_all_done_is_whole() -> None:
    moment = Moment(now=Snapshot(steps=1, done=7, skipped=3), before=Snapshot(), total=10, max_steps=10)
    assert moment.share == 1.0


@pytest.mark.parametrize(("seconds", "said"), [(None, "–"), (0, "0:00"), (65, "1:05"), (3725, "1:02:05")])
def test_times_are_short(seconds: float | None, said: str) -> None:
    assert figures.clock_time(seconds) == said


def test_a_pipe_gets_the_plain_display() -> None:
    assert isinstance(make_display("auto", 1.0, io.StringIO()), PlainDisplay)


def test_off_is_silent() -> None:
    out = io.StringIO()
    display = make_display("off", 1.0, out)
    display.note("x")
    display.show(MOMENT)
    display.conclude("x")
    assert out.getvalue() == ""


class NoMoreSnapshotsError(Exception):
    pass


async def test_each_moment_is_compared_with_the_one_before() -> None:
    snapshots = iter([Snapshot(steps=1), Snapshot(steps=2), Snapshot(steps=3)])
    shown: list[Moment] = []

    class Recorder(PlainDisplay):
        def show(self, moment: Moment) -> None:
            shown.append(moment)

    def snapshot() -> Snapshot:
        found = next(snapshots, None)
        if found is None:
            raise NoMoreSnapshotsError
        return found

    display = Recorder(io.StringIO(), interval_s=0.0)
    with pytest.raises(NoMoreSnapshotsError):
        await follow(display, snapshot, lag=lambda: 0.25, total=5, max_steps=9)
    assert [(moment.before.steps, moment.now.steps) for moment in shown] == [(1, 2), (2, 3)]
    assert shown[0].store_lag_s == 0.25
