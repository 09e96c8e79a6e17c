"""The engine: performs what the machine commands, on trio, and takes what happened back to it.

Knows actors, the journal, the clock and (through `attempts`) where files are; decides nothing that the machine decides. One
`Runtime` is one run: one machine, one journal of it, and with a repository one line. All of it lives in one nursery, in
whatever trio loop the host has; nothing global is touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import attrs
import msgspec
import trio

from . import preparation, wishes
from .actor import Actor
from .attempts import Attempts
from .budget import Budget
from .conversation import Conversation
from .core import commands as cmd
from .core import plan as plans
from .core.estimate import Estimator
from .core.events import (
    Asked,
    CancelRequested,
    Closed,
    CrewSpec,
    DrainRequested,
    Event,
    Failed,
    Finished,
    InstanceDied,
    Merged,
    Opened,
    Resumed,
    Retried,
    RolledBack,
    StealPolicy,
    Submitted,
    Tick,
)
from .core.machine import RULES, Machine
from .core.record import DONE, FINAL
from .core.task import Plan, Specialist, Task
from .errors import BadInput, Bug, ClaimViolation, is_only
from .finish import Finish
from .handles import Answer, Events, Gap, Notice, Ticket, first_of, notices
from .journal import Journal
from .landing import Landing, land
from .record_codec import decode, encode, must_encode
from .recovery import settle
from .report import RunReport, build
from .workspace import Brief, Equipment

EnterAttempt = Callable[[], AbstractAsyncContextManager[None]]
"""Entered around each attempt; the attempt's own time limit stands still until it is in."""

_NO_RESULTS: Mapping[str, Any] = MappingProxyType({})
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_NO_EFFECT = ("rewrite", "codemod")  # in memory and in workers: nothing outside the process before its changeset
_LEARNT = 500  # tasks


