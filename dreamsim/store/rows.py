"""Episodes to rows and back.

In: `Episode`s and an sqlite3 connection. Out: rows; or the same episodes again. Always:
- what was written is read back equal, except that text which is no valid Unicode gets U+FFFD in its place, and that
  a dreamed episode's generation is at least 1 + the greatest of the stored episodes that it was shown;
- an episode already there is left as it is, so writing is idempotent by id;
- a row that holds what nobody here writes (a file from elsewhere, a damaged one) is a `ValueError`;
- a step's prompt is kept as what it adds to the step before, because whole histories would grow with the
  square of an episode's length.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsim.records.codec import FINISH_REASONS
from dreamsim.records.completion import Completion, Decision, empty_ids
from dreamsim.records.episode import EPISODE_OUTCOMES, PURPOSES, SOURCES, STEP_OUTCOMES, Episode, Transition
from dreamsim.records.experience import Experience, embedding_text
from dreamsim.records.fields import array_bytes
from dreamsim.records.quality import is_verified, kept_contradictions
from dreamsim.records.state import State, StateMemory, changes
from dreamsim.records.task import Task
from dreamsim.records.trust import Trust
from dreamsim.records.trust_codec import trust_from_json, trust_to_json
from dreamsim.store.columns import (
    EPISODE_TYPES,
    EXPERIENCE_TYPES,
    STEP_TYPES,
    check_row,
    one_of,
    read_lines,
    read_object,
    read_scores,
)

STEP_COLUMNS = (
    "episode, step, state, action, changes, next_state, reasoning, reward, outcome, score, admissible, "
    "samples, retrieved, text_hash, decision_action, thought, prompt_shared, prompt_ids, completion_ids, "
    "completion_logprobs, finish_reason, prompt_tokens, cached_tokens, policy_version, trust"
)
_INSERT_STEP = f"INSERT INTO steps ({STEP_COLUMNS}) VALUES ({', '.join('?' * len(STEP_COLUMNS.split(',')))})"
_INSERT_EPISODE = (
    "INSERT INTO episodes (id, run, task_key, environment, fold, repeat, source, purpose, outcome, "
    "error_kind, error_message, policy, experience_model, started_at, duration_s, step_count, total_reward, "
    "generation, quality, contradictions, verified) "
    f"VALUES ({', '.join('?' * 21)}) ON CONFLICT (id) DO NOTHING"
)
_INSERT_TASK = "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"

EPISODE_QUERY = (
    "SELECT e.number, e.id, e.run, e.repeat, e.source, e.purpose, e.outcome, e.error_kind, e.error_message, "
    "e.policy, e.experience_model, e.started_at, e.duration_s, "
    "t.environment, t.instruction, t.first_state, t.fold, t.seed, t.parameters, e.generation, e.quality "
    "FROM episodes e JOIN tasks t ON t.key = e.task_key"
)
_EXPERIENCE_QUERY = (
    "SELECT s.id, e.id, s.step, e.task_key, e.environment, e.fold, e.source, t.instruction, s.state, "
    "s.action, s.changes, s.next_state, s.reasoning, s.reward, s.outcome, "
    "e.generation, e.quality, e.policy, e.experience_model, s.trust "
    "FROM steps s JOIN episodes e ON e.number = s.episode JOIN tasks t ON t.key = e.task_key WHERE s.id IN "
)


class Written(NamedTuple):
    """What a transaction added; episodes that were there before are not counted."""

    episodes: int
    steps: int


def write_episodes(connection: sqlite3.Connection, episodes: Iterable[Episode]) -> Written:
    """Write `episodes` in one transaction. All or none are committed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        new = [len(episode.transitions) for episode in episodes if _write_episode(connection, episode)]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return Written(episodes=len(new), steps=sum(new))


