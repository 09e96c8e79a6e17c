"""A seeded world around the machine: instances, a line, a journal that may lose its tail, and everything that goes wrong.

No clock and no threads: a heap of things to come. Each run is decided by its seed alone, so a failure is reproduced by it. The
world keeps its own accounts (what it acknowledged, which commits are on its line) and never asks the machine for them.
"""

from __future__ import annotations

import heapq
import random
from typing import Any

import attrs

from runtime.core.changes import Change, Changeset
from runtime.core.commands import Abort, Command, Grant, Merge, Refuse, Rollback, Start
from runtime.core.events import (
    Asked,
    CancelRequested,
    CrewSpec,
    DrainRequested,
    Event,
    Failed,
    Finished,
    InstanceDied,
    Keys,
    Merged,
    Opened,
    Order,
    Resumed,
    Retried,
    RolledBack,
    Submitted,
    Tick,
)
from runtime.core.machine import Machine
from runtime.core.plan import conflicts
from runtime.core.record import DONE, FINAL
from runtime.core.task import Task
from runtime.record_codec import decode, encode

NAMES = ("a", "b", "c", "d/", "d/x", "d/y", "d/e/", "d/e/z", "f/g", "h")
CREWS = ("ui", "api", "test")


@attrs.define
class Faults:
    """How likely each thing is, per attempt or per step."""

    fail: float = 0.1
    give_up: float = 0.03
    die: float = 0.03
    ask: float = 0.05
    merge_fails: float = 0.05
    cancel: float = 0.01
    drain: float = 0.005
    crash: float = 0.01


