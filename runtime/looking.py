"""The verbs that look at runs and at the machine, and those that come after a run: land, cancel, checkpoint, gc.

None of them runs a task. The commands are put into the program by `cli`.
"""

from __future__ import annotations

import datetime
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec
import trio

from . import doctor as doctors
from . import refactor as refactors
from . import rewind, trace, transcript
from . import runs as past_runs
from .core.task import Task
from .errors import BadInput, JourneymanError, RunHeld
from .execution import EXIT_BAD_INPUT, EXIT_OK, EXIT_RED, document
from .git import Repository
from .outlook import Outlook, outlook
from .progress import because, clock, money
from .rehearsal import rehearse
from .report import RunReport
from .serving import Spoken, socketed
from .terminal import Place, common, load, put, run_argument, say, say_landed

_BASIS = {"plan": "from the plan", "learned": "learned from earlier runs", "guess": "guessed"}


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@common
@click.option("--simulate", is_flag=True, help="Also play it in virtual time: how many instances are enough.")
@click.option(
    "--seeds", type=click.IntRange(min=1), metavar="N", help="How often --simulate plays each (default: up to 50)."
)
def plan(plan_file: str, repo: str, as_json: bool, simulate: bool, seeds: int | None) -> int:
    """What a plan will do: levels, claims, conflicts and their order, predicted time, and whether it pays."""
    if seeds is not None and not simulate:
        raise BadInput("--seeds says how often to play the plan: it goes with --simulate")
    place = Place.open(repo)
    loaded = load(place, plan_file, spends=False)
    ahead = outlook(loaded, place, plan_file)
    played = rehearse(ahead, place.specialists, place.config.max_instances, seeds) if simulate else None
    if as_json:
        put({**ahead.document(), **({"simulation": played.document()} if played is not None else {})})
        return EXIT_OK
    _tell_outlook(ahead, plan_file)
    if played is not None:
        click.echo("")
        for line in played.lines():
            click.echo(line)
    return EXIT_OK


def _tell_outlook(ahead: Outlook, plan_file: str) -> None:
    loaded, prepared, rows, foretold, cost = ahead.plan, ahead.prepared, ahead.levels, ahead.foretold, ahead.cost
    click.echo(f"{loaded.name or plan_file}: {len(loaded.tasks)} tasks on {prepared.base[:12]}\n")
    by_id = {task.id: task for task in loaded.tasks}
    for number, row in enumerate(rows):
        click.echo(f"level {number}")
        for name in row:
            task = by_id[name]
            after = f"  after {', '.join(task.after)}" if task.after else ""
            click.echo(f"  {name}  [{task.specialist}]  {_claims(task)}{after}")
    if prepared.orders:
        click.echo("\nconflicts, put in order")
        for one in prepared.orders:
            click.echo(f"  {one.reason}")
    crew = ", ".join(f"{name} {count}" for name, count in foretold.instances.items())
    click.echo(f"\ninstances: {crew}")
    click.echo(
        f"predicted: {clock(foretold.makespan_s)} (one after the other {clock(foretold.sequential_s)}), "
        + (str(cost) if cost is not None else "cost 0 USD")
    )
    basis = ((count, _BASIS[name]) for name, count in ahead.basis.items() if count)
    click.echo(f"lengths: {', '.join(f'{count} {words}' for count, words in basis)}")
    click.echo(f"{'it pays' if foretold.pays else 'parallel will not pay'}: {foretold.why}")


def _claims(task: Task) -> str:
    wants = [("writes", task.writes), ("reads", task.reads)]
    return ", ".join(f"{verb} {', '.join(paths)}" for verb, paths in wants if paths) or "claims nothing"


