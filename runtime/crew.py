"""The specialists of a project: the shipped ones, as the configuration changes them, and the user's own.

Finds the handlers that the configuration names (`module:function`, or `file.py:function` in the repository); executes none of them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs

from specialists import BUILTIN
from specialists.own import OwnHandler, look_for

from .agents import load_agents
from .config import Config
from .core.task import Specialist
from .errors import BadInput

ENTRY_POINTS = "journeyman.specialists"


def specialists(config: Config, root: Path) -> list[Specialist]:
    """The user's own first, then the shipped ones, those of installed packages and the repository's agent files; of one name the first
    counts, and the configuration changes any. Raises BadInput with every problem."""
    found = {one.name: one for one in BUILTIN}
    problems: list[str] = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except Exception as error:  # an installed package is broken: that is told, and no bug of ours
            problems.append(f"entry point {point.name}: it cannot be loaded: {type(error).__name__}: {error}")
            continue
        if isinstance(loaded, Specialist):
            found.setdefault(loaded.name, loaded)
        else:
            problems.append(f"entry point {point.name}: it must be a Specialist, not {type(loaded).__name__}")
    try:
        for agent in load_agents(root):
            found.setdefault(agent.name, agent)
    except BadInput as error:
        problems += error.problems
    own: list[str] = []
    for name, fields in config.specialists.items():
        where = f"{config.source}: specialists.{name}"
        try:
            changes = _changes(fields, root, where)
        except BadInput as error:
            problems += error.problems
            continue
        if name not in found:
            own.append(name)
        found[name] = attrs.evolve(found.get(name, Specialist(name)), **changes)
    problems += [
        f"{config.source}: specialists.{one.name}: helps: there is no specialist {helped!r}"
        for one in found.values()
        for helped in one.helps
        if helped not in found
    ]
    if problems:
        raise BadInput(problems)
    line = [*own, *(name for name in found if name not in own)]
    if config.instances is not None:
        for name, one in found.items():
            if "instances" not in config.specialists.get(name, {}):
                found[name] = attrs.evolve(one, instances=config.instances)
    return [found[name] for name in line]


def _changes(fields: Mapping[str, Any], root: Path, where: str) -> dict[str, Any]:
    changes = dict(fields)
    if "handler" in changes:
        changes["handler"] = named_handler(changes["handler"], root, where)
    return changes


def named_handler(name: str, root: Path, where: str) -> OwnHandler:
    """The async function `module:function` or `file.py:function`: found, and not executed. Raises BadInput."""
    place, _, attribute = name.rpartition(":")
    handler = OwnHandler(place, attribute, root, f"{where}: handler")
    if not place or not attribute:
        raise BadInput(f"{handler.where}: {name!r} is not of the form module:function or file.py:function")
    try:
        found = look_for(place, attribute, root)
    except BadInput as error:
        raise BadInput(f"{handler.where}: {error}") from None
    if found is not None and not isinstance(found, ast.AsyncFunctionDef):
        raise BadInput(handler.no_handler())
    return handler