@attrs.define
class World:
    """One simulated run. `play()` takes it to its end and asserts all the way."""

    seed: int
    faults: Faults = attrs.field(factory=Faults)
    size: int = 25
    rng: random.Random = attrs.field(init=False)
    machine: Machine = attrs.field(init=False, factory=Machine)
    now: float = 0.0
    journal: list[bytes] = attrs.field(init=False, factory=list)
    durable: int = 0  # records that are on the disk
    line: dict[str, int] = attrs.field(init=False, factory=dict)  # {task: the attempt whose commit is on the line}
    commits: int = 0
    acknowledged: set[str] = attrs.field(init=False, factory=set)
    crashes: int = 0
    steps: int = 0
    _heap: list[tuple[float, int, Any]] = attrs.field(init=False, factory=list)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    # --- the plan ----------------------------------------------------------------------------------------------

    def _tasks(self) -> tuple[Task, ...]:
        rng = self.rng
        tasks = []
        for number in range(rng.randint(2, self.size)):
            after = [f"t{other}" for other in range(number) if rng.random() < 1.2 / (number + 1)]
            writes = tuple(rng.sample(NAMES, rng.choice((0, 1, 1, 2, 3))))
            reads = tuple(rng.sample(NAMES, rng.choice((0, 0, 1, 2))))
            tasks.append(
                Task(
                    f"t{number}",
                    rng.choice(CREWS),
                    after=after,
                    writes=writes,
                    reads=reads,
                    scope=rng.choice(("", "s1", "s2")),
                    attempts=rng.randint(1, 4),
                )
            )
        return tuple(tasks)

    def _open(self) -> None:
        rng = self.rng
        helps = rng.choice(((), ("test",), ("api", "test")))
        crews = (
            CrewSpec("ui", rng.randint(1, 3), 1, helps),
            CrewSpec("api", rng.randint(1, 4), 1),
            CrewSpec("test", rng.randint(1, 3), rng.randint(0, 1)),
        )
        self._post(
            Opened("sim", crews, max_instances=rng.choice((1, 2, 3, 5, 20)), merges=True, idle_s=rng.choice((0.5, 5.0)))
        )

    def _submit(self, group: str, tasks: tuple[Task, ...]) -> None:
        rng = self.rng
        found = conflicts(tasks, lambda task: (task.writes, task.reads)) if rng.random() < 0.7 else ()
        orders = tuple(Order(one.first, one.then, one.path) for one in found)
        self._post(
            Submitted(
                group,
                tasks,
                estimates=tuple(rng.lognormvariate(0, 0.8) for _ in tasks),
                keys=tuple(Keys(task.writes, task.reads) for task in tasks),
                orders=orders,
                on_failure=rng.choice(("isolate", "isolate", "stop", "rollback-scope", "rollback-level")),
                max_failures=rng.choice((None, None, None, 3)),
            )
        )
        self.durable = len(self.journal)
        self.acknowledged.update(task.id for task in tasks)

    # --- time --------------------------------------------------------------------------------------------------

    def _at(self, delay_s: float, what: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._count, what))

    def _post(self, event: Event) -> None:
        self.journal.append(encode(self.now, event))
        commands = self.machine.handle(event, self.now)
        self.steps += 1
        self.machine.check()
        for command in commands:
            self._perform(command)

    def _perform(self, command: Command) -> None:
        rng = self.rng
        if isinstance(command, Start):
            self._begin(command)
        elif isinstance(command, Abort):
            self._at(rng.random() * 0.2, Failed(command.task, command.attempt, "aborted", "cancelled"))
        elif isinstance(command, (Merge, Rollback)):
            self._at(rng.random() * 0.1, command)
        elif isinstance(command, Grant | Refuse):
            self._at(rng.random(), self._ending(command.task, command.attempt))

    def _begin(self, start: Start) -> None:
        rng, faults = self.rng, self.faults
        length = rng.lognormvariate(0, 0.8)
        dice = rng.random()
        if dice < faults.die:
            self._at(length, InstanceDied(start.instance, "shot"))
        elif dice < faults.die + faults.ask:
            self._at(length, Asked(start.task, start.attempt, rng.choice(NAMES)))
        else:
            self._at(length, self._ending(start.task, start.attempt))

    def _ending(self, task: str, attempt: int) -> Event:
        rng, faults = self.rng, self.faults
        dice = rng.random()
        if dice < faults.fail:
            after = rng.choice((None, None, 30.0))
            return Failed(task, attempt, "may pass", "transient", after)
        if dice < faults.fail + faults.give_up:
            return Failed(task, attempt, "no use", "permanent")
        changes = (Change("a", 0o100644, "0" * 40),) if rng.random() < 0.8 else ()
        return Finished(task, attempt, {"n": attempt}, Changeset("base", changes))

    # --- effects -----------------------------------------------------------------------------------------------

    def _merge(self, command: Merge) -> None:
        self.durable = len(self.journal)  # no effect leaves before its event is on the disk
        if self.rng.random() < self.faults.merge_fails and command.task not in self.line:
            self._post(Failed(command.task, command.attempt, "it does not fit", "conflict"))
            return
        if self.line.get(command.task) != command.attempt:  # as the line does: a commit that is there is found
            record = self.machine.records[command.task]
            assert record.attempt == command.attempt, "a stale attempt reached the line"
            assert command.task not in self.line, f"{command.task} is committed twice"
            self.line[command.task] = command.attempt
            self.commits += 1
            if self.rng.random() < self.faults.crash:
                self._crash()
                return
        self._post(Merged(command.task, command.attempt, f"c-{command.task}"))

    def _roll_back(self, command: Rollback) -> None:
        self.durable = len(self.journal)
        for task in command.tasks:
            self.line.pop(task, None)
        self._post(RolledBack(command.tasks, "inverse"))

    def _crash(self) -> None:
        """The process dies: what was not durable is gone, and everything in flight with it."""
        self.crashes += 1
        kept = self.rng.randint(self.durable, len(self.journal))
        self.journal = self.journal[:kept]
        self.durable = kept
        self._heap.clear()
        self.machine = Machine()
        last = 0.0
        for last, event in map(decode, self.journal):
            self.machine.handle(event, last)
        self.machine.check()
        self._post(Resumed(crashed=True))
        for command in self.machine.resume():
            self._perform(command)

    # --- playing -----------------------------------------------------------------------------------------------

    def play(self) -> Machine:
        """Run to the end: everything settled, every promise kept. Raises AssertionError with the seed."""
        try:
            self._open()
            self._submit("g1", self._tasks())
            self._run()
            if self.rng.random() < 0.3:
                self._again()
            self._judge()
        except AssertionError as error:
            raise AssertionError(f"seed {self.seed}: {error}") from error
        return self.machine

    def _again(self) -> None:
        failed = tuple(one.task for one in self.machine.records.values() if one.state != DONE)
        self._post(Resumed(crashed=True))
        self._post(Retried("again", failed))
        self._run()

    def _run(self) -> None:
        while True:
            assert self.steps < 20_000, "it does not come to an end"
            if all(record.state in FINAL for record in self.machine.records.values()) and self.machine.at_rest:
                return
            due = self.machine.deadline()
            if self._heap and (due is None or self._heap[0][0] <= due):
                self.now, _, what = heapq.heappop(self._heap)
                self._happen(what)
            elif due is not None:
                self.now = max(self.now, due)
                self._post(Tick())
            else:
                states = {name: one.state for name, one in self.machine.records.items() if one.state not in FINAL}
                assert self.machine.draining, f"nothing will ever happen again, and these wait: {states}"
                self._post(Resumed(crashed=False))
            self._meddle()

    def _happen(self, what: Any) -> None:
        if isinstance(what, Merge):
            self._merge(what)
        elif isinstance(what, Rollback):
            self._roll_back(what)
        elif isinstance(what, InstanceDied):
            alive = any(one.name == what.instance and not one.died for one in self.machine.dispatch.everyone)
            if alive:
                self._post(what)
        else:
            self._post(what)

    def _meddle(self) -> None:
        rng, faults = self.rng, self.faults
        if rng.random() < faults.cancel:
            self._post(CancelRequested(rng.choice(list(self.machine.records))))
        if rng.random() < faults.drain and not self.machine.draining:
            self._post(DrainRequested())
        if rng.random() < faults.crash:
            self._crash()

    def _judge(self) -> None:
        records = self.machine.records
        assert set(records) == self.acknowledged, "an acknowledged task is gone"
        for name, record in records.items():
            assert record.state in FINAL
            if record.commit is not None:
                assert record.state == DONE, f"{record} has a commit"
                assert self.line.get(name) == record.attempt, f"{record} says it is on the line, and is not"
            else:
                assert name not in self.line, f"{record} is on the line and does not say so"
        assert self.machine.registry.empty
        assert not self.machine.dispatch.running
