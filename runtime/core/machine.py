"""The machine: everything that affects the state of a run lives here and in the two objects it owns.

`handle(event, now)` takes what happened and gives back what to do; nothing else changes anything. Unaware of trio, of
clocks (`now` is an argument, seconds since the run was opened), of files and of git: it can be property-tested, simulated
in virtual time, replayed after a crash and used to predict a plan. Claims are the `Registry`'s, deques the `Dispatch`'s;
which task is in which state is this module's, in one map, `records`.

The life of a task (the full table is `record.TRANSITIONS`):

    waiting -> claiming -> ready -> running -> merging -> done
                  ^                    |          |
                  +----- backoff <-----+----------+-> failed, cancelled      (and skipped, from waiting)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import invariants
from . import record as st
from .commands import Abort, Backoff, Command, Concluded, Grant, Merge, Refuse, Rollback, Settled
from .deques import Dispatch
from .events import (
    Answered,
    Asked,
    CancelRequested,
    Charged,
    Checked,
    Closed,
    DrainRequested,
    Dropped,
    Event,
    Failed,
    Finished,
    InstanceDied,
    Keys,
    Landed,
    LandingBegun,
    Merged,
    Opened,
    Reserved,
    Resumed,
    Retried,
    RolledBack,
    Spent,
    Stepped,
    Submitted,
    Tick,
    Told,
)
from .group import Group
from .history import History
from .ownership import Registry
from .record import Record
from .retry import RETRIED, delay_s
from .undo import Undo

RULES = 1
"""What `Opened.rules` of a new run is. 1: where a failure stops or takes back others, nobody starts before that is done."""

CRASHES_ALLOWED = 3
"""A task that ran at so many deaths of the process in a row is not started again, unless somebody may have killed it from outside. A
run that gets on between two deaths is one that somebody kills; before the last one what is suspect goes alone."""


class Machine:
    """One run. Deterministic: the same events at the same times give the same commands."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}  # the one map of states
        self.groups: dict[str, Group] = {}
        self.registry = Registry()
        self.dispatch = Dispatch(max_instances=20)
        self.opened = Opened()
        self.history = History()
        self._heard: Event  # what the history keeps of the event at hand
        self.now = 0.0
        self.merging = 0
        self.rolling = 0
        self.draining = False
        self.paused = ""  # why nothing more is started, when a budget or a quota is spent
        self.held = 0  # tasks that wait for a resume
        self.checked: Checked | None = None
        self.dropped: list[Dropped] = []
        self.landed: list[Landed] = []
        self.undo = Undo()
        self.closed = ""
        self.submitted = 0  # tasks ever
        self.stale = 0  # results of attempts that were no longer wanted
        self._got_on = False  # an attempt has ended since the process last died
        self._backoffs: list[tuple[float, int, Record]] = []  # sorted; (due, seq, record)
        self._asking: dict[str, str] = {}  # {running task id: the path it waits for}
        self._out: list[Command] = []
        self._steps: dict[type[Event], Callable[[Any], None]] = {
            Opened: self._on_opened,
            Submitted: self._on_submitted,
            Finished: self._on_finished,
            Failed: self._on_failed,
            Answered: self._on_answered,
            Told: self._on_told,
            Reserved: self._on_reserved,
            Charged: self._on_charged,
            Merged: self._on_merged,
            Asked: self._on_asked,
            InstanceDied: self._on_instance_died,
            CancelRequested: self._on_cancel,
            DrainRequested: self._on_drain,
            Resumed: self._on_resumed,
            Retried: self._on_retried,
            RolledBack: self._on_rolled_back,
            Tick: self._on_tick,
            Checked: self._on_checked,
            Dropped: self._on_dropped,
            LandingBegun: self.undo.on_landing,
            Landed: self._on_landed,
            Stepped: self._on_stepped,
            Closed: self._on_closed,
        }

    # --- the interface -----------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in one event; `now` is seconds since the run was opened and never goes back."""
        out: list[Command] = []
        self._out = self.dispatch.out = out
        self.now = self.dispatch.now = now
        self._heard = event
        self._steps[type(event)](event)
        if self.held and not self.draining:
            self._pause_when_stuck()
        self.history.add(now, self._heard, out)
        return out

    def deadline(self) -> float | None:
        """When a `Tick` is due, or None when only other events can change anything."""
        idle = self.dispatch.deadline()
        if not self._backoffs or self.draining:
            return idle
        due = self._backoffs[0][0]
        return due if idle is None or due < idle else idle

    def resume(self) -> list[Command]:
        """What was commanded and has not come back: said again by whoever rebuilt the machine from its events."""
        outstanding: list[Command] = []
        rolling: dict[str, list[str]] = {}
        for task, record in self.records.items():
            if record.state == st.MERGING:
                outstanding.append(Merge(task, record.attempt))
            elif record.state == st.ROLLING:
                rolling.setdefault(record.error or "", []).append(task)
        outstanding.extend(Rollback(tuple(tasks), cause) for cause, tasks in rolling.items())
        return outstanding

    def story(self, task: str) -> list[tuple[float, Event | Command]]:
        """Everything that happened to one task, in order: (seconds, event or command)."""
        told = []
        for at, item in self.history.items():
            named = getattr(item, "task", None)
            if named == task or (named == "" and isinstance(item, CancelRequested)):
                told.append((at, item))
            elif isinstance(item, Submitted | Retried) and any(one.id == task for one in item.tasks):
                told.append((at, type(item)(group=item.group, tasks=tuple(t for t in item.tasks if t.id == task))))
            elif isinstance(item, Rollback | RolledBack) and task in item.tasks:
                told.append((at, item))
        return told

    @property
    def timed(self) -> bool:
        """Whether `deadline` may have something to say: cheap enough to ask after every event."""
        return bool(self._backoffs or self.dispatch.idle)

    @property
    def running(self) -> int:
        """How many attempts are on instances."""
        return self.dispatch.running

    @property
    def at_rest(self) -> bool:
        """Nothing runs, merges or is taken back. When draining this is the end; else every task may still be open."""
        return not (self.dispatch.running or self.merging or self.rolling)

    # --- opening and submitting --------------------------------------------------------------------------------

    def _on_opened(self, event: Opened) -> None:
        self.opened = event
        self.dispatch.max_instances = event.max_instances
        self.dispatch.steal = event.steal
        self.dispatch.idle_s = event.idle_s
        self.dispatch.open(event.crews)

    def _on_submitted(self, event: Submitted) -> None:
        group = self.groups.get(event.group)
        if group is None:
            group = self.groups[event.group] = Group(event.group, event.on_failure, event.max_failures)
        records = self.records
        crews = self.dispatch.crews
        seq = self.submitted
        fresh: list[Record] = []
        estimates, keys = event.estimates, event.keys
        for number, task in enumerate(event.tasks):
            estimate = estimates[number] if estimates else task.estimate_s or 1.0
            if keys:
                claim: Keys | None = keys[number]
            else:
                claim = Keys(task.writes, task.reads) if task.writes or task.reads else None
            record = Record(task, crews[task.specialist], seq, event.group, estimate, claim)
            records[task.id] = record
            fresh.append(record)
            seq += 1
        self.submitted = seq
        group.tasks += fresh  # a task that others wished for joins the group that is under way
        group.left += len(fresh)
        self._link(fresh, event)
        self._rank(fresh)
        self._skip_doomed(fresh)
        ready = [record for record in fresh if not record.missing and record.state == st.WAITING]
        ready.sort(key=lambda record: (-record.priority, record.seq))
        self.dispatch.deal_all([record for record in ready if self._claim(record)])
        if not group.left:
            self._out.append(Concluded(group.name))

    def _link(self, fresh: list[Record], event: Submitted) -> None:
        records = self.records
        for record in fresh:
            for name in record.task.after:
                before = records[name]
                if before.needed_by is None:
                    before.needed_by = []
                before.needed_by.append(record)
                if before.state not in st.FINAL:
                    record.missing += 1
        for order in event.orders:
            before, behind = records[order.first], records[order.then]
            if before.ordered_by is None:
                before.ordered_by = []
            before.ordered_by.append(behind)
            if before.state not in st.FINAL:
                behind.missing += 1

    def _rank(self, fresh: list[Record]) -> None:
        """Longest remaining path and level of each new task, one pass over the graph in topological order."""
        if all(record.needed_by is None and record.ordered_by is None for record in fresh):
            return
        own = {id(record) for record in fresh}
        left = {id(record): record.missing for record in fresh}
        line = [record for record in fresh if not record.missing]
        for record in line:  # grows while it is walked
            for behind in (*(record.needed_by or ()), *(record.ordered_by or ())):
                behind.level = max(behind.level, record.level + 1)
                left[id(behind)] -= 1
                if not left[id(behind)]:
                    line.append(behind)
        for record in reversed(line):
            longest = 0.0
            for behind in (*(record.needed_by or ()), *(record.ordered_by or ())):
                if id(behind) in own and behind.priority > longest:
                    longest = behind.priority
            record.priority = record.estimate_s + longest

    def _skip_doomed(self, waiting: list[Record]) -> None:
        """Skip those that come after one which has ended and is not done. All are marked first: the end of one of them must not
        admit another that is ordered behind it."""
        doomed: list[tuple[Record, str]] = []
        for record in waiting:
            for name in record.task.after:
                before = self.records[name]
                if before.state in st.FINAL and before.state != st.DONE:
                    record.missing += 1
                    doomed.append((record, f"{name} {before.state}"))
                    break
        for record, why in doomed:
            if record.state == st.WAITING:
                self._settle(record, st.SKIPPED, why)

    # --- admission ---------------------------------------------------------------------------------------------

    def _admit(self, record: Record) -> None:
        """All it waits for has ended: get its claims, then a place in a deque."""
        if self._claim(record):
            self.dispatch.deal(record)

    def _claim(self, record: Record) -> bool:
        keys = record.keys
        if keys is None or self.registry.request(record.task.id, keys.writes, keys.reads):
            record.state = st.READY
            return True
        record.state = st.CLAIMING
        return False

    def _release(self, record: Record) -> None:
        """Give its claims back; whoever was in line and now has all of its own goes on."""
        self._asking.pop(record.task.id, None)
        if record.keys is None:
            return
        freed = self.registry.release(record.task.id)
        for task, path in freed.extended:
            self._asking.pop(task, None)
            self._out.append(Grant(task, self.records[task].attempt, path))
        for task in freed.granted:
            waiting = self.records[task]
            waiting.state = st.READY
            self.dispatch.deal(waiting)

    # --- an attempt ends ---------------------------------------------------------------------------------------

    def _current(self, task: str, attempt: int, state: str) -> Record | None:
        record = self.records.get(task)
        if record is None or record.state != state or record.attempt != attempt:
            self.stale += 1
            return None
        return record

    def _on_finished(self, event: Finished) -> None:
        record = self._current(event.task, event.attempt, st.RUNNING)
        if record is None:
            return
        self._got_on = True
        record.reserved = None
        instance = record.instance
        record.result = event.result
        assert instance is not None
        self.dispatch.free(instance)
        if record.cancelling:
            self._settle(record, st.CANCELLED, record.cancelling)
        elif event.changeset is not None and event.changeset.changes:
            record.state = st.MERGING
            record.changeset = event.changeset
            self.merging += 1
            self._out.append(Merge(event.task, event.attempt))
        else:
            self._settle(record, st.DONE, None)
        self.dispatch.feed(instance)

    def _on_merged(self, event: Merged) -> None:
        record = self._current(event.task, event.attempt, st.MERGING)
        if record is None:
            return
        self.merging -= 1
        record.changeset = None
        record.commit = event.commit
        self.undo.grew()
        if record.cancelling:
            self._roll_back_merged(record)
        else:
            self._settle(record, st.DONE, None)

    def _on_failed(self, event: Failed) -> None:
        record = self.records.get(event.task)
        expected = st.MERGING if event.kind == "conflict" else st.RUNNING
        if record is None or record.attempt != event.attempt or record.state != expected:
            self.stale += 1
            return
        self._got_on = True
        record.reserved = None
        instance = record.instance
        if record.state == st.MERGING:
            self.merging -= 1
            record.changeset = None
        elif instance is not None:
            self.dispatch.free(instance)
        if event.result is not None:
            record.result = event.result
        if event.fresh or event.kind == "conflict":
            record.talk = None
        if record.cancelling or event.kind == "cancelled":
            self._settle(record, st.CANCELLED, record.cancelling or event.error)
        elif event.kind == "paused":
            self._hold(record, event)
        else:
            self._try_again(record, event)
        if instance is not None:
            self.dispatch.feed(instance)

    def _hold(self, record: Record, event: Failed) -> None:
        """A budget or a quota is spent. The attempt does not count; the conversation goes on from its last turn after a resume."""
        record.last_attempt += 1
        record.error = event.error
        record.stolen_from = ""
        record.state = st.HELD
        self.held += 1
        if not event.hold:
            self._pause(event.error)  # before its claims are free: nobody starts on them
        self._release(record)

    def _pause(self, why: str) -> None:
        self.paused = self.paused or why
        self.draining = self.dispatch.halted = True

    def _pause_when_stuck(self) -> None:
        """Only held tasks, and what waits for them, are left: nothing will happen before a resume."""
        dispatch = self.dispatch
        if dispatch.running or self.merging or self.rolling or self._backoffs:
            return
        if not any(crew.queued for crew in dispatch.crews.values()):
            held = next(record for record in self.records.values() if record.state == st.HELD)
            self._pause(held.error or "a task is held")

    # --- conversations -----------------------------------------------------------------------------------------

    def _on_answered(self, event: Answered) -> None:
        # Watchers and the history get what happened, not what was said: the journal has that.
        slim = Answered(event.task, event.attempt, event.turn, stop=event.stop, model=event.model, spent=event.spent)
        self._note_turn(event, slim)
        self._charge(event.task, event.spent)

    def _on_told(self, event: Told) -> None:
        self._note_turn(event, Told(event.task, event.attempt, event.turn))

    def _note_turn(self, event: Answered | Told, slim: Event) -> None:
        self._heard = slim
        record = self._current(event.task, event.attempt, st.RUNNING)
        if record is not None:
            if record.talk is None or (event.turn == 1 and isinstance(event, Answered)):
                record.talk = st.Talk()
            record.talk.take(event)

    def _on_reserved(self, event: Reserved) -> None:
        record = self._current(event.task, event.attempt, st.RUNNING)
        if record is not None:
            record.reserved = event.most if event.most.tokens else None

    def _on_charged(self, event: Charged) -> None:
        self._charge(event.task, event.spent)

    def _charge(self, task: str, spent: Spent) -> None:
        record = self.records.get(task)
        if record is not None:
            record.reserved = None
            record.spent = spent if record.spent is None else record.spent + spent

    def _try_again(self, record: Record, event: Failed) -> None:
        if event.kind not in RETRIED or record.attempt >= record.last_attempt:
            self._settle(record, st.FAILED, event.error)
            return
        wait = delay_s(
            record.task.id,
            record.attempt,
            first_s=self.opened.backoff_s,
            cap_s=self.opened.backoff_cap_s,
            least_s=event.retry_after_s,
        )
        record.error = event.error
        record.stolen_from = ""
        record.state = st.BACKOFF
        self._release(record)
        self._out.append(Backoff(record.task.id, record.attempt, wait, event.error))
        if wait <= 0:
            self._admit(record)
            return
        self._backoffs.append((self.now + wait, record.seq, record))
        self._backoffs.sort(key=lambda item: item[:2])

    def _on_tick(self, event: Tick) -> None:
        while self._backoffs and self._backoffs[0][0] <= self.now and not self.draining:
            record = self._backoffs.pop(0)[2]
            if record.state == st.BACKOFF:
                self._admit(record)
        self.dispatch.shrink()
        self.dispatch.feed_parked()

    # --- settling ----------------------------------------------------------------------------------------------

    def _settle(self, record: Record, state: str, error: str | None) -> None:
        """The final state of a task, and all that follows from it for others. Not recursive: skips may chain far."""
        if self.opened.rules and self.groups[record.group].takes_back_at(state) and not self.dispatch.halted:
            self.dispatch.halted = True  # nobody starts on what is about to be cancelled
            self._settle(record, state, error)
            self.dispatch.halted = False
            self.dispatch.feed_parked()
            return
        line: list[tuple[Record, str, str | None]] = [(record, state, error)]
        for each, final, why in line:  # grows while it is walked
            if each.state in st.FINAL:
                continue
            held = each.state in st.HOLDS_CLAIMS or each.state == st.CLAIMING
            each.state = final
            each.error = why
            each.talk = None
            each.finished_s = self.now
            self._out.append(Settled(each.task.id, final, why or ""))
            if held:
                self._release(each)
            if each.needed_by is not None:
                for behind in each.needed_by:
                    if final == st.DONE:
                        self._one_less(behind)
                    elif behind.state == st.WAITING:
                        line.append((behind, st.SKIPPED, f"`{each.task.id}` {final}"))
            if each.ordered_by is not None:
                for behind in each.ordered_by:
                    self._one_less(behind)
            self._account(each, final)

    def _one_less(self, record: Record) -> None:
        if record.state == st.WAITING:
            record.missing -= 1
            if not record.missing:
                self._admit(record)

    def _account(self, record: Record, final: str) -> None:
        group = self.groups[record.group]
        group.left -= 1
        if final == st.FAILED:
            group.failures += 1
            self._apply_policy(group, record)
        elif final == st.DONE and group.poisoned:
            cause = group.poisoned.get(group.unit(record))
            if cause is not None:
                self._roll_back([record], cause)
        if not group.left:
            self._out.append(Concluded(group.name))

    # --- failure policies --------------------------------------------------------------------------------------

    def _apply_policy(self, group: Group, record: Record) -> None:
        if group.on_failure.startswith("rollback"):
            unit = group.unit(record)
            group.poisoned.setdefault(unit, record.task.id)
            self._undo_unit(group, unit, record.task.id)
        if group.max_failures is not None and group.failures == group.max_failures:
            why = f"stopped after {group.failures} failed, the last `{record.task.id}`"
            busy = (st.RUNNING, st.MERGING, st.ROLLING)
            self._cancel_all([other for other in group.tasks if other.state not in busy], why)

    def _undo_unit(self, group: Group, unit: str, cause: str) -> None:
        why = f"rolled back: `{cause}` failed in {unit}"
        others = [other for other in group.tasks if group.unit(other) == unit]
        done = [other for other in others if other.state == st.DONE]
        self._cancel_all([other for other in others if other.state not in (st.DONE, st.MERGING)], why)
        if done:
            self._roll_back(done, cause)

    def _roll_back(self, records: list[Record], cause: str) -> None:
        """Take done tasks back, and what was built on them. Without a commit there is nothing on the line to undo."""
        line = list(records)
        seen = {id(record) for record in line}
        for record in line:
            for behind in record.needed_by or ():
                if behind.state == st.DONE and id(behind) not in seen:
                    seen.add(id(behind))
                    line.append(behind)
                elif behind.state == st.MERGING:
                    behind.cancelling = cause  # taken back as soon as it is on the line
                elif behind.state not in st.FINAL and behind.state != st.ROLLING:
                    self._cancel(behind, f"rolled back: `{cause}` failed")
        committed = []
        for record in line:
            self.groups[record.group].left += 1
            record.state = st.ROLLING
            record.error = cause
            self.rolling += 1
            if record.commit is not None:
                committed.append(record.task.id)
        if committed:
            self._out.append(Rollback(tuple(committed), cause))
        for record in line:
            if record.commit is None:
                self._rolled(record, st.CANCELLED, f"rolled back: `{cause}` failed")

    def _roll_back_merged(self, record: Record) -> None:
        """What it was built on was taken back while it merged: it never counts as done."""
        cause, record.cancelling = record.cancelling, ""
        record.state = st.ROLLING
        record.error = cause
        self.rolling += 1
        self._release(record)
        for behind in record.needed_by or ():
            self._cancel(behind, f"rolled back: `{cause}` failed")
        if record.commit is None:
            self._rolled(record, st.CANCELLED, f"rolled back: `{cause}` failed")
        else:
            self._out.append(Rollback((record.task.id,), cause))

    def _rolled(self, record: Record, state: str, error: str | None) -> None:
        group = self.groups[record.group]
        self.rolling -= 1
        record.state = state
        record.error = error
        group.left -= 1
        self._out.append(Settled(record.task.id, state, error or ""))
        for behind in record.needed_by or ():  # what was submitted while it was being taken back
            if behind.state == st.WAITING and state == st.DONE:
                self._one_less(behind)
            elif behind.state == st.WAITING:
                self._settle(behind, st.SKIPPED, f"`{record.task.id}` {state}")
        if not group.left:
            self._out.append(Concluded(group.name))

    def _on_rolled_back(self, event: RolledBack) -> None:
        self.undo.grew()
        for task in event.tasks:
            record = self.records[task]
            if record.state != st.ROLLING:
                continue
            if event.error:
                self._rolled(record, st.DONE, f"not rolled back: {event.error}")
            else:
                self._rolled(record, st.CANCELLED, f"rolled back: `{record.error}` failed")
                record.commit = None

    # --- one more path -----------------------------------------------------------------------------------------

    def _on_asked(self, event: Asked) -> None:
        record = self._current(event.task, event.attempt, st.RUNNING)
        if record is None:
            return
        if record.keys is None:
            record.keys = Keys()
            self.registry.request(event.task, (), ())
        answer = self.registry.extend(event.task, event.path, self._may_be_waited_for)
        if answer == "granted":
            self._out.append(Grant(event.task, event.attempt, event.path))
        elif answer == "waits":
            self._asking[event.task] = event.path
        else:
            holders = self.registry.owner(event.path) + self.registry.readers(event.path)
            others = tuple(holder for holder in holders if holder != event.task)
            self._out.append(Refuse(event.task, event.attempt, event.path, others))

    def _may_be_waited_for(self, task: str) -> bool:
        """A holder that lies in a deque might be behind the very instance that waits: only what runs is waited for."""
        return self.records[task].state in (st.RUNNING, st.MERGING) and task not in self._asking

    # --- instances, cancelling, draining -----------------------------------------------------------------------

    def _on_instance_died(self, event: InstanceDied) -> None:
        instance = next((one for one in self.dispatch.everyone if one.name == event.instance and not one.died), None)
        if instance is None:
            self.stale += 1
            return
        record = instance.record
        self.dispatch.free(instance)
        self.dispatch.remove(instance)
        if record is not None:
            died = Failed(record.task.id, record.attempt, f"instance {event.instance} died: {event.error}")
            if record.cancelling:
                self._settle(record, st.CANCELLED, record.cancelling)
            else:
                self._try_again(record, died)
        self.dispatch.feed_parked()

    def _on_cancel(self, event: CancelRequested) -> None:
        if event.task:
            record = self.records.get(event.task)
            if record is not None:
                self._cancel(record, event.why)
            return
        self._cancel_all(list(self.records.values()), event.why)

    def _cancel_all(self, records: list[Record], why: str) -> None:
        """Cancel many. What the end of one makes way for is not started before its own turn has come."""
        dispatch = self.dispatch
        halted, dispatch.halted = dispatch.halted, True
        for record in records:
            self._cancel(record, why)
        dispatch.halted = halted
        dispatch.feed_parked()

    def _cancel(self, record: Record, why: str) -> None:
        state = record.state
        if state in st.FINAL or state == st.ROLLING:
            return
        if state == st.RUNNING:
            if not record.cancelling:
                record.cancelling = why
                self._out.append(Abort(record.task.id, record.attempt, why))
            return
        if state == st.MERGING:
            return  # its commit may be on the line already: it is done before it can be told to stop
        if state == st.READY:
            self.dispatch.withdraw(record)
        elif state == st.BACKOFF:
            self._backoffs = [item for item in self._backoffs if item[2] is not record]
        elif state == st.HELD:
            self.held -= 1
        self._settle(record, st.CANCELLED, why)

    def _on_drain(self, event: DrainRequested) -> None:
        self.draining = self.dispatch.halted = True

    def _on_resumed(self, event: Resumed) -> None:
        """A new process, or the same after a drain or with another budget. After a crash no instance is left: all start anew."""
        self.draining = self.dispatch.halted = False
        self.closed = self.paused = ""
        self.opened = self.opened.within(event.budget_usd, event.budget_tokens)
        for task in event.tasks:
            self.records[task.id].task = task
        if event.crashed:
            self._after_crash(CRASHES_ALLOWED - 1 if event.outside else CRASHES_ALLOWED)
        if self.held:
            self.held = 0
            for record in [one for one in self.records.values() if one.state == st.HELD]:
                record.error = None  # nothing was wrong with it
                self._admit(record)
        self.dispatch.feed_parked()

    def suspects(self) -> list[str]:
        """What has run at each of so many deaths in a row that a resume gives it up, if somebody was there to see it."""
        running = [record for record in self.records.values() if record.state == st.RUNNING]
        return [record.task.id for record in running if record.crashes + 1 >= CRASHES_ALLOWED]

    def _after_crash(self, most: int) -> None:
        self.dispatch.halted = True
        lost = [record for record in self.records.values() if record.state == st.RUNNING]
        for record in lost:
            assert record.instance is not None
            self.dispatch.free(record.instance)
        for crew in self.dispatch.crews.values():
            for instance in list(crew.members):
                self.dispatch.remove(instance)
        self.dispatch.idle.clear()
        for record in lost:
            innocent = self._got_on and record.crashes < CRASHES_ALLOWED - 1
            record.crashes = min(most, 1 if innocent else record.crashes + 1)
        # With a suspect among them they go one by one: who runs when the process dies again did it.
        suspected = any(record.crashes == CRASHES_ALLOWED - 1 for record in lost)
        self.dispatch.max_instances = 1 if suspected else self.opened.max_instances
        for record in lost:
            record.stolen_from = ""
            if record.reserved is not None:  # nobody can say what came of that call
                self._charge(record.task.id, record.reserved)
            if record.cancelling:
                self._settle(record, st.CANCELLED, record.cancelling)
            elif record.crashes >= CRASHES_ALLOWED:
                why = f"it was running {record.crashes} times when the process died"
                self._settle(record, st.FAILED, why)
            else:
                record.last_attempt = max(record.last_attempt, record.attempt + 1)
                self._release(record)
                self._admit(record)
        self._got_on = False
        self.dispatch.halted = False

    def _on_retried(self, event: Retried) -> None:
        group = self.groups[event.group] = Group(event.group, "isolate", None)
        again: list[Record] = []
        for task in event.tasks:
            record = self.records[task.id]
            if record.state not in st.FINAL or record.state == st.DONE:
                continue
            again.append(record)
            record.task = task
            record.group = event.group
            record.state = st.WAITING
            record.error = record.finished_s = None
            record.cancelling = record.stolen_from = ""
            record.last_attempt = record.attempt + task.attempts
            record.crashes = 0
            record.talk = None
        group.tasks = again
        group.left = len(again)
        self.closed = ""
        for record in again:
            record.missing = 0
        for before in self.records.values():
            if before.state in st.FINAL:
                continue
            for behind in (*(before.needed_by or ()), *(before.ordered_by or ())):
                if behind.state == st.WAITING:
                    behind.missing += 1
        self._skip_doomed(again)
        for record in again:
            if record.state == st.WAITING and not record.missing:
                self._admit(record)
        if not group.left:
            self._out.append(Concluded(group.name))

    # --- facts about the result --------------------------------------------------------------------------------

    def _on_checked(self, event: Checked) -> None:
        self.checked = self.undo.checks[event.commit] = event

    def _on_dropped(self, event: Dropped) -> None:
        self.dropped.append(event)
        self.undo.grew()
        for task in event.tasks:
            record = self.records[task]
            record.state = st.FAILED if task == event.culprit else st.CANCELLED
            record.error = (
                f"turned the check red: {event.check}" if task == event.culprit else f"dropped with `{event.culprit}`"
            )
            record.commit = None

    def _on_landed(self, event: Landed) -> None:
        self.undo.on_landed(event)
        if event.what == "undo":
            self.landed.clear()
        else:
            self.landed.append(event)

    def _on_stepped(self, event: Stepped) -> None:
        self.checked = self.undo.on_stepped(event, self.records)

    def _on_closed(self, event: Closed) -> None:
        self.closed = event.state

    def check(self) -> None:
        """Assert every invariant that must hold between two events. O(tasks): for tests and simulations."""
        invariants.check(self)
