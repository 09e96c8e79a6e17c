"""Schedules in virtual time: the machine's own, and what others do with the same tasks, lengths and claims."""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Mapping, Sequence

from runtime.core.commands import Start
from runtime.core.events import CrewSpec, Finished, Opened, Order, StealPolicy, Submitted
from runtime.core.machine import Machine
from runtime.core.plan import conflicts, levels
from runtime.core.task import Task

INSTANCES = 3
Lengths = Mapping[str, float]


def play(
    tasks: Sequence[Task], lengths: Lengths, orders: Sequence[Order], estimates: Sequence[float], steal: StealPolicy
) -> float:
    """The machine's makespan, seconds."""
    machine = Machine()
    machine.handle(Opened(crews=(CrewSpec("a", INSTANCES),), steal=steal), 0.0)
    heap: list[tuple[float, int, Start]] = []
    now, count = 0.0, 0
    commands = machine.handle(Submitted("g", tuple(tasks), orders=tuple(orders), estimates=tuple(estimates)), 0.0)
    while True:
        for command in commands:
            if isinstance(command, Start):
                count += 1
                heapq.heappush(heap, (now + lengths[command.task], count, command))
        if not heap:
            return now
        now, _, start = heapq.heappop(heap)
        commands = machine.handle(Finished(start.task, start.attempt), now)


def shared_queue(tasks: Sequence[Task], lengths: Lengths, before: Mapping[str, set[str]]) -> float:
    """One queue in the order of the plan: an idle instance takes the first task that is ready."""
    waiting = [task.id for task in tasks]
    done: set[str] = set()
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        for name in list(waiting):
            if len(running) < INSTANCES and before[name] <= done:
                waiting.remove(name)
                heapq.heappush(running, (now + lengths[name], name))
        now, name = heapq.heappop(running)
        done.add(name)
    return now


def barriers(rows: Sequence[Sequence[str]], lengths: Lengths) -> float:
    """Row after row; within a row an idle instance takes the next; nothing of the next row starts before the last has ended."""
    now = 0.0
    for row in rows:
        free = [now] * INSTANCES
        for name in row:
            heapq.heapreplace(free, free[0] + lengths[name])
        now = max(free)
    return now


def in_fours(tasks: Sequence[Task], lengths: Lengths, before: Mapping[str, set[str]]) -> float:
    """Batches of four ready tasks, each batch waited for."""
    waiting = [task.id for task in tasks]
    done: set[str] = set()
    now = 0.0
    while waiting:
        batch = [name for name in waiting if before[name] <= done][:4]
        now = barriers([batch], lengths) + now
        done.update(batch)
        waiting = [name for name in waiting if name not in done]
    return now


def bound(tasks: Sequence[Task], lengths: Lengths, before: Mapping[str, set[str]]) -> float:
    """The work over the instances, or the longest path."""
    longest: dict[str, float] = {}
    for task in _in_order(tasks, before):
        longest[task] = lengths[task] + max((longest[name] for name in before[task]), default=0.0)
    return max(sum(lengths.values()) / INSTANCES, max(longest.values()))


def _in_order(tasks: Sequence[Task], before: Mapping[str, set[str]]) -> list[str]:
    done: dict[str, None] = {}
    waiting = [task.id for task in tasks]
    while waiting:
        for name in list(waiting):
            if before[name] <= done.keys():
                done[name] = None
                waiting.remove(name)
    return list(done)


def skewed(seeds: int) -> tuple[float, float]:
    """(with estimates, without): mean of makespan over bound on lognormal lengths, sigma 0.6."""
    known, unknown = [], []
    for count in (20, 30, 18, 24, 15):
        for seed in range(seeds):
            rng = random.Random(seed * 1000 + count)
            lengths = {f"t{number}": rng.lognormvariate(0, 0.6) for number in range(count)}
            tasks = [Task(name, "a") for name in lengths]
            least = max(sum(lengths.values()) / INSTANCES, max(lengths.values()))
            known.append(play(tasks, lengths, (), list(lengths.values()), "front") / least)
            unknown.append(play(tasks, lengths, (), [1.0] * count, "front") / least)
    return statistics.mean(known), statistics.mean(unknown)


def graphs(count: int, overlapping: bool) -> dict[str, float]:
    """{schedule: mean of makespan over bound} on random graphs of 50 to 300 tasks."""
    found: dict[str, list[float]] = {}
    for seed in range(count):
        rng = random.Random(seed)
        size = rng.randint(50, 300)
        density = rng.uniform(0, 0.05)
        tasks, lengths = [], {}
        for number in range(size):
            after = tuple(f"t{other}" for other in range(max(0, number - 60), number) if rng.random() < density)
            writes = (f"f{rng.randrange(size)}", f"f{rng.randrange(size)}") if overlapping else ()
            tasks.append(Task(f"t{number}", "a", after=after, writes=tuple(dict.fromkeys(writes))))
            lengths[f"t{number}"] = rng.lognormvariate(0, 0.6)
        orders = conflicts(tasks, lambda task: (task.writes, ()))
        before = {task.id: set(task.after) for task in tasks}
        for one in orders:
            before[one.then].add(one.first)
        least = bound(tasks, lengths, before)
        estimates = list(lengths.values())
        rows = {
            "stealing": play(tasks, lengths, orders, estimates, "front"),
            "steal the back": play(tasks, lengths, orders, estimates, "back"),
            "steal half": play(tasks, lengths, orders, estimates, "half"),
            "static round-robin": play(tasks, lengths, orders, estimates, "never"),
            "one queue": shared_queue(tasks, lengths, before),
            "level barriers": barriers(levels(tasks, orders), lengths),
            "batches of four": in_fours(tasks, lengths, before),
        }
        for name, makespan in rows.items():
            found.setdefault(name, []).append(makespan / least)
    return {name: statistics.mean(figures) for name, figures in found.items()}
