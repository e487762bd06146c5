"""`python -m dreamsim.run`: thousands of episodes from one command.

In: flags, environment, TOML files (`--help` lists them). Out: a run directory, a summary, an exit code.
Always: a setting that cannot be used is one line and exit code 2, before anything is made.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from functools import partial

from dreamsim.cli import exits
from dreamsim.cli.visible import visible
from dreamsim.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    started = time.monotonic()
    try:
        return _main(sys.argv[1:] if arguments is None else arguments, started)
    except UsageError as error:
        for line in str(error).splitlines():
            print(f"dreamsim: {visible(line)}", file=sys.stderr)
        return exits.USAGE


def _main(arguments: Sequence[str], started: float) -> int:
    from dreamsim.runtime.settings_sources import parse_arguments

    command = parse_arguments(arguments)
    if "help" in command.switches:
        from dreamsim.cli.help_text import render_help

        print(render_help())
        return exits.DONE
    from dreamsim.cli.checks import check_settings, dry_run, require_good
    from dreamsim.cli.run_directory import prepare, settings_of

    settings = settings_of(command)
    checks = check_settings(settings)
    if "dry-run" in command.switches:
        return dry_run(settings, checks)
    require_good(checks)

    import anyio

    from dreamsim.cli.display import make_display
    from dreamsim.cli.logs import run_log
    from dreamsim.cli.play import run
    from dreamsim.cli.terminal import captured

    directory = prepare(settings)
    with captured(directory.path / "logs" / "engine.log") as terminal, run_log(directory.log):
        display = make_display(settings.display.mode, settings.display.interval_s, terminal.out)
        return anyio.run(
            partial(run, settings, directory, display, started=started),
            backend_options={"use_uvloop": importlib.util.find_spec("uvloop") is not None},
        )


if __name__ == "__main__":
    exits.leave(main())
