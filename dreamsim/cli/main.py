"""`dreamsim VERB`: everything that can be done from a terminal.

In: command-line arguments. Out: an exit code. Always: a verb imports what it needs when it is called, so that
`dreamsim --help` is quick and a missing extra bothers only the verb that needs it; what the user gave wrongly is one
line and exit code 2.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from dreamsim.cli import exits
from dreamsim.cli.visible import visible
from dreamsim.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb and where it is done."""

    name: str
    """As written."""
    text: str
    """What it does, in a line."""
    module: str
    """Where it is done."""
    entry: str = "main"
    """The function of that module that takes the arguments and returns the exit code."""


VERBS = (
    Verb(name="run", text="run episodes inside an experience model", module="dreamsim.run"),
    Verb(name="ctl", text="look at a live run, pause it, lower its limit, end episodes", module="dreamsim.cli.ctl"),
    Verb(name="episodes", text="list stored episodes, or follow one of them", module="dreamsim.cli.episodes"),
    Verb(name="collect", text="play a real environment, as experience to dream from", module="dreamsim.cli.collect"),
    Verb(
        name="tasks", text="list tasks of a real environment with their first states", module="dreamsim.cli.make_tasks"
    ),
    Verb(
        name="import",
        text="take logged trajectories (JSONL) into a store",
        module="dreamsim.cli.transfer",
        entry="import_main",
    ),
    Verb(name="doctor", text="say what is wrong here, and what to do", module="dreamsim.cli.doctor"),
    Verb(name="export", text="write stored episodes as JSONL", module="dreamsim.cli.transfer", entry="export_main"),
    Verb(name="train", text="train a policy on dreamed and real episodes", module="dreamsim.cli.train"),
    Verb(name="evaluate", text="measure a policy on held-out games", module="dreamsim.cli.evaluate"),
    Verb(name="fidelity", text="measure how far a dream is from reality", module="dreamsim.cli.fidelity"),
    Verb(
        name="annotate", text="let a teacher model write the reasoning of logged steps", module="dreamsim.cli.annotate"
    ),
    Verb(name="judge", text="let a model score dreamed steps by four criteria", module="dreamsim.cli.judge"),
    Verb(
        name="train-experience-model",
        text="train a model to dream an environment",
        module="dreamsim.cli.train_experience_model",
    ),
    Verb(name="train-policy", text="clone a policy from successful episodes", module="dreamsim.cli.train_policy"),
)


def usage() -> str:
    """What `dreamsim --help` prints."""
    width = max(len(verb.name) for verb in VERBS)
    lines = ["Usage: dreamsim VERB ...; `dreamsim VERB --help` says more.", ""]
    lines += [f"  {verb.name:<{width}}  {verb.text}" for verb in VERBS]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return exits.DONE if given else exits.USAGE
    verb = next((verb for verb in VERBS if verb.name == given[0]), None)
    if verb is None:
        near = difflib.get_close_matches(given[0], [verb.name for verb in VERBS], n=1)
        offer = f"did you mean '{near[0]}'?" if near else "`dreamsim --help` names them all"
        print(f"dreamsim: there is no verb '{given[0]}'; {offer}", file=sys.stderr)
        return exits.USAGE
    from dreamsim.cli.logs import warnings_only

    try:
        entry: Callable[[Sequence[str]], int] = getattr(importlib.import_module(verb.module), verb.entry)
        with warnings_only():
            return entry(given[1:])
    except UsageError as error:
        for line in str(error).splitlines():
            print(f"dreamsim: {visible(line)}", file=sys.stderr)
        return exits.USAGE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left, as in `dreamsim episodes | head`
        sys.stderr.close()
        return exits.DONE


def script() -> NoReturn:
    """The installed command `dreamsim`."""
    exits.leave(main())


if __name__ == "__main__":
    script()
