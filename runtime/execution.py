"""One run as a person starts it: signals, progress, the events file, landing, and the document and exit code at its end.

Brings the runtime, the ways and a terminal together; decides nothing about tasks. The first Ctrl-C drains, the second ends at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import msgspec
import trio

from specialists import Ways, codemod_problem, known_languages
from specialists.claude import STALL_S, Claude, credentials_problem
from specialists.command import SIZE_CAP_BYTES

from . import preparation
from .checkout import branch_to_land_on
from .checks import words_of
from .core.commands import Settled
from .core.events import Finished, Spent
from .core.plan import Problem, called
from .core.record import BACKOFF, CLAIMING, FAILED, READY, WAITING
from .core.task import Plan, Specialist, Task
from .engine import Runtime
from .errors import BadInput, BadPlan, RepositoryRefused
from .git import Repository
from .handles import Notice
from .journal import Journal
from .limits import Gate, Limits
from .progress import Progress
from .report import RunReport, TaskReport, failed_files, failures_in
from .runs import journal_path, landing_message, submitted_plan
from .telemetry import configured

if TYPE_CHECKING:
    from rich.text import Text

EXIT_OK, EXIT_BAD_INPUT, EXIT_FAILED, EXIT_RED, EXIT_PAUSED, EXIT_REFUSED = 0, 2, 3, 4, 5, 6
EXIT_BUG, EXIT_INTERRUPTED = 70, 130
_TERM_GRACE_S = 30.0
_FRAMES_A_SECOND = 8
_SHELL = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1"})
_NOT_STARTED = frozenset({WAITING, CLAIMING, READY, BACKOFF})


@attrs.frozen
class Options:
    """How a run is run and shown. `jobs` worker processes; `instances` caps every specialist, `max_instances` all together; larger
    files than `size_cap_bytes` are skipped."""

    instances: int | None = None
    max_instances: int = 20
    jobs: int | None = None
    sequential: bool = False
    land: bool = False
    keep_commits: bool = False
    parts: Callable[[str], str] | None = None
    message: str = ""
    bisect: bool = False
    drop: bool = False
    events: str = ""
    quiet: bool = False
    look_ahead: bool = False
    outside: bool = False  # when going on: nobody saw that a task ended the last process
    budget_usd: float | None = None
    budget_tokens: int | None = None
    size_cap_bytes: int = SIZE_CAP_BYTES
    # As `Config` has them
    limits: Limits = attrs.field(factory=Limits)
    stall_s: float | None = None
    pass_environment: Mapping[str, Sequence[str]] = attrs.field(factory=dict)


@attrs.frozen
class Outcome:
    """What a run came to."""

    report: RunReport
    exit_code: int
    landed: tuple[str, ...] = ()
    culprit: str | None = None
    refused: str = ""  # why it was to be landed and was not
    undecided: str = ""  # why a bisection named no task, or could not take it off
    withheld: bool = False  # it is to land together, and a part of it is missing


def capped(specialists: Sequence[Specialist], instances: int | None) -> list[Specialist]:
    """The specialists with another cap of instances."""
    if instances is None:
        return list(specialists)
    return [
        attrs.evolve(one, instances=instances, min_instances=min(one.min_instances, instances)) for one in specialists
    ]


def for_claude(plan: Plan, specialists: Sequence[Specialist]) -> list[Task]:
    """The tasks that name no way, of specialists that have no handler of their own."""
    without = {one.name for one in specialists if one.handler is None}
    return [task for task in plan.tasks if not task.way and task.specialist in without]


def checked(
    plan: Plan, specialists: Sequence[Specialist], repository: Repository, origin: str = "", *, spends: bool = True
) -> preparation.Prepared:
    """The plan, prepared; raises BadPlan with every problem, those of languages, codemods and ways included, and (when it is going to
    be run: `spends`) of a key that Claude would need."""
    named = {one.name: one for one in specialists}
    problems: list[str] = []
    prepared: preparation.Prepared | None = None
    try:
        prepared = preparation.prepare(
            plan,
            named,
            repository,
            preparation.learned(journal_path(repository)),
            languages=known_languages(),
            codemod_problem=codemod_problem(str(repository.work_tree)),
            origin=origin,
        )
    except BadPlan as error:
        problems = list(error.problems)
    problems += [problem.told(origin) for problem in lacking(plan, specialists, spends=spends)]
    if problems or prepared is None:
        raise BadPlan(problems)
    return prepared


def lacking(plan: Plan, specialists: Sequence[Specialist], *, spends: bool = True) -> Iterator[Problem]:
    """What a plan needs and is not here: programs, and (when it is going to be run: `spends`) the key that Claude would need."""
    named = {one.name: one for one in specialists}
    commands = [("checks", one) for one in plan.checks] + [("format", one) for one in plan.format]
    commands += [("setup", plan.setup)]
    for name in dict.fromkeys(task.specialist for task in plan.tasks):
        if name in named:
            commands += [(f"checks of specialist {name!r}", command) for command in named[name].checks]
    for field, command in commands:
        if not isinstance(command, str) or not command.strip() or "\0" in command:
            continue  # `core.plan` tells of it
        try:
            words = words_of(command)
            wrong = _for_a_shell(command, words) or _no_program(words)
        except BadInput as error:
            wrong = str(error)
        if wrong:
            yield Problem(field, wrong)
    for at, task in enumerate(plan.tasks):
        sound = task.exec and all(isinstance(word, str) for word in task.exec) and task.exec[0].strip("\0 ")
        wrong = _no_program(task.exec) if task.exec and sound else None
        if wrong:
            yield Problem("exec", wrong, at, called(task.id, at))
    talking = for_claude(plan, specialists) if spends else []
    problem = credentials_problem() if talking else None
    if problem is not None:
        at = plan.tasks.index(talking[0])
        text = f"it names no way (rewrite, codemod or exec), so it is for Claude, and {problem}"
        yield Problem("", text, at, called(talking[0].id, at))


def _no_program(words: Sequence[str]) -> str | None:
    if words and words[0] != "{python}" and "/" not in words[0] and shutil.which(words[0]) is None:
        return f"there is no program {words[0]!r} on the PATH"
    return None


def _for_a_shell(command: str, words: Sequence[str]) -> str | None:
    operator = next((word for word in words if word in _SHELL), None)
    if operator is None:
        return None
    return f"{command!r} runs without a shell, which would be needed for {operator!r}; write: sh -c '...'"


async def execute(
    plan: Plan | None,
    specialists: Sequence[Specialist],
    repository: Repository,
    options: Options,
    *,
    retry: str = "",
    resume: str = "",
    edits: Mapping[str, Mapping[str, Any]] | None = None,
    told: int = 0,
) -> Outcome:
    """Run a plan, or go on with (`resume`) or try again (`retry`) a run of the journal. Raises before anything starts, also what
    would refuse the landing in the end.

    The first `told` events of the journal are not told again.
    """
    if options.land:
        branch_to_land_on(repository)
    ways = Ways(
        options.jobs,
        str(repository.work_tree),
        size_cap_bytes=options.size_cap_bytes,
        look_ahead=options.look_ahead,
        claude=Claude(Gate(options.limits), stall_s=options.stall_s or STALL_S),
        pass_environment=options.pass_environment,
    )
    journal = None
    if resume and (plan := submitted_plan(repository, resume)) is not None:  # a daemon took it in, and did not begin it
        journal, resume = Journal(journal_path(repository), run=resume), ""
    crew = capped(ways.equip(specialists), options.instances)
    ceiling = max(options.max_instances, options.instances or 0)
    stop = trio.CancelScope()
    outcome: Outcome | None = None
    async with ways:
        runtime = Runtime(
            crew,
            repo=repository.work_tree,
            journal=journal,
            max_instances=ceiling,
            sequential=options.sequential,
            budget_usd=options.budget_usd,
            budget_tokens=options.budget_tokens,
            rate_s=ways.claude.least_s,
        )
        with configured(partial(print, file=sys.stderr)) as traced, stop:
            async with runtime, traced(runtime), trio.open_nursery() as nursery:
                nursery.start_soon(_obey_signals, runtime, stop)
                nursery.start_soon(_show, runtime, options, told)
                nursery.start_soon(_count_failures, runtime)
                if options.events:
                    nursery.start_soon(_record, runtime, options.events)
                if resume:
                    report = await runtime.resume(resume, edits, outside=options.outside)
                elif retry:
                    report = await runtime.retry(retry, edits)
                else:
                    assert plan is not None
                    report = await runtime.run(plan)
                outcome = await conclude(runtime, report, options)
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
    if outcome is None:  # told twice to stop, or once and the time was up
        report = runtime.report()
        return Outcome(attrs.evolve(report, state="interrupted"), EXIT_INTERRUPTED)
    return outcome


async def conclude(runtime: Runtime, report: RunReport, options: Options) -> Outcome:
    """After the run: find what turned a check red, and land, as the options have it."""
    culprit, undecided = None, ""
    if options.bisect and any(not check.ok for check in report.checks):
        culprit = await runtime.bisect(preparation.rules_back(runtime.machine.opened), drop=options.drop)
        report = runtime.report()
        if culprit is None:
            undecided = "no task turned the check red: it is red on the base already, or only by the formatting"
        elif options.drop and any(not check.ok for check in report.checks):
            undecided = "a check is red still: what turned it is on the base already, or cannot be taken off by itself"
    code = exit_code(report)
    withheld = bool(runtime.machine.opened.plan.get("together")) and code not in (EXIT_OK, EXIT_RED)
    ended = partial(Outcome, culprit=culprit, undecided=undecided, withheld=withheld)
    if not options.land or code == EXIT_INTERRUPTED:
        return ended(report, code)
    if code != EXIT_OK:
        return ended(report, code, refused="a check is red" if code == EXIT_RED else "not everything is done")
    if report.commit == report.base:
        return ended(report, code, refused="it changed nothing")
    try:
        commits = await runtime.land(
            options.message or landing_message(runtime.machine), keep_commits=options.keep_commits, parts=options.parts
        )
    except RepositoryRefused as error:
        return ended(report, EXIT_REFUSED, refused=str(error))
    return ended(runtime.report(), code, commits)


def exit_code(report: RunReport) -> int:
    """The command's exit code for a run, as the README's table has it; a file that failed in a batch that went on counts."""
    if report.state == "interrupted":
        return EXIT_INTERRUPTED
    if report.state == "paused":
        return EXIT_PAUSED
    if any(not check.ok for check in report.checks):
        return EXIT_RED
    return EXIT_OK if report.ok and not failed_files(report) else EXIT_FAILED


def _cost(spent: Spent) -> dict[str, float | int]:
    return {
        "usd": round(spent.usd, 6),
        "saved_usd": round(spent.saved_usd, 6),
        "tokens_in": spent.input + spent.cache_write,
        "tokens_cached": spent.cache_read,
        "tokens_out": spent.output,
    }


def document(report: RunReport, tasks: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A run as the JSON that scripts rely on. `tasks` are its tasks' rows, where somebody has them already."""
    return {
        "run": report.run,
        "ok": report.ok and not failed_files(report),
        "state": report.state,
        "base": report.base,
        "commit": report.commit,
        "line": report.line,
        "landed": list(report.landed),
        "makespan_s": round(report.makespan_s, 4),
        "bound_s": round(report.bound_s, 4),
        "bound_by": report.bound_by,
        "utilization": round(report.utilization, 4),
        "steals": report.steals,
        "counts": dict(report.counts),
        "dropped": list(report.dropped),
        "paused": report.paused or None,
        "cost": _cost(report.spent),
        "cost_by_specialist": {name: _cost(spent) for name, spent in report.spent_by_specialist.items()},
        "tasks": {name: task_row(task) for name, task in report.tasks.items()} if tasks is None else tasks,
        "instances": [attrs.asdict(one) for one in report.instances],
        "checks": [
            {"command": one.command, "ok": one.ok, "seconds": one.seconds, "exit": one.exit, "output": one.output}
            for one in report.checks
        ],
        "slowest_check": report.slowest_check,
    }