def write_scores(connection: sqlite3.Connection, scores: Mapping[str, Mapping[str, float]]) -> int:
    """Add scores (episode id -> name -> score) in one transaction. Returns how many of the episodes are stored."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        statement = "UPDATE episodes SET quality = json_patch(quality, ?) WHERE id = ?"
        found = [
            connection.execute(statement, (_scores(named), _text(name))).rowcount for name, named in scores.items()
        ]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return sum(found)


def _scores(named: Mapping[str, float]) -> str:
    floats = {name: float(score) for name, score in named.items()}
    return _text(json.dumps(floats, ensure_ascii=False, separators=(",", ":")))


def _write_episode(connection: sqlite3.Connection, episode: Episode) -> bool:
    task = episode.task
    parameters = json.dumps(dict(task.parameters), separators=(",", ":"))
    connection.execute(
        _INSERT_TASK,
        (
            task.key,
            _text(task.environment),
            _text(task.instruction),
            _lines(task.first_state.lines),
            _text(task.fold),
            task.seed,
            parameters,
        ),
    )
    cursor = connection.execute(
        _INSERT_EPISODE,
        (
            _text(episode.id),
            _text(episode.run),
            task.key,
            _text(task.environment),
            _text(task.fold),
            episode.repeat,
            episode.source,
            episode.purpose,
            episode.outcome,
            _optional_text(episode.error_kind),
            _optional_text(episode.error_message),
            _text(episode.policy),
            _text(episode.experience_model),
            float(episode.started_at),
            float(episode.duration_s),
            len(episode.transitions),
            episode.total_reward,
            _generation(connection, episode),
            _scores(episode.quality),
            kept_contradictions(episode.transitions),
            is_verified(episode.transitions),
        ),
    )
    if not cursor.rowcount:
        return False
    connection.executemany(_INSERT_STEP, _step_rows(cursor.lastrowid, episode))
    return True


def _generation(connection: sqlite3.Connection, episode: Episode) -> int:
    if episode.source == "real":
        return 0
    shown = {retrieved.rpartition(":")[0] for step in episode.transitions for retrieved in step.retrieved}
    if not shown:
        return episode.generation
    statement = "SELECT max(generation) FROM episodes WHERE id IN (SELECT value FROM json_each(?))"
    (deepest,) = connection.execute(statement, (_lines(sorted(shown)),)).fetchone()
    return max(episode.generation, 1 + (deepest or 0))


def _step_rows(number: int | None, episode: Episode) -> Iterator[tuple[Any, ...]]:
    state = episode.task.first_state
    memory = StateMemory(state)
    seen = empty_ids()
    before = _lines(state.lines)
    for index, transition in enumerate(episode.transitions):
        after = _lines(transition.state.lines)  # what the next step begins with
        changed = changes(memory, transition.state)
        memory.see(transition.state)
        decision_columns, seen = _decision_columns(transition.decision, seen)
        yield (
            number,
            index,
            before,
            _text(transition.action),
            _lines(changed),
            after,
            _text(transition.reasoning),
            float(transition.reward),
            transition.outcome,
            None if transition.score is None else float(transition.score),
            _lines(transition.admissible),
            transition.samples,
            _lines(transition.retrieved),
            text_hash(embedding_text(state.lines, transition.action)),
            *decision_columns,
            None if transition.trust is None else _trust_text(transition.trust),
        )
        state, before = transition.state, after


def _decision_columns(decision: Decision | None, seen: NDArray[np.int32]) -> tuple[tuple[Any, ...], NDArray[np.int32]]:
    """The columns of a decision, and the ids that the next step's prompt may begin with."""
    if decision is None:
        return (None,) * 10, empty_ids()
    prompt = decision.prompt_token_ids
    shared = _shared(prompt, seen)
    start = (_text(decision.action), _text(decision.thought), shared, array_bytes(prompt[shared:], np.int32))
    completion = decision.completion
    if completion is None:
        return (*start, *(None,) * 6), prompt
    row = (
        *start,
        array_bytes(completion.token_ids, np.int32),
        array_bytes(completion.logprobs, np.float32),
        completion.finish_reason,
        completion.prompt_tokens,
        completion.cached_tokens,
        _text(completion.version),
    )
    return row, np.concatenate([prompt, completion.token_ids])


def _shared(prompt: NDArray[np.int32], seen: NDArray[np.int32]) -> int:
    length = min(prompt.size, seen.size)
    different = np.flatnonzero(prompt[:length] != seen[:length])
    return int(different[0]) if different.size else length


