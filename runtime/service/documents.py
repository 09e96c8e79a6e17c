"""What is told of runs, as JSON's values: the run's document, the graph of its tasks, an event. Knows reports and machines; no
HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from .. import execution
from ..core.commands import Settled, Start
from ..core.machine import Machine
from ..core.record import CLAIMING, DONE, FINAL, WAITING, Record
from ..handles import Notice
from ..report import RunReport, build
from .live import Status


@attrs.define
class Rows:
    """The tasks of a run that goes on, as JSON: each made anew only when something about it has changed."""

    _status: dict[str, tuple[Any, msgspec.Raw]] = attrs.field(factory=dict)  # {task: (what it is made of, JSON)}
    _graph: dict[str, tuple[Any, msgspec.Raw]] = attrs.field(factory=dict)

    def status(self, machine: Machine, report: RunReport) -> dict[str, msgspec.Raw]:
        """The rows of `run_document`."""
        found = {}
        for name, record in machine.records.items():
            made_of = (
                record.state,
                record.attempt,
                record.ran_on,
                record.stolen_from,
                record.started_s,
                record.finished_s,
                record.commit,
                record.error,
                record.spent,
            )
            kept = self._status.get(name)
            if kept is None or kept[0] != made_of:
                row = {**execution.task_row(report.tasks[name]), "state": record.state, "error": record.error}
                kept = self._status[name] = (made_of, msgspec.Raw(msgspec.json.encode(row)))
            found[name] = kept[1]
        return found

    def graph(self, machine: Machine) -> list[msgspec.Raw]:
        """The rows of `graph_document`."""
        found = []
        for name, record in machine.records.items():
            waits = _waits_for(machine, record)
            made_of = (record.state, record.level, record.ran_on, record.stolen_from, record.error, waits, record.task)
            kept = self._graph.get(name)
            if kept is None or kept[0] != made_of:
                kept = self._graph[name] = (made_of, msgspec.Raw(msgspec.json.encode(_graph_row(record, waits))))
            found.append(kept[1])
        return found


def run_document(status: Status, repository: str, rows: Rows | None = None) -> dict[str, Any]:
    """A run as it stands; what the command line prints with `--json`, and what only a daemon knows. `rows` are kept by whoever
    asks often."""
    report = status.report if status.report is not None else build(Machine())
    if status.machine is not None:
        rows = Rows() if rows is None else rows
        told = execution.document(report, rows.status(status.machine, report))
    else:
        told = execution.document(report)
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
        "exit": status.exit,
        "budget": budget(status),
        "redo": bool(status.machine is not None and status.machine.undo.redo),
        "on_branch": bool(status.machine is not None and status.machine.undo.carried),
    }


def budget(status: Status) -> dict[str, Any]:
    """What the run may spend; None: no limit."""
    plan = status.machine.opened.plan if status.machine is not None else status.rules
    given = status.settings
    usd = plan.get("budget_usd") if given.budget_usd is None else given.budget_usd
    return {"usd": usd, "tokens": plan.get("budget_tokens") if given.budget_tokens is None else given.budget_tokens}


def _waits_for(machine: Machine, record: Record) -> tuple[str, ...]:
    if record.state == CLAIMING:
        return tuple(machine.registry.blockers(record.task.id))
    if record.state == WAITING:
        return tuple(one for one in record.task.after if machine.records[one].state != DONE)
    return ()


def _graph_row(record: Record, waits: Sequence[str]) -> dict[str, Any]:
    return {
        "id": record.task.id,
        "specialist": record.task.specialist,
        "state": record.state,
        "level": record.level,
        "after": record.task.after,
        "writes": record.task.writes,
        "reads": record.task.reads,
        "goal": record.task.goal,
        "instance": record.ran_on or None,
        "stolen_from": record.stolen_from or None,
        "waits_for": waits,
        "error": record.error,
    }


def graph_document(machine: Machine | None, rows: Rows | None = None) -> dict[str, Any]:
    """The tasks with what they wait for, and the claims that are held: what a picture of the run is made of."""
    if machine is None:
        return {"tasks": [], "orders": []}
    rows = Rows() if rows is None else rows
    orders = [
        {"first": name, "then": behind.task.id}
        for name, record in machine.records.items()
        for behind in record.ordered_by or ()
    ]
    return {"tasks": rows.graph(machine), "orders": orders}


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
        row = notice.row()
        found.append((notice.seq, str(row["type"]), msgspec.json.encode(row)))
    return found


def news_document(status: Status, found: Sequence[Notice], start: int) -> dict[str, Any]:
    """How far a run is, and the notices from sequence number `start` on in words."""
    records = status.machine.records.values() if status.machine is not None else ()
    return {
        "run": status.run,
        "state": status.state,
        "seq": found[-1].seq if found else start - 1,
        "done": sum(record.state in FINAL for record in records),
        "total": len(records),
        "waits": status.waits.reason if status.waits is not None else None,
        "news": [words for notice in found if (words := _in_words(notice))],
    }


def _in_words(notice: Notice) -> str:
    item = notice.event
    if isinstance(item, Settled):
        return f"{item.task} {item.state}" + (f": {item.error}" if item.error else "")
    return f"{item.instance} takes {item.task}" if isinstance(item, Start) else ""
