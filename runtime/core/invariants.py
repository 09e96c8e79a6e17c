"""What must hold of a machine between two events, whatever happened: asserted after every step of every simulation.

Looks at everything, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import record as st
from .record import Record

if TYPE_CHECKING:
    from .machine import Machine


def check(machine: Machine) -> None:
    """Assert every invariant that must hold between two events. O(tasks): for tests and simulations."""
    machine.registry.check()
    queued = machine.dispatch.check()
    states: dict[str, int] = {}
    for record in machine.records.values():
        states[record.state] = states.get(record.state, 0) + 1
        _check_record(machine, record)
    assert states.get(st.READY, 0) == queued, "a ready task lies in no deque, or in two"
    assert states.get(st.RUNNING, 0) == machine.dispatch.running
    assert states.get(st.MERGING, 0) == machine.merging
    assert states.get(st.ROLLING, 0) == machine.rolling
    assert states.get(st.BACKOFF, 0) == len(machine._backoffs)
    assert states.get(st.HELD, 0) == machine.held
    for group in machine.groups.values():
        open_tasks = sum(1 for record in group.tasks if record.state not in st.FINAL and record.group == group.name)
        assert open_tasks == group.left, f"group {group.name}: {open_tasks} open, {group.left} counted"
    _check_claims(machine)
    if machine.at_rest and all(record.state in st.FINAL for record in machine.records.values()):
        assert machine.registry.empty, "at rest, and claims are held"


def _check_record(machine: Machine, record: Record) -> None:
    state = record.state
    assert (record.instance is not None) == (state == st.RUNNING), f"{record} has {record.instance}"
    if state == st.RUNNING:
        assert record.instance is not None
        assert record.instance.record is record
        assert not record.instance.died
    assert record.missing >= 0
    if state in (st.READY, st.RUNNING, st.MERGING, st.CLAIMING, st.BACKOFF, st.DONE):
        for name in record.task.after:
            before = machine.records[name]
            undone = before.state in (st.ROLLING, st.CANCELLED) and state == st.DONE
            assert before.state == st.DONE or undone or record.cancelling or before.commit is None, (
                f"{record} is ahead of {before}"
            )
    assert record.attempt <= record.last_attempt, f"{record}: more attempts than allowed"


def _check_claims(machine: Machine) -> None:
    writers: dict[str, str] = {}
    for record in machine.records.values():
        if record.state in st.HOLDS_CLAIMS and record.keys is not None:
            for path in record.keys.writes:
                assert path not in writers, f"{path} has two writers: {writers[path]}, {record.task.id}"
                writers[path] = record.task.id
                assert machine.registry.covers(record.task.id, path)
