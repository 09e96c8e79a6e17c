"""A batch refactor: one specialist's task over many files, one task a file or a batch, and what became of every file.

Builds a plan from paths and tells the outcome; running it is `execution`'s. Every file of the input ends in exactly one state.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from specialists import by_path
from specialists.command import SIZE_CAP_BYTES
from specialists.edits import needles
from specialists.outcome import FileOutcome, State, told_files
from specialists.ways import prefilter

from . import claims
from .core.changes import MODE_LINK, MODE_SUBMODULE
from .core.record import FINAL
from .core.task import Codemod, Plan, Rewrite, Specialist, Task
from .errors import BadInput, RepositoryRefused
from .git import Repository
from .report import RunReport

# Which state counts of a file of several tasks
_WEIGHT: Final = {"unchanged": 0, "skipped": 1, "changed": 2, "failed": 3}
_AUTO_BATCH_FILES: Final = 200  # the most files of a task whose program takes many at once


@attrs.frozen
class How:
    """The way, at most one of them; `goal` alone means the specialist's own."""

    rewrite: Rewrite | None = None
    codemod: Codemod | None = None
    exec: tuple[str, ...] | None = None
    goal: str = ""

    @property
    def words(self) -> str:
        """What it does, for messages."""
        if self.goal.strip():
            return self.goal.strip().splitlines()[0]
        if self.rewrite is not None:
            return f"Rewrite {self.rewrite.pattern} to {self.rewrite.replace}"
        if self.codemod is not None:
            return f"Apply {self.codemod.name}"
        return f"Run {' '.join(self.exec or ())}"


@attrs.frozen
class Batch:
    """A refactor, ready to run: its plan, and the files that need no task because they cannot match."""

    plan: Plan
    files: tuple[str, ...]
    settled: Mapping[str, FileOutcome]
    notes: tuple[str, ...] = ()


def select(repository: Repository, base: str, paths: Sequence[str], exclude: Sequence[str] = ()) -> tuple[str, ...]:
    """The tracked files of a commit that the paths and globs match, without the excluded ones, sorted. Raises BadInput naming
    every path that matches nothing."""
    files = repository.files(repository.tree_of(base))
    problems = []
    found: set[str] = set()
    for path in paths:
        wanted = path.removeprefix("./")
        if wanted in (".", ""):
            wanted = "**"
        problem = None if wanted == "**" else claims.problem_with(wanted)
        if problem:
            problems.append(f"path {path!r}: {problem}")
            continue
        matched = claims.expand([wanted], files) or claims.expand([f"{wanted}/"], files)
        if not matched:
            where = f"; paths are relative to {repository.work_tree}"
            problems.append(f"path {path!r}: it matches no tracked file of {base[:12]}{where}")
        found.update(matched)
    if not paths:
        problems.append("there are no PATHS; name files, folders or globs, for example 'src/**/*.py'")
    if problems:
        raise BadInput(dict.fromkeys(problems))
    chosen = tuple(sorted(path for path in found if not claims.covers(exclude, path)))
    if not chosen:
        raise BadInput(f"every file that the paths match is excluded by {', '.join(exclude)}")
    return chosen


