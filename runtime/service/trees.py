"""Which of a repository's work trees a run is of: it lands where it was handed over from, never on another's branch.

Knows repositories and submissions, no runs. All work trees share one journal, whose queue has one owner: so a repository is served
through one of them at a time, and what another left open in the journal is the other's.
"""

from __future__ import annotations

import msgspec

from ..errors import RepositoryRefused
from ..git import Repository
from ..submission import Submission


def refuse_another(served: Repository, asked: Repository) -> None:
    """A work tree is not answered for by another one of its repository. Raises RepositoryRefused."""
    if served.work_tree == asked.work_tree:
        return
    raise RepositoryRefused(
        f"{asked.work_tree}: its repository is served through another work tree, {served.work_tree}, and runs land there; "
        f"submit from there, or run it without the daemon (journeyman run), or take {served.work_tree} off the daemon's list first"
    )


def is_of(repository: Repository, submission: Submission) -> bool:
    """Whether a submission was made from this work tree, as far as that was noted."""
    return submission.tree in (None, repository.tree_name)


def taken_over(repository: Repository, run: str, submission: Submission) -> Submission:
    """The submission of a run that somebody wants to go on with from this work tree. One of a work tree that is gone does not land by
    itself: its branch is another. Raises RepositoryRefused when that work tree is still there."""
    if is_of(repository, submission):
        return submission
    if not submission.tree or (repository.common_dir / "worktrees" / submission.tree).is_dir():
        whose = f"the work tree that git calls {submission.tree}" if submission.tree else "the main work tree"
        raise RepositoryRefused(
            f"run {run} is of {whose}, and would land on another branch from here; go on with it there"
        )
    settings = msgspec.structs.replace(submission.settings, land=False)
    return msgspec.structs.replace(submission, tree=repository.tree_name, settings=settings)
