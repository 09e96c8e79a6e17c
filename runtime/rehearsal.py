"""How long a plan would take with 1 to N instances a specialist, what binds it then, and how many instances are enough.

Plays the plan in virtual time over and over (`core.simulate`) and counts; runs nothing, spends nothing, reads no clock. Knows
nothing of the rates of a service: what they allow is learned while it is used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from .core.events import CrewSpec, Opened, Submitted
from .core.machine import RULES, Machine
from .core.simulate import Chances, play
from .core.task import Specialist
from .execution import for_claude
from .outlook import Outlook
from .progress import clock
from .report import BoundBy, lower_bound

NEAR: Final = 1.05
"""So close to the best mean is enough."""

_MOST_SEEDS: Final = 50
_LEAST_SEEDS: Final = 3
_PATIENCE: Final = 200_000  # tasks played in all, unless somebody asks for more: some seconds


@attrs.frozen
class Row:
    """One number of instances: over all seeds the mean and the 90th percentile of the makespan and the mean of its lower bound, all
    in seconds. `bound_by` is what binds most often, `bottleneck` its name for people; `retries` a run, `cost_usd` with them.
    `spare`: no crew ever had all of its instances at once, so that more change nothing."""

    instances: Mapping[str, int]  # {specialist: how many at most}
    mean_s: float
    p90_s: float
    bound_s: float
    bound_by: BoundBy
    bottleneck: str
    retries: float
    cost_usd: float
    spare: bool


@attrs.frozen
class Rehearsal:
    """`rows[n - 1]` is for n instances a specialist, `configured` for what the project has. `enough` is the smallest n whose mean is
    within `NEAR` of the best."""

    seeds: int
    rows: tuple[Row, ...]
    configured: Row
    enough: int

    def document(self) -> dict[str, Any]:
        """As JSON's values."""
        rows = [{"instances_each": n, **_row(row)} for n, row in enumerate(self.rows, 1)]
        return {"seeds": self.seeds, "rows": rows, "configured": _row(self.configured), "enough_instances": self.enough}

    def lines(self) -> Iterator[str]:
        """As a table for people."""
        yield f"simulated {self.seeds} times each, lengths spread by {Chances().sigma}, {Chances().fails:.0%} of attempts fail"
        yield f"{'instances each':>14}  {'mean':>7}  {'p90':>7}  {'bound':>7}  {'cost':>9}  what binds"
        for n, row in enumerate(self.rows, 1):
            yield f"{n:>14}{_cells(row)}{'   <- enough' if n == self.enough else ''}"
        if self.rows[-1].spare:
            yield f"{'more':>14}  have nothing to do"
        crew = ", ".join(f"{name} {count}" for name, count in self.configured.instances.items())
        yield f"{'configured':>14}{_cells(self.configured)}"
        yield f"{self.enough} each are within {NEAR - 1:.0%} of the best; configured: {crew}"


def _cells(row: Row) -> str:
    times = "".join(f"  {clock(seconds):>7}" for seconds in (row.mean_s, row.p90_s, row.bound_s))
    return f"{times}  {row.cost_usd:>5.2f} USD  {row.bottleneck}"


def _row(row: Row) -> dict[str, Any]:
    fields = attrs.asdict(row)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in fields.items()}


