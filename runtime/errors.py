"""What a caller may catch, named by whose fault it is.

Knows no other module of the runtime. `exit_code` is what the command line returns for the error
(the table is in README.md); everything else here is for people: one line that names the place and what to do.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

__all__ = [
    "BadInput",
    "BadPlan",
    "BudgetSpent",
    "Bug",
    "ChecksRed",
    "ClaimViolation",
    "EmptyChange",
    "GiveUp",
    "JournalDamaged",
    "JournalFailed",
    "JournalForeign",
    "JourneymanError",
    "MalformedCall",
    "NoCredentials",
    "PathsGone",
    "Paused",
    "QuotaSpent",
    "Refused",
    "RepositoryRefused",
    "RunHeld",
    "ServiceRefused",
    "ServiceUnavailable",
    "Stalled",
    "SystemRefused",
    "TaskFailed",
    "TooManyTurns",
    "Transient",
    "Truncated",
]


_NOT_ALLOWED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_SHORT_OF: Final = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "let files be larger (ulimit -f)",
    errno.EIO: "see to the disk",
    errno.EMFILE: "let a process open more files (ulimit -n)",
    errno.ENFILE: "close some programs",
    errno.ENOMEM: "close some programs",
    errno.EAGAIN: "let there be more processes (ulimit -u)",
}


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


class SystemRefused(JourneymanError):
    """The system did: the disk is full or failed, too many files are open. What was done so far is kept, and can be gone on with."""

    exit_code = 130


def of_the_system(error: OSError) -> JourneymanError | None:
    """What an error of the operating system's is, told to a person; None when we should have seen it coming."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in _NOT_ALLOWED:
        return RepositoryRefused(f"{place}{error.strerror}; it, and the folder it is in, have to be yours to change")
    what = _SHORT_OF.get(error.errno or 0)
    return None if what is None else SystemRefused(f"{place}{error.strerror}: {what}, then give the command again")


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


# --- what can go wrong with a model: is trying again of use, and does the conversation begin anew (`fresh`)? ---


class NoCredentials(BadInput):
    """A task needs Claude, and the environment has no key for it."""


class Paused(JourneymanError):
    """A budget or a quota is spent. The task is kept as it is and costs no attempt; `resume` goes on. `hold`: only this task waits."""

    exit_code = 5

    def __init__(self, message: str, *, hold: bool = False) -> None:
        super().__init__(message)
        self.hold = hold


class BudgetSpent(Paused):
    """The next call could pass the budget of the run or (with `hold`) of the task `task`; it was not made.

    `unit` is `"usd"` or `"tokens"`, and `budget`, `spent`, `reserved` and `asked` are amounts of it. `waits` is true when the
    call would fit if what other calls have reserved came back.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str = "",
        unit: str = "usd",
        budget: Decimal | int = 0,
        spent: Decimal | int = 0,
        reserved: Decimal | int = 0,
        asked: Decimal | int = 0,
    ) -> None:
        super().__init__(message, hold=bool(task))
        self.task = task
        self.unit = unit
        self.budget = budget
        self.spent = spent
        self.reserved = reserved
        self.asked = asked

    @property
    def waits(self) -> bool:
        return self.spent + self.asked <= self.budget


class QuotaSpent(Paused):
    """The account's quota, spend limit or credit is used up. `until_s` is when it comes back, Unix time, if that is known."""

    def __init__(self, message: str, until_s: float | None = None) -> None:
        back = time.gmtime(until_s) if until_s is not None and 0 < until_s < 1e11 else None
        if back is not None and time.strftime("%Y-%m-%d", back) not in message:  # the service often says it itself
            message = f"{message.rstrip('.')}; it comes back on {time.strftime('%Y-%m-%d at %H:%M UTC', back)}"
        super().__init__(message)
        self.until_s = until_s


class EmptyChange(Transient):
    """The model ended its turn with nothing changed, and without saying that there is nothing to do. Tried again from the start."""

    fresh = True


class Truncated(Transient):
    """The answer ended at its token limit. Tried again from the start."""

    fresh = True


class MalformedCall(Transient):
    """Again and again a tool's input was none that the tool can take. Tried again from the start."""

    fresh = True


class TooManyTurns(Transient):
    """The conversation did not come to an end within the specialist's `max_turns`. Tried again from the start."""

    fresh = True


class ChecksRed(Transient):
    """A check of the task stayed red after its `fix_rounds`. Tried again from the start; `result` has what the checks said."""

    fresh = True

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class PathsGone(Transient):
    """A conversation cannot go on where it was: a path that it was granted belongs to another task now. Tried again from the start."""

    fresh = True


class Stalled(Transient):
    """The stream went silent for longer than `stall_s`, more than once. The conversation goes on from its last turn."""


class ServiceUnavailable(Transient):
    """The service failed, was overloaded or could not be reached, again and again. Goes on from its last turn."""


class Refused(GiveUp):
    """The model refused the request. Trying again is no use."""


class ServiceRefused(GiveUp):
    """The service refused the request for what it is (400, 401, 403, 404, 413), in its own words. Trying again is no use."""


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
    """The journal cannot be opened or written: the disk is full, or failed. The run stops where it is and can be resumed."""

    exit_code = 130


class JournalForeign(JourneymanError):
    """The journal was written by a newer version, or is not a journal of ours."""

    exit_code = 6


class Bug(JourneymanError):
    """Ours. The message has the story of the task."""


def is_only(group: BaseException, error: BaseException | None) -> bool:
    """Whether a group that a nursery made has nothing in it but this exception."""
    while group is not error and isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 1:
        group = group.exceptions[0]
    return group is error
