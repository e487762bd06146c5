"""Rules of the user's own: when a task of some environment succeeds or fails.

In: a TOML or JSON file (docs/verification.md has the format). Out: a `RuleVerifier`.
Always:
- a file with a mistake is refused as a whole, and every mistake is named with its line;
- rules are patterns over state lines, the action and the instruction; nothing in the file is ever executed;
- the first rule of the file that holds decides; a task that no rule speaks about is left undecided.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from dreamsim.errors import ConfigurationError, RecordError
from dreamsim.experience.patterns import Pattern, folded, parse_pattern
from dreamsim.protocols import LedgerSession
from dreamsim.records.episode import Transition
from dreamsim.records.fields import Fields, read_texts
from dreamsim.records.task import Task
from dreamsim.records.trust import Verdict

Otherwise = Literal["running", "unknown"]
OTHERWISE: Final[tuple[Otherwise, ...]] = ("running", "unknown")
_HEADER: Final = re.compile(r"^\s*\[\[\s*rule\s*\]\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """When a task has succeeded, or failed."""

    state: tuple[Pattern, ...] = ()
    """Each of them is a line of the state after the step."""
    absent: tuple[Pattern, ...] = ()
    """None of them is a line of that state."""
    action: Pattern | None = None
    """The step's action."""

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """All of them."""
        return (*self.state, *self.absent, *(() if self.action is None else (self.action,)))

    def holds(self, lines: Sequence[str], action: str, values: Mapping[str, str]) -> bool:
        """Whether it holds for `folded` state lines and action, names standing for `values`."""

        def there(pattern: Pattern) -> bool:
            wanted = pattern.filled(values)
            return any(wanted.match(line) is not None for line in lines)

        if self.action is not None and self.action.filled(values).match(action) is None:
            return False
        return all(there(pattern) for pattern in self.state) and not any(there(pattern) for pattern in self.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule."""

    name: str
    """For the verdict's reason."""
    environment: Pattern | None
    """Which environments it speaks about; None is all."""
    instruction: Pattern | None
    """Which instructions it speaks about, and what its names stand for; None is all."""
    success: Condition | None
    """When the task is solved."""
    failure: Condition | None
    """When the task is lost."""
    otherwise: Otherwise
    """Whether a step at which it does not hold leaves the task running, or leaves that open."""

    def values(self, task: Task) -> Mapping[str, str] | None:
        """What its names stand for in `task`; None if it does not speak about it."""
        if self.environment is not None and self.environment.match(folded(task.environment)) is None:
            return None
        return {} if self.instruction is None else self.instruction.match(folded(task.instruction))


class RuleVerifier:
    """Says what the user's rules say."""

    def __init__(self, rules: Sequence[Rule], *, name: str = "rules") -> None:
        self._rules = tuple(rules)
        self._name = name

    @property
    def name(self) -> str:
        """`rules:`, the file's name and a hash of its content."""
        return self._name

    async def verify(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        books: LedgerSession | None = None,
    ) -> Verdict:
        """The first rule that holds decides; `before` and `books` do not matter."""
        return self.verdict(task, transition)

    def verdict(self, task: Task, transition: Transition) -> Verdict:
        """What the rules say of a step."""
        lines = [folded(line) for line in transition.state.lines]
        action = folded(transition.action)
        outcome: Literal["running"] | None = None
        reason = "no rule speaks about this task"
        for rule in self._rules:
            values = rule.values(task)
            if values is None:
                continue
            if rule.success is not None and rule.success.holds(lines, action, values):
                return Verdict(verifier=self._name, outcome="success", reason=f"{rule.name}: success holds")
            if rule.failure is not None and rule.failure.holds(lines, action, values):
                return Verdict(verifier=self._name, outcome="failure", reason=f"{rule.name}: failure holds")
            if rule.success is not None and rule.otherwise == "running":
                outcome, reason = "running", f"{rule.name}: success does not hold yet"
            elif outcome is None:
                reason = f"{rule.name} does not hold, and leaves open what else there is"
        return Verdict(verifier=self._name, outcome=outcome, reason=reason)


def load_rules(path: Path) -> RuleVerifier:
    """The verifier of a rule file: `.json`, or else TOML. Blocks.

    Raises:
        ConfigurationError: it cannot be read, or a rule is wrong; names every mistake with its line.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"rules: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"rules: {path} is not UTF-8: {error.reason}") from error
    rules = parse_rules(text, kind="json" if path.suffix == ".json" else "toml", source=str(path))
    digest = hashlib.blake2b(content, digest_size=4).hexdigest()
    return RuleVerifier(rules, name=f"rules:{path.stem}@{digest}")


def parse_rules(text: str, *, kind: Literal["toml", "json"], source: str = "rules") -> tuple[Rule, ...]:
    """The rules in `text`; `source` is what mistakes are said to be in.

    Raises:
        ConfigurationError: names every mistake with its line.
    """
    try:
        parsed: Any = tomllib.loads(text) if kind == "toml" else json.loads(text)
        top = Fields(parsed)
        entries = top.value("rule")
        top.finish()
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not {kind.upper()}: {error}") from error
    except RecordError as error:
        raise ConfigurationError(f"{source}: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{source}: rule: must be a list of rules, at least one")
    rules: list[Rule] = []
    problems: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            rules.append(_rule(entry, number))
        except RecordError as error:
            line = _line_of(text, number, error.field) if kind == "toml" else None
            problems.append(f"{source}{'' if line is None else f':{line}'}: rule {number}: {error}")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return tuple(rules)


def _rule(entry: object, number: int) -> Rule:
    fields = Fields(entry)
    rule = Rule(
        name=fields.text("name", f"rule {number}"),
        environment=_pattern(fields, "environment"),
        instruction=_pattern(fields, "instruction"),
        success=_condition(fields, "success"),
        failure=_condition(fields, "failure"),
        otherwise=fields.choice("otherwise", OTHERWISE, "running"),
    )
    fields.finish()
    if rule.success is None and rule.failure is None:
        raise RecordError("success", "is missing, and so is failure: a rule says when a task succeeds or fails")
    if rule.environment is not None and rule.environment.names:
        raise RecordError("environment", "takes {} for anything, but no names")
    captured = () if rule.instruction is None else rule.instruction.places
    doubled = sorted(name for name in set(captured) - {""} if captured.count(name) > 1)
    if doubled:
        raise RecordError("instruction", f"has {{{doubled[0]}}} twice")
    for where, condition in (("success", rule.success), ("failure", rule.failure)):
        _check_names(where, condition, frozenset(captured))
    return rule


def _check_names(where: str, condition: Condition | None, captured: frozenset[str]) -> None:
    for pattern in () if condition is None else condition.patterns:
        unknown = sorted(pattern.names - captured)
        if unknown:
            known = ", ".join(sorted(captured - {""})) or "none"
            raise RecordError(
                where, f"{pattern.text!r}: {{{unknown[0]}}} is no name of the instruction (it has {known})"
            )


def _pattern(fields: Fields, name: str) -> Pattern | None:
    text = fields.optional_text(name)
    return None if text is None else parse_pattern(text, fields.path(name))


def _condition(fields: Fields, name: str) -> Condition | None:
    if not fields.has(name):
        return None
    value = fields.value(name)
    where = fields.path(name)
    if isinstance(value, list):
        made = Condition(state=_patterns(read_texts(value, where), where))
    else:
        inner = Fields(value, where)
        made = Condition(
            state=_patterns(inner.texts("state"), inner.path("state")),
            absent=_patterns(inner.texts("not"), inner.path("not")),
            action=_pattern(inner, "action"),
        )
        inner.finish()
    if not made.patterns:
        raise RecordError(where, "is empty, and would hold at every step")
    return made


def _patterns(texts: Iterable[str], where: str) -> tuple[Pattern, ...]:
    return tuple(parse_pattern(text, f"{where}[{index}]") for index, text in enumerate(texts))


def _line_of(text: str, rule: int, field: str) -> int | None:
    """The line on which the mistake of a TOML file most likely is: that of the field, else that of its rule."""
    first = re.escape(re.split(r"[.\[]", field)[0])
    key = re.compile(rf"^\s*\"?{first}\"?\s*[=.]")
    seen = 0
    header: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER.match(line):
            seen += 1
            if seen == rule:
                header = number
        elif seen == rule and key.match(line):
            return number
        if seen > rule:
            break
    return header
