"""Tasks that were handed over together, and what a failure of one of them means for the others."""

from __future__ import annotations

from .record import DONE, FAILED, Record


class Group:
    """One. The machine counts in it, and acts on it."""

    __slots__ = ("failures", "left", "max_failures", "name", "on_failure", "poisoned", "tasks")

    def __init__(self, name: str, on_failure: str, max_failures: int | None) -> None:
        self.name = name
        self.on_failure = on_failure
        self.max_failures = 1 if on_failure == "stop" else max_failures
        self.tasks: list[Record] = []
        self.left = 0  # tasks that have not settled
        self.failures = 0
        self.poisoned: dict[str, str] = {}  # {scope or level: the task that failed in it}

    def unit(self, record: Record) -> str:
        """What is taken back together with a task."""
        if self.on_failure == "rollback-level":
            return f"level {record.level}"
        return f"scope {record.task.scope}" if record.task.scope else f"task {record.task.id}"

    def takes_back_at(self, state: str) -> bool:
        """Whether the end of a task in this state may stop others, or take them back."""
        if state == FAILED:
            return self.max_failures is not None or self.on_failure.startswith("rollback")
        return state == DONE and bool(self.poisoned)