def rehearse(
    ahead: Outlook, specialists: Sequence[Specialist], max_instances: int, seeds: int | None = None
) -> Rehearsal:
    """Play the plan for each number of instances, until more would have nothing to do or `max_instances` be passed."""
    used = Counter(task.specialist for task in ahead.plan.tasks)
    most = max(1, min(max_instances, max(used.values(), default=1)))
    if seeds is None:
        seeds = max(_LEAST_SEEDS, min(_MOST_SEEDS, _PATIENCE // (max(1, len(ahead.plan.tasks)) * (most + 1))))
    stage = _Stage(ahead, [one for one in specialists if one.name in used], max_instances, seeds)
    rows: list[Row] = []
    while len(rows) < most and not (rows and rows[-1].spare):
        rows.append(stage.row(dict.fromkeys(used, len(rows) + 1)))
    configured = stage.row({one.name: one.instances for one in specialists if one.name in used})
    best_s = min(row.mean_s for row in rows)
    enough = next(n for n, row in enumerate(rows, 1) if row.mean_s <= best_s * NEAR)
    return Rehearsal(seeds, tuple(rows), configured, enough)


class _Stage:
    """The plan and everything about it that does not depend on the number of instances."""

    def __init__(self, ahead: Outlook, specialists: Sequence[Specialist], max_instances: int, seeds: int) -> None:
        prepared = ahead.prepared
        self._specialists = specialists
        self._max_instances = max_instances
        self._seeds = seeds
        self._cost_usd = ahead.cost.usd if ahead.cost is not None else 0.0
        self._bought = [task.id for task in for_claude(ahead.plan, specialists)]
        self._path = ahead.foretold.path
        self._submitted = Submitted(
            "simulated", prepared.tasks, estimates=prepared.estimates, keys=prepared.keys, orders=prepared.orders
        )

    def row(self, instances: Mapping[str, int]) -> Row:
        """Play all seeds with so many instances."""
        crews = tuple(
            CrewSpec(one.name, instances[one.name], min(one.min_instances, instances[one.name]), one.helps)
            for one in self._specialists
        )
        opened = Opened("simulated", crews, max_instances=self._max_instances, rules=RULES)
        spans, bounds, retries, bought = [], [], 0, 0
        binding: Counter[tuple[BoundBy, str]] = Counter()
        spare = True
        for seed in range(self._seeds):
            machine = play(opened, self._submitted, seed, Chances())
            records = machine.records
            spans.append(max((record.finished_s or 0.0 for record in records.values()), default=0.0))
            bound_s, bound_by = lower_bound(machine)
            bounds.append(bound_s)
            binding[bound_by, self._bottleneck(machine, bound_by)] += 1
            spare = spare and all(crew.peak < crew.spec.cap for crew in machine.dispatch.crews.values())
            retries += sum(record.attempt - 1 for record in records.values())
            bought += sum(records[task].attempt for task in self._bought)
        (bound_by, bottleneck), _ = binding.most_common(1)[0]
        a_run = bought / len(self._bought) / self._seeds if self._bought else 1.0
        return Row(
            dict(instances),
            math.fsum(spans) / self._seeds,
            sorted(spans)[math.ceil(0.9 * self._seeds) - 1],
            math.fsum(bounds) / self._seeds,
            bound_by,
            bottleneck,
            retries / self._seeds,
            self._cost_usd * a_run,
            spare,
        )

    def _bottleneck(self, machine: Machine, bound_by: BoundBy) -> str:
        if bound_by == "path":
            names = self._path if len(self._path) <= 4 else (*self._path[:2], "...", self._path[-1])
            return f"the chain {' -> '.join(names)}"
        if bound_by == "claims":
            return f"claims of {_contended(machine)}"
        return self._busiest(machine)

    def _busiest(self, machine: Machine) -> str:
        """The crew whose work is longest for its instances, or all of them where the whole is what is scarce."""
        crews = machine.dispatch.crews
        busy: Counter[str] = Counter()
        tasks: Counter[str] = Counter()
        for record in machine.records.values():
            busy[record.task.specialist] += record.busy_s  # type: ignore[assignment]  # a Counter of seconds adds up as well
            tasks[record.task.specialist] += 1
        alone = {name: busy[name] / min(crews[name].spec.cap, tasks[name]) for name in busy if not crews[name].helpers}
        places = sum(min(crews[name].spec.cap, tasks[name]) for name in busy)
        if places > self._max_instances and sum(busy.values()) / self._max_instances > max(alone.values(), default=0.0):
            return f"max_instances = {self._max_instances}"
        if not alone:
            return "the work of all"
        return f"the work of {max(alone, key=alone.__getitem__)}"


def _contended(machine: Machine) -> str:
    """The path whose writers take longest one after the other."""
    held: dict[str, list[float]] = {}
    for record in machine.records.values():
        for path in record.keys.writes if record.keys is not None else ():
            held.setdefault(path, []).append(record.busy_s)
    return max((path for path in held if len(held[path]) > 1), key=lambda path: math.fsum(held[path]))
