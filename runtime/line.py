"""The line: a run's result, one commit a task, on a ref of its own until it is landed.

Knows commits and whose task each is; not when a task is done. A changeset is applied only where the tip still has what the attempt
saw; a commit that is already there is found again, not made twice. The ref moves by compare-and-swap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from urllib.parse import quote, unquote

import attrs

from .checkout import branch_to_land_on
from .core.changes import Change, Changeset
from .errors import BadInput, RepositoryRefused
from .failpoints import hit
from .git import OURS, Entry, Repository
from .landing import Landing, onto, refuse_overwriting

REFS = OURS
_LONGEST = 150  # letters of a task's id in a ref
_RECENT = 1000  # commits of the branch that are searched for a landing
_TRAILER = re.compile(r"^Journeyman-(Run|Task|Attempt|Reverts|Part): (.*)$", re.MULTILINE)


@attrs.frozen
class Job:
    """One changeset on its way: whose, of which attempt, with which message."""

    task: str
    attempt: int
    changeset: Changeset
    message: str


@attrs.frozen
class Answer:
    """What came of a job: its commit (None when it changed nothing), or why it does not fit."""

    commit: str | None = None
    error: str = ""


@attrs.frozen
class Inverse:
    """What takes tasks' changes out again: the commit (None when there is nothing to take), or {path: who changed it since}."""

    tasks: tuple[str, ...]
    commit: str | None = None
    entangled: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def refusal(self) -> str:
        """Why it cannot be, with all of what is entangled."""
        told = "; ".join(f"{path} was changed after it by {who}" for path, who in self.entangled.items())
        return f"{', '.join(f'`{task}`' for task in self.tasks)} cannot be taken back: {told}"


@attrs.frozen
class Commit:
    """One commit of a line, with what its trailers say."""

    id: str
    task: str
    attempt: int
    reverts: tuple[str, ...]
    subject: str


def line_ref(run: str) -> str:
    """The ref of a run's line."""
    return f"{REFS}{run}/line"


def _entry(change: Change) -> Entry | None:
    """What a change leaves at its path."""
    return None if change.oid is None else (change.mode or 0, bytes.fromhex(change.oid))


def _told(text: str) -> dict[str, list[str]]:
    """{name: values} of our trailers: those of the message's last paragraph. What a goal says above it is only text."""
    told: dict[str, list[str]] = {}
    for name, value in _TRAILER.findall(text.rstrip("\n").rpartition("\n\n")[2]):
        told.setdefault(name, []).append(unquote(value))
    return told


def _in_a_ref(name: str) -> str:
    """A name as one part of a ref's: what git does not take there is escaped, and what is too long is cut and told apart."""
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else f"%{ord(char):X}" for char in name)
    return (
        safe
        if len(safe) <= _LONGEST
        else f"{safe[:_LONGEST]}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]}"
    )


def _one_line(value: str) -> str:
    """A trailer's value, in one line: `_told` gives it back as it was."""
    return "".join(quote(char, errors="replace") if char == "%" or not char.isprintable() else char for char in value)


def message(subject: str, run: str, **trailers: Iterable[str]) -> str:
    """A commit message: the subject on one line, what follows it as the body, and the trailers."""
    head, _, body = subject.strip().partition("\n")
    told = [f"Journeyman-Run: {run}"]
    told += [
        f"Journeyman-{name.capitalize()}: {_one_line(value)}" for name, values in trailers.items() for value in values
    ]
    return "\n\n".join(part for part in (head or "Change", body.strip(), "\n".join(told)) if part) + "\n"


def _count(counting: dict[str, Commit], commits: Iterable[Commit]) -> None:
    """Go on from what counts to what counts some commits later."""
    for commit in commits:
        for task in commit.reverts:
            counting.pop(task, None)
        if commit.task:
            counting[commit.task] = commit


def _that_count(commits: Iterable[Commit]) -> dict[str, Commit]:
    """{task: its commit} of the changes that are there at the end of a line's commits."""
    counting: dict[str, Commit] = {}
    _count(counting, commits)
    return counting


