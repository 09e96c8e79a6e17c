"""Specialists: who does a task, and the ways of doing it."""

from collections.abc import Iterable

from runtime.claims import covers
from runtime.core.task import Specialist

from .edits import known_languages
from .interface import INTERFACE
from .service import SERVICE
from .test import TEST
from .ways import Ways, codemod_problem

BUILTIN: tuple[Specialist, ...] = (INTERFACE, SERVICE, TEST)


def by_path(path: str, specialists: Iterable[Specialist] = BUILTIN) -> str:
    """The name of the specialist whose files a path belongs to: tests before the interface before services, a user's own
    before all of these; `service` (or the last one there is) where none claims it."""
    order = {"test": 1, "interface": 2, "service": 3}
    line = sorted(specialists, key=lambda one: order.get(one.name, 0))
    found = next((one.name for one in line if one.writes and covers(one.writes, path)), None)
    return found or next((one.name for one in line if one.name == "service"), line[-1].name)


__all__ = [
    "BUILTIN",
    "INTERFACE",
    "SERVICE",
    "TEST",
    "Specialist",
    "Ways",
    "by_path",
    "codemod_problem",
    "known_languages",
]
