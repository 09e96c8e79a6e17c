"""What every verb shares: its repository with configuration and specialists, its flags, and where it prints.

Documents go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from specialists import by_path, codemod_problem, known_languages

from . import crew as crews
from .claims import problem_with
from .config import Config, load_config
from .core import plan as plans
from .core.task import Plan, Specialist
from .git import Repository
from .planfile import load as load_plan


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


def put(value: Any) -> None:
    """The one document of `--json`."""
    click.echo(json.dumps(value, default=str))


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of every verb."""
    function = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(function)
    return click.option("--repo", default=".", metavar="DIR", help="The repository (default: around this folder).")(
        function
    )


def load(place: Place, plan_file: str | Path) -> Plan:
    """A plan file, checked as a file and as a graph in one go, with what it leaves open from the configuration."""
    root = str(place.repository.work_tree)
    check = partial(
        plans.problems,
        specialists={one.name: one for one in place.specialists},
        languages=known_languages(),
        path_problem=problem_with,
        codemod_problem=codemod_problem(root),
    )
    return configured(load_plan(plan_file, place.choose, check=check), place.config)


def configured(plan: Plan, config: Config) -> Plan:
    """The plan with what it leaves open from the project's configuration."""
    fresh = Plan(())
    changes: dict[str, Any] = {}
    for name in ("checks", "setup", "setup_timeout_s", "claims", "on_failure", "format"):
        if getattr(plan, name) == getattr(fresh, name):
            changes[name] = getattr(config, name)
    return attrs.evolve(plan, **changes)