def read_episodes(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> list[Episode]:
    """The episodes of rows of `EPISODE_QUERY`."""
    result = []
    for row in rows:
        steps = connection.execute(f"SELECT {STEP_COLUMNS} FROM steps WHERE episode = ? ORDER BY step", (row[0],))
        result.append(_read_episode(row, steps))
    return result


def _read_episode(row: tuple[Any, ...], steps: Iterable[tuple[Any, ...]]) -> Episode:
    check_row(row, EPISODE_TYPES)
    task = Task(
        environment=row[13],
        instruction=row[14],
        first_state=State(lines=read_lines(row[15])),
        fold=row[16],
        seed=row[17],
        parameters=read_object(row[18]),
    )
    return Episode(
        id=row[1],
        run=row[2],
        task=task,
        repeat=row[3],
        source=one_of(row[4], SOURCES),
        purpose=one_of(row[5], PURPOSES),
        transitions=tuple(_read_transitions(steps)),
        outcome=one_of(row[6], EPISODE_OUTCOMES),
        error_kind=row[7],
        error_message=row[8],
        policy=row[9],
        experience_model=row[10],
        started_at=row[11],
        duration_s=row[12],
        generation=row[19],
        quality=read_scores(row[20]),
    )


def _read_transitions(steps: Iterable[tuple[Any, ...]]) -> Iterator[Transition]:
    seen = empty_ids()
    for row in steps:
        check_row(row, STEP_TYPES)
        decision, seen = _read_decision(row[14:24], seen)
        yield Transition(
            action=row[3],
            state=State(lines=read_lines(row[5])),
            reasoning=row[6],
            reward=row[7],
            outcome=one_of(row[8], STEP_OUTCOMES),
            score=row[9],
            admissible=read_lines(row[10]),
            samples=row[11],
            retrieved=read_lines(row[12]),
            decision=decision,
            trust=_read_trust(row[24]),
        )


def _trust_text(trust: Trust) -> str:
    return _text(json.dumps(trust_to_json(trust), ensure_ascii=False, separators=(",", ":")))


def _read_trust(text: str | None) -> Trust | None:
    return None if text is None else trust_from_json(json.loads(text))


def _read_decision(row: tuple[Any, ...], seen: NDArray[np.int32]) -> tuple[Decision | None, NDArray[np.int32]]:
    action, thought, shared, prompt_ids, completion_ids, logprobs, reason, prompt_tokens, cached, version = row
    if action is None:
        return None, empty_ids()
    prompt = np.concatenate([seen[:shared], np.frombuffer(prompt_ids, dtype="<i4")]).astype(np.int32)
    completion = None
    if completion_ids is not None:
        completion = Completion(
            token_ids=np.frombuffer(completion_ids, dtype="<i4").astype(np.int32),
            logprobs=np.frombuffer(logprobs, dtype="<f4").astype(np.float32),
            finish_reason=one_of(reason, FINISH_REASONS),
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            version=version,
        )
    decision = Decision(action=action, thought=thought, prompt_token_ids=prompt, completion=completion)
    return decision, prompt if completion is None else np.concatenate([prompt, completion.token_ids])


def read_experiences(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Experience]:
    """The steps with these row ids, as experiences."""
    marks = ", ".join("?" * len(ids))
    return {row[0]: _read_experience(row) for row in connection.execute(f"{_EXPERIENCE_QUERY}({marks})", ids)}


def _read_experience(row: tuple[Any, ...]) -> Experience:
    check_row(row, EXPERIENCE_TYPES)
    return Experience(
        id=f"{row[1]}:{row[2]}",
        episode_id=row[1],
        task_key=row[3],
        environment=row[4],
        fold=row[5],
        source=one_of(row[6], SOURCES),
        instruction=row[7],
        state=read_lines(row[8]),
        action=row[9],
        changes=read_lines(row[10]),
        next_state=read_lines(row[11]),
        reasoning=row[12],
        reward=row[13],
        outcome=one_of(row[14], STEP_OUTCOMES),
        generation=row[15],
        quality=read_scores(row[16]),
        policy=row[17],
        experience_model=row[18],
        trust=_read_trust(row[19]),
    )


def text_hash(text: str) -> int:
    """64 bits of a hash of `text`, signed as SQLite's integers are."""
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _optional_text(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _lines(lines: Sequence[str]) -> str:
    return _text(json.dumps(lines, ensure_ascii=False, separators=(",", ":")))
