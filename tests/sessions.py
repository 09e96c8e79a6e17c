"""Everything a person does with a run, one verb after another, each of which may be killed and done again.

`PHASES` are the verbs with the words that say that there is nothing left to do; `Session` does them on a stage and judges after each.
A snapshot from before each phase is kept, so that a fault in a late verb does not need the early ones again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
from nothing_lost import Checkout, git, integrity, leftovers
from scene import Scene, Stage
from zygote import ROOT, Started

from runtime.failpoints import VARIABLE
from runtime.journal import Reader

MOST_TRIES: Final = 12


@attrs.frozen
class Phase:
    """One verb. `line`, `branch`: whose tree the line and the branch have after it, the result's or the base's; None = no line."""

    name: str
    words: tuple[str, ...]
    line: str | None = "result"
    branch: str = "base"
    over: str = ""  # the words of a refusal that means that it was done already


PHASES: Final = (
    Phase("run", ()),
    Phase("checkpoint", ("checkpoint", "r1", "--name", "mine")),
    Phase("undo", ("undo", "r1", "--all"), "base", over="nothing to undo"),
    Phase("redo", ("redo", "r1", "--all"), over="nothing to redo"),
    Phase("take back", ("undo", "r1", "t1"), "without t1", over="no change on the line"),
    Phase("redo that", ("redo", "r1", "--all"), over="nothing to redo"),
    Phase("land", ("land", "r1"), branch="result", over="has landed already"),
    Phase("take off", ("undo", "r1", "--all"), "base", over="nothing to undo"),
    Phase("land again", ("redo", "r1", "--all"), branch="result", over="nothing to redo"),
    Phase("gc", ("gc", "--all"), None, branch="result"),
)


@attrs.define
class Session:
    """A stage on its way through the phases."""

    stage: Stage
    trees: Mapping[str, str]  # {"result" and so on: tree}

    def start(self, phase: Phase, failpoint: str = "") -> Started:
        """Start a phase's verb, or start it again."""
        more = {VARIABLE: failpoint} if failpoint else {}
        if phase.name == "run":
            started = self.stage.start(**more)
            started.wait(60)
            return started
        return self.stage.command(*phase.words, **more)

    def bring_to_end(self, phase: Phase) -> None:
        """Do the verb again until there is nothing left of it to do."""
        for _ in range(MOST_TRIES):
            ended = self.start(phase)
            if ended.code == 0 and not phase.over:
                return
            if phase.over and ended.code in (2, 6) and phase.over in ended.said:
                return
            assert ended.code == 0, f"{self.stage.folder}: {phase.name}: exit {ended.code}: {ended.said}"
        raise AssertionError(f"{self.stage.folder}: {phase.name} does not come to an end")

    def judge(self, phase: Phase) -> None:
        """Nothing lost by it."""
        repo = self.stage.repo
        wrong = [*leftovers(repo, self.stage.folder / "cache"), *integrity(repo)]
        refs = git(repo, "for-each-ref", "--format=%(refname)", "refs/journeyman")
        if phase.line is None:
            wrong += [f"refs are left: {refs}"] if refs else []
        else:
            wrong += self._unlike("the line", f"refs/journeyman/{self.stage.run_name()}/line", phase.line)
        wrong += self._unlike("the branch", "main", phase.branch)
        if phase.branch == "base" and git(repo, "rev-parse", "main") == self.stage.before.held["ref refs/heads/main"]:
            wrong += [f"the checkout changed: {name}" for name in self.stage.before.differences(Checkout.of(repo))]
        status = git(repo, "status", "--porcelain")
        if status.split("\n") != ["M folder/kept.txt", "?? mine.txt"] and status.split("\n") != [
            " M folder/kept.txt",
            "?? mine.txt",
        ]:
            wrong.append(f"the work tree: {status!r}")
        if (repo / "folder/kept.txt").read_text() != "the user is at this\n":
            wrong.append("the user's work is overwritten")
        assert not wrong, f"{self.stage.folder}, after {phase.name}: " + "; ".join(wrong)

    def _unlike(self, what: str, name: str, wanted: str) -> list[str]:
        now = git(self.stage.repo, "rev-parse", f"{name}^{{tree}}")
        return [] if now == self.trees[wanted] else [f"{what} has tree {now}, not that of {wanted}"]


