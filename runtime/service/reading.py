"""What is read out of a submission: its plan, checked whole, and what all of its tasks may write and read together.

Knows plan files, configuration and claims; no queue, no runs. It reads files, so the daemon calls it in a thread.
"""

from __future__ import annotations

import json
from typing import Any

from specialists import codemod_problem, known_languages

from .. import refactor as refactors
from ..claims import problem_with
from ..config import load_config
from ..core import plan as plans
from ..core.task import Plan
from ..crew import specialists
from ..errors import BadInput
from ..execution import checked
from ..foretell import cost
from ..git import Repository
from ..planfile import loads
from ..submission import Refactor, Settings, Submission
from ..terminal import Place, configured, user_config
from .queue import EVERYTHING

Claims = tuple[tuple[str, ...], tuple[str, ...]]  # (what may be written, what may be read)


def place_of(repository: Repository) -> Place:
    """A repository with its configuration and its specialists as they are now. Raises BadInput."""
    repository = Repository.open(repository.work_tree)
    config = load_config(repository.work_tree, user_config())
    return Place(repository, config, specialists(config, repository.work_tree))


def prepared(repository: Repository, text: str, form: str, name: str, settings: Settings) -> tuple[Plan, Claims]:
    """A plan from its text, checked whole as the command line does it. Raises BadPlan, BadInput."""
    place = place_of(repository)
    return _judged(place, configured(load_plan(text, form, name, place), place.config), settings, name)


def prepared_again(repository: Repository, run: str, submission: Submission) -> tuple[Plan, Claims]:
    """The same of a submission that was taken in and has not begun."""
    return prepared(repository, *plan_text(submission), run, submission.settings)


def prepared_refactor(repository: Repository, wish: Refactor, settings: Settings) -> tuple[Plan, Claims]:
    """The plan of one specialist's task over many files. Raises BadInput, also when there is nothing to do."""
    place = place_of(repository)
    wish.check([one.name for one in place.specialists], known_languages())
    made = refactors.batch(
        place.repository,
        wish.paths,
        refactors.How(wish.rewrite, wish.codemod, tuple(wish.exec) if wish.exec else None, wish.goal),
        place.specialists,
        specialist=wish.specialist,
        size=wish.batch,
        passes=wish.passes,
        containing=wish.containing,
        exclude=wish.exclude,
        always_exclude=place.config.exclude,
        together=wish.together,
        max_failures=wish.max_failures,
        format=wish.format,
        checks=wish.checks,
        base=wish.base,
        ignore_dirty=wish.ignore_dirty,
    )
    if not made.plan.tasks:
        raise BadInput(f"nothing to do: none of the {len(made.files)} files can match")
    return _judged(place, configured(made.plan, place.config), settings, "refactor")


def _judged(place: Place, plan: Plan, settings: Settings, name: str) -> tuple[Plan, Claims]:
    ready = checked(plan, place.specialists, place.repository, name)
    foretold = cost(plan, place.specialists, place.repository, settings.budget_usd)
    if foretold is not None and not settings.allows_spending(plan):
        raise BadInput(f"{foretold}; give a budget (budget_usd, budget_tokens), or settings.yes")
    return plan, claims_of(place, plan, ready.keys)


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