@click.command()
@common
@socketed
def runs(repo: str, as_json: bool, socket_path: str) -> int:
    """The runs of this repository, oldest first."""
    repository = Repository.open(repo)
    listed = [one for one in past_runs.entries(repository) if one.state != "collected"]  # of those nothing is left
    spoken = Spoken.find(repository, socket_path=socket_path)
    waiting = spoken.waiting() if spoken is not None else {}
    if as_json:
        put(
            [
                {
                    **attrs.asdict(one),
                    **({"state": "running", "queued": waiting[one.run]} if one.run in waiting else {}),
                }
                for one in listed
            ]
        )
        return EXIT_OK
    if not listed:
        say("no runs yet")
    for one in listed:
        when = datetime.datetime.fromtimestamp(one.started_at).strftime("%Y-%m-%d %H:%M")
        state = "queued" if one.run in waiting else one.state
        why = f"  ({waiting[one.run]})" if one.run in waiting else ""
        click.echo(f"{one.run:<6} {state:<12} {when}  {one.title}{why}")
    return EXIT_OK


@click.command()
@run_argument
@click.argument("task", required=False)
@common
@socketed
@click.option("--trace", "trace_file", metavar="FILE", default="", help="Write a trace that ui.perfetto.dev opens.")
def show(run_name: str, task: str | None, repo: str, as_json: bool, socket_path: str, trace_file: str) -> int:
    """A run's tasks and the timeline of its instances; with TASK, everything that happened to it."""
    repository = Repository.open(repo)
    spoken = Spoken.find(repository, socket_path=socket_path)
    waiting = spoken.waiting() if spoken is not None else {}
    if spoken is not None and run_name in waiting:
        if as_json:
            put({**spoken.status(run_name), "state": "running"})
        else:
            click.echo(f"run {run_name}  queued: {waiting[run_name]}")
        return EXIT_OK
    past = past_runs.load(repository, run_name)
    if trace_file:
        write_trace(trace_file, past)
    report = past.report()
    if task is not None:
        return _show_task(past, report, task, as_json)
    if as_json:
        put({**document(report), "state": past.entry.state})
        return EXIT_OK
    click.echo(f"run {run_name}  {past.entry.state}  {past.entry.title}")
    for name, one in report.tasks.items():
        took = clock(one.finished_s - one.started_s) if one.finished_s is not None and one.started_s is not None else ""
        stolen = f"  stolen from {one.stolen_from}" if one.stolen else ""
        why = f"  {because(name, one.error)}" if one.error and one.state != "done" else ""
        cost = f"  {money(one.spent)}" if one.spent.tokens else ""
        click.echo(f"  {one.now:<10}{took:>7}  {name}  {one.instance or ''}{stolen}{cost}{why}")
    click.echo("")
    for line in trace.timeline(past.machine, shutil.get_terminal_size((100, 24)).columns):
        click.echo(line)
    return EXIT_OK


def _show_task(past: past_runs.Past, report: RunReport, task: str, as_json: bool) -> int:
    if task not in report.tasks:
        raise BadInput(f"run {past.entry.run} has no task {task!r}")
    story = [{"at_s": at, **msgspec.to_builtins(item)} for at, item in past.machine.story(task)]
    if as_json:
        row = {**document(report)["tasks"][task], "id": task, "result": report.tasks[task].result, "story": story}
        put({**row, "conversation": transcript.turns(past.repository, past.entry.run, task)})
        return EXIT_OK
    for item in story:
        at = item.pop("at_s")
        kind = item.pop("type")
        item.pop("task", None)
        item.pop("tasks", None)
        if isinstance(item.get("changeset"), dict):
            item["changeset"] = ", ".join(change["path"] for change in item["changeset"].get("changes", ()))
        told = "  ".join(f"{name}={value}" for name, value in item.items())
        click.echo(f"{at:9.3f}  {kind:<12} {told}"[:400])
    for words in transcript.lines(past.repository, past.entry.run, task):
        click.echo(words)
    return EXIT_OK


def write_trace(where: str, past: past_runs.Past) -> None:
    """The run's instances over time, as Perfetto opens it. Raises BadInput when it cannot be written."""
    try:
        Path(where).write_bytes(trace.perfetto(past.machine))
    except OSError as error:
        raise BadInput(f"--trace {where}: {error.strerror}") from None


