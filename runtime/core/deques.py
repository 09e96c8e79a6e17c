"""Which instance does which ready task: crews, their instances, dealing and stealing.

Unaware of why a task is ready and of what becomes of it: it is handed records that hold their claims (`deal`) and idle
instances (`feed`), and says who starts what. The policy, in the order in which it is tried:

deal    a parked instance of the crew (one that last worked in the task's scope, if there is one); a new instance, while
        the crew is under its cap and a place is free; a parked instance of a crew that helps this one; else the deque
        that is next in the round.
feed    the front of the own deque, unless the front of another of the crew outranks it by `OUTRANKS`; the front of the
        deque with the longest remaining work in the own crew; the crew's backlog; then the same for the crews it helps;
        else it parks.

A deque is a list sorted by rank, its front at the end: longest remaining path first, then the order of submission.
Thieves take the front too: it is what list scheduling would start next, and on skewed lengths it beats taking the back
or half (the table in tests/bench shows all three).
"""

from __future__ import annotations

from bisect import insort
from operator import itemgetter
from typing import Final

import attrs

from .commands import Command, Retire, Spawn, Start
from .events import CrewSpec, StealPolicy
from .record import READY, RUNNING, Record

OUTRANKS: Final = 1.25
"""How much longer than the own front's its remaining path must be for an idle instance to take another's front first.
Measured over the skewed lengths of tests/bench: makespan over bound 1.0205 without, 1.0164 at 1.25, 1.0135 at 1.0, but
then 56 of 100 tasks are stolen instead of 15."""

Entry = tuple[float, int, Record]  # (priority, -seq, record): the larger, the sooner


def _merge(deque: list[Entry], records: list[Record]) -> None:
    """Put records, in the order of their rank, into a deque."""
    deque.extend([(record.priority, -record.seq, record) for record in reversed(records)])
    deque.sort(key=_RANK)


_RANK: Final = itemgetter(0, 1)


class Instance:
    """One actor of a crew, as the machine sees it."""

    __slots__ = ("busy_s", "crew", "deque", "died", "name", "parked_s", "record", "scope", "steals", "tasks", "work_s")

    def __init__(self, name: str, crew: Crew) -> None:
        self.name = name
        self.crew = crew
        self.deque: list[Entry] = []
        self.work_s = 0.0  # the estimates of what lies in the deque
        self.record: Record | None = None  # what runs on it
        self.parked_s: float | None = None  # since when it is idle
        self.scope = ""  # of its last task
        self.steals = 0
        self.tasks = 0
        self.busy_s = 0.0
        self.died = False

    def push(self, record: Record) -> None:
        insort(self.deque, (record.priority, -record.seq, record))
        self.work_s += record.estimate_s

    def pop(self, index: int = -1) -> Record:
        record = self.deque.pop(index)[2]
        self.work_s = self.work_s - record.estimate_s if self.deque else 0.0
        return record


class Crew:
    """A specialist's instances, and the ready tasks that no instance has a place for yet."""

    __slots__ = ("backlog", "cursor", "helpers", "helps", "members", "named", "parked", "peak", "queued", "spec")

    def __init__(self, spec: CrewSpec) -> None:
        self.spec = spec
        self.members: list[Instance] = []
        self.parked: dict[str, Instance] = {}  # {instance name: instance}, longest idle first
        self.backlog: list[Entry] = []  # only while the crew has no member
        self.cursor = 0  # the member that is dealt to next
        self.named = 0  # instances ever made; names are not used twice
        self.peak = 0
        self.queued = 0  # tasks in the deques and the backlog
        self.helps: list[Crew] = []
        self.helpers: list[Crew] = []


