"""What a caller may catch, named by whose fault it is.

Knows no other module of the runtime. `exit_code` is what the command line returns for the error
(the table is in README.md); everything else here is for people: one line that names the place and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "BadInput",
    "BadPlan",
    "Bug",
    "ClaimViolation",
    "GiveUp",
    "JournalDamaged",
    "JournalFailed",
    "JournalForeign",
    "JourneymanError",
    "RepositoryRefused",
    "RunHeld",
    "TaskFailed",
    "Transient",
]


class JourneymanError(Exception):
    """Anything that Journeyman raises on purpose."""

    exit_code = 70


class BadInput(JourneymanError):
    """The caller's fault: a plan, a configuration, a path or an argument. Nothing was started.

    `problems` has one line for each thing that is wrong, all of them at once; each line names the file, the task
    and the field where they are known.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class BadPlan(BadInput):
    """A plan that cannot be run as it is written."""


class RepositoryRefused(JourneymanError):
    """The repository's state refuses it: dirty where it must be clean, moved, in the middle of a rebase, ..."""

    exit_code = 6


class RunHeld(RepositoryRefused):
    """Another live process holds this repository's journal. `pid` is the holder's, 0 when unknown."""

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class TaskFailed(JourneymanError):
    """A task ended in another state than `done`. `task` is its id, `state` and `error` what the report says."""

    exit_code = 3

    def __init__(self, task: str, state: str, error: str) -> None:
        super().__init__(f"task {task!r} {state}: {error}")
        self.task = task
        self.state = state
        self.error = error


class GiveUp(JourneymanError):
    """Raised by a handler: trying this task again is no use."""

    exit_code = 3


class Transient(JourneymanError):
    """Raised by a handler: may pass; try again, not before `retry_after_s` seconds when that is known."""

    exit_code = 3

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClaimViolation(JourneymanError):
    """An attempt changed paths that its task had not claimed; the changeset was refused whole."""

    exit_code = 3

    def __init__(self, task: str, paths: Iterable[str], holders: Iterable[str] = ()) -> None:
        self.task = task
        self.paths = tuple(paths)
        self.holders = tuple(holders)
        held = f" (held by {', '.join(self.holders)})" if self.holders else ""
        super().__init__(f"task {task!r} changed paths outside its claims{held}: {', '.join(self.paths)}")


class JournalDamaged(JourneymanError):
    """The journal cannot be read whole. It is never guessed at and never deleted; `journeyman doctor` says more."""


class JournalFailed(JourneymanError):
    """The journal cannot be written: the disk is full, or failed. The run stops where it is and can be resumed."""


class JournalForeign(JourneymanError):
    """The journal was written by a newer version, or is not a journal of ours."""

    exit_code = 6


class Bug(JourneymanError):
    """Ours. The message has the story of the task."""
