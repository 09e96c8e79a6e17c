"""What a plan will do, as one document: levels, claims, conflicts with their order, the predicted time and cost, and whether it pays.

Knows plans and places; runs nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from . import foretell
from . import runs as past_runs
from .core import plan as plans
from .core.task import Plan
from .execution import checked
from .preparation import Prepared, learned, way_of
from .terminal import Place


@attrs.frozen
class Outlook:
    """A plan's future. `cost` is None when no task is for Claude."""

    plan: Plan
    prepared: Prepared
    levels: list[list[str]]
    foretold: plans.Prediction
    cost: foretell.Cost | None
    basis: Mapping[str, int]  # {where tasks' lengths come from, "plan", "learned" or "guess": how many tasks}

    def document(self) -> dict[str, Any]:
        """As JSON's values."""
        return {
            "name": self.plan.name,
            "base": self.prepared.base,
            "tasks": len(self.plan.tasks),
            "levels": self.levels,
            "claims": {task.id: {"writes": list(task.writes), "reads": list(task.reads)} for task in self.plan.tasks},
            "conflicts": [
                {"first": one.first, "then": one.then, "path": one.path, "reason": one.reason}
                for one in self.prepared.orders
            ],
            "instances": dict(self.foretold.instances),
            "predicted_makespan_s": round(self.foretold.makespan_s, 3),
            "sequential_s": round(self.foretold.sequential_s, 3),
            "path_s": round(self.foretold.path_s, 3),
            "estimates": dict(self.basis),
            "predicted_cost_usd": round(self.cost.usd, 4) if self.cost is not None else 0.0,
            "pays": self.foretold.pays,
            "verdict": self.foretold.why,
            "checks": list(self.plan.checks),
        }


def outlook(plan: Plan, place: Place, origin: str = "") -> Outlook:
    """Look ahead. Raises BadPlan with every problem."""
    prepared = checked(plan, place.specialists, place.repository, origin, spends=False)
    estimates = {task.id: prepared.estimates[number] for number, task in enumerate(plan.tasks)}
    caps = {one.name: one.instances for one in place.specialists}
    helps = {one.name: one.helps for one in place.specialists}
    foretold = plans.predict(plan.tasks, prepared.orders, estimates, caps, place.config.max_instances, helps)
    levels = [list(row) for row in plans.levels(plan.tasks, prepared.orders)]
    cost = foretell.cost(plan, place.specialists, place.repository)
    return Outlook(plan, prepared, levels, foretold, cost, _basis(plan, place))


def _basis(plan: Plan, place: Place) -> dict[str, int]:
    estimator = learned(past_runs.journal_path(place.repository))
    named = {one.name: one for one in place.specialists}
    found = {"plan": 0, "learned": 0, "guess": 0}
    for task in plan.tasks:
        known = estimator.knows(task.specialist, way_of(task, named[task.specialist]))
        found["plan" if task.estimate_s else "learned" if known else "guess"] += 1
    return found
