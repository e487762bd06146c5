"""What is left after a kill: whether anything acknowledged is lost, anything doubled, anything damaged.

In: the files of a run, copied, so that looking changes nothing for the next sitting; the acknowledgements. Out: what
is wrong, in words. Always: the database is opened by plain sqlite3, as anybody's would be.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from dreamsim.records.quality import EVERYTHING, QualityFilter
from dreamsim.store.index import ExperienceIndex
from dreamsim.store.lexical import LexicalEncoder

STORE = "store.sqlite"
DOUBLED = {
    "doubled: an episode is stored twice": "SELECT 1 FROM episodes GROUP BY id HAVING count(*) > 1",
    "doubled: a task was played twice": "SELECT 1 FROM episodes GROUP BY run, task_key, repeat HAVING count(*) > 1",
    "an episode has other steps than it says": "SELECT 1 FROM episodes e LEFT JOIN steps s ON s.episode = e.number "
    "GROUP BY e.number HAVING count(s.id) != e.step_count OR (e.step_count > 0 AND max(s.step) != e.step_count - 1)",
}
"""What must find no row."""


def look(directory: Path, acknowledged: Path, scratch: Path, quality: QualityFilter = EVERYTHING) -> list[str]:
    """What is wrong with the files of a run whose process is dead."""
    acks = set(acknowledged.read_text().split()) if acknowledged.is_file() else set()
    acks.discard("")
    store = directory / STORE
    if not store.is_file():
        return [f"{len(acks)} acknowledged episodes, and no store"] if acks else []
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for path in directory.glob(STORE + "*"):
        if path.is_dir():
            shutil.copytree(path, scratch / path.name)
        else:
            shutil.copy2(path, scratch / path.name)
    with closing(sqlite3.connect(scratch / STORE)) as connection:
        return [*_rows(connection, acks), *_index(connection, scratch / (STORE + ".index"), quality)]


def _rows(connection: sqlite3.Connection, acknowledged: set[str]) -> list[str]:
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:  # killed before the tables were made
        return [f"{len(acknowledged)} acknowledged episodes, and no tables"] if acknowledged else []
    said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    wrong = [] if said == ["ok"] else [f"integrity_check: {said[:3]}"]
    if connection.execute("PRAGMA foreign_key_check").fetchall():
        wrong.append("a row refers to one that is not there")
    stored = [row[0] for row in connection.execute("SELECT id FROM episodes")]
    if lost := acknowledged - set(stored):
        wrong.append(f"lost: {len(lost)} of {len(acknowledged)} acknowledged episodes")
    wrong += [what for what, statement in DOUBLED.items() if connection.execute(statement).fetchone()]
    return wrong


def _index(connection: sqlite3.Connection, directory: Path, quality: QualityFilter) -> list[str]:
    if not directory.is_dir():
        return []
    index = ExperienceIndex(LexicalEncoder(), quality)
    reason = index.load(directory, connection)
    if reason is not None:  # refused, and made again from the rows; but after a kill nothing may look damaged
        return [] if reason == "manifest.json is missing" else [f"the index was left unusable: {reason}"]
    while index.catch_up(connection):
        pass
    different = index.disagreement(connection, sample=None)
    return [] if different is None else [f"the index disagrees with the database: {different}"]


def records(directory: Path) -> dict[str, str]:
    """Everything an undisturbed run and a killed one must have in common: a digest of each episode, by its id."""
    with closing(sqlite3.connect(f"file:{directory / STORE}?mode=ro", uri=True)) as connection:
        episodes = connection.execute(
            "SELECT number, id, task_key, repeat, outcome, error_kind, step_count, total_reward FROM episodes"
        ).fetchall()
        steps = "SELECT step, action, next_state, reward, outcome FROM steps WHERE episode = ? ORDER BY step"
        return {
            row[1]: hashlib.blake2b(
                repr((row[1:], connection.execute(steps, (row[0],)).fetchall())).encode(), digest_size=12
            ).hexdigest()
            for row in episodes
        }


def compare(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs between an undisturbed run's records and those of one that was killed and resumed."""
    wrong = []
    if missing := wanted.keys() - found.keys():
        wrong.append(f"lost: {len(missing)} tasks of the undisturbed run have no episode")
    if more := found.keys() - wanted.keys():
        wrong.append(f"doubled: {len(more)} episodes that the undisturbed run does not have")
    if different := [key for key in wanted.keys() & found.keys() if wanted[key] != found[key]]:
        wrong.append(f"{len(different)} episodes differ from those of the undisturbed run")
    return wrong


def accounted(directory: Path, expected: int) -> list[str]:
    """What is wrong with a run whose engine was killed: each task has one episode, and failed ones say why."""
    with closing(sqlite3.connect(f"file:{directory / STORE}?mode=ro", uri=True)) as connection:
        kinds = dict(connection.execute("SELECT coalesce(error_kind, ''), count(*) FROM episodes GROUP BY 1"))
    stored = sum(kinds.values())
    wrong = [] if stored == expected else [f"lost: {stored} episodes for {expected} tasks"]
    if foreign := kinds.keys() - {"", "engine"}:
        wrong.append(f"episodes ended for other reasons than the engine: {sorted(foreign)}")
    return [*wrong, *summary_of(directory, expected)]


def summary_of(directory: Path, expected: int) -> list[str]:
    """What is wrong with the summary of a run that is over."""
    said = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    stored = said["episodes_stored"]
    return [] if stored == expected else [f"the summary counts {stored} episodes of {expected}"]
