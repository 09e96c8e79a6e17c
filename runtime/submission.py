"""What is handed over to a daemon: a plan or a run to go on with, how to run it, and for whom. Its bytes are what the journal keeps.

Knows fields, their limits and the journal's names for them; not what becomes of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec

from .core.task import MAX_PASSES, Codemod, Plan, Rewrite
from .errors import BadInput

Mode = Literal["run", "resume", "retry"]
QUEUED: Final = "queued/"
"""Before a run's name: the journal's key of its `Submission`, from before it is acknowledged until nothing of it is open."""

ENDED: Final = "ended/"
"""Before a run's name: the journal's key of its `Ended`."""

CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/-]{0,63}")
KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
MOST_MESSAGE: Final = 20_000
_REQUEST: Final = "request:"  # before a fingerprint of what was asked for


class Settings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a run is run: the flags of the command line, by the same names."""

    instances: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    sequential: bool = False
    land: bool = False
    keep_commits: bool = False
    message: Annotated[str, msgspec.Meta(max_length=MOST_MESSAGE)] = ""
    bisect: bool = False
    drop: bool = False
    budget_usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    budget_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    yes: bool = False  # money may be spent without a budget

    def check(self) -> None:
        """Raises BadInput with everything that is wrong."""
        problems = []
        if self.instances is not None and not 1 <= self.instances <= 1000:
            problems.append(f"settings.instances: {self.instances} is not a whole number from 1 to 1000")
        if len(self.message) > MOST_MESSAGE:
            problems.append(f"settings.message: it has more than {MOST_MESSAGE} characters")
        if self.budget_usd is not None and not 0 < self.budget_usd < math.inf:
            problems.append(f"settings.budget_usd: {self.budget_usd} is not a number above 0")
        if self.budget_tokens is not None and not 0 < self.budget_tokens < 2**53:
            problems.append(f"settings.budget_tokens: {self.budget_tokens} is not a whole number above 0")
        if problems:
            raise BadInput(problems)

    def within(self, **budgets: float | None) -> Settings:
        """The same with other budgets (`budget_usd`, `budget_tokens`); None leaves one as it is. Raises BadInput."""
        found = msgspec.structs.replace(self, **{name: one for name, one in budgets.items() if one is not None})
        found.check()
        return found

    def allows_spending(self, plan: Plan) -> bool:
        """Whether money may be spent on this plan: there is a limit, or it was said that none is needed."""
        limits = (self.budget_usd, self.budget_tokens, plan.budget_usd, plan.budget_tokens)
        return self.yes or any(limit is not None for limit in limits)


