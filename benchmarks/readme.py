"""The commands on the README's first screen, in a fresh clone and an empty environment.

In: the README of the commit measured. Out: `readme_commands`: the share of commands that succeed.
Always: the clone holds what is committed and nothing else; of the environment only the way to a package index, the
certificates and the path of the system are passed on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from dreamsim.evaluation.intervals import Estimate

ROOT = Path(__file__).parents[1]
KEPT = ("PATH", "LANG", "TERM", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
KEPT_PREFIXES = ("PIP_", "UV_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def commands(readme: str) -> list[str]:
    """The lines of its first block of shell commands.

    Raises:
        ValueError: there is none.
    """
    found = re.search(r"^```(?:sh|bash|console)\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError("the README has no block of shell commands")
    lines = (line.strip().removeprefix("$ ") for line in found[1].splitlines())
    return [line.partition("  #")[0].strip() for line in lines if line and not line.startswith("#")]


def measure(work: Path, *, seconds: float) -> tuple[dict[str, Estimate], dict[str, list[str]]]:
    """The share, and each command with its exit code. Every command gets at most `seconds`."""
    clone, home = work / "readme" / "clone", work / "readme" / "home"
    shutil.rmtree(work / "readme", ignore_errors=True)
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    environment["HOME"] = str(home)
    said: list[str] = []
    passed = 0
    wanted = [
        command
        for command in commands((clone / "README.md").read_text(encoding="utf-8"))
        if not command.startswith(("git clone", "cd "))
    ]
    for number, command in enumerate(wanted):
        with (work / "readme" / f"command-{number}.txt").open("w") as output:
            try:
                code = subprocess.run(
                    ["bash", "-c", command],
                    cwd=clone,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=seconds,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
        passed += code == 0
        said.append(f"{command}: {code}")
    value = passed / len(wanted) if wanted else None
    return {"readme_commands": Estimate(value=value, low=None, high=None, n=len(wanted))}, {"commands": said}
