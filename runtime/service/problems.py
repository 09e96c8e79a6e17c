"""Errors as HTTP tells them: `application/problem+json` (RFC 9457) with a `code` that stays the same.

Knows the runtime's errors and HTTP's numbers; raises nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import (
    BadInput,
    BadPlan,
    Bug,
    JournalDamaged,
    JournalFailed,
    JournalForeign,
    JourneymanError,
    RepositoryRefused,
    RunHeld,
)
from ..runs import ChecksRed, NotTogether

CODES: Final[Mapping[str, tuple[int, str]]] = {
    "bad-request": (400, "The request is not as it should be"),
    "bad-host": (400, "The Host header names somebody else"),
    "unauthorized": (401, "The token is missing or wrong"),
    "cross-origin": (403, "Requests from other sites are refused"),
    "socket-only": (403, "This is done over the Unix socket only"),
    "no-such-page": (404, "There is nothing here"),
    "no-such-repository": (404, "There is no such repository"),
    "no-such-run": (404, "There is no such run"),
    "no-such-task": (404, "There is no such task"),
    "no-such-method": (405, "This method does not exist here"),
    "too-slow": (408, "The request took too long to arrive"),
    "repository-held": (409, "Another process works in the repository"),
    "repository-refused": (409, "The repository's state refuses it"),
    "checks-red": (409, "A check is red"),
    "not-together": (409, "A part of what lands together is missing"),
    "wrong-state": (409, "The run is not in a state for this"),
    "too-large": (413, "The request is too large"),
    "unsupported-content-type": (415, "The content type is not one that is read here"),
    "bad-input": (422, "A value is not as it should be"),
    "bad-plan": (422, "The plan cannot be run as it is written"),
    "key-reused": (422, "The idempotency key was used for something else"),
    "too-many": (429, "There are too many of these already"),
    "bug": (500, "A bug of Journeyman's"),
    "journal": (500, "The journal cannot be used"),
    "draining": (503, "The daemon is about to stop"),
    "http-version": (505, "Only HTTP/1.1 is spoken here"),
}
"""{code: (HTTP status, title)}. Codes are only ever added."""


class Problem(JourneymanError):
    """A request that is refused. `code` is one of `CODES`."""

    exit_code = 2

    def __init__(self, code: str, detail: str = "", **more: Any) -> None:
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail
        self.more = more
        if code in ("repository-held", "repository-refused", "wrong-state", "draining"):
            self.exit_code = 6
        super().__init__(detail or self.title)


def problem_of(error: BaseException) -> Problem:
    """The problem that an exception is told as."""
    if isinstance(error, Problem):
        return error
    words = str(error)
    if isinstance(error, BadPlan):
        return Problem("bad-plan", words, problems=list(error.problems))
    if isinstance(error, BadInput):
        return Problem("bad-input", words, problems=list(error.problems))
    if isinstance(error, ChecksRed):
        return Problem("checks-red", words)
    if isinstance(error, NotTogether):
        return Problem("not-together", words)
    if isinstance(error, RunHeld):
        return Problem("repository-held", words, pid=error.pid)
    if isinstance(error, RepositoryRefused):
        return Problem("repository-refused", words)
    if isinstance(error, JournalDamaged | JournalFailed | JournalForeign):
        return Problem("journal", words)
    if isinstance(error, JourneymanError) and not isinstance(error, Bug):
        return Problem("bad-request", words)
    return Problem("bug", f"{type(error).__name__}: {words}")


def document(problem: Problem, instance: str = "") -> dict[str, Any]:
    """The problem's JSON."""
    return {
        "type": f"urn:journeyman:problem:{problem.code}",
        "code": problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail or problem.title,
        **({"instance": instance} if instance else {}),
        **problem.more,
    }


def back(told: Mapping[str, Any]) -> JourneymanError:
    """The error that a problem's JSON stands for, on the client's side; its exit code is the one of the work done here."""
    code, detail = str(told.get("code", "bug")), str(told.get("detail", ""))
    if code == "bad-plan":
        return BadPlan(told.get("problems") or detail)
    if code in ("bad-input", "no-such-run", "no-such-task"):
        return BadInput(told.get("problems") or detail)
    if code == "checks-red":
        return ChecksRed(detail)
    if code == "not-together":
        return NotTogether(detail)
    if code == "repository-held":
        return RunHeld(detail, int(told.get("pid", 0)))
    if code in ("repository-refused", "wrong-state"):
        return RepositoryRefused(detail)
    return Problem(code, detail) if code in CODES else Problem("bug", detail)


def words_of(error: BaseException) -> str:
    """What ended a run, in words, of a group each once."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(words_of, error.exceptions)))
    return (
        str(error) if isinstance(error, JourneymanError) else f"a bug of Journeyman's: {type(error).__name__}: {error}"
    )
