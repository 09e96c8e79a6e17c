"""One change of the branch that is checked out: prepared, recorded by whoever asked for it, then performed.

Knows a branch and the commits it is to get; not whose result they are, nor how files are written (`checkout`). A landing that was
recorded and then cut off by a kill is performed again: what it had done already is found done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from .checkout import Checkout, branch_to_land_on, let_go
from .core.changes import Change
from .core.events import Event, Landed, LandingBegun, LandingKind
from .errors import RepositoryRefused
from .failpoints import hit
from .git import Repository


@attrs.frozen
class Landing:
    """`branch` (a full ref name) goes from commit `head` to the last of `commits`. Nothing is touched until `perform`."""

    repository: Repository
    run: str
    branch: str
    head: str
    commits: tuple[str, ...]

    def perform(self, *, again: bool = False) -> None:
        """Bring index, files and branch to the new commit, if they are not there; `again`: after a process that died doing it. Raises
        RepositoryRefused, with nothing changed, when another git is at work, the branch has moved, something uncommitted would be
        overwritten, or there is no room."""
        repository = self.repository
        if repository.is_ancestor(self.commits[-1], self.branch):
            let_go(repository)
            return
        old, new = repository.tree_of(self.head), repository.tree_of(self.commits[-1])
        changes = repository.differences(old, new)
        with Checkout.locked(repository) as checkout:
            if branch_to_land_on(repository) != (self.branch, self.head):
                raise RepositoryRefused(f"{self.branch} has moved meanwhile; try again")
            done = checkout.refuse_overwriting(changes)
            hit("land.files.before")
            checkout.switch(old, new, changes, done)
            hit("land.files.after")
            hit("land.move.before")
            repository.move_ref(self.branch, self.commits[-1], self.head, f"journeyman: land {self.run}", again=again)
            hit("land.move.after")

    def finish(self) -> bool:
        """After a `perform` that may not have returned: bring it to its end; False when the branch has gone elsewhere since. Raises
        RepositoryRefused when what it has to write was edited since."""
        repository = self.repository
        if not repository.is_ancestor(self.commits[-1], self.branch) and repository.ref(self.branch) != self.head:
            return False
        self.perform(again=True)
        return True


async def land(landing: Landing, what: LandingKind, tip: str, record: Callable[[Event], Awaitable[None]]) -> None:
    """Record a landing of the line's `tip`, durably, perform it, and record that it is done. Raises RepositoryRefused with nothing
    changed."""
    await record(LandingBegun(landing.branch, landing.head, landing.commits, what, tip))
    try:
        await trio.to_thread.run_sync(landing.perform)
    except RepositoryRefused:
        await record(LandingBegun(landing.branch, landing.head, ()))
        raise
    await record(Landed(landing.commits, landing.branch, what, tip))


def onto(repository: Repository, head: str, old: str, new: str, run: str) -> str:
    """The tree of commit `head` with the change from tree `old` to tree `new` made in it. Raises RepositoryRefused with the paths that
    conflict."""
    tree = repository.tree_of(head)
    if tree == old:
        return new
    merged, conflicts = repository.merge_trees(old, tree, new)
    if merged is None:
        raise RepositoryRefused(
            f"the branch has moved since run {run} began, and these paths conflict: {', '.join(conflicts)}"
        )
    return merged


def refuse_overwriting(repository: Repository, changes: Sequence[Change]) -> None:
    """Raises RepositoryRefused when the changes would overwrite uncommitted work."""
    with Checkout.locked(repository) as checkout:
        checkout.refuse_overwriting(changes)