@click.command()
@run_argument
@common
@click.option("--stat", is_flag=True, help="Only the files and how much changed.")
def diff(run_name: str, repo: str, as_json: bool, stat: bool) -> int:
    """A run's whole result as one diff."""
    past = past_runs.load(Repository.open(repo), run_name)
    raw = past.line().diff(color=not as_json and sys.stdout.isatty(), stat=stat)
    if as_json:
        put({"run": run_name, "diff": raw.decode("utf-8", "replace")})
    else:
        sys.stdout.buffer.write(raw)
    return EXIT_OK


# --- afterwards ------------------------------------------------------------------------------------------------


@click.command()
@run_argument
@common
@click.option("--keep-commits", is_flag=True, help="Land the line's commits, not one squashed commit.")
@click.option("--split-by", type=click.Choice(["dir", "owner", "specialist"]), help="Several commits.")
@click.option("--message", metavar="TEXT", default="", help="The commit's message.")
@socketed
def land(
    run_name: str, repo: str, as_json: bool, socket_path: str, keep_commits: bool, split_by: str | None, message: str
) -> int:
    """Bring a run's result onto the branch that is checked out."""
    place = Place.open(repo)
    spoken = Spoken.find(place.repository, socket_path=socket_path)
    if spoken is not None:
        how = {"message": message, "keep_commits": keep_commits, "split_by": split_by or ""}
        return _tell_landed(run_name, spoken.post(run_name, "land", how)["landed"], as_json)
    parts = refactors.parts(split_by, place.repository, place.specialists) if split_by else None

    async def go() -> tuple[str, ...]:
        return await past_runs.land(place.repository, run_name, message=message, keep_commits=keep_commits, parts=parts)

    return _tell_landed(run_name, trio.run(go), as_json)


def _tell_landed(run_name: str, commits: Sequence[str], as_json: bool) -> int:
    if as_json:
        put({"run": run_name, "ok": True, "commit": commits[-1], "landed": list(commits)})
    else:
        say_landed(commits)
    return EXIT_OK


@click.command()
@run_argument
@common
@socketed
def cancel(run_name: str, repo: str, as_json: bool, socket_path: str) -> int:
    """End a run, running or interrupted; what is done is kept on its line."""
    repository = Repository.open(repo)
    spoken = Spoken.find(repository, socket_path=socket_path)
    try:
        state = spoken.post(run_name, "cancel")["state"] if spoken is not None else ""
    except RunHeld:  # it goes on in a process of its own, which the daemon leaves alone
        state = ""
    state = state or trio.run(past_runs.cancel, repository, run_name)
    if as_json:
        put({"run": run_name, "state": state})
    else:
        say(f"run {run_name} is {state}")
    return EXIT_OK


@click.command()
@run_argument
@common
@click.option("--name", default="", help="What to call it (default: the number of commits).")
def checkpoint(run_name: str, repo: str, as_json: bool, name: str) -> int:
    """Keep the line as it is now, to undo to it: every task's commit is a checkpoint, this one has a name."""
    ref, commit = rewind.checkpoint(Repository.open(repo), run_name, name)
    if as_json:
        put({"run": run_name, "ref": ref, "commit": commit})
    else:
        say(f"{ref} is {commit}")
    return EXIT_OK


@click.command()
@run_argument
@click.argument("task", required=False)
@common
@click.option("--all", "everything", is_flag=True, help="Everything, back to where the run began.")
@click.option(
    "--to", metavar="CHECKPOINT", default="", help="Back to a checkpoint's name, a task's commit, or a commit."
)
@socketed
def undo(run_name: str, task: str | None, repo: str, as_json: bool, socket_path: str, everything: bool, to: str) -> int:
    """Take a run's last step back; with TASK, only that task's change and what was built on it.

    A run that has landed is taken off the branch first, by a reverting commit. `redo` brings back what `undo` took.
    """
    if task is not None and (everything or to):
        raise BadInput("TASK does not go with --all or --to")
    repository = Repository.open(repo)
    spoken = Spoken.find(repository, socket_path=socket_path)
    if spoken is not None:
        how = {"task": task or "", "everything": everything, "to": to}
        return _told_rewound(_rewound(spoken.post(run_name, "undo", how)), as_json)
    if task is not None:
        return _told_rewound(trio.run(rewind.take_back, repository, run_name, task), as_json)
    return _told_rewound(trio.run(partial(rewind.undo, repository, run_name, everything=everything, to=to)), as_json)