def batch(
    repository: Repository,
    paths: Sequence[str],
    how: How,
    specialists: Sequence[Specialist],
    *,
    specialist: str = "",
    size: int | None = None,
    passes: int = 1,
    containing: str = "",
    exclude: Sequence[str] = (),
    always_exclude: Sequence[str] = (),
    ok_exit: Sequence[int] = (0,),
    together: bool = False,
    max_failures: int | None = None,
    format: Sequence[str] = (),  # the word of the flag
    checks: Sequence[str] = (),
    base: str = "HEAD",
    ignore_dirty: bool = False,
    size_cap_bytes: int = SIZE_CAP_BYTES,
) -> Batch:
    """The plan of a refactor. `size` is files a task (None: one, or for a program that takes `{files}` as many as suit).

    Raises BadInput for paths that match nothing, RepositoryRefused when a target has uncommitted changes (`ignore_dirty`
    takes the committed version instead and notes it).
    """
    commit = repository.resolve(base)
    files = select(repository, commit, paths, (*exclude, *always_exclude))
    notes = _dirty(repository, files, ignore_dirty)
    tracked = repository.files(repository.tree_of(commit))
    notes += [f"exclude {glob!r}: it matches no file" for glob in exclude if not claims.expand([glob], tracked)]
    wanted = needles(how.rewrite.pattern) if how.rewrite is not None else ()
    if containing:
        wanted = (*wanted, containing.encode())
    settled: dict[str, FileOutcome] = {}
    work = []
    in_memory = how.rewrite is not None or how.codemod is not None
    for path in files:
        verdict = _without_task(repository, commit, path, wanted, size_cap_bytes, in_memory)
        if verdict is None:
            work.append(path)
        else:
            settled[path] = verdict
    groups: dict[str, list[str]] = {}
    for path in work:
        groups.setdefault(specialist or by_path(path, specialists), []).append(path)
    tasks: list[Task] = []
    for name, mine in groups.items():
        share = size or _share(how, len(mine))
        for at in range(0, len(mine), share):
            chunk = mine[at : at + share]
            tasks.append(
                Task(
                    _task_id(name, chunk, len(tasks) + 1),
                    name,
                    goal=_goal(how.goal, chunk),
                    writes=tuple(chunk),
                    rewrite=how.rewrite,
                    codemod=how.codemod,
                    exec=how.exec,
                    containing=containing,
                    passes=passes,
                    ok_exit=tuple(ok_exit),
                )
            )
    plan = Plan(
        tasks,
        name=how.words,
        base=commit,
        checks=checks,
        together=together,
        max_failures=max_failures,
        format=format,
    )
    return Batch(plan, files, settled, tuple(notes))


def _goal(words: str, files: Sequence[str]) -> str:
    """The goal of one task: `{file}` and `{files}` are its files; without them a single file is named at the end."""
    named = words.replace("{files}", ", ".join(files)).replace("{file}", ", ".join(files))
    if not words or named != words or len(files) > 1:
        return named
    return (
        f"{words.rstrip().removesuffix('.')} in {files[0]}" if "\n" not in words.strip() else f"{words}\n\n{files[0]}"
    )


def _dirty(repository: Repository, files: Sequence[str], ignore: bool) -> list[str]:
    dirty = sorted(repository.dirty() & set(files))
    if not dirty:
        return []
    listed = ", ".join(dirty[:10]) + (f" and {len(dirty) - 10} more" if len(dirty) > 10 else "")
    if not ignore:
        raise RepositoryRefused(
            f"these targets have uncommitted changes: {listed}; commit or stash them, "
            "or give --ignore-dirty to work on the committed versions"
        )
    return [f"the committed versions are used of: {listed}"]


def _without_task(
    repository: Repository, commit: str, path: str, wanted: Sequence[bytes], cap: int, in_memory: bool
) -> FileOutcome | None:
    problem = claims.problem_with(path)
    if problem:
        return FileOutcome("skipped", f"a task cannot claim its name: {problem}")
    entry = repository.lookup(repository.tree_of(commit), path)
    assert entry is not None
    if entry[0] in (MODE_LINK, MODE_SUBMODULE):
        return FileOutcome("skipped", "a symbolic link or a submodule")
    if not in_memory and not wanted:
        return None
    return prefilter(path, repository.read_blob(entry[1]), wanted, cap)