class Line:
    """The line of one run. `open` finds it as an earlier process left it."""

    def __init__(self, repository: Repository, run: str, base: str) -> None:
        """Make the line at `base`, or go on with the one that is there."""
        self.repository = repository
        self.run = run
        self.base = base
        self.ref = line_ref(run)
        repository.packs.run = run
        self._known: dict[str, tuple[Commit, str]] = {}  # {commit id: it, its first parent}; absent = not looked at yet
        self._by_task: dict[str, Commit] | None = None  # {task: its commit that counts}; None = not looked at yet
        tip = repository.ref(self.ref)
        if tip is None:
            hit("line.create.before")
            repository.move_ref(self.ref, base, None)
            hit("line.create.after")
            tip = base
        self.tip = tip

    @property
    def _counting(self) -> dict[str, Commit]:
        """{task: its commit that counts}; absent = not on the line. Looked up when first asked for: a step of undo needs none."""
        if self._by_task is None:
            self._by_task = _that_count(self.commits())
        return self._by_task

    def commits(self, tip: str = "") -> list[Commit]:
        """All commits of the line, oldest first; those up to `tip`, when it is given."""
        found = []
        at = tip or self.tip
        while at and at != self.base:
            commit, at = self._known.get(at) or self._look_up(at)
            found.append(commit)
        return found[::-1]

    def _look_up(self, commit: str) -> tuple[Commit, str]:
        _, parents, text = self.repository.commit_parts(commit)
        told = _told(text)
        subject = text.split("\n", 1)[0]
        attempt = int(told.get("Attempt", ["0"])[0])
        found = Commit(commit, told.get("Task", [""])[0], attempt, tuple(told.get("Reverts", ())), subject)
        self._known[commit] = found, parents[0] if parents else ""
        return self._known[commit]

    @property
    def tree(self) -> str:
        """The tree at the tip."""
        return self.repository.tree_of(self.tip)

    def commit_of(self, task: str) -> str | None:
        """The commit of a task, if it is on the line and was not taken back."""
        found = self._counting.get(task)
        return found.id if found is not None else None

    # --- onto the line -----------------------------------------------------------------------------------------

    def merge(self, jobs: Sequence[Job]) -> list[Answer]:
        """Put changesets on the line, one commit each, and move the ref once. Raises RepositoryRefused when it was moved."""
        tip, tree = self.tip, self.tree
        answers: list[Answer] = []
        made: list[Commit] = []
        for job in jobs:
            known = self._counting.get(job.task)
            if known is not None and known.attempt == job.attempt:
                answers.append(Answer(known.id))
                continue
            misfit = self._misfit(tree, job.changeset)
            if misfit:
                self.keep(job.task, job.attempt, job.changeset, misfit)
                answers.append(Answer(error=misfit))
                continue
            changed = self.repository.apply(tree, job.changeset.changes)
            if changed == tree:
                answers.append(Answer())
                continue
            tree = changed
            text = message(job.message, self.run, task=[job.task], attempt=[str(job.attempt)])
            tip = self.repository.commit(tree, [tip], text)
            answers.append(Answer(tip))
            made.append(Commit(tip, job.task, job.attempt, (), text.split("\n", 1)[0]))
        self._move(tip)
        _count(self._counting, made)
        return answers

    def _misfit(self, tree: str, changeset: Changeset) -> str:
        repository = self.repository
        base = repository.tree_of(changeset.base)
        for change in changeset.changes:
            now = repository.lookup(tree, change.path)
            if now != repository.lookup(base, change.path) and now != _entry(change):
                return f"{change.path} has changed on the line since the attempt began"
        blocked = repository.in_the_way(tree, changeset.changes)
        return f"{blocked} is in the way: a file and a folder of one name cannot both be on the line" if blocked else ""

    def add(self, changes: Iterable[Change], subject: str, **trailers: Iterable[str]) -> str | None:
        """One commit of the runtime's own on top (formatting, a rollback); None when it would change nothing."""
        tree = self.repository.apply(self.tree, changes)
        if tree == self.tree:
            return None
        tip = self.repository.commit(tree, [self.tip], message(subject, self.run, **trailers))
        self._move(tip)
        return tip

    def _move(self, tip: str) -> None:
        if tip != self.tip:
            hit("line.move.before")
            self.repository.move_ref(self.ref, tip, self.tip)
            hit("line.move.after")
            self.tip = tip

    # --- off the line ------------------------------------------------------------------------------------------

    def revert(self, tasks: Collection[str], why: str = "") -> Answer:
        """Take tasks' changes out again by their inverse, as one commit; refuses with what is entangled."""
        inverse = self.inverse(tasks, why)
        if inverse.entangled:
            return Answer(error=inverse.refusal)
        if inverse.commit is not None:
            self._move(inverse.commit)
            _count(self._counting, [Commit(inverse.commit, "", 0, inverse.tasks, "")])
        return Answer(inverse.commit)

    def inverse(self, tasks: Collection[str], why: str = "") -> Inverse:
        """The commit that takes tasks' changes out again, behind the tip but not yet on the line. Where others changed a file after
        them, the contents are merged; what cannot be is told by path."""
        repository = self.repository
        there = tuple(sorted(task for task in tasks if task in self._counting))
        commits = self.commits()
        own = {self._counting[task].id for task in there}
        tree = self.tree
        entangled: dict[str, str] = {}
        for commit in reversed([one for one in commits if one.id in own]):
            old, new = self._trees_of(commit.id)
            back = repository.differences(new, old)
            blocked = repository.in_the_way(tree, back)
            if blocked:
                entangled[blocked] = self._who_changed(blocked, commits, commit, own)
            elif all(repository.lookup(tree, one.path) == repository.lookup(new, one.path) for one in back):
                tree = repository.apply(tree, back)
            else:
                merged, conflicts = repository.merge_trees(new, tree, old)
                entangled |= {path: self._who_changed(path, commits, commit, own) for path in conflicts}
                tree = merged or tree
        if entangled or tree == self.tree:
            return Inverse(there, None, entangled)
        subject = f"Take back {', '.join(there)}" + (f"\n\n{why}" if why else "")
        return Inverse(there, repository.commit(tree, [self.tip], message(subject, self.run, reverts=there)))

    def _trees_of(self, commit: str) -> tuple[str, str]:
        """(its parent's tree, its own)."""
        parent = self.repository.commit_parts(commit)[1][0]
        return self.repository.tree_of(parent), self.repository.tree_of(commit)

    def _who_changed(self, path: str, commits: Sequence[Commit], since: Commit, but: Collection[str]) -> str:
        behind = commits[commits.index(since) + 1 :]
        found = [one for one in behind if one.id not in but and self._touches(one.id, path)]
        return (
            ", ".join(dict.fromkeys(f"`{one.task}`" if one.task else one.subject for one in found)) or "something else"
        )

    def _touches(self, commit: str, path: str) -> bool:
        old, new = self._trees_of(commit)
        return self.repository.lookup(old, path) != self.repository.lookup(new, path)

    # --- along the line ----------------------------------------------------------------------------------------

    def between(self, before: str, after: str) -> tuple[tuple[str, ...], dict[str, str]]:
        """What a step from one tip to another changes: (tasks whose changes are off, {task: commit} of those that are on again). Where
        one tip is behind the other and nothing was taken back between them, only what lies between is looked at."""
        down: dict[str, list[Commit]] = {before: [], after: []}  # {tip: the commits down from it, as far as looked at}
        at = {before: before, after: after}
        while True:
            met = at[before] == after or at[after] == before
            left = [tip for tip, commit in at.items() if commit not in ("", self.base)]
            if met or not left:
                break
            for tip in left:
                commit, at[tip] = self._known.get(at[tip]) or self._look_up(at[tip])
                down[tip].append(commit)
        longer = before if at[before] == after else after
        if met and not any(commit.reverts for commit in down[longer]):
            moved = {commit.task: commit.id for commit in reversed(down[longer]) if commit.task}
            return ((), moved) if longer == after else (tuple(moved), {})
        old, new = ({task: one.id for task, one in _that_count(self.commits(tip)).items()} for tip in (before, after))
        off = tuple(task for task in old if task not in new)
        return off, {task: commit for task, commit in new.items() if old.get(task) != commit}

    def keep_undone(self) -> None:
        """Before the tip is left: it stays reachable, from a ref of its own."""
        self._keep("undone", self.tip)

    def step(self, after: str) -> None:
        """Go to another checkpoint."""
        self._move(after)
        self._by_task = None

    def changes(self) -> tuple[Change, ...]:
        """What the line changes against its base."""
        return self.repository.differences(self.repository.tree_of(self.base), self.tree)

    def diff(self, *, color: bool = False, stat: bool = False) -> bytes:
        """The whole result as a unified diff."""
        return self.repository.diff_text(self.base, self.tip, color=color, stat=stat)

    def checkpoint(self, name: str) -> str:
        """Keep the tip under a ref of its own; returns the ref. Raises BadInput for a name that is taken or cannot be."""
        ref = f"{REFS}{self.run}/checkpoints/{name}"
        if not self.repository.is_ref_name(ref):
            raise BadInput(f"checkpoint {name!r}: git takes no such name")
        before = self.repository.ref(ref)
        if before is None:
            for other in self.checkpoints():
                if f"{other}/".startswith(f"{name}/") or f"{name}/".startswith(f"{other}/"):
                    raise BadInput(f"checkpoint {name!r}: {other!r} is there, and git keeps no name inside another")
            hit("line.checkpoint.before")
            self.repository.move_ref(ref, self.tip, None)
            hit("line.checkpoint.after")
        elif before != self.tip:
            raise BadInput(f"checkpoint {name!r} is there already, at {before}; choose another name")
        return ref

    def keep(self, task: str, attempt: int, changeset: Changeset, why: str) -> str | None:
        """Keep what an attempt did that is not on the line, as a commit on its base under a ref of its own; returns the ref, or
        None when it changed nothing. `refs/journeyman/RUN/attempts/TASK/ATTEMPT`, the task's id in letters that a ref may have."""
        if not changeset.changes:
            return None
        tree = self.repository.apply(self.repository.tree_of(changeset.base), changeset.changes)
        text = message(f"Attempt {attempt} of {task}\n\n{why}", self.run, task=[task], attempt=[str(attempt)])
        ref = f"{REFS}{self.run}/attempts/{_in_a_ref(task)}/{attempt}"
        self.repository.move_ref(ref, self.repository.commit(tree, [changeset.base], text), self.repository.ref(ref))
        return ref

    def checkpoints(self) -> dict[str, str]:
        """{name: commit} of those that were made on demand."""
        prefix = f"{REFS}{self.run}/checkpoints/"
        return {ref.removeprefix(prefix): commit for ref, commit in self.repository.refs(prefix).items()}

    # --- landing -----------------------------------------------------------------------------------------------

    def landing(
        self,
        subject: str,
        *,
        keep_commits: bool = False,
        parts: Callable[[str], str] | None = None,
    ) -> Landing:
        """How the result comes onto the branch that is checked out; nothing but objects is written yet.

        One squashed commit; with `keep_commits` the line's own; with `parts` one for each value of `parts(path)`. Raises
        RepositoryRefused when HEAD is detached, something is under way, the branch moved in a way that conflicts, or
        uncommitted work would be overwritten.
        """
        repository = self.repository
        if self.tip == self.base:
            raise RepositoryRefused(f"run {self.run} changed nothing; there is nothing to land")
        branch, head = branch_to_land_on(repository)
        new = onto(repository, head, repository.tree_of(self.base), self.tree, self.run)
        changes = repository.differences(repository.tree_of(head), new)
        if not changes:
            landed = self._landed_in(head)
            if landed:
                return Landing(repository, self.run, branch, head, landed)
            raise RepositoryRefused(f"{branch} already has everything that run {self.run} changed")
        refuse_overwriting(repository, changes)
        commits = self._landing_commits(head, new, changes, subject, keep_commits, parts)
        repository.flush()
        return Landing(repository, self.run, branch, head, tuple(commits))

    def _landed_in(self, head: str) -> tuple[str, ...]:
        """The commits of a landing that was made and then not recorded, because we died in between."""
        found = []
        recent = ("rev-list", "--first-parent", "--reverse", f"--max-count={_RECENT}", head, f"^{self.base}")
        for commit in self.repository.run(*recent).decode().split():
            if self.run in _told(self.repository.commit_parts(commit)[2]).get("Run", ()):
                found.append(commit)
        return tuple(found)

    def bringing(self, old: str, new: str, subject: str) -> Landing | None:
        """How the change from tree `old` to tree `new` comes onto the branch that is checked out, as one commit; None when the branch
        has it already. Raises RepositoryRefused as `landing` does."""
        found = self.brought(old, new)
        if found is None:
            return None
        branch, head, tree = found
        commit = self.repository.commit(tree, [head], message(subject, self.run))
        self.repository.flush()
        return Landing(self.repository, self.run, branch, head, (commit,))

    def brought(self, old: str, new: str) -> tuple[str, str, str] | None:
        """(branch, its commit, the tree it would get) of `bringing`; writes nothing."""
        repository = self.repository
        branch, head = branch_to_land_on(repository)
        tree = onto(repository, head, old, new, self.run)
        changes = repository.differences(repository.tree_of(head), tree)
        refuse_overwriting(repository, changes)
        return (branch, head, tree) if changes else None

    def _keep(self, what: str, commit: str) -> None:
        ref = f"{REFS}{self.run}/{what}/{commit}"
        if self.repository.ref(ref) is None:
            hit("line.keep.before")
            self.repository.move_ref(ref, commit, None)
            hit("line.keep.after")

    def _landing_commits(
        self,
        head: str,
        new: str,
        changes: Sequence[Change],
        subject: str,
        keep_commits: bool,
        parts: Callable[[str], str] | None,
    ) -> list[str]:
        repository = self.repository
        if keep_commits and head == self.base:
            return [commit.id for commit in self.commits()]
        if keep_commits:
            return self._replay(head, new)
        if parts is None:
            return [repository.commit(new, [head], message(subject, self.run))]
        groups: dict[str, list[Change]] = {}
        for change, place in zip(changes, _places(changes), strict=True):
            groups.setdefault(parts(place), []).append(change)
        commits = []
        tip, tree = head, repository.tree_of(head)
        for name in sorted(groups):
            tree = repository.apply(tree, groups[name])
            first, _, rest = subject.partition("\n")
            tip = repository.commit(tree, [tip], message(f"{first} ({name})\n{rest}", self.run, part=[name]))
            commits.append(tip)
        return commits

    def _replay(self, head: str, new: str) -> list[str]:
        """The line's commits once more, on a branch that has moved."""
        repository = self.repository
        tip, tree = head, repository.tree_of(head)
        made = []
        for commit in self.commits():
            parent = repository.commit_parts(commit.id)[1][0]
            merged, conflicts = repository.merge_trees(repository.tree_of(parent), tree, repository.tree_of(commit.id))
            if merged is None:
                raise RepositoryRefused(
                    f"`{commit.task}` does not fit the moved branch by itself ({', '.join(conflicts)}); "
                    "land it squashed, without --keep-commits"
                )
            tree = merged
            tip = repository.commit(tree, [tip], repository.commit_parts(commit.id)[2])
            made.append(tip)
        if tree != new:
            raise RepositoryRefused("the commits do not add up to the squashed result; land without --keep-commits")
        return made


def _places(changes: Sequence[Change]) -> Iterator[str]:
    """For each change the path that says which part it belongs to: its own, but where a file becomes a folder, or a folder a file,
    all of it goes by the file's path, because neither half is a tree by itself."""
    paths = {change.path for change in changes}
    for change in changes:
        folder = change.path
        while folder and (folder := folder.rpartition("/")[0]) not in paths:
            pass
        yield folder or change.path


def runs_with_refs(repository: Repository) -> dict[str, list[str]]:
    """{run: its refs} of everything under `refs/journeyman/`."""
    found: dict[str, list[str]] = {}
    for ref in repository.refs(REFS):
        found.setdefault(ref.removeprefix(REFS).split("/", 1)[0], []).append(ref)
    return found
