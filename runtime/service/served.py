"""One repository that the daemon serves: its queue, the runs that go on, and what is told of those that have ended.

Knows the engine and the journal; no HTTP. A submission is in the journal, durably, before it is acknowledged, and stays there until
its run has ended: so a daemon that is killed finds on its next start what was open. Everything here runs on one trio loop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import attrs
import msgspec
import trio

from specialists import Ways
from specialists.claude import STALL_S, Claude

from .. import refactor as refactors
from .. import runs as past_runs
from ..core.record import DONE, FINAL
from ..core.task import Plan
from ..engine import Runtime
from ..errors import BadInput, JourneymanError, RunHeld
from ..execution import Options, capped, conclude
from ..git import Repository
from ..journal import Journal, Reader, Writer
from ..limits import Gate as CallGate
from ..line import line_ref
from ..outlook import outlook
from ..planfile import dump
from ..preparation import again
from ..recovery import tidy
from ..report import OPEN, RunReport
from ..rewind import Rewound, checkpoint, redo, take_back, undo
from ..submission import (
    ENDED,
    QUEUED,
    Ended,
    Mode,
    Receipt,
    Refactor,
    Settings,
    Submission,
    decode_ended,
    decode_submission,
    encode,
    fingerprint,
    key_name,
    plan_told,
)
from ..telemetry import Traced, untraced
from ..terminal import configured, edited
from . import memory
from .elsewhere import Elsewhere
from .gate import AttemptGate
from .kept import as_it_is, left_open, recalled, recorded, refuse_ended, submission_of
from .live import Came, Live, Log, Status
from .problems import Problem, words_of
from .queue import Queue
from .reading import Claims, load_plan, place_of, plan_text, prepared, prepared_again, prepared_refactor
from .together import Together
from .trees import is_of, taken_over

_KEPT = 16  # ended runs whose machines are kept, for whoever looks again
_AGAIN_S = 5.0  # how often what could not be taken up is looked at again, at first
_MOST_AGAIN_S = 60.0  # and in the end


@attrs.define(eq=False)
class Served:
    """One repository."""

    id: str
    repository: Repository
    nursery: trio.Nursery
    gate: AttemptGate
    calls: CallGate
    log: Log
    jobs: int | None = None
    traced: Traced = untraced
    queue: Queue = attrs.field(factory=Queue)
    live: dict[str, Live] = attrs.field(factory=dict)  # {run: live}, in the order of submission
    draining: bool = False
    left: bool = False  # it is not served any more
    # What was left open is taken up: until then, a run that is about to go on looks as if it had stopped
    looked: trio.Event = attrs.field(factory=trio.Event)
    finished: int = 0  # runs that ended since the daemon started
    _kept: dict[str, tuple[Any, Status]] = attrs.field(factory=dict)  # {run: (version, status)} of some that have ended
    _elsewhere: WeakValueDictionary[str, Elsewhere] = attrs.field(factory=WeakValueDictionary)  # while they are watched
    _writer: Writer | None = None
    _users: int = 0
    _door: trio.Lock = attrs.field(factory=trio.Lock)
    _intake: trio.Lock = attrs.field(factory=trio.Lock)
    _landing: trio.Lock = attrs.field(factory=trio.Lock)
    _tidying: bool = False
    # What is to be taken up: first everything that is open, then {run: what was in its way} of what could not be begun
    _all: bool = True
    _unbegun: dict[str, str] = attrs.field(factory=dict)
    _again: trio.Event = attrs.field(factory=trio.Event)  # there is something in `_unbegun`
    _again_s: float = _AGAIN_S
    _listing: Together[list[past_runs.RunEntry]] = attrs.field(init=False)
    _listed: tuple[Writer | None, int, list[past_runs.RunEntry]] = (None, 0, [])  # as of a writer's version

    def __attrs_post_init__(self) -> None:
        self._listing = Together(lambda: past_runs.entries(self.repository))

    @property
    def path(self) -> Path:
        """Its journal's file."""
        return past_runs.journal_path(self.repository)

    # --- handing over ------------------------------------------------------------------------------------------

    async def submit(
        self, text: str, form: str, settings: Settings, *, client: str, key: str = "", name: str = "plan"
    ) -> tuple[str, bool]:
        """Take a plan in; (run, whether it is new). When this returns, the journal has it. Raises BadPlan, Problem, RunHeld."""
        prepare = partial(prepared, self.repository, text, form, name, settings)
        return await self._take_in(prepare, settings, client, key, fingerprint(plan_told(text, form), settings))

    async def refactor(self, wish: Refactor, settings: Settings, *, client: str, key: str = "") -> tuple[str, bool]:
        """Take in one specialist's task over many files, as `submit` does a plan. Raises BadInput when there is nothing to do."""
        prepare = partial(prepared_refactor, self.repository, wish, settings)
        return await self._take_in(prepare, settings, client, key, fingerprint(wish, settings))

    async def look_ahead(self, text: str, form: str) -> dict[str, Any]:
        """What a plan would do. Raises BadPlan."""

        def look() -> dict[str, Any]:
            place = place_of(self.repository)
            return outlook(configured(load_plan(text, form, "plan", place), place.config), place, "plan").document()

        return await trio.to_thread.run_sync(look)

    async def _take_in(
        self, prepare: Callable[[], tuple[Plan, Claims]], settings: Settings, client: str, key: str, print_: str
    ) -> tuple[str, bool]:
        self._refuse_when_draining()
        settings.check()
        if known := await self._known(key, print_):  # whatever the repository has become since
            return known, False
        plan, claims = await trio.to_thread.run_sync(prepare)
        submission = Submission(client, "run", dump(plan), settings, tree=self.repository.tree_name, at=time.time())
        async with self._intake:
            self._refuse_when_draining()
            if known := await self._known(key, print_):
                return known, False

            def kept(run: str) -> dict[str, bytes]:
                receipt = {key_name(key): encode(Receipt(run, print_))} if key else {}
                return {QUEUED + run: encode(submission), **receipt}

            async with self.writing() as writer:
                run = await trio.to_thread.run_sync(writer.new_run, plan.name, kept)
                live = Live(run, submission, claims, plan.name)
                await self._enter(live)
        self.log("run submitted", repository=self.id, run=run, client=client, tasks=len(plan.tasks))
        return run, True

    async def _known(self, key: str, print_: str) -> str:
        """The run that an idempotency key stands for already. Raises Problem when it was used for something else."""
        if not key or not self.path.exists():
            return ""
        kept = await trio.to_thread.run_sync(recalled, self.path, key_name(key))
        if kept is None:
            return ""
        receipt = msgspec.msgpack.decode(kept, type=Receipt)
        if not receipt.stands_for(print_):
            raise Problem(
                "key-reused", f"this Idempotency-Key stands for run {receipt.run}, which was asked for otherwise"
            )
        return receipt.run

    async def again(
        self,
        run: str,
        mode: Mode,
        edits: dict[str, dict[str, Any]] | None = None,
        task: str = "",
        **budgets: float | None,
    ) -> None:
        """Go on with a run that was paused or interrupted (`resume`), or try again what failed in one (`retry`), all or one task."""
        async with self._intake:
            self._refuse_when_draining()
            entry = await self.entry(run)
            if run in self.live:
                raise Problem("wrong-state", f"run {run} is {self._state(self.live[run])} already")
            if entry.state == "running":
                raise Problem("repository-held", f"run {run} is going on in another process")
            refuse_ended(entry, mode)
            await trio.to_thread.run_sync(place_of, self.repository)  # what would be in its way is told at once
            async with self.writing() as writer:
                before = await trio.to_thread.run_sync(submission_of, self.path, run)
                before = taken_over(self.repository, run, before)
                started, claims = await trio.to_thread.run_sync(recorded, self.path, run)
                if not started and not before.plan:
                    raise Problem("wrong-state", f"run {run} has no records: it ended before it began")
                checked_edits: dict[str, dict[str, Any]] = {}
                if mode == "resume":
                    mode = await self._way_on(run, before, started)
                    checked_edits, task = (before.edits, before.task) if mode == "retry" else ({}, "")
                elif edits or task or started:
                    checked_edits = await trio.to_thread.run_sync(self._edited, run, mode, edits or {}, task)
                submission = msgspec.structs.replace(
                    before, mode=mode if started else "run", edits=checked_edits, task=task, held=False, at=time.time()
                )
                submission.settings = before.settings.within(**budgets)
                if not started:
                    claims = (await trio.to_thread.run_sync(prepared_again, self.repository, run, submission))[1]
                kept: dict[str, bytes | None] = {QUEUED + run: encode(submission), ENDED + run: None}
                await trio.to_thread.run_sync(writer.remember, kept)
                if started:
                    await trio.to_thread.run_sync(writer.close_run, run, "open")
                else:
                    await trio.to_thread.run_sync(writer.begin_again, run)
                self._unbegun.pop(run, None)
                await self._enter(Live(run, submission, claims, entry.title))
        self.log(f"run to {mode}", repository=self.id, run=run)

    def _edited(
        self, run: str, mode: Mode, edits: Mapping[str, Mapping[str, Any]], task: str
    ) -> dict[str, dict[str, Any]]:
        """The edits of a retry, checked as a plan is. Raises BadInput, or Problem when there is nothing to try again."""
        records = past_runs.load(self.repository, run).machine.records
        if task:
            again(records, task)  # whether that can be
        elif mode == "retry" and all(record.state == DONE for record in records.values()):
            raise Problem("wrong-state", f"run {run}: every task is done, there is nothing to try again")
        return edited(place_of(self.repository), {name: record.task for name, record in records.items()}, edits)

    async def _way_on(self, run: str, submission: Submission, started: bool) -> Mode:
        """How an open run is gone on with: begun, resumed, or tried again by a retry that had not begun."""
        if not started:
            return "run"
        has_open = partial(past_runs.has_open, self.repository, run)
        return "retry" if submission.mode == "retry" and not await trio.to_thread.run_sync(has_open) else "resume"

    async def recover(self) -> None:
        """Take up what was open when the last daemon ended, as soon as no other process holds the repository; what cannot be, or not
        be begun later, is tried again and again."""
        said = ""
        try:
            while not self.draining:
                try:
                    async with self._intake:
                        await self._recover()
                except RunHeld as error:
                    self.log("repository held", repository=self.id, pid=error.pid)
                except JourneymanError as error:
                    if str(error) != said:
                        said = str(error)
                        self.log("repository cannot be taken up", repository=self.id, error=said)
                self.looked.set()
                if not self._all and not self._unbegun:
                    await self._again.wait()
                self._again = trio.Event()
                await trio.sleep(self._again_s)
                self._again_s = self._again_s if self._all else min(2 * self._again_s, _MOST_AGAIN_S)
        finally:
            self.looked.set()

    async def _recover(self) -> None:
        left = await trio.to_thread.run_sync(left_open, self.path)
        ours = {run: one for run, one in left.items() if is_of(self.repository, one)}
        for run in left.keys() - ours.keys() if self._all else ():
            self.log("run left to another work tree", repository=self.id, run=run, tree=left[run].tree)
        fresh = {run: one for run, one in ours.items() if not one.held and run not in self.live}
        wanted = {run: one for run, one in fresh.items() if self._all or run in self._unbegun}
        for run in self._unbegun.keys() - wanted.keys():
            del self._unbegun[run]
        everywhere = await self._obstacle() if wanted else ""  # before anybody is kept from the journal
        if any(not everywhere or self._unbegun.get(run) != everywhere for run in wanted):
            async with self.writing() as writer:
                for run, submission in wanted.items():
                    why = everywhere or await self._take_up(writer, run, submission)
                    if why and why != self._unbegun.get(run):
                        await self._note_open(writer, run, submission, Came("interrupted", why))
                        self._unbegun[run] = why
                        self.log("run not taken up", repository=self.id, run=run, error=why)
        self._all = False

    async def _obstacle(self) -> str:
        """What is in the way of every run here."""
        try:
            await trio.to_thread.run_sync(place_of, self.repository)
        except JourneymanError as error:
            return str(error)
        return ""

    async def _take_up(self, writer: Writer, run: str, submission: Submission) -> str:
        """Go on with a run of the last daemon's; what is in its way, in words, is told and changes nothing of it."""
        try:
            started, claims = await trio.to_thread.run_sync(recorded, self.path, run)
            if not started:
                claims = (await trio.to_thread.run_sync(prepared_again, self.repository, run, submission))[1]
                await trio.to_thread.run_sync(writer.begin_again, run)
            submission.mode = await self._way_on(run, submission, started)
        except JourneymanError as error:
            return str(error)
        if self.draining:  # meanwhile: it would wait for a turn that does not come
            return ""
        self.log("run taken up", repository=self.id, run=run, mode=submission.mode)
        self._unbegun.pop(run, None)
        await self._enter(Live(run, submission, claims, str(submission.plan.get("plan", {}).get("name", ""))))
        return ""

    # --- the life of a run -------------------------------------------------------------------------------------

    async def _enter(self, live: Live) -> None:
        self.live[live.run] = live
        self.queue.add(live.run, live.submission.client, *live.claims)
        await self.nursery.start(self._life, live)
        self.pump()

    def pump(self) -> None:
        """Start what may start."""
        if not self.draining:
            for run in self.queue.start():
                self.live[run].turn.set()

    async def _life(self, live: Live, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        came = Came("interrupted")
        try:
            async with self.writing() as writer:
                task_status.started()
                with live.scope:
                    await live.turn.wait()
                    self.log("run started", repository=self.id, run=live.run)
                    try:
                        came = await self._perform(live, writer)
                    except Exception as failure:
                        came = Came("interrupted" if live.open else "failed", words_of(failure))
                        live.opened.set()
                if live.wish == "cancel" and (live.scope.cancelled_caught or came.state in OPEN):
                    came = came._replace(state=await self._cancelled(live, writer))
                if came.state == "interrupted" and live.wish == "pause":
                    came = came._replace(state="paused")
                async with live.noting:
                    live.noted = True
                    if came.state in OPEN:
                        await self._note_open(writer, live.run, live.on_hold(came.state), came)
                    else:
                        await self._note_end(writer, live.run, live.submission, came)
        except JourneymanError as failure:  # the journal cannot be written: it stays as it is, to be taken up later
            came = Came("interrupted", words_of(failure))
        finally:
            self.live.pop(live.run, None)
            self.queue.remove(live.run)
            self.finished += 1
            memory.run_ended(self.finished)
            if live.machine is not None:
                self._again_s = _AGAIN_S
            elif came.state == "interrupted" and came.error:
                self._unbegun[live.run] = came.error
                self._again.set()
            live.opened.set()
            live.over.set()
            why = {"error": came.error} if came.error else {}
            self.log("run ended", repository=self.id, run=live.run, state=came.state, **why)
            self.pump()
            self.nursery.start_soon(self._tidy_up)

    async def _tidy_up(self) -> None:
        """After a run: let go of packs that are gone; when nothing goes on, many become one, as after any command of git's own."""
        if self._tidying or self.draining:
            return
        self._tidying = True
        try:
            self.repository = await trio.to_thread.run_sync(self.repository.fresh)
            if not self.live:
                await trio.to_thread.run_sync(self.repository.collect)
        except JourneymanError as error:
            self.log("packs left as they are", repository=self.id, error=str(error))
        finally:
            self._tidying = False

    async def _perform(self, live: Live, writer: Writer) -> Came:
        submission, settings = live.submission, live.submission.settings
        place = await trio.to_thread.run_sync(place_of, self.repository)
        plan = None
        if submission.mode == "run":
            text, form = plan_text(submission)
            plan = await trio.to_thread.run_sync(load_plan, text, form, live.run, place)
        config = place.config
        claude = Claude(self.calls, stall_s=config.stall_s or STALL_S)
        ways = Ways(self.jobs, str(place.repository.work_tree), claude=claude, pass_environment=config.pass_environment)
        options = Options(
            land=settings.land,
            keep_commits=settings.keep_commits,
            message=settings.message,
            bisect=settings.bisect or settings.drop,
            drop=settings.drop,
        )
        ceiling = max(place.config.max_instances, settings.instances or 0)
        live.journal = Journal(self.path, writer, live.run)
        async with ways:
            crew = await trio.to_thread.run_sync(ways.equip, place.specialists)  # it executes the project's own code
            runtime = Runtime(
                capped(crew, settings.instances),
                repo=place.repository.work_tree,
                journal=live.journal,
                max_instances=ceiling,
                sequential=settings.sequential,
                budget_usd=settings.budget_usd,
                budget_tokens=settings.budget_tokens,
                rate_s=claude.least_s,
                gate=partial(self.gate.enter, submission.client),
            )
            async with runtime, self.traced(runtime):
                live.runtime = runtime
                live.opened.set()
                report = await self._run(runtime, live, plan)
                return await self._conclude(runtime, report, options)
        raise AssertionError("unreachable")

    async def _run(self, runtime: Runtime, live: Live, plan: Plan | None) -> RunReport:
        if live.submission.mode == "retry":
            return await runtime.retry(live.run, live.submission.edits, task=live.submission.task)
        if plan is None:
            return await runtime.resume(live.run)
        return await runtime.run(plan)

    async def _conclude(self, runtime: Runtime, report: RunReport, options: Options) -> Came:
        async with self._landing:
            outcome = await conclude(runtime, report, options)
        error = f"not landed: {outcome.refused}" if outcome.refused and outcome.exit_code else ""
        return Came(outcome.report.state, error, outcome.culprit, outcome.exit_code)

    async def _cancelled(self, live: Live, writer: Writer) -> str:
        """A run that was torn down because cancelling its tasks was not enough, or before it had begun."""
        started, _ = await trio.to_thread.run_sync(recorded, self.path, live.run)
        if not started:
            return "cancelled"
        return await past_runs.cancel(self.repository, live.run, self._opener(writer))

    async def _note_open(self, writer: Writer, run: str, submission: Submission, came: Came) -> None:
        """What has stopped, or could not be begun, keeps its submission; why is told beside it."""
        ended = await self._ended(run, submission, came)
        values = {QUEUED + run: encode(submission), ENDED + run: encode(ended)}
        await trio.to_thread.run_sync(writer.remember, values)
        await trio.to_thread.run_sync(writer.close_run, run, came.state)

    async def _note_end(self, writer: Writer, run: str, submission: Submission, came: Came) -> None:
        await trio.to_thread.run_sync(writer.close_run, run, came.state)
        values = {QUEUED + run: None, ENDED + run: encode(await self._ended(run, submission, came))}
        await trio.to_thread.run_sync(writer.remember, values)

    async def _ended(self, run: str, submission: Submission, came: Came) -> Ended:
        whose, may = submission.client, submission.settings
        records = await trio.to_thread.run_sync(past_runs.length, self.repository, run)
        told = (came.error, came.culprit, came.exit, submission.at, may.budget_usd, may.budget_tokens)
        return Ended(whose, *told, came.state, records)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writer]:
        """The journal's writer, opened by the first who needs it and closed by the last. Raises RunHeld."""
        async with self._door:
            if self._writer is None:
                self._writer = await trio.to_thread.run_sync(partial(Writer, self.path, daemon=True))
                await trio.to_thread.run_sync(tidy, self.repository, self._writer)
            self._users += 1
            writer = self._writer
        try:
            yield writer
        finally:
            with trio.CancelScope(shield=True):
                async with self._door:
                    self._users -= 1
                    if not self._users:
                        self._writer = None
                        await trio.to_thread.run_sync(writer.close)

    def _opener(self, writer: Writer) -> Callable[[], Journal]:
        return lambda: Journal(self.path, writer)

    # --- telling a run what to do ------------------------------------------------------------------------------

    async def cancel(self, run: str, task: str = "", why: str = "cancelled") -> str:
        """End a run, or one task of it, durably; what is done is kept on its line. Returns the run's state then."""
        live = self.live.get(run)
        if live is None:
            if task:
                raise Problem("wrong-state", f"run {run} is not going on")
            return await self._cancel_past(run)
        if task:
            if not live.turn.is_set():
                raise Problem(
                    "wrong-state", f"run {run} is queued; cancel the whole of it, or a task once it has begun"
                )
            await live.begun()
            if live.machine is None or task not in live.machine.records:
                raise Problem("no-such-task", f"run {run} has no task {task!r}")
            assert live.runtime is not None
            assert live.journal is not None
            if live.runtime.closed:  # nothing is written of it any more
                raise Problem("wrong-state", f"run {run} is not going on")
            live.runtime.cancel(task, why)
            await live.journal.durable()
            return self._state(live) if run in self.live else (await self.entry(run)).state
        live.wish = "cancel"
        machine = live.machine
        if machine is None or all(record.state in FINAL for record in machine.records.values()):
            live.scope.cancel()  # it has not begun, or is at its checks
        else:
            assert live.runtime is not None
            live.runtime.cancel("", why)
        await live.over.wait()
        return (await self.entry(run)).state

    async def _cancel_past(self, run: str) -> str:
        entry = await self.entry(run)
        if entry.state == "running":
            raise Problem("repository-held", f"run {run} is going on in another process")
        if entry.state not in OPEN:
            return entry.state
        async with self._intake, self.writing() as writer:
            started, _ = await trio.to_thread.run_sync(recorded, self.path, run)
            state = "cancelled"
            if started:
                state = await past_runs.cancel(self.repository, run, self._opener(writer))
            submission = await trio.to_thread.run_sync(submission_of, self.path, run)
            await self._note_end(writer, run, submission, Came(state))
        return state

    async def pause(self, run: str) -> str:
        """Start nothing more of a run until it is resumed; what runs may end. Returns its state then."""
        live = self.live.get(run)
        if live is None:
            raise Problem("wrong-state", f"run {run} is {(await self.entry(run)).state}; there is nothing to pause")
        live.wish = live.wish or "pause"
        if live.machine is None:
            live.scope.cancel()
        else:
            assert live.runtime is not None
            live.runtime.drain("paused")
        await live.over.wait()
        return (await self.entry(run)).state

    async def set_budget(self, run: str, budget_usd: float | None = None, budget_tokens: int | None = None) -> None:
        """Give a run that is queued or goes on another budget, US dollars and tokens; it is on the disk when this returns. Raises
        BadInput, Problem."""
        async with self._intake:
            live = self.live.get(run)
            if live is not None and live.turn.is_set():
                await live.begun()
            if live is None or live.wish or (live.machine is not None and live.runtime and not live.runtime.goes_on):
                state = "ending" if live is not None else (await self.entry(run)).state
                raise Problem("wrong-state", f"run {run} is {state}; what is paused takes a budget when it is resumed")
            settings = live.submission.settings.within(budget_usd=budget_usd, budget_tokens=budget_tokens)
            async with self.writing() as writer, live.noting:
                if live.noted:
                    raise Problem("wrong-state", f"run {run} has ended meanwhile")
                kept = msgspec.structs.replace(live.submission, settings=settings)
                await trio.to_thread.run_sync(writer.remember, {QUEUED + run: encode(kept)})
                live.submission.settings = settings
            if live.turn.is_set():  # perhaps meanwhile, and with the budget from before
                await live.begun()
                if live.runtime is not None and live.runtime.goes_on:
                    await live.runtime.set_budget(budget_usd, budget_tokens)

    async def land(
        self, run: str, message: str = "", keep_commits: bool = False, split_by: str = ""
    ) -> tuple[str, ...]:
        """Bring a run's result onto the branch that is checked out. Raises RepositoryRefused, ChecksRed."""
        place = await trio.to_thread.run_sync(place_of, self.repository) if split_by else None
        parts = refactors.parts(split_by, place.repository, place.specialists) if place is not None else None
        async with self._changing(run) as opener:
            return await past_runs.land(
                self.repository,
                run,
                message=message,
                keep_commits=keep_commits,
                parts=parts,
                opener=opener,
            )

    async def undo(self, run: str, task: str = "", *, everything: bool = False, to: str = "") -> Rewound:
        """Take a run's last step back, or one task's change. Raises BadInput, RepositoryRefused."""
        if task and (everything or to):
            raise BadInput("task: it does not go with everything or to")
        async with self._changing(run) as opener:
            if task:
                return await take_back(self.repository, run, task, opener=opener)
            return await undo(self.repository, run, everything=everything, to=to, opener=opener)

    async def redo(self, run: str, *, everything: bool = False) -> Rewound:
        """Bring back what the last undo took. Raises BadInput, RepositoryRefused."""
        async with self._changing(run) as opener:
            return await redo(self.repository, run, everything=everything, opener=opener)

    async def checkpoint(self, run: str, name: str = "") -> tuple[str, str]:
        """Keep the line as it is now under a name: (ref, commit). Raises BadInput."""
        await self._with_line(run)
        return await trio.to_thread.run_sync(checkpoint, self.repository, run, name)

    async def checkpoints(self, run: str) -> dict[str, str]:
        """{name: commit} of a run's named checkpoints."""
        await self._with_line(run)
        return await trio.to_thread.run_sync(lambda: past_runs.load(self.repository, run).line().checkpoints())

    async def _with_line(self, run: str) -> None:
        await self.entry(run)
        if run in self.live and self.live[run].machine is None:
            raise Problem("wrong-state", f"run {run} is {self._state(self.live[run])}; it has no line yet")

    @asynccontextmanager
    async def _changing(self, run: str) -> AsyncIterator[Callable[[], Journal]]:
        """The journal's opener, for a change of a run that does not go on."""
        await self.entry(run)
        if run in self.live:
            raise Problem("wrong-state", f"run {run} is {self._state(self.live[run])}")
        async with self._landing, self.writing() as writer:
            yield self._opener(writer)

    def drain(self) -> None:
        """Start nothing more; what runs may end. What is left is taken up by the next daemon."""
        self.draining = True
        for live in list(self.live.values()):
            live.wish = live.wish or "drain"
            if live.machine is None:
                live.scope.cancel()
            else:
                assert live.runtime is not None
                live.runtime.drain("the daemon stops")

    def stop(self) -> None:
        """Drop what still runs, at once; it counts as interrupted."""
        for live in list(self.live.values()):
            live.scope.cancel()

    async def leave(self) -> None:
        """Take nothing more in, for good. Raises Problem while a run is queued or goes on."""
        async with self._intake:
            if self.live:
                runs = ", ".join(self.live)
                raise Problem(
                    "wrong-state", f"it has runs that are queued or go on: {runs}; cancel them, or wait for them"
                )
            self.left = self.draining = True
            self._again.set()

    def _refuse_when_draining(self) -> None:
        if self.left:
            raise Problem("no-such-repository", f"there is no repository {self.id!r} here")
        if self.draining:
            raise Problem("draining", "the daemon is about to stop; try again when it is back")

    # --- telling about runs ------------------------------------------------------------------------------------

    async def entry(self, run: str) -> past_runs.RunEntry:
        """A run as the journal lists it. Raises Problem."""
        found = await trio.to_thread.run_sync(past_runs.entry_of, self.repository, run)
        if found is None:
            raise Problem("no-such-run", f"there is no run {run!r} in {self.id}")
        return found

    async def entries(self) -> list[past_runs.RunEntry]:
        """All runs, oldest first; those that wait for their turn are `queued`."""
        writer, version = self._writer, self._writer.listed if self._writer is not None else 0
        if writer is None or self._listed[:2] != (writer, version):  # without one, another process may have changed it
            self._listed = (writer, version, await self._listing.get())
        listed = self._listed[2]
        return [
            attrs.evolve(one, state=self._state(self.live[one.run]), ok=False) if one.run in self.live else one
            for one in listed
        ]

    def _state(self, live: Live) -> str:
        return "running" if live.turn.is_set() else "queued"

    async def status(self, run: str) -> Status:
        """A run as it stands now. Raises Problem."""
        live = self.live.get(run)
        if live is not None:
            machine = live.machine
            report = live.runtime.report() if machine is not None and live.runtime is not None else None
            if machine is None and live.submission.mode != "run":  # it goes on soon, from where its records end
                past = await trio.to_thread.run_sync(past_runs.load, self.repository, run)
                machine, report = past.machine, past.report()
            whose = live.submission
            state, waits = self._state(live), self.queue.waits(run)
            return Status(
                run,
                state,
                live.title,
                whose.at,
                whose.client,
                report,
                machine,
                waits,
                settings=whose.settings,
                rules=whose.plan.get("plan", {}),
            )
        entry = await self.entry(run)
        return await trio.to_thread.run_sync(self._past_status, entry)

    def version(self, run: str) -> tuple[Any, ...] | None:
        """Changes whenever anything that is told of a run that goes on may have changed; None when it does not go on."""
        live = self.live.get(run)
        if live is None or live.machine is None:
            return None
        return len(live.machine.history), self._state(live)

    def _past_status(self, entry: past_runs.RunEntry) -> Status:
        with closing(Reader(self.path)) as reader:
            ended = decode_ended(reader.recall(ENDED + entry.run))
            open_ = reader.recall(QUEUED + entry.run)
            version = (entry.state, reader.length(entry.run), ended, open_)
        kept = self._kept.get(entry.run)
        if kept is not None and kept[0] == version:
            return kept[1]
        settings = Settings(budget_usd=ended.budget_usd, budget_tokens=ended.budget_tokens)
        settings = decode_submission(open_).settings if open_ is not None else settings
        status = self._replayed(entry, ended, settings)
        self._kept[entry.run] = (version, status)
        while len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        return status

    def _replayed(self, entry: past_runs.RunEntry, ended: Ended, settings: Settings) -> Status:
        try:
            past = past_runs.load(self.repository, entry.run)
        except BadInput:  # it ended before it began, or was collected
            past = None
        report, machine = (past.report(), past.machine) if past is not None else (None, None)
        ended = as_it_is(ended, entry.state, machine, report)
        return Status(
            entry.run,
            entry.state,
            entry.title,
            entry.started_at,
            ended.client,
            report,
            machine,
            error=ended.error,
            culprit=ended.culprit,
            exit=ended.exit,
            settings=settings,
        )

    def elsewhere(self, run: str) -> Elsewhere:
        """A run that another process is at: the same one for all who watch it."""
        found = self._elsewhere.get(run)
        if found is None or not found.goes_on:
            found = self._elsewhere[run] = Elsewhere(past_runs.Followed(self.repository, run))
        return found

    async def diff(self, run: str, *, stat: bool = False, task: str = "") -> bytes:
        """A run's result, or one task's commit, as a unified diff. Raises Problem."""
        status = await self.status(run)
        machine = status.machine
        if machine is None:
            return b""
        base, tip = machine.opened.base, self.repository.ref(line_ref(run))
        if task:
            if task not in machine.records:
                raise Problem("no-such-task", f"run {run} has no task {task!r}")
            tip = machine.records[task].commit
            base = self.repository.commit_parts(tip)[1][0] if tip else base
            if tip is None:
                return b""
        if tip is None:
            raise Problem("wrong-state", f"the line of run {run} is gone; it was collected")
        return await trio.to_thread.run_sync(lambda: self.repository.diff_text(base, tip, stat=stat))