def task_row(task: TaskReport) -> dict[str, Any]:
    """One task of that document."""
    return {
        "state": task.state,
        "specialist": task.specialist,
        "instance": task.instance,
        "attempts": task.attempts,
        "stolen": task.stolen,
        "stolen_from": task.stolen_from or None,
        "started_s": task.started_s,
        "finished_s": task.finished_s,
        "commit": task.commit,
        "error": task.error,
        **({"cost": _cost(task.spent)} if task.spent.tokens else {}),
    }


# --- beside the run --------------------------------------------------------------------------------------------


async def _obey_signals(runtime: Runtime, stop: trio.CancelScope) -> None:
    """Ctrl-C once: start nothing more, keep what is done. Twice: now. SIGTERM is the same, with a limit on the wait."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        count = 0
        async for number in signals:
            count += 1
            if count > 1:
                stop.cancel()
                return
            if number == signal.SIGTERM:
                stop.deadline = trio.current_time() + _TERM_GRACE_S
            else:
                print("stopping: what runs may end; Ctrl-C again to stop now", file=sys.stderr)
            runtime.drain()


async def _count_failures(runtime: Runtime) -> None:
    """Hold `max_failures` against files too: those that failed in batches that went on. What runs may end."""
    failed = 0

    def take(notice: Notice) -> None:
        nonlocal failed
        limit = runtime.machine.opened.plan.get("max_failures")
        item = notice.event
        if limit is None:
            return
        before = failed
        if isinstance(item, Finished):  # before its changes are on the line: the next task may start by then
            failed += len(failures_in(item.result))
        elif isinstance(item, Settled) and item.state == FAILED:
            failed += len(failures_in(runtime.machine.records[item.task].result)) or 1
        if before < limit <= failed:
            assert isinstance(item, Finished | Settled)
            for task in [record.task.id for record in runtime.machine.records.values() if record.state in _NOT_STARTED]:
                runtime.cancel(task, f"stopped after {failed} failures, the last in `{item.task}`")

    await _follow(runtime, take)


async def _record(runtime: Runtime, where: str) -> None:
    """Every notice as one JSON line, as it happens."""
    try:
        file = open(where, "w", encoding="utf-8")  # noqa: SIM115, ASYNC230  # closed below; once, before anything runs
    except OSError as error:
        raise BadInput(f"--events {where}: {error.strerror}") from None
    with file:
        await _follow(runtime, lambda notice: _write(file, notice))


async def _follow(runtime: Runtime, take: Callable[[Notice], None]) -> None:
    """Hand over every notice as it comes, the last ones too when this is cancelled."""
    seq = 1
    try:
        while notices := await runtime.batch(seq):
            for notice in notices:
                take(notice)
            seq = notices[-1].seq + 1
    finally:
        for notice in runtime.notices(seq):
            take(notice)


def _write(file: TextIO, notice: Notice) -> None:
    file.write(msgspec.json.encode(notice.row()).decode() + "\n")
    file.flush()


async def _show(runtime: Runtime, options: Options, told: int) -> None:
    """Live lines on a terminal, plain ones elsewhere; nothing with `quiet`."""
    if options.quiet:
        return
    progress = Progress()
    if sys.stderr.isatty() or os.environ.get("FORCE_COLOR"):
        await _show_live(runtime, progress)
        return

    def tell(notice: Notice) -> None:
        nonlocal told
        if told and notice.seq > told:
            print(f"so far: {progress.say(0)}", file=sys.stderr, flush=True)
            told = 0
        words = progress.take(notice)
        if words and not told:
            print(words, file=sys.stderr, flush=True)

    await _follow(runtime, tell)


async def _show_live(runtime: Runtime, progress: Progress) -> None:
    from rich.console import Console  # only who looks at a terminal pays for it: 20 ms
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        seq = 1
        began = trio.current_time()
        while True:
            seq = _catch_up(runtime, progress, seq)
            now = runtime.now() if runtime.run_id else trio.current_time() - began
            lines = progress.render(now, console.width, runtime.doing, console.height)
            try:
                live.update(_colored(lines), refresh=True)
                await trio.sleep(1 / _FRAMES_A_SECOND)
            except trio.Cancelled:
                _catch_up(runtime, progress, seq)
                live.update(_colored(progress.render(now, console.width, {}, console.height)), refresh=True)
                raise


def _catch_up(runtime: Runtime, progress: Progress, seq: int) -> int:
    for notice in runtime.notices(seq):
        progress.take(notice)
        seq = notice.seq + 1
    return seq


def _colored(lines: Sequence[str]) -> Text:
    from rich.text import Text

    text = Text("\n".join(lines))
    for words, style in (
        (r"^journeyman .*$", "bold"),
        (r"━+", "green"),
        (r"─+", "dim"),
        (r"▶", "cyan"),
        (r"⇄|\(from [^)]*\)|\d+ stolen", "yellow"),
        (r"[1-9]\d* failed", "bold red"),
        (r"· idle", "dim"),
    ):
        text.highlight_regex(f"(?m){words}", style)
    return text


def writable(flag: str, where: str) -> None:
    """Raises BadInput when a file that a flag names could not be written, before anything starts."""
    if not where:
        return
    place = Path(where).absolute()
    if not place.parent.is_dir():
        raise BadInput(f"{flag} {where}: there is no such folder")
    if place.is_dir():
        raise BadInput(f"{flag} {where}: it is a folder, not a file")
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        raise BadInput(f"{flag} {where}: it cannot be written")
