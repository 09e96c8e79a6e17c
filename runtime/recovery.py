"""What a process of ours that died left half done in a repository, and is provably ours: taken away before work goes on.

Only for the holder of the journal's lock: nobody else of ours works in the repository then. What might be the user's is not touched.
"""

from __future__ import annotations

from .git import Repository
from .worktrees import let_go


def tidy(repository: Repository) -> None:
    """Remove lock files of our own refs, temporary objects of dead processes, and their hold on worktrees."""
    ours = repository.common_dir / "refs" / "journeyman"
    for left in (*ours.rglob("*.lock"), *repository.store.leftovers()):
        left.unlink(missing_ok=True)
    let_go(repository)