def _share(how: How, files: int) -> int:
    """How many files a task has. With `{files}` a task's batches use all cores by themselves: as few tasks as may be, of one size."""
    if how.exec is not None and "{files}" in how.exec:
        return max(1, -(-files // -(-files // _AUTO_BATCH_FILES)))
    if how.exec is not None and not any("{file}" in word for word in how.exec):
        return max(1, files)
    return 1


def _task_id(specialist: str, files: Sequence[str], number: int) -> str:
    if len(files) == 1 and files[0].isprintable() and len(files[0]) <= 150 and files[0] == files[0].strip():
        return files[0]
    return f"{specialist}-{number}"


# --- what became of the files ----------------------------------------------------------------------------------


def outcomes(made: Batch, report: RunReport, repository: Repository) -> dict[str, FileOutcome]:
    """The one state of every input file."""
    found = {**made.settled, **of_tasks(made.plan.tasks, report, repository, frozenset(made.files))}
    return {path: found[path] for path in made.files}


def of_tasks(
    tasks: Iterable[Task], report: RunReport, repository: Repository, names: Collection[str] = ()
) -> dict[str, FileOutcome]:
    """The state of every file that the tasks write by name, tell of, or have a commit for. `names` are names even if they look like
    patterns."""
    found: dict[str, FileOutcome] = {}
    for task in tasks:
        ended = report.tasks.get(task.id)
        if ended is None:  # the run was stopped before it began
            found.update(
                dict.fromkeys((one for one in task.writes if one in names), FileOutcome("skipped", "not begun"))
            )
            continue
        told = told_files(ended.result)
        if ended.state == "done" and ended.commit is not None and not told:  # a handler that does not tell
            told = dict.fromkeys(_changed_by(repository, ended.commit), FileOutcome("changed"))
        mine = [one for one in task.writes if one in names or not (one.endswith("/") or claims.is_glob(one))]
        for path in dict.fromkeys((*mine, *told)):
            if ended.state == "done" or path in told:
                outcome = told.get(path, FileOutcome("unchanged"))
            else:
                state: State = "failed" if ended.state == "failed" else "skipped"
                waits = report.state == "paused" and ended.now not in FINAL
                outcome = FileOutcome(state, "the run is paused" if waits else ended.error or ended.state)
            if outcome.state == "changed" and ended.state != "done":
                outcome = FileOutcome("failed", ended.error or ended.state)
            if path not in found or _WEIGHT[outcome.state] > _WEIGHT[found[path].state]:
                found[path] = outcome
    return found


def _changed_by(repository: Repository, commit: str) -> list[str]:
    parent = repository.commit_parts(commit)[1][0]
    changes = repository.differences(repository.tree_of(parent), repository.tree_of(commit))
    return [change.path for change in changes]


def totals(states: Mapping[str, FileOutcome]) -> dict[str, int]:
    """{"files": all, "changed": ..., "unchanged": ..., "skipped": ..., "failed": ...}; the four add up to the first."""
    counts = {"files": len(states), "changed": 0, "unchanged": 0, "skipped": 0, "failed": 0}
    for outcome in states.values():
        counts[outcome.state] += 1
    return counts


def write_report(where: str | Path, states: Mapping[str, FileOutcome]) -> None:
    """One JSON line a file: `{"path", "state", "why"}`. Raises BadInput when it cannot be written."""
    lines = [
        json.dumps({"path": path, "state": one.state, **({"why": one.why} if one.why else {})})
        for path, one in states.items()
    ]
    try:
        Path(where).write_text("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise BadInput(f"--report {where}: {error.strerror}") from None


# --- parts of a landing ----------------------------------------------------------------------------------------


@attrs.define
class Parts:
    """Cuts a result into several commits: `by` is `dir`, `owner` (CODEOWNERS) or `specialist`. Called with a path."""

    by: str
    owners: Sequence[tuple[str, str]] = ()
    specialists: Sequence[Specialist] = ()

    def __call__(self, path: str) -> str:
        if self.by == "dir":
            return path.split("/", 1)[0] if "/" in path else "."
        if self.by == "specialist":
            return by_path(path, self.specialists)
        found = [owner for pattern, owner in self.owners if claims.matches(pattern, path)]
        return (found[-1] if found else "") or "nobody"  # the last matching line counts


def parts(by: str, repository: Repository, specialists: Sequence[Specialist]) -> Parts:
    """Raises BadInput when `by` needs a CODEOWNERS file and there is none."""
    owners: list[tuple[str, str]] = []
    if by == "owner":
        places = [repository.work_tree / name for name in (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")]
        place = next((one for one in places if one.is_file()), None)
        if place is None:
            raise BadInput("--split-by owner: there is no CODEOWNERS file in the repository")
        owners = list(_owners(place.read_text("utf-8", "replace").splitlines()))
    return Parts(by, owners, specialists)


def _owners(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """(glob, owners) of the lines of a CODEOWNERS file; a line without an owner takes one away. As GitHub reads it: `docs/*` is what
    lies in the folder itself, every other pattern goes for all that is below what it matches."""
    for line in lines:
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        pattern = words[0]
        anchored = pattern.lstrip("/") if "/" in pattern.rstrip("/") else f"**/{pattern}"
        yield anchored, " ".join(words[1:])
        if not pattern.endswith("/*"):
            yield f"{anchored.rstrip('/')}/**", " ".join(words[1:])