@attrs.define
class Dispatch:
    """All crews under one cap. Commands are appended to `out`, which the machine sets anew for each event."""

    max_instances: int
    steal: StealPolicy = "front"
    idle_s: float = 5.0
    crews: dict[str, Crew] = attrs.field(factory=dict)
    out: list[Command] = attrs.field(factory=list)
    now: float = 0.0
    total: int = 0  # live instances
    running: int = 0
    peak: int = 0  # the most instances there were at once
    busy_s: float = 0.0  # all attempts on all instances
    steals: int = 0
    everyone: list[Instance] = attrs.field(factory=list)  # every instance ever made, the dead and retired too
    halted: bool = False  # draining: park, start nothing
    idle: list[tuple[float, Instance]] = attrs.field(factory=list)  # (parked at, instance), may be out of date

    def open(self, specs: tuple[CrewSpec, ...]) -> None:
        for spec in specs:
            self.crews[spec.name] = Crew(spec)
        for crew in self.crews.values():
            crew.helps = [self.crews[name] for name in crew.spec.helps if name in self.crews]
            for other in crew.helps:
                other.helpers.append(crew)

    # --- dealing -----------------------------------------------------------------------------------------------

    def deal(self, record: Record) -> None:
        """Find a place for a task that has just become ready."""
        if not self._place(record):
            self._queue(record)

    def deal_all(self, records: list[Record]) -> None:
        """Deal many at once, given in the order of their rank: the same as one by one, without an insertion for each."""
        left: dict[str, list[Record]] = {}
        for record in records:
            name = record.crew.spec.name
            if name in left:
                left[name].append(record)
            elif not self._place(record):
                left[name] = [record]
        for name, queue in left.items():
            crew = self.crews[name]
            crew.queued += len(queue)
            places = len(crew.members)
            if not places:
                _merge(crew.backlog, queue)
                continue
            for number in range(min(places, len(queue))):
                member = crew.members[(crew.cursor + 1 + number) % places]
                share = queue[number::places]
                _merge(member.deque, share)
                member.work_s += sum([record.estimate_s for record in share])
            crew.cursor = (crew.cursor + len(queue)) % places

    def _place(self, record: Record) -> bool:
        """Start it at once on an instance that is idle or new, if there can be one."""
        if self.halted:
            return False
        crew = record.crew
        if crew.parked:
            self._start(self._pick_parked(crew, record), record)
            return True
        if len(crew.members) < crew.spec.cap and self._make_room(crew):
            self._start(self._spawn(crew), record)
            return True
        for helper in crew.helpers:
            if helper.parked:
                self._start(self._pick_parked(helper, record), record)
                return True
        return False

    def _queue(self, record: Record) -> None:
        crew = record.crew
        crew.queued += 1
        if crew.members:
            crew.cursor = (crew.cursor + 1) % len(crew.members)
            crew.members[crew.cursor].push(record)
        else:
            insort(crew.backlog, (record.priority, -record.seq, record))

    def _pick_parked(self, crew: Crew, record: Record) -> Instance:
        scope = record.task.scope
        if scope and len(crew.parked) > 1:
            for instance in crew.parked.values():
                if instance.scope == scope:
                    return instance
        return next(reversed(crew.parked.values()))  # the one that is warmest; the others may be let go

    # --- growing and shrinking ---------------------------------------------------------------------------------

    def _make_room(self, crew: Crew) -> bool:
        """Whether one more instance may be made for the crew; lets an idle one of another crew go if it takes that."""
        if crew.members and self.total + self._unserved(crew) >= self.max_instances:
            return False
        if self.total < self.max_instances:
            return True
        for other in self.crews.values():
            if other is not crew and other.parked and crew not in other.helps:
                self.retire(next(iter(other.parked.values())))
                return True
        if not crew.members:  # with no place of its own the crew must have one, even a helper's
            for other in self.crews.values():
                if other is not crew and other.parked:
                    self.retire(next(iter(other.parked.values())))
                    return True
        return False

    def _unserved(self, but: Crew) -> int:
        """Crews that have work in their backlog and no instance: a place is kept for each."""
        return sum(1 for crew in self.crews.values() if crew is not but and crew.backlog and not crew.members)

    def _spawn(self, crew: Crew) -> Instance:
        crew.named += 1
        instance = Instance(f"{crew.spec.name}-{crew.named}", crew)
        crew.members.append(instance)
        crew.peak = max(crew.peak, len(crew.members))
        self.total += 1
        self.peak = max(self.peak, self.total)
        self.everyone.append(instance)
        self.out.append(Spawn(instance.name, crew.spec.name))
        if crew.backlog:
            backlog, crew.backlog = crew.backlog, []
            instance.deque = backlog
            instance.work_s = sum(entry[2].estimate_s for entry in backlog)
        return instance

    def retire(self, instance: Instance) -> None:
        """Let an instance go that runs nothing; what lies in its deque is dealt to the rest of its crew."""
        self.remove(instance)
        self.out.append(Retire(instance.name))

    def remove(self, instance: Instance) -> None:
        """Take an instance out of its crew, dead or retired."""
        crew = instance.crew
        instance.died = True
        crew.members.remove(instance)
        crew.parked.pop(instance.name, None)
        self.total -= 1
        left, instance.deque, instance.work_s = instance.deque, [], 0.0
        crew.queued -= len(left)
        for _, _, record in reversed(left):
            self._queue(record)

    def shrink(self) -> None:
        """Let go what has been idle for `idle_s`, down to each crew's least."""
        while self.idle and self.idle[0][0] + self.idle_s <= self.now:
            since, instance = self.idle.pop(0)
            if (
                instance.parked_s == since
                and not instance.died
                and len(instance.crew.members) > instance.crew.spec.least
            ):
                self.retire(instance)

    def deadline(self) -> float | None:
        """When `shrink` has something to look at, or None."""
        while self.idle:
            since, instance = self.idle[0]
            if (
                instance.parked_s == since
                and not instance.died
                and len(instance.crew.members) > instance.crew.spec.least
            ):
                return since + self.idle_s
            self.idle.pop(0)
        return None

    # --- an instance looks for work ----------------------------------------------------------------------------

    def free(self, instance: Instance) -> None:
        """The instance's attempt has ended. It counts as parked at once if its deque is empty, so that a task which
        this very end makes ready goes to the instance that is warm for it."""
        record = instance.record
        if record is None:
            return
        instance.record = None
        record.instance = None
        self.running -= 1
        if record.started_s is not None:
            instance.busy_s += self.now - record.started_s
            self.busy_s += self.now - record.started_s
            record.busy_s += self.now - record.started_s
        if not instance.deque:
            self._park(instance)

    def feed(self, instance: Instance) -> None:
        """Give an instance that runs nothing its next task, its own or a stolen one, or park it."""
        if instance.died or instance.record is not None:
            return
        if self.halted:
            self._park(instance)
            return
        if self.total >= self.max_instances and self._give_way(instance):
            return
        self._find_work(instance)

    def _find_work(self, instance: Instance) -> None:
        crew = instance.crew
        if instance.deque:
            ahead = self._outranking(instance) if len(crew.members) > 1 else None
            if ahead is not None:
                self._take(instance, ahead)
                return
            crew.queued -= 1
            self._start(instance, instance.pop())
            return
        if crew.queued and self._steal_from(instance, crew):
            return
        for other in crew.helps:
            if other.queued and self._steal_from(instance, other):
                return
        self._park(instance)

    def feed_parked(self) -> None:
        """Offer work to every parked instance, and instances to every crew with work (after a halt is over)."""
        for crew in self.crews.values():
            for instance in list(crew.parked.values()):
                self.feed(instance)
        for crew in self.crews.values():
            self.grow(crew)

    def grow(self, crew: Crew) -> None:
        """Make instances for what lies queued, while the caps allow it."""
        while not self.halted and crew.queued and len(crew.members) < crew.spec.cap and self._make_room(crew):
            self.feed(self._spawn(crew))

    def _give_way(self, instance: Instance) -> bool:
        """At the cap: a crew that has work and no instance at all gets this one's place; so does, from an instance
        with nothing to do, a crew that could use more."""
        own = instance.crew
        for crew in self.crews.values():
            if crew is own or not crew.queued:
                continue
            spare = not own.queued and crew not in own.helps and len(crew.members) < crew.spec.cap
            if not crew.members or spare:
                self.retire(instance)
                self._find_work(self._spawn(crew))
                return True
        return False

    def _steal_from(self, thief: Instance, crew: Crew) -> bool:
        if crew.backlog:
            record = crew.backlog.pop()[2]
            crew.queued -= 1
            self._start(thief, record)
            return True
        if self.steal == "never":
            return False
        victim = None
        for member in crew.members:
            if member.deque and (victim is None or member.work_s > victim.work_s):
                victim = member
        if victim is None:
            return False
        if self.steal == "half" and crew is thief.crew:
            for _ in range(len(victim.deque) // 2):
                thief.push(victim.pop(0))
        self._take(thief, victim)
        return True

    def _outranking(self, instance: Instance) -> Instance | None:
        """The member whose front so outranks this instance's own that starting it first is worth a cold start."""
        if self.steal != "front":
            return None
        best = None
        top = instance.deque[-1][0] * OUTRANKS
        for member in instance.crew.members:
            if member.deque and member.deque[-1][0] > top:
                best, top = member, member.deque[-1][0]
        return best

    def _take(self, thief: Instance, victim: Instance) -> None:
        loot = victim.pop(0 if self.steal == "back" else -1)
        loot.stolen_from = victim.name
        victim.crew.queued -= 1
        self._start(thief, loot)

    def _park(self, instance: Instance) -> None:
        if instance.parked_s is None:
            instance.parked_s = self.now
            instance.crew.parked[instance.name] = instance
            if len(instance.crew.members) > instance.crew.spec.least:
                self.idle.append((self.now, instance))

    def _start(self, instance: Instance, record: Record) -> None:
        if instance.parked_s is not None:
            instance.parked_s = None
            del instance.crew.parked[instance.name]
        if not record.stolen_from and instance.crew is not record.crew:
            record.stolen_from = record.crew.spec.name  # overflow of a crew it helps: from the crew, not from a deque
        if record.stolen_from:
            instance.steals += 1
            self.steals += 1
        instance.record = record
        instance.tasks += 1
        instance.scope = record.task.scope
        record.instance = instance
        record.ran_on = instance.name
        record.state = RUNNING
        record.attempt += 1
        record.started_s = self.now
        if record.began_s is None:
            record.began_s = self.now
        self.running += 1
        self.out.append(Start(record.task.id, record.attempt, instance.name, record.stolen_from))

    # --- taking a task out, and looking ------------------------------------------------------------------------

    def withdraw(self, record: Record) -> None:
        """Take a ready task out of wherever it lies."""
        crew = record.crew
        entry = (record.priority, -record.seq, record)
        for member in crew.members:
            if entry in member.deque:
                member.deque.remove(entry)
                member.work_s = member.work_s - record.estimate_s if member.deque else 0.0
                crew.queued -= 1
                return
        for number, found in enumerate(crew.backlog):
            if found[2] is record:
                del crew.backlog[number]
                crew.queued -= 1
                return

    def check(self) -> int:
        """Assert what must always hold here; returns how many tasks lie in deques."""
        queued = 0
        for crew in self.crews.values():
            here = len(crew.backlog) + sum(len(member.deque) for member in crew.members)
            assert here == crew.queued, f"{crew.spec.name}: {here} queued, {crew.queued} counted"
            queued += here
            assert len(crew.members) <= crew.spec.cap
            assert not (crew.backlog and crew.members)
            for member in crew.members:
                assert not member.died
                assert (member.name in crew.parked) == (member.parked_s is not None)
                assert member.parked_s is None or (member.record is None and (self.halted or not member.deque))
                assert member.deque == sorted(member.deque, key=lambda entry: entry[:2])
                assert all(entry[2].state == READY for entry in member.deque)
            if here and not self.halted and self.steal != "never":
                assert not crew.parked, f"{crew.spec.name}: work waits beside a parked instance"
                assert not any(helper.parked for helper in crew.helpers), f"a helper of {crew.spec.name} is parked"
                room = self.total < self.max_instances and not self._unserved(crew)
                assert len(crew.members) == crew.spec.cap or not room, f"{crew.spec.name} could grow and does not"
        assert self.total == sum(len(crew.members) for crew in self.crews.values())
        assert self.total <= self.max_instances
        assert self.running == sum(
            1 for crew in self.crews.values() for member in crew.members if member.record is not None
        )
        return queued
