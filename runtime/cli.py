"""The command line: verbs, flags, exit codes. Every verb takes `--repo` and `--json`.

Parses and prints; the work is in `execution`, `refactor`, `runs` and `doctor`. Documents go to standard output, everything else to
standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from specialists import known_languages
from specialists.command import SIZE_CAP_BYTES
from specialists.edits import pattern_problem, shipped_codemods
from specialists.outcome import FileOutcome

from . import foretell, looking, secrets, serving
from . import refactor as refactors
from . import runs as past_runs
from .core.record import DONE, FINAL
from .core.task import FIXPOINT, Codemod, Plan, Rewrite, Task
from .errors import BadInput, BadPlan, Bug, JourneymanError, of_the_system
from .execution import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    Options,
    Outcome,
    checked,
    document,
    execute,
    writable,
)
from .git import Repository
from .progress import because, clock, money
from .report import OPEN, RunReport, failed_files
from .terminal import Place, common, configured, edited, load, put, run_argument, say, say_landed, specialist_names
from .witness import killed_by_its_work

_FILES_TOLD = 25  # lines of the failed ones, and of the skipped ones
_ALIKE = 3  # files with one reason in common that have a line each
_EXEC_MARK = "--exec-argv"  # what `--exec ... ;` becomes before click sees it: click has no option of any length


def _starting(known: Callable[[], Sequence[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For a shell's completion: those that begin as what is typed."""
    return lambda context, parameter, begun: [name for name in known() if name.startswith(begun)]