@attrs.define
class Course:
    """All phases once, undisturbed: snapshots from before each, and which failpoints each reaches."""

    scene: Scene
    trees: dict[str, str]
    snapshots: dict[str, Path]  # {phase: a folder with the repository before it}
    reached: dict[str, list[str]]  # {phase: points in the order in which they were reached, each time}
    _count: int = 0

    @classmethod
    def run(cls, scene: Scene) -> Course:
        """Take the course."""
        stage = scene.stage()
        trees = {"result": scene.tree, "base": git(stage.repo, "rev-parse", "HEAD^{tree}")}
        course = cls(scene, trees, {}, {})
        session = Session(stage, trees)
        for phase in PHASES:
            if "\n\n" in git(stage.repo, "worktree", "list", "--porcelain"):
                assert stage.command("gc").code == 0  # no worktrees in a snapshot: they are not where it is copied to
            course._keep(phase, stage)
            log = stage.folder / f"points {phase.name}"
            ended = session.start(phase, f"@{log}")
            assert ended.code == 0, f"{phase.name}: {ended.said}"
            course.reached[phase.name] = log.read_text().split() if log.exists() else []
            if phase.line is not None and phase.line not in trees:
                trees[phase.line] = git(stage.repo, "rev-parse", "refs/journeyman/r1/line^{tree}")
            session.judge(phase)
        return course

    def _keep(self, phase: Phase, stage: Stage) -> None:
        place = self.scene.folder / f"before {phase.name}"
        shutil.copytree(stage.repo, place, symlinks=True)
        self.snapshots[phase.name] = place

    def session(self, phase: Phase) -> Session:
        """A fresh session that stands before a phase."""
        return Session(self.scene.stage(self.snapshots[phase.name]), self.trees)

    def points(self) -> dict[str, list[Phase]]:
        """{point: the phases that reach it}."""
        found: dict[str, list[Phase]] = {}
        for phase in PHASES:
            for point in dict.fromkeys(self.reached[phase.name]):
                found.setdefault(point, []).append(phase)
        return found


def die_at(course: Course, phase: Phase, points: Sequence[str]) -> int:
    """Do a phase's verb, dying at the first point, then again, dying at the second, and so on; bring it to its end and judge. How often it
    died: a later point may not be reached in what is left to do."""
    session = course.session(phase)
    deaths = 0
    for point in points:
        ended = session.start(phase, point)
        if ended.code == -9:
            deaths += 1
        else:
            over = phase.over and phase.over in ended.said
            assert ended.code == 0 or over, f"{session.stage.folder}: {phase.name}: exit {ended.code}: {ended.said}"
    session.bring_to_end(phase)
    session.judge(phase)
    session.stage.strike()
    return deaths


DAEMON: Final = tuple(f"journal.{what}.{when}" for what in ("again", "close") for when in ("before", "after"))
"""Points that only the end of a run which a daemon took in and never began passes."""

_END: Final = """
import sys, trio
from pathlib import Path
from runtime.journal import Journal
async def main():
    journal = Journal(Path(sys.argv[1]))
    if not journal.runs():
        journal.begin("queued")
    journal.end("r1", "cancelled")
    journal.close()
trio.run(main)
"""


def die_ending(folder: Path, point: str) -> None:
    """End a run that was never begun, dying at a point of `DAEMON`; then end it again, and it is ended."""
    folder.mkdir()
    words = [sys.executable, "-c", _END, str(folder / "j.db")]
    for more, code in ((point, -9), ("", 0)):
        ended = subprocess.run(words, cwd=ROOT, env={**os.environ, VARIABLE: more}, check=False)
        assert ended.returncode == code, f"{point}: exit {ended.returncode}"
    reader = Reader(folder / "j.db")
    assert [(row.name, row.state) for row in reader.runs()] == [("r1", "cancelled")]
    assert reader.integrity() == []
    reader.close()
