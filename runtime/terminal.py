"""What every verb shares: its repository with configuration and specialists, its flags, and where it prints.

Documents go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from click.shell_completion import CompletionItem

from specialists import by_path, codemod_problem, known_languages
from specialists.edits import pattern_problem

from . import crew as crews
from .claims import problem_with
from .config import Config, load_config
from .core import plan as plans
from .core.plan import Problem
from .core.task import Plan, Specialist, Task
from .errors import BadInput, JourneymanError
from .execution import lacking
from .git import Repository
from .planfile import dump, loads
from .planfile import load as load_plan
from .runs import entries


@attrs.define
class Place:
    """The repository a verb works in, with its configuration and specialists."""

    repository: Repository
    config: Config
    specialists: list[Specialist]

    @classmethod
    def open(cls, path: str) -> Place:
        repository = Repository.open(path)
        config = load_config(repository.work_tree, user_config())
        for note in config.notes:
            say(note)
        return cls(repository, config, crews.specialists(config, repository.work_tree))

    def choose(self, files: Sequence[str]) -> str:
        """The specialist for a task that names none."""
        return by_path(files[0], self.specialists) if files else "service"


def user_config() -> Path:
    """The user's own configuration, below every project's."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "journeyman" / "config.toml"


def say(text: str = "") -> None:
    """A line for people."""
    click.echo(text, err=True)


def say_landed(commits: Sequence[str]) -> None:
    """What is on the branch now, each commit as .git-blame-ignore-revs wants it: on a line of its own."""
    if len(commits) == 1:
        say(f"landed as {commits[0]}  (for .git-blame-ignore-revs)")
        return
    say(f"landed as {len(commits)} commits; for .git-blame-ignore-revs:")
    for commit in commits:
        say(commit)


def put(value: Any) -> None:
    """The one document of `--json`."""
    click.echo(json.dumps(value, default=str))


def _runs(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """For a shell's completion: the runs there are, the newest first."""
    try:
        known = entries(Repository.open(context.params.get("repo") or "."))
    except JourneymanError:  # a shell that completes is no place for it
        return []
    found = [one for one in reversed(known) if one.run.startswith(begun)]
    return [CompletionItem(one.run, help=f"{one.state} {one.title}".strip()) for one in found]


def specialist_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """For a shell's completion: the specialists of the repository."""
    try:
        names = [one.name for one in Place.open(context.params.get("repo") or ".").specialists]
    except JourneymanError:
        return []
    return [name for name in names if name.startswith(begun)]


run_argument = click.argument("run_name", metavar="RUN", shell_complete=_runs)
"""The run that a verb is about."""


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of every verb."""
    function = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(function)
    return click.option(
        "--repo",
        default=".",
        metavar="DIR",
        type=click.Path(),
        is_eager=True,
        help="The repository (default: around this folder).",
    )(function)


def load(place: Place, plan_file: str | Path, base: str = "", *, spends: bool = True) -> Plan:
    """A plan file, checked as a file, as a graph and for what it needs in one go, with what it leaves open from the configuration.
    `base` is used instead of its own; `spends`: it is going to be run."""

    def check(plan: Plan) -> Iterator[Problem]:
        yield from _wrong(place, plan, spends=spends)
        try:
            place.repository.resolve(base or plan.base)
        except BadInput as error:
            yield Problem("base", str(error).removeprefix("base: "))

    plan = load_plan(plan_file, place.choose, check=check)
    for task in plan.tasks:
        doubt = pattern_problem(task.rewrite.pattern, task.rewrite.language) if task.rewrite is not None else None
        if doubt:
            say(f"task {task.id!r}: {doubt}")
    return configured(attrs.evolve(plan, base=base) if base else plan, place.config)


def _wrong(place: Place, plan: Plan, known_tasks: Collection[str] = (), *, spends: bool = True) -> Iterator[Problem]:
    yield from plans.problems(
        plan,
        {one.name: one for one in place.specialists},
        known_tasks=known_tasks,
        languages=known_languages(),
        path_problem=problem_with,
        codemod_problem=codemod_problem(str(place.repository.work_tree)),
    )
    yield from lacking(plan, place.specialists, spends=spends)


def edited(
    place: Place, tasks: Mapping[str, Task], edits: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """{task: {field: value}} of edits as a plan file would have them, checked as one is; None takes a field away. Raises BadInput."""
    found: dict[str, dict[str, Any]] = {}
    for name, changes in edits.items():
        if name not in tasks:
            raise BadInput(f"--edit: the run has no task {name!r}")
        (row,) = dump(Plan([tasks[name]]))["task"]
        row = {field: value for field, value in {**row, **changes}.items() if value is not None}
        plan = loads(json.dumps({"task": [row]}), "json", "--edit", check=lambda plan: _wrong(place, plan, tasks))
        found[name] = {field: getattr(plan.tasks[0], field) for field in changes}
    return found


def configured(plan: Plan, config: Config) -> Plan:
    """The plan with what it leaves open from the project's configuration."""
    fresh = Plan(())
    changes: dict[str, Any] = {}
    for name in ("checks", "setup", "setup_timeout_s", "claims", "on_failure", "format"):
        if getattr(plan, name) == getattr(fresh, name):
            changes[name] = getattr(config, name)
    return attrs.evolve(plan, **changes)