def running(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of every verb that runs tasks."""
    for option in reversed(
        [
            click.option(
                "--instances", type=click.IntRange(1, 1000), metavar="N", help="Instances a specialist, at most."
            ),
            click.option(
                "--jobs",
                type=click.IntRange(1, 256),
                metavar="N",
                help="Worker processes or batches at once (default: one a core).",
            ),
            click.option("--sequential", is_flag=True, help="One task at a time; the result is the same."),
            click.option("--land", is_flag=True, help="Bring the result onto the branch when everything is green."),
            click.option("--keep-commits", is_flag=True, help="Land the line's commits, not one squashed commit."),
            click.option("--message", metavar="TEXT", default="", help="The landed commit's message."),
            click.option("--bisect", is_flag=True, help="When a check is red, find the task that turned it."),
            click.option("--drop", is_flag=True, help="With --bisect: take that task and its dependants off the line."),
            click.option(
                "--events",
                type=click.Path(),
                metavar="FILE",
                default="",
                help="Write every event as a JSON line, as it happens.",
            ),
            click.option(
                "--budget-usd", type=click.FloatRange(0, min_open=True), metavar="USD", help="Spend no more on models."
            ),
            click.option("--budget-tokens", type=click.IntRange(1), metavar="N", help="Buy no more tokens than this."),
            click.option("--yes", is_flag=True, help="Do not ask before money is spent."),
            click.option(
                "--report",
                "report_file",
                type=click.Path(),
                metavar="FILE",
                default="",
                help="The state of every file, a JSON line each.",
            ),
            click.option(
                "--trace",
                "trace_file",
                type=click.Path(),
                metavar="FILE",
                default="",
                help="Write a trace of the instances that ui.perfetto.dev opens.",
            ),
            click.option(
                "--size-cap", type=click.IntRange(1), default=SIZE_CAP_BYTES, metavar="BYTES", help="Skip larger files."
            ),
            click.option("--quiet", "-q", is_flag=True, help="No progress."),
        ]
    ):
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="journeyman")
def cli() -> None:
    """Gives a change that touches many files to several specialists at once, and hands back one checked commit."""


# --- running ---------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@common
@running
@click.option("--dry-run", is_flag=True, help="Show the result as a diff; land nothing.")
@click.option("--base", metavar="REV", default="", help="Start from this commit instead of the plan's.")
@click.option("--resume", is_flag=True, help="Go on with the plan's last run, if it was interrupted or paused.")
def run(plan_file: str, repo: str, as_json: bool, dry_run: bool, base: str, resume: bool, **flags: Any) -> int:
    """Run a plan file (TOML, JSON or YAML)."""
    place = Place.open(repo)
    plan = load(place, plan_file, base)
    prepared = checked(plan, place.specialists, place.repository, plan_file)
    if resume and (dry_run or base):
        raise BadInput("--resume: a run goes on as it was begun, without --dry-run or --base")
    begun = past_runs.unfinished(place.repository, prepared.tasks) if resume else ""
    if begun:
        say(f"going on with run {begun}")
        return _go_on(place, as_json, flags, resume=begun)
    _agree(place, plan, flags)
    options = _options(place, flags, dry_run, as_json)
    outcome = trio.run(execute, plan, place.specialists, place.repository, options)
    states = refactors.of_tasks(plan.tasks, outcome.report, place.repository)
    return _finish(place, outcome, states, flags, as_json, dry_run)


def _agree(place: Place, plan: Plan, flags: dict[str, Any]) -> None:
    """Ask before money is spent: on a terminal in words; elsewhere --yes or a budget is the answer. Raises BadInput."""
    foretold = foretell.cost(plan, place.specialists, place.repository, flags["budget_usd"])
    if foretold is None or flags["yes"]:
        return
    limited = (flags["budget_usd"], flags["budget_tokens"], plan.budget_usd, plan.budget_tokens)
    if not sys.stdin.isatty():
        if all(one is None for one in limited):
            raise BadInput(
                f"{foretold}; nobody can be asked here: give --yes, or a budget (--budget-usd, --budget-tokens)"
            )
        return
    say(str(foretold))
    click.confirm("go on?", abort=True, err=True)


def _options(place: Place, flags: dict[str, Any], dry_run: bool, as_json: bool, **more: Any) -> Options:
    """Raises BadInput for flags that would be of no effect."""
    for flag in ("keep_commits", "message", "split_by"):
        if flags.get(flag) and not flags["land"]:
            raise BadInput(
                f"--{flag.replace('_', '-')} is about landing: give --land too, or give it to `journeyman land`"
            )
    for flag, name in (("--events", "events"), ("--report", "report_file"), ("--trace", "trace_file")):
        writable(flag, flags[name])
    return Options(
        instances=flags["instances"],
        max_instances=place.config.max_instances,
        size_cap_bytes=flags["size_cap"],
        jobs=flags["jobs"],
        sequential=flags["sequential"],
        land=flags["land"] and not dry_run,
        keep_commits=flags["keep_commits"],
        message=flags["message"],
        bisect=flags["bisect"] or flags["drop"],
        drop=flags["drop"],
        events=flags["events"],
        budget_usd=flags["budget_usd"],
        budget_tokens=flags["budget_tokens"],
        limits=place.config.limits,
        stall_s=place.config.stall_s,
        pass_environment=place.config.pass_environment,
        quiet=flags["quiet"] or as_json,
        **more,
    )


def _finish(
    place: Place,
    outcome: Outcome,
    states: Mapping[str, FileOutcome],
    flags: Mapping[str, Any],
    as_json: bool,
    dry_run: bool = False,
    *,
    by_file: bool = False,
) -> int:
    """Print what a run came to, and what became of every file; `by_file`: its tasks are only files."""
    report = outcome.report
    report_file = flags["report_file"]
    if report_file:
        refactors.write_report(report_file, states)
    if flags["trace_file"] and report.run:
        looking.write_trace(flags["trace_file"], past_runs.load(place.repository, report.run))
    counts = refactors.totals(states)
    told = (task.result.get("more") for task in report.tasks.values() if isinstance(task.result, dict))
    more = sum(number for number in told if isinstance(number, int))
    diff = b""
    if dry_run and report.commit and report.base and report.commit != report.base:
        diff = place.repository.diff_text(report.base, report.commit, color=not as_json and sys.stdout.isatty())
    if as_json:
        value = {
            **document(report),
            "ok": outcome.exit_code == EXIT_OK,
            "files": counts,
            "another_pass_would_change": more,
            "exit": outcome.exit_code,
        }
        value |= {"culprit": outcome.culprit} if outcome.culprit else {}
        value |= {"undecided": outcome.undecided} if outcome.undecided else {}
        value |= {"refused": outcome.refused} if outcome.refused else {}
        value |= {"diff": diff.decode("utf-8", "replace")} if dry_run else {}
        put(value)
        return outcome.exit_code
    sys.stdout.flush()
    sys.stdout.buffer.write(diff)
    sys.stdout.buffer.flush()
    summary(place.repository, report, outcome, tasks=not by_file)
    if states:
        total, *rest = (f"{number} {name}" for name, number in counts.items())
        say(", ".join([total if counts["files"] != 1 else "1 file", *rest]))
    apart = failed_files(report)  # in tasks that are not told of above
    _tell_some(
        {path: one for path, one in states.items() if one.state == "failed" and (by_file or path in apart)}, flags
    )
    _tell_some({path: one for path, one in states.items() if one.state == "skipped" and by_file}, flags)
    if by_file and states and not counts["changed"] and flags["rewrite"]:
        doubt = pattern_problem(flags["rewrite"][0], flags["language"])
        if doubt:
            say(doubt)
    if more:
        say(f"another pass would change more, in at least {more} file{'s' if more > 1 else ''}; give --passes fixpoint")
    if outcome.refused:
        say(f"not landed: {outcome.refused}")
    return outcome.exit_code


def _tell_some(states: Mapping[str, FileOutcome], flags: Mapping[str, Any]) -> None:
    """A line a file, but one for all that have a reason in common."""
    alike: dict[tuple[str, str], list[str]] = {}
    for path, one in states.items():
        alike.setdefault((one.state, because(path, one.why)), []).append(path if path.isprintable() else ascii(path))
    lines = []
    for (state, why), paths in alike.items():
        if len(paths) > _ALIKE:
            lines.append((f"{state} {len(paths)} files ({', '.join(paths[:_ALIKE])}, ...): {why}", len(paths)))
        else:
            lines += [(f"{state} {path}: {why}", 1) for path in paths]
    for line, _ in lines[:_FILES_TOLD]:
        say(f"  {line}")
    left = sum(files for _, files in lines[_FILES_TOLD:])
    if left:
        where = f"see {flags['report_file']}" if flags["report_file"] else "--report FILE has all"
        say(f"  and {left} more {next(iter(states.values())).state}; {where}")


def summary(repository: Repository, report: RunReport, outcome: Outcome, *, tasks: bool = True) -> None:
    """A run for people, on standard error."""
    counts = ", ".join(f"{number} {state}" for state, number in report.counts.items())
    say(
        f"run {report.run} {report.state}: {counts} in {clock(report.makespan_s)}; {report.steals} stolen, "
        f"instances {report.utilization:.0%} busy, at least {clock(report.bound_s)} needed ({report.bound_by})"
    )
    for name, task in report.tasks.items() if tasks else ():
        if task.state != "done" and task.now in FINAL:
            say(f"  {task.state} {name}: {because(name, task.error)}")
    for check in report.checks:
        say(f"  check {'green' if check.ok else 'RED'}: {check.command} ({check.seconds:.1f} s)")
        if check.output.strip() and not check.ok:
            say("\n".join(f"    {line}" for line in check.output.strip().splitlines()[-15:]))
    if len(report.checks) > 1:
        say(f"  slowest check: {report.slowest_check}")
    if outcome.culprit:
        say(f"  turned red by: {outcome.culprit}" + (" (dropped)" if outcome.culprit in report.dropped else ""))
    others = [name for name in report.dropped if name != outcome.culprit]
    if others:
        say(f"  dropped too: {', '.join(others)}")
    if outcome.undecided:
        say(f"  {outcome.undecided}")
    if outcome.landed:
        say_landed(outcome.landed)
    elif report.commit and report.commit != report.base:
        changed = len(repository.differences(repository.tree_of(report.base or ""), repository.tree_of(report.commit)))
        say(f"{changed} file{'' if changed == 1 else 's'} changed on {report.line}")
        red = any(not check.ok for check in report.checks)
        open_tasks = any(state != "done" and number for state, number in report.counts.items())
        ended = report.state not in OPEN
        lands = not red and not outcome.withheld
        verbs = ["diff", *(["retry"] if open_tasks and ended else []), *(["land"] if lands else [])]
        if outcome.withheld:
            say("nothing of it lands before all of it is done (--together)")
        say("  " + "    ".join(f"journeyman {verb} {report.run}" for verb in verbs))
    if report.spent.tokens:
        say(f"  {money(report.spent)}")
        for name, spent in report.spent_by_specialist.items():
            say(f"    {name}: {money(spent)}")
    if report.paused:
        say(f"paused: {report.paused}")
    if report.state in OPEN and report.run:
        say(f"  go on with: journeyman resume {report.run}")


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(), metavar="PATHS...")
@click.option("--rewrite", nargs=2, metavar="PATTERN REPLACEMENT", help="A structural search and replace (ast-grep).")
@click.option(
    "--language", metavar="L", default="", help="The language of --rewrite.", shell_complete=_starting(known_languages)
)
@click.option(
    "--codemod",
    metavar="NAME",
    default="",
    help="A LibCST command, or file.py:function (path, bytes).",
    shell_complete=_starting(shipped_codemods),
)
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="An argument of the codemod.")
@click.option("--exec", "_exec", metavar="ARGV... ';'", help="A program: {file} once a file, {files} in batches.")
@click.option(_EXEC_MARK, "argv", default="", hidden=True)
@click.option("--goal", metavar="TEXT", default="", help="What to do, in words, for Claude; {file} is the file.")
@click.option(
    "--specialist",
    metavar="NAME",
    default="",
    help="Who does it (default: by each file's path).",
    shell_complete=specialist_names,
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Files a task (default: one).")
@click.option("--passes", metavar="N|fixpoint", default="1", help="How often, or until nothing changes (10 at most).")
@click.option("--containing", metavar="TEXT", default="", help="Only files with this text in them.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Not these files.")
@click.option("--ok-exit", metavar="CODES", default="0", help="Exit codes that are no failure, as 0,1.")
@click.option("--together", is_flag=True, help="All of them or none.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option("--max-failures", type=click.IntRange(1), metavar="N", help="Stop after so many failures.")
@click.option("--format", "formats", multiple=True, metavar="CMD", help="Run once over the changed files at the end.")
@click.option("--split-by", type=click.Choice(["dir", "owner", "specialist"]), help="Land several commits.")
@click.option("--ignore-dirty", is_flag=True, help="Work on the committed versions of changed files.")
@click.option("--check", "checks", multiple=True, metavar="CMD", help="Must be green on the result (repeatable).")
@click.option("--base", metavar="REV", default="HEAD", help="Start from this commit.")
@click.option("--dry-run", is_flag=True, help="Show the result as a diff; land nothing.")
@common
@running
def refactor(paths: tuple[str, ...], repo: str, as_json: bool, dry_run: bool, **flags: Any) -> int:
    """One task over many files: --rewrite, --codemod, --exec ARGV... ';' or --goal.

    PATHS are files, folders or globs relative to the repository; `**` spans folders. The argv of --exec ends with a lone
    `;` and may have {file} (one process a file) or {files} (batches) in it.
    """
    how = _how(flags)
    if flags["keep_commits"] and flags["split_by"]:
        raise BadInput("--keep-commits and --split-by: give one; both say which commits to land")
    place = Place.open(repo)
    if flags["specialist"] and flags["specialist"] not in {one.name for one in place.specialists}:
        names = ", ".join(one.name for one in place.specialists)
        raise BadInput(f"--specialist: there is no specialist {flags['specialist']!r}; there are: {names}")
    parts = refactors.parts(flags["split_by"], place.repository, place.specialists) if flags["split_by"] else None
    options = _options(place, flags, dry_run, as_json, parts=parts, look_ahead=True)
    _check_way(place, how, flags["specialist"] or place.choose(paths), flags)
    made = refactors.batch(
        place.repository,
        paths,
        how,
        place.specialists,
        specialist=flags["specialist"],
        size=flags["batch"],
        passes=_passes(flags["passes"]),
        containing=flags["containing"],
        exclude=flags["exclude"],
        always_exclude=place.config.exclude,
        ok_exit=_codes(flags["ok_exit"]),
        together=flags["together"],
        max_failures=1 if flags["fail_fast"] else flags["max_failures"],
        format=flags["formats"],
        checks=flags["checks"],
        base=flags["base"],
        ignore_dirty=flags["ignore_dirty"],
        size_cap_bytes=flags["size_cap"],
    )
    for note in made.notes:
        say(note)
    if not made.plan.tasks:
        return _nothing_to_do(made, flags["report_file"], as_json)
    plan = configured(made.plan, place.config)
    checked(plan, place.specialists, place.repository)
    _agree(place, plan, flags)
    outcome = trio.run(execute, plan, place.specialists, place.repository, options)
    states = refactors.outcomes(made, outcome.report, place.repository)
    return _finish(place, outcome, states, flags, as_json, dry_run, by_file=True)


def _check_way(place: Place, how: refactors.How, specialist: str, flags: dict[str, Any]) -> None:
    """Raises BadInput for what is wrong whatever the files are, once and not for each of them."""
    task = Task("refactor", specialist, goal=how.goal, rewrite=how.rewrite, codemod=how.codemod, exec=how.exec)
    plan = Plan([task], base=flags["base"], checks=flags["checks"], format=flags["formats"])
    try:
        checked(configured(plan, place.config), place.specialists, place.repository)
    except BadPlan as error:
        raise BadInput(problem.removeprefix("task 'refactor': ") for problem in error.problems) from None


def _nothing_to_do(made: refactors.Batch, report_file: str, as_json: bool) -> int:
    counts = refactors.totals(made.settled)
    if report_file:
        refactors.write_report(report_file, made.settled)
    if as_json:
        put(
            {
                "run": None, "ok": True, "state": "done", "commit": None, "line": None, "landed": [], "makespan_s": 0.0,
                "bound_s": 0.0, "utilization": 0.0, "steals": 0, "tasks": {}, "checks": [], "slowest_check": None,
                "files": counts, "another_pass_would_change": 0, "exit": EXIT_OK,
            }
        )  # fmt: skip
    else:
        say(f"nothing to do: none of the {counts['files']} files can match")
    return EXIT_OK


def _how(flags: dict[str, Any]) -> refactors.How:
    argv = json.loads(flags["argv"]) if flags["argv"] else None
    given = [
        name
        for name, value in (
            ("--rewrite", flags["rewrite"]),
            ("--codemod", flags["codemod"]),
            ("--exec", argv is not None),
        )
        if value
    ]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)}: give one way")
    if not given and not flags["goal"]:
        raise BadInput(
            "say how: --rewrite PATTERN REPLACEMENT --language L, --codemod NAME, --exec ARGV... ';' or --goal TEXT"
        )
    if flags["rewrite"] and not flags["rewrite"][0].strip():
        raise BadInput("--rewrite: the pattern is empty")
    if flags["rewrite"] and not flags["language"]:
        raise BadInput("--rewrite needs --language")
    if flags["rewrite"] and flags["language"] not in known_languages():
        raise BadInput(
            f"--language: there is no language {flags['language']!r}; known are: {', '.join(known_languages())}"
        )
    if flags["language"] and not flags["rewrite"]:
        raise BadInput("--language goes with --rewrite")
    if flags["arguments"] and not flags["codemod"]:
        raise BadInput("--arg goes with --codemod")
    if argv is not None and not argv:
        raise BadInput("--exec: there is no program before the `;`")
    rewrite = Rewrite(flags["rewrite"][0], flags["rewrite"][1], flags["language"]) if flags["rewrite"] else None
    codemod = Codemod(flags["codemod"], _arguments(flags["arguments"])) if flags["codemod"] else None
    return refactors.How(rewrite, codemod, tuple(argv) if argv else None, flags["goal"])


def _arguments(pairs: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or not name:
            raise BadInput(f"--arg {pair!r}: it must be NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _passes(text: str) -> int:
    if text == "fixpoint":
        return FIXPOINT
    if not text.isdigit() or not 1 <= int(text) <= 10:
        raise BadInput(f"--passes: {text!r} is not a number from 1 to 10, or `fixpoint`")
    return int(text)


def _codes(text: str) -> tuple[int, ...]:
    try:
        codes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--ok-exit: {text!r} is not a list of exit codes, as 0,1") from None
    if not all(0 <= code <= 255 for code in codes):
        raise BadInput(f"--ok-exit: {text!r}: exit codes are from 0 to 255")
    return codes


def _go_on(place: Place, as_json: bool, flags: dict[str, Any], **which: Any) -> int:
    run = which.get("resume") or which.get("retry") or ""
    if "resume" in which and past_runs.submitted_plan(place.repository, run) is not None:  # a daemon did not get to it
        past = None
        states: set[str] = set()
    else:
        past = past_runs.load(place.repository, run)
        states = {record.state for record in past.machine.records.values()}
    if "retry" in which and past is not None and past.entry.state != "running":
        if states - FINAL:
            raise BadInput(f"run {run} has not ended; go on with it first: journeyman resume {run}")
        if states <= {DONE}:
            raise BadInput(f"run {run}: every task is done, there is nothing to try again")
    if which.get("edits") and past is None:
        raise BadInput(f"--edit: run {run} has not begun; edit its plan")
    if "edits" in which and past is not None:
        tasks = {name: record.task for name, record in past.machine.records.items()}
        which["edits"] = edited(place, tasks, which["edits"])
    options = _options(place, flags, False, as_json)
    if "resume" in which:
        seen = (
            past is not None
            and past.entry.state != "running"
            and bool(past.machine.suspects())
            and killed_by_its_work()
        )
        options = attrs.evolve(options, outside=not seen)

    async def go() -> Outcome:
        told = len(past.machine.history) if past is not None else 0
        return await execute(None, place.specialists, place.repository, options, told=told, **which)

    outcome = trio.run(go)
    after = [record.task for record in past_runs.load(place.repository, run).machine.records.values()]
    return _finish(place, outcome, refactors.of_tasks(after, outcome.report, place.repository), flags, as_json)


@cli.command()
@run_argument
@common
@running
@click.option(
    "--edit", "edits", multiple=True, metavar="TASK.FIELD=VALUE", help="Another budget_usd or budget_tokens for a task."
)
def resume(run_name: str, repo: str, as_json: bool, edits: tuple[str, ...], **flags: Any) -> int:
    """Go on with a run that was interrupted or paused. A spent budget needs a larger one."""
    return _go_on(Place.open(repo), as_json, flags, resume=run_name, edits=_edits(edits, _BUDGETS))


@cli.command()
@run_argument
@common
@running
@click.option("--edit", "edits", multiple=True, metavar="TASK.FIELD=VALUE", help="Change a task's input first.")
def retry(run_name: str, repo: str, as_json: bool, edits: tuple[str, ...], **flags: Any) -> int:
    """Try again what failed in a run, and what was skipped for it."""
    return _go_on(Place.open(repo), as_json, flags, retry=run_name, edits=_edits(edits, _EDITABLE))


_TEXTS = ("goal", "containing")
_BUDGETS = ("budget_usd", "budget_tokens")
_EDITABLE = (
    *_TEXTS,
    *_BUDGETS,
    "payload",
    "estimate_s",
    "timeout_s",
    "attempts",
    "passes",
    "ok_exit",
    "rewrite",
    "codemod",
    "exec",
)


def _edits(pairs: Sequence[str], editable: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        place, mark, value = pair.partition("=")
        task, dot, field = place.rpartition(".")
        if not mark or not dot or field not in editable:
            raise BadInput(f"--edit {pair!r}: it must be TASK.FIELD=VALUE, with FIELD one of {', '.join(editable)}")
        found.setdefault(task, {})[field] = value if field in _TEXTS else _arguments([f"{field}={value}"])[field]
    return found


@cli.command()
@common
@running
@click.option("--keep", metavar="DIR", default="", help="Make the example here and keep it.")
@click.option("--claude", is_flag=True, help="Let Claude do thirty of the tasks, told in words; needs a key.")
def demo(repo: str, as_json: bool, keep: str, claude: bool, **flags: Any) -> int:
    """The main job on a shipped example, offline: three specialists migrate a small shop."""
    name = "claude.toml" if claude else "plan.toml"
    folder = Path(keep) if keep else Path(tempfile.mkdtemp(prefix="journeyman-demo-")) / "shop"
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"--keep {keep}: the folder is not empty")
    _make_shop(folder)
    if not as_json:
        say(f"the shop is in {folder}; its plan is {name}\n")
    place = Place.open(str(folder))
    plan = load(place, folder / name)
    checked(plan, place.specialists, place.repository, name)
    _agree(place, plan, flags)
    options = _options(place, {**flags, "land": True}, False, as_json)
    outcome = trio.run(execute, plan, place.specialists, place.repository, options)
    states = refactors.of_tasks(plan.tasks, outcome.report, place.repository)
    code = _finish(place, outcome, states, flags, as_json)
    if not as_json:
        say(f"\nlook at it: git -C {folder} show --stat")
    return code


def _make_shop(folder: Path) -> None:
    source = Path(__file__).parent.parent / "examples" / "shop"
    if not source.is_dir():
        source = Path(str(package_files("specialists"))) / "_examples" / "shop"
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    environment = {**os.environ, "GIT_AUTHOR_NAME": "Demo", "GIT_AUTHOR_EMAIL": "demo@localhost"}
    environment |= {"GIT_COMMITTER_NAME": "Demo", "GIT_COMMITTER_EMAIL": "demo@localhost"}
    environment = {
        name: value for name, value in environment.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "The shop before the migration"]):
        subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(shell: str, repo: str, as_json: bool) -> int:
    """The shell's completion script: source <(journeyman completion bash)"""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "journeyman", "_JOURNEYMAN_COMPLETE").source()
    if as_json:
        put({"shell": shell, "script": script})
    else:
        click.echo(script)
    return EXIT_OK


for command in (looking.plan, looking.runs, looking.show, looking.diff, looking.land, looking.cancel):
    cli.add_command(command)
for command in (looking.checkpoint, looking.undo, looking.redo, looking.gc, looking.doctor):
    cli.add_command(command)
for command in (serving.serve, serving.submit, serving.watch, serving.mcp):
    cli.add_command(command)


# --- the program -----------------------------------------------------------------------------------------------


def take_exec(words: Sequence[str]) -> list[str]:
    """`--exec ARGV... ;` as one option that click understands. Raises BadInput without the `;`."""
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word != "--exec":
            found.append(word)
            if word == "--":
                return found + rest
            continue
        if ";" not in rest:
            raise BadInput("--exec: its argv must end with a lone ';' (quoted, as find's)")
        at = rest.index(";")
        found += [_EXEC_MARK, json.dumps(rest[:at])]
        rest = rest[at + 1 :]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    secrets.hide()
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        words = take_exec(words)
        as_json = "--json" in words  # it may have been a word of --exec's
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without these characters gets others
        code = cli.main(words, prog_name="journeyman", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else EXIT_OK)
    except SystemExit as ended:  # of click's, with 1 when nobody reads any more: `journeyman show r1 | head`
        sys.exit(EXIT_OK if ended.code == 1 else ended.code)
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        sys.exit(EXIT_BAD_INPUT)
    except click.ClickException as error:
        _fail(error.format_message(), EXIT_BAD_INPUT, as_json, [error.format_message()])
    except BaseExceptionGroup as group:
        _fail_with(_only(group), as_json)
    except Exception as error:
        _fail_with(error, as_json)


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a nursery's group: a person's fault rather than what followed from it."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        one = stack.pop()
        if isinstance(one, BaseExceptionGroup):
            stack.extend(one.exceptions)
        else:
            leaves.append(one)
    named = [one for one in leaves if isinstance(one, JourneymanError) and not isinstance(one, Bug)]
    if any(isinstance(one, KeyboardInterrupt) for one in leaves):
        sys.exit(EXIT_INTERRUPTED)
    return named[0] if named else leaves[0]


def _fail_with(error: BaseException, as_json: bool) -> None:
    if isinstance(error, JourneymanError) and not isinstance(error, Bug):
        problems = list(error.problems) if isinstance(error, BadInput) else [str(error)]
        _fail(str(error), error.exit_code, as_json, problems)
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        sys.exit(EXIT_OK)
    told = of_the_system(error) if isinstance(error, OSError) else None
    if told is not None:
        _fail(str(told), told.exit_code, as_json, [str(told)])
    words = f"this is a bug of Journeyman's, not yours: {type(error).__name__}: {error}"
    story = "".join(traceback.format_exception(error)) if os.environ.get("JOURNEYMAN_DEBUG") else ""
    _fail(f"{words}\n{story}".rstrip(), EXIT_BUG, as_json, [words])


def _fail(message: str, code: int, as_json: bool, problems: Sequence[str]) -> None:
    if as_json:
        put({"ok": False, "exit": code, "error": {"message": message, "problems": list(problems)}})
    for line in message.splitlines():
        say(f"journeyman: {line}")
    sys.exit(code)