class Runtime:
    """Runs tasks on specialists' instances; an async context manager.

    `repo` is a path in a git repository (None: no git at all). `journal` names a file to record the run in (or is one that
    shares its file with other runs); with a repository the default is `journeyman/journal.db` in its common git folder. `gate`
    is entered for each attempt, for a host with several runtimes. `max_instances` caps all crews together;
    `sequential` runs one attempt at a time. `backoff_s` and `backoff_cap_s` are the first and the longest wait between
    two attempts, `idle_s` how long an instance stays with nothing to do, all in seconds. `budget_usd` and `budget_tokens` go before
    the plan's; `rate_s` tells the least time that the rates of a service allowed, for the report's bound. `ways` equips the
    specialists and is entered and left with the runtime: `specialists.Ways()` brings rewrites, codemods, programs and Claude.

    Leaving the block waits for what was submitted; leaving it by an exception cancels.
    """

    def __init__(
        self,
        specialists: Iterable[Specialist],
        *,
        repo: str | Path | None = None,
        journal: str | Path | Journal | None = None,
        max_instances: int = 20,
        sequential: bool = False,
        idle_s: float = 5.0,
        backoff_s: float = 0.5,
        backoff_cap_s: float = 60.0,
        steal: StealPolicy = "front",
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
        gate: EnterAttempt | None = None,
        rate_s: Callable[[], float] = float,
        ways: Equipment | None = None,
    ) -> None:
        """Raises BadInput when the specialists or the numbers make no sense."""
        specialists = specialists if ways is None else ways.equip(specialists)
        self._ways = ways
        self.specialists = {one.name: one for one in preparation.checked_specialists(specialists, max_instances)}
        self._max_instances = 1 if sequential else max_instances
        self._idle_s, self._backoff_s, self._backoff_cap_s, self._steal = idle_s, backoff_s, backoff_cap_s, steal
        self._handlers = {name: one.handler for name, one in self.specialists.items()}
        self._talkers = frozenset(name for name, one in self._handlers.items() if getattr(one, "talks", False))
        self._rate_s = rate_s
        self._budget_usd, self._budget_tokens = budget_usd, budget_tokens
        self._budget = Budget(budget_usd, budget_tokens)
        self._contracts = ""
        self._repo = repo
        self._given = journal if isinstance(journal, Journal) else None
        self._journal_path = journal.path if isinstance(journal, Journal) else Path(journal) if journal else None
        self._gate = gate
        self.machine = Machine()
        self.run_id = ""
        self._rebuilding = Gap()  # in which the machine is as the last process left it
        self.replayed = 0  # how much of the history another process has seen
        self.doing: dict[str, str] = {}  # {instance: what it is at, in words}
        self._journal: Journal | None = None
        self._attempts: Attempts | None = None
        self._finish: Finish | None = None
        self._estimator = Estimator()
        self._actors: dict[str, Actor] = {}
        self._groups: dict[str, trio.Event] = {}  # {group: set when it has concluded}
        self._asked: dict[tuple[str, int, str], Answer] = {}
        self._inbox: list[Event] = []
        self._posting = False
        self._recording = False
        self._watched = False  # somebody waits for news
        self._group_count = 0
        self._checks: tuple[str, ...] = ()  # the plan's, which a model may run too
        self._epoch = 0.0
        self._armed = math.inf
        self._arm_changed = trio.Event()
        self._news = trio.Event()
        self._rest = trio.Event()
        self._closing = self._shut = False
        self._stack = AsyncExitStack()
        self._line_jobs: list[cmd.Merge | cmd.Rollback] = []
        self._line_wake = trio.Event()
        self._perform: dict[type[cmd.Command], Callable[[Any], None]] = {
            cmd.Spawn: self._do_spawn,
            cmd.Retire: self._do_retire,
            cmd.Start: self._do_start,
            cmd.Abort: self._do_abort,
            cmd.Merge: self._do_line,
            cmd.Rollback: self._do_line,
            cmd.Grant: self._do_answer,
            cmd.Refuse: self._do_answer,
            cmd.Concluded: self._do_concluded,
        }

    # --- entering and leaving ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Runtime:
        await self._stack.__aenter__()
        try:
            if self._repo is not None:
                self._attempts = await Attempts.open(self._repo, self.specialists, self.machine.registry)
                self._finish = Finish(self._attempts)
                if self._journal_path is None:
                    self._journal_path = self._attempts.repository.common_dir / "journeyman" / "journal.db"
            if self._ways is not None:
                await self._stack.enter_async_context(self._ways)
            self._estimator = preparation.learned(self._journal_path)  # before a plan is prepared
            self._epoch = trio.current_time()
            self._nursery = await self._stack.enter_async_context(self._own_nursery())
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is None:
            await self._until_rest()
        try:
            return await self._stack.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if not is_only(group, error):
                raise
            return (
                False  # the caller's own exception goes on as it was raised: `except BadPlan`, `asyncio.timeout` see it
            )

    @asynccontextmanager
    async def _own_nursery(self) -> AsyncIterator[trio.Nursery]:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                if self._attempts is not None:
                    nursery.start_soon(self._keep_line)
                try:
                    yield nursery
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            self._closing = True
            self._news.set()
            with trio.CancelScope(shield=True):
                await self._shut_down()
            self._shut = True

    async def _shut_down(self) -> None:
        if self._attempts is not None:
            self._attempts.pool.close()
        if self._journal is None:
            return
        try:
            if self.run_id and not self.machine.closed:
                self._close_run(self.report().state)
            if self._estimator.seen:
                await self._journal.durable()
                self._journal.remember(preparation.ESTIMATES, msgspec.msgpack.encode(self._estimator.seen))
            if self._attempts is not None and self._all_final():
                self._attempts.repository.packs.release(self.run_id)
        finally:
            self._journal.close()

    def _all_final(self) -> bool:
        return all(record.state in FINAL for record in self.machine.records.values())

    # --- the verbs ---------------------------------------------------------------------------------------------

    async def run(self, plan: Plan) -> RunReport:
        """Run a plan to its end and report. Raises BadPlan or RepositoryRefused before anything is started.

        A failing task is in the report, not an exception. After `drain` it returns early, with the rest open.
        """
        repository = self._attempts.repository if self._attempts else None
        prepared = preparation.prepare(plan, self.specialists, repository, self._estimator, self._open_tasks())
        if self._attempts is not None:
            await self._attempts.refuse_full_disk(plan, prepared.base)
        await self._open_run(prepared.base, plan)
        self._configure(plan)
        group = self._submit(prepared.tasks, prepared, plan.on_failure, plan.max_failures)
        try:
            await self._concluded(group)
        except BaseException:  # the caller is gone, with a lone Cancelled or a group: nobody waits for its tasks
            for record in self.machine.groups[group].tasks:
                if record.state not in FINAL and not self.machine.draining:  # an interrupted run is gone on with
                    self._post(CancelRequested(record.task.id, "whoever ran the plan was cancelled"))
            raise
        return await self._wind_up(plan, group)

    async def submit(self, task: Task) -> Ticket:
        """Hand over one task; it is in the journal, durably, when this returns. Raises BadPlan."""
        plan = Plan([task])
        repository = self._attempts.repository if self._attempts else None
        known = self.machine.records
        prepared = preparation.prepare(plan, self.specialists, repository, self._estimator, self._open_tasks(), known)
        await self._open_run(prepared.base, plan)
        group = self._submit(prepared.tasks, prepared, "isolate", None)
        await self._durable()
        return Ticket(task.id, partial(self._settled, group, task.id), self._post)

    async def resume(
        self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, *, outside: bool = False
    ) -> RunReport:
        """Go on with a run of the journal that did not end, after a crash, an interruption or a pause, and report. Its budgets hold
        unless the runtime has its own; `edits` are the budgets of tasks (`budget_usd`, `budget_tokens`); both hold from then on.
        `outside` as in `Resumed`."""
        with self._rebuilding:
            plan = await self._rebuild(run)
            edited = preparation.rebudgeted(self.machine.records, edits or {})
            self._allow(edited)
            self._post(Resumed(True, outside, self._budget_usd, self._budget_tokens, tuple(edited)))
        for command in self.machine.resume():
            self._perform[type(command)](command)
        return await self._go_on(plan)

    async def retry(
        self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, *, task: str = ""
    ) -> RunReport:
        """Try again what failed in an ended run and what was skipped or cancelled for it, or only `task` with what belongs to it;
        `edits` change tasks' fields."""
        with self._rebuilding:
            plan = await self._rebuild(run)
            if not self._all_final():
                raise BadInput(f"run {run} has not ended; use: journeyman resume {run}")
            again = preparation.again(self.machine.records, task)
            tasks = tuple(attrs.evolve(one, **(edits or {}).get(one.id, {})) for one in again)
            self._allow(tasks)
            self._post(Resumed(True, False, self._budget_usd, self._budget_tokens))
            group = self._new_group()
            self._post(Retried(group, tasks))
        return await self._go_on(plan)

    async def bisect(self, plan: Plan, *, drop: bool = False) -> str | None:
        """After `run` with a red check: the task whose commit turned it red; with `drop` it is taken off the line, with its
        dependants, and the checks run again. None when nothing is red, or the base is red already."""
        if self._finish is None:
            return None
        found = await self._finish.bisect(plan, self.machine, self._post, drop=drop)
        self._close_run(self.report().state)
        return found

    async def land(
        self, message: str, *, keep_commits: bool = False, parts: Callable[[str], str] | None = None
    ) -> tuple[str, ...]:
        """Bring the run's result onto the branch that is checked out; the commits, last its new tip. Raises RepositoryRefused."""
        line = self.line
        if line is None:
            raise BadInput("there is nothing to land: the runtime has no repository, or nothing has run")
        make = partial(line.landing, message, keep_commits=keep_commits, parts=parts)
        landing: Landing = await trio.to_thread.run_sync(make)
        await land(landing, "land", line.tip, self._record)
        return landing.commits

    async def _go_on(self, plan: Plan) -> RunReport:
        await self._until_rest()
        return await self._wind_up(plan, None)

    async def _wind_up(self, plan: Plan, group: str | None) -> RunReport:
        """What comes after the tasks: formatting, checks, the report."""
        interrupted = not self._all_final()
        if self._finish is not None and not interrupted and not self.machine.draining:
            await self._finish.run(plan, self.machine, self._post)
        report = self.report(group)
        self._learn()
        if self._repo is not None:
            self._close_run(report.state)
        await self._durable()
        return report

    def report(self, group: str | None = None) -> RunReport:
        """The report as things stand, of one submitted group or of everything."""
        line = self._attempts.line if self._attempts is not None else None
        return build(
            self.machine,
            group=group,
            line=line.ref if line is not None else None,
            commit=line.tip if line is not None else None,
            rate_s=min(self._rate_s(), self.now()),
        )

    def drain(self, why: str = "interrupted") -> None:
        """Start nothing more; `run` returns when what runs has ended."""
        self._post(DrainRequested(why))
        self._check_rest()

    @property
    def goes_on(self) -> bool:
        """Whether there is a run with tasks that have not ended, and it is not told to stop."""
        machine = self.machine
        if self._rebuilding:
            return True
        return bool(self.run_id) and not (machine.draining or machine.closed or self._all_final())

    async def set_budget(self, budget_usd: float | None = None, budget_tokens: int | None = None) -> None:
        """Give the run that goes on another budget, in US dollars and tokens; None leaves one as it is. It is on the disk when this
        returns, and holds for later resumes too. Raises BadInput for an amount that is none, and when no run goes on that could take
        it, as when it stops for a spent budget already: `resume` takes another then."""
        await self._rebuilding.over()
        problems = [f"{field}: {words}" for field, words in plans.budgets(budget_usd, budget_tokens)]
        if not self.goes_on:
            problems.append("the budget: no run goes on that could take it; give it with `run` or `resume`")
        if problems:
            raise BadInput(problems)
        self._budget_usd = self._budget_usd if budget_usd is None else budget_usd
        self._budget_tokens = self._budget_tokens if budget_tokens is None else budget_tokens
        self._post(Resumed(False, False, budget_usd, budget_tokens))
        kept = self.machine.opened.plan
        self._budget.limit(kept.get("budget_usd"), kept.get("budget_tokens"))
        await self._durable()

    def cancel(self, task: str = "", why: str = "cancelled") -> None:
        """Cancel one task, or all."""
        self._post(CancelRequested(task, why))

    def events(self, start: int = 1) -> Events:
        """Everything from sequence number `start` on, then live, until the runtime closes: `async for notice in ...`.

        An event and the commands that followed from it have one number, in that order.
        """
        return Events(self.batch, max(start, 1))

    async def batch(self, start: int) -> list[Notice]:
        """All notices from sequence number `start` on; waits for the first of them. Empty: the runtime has closed."""
        while len(self.machine.history) < start:
            if self._closing:
                return []
            self._watched = True
            await self._news.wait()
        return self.notices(start)

    def notices(self, start: int = 1) -> list[Notice]:
        """All notices there are from sequence number `start` on."""
        return notices(self.machine, start)

    @property
    def closed(self) -> bool:
        """Whether its block has been left; nothing more happens then."""
        return self._shut

    def now(self) -> float:
        """Seconds since the run was opened."""
        return trio.current_time() - self._epoch

    def statistics(self) -> Mapping[str, int]:
        """Live counts: instances, running attempts, queued, tasks by state."""
        dispatch = self.machine.dispatch
        queued = sum(crew.queued for crew in dispatch.crews.values())
        return {"instances": dispatch.total, "running": dispatch.running, "queued": queued, "steals": dispatch.steals}

    @property
    def line(self) -> Any:
        """The run's line (`runtime.line.Line`), or None without a repository or before the first task."""
        return self._attempts.line if self._attempts is not None else None

    # --- opening a run -----------------------------------------------------------------------------------------

    async def _open_run(self, base: str, plan: Plan) -> None:
        if self.machine.opened.crews:
            return
        await self._open_journal()
        self.run_id = self._journal.begin(plan.name) if self._journal is not None else "run"
        self._recording = self._journal is not None
        if self._attempts is not None:
            await self._attempts.begin(self.run_id, base, alone=self._given is None, journal=self._journal)
        self._epoch = trio.current_time()
        self._post(
            Opened(
                run=self.run_id,
                crews=tuple(
                    CrewSpec(one.name, one.instances, min(one.min_instances, one.instances), one.helps)
                    for one in self.specialists.values()
                ),
                max_instances=self._max_instances,
                merges=self._attempts is not None,
                idle_s=self._idle_s,
                backoff_s=self._backoff_s,
                backoff_cap_s=self._backoff_cap_s,
                steal=self._steal,
                base=base,
                wall_s=time.time(),
                grow=plan.claims == "grow",
                name=plan.name,
                rules=RULES,
                plan=preparation.rules(preparation.within(plan, self._budget_usd, self._budget_tokens)),
            )
        )

    async def _open_journal(self) -> None:
        if self._journal_path is None or self._journal is not None:
            return
        self._journal = self._given or Journal(self._journal_path)
        if self._attempts is not None:
            self._journal.prepare = self._attempts.repository.flush

    async def _rebuild(self, run: str) -> Plan:
        """The machine as it was when the run's last record was written; returns the plan's rules."""
        if self._journal_path is None or not self._journal_path.exists():
            raise BadInput(f"there is no run {run!r}: nothing has been recorded here")
        await self._open_journal()
        assert self._journal is not None
        if run not in {row.name for row in self._journal.runs()}:
            raise BadInput(f"there is no run {run!r}; `journeyman runs` lists them")
        last = 0.0
        for last, event in map(decode, self._journal.records(run)):
            self.machine.handle(event, last)
        self.replayed = len(self.machine.history)
        self._journal.reopen(run)
        self._recording = True
        self.run_id = run
        if not self.machine.submitted:
            self._close_run("cancelled")
            raise BadInput(
                f"run {run} ended before its tasks were recorded; nothing of it was started: run the plan again"
            )
        self._take_groups()
        self._epoch = trio.current_time() - last
        missing = [name for name in self.machine.dispatch.crews if name not in self.specialists]
        if missing:
            raise BadInput(f"run {run} was made with specialists that are not defined now: {', '.join(missing)}")
        plan = preparation.rules_back(self.machine.opened)
        if self._attempts is not None:
            base = self.machine.opened.base
            line = await self._attempts.begin(run, base, alone=self._given is None, journal=self._journal)
            for event in await trio.to_thread.run_sync(lambda: list(settle(line, self.machine.undo))):
                self._post(event)
        self._configure(plan)
        self._allow(record.task for record in self.machine.records.values())
        for name, record in self.machine.records.items():
            for spent in (
                record.spent,
                record.reserved,
            ):  # a call that was under way when the process died counts as it may have ended
                if spent is not None:
                    self._budget.restore(name, spent.usd, spent.tokens)
        return plan

    def _configure(self, plan: Plan) -> None:
        """Take the plan's rules. A budget given to the runtime itself goes before the plan's."""
        if self._attempts is not None:
            self._attempts.configure(plan)
        self._checks, self._contracts = plan.checks, plan.contracts
        kept = preparation.within(plan, self._budget_usd, self._budget_tokens)
        self._budget.limit(kept.budget_usd, kept.budget_tokens)

    def _allow(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._budget.allow(task.id, task.budget_usd, task.budget_tokens)

    def _open_tasks(self) -> frozenset[str]:
        records = self.machine.records
        return frozenset(name for name, record in records.items() if record.state not in FINAL)

    def _take_groups(self) -> None:
        """The groups of a rebuilt machine, before it is told anything: one may conclude at once."""
        self._group_count = len(self.machine.groups)
        for name, group in self.machine.groups.items():
            self._groups[name] = trio.Event()
            if not group.left:
                self._groups[name].set()

    def _new_group(self) -> str:
        self._group_count += 1
        name = f"g{self._group_count}"
        self._groups[name] = trio.Event()
        return name

    def _submit(
        self,
        tasks: Sequence[Task],
        prepared: preparation.Prepared,
        on_failure: Any,
        max_failures: int | None,
    ) -> str:
        group = self._new_group()
        self._allow(tasks)
        self._post(
            Submitted(
                group,
                tuple(tasks),
                estimates=prepared.estimates,
                keys=prepared.keys,
                orders=prepared.orders,
                on_failure=on_failure,
                max_failures=max_failures,
            )
        )
        return group

    # --- the loop of events and commands -----------------------------------------------------------------------

    def _post(self, event: Event) -> None:
        """Take an event to the machine and perform what it commands; events that this causes follow in order."""
        if self._posting:
            self._inbox.append(event)
            return
        self._posting = True
        try:
            self._step(event)
            while self._inbox:
                self._step(self._inbox.pop(0))
        finally:
            self._posting = False
        if self._watched:
            self._watched = False
            self._news.set()
            self._news = trio.Event()
        machine = self.machine
        if machine.timed:
            due = machine.deadline()
            if due is not None and due < self._armed:
                self._arm_changed.set()
        if machine.draining:
            self._check_rest()

    def _step(self, event: Event) -> None:
        now = trio.current_time() - self._epoch
        if self._recording:
            assert self._journal is not None
            self._journal.append(encode(now, event))
        try:
            commands = self.machine.handle(event, now)
        except Exception as error:
            task = getattr(event, "task", "")
            story = "\n".join(f"  {at:.3f} {item}" for at, item in self.machine.story(task)) if task else ""
            raise Bug(f"the machine refused {event}: {error!r}\n{story}") from error
        perform = self._perform
        for command in commands:
            act = perform.get(type(command))
            if act is not None:
                act(command)

    async def _keep_time(self) -> None:
        """Send a `Tick` whenever the machine's deadline comes."""
        while True:
            due = self.machine.deadline()
            self._armed = math.inf if due is None else due
            self._arm_changed = trio.Event()
            with trio.move_on_at(self._armed + self._epoch):
                await self._arm_changed.wait()
            due = self.machine.deadline()
            if due is not None and due <= trio.current_time() - self._epoch:
                self._post(Tick())

    async def _concluded(self, group: str) -> None:
        """Wait until the group's tasks have settled, or nothing will settle any more because the run drains."""
        concluded = self._groups[group]
        while not concluded.is_set():
            if self.machine.draining and self.machine.at_rest:
                return
            await first_of(concluded, self._rest)

    def _check_rest(self) -> None:
        if self.machine.draining and self.machine.at_rest:
            self._rest.set()
            self._rest = trio.Event()

    async def _until_rest(self) -> None:
        for group in list(self._groups):
            await self._concluded(group)

    async def _settled(self, group: str, task: str) -> Any:
        await self._concluded(group)
        return next(record for record in self.machine.groups[group].tasks if record.task.id == task)

    def _learn(self) -> None:
        """Take in how long tasks took; of many, the last ones, which is all that the mean remembers."""
        sizes = self._attempts.size_of if self._attempts is not None else None
        for record in list(self.machine.records.values())[-_LEARNT:]:
            if record.state == DONE and record.started_s is not None and record.finished_s is not None:
                size_bytes = sizes(record.task) if sizes is not None else 0
                seconds = record.finished_s - record.started_s
                way = preparation.way_of(record.task, self.specialists[record.task.specialist])
                self._estimator.learn(record.task.specialist, way, size_bytes, seconds)

    def _close_run(self, state: str) -> None:
        self._post(Closed(state))
        if self._journal is not None:
            self._journal.close_run(state)

    # --- performing commands -----------------------------------------------------------------------------------

    def _do_spawn(self, command: cmd.Spawn) -> None:
        perform = self._attempt if self._gate is None else self._gated_attempt
        machine = self.machine
        actor = Actor(command.instance, perform, self._post_from_actor, self._timeout_of, lambda: machine.now)
        self._actors[command.instance] = actor
        self._nursery.start_soon(actor.run, name=command.instance)

    def _do_retire(self, command: cmd.Retire) -> None:
        self._actors.pop(command.instance).retire()

    def _do_start(self, command: cmd.Start) -> None:
        self._actors[command.instance].assign(command)

    def _do_abort(self, command: cmd.Abort) -> None:
        instance = self.machine.records[command.task].instance
        if instance is not None:
            self._actors[instance.name].abort(command.task, command.attempt)

    def _do_line(self, command: cmd.Merge | cmd.Rollback) -> None:
        self._line_jobs.append(command)
        self._line_wake.set()

    def _do_answer(self, command: cmd.Grant | cmd.Refuse) -> None:
        answer = self._asked.pop((command.task, command.attempt, command.path), None)
        if answer is not None:
            answer.give(command)

    def _do_concluded(self, command: cmd.Concluded) -> None:
        self._groups[command.group].set()

    def _timeout_of(self, task: str) -> float | None:
        return self.machine.records[task].task.timeout_s

    def _post_from_actor(self, event: Event) -> None:
        if isinstance(event, InstanceDied):
            self._actors.pop(event.instance, None)
        self._post(event)

    # --- attempts ----------------------------------------------------------------------------------------------

    async def _gated_attempt(self, start: cmd.Start) -> Finished:
        assert self._gate is not None
        actor = self._actors[start.instance]
        left_s = actor.stop_clock()
        async with self._gate():
            actor.start_clock(left_s)
            return await self._attempt(start)

    async def _attempt(self, start: cmd.Start) -> Finished:
        task = self.machine.records[start.task].task
        handler = self._handlers[task.specialist]
        assert handler is not None
        results = self._results(task) if task.after else _NO_RESULTS
        talks = self._talkers and task.specialist in self._talkers and not task.way
        talk = self._conversation(start) if talks else None
        if self._attempts is not None:
            if task.way not in _NO_EFFECT:
                await self._durable()
            perform = self._attempts.perform
            value, changeset = await perform(task, start, results, handler, self._ask, self._say, talk)
        else:
            brief = Brief(task, start.attempt, start.instance, results, (), self._say, conversation=talk)
            value = await handler(brief, None)
            changeset = None
        if type(value) not in _PLAIN:
            must_encode(value)
        return Finished(start.task, start.attempt, value, changeset)

    def _conversation(self, start: cmd.Start) -> Conversation:
        record = self.machine.records[start.task]
        specialist = self.specialists[record.task.specialist]
        return Conversation(
            start.task,
            start.attempt,
            tuple(record.turns or ()),
            record.talk.contents if record.talk is not None else {},
            record.error or "",
            tuple(dict.fromkeys((*record.task.check, *specialist.checks, *self._checks))),
            self._contracts,
            self._budget,
            post=self._post,
            durable=self._journal.durable if self._journal is not None else None,
            hand_over=partial(self._hand_over, start.task),
            planned=partial(wishes.planned, self.machine, start.task),
        )

    def _hand_over(self, task: str, path: str, why: str) -> str | None:
        wish = wishes.hand_over(self.machine, task, path, why)
        if isinstance(wish, Submitted):
            self._allow(wish.tasks)
            self._post(wish)
            return wish.tasks[0].id
        return wish

    async def _record(self, event: Event) -> None:
        self._post(event)
        await self._durable()

    async def _durable(self) -> None:
        """Before an effect outside the process: the events that led to it are on the disk."""
        if self._journal is not None:
            await self._journal.durable()

    def _results(self, task: Task) -> Mapping[str, Any]:
        records = self.machine.records
        return {name: records[name].result for name in task.after}

    def _say(self, instance: str, words: str) -> None:
        self.doing[instance] = words

    async def _ask(self, start: cmd.Start, path: str) -> None:
        """Ask for one more path and wait for the answer. Raises ClaimViolation with the holders when refused."""
        answer = self._asked[(start.task, start.attempt, path)] = Answer()
        self._post(Asked(start.task, start.attempt, path))
        command = await answer.wait()
        if isinstance(command, cmd.Refuse):
            raise ClaimViolation(start.task, [path], command.holders)

    # --- the line ----------------------------------------------------------------------------------------------

    async def _keep_line(self) -> None:
        """Take changesets to the line, one batch after another; only what is durable in the journal is merged."""
        assert self._attempts is not None
        while True:
            await self._line_wake.wait()
            self._line_wake = trio.Event()
            while self._line_jobs:
                jobs, self._line_jobs = self._line_jobs, []
                await self._durable()
                with trio.CancelScope(shield=True):  # a batch is short, and half of one would have to be found again
                    await self._merge([job for job in jobs if isinstance(job, cmd.Merge)])
                    for job in jobs:
                        if isinstance(job, cmd.Rollback):
                            await self._roll_back(job)

    async def _merge(self, jobs: list[cmd.Merge]) -> None:
        if not jobs:
            return
        assert self._attempts is not None
        records = self.machine.records
        batch = []
        for job in jobs:
            record = records[job.task]
            assert record.changeset is not None
            batch.append((record.task, job.attempt, record.changeset))
        for job, answer in zip(jobs, await self._attempts.merge(batch), strict=True):
            if answer.error:
                self._post(Failed(job.task, job.attempt, answer.error, "conflict"))
            else:
                self._post(Merged(job.task, job.attempt, answer.commit))

    async def _roll_back(self, job: cmd.Rollback) -> None:
        assert self._attempts is not None
        answer = await self._attempts.roll_back(job.tasks, job.cause)
        self._post(RolledBack(job.tasks, answer.commit, answer.error))
