"""A run's instances over time: as lines for a terminal, and as a file that Perfetto opens.

A fold of a machine's history; knows no files but the bytes it gives back.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from .core.commands import Start
from .core.events import Failed, Finished, InstanceDied, Resumed
from .core.machine import Machine


@attrs.frozen
class Span:
    """One attempt on one instance, in seconds since the run was opened."""

    instance: str
    task: str
    attempt: int
    stolen_from: str
    start_s: float
    end_s: float
    how: str  # "finished", "failed", "lost"


def spans(machine: Machine) -> list[Span]:
    """Every attempt that was started, in the order in which they ended."""
    live: dict[tuple[str, int], tuple[float, Start]] = {}
    found: list[Span] = []

    def close(key: tuple[str, int], at_s: float, how: str) -> None:
        if key in live:
            began, start = live.pop(key)
            found.append(Span(start.instance, start.task, start.attempt, start.stolen_from, began, at_s, how))

    last = 0.0
    for last, event, commands in machine.history:
        if isinstance(event, Finished | Failed):
            close((event.task, event.attempt), last, "finished" if isinstance(event, Finished) else "failed")
        elif isinstance(event, InstanceDied):
            for key in [key for key, (_, start) in live.items() if start.instance == event.instance]:
                close(key, last, "lost")
        elif isinstance(event, Resumed) and event.crashed:
            for key in list(live):
                close(key, last, "lost")
        for command in commands:
            if isinstance(command, Start):
                live[command.task, command.attempt] = (last, command)
    for key in list(live):
        close(key, last, "lost")
    return found


def timeline(machine: Machine, width: int = 80) -> list[str]:
    """One line an instance: `█` works, `▓` works on what it stole, `░` an attempt that failed, a space is idle."""
    rows = spans(machine)
    if not rows:
        return []
    first = min(row.start_s for row in rows)
    end = max(row.end_s for row in rows)
    length = max(end - first, 1e-9)
    names = list(dict.fromkeys(row.instance for row in sorted(rows, key=lambda row: row.instance)))
    label = max(map(len, names)) + 1
    room = max(10, width - label)
    lines = []
    for name in names:
        cells = [" "] * room
        for row in rows:
            if row.instance == name:
                begin = int((row.start_s - first) / length * (room - 1))
                stop = max(begin + 1, int((row.end_s - first) / length * (room - 1)) + 1)
                mark = "░" if row.how != "finished" else "▓" if row.stolen_from else "█"
                cells[begin:stop] = mark * (stop - begin)
        lines.append(f"{name:<{label}}" + "".join(cells).rstrip())
    return lines


def perfetto(machine: Machine) -> bytes:
    """The Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing open."""
    rows = spans(machine)
    numbers = {name: number for number, name in enumerate(sorted({row.instance for row in rows}), 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"journeyman {machine.opened.run}"}}
    ]
    for name, number in numbers.items():
        events.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": name}})
    for row in rows:
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": numbers[row.instance],
                "name": row.task,
                "cat": row.how,
                "ts": round(row.start_s * 1e6),
                "dur": round((row.end_s - row.start_s) * 1e6),
                "args": {"attempt": row.attempt, "stolen_from": row.stolen_from, "ended": row.how},
            }
        )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}).encode()
