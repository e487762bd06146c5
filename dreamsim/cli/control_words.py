"""What may be said to a live run, and what it answers.

In: one line of JSON, at most `LINE_BYTES`. Out: one line of JSON, `{"ok": true, "result": ...}` or `{"ok": false,
"error": ...}`. Always: a line of another form is refused and changes nothing; what was changed is logged; an answer
holds at most `ROWS` episodes, however many are alive.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dreamsim.errors import UsageError
from dreamsim.flow.control import RunControl
from dreamsim.runtime.telemetry import LiveEpisode, Telemetry
from dreamsim.runtime.watchdog import whereabouts

LINE_BYTES: Final = 4096
ROWS: Final = 50

Command = Literal["status", "pause", "resume", "limit", "cancel-episode", "cancel-task", "dump"]

log = structlog.get_logger()


class Wish(BaseModel):
    """One command."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: Command
    limit: int | None = None
    id: str | None = Field(None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _check_argument(self) -> Self:
        if (self.limit is not None) != (self.command == "limit"):
            raise ValueError("`limit` is the argument of the command limit")
        if (self.id is not None) != self.command.startswith("cancel-"):
            raise ValueError("`id` is the argument of cancel-episode and cancel-task")
        return self


def answer(line: bytes, control: RunControl, telemetry: Telemetry) -> dict[str, Any]:
    """Do what `line` says, at once."""
    try:
        wish = Wish.model_validate_json(line)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in error.errors())
        return {"ok": False, "error": told[:LINE_BYTES]}
    try:
        result = _done(wish, control, telemetry)
    except UsageError as error:
        return {"ok": False, "error": str(error)}
    if wish.command not in ("status", "dump"):
        log.info("control", command=wish.command, **{name: told for name, told in result.items() if name != "state"})
    return {"ok": True, "result": result}


def _done(wish: Wish, control: RunControl, telemetry: Telemetry) -> dict[str, Any]:
    match wish.command:
        case "status":
            return _status(control, telemetry)
        case "dump":
            return _dump(telemetry)
        case "pause":
            control.pause()
        case "resume":
            control.resume()
        case "limit":
            control.set_ceiling(wish.limit or 0)
        case "cancel-episode":
            return {"episode": control.cancel_episode(wish.id or "")}
        case "cancel-task":
            key, episodes = control.cancel_task(wish.id or "")
            return {"task": key, "episodes": episodes}
    return {"state": _state(control), "limit": telemetry.limit, "alive": len(telemetry.live)}


def _state(control: RunControl) -> str:
    return "paused" if control.paused else "running" if control.most else "setting up or ending"


def _status(control: RunControl, telemetry: Telemetry) -> dict[str, Any]:
    now = telemetry.snapshot()
    return {
        "state": _state(control),
        "elapsed_s": round(now.elapsed_s, 3),
        "alive": now.alive,
        "limit": now.limit,
        "ceiling": control.ceiling,
        "concurrency": now.concurrency,
        "storing": now.storing,
        "done": now.done,
        "outcomes": dict(now.outcomes),
        "failures": dict(now.failures),
        "requeued": now.counters.get("requeued", 0),
        "steps": now.steps,
        "steps_per_s": round(now.steps_per_s, 3),
        "stalled": now.stalled,
        "still_s": round(now.still_s, 3),
        "loop_lag_p99_s": round(now.lag.p99_s, 6),
        "rss_mib": round(now.rss_mib, 1),
        "engines": [
            {
                "running": load.running,
                "waiting": load.waiting,
                "cache_use": load.cache_use,
                "preemptions": load.preemptions,
            }
            for load in now.loads
        ],
    }


def _dump(telemetry: Telemetry) -> dict[str, Any]:
    """What all episodes await: counts by station, and those that have waited longest with their chain of awaits."""
    now = telemetry.clock.monotonic()
    stations: dict[str, list[LiveEpisode]] = defaultdict(list)
    for live in telemetry.live.values():
        stations[live.station].append(live)
    longest = sorted(telemetry.live.values(), key=lambda live: live.since)[:ROWS]
    return {
        "alive": len(telemetry.live),
        "stations": {
            name: {"episodes": len(found), "longest_s": round(now - min(live.since for live in found), 3)}
            for name, found in stations.items()
        },
        "episodes": [
            {
                "id": one.episode_id,
                "task": one.task_key,
                "step": one.step,
                "station": one.station,
                "awaiting": one.what,
                "seconds": round(one.seconds, 3),
                "where": one.awaiting,
            }
            for one in whereabouts(telemetry, longest)
        ],
    }
