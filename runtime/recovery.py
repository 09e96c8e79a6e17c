"""What a process of ours that died left half done in a repository, and is provably ours: taken away or brought to its end before work
goes on.

Only for the holder of the journal's lock: nobody else of ours works in the repository then. What might be the user's is not touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from .checkout import sweep
from .core.events import Event, Landed
from .core.undo import Undo
from .git import Repository
from .journal import Reader
from .landing import Landing
from .line import Line
from .report import OVER
from .worktrees import let_go


def tidy(repository: Repository, journal: Reader | None) -> None:
    """Remove lock files of our own refs, half-written packs, marks of an index's lock, and the hold of dead processes on worktrees;
    and give git the packs of runs that are over in the `journal`, where a process died between the record of that and doing it."""
    repository.remove_left_locks()
    repository.packs.clean()
    if journal is not None:
        for run in repository.packs.kept():
            row = journal.row(run)
            if row is not None and row.state in OVER:
                repository.packs.release(run)
    sweep(repository)
    let_go(repository)


def settle(line: Line, undo: Undo) -> Iterator[Event]:
    """Perform what was recorded and may not have been performed: a step of the line, a landing; the events that follow from it.
    Raises RepositoryRefused when a landing cannot be brought to its end because its files were edited since."""
    step = undo.stepped
    if step is not None and line.tip == step.before:
        line.step(step.after)
    begun = undo.landing
    if begun is not None:
        landing = Landing(line.repository, line.run, begun.branch, begun.head, begun.commits)
        if landing.finish():
            yield Landed(begun.commits, begun.branch, begun.what, begun.tip)
