"""`dreamsim doctor`: what is wrong here, and what to do.

In: a store, a run's directory, settings; none of them need be given. Out: one line per thing looked at, or JSON; exit
code 1 if anything is wrong. Always: nothing is changed: no file is written, no store migrated, no lock kept, no model
loaded and no engine started; a model server that the settings name is asked which models it has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from dreamsim.cli import doctor_machine, doctor_servers, exits
from dreamsim.cli.arguments import Parser
from dreamsim.cli.checks import check_parts
from dreamsim.cli.run_directory import CONFIG, SUMMARY, store_path
from dreamsim.protocols import Encoder
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.store.inspection import Finding, inspect_store
from dreamsim.store.lexical import LexicalEncoder

MARKS = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}

EPILOG = """Examples:
  dreamsim doctor                               the machine, and the settings' defaults
  dreamsim doctor --run runs/20261121-093000    also a run: its settings, its store, its index, its lock
  dreamsim doctor --store my.sqlite --json
  dreamsim doctor --policy.url http://gpu-box:8000/v1 --policy.model NAME --concurrency 4096

Every other option is a setting: see `python -m dreamsim.run --help`. Exit code 0: nothing is wrong (there may be
warnings); 1: something is; 2: an argument cannot be used."""


def parser() -> argparse.ArgumentParser:
    """The verb's own arguments; the rest are settings."""
    made = Parser(
        prog="dreamsim doctor",
        usage="dreamsim doctor [--store FILE] [--run DIRECTORY] [--json] [--SETTING VALUE ...]",
        description="Looks at versions, limits, models, disk and, if they are named, at servers, a store and a run. "
        "Changes nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--store", type=Path, metavar="FILE", help="a store's file")
    made.add_argument("--run", type=Path, metavar="DIRECTORY", help="a run's directory: its settings and its store")
    made.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    given, rest = parser().parse_known_args(list(arguments))
    findings = list(diagnose(given.store, given.run, rest))
    wrong = sum(finding.level == "wrong" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if given.json:
        told = {"wrong": wrong, "warnings": warnings, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        print("\n".join(shown(finding) for finding in findings))
        print(f"\n{wrong} wrong, {warnings} warnings, {len(findings)} things looked at; nothing was changed")
    return exits.FAILED if wrong else exits.DONE


def shown(finding: Finding) -> str:
    """A finding as a line, and what to do as another."""
    line = f"{MARKS[finding.level]} {finding.name:<18} {finding.text}"
    return f"{line}\n{'':<27}-> {finding.advice}" if finding.advice else line


def diagnose(store: Path | None, run: Path | None, rest: Sequence[str]) -> Iterator[Finding]:
    """Everything looked at.

    Args:
        rest: settings, as on the command line.

    Raises:
        UsageError: one of them cannot be used.
    """
    config = None if run is None else run / CONFIG
    there = config is not None and config.is_file()
    settings = load_settings(parse_arguments(rest), first=(config,) if config is not None and there else ())
    yield from doctor_machine.versions()
    yield doctor_machine.java(settings)
    yield from doctor_machine.limits(settings)
    yield from doctor_machine.memory(settings)
    yield from _engines(settings)
    if run is not None:
        yield from _run(run, there=there)
        store = store_path(settings, run.absolute()) if store is None and there else store
    if store is not None:
        yield from inspect_store(store.absolute(), _encoder(settings))
    yield doctor_machine.disk((store or run or Path.cwd()).absolute())


def _engines(settings: Settings) -> Iterator[Finding]:
    for check in check_parts(settings):
        yield Finding(name=check.name, level="ok" if check.good else "wrong", text=check.text)
    yield from doctor_machine.tokenizers(settings)
    yield from doctor_servers.servers(settings)


def _run(run: Path, *, there: bool) -> Iterator[Finding]:
    if not there:
        text = f"{run} holds no run: there is no {CONFIG}"
        yield Finding(name="run", level="wrong", text=text, advice="name the directory that the run printed")
        return
    summary = run / SUMMARY
    if summary.is_file():
        try:
            told = json.loads(summary.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            advice = f"go on with --run.resume {run}: it is written again"
            yield Finding(name="run", level="warning", text=f"{summary} cannot be read: {error}", advice=advice)
            return
        yield Finding(name="run", level="ok", text=f"ended with exit code {told.get('exit_code')}")
    else:
        advice = f"if it is not running, go on with it: python -m dreamsim.run --run.resume {run}"
        yield Finding(name="run", level="warning", text="it has no summary: it runs, or was killed", advice=advice)


def _encoder(settings: Settings) -> Encoder | None:
    """The encoder, where it can be had without loading a model or asking a server."""
    return LexicalEncoder() if settings.store.encoder == "lexical" else None