@click.command()
@run_argument
@common
@socketed
@click.option("--all", "everything", is_flag=True, help="Everything that was undone.")
def redo(run_name: str, repo: str, as_json: bool, socket_path: str, everything: bool) -> int:
    """Bring back what the last undo took."""
    repository = Repository.open(repo)
    spoken = Spoken.find(repository, socket_path=socket_path)
    if spoken is not None:
        return _told_rewound(_rewound(spoken.post(run_name, "redo", {"everything": everything})), as_json)
    return _told_rewound(trio.run(partial(rewind.redo, repository, run_name, everything=everything)), as_json)


def _rewound(told: Any) -> rewind.Rewound:
    """What a daemon told of an undo or a redo."""
    return msgspec.convert({name: value for name, value in told.items() if name != "ok"}, rewind.Rewound)


def _told_rewound(made: rewind.Rewound, as_json: bool) -> int:
    if as_json:
        put({**attrs.asdict(made), "ok": not made.red})
    else:
        for what, names in (("taken back", made.off), ("brought again", made.on), ("check RED", made.red)):
            for name in names:
                say(f"{what}: {name}")
        for commit in made.landed:
            say(f"on the branch as {commit}")
        say(f"run {made.run} is {made.state}, its line at {made.commit}")
    return EXIT_RED if made.red else EXIT_OK


@click.command()
@common
@click.option("--all", "everything", is_flag=True, help="Also runs that have not landed.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(repo: str, as_json: bool, everything: bool, dry_run: bool) -> int:
    """Remove idle worktrees, and what runs that have landed left behind."""
    gone = past_runs.gc(Repository.open(repo), everything=everything, dry_run=dry_run)
    if as_json:
        put(attrs.asdict(gone))
        return EXIT_OK
    for what, names in (("worktree", gone.worktrees), ("ref", gone.refs), ("run", gone.runs)):
        for name in names:
            say(f"{'would remove' if dry_run else 'removed'} {what} {name}")
    if not (gone.worktrees or gone.refs or gone.runs):
        say("nothing to remove")
    return EXIT_OK


def _configuration(repo: str) -> list[doctors.Finding]:
    """Whether the configuration and the specialists it names can be used; nothing where there is no repository."""
    try:
        Repository.open(repo)
    except JourneymanError:  # told as a finding of its own
        return []
    try:
        place = Place.open(repo)
    except BadInput as error:
        return [doctors.Finding("configuration", False, one) for one in error.problems]
    names = ", ".join(one.name for one in place.specialists)
    return [doctors.Finding("configuration", True, f"{place.config.source or 'none'}; specialists: {names}")]


@click.command()
@common
def doctor(repo: str, as_json: bool) -> int:
    """What is missing here, and how many instances suit this machine."""
    findings = [*doctors.examine(Path(repo)), *_configuration(repo)]
    advice = doctors.advise()
    ok = all(one.ok for one in findings)
    if as_json:
        put({"ok": ok, "findings": [attrs.asdict(one) for one in findings], "advice": attrs.asdict(advice)})
    else:
        for one in findings:
            click.echo(f"{'ok ' if one.ok else 'NOT'}  {one.what:<12} {one.says}")
        click.echo(
            f"\ninstances: {advice.commands} for commands and codemods, {advice.models} for models ({advice.why})"
        )
    return EXIT_OK if ok else EXIT_BAD_INPUT
