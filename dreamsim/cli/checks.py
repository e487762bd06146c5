"""What is looked at before any work starts.

In: settings. Out: one line per check, good or bad. Always: cheap, changes nothing, and finds what would otherwise
fail after minutes: models that are not there, packages not installed, a full disk, a store in use.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamsim.cli import exits
from dreamsim.cli.engines import model_source
from dreamsim.cli.run_directory import check_free, planned_path, store_path
from dreamsim.cli.tasks import experience_file, load_tasks, makes_tasks
from dreamsim.errors import StoreError, UsageError
from dreamsim.runtime.config import TINY, ExperienceSection, PolicySection, Settings

NEEDED_MIB = 200
"""Disk below which a run is refused; 2,048 episodes take about a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    """What."""
    good: bool
    """Whether the run can start."""
    text: str
    """What was found, or what to change."""


def check_settings(settings: Settings) -> list[Check]:
    """Every check. Blocks: reads files."""
    return [*_directory(settings), *check_parts(settings)]


def check_parts(settings: Settings) -> list[Check]:
    """What a run is made of, wherever it is kept. Blocks: reads files."""
    return [*_models(settings), *_packages(settings), *_data(settings), *_trust(settings)]


def _directory(settings: Settings) -> Iterator[Check]:
    path = planned_path(settings)
    try:
        check_free(path, resumed=settings.run.resume is not None)
    except UsageError as error:
        yield Check(name="directory", good=False, text=str(error))
        return
    yield Check(name="directory", good=True, text=str(path))
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(there).free / 2**20
    text = f"{free:,.0f} MiB free" + ("" if free >= NEEDED_MIB else f"; at least {NEEDED_MIB} MiB are needed")
    yield Check(name="disk", good=free >= NEEDED_MIB, text=text)
    store = store_path(settings, path)
    yield _lock(store)


def _lock(store: Path) -> Check:
    if not store.exists():
        return Check(name="store", good=True, text=f"{store} will be made")
    from dreamsim.store.lock import WriterLock

    try:
        WriterLock(store).release()
    except StoreError as error:
        return Check(name="store", good=False, text=str(error))
    return Check(name="store", good=True, text=f"{store} is free")


def _models(settings: Settings) -> Iterator[Check]:
    for name, role in (("policy", settings.policy), ("experience", settings.experience)):
        if role.kind == "http":
            yield Check(name=name, good=True, text=f"{role.model} at {role.url}")
        elif role.kind == "scripted":
            yield Check(name=name, good=True, text="scripted, no model")
        else:
            yield _local_model(name, role)


def _local_model(name: str, role: PolicySection | ExperienceSection) -> Check:
    model = model_source(role, name)
    path = Path(model).expanduser()
    if (path / "config.json").is_file():
        return Check(name=name, good=True, text=f"{model}")
    looks_like_path = path.is_absolute() or model.startswith((".", "~")) or path.exists() or model.count("/") != 1
    if role.model == TINY:
        return Check(name=name, good=False, text=f"the package has no model in {model}: give --{name}.model")
    if looks_like_path:
        text = f"--{name}.model {model}: no checkpoint there (a directory with config.json), and no hub name (a/b)"
        return Check(name=name, good=False, text=text)
    return Check(name=name, good=True, text=f"{model} from the Hugging Face hub, or its cache")


def _packages(settings: Settings) -> Iterator[Check]:
    kinds = {settings.policy.kind, settings.experience.kind}
    if "vllm" in kinds:
        found = importlib.util.find_spec("vllm") is not None
        text = "installed" if found else (
            "not installed: pip install 'dreamsim-rl[vllm]' with a GPU, `make setup` without one, "
            "or give --policy.url and --experience.url"
        )  # fmt: skip
        yield Check(name="vllm", good=found, text=text)
    encoder = settings.store.encoder
    if encoder.startswith("sentence-transformers"):
        found = importlib.util.find_spec("sentence_transformers") is not None
        text = "installed" if found else "not installed: pip install 'dreamsim-rl[sentence-transformers]'"
        yield Check(name="encoder", good=found, text=text)


def _data(settings: Settings) -> Iterator[Check]:
    path = experience_file(settings)
    if path is not None:
        found = path.is_file()
        text = str(path) if found else f"{path} is not there: change store.experiences (none imports nothing)"
        yield Check(name="experiences", good=found, text=text)
    if makes_tasks(settings):
        yield Check(name="tasks", good=True, text=f"made by {settings.tasks.environment} when the run begins")
        return
    try:
        tasks = load_tasks(settings)
    except UsageError as error:
        yield Check(name="tasks", good=False, text=str(error))
        return
    yield Check(name="tasks", good=True, text=f"{len(tasks):,} tasks for {settings.episodes:,} episodes")


def _trust(settings: Settings) -> Iterator[Check]:
    """What the run-time checks need; a scripted world has none."""
    experience = settings.experience
    if experience.kind == "scripted":
        return
    from dreamsim.cli.trust import check_reality, gate_of
    from dreamsim.experience.rules import load_rules

    try:
        gate = gate_of(experience.gate)
        if experience.gate.mode == "real":
            check_reality(settings.tasks.environment)
        if "rules" in experience.verify.by and experience.verify.rules is not None:
            load_rules(experience.verify.rules)
    except UsageError as error:
        yield Check(name="trust", good=False, text=str(error))
        return
    verified = f"verified by {', '.join(experience.verify.by) or 'nobody'}"
    guard = f"gate {'off' if gate is None else gate.mode}"
    cached = "transition cache " + ("on" if experience.cache.enabled else "off")
    yield Check(name="trust", good=True, text=f"ledger {experience.check.mode}, {verified}, {guard}, {cached}")


def dry_run(settings: Settings, checks: Sequence[Check]) -> int:
    """Print the settings and what was looked at; returns the exit code."""
    from dreamsim.cli.help_text import render_toml

    print(render_toml(settings))
    for check in checks:
        print(f"{'ok ' if check.good else 'BAD'} {check.name:<12}{check.text}")
    return exits.DONE if all(check.good for check in checks) else exits.USAGE


def require_good(checks: Sequence[Check]) -> None:
    """Raises: UsageError: something is bad; all of it is said."""
    bad = [check for check in checks if not check.good]
    if bad:
        raise UsageError("\n".join(check.text for check in bad))
