"""The specialists of a project: the shipped ones, as the configuration changes them, and the user's own.

Loads handlers that the configuration names (`module:function`, or `file.py:function` in the repository).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs

from specialists import BUILTIN
from specialists.edits import importing_from

from .agents import load_agents
from .config import Config
from .core.task import Handler, Specialist
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
        changes["handler"] = load_handler(changes["handler"], root, where)
    return changes


def load_handler(name: str, root: Path, where: str) -> Handler:
    """The async function `module:function` or `file.py:function`. Raises BadInput."""
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise BadInput(f"{where}: handler: {name!r} is not of the form module:function or file.py:function")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(f"journeyman_handler_{Path(place).stem}", root / place)
            if spec is None or spec.loader is None or not (root / place).is_file():
                raise BadInput(f"{where}: handler: there is no file {place}")
            module = importlib.util.module_from_spec(spec)
            with importing_from(str(root)):
                spec.loader.exec_module(module)
        else:
            with importing_from(str(root)):
                module = importlib.import_module(place)
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        raise BadInput(f"{where}: handler: {place} cannot be imported: {type(error).__name__}: {error}") from None
    handler = getattr(module, attribute, None)
    if not inspect.iscoroutinefunction(handler):
        raise BadInput(f"{where}: handler: {name} must be an async function (brief, workspace)")
    loaded: Handler = handler
    return loaded
