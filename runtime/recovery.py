"""What a process of ours that died left half done in a repository, and is provably ours: taken away before work goes on.

Only for the holder of the journal's lock: nobody else of ours works in the repository then. What might be the user's is not touched.
"""

from __future__ import annotations

from .git import Repository
from .worktrees import let_go


def tidy(repository: Repository) -> None:
    """Remove lock files of our own refs, half-written packs, and the hold of dead processes on worktrees."""
    repository.remove_left_locks()
    repository.packs.clean()
    let_go(repository)
