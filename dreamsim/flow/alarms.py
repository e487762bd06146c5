"""Alarms of a training: what goes wrong silently, seen in its metrics, with what to do.

In: lines of metrics so far. Out: the alarms that ring after the last one.
Always: pure; a number that is missing rings nothing; lines of updates that learned nothing say nothing of the policy;
the formula of every alarm stands at its function (docs/training.md repeats them, and is checked).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Final

from dreamsim.records.training import Line

RECENT: Final = 3
"""Updates that are averaged."""
RISE: Final = 0.05
"""How much dreamed success must have risen to be suspicious."""
COLLAPSE: Final = 0.1
"""Entropy below this share of what it was at first has collapsed."""
KL_LIMIT: Final = 0.5
"""Nats per token away from the first policy."""
KL_STEP_LIMIT: Final = 0.1
"""Nats per token that one update may move the policy."""
BUSY_LIMIT: Final = 0.02
"""Share of its time that a trainer must be busy."""
FAILED_LIMIT: Final = 0.3
"""Share of episodes that may fail."""
LOGPROB_LIMIT: Final = 0.05
"""Nats that engine and trainer may differ by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that goes wrong."""

    name: str
    """Which alarm."""
    seen: str
    """What rings it, in numbers."""
    advice: str
    """What to do."""


def alarms(history: Sequence[Line]) -> tuple[Alarm, ...]:
    """Every alarm that rings now."""
    return tuple(alarm for check in CHECKS if (alarm := check(history)) is not None)


def reward_hacking(history: Sequence[Line]) -> Alarm | None:
    """Dreamed success rises while real success falls.

    The last evaluation is below the interval of the best one before it, and the dreamed success (mean of the last 3
    updates) is more than 0.05 above what it was then.
    """
    measured = [index for index, line in enumerate(history) if line.get("evaluation_success") is not None]
    if len(measured) < 2:
        return None
    last = measured[-1]
    best = max(measured[:-1], key=lambda index: _value(history[index], "evaluation_success"))
    now, then = history[last].get("evaluation_success"), history[best].get("evaluation_low")
    dreamed, before = _mean(history[: last + 1], "success_dreamed"), _mean(history[: best + 1], "success_dreamed")
    if before is None:  # the best was before training: compare with how it began
        before = _first(history, "success_dreamed")
    if now is None or then is None or dreamed is None or before is None:
        return None
    if now >= then or dreamed <= before + RISE:
        return None
    return Alarm(
        name="reward hacking",
        seen=f"real success fell from {_value(history[best], 'evaluation_success'):.1%} to {now:.1%} while dreamed "
        f"success rose from {before:.1%} to {dreamed:.1%}",
        advice="the policy learns what the dream grants wrongly: go back to the best weights, verify dreamed ends "
        "(experience.verify.steps = every), mix in real groups (train.real_share), or train the experience model on "
        "real episodes of this policy (dreamsim collect --policy model)",
    )


def entropy_collapse(history: Sequence[Line]) -> Alarm | None:
    """Entropy, mean of the last 3 updates, is below a tenth of that of the first 3."""
    learned = _learned(history)
    first, now = _first(learned, "entropy"), _mean(learned, "entropy")
    if len(learned) <= RECENT or first is None or now is None or now >= COLLAPSE * first:
        return None
    return Alarm(
        name="entropy collapse",
        seen=f"entropy fell from {first:.3g} to {now:.3g} nats per token",
        advice="the policy no longer tries anything new: lower train.learning_rate, raise train.entropy_coefficient or "
        "train.clip_high, or go back to the best weights",
    )


def kl_blow_up(history: Sequence[Line]) -> Alarm | None:
    """KL to the first policy, mean of the last 3 updates, is above 0.5, or that of one update above 0.1 nats."""
    learned = _learned(history)
    far, moved = _mean(learned, "kl_reference"), _mean(learned, "kl_step")
    if (far is None or far <= KL_LIMIT) and (moved is None or moved <= KL_STEP_LIMIT):
        return None
    return Alarm(
        name="KL blow-up",
        seen=f"KL to the first policy {_shown(far)}, of one update {_shown(moved)} nats per token",
        advice="updates are too large: lower train.learning_rate or train.epochs, raise train.kl_coefficient, or go "
        "back to the best weights",
    )


def gradient_not_finite(history: Sequence[Line]) -> Alarm | None:
    """In the last 3 updates an optimizer step was skipped because its gradient was not finite."""
    recent = [line for line in history if line.get("version") is not None][-RECENT:]
    skipped = sum(_value(line, "skipped_updates") for line in recent)
    if not skipped:
        return None
    taken = sum(_value(line, "updates") for line in recent)
    return Alarm(
        name="gradient not finite",
        seen=f"{skipped:.0f} of {skipped + taken:.0f} optimizer steps were skipped: their gradient was not finite",
        advice="go back to the best weights if every step is skipped, for then the weights themselves are broken; else "
        "lower train.learning_rate, or compute in full precision (train.mixed_precision = no)",
    )


def no_variance(history: Sequence[Line]) -> Alarm | None:
    """In the last 3 updates no group had returns that differ, nor, with step advantages, steps from one state."""
    told = [line for line in history if line.get("informative_share") is not None][-RECENT:]
    shares = [_value(line, "informative_share") or _value(line, "teaching_share") for line in told]
    if len(shares) < RECENT or any(shares):
        return None
    dreamed = _mean(history, "return_dreamed") or _mean(history, "return_real") or 0.0
    easy = dreamed > 0.5
    return Alarm(
        name="no variance",
        seen=f"all attempts at a task end alike (mean return {dreamed:.2f}), so nothing is learned",
        advice="take harder tasks, or stop: everything is solved"
        if easy
        else "take easier tasks (tasks.mix, a curriculum), larger groups (train.group_size), or a policy that solves "
        "some of them (dreamsim train-policy)",
    )


def starving(history: Sequence[Line]) -> Alarm | None:
    """In the last 3 updates the trainer was busy for less than 2 % of the time, or most groups held too little."""
    learned = [line for line in history if line.get("version") is not None][-RECENT:]
    if len(learned) < RECENT:
        return None
    waited = sum(_value(line, "waited_s") for line in learned)
    worked = sum(_value(line, "worked_s") + _value(line, "delivered_s") for line in learned)
    groups = sum(_value(line, "groups_real") + _value(line, "groups_dreamed") for line in learned)
    lost = sum(_value(line, "groups_not_viable") for line in learned)
    busy = worked / (waited + worked) if waited + worked else 1.0
    if busy >= BUSY_LIMIT and lost <= groups / 2:
        return None
    return Alarm(
        name="trainer starving",
        seen=f"the trainer was busy {busy:.1%} of the time; {lost:.0f} of {groups:.0f} groups held too little",
        advice="see which failures episodes end in (dreamsim episodes); else play faster: more engines or a smaller "
        "experience model, train.lag = 1, fewer train.groups",
    )


def failing_episodes(history: Sequence[Line]) -> Alarm | None:
    """In the last 3 updates more than 30 % of the episodes ended in an error."""
    recent = [line for line in history if line.get("version") is not None][-RECENT:]
    failed = sum(_value(line, "episodes_failed") for line in recent)
    kept = sum(_value(line, "episodes") for line in recent)
    if not recent or failed <= FAILED_LIMIT * (failed + kept):
        return None
    return Alarm(
        name="failing episodes",
        seen=f"{failed:.0f} of the last {failed + kept:.0f} episodes ended in an error",
        advice="see what they say: dreamsim episodes --outcome error; contradictions mean that the experience model "
        "has not met this policy: train it on the policy's own real episodes",
    )


def disagreement(history: Sequence[Line]) -> Alarm | None:
    """Engine and trainer differ, mean of the last 3 updates, by more than 0.05 nats per token.

    Counted are tokens that the learning weights themselves sampled. Where the last 3 updates have none (train.lag), all
    tokens are, and the limit is 0.05 + 0.45 staleness: an update that moves the policy by KL = 0.1 nats, the most that
    does not ring `kl_blow_up`, moves log-probabilities by E|d| <= sqrt(E d^2) = sqrt(2 KL) = 0.45.
    """
    recent = _learned(history)[-RECENT:]
    known = [found for line in recent if (found := _fresh_difference(line)) is not None]
    older = [line for line in recent if line.get("logprob_difference") is not None]
    if known:
        found, limit = fmean(known), LOGPROB_LIMIT
    elif older:
        found = fmean(_value(line, "logprob_difference") for line in older)
        limit = LOGPROB_LIMIT + sqrt(2 * KL_STEP_LIMIT) * fmean(_value(line, "staleness") for line in older)
    else:
        return None
    if found <= limit:
        return None
    return Alarm(
        name="engine and trainer disagree",
        seen=f"log-probabilities differ by {found:.3f} nats per token, where {limit:.2f} are to be expected at most",
        advice="see that policy.temperature is what was meant and policy.top_p is 1, and that the engine computes in "
        "the trainer's type (vllm.dtype, train.mixed_precision)",
    )


def _fresh_difference(line: Line) -> float | None:
    """Of tokens that no update lies between; lines that do not tell it are of such tokens alone if nothing is stale."""
    told = line.get("logprob_difference_fresh")
    return line.get("logprob_difference") if told is None and not line.get("staleness") else told


CHECKS: Final[tuple[Callable[[Sequence[Line]], Alarm | None], ...]] = (
    reward_hacking,
    entropy_collapse,
    kl_blow_up,
    gradient_not_finite,
    no_variance,
    starving,
    failing_episodes,
    disagreement,
)
"""All of them."""


def _learned(history: Sequence[Line]) -> list[Line]:
    """Lines of updates that changed the policy."""
    return [line for line in history if line.get("updates")]


def _values(history: Sequence[Line], key: str) -> list[float]:
    return [float(value) for line in history if (value := line.get(key)) is not None]


def _mean(history: Sequence[Line], key: str) -> float | None:
    found = _values(history, key)[-RECENT:]
    return fmean(found) if found else None


def _first(history: Sequence[Line], key: str) -> float | None:
    found = _values(history, key)[:RECENT]
    return fmean(found) if found else None


def _value(line: Line, key: str) -> float:
    return float(line.get(key) or 0.0)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
