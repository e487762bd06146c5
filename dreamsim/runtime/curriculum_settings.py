"""The settings of the curriculum: what a task is worth, how new ones are sought, how many a model may write.

In: text from flags, the environment and TOML files. Out: a section of a configuration. Always: the defaults need no
knowledge of the environment; `mode = uniform` is the ablation without a curriculum, and writes nothing.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from dreamsim.runtime.setting import OptionalInt, Section, setting


class CurriculumSection(Section):
    """Which task a training takes next, and who writes new ones (docs/curriculum.md)."""

    mode: Literal["value", "uniform"] = setting(
        "value",
        "`value`: tasks that are solved now and then come again, and variations of them are written; "
        "`uniform`: every task of the list in turn, shuffled (an ablation)",
    )
    renamed: float = setting(
        0.0,
        "share of the tasks whose things bear other names, so that the policy reads names and does not remember them",
        unit="share",
        ge=0,
        le=1,
    )
    synthetic: float = setting(
        0.25,
        "lambda: at no time have more than this share of all groups been of written tasks",
        unit="share",
        ge=0,
        le=1,
    )
    explore: float = setting(
        0.5, "share of choices that go to tasks never tried, while there are any", unit="share", ge=0, le=1
    )
    staleness: float = setting(
        0.1,
        "share of the other choices that go by how long ago a task was tried, not by its value",
        unit="share",
        ge=0,
        le=1,
    )
    sharpness: float = setting(1.0, "exponent of a task's score: 0 takes all that have one alike", ge=0, le=100)
    target_first: float = setting(
        0.65, "success aimed at while the policy solves nothing new", unit="share", ge=0, le=1
    )
    target_last: float = setting(0.35, "success aimed at once it solves all that is new", unit="share", ge=0, le=1)
    band: float = setting(
        0.25, "success this near to what is aimed at counts fully, further off less and less", unit="share", gt=0, le=1
    )
    memory: int = setting(16, "groups over which success is averaged, exponentially", unit="groups", ge=1)
    clusters: int = setting(16, "where there are no groups: clusters of similar tasks, each valued as one", ge=1)
    cluster_memory: int = setting(
        32, "where there are no groups: latest episodes that a cluster's value is of", unit="episodes", ge=2
    )
    waiting: int = setting(8, "written tasks kept ready", unit="tasks", ge=1)
    attempts: int = setting(2, "a written task that nobody solves in so many groups is given up", unit="groups", ge=1)
    depth: int = setting(3, "most generations from a real task to a written one", unit="generations", ge=1)
    min_distance: float = setting(
        0.02, "a written task is new if its distance to every known task of its family is more than this", ge=0, le=2
    )
    examples: OptionalInt = setting(
        None, "tasks shown to whoever writes one; default: as trained, else 4", unit="tasks", ge=1
    )
    samples: int = setting(
        8, "answers asked for one written task, at once; the first good one counts", unit="answers", ge=1
    )
    temperature: float = setting(0.7, "of writing", gt=0, le=10)
    max_tokens: OptionalInt = setting(
        None, "longest written task; default: as the experience model's answers", unit="tokens", ge=16
    )

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        if self.target_last > self.target_first:
            raise ValueError("target_last must not be above target_first: tasks get harder as the policy gets better")
        return self
