"""The values a plan is made of: tasks, the ways to do one, specialists and the plan itself.

Unaware of files, git, time and how anything is run. A value checks nothing here beyond its own shape: what is wrong
with a plan is told by `plan.check`, everything at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal

import attrs

TaskState = Literal["done", "failed", "skipped", "cancelled"]
Claims = Literal["strict", "grow"]
OnFailure = Literal["isolate", "rollback-scope", "rollback-level", "stop"]
Isolation = Literal["overlay", "worktree"]

FIXPOINT: Final = 0
"""`Task.passes`: go on until a pass changes nothing, ten passes at most."""

MAX_PASSES: Final = 10


def _strings(value: Iterable[str] | str) -> tuple[str, ...]:
    if value.__class__ is tuple:
        return value  # type: ignore[return-value,unused-ignore]  # the hot path: it is as it should be
    return (value,) if isinstance(value, str) else tuple(value)


def _codes(value: Iterable[int]) -> tuple[int, ...]:
    return value if value.__class__ is tuple else tuple(value)  # type: ignore[return-value,unused-ignore]  # as above


@attrs.frozen
class Rewrite:
    """A structural search and replace: ast-grep's pattern language, e.g. `print($A)` -> `log.info($A)`."""

    pattern: str
    replace: str
    language: str


@attrs.frozen
class Codemod:
    """A LibCST command or a function `(path, bytes) -> bytes | None`, by its dotted name (or `file.py:name`)."""

    name: str
    args: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Task:
    """One unit of work for one specialist.

    `writes` and `reads` are repo-relative paths, directories ending in `/`, or globs; without a repo they are plain
    resource names. `after` names tasks whose results this one needs. `estimate_s` and `timeout_s` are seconds.
    `attempts` is the most times it is tried. At most one of `rewrite`, `codemod` and `exec` is given; none means
    the specialist's own way. `containing`, `passes` (`FIXPOINT` = until nothing changes) and `ok_exit` tune those ways.
    `check` are commands that must be green before an attempt with a model counts as done; red ones go back to the model,
    `fix_rounds` times at most. `budget_usd` and `budget_tokens` are the most that all its attempts may spend.
    """

    id: str
    specialist: str
    payload: Any = attrs.field(default=None, kw_only=True)
    goal: str = attrs.field(default="", kw_only=True)
    writes: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    reads: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    after: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    scope: str = attrs.field(default="", kw_only=True)
    estimate_s: float | None = attrs.field(default=None, kw_only=True)
    timeout_s: float | None = attrs.field(default=None, kw_only=True)
    attempts: int = attrs.field(default=3, kw_only=True)
    rewrite: Rewrite | None = attrs.field(default=None, kw_only=True)
    codemod: Codemod | None = attrs.field(default=None, kw_only=True)
    exec: tuple[str, ...] | None = attrs.field(
        default=None, kw_only=True, converter=attrs.converters.optional(_strings)
    )
    containing: str = attrs.field(default="", kw_only=True)
    passes: int = attrs.field(default=1, kw_only=True)
    ok_exit: tuple[int, ...] = attrs.field(default=(0,), kw_only=True, converter=_codes)
    check: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    fix_rounds: int = attrs.field(default=2, kw_only=True)
    budget_usd: float | None = attrs.field(default=None, kw_only=True)
    budget_tokens: int | None = attrs.field(default=None, kw_only=True)

    @property
    def way(self) -> str:
        """`"rewrite"`, `"codemod"`, `"exec"`, or `""` for the specialist's own way."""
        if self.rewrite is not None:
            return "rewrite"
        if self.codemod is not None:
            return "codemod"
        return "exec" if self.exec is not None else ""


_UNSAID: Final = {field.name: field.default for field in attrs.fields(Task)}


def said(task: Task) -> dict[str, Any]:
    """The fields of a task as a plan file has them: one that is as if nothing had been said about it, is left out."""
    values = ((name, getattr(task, name), unsaid) for name, unsaid in _UNSAID.items())
    return {name: value for name, value, unsaid in values if value is not unsaid and value != unsaid}


def _tasks(value: Iterable[Task]) -> tuple[Task, ...]:
    return tuple(value)


Handler = Callable[[Any, Any], Awaitable[Any]]


@attrs.frozen
class Specialist:
    """Who does a task: a name, a handler `async (brief, workspace) -> value`, and how many instances may run.

    `instances` is the cap of the crew, `min_instances` how many stay when it is idle, `helps` the specialists whose
    overflow an idle instance may take besides its own crew's. `writes` are the globs a task may write when it claims
    nothing itself; `prompt` is the charter a model is given; `checks` are commands (argv strings) that belong to its
    work; `isolation` is where an attempt's files are when the task's way does not decide it. With a model: `model` and `effort`
    (empty: the default), `max_tokens` an answer and `max_turns` a conversation may have, `stall_s` seconds for which an answer's
    stream may be silent (None: the default), `tools` it may use (None: all).
    """

    name: str
    handler: Handler | None = None
    instances: int = attrs.field(default=3, kw_only=True)
    min_instances: int = attrs.field(default=1, kw_only=True)
    helps: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    writes: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    prompt: str = attrs.field(default="", kw_only=True)
    checks: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    isolation: Isolation = attrs.field(default="overlay", kw_only=True)
    model: str = attrs.field(default="", kw_only=True)
    effort: str = attrs.field(default="", kw_only=True)
    max_tokens: int = attrs.field(default=16_000, kw_only=True)
    max_turns: int = attrs.field(default=60, kw_only=True)
    stall_s: float | None = attrs.field(default=None, kw_only=True)
    tools: tuple[str, ...] | None = attrs.field(
        default=None, kw_only=True, converter=attrs.converters.optional(_strings)
    )


@attrs.frozen
class Plan:
    """Tasks and the rules they are run under.

    `base` is the commit the run starts from. `checks` are commands run on the merged result, at the same time.
    `claims="grow"` lets an attempt claim a free path on the spot. `together` lands all of it or nothing.
    `max_failures` stops the run once that many tasks have failed. `setup` prepares a new worktree, in at most
    `setup_timeout_s` seconds. `format` commands run once over the changed files. `budget_usd` and `budget_tokens` are the most that
    the run may spend on models; `contracts` is text that every specialist is told, in the prompt's shared part.
    """

    tasks: tuple[Task, ...] = attrs.field(converter=_tasks)
    name: str = attrs.field(default="", kw_only=True)
    base: str = attrs.field(default="HEAD", kw_only=True)
    checks: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    claims: Claims = attrs.field(default="strict", kw_only=True)
    on_failure: OnFailure = attrs.field(default="isolate", kw_only=True)
    together: bool = attrs.field(default=False, kw_only=True)
    max_failures: int | None = attrs.field(default=None, kw_only=True)
    setup: str = attrs.field(default="", kw_only=True)
    setup_timeout_s: float = attrs.field(default=600.0, kw_only=True)
    format: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_strings)
    budget_usd: float | None = attrs.field(default=None, kw_only=True)
    budget_tokens: int | None = attrs.field(default=None, kw_only=True)
    contracts: str = attrs.field(default="", kw_only=True)
