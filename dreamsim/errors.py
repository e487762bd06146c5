"""Every error this package raises, and who caused it.

In: nothing. Out: exception classes. Always: an error that a user sees says what to change, and an
error that ends an episode has a stable `kind`, stored with the episode and counted in summaries.

    DreamsimError
    |- UsageError                what the user gave cannot be used; raised before work starts
    |  |- ConfigurationError     a setting is wrong or contradicts another
    |  |- MissingExtraError      an optional package is needed; names the install line
    |  |- RecordError            a record read from outside is not what its schema asks for; names the field
    |  |- DatasetError           a line of an imported file is wrong; names file and line
    |  `- StoreError             the store cannot be opened as asked
    |     |- StoreLockedError    another run writes to it
    |     `- StoreSchemaError    written by another schema version
    |- EpisodeError              ends one episode, never the run
    |  |- ParseError             model output that is not a transition
    |  |- ExperienceError        no valid transition after n samples
    |  |  |- ConsistencyError    what was dreamed contradicts what the episode has shown before
    |  |  |- VerificationError   the verifier says otherwise than the experience model
    |  |  `- UncertaintyError    no sample that the uncertainty gate lets pass
    |  |- TruncationError        the environment ends the episode early; it is stored as truncated, not as failed
    |  |- PolicyError            no valid action after n samples
    |  |- JudgeError             a model that judges or explains gave no usable answer after n samples
    |  |- EnvironmentFailure     a real environment died or hung
    |  |- ContextOverflowError   the prompt no longer fits the model
    |  |- RetrievalError         past experiences could not be searched (an embedding endpoint is down)
    |  |- EngineError            generation failed; `recoverable` tells whether trying again can help
    |  |  `- EngineDeadError      the engine itself is gone; started again, it could answer
    |  |- EpisodeTimeoutError    the episode's own time was used up
    |  |- EpisodeCancelledError  cancelled from outside, or by a foreign cancellation
    |  `- UnexpectedError        a bug or a foreign exception, caught at the episode boundary
    |- TooManyFailuresError      more episodes failed than the run's failure policy allows
    `- EpisodeFinishedError      a step was asked of a finished episode (the caller's bug)
"""

from __future__ import annotations

from pathlib import Path


class DreamsimError(Exception):
    """The root: catch this to catch everything dreamsim raises on purpose."""


class UsageError(DreamsimError):
    """What the user gave cannot be used; raised before any work starts."""


class ConfigurationError(UsageError):
    """A setting is wrong or contradicts another; the message names it and says what to change."""


class MissingExtraError(UsageError):
    """An optional package is needed for what was asked."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': pip install 'dreamsim-rl[{extra}]'")
        self.package = package
        self.extra = extra


class RecordError(UsageError):
    """A record read from outside is not what its schema asks for."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class DatasetError(UsageError):
    """A line of an imported file is not what its schema asks for."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


class StoreError(UsageError):
    """The store cannot be opened or used as asked."""


class StoreLockedError(StoreError):
    """Another process is writing to this store."""


class StoreSchemaError(StoreError):
    """The store was written by a schema this version cannot read."""


class EpisodeError(DreamsimError):
    """Ends one episode, never the run. `kind` is stored with the episode."""

    kind = "episode"


class ParseError(EpisodeError):
    """A model's output is not a transition; the message says what is missing or contradictory."""

    kind = "parse"


class ExperienceError(EpisodeError):
    """The experience model gave no valid transition within the allowed number of samples."""

    kind = "experience"


class ConsistencyError(ExperienceError):
    """Every sample of a step contradicts what the episode has shown before; the message names the rules."""

    kind = "consistency"


class VerificationError(ExperienceError):
    """The verifier says otherwise than the experience model, and such episodes are to be dropped."""

    kind = "verification"


class UncertaintyError(ExperienceError):
    """The uncertainty gate let no sample of a step pass, or reality could not answer in its place."""

    kind = "uncertainty"


class TruncationError(EpisodeError):
    """The environment ends the episode before the step, without a failure: what it would say could not be trusted."""

    kind = "truncation"


class PolicyError(EpisodeError):
    """The policy gave no valid action within the allowed number of samples."""

    kind = "policy"


class JudgeError(EpisodeError):
    """A model that judges or explains gave no usable answer within the allowed number of samples."""

    kind = "judge"


class EnvironmentFailure(EpisodeError):  # noqa: N818 - "EnvironmentError" is a builtin alias of OSError
    """A real environment died, hung or refused."""

    kind = "environment"


class ContextOverflowError(EpisodeError):
    """The prompt no longer fits the model's context; raise max_model_len or lower max_steps."""

    kind = "context"


class RetrievalError(EpisodeError):
    """Past experiences could not be searched; the message says why."""

    kind = "retrieval"


class EngineError(EpisodeError):
    """Generation failed. `recoverable` is False when every later call will fail too."""

    kind = "engine"

    def __init__(self, message: str, *, recoverable: bool = True) -> None:
        super().__init__(message)
        self.recoverable = recoverable


class EngineDeadError(EngineError):
    """The engine itself is gone (its process died): asking again cannot help, starting it again can."""

    def __init__(self, message: str) -> None:
        super().__init__(message, recoverable=False)


class EpisodeTimeoutError(EpisodeError):
    """The episode used up its own time."""

    kind = "timeout"


class EpisodeCancelledError(EpisodeError):
    """The episode was cancelled: by the user, by a deadline of the run, or by a foreign cancellation."""

    kind = "cancelled"


class UnexpectedError(EpisodeError):
    """A bug or a foreign exception, caught at the episode boundary and kept as data."""

    kind = "unexpected"


class TooManyFailuresError(DreamsimError):
    """More episodes failed than the run's failure policy allows; what was played is stored."""


class EpisodeFinishedError(DreamsimError):
    """A step was asked of an episode that is already over: the caller's bug."""
