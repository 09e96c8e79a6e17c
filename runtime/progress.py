"""What a run looks like while it goes on: a pure fold of its notices, and `render(now, width) -> lines`.

Knows events and words; no terminal, no clock. Whoever shows it says what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .core import commands as cmd
from .core import events as ev
from .handles import Notice

_BAR = 30
_LINE_EACH = 100  # tasks; a log of more has a line for every so many, about _LINES in all
_REASON = 600  # characters of why a task failed, in a line for people
_LINES = 25


@attrs.define
class Lane:
    """One live instance: its task, since when, and from whom it was stolen."""

    name: str
    task: str = ""
    since_s: float = 0.0
    stolen_from: str = ""
    attempt: int = 0


@attrs.define
class Progress:
    """Feed it every notice with `take`; ask for lines with `render`, for a sentence with `say`."""

    run: str = ""
    title: str = ""
    estimates: dict[str, float] = attrs.field(factory=dict)  # {task: seconds}
    states: dict[str, str] = attrs.field(factory=dict)  # {settled task: state}
    lanes: dict[str, Lane] = attrs.field(factory=dict)  # {live instance: lane}
    running: dict[str, str] = attrs.field(factory=dict)  # {task: instance}
    waiting_again: set[str] = attrs.field(factory=set)  # between two attempts
    steals: int = 0
    spent: ev.Spent = ev.NOTHING  # on models, so far
    checking: bool = False  # the plan has checks
    checks: tuple[tuple[str, bool, float], ...] = ()  # (command, ok, seconds)

    def take(self, notice: Notice) -> str | None:
        """Take one notice in; a line for a log where it is worth one."""
        item = notice.event
        if isinstance(item, ev.Answered | ev.Charged):
            self.spent += item.spent
        elif isinstance(item, ev.Opened):
            self.run, self.title, self.checking = item.run, item.name, bool(item.plan.get("checks"))
        elif isinstance(item, ev.Submitted):
            return self._submitted(item)
        elif isinstance(item, ev.Retried):
            for task in item.tasks:
                self.states.pop(task.id, None)
        elif isinstance(item, ev.Resumed) and item.crashed:
            self.lanes.clear()  # they were the dead process's
            self.running.clear()
        elif isinstance(item, cmd.Spawn):
            self.lanes[item.instance] = Lane(item.instance)
        elif isinstance(item, cmd.Retire):
            self.lanes.pop(item.instance, None)
        elif isinstance(item, ev.InstanceDied):
            self.lanes.pop(item.instance, None)
            return f"{item.instance} died and is replaced: {item.error}"
        elif isinstance(item, cmd.Start):
            return self._started(item, notice.at_s)
        elif isinstance(item, ev.Finished | ev.Failed):
            self._ended(item.task)
        elif isinstance(item, cmd.Backoff):
            self.waiting_again.add(item.task)
            return f"{item.task}: attempt {item.attempt} failed, again in {item.delay_s:.1f} s: {item.error}"
        elif isinstance(item, cmd.Settled):
            return self._settled(item, notice.at_s)
        elif isinstance(item, ev.Checked):
            self.checks = tuple((one["command"], one["ok"], one["seconds"]) for one in item.results)
            return "; ".join(
                f"check {'green' if ok else 'RED'}: {name} ({took:.1f} s)" for name, ok, took in self.checks
            )
        return None

    def _submitted(self, item: ev.Submitted) -> str:
        for number, task in enumerate(item.tasks):
            self.estimates[task.id] = item.estimates[number] if item.estimates else 1.0
        return f"{len(item.tasks)} task{'s' if len(item.tasks) != 1 else ''}" + (
            f", {len(item.orders)} put in order because their claims overlap" if item.orders else ""
        )

    def _started(self, item: cmd.Start, at_s: float) -> str | None:
        self._ended(item.task)
        self.waiting_again.discard(item.task)
        self.running[item.task] = item.instance
        self.lanes[item.instance] = Lane(item.instance, item.task, at_s, item.stolen_from, item.attempt)
        if item.stolen_from:
            self.steals += 1
            return f"{item.instance} takes {item.task} over from {item.stolen_from}"
        return None

    def _ended(self, task: str) -> None:
        instance = self.running.pop(task, None)
        if instance is not None and instance in self.lanes:
            self.lanes[instance] = Lane(instance)

    def _settled(self, item: cmd.Settled, at_s: float) -> str | None:
        self.states[item.task] = item.state
        self.waiting_again.discard(item.task)
        self._ended(item.task)
        if item.state != "done":
            return f"{item.task} {item.state}: {because(item.task, item.error)}"
        if len(self.estimates) <= _LINE_EACH:
            return f"{item.task} done"
        step = -(-len(self.estimates) // _LINES)
        return self.say(at_s) if len(self.states) % step == 0 else None

    # --- showing -----------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many tasks are done, running, waiting, failed and so on."""
        found = {"done": 0, "failed": 0, "skipped": 0, "cancelled": 0}
        for state in self.states.values():
            found[state] = found.get(state, 0) + 1
        running = len(self.running)
        waiting = max(0, len(self.estimates) - len(self.states) - running)
        return {**found, "running": running, "waiting": waiting}

    def left_s(self, now: float) -> float | None:
        """Seconds to go, from the share of the estimated work that is settled; None before anything is."""
        total = sum(self.estimates.values())
        done = sum(self.estimates.get(task, 0.0) for task in self.states)
        if not done or not total or now <= 0:
            return None
        return now * (total - done) / done

    def say(self, now: float) -> str:
        """The run in one line."""
        counts = self.counts()
        order = ("done", "running", "waiting", "failed", "skipped", "cancelled")
        parts = [f"{counts[name]} {name}" for name in order if counts[name] or name == "done"]
        if self.steals:
            parts.append(f"{self.steals} stolen")
        left = self.left_s(now)
        if left is not None and counts["running"] + counts["waiting"]:
            parts.append(f"about {clock(left)} left")
        return " · ".join(parts)

    def render(self, now: float, width: int, doing: Mapping[str, str] | None = None, rows: int = 24) -> list[str]:
        """The live view, at most `rows` lines of at most `width` characters."""
        if not self.estimates:  # not begun; it may yet be refused
            return []
        counts = self.counts()
        total = max(1, len(self.estimates))
        settled = len(self.states)
        count = f"{len(self.estimates)} task{'s' if len(self.estimates) != 1 else ''}"
        head = " · ".join(part for part in (f"journeyman {self.run}", self.title, count) if part)
        bar_width = max(10, min(_BAR, width - 20))
        full = bar_width * settled // total
        bar = "━" * full + "─" * (bar_width - full)
        lines = [head, f"{bar} {settled}/{len(self.estimates)}  {clock(now)}{self._cost()}", self.say(now)]
        room = max(1, rows - len(lines) - 1)
        lanes = list(self.lanes.values())
        for lane in lanes[:room]:
            lines.append(self._lane(lane, now, (doing or {}).get(lane.name, "")))
        if len(lanes) > room:
            lines.append(f"… and {len(lanes) - room} more instances")
        if self.checking and not self.checks and not counts["running"] and not counts["waiting"]:
            lines.append("checking the merged result …")
        return [fit(line, width) for line in lines]

    def _cost(self) -> str:
        if not self.spent.tokens:
            return ""
        return f"  ${self.spent.usd:.2f}, {self.spent.tokens:,} tokens, {self.spent.cache_read:,} of them cached"

    def _lane(self, lane: Lane, now: float, words: str) -> str:
        name = f"{lane.name:<13}"
        if not lane.task:
            return f"{name} · idle"
        mark = "⇄" if lane.stolen_from else "▶"
        text = f"{name} {mark} {clock(max(0.0, now - lane.since_s)):>5}  {lane.task}"
        if lane.attempt > 1:
            text += f" (attempt {lane.attempt})"
        if lane.stolen_from:
            text += f" (from {lane.stolen_from})"
        return text + (f"  {words}" if words and words != lane.task else "")


def because(task: str, error: str | None) -> str:
    """Why a task is not done, for a line that has named it: a task that is called like its one file is not named twice, and a long
    list of paths is cut (`show RUN TASK` and `--json` have all)."""
    return fit((error or "").removeprefix(f"{task}: "), _REASON)


def money(spent: ev.Spent) -> str:
    """What was bought, in words: dollars, tokens in, cached and out, and what the cache saved."""
    tokens = f"{spent.input + spent.cache_write:,} tokens in, {spent.cache_read:,} cached, {spent.output:,} out"
    saved = f"; the cache saved ${spent.saved_usd:.2f}" if spent.saved_usd >= 0.005 else ""
    return f"${spent.usd:.4f}, {tokens}{saved}" if spent.usd < 0.1 else f"${spent.usd:.2f}, {tokens}{saved}"


def clock(seconds: float) -> str:
    """Seconds as people read them: `4.2s`, `1:05`, `2:00:00`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def fit(line: str, width: int) -> str:
    """The line cut to a width, with a mark where it was cut."""
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
