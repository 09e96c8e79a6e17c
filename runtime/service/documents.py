"""What is told of runs, as JSON's values: the run's document, the graph of its tasks, an event. Knows reports and machines; no
HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from .. import execution
from ..core.machine import Machine
from ..core.record import CLAIMING, WAITING
from ..handles import Notice
from ..report import RunReport, build
from .served import Status


def run_document(status: Status, repository: str) -> dict[str, Any]:
    """A run as it stands; what the command line prints with `--json`, and what only a daemon knows."""
    told = execution.document(status.report if status.report is not None else build(Machine()))
    if status.machine is not None:
        told["tasks"] = _live_tasks(status.machine, told["tasks"])
    return {
        **told,
        "run": status.run,
        "repository": repository,
        "state": status.state,
        "ok": status.state == "done" and not status.error,
        "title": status.title,
        "client": status.client,
        "submitted_at": status.started_at,
        "waits": attrs.asdict(status.waits) if status.waits is not None else None,
        "error": status.error or None,
        "culprit": status.culprit,
        "on_branch": bool(status.machine is not None and status.machine.undo.carried),
    }


def _live_tasks(machine: Machine, tasks: dict[str, Any]) -> dict[str, Any]:
    """A report knows final states only; here a task that runs, or will, says so."""
    records = machine.records
    return {name: {**task, "state": records[name].state, "error": records[name].error} for name, task in tasks.items()}


def graph_document(machine: Machine | None) -> dict[str, Any]:
    """The tasks with what they wait for, and the claims that are held: what a picture of the run is made of."""
    if machine is None:
        return {"tasks": [], "orders": []}
    rows = []
    for name, record in machine.records.items():
        after = [one for one in record.task.after if machine.records[one].state != "done"]
        waits = list(machine.registry.blockers(name)) if record.state == CLAIMING else after
        rows.append(
            {
                "id": name,
                "specialist": record.task.specialist,
                "state": record.state,
                "level": record.level,
                "after": list(record.task.after),
                "writes": list(record.task.writes),
                "reads": list(record.task.reads),
                "goal": record.task.goal,
                "instance": record.ran_on or None,
                "stolen_from": record.stolen_from or None,
                "waits_for": waits if record.state in (WAITING, CLAIMING) else [],
                "error": record.error,
            }
        )
    orders = [
        {"first": name, "then": behind.task.id}
        for name, record in machine.records.items()
        for behind in record.ordered_by or ()
    ]
    return {"tasks": rows, "orders": orders}


def task_document(machine: Machine, report: RunReport, task: str) -> dict[str, Any]:
    """One task: its row of the report, its result, and everything that happened to it."""
    told: dict[str, Any] = execution.document(report)["tasks"][task]
    story = [{"at_s": round(at, 6), **msgspec.to_builtins(item)} for at, item in machine.story(task)]
    record = machine.records[task]
    return {
        **told,
        "id": task,
        "state": record.state,
        "goal": record.task.goal,
        "result": record.result,
        "story": story,
    }


def event_rows(batch: Sequence[Notice]) -> list[tuple[int, str, bytes]]:
    """(sequence number, type, JSON) of notices, as `--events` writes them."""
    found = []
    for notice in batch:
        row = {"seq": notice.seq, "at_s": round(notice.at_s, 6), **msgspec.to_builtins(notice.event)}
        found.append((notice.seq, str(row["type"]), msgspec.json.encode(row)))
    return found