class Refactor(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One specialist's task over many files, as `journeyman refactor` takes it; at most one of the ways."""

    paths: list[str]
    rewrite: Rewrite | None = None
    codemod: Codemod | None = None
    exec: list[str] | None = None
    goal: str = ""
    specialist: str = ""
    batch: Annotated[int, msgspec.Meta(ge=1)] | None = None
    passes: Annotated[int, msgspec.Meta(ge=0, le=MAX_PASSES)] = 1  # 0: until nothing changes
    containing: str = ""
    exclude: list[str] = []
    together: bool = False
    max_failures: Annotated[int, msgspec.Meta(ge=1)] | None = None
    format: list[str] = []
    checks: list[str] = []
    base: str = "HEAD"
    ignore_dirty: bool = False

    def check(self, specialists: Collection[str], languages: Collection[str]) -> None:
        """Raises BadInput with everything that is wrong."""
        problems = []
        ways = [name for name in ("rewrite", "codemod", "exec") if getattr(self, name)]
        if len(ways) > 1:
            problems.append(f"{' and '.join(ways)}: give one way")
        if not ways and not self.goal.strip():
            problems.append("say how: rewrite, codemod, exec or goal")
        if self.rewrite is not None and self.rewrite.language not in languages:
            problems.append(f"rewrite.language: there is no language {self.rewrite.language!r}")
        if self.rewrite is not None and not self.rewrite.pattern.strip():
            problems.append("rewrite.pattern: it is empty")
        if self.specialist and self.specialist not in specialists:
            problems.append(
                f"specialist: there is none of the name {self.specialist!r}; there are: {', '.join(specialists)}"
            )
        problems += [
            f"{name}: {value} is not a whole number of 1 or more"
            for name in ("batch", "max_failures")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if not 0 <= self.passes <= MAX_PASSES:
            problems.append(f"passes: {self.passes} is not a number from 0 to {MAX_PASSES}")
        if problems:
            raise BadInput(problems)


class Submission(msgspec.Struct, omit_defaults=True):
    """One run, as it was handed over; kept in the journal from before the acknowledgement until the run has ended.

    `plan` is the plan as a plan file has it; `task` the only one that is to be tried again. `held`: it was paused, and goes on only
    when it is told to. `tree` is the work tree that it is of and lands in: its name in git, empty for the main one, None where that
    was not noted. `at` is seconds since the epoch.
    """

    client: str = "local"
    mode: Mode = "run"
    plan: dict[str, Any] = msgspec.field(default_factory=dict)
    settings: Settings = msgspec.field(default_factory=Settings)
    edits: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    task: str = ""
    held: bool = False
    tree: str | None = None
    at: float = 0.0


class Receipt(msgspec.Struct):
    """What an idempotency key was used for."""

    run: str
    fingerprint: str

    def stands_for(self, print_: str) -> bool:
        """Whether it was this request. Older receipts are of the plan that came of one, which another repository would not make again:
        those are believed, as a run that is found once more does less harm than a second one."""
        return self.fingerprint == print_ or not self.fingerprint.startswith(_REQUEST)


class Ended(msgspec.Struct, omit_defaults=True):
    """What is kept of a submission when its run has ended or stopped: whose it was, and what its records do not say. `state` and
    `records` are the run's by then: any process may do more with it."""

    client: str = "local"
    error: str = ""  # why it could not be begun, gone on with or landed
    culprit: str | None = None
    exit: int | None = None  # the exit code of the command that had done the same
    at: float = 0.0
    budget_usd: float | None = None  # what it might spend in the end, a resume's included
    budget_tokens: int | None = None
    state: str = ""
    records: int | None = None  # None: from before it was kept


def fingerprint(asked: Any, settings: Settings) -> str:
    """Tells two requests apart by what was asked for, not by who asks or what it comes to in the repository as it is."""
    return _REQUEST + hashlib.sha256(msgspec.json.encode((asked, settings), order="deterministic")).hexdigest()


def plan_told(text: str, form: str) -> tuple[str, Any]:
    """(form, content) of a plan that was handed over: the same for the same JSON, whatever the order of its fields."""
    with contextlib.suppress(msgspec.MsgspecError, RecursionError):  # whoever prepares it says what is wrong with it
        return form, msgspec.json.decode(text) if form == "json" else text
    return form, text


def checked_client(name: str | None, default: str = "local") -> str:
    """A client's name. Raises BadInput."""
    if not name:
        return default
    if not CLIENT.fullmatch(name):
        raise BadInput(
            "client: it must be 1 to 64 letters, digits and ._@:/- and begin with a letter or a digit, "
            f"not {name[:80]!r}"
        )
    return name


def checked_key(key: str | None) -> str:
    """An idempotency key, or empty when there is none. Raises BadInput."""
    if not key:
        return ""
    if not KEY.fullmatch(key):
        raise BadInput("Idempotency-Key: it must be 1 to 255 printable ASCII characters without spaces")
    return key


def key_name(key: str) -> str:
    """The journal's name for an idempotency key: of a fixed length, and not the key itself."""
    return f"key/{hashlib.sha256(key.encode()).hexdigest()}"


def encode(value: Submission | Ended | Receipt) -> bytes:
    """As the journal keeps it."""
    return msgspec.msgpack.encode(value)


def decode_submission(raw: bytes) -> Submission:
    """A submission as the journal kept it."""
    return msgspec.msgpack.decode(raw, type=Submission)


def decode_ended(raw: bytes | None) -> Ended:
    """What was kept of an ended run; of one that no daemon ran, nothing."""
    return Ended() if raw is None else msgspec.msgpack.decode(raw, type=Ended)
