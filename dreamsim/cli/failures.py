"""The failure policy that settings ask for.

In: `run.*`. Out: a `FailurePolicy`. Always: a share becomes the number of failures that cannot be exceeded any more
without exceeding the share of all episodes, so that a run which must exit 1 begins nothing new.
"""

from __future__ import annotations

from dreamsim.flow.failures import FailurePolicy
from dreamsim.runtime.config import RunSection
from dreamsim.runtime.failure_settings import allowed_failures


def failure_policy(run: RunSection, *, episodes: int | None = None) -> FailurePolicy:
    """The policy for a run of so many episodes; None where their number is not known, and failures are not counted."""
    return FailurePolicy(
        on_failure=run.on_failure,
        retries=run.retries,
        backoff_s=run.retry_backoff_s,
        most=None if episodes is None else allowed_failures(run.max_failures, episodes),
    )
