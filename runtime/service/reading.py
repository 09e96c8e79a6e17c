"""What is read out of a submission: its plan, and what all of its tasks may write and read together.

Knows plan files and claims; no queue, no runs.
"""

from __future__ import annotations

import json
from typing import Any

from specialists import codemod_problem, known_languages

from ..claims import problem_with
from ..core import plan as plans
from ..core.task import Plan
from ..planfile import loads
from ..submission import Submission
from ..terminal import Place
from .queue import EVERYTHING

Claims = tuple[tuple[str, ...], tuple[str, ...]]  # (what may be written, what may be read)


def load_plan(text: str, form: str, name: str, place: Place) -> Plan:
    """A submitted plan, checked as a plan file is. Raises BadPlan."""

    def check(plan: Plan) -> Any:
        return plans.problems(
            plan,
            specialists={one.name: one for one in place.specialists},
            languages=known_languages(),
            path_problem=problem_with,
            codemod_problem=codemod_problem(str(place.repository.work_tree)),
        )

    return loads(text, form, name, place.choose, check=check)


def plan_text(submission: Submission) -> tuple[str, str]:
    """(the plan of a submission as a file's text, that file's form)."""
    return json.dumps(submission.plan), "json"


def claims_of(place: Place, plan: Plan, keys: Any) -> Claims:
    """What the run's tasks may write and read, all together."""
    if plan.claims == "grow":
        return (EVERYTHING,), ()
    writes: dict[str, None] = {}
    reads: dict[str, None] = {}
    named = {one.name: one for one in place.specialists}
    for task, key in zip(plan.tasks, keys, strict=True):
        writes.update(dict.fromkeys(key.writes))
        reads.update(dict.fromkeys(key.reads))
        if not task.writes and named[task.specialist].writes:
            return (EVERYTHING,), ()  # it may write whatever its specialist's globs cover
    return tuple(writes), tuple(reads)
