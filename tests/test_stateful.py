"""The machine against a simple model (`stateful_model`), in whatever order things happen; with a journal that may lose its tail.

`JOURNEYMAN_STATEFUL=long` plays a hundred times as much, from a fresh seed each time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stateful_model import WORDS, Model

from runtime.core.changes import Change, Changeset
from runtime.core.commands import Command, Merge, Rollback, Start
from runtime.core.events import (
    Answered,
    Asked,
    CancelRequested,
    CrewSpec,
    DrainRequested,
    Event,
    Failed,
    FailureKind,
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
    Stepped,
    Submitted,
    Tick,
    Told,
)
from runtime.core.machine import RULES, Machine
from runtime.core.task import OnFailure, Task
from runtime.record_codec import decode, encode

CREWS = ("ui", "api")
NAMES = ("a", "b", "d/", "d/x", "d/y")
PICK = st.integers(0, 30)
CHANGES = Changeset("base", (Change("a", 0o100644, "0" * 40),))


class Run(RuleBasedStateMachine):
    """One run: what its users, its instances, its line and its luck may do to it."""

    policies: tuple[OnFailure, ...] = ("isolate", "isolate", "stop", "rollback-scope", "rollback-level")

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.model = Model()
        self.now = 0.0
        self.journal: list[bytes] = []
        self.durable = 0  # records that are on the disk
        self.merges: list[Merge] = []  # commanded, and not come back
        self.rollbacks: list[Rollback] = []  # as well
        self.tip = "base"
        self.line: dict[str, dict[str, tuple[int, str]]] = {"base": {}}  # {tip: {task: (attempt, commit)}}
        self.parents = {"base": ""}

    def _post(self, event: Event) -> None:
        self.journal.append(encode(self.now, event))
        commands = self.machine.handle(event, self.now)
        self.model.apply(event, self.now, commands)
        self._take(commands)

    def _take(self, commands: Sequence[Command]) -> None:
        self.merges += [one for one in commands if isinstance(one, Merge)]
        self.rollbacks += [one for one in commands if isinstance(one, Rollback)]

    def _one(self, pick: int, *states: str) -> str:
        found = self.model.tasks(*states)
        return found[pick % len(found)]

    @initialize(
        ui=st.integers(1, 3),
        api=st.integers(1, 2),
        least=st.integers(0, 1),
        most=st.integers(1, 5),
        helps=st.booleans(),
        data=st.data(),
        policy=PICK,
    )
    def open(
        self, ui: int, api: int, least: int, most: int, helps: bool, data: st.DataObject, policy: OnFailure
    ) -> None:
        crews = (CrewSpec("ui", ui, 1, ("api",) if helps else ()), CrewSpec("api", api, least))
        self._post(Opened("r1", crews, max_instances=most, merges=True, idle_s=1.0, rules=RULES))
        self.durable = len(self.journal)
        self.submit(data, data.draw(st.integers(1, 5)), policy, None)

    # --- users -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.rows) < 40)
    @rule(data=st.data(), count=st.integers(1, 5), policy=PICK, most=st.sampled_from([None, None, None, 2]))
    def submit(self, data: st.DataObject, count: int, policy: int, most: int | None) -> None:
        """A group of tasks that come after, are ordered behind and want what others want, under one policy for their failures;
        acknowledged once it is durable."""
        on_failure = self.policies[policy % len(self.policies)]
        known = list(self.model.rows)
        tasks, keys, orders, estimates = [], [], [], []
        for number in range(count):
            name = f"t{len(known)}"
            own = known[len(known) - number :]  # an order is between tasks of one plan, and so are levels
            others = own if on_failure == "rollback-level" else known
            before = st.sampled_from(others) if others else st.nothing()
            after = data.draw(st.lists(before, max_size=2, unique=True)) if others else []
            firsts = data.draw(st.lists(before, max_size=1)) if others else []
            orders += [Order(first, name, "a") for first in firsts if first not in after and first in own]
            writes = data.draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
            reads = data.draw(st.lists(st.sampled_from(NAMES), max_size=1))
            attempts = data.draw(st.integers(1, 3))
            scope = data.draw(st.sampled_from(("s", "s", "s", "r", "")))
            tasks.append(Task(name, data.draw(st.sampled_from(CREWS)), after=after, attempts=attempts, scope=scope))
            keys.append(Keys(tuple(writes), tuple(reads)))
            estimates.append(float(data.draw(st.integers(1, 9))))
            known.append(name)
        group = f"g{len(self.machine.groups) + 1}"
        self._post(Submitted(group, tuple(tasks), tuple(estimates), tuple(keys), tuple(orders), on_failure, most))
        self.durable = len(self.journal)

    @precondition(lambda self: not self.model.over)
    @rule(pick=PICK, everything=st.sampled_from([False] * 7 + [True]))
    def cancel(self, pick: int, everything: bool) -> None:
        """One task, whatever it is at, or all."""
        self._post(CancelRequested("" if everything else list(self.model.rows)[pick % len(self.model.rows)]))

    @precondition(lambda self: not self.model.draining and not self.model.over)
    @rule()
    def drain(self) -> None:
        """Ctrl-C once."""
        self._post(DrainRequested())

    @rule()
    def go_on(self) -> None:
        """The same process after a drain or a pause, or with another budget in the middle."""
        self._post(Resumed(crashed=False))

    def _ended(self) -> bool:
        return self.model.over and bool(self.model.rows)

    @precondition(lambda self: self._ended() and self.model.any("failed", "skipped", "cancelled"))
    @rule()
    def retry(self) -> None:
        """All that is not done, from a process of its own, as `journeyman retry` does."""
        again = tuple(record.task for record in self.machine.records.values() if record.state != "done")
        self.durable = len(self.journal)
        self._crash(0)
        self._post(Retried(f"g{len(self.machine.groups) + 1}", again))

    @precondition(lambda self: self._ended() and self.tip != "base")
    @rule()
    def undo(self) -> None:
        """The line goes one checkpoint back; it is recorded before it is done."""
        self._step("undo", self.parents[self.tip])

    @precondition(lambda self: self._ended() and bool(self.model.redo))
    @rule()
    def bring_again(self) -> None:
        """Redo of the last undo."""
        self._step("redo", self.model.redo[-1])

    def _step(self, how: Any, after: str) -> None:
        old, new = self.line[self.tip], self.line[after]
        off = tuple(task for task in old if task not in new)
        on = {task: commit for task, (_, commit) in new.items() if task not in old or old[task][1] != commit}
        self._post(Stepped(how, self.tip, after, off, on))
        self.durable = len(self.journal)
        self.tip = after

    # --- instances ---------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.any("running"))
    @rule(pick=PICK, changes=st.booleans())
    def finish(self, pick: int, changes: bool) -> None:
        """An attempt comes to its end, with a changeset or with nothing to merge."""
        name = self._one(pick, "running")
        if not self.model.rows[name].asking:
            self._post(Finished(name, self.model.rows[name].attempt, {"of": name}, CHANGES if changes else None))

    @precondition(lambda self: self.model.any("running"))
    @rule(
        pick=PICK,
        kind=st.sampled_from(["transient", "transient", "permanent", "timeout", "paused", "cancelled"]),
        fresh=st.booleans(),
        hold=st.booleans(),
        least=st.sampled_from([None, 3.0]),
    )
    def fail(self, pick: int, kind: FailureKind, fresh: bool, hold: bool, least: float | None) -> None:
        """An attempt fails: it may pass, it is no use, the money is spent (for it or for all), its conversation led nowhere."""
        name = self._one(pick, "running")
        if kind != "cancelled" or self.model.rows[name].cancelling:
            self._post(Failed(name, self.model.rows[name].attempt, kind, kind, least, fresh=fresh, hold=hold))

    @precondition(lambda self: bool(self.model.spoilers()))
    @rule(pick=PICK, merged=st.integers(0, 2))
    def spoil(self, pick: int, merged: int) -> None:
        """Those that run beside a task come to their end, some onto the line; then it fails for good, and they are taken back."""
        found = self.model.spoilers()
        name = found[pick % len(found)]
        for mate in self.model.mates(name):
            if not self.model.rows[mate].asking:
                self._post(Finished(mate, self.model.rows[mate].attempt, None, CHANGES))
            if self.merges and merged:
                self.merge(True, False, 0)
                merged -= 1
        if self.model.rows[name].state == "running":
            self._post(Failed(name, self.model.rows[name].attempt, "no use", "permanent"))

    @precondition(lambda self: self.model.any("running"))
    @rule(pick=PICK)
    def say(self, pick: int) -> None:
        """A model answers, and is told what its tools found; in a conversation that goes on from where it was."""
        name = self._one(pick, "running")
        row = self.model.rows[name]
        turn = sum(isinstance(one, Answered) for one in row.turns or ()) + 1
        self._post(Answered(name, row.attempt, turn, [{"text": f"{turn}"}], spent=Spent(1, usd=0.1)))
        self.durable = len(self.journal)  # an answer that was bought is on the disk before its tools run
        if pick % 3:
            self._post(Told(name, row.attempt, turn, [{"text": "so"}]))

    @precondition(lambda self: self.model.any("running"))
    @rule(pick=PICK, path=st.sampled_from(NAMES))
    def ask(self, pick: int, path: str) -> None:
        """An attempt wants one more path."""
        name = self._one(pick, "running")
        if not self.model.rows[name].asking:
            self._post(Asked(name, self.model.rows[name].attempt, path))

    @precondition(lambda self: bool(self.model.alive))
    @rule(pick=PICK)
    def instance_dies(self, pick: int) -> None:
        """Busy, idle or with a deque of its own."""
        self._post(InstanceDied(list(self.model.alive)[pick % len(self.model.alive)], "shot"))

    @precondition(lambda self: not self.model.over)
    @rule(pick=PICK, late=st.integers(1, 3))
    def a_dead_attempt_speaks(self, pick: int, late: int) -> None:
        """What a stale attempt says changes nothing."""
        name, row = list(self.model.rows.items())[pick % len(self.model.rows)]
        before = self.machine.stale
        self._post(Finished(name, row.attempt - late, "late", CHANGES))
        self._post(Merged(name, row.attempt - late, "late"))
        assert self.machine.stale == before + 2

    # --- time and the line -------------------------------------------------------------------------------------

    @precondition(lambda self: not self.model.over)
    @rule(seconds=st.sampled_from([0.1, 1.0, 1.5, 60.0]))
    def tick(self, seconds: float) -> None:
        """Time goes by; the machine is told when it wanted to be."""
        self.now += seconds
        due = self.machine.deadline()
        if due is not None and due <= self.now:
            self._post(Tick())

    @precondition(lambda self: bool(self.merges))
    @rule(fits=st.sampled_from([True, True, True, False]), dies=st.sampled_from([False, False, False, True]), pick=PICK)
    def merge(self, fits: bool, dies: bool, pick: int) -> None:
        """The line takes a changeset, refuses it, or the process dies with the commit made and not told."""
        job = self.merges.pop(0)
        self.durable = len(self.journal)  # no effect leaves before its event is on the disk
        there = self.line[self.tip].get(job.task)
        if there is None and not fits:
            self._post(Failed(job.task, job.attempt, "it does not fit", "conflict"))
            return
        if there is None:
            commit = f"c{len(self.line)}"
            self.line[commit] = {**self.line[self.tip], job.task: (job.attempt, commit)}
            self.parents[commit], self.tip = self.tip, commit
        else:
            assert there[0] == job.attempt, f"{job}: attempt {there[0]} is on the line already"
            commit = there[1]
        if dies:
            self._crash(pick)
        else:
            self._post(Merged(job.task, job.attempt, commit))

    @precondition(lambda self: bool(self.rollbacks))
    @rule(fits=st.sampled_from([True, True, True, False]), dies=st.sampled_from([False, False, False, True]), pick=PICK)
    def roll_back(self, fits: bool, dies: bool, pick: int) -> None:
        """The line takes tasks out by their inverse, finds them entangled, or the process dies with that made and not told."""
        job = self.rollbacks.pop(0)
        self.durable = len(self.journal)
        there = self.line[self.tip].keys() & set(job.tasks)
        if there and not fits:
            self._post(RolledBack(job.tasks, error="others changed it since"))
            return
        if there:
            commit = f"c{len(self.line)}"
            kept = {task: one for task, one in self.line[self.tip].items() if task not in there}
            self.line[commit], self.parents[commit], self.tip = kept, self.tip, commit
        if dies:
            self._crash(pick)
        else:
            self._post(RolledBack(job.tasks, self.tip))

    @precondition(lambda self: bool(self.model.rows))
    @rule(pick=PICK, outside=st.booleans())
    def crash(self, pick: int, outside: bool) -> None:
        """kill -9: what was not durable may be gone; another process goes on. By somebody (`outside`), or by a task itself."""
        self._crash(pick, outside)

    def _crash(self, lost: int, outside: bool = False) -> None:
        self._rebuild_is_the_same()
        kept = max(self.durable, len(self.journal) - lost)
        self.journal = self.journal[:kept]
        self.durable = kept
        self.machine, self.model = Machine(), Model()
        for at, event in map(decode, self.journal):
            self.model.apply(event, at, self.machine.handle(event, at))
        self.merges, self.rollbacks = [], []
        self._post(Resumed(crashed=True, outside=outside))
        resumed = [one for one in self.machine.resume() if one not in (*self.merges, *self.rollbacks)]
        self._take(resumed)

    def _rebuild_is_the_same(self) -> None:
        other = Machine()
        for at, event in map(decode, self.journal):
            other.handle(event, at)
        assert _seen(other) == _seen(self.machine)

    # --- whatever happened -------------------------------------------------------------------------------------

    @invariant()
    def every_promise_holds(self) -> None:
        """The machine's own invariants, the model's, and that both have each task in the same place."""
        self.machine.check()
        self.model.check()
        for name, row in self.model.rows.items():
            record = self.machine.records[name]
            assert WORDS.get(record.state, record.state) == row.state, f"{record}, and the model has {row}"
            assert (record.attempt, record.last_attempt) == (row.attempt, row.allowed)
            assert record.turns == row.turns, f"{name}: {record.turns}, and the model has {row.turns}"
            assert record.commit == row.commit
        assert len(self.machine.records) == len(self.model.rows)
        assert self.machine.draining == self.model.draining
        assert [tip for _, tip in self.machine.undo.redo] == self.model.redo
        told = {name: row.commit for name, row in self.model.rows.items() if row.commit is not None}
        on_line = {name: commit for name, (_, commit) in self.line[self.tip].items()}
        unheard = {job.task for job in self.merges}
        leaving = {task for job in self.rollbacks for task in job.tasks}
        assert {task: commit for task, commit in told.items() if task not in leaving}.items() <= on_line.items(), (
            "done, and not on the line"
        )
        assert on_line.keys() - told.keys() <= unheard, "on the line, and not done"

    @precondition(lambda self: bool(self.model.rows) and not self.model.over)
    @rule(every=st.integers(1, 4), really=st.sampled_from([False] * 7 + [True]))
    def left_alone(self, every: int, really: bool) -> None:
        """For once, until all is over."""
        if really:
            self.get_on(every)

    def get_on(self, every: int) -> None:
        """The run is left alone until all is over; each attempt ends well, and one in some has nothing to merge."""
        for count in range(500):
            if self.model.over:
                break
            if self.model.draining:
                self.go_on()
            elif self.merges:
                self.merge(True, False, 0)
            elif self.rollbacks:
                self.roll_back(True, False, 0)
            elif self.model.any("running"):
                name = self._one(count, "running")
                self._post(Finished(name, self.model.rows[name].attempt, None, CHANGES if count % every else None))
            else:
                self.tick(60.0)
            self.every_promise_holds()
        assert self.model.over, "it does not come to an end"
        assert self.machine.at_rest
        assert self.machine.registry.empty

    def teardown(self) -> None:
        """However it was left, it comes to its end, nothing is held, and the journal tells it all again."""
        if self.model.rows and not self.model.over:
            self.get_on(3)
        self._rebuild_is_the_same()


def _play(events: Sequence[Event]) -> tuple[Machine, list[Command]]:
    """A machine with two instances after these events, a second apart, and what the last one made it command."""
    machine = Machine()
    commands = machine.handle(Opened("r1", (CrewSpec("ui", 2),), backoff_s=60.0, rules=RULES), 0.0)
    for at, event in enumerate(events, 1):
        commands = machine.handle(event, float(at))
        machine.check()
    return machine, commands


def test_the_end_of_a_doomed_task_admits_no_other() -> None:
    """Of two new tasks that both come after a failed one, and one behind the other, neither runs."""
    first = Submitted("g1", (Task("a", "ui", attempts=1),), keys=(Keys(),))
    doomed = (Task("b", "ui", after="a"), Task("c", "ui", after="a"))
    second = Submitted("g2", doomed, keys=(Keys(("x",)), Keys(("x",))), orders=(Order("b", "c", "x"),))
    machine, commands = _play([first, Failed("a", 1, "no"), second])
    assert [machine.records[name].state for name in "abc"] == ["failed", "skipped", "skipped"]
    assert not [one for one in commands if isinstance(one, Start)]


def test_what_is_cancelled_with_others_is_never_started() -> None:
    """When all is cancelled, or a run stops at its first failure, what waited behind a cancelled task does not start instead."""
    tasks = (Task("a", "ui", attempts=1), Task("b", "ui"), Task("c", "ui"))
    keys = (Keys(), Keys(("x",)), Keys(("x",)))
    orders = (Order("b", "c", "x"),)
    waits = Failed("b", 1, "may pass")
    machine, commands = _play([Submitted("g1", tasks, keys=keys, orders=orders), waits, CancelRequested()])
    assert [machine.records[name].state for name in "abc"] == ["running", "cancelled", "cancelled"]
    assert not [one for one in commands if isinstance(one, Start)]
    stopping = Submitted("g1", tasks, keys=keys, orders=orders, on_failure="stop")
    machine, commands = _play([stopping, waits, Failed("a", 1, "no")])
    assert [machine.records[name].state for name in "abc"] == ["failed", "cancelled", "cancelled"]
    assert not [one for one in commands if isinstance(one, Start)]


def test_nobody_starts_on_what_a_failure_frees_when_it_stops_the_run() -> None:
    """What waited for a failing task's paths, or was ordered behind it, is cancelled with the rest and not started first; a run of before
    that was so is replayed as it was."""
    keys = (Keys(("x",)), Keys(("x",)), Keys(("x",)))
    tasks = tuple(Task(name, "ui", attempts=1) for name in "abc")
    submitted = Submitted("g1", tasks, keys=keys, orders=(Order("a", "b", "x"),), on_failure="stop")
    machine, commands = _play([submitted, Failed("a", 1, "no")])
    assert [machine.records[name].state for name in "abc"] == ["failed", "cancelled", "cancelled"]
    assert not [one for one in commands if isinstance(one, Start)]
    machine, commands = _play([Opened("r1", (CrewSpec("ui", 2),)), submitted, Failed("a", 1, "no")])
    assert machine.records["c"].state == "running"


def test_a_spent_quota_starts_nobody_on_the_claims_it_frees() -> None:
    """The task that finds the quota spent gives its claims back; who waited for them waits for the resume too."""
    tasks = (Task("a", "ui"), Task("b", "ui"))
    submitted = Submitted("g1", tasks, keys=(Keys(("x",)), Keys(("x",))))
    machine, commands = _play([submitted, Failed("a", 1, "spent", "paused")])
    assert [machine.records[name].state for name in "ab"] == ["held", "ready"]
    assert not [one for one in commands if isinstance(one, Start)]


@pytest.mark.parametrize(("error", "state"), [("", "skipped"), ("it no longer applies", "running")])
def test_what_comes_after_a_task_that_is_being_taken_back_is_told_of_its_end(error: str, state: str) -> None:
    """A task that is submitted behind one which is just being rolled back is skipped when that is gone, and runs when it stays."""
    machine, _ = _play(
        [
            Opened(crews=(CrewSpec("c"),), merges=True),
            Submitted(
                "g", (Task("a", "c", scope="s"), Task("b", "c", scope="s", attempts=1)), on_failure="rollback-scope"
            ),
            Finished("a", 1, changeset=Changeset("0" * 40, (Change("x", 0o100644, "1" * 40, None),))),
            Merged("a", 1, "2" * 40),
            Failed("b", 1, "no", "permanent"),
            Submitted("h", (Task("later", "ui", after=("a",)),)),
            RolledBack(("a",), error=error),
        ]
    )
    assert machine.records["later"].state == state
    machine.check()


def _seen(machine: Machine) -> dict[str, Any]:
    """All that a later event could depend on."""
    crews = machine.dispatch.crews.values()
    return {
        "tasks": {
            name: (
                record.state, record.attempt, record.last_attempt, record.missing, record.crashes, record.error, record.result,
                record.commit, record.turns, record.spent, record.cancelling, record.keys, record.changeset,
                record.instance.name if record.instance is not None else "",
            )
            for name, record in machine.records.items()
        },
        "claims": {name: (machine.registry.owner(name), machine.registry.readers(name)) for name in NAMES},
        "deques": {one.name: [entry[2].task.id for entry in one.deque] for crew in crews for one in crew.members},
        "parked": {crew.spec.name: list(crew.parked) for crew in crews},
        "backlog": {crew.spec.name: [entry[2].task.id for entry in crew.backlog] for crew in crews},
        "due": machine.deadline(),
        "redo": machine.undo.redo,
        "told": (machine.draining, machine.paused, machine.held, machine.merging, machine.stale),
    }  # fmt: skip


LONG = os.environ.get("JOURNEYMAN_STATEFUL") == "long"

TestRun = Run.TestCase
TestRun.__doc__ = (
    "In whatever order things happen, the machine does what the model says, and its journal tells it all again."
)


class Unlucky(Run):
    """One whose failures always take others back."""

    policies = ("rollback-scope", "rollback-level")


TestUnlucky = Unlucky.TestCase
TestUnlucky.__doc__ = "Whatever has to be taken back is, once, with what was built on it, and nothing else."
TestUnlucky.settings = TestRun.settings = settings(
    max_examples=10_000 if LONG else 150,
    stateful_step_count=80 if LONG else 40,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
