"""What `dreamsim train` says: a line for every update, a text at the end, the figures of `summary.json`.

In: lines of metrics. Out: text and figures. Always: real and dreamed counts stand in every line and every summary.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dreamsim.cli import exits
from dreamsim.cli.figures import clock_time, percent
from dreamsim.cli.run_directory import RunDirectory, shown_path
from dreamsim.flow.alarms import Alarm
from dreamsim.records.episode import SOURCES
from dreamsim.records.training import Line
from dreamsim.training.loop import Training

COUNTS = ("total_real_transitions", "total_dreamed_transitions", "total_evaluation_transitions", "total_episodes")


def describe_line(line: Line, *, steps: int) -> str:
    """One update for the terminal."""
    parts = [f"update {line['update']} of {steps}"]
    played = [source for source in SOURCES if line[f"groups_{source}"]]
    parts += [f"{source} success {percent(line[f'success_{source}'])}" for source in played]
    if line.get("updates"):  # else nothing was learned, and nothing is known of the policy
        parts.append(f"entropy {_number(line['entropy'])}, KL {_number(line['kl_reference'])}")
    if line.get("informative_share") is not None:
        parts.append(f"{percent(line['informative_share'])} of the groups differ")
    if line["evaluation_success"] is not None:
        parts.append(f"held-out real games {evaluation(line)}")
    parts.append(f"transitions {transitions(line)}")
    return "; ".join(parts)


def evaluation(line: Line) -> str:
    """`31.7 % [21.3, 44.2]`."""
    low, high = line["evaluation_low"], line["evaluation_high"]
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return percent(line["evaluation_success"]) + interval


def transitions(line: Line) -> str:
    """`0 real, 9,211 dreamed (evaluations: 3,402 real)`."""
    real, dreamed, evaluated, _ = (line[name] or 0 for name in COUNTS)
    return f"{real:,} real, {dreamed:,} dreamed (evaluations: {evaluated:,} real)"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def describe_alarm(alarm: Alarm) -> str:
    """An alarm for the terminal."""
    return f"ALARM {alarm.name}: {alarm.seen}. What to do: {alarm.advice}"


def training_figures(training: Training, *, code: int, error: str | None, steps: int) -> dict[str, Any]:
    """What `summary.json` says."""
    history = training.history
    last: Line = history[-1] if history else {}
    measured = [line for line in history if line["evaluation_success"] is not None]
    return {
        "exit_code": code,
        "error": error,
        "updates": last.get("update", 0),
        "steps": steps,
        "elapsed_s": last.get("elapsed_s"),
        **{name: last.get(name, 0) for name in COUNTS},
        "evaluations": [
            {name: line[name] for name in ("update", "elapsed_s", *_EVALUATED, *COUNTS)} for line in measured
        ],
        "best_success": last.get("best_success"),
        "best_update": last.get("best_update"),
        "alarms": [asdict(alarm) for alarm in training.ringing],
    }


_EVALUATED = ("evaluation_success", "evaluation_low", "evaluation_high", "evaluation_return", "evaluation_length")


def render_training(
    training: Training, directory: RunDirectory, *, code: int, error: str | None, adapter_of: str | None = None
) -> str:
    """What the terminal shows at the end; `adapter_of` is the model that the weights are an adapter of, if they are."""
    history = training.history
    if not history:
        return f"\nnothing was learned: {error or 'interrupted before the first update'}"
    last = history[-1]
    ended = {exits.DONE: "done", exits.INTERRUPTED: "interrupted"}.get(code, error or "failed")
    lines = ["", f"{last['update']} updates in {clock_time(last['elapsed_s'])}; {ended}."]
    measured = [line for line in history if line["evaluation_success"] is not None]
    lines += [
        f"  held-out real games after update {line['update']}: {evaluation(line)}"
        for line in (measured if len(measured) < 2 else (measured[0], measured[-1]))
    ]
    if last["best_update"] is not None:
        lines.append(f"  best after update {last['best_update']}: {percent(last['best_success'])}")
    lines.append(f"  transitions  {transitions(last)}")
    lines += ["  " + describe_alarm(alarm) for alarm in training.ringing]
    shown = shown_path(directory.path)
    lines += ["", f"  metrics  {directory.path / 'metrics.jsonl'}", f"  store    {directory.store}"]
    if last["best_update"] is not None:
        model = f"--policy.model {shown}/best"
        if adapter_of is not None:
            model = f"--policy.model {adapter_of} --policy.adapter {shown}/best"
        lines.append(f"  test     dreamsim evaluate {model} --games 200")
    if code != exits.DONE:
        lines.append(f"  go on    dreamsim train --resume {shown}")
    return "\n".join(lines)
