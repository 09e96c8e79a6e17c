"""A seeded world around the machine: instances, a line, a journal that may lose its tail, and everything that goes wrong.

No clock and no threads: a heap of things to come. Each run is decided by its seed alone, so a failure is reproduced by it. The
world keeps its own accounts (what it acknowledged, which commits are on its line, which answers were bought and what they cost) and
never asks the machine for them. A task that talks buys an answer a turn from a model that may be out of quota or be cut off; an
answer is durable before it is used, and who goes on with the task must know each of them.
"""

from __future__ import annotations

import heapq
import random
from typing import Any

import attrs

from runtime.core.changes import Change, Changeset
from runtime.core.commands import Abort, Command, Grant, Merge, Refuse, Rollback, Start
from runtime.core.events import (
    NOTHING,
    Answered,
    Asked,
    CancelRequested,
    Charged,
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
    Spent,
    Submitted,
    Tick,
    Told,
)
from runtime.core.machine import RULES, Machine
from runtime.core.plan import conflicts
from runtime.core.record import DONE, FINAL, RUNNING
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
    talk: float = 0.0  # of a task: it is a conversation

    @classmethod
    def of(cls, seed: int) -> Faults:
        """Those that the gate plays a seed with: every other one crashes often."""
        return cls(crash=0.1, talk=0.4) if seed % 2 else cls(talk=0.4)


@attrs.frozen
class Speak:
    """The next turn of an attempt's conversation is due."""

    task: str
    attempt: int


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
    said: dict[str, list[tuple[int, Answered | Told | None]]] = attrs.field(init=False, factory=dict)
    """{task: its turns, each with its number in the journal; None = from here it is another conversation}"""
    spent: list[tuple[int, str, Spent]] = attrs.field(init=False, factory=list)  # (number in the journal, task, what)
    answers: int = 0
    _talkers: set[str] = attrs.field(init=False)
    # Of its own: a world in which nobody talks is what it was before there were any
    _talk: random.Random = attrs.field(init=False)
    _heap: list[tuple[float, int, Any]] = attrs.field(init=False, factory=list)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._talk = random.Random(f"talk {self.seed}")
        self._talkers = {f"t{number}" for number in range(self.size) if self._talk.random() < self.faults.talk}

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
            Opened(
                "sim",
                crews,
                max_instances=rng.choice((1, 2, 3, 5, 20)),
                merges=True,
                idle_s=rng.choice((0.5, 5.0)),
                rules=RULES if self.seed % 4 else 0,
            )
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
        elif start.task in self._talkers:
            self._at(length / 4, Speak(start.task, start.attempt))
            known = self.machine.records[start.task].turns or []
            own = self._said(start.task)
            assert known == own, f"{start.task} goes on from {len(known)} turns of {len(own)}"
        else:
            self._at(length, self._ending(start.task, start.attempt))

    # --- the model ---------------------------------------------------------------------------------------------

    def _speak(self, due: Speak) -> None:
        """One turn. The actor lives as long as its attempt does: a call that was in flight then is repeated, no other."""
        record = self.machine.records[due.task]
        if record.state != RUNNING or record.attempt != due.attempt:
            return
        rng, said = self._talk, self._said(due.task)
        last = said[-1] if said else None
        dice = rng.random()
        if isinstance(last, Answered):
            self._say(Told(due.task, due.attempt, last.turn, [{"type": "text", "text": "go on"}]))
        elif dice < 0.05:
            self._post(Failed(due.task, due.attempt, "quota", "paused", hold=rng.random() < 0.5))
            return
        elif dice < 0.1:
            self._anew(due.task)
            self._post(Failed(due.task, due.attempt, "led nowhere", fresh=True))
            return
        elif dice < 0.15:
            spent = Spent(input=7, usd=0.25)
            self.spent.append((len(self.journal), due.task, spent))
            self._post(Charged(due.task, due.attempt, spent, "cut off"))
        else:
            self._say(
                Answered(
                    due.task,
                    due.attempt,
                    last.turn + 1 if last else 1,
                    [{"type": "text", "text": f"{rng.random()}"}],
                    spent=Spent(output=1, usd=0.5),
                )
            )
            if rng.random() < self.faults.crash:
                self._crash()
                return
            if rng.random() < 0.3:
                self._at(rng.random(), self._ending(due.task, due.attempt))
                return
        self._at(rng.random(), due)

    def _said(self, task: str) -> list[Answered | Told]:
        """The conversation that a task has to go on with."""
        turns: list[Answered | Told] = []
        for _, turn in self.said.get(task, ()):
            turns = [] if turn is None else [*turns, turn]
        return turns

    def _anew(self, task: str) -> None:
        """With the next record the task's conversation is over."""
        self.said.setdefault(task, []).append((len(self.journal), None))

    def _say(self, turn: Answered | Told) -> None:
        self.said.setdefault(turn.task, []).append((len(self.journal), turn))
        if isinstance(turn, Answered):
            self.answers += 1
            self.spent.append((len(self.journal), turn.task, turn.spent))
        self._post(turn)
        if isinstance(turn, Answered):
            self.durable = len(self.journal)  # before its tools run

    def _forget(self, kept: int) -> None:
        """What was not on the disk was not said, and what an answer cost is known as long as the answer is."""
        for turns in self.said.values():
            lost = [turn for number, turn in turns if number >= kept]
            assert not any(isinstance(turn, Answered) for turn in lost), "an answer that was used is lost"
            turns[:] = [one for one in turns if one[0] < kept]
        self.spent = [one for one in self.spent if one[0] < kept]

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
            self._anew(command.task)
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
        self._forget(kept)
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
        for task in failed:
            self._anew(task.id)
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
        elif isinstance(what, Speak):
            self._speak(what)
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
            spent = sum((one for _, task, one in self.spent if task == name), NOTHING)
            assert (record.spent or NOTHING) == spent, f"{record} cost {spent}, and says {record.spent}"
        assert self.machine.registry.empty
        assert not self.machine.dispatch.running
